//! Puts the running edge together: node, link, doors, terminals, console, in that order, and takes it down again.

//! The edge's configuration: built-in values, a file, the environment, in that order.

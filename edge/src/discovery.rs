//! How boxes and terminals of a campus find each other: mDNS. Discovery is never trust.

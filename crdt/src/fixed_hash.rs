//! A hash map for what is looked up far more often than it is walked: the index of a hundred thousand people.
//!
//! The seed is fixed, so that the same history gives the same map on every machine. Whoever can choose keys could make
//! them collide and look-ups slow; the keys here are person numbers, which come from signed documents.

/// Unsorted: what depends on an order belongs into a sorted map.
pub(crate) type FixedHashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

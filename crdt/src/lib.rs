//! The pure core that hub and edges run: what is replicated, how it merges, who may spend what.
//!
//! Never here: a runtime, a socket, a database, a clock, randomness, X.509. Time, keys and ids come in as arguments;
//! storage is the narrow trait in `store`.

pub mod access;
pub mod answered;
pub mod channel;
pub mod civil;
pub mod clock;
pub mod docs;
pub mod documents;
pub mod edge;
pub mod entry;
pub mod feed;
pub mod fen;
mod fixed_hash;
pub mod gate;
pub mod ids;
pub mod keys;
pub mod mesh;
pub mod people;
pub mod person;
pub mod proof;
pub mod reason;
pub mod registry;
pub mod resend;
pub mod rights;
pub mod sale;
pub mod shift;
pub mod snapshot;
pub mod sold;
pub mod store;
pub mod sync;
pub mod takeback;
pub mod tally;
pub mod tariff;
pub mod wire;

pub use fen::Fen;

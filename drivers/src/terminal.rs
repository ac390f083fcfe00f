//! The published terminal interface (HTTP/JSON), as both sides speak it: messages, signatures, lists, a client.
//!
//! A terminal signs every request with its own key ([`sign`]) and the edge signs every answer with the same key, so
//! that neither can be imitated on the canteen's network. Amounts are integer fen; times are milliseconds since 1970
//! (UTC). Vectors for other makers' devices: `terminal/vectors.json`, checked by the tests of this module.
//!
//! Leaves to others: decisions and durability (the edge), where keys come from (the hub seals them to the edges).

pub mod client;
pub mod list;
pub mod message;
pub mod sign;
pub mod simulator;
pub mod till;
pub mod vectors;

#[cfg(test)]
mod tests;

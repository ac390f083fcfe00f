//! Hardware protocols, one module per family: a pure codec, a thin loop, and a simulator beside it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`card_format`] | Wiegand bits and printed card numbers, pure |
//! | [`door`] | what an edge may ask of any door hardware and what it hears back |
//! | [`modbus`] | relay boards over Modbus TCP, RTU and RTU over TCP, with a simulated board |
//!
//! Leaves to others: whether a door may open (the core decides), what is journaled (the edge), and the
//! wall clock. A driver reports what the device said and when, and never guesses.

pub mod card_format;
pub mod door;
pub mod modbus;

//! Door relay boards over Modbus TCP, Modbus RTU and RTU over TCP.
//!
//! | module | holds |
//! | --- | --- |
//! | [`profile`] | what a board is: addresses, polarity, pulse method, timings; read from configuration |
//! | [`frame`] | bytes <-> PDU for both framings, pure |
//! | [`bus`] | the loop: one task per line, one request in flight, doors steered by the rules |
//! | [`simulator`] | a board to test against, honest or misbehaving |
//!
//! The door rules (`spec/devices.md` section 6.3): pulses are timed by the board where it can; after every
//! connect the outputs are read and put to rest before anything else; an opening is reported only when the
//! contact says so; a missed poll is `Unknown`; a pulse is repeated only after the output was read and
//! found at rest. Modbus has no authentication: keep the boards on a network of their own.
//!
//! Leaves to others: who may pass, and the exit button's right to open (the edge answers the event).

pub mod bus;
pub mod frame;
mod line;
pub mod profile;
pub mod simulator;

pub use bus::spawn;
pub use profile::{BoardProfile, BusConfig, DoorWiring, PulseMethod, Transport};

/// Meaning of a Modbus exception code, in words.
pub fn exception_meaning(code: u8) -> &'static str {
    match code {
        1 => "illegal function",
        2 => "illegal address",
        3 => "illegal value",
        4 => "device failure",
        5 => "accepted, still working",
        6 => "busy",
        8 => "memory parity error",
        10 => "gateway path unavailable",
        11 => "gateway target does not answer",
        _ => "unknown exception",
    }
}

//! Every decoder of Yika under inputs that nobody wrote: bytes of the network, of files, of people.
//!
//! A target is a function of bytes that decodes them and asserts what must hold: no panic, bounded memory, and what was
//! decoded is encoded to something that decodes to the same. `yika-fuzz` alters the inputs of the corpus at random for as
//! long as it is told and adds what fails; the tests replay the corpus and are the same every time.
#![allow(clippy::panic)] // a target that panics has found something

pub mod corpus;
pub mod dice;
pub mod draw;
pub mod hunt;
pub mod mutate;
pub mod shrink;
pub mod target;
pub mod targets;

//! The edge: owns a campus' terminals and doors, decides from its own state, journals, syncs.
//!
//! SQL stands only in `yika-store`, QUIC only in `link`.

pub mod app;
pub mod config;
pub mod console;
pub mod discovery;
pub mod doctor;
pub mod doors;
pub mod files;
pub mod identity;
pub mod link;
pub mod machine;
pub mod node;
pub mod status;
pub mod terminals;
pub mod ticks;

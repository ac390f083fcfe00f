//! The edge: owns a campus' terminals and doors, decides from its own state, journals, syncs.
//!
//! SQL stands only in `yika-store`, QUIC only in `link`.

pub mod app;
pub mod asking;
pub mod at_rest;
pub mod certificate;
pub mod cli;
pub mod config;
pub mod console;
pub mod control;
pub mod discovery;
pub mod disk;
pub mod doctor;
pub mod doors;
pub mod ended;
pub mod exit;
pub mod identity;
pub mod link;
pub mod logging;
pub mod machine;
pub mod metrics;
pub mod mirror;
pub mod node;
pub mod periphery;
mod processes;
pub mod snapshot;
pub mod status;
pub mod terminals;
pub mod ticks;
pub mod vitals;
pub mod voice;

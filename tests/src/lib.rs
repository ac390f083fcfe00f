//! Yika's proof infrastructure: what end-to-end tests, the demo and load generation stand on.
//! The power-cut layer for SQLite is the crate `yika-powercut`, the only one here with unsafe code.

pub mod books;
mod columns;
pub mod crowd;
pub mod demo;
pub mod http;
pub mod later;
#[cfg(target_os = "linux")]
pub mod netns;
pub mod process;
pub mod relay;
pub mod site;
pub mod skip;
pub mod small_disk;
pub mod soak;
pub mod till;
pub mod world;

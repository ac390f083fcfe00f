//! Headquarters: people, cards, ledger, rights, enrolment, console.
//!
//! The pure machine is a crate of its own (`hub/core`); `import` and `access` are pure, too: they know no socket and no
//! database. SQL stands only in `store`, QUIC only in `link`.

pub mod access;
pub mod app;
pub mod backup;
pub mod clock;
pub mod config;
pub mod console;
pub mod control;
pub mod desk;
pub mod findings;
pub mod identity;
pub mod import;
pub mod link;
pub mod lock;
pub mod machine;
pub mod metrics;
pub mod node;
pub mod opening;
pub mod provision;
pub mod refusal;
pub mod snapshot;
pub mod store;
pub mod vault;

pub use yika_hub_core as core;
pub use yika_hub_core::{ledger, rights};

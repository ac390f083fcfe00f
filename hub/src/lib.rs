//! Headquarters: people, cards, ledger, rights, enrolment, console.
//!
//! Pure parts (`core`, `rights`, `ledger`, `import`) know no socket and no database; SQL stands only in `store`, QUIC only
//! in `link`.

pub mod access;
pub mod app;
pub mod backup;
pub mod clock;
pub mod config;
pub mod console;
pub mod control;
pub mod core;
pub mod desk;
pub mod findings;
pub mod identity;
pub mod import;
pub mod ledger;
pub mod link;
pub mod lock;
pub mod machine;
pub mod metrics;
pub mod node;
pub mod provision;
pub mod refusal;
pub mod rights;
pub mod snapshot;
pub mod store;
pub mod vault;

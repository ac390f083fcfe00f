//! Headquarters: people, cards, ledger, rights, enrolment, console.
//!
//! Pure parts (`core`, `rights`, `ledger`, `import`) know no socket and no database; SQL stands only in `store`, QUIC only
//! in `link`.

pub mod core;
pub mod import;
pub mod ledger;
pub mod rights;

//! The hub's own tables: the only place in headquarters that contains SQL (invariant 2).
//!
//! `write` adds rows in the transaction of a turn, `read` answers pages and commands. Leaves to others: feeds and state
//! rows (`yika-store`), what rows mean (`core`, `ledger`).

pub mod acts;
pub mod outbox;
pub mod people;
pub mod read;
pub mod rows;
pub mod statement;
pub mod totals;
pub mod transactions;
mod words;
pub mod write;

pub use rows::{AuditRow, BackupRow, OperatorRow, ProfileRow, TableRow, TerminalKeyRow, VoucherRow};

use yika_store::{Migration, Options};

/// The hub's schema steps.
pub const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, sql: include_str!("sql/0001_books.sql") },
    Migration { number: 2, sql: include_str!("sql/0002_pages.sql") },
    Migration { number: 3, sql: include_str!("sql/0003_backups.sql") },
    Migration { number: 4, sql: include_str!("sql/0004_log.sql") },
    Migration { number: 5, sql: include_str!("sql/0005_price.sql") },
    Migration { number: 6, sql: include_str!("sql/0006_people_words.sql") },
    Migration { number: 7, sql: include_str!("sql/0007_vouchers.sql") },
    Migration { number: 8, sql: include_str!("sql/0008_asked.sql") },
];

/// How the hub opens its database.
pub fn options() -> Options {
    Options { product_name: "hub", product_migrations: MIGRATIONS, ..Options::default() }
}

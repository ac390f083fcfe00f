//! A record of the log: everything that one turn wrote, so that writing it again gives the very same database.
//!
//! Effects and not commands: what a command would do again depends on what the hub knew at that moment and on the
//! program's version; entries of the hub's own feeds must come back byte for byte. Leaves to others: files (`segment`).

use crate::core;
use crate::ledger::Kind;
use crate::store::TableRow;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use yika_crdt::feed::Hash;
use yika_crdt::store::Batch;
use yika_crdt::wire;

/// Longest record; a turn writes a few megabytes at most.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// Everything that one turn wrote.
#[derive(Debug, Deserialize)]
pub struct Record {
    /// Counted from 1 without gaps.
    pub turn: u64,
    /// Hash of the record before it.
    pub previous: Hash,
    /// When its rows were written, hub time.
    pub at_ms: i64,
    /// Feeds and state.
    pub batch: Batch,
    /// The hub's own tables.
    pub rows: Vec<TableRow>,
}

/// The same, borrowed from the turn.
#[derive(Serialize)]
struct Written<'t> {
    turn: u64,
    previous: Hash,
    at_ms: i64,
    batch: &'t Batch,
    rows: &'t [TableRow],
}

/// The bytes of a turn's record.
pub fn encode(turn: u64, previous: Hash, at_ms: i64, batch: &Batch, rows: &[TableRow]) -> Vec<u8> {
    wire::encode(&Written { turn, previous, at_ms, batch, rows })
}

/// What records hold, counted for whoever reads the report of a restore.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// Counts what is in a record.
    pub fn add(&mut self, record: &Record) {
        let entries = record.batch.appended.values().map(|a| a.entries.len() as u64).sum();
        self.count("entries of feeds", entries);
        for row in &record.rows {
            self.count(word(row), 1);
        }
    }

    fn count(&mut self, what: &str, more: u64) {
        if more > 0 && !what.is_empty() {
            *self.0.entry(what.to_owned()).or_default() += more;
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<String> = self.0.iter().map(|(what, count)| format!("{count} {what}")).collect();
        write!(f, "{}", words.join(", "))
    }
}

/// What a row is to an operator; nothing for what follows from others.
fn word(row: &TableRow) -> &'static str {
    match row {
        TableRow::Core(core::TableRow::Transfer(transfer)) => match transfer.kind {
            Kind::TopUp => "top-ups",
            Kind::Withdrawal => "withdrawals and top-ups undone",
            _ => "",
        },
        TableRow::Core(core::TableRow::Sale { .. }) => "sales",
        TableRow::Core(core::TableRow::Refund { .. }) => "refunds",
        TableRow::Profile(_) => "people entered or changed",
        TableRow::Operator(_) => "operators entered or changed",
        TableRow::TerminalKey(_) => "terminal keys",
        TableRow::Audit(_) => "lines of the audit",
        _ => "",
    }
}

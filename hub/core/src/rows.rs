//! What a turn writes into the hub's own tables: sales, refusals, refunds, doors, acts and alarms as reports and pages see them.
//!
//! Leaves to others: the tables (`store`).

use super::PriceDoubt;
use crate::ledger::Transfer;
use serde::{Deserialize, Serialize};
use yika_crdt::channel::FeedId;
use yika_crdt::entry::*;
use yika_crdt::ids::Seq;

/// A row for the hub's own tables, written in the same transaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TableRow {
    /// A movement of money.
    Transfer(Transfer),
    /// A sale as reports and pages see it.
    Sale {
        /// Which journal it stands in.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// When it was written there.
        at_ms: i64,
        /// When the hub stored it.
        received_ms: i64,
        /// The sale.
        record: Box<PurchaseRecord>,
        /// Why its price is in doubt.
        doubt: Option<PriceDoubt>,
    },
    /// A refusal.
    Refusal {
        /// Which journal.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// When.
        at_ms: i64,
        /// What.
        record: RefusedRecord,
    },
    /// Money given back.
    Refund {
        /// Which journal; of the hub itself for reversals of duplicates.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// When.
        at_ms: i64,
        /// What.
        record: Box<RefundRecord>,
    },
    /// Something at a door.
    Door {
        /// Which journal.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// When.
        at_ms: i64,
        /// What.
        record: DoorRecord,
    },
    /// What an operator did at a box.
    Act {
        /// Which journal.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// When.
        at_ms: i64,
        /// What.
        record: ActRecord,
    },
    /// Somebody must look.
    Alarm {
        /// Which journal; of the hub itself for its own.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// When.
        at_ms: i64,
        /// The short word.
        word: String,
        /// In words.
        detail: String,
    },
}

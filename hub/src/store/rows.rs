//! Rows of the hub's own tables as plain values.

use crate::clock::wall_ms;
use crate::core::{self, Teller};
use serde::{Deserialize, Serialize};
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::feed::Hash;
use yika_crdt::ids::*;

/// A row to be written with a turn.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TableRow {
    /// What the core wants written.
    Core(core::TableRow),
    /// What only headquarters knows of a person; replaces what was known.
    Profile(Box<ProfileRow>),
    /// An operator; replaces what was known.
    Operator(OperatorRow),
    /// A terminal's key; replaces the old one.
    TerminalKey(TerminalKeyRow),
    /// A line of the audit.
    Audit(AuditRow),
    /// A backup that was made and proved.
    Backup(BackupRow),
    /// What an operator asked to be moved; the same source is written once.
    Voucher(VoucherRow),
}

impl TableRow {
    /// An alarm of headquarters itself, in the life that it is in; `word` names its kind.
    pub fn alarm(life: Writer, word: &str, detail: String) -> TableRow {
        let feed = FeedId { writer: life, channel: Channel::Registry };
        let (seq, at_ms, word) = (Seq::ZERO, wall_ms(), word.to_owned());
        TableRow::Core(core::TableRow::Alarm { feed, seq, at_ms, word, detail })
    }
}

/// A movement that an operator asked for at headquarters.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VoucherRow {
    /// Of the transfers that it posted.
    pub source: Hash,
    /// `top_up`, `withdrawal`, `undo` or `refund`.
    pub kind: String,
    /// The person or the sale.
    pub object: String,
    /// Number made by the asker.
    pub request: String,
    /// Source of what it undoes.
    pub of: Option<Hash>,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
    /// Sign-in name, or `console`.
    pub who: String,
    /// Who took or paid the money, and in which shift.
    pub by: Teller,
    /// When, hub time.
    pub at_ms: i64,
}

/// A backup that was made and proved.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BackupRow {
    /// When it was begun, hub time.
    pub at_ms: i64,
    /// Where it was put.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// How long making and proving took.
    pub took_ms: i64,
    /// Entries of all feeds in it, pruned ones included.
    pub entries: u64,
    /// The last turn in it: the log goes on from there. None of a backup made before there was a log.
    pub turn: Option<u64>,
}

/// The private part of a person. Number and contact are sealed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProfileRow {
    /// Who.
    pub person: u64,
    /// Keyed hash of type and number of the identity document.
    pub id_hash: [u8; 16],
    /// Kind of document, English word of the closed list.
    pub id_type: String,
    /// Its number, sealed.
    pub id_sealed: Vec<u8>,
    /// Telephone or mail, sealed.
    pub contact_sealed: Vec<u8>,
    /// Name.
    pub name: String,
    /// Pinyin as given.
    pub pinyin: String,
    /// `male`, `female` or empty.
    pub sex: String,
    /// First day of the document, ISO or empty.
    pub id_valid_from: String,
    /// Last day, ISO or empty.
    pub id_valid_until: String,
    /// Department name.
    pub department: String,
    /// Department number.
    pub department_code: String,
    /// Staff number.
    pub staff_number: String,
    /// Category, English word of the closed list.
    pub category: String,
    /// Home campus.
    pub campus: u16,
    /// Printed card number.
    pub card: Option<u64>,
    /// Chip number in hexadecimal, or empty.
    pub card_uid: String,
    /// Photo file name, or empty.
    pub photo: String,
}

/// An operator of headquarters or of a campus.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OperatorRow {
    /// Number.
    pub operator: OperatorId,
    /// Sign-in name.
    pub login: String,
    /// Name as shown.
    pub name: String,
    /// Role code.
    pub role: String,
    /// Campus whose data he may touch; `None` for all.
    pub campus: Option<CampusId>,
    /// Argon2id verifier; empty lets nobody in.
    pub verifier: String,
    /// He must choose a password first.
    pub must_change: bool,
    /// He may sign in.
    pub active: bool,
    /// Raised with each password.
    pub credential_epoch: u64,
}

/// A terminal's key, sealed under the master key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TerminalKeyRow {
    /// The terminal.
    pub terminal: TerminalId,
    /// Raised at every change.
    pub version: u16,
    /// The sealed key.
    pub sealed: Vec<u8>,
}

/// Who did what at headquarters (OPR-8).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditRow {
    /// When, hub time.
    pub at_ms: i64,
    /// Operator's login, or `console` for the command line.
    pub who: String,
    /// Short stable word.
    pub act: String,
    /// On what.
    pub object: String,
    /// Before and after, in words.
    pub detail: String,
    /// Address it came from.
    pub origin: String,
}

//! Names of the state rows that the core keeps beside its feeds: one prefix byte per kind, big-endian parts.
//!
//! Leaves to others: what the rows hold (the module named at each constructor).

use crate::channel::{BlockScope, FeedId};
use crate::docs::{DocId, DocKind};
use crate::entry::WalletKey;
use crate::feed::Hash;
use crate::ids::*;
use crate::people::BlockPlace;
use crate::wire;

/// `clock.rs`: the high-water mark of time.
pub const CLOCK: &[u8] = b"!clock";
/// `sale.rs`: the open business day.
pub const OPEN_DAY: &[u8] = b"!day";
/// `sale/prune.rs`: what this life's totals came to at its last cut.
pub const LAST_TALLY: &[u8] = b"!tally";
/// `edge.rs`: the last day whose tally was told to differ.
pub const TALLY_TOLD: &[u8] = b"!tally told";
/// `sale/fact.rs`: prefix of what was alarmed of off-line sales, by terminal.
pub const FACTS_TOLD: &[u8] = b"!facts";
/// `mesh.rs`: the lease of this life.
pub const LEASE: &[u8] = b"!lease";

/// `gate.rs`: this node's key was used by another; the head that proves it.
pub const FORKED: &[u8] = b"!forked";
/// `gate.rs`: headquarters has ended this life.
pub const FENCED: &[u8] = b"!fenced";
/// `gate.rs`: prefix of journal entries that wait until this node may append.
pub const HELD: &[u8] = b"h";

/// Prefix of campuses.
pub const CAMPUSES: &[u8] = b"C";
/// Prefix of nodes.
pub const NODES: &[u8] = b"N";
/// Prefix of fences.
pub const FENCES: &[u8] = b"F";
/// Prefix of tariff versions.
pub const TARIFFS: &[u8] = b"T";
/// Prefix of terminals.
pub const TERMINALS: &[u8] = b"t";
/// Prefix of blocks by the hash of their entry.
pub const BLOCKS: &[u8] = b"b";
/// Prefix of lifts by the hash of the block: the hub's, and those that a snapshot said.
pub const LIFTS: &[u8] = b"l";
/// Prefix of lifts by boxes, by the hash of the block and where they stand.
pub const BOX_LIFTS: &[u8] = b"k";
/// Prefix of lifts of whole ranges by feed.
pub const LIFT_RANGES: &[u8] = b"L";
/// Prefix of persons.
pub const PERSONS: &[u8] = b"p";
/// Prefix of rights by person.
pub const RIGHTS: &[u8] = b"r";
/// Prefix of purchase marks.
pub const MARKS: &[u8] = b"i";
/// Prefix of what was given back per sale.
pub const REFUNDS: &[u8] = b"f";
/// Prefix of answered numbers per terminal and boot.
pub const TERMINAL_MARKS: &[u8] = b"m";
/// Prefix of tallies by cut, as the hub tells them.
pub const TALLIES: &[u8] = b"y";
/// Prefix of quarantined entries.
pub const QUARANTINE: &[u8] = b"q";
/// Prefix of sealed terminal keys.
pub const TERMINAL_KEYS: &[u8] = b"s";
/// Prefix of operators.
pub const OPERATORS: &[u8] = b"o";
/// Prefix of receipts by feed.
pub const RECEIPTS: &[u8] = b"R";
/// Prefix of documents, `docs/`.
pub const DOCUMENTS: &[u8] = b"d";
/// Prefix of persons that stand in documents of several campuses: what each of these says.
pub const PERSON_CLAIMS: &[u8] = b"P";
/// Prefix of visitors.
pub const VISITORS: &[u8] = b"v";
/// Prefix of access policies by campus.
pub const POLICIES: &[u8] = b"a";
/// Prefix of epochs of documents.
pub const EPOCHS: &[u8] = b"e";
/// Prefix of re-bases by document and the epoch that ends.
pub const REBASES: &[u8] = b"E";
/// Prefix of the positions where journals cut their days.
pub const CUTS: &[u8] = b"c";
/// Prefix of cashiers' shifts by terminal.
pub const SHIFTS: &[u8] = b"S";
/// Prefix of proofs of forks.
pub const FORKS: &[u8] = b"x";

fn key(prefix: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

/// A campus (`mesh`).
pub fn campus(campus: CampusId) -> Vec<u8> {
    key(CAMPUSES, &[&campus.0.to_be_bytes()])
}

/// A node's life (`mesh`).
pub fn node(writer: Writer) -> Vec<u8> {
    key(NODES, &[&writer_bytes(writer)])
}

/// The fence of a node's life (`mesh`).
pub fn fence(writer: Writer) -> Vec<u8> {
    key(FENCES, &[&writer_bytes(writer)])
}

/// A tariff version (`mesh`).
pub fn tariff(version: TariffVersion) -> Vec<u8> {
    key(TARIFFS, &[&version.0.to_be_bytes()])
}

/// A terminal (`mesh`).
pub fn terminal(terminal: TerminalId) -> Vec<u8> {
    key(TERMINALS, &[&terminal.0.to_be_bytes()])
}

/// A block (`mesh`).
pub fn block(hash: &Hash) -> Vec<u8> {
    key(BLOCKS, &[&hash.0])
}

/// A lift, on one authority (`mesh`).
pub fn lift(block: &Hash, scope: BlockScope) -> Vec<u8> {
    key(LIFTS, &[&block.0, &wire::encode(&scope)])
}

/// A lift by a box (`mesh`).
pub fn box_lift(block: &Hash, place: &BlockPlace) -> Vec<u8> {
    key(BOX_LIFTS, &[&block.0, &wire::encode(place)])
}

/// A lift of a range of a feed (`mesh`).
pub fn lift_range(range: &(FeedId, Seq, Seq)) -> Vec<u8> {
    key(LIFT_RANGES, &[&wire::encode(range)])
}

/// A person (`mesh`).
pub fn person(person: PersonId) -> Vec<u8> {
    key(PERSONS, &[&person.0.to_be_bytes()])
}

/// The copy of a person in another campus' document (`mesh`).
pub fn person_claim(person: PersonId, home: CampusId) -> Vec<u8> {
    key(PERSON_CLAIMS, &[&person.0.to_be_bytes(), &home.0.to_be_bytes()])
}

/// Everything recorded under a visitor's id (`mesh`).
pub fn visits(visitor: PersonId) -> Vec<u8> {
    key(VISITORS, &[&visitor.0.to_be_bytes()])
}

/// A visitor as one document has it (`mesh`).
pub fn visit(visitor: PersonId, campus: CampusId, month: u16) -> Vec<u8> {
    key(VISITORS, &[&visitor.0.to_be_bytes(), &campus.0.to_be_bytes(), &month.to_be_bytes()])
}

/// The policy of a campus, a row per value (`access::rows`).
pub fn policy(campus: CampusId) -> Vec<u8> {
    key(POLICIES, &[&campus.0.to_be_bytes()])
}

/// The present epoch of a document (`documents`).
pub fn epoch(kind: &DocKind) -> Vec<u8> {
    key(EPOCHS, &[&wire::encode(kind)])
}

/// The document that a row of [`EPOCHS`] is about.
pub fn epoch_kind(key: &[u8]) -> Option<DocKind> {
    let kind = key.strip_prefix(EPOCHS)?;
    wire::decode(kind, kind.len()).ok()
}

/// The re-base that ends an epoch (`documents`).
pub fn rebase(old: &DocId) -> Vec<u8> {
    key(REBASES, &[&wire::encode(old)])
}

/// A person's rights at this box (`rights`).
pub fn rights(person: PersonId) -> Vec<u8> {
    key(RIGHTS, &[&person.0.to_be_bytes()])
}

/// Whose rights a row holds, by its key.
pub fn person_of_rights(key: &[u8]) -> Option<PersonId> {
    let number = <[u8; 8]>::try_from(key.strip_prefix(RIGHTS)?).ok()?;
    Some(PersonId(u64::from_be_bytes(number)))
}

/// A pool of a box: a row of its own for each wallet of person 0 (`rights`).
pub fn pool(wallet: WalletKey) -> Vec<u8> {
    key(RIGHTS, &[&[0; 8], &wire::encode(&wallet)])
}

/// Where a writer's journal cut a day (`sale/prune`).
pub fn cut(writer: Writer, day: Day) -> Vec<u8> {
    key(CUTS, &[&writer_bytes(writer), &day.0.to_be_bytes()])
}

/// Prefix of the cuts of one writer.
pub fn cuts(writer: Writer) -> Vec<u8> {
    key(CUTS, &[&writer_bytes(writer)])
}

/// A person's counters of the open day (`sale`): beside his rights, because a sale writes both. Only boxes have them.
pub fn counters(person: PersonId) -> Vec<u8> {
    key(RIGHTS, &[&person.0.to_be_bytes(), b"c"])
}

/// Where the answer to a purchase id is found (`sale`).
pub fn mark(id: PurchaseId) -> Vec<u8> {
    key(MARKS, &[&id.terminal.0.to_be_bytes(), &id.boot.to_be_bytes(), &id.seq.to_be_bytes()])
}

/// The last shift at a terminal (`shift`).
pub fn shift(terminal: TerminalId) -> Vec<u8> {
    key(SHIFTS, &[&terminal.0.to_be_bytes()])
}

/// What was alarmed last of the sales that a terminal decided alone (`sale/fact`).
pub fn facts_told(terminal: TerminalId) -> Vec<u8> {
    key(FACTS_TOLD, &[&terminal.0.to_be_bytes()])
}

/// What was given back for a sale (`sale`).
pub fn refunds(of: PurchaseId) -> Vec<u8> {
    key(REFUNDS, &[&of.terminal.0.to_be_bytes(), &of.boot.to_be_bytes(), &of.seq.to_be_bytes()])
}

/// Which numbers of a terminal's boot are answered (`answered`).
pub fn terminal_mark(terminal: TerminalId, boot: u32) -> Vec<u8> {
    key(TERMINAL_MARKS, &[&terminal.0.to_be_bytes(), &boot.to_be_bytes()])
}

/// All boots of a terminal.
pub fn terminal_marks(terminal: TerminalId) -> Vec<u8> {
    key(TERMINAL_MARKS, &[&terminal.0.to_be_bytes()])
}

/// The hub's tally of a journal where it cut a day (`tally`).
pub fn tally(incarnation: Incarnation, day: Day) -> Vec<u8> {
    let life = [incarnation.generation.to_be_bytes(), incarnation.counter.to_be_bytes()].concat();
    key(TALLIES, &[&life, &day.0.to_be_bytes()])
}

/// A quarantined entry (`mesh`).
pub fn quarantine(feed: &FeedId, seq: Seq) -> Vec<u8> {
    key(QUARANTINE, &[&wire::encode(feed), &seq.0.to_be_bytes()])
}

/// The entry that a row of [`QUARANTINE`] is about.
pub fn quarantined(key: &[u8]) -> Option<(FeedId, Seq)> {
    let (feed, seq) = key.strip_prefix(QUARANTINE)?.split_last_chunk::<8>()?;
    Some((wire::decode(feed, feed.len()).ok()?, Seq(u64::from_be_bytes(*seq))))
}

/// A terminal's sealed key (`mesh`).
pub fn terminal_key(terminal: TerminalId) -> Vec<u8> {
    key(TERMINAL_KEYS, &[&terminal.0.to_be_bytes()])
}

/// An operator's verifier (`mesh`).
pub fn operator(operator: OperatorId) -> Vec<u8> {
    key(OPERATORS, &[&operator.0.to_be_bytes()])
}

/// The hub's receipt for a life of this node's journal (`mesh`).
pub fn receipt(incarnation: Incarnation) -> Vec<u8> {
    key(RECEIPTS, &[&incarnation.generation.to_be_bytes(), &incarnation.counter.to_be_bytes()])
}

/// The proof that a feed was forked (`mesh`).
pub fn fork(feed: &FeedId) -> Vec<u8> {
    key(FORKS, &[&wire::encode(feed)])
}

/// A journal entry that waits, by its place in the queue (`gate`).
pub fn held(number: u64) -> Vec<u8> {
    key(HELD, &[&number.to_be_bytes()])
}

/// The number in such a key.
pub fn held_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(HELD)?.try_into().ok()?))
}

fn writer_bytes(writer: Writer) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&writer.node.0.to_be_bytes());
    bytes[4..8].copy_from_slice(&writer.incarnation.generation.to_be_bytes());
    bytes[8..].copy_from_slice(&writer.incarnation.counter.to_be_bytes());
    bytes
}

//! Changes as bytes: the strict reader of Automerge's uncompressed change chunk, and the only writer of it.
//!
//! Documents here are flat: every operation puts or deletes a plain value under a text key of the root map. Bytes from
//! outside are read by this module alone, bounded in size and operations before anything is expanded; what was read is
//! encoded afresh and must give the same bytes. The document engine therefore never parses what somebody else wrote.
//! Leaves to others: what keys and values mean (`act`), and whether the change fits its document (`document`).

use automerge::{ActorId, Change, ChangeHash, ExpandedChange, ScalarValue, legacy};
use std::num::NonZeroU64;

/// Largest change taken or written.
pub const CHANGE_BYTES_MAX: usize = 16 << 10;
/// Most operations in one change.
pub const CHANGE_OPS_MAX: usize = 1024;
/// Most predecessors named by one change.
pub(crate) const CHANGE_PREDECESSORS_MAX: usize = 2048;
/// Most dependencies of one change.
pub(crate) const CHANGE_DEPS_MAX: usize = 128;
/// Latest time a change may carry, in seconds since 1970 (year 36812).
pub(crate) const CHANGE_TIME_S_MAX: i64 = 1 << 40;
/// Largest operation counter in a document; far above what a year of edits reaches.
pub(crate) const OP_COUNTER_MAX: u64 = 1 << 31;

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const KIND_CHANGE: u8 = 1;

/// Why a change is not taken. After one, its writer's entries for the document are ignored until the re-base.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// Longer than [`CHANGE_BYTES_MAX`].
    #[error("a change of {0} bytes; at most {CHANGE_BYTES_MAX} are taken")]
    TooLong(usize),
    /// A saved document, a deflated change or a bundle.
    #[error("chunk type {0} where only uncompressed changes (type 1) are taken")]
    NotAPlainChange(u8),
    /// Not a change chunk of ours.
    #[error("malformed change: {0}")]
    Malformed(&'static str),
    /// More operations than [`CHANGE_OPS_MAX`].
    #[error("more than {CHANGE_OPS_MAX} operations in one change")]
    TooManyOps,
    /// Other bytes encode the same change.
    #[error("not the canonical encoding of the change")]
    NotCanonical,
    /// The actor is not the feed's writer.
    #[error("the change's actor is not the writer of its feed")]
    ForeignActor,
    /// The writer's campus and role do not allow this document.
    #[error("its writer may not write this document")]
    MayNotWrite,
    /// The act in the message is missing or breaks its own rules.
    #[error("act: {0}")]
    BadAct(String),
    /// An operation writes what the act does not.
    #[error("operation on {0:?} is not part of the act the change carries")]
    NotTheAct(String),
    /// The writer used this sequence number before.
    #[error("sequence number {0} used before by the same writer")]
    SequenceReused(u64),
    /// The writer left out a sequence number.
    #[error("sequence number {got} where {expected} comes next")]
    SequenceGap {
        /// Number that comes next.
        expected: u64,
        /// Number found.
        got: u64,
    },
    /// The change does not name its writer's change before it.
    #[error("the change does not depend on its writer's change before it")]
    NotAfterItself,
    /// Operation counters do not continue those of the dependencies.
    #[error("operations are counted from {got} where {expected} follows the dependencies")]
    WrongStart {
        /// Counter that follows.
        expected: u64,
        /// Counter found.
        got: u64,
    },
    /// An operation does not replace exactly what its writer saw.
    #[error("operation on {0:?} does not replace what its dependencies show")]
    WrongPredecessors(String),
    /// More than [`super::WAITING_CHANGES_MAX`] changes of one writer wait.
    #[error("too many changes of this writer wait for others")]
    TooManyWaiting,
}

/// A plain value in a document.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Value {
    /// A number ≥ 0.
    Uint(u64),
    /// A signed number (days).
    Int(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Presence: a member of a set.
    True,
}

/// Name of an operation: its counter, then its actor, as the engine orders them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct OpRef {
    pub(crate) counter: u64,
    pub(crate) actor: [u8; 16],
}

/// One operation: a put, or a deletion where `put` is `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FlatOp {
    pub(crate) key: String,
    pub(crate) put: Option<Value>,
    pub(crate) preds: Vec<OpRef>,
}

/// A change of a flat document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FlatChange {
    pub(crate) actor: [u8; 16],
    pub(crate) seq: u64,
    pub(crate) start_op: u64,
    pub(crate) time_s: i64,
    pub(crate) message: String,
    pub(crate) deps: Vec<[u8; 32]>,
    pub(crate) ops: Vec<FlatOp>,
}

impl FlatChange {
    /// Counter of its last operation.
    pub(crate) fn max_op(&self) -> u64 {
        self.start_op + self.ops.len() as u64 - 1
    }

    /// The engine's form of it, and with `raw_bytes` the only encoding.
    pub(crate) fn encode(&self) -> Option<Change> {
        let operations = self.ops.iter().map(|op| legacy::Op {
            action: match &op.put {
                Some(value) => legacy::OpType::Put(scalar(value)),
                None => legacy::OpType::Delete,
            },
            obj: legacy::ObjectId::Root,
            key: legacy::Key::from(op.key.as_str()),
            pred: op
                .preds
                .iter()
                .map(|p| legacy::OpId(p.counter, ActorId::from(p.actor)))
                .collect(),
            insert: false,
        });
        Some(Change::from(ExpandedChange {
            operations: operations.collect(),
            actor_id: ActorId::from(self.actor),
            hash: None,
            seq: self.seq,
            start_op: NonZeroU64::new(self.start_op)?,
            time: self.time_s,
            message: Some(self.message.clone()),
            deps: self.deps.iter().map(|d| ChangeHash(*d)).collect(),
            extra_bytes: Vec::new(),
            author: None,
        }))
    }
}

fn scalar(value: &Value) -> ScalarValue {
    match value {
        Value::Uint(n) => ScalarValue::Uint(*n),
        Value::Int(n) => ScalarValue::Int(*n),
        Value::Text(text) => ScalarValue::Str(text.as_str().into()),
        Value::Bytes(bytes) => ScalarValue::Bytes(bytes.clone()),
        Value::True => ScalarValue::Boolean(true),
    }
}

/// Reads one change; the second value is the engine's form, encoded afresh.
///
/// # Errors
/// Anything that is not the one encoding of a small flat change.
pub(crate) fn read(bytes: &[u8]) -> Result<(FlatChange, Change), ChangeRefused> {
    let flat = parse(bytes)?;
    let change = flat
        .encode()
        .ok_or(ChangeRefused::Malformed("first operation is 0"))?;
    if change.raw_bytes() != bytes {
        return Err(ChangeRefused::NotCanonical);
    }
    Ok((flat, change))
}

fn parse(bytes: &[u8]) -> Result<FlatChange, ChangeRefused> {
    if bytes.len() > CHANGE_BYTES_MAX {
        return Err(ChangeRefused::TooLong(bytes.len()));
    }
    let mut r = Reader(bytes);
    if r.take(4)? != MAGIC {
        return Err(ChangeRefused::Malformed("no chunk mark"));
    }
    r.take(4)?;
    let kind = r.take(1)?[0];
    if kind != KIND_CHANGE {
        return Err(ChangeRefused::NotAPlainChange(kind));
    }
    if r.count(CHANGE_BYTES_MAX)? != r.0.len() {
        return Err(ChangeRefused::Malformed("length does not match"));
    }
    let deps = (0..r.count(CHANGE_DEPS_MAX)?).map(|_| r.array::<32>());
    let deps = deps.collect::<Result<Vec<_>, _>>()?;
    let actor = r.actor()?;
    let seq = r.uint()?;
    let start_op = r.uint()?;
    if start_op == 0 || start_op > OP_COUNTER_MAX {
        return Err(ChangeRefused::Malformed("first operation out of range"));
    }
    let time_s = r.int()?;
    if !(0..=CHANGE_TIME_S_MAX).contains(&time_s) {
        return Err(ChangeRefused::Malformed("time out of range"));
    }
    let message_bytes = r.count(CHANGE_BYTES_MAX)?;
    let message = text(r.take(message_bytes)?)?;
    let mut actors = vec![actor];
    for _ in 0..r.count(CHANGE_PREDECESSORS_MAX)? {
        actors.push(r.actor()?);
    }
    let columns = Columns::read(&mut r)?;
    Ok(FlatChange {
        actor,
        seq,
        start_op,
        time_s,
        message,
        deps,
        ops: columns.ops(&actors)?,
    })
}

/// The columns a flat change needs; those that hold nothing for it are checked by encoding afresh.
#[derive(Default)]
struct Columns<'a> {
    keys: &'a [u8],
    actions: &'a [u8],
    value_metas: &'a [u8],
    values: &'a [u8],
    pred_counts: &'a [u8],
    pred_actors: &'a [u8],
    pred_counters: &'a [u8],
}

impl<'a> Columns<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, ChangeRefused> {
        let mut specs = Vec::new();
        for _ in 0..r.count(32)? {
            specs.push((r.uint()?, r.count(CHANGE_BYTES_MAX)?));
        }
        let mut columns = Columns::default();
        for (spec, length) in specs {
            let data = r.take(length)?;
            match spec {
                0x15 => columns.keys = data,
                0x42 => columns.actions = data,
                0x56 => columns.value_metas = data,
                0x57 => columns.values = data,
                0x70 => columns.pred_counts = data,
                0x71 => columns.pred_actors = data,
                0x73 => columns.pred_counters = data,
                0x01 | 0x02 | 0x11 | 0x13 | 0x34 => {}
                _ => return Err(ChangeRefused::Malformed("a column no flat change has")),
            }
        }
        if !r.0.is_empty() {
            return Err(ChangeRefused::Malformed("bytes after the columns"));
        }
        Ok(columns)
    }

    fn ops(&self, actors: &[[u8; 16]]) -> Result<Vec<FlatOp>, ChangeRefused> {
        let actions = runs(self.actions, CHANGE_OPS_MAX, Reader::uint)?;
        let keys = runs(self.keys, CHANGE_OPS_MAX, Reader::text)?;
        let metas = runs(self.value_metas, CHANGE_OPS_MAX, Reader::uint)?;
        let counts = runs(self.pred_counts, CHANGE_OPS_MAX, Reader::uint)?;
        let lengths = [keys.len(), metas.len(), counts.len()];
        if actions.is_empty() || lengths.iter().any(|l| *l != actions.len()) {
            return Err(ChangeRefused::Malformed("columns differ in length"));
        }
        let mut preds = self.preds(actors)?.into_iter();
        let mut values = Reader(self.values);
        let mut ops = Vec::with_capacity(actions.len());
        for (((action, key), meta), count) in actions.into_iter().zip(keys).zip(metas).zip(counts) {
            let value = values.value(meta.ok_or(ABSENT)?)?;
            let put = match (action.ok_or(ABSENT)?, value) {
                (1, Some(value)) => Some(value),
                (3, None) => None,
                _ => return Err(ChangeRefused::Malformed("neither a put nor a deletion")),
            };
            let count = usize::try_from(count.ok_or(ABSENT)?).unwrap_or(usize::MAX);
            if count > preds.len() {
                return Err(ChangeRefused::Malformed("predecessors missing"));
            }
            let preds: Vec<OpRef> = preds.by_ref().take(count).collect();
            if !preds.is_sorted_by(|a, b| a < b) {
                return Err(ChangeRefused::Malformed("predecessors out of order"));
            }
            let key = key.ok_or(ABSENT)?;
            ops.push(FlatOp { key, put, preds });
        }
        if !values.0.is_empty() || preds.len() > 0 {
            return Err(ChangeRefused::Malformed("more data than operations"));
        }
        Ok(ops)
    }

    fn preds(&self, actors: &[[u8; 16]]) -> Result<Vec<OpRef>, ChangeRefused> {
        let indexes = runs(self.pred_actors, CHANGE_PREDECESSORS_MAX, Reader::uint)?;
        let deltas = runs(self.pred_counters, CHANGE_PREDECESSORS_MAX, Reader::int)?;
        if indexes.len() != deltas.len() {
            return Err(ChangeRefused::Malformed("predecessor columns differ"));
        }
        let mut counter: i64 = 0;
        let mut preds = Vec::with_capacity(indexes.len());
        for (index, delta) in indexes.into_iter().zip(deltas) {
            counter = counter.saturating_add(delta.ok_or(ABSENT)?);
            let index = usize::try_from(index.ok_or(ABSENT)?).unwrap_or(usize::MAX);
            let actor = actors
                .get(index)
                .ok_or(ChangeRefused::Malformed("unknown actor"))?;
            let counter = u64::try_from(counter).unwrap_or(0);
            if counter == 0 || counter > OP_COUNTER_MAX {
                return Err(ChangeRefused::Malformed("predecessor out of range"));
            }
            preds.push(OpRef {
                counter,
                actor: *actor,
            });
        }
        Ok(preds)
    }
}

const ABSENT: ChangeRefused = ChangeRefused::Malformed("a value is absent");
const SHORT: ChangeRefused = ChangeRefused::Malformed("ends too early");

/// Expands a run-length column; a run that would exceed `limit` is refused before it is expanded.
fn runs<'a, T: Clone>(
    column: &'a [u8],
    limit: usize,
    read: fn(&mut Reader<'a>) -> Result<T, ChangeRefused>,
) -> Result<Vec<Option<T>>, ChangeRefused> {
    let mut r = Reader(column);
    let mut out = Vec::new();
    while !r.0.is_empty() {
        let run = r.int()?;
        let count = match run {
            0 => r.uint()?,
            _ => run.unsigned_abs(),
        };
        if count > (limit - out.len()) as u64 {
            return Err(ChangeRefused::TooManyOps);
        }
        let count = count as usize;
        if run > 0 {
            let value = read(&mut r)?;
            out.extend(std::iter::repeat_n(Some(value), count));
        } else if run < 0 {
            for _ in 0..count {
                out.push(Some(read(&mut r)?));
            }
        } else {
            out.extend(std::iter::repeat_n(None, count));
        }
    }
    Ok(out)
}

fn text(bytes: &[u8]) -> Result<String, ChangeRefused> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| ChangeRefused::Malformed("text is not UTF-8"))?;
    Ok(text.to_owned())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ChangeRefused> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ChangeRefused> {
        self.take(N)?.try_into().map_err(|_| SHORT)
    }

    fn actor(&mut self) -> Result<[u8; 16], ChangeRefused> {
        match self.uint()? {
            16 => self.array(),
            _ => Err(ChangeRefused::Malformed("an actor is 16 bytes")),
        }
    }

    fn count(&mut self, limit: usize) -> Result<usize, ChangeRefused> {
        let count = usize::try_from(self.uint()?).unwrap_or(usize::MAX);
        if count > limit {
            return Err(ChangeRefused::Malformed("a length beyond its limit"));
        }
        Ok(count)
    }

    /// Unsigned LEB128; padded forms are caught by encoding afresh.
    fn uint(&mut self) -> Result<u64, ChangeRefused> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ChangeRefused::Malformed("a number beyond 64 bits"))
    }

    /// Signed LEB128.
    fn int(&mut self) -> Result<i64, ChangeRefused> {
        let mut value: i64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if shift < 57 && byte & 0x40 != 0 {
                    value |= -1 << (shift + 7);
                }
                return Ok(value);
            }
        }
        Err(ChangeRefused::Malformed("a number beyond 64 bits"))
    }

    fn text(&mut self) -> Result<String, ChangeRefused> {
        let length = self.count(CHANGE_BYTES_MAX)?;
        text(self.take(length)?)
    }

    /// One value by its meta number (length × 16 + type); `None` is null.
    fn value(&mut self, meta: u64) -> Result<Option<Value>, ChangeRefused> {
        let length = usize::try_from(meta >> 4).unwrap_or(usize::MAX);
        let mut raw = Reader(self.take(length)?);
        let value = match meta & 0xf {
            0 => None,
            2 => Some(Value::True),
            3 => Some(Value::Uint(raw.uint()?)),
            4 => Some(Value::Int(raw.int()?)),
            6 => Some(Value::Text(text(raw.take(length)?)?)),
            7 => Some(Value::Bytes(raw.take(length)?.to_vec())),
            _ => return Err(ChangeRefused::Malformed("a value type no document has")),
        };
        match raw.0.is_empty() {
            true => Ok(value),
            false => Err(ChangeRefused::Malformed("a value longer than its content")),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    // tests may panic
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    pub(crate) fn sample() -> FlatChange {
        FlatChange {
            actor: [7; 16],
            seq: 3,
            start_op: 9,
            time_s: 1_800_000_000,
            message: "m".to_owned(),
            deps: vec![[1; 32], [2; 32]],
            ops: vec![
                FlatOp {
                    key: "a".to_owned(),
                    put: Some(Value::Uint(u64::MAX)),
                    preds: vec![
                        OpRef {
                            counter: 3,
                            actor: [9; 16],
                        },
                        OpRef {
                            counter: 5,
                            actor: [7; 16],
                        },
                    ],
                },
                FlatOp {
                    key: "b".to_owned(),
                    put: None,
                    preds: vec![OpRef {
                        counter: 4,
                        actor: [8; 16],
                    }],
                },
            ],
        }
    }

    /// Wraps a body as a chunk with a right length and checksum.
    pub(crate) fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut length = Vec::new();
        let mut rest = body.len();
        loop {
            let byte = (rest & 0x7f) as u8;
            rest >>= 7;
            length.push(if rest == 0 { byte } else { byte | 0x80 });
            if rest == 0 {
                break;
            }
        }
        let hash = Sha256::new()
            .chain_update([kind])
            .chain_update(&length)
            .chain_update(body)
            .finalize();
        [&MAGIC[..], &hash[..4], &[kind], &length, body].concat()
    }

    /// Two million deletions of one key in about a hundred bytes: each column is a single run.
    pub(crate) fn run_length_bomb(actor: [u8; 16]) -> Vec<u8> {
        let two_million = [0x80, 0x89, 0xfa, 0x00];
        let column = |value: &[u8]| [&two_million[..], value].concat();
        let (key, action, meta, count) =
            (column(&[1, b'k']), column(&[3]), column(&[0]), column(&[0]));
        let mut body = vec![0, 16];
        body.extend(actor);
        body.extend([1, 1, 0, 0, 0, 5]);
        let insert = vec![0x80, 0x89, 0x7a];
        for (spec, data) in [
            (0x15, &key),
            (0x34, &insert),
            (0x42, &action),
            (0x56, &meta),
            (0x70, &count),
        ] {
            body.extend([spec, data.len() as u8]);
        }
        for data in [&key, &insert, &action, &meta, &count] {
            body.extend(data.iter());
        }
        chunk(1, &body)
    }

    #[test]
    fn what_is_written_is_read_and_extremes_survive() {
        let flat = sample();
        let bytes = flat.encode().unwrap().raw_bytes().to_vec();
        assert_eq!(read(&bytes).unwrap().0, flat);
    }

    #[test]
    fn a_run_length_bomb_is_refused_unexpanded() {
        let bomb = run_length_bomb([1; 16]);
        assert!(bomb.len() < 128);
        // It is a real bomb: the engine itself would take it and expand it.
        assert_eq!(
            Change::try_from(&bomb[..]).map(|c| c.len()).ok(),
            Some(2_000_000)
        );
        assert_eq!(read(&bomb).map(|_| ()), Err(ChangeRefused::TooManyOps));
    }

    #[test]
    fn only_uncompressed_change_chunks_pass() {
        for kind in [0, 2, 3, 9] {
            let refused = read(&chunk(kind, &[0; 64])).map(|_| ());
            assert_eq!(refused, Err(ChangeRefused::NotAPlainChange(kind)));
        }
        let long = vec![0; CHANGE_BYTES_MAX + 1];
        assert_eq!(
            read(&long).map(|_| ()),
            Err(ChangeRefused::TooLong(long.len()))
        );
    }

    #[test]
    fn a_deflated_change_of_the_engine_is_refused() {
        let mut flat = sample();
        flat.message = "x".repeat(4000);
        let mut change = flat.encode().unwrap();
        let deflated = change.bytes().into_owned();
        assert!(deflated.len() < 1000);
        assert_eq!(
            read(&deflated).map(|_| ()),
            Err(ChangeRefused::NotAPlainChange(2))
        );
    }

    fn a_flat_change() -> impl Strategy<Value = FlatChange> {
        let value = prop_oneof![
            any::<u64>().prop_map(Value::Uint),
            any::<i64>().prop_map(Value::Int),
            ".{0,20}".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
            Just(Value::True),
        ];
        let pred = (1..1000u64, 0..4u8).prop_map(|(counter, a)| OpRef {
            counter,
            actor: [a; 16],
        });
        let preds = proptest::collection::btree_set(pred, 0..4);
        let op =
            (".{0,12}", proptest::option::of(value), preds).prop_map(|(key, put, preds)| FlatOp {
                key,
                put,
                preds: preds.into_iter().collect(),
            });
        let ops = proptest::collection::vec(op, 1..30);
        (ops, 1..99u64, 1..9999u64, 0..CHANGE_TIME_S_MAX, ".{0,30}").prop_map(
            |(ops, seq, start_op, time_s, message)| FlatChange {
                actor: [1; 16],
                seq,
                start_op,
                time_s,
                message,
                deps: vec![[3; 32]],
                ops,
            },
        )
    }

    proptest! {
        #[test]
        fn any_flat_change_round_trips(flat in a_flat_change()) {
            let bytes = flat.encode().unwrap().raw_bytes().to_vec();
            prop_assert_eq!(read(&bytes).unwrap().0, flat);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0..4u8) {
            let _ = read(&bytes);
            let _ = read(&chunk(kind, &bytes));
        }

        #[test]
        fn a_flipped_body_with_a_right_checksum_never_panics(flat in a_flat_change(), at in any::<usize>(), bit in 0..8u8) {
            let bytes = flat.encode().unwrap().raw_bytes().to_vec();
            let skip = 9 + if bytes.len() > 138 { 2 } else { 1 };
            let mut body = bytes[skip..].to_vec();
            let at = at % body.len();
            body[at] ^= 1 << bit;
            let _ = read(&chunk(1, &body));
        }
    }
}

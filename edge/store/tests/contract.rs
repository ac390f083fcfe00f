//! One contract, two stores: whatever the memory store of the core answers, the SQLite store answers too, within
//! turns, after commits, after a reopen, and through a reader beside the writer.

// tests may panic
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::feed::{End, Hash, SignatureBytes, SignedHead};
use yika_crdt::ids::{CampusId, Incarnation, NodeId, Seq, Writer};
use yika_crdt::store::{Batch, MemoryStore, Read, Store, StoreError, Tx};
use yika_store::{Options, SqliteReader, SqliteStore};

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Append(usize, Vec<u8>),
    Head(usize, u8),
    Prune(usize, u8),
    Base(usize, u8),
    Look(Vec<u8>, Option<Vec<u8>>, usize),
}

fn feeds() -> Vec<FeedId> {
    let writer = |node, counter| Writer { node: NodeId(node), incarnation: Incarnation { generation: 1, counter } };
    vec![
        FeedId { writer: writer(9, 1), channel: Channel::Journal },
        FeedId { writer: writer(9, 2), channel: Channel::Journal },
        FeedId { writer: writer(0, 1), channel: Channel::People(CampusId(3)) },
    ]
}

/// Short keys over few bytes, with the awkward 0xff, so that prefixes meet.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(254), Just(255)], 0..4)
}

fn op() -> impl Strategy<Value = Op> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let long = prop::collection::vec(any::<u8>(), 3000..9000);
    prop_oneof![
        3 => (key(), bytes()).prop_map(|(k, v)| Op::Put(k, v)),
        1 => key().prop_map(Op::Delete),
        4 => (0..3usize, bytes()).prop_map(|(f, e)| Op::Append(f, e)),
        1 => (0..3usize, long).prop_map(|(f, e)| Op::Append(f, e)),
        1 => (0..3usize, any::<u8>()).prop_map(|(f, s)| Op::Head(f, s)),
        1 => (0..3usize, any::<u8>()).prop_map(|(f, s)| Op::Prune(f, s)),
        1 => (0..3usize, any::<u8>()).prop_map(|(f, s)| Op::Base(f, s)),
        2 => (key(), prop::option::of(key()), 0..6usize).prop_map(|(p, a, l)| Op::Look(p, a, l)),
    ]
}

/// Runs a turn; returns what it read and what it wants written.
fn turn<S: Read>(store: &S, ops: &[Op]) -> Result<(Vec<String>, Batch), StoreError> {
    let mut tx = Tx::new(store);
    let mut seen = Vec::new();
    for op in ops {
        match op {
            Op::Put(key, value) => tx.put(key.clone(), value),
            Op::Delete(key) => tx.delete(key.clone()),
            Op::Append(feed, entry) => {
                seen.push(format!("{:?}", tx.append(feeds()[*feed], entry.clone())?));
            }
            Op::Head(feed, salt) => {
                let feed = feeds()[*feed];
                let end = tx.feed(&feed)?.end;
                tx.keep_head(SignedHead { feed, end, signature: SignatureBytes([*salt; 64]) });
            }
            Op::Prune(feed, share) => {
                // What the core does: only forwards, only what was stored before this turn.
                let feed = feeds()[*feed];
                let held = store.feed(&feed)?;
                let span = held.end.seq.0 - held.pruned.0;
                let upto = Seq(held.pruned.0 + span * u64::from(*share) / 255);
                if upto > held.pruned && !tx.batch().bases.contains_key(&feed) {
                    tx.prune(feed, upto);
                }
            }
            Op::Base(feed, salt) => {
                // Up to four entries before what is held, to twelve beyond it.
                let feed = feeds()[*feed];
                let seq = Seq((tx.feed(&feed)?.end.seq.0 + u64::from(*salt % 16)).saturating_sub(4));
                let base = End { seq, hash: Hash([*salt; 32]) };
                seen.push(format!("{:?} {:?}", tx.take_base(feed, base)?, tx.end_at(&feed, seq)?));
            }
            Op::Look(prefix, after, limit) => {
                seen.push(format!("{:?}", tx.scan(prefix, after.as_deref(), *limit)?));
                seen.push(format!("{:?}", tx.get_bytes(prefix)?));
                for feed in feeds() {
                    seen.push(format!("{:?}", tx.entry(&feed, Seq(*limit as u64))?));
                }
            }
        }
    }
    Ok((seen, tx.into_batch()))
}

/// Everything a reader can ask.
fn everything<S: Read>(store: &S) -> Result<Vec<String>, StoreError> {
    let mut seen = vec![
        format!("{:?}", store.scan(b"", None, usize::MAX)?),
        format!("{:?}", store.scan(&[255], None, 9)?),
        format!("{:?}", store.scan(&[255], Some(&[1]), 9)?),
        format!("{:?}", store.scan(&[1], Some(&[254]), 9)?),
        format!("{:?}", store.feeds()?),
    ];
    for feed in feeds() {
        let held = store.feed(&feed)?;
        for from in [0, 1, held.pruned.0, held.pruned.0 + 1, held.end.seq.0, held.end.seq.0 + 1] {
            for bytes in [0, 60, 5000, usize::MAX] {
                seen.push(format!("{:?}", store.entries(&feed, Seq(from), bytes)?));
            }
            seen.push(format!("{:?}", store.head_from(&feed, Seq(from))?));
        }
    }
    Ok(seen)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_answers_as_memory_does(
        turns in prop::collection::vec((prop::collection::vec(op(), 0..12), any::<bool>()), 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.db");
        let mut memory = MemoryStore::default();
        let mut sqlite = SqliteStore::open(&path, &Options::default()).unwrap();
        let reader = SqliteReader::open(&path, &Options::default()).unwrap();
        for (ops, reopen) in turns {
            let (seen, batch) = turn(&memory, &ops).unwrap();
            let (seen_too, batch_too) = turn(&sqlite, &ops).unwrap();
            prop_assert_eq!(seen, seen_too);
            prop_assert_eq!(&batch, &batch_too);
            memory.commit(&batch).unwrap();
            sqlite.commit(&batch).unwrap();
            if reopen {
                drop(sqlite);
                sqlite = SqliteStore::open(&path, &Options::default()).unwrap();
            }
            let expected = everything(&memory).unwrap();
            prop_assert_eq!(&expected, &everything(&sqlite).unwrap());
            prop_assert_eq!(&expected, &everything(&reader).unwrap());
        }
    }
}

//! The power is cut under the product's own store and writer thread, with a crowd of sales in flight: what was answered is
//! there afterwards, once, and the books beside it agree (invariant 3). With `synchronous=OFF` the same check goes red.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::collections::BTreeSet;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::feed::{self, End};
use yika_crdt::ids::{Incarnation, NodeId, Seq, Writer as Life};
use yika_crdt::store::{Read, StoreError, Tx};
use yika_powercut::PowerCut;
use yika_store::{Machine, Options, Priority, SqliteStore, Synchronous, Writer};

const CUTS: u64 = 60;
const SALES: u64 = 160;
const CROWD: u64 = 16;
const COUNT: &[u8] = b"count";

/// Sells: an entry in the journal and a counter beside it, in one transaction.
struct Till;

fn journal() -> FeedId {
    let incarnation = Incarnation { generation: 1, counter: 1 };
    FeedId { writer: Life { node: NodeId(1), incarnation }, channel: Channel::Journal }
}

fn entry(number: u64) -> Vec<u8> {
    [&number.to_be_bytes()[..], &vec![7; (number as usize * 37) % 900]].concat()
}

impl Machine for Till {
    type Command = u64;
    type Answer = u64;
    type Effect = ();

    fn priority(_: &u64) -> Priority {
        Priority::Purchase
    }

    fn handle(&mut self, tx: &mut Tx<'_, SqliteStore>, number: u64, _: &mut Vec<()>) -> Result<u64, StoreError> {
        let count: u64 = tx.get(COUNT)?.unwrap_or_default();
        tx.put(COUNT.to_vec(), &(count + 1));
        tx.append(journal(), entry(number))?;
        Ok(number)
    }

    fn committed(&mut self, _: &SqliteStore, _: Vec<()>) {}
    fn rolled_back(&mut self, _: &SqliteStore, _: &StoreError) -> Result<(), StoreError> {
        Ok(())
    }
}

struct Outcome {
    answered: BTreeSet<u64>,
    cut: bool,
    /// Answered and gone, or what is wrong with the file.
    missing: usize,
    sound: Result<(), String>,
}

fn run(power: &PowerCut, synchronous: Synchronous, operation: u64, seed: u64) -> Outcome {
    power.restore_power();
    let live = tempfile::tempdir().unwrap();
    power.arm(operation, seed);
    let options = Options {
        synchronous,
        vfs: Some(power.name().to_owned()),
        wal_bytes_soft_max: Some(256 << 10),
        ..Options::default()
    };
    let answered = match SqliteStore::open(live.path().join("edge.db"), &options) {
        Ok(store) => rush(store),
        Err(_) => BTreeSet::new(),
    };
    if !power.is_cut() {
        return Outcome { answered, cut: false, missing: 0, sound: Ok(()) };
    }
    let image = power.take_image().unwrap();
    let (missing, sound) = match look(&image.path("edge.db"), &answered) {
        Ok(missing) => (missing, Ok(())),
        Err(words) => (answered.len(), Err(words)),
    };
    Outcome { answered, cut: true, missing, sound }
}

/// A crowd sells until the power goes; who was answered.
fn rush(store: SqliteStore) -> BTreeSet<u64> {
    let Ok((writer, thread)) = Writer::spawn(Till, store) else { return BTreeSet::new() };
    let sellers: Vec<_> = (0..CROWD)
        .map(|seller| {
            let writer = writer.clone();
            std::thread::spawn(move || {
                let mine = (0..SALES).filter(|n| n % CROWD == seller);
                mine.map_while(|n| writer.call_blocking(n).ok()).collect::<Vec<_>>()
            })
        })
        .collect();
    let answered = sellers.into_iter().flat_map(|s| s.join().unwrap()).collect();
    drop(writer);
    drop(thread.join());
    answered
}

fn look(path: &std::path::Path, answered: &BTreeSet<u64>) -> Result<usize, String> {
    if !path.exists() {
        return Ok(answered.len());
    }
    let store = SqliteStore::open(path, &Options::default()).map_err(|e| e.to_string())?;
    let held = store.feed(&journal()).map_err(|e| e.to_string())?.end;
    let mut end = End::default();
    let mut found = BTreeSet::new();
    while end.seq < held.seq {
        for bytes in store.entries(&journal(), end.seq.next(), 1 << 16).map_err(|e| e.to_string())? {
            end = feed::link(&journal(), end, &bytes);
            let number = u64::from_be_bytes(bytes[..8].try_into().unwrap());
            if !found.insert(number) {
                return Err(format!("sale {number} stands twice"));
            }
        }
    }
    if end != held {
        return Err("the chain does not lead to its end".into());
    }
    let count: u64 = Tx::new(&store).get(COUNT).map_err(|e| e.to_string())?.unwrap_or_default();
    if Seq(count) != held.seq {
        return Err(format!("{count} counted, {} journaled", held.seq));
    }
    Ok(answered.difference(&found).count())
}

fn operations(power: &PowerCut, synchronous: Synchronous) -> u64 {
    let whole = run(power, synchronous, u64::MAX, 0);
    assert!(!whole.cut && whole.answered.len() as u64 == SALES);
    power.operations()
}

/// Rows NFR-1.
#[test]
fn invariant_3_what_was_answered_survives_every_power_cut() {
    let power = PowerCut::register("store-full").unwrap();
    let total = operations(&power, Synchronous::Full);
    let (mut happened, mut answered) = (0, 0);
    for n in 0..CUTS {
        let (operation, seed) = (n * total / CUTS, n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7);
        let outcome = run(&power, Synchronous::Full, operation, seed);
        assert_eq!(outcome.sound, Ok(()), "cut before operation {operation}, seed {seed}");
        assert_eq!(outcome.missing, 0, "cut before operation {operation}, seed {seed}: answered sales lost");
        happened += u64::from(outcome.cut);
        answered += outcome.answered.len();
    }
    assert!(happened > CUTS / 2 && answered > 0, "{happened} cuts, {answered} answers");
}

#[test]
fn without_synchronous_full_the_same_check_goes_red() {
    let power = PowerCut::register("store-off").unwrap();
    let total = operations(&power, Synchronous::OffForPowerCutTestOnly);
    let bad = (0..30).filter(|n| {
        let outcome = run(&power, Synchronous::OffForPowerCutTestOnly, total * (10 + n) / 45, *n);
        outcome.cut && (outcome.missing > 0 || outcome.sound.is_err())
    });
    assert!(bad.count() > 0, "synchronous=OFF lost nothing: the layer does not drop unsynced writes");
}

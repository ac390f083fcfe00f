//! The power is cut under headquarters as it runs. A top-up that a counter was told of, a run of a journal that a box was
//! told is stored, and receipts that a peer could have read are there after the start, once, and the books add up. With
//! `synchronous=OFF` it goes red.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod site;

use site::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, Run};
use yika_crdt::ids::*;
use yika_crdt::store::{Read, Tx};
use yika_hub::clock::HubClock;
use yika_hub::core::{self, Command, Hub, Identity, Reply};
use yika_hub::machine::{Ears, HubMachine};
use yika_hub::store::{self, outbox, read};
use yika_powercut::PowerCut;
use yika_store::rusqlite::Connection;
use yika_store::{Options, SqliteReader, SqliteStore, Synchronous, Writer};

const CUTS: u64 = 40;
const SALES: u32 = 60;
const RUN_ENTRIES: usize = 3;
const TOP_UPS: u64 = 60;
const TICKS: u32 = 30;
const JOURNAL: FeedId = FeedId { writer: BOX, channel: Channel::Journal };
const RECEIPTS: FeedId = FeedId { writer: HUB, channel: Channel::Receipts(NodeId(1)) };

/// What was said to the outside before the power went.
#[derive(Default)]
struct Said {
    top_ups: BTreeSet<u64>,
    stored: Seq,
    receipts: u64,
}

struct Outcome {
    said: Said,
    cut: bool,
    /// What is wrong after the start, in words.
    wrong: Result<(), String>,
}

fn hub(store: &SqliteStore) -> Option<Hub> {
    Hub::load(store, Identity { me: HUB, key: key_of(NodeId::HUB) }).ok()
}

fn run(power: &PowerCut, journal: &[Run], synchronous: Synchronous, operation: u64, seed: u64) -> Outcome {
    power.restore_power();
    let live = tempfile::tempdir().unwrap();
    let path = live.path().join("hub.db");
    power.arm(operation, seed);
    let options = Options {
        synchronous,
        vfs: Some(power.name().to_owned()),
        wal_bytes_soft_max: Some(512 << 10),
        ..store::options()
    };
    let said = day(&path, &options, journal).unwrap_or_default();
    if !power.is_cut() {
        return Outcome { said, cut: false, wrong: Ok(()) };
    }
    let image = power.take_image().unwrap();
    let wrong = look(&image.path("hub.db"), &said, journal);
    Outcome { said, cut: true, wrong }
}

/// A headquarters is set up; then a counter takes money, a box delivers its journal and is given receipts, all at once.
fn day(path: &Path, options: &Options, journal: &[Run]) -> Option<Said> {
    let store = SqliteStore::open(path, options).ok()?;
    let hub = hub(&store)?;
    let feeds = store.feeds().ok()?.into_iter().map(|(feed, _)| feed);
    let ears = Ears::new(hub.mesh.directory(), feeds);
    let (writer, thread) = Writer::spawn(HubMachine::new(hub, HubClock::after(0), ears), store).ok()?;
    let ready = orders().into_iter().all(|order| writer.call_blocking(order.into()).is_ok());
    let said = if ready { traffic(&writer, path, options, journal) } else { Said::default() };
    drop(writer);
    drop(thread.join());
    Some(said)
}

fn traffic(writer: &Writer<HubMachine>, path: &Path, options: &Options, journal: &[Run]) -> Said {
    let done = AtomicBool::new(false);
    let seen = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let counter = scope.spawn(|| take_money(writer));
        let link = scope.spawn(|| deliver(writer, journal));
        scope.spawn(|| watch_receipts(path, options, &seen, &done));
        for _ in 0..TICKS {
            if writer.call_blocking(Command::Tick { connected: vec![BOX] }.into()).is_err() {
                break;
            }
        }
        let (top_ups, stored) = (counter.join().unwrap(), link.join().unwrap());
        done.store(true, Ordering::Relaxed);
        Said { top_ups, stored, receipts: seen.load(Ordering::Relaxed) }
    })
}

fn take_money(writer: &Writer<HubMachine>) -> BTreeSet<u64> {
    let mut told = BTreeSet::new();
    for n in 0..TOP_UPS {
        match writer.call_blocking(a_top_up(n).into()) {
            Ok(Reply::ToppedUp { repeated: false, .. }) => told.insert(n),
            Ok(other) => panic!("{other:?}"),
            Err(_) => break,
        };
    }
    told
}

fn a_top_up(n: u64) -> Command {
    top_up(1_000 + n, n % PERSONS + 1, Fen(100 + n as i64))
}

fn deliver(writer: &Writer<HubMachine>, journal: &[Run]) -> Seq {
    let mut stored = Seq::ZERO;
    for run in journal {
        match writer.call_blocking(Command::Ingest(Box::new(run.clone())).into()) {
            Ok(Reply::Stored(JOURNAL, seq)) => stored = seq,
            Ok(other) => panic!("{other:?}"),
            Err(_) => break,
        }
    }
    stored
}

/// What a connection could have sent to the box: whatever a reader sees.
fn watch_receipts(path: &Path, options: &Options, seen: &AtomicU64, done: &AtomicBool) {
    let Ok(reader) = SqliteReader::open(path, options) else { return };
    while !done.load(Ordering::Relaxed) {
        if let Ok(held) = reader.feed(&RECEIPTS) {
            seen.fetch_max(held.end.seq.0, Ordering::Relaxed);
        }
    }
}

/// Starts on what the cut left.
fn look(path: &Path, said: &Said, journal: &[Run]) -> Result<(), String> {
    if !path.exists() {
        return if said.top_ups.is_empty() { Ok(()) } else { Err("the database is gone".into()) };
    }
    let store = SqliteStore::open(path, &store::options()).map_err(|e| e.to_string())?;
    let mut hub = hub(&store).ok_or("headquarters cannot start")?;
    books_add_up(&store)?;
    for feed in [JOURNAL, RECEIPTS] {
        chain_leads_to_its_end(&store, feed)?;
    }
    sales_are_booked_once(&store, said, journal)?;
    let receipts = store.feed(&RECEIPTS).map_err(|e| e.to_string())?.end.seq.0;
    if receipts < said.receipts {
        return Err(format!("a peer could read {} receipts, {receipts} are left", said.receipts));
    }
    let stamp = HubClock::after(0).stamp();
    let mut tx = Tx::new(&store);
    for n in &said.top_ups {
        let again = hub.handle(&mut tx, a_top_up(*n), stamp, &mut Vec::new(), &mut Vec::new());
        if !matches!(again, Ok(Reply::ToppedUp { repeated: true, .. })) {
            return Err(format!("top-up {n} was told, and after the cut it is {again:?}"));
        }
        let booked = count(store.connection(), "SELECT count(*) FROM transfers WHERE source = ?1", &source(*n));
        if booked != 1 {
            return Err(format!("top-up {n} was told and is booked {booked} times"));
        }
    }
    Ok(())
}

fn source(n: u64) -> [u8; 32] {
    core::top_up_source(&id_of(1_000 + n)).0
}

fn count(conn: &Connection, sql: &str, value: &[u8]) -> i64 {
    conn.query_row(sql, [value], |row| row.get(0)).unwrap()
}

/// Sums of transfers, sums kept by account, and wallets are one.
fn books_add_up(store: &SqliteStore) -> Result<(), String> {
    let conn = store.connection();
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(|e| e.to_string())?;
    let books = read::trial_balance(conn).map_err(|e| e.to_string())?;
    if check != "ok" || books.sum_fen != 0 || books.accounts_differing != 0 {
        return Err(format!("{check}: {books:?}"));
    }
    let mut kept: BTreeMap<String, i64> = BTreeMap::new();
    let mut accounts = conn.prepare("SELECT account, credits - debits FROM accounts").map_err(|e| e.to_string())?;
    let rows = accounts.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(|e| e.to_string())?;
    kept.extend(rows.map(Result::unwrap));
    for (account, balance) in core::balances(store).map_err(|e| e.to_string())? {
        let booked = kept.get(&account.to_string()).copied().unwrap_or_default();
        if booked != balance.0 {
            return Err(format!("{account}: booked {booked}, the wallets say {balance}"));
        }
    }
    outbox::position(conn).map(|_| ()).map_err(|e| e.to_string())
}

fn chain_leads_to_its_end(store: &SqliteStore, feed: FeedId) -> Result<(), String> {
    let held = store.feed(&feed).map_err(|e| e.to_string())?.end;
    let entries = store.entries(&feed, Seq(1), usize::MAX).map_err(|e| e.to_string())?;
    match entries.iter().fold(End::default(), |end, entry| feed::link(&feed, end, entry)) == held {
        true => Ok(()),
        false => Err(format!("the chain of {feed} does not lead to its end")),
    }
}

/// Every sale of the journal as held has its row, once; what the box was told is stored is held.
fn sales_are_booked_once(store: &SqliteStore, said: &Said, journal: &[Run]) -> Result<(), String> {
    let held = store.feed(&JOURNAL).map_err(|e| e.to_string())?.end.seq;
    if held < said.stored {
        return Err(format!("the box was told that {} is stored, {held} is held", said.stored));
    }
    let entries = journal.iter().flat_map(|run| &run.entries).take(held.0 as usize);
    let sold = entries.filter(|entry| matches!(Entry::decode(entry).unwrap().body, Body::Purchase(_))).count();
    let sql = "SELECT count(*) || ' ' || count(DISTINCT seq) FROM sales WHERE node = 1";
    let rows: String = store.connection().query_row(sql, [], |row| row.get(0)).map_err(|e| e.to_string())?;
    match rows == format!("{sold} {sold}") {
        true => Ok(()),
        false => Err(format!("{sold} sales are held, rows and places say {rows}")),
    }
}

fn operations(power: &PowerCut, journal: &[Run], synchronous: Synchronous) -> u64 {
    let whole = run(power, journal, synchronous, u64::MAX, 0);
    let said = whole.said;
    assert!(!whole.cut && said.top_ups.len() as u64 == TOP_UPS, "{} top-ups", said.top_ups.len());
    assert_eq!(said.stored, journal.last().unwrap().head.end.seq);
    power.operations()
}

fn a_journal() -> Vec<Run> {
    journal(&words_of_headquarters(), SALES, RUN_ENTRIES)
}

#[test]
fn what_headquarters_has_told_is_booked_once_after_every_power_cut() {
    let power = PowerCut::register("hub-full").unwrap();
    let journal = a_journal();
    let total = operations(&power, &journal, Synchronous::Full);
    let (mut happened, mut told, mut stored, mut receipts) = (0, 0, 0, 0);
    for n in 0..CUTS {
        let (operation, seed) = (n * total / CUTS, n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7);
        let outcome = run(&power, &journal, Synchronous::Full, operation, seed);
        assert_eq!(outcome.wrong, Ok(()), "cut before operation {operation}, seed {seed}");
        happened += u64::from(outcome.cut);
        told += outcome.said.top_ups.len();
        stored += outcome.said.stored.0;
        receipts += outcome.said.receipts;
    }
    let enough = happened > CUTS / 2 && told > 200 && stored > 200 && receipts > 50;
    assert!(enough, "{happened} cuts, {told} top-ups, {stored} entries, {receipts} receipts");
}

#[test]
fn without_synchronous_full_headquarters_forgets_what_it_told() {
    let power = PowerCut::register("hub-off").unwrap();
    let journal = a_journal();
    let total = operations(&power, &journal, Synchronous::OffForPowerCutTestOnly);
    let bad = (0..20).filter(|n| {
        let outcome = run(&power, &journal, Synchronous::OffForPowerCutTestOnly, total * (16 + n) / 40, *n);
        outcome.cut && outcome.wrong.is_err()
    });
    assert!(bad.count() > 0, "synchronous=OFF lost nothing: the layer does not drop unsynced writes");
}

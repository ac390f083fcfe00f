//! How fast doors are: the decision among 100,000 cards, swipe to relay, swipe to durable; the last two also while a
//! sibling's journal is caught up on the same writer thread.
//!
//! `cargo run --release -p yika-edge --example door_bench [-- --json]`. The board is simulated on a thread of its own,
//! over loopback; the limits are those of the issue that asked for doors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // a bench may panic and prints

#[allow(dead_code)] // a bench uses its own part of the rig
#[path = "../tests/doors/rig.rs"]
mod rig;

use ed25519_dalek::SigningKey;
use rig::*;
use serde_json::json;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::broadcast::Receiver;
use yika_crdt::Fen;
use yika_crdt::access::{Door, Group, GroupId, Interval, Policy, Schedule, ScheduleId};
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::edge::{Command, Reply};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, Run, SignedHead};
use yika_crdt::ids::*;
use yika_drivers::modbus::frame::Framing;
use yika_drivers::modbus::simulator::{BoardChange, BoardSimulator, SimulatedBoard};
use yika_edge::node::EdgeNode;

const CARDS: u64 = 100_000;
const DOORS: u32 = 32;
const GROUPS: u16 = 200;
const BLOCKS: u64 = 2_000;
const DECISIONS: usize = 1_000_000;
const SWIPES: usize = 1_000;
/// Between two swipes: the rate of a busy campus at shift change.
const PACE_MS: u64 = 20;
const PULSE_MS: u32 = 200;
/// Entries of one run of the sibling's journal.
const RUN_ENTRIES: u32 = 1_000;
const SIBLING: Writer = Writer { node: NodeId(2), incarnation: LIFE };

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let fsync_us = fdatasync_us(dir.path());
    let (board, address) = board();
    let doors: Vec<_> = (1..=DOORS).map(|n| json!({"door": n, "relay": n})).collect();
    let config = config(tcp(address), json!({"relays": DOORS, "inputs": 0, "doors": doors, "fire": null}));
    let mut rig = Rig::at(dir.path(), &config, HubVoice::default(), true).await;
    enrol_sibling(&mut rig).await;
    fill(&rig);
    while !rig.doors.list().iter().all(|view| view.line == yika_edge::doors::LineState::Up) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut rows = vec![row("decision, 100,000 cards", decisions(&rig), 0.0, 2.0)];
    let quiet = swipes(&rig, &board).await;
    let end = Arc::new(AtomicBool::new(false));
    let caught_up = Arc::new(AtomicU64::new(0));
    // On a thread of its own: making the sibling's runs is not the edge's work and must not hold its tasks up.
    let (feeding, runtime) =
        (catch_up(Arc::clone(&rig.node), Arc::clone(&end), Arc::clone(&caught_up)), Handle::current());
    let import = std::thread::spawn(move || runtime.block_on(feeding));
    let started = Instant::now();
    let busy = swipes(&rig, &board).await;
    let rate = caught_up.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    end.store(true, Ordering::Relaxed);
    import.join().unwrap();
    for (what, times) in [("quiet", quiet), ("during catch-up", busy)] {
        rows.push(row(&format!("swipe to relay, {what}"), times.relay, 500.0, 2_000.0));
        rows.push(row(&format!("swipe to durable, {what}"), times.durable, 0.0, 20_000.0));
    }
    tell(&rows, fsync_us, rate);
    rig.down().await;
}

struct Row {
    what: String,
    p50_us: f64,
    p99_us: f64,
    limits_us: (f64, f64),
}

fn row(what: &str, mut nanos: Vec<u64>, p50_limit_us: f64, p99_limit_us: f64) -> Row {
    nanos.sort_unstable();
    let at = |part: f64| nanos[((nanos.len() - 1) as f64 * part) as usize] as f64 / 1_000.0;
    Row { what: what.to_owned(), p50_us: at(0.5), p99_us: at(0.99), limits_us: (p50_limit_us, p99_limit_us) }
}

fn tell(rows: &[Row], fsync_us: f64, rate: f64) {
    if std::env::args().any(|argument| argument == "--json") {
        let rows: Vec<_> = rows
            .iter()
            .map(|r| json!({"what": r.what, "p50_us": r.p50_us, "p99_us": r.p99_us, "p99_limit_us": r.limits_us.1}))
            .collect();
        println!("{}", json!({"rows": rows, "fdatasync_p50_us": fsync_us, "caught_up_per_second": rate}));
        return;
    }
    println!("{:<36} {:>10} {:>10} {:>12} {:>12}", "µs", "p50", "p99", "p50 limit", "p99 limit");
    for r in rows {
        let limit = |us: f64| if us > 0.0 { format!("{us:.0}") } else { "-".to_owned() };
        let verdict = if r.p99_us <= r.limits_us.1 { "" } else { "  MISSED" };
        let (first, second) = (limit(r.limits_us.0), limit(r.limits_us.1));
        println!("{:<36} {:>10.2} {:>10.2} {first:>12} {second:>12}{verdict}", r.what, r.p50_us, r.p99_us);
    }
    println!("one 4 KiB overwrite + fdatasync: p50 {fsync_us:.0} µs; caught up meanwhile: {rate:.0} entries/s");
}

/// The disk's own speed, in the same run.
fn fdatasync_us(dir: &Path) -> f64 {
    let file = std::fs::File::create(dir.join("fdatasync")).unwrap();
    let times = (0..500).map(|_| {
        let started = Instant::now();
        file.write_all_at(&[7; 4_096], 0).unwrap();
        file.sync_data().unwrap();
        started.elapsed().as_nanos() as u64
    });
    row("", times.collect(), 0.0, 0.0).p50_us
}

/// A board without contacts on a thread and runtime of its own, as a device would be.
fn board() -> (BoardSimulator, std::net::SocketAddr) {
    let sim = BoardSimulator::new(SimulatedBoard { relays: 64, doors: Vec::new(), ..SimulatedBoard::default() });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let server = sim.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            server.serve_tcp(listener, Framing::Tcp).await.unwrap();
        });
    });
    (sim, address)
}

/// People in three groups each, doors in every group by schedules with holidays, some cards blocked.
fn fill(rig: &Rig) {
    let doors = (1..=DOORS).map(|n| {
        let areas = ("外".into(), "内".into());
        let device = format!("modbus:board1/{n}");
        (DoorId(n), Door { name: format!("门{n}"), areas, pulse_ms: PULSE_MS, held_open_ms: 15_000, device })
    });
    let day = vec![(0, 480), (480, 960), (960, 1440)];
    let day: Vec<_> =
        day.into_iter().map(|(from_minute, until_minute)| Interval { from_minute, until_minute }).collect();
    let week = std::array::from_fn(|_| day.clone());
    let schedule = Schedule { name: "时段".into(), week, holidays: Default::default() };
    let schedules = (1..=50).map(|n| (ScheduleId(n), schedule.clone())).collect();
    let group = |n: u16| {
        let doors = (1..=DOORS).map(|d| (DoorId(d), ScheduleId(1 + (d as u16 + n) % 50))).collect();
        let members = (0..CARDS).filter(|card| (0..3).any(|k| (card * 7 + k * 61) % u64::from(GROUPS) == u64::from(n)));
        let members = members.map(|card| holder(CardNumber(card))).collect();
        (GroupId(n), Group { name: format!("组{n}"), doors, members })
    };
    let holidays = (0..32).map(|n| (Day(20_000 + n * 11), 1)).collect();
    let doors = doors.collect();
    rig.set_policy(Policy {
        campus: Some(CAMPUS),
        doors,
        schedules,
        groups: (0..GROUPS).map(group).collect(),
        holidays,
    });
    let mut people = rig.node.people.write();
    for card in 0..CARDS {
        people.put(&person(CardNumber(card)), None);
    }
    for n in 0..BLOCKS {
        let hash = feed::Hash([n as u8; 32]);
        people.block(BlockTarget::Card(CardNumber(CARDS + n)), hash, yika_crdt::channel::BlockScope::Hub);
    }
}

/// Cards in an order that no cache foresees.
fn cards() -> impl Iterator<Item = CardNumber> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        CardNumber(state % CARDS)
    })
}

fn decisions(rig: &Rig) -> Vec<u64> {
    let readers: Vec<_> = (1..=DOORS).map(|n| reader(DoorId(n))).collect();
    let asked = cards().zip(readers.iter().cycle());
    let times = asked.take(DECISIONS).map(|(card, reader)| {
        let started = Instant::now();
        let answer = rig.doors.decide(reader, card);
        let took = started.elapsed().as_nanos() as u64;
        assert_eq!(answer, Ok(holder(card)));
        took
    });
    times.collect()
}

struct Times {
    relay: Vec<u64>,
    durable: Vec<u64>,
}

async fn swipes(rig: &Rig, board: &BoardSimulator) -> Times {
    let mut times = Times { relay: Vec::new(), durable: Vec::new() };
    let own = FeedId { writer: ME, channel: Channel::Journal };
    for (turn, card) in cards().take(SWIPES).enumerate() {
        let door = DoorId(1 + turn as u32 % DOORS);
        // Anew each time: what belongs to the swipe before is not taken for this one's.
        let (mut relays, mut grown) = (board.subscribe(), rig.node.ears().grown.subscribe());
        let started = Instant::now();
        let swiped = async {
            assert_eq!(rig.doors.swipe(&reader(door), card).await, Ok(holder(card)));
        };
        let (relay, durable) = (relay_on(&mut relays, door), feed_grown(&mut grown, own));
        let ((), relay, durable) = tokio::join!(swiped, relay, durable);
        times.relay.push((relay - started).as_nanos() as u64);
        times.durable.push((durable - started).as_nanos() as u64);
        tokio::time::sleep(Duration::from_millis(PACE_MS)).await;
    }
    times
}

async fn relay_on(relays: &mut Receiver<BoardChange>, door: DoorId) -> Instant {
    let wanted = BoardChange::Relay { relay: door.0 as u16, on: true };
    while relays.recv().await.unwrap() != wanted {}
    Instant::now()
}

async fn feed_grown(grown: &mut Receiver<FeedId>, own: FeedId) -> Instant {
    while grown.recv().await.unwrap() != own {}
    Instant::now()
}

fn sibling_key() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

async fn enrol_sibling(rig: &mut Rig) {
    let key = sibling_key().verifying_key().to_bytes();
    let record = NodeRecord { writer: SIBLING, campus: Some(CAMPUS), key, name: "n2".into(), address: None };
    let run = rig.hub.say(Channel::Registry, vec![Body::Node(record)]);
    assert!(matches!(rig.node.call(run).await, Ok(Reply::Stored(..))));
}

/// A sibling's journal of sales, run after run, as after an outage.
async fn catch_up(node: Arc<EdgeNode>, end: Arc<AtomicBool>, stored: Arc<AtomicU64>) {
    let feed = FeedId { writer: SIBLING, channel: Channel::Journal };
    let mut held = End::default();
    let mut seq = 0;
    while !end.load(Ordering::Relaxed) {
        let entries: Vec<_> = (0..RUN_ENTRIES).map(|n| sale(seq + n).encode()).collect();
        seq += RUN_ENTRIES;
        let from = held.seq.next();
        held = entries.iter().fold(held, |end, entry| feed::link(&feed, end, entry));
        let run = Run { from, entries, head: SignedHead::sign(feed, held, &sibling_key()) };
        let reply = node.call(Command::Ingest(Box::new(run))).await;
        assert!(matches!(reply, Ok(Reply::Stored(..))), "{reply:?}");
        stored.fetch_add(u64::from(RUN_ENTRIES), Ordering::Relaxed);
    }
}

fn sale(seq: u32) -> Entry {
    let id = PurchaseId { terminal: TerminalId(20), boot: 1, seq: seq + 1 };
    let record = PurchaseRecord {
        id,
        card: CardNumber(u64::from(seq) % CARDS),
        person: holder(CardNumber(u64::from(seq) % CARDS)),
        category: CategoryId(1),
        outlet: OutletId(1),
        merchant: MerchantId(1),
        mode: Mode::Fixed,
        tariff: TariffVersion(1),
        period: None,
        price: Fen(1_200),
        adjustment: Fen(0),
        paid: vec![(Source::Wallet(WalletKey::Main), Fen(1_200))],
        balance: Fen(5_000),
        offline: false,
        terminal_time_ms: NOON_MS,
        day: Day(20_781),
    };
    let stamp = Stamp { hub_time_ms: NOON_MS + i64::from(seq), boot: 1, mono_ms: u64::from(seq) };
    Entry { stamp, body: Body::Purchase(record) }
}

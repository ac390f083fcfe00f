//! Doors: the decision among 100,000 cards, swipe to relay, swipe to durable; the last two also while a sibling's journal
//! and an import of people are taken in on the same writer thread.
//!
//! The board is simulated on a thread of its own, over loopback.

use crate::rig::{self, HUB, HubVoice, LIFE, ME, NOON_MS, Rig, holder, reader};
use crate::size::Size;
use crate::table::{Row, Times, nanos};
use anyhow::Result;
use ed25519_dalek::SigningKey;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::broadcast::Receiver;
use yika_crdt::Fen;
use yika_crdt::access::{Access, Door, Group, GroupId, Interval, Policy, PolicyIndex, Schedule, ScheduleId};
use yika_crdt::channel::{BlockScope, Channel, FeedId};
use yika_crdt::documents::{PersonChange, chunks};
use yika_crdt::edge::{Command, Reply};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::people::BlockPlace;
use yika_crdt::person::Person;
use yika_crdt::store::{Read, Store, Tx};
use yika_crdt::sync::RUN_BYTES_MAX;
use yika_drivers::modbus::frame::Framing;
use yika_drivers::modbus::simulator::{BoardChange, BoardSimulator, SimulatedBoard};
use yika_edge::doors::{Doors, DoorsConfig, LineState};
use yika_edge::node::EdgeNode;
use yika_hub::core::{Command as HubCommand, Hub, Identity};
use yika_store::{Options, SqliteStore};

const CARDS: Size<u64> = Size(100_000, 1_000);
const DOORS: u32 = 32;
const GROUPS: u64 = 200;
const BLOCKS: u64 = 2_000;
const DECISIONS: Size<usize> = Size(1_000_000, 2_000);
const SWIPES: Size<usize> = Size(500, 30);
/// Between two swipes: the rate of a busy campus at shift change.
const PACE_MS: u64 = 20;
const PULSE_MS: u32 = 200;
/// Entries of one run of the sibling's journal.
const RUN_ENTRIES: u32 = 1_000;
const SIBLING: Writer = Writer { node: NodeId(2), incarnation: LIFE };
/// Cards of imported people lie above those that swipe.
const IMPORTED_FROM: u64 = 1_000_000;
/// Making them takes long.
const IMPORTED: Size<u64> = Size(200_000, 20_000);
/// Between two runs of it: several times as fast as headquarters can import, and slow enough to be swiped beside.
const IMPORT_PACE: Duration = Duration::from_millis(40);
/// Swipes after which it is looked whether there is still food.
const SWIPES_AT_ONCE: usize = 5;
/// Fewer say nothing.
const SWIPES_MIN: usize = 25;

pub async fn rows() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let (board, address) = board();
    let mut rig = Rig::at(dir.path(), &config(address), HubVoice::default(), true).await;
    enrol_sibling(&mut rig).await;
    fill(&rig.node);
    line_up(&rig.doors).await;
    let decided = decisions(&rig);
    let mut rows = vec![Row::new("door decision, 100,000 cards, full rules").times(&decided).most(
        "p99 ≤ 2 µs",
        decided.p99(),
        2.0,
    )];
    let cards = at_doors(cards().take(SWIPES.get()));
    rows.extend(swipe_rows("quiet", swipes(&rig.node, &rig.doors, &board, &cards).await, ""));
    let (busy, rate) = while_fed(&rig, &board, &cards, Feeding::Journal).await;
    rows.extend(swipe_rows("during a catch-up", busy, &format!("{rate:.0} entries of a sibling's journal a second")));
    let people = import_runs(&dir.path().join("import.db"))?;
    let (busy, rate) = while_fed(&rig, &board, &cards, Feeding::People(people)).await;
    rows.extend(swipe_rows("during an import", busy, &format!("{rate:.0} people a second")));
    rig.down().await;
    Ok(rows)
}

/// Relay and journal of a series of swipes, against their limits.
pub fn swipe_rows(when: &str, swiped: Swiped, note: &str) -> [Row; 2] {
    let (relay, durable) = (Times::new(swiped.relay), Times::new(swiped.durable));
    [
        Row::new(format!("swipe to relay, {when}"))
            .times(&relay)
            .most("p50 ≤ 0.5 ms", relay.p50(), 500.0)
            .most("p99 ≤ 2 ms", relay.p99(), 2e3)
            .note(note),
        Row::new(format!("swipe to durable, {when}")).times(&durable).most("p99 ≤ 20 ms", durable.p99(), 2e4),
    ]
}

/// The line with the board, and its 32 doors.
pub fn config(address: SocketAddr) -> DoorsConfig {
    let doors: Vec<_> = (1..=DOORS).map(|n| json!({"door": n, "relay": n})).collect();
    rig::config(rig::tcp(address), json!({"relays": DOORS, "inputs": 0, "doors": doors, "fire": null}))
}

/// A board without contacts on a thread and runtime of its own, as a device would be.
pub fn board() -> (BoardSimulator, SocketAddr) {
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

/// Waits until the board is heard.
pub async fn line_up(doors: &Doors) {
    while !doors.list().iter().all(|view| view.line == LineState::Up) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Everybody in up to three groups, every door in every group, schedules with holidays.
pub fn set_policy(node: &EdgeNode, everybody: &[PersonId]) {
    let doors = (1..=DOORS).map(|n| {
        let areas = ("外".into(), "内".into());
        let device = format!("modbus:board1/{n}");
        (DoorId(n), Door { name: format!("门{n}"), areas, pulse_ms: PULSE_MS, held_open_ms: 15_000, device })
    });
    let day = [(0, 480), (480, 960), (960, 1440)];
    let day = day.map(|(from_minute, until_minute)| Interval { from_minute, until_minute }).to_vec();
    let week = std::array::from_fn(|_| day.clone());
    let schedule = Schedule { name: "时段".into(), week, holidays: Default::default() };
    let group = |n: u64| {
        let doors = (1..=DOORS).map(|d| (DoorId(d), ScheduleId(1 + (d as u16 + n as u16) % 50))).collect();
        let within = |index: &usize| (0..3).any(|k| (*index as u64 * 7 + k * 61) % GROUPS == n);
        let members = (0..everybody.len()).filter(within).map(|index| everybody[index]).collect();
        (GroupId(n as u16), Group { name: format!("组{n}"), doors, members })
    };
    let policy = Policy {
        campus: node.place().campus,
        doors: doors.collect(),
        schedules: (1..=50).map(|n| (ScheduleId(n), schedule.clone())).collect(),
        groups: (0..GROUPS).map(group).collect(),
        holidays: (0..32).map(|n| (Day(20_000 + n * 11), 1)).collect(),
    };
    node.access.replace(Access { index: PolicyIndex::build(&policy), doors: policy.doors });
}

/// People with a card each, all of whom may pass; some other cards blocked.
fn fill(node: &EdgeNode) {
    set_policy(node, &(0..CARDS.get()).map(|card| holder(CardNumber(card))).collect::<Vec<_>>());
    let mut people = node.people.write();
    for card in 0..CARDS.get() {
        people.put(&rig::person(CardNumber(card)), None);
    }
    for n in 0..BLOCKS {
        let hash = feed::Hash([n as u8; 32]);
        let feed = FeedId { writer: ME, channel: Channel::Blocks(BlockScope::Hub) };
        people.block(BlockTarget::Card(CardNumber(CARDS.get() + n)), hash, BlockPlace { feed, seq: Seq(n) });
    }
}

/// Cards in an order that no cache foresees.
fn cards() -> impl Iterator<Item = CardNumber> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        CardNumber(state % CARDS.get())
    })
}

fn decisions(rig: &Rig) -> Times {
    let readers: Vec<_> = (1..=DOORS).map(|n| reader(DoorId(n))).collect();
    let asked = cards().zip(readers.iter().cycle());
    let times = asked.take(DECISIONS.get()).map(|(card, reader)| {
        let started = Instant::now();
        let answer = rig.doors.decide(reader, card);
        let took = nanos(started);
        assert_eq!(answer, Ok(holder(card)));
        took
    });
    Times::new(times.collect())
}

/// Nanoseconds from each swipe to the relay, and to the journal.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Swiped {
    pub relay: Vec<u64>,
    pub durable: Vec<u64>,
}

/// Each card at the next door: one that is still open would not be seen to open again.
pub fn at_doors(cards: impl Iterator<Item = CardNumber>) -> Vec<(DoorId, CardNumber)> {
    (1..=DOORS).map(DoorId).cycle().zip(cards).collect()
}

/// One card after the other; all of them must be let in.
pub async fn swipes(node: &EdgeNode, doors: &Doors, board: &BoardSimulator, cards: &[(DoorId, CardNumber)]) -> Swiped {
    let mut swiped = Swiped::default();
    let own = FeedId { writer: node.writer(), channel: Channel::Journal };
    let campus = node.place().campus.unwrap();
    for &(door, card) in cards {
        let reader = TerminalRecord { campus, ..reader(door) };
        // Anew each time: what belongs to the swipe before is not taken for this one's.
        let (mut relays, mut grown) = (board.subscribe(), node.ears().grown.subscribe());
        let started = Instant::now();
        let answered = async {
            doors.swipe(&reader, card).await.unwrap_or_else(|reason| panic!("{card} at {door}: {reason:?}"));
        };
        let (relay, durable) = (relay_on(&mut relays, door), feed_grown(&mut grown, own));
        let ((), relay, durable) = tokio::join!(answered, relay, durable);
        swiped.relay.push((relay - started).as_nanos() as u64);
        swiped.durable.push((durable - started).as_nanos() as u64);
        tokio::time::sleep(Duration::from_millis(PACE_MS)).await;
    }
    swiped
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

/// What the box takes in meanwhile.
enum Feeding {
    Journal,
    People(Vec<Run>),
}

/// Swipes while runs come in as fast as they are taken; and how much came in a second.
async fn while_fed(
    rig: &Rig,
    board: &BoardSimulator,
    cards: &[(DoorId, CardNumber)],
    feeding: Feeding,
) -> (Swiped, f64) {
    let (end, stored) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (node, ended, counted) = (Arc::clone(&rig.node), Arc::clone(&end), Arc::clone(&stored));
    let runtime = Handle::current();
    // On a thread of its own: making runs is not the edge's work and must not hold its tasks up.
    let feeder = std::thread::spawn(move || match feeding {
        Feeding::Journal => runtime.block_on(feed_journal(node, ended, counted)),
        Feeding::People(runs) => runtime.block_on(feed_people(node, runs, ended, counted)),
    });
    let started = Instant::now();
    let mut swiped = Swiped::default();
    for some in cards.chunks(SWIPES_AT_ONCE) {
        let part = swipes(&rig.node, &rig.doors, board, some).await;
        // What came after the last of the food was not while it was fed.
        if feeder.is_finished() {
            break;
        }
        swiped.relay.extend(part.relay);
        swiped.durable.extend(part.durable);
    }
    assert!(swiped.relay.len() >= SWIPES_MIN, "{} swipes while it was fed: feed more", swiped.relay.len());
    let rate = stored.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    end.store(true, Ordering::Relaxed);
    feeder.join().unwrap();
    (swiped, rate)
}

fn sibling_key() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

fn campus() -> CampusRecord {
    let name = "一号校区".into();
    CampusRecord { campus: rig::CAMPUS, name, utc_offset_minutes: 480, cut_minute: 180, people_shards: 256 }
}

async fn enrol_sibling(rig: &mut Rig) {
    let key = sibling_key().verifying_key().to_bytes();
    let record = NodeRecord { writer: SIBLING, campus: Some(rig::CAMPUS), key, name: "n2".into(), address: None };
    let run = rig.hub.say(Channel::Registry, vec![Body::Campus(campus()), Body::Node(record)]);
    assert!(matches!(rig.node.call(run).await, Ok(Reply::Stored(..))));
}

/// A sibling's journal of sales, run after run, as after an outage.
async fn feed_journal(node: Arc<EdgeNode>, end: Arc<AtomicBool>, stored: Arc<AtomicU64>) {
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
    let card = CardNumber(u64::from(seq) % CARDS.get());
    let record = PurchaseRecord {
        id,
        card,
        person: holder(card),
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

async fn feed_people(node: Arc<EdgeNode>, runs: Vec<Run>, end: Arc<AtomicBool>, stored: Arc<AtomicU64>) {
    let before = node.people.read().counts().0;
    for run in runs {
        if end.load(Ordering::Relaxed) {
            return;
        }
        let reply = node.call(Command::Ingest(Box::new(run))).await;
        assert!(matches!(reply, Ok(Reply::Stored(..))), "{reply:?}");
        stored.store((node.people.read().counts().0 - before) as u64, Ordering::Relaxed);
        tokio::time::sleep(IMPORT_PACE).await;
    }
}

/// What headquarters would send of an import, made by its own core.
fn import_runs(path: &Path) -> Result<Vec<Run>> {
    let mut store = SqliteStore::open(path, &Options::default())?;
    let mut hub = Hub::load(&store, Identity { me: HUB, key: HubVoice::key() })?;
    let mut say = |command: HubCommand| -> Result<()> {
        let stamp = Stamp { hub_time_ms: NOON_MS, boot: 1, mono_ms: 1 };
        let mut tx = Tx::new(&store);
        hub.handle(&mut tx, command, stamp, &mut Vec::new(), &mut Vec::new())?;
        let batch = tx.into_batch();
        store.commit(&batch)?;
        hub.committed();
        Ok(())
    };
    let key = HubVoice::key().verifying_key().to_bytes();
    let record = |writer, campus| NodeRecord { writer, campus, key, name: "n".into(), address: None };
    let bodies = [Body::Node(record(HUB, None)), Body::Campus(campus()), Body::Node(record(ME, Some(rig::CAMPUS)))];
    for body in bodies {
        say(HubCommand::Registry(Box::new(body)))?;
    }
    let person =
        |n: u64| Person { person: PersonId(IMPORTED_FROM * 10 + n), ..rig::person(CardNumber(IMPORTED_FROM + n)) };
    let acts: Vec<_> = (0..IMPORTED.get()).map(|n| PersonChange::add(person(n))).collect();
    let mesh = yika_crdt::mesh::Mesh::load(&SqliteStore::open(path, &Options::default())?, HUB, hub_place())?;
    for acts in chunks(&mesh, acts) {
        say(HubCommand::People { operator: OperatorId(1), moves: Default::default(), acts })?;
    }
    let feed = FeedId { writer: HUB, channel: Channel::People(rig::CAMPUS) };
    let (mut runs, mut end) = (Vec::new(), End::default());
    loop {
        let from = end.seq.next();
        let entries = store.entries(&feed, from, RUN_BYTES_MAX)?;
        if entries.is_empty() {
            return Ok(runs);
        }
        end = entries.iter().fold(end, |end, entry| feed::link(&feed, end, entry));
        runs.push(Run { from, entries, head: SignedHead::sign(feed, end, &HubVoice::key()) });
    }
}

fn hub_place() -> yika_crdt::channel::Place {
    yika_crdt::channel::Place { node: NodeId::HUB, campus: None }
}

//! How cost grows: with the people at a box, with the boxes of a campus, with the days of sales that both keep.
//!
//! Each size of people and boxes is a process of its own, so that memory is that of one size. A figure's ratio is to that of
//! the smallest size; what must not grow with the size has its limit in the row.

use crate::campus::{Campus, FIRST_CARD, Hub as Voice, TILL};
use crate::catch_up::{CAMPUS, TILLS, enrich, furnish, journal_of};
use crate::doors;
use crate::host::{Child, HubAt, Order};
use crate::rig::reader;
use crate::size::Size;
use crate::table::{Row, Times, memory_kib, nanos, written_bytes};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use yika_crdt::Fen;
use yika_crdt::entry::{Body, CampusRecord, Mode};
use yika_crdt::ids::*;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_crdt::sale::{Answer, PurchaseRequest};
use yika_hub::core::{Command, Reply, Teller};
use yika_hub::identity::HubIdentity;
use yika_hub::node::HubNode;
use yika_tests::process::Launch;

const PEOPLE: Size<[u64; 4]> = Size([1_000, 10_000, 100_000, 1_000_000], [50, 100, 200, 400]);
const BOXES: [u64; 3] = [1, 10, 50];
const DAYS: [u32; 3] = [1, 30, 90];
/// Of one day at one box.
const SALES_A_DAY: Size<u32> = Size(5_000, 40);
/// Of the outage that is caught up with after those days.
const OUTAGE: Size<u32> = Size(20_000, 100);
const RIGHT_FEN: i64 = 10_000_000;
const SALES: Size<u32> = Size(4_000, 20);
const DECISIONS: Size<u64> = Size(200_000, 200);
const TOP_UPS: Size<u32> = Size(500, 20);
/// A million people take their time to be made.
const BOUND: Duration = Duration::from_secs(900);
/// Twice as dear at a thousand times the size is what a tree that is a level or two deeper costs.
const SLACK: f64 = 2.0;

pub async fn rows() -> Result<Vec<Row>> {
    let mut rows = people().await?;
    rows.extend(boxes().await?);
    rows.extend(days().await?);
    Ok(rows)
}

/// A part of this program in a process of its own; what it found.
async fn child<T: serde::de::DeserializeOwned>(part: &str, dir: &Path, size: u64) -> Result<T> {
    std::fs::create_dir_all(dir)?;
    let launch = Launch::program(std::env::current_exe()?)?.name(part).args(&["--part", part]);
    let mut process = launch.arg(dir).arg(size.to_string()).start().await?;
    let line = process.wait_for_output("\"found\"", BOUND).await?;
    let Found { found } = serde_json::from_str(line.trim())?;
    Ok(found)
}

#[derive(Serialize, Deserialize)]
struct Found<T> {
    found: T,
}

fn tell(found: impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(&Found { found })?);
    Ok(())
}

/// A box with so many people.
#[derive(Serialize, Deserialize)]
struct Peopled {
    purchase_us: (f64, f64),
    decision_us: (f64, f64),
    disk_bytes: u64,
}

/// The same box started again.
#[derive(Serialize, Deserialize)]
struct Again {
    start_ms: f64,
    resident_kib: u64,
}

async fn people() -> Result<Vec<Row>> {
    let (mut rows, mut first) = (Vec::new(), None);
    for count in PEOPLE.get() {
        let dir = tempfile::tempdir()?;
        let made: Peopled = child("growth-people", dir.path(), count).await?;
        let again: Again = child("growth-again", dir.path(), count).await?;
        let (purchase, decision) = *first.get_or_insert((made.purchase_us.0, made.decision_us.0));
        let name = |what: &str| format!("{what}, {count} people at the box");
        let row = |what: &str, (p50, p99): (f64, f64), least: f64| {
            let ratio = p50 / least;
            Row::new(name(what)).us(p50, p99).ratio(ratio, "1,000 people")
        };
        rows.push(row("purchase, 1 in flight", made.purchase_us, purchase).most(
            "≤ 2 × that of 1,000",
            made.purchase_us.0 / purchase,
            SLACK,
        ));
        rows.push(row("door decision", made.decision_us, decision));
        let each = made.disk_bytes as f64 / count as f64;
        let note = format!("{:.0} MiB resident, {each:.0} bytes on disk each", again.resident_kib as f64 / 1024.0);
        rows.push(Row::new(name("start")).value(again.start_ms, "ms").note(note));
    }
    Ok(rows)
}

/// Makes a box with so many people, sells and decides.
pub async fn serve_people(dir: &Path, count: u64) -> Result<()> {
    let campus = Campus::new(dir, count, RIGHT_FEN, 1).await;
    let purchase = purchases(&campus, count).await?;
    doors::set_policy(&campus.node, &(1..=count).map(PersonId).collect::<Vec<_>>());
    let decision = decisions(&campus, count);
    let disk_bytes = std::fs::metadata(dir.join("edge.db"))?.len();
    let of = |times: Times| (times.p50(), times.p99());
    tell(Peopled { purchase_us: of(purchase), decision_us: of(decision), disk_bytes })
}

/// One after the other, by people far apart.
async fn purchases(campus: &Campus, count: u64) -> Result<Times> {
    let mut times = Vec::new();
    for seq in 1..=SALES.get() {
        let request = PurchaseRequest {
            id: PurchaseId { terminal: TerminalId(TILL), boot: 1, seq },
            card: card_of(u64::from(seq), count),
            mode: Mode::Amount(Fen(100)),
            terminal_time_ms: campus.node.time().0,
            offline: false,
            tariff: None,
        };
        let started = Instant::now();
        let answer = campus.node.purchase(request).await?;
        times.push(nanos(started));
        anyhow::ensure!(matches!(answer, Answer::Approved(_)), "{answer:?}");
    }
    Ok(Times::new(times))
}

fn decisions(campus: &Campus, count: u64) -> Times {
    let at = reader(DoorId(1));
    let times = (0..DECISIONS.get()).map(|turn| {
        let card = card_of(turn, count);
        let started = Instant::now();
        let answer = campus.doors.decide(&at, card);
        let took = nanos(started);
        assert!(answer.is_ok(), "{card}: {answer:?}");
        took
    });
    Times::new(times.collect())
}

/// Each turn another, in an order that no cache foresees.
fn card_of(turn: u64, count: u64) -> CardNumber {
    CardNumber(FIRST_CARD + 1 + turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) % count)
}

/// Starts the box of a folder.
pub async fn serve_again(dir: &Path) -> Result<()> {
    let started = Instant::now();
    let _campus = Campus::start(dir, Voice::new(1)).await;
    let start_ms = nanos(started) as f64 / 1e6;
    tell(Again { start_ms, resident_kib: memory_kib(std::process::id(), "VmRSS")? })
}

/// A headquarters whose campus has so many boxes.
#[derive(Serialize, Deserialize)]
struct Boxed {
    top_up_us: (f64, f64),
    bytes: f64,
}

async fn boxes() -> Result<Vec<Row>> {
    let (mut rows, mut first) = (Vec::new(), None);
    for count in BOXES {
        let dir = tempfile::tempdir()?;
        let made: Boxed = child("growth-boxes", dir.path(), count).await?;
        let (p50, p99) = made.top_up_us;
        let ratio = p50 / *first.get_or_insert(p50);
        let row =
            Row::new(format!("top-up, boxes on the campus: {count}")).us(p50, p99).value(made.bytes, "bytes written");
        let linear = count as f64 / BOXES[0] as f64;
        rows.push(row.ratio(ratio, "1 box").most("not faster than the boxes", ratio, linear.max(1.0)));
    }
    Ok(rows)
}

/// Money paid in for people whose campus has so many boxes, each of which gets its share.
pub fn serve_boxes(dir: &Path, count: u64) -> Result<()> {
    HubIdentity::init(dir, "总部")?;
    let (node, _thread) = HubNode::start(&HubIdentity::load(dir)?, dir)?;
    let campus = CampusRecord {
        campus: CAMPUS,
        name: "东校区".into(),
        utc_offset_minutes: 480,
        cut_minute: 180,
        people_shards: 4,
    };
    node.call_blocking(Command::Registry(Box::new(Body::Campus(campus))))?;
    for n in 0..count {
        let writer = enrol(&node, n)?;
        node.call_blocking(Command::Connected(writer))?;
    }
    let people = enter(&node)?;
    let before = written_bytes()?;
    let mut times = Vec::new();
    for (n, person) in people.into_iter().enumerate() {
        let mut id = [1; 32];
        id[..8].copy_from_slice(&n.to_le_bytes());
        let by = Teller { operator: OperatorId(1), shift: 1 };
        let started = Instant::now();
        let id = yika_crdt::feed::Hash(id);
        let reply = node.call_blocking(Command::TopUp { id, person, amount: Fen(20_000), by })?;
        times.push(nanos(started));
        anyhow::ensure!(matches!(reply, Reply::ToppedUp { .. }), "{reply:?}");
    }
    let (times, bytes) = (Times::new(times), (written_bytes()? - before) as f64 / f64::from(TOP_UPS.get()));
    tell(Boxed { top_up_us: (times.p50(), times.p99()), bytes })
}

fn enrol(node: &HubNode, n: u64) -> Result<Writer> {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&n.to_le_bytes());
    let row = yika_hub::core::enrol::TokenRow { campus: CAMPUS, expires_ms: i64::MAX, replaces: None, used: None };
    node.call_blocking(Command::CreateToken { hash, row })?;
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    let key = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    match node.call_blocking(Command::Redeem { hash, key, name: format!("box {n}") })? {
        Reply::Redeemed(Ok((used, _))) => Ok(used.writer),
        other => anyhow::bail!("{other:?}"),
    }
}

fn enter(node: &HubNode) -> Result<Vec<PersonId>> {
    let Reply::PersonIds(first) = node.call_blocking(Command::PersonIds(TOP_UPS.get()))? else {
        anyhow::bail!("no numbers for people");
    };
    let ids: Vec<_> = (0..u64::from(TOP_UPS.get())).map(|n| PersonId(first.0 + n)).collect();
    let acts = ids.iter().map(|id| yika_crdt::documents::PersonChange::add(person(*id))).collect();
    node.call_blocking(Command::People { operator: OperatorId(1), moves: Default::default(), acts })?;
    Ok(ids)
}

fn person(person: PersonId) -> Person {
    let number = CardNumber(FIRST_CARD + person.0);
    Person {
        person,
        home: CAMPUS,
        name: format!("测试员{}", person.0),
        staff_number: format!("{:06}", person.0),
        category: CategoryId(1),
        status: PersonStatus::Active,
        valid: (None, None),
        cards: vec![Card { number, uid: None, state: CardState::Active, valid_until: None }],
        id_hash: [0; 16],
    }
}

async fn days() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let (at, box_dir) = (HubAt::new(&dir.path().join("hub"))?, dir.path().join("box"));
    let mut hub = at.start().await?;
    furnish(&at, TILLS).await?;
    let mut edge = at.join(CAMPUS, &box_dir).await?;
    let cards = enrich(&at, &mut hub, &mut edge, dir.path()).await?;
    let (mut rows, mut sold, mut first) = (Vec::new(), 0, None);
    for days in DAYS {
        (hub, _) = outage(&at, hub, &mut edge, &cards, days * SALES_A_DAY.get() - sold).await?;
        let (again, rate) = outage(&at, hub, &mut edge, &cards, OUTAGE.get()).await?;
        hub = again;
        sold = days * SALES_A_DAY.get() + OUTAGE.get();
        edge = at.again(edge, &box_dir).await?;
        let ratio = *first.get_or_insert(rate) / rate;
        let mib = |file: PathBuf| Ok::<_, std::io::Error>(std::fs::metadata(file)?.len() as f64 / f64::from(1 << 20));
        let (here, there) = (mib(box_dir.join("data").join("edge.db"))?, mib(at.dir.join("hub.db"))?);
        let note = format!(
            "start of headquarters {:.0} ms, of the box {:.0} ms; databases of {there:.0} and {here:.0} MiB after {sold} sales",
            hub.start_ms, edge.start_ms
        );
        let row =
            Row::new(format!("catch-up of {} purchases after {days} days of {}", OUTAGE.get(), SALES_A_DAY.get()));
        let row = row.value(rate, "/s").ratio(ratio, "the time after one day");
        rows.push(row.most("≤ 2 × that of one day", ratio, SLACK).note(note));
    }
    Ok(rows)
}

/// So many sales while headquarters is away; it again, and how many it took in a second once the box was back.
async fn outage(at: &HubAt, mut hub: Child, edge: &mut Child, cards: &Path, count: u32) -> Result<(Child, f64)> {
    hub.process.kill().await?;
    edge.report().await?;
    edge.order(Order::Sell { cards: cards.to_owned(), count, per_second: 0, in_flight: TILLS }).await?;
    let sold = edge.report().await?;
    let feed = journal_of(&sold)?;
    let last = sold.held_from(feed).last().context("nothing was sold")?.0;
    let mut hub = at.start().await?;
    hub.order(Order::Await(feed, last)).await?;
    let seen = hub.report().await?;
    let connected = seen.connected.first().context("the box did not come back")?.1;
    let until = seen.held_from(feed).iter().find(|(seq, ..)| *seq >= last).context("the watch missed the end")?.2;
    Ok((hub, f64::from(count) / (until.saturating_sub(connected).max(1) as f64 / 1e9)))
}

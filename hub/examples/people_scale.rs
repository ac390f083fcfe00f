//! Measures people at scale: an import at the hub, the first fill of an edge, and the start of that edge.
//!
//! Run with `cargo run --release -p yika-hub --example people_scale [people]`. Each part is a process of its own, so
//! that its memory is its own; stores are real databases in a temporary folder.
#![allow(clippy::print_stdout)] // printing is its purpose

use anyhow::{Context, bail};
use ed25519_dalek::SigningKey;
use std::path::Path;
use std::process::Command as Process;
use std::time::Instant;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::clock::Ticks;
use yika_crdt::docs::{PEOPLE_SHARDS_DEFAULT, PersonAct};
use yika_crdt::documents::{PersonChange, chunks};
use yika_crdt::edge::{self, Edge};
use yika_crdt::entry::*;
use yika_crdt::feed::{End, Run, SignedHead, link};
use yika_crdt::ids::*;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_crdt::snapshot::{Audience, Check, Cutter, Judge, Step, cut};
use yika_crdt::store::{Read, Store, Tx};
use yika_crdt::sync::RUN_BYTES_MAX;
use yika_hub::core::{Command, Hub, Identity, Reply};
use yika_store::{Options, SqliteStore};

const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };
const HUB: Writer = Writer { node: NodeId::HUB, incarnation: LIFE };
const EDGE: Writer = Writer { node: NodeId(1), incarnation: LIFE };
const CAMPUS: CampusId = CampusId(1);
const NOW_MS: i64 = 1_795_494_600_000;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [part, dir, people] if part == "hub" => import(Path::new(dir), people.parse()?),
        [part, dir, _] if part == "edge" => fill(Path::new(dir)),
        [part, dir, _] if part == "snapshot" => fill_by_snapshot(Path::new(dir)),
        [part, dir, people] if part == "start" => start(Path::new(dir), people.parse()?),
        [] => all("100000"),
        [people] => all(people),
        _ => bail!("usage: people_scale [people]"),
    }
}

fn all(people: &str) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("people_scale.{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let program = std::env::current_exe()?;
    for part in ["hub", "edge", "snapshot", "start"] {
        let status = Process::new(&program).args([part, &dir.to_string_lossy(), people]).status()?;
        if !status.success() {
            bail!("{part} failed: {status}");
        }
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn import(dir: &Path, people: u64) -> anyhow::Result<()> {
    let mut store = SqliteStore::open(dir.join("hub.db"), &Options::default())?;
    let mut hub = Hub::load(&store, Identity { me: HUB, key: key() })?;
    let campus = CampusRecord {
        campus: CAMPUS,
        name: "东校区".into(),
        utc_offset_minutes: 480,
        cut_minute: 180,
        people_shards: PEOPLE_SHARDS_DEFAULT,
    };
    for body in [Body::Node(record(HUB, None)), Body::Campus(campus), Body::Node(record(EDGE, Some(CAMPUS)))] {
        say(&mut hub, &mut store, Command::Registry(body.into()))?;
    }
    let before_kib = resident_kib("VmRSS")?;
    let started = Instant::now();
    let acts = (1..=people).map(|n| PersonChange::add(person(n))).collect();
    for acts in chunks(&hub.mesh, acts) {
        match say(&mut hub, &mut store, Command::People { operator: OperatorId(1), moves: Default::default(), acts })? {
            Reply::Done => {}
            other => bail!("{other:?}"),
        }
    }
    let feed = FeedId { writer: HUB, channel: Channel::People(CAMPUS) };
    println!(
        "hub: {people} people imported in {:.2} s, {} entries, peak {} MiB ({} MiB before)",
        started.elapsed().as_secs_f64(),
        store.feed(&feed)?.end.seq.0,
        resident_kib("VmHWM")? / 1024,
        before_kib / 1024
    );
    Ok(())
}

fn say(hub: &mut Hub, store: &mut SqliteStore, command: Command) -> anyhow::Result<Reply> {
    let stamp = Stamp { hub_time_ms: NOW_MS, boot: 1, mono_ms: 1 };
    let mut tx = Tx::new(&*store);
    let reply = hub.handle(&mut tx, command, stamp, &mut Vec::new(), &mut Vec::new())?;
    let batch = tx.into_batch();
    store.commit(&batch)?;
    hub.committed();
    Ok(reply)
}

/// Takes the feeds of the hub in the runs that sync sends.
fn fill(dir: &Path) -> anyhow::Result<()> {
    let hub = SqliteStore::open(dir.join("hub.db"), &Options::default())?;
    let mut store = SqliteStore::open(dir.join("edge.db"), &Options::default())?;
    let mut edge = Edge::load(&store, EDGE, Place { node: EDGE.node, campus: Some(CAMPUS) })?;
    tell(&mut edge, &mut store, edge::Command::TrustHub(record(HUB, None)))?;
    let started = Instant::now();
    let (mut bytes, mut runs, mut slowest_ms) = (0, 0, 0);
    for channel in [Channel::Registry, Channel::People(CAMPUS)] {
        let feed = FeedId { writer: HUB, channel };
        let mut end = End::default();
        loop {
            let from = end.seq.next();
            let entries = hub.entries(&feed, from, RUN_BYTES_MAX)?;
            if entries.is_empty() {
                break;
            }
            end = entries.iter().fold(end, |end, entry| link(&feed, end, entry));
            bytes += entries.iter().map(Vec::len).sum::<usize>();
            runs += 1;
            let run = Run { from, entries, head: SignedHead::sign(feed, end, &key()) };
            let turn = Instant::now();
            match tell(&mut edge, &mut store, edge::Command::Ingest(run.into()))? {
                edge::Reply::Stored(..) => {}
                other => bail!("{other:?}"),
            }
            slowest_ms = slowest_ms.max(turn.elapsed().as_millis());
        }
    }
    println!(
        "edge: {} people usable after {:.2} s; {} KiB in {runs} runs, slowest turn {slowest_ms} ms, peak {} MiB",
        edge.mesh.people.read().counts().0,
        started.elapsed().as_secs_f64(),
        bytes / 1024,
        resident_kib("VmHWM")? / 1024
    );
    Ok(())
}

/// A new edge takes in what the hub cuts.
fn fill_by_snapshot(dir: &Path) -> anyhow::Result<()> {
    let hub = SqliteStore::open(dir.join("hub.db"), &Options::default())?;
    let key = key();
    let started = Instant::now();
    let mut chunks = Vec::new();
    let cutter = Cutter { by: HUB, key: &key, audience: Audience::Everyone, cut_ms: NOW_MS, drop: Vec::new() };
    let signed = cut(&hub, cutter, &mut |chunk| {
        chunks.push(chunk.to_vec());
        Ok(())
    })?;
    let cut_ms = started.elapsed().as_millis();
    let mut store = SqliteStore::open(dir.join("late.db"), &Options::default())?;
    let mut edge = Edge::load(&store, EDGE, Place { node: EDGE.node, campus: Some(CAMPUS) })?;
    let started = Instant::now();
    let mut check = Check::new(signed, Judge::new(edge.mesh.place, [&record(HUB, None)]))?;
    for chunk in &chunks {
        check.chunk(chunk)?;
    }
    let mut steps = check.finish()?;
    let checked_ms = started.elapsed().as_millis();
    let (mut turns, mut slowest_ms, mut turns_ms) = (0, 0, 0);
    let mut take = |step: Step| -> anyhow::Result<()> {
        let turn = Instant::now();
        match tell(&mut edge, &mut store, edge::Command::Restore(step.into()))? {
            edge::Reply::Done => {}
            other => bail!("{other:?}"),
        }
        slowest_ms = slowest_ms.max(turn.elapsed().as_millis());
        turns_ms += turn.elapsed().as_millis();
        turns += 1;
        Ok(())
    };
    for chunk in &chunks {
        for step in steps.chunk(chunk)? {
            take(step)?;
        }
    }
    take(steps.closing()?)?;
    println!(
        "snapshot: {} KiB cut in {cut_ms} ms, checked in {checked_ms} ms, {} people usable after {:.2} s; \
         {turns} turns of {turns_ms} ms, slowest {slowest_ms} ms, peak {} MiB",
        chunks.iter().map(Vec::len).sum::<usize>() / 1024,
        edge.mesh.people.read().counts().0,
        started.elapsed().as_secs_f64(),
        resident_kib("VmHWM")? / 1024
    );
    Ok(())
}

fn tell(edge: &mut Edge, store: &mut SqliteStore, command: edge::Command) -> anyhow::Result<edge::Reply> {
    let ticks = Ticks { boot: 1, mono_ms: 1, wall_ms: NOW_MS };
    let mut tx = Tx::new(&*store);
    let reply = edge.handle(&mut tx, command, ticks, &mut Vec::new())?;
    let batch = tx.into_batch();
    store.commit(&batch)?;
    edge.committed();
    Ok(reply)
}

/// From nothing to the first decision, then a change of one person.
fn start(dir: &Path, people: u64) -> anyhow::Result<()> {
    let one = person(people.div_ceil(2));
    let started = Instant::now();
    let mut store = SqliteStore::open(dir.join("edge.db"), &Options::default())?;
    let opened = started.elapsed();
    let mut edge = Edge::load(&store, EDGE, Place { node: EDGE.node, campus: Some(CAMPUS) })?;
    let decided = edge.mesh.people.read().usable(one.cards[0].number, Day(20_000)).map(|(p, _)| p);
    let first = started.elapsed();
    if decided != Ok(one.person) {
        bail!("the first decision is {decided:?}");
    }
    let steady_kib = resident_kib("VmRSS")?;
    let act = PersonAct::SetCategory(CategoryId(9));
    let acts = vec![PersonChange { person: one.person, home: CAMPUS, act }];
    let edit = Instant::now();
    tell(&mut edge, &mut store, edge::Command::People { operator: OperatorId(1), acts })?;
    println!(
        "start: first decision after {:.0} ms (store {:.0} ms), {} MiB resident; one edit {:.1} ms, then {} MiB",
        first.as_secs_f64() * 1e3,
        opened.as_secs_f64() * 1e3,
        steady_kib / 1024,
        edit.elapsed().as_secs_f64() * 1e3,
        resident_kib("VmRSS")? / 1024
    );
    Ok(())
}

fn resident_kib(field: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(field)).context("no memory line")?;
    let kib = line.split_whitespace().nth(1).context("no memory value")?;
    Ok(kib.parse()?)
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn record(writer: Writer, campus: Option<CampusId>) -> NodeRecord {
    let key = key().verifying_key().to_bytes();
    NodeRecord { writer, campus, key, name: writer.to_string(), address: None }
}

/// A person as imports make them: the id is drawn from 63 bits.
fn person(n: u64) -> Person {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let card =
        Card { number: CardNumber(800_000 + n), uid: Some(mixed >> 32), state: CardState::Active, valid_until: None };
    Person {
        person: PersonId(mixed >> 1),
        home: CAMPUS,
        name: format!("测试员{n}"),
        staff_number: format!("{n:08}"),
        category: CategoryId((n % 5) as u16),
        status: PersonStatus::Active,
        valid: (None, Some(Day(30_000))),
        cards: vec![card],
        id_hash: mixed.to_le_bytes().repeat(2).try_into().unwrap_or_default(),
    }
}

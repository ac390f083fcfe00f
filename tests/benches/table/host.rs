//! Headquarters and a box as processes of this program: the running node of each, as its own `app` puts it together, with a
//! watch on its commits. The monotonic clock is one for all processes, so marks of two of them can be compared.
//!
//! Orders come as JSON lines on standard input; what was seen goes into a file. Leaves to others: what is measured.

use crate::doors::{self, Swiped};
use crate::table::{mono_ns, nanos};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::Receiver;
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::edge;
use yika_crdt::entry::{BlockTarget, Body, Entry, Mode, TerminalKind};
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;
use yika_crdt::sale::{Answer, PurchaseRequest};
use yika_crdt::store::StoreError;
use yika_drivers::modbus::simulator::BoardSimulator;
use yika_edge::doors::Doors;
use yika_edge::identity::Identity;
use yika_edge::node::{EdgeNode, RegistryView};
use yika_hub::backup::Backups;
use yika_hub::backup::log::ship::Shipping;
use yika_hub::desk::{Actor, Desk, NewToken, TokenMade};
use yika_hub::identity::HubIdentity;
use yika_hub::node::HubNode;
use yika_tests::process::{Launch, Port, Process};

const READY: Duration = Duration::from_secs(60);
const ORDER_DONE: Duration = Duration::from_secs(180);
/// Purchases under way at a given rate; more would mean that the box does not keep up.
const OPEN_LOOP_MAX: usize = 512;
/// Open files of a process with a handful of connections.
const FILES: usize = 1_024;
const TICK: Duration = Duration::from_secs(2);

/// What a process is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Write what was seen into a file, and forget it.
    Report(PathBuf),
    /// A box: so many purchases; each card once a round. `per_second` 0: as fast as `in_flight` tills can.
    Sell { cards: PathBuf, count: u32, per_second: u32, in_flight: u32 },
    /// A box: so many swipes at its doors, by everybody in turn.
    Swipe { cards: PathBuf, count: usize },
    /// Wait until this much of a feed is held.
    Await(FeedId, Seq),
}

/// What a process has seen.
#[derive(Default, Serialize, Deserialize)]
pub struct Seen {
    /// Commits: feed, its end, nanoseconds before and after the look.
    pub marks: Vec<(FeedId, Seq, u64, u64)>,
    /// At headquarters: bytes from and to each connected box, everything included.
    pub wire: Vec<(NodeId, u64, u64)>,
    /// At headquarters: who connected when.
    pub connected: Vec<(NodeId, u64)>,
    /// At a box: its swipes.
    pub swiped: Swiped,
}

impl Seen {
    /// When a process was first seen to hold an entry.
    pub fn held_from(&self, feed: FeedId) -> Vec<(Seq, u64, u64)> {
        let mut held: Vec<(Seq, u64, u64)> = Vec::new();
        for (_, seq, before, after) in self.marks.iter().filter(|(f, ..)| *f == feed) {
            if held.last().is_none_or(|(last, ..)| last < seq) {
                held.push((*seq, *before, *after));
            }
        }
        held
    }
}

#[derive(Serialize, Deserialize)]
struct Numbered<O> {
    number: u32,
    order: O,
}

/// What a process says when it takes orders.
#[derive(Deserialize)]
struct Ready {
    #[serde(default)]
    start_ms: f64,
}

/// A process that takes orders.
pub struct Child {
    pub process: Process,
    /// Milliseconds until its node stood: its database read, its thread started.
    pub start_ms: f64,
    dir: PathBuf,
    orders: u32,
}

impl Child {
    /// Starts a part in its folder.
    pub async fn start(part: &str, dir: &Path, words: &[String]) -> Result<Child> {
        Child::start_with_files(part, dir, words, FILES).await
    }

    /// Where a box that has joined stands.
    pub fn place(&self) -> Result<Place> {
        let identity = Identity::load(&self.dir.join("data"))?.context("the box has not joined")?;
        Ok(Place { node: identity.me.node, campus: Some(identity.campus) })
    }

    /// The same with so many open files allowed.
    pub async fn start_with_files(part: &str, dir: &Path, words: &[String], files: usize) -> Result<Child> {
        std::fs::create_dir_all(dir)?;
        let limit = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
        let launch = Launch::program(std::env::current_exe()?)?.prefix(&["sh", "-c", &limit]);
        let launch = launch.dir(dir).name(part).args(&["--part", part]);
        let mut process = launch.arg(dir).args(words).talk().start().await?;
        let ready: Ready = serde_json::from_str(process.wait_for_output("\"ready\"", READY).await?.trim())?;
        Ok(Child { process, start_ms: ready.start_ms, dir: dir.to_owned(), orders: 0 })
    }

    /// Gives an order without waiting for it; its number.
    pub async fn begin(&mut self, order: impl Serialize) -> Result<u32> {
        self.orders += 1;
        self.process.say(&serde_json::to_string(&Numbered { number: self.orders, order })?).await?;
        Ok(self.orders)
    }

    /// Waits until an order is carried out.
    pub async fn done(&mut self, number: u32) -> Result<()> {
        self.process.wait_for_output(&format!("\"done\":{number}}}"), ORDER_DONE).await?;
        Ok(())
    }

    /// Gives an order and waits until it is carried out.
    pub async fn order(&mut self, order: impl Serialize) -> Result<()> {
        let number = self.begin(order).await?;
        self.done(number).await
    }

    /// What it has seen since it was asked last.
    pub async fn report(&mut self) -> Result<Seen> {
        let file = self.dir.join("seen");
        self.order(Order::Report(file.clone())).await?;
        Ok(postcard::from_bytes(&std::fs::read(file)?)?)
    }
}

/// Where headquarters listens.
pub struct HubAt {
    pub dir: PathBuf,
    pub port: Port,
}

impl HubAt {
    pub fn new(dir: &Path) -> Result<HubAt> {
        Ok(HubAt { dir: dir.to_owned(), port: Port::reserve()? })
    }

    pub async fn start(&self) -> Result<Child> {
        Child::start("hub", &self.dir, &[self.port.address().to_string()]).await
    }

    /// Asks the control socket, as the command line does.
    pub async fn ask<T: serde::de::DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let socket = yika_hub::config::Config::socket(&self.dir);
        yika_hub::control::ask(&socket, "POST", path, serde_json::to_vec(body)?).await
    }

    /// Reads at the control socket.
    pub async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        yika_hub::control::ask(&yika_hub::config::Config::socket(&self.dir), "GET", path, Vec::new()).await
    }

    /// Enrols a box of a campus with a fresh token and starts it.
    pub async fn join(&self, campus: CampusId, dir: &Path) -> Result<Child> {
        let new = NewToken { campus, ttl_s: 600, replaces: None, name: None, advertised: None };
        let made: TokenMade = self.ask("/v1/token", &new).await?;
        Child::start("edge", dir, &[Port::reserve()?.address().to_string(), made.line]).await
    }

    /// Starts a box again that has joined.
    pub async fn again(&self, mut edge: Child, dir: &Path) -> Result<Child> {
        edge.process.kill().await?;
        Child::start("edge", dir, &[Port::reserve()?.address().to_string()]).await
    }
}

fn say(words: &serde_json::Value) {
    println!("{words}");
}

/// Headquarters, until its standard input ends.
pub async fn hub(dir: &Path, bind: SocketAddr) -> Result<()> {
    if !HubIdentity::exists(dir) {
        HubIdentity::init(dir, "总部")?;
    }
    let identity = HubIdentity::load(dir)?;
    let started = Instant::now();
    let (node, _thread) = tokio::task::block_in_place(|| HubNode::start(&identity, dir))?;
    let start_ms = nanos(started) as f64 / 1e6;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let looking = Arc::clone(&node);
    let look = move |feed: &FeedId| looking.look(|store| store.feed(feed)).map(|state| state.end.seq);
    tokio::spawn(watch(node.ears().grown.subscribe(), look, Arc::clone(&seen)));
    let link = yika_hub::link::run(&node, &identity, bind)?;
    let desk = Desk::new(Arc::clone(&node), link.local_addr()?.to_string(), identity.authority.pin());
    let backups = Arc::new(Backups::new(dir.to_owned(), dir.join("backups"), 1, String::new()));
    let desk = desk.with_backups(Arc::clone(&backups));
    // The log is written as in the product: on top of a first backup.
    let _shipping = Shipping::start(Arc::clone(&node), backups, dir.join("backups"))?;
    desk.create_backup(&Actor::console(), None).await?;
    yika_hub::control::serve(desk, &yika_hub::config::Config::socket(dir))?;
    tokio::spawn(follow_registry(Arc::clone(&node)));
    tokio::spawn(tick_hub(Arc::clone(&node)));
    tokio::spawn(greet(Arc::clone(&node), Arc::clone(&seen)));
    say(&serde_json::json!({"ready": true, "start_ms": start_ms}));
    let host = Arc::clone(&node);
    take_orders(|order| carry_out_at_hub(Arc::clone(&host), Arc::clone(&seen), order)).await?;
    link.shutdown("headquarters is stopping").await;
    Ok(())
}

async fn carry_out_at_hub(node: Arc<HubNode>, seen: Arc<Mutex<Seen>>, order: Order) -> Result<()> {
    match order {
        Order::Report(file) => {
            let mut seen = std::mem::take(&mut *seen.lock().unwrap());
            for writer in node.peers() {
                let counters = node.peer(writer).map(|peer| peer.counters()).unwrap_or_default();
                seen.wire.push((writer.node, counters.wire_received_bytes, counters.wire_sent_bytes));
            }
            std::fs::write(file, postcard::to_stdvec(&seen)?)?;
        }
        Order::Await(feed, seq) => {
            while node.look(|store| store.feed(&feed))?.end.seq < seq {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        other => anyhow::bail!("headquarters does not do {other:?}"),
    }
    Ok(())
}

async fn follow_registry(node: Arc<HubNode>) {
    let mut directory = node.ears().directory.subscribe();
    while directory.changed().await.is_ok() {
        tokio::task::block_in_place(|| node.refresh_registry()).unwrap();
    }
}

async fn tick_hub(node: Arc<HubNode>) {
    let mut every = tokio::time::interval(TICK);
    loop {
        every.tick().await;
        node.call(yika_hub::core::Command::Tick { connected: node.peers() }).await.unwrap();
    }
}

/// Notes who connects.
async fn greet(node: Arc<HubNode>, seen: Arc<Mutex<Seen>>) {
    let mut known = BTreeSet::new();
    loop {
        let there: BTreeSet<Writer> = node.peers().into_iter().collect();
        let fresh = there.difference(&known).map(|writer| (writer.node, mono_ns()));
        seen.lock().unwrap().connected.extend(fresh);
        known = there;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Marks each commit; those that came together are looked at together.
async fn watch(
    mut grown: Receiver<FeedId>,
    look: impl Fn(&FeedId) -> Result<Seq, StoreError> + Send,
    seen: Arc<Mutex<Seen>>,
) {
    while let Ok(first) = grown.recv().await {
        let before = mono_ns();
        let mut feeds = BTreeSet::from([first]);
        while let Ok(feed) = grown.try_recv() {
            feeds.insert(feed);
        }
        for feed in feeds {
            let seq = tokio::task::block_in_place(|| look(&feed)).unwrap();
            seen.lock().unwrap().marks.push((feed, seq, before, mono_ns()));
        }
    }
    panic!("commits come faster than they are marked");
}

/// A box that has joined, or joins with the line, until its standard input ends.
pub async fn edge(dir: &Path, bind: SocketAddr, line: Option<&str>) -> Result<()> {
    let data = dir.join("data");
    let identity = match (Identity::load(&data)?, line) {
        (Some(identity), _) => identity,
        (None, Some(line)) => Identity::join(&data, &line.trim().parse()?, "bench", "yika-bench").await?,
        (None, None) => anyhow::bail!("{} has not joined", data.display()),
    };
    let started = Instant::now();
    let (node, _thread) = tokio::task::block_in_place(|| EdgeNode::start(&identity, &data))?;
    let start_ms = nanos(started) as f64 / 1e6;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let looking = Arc::clone(&node);
    tokio::spawn(watch(node.ears().grown.subscribe(), move |feed| look_at_box(&looking, feed), Arc::clone(&seen)));
    let section = yika_edge::config::LinkSection { bind, advertised: String::new() };
    let links = yika_edge::link::run(Arc::clone(&node), &identity, &section).await?;
    let (board, address) = doors::board();
    let doors = Doors::start(Arc::clone(&node), &doors::config(address))?;
    tokio::spawn(yika_edge::asking::ask_and_open(Arc::clone(&node)));
    tokio::spawn(follow_the_time(Arc::clone(&node)));
    say(&serde_json::json!({"ready": true, "start_ms": start_ms}));
    // Tills that begin to count anew have been switched on anew.
    let boot = u32::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs())?;
    let box_ = Arc::new(Box { node, doors, board, seen, boot, sold: Default::default() });
    take_orders(|order| carry_out_at_box(Arc::clone(&box_), order)).await?;
    links.shutdown("this box is stopping").await;
    Ok(())
}

struct Box {
    node: Arc<EdgeNode>,
    doors: Doors,
    board: BoardSimulator,
    seen: Arc<Mutex<Seen>>,
    /// Of all tills.
    boot: u32,
    /// Last sale of each till.
    sold: Mutex<std::collections::BTreeMap<TerminalId, Arc<AtomicU32>>>,
}

/// How far a feed is held; of blocks only what this box refuses by then.
fn look_at_box(node: &EdgeNode, feed: &FeedId) -> Result<Seq, StoreError> {
    let end = node.look(|store| store.feed(feed))?.end.seq;
    if matches!(feed.channel, Channel::Blocks(_)) {
        let newest = node.look(|store| store.entries(feed, end, 1))?;
        if let Some(Body::Block(block)) = newest.first().and_then(|bytes| Entry::decode(bytes).ok()).map(|e| e.body) {
            let BlockTarget::Card(card) = block.target else { return Ok(end) };
            assert_eq!(node.people.read().usable(card, Day(20_000)).map(|(p, _)| p), Err(Reason::Blocked));
        }
    }
    Ok(end)
}

async fn follow_the_time(node: Arc<EdgeNode>) {
    let mut every = tokio::time::interval(TICK);
    loop {
        every.tick().await;
        node.call(edge::Command::Tick).await.unwrap();
    }
}

async fn carry_out_at_box(at: Arc<Box>, order: Order) -> Result<()> {
    match order {
        Order::Report(file) => {
            let seen = std::mem::take(&mut *at.seen.lock().unwrap());
            std::fs::write(file, postcard::to_stdvec(&seen)?)?;
        }
        Order::Sell { cards, count, per_second, in_flight } => {
            let cards = read_cards(&cards)?;
            match per_second {
                0 => sell_fast(&at, cards, count, in_flight).await?,
                rate => sell_steadily(&at, cards, count, rate).await?,
            }
        }
        Order::Swipe { cards, count } => {
            let cards = read_cards(&cards)?;
            let everybody: Vec<_> = {
                let people = at.node.people.read();
                cards.iter().filter_map(|card| people.person_of(*card)).collect()
            };
            doors::set_policy(&at.node, &everybody);
            doors::line_up(&at.doors).await;
            let cards = doors::at_doors(cards.into_iter().cycle().take(count));
            let swiped = doors::swipes(&at.node, &at.doors, &at.board, &cards).await;
            at.seen.lock().unwrap().swiped = swiped;
        }
        Order::Await(feed, seq) => {
            while at.node.look(|store| store.feed(&feed))?.end.seq < seq {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // Tills are known from memory, which is read a moment after the commit.
            let stored = at.node.look(|store| RegistryView::load(store))?.terminals.len();
            while at.node.registry().terminals.len() < stored {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    Ok(())
}

fn read_cards(file: &Path) -> Result<Vec<CardNumber>> {
    let cards: Vec<u64> = serde_json::from_slice(&std::fs::read(file)?)?;
    Ok(cards.into_iter().map(CardNumber).collect())
}

impl Box {
    fn tills(&self) -> Vec<TerminalId> {
        let registry = self.node.registry();
        let tills = registry.terminals.values().filter(|t| t.kind == TerminalKind::Till);
        tills.map(|t| t.terminal).collect()
    }

    fn next(&self, till: TerminalId) -> u32 {
        let counter = Arc::clone(self.sold.lock().unwrap().entry(till).or_default());
        counter.fetch_add(1, Ordering::Relaxed) + 1
    }

    async fn sell(&self, till: TerminalId, card: CardNumber) -> Result<()> {
        let seq = self.next(till);
        let request = PurchaseRequest {
            id: PurchaseId { terminal: till, boot: self.boot, seq },
            card,
            mode: Mode::Amount(Fen(100 + i64::from(seq % 400))),
            terminal_time_ms: self.node.time().0,
            offline: false,
            tariff: None,
        };
        match self.node.purchase(request).await? {
            Answer::Approved(_) => Ok(()),
            other => anyhow::bail!("{card} at {till}: {other:?}"),
        }
    }
}

/// As many tills as are in flight, each one sale after the other.
async fn sell_fast(at: &Arc<Box>, cards: Vec<CardNumber>, count: u32, in_flight: u32) -> Result<()> {
    let (cards, tills) = (Arc::new(cards), at.tills());
    anyhow::ensure!(tills.len() >= in_flight as usize, "{} tills for {in_flight} in flight", tills.len());
    let next = Arc::new(AtomicU32::new(0));
    let mut selling = tokio::task::JoinSet::new();
    for till in tills.into_iter().take(in_flight as usize) {
        let (at, cards, next) = (Arc::clone(at), Arc::clone(&cards), Arc::clone(&next));
        selling.spawn(async move {
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn >= count {
                    return anyhow::Ok(());
                }
                at.sell(till, cards[turn as usize % cards.len()]).await?;
            }
        });
    }
    while let Some(sold) = selling.join_next().await {
        sold??;
    }
    Ok(())
}

/// One sale after the other by the clock, whether or not those before are answered.
async fn sell_steadily(at: &Arc<Box>, cards: Vec<CardNumber>, count: u32, per_second: u32) -> Result<()> {
    let tills = at.tills();
    let room = Arc::new(Semaphore::new(OPEN_LOOP_MAX));
    let begun = tokio::time::Instant::now();
    let mut selling = tokio::task::JoinSet::new();
    for turn in 0..count {
        let due = begun + Duration::from_secs(1) * turn / per_second;
        tokio::time::sleep_until(due).await;
        let place = Arc::clone(&room).acquire_owned().await.context("the semaphore stays open")?;
        let (at, till, card) = (Arc::clone(at), tills[turn as usize % tills.len()], cards[turn as usize % cards.len()]);
        selling.spawn(async move {
            let _place = place;
            at.sell(till, card).await
        });
        while let Some(sold) = selling.try_join_next() {
            sold??;
        }
    }
    while let Some(sold) = selling.join_next().await {
        sold??;
    }
    Ok(())
}

/// Carries out orders side by side as they come, until standard input ends.
pub async fn take_orders<O, F>(carry_out: impl Fn(O) -> F) -> Result<()>
where
    O: serde::de::DeserializeOwned,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (said, mut lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if said.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        let Numbered { number, order } = serde_json::from_str(&line)?;
        let work = carry_out(order);
        tokio::spawn(async move {
            if let Err(error) = work.await {
                eprintln!("order {number}: {error:#}");
                std::process::exit(1);
            }
            say(&serde_json::json!({"done": number}));
        });
    }
    Ok(())
}

//! A thousand connected boxes at one headquarters, the program as installed: memory of each, and how soon all are back.
//!
//! The boxes are simulated in two processes: each with an endpoint, key and certificate of its own, over the product's
//! link and sync; they keep the ends of feeds and nothing else. They are enrolled by the core of headquarters with a token
//! each and certified by its own authority, before it starts: the conversation over the net is limited to five a second.

use crate::host::{Child, take_orders};
use crate::size::Size;
use crate::table::{Row, Times, in_words, memory_kib, mono_ns};
use anyhow::{Context, Result};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::entry::{BlockTarget, NodeRecord};
use yika_crdt::feed::{Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::mesh::{self, Directory, Mesh};
use yika_crdt::store::{FeedState, KeyValue, MemoryStore, Read, StoreError};
use yika_crdt::sync::Message;
use yika_hub::control::PersonLine;
use yika_hub::core::enrol::TokenRow;
use yika_hub::core::{Command, Reply};
use yika_hub::desk::ImportReport;
use yika_hub::identity::HubIdentity;
use yika_hub::node::HubNode;
use yika_link::sync::{Greeting, Node, NotTaken, WORDS_WAITING_MAX, serve as serve_peer};
use yika_link::{
    Admission, Dialer, EndpointKeys, Expected, Link, LinkConfig, NodeIdentity, PeerIdentity, Target, Validity, csr,
};
use yika_tests::site::HubProgram;

const BOXES: Size<usize> = Size(1_000, 20);
const PROCESSES: usize = 2;
const FILES_MAX: usize = 4_096;
const BOUND: Duration = Duration::from_secs(120);
/// The registry has gone round and nothing moves any more.
const REST: Size<Duration> = Size(Duration::from_secs(12), Duration::from_secs(2));
const LOSSES: Size<usize> = Size(20, 3);
const PACE: Duration = Duration::from_millis(250);
const CAMPUS: CampusId = CampusId(1);

/// What a process of boxes is given.
#[derive(Serialize, Deserialize)]
struct Given {
    hub: SocketAddr,
    hub_key: [u8; 32],
    ca_der: Vec<u8>,
    boxes: Vec<Enrolled>,
}

#[derive(Serialize, Deserialize)]
struct Enrolled {
    identity: NodeIdentity,
    key: [u8; 32],
    certificate_der: Vec<u8>,
}

/// What it is told to do.
#[derive(Serialize, Deserialize)]
pub enum Order {
    /// Forget what was seen.
    Clear,
    /// Wait until so many greetings and blocks were seen; then write the times.
    Await { greeted: usize, blocks: usize, file: std::path::PathBuf },
}

#[derive(Default, Serialize, Deserialize)]
struct Seen {
    greeted: Vec<u64>,
    /// Position and time of each block at each box.
    blocks: Vec<(Seq, u64)>,
}

pub async fn rows() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let mut hub = HubProgram::start(dir.path(), "总部").await?;
    hub.command(&["campus", "put", "c1", "东校区"]).await?;
    let cards = cards(&hub).await?;
    hub.process.terminate(BOUND).await?;
    let data = hub.dir.clone();
    let (given, authority) = tokio::task::spawn_blocking(move || enrol(&data)).await??;
    hub.restart().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pid = |hub: &HubProgram| hub.process.id().context("headquarters has ended");
    let before = memory_kib(pid(&hub)?, "VmRSS")?;
    let mut processes = Vec::new();
    for (n, boxes) in split(given, PROCESSES).into_iter().enumerate() {
        let given = Given { hub: hub.link_address(), hub_key: authority.0, ca_der: authority.1.clone(), boxes };
        let dir = dir.path().join(format!("boxes{n}"));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("given"), postcard::to_stdvec(&given)?)?;
        processes.push(Child::start_with_files("boxes", &dir, &[], FILES_MAX).await?);
    }
    await_all(&mut processes, BOXES.get() / PROCESSES, 0).await?;
    tokio::time::sleep(REST.get()).await;
    let each = (memory_kib(pid(&hub)?, "VmRSS")? - before) as f64 / BOXES.get() as f64;
    let idle = Row::new("hub with 1,000 idle edges, resident each").value(each, "KiB").most("≤ 100 KiB", each, 100.0);
    let told = losses(&hub, &cards, &mut processes).await?;
    let mut rows = vec![
        idle.note(format!(
            "before: {} MiB; simulated peers in {PROCESSES} processes, enrolled by the core",
            before / 1024
        )),
        Row::new("loss reported at the hub → stored at all of 1,000").times(&told).most("p99 ≤ 50 ms", told.p99(), 5e4),
    ];
    clear(&mut processes).await?;
    hub.process.terminate(BOUND).await?;
    rows.push(back("all 1,000 back after a restart", &mut hub, &mut processes).await?);
    // As after any working hour: a connection that lives on clears its box's back-off.
    tokio::time::sleep(REST.get()).await;
    clear(&mut processes).await?;
    hub.process.kill().await?;
    rows.push(back("all 1,000 back after kill -9", &mut hub, &mut processes).await?);
    Ok(rows)
}

/// From the start of the new process until the last box is greeted.
async fn back(name: &str, hub: &mut HubProgram, processes: &mut [Child]) -> Result<Row> {
    let started = mono_ns();
    hub.restart().await?;
    let ready = mono_ns();
    let seen = await_all(processes, BOXES.get() / PROCESSES, 0).await?;
    let times = Times::new(seen.greeted.iter().map(|at| at.saturating_sub(started)).collect());
    let all = times.max() / 1e6;
    let row = Row::new(name).times(&times).value(all, "s").most("≤ 5 s", all, 5.0);
    Ok(row.note(format!(
        "from the new process's start, which was ready after {}",
        in_words((ready - started) as f64 / 1e3)
    )))
}

/// Cards that can be lost.
async fn cards(hub: &HubProgram) -> Result<Vec<CardNumber>> {
    let bytes = yika_hub::import::demo_people(1, &["东校区"], LOSSES.get())?;
    let _: ImportReport = hub.ask("POST", "/v1/import?name=people.xlsx&dry_run=false&zh=false", bytes).await?;
    let people: Vec<PersonLine> = hub.ask("GET", "/v1/people?limit=100", Vec::new()).await?;
    Ok(people.iter().filter_map(|person| person.card.map(CardNumber)).collect())
}

async fn losses(hub: &HubProgram, cards: &[CardNumber], processes: &mut [Child]) -> Result<Times> {
    clear(processes).await?;
    let mut reported = Vec::new();
    for card in cards {
        reported.push(mono_ns());
        let target = BlockTarget::Card(*card);
        hub.ask::<()>("POST", "/v1/block", serde_json::to_vec(&target)?).await?;
        tokio::time::sleep(PACE).await;
    }
    let seen = await_all(processes, 0, cards.len() * BOXES.get() / PROCESSES).await?;
    let first = seen.blocks.iter().map(|(seq, _)| seq.0).min().context("no block came")?;
    let mut slowest = vec![0; cards.len()];
    for (seq, at) in seen.blocks {
        let n = (seq.0 - first) as usize;
        slowest[n] = u64::max(slowest[n], at - reported[n]);
    }
    Ok(Times::new(slowest))
}

async fn clear(processes: &mut [Child]) -> Result<()> {
    for process in processes {
        process.order(&Order::Clear).await?;
    }
    Ok(())
}

async fn await_all(processes: &mut [Child], greeted: usize, blocks: usize) -> Result<Seen> {
    let mut all = Seen::default();
    for (n, process) in processes.iter_mut().enumerate() {
        let file = process.process.path().join(format!("seen{n}"));
        process.order(&Order::Await { greeted, blocks, file: file.clone() }).await?;
        let seen: Seen = postcard::from_bytes(&std::fs::read(file)?)?;
        all.greeted.extend(seen.greeted);
        all.blocks.extend(seen.blocks);
    }
    Ok(all)
}

fn split(mut boxes: Vec<Enrolled>, parts: usize) -> Vec<Vec<Enrolled>> {
    let each = boxes.len() / parts;
    (0..parts).map(|_| boxes.split_off(boxes.len() - each)).collect()
}

/// Public key of headquarters and certificate of its authority.
type Root = ([u8; 32], Vec<u8>);

/// Lists the boxes in the registry of a stopped headquarters, and certifies them.
fn enrol(data: &Path) -> Result<(Vec<Enrolled>, Root)> {
    let identity = HubIdentity::load(data)?;
    let (node, thread) = HubNode::start(&identity, data)?;
    let now_s = i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs())?;
    let mut boxes = Vec::new();
    for n in 0..BOXES.get() {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|e| anyhow::anyhow!("no randomness: {e}"))?;
        let signing = SigningKey::from_bytes(&key);
        let public = signing.verifying_key().to_bytes();
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_le_bytes());
        let row = TokenRow { campus: CAMPUS, expires_ms: (now_s + 3_600) * 1_000, replaces: None, used: None };
        node.call_blocking(Command::CreateToken { hash, row })?;
        let name = format!("box {n}");
        let made = node.call_blocking(Command::Redeem { hash, key: public, name: name.clone() })?;
        let Reply::Redeemed(Ok((used, campus))) = made else { anyhow::bail!("{made:?}") };
        let certified = NodeIdentity::edge(used.writer.node, used.writer.incarnation, campus);
        let request = csr(&signing, &name)?;
        let valid = Validity::days(now_s, 30);
        let certificate_der = identity.authority.issue_from_csr(&request, &public, certified, valid)?;
        boxes.push(Enrolled { identity: certified, key, certificate_der });
    }
    drop(node);
    let _ = thread.join();
    Ok((boxes, (identity.key.verifying_key().to_bytes(), identity.authority.certificate_der().to_vec())))
}

/// A process of boxes.
pub async fn serve(dir: &Path) -> Result<()> {
    let given: Given = postcard::from_bytes(&std::fs::read(dir.join("given"))?)?;
    let directory = Arc::new(directory(&given)?);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut dialers = Vec::new();
    for enrolled in given.boxes {
        let key = SigningKey::from_bytes(&enrolled.key);
        let link = Link::bind(LinkConfig {
            bind: "127.0.0.1:0".parse()?,
            key: key.clone(),
            certificate_der: enrolled.certificate_der,
            ca_der: given.ca_der.clone(),
            keys: EndpointKeys::generate()?,
            software: "yika-bench".to_owned(),
            admission: Arc::new(|_| Admission::Admit),
            join: None,
            clock_s: None,
        })?;
        let (peers, arrived) = mpsc::channel(1);
        let target = Target { addr: given.hub.to_string(), expected: Expected::Hub };
        dialers.push(Dialer::spawn(link.clone(), target, peers));
        let node = Arc::new(SimulatedBox {
            me: enrolled.identity.writer(),
            key,
            directory: Arc::clone(&directory),
            store: Ends::default(),
            grown: broadcast::channel(16).0,
            seen: Arc::clone(&seen),
        });
        tokio::spawn(keep(node, link, arrived));
    }
    println!("{}", serde_json::json!({"ready": true}));
    take_orders(|order| carry_out(Arc::clone(&seen), order)).await
}

async fn carry_out(seen: Arc<Mutex<Seen>>, order: Order) -> Result<()> {
    match order {
        Order::Clear => *seen.lock().unwrap() = Seen::default(),
        Order::Await { greeted, blocks, file } => loop {
            {
                let seen = seen.lock().unwrap();
                if seen.greeted.len() >= greeted && seen.blocks.len() >= blocks {
                    std::fs::write(file, postcard::to_stdvec(&*seen)?)?;
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        },
    }
    Ok(())
}

async fn keep(node: Arc<SimulatedBox>, _link: Link, mut arrived: mpsc::Receiver<yika_link::Peer>) {
    while let Some(peer) = arrived.recv().await {
        // Held, so that the connection has somebody who could speak.
        let (_words, waiting) = mpsc::channel(WORDS_WAITING_MAX);
        tokio::spawn(serve_peer(Arc::clone(&node), peer, waiting));
    }
}

/// Headquarters and the boxes of this process.
fn directory(given: &Given) -> Result<Directory> {
    let me = Writer { node: NodeId(1), incarnation: Incarnation { generation: 1, counter: 1 } };
    let mut mesh = Mesh::load(&MemoryStore::default(), me, Place { node: me.node, campus: Some(CAMPUS) })?;
    let hub = Writer { node: NodeId::HUB, incarnation: Incarnation { generation: 1, counter: 1 } };
    let mut list = |writer: Writer, campus, key: [u8; 32]| -> Result<()> {
        let record = NodeRecord { writer, campus, key, name: String::new(), address: None };
        let key = ed25519_dalek::VerifyingKey::from_bytes(&key)?;
        mesh.nodes.insert(writer, mesh::Node { record, key });
        Ok(())
    };
    list(hub, None, given.hub_key)?;
    for enrolled in &given.boxes {
        let key = SigningKey::from_bytes(&enrolled.key).verifying_key().to_bytes();
        list(enrolled.identity.writer(), enrolled.identity.campus, key)?;
    }
    Ok(mesh.directory())
}

/// A box that takes everything and keeps the ends.
struct SimulatedBox {
    me: Writer,
    key: SigningKey,
    directory: Arc<Directory>,
    store: Ends,
    grown: broadcast::Sender<FeedId>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Ends(Mutex<BTreeMap<FeedId, FeedState>>);

impl Read for Ends {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    fn scan(&self, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Vec<KeyValue>, StoreError> {
        Ok(Vec::new())
    }

    fn feed(&self, feed: &FeedId) -> Result<FeedState, StoreError> {
        Ok(self.0.lock().unwrap().get(feed).copied().unwrap_or_default())
    }

    fn feeds(&self) -> Result<Vec<(FeedId, FeedState)>, StoreError> {
        Ok(self.0.lock().unwrap().iter().map(|(feed, state)| (*feed, *state)).collect())
    }

    fn entries(&self, _: &FeedId, _: Seq, _: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(Vec::new())
    }

    fn head_from(&self, _: &FeedId, _: Seq) -> Result<Option<SignedHead>, StoreError> {
        Ok(None)
    }

    fn head_upto(&self, _: &FeedId, _: Seq) -> Result<Option<SignedHead>, StoreError> {
        Ok(None)
    }
}

impl Node for SimulatedBox {
    fn me(&self) -> Writer {
        self.me
    }

    fn key(&self) -> &SigningKey {
        &self.key
    }

    fn software(&self) -> &str {
        "yika-bench"
    }

    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    fn read<T>(&self, read: impl FnOnce(&dyn Read) -> Result<T, StoreError>) -> Result<T, StoreError> {
        read(&self.store)
    }

    fn grown(&self) -> broadcast::Receiver<FeedId> {
        self.grown.subscribe()
    }

    async fn ingest(&self, _: Writer, run: Box<Run>) -> Result<(FeedId, Seq), NotTaken> {
        let (feed, end) = (run.head.feed, run.head.end);
        if matches!(feed.channel, Channel::Blocks(_)) {
            let at = mono_ns();
            let seqs = (run.from.0..=end.seq.0).map(|seq| (Seq(seq), at));
            self.seen.lock().unwrap().blocks.extend(seqs);
        }
        self.store.0.lock().unwrap().insert(feed, FeedState { end, pruned: end.seq });
        Ok((feed, end.seq))
    }

    async fn on_message(&self, _: &PeerIdentity, _: Message) -> Option<Message> {
        None
    }

    async fn on_greeted(node: &Arc<Self>, _: &PeerIdentity, _: Greeting) -> Result<(), NotTaken> {
        node.seen.lock().unwrap().greeted.push(mono_ns());
        Ok(())
    }
}

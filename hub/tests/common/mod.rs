//! A hub and edges over stores in memory, exchanging signed runs of their feeds in any order a test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
#![allow(dead_code, unreachable_pub)] // each test uses its part

use ed25519_dalek::SigningKey;
use std::collections::BTreeMap;
use yika_crdt::channel::{FeedId, Place};
use yika_crdt::clock::Ticks;
use yika_crdt::docs::{Act, DocId, Document, PersonAct};
use yika_crdt::documents::PersonChange;
use yika_crdt::edge::{self, Edge};
use yika_crdt::entry::*;
use yika_crdt::feed::{Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::mesh::Mesh;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_crdt::store::{MemoryStore, Read, Store, Tx};
use yika_hub::core::{self as hub, Hub, Identity, TableRow};

pub const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };
pub const NOON_MS: i64 = 1_795_494_600_000; // 2026-11-24 12:30 in Beijing
pub const TODAY: Day = Day(20_781);
pub const CLERK: OperatorId = OperatorId(7);
/// Feed entries sent at once.
const RUN_ENTRIES: usize = 7;

pub fn writer(node: u32) -> Writer {
    Writer { node: NodeId(node), incarnation: LIFE }
}

pub fn key_of(node: NodeId) -> SigningKey {
    SigningKey::from_bytes(&[node.0 as u8 + 1; 32])
}

fn record(writer: Writer, campus: Option<CampusId>) -> NodeRecord {
    let key = key_of(writer.node).verifying_key().to_bytes();
    NodeRecord { writer, campus, key, name: writer.to_string(), address: None }
}

pub fn stamp() -> Stamp {
    Stamp { hub_time_ms: NOON_MS, boot: 1, mono_ms: 1 }
}

/// Campus of each edge, from node 1 on.
pub const CAMPUSES: [u16; 3] = [1, 1, 2];

pub enum Machine {
    Hub(Box<Hub>),
    Edge(Box<Edge>),
}

pub struct Node {
    pub store: MemoryStore,
    pub machine: Machine,
    pub rows: Vec<TableRow>,
    /// How much later it is at the hub than noon.
    pub later_ms: i64,
    mono_ms: u64,
}

impl Node {
    pub fn mesh(&self) -> &Mesh {
        match &self.machine {
            Machine::Hub(hub) => &hub.mesh,
            Machine::Edge(edge) => &edge.mesh,
        }
    }

    /// Runs one command; with `crash` the turn is lost before it is durable.
    fn run<A>(&mut self, crash: bool, handle: impl FnOnce(&mut Node, &mut Tx<'_, MemoryStore>) -> A) -> A {
        let store = self.store.clone();
        let mut tx = Tx::new(&store);
        let answer = handle(self, &mut tx);
        if crash {
            drop(tx);
            match &mut self.machine {
                Machine::Hub(hub) => hub.reload(&self.store).unwrap(),
                Machine::Edge(edge) => edge.reload(&self.store).unwrap(),
            }
            return answer;
        }
        let batch = tx.into_batch();
        self.store.commit(&batch).unwrap();
        match &mut self.machine {
            Machine::Hub(hub) => hub.committed(),
            Machine::Edge(edge) => edge.committed(),
        }
        answer
    }

    pub fn hub(&mut self, command: hub::Command) -> hub::Reply {
        self.hub_or_crash(command, false)
    }

    pub fn hub_or_crash(&mut self, command: hub::Command, crash: bool) -> hub::Reply {
        self.run(crash, |this, tx| {
            let Machine::Hub(hub) = &mut this.machine else { panic!("not the hub") };
            let stamp = Stamp { hub_time_ms: NOON_MS + this.later_ms, ..stamp() };
            hub.handle(tx, command, stamp, &mut this.rows, &mut Vec::new()).unwrap()
        })
    }

    pub fn edge(&mut self, command: edge::Command) -> edge::Reply {
        self.edge_or_crash(command, false)
    }

    pub fn edge_or_crash(&mut self, command: edge::Command, crash: bool) -> edge::Reply {
        self.mono_ms += 1000;
        let ticks = Ticks { boot: 1, mono_ms: self.mono_ms, wall_ms: 0 };
        self.run(crash, |this, tx| {
            let Machine::Edge(edge) = &mut this.machine else { panic!("not an edge") };
            edge.handle(tx, command, ticks, &mut Vec::new()).unwrap()
        })
    }

    pub fn ingest(&mut self, run: Run, crash: bool) -> bool {
        match &self.machine {
            Machine::Hub(_) => {
                let reply = self.hub_or_crash(hub::Command::Ingest(run.into()), crash);
                matches!(reply, hub::Reply::Stored(..))
            }
            Machine::Edge(_) => {
                let reply = self.edge_or_crash(edge::Command::Ingest(run.into()), crash);
                matches!(reply, edge::Reply::Stored(..))
            }
        }
    }

    pub fn tick(&mut self) {
        match &self.machine {
            Machine::Hub(_) => _ = self.hub(hub::Command::Tick { connected: vec![] }),
            Machine::Edge(_) => _ = self.edge(edge::Command::Tick),
        }
    }

    /// A power cut: memory is gone, the store stays.
    pub fn restart(&mut self) {
        let (me, place) = (self.mesh().me, self.mesh().place);
        self.machine = match &self.machine {
            Machine::Hub(_) => {
                let identity = Identity { me, key: key_of(me.node) };
                Machine::Hub(Hub::load(&self.store, identity).unwrap().into())
            }
            Machine::Edge(_) => Machine::Edge(Edge::load(&self.store, me, place).unwrap().into()),
        };
    }

    /// State rows under a prefix.
    pub fn rows(&self, prefix: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.store.scan(prefix, None, usize::MAX).unwrap().into_iter().collect()
    }

    pub fn person(&self, person: PersonId) -> Option<Person> {
        let bytes = self.store.get(&yika_crdt::keys::person(person)).unwrap()?;
        Some(yika_crdt::wire::decode(&bytes, usize::MAX).unwrap())
    }

    /// The words of all alarms this node journaled or noted.
    pub fn alarms(&self) -> Vec<String> {
        let feed = FeedId { writer: self.mesh().me, channel: yika_crdt::channel::Channel::Journal };
        let entries = self.store.entries(&feed, Seq(1), usize::MAX).unwrap();
        let journaled = entries.iter().filter_map(|bytes| match Entry::decode(bytes).unwrap().body {
            Body::Alarm(alarm) => Some(format!("{}: {}", alarm.kind, alarm.detail)),
            _ => None,
        });
        let noted = self.rows.iter().filter_map(|row| match row {
            TableRow::Alarm { word, detail, .. } => Some(format!("{word}: {detail}")),
            _ => None,
        });
        journaled.chain(noted).collect()
    }
}

pub struct World {
    pub nodes: Vec<Node>,
}

impl World {
    /// A hub, two boxes on campus 1, one on campus 2; people of each campus in four documents.
    pub fn new() -> World {
        let store = MemoryStore::default();
        let identity = Identity { me: writer(0), key: key_of(NodeId::HUB) };
        let machine = Machine::Hub(Hub::load(&store, identity).unwrap().into());
        let mut hub = Node { store, machine, rows: Vec::new(), later_ms: 0, mono_ms: 0 };
        hub.hub(hub::Command::Registry(Body::Node(record(writer(0), None)).into()));
        for campus in [1, 2] {
            let campus = CampusRecord {
                campus: CampusId(campus),
                name: format!("校区{campus}"),
                utc_offset_minutes: 480,
                cut_minute: 180,
                people_shards: 4,
            };
            hub.hub(hub::Command::Registry(Body::Campus(campus).into()));
        }
        let mut nodes = vec![hub];
        for (at, campus) in CAMPUSES.into_iter().enumerate() {
            let (me, campus) = (writer(at as u32 + 1), Some(CampusId(campus)));
            nodes[0].hub(hub::Command::Registry(Body::Node(record(me, campus)).into()));
            let store = MemoryStore::default();
            let place = Place { node: me.node, campus };
            let machine = Machine::Edge(Edge::load(&store, me, place).unwrap().into());
            let mut edge = Node { store, machine, rows: Vec::new(), later_ms: 0, mono_ms: 0 };
            edge.edge(edge::Command::TrustHub(record(writer(0), None)));
            nodes.push(edge);
        }
        let mut world = World { nodes };
        for at in 1..world.nodes.len() {
            let receipts = Body::Time(NOON_MS);
            world.nodes[0].hub(hub::Command::Tell { node: NodeId(at as u32), body: receipts.into() });
        }
        world.heal();
        world
    }

    pub fn hub(&mut self) -> &mut Node {
        &mut self.nodes[0]
    }

    /// Feeds of which `from` holds more than `to`, and `to` may hold.
    pub fn behind(&self, from: usize, to: usize) -> Vec<FeedId> {
        let directory = self.nodes[from].mesh().directory();
        let place = self.nodes[to].mesh().place;
        let held = |node: usize, feed: &FeedId| self.nodes[node].store.feed(feed).unwrap().end.seq;
        let feeds = self.nodes[from].store.feeds().unwrap().into_iter().map(|(feed, _)| feed);
        let lacks = |feed: &FeedId| directory.may_hold(feed, place) && held(from, feed) > held(to, feed);
        let mut feeds: Vec<_> = feeds.filter(lacks).collect();
        feeds.sort_by_key(|feed| (feed.channel.class(), *feed));
        feeds
    }

    /// The next few entries of a feed that `to` lacks, `back` entries repeated.
    pub fn run(&self, from: usize, to: usize, feed: FeedId, back: u64) -> Run {
        let held = self.nodes[to].store.feed(&feed).unwrap().end.seq;
        let first = Seq(held.0.saturating_sub(back) + 1);
        let mut entries = self.nodes[from].store.entries(&feed, first, usize::MAX).unwrap();
        entries.truncate(RUN_ENTRIES + back as usize);
        let before = self.nodes[from].store.entries(&feed, Seq(1), usize::MAX).unwrap();
        let upto = (first.0 - 1) as usize + entries.len();
        let end = before[..upto].iter().fold(Default::default(), |end, e| yika_crdt::feed::link(&feed, end, e));
        Run { from: first, entries, head: SignedHead::sign(feed, end, &key_of(feed.writer.node)) }
    }

    /// Sends one run; true if `to` stored it.
    pub fn send(&mut self, from: usize, to: usize, feed: FeedId, back: u64, crash: bool) -> bool {
        let run = self.run(from, to, feed, back);
        self.nodes[to].ingest(run, crash)
    }

    /// Everything `from` has for `to`.
    pub fn sync(&mut self, from: usize, to: usize) {
        loop {
            let behind = self.behind(from, to);
            let mut moved = false;
            for feed in behind {
                moved |= self.send(from, to, feed, 0, false);
            }
            if !moved {
                return;
            }
        }
    }

    /// Everybody hears everything, and time passes.
    pub fn heal(&mut self) {
        let all = self.nodes.len();
        for _ in 0..3 {
            for from in 0..all {
                for to in (0..all).filter(|to| *to != from) {
                    self.sync(from, to);
                }
            }
            for node in &mut self.nodes {
                (0..8).for_each(|_| node.tick());
            }
        }
    }

    /// People rows are the same at every node, policy and visitors at the hub and each box of their campus, and every
    /// index is what a restart would read.
    pub fn assert_converged(&mut self) {
        for at in 0..self.nodes.len() {
            let person_rows = |n: usize| (self.nodes[n].rows(b"p"), self.nodes[n].rows(b"P"));
            assert_eq!(person_rows(at), person_rows(0), "persons at node {at}");
            if let Some(campus) = self.nodes[at].mesh().place.campus {
                let prefix = yika_crdt::keys::policy(campus);
                assert_eq!(self.nodes[at].rows(&prefix), self.nodes[0].rows(&prefix), "policy at node {at}");
                let of_campus = |rows: BTreeMap<Vec<u8>, Vec<u8>>| -> BTreeMap<Vec<u8>, Vec<u8>> {
                    rows.into_iter().filter(|(k, _)| k[9..11] == campus.0.to_be_bytes()).collect()
                };
                let visits = |n: usize| of_campus(self.nodes[n].rows(yika_crdt::keys::VISITORS));
                assert_eq!(visits(at), visits(0), "visitors at node {at}");
            }
            let people = self.nodes[at].mesh().people.read().clone();
            let access = self.nodes[at].mesh().access.read().clone();
            self.nodes[at].restart();
            assert_eq!(*self.nodes[at].mesh().people.read(), people, "people index of node {at} after a restart");
            assert_eq!(*self.nodes[at].mesh().access.read(), access, "access index of node {at} after a restart");
        }
    }
}

pub fn card(number: u64) -> Card {
    Card { number: CardNumber(number), uid: Some(number + 1_000_000), state: CardState::Active, valid_until: None }
}

pub fn person(person: u64, home: u16) -> Person {
    Person {
        person: PersonId(person),
        home: CampusId(home),
        name: format!("测试员{person}"),
        staff_number: format!("{person:06}"),
        category: CategoryId(1),
        status: PersonStatus::Active,
        valid: (None, None),
        cards: vec![card(800_000 + person)],
        id_hash: [person as u8; 16],
    }
}

pub fn add(id: u64, home: u16) -> PersonChange {
    PersonChange::add(person(id, home))
}

pub fn change(id: u64, home: u16, act: PersonAct) -> PersonChange {
    PersonChange { person: PersonId(id), home: CampusId(home), act }
}

pub fn people(acts: Vec<PersonChange>) -> hub::Command {
    hub::Command::People { operator: CLERK, moves: Default::default(), acts }
}

pub fn edge_people(acts: Vec<PersonChange>) -> edge::Command {
    edge::Command::People { operator: CLERK, acts }
}

/// A change written by a node outside its machine, as a broken or hostile box would.
pub fn forge(doc: DocId, by: Writer, act: &Act) -> Vec<u8> {
    Document::new(doc).author(by, act, 0).unwrap().unwrap().0
}

impl World {
    /// Puts an entry into a node's own feed past its machine, as a broken or hostile box would.
    pub fn inject(&mut self, node: usize, channel: yika_crdt::channel::Channel, body: Body) {
        let node = &mut self.nodes[node];
        let feed = FeedId { writer: node.mesh().me, channel };
        let store = node.store.clone();
        let mut tx = Tx::new(&store);
        tx.append(feed, Entry { stamp: stamp(), body }.encode()).unwrap();
        node.store.commit(&tx.into_batch()).unwrap();
    }
}

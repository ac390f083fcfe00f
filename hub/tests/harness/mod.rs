//! A mesh in one thread: the pure hub, pure edges, stores in memory, a network that is told how to fail, virtual time.
//!
//! After every turn of the hub its books are compared with its wallets (invariant 8). Leaves to others: sockets, SQL.
#![allow(dead_code, unreachable_pub, unused_imports)] // each test file uses its part

mod boxes;
pub mod snapshots;

pub use boxes::{EdgeBox, HubBox};

use ed25519_dalek::SigningKey;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::clock::Ticks;
use yika_crdt::edge::{self, Edge};
use yika_crdt::entry::*;
use yika_crdt::feed::{Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_crdt::reason::Reason;
use yika_crdt::rights::PersonRights;
use yika_crdt::sale::{Answer, Outcome, PurchaseRequest, RefundRequest};
use yika_crdt::store::{MemoryStore, Read, Store, Tx};
use yika_crdt::sync::{Known, Message, PeerSync};
use yika_crdt::tariff::sheet::*;
use yika_hub::core::{self, Hub, TableRow, Teller};
use yika_hub::ledger::{Account, Transfer};
use yika_hub::rights::PersonWallets;

pub const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };
pub const NOON_MS: i64 = 1_795_494_600_000; // 2026-11-24 12:30 in Beijing
pub const SECOND_MS: i64 = 1_000;
pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;
pub const ASK_MS: i64 = 800;
pub const TELLER: Teller = Teller { operator: OperatorId(1), shift: 1 };
pub const HUB: Writer = Writer { node: NodeId::HUB, incarnation: LIFE };

/// All feeds of a store.
fn ids(store: &MemoryStore) -> Vec<FeedId> {
    store.feeds().unwrap().into_iter().map(|(feed, _)| feed).collect()
}

pub fn key_of(node: NodeId) -> SigningKey {
    SigningKey::from_bytes(&[node.0 as u8 + 1; 32])
}

/// A small generator, so that a seed says everything.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }

    pub fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// How the network fails.
#[derive(Clone, Copy)]
pub struct Faults {
    pub delay_ms: i64,
    pub jitter_ms: u64,
    /// One in so many frames arrives twice; 0 never.
    pub twice: u64,
}

struct Flight {
    at_ms: i64,
    number: u64,
    from: NodeId,
    to: NodeId,
    epoch: u64,
    bytes: Vec<u8>,
}

/// One direction of a connection.
struct End {
    sync: PeerSync,
    epoch: u64,
}

pub struct World {
    pub now_ms: i64,
    pub hub: HubBox,
    pub edges: Vec<EdgeBox>,
    pub faults: Faults,
    pub random: Random,
    ends: BTreeMap<(NodeId, NodeId), End>,
    /// What each knows without a look, until it is restarted.
    known: BTreeMap<NodeId, Known>,
    pub cut: BTreeSet<(NodeId, NodeId)>,
    flights: Vec<Flight>,
    flown: u64,
    epochs: u64,
    last_at: BTreeMap<(NodeId, NodeId, u8), i64>,
    next_tick_ms: i64,
    serial: u64,
    pub denied: Vec<(NodeId, NodeId, Row)>,
    cuts: BTreeMap<yika_crdt::feed::Hash, snapshots::Cut>,
}

impl World {
    /// A hub and boxes on the given campuses; everything connected, people and tariff known, no faults.
    pub fn new(campuses: &[u16]) -> World {
        World::seeded(campuses, 1, Faults { delay_ms: 5, jitter_ms: 0, twice: 0 })
    }

    pub fn seeded(campuses: &[u16], seed: u64, faults: Faults) -> World {
        let mut world = World {
            now_ms: NOON_MS,
            hub: HubBox::new(),
            edges: Vec::new(),
            faults,
            random: Random::new(seed),
            ends: BTreeMap::new(),
            known: BTreeMap::new(),
            cut: BTreeSet::new(),
            flights: Vec::new(),
            flown: 0,
            epochs: 0,
            last_at: BTreeMap::new(),
            next_tick_ms: NOON_MS,
            serial: 0,
            denied: Vec::new(),
            cuts: BTreeMap::new(),
        };
        let own = world.hub.hub.own_record("总部");
        world.order(core::Command::Registry(Box::new(Body::Node(own))));
        let numbers: BTreeSet<_> = campuses.iter().copied().chain([1, 2]).collect();
        for campus in numbers {
            let name = format!("校区{campus}");
            let record = CampusRecord {
                campus: CampusId(campus),
                name,
                utc_offset_minutes: 480,
                cut_minute: 180,
                people_shards: 4,
            };
            world.order(core::Command::Registry(Box::new(Body::Campus(record))));
            world.order(core::Command::Registry(Box::new(Body::Terminal(till(campus)))));
        }
        world.order(core::Command::Registry(Box::new(Body::Tariff(Box::new(sheet())))));
        for (n, campus) in campuses.iter().enumerate() {
            world.add_edge(Writer { node: NodeId(n as u32 + 1), incarnation: LIFE }, *campus);
        }
        world.run_ms(2 * SECOND_MS);
        world
    }

    pub fn add_edge(&mut self, me: Writer, campus: u16) -> usize {
        let key = key_of(me.node).verifying_key().to_bytes();
        let record =
            NodeRecord { writer: me, campus: Some(CampusId(campus)), key, name: me.to_string(), address: None };
        self.order(core::Command::Registry(Box::new(Body::Node(record))));
        self.edges.push(EdgeBox::new(me, campus));
        let index = self.edges.len() - 1;
        for person in 1..=3 {
            self.know(index, &a_person(person));
        }
        index
    }

    /// A person with one card, known everywhere.
    fn know(&mut self, index: usize, person: &Person) {
        let known = self.hub.hub.mesh.people.read().holder(person.person).is_some();
        if !known {
            self.order(core::Command::People {
                operator: OperatorId(0),
                moves: Default::default(),
                acts: vec![yika_crdt::documents::PersonChange::add(person.clone())],
            });
        }
        let edge = &mut self.edges[index];
        let mut tx = Tx::new(&edge.store);
        edge.edge.mesh.put_person(&mut tx, person, &mut Vec::new()).unwrap();
        let batch = tx.into_batch();
        edge.store.commit(&batch).unwrap();
    }

    /// One turn of the hub.
    pub fn order(&mut self, command: core::Command) -> core::Reply {
        let stamp = Stamp { hub_time_ms: self.now_ms, boot: 0, mono_ms: self.now_ms.unsigned_abs() };
        let (mut rows, mut effects) = (Vec::new(), Vec::new());
        let hub = &mut self.hub;
        let mut tx = Tx::new(&hub.store);
        let reply = hub.hub.handle(&mut tx, command, stamp, &mut rows, &mut effects).unwrap();
        let batch = tx.into_batch();
        hub.store.commit(&batch).unwrap();
        let posted = rows.iter().any(|row| matches!(row, TableRow::Transfer(_)));
        for row in rows {
            match row {
                TableRow::Transfer(transfer) => hub.book(transfer),
                TableRow::Alarm { word, detail, .. } => hub.alarms.push(format!("{word}: {detail}")),
                other => hub.rows.push(other),
            }
        }
        if posted {
            hub.check();
        }
        for effect in effects {
            match effect {
                core::Effect::Grown(feed) => self.grown(NodeId::HUB, feed),
                core::Effect::Say(to, message) => {
                    if let Some(end) = self.ends.get_mut(&(NodeId::HUB, to.node)) {
                        end.sync.say(message);
                    }
                }
                core::Effect::Fenced(writer) => self.disconnect(NodeId::HUB, writer.node),
                core::Effect::Recovering(_) => {
                    for n in 0..self.edges.len() {
                        self.disconnect(NodeId::HUB, self.edges[n].me.node);
                    }
                }
                _ => {}
            }
        }
        reply
    }

    /// One turn of the hub that is lost before it is committed.
    pub fn order_lost(&mut self, command: core::Command) {
        let stamp = Stamp { hub_time_ms: self.now_ms, boot: 0, mono_ms: self.now_ms.unsigned_abs() };
        let mut tx = Tx::new(&self.hub.store);
        let _ = self.hub.hub.handle(&mut tx, command, stamp, &mut Vec::new(), &mut Vec::new());
        drop(tx);
        self.restart_hub();
    }

    fn ticks(&self, n: usize) -> Ticks {
        let edge = &self.edges[n];
        let mono_ms = (self.now_ms + edge.skew_ms - NOON_MS + 1_000_000) as u64;
        Ticks { boot: edge.boot, mono_ms, wall_ms: self.now_ms }
    }

    /// One turn of an edge.
    pub fn tell(&mut self, n: usize, command: edge::Command) -> edge::Reply {
        let ticks = self.ticks(n);
        let mut effects = Vec::new();
        let edge = &mut self.edges[n];
        let mut tx = Tx::new(&edge.store);
        let reply = edge.edge.handle(&mut tx, command, ticks, &mut effects).unwrap();
        let batch = tx.into_batch();
        edge.store.commit(&batch).unwrap();
        let me = edge.me.node;
        for effect in effects {
            match effect {
                edge::Effect::Grown(feed) => self.grown(me, feed),
                edge::Effect::Low { row, right } if !self.is_connected(me, NodeId::HUB) => self.level(n, row, right),
                _ => {}
            }
        }
        reply
    }

    /// One turn of an edge that is lost before it is committed, with the process.
    pub fn tell_lost(&mut self, n: usize, command: edge::Command) {
        let ticks = self.ticks(n);
        let edge = &mut self.edges[n];
        let mut tx = Tx::new(&edge.store);
        let _ = edge.edge.handle(&mut tx, command, ticks, &mut Vec::new());
        drop(tx);
        self.restart(n);
    }

    fn level(&mut self, n: usize, row: Row, right: Fen) {
        let (me, campus) = (self.edges[n].me.node, self.edges[n].place.campus);
        let sibling = self.edges.iter().find(|e| e.place.campus == campus && e.me.node != me).map(|e| e.me.node);
        if let Some(end) = sibling.and_then(|s| self.ends.get_mut(&(me, s))) {
            end.sync.say(Message::Level { row, right });
        }
    }

    fn disconnect_all(&mut self, node: NodeId) {
        self.known.remove(&node);
        let others: Vec<_> = self.ends.keys().filter(|(a, _)| *a == node).map(|(_, b)| *b).collect();
        for other in others {
            self.disconnect(node, other);
        }
    }

    pub fn disconnect(&mut self, a: NodeId, b: NodeId) {
        self.ends.remove(&(a, b));
        self.ends.remove(&(b, a));
        self.flights.retain(|f| (f.from, f.to) != (a, b) && (f.from, f.to) != (b, a));
    }

    pub fn set_cut(&mut self, a: NodeId, b: NodeId, cut: bool) {
        for pair in [(a, b), (b, a)] {
            match cut {
                true => self.cut.insert(pair),
                false => self.cut.remove(&pair),
            };
        }
        if cut {
            self.disconnect(a, b);
        }
    }

    /// Switches a box off for good.
    pub fn switch_off(&mut self, n: usize) {
        self.edges[n].down = true;
        let me = self.edges[n].me.node;
        self.disconnect_all(me);
    }

    /// Cuts or heals an edge's line to headquarters.
    pub fn cut_wan(&mut self, n: usize, cut: bool) {
        self.set_cut(NodeId::HUB, self.edges[n].me.node, cut);
    }

    /// Cuts or heals everything.
    pub fn cut_all(&mut self, cut: bool) {
        let nodes: Vec<_> = self.nodes().into_iter().map(|(node, _)| node).collect();
        for a in &nodes {
            for b in nodes.iter().filter(|b| *b > a) {
                self.set_cut(*a, *b, cut);
            }
        }
    }

    pub fn is_connected(&self, a: NodeId, b: NodeId) -> bool {
        self.ends.contains_key(&(a, b))
    }

    fn nodes(&self) -> Vec<(NodeId, Writer)> {
        let edges = self.edges.iter().filter(|e| !e.down).map(|e| (e.me.node, e.me));
        std::iter::once((NodeId::HUB, self.hub.hub.mesh.me)).chain(edges).collect()
    }

    fn index(&self, node: NodeId) -> usize {
        self.edges.iter().position(|e| e.me.node == node && !e.down).unwrap()
    }

    fn place(&self, node: NodeId) -> Place {
        if node.is_hub() { Place { node, campus: None } } else { self.edges[self.index(node)].place }
    }

    fn grown(&mut self, node: NodeId, feed: FeedId) {
        for (_, end) in self.ends.range_mut((node, NodeId(0))..=(node, NodeId(u32::MAX))) {
            end.sync.on_grown([&feed]);
        }
    }

    fn all_grown(&mut self, node: NodeId, peer: NodeId) {
        let feeds = match node.is_hub() {
            true => self.hub.store.feeds().unwrap(),
            false => self.edges[self.index(node)].store.feeds().unwrap(),
        };
        if let Some(end) = self.ends.get_mut(&(node, peer)) {
            end.sync.on_grown(feeds.iter().map(|(feed, _)| feed));
        }
    }

    /// Connects whoever may and can connect.
    fn connect(&mut self) {
        let nodes = self.nodes();
        for (i, (a, a_writer)) in nodes.iter().enumerate() {
            for (b, b_writer) in &nodes[i + 1..] {
                let fenced = self.hub.hub.mesh.is_fenced(*b_writer) && a.is_hub();
                if fenced || self.cut.contains(&(*a, *b)) || self.ends.contains_key(&(*a, *b)) {
                    continue;
                }
                self.epochs += 1;
                let epoch = self.epochs;
                let place = |w: &World, n| w.place(n);
                let one = PeerSync::new(*a_writer, place(self, *b), *b_writer);
                let other = PeerSync::new(*b_writer, place(self, *a), *a_writer);
                if a.is_hub() {
                    let n = self.index(*b);
                    let record = self.hub.hub.own_record("总部");
                    self.tell(n, edge::Command::TrustHub(record));
                }
                self.ends.insert((*a, *b), End { sync: one, epoch });
                self.ends.insert((*b, *a), End { sync: other, epoch });
                for (from, to) in [(*a, *b), (*b, *a)] {
                    let greeting = self.greeting(from, to);
                    let sync = &mut self.ends.get_mut(&(from, to)).unwrap().sync;
                    greeting.into_iter().for_each(|part| sync.say(part));
                }
            }
        }
    }

    fn greeting(&self, from: NodeId, to: NodeId) -> Vec<Message> {
        let end = &self.ends[&(from, to)];
        match from.is_hub() {
            true => end
                .sync
                .greeting(&self.hub.hub.mesh.directory(), &self.hub.store, &ids(&self.hub.store), "test")
                .unwrap(),
            false => {
                let edge = &self.edges[self.index(from)];
                end.sync.greeting(&edge.edge.mesh.directory(), &edge.store, &ids(&edge.store), "test").unwrap()
            }
        }
    }

    /// Puts everything that can be sent on its way.
    fn send(&mut self) {
        let pairs: Vec<_> = self.ends.keys().copied().collect();
        for (from, to) in pairs {
            while let Some((message, epoch)) = self.poll(from, to) {
                let copies = if self.faults.twice > 0 && self.random.one_in(self.faults.twice) { 2 } else { 1 };
                let once = matches!(message, Message::Hello { .. } | Message::Have { .. });
                for _ in 0..if once { 1 } else { copies } {
                    let late = self.random.below(self.faults.jitter_ms + 1) as i64;
                    // Each class is a stream of its own: in order within it, overtaking between them. The greeting is first.
                    let class = message.class() as u8;
                    let first = self.last_at.get(&(from, to, u8::MAX)).copied().unwrap_or(i64::MIN);
                    let last = self.last_at.get(&(from, to, class)).copied().unwrap_or(i64::MIN);
                    let at_ms = (self.now_ms + self.faults.delay_ms + late).max(last).max(first);
                    self.last_at.insert((from, to, if once { u8::MAX } else { class }), at_ms);
                    self.flown += 1;
                    self.flights.push(Flight { at_ms, number: self.flown, from, to, epoch, bytes: message.encode() });
                }
            }
        }
    }

    fn poll(&mut self, from: NodeId, to: NodeId) -> Option<(Message, u64)> {
        let key = key_of(from);
        let (directory, store) = match from.is_hub() {
            true => (self.hub.hub.mesh.directory(), &self.hub.store),
            false => {
                let edge = &self.edges[self.index(from)];
                (edge.edge.mesh.directory(), &edge.store)
            }
        };
        let end = self.ends.get_mut(&(from, to))?;
        let known = self.known.entry(from).or_default();
        boxes::poll(&mut end.sync, &directory, store, &key, known).map(|message| (message, end.epoch))
    }

    /// Lets time pass, everything in it delivered.
    pub fn run_ms(&mut self, ms: i64) {
        let until = self.now_ms + ms;
        loop {
            self.connect();
            self.send();
            let next =
                self.flights.iter().enumerate().min_by_key(|(_, f)| (f.at_ms, f.number)).map(|(i, f)| (i, f.at_ms));
            match next {
                Some((i, at_ms)) if at_ms <= until && at_ms <= self.next_tick_ms => {
                    self.now_ms = self.now_ms.max(at_ms);
                    let flight = self.flights.remove(i);
                    self.deliver(flight);
                }
                _ if self.next_tick_ms <= until => {
                    self.now_ms = self.now_ms.max(self.next_tick_ms);
                    self.next_tick_ms = self.now_ms + SECOND_MS;
                    self.tick();
                }
                _ => {
                    self.now_ms = until;
                    return;
                }
            }
        }
    }

    /// Long stretches, in which only the hours matter.
    pub fn run_hours(&mut self, hours: i64) {
        for _ in 0..hours {
            self.now_ms += HOUR_MS - 2 * SECOND_MS;
            self.next_tick_ms = self.now_ms;
            self.run_ms(2 * SECOND_MS);
        }
    }

    fn tick(&mut self) {
        let connected = self.edges.iter().filter(|e| !e.down && self.is_connected(NodeId::HUB, e.me.node));
        let connected = connected.map(|e| e.me).collect();
        self.order(core::Command::Tick { connected });
        for n in 0..self.edges.len() {
            if !self.edges[n].down {
                self.tell(n, edge::Command::Tick);
            }
        }
    }

    fn deliver(&mut self, flight: Flight) {
        let (from, to) = (flight.from, flight.to);
        if self.ends.get(&(to, from)).is_none_or(|end| end.epoch != flight.epoch) {
            return;
        }
        let message = Message::decode(&flight.bytes).unwrap();
        let peer = self.ends[&(to, from)].sync.peer();
        match message {
            Message::Hello { ref have, .. } => {
                let have = have.clone();
                // No world here has so many feeds that a greeting takes two parts.
                assert!(self.ends.get_mut(&(to, from)).unwrap().sync.on_greeting(&message).unwrap());
                if to.is_hub() {
                    self.offer_snapshots(from);
                }
                self.all_grown(to, from);
                self.say_contradictions(to, from);
                if to.is_hub() {
                    self.order(core::Command::Greeted { from: peer, have });
                    if self.is_connected(to, from) {
                        self.order(core::Command::Connected(peer));
                    }
                }
            }
            Message::Stored(marks) => {
                self.ends.get_mut(&(to, from)).unwrap().sync.on_stored(&marks);
            }
            Message::Entries(run) => self.on_entries(to, from, run),
            other => self.on_word(to, from, peer, other),
        }
    }

    fn say_contradictions(&mut self, to: NodeId, from: NodeId) {
        let end = &self.ends[&(to, from)];
        let said = match to.is_hub() {
            true => end.sync.contradictions(&self.hub.store, &key_of(to)).unwrap(),
            false => end.sync.contradictions(&self.edges[self.index(to)].store, &key_of(to)).unwrap(),
        };
        let end = self.ends.get_mut(&(to, from)).unwrap();
        said.into_iter().for_each(|message| end.sync.say(message));
    }

    fn on_entries(&mut self, to: NodeId, from: NodeId, run: Box<Run>) {
        self.ends.get_mut(&(to, from)).unwrap().sync.on_entries(&run);
        let feed = run.head.feed;
        let stored = match to.is_hub() {
            true => match self.order(core::Command::Ingest(run)) {
                core::Reply::Stored(feed, seq) => Ok((feed, seq)),
                core::Reply::Branch { feed, from: wanted } => {
                    self.say(to, from, Message::Branch { feed, from: wanted });
                    return;
                }
                other => Err(format!("{other:?}")),
            },
            false => match self.tell(self.index(to), edge::Command::Ingest(run)) {
                edge::Reply::Stored(feed, seq) => Ok((feed, seq)),
                edge::Reply::Branch { feed, from: wanted } => {
                    self.say(to, from, Message::Branch { feed, from: wanted });
                    return;
                }
                other => Err(format!("{other:?}")),
            },
        };
        match stored {
            Ok(mark) => {
                if let Some(end) = self.ends.get_mut(&(to, from)) {
                    end.sync.say(Message::Stored(vec![mark]));
                }
            }
            Err(said) => assert!(
                ["Fenced", "NotTheSignedChain", "UnknownWriter", "UnknownReceiver"].iter().any(|w| said.contains(w)),
                "{from} → {to}: {feed}: {said}"
            ),
        }
    }

    fn say(&mut self, from: NodeId, to: NodeId, message: Message) {
        if let Some(end) = self.ends.get_mut(&(from, to)) {
            end.sync.say(message);
        }
    }

    fn branch_wanted(&mut self, command: core::Command) -> Option<Message> {
        match self.order(command) {
            core::Reply::Branch { feed, from } => Some(Message::Branch { feed, from }),
            _ => None,
        }
    }

    fn on_word(&mut self, to: NodeId, from: NodeId, peer: Writer, message: Message) {
        let answer = match (to.is_hub(), message) {
            (_, Message::Snapshot(word)) => self.on_snapshot_word(to, from, *word),
            (true, Message::Ask { row, total }) => {
                let reply = self.order(core::Command::Ask { from: peer, row, total });
                (reply == core::Reply::Granted(false)).then_some(Message::Denied { row, total })
            }
            (true, Message::Denied { row, .. }) => {
                self.order(core::Command::KeptBack { from: peer, row });
                None
            }
            (true, Message::Diverged(head)) => self.branch_wanted(core::Command::Diverged(*head)),
            (true, Message::Other(run)) => self.branch_wanted(core::Command::Branch(run)),
            (false, Message::Branch { feed, from }) => {
                let edge = &self.edges[self.index(to)];
                yika_crdt::sync::run_from(&edge.store, feed, from, edge.me, &key_of(to))
                    .unwrap()
                    .map(|run| Message::Other(Box::new(run)))
            }
            (true, Message::Branch { feed, from }) => {
                let me = self.hub.hub.mesh.me;
                yika_crdt::sync::run_from(&self.hub.store, feed, from, me, &key_of(to))
                    .unwrap()
                    .map(|run| Message::Other(Box::new(run)))
            }
            (false, Message::Other(run)) => {
                let asked = run.from;
                match self.tell(self.index(to), edge::Command::Ingest(run)) {
                    edge::Reply::Branch { feed, from } if from < asked => Some(Message::Branch { feed, from }),
                    _ => None,
                }
            }
            (false, Message::Ask { row, total }) => {
                let reply = self.tell(self.index(to), edge::Command::Ask { from: peer, row, total });
                (reply != edge::Reply::Granted(true)).then_some(Message::Denied { row, total })
            }
            (false, Message::Level { row, right }) => {
                self.tell(self.index(to), edge::Command::Level { from: peer, row, right });
                None
            }
            (false, Message::Recall { row, keep }) if peer.node.is_hub() => {
                let given = self.tell(self.index(to), edge::Command::Recall { row, keep });
                (given != edge::Reply::Granted(true)).then_some(Message::Denied { row, total: keep })
            }
            (false, Message::Diverged(head)) => {
                self.tell(self.index(to), edge::Command::Diverged(*head));
                None
            }
            (false, Message::Denied { row, .. }) => {
                self.denied.push((to, from, row));
                None
            }
            _ => None,
        };
        if let (Some(answer), Some(end)) = (answer, self.ends.get_mut(&(to, from))) {
            end.sync.say(answer);
        }
    }

    /// Sells as the running edge does: short of rights it asks the hub, with the hub away other boxes (`EdgeNode`).
    pub fn buy(&mut self, n: usize, seq: u32, person: u64, fen: i64) -> Answer {
        let request = request(self.edges[n].till(), seq, person, fen);
        self.purchase(n, request)
    }

    pub fn purchase(&mut self, n: usize, request: PurchaseRequest) -> Answer {
        let me = self.edges[n].me.node;
        let mut asked: BTreeSet<(NodeId, Row)> = BTreeSet::new();
        loop {
            let hub_is_there = self.is_connected(me, NodeId::HUB);
            let others: Vec<_> = self.ends.keys().filter(|(a, b)| *a == me && !b.is_hub()).map(|p| p.1).collect();
            let may_ask = hub_is_there || !others.is_empty();
            let (row, missing) = match self.tell(n, edge::Command::Purchase { request: request.clone(), may_ask }) {
                edge::Reply::Outcome(Outcome::Answered(answer)) => return answer,
                edge::Reply::Outcome(Outcome::Short { row, missing }) => (row, missing),
                other => panic!("{other:?}"),
            };
            let candidates = if hub_is_there { vec![NodeId::HUB] } else { others };
            let Some(whom) = candidates.into_iter().find(|w| !asked.contains(&(*w, row))) else {
                let reason = match row.wallet {
                    WalletKey::Limit(..) => Reason::OverDayLimit,
                    _ => Reason::NotEnough,
                };
                let last = match hub_is_there {
                    true => edge::Command::Refuse { request, reason },
                    // With the hub away a guest may still be served.
                    false => edge::Command::Purchase { request, may_ask: false },
                };
                return match self.tell(n, last) {
                    edge::Reply::Answer(answer) | edge::Reply::Outcome(Outcome::Answered(answer)) => answer,
                    other => panic!("{other:?}"),
                };
            };
            asked.insert((whom, row));
            let writer = self.ends[&(me, whom)].sync.peer();
            let had = self.edges[n].right(row.person, row.wallet);
            let granted =
                self.edges[n].rights(row.person).rows.get(&row.wallet).and_then(|r| r.granted_in.get(&writer).copied());
            let total = granted.unwrap_or_default().add(missing).unwrap();
            self.ends.get_mut(&(me, whom)).unwrap().sync.say(Message::Ask { row, total });
            let until = self.now_ms + ASK_MS;
            while self.now_ms < until {
                self.run_ms(20);
                let denied = self.denied.contains(&(me, whom, row));
                if denied || self.edges[n].right(row.person, row.wallet) != had {
                    break;
                }
            }
            self.denied.clear();
        }
    }

    pub fn refund(&mut self, n: usize, seq: u32, of: u32, kind: RefundKind, amount: Option<i64>) -> Answer {
        let id = |seq| PurchaseId { terminal: self.edges[n].till(), boot: 1, seq };
        let request = RefundRequest { id: id(seq), of: id(of), kind, amount: amount.map(Fen), operator: OperatorId(1) };
        match self.tell(n, edge::Command::Refund(request)) {
            edge::Reply::Answer(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn top_up(&mut self, person: u64, fen: i64) -> yika_crdt::feed::Hash {
        self.serial += 1;
        let id = yika_crdt::feed::digest("test", &self.serial.to_be_bytes());
        let command = core::Command::TopUp { id, person: PersonId(person), amount: Fen(fen), by: TELLER };
        assert!(matches!(self.order(command), core::Reply::ToppedUp { repeated: false, .. }));
        id
    }

    /// Sold by all edges' journals, and by the hub's merchants' accounts: must be the same once all is delivered.
    pub fn sold(&self) -> (i64, i64) {
        let edges = self.edges.iter().map(EdgeBox::sold).sum();
        let books = self.hub.books();
        let hub = books.iter().filter(|(a, _)| matches!(a, Account::Merchant(_))).map(|(_, f)| f).sum();
        (edges, hub)
    }

    pub fn total(&self, person: u64) -> i64 {
        let wallets = self.hub.wallets(PersonId(person));
        wallets.total().unwrap().0 - wallets.owed().unwrap().0
    }
}

pub fn a_person(number: u64) -> Person {
    let card = Card { number: CardNumber(800_000 + number), uid: None, state: CardState::Active, valid_until: None };
    Person {
        person: PersonId(number),
        home: CampusId(1),
        name: "测试员".into(),
        staff_number: format!("{number:04}"),
        category: CategoryId(number as u16),
        status: PersonStatus::Active,
        valid: (None, None),
        cards: vec![card],
        id_hash: [0; 16],
    }
}

pub fn till(campus: u16) -> TerminalRecord {
    TerminalRecord {
        terminal: TerminalId(u32::from(campus) * 10),
        campus: CampusId(campus),
        kind: TerminalKind::Till,
        outlet: OutletId(1),
        merchant: MerchantId(1),
        door: None,
        name: "一号窗口".into(),
        state: TerminalState::Deployed,
    }
}

/// Category 3 has a strict limit of 20 yuan a day.
pub fn sheet() -> TariffSheet {
    let strict = Limit {
        category: Some(CategoryId(3)),
        per_purchase: None,
        per_meal: None,
        per_day: Some(Fen(2_000)),
        times_per_meal: 0,
        times_per_day: 0,
        scope: LimitScope::Strict,
    };
    TariffSheet {
        version: TariffVersion(1),
        periods: vec![],
        fixed: vec![],
        adjustments: vec![],
        limits: vec![strict],
        barred: vec![],
        repeat_tap_seconds: 0,
        guest: GuestRule { per_purchase: Fen(2_000), per_card_day: Fen(3_000) },
    }
}

pub fn request(terminal: TerminalId, seq: u32, person: u64, fen: i64) -> PurchaseRequest {
    let id = PurchaseId { terminal, boot: 1, seq };
    let card = CardNumber(800_000 + person);
    PurchaseRequest { id, card, mode: Mode::Amount(Fen(fen)), terminal_time_ms: 0, offline: false, tariff: None }
}

pub fn paid(answer: &Answer) -> i64 {
    match answer {
        Answer::Approved(sale) => sale.paid.iter().map(|p| p.1.0).sum(),
        other => panic!("not approved: {other:?}"),
    }
}

pub fn is_refused(answer: &Answer, reason: Reason) -> bool {
    *answer == Answer::Refused(reason)
}

//! What nodes say to each other: connections, messages under way, and what a node does with one that arrives.
//!
//! The same steps as the link's loop takes over QUIC: streams of a class in order, classes overtake each other, a lost
//! connection loses what was under way. Leaves to others: what is said (`yika_crdt::sync`), purchases (`selling`).

use crate::nodes::BoxNode;
use crate::plan::Class;
use crate::then::Then;
use crate::turn::NotDone;
use crate::world::{Event, World};
use ed25519_dalek::SigningKey;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::edge;
use yika_crdt::feed::{Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::mesh::RunRefused;
use yika_crdt::proof;
use yika_crdt::store::Read;
use yika_crdt::sync::{Claim, Message, PeerSync};
use yika_hub_core as core;

/// How often a node dials whom it has no connection to.
pub const DIAL_MS: i64 = 250;
/// What is lost on a line is sent again after this.
const RESEND_MS: i64 = 200;
/// The stream of greetings.
const GREETING: u8 = u8::MAX;
/// Headquarters waits so long for the others when one box has greeted it after its start.
const HEARING_AFTER_FIRST_MS: i64 = 1_000;
/// A silent connection is given up after this.
pub const IDLE_MS: i64 = 4_000;
/// Addresses of one node are so many apart: its own, that of a copy of it, that of a box in its place.
const ADDRESSES_APART: u32 = 100;
/// Of two with one key that dial the same node, the newer takes the other's place once in so many tries.
const TAKES_PLACE_ONE_IN: u64 = 10;

/// The node at an address.
pub fn node_at(address: NodeId) -> NodeId {
    NodeId(address.0 % ADDRESSES_APART)
}

/// One side of a connection.
struct End {
    sync: PeerSync,
    /// Of which connection.
    number: u64,
}

/// A message under way.
#[derive(Clone)]
pub struct Flight {
    from: NodeId,
    to: NodeId,
    number: u64,
    /// Its stream, and its place in it.
    stream: (u8, u64),
    bytes: Vec<u8>,
}

impl Flight {
    /// Who is to read it.
    pub fn to(&self) -> NodeId {
        self.to
    }
}

/// Lines between nodes.
#[derive(Default)]
pub struct Net {
    ends: BTreeMap<(NodeId, NodeId), End>,
    /// Directions in which nothing passes.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    connections: u64,
    /// Messages sent and taken in each stream of a connection.
    sent: BTreeMap<(NodeId, NodeId, u64, u8), u64>,
    taken: BTreeMap<(NodeId, NodeId, u64, u8), u64>,
    /// What has arrived before its turn.
    early: BTreeMap<(NodeId, NodeId, u64, u8), BTreeMap<u64, Flight>>,
}

impl World {
    /// All nodes that are up, with their lives.
    fn nodes_up(&self) -> Vec<(NodeId, Writer)> {
        let hub = self.hub.core.as_ref().map(|hub| (NodeId::HUB, hub.mesh.me));
        let boxes = self.boxes.iter().filter(|node| node.core.is_some() && !node.is_still);
        let boxes = boxes.map(|node| (node.address, node.me));
        hub.into_iter().chain(boxes).collect()
    }

    /// Number of the box at an address.
    pub fn index(&self, address: NodeId) -> Option<usize> {
        self.boxes.iter().position(|b| b.address == address && !b.gone)
    }

    /// An address of a node that nobody has had.
    pub fn free_address(&self, node: NodeId) -> NodeId {
        let of = |b: &&BoxNode| b.me.node == node;
        NodeId(node.0 + ADDRESSES_APART * self.boxes.iter().filter(of).count() as u32)
    }

    /// The campus of a box, whichever life.
    pub fn campus_of(&self, node: NodeId) -> Option<CampusId> {
        self.boxes.iter().find(|b| b.me.node == node).and_then(|b| b.place.campus)
    }

    /// The key of who is at an address.
    fn key_at(&self, address: NodeId) -> SigningKey {
        self.index(address).map_or_else(|| self.hub.key.clone(), |n| self.boxes[n].key.clone())
    }

    /// What one side of a connection knows of it.
    pub fn sync_of(&mut self, from: NodeId, to: NodeId) -> Option<&mut PeerSync> {
        self.net.ends.get_mut(&(from, to)).map(|end| &mut end.sync)
    }

    /// One side of a connection is gone, and the other does not know.
    pub fn lose_one_side(&mut self, from: NodeId, to: NodeId) {
        self.net.ends.remove(&(from, to));
    }

    fn place(&self, node: NodeId) -> Place {
        self.index(node).map_or(Place { node, campus: None }, |n| self.boxes[n].place)
    }

    /// Whether two nodes have a connection.
    pub fn is_connected(&self, a: NodeId, b: NodeId) -> bool {
        self.net.ends.contains_key(&(a, b))
    }

    /// Whom a node is connected to, and where.
    pub fn connected(&self, of: NodeId) -> Vec<(NodeId, Writer)> {
        let range = self.net.ends.range((of, NodeId(0))..=(of, NodeId(u32::MAX)));
        range.map(|((_, at), end)| (*at, end.sync.peer())).collect()
    }

    /// Whom a node is connected to.
    pub fn peers(&self, of: NodeId) -> Vec<Writer> {
        self.connected(of).into_iter().map(|(_, peer)| peer).collect()
    }

    /// Ends a connection with everything under way.
    pub fn disconnect(&mut self, a: NodeId, b: NodeId) {
        self.unsettled_ms = self.now_ms;
        self.net.ends.remove(&(a, b));
        self.net.ends.remove(&(b, a));
        self.net.early.retain(|(from, to, ..), _| (*from, *to) != (a, b) && (*from, *to) != (b, a));
    }

    /// Ends all connections of a node.
    pub fn disconnect_all(&mut self, node: NodeId) {
        self.unsettled_ms = self.now_ms;
        self.net.ends.retain(|(a, b), _| *a != node && *b != node);
        self.net.early.retain(|(a, b, ..), _| *a != node && *b != node);
    }

    /// Connects whoever may and can.
    pub fn dial(&mut self) {
        let up = self.nodes_up();
        for (i, (a, a_life)) in up.iter().enumerate() {
            for (b, b_life) in &up[i + 1..] {
                let cut = self.net.cut.contains(&(*a, *b)) || self.net.cut.contains(&(*b, *a));
                if cut || self.is_connected(*a, *b) || node_at(*a) == node_at(*b) {
                    continue;
                }
                if self.admits(*a, *b_life) && self.admits(*b, *a_life) {
                    if self.takes_place((*a, *a_life), (*b, *b_life)) {
                        self.connect((*a, *a_life), (*b, *b_life));
                    }
                } else if a.is_hub() {
                    self.turn_away(*b, *b_life);
                }
            }
        }
    }

    /// A node has one connection with a life: where another with the same key has it, the newer one may take it over.
    fn takes_place(&mut self, (a, a_life): (NodeId, Writer), (b, b_life): (NodeId, Writer)) -> bool {
        for (one, other_life) in [(a, b_life), (b, a_life)] {
            let held = self.connected(one).into_iter().find(|(_, peer)| *peer == other_life);
            if let Some((at, _)) = held {
                if !self.chance.one_in(TAKES_PLACE_ONE_IN) {
                    return false;
                }
                self.disconnect(one, at);
            }
        }
        true
    }

    /// The registry's word on a peer, as a node holds it.
    fn admits(&self, node: NodeId, peer: Writer) -> bool {
        let mesh = match self.index(node) {
            None => self.hub.core.as_ref().map(|hub| &hub.mesh),
            Some(n) => self.boxes[n].core.as_ref().map(|edge| &edge.mesh),
        };
        // A box that knows nothing yet takes headquarters on its certificate alone.
        mesh.is_some_and(|mesh| !mesh.is_fenced(peer) && (peer.node.is_hub() || mesh.nodes.contains_key(&peer)))
    }

    fn is_shut_for_ever(&self, n: usize) -> bool {
        self.boxes[n].shut().is_some_and(|shut| shut.is_for_ever())
    }

    /// Headquarters tells a fenced box so when it calls.
    fn turn_away(&mut self, from: NodeId, caller: Writer) {
        let is_fenced = self.hub.core.as_ref().is_some_and(|hub| hub.mesh.is_fenced(caller));
        if let Some(n) =
            self.index(from).filter(|n| is_fenced && !(self.boxes[*n].told_fenced && self.is_shut_for_ever(*n)))
        {
            self.note(|| format!("{caller} is told that it is fenced"));
            if self.tell(n, edge::Command::Fenced).is_ok() {
                self.boxes[n].told_fenced = true;
            }
        }
    }

    fn connect(&mut self, (a, a_life): (NodeId, Writer), (b, b_life): (NodeId, Writer)) {
        self.net.connections += 1;
        let number = self.net.connections;
        if a.is_hub()
            && let (Some(n), Some(hub)) = (self.index(b), &self.hub.core)
        {
            let record = hub.own_record("总部");
            if self.tell(n, edge::Command::TrustHub(record)).is_err() {
                return;
            }
        }
        let one = PeerSync::new(a_life, self.place(b), b_life);
        let other = PeerSync::new(b_life, self.place(a), a_life);
        self.net.ends.insert((a, b), End { sync: one, number });
        self.net.ends.insert((b, a), End { sync: other, number });
        self.tally.connections += 1;
        self.unsettled_ms = self.now_ms;
        for (from, to) in [(a, b), (b, a)] {
            for part in self.greeting(from, to) {
                self.say(from, to, part);
            }
        }
    }

    fn greeting(&mut self, from: NodeId, to: NodeId) -> Vec<Message> {
        let Some(end) = self.net.ends.get(&(from, to)) else { return Vec::new() };
        let parts = match self.index(from) {
            None => self.hub.core.as_ref().map(|hub| (hub.mesh.directory(), &self.hub.disk)),
            Some(n) => self.boxes[n].core.as_ref().map(|edge| (edge.mesh.directory(), &self.boxes[n].disk)),
        };
        let Some((directory, disk)) = parts else { return Vec::new() };
        let feeds: Vec<FeedId> = disk.feeds().unwrap_or_default().into_iter().map(|(feed, _)| feed).collect();
        end.sync.greeting(&directory, disk, &feeds, "sim").unwrap_or_default()
    }

    /// Where a node reaches another: at its own address, or wherever it is.
    fn reached_at(&self, from: NodeId, to: NodeId) -> Option<NodeId> {
        let elsewhere = || self.connected(from).into_iter().find(|(_, peer)| peer.node == to).map(|(at, _)| at);
        if self.is_connected(from, to) { Some(to) } else { elsewhere() }
    }

    /// Says something to a peer, if it is connected; to a node, wherever it is.
    pub fn say(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.say_over(from, to, message);
    }

    /// The same; gives the number of the connection.
    pub fn say_over(&mut self, from: NodeId, to: NodeId, message: Message) -> Option<u64> {
        let end = self.reached_at(from, to).and_then(|at| self.net.ends.get_mut(&(from, at)))?;
        end.sync.say(message);
        Some(end.number)
    }

    /// Whether a connection is still the one over which a node reaches another.
    pub fn holds(&self, from: NodeId, to: NodeId, number: u64) -> bool {
        let end = self.reached_at(from, to).and_then(|at| self.net.ends.get(&(from, at)));
        end.is_some_and(|end| end.number == number)
    }

    /// A feed of a node has grown: its peers are told.
    pub fn grown(&mut self, node: NodeId, feed: FeedId) {
        for (_, end) in self.net.ends.range_mut((node, NodeId(0))..=(node, NodeId(u32::MAX))) {
            end.sync.on_grown([&feed]);
        }
    }

    /// Whom the registry lists from here on may have written before: a new box its own first entries.
    fn all_grown(&mut self, n: usize) {
        let at = self.boxes[n].address;
        let feeds = self.boxes[n].disk.feeds().unwrap_or_default().into_iter().map(|(feed, _)| feed);
        let feeds: Vec<FeedId> = feeds.collect();
        for (_, end) in self.net.ends.range_mut((at, NodeId(0))..=(at, NodeId(u32::MAX))) {
            end.sync.on_grown(feeds.iter());
        }
    }

    /// Puts everything that can be said on its way.
    pub fn send(&mut self) {
        let pairs: Vec<_> = self.net.ends.keys().copied().collect();
        for (from, to) in pairs {
            while let Some((message, number)) = self.poll(from, to) {
                self.fly(from, to, number, &message);
            }
        }
    }

    fn poll(&mut self, from: NodeId, to: NodeId) -> Option<(Message, u64)> {
        let n = self.index(from);
        if n.is_some_and(|n| self.is_still(n)) {
            return None;
        }
        if !self.net.ends.get(&(from, to)).is_some_and(|end| end.sync.may_speak()) {
            return self.next_chunk(from, to);
        }
        let key = n.map_or(&self.hub.key, |n| &self.boxes[n].key).clone();
        let end = self.net.ends.get_mut(&(from, to))?;
        let (directory, disk, known) = match n {
            None => (self.hub.core.as_ref()?.mesh.directory(), &self.hub.disk, &mut self.hub.known),
            Some(n) => {
                let node = &mut self.boxes[n];
                (node.core.as_ref()?.mesh.directory(), &node.disk, &mut node.known)
            }
        };
        let next = match end.sync.poll_known(&directory, known) {
            Some(next) => Some(next),
            None => end.sync.poll(&directory, disk, &key).ok().flatten().inspect(|message| {
                if let Message::Entries(run) = message
                    && run.head.feed.writer.node == node_at(from)
                {
                    known.said(run);
                }
            }),
        };
        match next {
            Some(message) => Some((message, end.number)),
            None => self.next_chunk(from, to),
        }
    }

    /// The next chunk of a snapshot that a peer has asked for, when there is nothing else to say.
    fn next_chunk(&mut self, from: NodeId, to: NodeId) -> Option<(Message, u64)> {
        let number = self.net.ends.get(&(from, to)).filter(|end| end.sync.is_wanted())?.number;
        self.chunk_for(from, to).map(|message| (message, number))
    }

    fn fly(&mut self, from: NodeId, to: NodeId, number: u64, message: &Message) {
        if self.plan.has(Class::Drop) && self.is_busy() && self.chance.one_in(900) {
            self.note(|| format!("the connection {from}–{to} is lost"));
            self.struck(Class::Drop);
            self.disconnect(from, to);
            return;
        }
        let greets = matches!(message, Message::Hello { .. } | Message::Have { .. });
        if self.is_torn(from, to) {
            return;
        }
        // Of a question whose answer asks further, each doubled would double all that follow.
        let asks_on = matches!(message, Message::Branch { .. } | Message::Other(_));
        let twice = self.plan.has(Class::Twice) && !greets && self.chance.one_in(12) && !asks_on;
        if twice {
            self.struck(Class::Twice);
        }
        for _ in 0..if twice { 2 } else { 1 } {
            let mut delay_ms = 2 + self.chance.below(4) as i64;
            if self.plan.has(Class::Delay) && self.chance.one_in(6) {
                self.struck(Class::Delay);
                delay_ms += self.chance.between(20, 900);
            }
            delay_ms += self.thin_line_ms(message);
            let class = if greets { GREETING } else { message.class() as u8 };
            let sent = self.net.sent.entry((from, to, number, class)).or_default();
            let stream = (class, *sent);
            *sent += 1;
            self.tally.messages += 1;
            self.later(delay_ms, Event::Arrives(Flight { from, to, number, stream, bytes: message.encode() }));
        }
    }

    /// A message arrives, unless its connection has ended or nothing passes.
    pub fn arrives(&mut self, flight: Flight) {
        let (from, to) = (flight.from, flight.to);
        let Some(end) = self.net.ends.get(&(to, from)).filter(|end| end.number == flight.number) else { return };
        if self.net.cut.contains(&(from, to)) {
            // Sent again until it arrives, or the connection is given up.
            return self.later(RESEND_MS, Event::Arrives(flight));
        }
        if to.is_hub() && flight.stream.0 != GREETING && self.hub_is_opening() {
            return self.later(RESEND_MS, Event::Arrives(flight));
        }
        let peer = end.sync.peer();
        // In order within a class, overtaking between them; the greeting comes first.
        let (class, place) = flight.stream;
        let taken = |class| self.net.taken.get(&(from, to, flight.number, class)).copied().unwrap_or_default();
        let is_greeted = class == GREETING || taken(GREETING) > 0;
        if taken(class) != place || !is_greeted {
            self.net.early.entry((from, to, flight.number, class)).or_default().insert(place, flight);
            return;
        }
        self.net.taken.insert((from, to, flight.number, class), place + 1);
        self.release_early(from, to, flight.number);
        let message = match Message::decode(&flight.bytes) {
            Ok(message) => message,
            Err(error) => return self.fail(format!("{from} → {to}: what was sent cannot be read: {error}")),
        };
        self.trace(|| format!("{from} → {to}: {}", brief(&message)));
        if let Some(n) = self.index(to) {
            self.boxes[n].silent.remove(&peer.node);
        }
        match message {
            Message::Hello { .. } | Message::Have { .. } => self.greets(to, from, peer, &message),
            Message::Stored(marks) => {
                if let Some(end) = self.net.ends.get_mut(&(to, from)) {
                    end.sync.on_stored(&marks);
                }
            }
            Message::Entries(run) => self.takes(to, from, run),
            other => self.hears(to, from, peer, other),
        }
    }

    /// What came before its turn, and whose turn it is now.
    fn release_early(&mut self, from: NodeId, to: NodeId, number: u64) {
        let stream = |class| (from, to, number, class);
        let mut next = Vec::new();
        for (key, early) in self.net.early.range_mut(stream(u8::MIN)..=stream(u8::MAX)) {
            let taken = self.net.taken.get(key).copied().unwrap_or_default();
            next.extend(early.remove(&taken));
        }
        next.into_iter().for_each(|flight| self.later(0, Event::Arrives(flight)));
    }

    fn greets(&mut self, to: NodeId, from: NodeId, peer: Writer, message: &Message) {
        let Some(end) = self.net.ends.get_mut(&(to, from)) else { return };
        match end.sync.on_greeting(message) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.fail(format!("{from} → {to}: a greeting is refused: {error}")),
        }
        let have: Vec<Claim> = match message {
            Message::Hello { have, .. } | Message::Have { have, .. } => have.clone(),
            _ => Vec::new(),
        };
        let (n, key) = (self.index(to), self.key_at(to));
        let disk = n.map_or(&self.hub.disk, |n| &self.boxes[n].disk);
        let feeds: Vec<FeedId> = disk.feeds().unwrap_or_default().into_iter().map(|(feed, _)| feed).collect();
        let mut said = Vec::new();
        if n.is_none() {
            self.hold_for_snapshots(from);
        }
        let disk = n.map_or(&self.hub.disk, |n| &self.boxes[n].disk);
        if let Some(end) = self.net.ends.get_mut(&(to, from)) {
            said = end.sync.contradictions(disk, &key).unwrap_or_default();
            end.sync.on_grown(feeds.iter());
        }
        said.into_iter().for_each(|message| self.say(to, from, message));
        match n {
            None => {
                _ = self.order(core::Command::Greeted { from: peer, have });
                self.heard_at_hub();
                if self.is_connected(to, from) && self.order(core::Command::Connected(peer)).is_err() {
                    let after_ms = self.hub.hears_until_ms - self.now_ms;
                    self.later(after_ms.max(0), Event::Orders(Box::new(core::Command::Connected(peer))));
                }
            }
            Some(n) => {
                if from.is_hub() {
                    let alone = FeedId { writer: peer, channel: Channel::Receipts(node_at(to)) };
                    let said = have.iter().find(|claim| claim.feed == alone).map_or(Seq::ZERO, |claim| claim.end.seq);
                    _ = self.tell(n, edge::Command::HubGreeted { life: peer, said });
                }
                self.note_claims(n, from, &have);
            }
        }
    }

    /// A box has greeted headquarters, which takes orders soon after the first, or when all living ones have.
    fn heard_at_hub(&mut self) {
        let living = self.boxes.iter().filter(|node| !node.gone && !self.fenced.contains(&node.me));
        let connected = self.peers(NodeId::HUB);
        let all = living.filter(|node| !connected.contains(&node.me)).count() == 0;
        let until_ms = if all { self.now_ms } else { self.now_ms + HEARING_AFTER_FIRST_MS };
        self.hub.hears_until_ms = self.hub.hears_until_ms.min(until_ms);
    }

    /// How far a peer shows that it holds a box's own feeds.
    fn note_claims(&mut self, n: usize, from: NodeId, have: &[Claim]) {
        let node = &mut self.boxes[n];
        let key = node.key.verifying_key();
        let lost = node.lost.entry(from).or_default();
        lost.clear();
        for claim in have.iter().filter(|c| c.feed.writer == node.me && c.end.seq > Seq::ZERO && c.is_signed_by(&key)) {
            lost.insert(claim.feed, claim.end.seq);
        }
    }

    fn takes(&mut self, to: NodeId, from: NodeId, run: Box<Run>) {
        if let Some(end) = self.net.ends.get_mut(&(to, from)) {
            end.sync.on_entries(&run);
        }
        let (feed, end) = (run.head.feed, run.head.end.seq);
        let mark = match self.index(to) {
            None => match self.order(core::Command::Ingest(run)) {
                Ok(core::Reply::Stored(feed, seq)) => Ok((feed, seq)),
                Ok(core::Reply::Branch { feed, from: wanted }) => {
                    self.say(to, from, Message::Branch { feed, from: wanted });
                    Ok((feed, end))
                }
                Ok(core::Reply::Refused(refused)) => self.refused(to, from, refused, (feed, end)),
                Ok(other) => Err(format!("{other:?}")),
                Err(NotDone::Disk) if proof::sown("acknowledged_before_commit") => Ok((feed, end)),
                Err(_) => return self.disconnect(to, from),
            },
            Some(n) => match self.tell(n, edge::Command::Ingest(run)) {
                Ok(edge::Reply::Stored(feed, seq)) => Ok((feed, seq)),
                Ok(edge::Reply::Branch { feed, from: wanted }) => {
                    self.say(to, from, Message::Branch { feed, from: wanted });
                    Ok(self.own_refused(n, from, feed))
                }
                Ok(edge::Reply::Refused(refused)) if feed.writer == self.boxes[n].me && !refused.may_pass() => {
                    Ok(self.own_refused(n, from, feed))
                }
                Ok(edge::Reply::Refused(refused)) => self.refused(to, from, refused, (feed, end)),
                Ok(other) => Err(format!("{other:?}")),
                Err(NotDone::Disk) if proof::sown("acknowledged_before_commit") => Ok((feed, end)),
                Err(_) => return self.disconnect(to, from),
            },
        };
        match mark {
            Ok(mark) => self.say(to, from, Message::Stored(vec![mark])),
            Err(words) => {
                self.note(|| format!("{from} → {to}: {feed} is refused: {words}"));
                self.disconnect(to, from);
            }
        }
    }

    /// What becomes of a run that is refused: fences that the peer has not heard of, and forks, are no offence.
    fn refused(
        &mut self,
        to: NodeId,
        from: NodeId,
        refused: RunRefused,
        mark: (FeedId, Seq),
    ) -> Result<(FeedId, Seq), String> {
        if matches!(refused, RunRefused::Fenced { .. }) {
            return Ok(mark);
        }
        if refused.is_fork() {
            let disk = self.index(to).map_or(&self.hub.disk, |n| &self.boxes[n].disk);
            let shown = disk.feed(&mark.0).and_then(|held| disk.head_from(&mark.0, held.end.seq)).ok().flatten();
            if let Some(head) = shown.filter(|_| !to.is_hub()) {
                self.say(to, from, Message::Diverged(Box::new(head)));
            }
            return Ok(mark);
        }
        // A node that is just told of others, or of an end of one, may be ahead of the registry: it comes again.
        let passing = ["UnknownWriter", "UnknownReceiver", "NotForUs"];
        let words = format!("{refused:?}");
        if !passing.iter().any(|word| words.contains(word)) && self.honest() {
            self.fail(format!("{from} → {to}: {} of an honest node is refused: {words}", mark.0));
        }
        Err(words)
    }

    /// An own feed that does not continue as the box's: the peer is shown its end.
    fn own_refused(&mut self, n: usize, from: NodeId, feed: FeedId) -> (FeedId, Seq) {
        let node = &self.boxes[n];
        let me = node.address;
        let end = node.disk.feed(&feed).map(|state| state.end).unwrap_or_default();
        if end.seq > Seq::ZERO {
            let head = SignedHead::sign(feed, end, &node.key);
            self.say(me, from, Message::Diverged(Box::new(head)));
        }
        (feed, end.seq)
    }

    fn hears(&mut self, to: NodeId, from: NodeId, peer: Writer, message: Message) {
        if let Message::Snapshot(word) = message {
            return self.hears_of_snapshot((to, from), peer, *word);
        }
        let answer = match self.index(to) {
            None => self.hub_hears(from, peer, message),
            Some(n) => self.box_hears(n, peer, message),
        };
        if let Some(answer) = answer {
            self.say(to, from, answer);
        }
    }

    fn hub_hears(&mut self, from: NodeId, peer: Writer, message: Message) -> Option<Message> {
        let wanted = |reply| match reply {
            Ok(core::Reply::Branch { feed, from }) => Some(Message::Branch { feed, from }),
            _ => None,
        };
        match message {
            Message::Ask { row, total } => {
                let denied = Message::Denied { row, total };
                match self.order(core::Command::Ask { from: peer, row, total }) {
                    Ok(core::Reply::Granted(true)) => None,
                    Ok(core::Reply::Waiting) => {
                        let after_ms = core::RECALL_MS_MAX.cast_signed();
                        self.later(after_ms, Event::Says { from: NodeId::HUB, to: from, message: denied });
                        None
                    }
                    _ => Some(denied),
                }
            }
            Message::Denied { row, .. } => {
                _ = self.order(core::Command::KeptBack { from: peer, row });
                None
            }
            Message::Diverged(head) => wanted(self.order(core::Command::Diverged(*head))),
            Message::Other(run) => wanted(self.order(core::Command::Branch(run))),
            Message::Branch { feed, from: seq } if feed.writer == peer => {
                let me = self.hub.core.as_ref()?.mesh.me;
                let run = yika_crdt::sync::run_from(&self.hub.disk, feed, seq, me, &self.hub.key);
                run.ok().flatten().map(|run| Message::Other(Box::new(run)))
            }
            _ => None,
        }
    }

    fn box_hears(&mut self, n: usize, peer: Writer, message: Message) -> Option<Message> {
        match message {
            Message::Ask { row, total } => {
                let granted = self.tell(n, edge::Command::Ask { from: peer, row, total });
                (granted != Ok(edge::Reply::Granted(true))).then_some(Message::Denied { row, total })
            }
            Message::Denied { row, total } => {
                self.denied(n, peer, row, total);
                None
            }
            Message::Answered(id) if self.boxes[n].place.campus == self.campus_of(peer.node) => {
                self.asked_about(n, peer.node, id)
            }
            Message::Unknown(id) => {
                self.unknown_at(n, peer.node, id);
                None
            }
            Message::Deciding(id) => {
                self.decided_at(n, peer.node, id);
                None
            }
            Message::Level { row, right } => {
                _ = self.tell(n, edge::Command::Level { from: peer, row, right });
                None
            }
            Message::Recall { row, keep } if peer.node.is_hub() => {
                let given = self.tell(n, edge::Command::Recall { row, keep });
                (given != Ok(edge::Reply::Granted(true))).then_some(Message::Denied { row, total: keep })
            }
            Message::Branch { feed, from } if peer.node.is_hub() || feed.writer == peer => {
                let node = &self.boxes[n];
                let run = yika_crdt::sync::run_from(&node.disk, feed, from, node.me, &node.key);
                run.ok().flatten().map(|run| Message::Other(Box::new(run)))
            }
            Message::Other(run) if run.head.feed.writer == self.boxes[n].me => {
                let asked = run.from;
                match self.tell(n, edge::Command::Ingest(run)) {
                    Ok(edge::Reply::Branch { feed, from }) if from < asked => Some(Message::Branch { feed, from }),
                    _ => None,
                }
            }
            Message::Diverged(head) => {
                let is_own_fork = self.shows_own_fork(n, &head);
                let is_told = self.tell(n, edge::Command::Diverged(*head)).is_ok();
                if is_own_fork && is_told && !self.is_shut_for_ever(n) {
                    self.fail(format!("{} is shown another branch of its own, and goes on", self.boxes[n].me));
                }
                None
            }
            _ => None,
        }
    }

    /// Whether a head proves that another box writes with a box's key.
    fn shows_own_fork(&self, n: usize, head: &SignedHead) -> bool {
        let node = &self.boxes[n];
        let is_signed = head.feed.writer == node.me && head.verify(&node.key.verifying_key()).is_ok();
        let held = yika_crdt::store::end_at(&node.disk, &head.feed, head.end.seq).ok().flatten();
        is_signed && held.is_some_and(|held| held != head.end)
    }

    /// What follows from a turn of a box.
    pub fn follow_box(&mut self, n: usize, effects: Vec<edge::Effect>) {
        let (me, own) = (self.boxes[n].address, self.boxes[n].me.node);
        for effect in effects {
            match effect {
                edge::Effect::Grown(feed) => {
                    if let Ok(held) = self.boxes[n].disk.feed(&feed) {
                        self.boxes[n].known.grown(feed, held.end.seq);
                    }
                    self.grown(me, feed);
                    if feed.channel == Channel::Registry {
                        self.all_grown(n);
                    }
                    if feed.writer.node != own {
                        self.look_at_pending(n);
                    }
                }
                edge::Effect::Rights(person) => self.rights_grew(n, person),
                edge::Effect::Low { row, right } if !self.is_connected(me, NodeId::HUB) => {
                    let campus = self.boxes[n].place.campus;
                    let siblings = self.peers(me).into_iter().filter(|peer| self.campus_of(peer.node) == campus);
                    if let Some(sibling) = siblings.min() {
                        self.say(me, sibling.node, Message::Level { row, right });
                    }
                }
                edge::Effect::Directory(_) => self.close_refused_soon(me),
                edge::Effect::Gate(shut) => {
                    self.unsettled_ms = self.now_ms;
                    let life = self.boxes[n].me;
                    self.trace(|| {
                        format!("{life}: {}", shut.map_or("may write".to_owned(), |shut| format!("{shut:?}")))
                    });
                }
                edge::Effect::Quarantined { feed, seq, cause } if self.honest() => {
                    self.fail(format!("{me}: {feed} #{seq} of an honest node is in quarantine: {cause}"));
                }
                _ => {}
            }
        }
    }

    /// What follows from a turn of headquarters.
    pub fn follow_hub(&mut self, effects: Vec<core::Effect>) {
        for effect in effects {
            match effect {
                core::Effect::Grown(feed) => {
                    self.check_grant(feed);
                    if let Ok(held) = self.hub.disk.feed(&feed) {
                        self.hub.known.grown(feed, held.end.seq);
                    }
                    self.grown(NodeId::HUB, feed);
                }
                core::Effect::Say(to, message) => self.say(NodeId::HUB, to.node, message),
                core::Effect::Fenced(writer) => self.close_fenced(writer),
                core::Effect::Recovering(life) => {
                    // The program starts its link again under the new life.
                    self.note(|| format!("headquarters goes on as {life}, in recovery"));
                    self.tally.recoveries += 1;
                    (self.hub.is_unaware, self.hub.hears_until_ms) = (false, 0);
                    self.disconnect_all(NodeId::HUB);
                }
                core::Effect::Forked(feed) => _ = self.hub.forked.insert(feed.writer),
                core::Effect::Recovered => self.note(|| "headquarters has recovered".into()),
                core::Effect::Quarantined { feed, seq, cause } if self.honest() => {
                    self.fail(format!("headquarters: {feed} #{seq} of an honest node is in quarantine: {cause}"));
                }
                _ => {}
            }
        }
    }

    fn close_fenced(&mut self, writer: Writer) {
        for (at, _) in self.connected(NodeId::HUB).into_iter().filter(|(_, peer)| *peer == writer) {
            self.disconnect(NodeId::HUB, at);
        }
    }

    /// Of a life that headquarters knows to have forked a feed it grants nothing more.
    fn check_grant(&mut self, feed: FeedId) {
        let by_present_life = self.hub.core.as_ref().is_some_and(|hub| hub.mesh.me == feed.writer);
        if let Channel::Rights(to) = feed.channel
            && by_present_life
            && self.hub.forked.contains(&to)
        {
            self.fail(format!("headquarters grants something to {to}, which has forked a feed"));
        }
    }

    /// Closing takes a moment, in which the registry may be passed on.
    fn close_refused_soon(&mut self, node: NodeId) {
        if self.plan.has(Class::Clone) && self.is_busy() && self.chance.one_in(2) {
            let after_ms = self.chance.between(30, 600);
            return self.then_after(after_ms, Then::CloseRefused(node));
        }
        self.close_refused(node);
    }

    /// A node closes connections to whom its registry does not admit any more.
    pub fn close_refused(&mut self, node: NodeId) {
        for (at, peer) in self.connected(node) {
            if !self.admits(node, peer) {
                self.disconnect(node, at);
            }
        }
    }
}

fn brief(message: &Message) -> String {
    match message {
        Message::Entries(run) => format!("{} #{}–{}", run.head.feed, run.from, run.head.end.seq),
        Message::Hello { have, .. } => format!("hello, holds {} feeds", have.len()),
        Message::Stored(marks) => {
            let each: Vec<String> = marks.iter().map(|(feed, seq)| format!("{feed} #{seq}")).collect();
            format!("stored {}", each.join(", "))
        }
        other => format!("{other:?}"),
    }
}

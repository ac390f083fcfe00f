//! Greetings: who speaks, and how far it holds what both sides may hold, in as many parts as that takes.
//!
//! A claim to hold more of somebody's feed than its writer knows of stops that writer (a restored hub, a box that was
//! put back), so a claim about the receiver's own feeds shows the head that the receiver's key has signed. Leaves to
//! others: what follows from a claim (the hub's recovery, the edge's gate), runs (`sync`).

use super::{Cursor, Message, PeerSync, SyncRefused};
use crate::channel::{Channel, FeedId};
use crate::feed::{End, SignatureBytes, SignedHead};
use crate::ids::Seq;
use crate::mesh::Directory;
use crate::store::{Read, StoreError};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

/// Feeds that two nodes may hold in common: a greeting that lists more is refused, and what a node holds beyond is not
/// listed. A hub with 1,000 boxes in several lives each comes to some ten thousand.
pub const FEEDS_MAX: usize = 65_536;
/// Feeds that one message lists; with a signature each it stays within a frame.
pub const FEEDS_PER_MESSAGE_MAX: usize = 4_096;
/// Longest software name in a greeting, in bytes.
pub const SOFTWARE_BYTES_MAX: usize = 64;

/// How far a node says that it holds a feed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// The feed.
    pub feed: FeedId,
    /// Its end there.
    pub end: End,
    /// The writer's signature of that end, where the receiver must not take it on trust.
    pub signature: Option<SignatureBytes>,
}

impl Claim {
    /// Whether the feed's writer has written so far: a head that its key has signed is shown.
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        let head = |signature| SignedHead { feed: self.feed, end: self.end, signature };
        self.signature.is_some_and(|signature| head(signature).verify(key).is_ok())
    }
}

/// How much of the peer's greeting has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Greeted {
    No,
    /// So many feeds so far.
    Partly(usize),
    Whole,
}

impl PeerSync {
    /// This side's greeting, to be said in this order before anything else. `feeds` are all of which it may hold something.
    pub fn greeting<R: Read + ?Sized>(
        &self,
        directory: &Directory,
        store: &R,
        feeds: &[FeedId],
        software: &str,
    ) -> Result<Vec<Message>, StoreError> {
        let shared = |feed: &&FeedId| directory.may_hold(feed, self.peer) || feed.writer == self.peer_writer;
        let mut claims = Vec::new();
        for feed in feeds.iter().filter(shared).take(FEEDS_MAX) {
            claims.push(self.claim(store, *feed, store.feed(feed)?.end)?);
        }
        let mut parts: Vec<Vec<Claim>> = claims.chunks(FEEDS_PER_MESSAGE_MAX).map(<[Claim]>::to_vec).collect();
        let first = if parts.is_empty() { Vec::new() } else { parts.remove(0) };
        let left = parts.len();
        let hello = Message::Hello {
            writer: self.me,
            kind_newest: crate::entry::KIND_NEWEST,
            software: software.chars().take(SOFTWARE_BYTES_MAX / 4).collect(),
            have: first,
            more: left > 0,
        };
        let further = parts.into_iter().enumerate().map(|(n, have)| Message::Have { have, more: n + 1 < left });
        Ok(std::iter::once(hello).chain(further).collect())
    }

    /// The peer's own feeds are shown with its signature, to the hub also the journals of others: a hub that was
    /// restored waits for them.
    fn claim<R: Read + ?Sized>(&self, store: &R, feed: FeedId, end: End) -> Result<Claim, StoreError> {
        let of_peer = feed.writer.node == self.peer.node;
        let passed_on = self.peer.node.is_hub() && feed.channel == Channel::Journal && feed.writer != self.me;
        let head = if of_peer || passed_on { store.head_from(&feed, end.seq)? } else { None };
        let signature = head.filter(|head| head.end == end).map(|head| head.signature);
        Ok(Claim { feed, end, signature })
    }

    /// Takes a part of the peer's greeting; true once it is whole.
    pub fn on_greeting(&mut self, message: &Message) -> Result<bool, SyncRefused> {
        let (have, more, before) = match (message, self.greeted) {
            (Message::Hello { writer, have, more, .. }, Greeted::No) => {
                if *writer != self.peer_writer {
                    return Err(SyncRefused::NotThisPeer { said: *writer, certified: self.peer_writer });
                }
                (have, *more, 0)
            }
            (Message::Have { have, more }, Greeted::Partly(before)) => (have, *more, before),
            _ => return Err(SyncRefused::Greeting),
        };
        let listed = before + have.len();
        if listed > FEEDS_MAX || have.is_empty() && more {
            return Err(SyncRefused::TooManyFeeds { listed });
        }
        for Claim { feed, end, .. } in have {
            // A feed of which nothing is held has no hash. Were the peer's taken for one, a chain that begins with it would
            // be signed, and that is what proves a fork.
            let nothing = end.seq == Seq::ZERO;
            self.cursors.insert(*feed, if nothing { Cursor::NOTHING } else { Cursor::at(*end, false) });
        }
        self.greeted = if more { Greeted::Partly(listed) } else { Greeted::Whole };
        Ok(!more)
    }

    /// The peer has greeted: it is connected.
    pub fn is_greeted(&self) -> bool {
        self.greeted == Greeted::Whole
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use crate::channel::Place;
    use crate::entry::NodeRecord;
    use crate::ids::*;
    use crate::mesh::Mesh;
    use crate::store::{Appended, Batch, MemoryStore, Store, Tx};
    use crate::wire::FRAME_BYTES_MAX;
    use ed25519_dalek::SigningKey;

    fn writer(node: u32, life: u32) -> Writer {
        Writer { node: NodeId(node), incarnation: Incarnation { generation: 1, counter: life } }
    }

    /// A hub that holds so many feeds which everybody may hold, of boxes in several lives.
    fn hub_with_feeds(feeds: usize) -> (MemoryStore, Mesh) {
        let mut store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        let key = SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
        let (mut batch, lives) = (Batch::default(), feeds as u32 / 5);
        for n in 0..feeds as u32 {
            let writer = writer(1 + n % lives, 1 + n / lives);
            let record = NodeRecord { writer, campus: Some(CampusId(1)), key, name: String::new(), address: None };
            tx.put(crate::keys::node(writer), &record);
            let feed = FeedId { writer, channel: Channel::People(CampusId(1)) };
            let end = End { seq: Seq(1), hash: crate::feed::digest("test", &n.to_be_bytes()) };
            let appended = Appended { from: Seq(1), entries: vec![vec![1]], end, heads: Vec::new() };
            batch.appended.insert(feed, appended);
        }
        batch.state = tx.into_batch().state;
        store.commit(&batch).unwrap();
        let hub = Place { node: NodeId::HUB, campus: None };
        let mesh = Mesh::load(&store, writer(0, 1), hub).unwrap();
        (store, mesh)
    }

    fn ids(store: &MemoryStore) -> Vec<FeedId> {
        store.feeds().unwrap().into_iter().map(|(feed, _)| feed).collect()
    }

    fn pair() -> (PeerSync, PeerSync) {
        let place = Place { node: NodeId(1), campus: Some(CampusId(1)) };
        let hub = Place { node: NodeId::HUB, campus: None };
        (PeerSync::new(writer(0, 1), place, writer(1, 1)), PeerSync::new(writer(1, 1), hub, writer(0, 1)))
    }

    #[test]
    fn a_hub_of_many_boxes_in_several_lives_greets_in_parts() {
        let feeds = 12_000;
        let (store, mesh) = hub_with_feeds(feeds);
        let (at_hub, mut at_box) = pair();
        let parts = at_hub.greeting(&mesh.directory(), &store, &ids(&store), "test").unwrap();
        assert_eq!(parts.len(), 3);
        for (n, part) in parts.iter().enumerate() {
            let bytes = part.encode();
            assert!(bytes.len() <= FRAME_BYTES_MAX, "{} bytes", bytes.len());
            let whole = at_box.on_greeting(&Message::decode(&bytes).unwrap()).unwrap();
            assert_eq!((whole, at_box.is_greeted()), (n == 2, n == 2));
        }
        assert_eq!(at_box.cursors.len(), feeds);
        let last = FeedId { writer: writer(2_400, 5), channel: Channel::People(CampusId(1)) };
        assert_eq!(at_box.stored(&last), Seq(1));
        assert_eq!(at_box.on_greeting(&parts[1]), Err(SyncRefused::Greeting), "nothing after the last part");
    }

    #[test]
    fn a_greeting_has_an_end_and_a_bound() {
        let (_, mut at_box) = pair();
        let have = |n: u32| {
            let claim = |n| {
                let feed = FeedId { writer: writer(n, 1), channel: Channel::Journal };
                Claim { feed, end: End::default(), signature: Some(SignatureBytes([7; 64])) }
            };
            (n * FEEDS_PER_MESSAGE_MAX as u32..(n + 1) * FEEDS_PER_MESSAGE_MAX as u32).map(claim).collect::<Vec<_>>()
        };
        let hello =
            |have| Message::Hello { writer: writer(0, 1), kind_newest: 1, software: String::new(), have, more: true };
        assert_eq!(at_box.on_greeting(&Message::Have { have: have(1), more: false }), Err(SyncRefused::Greeting));
        let empty = at_box.on_greeting(&hello(Vec::new()));
        assert_eq!(empty, Err(SyncRefused::TooManyFeeds { listed: 0 }), "parts that say nothing never end");
        assert_eq!(at_box.on_greeting(&hello(have(0))), Ok(false));
        let most = FEEDS_MAX / FEEDS_PER_MESSAGE_MAX;
        for n in 1..most as u32 {
            let part = Message::Have { have: have(n), more: true };
            assert!(part.encode().len() <= FRAME_BYTES_MAX);
            assert_eq!(at_box.on_greeting(&part), Ok(false));
        }
        let beyond = at_box.on_greeting(&Message::Have { have: have(most as u32), more: false });
        assert!(matches!(beyond, Err(SyncRefused::TooManyFeeds { .. })), "{beyond:?}");
        let mut long = have(0);
        long.extend(have(1));
        assert!(Message::decode(&Message::Have { have: long, more: false }.encode()).is_err());
    }
}

//! A box and its sibling, to which headquarters sends a snapshot: what waits for it, for how long, and what goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use super::*;
use crate::channel::Channel;
use crate::entry::NodeRecord;
use crate::ids::*;
use crate::mesh::Mesh;
use crate::store::{MemoryStore, Store, Tx};

const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };
const CAMPUS: CampusId = CampusId(1);
const ME: Writer = Writer { node: NodeId(1), incarnation: LIFE };
const SIBLING: Writer = Writer { node: NodeId(2), incarnation: LIFE };
const PEOPLE: FeedId = FeedId { writer: ME, channel: Channel::People(CAMPUS) };
const JOURNAL: FeedId = FeedId { writer: ME, channel: Channel::Journal };

fn key_of(writer: Writer) -> SigningKey {
    SigningKey::from_bytes(&[writer.node.0 as u8 + 1; 32])
}

/// This box, and its connection to the sibling, which has greeted and holds nothing.
struct World {
    store: MemoryStore,
    mesh: Mesh,
    sync: PeerSync,
}

impl World {
    fn new() -> World {
        let mut store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        for writer in [ME, SIBLING] {
            let key = key_of(writer).verifying_key().to_bytes();
            let record = NodeRecord { writer, campus: Some(CAMPUS), key, name: String::new(), address: None };
            tx.put(crate::keys::node(writer), &record);
        }
        let batch = tx.into_batch();
        store.commit(&batch).unwrap();
        let place = |node| Place { node, campus: Some(CAMPUS) };
        let mesh = Mesh::load(&store, ME, place(ME.node)).unwrap();
        let mut sync = PeerSync::new(ME, place(SIBLING.node), SIBLING);
        let (software, have) = (String::new(), Vec::new());
        let hello = Message::Hello { writer: SIBLING, kind_newest: 1, software, have, more: false };
        assert_eq!(sync.on_greeting(&hello), Ok(true));
        World { store, mesh, sync }
    }

    fn append(&mut self, feed: FeedId, entries: usize, bytes: usize) {
        let mut tx = Tx::new(&self.store);
        for n in 0..entries {
            tx.append(feed, vec![n as u8; bytes]).unwrap();
        }
        self.commit(tx.into_batch());
        self.sync.on_grown([&feed]);
    }

    fn prune(&mut self, feed: FeedId, upto: u64) {
        let mut tx = Tx::new(&self.store);
        tx.prune(feed, Seq(upto));
        self.commit(tx.into_batch());
    }

    fn commit(&mut self, batch: crate::store::Batch) {
        self.store.commit(&batch).unwrap();
    }

    /// The sibling says that a snapshot comes to it.
    fn coming(&mut self, feeds: &[(FeedId, Seq)]) {
        assert!(self.sync.on_snapshot_word(&SnapshotWord::Coming(feeds.to_vec())));
    }

    /// Everything that is sent: by run, its feed and positions.
    fn sent(&mut self) -> Vec<(FeedId, u64, u64)> {
        let mut runs = Vec::new();
        while let Some(message) = self.sync.poll(&self.mesh.directory(), &self.store, &key_of(ME)).unwrap() {
            match message {
                Message::Entries(run) => runs.push((run.head.feed, run.from.0, run.head.end.seq.0)),
                other => panic!("{other:?}"),
            }
        }
        runs
    }
}

#[test]
fn what_is_acknowledged_of_feeds_that_wait_frees_the_window() {
    let mut world = World::new();
    world.append(PEOPLE, 40, RUN_BYTES_MAX / 2);
    let sent: Vec<(FeedId, Seq)> = world.sent().into_iter().map(|(feed, _, end)| (feed, Seq(end))).collect();
    assert!(!world.sync.may_send(), "the window is full");
    world.coming(&[(PEOPLE, Seq(40))]);
    world.append(JOURNAL, 1, 10);
    assert_eq!(world.sent(), []);
    world.sync.on_stored(&sent);
    assert_eq!(world.sent(), [(JOURNAL, 1, 1)]);
    assert_eq!((world.sync.in_flight_bytes, world.sync.in_flight.len()), (10, 1));
}

#[test]
fn a_pruned_feed_of_its_own_goes_on_after_a_mark_beyond_what_was_sent() {
    let mut world = World::new();
    world.append(PEOPLE, 4, 10);
    assert_eq!(world.sent(), [(PEOPLE, 1, 4)]);
    world.append(PEOPLE, 4, 10);
    world.prune(PEOPLE, 3);
    // The sibling has some of it from headquarters before it is sent.
    world.sync.on_stored(&[(PEOPLE, Seq(6))]);
    assert_eq!(world.sent(), [(PEOPLE, 5, 8)]);
}

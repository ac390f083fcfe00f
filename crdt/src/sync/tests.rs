//! A box and its sibling, to which headquarters sends a snapshot: what waits for it, for how long, and what goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use super::*;
use crate::channel::{BlockScope, Channel};
use crate::entry::NodeRecord;
use crate::ids::*;
use crate::mesh::Mesh;
use crate::snapshot::Manifest;
use crate::store::{MemoryStore, Store, Tx};

const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };
const CAMPUS: CampusId = CampusId(1);
const ME: Writer = Writer { node: NodeId(1), incarnation: LIFE };
const HUB: Writer = Writer { node: NodeId::HUB, incarnation: LIFE };
const SIBLING: Writer = Writer { node: NodeId(2), incarnation: LIFE };
const PEOPLE: FeedId = FeedId { writer: ME, channel: Channel::People(CAMPUS) };
const POLICY: FeedId = FeedId { writer: ME, channel: Channel::Campus(CAMPUS) };
const BLOCKS: FeedId = FeedId { writer: ME, channel: Channel::Blocks(BlockScope::Campus(CAMPUS)) };
const JOURNAL: FeedId = FeedId { writer: ME, channel: Channel::Journal };
const SNAPSHOT: Hash = Hash([7; 32]);
const ANOTHER: Hash = Hash([8; 32]);

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

    /// The same at headquarters.
    fn at_headquarters() -> World {
        let mut world = World::new();
        let mut tx = Tx::new(&world.store);
        let key = key_of(HUB).verifying_key().to_bytes();
        let record = NodeRecord { writer: HUB, campus: None, key, name: String::new(), address: None };
        tx.put(crate::keys::node(HUB), &record);
        world.commit(tx.into_batch());
        world.mesh = Mesh::load(&world.store, HUB, Place { node: HUB.node, campus: None }).unwrap();
        world.sync = PeerSync::new(HUB, Place { node: SIBLING.node, campus: Some(CAMPUS) }, SIBLING);
        let (software, have) = (String::new(), Vec::new());
        let hello = Message::Hello { writer: SIBLING, kind_newest: 1, software, have, more: false };
        assert_eq!(world.sync.on_greeting(&hello), Ok(true));
        world
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

    /// Where a feed stands at so many entries.
    fn end(&self, feed: FeedId, seq: u64) -> End {
        crate::store::end_at(&self.store, &feed, Seq(seq)).unwrap().unwrap()
    }

    /// The sibling says that a snapshot comes to it.
    fn coming(&mut self, id: Hash, feeds: &[(FeedId, End)]) {
        assert!(self.sync.on_snapshot_word(&SnapshotWord::Coming { id, feeds: feeds.to_vec() }));
    }

    /// Everything that is sent: by run, its feed and positions.
    fn sent(&mut self) -> Vec<(FeedId, u64, u64)> {
        let mut runs = Vec::new();
        while let Some(message) = self.sync.poll(&self.mesh.directory(), &self.store, &key_of(self.sync.me)).unwrap() {
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
    let more_than_fit = IN_FLIGHT_BYTES_MAX / (RUN_BYTES_MAX / 2) + 8;
    world.append(PEOPLE, more_than_fit, RUN_BYTES_MAX / 2);
    let sent: Vec<(FeedId, Seq)> = world.sent().into_iter().map(|(feed, _, end)| (feed, Seq(end))).collect();
    assert!(!world.sync.may_send(), "the window is full");
    let base = world.end(PEOPLE, more_than_fit as u64);
    world.coming(SNAPSHOT, &[(PEOPLE, base)]);
    world.append(JOURNAL, 1, 10);
    assert_eq!(world.sent(), []);
    world.sync.on_stored(&sent);
    assert_eq!(world.sent(), [(JOURNAL, 1, 1)]);
    assert_eq!((world.sync.in_flight_bytes, world.sync.in_flight.len()), (10, 1));
}

#[test]
fn only_documents_wait_for_what_comes_to_a_sibling() {
    let mut world = World::new();
    for feed in [PEOPLE, POLICY, BLOCKS, JOURNAL] {
        world.append(feed, 2, 10);
    }
    let coming = [PEOPLE, POLICY, BLOCKS].map(|feed| (feed, world.end(feed, 2)));
    world.coming(SNAPSHOT, &coming);
    assert_eq!(world.sent(), [(BLOCKS, 1, 2), (JOURNAL, 1, 2)]);
    // Beyond the base nothing goes out either: it follows nothing that the sibling holds.
    world.append(PEOPLE, 1, 10);
    world.append(BLOCKS, 1, 10);
    assert_eq!(world.sent(), [(BLOCKS, 3, 3)]);
}

#[test]
fn feeds_go_on_from_the_bases_that_a_sibling_has_taken() {
    let mut world = World::new();
    for feed in [PEOPLE, BLOCKS] {
        world.append(feed, 6, 10);
    }
    let coming = [PEOPLE, BLOCKS].map(|feed| (feed, world.end(feed, 4)));
    // Own entries below the base have left this box, and with them what the chain there follows from.
    [PEOPLE, BLOCKS].into_iter().for_each(|feed| world.prune(feed, 3));
    world.coming(SNAPSHOT, &coming);
    assert_eq!(world.sent(), []);
    assert!(world.sync.on_snapshot_word(&SnapshotWord::Taken { id: SNAPSHOT }));
    assert_eq!(world.sent(), [(BLOCKS, 5, 6), (PEOPLE, 5, 6)]);
}

#[test]
fn what_a_sibling_stored_while_feeds_waited_counts() {
    let ends = [(SnapshotWord::Taken { id: SNAPSHOT }, 6), (SnapshotWord::Declined { id: SNAPSHOT }, 6)];
    for (word, from) in ends {
        let mut world = World::new();
        world.append(PEOPLE, 6, 10);
        let base = world.end(PEOPLE, 4);
        world.coming(SNAPSHOT, &[(PEOPLE, base)]);
        // By another way; an older mark after it says nothing new.
        world.sync.on_stored(&[(PEOPLE, Seq(5))]);
        world.sync.on_stored(&[(PEOPLE, Seq(2))]);
        assert_eq!(world.sync.stored(&PEOPLE), Seq::ZERO);
        assert!(world.sync.on_snapshot_word(&word));
        assert_eq!((world.sync.stored(&PEOPLE), world.sent()), (Seq(5), vec![(PEOPLE, from, 6)]), "{word:?}");
    }
}

#[test]
fn only_the_word_on_the_snapshot_that_comes_ends_the_waiting() {
    let mut world = World::new();
    world.append(PEOPLE, 2, 10);
    world.append(POLICY, 2, 10);
    let bases = [PEOPLE, POLICY].map(|feed| (feed, world.end(feed, 2)));
    world.coming(SNAPSHOT, &bases[..1]);
    world.coming(ANOTHER, &bases[1..]);
    assert!(world.sync.on_snapshot_word(&SnapshotWord::Declined { id: Hash([9; 32]) }));
    assert_eq!(world.sent(), []);
    assert!(world.sync.on_snapshot_word(&SnapshotWord::Declined { id: SNAPSHOT }));
    assert_eq!(world.sent(), [(PEOPLE, 1, 2)]);
    assert!(world.sync.on_snapshot_word(&SnapshotWord::Declined { id: ANOTHER }));
    assert_eq!(world.sent(), [(POLICY, 1, 2)]);
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

#[test]
fn a_word_of_what_comes_is_read_as_it_was_written_and_bounded() {
    let feeds = |n: usize| vec![(PEOPLE, End { seq: Seq(9), hash: SNAPSHOT }); n];
    let word = |n| Message::Snapshot(Box::new(SnapshotWord::Coming { id: SNAPSHOT, feeds: feeds(n) }));
    let most = word(FEEDS_PER_MESSAGE_MAX);
    assert!(most.encode().len() <= wire::FRAME_BYTES_MAX);
    assert_eq!(Message::decode(&most.encode()), Ok(most));
    let (bytes, limit) = (FEEDS_PER_MESSAGE_MAX + 1, FEEDS_PER_MESSAGE_MAX);
    assert_eq!(Message::decode(&word(bytes).encode()), Err(WireError::TooLong { bytes, limit }));
}

/// A false head under the own key proves a fork to everybody who sees it: no greeting may make a box sign one.
#[test]
fn what_a_peer_claims_of_an_own_feed_is_never_signed_for_it() {
    for seq in [0, 1, 3, 5, 9] {
        let mut world = World::new();
        world.append(JOURNAL, 5, 10);
        let end = End { seq: Seq(seq), hash: Hash([9; 32]) };
        let have = vec![Claim { feed: JOURNAL, end, signature: None }];
        let hello = Message::Hello { writer: SIBLING, kind_newest: 1, software: String::new(), have, more: false };
        let place = |node| Place { node, campus: Some(CAMPUS) };
        world.sync = PeerSync::new(ME, place(SIBLING.node), SIBLING);
        assert_eq!(world.sync.on_greeting(&hello), Ok(true));
        world.sync.on_grown([&JOURNAL]);
        while let Some(message) = world.sync.poll(&world.mesh.directory(), &world.store, &key_of(ME)).unwrap() {
            let head = match message {
                Message::Entries(run) => run.head,
                Message::Diverged(head) => *head,
                other => panic!("{other:?}"),
            };
            assert_eq!(head.verify(&key_of(ME).verifying_key()), Ok(()));
            assert_eq!(head.end, world.end(JOURNAL, head.end.seq.0), "signed for a claim of {seq} entries");
        }
    }
}

/// A new box at a headquarters that has let its registry go: what boxes wrote waits until the registry that lists them has
/// come with the snapshot, because the new box would give up the connection over it, again and again.
#[test]
fn what_boxes_wrote_waits_for_the_registry_that_comes_with_a_snapshot() {
    let registry = FeedId { writer: HUB, channel: Channel::Registry };
    let mut world = World::at_headquarters();
    let policy = FeedId { writer: HUB, channel: Channel::Campus(CAMPUS) };
    for feed in [registry, BLOCKS, JOURNAL, policy] {
        world.append(feed, 2, 10);
    }
    // What boxes wrote came to headquarters in signed runs.
    let heads = [BLOCKS, JOURNAL].map(|feed| SignedHead::sign(feed, world.end(feed, 2), &key_of(ME)));
    let mut tx = Tx::new(&world.store);
    heads.into_iter().for_each(|head| tx.keep_head(head));
    world.commit(tx.into_batch());
    world.prune(registry, 2);
    let feeds = world.store.feeds().unwrap();
    let directory = world.mesh.directory();
    assert_eq!(world.sync.hold_for_snapshots(&directory, &feeds), BTreeSet::from([Audience::Everyone]));
    assert_eq!(world.sent(), [], "the registry is on its way");
    // None can be cut: all that can be sent is, and the box comes again.
    world.sync.say(Message::Snapshot(Box::new(SnapshotWord::Nothing(Audience::Everyone))));
    world.sync.to_say.clear();
    assert_eq!(world.sent(), [(BLOCKS, 1, 2), (JOURNAL, 1, 2), (policy, 1, 2)]);
}

/// A box that is enrolled in the place of another at a headquarters that has let its registry go: the rights of the former
/// life wait for the registry that lists it, its own do not.
#[test]
fn rights_of_a_former_life_wait_for_the_registry_that_comes_with_a_snapshot() {
    let registry = FeedId { writer: HUB, channel: Channel::Registry };
    let rights = |receiver| FeedId { writer: HUB, channel: Channel::Rights(receiver) };
    let (own, former) =
        (rights(SIBLING), rights(Writer { incarnation: Incarnation { generation: 0, counter: 1 }, ..SIBLING }));
    let mut world = World::at_headquarters();
    for feed in [registry, former, own] {
        world.append(feed, 2, 10);
    }
    world.prune(registry, 2);
    let feeds = world.store.feeds().unwrap();
    let directory = world.mesh.directory();
    assert_eq!(world.sync.hold_for_snapshots(&directory, &feeds), BTreeSet::from([Audience::Everyone]));
    // Also where it was said to others just now, and is known without a look at what is stored.
    let mut known = Known::default();
    let run = run_from(&world.store, former, Seq(1), HUB, &key_of(HUB)).unwrap().unwrap();
    known.grown(former, run.head.end.seq);
    known.said(&run);
    world.sync.ready.retain(|(_, feed)| *feed == former);
    assert_eq!(world.sync.poll_known(&directory, &known), None);
    world.sync.on_grown([&own]);
    assert_eq!(world.sent(), [(own, 1, 2)], "the registry is on its way");
    world.sync.say(Message::Snapshot(Box::new(SnapshotWord::Nothing(Audience::Everyone))));
    world.sync.to_say.clear();
    assert_eq!(world.sent(), [(former, 1, 2)]);
}

/// While a box fetches a snapshot, a newer one is offered to all, and it declines that: what it lacks goes on from the older
/// one all the same, once that is taken.
#[test]
fn what_a_taken_snapshot_brings_goes_on_though_a_newer_one_was_declined() {
    let registry = FeedId { writer: HUB, channel: Channel::Registry };
    let mut world = World::at_headquarters();
    world.append(registry, 3, 10);
    let ends = [2, 3].map(|seq| world.end(registry, seq));
    world.prune(registry, 2);
    let feeds = world.store.feeds().unwrap();
    let directory = world.mesh.directory();
    assert_eq!(world.sync.hold_for_snapshots(&directory, &feeds), BTreeSet::from([Audience::Everyone]));
    let offer = |cut_ms, base: End| {
        let (feeds, chunks) = (vec![(registry, base)], Vec::new());
        let audience = Audience::Everyone;
        let drop = Vec::new();
        let manifest = Manifest { version: 1, by: HUB, audience, cut_ms, feeds, drop, items: 0, bytes: 0, chunks };
        manifest.sign(&key_of(HUB))
    };
    let [older, newer] = [offer(1, ends[0]), offer(2, ends[1])];
    for signed in [&older, &newer] {
        world.sync.on_offered(signed);
    }
    assert!(world.sync.on_snapshot_word(&SnapshotWord::Declined { id: newer.manifest.id() }));
    assert_eq!(world.sent(), [], "what comes before is not kept");
    assert!(world.sync.on_snapshot_word(&SnapshotWord::Taken { id: older.manifest.id() }));
    assert_eq!(world.sent(), [(registry, 3, 3)]);
}

/// A question for a branch is twenty bytes, its answer up to a frame: whoever asks on and on without listening is heard no
/// more before this side keeps a thousand of them.
#[test]
fn who_asks_for_branches_and_does_not_listen_has_to_wait() {
    let mut world = World::new();
    world.append(JOURNAL, 3, wire::ENTRY_BYTES_MAX);
    let mut asked = 0;
    while world.sync.has_room() {
        let shown = branch::run_from(&world.store, JOURNAL, Seq(1), ME, &key_of(ME)).unwrap().unwrap();
        world.sync.say(Message::Other(Box::new(shown)));
        asked += 1;
    }
    let most = BRANCH_BYTES_TO_SAY_MAX / RUN_BYTES_MAX.min(3 * wire::ENTRY_BYTES_MAX) + 1;
    assert!(asked <= most, "{asked} branches are kept");
    world.sync.next_word().unwrap();
    assert!(world.sync.has_room(), "it has listened");
}

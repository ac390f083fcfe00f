//! What a box says of a snapshot while it fetches it: to headquarters, and to its sibling, which holds back what comes
//! by it. Whatever becomes of the fetch, both hear it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod terminals_hub;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use terminals_hub::*;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::feed::{self, End};
use yika_crdt::ids::*;
use yika_crdt::snapshot::{Audience, Cutter, SignedManifest, cut};
use yika_crdt::store::{MemoryStore, Store, Tx};
use yika_crdt::sync::{Message, SnapshotWord};
use yika_edge::snapshot::{self, GONE_MS_MAX, Heard, WORDS_WAITING_MAX};
use yika_link::sync::Node;
use yika_link::{
    Admission, Authority, CloseCode, EndpointKeys, Expected, Link, LinkConfig, NodeIdentity, Peer, Validity,
};

const SIBLING: Writer = Writer { node: NodeId(2), incarnation: LIFE };
const PEOPLE: FeedId = FeedId { writer: HUB, channel: Channel::People(CAMPUS) };
/// So many that a snapshot is worth it.
const ENTRIES: u64 = 10_000;
const BOUND: Duration = Duration::from_secs(5);

struct Links {
    ours: Link,
    theirs: Vec<Link>,
    authority: Authority,
    kept: Vec<Peer>,
}

impl Links {
    fn new() -> Links {
        let pems = Authority::create("test", &[1; 32], 1_700_000_000).unwrap();
        let authority = Authority::load(&pems.key_pem, &pems.certificate_pem).unwrap();
        let ours = link(&authority, NodeIdentity::edge(EDGE.node, LIFE, CAMPUS));
        Links { ours, theirs: Vec::new(), authority, kept: Vec::new() }
    }

    /// A live connection of this box to another node, which takes what is said to it.
    async fn connect(&mut self, identity: NodeIdentity) -> Peer {
        let node = identity.node;
        let theirs = link(&self.authority, identity);
        let address = theirs.local_addr().unwrap();
        let (dialled, accepted) = tokio::join!(self.ours.dial(address, Expected::Node(node)), theirs.accept());
        self.kept.push(accepted.unwrap());
        self.theirs.push(theirs);
        dialled.unwrap()
    }
}

fn link(authority: &Authority, identity: NodeIdentity) -> Link {
    let key = key_of(identity.node);
    let config = LinkConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        certificate_der: authority.issue_own(&key, identity, Validity::days(system_ms() / 1_000, 30)).unwrap(),
        key,
        ca_der: authority.certificate_der().to_vec(),
        keys: EndpointKeys::generate().unwrap(),
        software: "test".into(),
        admission: Arc::new(|_| Admission::Admit),
        join: None,
        clock_s: None,
    };
    Link::bind(config).unwrap()
}

/// A box that fetches, with a headquarters and a sibling.
struct World {
    campus: Campus,
    links: Links,
    hub: Peer,
    at_hub: Receiver<Message>,
    at_sibling: Receiver<Message>,
    heard: Sender<Heard>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let campus = Campus::new(dir.path(), 1, 0, 1).await;
        let mut links = Links::new();
        let hub = links.connect(NodeIdentity::hub(LIFE)).await;
        let sibling = links.connect(NodeIdentity::edge(SIBLING.node, LIFE, CAMPUS)).await;
        let (at_hub, at_sibling) = (campus.node.connected(&hub), campus.node.connected(&sibling));
        let (heard, words) = channel(WORDS_WAITING_MAX);
        tokio::spawn(snapshot::run(Arc::clone(&campus.node), dir.path().to_path_buf(), words));
        World { campus, links, hub, at_hub, at_sibling, heard, _dir: dir }
    }

    async fn hub_says(&self, word: SnapshotWord) {
        self.heard.send((HUB, word)).await.unwrap();
    }

    /// Headquarters offers it; the first chunk is asked for, and the sibling hears what comes.
    async fn begin(&mut self, signed: &SignedManifest) {
        let id = signed.manifest.id();
        self.hub_says(SnapshotWord::Offer(Box::new(signed.clone()))).await;
        assert_eq!(next(&mut self.at_hub).await, SnapshotWord::Want { id, chunk: 0 });
        let feeds = signed.manifest.feeds.clone();
        assert_eq!(next(&mut self.at_sibling).await, SnapshotWord::Coming { id, feeds });
    }
}

async fn next(words: &mut Receiver<Message>) -> SnapshotWord {
    let said = async {
        loop {
            match words.recv().await {
                Some(Message::Snapshot(word)) => return *word,
                Some(_) => {}
                None => panic!("the connection has ended"),
            }
        }
    };
    tokio::time::timeout(BOUND, said).await.expect("nothing is said of the snapshot")
}

/// A snapshot of headquarters' people, of which nothing is left, and its only chunk.
fn snapshot(cut_ms: i64) -> (SignedManifest, Vec<u8>) {
    let mut store = MemoryStore::default();
    let mut tx = Tx::new(&store);
    tx.take_base(PEOPLE, End { seq: Seq(ENTRIES), hash: feed::digest("test", b"people") }).unwrap();
    let batch = tx.into_batch();
    store.commit(&batch).unwrap();
    let (key, mut bytes) = (key_of(HUB.node), Vec::new());
    let cutter = Cutter { by: HUB, key: &key, audience: Audience::Everyone, cut_ms, drop: Vec::new() };
    let signed = cut(&store, cutter, &mut |chunk: &[u8]| {
        bytes.extend_from_slice(chunk);
        Ok(())
    });
    (signed.unwrap(), bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn siblings_hear_that_a_snapshot_does_not_come() {
    let mut world = World::new().await;
    let (signed, _) = snapshot(1);
    let id = signed.manifest.id();
    let endings = [SnapshotWord::Gone { id }, SnapshotWord::Chunk { id, chunk: 0, bytes: vec![7; 9] }];
    for ending in endings {
        world.begin(&signed).await;
        world.hub_says(ending.clone()).await;
        let declined = SnapshotWord::Declined { id };
        assert_eq!(next(&mut world.at_hub).await, declined, "{ending:?}");
        assert_eq!(next(&mut world.at_sibling).await, declined, "{ending:?}");
    }
}

/// A sibling that is switched on in the middle is told before it can send anything, and hears what becomes of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_sibling_that_connects_meanwhile_hears_what_is_coming() {
    let mut world = World::new().await;
    let (signed, chunk) = snapshot(1);
    let id = signed.manifest.id();
    world.begin(&signed).await;
    let sibling = world.links.connect(NodeIdentity::edge(SIBLING.node, LIFE, CAMPUS)).await;
    let mut later = world.campus.node.connected(&sibling);
    let feeds = signed.manifest.feeds.clone();
    assert_eq!(next(&mut later).await, SnapshotWord::Coming { id, feeds });
    world.hub_says(SnapshotWord::Chunk { id, chunk: 0, bytes: chunk }).await;
    assert_eq!(next(&mut later).await, SnapshotWord::Taken { id });
    // Of what is taken nobody is told any more.
    let sibling = world.links.connect(NodeIdentity::edge(SIBLING.node, LIFE, CAMPUS)).await;
    assert!(world.campus.node.connected(&sibling).try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn siblings_do_not_wait_for_a_headquarters_that_is_gone() {
    let mut world = World::new().await;
    let (signed, chunk) = snapshot(1);
    let id = signed.manifest.id();
    world.begin(&signed).await;
    let cut_at = Instant::now();
    world.hub.close(CloseCode::UNAVAILABLE, "cut");
    world.campus.node.disconnected(&world.hub, "cut");
    tokio::time::sleep(Duration::from_millis(GONE_MS_MAX - 2_000)).await;
    assert!(world.at_sibling.try_recv().is_err(), "a line may break for a moment");
    assert_eq!(next(&mut world.at_sibling).await, SnapshotWord::Declined { id });
    assert!(cut_at.elapsed() >= Duration::from_millis(GONE_MS_MAX - 1_000));
    // It is back: what is half fetched goes on, and is taken.
    let hub = world.links.connect(NodeIdentity::hub(LIFE)).await;
    world.at_hub = world.campus.node.connected(&hub);
    world.begin(&signed).await;
    world.hub_says(SnapshotWord::Chunk { id, chunk: 0, bytes: chunk }).await;
    for words in [&mut world.at_hub, &mut world.at_sibling] {
        assert_eq!(next(words).await, SnapshotWord::Taken { id });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_lifes_snapshot_does_not_keep_another_audiences_offer_waiting() {
    let mut world = World::new().await;
    let (signed, _) = snapshot(1);
    world.begin(&signed).await;
    let newer = Writer { incarnation: Incarnation { generation: 2, counter: 1 }, ..HUB };
    let hub = world.links.connect(NodeIdentity::hub(newer.incarnation)).await;
    let mut at_newer = world.campus.node.connected(&hub);
    let mut manifest = signed.manifest.clone();
    manifest.audience = Audience::Campus(CAMPUS);
    manifest.feeds[0].0.channel = Channel::Campus(CAMPUS);
    let other = manifest.sign(&key_of(HUB.node));
    world.heard.send((newer, SnapshotWord::Offer(Box::new(other.clone())))).await.unwrap();
    assert_eq!(next(&mut at_newer).await, SnapshotWord::Want { id: other.manifest.id(), chunk: 0 });
    assert_eq!(next(&mut world.at_sibling).await, SnapshotWord::Declined { id: signed.manifest.id() });
    assert!(matches!(next(&mut world.at_sibling).await, SnapshotWord::Coming { id, .. } if id == other.manifest.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn words_on_a_snapshot_wait_while_a_peer_does_not_listen() {
    let mut world = World::new().await;
    let (signed, chunk) = snapshot(1);
    let id = signed.manifest.id();
    world.begin(&signed).await;
    // Neither takes any more words.
    let filler = || Message::Reachable("127.0.0.1:1".into());
    for peer in [HUB, SIBLING] {
        while world.campus.node.say(peer, filler()) {}
    }
    world.hub_says(SnapshotWord::Chunk { id, chunk: 0, bytes: chunk }).await;
    let node = Arc::clone(&world.campus.node);
    let taken = async {
        while node.look(|store| store.feed(&PEOPLE)).unwrap().end.seq < Seq(ENTRIES) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, taken).await.expect("it is taken in");
    // Another one is of no use by then.
    world.hub_says(SnapshotWord::Offer(Box::new(snapshot(2).0))).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(next(&mut world.at_hub).await, SnapshotWord::Taken { id });
    assert_eq!(next(&mut world.at_hub).await, SnapshotWord::Declined { id: snapshot(2).0.manifest.id() });
    assert_eq!(next(&mut world.at_sibling).await, SnapshotWord::Taken { id });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_finds_no_room_is_declined() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 1, 0, 1).await;
    let mut links = Links::new();
    let hub = links.connect(NodeIdentity::hub(LIFE)).await.identity().clone();
    let offer = || Message::Snapshot(Box::new(SnapshotWord::Offer(Box::new(snapshot(1).0))));
    for _ in 0..WORDS_WAITING_MAX {
        assert_eq!(campus.node.on_message(&hub, offer()).await, None);
    }
    let id = snapshot(1).0.manifest.id();
    let declined = Message::Snapshot(Box::new(SnapshotWord::Declined { id }));
    assert_eq!(campus.node.on_message(&hub, offer()).await, Some(declined));
}

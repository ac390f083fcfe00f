//! The sync loop over a real connection: a crowd of small runs each way at once, taken in by stores that are slow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod common;

use common::{LIFE, authority, edge, edge_id, hub, key_of};
use ed25519_dalek::SigningKey;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use yika_crdt::channel::{BlockScope, Channel, FeedId, Place};
use yika_crdt::entry::NodeRecord;
use yika_crdt::feed::Run;
use yika_crdt::ids::*;
use yika_crdt::mesh::{Directory, Mesh, RunRefused};
use yika_crdt::store::{MemoryStore, Read, Store, StoreError, Tx};
use yika_crdt::sync::Message;
use yika_link::sync::{Greeting, Node, NotTaken, serve};
use yika_link::{CloseCode, CloseReason, Expected, PeerIdentity};

/// More than all queues between the wire and a store hold together.
const ENTRIES: u64 = 400;
const BOX: Writer = Writer { node: NodeId(7), incarnation: LIFE };
/// Other boxes in the registry: more than one part of a greeting lists.
const OTHERS: u32 = 4_200;
const HUB: Writer = Writer { node: NodeId::HUB, incarnation: LIFE };

/// A node that stores whatever comes, slowly.
struct Slow {
    me: Writer,
    key: SigningKey,
    store: Mutex<MemoryStore>,
    directory: Mutex<Arc<Directory>>,
    grown: broadcast::Sender<FeedId>,
    /// Takes no run, and says this.
    refusing: Option<NotTaken>,
    /// Greetings it was told of.
    greeted: Mutex<Vec<Greeting>>,
    /// What it makes of them, if they are not taken.
    refusing_greetings: Option<NotTaken>,
}

impl Slow {
    fn new(me: Writer) -> Arc<Slow> {
        Slow::refusing(me, None)
    }

    fn refusing(me: Writer, refusing: Option<NotTaken>) -> Arc<Slow> {
        Arc::new(Slow { refusing, ..Slow::holding(me, 0) })
    }

    /// A node that holds so many feeds of other boxes, of each one entry; everybody knows those boxes.
    fn holding(me: Writer, feeds: u32) -> Slow {
        let mut store = MemoryStore::default();
        let place = Place { node: me.node, campus: (!me.node.is_hub()).then_some(CampusId(1)) };
        let mut mesh = Mesh::load(&store, me, place).unwrap();
        let mut tx = Tx::new(&store);
        for (writer, campus) in [(HUB, None), (BOX, edge_id(7).campus)] {
            let key = key_of(writer.node.0).verifying_key().to_bytes();
            let record = NodeRecord { writer, campus, key, name: writer.to_string(), address: None };
            tx.put(yika_crdt::keys::node(writer), &record);
        }
        for node in (0..OTHERS).map(|n| NodeId(1_000 + n)) {
            let (writer, campus) = (Writer { node, incarnation: LIFE }, Some(CampusId(1)));
            let key = key_of(node.0).verifying_key().to_bytes();
            let record = NodeRecord { writer, campus, key, name: writer.to_string(), address: None };
            tx.put(yika_crdt::keys::node(writer), &record);
            if node.0 - 1_000 < feeds {
                tx.append(FeedId { writer, channel: Channel::People(CampusId(1)) }, vec![1]).unwrap();
            }
        }
        let batch = tx.into_batch();
        store.commit(&batch).unwrap();
        mesh.replace(Mesh::load(&store, me, place).unwrap());
        let (grown, _) = broadcast::channel(4_096);
        let directory = Mutex::new(Arc::new(mesh.directory()));
        let (greeted, store, refusing_greetings) = (Mutex::default(), Mutex::new(store), None);
        Slow { me, key: key_of(me.node.0), store, directory, grown, refusing: None, greeted, refusing_greetings }
    }

    fn append(&self, feed: FeedId, number: u64) {
        let mut store = self.store.lock().unwrap();
        let mut tx = Tx::new(&*store);
        tx.append(feed, number.to_be_bytes().to_vec()).unwrap();
        let batch = tx.into_batch();
        store.commit(&batch).unwrap();
        let _ = self.grown.send(feed);
    }

    fn held(&self, feed: FeedId) -> u64 {
        self.store.lock().unwrap().feed(&feed).unwrap().end.seq.0
    }
}

impl Node for Slow {
    fn me(&self) -> Writer {
        self.me
    }
    fn key(&self) -> &SigningKey {
        &self.key
    }
    fn software(&self) -> &str {
        "yika test"
    }
    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.lock().unwrap())
    }
    fn read<T>(&self, read: impl FnOnce(&dyn Read) -> Result<T, StoreError>) -> Result<T, StoreError> {
        read(&*self.store.lock().unwrap())
    }
    fn grown(&self) -> broadcast::Receiver<FeedId> {
        self.grown.subscribe()
    }
    async fn ingest(&self, _: Writer, run: Box<Run>) -> Result<(FeedId, Seq), NotTaken> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        if let Some(refused) = &self.refusing {
            return Err(refused.clone());
        }
        let feed = run.head.feed;
        let mut store = self.store.lock().unwrap();
        let mut tx = Tx::new(&*store);
        tx.take_run(&run)?;
        let batch = tx.into_batch();
        store.commit(&batch)?;
        Ok((feed, run.head.end.seq))
    }
    async fn on_message(&self, _: &PeerIdentity, _: Message) -> Option<Message> {
        None
    }
    async fn on_greeted(node: &Arc<Self>, _: &PeerIdentity, greeting: Greeting) -> Result<(), NotTaken> {
        node.greeted.lock().unwrap().push(greeting);
        node.refusing_greetings.clone().map_or(Ok(()), Err)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_runs_both_ways_never_stop_each_other() {
    let ca = authority(1);
    let (at_hub, at_box) = (hub(&ca), edge(&ca, 7));
    let addr = at_hub.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(at_box.dial(addr, Expected::Hub), at_hub.accept());
    let (hub_node, box_node) = (Slow::new(HUB), Slow::new(BOX));
    let mut silence = Vec::new();
    for (node, peer) in [(&box_node, dialled.unwrap()), (&hub_node, accepted.unwrap())] {
        let (keep, words) = mpsc::channel(8);
        silence.push(keep);
        tokio::spawn(serve(Arc::clone(node), peer, words));
    }
    let journal = FeedId { writer: BOX, channel: Channel::Journal };
    let rights = FeedId { writer: HUB, channel: Channel::Rights(BOX) };
    for number in 0..ENTRIES {
        box_node.append(journal, number);
        hub_node.append(rights, number);
        if number % 8 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let all_there = async {
        while hub_node.held(journal) < ENTRIES || box_node.held(rights) < ENTRIES {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(30), all_there).await;
    let (journal, rights) = (hub_node.held(journal), box_node.held(rights));
    assert!(done.is_ok(), "stopped at {journal} and {rights} of {ENTRIES}");
}

/// A loop that is busy hears of one feed where many have grown, and reads again what it has missed: nothing waits for the next
/// entry of a feed that is quiet from then on.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_lags_behind_reads_all_feeds_again() {
    let ca = authority(1);
    let (at_hub, at_box) = (hub(&ca), edge(&ca, 7));
    let addr = at_hub.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(at_box.dial(addr, Expected::Hub), at_hub.accept());
    // Room for a single word.
    let hub_node = Arc::new(Slow { grown: broadcast::channel(1).0, ..Slow::holding(HUB, 0) });
    let box_node = Slow::new(BOX);
    let (keep, words) = mpsc::channel(8);
    tokio::spawn(serve(Arc::clone(&box_node), dialled.unwrap(), words));
    let (keep_too, words) = mpsc::channel(8);
    tokio::spawn(serve(Arc::clone(&hub_node), accepted.unwrap(), words));
    let greeted = || !hub_node.greeted.lock().unwrap().is_empty() && !box_node.greeted.lock().unwrap().is_empty();
    while !greeted() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let campus = CampusId(1);
    let channels = [
        Channel::Registry,
        Channel::People(campus),
        Channel::Campus(campus),
        Channel::Blocks(BlockScope::Hub),
        Channel::Rights(BOX),
        Channel::Receipts(BOX.node),
    ];
    let feeds = channels.map(|channel| FeedId { writer: HUB, channel });
    {
        // While the store is held, the loop waits for it and hears nothing.
        let mut store = hub_node.store.lock().unwrap();
        let mut tx = Tx::new(&*store);
        feeds.iter().for_each(|feed| _ = tx.append(*feed, vec![1]).unwrap());
        let batch = tx.into_batch();
        store.commit(&batch).unwrap();
        feeds.iter().for_each(|feed| _ = hub_node.grown.send(*feed));
    }
    let all_there = async {
        while feeds.iter().any(|feed| box_node.held(*feed) == 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(30), all_there).await;
    let held = feeds.map(|feed| (feed.channel, box_node.held(feed)));
    assert!(done.is_ok(), "never told: {held:?}");
    drop((keep, keep_too));
}

/// A new box has written before the registry that lists it arrived: with the registry all of it goes out.
///
/// Rows ORG-1, NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_box_wrote_before_its_registry_came_goes_out_with_it() {
    let ca = authority(1);
    let (at_hub, at_box) = (hub(&ca), edge(&ca, 7));
    let addr = at_hub.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(at_box.dial(addr, Expected::Hub), at_hub.accept());
    let (hub_node, box_node) = (Slow::new(HUB), Slow::new(BOX));
    let listed = std::mem::take(&mut *box_node.directory.lock().unwrap());
    let journal = FeedId { writer: BOX, channel: Channel::Journal };
    box_node.append(journal, 1);
    let (_keep, words) = mpsc::channel(8);
    tokio::spawn(serve(Arc::clone(&hub_node), accepted.unwrap(), words));
    let (_keep, words) = mpsc::channel(8);
    tokio::spawn(serve(Arc::clone(&box_node), dialled.unwrap(), words));
    let sent = async {
        while box_node.greeted.lock().unwrap().is_empty() || hub_node.greeted.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(hub_node.held(journal), 0, "nobody knows who wrote it");
        *box_node.directory.lock().unwrap() = listed;
        let _ = box_node.grown.send(FeedId { writer: HUB, channel: Channel::Registry });
        while hub_node.held(journal) < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), sent).await.expect("it goes out");
}

/// A greeting in parts is told once, whole: whoever hears of it knows all that the peer holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_greeting_in_parts_is_told_once_and_whole() {
    let ca = authority(1);
    let (at_hub, at_box) = (hub(&ca), edge(&ca, 7));
    let addr = at_hub.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(at_box.dial(addr, Expected::Hub), at_hub.accept());
    let (hub_node, box_node) = (Arc::new(Slow::holding(HUB, OTHERS)), Slow::new(BOX));
    let (_keep, words) = mpsc::channel(8);
    tokio::spawn(serve(Arc::clone(&hub_node), accepted.unwrap(), words));
    let (_keep, words) = mpsc::channel(8);
    tokio::spawn(serve(Arc::clone(&box_node), dialled.unwrap(), words));
    let both = async {
        while box_node.greeted.lock().unwrap().is_empty() || hub_node.greeted.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Long enough for whatever else might be told.
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("both greet");
    let heard = |node: &Slow| node.greeted.lock().unwrap().iter().map(|g| g.have.len()).collect::<Vec<_>>();
    assert_eq!(heard(&box_node), vec![OTHERS as usize], "all feeds, in one word");
    assert_eq!(heard(&hub_node), vec![0]);
    assert_eq!(box_node.greeted.lock().unwrap()[0].software, "yika test");
}

/// What a node could not judge must be said again: the connection ends, for now.
#[tokio::test(flavor = "multi_thread")]
async fn a_greeting_that_cannot_be_judged_ends_the_connection() {
    let ca = authority(1);
    let (at_hub, at_box) = (hub(&ca), edge(&ca, 7));
    let addr = at_hub.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(at_box.dial(addr, Expected::Hub), at_hub.accept());
    let refusing_greetings = Some(NotTaken::for_now("the disk is full"));
    let hub_node = Arc::new(Slow { refusing_greetings, ..Slow::holding(HUB, 0) });
    let (_keep, words) = mpsc::channel(8);
    tokio::spawn(serve(hub_node, accepted.unwrap(), words));
    let (_keep, words) = mpsc::channel(8);
    let ended = tokio::time::timeout(Duration::from_secs(10), serve(Slow::new(BOX), dialled.unwrap(), words));
    let ended = ended.await.expect("the connection ends");
    assert_eq!(ended.code(), Some(CloseCode::UNAVAILABLE), "{ended}");
}

/// How a connection ends for a box whose headquarters takes no run of its.
async fn end_at_the_box(refused: NotTaken) -> CloseReason {
    let ca = authority(1);
    let (at_hub, at_box) = (hub(&ca), edge(&ca, 7));
    let addr = at_hub.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(at_box.dial(addr, Expected::Hub), at_hub.accept());
    let (hub_node, box_node) = (Slow::refusing(HUB, Some(refused)), Slow::new(BOX));
    box_node.append(FeedId { writer: BOX, channel: Channel::Journal }, 1);
    let (_keep, words) = mpsc::channel(8);
    tokio::spawn(serve(hub_node, accepted.unwrap(), words));
    let (_keep, words) = mpsc::channel(8);
    let ended = serve(box_node, dialled.unwrap(), words);
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the connection ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_passes_calls_for_no_operator_and_an_offence_does() {
    let full = StoreError::Device { doing: "committing", cause: "the disk is full".into() };
    let ended = end_at_the_box(full.into()).await;
    let CloseReason::ByPeer { code, words } = &ended else { panic!("{ended:?}") };
    assert!(*code == CloseCode::UNAVAILABLE && !code.needs_operator(), "{ended}");
    assert!(words.contains("the disk is full"), "{ended}");

    let journal = FeedId { writer: BOX, channel: Channel::Journal };
    let ended = end_at_the_box(RunRefused::UnknownWriter(journal).into()).await;
    assert_eq!(ended.code(), Some(CloseCode::UNAVAILABLE), "the registry is on its way: {ended}");
    let ended = end_at_the_box(RunRefused::NotItsChannel(journal).into()).await;
    assert!(ended.code() == Some(CloseCode::PROTOCOL) && CloseCode::PROTOCOL.needs_operator(), "{ended}");
}

//! Runs feed sync over one live peer: frames in and out of the pure state machine of `yika_crdt::sync`.
//!
//! One loop owns the connection's state; runs are taken in by a worker beside it, so that acknowledgements and urgent
//! words never wait for the disk. Leaves to others: storage and decisions, behind [`Node`].

use crate::close::{CloseCode, CloseReason};
use crate::identity::PeerIdentity;
use crate::peer::Peer;
use ed25519_dalek::SigningKey;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use yika_crdt::channel::{Channel, Class, FeedId, Place};
use yika_crdt::feed::{Hash, Run, SignedHead};
use yika_crdt::ids::{Seq, Writer};
use yika_crdt::mesh::{Directory, RunRefused};
use yika_crdt::snapshot::{Audience, SignedManifest};
use yika_crdt::store::{FeedState, Read, StoreError, end_at};
use yika_crdt::sync::{Claim, Known, Message, PeerSync, RUN_BYTES_MAX, SnapshotWord};

/// Runs received and not yet stored; at the bound the loop stops reading and the peer waits.
pub const RUNS_WAITING_MAX: usize = 8;
/// Words of one's own accord that wait to be said to one peer.
pub const WORDS_WAITING_MAX: usize = 256;

/// Somebody else's journal or document change is passed on only if the peer has not got it otherwise by then.
pub const PASS_ON_AFTER_MS: u64 = 1_000;
/// A box says to headquarters so often how long its journal is: that a connection is open tells nothing of it.
pub const TELL_END_MS: u64 = 10_000;

/// Why something that the peer said is not taken: what the connection is closed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotTaken {
    /// Whether it passes by itself.
    pub code: CloseCode,
    /// For the peer's operator.
    pub words: String,
}

impl NotTaken {
    /// Honest peers do not say such a thing.
    pub fn offence(words: impl ToString) -> NotTaken {
        NotTaken { code: CloseCode::PROTOCOL, words: words.to_string() }
    }

    /// Not at present, and not the peer's fault: it comes again soon.
    pub fn for_now(words: impl ToString) -> NotTaken {
        NotTaken { code: CloseCode::UNAVAILABLE, words: words.to_string() }
    }
}

impl From<RunRefused> for NotTaken {
    fn from(refused: RunRefused) -> Self {
        if refused.may_pass() { NotTaken::for_now(refused) } else { NotTaken::offence(refused) }
    }
}

impl From<StoreError> for NotTaken {
    fn from(error: StoreError) -> Self {
        NotTaken::for_now(error)
    }
}

/// What a node's shell offers to its connections.
pub trait Node: Send + Sync + 'static {
    /// This node's life.
    fn me(&self) -> Writer;
    /// Signs heads.
    fn key(&self) -> &SigningKey;
    /// Name and version.
    fn software(&self) -> &str;
    /// Who may hold what.
    fn directory(&self) -> Arc<Directory>;
    /// Runs a reading over committed state; may block for a moment.
    fn read<T>(&self, read: impl FnOnce(&dyn Read) -> Result<T, StoreError>) -> Result<T, StoreError>;
    /// All feeds of which something may be held; where they end is read where it is needed.
    fn feeds(&self) -> Result<Arc<[FeedId]>, StoreError> {
        self.read(|store| Ok(store.feeds()?.into_iter().map(|(feed, _)| feed).collect()))
    }
    /// What need not be looked up; none for a node that says everything once.
    fn known(&self) -> Option<&Mutex<Known>> {
        None
    }
    /// Feeds that grow from here on.
    fn grown(&self) -> broadcast::Receiver<FeedId>;
    /// Stores a run durably, or says why it is not taken.
    fn ingest(&self, from: Writer, run: Box<Run>) -> impl Future<Output = Result<(FeedId, Seq), NotTaken>> + Send;
    /// Everything that is not sync: asks, recalls, questions. The answer is said to the peer.
    fn on_message(&self, from: &PeerIdentity, message: Message) -> impl Future<Output = Option<Message>> + Send;
    /// The peer has stored this node's sending, or got it otherwise, up to here.
    fn on_stored(&self, _from: &PeerIdentity, _marks: &[(FeedId, Seq)]) {}
    /// Whether this node cuts snapshots for its peers.
    const OFFERS_SNAPSHOTS: bool = false;
    /// The peer lacks much of these audiences' feeds, and their entries wait: each must be offered a snapshot, or told
    /// that there is none, by a word to the peer. Must not block.
    fn offer_snapshots(_node: &Arc<Self>, _to: &PeerIdentity, _audiences: BTreeSet<Audience>) {}
    /// A snapshot that this node keeps; `None` when it is gone.
    fn snapshot(&self, _id: &Hash) -> Option<Arc<SignedManifest>> {
        None
    }
    /// A chunk of it, if `to` may hold it; may block for a moment.
    fn snapshot_chunk(&self, _to: Place, _id: &Hash, _chunk: u32) -> Option<Vec<u8>> {
        None
    }
    /// The peer has greeted, in all its parts: once a connection. Must not wait for long: the own greeting may still be
    /// unsaid. An error ends the connection, so that the peer greets again.
    fn on_greeted(
        node: &Arc<Self>,
        peer: &PeerIdentity,
        greeting: Greeting,
    ) -> impl Future<Output = Result<(), NotTaken>> + Send;
}

/// What a peer says of itself when it connects.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Greeting {
    /// Name and version.
    pub software: String,
    /// How far it holds what both may hold.
    pub have: Vec<Claim>,
}

/// Serves one peer until the connection ends; `words` are said to it of this node's own accord.
pub async fn serve<N: Node>(node: Arc<N>, peer: Peer, mut words: mpsc::Receiver<Message>) -> CloseReason {
    let mut grown = node.grown();
    let identity = peer.identity().clone();
    let mut sync = PeerSync::new(node.me(), identity.place(), identity.writer());
    let directory = node.directory();
    let greeting = tokio::task::block_in_place(|| {
        let feeds = node.feeds()?;
        node.read(|store| sync.greeting(&directory, store, &feeds, node.software()))
    });
    match greeting {
        Ok(greeting) => greeting.into_iter().for_each(|part| sync.say(part)),
        Err(error) => return refuse(&peer, error.into()).await,
    }
    let mut heard = Greeting::default();
    let (runs, stored) = ingest_worker(Arc::clone(&node), identity.writer());
    let mut stored = stored;
    let mut later: BTreeMap<FeedId, Instant> = BTreeMap::new();
    // One message at a time waits for room at the peer, while everything else goes on: two peers with full queues that
    // both only sent would wait for each other.
    let mut sending: Option<Message> = None;
    let journal = FeedId { writer: node.me(), channel: Channel::Journal };
    let mut tell_end = tokio::time::interval(Duration::from_millis(TELL_END_MS));
    tell_end.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if sending.is_none() {
            match next_message(&node, &mut sync, identity.place()) {
                Ok(next) => sending = next,
                Err(error) => return refuse(&peer, error.into()).await,
            }
        }
        tokio::select! {
            biased;
            _ = tell_end.tick(), if identity.node.is_hub() => announce(&node, &mut sync, journal),
            Some(result) = stored.recv() => match result {
                Ok(mark) => sync.say(Message::Stored(vec![mark])),
                Err(refused) => return refuse(&peer, refused).await,
            },
            // A run is taken off the wire only when the worker has room: its results must never wait behind it.
            received = peer.recv_until(least(&sync)), if runs.capacity() > 0 && sync.has_room() => {
                let Some((_, bytes)) = received else { return peer.closed().await };
                let taken = match sync.is_greeted() {
                    true => take(&node, &mut sync, &identity, &runs, &bytes).await,
                    false => take_greeting(&node, &mut sync, &peer, &mut heard, &bytes).await,
                };
                if let Err(refused) = taken {
                    return refuse(&peer, refused).await;
                }
            }
            sent = send(&peer, sending.as_ref()), if sending.is_some() => {
                if sent.is_err() {
                    return peer.closed().await;
                }
                sending = None;
            }
            () = tokio::time::sleep_until(pass_on_at(&later)), if !later.is_empty() => {
                let feeds = std::mem::take(&mut later);
                sync.on_grown(feeds.keys());
            }
            feed = grown.recv() => match feed {
                // Most of what grows at headquarters is for one box: the others must not even look.
                // Whom the registry lists from here on may have written before: a new box its own first entries.
                Ok(feed) if feed.channel == Channel::Registry && !node.me().node.is_hub() => {
                    all_grown(&node, &mut sync);
                }
                Ok(feed) if !sync.concerns(&node.directory(), &feed) => {}
                Ok(feed) if must_wait(&feed, &node.me()) => {
                    announce(&node, &mut sync, feed);
                    later.entry(feed).or_insert_with(|| Instant::now() + Duration::from_millis(PASS_ON_AFTER_MS));
                }
                Ok(feed) => sync.on_grown([&feed]),
                // Too many to tell one by one: look at all of them.
                Err(broadcast::error::RecvError::Lagged(_)) => all_grown(&node, &mut sync),
                Err(broadcast::error::RecvError::Closed) => {
                    peer.close(CloseCode::SHUTDOWN, "");
                    return peer.closed().await;
                }
            },
            Some(word) = words.recv() => sync.say(word),
        }
    }
}

/// What is to be said next; chunks of snapshots go when there is nothing else.
fn next_message<N: Node>(node: &Arc<N>, sync: &mut PeerSync, to: Place) -> Result<Option<Message>, StoreError> {
    if sync.may_speak() {
        let directory = node.directory();
        let known = || node.known().map(|known| known.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(next) = known().and_then(|known| sync.poll_known(&directory, &known)) {
            return Ok(Some(next));
        }
        if sync.may_speak()
            && let Some(next) = look_further(node, sync, &directory)?
        {
            if let (Message::Entries(run), Some(mut known)) = (&next, known())
                && run.head.feed.writer == node.me()
            {
                known.said(run);
            }
            return Ok(Some(next));
        }
    }
    match sync.is_wanted() {
        true => Ok(tokio::task::block_in_place(|| next_chunk(node, sync, to))),
        false => Ok(None),
    }
}

fn look_further<N: Node>(
    node: &Arc<N>,
    sync: &mut PeerSync,
    directory: &Directory,
) -> Result<Option<Message>, StoreError> {
    tokio::task::block_in_place(|| node.read(|store| sync.poll(directory, store, node.key())))
}

/// The next chunk that the peer has asked for.
fn next_chunk<N: Node>(node: &Arc<N>, sync: &mut PeerSync, to: Place) -> Option<Message> {
    let (id, chunk) = sync.wanted()?;
    recall(node, sync, &id);
    let word = match node.snapshot_chunk(to, &id, chunk) {
        Some(bytes) => SnapshotWord::Chunk { id, chunk, bytes },
        None => SnapshotWord::Gone { id },
    };
    Some(Message::Snapshot(Box::new(word)))
}

/// Before the peer's greeting is whole nothing else is heard of it; runs on faster streams wait for it.
fn least(sync: &PeerSync) -> Class {
    if sync.is_greeted() { Class::Snapshot } else { Class::Control }
}

/// Hands a message over; cancel safe.
async fn send(peer: &Peer, message: Option<&Message>) -> Result<(), crate::SendError> {
    match message {
        Some(message) => peer.send(message.class(), message.encode()).await,
        None => Ok(()),
    }
}

/// Urgent things of others are passed on at once; their journals and documents usually come by themselves.
fn must_wait(feed: &FeedId, me: &Writer) -> bool {
    feed.writer != *me && matches!(feed.channel.class(), Class::Journal | Class::Documents)
}

fn pass_on_at(later: &BTreeMap<FeedId, Instant>) -> Instant {
    later.values().min().copied().unwrap_or_else(Instant::now)
}

/// Tells the peer how far this node holds a feed: somebody's, so that it need not pass it on, or its own journal.
fn announce<N: Node>(node: &Arc<N>, sync: &mut PeerSync, feed: FeedId) {
    if sync.is_greeted() && sync.concerns(&node.directory(), &feed) {
        let held = tokio::task::block_in_place(|| node.read(|store| store.feed(&feed)));
        if let Ok(held) = held {
            sync.say(Message::Stored(vec![(feed, held.end.seq)]));
        }
    }
}

/// Takes a part of the peer's greeting; with the last one the node is told, and both bring each other on.
async fn take_greeting<N: Node>(
    node: &Arc<N>,
    sync: &mut PeerSync,
    peer: &Peer,
    heard: &mut Greeting,
    bytes: &[u8],
) -> Result<(), NotTaken> {
    let identity = peer.identity();
    let message = Message::decode(bytes).map_err(NotTaken::offence)?;
    if !matches!(message, Message::Hello { .. } | Message::Have { .. }) {
        return Err(NotTaken::offence("the first message must be a greeting"));
    }
    // The sync bounds how much they list.
    let is_whole = sync.on_greeting(&message).map_err(NotTaken::offence)?;
    match message {
        Message::Hello { software, have, .. } => *heard = Greeting { software, have },
        Message::Have { have, .. } => heard.have.extend(have),
        _ => {}
    }
    if !is_whole {
        return Ok(());
    }
    // Of a connection that a newer one has replaced nothing counts: it may tell what was so before.
    if peer.close_reason().is_some() {
        return Err(NotTaken::for_now("the connection has ended"));
    }
    let feeds = tokio::task::block_in_place(|| shared_feeds(node, sync))?;
    hold(node, sync, identity, &feeds);
    sync.on_grown(feeds.iter().map(|(feed, _)| feed));
    let forks = tokio::task::block_in_place(|| node.read(|store| sync.contradictions(store, node.key())));
    forks.unwrap_or_default().into_iter().for_each(|fork| sync.say(fork));
    N::on_greeted(node, identity, std::mem::take(heard)).await
}

/// Takes one frame into the state.
async fn take<N: Node>(
    node: &Arc<N>,
    sync: &mut PeerSync,
    identity: &PeerIdentity,
    runs: &mpsc::Sender<Box<Run>>,
    bytes: &[u8],
) -> Result<(), NotTaken> {
    let message = Message::decode(bytes).map_err(NotTaken::offence)?;
    match message {
        Message::Hello { .. } | Message::Have { .. } => return Err(NotTaken::offence("it has greeted already")),
        Message::Stored(marks) => {
            sync.on_stored(&marks);
            node.on_stored(identity, &marks);
        }
        Message::Entries(run) => {
            sync.on_entries(&run);
            runs.send(run).await.map_err(|_| NotTaken::for_now("this node is stopping"))?;
        }
        Message::Snapshot(word) => {
            if let SnapshotWord::Taken { id } = &*word {
                recall(node, sync, id);
            }
            if !sync.on_snapshot_word(&word) {
                return Err(NotTaken::offence("more chunks of snapshots were asked for than anybody fetches at once"));
            }
            if let Some(answer) = node.on_message(identity, Message::Snapshot(word)).await {
                sync.say(answer);
            }
        }
        other => {
            if let Message::Diverged(head) = &other {
                show(node, sync, head);
            }
            if let Some(answer) = node.on_message(identity, other).await {
                sync.say(answer);
            }
        }
    }
    Ok(())
}

/// A peer that lacks much is brought on by snapshots, if this node cuts them.
fn hold<N: Node>(node: &Arc<N>, sync: &mut PeerSync, identity: &PeerIdentity, feeds: &[(FeedId, FeedState)]) {
    if N::OFFERS_SNAPSHOTS {
        let audiences = sync.hold_for_snapshots(&node.directory(), feeds);
        if !audiences.is_empty() {
            N::offer_snapshots(node, identity, audiences);
        }
    }
}

/// The peer goes on with a snapshot that was offered on an earlier connection.
fn recall<N: Node>(node: &Arc<N>, sync: &mut PeerSync, id: &Hash) {
    if !sync.has_offered(id)
        && let Some(signed) = node.snapshot(id)
    {
        sync.on_offered(&signed);
    }
}

/// Both sides of a dispute, the feed's writer and who holds its feed, show what they hold where the other's head
/// stands, once on a connection: two signed heads are the proof, and the writer must know.
fn show<N: Node>(node: &Arc<N>, sync: &mut PeerSync, theirs: &SignedHead) {
    let feed = theirs.feed;
    if !sync.dispute(feed) {
        return;
    }
    let ours = tokio::task::block_in_place(|| {
        node.read(|store| match feed.writer == node.me() {
            true => Ok(end_at(store, &feed, theirs.end.seq)?.map(|end| SignedHead::sign(feed, end, node.key()))),
            false if feed.writer == sync.peer() => store.head_from(&feed, theirs.end.seq),
            false => Ok(None),
        })
    });
    if let Ok(Some(ours)) = ours
        && ours.end != theirs.end
    {
        sync.say(Message::Diverged(Box::new(ours)));
    }
}

fn all_grown<N: Node>(node: &Arc<N>, sync: &mut PeerSync) {
    let directory = node.directory();
    // A list that cannot be read ends the connection at the next look.
    let feeds = tokio::task::block_in_place(|| node.feeds()).unwrap_or_default();
    let concerned: Vec<&FeedId> = feeds.iter().filter(|feed| sync.concerns(&directory, feed)).collect();
    sync.on_grown(concerned);
}

/// What is held of the feeds that the peer may hold.
fn shared_feeds<N: Node>(node: &Arc<N>, sync: &PeerSync) -> Result<Vec<(FeedId, FeedState)>, StoreError> {
    let (directory, feeds) = (node.directory(), node.feeds()?);
    let shared = feeds.iter().filter(|feed| sync.concerns(&directory, feed));
    node.read(|store| shared.map(|feed| Ok((*feed, store.feed(feed)?))).collect())
}

type Stored = Result<(FeedId, Seq), NotTaken>;

/// Stores runs in the order they came. What came while the one before was being stored goes in one turn with it, as far as
/// it is of one feed: where storing takes longer than the next sale, a turn for each would never be done with them.
fn ingest_worker<N: Node>(node: Arc<N>, from: Writer) -> (mpsc::Sender<Box<Run>>, mpsc::Receiver<Stored>) {
    let (runs, mut waiting) = mpsc::channel::<Box<Run>>(RUNS_WAITING_MAX);
    let (done, stored) = mpsc::channel(RUNS_WAITING_MAX + 1);
    tokio::spawn(async move {
        let mut other = None;
        loop {
            let next = match other.take() {
                Some(run) => Some(run),
                None => waiting.recv().await,
            };
            let Some(mut run) = next else { return };
            while let Ok(next) = waiting.try_recv() {
                if let Err(not_of_it) = run.join(next, RUN_BYTES_MAX) {
                    other = Some(not_of_it);
                    break;
                }
            }
            let result = node.ingest(from, run).await;
            let failed = result.is_err();
            if done.send(result).await.is_err() || failed {
                return;
            }
        }
    });
    (runs, stored)
}

async fn refuse(peer: &Peer, refused: NotTaken) -> CloseReason {
    peer.close(refused.code, &refused.words);
    peer.closed().await
}

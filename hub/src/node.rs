//! The running hub: the writer thread, the readers, the index, and the connections, behind one handle.
//!
//! What the desk, pages and peers call. Leaves to others: decisions (`core`), what an operator may do (`desk`), sockets
//! (`link`).

use crate::clock::{HubClock, wall_ms};
use crate::core::enrol::CERTIFICATE_DAYS;
use crate::core::{self, Command, Hub, Identity, Reply};
use crate::findings::{self, Finding, Verdict};
use crate::identity::HubIdentity;
use crate::machine::{Ears, HubMachine, Order, Recovering};
use crate::opening::{Bounds, Opening};
use crate::refusal::Refusal;
use crate::snapshot::{self, Snapshots};
use crate::store;
use crate::vault::Vault;
use ed25519_dalek::SigningKey;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::entry::*;
use yika_crdt::feed::{Hash, Run};
use yika_crdt::ids::*;
use yika_crdt::mesh::{Directory, RunRefused};
use yika_crdt::people::SharedPeople;
use yika_crdt::registry::{RegistryView, Standing};
use yika_crdt::snapshot::{Audience, SignedManifest};
use yika_crdt::store::{Read, StoreError, decode_row};
use yika_crdt::sync::{Known, Message};
use yika_link::sync::{Greeting, Node, NotTaken, WORDS_WAITING_MAX};
use yika_link::{Authority, CloseCode, Peer, PeerIdentity, RenewReply, RenewRequest, Validity, describe_certificate};
use yika_store::rusqlite::Connection;
use yika_store::{CallError, Priority, ReadPool, SqliteStore, Writer as StoreWriter, WriterThread};

/// Name and version as told to peers.
pub const SOFTWARE: &str = concat!("yika-hub ", env!("CARGO_PKG_VERSION"));
/// Readers beside the writer.
pub const READERS: usize = 6;

/// A live connection.
struct Connected {
    peer: Peer,
    words: mpsc::Sender<Message>,
}

/// The running hub.
pub struct HubNode {
    me: Writer,
    key: SigningKey,
    /// Its name as shown.
    pub name: String,
    /// Opens what is sealed.
    pub vault: Arc<Vault>,
    authority: Arc<Authority>,
    writer: StoreWriter<HubMachine>,
    pool: ReadPool,
    ears: Ears,
    /// Who exists and who is blocked.
    pub people: SharedPeople,
    registry: RwLock<Arc<RegistryView>>,
    peers: Mutex<BTreeMap<Writer, Connected>>,
    snapshots: Snapshots,
    /// Whether boxes were heard since the start: before that no order is taken.
    opening: Arc<Opening>,
    /// What was last heard of each life.
    heard: Mutex<BTreeMap<Writer, Heard>>,
    /// Last second of its certificate, Unix time.
    certified_until_s: i64,
}

/// What was last heard of a box, and how long it said its journal is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// When, by this clock; kept over a restart.
    pub at_ms: Option<i64>,
    /// The end of its journal as it told last.
    pub journal_end: Seq,
    /// Since when headquarters has lacked something of that.
    pub behind_since_ms: Option<i64>,
}

/// The hub cannot serve: its disk, or it is stopping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("headquarters cannot serve: {0}")]
pub struct Busy(pub String);

impl From<CallError> for Busy {
    fn from(error: CallError) -> Self {
        Busy(error.to_string())
    }
}

impl From<StoreError> for Busy {
    fn from(error: StoreError) -> Self {
        Busy(error.to_string())
    }
}

impl HubNode {
    /// The life that the hub of this data folder is in: a later one than its identity says after a restore.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn life(identity: &HubIdentity, dir: &Path) -> anyhow::Result<Writer> {
        let sqlite = SqliteStore::open(dir.join("hub.db"), &store::options())?;
        Ok(core::present_life(&sqlite, identity.me)?.0)
    }

    /// Opens the store, loads the index, starts the writer thread; the first start lists the hub in its registry.
    ///
    /// # Errors
    /// When the data folder cannot be used; the message says what and how to mend it.
    pub fn start(identity: &HubIdentity, dir: &Path) -> anyhow::Result<(Arc<HubNode>, WriterThread<HubMachine>)> {
        let options = store::options();
        let path = dir.join("hub.db");
        let sqlite = SqliteStore::open(&path, &options)?;
        let clock = HubClock::resumed(&sqlite)?;
        let mut luck = [0; 2];
        if clock.newest_ms() > wall_ms() {
            crate::vault::random(&mut luck)?;
        }
        let hub = Hub::load(&sqlite, Identity { me: identity.me, key: identity.key.clone() })?;
        let hub = hub.with_luck(u16::from_ne_bytes(luck).into());
        let own = hub.own_record(&identity.name);
        let listed = hub.mesh.nodes.contains_key(&identity.me);
        let people = hub.mesh.people.clone();
        let ears = Ears::new(hub.mesh.directory(), sqlite.feeds()?.into_iter().map(|(feed, _)| feed));
        ears.recovery.send_replace(Recovering::of(&hub, &sqlite)?);
        let heard = core::heard(&sqlite)?.into_iter();
        let heard = heard.map(|(writer, at_ms)| (writer, Heard { at_ms: Some(at_ms), ..Heard::default() })).collect();
        let (writer, thread) = StoreWriter::spawn(HubMachine::new(hub, clock, ears.clone()), sqlite)?;
        if !listed {
            writer.call_blocking(Command::Registry(Box::new(Body::Node(own))).into())?;
        }
        let node = HubNode {
            me: identity.me,
            key: identity.key.clone(),
            name: identity.name.clone(),
            vault: Arc::clone(&identity.vault),
            authority: Arc::clone(&identity.authority),
            writer,
            pool: ReadPool::open(&path, &options, READERS)?,
            ears,
            people,
            registry: RwLock::default(),
            peers: Mutex::default(),
            snapshots: Snapshots::open(dir, identity.me)?,
            opening: Arc::default(),
            heard: Mutex::new(heard),
            certified_until_s: describe_certificate(&identity.certificate_der)?.1.not_after_s,
        };
        node.refresh_registry()?;
        Ok((Arc::new(node), thread))
    }

    /// Takes no orders before living boxes have greeted, bounded; what they show comes first.
    pub fn hear_boxes_first(&self) {
        let registry = self.registry();
        let living = registry.boxes().into_iter().map(|record| record.writer);
        let living = living.filter(|writer| registry.standing(*writer) == Standing::Current).collect();
        self.opening.hear(living, Bounds::default());
    }

    /// Hands an order to the writer, once boxes were heard; the reply is durable.
    ///
    /// # Errors
    /// When storage fails or the hub is stopping.
    pub async fn call(&self, order: impl Into<Order>) -> Result<Reply, Busy> {
        self.opening.opened().await;
        Ok(self.writer.call(order.into()).await?)
    }

    /// The same from a thread that may block.
    ///
    /// # Errors
    /// As [`HubNode::call`].
    pub fn call_blocking(&self, order: impl Into<Order>) -> Result<Reply, Busy> {
        self.opening.opened_blocking();
        Ok(self.writer.call_blocking(order.into())?)
    }

    /// Runs a reading of feeds and state rows over committed data. Blocks for a moment.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn look<T>(&self, read: impl FnOnce(&dyn Read) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.pool.read(|reader| read(reader))
    }

    /// Runs one of the questions of `store` over committed data, off the runtime's threads.
    ///
    /// # Errors
    /// Those of `read`.
    pub async fn query<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Busy> {
        let node = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || node.pool.read(|reader| read(reader.connection()))).await;
        Ok(done.map_err(|e| Busy(e.to_string()))??)
    }

    /// Runs a reading of feeds and state rows over committed data, off the runtime's threads.
    ///
    /// # Errors
    /// Those of `read`.
    pub async fn look_off_thread<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&dyn Read) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Busy> {
        let node = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || node.look(read)).await;
        Ok(done.map_err(|e| Busy(e.to_string()))??)
    }

    /// A state row.
    ///
    /// # Errors
    /// Of storage.
    pub fn row<T: serde::de::DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let bytes = tokio::task::block_in_place(|| self.pool.read(|store| store.get(key)))?;
        bytes.map(|b| decode_row(key, &b)).transpose()
    }

    /// What the registry says now.
    pub fn registry(&self) -> Arc<RegistryView> {
        Arc::clone(&self.registry.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the registry's rows again.
    ///
    /// # Errors
    /// Of storage.
    pub fn refresh_registry(&self) -> Result<(), StoreError> {
        let view = self.pool.read(RegistryView::load)?;
        *self.registry.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        Ok(())
    }

    /// What it has cut for boxes that lack much.
    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// The life it is in.
    pub fn writer(&self) -> Writer {
        self.me
    }

    /// Feeds, directory, changes: to listen to.
    pub fn ears(&self) -> &Ears {
        &self.ears
    }

    /// Whether the writer serves.
    pub fn health(&self) -> yika_store::writer::Health {
        self.writer.health().borrow().clone()
    }

    /// Why nothing can be written, and how to mend it, if so.
    pub fn refusing(&self) -> Option<Finding> {
        Some(findings::writer(&self.health())).filter(|finding| finding.verdict == Verdict::Wrong)
    }

    /// Days that are left of its certificate.
    pub fn certificate_days(&self) -> i64 {
        self.certified_until_s.saturating_sub(wall_ms().div_euclid(1_000)).div_euclid(24 * 3_600)
    }

    /// Commands that wait for the writer, all priorities together.
    pub fn waiting(&self) -> usize {
        Priority::ALL.into_iter().map(|priority| self.writer.waiting(priority)).sum()
    }

    /// Who has called back from others what a box asks for says so in time when it does not come: a box that hears nothing
    /// takes headquarters for cut off, and its guest rule would pay. One that was served meanwhile no longer listens.
    fn deny_later(&self, to: Writer, denied: Message) {
        let Some(words) = self.lock_peers().get(&to).map(|peer| peer.words.clone()) else { return };
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(core::RECALL_MS_MAX)).await;
            // A full queue: the box asks again with its next sale.
            let _ = words.try_send(denied);
        });
    }

    /// Remembers a live connection; words go to the newest one of a life.
    pub fn connected(&self, peer: &Peer) -> mpsc::Receiver<Message> {
        let (words, waiting) = mpsc::channel(WORDS_WAITING_MAX);
        let older = self.lock_peers().insert(peer.identity().writer(), Connected { peer: peer.clone(), words });
        if let Some(older) = older {
            // Nobody holds it any more: a fence would not reach it.
            older.peer.close(CloseCode::REPLACED, "this box has connected again");
        }
        waiting
    }

    /// Forgets a connection that has ended, unless a newer one has taken its place.
    pub fn disconnected(&self, peer: &Peer) {
        let writer = peer.identity().writer();
        let mut peers = self.lock_peers();
        if peers.get(&writer).is_some_and(|c| c.peer.close_reason().is_some()) {
            peers.remove(&writer);
            // The link ends within seconds of silence.
            self.hear(writer);
        }
    }

    /// What was last heard of a life.
    pub fn heard(&self, of: Writer) -> Heard {
        self.lock_heard().get(&of).copied().unwrap_or_default()
    }

    /// Writes down when boxes were last heard, if any was since the last time: it is shown also after a restart.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep_heard(&self) -> Result<(), Busy> {
        let registry = self.registry();
        let heard = self.lock_heard().clone().into_iter();
        let present = heard.filter(|(writer, _)| registry.current(writer.node) == Some(*writer));
        let moments: Vec<(Writer, i64)> = present.filter_map(|(writer, heard)| Some((writer, heard.at_ms?))).collect();
        if tokio::task::block_in_place(|| self.look(|store| core::heard(store)))? != moments {
            self.call(Command::Heard(moments)).await?;
        }
        Ok(())
    }

    fn hear(&self, from: Writer) {
        self.lock_heard().entry(from).or_default().at_ms = Some(wall_ms());
    }

    /// A box says how long its journal is.
    fn hear_end(&self, from: Writer, journal_end: Seq) {
        let journal = FeedId { writer: from, channel: Channel::Journal };
        // What cannot be read is told where it is asked for.
        let held = tokio::task::block_in_place(|| self.look(|store| Ok(store.feed(&journal)?.end.seq)));
        let now_ms = wall_ms();
        let mut heard = self.lock_heard();
        let heard = heard.entry(from).or_default();
        *heard = Heard {
            at_ms: Some(now_ms),
            journal_end,
            behind_since_ms: match held {
                Ok(held) if held >= journal_end => None,
                _ => heard.behind_since_ms.or(Some(now_ms)),
            },
        };
    }

    /// A journal is held as far as its box has told: nothing is lacking.
    fn caught_up(&self, feed: FeedId, end: Seq) {
        if feed.channel == Channel::Journal
            && let Some(heard) = self.lock_heard().get_mut(&feed.writer)
            && end >= heard.journal_end
        {
            heard.behind_since_ms = None;
        }
    }

    /// Says something to a connected box; `false` if it is not there or does not listen.
    pub fn say(&self, to: Writer, message: Message) -> bool {
        self.lock_peers().get(&to).is_some_and(|c| c.words.try_send(message).is_ok())
    }

    /// The connection of a life, to be closed.
    pub fn peer(&self, of: Writer) -> Option<Peer> {
        self.lock_peers().get(&of).map(|c| c.peer.clone())
    }

    /// Who is connected.
    pub fn peers(&self) -> Vec<Writer> {
        self.lock_peers().keys().copied().collect()
    }

    fn lock_peers(&self) -> MutexGuard<'_, BTreeMap<Writer, Connected>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_heard(&self) -> MutexGuard<'_, BTreeMap<Writer, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HubNode {
    /// Takes a proof or a piece of another branch, and says what is wanted next of it.
    async fn wanted_branch(&self, of: Writer, command: Command) -> Option<Message> {
        match self.call(command).await {
            Ok(Reply::Branch { feed, from }) => Some(Message::Branch { feed, from }),
            Ok(Reply::Denied(denial)) => {
                let refusal = Refusal::from(denial);
                tracing::warn!(%of, %refusal, "another branch was shown and is not taken");
                None
            }
            Ok(_) => None,
            Err(error) => {
                tracing::error!(%error, "another branch could not be taken");
                None
            }
        }
    }

    /// Later dates for the same key and life; who asks was admitted by the registry.
    fn renew(&self, from: &PeerIdentity, question: &[u8]) -> RenewReply {
        let valid = Validity::days(wall_ms().div_euclid(1000), CERTIFICATE_DAYS);
        let renewed = match RenewRequest::decode(question) {
            Ok(RenewRequest::V1 { csr }) => {
                self.authority.renew(from.identity(), &from.key, &csr, valid).map_err(|e| e.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match renewed {
            Ok(certificate_der) => {
                tracing::info!(peer = %from.writer(), "a certificate was renewed");
                RenewReply::Renewed { certificate_der }
            }
            Err(words) => {
                tracing::warn!(peer = %from.writer(), words, "a certificate was not renewed");
                RenewReply::Refused { words }
            }
        }
    }
}

impl Node for HubNode {
    fn me(&self) -> Writer {
        self.me
    }

    fn key(&self) -> &SigningKey {
        &self.key
    }

    fn software(&self) -> &str {
        SOFTWARE
    }

    fn directory(&self) -> Arc<Directory> {
        self.ears.directory.borrow().clone()
    }

    fn read<T>(&self, read: impl FnOnce(&dyn Read) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.look(read)
    }

    fn feeds(&self) -> Result<Arc<[FeedId]>, StoreError> {
        Ok(self.ears.feeds.borrow().clone())
    }

    fn known(&self) -> Option<&Mutex<Known>> {
        Some(&self.ears.known)
    }

    fn grown(&self) -> broadcast::Receiver<FeedId> {
        self.ears.grown.subscribe()
    }

    async fn ingest(&self, from: Writer, run: Box<Run>) -> Result<(FeedId, Seq), NotTaken> {
        let (feed, end) = (run.head.feed, run.head.end.seq);
        self.hear(from);
        match self.call(Command::Ingest(run)).await {
            Ok(Reply::Stored(feed, seq)) => {
                self.caught_up(feed, seq);
                Ok((feed, seq))
            }
            Ok(Reply::Refused(RunRefused::Fenced { feed, .. })) => {
                // The peer has not heard of the fence; what comes after it is of no use here, but no offence.
                Ok((feed, end))
            }
            Ok(Reply::Branch { feed, from: wanted }) => {
                // Who passes a branch on in good faith is no offender: it is asked for all of it.
                self.say(from, Message::Branch { feed, from: wanted });
                Ok((feed, end))
            }
            Ok(Reply::Refused(refused)) if refused.is_fork() => {
                tracing::error!(%from, %feed, "a box holds another branch of this feed");
                Ok((feed, end))
            }
            Ok(Reply::Refused(refused)) => {
                tracing::warn!(%from, %feed, %refused, "a run was refused");
                Err(refused.into())
            }
            Ok(other) => Err(NotTaken::for_now(format!("the core answered a run with {other:?}"))),
            Err(busy) => Err(NotTaken::for_now(busy)),
        }
    }

    async fn on_message(&self, from: &PeerIdentity, message: Message) -> Option<Message> {
        let writer = from.writer();
        self.hear(writer);
        match message {
            Message::Ask { row, total } => {
                let denied = Message::Denied { row, total };
                match self.call(Command::Ask { from: writer, row, total }).await {
                    Ok(Reply::Granted(true)) => None,
                    Ok(Reply::Waiting) => {
                        self.deny_later(writer, denied);
                        None
                    }
                    _ => Some(denied),
                }
            }
            Message::Denied { row, .. } => {
                let _ = self.call(Command::KeptBack { from: writer, row }).await;
                None
            }
            Message::Diverged(head) => {
                tracing::error!(feed = %head.feed, "a peer holds another end of this feed");
                self.wanted_branch(writer, Command::Diverged(*head)).await
            }
            Message::Branch { feed, from } if feed.writer == writer => {
                let run = tokio::task::block_in_place(|| {
                    self.look(|store| yika_crdt::sync::run_from(store, feed, from, self.me, &self.key))
                });
                run.ok().flatten().map(|run| Message::Other(Box::new(run)))
            }
            Message::Other(run) => self.wanted_branch(writer, Command::Branch(run)).await,
            Message::Renew(question) => Some(Message::Renewed(self.renew(from, &question).encode())),
            Message::Reachable(address) => {
                let _ = self.call(Command::Address { writer, address }).await;
                None
            }
            _ => None,
        }
    }

    fn on_stored(&self, from: &PeerIdentity, marks: &[(FeedId, Seq)]) {
        let journal = FeedId { writer: from.writer(), channel: Channel::Journal };
        match marks.iter().find(|(feed, _)| *feed == journal) {
            Some((_, end)) => self.hear_end(from.writer(), *end),
            None => self.hear(from.writer()),
        }
    }

    const OFFERS_SNAPSHOTS: bool = true;

    fn offer_snapshots(node: &Arc<Self>, to: &PeerIdentity, audiences: BTreeSet<Audience>) {
        snapshot::offer(node, to, audiences);
    }

    fn snapshot(&self, id: &Hash) -> Option<Arc<SignedManifest>> {
        self.snapshots.part(id).map(|part| Arc::new(part.signed().clone()))
    }

    fn snapshot_chunk(&self, to: Place, id: &Hash, chunk: u32) -> Option<Vec<u8>> {
        let part = self.snapshots.part(id)?;
        let manifest = &part.signed().manifest;
        let may = manifest.audience.includes(to) && (chunk as usize) < manifest.chunks.len();
        may.then(|| part.chunk(chunk).ok()).flatten()
    }

    async fn on_greeted(node: &Arc<Self>, peer: &PeerIdentity, greeting: Greeting) -> Result<(), NotTaken> {
        let from = peer.writer();
        tracing::info!(peer = %from, "connected");
        let journal = FeedId { writer: from, channel: Channel::Journal };
        match greeting.have.iter().find(|claim| claim.feed == journal) {
            Some(claim) => node.hear_end(from, claim.end.seq),
            None => node.hear(from),
        }
        // Not through the opening, which waits for this. What could not be judged must be said again.
        let greeted = Command::Greeted { from, have: greeting.have };
        node.writer.call(greeted.into()).await.map_err(NotTaken::for_now)?;
        node.opening.heard(from);
        tokio::spawn(bring_on(Arc::clone(node), from));
        Ok(())
    }
}

/// Tells a box that has greeted what it lacks, as soon as orders are taken; where that fails it must connect again.
async fn bring_on(node: Arc<HubNode>, to: Writer) {
    node.opening.opened().await;
    // Whoever has left meanwhile is asked for nobody's money.
    if node.peer(to).is_none() {
        return;
    }
    if let Err(error) = node.call(Command::Connected(to)).await {
        tracing::error!(peer = %to, %error, "a box could not be served");
        if let Some(peer) = node.peer(to) {
            peer.close(CloseCode::UNAVAILABLE, &error.to_string());
        }
    }
    node.ears.changed.send_modify(|n| *n += 1);
}

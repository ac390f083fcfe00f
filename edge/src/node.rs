//! The running edge: the writer thread, the readers, the index, and the connections, behind one handle.
//!
//! What terminals, doors, pages and peers call. Leaves to others: decisions (`yika_crdt`), HTTP (`terminals`, `console`),
//! who is dialled (`link`).

use crate::identity::Identity;
use crate::machine::{Ears, EdgeMachine};
use crate::ticks::TickSource;
use ed25519_dalek::SigningKey;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use yika_crdt::Fen;
use yika_crdt::access::SharedAccess;
use yika_crdt::channel::{FeedId, Place};
use yika_crdt::clock::Clock;
use yika_crdt::edge::{Command, Edge, Reply};
use yika_crdt::entry::*;
use yika_crdt::feed::Run;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::mesh::{Directory, RunRefused, for_each_row};
use yika_crdt::people::SharedPeople;
use yika_crdt::reason::Reason;
use yika_crdt::rights::PersonRights;
use yika_crdt::sale::{Answer, Outcome, PurchaseRequest, RefundRequest};
use yika_crdt::store::{Read, StoreError, decode_row};
use yika_crdt::sync::Message;
use yika_crdt::tariff::sheet::TariffSheet;
use yika_link::sync::{Node, WORDS_WAITING_MAX};
use yika_link::{Peer, PeerIdentity};
use yika_store::{CallError, Options, ReadPool, SqliteStore, Writer as StoreWriter, WriterThread};

/// Name and version as told to peers.
pub const SOFTWARE: &str = concat!("yika-edge ", env!("CARGO_PKG_VERSION"));
/// Readers beside the writer.
pub const READERS: usize = 4;
/// How long a purchase short of rights waits for one holder of rights to answer; then the next, or refusal.
pub const ASK_MS_MAX: u64 = 800;

/// What the registry says, as pages and terminals need it at every request.
#[derive(Clone, Debug, Default)]
pub struct RegistryView {
    /// Terminals.
    pub terminals: BTreeMap<TerminalId, TerminalRecord>,
    /// Campuses.
    pub campuses: BTreeMap<CampusId, CampusRecord>,
    /// Nodes.
    pub nodes: BTreeMap<Writer, NodeRecord>,
    /// Ended lives.
    pub fences: BTreeMap<Writer, FenceRecord>,
    /// The newest tariff.
    pub tariff: Option<Arc<TariffSheet>>,
}

/// A live connection.
struct Connected {
    peer: Peer,
    words: mpsc::Sender<Message>,
}

/// Version and secret of a terminal's key.
pub type TerminalKey = (u16, zeroize::Zeroizing<Vec<u8>>);

/// The running edge.
pub struct EdgeNode {
    me: Writer,
    place: Place,
    key: SigningKey,
    /// Name of the hub as shown.
    pub hub_name: String,
    writer: StoreWriter<EdgeMachine>,
    pool: ReadPool,
    ears: Ears,
    /// Who may buy and pass.
    pub people: SharedPeople,
    /// Which doors of this campus open for whom.
    pub access: SharedAccess,
    ticks: TickSource,
    registry: RwLock<Arc<RegistryView>>,
    peers: Mutex<BTreeMap<Writer, Connected>>,
    /// Refusals of asks that wait in a purchase.
    denied: broadcast::Sender<(Writer, Row)>,
}

/// The box cannot serve: its disk, or it is stopping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this box cannot serve: {0}")]
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

impl EdgeNode {
    /// Opens the store, loads the index, starts the writer thread.
    ///
    /// # Errors
    /// When the data folder cannot be used; the message says what and how to mend it.
    pub fn start(identity: &Identity, dir: &Path) -> anyhow::Result<(Arc<EdgeNode>, WriterThread<EdgeMachine>)> {
        let ticks = TickSource::open(&dir.join("boot"))?;
        let options = Options::default();
        let path = dir.join("edge.db");
        let store = SqliteStore::open(&path, &options)?;
        let place = identity.place();
        let edge = Edge::load(&store, identity.me, place)?;
        let people = edge.mesh.people.clone();
        let access = edge.mesh.access.clone();
        let ears = Ears::new(edge.mesh.directory());
        let (writer, thread) = StoreWriter::spawn(EdgeMachine::new(edge, ticks, ears.clone()), store)?;
        let node = EdgeNode {
            me: identity.me,
            place,
            key: identity.key.clone(),
            hub_name: identity.hub_name.clone(),
            writer,
            pool: ReadPool::open(&path, &options, READERS)?,
            ears,
            people,
            access,
            ticks,
            registry: RwLock::default(),
            peers: Mutex::default(),
            denied: broadcast::channel(WORDS_WAITING_MAX).0,
        };
        node.refresh_registry()?;
        Ok((Arc::new(node), thread))
    }

    /// Hands a command to the writer; the reply is durable.
    ///
    /// # Errors
    /// When storage fails or the box is stopping.
    pub async fn call(&self, command: Command) -> Result<Reply, Busy> {
        Ok(self.writer.call(command).await?)
    }

    /// Sells. Short of rights, it asks the hub, or with the hub away other boxes, within a stated bound (invariant 4).
    ///
    /// # Errors
    /// When the box cannot serve; the terminal asks again with the same id.
    pub async fn purchase(&self, request: PurchaseRequest) -> Result<Answer, Busy> {
        let mut asked = BTreeSet::new();
        loop {
            // Listen before deciding, so that a grant in between is not missed.
            let rights = self.ears.rights.subscribe();
            let may_ask = !self.lock_peers().is_empty();
            let reply = self.call(Command::Purchase { request: request.clone(), may_ask }).await?;
            let (row, missing) = match reply {
                Reply::Outcome(Outcome::Answered(answer)) => return Ok(answer),
                Reply::Outcome(Outcome::Short { row, missing }) => (row, missing),
                other => return Err(Busy(format!("the core answered a purchase with {other:?}"))),
            };
            let Some((whom, words)) = self.next_to_ask(row, &asked) else {
                return self.give_up(request, row).await;
            };
            asked.insert((whom, row));
            let total = self.granted_by(whom, row)?.add(missing).map_err(|e| Busy(e.to_string()))?;
            if words.try_send(Message::Ask { row, total }).is_ok() {
                self.wait_for_rights(rights, whom, row).await;
            }
        }
    }

    /// Nobody has more rights: refused durably, or with the hub away perhaps served as a guest.
    async fn give_up(&self, request: PurchaseRequest, row: Row) -> Result<Answer, Busy> {
        let hub_is_there = self.lock_peers().keys().any(|w| w.node.is_hub());
        let reason = if matches!(row.wallet, WalletKey::Limit(..)) { Reason::OverDayLimit } else { Reason::NotEnough };
        let last = match hub_is_there {
            true => Command::Refuse { request, reason },
            false => Command::Purchase { request, may_ask: false },
        };
        match self.call(last).await? {
            Reply::Answer(answer) | Reply::Outcome(Outcome::Answered(answer)) => Ok(answer),
            other => Err(Busy(format!("the core answered a purchase with {other:?}"))),
        }
    }

    /// A sale has left a row low: with the hub away, a sibling is asked to level.
    pub fn level(&self, row: Row, right: Fen) {
        let campus = self.place.campus;
        let registry = self.registry();
        let peers = self.lock_peers();
        let is_sibling = |w: &Writer| registry.nodes.get(w).is_some_and(|node| node.campus == campus);
        if peers.keys().any(|w| w.node.is_hub()) {
            return;
        }
        if let Some((_, sibling)) = peers.iter().find(|(w, _)| is_sibling(w)) {
            // A full queue loses nothing: the next sale says it again.
            let _ = sibling.words.try_send(Message::Level { row, right });
        }
    }

    /// Gives back.
    ///
    /// # Errors
    /// As [`EdgeNode::purchase`].
    pub async fn refund(&self, request: RefundRequest) -> Result<Answer, Busy> {
        match self.call(Command::Refund(request)).await? {
            Reply::Answer(answer) => Ok(answer),
            other => Err(Busy(format!("the core answered a refund with {other:?}"))),
        }
    }

    /// The next one who may have rights: the hub if it is there, else boxes, each once for a row.
    fn next_to_ask(&self, row: Row, asked: &BTreeSet<(Writer, Row)>) -> Option<(Writer, mpsc::Sender<Message>)> {
        let peers = self.lock_peers();
        let hub_is_there = peers.keys().any(|w| w.node.is_hub());
        // With the hub there, it alone is asked: it knows who holds what and recalls.
        let mut candidates = peers.iter().filter(|(w, _)| w.node.is_hub() || !hub_is_there);
        let next = candidates.find(|(w, _)| !asked.contains(&(**w, row)));
        next.map(|(writer, peer)| (*writer, peer.words.clone()))
    }

    async fn wait_for_rights(&self, mut rights: broadcast::Receiver<PersonId>, whom: Writer, row: Row) {
        let mut denied = self.denied.subscribe();
        let until = Instant::now() + Duration::from_millis(ASK_MS_MAX);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                person = rights.recv() => match person {
                    Ok(person) if person != row.person => {}
                    _ => return,
                },
                said = denied.recv() => match said {
                    Ok(said) if said != (whom, row) => {}
                    _ => return,
                },
            }
        }
    }

    fn granted_by(&self, giver: Writer, row: Row) -> Result<Fen, Busy> {
        let rights: PersonRights = self.row(&keys::rights(row.person))?.unwrap_or_default();
        let row = rights.rows.get(&row.wallet);
        Ok(row.and_then(|r| r.granted_in.get(&giver).copied()).unwrap_or_default())
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
        let view = self.pool.read(|store| {
            let mut view = RegistryView::default();
            for_each_row(store, keys::TERMINALS, |r: TerminalRecord| _ = view.terminals.insert(r.terminal, r))?;
            for_each_row(store, keys::CAMPUSES, |r: CampusRecord| _ = view.campuses.insert(r.campus, r))?;
            for_each_row(store, keys::NODES, |r: NodeRecord| _ = view.nodes.insert(r.writer, r))?;
            for_each_row(store, keys::FENCES, |r: FenceRecord| _ = view.fences.insert(r.writer, r))?;
            for_each_row(store, keys::TARIFFS, |r: TariffSheet| view.tariff = Some(Arc::new(r)))?;
            Ok(view)
        })?;
        *self.registry.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        Ok(())
    }

    /// A terminal's key, opened with this box's key.
    ///
    /// # Errors
    /// Of storage; a key sealed to another box is told as absent, with a warning.
    pub fn terminal_key(&self, terminal: TerminalId) -> Result<Option<TerminalKey>, StoreError> {
        let Some(record) = self.row::<SealedKeyRecord>(&keys::terminal_key(terminal))? else { return Ok(None) };
        match yika_link::seal::open(&self.key, "terminal key", &record.sealed) {
            Ok(key) => Ok(Some((record.version, key))),
            Err(error) => {
                tracing::warn!(%terminal, %error, "the terminal's key cannot be used; register the terminal again");
                Ok(None)
            }
        }
    }

    /// Hub time now, and whether it can be trusted.
    ///
    /// # Errors
    /// Of storage.
    pub fn now(&self) -> Result<(i64, bool), StoreError> {
        let clock: Clock = self.row(keys::CLOCK)?.unwrap_or_default();
        let ticks = self.ticks.now();
        Ok((clock.now_ms(ticks), clock.is_trusted(ticks)))
    }

    /// Runs a reading over committed state.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn look<T>(&self, read: impl FnOnce(&dyn Read) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.pool.read(|store| read(store))
    }

    /// Feeds, rights, directory, changes: to listen to.
    pub fn ears(&self) -> &Ears {
        &self.ears
    }

    /// Where this box stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Remembers a live connection; an older one to the same node is closed by its own loop's end.
    pub fn connected(&self, peer: &Peer) -> mpsc::Receiver<Message> {
        let (words, waiting) = mpsc::channel(WORDS_WAITING_MAX);
        self.lock_peers().insert(peer.identity().writer(), Connected { peer: peer.clone(), words });
        waiting
    }

    /// Forgets a connection that has ended, unless a newer one has taken its place.
    pub fn disconnected(&self, peer: &Peer) {
        let writer = peer.identity().writer();
        let mut peers = self.lock_peers();
        if peers.get(&writer).is_some_and(|c| c.peer.close_reason().is_some()) {
            peers.remove(&writer);
        }
    }

    /// Who is connected.
    pub fn peers(&self) -> Vec<Writer> {
        self.lock_peers().keys().copied().collect()
    }

    fn lock_peers(&self) -> MutexGuard<'_, BTreeMap<Writer, Connected>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node for EdgeNode {
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

    fn grown(&self) -> broadcast::Receiver<FeedId> {
        self.ears.grown.subscribe()
    }

    async fn ingest(&self, from: Writer, run: Run) -> Result<(FeedId, Seq), String> {
        let (feed, end) = (run.head.feed, run.head.end.seq);
        match self.call(Command::Ingest(Box::new(run))).await {
            Ok(Reply::Stored(feed, seq)) => Ok((feed, seq)),
            Ok(Reply::Refused(RunRefused::Fenced { feed, .. })) => {
                // The peer has not heard of the fence; what comes after it is of no use here, but no offence.
                Ok((feed, end))
            }
            Ok(Reply::Refused(refused)) => {
                tracing::warn!(%from, %feed, %refused, "a run was refused");
                Err(refused.to_string())
            }
            Ok(other) => Err(format!("the core answered a run with {other:?}")),
            Err(busy) => Err(busy.to_string()),
        }
    }

    async fn on_message(&self, from: &PeerIdentity, message: Message) -> Option<Message> {
        let writer = from.writer();
        match message {
            Message::Ask { row, total } => {
                let granted = self.call(Command::Ask { from: writer, row, total }).await;
                (granted != Ok(Reply::Granted(true))).then_some(Message::Denied { row, total })
            }
            Message::Denied { row, .. } => {
                let _ = self.denied.send((writer, row));
                None
            }
            Message::Level { row, right } => {
                let _ = self.call(Command::Level { from: writer, row, right }).await;
                None
            }
            Message::Recall { row, keep } if writer.node.is_hub() => {
                let _ = self.call(Command::Recall { row, keep }).await;
                None
            }
            Message::Diverged(head) => {
                tracing::error!(feed = %head.feed, "a peer holds another end of this feed");
                let _ = self.call(Command::Diverged(head)).await;
                None
            }
            _ => None,
        }
    }

    async fn on_connected(&self, peer: &PeerIdentity) {
        tracing::info!(peer = %peer.writer(), "connected");
        self.ears.changed.send_modify(|n| *n += 1);
    }
}

/// What a reader's card presentation was refused for, or the person let in.
pub type DoorAnswer = Result<PersonId, Reason>;

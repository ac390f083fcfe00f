//! The running edge: the writer thread, the readers, the index, and the connections, behind one handle.
//!
//! What terminals, doors, pages and peers call. Leaves to others: decisions (`yika_crdt`), HTTP (`terminals`, `console`),
//! who is dialled (`link`).

mod peers;
mod resend;

use crate::identity::Identity;
use crate::machine::{Ears, EdgeMachine};
use crate::mirror::{self, Mirror};
use crate::snapshot::{self, Heard};
use crate::ticks::TickSource;
use crate::vitals::Vitals;
use ed25519_dalek::{SigningKey, VerifyingKey};
use peers::Losses;
use resend::SaidOfId;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;
use yika_crdt::Fen;
use yika_crdt::access::SharedAccess;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::edge::{Command, Edge, Reply};
use yika_crdt::entry::*;
use yika_crdt::gate::Shut;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::people::SharedPeople;
use yika_crdt::reason::Reason;
pub use yika_crdt::registry::RegistryView;
use yika_crdt::resend::Resends;
use yika_crdt::rights::PersonRights;
use yika_crdt::sale::{Answer, Outcome, PurchaseRequest, RefundRequest, SaleError};
use yika_crdt::store::{Read, StoreError, decode_row};
use yika_crdt::sync::{Message, SnapshotWord};
use yika_link::sync::WORDS_WAITING_MAX;
use yika_link::{CloseCode, Peer};
use yika_store::{CallError, Health, Options, Priority, ReadPool, SqliteStore, Writer as StoreWriter, WriterThread};

/// Name and version as told to peers.
pub const SOFTWARE: &str = concat!("yika-edge ", env!("CARGO_PKG_VERSION"));
/// Readers beside the writer.
pub const READERS: usize = 4;
/// How long a purchase waits for one answer: of siblings, or of one holder of rights; then the next, or refusal.
pub const ASK_MS_MAX: u64 = 800;
/// How long a purchase waits for others in all, however many there are to ask (invariant 4). Whoever is asked has
/// [`ASK_MS_MAX`] in full: with less left nobody is.
pub const PURCHASE_WAIT_MS_MAX: u64 = 2_000;
/// Who left a question unanswered is asked again after this, or as soon as it is heard.
pub const SILENT_RETRY_MS: u64 = 3_000;

/// Answers about certificates that wait to be looked at.
const RENEWALS_WAITING_MAX: usize = 4;

/// A live connection.
struct Connected {
    peer: Peer,
    words: mpsc::Sender<Message>,
    /// It left a question unanswered, and nothing was heard of it since.
    silent_since: Option<Instant>,
}

impl Connected {
    /// Whether a purchase should wait for it: a line that was just cut looks open for a while.
    fn answers(&self) -> bool {
        self.silent_since.is_none_or(|since| since.elapsed() > Duration::from_millis(SILENT_RETRY_MS))
    }
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
    hub_key: Option<VerifyingKey>,
    writer: StoreWriter<EdgeMachine>,
    pool: ReadPool,
    ears: Ears,
    /// Who may buy and pass.
    pub people: SharedPeople,
    /// Which doors of this campus open for whom.
    pub access: SharedAccess,
    ticks: TickSource,
    registry: watch::Sender<Arc<RegistryView>>,
    peers: Mutex<BTreeMap<Writer, Connected>>,
    /// Ids that may have been answered by a sibling.
    resends: Mutex<Resends>,
    /// What siblings say of ids that they were asked about.
    said_of_ids: broadcast::Sender<(Writer, PurchaseId, SaidOfId)>,
    /// Refusals of asks that wait in a purchase.
    denied: broadcast::Sender<(Writer, Row, Fen)>,
    vitals: Vitals,
    losses: Losses,
    /// Answers to questions for a certificate.
    renewals: broadcast::Sender<Vec<u8>>,
    /// What a box that connects is told first: that documents come to this one by a snapshot.
    coming: Mutex<Vec<SnapshotWord>>,
    /// What peers say of snapshots, to the task that fetches them.
    snapshots: (mpsc::Sender<Heard>, Mutex<Option<mpsc::Receiver<Heard>>>),
}

/// The box cannot answer now: its disk, it is stopping, or whoever must be asked was not heard in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this box cannot answer now: {0}")]
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
        let shut = mirror::judge(mirror::read(dir)?, identity.me, &store)?;
        let edge = edge.started(shut);
        let mut mirror = Mirror::open(dir, identity.me, &store)?;
        if shut.is_none() {
            mirror.begin()?;
        }
        let people = edge.mesh.people.clone();
        let access = edge.mesh.access.clone();
        let ears = Ears::new(edge.mesh.directory(), edge.clock());
        let (writer, thread) = StoreWriter::spawn(EdgeMachine::new(edge, ticks, ears.clone(), mirror), store)?;
        let node = EdgeNode {
            me: identity.me,
            place,
            key: identity.key.clone(),
            hub_name: identity.hub_name.clone(),
            hub_key: identity.hub_key,
            writer,
            pool: ReadPool::open(&path, &options, READERS)?,
            ears,
            people,
            access,
            ticks,
            registry: watch::channel(Arc::default()).0,
            peers: Mutex::default(),
            resends: Mutex::new(Resends::new(identity.me.node)),
            said_of_ids: broadcast::channel(WORDS_WAITING_MAX).0,
            denied: broadcast::channel(WORDS_WAITING_MAX).0,
            vitals: Vitals::new(dir, &identity.hub_addr, &identity.certificate_der, ticks.now().mono_ms),
            losses: Losses::default(),
            renewals: broadcast::channel(RENEWALS_WAITING_MAX).0,
            coming: Mutex::default(),
            snapshots: {
                let (said, heard) = mpsc::channel(snapshot::WORDS_WAITING_MAX);
                (said, Mutex::new(Some(heard)))
            },
        };
        node.refresh_registry()?;
        Ok((Arc::new(node), thread))
    }

    /// Hands a command to the writer; the reply is durable.
    ///
    /// # Errors
    /// When storage fails or the box is stopping.
    pub async fn call(&self, command: Command) -> Result<Reply, Busy> {
        self.asked(&command).await;
        match self.writer.call(command).await? {
            Reply::Shut(shut) => Err(Busy(shut.words(self.journal_end()))),
            reply => Ok(reply),
        }
    }

    /// Sells. An id that a sibling may have answered is asked about first. Short of rights, it asks the hub, or with the
    /// hub away other boxes. All of it within [`PURCHASE_WAIT_MS_MAX`].
    ///
    /// # Errors
    /// When the box cannot serve; the terminal asks again with the same id.
    pub async fn purchase(&self, request: PurchaseRequest) -> Result<Answer, Busy> {
        let until = Instant::now() + Duration::from_millis(PURCHASE_WAIT_MS_MAX);
        let deciding = self.ask_siblings(request.id, until).await?;
        let answer = match deciding.elsewhere() {
            Some(sibling) => Err(Busy(format!("{sibling} decides this purchase, or has decided it; ask again"))),
            None => self.decide(request, until).await,
        };
        deciding.end(&answer).await;
        answer
    }

    async fn decide(&self, request: PurchaseRequest, until: Instant) -> Result<Answer, Busy> {
        let mut asked = BTreeMap::new();
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
            let has_time = Instant::now() + Duration::from_millis(ASK_MS_MAX) <= until;
            let (whom, total, words) = match self.next_to_ask(row, missing, &asked)? {
                Some(next) if has_time => next,
                // A refusal stands for ever: not while headquarters is there and has not been asked.
                Some((whom, ..)) if whom.node.is_hub() => {
                    return Err(Busy("there was no time left to ask headquarters for rights; ask again".into()));
                }
                _ => return self.give_up(request, row).await,
            };
            let is_sent = words.try_send(Message::Ask { row, total }).is_ok();
            if !is_sent && whom.node.is_hub() {
                return Err(Busy("headquarters cannot be asked for rights just now; ask again".into()));
            }
            asked.insert((whom, row), total);
            if is_sent {
                let answered = self.wait_for_rights(rights, (whom, row, total)).await?;
                if !self.note_answer(whom, &words, answered) {
                    asked.remove(&(whom, row));
                }
            }
        }
    }

    /// Nobody who can be asked has more rights: refused durably. With the hub away, also when the time is over, and the
    /// guest rule may pay.
    async fn give_up(&self, request: PurchaseRequest, row: Row) -> Result<Answer, Busy> {
        let hub_is_there = self.lock_peers().iter().any(|(w, peer)| w.node.is_hub() && peer.answers());
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
        let id = request.id;
        match self.call(Command::Refund(request)).await? {
            Reply::Answer(answer) => {
                self.note_refund(id);
                Ok(answer)
            }
            other => Err(Busy(format!("the core answered a refund with {other:?}"))),
        }
    }

    /// The next one who may have rights, and the total to ask for: the hub if it is there, else boxes. Who gave what was
    /// asked for, and it went to another purchase of the holder, is asked again for more.
    fn next_to_ask(
        &self,
        row: Row,
        missing: Fen,
        asked: &BTreeMap<(Writer, Row), Fen>,
    ) -> Result<Option<(Writer, Fen, mpsc::Sender<Message>)>, Busy> {
        let candidates: Vec<_> = {
            let peers = self.lock_peers();
            let hub_is_there = peers.iter().any(|(w, peer)| w.node.is_hub() && peer.answers());
            // With the hub there, it alone is asked: it knows who holds what and recalls.
            let able = peers.iter().filter(|(w, peer)| peer.answers() && (w.node.is_hub() || !hub_is_there));
            able.map(|(writer, peer)| (*writer, peer.words.clone())).collect()
        };
        for (writer, words) in candidates {
            let granted = self.granted_by(writer, row)?;
            if asked.get(&(writer, row)).is_none_or(|total| granted >= *total) {
                let total = granted.add(missing).map_err(|e| Busy(e.to_string()))?;
                return Ok(Some((writer, total, words)));
            }
        }
        Ok(None)
    }

    /// Remembers whether somebody who was asked over a connection has answered. False when that has ended: its silence
    /// says nothing of the one that there may be now, over which may be asked again.
    fn note_answer(&self, whom: Writer, over: &mpsc::Sender<Message>, answered: bool) -> bool {
        let mut peers = self.lock_peers();
        let Some(peer) = peers.get_mut(&whom).filter(|peer| answered || peer.words.same_channel(over)) else {
            return answered;
        };
        peer.silent_since = if answered { None } else { Some(Instant::now()) };
        true
    }

    /// Something came from a peer.
    fn heard(&self, from: Writer) {
        self.vitals.heard(from.node, self.ticks.now().mono_ms);
        if let Some(peer) = self.lock_peers().get_mut(&from) {
            peer.silent_since = None;
        }
    }

    /// Waits for a grant of so much, or a denial; `false` when neither came within the bound. Other news about the holder
    /// is no answer.
    async fn wait_for_rights(
        &self,
        mut rights: broadcast::Receiver<PersonId>,
        asked: (Writer, Row, Fen),
    ) -> Result<bool, Busy> {
        let (whom, row, total) = asked;
        let mut denied = self.denied.subscribe();
        let until = Instant::now() + Duration::from_millis(ASK_MS_MAX);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(false),
                person = rights.recv() => match person {
                    Ok(person) if person != row.person => {}
                    // More news than the ear holds: what was granted stands in the row.
                    _ if self.granted_by(whom, row)? < total => {}
                    _ => return Ok(true),
                },
                said = denied.recv() => match said {
                    Ok(said) if said != asked => {}
                    // What was missed may be about others: the bound ends it.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    _ => return Ok(true),
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

    /// Whether headquarters is connected.
    pub fn hears_hub(&self) -> bool {
        self.peers().iter().any(|peer| peer.node.is_hub())
    }

    /// What the holder of a card can spend at this box, without asking anybody; nothing of a stranger.
    ///
    /// # Errors
    /// Of storage, or sums that cannot be.
    pub fn spendable(&self, card: CardNumber) -> Result<Option<Fen>, SaleError> {
        let Some(person) = self.people.read().person_of(card) else { return Ok(None) };
        let day = self.row::<Day>(keys::OPEN_DAY)?.unwrap_or_default();
        let rights = self.row::<PersonRights>(&keys::rights(person))?.unwrap_or_default();
        Ok(Some(rights.balance(day)?.max(Fen::ZERO)))
    }

    /// What the registry says now.
    pub fn registry(&self) -> Arc<RegistryView> {
        Arc::clone(&self.registry.borrow())
    }

    /// Reads the registry's rows again.
    ///
    /// # Errors
    /// Of storage.
    pub fn refresh_registry(&self) -> Result<(), StoreError> {
        let view = self.pool.read(RegistryView::load)?;
        self.registry.send_replace(Arc::new(view));
        Ok(())
    }

    /// What the registry says now, and as it is read again.
    pub fn watch_registry(&self) -> watch::Receiver<Arc<RegistryView>> {
        self.registry.subscribe()
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

    /// Hub time now, and whether it can be trusted, from memory: what every request may ask.
    pub fn time(&self) -> (i64, bool) {
        let clock = *self.ears.clock.borrow();
        let ticks = self.ticks.now();
        (clock.now_ms(ticks), clock.is_trusted(ticks))
    }

    /// Runs a reading over committed state; it may wait for one of the readers.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn look<T>(&self, read: impl FnOnce(&dyn Read) -> Result<T, StoreError>) -> Result<T, StoreError> {
        tokio::task::block_in_place(|| self.pool.read(|store| read(store)))
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
        // Held until the connection is known: who hears that something comes must hear what becomes of it.
        let coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        for word in coming.iter().filter(|_| !peer.identity().node.is_hub()) {
            _ = words.try_send(Message::Snapshot(Box::new(word.clone())));
        }
        self.lock_peers().insert(peer.identity().writer(), Connected { peer: peer.clone(), words, silent_since: None });
        waiting
    }

    /// What boxes are told first that connect from here on.
    pub fn tell_who_connects(&self, coming: Vec<SnapshotWord>) {
        *self.coming.lock().unwrap_or_else(PoisonError::into_inner) = coming;
    }

    /// Forgets a connection that has ended, unless a newer one has taken its place.
    pub fn disconnected(&self, peer: &Peer, why: &str) {
        let writer = peer.identity().writer();
        let mut peers = self.lock_peers();
        if peers.get(&writer).is_some_and(|c| c.peer.close_reason().is_some()) {
            peers.remove(&writer);
            self.vitals.lost(writer.node, why);
        }
    }

    /// Says something to a connected peer; false when there is no connection, or it takes no more words.
    pub fn say(&self, to: Writer, message: Message) -> bool {
        self.lock_peers().get(&to).is_some_and(|connected| connected.words.try_send(message).is_ok())
    }

    /// Where words for a connected peer wait until they are said; closed once the connection has ended.
    pub fn line_to(&self, to: Writer) -> Option<mpsc::Sender<Message>> {
        self.lock_peers().get(&to).map(|connected| connected.words.clone())
    }

    /// Ends the connection to a peer that does not listen; it begins anew.
    pub fn hang_up(&self, to: Writer, words: &str) {
        if let Some(connected) = self.lock_peers().get(&to) {
            connected.peer.close(CloseCode::UNAVAILABLE, words);
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

/// What the process knows of itself, for status pages, start and stop.
impl EdgeNode {
    /// The hub's key, as proved when the box joined.
    pub fn hub_key(&self) -> Option<VerifyingKey> {
        self.hub_key
    }

    /// This life.
    pub fn writer(&self) -> Writer {
        self.me
    }

    /// Whom it heard when, and the like.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// The operating system's clocks.
    pub fn ticks(&self) -> yika_crdt::clock::Ticks {
        self.ticks.now()
    }

    /// Whether the operating system was started since the last run.
    pub fn is_new_boot(&self) -> bool {
        self.ticks.is_new_boot()
    }

    /// Whether the writer serves.
    pub fn health(&self) -> Health {
        self.writer.health().borrow().clone()
    }

    /// Why nothing may be appended, if so.
    pub fn shut(&self) -> Option<Shut> {
        *self.ears.gate.borrow()
    }

    /// Where this box's journal ends; 0 when it cannot be read.
    pub fn journal_end(&self) -> Seq {
        let feed = FeedId { writer: self.me, channel: Channel::Journal };
        self.look(|store| store.feed(&feed)).map(|state| state.end.seq).unwrap_or_default()
    }

    /// Commands that wait for the writer.
    pub fn writer_waiting(&self) -> usize {
        Priority::ALL.into_iter().map(|priority| self.writer.waiting(priority)).sum()
    }

    /// Whether a peer holds more of this box's own feeds than this box.
    pub fn takes_back(&self) -> bool {
        let shown = self.losses.ends();
        let behind = |feed: &FeedId, seq: &Seq| self.look(|store| store.feed(feed)).is_ok_and(|s| s.end.seq < *seq);
        let is_over = self.shut().is_some_and(|shut| shut.is_for_ever());
        !is_over && shown.values().flatten().any(|(feed, seq)| behind(feed, seq))
    }

    /// What peers say of snapshots: for the one task that fetches them.
    pub fn snapshot_words(&self) -> Option<mpsc::Receiver<Heard>> {
        self.snapshots.1.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Answers of headquarters about this box's certificate.
    pub fn renewals(&self) -> broadcast::Receiver<Vec<u8>> {
        self.renewals.subscribe()
    }

    /// Ends the writer once everything that waits is answered; later calls are refused.
    pub fn stop(&self) {
        self.writer.stop();
    }

    /// A command that needs the gate waits while it is about to open: that is bounded and short.
    async fn asked(&self, command: &Command) {
        let is_short = |shut: &Option<Shut>| shut.is_some_and(|shut| shut.is_short());
        if command.needs_open_gate() && !command.is_of_peer() && is_short(&self.shut()) {
            let mut gate = self.ears.gate.subscribe();
            let bound = Duration::from_millis(crate::asking::ASKING_AFTER_BOOT_MS_MAX);
            _ = tokio::time::timeout(bound, gate.wait_for(|shut| !is_short(shut))).await;
        }
    }
}

/// What a reader's card presentation was refused for, or the person let in.
pub type DoorAnswer = Result<PersonId, Reason>;

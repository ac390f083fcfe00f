//! The hub's core on the writer thread: its clock is read here, its rows are written with the turn.
//!
//! Leaves to others: decisions (`core`), SQL (`store`), group commit (`yika_store`), who listens to effects (`node`).

use crate::backup::log::{LogState, record};
use crate::clock::HubClock;
use crate::core::{Command, CoreError, Effect, Hub, Reply};
use crate::store::outbox::{self, Archived};
use crate::store::{TableRow, write};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{broadcast, watch};
use yika_crdt::channel::{Class, FeedId};
use yika_crdt::ids::{NodeId, Writer};
use yika_crdt::mesh::Directory;
use yika_crdt::store::{Batch, Read, StoreError, Tx};
use yika_crdt::sync::{Known, Message};
use yika_store::rusqlite::Connection;
use yika_store::{Machine, Priority, SqliteStore};

/// Effects that may wait in a listener; one that is slower is told to look at everything.
pub const EFFECTS_WAITING_MAX: usize = 8_192;

/// Fences that may wait in a listener; one that is slower looks at the whole registry.
pub const FENCES_WAITING_MAX: usize = 64;

/// What a command that is not a run is taken to write.
const COMMAND_BYTES: usize = 512;

/// A command of the core, and rows that stand or fall with it.
#[derive(Clone, Debug)]
pub struct Order {
    /// For the core.
    pub command: Command,
    /// Written if the core does what the command says.
    pub rows: Vec<TableRow>,
}

impl From<Command> for Order {
    fn from(command: Command) -> Order {
        Order { command, rows: Vec::new() }
    }
}

/// A restored hub that is not yet whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recovering {
    /// Since when, hub time.
    pub since_ms: i64,
    /// Boxes that have not reported.
    pub waiting_for: Vec<NodeId>,
}

impl Recovering {
    /// What a hub waits for, given what its store holds.
    ///
    /// # Errors
    /// Of storage.
    pub fn of<R: Read + ?Sized>(hub: &Hub, store: &R) -> Result<Option<Recovering>, StoreError> {
        let Some(recovery) = hub.recovery() else { return Ok(None) };
        let awaited = hub.awaited(|feed| Ok(store.feed(feed)?.end.seq))?;
        Ok(Some(Recovering { since_ms: recovery.since_ms, waiting_for: awaited.iter().map(|w| w.node).collect() }))
    }
}

/// Where effects go.
#[derive(Clone)]
pub struct Ears {
    /// Feeds that have grown.
    pub grown: broadcast::Sender<FeedId>,
    /// Where they end now, and what was said of them.
    pub known: Arc<Mutex<Known>>,
    /// Lives that ended.
    pub fenced: broadcast::Sender<Writer>,
    /// What boxes are to be told at once, if they are connected.
    pub said: broadcast::Sender<(Writer, Message)>,
    /// The life that this hub must go on in: it was restored from a backup.
    pub new_life: watch::Sender<Option<Writer>>,
    /// What a restored hub still waits for; `None` when it was not restored, or has recovered.
    pub recovery: watch::Sender<Option<Recovering>>,
    /// Who may hold what.
    pub directory: watch::Sender<Arc<Directory>>,
    /// Every feed of which something is held, so that a thousand boxes that greet at once need not read it each.
    pub feeds: watch::Sender<Arc<[FeedId]>>,
    /// Something on a page changed.
    pub changed: watch::Sender<u64>,
    /// Keys or operators changed: boxes must be given them.
    pub provision: watch::Sender<u64>,
    /// How far the log's folder is: what lies there leaves the outbox.
    pub archived: watch::Sender<Archived>,
    /// How the log is; `None` where none is written.
    pub log: watch::Sender<Option<LogState>>,
    /// The time that was stamped last.
    pub stamped_ms: watch::Sender<i64>,
}

impl Ears {
    /// Nobody listens yet.
    pub fn new(directory: Directory, feeds: impl IntoIterator<Item = FeedId>) -> Ears {
        Ears {
            grown: broadcast::channel(EFFECTS_WAITING_MAX).0,
            known: Arc::default(),
            fenced: broadcast::channel(FENCES_WAITING_MAX).0,
            said: broadcast::channel(EFFECTS_WAITING_MAX).0,
            new_life: watch::channel(None).0,
            recovery: watch::channel(None).0,
            directory: watch::channel(Arc::new(directory)).0,
            feeds: watch::channel(feeds.into_iter().collect()).0,
            changed: watch::channel(0).0,
            provision: watch::channel(0).0,
            archived: watch::channel(Archived::default()).0,
            log: watch::channel(None).0,
            stamped_ms: watch::channel(i64::MIN).0,
        }
    }

    /// Tells everybody that a feed has grown, and before that how far.
    fn grown(&self, store: &SqliteStore, feed: FeedId) {
        if let Ok(held) = store.feed(&feed) {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).grown(feed, held.end.seq);
        }
        // Nobody may be listening.
        _ = self.grown.send(feed);
    }
}

/// What runs on the writer thread.
pub struct HubMachine {
    hub: Hub,
    clock: HubClock,
    ears: Ears,
    rows: Vec<TableRow>,
}

impl HubMachine {
    /// Puts the core on the thread.
    pub fn new(hub: Hub, mut clock: HubClock, ears: Ears) -> HubMachine {
        ears.stamped_ms.send_replace(clock.stamp().hub_time_ms);
        HubMachine { hub, clock, ears, rows: Vec::new() }
    }
}

impl HubMachine {
    /// Tells of feeds that are new, before anybody hears that they have grown.
    fn tell_feeds(&self, store: &SqliteStore, effects: &[Effect]) {
        let known = self.ears.feeds.borrow().clone();
        let is_new = |effect: &Effect| matches!(effect, Effect::Grown(feed) if known.binary_search(feed).is_err());
        if effects.iter().any(is_new) {
            match store.feeds() {
                Ok(feeds) => _ = self.ears.feeds.send_replace(feeds.into_iter().map(|(feed, _)| feed).collect()),
                Err(error) => tracing::error!(%error, "the feeds cannot be listed"),
            }
        }
    }
}

impl Machine for HubMachine {
    type Command = Order;
    type Answer = Reply;
    type Effect = Effect;

    fn priority(order: &Order) -> Priority {
        match &order.command {
            Command::Block(_) | Command::Lift { .. } => Priority::Urgent,
            Command::Ask { .. } => Priority::Purchase,
            Command::Ingest(run) => match run.head.feed.channel.class() {
                Class::Blocks => Priority::Urgent,
                Class::Rights => Priority::Purchase,
                _ => Priority::Sync,
            },
            _ => Priority::Housekeeping,
        }
    }

    fn weight(order: &Order) -> usize {
        match &order.command {
            Command::Ingest(run) => run.entries.iter().map(|e| e.len() + 64).sum(),
            Command::People { moves, acts, .. } => COMMAND_BYTES * (moves.len() + acts.len() + order.rows.len()),
            _ => COMMAND_BYTES + order.rows.len() * COMMAND_BYTES,
        }
    }

    fn handle(
        &mut self,
        tx: &mut Tx<'_, SqliteStore>,
        order: Order,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, StoreError> {
        let stamp = self.clock.stamp();
        let mut rows = Vec::new();
        let reply = self.hub.handle(tx, order.command, stamp, &mut rows, effects).map_err(|error| match error {
            CoreError::Store(error) => error,
            // Sums that cannot be: what they came from is not what was written.
            other => StoreError::Corrupt { place: "the books".into(), cause: other.to_string() },
        })?;
        self.rows.extend(rows.into_iter().map(TableRow::Core));
        if !reply.changed_nothing() {
            self.rows.extend(order.rows);
        }
        Ok(reply)
    }

    fn write_product(&mut self, tx: &Connection, batch: &Batch) -> Result<(), StoreError> {
        let at_ms = self.clock.stamp().hub_time_ms;
        write::rows(tx, &self.rows, at_ms)?;
        let archived = self.ears.archived.borrow().clone();
        outbox::append(tx, &archived, |turn, previous| record::encode(turn, previous, at_ms, batch, &self.rows))
    }

    fn has_product_writes(&self) -> bool {
        !self.rows.is_empty()
    }

    fn committed(&mut self, store: &SqliteStore, effects: Vec<Effect>) {
        self.hub.committed();
        self.rows.clear();
        self.ears.stamped_ms.send_replace(self.clock.newest_ms());
        match Recovering::of(&self.hub, store) {
            Ok(recovering) => {
                self.ears.recovery.send_if_modified(|was| {
                    let changed = *was != recovering;
                    *was = recovering;
                    changed
                });
            }
            Err(error) => tracing::error!(%error, "what the recovery waits for cannot be read"),
        }
        self.tell_feeds(store, &effects);
        // Each command of the turn names every feed that the turn has touched so far: once is enough.
        let mut told = BTreeSet::new();
        for effect in effects {
            match effect {
                Effect::Grown(feed) if !told.insert(feed) => {}
                Effect::Grown(feed) => self.ears.grown(store, feed),
                Effect::Directory(directory) => _ = self.ears.directory.send_replace(Arc::new(directory)),
                Effect::Fenced(writer) => _ = self.ears.fenced.send(writer),
                Effect::Say(to, message) => _ = self.ears.said.send((to, message)),
                Effect::Recovering(life) => _ = self.ears.new_life.send_replace(Some(life)),
                Effect::Recovered => tracing::info!("every living box has reported: granting and paying again"),
                Effect::Forked(feed) => {
                    tracing::error!(%feed, "a feed was written twice: a box was cloned or put back")
                }
                Effect::Quarantined { feed, seq, cause } => {
                    tracing::warn!(%feed, %seq, cause, "an entry is in quarantine");
                }
            }
        }
        self.ears.changed.send_modify(|n| *n += 1);
    }

    fn rolled_back(&mut self, store: &SqliteStore, error: &StoreError) -> Result<(), StoreError> {
        self.rows.clear();
        tracing::error!(%error, "a turn was rolled back");
        self.hub.reload(store)
    }
}

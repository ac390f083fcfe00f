//! The edge core on the writer thread: ticks are read here, errors of storage roll the turn back.
//!
//! Leaves to others: decisions (`yika_crdt::edge`), group commit (`yika_store`), who listens to effects (`node`).

use crate::mirror::Mirror;
use crate::ticks::TickSource;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{broadcast, watch};
use yika_crdt::Fen;
use yika_crdt::channel::FeedId;
use yika_crdt::clock::Clock;
use yika_crdt::edge::{Command, DROP_ENTRIES_MAX, Edge, Effect, Reply};
use yika_crdt::entry::Row;
use yika_crdt::gate::{APPEND_HELD_MAX, Shut};
use yika_crdt::ids::PersonId;
use yika_crdt::mesh::Directory;
use yika_crdt::sale::SaleError;
use yika_crdt::store::{Read, StoreError, Tx};
use yika_crdt::sync::Known;
use yika_store::{Machine, Priority, SqliteStore};

/// Effects that may wait in a listener; one that is slower is told to look at everything.
pub const EFFECTS_WAITING_MAX: usize = 4_096;

/// What a command that is not a run is taken to write.
const COMMAND_BYTES: usize = 512;

/// Where effects go.
#[derive(Clone)]
pub struct Ears {
    /// Feeds that have grown.
    pub grown: broadcast::Sender<FeedId>,
    /// Where they end now, and what was said of them.
    pub known: Arc<Mutex<Known>>,
    /// Persons whose rights have grown.
    pub rights: broadcast::Sender<PersonId>,
    /// Rows that a sale has left low.
    pub low: broadcast::Sender<(Row, Fen)>,
    /// Who may hold what.
    pub directory: watch::Sender<Arc<Directory>>,
    /// Hub time as the core reckons it, so that a request need not read it from disk.
    pub clock: watch::Sender<Clock>,
    /// Something on a status page changed.
    pub changed: watch::Sender<u64>,
    /// Why nothing may be appended to this box's own feeds, if so.
    pub gate: watch::Sender<Option<Shut>>,
}

impl Ears {
    /// Nobody listens yet.
    pub fn new(directory: Directory, clock: Clock) -> Ears {
        Ears {
            grown: broadcast::channel(EFFECTS_WAITING_MAX).0,
            known: Arc::default(),
            rights: broadcast::channel(EFFECTS_WAITING_MAX).0,
            low: broadcast::channel(EFFECTS_WAITING_MAX).0,
            directory: watch::channel(Arc::new(directory)).0,
            clock: watch::channel(clock).0,
            changed: watch::channel(0).0,
            gate: watch::channel(Some(Shut::Asking)).0,
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
pub struct EdgeMachine {
    edge: Edge,
    ticks: TickSource,
    ears: Ears,
    mirror: Mirror,
}

impl EdgeMachine {
    /// Puts the core on the thread.
    pub fn new(edge: Edge, ticks: TickSource, ears: Ears, mirror: Mirror) -> EdgeMachine {
        ears.gate.send_replace(edge.shut());
        EdgeMachine { edge, ticks, ears, mirror }
    }

    /// Keeps the ends of own feeds outside the database, after the commit and before its answers leave.
    fn mirror(&mut self, store: &SqliteStore, effects: &[Effect]) {
        // A box whose end was lost has one again once its gate is open.
        let mut own = effects.iter().any(|effect| matches!(effect, Effect::Gate(None)));
        for effect in effects {
            if let Effect::Grown(feed) = effect
                && feed.writer == self.edge.mesh.me
                && let Ok(held) = store.feed(feed)
            {
                self.mirror.grown(*feed, held.end);
                own = true;
            }
        }
        // While the database is behind, the file keeps what it is behind of.
        if own && matches!(self.edge.shut(), None | Some(Shut::Opening)) {
            self.mirror.write();
        }
    }
}

impl Machine for EdgeMachine {
    type Command = Command;
    type Answer = Reply;
    type Effect = Effect;

    fn priority(command: &Command) -> Priority {
        match command {
            Command::Block(_) | Command::Lift { .. } | Command::Door(_) => Priority::Urgent,
            Command::Ingest(run) => match run.head.feed.channel.class() {
                yika_crdt::channel::Class::Blocks => Priority::Urgent,
                yika_crdt::channel::Class::Rights => Priority::Purchase,
                _ => Priority::Sync,
            },
            Command::Purchase { .. }
            | Command::Refuse { .. }
            | Command::Refund(_)
            | Command::Ask { .. }
            | Command::Level { .. } => Priority::Purchase,
            _ => Priority::Housekeeping,
        }
    }

    fn weight(command: &Command) -> usize {
        match command {
            Command::Ingest(run) => run.entries.iter().map(|e| e.len() + 64).sum(),
            Command::People { acts, .. } => COMMAND_BYTES * acts.len(),
            Command::Restore(step) => COMMAND_BYTES * step.values(),
            Command::Asked { .. } => COMMAND_BYTES * APPEND_HELD_MAX / 4,
            Command::Drop(_) => COMMAND_BYTES * DROP_ENTRIES_MAX as usize / 8,
            _ => COMMAND_BYTES,
        }
    }

    fn handle(
        &mut self,
        tx: &mut Tx<'_, SqliteStore>,
        command: Command,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, StoreError> {
        self.edge.handle(tx, command, self.ticks.now(), effects).map_err(|error| match error {
            SaleError::Store(error) => error,
            // Sums that cannot be: the rows they came from are not what was written.
            other => StoreError::Corrupt { place: "rights".into(), cause: other.to_string() },
        })
    }

    fn committed(&mut self, store: &SqliteStore, effects: Vec<Effect>) {
        self.edge.committed();
        self.mirror(store, &effects);
        self.ears.clock.send_replace(self.edge.clock());
        // Each command of the turn names every feed that the turn has touched so far: once is enough.
        let mut told = BTreeSet::new();
        for effect in effects {
            match effect {
                Effect::Grown(feed) if !told.insert(feed) => {}
                Effect::Grown(feed) => self.ears.grown(store, feed),
                Effect::Rights(person) => _ = self.ears.rights.send(person),
                Effect::Low { row, right } => _ = self.ears.low.send((row, right)),
                Effect::Directory(directory) => _ = self.ears.directory.send_replace(Arc::new(directory)),
                Effect::Quarantined { feed, seq, cause } => {
                    tracing::warn!(%feed, %seq, cause, "an entry is in quarantine");
                }
                Effect::Forked(feed) => tracing::error!(%feed, "a feed was forked"),
                Effect::Gate(shut) => {
                    tracing::info!(?shut, "whether this box may append");
                    self.ears.gate.send_replace(shut);
                }
                Effect::People | Effect::Receipt(_) => self.ears.changed.send_modify(|n| *n += 1),
            }
        }
    }

    fn rolled_back(&mut self, store: &SqliteStore, error: &StoreError) -> Result<(), StoreError> {
        tracing::error!(%error, "a turn was rolled back");
        self.edge.reload(store)?;
        self.ears.gate.send_replace(self.edge.shut());
        // What was made of the turn before it was taken back is made again.
        self.ears.changed.send_modify(|n| *n += 1);
        Ok(())
    }
}

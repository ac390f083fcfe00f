//! The one thread that owns the store: commands in, one transaction per turn, effects out after it is durable.
//!
//! A turn takes what waits, most urgent first, and never waits for more: a lone command is committed at once, a crowd
//! shares one `fdatasync`. Leaves to others: what commands mean ([`Machine`]), the file (`store`).

use crate::checkpointer::Checkpointer;
use crate::queue::{self, Inbox, Outbox};
pub use crate::queue::{Priority, QUEUE_COMMANDS_MAX};
use crate::store::SqliteStore;
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use yika_crdt::store::{Batch, StoreError, Tx};

/// Most commands that share one transaction.
pub const GROUP_COMMANDS_MAX: usize = 256;
/// A turn takes no further command once those taken are expected to write this much; bytes.
pub const GROUP_BYTES_MAX: usize = 512 << 10;
/// Time without a command after which the node counts as idle; milliseconds.
pub const IDLE_AFTER_MS: u64 = 50;
/// Pause between attempts to write again after the device refused; milliseconds.
pub const RETRY_EVERY_MS: u64 = 500;
/// Bytes that a command is taken to write unless [`Machine::weight`] says otherwise.
pub const WEIGHT_DEFAULT: usize = 512;

/// What runs on the writer thread: the core of a node, driven by commands.
pub trait Machine: Send + 'static {
    /// A request to it.
    type Command: Send + 'static;
    /// What the sender of a command gets once it is durable.
    type Answer: Send + 'static;
    /// What else follows from a turn: messages, actuations, notifications.
    type Effect: Send + 'static;

    /// Which commands go first.
    fn priority(command: &Self::Command) -> Priority;

    /// Bytes a command is expected to write, so that large ones do not make one turn long.
    fn weight(_command: &Self::Command) -> usize {
        WEIGHT_DEFAULT
    }

    /// Handles one command within the turn's transaction. The answer and the effects leave only after the commit.
    ///
    /// # Errors
    /// Only for storage: it ends the turn, nothing of which is then written. A refusal is an answer.
    fn handle(
        &mut self,
        tx: &mut Tx<'_, SqliteStore>,
        command: Self::Command,
        effects: &mut Vec<Self::Effect>,
    ) -> Result<Self::Answer, StoreError>;

    /// Writes the product's own tables for this turn, in the same transaction as the batch.
    ///
    /// # Errors
    /// As [`Machine::handle`].
    fn write_product(&mut self, _conn: &Connection, _batch: &Batch) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether [`Machine::write_product`] has something to write although the batch may be empty.
    fn has_product_writes(&self) -> bool {
        false
    }

    /// The turn is durable: let its effects go. Must not block. The answers follow right after.
    fn committed(&mut self, store: &SqliteStore, effects: Vec<Self::Effect>);

    /// The turn was rolled back: forget what `handle` changed in memory and read it from the store again. Its
    /// effects are dropped, and every command of it is answered with the error.
    ///
    /// # Errors
    /// It cannot be read: nothing is handled before a later call has read it.
    fn rolled_back(&mut self, store: &SqliteStore, error: &StoreError) -> Result<(), StoreError>;

    /// No command has come for [`IDLE_AFTER_MS`]. Called once per pause; for work on memory only.
    fn idle(&mut self, _store: &SqliteStore) {}
}

/// Whether the writer serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Health {
    /// Commands are handled.
    Serving,
    /// The device refuses; commands are answered with this error, and writing is tried again by itself.
    Refusing(StoreError),
    /// Stored data is damaged; commands are answered with this error until the node is restored and started again.
    Damaged(StoreError),
    /// The thread has ended.
    Stopped,
}

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Storage failed; nothing of the command was written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The writer has stopped; whether the command was written is unknown, ask again after the start.
    #[error("the writer thread has stopped; the same request may be sent again after the start")]
    Stopped,
}

/// A command with the way back to its sender.
struct Call<M: Machine> {
    command: M::Command,
    answer: oneshot::Sender<Result<M::Answer, StoreError>>,
}

/// A handle to the writer thread; clones share it, and the thread ends when the last one is gone.
pub struct Writer<M: Machine> {
    outbox: Arc<Outbox<Call<M>>>,
    health: watch::Receiver<Health>,
    stopping: Arc<AtomicBool>,
}

impl<M: Machine> Clone for Writer<M> {
    fn clone(&self) -> Self {
        Writer { outbox: Arc::clone(&self.outbox), health: self.health.clone(), stopping: Arc::clone(&self.stopping) }
    }
}

/// The thread behind a [`Writer`]: [`WriterThread::join`] after the last handle is dropped.
pub struct WriterThread<M> {
    thread: JoinHandle<(M, SqliteStore)>,
}

impl<M> WriterThread<M> {
    /// Waits until every queued command is answered and the thread has ended, and returns what it owned.
    /// `None` when the machine panicked.
    pub fn join(self) -> Option<(M, SqliteStore)> {
        self.thread.join().ok()
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

impl<M: Machine> Writer<M> {
    /// Starts the thread, which owns machine and store from here on.
    ///
    /// # Errors
    /// When the operating system gives no thread, or the file cannot be opened a second time for checkpoints.
    pub fn spawn(machine: M, store: SqliteStore) -> Result<(Writer<M>, WriterThread<M>), StoreError> {
        let checkpointer = Checkpointer::spawn(&store)?;
        let (health_tx, health) = watch::channel(Health::Serving);
        let (slots, inbox) = queue::queue();
        let stopping = Arc::new(AtomicBool::new(false));
        let inner = Loop {
            machine,
            store,
            inbox,
            checkpointer,
            health: HealthReport(health_tx),
            refused_at: None,
            stale: None,
            stopping: Arc::clone(&stopping),
        };
        let thread = std::thread::Builder::new()
            .name("yika-writer".to_owned())
            .spawn(move || inner.run())
            .map_err(|e| crate::error::device("starting the writer thread", e.to_string()))?;
        let outbox = Arc::new(slots.wake(thread.thread().clone()));
        Ok((Writer { outbox, health, stopping }, WriterThread { thread }))
    }

    /// Ends the thread once every command that waits is answered, although handles remain; a later call gets
    /// [`CallError::Stopped`].
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.outbox.wake();
    }

    /// Sends a command and waits until its answer is durable. While its queue is full, the sender waits; dropping
    /// the future then sends nothing, later it no longer recalls the command.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, command: M::Command) -> Result<M::Answer, CallError> {
        let (call, answer) = Self::letter(command);
        let priority = M::priority(&call.command);
        self.outbox.send(priority, call).await.map_err(|_| CallError::Stopped)?;
        let answer = answer.await.map_err(|_| CallError::Stopped)?;
        Ok(answer?)
    }

    /// [`Writer::call`] for threads; must not be called on a thread of an async runtime.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call_blocking(&self, command: M::Command) -> Result<M::Answer, CallError> {
        let (call, answer) = Self::letter(command);
        let priority = M::priority(&call.command);
        self.outbox.send_blocking(priority, call).map_err(|_| CallError::Stopped)?;
        let answer = answer.blocking_recv().map_err(|_| CallError::Stopped)?;
        Ok(answer?)
    }

    /// Sends a command whose answer nobody waits for (door events, ticks); waits only for room in the queue.
    ///
    /// # Errors
    /// [`CallError::Stopped`].
    pub async fn tell(&self, command: M::Command) -> Result<(), CallError> {
        let (call, _) = Self::letter(command);
        let priority = M::priority(&call.command);
        self.outbox.send(priority, call).await.map_err(|_| CallError::Stopped)
    }

    /// Whether it serves, now and as it changes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Commands that wait, by priority.
    pub fn waiting(&self, priority: Priority) -> usize {
        self.outbox.waiting(priority)
    }

    #[allow(clippy::type_complexity)] // a call and the receiving end of its answer
    fn letter(command: M::Command) -> (Call<M>, oneshot::Receiver<Result<M::Answer, StoreError>>) {
        let (answer, receiver) = oneshot::channel();
        (Call { command, answer }, receiver)
    }
}

/// Says "stopped" however the thread ends.
struct HealthReport(watch::Sender<Health>);

impl Drop for HealthReport {
    fn drop(&mut self) {
        self.0.send_replace(Health::Stopped);
    }
}

struct Loop<M: Machine> {
    machine: M,
    store: SqliteStore,
    inbox: Inbox<Call<M>>,
    checkpointer: Checkpointer,
    health: HealthReport,
    refused_at: Option<Instant>,
    /// The machine holds what was rolled back, for this reason: it must read its state again before it serves.
    stale: Option<StoreError>,
    stopping: Arc<AtomicBool>,
}

type Waiting<M> = Vec<(<M as Machine>::Answer, oneshot::Sender<Result<<M as Machine>::Answer, StoreError>>)>;

impl<M: Machine> Loop<M> {
    fn run(mut self) -> (M, SqliteStore) {
        let mut idle_told = false;
        loop {
            self.inbox.begin_turn();
            if let Some(first) = self.inbox.take() {
                idle_told = false;
                self.serve(first);
                self.checkpointer.after_turn(&mut self.store);
                continue;
            }
            if self.inbox.closed() || self.stopping.load(Ordering::Acquire) {
                break;
            }
            if idle_told {
                let limit = self.idle_wait();
                self.inbox.wait(limit);
            } else if !self.inbox.wait(Some(Duration::from_millis(IDLE_AFTER_MS))) {
                idle_told = true;
                self.machine.idle(&self.store);
                self.checkpointer.idle(&self.store);
            }
            self.checkpointer.after_turn(&mut self.store);
        }
        drop(self.checkpointer);
        if let Err(error) = self.store.checkpoint() {
            tracing::warn!(%error, "the write-ahead log stays for the next start");
        }
        (self.machine, self.store)
    }

    /// Nothing to wait for but commands, unless writing is to be tried again.
    fn idle_wait(&mut self) -> Option<Duration> {
        self.refused_at?;
        self.recover();
        Some(Duration::from_millis(RETRY_EVERY_MS))
    }

    fn serve(&mut self, first: Call<M>) {
        self.recover();
        let refusal = match &*self.health.0.borrow() {
            Health::Refusing(error) | Health::Damaged(error) => Some(error.clone()),
            Health::Serving | Health::Stopped => None,
        };
        match refusal {
            // A receiver that is gone has nobody left to tell.
            Some(error) => drop(first.answer.send(Err(error))),
            None => self.turn(first),
        }
    }

    /// One transaction over what waits.
    fn turn(&mut self, first: Call<M>) {
        let mut effects = Vec::new();
        let mut waiting: Waiting<M> = Vec::new();
        if let Err(error) = self.store.begin() {
            self.roll_back(&error, waiting);
            return drop(first.answer.send(Err(error)));
        }
        let mut tx = Tx::new(&self.store);
        let mut bytes = 0usize;
        let mut next = Some(first);
        while let Some(Call { command, answer }) = next.take() {
            bytes = bytes.saturating_add(M::weight(&command));
            match self.machine.handle(&mut tx, command, &mut effects) {
                Ok(given) => waiting.push((given, answer)),
                Err(error) => {
                    drop(tx);
                    self.roll_back(&error, waiting);
                    return drop(answer.send(Err(error)));
                }
            }
            if waiting.len() < GROUP_COMMANDS_MAX && bytes < GROUP_BYTES_MAX {
                next = self.inbox.take();
            } else {
                next = self.inbox.take_starved();
            }
        }
        let batch = tx.into_batch();
        let machine = &mut self.machine;
        let outcome = if batch.is_empty() && !machine.has_product_writes() {
            self.store.roll_back()
        } else {
            self.store.commit_with(&batch, |conn| machine.write_product(conn, &batch))
        };
        match outcome {
            Ok(()) => {
                self.machine.committed(&self.store, effects);
                for (given, answer) in waiting {
                    drop(answer.send(Ok(given)));
                }
            }
            Err(error) => self.roll_back(&error, waiting),
        }
    }

    /// Nothing of the turn is kept; whoever waits is told when the health says so already.
    fn roll_back(&mut self, error: &StoreError, waiting: Waiting<M>) {
        tracing::error!(%error, commands = waiting.len(), "a turn was rolled back; refusing");
        if let Err(again) = self.store.roll_back() {
            tracing::error!(%again, "the transaction stays open; it is rolled back before the next");
        }
        self.stale = Some(error.clone());
        if let Err(again) = self.reload() {
            tracing::error!(%again, "the state cannot be read again; it is tried before anything is served");
        }
        self.refused_at = Some(Instant::now());
        self.health.0.send_replace(match error {
            StoreError::Device { .. } => Health::Refusing(error.clone()),
            StoreError::Corrupt { .. } => Health::Damaged(error.clone()),
        });
        for (_, answer) in waiting {
            drop(answer.send(Err(error.clone())));
        }
    }

    /// Lets the machine read its state again after a rollback. Within a transaction that stayed open it would read what
    /// is to be rolled back, so that goes first.
    fn reload(&mut self) -> Result<(), StoreError> {
        if let Some(error) = &self.stale {
            self.store.roll_back()?;
            self.machine.rolled_back(&self.store, error)?;
            self.stale = None;
        }
        Ok(())
    }

    /// Tries whether the device takes writes again; damage is not tried away.
    fn recover(&mut self) {
        let Some(at) = self.refused_at else {
            return;
        };
        if matches!(&*self.health.0.borrow(), Health::Damaged(_))
            || at.elapsed() < Duration::from_millis(RETRY_EVERY_MS)
        {
            return;
        }
        match self.store.probe().and_then(|()| self.reload()) {
            Ok(()) => {
                tracing::info!("the device takes writes again");
                self.refused_at = None;
                self.health.0.send_replace(Health::Serving);
            }
            Err(error) => {
                self.refused_at = Some(Instant::now());
                self.health.0.send_replace(match &error {
                    StoreError::Device { .. } => Health::Refusing(error),
                    StoreError::Corrupt { .. } => Health::Damaged(error),
                });
            }
        }
    }
}

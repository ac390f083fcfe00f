//! Bounded queues by priority into one thread: senders wait for room, async or blocking; nothing is dropped.
//!
//! Channels of the runtime's `sync` part (they work without a runtime) and `unpark`: a wake-up between two looks is
//! remembered by the parked thread, so none is lost, and the senders share no lock with the thread.

use std::thread::Thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Most commands that wait in one priority.
pub const QUEUE_COMMANDS_MAX: usize = 1024;
/// How long the thread looks again before it parks, while items follow each other that closely: to be woken takes a
/// good part of it. A thread that serves fewer items than that never looks.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// Which commands go first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Priority {
    /// Blocks and doors.
    Urgent,
    /// Purchases and what a holder waits for.
    Purchase,
    /// What other nodes send.
    Sync,
    /// Pruning, imports, what may wait.
    Housekeeping,
}

impl Priority {
    /// All, most urgent first.
    pub const ALL: [Priority; 4] = [Priority::Urgent, Priority::Purchase, Priority::Sync, Priority::Housekeeping];
}

/// The writer has stopped; the item comes back.
pub(crate) struct Closed<T>(pub(crate) T);

/// The sending end before the receiving thread is known.
pub(crate) struct Slots<T>(Vec<mpsc::Sender<T>>);

/// The sending end.
pub(crate) struct Outbox<T> {
    // Dropped in this order: the channels close, then the thread wakes and sees it.
    senders: Vec<mpsc::Sender<T>>,
    thread: WakeOnDrop,
}

struct WakeOnDrop(Thread);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

/// The receiving end, used by one thread only.
pub(crate) struct Inbox<T> {
    receivers: Vec<mpsc::Receiver<T>>,
    /// Priorities that this turn has taken from.
    served: Vec<bool>,
    /// Whether the last wait ended within [`LOOK_AGAIN`].
    close: bool,
}

pub(crate) fn queue<T>() -> (Slots<T>, Inbox<T>) {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        Priority::ALL.iter().map(|_| mpsc::channel(QUEUE_COMMANDS_MAX)).unzip();
    let served = vec![false; receivers.len()];
    (Slots(senders), Inbox { receivers, served, close: false })
}

impl<T> Slots<T> {
    /// Names the thread that holds the inbox.
    pub(crate) fn wake(self, thread: Thread) -> Outbox<T> {
        Outbox { senders: self.0, thread: WakeOnDrop(thread) }
    }
}

impl<T> Outbox<T> {
    fn sender(&self, priority: Priority) -> &mpsc::Sender<T> {
        &self.senders[priority as usize]
    }

    pub(crate) async fn send(&self, priority: Priority, item: T) -> Result<(), Closed<T>> {
        let sent = self.sender(priority).send(item).await;
        self.thread.0.unpark();
        sent.map_err(|e| Closed(e.0))
    }

    pub(crate) fn send_blocking(&self, priority: Priority, item: T) -> Result<(), Closed<T>> {
        let sent = self.sender(priority).blocking_send(item);
        self.thread.0.unpark();
        sent.map_err(|e| Closed(e.0))
    }

    /// Lets the thread look around.
    pub(crate) fn wake(&self) {
        self.thread.0.unpark();
    }

    pub(crate) fn waiting(&self, priority: Priority) -> usize {
        let sender = self.sender(priority);
        sender.max_capacity() - sender.capacity()
    }
}

impl<T> Inbox<T> {
    pub(crate) fn begin_turn(&mut self) {
        self.served.fill(false);
    }

    /// The most urgent item that waits.
    pub(crate) fn take(&mut self) -> Option<T> {
        self.take_where(|_| true)
    }

    /// An item of a priority that this turn has not served: a full turn still takes one of each, so that a rush of
    /// purchases never shuts the sync out.
    pub(crate) fn take_starved(&mut self) -> Option<T> {
        self.take_where(|served| !served)
    }

    fn take_where(&mut self, wanted: impl Fn(bool) -> bool) -> Option<T> {
        for (receiver, served) in self.receivers.iter_mut().zip(&mut self.served) {
            if wanted(*served)
                && let Ok(item) = receiver.try_recv()
            {
                *served = true;
                return Some(item);
            }
        }
        None
    }

    /// Whether every sender is gone and everything was taken.
    pub(crate) fn closed(&self) -> bool {
        self.receivers.iter().all(|r| r.is_closed() && r.is_empty())
    }

    /// Waits until something happens: an item, the end of the senders, or somebody's `unpark`. False when `limit` has
    /// passed without.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> bool {
        let begun = Instant::now();
        let happened = (self.close && self.look_again(begun)) || self.park(limit);
        self.close = begun.elapsed() < LOOK_AGAIN;
        happened
    }

    /// Whether an item comes soon; others may run meanwhile.
    fn look_again(&self, begun: Instant) -> bool {
        while begun.elapsed() < LOOK_AGAIN {
            if self.any() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    fn park(&self, limit: Option<Duration>) -> bool {
        let Some(limit) = limit else {
            std::thread::park();
            return true;
        };
        let until = Instant::now() + limit;
        std::thread::park_timeout(limit);
        Instant::now() < until || self.any()
    }

    fn any(&self) -> bool {
        self.receivers.iter().any(|r| !r.is_empty())
    }
}

//! Door events on their way to the journal: in order, many in flight, kept in bounded memory while the disk refuses.
//!
//! Doors go on while the journal cannot be written. What waits is written late, with the time at which it happened; what
//! does not fit is counted; both are told by an alarm once writing works again. Leaves to others: what is worth an
//! entry, durability itself (`node`).

use crate::node::EdgeNode;
use futures::stream::{FuturesOrdered, StreamExt};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use yika_crdt::edge::{Command, Reply};
use yika_crdt::entry::AlarmRecord;

/// Entries that may wait for the journal, in flight included (about 2 MiB). At the bound new ones are counted as lost.
pub const JOURNAL_WAITING_MAX: usize = 10_000;
/// Entries given to the writer at once; further ones wait here.
pub const JOURNAL_IN_FLIGHT_MAX: usize = 256;
/// Pause after the journal refused, in milliseconds.
pub const JOURNAL_RETRY_MS: u64 = 500;

/// The queue; [`Journal::run`] empties it.
#[derive(Debug, Default)]
pub(super) struct Journal {
    state: Mutex<State>,
    wake: Notify,
}

/// How the journal of doors stands.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct JournalState {
    /// Events not durable yet.
    pub waiting: usize,
    /// Events that found no room since writing last worked.
    pub lost: u64,
    /// Why it is not written, if it is not.
    pub failing: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Command>,
    /// In the queue or in flight.
    waiting: usize,
    lost: u64,
    late: u64,
    failing: Option<String>,
    closing: bool,
}

impl Journal {
    /// Takes an entry; never waits.
    pub(super) fn push(&self, command: Command) {
        let mut state = self.lock();
        if state.waiting >= JOURNAL_WAITING_MAX {
            state.lost = state.lost.saturating_add(1);
            return;
        }
        state.waiting += 1;
        state.queue.push_back(command);
        drop(state);
        self.wake.notify_one();
    }

    /// How it stands.
    pub(super) fn state(&self) -> JournalState {
        let state = self.lock();
        JournalState { waiting: state.waiting, lost: state.lost, failing: state.failing.clone() }
    }

    /// Lets [`Journal::run`] end once everything is written.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// Writes what comes, until closed and empty.
    pub(super) async fn run(self: Arc<Self>, node: Arc<EdgeNode>) {
        let mut sent = FuturesOrdered::new();
        let mut refused = VecDeque::new();
        let mut retry_at = Instant::now();
        loop {
            while refused.is_empty()
                && sent.len() < JOURNAL_IN_FLIGHT_MAX
                && let Some(command) = self.next()
            {
                sent.push_back(write(&node, command));
            }
            if sent.is_empty() && refused.is_empty() && self.is_done() {
                return;
            }
            tokio::select! {
                Some((command, result)) = sent.next(), if !sent.is_empty() => match result {
                    Ok(()) => self.written(),
                    Err(cause) => {
                        self.failed(cause);
                        refused.push_back(command);
                        retry_at = Instant::now() + Duration::from_millis(JOURNAL_RETRY_MS);
                    }
                },
                () = self.wake.notified(), if refused.is_empty() => {}
                () = tokio::time::sleep_until(retry_at), if sent.is_empty() && !refused.is_empty() => {
                    self.put_back(&mut refused);
                }
            }
        }
    }

    fn next(&self) -> Option<Command> {
        self.lock().queue.pop_front()
    }

    fn is_done(&self) -> bool {
        let state = self.lock();
        state.closing && state.queue.is_empty()
    }

    fn written(&self) {
        let mut state = self.lock();
        state.waiting = state.waiting.saturating_sub(1);
        if state.failing.is_some() {
            state.late = state.late.saturating_add(1);
        }
        if state.waiting > 0 {
            return;
        }
        let Some(cause) = state.failing.take() else { return };
        let (late, lost) = (std::mem::take(&mut state.late), std::mem::take(&mut state.lost));
        let detail =
            format!("the journal could not be written ({cause}); {late} door events written late, {lost} lost");
        tracing::warn!(late, lost, "door events are written again");
        state.waiting += 1;
        state.queue.push_back(Command::Alarm(AlarmRecord { kind: "door_journal".into(), detail }));
    }

    fn failed(&self, cause: String) {
        let mut state = self.lock();
        if state.failing.is_none() {
            tracing::error!(cause, "door events cannot be written; doors go on");
            state.failing = Some(cause);
        }
    }

    fn put_back(&self, refused: &mut VecDeque<Command>) {
        let mut state = self.lock();
        while let Some(command) = refused.pop_back() {
            state.queue.push_front(command);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write(node: &EdgeNode, command: Command) -> (Command, Result<(), String>) {
    let result = match node.call(command.clone()).await {
        Ok(Reply::Shut(_)) => Err("as many entries as may wait already wait for headquarters".to_owned()),
        Ok(_) => Ok(()),
        Err(busy) => Err(busy.to_string()),
    };
    (command, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_memory_stays_bounded() {
        let journal = Journal::default();
        for _ in 0..JOURNAL_WAITING_MAX + 3 {
            journal.push(Command::Tick);
        }
        assert_eq!(journal.state(), JournalState { waiting: JOURNAL_WAITING_MAX, lost: 3, failing: None });
        assert_eq!(journal.lock().queue.len(), JOURNAL_WAITING_MAX);
    }
}

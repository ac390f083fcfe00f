//! Planned checkpoints: the bulk is folded back beside the writer, the last few pages by the writer itself.
//!
//! A checkpoint beside a busy writer never ends, because the log grows under it, and one by the writer alone stalls
//! every purchase. So a helper thread with its own connection folds back until little is left, then the writer folds
//! that little between two turns, and SQLite starts the log again from its beginning. The bound of the log's size
//! does not depend on this (`store`).

use crate::open;
use crate::store::SqliteStore;
use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{JoinHandle, Thread};
use yika_crdt::store::StoreError;

/// Write-ahead log size from which an idle node folds it back; bytes.
pub(crate) const WAL_BYTES_IDLE: u64 = 1 << 20;
/// The helper stops when this little is left for the writer; pages.
const REMAINDER_PAGES: i64 = 256;
/// Most rounds of the helper: a writer that is faster than the disk is not caught by more.
const ROUNDS_MAX: usize = 4;

const RESTING: u8 = 0;
const FOLDING: u8 = 1;
const FOLDED: u8 = 2;

/// The writer's end of the helper; dropping it ends the helper.
pub(crate) struct Checkpointer {
    go: Option<SyncSender<Thread>>,
    state: Arc<AtomicU8>,
    helper: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(crate) fn spawn(store: &SqliteStore) -> Result<Checkpointer, StoreError> {
        let conn = open::open_folding(store.path(), store.options())?;
        let state = Arc::new(AtomicU8::new(RESTING));
        let (go, asked) = sync_channel(1);
        let shared = Arc::clone(&state);
        let helper = std::thread::Builder::new()
            .name("yika-checkpoint".to_owned())
            .spawn(move || help(&conn, &asked, &shared))
            .map_err(|e| crate::error::device("starting the checkpoint thread", e.to_string()))?;
        Ok(Checkpointer { go: Some(go), state, helper: Some(helper) })
    }

    /// Between two turns: starts the helper when the log is due, and folds what it has left.
    pub(crate) fn after_turn(&self, store: &mut SqliteStore) {
        match self.state.load(Ordering::Acquire) {
            RESTING if store.checkpoint_needed() => self.start(),
            FOLDED => {
                if let Err(error) = store.fold() {
                    tracing::warn!(%error, "the write-ahead log could not be folded back");
                }
                self.state.store(RESTING, Ordering::Release);
            }
            _ => {}
        }
    }

    /// Nothing to do for the writer: a smaller log is worth folding.
    pub(crate) fn idle(&self, store: &SqliteStore) {
        if self.state.load(Ordering::Acquire) == RESTING && store.wal_bytes() >= WAL_BYTES_IDLE {
            self.start();
        }
    }

    fn start(&self) {
        let Some(go) = &self.go else {
            return;
        };
        self.state.store(FOLDING, Ordering::Release);
        match go.try_send(std::thread::current()) {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            // The helper is gone; the forced checkpoint of the store still bounds the log.
            Err(TrySendError::Disconnected(_)) => {
                tracing::error!("the checkpoint thread has ended")
            }
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.go = None;
        if let Some(helper) = self.helper.take()
            && helper.join().is_err()
        {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

fn help(conn: &Connection, asked: &Receiver<Thread>, state: &AtomicU8) {
    while let Ok(writer) = asked.recv() {
        for _ in 0..ROUNDS_MAX {
            match passive(conn) {
                Ok(left) if left > REMAINDER_PAGES => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "the write-ahead log could not be folded back");
                    break;
                }
            }
        }
        state.store(FOLDED, Ordering::Release);
        writer.unpark();
    }
}

/// Folds back what readers allow without waiting for anybody; returns the pages left in the log.
pub(crate) fn passive(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
}

const _: () = assert!(WAL_BYTES_IDLE < crate::store::WAL_BYTES_PLANNED);

//! The writing half: one file, one owner, everything of a batch or nothing.
//!
//! Feed states are cached and change only after a commit that succeeded. The write-ahead log is folded back when the
//! owner says it is idle, and by force at a bound. Leaves to others: threads (`writer`), reading rows (`rows`).

use crate::checkpointer;
use crate::error::{corrupt, device, failed};
use crate::open::{self, Options};
use crate::rows::{self, FeedRow};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use yika_crdt::channel::FeedId;
use yika_crdt::feed::{self, End, Hash, SignedHead};
use yika_crdt::ids::Seq;
use yika_crdt::store::{Appended, Batch, FeedState, KeyValue, Read, Store, StoreError};
use yika_crdt::wire;

/// Write-ahead log size from which it is folded back beside the writer.
pub const WAL_BYTES_PLANNED: u64 = 40 << 20;
/// Write-ahead log size at which a commit folds it back even when the node is busy.
pub const WAL_BYTES_SOFT_MAX: u64 = 64 << 20;
/// Write-ahead log size, as a multiple of the soft maximum, at which commits are refused: folding back has failed.
pub const WAL_HARD_MAX_FACTOR: u64 = 4;
/// Bytes that [`SqliteStore::probe`] writes.
const PROBE_BYTES: i64 = 64 << 10;
/// How long a forced fold waits for readers.
const CHECKPOINT_WAIT_MS: u64 = 20;

/// The SQLite store of one node.
pub struct SqliteStore {
    conn: Connection,
    path: PathBuf,
    options: Options,
    feeds: BTreeMap<FeedId, FeedRow>,
    wal: Wal,
}

/// Size of the write-ahead log, as its own hook reports it after each commit.
struct Wal {
    pages: Arc<AtomicU64>,
    /// Of this file: an older one may have larger pages than new ones get.
    page_bytes: u64,
    soft_max: u64,
    /// Size at the last forced fold that could not empty it: the next one waits for a quarter more.
    stuck_at: u64,
}

/// What a checkpoint did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checkpoint {
    /// Everything is in the database file; the log starts again from its beginning.
    Emptied,
    /// A reader still needs the log; it was folded back as far as possible.
    HeldByReader,
}

impl SqliteStore {
    /// Opens or creates the file and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Device`] when the file cannot be opened or is of a newer program, [`StoreError::Corrupt`] when
    /// it is not ours or its feed rows are damaged.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<SqliteStore, StoreError> {
        let path = path.as_ref().to_path_buf();
        let mut conn = open::open_writing(&path, options)?;
        let feeds = rows::feeds(&conn)?.into_iter().collect();
        let pages = Arc::new(AtomicU64::new(0));
        let hook = Arc::clone(&pages);
        conn.wal_hook(Some(move |_: &mut _, frames| {
            hook.store(u64::try_from(frames).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))
        .map_err(failed("watching the write-ahead log"))?;
        let page_bytes = u64::from(open::pragma::<u32>(&conn, "page_size")?);
        let soft_max = options.wal_bytes_soft_max.unwrap_or(WAL_BYTES_SOFT_MAX);
        let wal = Wal { pages, page_bytes, soft_max, stuck_at: 0 };
        let mut store = SqliteStore { conn, path, options: options.clone(), feeds, wal };
        // What the last run left behind: a start is an idle moment. A full disk must still let the node read.
        if let Err(error) = store.checkpoint() {
            tracing::warn!(%error, "the write-ahead log of the last run could not be folded back");
        }
        Ok(store)
    }

    /// Begins the transaction in which the next batch is committed, so that what is read for it takes no lock of its own
    /// for each row. [`SqliteStore::commit_with`] ends it, [`SqliteStore::roll_back`] too.
    ///
    /// # Errors
    /// What the device said; nothing was begun.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        self.bound_wal()?;
        // One that a rollback left open, when it failed with the device: nothing may be written on top of it.
        self.roll_back()?;
        rows::prepare(&self.conn, "BEGIN IMMEDIATE")?.execute([]).map_err(failed("beginning a transaction"))?;
        Ok(())
    }

    /// Ends what [`SqliteStore::begin`] began with nothing written.
    ///
    /// # Errors
    /// What the device said.
    pub fn roll_back(&self) -> Result<(), StoreError> {
        match self.conn.is_autocommit() {
            true => Ok(()),
            false => self.conn.execute_batch("ROLLBACK").map_err(failed("rolling a transaction back")),
        }
    }

    /// Writes the batch and what `also` writes into a product's own tables, in one transaction: the one that was begun,
    /// or one of its own.
    ///
    /// # Errors
    /// Whatever stopped it; then nothing of either was written and the store answers as before.
    pub fn commit_with(
        &mut self,
        batch: &Batch,
        also: impl FnOnce(&Connection) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.conn.is_autocommit() {
            self.begin()?;
        }
        match self.write(batch, also) {
            Ok(changed) => {
                self.feeds.extend(changed);
                Ok(())
            }
            Err(error) => {
                if let Err(again) = self.roll_back() {
                    tracing::error!(%again, "a transaction could not be rolled back; it is tried again before the next");
                }
                Err(error)
            }
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it was opened.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// For reading a product's own tables; writing goes through [`SqliteStore::commit_with`].
    pub fn connection(&self) -> &Connection {
        &self.conn
    }

    /// Bytes in the write-ahead log that are not folded back.
    pub fn wal_bytes(&self) -> u64 {
        self.wal.pages.load(Ordering::Relaxed) * self.wal.page_bytes
    }

    /// Whether the log has grown so far that it should be folded back.
    pub fn checkpoint_needed(&self) -> bool {
        self.wal_bytes() >= WAL_BYTES_PLANNED.min(self.wal.soft_max)
    }

    /// Folds the whole log back into the file, whatever its size.
    ///
    /// # Errors
    /// What the device said; the log stays, nothing is lost.
    pub fn checkpoint(&mut self) -> Result<Checkpoint, StoreError> {
        let doing = "folding the write-ahead log back";
        self.wait(CHECKPOINT_WAIT_MS)?;
        let busy: Result<i64, _> = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        self.wait(open::BUSY_WAIT_MS)?;
        match busy {
            Ok(0) => {
                self.wal.pages.store(0, Ordering::Relaxed);
                self.wal.stuck_at = 0;
                Ok(Checkpoint::Emptied)
            }
            Ok(_) => Ok(Checkpoint::HeldByReader),
            Err(e) => Err(failed(doing)(e)),
        }
    }

    /// Folds back what is left without waiting for readers; the log starts anew with the next commit if nothing is.
    pub(crate) fn fold(&mut self) -> Result<(), StoreError> {
        let left = checkpointer::passive(&self.conn).map_err(failed("folding the write-ahead log back"))?;
        if left == 0 {
            self.wal.pages.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes and deletes something, to learn whether the device takes writes.
    ///
    /// # Errors
    /// What the device said.
    pub fn probe(&mut self) -> Result<(), StoreError> {
        let doing = "trying whether the device takes writes";
        self.bound_wal()?;
        // Within a transaction that stayed open nothing would be tried.
        self.roll_back()?;
        let filler = "INSERT OR REPLACE INTO probe (id, filler) VALUES (1, zeroblob(?1))";
        self.conn.execute(filler, [PROBE_BYTES]).map_err(failed(doing))?;
        self.conn.execute("DELETE FROM probe", []).map_err(failed(doing))?;
        Ok(())
    }

    fn wait(&self, millis: u64) -> Result<(), StoreError> {
        self.conn.busy_timeout(Duration::from_millis(millis)).map_err(failed("setting the busy timeout"))
    }

    /// Keeps the log bounded: folds it back by force, and refuses to write when that has long failed.
    fn bound_wal(&mut self) -> Result<(), StoreError> {
        let bytes = self.wal_bytes();
        let soft_max = self.wal.soft_max;
        if bytes < soft_max.max(self.wal.stuck_at) {
            return Ok(());
        }
        let outcome = self.checkpoint();
        if outcome == Ok(Checkpoint::Emptied) {
            return Ok(());
        }
        self.wal.stuck_at = bytes + soft_max / 4;
        if bytes < soft_max.saturating_mul(WAL_HARD_MAX_FACTOR) {
            tracing::warn!(bytes, ?outcome, "the write-ahead log could not be emptied");
            return Ok(());
        }
        // At the hard bound every commit tries again.
        self.wal.stuck_at = 0;
        outcome?;
        Err(device(
            "bounding the write-ahead log",
            format!("{bytes} bytes are held by a reader that does not end; close what has the file open"),
        ))
    }

    /// Writes and commits what was begun; returns the feed rows as they are after it.
    fn write(
        &self,
        batch: &Batch,
        also: impl FnOnce(&Connection) -> Result<(), StoreError>,
    ) -> Result<BTreeMap<FeedId, FeedRow>, StoreError> {
        let mut work = Work { conn: &self.conn, feeds: &self.feeds, changed: BTreeMap::new() };
        work.write(batch)?;
        let changed = work.changed;
        also(&self.conn)?;
        rows::prepare(&self.conn, "COMMIT")?.execute([]).map_err(failed("committing a transaction"))?;
        Ok(changed)
    }
}

impl Read for SqliteStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        rows::get(&self.conn, key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        rows::scan(&self.conn, prefix, after, limit)
    }

    fn feed(&self, feed: &FeedId) -> Result<FeedState, StoreError> {
        Ok(self.feeds.get(feed).map(|row| row.held).unwrap_or_default())
    }

    fn feeds(&self) -> Result<Vec<(FeedId, FeedState)>, StoreError> {
        Ok(self.feeds.iter().map(|(id, row)| (*id, row.held)).collect())
    }

    fn entries(&self, feed: &FeedId, from: Seq, bytes_max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        match self.feeds.get(feed) {
            Some(row) => rows::entries(&self.conn, feed, row, from, bytes_max),
            None => Ok(Vec::new()),
        }
    }

    fn head_from(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
        match self.feeds.get(feed) {
            Some(row) => rows::head_from(&self.conn, feed, row.id, seq),
            None => Ok(None),
        }
    }

    fn head_upto(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
        match self.feeds.get(feed) {
            Some(row) => rows::head_upto(&self.conn, feed, row.id, seq),
            None => Ok(None),
        }
    }
}

impl Store for SqliteStore {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.commit_with(batch, |_| Ok(()))
    }
}

/// A batch on its way into one transaction.
struct Work<'a> {
    conn: &'a Connection,
    feeds: &'a BTreeMap<FeedId, FeedRow>,
    changed: BTreeMap<FeedId, FeedRow>,
}

impl Work<'_> {
    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for (feed, base) in &batch.bases {
            self.take_base(feed, *base)?;
        }
        for (feed, appended) in &batch.appended {
            self.append(feed, appended, batch.prune.get(feed).copied())?;
            for head in &appended.heads {
                self.keep_head(head)?;
            }
        }
        for head in &batch.heads {
            self.keep_head(head)?;
        }
        self.write_state(&batch.state)?;
        for (feed, upto) in &batch.prune {
            self.prune(feed, *upto)?;
        }
        self.write_feeds()
    }

    /// The row of a feed as this transaction leaves it; a feed of which nothing is held gets one.
    fn row(&mut self, feed: &FeedId) -> Result<FeedRow, StoreError> {
        if let Some(row) = self.changed.get(feed).or_else(|| self.feeds.get(feed)) {
            return Ok(*row);
        }
        let sql = "INSERT INTO feeds (feed, seq, hash, pruned, pruned_hash) VALUES (?1, 0, ?2, 0, ?2)";
        let id = rows::prepare(self.conn, sql)?
            .insert(params![wire::encode(feed), Hash::default().0])
            .map_err(failed("adding a feed"))?;
        let row = FeedRow { id, held: FeedState::default(), pruned_hash: Some(Hash::default()) };
        self.changed.insert(*feed, row);
        Ok(row)
    }

    /// The feed goes on from a position that a snapshot vouches for; entries below it go.
    fn take_base(&mut self, feed: &FeedId, base: End) -> Result<(), StoreError> {
        let mut row = self.row(feed)?;
        if base.seq <= row.held.end.seq {
            return Err(corrupt(format!("{feed}{}", base.seq), format!("a base within the end {}", row.held.end.seq)));
        }
        self.let_go(&row, base.seq)?;
        row.held = FeedState { end: base, pruned: base.seq };
        row.pruned_hash = Some(base.hash);
        self.changed.insert(*feed, row);
        Ok(())
    }

    fn append(&mut self, feed: &FeedId, appended: &Appended, prune: Option<Seq>) -> Result<(), StoreError> {
        let mut row = self.row(feed)?;
        check_append(feed, &row, appended, prune)?;
        if appended.from != row.held.end.seq.next() {
            // Taken over from the middle: the giver has pruned what came before.
            row.pruned_hash = None;
            row.held.pruned = Seq(appended.from.0.saturating_sub(1));
        }
        let mut statement = rows::prepare(self.conn, "INSERT INTO entries (at, body) VALUES (?1, ?2)")?;
        for (seq, body) in (appended.from.0..).map(Seq).zip(&appended.entries) {
            statement.execute(params![rows::at(row.id, seq)?, body]).map_err(failed("appending an entry"))?;
        }
        row.held.end = appended.end;
        self.changed.insert(*feed, row);
        Ok(())
    }

    fn keep_head(&mut self, head: &SignedHead) -> Result<(), StoreError> {
        let row = self.row(&head.feed)?;
        rows::prepare(
            self.conn,
            "INSERT INTO heads (at, head) VALUES (?1, ?2)
             ON CONFLICT (at) DO UPDATE SET head = excluded.head",
        )?
        .execute(params![rows::at(row.id, head.end.seq)?, wire::encode(head)])
        .map_err(failed("keeping a head"))?;
        Ok(())
    }

    fn write_state(&self, state: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<(), StoreError> {
        if state.is_empty() {
            return Ok(());
        }
        let mut put = rows::prepare(
            self.conn,
            "INSERT INTO state (key, value, sum) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, sum = excluded.sum",
        )?;
        let mut delete = rows::prepare(self.conn, "DELETE FROM state WHERE key = ?1")?;
        for (key, value) in state {
            match value {
                Some(value) => put.execute(params![key, value, rows::row_sum(key, value)]),
                None => delete.execute([key]),
            }
            .map_err(failed("writing a state row"))?;
        }
        Ok(())
    }

    /// Lets entries go and keeps the chain hash at the cut; letting go twice is no harm, and nothing comes back.
    fn prune(&mut self, feed: &FeedId, upto: Seq) -> Result<(), StoreError> {
        let mut row = self.row(feed)?;
        if upto <= row.held.pruned {
            return Ok(());
        }
        if upto > row.held.end.seq {
            return Err(corrupt(
                format!("{feed}{upto}"),
                format!("asked to prune beyond the end {}", row.held.end.seq),
            ));
        }
        row.pruned_hash = match row.pruned_hash {
            Some(_) if upto == row.held.end.seq => Some(row.held.end.hash),
            Some(hash) => Some(rows::chain(self.conn, feed, &row, hash, upto)?),
            None => None,
        };
        self.let_go(&row, upto)?;
        row.held.pruned = upto;
        self.changed.insert(*feed, row);
        Ok(())
    }

    /// Deletes what is held of a feed up to a position, but for the head at the position itself: it vouches for the cut.
    fn let_go(&self, row: &FeedRow, upto: Seq) -> Result<(), StoreError> {
        rows::prepare(self.conn, "DELETE FROM entries WHERE at BETWEEN ?1 AND ?2")?
            .execute([rows::at(row.id, row.held.pruned.next())?, rows::at(row.id, upto)?])
            .map_err(failed("pruning entries"))?;
        rows::prepare(self.conn, "DELETE FROM heads WHERE at >= ?1 AND at < ?2")?
            .execute([rows::at(row.id, Seq::ZERO)?, rows::at(row.id, upto)?])
            .map_err(failed("pruning heads"))?;
        Ok(())
    }

    fn write_feeds(&self) -> Result<(), StoreError> {
        let mut statement = rows::prepare(
            self.conn,
            "UPDATE feeds SET seq = ?2, hash = ?3, pruned = ?4, pruned_hash = ?5 WHERE id = ?1",
        )?;
        for row in self.changed.values() {
            // Positions were checked against `rows::SEQ_MAX` when their keys were made.
            let (seq, pruned) = (row.held.end.seq.0 as i64, row.held.pruned.0 as i64);
            statement
                .execute(params![row.id, seq, row.held.end.hash.0, pruned, row.pruned_hash.map(|h| h.0)])
                .map_err(failed("writing a feed"))?;
        }
        Ok(())
    }
}

/// What must hold of entries about to be appended: they continue the feed (or replace its pruned start) without a
/// gap and end where they say; in debug builds the chain is recomputed.
fn check_append(feed: &FeedId, row: &FeedRow, appended: &Appended, prune: Option<Seq>) -> Result<(), StoreError> {
    let end = row.held.end;
    let refuse = |cause: String| Err(corrupt(format!("{feed}{}", appended.from), cause));
    let continues = appended.from == end.seq.next();
    let taken_over = appended.from > end.seq.next() && prune.map(Seq::next) >= Some(appended.from);
    if !continues && !taken_over {
        return refuse(format!("a batch of entries does not continue the end {}", end.seq));
    }
    let last = appended.from.0.checked_add(appended.entries.len() as u64);
    if last != Some(appended.end.seq.next().0) {
        return refuse(format!(
            "{} entries do not lead to the stated end {}",
            appended.entries.len(),
            appended.end.seq
        ));
    }
    if cfg!(debug_assertions) && continues {
        let linked = appended.entries.iter().fold(end, |end, entry| feed::link(feed, end, entry));
        if linked != appended.end {
            return refuse("the chain over these entries has another hash".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    // tests may panic
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use yika_crdt::channel::Channel;
    use yika_crdt::feed::SignatureBytes;
    use yika_crdt::ids::{Incarnation, NodeId, Writer};
    use yika_crdt::store::Tx;

    fn journal() -> FeedId {
        let incarnation = Incarnation { generation: 1, counter: 1 };
        FeedId { writer: Writer { node: NodeId(1), incarnation }, channel: Channel::Journal }
    }

    #[test]
    fn what_was_committed_is_there_after_a_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let mut store = SqliteStore::open(&path, &Options::default()).unwrap();
        let mut tx = Tx::new(&store);
        tx.put(b"k".to_vec(), &7u32);
        for entry in [b"one", b"two"] {
            tx.append(journal(), entry.to_vec()).unwrap();
        }
        let batch = tx.into_batch();
        store.commit(&batch).unwrap();
        let state = store.feed(&journal()).unwrap();
        drop(store);
        let store = SqliteStore::open(&path, &Options::default()).unwrap();
        assert_eq!(store.feed(&journal()).unwrap(), state);
        assert_eq!(store.entries(&journal(), Seq(1), 99).unwrap(), [b"one", b"two"]);
        assert_eq!(Tx::new(&store).get::<u32>(b"k").unwrap(), Some(7));
    }

    #[test]
    fn entries_that_leave_a_gap_are_refused_and_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(dir.path().join("a.db"), &Options::default()).unwrap();
        let end = yika_crdt::feed::End { seq: Seq(2), hash: Hash([1; 32]) };
        let appended = Appended { from: Seq(2), entries: vec![b"two".to_vec()], end, heads: Vec::new() };
        let mut batch = Batch::default();
        batch.state.insert(b"k".to_vec(), Some(vec![1]));
        batch.appended.insert(journal(), appended);
        assert!(matches!(store.commit(&batch), Err(StoreError::Corrupt { .. })));
        assert_eq!(store.feeds().unwrap(), []);
        assert_eq!(store.get(b"k").unwrap(), None);
    }

    /// Every sale on an idle link is a run of its own with a head of its own: they go with their entries.
    #[test]
    fn heads_go_with_their_entries_but_for_the_one_at_the_cut() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(dir.path().join("a.db"), &Options::default()).unwrap();
        let mut turn = |work: &dyn Fn(&mut Tx<'_, SqliteStore>)| {
            let mut tx = Tx::new(&store);
            work(&mut tx);
            let batch = tx.into_batch();
            store.commit(&batch).unwrap();
            let heads = "SELECT group_concat(at & ?1, ' ') FROM heads";
            let kept = store.conn.query_row(heads, [rows::SEQ_MAX as i64], |row| row.get::<_, String>(0));
            (kept.unwrap(), store.head_from(&journal(), Seq(1)).unwrap().map(|head| head.end.seq))
        };
        for _ in 0..4 {
            turn(&|tx| {
                let end = tx.append(journal(), b"sale".to_vec()).unwrap();
                tx.keep_head(SignedHead { feed: journal(), end, signature: SignatureBytes([0; 64]) });
            });
        }
        assert_eq!(turn(&|tx| tx.prune(journal(), Seq(3))), ("3 4".to_owned(), Some(Seq(3))));
        let base = |tx: &mut Tx<'_, SqliteStore>| {
            let end = End { seq: Seq(9), hash: Hash([1; 32]) };
            assert!(tx.take_base(journal(), end).unwrap());
            tx.keep_head(SignedHead { feed: journal(), end, signature: SignatureBytes([0; 64]) });
        };
        assert_eq!(turn(&base), ("9".to_owned(), Some(Seq(9))));
    }
}

//! Reading beside the writer: read-only connections on the same file, and a bounded pool of them.
//!
//! Readers see committed data and never wait for the writer. Keep a reading short: the write-ahead log cannot be
//! emptied under it.

use crate::error::failed;
use crate::open::{self, Options};
use crate::rows::{self, FeedRow};
use rusqlite::Connection;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use yika_crdt::channel::FeedId;
use yika_crdt::feed::SignedHead;
use yika_crdt::ids::Seq;
use yika_crdt::store::{FeedState, KeyValue, Read, StoreError};

/// Most connections in a pool; each costs a page cache and three file descriptors.
pub const READERS_MAX: usize = 8;

/// A read-only view of the file, for one thread at a time.
pub struct SqliteReader {
    conn: Connection,
}

impl SqliteReader {
    /// Opens an existing file for reading.
    ///
    /// # Errors
    /// When it is absent, not ours or unreadable.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<SqliteReader, StoreError> {
        let conn = open::open_reading(path.as_ref(), options)?;
        Ok(SqliteReader { conn })
    }

    /// Runs several readings over one and the same committed state.
    ///
    /// # Errors
    /// Those of `read`, and of the database.
    pub fn snapshot<T>(&self, read: impl FnOnce(&SqliteReader) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let tx = self.conn.unchecked_transaction().map_err(failed("beginning to read"))?;
        let value = read(self)?;
        tx.finish().map_err(failed("ending to read"))?;
        Ok(value)
    }

    /// Looks through the whole file for damage; may take seconds on a large one.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with the first places that are wrong, or what the device said.
    pub fn quick_check(&self) -> Result<(), StoreError> {
        self.check("PRAGMA quick_check(5)")
    }

    /// The same and also that every index agrees with its table; slower still, for backups.
    ///
    /// # Errors
    /// As [`SqliteReader::quick_check`].
    pub fn integrity_check(&self) -> Result<(), StoreError> {
        self.check("PRAGMA integrity_check(5)")
    }

    fn check(&self, pragma: &str) -> Result<(), StoreError> {
        let doing = "checking the database";
        let mut statement = self.conn.prepare(pragma).map_err(failed(doing))?;
        let lines: Result<Vec<String>, _> = statement.query_map([], |row| row.get(0)).map_err(failed(doing))?.collect();
        let lines = lines.map_err(failed(doing))?;
        match lines.as_slice() {
            [ok] if ok == "ok" => Ok(()),
            wrong => Err(crate::error::corrupt("the database", wrong.join("; "))),
        }
    }

    /// Bytes of the database as this reader sees it.
    ///
    /// # Errors
    /// Of the database.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let pages: i64 = open::pragma(&self.conn, "page_count")?;
        let page_bytes: i64 = open::pragma(&self.conn, "page_size")?;
        Ok(pages.saturating_mul(page_bytes).unsigned_abs())
    }

    /// Copies the database, page by page and as of one moment, into a new file, while the writer goes on. The copy is
    /// not synced: it is on its way elsewhere.
    ///
    /// # Errors
    /// What the device said; what was written of the copy is the caller's to remove.
    pub fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let doing = "copying the database";
        let mut copy = Connection::open(path).map_err(failed(doing))?;
        // Worth nothing before it is whole, so nothing of it is kept for a crash.
        copy.pragma_update(None, "synchronous", "OFF").map_err(failed(doing))?;
        let backup = rusqlite::backup::Backup::new(&self.conn, &mut copy).map_err(failed(doing))?;
        // In one step: a copy in several begins anew whenever the writer commits between them.
        match backup.step(-1).map_err(failed(doing))? {
            rusqlite::backup::StepResult::Done => Ok(()),
            other => Err(crate::error::device(doing, format!("the copy was not finished: {other:?}"))),
        }
    }

    /// For reading a product's own tables.
    pub fn connection(&self) -> &Connection {
        &self.conn
    }

    fn row(&self, feed: &FeedId) -> Result<Option<FeedRow>, StoreError> {
        rows::feed(&self.conn, feed)
    }
}

impl Read for SqliteReader {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        rows::get(&self.conn, key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        rows::scan(&self.conn, prefix, after, limit)
    }

    fn feed(&self, feed: &FeedId) -> Result<FeedState, StoreError> {
        Ok(self.row(feed)?.map(|row| row.held).unwrap_or_default())
    }

    fn feeds(&self) -> Result<Vec<(FeedId, FeedState)>, StoreError> {
        let rows = rows::feeds(&self.conn)?;
        Ok(rows.into_iter().map(|(id, row)| (id, row.held)).collect())
    }

    fn entries(&self, feed: &FeedId, from: Seq, bytes_max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        // The row and its entries must be of one moment: the writer may prune between the two.
        let read = |reader: &SqliteReader| match reader.row(feed)? {
            Some(row) => rows::entries(&reader.conn, feed, &row, from, bytes_max),
            None => Ok(Vec::new()),
        };
        if self.conn.is_autocommit() { self.snapshot(read) } else { read(self) }
    }

    fn head_from(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
        match self.row(feed)? {
            Some(row) => rows::head_from(&self.conn, feed, row.id, seq),
            None => Ok(None),
        }
    }

    fn head_upto(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
        match self.row(feed)? {
            Some(row) => rows::head_upto(&self.conn, feed, row.id, seq),
            None => Ok(None),
        }
    }
}

/// A bounded set of readers shared by threads; who finds none free waits.
pub struct ReadPool {
    idle: Mutex<Vec<SqliteReader>>,
    returned: Condvar,
}

impl ReadPool {
    /// Opens `readers` connections (1 to [`READERS_MAX`]).
    ///
    /// # Errors
    /// When the file cannot be opened for reading.
    pub fn open(path: impl AsRef<Path>, options: &Options, readers: usize) -> Result<ReadPool, StoreError> {
        let idle: Result<Vec<_>, _> =
            (0..readers.clamp(1, READERS_MAX)).map(|_| SqliteReader::open(path.as_ref(), options)).collect();
        Ok(ReadPool { idle: Mutex::new(idle?), returned: Condvar::new() })
    }

    /// Runs a reading over one committed state, waiting for a free reader. Blocks: async code calls it off its
    /// runtime's threads.
    ///
    /// # Errors
    /// Those of `read`, and of the database.
    pub fn read<T>(&self, read: impl FnOnce(&SqliteReader) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let lent = self.lend();
        match &lent.reader {
            Some(reader) => reader.snapshot(read),
            None => Err(crate::error::device("reading", "no reader was lent")),
        }
    }

    fn lend(&self) -> Lent<'_> {
        let mut idle = self.lock();
        loop {
            if let Some(reader) = idle.pop() {
                return Lent { pool: self, reader: Some(reader) };
            }
            idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SqliteReader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the reader back however the reading ends.
struct Lent<'p> {
    pool: &'p ReadPool,
    reader: Option<SqliteReader>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.pool.lock().push(reader);
            self.pool.returned.notify_one();
        }
    }
}

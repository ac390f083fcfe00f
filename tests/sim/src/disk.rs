//! A node's disk: rows and feeds, written whole or not at all, refusing when it is full. In memory, or in files with the
//! product's own store.
//!
//! A commit is there or it is not, and where the log's last one was torn or has rotted it is not. What the device does at a
//! power cut is in `tests/powercut`. Leaves to others: when a process dies (`turn`), when a page rots (`rot`).

use crate::chance::Chance;
use crate::wal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use yika_crdt::channel::FeedId;
use yika_crdt::feed::SignedHead;
use yika_crdt::ids::{Seq, Writer};
use yika_crdt::keys;
use yika_crdt::store::{Batch, FeedState, KeyValue, MemoryStore, Read, Store, StoreError};
use yika_store::rusqlite::config::DbConfig;
use yika_store::{Options, SqliteStore, Synchronous};

/// Names of databases within the folder of a history.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The folder of a history's files, removed with the last disk in it.
pub type Folder = Arc<tempfile::TempDir>;

/// The disk of one node.
#[derive(Default)]
pub struct Disk {
    held: Held,
    /// Nothing more can be written.
    pub full: bool,
    /// Commits that it takes before one fails.
    left: Option<u32>,
}

enum Held {
    Memory(MemoryStore),
    Files(Box<Files>),
}

impl Default for Held {
    fn default() -> Self {
        Held::Memory(MemoryStore::default())
    }
}

/// A database in a folder.
struct Files {
    folder: Folder,
    path: PathBuf,
    /// Closed for a moment while it is opened again.
    store: Option<SqliteStore>,
}

fn options() -> Options {
    // Power cuts are elsewhere: what is written here need not reach the device.
    Options { synchronous: Synchronous::OffForPowerCutTestOnly, ..Options::default() }
}

/// Closing it folds nothing back: it ends as a process does that is killed.
fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    let store = SqliteStore::open(path, &options())?;
    let kept = store.connection().set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    kept.map_err(yika_store::failed("keeping the log when it is closed"))?;
    Ok(store)
}

fn gone() -> StoreError {
    StoreError::Device { doing: "reading", cause: "the database is not open".into() }
}

fn of_files(error: std::io::Error) -> StoreError {
    StoreError::Device { doing: "copying files", cause: error.to_string() }
}

impl Files {
    fn empty(folder: &Folder) -> Result<Files, StoreError> {
        let path = Files::free_path(folder);
        Ok(Files { folder: Arc::clone(folder), store: Some(open(&path)?), path })
    }

    fn free_path(folder: &Folder) -> PathBuf {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        folder.path().join(format!("{number}.db"))
    }

    /// Another database with the same file, and with this log beside it.
    fn copied(&self, log: &[u8]) -> Result<Files, StoreError> {
        let path = Files::free_path(&self.folder);
        std::fs::copy(&self.path, &path).map_err(of_files)?;
        std::fs::write(log_of(&path), log).map_err(of_files)?;
        Ok(Files { folder: Arc::clone(&self.folder), store: Some(open(&path)?), path })
    }

    fn log(&self) -> Result<Vec<u8>, StoreError> {
        Ok(yika_store::files::read_if_there(&log_of(&self.path)).map_err(of_files)?.unwrap_or_default())
    }

    /// The process has ended and starts again: the database is closed and opened.
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.store = None;
        self.store = Some(open(&self.path)?);
        Ok(())
    }

    /// As `reopen`, and meanwhile the log has become this.
    fn reopen_with(&mut self, log: &[u8]) -> Result<(), StoreError> {
        self.store = None;
        std::fs::write(log_of(&self.path), log).map_err(of_files)?;
        self.reopen()
    }

    fn commit_torn(&mut self, batch: &Batch, chance: &mut Chance) -> Result<bool, StoreError> {
        let (before, log) = (Whole::of(self.store()?)?, self.log()?);
        self.store.as_mut().ok_or_else(gone)?.commit(batch)?;
        let mut written = self.log()?;
        // Rows that are deleted and were not there are written nowhere.
        let Some(last) = wal::last_transaction(&written).filter(|_| written != log) else { return Ok(false) };
        wal::tear(&mut written, last, chance);
        self.reopen_with(&written)?;
        self.check(&before)?;
        Ok(true)
    }

    fn rot(&mut self, chance: &mut Chance) -> Result<Option<Files>, StoreError> {
        let mut log = self.log()?;
        let Some(last) = wal::last_transaction(&log) else { return Ok(None) };
        let (whole, before) = (self.copied(&log)?, self.copied(&log[..last.start])?);
        wal::flip(&mut log, last, chance);
        self.reopen_with(&log)?;
        self.check(&Whole::of(before.store()?)?)?;
        Ok(Some(whole))
    }

    /// What is read must be this.
    fn check(&self, expected: &Whole) -> Result<(), StoreError> {
        let (place, cause) =
            ("the log".into(), "what is read is not what was there before the last transaction".into());
        let is_as_expected = Whole::of(self.store()?)? == *expected;
        is_as_expected.then_some(()).ok_or(StoreError::Corrupt { place, cause })
    }

    fn store(&self) -> Result<&SqliteStore, StoreError> {
        self.store.as_ref().ok_or_else(gone)
    }
}

/// SQLite's write-ahead log of a database.
fn log_of(path: &Path) -> PathBuf {
    path.with_extension("db-wal")
}

/// A feed, how far it is held, its entries, and its head.
type WholeFeed = (FeedId, FeedState, Vec<Vec<u8>>, Option<SignedHead>);

/// Everything that can be read of a store, to compare.
#[derive(PartialEq, Eq)]
struct Whole {
    rows: Vec<KeyValue>,
    feeds: Vec<WholeFeed>,
}

impl Whole {
    fn of(store: &impl Read) -> Result<Whole, StoreError> {
        let rows = store.scan(&[], None, usize::MAX)?;
        let feeds = store.feeds()?.into_iter().map(|(feed, held)| {
            let entries = store.entries(&feed, held.pruned.next(), usize::MAX)?;
            Ok((feed, held, entries, store.head_upto(&feed, held.end.seq)?))
        });
        Ok(Whole { rows, feeds: feeds.collect::<Result<_, StoreError>>()? })
    }
}

impl Disk {
    /// Whether the fence of a life is held.
    pub fn knows_fence(&self, life: Writer) -> bool {
        self.get(&keys::fence(life)).is_ok_and(|row| row.is_some())
    }

    /// An empty one in files.
    ///
    /// # Errors
    /// Of the database.
    pub fn in_files(folder: &Folder) -> Result<Disk, StoreError> {
        let held = Held::Files(Box::new(Files::empty(folder)?));
        Ok(Disk { held, full: false, left: None })
    }

    /// A copy of everything, as a backup makes one.
    ///
    /// # Panics
    /// When files of the history cannot be copied: the machine that plays it has failed.
    #[allow(clippy::expect_used)] // told as the failure of the history
    pub fn copy(&self) -> Disk {
        let held = match &self.held {
            Held::Memory(store) => Held::Memory(store.clone()),
            Held::Files(files) => {
                let copied = files.log().and_then(|log| files.copied(&log));
                Held::Files(Box::new(copied.expect("files of a history copy")))
            }
        };
        Disk { held, full: false, left: None }
    }

    /// The process has ended and starts again: files are closed and opened.
    ///
    /// # Errors
    /// Of the database.
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        match &mut self.held {
            Held::Memory(_) => Ok(()),
            Held::Files(files) => files.reopen(),
        }
    }

    /// The process dies in the middle of a commit: of what it appends to the log, some is there. Opened again, everything
    /// must be as before. Whether there were files in which it could be torn.
    ///
    /// # Errors
    /// When something is not as before, or the database is not opened again.
    pub fn commit_torn(&mut self, batch: &Batch, chance: &mut Chance) -> Result<bool, StoreError> {
        match &mut self.held {
            Held::Memory(_) => Ok(false),
            Held::Files(files) => files.commit_torn(batch, chance),
        }
    }

    /// A byte of the last committed transaction in the log turns into another while the process is dead: opened again, the
    /// disk is what it was before that transaction. Gives what it was with it, where there was one.
    ///
    /// # Errors
    /// When it is anything else, or the database is not opened again.
    pub fn rot(&mut self, chance: &mut Chance) -> Result<Option<Disk>, StoreError> {
        let Held::Files(files) = &mut self.held else { return Ok(None) };
        let whole = files.rot(chance)?;
        Ok(whole.map(|files| Disk { held: Held::Files(Box::new(files)), full: false, left: None }))
    }

    /// After so many commits one fails.
    pub fn fail_after(&mut self, commits: u32) {
        self.left = Some(commits);
    }
}

impl Read for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.held {
            Held::Memory(store) => store.get(key),
            Held::Files(files) => files.store()?.get(key),
        }
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        match &self.held {
            Held::Memory(store) => store.scan(prefix, after, limit),
            Held::Files(files) => files.store()?.scan(prefix, after, limit),
        }
    }

    fn feed(&self, feed: &FeedId) -> Result<FeedState, StoreError> {
        match &self.held {
            Held::Memory(store) => store.feed(feed),
            Held::Files(files) => files.store()?.feed(feed),
        }
    }

    fn feeds(&self) -> Result<Vec<(FeedId, FeedState)>, StoreError> {
        match &self.held {
            Held::Memory(store) => store.feeds(),
            Held::Files(files) => files.store()?.feeds(),
        }
    }

    fn entries(&self, feed: &FeedId, from: Seq, bytes_max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        match &self.held {
            Held::Memory(store) => store.entries(feed, from, bytes_max),
            Held::Files(files) => files.store()?.entries(feed, from, bytes_max),
        }
    }

    fn head_from(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
        match &self.held {
            Held::Memory(store) => store.head_from(feed, seq),
            Held::Files(files) => files.store()?.head_from(feed, seq),
        }
    }

    fn head_upto(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
        match &self.held {
            Held::Memory(store) => store.head_upto(feed, seq),
            Held::Files(files) => files.store()?.head_upto(feed, seq),
        }
    }
}

impl Store for Disk {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let fails_now = self.left == Some(0);
        self.left = self.left.and_then(|left| left.checked_sub(1));
        if self.full || fails_now {
            return Err(StoreError::Device { doing: "committing", cause: "no space left on the device".into() });
        }
        match &mut self.held {
            Held::Memory(store) => store.commit(batch),
            Held::Files(files) => files.store.as_mut().ok_or_else(gone)?.commit(batch),
        }
    }
}

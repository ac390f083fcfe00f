//! A node's disk: rows and feeds, written whole or not at all, refusing when it is full. In memory, or in files with the
//! product's own store.
//!
//! What SQLite does with torn pages is shown with the real one (`tests/powercut`): a commit is there or it is not. Leaves
//! to others: when a process dies before or after a commit (`world`).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use yika_crdt::channel::FeedId;
use yika_crdt::feed::SignedHead;
use yika_crdt::ids::{Seq, Writer};
use yika_crdt::keys;
use yika_crdt::store::{Batch, FeedState, KeyValue, MemoryStore, Read, Store, StoreError};
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

fn gone() -> StoreError {
    StoreError::Device { doing: "reading", cause: "the database is not open".into() }
}

impl Files {
    fn open(folder: &Folder, from: Option<&PathBuf>) -> Result<Files, StoreError> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.path().join(format!("{number}.db"));
        let failed = |error: std::io::Error| StoreError::Device { doing: "copying", cause: error.to_string() };
        if let Some(from) = from {
            std::fs::copy(from, &path).map_err(failed)?;
            let wal = from.with_extension("db-wal");
            if wal.exists() {
                std::fs::copy(wal, path.with_extension("db-wal")).map_err(failed)?;
            }
        }
        let store = Some(SqliteStore::open(&path, &options())?);
        Ok(Files { folder: Arc::clone(folder), path, store })
    }

    fn store(&self) -> Result<&SqliteStore, StoreError> {
        self.store.as_ref().ok_or_else(gone)
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
        let held = Held::Files(Box::new(Files::open(folder, None)?));
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
                Held::Files(Box::new(Files::open(&files.folder, Some(&files.path)).expect("files of a history copy")))
            }
        };
        Disk { held, full: false, left: None }
    }

    /// The process has ended and starts again: files are closed and opened.
    ///
    /// # Errors
    /// Of the database.
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        if let Held::Files(files) = &mut self.held {
            files.store = None;
            files.store = Some(SqliteStore::open(&files.path, &options())?);
        }
        Ok(())
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

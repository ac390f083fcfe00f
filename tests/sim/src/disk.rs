//! A node's disk: the rows and feeds of the memory store, written whole or not at all, refusing when it is full.
//!
//! What SQLite does with torn pages is shown with the real one (`tests/powercut`): a commit is there or it is not. Leaves
//! to others: when a process dies before or after a commit (`world`).

use yika_crdt::channel::FeedId;
use yika_crdt::feed::SignedHead;
use yika_crdt::ids::Seq;
use yika_crdt::store::{Batch, FeedState, KeyValue, MemoryStore, Read, Store, StoreError};

/// The disk of one node.
#[derive(Clone, Default)]
pub struct Disk {
    held: MemoryStore,
    /// Nothing more can be written.
    pub full: bool,
}

impl Disk {
    /// A copy of everything, as a backup makes one.
    pub fn copy(&self) -> Disk {
        Disk { held: self.held.clone(), full: false }
    }
}

impl Read for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.held.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.held.scan(prefix, after, limit)
    }

    fn feed(&self, feed: &FeedId) -> Result<FeedState, StoreError> {
        self.held.feed(feed)
    }

    fn feeds(&self) -> Result<Vec<(FeedId, FeedState)>, StoreError> {
        self.held.feeds()
    }

    fn entries(&self, feed: &FeedId, from: Seq, bytes_max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        self.held.entries(feed, from, bytes_max)
    }

    fn head_from(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
        self.held.head_from(feed, seq)
    }

    fn head_upto(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
        self.held.head_upto(feed, seq)
    }
}

impl Store for Disk {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if self.full {
            return Err(StoreError::Device { doing: "committing", cause: "no space left on the device".into() });
        }
        self.held.commit(batch)
    }
}

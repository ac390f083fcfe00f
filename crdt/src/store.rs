//! The one narrow interface to durable storage, and the transaction that the core works in.
//!
//! A [`Tx`] overlays reads with what the turn has written; nothing reaches the [`Store`] before `commit`, and what a
//! turn wants to tell others is released only after it ([`Turn`]). Leaves to others: SQL, files, fsync (`yika-store`).

mod undo;

use crate::channel::FeedId;
use crate::feed::{self, End, FeedError, Run, SignedHead};
use crate::ids::Seq;
use crate::wire;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use undo::{Undo, UndoLog};

/// A storage failure: the node stops serving rather than answer from what it cannot write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The device refused: full, read-only, failing.
    #[error("storage failed while {doing}: {cause}")]
    Device {
        /// What was attempted.
        doing: &'static str,
        /// The device's or database's words.
        cause: String,
    },
    /// Stored bytes are not what was written.
    #[error("stored data is damaged at {place}: {cause}")]
    Corrupt {
        /// Table, key or feed position.
        place: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// What is held of one feed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FeedState {
    /// Last entry held.
    pub end: End,
    /// Entries up to here are pruned away (0: none).
    pub pruned: Seq,
}

/// One key-value row in a scan.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// The reading half: committed data only.
pub trait Read {
    /// The value under a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Up to `limit` rows whose key starts with `prefix` and is greater than `after` (if given), in key order.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KeyValue>, StoreError>;
    /// What is held of a feed; the default when nothing is.
    fn feed(&self, feed: &FeedId) -> Result<FeedState, StoreError>;
    /// All feeds of which anything is held.
    fn feeds(&self) -> Result<Vec<(FeedId, FeedState)>, StoreError>;
    /// Consecutive entries from `from` on, at least one if held, until `bytes_max` is reached.
    fn entries(&self, feed: &FeedId, from: Seq, bytes_max: usize) -> Result<Vec<Vec<u8>>, StoreError>;
    /// The first stored head at or after a position.
    fn head_from(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError>;
    /// The last stored head at or before a position.
    fn head_upto(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError>;
}

/// Durable storage of one node: feeds, and a sorted map of small state rows.
pub trait Store: Read {
    /// Writes everything in the batch, or nothing; durable when it returns.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError>;
}

/// Entries added to one feed in one transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Appended {
    /// Position of the first one.
    pub from: Seq,
    /// Canonical bytes of each.
    pub entries: Vec<Vec<u8>>,
    /// The feed's end after the last one.
    pub end: End,
    /// Heads to keep: the writer's, as received or signed.
    pub heads: Vec<SignedHead>,
}

/// Everything one transaction writes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Batch {
    /// New entries by feed.
    pub appended: BTreeMap<FeedId, Appended>,
    /// Heads for entries already stored.
    pub heads: Vec<SignedHead>,
    /// State rows: written, or deleted where `None`.
    pub state: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Entries up to the position leave the box.
    pub prune: BTreeMap<FeedId, Seq>,
    /// Feeds that go on from here: a snapshot holds what came before. Applied before anything is appended.
    pub bases: BTreeMap<FeedId, End>,
}

impl Batch {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        let feeds = self.appended.is_empty() && self.prune.is_empty() && self.bases.is_empty();
        feeds && self.heads.is_empty() && self.state.is_empty()
    }

    /// Whether a later transaction can be written together with this one, as if it were one.
    pub fn takes(&self, later: &Batch) -> bool {
        let follows = |(feed, appended): (&FeedId, &Appended)| {
            self.appended.get(feed).is_none_or(|ours| ours.end.seq.next() == appended.from)
        };
        let stays = |batch: &Batch| batch.prune.is_empty() && batch.bases.is_empty();
        stays(self) && stays(later) && later.appended.iter().all(follows)
    }

    /// Adds a later transaction that it [`takes`](Batch::takes).
    pub fn add(&mut self, later: Batch) {
        for (feed, appended) in later.appended {
            match self.appended.entry(feed) {
                Entry::Vacant(none) => _ = none.insert(appended),
                Entry::Occupied(mut ours) => {
                    let ours = ours.get_mut();
                    ours.entries.extend(appended.entries);
                    ours.end = appended.end;
                    ours.heads.extend(appended.heads);
                }
            }
        }
        self.heads.extend(later.heads);
        self.state.extend(later.state);
        self.prune.extend(later.prune);
    }
}

/// A transaction in the making: committed state plus what this turn has written.
pub struct Tx<'s, S: Read + ?Sized> {
    store: &'s S,
    batch: Batch,
    undo: UndoLog,
    /// Committed values that this turn has read: a crowd of sales asks for the same few again and again.
    read: RefCell<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
}

/// Committed values that a turn keeps at hand; beyond it begins anew.
const READ_KEPT_MAX: usize = 2_048;

impl<'s, S: Read + ?Sized> Tx<'s, S> {
    /// Starts on top of the committed state.
    pub fn new(store: &'s S) -> Self {
        Tx { store, batch: Batch::default(), undo: UndoLog::default(), read: RefCell::default() }
    }

    /// Ends it: hand the batch to [`Store::commit`].
    pub fn into_batch(self) -> Batch {
        self.batch
    }

    /// What this turn has written so far.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The raw value under a key, this turn's writes first.
    pub fn get_bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(written) = self.batch.state.get(key) {
            return Ok(written.clone());
        }
        let mut read = self.read.borrow_mut();
        if let Some(value) = read.get(key) {
            return Ok(value.clone());
        }
        let value = self.store.get(key)?;
        if read.len() >= READ_KEPT_MAX {
            read.clear();
        }
        read.insert(key.to_vec(), value.clone());
        Ok(value)
    }

    /// The value under a key; bytes of another shape are damage, not absence.
    pub fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.get_bytes(key)? else {
            return Ok(None);
        };
        decode_row(key, &bytes).map(Some)
    }

    /// Writes a value.
    pub fn put<T: Serialize>(&mut self, key: Vec<u8>, value: &T) {
        self.put_bytes(key, wire::encode(value));
    }

    /// Writes raw bytes.
    pub fn put_bytes(&mut self, key: Vec<u8>, bytes: Vec<u8>) {
        self.undo.note_state(&mut self.batch, key, Some(bytes));
    }

    /// Deletes a value.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.undo.note_state(&mut self.batch, key, None);
    }

    /// Rows under a prefix in key order, this turn's writes included.
    pub fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        let ours: Vec<_> = self
            .batch
            .state
            .range(prefix.to_vec()..)
            .take_while(|(k, _)| k.starts_with(prefix))
            .filter(|(k, _)| after.is_none_or(|a| k.as_slice() > a))
            .collect();
        // Deletions of ours may hide stored rows, so ask for as many more.
        let stored = self.store.scan(prefix, after, limit.saturating_add(ours.len()))?;
        let mut rows: BTreeMap<Vec<u8>, Option<Vec<u8>>> = stored.into_iter().map(|(k, v)| (k, Some(v))).collect();
        for (key, value) in ours {
            rows.insert(key.clone(), value.clone());
        }
        Ok(rows.into_iter().filter_map(|(k, v)| v.map(|v| (k, v))).take(limit).collect())
    }

    /// What is held of a feed, this turn's entries included.
    pub fn feed(&self, feed: &FeedId) -> Result<FeedState, StoreError> {
        let mut state = self.base_of(feed)?;
        if let Some(appended) = self.batch.appended.get(feed) {
            state.end = appended.end;
        }
        if let Some(pruned) = self.batch.prune.get(feed) {
            state.pruned = *pruned;
        }
        Ok(state)
    }

    /// What is held of a feed before this turn's entries.
    fn base_of(&self, feed: &FeedId) -> Result<FeedState, StoreError> {
        match self.batch.bases.get(feed) {
            Some(base) => Ok(FeedState { end: *base, pruned: base.seq }),
            None => self.store.feed(feed),
        }
    }

    /// One entry, this turn's included.
    pub fn entry(&self, feed: &FeedId, seq: Seq) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(appended) = self.batch.appended.get(feed)
            && seq >= appended.from
        {
            return Ok(appended.entries.get((seq.0 - appended.from.0) as usize).cloned());
        }
        let state = self.base_of(feed)?;
        if seq == Seq::ZERO || seq > state.end.seq || seq <= state.pruned {
            return Ok(None);
        }
        Ok(self.store.entries(feed, seq, 1)?.into_iter().next())
    }

    /// Consecutive entries from `from` on, this turn's included: at least one if held, about `bytes_max` of what is stored.
    pub fn entries(&self, feed: &FeedId, from: Seq, bytes_max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let stored = self.base_of(feed)?;
        if from <= stored.end.seq {
            let is_based = self.batch.bases.contains_key(feed);
            return if is_based { Ok(Vec::new()) } else { self.store.entries(feed, from, bytes_max) };
        }
        let Some(appended) = self.batch.appended.get(feed) else { return Ok(Vec::new()) };
        let first = usize::try_from(from.0.saturating_sub(appended.from.0)).unwrap_or(usize::MAX);
        Ok(appended.entries.get(first..).map(<[Vec<u8>]>::to_vec).unwrap_or_default())
    }

    /// The chain of a feed at a position, this turn's entries included; see [`end_at`].
    pub fn end_at(&self, feed: &FeedId, seq: Seq) -> Result<Option<End>, StoreError> {
        let stored = self.base_of(feed)?.end;
        let Some(appended) = self.batch.appended.get(feed).filter(|_| seq > stored.seq) else {
            return match self.batch.bases.get(feed) {
                Some(base) => Ok(Some(*base).filter(|base| base.seq == seq)),
                None => end_at(self.store, feed, seq),
            };
        };
        let wanted = usize::try_from(seq.0 - stored.seq.0).unwrap_or(usize::MAX);
        let entries = appended.entries.get(..wanted);
        Ok(entries.map(|entries| entries.iter().fold(stored, |end, entry| feed::link(feed, end, entry))))
    }

    /// All feeds of which anything is stored.
    pub fn feeds(&self) -> Result<Vec<(FeedId, FeedState)>, StoreError> {
        self.store.feeds()
    }

    /// The first stored head at or after a position.
    pub fn head_from(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
        self.store.head_from(feed, seq)
    }

    /// Appends one entry's canonical bytes to a feed of this node.
    pub fn append(&mut self, feed: FeedId, entry: Vec<u8>) -> Result<End, StoreError> {
        let end = feed::link(&feed, self.feed(&feed)?.end, &entry);
        self.undo.note(|| Undo::Entry(feed, self.batch.appended.get(&feed).map(|appended| appended.end)));
        let appended =
            self.batch.appended.entry(feed).or_insert_with(|| Appended { from: end.seq, ..Appended::default() });
        appended.entries.push(entry);
        appended.end = end;
        Ok(end)
    }

    /// Takes a checked run of somebody's feed; entries already held are skipped.
    ///
    /// The caller has verified the chain from the held end with [`feed::check_run`].
    pub fn take_run(&mut self, run: &Run) -> Result<(), StoreError> {
        let feed = run.head.feed;
        for entry in &run.entries {
            self.append(feed, entry.clone())?;
        }
        match self.batch.appended.get_mut(&feed) {
            Some(appended) => {
                appended.heads.push(run.head.clone());
                self.undo.note(|| Undo::FeedHead(feed));
            }
            None => self.keep_head(run.head.clone()),
        }
        Ok(())
    }

    /// Keeps a head for entries that are stored.
    pub fn keep_head(&mut self, head: SignedHead) {
        self.batch.heads.push(head);
        self.undo.note(|| Undo::Head);
    }

    /// Lets a feed go on from `base`: what came before it is in a snapshot that this turn has taken in. Entries held
    /// below it leave the box; a base that is not beyond the end changes nothing.
    pub fn take_base(&mut self, feed: FeedId, base: End) -> Result<bool, StoreError> {
        if base.seq <= self.feed(&feed)?.end.seq {
            return Ok(false);
        }
        let appended = self.batch.appended.remove(&feed);
        let prune = self.batch.prune.remove(&feed);
        let before = self.batch.bases.insert(feed, base);
        self.undo.note(|| Undo::Base(feed, before, appended, prune));
        Ok(true)
    }

    /// Lets entries up to a position go.
    pub fn prune(&mut self, feed: FeedId, upto: Seq) {
        let before = self.batch.prune.insert(feed, upto);
        self.undo.note(|| Undo::Prune(feed, before));
    }
}

/// The chain of a held feed at a position; `None` beyond its end, or where what it follows from was pruned. Computed
/// again from the last head before it: for disputes only, and only where the other side's word is signed.
pub fn end_at<R: Read + ?Sized>(store: &R, feed: &FeedId, seq: Seq) -> Result<Option<End>, StoreError> {
    let held = store.feed(feed)?;
    if held.end.seq == seq {
        return Ok(Some(held.end));
    }
    let head = store.head_upto(feed, seq)?.map(|head| head.end);
    if head.is_some_and(|head| head.seq == seq) {
        return Ok(head);
    }
    // A head over entries that are gone leads nowhere.
    let start = head.filter(|head| head.seq >= held.pruned);
    if seq > held.end.seq || (start.is_none() && held.pruned > Seq::ZERO) {
        return Ok(None);
    }
    let mut end = start.unwrap_or_default();
    while end.seq < seq {
        let entries = store.entries(feed, end.seq.next(), WALK_BYTES)?;
        if entries.is_empty() {
            return Ok(None);
        }
        let wanted = usize::try_from(seq.0 - end.seq.0).unwrap_or(usize::MAX);
        end = entries.iter().take(wanted).fold(end, |end, entry| feed::link(feed, end, entry));
    }
    Ok(Some(end))
}

/// Bytes read at once while a chain is computed again.
const WALK_BYTES: usize = 256 << 10;

/// Reads a state row; wrong bytes name the key.
pub fn decode_row<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
    wire::decode_lenient(bytes, usize::MAX).map_err(|e| StoreError::Corrupt {
        place: format!("state row {}", key.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        cause: e.to_string(),
    })
}

/// What one turn of the core wants: first stored, then told. The effects come out only of [`Turn::committed`].
pub struct Turn<E> {
    /// To be committed before anything is told.
    pub batch: Batch,
    effects: Vec<E>,
}

impl<E> Turn<E> {
    /// Pairs a batch with what follows from it.
    pub fn new(batch: Batch, effects: Vec<E>) -> Self {
        Turn { batch, effects }
    }

    /// Commits, then releases the effects: answers, messages, actuations.
    pub fn committed<S: Store + ?Sized>(self, store: &mut S) -> Result<Vec<E>, StoreError> {
        if !self.batch.is_empty() {
            store.commit(&self.batch)?;
        }
        Ok(self.effects)
    }
}

/// Why a run from outside is not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The chain or its signature.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// Our own storage.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A store in memory, for tests and simulation; `commit` is atomic by construction.
#[derive(Clone, Default, Debug)]
pub struct MemoryStore {
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    feeds: BTreeMap<FeedId, MemoryFeed>,
}

#[derive(Clone, Default, Debug)]
struct MemoryFeed {
    held: FeedState,
    entries: BTreeMap<Seq, Vec<u8>>,
    heads: BTreeMap<Seq, SignedHead>,
}

impl Read for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        let rows = self.state.range(prefix.to_vec()..).take_while(|(k, _)| k.starts_with(prefix));
        let rows = rows.filter(|(k, _)| after.is_none_or(|a| k.as_slice() > a));
        Ok(rows.take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn feed(&self, feed: &FeedId) -> Result<FeedState, StoreError> {
        Ok(self.feeds.get(feed).map(|f| f.held).unwrap_or_default())
    }

    fn feeds(&self) -> Result<Vec<(FeedId, FeedState)>, StoreError> {
        Ok(self.feeds.iter().map(|(id, f)| (*id, f.held)).collect())
    }

    fn entries(&self, feed: &FeedId, from: Seq, bytes_max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let Some(held) = self.feeds.get(feed) else {
            return Ok(Vec::new());
        };
        let mut bytes = 0;
        let mut run = Vec::new();
        for (_, entry) in held.entries.range(from..) {
            bytes += entry.len();
            if !run.is_empty() && bytes > bytes_max {
                break;
            }
            run.push(entry.clone());
        }
        Ok(run)
    }

    fn head_from(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
        Ok(self.feeds.get(feed).and_then(|f| f.heads.range(seq..).next().map(|(_, h)| h.clone())))
    }

    fn head_upto(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
        Ok(self.feeds.get(feed).and_then(|f| f.heads.range(..=seq).next_back().map(|(_, h)| h.clone())))
    }
}

impl Store for MemoryStore {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for (id, base) in &batch.bases {
            let feed = self.feeds.entry(*id).or_default();
            feed.entries.clear();
            feed.heads = feed.heads.split_off(&base.seq);
            feed.held = FeedState { end: *base, pruned: base.seq };
        }
        for (id, appended) in &batch.appended {
            let feed = self.feeds.entry(*id).or_default();
            for (seq, entry) in (appended.from.0..).zip(&appended.entries) {
                feed.entries.insert(Seq(seq), entry.clone());
            }
            feed.held.end = appended.end;
            feed.heads.extend(appended.heads.iter().map(|h| (h.end.seq, h.clone())));
        }
        for head in &batch.heads {
            self.feeds.entry(head.feed).or_default().heads.insert(head.end.seq, head.clone());
        }
        for (key, value) in &batch.state {
            match value {
                Some(value) => self.state.insert(key.clone(), value.clone()),
                None => self.state.remove(key),
            };
        }
        for (id, upto) in &batch.prune {
            let feed = self.feeds.entry(*id).or_default();
            feed.entries = feed.entries.split_off(&upto.next());
            feed.heads = feed.heads.split_off(upto);
            feed.held.pruned = *upto;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Channel;
    use crate::ids::{Incarnation, NodeId, Writer};

    fn feed() -> FeedId {
        let incarnation = Incarnation { generation: 1, counter: 1 };
        FeedId { writer: Writer { node: NodeId(1), incarnation }, channel: Channel::Journal }
    }

    #[test]
    fn a_turn_sees_its_own_writes_and_the_store_sees_them_at_commit() -> Result<(), StoreError> {
        let mut store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        tx.put(b"a1".to_vec(), &1u32);
        tx.put(b"a2".to_vec(), &2u32);
        tx.delete(b"a1".to_vec());
        tx.append(feed(), b"entry".to_vec())?;
        assert_eq!(tx.get::<u32>(b"a2")?, Some(2));
        assert_eq!(tx.scan(b"a", None, 9)?.len(), 1);
        assert_eq!(tx.entry(&feed(), Seq(1))?, Some(b"entry".to_vec()));
        let turn = Turn::new(tx.into_batch(), vec!["answer"]);
        assert_eq!(store.get(b"a2")?, None);
        assert_eq!(turn.committed(&mut store)?, vec!["answer"]);
        assert_eq!(store.feed(&feed())?.end.seq, Seq(1));
        assert_eq!(store.get(b"a1")?, None);
        Ok(())
    }

    #[test]
    fn a_row_of_another_shape_is_damage() -> Result<(), StoreError> {
        let mut store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        tx.put(b"k".to_vec(), &"text");
        store.commit(&tx.into_batch())?;
        assert!(matches!(Tx::new(&store).get::<bool>(b"k"), Err(StoreError::Corrupt { .. })));
        Ok(())
    }
}

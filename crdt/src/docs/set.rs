//! Documents in the node's store: opened on demand, a bounded number at a time, saved change by change.
//!
//! Rows: the saved document, a log of changes since (folded in every [`LOG_CHANGES_MAX`]), waiting changes, state. All
//! are written in the caller's transaction. Leaves to others: the transaction itself, the tables made of patches.

use super::act::Act;
use super::chunk::ChangeRefused;
use super::document::{ActorKey, Document};
use super::outcome::{Authored, DocError, DocState, Patch, Taken};
use super::{DocId, DocKind};
use crate::channel::Place;
use crate::ids::{CampusId, Writer};
use crate::proof;
use crate::snapshot::SavedDocument;
use crate::store::{Read, StoreError, Tx};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};

/// Changes in a document's log before it is saved whole.
pub const LOG_CHANGES_MAX: u32 = 64;
/// Bytes of them, about: an import's changes are larger than the document that they make.
pub const LOG_BYTES_MAX: usize = 16 << 10;
/// Rows read at once while opening.
const SCAN_ROWS: usize = 256;

/// A failure on our own side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// Storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The document or the act.
    #[error(transparent)]
    Doc(#[from] DocError),
}

/// What became of entries for one document.
#[derive(Debug)]
pub struct Outcome {
    /// Of each entry, in order.
    pub each: Vec<Result<Taken, ChangeRefused>>,
    /// New plain values of all of them.
    pub patch: Patch,
    /// Writers whose waiting changes turned out bad.
    pub refused: Vec<(ActorKey, ChangeRefused)>,
}

/// What became of a document of a snapshot.
#[derive(Debug)]
pub enum Restored {
    /// Everything in it was here.
    Known,
    /// Nothing of it was here: it is stored as the snapshot has it.
    Whole,
    /// Brought together with what was here; the patch is of everything that either holds.
    Merged(Box<Outcome>),
}

struct Open {
    doc: Document,
    used: u64,
    log: u32,
    log_bytes: usize,
    dirty: bool,
}

/// Open documents of one node, at most `open_max` between calls.
pub struct DocSet {
    open: BTreeMap<DocId, Open>,
    open_max: usize,
    uses: u64,
}

fn key(mark: u8, id: &DocId) -> Vec<u8> {
    let mut key = vec![b'd', mark];
    key.extend(wire::encode(id));
    key
}

fn log_key(id: &DocId, at: u32) -> Vec<u8> {
    let mut key = key(b'l', id);
    key.extend(at.to_be_bytes());
    key
}

impl DocSet {
    /// Keeps at most so many documents open.
    pub fn new(open_max: usize) -> Self {
        DocSet { open: BTreeMap::new(), open_max: open_max.max(1), uses: 0 }
    }

    /// The document, opened if need be; a new one where nothing is stored.
    ///
    /// # Errors
    /// Storage, or damage to what was saved.
    pub fn get<S: Read + ?Sized>(&mut self, tx: &Tx<'_, S>, id: DocId) -> Result<&Document, SetError> {
        Ok(&self.open_mut(tx, id)?.doc)
    }

    /// Takes entries of feeds for one document, in the transaction that stores them.
    ///
    /// # Errors
    /// Our own side failed; the transaction must be dropped and [`DocSet::rolled_back`] called.
    pub fn take<S: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, S>,
        id: DocId,
        entries: &[(Writer, Place, &[u8])],
    ) -> Result<Outcome, SetError> {
        let open = self.open_mut(tx, id)?;
        let state = open.doc.state().clone();
        let waiting = open.doc.waiting().count();
        open.dirty = true;
        let results = open.doc.take_all(entries)?;
        let queued = results.each.iter().any(|r| matches!(r, Ok(Taken::Waiting)));
        if queued || open.doc.waiting().count() != waiting {
            let rows: Vec<(ActorKey, Vec<u8>)> = open.doc.waiting().map(|(a, b)| (a, b.to_vec())).collect();
            write_waiting(tx, &id, &rows)?;
        }
        if *open.doc.state() != state {
            tx.put(key(b's', &id), open.doc.state());
        }
        log(tx, open, results.entered);
        Ok(Outcome { each: results.each, patch: open.doc.project(&results.touched), refused: results.refused })
    }

    /// Writes one act of ours; the bytes go into our feed in the same transaction. `None`: nothing to say.
    ///
    /// # Errors
    /// The act breaks its rules, or our own side failed.
    pub fn author<S: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, S>,
        id: DocId,
        writer: Writer,
        act: &Act,
        time_s: i64,
    ) -> Result<Option<(Vec<u8>, Patch)>, SetError> {
        let open = self.open_mut(tx, id)?;
        open.dirty = true;
        let written = open.doc.author(writer, act, time_s)?;
        if let Some((bytes, _)) = &written {
            log(tx, open, vec![bytes.clone()]);
        }
        Ok(written)
    }

    /// Writes many acts of ours on one document, a change each (an import).
    ///
    /// # Errors
    /// Inner: that act is refused, the others hold. Outer: our own side failed, as in [`DocSet::take`].
    pub fn author_all<S: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, S>,
        id: DocId,
        writer: Writer,
        acts: &[Act],
        time_s: i64,
    ) -> Result<(Authored, Patch), SetError> {
        let open = self.open_mut(tx, id)?;
        open.dirty = true;
        let (each, touched) = open.doc.author_all(writer, acts, time_s)?;
        log(tx, open, each.iter().flatten().flatten().cloned().collect());
        Ok((each, open.doc.project(&touched)))
    }

    /// Whether an act of ours could be written; nothing changes.
    ///
    /// # Errors
    /// The act breaks its rules or does not fit ([`SetError::Doc`]), or our own side failed.
    pub fn check<S: Read + ?Sized>(
        &mut self,
        tx: &Tx<'_, S>,
        id: DocId,
        writer: Writer,
        act: &Act,
    ) -> Result<(), SetError> {
        Ok(self.get(tx, id)?.check(writer, act)?)
    }

    /// Re-bases a document: the next epoch is stored, with what came for it before, and the old one let go.
    ///
    /// The patch is of everything that either epoch holds. `None` when covered changes are missing here still; ask
    /// again when they have come. Take [`super::uncovered_acts`] of the old epoch before.
    ///
    /// # Errors
    /// Our own side failed; the transaction must be dropped and [`DocSet::rolled_back`] called.
    pub fn rebase<S: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, S>,
        old: DocId,
        covered: &BTreeMap<ActorKey, u64>,
    ) -> Result<Option<Outcome>, SetError> {
        let before = self.get(tx, old)?;
        let mut keys = before.keys();
        let Some(mut new) = super::rebase(before, covered)? else {
            return Ok(None);
        };
        let id = new.id();
        self.open_mut(tx, id)?;
        let early = self.open.remove(&id).map_or_else(|| Document::new(id), |open| open.doc);
        let results = new.adopt(early)?;
        keys.extend(new.keys());
        delete_rows(tx, &id)?;
        delete_rows(tx, &old)?;
        write_whole(tx, &new)?;
        let patch = new.project(&keys);
        // Both are dirty: a dropped transaction must bring neither into use.
        for (id, doc) in [(id, new), (old, Document::new(old))] {
            let used = self.uses;
            self.open.insert(id, Open { doc, used, log: 0, log_bytes: 0, dirty: true });
        }
        Ok(Some(Outcome { each: Vec::new(), patch, refused: results.refused }))
    }

    /// Every document of which anything is stored.
    ///
    /// # Errors
    /// Storage.
    pub fn stored<S: Read + ?Sized>(tx: &Tx<'_, S>) -> Result<BTreeSet<DocId>, StoreError> {
        let mut ids = BTreeSet::new();
        for (mark, tail_bytes) in [(b'b', 0), (b'l', 4), (b'w', 4)] {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = tx.scan(&[b'd', mark], after.as_deref(), SCAN_ROWS)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (key, _) in &page {
                    let id = key.get(2..key.len().saturating_sub(tail_bytes)).unwrap_or_default();
                    ids.extend(wire::decode::<DocId>(id, id.len()).ok());
                }
            }
        }
        Ok(ids)
    }

    /// A document as its rows have it; `epoch` is the present one of its kind.
    ///
    /// # Errors
    /// Storage.
    pub fn saved<S: Read + ?Sized>(tx: &Tx<'_, S>, id: DocId, epoch: u32) -> Result<SavedDocument, StoreError> {
        Ok(SavedDocument {
            id,
            epoch,
            saved: tx.get(&key(b'b', &id))?,
            state: tx.get(&key(b's', &id))?.unwrap_or_default(),
            log: rows(tx, &key(b'l', &id))?,
            waiting: rows(tx, &key(b'w', &id))?,
        })
    }

    /// Takes in a document of a snapshot, beside what is here of it and of `old`, the epoch that it ends here.
    ///
    /// # Errors
    /// Our own side failed; the transaction must be dropped and [`DocSet::rolled_back`] called.
    pub fn restore<S: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, S>,
        saved: &SavedDocument,
        old: Option<DocId>,
    ) -> Result<Restored, SetError> {
        let id = saved.id;
        // What came early of epochs that it leaps over is shown nowhere, ever.
        for epoch in old.map_or(id.epoch, |old| old.epoch.saturating_add(1))..id.epoch {
            let between = DocId { epoch, ..id };
            delete_rows(tx, &between)?;
            self.open.remove(&between);
        }
        let has_rows = |id: &DocId| {
            let first = |mark| [&key(mark, id)[..], &0u32.to_be_bytes()].concat();
            let keys = [key(b'b', id), key(b's', id), first(b'l'), first(b'w')];
            keys.iter().try_fold(false, |found, key| Ok::<bool, StoreError>(found || tx.get_bytes(key)?.is_some()))
        };
        let here = has_rows(&id)?;
        // What came early for an epoch that begins with this is shown nowhere yet, even if the snapshot adds nothing.
        let is_shown = old.is_none();
        let old = old.map(|old| Ok::<_, StoreError>((old, has_rows(&old)?))).transpose()?;
        let old = old.filter(|(_, here)| *here).map(|(old, _)| old);
        if !here && old.is_none() {
            self.open.remove(&id);
            write_saved(tx, saved)?;
            return Ok(Restored::Whole);
        }
        let mut new = saved.open()?;
        let mut keys = new.keys();
        let mut refused = Vec::new();
        // A document that is damaged here has nothing to add; its rows are replaced.
        let local = match here {
            true => match self.open_mut(tx, id) {
                Ok(open) => Some(&open.doc),
                Err(SetError::Doc(_)) => None,
                Err(error) => return Err(error),
            },
            false => None,
        };
        if let Some(local) = local {
            if is_shown && local.covers(&new) {
                return Ok(Restored::Known);
            }
            keys.extend(local.keys());
            refused = new.merge(local)?;
            // What waited here for changes that the snapshot brings shows now, too.
            if !proof::sown("what_waited_is_not_shown") {
                keys.extend(new.keys());
            }
        }
        if let Some(old) = old {
            // A document that is damaged here has nothing to add; its rows are replaced.
            if let Ok(open) = self.open_mut(tx, old) {
                keys.extend(open.doc.keys());
            }
            delete_rows(tx, &old)?;
            let used = self.uses;
            self.open.insert(old, Open { doc: Document::new(old), used, log: 0, log_bytes: 0, dirty: true });
        }
        delete_rows(tx, &id)?;
        write_whole(tx, &new)?;
        let patch = new.project(&keys);
        let used = self.uses;
        self.open.insert(id, Open { doc: new, used, log: 0, log_bytes: 0, dirty: true });
        Ok(Restored::Merged(Box::new(Outcome { each: Vec::new(), patch, refused })))
    }

    /// The transaction is durable: documents may be closed again.
    pub fn committed(&mut self) {
        for open in self.open.values_mut() {
            open.dirty = false;
        }
        self.close_old();
    }

    /// The transaction was dropped: documents it changed are forgotten and opened afresh.
    pub fn rolled_back(&mut self) {
        self.open.retain(|_, open| !open.dirty);
    }

    /// The months of which this node holds a visitors document of a campus, in any epoch.
    ///
    /// # Errors
    /// Storage.
    pub fn visitor_months<S: Read + ?Sized>(tx: &Tx<'_, S>, campus: CampusId) -> Result<BTreeSet<u16>, StoreError> {
        let mut months = BTreeSet::new();
        for (mark, tail_bytes) in [(b'b', 0), (b'l', 4), (b'w', 4)] {
            // Ids begin with the kind's number and the campus, whatever follows.
            let first = DocId { kind: DocKind::Visitors { campus, month: 0 }, epoch: 0 };
            let mut prefix = key(mark, &first);
            prefix.truncate(prefix.len() - 2);
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = tx.scan(&prefix, after.as_deref(), SCAN_ROWS)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (key, _) in &page {
                    let id = key.get(2..key.len() - tail_bytes).unwrap_or_default();
                    if let Ok(DocId { kind: DocKind::Visitors { month, .. }, .. }) = wire::decode(id, id.len()) {
                        months.insert(month);
                    }
                }
            }
        }
        Ok(months)
    }

    /// Closes a document that failed; the next use opens it afresh.
    pub fn forget(&mut self, id: DocId) {
        self.open.remove(&id);
    }

    /// How many documents are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    fn open_mut<S: Read + ?Sized>(&mut self, tx: &Tx<'_, S>, id: DocId) -> Result<&mut Open, SetError> {
        self.uses += 1;
        if !self.open.contains_key(&id) {
            let opened = read(tx, id, self.uses)?;
            self.open.insert(id, opened);
            self.close_old();
        }
        let used = self.uses;
        let open = self.open.entry(id).or_insert_with(|| Open {
            doc: Document::new(id),
            used,
            log: 0,
            log_bytes: 0,
            dirty: false,
        });
        open.used = used;
        Ok(open)
    }

    /// Closes the least used; those with uncommitted changes stay open beyond the bound until the commit.
    fn close_old(&mut self) {
        while self.open.len() > self.open_max {
            let newest = self.uses;
            let old = self.open.iter().filter(|(_, o)| !o.dirty && o.used < newest);
            let Some(id) = old.min_by_key(|(_, o)| o.used).map(|(id, _)| *id) else {
                return;
            };
            self.open.remove(&id);
        }
    }
}

fn read<S: Read + ?Sized>(tx: &Tx<'_, S>, id: DocId, used: u64) -> Result<Open, SetError> {
    let SavedDocument { saved, state, log, waiting, .. } = DocSet::saved(tx, id, id.epoch)?;
    let doc = Document::of_parts(id, saved.as_deref(), state, &log, &waiting)?;
    let log_bytes = log.iter().map(Vec::len).sum();
    Ok(Open { doc, used, log: log.len() as u32, log_bytes, dirty: false })
}

fn rows<S: Read + ?Sized>(tx: &Tx<'_, S>, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut out = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = tx.scan(prefix, after.as_deref(), SCAN_ROWS)?;
        let Some((last, _)) = page.last() else {
            return Ok(out);
        };
        after = Some(last.clone());
        for (key, value) in &page {
            // Document ids are self-delimiting, so only this document's rows have a four-byte tail.
            if key.len() == prefix.len() + 4 {
                out.push(crate::store::decode_row(key, value)?);
            }
        }
    }
}

/// Writes a document of which no row is there.
fn write_whole<S: Read + ?Sized>(tx: &mut Tx<'_, S>, doc: &Document) -> Result<(), StoreError> {
    let id = doc.id();
    let waiting: Vec<_> = doc.waiting().map(|(a, b)| (a, b.to_vec())).collect();
    // Of a document in which nothing is left nothing is kept: that is how it goes.
    if doc.changes() > 0 || !waiting.is_empty() || *doc.state() != DocState::default() {
        tx.put(key(b'b', &id), &doc.save());
        tx.put(key(b's', &id), doc.state());
    }
    write_waiting(tx, &id, &waiting)
}

/// Writes a document as it was saved elsewhere.
fn write_saved<S: Read + ?Sized>(tx: &mut Tx<'_, S>, document: &SavedDocument) -> Result<(), StoreError> {
    let id = document.id;
    if let Some(saved) = &document.saved {
        tx.put(key(b'b', &id), saved);
    }
    if document.state != DocState::default() {
        tx.put(key(b's', &id), &document.state);
    }
    for (mark, rows) in [(b'l', &document.log), (b'w', &document.waiting)] {
        let prefix = key(mark, &id);
        for (at, bytes) in (0u32..).zip(rows) {
            tx.put([&prefix[..], &at.to_be_bytes()].concat(), bytes);
        }
    }
    Ok(())
}

fn log<S: Read + ?Sized>(tx: &mut Tx<'_, S>, open: &mut Open, entered: Vec<Vec<u8>>) {
    let id = open.doc.id();
    let bytes: usize = entered.iter().map(Vec::len).sum();
    if open.log as usize + entered.len() <= LOG_CHANGES_MAX as usize && open.log_bytes + bytes <= LOG_BYTES_MAX {
        open.log_bytes += bytes;
        for bytes in entered {
            tx.put(log_key(&id, open.log), &bytes);
            open.log += 1;
        }
        return;
    }
    tx.put(key(b'b', &id), &open.doc.save());
    for at in 0..open.log {
        tx.delete(log_key(&id, at));
    }
    (open.log, open.log_bytes) = (0, 0);
}

fn write_waiting<S: Read + ?Sized>(
    tx: &mut Tx<'_, S>,
    id: &DocId,
    rows: &[(ActorKey, Vec<u8>)],
) -> Result<(), StoreError> {
    let prefix = key(b'w', id);
    let row = |at: usize| [&prefix[..], &(at as u32).to_be_bytes()].concat();
    let mut at = rows.len();
    while tx.get_bytes(&row(at))?.is_some() {
        tx.delete(row(at));
        at += 1;
    }
    for (at, (_, bytes)) in rows.iter().enumerate() {
        tx.put(row(at), bytes);
    }
    Ok(())
}

/// Deletes all rows of a document.
fn delete_rows<S: Read + ?Sized>(tx: &mut Tx<'_, S>, id: &DocId) -> Result<(), StoreError> {
    for mark in [b'l', b'w'] {
        let prefix = key(mark, id);
        let mut at = 0u32;
        while tx.get_bytes(&[&prefix[..], &at.to_be_bytes()].concat())?.is_some() {
            tx.delete([&prefix[..], &at.to_be_bytes()].concat());
            at += 1;
        }
    }
    tx.delete(key(b'b', id));
    tx.delete(key(b's', id));
    Ok(())
}

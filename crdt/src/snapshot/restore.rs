//! Taking a snapshot in: the whole of it is checked first, then it is cut into steps of one short turn each.
//!
//! Every step but the last says what more entries would say sooner or later (blocks, lifts, changes of documents), so a
//! box that stops between two of them is a sound box, and doing a step again changes nothing. The last step moves the
//! cursors. Leaves to others: where the bytes lie (shells), the turn itself (`edge`).

use super::{CHUNK_BYTES, Item, ItemReader, Manifest, SavedDocument, SignedManifest, SnapshotRefused, chunk_hash};
use crate::channel::Place;
use crate::docs::{DocError, DocId, Document, Patch};
use crate::entry::{Body, NodeRecord, RebaseRecord};
use crate::ids::Writer;
use ed25519_dalek::VerifyingKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most blocks and lifts in one step.
const STEP_WORDS_MAX: usize = 1_024;
/// Most plain values that the documents of one step come to, unless one alone has more.
const STEP_VALUES_MAX: usize = 500;

/// One thing to take in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// As the snapshot says it.
    Item(Item),
    /// A document, and the plain values of all of it.
    Document(Box<SavedDocument>, Box<Patch>),
}

/// What one turn takes in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// In this order.
    pub pieces: Vec<Piece>,
    /// Every re-base that the snapshot names, by the epoch that ends.
    pub rebases: Arc<BTreeMap<DocId, RebaseRecord>>,
    /// On the last one: the snapshot whose feeds go on from their bases.
    pub closing: Option<Arc<SignedManifest>>,
}

impl Step {
    /// About how many rows it writes.
    pub fn values(&self) -> usize {
        let of = |piece: &Piece| match piece {
            Piece::Item(_) => 1,
            Piece::Document(_, patch) => 1 + patch.len(),
        };
        self.pieces.iter().map(of).sum()
    }
}

/// What a snapshot is judged by: the keys that a node knows, and where it stands.
#[derive(Clone, Debug)]
pub struct Judge {
    hub_keys: Vec<VerifyingKey>,
    writers: BTreeMap<Writer, (Place, VerifyingKey)>,
    place: Place,
}

impl Judge {
    /// What the registry tells a node at `place` of keys.
    pub fn new<'r>(place: Place, nodes: impl IntoIterator<Item = &'r NodeRecord>) -> Judge {
        let mut judge = Judge { hub_keys: Vec::new(), writers: BTreeMap::new(), place };
        for record in nodes {
            // A key that is none belongs to nobody.
            if let Ok(key) = VerifyingKey::from_bytes(&record.key) {
                judge.know(record, key);
                judge.hub_keys.extend(record.writer.node.is_hub().then_some(key));
            }
        }
        judge
    }

    fn know(&mut self, record: &NodeRecord, key: VerifyingKey) {
        let place = Place { node: record.writer.node, campus: record.campus };
        self.writers.insert(record.writer, (place, key));
    }

    /// A key of headquarters proved in another way.
    #[must_use]
    pub fn trusting(mut self, hub_key: VerifyingKey) -> Judge {
        self.hub_keys.push(hub_key);
        self
    }

    /// Whether a snapshot is headquarters' and for this node.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn admit(&self, signed: &SignedManifest) -> Result<(), SnapshotRefused> {
        signed.verify(&self.hub_keys)?;
        match signed.manifest.audience.includes(self.place) {
            true => Ok(()),
            false => Err(SnapshotRefused::OtherAudience(signed.manifest.audience)),
        }
    }
}

/// Reads a whole snapshot before anything of it is taken in.
pub struct Check {
    signed: Arc<SignedManifest>,
    judge: Judge,
    stream: Stream,
    rank: u8,
    items: u64,
    heads: usize,
    rebases: BTreeMap<DocId, RebaseRecord>,
    documents: BTreeSet<DocId>,
    closing: Vec<Item>,
}

impl Check {
    /// Begins with the manifest.
    ///
    /// # Errors
    /// Foreign, for others, or beyond a bound.
    pub fn new(signed: SignedManifest, judge: Judge) -> Result<Check, SnapshotRefused> {
        judge.admit(&signed)?;
        Ok(Check {
            signed: Arc::new(signed),
            judge,
            stream: Stream::default(),
            rank: 0,
            items: 0,
            heads: 0,
            rebases: BTreeMap::new(),
            documents: BTreeSet::new(),
            closing: Vec::new(),
        })
    }

    /// The next chunk.
    ///
    /// # Errors
    /// Anything about it that is not as headquarters cut it.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), SnapshotRefused> {
        self.stream.take(&self.signed.manifest, bytes)?;
        while let Some(item) = self.stream.reader.take()? {
            self.item(item)?;
        }
        Ok(())
    }

    fn item(&mut self, item: Item) -> Result<(), SnapshotRefused> {
        let rank = item.rank();
        if rank < self.rank || !item.belongs(self.signed.manifest.audience) {
            return Err(SnapshotRefused::damaged("an item out of its place"));
        }
        self.rank = rank;
        self.items += 1;
        match &item {
            Item::Document(document) => {
                if let Some(fault) = document.fault() {
                    return Err(SnapshotRefused::damaged(fault));
                }
                if !self.documents.insert(document.id) {
                    return Err(SnapshotRefused::damaged(format!("{} is in it twice", document.id)));
                }
                document.open().map_err(SnapshotRefused::damaged)?;
            }
            Item::Rebase(record) => drop(self.rebases.insert(record.old, (**record).clone())),
            Item::Registry(body) => self.registered(body)?,
            Item::Head(head) => {
                let base = self.signed.manifest.base(&head.feed);
                let writer = self.judge.writers.get(&head.feed.writer);
                let sound = writer.is_some_and(|(place, key)| {
                    head.feed.channel.may_write(*place) && head.verify(key).is_ok() && base == Some(head.end)
                });
                if !sound {
                    return Err(SnapshotRefused::damaged(format!("the base of {} is not its writer's", head.feed)));
                }
                self.heads += 1;
            }
            _ => {}
        }
        if item.is_closing() {
            self.closing.push(item);
        }
        Ok(())
    }

    /// The registry of the snapshot tells the keys of the writers that follow.
    fn registered(&mut self, body: &Body) -> Result<(), SnapshotRefused> {
        if let Some(fault) = body.fault() {
            return Err(SnapshotRefused::damaged(fault));
        }
        if let Body::Node(record) = body {
            let key = VerifyingKey::from_bytes(&record.key).map_err(SnapshotRefused::damaged)?;
            self.judge.know(record, key);
        }
        Ok(())
    }

    /// The last chunk has come: the snapshot is whole and sound.
    ///
    /// # Errors
    /// Something is missing.
    pub fn finish(self) -> Result<Steps, SnapshotRefused> {
        let manifest = &self.signed.manifest;
        let whole = self.stream.is_whole(manifest) && self.items == manifest.items;
        if !whole || self.heads != manifest.feeds.len() {
            return Err(SnapshotRefused::damaged("it ends too early"));
        }
        Ok(Steps {
            signed: self.signed,
            stream: Stream::default(),
            judge: self.judge,
            rebases: Arc::new(self.rebases),
            closing: self.closing,
        })
    }
}

/// A checked snapshot on its way into turns: its chunks are read a second time.
pub struct Steps {
    signed: Arc<SignedManifest>,
    stream: Stream,
    judge: Judge,
    rebases: Arc<BTreeMap<DocId, RebaseRecord>>,
    closing: Vec<Item>,
}

impl Steps {
    /// With the writers that this snapshot's registry names: for one that stands on it.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// What is taken in.
    pub fn manifest(&self) -> &Manifest {
        &self.signed.manifest
    }

    /// The steps that a chunk completes. Opens documents, so it is not for the writer's thread.
    ///
    /// # Errors
    /// The bytes are not those that were checked.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<Vec<Step>, SnapshotRefused> {
        self.stream.take(&self.signed.manifest, bytes)?;
        let mut steps = Vec::new();
        let (mut pieces, mut values) = (Vec::new(), 0);
        while let Some(item) = self.stream.reader.take()? {
            match item {
                Item::Document(saved) => {
                    let patch = saved.open().map_err(SnapshotRefused::damaged)?.project_all();
                    let more = patch.len();
                    if !pieces.is_empty() && values + more > STEP_VALUES_MAX {
                        steps.push(self.step(std::mem::take(&mut pieces)));
                        values = 0;
                    }
                    values += more;
                    pieces.push(Piece::Document(saved, Box::new(patch)));
                }
                word if !word.is_closing() => {
                    if pieces.len() >= STEP_WORDS_MAX {
                        steps.push(self.step(std::mem::take(&mut pieces)));
                    }
                    pieces.push(Piece::Item(word));
                }
                _ => {}
            }
        }
        if !pieces.is_empty() {
            steps.push(self.step(pieces));
        }
        Ok(steps)
    }

    fn step(&self, pieces: Vec<Piece>) -> Step {
        Step { pieces, rebases: Arc::clone(&self.rebases), closing: None }
    }

    /// The last step.
    ///
    /// # Errors
    /// Not all chunks have been given.
    pub fn closing(self) -> Result<Step, SnapshotRefused> {
        if !self.stream.is_whole(&self.signed.manifest) {
            return Err(SnapshotRefused::damaged("it ends too early"));
        }
        let pieces = self.closing.into_iter().map(Piece::Item).collect();
        Ok(Step { pieces, rebases: self.rebases, closing: Some(self.signed) })
    }
}

/// Chunks of one snapshot as they come, in order.
#[derive(Default)]
struct Stream {
    chunks: usize,
    reader: ItemReader,
}

impl Stream {
    fn take(&mut self, manifest: &Manifest, bytes: &[u8]) -> Result<(), SnapshotRefused> {
        let expected = manifest.chunks.get(self.chunks);
        let length = u32::try_from(self.chunks).map_or(0, |chunk| manifest.chunk_bytes(chunk));
        if bytes.len() > CHUNK_BYTES || bytes.len() != length || expected != Some(&chunk_hash(bytes)) {
            return Err(SnapshotRefused::damaged(format!("chunk {} is not what was signed", self.chunks)));
        }
        self.chunks += 1;
        self.reader.push(bytes);
        Ok(())
    }

    fn is_whole(&self, manifest: &Manifest) -> bool {
        self.chunks == manifest.chunks.len() && self.reader.is_empty()
    }
}

impl SavedDocument {
    /// The document, opened.
    ///
    /// # Errors
    /// It is not what was saved.
    pub fn open(&self) -> Result<Document, DocError> {
        Document::of_parts(self.id, self.saved.as_deref(), self.state.clone(), &self.log, &self.waiting)
    }
}

//! One document in one epoch: taking changes of others, writing our own, plain values out of both.
//!
//! A writer's changes are taken strictly in the order of its feed; a change whose dependencies are missing waits, and
//! with it all later ones of its writer, so that every node judges every change against the same ancestors. Whatever
//! is refused leaves the document untouched. Leaves to others: bytes (`chunk`), meaning (`act`), storage (`set`).

use super::act::{Act, ActError, Effect};
use super::chunk::{self, CHANGE_OPS_MAX, CHANGE_TIME_S_MAX, ChangeRefused, FlatChange, FlatOp, OpRef, Value};
use super::outcome::{Applied, Authored, DocError, DocState, Patch, Results, Taken};
use super::view::{Fields, View, op_refs};
use super::{DocId, DocKind};
use super::{people, policy, visitors};
use crate::channel::Place;
use crate::feed::Hash;
use crate::ids::Writer;
use crate::proof;
use crate::wire;
use automerge::{Automerge, Change, ChangeHash, ROOT, ReadDoc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most changes of one writer that wait for others in one document; beyond, the writer is refused.
pub const WAITING_CHANGES_MAX: usize = 1000;

/// The engine's name for a writer: the first 16 bytes of a hash over (node, incarnation).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActorKey(pub [u8; 16]);

/// The actor of a writer.
pub fn actor_of(writer: Writer) -> ActorKey {
    match proof::sown("actor_without_its_life") {
        true => key_of(b"yika actor", &wire::encode(&writer.node)),
        false => key_of(b"yika actor", &wire::encode(&writer)),
    }
}

pub(super) fn key_of(purpose: &[u8], bytes: &[u8]) -> ActorKey {
    let hash = Sha256::new().chain_update(purpose).chain_update(bytes).finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    ActorKey(key)
}

/// A change that passed every check that needs no document.
#[derive(Clone, Debug)]
pub struct ParsedChange {
    flat: FlatChange,
    change: Change,
    act: Act,
}

impl ParsedChange {
    /// The act it carries.
    pub fn act(&self) -> &Act {
        &self.act
    }
    /// Its writer's actor.
    pub fn actor(&self) -> ActorKey {
        ActorKey(self.flat.actor)
    }
    /// Its number among its writer's changes of the document, from 1.
    pub fn seq(&self) -> u64 {
        self.flat.seq
    }
    /// Its hash.
    pub fn hash(&self) -> Hash {
        Hash(self.change.hash().0)
    }
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.change.raw_bytes()
    }
}

/// Reads a change of somebody else's: everything that can be judged without the document.
///
/// # Errors
/// Refused changes; the caller ignores the writer's later entries ([`Document::take`] does all of it).
pub fn admit(doc: &DocId, writer: Writer, place: Place, bytes: &[u8]) -> Result<ParsedChange, ChangeRefused> {
    if place.node != writer.node || !doc.may_write(place) {
        return Err(ChangeRefused::MayNotWrite);
    }
    let (flat, change) = chunk::read(bytes)?;
    if ActorKey(flat.actor) != actor_of(writer) {
        return Err(ChangeRefused::ForeignActor);
    }
    let bad = |e: ActError| ChangeRefused::BadAct(e.to_string());
    let act = Act::from_message(&flat.message).map_err(bad)?;
    let effect = Effect::of(act.writes(&doc.kind).map_err(bad)?);
    let mut keys = BTreeSet::new();
    for op in &flat.ops {
        let lone = op.put.is_none() && op.preds.is_empty();
        if lone || !keys.insert(op.key.as_str()) || !effect.permits(&op.key, op.put.as_ref()) {
            return Err(ChangeRefused::NotTheAct(op.key.clone()));
        }
    }
    Ok(ParsedChange { flat, change, act })
}

#[derive(Clone, Copy, Debug)]
struct Known {
    actor: ActorKey,
    seq: u64,
    max_op: u64,
}

/// An open document.
pub struct Document {
    id: DocId,
    pub(super) engine: Automerge,
    known: BTreeMap<[u8; 32], Known>,
    pub(super) by_actor: BTreeMap<ActorKey, Vec<[u8; 32]>>,
    pub(super) waiting: BTreeMap<ActorKey, VecDeque<ParsedChange>>,
    state: DocState,
    max_op: u64,
}

impl Document {
    /// A document without changes.
    pub fn new(id: DocId) -> Self {
        Document {
            id,
            engine: Automerge::new(),
            known: BTreeMap::new(),
            by_actor: BTreeMap::new(),
            waiting: BTreeMap::new(),
            state: DocState::default(),
            max_op: 0,
        }
    }

    /// Opens what [`Document::save`] of this store wrote; never for bytes of others.
    ///
    /// # Errors
    /// [`DocError::Damaged`] when the bytes are not those that were saved.
    pub fn open(id: DocId, saved: &[u8], state: DocState) -> Result<Self, DocError> {
        let damaged = |cause: &str| DocError::Damaged { doc: id, cause: cause.to_owned() };
        let (sum, body) = saved.split_at_checked(32).ok_or_else(|| damaged("too short"))?;
        if sum != digest(&id, body) {
            return Err(damaged("checksum"));
        }
        let mut doc = Document { state, ..Document::new(id) };
        doc.engine = Automerge::load(body).map_err(|e| damaged(&e.to_string()))?;
        let metas = doc.engine.get_changes_meta(&[]);
        let metas: Vec<_> = metas.iter().map(|m| (m.hash.0, m.actor.to_bytes().to_vec(), m.seq, m.max_op)).collect();
        for (hash, actor, seq, max_op) in metas {
            let actor = <[u8; 16]>::try_from(actor).map_err(|_| damaged("foreign actor"))?;
            doc.note(hash, Known { actor: ActorKey(actor), seq, max_op });
        }
        Ok(doc)
    }

    /// The document as bytes for our own store, with a checksum. Waiting changes are not in it ([`Document::waiting`]).
    pub fn save(&self) -> Vec<u8> {
        let body = self.engine.save();
        [&digest(&self.id, &body)[..], &body].concat()
    }

    /// Which document.
    pub fn id(&self) -> DocId {
        self.id
    }

    /// Which writers are ignored.
    pub fn state(&self) -> &DocState {
        &self.state
    }

    /// Bytes of the waiting changes, each writer's in order.
    pub fn waiting(&self) -> impl Iterator<Item = (ActorKey, &[u8])> {
        self.waiting.iter().flat_map(|(a, queue)| queue.iter().map(|p| (*a, p.bytes())))
    }

    /// How many changes it holds.
    pub fn changes(&self) -> usize {
        self.known.len()
    }

    /// How many changes of each writer are in the document: what a re-base at this moment covers.
    pub fn covered(&self) -> BTreeMap<ActorKey, u64> {
        self.by_actor.iter().map(|(a, hashes)| (*a, hashes.len() as u64)).collect()
    }

    /// Takes one feed entry's change: checks, applies, projects; a refusal marks its writer until the re-base.
    ///
    /// # Errors
    /// Inner: the change is refused and the document as before. Outer: our own side failed.
    pub fn take(
        &mut self,
        writer: Writer,
        place: Place,
        bytes: &[u8],
    ) -> Result<Result<Applied, ChangeRefused>, DocError> {
        let mut results = self.take_all(&[(writer, place, bytes)])?;
        let patch = self.project(&results.touched);
        Ok(match results.each.pop() {
            Some(Ok(Taken::Entered)) => {
                let Results { entered, refused, .. } = results;
                Ok(Applied::Projected { patch: Box::new(patch), entered, refused })
            }
            Some(Ok(Taken::Waiting)) => Ok(Applied::Waiting),
            Some(Ok(Taken::Known)) => Ok(Applied::Known),
            Some(Ok(Taken::Ignored)) | None => Ok(Applied::Ignored),
            Some(Err(refused)) => Err(refused),
        })
    }

    /// Takes many entries at once; the touched plain values come once, from [`Document::project`].
    ///
    /// # Errors
    /// Our own side failed: drop the document and open it again.
    pub fn take_all(&mut self, entries: &[(Writer, Place, &[u8])]) -> Result<Results, DocError> {
        let mut batch = Batch::default();
        let mut results = Results::default();
        for (writer, place, bytes) in entries {
            let actor = actor_of(*writer);
            let taken = match self.state.refused.contains_key(&actor) {
                true => Ok(Taken::Ignored),
                false => match admit(&self.id, *writer, *place, bytes) {
                    Ok(parsed) => self.place(parsed, &mut batch)?,
                    Err(refused) => Err(refused),
                },
            };
            if let Err(refused) = &taken {
                self.state.refused.insert(actor, refused.to_string());
            }
            if matches!(taken, Ok(Taken::Entered)) {
                self.wake(&mut batch)?;
            }
            results.each.push(taken);
        }
        self.flush(&mut batch)?;
        results.touched = batch.touched;
        results.entered = batch.entered;
        results.refused = batch.refused;
        Ok(results)
    }

    /// Writes one act as one change of ours. `None`: the document says so already.
    ///
    /// # Errors
    /// The act breaks its rules or does not fit; the document is as before.
    pub fn author(&mut self, writer: Writer, act: &Act, time_s: i64) -> Result<Option<(Vec<u8>, Patch)>, DocError> {
        let (mut each, touched) = self.author_all(writer, std::slice::from_ref(act), time_s)?;
        match each.pop().unwrap_or(Ok(None))? {
            Some(bytes) => Ok(Some((bytes, self.project(&touched)))),
            None => Ok(None),
        }
    }

    /// Writes many acts, a change each (an import): the bytes of each, and the keys touched by all.
    ///
    /// # Errors
    /// Inner: that act breaks its rules or does not fit, the others hold. Outer: our own side failed.
    pub fn author_all(
        &mut self,
        writer: Writer,
        acts: &[Act],
        time_s: i64,
    ) -> Result<(Authored, BTreeSet<String>), DocError> {
        self.may_author(writer)?;
        let actor = actor_of(writer);
        let mut batch = Batch::default();
        let mut each = Vec::with_capacity(acts.len());
        for act in acts {
            let effect = match act.writes(&self.id.kind) {
                Ok(writes) => Effect::of(writes),
                Err(bad) => {
                    each.push(Err(bad.into()));
                    continue;
                }
            };
            // What the batch touched is read from the engine only after it got the batch.
            let reads_batch = effect.keys.keys().any(|k| batch.visible.contains_key(k));
            if reads_batch || !effect.emptied.is_empty() {
                self.flush(&mut batch)?;
            }
            each.push(self.author_one(actor, act, &effect, time_s, &mut batch));
        }
        self.flush(&mut batch)?;
        Ok((each, batch.touched))
    }

    /// Whether an act could be written as one change; nothing changes.
    ///
    /// # Errors
    /// As [`Document::author`].
    pub fn check(&self, writer: Writer, act: &Act) -> Result<(), DocError> {
        self.may_author(writer)?;
        let effect = Effect::of(act.writes(&self.id.kind)?);
        let batch = Batch::default();
        let ops = self.ops_for(&effect, &batch);
        // What the document says already is written by no change at all.
        if ops.is_empty() {
            return Ok(());
        }
        self.build(actor_of(writer), act.to_message()?, ops, 0, &batch).map(drop)
    }

    fn may_author(&self, writer: Writer) -> Result<(), DocError> {
        let actor = actor_of(writer);
        match self.state.refused.contains_key(&actor) || self.waiting.contains_key(&actor) {
            true => Err(DocError::Refused(self.id)),
            false => Ok(()),
        }
    }

    fn author_one(
        &mut self,
        actor: ActorKey,
        act: &Act,
        effect: &Effect,
        time_s: i64,
        batch: &mut Batch,
    ) -> Result<Option<Vec<u8>>, DocError> {
        let ops = self.ops_for(effect, batch);
        if ops.is_empty() {
            return Ok(None);
        }
        let (flat, change) = self.build(actor, act.to_message()?, ops, time_s, batch)?;
        let bytes = change.raw_bytes().to_vec();
        self.stage(flat, change, Seen::All, batch);
        Ok(Some(bytes))
    }

    /// Plain values of everything that the keys are about.
    pub fn project(&self, keys: &BTreeSet<String>) -> Patch {
        let now = View { engine: &self.engine, heads: None };
        match self.id.kind {
            DocKind::People { campus, .. } => {
                let persons = keys.iter().filter_map(|k| people::touched(k)).collect();
                Patch::People(people::project(&now, campus, &persons))
            }
            DocKind::Policy(_) => Patch::Policy(policy::project(&now, keys)),
            DocKind::Visitors { .. } => {
                let visitors = keys.iter().filter_map(|k| people::touched(k)).collect();
                Patch::Visitors(visitors::project(&now, &visitors))
            }
        }
    }

    /// Plain values of the whole document.
    pub fn project_all(&self) -> Patch {
        self.project(&self.keys())
    }

    /// Where a parsed change goes: into the batch, the queue, or nowhere.
    fn place(&mut self, parsed: ParsedChange, batch: &mut Batch) -> Result<Result<Taken, ChangeRefused>, DocError> {
        let actor = parsed.actor();
        if self.known.contains_key(&parsed.hash().0) {
            return Ok(Ok(Taken::Known));
        }
        let queue = self.waiting.get(&actor);
        if queue.is_some_and(|q| q.iter().any(|p| p.hash() == parsed.hash())) {
            return Ok(Ok(Taken::Known));
        }
        let held = self.by_actor.get(&actor).map_or(0, Vec::len) + queue.map_or(0, VecDeque::len);
        let expected = held as u64 + 1;
        if parsed.seq() < expected {
            return Ok(Err(ChangeRefused::SequenceReused(parsed.seq())));
        }
        if parsed.seq() > expected {
            return Ok(Err(ChangeRefused::SequenceGap { expected, got: parsed.seq() }));
        }
        if queue.is_some() || !self.is_ready(&parsed.flat) {
            if queue.map_or(0, VecDeque::len) >= WAITING_CHANGES_MAX {
                return Ok(Err(ChangeRefused::TooManyWaiting));
            }
            self.waiting.entry(actor).or_default().push_back(parsed);
            return Ok(Ok(Taken::Waiting));
        }
        match self.fits(&parsed.flat, batch)? {
            Ok(seen) => self.stage(parsed.flat, parsed.change, seen, batch),
            Err(refused) => return Ok(Err(refused)),
        }
        Ok(Ok(Taken::Entered))
    }

    /// Lets waiting changes in whose dependencies have come, until none moves.
    fn wake(&mut self, batch: &mut Batch) -> Result<(), DocError> {
        loop {
            let ready = |(_, queue): &(&ActorKey, &VecDeque<ParsedChange>)| {
                queue.front().is_some_and(|p| self.is_ready(&p.flat))
            };
            let Some(actor) = self.waiting.iter().find(ready).map(|(a, _)| *a) else {
                return Ok(());
            };
            let Some(queue) = self.waiting.get_mut(&actor) else {
                return Ok(());
            };
            let front = queue.pop_front();
            if queue.is_empty() {
                self.waiting.remove(&actor);
            }
            let Some(parsed) = front else { continue };
            match self.fits(&parsed.flat, batch)? {
                Ok(seen) => self.stage(parsed.flat, parsed.change, seen, batch),
                Err(refused) => {
                    self.waiting.remove(&actor);
                    self.state.refused.insert(actor, refused.to_string());
                    batch.refused.push((actor, refused));
                }
            }
        }
    }

    /// What enters by another way waits no longer.
    fn forget_waiting(&mut self, flat: &FlatChange) {
        let actor = ActorKey(flat.actor);
        if let Some(queue) = self.waiting.get_mut(&actor) {
            queue.retain(|parsed| parsed.seq() > flat.seq);
            if queue.is_empty() {
                self.waiting.remove(&actor);
            }
        }
    }

    fn is_ready(&self, flat: &FlatChange) -> bool {
        flat.deps.iter().all(|d| self.known.contains_key(d))
    }

    /// Whether a change continues its ancestors exactly: a pure function of the change and its ancestors.
    fn fits(&mut self, flat: &FlatChange, batch: &mut Batch) -> Result<Result<Seen, ChangeRefused>, DocError> {
        let deps: Vec<Known> = flat.deps.iter().filter_map(|d| self.known.get(d)).copied().collect();
        let own = deps.iter().filter(|k| k.actor.0 == flat.actor).map(|k| k.seq).max().unwrap_or(0);
        if own + 1 != flat.seq {
            return Ok(Err(ChangeRefused::NotAfterItself));
        }
        let expected = deps.iter().map(|k| k.max_op).max().unwrap_or(0) + 1;
        if flat.start_op != expected {
            return Ok(Err(ChangeRefused::WrongStart { expected, got: flat.start_op }));
        }
        let mut deps = flat.deps.clone();
        deps.sort_unstable();
        let at_heads = self.heads(batch).iter().all(|h| deps.binary_search(h).is_ok());
        if !at_heads {
            self.flush(batch)?;
        }
        let heads: Vec<ChangeHash> = deps.iter().map(|d| ChangeHash(*d)).collect();
        for op in &flat.ops {
            let seen = match at_heads {
                true => self.visible(&op.key, batch),
                false => op_refs(self.engine.get_all_at(ROOT, op.key.as_str(), &heads)),
            };
            if seen != op.preds {
                return Ok(Err(ChangeRefused::WrongPredecessors(op.key.clone())));
            }
        }
        Ok(Ok(if at_heads { Seen::All } else { Seen::Some }))
    }

    /// Heads with the batch's changes.
    fn heads(&self, batch: &Batch) -> BTreeSet<[u8; 32]> {
        match &batch.heads {
            Some(heads) => heads.clone(),
            None => self.engine.get_heads().into_iter().map(|h| h.0).collect(),
        }
    }

    /// Operations visible under a key, the batch's included.
    fn visible(&self, key: &str, batch: &Batch) -> Vec<OpRef> {
        match batch.visible.get(key) {
            Some(seen) => seen.clone(),
            None => op_refs(self.engine.get_all(ROOT, key)),
        }
    }

    /// Adds a checked change to the batch, for others to see.
    fn stage(&mut self, flat: FlatChange, change: Change, seen: Seen, batch: &mut Batch) {
        self.enter(&flat, change, batch);
        for (at, op) in flat.ops.into_iter().enumerate() {
            let mut left = match seen {
                // It replaces exactly what is visible.
                Seen::All => Vec::new(),
                Seen::Some => self.visible(&op.key, batch),
            };
            left.retain(|s| !op.preds.contains(s));
            if op.put.is_some() {
                left.push(OpRef { counter: flat.start_op + at as u64, actor: flat.actor });
                left.sort_unstable();
            }
            batch.visible.insert(op.key, left);
        }
    }

    /// Adds a change to the batch; what it shows is known when the engine has it.
    fn enter(&mut self, flat: &FlatChange, change: Change, batch: &mut Batch) {
        let mut heads = self.heads(batch);
        for dep in &flat.deps {
            heads.remove(dep);
        }
        heads.insert(change.hash().0);
        batch.heads = Some(heads);
        let known = Known { actor: ActorKey(flat.actor), seq: flat.seq, max_op: flat.max_op() };
        self.note(change.hash().0, known);
        batch.entered.push(change.raw_bytes().to_vec());
        batch.staged.push(change);
    }

    fn note(&mut self, hash: [u8; 32], known: Known) {
        self.max_op = self.max_op.max(known.max_op);
        self.known.insert(hash, known);
        self.by_actor.entry(known.actor).or_default().push(hash);
    }

    /// Hands the batch to the engine.
    fn flush(&mut self, batch: &mut Batch) -> Result<(), DocError> {
        batch.touched.append(&mut std::mem::take(&mut batch.visible).into_keys().collect());
        batch.heads = None;
        if batch.staged.is_empty() {
            return Ok(());
        }
        let staged = std::mem::take(&mut batch.staged);
        self.engine.apply_changes(staged).map_err(|e| DocError::Engine { doc: self.id, cause: e.to_string() })
    }

    /// The operations by which an effect becomes true, given what is visible.
    fn ops_for(&self, effect: &Effect, batch: &Batch) -> Vec<FlatOp> {
        let now = View { engine: &self.engine, heads: None };
        let mut wanted: BTreeMap<String, Option<Value>> = BTreeMap::new();
        for prefix in &effect.emptied {
            wanted.extend(now.under(prefix).into_iter().map(|(key, _)| (key, None)));
        }
        wanted.extend(effect.keys.clone());
        let mut ops = Vec::new();
        for (key, put) in wanted {
            let preds = self.visible(&key, batch);
            // A lone equal value stays; a conflict is settled by writing, also with the winning value.
            let settled = preds.len() <= 1 && now.field(&key) == put;
            if !settled {
                ops.push(FlatOp { key, put, preds });
            }
        }
        ops
    }

    fn build(
        &self,
        actor: ActorKey,
        message: String,
        ops: Vec<FlatOp>,
        time_s: i64,
        batch: &Batch,
    ) -> Result<(FlatChange, Change), DocError> {
        if ops.len() > CHANGE_OPS_MAX {
            return Err(DocError::TooLarge(ChangeRefused::TooManyOps));
        }
        let own = self.by_actor.get(&actor);
        let mut deps = self.heads(batch);
        deps.extend(own.and_then(|hashes| hashes.last()).copied());
        let flat = FlatChange {
            actor: actor.0,
            seq: own.map_or(0, Vec::len) as u64 + 1,
            start_op: self.max_op + 1,
            time_s: time_s.clamp(0, CHANGE_TIME_S_MAX),
            message,
            deps: deps.into_iter().collect(),
            ops,
        };
        let change = flat.encode().ok_or(DocError::TooLarge(ChangeRefused::Malformed("counter")))?;
        // What we say must pass what everybody checks.
        chunk::read(change.raw_bytes()).map_err(DocError::TooLarge)
    }
}

/// How much of what is visible a change has seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Everything: it follows all heads.
    All,
    /// What its dependencies show.
    Some,
}

#[derive(Default)]
struct Batch {
    staged: Vec<Change>,
    heads: Option<BTreeSet<[u8; 32]>>,
    visible: BTreeMap<String, Vec<OpRef>>,
    touched: BTreeSet<String>,
    entered: Vec<Vec<u8>>,
    refused: Vec<(ActorKey, ChangeRefused)>,
}

fn digest(id: &DocId, body: &[u8]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(b"yika document").chain_update(wire::encode(id)).chain_update(body);
    hash.finalize().into()
}

impl Document {
    /// A document from what a store keeps of it.
    ///
    /// # Errors
    /// [`DocError::Damaged`] when it is not what was kept.
    pub fn of_parts(
        id: DocId,
        saved: Option<&[u8]>,
        state: DocState,
        log: &[Vec<u8>],
        waiting: &[Vec<u8>],
    ) -> Result<Self, DocError> {
        let mut doc = match saved {
            Some(saved) => Document::open(id, saved, state)?,
            None => Document { state, ..Document::new(id) },
        };
        doc.replay(log)?;
        doc.queue(waiting)?;
        Ok(doc)
    }

    /// Whether everything of `other` is in this document: entered or waiting.
    pub(super) fn covers(&self, other: &Document) -> bool {
        let waits = |p: &ParsedChange| self.waiting.values().flatten().any(|ours| ours.hash() == p.hash());
        let entered = other.known.keys().all(|hash| self.known.contains_key(hash));
        let refused = other.state.refused.keys().all(|actor| self.state.refused.contains_key(actor));
        entered && refused && other.waiting.values().flatten().all(|p| self.known.contains_key(&p.hash().0) || waits(p))
    }

    /// Brings in what another copy of this document has more: entered, waiting, refused. What cannot follow, because
    /// its writer wrote twice, is left out. Writers whose waiting changes turned out bad.
    pub(super) fn merge(&mut self, other: &Document) -> Result<Vec<(ActorKey, ChangeRefused)>, DocError> {
        let mut batch = Batch::default();
        for change in other.engine.get_changes(&[]) {
            if self.known.contains_key(&change.hash().0) {
                continue;
            }
            let (flat, change) = chunk::read(change.raw_bytes()).map_err(|e| self.damaged(e))?;
            let next = self.by_actor.get(&ActorKey(flat.actor)).map_or(0, Vec::len) as u64 + 1;
            if self.is_ready(&flat) && flat.seq == next {
                self.forget_waiting(&flat);
                self.enter(&flat, change, &mut batch);
            }
        }
        self.flush(&mut batch)?;
        for (actor, cause) in &other.state.refused {
            self.state.refused.entry(*actor).or_insert_with(|| cause.clone());
        }
        for parsed in other.waiting.values().flatten() {
            let actor = parsed.actor();
            let waiting = self.waiting.get(&actor).map_or(0, VecDeque::len);
            let held = self.by_actor.get(&actor).map_or(0, Vec::len) + waiting;
            if parsed.seq() == held as u64 + 1 && waiting < WAITING_CHANGES_MAX {
                self.waiting.entry(actor).or_default().push_back(parsed.clone());
            }
        }
        self.wake(&mut batch)?;
        self.flush(&mut batch)?;
        Ok(batch.refused)
    }

    fn damaged(&self, cause: impl ToString) -> DocError {
        DocError::Damaged { doc: self.id, cause: cause.to_string() }
    }

    /// Applies changes of our own log: checked when they were taken.
    pub(super) fn replay(&mut self, log: &[Vec<u8>]) -> Result<(), DocError> {
        let mut batch = Batch::default();
        for bytes in log {
            let (flat, change) = chunk::read(bytes).map_err(|e| self.damaged(e))?;
            let expected = self.by_actor.get(&ActorKey(flat.actor)).map_or(0, Vec::len) as u64 + 1;
            if !self.is_ready(&flat) || flat.seq != expected {
                return Err(self.damaged("a logged change does not follow"));
            }
            self.enter(&flat, change, &mut batch);
        }
        self.flush(&mut batch)
    }

    /// One change of a new epoch's foundation; it carries no act and travels in no feed.
    pub(super) fn found(&mut self, actor: ActorKey, ops: Vec<FlatOp>) -> Result<(), DocError> {
        let mut batch = Batch::default();
        let (flat, change) = self.build(actor, String::new(), ops, 0, &batch)?;
        self.enter(&flat, change, &mut batch);
        self.flush(&mut batch)
    }

    /// Takes over what came for this epoch before its foundation did: entered, waiting, refused.
    pub(super) fn adopt(&mut self, early: Document) -> Result<Results, DocError> {
        let changes = early.engine.get_changes(&[]);
        let changes: Vec<_> = changes.iter().map(|c| c.raw_bytes().to_vec()).collect();
        self.replay(&changes)?;
        self.state = early.state;
        self.waiting = early.waiting;
        let mut batch = Batch::default();
        self.wake(&mut batch)?;
        self.flush(&mut batch)?;
        Ok(Results { touched: batch.touched, entered: batch.entered, refused: batch.refused, each: Vec::new() })
    }

    /// Every key that holds a value.
    pub(super) fn keys(&self) -> BTreeSet<String> {
        let now = View { engine: &self.engine, heads: None };
        now.under("").into_iter().map(|(key, _)| key).collect()
    }

    /// Puts stored waiting changes back into their queues.
    pub(super) fn queue(&mut self, waiting: &[Vec<u8>]) -> Result<(), DocError> {
        for bytes in waiting {
            let (flat, change) = chunk::read(bytes).map_err(|e| self.damaged(e))?;
            let act = Act::from_message(&flat.message).map_err(|e| self.damaged(e))?;
            let queue = self.waiting.entry(ActorKey(flat.actor)).or_default();
            queue.push_back(ParsedChange { flat, change, act });
        }
        Ok(())
    }
}

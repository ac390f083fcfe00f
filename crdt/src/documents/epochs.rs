//! Re-bases as they come in the registry: ordered at once, done a few a turn, when what they cover has come.
//!
//! Leaves to others: how the next epoch is made (`docs::rebase`), when a re-base is due (the hub).

use super::{Documents, own_failure, project, quarantine_waiting};
use crate::channel::{Channel, FeedId, Place};
use crate::docs::{
    Act, ActId, ActorKey, DocId, DocKind, DocSet, ParsedChange, Patch, SetError, VisitorsPatch, actor_of, admit,
    uncovered_acts,
};
use crate::entry::{AlarmRecord, Body, Entry, RebaseRecord, Stamp};
use crate::ids::{CampusId, Seq, Writer};
use crate::keys;
use crate::mesh::{Event, Mesh, for_each_row};
use crate::proof;
use crate::store::{Read, StoreError, Tx};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Re-bases done in one turn: each rebuilds a document, and tills wait for the turn.
pub(super) const REBASES_PER_TURN_MAX: usize = 2;
/// The epoch of a document that was never re-based.
const FIRST_EPOCH: u32 = 1;

/// Whether this node may write into its feeds what a re-base makes it say again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Say {
    /// It may, with this stamp.
    Now(Stamp),
    /// Not yet: re-bases wait.
    Later,
    /// Never again: re-bases are done in silence.
    Never,
}

/// The present epoch of a document at this node.
///
/// # Errors
/// Storage.
pub fn current<R: Read + ?Sized>(tx: &Tx<'_, R>, kind: &DocKind) -> Result<u32, StoreError> {
    Ok(tx.get(&keys::epoch(kind))?.unwrap_or(FIRST_EPOCH))
}

/// The epoch to which headquarters has ordered a document, as far as this node has heard.
///
/// # Errors
/// Storage.
pub(super) fn ordered<R: Read + ?Sized>(tx: &Tx<'_, R>, kind: &DocKind) -> Result<u32, StoreError> {
    let mut epoch = current(tx, kind)?;
    while tx.get_bytes(&keys::rebase(&DocId { kind: *kind, epoch }))?.is_some()
        && !proof::sown("ordered_epochs_forgotten")
    {
        epoch = epoch.saturating_add(1);
    }
    Ok(epoch)
}

/// Documents whose re-base was ordered before this start and is not done.
pub(super) fn unfinished<R: Read + ?Sized>(store: &R) -> Result<BTreeSet<DocKind>, StoreError> {
    let mut newest: BTreeMap<DocKind, u32> = BTreeMap::new();
    for_each_row(store, keys::REBASES, |record: RebaseRecord| {
        let epoch = newest.entry(record.new.kind).or_default();
        *epoch = record.new.epoch.max(*epoch);
    })?;
    let tx = Tx::new(store);
    let mut unfinished = BTreeSet::new();
    for (kind, epoch) in newest {
        if epoch > current(&tx, &kind)? {
            unfinished.insert(kind);
        }
    }
    Ok(unfinished)
}

impl Documents {
    /// A re-base is ordered; it is done by [`Documents::turn_epochs`]. The refusal, if it makes no sense.
    pub(crate) fn order_rebase<R: Read + ?Sized>(
        &mut self,
        mesh: &Mesh,
        tx: &mut Tx<'_, R>,
        record: &RebaseRecord,
    ) -> Result<Result<(), String>, StoreError> {
        // Of documents of other campuses that this node does not hold there is nothing to re-base.
        if matches!(record.old.channel(), Channel::Campus(c) if !mesh.me.node.is_hub() && mesh.place.campus != Some(c))
        {
            return Ok(Ok(()));
        }
        let follows = record.old.kind == record.new.kind && record.new.epoch == record.old.epoch.saturating_add(1);
        let key = keys::rebase(&record.old);
        if !follows || tx.get_bytes(&key)?.is_some() {
            return Ok(Err(format!(
                "{} does not follow {}, or its re-base was ordered before",
                record.new, record.old
            )));
        }
        tx.put(key, record);
        self.turning.insert(record.old.kind);
        Ok(Ok(()))
    }

    /// Does a few of the re-bases that are ordered and whose covered changes are here.
    pub fn turn_epochs<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        say: Say,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        if say == Say::Later || self.turning.is_empty() {
            return Ok(());
        }
        let after = self.tried.unwrap_or(DocKind::People { campus: CampusId(0), shard: 0 });
        let later = self.turning.range((Bound::Excluded(after), Bound::Unbounded));
        let next: Vec<DocKind> =
            later.chain(self.turning.range(..=after)).copied().take(REBASES_PER_TURN_MAX).collect();
        for kind in next {
            self.tried = Some(kind);
            self.turn_kind(mesh, tx, say, kind, events)?;
        }
        Ok(())
    }

    /// Does the re-base of one document if it is ordered and what it covers is here.
    pub fn turn_kind<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        say: Say,
        kind: DocKind,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        let old = DocId { kind, epoch: current(tx, &kind)? };
        match tx.get::<RebaseRecord>(&keys::rebase(&old))? {
            Some(record) => self.turn_one(mesh, tx, say, &record, events),
            None => {
                self.turning.remove(&kind);
                Ok(())
            }
        }
    }

    /// Re-bases one document, and says again what of ours (at the hub, of fenced writers) the new epoch lacks.
    fn turn_one<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        say: Say,
        record: &RebaseRecord,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        let (old, new) = (record.old, record.new);
        let covered: BTreeMap<ActorKey, u64> = record.covered.iter().map(|(w, n)| (actor_of(*w), *n)).collect();
        let speakers = speakers(mesh, &old);
        let turned = self
            .set
            .get(tx, old)
            .map(|before| speakers.into_iter().flat_map(|w| uncovered_acts(before, w, &covered)).collect::<Vec<Act>>());
        let turned = turned.and_then(|uncovered| Ok((uncovered, self.set.rebase(tx, old, &covered)?)));
        let (uncovered, outcome) = match turned {
            Ok((uncovered, Some(outcome))) => (uncovered, outcome),
            Ok((_, None)) => return Ok(()),
            Err(SetError::Store(error)) => return Err(error),
            Err(SetError::Doc(error)) => {
                // Tried again at the next start; the document stays in its epoch, tills and doors go on.
                self.set.forget(old);
                self.turning.remove(&old.kind);
                let alarm = AlarmRecord { kind: "document".into(), detail: format!("{old} is not re-based: {error}") };
                events.push(Event::Contradiction(alarm));
                return Ok(());
            }
        };
        tx.put(keys::epoch(&old.kind), &new.epoch);
        quarantine_waiting(mesh, tx, &new, &outcome.refused, events)?;
        project(mesh, tx, &new.kind, outcome.patch, events)?;
        // What makes no sense any more on the new epoch is left out.
        if let Say::Now(stamp) = say
            && !proof::sown("uncovered_acts_not_said_again")
        {
            if !uncovered.is_empty() {
                proof::hit("said_again_on_a_new_epoch");
            }
            self.say(mesh, tx, stamp, new, &uncovered, events)?;
        }
        Ok(())
    }

    /// The entry that re-bases a document as it is at this node.
    pub fn rebase_record<R: Read + ?Sized>(
        &mut self,
        mesh: &Mesh,
        tx: &Tx<'_, R>,
        kind: DocKind,
    ) -> Result<RebaseRecord, StoreError> {
        let old = DocId { kind, epoch: current(tx, &kind)? };
        let counts = self.set.get(tx, old).map_err(own_failure)?.covered();
        let covered = mesh.nodes.keys().filter_map(|w| Some((*w, *counts.get(&actor_of(*w))?))).collect();
        Ok(RebaseRecord { old, covered, new: DocId { epoch: old.epoch.saturating_add(1), ..old } })
    }

    /// The present epoch of a document.
    ///
    /// # Errors
    /// Storage.
    pub fn epoch<R: Read + ?Sized>(&self, tx: &Tx<'_, R>, kind: DocKind) -> Result<u32, StoreError> {
        current(tx, &kind)
    }

    /// Whether a document can be opened; one that is damaged here stays as it is.
    ///
    /// # Errors
    /// Storage.
    pub fn opens<R: Read + ?Sized>(&mut self, tx: &Tx<'_, R>, kind: DocKind) -> Result<bool, StoreError> {
        let doc = DocId { kind, epoch: current(tx, &kind)? };
        match self.set.get(tx, doc) {
            Ok(_) => Ok(true),
            Err(SetError::Store(error)) => Err(error),
            Err(SetError::Doc(_)) => {
                self.set.forget(doc);
                Ok(false)
            }
        }
    }

    /// What a visitors document holds: whole visits, and ids of which only a part is there.
    ///
    /// # Errors
    /// Storage, or the document cannot be opened: ask [`Documents::opens`] first.
    pub fn visits<R: Read + ?Sized>(&mut self, tx: &Tx<'_, R>, kind: DocKind) -> Result<VisitorsPatch, StoreError> {
        let doc = DocId { kind, epoch: current(tx, &kind)? };
        match self.set.get(tx, doc).map_err(own_failure)?.project_all() {
            Patch::Visitors(visits) => Ok(visits),
            _ => Ok(VisitorsPatch::default()),
        }
    }

    /// Every document of a campus that exists or may exist elsewhere.
    pub fn kinds_of<R: Read + ?Sized>(
        &self,
        mesh: &Mesh,
        tx: &Tx<'_, R>,
        campus: CampusId,
    ) -> Result<Vec<DocKind>, StoreError> {
        let shards = mesh.campuses.get(&campus).map_or(0, |c| c.people_shards);
        let mut kinds: Vec<_> = (0..shards).map(|shard| DocKind::People { campus, shard }).collect();
        kinds.push(DocKind::Policy(campus));
        kinds.extend(DocSet::visitor_months(tx, campus)?.into_iter().map(|month| DocKind::Visitors { campus, month }));
        Ok(kinds)
    }

    /// Months of a campus whose visits have had a new epoch: of one that holds nothing now no row of the document is left.
    ///
    /// # Errors
    /// Storage.
    pub fn turned_months<R: Read + ?Sized>(tx: &Tx<'_, R>, campus: CampusId) -> Result<Vec<u16>, StoreError> {
        let rows = tx.scan(keys::EPOCHS, None, usize::MAX)?;
        let kinds = rows.iter().filter_map(|(key, _)| keys::epoch_kind(key));
        let month = |kind| match kind {
            DocKind::Visitors { campus: of, month } if of == campus => Some(month),
            _ => None,
        };
        Ok(kinds.filter_map(month).collect())
    }

    /// Says again what a fenced writer said in past epochs, a re-base left out, and it did not say again itself.
    pub fn say_for_fenced<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        stamp: Stamp,
        fenced: Writer,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        let Some(place) = mesh.place_of(fenced) else { return Ok(()) };
        let Some(campus) = place.campus else { return Ok(()) };
        let mut left_out: BTreeMap<DocKind, BTreeMap<ActId, (u64, Act)>> = BTreeMap::new();
        for channel in [Channel::People(campus), Channel::Campus(campus)] {
            let feed = FeedId { writer: fenced, channel };
            for seq in (1..=tx.feed(&feed)?.end.seq.0).map(Seq) {
                let Some((doc, parsed)) = change_at(tx, &feed, seq, place)? else { continue };
                let acts = left_out.entry(doc.kind).or_default();
                match is_left_out(tx, &doc, fenced, parsed.seq())? {
                    true => drop(acts.insert(parsed.act().id, (seq.0, parsed.act().clone()))),
                    false => drop(acts.remove(&parsed.act().id)),
                }
            }
        }
        for (kind, acts) in left_out {
            let mut acts: Vec<_> = acts.into_values().collect();
            acts.sort_by_key(|(seq, _)| *seq);
            let acts: Vec<Act> = acts.into_iter().map(|(_, act)| act).collect();
            let doc = DocId { kind, epoch: current(tx, &kind)? };
            if !acts.is_empty() && self.opens(tx, kind)? {
                self.say(mesh, tx, stamp, doc, &acts, events)?;
            }
        }
        Ok(())
    }
}

/// A document change of a feed, if there is a sound one at the position.
fn change_at<R: Read + ?Sized>(
    tx: &Tx<'_, R>,
    feed: &FeedId,
    seq: Seq,
    place: Place,
) -> Result<Option<(DocId, ParsedChange)>, StoreError> {
    let Some(bytes) = tx.entry(feed, seq)? else { return Ok(None) };
    let Ok(Entry { body: Body::Change(record), .. }) = Entry::decode(&bytes) else { return Ok(None) };
    let parsed = admit(&record.doc, feed.writer, place, &record.change).ok();
    Ok(parsed.filter(|_| record.doc.channel() == feed.channel).map(|parsed| (record.doc, parsed)))
}

/// Whether the re-base that ended a change's epoch left it out.
fn is_left_out<R: Read + ?Sized>(tx: &Tx<'_, R>, doc: &DocId, writer: Writer, at: u64) -> Result<bool, StoreError> {
    if doc.epoch >= current(tx, &doc.kind)? {
        return Ok(false);
    }
    let record = tx.get::<RebaseRecord>(&keys::rebase(doc))?;
    let covered = record.and_then(|r| r.covered.iter().find(|(w, _)| *w == writer).map(|(_, n)| *n));
    Ok(at > covered.unwrap_or_default())
}

/// Whose uncovered acts this node says again.
fn speakers(mesh: &Mesh, doc: &DocId) -> Vec<Writer> {
    let mut speakers = vec![mesh.me];
    if mesh.me.node.is_hub() {
        let fenced = mesh.fences.keys().copied();
        speakers.extend(fenced.filter(|w| mesh.place_of(*w).and_then(|p| p.campus) == Some(doc.campus())));
    }
    speakers
}

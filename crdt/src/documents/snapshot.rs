//! Documents of a snapshot, brought together with what this node holds of them.
//!
//! Leaves to others: whether the snapshot is sound (`snapshot::Check`), the merging itself (`docs::set`).

use super::{Documents, epochs, own_failure, project, quarantine_waiting};
use crate::docs::{Act, ActorKey, DocId, Patch, Restored, SetError, actor_of, uncovered_acts};
use crate::documents::Say;
use crate::entry::RebaseRecord;
use crate::keys;
use crate::mesh::{Event, Mesh};
use crate::proof;
use crate::snapshot::SavedDocument;
use crate::store::{Read, StoreError, Tx};
use std::collections::BTreeMap;

/// A document of a snapshot with its plain values.
#[derive(Clone, Copy)]
pub(crate) struct Found<'f> {
    /// As saved there.
    pub(crate) saved: &'f SavedDocument,
    /// The plain values of all of it.
    pub(crate) patch: &'f Patch,
    /// Re-bases that the snapshot names, by the epoch that ends.
    pub(crate) rebases: &'f BTreeMap<DocId, RebaseRecord>,
}

impl Documents {
    /// Takes in a document. `false` when this node must first be allowed to say again what the document's new epoch
    /// lacks of its own acts: nothing was done.
    pub(crate) fn restore<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        say: Say,
        found: Found<'_>,
        events: &mut Vec<Event>,
    ) -> Result<bool, StoreError> {
        let saved = found.saved;
        let id = saved.id;
        let here = epochs::current(tx, &id.kind)?;
        if id.epoch < here {
            return Ok(true);
        }
        let turns = id.epoch == saved.epoch && id.epoch > here;
        let old = DocId { epoch: here, ..id };
        let says_again = turns && !proof::sown("own_words_lost_with_a_snapshot");
        let again = if says_again { self.unsaid(mesh, tx, old, found.rebases)? } else { Vec::new() };
        if !again.is_empty() && say == Say::Later {
            return Ok(false);
        }
        if turns {
            tx.put(keys::epoch(&id.kind), &id.epoch);
        }
        let restored = match self.set.restore(tx, saved, turns.then_some(old)) {
            Ok(restored) => restored,
            Err(SetError::Store(error)) => return Err(error),
            Err(SetError::Doc(error)) => return Err(own_failure(error.into())),
        };
        let is_present = turns || id.epoch == here;
        match restored {
            Restored::Known => {}
            Restored::Whole if is_present => project(mesh, tx, &id.kind, found.patch.clone(), events)?,
            Restored::Whole => {}
            Restored::Merged(outcome) => {
                quarantine_waiting(mesh, tx, &id, &outcome.refused, events)?;
                if is_present {
                    project(mesh, tx, &id.kind, outcome.patch, events)?;
                }
            }
        }
        if let Say::Now(stamp) = say
            && !again.is_empty()
        {
            self.say(mesh, tx, stamp, id, &again, events)?;
        }
        Ok(true)
    }

    /// Acts of this node in an epoch that the snapshot has left, and that the next one does not cover.
    fn unsaid<R: Read + ?Sized>(
        &mut self,
        mesh: &Mesh,
        tx: &Tx<'_, R>,
        old: DocId,
        rebases: &BTreeMap<DocId, RebaseRecord>,
    ) -> Result<Vec<Act>, StoreError> {
        let record = match rebases.get(&old) {
            Some(record) => Some(record.clone()),
            None => tx.get(&keys::rebase(&old))?,
        };
        let Some(record) = record else { return Ok(Vec::new()) };
        let covered: BTreeMap<ActorKey, u64> = record.covered.iter().map(|(w, n)| (actor_of(*w), *n)).collect();
        match self.set.get(tx, old) {
            Ok(before) => Ok(uncovered_acts(before, mesh.me, &covered)),
            Err(SetError::Store(error)) => Err(error),
            // Damaged here: what it said is lost, the snapshot mends the rest.
            Err(SetError::Doc(_)) => {
                self.set.forget(old);
                Ok(Vec::new())
            }
        }
    }
}

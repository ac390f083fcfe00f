//! A node's documents at work: changes of feeds are taken in and projected, acts are written, epochs are turned.
//!
//! Belongs to the edge and hub machines, which call it in the turn that stores the entries. A change refused here is
//! quarantined and stops nothing else. Leaves to others: merging (`docs`), rows and indexes (`mesh`), alarms (machines).

mod author;
mod epochs;
mod snapshot;

pub use author::{Author, Denied, PERSON_CHANGES_MAX, PersonChange, Written, chunks, month_of};
pub use epochs::{Say, current as current_epoch};
pub(crate) use snapshot::Found;

use crate::channel::{FeedId, Place};
use crate::docs::{ActorKey, ChangeRefused, DocId, DocKind, DocSet, Patch, SetError, actor_of, shard_of};
use crate::entry::{AlarmRecord, ChangeRecord};
use crate::ids::*;
use crate::mesh::{Event, Mesh, VisitRow};
use crate::store::{Read, StoreError, Tx};
use std::collections::{BTreeMap, BTreeSet};

/// Documents open between turns; a shard of 400 people takes about 0.3 MiB.
pub const OPEN_MAX: usize = 16;
/// How far ahead of what headquarters has ordered a box's change may be: those re-bases are on their way in the registry.
pub const EPOCHS_AHEAD_MAX: u32 = 8;

/// A change as it stands in a feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// Its feed.
    pub feed: FeedId,
    /// Its position.
    pub seq: Seq,
    /// What it says.
    pub record: ChangeRecord,
}

/// The documents of one node.
pub struct Documents {
    set: DocSet,
    /// Documents whose re-base is ordered and not done.
    turning: BTreeSet<DocKind>,
    /// The last one of them that was tried.
    tried: Option<DocKind>,
}

/// Where a change belongs.
enum Fit {
    /// Into its document.
    Take,
    /// Its epoch is over; its writer says it again if it was not covered.
    Past,
    /// Nowhere.
    Refuse(String),
}

impl Documents {
    /// Reads what is under way; documents are opened when they are needed.
    ///
    /// # Errors
    /// Storage.
    pub fn load<R: Read + ?Sized>(store: &R) -> Result<Documents, StoreError> {
        Ok(Documents { set: DocSet::new(OPEN_MAX), turning: epochs::unfinished(store)?, tried: None })
    }

    /// The turn is durable.
    pub fn committed(&mut self) {
        self.set.committed();
    }

    /// How many documents are open.
    pub fn open_count(&self) -> usize {
        self.set.open_count()
    }

    /// Takes in what a turn's entries say of documents; other events are left, and new ones added.
    /// Contradictions that somebody must look at are returned.
    ///
    /// # Errors
    /// Our own side failed: the turn must be dropped.
    pub fn follow<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        say: Say,
        events: &mut Vec<Event>,
    ) -> Result<Vec<AlarmRecord>, StoreError> {
        let mut arrived = Vec::new();
        let mut orders = Vec::new();
        let mut rest = Vec::with_capacity(events.len());
        for event in events.drain(..) {
            match event {
                Event::Change { feed, seq, record } => arrived.push(Arrived { feed, seq, record }),
                Event::Rebase { feed, seq, record } => orders.push((feed, seq, record)),
                other => rest.push(other),
            }
        }
        *events = rest;
        for (feed, seq, record) in &orders {
            if let Err(cause) = self.order_rebase(mesh, tx, record)? {
                mesh.quarantine(tx, *feed, *seq, cause, events)?;
            }
        }
        self.take(mesh, tx, &arrived, events)?;
        if !arrived.is_empty() || !orders.is_empty() {
            self.turn_epochs(mesh, tx, say, events)?;
        }
        let mut alarms = Vec::new();
        let mut twice = BTreeMap::new();
        events.retain(|event| match event {
            Event::Contradiction(alarm) => {
                alarms.push(alarm.clone());
                false
            }
            Event::Twice { person, homes } => {
                twice.insert(*person, homes.clone());
                false
            }
            _ => true,
        });
        alarms.extend(
            twice.iter().filter(|(person, _)| mesh.is_twice(**person)).map(|(p, homes)| person_twice(*p, homes)),
        );
        Ok(alarms)
    }

    /// Takes in changes of feeds, in the transaction that stores them, and projects what they change.
    ///
    /// # Errors
    /// Our own side failed: the turn must be dropped.
    pub fn take<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        arrived: &[Arrived],
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        let mut by_document: BTreeMap<DocId, Vec<(Place, &Arrived)>> = BTreeMap::new();
        for change in arrived {
            let Some(place) = mesh.place_of(change.feed.writer) else { continue };
            match fit(mesh, tx, change, place)? {
                Fit::Take => by_document.entry(change.record.doc).or_default().push((place, change)),
                Fit::Past => {}
                Fit::Refuse(cause) => mesh.quarantine(tx, change.feed, change.seq, cause, events)?,
            }
        }
        for (doc, changes) in by_document {
            self.take_of(mesh, tx, doc, &changes, events)?;
        }
        Ok(())
    }

    fn take_of<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        doc: DocId,
        changes: &[(Place, &Arrived)],
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        let entries: Vec<_> = changes.iter().map(|(p, c)| (c.feed.writer, *p, c.record.change.as_slice())).collect();
        let outcome = match self.set.take(tx, doc, &entries) {
            Ok(outcome) => outcome,
            Err(SetError::Store(error)) => return Err(error),
            Err(SetError::Doc(error)) => {
                // The document is damaged here; tills and doors go on with what was projected.
                self.set.forget(doc);
                for (_, change) in changes {
                    mesh.quarantine(tx, change.feed, change.seq, error.to_string(), events)?;
                }
                return Ok(());
            }
        };
        for ((_, change), result) in changes.iter().zip(&outcome.each) {
            if let Err(refused) = result {
                mesh.quarantine(tx, change.feed, change.seq, refusal(&doc, refused), events)?;
            }
        }
        quarantine_waiting(mesh, tx, &doc, &outcome.refused, events)?;
        // What comes before this node's own re-base is kept, and shows when the re-base is done.
        if doc.epoch == epochs::current(tx, &doc.kind)? {
            project(mesh, tx, &doc.kind, outcome.patch, events)?;
        }
        Ok(())
    }
}

/// A pure function of the entry, the writer's place and what the registry said of the campus, the epoch apart.
fn fit<R: Read + ?Sized>(mesh: &Mesh, tx: &Tx<'_, R>, change: &Arrived, place: Place) -> Result<Fit, StoreError> {
    let doc = change.record.doc;
    if doc.channel() != change.feed.channel || !doc.may_write(place) {
        return Ok(Fit::Refuse(format!("{doc}: its writer may not write this document on this channel")));
    }
    if let (DocKind::People { campus, shard }, Some(known)) = (doc.kind, mesh.campuses.get(&doc.campus()))
        && shard >= known.people_shards
    {
        return Ok(Fit::Refuse(format!("{doc}: {campus} has {} people documents", known.people_shards)));
    }
    let current = epochs::current(tx, &doc.kind)?;
    Ok(match doc.epoch {
        epoch if epoch < current => Fit::Past,
        // Headquarters may have ordered more than that, which wait here for what they cover, or for the gate; its own word
        // may come before its orders.
        epoch
            if epoch > current.saturating_add(EPOCHS_AHEAD_MAX)
                && !change.feed.writer.node.is_hub()
                && epoch > epochs::ordered(tx, &doc.kind)?.saturating_add(EPOCHS_AHEAD_MAX) =>
        {
            Fit::Refuse(format!("{doc}: the epoch here is {current}"))
        }
        _ => Fit::Take,
    })
}

/// Brings plain values into rows and indexes.
fn project<R: Read + ?Sized>(
    mesh: &mut Mesh,
    tx: &mut Tx<'_, R>,
    kind: &DocKind,
    patch: Patch,
    events: &mut Vec<Event>,
) -> Result<(), StoreError> {
    match (patch, *kind) {
        (Patch::People(patch), DocKind::People { campus, shard }) => {
            // Who stands in another document of the campus than the one that the id gives is nobody there: of two
            // documents the one projected last would count, at each node another.
            let shards = mesh.campuses.get(&campus).map(|known| known.people_shards);
            let belongs = |person: &PersonId| shards.is_none_or(|shards| shard_of(*person, shards) == shard);
            for person in &patch.upserted {
                match belongs(&person.person) {
                    true => mesh.put_person(tx, person, events)?,
                    false => events.push(stray(campus, shard, person.person)),
                }
            }
            for person in patch.removed.into_iter().filter(belongs) {
                mesh.remove_person(tx, person, campus, events)?;
            }
        }
        (Patch::Policy(patch), DocKind::Policy(campus)) => mesh.put_policy(tx, campus, patch)?,
        (Patch::Visitors(patch), DocKind::Visitors { campus, month }) => {
            for visitor in patch.upserted {
                mesh.put_visitor(tx, VisitRow { campus, month, visitor }, events)?;
            }
            for visitor in patch.removed {
                mesh.remove_visitor(tx, visitor, (campus, month), events)?;
            }
        }
        // A document projects values of its own kind only.
        _ => {}
    }
    Ok(())
}

fn person_twice(person: PersonId, homes: &[CampusId]) -> AlarmRecord {
    let homes = homes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let detail = format!("{person} stands in documents of {homes}: of his cards those count that are in all; move him");
    AlarmRecord { kind: "person_twice".into(), detail }
}

/// Somebody wrote a person where no node of ours would.
fn stray(campus: CampusId, shard: u16, person: PersonId) -> Event {
    let detail = format!("{person} stands in people document {shard} of {campus}, where he does not belong: left out");
    Event::Contradiction(AlarmRecord { kind: "document".into(), detail })
}

/// Changes that waited and then proved bad stand somewhere before the end of their writer's feed.
fn quarantine_waiting<R: Read + ?Sized>(
    mesh: &mut Mesh,
    tx: &mut Tx<'_, R>,
    doc: &DocId,
    refused: &[(ActorKey, ChangeRefused)],
    events: &mut Vec<Event>,
) -> Result<(), StoreError> {
    for (actor, refused) in refused {
        let Some(writer) = writer_of(mesh, *actor) else { continue };
        let feed = FeedId { writer, channel: doc.channel() };
        let seq = tx.feed(&feed)?.end.seq;
        mesh.quarantine(tx, feed, seq, format!("at or before it, {}", refusal(doc, refused)), events)?;
    }
    Ok(())
}

fn refusal(doc: &DocId, refused: &ChangeRefused) -> String {
    format!("{doc}: {refused}; its writer's changes of this document are ignored until the document is re-based")
}

/// The life of a node that writes under an actor's name.
fn writer_of(mesh: &Mesh, actor: ActorKey) -> Option<Writer> {
    mesh.nodes.keys().copied().find(|writer| actor_of(*writer) == actor)
}

/// A failure of our own side in the middle of writing: the turn must not be kept.
fn own_failure(error: SetError) -> StoreError {
    match error {
        SetError::Store(error) => error,
        SetError::Doc(error) => StoreError::Device { doing: "changing a document", cause: error.to_string() },
    }
}

//! People, policies and visitors at headquarters: acts of operators written into documents, epochs, fences.
//!
//! Leaves to others: merging and projection (`yika_crdt::documents`), reading spreadsheets (`import`), profiles that
//! never leave the hub (`store`).

use super::{CoreError, HUB_UTC_OFFSET_MINUTES, Hub, Reply, TableRow, Turn};
use crate::denial::Denial;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::docs::{DocId, DocKind, PolicyAct, VisitorAct};
use yika_crdt::documents::{Author, Documents, PersonChange, Say, Written, month_of};
use yika_crdt::entry::*;
use yika_crdt::feed::Run;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::mesh::Event;
use yika_crdt::person::Person;
use yika_crdt::store::{Read, StoreError, Tx};

/// The last number given to a person by this generation of the hub.
const LAST_PERSON: &[u8] = b"!lastperson";
/// The last note headquarters made of its own.
const LAST_NOTE: &[u8] = b"!lastnote";
/// Most numbers asked for at once.
pub const PERSON_IDS_MAX: u32 = 1 << 20;
/// So many months ahead documents of visits are looked at that only a fenced box has written: as many may be made up.
const UNHEARD_MONTHS_MAX: u16 = 24;
/// Numbers of one generation of the hub: a restored hub never gives a number a second time.
const GENERATION_PERSONS: u64 = 1 << 40;

impl Hub {
    /// The turn is durable.
    pub fn committed(&mut self) {
        self.documents.committed();
        self.life = self.mesh.me;
    }

    /// Moves persons, then changes them. Whoever is at home there already stays.
    pub(super) fn people<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        operator: OperatorId,
        moves: BTreeMap<PersonId, CampusId>,
        acts: Vec<PersonChange>,
    ) -> Result<Reply, CoreError> {
        let mut moving = Vec::with_capacity(moves.len());
        for (person, to) in moves {
            match turn.tx.get::<Person>(&keys::person(person))? {
                Some(known) if known.home == to && !self.mesh.is_twice(person) => {}
                Some(known) => moving.push((known, to)),
                None => return Ok(Reply::Denied(Denial::UnknownPerson { person })),
            }
        }
        let by = Author { operator, stamp: turn.stamp };
        reply(self.documents.people_moved(&mut self.mesh, turn.tx, by, moving, acts, &mut turn.events))
    }

    pub(super) fn person_ids<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        count: u32,
    ) -> Result<Reply, CoreError> {
        if count == 0 || count > PERSON_IDS_MAX {
            return Ok(Reply::Denied(Denial::PersonNumbers { count }));
        }
        Ok(Reply::PersonIds(next_person_id(turn.tx, self.mesh.me, count)?))
    }

    pub(super) fn policy<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        campus: CampusId,
        operator: OperatorId,
        act: PolicyAct,
    ) -> Result<Reply, CoreError> {
        let by = Author { operator, stamp: turn.stamp };
        reply(self.documents.policy(&mut self.mesh, turn.tx, by, (campus, act), &mut turn.events))
    }

    pub(super) fn visitor<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        operator: OperatorId,
        act: (CampusId, PersonId, VisitorAct),
    ) -> Result<Reply, CoreError> {
        let by = Author { operator, stamp: turn.stamp };
        reply(self.documents.visitor(&mut self.mesh, turn.tx, by, act, &mut turn.events))
    }

    /// Orders a new epoch of a document, containing what headquarters holds of it.
    pub(super) fn rebase<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        kind: DocKind,
    ) -> Result<Reply, CoreError> {
        self.documents.turn_kind(&mut self.mesh, turn.tx, Say::Now(turn.stamp), kind, &mut turn.events)?;
        let record = self.documents.rebase_record(&self.mesh, turn.tx, kind)?;
        if turn.tx.get_bytes(&keys::rebase(&record.old))?.is_some() {
            return Ok(Reply::Denied(Denial::RebaseUnderWay { doc: record.old }));
        }
        self.append(turn, Channel::Registry, Body::Rebase(record))?;
        Ok(Reply::Done)
    }

    /// After a fence the documents of the campus go on without whatever else the box wrote; what headquarters had of
    /// it and an earlier re-base left out is said again here.
    pub(super) fn fence_documents<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        fenced: Writer,
    ) -> Result<(), CoreError> {
        let Some(campus) = self.mesh.place_of(fenced).and_then(|p| p.campus) else { return Ok(()) };
        self.documents.say_for_fenced(&mut self.mesh, turn.tx, turn.stamp, fenced, &mut turn.events)?;
        let mut kinds: BTreeSet<DocKind> = self.documents.kinds_of(&self.mesh, turn.tx, campus)?.into_iter().collect();
        let near = months_looked_at(turn.stamp);
        let turned = Documents::turned_months(turn.tx, campus)?.into_iter().filter(|month| near.contains(month));
        kinds.extend(turned.map(|month| DocKind::Visitors { campus, month }));
        for kind in kinds {
            // One that is damaged here stays as it is: a box must be fenced all the same.
            if self.documents.opens(turn.tx, kind)? {
                self.rebase(turn, kind)?;
            } else {
                let doc = DocId { kind, epoch: self.documents.epoch(turn.tx, kind)? };
                let detail = format!("{doc} is damaged here and not re-based: what {fenced} wrote in it stays");
                turn.events.push(Event::Contradiction(AlarmRecord { kind: "document".into(), detail }));
            }
        }
        Ok(())
    }

    /// A sibling passes on what a fenced box wrote beyond its end. Visits that headquarters had not heard of when it fenced
    /// the box stand in documents that it could not order to go on without them: it does as soon as it hears of them.
    ///
    /// Nothing of it is stored, so the entries cannot be checked against those before them, only the head. Who makes some up
    /// under a head that is real brings about one epoch a month looked at, and these leave nothing of living boxes out.
    pub(super) fn hear_fenced<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        run: &Run,
    ) -> Result<(), CoreError> {
        let feed = run.head.feed;
        let Some(node) = self.mesh.nodes.get(&feed.writer) else { return Ok(()) };
        if run.head.verify(&node.key).is_err() {
            return Ok(());
        }
        let near = months_looked_at(turn.stamp);
        for entry in run.entries.iter().filter_map(|bytes| Entry::decode(bytes).ok()) {
            let Body::Change(ChangeRecord { doc, .. }) = entry.body else { continue };
            let DocKind::Visitors { month, .. } = doc.kind else { continue };
            if doc.channel() == feed.channel && doc.epoch == 1 && near.contains(&month) {
                self.unheard.insert(doc.kind);
            }
        }
        self.rebase_unheard(turn)
    }

    /// Orders their new epoch for documents that a fenced box alone wrote in; those that had one are re-based at the fence.
    pub(super) fn rebase_unheard<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        // A former life may have ordered it.
        if self.recovery.is_some() {
            return Ok(());
        }
        for kind in self.unheard.clone() {
            let first = DocId { kind, epoch: 1 };
            let is_ordered = turn.tx.get_bytes(&keys::rebase(&first))?.is_some();
            if !is_ordered && self.documents.epoch(turn.tx, kind)? == 1 && self.documents.opens(turn.tx, kind)? {
                self.rebase(turn, kind)?;
            }
        }
        Ok(())
    }

    /// Takes in what came for documents in this turn; other events are left, and new ones added.
    pub(super) fn follow_documents<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        let alarms = self.documents.follow(&mut self.mesh, turn.tx, Say::Now(turn.stamp), &mut turn.events)?;
        let feed = FeedId { writer: self.mesh.me, channel: Channel::Registry };
        let at_ms = turn.stamp.hub_time_ms;
        for AlarmRecord { kind: word, detail } in alarms {
            let seq = turn.tx.get::<Seq>(LAST_NOTE)?.unwrap_or_default().next();
            turn.tx.put(LAST_NOTE.to_vec(), &seq);
            turn.rows.push(TableRow::Alarm { feed, seq, at_ms, word, detail });
        }
        Ok(())
    }
}

/// Months of visits that a fence looks at.
fn months_looked_at(now: Stamp) -> std::ops::RangeInclusive<u16> {
    let this_month = month_of(now.hub_time_ms, HUB_UTC_OFFSET_MINUTES);
    this_month.saturating_sub(1)..=this_month.saturating_add(UNHEARD_MONTHS_MAX)
}

/// Hands out numbers for `count` new persons and gives the first of them; a number is never given twice.
pub fn next_person_id<R: Read + ?Sized>(tx: &mut Tx<'_, R>, me: Writer, count: u32) -> Result<PersonId, StoreError> {
    let base = u64::from(me.incarnation.generation.saturating_sub(1)) * GENERATION_PERSONS;
    let last = tx.get::<u64>(LAST_PERSON)?.unwrap_or_default().max(base);
    tx.put(LAST_PERSON.to_vec(), &(last + u64::from(count)));
    Ok(PersonId(last + 1))
}

fn reply(written: Written) -> Result<Reply, CoreError> {
    match written? {
        Ok(()) => Ok(Reply::Done),
        Err(denied) => Ok(Reply::Denied(denied.into())),
    }
}

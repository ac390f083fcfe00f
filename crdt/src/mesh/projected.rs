//! Rows and index entries made from documents: persons, visitors, and the access policy of this node's campus.
//!
//! What follows here depends only on the documents' plain values, never on the order in which they came. The hub keeps
//! the rows of all campuses; only edges index a policy and visitors, those of their own campus. Leaves to others: the
//! documents (`documents`), the index itself (`people`, `access`).

use super::{Event, Mesh, each};
use crate::access::PolicyItem;
use crate::civil;
use crate::docs::{PolicyPatch, Visitor};
use crate::entry::AlarmRecord;
use crate::ids::*;
use crate::keys;
use crate::person::Person;
use crate::store::{Read, StoreError, Tx, decode_row};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Campuses in whose documents one person may stand at once.
const CLAIMS_MAX: usize = 64;
/// Documents in which one visitor may stand at once.
const VISITS_MAX: usize = 64;

/// A visitor as one document has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VisitRow {
    /// The campus visited.
    pub campus: CampusId,
    /// The month whose document it is.
    pub month: u16,
    /// The visitor.
    pub visitor: Visitor,
}

impl Mesh {
    /// Writes and indexes a person as projected from the people documents of `person.home`.
    ///
    /// While a person stands in documents of two campuses, that of the higher number counts.
    pub fn put_person<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        person: &Person,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        // Whoever has a row is in the index; a first fill reads none.
        let is_known = self.people.read().holder(person.person).is_some();
        let old = if is_known { tx.get::<Person>(&keys::person(person.person))? } else { None };
        if old.as_ref() == Some(person) {
            return Ok(());
        }
        if let Some(old) = old.as_ref().filter(|old| old.home != person.home) {
            if person.home < old.home {
                tx.put(keys::person_claim(person.person, person.home), person);
                return Ok(());
            }
            tx.put(keys::person_claim(old.person, old.home), old);
            tx.delete(keys::person_claim(person.person, person.home));
        }
        tx.put(keys::person(person.person), person);
        self.people.write().put(person, old.as_ref());
        self.note_contested(person, events);
        events.push(Event::Person(person.person));
        Ok(())
    }

    /// A person is not in the people documents of `home`, or not any more.
    pub fn remove_person<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        person: PersonId,
        home: CampusId,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        let Some(old) = tx.get::<Person>(&keys::person(person))? else {
            return Ok(());
        };
        if old.home != home {
            tx.delete(keys::person_claim(person, home));
            return Ok(());
        }
        let prefix = [keys::PERSON_CLAIMS, &person.0.to_be_bytes()].concat();
        let claims = tx.scan(&prefix, None, CLAIMS_MAX)?;
        match claims.last() {
            Some((key, bytes)) => {
                let next: Person = decode_row(key, bytes)?;
                tx.delete(key.clone());
                tx.put(keys::person(person), &next);
                self.people.write().put(&next, Some(&old));
            }
            None => {
                tx.delete(keys::person(person));
                self.people.write().remove(&old);
            }
        }
        events.push(Event::Person(person));
        Ok(())
    }

    /// Headquarters hears of every card number that stands twice.
    fn note_contested(&self, person: &Person, events: &mut Vec<Event>) {
        let people = self.people.read();
        for card in person.cards.iter().filter(|c| people.is_contested(c.number)) {
            let detail = match people.registered(card.number) {
                Some(holder) if holder != person.person => {
                    format!("card {} of {} is {holder}'s too and counts as {holder}'s", card.number, person.person)
                }
                _ => format!("card {} of {} stands also with another person or visitor", card.number, person.person),
            };
            if self.me.node.is_hub() || self.place.campus == Some(person.home) {
                events.push(Event::Contradiction(AlarmRecord { kind: "card_twice".into(), detail }));
            }
        }
    }

    /// Writes the values of a campus' policy, and indexes them if it is this node's campus.
    pub(crate) fn put_policy<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        campus: CampusId,
        patch: PolicyPatch,
    ) -> Result<(), StoreError> {
        let is_ours = self.place.campus == Some(campus);
        for item in patch.into_items() {
            match item.is_gone() {
                true => tx.delete(item.key(campus)),
                false => tx.put(item.key(campus), &item),
            }
            // A visitor stays in the groups of the visit, whatever the policy says of members.
            let by_visit = match &item {
                PolicyItem::Member(group, person, false) => self.people.read().visit_groups(*person).contains(group),
                _ => false,
            };
            if is_ours && !by_visit {
                self.access.write().apply(item);
            }
        }
        Ok(())
    }

    /// Writes a visitor as projected from one document, and indexes what counts of it.
    pub(crate) fn put_visitor<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        row: VisitRow,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        let visitor = row.visitor.visitor;
        let key = keys::visit(visitor, row.campus, row.month);
        if tx.get::<VisitRow>(&key)?.as_ref() == Some(&row) {
            return Ok(());
        }
        tx.put(key, &row);
        self.index_visitor(tx, visitor)?;
        let card = row.visitor.card;
        if let Some(person) = self.people.read().registered(card)
            && !row.visitor.ended
        {
            let detail =
                format!("temporary card {card} of visitor {visitor} is the card of {person} and counts as such");
            events.push(Event::Contradiction(AlarmRecord { kind: "card_twice".into(), detail }));
        }
        events.push(Event::Person(visitor));
        Ok(())
    }

    /// A visitor is not in a document, or not any more.
    pub(crate) fn remove_visitor<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        visitor: PersonId,
        (campus, month): (CampusId, u16),
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        tx.delete(keys::visit(visitor, campus, month));
        self.index_visitor(tx, visitor)?;
        events.push(Event::Person(visitor));
        Ok(())
    }

    /// A visitor as its rows have it: of several the latest month counts.
    pub fn visitor<R: Read + ?Sized>(
        tx: &Tx<'_, R>,
        visitor: PersonId,
        campus: CampusId,
    ) -> Result<Option<VisitRow>, StoreError> {
        let mut found = None;
        for (key, bytes) in tx.scan(&keys::visits(visitor), None, VISITS_MAX)? {
            let row: VisitRow = decode_row(&key, &bytes)?;
            if row.campus == campus {
                found = Some(row);
            }
        }
        Ok(found)
    }

    fn index_visitor<R: Read + ?Sized>(&mut self, tx: &Tx<'_, R>, visitor: PersonId) -> Result<(), StoreError> {
        let Some(campus) = self.place.campus else {
            return Ok(());
        };
        let row = Mesh::visitor(tx, visitor, campus)?;
        let before = self.people.read().visit_groups(visitor).to_vec();
        match &row {
            Some(row) => self.index_visit(row),
            None => self.people.write().remove_visitor(visitor),
        }
        let after = row.map(|r| r.visitor.groups).unwrap_or_default();
        for group in before.into_iter().filter(|g| !after.contains(g)) {
            let member = PolicyItem::Member(group, visitor, true);
            if tx.get_bytes(&member.key(campus))?.is_none() {
                self.access.write().apply(PolicyItem::Member(group, visitor, false));
            }
        }
        Ok(())
    }

    fn index_visit(&self, row: &VisitRow) {
        let offset = self.campuses.get(&row.campus).map_or(0, |c| c.utc_offset_minutes);
        let day = |ms: i64| civil::civil(ms, offset).day;
        let visitor = &row.visitor;
        let days = (day(visitor.from_ms), day(visitor.until_ms.saturating_sub(1)));
        self.people.write().put_visitor(visitor, row.campus, days);
        let mut access = self.access.write();
        for group in &visitor.groups {
            access.apply(PolicyItem::Member(*group, visitor.visitor, true));
        }
    }

    /// Indexes what was projected before this start.
    pub(super) fn load_projected<R: Read + ?Sized>(&mut self, store: &R) -> Result<(), StoreError> {
        let Some(campus) = self.place.campus else {
            return Ok(());
        };
        let mut access = self.access.take();
        each(store, &keys::policy(campus), |item: PolicyItem| access.apply(item))?;
        self.access.replace(access);
        let mut visits = BTreeMap::new();
        each(store, keys::VISITORS, |row: VisitRow| {
            if row.campus == campus {
                visits.insert(row.visitor.visitor, row);
            }
        })?;
        visits.values().for_each(|row| self.index_visit(row));
        Ok(())
    }
}

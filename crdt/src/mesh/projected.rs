//! Rows and index entries made from documents: persons, visitors, and the access policy of this node's campus.
//!
//! What follows here depends only on the documents' plain values, never on the order in which they came. The hub keeps
//! the rows of all campuses; only edges index a policy and visitors, those of their own campus. Leaves to others: the
//! documents (`documents`), the index itself (`people`, `access`).

use super::{Event, LOAD_ROWS, Mesh, each};
use crate::access::PolicyItem;
use crate::civil;
use crate::docs::{PEOPLE_SHARDS_MAX, PolicyPatch, Visitor};
use crate::entry::{AlarmRecord, CampusRecord};
use crate::ids::*;
use crate::keys;
use crate::person::{Card, Person};
use crate::proof;
use crate::store::{Read, StoreError, Tx, decode_row};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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
    /// While a person stands in documents of several campuses, as in the middle of a move, what counts is what all of
    /// them agree on: a box of another campus takes nobody's money by writing him down with a card of its own.
    pub fn put_person<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        person: &Person,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        // Whoever has a row is in the index; a first fill reads none.
        let is_known = self.people.read().is_person(person.person);
        let old = if is_known { tx.get::<Person>(&keys::person(person.person))? } else { None };
        let is_twice = self.is_twice(person.person);
        if !is_twice && old.as_ref() == Some(person) {
            return Ok(());
        }
        let claims =
            |old: &&Person| (is_twice || old.home != person.home) && !proof::sown("last_campus_takes_a_person");
        let agreed = match old.as_ref().filter(claims) {
            Some(old) => match self.claim(tx, old, person, events)? {
                Some(agreed) => Some(agreed),
                None => return Ok(()),
            },
            None => None,
        };
        let counts = agreed.as_ref().unwrap_or(person);
        tx.put(keys::person(person.person), counts);
        self.people.write().put(counts, old.as_ref().filter(|_| !proof::sown("old_cards_stay_in_the_index")));
        self.note_contested(person, events);
        events.push(Event::Person(person.person));
        Ok(())
    }

    /// Keeps what one more campus says of a person, beside what counted so far, and gives what counts: nothing if it
    /// said so before.
    fn claim<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        old: &Person,
        person: &Person,
        events: &mut Vec<Event>,
    ) -> Result<Option<Person>, StoreError> {
        let mut claims = claims_of(tx, person.person)?;
        claims.entry(old.home).or_insert_with(|| old.clone());
        if claims.insert(person.home, person.clone()).as_ref() == Some(person) {
            return Ok(None);
        }
        for (home, claim) in &claims {
            tx.put(keys::person_claim(person.person, *home), claim);
        }
        self.twice.insert(person.person);
        // A box hears the two halves of a move in any order: who stands twice is headquarters' to tell.
        if self.me.node.is_hub() {
            events.push(Event::Twice { person: person.person, homes: claims.keys().copied().collect() });
        }
        Ok(agreed(&claims))
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
        let mut claims = if self.is_twice(person) { claims_of(tx, person)? } else { BTreeMap::new() };
        claims.entry(old.home).or_insert_with(|| old.clone());
        if claims.remove(&home).is_none() {
            return Ok(());
        }
        tx.delete(keys::person_claim(person, home));
        if claims.len() < 2 {
            claims.keys().for_each(|home| tx.delete(keys::person_claim(person, *home)));
            self.twice.remove(&person);
        }
        match agreed(&claims) {
            Some(next) => {
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

    /// Whether a person stands in documents of several campuses.
    pub fn is_twice(&self, person: PersonId) -> bool {
        self.twice.contains(&person)
    }

    /// The campuses in whose documents a person stands.
    pub(crate) fn homes<R: Read + ?Sized>(&self, tx: &Tx<'_, R>, person: &Person) -> Result<Vec<CampusId>, StoreError> {
        let claims = if self.is_twice(person.person) { claims_of(tx, person.person)? } else { BTreeMap::new() };
        let homes: BTreeSet<CampusId> = claims.into_keys().chain([person.home]).collect();
        Ok(homes.into_iter().collect())
    }

    /// Headquarters hears of every card number and chip that stands twice, and of every visitor who is a person.
    fn note_contested(&self, person: &Person, events: &mut Vec<Event>) {
        let (people, id) = (self.people.read(), person.person);
        if people.is_visitor(id) {
            note(events, "person_twice", format!("{id} is also a visitor, whose temporary card counts for nothing"));
        }
        if !self.me.node.is_hub() && self.place.campus != Some(person.home) {
            return;
        }
        for card in &person.cards {
            let number = card.number;
            if people.is_contested(number) {
                let detail = match people.registered(number) {
                    Some(holder) if holder != id => {
                        format!("card {number} of {id} is {holder}'s too and counts as {holder}'s")
                    }
                    _ => format!("card {number} of {id} stands also with another person or visitor"),
                };
                note(events, "card_twice", detail);
            }
            let twin = card.uid.and_then(|uid| people.other_of_uid(uid, number).or_else(|| people.visit_of_uid(uid)));
            if let Some(twin) = twin.filter(|twin| *twin != number) {
                note(events, "chip_twice", format!("the chip of card {number} of {id} is also card {twin}"));
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
            let is_out = matches!(&item, PolicyItem::Member(_, _, false));
            if is_out && proof::sown("who_was_in_a_group_stays") {
                continue;
            }
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
        if !row.visitor.ended {
            self.note_visit(&row.visitor, events);
        }
        events.push(Event::Person(visitor));
        Ok(())
    }

    fn note_visit(&self, visit: &Visitor, events: &mut Vec<Event>) {
        let (people, visitor, card) = (self.people.read(), visit.visitor, visit.card);
        if let Some(person) = people.registered(card) {
            let detail =
                format!("temporary card {card} of visitor {visitor} is the card of {person} and counts as such");
            note(events, "card_twice", detail);
        }
        if let Some(twin) = visit.uid.and_then(|uid| people.other_of_uid(uid, card)) {
            note(events, "chip_twice", format!("the chip of temporary card {card} of {visitor} is also card {twin}"));
        }
        if people.is_person(visitor) {
            let detail = format!("visitor {visitor} is a person of the registry: card {card} counts for nothing");
            note(events, "person_twice", detail);
        }
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

    fn index_visitor<R: Read + ?Sized>(&self, tx: &Tx<'_, R>, visitor: PersonId) -> Result<(), StoreError> {
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

    /// A campus as the registry says it is. The days of visits follow its calendar, also of those that came before it with a
    /// snapshot.
    pub(super) fn put_campus<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        mut record: CampusRecord,
    ) -> Result<(), StoreError> {
        let known = self.campuses.get(&record.campus);
        // Where a person's document is follows from it at every node, so it never changes.
        let shards = known.map_or(record.people_shards, |known| known.people_shards);
        record.people_shards = shards.clamp(1, PEOPLE_SHARDS_MAX);
        let offset = known.map_or(0, |known| known.utc_offset_minutes);
        let is_calendar_new = self.place.campus == Some(record.campus) && offset != record.utc_offset_minutes;
        tx.put(keys::campus(record.campus), &record);
        self.index_campus(record);
        if is_calendar_new { self.index_visits(tx) } else { Ok(()) }
    }

    /// Indexes all visitors again.
    fn index_visits<R: Read + ?Sized>(&self, tx: &Tx<'_, R>) -> Result<(), StoreError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = tx.scan(keys::VISITORS, after.as_deref(), LOAD_ROWS)?;
            for (key, bytes) in &rows {
                let row: VisitRow = decode_row(key, bytes)?;
                self.index_visitor(tx, row.visitor.visitor)?;
            }
            match rows.into_iter().next_back() {
                Some((key, _)) => after = Some(key),
                None => return Ok(()),
            }
        }
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

fn note(events: &mut Vec<Event>, kind: &str, detail: String) {
    events.push(Event::Contradiction(AlarmRecord { kind: kind.into(), detail }));
}

/// Whether a person stands in documents of several campuses, for who has only the store.
///
/// # Errors
/// Of storage.
pub fn stands_twice<R: Read + ?Sized>(store: &R, person: PersonId) -> Result<bool, StoreError> {
    let prefix = [keys::PERSON_CLAIMS, &person.0.to_be_bytes()].concat();
    Ok(!store.scan(&prefix, None, 1)?.is_empty())
}

/// What each campus in whose documents a person stands says of him; nothing while it is one.
fn claims_of<R: Read + ?Sized>(tx: &Tx<'_, R>, person: PersonId) -> Result<BTreeMap<CampusId, Person>, StoreError> {
    let prefix = [keys::PERSON_CLAIMS, &person.0.to_be_bytes()].concat();
    let rows = tx.scan(&prefix, None, CLAIMS_MAX)?;
    rows.iter().map(|(key, bytes)| decode_row(key, bytes).map(|claim: Person| (claim.home, claim))).collect()
}

/// What all claims on a person agree on, as one of the campus with the highest number: a card counts that all of them
/// name with the same chip, and only while no claim ends it.
fn agreed(claims: &BTreeMap<CampusId, Person>) -> Option<Person> {
    let mut person = claims.values().next_back()?.clone();
    for claim in claims.values() {
        let same = |card: &Card| claim.cards.iter().find(|c| c.number == card.number && c.uid == card.uid);
        person.cards.retain(|card| same(card).is_some());
        for card in &mut person.cards {
            if let Some(other) = same(card) {
                card.state = std::cmp::max_by_key(card.state, other.state, |state| state.rank());
                card.valid_until = card.valid_until.into_iter().chain(other.valid_until).min();
            }
        }
        person.status = person.status.max(claim.status);
        let (from, until) = (person.valid.0.max(claim.valid.0), person.valid.1.into_iter().chain(claim.valid.1).min());
        person.valid = (from, until);
    }
    Some(person)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

    use super::*;
    use crate::channel::{Channel, FeedId, Place};
    use crate::entry::{Body, Entry, Stamp};
    use crate::store::{MemoryStore, Store};

    /// A snapshot brings visitors before the registry: their days are those of the campus' calendar all the same.
    #[test]
    fn days_of_visits_follow_the_calendar_that_comes_after_them() {
        let life = Incarnation { generation: 1, counter: 1 };
        let me = Writer { node: NodeId(1), incarnation: life };
        let campus = CampusId(1);
        let place = Place { node: me.node, campus: Some(campus) };
        let mut store = MemoryStore::default();
        let mut mesh = Mesh::load(&store, me, place).unwrap();
        let mut tx = Tx::new(&store);
        let mut events = Vec::new();
        let visitor = Visitor {
            visitor: PersonId(7),
            name: "访客".into(),
            host: None,
            card: CardNumber(9),
            uid: None,
            from_ms: 1_795_494_600_000,
            // Past midnight in Beijing, and not in Greenwich.
            until_ms: 1_795_541_400_000,
            groups: BTreeSet::new(),
            ended: false,
        };
        mesh.put_visitor(&mut tx, VisitRow { campus, month: 682, visitor }, &mut events).unwrap();
        let record =
            CampusRecord { campus, name: "校区".into(), utc_offset_minutes: 480, cut_minute: 180, people_shards: 1 };
        let stamp = Stamp { hub_time_ms: 0, boot: 0, mono_ms: 0 };
        let entry = Entry { stamp, body: Body::Campus(record) }.encode();
        let registry = FeedId { writer: Writer { node: NodeId::HUB, incarnation: life }, channel: Channel::Registry };
        mesh.apply(&mut tx, registry, Seq(1), &entry, &mut events).unwrap();
        let batch = tx.into_batch();
        store.commit(&batch).unwrap();
        let fresh = Mesh::load(&store, me, place).unwrap();
        assert_eq!(*mesh.people.read(), *fresh.people.read());
    }
}

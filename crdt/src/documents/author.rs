//! Acts of operators written into documents: checked as a whole, then written as a whole, or refused in words.
//!
//! Leaves to others: who the operator is and may do (consoles), reading spreadsheets (the hub's import).

use super::{Documents, epochs, own_failure, project};
use crate::channel::FeedId;
use crate::civil;
use crate::docs::act::{ACT_PERSONS_MAX, DAY_MAX};
use crate::docs::{
    Act, ActBody, ActId, DocError, DocId, DocKind, PERSON_CARDS_MAX, PersonAct, PolicyAct, SetError, VisitorAct,
    shard_of,
};
use crate::entry::{Body, CampusRecord, ChangeRecord, Entry, Stamp};
use crate::feed;
use crate::ids::*;
use crate::mesh::{Event, Mesh};
use crate::person::{CardState, Person};
use crate::store::{Read, StoreError, Tx};
use crate::wire;
use std::collections::BTreeMap;

/// Most changes of persons in one command; an import is several commands ([`chunks`]).
pub const PERSON_CHANGES_MAX: usize = 2_048;
/// Keys that the persons of one change write together, about; leaves it far below the largest change.
const CHANGE_KEYS: usize = 160;
/// Bytes of the act that one change carries, about.
const CHANGE_ACT_BYTES: usize = 3 << 10;

/// What happens to one person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PersonChange {
    /// Who.
    pub person: PersonId,
    /// The campus whose documents hold the person.
    pub home: CampusId,
    /// What.
    pub act: PersonAct,
}

impl PersonChange {
    /// Records a person, or sets all of it again.
    pub fn add(person: Person) -> PersonChange {
        let Person { person, home, name, staff_number, category, status, valid, cards, id_hash } = person;
        PersonChange {
            person,
            home,
            act: PersonAct::Add { name, staff_number, category, status, valid, id_hash, cards },
        }
    }
}

/// Why acts are not written; nothing of the command was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)] // The message of each variant says what its fields are.
pub enum Denied {
    #[error("{count} persons at once; at most {PERSON_CHANGES_MAX}, split them")]
    TooManyPersons { count: usize },
    #[error("{campus} is not a campus; known are {}", listed(.known))]
    UnknownCampus { campus: CampusId, known: Vec<CampusId> },
    #[error("{person} is of {known}, not {home}; move the person first")]
    OtherHome { person: PersonId, known: CampusId, home: CampusId },
    #[error("{person} is not a person of {home}")]
    UnknownPerson { person: PersonId, home: CampusId },
    #[error("card {card} for {person}: {holder} has it; take it back first")]
    CardHeld { card: CardNumber, person: PersonId, holder: PersonId },
    #[error("card {card} is the card of {person}; take another temporary card")]
    CardOfPerson { card: CardNumber, person: PersonId },
    #[error("the visit ends before it begins; give a later end")]
    VisitBackwards,
    #[error("{visitor} is not a visitor of {campus}")]
    UnknownVisitor { visitor: PersonId, campus: CampusId },
    #[error("people, policy and visitors of {campus} are changed there or at headquarters")]
    NotOurs { campus: CampusId },
    #[error("{0}")]
    Document(DocError),
}

fn listed(campuses: &[CampusId]) -> String {
    if campuses.is_empty() {
        return "none yet".to_owned();
    }
    campuses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What authors a command, and when.
#[derive(Clone, Copy, Debug)]
pub struct Author {
    /// The operator.
    pub operator: OperatorId,
    /// The node's stamp of the turn.
    pub stamp: Stamp,
}

/// Outer: our own side failed and the turn must be dropped. Inner: refused, nothing was written.
pub type Written = Result<Result<(), Denied>, StoreError>;

/// Returns from the function with a refusal.
macro_rules! deny {
    ($denied:expr) => {
        return Ok(Err($denied))
    };
}

impl Documents {
    /// Changes persons of campuses that this node may write for.
    pub fn people<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        by: Author,
        changes: Vec<PersonChange>,
        events: &mut Vec<Event>,
    ) -> Written {
        self.people_moved(mesh, tx, by, Vec::new(), changes, events)
    }

    /// As [`Documents::people`], after some of the persons have moved to the campus named with each: moves and changes
    /// are written together or not at all.
    pub fn people_moved<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        by: Author,
        moves: Vec<(Person, CampusId)>,
        changes: Vec<PersonChange>,
        events: &mut Vec<Event>,
    ) -> Written {
        let count = changes.len().max(moves.len());
        if count > PERSON_CHANGES_MAX {
            deny!(Denied::TooManyPersons { count });
        }
        let homes = moves.iter().map(|(person, to)| (person.person, *to)).collect();
        if let Err(denied) = judge_people(mesh, homes, &changes) {
            return Ok(Err(denied));
        }
        let mut all = Vec::new();
        for (person, to) in moves {
            let homes = mesh.homes(tx, &person)?;
            all.extend(moved(person, to, homes));
        }
        all.extend(changes);
        self.write_people(mesh, tx, by, all, events)
    }

    fn write_people<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        by: Author,
        changes: Vec<PersonChange>,
        events: &mut Vec<Event>,
    ) -> Written {
        let mut by_document: BTreeMap<DocKind, Vec<(PersonId, PersonAct)>> = BTreeMap::new();
        for change in changes {
            let campus = match campus_of(mesh, change.home) {
                Ok(campus) => campus,
                Err(denied) => return Ok(Err(denied)),
            };
            let shard = shard_of(change.person, campus.people_shards);
            let kind = DocKind::People { campus: change.home, shard };
            by_document.entry(kind).or_default().push((change.person, change.act));
        }
        let packed = by_document.into_iter();
        let bodies = packed.map(|(kind, acts)| (kind, pack(acts).into_iter().map(ActBody::People).collect()));
        self.write(mesh, tx, by, bodies.collect(), events)
    }

    /// Changes the policy of a campus.
    pub fn policy<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        by: Author,
        (campus, act): (CampusId, PolicyAct),
        events: &mut Vec<Event>,
    ) -> Written {
        if let Err(denied) = campus_of(mesh, campus) {
            return Ok(Err(denied));
        }
        let body = ActBody::Policy(Box::new(act));
        self.write(mesh, tx, by, vec![(DocKind::Policy(campus), vec![body])], events)
    }

    /// Records or changes a visitor of a campus.
    pub fn visitor<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        by: Author,
        (campus, visitor, act): (CampusId, PersonId, VisitorAct),
        events: &mut Vec<Event>,
    ) -> Written {
        let offset_minutes = match campus_of(mesh, campus) {
            Ok(campus) => campus.utc_offset_minutes,
            Err(denied) => return Ok(Err(denied)),
        };
        let known = Mesh::visitor(tx, visitor, campus)?;
        if let VisitorAct::Add(visit) = &act {
            if let Some(person) = mesh.people.read().registered(visit.card) {
                deny!(Denied::CardOfPerson { card: visit.card, person });
            }
            if visit.until_ms <= visit.from_ms {
                deny!(Denied::VisitBackwards);
            }
        }
        let month = match (&known, &act) {
            (Some(row), _) => row.month,
            (None, VisitorAct::Add(visit)) => month_of(visit.until_ms, offset_minutes),
            (None, _) => deny!(Denied::UnknownVisitor { visitor, campus }),
        };
        let body = ActBody::Visitors(vec![(visitor, act)]);
        self.write(mesh, tx, by, vec![(DocKind::Visitors { campus, month }, vec![body])], events)
    }

    /// Erases visits from the document of a month.
    pub fn erase_visits<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        by: Author,
        (campus, month): (CampusId, u16),
        visitors: impl IntoIterator<Item = PersonId>,
        events: &mut Vec<Event>,
    ) -> Written {
        let visitors = visitors.into_iter();
        let bodies = visitors.map(|visitor| ActBody::Visitors(vec![(visitor, VisitorAct::Remove)])).collect();
        self.write(mesh, tx, by, vec![(DocKind::Visitors { campus, month }, bodies)], events)
    }

    /// Writes acts, a change each, into this node's feeds; all of them or none.
    fn write<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        by: Author,
        bodies: Vec<(DocKind, Vec<ActBody>)>,
        events: &mut Vec<Event>,
    ) -> Written {
        let mut all = Vec::with_capacity(bodies.len());
        for (kind, bodies) in bodies {
            let doc = DocId { kind, epoch: epochs::current(tx, &kind)? };
            if !doc.may_write(mesh.place) {
                deny!(Denied::NotOurs { campus: doc.campus() });
            }
            let acts = acts_of(mesh, tx, by, doc, bodies)?;
            for act in &acts {
                match self.set.check(tx, doc, mesh.me, act) {
                    Ok(()) => {}
                    Err(SetError::Doc(error)) => deny!(Denied::Document(error)),
                    Err(SetError::Store(error)) => return Err(error),
                }
            }
            all.push((doc, acts));
        }
        for (doc, acts) in all {
            if let Some(cause) = self.say(mesh, tx, by.stamp, doc, &acts, events)? {
                return Err(own_failure(cause.into()));
            }
        }
        Ok(Ok(()))
    }

    /// Writes checked acts of ours into a document and its changes into our feed. The first refusal, if any.
    pub(super) fn say<R: Read + ?Sized>(
        &mut self,
        mesh: &mut Mesh,
        tx: &mut Tx<'_, R>,
        stamp: Stamp,
        doc: DocId,
        acts: &[Act],
        events: &mut Vec<Event>,
    ) -> Result<Option<DocError>, StoreError> {
        let time_s = stamp.hub_time_ms.div_euclid(1000);
        let (each, patch) = self.set.author_all(tx, doc, mesh.me, acts, time_s).map_err(own_failure)?;
        let feed = FeedId { writer: mesh.me, channel: doc.channel() };
        let mut refused = None;
        for change in each {
            match change {
                Ok(Some(change)) => {
                    let body = Body::Change(ChangeRecord { doc, change });
                    tx.append(feed, Entry { stamp, body }.encode())?;
                }
                Ok(None) => {}
                Err(cause) => refused = refused.or(Some(cause)),
            }
        }
        project(mesh, tx, &doc.kind, patch, events)?;
        Ok(refused)
    }
}

/// Cuts an import into commands that open each document once and fit memory: sorted by campus and shard.
pub fn chunks(mesh: &Mesh, mut changes: Vec<PersonChange>) -> Vec<Vec<PersonChange>> {
    let place = |change: &PersonChange| {
        let shards = mesh.campuses.get(&change.home).map_or(1, |c| c.people_shards);
        (change.home, shard_of(change.person, shards))
    };
    changes.sort_by_cached_key(place);
    let mut chunks: Vec<Vec<PersonChange>> = Vec::new();
    for change in changes {
        match chunks.last_mut().filter(|chunk| chunk.len() < PERSON_CHANGES_MAX) {
            Some(chunk) => chunk.push(change),
            None => chunks.push(vec![change]),
        }
    }
    chunks
}

/// A person out of the documents of every other campus, and whole into those of one. Where he stands there already, what
/// that campus says of him stays: so headquarters ends a claim of another campus.
fn moved(person: Person, to: CampusId, homes: Vec<CampusId>) -> Vec<PersonChange> {
    let who = person.person;
    let stays = homes.contains(&to);
    let out = homes.into_iter().filter(|home| *home != to);
    let mut all: Vec<_> = out.map(|home| PersonChange { person: who, home, act: PersonAct::Remove }).collect();
    if !stays {
        let mut first = Person { home: to, ..person };
        let more = first.cards.split_off(first.cards.len().min(PERSON_CARDS_MAX));
        all.push(PersonChange::add(first));
        all.extend(more.into_iter().map(|card| PersonChange { person: who, home: to, act: PersonAct::AddCard(card) }));
    }
    all
}

/// Whether the changes make sense together with what this node knows; `homes` are those of whoever moves first.
fn judge_people(mesh: &Mesh, homes: BTreeMap<PersonId, CampusId>, changes: &[PersonChange]) -> Result<(), Denied> {
    let people = mesh.people.read();
    for home in homes.values() {
        campus_of(mesh, *home)?;
    }
    let mut added = homes;
    let mut handed_out: BTreeMap<CardNumber, PersonId> = BTreeMap::new();
    for PersonChange { person, home, act } in changes {
        campus_of(mesh, *home)?;
        let known = added.get(person).copied().or_else(|| people.holder(*person).map(|h| h.home));
        match (known, act) {
            (Some(known), _) if known != *home => {
                return Err(Denied::OtherHome { person: *person, known, home: *home });
            }
            (None, PersonAct::Add { .. }) => drop(added.insert(*person, *home)),
            (None, _) => return Err(Denied::UnknownPerson { person: *person, home: *home }),
            (Some(_), _) => {}
        }
        let cards = match act {
            PersonAct::Add { cards, .. } => cards.as_slice(),
            PersonAct::AddCard(card) => std::slice::from_ref(card),
            _ => &[],
        };
        for card in cards.iter().filter(|c| c.state != CardState::Cancelled) {
            let holder = handed_out.insert(card.number, *person).or_else(|| people.registered(card.number));
            if let Some(holder) = holder.filter(|h| h != person) {
                return Err(Denied::CardHeld { card: card.number, person: *person, holder });
            }
        }
    }
    Ok(())
}

fn campus_of(mesh: &Mesh, campus: CampusId) -> Result<&CampusRecord, Denied> {
    let unknown = || Denied::UnknownCampus { campus, known: mesh.campuses.keys().copied().collect() };
    mesh.campuses.get(&campus).ok_or_else(unknown)
}

/// Small groups of persons, a change each, in order.
fn pack(acts: Vec<(PersonId, PersonAct)>) -> Vec<Vec<(PersonId, PersonAct)>> {
    let mut packed: Vec<Vec<(PersonId, PersonAct)>> = Vec::new();
    let (mut keys, mut bytes) = (0, 0);
    for (person, act) in acts {
        let (act_keys, act_bytes) = (keys_of(&act), wire::encode(&act).len());
        let same = packed.last().is_some_and(|group| group.iter().any(|(p, _)| *p == person));
        let full = packed.last().is_none_or(|group| group.len() >= ACT_PERSONS_MAX);
        if full || same || keys + act_keys > CHANGE_KEYS || bytes + act_bytes > CHANGE_ACT_BYTES {
            packed.push(Vec::new());
            (keys, bytes) = (0, 0);
        }
        keys += act_keys;
        bytes += act_bytes;
        if let Some(group) = packed.last_mut() {
            group.push((person, act));
        }
    }
    packed
}

/// About how many keys an act writes.
fn keys_of(act: &PersonAct) -> usize {
    match act {
        PersonAct::Add { cards, .. } => 7 + 3 * cards.len(),
        // Everything of the person or card may be deleted: a change of its own.
        PersonAct::Remove | PersonAct::RemoveCard(_) => CHANGE_KEYS,
        _ => 3,
    }
}

/// Gives each act its id: made of the place in our feed where its change goes.
fn acts_of<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &Tx<'_, R>,
    by: Author,
    doc: DocId,
    bodies: Vec<ActBody>,
) -> Result<Vec<Act>, StoreError> {
    let feed = FeedId { writer: mesh.me, channel: doc.channel() };
    let end = tx.feed(&feed)?.end;
    let acts = (0u64..).zip(bodies).map(|(at, body)| {
        let hash = feed::digest("yika act 1", &wire::encode(&(feed, end, doc, at)));
        let (head, _) = hash.0.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        Act { id: ActId(u64::from_le_bytes(*head)), operator: by.operator, body }
    });
    Ok(acts.collect())
}

/// Months since 1970 at a moment, by the campus' calendar.
pub fn month_of(ms: i64, offset_minutes: i16) -> u16 {
    let day = civil::civil(ms, offset_minutes).day;
    let day = Day(day.0.clamp(0, DAY_MAX));
    let months =
        civil::date_of(day).map_or(0, |date| (date.year() - 1970) * 12 + i32::from(u8::from(date.month())) - 1);
    u16::try_from(months).unwrap_or(u16::MAX)
}

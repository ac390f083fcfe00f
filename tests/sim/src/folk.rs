//! People and visitors in documents: recorded, changed and moved by clerks at boxes and at headquarters at once.
//!
//! The reference: after an act a node's own row says what the act said, a card is served as the rows of its box say at the
//! moment, and what one node alone wrote of a field is what all nodes say in the end. Leaves to others: the comparison
//! of all rows (`known`), doors and who may pass them (`doors`).

use crate::crowd::{FIRST_CARD, person_of};
use crate::more::Work;
use crate::office;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::channel::FeedId;
use yika_crdt::civil;
use yika_crdt::docs::{DocKind, PersonAct, Visitor, VisitorAct};
use yika_crdt::documents::PersonChange;
use yika_crdt::edge;
use yika_crdt::entry::*;
use yika_crdt::feed::Hash;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_crdt::reason::Reason;
use yika_crdt::sale::{Answer, PurchaseRequest};
use yika_crdt::store::{Read, decode_row};
use yika_hub_core as core;

const CLERK: OperatorId = OperatorId(8);
/// Cards of one person: numbers this far apart.
pub const CARDS_APART: u64 = 1_000;
/// Persons beyond those who eat.
const IMPORTED_MAX: u64 = 24;
/// Number of the first visitor.
const FIRST_VISITOR: u64 = 7_000;
/// First number of temporary cards.
const FIRST_TEMPORARY_CARD: u64 = 900_000;

/// A field that acts set, and what they set it to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Field {
    Name,
    Status,
    Category,
    Card(CardNumber),
}

/// Who wrote a field, and the last value of each.
#[derive(Default)]
struct Written {
    by: BTreeSet<NodeId>,
    last: String,
    /// Something was written that may not stand, or by a way that writes everything.
    unsure: bool,
}

/// What clerks did.
#[derive(Default)]
pub struct Folk {
    /// Blocks and lifts that stood anywhere, by feed and position.
    pub words: BTreeMap<FeedId, Vec<(Hash, Option<Body>)>>,
    written: BTreeMap<(PersonId, Field), Written>,
    /// Persons of whom everything was written at once, or in documents of several campuses.
    moved: BTreeSet<PersonId>,
    imported: u64,
    acts: u64,
    visitors: u64,
}

/// What an act sets, as far as it is followed.
fn sets(act: &PersonAct) -> Option<(Field, String)> {
    match act {
        PersonAct::SetName(name) => Some((Field::Name, name.clone())),
        PersonAct::SetStatus(status) => Some((Field::Status, format!("{status:?}"))),
        PersonAct::SetCategory(category) => Some((Field::Category, category.to_string())),
        PersonAct::AddCard(Card { number, state, .. }) | PersonAct::SetCardState(number, state) => {
            Some((Field::Card(*number), format!("{state:?}")))
        }
        PersonAct::RemoveCard(number) => Some((Field::Card(*number), "none".into())),
        _ => None,
    }
}

/// What a person's row says of a field.
fn said(person: &Person, field: &Field) -> String {
    match field {
        Field::Name => person.name.clone(),
        Field::Status => format!("{:?}", person.status),
        Field::Category => person.category.to_string(),
        Field::Card(number) => {
            let card = person.cards.iter().find(|card| card.number == *number);
            card.map_or_else(|| "none".into(), |card| format!("{:?}", card.state))
        }
    }
}

fn row_of<R: Read>(disk: &R, person: PersonId) -> Option<Person> {
    let key = keys::person(person);
    disk.get(&key).ok().flatten().and_then(|row| decode_row(&key, &row).ok())
}

/// A card of a person: the first, or a later one.
pub fn card_of(person: u64, number: u64) -> CardNumber {
    CardNumber(FIRST_CARD + person + CARDS_APART * number)
}

impl World {
    /// A clerk does something with people or visitors.
    pub fn clerk(&mut self) {
        if !self.is_busy() {
            return;
        }
        self.soon(150, 2_500, Work::Clerk);
        match self.more.chance.below(14) {
            0 => self.import(),
            1 => self.move_somebody(),
            2 => self.rebase(),
            3 => self.receive_visitor(),
            4..=8 => self.change_person(None),
            _ => {
                let n = self.more.chance.below(self.boxes.len() as u64) as usize;
                self.change_person(Some(n));
            }
        }
    }

    fn import(&mut self) {
        let count = 1 + self.more.chance.below(5);
        let campuses: Vec<CampusId> = self.boxes.iter().filter_map(|node| node.place.campus).collect();
        let mut acts = Vec::new();
        for _ in 0..count.min(IMPORTED_MAX - self.more.folk.imported.min(IMPORTED_MAX)) {
            self.more.folk.imported += 1;
            let number = 100 + self.more.folk.imported;
            let home = self.more.chance.pick(&campuses).copied().unwrap_or(CampusId(1));
            acts.push(PersonChange::add(Person { home, ..office::person(number) }));
            self.more.folk.moved.insert(PersonId(number));
        }
        let is_done = !acts.is_empty() && self.order_people(BTreeMap::new(), acts) == Ok(core::Reply::Done);
        if is_done {
            self.done("people imported");
        }
    }

    fn order_people(
        &mut self,
        moves: BTreeMap<PersonId, CampusId>,
        acts: Vec<PersonChange>,
    ) -> Result<core::Reply, crate::turn::NotDone> {
        self.order(core::Command::People { operator: CLERK, moves, acts })
    }

    fn somebody(&mut self) -> PersonId {
        let imported = self.more.folk.imported;
        match imported > 0 && self.more.chance.one_in(4) {
            true => PersonId(101 + self.more.chance.below(imported)),
            false => PersonId(1 + self.more.chance.below(self.plan.people)),
        }
    }

    fn move_somebody(&mut self) {
        let person = self.somebody();
        let campuses: Vec<CampusId> = self.boxes.iter().filter_map(|node| node.place.campus).collect();
        let Some(to) = self.more.chance.pick(&campuses).copied() else { return };
        let is_there = row_of(&self.hub.disk, person).is_some_and(|known| known.home == to);
        if is_there {
            return;
        }
        self.more.folk.moved.insert(person);
        self.note(|| format!("{person} moves to {to}"));
        if self.order_people(BTreeMap::from([(person, to)]), Vec::new()) == Ok(core::Reply::Done) {
            self.done("people moved");
        }
    }

    /// A clerk of another class of faults renames somebody: who wrote the name last is not followed.
    pub fn name_is_unsure(&mut self, person: PersonId) {
        self.more.folk.written.entry((person, Field::Name)).or_default().unsure = true;
    }

    fn rebase(&mut self) {
        let campuses: Vec<CampusId> = self.boxes.iter().filter_map(|node| node.place.campus).collect();
        let Some(campus) = self.more.chance.pick(&campuses).copied() else { return };
        let kind = match self.more.chance.below(3) {
            0 => DocKind::Policy(campus),
            shard => DocKind::People { campus, shard: shard as u16 - 1 },
        };
        if self.order(core::Command::Rebase(kind)) == Ok(core::Reply::Done) {
            self.note(|| format!("{kind:?} begins a new epoch"));
            self.done("epochs");
        }
    }

    fn draw_act(&mut self, person: PersonId) -> PersonAct {
        self.more.folk.acts += 1;
        let number = self.more.folk.acts;
        let card = card_of(person.0, self.more.chance.below(3));
        match self.more.chance.below(9) {
            0 | 1 => PersonAct::SetName(format!("改名{number}")),
            2 => PersonAct::SetStatus(PersonStatus::Suspended),
            3 | 4 => PersonAct::SetStatus(PersonStatus::Active),
            5 => PersonAct::AddCard(Card { number: card, uid: None, state: CardState::Active, valid_until: None }),
            6 => PersonAct::SetCardState(card, CardState::Active),
            7 => PersonAct::SetCardState(card, CardState::Cancelled),
            _ => PersonAct::RemoveCard(card),
        }
    }

    /// Somebody is changed at a box, or at headquarters.
    fn change_person(&mut self, at: Option<usize>) {
        let person = self.somebody();
        let act = self.draw_act(person);
        let disk = at.map_or(&self.hub.disk, |n| &self.boxes[n].disk);
        let Some(before) = row_of(disk, person) else { return };
        let home = match at {
            None => before.home,
            Some(n) => self.boxes[n].place.campus.unwrap_or(before.home),
        };
        // A card whose state is set is there: of another nothing is known but its state.
        if let PersonAct::SetCardState(number, _) = act
            && !before.cards.iter().any(|card| card.number == number)
        {
            return;
        }
        let changes = vec![PersonChange { person, home, act: act.clone() }];
        let done = match at {
            None => self.order_people(BTreeMap::new(), changes).map(|reply| reply == core::Reply::Done),
            Some(n) => {
                let command = edge::Command::People { operator: CLERK, acts: changes };
                self.tell(n, command).map(|reply| reply == edge::Reply::Done)
            }
        };
        let node = at.map_or(NodeId::HUB, |n| self.boxes[n].me.node);
        self.trace(|| format!("{node} changes {person}: {act:?}: {done:?}"));
        let Some((field, value)) = sets(&act) else { return };
        let written = self.more.folk.written.entry((person, field.clone())).or_default();
        match done {
            Ok(true) => {
                written.by.insert(node);
                written.last = value.clone();
                self.done("people changed");
                self.check_own_row(at, person, &field, &value);
            }
            Ok(false) => {}
            // It may be written though nobody heard of it.
            Err(_) => written.unsure = true,
        }
    }

    /// What was just written at a node is what its row says.
    fn check_own_row(&mut self, at: Option<usize>, person: PersonId, field: &Field, value: &str) {
        let (disk, mesh) = match at {
            None => (&self.hub.disk, self.hub.core.as_ref().map(|hub| &hub.mesh)),
            Some(n) => (&self.boxes[n].disk, self.boxes[n].core.as_ref().map(|edge| &edge.mesh)),
        };
        // Of who stands in documents of several campuses counts what all of them say.
        if mesh.is_none_or(|mesh| mesh.is_twice(person)) {
            return;
        }
        let now = row_of(disk, person).map(|row| said(&row, field));
        if now.as_deref() != Some(value) {
            let node = at.map_or(NodeId::HUB, |n| self.boxes[n].me.node);
            self.fail(format!("{node} sets {field:?} of {person} to {value}, and its row says {now:?}"));
        }
    }

    /// A visitor gets a temporary card, or gives it back.
    fn receive_visitor(&mut self) {
        let n = self.more.chance.below(self.boxes.len() as u64) as usize;
        let Some(campus) = self.boxes[n].place.campus else { return };
        let by_box = self.more.chance.one_in(2);
        let known = self.more.folk.visitors;
        let (visitor, act) = match known > 0 && self.more.chance.one_in(3) {
            true => {
                let visitor = PersonId(FIRST_VISITOR + 1 + self.more.chance.below(known));
                let until_ms = self.now_ms + self.more.chance.between(60_000, 86_400_000);
                (visitor, if self.more.chance.one_in(2) { VisitorAct::End } else { VisitorAct::SetUntil(until_ms) })
            }
            false => {
                self.more.folk.visitors += 1;
                let visitor = PersonId(FIRST_VISITOR + self.more.folk.visitors);
                let card = CardNumber(FIRST_TEMPORARY_CARD + self.more.chance.below(4));
                let until_ms = self.now_ms + self.more.chance.between(10_000, 86_400_000);
                let visit = Visitor {
                    visitor,
                    name: format!("访客{}", visitor.0),
                    host: None,
                    card,
                    uid: None,
                    from_ms: self.now_ms,
                    until_ms,
                    groups: BTreeSet::new(),
                    ended: false,
                };
                (visitor, VisitorAct::Add(visit))
            }
        };
        let is_done = match by_box {
            true => {
                let command = edge::Command::Visitor { operator: CLERK, visitor, act };
                self.tell(n, command) == Ok(edge::Reply::Done)
            }
            false => {
                let command = core::Command::Visitor { campus, operator: CLERK, visitor, act };
                self.order(command) == Ok(core::Reply::Done)
            }
        };
        if is_done {
            self.done("visits");
        }
    }

    /// Whether a card may be used at a box, by the rows of its disk at this moment.
    pub fn usable_by_rows(&self, n: usize, card: CardNumber) -> Result<(), Reason> {
        let node = &self.boxes[n];
        let row = row_of(&node.disk, person_of(card)).ok_or(Reason::UnknownCard)?;
        let held = row.cards.iter().find(|held| held.number == card).ok_or(Reason::UnknownCard)?;
        let today = civil::business_day(self.now_ms, 480, 180);
        let in_days = row.valid.0.is_none_or(|from| from <= today) && row.valid.1.is_none_or(|until| today <= until);
        let is_active = row.status == PersonStatus::Active && held.state == CardState::Active && in_days;
        if is_active { Ok(()) } else { Err(Reason::NotActive) }
    }

    /// A person's cards are served as the newest document that the box holds says.
    pub fn check_served(&mut self, n: usize, request: &PurchaseRequest, answer: &Answer) {
        let by_rows = self.usable_by_rows(n, request.card);
        let by_box = match answer {
            Answer::Approved(_) => Ok(()),
            Answer::Refused(reason @ (Reason::UnknownCard | Reason::NotActive)) => Err(*reason),
            _ => return,
        };
        if by_rows != by_box {
            let (me, card) = (self.boxes[n].me, request.card);
            self.fail(format!("{me} answers card {card} with {by_box:?}, and its documents say {by_rows:?}"));
        }
    }

    /// What one node alone wrote of a field is what headquarters says in the end.
    pub fn compare_folk(&mut self) {
        if !self.honest() {
            return;
        }
        let mut wrong = None;
        for ((person, field), written) in &self.more.folk.written {
            if written.unsure || written.by.len() != 1 || self.more.folk.moved.contains(person) {
                continue;
            }
            let now = row_of(&self.hub.disk, *person).map(|row| said(&row, field));
            if now.as_deref() != Some(written.last.as_str()) {
                let (by, last) = (&written.by, &written.last);
                wrong = Some(format!("only {by:?} wrote {field:?} of {person}, last {last}; in the end it is {now:?}"));
                break;
            }
        }
        if let Some(words) = wrong {
            self.fail(words);
        }
    }
}

//! People documents: persons and their cards as keys `person/field` and `person/c/card/field`, each merged on its own.
//!
//! Person ids are unique by construction, so two writers never mean different things by one key.
//! Leaves to others: blocks (never documents), card numbers held by two persons (the tables decide by the registry).

use super::act::{ActError, DAY_MAX, Write, check_day, check_text, put_or_delete};
use super::chunk::Value;
use super::view::Fields;
use crate::ids::{CampusId, CardNumber, CategoryId, Day, PersonId};
use crate::person::{Card, CardState, Person, PersonStatus};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// People in one shard, about.
pub const SHARD_PERSONS: u32 = 400;
/// Most cards recorded with one person at once; a longer history stays at the hub.
pub const PERSON_CARDS_MAX: usize = 8;

/// What happens to a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PersonAct {
    /// The person is recorded, or all of it is set again (an import's row).
    Add {
        /// Name as shown.
        name: String,
        /// Unique per institution.
        staff_number: String,
        /// Price and limit class.
        category: CategoryId,
        /// Whether the person takes part.
        status: PersonStatus,
        /// First and last day of validity, where set.
        valid: (Option<Day>, Option<Day>),
        /// Keyed hash of the ID number.
        id_hash: [u8; 16],
        /// Cards that come with the person; other cards stay.
        cards: Vec<Card>,
    },
    /// Another name.
    SetName(String),
    /// Another staff number.
    SetStaffNumber(String),
    /// Another category.
    SetCategory(CategoryId),
    /// Another status.
    SetStatus(PersonStatus),
    /// Another validity.
    SetValidity(Option<Day>, Option<Day>),
    /// Another keyed hash of the ID number.
    SetIdHash([u8; 16]),
    /// A card is handed out, or all of it is set again.
    AddCard(Card),
    /// A card changes its state.
    SetCardState(CardNumber, CardState),
    /// A card's last day changes.
    SetCardValidity(CardNumber, Option<Day>),
    /// A card is taken from the person.
    RemoveCard(CardNumber),
    /// The person is erased; what was written before is gone only after the re-base.
    Remove,
}

/// What changed, as plain values.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeoplePatch {
    /// Persons touched, whole.
    pub upserted: Vec<Person>,
    /// Persons that are not (or not wholly) in the document.
    pub removed: Vec<PersonId>,
}

/// The shard of a person's home campus that holds it.
pub fn shard_of(person: PersonId, shard_count: u16) -> u16 {
    let hash = Sha256::new().chain_update(b"yika people shard").chain_update(person.0.to_le_bytes()).finalize();
    let (head, _) = hash.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    (u64::from_le_bytes(*head) % u64::from(shard_count.max(1))) as u16
}

/// Shards of a campus that says nothing else: for about 100,000 people.
pub const PEOPLE_SHARDS_DEFAULT: u16 = 256;

/// Most shards of a campus: a fence re-bases them all.
pub const PEOPLE_SHARDS_MAX: u16 = 1024;

/// Shards for so many people.
pub fn shard_count_for(people: u32) -> u16 {
    people.div_ceil(SHARD_PERSONS).clamp(1, u32::from(PEOPLE_SHARDS_MAX)) as u16
}

fn key(person: PersonId, field: &str) -> String {
    format!("{:x}/{field}", person.0)
}

fn card_key(person: PersonId, card: CardNumber, field: &str) -> String {
    format!("{:x}/c/{}/{field}", person.0, card.0)
}

fn day_value(day: Option<Day>) -> Option<Value> {
    day.map(|d| Value::Int(i64::from(d.0)))
}

pub(super) fn writes(person: PersonId, act: &PersonAct, out: &mut Vec<Write>) -> Result<(), ActError> {
    if person.0 == 0 || person.0 > i64::MAX as u64 {
        return Err(ActError::Range("person id"));
    }
    let put = |field: &str, value| Write::Put(key(person, field), value);
    match act {
        PersonAct::Add { name, staff_number, category, status, valid, id_hash, cards } => {
            if cards.len() > PERSON_CARDS_MAX {
                return Err(ActError::Range("number of cards"));
            }
            let parts = [
                PersonAct::SetName(name.clone()),
                PersonAct::SetStaffNumber(staff_number.clone()),
                PersonAct::SetCategory(*category),
                PersonAct::SetStatus(*status),
                PersonAct::SetValidity(valid.0, valid.1),
                PersonAct::SetIdHash(*id_hash),
            ];
            for part in parts.into_iter().chain(cards.iter().cloned().map(PersonAct::AddCard)) {
                writes(person, &part, out)?;
            }
        }
        PersonAct::SetName(name) => {
            check_text("name", name)?;
            out.push(put("n", Value::Text(name.clone())));
        }
        PersonAct::SetStaffNumber(number) => {
            check_text("staff number", number)?;
            out.push(put("s", Value::Text(number.clone())));
        }
        PersonAct::SetCategory(category) => out.push(put("k", Value::Uint(category.0.into()))),
        PersonAct::SetStatus(status) => out.push(put("t", Value::Uint(*status as u64))),
        PersonAct::SetValidity(from, until) => {
            for (field, day) in [("f", from), ("u", until)] {
                check_day("validity", day.map_or(0, |d| d.0))?;
                put_or_delete(out, key(person, field), day_value(*day));
            }
        }
        PersonAct::SetIdHash(hash) => out.push(put("h", Value::Bytes(hash.to_vec()))),
        PersonAct::AddCard(card) => {
            let at = |field| card_key(person, card.number, field);
            out.push(Write::Put(at("s"), Value::Uint(card.state as u64)));
            put_or_delete(out, at("i"), card.uid.map(Value::Uint));
            writes(person, &PersonAct::SetCardValidity(card.number, card.valid_until), out)?;
        }
        PersonAct::SetCardState(number, state) => {
            out.push(Write::Put(card_key(person, *number, "s"), Value::Uint(*state as u64)));
        }
        PersonAct::SetCardValidity(number, day) => {
            check_day("card validity", day.map_or(0, |d| d.0))?;
            put_or_delete(out, card_key(person, *number, "u"), day_value(*day));
        }
        PersonAct::RemoveCard(number) => {
            out.push(Write::DeleteUnder(format!("{:x}/c/{}/", person.0, number.0)));
        }
        PersonAct::Remove => out.push(Write::DeleteUnder(format!("{:x}/", person.0))),
    }
    Ok(())
}

/// The person a key is about.
pub(super) fn touched(key: &str) -> Option<PersonId> {
    let (id, _) = key.split_once('/')?;
    u64::from_str_radix(id, 16).ok().map(PersonId)
}

/// Projects persons; a person counts only when name, staff number, category and status are all there.
pub(super) fn project<F: Fields>(doc: &F, home: CampusId, persons: &BTreeSet<PersonId>) -> PeoplePatch {
    let mut patch = PeoplePatch::default();
    for person in persons {
        match person_in(doc, home, *person) {
            Some(found) => patch.upserted.push(found),
            None => patch.removed.push(*person),
        }
    }
    patch
}

fn person_in<F: Fields>(doc: &F, home: CampusId, person: PersonId) -> Option<Person> {
    let prefix = format!("{:x}/", person.0);
    let mut fields: BTreeMap<String, Value> = BTreeMap::new();
    let mut cards: BTreeMap<CardNumber, BTreeMap<String, Value>> = BTreeMap::new();
    for (key, value) in doc.under(&prefix) {
        let rest = key.get(prefix.len()..)?;
        match rest.strip_prefix("c/").and_then(|r| r.split_once('/')) {
            Some((number, field)) => {
                if let Ok(number) = number.parse() {
                    cards.entry(CardNumber(number)).or_default().insert(field.to_owned(), value);
                }
            }
            None => drop(fields.insert(rest.to_owned(), value)),
        }
    }
    let mut cards: Vec<Card> = cards.iter().filter_map(|(number, fields)| card_of(*number, fields)).collect();
    cards.sort_by_key(|c| (c.state.rank(), c.number));
    Some(Person {
        person,
        home,
        name: text(&fields, "n")?,
        staff_number: text(&fields, "s")?,
        category: CategoryId(u16::try_from(uint(&fields, "k")?).ok()?),
        status: match uint(&fields, "t")? {
            0 => PersonStatus::Active,
            1 => PersonStatus::Suspended,
            // A status nobody knows lets nobody in.
            _ => PersonStatus::Left,
        },
        valid: (day(&fields, "f"), day(&fields, "u")),
        cards,
        id_hash: match fields.get("h") {
            Some(Value::Bytes(bytes)) => <[u8; 16]>::try_from(bytes.as_slice()).unwrap_or_default(),
            _ => [0; 16],
        },
    })
}

fn card_of(number: CardNumber, fields: &BTreeMap<String, Value>) -> Option<Card> {
    Some(Card {
        number,
        uid: uint(fields, "i"),
        state: match uint(fields, "s")? {
            0 => CardState::Issued,
            1 => CardState::Active,
            _ => CardState::Cancelled,
        },
        valid_until: day(fields, "u"),
    })
}

pub(super) fn text(fields: &BTreeMap<String, Value>, field: &str) -> Option<String> {
    match fields.get(field)? {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

pub(super) fn uint(fields: &BTreeMap<String, Value>, field: &str) -> Option<u64> {
    match fields.get(field)? {
        Value::Uint(n) => Some(*n),
        _ => None,
    }
}

pub(super) fn int(fields: &BTreeMap<String, Value>, field: &str) -> Option<i64> {
    match fields.get(field)? {
        Value::Int(n) => Some(*n),
        _ => None,
    }
}

fn day(fields: &BTreeMap<String, Value>, field: &str) -> Option<Day> {
    let max = i64::from(DAY_MAX);
    int(fields, field).map(|n| Day(n.clamp(-max, max) as i32))
}

//! Looking people up: by card number or chip (in whatever form a reader types it) from the index, by name or staff number
//! over the rows.
//!
//! Leaves to others: what is shown of them (`cards`).

use super::App;
use std::collections::BTreeSet;
use yika_crdt::ids::{CardNumber, PersonId};
use yika_crdt::keys;
use yika_crdt::person::Person;
use yika_crdt::store::decode_row;
use yika_drivers::card_format;
use yika_ui::{Saved, UiError};

/// Most people that one search shows.
pub(super) const FOUND_MAX: usize = 50;
/// Longest text searched for, in characters.
pub(super) const QUERY_CHARS_MAX: usize = 40;
/// Rows read at once: a reading in progress keeps the write-ahead log from being emptied.
const ROWS_AT_ONCE: usize = 2_000;

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// People, exact matches first.
    pub(super) people: Vec<Person>,
    /// There are more.
    pub(super) more: bool,
    /// The text reads as a card number that belongs to nobody known here.
    pub(super) stray: Option<CardNumber>,
}

impl App {
    /// A person's row.
    pub(super) fn person(&self, person: PersonId) -> Result<Option<Person>, UiError> {
        let key = keys::person(person);
        self.look(|store| store.get(&key)?.map(|bytes| decode_row(&key, &bytes)).transpose())
    }

    /// People whose card, staff number or name the text is or is part of.
    pub(super) fn find(&self, text: &str) -> Result<Found, UiError> {
        let text: String = text.trim().chars().take(QUERY_CHARS_MAX).collect::<String>().to_lowercase();
        let mut found = Found::default();
        if text.is_empty() {
            return Ok(found);
        }
        if let Ok(read) = card_format::readings(&text) {
            let persons: BTreeSet<PersonId> = {
                let index = self.node().people.read();
                let chips = read.chips.iter().filter_map(|chip| index.card_of_uid(*chip));
                let cards = read.number.map(CardNumber).into_iter().chain(chips);
                cards.filter_map(|card| index.person_of(card)).collect()
            };
            for person in persons {
                found.people.extend(self.person(person)?);
            }
            found.stray = read.number.map(CardNumber);
        }
        self.find_in_rows(&text, &mut found)?;
        found.people.sort_by_key(|p| p.staff_number.to_lowercase() != text);
        if !found.people.is_empty() {
            found.stray = None;
        }
        Ok(found)
    }

    fn find_in_rows(&self, text: &str, found: &mut Found) -> Result<(), UiError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self.look(|store| store.scan(keys::PERSONS, after.as_deref(), ROWS_AT_ONCE))?;
            for (key, bytes) in &rows {
                let person: Person = decode_row(key, bytes).map_err(|e| UiError::unavailable(e, Saved::Nothing))?;
                let fits =
                    person.name.to_lowercase().contains(text) || person.staff_number.to_lowercase().starts_with(text);
                if !fits || found.people.iter().any(|p| p.person == person.person) {
                    continue;
                }
                if found.people.len() >= FOUND_MAX {
                    found.more = true;
                    return Ok(());
                }
                found.people.push(person);
            }
            match rows.into_iter().next_back() {
                Some((key, _)) => after = Some(key),
                None => return Ok(()),
            }
        }
    }
}

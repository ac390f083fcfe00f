//! From what a keyboard reader typed to the card it stands for.
//!
//! Leaves to others: telling a reader from a person typing (the page's script), forms of numbers (`drivers`).

use super::super::{App, Delivers, WedgeReader};
use std::collections::BTreeSet;
use yika_crdt::ids::CardNumber;
use yika_crdt::people::People;
use yika_drivers::card_format::{self, ReaderProfile};

/// Longest text taken as a card number.
const CARD_CHARS_MAX: usize = 64;
/// Chips looked at that have a part in common: one may be a person's and a visitor's.
const PARTS_MAX: usize = 3;

/// Why a text is no card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::console) enum Unread {
    /// Not a form that this reader delivers.
    Form,
    /// The chip belongs to no card known here.
    Stranger,
    /// It fits the cards of several holders.
    Several,
    /// A part of a chip number, of a reader that is not set up for it.
    Part,
}

impl Unread {
    /// Keys of the words that say it.
    pub(in crate::console) fn words(self) -> (&'static str, &'static str) {
        match self {
            Unread::Form => ("till.unreadable", "till.unreadable.note"),
            Unread::Stranger => ("till.stranger", "till.stranger.note"),
            Unread::Several => ("till.several", "till.several.note"),
            Unread::Part => ("till.part", "till.part.note"),
        }
    }
}

impl WedgeReader {
    /// The one card that the text stands for.
    pub(in crate::console) fn card(&self, people: &People, text: &str) -> Result<CardNumber, Unread> {
        let text = text.trim();
        let text = text.strip_prefix(self.prefix.as_str()).unwrap_or(text);
        let text = text.strip_suffix(self.suffix.as_str()).unwrap_or(text);
        match self.delivers {
            Delivers::Any => any_card(people, text),
            Delivers::Number => printed_number(text).ok_or(Unread::Form),
            Delivers::Chip => card_of_chip(&self.profile, people, text),
        }
    }

    /// Key of the words that say what this reader must send.
    pub(super) fn help(&self) -> &'static str {
        match self.delivers {
            Delivers::Any => "till.reader.any",
            Delivers::Number => "till.reader.number",
            Delivers::Chip => "till.reader.chip",
        }
    }
}

impl App {
    /// The reader at the counter: that of the tills without one of their own.
    pub(in crate::console) fn reader_default(&self) -> &WedgeReader {
        &self.0.config.reader
    }
}

/// The card that the text names in any whole form. A number that names nobody goes to the core, which refuses it.
fn any_card(people: &People, text: &str) -> Result<CardNumber, Unread> {
    let read = card_format::readings(text).map_err(|_| Unread::Form)?;
    if read.partial {
        return Err(Unread::Part);
    }
    let number = read.number.map(CardNumber);
    let mut known: BTreeSet<CardNumber> = read.chips.iter().filter_map(|chip| people.card_of_uid(*chip)).collect();
    known.extend(number.filter(|card| people.person_of(*card).is_some()));
    match (known.first(), known.len()) {
        (Some(card), 1) => Ok(*card),
        (Some(_), _) => Err(Unread::Several),
        (None, _) => number.ok_or(Unread::Stranger),
    }
}

fn card_of_chip(profile: &ReaderProfile, people: &People, text: &str) -> Result<CardNumber, Unread> {
    if let Some(chip) = profile.read_long(text) {
        return people.card_of_uid(chip).ok_or(Unread::Stranger);
    }
    let known = profile.read(text).map_err(|_| Unread::Form)?;
    if let Some(number) = known.number() {
        return people.card_of_uid(u64::from(number)).ok_or(Unread::Stranger);
    }
    let cards: BTreeSet<CardNumber> = people.cards_of_uid_bits(known.value(), known.mask()).take(PARTS_MAX).collect();
    match (cards.first(), cards.len()) {
        (Some(card), 1) => Ok(*card),
        (Some(_), _) => Err(Unread::Several),
        (None, _) => Err(Unread::Stranger),
    }
}

/// A number as printed on the card; full-width digits come from a Chinese input method.
pub(super) fn printed_number(text: &str) -> Option<CardNumber> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > CARD_CHARS_MAX {
        return None;
    }
    let mut number = 0u64;
    for c in text.chars() {
        let half = match u32::from(c) {
            code @ 0xFF10..=0xFF19 => char::from_u32(code - 0xFEE0)?,
            _ => c,
        };
        number = number.checked_mul(10)?.checked_add(u64::from(half.to_digit(10)?))?;
    }
    Some(CardNumber(number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use yika_crdt::ids::{CampusId, CategoryId, PersonId};
    use yika_crdt::person::{Card, CardState, Person, PersonStatus};
    use yika_drivers::card_format::{ByteOrder, Field, TextKind, WiegandBits};

    /// One person a card, each with a chip.
    fn people(cards: &[(u64, u64)]) -> People {
        let mut people = People::default();
        for (number, chip) in cards {
            let card =
                Card { number: CardNumber(*number), uid: Some(*chip), state: CardState::Active, valid_until: None };
            let person = Person {
                person: PersonId(*number),
                home: CampusId(1),
                name: "测试".into(),
                staff_number: number.to_string(),
                category: CategoryId(1),
                status: PersonStatus::Active,
                valid: (None, None),
                cards: vec![card],
                id_hash: [0; 16],
            };
            people.put(&person, None);
        }
        people
    }

    fn reader(delivers: Delivers) -> WedgeReader {
        WedgeReader { delivers, ..WedgeReader::default() }
    }

    #[test]
    fn printed_numbers_are_read_and_nothing_else() {
        assert_eq!(printed_number(" 0062004881 "), Some(CardNumber(62_004_881)));
        assert_eq!(printed_number("６２"), Some(CardNumber(62)));
        assert_eq!(printed_number("62-1"), None);
        assert_eq!(printed_number(""), None);
        assert_eq!(printed_number("99999999999999999999"), None);
    }

    #[test]
    fn a_reader_that_nobody_set_up_finds_the_card_in_whatever_whole_form() {
        let people = people(&[(62_004_881, 0x0B3E_3636), (62_004_882, 0x0004_A1B2_C3D4_E580)]);
        let any = reader(Delivers::Any);
        for text in ["62004881", "0062004881", "0188626486", "0909524491", "0B3E3636", "36363e0b"] {
            assert_eq!(any.card(&people, text), Ok(CardNumber(62_004_881)), "{text}");
        }
        for text in ["04A1B2C3D4E580", "80E5D4C3B2A104"] {
            assert_eq!(any.card(&people, text), Ok(CardNumber(62_004_882)), "{text}");
        }
        assert_eq!(any.card(&people, "62004999"), Ok(CardNumber(62_004_999)), "the core refuses it");
        assert_eq!(any.card(&people, "0B3E36FF"), Err(Unread::Stranger));
        assert_eq!(any.card(&people, "062,13878"), Err(Unread::Part), "a stranger's chip may have these bits");
        assert_eq!(any.card(&people, "62-00?"), Err(Unread::Form));
    }

    #[test]
    fn what_fits_two_cards_is_neither() {
        // The chip of one, in decimal, is the printed number of the other.
        let people = people(&[(62_004_881, 0x0B3E_3636), (188_626_486, 0x0102_0304)]);
        assert_eq!(reader(Delivers::Any).card(&people, "0188626486"), Err(Unread::Several));
        assert_eq!(reader(Delivers::Number).card(&people, "0188626486"), Ok(CardNumber(188_626_486)));
        assert_eq!(reader(Delivers::Chip).card(&people, "0188626486"), Ok(CardNumber(62_004_881)));
    }

    #[test]
    fn a_reader_of_parts_is_set_up_and_says_when_a_part_is_not_enough() {
        let profile = ReaderProfile { bits: WiegandBits::W26, field: Field::Joined, ..ReaderProfile::DEC10 };
        let parts = WedgeReader { profile, ..reader(Delivers::Chip) };
        let one = people(&[(1, 0x0B3E_3636)]);
        for text in ["062,13878", "06213878"] {
            assert_eq!(parts.card(&one, text), Ok(CardNumber(1)), "{text}");
        }
        let two = people(&[(1, 0x0B3E_3636), (2, 0xFF3E_3636)]);
        assert_eq!(parts.card(&two, "062,13878"), Err(Unread::Several));
        assert_eq!(parts.card(&two, "001,00001"), Err(Unread::Stranger));
    }

    #[test]
    fn prefix_suffix_and_long_chips_are_taken_as_set() {
        let profile = ReaderProfile { byte_order: ByteOrder::Reversed, text: TextKind::Hex, ..ReaderProfile::DEC10 };
        let set = WedgeReader { profile, prefix: ";".into(), suffix: "?".into(), ..reader(Delivers::Chip) };
        let people = people(&[(1, 0x0B3E_3636), (2, 0x0004_A1B2_C3D4_E580)]);
        assert_eq!(set.card(&people, ";36363E0B?"), Ok(CardNumber(1)));
        assert_eq!(set.card(&people, ";80E5D4C3B2A104?"), Ok(CardNumber(2)));
        assert_eq!(set.card(&people, "36363E0B"), Ok(CardNumber(1)));
        assert_eq!(set.card(&people, "0B3E3636"), Err(Unread::Stranger));
    }
}

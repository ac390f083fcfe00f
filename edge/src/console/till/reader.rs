//! From what a keyboard reader typed to the card it stands for.
//!
//! Leaves to others: telling a reader from a person typing (the page's script), forms of numbers (`drivers`).

use super::super::{App, Delivers, WedgeReader};
use yika_crdt::ids::CardNumber;
use yika_crdt::people::People;

/// Longest text taken as a card number.
const CARD_CHARS_MAX: usize = 64;

impl WedgeReader {
    /// The card, or `None` if the text is not of this reader's form or the chip belongs to no card known here.
    pub(in crate::console) fn card(&self, people: &People, text: &str) -> Option<CardNumber> {
        match self.delivers {
            Delivers::Number => printed_number(text),
            Delivers::Chip => {
                let known = self.profile.read(text).ok()?;
                match known.number() {
                    Some(number) => people.card_of_uid(u64::from(number)),
                    None => people.card_of_uid_bits(known.value(), known.mask()),
                }
            }
        }
    }
}

impl App {
    /// The reader at the counter: that of the tills without one of their own.
    pub(in crate::console) fn reader_default(&self) -> WedgeReader {
        self.0.config.reader
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
    use super::*;
    use yika_drivers::card_format::ReaderProfile;

    #[test]
    fn printed_numbers_are_read_and_nothing_else() {
        assert_eq!(printed_number(" 0062004881 "), Some(CardNumber(62_004_881)));
        assert_eq!(printed_number("６２"), Some(CardNumber(62)));
        assert_eq!(printed_number("62-1"), None);
        assert_eq!(printed_number(""), None);
        assert_eq!(printed_number("99999999999999999999"), None);
    }

    #[test]
    fn a_chip_nobody_has_is_no_card() {
        let reader = WedgeReader { delivers: Delivers::Chip, profile: ReaderProfile::DEC10 };
        assert_eq!(reader.card(&People::default(), "0001234567"), None);
    }
}

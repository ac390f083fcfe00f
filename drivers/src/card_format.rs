//! Card numbers as readers deliver and print them: Wiegand 26/34 frames, 8H10D, 6H8D, "3,5", joined.
//!
//! Pure functions from bits or text to the canonical number N (the 4 bytes a reader shows, big-endian)
//! and back. Sources: `spec/devices.md` section 7, with its vectors W1-W5 as tests.
//!
//! Leaves to others: which person holds a number, and the card's UID itself, which the own encoder reads
//! and which is the truth; N is only what a foreign reader makes of it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use utoipa::ToSchema;

mod readings;
mod wiegand;

pub use readings::{Readings, readings};
pub use wiegand::{WiegandBits, WiegandValue};

/// Longest text a reader or keyboard wedge may deliver, in characters after trimming.
pub const READER_TEXT_LEN_CHARS_MAX: usize = 64;

/// Mask of the bits that a WG26 reader sees.
const LOW_24: u32 = 0x00FF_FFFF;
/// Mask of the first three bytes, which some 8-digit readers print.
const HIGH_24: u32 = 0xFFFF_FF00;

/// Why a text or a frame is not a card number. The text itself is never part of the message: card
/// numbers do not belong in logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CardFormatError {
    /// Nothing was delivered.
    #[error("the reader delivered an empty text: present the card again")]
    Empty,
    /// More than [`READER_TEXT_LEN_CHARS_MAX`].
    #[error(
        "the reader delivered {len} characters, at most {READER_TEXT_LEN_CHARS_MAX} are accepted: two readings may have run together"
    )]
    TooLong {
        /// Characters received.
        len: usize,
    },
    /// A character that the text kind does not allow.
    #[error("character {position} is not a {expected}: check the reader profile's text kind")]
    BadCharacter {
        /// 1-based position in the trimmed text.
        position: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// A Wiegand frame of another length.
    #[error(
        "{got} bits received, the profile expects {expected}: check the profile's bits or the reader's output setting"
    )]
    BitCount {
        /// Bits received.
        got: usize,
        /// Bits of the profile.
        expected: usize,
    },
    /// Parity does not hold.
    #[error("{which} parity bit is wrong: present the card again; if it repeats check the D0/D1 wiring")]
    Parity {
        /// `leading` or `trailing`.
        which: &'static str,
    },
    /// The number does not fit the form.
    #[error("the number does not fit the form {form}: check the reader profile's field")]
    OutOfRange {
        /// Name of the form.
        form: Form,
    },
    /// The three settings of a profile contradict each other.
    #[error("reader profile: {0}")]
    Profile(&'static str),
}

/// Printed and typed forms of a number N, the chip's first 4 bytes. `8h10d`: N as 10 decimal digits. `6h8d`: the low three
/// bytes as 8 decimal digits. `high_dec8`: the first three bytes as 8 decimal digits. `3,5`: third byte, comma, low two
/// bytes. `joined35`: the same without the comma. `high_joined35`: first byte and the next two, without a comma. `hex8`: N as
/// 8 hexadecimal digits. Only `8h10d` and `hex8` carry the whole number; the others name no card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// N as 10 decimal digits.
    #[serde(rename = "8h10d")]
    Dec10,
    /// The low three bytes as 8 decimal digits.
    #[serde(rename = "6h8d")]
    Dec8,
    /// The first three bytes as 8 decimal digits: the other reading of "8 digits" found in the field.
    HighDec8,
    /// `FFF,NNNNN`: third byte, low two bytes.
    #[serde(rename = "3,5")]
    Comma35,
    /// `FFFNNNNN`: the same joined, as UHPPOTE controllers store it.
    Joined35,
    /// The first three bytes joined: facility is the first byte, the number the next two.
    HighJoined35,
    /// N as 8 hexadecimal digits.
    Hex8,
}

impl Form {
    /// Every form, in the order shown at enrolment.
    pub const ALL: [Form; 7] =
        [Form::Dec10, Form::Dec8, Form::HighDec8, Form::Comma35, Form::Joined35, Form::HighJoined35, Form::Hex8];

    /// The bits of N that the form carries.
    pub fn mask(self) -> u32 {
        match self {
            Form::Dec10 | Form::Hex8 => u32::MAX,
            Form::Dec8 | Form::Comma35 | Form::Joined35 => LOW_24,
            Form::HighDec8 | Form::HighJoined35 => HIGH_24,
        }
    }

    /// N printed in this form; what the form does not carry is lost.
    pub fn print(self, number: u32) -> String {
        let (facility, low) = ((number & LOW_24) >> 16, number & 0xFFFF);
        match self {
            Form::Dec10 => format!("{number:010}"),
            Form::Dec8 => format!("{:08}", number & LOW_24),
            Form::HighDec8 => format!("{:08}", number >> 8),
            Form::HighJoined35 => Form::Joined35.print(number >> 8),
            Form::Comma35 => format!("{facility:03},{low:05}"),
            Form::Joined35 => format!("{facility:03}{low:05}"),
            Form::Hex8 => format!("{number:08X}"),
        }
    }

    /// Reads a text in this form. Missing leading zeros are accepted (spreadsheets drop them), so are
    /// full-width digits (a Chinese input method under a keyboard wedge) and surrounding blanks.
    pub fn parse(self, text: &str) -> Result<Partial, CardFormatError> {
        let text = normalise(text)?;
        let value = match self {
            Form::Dec10 => self.fit(decimal(&text)?, u32::MAX)?,
            Form::Dec8 => self.fit(decimal(&text)?, LOW_24)?,
            Form::HighDec8 => self.fit(decimal(&text)?, LOW_24)? << 8,
            Form::Hex8 => self.fit(hexadecimal(&text)?, u32::MAX)?,
            Form::Comma35 | Form::Joined35 => self.parse_35(&text)?,
            Form::HighJoined35 => self.parse_35(&text)? << 8,
        };
        Ok(Partial::new(value, self.mask()))
    }

    /// Both spellings of the facility form: with the comma and joined.
    fn parse_35(self, text: &str) -> Result<u32, CardFormatError> {
        let (facility, low) = match text.split_once(',') {
            Some((facility, low)) => {
                let low = decimal(low).map_err(|error| shifted(error, facility.chars().count() + 1))?;
                (decimal(facility)?, low)
            }
            None => {
                let joined = decimal(text)?;
                (joined / 100_000, joined % 100_000)
            }
        };
        Ok(self.fit(facility, 0xFF)? << 16 | self.fit(low, 0xFFFF)?)
    }

    fn fit(self, value: u64, max: u32) -> Result<u32, CardFormatError> {
        u32::try_from(value).ok().filter(|value| *value <= max).ok_or(CardFormatError::OutOfRange { form: self })
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Dec10 => "8H10D",
            Form::Dec8 => "6H8D",
            Form::HighDec8 => "first 3 bytes 8D",
            Form::Comma35 => "3,5",
            Form::Joined35 => "FFFNNNNN",
            Form::HighJoined35 => "first 3 bytes FFFNNNNN",
            Form::Hex8 => "8H",
        })
    }
}

/// What is known of a number N: some readers deliver only three of its four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Partial {
    value: u32,
    mask: u32,
}

impl Partial {
    fn new(value: u32, mask: u32) -> Self {
        Partial { value: value & mask, mask }
    }

    /// N, when all four bytes are known.
    pub fn number(self) -> Option<u32> {
        (self.mask == u32::MAX).then_some(self.value)
    }

    /// The known bits of N, the others zero.
    pub fn value(self) -> u32 {
        self.value
    }

    /// One bits where N is known.
    pub fn mask(self) -> u32 {
        self.mask
    }

    /// Whether a card with number `number` may be the one presented.
    pub fn matches(self, number: u32) -> bool {
        number & self.mask == self.value
    }

    /// The same knowledge with the four bytes in the opposite order.
    pub fn reversed(self) -> Self {
        Partial { value: self.value.swap_bytes(), mask: self.mask.swap_bytes() }
    }
}

/// Order in which a reader strings the UID bytes into its number. `canonical`: as the chip sends them. `reversed`: the four
/// bytes the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ByteOrder {
    /// As the canonical N.
    #[default]
    Canonical,
    /// The four bytes the other way round.
    Reversed,
}

/// What kind of text arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextKind {
    /// Decimal digits; for the joined field also `FFF,NNNNN`.
    #[default]
    Decimal,
    /// Hexadecimal digits, either case.
    Hex,
    /// `0` and `1`, a whole Wiegand frame with its parity bits, first bit first.
    Bits,
}

/// Which part of the number the reader delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// All four bytes.
    #[default]
    Full,
    /// The low three bytes.
    #[serde(rename = "low_24")]
    Low24,
    /// The first three bytes.
    #[serde(rename = "high_24")]
    High24,
    /// The low three bytes as facility x 100000 + number.
    Joined,
    /// The first three bytes as facility x 100000 + number.
    HighJoined,
}

/// How one reader (or keyboard wedge) is set up. Guessing is not possible: `04077110` is a legal decimal
/// and a legal hexadecimal number, so each reader states its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaderProfile {
    /// Wiegand frame length: 26 carries three bytes, 34 carries four.
    pub bits: WiegandBits,
    /// Byte order of the reader's number.
    #[serde(default)]
    pub byte_order: ByteOrder,
    /// Part of the number that arrives.
    #[serde(default)]
    pub field: Field,
    /// Text kind that arrives.
    #[serde(default)]
    pub text: TextKind,
}

impl ReaderProfile {
    /// The commonest desk reader: 10 decimal digits of all four bytes.
    pub const DEC10: ReaderProfile = ReaderProfile {
        bits: WiegandBits::W34,
        byte_order: ByteOrder::Canonical,
        field: Field::Full,
        text: TextKind::Decimal,
    };

    /// Refuses settings that contradict each other, in words for the operator.
    pub fn validate(&self) -> Result<(), CardFormatError> {
        match (self.bits, self.field, self.text) {
            (WiegandBits::W26, Field::Full, _) => Err(CardFormatError::Profile(
                "bits = 26 carries three bytes only; set field to low_24, high_24, joined or high_joined",
            )),
            (WiegandBits::W34, field, TextKind::Bits) if field != Field::Full => {
                Err(CardFormatError::Profile("a 34-bit frame carries all four bytes; set field to full"))
            }
            (_, Field::Joined | Field::HighJoined, TextKind::Hex) => {
                Err(CardFormatError::Profile("the joined field is decimal; set text to decimal"))
            }
            (_, Field::Joined | Field::HighJoined, TextKind::Bits) => Err(CardFormatError::Profile(
                "a Wiegand frame is binary, not a decimal join; set field to low_24 or high_24",
            )),
            _ => Ok(()),
        }
    }

    /// Turns what the reader delivered into what is known of the canonical N.
    pub fn read(&self, text: &str) -> Result<Partial, CardFormatError> {
        self.validate()?;
        let text = normalise(text)?;
        let shown = match self.text {
            TextKind::Bits => self.read_bits(&text)?,
            TextKind::Decimal => self.form().parse(&text)?,
            TextKind::Hex => self.read_hex(&text)?,
        };
        Ok(match self.byte_order {
            ByteOrder::Canonical => shown,
            ByteOrder::Reversed => shown.reversed(),
        })
    }

    /// What this reader would deliver for `number`: the inverse of [`ReaderProfile::read`].
    pub fn write(&self, number: u32) -> Result<String, CardFormatError> {
        self.validate()?;
        let shown = match self.byte_order {
            ByteOrder::Canonical => number,
            ByteOrder::Reversed => number.swap_bytes(),
        };
        Ok(match (self.text, self.field) {
            (TextKind::Decimal, _) => self.form().print(shown),
            (TextKind::Hex, Field::Full) => format!("{shown:08X}"),
            (TextKind::Hex, Field::High24) => format!("{:06X}", shown >> 8),
            (TextKind::Hex, _) => format!("{:06X}", shown & LOW_24),
            (TextKind::Bits, Field::High24) => self.bits.encode(shown >> 8),
            (TextKind::Bits, _) => self.bits.encode(shown),
        })
    }

    /// Whether this reader cannot tell two different cards apart.
    pub fn confuses(&self, a: u32, b: u32) -> bool {
        let mask = match self.byte_order {
            ByteOrder::Canonical => self.form().mask(),
            ByteOrder::Reversed => self.form().mask().swap_bytes(),
        };
        a != b && a & mask == b & mask
    }

    /// The printed form that corresponds to the profile's field.
    pub fn form(&self) -> Form {
        match (self.field, self.text) {
            (Field::Full, TextKind::Decimal) => Form::Dec10,
            (Field::Full, _) => Form::Hex8,
            (Field::Low24, _) => Form::Dec8,
            (Field::High24, _) => Form::HighDec8,
            (Field::Joined, _) => Form::Joined35,
            (Field::HighJoined, _) => Form::HighJoined35,
        }
    }

    /// The whole number of a chip of 7 or 8 bytes, which only a full hexadecimal text carries; `None` for any other text.
    pub fn read_long(&self, text: &str) -> Option<u64> {
        if (self.field, self.text) != (Field::Full, TextKind::Hex) {
            return None;
        }
        let text = normalise(text).ok().filter(|text| matches!(text.len(), 14 | 16))?;
        let value = u64::from_str_radix(&text, 16).ok()?;
        Some(match self.byte_order {
            ByteOrder::Canonical => value,
            ByteOrder::Reversed => value.swap_bytes() >> (64 - 4 * text.len()),
        })
    }

    fn read_hex(&self, text: &str) -> Result<Partial, CardFormatError> {
        let form = self.form();
        let value = hexadecimal(text)?;
        Ok(match self.field {
            Field::Full => Partial::new(form.fit(value, u32::MAX)?, u32::MAX),
            Field::High24 => Partial::new(form.fit(value, LOW_24)? << 8, HIGH_24),
            // The joined fields are decimal: `validate` has refused them.
            Field::Low24 | Field::Joined | Field::HighJoined => Partial::new(form.fit(value, LOW_24)?, LOW_24),
        })
    }

    fn read_bits(&self, text: &str) -> Result<Partial, CardFormatError> {
        let value = self.bits.decode(text)?.value();
        Ok(match (self.bits, self.field) {
            (WiegandBits::W34, _) => Partial::new(value, u32::MAX),
            (WiegandBits::W26, Field::High24) => Partial::new(value << 8, HIGH_24),
            (WiegandBits::W26, _) => Partial::new(value, LOW_24),
        })
    }
}

/// One line of the enrolment page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FormLine {
    /// Which form.
    pub form: Form,
    /// Byte order the line is printed in.
    pub byte_order: ByteOrder,
    /// The number in that form; `None` when the reader did not deliver the bytes it needs.
    pub text: Option<String>,
    /// Whether this is the line that the reader delivered.
    pub presented: bool,
}

/// All forms of a presented number in both byte orders, marking the one presented, for enrolment.
pub fn enrolment_lines(presented: Partial, profile: &ReaderProfile) -> Vec<FormLine> {
    let mut lines = Vec::with_capacity(Form::ALL.len() * 2);
    for byte_order in [ByteOrder::Canonical, ByteOrder::Reversed] {
        let known = match byte_order {
            ByteOrder::Canonical => presented,
            ByteOrder::Reversed => presented.reversed(),
        };
        lines.extend(Form::ALL.into_iter().map(|form| FormLine {
            form,
            byte_order,
            text: (known.mask & form.mask() == form.mask()).then(|| form.print(known.value)),
            presented: form == profile.form() && byte_order == profile.byte_order,
        }));
    }
    lines
}

/// Cards that a WG26 reader takes for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wg26Collision {
    /// The shared low three bytes.
    pub low_24: u32,
    /// The different numbers, ascending.
    pub numbers: Vec<u32>,
}

/// Whether a WG26 reader takes two different cards for one.
pub fn wg26_collides(a: u32, b: u32) -> bool {
    a != b && (a ^ b) & LOW_24 == 0
}

/// Every group of different numbers that WG26 readers cannot tell apart, ascending by shared bytes.
/// Warn with it at issue time when the campus has any WG26 reader.
pub fn wg26_collisions(numbers: impl IntoIterator<Item = u32>) -> Vec<Wg26Collision> {
    let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for number in numbers {
        let group = groups.entry(number & LOW_24).or_default();
        if let Err(place) = group.binary_search(&number) {
            group.insert(place, number);
        }
    }
    groups
        .into_iter()
        .filter(|(_, numbers)| numbers.len() > 1)
        .map(|(low_24, numbers)| Wg26Collision { low_24, numbers })
        .collect()
}

/// Trims, turns full-width characters into ASCII, checks the length.
fn normalise(text: &str) -> Result<String, CardFormatError> {
    let text: String = text.trim().chars().map(half_width).collect();
    let len = text.chars().count();
    if len == 0 {
        return Err(CardFormatError::Empty);
    }
    if len > READER_TEXT_LEN_CHARS_MAX {
        return Err(CardFormatError::TooLong { len });
    }
    Ok(text)
}

/// Full-width forms U+FF01..U+FF5E are ASCII 0x21..0x7E shifted by 0xFEE0.
fn half_width(c: char) -> char {
    match u32::from(c) {
        code @ 0xFF01..=0xFF5E => char::from_u32(code - 0xFEE0).unwrap_or(c),
        _ => c,
    }
}

fn decimal(text: &str) -> Result<u64, CardFormatError> {
    digits(text, 10, "decimal digit")
}

fn hexadecimal(text: &str) -> Result<u64, CardFormatError> {
    digits(text, 16, "hexadecimal digit")
}

/// Saturates instead of overflowing: the caller's range check refuses what does not fit.
fn digits(text: &str, radix: u32, expected: &'static str) -> Result<u64, CardFormatError> {
    if text.is_empty() {
        return Err(CardFormatError::BadCharacter { position: 1, expected });
    }
    let mut value = 0u64;
    for (index, c) in text.chars().enumerate() {
        let digit = c.to_digit(radix).ok_or(CardFormatError::BadCharacter { position: index + 1, expected })?;
        value = value.saturating_mul(u64::from(radix)).saturating_add(u64::from(digit));
    }
    Ok(value)
}

fn shifted(error: CardFormatError, by: usize) -> CardFormatError {
    match error {
        CardFormatError::BadCharacter { position, expected } => {
            CardFormatError::BadCharacter { position: position + by, expected }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;

//! All that a reader's text may stand for, where nobody has said what the reader delivers.
//!
//! Only whole numbers: a part of a chip number (6H8D, `3,5`, Wiegand 26) fits one card in some hundred of any large
//! campus, a stranger's too, so a reader that delivers parts must be set up. Leaves to others: which of the numbers
//! belongs to a card.

use super::{CardFormatError, Form, WiegandBits, normalise};

/// The numbers that a text may be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readings {
    /// As a card number in decimal.
    pub number: Option<u64>,
    /// As the number of a whole chip, most significant byte first, in either byte order.
    pub chips: Vec<u64>,
    /// It is a form that carries a part of the chip number only.
    pub partial: bool,
}

/// Reads a text in every form that delivers a whole number.
///
/// # Errors
/// When it is empty, too long, or no form of a card number at all.
pub fn readings(text: &str) -> Result<Readings, CardFormatError> {
    let text = normalise(text)?;
    let text = paired(&text).unwrap_or(text);
    if text.split_once(',').is_some_and(|(facility, low)| is_decimal(facility) && is_decimal(low)) {
        return Ok(Readings { partial: true, ..Readings::default() });
    }
    if let Some(readings) = frame(&text) {
        return readings;
    }
    if let Some(at) = text.chars().position(|c| !c.is_ascii_hexdigit()) {
        return Err(CardFormatError::BadCharacter { position: at + 1, expected: "digit" });
    }
    let mut readings = Readings::default();
    if let Some(value) = text.parse().ok().filter(|_| is_decimal(&text)) {
        readings.number = Some(value);
        readings.add(value, decimal_bytes(value));
    }
    if let (Some(bytes), Ok(value)) = (hexadecimal_bytes(text.len()), u64::from_str_radix(&text, 16)) {
        readings.add(value, bytes);
    }
    match readings.chips.is_empty() {
        true => Err(CardFormatError::OutOfRange { form: Form::Hex8 }),
        false => Ok(readings),
    }
}

impl Readings {
    /// A chip number of so many bytes, in both orders.
    fn add(&mut self, value: u64, bytes: u32) {
        let reversed = value.swap_bytes() >> (64 - 8 * bytes);
        for chip in [value, reversed] {
            if !self.chips.contains(&chip) {
                self.chips.push(chip);
            }
        }
    }
}

/// A whole Wiegand frame in bits, if the text is one; of 26 bits it is a part.
fn frame(text: &str) -> Option<Result<Readings, CardFormatError>> {
    if !text.bytes().all(|b| matches!(b, b'0' | b'1')) {
        return None;
    }
    match text.len() {
        26 => Some(WiegandBits::W26.decode(text).map(|_| Readings { partial: true, ..Readings::default() })),
        34 => Some(WiegandBits::W34.decode(text).map(|frame| {
            let mut readings = Readings::default();
            readings.add(u64::from(frame.value()), 4);
            readings
        })),
        _ => None,
    }
}

/// `04:A1:B2:C3` without what stands between the bytes.
fn paired(text: &str) -> Option<String> {
    let bytes: Vec<&str> = text.split([':', '-', ' ']).collect();
    (matches!(bytes.len(), 4 | 7 | 8) && bytes.iter().all(|byte| byte.len() == 2)).then(|| bytes.concat())
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Bytes of the chip that a decimal number stands for: chips have 4, 7 or 8.
fn decimal_bytes(value: u64) -> u32 {
    match value {
        0..=0xFFFF_FFFF => 4,
        0x1_0000_0000..=0x00FF_FFFF_FFFF_FFFF => 7,
        _ => 8,
    }
}

fn hexadecimal_bytes(digits: usize) -> Option<u32> {
    match digits {
        8 => Some(4),
        14 => Some(7),
        16 => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;

    const FOUR: u64 = 0x0B3E_3636;
    const SEVEN: u64 = 0x0004_A1B2_C3D4_E580;

    fn chips(text: &str) -> Vec<u64> {
        readings(text).unwrap().chips
    }

    /// Vector W1 and a chip of seven bytes, as readers of every common setting type them.
    #[test]
    fn every_whole_form_of_a_chip_is_among_its_readings() {
        let reversed = ["0909524491", "36363E0B", "36:36:3e:0b", "0001101100011011000111110000010111"];
        for text in ["0188626486", "188626486", "0B3E3636", "0b3e3636", "0B-3E-36-36", "０１８８６２６４８６"]
            .iter()
            .chain(&reversed)
        {
            let read = readings(text);
            assert!(read.as_ref().is_ok_and(|r| r.chips.contains(&FOUR) && !r.partial), "{text}: {read:?}");
        }
        for text in ["04A1B2C3D4E580", "80E5D4C3B2A104", "04 A1 B2 C3 D4 E5 80", &SEVEN.to_string()] {
            assert!(chips(text).contains(&SEVEN), "{text}");
        }
        assert_eq!(chips("04A1B2C3D4E5F607"), [0x04A1_B2C3_D4E5_F607, 0x07F6_E5D4_C3B2_A104]);
        assert_eq!(WiegandBits::W34.decode("0000010110011111000110110001101101").unwrap().value(), 0x0B3E_3636);
        assert!(chips("0000010110011111000110110001101101").contains(&FOUR));
    }

    #[test]
    fn digits_are_a_printed_number_too_and_letters_are_not() {
        assert_eq!(readings("0062004881").unwrap().number, Some(62_004_881));
        assert_eq!(readings("0B3E3636").unwrap().number, None);
        assert_eq!(readings("00000001").unwrap().chips, [1, 0x0100_0000]);
    }

    #[test]
    fn parts_are_told_and_what_is_no_number_is_refused() {
        for part in ["062,13878", "10011111000110110001101101"] {
            let read = readings(part).unwrap();
            assert!(read.partial && read.chips.is_empty() && read.number.is_none(), "{part}");
        }
        for bad in [
            "",
            "62-00?",
            "62-00",
            "0B3E36",
            "ABCDE",
            "062,",
            ",5",
            "99999999999999999999",
            "00011111000110110001101101",
        ] {
            assert!(readings(bad).is_err(), "{bad}");
        }
    }
}

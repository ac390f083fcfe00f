//! Wiegand frames: even parity over the first half of the data, odd parity over the second.
//!
//! Leaves to others: collecting the pulses (a reader or controller does) and what the value means.

use super::CardFormatError;
use serde::{Deserialize, Serialize};

/// Frame length of a Wiegand reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum WiegandBits {
    /// 24 data bits: 8 facility, 16 number.
    W26,
    /// 32 data bits.
    W34,
}

/// The data bits of a frame whose parity held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WiegandValue {
    bits: WiegandBits,
    value: u32,
}

impl WiegandValue {
    /// The data bits as a number, first bit highest.
    pub fn value(self) -> u32 {
        self.value
    }
}

impl WiegandBits {
    /// Bits on the wire, parity included.
    pub fn frame_bits(self) -> usize {
        match self {
            WiegandBits::W26 => 26,
            WiegandBits::W34 => 34,
        }
    }

    /// Bits of the card number.
    pub fn data_bits(self) -> u32 {
        match self {
            WiegandBits::W26 => 24,
            WiegandBits::W34 => 32,
        }
    }

    /// The frame of `value` as `0` and `1`, first bit first. Bits that do not fit are cut off, as a
    /// reader does.
    pub fn encode(self, value: u32) -> String {
        let data = u64::from(value) & self.data_mask();
        let (first, second) = self.halves(data);
        let frame = u64::from(first.count_ones() % 2) << (self.data_bits() + 1)
            | data << 1
            | u64::from(second.count_ones().is_multiple_of(2));
        (0..self.frame_bits()).rev().map(|bit| if frame >> bit & 1 == 1 { '1' } else { '0' }).collect()
    }

    /// Reads a frame given as `0` and `1`, first bit first, and checks both parities.
    pub fn decode(self, text: &str) -> Result<WiegandValue, CardFormatError> {
        let mut frame = 0u64;
        let mut got = 0usize;
        for (index, c) in text.chars().enumerate() {
            let bit = match c {
                '0' => 0,
                '1' => 1,
                _ => {
                    return Err(CardFormatError::BadCharacter { position: index + 1, expected: "bit (0 or 1)" });
                }
            };
            frame = frame << 1 | bit;
            got += 1;
        }
        if got != self.frame_bits() {
            return Err(CardFormatError::BitCount { got, expected: self.frame_bits() });
        }
        let data = frame >> 1 & self.data_mask();
        let (first, second) = self.halves(data);
        let leading = u32::from(frame >> (self.data_bits() + 1) & 1 == 1);
        let trailing = u32::from(frame & 1 == 1);
        if !(first.count_ones() + leading).is_multiple_of(2) {
            return Err(CardFormatError::Parity { which: "leading" });
        }
        if (second.count_ones() + trailing).is_multiple_of(2) {
            return Err(CardFormatError::Parity { which: "trailing" });
        }
        let value = u32::try_from(data).map_err(|_| CardFormatError::BitCount { got, expected: self.frame_bits() })?;
        Ok(WiegandValue { bits: self, value })
    }

    fn data_mask(self) -> u64 {
        (1 << self.data_bits()) - 1
    }

    fn halves(self, data: u64) -> (u64, u64) {
        let half = self.data_bits() / 2;
        (data >> half, data & ((1 << half) - 1))
    }
}

impl From<WiegandBits> for u8 {
    fn from(bits: WiegandBits) -> u8 {
        match bits {
            WiegandBits::W26 => 26,
            WiegandBits::W34 => 34,
        }
    }
}

impl TryFrom<u8> for WiegandBits {
    type Error = CardFormatError;

    fn try_from(bits: u8) -> Result<Self, CardFormatError> {
        match bits {
            26 => Ok(WiegandBits::W26),
            34 => Ok(WiegandBits::W34),
            _ => Err(CardFormatError::Profile("bits must be 26 or 34")),
        }
    }
}

//! Money: integer fen with checked arithmetic; the only type that amounts may have.
//!
//! Leaves to others: pricing (`tariff`) and which account an amount belongs to.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An amount in fen (分, 1/100 yuan). May be negative where a difference is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fen(pub i64);

/// A sum or a text that is not a legal amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FenError {
    /// The sum does not fit; nothing was changed.
    #[error("amount overflow: {0} and {1} fen do not add up to a legal amount")]
    Overflow(i64, i64),
    /// The text is not yuan with at most two decimals.
    #[error("{0:?} is not an amount in yuan: write digits with at most two decimals, as in 12.50")]
    NotAnAmount(String),
}

impl Fen {
    /// No money.
    pub const ZERO: Fen = Fen(0);

    /// Sum; an overflow is an error, never a wrap.
    #[expect(clippy::should_implement_trait, reason = "the operator cannot answer with an error")]
    pub fn add(self, other: Fen) -> Result<Fen, FenError> {
        self.0.checked_add(other.0).map(Fen).ok_or(FenError::Overflow(self.0, other.0))
    }

    /// Difference; an overflow is an error, never a wrap.
    #[expect(clippy::should_implement_trait, reason = "the operator cannot answer with an error")]
    pub fn sub(self, other: Fen) -> Result<Fen, FenError> {
        self.0.checked_sub(other.0).map(Fen).ok_or(FenError::Overflow(self.0, other.0))
    }

    /// This amount `times` over.
    pub fn times(self, times: u32) -> Result<Fen, FenError> {
        self.0.checked_mul(i64::from(times)).map(Fen).ok_or(FenError::Overflow(self.0, i64::from(times)))
    }

    /// Sum of many; an overflow is an error.
    pub fn sum<I: IntoIterator<Item = Fen>>(amounts: I) -> Result<Fen, FenError> {
        amounts.into_iter().try_fold(Fen::ZERO, Fen::add)
    }

    /// The same amount with the other sign.
    pub fn negated(self) -> Result<Fen, FenError> {
        Fen::ZERO.sub(self)
    }

    /// Above zero.
    pub fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// Below zero.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl fmt::Display for Fen {
    /// Yuan with two decimals: `12.50`, `-0.05`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let fen = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", fen / 100, fen % 100)
    }
}

impl FromStr for Fen {
    type Err = FenError;

    /// Reads yuan: `12`, `12.5`, `12.50`, `-3.00`. No signs of currency, no thousands marks.
    fn from_str(text: &str) -> Result<Fen, FenError> {
        let refuse = || FenError::NotAnAmount(text.chars().take(40).collect());
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (yuan, cents) = digits.split_once('.').unwrap_or((digits, "0"));
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !plain(yuan) || !plain(cents) || cents.len() > 2 {
            return Err(refuse());
        }
        let yuan: i64 = yuan.parse().map_err(|_| refuse())?;
        let cents: i64 = match cents.len() {
            1 => cents.parse::<i64>().map_err(|_| refuse())? * 10,
            _ => cents.parse::<i64>().map_err(|_| refuse())?,
        };
        let fen = yuan.checked_mul(100).and_then(|y| y.checked_add(cents)).ok_or_else(refuse)?;
        Ok(Fen(if negative { -fen } else { fen }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_prints_yuan() {
        assert_eq!("12.5".parse(), Ok(Fen(1250)));
        assert_eq!("12".parse(), Ok(Fen(1200)));
        assert_eq!("-0.05".parse(), Ok(Fen(-5)));
        assert_eq!(Fen(-5).to_string(), "-0.05");
    }

    #[test]
    fn refuses_what_is_not_an_amount() {
        for text in ["", ".", "1.", ".5", "1.234", "1,000", "¥5", "1e3", "--1", "99999999999999999999", " 1"] {
            assert!(text.parse::<Fen>().is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn overflow_is_an_error() {
        assert!(Fen(i64::MAX).add(Fen(1)).is_err());
        assert!(Fen(i64::MIN).negated().is_err());
    }

    proptest! {
        #[test]
        fn printed_amounts_read_back(fen in -9_000_000_000_000i64..9_000_000_000_000) {
            prop_assert_eq!(Fen(fen).to_string().parse::<Fen>(), Ok(Fen(fen)));
        }

        #[test]
        fn reading_never_panics(text in ".{0,40}") {
            let _ = text.parse::<Fen>();
        }
    }
}

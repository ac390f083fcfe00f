//! Whether a tariff sheet may be published: every bound, every reference, no two rows for the same case.
//!
//! Rows are counted from 1, as an operator sees them. Leaves to others: whether outlets and categories exist (hub).

use super::price::PURCHASE_FEN_MAX;
use super::sheet::*;
use crate::civil::DAY_MINUTES;
use crate::fen::Fen;
use std::collections::BTreeMap;

/// Most meals or purchases a cap may count (features, section 2).
pub const TIMES_MAX: u8 = 99;
/// Largest flat surcharge or discount: 600 yuan (features, section 2).
pub const ADJUSTMENT_FLAT_FEN_MAX: i64 = 60_000;
/// Longest stretch of the repeat-tap guard.
pub const REPEAT_TAP_SECONDS_MAX: u8 = 60;
/// Largest cap on a sum: 990,000 yuan, the customary largest balance (features, section 2).
pub const CAP_FEN_MAX: i64 = 99_000_000;
/// Most errors reported of one sheet; further ones show after these are mended.
pub const SHEET_ERRORS_MAX: usize = 100;

/// What is wrong with a sheet, in which row, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SheetError {
    /// Too many rows.
    #[error("{table}: {rows} rows, at most {rows_max} are allowed; remove rows")]
    TooManyRows {
        /// Which table.
        table: &'static str,
        /// How many there are.
        rows: usize,
        /// How many there may be.
        rows_max: usize,
    },
    /// A period without a fitting name.
    #[error("periods, row {row}: the name must have 1 to {NAME_CHARS_MAX} characters and no control characters")]
    PeriodName {
        /// The row.
        row: usize,
    },
    /// A period that is empty or out of the day.
    #[error(
        "periods, row {row}: from {from_minute} until {until_minute} is no stretch of a day; begin at 0 to 1439, end at 1 to 1440 minutes \
         after midnight (before the beginning to cross midnight), not where it begins"
    )]
    PeriodMinutes {
        /// The row.
        row: usize,
        /// Its first minute.
        from_minute: u16,
        /// Its end.
        until_minute: u16,
    },
    /// Two periods are open at the same minute.
    #[error(
        "periods, rows {first} and {row}: both are open at minute {minute} of the day; end one where the other begins"
    )]
    PeriodsOverlap {
        /// The earlier row.
        first: usize,
        /// The later row.
        row: usize,
        /// A minute of the day at which both are open.
        minute: u16,
    },
    /// Two rows for the same case.
    #[error("{table}, row {row}: the same case as row {first}; remove one of them")]
    Twice {
        /// Which table.
        table: &'static str,
        /// The earlier row.
        first: usize,
        /// The later row.
        row: usize,
    },
    /// A price of a period that the sheet does not have.
    #[error("fixed prices, row {row}: there is no period {period}; add it or choose another")]
    UnknownPeriod {
        /// The row.
        row: usize,
        /// The number that is not there.
        period: u8,
    },
    /// An amount out of its bounds.
    #[error("{table}, row {row}: {field} is {amount} yuan; choose {least} to {most}")]
    Amount {
        /// Which table.
        table: &'static str,
        /// The row.
        row: usize,
        /// Which field.
        field: &'static str,
        /// What it is.
        amount: Fen,
        /// The least it may be.
        least: Fen,
        /// The most it may be.
        most: Fen,
    },
    /// A percentage out of its bounds.
    #[error(
        "adjustments, row {row}: {basis_points} basis points; choose -10000 (free) to 20000 (three times the price)"
    )]
    BasisPoints {
        /// The row.
        row: usize,
        /// What it is.
        basis_points: i32,
    },
    /// A count out of its bounds.
    #[error("limits, row {row}: {field} is {times}; choose 1 to {TIMES_MAX}, or 0 for no cap")]
    Times {
        /// The row.
        row: usize,
        /// Which field.
        field: &'static str,
        /// What it is.
        times: u8,
    },
    /// The repeat-tap guard is too long.
    #[error("repeat_tap_seconds is {0}; choose 1 to {REPEAT_TAP_SECONDS_MAX}, or 0 to switch it off")]
    RepeatTap(u8),
    /// A guest may buy once for more than the day allows.
    #[error(
        "guest rule: {per_purchase} yuan a purchase is more than {per_card_day} yuan a card and day; raise the second or lower the first"
    )]
    GuestDay {
        /// Cap of a purchase.
        per_purchase: Fen,
        /// Cap of a card and day.
        per_card_day: Fen,
    },
}

impl TariffSheet {
    /// Checks every bound and reference. Errors: everything found, at most [`SHEET_ERRORS_MAX`], in table order.
    pub fn validate(&self) -> Result<(), Vec<SheetError>> {
        let mut errors = Vec::new();
        if count(&mut errors, "periods", self.periods.len(), PERIODS_MAX) {
            self.check_periods(&mut errors);
        }
        if count(&mut errors, "fixed prices", self.fixed.len(), ROWS_MAX) {
            self.check_fixed(&mut errors);
        }
        if count(&mut errors, "adjustments", self.adjustments.len(), ROWS_MAX) {
            self.check_adjustments(&mut errors);
        }
        if count(&mut errors, "limits", self.limits.len(), ROWS_MAX) {
            self.check_limits(&mut errors);
        }
        if count(&mut errors, "barred pairs", self.barred.len(), ROWS_MAX) {
            twice(&mut errors, "barred pairs", self.barred.iter().copied());
        }
        self.check_rest(&mut errors);
        errors.truncate(SHEET_ERRORS_MAX);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn check_periods(&self, errors: &mut Vec<SheetError>) {
        for (row, period) in numbered(&self.periods) {
            let chars = period.name.chars().count();
            let blank = period.name.trim().is_empty();
            if blank || chars > NAME_CHARS_MAX || period.name.chars().any(char::is_control) {
                errors.push(SheetError::PeriodName { row });
            }
            let (from_minute, until_minute) = (period.from_minute, period.until_minute);
            let in_day = from_minute < DAY_MINUTES && until_minute <= DAY_MINUTES;
            if !in_day || from_minute == until_minute || until_minute == 0 {
                errors.push(SheetError::PeriodMinutes { row, from_minute, until_minute });
            }
        }
        twice(errors, "periods", self.periods.iter().map(|p| p.id));
        for (row, late) in numbered(&self.periods) {
            for (first, early) in numbered(&self.periods).take(row - 1) {
                let shared = (0..DAY_MINUTES).find(|m| early.contains(*m) && late.contains(*m));
                if let Some(minute) = shared {
                    errors.push(SheetError::PeriodsOverlap { first, row, minute });
                }
            }
        }
    }

    fn check_fixed(&self, errors: &mut Vec<SheetError>) {
        const TABLE: &str = "fixed prices";
        for (row, fixed) in numbered(&self.fixed) {
            amount(errors, (TABLE, row, "price"), fixed.price, 0, PURCHASE_FEN_MAX);
            if let Some(id) = fixed.period
                && !self.periods.iter().any(|p| p.id == id)
            {
                errors.push(SheetError::UnknownPeriod { row, period: id.0 });
            }
        }
        let cases = self.fixed.iter().map(|f| (f.outlet, f.category, f.period));
        twice(errors, TABLE, cases);
    }

    fn check_adjustments(&self, errors: &mut Vec<SheetError>) {
        const TABLE: &str = "adjustments";
        for (row, adjustment) in numbered(&self.adjustments) {
            let basis_points = adjustment.basis_points;
            if !BASIS_POINTS_RANGE.contains(&basis_points) {
                errors.push(SheetError::BasisPoints { row, basis_points });
            }
            let most = ADJUSTMENT_FLAT_FEN_MAX;
            amount(errors, (TABLE, row, "flat"), adjustment.flat, -most, most);
        }
        let cases = self.adjustments.iter().map(|a| (a.category, a.outlet));
        twice(errors, TABLE, cases);
    }

    fn check_limits(&self, errors: &mut Vec<SheetError>) {
        const TABLE: &str = "limits";
        for (row, limit) in numbered(&self.limits) {
            let caps = [
                ("per_purchase", limit.per_purchase, PURCHASE_FEN_MAX),
                ("per_meal", limit.per_meal, CAP_FEN_MAX),
                ("per_day", limit.per_day, CAP_FEN_MAX),
            ];
            for (field, cap, most) in caps {
                if let Some(cap) = cap {
                    amount(errors, (TABLE, row, field), cap, 0, most);
                }
            }
            let counts = [("times_per_meal", limit.times_per_meal), ("times_per_day", limit.times_per_day)];
            for (field, times) in counts {
                if times > TIMES_MAX {
                    errors.push(SheetError::Times { row, field, times });
                }
            }
        }
        twice(errors, TABLE, self.limits.iter().map(|l| l.category));
    }

    fn check_rest(&self, errors: &mut Vec<SheetError>) {
        const TABLE: &str = "guest rule";
        if self.repeat_tap_seconds > REPEAT_TAP_SECONDS_MAX {
            errors.push(SheetError::RepeatTap(self.repeat_tap_seconds));
        }
        let GuestRule { per_purchase, per_card_day } = self.guest;
        amount(errors, (TABLE, 1, "per_purchase"), per_purchase, 0, PURCHASE_FEN_MAX);
        amount(errors, (TABLE, 1, "per_card_day"), per_card_day, 0, CAP_FEN_MAX);
        if per_purchase > per_card_day {
            errors.push(SheetError::GuestDay { per_purchase, per_card_day });
        }
    }
}

fn numbered<T>(rows: &[T]) -> impl Iterator<Item = (usize, &T)> {
    rows.iter().enumerate().map(|(index, row)| (index + 1, row))
}

/// Whether the table is small enough to be looked at row by row.
fn count(errors: &mut Vec<SheetError>, table: &'static str, rows: usize, rows_max: usize) -> bool {
    if rows > rows_max {
        errors.push(SheetError::TooManyRows { table, rows, rows_max });
    }
    rows <= rows_max
}

fn amount(
    errors: &mut Vec<SheetError>,
    (table, row, field): (&'static str, usize, &'static str),
    amount: Fen,
    least: i64,
    most: i64,
) {
    if !(least..=most).contains(&amount.0) {
        errors.push(SheetError::Amount { table, row, field, amount, least: Fen(least), most: Fen(most) });
    }
}

fn twice<K: Ord>(errors: &mut Vec<SheetError>, table: &'static str, cases: impl Iterator<Item = K>) {
    let mut seen = BTreeMap::new();
    for (index, case) in cases.enumerate() {
        let row = index + 1;
        let first = *seen.entry(case).or_insert(row);
        if first != row {
            errors.push(SheetError::Twice { table, first, row });
        }
    }
}

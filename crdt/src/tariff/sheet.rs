//! The tariff sheet: everything the price and the limits of a purchase depend on, as one immutable version.
//!
//! Only the hub writes it; each change is a new version that names its predecessor by number. Records name the version
//! they were priced with, so that the hub can compute the price again.

use crate::fen::Fen;
use crate::ids::{CategoryId, OutletId, TariffVersion};
use serde::{Deserialize, Serialize};

/// Most rows of one kind in a sheet.
pub const ROWS_MAX: usize = 2_000;
/// Most meal periods.
pub const PERIODS_MAX: usize = 8;
/// Longest name of a period or item, in characters.
pub const NAME_CHARS_MAX: usize = 40;

/// Number of a meal period within a sheet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeriodId(pub u8);

/// A stretch of the day with its own prices and limits (餐次). May cross midnight: `until_minute < from_minute`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MealPeriod {
    /// Its number.
    pub id: PeriodId,
    /// Its name as shown: 早餐, 午餐 …
    pub name: String,
    /// First minute of the day, 0..1440.
    pub from_minute: u16,
    /// First minute after it, 0..=1440.
    pub until_minute: u16,
}

/// The fixed price of one meal (定额); the most specific row wins: outlet before category before period.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedPrice {
    /// Only at this outlet.
    pub outlet: Option<OutletId>,
    /// Only for this category.
    pub category: Option<CategoryId>,
    /// Only in this period.
    pub period: Option<PeriodId>,
    /// The price.
    pub price: Fen,
}

/// A surcharge (positive) or discount (negative) on the price of a category (POS-15).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adjustment {
    /// For this category.
    pub category: CategoryId,
    /// Only at this outlet.
    pub outlet: Option<OutletId>,
    /// Basis points of the price, -10,000..=20,000; rounded half away from zero.
    pub basis_points: i32,
    /// Added after the percentage.
    pub flat: Fen,
}

/// Who counts a limit when the line is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LimitScope {
    /// A granted counter (`limit/<rule>/<day>`): never exceeded anywhere.
    Strict,
    /// Each campus counts what it knows; the excess is reported.
    Local,
}

/// Caps for one category (POS-16); an absent cap does not limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The category, or every category without a row of its own.
    pub category: Option<CategoryId>,
    /// Largest single purchase.
    pub per_purchase: Option<Fen>,
    /// Largest sum within a meal period of a business day.
    pub per_meal: Option<Fen>,
    /// Largest sum in a business day.
    pub per_day: Option<Fen>,
    /// Most purchases in a meal period, 0 = no cap.
    pub times_per_meal: u8,
    /// Most purchases in a business day, 0 = no cap.
    pub times_per_day: u8,
    /// How `per_day` is counted while cut off.
    pub scope: LimitScope,
}

/// What a box may sell on nobody's right (guest rule, design section 4).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestRule {
    /// Largest single purchase; zero switches the rule off.
    pub per_purchase: Fen,
    /// Largest sum of one card in a business day.
    pub per_card_day: Fen,
}

/// Surcharges may at most triple a price; discounts at most cancel it.
pub const BASIS_POINTS_RANGE: std::ops::RangeInclusive<i32> = -10_000..=20_000;

/// One version of all prices and limits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TariffSheet {
    /// Raised by one at every change.
    pub version: TariffVersion,
    /// Meal periods; they never overlap.
    pub periods: Vec<MealPeriod>,
    /// Fixed prices.
    pub fixed: Vec<FixedPrice>,
    /// Surcharges and discounts.
    pub adjustments: Vec<Adjustment>,
    /// Caps.
    pub limits: Vec<Limit>,
    /// Pairs that may not meet: category at outlet ("not at this machine", POS-19).
    pub barred: Vec<(CategoryId, OutletId)>,
    /// Same card, terminal and amount within so many seconds is refused, 0 = off (POS-18).
    pub repeat_tap_seconds: u8,
    /// Selling without right.
    pub guest: GuestRule,
}

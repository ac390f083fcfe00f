//! What a sale costs: the most specific fixed price, the surcharge or discount of the category, the bounds.
//!
//! Edge and hub call the same function with the same sheet, so that the hub can compute every price again.
//! Leaves to others: caps (`limits`) and who pays (`split`).

use super::sheet::{Adjustment, FixedPrice, MealPeriod, PeriodId, TariffSheet};
use crate::civil::DAY_MINUTES;
use crate::entry::Mode;
use crate::fen::Fen;
use crate::ids::{CategoryId, OutletId};
use crate::proof;
use crate::reason::Reason;
use rust_decimal::{Decimal, RoundingStrategy};

/// Largest sum of one purchase: 6,500 yuan, the customary limit of terminals (features, section 2).
pub const PURCHASE_FEN_MAX: i64 = 650_000;
/// Most portions of one purchase (POS-8).
pub const PORTIONS_MAX: u8 = 99;
/// The one rule by which a percentage becomes fen: half a fen goes away from zero.
pub const FEN_ROUNDING: RoundingStrategy = RoundingStrategy::MidpointAwayFromZero;

/// Basis points of a whole.
const BASIS_POINTS_WHOLE: i64 = 10_000;

/// A price found; `total` is always `price + adjustment`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quote {
    /// Price before adjustment, 0..=[`PURCHASE_FEN_MAX`] fen.
    pub price: Fen,
    /// Surcharge (positive) or discount (negative). A counted meal charges nothing: minus the price.
    pub adjustment: Fen,
    /// What is charged, 0..=[`PURCHASE_FEN_MAX`] fen; zero for a counted meal.
    pub total: Fen,
}

/// The price of a sale.
///
/// * A keyed sum or unit price must be above zero; a fixed price may be zero (a free meal).
/// * [`Mode::Fixed`] and [`Mode::Count`] take the most specific matching row of `fixed`: a row that names the outlet
///   beats every row that does not; among equals, one that names the category beats one that does not; then likewise
///   the period. In a sheet with periods they need an open one; a sheet without periods sells all day.
/// * The adjustment is the row of the category that names the outlet, else the one that names none. A discount at
///   most cancels the price. A counted meal is not adjusted: its price is for statistics.
///
/// Errors: `NotHere` (barred pair), `OutsidePeriod`, `NoPrice`, `BadAmount` (not positive, too many portions, beyond
/// [`PURCHASE_FEN_MAX`] before or after the adjustment).
pub fn price(
    sheet: &TariffSheet,
    category: CategoryId,
    outlet: OutletId,
    period: Option<PeriodId>,
    mode: Mode,
) -> Result<Quote, Reason> {
    if sheet.barred.contains(&(category, outlet)) {
        return Err(Reason::NotHere);
    }
    let base = base_price(sheet, Some(category), outlet, period, mode)?;
    match mode {
        Mode::Count => counted(base),
        _ => adjusted(sheet, Some(category), outlet, base),
    }
}

/// The price of a sale that a terminal decided alone: eaten is eaten, so it is not refused for who may not eat there, nor
/// for an adjustment that comes to no sum that can be (the sum is charged as keyed). A meal that no row prices is counted
/// without a price. Without a category, which is a card that nobody knows, only rows that name none count.
///
/// Errors: those of [`price`] but `NotHere`: a sum that none can be, or a fixed meal without a price.
pub fn price_of_fact(
    sheet: &TariffSheet,
    category: Option<CategoryId>,
    outlet: OutletId,
    period: Option<PeriodId>,
    mode: Mode,
) -> Result<Quote, Reason> {
    let base = base_price(sheet, category, outlet, period, mode);
    if mode == Mode::Count {
        return counted(base.unwrap_or_default());
    }
    let base = base?;
    let as_it_is = Quote { price: base, adjustment: Fen::ZERO, total: base };
    Ok(adjusted(sheet, category, outlet, base).unwrap_or(as_it_is))
}

/// The meal that such a sale belongs to: the one open at the minute of the day at which it was eaten. A fixed or counted
/// meal outside every period, or in one without a price, is of the period that ended last and has one.
pub fn period_of_fact(
    sheet: &TariffSheet,
    category: Option<CategoryId>,
    outlet: OutletId,
    minute: u16,
    mode: Mode,
) -> Option<PeriodId> {
    let open = period_at(sheet, minute);
    let is_priced = |id: &PeriodId| fixed_price(sheet, category, outlet, Some(*id)).is_ok();
    if !matches!(mode, Mode::Fixed | Mode::Count) || open.as_ref().is_some_and(is_priced) {
        return open;
    }
    let ended_ago = |period: &&MealPeriod| (minute + DAY_MINUTES - period.until_minute % DAY_MINUTES) % DAY_MINUTES;
    let others = sheet.periods.iter().filter(|period| Some(period.id) != open && is_priced(&period.id));
    others.min_by_key(ended_ago).map(|period| period.id).or(open)
}

fn base_price(
    sheet: &TariffSheet,
    category: Option<CategoryId>,
    outlet: OutletId,
    period: Option<PeriodId>,
    mode: Mode,
) -> Result<Fen, Reason> {
    match mode {
        Mode::Amount(keyed) => keyed_sum(keyed),
        Mode::Portions { unit, portions } => portions_sum(unit, portions),
        Mode::Fixed | Mode::Count => fixed_price(sheet, category, outlet, period),
    }
}

fn counted(price: Fen) -> Result<Quote, Reason> {
    Ok(Quote { price, adjustment: price.negated().map_err(|_| Reason::BadAmount)?, total: Fen::ZERO })
}

fn adjusted(sheet: &TariffSheet, category: Option<CategoryId>, outlet: OutletId, base: Fen) -> Result<Quote, Reason> {
    let adjustment = match category.and_then(|category| adjustment_for(sheet, category, outlet)) {
        Some(row) => adjust(base, row)?,
        None => Fen::ZERO,
    };
    let total = base.add(adjustment).map_err(|_| Reason::BadAmount)?;
    if total.0 > PURCHASE_FEN_MAX {
        return Err(Reason::BadAmount);
    }
    Ok(Quote { price: base, adjustment, total })
}

/// The meal period open at a minute of the day (0..1440); the first in sheet order, should a bad sheet overlap.
pub fn period_at(sheet: &TariffSheet, minute: u16) -> Option<PeriodId> {
    if minute >= DAY_MINUTES {
        return None;
    }
    sheet.periods.iter().find(|period| period.contains(minute)).map(|period| period.id)
}

impl MealPeriod {
    /// Whether the period is open at a minute of the day; one that ends where it begins never is.
    pub fn contains(&self, minute: u16) -> bool {
        if self.from_minute <= self.until_minute {
            self.from_minute <= minute && minute < self.until_minute
        } else {
            self.from_minute <= minute || minute < self.until_minute
        }
    }
}

fn keyed_sum(keyed: Fen) -> Result<Fen, Reason> {
    if !keyed.is_positive() || keyed.0 > PURCHASE_FEN_MAX {
        return Err(Reason::BadAmount);
    }
    Ok(keyed)
}

fn portions_sum(unit: Fen, portions: u8) -> Result<Fen, Reason> {
    if portions == 0 || portions > PORTIONS_MAX {
        return Err(Reason::BadAmount);
    }
    let unit = keyed_sum(unit)?;
    let sum = unit.times(u32::from(portions)).map_err(|_| Reason::BadAmount)?;
    keyed_sum(sum)
}

fn fixed_price(
    sheet: &TariffSheet,
    category: Option<CategoryId>,
    outlet: OutletId,
    period: Option<PeriodId>,
) -> Result<Fen, Reason> {
    let open = period.is_some_and(|id| sheet.periods.iter().any(|p| p.id == id));
    if !open && (period.is_some() || !sheet.periods.is_empty()) {
        return Err(Reason::OutsidePeriod);
    }
    let mut best: Option<&FixedPrice> = None;
    for row in &sheet.fixed {
        let fits = row.outlet.is_none_or(|o| o == outlet)
            && row.category.is_none_or(|c| Some(c) == category)
            && row.period.is_none_or(|p| Some(p) == period);
        // Only a strictly more specific row replaces one found before it.
        if fits && best.is_none_or(|b| row.specificity() > b.specificity()) {
            best = Some(row);
        }
    }
    let found = best.ok_or(Reason::NoPrice)?.price;
    if found.is_negative() || found.0 > PURCHASE_FEN_MAX {
        return Err(Reason::BadAmount);
    }
    Ok(found)
}

impl FixedPrice {
    /// What the row names, in the order in which rows win.
    fn specificity(&self) -> (bool, bool, bool) {
        (self.outlet.is_some(), self.category.is_some(), self.period.is_some())
    }
}

fn adjustment_for(sheet: &TariffSheet, category: CategoryId, outlet: OutletId) -> Option<&Adjustment> {
    let of = |wanted: Option<OutletId>| {
        sheet.adjustments.iter().find(|row| row.category == category && row.outlet == wanted)
    };
    of(Some(outlet)).or_else(|| of(None))
}

/// Surcharge or discount on `price`; never below minus the price.
fn adjust(price: Fen, row: &Adjustment) -> Result<Fen, Reason> {
    let share = Decimal::from(price.0)
        .checked_mul(Decimal::from(row.basis_points))
        .and_then(|points| points.checked_div(Decimal::from(BASIS_POINTS_WHOLE)))
        .map(|share| match proof::sown("rounded_down_twice") {
            true => share.round_dp_with_strategy(1, RoundingStrategy::ToZero).trunc(),
            false => share.round_dp_with_strategy(0, FEN_ROUNDING),
        })
        .and_then(|share| i64::try_from(share).ok())
        .ok_or(Reason::BadAmount)?;
    let sum = Fen(share).add(row.flat).map_err(|_| Reason::BadAmount)?;
    let cancelled = price.negated().map_err(|_| Reason::BadAmount)?;
    Ok(sum.max(cancelled))
}

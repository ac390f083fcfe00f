//! Caps on what a holder may buy, and the guard against a card tapped twice.
//!
//! Leaves to others: counting what was bought before (`sale`), and who counts strict limits (`rights`).

use super::sheet::{Limit, LimitScope, TariffSheet};
use crate::entry::WalletKey;
use crate::fen::Fen;
use crate::ids::{CardNumber, CategoryId, Day, TerminalId};
use crate::reason::Reason;
use serde::{Deserialize, Serialize};

/// What a holder bought before, in the meal period and business day of the sale.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spent {
    /// Sum within the meal period, less what was given back.
    pub meal_sum: Fen,
    /// Sum within the business day, less what was given back.
    pub day_sum: Fen,
    /// Purchases within the meal period, counted meals included, less those given back whole.
    pub meal_times: u32,
    /// Purchases within the business day, counted meals included, less those given back whole.
    pub day_times: u32,
}

/// The limit row of a category with its index in `sheet.limits` (the rule number of `WalletKey::Limit`): the row
/// that names the category, else the row that names none, else nothing. The two never add up.
pub fn limit_for(sheet: &TariffSheet, category: CategoryId) -> Option<(usize, &Limit)> {
    let of = |wanted: Option<CategoryId>| sheet.limits.iter().enumerate().find(|(_, row)| row.category == wanted);
    of(Some(category)).or_else(|| of(None))
}

/// The granted counter of a strict day limit (POS-16) and its cap; `None` where the limit is local or absent.
pub fn strict_counter(sheet: &TariffSheet, category: CategoryId, day: Day) -> Option<(WalletKey, Fen)> {
    let (rule, limit) = limit_for(sheet, category)?;
    let cap = limit.per_day.filter(|_| limit.scope == LimitScope::Strict)?;
    Some((WalletKey::Limit(u16::try_from(rule).ok()?, day), cap))
}

/// Whether a sale of `total` stays within the caps of the category (POS-16); a sum equal to a cap passes.
///
/// Errors, the first that holds: `OverPurchaseLimit`, `OverMealLimit`, `OverDayLimit`, `OverMealTimes`,
/// `OverDayTimes`. Outside every meal period the caller hands in a meal sum and count of zero.
pub fn check_limits(sheet: &TariffSheet, category: CategoryId, spent: &Spent, total: Fen) -> Result<(), Reason> {
    let Some((_, limit)) = limit_for(sheet, category) else {
        return Ok(());
    };
    // A sum that does not fit is over any cap.
    let over = |before: Fen, cap: Option<Fen>| cap.is_some_and(|cap| before.add(total).map_or(true, |sum| sum > cap));
    let full = |before: u32, cap: u8| cap != 0 && before >= u32::from(cap);
    let caps = [
        (over(Fen::ZERO, limit.per_purchase), Reason::OverPurchaseLimit),
        (over(spent.meal_sum, limit.per_meal), Reason::OverMealLimit),
        (over(spent.day_sum, limit.per_day), Reason::OverDayLimit),
        (full(spent.meal_times, limit.times_per_meal), Reason::OverMealTimes),
        (full(spent.day_times, limit.times_per_day), Reason::OverDayTimes),
    ];
    match caps.into_iter().find(|(exceeded, _)| *exceeded) {
        Some((_, reason)) => Err(reason),
        None => Ok(()),
    }
}

/// A tap as the repeat guard compares it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tap {
    /// The card.
    pub card: CardNumber,
    /// Where it was tapped.
    pub terminal: TerminalId,
    /// The sum of the sale.
    pub total: Fen,
    /// Hub time, as the box knew it.
    pub at_ms: i64,
}

/// Refuses the same card, terminal and sum within `repeat_tap_seconds` of the last sale (POS-18).
///
/// `last` is the last *accepted* sale of the holder. A tap that seems older than it passes: the clock was set back since,
/// and nothing is known of the time between. The end of the stretch is outside: after exactly N seconds a sale passes.
pub fn repeat_tap(sheet: &TariffSheet, last: Option<&Tap>, tap: &Tap) -> Result<(), Reason> {
    let Some(last) = last else {
        return Ok(());
    };
    let guard_ms = i64::from(sheet.repeat_tap_seconds) * 1000;
    let same = last.card == tap.card && last.terminal == tap.terminal && last.total == tap.total;
    match tap.at_ms.checked_sub(last.at_ms) {
        Some(since_ms) if same && (0..guard_ms).contains(&since_ms) => Err(Reason::RepeatTap),
        _ => Ok(()),
    }
}

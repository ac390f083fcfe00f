//! Prices and limits as pure functions of a tariff sheet.
//!
//! Leaves to others: whose right pays (`rights`), and what was bought before (`edge` hands the counts in).

pub mod check;
pub mod limits;
pub mod price;
pub mod sheet;
pub mod split;

pub use check::SheetError;
pub use limits::{Spent, Tap, check_limits, limit_for, repeat_tap, strict_counter};
pub use price::{PORTIONS_MAX, PURCHASE_FEN_MAX, Quote, period_at, period_of_fact, price, price_of_fact};
pub use split::{Shortfall, split};

#[cfg(test)]
mod tests;

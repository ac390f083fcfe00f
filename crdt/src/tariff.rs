//! Prices and limits as pure functions of a tariff sheet.
//!
//! Leaves to others: whose right pays (`rights`), and what was bought before (`edge` hands the counts in).

pub mod sheet;

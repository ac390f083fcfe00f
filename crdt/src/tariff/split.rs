//! Which wallets pay a sale, and how much each (ACC-13): employer money that ends first goes first.
//!
//! Leaves to others: what right a box holds (`rights`), and what to do about a shortfall (ask, cheque, guest).

use crate::entry::WalletKey;
use crate::fen::Fen;
use crate::ids::Day;

/// The rights held do not cover the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rights held here are {missing} yuan short: ask the hub or a sibling, or refuse")]
pub struct Shortfall {
    /// How much is missing.
    pub missing: Fen,
}

/// Splits `total` over the rights held: `(wallet, right, last day it can be spent on)`, each wallet once.
///
/// Subsidies pay first, the one with the earliest last day before the others, one without a last day after them,
/// equal days by batch number; then main. A wallet past its last day pays nothing. Counters and pools (meal counts,
/// limits, guest, float) are not money of the holder and never pay here. A right at or below zero pays nothing.
///
/// The parts are above zero and sum to `total`; none exceeds its right. A total of zero or less has no parts.
///
/// Errors: [`Shortfall`] with what is missing after all usable rights.
pub fn split(
    wallets: &[(WalletKey, Fen, Option<Day>)],
    total: Fen,
    day: Day,
) -> Result<Vec<(WalletKey, Fen)>, Shortfall> {
    let mut usable: Vec<_> = wallets
        .iter()
        .filter(|(_, right, last_day)| right.is_positive() && last_day.is_none_or(|l| day <= l))
        .filter_map(|(key, right, last_day)| Some((turn(*key, *last_day)?, *key, *right)))
        .collect();
    usable.sort_by_key(|(turn, ..)| *turn);

    let mut missing = total.0;
    let mut parts = Vec::new();
    for (_, key, right) in usable {
        if missing <= 0 {
            break;
        }
        let part = missing.min(right.0);
        missing -= part;
        parts.push((key, Fen(part)));
    }
    if missing > 0 {
        return Err(Shortfall { missing: Fen(missing) });
    }
    Ok(parts)
}

/// When a wallet's turn comes: kind, no last day, last day, batch.
fn turn(key: WalletKey, last_day: Option<Day>) -> Option<(u8, bool, Option<Day>, u32)> {
    match key {
        WalletKey::Subsidy(batch) => Some((0, last_day.is_none(), last_day, batch)),
        WalletKey::Main => Some((1, false, None, 0)),
        WalletKey::MealCount(_) | WalletKey::Limit(..) | WalletKey::Guest | WalletKey::Float(_) => None,
    }
}

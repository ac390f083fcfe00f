//! What headquarters has booked, as its turns hand it out: kept beside the core and compared with it after every turn.
//!
//! Invariant 8, seen from outside: the sums of all transfers are what the wallets say, no account is below its bound, and
//! all of them sum to zero. Leaves to others: what is booked (`yika_hub_core`).

use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::Fen;
use yika_crdt::feed::Hash;
use yika_crdt::store::Read;
use yika_hub_core::ledger::{Account, Kind, Transfer};

/// Sums by account.
#[derive(Clone, Default)]
pub struct Books {
    sums: BTreeMap<Account, i64>,
    posted: BTreeSet<(Hash, u32)>,
    sold: i64,
}

impl Books {
    /// Takes a transfer; it must be new.
    ///
    /// # Errors
    /// In words, when it was posted before.
    pub fn book(&mut self, transfer: &Transfer) -> Result<(), String> {
        if !self.posted.insert((transfer.source, transfer.part)) {
            return Err(format!("a transfer was posted twice: {transfer:?}"));
        }
        if transfer.kind == Kind::Purchase && matches!(transfer.credit, Account::Merchant(_)) {
            self.sold += transfer.amount.0;
        }
        *self.sums.entry(transfer.debit).or_default() -= transfer.amount.0;
        *self.sums.entry(transfer.credit).or_default() += transfer.amount.0;
        Ok(())
    }

    /// Compares the books with the wallets.
    ///
    /// # Errors
    /// In words, what does not agree.
    pub fn check<R: Read + ?Sized>(&self, store: &R) -> Result<(), String> {
        let all: i64 = self.sums.values().sum();
        if all != 0 {
            return Err(format!("the books sum to {}", Fen(all)));
        }
        if let Some((account, sum)) = self.sums.iter().find(|(account, sum)| account.is_bounded() && **sum < 0) {
            return Err(format!("{account} is {}", Fen(*sum)));
        }
        let wallets = yika_hub_core::balances(store).map_err(|error| error.to_string())?;
        for (account, balance) in &wallets {
            let booked = self.sums.get(account).copied().unwrap_or_default();
            if booked != balance.0 {
                return Err(format!("{account}: booked {}, wallets say {balance}", Fen(booked)));
            }
        }
        let of_wallets = |account: &Account| account.person().is_some() || *account == Account::PoolSource;
        let lost = self.sums.iter().find(|(a, sum)| of_wallets(a) && **sum != 0 && !wallets.contains_key(a));
        lost.map_or(Ok(()), |(account, sum)| Err(format!("{account} has {} that no wallet knows", Fen(*sum))))
    }

    /// What was posted as sold, whatever was given back later.
    pub fn sold(&self) -> i64 {
        self.sold
    }
}

//! The hub's side of rights: what a person has, what every box was granted of it, and how much each box should hold.
//!
//! Pure. Every figure is a cumulative total; a box's figures come from its journal and its rights feed, the hub's from
//! its own. Leaves to others: the double-entry books (`ledger`), feeds (`core`).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use yika_crdt::Fen;
use yika_crdt::entry::WalletKey;
use yika_crdt::fen::FenError;
use yika_crdt::ids::{Day, Writer};

/// Least a person's boxes hold together, if there is so much.
pub const SHARE_FLOOR: Fen = Fen(10_000);
/// Share as a multiple of the mean daily spend.
pub const SHARE_DAYS: i64 = 3;
/// A box below this part of its target is topped up.
pub const TOP_UP_BELOW_PART: i64 = 3;
/// Most boxes one person may hold rights at.
pub const REPLICAS_MAX: usize = 64;

/// One box's right in one wallet of a person, as the hub knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Replica {
    /// Granted by the hub, ever.
    pub granted: Fen,
    /// Returned to the hub, ever.
    pub back: Fen,
    /// Taken by cheque from others, by giver.
    pub taken_in: BTreeMap<Writer, Fen>,
    /// Taken by cheque by others, by receiver.
    pub taken_out: BTreeMap<Writer, Fen>,
    /// Spent, ever.
    pub used: Fen,
    /// Given back to the holder, ever.
    pub returned: Fen,
    /// The box is fenced: what is left is in suspense until it is released.
    pub fenced: bool,
    /// Released from suspense to the holder.
    pub released: Fen,
}

impl Replica {
    /// What is left at the box; negative only if the box (or a copy of it) spent more than it had.
    pub fn right(&self) -> Result<Fen, FenError> {
        let came = self.granted.add(Fen::sum(self.taken_in.values().copied())?)?.add(self.returned)?;
        let went = self.back.add(Fen::sum(self.taken_out.values().copied())?)?.add(self.used)?.add(self.released)?;
        came.sub(went)
    }
}

/// One wallet of one person.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Wallet {
    /// Everything paid in (top-ups, subsidies, refunds by the hub).
    pub deposits: Fen,
    /// Everything paid out.
    pub withdrawals: Fen,
    /// Per box and life.
    pub replicas: BTreeMap<Writer, Replica>,
    /// Owed by the holder: facts beyond right.
    pub receivable: Fen,
    /// Last day it can be spent on.
    pub last_day: Option<Day>,
}

/// Why an act is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalletError {
    /// The sums do not fit.
    #[error(transparent)]
    Sum(#[from] FenError),
    /// Not so much available.
    #[error("{available} yuan are available, {wanted} were asked for")]
    NotAvailable {
        /// What is there.
        available: Fen,
        /// What was wanted.
        wanted: Fen,
    },
    /// Not a positive amount.
    #[error("{0} yuan is not a positive amount")]
    NotPositive(Fen),
    /// Too many boxes.
    #[error("rights at more than {REPLICAS_MAX} boxes")]
    TooMany,
}

impl Wallet {
    /// What the hub may still grant or pay out.
    pub fn available(&self) -> Result<Fen, FenError> {
        let mut available = self.deposits.sub(self.withdrawals)?;
        for replica in self.replicas.values() {
            available = available.sub(replica.granted)?.add(replica.back)?.add(replica.released)?;
        }
        Ok(available)
    }

    /// Pays in.
    pub fn deposit(&mut self, amount: Fen) -> Result<(), WalletError> {
        if !amount.is_positive() {
            return Err(WalletError::NotPositive(amount));
        }
        self.deposits = self.deposits.add(amount)?;
        Ok(())
    }

    /// Pays out what is available.
    pub fn withdraw(&mut self, amount: Fen) -> Result<(), WalletError> {
        self.need(amount)?;
        self.withdrawals = self.withdrawals.add(amount)?;
        Ok(())
    }

    /// Grants a box so much more; returns its new cumulative total.
    pub fn grant(&mut self, to: Writer, amount: Fen) -> Result<Fen, WalletError> {
        self.need(amount)?;
        let replica = self.replica(to)?;
        replica.granted = replica.granted.add(amount)?;
        Ok(replica.granted)
    }

    /// Raises a box's granted total to at least `total`; `None` if it is so already.
    pub fn grant_up_to(&mut self, to: Writer, total: Fen) -> Result<Option<Fen>, WalletError> {
        let granted = self.replicas.get(&to).map(|r| r.granted).unwrap_or_default();
        if granted >= total {
            return Ok(None);
        }
        self.grant(to, total.sub(granted)?).map(Some)
    }

    /// A box's row, made empty if it is new.
    pub fn replica(&mut self, of: Writer) -> Result<&mut Replica, WalletError> {
        if !self.replicas.contains_key(&of) && self.replicas.len() >= REPLICAS_MAX {
            return Err(WalletError::TooMany);
        }
        Ok(self.replicas.entry(of).or_default())
    }

    /// What each living box of the home campus lacks to its target, where it holds less than a third of it.
    ///
    /// Together the boxes hold `min(available + held, max(floor, 3 × mean daily spend))`.
    pub fn shortfalls(&self, boxes: &[Writer], mean_daily: Fen) -> Result<Vec<(Writer, Fen)>, WalletError> {
        let count = i64::try_from(boxes.len()).unwrap_or(i64::MAX);
        if count == 0 || self.receivable.is_positive() && self.available()? <= self.receivable {
            return Ok(Vec::new());
        }
        let held = |w: &Writer| self.replicas.get(w).map_or(Ok(Fen::ZERO), Replica::right);
        let held_all = Fen::sum(boxes.iter().map(held).collect::<Result<Vec<_>, _>>()?)?;
        let wished = SHARE_FLOOR.max(Fen(mean_daily.0.saturating_mul(SHARE_DAYS)));
        let mut available = self.available()?;
        let together = wished.min(available.add(held_all)?);
        let target = Fen(together.0 / count);
        let mut shortfalls = Vec::new();
        for writer in boxes {
            let has = held(writer)?;
            let missing = target.sub(has)?.min(available);
            if has.0 < target.0 / TOP_UP_BELOW_PART && missing.is_positive() {
                available = available.sub(missing)?;
                shortfalls.push((*writer, missing));
            }
        }
        Ok(shortfalls)
    }

    fn need(&self, amount: Fen) -> Result<(), WalletError> {
        if !amount.is_positive() {
            return Err(WalletError::NotPositive(amount));
        }
        let available = self.available()?;
        if amount > available {
            return Err(WalletError::NotAvailable { available, wanted: amount });
        }
        Ok(())
    }

    /// Invariant 8 for this wallet: deposits − withdrawals = available + Σ rights + spent − given back, with nothing
    /// below zero but what a misbehaving box overdrew.
    pub fn check(&self) -> Result<(), String> {
        let sums = || -> Result<(Fen, Fen), FenError> {
            let mut right = self.available()?;
            for replica in self.replicas.values() {
                let (used, returned) = (replica.used, replica.returned);
                let taken_in = Fen::sum(replica.taken_in.values().copied())?;
                let taken_out = Fen::sum(replica.taken_out.values().copied())?;
                right = right.add(replica.right()?)?.add(used)?.sub(returned)?.sub(taken_in)?.add(taken_out)?;
            }
            Ok((self.deposits.sub(self.withdrawals)?, right))
        };
        let (left, right) = sums().map_err(|e| e.to_string())?;
        if left != right {
            return Err(format!("paid in less paid out is {left}, accounted for are {right}"));
        }
        let available = self.available().map_err(|e| e.to_string())?;
        if available.is_negative() {
            return Err(format!("available is {available}"));
        }
        Ok(())
    }
}

/// All wallets of one person at the hub.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PersonWallets {
    /// By key.
    pub wallets: BTreeMap<WalletKey, Wallet>,
    /// Sums of the last business days, newest last, for the mean daily spend.
    pub spent_days: Vec<(Day, Fen)>,
}

/// Days that the mean daily spend looks back.
pub const MEAN_DAYS: usize = 7;

impl PersonWallets {
    /// A wallet, made empty if it is new.
    pub fn wallet(&mut self, key: WalletKey) -> &mut Wallet {
        self.wallets.entry(key).or_default()
    }

    /// Adds a sale to its day.
    pub fn note_spent(&mut self, day: Day, amount: Fen) -> Result<(), FenError> {
        match self.spent_days.iter_mut().find(|(d, _)| *d == day) {
            Some((_, sum)) => *sum = sum.add(amount)?,
            None => self.spent_days.push((day, amount)),
        }
        self.spent_days.sort();
        while self.spent_days.len() > MEAN_DAYS {
            self.spent_days.remove(0);
        }
        Ok(())
    }

    /// Mean daily spend over the days seen.
    pub fn mean_daily(&self) -> Fen {
        let sum = self.spent_days.iter().fold(0i64, |sum, (_, f)| sum.saturating_add(f.0));
        Fen(sum / i64::try_from(self.spent_days.len().max(1)).unwrap_or(1))
    }

    /// Everything that can be spent anywhere: available and rights, all money wallets.
    pub fn total(&self) -> Result<Fen, FenError> {
        let mut total = Fen::ZERO;
        for wallet in self.wallets.values() {
            total = total.add(wallet.available()?)?;
            for replica in wallet.replicas.values() {
                total = total.add(replica.right()?)?;
            }
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use proptest::prelude::*;
    use yika_crdt::ids::{Incarnation, NodeId};

    fn writer(node: u32) -> Writer {
        Writer { node: NodeId(node), incarnation: Incarnation { generation: 1, counter: 1 } }
    }

    #[test]
    fn two_boxes_share_what_is_there() {
        let mut wallet = Wallet::default();
        wallet.deposit(Fen(6_000)).unwrap();
        let boxes = [writer(1), writer(2)];
        assert_eq!(
            wallet.shortfalls(&boxes, Fen::ZERO).unwrap(),
            vec![(writer(1), Fen(3_000)), (writer(2), Fen(3_000))]
        );
        for (to, amount) in wallet.shortfalls(&boxes, Fen::ZERO).unwrap() {
            wallet.grant(to, amount).unwrap();
        }
        assert!(wallet.shortfalls(&boxes, Fen::ZERO).unwrap().is_empty());
        wallet.replica(writer(1)).unwrap().used = Fen(2_500);
        assert!(wallet.shortfalls(&boxes, Fen::ZERO).unwrap().is_empty(), "nothing is available any more");
        wallet.deposit(Fen(50_000)).unwrap();
        assert_eq!(wallet.shortfalls(&boxes, Fen::ZERO).unwrap(), vec![(writer(1), Fen(4_500))]);
    }

    #[test]
    fn raising_a_total_is_idempotent() {
        let mut wallet = Wallet::default();
        wallet.deposit(Fen(1_000)).unwrap();
        assert_eq!(wallet.grant_up_to(writer(1), Fen(400)).unwrap(), Some(Fen(400)));
        assert_eq!(wallet.grant_up_to(writer(1), Fen(400)).unwrap(), None);
        assert!(wallet.grant_up_to(writer(1), Fen(1_001)).is_err());
        assert_eq!(wallet.available().unwrap(), Fen(600));
    }

    proptest! {
        /// Whatever is done, nothing is created and available never falls below zero.
        #[test]
        fn money_is_conserved(acts in prop::collection::vec((0u8..6, 1u32..4, 1i64..5_000), 0..80)) {
            let mut wallet = Wallet::default();
            for (act, node, amount) in acts {
                let amount = Fen(amount);
                match act {
                    0 => wallet.deposit(amount).unwrap(),
                    1 => _ = wallet.withdraw(amount),
                    2 => _ = wallet.grant(writer(node), amount),
                    3 => {
                        let replica = wallet.replica(writer(node)).unwrap();
                        if replica.right().unwrap() >= amount { replica.used = replica.used.add(amount).unwrap(); }
                    }
                    4 => {
                        let replica = wallet.replica(writer(node)).unwrap();
                        if replica.right().unwrap() >= amount { replica.back = replica.back.add(amount).unwrap(); }
                    }
                    _ => {
                        let replica = wallet.replica(writer(node)).unwrap();
                        replica.returned = replica.returned.add(amount).unwrap();
                    }
                }
                prop_assert_eq!(wallet.check(), Ok(()));
            }
        }
    }
}

//! Rights: bounded counters that let a box spend without asking (design section 4).
//!
//! Every figure is a cumulative total with one writer, so merging is entry-wise maximum: order, loss and repetition
//! change nothing. Leaves to others: when to grant (hub), when to ask (`sale`), what a sale costs (`tariff`).

use crate::entry::{Statement, WalletKey};
use crate::fen::{Fen, FenError};
use crate::ids::{Day, Writer};
use crate::proof;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most wallets of one person at one box; a further one is refused with an alarm.
pub const WALLETS_MAX: usize = 32;
/// Most boxes that are counterparts (givers or receivers) of one row. Headquarters does not count: what it grants can
/// always be taken, and what it recalls always be returned.
pub const COUNTERPARTS_MAX: usize = 64;

/// One replica's view of its own row: what came in, what went out, what was spent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RowState {
    /// Totals granted to this replica, by giver. From an edge: only what was taken.
    pub granted_in: BTreeMap<Writer, Fen>,
    /// Totals this replica granted, by receiver (the hub for returns).
    pub granted_out: BTreeMap<Writer, Fen>,
    /// Spent here, ever.
    pub used: Fen,
    /// Given back to the holder here, ever.
    pub returned: Fen,
    /// Last business day it can be spent on.
    pub last_day: Option<Day>,
    /// The hub's newest signed word on this replica's right, shown with a cheque.
    pub statement: Option<Box<Statement>>,
    /// What went out since that word came.
    pub since: Since,
    /// Which word of the hub the last cheque of each giver was taken on.
    pub heard: BTreeMap<Writer, Heard>,
}

/// What left a row since the hub's newest word on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Since {
    /// Spent or returned to the hub.
    pub spent: Fen,
    /// Passed on by cheque.
    pub passed: Fen,
}

/// A giver's statement as its receiver first heard it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heard {
    /// When the hub signed it.
    pub hub_time_ms: i64,
    /// What had been taken from the giver by then.
    pub taken: Fen,
}

/// Why a total is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// The sums do not fit.
    #[error(transparent)]
    Sum(#[from] FenError),
    /// Spending or giving more than the right.
    #[error("right of {right} is less than {asked}")]
    NotEnough {
        /// What is left.
        right: Fen,
        /// What was wanted.
        asked: Fen,
    },
    /// A negative amount.
    #[error("{0} is not a positive amount")]
    NotPositive(Fen),
    /// Too many wallets or counterparts.
    #[error("more than {0} wallets or counterparts in one row")]
    TooMany(usize),
}

impl RowState {
    /// granted in − granted out − used + returned.
    pub fn right(&self) -> Result<Fen, RightsError> {
        let granted = Fen::sum(self.granted_in.values().copied())?;
        let given = Fen::sum(self.granted_out.values().copied())?;
        Ok(granted.sub(given)?.sub(self.used)?.add(self.returned)?)
    }

    /// Merges a giver's total: the larger wins, a smaller or equal one changes nothing. True if it grew.
    pub fn merge_granted_in(&mut self, giver: Writer, total: Fen) -> Result<bool, RightsError> {
        if total.is_negative() {
            return Err(RightsError::NotPositive(total));
        }
        need_place(&self.granted_in, giver)?;
        let held = self.granted_in.entry(giver).or_default();
        if proof::sown("totals_as_deltas") {
            *held = held.add(total)?;
            return Ok(true);
        }
        let grew = total > *held;
        if grew {
            *held = total;
        }
        Ok(grew)
    }

    /// Counts what was spent. Whether there was a right is decided before; a fact counts without one.
    pub fn count(&mut self, amount: Fen) -> Result<(), RightsError> {
        self.used = self.used.add(amount)?;
        self.since.spent = self.since.spent.add(amount)?;
        Ok(())
    }

    /// Gives an amount back to the holder.
    pub fn give_back(&mut self, amount: Fen) -> Result<(), RightsError> {
        if amount.is_negative() {
            return Err(RightsError::NotPositive(amount));
        }
        self.returned = self.returned.add(amount)?;
        Ok(())
    }

    /// Grants part of the right to another replica; returns the new cumulative total.
    pub fn grant(&mut self, receiver: Writer, amount: Fen) -> Result<Fen, RightsError> {
        if amount.is_negative() {
            return Err(RightsError::NotPositive(amount));
        }
        let right = self.right()?;
        if amount > right {
            return Err(RightsError::NotEnough { right, asked: amount });
        }
        need_place(&self.granted_out, receiver)?;
        let since = if receiver.node.is_hub() { &mut self.since.spent } else { &mut self.since.passed };
        *since = since.add(amount)?;
        let total = self.granted_out.entry(receiver).or_default();
        *total = total.add(amount)?;
        Ok(*total)
    }

    /// Takes the hub's word on this row; an older one than is held changes nothing.
    pub fn hear(&mut self, statement: &Statement) {
        if self.statement.as_ref().is_none_or(|held| held.hub_time_ms < statement.hub_time_ms || **held == *statement) {
            if self.statement.as_deref() != Some(statement) {
                self.since = Since::default();
            }
            self.statement = Some(Box::new(statement.clone()));
        }
    }

    /// What may be passed on by cheque: what the hub has vouched for and is still here. What came by cheque and is
    /// not in the hub's word yet is spent or returned, never passed on (one hop).
    pub fn may_pass_on(&self) -> Result<Fen, RightsError> {
        let Some(statement) = &self.statement else {
            return Ok(Fen::ZERO);
        };
        let taken = Fen::sum(self.granted_in.iter().filter(|(w, _)| !w.node.is_hub()).map(|(_, f)| *f))?;
        let unvouched = taken.sub(statement.taken_in)?.max(Fen::ZERO);
        let vouched = statement.remaining.sub(self.since.spent)?.sub(self.since.passed)?;
        Ok(self.right()?.sub(unvouched)?.min(vouched).max(Fen::ZERO))
    }

    /// The cumulative total that may be taken from a giver on the hub's word about it, and remembers that word.
    ///
    /// On one word a receiver takes at most what it says remained; a newer word starts from what was taken before.
    pub fn coverable(&mut self, giver: Writer, statement: &Statement) -> Result<Fen, RightsError> {
        let taken = self.granted_in.get(&giver).copied().unwrap_or_default();
        let fresh = Heard { hub_time_ms: statement.hub_time_ms, taken };
        need_place(&self.heard, giver)?;
        let heard = self.heard.entry(giver).or_insert(fresh);
        if heard.hub_time_ms < statement.hub_time_ms {
            *heard = fresh;
        }
        if heard.hub_time_ms > statement.hub_time_ms {
            return Ok(taken);
        }
        let from = if proof::sown("taken_again_on_one_word") { taken } else { heard.taken };
        Ok(from.add(statement.remaining.max(Fen::ZERO))?)
    }
}

fn need_place<T>(known: &BTreeMap<Writer, T>, counterpart: Writer) -> Result<(), RightsError> {
    let boxes = known.keys().filter(|writer| !writer.node.is_hub()).count();
    match counterpart.node.is_hub() || known.contains_key(&counterpart) || boxes < COUNTERPARTS_MAX {
        true => Ok(()),
        false => Err(RightsError::TooMany(COUNTERPARTS_MAX)),
    }
}

/// All rows of one person at one box.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PersonRights {
    /// By wallet.
    pub rows: BTreeMap<WalletKey, RowState>,
}

impl PersonRights {
    /// The row of a wallet, made empty if it is new.
    pub fn row(&mut self, wallet: WalletKey) -> Result<&mut RowState, RightsError> {
        if !self.rows.contains_key(&wallet) && self.rows.len() >= WALLETS_MAX {
            return Err(RightsError::TooMany(WALLETS_MAX));
        }
        Ok(self.rows.entry(wallet).or_default())
    }

    /// Drops counters of limits of days before `day`: nothing is spent on them any more.
    pub fn forget_before(&mut self, day: Day) {
        self.rows.retain(|key, _| !matches!(key, WalletKey::Limit(_, of) if *of < day));
    }

    /// Money wallets with their right and last day, in key order; counters of limits are not money.
    pub fn wallets(&self) -> Result<Vec<(WalletKey, Fen, Option<Day>)>, RightsError> {
        let money = |key: &WalletKey| matches!(key, WalletKey::Main | WalletKey::Subsidy(_));
        self.rows.iter().filter(|(k, _)| money(k)).map(|(k, row)| Ok((*k, row.right()?, row.last_day))).collect()
    }

    /// Sum of all money rights that can be spent on `day`.
    pub fn balance(&self, day: Day) -> Result<Fen, RightsError> {
        let usable = self.wallets()?.into_iter().filter(|(_, _, last)| last.is_none_or(|l| l >= day));
        Ok(Fen::sum(usable.map(|(_, right, _)| right))?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use crate::ids::{Incarnation, NodeId};
    use proptest::prelude::*;

    fn writer(node: u32) -> Writer {
        Writer { node: NodeId(node), incarnation: Incarnation { generation: 1, counter: 1 } }
    }

    #[test]
    fn a_right_is_never_passed_on_beyond_what_is_left() {
        let mut row = RowState::default();
        row.merge_granted_in(writer(0), Fen(1000)).unwrap();
        row.count(Fen(600)).unwrap();
        assert_eq!(row.grant(writer(2), Fen(500)), Err(RightsError::NotEnough { right: Fen(400), asked: Fen(500) }));
        assert_eq!(row.grant(writer(2), Fen(-1)), Err(RightsError::NotPositive(Fen(-1))));
        row.give_back(Fen(100)).unwrap();
        assert_eq!(row.grant(writer(2), Fen(500)).unwrap(), Fen(500));
        assert_eq!(row.right().unwrap(), Fen(0));
    }

    fn word(remaining: i64, taken_in: i64, hub_time_ms: i64) -> Statement {
        let row = crate::entry::Row { person: crate::ids::PersonId(1), wallet: WalletKey::Main };
        let signature = crate::feed::SignatureBytes([0; 64]);
        Statement {
            replica: writer(1),
            row,
            remaining: Fen(remaining),
            taken_in: Fen(taken_in),
            hub_time_ms,
            signature,
        }
    }

    #[test]
    fn what_came_by_cheque_is_not_passed_on_before_the_hub_vouches_for_it() {
        let mut row = RowState::default();
        row.merge_granted_in(writer(0), Fen(300)).unwrap();
        assert_eq!(row.may_pass_on().unwrap(), Fen::ZERO, "nothing without a word of the hub");
        row.hear(&word(300, 0, 1));
        row.merge_granted_in(writer(2), Fen(200)).unwrap();
        assert_eq!(row.may_pass_on().unwrap(), Fen(300));
        row.count(Fen(250)).unwrap();
        assert_eq!(row.may_pass_on().unwrap(), Fen(50));
        row.grant(writer(3), Fen(50)).unwrap();
        assert_eq!(row.may_pass_on().unwrap(), Fen::ZERO);
        row.hear(&word(200, 200, 2));
        assert_eq!(row.may_pass_on().unwrap(), Fen(200));
        row.hear(&word(900, 200, 1));
        assert_eq!(row.may_pass_on().unwrap(), Fen(200), "an older word changes nothing");
    }

    #[test]
    fn on_one_word_of_the_hub_no_more_is_taken_than_it_says() {
        let mut row = RowState::default();
        let first = word(300, 0, 1);
        assert_eq!(row.coverable(writer(1), &first).unwrap(), Fen(300));
        row.merge_granted_in(writer(1), Fen(300)).unwrap();
        assert_eq!(row.coverable(writer(1), &first).unwrap(), Fen(300));
        assert_eq!(row.coverable(writer(1), &word(100, 0, 2)).unwrap(), Fen(400));
        row.merge_granted_in(writer(1), Fen(350)).unwrap();
        assert_eq!(row.coverable(writer(1), &first).unwrap(), Fen(350), "an old word is worth nothing more");
    }

    #[test]
    fn headquarters_has_a_place_in_a_row_that_is_full_of_boxes() {
        let mut row = RowState::default();
        let boxes = || (1..=COUNTERPARTS_MAX as u32).map(writer);
        let (one_more, hub) = (writer(1_000), Writer { node: NodeId::HUB, ..writer(0) });
        boxes().for_each(|giver| _ = row.merge_granted_in(giver, Fen(2)).unwrap());
        boxes().for_each(|receiver| _ = row.grant(receiver, Fen(1)).unwrap());
        assert_eq!(row.merge_granted_in(one_more, Fen(2)), Err(RightsError::TooMany(COUNTERPARTS_MAX)));
        assert_eq!(row.grant(one_more, Fen(1)), Err(RightsError::TooMany(COUNTERPARTS_MAX)));
        assert_eq!(row.merge_granted_in(hub, Fen(5)), Ok(true));
        assert_eq!(row.grant(hub, Fen(7)), Ok(Fen(7)));
        assert_eq!(row.right(), Ok(Fen(COUNTERPARTS_MAX as i64 - 2)));
    }

    proptest! {
        /// Grants may come in any order, any number of times: the same right in the end.
        #[test]
        fn merging_is_commutative_and_idempotent(
            totals in prop::collection::vec((0u32..4, 0i64..10_000), 0..20),
            order in any::<u64>(),
        ) {
            let fold = |totals: &[(u32, i64)]| {
                let mut row = RowState::default();
                for (giver, total) in totals {
                    row.merge_granted_in(writer(*giver), Fen(*total)).unwrap();
                }
                row
            };
            let mut shuffled = totals.clone();
            shuffled.extend(totals.clone());
            shuffled.sort_by_key(|(g, t)| (u64::from(*g) * 7919 + *t as u64).wrapping_mul(order | 1));
            prop_assert_eq!(fold(&totals), fold(&shuffled));
        }

        /// Model: what is passed on, whoever gets it, never exceeds the largest grant.
        #[test]
        fn passing_on_is_bounded_by_grants(ops in prop::collection::vec((0u32..3, 0i64..500), 0..60)) {
            let mut row = RowState::default();
            let (mut granted, mut spent) = (0i64, 0i64);
            for (op, amount) in ops {
                match op {
                    0 => { granted = granted.max(amount); row.merge_granted_in(writer(0), Fen(amount)).unwrap(); }
                    _ => if row.grant(writer(op), Fen(amount)).is_ok() { spent += amount },
                }
                prop_assert!(spent <= granted);
                prop_assert_eq!(row.right().unwrap(), Fen(granted - spent));
            }
        }
    }
}

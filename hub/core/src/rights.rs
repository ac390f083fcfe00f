//! The hub's side of rights: what a person has, what every box was granted of it, and how much each box should hold.
//!
//! Pure. Every figure is a total with one writer: a box's come from its journal and its rights feed, the hub's from its
//! own acts. What can be spent, is owed or lost is *derived* from the totals, so the order in which they arrive does not
//! matter. Leaves to others: the double-entry books (`ledger`, `core/books`), feeds (`core`).
#![deny(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use yika_crdt::Fen;
use yika_crdt::entry::WalletKey;
use yika_crdt::fen::FenError;
use yika_crdt::ids::{Day, Incarnation, Writer};
use yika_crdt::proof;

/// Least a person's boxes hold together, if there is so much.
pub const SHARE_FLOOR: Fen = Fen(10_000);
/// Share as a multiple of the mean daily spend.
pub const SHARE_DAYS: i64 = 3;
/// A box below this part of its target is topped up.
pub const TOP_UP_BELOW_PART: i64 = 3;
/// A box above so many times its target gives back what exceeds the target.
pub const RETURN_ABOVE_TIMES: i64 = 2;
/// Most boxes a person is granted rights at; what boxes say they did is counted beyond it too.
pub const REPLICAS_MAX: usize = 64;
/// Most wallets of one owner that are there only because boxes named them; what names a further one is set aside.
pub const NAMED_WALLETS_MAX: usize = 32;

/// One box's right in one wallet of a person, as the hub knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Replica {
    /// Granted by the hub, ever, in each of the hub's own lives.
    pub granted: BTreeMap<Incarnation, Fen>,
    /// Returned to the hub, ever, in each of the hub's lives, as the box says.
    pub back: BTreeMap<Incarnation, Fen>,
    /// Taken by cheque from others, by giver.
    pub taken_in: BTreeMap<Writer, Fen>,
    /// Taken by cheque by others, by receiver.
    pub taken_out: BTreeMap<Writer, Fen>,
    /// Spent, ever.
    pub used: Fen,
    /// Given back to the holder by the box, ever.
    pub returned: Fen,
    /// The box is fenced: what is left is in suspense until it is released.
    pub suspended: bool,
    /// Released from suspense.
    pub released: Fen,
    /// Given to the holder out of `loss` before the suspense could be released.
    pub advanced: Fen,
}

fn total<K>(totals: &BTreeMap<K, Fen>) -> Result<Fen, FenError> {
    Fen::sum(totals.values().copied())
}

impl Replica {
    fn came(&self) -> Result<Fen, FenError> {
        total(&self.granted)?.add(total(&self.taken_in)?)?.add(self.returned)
    }

    /// Returned to the hub: never more than ever came to the box.
    pub fn came_back(&self) -> Result<Fen, FenError> {
        Ok(total(&self.back)?.min(self.came()?))
    }

    fn left(&self) -> Result<Fen, FenError> {
        let went = self.came_back()?.add(total(&self.taken_out)?)?.add(self.used)?.add(self.released)?;
        self.came()?.sub(went)
    }

    /// What is left at the box, or in suspense.
    pub fn right(&self) -> Result<Fen, FenError> {
        Ok(self.left()?.max(Fen::ZERO))
    }

    /// What the box (or a copy of it, or a part of its journal that came early) spent beyond what it had.
    pub fn overdrawn(&self) -> Result<Fen, FenError> {
        Ok(self.left()?.negated()?.max(Fen::ZERO))
    }

    /// Of what was released, the part that makes up for what was advanced.
    pub fn repaid(&self) -> Fen {
        self.released.min(self.advanced)
    }

    /// Raises the granted total of one life of the hub; returns by how much. A smaller total changes nothing.
    pub fn merge_granted(&mut self, life: Incarnation, total: Fen) -> Result<Fen, FenError> {
        let held = self.granted.entry(life).or_default();
        let more = total.sub(*held)?.max(Fen::ZERO);
        *held = held.add(more)?;
        Ok(more)
    }
}

/// One wallet of one person, or one pool of a box.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Wallet {
    /// Everything paid in (top-ups, subsidies; of a pool what holders owe it).
    pub deposits: Fen,
    /// Everything paid out.
    pub withdrawals: Fen,
    /// Given back by the hub itself for sales.
    pub refunded: Fen,
    /// Per box and life.
    pub replicas: BTreeMap<Writer, Replica>,
    /// Charged to the holder beside rights: facts, guest meals, floats; less what was given back of it.
    pub charged: Fen,
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
    /// Too many wallets that headquarters has never paid into.
    #[error("more than {NAMED_WALLETS_MAX} wallets that headquarters has paid nothing into")]
    TooManyNamed,
}

/// What a wallet's boxes should get and give back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Grants.
    pub grants: Vec<(Writer, Fen)>,
    /// Recalls, with what may stay.
    pub recalls: Vec<(Writer, Fen)>,
}

impl Wallet {
    /// Paid in, less what was paid out and what boxes hold; below zero only after a restore that lost top-ups.
    pub fn gross(&self) -> Result<Fen, FenError> {
        let mut gross = self.deposits.sub(self.withdrawals)?.add(self.refunded)?;
        for replica in self.replicas.values() {
            gross = gross.sub(total(&replica.granted)?)?.add(replica.came_back()?)?;
            gross = gross.add(replica.advanced)?.add(replica.released)?.sub(replica.repaid())?;
        }
        Ok(gross)
    }

    /// Granted beyond all that was ever paid in: what a restored hub had forgotten. Booked to `loss`.
    pub fn deficit(&self) -> Result<Fen, FenError> {
        Ok(self.gross()?.negated()?.max(Fen::ZERO))
    }

    /// All that was ever owed.
    fn debt(&self) -> Result<Fen, FenError> {
        self.replicas.values().try_fold(self.charged, |debt, replica| debt.add(replica.overdrawn()?))
    }

    /// The part of the debt that what is here pays at once.
    pub fn settled(&self) -> Result<Fen, FenError> {
        Ok(self.debt()?.min(self.gross()?.max(Fen::ZERO)))
    }

    /// What the hub may still grant or pay out.
    pub fn available(&self) -> Result<Fen, FenError> {
        self.gross()?.max(Fen::ZERO).sub(self.settled()?)
    }

    /// What boxes must give back before `amount` is available: what is owed is settled first, and what a restored hub had
    /// forgotten is made good. Zero or less when nothing.
    pub fn short_of(&self, amount: Fen) -> Result<Fen, FenError> {
        amount.add(self.debt()?)?.sub(self.gross()?)
    }

    /// What the holder has of it, wherever it lies: available, at boxes, in suspense. What was advanced for a suspense is
    /// his once.
    pub fn balance(&self) -> Result<Fen, FenError> {
        self.replicas.values().try_fold(self.available()?, |sum, replica| {
            let advanced = replica.advanced.sub(replica.repaid())?;
            sum.add(replica.right()?.sub(advanced)?.max(Fen::ZERO))
        })
    }

    /// What the holder owes.
    pub fn owed(&self) -> Result<Fen, FenError> {
        self.debt()?.sub(self.settled()?)
    }

    /// Spent with merchants, what was given back taken off.
    pub fn spent(&self) -> Result<Fen, FenError> {
        let by_boxes = |sum: Fen, r: &Replica| sum.add(r.used)?.sub(r.returned);
        self.replicas.values().try_fold(self.charged.sub(self.refunded)?, by_boxes)
    }

    /// Booked to `loss` for this wallet.
    pub fn lost(&self) -> Result<Fen, FenError> {
        let advances = |sum: Fen, r: &Replica| sum.add(r.advanced)?.sub(r.repaid());
        self.replicas.values().try_fold(self.deficit()?, advances)
    }

    /// Pays in.
    pub fn deposit(&mut self, amount: Fen) -> Result<(), WalletError> {
        positive(amount)?;
        self.deposits = self.deposits.add(amount)?;
        Ok(())
    }

    /// Pays out what is available.
    pub fn withdraw(&mut self, amount: Fen) -> Result<(), WalletError> {
        self.need(amount)?;
        self.withdrawals = self.withdrawals.add(amount)?;
        Ok(())
    }

    /// Grants a box so much more, in this life of the hub; returns the new cumulative total of this life.
    pub fn grant(&mut self, life: Incarnation, to: Writer, amount: Fen) -> Result<Fen, WalletError> {
        self.need(amount)?;
        self.grant_unbounded(life, to, amount)
    }

    /// Grants out of the organisation's own credit: pools.
    pub fn grant_unbounded(&mut self, life: Incarnation, to: Writer, amount: Fen) -> Result<Fen, WalletError> {
        positive(amount)?;
        if !self.replicas.contains_key(&to) && self.replicas.len() >= REPLICAS_MAX {
            return Err(WalletError::TooMany);
        }
        let granted = self.replica(to).granted.entry(life).or_default();
        *granted = granted.add(amount)?;
        Ok(*granted)
    }

    /// A box's total granted in one life of the hub.
    pub fn granted(&self, life: Incarnation, to: Writer) -> Fen {
        self.replicas.get(&to).and_then(|r| r.granted.get(&life).copied()).unwrap_or_default()
    }

    /// A box's row, made empty if it is new.
    pub fn replica(&mut self, of: Writer) -> &mut Replica {
        self.replicas.entry(of).or_default()
    }

    fn right_of(&self, of: Writer) -> Result<Fen, FenError> {
        self.replicas.get(&of).map_or(Ok(Fen::ZERO), Replica::right)
    }

    /// What each living box of the home campus lacks to its target where it holds less than a third of it, and what
    /// boxes hold above twice their target.
    ///
    /// Together the boxes hold `min(available + held, wished)`; a box elsewhere may hold as much as all at home should.
    pub fn plan(&self, home: &[Writer], wished: Fen, alive: impl Fn(Writer) -> bool) -> Result<Plan, FenError> {
        let mut plan = Plan::default();
        let count = i64::try_from(home.len()).unwrap_or(i64::MAX);
        if count == 0 {
            return Ok(plan);
        }
        let mut available = self.available()?;
        let held_all = home.iter().try_fold(Fen::ZERO, |sum, w| sum.add(self.right_of(*w)?))?;
        let target = Fen(wished.min(available.add(held_all)?).0 / count);
        for writer in home {
            let has = self.right_of(*writer)?;
            let missing = target.sub(has)?.min(available);
            if has.0.saturating_mul(TOP_UP_BELOW_PART) < target.0 && missing.is_positive() {
                available = available.sub(missing)?;
                plan.grants.push((*writer, missing));
            }
        }
        let share = Fen(wished.0 / count);
        for (writer, replica) in self.replicas.iter().filter(|(w, _)| alive(**w)) {
            let own = if home.contains(writer) { share } else { wished };
            if replica.right()?.0 > own.0.saturating_mul(RETURN_ABOVE_TIMES) {
                plan.recalls.push((*writer, own));
            }
        }
        Ok(plan)
    }

    /// Whom to ask for `missing`, and what each may keep: those of whom `last` says least first, then those that hold most.
    pub fn recall<K: Ord>(
        &self,
        missing: Fen,
        counts: impl Fn(Writer) -> bool,
        last: impl Fn(Writer) -> K,
    ) -> Result<Vec<(Writer, Fen)>, FenError> {
        let mut holders = Vec::new();
        for (writer, replica) in self.replicas.iter().filter(|(w, _)| counts(**w)) {
            let right = replica.right()?;
            if right.is_positive() {
                holders.push((last(*writer), std::cmp::Reverse(right), *writer));
            }
        }
        holders.sort();
        let mut missing = missing;
        let mut recalls = Vec::new();
        for (_, std::cmp::Reverse(right), writer) in holders {
            if !missing.is_positive() {
                break;
            }
            let part = right.min(missing);
            missing = missing.sub(part)?;
            recalls.push((writer, right.sub(part)?));
        }
        Ok(recalls)
    }

    fn need(&self, amount: Fen) -> Result<(), WalletError> {
        positive(amount)?;
        let available = self.available()?;
        if amount > available && !proof::sown("granted_beyond_what_is_there") {
            return Err(WalletError::NotAvailable { available, wanted: amount });
        }
        Ok(())
    }

    /// Invariant 8 for this wallet: deposits − withdrawals = available + Σ rights + Σ suspense + spent − receivable −
    /// loss, and what a cheque moved left one box and came to another.
    pub fn check(&self) -> Result<(), String> {
        self.checked().unwrap_or_else(|e| Err(e.to_string()))
    }

    fn checked(&self) -> Result<Result<(), String>, FenError> {
        let rights = self.replicas.values().try_fold(Fen::ZERO, |sum, r| sum.add(r.right()?))?;
        let taken_in = self.replicas.values().try_fold(Fen::ZERO, |sum, r| sum.add(total(&r.taken_in)?))?;
        let taken_out = self.replicas.values().try_fold(Fen::ZERO, |sum, r| sum.add(total(&r.taken_out)?))?;
        let available = self.available()?;
        let held = available.add(rights)?.add(self.spent()?)?.sub(self.owed()?)?.sub(self.lost()?)?;
        let paid_in = self.deposits.sub(self.withdrawals)?;
        Ok(if paid_in != held {
            Err(format!("paid in less paid out is {paid_in}, accounted for are {held}"))
        } else if taken_in != taken_out {
            Err(format!("{taken_in} came by cheque, {taken_out} went by cheque"))
        } else if available.is_negative() {
            Err(format!("available is {available}"))
        } else {
            Ok(())
        })
    }
}

fn positive(amount: Fen) -> Result<(), WalletError> {
    if amount.is_positive() { Ok(()) } else { Err(WalletError::NotPositive(amount)) }
}

/// All wallets of one person, or all pools of one box, at the hub.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PersonWallets {
    /// By key.
    pub wallets: BTreeMap<WalletKey, Wallet>,
    /// Sums of the last business days, newest last, for the mean daily spend.
    pub spent_days: Vec<(Day, Fen)>,
}

/// Days that the mean daily spend looks back.
pub const MEAN_DAYS: usize = 7;

/// Whether a wallet holds money, and not a count.
pub fn is_money(key: WalletKey) -> bool {
    !matches!(key, WalletKey::Limit(..) | WalletKey::MealCount(_))
}

/// Whether headquarters has neither paid into a wallet nor granted of it. Into a pool boxes pay too, by what they charge.
fn is_only_named(key: WalletKey, wallet: &Wallet) -> bool {
    let paid_in = !matches!(key, WalletKey::Guest | WalletKey::Float(_)) && wallet.deposits.is_positive();
    !paid_in && wallet.replicas.values().all(|replica| replica.granted.is_empty())
}

impl PersonWallets {
    /// A wallet, made empty if it is new.
    pub fn wallet(&mut self, key: WalletKey) -> &mut Wallet {
        self.wallets.entry(key).or_default()
    }

    /// A wallet that a box names, made empty if it is new: every entry costs a walk through all of its owner's.
    pub fn named(&mut self, key: WalletKey) -> Result<&mut Wallet, WalletError> {
        let only_named = || self.wallets.iter().filter(|(key, wallet)| is_only_named(**key, wallet)).count();
        if !self.wallets.contains_key(&key) && only_named() >= NAMED_WALLETS_MAX {
            return Err(WalletError::TooManyNamed);
        }
        Ok(self.wallet(key))
    }

    /// Adds a sale to its day, or takes off what was given back.
    pub fn note_spent(&mut self, day: Day, amount: Fen) -> Result<(), FenError> {
        match self.spent_days.iter_mut().find(|(d, _)| *d == day) {
            Some((_, sum)) => *sum = sum.add(amount)?,
            None => self.spent_days.push((day, amount)),
        }
        self.spent_days.sort();
        while self.spent_days.len() > MEAN_DAYS + 1 {
            self.spent_days.remove(0);
        }
        Ok(())
    }

    /// Mean spend of the days on which something was bought, `today` only where there is no other.
    pub fn mean_daily(&self, today: Day) -> Fen {
        let whole: Vec<_> = self.spent_days.iter().filter(|(day, _)| *day < today).collect();
        let days = if whole.is_empty() { self.spent_days.iter().collect() } else { whole };
        let sum = days.iter().fold(0i64, |sum, (_, f)| sum.saturating_add(f.0.max(0)));
        Fen(sum / i64::try_from(days.len().max(1)).unwrap_or(1))
    }

    /// What the boxes at home should hold together: some days' spend, and a day's each.
    pub fn wished(&self, today: Day, boxes: usize) -> Fen {
        let days = SHARE_DAYS.max(i64::try_from(boxes).unwrap_or(i64::MAX));
        SHARE_FLOOR.max(Fen(self.mean_daily(today).0.saturating_mul(days)))
    }

    /// Whether everything that is derived from the totals fits.
    pub fn check_sums(&self) -> Result<(), FenError> {
        for wallet in self.wallets.values() {
            wallet.available()?;
            wallet.owed()?;
            wallet.spent()?;
            wallet.replicas.values().try_for_each(|replica| replica.left().map(drop))?;
        }
        Ok(())
    }

    /// Everything that can be spent anywhere: available and rights of living boxes, all money wallets.
    pub fn total(&self) -> Result<Fen, FenError> {
        let mut total = Fen::ZERO;
        for wallet in self.wallets.iter().filter(|(key, _)| is_money(**key)).map(|(_, wallet)| wallet) {
            total = total.add(wallet.available()?)?;
            for replica in wallet.replicas.values().filter(|r| !r.suspended) {
                total = total.add(replica.right()?)?;
            }
        }
        Ok(total)
    }

    /// Owed by the holder.
    pub fn owed(&self) -> Result<Fen, FenError> {
        let money = self.wallets.iter().filter(|(key, _)| is_money(**key));
        money.map(|(_, wallet)| wallet.owed()).try_fold(Fen::ZERO, |sum, owed| sum.add(owed?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use proptest::prelude::*;
    use yika_crdt::ids::NodeId;

    const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };

    fn writer(node: u32) -> Writer {
        Writer { node: NodeId(node), incarnation: LIFE }
    }

    fn plan(wallet: &Wallet) -> Plan {
        wallet.plan(&[writer(1), writer(2)], SHARE_FLOOR, |_| true).unwrap()
    }

    #[test]
    fn two_boxes_share_what_is_there() {
        let mut wallet = Wallet::default();
        wallet.deposit(Fen(6_000)).unwrap();
        assert_eq!(plan(&wallet).grants, vec![(writer(1), Fen(3_000)), (writer(2), Fen(3_000))]);
        for (to, amount) in plan(&wallet).grants {
            wallet.grant(LIFE, to, amount).unwrap();
        }
        assert_eq!(plan(&wallet), Plan::default());
        wallet.replica(writer(1)).used = Fen(2_500);
        assert_eq!(plan(&wallet), Plan::default(), "nothing is available any more");
        wallet.deposit(Fen(50_000)).unwrap();
        assert_eq!(plan(&wallet).grants, vec![(writer(1), Fen(4_500))]);
    }

    #[test]
    fn only_what_exceeds_twice_the_target_is_asked_back() {
        let mut wallet = Wallet::default();
        wallet.deposit(Fen(100_000)).unwrap();
        wallet.grant(LIFE, writer(1), Fen(10_000)).unwrap();
        wallet.grant(LIFE, writer(2), Fen(10_001)).unwrap();
        wallet.grant(LIFE, writer(3), Fen(20_000)).unwrap();
        assert_eq!(plan(&wallet).recalls, vec![(writer(2), Fen(5_000))]);
        let recalled = wallet.recall(Fen(25_000), |_| true, |w| w != writer(3)).unwrap();
        assert_eq!(recalled, vec![(writer(3), Fen::ZERO), (writer(2), Fen(5_001))], "elsewhere first");
    }

    #[test]
    fn what_is_owed_is_settled_from_what_comes_in() {
        let mut wallet = Wallet { charged: Fen(700), ..Wallet::default() };
        assert_eq!((wallet.available().unwrap(), wallet.owed().unwrap()), (Fen::ZERO, Fen(700)));
        wallet.deposit(Fen(1_000)).unwrap();
        assert_eq!((wallet.available().unwrap(), wallet.owed().unwrap()), (Fen(300), Fen::ZERO));
        assert!(wallet.withdraw(Fen(301)).is_err());
        assert_eq!(wallet.check(), Ok(()));
    }

    #[test]
    fn what_comes_back_pays_first_what_is_owed() {
        let mut wallet = Wallet { charged: Fen(700), ..Wallet::default() };
        wallet.deposit(Fen(1_000)).unwrap();
        wallet.grant(LIFE, writer(1), Fen(300)).unwrap();
        assert_eq!(wallet.short_of(Fen(50)), Ok(Fen(50)));
        wallet.charged = Fen(900);
        let missing = wallet.short_of(Fen(50)).unwrap();
        assert_eq!(missing, Fen(250), "200 of the debt are not paid yet");
        wallet.replica(writer(1)).back.insert(LIFE, missing);
        assert_eq!((wallet.available(), wallet.owed()), (Ok(Fen(50)), Ok(Fen::ZERO)));
        assert!(wallet.short_of(Fen(50)).unwrap() <= Fen::ZERO);
    }

    #[test]
    fn a_return_beyond_what_ever_came_creates_no_money() {
        let mut wallet = Wallet::default();
        wallet.deposit(Fen(1_000)).unwrap();
        wallet.grant(LIFE, writer(1), Fen(400)).unwrap();
        wallet.replica(writer(1)).used = Fen(400);
        wallet.replica(writer(1)).back.insert(LIFE, Fen(90_000));
        assert_eq!(wallet.available().unwrap(), Fen(600), "what was spent and returned is owed, and settled");
        assert_eq!(wallet.check(), Ok(()));
    }

    #[test]
    fn a_day_just_begun_does_not_lower_the_mean() {
        let mut wallets = PersonWallets::default();
        wallets.note_spent(Day(1), Fen(2_000)).unwrap();
        wallets.note_spent(Day(2), Fen(4_000)).unwrap();
        wallets.note_spent(Day(3), Fen(100)).unwrap();
        assert_eq!(wallets.mean_daily(Day(3)), Fen(3_000));
    }

    proptest! {
        /// Whatever boxes say they did, nothing is created and invariant 8 holds.
        #[test]
        fn money_is_conserved(acts in prop::collection::vec((0u8..9, 1u32..4, 1i64..5_000), 0..80)) {
            let mut wallet = Wallet::default();
            for (act, node, amount) in acts {
                let amount = Fen(amount);
                let add = |held: &mut Fen| *held = held.add(amount).unwrap();
                match act {
                    0 => wallet.deposit(amount).unwrap(),
                    1 => _ = wallet.withdraw(amount),
                    2 => _ = wallet.grant(LIFE, writer(node), amount),
                    3 => add(&mut wallet.replica(writer(node)).used),
                    4 => add(wallet.replica(writer(node)).back.entry(LIFE).or_default()),
                    5 => add(&mut wallet.charged),
                    6 => {
                        add(wallet.replica(writer(node)).taken_out.entry(writer(9)).or_default());
                        add(wallet.replica(writer(9)).taken_in.entry(writer(node)).or_default());
                    }
                    7 => {
                        let replica = wallet.replica(writer(node));
                        replica.suspended = true;
                        replica.advanced = replica.advanced.add(replica.right().unwrap()).unwrap();
                    }
                    _ => add(&mut wallet.replica(writer(node)).returned),
                }
                prop_assert_eq!(wallet.check(), Ok(()));
                prop_assert!(!wallet.owed().unwrap().is_negative());
            }
        }
    }
}

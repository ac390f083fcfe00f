//! Double entry: every movement of money is a transfer between two accounts, linked to the entry it follows from.
//!
//! Pure: builds transfers, stores nothing. Append-only; corrections are transfers of their own. A transfer names the hash
//! of its entry and a part number; a feed's chain makes each entry come once. Leaves to others: SQL (`yika-hub`).
#![deny(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};
use yika_crdt::Fen;
use yika_crdt::entry::WalletKey;
use yika_crdt::feed::Hash;
use yika_crdt::ids::*;

/// An account of the books. Its text form is its key in storage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Account {
    /// Cash and banks: what was paid in, negative.
    Cash,
    /// What the employer has given as subsidies, negative.
    SubsidySource,
    /// The organisation's credit that guest pools and terminal floats are granted from, negative.
    PoolSource,
    /// A holder's wallet as far as the hub has not granted it to a box.
    Holder(PersonId, WalletKey),
    /// A box's right in a holder's wallet.
    Right(PersonId, WalletKey, Writer),
    /// Rights of a fenced box.
    Suspense(PersonId, WalletKey, Writer),
    /// Owed to a merchant.
    Merchant(MerchantId),
    /// Owed by a holder (person 0: by nobody known), negative.
    Receivable(PersonId),
    /// Given up for good, negative.
    Loss,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Account::Cash => write!(f, "cash"),
            Account::SubsidySource => write!(f, "subsidy"),
            Account::PoolSource => write!(f, "pool"),
            Account::Holder(person, wallet) => write!(f, "holder/{person}/{}", wallet_name(*wallet)),
            Account::Right(person, wallet, writer) => write!(f, "right/{person}/{}/{writer}", wallet_name(*wallet)),
            Account::Suspense(person, wallet, writer) => {
                write!(f, "suspense/{person}/{}/{writer}", wallet_name(*wallet))
            }
            Account::Merchant(merchant) => write!(f, "merchant/{merchant}"),
            Account::Receivable(person) => write!(f, "receivable/{person}"),
            Account::Loss => write!(f, "loss"),
        }
    }
}

impl Account {
    /// Whether the balance (credits less debits) must stay at or above zero.
    pub fn is_bounded(self) -> bool {
        use Account::{Cash, Loss, PoolSource, Receivable, SubsidySource};
        !matches!(self, Cash | SubsidySource | PoolSource | Receivable(_) | Loss)
    }

    /// The holder it belongs to, if any.
    pub fn person(self) -> Option<PersonId> {
        match self {
            Account::Holder(p, _) | Account::Right(p, _, _) | Account::Suspense(p, _, _) | Account::Receivable(p) => {
                Some(p)
            }
            _ => None,
        }
    }
}

/// Name of a wallet in account keys, tables and reports.
pub fn wallet_name(wallet: WalletKey) -> String {
    match wallet {
        WalletKey::Main => "main".to_owned(),
        WalletKey::Subsidy(batch) => format!("subsidy-{batch}"),
        WalletKey::MealCount(period) => format!("meal-{period}"),
        WalletKey::Limit(rule, day) => format!("limit-{rule}-{day}"),
        WalletKey::Guest => "guest".to_owned(),
        WalletKey::Float(terminal) => format!("float-{terminal}"),
    }
}

/// Why money moved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// Paid in at a counter.
    TopUp,
    /// Paid out.
    Withdrawal,
    /// Granted to a box.
    Grant,
    /// Returned by a box.
    Return,
    /// Passed on by cheque.
    Cheque,
    /// Sold.
    Purchase,
    /// Given back.
    Refund,
    /// Moved to suspense at a fence, or released from it.
    Fence,
    /// A box spent beyond its right: owed by the holder.
    Overdraft,
    /// Owed, and paid from what is available.
    Settle,
    /// Given up, or made good again.
    Loss,
    /// More was given back than was paid: charged again.
    Surplus,
}

impl Kind {
    /// Name in storage, reports and the API.
    pub fn name(self) -> &'static str {
        match self {
            Kind::TopUp => "top_up",
            Kind::Withdrawal => "withdrawal",
            Kind::Grant => "grant",
            Kind::Return => "return",
            Kind::Cheque => "cheque",
            Kind::Purchase => "purchase",
            Kind::Refund => "refund",
            Kind::Fence => "fence",
            Kind::Overdraft => "overdraft",
            Kind::Settle => "settle",
            Kind::Loss => "loss",
            Kind::Surplus => "surplus",
        }
    }
}

/// One movement: `amount` leaves `debit` and arrives at `credit`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// Hash of the entry or act it follows from.
    pub source: Hash,
    /// Part number within the source.
    pub part: u32,
    /// Why.
    pub kind: Kind,
    /// Where it leaves.
    pub debit: Account,
    /// Where it arrives.
    pub credit: Account,
    /// How much, above zero.
    pub amount: Fen,
    /// Business day it belongs to by its origin (day eaten).
    pub day: Day,
}

/// Builds the transfers of one source, numbering the parts.
#[derive(Debug)]
pub struct Posting {
    source: Hash,
    day: Day,
    /// What was built.
    pub transfers: Vec<Transfer>,
}

impl Posting {
    /// Nothing posted yet for this source.
    pub fn new(source: Hash, day: Day) -> Posting {
        Posting { source, day, transfers: Vec::new() }
    }

    /// Moves an amount; zero moves nothing.
    pub fn transfer(&mut self, kind: Kind, debit: Account, credit: Account, amount: Fen) {
        if amount.is_positive() {
            let part = u32::try_from(self.transfers.len()).unwrap_or(u32::MAX);
            let (source, day) = (self.source, self.day);
            self.transfers.push(Transfer { source, part, kind, debit, credit, amount, day });
        }
    }

    /// Moves a difference: a negative one moves back.
    pub fn shift(&mut self, kind: Kind, debit: Account, credit: Account, difference: Fen) {
        match difference.is_negative() {
            true => self.transfer(kind, credit, debit, Fen(difference.0.saturating_neg())),
            false => self.transfer(kind, debit, credit, difference),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_and_zero_moves_nothing() {
        let mut posting = Posting::new(Hash([1; 32]), Day(1));
        posting.transfer(Kind::TopUp, Account::Cash, Account::Holder(PersonId(1), WalletKey::Main), Fen(0));
        posting.transfer(Kind::TopUp, Account::Cash, Account::Holder(PersonId(1), WalletKey::Main), Fen(5));
        posting.transfer(Kind::TopUp, Account::Cash, Account::Holder(PersonId(2), WalletKey::Main), Fen(6));
        let parts: Vec<_> = posting.transfers.iter().map(|t| (t.part, t.amount)).collect();
        assert_eq!(parts, vec![(0, Fen(5)), (1, Fen(6))]);
    }

    #[test]
    fn account_keys_are_readable_and_distinct() {
        let incarnation = Incarnation { generation: 1, counter: 2 };
        let writer = Writer { node: NodeId(7), incarnation };
        let right = Account::Right(PersonId(5), WalletKey::Subsidy(3), writer);
        assert_eq!(right.to_string(), "right/p5/subsidy-3/n7@1.2");
        assert!(right.is_bounded() && !Account::Cash.is_bounded());
    }
}

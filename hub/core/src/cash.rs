//! Money in and out at a counter: top-ups, their undoing, withdrawals. The asker makes the id; each is posted once.
//!
//! Leaves to others: who may do it (the desk), shifts and closings, notes on paper.

use super::books::Owner;
use super::{CoreError, Hub, Reply, Turn, named, wallets_of};
use crate::denial::{Denial, Kept};
use crate::ledger::{Account, Kind, Posting};
use crate::rights::WalletError;
use serde::{Deserialize, Serialize};
use yika_crdt::Fen;
use yika_crdt::entry::{Row, WalletKey};
use yika_crdt::feed::{self, Hash};
use yika_crdt::ids::*;
use yika_crdt::proof;
use yika_crdt::store::Read;

/// Who stands at the counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Teller {
    /// The operator.
    pub operator: OperatorId,
    /// His shift: whatever number the desk gives it, new at each signing-on.
    pub shift: u64,
}

/// A movement at the counter as remembered under its id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Slip {
    person: PersonId,
    /// Above zero: paid in; below: paid out.
    amount: Fen,
    by: Teller,
    undone: bool,
}

impl Hub {
    pub(super) fn top_up<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        id: Hash,
        person: PersonId,
        amount: Fen,
        by: Teller,
    ) -> Result<Reply, CoreError> {
        if self.mesh.people.read().holder(person).is_none() {
            return Ok(Reply::Denied(Denial::UnknownPerson { person }));
        }
        let slip = Slip { person, amount, by, undone: false };
        match turn.tx.get::<Slip>(&slip_key(&id))? {
            _ if proof::sown("paid_in_twice") => {}
            Some(known) if known.undone => return Ok(Reply::Denied(Denial::TopUpUndone)),
            Some(known) if (known.person, known.amount) == (person, amount) => {
                proof::hit("paid_in_again");
                return Ok(Reply::ToppedUp { total: wallets_of(turn.tx, person)?.total()?, repeated: true });
            }
            Some(_) => return Ok(Reply::Denied(Denial::NumberUsed)),
            None => {}
        }
        if let Err(refused) = self.open(turn, Owner::Person(person))?.wallet(WalletKey::Main).deposit(amount) {
            return Ok(Reply::Denied(match refused {
                WalletError::NotPositive(amount) => Denial::NotPositive { amount },
                _ => Denial::BeyondBounds,
            }));
        }
        turn.tx.put(slip_key(&id), &slip);
        let mut posting = Posting::new(top_up_source(&id), self.today(turn));
        posting.transfer(Kind::TopUp, Account::Cash, Account::Holder(person, WalletKey::Main), amount);
        turn.post(posting)?;
        self.share_out(turn, person)?;
        let total = self.open(turn, Owner::Person(person))?.total()?;
        Ok(Reply::ToppedUp { total, repeated: false })
    }

    /// Undoes a top-up whole, as long as so much is there; only who took it, in the shift in which he took it.
    pub(super) fn undo_top_up<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        of: Hash,
        by: Teller,
    ) -> Result<Reply, CoreError> {
        let Some(mut slip) = turn.tx.get::<Slip>(&slip_key(&of))?.filter(|s| s.amount.is_positive()) else {
            return Ok(Reply::Denied(Denial::UnknownTopUp));
        };
        if slip.by != by {
            return Ok(Reply::Denied(Denial::OthersTopUp));
        }
        if slip.undone {
            return Ok(Reply::Paid { left: wallets_of(turn.tx, slip.person)?.total()?, repeated: true });
        }
        let source = undo_source(&of);
        let reply = self.pay_out(turn, slip.person, slip.amount, source)?;
        if matches!(reply, Reply::Paid { .. }) {
            slip.undone = true;
            turn.tx.put(slip_key(&of), &slip);
        }
        Ok(reply)
    }

    pub(super) fn withdraw<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        id: Hash,
        person: PersonId,
        amount: Fen,
        by: Teller,
    ) -> Result<Reply, CoreError> {
        if !amount.is_positive() {
            return Ok(Reply::Denied(Denial::NotPositive { amount }));
        }
        let slip = Slip { person, amount: amount.negated()?, by, undone: false };
        match turn.tx.get::<Slip>(&slip_key(&id))? {
            Some(known) if (known.person, known.amount) == (slip.person, slip.amount) => {
                return Ok(Reply::Paid { left: wallets_of(turn.tx, person)?.total()?, repeated: true });
            }
            Some(_) => return Ok(Reply::Denied(Denial::NumberUsed)),
            None => {}
        }
        let reply = self.pay_out(turn, person, amount, withdrawal_source(&id))?;
        if matches!(reply, Reply::Paid { .. }) {
            turn.tx.put(slip_key(&id), &slip);
        }
        Ok(reply)
    }

    /// Pays out what is available; what boxes hold is called back first, and the asker asks again.
    fn pay_out<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        person: PersonId,
        amount: Fen,
        source: Hash,
    ) -> Result<Reply, CoreError> {
        if let Some(denied) = self.recovering(turn, Kept::PayOut)? {
            return Ok(denied);
        }
        let row = Row { person, wallet: WalletKey::Main };
        let wallet = self.open(turn, Owner::Person(person))?.wallet(WalletKey::Main);
        let (available, balance) = (wallet.available()?, wallet.balance()?);
        if balance < amount {
            return Ok(Reply::Denied(Denial::BalanceTooSmall { balance }));
        }
        if available < amount {
            let wallet = wallet.clone();
            let missing = wallet.short_of(amount)?;
            let before = turn.effects.len();
            return Ok(match self.recall(turn, row, &wallet, missing, None)? {
                true => Reply::Short { available, recalled: turn.effects.len() - before },
                false => Reply::Denied(Denial::NotEnough { available }),
            });
        }
        wallet.withdraw(amount)?;
        self.stop_waiting(row);
        let mut posting = Posting::new(source, self.today(turn));
        posting.transfer(Kind::Withdrawal, Account::Holder(person, WalletKey::Main), Account::Cash, amount);
        turn.post(posting)?;
        self.level(turn, person)?;
        Ok(Reply::Paid { left: self.open(turn, Owner::Person(person))?.total()?, repeated: false })
    }
}

/// What the transfers of a top-up follow from.
pub fn top_up_source(id: &Hash) -> Hash {
    feed::digest("yika top-up 1", &id.0)
}

/// What the transfers follow from that undo a top-up.
pub fn undo_source(of: &Hash) -> Hash {
    feed::digest("yika undo 1", &of.0)
}

/// What the transfers of a withdrawal follow from.
pub fn withdrawal_source(id: &Hash) -> Hash {
    feed::digest("yika withdrawal 1", &id.0)
}

fn slip_key(id: &Hash) -> Vec<u8> {
    named(b"!slip", id)
}

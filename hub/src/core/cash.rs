//! Money in and out at a counter: top-ups, their undoing, withdrawals. The asker makes the id; each is posted once.
//!
//! Leaves to others: who may do it (the desk), shifts and closings, notes on paper.

use super::books::Owner;
use super::{CoreError, Hub, Reply, Turn, named, wallets_of};
use crate::ledger::{Account, Kind, Posting};
use serde::{Deserialize, Serialize};
use yika_crdt::Fen;
use yika_crdt::entry::{Row, WalletKey};
use yika_crdt::feed::{self, Hash};
use yika_crdt::ids::*;
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
            return Ok(Reply::Denied(format!("{person} is not a person of this registry")));
        }
        let slip = Slip { person, amount, by, undone: false };
        match turn.tx.get::<Slip>(&slip_key(&id))? {
            Some(known) if (known.person, known.amount) == (person, amount) => {
                return Ok(Reply::ToppedUp { total: wallets_of(turn.tx, person)?.total()?, repeated: true });
            }
            Some(_) => return Ok(Reply::Denied("this number was used for another movement".into())),
            None => {}
        }
        if let Err(refused) = self.open(turn, Owner::Person(person))?.wallet(WalletKey::Main).deposit(amount) {
            return Ok(Reply::Denied(refused.to_string()));
        }
        turn.tx.put(slip_key(&id), &slip);
        let mut posting = Posting::new(feed::digest("yika top-up 1", &id.0), self.today(turn));
        posting.transfer(Kind::TopUp, Account::Cash, Account::Holder(person, WalletKey::Main), amount);
        turn.post(posting)?;
        self.level(turn, person)?;
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
            return Ok(Reply::Denied("no top-up has this number".into()));
        };
        if slip.by != by {
            let denied = "only the operator who took a top-up undoes it, in the same shift; use an adjustment";
            return Ok(Reply::Denied(denied.into()));
        }
        if slip.undone {
            return Ok(Reply::Paid(wallets_of(turn.tx, slip.person)?.total()?));
        }
        let source = feed::digest("yika undo 1", &of.0);
        let reply = self.pay_out(turn, slip.person, slip.amount, source)?;
        if matches!(reply, Reply::Paid(_)) {
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
            return Ok(Reply::Denied(format!("{amount} yuan is not a positive amount")));
        }
        let slip = Slip { person, amount: amount.negated()?, by, undone: false };
        match turn.tx.get::<Slip>(&slip_key(&id))? {
            Some(known) if (known.person, known.amount) == (slip.person, slip.amount) => {
                return Ok(Reply::Paid(wallets_of(turn.tx, person)?.total()?));
            }
            Some(_) => return Ok(Reply::Denied("this number was used for another movement".into())),
            None => {}
        }
        let reply = self.pay_out(turn, person, amount, feed::digest("yika withdrawal 1", &id.0))?;
        if matches!(reply, Reply::Paid(_)) {
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
        if let Some(denied) = self.recovering(turn, "nothing is paid out")? {
            return Ok(denied);
        }
        let row = Row { person, wallet: WalletKey::Main };
        let wallet = self.open(turn, Owner::Person(person))?.wallet(WalletKey::Main);
        let available = wallet.available()?;
        if available < amount {
            let wallet = wallet.clone();
            let missing = amount.sub(available)?;
            let before = turn.effects.len();
            return Ok(match self.recall(turn, row, &wallet, missing, None)? {
                true => Reply::Short { available, recalled: turn.effects.len() - before },
                false => Reply::Denied(format!("{available} yuan are available, and boxes do not hold the rest")),
            });
        }
        wallet.withdraw(amount)?;
        self.stop_waiting(row);
        let mut posting = Posting::new(source, self.today(turn));
        posting.transfer(Kind::Withdrawal, Account::Holder(person, WalletKey::Main), Account::Cash, amount);
        turn.post(posting)?;
        self.level(turn, person)?;
        Ok(Reply::Paid(self.open(turn, Owner::Person(person))?.total()?))
    }
}

fn slip_key(id: &Hash) -> Vec<u8> {
    named(b"!slip", id)
}

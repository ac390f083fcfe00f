//! What a box sells from where no holder's right is left: its guest pool and the floats of its tills (design section 4).
//!
//! Nobody is charged in advance for them, so that only their size bounds what a lying box makes up. They are filled up while
//! it is in reach, a few times a day at most. Leaves to others: holders' rights (`grant`), books (`books`).

use super::books::Owner;
use super::journal::Place;
use super::{CoreError, Hub, Reply, Turn, named};
use crate::denial::Denial;
use serde::{Deserialize, Serialize};
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::store::{Read, StoreError, decode_row};

/// A pool gets so many times its size on one day, its first filling included; what is sold then is refused, or a holder's
/// debt.
pub const POOL_FILLINGS_A_DAY_MAX: u32 = 4;
/// More fillings than that on one day are told.
const POOL_FILLINGS_EXPECTED: u32 = 2;

/// Sizes of the pools that every box of a campus gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PoolSizes {
    /// For guests, per box.
    pub guest: Fen,
    /// For a terminal that decides alone, per terminal and box.
    pub float: Fen,
}

impl Default for PoolSizes {
    fn default() -> Self {
        PoolSizes { guest: Fen(500_000), float: Fen(100_000) }
    }
}

/// What a pool was given on its last day.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Filled {
    day: Day,
    sum: Fen,
}

impl Hub {
    /// Tops up a box's guest pool and the floats of the tills of its campus, where a third or less is left.
    pub(super) fn fill_pools<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        to: Writer,
    ) -> Result<(), CoreError> {
        if !self.may_grant(to) {
            return Ok(());
        }
        let sizes: PoolSizes = turn.tx.get(&pools_key())?.unwrap_or_default();
        let campus = self.mesh.place_of(to).and_then(|place| place.campus);
        let sells = |t: &&TerminalRecord| {
            Some(t.campus) == campus && t.kind == TerminalKind::Till && t.state == TerminalState::Deployed
        };
        let tills: Vec<_> = self.mesh.terminals.values().filter(sells).map(|t| t.terminal).collect();
        let floats = tills.into_iter().map(|t| (WalletKey::Float(t), sizes.float));
        for (pool, size) in std::iter::once((WalletKey::Guest, sizes.guest)).chain(floats) {
            let wallet = self.open(turn, Owner::Pool(to))?.wallet(pool);
            let right = wallet.replica(to).right()?;
            if right.0.saturating_mul(crate::rights::TOP_UP_BELOW_PART) < size.0 {
                self.fill(turn, to, pool, size, right)?;
            }
        }
        Ok(())
    }

    /// Fills one pool up, as far as the day allows.
    fn fill<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        to: Writer,
        pool: WalletKey,
        size: Fen,
        right: Fen,
    ) -> Result<(), CoreError> {
        let day = self.today(turn);
        let key = named(b"!filled", &(to, pool));
        let filled = turn.tx.get::<Filled>(&key)?.filter(|filled| filled.day == day);
        let before = filled.map_or(Fen::ZERO, |filled| filled.sum);
        let rest = size.times(POOL_FILLINGS_A_DAY_MAX)?.sub(before)?;
        let amount = size.sub(right)?.min(rest);
        if !amount.is_positive() {
            return Ok(());
        }
        let sum = before.add(amount)?;
        turn.tx.put(key, &Filled { day, sum });
        if sum > size.times(POOL_FILLINGS_EXPECTED)? {
            self.tell_filling(turn, to, day, sum)?;
        }
        let life = self.mesh.me.incarnation;
        let total = self.open(turn, Owner::Pool(to))?.wallet(pool).grant_unbounded(life, to, amount)?;
        self.write_grant(turn, to, Row { person: PersonId(0), wallet: pool }, total, amount)
    }

    /// Once for each box and day: so much is seldom sold to guests, or by tills that decide alone.
    fn tell_filling<R: Read + ?Sized>(
        &self,
        turn: &mut Turn<'_, '_, R>,
        to: Writer,
        day: Day,
        sum: Fen,
    ) -> Result<(), CoreError> {
        let feed = FeedId { writer: to, channel: Channel::Journal };
        let place = Place { feed, seq: turn.tx.feed(&feed)?.end.seq, branch: None };
        let detail = format!("{to} got {sum} yuan today for guests, or for sales that a till decided alone");
        let mend = "if it has not sold so much, fence it; if it has, its pools are too small";
        Ok(self.alarm_once(turn, place, day, "pool_drawn", format!("{detail}; {mend}"))?)
    }

    pub(super) fn resize_pools<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        sizes: PoolSizes,
    ) -> Result<Reply, CoreError> {
        if sizes.guest.is_negative() || sizes.float.is_negative() {
            return Ok(Reply::Denied(Denial::PoolNegative));
        }
        turn.tx.put(pools_key(), &sizes);
        Ok(Reply::Done)
    }
}

/// How large the pools of a box are.
///
/// # Errors
/// Of storage.
pub fn pool_sizes<R: Read + ?Sized>(store: &R) -> Result<PoolSizes, StoreError> {
    let key = pools_key();
    Ok(store.get(&key)?.map(|bytes| decode_row(&key, &bytes)).transpose()?.unwrap_or_default())
}

fn pools_key() -> Vec<u8> {
    named(b"!sizes", &())
}

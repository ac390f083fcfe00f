//! Granting rights: sizing, asks within a purchase, recalls (design section 4).
//!
//! Leaves to others: pools and floats (`pools`), arithmetic (`rights`), books (`books`), what boxes do with it
//! (`yika_crdt::edge`).

use super::books::Owner;
use super::{CoreError, Effect, Hub, Reply, Turn};
use crate::ledger::{Account, Kind, Posting};
use crate::rights::WalletError;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::Fen;
use yika_crdt::channel::Channel;
use yika_crdt::entry::*;
use yika_crdt::feed;
use yika_crdt::ids::*;
use yika_crdt::proof;
use yika_crdt::store::Read;
use yika_crdt::sync::Message;
use yika_crdt::tariff;

/// Rows that may wait for rights to come back; at the bound an ask is refused at once.
pub const WAITING_MAX: usize = 1_024;
/// After this the asker is told that nothing comes: before the 800 ms that a box waits for headquarters are over, so that it
/// does not take headquarters for cut off.
pub const RECALL_MS_MAX: u64 = 600;
/// How long what comes back is kept for who asked: as long as one purchase may take.
const WAIT_MS_MAX: u64 = 2_000;
/// Days ahead for which counters of strict limits are granted: as long as a lease lasts.
const LIMIT_DAYS_AHEAD: i32 = 3;
/// Days that counters are kept after their day.
const LIMIT_DAYS_KEPT: i32 = 7;

/// Asks of one row that wait for others to give back.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    /// Who asks, for which total.
    asks: BTreeMap<Writer, Fen>,
    /// Until when nothing of this row is granted to anybody else, in milliseconds since the machine's start: headquarters'
    /// time stands still while its clock, set back, catches up.
    until_mono_ms: u64,
    /// Boxes that were asked to give back and do not.
    kept: BTreeSet<Writer>,
}

impl Hub {
    /// Whether a life may be given anything: living, of one chain, and this hub knows what is out.
    pub(super) fn may_grant(&self, to: Writer) -> bool {
        self.recovery.is_none()
            && self.is_alive(to)
            && (!self.mesh.forked.contains(&to) || proof::sown("granted_to_a_forked_life"))
    }

    /// Whether a life is the present one of its node and not fenced.
    pub(super) fn is_alive(&self, writer: Writer) -> bool {
        !writer.node.is_hub() && !self.mesh.is_fenced(writer) && self.mesh.current(writer.node) == Some(writer)
    }

    /// The living boxes of a campus.
    pub fn living_boxes(&self, campus: CampusId) -> Vec<Writer> {
        let lives = self.mesh.nodes.iter().filter(|(_, n)| n.record.campus == Some(campus)).map(|(w, _)| *w);
        lives.filter(|w| self.is_alive(*w)).collect()
    }

    pub(super) fn home_boxes(&self, person: PersonId) -> Vec<Writer> {
        let home = self.mesh.people.read().holder(person).map(|h| h.home);
        home.map(|campus| self.living_boxes(campus)).unwrap_or_default()
    }

    /// An ask within a purchase: granted at once, or others are asked to give back and the grant follows.
    pub(super) fn ask<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        from: Writer,
        row: Row,
        total: Fen,
    ) -> Result<Reply, CoreError> {
        let known = self.mesh.people.read().holder(row.person).is_some();
        if !known || !self.may_grant(from) || !self.is_there(turn, row)? {
            return Ok(Reply::Granted(false));
        }
        if self.raise(turn, from, row, total)? {
            return Ok(Reply::Granted(true));
        }
        if !self.ask_for_the_rest(turn, from, row, total)? {
            return Ok(Reply::Granted(false));
        }
        let waiting = self.waiting.entry(row).or_default();
        waiting.asks.insert(from, total);
        Ok(Reply::Waiting)
    }

    /// Asks boxes to give back `missing` of a row, the connected ones first; false if all of them together do not have it.
    ///
    /// Within a purchase of `asker` only connected ones count: it cannot wait for a box that is off, however much lies
    /// there. A clerk can, and is told so.
    pub(super) fn recall<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        row: Row,
        wallet: &crate::rights::Wallet,
        missing: Fen,
        asker: Option<Writer>,
    ) -> Result<bool, CoreError> {
        let home = self.home_boxes(row.person);
        let hears = |w: Writer| self.reached.contains(&w) || proof::sown("called_back_from_whom_is_off");
        let keeps = |w: Writer| self.waiting.get(&row).is_some_and(|waiting| waiting.kept.contains(&w));
        let counts = |w: Writer| self.is_alive(w) && asker.is_none_or(|asker| asker != w && hears(w) && !keeps(w));
        let recalls = wallet.recall(missing, counts, |w| (!hears(w), home.contains(&w)))?;
        let right = |w: &Writer| wallet.replicas.get(w).map_or(Ok(Fen::ZERO), |r| r.right());
        let mut comes = Fen::ZERO;
        for (writer, keep) in &recalls {
            comes = comes.add(right(writer)?.sub(*keep)?)?;
        }
        let room = self.waiting.contains_key(&row) || self.waiting.len() < WAITING_MAX;
        if comes < missing || recalls.is_empty() || !room {
            return Ok(false);
        }
        self.waiting.entry(row).or_default().until_mono_ms = turn.stamp.mono_ms.saturating_add(WAIT_MS_MAX);
        for (writer, keep) in recalls {
            proof::hit("recalled");
            turn.effects.push(Effect::Say(writer, Message::Recall { row, keep }));
        }
        Ok(true)
    }

    /// A box that was asked to give back does not: its gate is shut, or it holds less than this hub knows, because a cheque
    /// of it is not taken yet. Within the same purchase others are asked, if they have enough, else that box for all it has;
    /// what is under way from somebody is waited for in any case.
    pub(super) fn kept_back<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        from: Writer,
        row: Row,
    ) -> Result<Reply, CoreError> {
        let Some(waiting) = self.waiting.get_mut(&row) else { return Ok(Reply::Done) };
        if !waiting.kept.insert(from) {
            return Ok(Reply::Done);
        }
        let mut comes = false;
        for (asker, total) in waiting.asks.clone() {
            comes |= self.ask_for_the_rest(turn, asker, row, total)?;
        }
        let is_for_others =
            self.waiting.get(&row).is_some_and(|waiting| waiting.asks.keys().any(|asker| *asker != from));
        if comes {
            proof::hit("recalled_from_others");
        } else if is_for_others {
            turn.effects.push(Effect::Say(from, Message::Recall { row, keep: Fen::ZERO }));
        }
        Ok(Reply::Done)
    }

    /// Calls back what is still missing to serve an ask; false if nothing is, or if it is not to be had.
    fn ask_for_the_rest<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        asker: Writer,
        row: Row,
        total: Fen,
    ) -> Result<bool, CoreError> {
        let life = self.mesh.me.incarnation;
        let wallet = self.open(turn, Owner::Person(row.person))?.wallet(row.wallet).clone();
        let missing = wallet.short_of(total.sub(wallet.granted(life, asker))?)?;
        Ok(missing.is_positive() && self.recall(turn, row, &wallet, missing, Some(asker))?)
    }

    /// Something of a person has come in or back: asks that wait for it are served first, then boxes get their shares.
    pub(super) fn share_out<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        person: PersonId,
    ) -> Result<(), CoreError> {
        self.serve_waiting(turn, person)?;
        if self.is_waited_for(person, turn.stamp.mono_ms) { Ok(()) } else { self.level(turn, person) }
    }

    fn serve_waiting<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        person: PersonId,
    ) -> Result<(), CoreError> {
        let rows: Vec<_> = self.waiting.iter().filter(|(row, _)| row.person == person).collect();
        let asks: Vec<_> =
            rows.iter().flat_map(|(row, waiting)| waiting.asks.iter().map(|(w, total)| (**row, *w, *total))).collect();
        for (row, from, total) in asks {
            if !self.may_grant(from) {
                continue;
            }
            if !self.raise(turn, from, row, total)? {
                // Less has come than was asked for: the box had sold meanwhile, and may have more.
                self.ask_for_the_rest(turn, from, row, total)?;
                continue;
            }
            let served = self.waiting.get_mut(&row).is_none_or(|waiting| {
                waiting.asks.remove(&from);
                waiting.asks.is_empty()
            });
            if served {
                self.waiting.remove(&row);
            }
        }
        Ok(())
    }

    /// Whether rights of a person were called back for somebody who has not got them yet.
    fn is_waited_for(&self, person: PersonId, mono_ms: u64) -> bool {
        self.waiting.iter().any(|(row, waiting)| row.person == person && waiting.until_mono_ms >= mono_ms)
    }

    /// Forgets asks whose boxes have given up; what came back for them goes to the boxes of the home campus.
    pub(super) fn forget_waiting<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        let mono_ms = turn.stamp.mono_ms;
        let ended = self.waiting.iter().filter(|(_, waiting)| waiting.until_mono_ms < mono_ms);
        let asked: BTreeSet<PersonId> =
            ended.filter(|(_, waiting)| !waiting.asks.is_empty()).map(|(row, _)| row.person).collect();
        self.waiting.retain(|_, waiting| waiting.until_mono_ms >= mono_ms);
        asked.into_iter().try_for_each(|person| self.share_out(turn, person))
    }

    /// Forgets that a row was waited for.
    pub(super) fn stop_waiting(&mut self, row: Row) {
        self.waiting.remove(&row);
    }

    /// Raises a box's total granted by this life of the hub to at least `total` if so much is available. Idempotent.
    fn raise<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        to: Writer,
        row: Row,
        total: Fen,
    ) -> Result<bool, CoreError> {
        let life = self.mesh.me.incarnation;
        let wallet = self.open(turn, Owner::Person(row.person))?.wallet(row.wallet);
        let missing = total.sub(wallet.granted(life, to))?;
        if !missing.is_positive() {
            return Ok(true);
        }
        match wallet.grant(life, to, missing) {
            Ok(granted) => self.write_grant(turn, to, row, granted, missing).map(|()| true),
            Err(WalletError::NotAvailable { .. } | WalletError::NotPositive(_) | WalletError::TooMany) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    /// Writes the grant entry with the hub's signed word on it, and posts it.
    pub(super) fn write_grant<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        to: Writer,
        row: Row,
        total: Fen,
        amount: Fen,
    ) -> Result<(), CoreError> {
        let owner = if row.person == PersonId(0) { Owner::Pool(to) } else { Owner::Person(row.person) };
        let hub_time_ms = turn.stamp.hub_time_ms;
        let wallet = self.open(turn, owner)?.wallet(row.wallet);
        let last_day = wallet.last_day;
        let replica = wallet.replica(to);
        let (remaining, taken_in) = (replica.right()?, Fen::sum(replica.taken_in.values().copied())?);
        let signature = feed::sign("statement", &(to, row, remaining, taken_in, hub_time_ms), &self.key);
        let basis = Statement { replica: to, row, remaining, taken_in, hub_time_ms, signature };
        let basis = matches!(owner, Owner::Person(_)).then(|| Box::new(basis));
        let grant = GrantRecord { row, total, last_day, basis, lease: None };
        let seq = self.append(turn, Channel::Rights(to), Body::Grant(grant))?;
        if crate::rights::is_money(row.wallet) {
            let source = feed::digest("yika grant 1", &yika_crdt::wire::encode(&(self.mesh.me, to, seq)));
            let mut posting = Posting::new(source, self.today(turn));
            let right = Account::Right(row.person, row.wallet, to);
            posting.transfer(Kind::Grant, owner.holder(row.wallet), right, amount);
            turn.post(posting)?;
        }
        Ok(())
    }

    /// Brings the boxes of the home campus up to their share, and asks back what exceeds twice a share.
    pub(super) fn level<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        person: PersonId,
    ) -> Result<(), CoreError> {
        if self.recovery.is_some() {
            return Ok(());
        }
        let home = self.sharing_boxes(turn, person)?;
        self.make_counters(turn, person)?;
        let today = self.today(turn);
        let wallets = self.open(turn, Owner::Person(person))?;
        let wished = wallets.wished(today, home.len());
        let life = self.mesh.me.incarnation;
        let mut grants = Vec::new();
        let mut recalls = Vec::new();
        for (key, wallet) in &mut wallets.wallets {
            if wallet.last_day.is_some_and(|last| last < today) {
                continue;
            }
            // A counter is shared out whole: it is of no use at the hub.
            let wished = if matches!(key, WalletKey::Limit(..)) { wallet.deposits } else { wished };
            let plan = wallet.plan(&home, wished, |w| self.is_alive(w))?;
            let row = Row { person, wallet: *key };
            for (to, amount) in plan.grants {
                match wallet.grant(life, to, amount) {
                    Ok(total) => grants.push((to, row, total, amount)),
                    Err(WalletError::TooMany) => {}
                    Err(other) => return Err(other.into()),
                }
            }
            recalls.extend(plan.recalls.into_iter().map(|(to, keep)| (to, row, keep)));
        }
        for (to, row, total, amount) in grants {
            self.write_grant(turn, to, row, total, amount)?;
        }
        for (to, row, keep) in recalls {
            turn.effects.push(Effect::Say(to, Message::Recall { row, keep }));
        }
        Ok(())
    }

    /// The counters of a strict limit for the days that a box may have to do without the hub.
    fn make_counters<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        person: PersonId,
    ) -> Result<(), CoreError> {
        let Some(category) = self.mesh.people.read().holder(person).map(|h| h.category) else { return Ok(()) };
        let Some(sheet) = self.mesh.tariff() else { return Ok(()) };
        let today = self.today(turn);
        let wallets = self.open(turn, Owner::Person(person))?;
        wallets.wallets.retain(
            |key, _| !matches!(key, WalletKey::Limit(_, day) if day.0 < today.0.saturating_sub(LIMIT_DAYS_KEPT)),
        );
        for ahead in 0..=LIMIT_DAYS_AHEAD {
            let day = Day(today.0.saturating_add(ahead));
            let Some((key, cap)) = tariff::strict_counter(&sheet, category, day) else { return Ok(()) };
            let wallet = wallets.wallet(key);
            wallet.deposits = wallet.deposits.max(cap);
            wallet.last_day = Some(day);
        }
        Ok(())
    }

    /// Whether a row may be asked for: money that was ever paid in, a counter only of the holder's own strict limit.
    fn is_there<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>, row: Row) -> Result<bool, CoreError> {
        match row.wallet {
            WalletKey::Main | WalletKey::Subsidy(_) => {}
            WalletKey::Limit(..) => self.make_counters(turn, row.person)?,
            WalletKey::MealCount(_) | WalletKey::Guest | WalletKey::Float(_) => return Ok(false),
        }
        Ok(self.open(turn, Owner::Person(row.person))?.wallets.contains_key(&row.wallet))
    }
}

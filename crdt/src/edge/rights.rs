//! Rights between boxes: cheques written and taken, returns to the hub, levelling with a sibling (design section 4).
//!
//! Leaves to others: arithmetic (`rights`), rows (`sale`), who is asked and when (the shell), the hub's side.

use super::{Edge, Effect};
use crate::channel::{Channel, FeedId};
use crate::entry::*;
use crate::feed;
use crate::fen::Fen;
use crate::ids::*;
use crate::mesh::Event;
use crate::proof;
use crate::rights::RightsError;
use crate::sale::{self, Answer, Now, Outcome, SaleError};
use crate::store::{Read, Tx};
use ed25519_dalek::VerifyingKey;

/// A row below this part of what the hub last vouched for is low: siblings are asked to level.
const LOW_PART: i64 = 3;

impl Edge {
    /// Writes a cheque to another box out of what the hub granted this one, as far as it goes. True if the total this
    /// box has given it is now at least `total`.
    pub(super) fn cheque<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        to: Writer,
        wanted: Row,
        total: Fen,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<bool, SaleError> {
        if !self.may_pass_to(to, wanted, now) {
            return Ok(false);
        }
        let given = self.given(tx, to, wanted)?;
        if given >= total {
            return Ok(true);
        }
        Ok(given.add(self.pass_on(tx, to, wanted, total.sub(given)?, now, events)?)? >= total)
    }

    /// Passes half of what a sibling holds less on to it, so that both can go on selling.
    pub(super) fn level<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        to: Writer,
        of: Row,
        theirs: Fen,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<bool, SaleError> {
        let sibling = self.mesh.place_of(to).is_some_and(|place| place.campus == self.mesh.place.campus);
        if !sibling || theirs.is_negative() || !self.may_pass_to(to, of, now) {
            return Ok(false);
        }
        let rights = sale::rights_of(tx, of)?;
        let Some(row) = rights.rows.get(&of.wallet) else { return Ok(false) };
        let half = Fen(row.right()?.sub(theirs)?.0 / 2);
        proof::hit("levelled_with_a_sibling");
        Ok(half.is_positive() && self.pass_on(tx, to, of, half, now, events)?.is_positive())
    }

    fn may_pass_to(&self, to: Writer, row: Row, now: &Now) -> bool {
        let known = self.mesh.nodes.contains_key(&to) && !self.mesh.is_fenced(to) && to != self.mesh.me;
        known && !to.node.is_hub() && row.person != PersonId(0) && sale::has_lease(&self.mesh, now)
    }

    fn given<R: Read + ?Sized>(&self, tx: &Tx<'_, R>, to: Writer, of: Row) -> Result<Fen, SaleError> {
        let rights = sale::rights_of(tx, of)?;
        Ok(rights.rows.get(&of.wallet).and_then(|row| row.granted_out.get(&to).copied()).unwrap_or_default())
    }

    /// Writes the cheque; returns how much it is.
    fn pass_on<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        to: Writer,
        of: Row,
        wanted: Fen,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<Fen, SaleError> {
        let mut rights = sale::rights_of(tx, of)?;
        let Some(row) = rights.rows.get_mut(&of.wallet) else { return Ok(Fen::ZERO) };
        let amount = wanted.min(row.may_pass_on()?);
        if !amount.is_positive() {
            return Ok(Fen::ZERO);
        }
        let total = match row.grant(to, amount) {
            Err(RightsError::TooMany(_)) => return Ok(Fen::ZERO), // no further receiver of this row
            granted => granted?,
        };
        let (last_day, basis, lease) = (row.last_day, row.statement.clone(), self.mesh.lease);
        if !proof::sown("giver_keeps_it") {
            sale::put_rights(tx, of, &rights);
        }
        let grant = Body::Grant(GrantRecord { row: of, total, last_day, basis, lease });
        self.mesh.append(tx, Channel::Rights(to), &Entry { stamp: now.stamp, body: grant }, events)?;
        Ok(amount)
    }

    /// Returns to the hub what exceeds `keep`.
    pub(super) fn give_up<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        of: Row,
        keep: Fen,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<bool, SaleError> {
        // To the life that asks: headquarters that was put back may not know of one that this box has met since.
        let asking =
            self.hub_line.as_ref().map(|line| line.life).filter(|_| !proof::sown("returned_to_a_forgotten_life"));
        let Some(hub) = asking.or_else(|| self.mesh.current(NodeId::HUB)) else {
            return Ok(false);
        };
        let mut rights = sale::rights_of(tx, of)?;
        let Some(row) = rights.rows.get_mut(&of.wallet) else { return Ok(false) };
        let excess = row.right()?.sub(keep.max(Fen::ZERO))?;
        if !excess.is_positive() {
            return Ok(false);
        }
        proof::hit("returned_to_headquarters");
        let total = row.grant(hub, excess)?;
        let last_day = row.last_day;
        if !proof::sown("returned_and_kept") {
            sale::put_rights(tx, of, &rights);
        }
        let grant = Body::Grant(GrantRecord { row: of, total, last_day, basis: None, lease: None });
        self.mesh.append(tx, Channel::Rights(hub), &Entry { stamp: now.stamp, body: grant }, events)?;
        Ok(true)
    }

    /// Merges what the hub granted. What cannot be kept (too many wallets) is an alarm and no right.
    pub(super) fn take_hub_grant<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        feed: FeedId,
        grant: &GrantRecord,
        now: &Now,
        later: &mut Vec<Event>,
    ) -> Result<(), SaleError> {
        let today = sale::clock_day(&self.mesh, now);
        match sale::take_grant(tx, feed.writer, grant, today) {
            Err(SaleError::Rights(cause)) => {
                let detail = format!("a grant to {} {:?}: {cause}", grant.row.person, grant.row.wallet);
                self.alarm(tx, "rights", detail, now, later)
            }
            other => other,
        }
    }

    /// A cheque becomes this box's only by a `taken` entry; at most the hub's signed word of what the giver had.
    pub(super) fn take_cheque<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        feed: FeedId,
        seq: Seq,
        grant: &GrantRecord,
        now: &Now,
        later: &mut Vec<Event>,
    ) -> Result<(), SaleError> {
        let giver = feed.writer;
        let statement = match self.vouched(giver, grant) {
            Ok(statement) => statement,
            Err(cause) => {
                return self.alarm(tx, "cheque", format!("cheque at {feed} {seq} is not taken: {cause}"), now, later);
            }
        };
        let lapsed = grant.lease.is_none_or(|lease| now.stamp.hub_time_ms > lease.until_ms);
        if lapsed || !sale::has_lease(&self.mesh, now) {
            proof::hit("cheque_lapsed");
            // Untaken; a later cheque of the giver carries its total too.
            return Ok(());
        }
        let mut rights = sale::rights_of(tx, grant.row)?;
        let Ok(row) = rights.row(grant.row.wallet) else {
            return self.alarm(tx, "rights", format!("cheque at {feed} {seq}: too many wallets"), now, later);
        };
        let Ok(covered) = row.coverable(giver, statement) else {
            return self.alarm(tx, "rights", format!("cheque at {feed} {seq}: too many givers"), now, later);
        };
        let total = if proof::sown("cheque_beyond_the_word") { grant.total } else { grant.total.min(covered) };
        if !row.merge_granted_in(giver, total)? {
            return Ok(());
        }
        let taken = Body::Taken(TakenRecord { feed, seq, row: grant.row, total });
        // Without a word that it is taken it lapses to its giver, and must not be taken here.
        if !proof::sown("cheque_without_taken")
            && !self.append_or_hold(tx, Entry { stamp: now.stamp, body: taken }, later)?
        {
            return Ok(());
        }
        proof::hit("cheque_taken");
        row.last_day = row.last_day.max(grant.last_day);
        sale::put_rights(tx, grant.row, &rights);
        later.push(Event::Rights(grant.row.person));
        Ok(())
    }

    /// The hub's word on a cheque, if it has one, or why it is worth nothing.
    fn vouched<'g>(&self, giver: Writer, grant: &'g GrantRecord) -> Result<&'g Statement, &'static str> {
        let statement = grant.basis.as_deref().ok_or("it carries no word of the hub")?;
        if self.mesh.is_fenced(giver) {
            return Err("its writer is fenced");
        }
        if self.mesh.forked.contains(&giver) {
            return Err("its writer has forked a feed");
        }
        if statement.replica != giver || statement.row != grant.row || grant.row.person == PersonId(0) {
            return Err("the hub's word is about something else");
        }
        let word =
            |key: &VerifyingKey| feed::verify("statement", &statement.signed(), &statement.signature, key).is_ok();
        let lease = |key: &VerifyingKey| {
            grant.lease.is_none_or(|lease| {
                let own = lease.incarnation == giver.incarnation;
                own && feed::verify("lease", &lease.signed(giver.node), &lease.signature, key).is_ok()
            })
        };
        if !self.is_by_hub(word) && !proof::sown("word_of_a_liar_believed") {
            return Err("the word on it is not the hub's");
        }
        if !self.is_by_hub(lease) {
            return Err("the lease on it is not the hub's");
        }
        Ok(statement)
    }

    /// Whether some life of the hub signed something.
    fn is_by_hub(&self, verified: impl Fn(&VerifyingKey) -> bool) -> bool {
        self.mesh.nodes.iter().any(|(writer, node)| writer.node.is_hub() && verified(&node.key))
    }
}

/// The rows that a sale has left low, for the shell to level with a sibling while the hub is away.
pub(super) fn tell_low_rows<R: Read + ?Sized>(
    tx: &Tx<'_, R>,
    outcome: &Outcome,
    effects: &mut Vec<Effect>,
) -> Result<(), SaleError> {
    let Outcome::Answered(Answer::Approved(sale)) = outcome else { return Ok(()) };
    for (source, _) in &sale.paid {
        let Source::Wallet(wallet) = source else { continue };
        let row = Row { person: sale.person, wallet: *wallet };
        let rights = sale::rights_of(tx, row)?;
        let Some(state) = rights.rows.get(wallet) else { continue };
        let right = state.right()?;
        if state.statement.as_ref().is_some_and(|s| right.0 < s.remaining.0 / LOW_PART) {
            // Less than nothing, as after a restore, is nothing to a sibling: it takes no such word.
            effects.push(Effect::Low { row, right: right.max(Fen::ZERO) });
        }
    }
    Ok(())
}

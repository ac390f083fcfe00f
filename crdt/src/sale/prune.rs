//! Pruning: entries leave the box when they are archived at the hub and old; their answers shrink to a mark.
//!
//! What an entry moved stays in rows (rights, counters, limits), which the hub's tally has confirmed; of its id only "not
//! after this one" stays, per terminal and boot, for ever. Leaves to others: what is archived (the hub's receipt),
//! deleting (`store`).

use super::{Mark, SaleError, rights_of};
use crate::answered::Answered;
use crate::channel::{Channel, FeedId};
use crate::entry::*;
use crate::ids::*;
use crate::keys;
use crate::mesh::Mesh;
use crate::store::{Read, StoreError, Tx, decode_row};
use crate::tally::{self, Tally, Totals};
use serde::{Deserialize, Serialize};

/// Days a journal stays at the edge after its day was cut, archived or not.
pub const KEEP_DAYS: i32 = 35;
/// Most entries let go in one turn; the rest waits for the next.
pub const PRUNE_ENTRIES_MAX: u64 = 2_000;
/// Cuts looked at in one turn.
const CUTS_MAX: usize = 64;

/// Where a journal cut a day.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Cut {
    day: Day,
    seq: Seq,
    /// Of this box's own journal: what it came to.
    tally: Option<Tally>,
}

/// Remembers where a journal cut its day, and what this box's own came to.
pub(super) fn note_cut<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    writer: Writer,
    day: Day,
    seq: Seq,
) -> Result<(), SaleError> {
    let mut tally = None;
    if writer == mesh.me {
        let last: Option<(Incarnation, Tally)> = tx.get(keys::LAST_TALLY)?;
        let before = last.filter(|(life, _)| *life == writer.incarnation).map(|(_, tally)| tally).unwrap_or_default();
        let next = before.after(seq, &totals_moved(mesh, tx, before.seq, seq)?);
        tx.put(keys::LAST_TALLY.to_vec(), &(writer.incarnation, next));
        tally = Some(next);
    }
    tx.put(keys::cut(writer, day), &Cut { day, seq, tally });
    Ok(())
}

/// Totals of the rows that this box's journal has moved between two cuts, as they are kept.
fn totals_moved<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &Tx<'_, R>,
    after: Seq,
    before: Seq,
) -> Result<Vec<Totals>, StoreError> {
    let journal = FeedId { writer: mesh.me, channel: Channel::Journal };
    let rows = tally::moved(tx, &journal, after, before)?;
    let totals = rows.into_iter().map(|row| {
        let rights = rights_of(tx, row)?;
        let kept = rights.rows.get(&row.wallet).map(|state| (state.used, state.returned)).unwrap_or_default();
        Ok((row, kept.0, kept.1))
    });
    totals.collect()
}

/// Lets go of what may go of this box's own journal: days cut [`KEEP_DAYS`] ago, archived, and with totals that the hub
/// confirms. Of siblings' journals, which are copies, what is twice as old. Gives the day whose totals differ at the hub:
/// nothing is let go then.
pub fn prune<R: Read + ?Sized>(mesh: &Mesh, tx: &mut Tx<'_, R>, today: Day) -> Result<Option<Day>, SaleError> {
    for (feed, held) in tx.feeds()?.into_iter().filter(|(feed, _)| feed.channel == Channel::Journal) {
        let own = feed.writer == mesh.me;
        let days = if own { KEEP_DAYS } else { 2 * KEEP_DAYS };
        let Some(cut) = last_cut_before(tx, feed.writer, Day(today.0.saturating_sub(days)))? else { continue };
        let mut upto = cut.seq;
        if own {
            let confirmed: Option<Tally> = tx.get(&keys::tally(mesh.me.incarnation, cut.day))?;
            match confirmed {
                Some(_) if confirmed == cut.tally => {}
                Some(_) => return Ok(Some(cut.day)),
                None => continue,
            }
            let receipt = tx.get::<ReceiptRecord>(&keys::receipt(mesh.me.incarnation))?;
            upto = upto.min(receipt.map(|r| r.archived).unwrap_or_default());
        }
        let upto = upto.min(Seq(held.pruned.0.saturating_add(PRUNE_ENTRIES_MAX)));
        if upto > held.pruned {
            for seq in (held.pruned.0 + 1..=upto.0).map(Seq) {
                forget_answer(tx, feed, seq)?;
            }
            tx.prune(feed, upto);
        }
    }
    Ok(None)
}

/// Where a journal has cut its last day; zero before its first cut.
pub fn last_cut<R: Read + ?Sized>(store: &R, writer: Writer) -> Result<Seq, StoreError> {
    let cuts = store.scan(&keys::cuts(writer), None, usize::MAX)?;
    let last = cuts.last().map(|(key, value)| decode_row::<Cut>(key, value)).transpose()?;
    Ok(last.map_or(Seq::ZERO, |cut| cut.seq))
}

/// The last cut of a day on or before `day`; older ones are dropped from the list.
fn last_cut_before<R: Read + ?Sized>(tx: &mut Tx<'_, R>, writer: Writer, day: Day) -> Result<Option<Cut>, StoreError> {
    let mut found: Option<(Vec<u8>, Cut)> = None;
    for (key, value) in tx.scan(&keys::cuts(writer), None, CUTS_MAX)? {
        let cut: Cut = decode_row(&key, &value)?;
        if cut.day > day {
            break;
        }
        if let Some((older, cut)) = found.replace((key, cut)) {
            tx.delete(older);
            if cut.tally.is_some() {
                tx.delete(keys::tally(writer.incarnation, cut.day));
            }
        }
    }
    Ok(found.map(|(_, cut)| cut))
}

/// The answer of an entry goes; its id is remembered as too old.
fn forget_answer<R: Read + ?Sized>(tx: &mut Tx<'_, R>, feed: FeedId, seq: Seq) -> Result<(), StoreError> {
    let Some(entry) = tx.entry(&feed, seq)?.and_then(|bytes| Entry::decode(&bytes).ok()) else {
        return Ok(());
    };
    let Some(id) = entry.body.answers() else { return Ok(()) };
    if tx.get::<Mark>(&keys::mark(id))?.is_some_and(|mark| mark.feed == feed && mark.seq == seq) {
        tx.delete(keys::mark(id));
    }
    tx.delete(keys::refunds(id));
    let key = keys::terminal_mark(id.terminal, id.boot);
    let mut answered: Answered = tx.get(&key)?.unwrap_or_default();
    answered.add_through(id.seq);
    tx.put(key, &answered);
    Ok(())
}

/// Whether an id is so old that its answer may have been let go, or was answered by a box that is no more.
pub(super) fn is_too_old<R: Read + ?Sized>(tx: &Tx<'_, R>, id: PurchaseId) -> Result<bool, StoreError> {
    let answered: Option<Answered> = tx.get(&keys::terminal_mark(id.terminal, id.boot))?;
    Ok(answered.is_some_and(|answered| answered.contains(id.seq)))
}

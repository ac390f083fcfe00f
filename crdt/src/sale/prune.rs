//! Pruning: entries leave the box when they are archived at the hub and old; their answers shrink to a mark.
//!
//! What an entry moved stays in rows (rights, counters, limits), which the hub's tally has confirmed; of its id only "not
//! after this one" stays, per terminal and boot, for ever. Leaves to others: what is archived (the hub's receipt),
//! deleting (`store`).

use super::{Mark, SaleError, rights_of};
use crate::answered::Answered;
use crate::channel::{Channel, FeedId};
use crate::entry::*;
use crate::fen::Fen;
use crate::ids::*;
use crate::keys;
use crate::mesh::Mesh;
use crate::proof;
use crate::store::{Read, StoreError, Tx, decode_row};
use crate::tally::{self, Tally, TotalsSum};
use serde::{Deserialize, Serialize};

/// Days a journal stays at the edge after its day was cut, archived or not.
pub const KEEP_DAYS: i32 = 35;
/// Most entries let go in one turn; the rest waits for the next.
pub const PRUNE_ENTRIES_MAX: u64 = 2_000;
/// Entries of this box's own journal after which its tally is brought on between two cuts, so that no cut has the whole
/// day to add up in its turn.
pub const TALLY_ENTRIES_MAX: u64 = 1_000;
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
    let tally = if writer == mesh.me { Some(own_totals(mesh, tx, seq)?.at(seq)) } else { None };
    tx.put(keys::cut(writer, day), &Cut { day, seq, tally });
    Ok(())
}

/// Brings the sum of this box's totals on once its journal has grown by [`TALLY_ENTRIES_MAX`].
pub(crate) fn bring_totals_on<R: Read + ?Sized>(mesh: &Mesh, tx: &mut Tx<'_, R>) -> Result<(), StoreError> {
    let end = tx.feed(&FeedId { writer: mesh.me, channel: Channel::Journal })?.end.seq;
    if end.0 >= last_totals(mesh, tx)?.0.0.saturating_add(TALLY_ENTRIES_MAX) {
        own_totals(mesh, tx, end)?;
    }
    Ok(())
}

/// Where the totals were last added up, and what they came to.
fn last_totals<R: Read + ?Sized>(mesh: &Mesh, tx: &Tx<'_, R>) -> Result<(Seq, TotalsSum), StoreError> {
    let last: Option<(Incarnation, Seq, TotalsSum)> = tx.get(keys::LAST_TALLY)?;
    let of_this_life = last.filter(|last| last.0 == mesh.me.incarnation);
    Ok(of_this_life.map(|(_, seq, sum)| (seq, sum)).unwrap_or_default())
}

/// What this box's totals come to at the end of its journal. Of each row that the journal has moved since the last time,
/// what its entries did is taken off the totals as they are kept: what comes out must have been counted then.
fn own_totals<R: Read + ?Sized>(mesh: &Mesh, tx: &mut Tx<'_, R>, seq: Seq) -> Result<TotalsSum, StoreError> {
    let journal = FeedId { writer: mesh.me, channel: Channel::Journal };
    let (last, mut sum) = last_totals(mesh, tx)?;
    for (row, moved) in tally::moved(tx, &journal, last, seq.next())? {
        let kept = rights_of(tx, row)?.rows.get(&row.wallet).map(|state| (state.used, state.returned));
        let after = kept.unwrap_or_default();
        let less = |total: Fen, moved: Fen| Fen(total.0.saturating_sub(moved.0));
        sum.change(row, (less(after.0, moved.0), less(after.1, moved.1)), after);
    }
    tx.put(keys::LAST_TALLY.to_vec(), &(mesh.me.incarnation, seq, sum));
    Ok(sum)
}

/// Lets go of what may go of this box's own journal: days cut [`KEEP_DAYS`] ago, archived, and with totals that the hub
/// confirms. Of siblings' journals, which are copies, what is twice as old. Gives the day whose totals differ at the hub:
/// nothing of the own journal is let go then.
pub fn prune<R: Read + ?Sized>(mesh: &Mesh, tx: &mut Tx<'_, R>, today: Day) -> Result<Option<Day>, SaleError> {
    let mut differing = None;
    for (feed, held) in tx.feeds()?.into_iter().filter(|(feed, _)| feed.channel == Channel::Journal) {
        let own = feed.writer == mesh.me;
        let days = if own { KEEP_DAYS } else { 2 * KEEP_DAYS };
        let Some(cut) = last_cut_before(tx, feed.writer, Day(today.0.saturating_sub(days)))? else { continue };
        let mut upto = cut.seq;
        if own {
            let confirmed: Option<Tally> = tx.get(&keys::tally(mesh.me.incarnation, cut.day))?;
            match confirmed {
                Some(_) if confirmed == cut.tally => {}
                Some(_) => {
                    differing = Some(cut.day);
                    continue;
                }
                None => continue,
            }
            let receipt = tx.get::<ReceiptRecord>(&keys::receipt(mesh.me.incarnation))?;
            let archived = |r: ReceiptRecord| if proof::sown("pruned_under_held") { r.held } else { r.archived };
            upto = upto.min(receipt.map(archived).unwrap_or_default());
        }
        let upto = upto.min(Seq(held.pruned.0.saturating_add(PRUNE_ENTRIES_MAX)));
        if upto > held.pruned {
            proof::hit("journal_pruned");
            for seq in (held.pruned.0 + 1..=upto.0).map(Seq) {
                forget_answer(tx, feed, seq)?;
            }
            tx.prune(feed, upto);
        }
    }
    Ok(differing)
}

/// Where a journal has cut its last day; zero before its first cut.
pub fn last_cut<R: Read + ?Sized>(store: &R, writer: Writer) -> Result<Seq, StoreError> {
    let cuts = store.scan(&keys::cuts(writer), None, usize::MAX)?;
    let last = cuts.last().map(|(key, value)| decode_row::<Cut>(key, value)).transpose()?;
    Ok(last.map_or(Seq::ZERO, |cut| cut.seq))
}

/// The days that a journal has cut, as far as they are kept, and where.
pub(super) fn cuts_of<R: Read + ?Sized>(tx: &Tx<'_, R>, writer: Writer) -> Result<Vec<(Day, Seq)>, StoreError> {
    let rows = tx.scan(&keys::cuts(writer), None, usize::MAX)?;
    rows.iter().map(|(key, row)| decode_row::<Cut>(key, row).map(|cut| (cut.day, cut.seq))).collect()
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
    answered.add(id.seq);
    if !proof::sown("forgotten_with_its_entry") {
        tx.put(key, &answered);
    }
    Ok(())
}

/// Whether an id is so old that its answer may have been let go, or was answered by a box that is no more.
pub(crate) fn is_too_old<R: Read + ?Sized>(tx: &Tx<'_, R>, id: PurchaseId) -> Result<bool, StoreError> {
    let answered: Option<Answered> = tx.get(&keys::terminal_mark(id.terminal, id.boot))?;
    Ok(answered.is_some_and(|answered| answered.contains(id.seq)))
}

//! Pruning: entries leave the box when they are archived at the hub and old; their answers shrink to a mark.
//!
//! What an entry moved stays in rows (rights, counters, limits); of its id only "not after this one" stays, per
//! terminal and boot, for ever. Leaves to others: what is archived (the hub's receipt), deleting (`store`).

use super::{Mark, SaleError};
use crate::channel::{Channel, FeedId};
use crate::entry::*;
use crate::ids::*;
use crate::keys;
use crate::mesh::Mesh;
use crate::store::{Read, StoreError, Tx, decode_row};

/// Days a journal stays at the edge after its day was cut, archived or not.
pub const KEEP_DAYS: i32 = 35;
/// Most entries let go in one turn; the rest waits for the next.
pub const PRUNE_ENTRIES_MAX: u64 = 2_000;
/// Cuts looked at in one turn.
const CUTS_MAX: usize = 64;

/// Remembers where a journal cut its day.
pub(super) fn note_cut<R: Read + ?Sized>(tx: &mut Tx<'_, R>, writer: Writer, day: Day, seq: Seq) {
    tx.put(keys::cut(writer, day), &(day, seq));
}

/// Lets go of what may go of this box's own journal: days cut [`KEEP_DAYS`] ago, and archived. Of siblings' journals,
/// which are copies, what is twice as old. True if there was something.
pub fn prune<R: Read + ?Sized>(mesh: &Mesh, tx: &mut Tx<'_, R>, today: Day) -> Result<bool, SaleError> {
    let mut pruned = false;
    for (feed, held) in tx.feeds()?.into_iter().filter(|(feed, _)| feed.channel == Channel::Journal) {
        let own = feed.writer == mesh.me;
        let days = if own { KEEP_DAYS } else { 2 * KEEP_DAYS };
        let mut upto = last_cut_before(tx, feed.writer, Day(today.0.saturating_sub(days)))?;
        if own {
            let receipt = tx.get::<ReceiptRecord>(&keys::receipt(mesh.me.incarnation))?;
            upto = upto.min(receipt.map(|r| r.archived).unwrap_or_default());
        }
        let upto = upto.min(Seq(held.pruned.0.saturating_add(PRUNE_ENTRIES_MAX)));
        if upto > held.pruned {
            for seq in (held.pruned.0 + 1..=upto.0).map(Seq) {
                forget_answer(tx, feed, seq)?;
            }
            tx.prune(feed, upto);
            pruned = true;
        }
    }
    Ok(pruned)
}

/// The last position whose day was cut on or before `day`; older cuts are dropped from the list.
fn last_cut_before<R: Read + ?Sized>(tx: &mut Tx<'_, R>, writer: Writer, day: Day) -> Result<Seq, StoreError> {
    let mut found: Option<(Vec<u8>, Seq)> = None;
    for (key, value) in tx.scan(&keys::cuts(writer), None, CUTS_MAX)? {
        let (of, seq): (Day, Seq) = decode_row(&key, &value)?;
        if of > day {
            break;
        }
        if let Some((older, _)) = found.replace((key, seq)) {
            tx.delete(older);
        }
    }
    Ok(found.map(|(_, seq)| seq).unwrap_or_default())
}

/// The answer of an entry goes; its id is remembered as too old.
fn forget_answer<R: Read + ?Sized>(tx: &mut Tx<'_, R>, feed: FeedId, seq: Seq) -> Result<(), StoreError> {
    let Some(entry) = tx.entry(&feed, seq)?.and_then(|bytes| Entry::decode(&bytes).ok()) else {
        return Ok(());
    };
    let id = match entry.body {
        Body::Purchase(sale) => sale.id,
        Body::Refused(refused) => refused.id,
        Body::Refund(refund) => refund.id,
        Body::NotRefunded(refused) => refused.id,
        Body::Void(id) => id,
        _ => return Ok(()),
    };
    if tx.get::<Mark>(&keys::mark(id))?.is_some_and(|mark| mark.feed == feed && mark.seq == seq) {
        tx.delete(keys::mark(id));
    }
    tx.delete(keys::refunds(id));
    let key = keys::terminal_mark(id.terminal, id.boot);
    let held: u32 = tx.get(&key)?.unwrap_or_default();
    if id.seq > held {
        tx.put(key, &id.seq);
    }
    Ok(())
}

/// Whether an id is so old that its answer may have been let go.
pub(super) fn is_too_old<R: Read + ?Sized>(tx: &Tx<'_, R>, id: PurchaseId) -> Result<bool, StoreError> {
    let mark: u32 = tx.get(&keys::terminal_mark(id.terminal, id.boot))?.unwrap_or_default();
    Ok(id.seq <= mark)
}

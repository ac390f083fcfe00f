//! Doing again what an entry of this box's own journal did when it was written.
//!
//! Leaves to others: when entries are taken back (`takeback`).

use super::{GivenBack, Mark, SaleError, apply_journal, asked, mark, put_rights, rights_of};
use crate::channel::FeedId;
use crate::entry::*;
use crate::ids::*;
use crate::keys;
use crate::mesh::Mesh;
use crate::store::{Read, Tx};

/// Counters, rights, the open day. Its charge was right when it was made, so it is not judged again; the grants
/// it stood on may arrive after it.
pub(crate) fn redo_journal<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    feed: FeedId,
    seq: Seq,
    entry: &Entry,
) -> Result<(), SaleError> {
    let day = match &entry.body {
        Body::Purchase(sale) => Some(sale.day),
        Body::Refused(refused) => Some(refused.day),
        Body::Refund(refund) => {
            let mut given: GivenBack = tx.get(&keys::refunds(refund.of))?.unwrap_or_default();
            given.add(&refund.back)?;
            tx.put(keys::refunds(refund.of), &given);
            Some(refund.day)
        }
        Body::NotRefunded(refused) => Some(refused.day),
        Body::Taken(taken) => {
            let mut rights = rights_of(tx, taken.row)?;
            rights.row(taken.row.wallet)?.merge_granted_in(taken.feed.writer, taken.total)?;
            put_rights(tx, taken.row, &rights);
            None
        }
        Body::Cut(day) => Some(Day(day.0.saturating_add(1))),
        _ => None,
    };
    let open = tx.get::<Day>(keys::OPEN_DAY)?;
    if let Some(day) = day.filter(|day| open.is_none_or(|open| *day > open)) {
        tx.put(keys::OPEN_DAY.to_vec(), &day);
    }
    apply_journal(mesh, tx, feed, seq, entry)
}

/// Where the answer to the id of an entry of this box's own stands.
pub(crate) fn mark_again<R: Read + ?Sized>(tx: &mut Tx<'_, R>, feed: FeedId, seq: Seq, answer: &Body) {
    if let Some((id, body)) = asked(answer) {
        mark(tx, id, Mark { feed, seq, body });
    }
}

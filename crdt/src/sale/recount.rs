//! What siblings sold on a day before this box opened it: it was off or new, and their journals came before its own cut.
//!
//! Leaves to others: what is counted as it comes (`rows`), when a day opens (`sale`).

use super::rows::{Written, count, uncount};
use super::{GivenBack, SaleError, share_back};
use crate::channel::{Channel, FeedId};
use crate::entry::*;
use crate::ids::*;
use crate::mesh::Mesh;
use crate::proof;
use crate::store::{Read, StoreError, Tx};
use std::collections::BTreeMap;

/// Newest entries of one sibling's journal that are looked at: far more than a day has.
const RECOUNTED_ENTRIES_MAX: u64 = 50_000;
/// Bytes of entries read at once.
const PAGE_BYTES: usize = 256 << 10;

/// Counts what siblings' journals say of the day that has just opened, where it could not be counted as it came.
pub(super) fn count_siblings<R: Read + ?Sized>(mesh: &Mesh, tx: &mut Tx<'_, R>, open: Day) -> Result<(), SaleError> {
    let journals: Vec<FeedId> = tx.feeds()?.into_iter().map(|(feed, _)| feed).collect();
    for feed in journals.into_iter().filter(|feed| feed.channel == Channel::Journal && feed.writer != mesh.me) {
        let held = tx.feed(&feed)?;
        let earliest = held.pruned.0.max(held.end.seq.0.saturating_sub(RECOUNTED_ENTRIES_MAX));
        let from = last_cut_before(tx, feed.writer, open)?.0.max(earliest);
        count_from(mesh, tx, feed, Seq(from).next())?;
    }
    Ok(())
}

/// Where a journal has cut the last day before one.
fn last_cut_before<R: Read + ?Sized>(tx: &Tx<'_, R>, writer: Writer, day: Day) -> Result<Seq, StoreError> {
    let mut last = Seq::ZERO;
    for (cut, seq) in super::prune::cuts_of(tx, writer)? {
        if cut < day {
            last = last.max(seq);
        }
    }
    Ok(last)
}

fn count_from<R: Read + ?Sized>(mesh: &Mesh, tx: &mut Tx<'_, R>, feed: FeedId, from: Seq) -> Result<(), SaleError> {
    let mut sold: BTreeMap<PurchaseId, (Box<PurchaseRecord>, i64, GivenBack)> = BTreeMap::new();
    let mut at = from;
    loop {
        let page = tx.entries(&feed, at, PAGE_BYTES)?;
        if page.is_empty() {
            return Ok(());
        }
        for bytes in page {
            at = at.next();
            let Ok(Entry { stamp, body }) = Entry::decode(&bytes) else { continue };
            // What comes to impossible sums was set aside when it came, and counts for nothing here either.
            let counted = match body {
                Body::Purchase(sale) => {
                    proof::hit("sale_of_a_sibling_counted_late");
                    let at_ms = stamp.hub_time_ms;
                    let counted = count(mesh, tx, Written { sale: &sale, at_ms, ours: false });
                    sold.insert(sale.id, (Box::new(sale), at_ms, GivenBack::default()));
                    counted
                }
                Body::Refund(refund) => give_back(mesh, tx, &mut sold, &refund),
                _ => Ok(()),
            };
            if let Err(SaleError::Store(error)) = counted {
                return Err(error.into());
            }
        }
    }
}

fn give_back<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    sold: &mut BTreeMap<PurchaseId, (Box<PurchaseRecord>, i64, GivenBack)>,
    refund: &RefundRecord,
) -> Result<(), SaleError> {
    let Some((sale, at_ms, given)) = sold.get_mut(&refund.of) else { return Ok(()) };
    if !sale.may_be_given(&refund.back) {
        return Ok(());
    }
    let was_whole = share_back(&sale.paid, given, None)?.is_none();
    given.add(&refund.back)?;
    let is_whole = !was_whole && share_back(&sale.paid, given, None)?.is_none();
    uncount(mesh, tx, Written { sale, at_ms: *at_ms, ours: false }, &refund.back, is_whole)
}

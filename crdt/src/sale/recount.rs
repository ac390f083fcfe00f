//! What was sold on a day before this box opened it: it was off or new, and siblings' journals came before its own cut, or
//! its clock was not confirmed.
//!
//! Leaves to others: what is counted as it comes (`rows`), when a day opens (`sale`).

use super::rows::{Written, count, uncount};
use super::{GivenBack, SaleError, share_back};
use crate::channel::{Channel, FeedId};
use crate::entry::*;
use crate::ids::*;
use crate::keys;
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
    for (feed, entries) in journals(tx, open)?.into_iter().filter(|(feed, _)| feed.writer != mesh.me) {
        count_entries(mesh, tx, feed, entries)?;
    }
    Ok(())
}

/// Counts the first day that this box opens anew: until then no clock had confirmed which day it was.
pub(super) fn count_all<R: Read + ?Sized>(mesh: &Mesh, tx: &mut Tx<'_, R>, open: Day) -> Result<(), SaleError> {
    let journals = journals(tx, open)?;
    for entry in journals.iter().flat_map(|(_, entries)| entries) {
        if let Body::Purchase(sale) = &entry.body {
            tx.delete(keys::counters(sale.person));
        }
    }
    journals.into_iter().try_for_each(|(feed, entries)| count_entries(mesh, tx, feed, entries))
}

/// What every journal says of sales of a day, and after it.
fn journals<R: Read + ?Sized>(tx: &Tx<'_, R>, day: Day) -> Result<Vec<(FeedId, Vec<Entry>)>, StoreError> {
    let mut journals = Vec::new();
    for (feed, _) in tx.feeds()?.into_iter().filter(|(feed, _)| feed.channel == Channel::Journal) {
        let held = tx.feed(&feed)?;
        let earliest = held.pruned.0.max(held.end.seq.0.saturating_sub(RECOUNTED_ENTRIES_MAX));
        let from = Seq(last_cut_before(tx, feed.writer, day)?.0.max(earliest)).next();
        journals.push((feed, sales_from(tx, feed, from)?));
    }
    Ok(journals)
}

fn sales_from<R: Read + ?Sized>(tx: &Tx<'_, R>, feed: FeedId, mut at: Seq) -> Result<Vec<Entry>, StoreError> {
    let mut sales = Vec::new();
    loop {
        let page = tx.entries(&feed, at, PAGE_BYTES)?;
        if page.is_empty() {
            return Ok(sales);
        }
        at = Seq(at.0.saturating_add(page.len() as u64));
        let entries = page.iter().filter_map(|bytes| Entry::decode(bytes).ok());
        sales.extend(entries.filter(|entry| matches!(entry.body, Body::Purchase(_) | Body::Refund(_))));
    }
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

fn count_entries<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    feed: FeedId,
    entries: Vec<Entry>,
) -> Result<(), SaleError> {
    let ours = feed.writer == mesh.me;
    let mut sold: BTreeMap<PurchaseId, (Box<PurchaseRecord>, i64, GivenBack)> = BTreeMap::new();
    for Entry { stamp, body } in entries {
        // What comes to impossible sums was set aside when it came, and counts for nothing here either.
        let counted = match body {
            Body::Purchase(sale) => {
                if !ours {
                    proof::hit("sale_of_a_sibling_counted_late");
                }
                let at_ms = stamp.hub_time_ms;
                let counted = count(mesh, tx, Written { sale: &sale, at_ms, ours });
                sold.insert(sale.id, (Box::new(sale), at_ms, GivenBack::default()));
                counted
            }
            Body::Refund(refund) => give_back(mesh, tx, &mut sold, &refund, ours),
            _ => Ok(()),
        };
        if let Err(SaleError::Store(error)) = counted {
            return Err(error.into());
        }
    }
    Ok(())
}

fn give_back<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    sold: &mut BTreeMap<PurchaseId, (Box<PurchaseRecord>, i64, GivenBack)>,
    refund: &RefundRecord,
    ours: bool,
) -> Result<(), SaleError> {
    let Some((sale, at_ms, given)) = sold.get_mut(&refund.of) else { return Ok(()) };
    if !sale.may_be_given(&refund.back) {
        return Ok(());
    }
    let was_whole = share_back(&sale.paid, given, None)?.is_none();
    given.add(&refund.back)?;
    let is_whole = !was_whole && share_back(&sale.paid, given, None)?.is_none();
    uncount(mesh, tx, Written { sale, at_ms: *at_ms, ours }, &refund.back, is_whole)
}

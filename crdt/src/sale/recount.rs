//! What was sold on a day before this box opened it, by the journals: it was off or new, its journal was taken back, or its
//! clock is not confirmed and no day is open yet.
//!
//! Leaves to others: what is counted as it comes (`rows`), when a day opens (`sale`, `gate`).

use super::rows::{Counters, Written, count, uncount};
use super::{GivenBack, SaleError, share_back};
use crate::channel::{Channel, FeedId};
use crate::entry::*;
use crate::fen::Fen;
use crate::ids::*;
use crate::keys;
use crate::mesh::Mesh;
use crate::proof;
use crate::store::{Read, StoreError, Tx};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// Newest entries of one journal that are looked at: far more than a day has.
const RECOUNTED_ENTRIES_MAX: u64 = 50_000;
/// Bytes of entries read at once.
const PAGE_BYTES: usize = 256 << 10;

/// Counts a day, and the one after it, anew: what siblings' journals say of them, and its own.
pub(crate) fn count_day<R: Read + ?Sized>(mesh: &Mesh, tx: &mut Tx<'_, R>, open: Day) -> Result<(), SaleError> {
    let days = open..=Day(open.0.saturating_add(1));
    let mut persons = BTreeSet::new();
    for feed in journals(tx)? {
        let mut walk = Walk::from(mesh, tx, feed, &days)?;
        while let Some(steps) = walk.next(mesh, tx)? {
            persons.extend(steps.iter().map(|step| step.sale.person));
        }
    }
    for person in persons {
        tx.delete(keys::counters(person));
    }
    for feed in journals(tx)? {
        let mut walk = Walk::from(mesh, tx, feed, &days)?;
        while let Some(steps) = walk.next(mesh, tx)? {
            for step in steps {
                // What comes to impossible sums was set aside when it came, and counts for nothing here either.
                if let Err(SaleError::Store(error)) = step.count(mesh, tx) {
                    return Err(error.into());
                }
            }
        }
    }
    Ok(())
}

/// What a person bought on a day by all journals that are held.
pub(super) fn read<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &Tx<'_, R>,
    person: PersonId,
    day: Day,
) -> Result<Counters, StoreError> {
    let mut counters = Counters { day, ..Counters::default() };
    for feed in journals(tx)? {
        let mut walk = Walk::from(mesh, tx, feed, &(day..=day))?;
        while let Some(steps) = walk.next(mesh, tx)? {
            for step in steps.into_iter().filter(|step| step.sale.person == person) {
                let mut after = counters.clone();
                let counted = match &step.back {
                    Some((back, is_whole)) => after.take_off(&step.sale, back, *is_whole),
                    None => after.add(&step.sale, step.at_ms),
                };
                if counted.is_ok() {
                    counters = after;
                }
            }
        }
    }
    Ok(counters)
}

fn journals<R: Read + ?Sized>(tx: &Tx<'_, R>) -> Result<Vec<FeedId>, StoreError> {
    let feeds = tx.feeds()?.into_iter().map(|(feed, _)| feed);
    Ok(feeds.filter(|feed| feed.channel == Channel::Journal).collect())
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

/// A sale, or what was given back of it.
struct Step {
    sale: PurchaseRecord,
    at_ms: i64,
    ours: bool,
    /// What was given back, and whether nothing is left of the sale.
    back: Option<(Vec<(Source, Fen)>, bool)>,
}

impl Step {
    fn count<R: Read + ?Sized>(&self, mesh: &Mesh, tx: &mut Tx<'_, R>) -> Result<(), SaleError> {
        let written = Written { sale: &self.sale, at_ms: self.at_ms, ours: self.ours };
        match &self.back {
            Some((back, is_whole)) => uncount(mesh, tx, written, back, *is_whole),
            None => {
                if !self.ours {
                    proof::hit("sale_of_a_sibling_counted_late");
                }
                count(mesh, tx, written)
            }
        }
    }
}

/// Reads the sales of some days from a journal, a page at a time.
struct Walk {
    feed: FeedId,
    at: Seq,
    days: RangeInclusive<Day>,
    sold: BTreeMap<PurchaseId, (PurchaseRecord, i64, GivenBack)>,
}

impl Walk {
    fn from<R: Read + ?Sized>(
        mesh: &Mesh,
        tx: &Tx<'_, R>,
        feed: FeedId,
        days: &RangeInclusive<Day>,
    ) -> Result<Walk, StoreError> {
        let held = tx.feed(&feed)?;
        let earliest = held.pruned.0.max(held.end.seq.0.saturating_sub(RECOUNTED_ENTRIES_MAX));
        let at = Seq(last_cut_before(tx, feed.writer, *days.start())?.0.max(earliest)).next();
        let is_read = feed.writer == mesh.me || !proof::sown("siblings_not_counted_again");
        let at = if is_read { at } else { held.end.seq.next() };
        Ok(Walk { feed, at, days: days.clone(), sold: BTreeMap::new() })
    }

    /// What a page says; `None` behind the last.
    fn next<R: Read + ?Sized>(&mut self, mesh: &Mesh, tx: &Tx<'_, R>) -> Result<Option<Vec<Step>>, StoreError> {
        let page = tx.entries(&self.feed, self.at, PAGE_BYTES)?;
        if page.is_empty() {
            return Ok(None);
        }
        self.at = Seq(self.at.0.saturating_add(page.len() as u64));
        let entries = page.iter().filter_map(|bytes| Entry::decode(bytes).ok());
        Ok(Some(entries.filter_map(|entry| self.step(mesh, entry)).collect()))
    }

    fn step(&mut self, mesh: &Mesh, Entry { stamp, body }: Entry) -> Option<Step> {
        let ours = self.feed.writer == mesh.me;
        match body {
            Body::Purchase(sale) => {
                let at_ms = stamp.hub_time_ms;
                if !self.days.contains(&sale.day) || (Written { sale: &sale, at_ms, ours }).is_late(mesh) {
                    return None;
                }
                self.sold.insert(sale.id, (sale.clone(), at_ms, GivenBack::default()));
                Some(Step { sale, at_ms, ours, back: None })
            }
            Body::Refund(refund) => {
                let (sale, at_ms, given) = self.sold.get_mut(&refund.of)?;
                if !sale.may_be_given(&refund.back) {
                    return None;
                }
                let was_whole = share_back(&sale.paid, given, None).ok()?.is_none();
                given.add(&refund.back).ok()?;
                let is_whole = !was_whole && share_back(&sale.paid, given, None).ok()?.is_none();
                Some(Step { sale: sale.clone(), at_ms: *at_ms, ours, back: Some((refund.back, is_whole)) })
            }
            _ => None,
        }
    }
}

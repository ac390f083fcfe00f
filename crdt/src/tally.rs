//! Tallies: what a journal comes to where it cuts a day, as a chain of digests that the box and the hub make each from
//! its own totals. A box lets entries go only below a cut at which both agree (design section 2).
//!
//! Counted are the cumulative totals (used, returned) of every row of rights that the day has moved; counters of limits
//! end with their day and are not carried. Leaves to others: where totals are kept (`sale/rows`, the hub's wallets).

use crate::channel::FeedId;
use crate::entry::{Body, Entry, Row};
use crate::feed::{self, Hash};
use crate::fen::Fen;
use crate::ids::Seq;
use crate::sale::row_of;
use crate::store::{Read, StoreError, Tx};
use crate::wire;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Bytes of entries read at once.
const PAGE_BYTES: usize = 256 << 10;

/// The totals of a journal up to a cut, in brief.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Position of the cut; 0 before the first.
    pub seq: Seq,
    /// Over the tally before and the totals of the rows moved since.
    pub digest: Hash,
}

/// A row's totals: used and returned, ever.
pub type Totals = (Row, Fen, Fen);

impl Tally {
    /// The tally at the next cut.
    pub fn after(self, seq: Seq, totals: &[Totals]) -> Tally {
        Tally { seq, digest: feed::digest("yika tally 1", &wire::encode(&(self.digest, seq, totals))) }
    }
}

/// Rows that a journal has moved after one position and before another.
pub fn moved<R: Read + ?Sized>(
    tx: &Tx<'_, R>,
    feed: &FeedId,
    after: Seq,
    before: Seq,
) -> Result<BTreeSet<Row>, StoreError> {
    let mut rows = BTreeSet::new();
    let mut at = after.next();
    while at < before {
        let page = tx.entries(feed, at, PAGE_BYTES)?;
        if page.is_empty() {
            return Ok(rows);
        }
        for bytes in page {
            if at < before
                && let Ok(entry) = Entry::decode(&bytes)
            {
                rows.extend(rows_of(&entry.body));
            }
            at = at.next();
        }
    }
    Ok(rows)
}

fn rows_of(body: &Body) -> Vec<Row> {
    let (person, terminal, parts) = match body {
        Body::Purchase(sale) => (sale.person, sale.id.terminal, &sale.paid),
        Body::Refund(refund) => (refund.person, refund.of.terminal, &refund.back),
        _ => return Vec::new(),
    };
    parts.iter().filter_map(|(source, _)| row_of(person, terminal, *source)).collect()
}

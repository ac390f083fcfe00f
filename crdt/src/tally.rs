//! Tallies: what a journal comes to where it cuts a day, as a digest that the box and the hub make each from its own totals.
//! A box lets entries go only below a cut at which both agree (design section 2).
//!
//! Counted are the cumulative totals (used, returned) of every row of rights that the journal has ever moved; counters of
//! limits end with their day and are not. The hub carries the sum on with every entry that it posts, so that a cut costs it
//! the same whatever the day held. The box makes it at the cut from its rows as they are and from what its journal says it
//! did to them, so that a row that is lost or doubled on its disk shows. Leaves to others: where totals are kept
//! (`sale/rows`, the hub's wallets).

use crate::channel::FeedId;
use crate::entry::{Body, Entry, Row};
use crate::feed::{self, Hash};
use crate::fen::Fen;
use crate::ids::Seq;
use crate::sale::row_of;
use crate::store::{Read, StoreError, Tx};
use crate::wire;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bytes of entries read at once.
const PAGE_BYTES: usize = 256 << 10;

/// The totals of a journal up to a cut, in brief.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Position of the cut.
    pub seq: Seq,
    /// Over the totals of all rows there.
    pub digest: Hash,
}

/// A row's totals: used and returned, ever.
pub type Totals = (Fen, Fen);

/// The digests of all rows' totals added up, whatever the order in which they came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TotalsSum([u64; WORDS]);

const WORDS: usize = 4;

impl TotalsSum {
    /// A row's totals have changed.
    pub fn change(&mut self, row: Row, before: Totals, after: Totals) {
        self.fold(word(row, before), u64::overflowing_sub);
        self.fold(word(row, after), u64::overflowing_add);
    }

    /// The tally at a cut.
    pub fn at(&self, seq: Seq) -> Tally {
        Tally { seq, digest: feed::digest("yika tally 2", &wire::encode(&(self, seq))) }
    }

    fn fold(&mut self, other: [u64; WORDS], step: fn(u64, u64) -> (u64, bool)) {
        let mut carry = false;
        for (ours, theirs) in self.0.iter_mut().zip(other) {
            let (value, first) = step(*ours, theirs);
            let (value, second) = step(value, u64::from(carry));
            (*ours, carry) = (value, first || second);
        }
    }
}

/// What a row adds to the sum; nothing while nothing was moved in it.
fn word(row: Row, totals: Totals) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    if totals != Totals::default() {
        let digest = feed::digest("yika totals 1", &wire::encode(&(row, totals)));
        for (word, bytes) in words.iter_mut().zip(digest.0.chunks_exact(size_of::<u64>())) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
    }
    words
}

/// What a journal did to the totals of rows after one position and before another.
pub fn moved<R: Read + ?Sized>(
    tx: &Tx<'_, R>,
    feed: &FeedId,
    after: Seq,
    before: Seq,
) -> Result<BTreeMap<Row, Totals>, StoreError> {
    let mut rows = BTreeMap::new();
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
                add_rows(&mut rows, &entry.body);
            }
            at = at.next();
        }
    }
    Ok(rows)
}

fn add_rows(rows: &mut BTreeMap<Row, Totals>, body: &Body) {
    let (person, terminal, parts, is_refund) = match body {
        Body::Purchase(sale) => (sale.person, sale.id.terminal, &sale.paid, false),
        Body::Refund(refund) => (refund.person, refund.of.terminal, &refund.back, true),
        _ => return,
    };
    for (source, part) in parts {
        let Some(row) = row_of(person, terminal, *source) else { continue };
        let (used, returned) = rows.entry(row).or_default();
        let total = if is_refund { returned } else { used };
        total.0 = total.0.saturating_add(part.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::WalletKey;
    use crate::ids::PersonId;
    use proptest::prelude::*;

    proptest! {
        /// Only what the totals are in the end counts, not how and in which order they came about.
        #[test]
        fn it_is_a_digest_of_the_totals(moves in prop::collection::vec((0u64..4, 0i64..3, 0i64..3), 0..20)) {
            let mut totals: BTreeMap<u64, Totals> = BTreeMap::new();
            let mut sum = TotalsSum::default();
            let row = |person| Row { person: PersonId(person), wallet: WalletKey::Main };
            for (person, used, returned) in moves {
                let now = totals.entry(person).or_default();
                let after = (Fen(now.0.0 + used), Fen(now.1.0 + returned));
                sum.change(row(person), *now, after);
                *now = after;
            }
            let mut model = TotalsSum::default();
            for (person, after) in totals.iter().rev() {
                model.change(row(*person), Totals::default(), *after);
            }
            prop_assert_eq!(sum, model);
            model.change(row(9), Totals::default(), (Fen(1), Fen(0)));
            prop_assert_ne!(sum.at(Seq(1)), model.at(Seq(1)));
            prop_assert_ne!(sum.at(Seq(1)), sum.at(Seq(2)));
        }
    }
}

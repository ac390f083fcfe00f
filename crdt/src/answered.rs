//! Which numbers of one boot of a terminal have been answered: what a box knows of ids whose answers it does not hold.
//!
//! Kept for ever, so it is small: ascending ranges, and beyond [`RANGES_MAX`] the oldest gap counts as answered. Leaves to
//! others: where answers stand (`sale`), handing it to boxes that came later (the hub).

use serde::{Deserialize, Serialize};

/// Ranges kept of one boot. Terminals number their requests one by one; gaps are requests that never came.
pub const RANGES_MAX: usize = 64;

/// Numbers that are answered.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Answered(Vec<(u32, u32)>);

impl Answered {
    /// Whether a number is answered.
    pub fn contains(&self, seq: u32) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&seq))
    }

    /// The greatest answered number.
    pub fn greatest(&self) -> Option<u32> {
        self.0.last().map(|(_, last)| *last)
    }

    /// A number is answered.
    pub fn add(&mut self, seq: u32) {
        self.add_range(seq, seq);
    }

    /// Takes over what another knows.
    pub fn merge(&mut self, other: &Answered) {
        other.0.iter().for_each(|(first, last)| self.add_range(*first, *last));
    }

    /// Whether it could have been made by this type: what comes from outside.
    pub fn is_well_formed(&self) -> bool {
        let apart = self.0.windows(2).all(|pair| match pair {
            [(_, last), (first, _)] => last.checked_add(1).is_some_and(|next| next < *first),
            _ => true,
        });
        apart && self.0.len() <= RANGES_MAX && self.0.iter().all(|(first, last)| first <= last)
    }

    fn add_range(&mut self, mut first: u32, mut last: u32) {
        let touches = |range: &(u32, u32)| range.0 <= last.saturating_add(1) && first <= range.1.saturating_add(1);
        let from = self.0.iter().position(touches);
        let Some(from) = from else {
            let at = self.0.partition_point(|range| range.0 < first);
            self.0.insert(at, (first, last));
            if self.0.len() > RANGES_MAX {
                let (_, last) = self.0.remove(1);
                self.0[0].1 = last;
            }
            return;
        };
        let count = self.0[from..].iter().take_while(|range| touches(range)).count();
        for range in self.0.drain(from..from + count) {
            first = first.min(range.0);
            last = last.max(range.1);
        }
        self.0.insert(from, (first, last));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn many_gaps_cost_the_oldest() {
        let mut answered = Answered::default();
        (0..200).for_each(|n| answered.add(10 * n));
        assert!(answered.is_well_formed() && answered.0.len() == RANGES_MAX);
        assert!(answered.contains(15), "an old gap counts as answered");
        assert!(!answered.contains(1_985) && answered.contains(1_990), "a new one does not");
        answered.merge(&Answered(vec![(0, u32::MAX)]));
        assert_eq!(answered.0, [(0, u32::MAX)]);
    }

    #[test]
    fn what_no_box_would_say_is_seen() {
        for ranges in [vec![(5, 4)], vec![(1, 2), (3, 4)], vec![(5, 6), (1, 2)], vec![(0, u32::MAX), (3, 4)]] {
            assert!(!Answered(ranges.clone()).is_well_formed(), "{ranges:?}");
        }
        assert!(!Answered((0..=RANGES_MAX as u32).map(|n| (2 * n, 2 * n)).collect()).is_well_formed());
    }

    proptest! {
        /// Against a set of numbers, in any order and merged from two sides.
        #[test]
        fn it_is_a_set(ours in prop::collection::vec(0u32..60, 0..40), theirs in prop::collection::vec(0u32..60, 0..40)) {
            let fold = |seqs: &[u32]| {
                let mut answered = Answered::default();
                seqs.iter().for_each(|seq| answered.add(*seq));
                answered
            };
            let mut merged = fold(&ours);
            merged.merge(&fold(&theirs));
            let model: BTreeSet<u32> = ours.iter().chain(&theirs).copied().collect();
            prop_assert!(merged.is_well_formed());
            for seq in 0..61 {
                prop_assert_eq!(merged.contains(seq), model.contains(&seq), "{}", seq);
            }
        }
    }
}

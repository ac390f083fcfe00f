//! Who claims a number: nearly always one, of several the smallest wins, whatever the order they came in.
//!
//! Leaves to others: what the numbers are (cards, chips), alarms about several claims.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Claims on keys. A value names the claimant, so that nobody's withdrawal is another's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Claims<K, V> {
    winners: BTreeMap<K, V>,
    /// The other claims on contested keys; no set is empty.
    losers: BTreeMap<K, BTreeSet<V>>,
}

impl<K, V> Default for Claims<K, V> {
    fn default() -> Self {
        Claims { winners: BTreeMap::new(), losers: BTreeMap::new() }
    }
}

impl<K: Ord + Copy, V: Ord + Copy> Claims<K, V> {
    /// The claim that holds.
    pub(super) fn winner(&self, key: K) -> Option<V> {
        self.winners.get(&key).copied()
    }

    /// Every claim on a key, the winner first.
    pub(super) fn all(&self, key: K) -> impl Iterator<Item = V> + '_ {
        self.winner(key).into_iter().chain(self.losers.get(&key).into_iter().flatten().copied())
    }

    /// The claims that hold on keys above one, ascending.
    pub(super) fn after(&self, after: Option<K>) -> impl Iterator<Item = (K, V)> + '_ {
        let above = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.winners.range(above).map(|(key, value)| (*key, *value))
    }

    /// How many keys are claimed.
    pub(super) fn len(&self) -> usize {
        self.winners.len()
    }

    /// Adds a claim.
    pub(super) fn add(&mut self, key: K, value: V) {
        match self.winners.get_mut(&key) {
            None => drop(self.winners.insert(key, value)),
            Some(winner) if *winner == value => {}
            Some(winner) => {
                let loser = value.max(*winner);
                *winner = value.min(*winner);
                self.losers.entry(key).or_default().insert(loser);
            }
        }
    }

    /// Withdraws a claim.
    pub(super) fn remove(&mut self, key: K, value: V) {
        let is_winner = self.winners.get(&key) == Some(&value);
        let Some(losers) = self.losers.get_mut(&key) else {
            if is_winner {
                self.winners.remove(&key);
            }
            return;
        };
        match (is_winner, losers.first().copied()) {
            (true, Some(next)) => {
                losers.remove(&next);
                self.winners.insert(key, next);
            }
            _ => drop(losers.remove(&value)),
        }
        if losers.is_empty() {
            self.losers.remove(&key);
        }
    }
}

//! Block and card lists by version: a terminal says what it holds and gets the whole list or the difference.
//!
//! Pure. Leaves to others: what belongs on a list (the edge) and where a terminal keeps it.

use super::sign::sha256_hex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use utoipa::ToSchema;

/// Most lines a list may have; further ones are left out, with the greatest keys.
pub const LIST_LINES_MAX: usize = 200_000;
/// Most lines of changes remembered; an older holder gets the whole list.
pub const HISTORY_LINES_MAX: usize = 20_000;

/// One line of a list.
pub trait Line: Clone + PartialEq {
    /// What it is about; at most one line each.
    fn key(&self) -> u64;
    /// Its text as hashed, without the line end.
    fn text(&self) -> String;
}

/// A card that is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockLine {
    /// The card number.
    pub card: u64,
}

impl Line for BlockLine {
    fn key(&self) -> u64 {
        self.card
    }

    fn text(&self) -> String {
        self.card.to_string()
    }
}

/// A card that a terminal may serve on its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CardLine {
    /// The card number.
    pub card: u64,
    /// Its chip number, where recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chip: Option<u64>,
    /// The holder's category.
    pub category: u16,
}

impl Line for CardLine {
    fn key(&self) -> u64 {
        self.card
    }

    fn text(&self) -> String {
        let chip = self.chip.map_or_else(|| "-".to_owned(), |chip| chip.to_string());
        format!("{},{chip},{}", self.card, self.category)
    }
}

/// The whole list, or what changed since the version held.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListDelta<L> {
    /// The version this builds on; 0 when it is the whole list.
    pub from: u64,
    /// The version that results.
    pub to: u64,
    /// Lines that are new or changed, by ascending key.
    pub put: Vec<L>,
    /// Keys that go, ascending.
    pub remove: Vec<u64>,
    /// SHA-256 of the resulting list: each line's text followed by `\n`, by ascending key.
    pub hash: String,
}

/// A difference does not fit: ask for the whole list (`have=0`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// It builds on another version.
    #[error("the difference builds on version {from}, held is {held}: ask with have=0")]
    OtherVersion {
        /// What it builds on.
        from: u64,
        /// What is held.
        held: u64,
    },
    /// The result is not what the edge holds.
    #[error("the list does not hash to what the edge holds: ask with have=0")]
    OtherHash,
}

/// A list as a terminal holds it.
#[derive(Clone, PartialEq, Debug)]
pub struct HeldList<L> {
    version: u64,
    lines: BTreeMap<u64, L>,
}

impl<L> Default for HeldList<L> {
    fn default() -> Self {
        HeldList { version: 0, lines: BTreeMap::new() }
    }
}

impl<L: Line> HeldList<L> {
    /// The version held; 0 for none.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The line of a key.
    pub fn get(&self, key: u64) -> Option<&L> {
        self.lines.get(&key)
    }

    /// How many lines are held.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Nothing is held.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Takes a whole list or a difference in; on an error nothing changes.
    ///
    /// # Errors
    /// When it does not fit what is held.
    pub fn apply(&mut self, delta: ListDelta<L>) -> Result<(), ListError> {
        if delta.from != 0 && delta.from != self.version {
            return Err(ListError::OtherVersion { from: delta.from, held: self.version });
        }
        let mut lines = if delta.from == 0 { BTreeMap::new() } else { self.lines.clone() };
        for key in &delta.remove {
            lines.remove(key);
        }
        lines.extend(delta.put.into_iter().map(|line| (line.key(), line)));
        if hash_of(&lines) != delta.hash {
            return Err(ListError::OtherHash);
        }
        *self = HeldList { version: delta.to, lines };
        Ok(())
    }
}

/// A list as the edge keeps it: the lines, and which keys changed at which version.
#[derive(Clone, Debug)]
pub struct VersionedList<L> {
    version: u64,
    lines: BTreeMap<u64, L>,
    hash: String,
    /// Changed keys by the version that changed them, oldest first.
    history: VecDeque<(u64, Vec<u64>)>,
    history_lines: usize,
    /// Differences are known from this version on.
    known_from: u64,
}

impl<L: Line> VersionedList<L> {
    /// An empty list. `first_version` must be above every version of an earlier run of the box (hub time in seconds
    /// is), so that a terminal never takes an old number for the present one.
    pub fn new(first_version: u64) -> Self {
        let version = first_version.max(1);
        let lines = BTreeMap::new();
        let hash = hash_of(&lines);
        VersionedList { version, lines, hash, history: VecDeque::new(), history_lines: 0, known_from: version }
    }

    /// The present version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Puts the present lines in the place of the old ones; a new version if anything differs.
    pub fn replace(&mut self, lines: impl IntoIterator<Item = L>) -> u64 {
        let mut fresh: BTreeMap<u64, L> = lines.into_iter().map(|line| (line.key(), line)).collect();
        while fresh.len() > LIST_LINES_MAX {
            fresh.pop_last();
        }
        let gone = self.lines.keys().filter(|key| !fresh.contains_key(key)).copied();
        let put = fresh.iter().filter(|(key, line)| self.lines.get(key) != Some(line)).map(|(key, _)| *key);
        let changed: Vec<u64> = gone.chain(put).collect();
        if changed.is_empty() {
            return self.version;
        }
        self.version = self.version.saturating_add(1);
        self.lines = fresh;
        self.hash = hash_of(&self.lines);
        self.history_lines += changed.len();
        self.history.push_back((self.version, changed));
        while self.history_lines > HISTORY_LINES_MAX
            && let Some((version, keys)) = self.history.pop_front()
        {
            self.history_lines -= keys.len();
            self.known_from = version;
        }
        self.version
    }

    /// What a holder of `have` needs: the difference where it is known and smaller, else the whole list.
    pub fn delta(&self, have: u64) -> ListDelta<L> {
        let (to, hash) = (self.version, self.hash.clone());
        if have < self.known_from || have > self.version {
            let put = self.lines.values().cloned().collect();
            return ListDelta { from: 0, to, put, remove: Vec::new(), hash };
        }
        let newer = self.history.iter().filter(|(version, _)| *version > have);
        let changed: std::collections::BTreeSet<u64> = newer.flat_map(|(_, keys)| keys.iter().copied()).collect();
        let put: Vec<L> = changed.iter().filter_map(|key| self.lines.get(key).cloned()).collect();
        let remove = changed.into_iter().filter(|key| !self.lines.contains_key(key)).collect();
        ListDelta { from: have, to, put, remove, hash }
    }
}

fn hash_of<L: Line>(lines: &BTreeMap<u64, L>) -> String {
    let mut text = String::new();
    for line in lines.values() {
        text.push_str(&line.text());
        text.push('\n');
    }
    sha256_hex(text.as_bytes())
}

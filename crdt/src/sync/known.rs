//! What a node knows of its own feeds without a look at its store: where they end, and the runs it said last.
//!
//! A thousand peers are told the same block: only the first of them costs a look and a signature. Leaves to others: who
//! may hold what and what was sent ([`PeerSync`](super::PeerSync)).

use crate::channel::FeedId;
use crate::feed::Run;
use crate::ids::Seq;
use std::collections::{BTreeMap, VecDeque};

/// Runs kept: of a few feeds that many peers hold.
const RUNS_MAX: usize = 8;
/// Bytes of entries of the longest run kept; longer ones are of a catch-up, and each peer is elsewhere in it.
const RUN_BYTES_MAX: usize = 4 << 10;

/// Ends of feeds, as far as they have grown since the start, and runs.
#[derive(Default)]
pub struct Known {
    ends: BTreeMap<FeedId, Seq>,
    runs: VecDeque<Box<Run>>,
}

/// What comes after a position of an own feed.
pub(super) enum Next {
    /// Nothing: the feed ends there.
    Nothing,
    /// This run.
    Run(Box<Run>),
    /// The store must be asked.
    Unknown,
}

impl Known {
    /// A feed ends there; to be told before anybody hears that it has grown.
    pub fn grown(&mut self, feed: FeedId, end: Seq) {
        let known = self.ends.entry(feed).or_default();
        *known = end.max(*known);
    }

    /// A run of an own feed was said to a peer; others may be told the same.
    pub fn said(&mut self, run: &Run) {
        if run.entries.iter().map(Vec::len).sum::<usize>() > RUN_BYTES_MAX {
            return;
        }
        if self.runs.len() == RUNS_MAX {
            self.runs.pop_front();
        }
        self.runs.push_back(Box::new(run.clone()));
    }

    pub(super) fn next(&self, feed: &FeedId, sent: Seq) -> Next {
        if self.ends.get(feed).is_some_and(|end| *end <= sent) {
            return Next::Nothing;
        }
        let said = self.runs.iter().rev().find(|run| run.head.feed == *feed && run.from == sent.next());
        said.map_or(Next::Unknown, |run| Next::Run(run.clone()))
    }
}

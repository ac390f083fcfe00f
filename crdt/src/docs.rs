//! Documents: state that several people edit while cut off, as Automerge changes carried by feeds.
//!
//! Decisions never read a document: every accepted change is projected to plain values in the same transaction.
//! Leaves to others: the feeds that carry changes (`feed`), blocks (plain entries, never documents).

pub mod act;
mod chunk;
pub mod document;
pub mod outcome;
pub mod people;
pub mod policy;
mod rebase;
pub mod set;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_random;
mod view;
pub mod visitors;

pub use act::{Act, ActBody, ActError, ActId, Write};
pub use chunk::{CHANGE_BYTES_MAX, CHANGE_OPS_MAX, ChangeRefused, Value};
pub use document::{ActorKey, Document, ParsedChange, WAITING_CHANGES_MAX, actor_of, admit};
pub use outcome::{Applied, Authored, DocError, DocState, Patch, Results, Taken};
pub use people::{
    PEOPLE_SHARDS_DEFAULT, PEOPLE_SHARDS_MAX, PERSON_CARDS_MAX, PeoplePatch, PersonAct, shard_count_for, shard_of,
};
pub use policy::{PolicyAct, PolicyPatch};
pub use rebase::{rebase, uncovered_acts};
pub use set::{DocSet, Outcome, Restored, SetError};
pub use visitors::{Visitor, VisitorAct, VisitorsPatch};

use crate::channel::{Channel, Place};
use crate::ids::CampusId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a document is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum DocKind {
    /// People of a home campus, one shard of about 400.
    People {
        /// Home campus.
        campus: CampusId,
        /// Shard number.
        shard: u16,
    },
    /// A campus' doors, schedules, groups and terminal parameters.
    Policy(CampusId),
    /// A campus' visitors and temporary cards of one month (months since 1970-01).
    Visitors {
        /// Campus.
        campus: CampusId,
        /// Month.
        month: u16,
    },
}

/// A document in one of its epochs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct DocId {
    /// What it is about.
    pub kind: DocKind,
    /// Raised at every re-base.
    pub epoch: u32,
}

impl DocId {
    /// The campus it belongs to.
    pub fn campus(&self) -> CampusId {
        match self.kind {
            DocKind::People { campus, .. } | DocKind::Policy(campus) | DocKind::Visitors { campus, .. } => campus,
        }
    }

    /// The channel its changes travel on.
    pub fn channel(&self) -> Channel {
        match self.kind {
            DocKind::People { campus, .. } => Channel::People(campus),
            DocKind::Policy(campus) | DocKind::Visitors { campus, .. } => Channel::Campus(campus),
        }
    }

    /// Whether a node may write it: a pure function of the id and the writer's certificate.
    pub fn may_write(&self, writer: Place) -> bool {
        self.channel().may_write(writer)
    }
}

impl fmt::Display for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DocKind::People { campus, shard } => {
                write!(f, "people/{campus}/{shard}~{}", self.epoch)
            }
            DocKind::Policy(campus) => write!(f, "policy/{campus}~{}", self.epoch),
            DocKind::Visitors { campus, month } => {
                write!(f, "visitors/{campus}/{month}~{}", self.epoch)
            }
        }
    }
}

//! What comes out of a document: patches, what became of changes, and what went wrong.
//!
//! Leaves to others: making them (`document`), acting on them (the tables, the alarms).

use super::DocId;
use super::act::ActError;
use super::chunk::ChangeRefused;
use super::document::ActorKey;
use super::people::PeoplePatch;
use super::policy::PolicyPatch;
use super::visitors::VisitorsPatch;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What goes wrong on our own side of a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocError {
    /// The act cannot be written.
    #[error(transparent)]
    Act(#[from] ActError),
    /// The act's operations do not fit one change.
    #[error("the act does not fit one change ({0}); split it")]
    TooLarge(ChangeRefused),
    /// Stored bytes are not the document that was saved.
    #[error("{doc}: saved document is damaged: {cause}")]
    Damaged {
        /// Which.
        doc: DocId,
        /// What is wrong.
        cause: String,
    },
    /// The writer itself is refused in this document until the re-base.
    #[error("{0}: this node's changes are refused until the document is re-based")]
    Refused(DocId),
    /// The engine failed on a checked change: drop the document and open it again.
    #[error("{doc}: document engine failed: {cause}")]
    Engine {
        /// Which.
        doc: DocId,
        /// Its words.
        cause: String,
    },
}

/// State beside the document: which writers are ignored until the re-base, and why.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DocState {
    /// By actor, the refusal in words.
    pub refused: BTreeMap<ActorKey, String>,
}

/// What changed in a document, as plain values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Patch {
    /// Of a people document.
    People(PeoplePatch),
    /// Of a policy document.
    Policy(PolicyPatch),
    /// Of a visitors document.
    Visitors(VisitorsPatch),
}

impl Patch {
    /// How many plain values it is.
    pub fn len(&self) -> usize {
        match self {
            Patch::People(patch) => patch.upserted.len() + patch.removed.len(),
            Patch::Policy(patch) => patch.len(),
            Patch::Visitors(patch) => patch.upserted.len() + patch.removed.len(),
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What became of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Applied {
    /// It is in the document, perhaps with others that waited for it.
    Projected {
        /// The new plain values.
        patch: Box<Patch>,
        /// Bytes of every change that entered the document, in order.
        entered: Vec<Vec<u8>>,
        /// Writers whose waiting changes turned out bad.
        refused: Vec<(ActorKey, ChangeRefused)>,
    },
    /// It waits for changes it depends on.
    Waiting,
    /// It was here before.
    Known,
    /// Its writer is ignored until the re-base.
    Ignored,
}

/// Of each act: the bytes of its change, nothing where the document says so already, or why not.
pub type Authored = Vec<Result<Option<Vec<u8>>, DocError>>;

/// What became of one change in a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It is in the document.
    Entered,
    /// It waits for others.
    Waiting,
    /// It was here before.
    Known,
    /// Its writer is ignored.
    Ignored,
}

/// What became of a batch.
#[derive(Default, Debug)]
pub struct Results {
    /// Of each entry, in order.
    pub each: Vec<Result<Taken, ChangeRefused>>,
    /// Keys touched, for [`Document::project`].
    pub touched: BTreeSet<String>,
    /// Bytes of every change that entered the document, in order.
    pub entered: Vec<Vec<u8>>,
    /// Writers whose waiting changes turned out bad.
    pub refused: Vec<(ActorKey, ChangeRefused)>,
}

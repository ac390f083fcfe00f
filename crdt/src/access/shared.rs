//! The access policy of this node's campus as doors decide from it, shared between threads.
//!
//! The writer thread changes it change by change; doors only read it, for one decision. Leaves to others: rows on disk
//! and projection from documents (`mesh`, `docs`).

use super::{Door, PolicyIndex};
use crate::ids::DoorId;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Rights of way and the facts of each door.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// Who may pass where and when.
    pub index: PolicyIndex,
    /// How each door is driven and timed.
    pub doors: BTreeMap<DoorId, Door>,
}

/// The policy as shared between threads.
#[derive(Clone, Debug, Default)]
pub struct SharedAccess(Arc<RwLock<Access>>);

impl SharedAccess {
    /// To decide from. Held for one decision.
    pub fn read(&self) -> RwLockReadGuard<'_, Access> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To change. Held for one change.
    pub fn write(&self) -> RwLockWriteGuard<'_, Access> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a freshly loaded policy in the place of this one, for all who share it.
    pub fn replace(&self, access: Access) {
        *self.write() = access;
    }

    /// Takes the policy out, leaving an empty one.
    pub fn take(&self) -> Access {
        std::mem::take(&mut *self.write())
    }
}

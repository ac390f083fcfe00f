//! Doors of this campus: decide from memory, actuate, then journal (design section 5).

use crate::node::EdgeNode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use yika_crdt::entry::TerminalRecord;
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;

/// Door hardware of this box, a part of its configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DoorsConfig {}

/// The running doors; cheap to clone.
#[derive(Clone)]
pub struct Doors {
    _node: Arc<EdgeNode>,
}

/// A door as pages show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DoorView {
    /// Its number.
    pub door: DoorId,
    /// Its name.
    pub name: String,
}

impl Doors {
    /// Starts the drivers.
    ///
    /// # Errors
    /// When the configuration names hardware that cannot be.
    pub fn start(node: Arc<EdgeNode>, _config: &DoorsConfig) -> anyhow::Result<Doors> {
        Ok(Doors { _node: node })
    }

    /// A card at a reader: decided, actuated, journaled. The person let in, or why not.
    pub async fn swipe(&self, _reader: &TerminalRecord, _card: CardNumber) -> Result<PersonId, Reason> {
        Err(Reason::TerminalNotAllowed)
    }

    /// Doors with their reported state.
    pub fn list(&self) -> Vec<DoorView> {
        Vec::new()
    }

    /// Stops the drivers.
    pub async fn stop(&self) {}
}

//! After a start, before the first append: every reachable peer is asked how far it holds this box's own feeds (its
//! greeting says so), and what this box has lost is taken back (design section 4, clones and roll-backs).
//!
//! Leaves to others: the rule when appending may begin (`yika_crdt::gate`), the taking (`yika_crdt::takeback`).

use crate::node::EdgeNode;
use std::sync::Arc;
use std::time::Duration;
use yika_crdt::edge::{Command, Reply};
use yika_crdt::ids::NodeId;

/// How long a box whose process was restarted waits for peers before it goes on without them.
pub const ASKING_MS_MAX: u64 = 700;
/// The same after a start of the operating system, when a whole disk may have been put back.
pub const ASKING_AFTER_BOOT_MS_MAX: u64 = 5_000;
/// How often it looks.
const LOOK_MS: u64 = 25;
/// How often a box that is behind looks whether it has caught up.
const LOOK_BEHIND_MS: u64 = 1_000;

/// Asks, opens the gate when it may be opened, and goes on asking while it may not.
pub async fn ask_and_open(node: Arc<EdgeNode>) {
    let bound_ms = if node.is_new_boot() { ASKING_AFTER_BOOT_MS_MAX } else { ASKING_MS_MAX };
    let until = tokio::time::Instant::now() + Duration::from_millis(bound_ms);
    while tokio::time::Instant::now() < until && !everybody_was_asked(&node) {
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
    loop {
        // Nothing is opened while a peer is still giving back.
        if !node.takes_back() {
            let hub_asked = node.vitals().contacts().get(&NodeId::HUB).is_some_and(|hub| hub.connected);
            match node.call(Command::Asked { hub: hub_asked }).await {
                Ok(Reply::More) => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "not open yet"),
            }
        }
        match node.shut() {
            None => return,
            Some(shut) if shut.is_for_ever() => return,
            Some(shut) => tracing::debug!(?shut, "nothing is appended"),
        }
        tokio::time::sleep(Duration::from_millis(LOOK_BEHIND_MS)).await;
    }
}

/// Each peer that can be expected has greeted, or could not be reached; and what they hold more is here.
fn everybody_was_asked(node: &EdgeNode) -> bool {
    let contacts = node.vitals().contacts();
    let settled = |id: NodeId| contacts.get(&id).is_some_and(|c| c.connected || !c.words.is_empty());
    let registry = node.registry();
    let expected = registry.boxes().into_iter().filter(|record| {
        let dialled_by_us = record.writer.node < node.writer().node && record.address.is_some();
        dialled_by_us && record.campus == node.place().campus
    });
    settled(NodeId::HUB) && expected.map(|record| record.writer.node).all(settled) && !node.takes_back()
}

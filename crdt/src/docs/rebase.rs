//! Re-basing: a document's next epoch from its plain values, without the history.
//!
//! Leaves to others: the registry entry that orders it, and turning its feed positions into counts of changes.

use super::DocId;
use super::act::Act;
use super::chunk::{FlatOp, Value};
use super::document::{ActorKey, Document, actor_of, key_of};
use super::outcome::DocError;
use super::view::{Fields, View};
use crate::ids::Writer;
use crate::wire;
use automerge::{ChangeHash, ReadDoc};
use std::collections::BTreeMap;

/// Operations in one change of a new epoch's foundation.
pub(crate) const REBASE_OPS: usize = 256;
/// Bytes of keys and values in one such change.
pub(crate) const REBASE_BYTES: usize = 12 << 10;

/// The document of the next epoch with the same plain values as `old` had after the covered changes.
///
/// Every node that holds the covered changes builds the same bytes. `None` when some are missing here: they come
/// with their feeds. `covered` counts each writer's changes ([`Document::covered`] at the node that decided).
pub fn rebase(
    old: &Document,
    covered: &BTreeMap<ActorKey, u64>,
) -> Result<Option<Document>, DocError> {
    let mut heads = Vec::new();
    // The foundation of the old epoch travels in no feed: it is covered by being here.
    let foundation = old.by_actor.get(&foundation_of(&old.id()));
    heads.extend(
        foundation
            .and_then(|hashes| hashes.last())
            .map(|h| ChangeHash(*h)),
    );
    for (actor, count) in covered.iter().filter(|(_, count)| **count > 0) {
        let hashes = old.by_actor.get(actor).map_or(&[][..], Vec::as_slice);
        match hashes.get(*count as usize - 1) {
            Some(hash) => heads.push(ChangeHash(*hash)),
            None => return Ok(None),
        }
    }
    let id = DocId {
        epoch: old.id().epoch.saturating_add(1),
        ..old.id()
    };
    let mut new = Document::new(id);
    let actor = foundation_of(&id);
    let mut ops: Vec<FlatOp> = Vec::new();
    let mut bytes = 0;
    let values = match heads.is_empty() {
        true => Vec::new(),
        false => View {
            engine: &old.engine,
            heads: Some(heads),
        }
        .under(""),
    };
    for (key, value) in values {
        bytes += key.len() + size_of_value(&value);
        ops.push(FlatOp {
            key,
            put: Some(value),
            preds: Vec::new(),
        });
        if ops.len() >= REBASE_OPS || bytes >= REBASE_BYTES {
            new.found(actor, std::mem::take(&mut ops))?;
            bytes = 0;
        }
    }
    if !ops.is_empty() {
        new.found(actor, ops)?;
    }
    Ok(Some(new))
}

/// The writer of an epoch's foundation: nobody's actor, the same at every node.
fn foundation_of(id: &DocId) -> ActorKey {
    key_of(b"yika re-base", &wire::encode(id))
}

fn size_of_value(value: &Value) -> usize {
    match value {
        Value::Uint(_) | Value::Int(_) => 10,
        Value::Text(text) => text.len() + 2,
        Value::Bytes(bytes) => bytes.len() + 2,
        Value::True => 1,
    }
}

/// Acts of a writer that a re-base does not cover, oldest first: the writer says them again on the new epoch (the hub
/// does so for fenced writers).
pub fn uncovered_acts(
    old: &Document,
    writer: Writer,
    covered: &BTreeMap<ActorKey, u64>,
) -> Vec<Act> {
    let actor = actor_of(writer);
    let from = covered.get(&actor).map_or(0, |c| *c as usize);
    let hashes = old
        .by_actor
        .get(&actor)
        .and_then(|h| h.get(from..))
        .unwrap_or_default();
    let entered = hashes.iter().filter_map(|h| {
        let change = old.engine.get_change_by_hash(&ChangeHash(*h))?;
        Act::from_message(change.message()?).ok()
    });
    let waiting = old
        .waiting
        .get(&actor)
        .into_iter()
        .flatten()
        .map(|p| p.act().clone());
    entered.chain(waiting).collect()
}

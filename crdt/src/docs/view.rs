//! Reading a document: the winning values under keys, at the present or at earlier heads, as plain values.
//!
//! Leaves to others: what the values mean (`people`, `policy`, `visitors`).

use super::chunk::{OpRef, Value};
use automerge::{Automerge, AutomergeError, ChangeHash, ObjId, ROOT, ReadDoc, ScalarValue};

/// What a projection reads: the winning values under keys.
pub(crate) trait Fields {
    fn field(&self, key: &str) -> Option<Value>;
    fn under(&self, prefix: &str) -> Vec<(String, Value)>;
}

/// Names of the operations visible under a key, in the engine's order.
pub(super) fn op_refs<V>(all: Result<Vec<(V, ObjId)>, AutomergeError>) -> Vec<OpRef> {
    let mut refs: Vec<OpRef> = all
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(_, id)| match id {
            ObjId::Id(counter, actor, _) => Some(OpRef {
                counter,
                actor: <[u8; 16]>::try_from(actor.to_bytes()).ok()?,
            }),
            ObjId::Root => None,
        })
        .collect();
    refs.sort_unstable();
    refs
}

/// A document at its heads (`None`) or at earlier ones.
pub(super) struct View<'a> {
    pub(super) engine: &'a Automerge,
    pub(super) heads: Option<Vec<ChangeHash>>,
}

impl Fields for View<'_> {
    fn field(&self, key: &str) -> Option<Value> {
        let found = match &self.heads {
            Some(heads) => self.engine.get_at(ROOT, key, heads),
            None => self.engine.get(ROOT, key),
        };
        match found.ok()?? {
            (automerge::Value::Scalar(scalar), _) => plain(&scalar),
            (automerge::Value::Object(_), _) => None,
        }
    }

    fn under(&self, prefix: &str) -> Vec<(String, Value)> {
        let from = prefix.to_owned();
        let range = match &self.heads {
            Some(heads) => self.engine.map_range_at(ROOT, from.., heads),
            None => self.engine.map_range(ROOT, from..),
        };
        range
            .take_while(|item| item.key.starts_with(prefix))
            .filter_map(|item| {
                let automerge::Value::Scalar(scalar) = automerge::Value::from(item.value) else {
                    return None;
                };
                Some((item.key.into_owned(), plain(&scalar)?))
            })
            .collect()
    }
}

fn plain(scalar: &ScalarValue) -> Option<Value> {
    match scalar {
        ScalarValue::Uint(n) => Some(Value::Uint(*n)),
        ScalarValue::Int(n) => Some(Value::Int(*n)),
        ScalarValue::Str(text) => Some(Value::Text(text.to_string())),
        ScalarValue::Bytes(bytes) => Some(Value::Bytes(bytes.clone())),
        ScalarValue::Boolean(true) => Some(Value::True),
        _ => None,
    }
}

//! The other branch of a forked journal: shown to the hub on demand, by whoever holds it.
//!
//! Leaves to others: proving the fork and posting the branch (the hub), noticing it (`sync`, `takeback`).

use super::RUN_BYTES_MAX;
use crate::channel::FeedId;
use crate::feed::{self, Run, SignedHead};
use crate::ids::{Seq, Writer};
use crate::store::{Read, StoreError, end_at};
use crate::wire;
use ed25519_dalek::SigningKey;

/// What this node holds of a feed from a position on, as one run under a head of its writer; `None` when that is nothing,
/// or pruned.
pub fn run_from<R: Read + ?Sized>(
    store: &R,
    feed: FeedId,
    from: Seq,
    me: Writer,
    key: &SigningKey,
) -> Result<Option<Run>, StoreError> {
    let held = store.feed(&feed)?;
    if from == Seq::ZERO || from > held.end.seq || from <= held.pruned {
        return Ok(None);
    }
    if feed.writer == me {
        let Some(before) = end_at(store, &feed, Seq(from.0 - 1))? else { return Ok(None) };
        let entries = store.entries(&feed, from, RUN_BYTES_MAX)?;
        let end = entries.iter().fold(before, |end, entry| feed::link(&feed, end, entry));
        return Ok(Some(Run { from, entries, head: SignedHead::sign(feed, end, key) }));
    }
    let Some(head) = store.head_from(&feed, from)? else { return Ok(None) };
    let wanted = usize::try_from(head.end.seq.0 - from.0 + 1).unwrap_or(usize::MAX);
    let mut entries = store.entries(&feed, from, wire::FRAME_BYTES_MAX)?;
    entries.truncate(wanted);
    Ok((entries.len() == wanted).then_some(Run { from, entries, head }))
}

//! The other branch of a forked feed: shown on demand to the hub, and to the feed's writer, by whoever holds it.
//!
//! Leaves to others: proving the fork and posting the branch (the hub), noticing it (`sync`, `takeback`).

use super::RUN_BYTES_MAX;
use crate::channel::FeedId;
use crate::feed::{self, Run, SignedHead};
use crate::ids::{Seq, Writer};
use crate::store::{Read, StoreError, end_at};
use crate::wire;
use ed25519_dalek::SigningKey;

/// How far before a dispute the other branch is asked for at first.
const BEFORE_ENTRIES: u64 = 64;
/// Where that is not far enough, so many times as far.
const FURTHER_TIMES: u64 = 8;

/// From where a branch is asked for that is disputed at a position: a little before.
pub fn before(seq: Seq) -> Seq {
    Seq(seq.0.saturating_sub(BEFORE_ENTRIES).max(1))
}

/// From where a branch is asked for of which the part from `from` on was not far enough back; `None` when that was all.
pub fn further(held: Seq, from: Seq) -> Option<Seq> {
    let last = from.0.checked_sub(1).filter(|last| *last > 0)?;
    let back = held.0.saturating_sub(from.0).saturating_add(BEFORE_ENTRIES).saturating_mul(FURTHER_TIMES);
    Some(Seq(held.0.saturating_sub(back).max(1).min(last)))
}

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
        let mut entries = store.entries(&feed, from, RUN_BYTES_MAX)?;
        entries.truncate(feed::RUN_ENTRIES_MAX);
        let end = entries.iter().fold(before, |end, entry| feed::link(&feed, end, entry));
        return Ok(Some(Run { from, entries, head: SignedHead::sign(feed, end, key) }));
    }
    let Some(head) = store.head_from(&feed, from)? else { return Ok(None) };
    let wanted = usize::try_from(head.end.seq.0 - from.0 + 1).unwrap_or(usize::MAX);
    let mut entries = store.entries(&feed, from, wire::FRAME_BYTES_MAX)?;
    entries.truncate(wanted);
    Ok((entries.len() == wanted).then_some(Run { from, entries, head }))
}

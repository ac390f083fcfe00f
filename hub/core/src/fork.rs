//! Forked journals and cheques: the proof, and the other branch, posted beside the one the hub holds.
//!
//! Whoever holds the other branch (a clone that still runs, a sibling that heard it first) is asked for it, from a little
//! before the place of the dispute, and further back until both are one. Only an operator fences; until then a forked life
//! gets no lease and no rights. Leaves to others: saying it (the shell), proofs at edges (`mesh`).

use super::journal::Place;
use super::{CoreError, Effect, Hub, Reply, Turn, named};
use crate::denial::Denial;
use std::collections::BTreeSet;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::{Body, Entry};
use yika_crdt::feed::{self, End, FeedError, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::proof;
use yika_crdt::store::{Read, StoreError};
use yika_crdt::sync::{before, further};

/// Branches of one feed whose ends are remembered; the oldest is asked for again from where it began.
const TIPS_MAX: usize = 16;

/// Whether every branch of such a feed is heard: what a box sold, and what it gave to another box, which may have taken it.
pub(super) fn is_heard_apart(feed: &FeedId) -> bool {
    match feed.channel {
        Channel::Journal => true,
        Channel::Rights(receiver) => !receiver.node.is_hub() && !feed.writer.node.is_hub(),
        _ => false,
    }
}

impl Hub {
    /// A peer shows that a feed of its ends otherwise than here.
    pub(super) fn diverged<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        head: SignedHead,
    ) -> Result<Reply, CoreError> {
        // Rubbish costs a look at its signature, not one at the feed.
        if self.mesh.nodes.get(&head.feed.writer).is_none_or(|node| head.verify(&node.key).is_err()) {
            return Ok(Reply::Done);
        }
        let ours = turn.tx.end_at(&head.feed, head.end.seq)?;
        if ours.is_none_or(|ours| ours == head.end) {
            return Ok(Reply::Done);
        }
        let known = turn.tx.get_bytes(&yika_crdt::keys::fork(&head.feed))?.is_some();
        let own = turn.tx.head_from(&head.feed, head.end.seq)?;
        if own.is_none_or(|own| !self.mesh.prove_fork(turn.tx, &own, &head)) {
            return Ok(Reply::Done);
        }
        if !known {
            self.alarm_fork(turn, head.feed, head.end.seq);
        }
        let wanted = is_heard_apart(&head.feed) && !tips(turn, &head.feed)?.contains(&head.end);
        Ok(if wanted { Reply::Branch { feed: head.feed, from: before(head.end.seq) } } else { Reply::Done })
    }

    fn alarm_fork<R: Read + ?Sized>(&self, turn: &mut Turn<'_, '_, R>, feed: FeedId, seq: Seq) {
        let detail =
            format!("{feed} was written twice up to {seq}: fence {} if it was cloned or restored", feed.writer);
        Hub::alarm(turn, Place { feed, seq, branch: None }, "fork", detail);
        turn.effects.push(Effect::Forked(feed));
    }

    /// Posts the entries of a feed's other branch. Idempotent by entry; the run begins where both are still one, or
    /// where the branch was left. Says from where more of it is wanted.
    pub(super) fn branch<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        run: Run,
    ) -> Result<Reply, CoreError> {
        let feed = run.head.feed;
        let Some(node) = self.mesh.nodes.get(&feed.writer) else {
            return Ok(denied(feed, "the registry does not list this writer"));
        };
        if !is_heard_apart(&feed) || run.from == Seq::ZERO || run.entries.is_empty() {
            return Ok(denied(feed, "only runs of journals and cheques are posted twice"));
        }
        if let Err(cause) = run.head.verify(&node.key) {
            return Ok(denied(feed, &cause.to_string()));
        }
        let base = Seq(run.from.0 - 1);
        let left = tips(turn, &feed)?.into_iter().filter(|tip| tip.seq == base);
        let mut bases = turn.tx.end_at(&feed, base)?.into_iter().map(|end| (end, false)).collect::<Vec<_>>();
        bases.extend(left.map(|tip| (tip, true)));
        let mut refused = FeedError::NotTheSignedChain(feed);
        for (base, apart) in bases {
            match feed::check_run(base, &run, &node.key) {
                Ok(end) => return self.post_branch(turn, &run, (base, end), apart),
                Err(cause) => refused = cause,
            }
        }
        match further(turn.tx.feed(&feed)?.end.seq, run.from) {
            Some(from) if matches!(refused, FeedError::NotTheSignedChain(_)) => Ok(Reply::Branch { feed, from }),
            _ => Ok(denied(feed, &refused.to_string())),
        }
    }

    fn post_branch<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        run: &Run,
        (base, end): (End, End),
        mut apart: bool,
    ) -> Result<Reply, CoreError> {
        let feed = run.head.feed;
        let mut touched = BTreeSet::new();
        for (seq, bytes) in (run.from.0..).map(Seq).zip(&run.entries) {
            apart |= turn.tx.entry(&feed, seq)?.is_some_and(|ours| ours != *bytes);
            let place = Place { feed, seq, branch: Some(feed::entry_hash(&feed, seq, bytes)) };
            if apart && turn.tx.get_bytes(&place.branch_key())?.is_none() {
                turn.tx.put_bytes(place.branch_key(), bytes.clone());
                if let Ok(entry) = Entry::decode(bytes)
                    && !proof::sown("other_branch_not_posted")
                {
                    match &entry.body {
                        Body::Grant(grant) => self.post_waiting(turn, place, grant, &mut touched)?,
                        _ if feed.channel == Channel::Journal => self.post(turn, place, &entry, &mut touched)?,
                        _ => {}
                    }
                }
            }
        }
        if apart {
            self.keep_tip(turn, &feed, base, end)?;
            if turn.tx.get_bytes(&yika_crdt::keys::fork(&feed))?.is_none() {
                let own = turn.tx.head_from(&feed, end.seq)?.unwrap_or_else(|| run.head.clone());
                turn.tx.put(yika_crdt::keys::fork(&feed), &(own, &run.head));
                self.mesh.forked.insert(feed.writer);
                self.alarm_fork(turn, feed, end.seq);
            }
        }
        Ok(Reply::Branch { feed, from: end.seq.next() })
    }

    fn keep_tip<R: Read + ?Sized>(
        &self,
        turn: &mut Turn<'_, '_, R>,
        feed: &FeedId,
        base: End,
        end: End,
    ) -> Result<(), StoreError> {
        let mut tips = tips(turn, feed)?;
        tips.retain(|tip| *tip != base && *tip != end);
        tips.push(end);
        let beyond = tips.len().saturating_sub(TIPS_MAX);
        tips.drain(..beyond);
        turn.tx.put(tips_key(feed), &tips);
        Ok(())
    }
}

/// Ends of the other branches of a feed, as far as they were posted.
fn tips<R: Read + ?Sized>(turn: &Turn<'_, '_, R>, feed: &FeedId) -> Result<Vec<End>, StoreError> {
    Ok(turn.tx.get(&tips_key(feed))?.unwrap_or_default())
}

fn tips_key(feed: &FeedId) -> Vec<u8> {
    named(b"!branch tips", feed)
}

fn denied(feed: FeedId, cause: &str) -> Reply {
    Reply::Denied(Denial::Branch { feed, cause: cause.to_owned() })
}

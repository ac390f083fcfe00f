//! Forked journals: the proof, and the other branch, posted beside the one the hub holds.
//!
//! Only an operator fences; until then a forked life gets no lease and no rights. Leaves to others: finding the branch
//! (a cloned or rolled-back box has it), proofs at edges (`mesh`).

use super::journal::Place;
use super::{CoreError, Effect, Hub, Reply, Turn};
use crate::refusal::{Cause, Refusal};
use std::collections::BTreeSet;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::Entry;
use yika_crdt::feed::{self, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::store::Read;

impl Hub {
    /// A peer shows that a feed of its ends otherwise than here.
    pub(super) fn diverged<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        head: SignedHead,
    ) -> Result<Reply, CoreError> {
        let ours = turn.tx.end_at(&head.feed, head.end.seq)?;
        if ours.is_some_and(|ours| ours != head.end)
            && let Some(own) = turn.tx.head_from(&head.feed, head.end.seq)?
            && self.mesh.prove_fork(turn.tx, &own, &head)
        {
            self.alarm_fork(turn, head.feed, head.end.seq);
        }
        Ok(Reply::Done)
    }

    fn alarm_fork<R: Read + ?Sized>(&self, turn: &mut Turn<'_, '_, R>, feed: FeedId, seq: Seq) {
        let detail =
            format!("{feed} was written twice up to {seq}: fence {} if it was cloned or restored", feed.writer);
        Hub::alarm(turn, Place { feed, seq, branch: None }, "fork", detail);
        turn.effects.push(Effect::Forked(feed));
    }

    /// Posts the entries of a journal's other branch. Idempotent by entry; the run begins where both are still one.
    pub(super) fn branch<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        run: Run,
    ) -> Result<Reply, CoreError> {
        let feed = run.head.feed;
        let Some(node) = self.mesh.nodes.get(&feed.writer) else {
            return Ok(denied(feed, "the registry does not list this writer"));
        };
        if feed.channel != Channel::Journal || run.from == Seq::ZERO {
            return Ok(denied(feed, "only journals are posted twice"));
        }
        let Some(base) = turn.tx.end_at(&feed, Seq(run.from.0 - 1))? else {
            return Ok(denied(feed, "begin the branch at most one after what is held"));
        };
        if let Err(refused) = feed::check_run(base, &run, &node.key) {
            return Ok(denied(feed, &refused.to_string()));
        }
        let mut touched = BTreeSet::new();
        let mut other = false;
        for (seq, bytes) in (run.from.0..).map(Seq).zip(&run.entries) {
            let ours = turn.tx.entry(&feed, seq)?;
            other |= ours.as_ref().is_some_and(|ours| ours != bytes);
            if !other {
                continue;
            }
            let place = Place { feed, seq, branch: Some(feed::entry_hash(&feed, seq, bytes)) };
            if turn.tx.get_bytes(&place.branch_key())?.is_none() {
                turn.tx.put_bytes(place.branch_key(), bytes.clone());
                if let Ok(entry) = Entry::decode(bytes) {
                    self.post(turn, place, &entry, &mut touched)?;
                }
            }
        }
        if other {
            let own = turn.tx.head_from(&feed, run.head.end.seq)?;
            let own = own.unwrap_or_else(|| run.head.clone());
            turn.tx.put(yika_crdt::keys::fork(&feed), &(own, &run.head));
            self.mesh.forked.insert(feed.writer);
            self.alarm_fork(turn, feed, run.head.end.seq);
        }
        Ok(Reply::Done)
    }
}

fn denied(feed: FeedId, cause: &str) -> Reply {
    Reply::Denied(Refusal::Branch { feed, cause: Cause(cause.to_owned()) })
}

//! Taking back what this node has lost of its own feeds, and noticing that somebody else writes with its key.
//!
//! A run of an own feed that continues what is held was written by this node before its database was put back or lost
//! its last pages: it is stored and everything it did to counters, marks and rights is done again. One that leads to another
//! end at a position of this node's own, signed with its key, proves a fork. Leaves to others: when to ask (`gate`), foreign
//! feeds (`mesh`), what an entry does (`sale`).

use crate::channel::{Channel, FeedId};
use crate::edge::{Edge, Reply};
use crate::entry::*;
use crate::feed::{self, End, FeedError, Run, SignedHead};
use crate::gate::Shut;
use crate::ids::Seq;
use crate::keys;
use crate::mesh::{Event, RunRefused};
use crate::proof;
use crate::sale::{self, Now, SaleError};
use crate::store::{IngestError, Read, StoreError, Tx};
use crate::sync::{before, further};

impl Edge {
    /// Stores a run of this node's own feed and does again what its entries did.
    pub(crate) fn take_back<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        run: Run,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<Reply, SaleError> {
        let head = run.head.clone();
        let held = tx.feed(&head.feed)?.end;
        let shows_entries = !run.entries.is_empty();
        let mut taken = Vec::new();
        match self.mesh.ingest(tx, run.clone(), &mut taken) {
            Ok(end) if end.seq > held.seq => {
                proof::hit("taken_back");
                for event in taken {
                    self.redo(tx, head.feed, &event, events)?;
                    events.push(event);
                }
                if self.shut.is_none() {
                    // Too late to have been asked for, and nothing was written on top: no harm, but worth a word.
                    let detail = format!("{} was taken back from {} to {} while writing", head.feed, held.seq, end.seq);
                    self.alarm(tx, "rollback", detail, now, events)?;
                }
                Ok(Reply::Stored(head.feed, end.seq))
            }
            Ok(_) => self.own_branch(tx, held, run, now, events),
            Err(RunRefused::Ingest(IngestError::Feed(FeedError::NotTheSignedChain(_)))) if shows_entries => {
                self.own_branch(tx, held, run, now, events)
            }
            Err(RunRefused::Ingest(IngestError::Store(error))) => Err(error.into()),
            Err(refused) => Ok(Reply::Refused(refused)),
        }
    }

    /// A run of an own feed that adds nothing: held already, another branch, or a head of this node's own with entries
    /// that are not its. Only two ends at one position prove a fork; where this run shows no such thing, more is wanted.
    fn own_branch<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        held: End,
        run: Run,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<Reply, SaleError> {
        let (feed, from) = (run.head.feed, run.from);
        if !self.is_signed(&run.head) {
            return Ok(Reply::Refused(FeedError::NotTheSignedChain(feed).into()));
        }
        let is_fork = match tx.end_at(&feed, run.head.end.seq)? {
            Some(ours) => ours != run.head.end,
            None => leads_elsewhere(tx, held, &run)?,
        };
        let refused = Reply::Refused(FeedError::NotTheSignedChain(feed).into());
        if is_fork {
            self.forked_by_another(tx, run.head, now, events)?;
            return Ok(refused);
        }
        // A position before what is kept cannot be judged: this node may well have signed that head itself.
        if run.head.end.seq <= held.seq {
            return Ok(Reply::Stored(feed, held.seq));
        }
        let wanted =
            if from > held.seq { Some(before(held.seq)).filter(|b| *b < from) } else { further(held.seq, from) };
        Ok(wanted.map_or(refused, |from| Reply::Branch { feed, from }))
    }

    /// A peer shows that a feed ends otherwise at a position: two signed branches are proof, of a foreign feed an
    /// alarm, of an own one the end of appending.
    pub(crate) fn diverged<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        head: SignedHead,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<Reply, SaleError> {
        if !self.is_signed(&head) {
            return Ok(Reply::Done);
        }
        let differs = tx.end_at(&head.feed, head.end.seq)?.is_some_and(|ours| ours != head.end);
        if !differs {
            return Ok(Reply::Done);
        }
        if head.feed.writer == self.mesh.me {
            self.forked_by_another(tx, head, now, events)?;
            return Ok(Reply::Done);
        }
        if let Some(own) = tx.head_from(&head.feed, head.end.seq)? {
            self.forked_a_feed(tx, &own, &head, now, events)?;
        }
        Ok(Reply::Done)
    }

    /// Whether a run of another node's feed is of another branch than is held: whoever brings it, two heads that its
    /// writer has signed are the proof.
    pub(crate) fn shows_a_fork<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        run: &Run,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<bool, SaleError> {
        let (feed, end) = (run.head.feed, run.head.end);
        let held = tx.feed(&feed)?.end;
        // What goes on where this node stands, or was sent twice, is no reason to look further.
        if end == held || run.from > held.seq || !self.is_signed(&run.head) {
            return Ok(false);
        }
        if end.seq > held.seq {
            let elsewhere = leads_elsewhere(tx, held, run)?;
            if elsewhere && let Some(own) = tx.head_from(&feed, held.seq)? {
                self.forked_a_feed(tx, &run.head, &own, now, events)?;
            }
            return Ok(elsewhere);
        }
        let differs = tx.end_at(&feed, end.seq)?.is_some_and(|ours| ours != end);
        if differs && let Some(own) = tx.head_from(&feed, end.seq)? {
            self.forked_a_feed(tx, &own, &run.head, now, events)?;
        }
        Ok(differs)
    }

    /// Keeps the proof that a writer has forked its feed, once, with an alarm; `one` covers the position of `other`.
    fn forked_a_feed<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        one: &SignedHead,
        other: &SignedHead,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<(), SaleError> {
        let feed = one.feed;
        if tx.get_bytes(&keys::fork(&feed))?.is_none() && self.mesh.prove_fork(tx, one, other) {
            events.push(Event::Forked(feed));
            let detail = format!("{feed} was written twice up to {}", other.end.seq);
            self.alarm(tx, "fork", detail, now, events)?;
        }
        Ok(())
    }

    /// Whether a head is its writer's own: rubbish costs a look at its signature, not one at the feed.
    fn is_signed(&self, head: &SignedHead) -> bool {
        self.mesh.nodes.get(&head.feed.writer).is_some_and(|node| head.verify(&node.key).is_ok())
    }

    /// Another box writes with this one's key, as it has signed: nothing is appended from here on, also after a restart.
    fn forked_by_another<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        head: SignedHead,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<(), SaleError> {
        if self.shut.is_some_and(|shut| shut.is_for_ever()) || proof::sown("own_fork_not_heard") {
            return Ok(());
        }
        proof::hit("own_fork_heard");
        tx.put(keys::FORKED.to_vec(), &head);
        self.shut = Some(Shut::Forked);
        events.push(Event::Forked(head.feed));
        let detail = format!("another box writes {} with this box's key, up to {}", head.feed, head.end.seq);
        self.alarm(tx, "fork", detail, now, events)
    }

    pub(crate) fn alarm<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        kind: &str,
        detail: String,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<(), SaleError> {
        let body = Body::Alarm(AlarmRecord { kind: kind.into(), detail });
        // One of too many that wait tells nothing new.
        self.append_or_hold(tx, Entry { stamp: now.stamp, body }, events).map(|_| ())
    }

    /// What an entry of this node's own did when it was written.
    fn redo<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        feed: FeedId,
        event: &Event,
        events: &mut Vec<Event>,
    ) -> Result<(), SaleError> {
        match event {
            _ if proof::sown("taken_back_and_not_done_again") => Ok(()),
            Event::Journal { seq, entry, .. } => {
                sale::mark_again(tx, feed, *seq, &entry.body);
                self.attempt(tx, (feed, *seq), events, |edge, tx, _| {
                    sale::redo_journal(&edge.mesh, tx, feed, *seq, entry)
                })
            }
            Event::Granted { seq, grant, .. } => {
                let Channel::Rights(receiver) = feed.channel else { return Ok(()) };
                self.attempt(tx, (feed, *seq), events, |_, tx, _| {
                    let mut rights = sale::rights_of(tx, grant.row)?;
                    let given = rights.row(grant.row.wallet)?.granted_out.entry(receiver).or_default();
                    *given = (*given).max(grant.total);
                    sale::put_rights(tx, grant.row, &rights);
                    Ok(())
                })
            }
            _ => Ok(()),
        }
    }
}

/// Whether a run of an own feed that ends beyond what is held goes from this node's own chain to the signed end by
/// another way: its entries are then another branch, and not rubbish under an old head.
fn leads_elsewhere<R: Read + ?Sized>(tx: &Tx<'_, R>, held: End, run: &Run) -> Result<bool, StoreError> {
    let feed = run.head.feed;
    let Some(before) = run.from.0.checked_sub(1).map(Seq).filter(|before| *before < held.seq) else { return Ok(false) };
    let Some(mut end) = tx.end_at(&feed, before)? else { return Ok(false) };
    let mut at_held = None;
    for entry in &run.entries {
        end = feed::link(&feed, end, entry);
        at_held = at_held.or((end.seq == held.seq).then_some(end));
    }
    Ok(end == run.head.end && at_held.is_some_and(|end| end != held))
}

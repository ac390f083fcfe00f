//! A box and its own past: feeds written twice, by a copy of it or by itself after its database was put back, and
//! entries of its own that it takes back from peers.
//!
//! Leaves to others: the mirror of the journal's end beside the key (the shell), proofs (`mesh`).

use super::{Edge, Reply};
use crate::channel::Channel;
use crate::entry::*;
use crate::feed::{FeedError, SignedHead};
use crate::mesh::Event;
use crate::sale::{self, Now, SaleError};
use crate::store::{Read, Tx};

impl Edge {
    /// A peer shows that a feed ends otherwise than here.
    pub(super) fn diverged<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        head: &SignedHead,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<Reply, SaleError> {
        let proved = match head.feed.writer == self.mesh.me {
            true => self.mesh.own_fork(tx, head)?,
            false => match tx.head_from(&head.feed, head.end.seq)? {
                Some(held) => self.mesh.prove_fork(tx, &held, head),
                None => false,
            },
        };
        if proved {
            self.alarm_fork(tx, head, now, events)?;
        }
        Ok(Reply::Done)
    }

    /// Somebody holds entries that this box's key signed and that do not continue its feed.
    pub(super) fn own_branch<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        head: &SignedHead,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<(), SaleError> {
        let key = self.mesh.nodes.get(&self.mesh.me).map(|node| node.key);
        let signed = key.ok_or(FeedError::BadSignature(head.feed)).and_then(|key| head.verify(&key));
        if signed.is_ok() && !self.mesh.forked.contains(&self.mesh.me) {
            self.mesh.mark_forked(tx, head);
            self.alarm_fork(tx, head, now, events)?;
        }
        Ok(())
    }

    fn alarm_fork<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        head: &SignedHead,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<(), SaleError> {
        events.push(Event::Forked(head.feed));
        let detail = format!("{} was written twice up to {}", head.feed, head.end.seq);
        self.alarm(tx, "fork", detail, now, events)
    }

    /// Entries of this box's own that its database had lost come back from a peer: what they moved is moved again.
    pub(super) fn take_back<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        events: &[Event],
    ) -> Result<(), SaleError> {
        for event in events {
            match event {
                Event::Journal { feed, seq, entry } => sale::take_back(&self.mesh, tx, *feed, *seq, entry)?,
                Event::Granted { feed, grant, .. } => {
                    let Channel::Rights(receiver) = feed.channel else { continue };
                    let mut rights = sale::rights_of(tx, grant.row)?;
                    let given = rights.row(grant.row.wallet)?.granted_out.entry(receiver).or_default();
                    *given = grant.total.max(*given);
                    sale::put_rights(tx, grant.row, &rights);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

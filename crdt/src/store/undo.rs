//! A savepoint within a turn: what is written after [`Tx::save`] can be taken back alone.
//!
//! What was there before is moved into a log, never copied, so that a turn without failures pays next to nothing. Leaves
//! to others: when an entry fails (`mesh`, the hub), the turn itself (`store`).

use super::{Appended, Batch, Read, Tx};
use crate::channel::FeedId;
use crate::feed::End;
use crate::ids::Seq;

/// One write, as it is taken back.
pub(super) enum Undo {
    /// A state row held this in the batch.
    State(Vec<u8>, Option<Option<Vec<u8>>>),
    /// An entry was appended; where the feed ended in the batch, if it had entries there.
    Entry(FeedId, Option<End>),
    /// A head was kept with a feed's entries.
    FeedHead(FeedId),
    /// A head was kept.
    Head,
    /// A feed was pruned up to here in the batch.
    Prune(FeedId, Option<Seq>),
    /// A feed took a base; what the batch held of it.
    Base(FeedId, Option<End>, Option<Appended>, Option<Seq>),
}

/// Writes since the savepoint, if one is set.
#[derive(Default)]
pub(super) struct UndoLog {
    is_set: bool,
    writes: Vec<Undo>,
}

impl UndoLog {
    /// Notes a write where a savepoint is set.
    pub(super) fn note(&mut self, write: impl FnOnce() -> Undo) {
        if self.is_set {
            self.writes.push(write());
        }
    }

    /// Notes what a state row held; the key is copied only where a savepoint is set.
    pub(super) fn note_state(&mut self, batch: &mut Batch, key: Vec<u8>, value: Option<Vec<u8>>) {
        if !self.is_set {
            batch.state.insert(key, value);
            return;
        }
        let before = batch.state.insert(key.clone(), value);
        self.writes.push(Undo::State(key, before));
    }
}

impl<S: Read + ?Sized> Tx<'_, S> {
    /// Sets the savepoint here. There is one at a time: a later one takes its place.
    pub fn save(&mut self) {
        self.undo.is_set = true;
        self.undo.writes.clear();
    }

    /// What was written since the savepoint stays.
    pub fn release(&mut self) {
        self.undo.is_set = false;
        self.undo.writes.clear();
    }

    /// Takes back everything that was written since the savepoint.
    pub fn roll_back(&mut self) {
        self.undo.is_set = false;
        while let Some(write) = self.undo.writes.pop() {
            take_back(&mut self.batch, write);
        }
    }
}

fn take_back(batch: &mut Batch, write: Undo) {
    match write {
        Undo::State(key, Some(before)) => _ = batch.state.insert(key, before),
        Undo::State(key, None) => _ = batch.state.remove(&key),
        Undo::Entry(feed, None) => _ = batch.appended.remove(&feed),
        Undo::Entry(feed, Some(end)) => {
            if let Some(appended) = batch.appended.get_mut(&feed) {
                appended.entries.pop();
                appended.end = end;
            }
        }
        Undo::FeedHead(feed) => _ = batch.appended.get_mut(&feed).and_then(|appended| appended.heads.pop()),
        Undo::Head => _ = batch.heads.pop(),
        Undo::Prune(feed, Some(upto)) => _ = batch.prune.insert(feed, upto),
        Undo::Prune(feed, None) => _ = batch.prune.remove(&feed),
        Undo::Base(feed, base, appended, prune) => {
            match base {
                Some(base) => _ = batch.bases.insert(feed, base),
                None => _ = batch.bases.remove(&feed),
            }
            if let Some(appended) = appended {
                batch.appended.insert(feed, appended);
            }
            if let Some(prune) = prune {
                batch.prune.insert(feed, prune);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use crate::channel::Channel;
    use crate::feed::SignedHead;
    use crate::ids::{Incarnation, NodeId, Writer};
    use crate::store::MemoryStore;
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;

    fn feed(node: u8) -> FeedId {
        let incarnation = Incarnation { generation: 1, counter: 1 };
        FeedId { writer: Writer { node: NodeId(u32::from(node)), incarnation }, channel: Channel::Journal }
    }

    fn write(tx: &mut Tx<'_, MemoryStore>, act: u8, of: u8, value: u8) {
        let head = || SignedHead::sign(feed(of), End::default(), &SigningKey::from_bytes(&[1; 32]));
        match act {
            0 => tx.put_bytes(vec![of], vec![value]),
            1 => tx.delete(vec![of]),
            2 => _ = tx.append(feed(of), vec![value]).unwrap(),
            3 => tx.prune(feed(of), Seq(u64::from(value))),
            4 => tx.keep_head(head()),
            5 => {
                let run = crate::feed::Run { from: Seq(1), entries: vec![vec![value]], head: head() };
                tx.take_run(&run).unwrap();
            }
            _ => _ = tx.take_base(feed(of), End { seq: Seq(u64::from(value)), ..End::default() }).unwrap(),
        }
    }

    proptest! {
        /// After a roll-back the batch is what it was at the savepoint, and later writes go on from there.
        #[test]
        fn nothing_stays_of_what_is_taken_back(
            before in prop::collection::vec((0u8..7, 0u8..3, 0u8..20), 0..20),
            undone in prop::collection::vec((0u8..7, 0u8..3, 0u8..20), 0..20),
            after in prop::collection::vec((0u8..7, 0u8..3, 0u8..20), 0..20),
        ) {
            let store = MemoryStore::default();
            let (mut tx, mut model) = (Tx::new(&store), Tx::new(&store));
            before.iter().for_each(|(act, of, value)| write(&mut tx, *act, *of, *value));
            tx.save();
            undone.iter().for_each(|(act, of, value)| write(&mut tx, *act, *of, *value));
            tx.roll_back();
            before.iter().for_each(|(act, of, value)| write(&mut model, *act, *of, *value));
            prop_assert_eq!(tx.batch(), model.batch());
            tx.save();
            after.iter().for_each(|(act, of, value)| write(&mut tx, *act, *of, *value));
            tx.release();
            tx.roll_back();
            after.iter().for_each(|(act, of, value)| write(&mut model, *act, *of, *value));
            prop_assert_eq!(tx.batch(), model.batch());
        }
    }
}

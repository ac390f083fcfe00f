//! What a snapshot says of blocks, the registry and the ends of feeds, taken in beside what this node holds.
//!
//! Leaves to others: documents (`documents`), whether the snapshot is sound (`snapshot::Check`).

use super::{Event, Mesh};
use crate::channel::{Channel, FeedId};
use crate::ids::Seq;
use crate::keys;
use crate::proof;
use crate::snapshot::{Item, Manifest};
use crate::store::{Read, StoreError, Tx};

impl Mesh {
    /// A block or lift: what more entries would say, too.
    pub(crate) fn restore_word<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        item: &Item,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        match item {
            Item::Lift(block, scope) => self.lift_one(tx, *block, *scope, events),
            Item::LiftRange(range) => {
                self.lift_range(tx, range, events);
                Ok(())
            }
            Item::Block(row) if !proof::sown("snapshot_without_blocks") => {
                self.put_block(tx, row, events);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether the registry of a snapshot is newer than this node's: every feed of it held at most so far.
    pub(crate) fn is_newer_registry<R: Read + ?Sized>(
        &self,
        tx: &Tx<'_, R>,
        manifest: &Manifest,
    ) -> Result<bool, StoreError> {
        let mut newer = false;
        for (feed, base) in manifest.feeds.iter().filter(|(feed, _)| feed.channel == Channel::Registry) {
            let held = tx.feed(feed)?.end.seq;
            if held > base.seq {
                return Ok(false);
            }
            newer |= held < base.seq;
        }
        // A life of the hub that the snapshot has not heard of has said more.
        for (feed, held) in tx.feeds()?.into_iter().filter(|(feed, _)| feed.channel == Channel::Registry) {
            if held.end.seq > Seq::ZERO && manifest.base(&feed).is_none() {
                return Ok(false);
            }
        }
        Ok(newer)
    }

    /// What cursors rest on, documents apart, and the bases. Gives the feeds that go on from theirs.
    pub(crate) fn close_snapshot<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        items: &[&Item],
        registry: bool,
        events: &mut Vec<Event>,
    ) -> Result<Vec<FeedId>, StoreError> {
        let mut based = Vec::new();
        for item in items {
            match item {
                Item::Registry(body) if registry => self.apply_registry(tx, (**body).clone(), events)?,
                Item::Quarantined { feed, seq, cause } => {
                    let key = keys::quarantine(feed, *seq);
                    if tx.get_bytes(&key)?.is_none() {
                        tx.put(key, cause);
                        self.quarantined += 1;
                    }
                }
                Item::Fork(proof) => {
                    let key = keys::fork(&proof.0.feed);
                    if tx.get_bytes(&key)?.is_none() {
                        tx.put(key, &**proof);
                        self.forked.insert(proof.0.feed.writer);
                    }
                }
                // Of its own feeds a node takes back entries, so that another branch of them shows.
                Item::Head(head) if head.feed.writer == self.me => {}
                Item::Head(head) if head.feed.channel == Channel::Registry && !registry => {}
                Item::Head(head) if tx.take_base(head.feed, head.end)? => {
                    tx.keep_head(head.clone());
                    based.push(head.feed);
                }
                _ => {}
            }
        }
        Ok(based)
    }

    /// Lets entries go that headquarters says every node may let go, a bounded number a turn. True if there is more.
    ///
    /// # Errors
    /// Storage.
    pub fn drop_entries<R: Read + ?Sized>(
        tx: &mut Tx<'_, R>,
        drop: &[(FeedId, Seq)],
        entries_max: u64,
    ) -> Result<bool, StoreError> {
        let mut left = entries_max;
        for (feed, upto) in drop {
            let held = tx.feed(feed)?;
            let upto = Seq(upto.0.min(held.end.seq.0).min(held.pruned.0.saturating_add(left)));
            if upto > held.pruned {
                left -= upto.0 - held.pruned.0;
                tx.prune(*feed, upto);
            }
            if left == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

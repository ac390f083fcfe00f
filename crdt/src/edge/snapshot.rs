//! The edge's part in snapshots: one step a turn, each a sound state of the box.
//!
//! Leaves to others: checking and cutting into steps (`crate::snapshot`), fetching and files (the shell).

use super::{Edge, Reply};
use crate::documents::Found;
use crate::mesh::{Event, Mesh};
use crate::sale::Now;
use crate::snapshot::{Item, Piece, Step};
use crate::store::{Read, StoreError, Tx};

/// Most entries let go in one turn: deleting holds up what waits.
pub const DROP_ENTRIES_MAX: u64 = 2_000;

impl Edge {
    /// Takes in one step of a checked snapshot.
    pub(super) fn restore<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        step: &Step,
        now: &Now,
        events: &mut Vec<Event>,
    ) -> Result<Reply, StoreError> {
        let say = self.say(now);
        let mut closing: Vec<&Item> = Vec::new();
        for piece in &step.pieces {
            match piece {
                Piece::Item(item) if step.closing.is_some() => closing.push(item),
                Piece::Item(item) => self.mesh.restore_word(tx, item, events)?,
                Piece::Document(saved, patch) => {
                    let found = Found { saved, patch, rebases: &step.rebases };
                    if !self.documents.restore(&mut self.mesh, tx, say, found, events)? {
                        return Ok(Reply::Denied(
                            "this box has changes of its own to say again and may not append yet; start it, let it \
                             reach a peer, and try again"
                                .into(),
                        ));
                    }
                }
            }
        }
        if let Some(signed) = &step.closing {
            let registry = self.mesh.is_newer_registry(tx, &signed.manifest)?;
            for item in &closing {
                if let Item::Rebase(record) = item
                    && registry
                {
                    // What was ordered before is no news.
                    let _known = self.documents.order_rebase(&self.mesh, tx, record)?;
                }
            }
            self.mesh.close_snapshot(tx, &closing, registry, events)?;
            self.documents.turn_epochs(&mut self.mesh, tx, say, events)?;
        }
        Ok(Reply::Done)
    }

    /// Lets entries go that headquarters says every node may let go.
    pub(super) fn drop_entries<R: Read + ?Sized>(
        tx: &mut Tx<'_, R>,
        drop: &[(crate::channel::FeedId, crate::ids::Seq)],
    ) -> Result<Reply, StoreError> {
        Ok(if Mesh::drop_entries(tx, drop, DROP_ENTRIES_MAX)? { Reply::More } else { Reply::Done })
    }
}

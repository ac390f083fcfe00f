//! An entry that cannot be posted: what it did is taken back, it goes to quarantine, the rest of its run goes on.
//!
//! Leaves to others: entries that cannot be read or used at all (`Mesh::apply`), failures of storage and books that do
//! not balance, which stop the turn.

use super::journal::Place;
use super::{CoreError, Effect, Hub, Turn};
use std::collections::BTreeSet;
use yika_crdt::channel::FeedId;
use yika_crdt::ids::{PersonId, Seq};
use yika_crdt::store::Read;

impl Hub {
    /// Posts what an entry says, or sets the entry aside where that comes to sums that cannot be. Whose wallets it
    /// moved is noted in `touched`.
    pub(super) fn attempt<'t, 's, R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'t, 's, R>,
        place: Place,
        touched: &mut BTreeSet<PersonId>,
        post: impl FnOnce(&mut Hub, &mut Turn<'t, 's, R>) -> Result<Option<PersonId>, CoreError>,
    ) -> Result<(), CoreError> {
        let before = (turn.rows.len(), turn.effects.len(), turn.events.len());
        turn.tx.save();
        turn.books.save();
        let posted = post(self, turn).and_then(|person| turn.books.check_saved().map(|()| person));
        match posted {
            Ok(person) => {
                turn.tx.release();
                turn.books.release();
                touched.extend(person);
                Ok(())
            }
            Err(CoreError::Wallet(cause)) => self.set_aside(turn, place, before, cause.to_string()),
            Err(CoreError::Sum(cause)) => self.set_aside(turn, place, before, cause.to_string()),
            Err(error @ (CoreError::Store(_) | CoreError::Unbalanced { .. })) => Err(error),
        }
    }

    fn set_aside<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        place: Place,
        (rows, effects, events): (usize, usize, usize),
        cause: String,
    ) -> Result<(), CoreError> {
        turn.tx.roll_back();
        turn.books.roll_back();
        turn.rows.truncate(rows);
        turn.effects.truncate(effects);
        turn.events.truncate(events);
        self.mesh.quarantine(turn.tx, place.feed, place.seq, cause.clone(), &mut Vec::new())?;
        self.tell_quarantined(turn, place.feed, place.seq, cause);
        Ok(())
    }

    /// An entry is in quarantine: somebody must look.
    pub(super) fn tell_quarantined<R: Read + ?Sized>(
        &self,
        turn: &mut Turn<'_, '_, R>,
        feed: FeedId,
        seq: Seq,
        cause: String,
    ) {
        Hub::alarm(turn, Place { feed, seq, branch: None }, "quarantine", format!("{feed} #{seq}: {cause}"));
        turn.effects.push(Effect::Quarantined { feed, seq, cause });
    }
}

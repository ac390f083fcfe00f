//! A box gets its share of everybody's money when it is served for the first time, and not before: what lies at a box that
//! nobody has switched on is missing at those that sell.
//!
//! People are looked at in bounded portions, turn by turn; who eats or pays in meanwhile is levelled at once (`grant`).
//! Leaves to others: how much a share is (`rights`), leases (`receipts`).

use super::{CoreError, Hub, Turn};
use serde::{Deserialize, Serialize};
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::store::{Read, StoreError};

/// People looked at in one turn.
const SHARED_PERSONS_MAX: usize = 500;
/// The round through everybody, while there is one.
const ROUND: &[u8] = b"!sharing";

/// How far the round is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Round {
    /// The last person looked at.
    after: Option<Vec<u8>>,
    /// A box was served for the first time since it began: once more from the beginning.
    again: bool,
}

impl Hub {
    /// The boxes that have a share of somebody's money.
    pub(super) fn sharing_boxes<R: Read + ?Sized>(
        &self,
        turn: &Turn<'_, '_, R>,
        person: PersonId,
    ) -> Result<Vec<Writer>, StoreError> {
        let mut sharing = Vec::new();
        for writer in self.home_boxes(person).into_iter().filter(|writer| self.may_grant(*writer)) {
            if self.was_served(turn, writer)? {
                sharing.push(writer);
            }
        }
        Ok(sharing)
    }

    /// Whether a life was ever given a lease: without one it could spend nothing.
    pub(super) fn was_served<R: Read + ?Sized>(
        &self,
        turn: &Turn<'_, '_, R>,
        writer: Writer,
    ) -> Result<bool, StoreError> {
        Ok(self.lease_end_ms(turn, writer)? > 0)
    }

    /// A box is served for the first time: from here on it has a share.
    pub(super) fn begin_shares<R: Read + ?Sized>(&self, turn: &mut Turn<'_, '_, R>) -> Result<(), StoreError> {
        let round = turn.tx.get::<Round>(ROUND)?;
        turn.tx.put(ROUND.to_vec(), &round.map_or_else(Round::default, |round| Round { again: true, ..round }));
        Ok(())
    }

    /// Goes on with the round. A restored hub waits until it may grant.
    pub(super) fn share_on<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        let Some(round) = turn.tx.get::<Round>(ROUND)?.filter(|_| self.recovery.is_none()) else { return Ok(()) };
        let rows = turn.tx.scan(keys::RIGHTS, round.after.as_deref(), SHARED_PERSONS_MAX)?;
        let is_last = rows.len() < SHARED_PERSONS_MAX;
        for (row, _) in &rows {
            if let Some(person) = keys::person_of_rights(row) {
                self.share_out(turn, person)?;
            }
        }
        match rows.into_iter().next_back().filter(|_| !is_last) {
            Some((after, _)) => turn.tx.put(ROUND.to_vec(), &Round { after: Some(after), ..round }),
            None if round.again => turn.tx.put(ROUND.to_vec(), &Round::default()),
            None => turn.tx.delete(ROUND.to_vec()),
        }
        Ok(())
    }
}

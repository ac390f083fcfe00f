//! What documents need as time passes (design section 3): a new epoch without its history at least yearly, and visits
//! that are long over erased, with the documents they stood in.
//!
//! A pure function of the hub's time and what it holds: once a day each document is looked at, a few a tick, and at most
//! one of them is worked on. Leaves to others: how an epoch is turned (`yika_crdt::documents`).

use super::{CoreError, HUB_UTC_OFFSET_MINUTES, Hub, Reply, Turn, named};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Bound;
use yika_crdt::civil;
use yika_crdt::docs::DocKind;
use yika_crdt::documents::Author;
use yika_crdt::ids::*;
use yika_crdt::store::{Read, StoreError};

/// A document's history is let go after so many days.
pub const EPOCH_DAYS_MAX: i32 = 365;
/// Visits stay for so many days after the last validity of their document has ended.
pub const VISITS_KEPT_DAYS: i32 = 35;
/// Visits erased in one turn.
const VISITS_ERASED_MAX: usize = 64;
/// Documents looked at in one turn.
const DOCUMENTS_LOOKED_AT_MAX: usize = 32;
const ROUND: &[u8] = b"!upkeep";

/// Today's round through the documents.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Round {
    day: Day,
    /// The last one looked at.
    after: Option<DocKind>,
    done: bool,
}

/// What was done for a document.
#[derive(PartialEq, Eq)]
enum Kept {
    /// It needs nothing.
    Well,
    /// Something, and more is to be done.
    Begun,
    /// What it needed.
    Done,
}

impl Hub {
    /// Goes on with today's round. A restored hub waits until it knows again what it had ordered.
    pub(super) fn keep_up<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        let day = self.today(turn);
        let round: Option<Round> = turn.tx.get(ROUND)?;
        let mut round = round.filter(|round| round.day >= day).unwrap_or(Round { day, after: None, done: false });
        if round.done || self.recovery.is_some() {
            return Ok(());
        }
        let campuses: Vec<CampusId> = self.mesh.campuses.keys().copied().collect();
        let mut kinds = BTreeSet::new();
        for campus in campuses {
            kinds.extend(self.documents.kinds_of(&self.mesh, turn.tx, campus)?);
        }
        let from = round.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut next = kinds.range((from, Bound::Unbounded)).copied().take(DOCUMENTS_LOOKED_AT_MAX);
        loop {
            let Some(kind) = next.next() else {
                round.done = round.after.as_ref() == kinds.last() || kinds.is_empty();
                break;
            };
            match self.keep_up_one(turn, kind)? {
                Kept::Well => round.after = Some(kind),
                Kept::Begun => break,
                Kept::Done => {
                    round.after = Some(kind);
                    break;
                }
            }
        }
        turn.tx.put(ROUND.to_vec(), &round);
        Ok(())
    }

    fn keep_up_one<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>, kind: DocKind) -> Result<Kept, CoreError> {
        let over = match kind {
            DocKind::Visitors { campus, month } => match self.erase_if_over(turn, (campus, month))? {
                Kept::Begun => return Ok(Kept::Begun),
                kept => kept == Kept::Done,
            },
            _ => false,
        };
        if !over && !self.is_epoch_old(turn, kind)? || !self.documents.opens(turn.tx, kind)? {
            return Ok(Kept::Well);
        }
        Ok(match self.rebase(turn, kind)? {
            Reply::Done => Kept::Done,
            // One is under way: looked at again tomorrow.
            _ => Kept::Well,
        })
    }

    /// Whether a document has been in its epoch for a year, as far as this hub has seen it.
    fn is_epoch_old<R: Read + ?Sized>(&self, turn: &mut Turn<'_, '_, R>, kind: DocKind) -> Result<bool, StoreError> {
        let (epoch, today) = (self.documents.epoch(turn.tx, kind)?, self.today(turn));
        let key = named(b"!epoch", &kind);
        let seen: Option<(u32, Day)> = turn.tx.get(&key)?;
        match seen.filter(|(of, _)| *of == epoch) {
            Some((_, since)) => Ok(today.0.saturating_sub(since.0) >= EPOCH_DAYS_MAX),
            None => {
                turn.tx.put(key, &(epoch, today));
                Ok(false)
            }
        }
    }

    /// Erases the visits of a document whose last validity has long ended: done when none is left.
    fn erase_if_over<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        (campus, month): (CampusId, u16),
    ) -> Result<Kept, CoreError> {
        let kind = DocKind::Visitors { campus, month };
        let today = self.today(turn);
        let is_over = |day: Day| day.0.saturating_add(VISITS_KEPT_DAYS) < today.0;
        if !is_over(last_day_of(month)) || !self.documents.opens(turn.tx, kind)? {
            return Ok(Kept::Well);
        }
        let visits = self.documents.visits(turn.tx, kind)?;
        let last_of = |until_ms| civil::civil(until_ms, HUB_UTC_OFFSET_MINUTES).day;
        let lasting = |visit: &&yika_crdt::docs::Visitor| !visit.ended && !is_over(last_of(visit.until_ms));
        if visits.upserted.iter().any(|visit| lasting(&visit)) {
            return Ok(Kept::Well);
        }
        let over: Vec<_> = visits.upserted.iter().map(|visit| visit.visitor).chain(visits.removed).collect();
        if over.is_empty() {
            return Ok(Kept::Done);
        }
        let by = Author { operator: OperatorId(0), stamp: turn.stamp };
        let some = over.into_iter().take(VISITS_ERASED_MAX);
        let written =
            self.documents.erase_visits(&mut self.mesh, turn.tx, by, (campus, month), some, &mut turn.events)?;
        // What cannot be erased stays, and with it the document.
        Ok(if written.is_ok() { Kept::Begun } else { Kept::Well })
    }
}

/// The last day of a month counted from January 1970.
fn last_day_of(month: u16) -> Day {
    let next = i32::from(month) + 1;
    let (year, month) = (1970 + next.div_euclid(12), next.rem_euclid(12));
    let month = time::Month::try_from(u8::try_from(month + 1).unwrap_or(1)).unwrap_or(time::Month::January);
    let first_after = time::Date::from_calendar_date(year, month, 1);
    first_after.map_or(Day(i32::MAX), |date| Day(date.to_julian_day() - 2_440_588 - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_end_where_the_calendar_says() {
        // 1970-01-31, 1972-02-29, 2026-11-30, 2026-12-31.
        for (month, last) in [(0, 30), (25, 789), (682, 20_787), (683, 20_818)] {
            assert_eq!(last_day_of(month), Day(last), "{month}");
        }
    }
}

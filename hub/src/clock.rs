//! The hub's clock: the wall clock that never goes back, nor far ahead in one leap. Its time is what edges are told, and
//! what they were told of the year 2036 could not be taken back.
//!
//! Leaves to others: what an edge makes of it (`yika_crdt::clock`).

use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};
use yika_crdt::civil::DAY_MS;
use yika_crdt::entry::{Entry, Stamp};
use yika_crdt::store::{Read, StoreError};

/// While headquarters runs, a wall clock that leaps further ahead than that is not followed. A virtual machine that was
/// paused overnight leaps less.
pub const LEAP_MS_MAX: i64 = DAY_MS;
/// A headquarters that seems to have been off for longer starts only when an operator says that its clock is right.
pub const OFF_MS_MAX: i64 = 30 * DAY_MS;

/// A clock with a high-water mark.
#[derive(Debug)]
pub struct HubClock {
    newest_ms: i64,
    /// When the wall clock was followed last, and the count of milliseconds since the machine's start then.
    followed: Option<(i64, i64)>,
}

impl HubClock {
    /// Starts after that moment.
    pub fn after(newest_ms: i64) -> HubClock {
        HubClock { newest_ms, followed: None }
    }

    /// Starts after everything that headquarters stamped before, in whatever life: a box that were told an earlier time would
    /// take its lease for good for longer than headquarters does. Most days nothing is said to everybody, but each box is told
    /// its time and its lease.
    ///
    /// # Errors
    /// Of storage.
    pub fn resumed<R: Read + ?Sized>(store: &R) -> Result<HubClock, StoreError> {
        let mut newest_ms = 0;
        for (feed, held) in store.feeds()?.into_iter().filter(|(feed, _)| feed.writer.node.is_hub()) {
            let last = store.entries(&feed, held.end.seq, 1)?;
            let stamp = last.first().and_then(|bytes| Entry::decode(bytes).ok()).map(|entry| entry.stamp.hub_time_ms);
            newest_ms = newest_ms.max(stamp.unwrap_or_default());
        }
        Ok(HubClock::after(newest_ms))
    }

    /// What was stamped last.
    pub fn newest_ms(&self) -> i64 {
        self.newest_ms
    }

    /// How far a wall clock is ahead of what was stamped last, where that is too far to start with: told to boxes, a wrong
    /// time of next year could not be taken back. The first start has nothing to compare with.
    pub fn too_far_ahead_ms(&self, wall_ms: i64) -> Option<i64> {
        let ahead_ms = wall_ms.saturating_sub(self.newest_ms);
        (self.newest_ms > 0 && ahead_ms > OFF_MS_MAX).then_some(ahead_ms)
    }

    /// Stamps what happens now. A wall clock that was set back stands still until it has caught up; one that leapt too far
    /// ahead counts on without it.
    pub fn stamp(&mut self) -> Stamp {
        let mono = clock_gettime(ClockId::Boottime);
        let mono_ms = mono.tv_sec.saturating_mul(1000).saturating_add(mono.tv_nsec / 1_000_000);
        self.go_on(wall_ms(), mono_ms);
        Stamp { hub_time_ms: self.newest_ms, boot: 0, mono_ms: u64::try_from(mono_ms).unwrap_or(0) }
    }

    fn go_on(&mut self, wall_ms: i64, mono_ms: i64) {
        let counted_ms = self.followed.map(|(at_ms, then)| at_ms.saturating_add(mono_ms.saturating_sub(then)));
        match counted_ms {
            Some(counted_ms) if wall_ms.saturating_sub(counted_ms) > LEAP_MS_MAX => {
                self.newest_ms = self.newest_ms.max(counted_ms);
            }
            _ if wall_ms >= self.newest_ms => {
                self.newest_ms = wall_ms;
                self.followed = Some((wall_ms, mono_ms));
            }
            _ => {}
        }
    }
}

/// The wall clock, milliseconds since 1970 (UTC).
pub fn wall_ms() -> i64 {
    // Asked of the C library, where a test can set it wrong; a clock before 1970 is as wrong as one that shows 1970.
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)
}

/// A length of time in its largest unit: the key of seconds, minutes, hours or days, and how many.
pub fn in_largest_unit(ms: i64, [seconds, minutes, hours, days]: [&str; 4]) -> (&str, i64) {
    let length = ms.max(0) / 1_000;
    match length {
        0..60 => (seconds, length),
        60..3_600 => (minutes, length / 60),
        3_600..172_800 => (hours, length / 3_600),
        _ => (days, length / 86_400),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use yika_crdt::channel::{Channel, FeedId};
    use yika_crdt::entry::Body;
    use yika_crdt::ids::{Incarnation, NodeId, Writer};
    use yika_crdt::store::{MemoryStore, Store, Tx};

    /// A start with a wall clock of 1970 goes on after the last word to any box, said in any life; what boxes stamp counts
    /// for nothing.
    #[test]
    fn a_start_goes_on_after_the_last_word_to_any_box() {
        let mut store = MemoryStore::default();
        let life = |node, counter| Writer { node: NodeId(node), incarnation: Incarnation { generation: 1, counter } };
        let mut tx = Tx::new(&store);
        for (writer, channel, hub_time_ms) in [
            (life(0, 1), Channel::Registry, 1_000),
            (life(0, 1), Channel::Receipts(NodeId(7)), 9_000),
            (life(0, 2), Channel::Registry, 2_000),
            (life(7, 1), Channel::Journal, 50_000),
        ] {
            let stamp = Stamp { hub_time_ms, ..Stamp::default() };
            let entry = Entry { stamp, body: Body::Time(hub_time_ms) }.encode();
            tx.append(FeedId { writer, channel }, entry).unwrap();
        }
        let batch = tx.into_batch();
        store.commit(&batch).unwrap();
        assert_eq!(HubClock::resumed(&store).unwrap().newest_ms(), 9_000);
        assert_eq!(HubClock::resumed(&MemoryStore::default()).unwrap().newest_ms(), 0);
    }

    #[test]
    fn time_never_goes_back_behind_what_was_stamped() {
        let ahead = wall_ms() + 1_000_000;
        let mut clock = HubClock::after(ahead);
        assert_eq!(clock.stamp().hub_time_ms, ahead);
        assert!(HubClock::after(0).stamp().hub_time_ms > 1_700_000_000_000);
    }

    /// Rows NFR-1.
    #[test]
    fn a_leap_into_another_year_is_not_followed_and_one_of_hours_is() {
        const NOW: i64 = 1_800_000_000_000;
        const TEN_YEARS: i64 = 3_650 * DAY_MS;
        let mut clock = HubClock::after(NOW - 5_000);
        for (wall_ms, mono_ms, stamped_ms) in [
            (NOW, 1_000, NOW),
            (NOW + TEN_YEARS, 3_000, NOW + 2_000),
            (NOW + TEN_YEARS + 60_000, 63_000, NOW + 62_000),
            (NOW + 62_500, 63_500, NOW + 62_500),
            (NOW + LEAP_MS_MAX, 64_000, NOW + LEAP_MS_MAX),
            (0, 65_000, NOW + LEAP_MS_MAX),
            (i64::MAX, 65_000, NOW + LEAP_MS_MAX + 1_000),
        ] {
            clock.go_on(wall_ms, mono_ms);
            assert_eq!(clock.newest_ms(), stamped_ms, "the wall clock at {wall_ms}");
        }
    }

    #[test]
    fn a_start_with_the_clock_of_another_year_is_told_so_and_the_first_one_is_not() {
        let now_ms = 1_800_000_000_000;
        assert_eq!(HubClock::after(0).too_far_ahead_ms(now_ms), None);
        assert_eq!(HubClock::after(now_ms).too_far_ahead_ms(now_ms + OFF_MS_MAX), None);
        assert_eq!(HubClock::after(now_ms).too_far_ahead_ms(now_ms + OFF_MS_MAX + 1), Some(OFF_MS_MAX + 1));
        assert_eq!(HubClock::after(now_ms).too_far_ahead_ms(0), None);
    }
}

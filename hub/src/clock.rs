//! The hub's clock: the wall clock that never goes back. Its time is what edges are told.
//!
//! Leaves to others: what an edge makes of it (`yika_crdt::clock`).

use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};
use yika_crdt::entry::{Entry, Stamp};
use yika_crdt::store::{Read, StoreError};

/// A clock with a high-water mark.
#[derive(Debug)]
pub struct HubClock {
    newest_ms: i64,
}

impl HubClock {
    /// Starts after that moment.
    pub fn after(newest_ms: i64) -> HubClock {
        HubClock { newest_ms }
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

    /// Stamps what happens now. A wall clock that was set back stands still until it has caught up.
    pub fn stamp(&mut self) -> Stamp {
        self.newest_ms = self.newest_ms.max(wall_ms());
        let mono = clock_gettime(ClockId::Boottime);
        let mono_ms = mono.tv_sec.saturating_mul(1000).saturating_add(mono.tv_nsec / 1_000_000);
        Stamp { hub_time_ms: self.newest_ms, boot: 0, mono_ms: u64::try_from(mono_ms).unwrap_or(0) }
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
}

//! The hub's clock: the wall clock that never goes back. Its time is what edges are told.
//!
//! Leaves to others: what an edge makes of it (`yika_crdt::clock`).

use rustix::time::{ClockId, clock_gettime};
use yika_crdt::entry::Stamp;

/// A clock with a high-water mark.
#[derive(Debug)]
pub struct HubClock {
    newest_ms: i64,
}

impl HubClock {
    /// Starts after everything that was stamped before.
    pub fn after(newest_ms: i64) -> HubClock {
        HubClock { newest_ms }
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
    let wall = clock_gettime(ClockId::Realtime);
    wall.tv_sec.saturating_mul(1000).saturating_add(wall.tv_nsec / 1_000_000)
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
    use super::*;

    #[test]
    fn time_never_goes_back_behind_what_was_stamped() {
        let ahead = wall_ms() + 1_000_000;
        let mut clock = HubClock::after(ahead);
        assert_eq!(clock.stamp().hub_time_ms, ahead);
        assert!(HubClock::after(0).stamp().hub_time_ms > 1_700_000_000_000);
    }
}

//! The box's idea of hub time: hub-signed time plus the monotonic clock, never backwards.
//!
//! Pure: both clocks come in as arguments. Leaves to others: reading them (shell), signing time (hub).

use crate::entry::Stamp;
use serde::{Deserialize, Serialize};

/// Wall clocks that drift less than this from our time raise no alarm (GB 50396 allows 10 s a day in the field).
pub const DRIFT_MS_MAX: i64 = 10_000;

/// What the operating system says: start of the box, milliseconds since it, and its wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ticks {
    /// Which boot; raised by the shell whenever the operating system's boot id changed.
    pub boot: u32,
    /// Milliseconds since boot, counting suspend.
    pub mono_ms: u64,
    /// The wall clock, for comparison only once a hub time is known.
    pub wall_ms: i64,
}

/// Time as the box keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Clock {
    /// Hub time at the anchor.
    anchor_ms: i64,
    /// Boot of the anchor.
    anchor_boot: u32,
    /// Monotonic time of the anchor.
    anchor_mono_ms: u64,
    /// Nothing is stamped before this.
    high_water_ms: i64,
    /// A hub (or an operator) has set the time in this boot.
    trusted: bool,
}

impl Clock {
    /// Hub time for these ticks; after a restart without hub it runs on from the high-water mark.
    pub fn now_ms(&self, ticks: Ticks) -> i64 {
        if self.anchor_boot != ticks.boot || self.anchor_ms == 0 {
            return self.high_water_ms.max(if self.high_water_ms == 0 { ticks.wall_ms } else { 0 });
        }
        let since = ticks.mono_ms.saturating_sub(self.anchor_mono_ms).min(i64::MAX as u64) as i64;
        self.anchor_ms.saturating_add(since).max(self.high_water_ms)
    }

    /// Whether business days and leases may be judged by this clock.
    pub fn is_trusted(&self, ticks: Ticks) -> bool {
        self.trusted && self.anchor_boot == ticks.boot
    }

    /// A new hub-signed time: a new epoch, the mark is reset to it.
    pub fn set_by_hub(&mut self, hub_time_ms: i64, ticks: Ticks) {
        *self = Clock {
            anchor_ms: hub_time_ms,
            anchor_boot: ticks.boot,
            anchor_mono_ms: ticks.mono_ms,
            high_water_ms: hub_time_ms,
            trusted: true,
        };
    }

    /// A hub-signed time that was at most so long under way: what this clock shows stays where that is possible, because an
    /// entry that comes late does not make it earlier.
    pub fn hear_hub(&mut self, hub_time_ms: i64, under_way_ms: u64, ticks: Ticks) {
        let latest_ms = hub_time_ms.saturating_add(i64::try_from(under_way_ms).unwrap_or(i64::MAX));
        // A wall clock that nobody has confirmed counts for nothing.
        let shown_ms = if self.is_trusted(ticks) { self.now_ms(ticks) } else { self.high_water_ms };
        self.set_by_hub(shown_ms.clamp(hub_time_ms, latest_ms), ticks);
    }

    /// A sibling's signed time or an operator's confirmation: may only move time forward.
    pub fn move_forward(&mut self, time_ms: i64, ticks: Ticks) {
        let now = self.now_ms(ticks);
        self.set_by_hub(now.max(time_ms), ticks);
    }

    /// Stamps an entry and raises the mark.
    pub fn stamp(&mut self, ticks: Ticks) -> Stamp {
        let hub_time_ms = self.now_ms(ticks);
        if self.anchor_boot != ticks.boot {
            // Runs on from the mark in this boot, still untrusted.
            let trusted = false;
            let anchor_mono_ms = ticks.mono_ms;
            *self = Clock { anchor_ms: hub_time_ms, anchor_boot: ticks.boot, anchor_mono_ms, trusted, ..*self };
        }
        self.high_water_ms = hub_time_ms;
        Stamp { hub_time_ms, boot: ticks.boot, mono_ms: ticks.mono_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(boot: u32, mono_ms: u64, wall_ms: i64) -> Ticks {
        Ticks { boot, mono_ms, wall_ms }
    }

    #[test]
    fn a_wall_clock_set_to_1970_changes_nothing_within_a_boot() {
        let mut clock = Clock::default();
        clock.set_by_hub(1_000_000, ticks(1, 50, 1_000_000));
        assert_eq!(clock.now_ms(ticks(1, 150, 0)), 1_000_100);
        assert!(clock.is_trusted(ticks(1, 150, 0)));
    }

    #[test]
    fn after_a_restart_time_runs_on_from_the_mark_untrusted() {
        let mut clock = Clock::default();
        clock.set_by_hub(1_000_000, ticks(1, 50, 0));
        clock.stamp(ticks(1, 550, 0));
        let mut restarted = clock;
        assert!(!restarted.is_trusted(ticks(2, 10, 0)));
        assert_eq!(restarted.stamp(ticks(2, 10, 0)).hub_time_ms, 1_000_500);
        assert_eq!(restarted.now_ms(ticks(2, 110, 0)), 1_000_600);
        restarted.move_forward(999, ticks(2, 110, 0));
        assert_eq!(restarted.now_ms(ticks(2, 110, 0)), 1_000_600);
    }

    #[test]
    fn a_word_of_headquarters_that_was_under_way_turns_no_clock_back() {
        let mut clock = Clock::default();
        clock.hear_hub(1_000_000, 300, ticks(1, 50, 9_000_000));
        assert_eq!(clock.now_ms(ticks(1, 50, 0)), 1_000_000, "the wall clock is not believed");
        // Said 700 ms ago, and not before the connection, which began 900 ms ago.
        clock.hear_hub(1_000_300, 900, ticks(1, 1_050, 0));
        assert_eq!(clock.now_ms(ticks(1, 1_050, 0)), 1_001_000);
        // Ahead by more than that: headquarters is right.
        clock.hear_hub(900_000, 900, ticks(1, 1_050, 0));
        assert_eq!(clock.now_ms(ticks(1, 1_050, 0)), 900_900);
        // Behind: at least that late.
        clock.hear_hub(2_000_000, 900, ticks(1, 1_050, 0));
        assert_eq!(clock.now_ms(ticks(1, 1_050, 0)), 2_000_000);
        // After another boot the mark counts, within what is possible.
        clock.hear_hub(2_000_500, 100, ticks(2, 10, 0));
        assert_eq!(clock.now_ms(ticks(2, 10, 0)), 2_000_500);
        assert!(clock.is_trusted(ticks(2, 10, 0)));
    }

    #[test]
    fn stamps_never_go_back() {
        let mut clock = Clock::default();
        let first = clock.stamp(ticks(1, 10, 5_000));
        let second = clock.stamp(ticks(1, 20, 1_000));
        assert!(second.hub_time_ms >= first.hub_time_ms);
    }
}

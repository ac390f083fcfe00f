//! Which requests were seen: a replay is refused although memory is bounded and a restart forgets everything.
//!
//! A terminal uses a nonce once within the window, whatever time stands beside it. Per terminal the newest nonces with
//! their signed time, and a floor: nothing at or before the floor is taken, so what
//! was forgotten cannot come back. A full memory raises the floor; so does the start of the box, for requests that an
//! earlier run answered. A refused terminal signs again with the present time and goes on. What remains: a request
//! stamped up to `CLOCK_AHEAD_MS_MAX` in the future, caught just before a restart and repeated just after it.
//! Pure: time comes in. Leaves to others: the clock window (`gate`), ids of purchases, which are idempotent anyway.

use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::ids::TerminalId;

/// Most nonces remembered of one terminal (about 150 KiB; a till in a rush makes two requests in a second).
pub const NONCES_PER_TERMINAL_MAX: usize = 2_048;
/// The box's clock may seem to go back this much between two threads; more is a new time of the hub.
const CLOCK_STEP_MS: i64 = 1_000;

/// Whether a nonce may pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Not seen before.
    Fresh,
    /// Seen before.
    Seen,
    /// So old that it may have been seen.
    TooOld,
}

/// The memory.
#[derive(Debug)]
pub(super) struct Nonces {
    floor_ms: i64,
    newest_now_ms: i64,
    keep_ms: i64,
    terminals: BTreeMap<TerminalId, Window>,
}

#[derive(Debug, Default)]
struct Window {
    floor_ms: Option<i64>,
    /// By signed time, so that the oldest are forgotten first.
    seen: BTreeSet<(i64, u128)>,
    /// The same nonces by themselves.
    used: BTreeSet<u128>,
}

impl Nonces {
    /// Nothing stamped at or before `now_ms` is taken; requests older than `keep_ms` are refused by the caller.
    pub(super) fn new(now_ms: i64, keep_ms: i64) -> Nonces {
        Nonces { floor_ms: now_ms, newest_now_ms: now_ms, keep_ms, terminals: BTreeMap::new() }
    }

    /// Follows the box's time; at every request, before it is judged.
    pub(super) fn follow(&mut self, now_ms: i64) {
        if now_ms < self.newest_now_ms.saturating_sub(CLOCK_STEP_MS) {
            // The hub set the clock back: floors of the old time would lock every terminal out. This very moment is
            // what the terminals are told next, so it is above the floor.
            *self = Nonces::new(now_ms.saturating_sub(1), self.keep_ms);
        }
        self.newest_now_ms = self.newest_now_ms.max(now_ms);
    }

    /// Remembers a request that is otherwise in order.
    pub(super) fn take(&mut self, terminal: TerminalId, time_ms: i64, nonce: u128, now_ms: i64) -> Verdict {
        self.follow(now_ms);
        let window = self.terminals.entry(terminal).or_default();
        let oldest_ms = now_ms.saturating_sub(self.keep_ms);
        window.forget(oldest_ms, self.floor_ms);
        if window.used.contains(&nonce) {
            return Verdict::Seen;
        }
        if time_ms <= window.floor_ms.unwrap_or(self.floor_ms) {
            return Verdict::TooOld;
        }
        window.used.insert(nonce);
        window.seen.insert((time_ms, nonce));
        window.forget(oldest_ms, self.floor_ms);
        Verdict::Fresh
    }
}

impl Window {
    /// Drops what is older than the caller looks at, and what is too much; the floor keeps it out.
    fn forget(&mut self, oldest_ms: i64, floor_ms: i64) {
        while let Some((first_ms, nonce)) = self.seen.first().copied()
            && (first_ms < oldest_ms || self.seen.len() > NONCES_PER_TERMINAL_MAX)
        {
            self.seen.pop_first();
            self.used.remove(&nonce);
            self.floor_ms = Some(self.floor_ms.unwrap_or(floor_ms).max(first_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TILL: TerminalId = TerminalId(1);

    #[test]
    fn a_full_memory_forgets_the_oldest_and_refuses_them_as_old() {
        let mut nonces = Nonces::new(0, 60_000);
        for n in 0..NONCES_PER_TERMINAL_MAX as u128 + 10 {
            assert_eq!(nonces.take(TILL, 1 + n as i64, n, 50), Verdict::Fresh);
        }
        assert_eq!(nonces.take(TILL, 1, 0, 50), Verdict::TooOld);
        assert_eq!(nonces.take(TILL, 100, 99, 50), Verdict::Seen);
        assert_eq!(nonces.terminals[&TILL].seen.len(), NONCES_PER_TERMINAL_MAX);
    }

    #[test]
    fn a_clock_set_back_by_the_hub_locks_nobody_out() {
        let mut nonces = Nonces::new(9_000_000, 60_000);
        assert_eq!(nonces.take(TILL, 9_000_001, 1, 9_000_001), Verdict::Fresh);
        assert_eq!(nonces.take(TILL, 1_000_001, 2, 1_000_000), Verdict::Fresh);
    }

    #[test]
    fn a_nonce_passes_once_within_the_window_also_under_another_time() {
        let mut nonces = Nonces::new(0, 60_000);
        assert_eq!(nonces.take(TILL, 1_000, 7, 1_000), Verdict::Fresh);
        for time_ms in [999, 1_000, 1_001, 31_000] {
            assert_eq!(nonces.take(TILL, time_ms, 7, 31_000), Verdict::Seen, "{time_ms}");
        }
        assert_eq!(nonces.take(TerminalId(2), 31_000, 7, 31_000), Verdict::Fresh, "another terminal draws its own");
        assert_eq!(nonces.take(TILL, 61_001, 7, 61_001), Verdict::Fresh, "the window is over");
    }

    proptest! {
        /// The model remembers everything: nothing that it has seen passes a second time.
        #[test]
        fn nothing_passes_twice(requests in prop::collection::vec((0u32..3, 0i64..40, 0u128..20), 0..200)) {
            let (mut nonces, mut model) = (Nonces::new(5, 10), BTreeSet::new());
            for (now, (terminal, time, nonce)) in requests.into_iter().enumerate() {
                let verdict = nonces.take(TerminalId(terminal), time, nonce, now as i64 / 4);
                let of = |&&(t, _, n): &&(u32, i64, u128)| (t, n) == (terminal, nonce);
                if verdict == Verdict::Fresh {
                    prop_assert!(time > 5);
                    let oldest = now as i64 / 4 - 10;
                    prop_assert!(model.iter().filter(of).all(|(_, before, _)| *before < oldest));
                    prop_assert!(model.insert((terminal, time, nonce)));
                } else if verdict == Verdict::Seen {
                    prop_assert!(model.iter().any(|entry| of(&entry)));
                }
            }
        }
    }
}

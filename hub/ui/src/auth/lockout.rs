//! Lock-out of a sign-in name after repeated failures. Pure but for its lock: time comes in as argument.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Names whose failures are remembered. At the bound, expired ones go first, then the one with the fewest
/// failures; a name that is locked is never dropped for one that is not.
pub const LOGINS_TRACKED_MAX: usize = 10_000;

/// When a name locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockoutPolicy {
    /// Failures in a row that lock.
    pub failures_max: u32,
    /// How long the lock holds, and how long failures are remembered.
    pub lock_ms: u64,
}

impl Default for LockoutPolicy {
    /// Five failures, fifteen minutes.
    fn default() -> Self {
        LockoutPolicy { failures_max: 5, lock_ms: 15 * 60_000 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Track {
    failures: u32,
    last_ms: u64,
}

/// Failures by name.
#[derive(Debug)]
pub struct Lockout {
    policy: LockoutPolicy,
    tracks: Mutex<HashMap<String, Track>>,
}

impl Lockout {
    /// Nothing locked.
    pub fn new(policy: LockoutPolicy) -> Lockout {
        Lockout { policy, tracks: Mutex::default() }
    }

    /// Takes one try of a name, counted as a failure until [`Lockout::succeed`] says otherwise, so that
    /// tries in parallel gain nothing.
    ///
    /// # Errors
    /// The time at which the lock ends, milliseconds of the caller's clock.
    pub fn begin(&self, login: &str, now_ms: u64) -> Result<(), u64> {
        let mut tracks = self.lock();
        let lock_ms = self.policy.lock_ms;
        let expired = |track: &Track| now_ms >= track.last_ms.saturating_add(lock_ms);
        if !tracks.contains_key(login) && tracks.len() >= LOGINS_TRACKED_MAX {
            tracks.retain(|_, track| !expired(track));
            if tracks.len() >= LOGINS_TRACKED_MAX {
                drop_weakest(&mut tracks);
            }
        }
        let track = tracks.entry(login.to_owned()).or_insert(Track { failures: 0, last_ms: now_ms });
        if expired(track) {
            track.failures = 0;
        }
        if track.failures >= self.policy.failures_max {
            return Err(track.last_ms.saturating_add(lock_ms));
        }
        track.failures += 1;
        track.last_ms = now_ms;
        Ok(())
    }

    /// The try was right: forgets the failures.
    pub fn succeed(&self, login: &str) {
        self.lock().remove(login);
    }

    /// The try could not be decided: takes it back.
    pub fn forgive(&self, login: &str) {
        if let Some(track) = self.lock().get_mut(login) {
            track.failures = track.failures.saturating_sub(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Track>> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn drop_weakest(tracks: &mut HashMap<String, Track>) {
    let weakest =
        tracks.iter().min_by_key(|(_, track)| (track.failures, track.last_ms)).map(|(login, _)| login.clone());
    if let Some(login) = weakest {
        tracks.remove(&login);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: u64 = 60_000;

    #[test]
    fn five_failures_lock_for_fifteen_minutes() {
        let lockout = Lockout::new(LockoutPolicy::default());
        for at in 0..5 {
            assert_eq!(lockout.begin("a", at), Ok(()));
        }
        assert_eq!(lockout.begin("a", 10), Err(4 + 15 * MINUTE_MS));
        assert_eq!(lockout.begin("b", 10), Ok(()));
        assert_eq!(lockout.begin("a", 4 + 15 * MINUTE_MS - 1), Err(4 + 15 * MINUTE_MS));
        assert_eq!(lockout.begin("a", 4 + 15 * MINUTE_MS), Ok(()));
    }

    #[test]
    fn knocking_at_a_locked_name_does_not_lengthen_the_lock() {
        let lockout = Lockout::new(LockoutPolicy::default());
        for _ in 0..5 {
            assert_eq!(lockout.begin("a", 0), Ok(()));
        }
        for minute in 1..15 {
            assert_eq!(lockout.begin("a", minute * MINUTE_MS), Err(15 * MINUTE_MS));
        }
        assert_eq!(lockout.begin("a", 15 * MINUTE_MS), Ok(()));
    }

    #[test]
    fn success_forgets_and_an_undecided_try_is_taken_back() {
        let lockout = Lockout::new(LockoutPolicy::default());
        for _ in 0..4 {
            assert_eq!(lockout.begin("a", 0), Ok(()));
        }
        lockout.succeed("a");
        for _ in 0..20 {
            assert_eq!(lockout.begin("a", 0), Ok(()));
            lockout.forgive("a");
        }
    }

    #[test]
    fn a_flood_of_names_stays_bounded_and_does_not_free_a_locked_one() {
        let lockout = Lockout::new(LockoutPolicy::default());
        for _ in 0..5 {
            assert_eq!(lockout.begin("victim", 0), Ok(()));
        }
        for n in 0..LOGINS_TRACKED_MAX as u64 + 50 {
            assert_eq!(lockout.begin(&format!("n{n}"), 1 + n / 100), Ok(()));
        }
        assert_eq!(lockout.lock().len(), LOGINS_TRACKED_MAX);
        assert!(lockout.begin("victim", 1000).is_err());
    }
}

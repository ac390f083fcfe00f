//! From raw polls to what a door did: debouncing, opened and closed, forced, held open too long. Pure.
//!
//! Leaves to others: reading the inputs, polarity, and acting on what is found.

use super::{ContactState, DoorEventKind, DoorMode, DoorRef, InputChange, OpenCause, SignalState};
use std::time::{Duration, Instant};

/// How long after a pulse's end, or after the exit button, an opening still counts as caused by it: the
/// leaf is pulled late, and the contact is seen only after two polls.
pub const OPEN_GRACE_MS: u64 = 3_000;

/// A level that counts only when two polls in a row agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Debounce {
    settled: Option<bool>,
    candidate: Option<bool>,
}

impl Debounce {
    /// Takes one poll; `None` is a missed poll and makes the level unknown at once. Returns whether the
    /// settled level changed.
    pub fn take(&mut self, level: Option<bool>) -> bool {
        let before = self.settled;
        match level {
            None => self.settled = None,
            Some(_) if level == self.candidate => self.settled = level,
            Some(_) => {}
        }
        self.candidate = level;
        self.settled != before
    }

    /// The settled level; `None` = unknown.
    pub fn level(self) -> Option<bool> {
        self.settled
    }
}

/// What the tracker must know about the lock at the moment of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockView {
    /// Standing order.
    pub mode: DoorMode,
    /// Whether fire frees the door.
    pub freed_by_fire: bool,
    /// End of the newest pulse, past or future.
    pub pulse_until: Option<Instant>,
}

/// One poll of a door's inputs, with polarity already applied. `None` in a wired input = missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InputSample {
    /// `true` = leaf open.
    pub open: Option<bool>,
    /// `true` = exit button pressed.
    pub exit: Option<bool>,
}

/// Follows one door.
#[derive(Debug, Clone)]
pub struct DoorTracker {
    door: DoorRef,
    held_open_limit: Duration,
    contact: Debounce,
    exit: Debounce,
    /// Last level that was known, kept over a gap.
    last_known_open: Option<bool>,
    gap_since_known: bool,
    opened_at: Option<Instant>,
    held_open_reported: bool,
    exit_pressed_at: Option<Instant>,
}

impl DoorTracker {
    /// A door of which nothing is known. `held_open_limit`: how long the leaf may stay open.
    pub fn new(door: DoorRef, held_open_limit: Duration) -> Self {
        DoorTracker {
            door,
            held_open_limit,
            contact: Debounce::default(),
            exit: Debounce::default(),
            last_known_open: None,
            gap_since_known: false,
            opened_at: None,
            held_open_reported: false,
            exit_pressed_at: None,
        }
    }

    /// Sets how long the leaf may stay open, also while it stands open.
    pub fn set_held_open_limit(&mut self, limit: Duration) {
        self.held_open_limit = limit;
    }

    /// The debounced contact.
    pub fn contact(&self) -> ContactState {
        match self.contact.level() {
            None => ContactState::Unknown,
            Some(true) => ContactState::Open,
            Some(false) => ContactState::Closed,
        }
    }

    /// The debounced exit button.
    pub fn exit_button(&self) -> SignalState {
        signal(self.exit.level())
    }

    /// Takes one poll and tells what it means.
    pub fn observe(&mut self, sample: InputSample, lock: LockView, now: Instant) -> Vec<DoorEventKind> {
        let mut events = Vec::new();
        let door = self.door;
        if self.exit.take(sample.exit) {
            let state = self.exit_button();
            if state == SignalState::Active {
                self.exit_pressed_at = Some(now);
            }
            events.push(DoorEventKind::InputChanged(InputChange::ExitButton { door, state }));
        }
        if self.contact.take(sample.open) {
            let state = self.contact();
            events.push(DoorEventKind::InputChanged(InputChange::Contact { door, state }));
            self.contact_settled(state, lock, now, &mut events);
        }
        self.check_held_open(lock, now, &mut events);
        events
    }

    /// Everything becomes unknown: the device was not heard.
    pub fn missed(&mut self, lock: LockView, now: Instant) -> Vec<DoorEventKind> {
        self.observe(InputSample::default(), lock, now)
    }

    fn contact_settled(&mut self, state: ContactState, lock: LockView, now: Instant, events: &mut Vec<DoorEventKind>) {
        let open = match state {
            ContactState::Unknown => {
                self.gap_since_known = true;
                return;
            }
            ContactState::Open => true,
            ContactState::Closed => false,
        };
        match (self.last_known_open, open) {
            // The first reading ever is a state, not a movement.
            (None, true) => self.opened_at = Some(now),
            (Some(false), true) => {
                let cause = self.cause(lock, now);
                events.push(DoorEventKind::Opened { door: self.door, cause });
                self.opened_at = Some(now);
                self.held_open_reported = false;
            }
            (Some(true), false) => {
                events.push(DoorEventKind::Closed { door: self.door });
                self.opened_at = None;
                self.held_open_reported = false;
            }
            (Some(true), true) | (_, false) => {}
        }
        self.last_known_open = Some(open);
        self.gap_since_known = false;
    }

    fn cause(&self, lock: LockView, now: Instant) -> OpenCause {
        let grace = Duration::from_millis(OPEN_GRACE_MS);
        let within = |end: Option<Instant>| end.is_some_and(|end| now <= end + grace);
        if lock.freed_by_fire {
            OpenCause::Fire
        } else if lock.mode == DoorMode::HeldOpen {
            OpenCause::HeldOpen
        } else if within(lock.pulse_until) {
            OpenCause::Pulse
        } else if within(self.exit_pressed_at) {
            OpenCause::ExitButton
        } else if self.gap_since_known {
            OpenCause::Unobserved
        } else {
            OpenCause::Forced
        }
    }

    fn check_held_open(&mut self, lock: LockView, now: Instant, events: &mut Vec<DoorEventKind>) {
        let may_stand_open = lock.freed_by_fire || lock.mode == DoorMode::HeldOpen;
        if may_stand_open {
            // The allowance starts when the order ends.
            self.opened_at = self.opened_at.map(|_| now);
            return;
        }
        // A pulse that is still running (extended time for disabled people) is no offence either.
        let since = self.opened_at.map(|opened| lock.pulse_until.map_or(opened, |end| end.max(opened)));
        let overdue = since.is_some_and(|since| now >= since + self.held_open_limit);
        if overdue && !self.held_open_reported && self.contact() == ContactState::Open {
            self.held_open_reported = true;
            events.push(DoorEventKind::HeldOpenTooLong { door: self.door });
        }
    }
}

/// Level of an input as a signal.
pub fn signal(level: Option<bool>) -> SignalState {
    match level {
        None => SignalState::Unknown,
        Some(true) => SignalState::Active,
        Some(false) => SignalState::Inactive,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

    use super::*;

    const DOOR: DoorRef = DoorRef(1);
    const LOCKED: LockView = LockView { mode: DoorMode::Normal, freed_by_fire: false, pulse_until: None };

    struct Bench {
        tracker: DoorTracker,
        now: Instant,
        lock: LockView,
    }

    impl Bench {
        fn new() -> Self {
            Bench { tracker: DoorTracker::new(DOOR, Duration::from_secs(15)), now: Instant::now(), lock: LOCKED }
        }

        fn poll(&mut self, open: Option<bool>, exit: Option<bool>) -> Vec<DoorEventKind> {
            self.now += Duration::from_millis(150);
            self.tracker.observe(InputSample { open, exit }, self.lock, self.now)
        }

        fn settle(&mut self, open: bool) -> Vec<DoorEventKind> {
            let mut events = self.poll(Some(open), Some(false));
            events.extend(self.poll(Some(open), Some(false)));
            events
        }
    }

    fn contact(state: ContactState) -> DoorEventKind {
        DoorEventKind::InputChanged(InputChange::Contact { door: DOOR, state })
    }

    fn opened(cause: OpenCause) -> DoorEventKind {
        DoorEventKind::Opened { door: DOOR, cause }
    }

    #[test]
    fn one_odd_poll_changes_nothing_two_do() {
        let mut bench = Bench::new();
        assert!(bench.settle(false).contains(&contact(ContactState::Closed)));
        assert_eq!(bench.poll(Some(true), Some(false)), []);
        assert_eq!(bench.poll(Some(false), Some(false)), []);
        assert_eq!(bench.settle(true), [contact(ContactState::Open), opened(OpenCause::Forced)]);
    }

    #[test]
    fn the_first_reading_is_a_state_and_not_an_opening() {
        let mut bench = Bench::new();
        let events = bench.settle(true);
        assert!(events.contains(&contact(ContactState::Open)));
        assert!(!events.iter().any(|event| matches!(event, DoorEventKind::Opened { .. })));
    }

    #[test]
    fn a_missed_poll_is_unknown_and_never_closed() {
        let mut bench = Bench::new();
        bench.settle(true);
        assert!(bench.poll(None, None).contains(&contact(ContactState::Unknown)));
        assert_eq!(bench.tracker.contact(), ContactState::Unknown);
        // One good poll after the gap is not enough to know.
        assert!(bench.poll(Some(false), Some(false)).is_empty());
        assert_eq!(bench.tracker.contact(), ContactState::Unknown);
        let events = bench.poll(Some(false), Some(false));
        assert!(events.contains(&DoorEventKind::Closed { door: DOOR }), "{events:?}");
    }

    #[test]
    fn an_opening_in_a_gap_is_not_called_forced() {
        let mut bench = Bench::new();
        bench.settle(false);
        bench.poll(None, None);
        assert!(bench.settle(true).contains(&opened(OpenCause::Unobserved)));
    }

    #[test]
    fn causes_in_order_of_weight() {
        let now = Instant::now();
        for (lock, cause) in [
            (LockView { freed_by_fire: true, ..LOCKED }, OpenCause::Fire),
            (LockView { mode: DoorMode::HeldOpen, ..LOCKED }, OpenCause::HeldOpen),
            (LockView { pulse_until: Some(now), ..LOCKED }, OpenCause::Pulse),
        ] {
            let mut bench = Bench::new();
            bench.settle(false);
            bench.lock = lock;
            assert!(bench.settle(true).contains(&opened(cause)));
        }
        let mut bench = Bench::new();
        bench.settle(false);
        bench.poll(Some(false), Some(true));
        bench.poll(Some(false), Some(true));
        assert!(bench.settle(true).contains(&opened(OpenCause::ExitButton)));
    }

    #[test]
    fn held_open_is_told_once_and_not_while_it_is_allowed() {
        let mut bench = Bench::new();
        bench.settle(false);
        bench.lock.pulse_until = Some(bench.now + Duration::from_secs(5));
        bench.settle(true);
        let mut told = Vec::new();
        for _ in 0..200 {
            told.extend(bench.poll(Some(true), Some(false)));
        }
        assert_eq!(told, [DoorEventKind::HeldOpenTooLong { door: DOOR }]);

        bench.settle(false);
        bench.lock = LockView { mode: DoorMode::HeldOpen, ..LOCKED };
        bench.settle(true);
        for _ in 0..200 {
            assert_eq!(bench.poll(Some(true), Some(false)), []);
        }
    }

    proptest::proptest! {
        /// Whatever the polls say: a state is told only after two equal polls, and an opening only from
        /// a contact that was known closed before.
        #[test]
        fn nothing_is_told_that_two_polls_did_not_say(polls in proptest::collection::vec(proptest::option::of(proptest::bool::ANY), 0..60)) {
            let mut bench = Bench::new();
            let mut last_known = None;
            for (at, poll) in polls.iter().enumerate() {
                let events = bench.poll(*poll, Some(false));
                let agreed = at > 0 && poll.is_some() && polls[at - 1] == *poll;
                if agreed {
                    let told = bench.tracker.contact();
                    let said = if *poll == Some(true) { ContactState::Open } else { ContactState::Closed };
                    proptest::prop_assert_eq!(told, said);
                }
                if poll.is_none() {
                    proptest::prop_assert_eq!(bench.tracker.contact(), ContactState::Unknown);
                }
                let has_opened = events.iter().any(|event| matches!(event, DoorEventKind::Opened { .. }));
                proptest::prop_assert_eq!(has_opened, agreed && *poll == Some(true) && last_known == Some(false));
                if agreed {
                    last_known = *poll;
                }
            }
        }
    }
}

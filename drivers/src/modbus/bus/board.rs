//! What the loop remembers of a board and its doors. No requests are made here.

use super::{AUDIT_MS, RECONNECT_DELAY_MS_MAX, RECONNECT_DELAY_MS_MIN};
use crate::door::tracker::{Debounce, DoorTracker, InputSample, LockView, signal};
use crate::door::{DoorEventKind, DoorMode, DoorRef, DoorState, RelayState, SignalState};
use crate::modbus::profile::{BoardProfile, DoorWiring, InputWiring};
use std::time::{Duration, Instant};

pub(super) struct Board {
    pub(super) profile: BoardProfile,
    pub(super) doors: Vec<Door>,
    /// Brought up: outputs written, inputs read.
    pub(super) up: bool,
    /// Reported as lost.
    pub(super) lost: bool,
    /// Reported as heard, since it was last lost.
    reported_up: bool,
    failures: u32,
    retry_at: Instant,
    poll_at: Instant,
    pub(super) audit_at: Instant,
    /// The last failure.
    pub(super) cause: String,
    pub(super) heard_at: Option<Instant>,
    fire: Debounce,
    /// Last known fire signal; kept while the input is not heard.
    pub(super) fire_active: bool,
}

pub(super) struct Door {
    pub(super) wiring: DoorWiring,
    pub(super) tracker: DoorTracker,
    pub(super) mode: DoorMode,
    /// As last read or echoed.
    pub(super) relay: RelayState,
    /// End of the newest pulse, past or future.
    pub(super) pulse_until: Option<Instant>,
    /// When the end of that pulse is to be carried out or checked; `None` when that is done.
    pub(super) check_at: Option<Instant>,
    pub(super) freed_reported: bool,
    /// The output was found wrong and this was told; cleared when it is found right.
    pub(super) mismatch_reported: bool,
}

impl Door {
    fn new(wiring: DoorWiring) -> Self {
        let limit = Duration::from_millis(u64::from(wiring.held_open_ms));
        Door {
            tracker: DoorTracker::new(wiring.door, limit),
            wiring,
            mode: DoorMode::Normal,
            relay: RelayState::Unknown,
            pulse_until: None,
            check_at: None,
            freed_reported: false,
            mismatch_reported: false,
        }
    }

    /// Whether the door is to be unlocked when no pulse runs. Fire goes before every order.
    pub(super) fn target_unlocked(&self, fire: bool) -> bool {
        fire && self.wiring.escape || self.mode == DoorMode::HeldOpen
    }

    /// The output that goes with it.
    pub(super) fn target(&self, fire: bool) -> RelayState {
        if self.target_unlocked(fire) { RelayState::Unlocked } else { RelayState::Locked }
    }

    fn lock_view(&self, fire: bool) -> LockView {
        LockView { mode: self.mode, freed_by_fire: fire && self.wiring.escape, pulse_until: self.pulse_until }
    }
}

impl Board {
    pub(super) fn new(profile: BoardProfile, now: Instant) -> Self {
        let doors = profile.doors.iter().cloned().map(Door::new).collect();
        Board {
            profile,
            doors,
            up: false,
            lost: false,
            reported_up: false,
            failures: 0,
            retry_at: now,
            poll_at: now,
            audit_at: now,
            cause: "not connected yet".to_owned(),
            heard_at: None,
            fire: Debounce::default(),
            fire_active: false,
        }
    }

    /// Time-out of one request.
    pub(super) fn limit(&self) -> Duration {
        Duration::from_millis(u64::from(self.profile.response_timeout_ms))
    }

    pub(super) fn door_refs(&self) -> Vec<DoorRef> {
        self.doors.iter().map(|door| door.wiring.door).collect()
    }

    /// When the board next wants something, ends of pulses aside.
    pub(super) fn due_at(&self) -> Instant {
        if self.up { self.poll_at.min(self.audit_at) } else { self.retry_at }
    }

    pub(super) fn polled(&mut self, now: Instant) {
        self.poll_at = now + Duration::from_millis(u64::from(self.profile.poll_ms));
    }

    /// Notes that the board was brought up; returns whether that is news.
    pub(super) fn came_up(&mut self, now: Instant) -> bool {
        self.up = true;
        self.lost = false;
        self.failures = 0;
        self.polled(now);
        self.audit_at = now + Duration::from_millis(AUDIT_MS);
        !std::mem::replace(&mut self.reported_up, true)
    }

    /// Notes a failure; returns whether the board is lost by it and was not before.
    pub(super) fn went_down(&mut self, cause: String, now: Instant) -> bool {
        self.up = false;
        self.cause = cause;
        self.failures = self.failures.saturating_add(1);
        let doublings = (self.failures - 1).min(10);
        let delay = (RECONNECT_DELAY_MS_MIN << doublings).min(RECONNECT_DELAY_MS_MAX);
        self.retry_at = now + Duration::from_millis(delay);
        for door in &mut self.doors {
            door.relay = RelayState::Unknown;
        }
        let newly = !self.lost && self.failures >= self.profile.line_lost_after_failures;
        if newly {
            self.lost = true;
            self.reported_up = false;
        }
        newly
    }

    pub(super) fn take_relays(&mut self, coils: &[bool]) {
        for door in &mut self.doors {
            let bit = coils.get(usize::from(door.wiring.relay) - 1).copied();
            door.relay = match bit.map(|bit| door.wiring.unlock_level.is(bit)) {
                None => RelayState::Unknown,
                Some(true) => RelayState::Unlocked,
                Some(false) => RelayState::Locked,
            };
        }
    }

    /// Takes one poll (`None` = missed) for the fire input; returns whether its settled state changed.
    pub(super) fn take_fire(&mut self, inputs: Option<&[bool]>) -> bool {
        let Some(wiring) = self.profile.fire else {
            return false;
        };
        let changed = self.fire.take(level(wiring, inputs));
        if let Some(active) = self.fire.level() {
            self.fire_active = active;
        }
        changed
    }

    pub(super) fn fire_state(&self) -> SignalState {
        signal(self.fire.level())
    }

    /// Takes one poll (`None` = missed) for every door and tells what it means.
    pub(super) fn observe(&mut self, inputs: Option<&[bool]>, fire: bool, now: Instant) -> Vec<DoorEventKind> {
        let mut events = Vec::new();
        for door in &mut self.doors {
            let lock = door.lock_view(fire);
            let sample = InputSample {
                open: door.wiring.contact.and_then(|contact| level(contact, inputs)).map(|closed| !closed),
                exit: door.wiring.exit_button.and_then(|exit| level(exit, inputs)),
            };
            events.extend(door.tracker.observe(sample, lock, now));
        }
        events
    }

    pub(super) fn states(&self, fire: bool) -> impl Iterator<Item = (DoorRef, DoorState)> + '_ {
        self.doors.iter().map(move |door| {
            let state = DoorState {
                contact: door.tracker.contact(),
                exit_button: door.tracker.exit_button(),
                relay: door.relay,
                mode: door.mode,
                freed_by_fire: fire && door.wiring.escape,
                line_up: self.up,
                observed_at: self.heard_at,
            };
            (door.wiring.door, state)
        })
    }
}

/// Whether a wired input speaks; `None` when it was not read.
fn level(wiring: InputWiring, inputs: Option<&[bool]>) -> Option<bool> {
    let bit = inputs?.get(usize::from(wiring.input) - 1).copied()?;
    Some(wiring.level.is(bit))
}

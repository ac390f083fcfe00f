//! What drivers tell by themselves: openings with their cause, the button to leave, fire, lines lost and back.
//!
//! Events of a lock that no door of the policy names are not journaled (they have no door), but what a person must look
//! at is alarmed, and the button to leave opens all the same: nobody is locked in by a gap in the policy.
//! Leaves to others: debouncing and judging openings (`yika_drivers::door::tracker`).

use super::hardware::{Listener, Place, Unlock};
use super::passing::{Order, Passing, When};
use std::sync::{Arc, PoisonError};
use yika_crdt::entry::{DoorEvent, OpenedBy};
use yika_crdt::ids::*;
use yika_drivers::door::{DoorEventKind, DoorRef, HeldOpenLimits, InputChange, OpenCause, SignalState};

/// Pulse of the button to leave where no door of the policy names the lock, in milliseconds.
pub(super) const UNASSIGNED_PULSE_MS: u32 = 5_000;

impl Listener for Arc<Passing> {
    fn on_event(&self, line: usize, event: yika_drivers::door::DoorEvent) {
        let age_ms = i64::try_from(event.observed_at.elapsed().as_millis()).unwrap_or(i64::MAX);
        let now = self.when();
        let when = When { at_ms: now.at_ms.saturating_sub(age_ms), ..now };
        let place = |lock: DoorRef| Place { line, lock };
        match event.kind {
            DoorEventKind::InputChanged(change) => self.on_input(line, change, when),
            DoorEventKind::Opened { door, cause } => self.on_opened(place(door), cause, when),
            DoorEventKind::Closed { door } => self.on_lock(place(door), when, DoorEvent::Closed),
            DoorEventKind::HeldOpenTooLong { door } => {
                self.on_lock(place(door), when, DoorEvent::HeldOpen);
                self.alarm("held_open", self.name(place(door)), "the door stands open for too long; close it");
            }
            DoorEventKind::FreedByFire { door } => self.on_lock(place(door), when, DoorEvent::Fire),
            DoorEventKind::RelayCorrected { door, found } => {
                let what = format!("the relay was found {found:?} and set right; look at the board's power");
                self.alarm("door_relay", self.name(place(door)), &what);
            }
            DoorEventKind::LineLost { doors, cause } => {
                let names: Vec<String> = doors.iter().map(|door| self.name(place(*door))).collect();
                let what = format!("the board does not answer ({cause}); check its power, cable and address");
                self.alarm("door_line", names.join(", "), &what);
                doors.iter().for_each(|door| self.on_lock(place(*door), when, DoorEvent::LineLost));
            }
            DoorEventKind::LineBack { doors } => {
                doors.iter().for_each(|door| self.on_lock(place(*door), when, DoorEvent::LineBack));
            }
            DoorEventKind::EventsLost { count } => {
                let name = self.hardware.lines.get(line).map(|l| l.name.clone()).unwrap_or_default();
                self.alarm("door_events_lost", name, &format!("{count} events of this line found no room"));
            }
            // Told to whoever gave the command.
            DoorEventKind::CommandDone { .. } | DoorEventKind::CommandFailed { .. } => {}
        }
    }

    fn on_driver_ended(&self, line: usize, failures: u32) {
        let name = self.hardware.lines.get(line).map(|l| l.name.clone()).unwrap_or_default();
        self.alarm(
            "door_driver",
            name,
            &format!("the driver ended by itself, {failures} in a row; it is started again"),
        );
    }

    fn held_open(&self, line: usize) -> HeldOpenLimits {
        let Some(line) = self.hardware.lines.get(line) else { return HeldOpenLimits::new() };
        let access = self.node.access.read();
        let limit = |device: &String| access.doors.values().find(|d| d.device == *device).map(|d| d.held_open_ms);
        line.devices.iter().filter_map(|(lock, device)| Some((*lock, limit(device)?))).collect()
    }
}

impl Passing {
    fn on_input(self: &Arc<Self>, line: usize, change: InputChange, when: When) {
        match change {
            InputChange::ExitButton { door, state: SignalState::Active } => {
                self.leave(Place { line, lock: door }, when)
            }
            InputChange::Fire { board, state } => self.on_fire(board, state),
            // The contact speaks as `Opened` and `Closed`; a released button says nothing.
            InputChange::ExitButton { .. } | InputChange::Contact { .. } => {}
        }
    }

    /// The button to leave asks nobody.
    fn leave(self: &Arc<Self>, place: Place, when: When) {
        let facts = self.door_at(place);
        let Some((door, pulse_ms)) = facts else {
            let device = self.device(place.line, place.lock);
            self.alarm("door_unassigned", device, "somebody left, but no door of the policy names this lock");
            if let Err(failure) = self.hardware.unlock(place, UNASSIGNED_PULSE_MS) {
                tracing::error!(%failure, "the button to leave could not open");
            }
            return;
        };
        // Followed to its end by its own task.
        drop(self.unlock(Order::new(place, pulse_ms, OpenedBy::Button, door, when)));
    }

    fn on_fire(&self, board: String, state: SignalState) {
        let mut fires = self.fires.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            SignalState::Active if fires.insert(board.clone()) => {
                self.alarm("fire", board, "the fire signal is active; doors on escape routes are free");
            }
            SignalState::Inactive if fires.remove(&board) => {
                self.alarm("fire_over", board, "the fire signal has ended; doors are locked again");
            }
            _ => {}
        }
    }

    fn on_opened(&self, place: Place, cause: OpenCause, when: When) {
        let last = self.hardware.lines.get(place.line).and_then(|line| line.last_unlock(place.lock));
        let by = match (cause, last) {
            (OpenCause::Forced, _) => {
                self.on_lock(place, when, DoorEvent::Forced);
                self.alarm("forced_open", self.name(place), "opened without a right; look at the door");
                return;
            }
            // Whoever unlocked it is whoever opened it.
            (OpenCause::Pulse, Some(unlock)) => {
                self.record_input(place, when, DoorEvent::Opened(unlock.by), unlock);
                return;
            }
            (OpenCause::Pulse | OpenCause::Unobserved, _) => OpenedBy::Unobserved,
            (OpenCause::ExitButton, _) => OpenedBy::Button,
            (OpenCause::HeldOpen, _) => OpenedBy::HeldOpen,
            (OpenCause::Fire, _) => OpenedBy::Fire,
        };
        self.on_lock(place, when, DoorEvent::Opened(by));
    }

    /// Journals an event of a lock for the door that it belongs to.
    fn on_lock(&self, place: Place, when: When, event: DoorEvent) {
        let Some((door, _)) = self.door_at(place) else { return };
        let nobody = Unlock { by: OpenedBy::Unobserved, door, reader: None, card: None, person: None };
        self.record_input(place, when, event, nobody);
    }

    /// The door that names this lock, with its pulse; of several the one with the lowest number.
    fn door_at(&self, place: Place) -> Option<(DoorId, u32)> {
        let device = self.hardware.lines.get(place.line)?.devices.get(&place.lock)?;
        let access = self.node.access.read();
        access.doors.iter().find(|(_, door)| door.device == *device).map(|(id, door)| (*id, door.pulse_ms))
    }

    /// What to call a lock in an alarm: the door with its name, else the device.
    fn name(&self, place: Place) -> String {
        let device = self.device(place.line, place.lock);
        let Some((id, _)) = self.door_at(place) else { return device };
        let name = self.node.access.read().doors.get(&id).map(|door| door.name.clone()).unwrap_or_default();
        format!("{id} {name} ({device})")
    }
}

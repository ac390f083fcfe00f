//! A passage from the swipe to the journal: decided, ordered, confirmed by the device, written; in that order.
//!
//! What the hardware confirmed is journaled as such, what it refused as a refusal, what is uncertain as uncertain. An
//! order once given is followed to its end and journaled even if whoever asked is gone. Leaves to others: the decision
//! (`decision`), the driver (`hardware`), what happens by itself (`events`).

use super::decision::{self, Moment, Pass, Refusal};
use super::hardware::{Hardware, Place, Unlock};
use super::journal::Journal;
use super::quota::Quota;
use super::view::LastEvent;
use super::{ANSWER_MS_MAX, CommandFailure, Confirmation};
use crate::node::EdgeNode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use yika_crdt::edge::Command;
use yika_crdt::entry::{ActRecord, AlarmRecord, DoorEvent, DoorRecord, OpenedBy, TerminalRecord};
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;
use yika_drivers::door::{DoorRef, Ordered, PULSE_MS_MAX, PULSE_MS_MIN};

/// Refusals of one reader that are journaled at once; then one for each [`REFUSAL_EVERY_MS`]. The others are counted.
pub(super) const REFUSALS_AT_ONCE_MAX: u32 = 60;
/// See [`REFUSALS_AT_ONCE_MAX`]; in milliseconds.
pub(super) const REFUSAL_EVERY_MS: u64 = 5_000;
/// Events of one lock's own inputs that are journaled at once; then one for each [`INPUT_EVENT_EVERY_MS`].
pub(super) const INPUT_EVENTS_AT_ONCE_MAX: u32 = 600;
/// See [`INPUT_EVENTS_AT_ONCE_MAX`]; in milliseconds.
pub(super) const INPUT_EVENT_EVERY_MS: u64 = 500;
/// Alarms of one kind about one thing that are journaled at once; then one for each [`ALARM_EVERY_MS`].
pub(super) const ALARMS_AT_ONCE_MAX: u32 = 3;
/// See [`ALARMS_AT_ONCE_MAX`]; in milliseconds.
pub(super) const ALARM_EVERY_MS: u64 = 60_000;
/// A card that was just let in at a reader and is read again there within this time is the same presentation; in
/// milliseconds. Never longer than the lock stays open.
pub(super) const SAME_PRESENTATION_MS_MAX: u32 = 1_000;

/// Everything doors share.
pub(super) struct Passing {
    pub(super) node: Arc<EdgeNode>,
    pub(super) hardware: Hardware,
    pub(super) journal: Arc<Journal>,
    /// Boards whose fire input is active.
    pub(super) fires: Mutex<BTreeSet<String>>,
    refusals: Quota<TerminalId>,
    inputs: Quota<Place>,
    alarms: Quota<(&'static str, String)>,
    last_events: Mutex<BTreeMap<DoorId, LastEvent>>,
    presented: Mutex<BTreeMap<TerminalId, Presented>>,
    in_flight: watch::Sender<usize>,
    stopping: watch::Sender<bool>,
}

/// A card that was let in at a reader.
#[derive(Clone, Copy)]
struct Presented {
    card: CardNumber,
    until: Instant,
}

/// When something happened, by the box's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct When {
    pub(super) at_ms: i64,
    pub(super) time_trusted: bool,
}

/// An unlocking to be carried out.
pub(super) struct Order {
    pub(super) place: Place,
    pub(super) pulse_ms: u32,
    pub(super) unlock: Unlock,
    pub(super) when: When,
    /// Of an operator.
    pub(super) reason: Option<String>,
}

impl Order {
    pub(super) fn new(place: Place, pulse_ms: u32, by: OpenedBy, door: DoorId, when: When) -> Order {
        let unlock = Unlock { by, door, reader: None, card: None, person: None };
        Order { place, pulse_ms, unlock, when, reason: None }
    }
}

/// Counts an order until it is journaled.
struct Flight(Arc<Passing>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.send_modify(|n| *n = n.saturating_sub(1));
    }
}

impl Passing {
    pub(super) fn new(node: Arc<EdgeNode>, hardware: Hardware) -> Passing {
        Passing {
            node,
            hardware,
            journal: Arc::default(),
            fires: Mutex::default(),
            refusals: Quota::new(REFUSALS_AT_ONCE_MAX, REFUSAL_EVERY_MS),
            inputs: Quota::new(INPUT_EVENTS_AT_ONCE_MAX, INPUT_EVENT_EVERY_MS),
            alarms: Quota::new(ALARMS_AT_ONCE_MAX, ALARM_EVERY_MS),
            last_events: Mutex::default(),
            presented: Mutex::default(),
            in_flight: watch::channel(0).0,
            stopping: watch::channel(false).0,
        }
    }

    pub(super) async fn swipe(self: &Arc<Self>, reader: &TerminalRecord, card: CardNumber) -> Result<PersonId, Reason> {
        let door = decision::door_of(&self.node, reader)?;
        let Some(now) = Moment::now(&self.node) else {
            tracing::error!("no door opens: the registry has not told this campus' calendar yet");
            return Err(Reason::BoxNotReady);
        };
        let when = When { at_ms: now.at_ms, time_trusted: now.time_trusted };
        let who = |person| Unlock { by: OpenedBy::Card, door, reader: Some(reader.terminal), card: Some(card), person };
        let pass = match self.decide(door, card, now) {
            Ok(pass) => pass,
            Err(refusal) => {
                self.record(when, DoorEvent::Denied(refusal.reason), who(refusal.person));
                return Err(refusal.reason);
            }
        };
        if self.is_same_presentation(reader.terminal, card) {
            return Ok(pass.person);
        }
        let unlock = who(Some(pass.person));
        let Some(place) = pass.place else {
            self.record(when, DoorEvent::Denied(Reason::BoxNotReady), unlock);
            self.alarm("door_hardware", door, "the policy names hardware that this box does not have");
            return Err(Reason::BoxNotReady);
        };
        let done = self.unlock(Order { place, pulse_ms: pass.pulse_ms, unlock, when, reason: None });
        match tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), done).await {
            Ok(Ok(Ok(_))) => Ok(pass.person),
            _ => Err(Reason::BoxNotReady),
        }
    }

    pub(super) fn decide(&self, door: DoorId, card: CardNumber, now: Moment) -> Result<Pass, Refusal> {
        decision::decide(&self.node, &self.hardware.places, door, card, now)
    }

    /// Orders at once and follows the order to its end, whoever waits for it.
    pub(super) fn unlock(self: &Arc<Self>, order: Order) -> JoinHandle<Result<Confirmation, CommandFailure>> {
        let ordered = self.hardware.unlock(order.place, order.pulse_ms.clamp(PULSE_MS_MIN, PULSE_MS_MAX));
        self.in_flight.send_modify(|n| *n += 1);
        let flight = Flight(Arc::clone(self));
        tokio::spawn(async move {
            let outcome = outcome_of(ordered).await;
            flight.0.ended(&order, &outcome);
            outcome
        })
    }

    /// An order has ended: journals how.
    fn ended(&self, order: &Order, outcome: &Result<Confirmation, CommandFailure>) {
        let (unlock, place) = (order.unlock, order.place);
        let event = match (outcome, unlock.by) {
            (Ok(_), OpenedBy::Button) => DoorEvent::Button,
            (Ok(_), OpenedBy::Remote(operator)) => DoorEvent::Remote(operator),
            (Ok(_), _) => DoorEvent::Granted,
            (Err(CommandFailure::Unconfirmed { .. }), _) => DoorEvent::Unconfirmed,
            (Err(_), _) => DoorEvent::Denied(Reason::BoxNotReady),
        };
        if !matches!(event, DoorEvent::Denied(_)) {
            self.hardware.note_unlock(place, unlock);
        }
        self.record(order.when, event, unlock);
        match outcome {
            Ok(_) => self.note_presented(order),
            Err(failure) => self.alarm("door_failed", unlock.door, &failure.to_string()),
        }
        if let (OpenedBy::Remote(operator), Some(reason)) = (unlock.by, &order.reason) {
            let result = outcome.as_ref().map_or_else(ToString::to_string, |_| "unlocked".to_owned());
            let detail = format!("{}: {reason}; {result}", unlock.door);
            self.journal.push(Command::Act(ActRecord { operator, act: "door.open".into(), detail }));
        }
    }

    /// Journals something at a door, within the bounds of its reader, and remembers it as the door's last event.
    pub(super) fn record(&self, when: When, event: DoorEvent, who: Unlock) {
        let last = LastEvent { event, at_ms: when.at_ms };
        self.last_events.lock().unwrap_or_else(PoisonError::into_inner).insert(who.door, last);
        if let (DoorEvent::Denied(_), Some(reader)) = (event, who.reader)
            && !self.refusals.take(reader, Instant::now())
        {
            return;
        }
        let Unlock { door, reader: terminal, card, person, .. } = who;
        let When { at_ms, time_trusted } = when;
        self.journal.push(Command::Door(DoorRecord { at_ms, time_trusted, door, terminal, card, person, event }));
    }

    /// Journals what a lock's inputs or its line said, within the lock's bounds.
    pub(super) fn record_input(&self, place: Place, when: When, event: DoorEvent, who: Unlock) {
        if self.inputs.take(place, Instant::now()) {
            self.record(when, event, who);
        }
    }

    /// Something that a person must look at, within its bounds: each swipe at a broken door says the same again.
    pub(super) fn alarm(&self, kind: &'static str, about: impl ToString, what: &str) {
        let about = about.to_string();
        if !self.alarms.take((kind, about.clone()), Instant::now()) {
            tracing::debug!(kind, about, what, "door alarm, again");
            return;
        }
        tracing::warn!(kind, about, what, "door alarm");
        self.journal.push(Command::Alarm(AlarmRecord { kind: kind.into(), detail: format!("{about}: {what}") }));
    }

    /// Journals how many entries did not fit into the bounds.
    pub(super) fn tell_kept_back(&self) {
        let now = Instant::now();
        let say = |about: String, count: u64, what: &str| {
            let detail = format!("{about}: {count} {what} were counted and not journaled one by one");
            self.journal.push(Command::Alarm(AlarmRecord { kind: "door_kept_back".into(), detail }));
        };
        for (reader, count) in self.refusals.sweep(now) {
            say(format!("reader {reader}"), count, "refusals");
        }
        for (place, count) in self.inputs.sweep(now) {
            say(self.device(place.line, place.lock), count, "events of contact, button and line");
        }
        for ((kind, about), count) in self.alarms.sweep(now) {
            say(about, count, &format!("alarms of kind {kind}"));
        }
        self.presented.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, p| now < p.until);
    }

    /// Name of a lock, as the policy names it.
    pub(super) fn device(&self, line: usize, lock: DoorRef) -> String {
        let device = self.hardware.lines.get(line).and_then(|line| line.devices.get(&lock));
        device.cloned().unwrap_or_else(|| lock.to_string())
    }

    /// The last event of a door since the start.
    pub(super) fn last_event(&self, door: DoorId) -> Option<LastEvent> {
        self.last_events.lock().unwrap_or_else(PoisonError::into_inner).get(&door).copied()
    }

    /// Now, as events tell it.
    pub(super) fn when(&self) -> When {
        let (at_ms, time_trusted) = self.node.time();
        When { at_ms, time_trusted }
    }

    fn is_same_presentation(&self, reader: TerminalId, card: CardNumber) -> bool {
        let presented = self.presented.lock().unwrap_or_else(PoisonError::into_inner);
        presented.get(&reader).is_some_and(|p| p.card == card && Instant::now() < p.until)
    }

    fn note_presented(&self, order: &Order) {
        if let (Some(reader), Some(card)) = (order.unlock.reader, order.unlock.card) {
            let window_ms = order.pulse_ms.min(SAME_PRESENTATION_MS_MAX);
            let until = Instant::now() + Duration::from_millis(u64::from(window_ms));
            let presented = Presented { card, until };
            self.presented.lock().unwrap_or_else(PoisonError::into_inner).insert(reader, presented);
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Returns when no order is under way.
    pub(super) async fn landed(&self) {
        // The sender is ours, so that waiting cannot fail.
        let _ = self.in_flight.subscribe().wait_for(|n| *n == 0).await;
    }
}

/// The device's word. A driver that ended with the order in its hands leaves it uncertain.
async fn outcome_of(ordered: Result<Ordered, CommandFailure>) -> Result<Confirmation, CommandFailure> {
    match ordered?.outcome().await {
        Err(CommandFailure::Stopped) => {
            Err(CommandFailure::Unconfirmed { cause: "the driver ended meanwhile".to_owned() })
        }
        outcome => outcome,
    }
}

//! What an edge may ask of any door hardware, and what it hears back.
//!
//! A driver runs as one task and is held by a [`DoorHandle`]: commands go in through a bounded queue,
//! events come out of [`DoorEvents`], and [`DoorHandle::snapshot`] shows the newest reported state. State
//! is what the device said, with the time it said it, and `Unknown` where it was not heard: nothing is
//! assumed because a command was sent.
//!
//! Leaves to others: whether the door may open, the journal, and mapping [`DoorRef`] to a door of a campus.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub mod tracker;

/// Commands waiting for one driver. At the bound [`DoorHandle::submit`] refuses with
/// [`CommandFailure::QueueFull`]: a door that opens long after the person left is worse than a refusal.
pub const COMMAND_QUEUE_LEN_MAX: usize = 64;

/// Events waiting for the edge. At the bound the driver goes on steering doors, drops new events, counts
/// them, and reports [`DoorEventKind::EventsLost`] as soon as there is room; the snapshot stays right.
pub const EVENT_QUEUE_LEN_MAX: usize = 1_024;

/// A command that could not be carried out within this time fails instead of opening a door late.
pub const COMMAND_AGE_MS_MAX: u64 = 2_000;

/// Shortest pulse: the resolution of the boards' own timers.
pub const PULSE_MS_MIN: u32 = 100;

/// Longest pulse. Whoever needs a door open for longer holds it open and is journaled for it.
pub const PULSE_MS_MAX: u32 = 120_000;

/// A door as the driver's configuration numbers it; the edge maps it to the campus's door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DoorRef(pub u32);

impl fmt::Display for DoorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{}", self.0)
    }
}

/// Number of a command within one handle's life, ascending from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CommandId(pub u64);

/// What the edge asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum DoorCommand {
    /// Unlock for `duration_ms` ([`PULSE_MS_MIN`]..=[`PULSE_MS_MAX`]), then lock.
    Pulse {
        /// Which door.
        door: DoorRef,
        /// How long it stays unlocked, in milliseconds; boards round up to their resolution.
        duration_ms: u32,
    },
    /// Unlock until [`DoorCommand::Release`].
    HoldOpen {
        /// Which door.
        door: DoorRef,
    },
    /// Lock and refuse pulses until [`DoorCommand::Release`]. A fire signal still frees an escape door.
    HoldClosed {
        /// Which door.
        door: DoorRef,
    },
    /// Back to normal: locked, pulses accepted.
    Release {
        /// Which door.
        door: DoorRef,
    },
}

impl DoorCommand {
    /// The door that the command is for.
    pub fn door(self) -> DoorRef {
        match self {
            DoorCommand::Pulse { door, .. }
            | DoorCommand::HoldOpen { door }
            | DoorCommand::HoldClosed { door }
            | DoorCommand::Release { door } => door,
        }
    }
}

/// How the device confirmed a command. None of them means that the door leaf moved: that is
/// [`DoorEventKind::Opened`], which only the contact can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// The device echoed the request and was not, or could not be, read back.
    Echo,
    /// The device was read afterwards and its output was as commanded.
    ReadBack,
    /// Nothing to do: the door is held open or freed by fire.
    AlreadyUnlocked,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum CommandFailure {
    /// No such door in this driver.
    #[error("door {door} is not configured on this driver")]
    UnknownDoor {
        /// As asked.
        door: DoorRef,
    },
    /// Outside [`PULSE_MS_MIN`]..=[`PULSE_MS_MAX`].
    #[error("a pulse of {duration_ms} ms is outside {PULSE_MS_MIN}..={PULSE_MS_MAX} ms")]
    BadDuration {
        /// As asked.
        duration_ms: u32,
    },
    /// [`COMMAND_QUEUE_LEN_MAX`] commands are waiting.
    #[error("{COMMAND_QUEUE_LEN_MAX} commands are waiting for this device: it is slower than its demand")]
    QueueFull,
    /// The driver has ended.
    #[error("the driver has stopped")]
    Stopped,
    /// The device does not answer; the command was not sent.
    #[error("the device does not answer ({cause}): check its power, cable and address")]
    LineDown {
        /// The last failure of the line.
        cause: String,
    },
    /// Older than [`COMMAND_AGE_MS_MAX`] before it could be sent.
    #[error("the command waited longer than {COMMAND_AGE_MS_MAX} ms and was not sent")]
    Expired,
    /// Sent, but neither the answer nor the output said that it was carried out.
    #[error("sent but not confirmed ({cause}): the door may or may not have been unlocked")]
    Unconfirmed {
        /// What went wrong.
        cause: String,
    },
    /// The device refused.
    #[error("the device refused with exception {code} ({meaning}): check the board's addresses and pulse method")]
    Refused {
        /// The protocol's error code.
        code: u8,
        /// In words.
        meaning: &'static str,
    },
    /// The device confirmed, but its output did not change.
    #[error("the device confirmed but its relay did not move: check relay number, polarity and pulse method")]
    NotActuated,
    /// [`DoorCommand::HoldClosed`] is in force.
    #[error("the door is held closed; release it first")]
    HeldClosed,
    /// A fire signal is active and the door is an escape door.
    #[error("the fire signal keeps this escape door free")]
    FireActive,
}

/// Door contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactState {
    /// Not heard, not debounced, or no contact wired.
    #[default]
    Unknown,
    /// The leaf is open.
    Open,
    /// The leaf is closed.
    Closed,
}

/// Any other input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalState {
    /// Not heard, not debounced, or not wired.
    #[default]
    Unknown,
    /// Pressed, alarming.
    Active,
    /// At rest.
    Inactive,
}

/// Lock output as the device reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayState {
    /// Not read since the line was last lost.
    #[default]
    Unknown,
    /// The output unlocks the door.
    Unlocked,
    /// The output locks the door.
    Locked,
}

/// Standing order for a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DoorMode {
    /// Locked between pulses.
    #[default]
    Normal,
    /// Unlocked until released.
    HeldOpen,
    /// Locked, pulses refused, until released.
    HeldClosed,
}

/// A debounced change of an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum InputChange {
    /// Door contact.
    Contact {
        /// Which door.
        door: DoorRef,
        /// What it says.
        state: ContactState,
    },
    /// Exit button (出门按钮). The edge answers `Active` with a pulse.
    ExitButton {
        /// Which door.
        door: DoorRef,
        /// What it says.
        state: SignalState,
    },
    /// Fire signal of a board. Escape doors are freed by the driver itself, at once.
    Fire {
        /// Name of the board that carries the input.
        board: String,
        /// What it says.
        state: SignalState,
    },
}

/// Why a door may have opened, judged from what the driver knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenCause {
    /// Within a pulse or its grace.
    Pulse,
    /// The exit button was pressed just before.
    ExitButton,
    /// The door is held open.
    HeldOpen,
    /// The fire signal freed it.
    Fire,
    /// None of these: the door was forced or opened by a key.
    Forced,
    /// The opening itself fell into a time when the device was not heard.
    Unobserved,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DoorEventKind {
    /// A debounced input changed, or became unknown because a poll was missed.
    InputChanged(InputChange),
    /// The contact said that the leaf opened.
    Opened {
        /// Which door.
        door: DoorRef,
        /// Why, as far as known.
        cause: OpenCause,
    },
    /// The contact said that the leaf closed.
    Closed {
        /// Which door.
        door: DoorRef,
    },
    /// The leaf stayed open longer than the profile allows (ACS-24).
    HeldOpenTooLong {
        /// Which door.
        door: DoorRef,
    },
    /// A command was confirmed.
    CommandDone {
        /// From [`DoorHandle::submit`].
        id: CommandId,
        /// Which door.
        door: DoorRef,
        /// By what.
        confirmation: Confirmation,
    },
    /// A command was not carried out.
    CommandFailed {
        /// From [`DoorHandle::submit`].
        id: CommandId,
        /// Which door.
        door: DoorRef,
        /// Why.
        failure: CommandFailure,
    },
    /// The fire signal freed an escape door, and the device confirmed.
    FreedByFire {
        /// Which door.
        door: DoorRef,
    },
    /// An output was found in another state than it should have, and was written again: a board that
    /// kept its last state over a power cut, a pulse that did not end, or another master on the line.
    /// Told once until the output is found right.
    RelayCorrected {
        /// Which door.
        door: DoorRef,
        /// What was found.
        found: RelayState,
    },
    /// The device is not heard any more; its doors are unknown.
    LineLost {
        /// The device's doors.
        doors: Vec<DoorRef>,
        /// What went wrong last.
        cause: String,
    },
    /// The device is heard, its outputs are in the state they should have.
    LineBack {
        /// The device's doors.
        doors: Vec<DoorRef>,
    },
    /// The edge did not take events fast enough.
    EventsLost {
        /// How many were dropped since the last one delivered.
        count: u64,
    },
}

/// An event with the moment at which the driver learned of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorEvent {
    /// Monotonic; the edge turns the age into its own time.
    pub observed_at: Instant,
    /// What happened.
    pub kind: DoorEventKind,
}

/// Newest reported state of one door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorState {
    /// Door contact.
    pub contact: ContactState,
    /// Exit button.
    pub exit_button: SignalState,
    /// Lock output as last read or echoed.
    pub relay: RelayState,
    /// Standing order.
    pub mode: DoorMode,
    /// Whether the fire signal frees this door at present.
    pub freed_by_fire: bool,
    /// Whether the device is heard.
    pub line_up: bool,
    /// When the device was last heard; `None` before the first time.
    pub observed_at: Option<Instant>,
}

/// Newest state of every door of a driver.
pub type DoorStates = BTreeMap<DoorRef, DoorState>;

/// A command on its way to the driver, with the place for its answer.
#[derive(Debug)]
pub struct QueuedCommand {
    /// Number given at submission.
    pub id: CommandId,
    /// What to do.
    pub command: DoorCommand,
    /// When it was submitted.
    pub submitted_at: Instant,
    reply: Option<oneshot::Sender<Result<Confirmation, CommandFailure>>>,
}

/// The edge's end of a driver. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DoorHandle {
    doors: Arc<[DoorRef]>,
    commands: mpsc::Sender<QueuedCommand>,
    states: watch::Receiver<DoorStates>,
    held_open: watch::Sender<HeldOpenLimits>,
    next_id: Arc<AtomicU64>,
}

/// How long each leaf may stand open, in milliseconds, where that differs from the configuration.
pub type HeldOpenLimits = BTreeMap<DoorRef, u32>;

/// A command on its way, whose outcome can be waited for.
#[derive(Debug)]
pub struct Ordered(oneshot::Receiver<Result<Confirmation, CommandFailure>>);

impl Ordered {
    /// How it ended. The wait is bounded by [`COMMAND_AGE_MS_MAX`] and the device's own time-outs. Giving up the
    /// wait does not call the command back. `Stopped` here means that the driver ended with the command in its
    /// hands: it may have been carried out.
    pub async fn outcome(self) -> Result<Confirmation, CommandFailure> {
        self.0.await.unwrap_or(Err(CommandFailure::Stopped))
    }
}

impl DoorHandle {
    /// The doors that this driver steers, ascending.
    pub fn doors(&self) -> &[DoorRef] {
        &self.doors
    }

    /// Queues a command; its outcome comes as `CommandDone` or `CommandFailed` with the returned id.
    /// Never waits.
    pub fn submit(&self, command: DoorCommand) -> Result<CommandId, CommandFailure> {
        self.enqueue(command, None)
    }

    /// Queues a command at once; its outcome can be waited for, and also goes out as an event. An error here
    /// means that nothing was and will be sent.
    pub fn order(&self, command: DoorCommand) -> Result<Ordered, CommandFailure> {
        let (reply, outcome) = oneshot::channel();
        self.enqueue(command, Some(reply))?;
        Ok(Ordered(outcome))
    }

    /// Queues a command and waits for its outcome: [`DoorHandle::order`], then [`Ordered::outcome`].
    pub async fn execute(&self, command: DoorCommand) -> Result<Confirmation, CommandFailure> {
        self.order(command)?.outcome().await
    }

    /// Sets how long leaves may stand open, in place of what was set before; holds until the driver ends.
    pub fn set_held_open(&self, limits: HeldOpenLimits) {
        self.held_open.send_if_modified(|set| {
            let differs = *set != limits;
            *set = limits;
            differs
        });
    }

    /// Newest reported state of every door.
    pub fn snapshot(&self) -> DoorStates {
        self.states.borrow().clone()
    }

    /// Newest reported state of one door; `None` before the first.
    pub fn state(&self, door: DoorRef) -> Option<DoorState> {
        self.states.borrow().get(&door).copied()
    }

    /// Waits until the states change, then shows them; `None` when the driver has ended.
    pub async fn changed(&mut self) -> Option<DoorStates> {
        self.states.changed().await.ok()?;
        Some(self.states.borrow_and_update().clone())
    }

    fn enqueue(
        &self,
        command: DoorCommand,
        reply: Option<oneshot::Sender<Result<Confirmation, CommandFailure>>>,
    ) -> Result<CommandId, CommandFailure> {
        let door = command.door();
        if self.doors.binary_search(&door).is_err() {
            return Err(CommandFailure::UnknownDoor { door });
        }
        if let DoorCommand::Pulse { duration_ms, .. } = command
            && !(PULSE_MS_MIN..=PULSE_MS_MAX).contains(&duration_ms)
        {
            return Err(CommandFailure::BadDuration { duration_ms });
        }
        let id = CommandId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let queued = QueuedCommand { id, command, submitted_at: Instant::now(), reply };
        match self.commands.try_send(queued) {
            Ok(()) => Ok(id),
            Err(mpsc::error::TrySendError::Full(_)) => Err(CommandFailure::QueueFull),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(CommandFailure::Stopped),
        }
    }
}

/// Stream of what happens; exactly one reader.
#[derive(Debug)]
pub struct DoorEvents(mpsc::Receiver<DoorEvent>);

impl DoorEvents {
    /// The next event; `None` when the driver has ended. If nobody stopped it, it failed: start it again.
    pub async fn next(&mut self) -> Option<DoorEvent> {
        self.0.recv().await
    }

    /// The next event if one is waiting.
    pub fn try_next(&mut self) -> Option<DoorEvent> {
        self.0.try_recv().ok()
    }
}

/// A driver at work: the handle to clone, the events to read, and the way to end it.
#[derive(Debug)]
pub struct RunningDriver {
    /// Where commands go in.
    pub handle: DoorHandle,
    /// Where events come out.
    pub events: DoorEvents,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl RunningDriver {
    /// Starts `run` as a task for `doors`. `run` must end when [`DriverPort::stopped`] does.
    pub fn spawn<F, R>(doors: impl IntoIterator<Item = DoorRef>, run: F) -> Self
    where
        F: FnOnce(DriverPort) -> R,
        R: Future<Output = ()> + Send + 'static,
    {
        let mut doors: Vec<DoorRef> = doors.into_iter().collect();
        doors.sort_unstable();
        doors.dedup();
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE_LEN_MAX);
        let (event_queue, events) = mpsc::channel(EVENT_QUEUE_LEN_MAX);
        let (states, newest) = watch::channel(DoorStates::new());
        let (stop, stopping) = watch::channel(false);
        let (held_open, limits) = watch::channel(HeldOpenLimits::new());
        let events_out = EventSink { queue: event_queue, lost: 0 };
        let port = DriverPort { commands: command_queue, events: events_out, states, held_open: limits, stopping };
        let next_id = Arc::new(AtomicU64::new(1));
        let handle = DoorHandle { doors: doors.into(), commands, states: newest, held_open, next_id };
        RunningDriver { handle, events: DoorEvents(events), stop, task: tokio::spawn(run(port)) }
    }

    /// Takes the parts that work needs, leaving the part that ends it.
    pub fn split(self) -> (DoorHandle, DoorEvents, DriverStop) {
        (self.handle, self.events, DriverStop { stop: self.stop, task: self.task })
    }

    /// Ends the driver; it first locks what only it would have locked.
    pub async fn stop(self) {
        self.split().2.stop().await;
    }
}

/// Ends a driver. Dropping it ends the driver as well, without waiting.
#[derive(Debug)]
pub struct DriverStop {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl DriverStop {
    /// Ends the driver and waits until it has locked what only it would have locked.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "door driver task failed");
        }
    }
}

/// The driver's end.
#[derive(Debug)]
pub struct DriverPort {
    commands: mpsc::Receiver<QueuedCommand>,
    /// Where events go.
    pub events: EventSink,
    states: watch::Sender<DoorStates>,
    held_open: watch::Receiver<HeldOpenLimits>,
    stopping: watch::Receiver<bool>,
}

impl DriverPort {
    /// Whether the driver was asked to end, or everybody who could ask is gone.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow() || self.stopping.has_changed().is_err()
    }

    /// Returns when the driver is to end.
    pub async fn stopped(&mut self) {
        stop_asked(&mut self.stopping).await;
    }

    /// The limits of [`DoorHandle::set_held_open`], if they were changed since the last call.
    pub fn held_open_changed(&mut self) -> Option<HeldOpenLimits> {
        let changed = self.held_open.has_changed().unwrap_or(false);
        changed.then(|| self.held_open.borrow_and_update().clone())
    }

    /// The next command if one is waiting.
    pub fn try_command(&mut self) -> Option<QueuedCommand> {
        self.commands.try_recv().ok()
    }

    /// The next command, or `None` when the driver is to end. Safe to cancel.
    pub async fn command(&mut self) -> Option<QueuedCommand> {
        let DriverPort { commands, stopping, .. } = self;
        tokio::select! {
            biased;
            () = stop_asked(stopping) => None,
            // With no handle left this arm falls away: the doors still want watching until `stop`.
            Some(command) = commands.recv() => Some(command),
        }
    }

    /// Publishes the newest states if they differ from the last ones.
    pub fn publish(&self, states: DoorStates) {
        self.states.send_if_modified(|newest| {
            let differs = *newest != states;
            *newest = states;
            differs
        });
    }

    /// Tells the asker and the event stream how a command ended.
    pub fn finish(&mut self, queued: QueuedCommand, outcome: Result<Confirmation, CommandFailure>) {
        let (id, door) = (queued.id, queued.command.door());
        self.events.emit(match &outcome {
            Ok(confirmation) => DoorEventKind::CommandDone { id, door, confirmation: *confirmation },
            Err(failure) => DoorEventKind::CommandFailed { id, door, failure: failure.clone() },
        });
        if let Some(reply) = queued.reply {
            // The asker may have gone away; the event has told the journal.
            let _ = reply.send(outcome);
        }
    }
}

async fn stop_asked(stopping: &mut watch::Receiver<bool>) {
    // An error means that the other side is gone, which ends the driver too.
    drop(stopping.wait_for(|stop| *stop).await);
}

/// Event queue that never blocks the driver.
#[derive(Debug)]
pub struct EventSink {
    queue: mpsc::Sender<DoorEvent>,
    lost: u64,
}

impl EventSink {
    /// Sends an event with the present moment.
    pub fn emit(&mut self, kind: DoorEventKind) {
        let observed_at = Instant::now();
        if self.lost > 0 {
            let notice = DoorEvent { observed_at, kind: DoorEventKind::EventsLost { count: self.lost } };
            if self.queue.try_send(notice).is_err() {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        if self.queue.try_send(DoorEvent { observed_at, kind }).is_err() {
            self.lost += 1;
            tracing::warn!(lost = self.lost, "door events are not taken: event queue full or reader gone");
        }
    }
}

#[cfg(test)]
mod tests;

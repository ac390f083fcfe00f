//! Doors of this campus: decide from memory, actuate, then journal (design section 5).
//!
//! | module | holds |
//! | --- | --- |
//! | [`config`] | which hardware hangs on this box |
//! | `decision` | who may pass, and why or why not |
//! | `hardware` | drivers kept running, orders to them |
//! | `passing` | an unlocking from order to journal |
//! | `events` | what drivers tell, as journal entries and alarms |
//! | [`journal`] | entries on their way, kept while the disk refuses |
//! | [`view`] | doors as pages show them |
//! | `quota` | how much a stuck reader or contact may write |
//!
//! Leaves to others: how readers reach us (`terminals`), pages (`console`), the wire of each board (`yika_drivers`).

pub mod config;
mod decision;
mod events;
mod hardware;
pub mod journal;
mod passing;
mod quota;
pub mod view;

pub use config::{DoorsConfig, DoorsConfigError, ModbusLine};
pub use decision::{WhyOrWhyNot, Words};
pub use hardware::DriverState;
pub use journal::JournalState;
pub use view::{DoorView, LastEvent, LineState};
pub use yika_drivers::door::{CommandFailure, Confirmation};

use crate::node::EdgeNode;
use decision::Moment;
use hardware::Hardware;
use journal::Journal;
use passing::{Order, Passing};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use yika_crdt::entry::{OpenedBy, TerminalRecord};
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;

/// Longest wait of a card or operator for the hardware's word, in milliseconds. At the bound the answer is "not ready";
/// what becomes of the order is journaled all the same.
pub const ANSWER_MS_MAX: u64 = 4_000;
/// Longest graceful stop, in milliseconds: the drivers' last requests, then the journal.
pub const STOP_MS_MAX: u64 = 10_000;
/// How often kept-back entries are told as alarms, in milliseconds.
pub const SWEEP_MS: u64 = 60_000;
/// Longest reason an operator may give, in characters.
pub const REASON_CHARS_MAX: usize = 200;

/// The running doors; cheap to clone.
#[derive(Clone)]
pub struct Doors {
    passing: Arc<Passing>,
    tasks: Arc<Mutex<Tasks>>,
}

#[derive(Default)]
struct Tasks {
    lines: Vec<JoinHandle<()>>,
    journal: Option<JoinHandle<()>>,
}

/// Why a door was not opened from afar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefused {
    /// No such door in the policy of this campus.
    #[error("there is no door {0} on this campus")]
    UnknownDoor(DoorId),
    /// Openings from afar are accounted for.
    #[error("a reason of 1 to {REASON_CHARS_MAX} characters is needed")]
    ReasonMissing,
    /// The policy names hardware that this box does not have.
    #[error("this box has no hardware {device:?}; set the door's device or the box's configuration right")]
    NoHardware {
        /// As the policy names it.
        device: String,
    },
    /// The device's word, or the lack of it.
    #[error(transparent)]
    Failed(#[from] CommandFailure),
    /// The hardware has not answered in time; the order may still be carried out, and is journaled then.
    #[error("no word from the hardware within {ANSWER_MS_MAX} ms; look at the door's last event")]
    NoWordYet,
}

impl Doors {
    /// Starts the drivers. Must be called within a runtime.
    ///
    /// # Errors
    /// When the configuration names hardware that cannot be.
    pub fn start(node: Arc<EdgeNode>, config: &DoorsConfig) -> anyhow::Result<Doors> {
        config.validate()?;
        let passing = Arc::new(Passing::new(Arc::clone(&node), Hardware::new(config)));
        let mut tasks = Tasks::default();
        for (index, line) in config.bus.iter().cloned().enumerate() {
            let (passing, stopping) = (Arc::clone(&passing), passing.stopping());
            tasks.lines.push(tokio::spawn(async move {
                hardware::keep(&passing.hardware, index, &passing, || hardware::start_modbus(&line), stopping).await;
            }));
        }
        tasks.lines.push(tokio::spawn(tell_kept_back(Arc::clone(&passing))));
        tasks.journal = Some(tokio::spawn(Journal::run(Arc::clone(&passing.journal), node)));
        Ok(Doors { passing, tasks: Arc::new(Mutex::new(tasks)) })
    }

    /// A card at a reader: decided, actuated, journaled. The person let in, or why not.
    ///
    /// # Errors
    /// The reason, in the closed list. `BoxNotReady` where there was a right and the hardware did not confirm.
    pub async fn swipe(&self, reader: &TerminalRecord, card: CardNumber) -> Result<PersonId, Reason> {
        if self.passing.is_stopping() {
            return Err(Reason::BoxNotReady);
        }
        self.passing.swipe(reader, card).await
    }

    /// The decision alone: nothing moves, nothing is journaled.
    ///
    /// # Errors
    /// As [`Doors::swipe`], the hardware aside.
    pub fn decide(&self, reader: &TerminalRecord, card: CardNumber) -> Result<PersonId, Reason> {
        let door = decision::door_of(&self.passing.node, reader)?;
        let now = Moment::now(&self.passing.node).ok_or(Reason::BoxNotReady)?;
        match self.passing.decide(door, card, now) {
            Ok(pass) => Ok(pass.person),
            Err(refusal) => Err(refusal.reason),
        }
    }

    /// Opens from afar. The result is the device's report; the opening, the operator and the reason are journaled.
    ///
    /// # Errors
    /// Why not, in words; a refusal by the hardware is journaled too.
    pub async fn open(&self, door: DoorId, operator: OperatorId, reason: &str) -> Result<Confirmation, OpenRefused> {
        let reason = reason.trim();
        let chars = reason.chars().count();
        if !(1..=REASON_CHARS_MAX).contains(&chars) || reason.chars().any(char::is_control) {
            return Err(OpenRefused::ReasonMissing);
        }
        if self.passing.is_stopping() {
            return Err(CommandFailure::Stopped.into());
        }
        let facts = self.passing.node.access.read().doors.get(&door).cloned();
        let facts = facts.ok_or(OpenRefused::UnknownDoor(door))?;
        let Some(place) = self.passing.hardware.places.get(&facts.device).copied() else {
            return Err(OpenRefused::NoHardware { device: facts.device });
        };
        let order = Order::new(place, facts.pulse_ms, OpenedBy::Remote(operator), door, self.passing.when());
        let order = Order { reason: Some(reason.to_owned()), ..order };
        match timeout(Duration::from_millis(ANSWER_MS_MAX), self.passing.unlock(order)).await {
            Ok(Ok(outcome)) => Ok(outcome?),
            Ok(Err(_)) | Err(_) => Err(OpenRefused::NoWordYet),
        }
    }

    /// Doors of the policy with their reported state.
    pub fn list(&self) -> Vec<DoorView> {
        view::list(&self.passing)
    }

    /// Why a card opens a door now, or why not. `None` while the registry does not tell this campus' calendar.
    pub fn explain(&self, door: DoorId, card: CardNumber) -> Option<WhyOrWhyNot> {
        let now = Moment::now(&self.passing.node)?;
        Some(decision::explain(&self.passing.node, door, card, now))
    }

    /// Lines of this box with the state of their drivers.
    pub fn lines(&self) -> Vec<(String, DriverState)> {
        self.passing.hardware.lines.iter().map(|line| (line.name.clone(), line.driver())).collect()
    }

    /// Whether door events reach the journal.
    pub fn journal(&self) -> JournalState {
        self.passing.journal.state()
    }

    /// Stops the drivers, which lock what only they would lock, and writes what waits; bounded by [`STOP_MS_MAX`].
    pub async fn stop(&self) {
        self.passing.stop();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let journal = tasks.journal.as_ref().map(JoinHandle::abort_handle);
        let ending = async {
            for line in tasks.lines {
                let _ = line.await;
            }
            self.passing.landed().await;
            self.passing.tell_kept_back();
            self.passing.journal.close();
            if let Some(journal) = tasks.journal {
                let _ = journal.await;
            }
        };
        if timeout(Duration::from_millis(STOP_MS_MAX), ending).await.is_err() {
            let left = self.passing.journal.state();
            tracing::error!(
                waiting = left.waiting,
                lost = left.lost,
                "door events could not be written before the stop"
            );
            journal.inspect(tokio::task::AbortHandle::abort);
        }
    }
}

async fn tell_kept_back(passing: Arc<Passing>) {
    let mut stopping = passing.stopping();
    let sweep = Duration::from_millis(SWEEP_MS);
    while timeout(sweep, stopping.wait_for(|stop| *stop)).await.is_err() {
        passing.tell_kept_back();
    }
}

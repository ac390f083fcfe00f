//! The lines of this box: each driver kept running, its handle for orders, and who unlocked which lock last.
//!
//! A driver loop that ends by itself is started again after a pause that doubles, and shown until then. Leaves to
//! others: what its events mean (`events`), the wire (`yika_drivers`).

use super::config::{DoorsConfig, ModbusLine};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use yika_crdt::entry::OpenedBy;
use yika_crdt::ids::*;
use yika_drivers::door::{
    CommandFailure, DoorCommand, DoorEvent, DoorHandle, DoorRef, DoorState, HeldOpenLimits, Ordered, RunningDriver,
};
use yika_drivers::modbus;

/// First pause before a driver that ended is started again, in milliseconds; it doubles.
pub(super) const RESTART_MS_MIN: u64 = 500;
/// Longest pause, in milliseconds.
pub(super) const RESTART_MS_MAX: u64 = 60_000;
/// How often a running driver is told what the policy says of its doors, in milliseconds.
pub(super) const POLICY_LOOK_MS: u64 = 1_000;

/// A lock on a line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) lock: DoorRef,
}

/// How a line's driver is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverState {
    /// Runs.
    Running,
    /// Ended by itself; is started again.
    Restarting {
        /// How many times it ended since it last ran for long.
        failures: u32,
    },
    /// Not started yet, or ended because the box stops.
    Stopped,
}

/// Who unlocked a lock last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unlock {
    pub(super) by: OpenedBy,
    pub(super) door: DoorId,
    pub(super) reader: Option<TerminalId>,
    pub(super) card: Option<CardNumber>,
    pub(super) person: Option<PersonId>,
}

/// One line with its driver.
pub(super) struct Line {
    pub(super) name: String,
    /// Names of its locks, as the policy names them.
    pub(super) devices: BTreeMap<DoorRef, String>,
    state: Mutex<LineState>,
}

struct LineState {
    driver: DriverState,
    handle: Option<DoorHandle>,
    unlocks: BTreeMap<DoorRef, Unlock>,
}

/// All lines, and where each named lock hangs.
pub(super) struct Hardware {
    pub(super) lines: Vec<Line>,
    pub(super) places: BTreeMap<String, Place>,
}

impl Hardware {
    /// Nothing runs yet.
    pub(super) fn new(config: &DoorsConfig) -> Hardware {
        let lines: Vec<Line> = config.bus.iter().map(Line::new).collect();
        let mut places = BTreeMap::new();
        for (line, it) in lines.iter().enumerate() {
            places.extend(it.devices.iter().map(|(lock, device)| (device.clone(), Place { line, lock: *lock })));
        }
        Hardware { lines, places }
    }

    /// Unlocks for a while. An error means that nothing was and will be sent.
    pub(super) fn unlock(&self, place: Place, pulse_ms: u32) -> Result<Ordered, CommandFailure> {
        let handle = self.lines.get(place.line).and_then(Line::handle).ok_or(CommandFailure::Stopped)?;
        handle.order(DoorCommand::Pulse { door: place.lock, duration_ms: pulse_ms })
    }

    /// What the device last reported of a lock, if its driver runs.
    pub(super) fn reported(&self, place: Place) -> Option<DoorState> {
        let handle = self.lines.get(place.line).and_then(Line::handle)?;
        handle.state(place.lock)
    }

    /// Remembers who unlocked a lock.
    pub(super) fn note_unlock(&self, place: Place, unlock: Unlock) {
        if let Some(line) = self.lines.get(place.line) {
            line.lock().unlocks.insert(place.lock, unlock);
        }
    }
}

impl Line {
    fn new(config: &ModbusLine) -> Line {
        let state = LineState { driver: DriverState::Stopped, handle: None, unlocks: BTreeMap::new() };
        Line { name: config.name.clone(), devices: config.devices().collect(), state: Mutex::new(state) }
    }

    /// How the driver is.
    pub(super) fn driver(&self) -> DriverState {
        self.lock().driver.clone()
    }

    /// Who unlocked a lock last.
    pub(super) fn last_unlock(&self, lock: DoorRef) -> Option<Unlock> {
        self.lock().unlocks.get(&lock).copied()
    }

    fn handle(&self) -> Option<DoorHandle> {
        self.lock().handle.clone()
    }

    fn set(&self, driver: DriverState, handle: Option<DoorHandle>) {
        let mut state = self.lock();
        (state.driver, state.handle) = (driver, handle);
    }

    fn lock(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the keeper of a line tells and asks.
pub(super) trait Listener: Send + Sync {
    /// The driver said something.
    fn on_event(&self, line: usize, event: DoorEvent);
    /// The driver ended by itself.
    fn on_driver_ended(&self, line: usize, failures: u32);
    /// How long the leaves of a line may stand open, as the policy says now.
    fn held_open(&self, line: usize) -> HeldOpenLimits;
}

/// Starts the driver of a configured line.
pub(super) fn start_modbus(config: &ModbusLine) -> Result<RunningDriver, String> {
    modbus::spawn(config.driver()).map_err(|error| error.to_string())
}

/// Keeps the driver of a line running until told to stop; `start` makes a new one.
pub(super) async fn keep(
    hardware: &Hardware,
    index: usize,
    listener: &impl Listener,
    start: impl Fn() -> Result<RunningDriver, String>,
    mut stopping: watch::Receiver<bool>,
) {
    let Some(line) = hardware.lines.get(index) else { return };
    let mut failures = 0u32;
    loop {
        let started = Instant::now();
        match start() {
            Ok(driver) => {
                if run(line, index, listener, driver, &mut stopping).await {
                    line.set(DriverState::Stopped, None);
                    return;
                }
            }
            Err(error) => tracing::error!(line = line.name, error, "door driver cannot be started"),
        }
        let pause_ms = (RESTART_MS_MIN << failures.min(10)).min(RESTART_MS_MAX);
        let ran_long = started.elapsed() > Duration::from_millis(RESTART_MS_MAX);
        failures = if ran_long { 1 } else { failures.saturating_add(1) };
        line.set(DriverState::Restarting { failures }, None);
        listener.on_driver_ended(index, failures);
        let stop = tokio::time::timeout(Duration::from_millis(pause_ms), stopping.wait_for(|stop| *stop));
        if stop.await.is_ok() {
            line.set(DriverState::Stopped, None);
            return;
        }
    }
}

/// Serves one driver; returns whether it ended because it was told to.
async fn run(
    line: &Line,
    index: usize,
    listener: &impl Listener,
    driver: RunningDriver,
    stopping: &mut watch::Receiver<bool>,
) -> bool {
    let (handle, mut events, stop) = driver.split();
    line.set(DriverState::Running, Some(handle.clone()));
    let mut look = tokio::time::interval(Duration::from_millis(POLICY_LOOK_MS));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            event = events.next() => match event {
                Some(event) => listener.on_event(index, event),
                None => return false,
            },
            _ = look.tick() => handle.set_held_open(listener.held_open(index)),
        }
    }
    stop.stop().await;
    while let Some(event) = events.try_next() {
        listener.on_event(index, event);
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const LOCK: DoorRef = DoorRef(1);

    #[derive(Default)]
    struct Ended(AtomicU32);

    impl Listener for Ended {
        fn on_event(&self, _line: usize, _event: DoorEvent) {}
        fn on_driver_ended(&self, _line: usize, failures: u32) {
            self.0.store(failures, Ordering::SeqCst);
        }
        fn held_open(&self, _line: usize) -> HeldOpenLimits {
            HeldOpenLimits::new()
        }
    }

    fn hardware() -> Hardware {
        let config = toml::from_str(
            "[[bus]]\nname = 'line'\ntransport = { kind = 'tcp', address = '127.0.0.1:1' }\n[[bus.boards]]\nname = 'b'\n\
             pulse = { method = 'flash_coil' }\ndoors = [{ door = 1, relay = 1 }]\n",
        );
        Hardware::new(&config.unwrap())
    }

    #[tokio::test(start_paused = true)] // the pauses are the runtime's own, so a busy machine changes nothing
    async fn a_driver_that_panics_is_started_again_and_shown_meanwhile() {
        let (hardware, ended, starts) = (hardware(), Ended::default(), AtomicU32::new(0));
        let place = hardware.places["modbus:b/1"];
        let (stop, stopping) = watch::channel(false);
        let start = || {
            let broken = starts.fetch_add(1, Ordering::SeqCst) < 2;
            Ok(RunningDriver::spawn([LOCK], move |mut port| async move {
                assert!(!broken, "the driver loop dies");
                while let Some(command) = port.command().await {
                    port.finish(command, Ok(yika_drivers::door::Confirmation::Echo));
                }
            }))
        };
        let steps = async {
            for failures in 1..=2 {
                while ended.0.load(Ordering::SeqCst) < failures {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                assert_eq!(hardware.lines[0].driver(), DriverState::Restarting { failures });
                assert_eq!(hardware.unlock(place, 500).err(), Some(CommandFailure::Stopped));
            }
            let since = Instant::now();
            while hardware.lines[0].driver() != DriverState::Running {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(since.elapsed() >= Duration::from_millis(RESTART_MS_MIN * 2 - 1), "the pause doubles");
            assert!(hardware.unlock(place, 500).unwrap().outcome().await.is_ok());
            stop.send_replace(true);
        };
        tokio::join!(keep(&hardware, 0, &ended, start, stopping), steps);
        assert_eq!(hardware.lines[0].driver(), DriverState::Stopped);
    }
}

//! The state of each terminal as it last told, in memory: for status pages (TRM-3).
//!
//! Only terminals that signed correctly stand here, so the registry bounds it. Leaves to others: pages, alarms.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use yika_crdt::ids::TerminalId;
use yika_drivers::terminal::message::Heartbeat;

/// How often a terminal should tell its state, in seconds.
pub const HEARTBEAT_EVERY_S: u64 = 5;
/// Age of the last request up to which a terminal counts as online, in seconds: three heartbeats.
pub const ONLINE_S_MAX: u64 = 3 * HEARTBEAT_EVERY_S;
/// Age up to which it counts as late, in seconds; then it is lost.
pub const LATE_S_MAX: u64 = 60;

/// How a terminal stands by the age of its last request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Heard within [`ONLINE_S_MAX`].
    Online,
    /// Heard within [`LATE_S_MAX`].
    Late,
    /// Not heard for longer.
    Lost,
}

impl Presence {
    fn of(age: Duration) -> Presence {
        match age.as_secs() {
            0..=ONLINE_S_MAX => Presence::Online,
            s if s <= LATE_S_MAX => Presence::Late,
            _ => Presence::Lost,
        }
    }
}

/// A terminal as it last told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// By the age of its last request.
    pub presence: Presence,
    /// That age.
    pub age: Duration,
    /// Its boot number.
    pub boot: u32,
    /// How far its clock was ahead at its last request, in milliseconds.
    pub clock_ahead_ms: i64,
    /// Maker and model, and version of its software, as told at sign-in.
    pub model: Option<(String, String)>,
    /// Backlog, storage, versions, as told by its last heartbeat.
    pub heartbeat: Option<Heartbeat>,
}

struct Line {
    heard: Instant,
    boot: u32,
    clock_ahead_ms: i64,
    model: Option<(String, String)>,
    heartbeat: Option<Heartbeat>,
}

/// Every terminal that was heard since the start.
#[derive(Default)]
pub struct Board {
    lines: Mutex<BTreeMap<TerminalId, Line>>,
}

impl Board {
    /// A terminal's state; `None` if it was not heard since the start.
    pub fn status(&self, terminal: TerminalId) -> Option<Status> {
        self.lock().get(&terminal).map(Line::status)
    }

    /// Every terminal heard since the start.
    pub fn all(&self) -> BTreeMap<TerminalId, Status> {
        self.lock().iter().map(|(terminal, line)| (*terminal, line.status())).collect()
    }

    pub(super) fn heard(&self, terminal: TerminalId, boot: u32, clock_ahead_ms: i64) {
        let now = Instant::now();
        let mut lines = self.lock();
        let fresh = || Line { heard: now, boot, clock_ahead_ms, model: None, heartbeat: None };
        let line = lines.entry(terminal).or_insert_with(fresh);
        (line.heard, line.boot, line.clock_ahead_ms) = (now, boot, clock_ahead_ms);
    }

    pub(super) fn signed_in(&self, terminal: TerminalId, model: String, firmware: String) {
        if let Some(line) = self.lock().get_mut(&terminal) {
            line.model = Some((model, firmware));
        }
    }

    pub(super) fn beat(&self, terminal: TerminalId, heartbeat: Heartbeat) {
        if let Some(line) = self.lock().get_mut(&terminal) {
            line.heartbeat = Some(heartbeat);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TerminalId, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn status(&self) -> Status {
        let age = self.heard.elapsed();
        Status {
            presence: Presence::of(age),
            age,
            boot: self.boot,
            clock_ahead_ms: self.clock_ahead_ms,
            model: self.model.clone(),
            heartbeat: self.heartbeat.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows TRM-3.
    #[tokio::test(start_paused = true)]
    async fn a_silent_terminal_is_late_and_then_lost() {
        let board = Board::default();
        board.heard(TerminalId(1), 1, 0);
        let presence = || board.status(TerminalId(1)).map(|s| s.presence);
        assert_eq!(presence(), Some(Presence::Online));
        tokio::time::advance(Duration::from_secs(ONLINE_S_MAX + 1)).await;
        assert_eq!(presence(), Some(Presence::Late));
        tokio::time::advance(Duration::from_secs(LATE_S_MAX)).await;
        assert_eq!(presence(), Some(Presence::Lost));
        assert_eq!(board.status(TerminalId(2)), None);
    }
}

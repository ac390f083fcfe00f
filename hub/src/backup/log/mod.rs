//! The log between two backups: every turn's writes, sealed, chained and synced in a folder that survives the hub's disk.
//!
//! A turn's record is durable in the outbox with the turn itself; a thread of its own carries it to the folder within
//! [`LAG_MS_MAX`] and stops nothing when it cannot. A log is worth something only on top of a backup that it continues:
//! where there is none, or a gap, a new backup is made at once. Leaves to others: who makes it (`app`).

pub mod record;
pub mod replay;
pub mod segment;
pub mod ship;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the log lags at most while its folder takes writes: so much is forgotten when the hub's disk is lost.
pub const LAG_MS_MAX: i64 = 1_000;

/// How the log is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogState {
    /// Its folder.
    pub dir: PathBuf,
    /// There is a backup that it continues.
    pub based: bool,
    /// Turns have been waiting for the folder since; Unix milliseconds.
    pub waiting_since_ms: Option<i64>,
    /// Why they wait.
    pub trouble: Option<String>,
}

impl LogState {
    /// How long the oldest turn that waits has been waiting.
    pub fn lag_ms(&self, now_ms: i64) -> i64 {
        self.waiting_since_ms.map_or(0, |since| now_ms.saturating_sub(since).max(0))
    }

    /// Whether everything but the last moment would be there after a restore.
    pub fn is_sound(&self, now_ms: i64) -> bool {
        self.based && self.trouble.is_none() && self.lag_ms(now_ms) <= LAG_MS_MAX
    }
}

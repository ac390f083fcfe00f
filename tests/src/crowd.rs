//! A crowd at the tills of a world: the terminal simulator as a process, with its summary.

use crate::process::{Launch, Process};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use yika_drivers::terminal::simulator::Plan;

/// What a run may take beyond its length: retries at its end.
const LINGER: Duration = Duration::from_secs(60);

/// A running crowd.
pub struct Crowd {
    process: Process,
    seconds: u64,
}

/// What became of it, as the simulator tells.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Summary {
    pub approved: u64,
    pub approved_fen: i64,
    pub refused: BTreeMap<String, u64>,
    pub refunded_fen: i64,
    pub offline: u64,
    pub opened: u64,
    pub swipes_refused: BTreeMap<String, u64>,
    pub problems: BTreeMap<String, u64>,
    pub retries: u64,
    pub fail_overs: u64,
    pub unanswered: u64,
    pub left_open: u64,
    pub resent: u64,
    pub contradictions: u64,
    pub latency_p50_us: u64,
    pub latency_p99_us: u64,
}

impl Crowd {
    /// Starts it; plan and log stay in `dir` under `name`.
    ///
    /// # Errors
    /// The simulator cannot be started.
    pub async fn start(dir: &Path, name: &str, plan: &Plan) -> Result<Crowd> {
        let file = dir.join(format!("{name}.json"));
        std::fs::write(&file, serde_json::to_vec_pretty(plan)?)?;
        let log = dir.join(format!("{name}.jsonl"));
        let launch = Launch::binary("yika-terminal-sim")?.name(name).dir(dir);
        let process = launch.arg("--plan").arg(&file).arg("--log").arg(&log).start().await?;
        Ok(Crowd { process, seconds: plan.seconds.unwrap_or(0) })
    }

    /// `kill -9`: what it saw by then is in its log.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn kill(mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Waits until it has finished.
    ///
    /// # Errors
    /// It did not end, or said nothing that is a summary.
    pub async fn finish(mut self) -> Result<Summary> {
        let status = self.process.wait(Duration::from_secs(self.seconds) + LINGER).await?;
        serde_json::from_str(&self.process.stdout()?)
            .with_context(|| format!("{} ended with {status}{}", self.process.name(), self.process.tail()))
    }
}

//! The program's log: to standard error, as text for people or JSON for the journal.

use crate::config::Log;
use anyhow::{Result, anyhow};
use tracing_subscriber::EnvFilter;

/// Starts it, once per process.
///
/// # Errors
/// When the level cannot be read, or a log was started before.
pub fn start(log: &Log) -> Result<()> {
    let filter: EnvFilter = log.filter.parse()?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.json.unwrap_or_else(under_systemd) {
        true => lines.json().flatten_event(true).try_init(),
        false => lines.with_ansi(false).try_init(),
    };
    started.map_err(|e| anyhow!("the log cannot be started: {e}"))
}

/// The journal reads standard error: lines for machines.
fn under_systemd() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some()
}

//! Simulated tills and door readers against real edges: for the demo, end-to-end tests, load, and other makers.
//!
//! Each terminal is a task that behaves as a device does: one request at a time, the same id until it is answered,
//! a reversal before the next sale when it gives up, another edge when one is silent. What it saw is logged, and any
//! second answer that differs from the first is counted. Leaves to others: starting edges, comparing ledgers.

pub mod certify;
mod dice;
mod plan;
mod reader;
mod tally;
mod teller;
mod trouble;

pub use dice::Dice;
pub use plan::{Mix, Plan, PlanError, TerminalPlan};
pub use tally::{LogLine, Summary};

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tally::Tally;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Runs a plan to its end, or until `stop` turns true; every answer goes to `log` as a line of JSON.
///
/// # Errors
/// When the plan cannot be or the log cannot be written.
pub async fn run(
    plan: Plan,
    log: Option<Box<dyn Write + Send>>,
    stop: watch::Receiver<bool>,
) -> std::io::Result<Summary> {
    let plan = plan.checked().map_err(std::io::Error::other)?;
    let shift = Arc::new(Shift::new(&plan, log, stop));
    let plan = Arc::new(plan);
    let mut terminals = JoinSet::new();
    for n in 0..plan.tills.len() {
        terminals.spawn(teller::work(Arc::clone(&shift), Arc::clone(&plan), n));
    }
    for n in 0..plan.readers.len() {
        terminals.spawn(reader::work(Arc::clone(&shift), Arc::clone(&plan), n));
    }
    while terminals.join_next().await.is_some() {}
    shift.tally.finish(shift.started.elapsed())
}

/// What all terminals of a run share.
struct Shift {
    tally: Tally,
    started: Instant,
    ends: Option<Instant>,
    /// Sales that may still be begun.
    left: AtomicU64,
    /// What was said already.
    said: Mutex<BTreeSet<String>>,
    stop: watch::Receiver<bool>,
}

impl Shift {
    fn new(plan: &Plan, log: Option<Box<dyn Write + Send>>, stop: watch::Receiver<bool>) -> Shift {
        let started = Instant::now();
        Shift {
            tally: Tally::new(log),
            started,
            ends: plan.seconds.map(|seconds| started + Duration::from_secs(seconds)),
            left: AtomicU64::new(plan.count.unwrap_or(u64::MAX)),
            said: Mutex::default(),
            stop,
        }
    }

    fn is_over(&self) -> bool {
        *self.stop.borrow() || self.ends.is_some_and(|ends| Instant::now() >= ends)
    }

    /// Draws one of the run's sales; none when the run is over.
    fn draw(&self) -> bool {
        !self.is_over() && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    /// Whether nobody has said this before; at most one word a terminal and edge is kept.
    fn says_first(&self, what: String) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(what)
    }

    /// Waits until a moment, or until the run is over.
    async fn wait_until(&self, moment: Instant) {
        let moment = self.ends.map_or(moment, |ends| ends.min(moment));
        let mut stop = self.stop.clone();
        tokio::select! {
            () = tokio::time::sleep_until(moment) => {}
            stopped = stop.wait_for(|stopped| *stopped) => drop(stopped),
        }
    }
}

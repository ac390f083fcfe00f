//! A terminal that gets no answer: says once why, and tells when to stop.
//!
//! Leaves to others: sending again (`teller`, `reader`), counting (`tally`).

use super::Shift;
use super::plan::Plan;
use crate::terminal::client::{Client, ClientError};
use std::time::Duration;
use tokio::time::Instant;

/// A terminal that is not let in tries for so long: its key may be on its way to the edge.
pub(super) const BARRED_WAIT: Duration = Duration::from_secs(10);
/// Requests given up one after the other after which a terminal that was never answered stops.
pub(super) const GIVE_UPS_MAX: u32 = 3;

/// What stands between a terminal and its edges.
pub(super) struct Trouble {
    give_up: Duration,
    barred_since: Option<Instant>,
    /// An edge has answered in this run.
    heard: bool,
    given_up: u32,
}

impl Trouble {
    pub(super) fn new(plan: &Plan) -> Trouble {
        Trouble { give_up: plan.give_up(), barred_since: None, heard: false, given_up: 0 }
    }

    /// Takes an error: says what is wrong, once a terminal and edge, and gives whether the terminal is not let in for good.
    pub(super) fn met(&mut self, shift: &Shift, client: &Client, error: &ClientError) -> bool {
        let who = client.identity();
        let (edge, terminal) = (who.edge.as_str(), who.terminal);
        if !error.is_barred() {
            if error.may_retry() && shift.says_first(edge.to_owned()) {
                let seconds = (self.give_up * GIVE_UPS_MAX).as_secs_f32();
                tracing::warn!("no answer from {edge} ({error}); tries go on for {seconds:.0} s");
            }
            return false;
        }
        let wait = BARRED_WAIT.min(self.give_up);
        if shift.says_first(format!("{edge} {terminal}")) {
            let why = error.problem().map_or_else(
                || format!("{error}; no Yika box answers there, or an older one"),
                |said| format!("{}: {} ({})", said.code, said.message.en, said.mend.en),
            );
            tracing::error!("{edge} does not let terminal t{terminal} in: {why}; tries go on for {} s", wait.as_secs());
            shift.tally.barred(error);
        }
        self.barred_since.get_or_insert_with(Instant::now).elapsed() >= wait
    }

    /// An edge has answered.
    pub(super) fn is_over(&mut self) {
        (self.heard, self.given_up, self.barred_since) = (true, 0, None);
    }

    /// A request was given up.
    pub(super) fn gave_up(&mut self) {
        self.given_up = self.given_up.saturating_add(1);
    }

    /// Whether a terminal that nobody ever answered should stop.
    pub(super) fn is_hopeless(&self) -> bool {
        !self.heard && self.given_up >= GIVE_UPS_MAX
    }
}

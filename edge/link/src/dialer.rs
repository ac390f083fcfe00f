//! Keeps one peer connected: dials, hands the connection over, waits for its end, dials again with back-off.
//!
//! Leaves to others: what to do with the connection.

use crate::close::{CloseCode, CloseReason};
use crate::endpoint::limits::GREETING_TIMEOUT_MS;
use crate::endpoint::{Link, LinkError};
use crate::peer::Peer;
use crate::tls::Expected;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// First wait after a failure; each further failure doubles it.
pub const BACKOFF_FIRST_MS: u64 = 100;
/// Longest wait after a failure that time may heal: all edges must be back soon after the hub is.
pub const BACKOFF_MS_MAX: u64 = 2_000;
/// How long the first attempts wait: a peer that is restarted may have taken half a handshake with it, of which nobody
/// tells.
pub const PATIENCE_FIRST_MS: u64 = 2_500;
/// From so many failures on an attempt waits for the full time: a peer that is slow must not be asked again and again.
const PATIENT_AFTER: u32 = 3;
/// Longest wait after a refusal that an operator must heal.
pub const BACKOFF_REFUSED_MS_MAX: u64 = 30_000;
/// A connection that lived this long clears the back-off.
pub const STABLE_MS: u64 = 10_000;

/// Whom to keep connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`; a name is resolved at every attempt.
    pub addr: String,
    /// Who must answer.
    pub expected: Expected,
}

/// What the dialler is doing, for status pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialState {
    /// An attempt is under way.
    Dialling,
    /// Connected.
    Connected,
    /// Waiting before the next attempt.
    Waiting {
        /// Attempts failed since the last stable connection.
        failures: u32,
        /// Wait, milliseconds.
        wait_ms: u64,
        /// Why the last attempt or connection ended, in words.
        words: String,
        /// The code that the other side closed with, if it did.
        code: Option<CloseCode>,
    },
}

/// A task that keeps one peer connected; dropping it stops the task (a live connection stays with its holder).
pub struct Dialer {
    task: tokio::task::AbortHandle,
    state: watch::Receiver<DialState>,
}

impl Drop for Dialer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Dialer {
    /// Starts dialling; every new connection is sent to `peers` (waits while that is full).
    pub fn spawn(link: Link, target: Target, peers: mpsc::Sender<Peer>) -> Self {
        let (report, state) = watch::channel(DialState::Dialling);
        let task = tokio::spawn(run(link, target, peers, report)).abort_handle();
        Self { task, state }
    }

    /// What it is doing.
    pub fn state(&self) -> DialState {
        self.state.borrow().clone()
    }

    /// To wait for changes of the state.
    pub fn watch(&self) -> watch::Receiver<DialState> {
        self.state.clone()
    }
}

async fn run(link: Link, target: Target, peers: mpsc::Sender<Peer>, report: watch::Sender<DialState>) {
    let mut failures = 0u32;
    loop {
        report.send_replace(DialState::Dialling);
        let (words, code, slow) = match dial(&link, &target, patience_ms(failures)).await {
            Ok(peer) => {
                let since = Instant::now();
                report.send_replace(DialState::Connected);
                let watched = peer.watch_end();
                if peers.send(peer).await.is_err() {
                    return; // nobody wants connections any more
                }
                let reason = watched.await;
                if since.elapsed() >= Duration::from_millis(STABLE_MS) {
                    failures = 0;
                }
                (reason.to_string(), reason.by_peer(), needs_operator(&reason))
            }
            Err(error) => (error.to_string(), error.by_peer(), error.needs_operator()),
        };
        failures = failures.saturating_add(1);
        let wait_ms = backoff_ms(failures, slow, random());
        tracing::info!(addr = %target.addr, failures, wait_ms, words, "not connected");
        report.send_replace(DialState::Waiting { failures, wait_ms, words, code });
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

async fn dial(link: &Link, target: &Target, ms: u64) -> Result<Peer, LinkError> {
    let failed = |error: String| LinkError::Dial { addr: target.addr.clone(), error };
    let found = tokio::net::lookup_host(&target.addr).await.map_err(|e| failed(e.to_string()))?;
    let mut last = failed("the name has no address".to_owned());
    let four = link.local_addr()?.is_ipv4();
    for addr in found.filter(|addr| addr.is_ipv4() || !four) {
        match link.dial_within(addr, target.expected, ms).await {
            Ok(peer) => return Ok(peer),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn needs_operator(reason: &CloseReason) -> bool {
    reason.code().is_some_and(crate::CloseCode::needs_operator)
}

/// How long an attempt may take after so many failures.
fn patience_ms(failures: u32) -> u64 {
    if failures < PATIENT_AFTER { PATIENCE_FIRST_MS } else { GREETING_TIMEOUT_MS }
}

/// Doubling, capped, and spread over the upper half by `random` so that a thousand boxes do not come at once.
fn backoff_ms(failures: u32, slow: bool, random: u64) -> u64 {
    let cap = if slow { BACKOFF_REFUSED_MS_MAX } else { BACKOFF_MS_MAX };
    let full = BACKOFF_FIRST_MS.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(cap);
    full / 2 + random % (full / 2 + 1)
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness every box waits the same; worse timing, still correct.
    let _ = getrandom::fill(&mut bytes);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_grow_and_stay_within_their_cap(failures in 1u32.., slow: bool, random: u64) {
            let wait = backoff_ms(failures, slow, random);
            prop_assert!(wait >= BACKOFF_FIRST_MS / 2);
            let cap = if slow { BACKOFF_REFUSED_MS_MAX } else { BACKOFF_MS_MAX };
            prop_assert!(wait <= cap);
        }
    }
}

//! What a run saw: a log line for each request, and sums that anyone can check against the edges' journals.

use crate::terminal::client::ClientError;
use crate::terminal::message::{Decision, SaleAnswer, SaleId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A request and its first answer, or a later answer that differs.
#[derive(Clone, Debug, Serialize)]
pub struct LogLine<'a, R: Serialize, A: Serialize> {
    /// When the answer was seen, milliseconds since 1970.
    pub at_ms: u64,
    /// `purchase`, `refund`, `reversal`, `batch`, `swipe`, `resend`.
    pub kind: &'static str,
    /// The terminal.
    pub terminal: u32,
    /// The id, where the request has one.
    pub id: Option<SaleId>,
    /// The edge that answered, or was asked last.
    pub edge: &'a str,
    /// How often it was sent.
    pub tries: u32,
    /// From the first sending to the answer, in microseconds.
    pub latency_us: u64,
    /// As sent.
    pub request: &'a R,
    /// As answered; absent where nobody answered.
    pub answer: Option<&'a A>,
    /// Why there is no answer.
    pub error: Option<String>,
    /// On `resend`: the answer is not the first one.
    pub contradiction: bool,
}

/// The run in numbers.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Summary {
    /// How long it ran, in milliseconds.
    pub elapsed_ms: u64,
    /// Sales approved by an edge.
    pub approved: u64,
    /// Their sum.
    pub approved_fen: i64,
    /// Sales refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Corrections, refunds and reversals that gave money back for a sale seen as approved.
    pub refunded: u64,
    /// Their sum.
    pub refunded_fen: i64,
    /// Reversals of a sale whose approval was never seen: neither it nor its undoing is in the sums above.
    pub reversed_unseen: u64,
    /// Reversals that found nothing to undo.
    pub voided: u64,
    /// Refunds refused, by reason.
    pub refunds_refused: BTreeMap<String, u64>,
    /// Records uploaded and taken in as sales, by keyed amount.
    pub offline: u64,
    /// Their sum as keyed.
    pub offline_fen: i64,
    /// Records refused, by reason.
    pub offline_refused: BTreeMap<String, u64>,
    /// Doors opened.
    pub opened: u64,
    /// Swipes refused, by reason.
    pub swipes_refused: BTreeMap<String, u64>,
    /// Requests and terminals the interface refused, by code: a fault of the terminal.
    pub problems: BTreeMap<String, u64>,
    /// Sendings beyond the first of a request.
    pub retries: u64,
    /// Times a terminal turned to another edge.
    pub fail_overs: u64,
    /// Requests nobody answered.
    pub unanswered: u64,
    /// Records not uploaded and undoings not answered when the run ended: sums cannot agree unless this is 0.
    pub left_open: u64,
    /// Ids sent again after their answer.
    pub resent: u64,
    /// Of those, answered otherwise than at first. Must be 0.
    pub contradictions: u64,
    /// Half of the sales were answered within so many microseconds.
    pub latency_p50_us: u64,
    /// 99 of a hundred.
    pub latency_p99_us: u64,
    /// Sales answered in a second.
    pub per_second: f64,
}

impl Summary {
    /// Whether no edge has taken a single sale, record or swipe, not even to refuse it.
    pub fn is_idle(&self) -> bool {
        let answered = [self.approved, self.refunded, self.reversed_unseen, self.voided, self.offline, self.opened];
        let refused = [&self.refused, &self.refunds_refused, &self.offline_refused, &self.swipes_refused];
        answered.iter().all(|n| *n == 0) && refused.iter().all(|reasons| reasons.is_empty())
    }
}

/// Collects from all terminals.
pub(super) struct Tally {
    inner: Mutex<Inner>,
}

struct Inner {
    summary: Summary,
    latencies_us: Vec<u64>,
    log: Option<BufWriter<Box<dyn Write + Send>>>,
    log_error: Option<std::io::Error>,
}

impl Tally {
    pub(super) fn new(log: Option<Box<dyn Write + Send>>) -> Tally {
        let log = log.map(BufWriter::new);
        Tally {
            inner: Mutex::new(Inner { summary: Summary::default(), latencies_us: Vec::new(), log, log_error: None }),
        }
    }

    /// Writes a line.
    pub(super) fn log<R: Serialize, A: Serialize>(&self, line: &LogLine<'_, R, A>) {
        let mut inner = self.lock();
        let Some(log) = &mut inner.log else { return };
        let written = serde_json::to_writer(&mut *log, line).map_err(std::io::Error::from);
        let written = written.and_then(|()| log.write_all(b"\n")).and_then(|()| log.flush());
        if let Err(error) = written {
            inner.log = None;
            inner.log_error = Some(error);
        }
    }

    /// Changes the sums.
    pub(super) fn count(&self, change: impl FnOnce(&mut Summary)) {
        change(&mut self.lock().summary);
    }

    pub(super) fn latency(&self, latency: Duration) {
        self.lock().latencies_us.push(micros(latency));
    }

    pub(super) fn failed(&self, error: &ClientError) {
        self.count(|sum| match error {
            ClientError::Problem { problem, .. } => one_more(&mut sum.problems, &problem.code),
            ClientError::Unknown(_) | ClientError::Unsigned { .. } | ClientError::Request(_) => sum.unanswered += 1,
        });
    }

    /// Counts a terminal that is not let in, signed or not.
    pub(super) fn barred(&self, error: &ClientError) {
        self.count(|sum| one_more(&mut sum.problems, error.problem().map_or("no_yika_box", |p| p.code.as_str())));
    }

    pub(super) fn finish(&self, elapsed: Duration) -> std::io::Result<Summary> {
        let mut inner = self.lock();
        inner.latencies_us.sort_unstable();
        let at = |percent: usize| {
            let last = inner.latencies_us.len().saturating_sub(1);
            inner.latencies_us.get(last * percent / 100).copied().unwrap_or_default()
        };
        let (p50, p99, answered) = (at(50), at(99), inner.latencies_us.len());
        if let Some(error) = inner.log_error.take() {
            return Err(error);
        }
        Ok(Summary {
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            latency_p50_us: p50,
            latency_p99_us: p99,
            per_second: answered as f64 / elapsed.as_secs_f64().max(f64::EPSILON),
            ..inner.summary.clone()
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What must be the same whenever an id is answered.
pub(super) fn same_answer(one: &SaleAnswer, other: &SaleAnswer) -> bool {
    let essence = |a: &SaleAnswer| {
        (a.id, a.decision, a.reason.clone(), a.fen, a.balance_fen, a.receipt.clone(), a.tariff, a.day.clone())
    };
    essence(one) == essence(other)
}

/// Counts the first answer to a sale.
pub(super) fn count_sale(sum: &mut Summary, answer: &SaleAnswer) {
    match answer.decision {
        Decision::Approved => {
            sum.approved += 1;
            sum.approved_fen += answer.fen;
        }
        _ => one_more(&mut sum.refused, answer.reason.as_deref().unwrap_or("voided")),
    }
}

/// Counts the first answer to a refund or reversal; `seen` says whether its sale was seen as approved.
pub(super) fn count_back(sum: &mut Summary, answer: &SaleAnswer, seen: bool) {
    match answer.decision {
        Decision::Refunded if seen => {
            sum.refunded += 1;
            sum.refunded_fen += answer.fen;
        }
        Decision::Refunded => sum.reversed_unseen += 1,
        Decision::Voided => sum.voided += 1,
        _ => one_more(&mut sum.refunds_refused, answer.reason.as_deref().unwrap_or("")),
    }
}

pub(super) fn one_more(map: &mut BTreeMap<String, u64>, key: &str) {
    *map.entry(key.to_owned()).or_default() += 1;
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

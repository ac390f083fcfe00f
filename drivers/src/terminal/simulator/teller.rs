//! One simulated till: sells, corrects, reverses, works alone and uploads, and never loses an id.

use super::plan::{Mix, Plan};
use super::tally::{self, LogLine, count_back, count_sale, one_more, same_answer};
use super::trouble::Trouble;
use super::{Dice, Shift};
use crate::terminal::client::{Client, ClientError};
use crate::terminal::message::*;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often a till tells its state.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// Failed tries after which a till turns to its next edge.
const TRIES_AT_ONE_EDGE: u32 = 2;
/// Sales a till makes alone before it uploads.
const ALONE_SALES_MAX: u64 = 8;

/// Works until the run is over, then leaves nothing open behind; ends at once if no edge lets it in.
pub(super) async fn work(shift: Arc<Shift>, plan: Arc<Plan>, n: usize) {
    let Ok(mut teller) = Teller::new(&shift, &plan, n) else { return };
    if !teller.sign_in().await {
        return;
    }
    let tills = plan.tills.len() as u64;
    let pace = (plan.per_second > 0).then(|| Duration::from_micros(1_000_000 * tills / u64::from(plan.per_second)));
    // Tills do not begin in step.
    let first = pace.map_or(0, |pace| teller.dice.below(tally::micros(pace)));
    let mut next = Instant::now() + Duration::from_micros(first);
    loop {
        if let Some(pace) = pace {
            shift.wait_until(next).await;
            // A till that was held up serves those who wait now; it does not make up for the time lost.
            next = (next + pace).max(Instant::now());
        }
        if teller.trouble.is_hopeless() || !shift.draw() {
            break;
        }
        teller.serve_one().await;
    }
    teller.close().await;
}

/// A request that can be sent again under its id.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Asked {
    Purchase(Purchase),
    Refund(Refund),
    Reversal(Reversal),
}

impl Asked {
    fn id(&self) -> SaleId {
        match self {
            Asked::Purchase(p) => p.id,
            Asked::Refund(r) => r.id,
            Asked::Reversal(r) => r.id,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Asked::Purchase(_) => "purchase",
            Asked::Refund(_) => "refund",
            Asked::Reversal(_) => "reversal",
        }
    }

    async fn send(&self, client: &Client) -> Result<SaleAnswer, ClientError> {
        match self {
            Asked::Purchase(p) => client.purchase(p).await,
            Asked::Refund(r) => client.refund(r).await,
            Asked::Reversal(r) => client.reversal(r).await,
        }
    }
}

struct Teller<'r> {
    shift: &'r Shift,
    plan: &'r Plan,
    clients: Vec<Client>,
    /// The edge in use.
    at: usize,
    dice: Dice,
    cards: Vec<PresentedCard>,
    boot: u32,
    seq: u32,
    /// First answers, to compare later ones with.
    answered: BTreeMap<u32, (Asked, SaleAnswer)>,
    /// What must be answered before the next sale: undoing a sale of unknown outcome, a refund without answer.
    due: VecDeque<Asked>,
    /// Sales made alone and not uploaded.
    backlog: Vec<Purchase>,
    /// So many more are made alone.
    alone: u64,
    told: Instant,
    trouble: Trouble,
}

impl<'r> Teller<'r> {
    fn new(shift: &'r Shift, plan: &'r Plan, n: usize) -> Result<Teller<'r>, super::PlanError> {
        let boot = plan.boot();
        Ok(Teller {
            shift,
            plan,
            clients: plan.clients(&plan.tills[n], boot)?,
            at: 0,
            dice: Dice::new(plan.seed, u64::from(plan.tills[n].terminal)),
            cards: plan.presented_cards()?,
            boot,
            seq: 0,
            answered: BTreeMap::new(),
            due: VecDeque::new(),
            backlog: Vec::new(),
            alone: 0,
            told: Instant::now(),
            trouble: Trouble::new(plan),
        })
    }

    fn client(&self) -> &Client {
        &self.clients[self.at]
    }

    fn draw(&mut self) -> SaleId {
        self.seq += 1;
        SaleId { terminal: self.client().identity().terminal, boot: self.boot, seq: self.seq }
    }

    /// Whether the till may sell: it signed in, or nobody told it otherwise.
    async fn sign_in(&mut self) -> bool {
        let told = SignIn { model: "yika-terminal-sim".into(), firmware: env!("CARGO_PKG_VERSION").into() };
        let begun = Instant::now();
        while begun.elapsed() < self.plan.give_up() && !self.shift.is_over() {
            match self.client().sign_in(&told).await {
                Ok(signed_in) => {
                    self.trouble.is_over();
                    self.seq = self.seq.max(signed_in.last_seq);
                    return true;
                }
                Err(error) => {
                    if self.trouble.met(self.shift, &self.clients[self.at], &error) {
                        return false;
                    }
                    if !error.may_retry() && !error.is_barred() {
                        self.shift.tally.failed(&error);
                        return true;
                    }
                }
            }
            self.turn_to_next_edge();
            tokio::time::sleep(Duration::from_millis(self.plan.retry_ms)).await;
        }
        self.trouble.gave_up();
        true
    }

    async fn serve_one(&mut self) {
        if self.told.elapsed() >= HEARTBEAT_EVERY {
            self.tell_state().await;
        }
        let purchase = self.next_purchase();
        if self.alone > 0 {
            self.alone -= 1;
            self.backlog.push(purchase);
            if self.alone == 0 {
                self.upload().await;
            }
            return;
        }
        if !self.settle().await {
            return;
        }
        let again = self.dice.percent(self.plan.mix.double_tap);
        let answer = self.sell(purchase.clone()).await;
        if again {
            let id = self.draw();
            self.sell(Purchase { id, ..purchase }).await;
        }
        if let Some(answer) = answer.filter(|a| a.decision == Decision::Approved) {
            self.after_sale(&answer).await;
        }
        if self.dice.percent(self.plan.mix.offline) {
            self.alone = 1 + self.dice.below(ALONE_SALES_MAX);
        }
    }

    fn next_purchase(&mut self) -> Purchase {
        let card = self.cards[self.dice.below(self.cards.len() as u64) as usize].clone();
        let Mix { fixed, portions, count, amount_fen: (least, greatest), .. } = self.plan.mix;
        let span = u64::try_from(greatest - least).unwrap_or(0) + 1;
        let fen = least + self.dice.below(span) as i64;
        let draw = self.dice.below(100) as u8;
        let mode = match draw {
            // Alone, a till cannot look prices up.
            _ if self.alone > 0 => SaleMode::Amount { fen },
            d if d < fixed => SaleMode::Fixed {},
            d if d < fixed + portions => SaleMode::Portions { unit_fen: fen.max(1), portions: 1 + (draw % 3) },
            d if d < fixed + portions + count => SaleMode::Count {},
            _ => SaleMode::Amount { fen },
        };
        let time_ms = self.client().now_ms();
        Purchase { id: self.draw(), card, mode, time_ms, tariff: None }
    }

    /// Sells; a sale nobody answers is undone before the next one.
    async fn sell(&mut self, purchase: Purchase) -> Option<SaleAnswer> {
        let id = purchase.id;
        let begun = Instant::now();
        match self.ask(Asked::Purchase(purchase)).await {
            Ok(answer) => {
                self.shift.tally.latency(begun.elapsed());
                self.shift.tally.count(|sum| count_sale(sum, &answer));
                Some(answer)
            }
            Err(error) => {
                if error.outcome_is_unknown() {
                    let reversal = Reversal { id: self.draw(), of: id };
                    self.due.push_back(Asked::Reversal(reversal));
                }
                None
            }
        }
    }

    async fn after_sale(&mut self, sale: &SaleAnswer) {
        if self.dice.percent(self.plan.mix.correction) && sale.fen > 1 {
            let fen = Some(1 + self.dice.below(sale.fen as u64 - 1) as i64);
            let refund = Refund { id: self.draw(), of: sale.id, reason: RefundReason::Correction, fen, operator: 0 };
            self.due.push_back(Asked::Refund(refund));
        }
        if self.dice.percent(self.plan.mix.reversal) {
            let reversal = Reversal { id: self.draw(), of: sale.id };
            self.due.push_back(Asked::Reversal(reversal));
        }
        self.settle().await;
        if self.dice.percent(self.plan.mix.resend) {
            self.resend(sale.id.seq).await;
        }
    }

    /// Has everything answered that is due, each under its one id; false while something is not.
    async fn settle(&mut self) -> bool {
        while let Some(asked) = self.due.front().cloned() {
            let seen = self.saw_approved(&asked);
            match self.ask(asked).await {
                Ok(answer) => self.shift.tally.count(|sum| count_back(sum, &answer, seen)),
                Err(error) if error.outcome_is_unknown() => return false,
                // A refusal by the interface will not change.
                Err(_) => {}
            }
            self.due.pop_front();
        }
        true
    }

    fn saw_approved(&self, asked: &Asked) -> bool {
        let of = match asked {
            Asked::Refund(refund) => refund.of,
            Asked::Reversal(reversal) => reversal.of,
            Asked::Purchase(_) => return false,
        };
        self.answered.get(&of.seq).is_some_and(|(_, answer)| answer.decision == Decision::Approved)
    }

    /// Sends a request until it is answered or the time is up, always under its id, and remembers the first answer.
    async fn ask(&mut self, asked: Asked) -> Result<SaleAnswer, ClientError> {
        let begun = Instant::now();
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            match asked.send(self.client()).await {
                Err(error) if error.may_retry() && begun.elapsed() < self.plan.give_up() => {
                    self.shift.tally.count(|sum| sum.retries += 1);
                    if tries % TRIES_AT_ONE_EDGE == 0 {
                        self.turn_to_next_edge();
                    }
                    tokio::time::sleep(Duration::from_millis(self.plan.retry_ms)).await;
                }
                other => break other,
            }
        };
        self.log(asked.kind(), &asked, tries, begun.elapsed(), &answer, false);
        match &answer {
            Err(error) if error.outcome_is_unknown() => self.trouble.gave_up(),
            _ => self.trouble.is_over(),
        }
        match &answer {
            Ok(answer) => _ = self.answered.insert(asked.id().seq, (asked, answer.clone())),
            Err(error) => self.shift.tally.failed(error),
        }
        answer
    }

    /// Sends an answered id again and compares.
    async fn resend(&mut self, seq: u32) {
        let Some((asked, first)) = self.answered.get(&seq).cloned() else { return };
        let begun = Instant::now();
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            match asked.send(self.client()).await {
                Err(error) if error.may_retry() && begun.elapsed() < self.plan.give_up() => {
                    tokio::time::sleep(Duration::from_millis(self.plan.retry_ms)).await;
                }
                other => break other,
            }
        };
        let unknown = matches!(answer, Err(ClientError::Unknown(_) | ClientError::Unsigned { .. }));
        let differs = match &answer {
            Ok(answer) => !same_answer(&first, answer),
            Err(_) => !unknown,
        };
        self.shift.tally.count(|sum| {
            sum.resent += 1;
            sum.contradictions += u64::from(differs);
            sum.unanswered += u64::from(unknown);
        });
        self.log("resend", &asked, tries, begun.elapsed(), &answer, differs);
    }

    fn log<A: Serialize>(
        &self,
        kind: &'static str,
        asked: &Asked,
        tries: u32,
        latency: Duration,
        answer: &Result<A, ClientError>,
        contradiction: bool,
    ) {
        self.shift.tally.log(&LogLine {
            at_ms: tally::unix_ms(),
            kind,
            terminal: asked.id().terminal,
            id: Some(asked.id()),
            edge: &self.client().identity().edge,
            tries,
            latency_us: tally::micros(latency),
            request: asked,
            answer: answer.as_ref().ok(),
            error: answer.as_ref().err().map(ToString::to_string),
            contradiction,
        });
    }

    async fn tell_state(&mut self) {
        self.told = Instant::now();
        let backlog = u32::try_from(self.backlog.len()).unwrap_or(u32::MAX);
        let heartbeat = Heartbeat { backlog, storage_percent: 1, ..Heartbeat::default() };
        if let Err(error) = self.client().heartbeat(&heartbeat).await {
            tracing::debug!(%error, "a heartbeat is lost");
        }
    }

    /// Uploads what was sold alone, resuming after what is answered.
    async fn upload(&mut self) {
        let begun = Instant::now();
        while !self.backlog.is_empty() && begun.elapsed() < self.plan.give_up() {
            let records: Vec<_> = self.backlog.iter().take(BATCH_RECORDS_MAX).cloned().collect();
            let batch = Batch { records };
            let sent = Instant::now();
            let answer = self.client().batch(&batch).await;
            self.shift.tally.log(&LogLine {
                at_ms: tally::unix_ms(),
                kind: "batch",
                terminal: self.client().identity().terminal,
                id: None,
                edge: &self.client().identity().edge,
                tries: 1,
                latency_us: tally::micros(sent.elapsed()),
                request: &batch,
                answer: answer.as_ref().ok(),
                error: answer.as_ref().err().map(ToString::to_string),
                contradiction: false,
            });
            match answer {
                Ok(answer) => self.taken_in(&answer),
                Err(error) if error.may_retry() => {
                    self.shift.tally.count(|sum| sum.retries += 1);
                    self.turn_to_next_edge();
                    tokio::time::sleep(Duration::from_millis(self.plan.retry_ms)).await;
                }
                Err(error) => return self.shift.tally.failed(&error),
            }
        }
    }

    /// Deletes what the edge answered, and only that.
    fn taken_in(&mut self, answer: &BatchAnswer) {
        let Some(through) = answer.answered_through else { return };
        let kept = self.backlog.partition_point(|record| record.id <= through);
        let done: Vec<_> = self.backlog.drain(..kept).collect();
        for (record, said) in done.iter().zip(&answer.records) {
            let SaleMode::Amount { fen } = record.mode else { continue };
            self.shift.tally.count(|sum| match said.state {
                RecordState::New | RecordState::Seen => {
                    sum.offline += 1;
                    sum.offline_fen += fen;
                }
                RecordState::Refused => one_more(&mut sum.offline_refused, said.reason.as_deref().unwrap_or("")),
            });
        }
    }

    async fn close(&mut self) {
        self.upload().await;
        self.settle().await;
        let left = self.backlog.len() + self.due.len();
        self.shift.tally.count(|sum| sum.left_open += left as u64);
        if self.plan.resend_all {
            let all: Vec<_> = self.answered.keys().copied().collect();
            for seq in all {
                self.resend(seq).await;
            }
        }
    }

    fn turn_to_next_edge(&mut self) {
        if self.clients.len() > 1 {
            self.at = (self.at + 1) % self.clients.len();
            self.shift.tally.count(|sum| sum.fail_overs += 1);
        }
    }
}

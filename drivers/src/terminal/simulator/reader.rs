//! One simulated door reader: presents cards and shows what it is told. A swipe is not sent again: people swipe again.

use super::plan::Plan;
use super::tally::{self, LogLine, one_more};
use super::trouble::Trouble;
use super::{Dice, Shift};
use crate::terminal::client::{Client, ClientError};
use crate::terminal::message::{PresentedCard, Swipe};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Works until the run is over.
pub(super) async fn work(shift: Arc<Shift>, plan: Arc<Plan>, n: usize) {
    let terminal = &plan.readers[n];
    let (Ok(clients), Ok(cards)) = (plan.clients(terminal, plan.boot()), plan.presented_cards()) else { return };
    let mut dice = Dice::new(plan.seed, u64::from(terminal.terminal));
    let readers = plan.readers.len() as u64;
    let pace = Duration::from_micros(1_000_000 * readers / u64::from(plan.swipes_per_second.max(1)));
    let mut next = Instant::now() + Duration::from_micros(dice.below(tally::micros(pace)));
    let mut at = 0;
    let mut trouble = Trouble::new(&plan);
    let mut silent_since = None;
    loop {
        shift.wait_until(next).await;
        next = (next + pace).max(Instant::now());
        if trouble.is_hopeless() || !goes_on(&shift, &plan) {
            return;
        }
        let card = cards[dice.below(cards.len() as u64) as usize].clone();
        let client = &clients[at];
        match swipe(&shift, client, card).await {
            Ok(()) => {
                trouble.is_over();
                silent_since = None;
            }
            Err(error) => {
                if trouble.met(&shift, client, &error) {
                    return;
                }
                if error.may_retry() {
                    at = (at + 1) % clients.len();
                }
                if silent_since.get_or_insert_with(Instant::now).elapsed() >= plan.give_up() {
                    trouble.gave_up();
                    silent_since = None;
                }
            }
        }
    }
}

/// Whether there is one more swipe: with a count of sales, doors stop when the last sale is drawn; without tills it counts
/// swipes.
fn goes_on(shift: &Shift, plan: &Plan) -> bool {
    match plan.tills.is_empty() {
        true => shift.draw(),
        false => !shift.is_over() && shift.left.load(Ordering::Relaxed) > 0,
    }
}

/// Presents a card, or says why there was no answer.
async fn swipe(shift: &Shift, client: &Client, card: PresentedCard) -> Result<(), ClientError> {
    let swipe = Swipe { card };
    let begun = Instant::now();
    let answer = client.swipe(&swipe).await;
    shift.tally.log(&LogLine {
        at_ms: tally::unix_ms(),
        kind: "swipe",
        terminal: client.identity().terminal,
        id: None,
        edge: &client.identity().edge,
        tries: 1,
        latency_us: tally::micros(begun.elapsed()),
        request: &swipe,
        answer: answer.as_ref().ok(),
        error: answer.as_ref().err().map(ToString::to_string),
        contradiction: false,
    });
    match &answer {
        Ok(answer) if answer.opened => shift.tally.count(|sum| sum.opened += 1),
        Ok(answer) => {
            let reason = answer.reason.as_deref().unwrap_or("");
            shift.tally.count(|sum| one_more(&mut sum.swipes_refused, reason));
        }
        Err(error) => shift.tally.failed(error),
    }
    answer.map(|_| ())
}

//! The desk at headquarters while everything fails: pays in and out, reports cards lost and lifts that again. What is not
//! answered is asked again under the same number until it is, as a clerk does with a voucher.

use crate::world::World;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use yika_crdt::entry::BlockTarget;
use yika_crdt::ids::{CardNumber, PersonId};
use yika_drivers::terminal::simulator::Dice;
use yika_hub::control::{NotDone, TopUpWish};

/// Between two acts.
const PACE_MS: (u64, u64) = (200, 900);
/// Most that is paid in at once, in fen.
const PAID_IN_FEN_MAX: u64 = 20_000;
/// How long what is still open at the end is asked again.
const END: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(300);

/// Somebody with a pile of vouchers.
pub(super) struct Desk {
    socket: PathBuf,
    people: Vec<u64>,
    cards: Vec<u64>,
    dice: Dice,
    number: u64,
    /// Not yet answered, by number.
    open: BTreeMap<u64, Wish>,
    blocked: Vec<u64>,
    did: Did,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Did {
    /// Paid in, and answered so.
    pub(super) top_ups: u64,
    pub(super) top_up_fen: i64,
    /// Paid out, and answered so.
    pub(super) withdrawals: u64,
    pub(super) withdrawn_fen: i64,
    /// Cards reported lost.
    pub(super) losses: u64,
    /// Asked again because nobody answered.
    pub(super) repeats: u64,
    /// What headquarters would not do, by code.
    pub(super) refused: BTreeMap<String, u64>,
    /// Without an answer at the end.
    pub(super) open: u64,
}

#[derive(Clone, Copy)]
enum Wish {
    In(u64, i64),
    Out(u64, i64),
    Block(u64),
    Lift(u64),
}

/// How a request ended.
enum Said {
    Done,
    /// Headquarters will not, for this reason.
    Refused(String),
    Nothing,
}

impl Desk {
    pub(super) fn of(world: &World, seed: u64) -> Desk {
        Desk {
            socket: yika_hub::config::Config::socket(&world.hub.dir),
            people: world.people.iter().map(|person| person.person.0).collect(),
            cards: world.people.iter().filter_map(|person| person.card).collect(),
            dice: Dice::new(seed, 200),
            number: 0,
            open: BTreeMap::new(),
            blocked: Vec::new(),
            did: Did::default(),
        }
    }

    fn draw(&mut self) -> Wish {
        let person = self.people[self.dice.below(self.people.len() as u64) as usize];
        let fen = 100 + self.dice.below(PAID_IN_FEN_MAX) as i64;
        match self.dice.below(10) {
            0..6 => Wish::In(person, fen),
            6 => Wish::Out(person, fen / 4),
            7 => Wish::Block(self.cards[self.dice.below(self.cards.len() as u64) as usize]),
            _ => match self.blocked.pop() {
                Some(card) => Wish::Lift(card),
                None => Wish::In(person, fen),
            },
        }
    }

    async fn ask(&mut self, number: u64, wish: Wish) {
        match self.say(number, wish).await {
            Said::Nothing => {
                self.open.insert(number, wish);
                return;
            }
            Said::Refused(code) => *self.did.refused.entry(code).or_default() += 1,
            Said::Done => match wish {
                Wish::In(_, fen) => {
                    (self.did.top_ups, self.did.top_up_fen) = (self.did.top_ups + 1, self.did.top_up_fen + fen)
                }
                Wish::Out(_, fen) => {
                    (self.did.withdrawals, self.did.withdrawn_fen) =
                        (self.did.withdrawals + 1, self.did.withdrawn_fen + fen);
                }
                Wish::Block(card) => {
                    self.did.losses += 1;
                    self.blocked.push(card);
                }
                Wish::Lift(_) => {}
            },
        }
        self.open.remove(&number);
    }

    async fn say(&self, number: u64, wish: Wish) -> Said {
        let (path, body) = match wish {
            Wish::In(person, fen) => ("/v1/top-up", paper(person, fen, number)),
            Wish::Out(person, fen) => ("/v1/withdraw", paper(person, fen, number)),
            Wish::Block(card) => ("/v1/block", serde_json::to_vec(&BlockTarget::Card(CardNumber(card)))),
            Wish::Lift(card) => ("/v1/lift", serde_json::to_vec(&BlockTarget::Card(CardNumber(card)))),
        };
        let Ok(body) = body else { return Said::Nothing };
        let answer: Result<serde_json::Value> = yika_hub::control::ask(&self.socket, "POST", path, body).await;
        match answer.map_err(|error| error.downcast::<NotDone>()) {
            Ok(_) => Said::Done,
            Err(Ok(NotDone { code, .. })) if !code.is_empty() => Said::Refused(code),
            Err(_) => Said::Nothing,
        }
    }

    /// Asks again what has no answer, the oldest first, until one has none again.
    async fn ask_again(&mut self) {
        for (number, wish) in self.open.clone() {
            self.did.repeats += 1;
            self.ask(number, wish).await;
            if self.open.contains_key(&number) {
                return;
            }
        }
    }
}

fn paper(person: u64, fen: i64, number: u64) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&TopUpWish { person: PersonId(person), fen, request: format!("soak-{number}") })
}

/// Works until it is stopped, and then clears the pile.
pub(super) async fn work(mut desk: Desk, stopped: watch::Receiver<bool>) -> Did {
    while !*stopped.borrow() {
        let pause = PACE_MS.0 + desk.dice.below(PACE_MS.1 - PACE_MS.0);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        desk.number += 1;
        let wish = desk.draw();
        desk.ask(desk.number, wish).await;
        desk.ask_again().await;
    }
    let end = tokio::time::Instant::now() + END;
    for card in std::mem::take(&mut desk.blocked) {
        desk.number += 1;
        desk.ask(desk.number, Wish::Lift(card)).await;
    }
    while !desk.open.is_empty() && tokio::time::Instant::now() < end {
        tokio::time::sleep(AGAIN).await;
        desk.ask_again().await;
    }
    desk.did.open = desk.open.len() as u64;
    desk.did
}

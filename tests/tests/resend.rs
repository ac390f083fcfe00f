//! A purchase that its box cannot answer alone: sent again at the other box of the campus while both are alive, or short of
//! rights that lie at a box which is dead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::time::{Duration, Instant};
use yika_drivers::terminal::client::Client;
use yika_drivers::terminal::message::{Decision, PresentedCard, Purchase, SaleAnswer, SaleId, SaleMode};
use yika_edge::node::{ASK_MS_MAX, PURCHASE_WAIT_MS_MAX};
use yika_tests::books::Books;
use yika_tests::world::World;

const SETTLE: Duration = Duration::from_secs(60);
const BOOT: u32 = 7;
const FEN: i64 = 100;
/// What a busy machine and its disk may add to a purchase.
const SLACK_MS: u64 = 1_500;

/// A till of the east, as each of its two boxes sees it.
struct Till {
    at: [Client; 2],
    terminal: u32,
    cards: Vec<u64>,
}

impl Till {
    fn new(world: &World, number: usize) -> Till {
        let plan = &world.tills[0][number];
        let client = |edge: usize| Client::new(plan.identity(&world.boxes[edge].url(), BOOT).unwrap());
        Till { at: [client(0), client(1)], terminal: plan.terminal, cards: world.cards_of(1) }
    }

    async fn buy(&self, at: usize, seq: u32) -> SaleAnswer {
        self.buy_with(self.cards[seq as usize % self.cards.len()], at, seq, FEN).await
    }

    async fn buy_with(&self, number: u64, at: usize, seq: u32, fen: i64) -> SaleAnswer {
        let purchase = Purchase {
            id: SaleId { terminal: self.terminal, boot: BOOT, seq },
            card: PresentedCard::Number { number },
            mode: SaleMode::Amount { fen },
            time_ms: self.at[at].now_ms(),
            tariff: None,
        };
        self.at[at].purchase(&purchase).await.unwrap()
    }
}

/// The answers are those of one sale.
fn assert_same(one: &SaleAnswer, other: &SaleAnswer) {
    let of = |answer: &SaleAnswer| (answer.id, answer.decision, answer.fen, answer.balance_fen, answer.receipt.clone());
    assert_eq!(of(one), of(other));
    assert_eq!(one.decision, Decision::Approved, "{one:?}");
}

fn notes(world: &World, word: &str) -> i64 {
    let conn = rusqlite::Connection::open(world.hub.database()).unwrap();
    conn.query_row("SELECT count(*) FROM notes WHERE word = ?1", [word], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_sent_again_at_the_sibling_gets_the_first_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 40, &|_| {}).await.unwrap();
    let till = Till::new(&world, 0);
    // Answered at one box, at once sent again at the other, which has not served this till; to and fro.
    for seq in 1..=30 {
        let (first, second) = if seq % 3 == 0 { (1, 0) } else { (0, 1) };
        let answer = till.buy(first, seq).await;
        assert_same(&answer, &till.buy(second, seq).await);
    }
    // Sent to both at the same moment.
    let other = Till::new(&world, 1);
    for seq in 1..=20 {
        let (here, there) = tokio::join!(other.buy(0, seq), other.buy(1, seq));
        assert_same(&here, &there);
    }
    let compared = world.settle(SETTLE).await.unwrap();
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    assert_eq!(compared.hub_sum_fen, 50 * FEN, "each once");
    assert_eq!(Books::read(&world.hub.database()).unwrap().reversed_by_hub, []);
    assert_eq!((notes(&world, "sold_twice"), notes(&world, "unasked")), (0, 0));

    // The box that served a till is dead: its sibling decides, and says so, once for the till.
    let last = till.buy(0, 31).await;
    assert_same(&last, &till.buy(1, 31).await);
    world.boxes[0].process.kill().await.unwrap();
    for seq in 32..=34 {
        assert_eq!(till.buy(1, seq).await.decision, Decision::Approved);
    }
    world.boxes[0].restart().await.unwrap();
    world.settle(SETTLE).await.unwrap();
    assert_eq!((notes(&world, "sold_twice"), notes(&world, "unasked")), (0, 1));
    world.stop().await.unwrap();
}

/// Headquarters is there and calls the rest back from a box that is dead: it says in time that nothing comes, so that the
/// purchase is refused and not sold on the guest rule, which is for boxes that are cut off.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_at_a_dead_box_is_refused_in_time_and_is_no_guest_credit() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 10, &|_| {}).await.unwrap();
    let till = Till::new(&world, 0);
    let cards = [till.cards[0], till.cards[1], till.cards[2]];
    for (seq, card) in (1..).zip(cards) {
        let sold = till.buy_with(card, 0, seq, 8_500).await;
        assert_eq!(sold.decision, Decision::Approved, "headquarters gives what it has left: {sold:?}");
    }
    world.boxes[1].process.kill().await.unwrap();
    let mut answers = Vec::new();
    for (seq, card) in (11..).zip(cards) {
        // Within what a guest may have, and more than the living box and headquarters hold of this holder.
        let asked_at = Instant::now();
        let answer = till.buy_with(card, 0, seq, 1_700).await;
        let took = asked_at.elapsed();
        assert!(took < Duration::from_millis(PURCHASE_WAIT_MS_MAX + SLACK_MS), "{took:?}: {answer:?}");
        let is_refused = answer.decision == Decision::Refused && answer.reason.as_deref() == Some("not_enough");
        // A guest only once headquarters has left a question unanswered.
        assert!(is_refused || took >= Duration::from_millis(ASK_MS_MAX), "sold after {took:?}: {answer:?}");
        answers.push(answer);
        if is_refused {
            break;
        }
    }
    // A machine so busy that the word comes late may fail once, not every time.
    assert_eq!(answers.last().unwrap().decision, Decision::Refused, "{answers:?}");
    world.boxes[1].restart().await.unwrap();
    world.settle(SETTLE).await.unwrap();
    world.stop().await.unwrap();
}

/// A box that is short of rights waits for a headquarters that does not answer; the till gives up early and turns to the
/// sibling, which waits in its turn instead of selling the meal a second time.
#[tokio::test(flavor = "multi_thread")]
async fn what_its_box_is_still_deciding_is_not_decided_at_the_sibling() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 40, &|_| {}).await.unwrap();
    let tills = [0, 1, 2].map(|number| Till::new(&world, number));
    world.hub.process.signal("STOP").await.unwrap();
    let sold = async |n: usize| {
        let (till, card) = (&tills[n], tills[n].cards[n]);
        let again = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            till.buy_with(card, 1, 1, 8_500).await
        };
        tokio::join!(till.buy_with(card, 0, 1, 8_500), again)
    };
    let (one, two, three) = tokio::join!(sold(0), sold(1), sold(2));
    for (here, there) in [one, two, three] {
        assert_eq!((here.decision, here.fen, &here.receipt), (there.decision, there.fen, &there.receipt), "{here:?}");
    }
    world.hub.process.signal("CONT").await.unwrap();
    let compared = world.settle(SETTLE).await.unwrap();
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    assert_eq!(notes(&world, "sold_twice"), 0);
    world.stop().await.unwrap();
}

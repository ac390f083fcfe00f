//! Two tills, one card, the same instant: at two boxes of one campus and at two campuses, with the line and without it. The
//! card pays once for what it can pay once, whoever was first, and what is left is still there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::time::Duration;
use yika_crdt::entry::{Body, Source, WalletKey};
use yika_drivers::terminal::message::{Decision, SaleAnswer};
use yika_tests::site::until;
use yika_tests::till::{Till, journal};
use yika_tests::world::{TOP_UP_FEN, World};

const SETTLE: Duration = Duration::from_secs(60);
const EAST_1: usize = 0;
const EAST_2: usize = 1;
const WEST: usize = 2;
/// More than half of what a card has: it pays for one of two, never for both.
const DEAR_FEN: i64 = 9_000;
/// More than a box sells on nobody's right.
const BEYOND_GUESTS_FEN: i64 = 2_500;
const ROUNDS: usize = 6;

fn is_sold(answer: &SaleAnswer) -> bool {
    answer.decision == Decision::Approved
}

/// Everybody's own money that was spent by all journals.
fn own_money_spent(world: &World) -> i64 {
    let entries = world.boxes.iter().flat_map(|edge| journal(edge).unwrap());
    let own = |parts: &[(Source, yika_crdt::Fen)]| -> i64 {
        parts.iter().filter(|part| part.0 == Source::Wallet(WalletKey::Main)).map(|part| part.1.0).sum()
    };
    entries.filter_map(|entry| if let Body::Purchase(sale) = entry.body { Some(own(&sale.paid)) } else { None }).sum()
}

async fn assert_books_agree(world: &World) {
    let compared = world.settle(SETTLE).await.unwrap();
    assert_eq!(compared.edges_sum_fen, compared.hub_sum_fen, "{compared:?}");
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    let books = world.hub.command(&["ledger", "verify"]).await.unwrap();
    assert!(books.contains("\"sum_fen\":0") && books.contains("\"accounts_differing\":0"), "{books}");
    let conn = rusqlite::Connection::open(world.hub.database()).unwrap();
    let owing = "SELECT count(*) FROM accounts WHERE person > 0 AND credits < debits";
    assert_eq!(conn.query_row(owing, [], |row| row.get::<_, i64>(0)).unwrap(), 0, "somebody owes");
}

/// Rows POS-1, POS-3.
#[tokio::test(flavor = "multi_thread")]
async fn two_tills_one_card_at_two_boxes_and_at_two_campuses_pays_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 2 * ROUNDS, &|_| {}).await.unwrap();
    world.lift_limits().await.unwrap();
    let tills = [EAST_1, EAST_2, WEST].map(|edge| Till::of(&world, usize::from(edge == EAST_2), edge).unwrap());
    let cards = world.cards_of(1);
    let mut left = Vec::new();
    for (round, card) in cards.iter().take(ROUNDS).enumerate() {
        // In turns the sibling, and the other campus.
        let (one, other) = if round % 2 == 0 { (EAST_1, EAST_2) } else { (EAST_1, WEST) };
        let (here, there) = tokio::join!(tills[one].buy(*card, DEAR_FEN), tills[other].buy(*card, DEAR_FEN));
        let (here, there) = (here.unwrap(), there.unwrap());
        assert!(!(is_sold(&here) && is_sold(&there)), "paid twice: {here:?} {there:?}");
        left.push((*card, TOP_UP_FEN - if is_sold(&here) || is_sold(&there) { DEAR_FEN } else { 0 }));
    }
    // Each may have taken a part and left the other short; what is left is whole again when asked for at one place.
    for (card, left) in &left {
        until("what is left to be spent", SETTLE, async || Ok(is_sold(&tills[WEST].buy(*card, *left).await?)))
            .await
            .unwrap();
        let over = tills[EAST_1].buy(*card, BEYOND_GUESTS_FEN).await.unwrap();
        assert!(!is_sold(&over), "more than he had: {over:?}");
    }
    assert_eq!(own_money_spent(&world), ROUNDS as i64 * TOP_UP_FEN);

    // Without the line each side has what it held, and both together no more than everything.
    world.boxes.iter().for_each(|edge| edge.cut_wan());
    for card in cards.iter().skip(ROUNDS) {
        let (here, there) = tokio::join!(tills[EAST_1].buy(*card, DEAR_FEN), tills[WEST].buy(*card, DEAR_FEN));
        assert!(!(is_sold(&here.unwrap()) && is_sold(&there.unwrap())), "paid twice with the line cut");
        let (here, there) = tokio::join!(tills[EAST_1].buy(*card, DEAR_FEN), tills[EAST_2].buy(*card, DEAR_FEN));
        assert!(!(is_sold(&here.unwrap()) && is_sold(&there.unwrap())), "paid twice with the line cut");
    }
    world.boxes.iter().for_each(|edge| edge.heal_wan());
    assert_books_agree(&world).await;
    world.stop().await.unwrap();
}

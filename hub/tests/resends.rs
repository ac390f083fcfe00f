//! One id at two boxes of a campus: sold twice, refused at one, voided at one. The hub pairs them, whatever the order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod harness;

use harness::*;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;
use yika_crdt::sale::Answer;
use yika_crdt::store::Read;
use yika_hub::core::{self, TableRow};
use yika_hub::ledger::Account;

const MERCHANT: Account = Account::Merchant(MerchantId(1));

fn told(world: &World, word: &str) -> usize {
    world.hub.alarms.iter().filter(|alarm| alarm.starts_with(word)).count()
}

/// Two boxes of a campus that hear neither each other nor the hub.
fn apart() -> World {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    world.cut_all(true);
    world
}

/// One box's news reach the hub before the other's.
fn heal_in_order(world: &mut World, order: [usize; 2]) {
    for n in order {
        world.cut_wan(n, false);
        world.run_ms(2 * SECOND_MS);
    }
    world.cut_all(false);
    world.run_ms(3 * SECOND_MS);
    world.hub.check();
}

#[test]
fn a_purchase_refused_at_one_box_and_sold_at_the_other_is_told() {
    for order in [[0, 1], [1, 0]] {
        let mut world = apart();
        let right = world.edges[0].right(PersonId(1), WalletKey::Main);
        let fen = 2_500;
        assert!(right >= fen);
        assert_eq!(paid(&world.buy(0, 7, 1, fen)), fen);
        let block = BlockRecord {
            target: BlockTarget::Card(CardNumber(800_001)),
            reason: BlockReason::Lost,
            operator: OperatorId(1),
        };
        world.tell(1, yika_crdt::edge::Command::Block(block));
        assert!(is_refused(&world.buy(1, 7, 1, fen), Reason::Blocked));
        heal_in_order(&mut world, order);
        assert_eq!(told(&world, "answered_twice: t10-1-7 was refused"), 1, "{order:?} {:?}", world.hub.alarms);
        assert_eq!(world.hub.books()[&MERCHANT], fen, "it stands: only the cashier knows");
    }
}

#[test]
fn a_reversal_at_a_box_that_did_not_know_the_sale_reverses_it_at_the_hub() {
    for order in [[0, 1], [1, 0]] {
        let mut world = apart();
        assert_eq!(paid(&world.buy(0, 7, 1, 2_500)), 2_500);
        assert_eq!(world.refund(1, 8, 7, RefundKind::Reversal, None), Answer::Voided);
        heal_in_order(&mut world, order);
        assert_eq!(told(&world, "voided: t10-1-7"), 1, "{order:?} {:?}", world.hub.alarms);
        assert_eq!(world.hub.books()[&MERCHANT], 0);
        assert_eq!(world.total(1), 10_000, "the holder has his money");
        let refunds = world.hub.rows.iter().filter(|row| matches!(row, TableRow::Refund { .. })).count();
        assert_eq!(refunds, 1, "once");
        // The box that sold may still be told by its terminal; nothing is given back twice.
        world.refund(0, 9, 7, RefundKind::Reversal, None);
        world.run_ms(2 * SECOND_MS);
        world.hub.check();
        let books = world.hub.books();
        let of_person: i64 = books.iter().filter(|(a, _)| a.person() == Some(PersonId(1))).map(|(_, f)| f).sum();
        assert_eq!((books[&MERCHANT], of_person), (0, 10_000));
    }
}

#[test]
fn a_box_of_another_campus_voids_nothing() {
    let mut world = World::new(&[1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    world.cut_all(true);
    assert_eq!(paid(&world.buy(0, 7, 1, 2_500)), 2_500);
    let id = |seq| PurchaseId { terminal: TerminalId(10), boot: 1, seq };
    let request = yika_crdt::sale::RefundRequest {
        id: id(8),
        of: id(7),
        kind: RefundKind::Reversal,
        amount: None,
        operator: OperatorId(0),
    };
    world.tell(1, yika_crdt::edge::Command::Refund(request));
    heal_in_order(&mut world, [1, 0]);
    assert_eq!(world.hub.books()[&MERCHANT], 2_500);
    assert_eq!(told(&world, "foreign_terminal: n2@1.1 answered t10-1-7"), 1, "{:?}", world.hub.alarms);
}

/// What a dead box had answered after the hub last heard it, found on its disk: no living box can hear it from there.
#[test]
fn ids_that_a_dead_box_answered_are_not_decided_again() {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    world.cut_all(true);
    assert_eq!(paid(&world.buy(0, 7, 1, 1_000)), 1_000);
    let (dead, late) = (world.edges[0].me, world.edges[0].run(Channel::Journal, Seq(1)));
    world.switch_off(0);
    world.order(core::Command::Fence { writer: dead, reason: "test".into() });
    assert!(matches!(world.order(core::Command::Ingest(Box::new(late))), core::Reply::Stored(..)));
    world.cut_all(false);
    world.run_ms(2 * SECOND_MS);
    assert!(is_refused(&world.buy(1, 7, 1, 1_000), Reason::TooOld));
    assert!(is_refused(&world.refund(1, 20, 7, RefundKind::Reversal, None), Reason::TooOld), "nor voided");
    assert_eq!(paid(&world.buy(1, 8, 1, 1_000)), 1_000, "the next is sold");
    assert_eq!(paid(&world.buy(1, 6, 1, 1_000)), 1_000, "and one that nobody has answered");
    world.run_ms(SECOND_MS);
    assert_eq!(told(&world, "sold_twice"), 0);
}

/// A new box gets a terminal's key, and with it, before it, what is answered under that terminal's numbers.
#[test]
fn a_new_box_knows_what_was_answered_before_it_came() {
    let mut world = World::new(&[1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    for seq in [3, 4, 9] {
        paid(&world.buy(0, seq, 1, 500));
    }
    world.run_ms(SECOND_MS);
    let new = Writer { node: NodeId(5), incarnation: LIFE };
    let key = SealedKeyRecord { terminal: TerminalId(10), version: 1, sealed: vec![1] };
    world.order(core::Command::Provide { to: new, version: 1, body: Box::new(Body::TerminalKey(key)) });
    let feed = FeedId { writer: HUB, channel: Channel::Receipts(new.node) };
    let entries = world.hub.store.entries(&feed, Seq(1), usize::MAX).unwrap();
    let bodies: Vec<_> = entries.iter().map(|bytes| Entry::decode(bytes).unwrap().body).collect();
    let [Body::Answered(record), Body::TerminalKey(_)] = &bodies[..] else { panic!("{bodies:?}") };
    assert_eq!((record.terminal, record.boot), (TerminalId(10), 1));
    let answered: Vec<_> = (0..12).filter(|seq| record.numbers.contains(*seq)).collect();
    assert_eq!(answered, [3, 4, 9]);
}

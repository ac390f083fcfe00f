//! Money over a mesh: rights, asks, recalls, cheques, pools, limits, refunds, cash (design section 4).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod harness;

use harness::*;
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::edge;
use yika_crdt::entry::*;
use yika_crdt::feed::{self, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;
use yika_crdt::sale::{Answer, PurchaseRequest, RefundRequest};
use yika_crdt::store::Read;
use yika_crdt::tariff;
use yika_crdt::tariff::sheet::*;
use yika_hub::core::{self, denial::Denial};
use yika_hub::ledger::Account;

const MAIN: WalletKey = WalletKey::Main;
const P1: PersonId = PersonId(1);

/// Rows ACC-1, POS-1.
#[test]
fn a_purchase_reaches_the_ledger_and_the_box_is_topped_up() {
    let mut world = World::new(&[1]);
    world.top_up(1, 30_000);
    world.run_ms(SECOND_MS);
    assert_eq!(world.edges[0].right(P1, MAIN), 10_000);
    assert_eq!(paid(&world.buy(0, 1, 1, 7_000)), 7_000);
    world.run_ms(SECOND_MS);
    assert_eq!(world.sold(), (7_000, 7_000));
    assert_eq!(world.total(1), 23_000);
    assert!(world.edges[0].right(P1, MAIN) > 10_000, "topped up to three days' spend");
}

#[test]
fn every_box_has_a_guest_pool_and_a_float_for_its_tills() {
    let mut world = World::new(&[1, 2]);
    assert_eq!(world.edges[0].pool(WalletKey::Guest), 500_000);
    assert_eq!(world.edges[1].pool(WalletKey::Float(TerminalId(20))), 100_000);
    world.cut_all(true);
    let Answer::Approved(guest) = world.buy(1, 1, 1, 1_500) else { panic!("the guest rule serves") };
    assert_eq!(guest.paid, vec![(Source::Guest, Fen(1_500))]);
    let fact = yika_crdt::sale::PurchaseRequest { offline: true, ..request(TerminalId(20), 2, 1, 90_000) };
    let Answer::Approved(fact) = world.purchase(1, fact) else { panic!("a fact is never refused") };
    assert_eq!(fact.paid, vec![(Source::Float, Fen(90_000))]);
    world.cut_all(false);
    world.run_ms(3 * SECOND_MS);
    assert_eq!(world.sold(), (91_500, 91_500));
    assert_eq!(world.total(1), -91_500, "the holder owes what pool and float have paid");
    assert_eq!(world.edges[1].pool(WalletKey::Float(TerminalId(20))), 100_000, "filled again");
    world.top_up(1, 100_000);
    world.run_ms(SECOND_MS);
    assert_eq!(world.total(1), 8_500);
    assert_eq!(world.hub.wallets(P1).owed().unwrap(), Fen::ZERO, "paid from what came in");
}

/// A box that makes sales up would be filled up after each of them: what a stolen one costs must have an end, and be heard of
/// long before.
#[test]
fn a_pool_is_filled_a_few_times_a_day_and_then_no_more() {
    let mut world = World::new(&[1, 2]);
    let float = WalletKey::Float(TerminalId(20));
    let drawn = |world: &World| world.hub.alarms.iter().filter(|alarm| alarm.starts_with("pool_drawn")).count();
    let mut from_float = 0;
    let mut day = |world: &mut World, seqs: std::ops::Range<u32>| {
        for seq in seqs {
            let fact = yika_crdt::sale::PurchaseRequest { offline: true, ..request(TerminalId(20), seq, 1, 90_000) };
            let Answer::Approved(fact) = world.purchase(1, fact) else { panic!("a fact is never refused") };
            from_float += Fen::sum(fact.paid.iter().filter(|(s, _)| *s == Source::Float).map(|(_, f)| *f)).unwrap().0;
            world.run_ms(3 * SECOND_MS);
        }
        std::mem::take(&mut from_float)
    };
    let a_day = i64::from(core::POOL_FILLINGS_A_DAY_MAX) * 100_000;
    assert_eq!(day(&mut world, 1..2), 90_000);
    assert_eq!(drawn(&world), 0, "as on any busy day");
    assert_eq!(day(&mut world, 2..9), a_day - 90_000, "the rest is what the holder owes");
    assert_eq!((world.edges[1].pool(float), drawn(&world)), (0, 1));
    world.run_hours(24);
    assert_eq!(world.edges[1].pool(float), 100_000, "another day");
    assert_eq!(day(&mut world, 9..19), a_day);
    assert_eq!(drawn(&world), 2);
}

#[test]
fn a_purchase_elsewhere_asks_and_the_hub_calls_back_from_home() {
    let mut world = World::new(&[1, 1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    assert_eq!((world.edges[0].right(P1, MAIN), world.edges[1].right(P1, MAIN)), (5_000, 5_000));
    assert_eq!(paid(&world.buy(2, 1, 1, 8_000)), 8_000, "called back from both boxes at home");
    world.run_ms(SECOND_MS);
    assert_eq!(world.total(1), 2_000);
    assert!(is_refused(&world.buy(2, 2, 1, 2_001), Reason::NotEnough), "refused, not served as a guest");
    assert_eq!(paid(&world.buy(2, 3, 1, 2_000)), 2_000);
    world.run_ms(SECOND_MS);
    assert_eq!(world.sold(), (10_000, 10_000));
}

/// Rows POS-1.
#[test]
fn money_is_called_back_from_boxes_that_are_there_and_not_from_one_that_is_off() {
    let mut world = World::new(&[1, 1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    assert_eq!(paid(&world.buy(0, 1, 1, 1_000)), 1_000, "so that the other box holds most");
    world.switch_off(1);
    world.run_ms(2 * SECOND_MS);
    assert_eq!(paid(&world.buy(2, 1, 1, 3_000)), 3_000);
    assert!(is_refused(&world.buy(2, 2, 1, 1_001), Reason::NotEnough), "the rest is at the box that is off");
    let id = yika_crdt::feed::Hash([1; 32]);
    let withdraw = core::Command::Withdraw { id, person: P1, amount: Fen(1_001), by: TELLER };
    assert_eq!(
        world.order(withdraw),
        core::Reply::Short { available: Fen::ZERO, recalled: 2 },
        "a clerk can wait for it"
    );
    world.run_ms(SECOND_MS);
    assert_eq!(world.edges[0].right(P1, MAIN), 0, "called back from whom it could be");
}

/// Rows POS-1.
#[test]
fn who_keeps_what_is_called_back_is_passed_over_within_the_same_purchase() {
    let mut world = World::new(&[1, 1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    assert_eq!(paid(&world.buy(0, 1, 1, 1_000)), 1_000, "so that the other box holds most");
    world.run_ms(SECOND_MS);
    let held = world.edges[1].right(P1, MAIN);
    let edge = &mut world.edges[1];
    edge.edge = edge::Edge::load(&edge.store, edge.me, edge.place).unwrap().started(None);
    assert!(edge.edge.shut().is_some(), "started again, it has not heard yet whether anybody holds more of its own");
    assert_eq!(paid(&world.buy(2, 1, 1, 3_000)), 3_000, "what the other one has is enough");
    assert_eq!(world.edges[1].right(P1, MAIN), held);
}

/// Rows POS-1. A cheque counts at its giver until its taker is heard: headquarters takes the giver to hold more than it does.
#[test]
fn a_box_that_gave_a_cheque_to_one_that_is_off_is_asked_for_what_it_has() {
    let mut world = World::new(&[1, 1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    (0..3).for_each(|n| world.cut_wan(n, true));
    assert_eq!(paid(&world.buy(2, 1, 1, 1_200)), 1_200, "by cheque");
    world.switch_off(2);
    (0..2).for_each(|n| world.cut_wan(n, false));
    world.run_ms(2 * SECOND_MS);
    let (giver, other) = if world.edges[0].right(P1, MAIN) < 5_000 { (0, 1) } else { (1, 0) };
    assert_eq!((world.edges[giver].right(P1, MAIN), world.edges[other].right(P1, MAIN)), (3_800, 5_000));
    assert_eq!(paid(&world.buy(other, 1, 1, 6_000)), 6_000, "1,000 of what the giver has left");
    world.run_ms(SECOND_MS);
    assert!(is_refused(&world.buy(other, 2, 1, 2_801), Reason::NotEnough));
    world.run_ms(4 * SECOND_MS);
    // Of 4,000, as headquarters counts; it takes the giver's 1,200 of the cheque for more than a third of a share.
    assert_eq!(world.edges[other].right(P1, MAIN), 2_000, "what came back for nothing is shared out again");
    assert_eq!(paid(&world.buy(other, 3, 1, 2_800)), 2_800, "and no more than is left");
}

#[test]
fn with_the_hub_away_a_sibling_helps_within_the_purchase_and_levels_when_idle() {
    let mut world = World::new(&[1, 1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    (0..3).for_each(|n| world.cut_wan(n, true));
    assert_eq!(paid(&world.buy(0, 1, 1, 7_000)), 7_000, "2,000 came by cheque");
    world.run_ms(SECOND_MS);
    assert_eq!((world.edges[0].right(P1, MAIN), world.edges[1].right(P1, MAIN)), (1_500, 1_500), "levelled");
    assert_eq!(paid(&world.buy(2, 1, 1, 1_200)), 1_200, "from another campus' box");
    (0..3).for_each(|n| world.cut_wan(n, false));
    world.run_ms(2 * SECOND_MS);
    assert_eq!(world.sold(), (8_200, 8_200));
    assert_eq!(world.total(1), 1_800);
    assert_eq!(world.hub.wallets(P1).owed().unwrap(), Fen::ZERO);
}

/// Rows POS-16.
#[test]
fn a_strict_limit_holds_at_two_campuses_while_they_are_cut_off() {
    let mut world = World::new(&[1, 2]);
    world.top_up(3, 50_000);
    world.run_ms(SECOND_MS);
    assert_eq!(paid(&world.buy(1, 1, 3, 500)), 500, "asked for counter and money");
    assert_eq!(paid(&world.buy(0, 1, 3, 900)), 900);
    world.run_ms(SECOND_MS);
    world.cut_all(true);
    assert!(is_refused(&world.buy(0, 2, 3, 601), Reason::OverDayLimit));
    assert_eq!(paid(&world.buy(0, 3, 3, 600)), 600);
    assert!(is_refused(&world.buy(1, 2, 3, 1), Reason::OverDayLimit));
    assert!(matches!(world.refund(0, 4, 3, RefundKind::Correction, None), Answer::Refunded(_)));
    assert_eq!(paid(&world.buy(0, 5, 3, 600)), 600, "what was given back counts no more");
    world.cut_all(false);
    world.run_ms(SECOND_MS);
    assert_eq!(world.sold(), (2_000, 2_000));
    assert!(is_refused(&world.buy(1, 3, 3, 1), Reason::OverDayLimit));
    world.cut_all(true);
    world.run_hours(24);
    assert_eq!(paid(&world.buy(0, 6, 3, 2_000)), 2_000, "the next day's counter is there already");
}

/// Rows ACC-1, POS-1: boxes that have enough for their share get nothing of it.
#[test]
fn cash_paid_in_serves_whom_a_recall_keeps_waiting() {
    let slow = Faults { delay_ms: 200, jitter_ms: 0, twice: 0 };
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    let had = [0, 1].map(|n| world.edges[n].right(P1, MAIN));
    assert_eq!(had.iter().sum::<i64>(), 10_000, "all of it lies at the boxes: {had:?}");
    world.faults = slow;
    let row = Row { person: P1, wallet: MAIN };
    world.ask(0, row, Fen(had[0] + 3_000));
    world.run_ms(250);
    world.top_up(1, 3_000);
    world.run_ms(250);
    assert_eq!(world.edges[0].right(P1, MAIN), had[0] + 3_000, "before anything could come back");
}

fn paid_out(left: i64, repeated: bool) -> core::Reply {
    core::Reply::Paid { left: Fen(left), repeated }
}

#[test]
fn money_is_paid_out_after_it_was_called_back_and_never_more() {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    let withdraw = |amount, n: u8| core::Command::Withdraw {
        id: yika_crdt::feed::Hash([n; 32]),
        person: P1,
        amount: Fen(amount),
        by: TELLER,
    };
    let too_much = Denial::BalanceTooSmall { balance: Fen(10_000) };
    assert_eq!(world.order(withdraw(10_001, 9)), core::Reply::Denied(too_much), "nothing is called back for it");
    assert_eq!(world.order(withdraw(9_000, 1)), core::Reply::Short { available: Fen::ZERO, recalled: 2 });
    world.run_ms(500);
    assert_eq!(world.order(withdraw(9_000, 1)), paid_out(1_000, false));
    assert_eq!(world.order(withdraw(9_000, 1)), paid_out(1_000, true), "once");
    assert!(matches!(world.order(withdraw(1_001, 2)), core::Reply::Denied(_)));
    assert!(matches!(world.order(withdraw(-5, 3)), core::Reply::Denied(_)));
    assert_eq!(world.hub.books()[&Account::Cash], -1_000);
    world.run_ms(5 * SECOND_MS);
    assert_eq!(world.total(1), 1_000);
}

/// Rows ACC-2.
#[test]
fn a_top_up_is_undone_by_its_teller_in_his_shift_only() {
    let mut world = World::new(&[1]);
    let of = world.top_up(1, 5_000);
    let undo = |shift| core::Command::UndoTopUp { of, by: core::Teller { shift, ..TELLER } };
    assert!(matches!(world.order(undo(2)), core::Reply::Denied(_)));
    world.run_ms(SECOND_MS);
    assert!(matches!(world.order(undo(1)), core::Reply::Short { .. }));
    world.run_ms(500);
    assert_eq!(world.order(undo(1)), paid_out(0, false));
    assert_eq!(world.order(undo(1)), paid_out(0, true));
    assert_eq!(world.hub.books()[&Account::Cash], 0);
    let again = core::Command::TopUp { id: of, person: PersonId(1), amount: Fen(5_000), by: TELLER };
    assert_eq!(world.order(again), core::Reply::Denied(Denial::TopUpUndone), "no cash is taken for nothing");
    assert!(is_refused(&world.buy(0, 1, 1, 1), Reason::NotEnough));
}

/// Rows POS-22.
#[test]
fn headquarters_gives_back_only_after_the_day_was_cut_and_never_more_than_was_paid() {
    let mut world = World::new(&[1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    world.buy(0, 1, 1, 3_000);
    assert!(matches!(world.refund(0, 2, 1, RefundKind::Correction, Some(1_000)), Answer::Refunded(_)));
    world.run_ms(SECOND_MS);
    let of = PurchaseId { terminal: TerminalId(10), boot: 1, seq: 1 };
    let refund = |n: u8, amount: Option<i64>| core::Command::Refund {
        id: yika_crdt::feed::Hash([n; 32]),
        of,
        kind: RefundKind::Refund,
        amount: amount.map(Fen),
        operator: OperatorId(2),
    };
    assert!(matches!(world.order(refund(1, None)), core::Reply::Denied(_)), "its box still may");
    world.run_hours(24);
    assert!(is_refused(&world.refund(0, 3, 1, RefundKind::Refund, None), Reason::DayCut));
    let back = |amount| vec![(Source::Wallet(MAIN), Fen(amount))];
    assert_eq!(world.order(refund(2, Some(500))), core::Reply::Refunded { back: back(500), repeated: false });
    assert_eq!(world.order(refund(2, Some(500))), core::Reply::Refunded { back: back(500), repeated: true });
    assert!(matches!(world.order(refund(3, Some(1_501))), core::Reply::Denied(_)));
    assert_eq!(world.order(refund(4, None)), core::Reply::Refunded { back: back(1_500), repeated: false });
    assert!(matches!(world.order(refund(5, None)), core::Reply::Denied(_)));
    assert_eq!(world.total(1), 10_000);
}

/// Rows POS-11, POS-22.
#[test]
fn a_counted_meal_is_taken_back_by_its_box_and_after_the_cut_by_headquarters_once() {
    let mut world = World::new(&[1]);
    world.top_up(1, 10_000);
    let meal = FixedPrice { outlet: None, category: None, period: None, price: Fen(1_200) };
    let priced = TariffSheet { version: TariffVersion(2), fixed: vec![meal], ..sheet() };
    world.order(core::Command::Registry(Box::new(Body::Tariff(Box::new(priced)))));
    world.run_ms(2 * SECOND_MS);
    let id = |seq| PurchaseId { terminal: TerminalId(10), boot: 1, seq };
    for seq in 1..3 {
        let counted = PurchaseRequest { mode: Mode::Count, ..request(TerminalId(10), seq, 1, 0) };
        assert_eq!(paid(&world.purchase(0, counted)), 0);
    }
    assert!(matches!(world.refund(0, 3, 1, RefundKind::Correction, None), Answer::Refunded(_)));
    world.run_hours(24);
    let refund = |n: u8, of, amount: Option<i64>| core::Command::Refund {
        id: yika_crdt::feed::Hash([n; 32]),
        of: id(of),
        kind: RefundKind::Refund,
        amount: amount.map(Fen),
        operator: OperatorId(2),
    };
    assert!(matches!(world.order(refund(1, 1, None)), core::Reply::Denied(_)), "its box has taken it back");
    assert!(matches!(world.order(refund(2, 2, Some(1))), core::Reply::Denied(_)), "nothing was paid");
    assert_eq!(world.order(refund(3, 2, None)), core::Reply::Refunded { back: Vec::new(), repeated: false });
    assert_eq!(world.order(refund(3, 2, None)), core::Reply::Refunded { back: Vec::new(), repeated: true });
    assert!(matches!(world.order(refund(4, 2, None)), core::Reply::Denied(_)), "once");
    assert_eq!((world.total(1), world.sold()), (10_000, (0, 0)));
    assert!(world.hub.alarms.is_empty(), "{:?}", world.hub.alarms);
}

/// Rows POS-5.
#[test]
fn one_id_sold_at_two_boxes_is_sold_once_in_either_order_of_arrival() {
    for first in [0, 1] {
        let mut world = World::new(&[1, 1]);
        world.top_up(1, 10_000);
        world.run_ms(SECOND_MS);
        world.cut_all(true);
        world.buy(0, 1, 1, 1_000);
        world.now_ms += 5 * SECOND_MS;
        world.buy(1, 1, 1, 1_000);
        // The second box gives a part of its sale back; that one is then reversed by the hub.
        assert!(matches!(world.refund(1, 2, 1, RefundKind::Correction, Some(300)), Answer::Refunded(_)));
        world.cut_wan(first, false);
        world.run_ms(SECOND_MS);
        world.cut_all(false);
        world.run_ms(2 * SECOND_MS);
        assert_eq!(world.total(1), 9_000, "order {first}");
        assert_eq!(world.sold().1, 1_000, "order {first}");
        assert!(world.hub.alarms.iter().any(|a| a.starts_with("sold_twice")));
    }
}

#[test]
fn an_answer_stays_after_pruning_and_what_was_spent_stays_spent() {
    let mut world = World::new(&[1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    let first = world.buy(0, 1, 1, 1_000);
    world.run_ms(SECOND_MS);
    let feed = yika_crdt::channel::FeedId { writer: world.edges[0].me, channel: yika_crdt::channel::Channel::Journal };
    world.run_hours(24 * 36);
    let pruned = |w: &World| yika_crdt::store::Read::feed(&w.edges[0].store, &feed).unwrap().pruned;
    assert_eq!(pruned(&world), Seq(0), "old, but not archived");
    assert_eq!(world.buy(0, 1, 1, 1_000), first);
    let right = world.edges[0].right(P1, MAIN);
    world.order(core::Command::Archived(vec![(feed, Seq(u64::MAX))]));
    world.run_ms(3 * SECOND_MS);
    assert!(pruned(&world) > Seq(0));
    assert_eq!(world.edges[0].right(P1, MAIN), right);
    assert!(is_refused(&world.buy(0, 1, 1, 1_000), Reason::TooOld));
    assert!(is_refused(&world.refund(0, 9, 1, RefundKind::Reversal, None), Reason::TooOld), "never voided anew");
    world.restart(0);
    assert!(is_refused(&world.buy(0, 1, 1, 1_000), Reason::TooOld));
    assert_eq!(paid(&world.buy(0, 2, 1, 1_000)), 1_000);
    world.run_ms(SECOND_MS);
    assert_eq!(world.total(1), 8_000);
}

/// The counter of a box draws its refunds' numbers from what the box knows: that must not go with the journal, and a box
/// in a new life must not give back under the numbers of the old one.
#[test]
fn a_counters_refund_numbers_go_on_after_pruning_and_are_used_up_in_a_new_life() {
    let mut world = World::new(&[1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    let (old, counter) = (world.edges[0].me, 4_353);
    let next = |w: &World, n: usize| yika_crdt::sold::next_seq(&w.edges[n].store, TerminalId(0), counter).unwrap();
    let give_back = |w: &mut World, n: usize, seq: u32, of: u32| {
        let id = PurchaseId { terminal: TerminalId(0), boot: counter, seq };
        let of = PurchaseId { terminal: w.edges[n].till(), boot: 1, seq: of };
        let (kind, amount, operator) = (RefundKind::Refund, Some(Fen(100)), OperatorId(1));
        match w.tell(n, edge::Command::Refund(RefundRequest { id, of, kind, amount, operator })) {
            edge::Reply::Answer(answer) => answer,
            other => panic!("{other:?}"),
        }
    };
    world.buy(0, 1, 1, 1_000);
    let mut first = Vec::new();
    for seq in 1..=2 {
        assert_eq!(next(&world, 0), seq);
        first.push(give_back(&mut world, 0, seq, 1));
    }
    world.run_ms(SECOND_MS);
    let feed = FeedId { writer: old, channel: Channel::Journal };
    world.run_hours(24 * 37);
    world.order(core::Command::Archived(vec![(feed, Seq(u64::MAX))]));
    world.run_ms(5 * SECOND_MS);
    assert!(world.edges[0].store.feed(&feed).unwrap().pruned >= Seq(3), "the refunds have not left the box");
    assert_eq!(next(&world, 0), 3);
    world.restart(0);
    assert_eq!(next(&world, 0), 3);
    world.buy(0, 2, 1, 1_000);
    let merchant = |w: &World| w.hub.books()[&Account::Merchant(MerchantId(1))];
    for stale in [1, 2] {
        assert!(is_refused(&give_back(&mut world, 0, stale, 2), Reason::TooOld), "a form from before gives back");
    }
    first.push(give_back(&mut world, 0, 3, 2));
    assert!(first.iter().all(|answer| matches!(answer, Answer::Refunded(_))), "{first:?}");
    world.run_ms(SECOND_MS);
    assert_eq!((next(&world, 0), merchant(&world)), (4, 2_000 - 300));

    // The box is replaced: what it had used up is told to the new life, pruned or not.
    world.order(core::Command::Fence { writer: old, reason: "fell into the soup".into() });
    world.switch_off(0);
    let me = Writer { incarnation: Incarnation { generation: 1, counter: 2 }, ..old };
    let fresh = world.add_edge(me, 1);
    world.run_ms(3 * SECOND_MS);
    assert_eq!(next(&world, fresh), 4, "numbers of the old life");
    for (stale, first) in (1..).zip(&first) {
        // Headquarters has given the old life's journal along, so that the first answer may be known here.
        let answer = give_back(&mut world, fresh, stale, 2);
        // The form of another sale's refund: where the number is known, it is known to be that other one's.
        let is_of_another = stale < 3 && is_refused(&answer, Reason::IdReused);
        assert!(is_refused(&answer, Reason::TooOld) || is_of_another || answer == *first, "{stale}: {answer:?}");
    }
    let other = yika_crdt::sold::next_seq(&world.edges[fresh].store, TerminalId(0), counter + 1).unwrap();
    assert_eq!(other, 1, "the new life's own counter");
    world.run_ms(SECOND_MS);
    assert_eq!(merchant(&world), 2_000 - 300);
}

/// A cut adds up what came since the totals were last brought on, and that is never a whole day.
#[test]
fn totals_are_brought_on_during_the_day_and_come_to_the_same_at_the_cut() {
    use yika_crdt::sale::prune::TALLY_ENTRIES_MAX;
    use yika_crdt::tally::TotalsSum;
    let mut world = World::new(&[1]);
    world.top_up(1, 30_000);
    world.run_ms(SECOND_MS);
    let sales = 2 * TALLY_ENTRIES_MAX as u32 + 200;
    let brought_on = |w: &World| -> Seq {
        let row = w.edges[0].store.get(yika_crdt::keys::LAST_TALLY).unwrap();
        let last =
            row.map(|bytes| yika_crdt::store::decode_row::<(Incarnation, Seq, TotalsSum)>(b"t", &bytes).unwrap());
        last.map_or(Seq::ZERO, |last| last.1)
    };
    for seq in 1..=sales {
        world.buy(0, seq, 1, 3);
        if seq % 100 == 0 {
            world.run_ms(SECOND_MS);
            let journal = world.edges[0].journal().len() as u64;
            assert!(journal - brought_on(&world).0 < TALLY_ENTRIES_MAX + 110, "{journal}: {:?}", brought_on(&world));
        }
    }
    assert!(brought_on(&world) >= Seq(2 * TALLY_ENTRIES_MAX));
    let feed = FeedId { writer: world.edges[0].me, channel: Channel::Journal };
    world.run_hours(24 * 37);
    world.order(core::Command::Archived(vec![(feed, Seq(u64::MAX))]));
    world.run_ms(5 * SECOND_MS);
    assert!(!world.edges[0].alarms().iter().any(|alarm| alarm.starts_with("totals")), "the hub comes to the same");
    assert!(world.edges[0].store.feed(&feed).unwrap().pruned >= Seq(u64::from(sales)));
}

/// A row that was lost or doubled on the box' disk could never be found out once the journal is gone.
#[test]
fn a_box_whose_totals_are_not_the_hubs_keeps_its_journal_and_says_so() {
    use yika_crdt::store::{Read, Store, Tx};
    for is_whole in [true, false] {
        let mut world = World::new(&[1]);
        world.top_up(1, 10_000);
        world.run_ms(SECOND_MS);
        world.buy(0, 1, 1, 1_000);
        world.buy(0, 2, 1, 500);
        world.refund(0, 3, 2, RefundKind::Correction, Some(200));
        if !is_whole {
            let edge = &mut world.edges[0];
            let mut rights = edge.rights(P1);
            rights.rows.get_mut(&MAIN).unwrap().used = Fen(1_400);
            let mut tx = Tx::new(&edge.store);
            tx.put(yika_crdt::keys::rights(P1), &rights);
            let batch = tx.into_batch();
            edge.store.commit(&batch).unwrap();
        }
        let journal = |w: &World| yika_crdt::channel::FeedId {
            writer: w.edges[0].me,
            channel: yika_crdt::channel::Channel::Journal,
        };
        world.run_hours(24 * 37);
        world.order(core::Command::Archived(vec![(journal(&world), Seq(u64::MAX))]));
        world.run_ms(5 * SECOND_MS);
        let pruned = world.edges[0].store.feed(&journal(&world)).unwrap().pruned > Seq(0);
        let told = world.edges[0].alarms().iter().any(|alarm| alarm.starts_with("totals"));
        assert_eq!((pruned, told), (is_whole, !is_whole));
    }
}

/// A box whose prices are not those of the tariff it names; its journal is signed as any other.
#[test]
fn a_price_that_headquarters_comes_to_otherwise_is_posted_as_charged_marked_and_alarmed() {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 50_000);
    world.run_ms(SECOND_MS);
    let Answer::Approved(honest) = world.buy(0, 1, 1, 1_000) else { panic!("not approved") };
    world.run_ms(SECOND_MS);
    let doubts = |world: &World| -> Vec<_> {
        let doubt = |row: &core::TableRow| match row {
            core::TableRow::Sale { doubt, .. } => Some(*doubt),
            _ => None,
        };
        world.hub.rows.iter().filter_map(doubt).collect()
    };
    assert_eq!(doubts(&world), vec![None], "an honest price raises no doubt");

    world.switch_off(1);
    let writer = world.edges[1].me;
    let feed = FeedId { writer, channel: Channel::Journal };
    let stamp = Stamp { hub_time_ms: world.now_ms, boot: 1, mono_ms: 0 };
    let mut say = |seq: u32, change: &dyn Fn(&mut PurchaseRecord)| {
        let mut sale = PurchaseRecord { id: PurchaseId { seq, boot: 2, ..honest.id }, ..(*honest).clone() };
        change(&mut sale);
        let body = Body::Purchase(sale);
        assert_eq!(body.fault(), None);
        let (held, entry) = (world.hub.store.feed(&feed).unwrap().end, Entry { stamp, body }.encode());
        let head = SignedHead::sign(feed, feed::link(&feed, held, &entry), &key_of(writer.node));
        let run = Run { from: held.seq.next(), entries: vec![entry], head };
        assert!(matches!(world.order(core::Command::Ingest(Box::new(run))), core::Reply::Stored(..)));
    };
    say(1, &|sale| {
        sale.adjustment = Fen(50);
        sale.paid = vec![(Source::Wallet(MAIN), Fen(1_050))];
    });
    say(2, &|sale| sale.mode = Mode::Fixed);
    say(3, &|sale| sale.tariff = TariffVersion(9));
    say(4, &|sale| sale.tariff = TariffVersion(9));
    let doubts: Vec<_> = doubts(&world).into_iter().flatten().collect();
    let unknown = core::PriceDoubt::UnknownTariff;
    assert_eq!(doubts, vec![core::PriceDoubt::Due(Fen(1_000)), core::PriceDoubt::NotForSale, unknown, unknown]);
    assert_eq!(core::price_doubts(&world.hub.store).unwrap(), 4);
    let alarms = |word: &str| world.hub.alarms.iter().filter(|a| a.starts_with(word)).count();
    assert_eq!((alarms("price: "), alarms("tariff_unknown: ")), (1, 1), "{:?}", world.hub.alarms);
    assert_eq!(world.hub.books()[&Account::Merchant(MerchantId(1))], 1_000 + 1_050 + 3 * 1_000, "posted as charged");
}

/// What a terminal sold by itself is priced by one rule at the box and here.
#[test]
fn headquarters_comes_to_the_price_of_every_fact_as_its_box_did() {
    let mut world = World::new(&[1]);
    world.top_up(1, 50_000);
    let fixed =
        |period, fen| FixedPrice { outlet: None, category: None, period: Some(PeriodId(period)), price: Fen(fen) };
    let meal = |id, name: &str, from_minute, until_minute| MealPeriod {
        id: PeriodId(id),
        name: name.into(),
        from_minute,
        until_minute,
    };
    let dearer = |category, basis_points| Adjustment {
        category: CategoryId(category),
        outlet: None,
        basis_points,
        flat: Fen::ZERO,
    };
    let next = TariffSheet {
        version: TariffVersion(2),
        periods: vec![meal(1, "早餐", 360, 540), meal(2, "午餐", 630, 720)],
        fixed: vec![fixed(1, 400), fixed(2, 1_200)],
        adjustments: vec![dearer(1, -1_000), dearer(2, 20_000)],
        barred: vec![(CategoryId(1), OutletId(1))],
        ..sheet()
    };
    world.order(core::Command::Registry(Box::new(Body::Tariff(Box::new(next)))));
    world.run_ms(2 * SECOND_MS);
    let (till, now_ms) = (world.edges[0].till(), world.now_ms);
    assert!(is_refused(&world.buy(0, 1, 1, 500), Reason::NotHere));
    let portions = Mode::Portions { unit: Fen(300), portions: 2 };
    let modes = [Mode::Amount(Fen(1_000)), portions, Mode::Fixed, Mode::Count];
    let mut seq = 1;
    let mut sold = Vec::new();
    // Barred and cheaper, three times as dear, unknown; eaten a quarter past lunch.
    for person in [1, 2, 99] {
        for mode in modes {
            seq += 1;
            let fact = yika_crdt::sale::PurchaseRequest {
                mode,
                terminal_time_ms: now_ms - HOUR_MS / 4,
                offline: true,
                ..request(till, seq, person, 1)
            };
            sold.push(paid(&world.purchase(0, fact)));
        }
    }
    assert_eq!(sold, [900, 540, 1_080, 0, 3_000, 1_800, 3_600, 0, 1_000, 600, 1_200, 0]);
    seq += 1;
    let most = Mode::Amount(Fen(tariff::PURCHASE_FEN_MAX));
    let fact = yika_crdt::sale::PurchaseRequest { mode: most, offline: true, ..request(till, seq, 2, 1) };
    assert_eq!(paid(&world.purchase(0, fact)), tariff::PURCHASE_FEN_MAX, "three times as much cannot be charged");
    world.run_ms(3 * SECOND_MS);
    let doubts = |row: &core::TableRow| match row {
        core::TableRow::Sale { doubt, .. } => Some(*doubt),
        _ => None,
    };
    let doubts: Vec<_> = world.hub.rows.iter().filter_map(doubts).collect();
    assert_eq!(doubts, vec![None; 13]);
    let alarms: Vec<_> = world.hub.alarms.iter().filter(|alarm| alarm.starts_with("fact: ")).collect();
    assert_eq!(alarms.len(), 3, "barred, after hours, without a price: {alarms:?}");
}

//! Boxes that die, are replaced, cloned, rolled back or stolen, and a hub restored from last night (design 4 and 6).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod harness;

use harness::*;
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;
use yika_crdt::sale::Answer;
use yika_crdt::store::{MemoryStore, Read};
use yika_hub::core::{self, denial::Denial};
use yika_hub::ledger::{Account, Transfer};

const MAIN: WalletKey = WalletKey::Main;
const P1: PersonId = PersonId(1);

fn fence(world: &mut World, n: usize) {
    let writer = world.edges[n].me;
    assert_eq!(world.order(core::Command::Fence { writer, reason: "test".into() }), core::Reply::Done);
}

fn suspense(world: &World, writer: Writer) -> i64 {
    world.hub.books().get(&Account::Suspense(P1, MAIN, writer)).copied().unwrap_or(0)
}

fn loss(world: &World) -> i64 {
    world.hub.books().get(&Account::Loss).copied().unwrap_or(0)
}

#[test]
fn rights_of_a_dead_box_wait_in_suspense_until_nobody_can_spend_them() {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    world.cut_all(true);
    assert_eq!(paid(&world.buy(0, 1, 1, 2_000)), 2_000);
    world.switch_off(0);
    fence(&mut world, 0);
    let dead = world.edges[0].me;
    assert_eq!(suspense(&world, dead), 5_000);
    world.cut_all(false);
    world.run_ms(SECOND_MS);
    assert_eq!(world.edges[1].right(P1, MAIN), 5_000, "the living box's share, stated, not hidden");
    assert!(is_refused(&world.buy(1, 2, 1, 5_001), Reason::NotEnough));

    world.run_hours(71);
    assert_eq!(suspense(&world, dead), 5_000, "the lease it may hold is not over");
    // The other box is out of reach when the lease ends: it could have taken a cheque until then.
    world.cut_all(true);
    world.run_hours(4);
    assert_eq!(suspense(&world, dead), 5_000, "not every box has told");
    world.cut_all(false);
    world.run_hours(24);
    assert_eq!(suspense(&world, dead), 0);
    assert_eq!(world.total(1), 10_000);
    assert_eq!(loss(&world), 0);

    // Its journal is found: what it sold is posted, and owed by who ate.
    let run = world.edges[0].run(Channel::Journal, Seq(1));
    assert!(matches!(world.order(core::Command::Ingest(Box::new(run))), core::Reply::Stored(..)));
    assert_eq!(world.total(1), 8_000);
    assert_eq!(world.sold(), (2_000, 2_000));
}

/// The box had given back what it sold, and headquarters knew only of the sale.
#[test]
fn what_a_journal_gives_back_after_the_release_is_its_holders_and_not_in_suspense() {
    for early in [false, true] {
        let mut world = World::new(&[1, 1]);
        world.top_up(1, 10_000);
        world.run_ms(SECOND_MS);
        assert_eq!(paid(&world.buy(0, 1, 1, 3_000)), 3_000);
        world.run_ms(SECOND_MS);
        world.cut_all(true);
        assert!(matches!(world.refund(0, 2, 1, RefundKind::Reversal, None), Answer::Refunded(_)));
        let float = yika_crdt::sale::PurchaseRequest { offline: true, ..request(TerminalId(10), 3, 2, 700) };
        let Answer::Approved(fact) = world.purchase(0, float) else { panic!("a fact is never refused") };
        assert_eq!(fact.paid, vec![(Source::Float, Fen(700))]);
        let back = world.refund(0, 4, 3, RefundKind::Correction, Some(200));
        assert!(matches!(back, Answer::Refunded(_)), "{back:?}");
        world.switch_off(0);
        fence(&mut world, 0);
        let dead = world.edges[0].me;
        if early {
            let release = core::Command::ReleaseSuspense { writer: dead, operator: OperatorId(7) };
            assert_eq!(world.order(release), core::Reply::Done);
        }
        world.cut_all(false);
        world.run_hours(24 * 5);
        assert_eq!((suspense(&world, dead), world.total(1), loss(&world)), (0, 7_000, 0), "released");

        // The journal turns up, twice.
        for _ in 0..2 {
            let run = world.edges[0].run(Channel::Journal, Seq(1));
            assert!(matches!(world.order(core::Command::Ingest(Box::new(run))), core::Reply::Stored(..)));
            assert_eq!((suspense(&world, dead), world.total(1), loss(&world)), (0, 10_000, 0));
        }
        let in_suspense = |(account, sum): (&Account, &i64)| matches!(account, Account::Suspense(..)) && *sum != 0;
        assert!(!world.hub.books().iter().any(in_suspense), "{:?}", world.hub.books());
        assert_eq!((world.total(2), world.sold()), (-500, (500, 500)), "and what the float paid is owed");
        assert_eq!(paid(&world.buy(1, 9, 1, 10_000)), 10_000, "he can spend all of it, once");
        assert!(is_refused(&world.buy(1, 10, 1, 2_001), Reason::NotEnough));
    }
}

#[test]
fn an_operator_may_release_earlier_and_the_worst_case_is_booked_to_loss() {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    world.cut_all(true);
    world.buy(0, 1, 1, 2_000);
    world.switch_off(0);
    let dead = world.edges[0].me;
    let release = core::Command::ReleaseSuspense { writer: dead, operator: OperatorId(7) };
    assert!(matches!(world.order(release.clone()), core::Reply::Denied(_)), "fence first");
    fence(&mut world, 0);
    assert_eq!(world.order(release.clone()), core::Reply::Done);
    assert_eq!((loss(&world), suspense(&world, dead)), (-5_000, 5_000));
    assert_eq!(world.order(release), core::Reply::Done, "once");
    assert_eq!((loss(&world), world.total(1)), (-5_000, 10_000));
    assert!(world.hub.alarms.iter().any(|a| a.starts_with("released_early")));
    world.cut_all(false);
    world.run_ms(SECOND_MS);
    assert_eq!(paid(&world.buy(1, 2, 1, 9_000)), 9_000, "the holder has his money");
    let run = world.edges[0].run(Channel::Journal, Seq(1));
    world.order(core::Command::Ingest(Box::new(run)));
    assert_eq!(suspense(&world, dead), 3_000, "what the dead box sold comes out of suspense");
    world.run_hours(24 * 4);
    assert_eq!((loss(&world), suspense(&world, dead)), (-2_000, 0), "the rest makes good the loss");
    assert_eq!(world.total(1), 1_000);
}

#[test]
fn a_replacement_fences_the_old_life_and_starts_with_nothing() {
    let mut world = World::new(&[1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    let old = world.edges[0].me;
    world.cut_wan(0, true);
    world.buy(0, 1, 1, 400);
    let row = core::enrol::TokenRow {
        campus: CampusId(1),
        expires_ms: world.now_ms + HOUR_MS,
        replaces: Some(old.node),
        used: None,
    };
    world.order(core::Command::CreateToken { hash: [1; 32], row });
    let key = key_of(old.node).verifying_key().to_bytes();
    let redeemed = world.order(core::Command::Redeem { hash: [1; 32], key, name: "new".into() });
    let core::Reply::Redeemed(Ok((used, _))) = redeemed else { panic!("{redeemed:?}") };
    assert_eq!(used.writer, Writer { node: old.node, incarnation: Incarnation { generation: 1, counter: 2 } });
    assert!(world.hub.hub.mesh.is_fenced(old));
    assert_eq!(suspense(&world, old), 10_000);
    let late = world.edges[0].run(Channel::Journal, Seq(1));
    world.switch_off(0);
    let mut fresh = EdgeBox::new(used.writer, 1);
    let mut tx = yika_crdt::store::Tx::new(&fresh.store);
    fresh.edge.mesh.put_person(&mut tx, &a_person(1), &mut Vec::new()).unwrap();
    let batch = tx.into_batch();
    yika_crdt::store::Store::commit(&mut fresh.store, &batch).unwrap();
    world.edges.push(fresh);
    world.cut_wan(1, false);
    world.run_ms(SECOND_MS);
    assert_eq!(world.edges[1].right(P1, MAIN), 0, "what the old life may have spent is not granted again");
    assert!(is_refused(&world.buy(1, 2, 1, 100), Reason::NotEnough));
    world.top_up(1, 1_000);
    world.run_ms(SECOND_MS);
    assert_eq!(paid(&world.buy(1, 3, 1, 1_000)), 1_000);
    world.order(core::Command::Ingest(Box::new(late)));
    world.run_ms(SECOND_MS);
    assert_eq!(world.hub.books()[&Account::Merchant(MerchantId(1))], 1_400);
    assert_eq!(suspense(&world, old), 9_600);
}

#[test]
fn a_cheque_of_a_box_that_is_fenced_later_is_posted_and_not_paid_twice() {
    let mut world = World::new(&[1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    (0..2).for_each(|n| world.cut_wan(n, true));
    assert_eq!(paid(&world.buy(1, 1, 1, 6_000)), 6_000, "by cheque");
    let giver = world.edges[0].me;
    fence(&mut world, 0);
    world.switch_off(0);
    assert_eq!(suspense(&world, giver), 10_000, "in transit it counts at the giver");
    world.cut_wan(1, false);
    world.run_ms(2 * SECOND_MS);
    assert_eq!(suspense(&world, giver), 4_000);
    assert_eq!(world.total(1), 0);
    assert_eq!(world.hub.wallets(P1).owed().unwrap(), Fen::ZERO);
    assert_eq!(world.sold(), (6_000, 6_000));
}

#[test]
fn a_cheque_lapses_with_the_lease_of_its_giver() {
    let mut world = World::new(&[1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    (0..2).for_each(|n| world.cut_wan(n, true));
    let row = Row { person: P1, wallet: MAIN };
    let from = world.edges[1].me;
    world.set_cut(NodeId(1), NodeId(2), true);
    let ask = yika_crdt::edge::Command::Ask { from, row, total: Fen(4_000) };
    assert_eq!(world.tell(0, ask), yika_crdt::edge::Reply::Granted(true));
    world.run_hours(73);
    // Both meet again when the giver's lease is over; the receiver has a fresh one.
    world.cut_wan(1, false);
    world.run_ms(SECOND_MS);
    world.cut_wan(1, true);
    world.set_cut(NodeId(1), NodeId(2), false);
    world.run_ms(SECOND_MS);
    assert_eq!(world.edges[1].right(P1, MAIN), 0);
    assert!(!world.edges[1].journal().iter().any(|e| matches!(e.body, Body::Taken(_))));
}

/// A stolen box signs whatever it likes; without the hub's word it is worth nothing, and with it no more than it says.
#[test]
fn a_stolen_box_cannot_pass_on_more_than_the_hub_vouched_for() {
    let mut world = World::new(&[1, 2, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    (0..3).for_each(|n| world.cut_wan(n, true));
    let thief = world.edges[0].me;
    let row = Row { person: P1, wallet: MAIN };
    let basis = world.edges[0].rights(P1).rows[&MAIN].statement.clone();
    let lease = world.edges[0].edge.mesh.lease;
    let stamp = Stamp { hub_time_ms: world.now_ms, boot: 1, mono_ms: 0 };
    let mut forge = |n: usize, seq: u64, total: i64, basis: Option<Box<Statement>>| {
        let feed = FeedId { writer: thief, channel: Channel::Rights(world.edges[n].me) };
        let held = world.edges[n].store.feed(&feed).unwrap().end;
        assert_eq!(held.seq.next(), Seq(seq));
        let grant = GrantRecord { row, total: Fen(total), last_day: None, basis, lease };
        let entry = Entry { stamp, body: Body::Grant(grant) }.encode();
        let end = feed::link(&feed, held, &entry);
        let run = Run { from: Seq(seq), entries: vec![entry], head: SignedHead::sign(feed, end, &key_of(thief.node)) };
        world.tell(n, yika_crdt::edge::Command::Ingest(Box::new(run)));
        world.edges[n].right(P1, MAIN)
    };
    assert_eq!(forge(1, 1, 5_000, None), 0, "no word of the hub");
    let mut false_word = basis.clone().unwrap();
    false_word.remaining = Fen(1_000_000);
    assert_eq!(forge(1, 2, 5_000, Some(false_word)), 0, "a false word");
    assert_eq!(forge(1, 3, 900_000, basis.clone()), 10_000, "at most what the word says");
    assert_eq!(forge(1, 4, 990_000, basis.clone()), 10_000, "on one word only once");
    assert_eq!(forge(2, 1, 900_000, basis), 10_000, "the bound that the README states: once at each receiver");
    assert_eq!(world.edges[1].alarms().len(), 2);
    // It sells its own share too: the share × (1 + boxes that took its cheques).
    for n in 0..3 {
        assert_eq!(paid(&world.buy(n, n as u32 + 1, 1, 10_000)), 10_000);
    }
    fence(&mut world, 0);
    let own = world.edges[0].run(Channel::Journal, Seq(1));
    world.order(core::Command::Ingest(Box::new(own)));
    (1..3).for_each(|n| world.cut_wan(n, false));
    world.run_ms(2 * SECOND_MS);
    // The books stay whole, what exceeds the person's money is owed and seen.
    assert_eq!(world.sold().1, 30_000);
    assert_eq!(world.total(1), -20_000);
}

#[test]
fn both_branches_of_a_cloned_box_are_posted_and_the_clone_is_seen() {
    let mut world = World::new(&[1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    world.buy(0, 1, 1, 1_000);
    world.run_ms(SECOND_MS);
    let mut clone = EdgeBox::new(world.edges[0].me, 1);
    clone.store = world.edges[0].store.clone();
    clone.edge = yika_crdt::edge::Edge::load(&clone.store, clone.me, clone.place).unwrap();
    world.cut_all(true);
    let right = world.edges[0].right(P1, MAIN);
    assert_eq!(paid(&world.buy(0, 2, 1, right)), right);
    // The clone sells the same money again: the bound is one right per copy.
    std::mem::swap(&mut world.edges[0], &mut clone);
    assert_eq!(paid(&world.buy(0, 3, 1, right)), right);
    assert!(is_refused(&world.buy(0, 4, 1, 2_001), Reason::NotEnough), "more than a guest may");
    let forked = world.edges[0].me;
    std::mem::swap(&mut world.edges[0], &mut clone);
    world.cut_all(false);
    world.run_ms(2 * SECOND_MS);
    let from = Seq(1);
    let run = clone.run(Channel::Journal, from);
    let more = core::Reply::Branch { feed: run.head.feed, from: run.head.end.seq.next() };
    assert_eq!(world.order(core::Command::Branch(Box::new(run.clone()))), more);
    let sold = world.hub.books()[&Account::Merchant(MerchantId(1))];
    assert_eq!(sold, 1_000 + 2 * right, "both branches");
    assert_eq!(world.order(core::Command::Branch(Box::new(run))), more);
    assert_eq!(world.hub.books()[&Account::Merchant(MerchantId(1))], sold, "once");
    assert_eq!(world.total(1), 10_000 - 1_000 - 2 * right);
    assert!(world.hub.alarms.iter().any(|a| a.starts_with("fork")));
    let granted = world.edges[0].right(P1, MAIN);
    world.top_up(1, 50_000);
    world.run_ms(SECOND_MS);
    assert_eq!(world.edges[0].right(P1, MAIN), granted, "no rights for a forked life");
    assert!(world.hub.hub.mesh.forked.contains(&forked));
}

/// The clone meets the hub, which holds the honest box' branch: its own is fetched and posted, once, however long it is.
#[test]
fn the_other_branch_is_fetched_from_a_clone_that_still_runs() {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 100_000);
    world.run_ms(SECOND_MS);
    (1..=200).for_each(|seq| assert_eq!(paid(&world.buy(0, seq, 1, 10)), 10));
    world.run_ms(SECOND_MS);
    let mut clone = EdgeBox::new(world.edges[0].me, 1);
    clone.store = world.edges[0].store.clone();
    clone.edge = yika_crdt::edge::Edge::load(&clone.store, clone.me, clone.place).unwrap();
    world.cut_all(true);
    std::mem::swap(&mut world.edges[0], &mut clone);
    (300..600).for_each(|seq| assert_eq!(paid(&world.buy(0, seq, 1, 10)), 10));
    std::mem::swap(&mut world.edges[0], &mut clone);
    // The honest box has sold less, or more, when the clone meets the hub.
    for seq in 700..702 {
        assert_eq!(paid(&world.buy(0, seq, 1, 10)), 10);
    }
    world.cut_wan(0, false);
    world.run_ms(2 * SECOND_MS);
    let merchant = |world: &World| world.hub.books()[&Account::Merchant(MerchantId(1))];
    assert_eq!(merchant(&world), 2_020);
    world.disconnect(HUB.node, NodeId(1));
    std::mem::swap(&mut world.edges[0], &mut clone);
    world.run_ms(5 * SECOND_MS);
    assert_eq!(merchant(&world), 5_020, "{:?}", world.hub.alarms);
    assert!(world.hub.hub.mesh.forked.contains(&clone.me));
    world.disconnect(HUB.node, NodeId(1));
    world.run_ms(5 * SECOND_MS);
    assert_eq!(merchant(&world), 5_020, "once");
    world.hub.check();
}

/// A box writes two journals: one to the hub, the other to its sibling, which passes it on in good faith.
#[test]
fn a_sibling_that_passes_a_branch_on_is_heard_and_the_branch_is_posted() {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    assert_eq!(paid(&world.buy(0, 1, 1, 100)), 100);
    world.run_ms(2 * SECOND_MS);
    let mut twin = EdgeBox::new(world.edges[0].me, 1);
    twin.store = world.edges[0].store.clone();
    twin.edge = yika_crdt::edge::Edge::load(&twin.store, twin.me, twin.place).unwrap();
    world.cut_all(true);
    assert_eq!(paid(&world.buy(0, 2, 1, 200)), 200);
    world.cut_wan(0, false);
    world.run_ms(2 * SECOND_MS);
    world.cut_wan(0, true);
    std::mem::swap(&mut world.edges[0], &mut twin);
    for seq in 3..6 {
        assert_eq!(paid(&world.buy(0, seq, 1, 300)), 300);
    }
    world.set_cut(NodeId(1), NodeId(2), false);
    world.run_ms(2 * SECOND_MS);
    world.switch_off(0);
    let merchant = |world: &World| world.hub.books()[&Account::Merchant(MerchantId(1))];
    assert_eq!(merchant(&world), 300);
    world.cut_wan(1, false);
    world.run_ms(5 * SECOND_MS);
    assert_eq!(merchant(&world), 1_200, "{:?}", world.hub.alarms);
    assert_eq!(paid(&world.buy(1, 9, 1, 50)), 50);
    world.run_ms(SECOND_MS);
    assert_eq!(merchant(&world), 1_250, "what the sibling itself sells arrives as ever");
}

/// A clone passes rights on to its sibling, where headquarters holds another cheque of the box.
#[test]
fn a_cheque_of_a_clone_counts_though_headquarters_holds_another_branch() {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    let mut twin = EdgeBox::new(world.edges[0].me, 1);
    twin.store = world.edges[0].store.clone();
    twin.edge = yika_crdt::edge::Edge::load(&twin.store, twin.me, twin.place).unwrap();
    let (from, row) = (world.edges[1].me, Row { person: P1, wallet: MAIN });
    let ask = |total| yika_crdt::edge::Command::Ask { from, row, total: Fen(total) };
    world.cut_all(true);
    world.tell(0, ask(100));
    world.cut_wan(0, false);
    world.run_ms(2 * SECOND_MS);
    world.cut_wan(0, true);
    let before = world.edges[1].right(P1, MAIN);
    std::mem::swap(&mut world.edges[0], &mut twin);
    // One where headquarters holds another, and one beyond the end of what it holds.
    world.tell(0, ask(300));
    world.tell(0, ask(450));
    world.set_cut(NodeId(1), NodeId(2), false);
    world.run_ms(SECOND_MS);
    world.switch_off(0);
    assert_eq!(world.edges[1].right(P1, MAIN), before + 450, "taken");
    world.cut_wan(1, false);
    world.run_ms(5 * SECOND_MS);
    let believed = world.hub.books()[&Account::Right(P1, MAIN, from)];
    assert_eq!(believed, world.edges[1].right(P1, MAIN), "{:?}", world.hub.alarms);
    world.hub.check();
}

#[test]
fn a_rolled_back_box_shows_itself_to_its_sibling_whose_boxes_take_no_cheque_of_it() {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    world.buy(0, 1, 1, 100);
    world.run_ms(SECOND_MS);
    let old = world.edges[0].store.clone();
    world.buy(0, 2, 1, 100);
    world.run_ms(2 * SECOND_MS);
    world.cut_all(true);
    world.edges[0].store = old;
    world.restart(0);
    world.buy(0, 3, 1, 200);
    world.set_cut(NodeId(1), NodeId(2), false);
    world.run_ms(3 * SECOND_MS);
    let forked = world.edges[0].me;
    assert!(world.edges[1].edge.mesh.forked.contains(&forked));
    assert!(world.edges[1].alarms().iter().any(|a| a.starts_with("fork")));
    let right = world.edges[1].right(P1, MAIN);
    let row = Row { person: P1, wallet: MAIN };
    let from = world.edges[1].me;
    world.tell(0, yika_crdt::edge::Command::Ask { from, row, total: Fen(500) });
    world.run_ms(SECOND_MS);
    assert_eq!(world.edges[1].right(P1, MAIN), right, "a proven forker's cheque is not taken");
}

#[test]
fn a_hub_restored_from_last_night_neither_pays_twice_nor_forgets() {
    let mut world = World::new(&[1, 1, 2]);
    world.top_up(1, 100_000);
    world.run_ms(SECOND_MS);
    world.buy(0, 1, 1, 1_000);
    world.run_ms(2 * SECOND_MS);
    let (night, transfers) = (world.hub.store.clone(), world.hub.transfers.clone());

    // A day that the backup does not know: a top-up, purchases everywhere, grants, a block, a fence.
    world.top_up(1, 20_000);
    world.buy(1, 1, 1, 4_000);
    world.buy(2, 1, 1, 6_000);
    world.run_ms(2 * SECOND_MS);
    let target = BlockTarget::Card(CardNumber(800_002));
    let block = BlockRecord { target, reason: BlockReason::Lost, operator: OperatorId(1) };
    world.order(core::Command::Block(block));
    world.run_ms(SECOND_MS);
    fence(&mut world, 1);
    world.switch_off(1);
    world.run_ms(SECOND_MS);
    let truth = world.total(1);
    let suspended = suspense(&world, world.edges[1].me);
    assert!(suspended > 0);

    // The disk dies; last night's backup is put back.
    world.hub.restore(night, transfers);
    world.hub.hub.mesh.me = HUB;
    world.restart_hub();
    world.cut_wan(2, true);
    world.run_ms(3 * SECOND_MS);
    assert!(world.hub.hub.recovery().is_some(), "an edge holds more of the hub's feeds than the hub");
    assert_eq!(world.hub.hub.mesh.me.incarnation.generation, 2);
    assert!(world.hub.hub.mesh.people.read().is_blocked(target), "blocks are back");
    assert!(world.hub.hub.mesh.is_fenced(world.edges[1].me), "fences too");
    assert_eq!(paid(&world.buy(0, 2, 1, 1_500)), 1_500, "canteens go on");
    let withdraw = |n: u8, amount| core::Command::Withdraw {
        id: feed::Hash([n; 32]),
        person: P1,
        amount: Fen(amount),
        by: TELLER,
    };
    assert!(matches!(world.order(withdraw(1, 1)), core::Reply::Denied(_)), "nothing is paid out");
    let held = world.edges[0].right(P1, MAIN);
    world.restart_hub();
    world.run_ms(2 * SECOND_MS);
    assert!(world.hub.hub.recovery().is_some(), "one box has not reported");
    assert!(is_refused(&world.buy(0, 3, 1, held + 1), Reason::NotEnough), "nothing is granted");

    world.cut_wan(2, false);
    world.run_ms(4 * SECOND_MS);
    assert!(world.hub.hub.recovery().is_none(), "all have reported");
    // What the backup had not got is the top-up; everything else is as it was.
    assert_eq!(world.total(1), truth - 1_500 - 20_000);
    assert_eq!(world.sold().0, world.sold().1);
    assert_eq!(suspense(&world, world.edges[1].me), suspended);
    assert_eq!(paid(&world.buy(0, 4, 1, held + 1)), held + 1, "granted again");
    world.run_ms(SECOND_MS);
    let left = world.total(1);
    assert!(matches!(world.order(withdraw(2, left + 1)), core::Reply::Denied(_)));
    world.top_up(1, 20_000);
    world.run_ms(SECOND_MS);
    assert_eq!(world.total(1), left + 20_000);
}

/// The backup is older than what a box gave back, and that box is dead: nobody but its disk knows.
#[test]
fn a_restored_hub_releases_nothing_of_a_dead_box_that_it_once_knew_more_of() {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    let (night, transfers) = (world.hub.store.clone(), world.hub.transfers.clone());
    assert_eq!(paid(&world.buy(1, 1, 1, 8_000)), 8_000, "the first box has given back for it");
    world.run_ms(2 * SECOND_MS);
    let dead = world.edges[0].me;
    let truth = world.edges[0].right(P1, MAIN);
    fence(&mut world, 0);
    world.switch_off(0);
    world.run_ms(SECOND_MS);
    assert_eq!(suspense(&world, dead), truth);

    world.hub.restore(night, transfers);
    world.restart_hub();
    world.run_ms(4 * SECOND_MS);
    assert!(world.hub.hub.recovery().is_none());
    assert!(!world.hub.alarms.iter().any(|a| a.starts_with("grants_unknown")), "{:?}", world.hub.alarms);
    let too_much = suspense(&world, dead) - truth;
    assert!(too_much > 0 && loss(&world) == -too_much, "{too_much} {}", loss(&world));
    world.run_hours(24 * 5);
    assert_eq!(suspense(&world, dead), truth + too_much, "what it may have given back is given to nobody");

    // Its disk is found.
    let back = world.edges[0].run(Channel::Rights(HUB), Seq(1));
    assert!(matches!(world.order(core::Command::Ingest(Box::new(back))), core::Reply::Stored(..)));
    assert_eq!((suspense(&world, dead), loss(&world)), (truth, 0));
    world.run_hours(1);
    assert_eq!((suspense(&world, dead), world.total(1)), (0, 2_000));
}

#[test]
fn two_hubs_put_back_from_one_backup_are_two_lives_and_know_each_other() {
    // Whichever of them has the larger name.
    two_hubs_put_back_from_one_backup(1, 2);
    two_hubs_put_back_from_one_backup(200, 100);
}

fn two_hubs_put_back_from_one_backup(luck: u32, later: u32) {
    let mut world = World::new(&[1]);
    world.hub.luck = luck;
    world.top_up(1, 4_000);
    world.run_ms(SECOND_MS);
    let (night, transfers) = (world.hub.store.clone(), world.hub.transfers.clone());
    world.hub.restore(night.clone(), transfers.clone());
    world.restart_hub();
    assert_eq!(world.order(core::Command::Restored), core::Reply::Done);
    let first = world.hub.hub.mesh.me;
    world.restart_hub();
    world.run_ms(2 * SECOND_MS);
    assert!(world.hub.hub.recovery().is_none());
    assert_eq!(paid(&world.buy(0, 1, 1, 3_500)), 3_500);
    world.top_up(1, 3_000);
    world.run_ms(2 * SECOND_MS);
    let granted = world.edges[0].right(P1, MAIN);
    assert_eq!(granted, 3_500);

    world.hub.restore(night, transfers);
    world.hub.hub.mesh.me = HUB;
    world.hub.luck = later;
    world.restart_hub();
    assert_eq!(world.order(core::Command::Restored), core::Reply::Done);
    let second = world.hub.hub.mesh.me;
    assert!(second != first && second.incarnation.generation == first.incarnation.generation, "{second} {first}");
    assert_eq!(second > first, later > luck);
    world.restart_hub();
    world.run_ms(4 * SECOND_MS);
    assert!(world.hub.hub.recovery().is_none(), "the first restore's feeds are its own and came back");
    assert_eq!(world.hub.hub.mesh.me.incarnation.generation, 3, "numbers of persons are a generation's");
    assert_eq!(world.edges[0].right(P1, MAIN), granted);
    assert_eq!(loss(&world), -3_000, "what the first had granted of a top-up that the second does not know");
    assert!(world.edges[0].alarms().is_empty(), "{:?}", world.edges[0].alarms());
}

/// Put back without a word, twice, in one second of a clock that stands: the life that the boxes met is not begun again.
#[test]
fn a_hub_put_back_twice_in_one_second_goes_on_in_two_lives() {
    let mut world = World::new(&[1]);
    world.run_ms(SECOND_MS);
    let (night, transfers, began_ms) = (world.hub.store.clone(), world.hub.transfers.clone(), world.now_ms);
    world.top_up(1, 4_000);
    world.run_ms(SECOND_MS);
    let mut lives = Vec::new();
    for _ in 0..2 {
        world.hub.restore(night.clone(), transfers.clone());
        world.hub.hub.mesh.me = HUB;
        (world.hub.luck, world.now_ms) = (0, began_ms + 2 * SECOND_MS);
        world.restart_hub();
        world.run_ms(2 * SECOND_MS);
        assert!(world.hub.hub.recovery().is_none());
        lives.push(world.hub.hub.mesh.me);
    }
    assert!(lives[0] < lives[1] && lives[0].incarnation.generation == 2, "{lives:?}");
    let registry = FeedId { writer: lives[0], channel: Channel::Registry };
    let ends = [&world.hub.store, &world.edges[0].store].map(|store| store.feed(&registry).unwrap().end);
    assert_eq!(ends[0], ends[1], "of the first life both hold the same");
}

#[test]
fn a_restored_hub_that_had_granted_a_lost_top_up_books_the_loss() {
    let mut world = World::new(&[1]);
    world.run_ms(SECOND_MS);
    let (night, transfers) = (world.hub.store.clone(), world.hub.transfers.clone());
    world.top_up(1, 8_000);
    world.run_ms(SECOND_MS);
    assert_eq!(paid(&world.buy(0, 1, 1, 3_000)), 3_000);
    world.hub.restore(night, transfers);
    world.restart_hub();
    world.run_ms(4 * SECOND_MS);
    assert!(world.hub.hub.recovery().is_none());
    assert_eq!(loss(&world), -8_000, "granted, and paid in by nobody that the hub remembers");
    assert_eq!(world.total(1), 5_000);
    assert_eq!(world.sold(), (3_000, 3_000));
    world.top_up(1, 8_000);
    assert_eq!(loss(&world), 0, "the slip is entered again");
    assert_eq!(world.total(1), 5_000);
}

#[test]
fn a_late_reversal_at_a_fenced_box_meets_a_refund_of_the_hub() {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    world.buy(0, 1, 1, 3_000);
    world.run_ms(SECOND_MS);
    world.cut_all(true);
    assert!(matches!(world.refund(0, 2, 1, RefundKind::Reversal, None), Answer::Refunded(_)));
    fence(&mut world, 0);
    let of = PurchaseId { terminal: TerminalId(10), boot: 1, seq: 1 };
    let (kind, operator) = (RefundKind::Refund, OperatorId(2));
    let refund = core::Command::Refund { id: feed::Hash([1; 32]), of, kind, amount: Some(Fen(2_000)), operator };
    assert!(matches!(world.order(refund), core::Reply::Refunded { .. }));
    let late = world.edges[0].run(Channel::Journal, Seq(1));
    world.order(core::Command::Ingest(Box::new(late)));
    assert_eq!(world.hub.books()[&Account::Merchant(MerchantId(1))], 0, "posted once");
    assert!(world.hub.alarms.iter().any(|a| a.starts_with("refund: 20.00")), "{:?}", world.hub.alarms);
    let books = world.hub.books();
    let of_person: i64 = books.iter().filter(|(a, _)| a.person() == Some(P1)).map(|(_, f)| f).sum();
    assert_eq!(of_person, 10_000);
}

/// Headquarters gives back what a fenced box sold; then an older sale of the same id turns up at its sibling.
#[test]
fn what_headquarters_gave_back_stays_given_back_though_an_older_sale_is_found() {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    world.cut_all(true);
    assert_eq!(paid(&world.buy(1, 1, 1, 1_000)), 1_000);
    world.now_ms += 5 * SECOND_MS;
    assert_eq!(paid(&world.buy(0, 1, 1, 1_000)), 1_000);
    world.cut_wan(0, false);
    world.run_ms(SECOND_MS);
    world.cut_all(true);
    fence(&mut world, 0);
    let of = PurchaseId { terminal: TerminalId(10), boot: 1, seq: 1 };
    let (kind, operator) = (RefundKind::Refund, OperatorId(2));
    let refund = core::Command::Refund { id: feed::Hash([1; 32]), of, kind, amount: None, operator };
    assert!(matches!(world.order(refund), core::Reply::Refunded { .. }));
    world.cut_wan(1, false);
    world.run_ms(2 * SECOND_MS);
    assert_eq!(world.hub.books()[&Account::Merchant(MerchantId(1))], 0, "{:?}", world.hub.alarms);
    assert!(world.hub.alarms.iter().any(|a| a.starts_with("sold_twice")), "{:?}", world.hub.alarms);
}

/// What a fenced box blocked is lifted as a whole: also what only other boxes had heard of it, and nothing of theirs.
#[test]
fn what_a_fenced_box_blocked_is_lifted_as_a_whole() {
    let mut world = World::new(&[1, 1, 2]);
    let target = |number| BlockTarget::Card(CardNumber(number));
    let block = |world: &mut World, n: usize, number| {
        let record = BlockRecord { target: target(number), reason: BlockReason::Lost, operator: OperatorId(1) };
        assert_eq!(world.tell(n, yika_crdt::edge::Command::Block(record)), yika_crdt::edge::Reply::Done);
        world.run_ms(2 * SECOND_MS);
    };
    block(&mut world, 0, 10);
    block(&mut world, 1, 11);
    (0..3).for_each(|n| world.cut_wan(n, true));
    block(&mut world, 0, 12);
    world.switch_off(0);
    let lift = core::Command::LiftWritten { node: world.edges[0].me.node, operator: OperatorId(1) };
    assert!(matches!(world.order(lift.clone()), core::Reply::Denied(Denial::NotFenced { .. })));
    fence(&mut world, 0);
    assert_eq!(world.order(lift.clone()), core::Reply::Lifted(1), "headquarters has heard of one");
    assert_eq!(world.order(lift), core::Reply::Lifted(0), "once");
    let blocked = |world: &World, n: usize| {
        let people = world.edges[n].edge.mesh.people.read();
        [10, 11, 12].map(|number| people.is_blocked(target(number)))
    };
    assert_eq!(blocked(&world, 1), [true, true, true]);
    world.cut_all(false);
    world.run_ms(2 * SECOND_MS);
    world.restart(1);
    assert_eq!((blocked(&world, 1), blocked(&world, 2)), ([false, true, false], [false, true, false]));
    assert!(!world.hub.hub.mesh.people.read().is_blocked(target(10)));
}

/// As above, but the holder got his first money after the backup.
///
/// Rows ACC-1, NFR-1.
#[test]
fn a_restored_hub_posts_what_a_dead_and_fenced_box_sold_of_rights_it_forgot() {
    let mut world = World::new(&[1, 1, 2]);
    world.top_up(1, 100_000);
    world.run_ms(2 * SECOND_MS);
    let (night, transfers) = (world.hub.store.clone(), world.hub.transfers.clone());
    world.top_up(2, 20_000);
    world.run_ms(SECOND_MS);
    assert_eq!(paid(&world.buy(1, 1, 2, 4_000)), 4_000);
    world.run_ms(2 * SECOND_MS);
    fence(&mut world, 1);
    world.switch_off(1);
    world.run_ms(SECOND_MS);
    world.hub.restore(night, transfers);
    world.hub.hub.mesh.me = HUB;
    world.restart_hub();
    world.run_ms(5 * SECOND_MS);
    world.hub.check();
    let merchants = world.sold();
    assert_eq!(merchants, (4_000, 4_000), "what the dead box sold is in the books");
    let unknown = |world: &World| world.hub.alarms.iter().filter(|a| a.starts_with("grants_unknown: n2@1.1 ")).count();
    assert_eq!(unknown(&world), 1, "{:?}", world.hub.alarms);
}

fn restore(world: &mut World, (night, transfers): (MemoryStore, Vec<Transfer>)) {
    world.hub.restore(night, transfers);
    world.hub.hub.mesh.me = HUB;
    world.restart_hub();
    world.order(core::Command::Restored);
}

fn lost(person: u64) -> core::Command {
    let target = BlockTarget::Card(CardNumber(800_000 + person));
    core::Command::Block(BlockRecord { target, reason: BlockReason::Lost, operator: OperatorId(7) })
}

/// What was written and not yet signed when the backup was made is signed by nobody else: the new life signs it.
///
/// Rows CRD-6, NFR-1.
#[test]
fn a_loss_reported_right_before_the_backup_reaches_boxes_after_the_restore() {
    let mut world = World::new(&[1, 1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    world.cut_all(true);
    world.order(lost(1));
    let night = (world.hub.store.clone(), world.hub.transfers.clone());
    restore(&mut world, night);
    world.cut_all(false);
    world.run_ms(3 * SECOND_MS);
    for n in 0..3 {
        let serial = 10 + n as u32;
        assert!(is_refused(&world.buy(n, serial, 1, 100), Reason::Blocked), "box {n}");
    }
}

/// Headquarters is restored twice while a box is away, which met nobody of the life in between.
///
/// Rows CRD-6, NFR-1.
#[test]
fn a_box_takes_what_a_life_of_headquarters_wrote_that_it_never_met() {
    let mut world = World::new(&[1, 1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    world.cut_all(true);
    let night = (world.hub.store.clone(), world.hub.transfers.clone());
    restore(&mut world, night);
    world.order(lost(1));
    let later = (world.hub.store.clone(), world.hub.transfers.clone());
    world.run_ms(2 * SECOND_MS);
    restore(&mut world, later);
    world.cut_all(false);
    world.run_ms(5 * SECOND_MS);
    assert!(world.hub.hub.recovery().is_none(), "every box has reported");
    for n in 0..3 {
        let serial = 10 + n as u32;
        assert!(is_refused(&world.buy(n, serial, 1, 100), Reason::Blocked), "box {n}");
    }
}

//! An enrolled box that lies hurts nobody: what it cannot show is an alarm about that box, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod harness;

use harness::*;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::mesh::{EDGE_FEEDS_MAX, Mesh, RunRefused};
use yika_crdt::store::{Appended, Batch, Read, Store, Tx};
use yika_crdt::sync::Claim;
use yika_hub::core;

const REGISTRY: FeedId = FeedId { writer: HUB, channel: Channel::Registry };

fn told(world: &World, word: &str) -> usize {
    world.hub.alarms.iter().filter(|alarm| alarm.starts_with(word)).count()
}

/// A claim of 10,000 entries, signed by whoever.
fn claim(feed: FeedId, by: Option<NodeId>) -> Claim {
    let end = End { seq: Seq(10_000), hash: feed::digest("test", b"rubbish") };
    Claim { feed, end, signature: by.map(|node| SignedHead::sign(feed, end, &key_of(node)).signature) }
}

fn greet(world: &mut World, n: usize, have: Vec<Claim>) {
    let from = world.edges[n].me;
    assert_eq!(world.order(core::Command::Greeted { from, have }), core::Reply::Done);
}

#[test]
fn a_box_that_claims_more_of_the_hubs_feeds_does_not_stop_the_hub() {
    let mut world = World::new(&[1, 1]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    let later = Writer { incarnation: Incarnation { generation: 9, counter: 1 }, ..HUB };
    let of_later_life = FeedId { writer: later, channel: Channel::Registry };
    for have in [claim(REGISTRY, None), claim(REGISTRY, Some(NodeId(1))), claim(of_later_life, Some(NodeId(1)))] {
        greet(&mut world, 0, vec![have]);
        assert!(world.hub.hub.recovery().is_none(), "its word alone is worth nothing");
        assert_eq!(world.hub.hub.mesh.me, HUB);
    }
    assert_eq!(told(&world, "false_claim: n1@1.1"), 1, "told once: {:?}", world.hub.alarms);
    assert_eq!(paid(&world.buy(0, 1, 1, 9_000)), 9_000, "granted as ever");
    world.run_hours(25);
    greet(&mut world, 0, vec![claim(REGISTRY, None)]);
    assert_eq!(told(&world, "false_claim"), 2, "and again the next day");
    greet(&mut world, 0, vec![claim(REGISTRY, Some(NodeId::HUB))]);
    assert!(world.hub.hub.recovery().is_some(), "a head that this hub's key has signed is proof");
}

#[test]
fn a_restored_hub_waits_only_for_what_was_shown_to_exist() {
    let mut world = World::new(&[1, 1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    assert_eq!(world.order(core::Command::Restored), core::Reply::Done);
    world.cut_wan(2, true);
    world.run_ms(2 * SECOND_MS);
    let waits = |world: &World| {
        let awaited = world.hub.hub.awaited(|feed| Ok(world.hub.store.feed(feed)?.end.seq)).unwrap();
        awaited.iter().map(|w| w.node.0).collect::<Vec<_>>()
    };
    assert_eq!(waits(&world), [3]);
    let journal = |node| FeedId { writer: Writer { node: NodeId(node), incarnation: LIFE }, channel: Channel::Journal };
    // Of a sibling's journal, of a box that never was, and of the hub: all of them made up.
    let made_up = vec![claim(journal(2), Some(NodeId(1))), claim(journal(99), Some(NodeId(99))), claim(REGISTRY, None)];
    greet(&mut world, 0, made_up);
    assert_eq!(waits(&world), [3]);
    assert_eq!(told(&world, "false_claim: n1@1.1"), 1, "{:?}", world.hub.alarms);
    // What the sibling has signed may be true, whoever brings it.
    greet(&mut world, 0, vec![claim(journal(2), Some(NodeId(2)))]);
    assert_eq!(waits(&world), [1, 3]);
    greet(&mut world, 0, Vec::new());
    world.cut_wan(2, false);
    world.run_ms(2 * SECOND_MS);
    assert!(world.hub.hub.recovery().is_none());
}

/// A restored hub does not know a box that came after its backup; that box' journal is shown by its sibling.
#[test]
fn what_is_said_of_a_box_that_the_backup_does_not_know_is_judged_when_the_registry_lists_it() {
    let mut world = World::new(&[1]);
    world.run_ms(SECOND_MS);
    let (night, transfers) = (world.hub.store.clone(), world.hub.transfers.clone());
    world.add_edge(Writer { node: NodeId(2), incarnation: LIFE }, 1);
    world.run_ms(2 * SECOND_MS);
    world.hub.restore(night, transfers);
    world.restart_hub();
    let from = world.edges[0].me;
    let journal = FeedId { writer: world.edges[1].me, channel: Channel::Journal };
    let held = world.edges[0].store.feed(&REGISTRY).unwrap().end;
    let head = world.edges[0].store.head_from(&REGISTRY, held.seq).unwrap().unwrap();
    let registry = Claim { feed: REGISTRY, end: held, signature: Some(head.signature) };
    let greeted = core::Command::Greeted { from, have: vec![registry, claim(journal, Some(NodeId(1)))] };
    world.order(greeted);
    assert!(world.hub.hub.recovery().is_some());
    let entries = world.edges[0].store.entries(&REGISTRY, Seq(1), usize::MAX).unwrap();
    let run = Run { from: Seq(1), entries, head };
    assert!(matches!(world.order(core::Command::Ingest(Box::new(run))), core::Reply::Stored(..)));
    assert!(world.hub.hub.mesh.nodes.contains_key(&journal.writer));
    assert_eq!(told(&world, "false_claim: n1@1.1"), 1, "{:?}", world.hub.alarms);
}

fn cheque_to(world: &World, giver: usize, receiver: Writer) -> Run {
    let feed = FeedId { writer: world.edges[giver].me, channel: Channel::Rights(receiver) };
    let row = Row { person: PersonId(1), wallet: WalletKey::Main };
    let grant = GrantRecord { row, total: yika_crdt::Fen(1), last_day: None, basis: None, lease: None };
    let entry = Entry { stamp: Stamp::default(), body: Body::Grant(grant) }.encode();
    let end = feed::link(&feed, End::default(), &entry);
    Run { from: Seq(1), entries: vec![entry], head: SignedHead::sign(feed, end, &key_of(feed.writer.node)) }
}

#[test]
fn feeds_for_boxes_that_nobody_has_enrolled_are_not_kept() {
    let mut world = World::new(&[1, 1]);
    let before = world.hub.store.feeds().unwrap().len();
    for node in [7, 8, 9] {
        let nobody = Writer { node: NodeId(node), incarnation: LIFE };
        let unborn = Writer { node: NodeId(2), incarnation: Incarnation { generation: 1, counter: node } };
        for receiver in [nobody, unborn] {
            let refused = world.order(core::Command::Ingest(Box::new(cheque_to(&world, 0, receiver))));
            assert!(matches!(refused, core::Reply::Refused(RunRefused::UnknownReceiver(_))), "{refused:?}");
        }
    }
    assert_eq!(world.hub.store.feeds().unwrap().len(), before);
    let known = world.edges[1].me;
    let stored = world.order(core::Command::Ingest(Box::new(cheque_to(&world, 0, known))));
    assert!(matches!(stored, core::Reply::Stored(..)), "{stored:?}");
}

#[test]
fn one_box_has_a_bounded_number_of_feeds() {
    let world = World::new(&[1, 1]);
    let mut store = world.hub.store.clone();
    let giver = world.edges[0].me;
    let life = |counter| Writer { node: NodeId(2), incarnation: Incarnation { generation: 1, counter } };
    let mut tx = Tx::new(&store);
    let mut batch = Batch::default();
    let begun = store.feeds().unwrap().iter().filter(|(feed, _)| feed.writer == giver).count() as u32;
    let room = EDGE_FEEDS_MAX as u32 - begun;
    for counter in 2..room + 3 {
        let key = key_of(NodeId(2)).verifying_key().to_bytes();
        let record =
            NodeRecord { writer: life(counter), campus: Some(CampusId(1)), key, name: String::new(), address: None };
        tx.put(yika_crdt::keys::node(life(counter)), &record);
        let run = cheque_to(&world, 0, life(counter));
        if counter < room + 1 {
            let appended = Appended { from: Seq(1), entries: run.entries, end: run.head.end, heads: vec![run.head] };
            batch.appended.insert(appended.heads[0].feed, appended);
        }
    }
    batch.state = tx.into_batch().state;
    store.commit(&batch).unwrap();
    let mesh = Mesh::load(&store, HUB, Place { node: NodeId::HUB, campus: None }).unwrap();
    let last = cheque_to(&world, 0, life(room + 1));
    assert!(mesh.check_run(&Tx::new(&store), &last).is_ok());
    let mut tx = Tx::new(&store);
    tx.take_run(&last).unwrap();
    let refused = mesh.check_run(&tx, &cheque_to(&world, 0, life(room + 2)));
    assert!(matches!(refused, Err(RunRefused::TooManyFeeds(_))), "{refused:?}");
}

//! Boxes that are fenced while something else is wrong: a damaged document, lifts beyond the fence, a hub that was restored
//! and has not heard all of what it held.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod common;

use common::*;
use std::collections::BTreeSet;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::docs::*;
use yika_crdt::edge;
use yika_crdt::entry::*;
use yika_crdt::feed::{End, Run, SignedHead, link};
use yika_crdt::ids::*;
use yika_crdt::store::{Read, Store, Tx};
use yika_hub::core::{Command, Reply};

const TARGET: BlockTarget = BlockTarget::Card(CardNumber(800_001));

fn fence(world: &mut World, node: u32) {
    let fence = Command::Fence { writer: writer(node), reason: "着火".into() };
    assert_eq!(world.hub().hub(fence), Reply::Done);
}

fn lost() -> BlockRecord {
    BlockRecord { target: TARGET, reason: BlockReason::Lost, operator: CLERK }
}

/// All but box 1 hear each other, and time passes.
fn settle(world: &mut World) {
    for _ in 0..4 {
        for (a, b) in [(0, 2), (0, 3), (2, 3)] {
            world.sync(a, b);
            world.sync(b, a);
        }
        world.nodes.iter_mut().for_each(|node| (0..8).for_each(|_| node.tick()));
    }
}

fn is_blocked(world: &World, at: usize) -> bool {
    world.nodes[at].mesh().people.read().is_blocked(TARGET)
}

fn shard(person: u64) -> DocKind {
    DocKind::People { campus: CampusId(1), shard: shard_of(PersonId(person), 4) }
}

/// Whatever is left of a document on its node's disk.
fn damage_documents(node: &mut Node) {
    let store = node.store.clone();
    let mut tx = Tx::new(&store);
    node.rows(b"db").into_keys().for_each(|key| tx.put(key, &vec![1u8; 50]));
    node.store.commit(&tx.into_batch()).unwrap();
    node.restart();
}

#[test]
fn a_box_is_fenced_though_a_document_is_damaged_at_headquarters() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1)]));
    world.hub().hub(Command::Rebase(shard(1)));
    world.heal();
    damage_documents(world.hub());
    fence(&mut world, 1);
    assert!(world.nodes[0].mesh().is_fenced(writer(1)));
    let alarms = world.nodes[0].alarms();
    assert!(alarms.iter().any(|a| a.starts_with("document: ") && a.contains("damaged here")), "{alarms:?}");
    settle(&mut world);
    assert!(world.nodes[2].mesh().is_fenced(writer(1)));
}

/// A stolen box that has no line to headquarters frees a lost card at its sibling, before or after that hears of the fence.
#[test]
fn what_a_box_lifted_beyond_its_fence_is_blocked_again() {
    for heard_first in [true, false] {
        let mut world = World::new();
        world.hub().hub(people(vec![add(1, 1)]));
        world.heal();
        world.nodes[2].edge(edge::Command::Block(lost()));
        world.heal();
        let lift = edge::Command::Lift { target: TARGET, operator: CLERK };
        if heard_first {
            world.nodes[1].edge(lift.clone());
            world.sync(1, 2);
            assert!(!is_blocked(&world, 2));
            world.nodes[2].restart();
        }
        fence(&mut world, 1);
        settle(&mut world);
        if !heard_first {
            world.nodes[1].edge(lift);
            world.sync(1, 2);
        }
        for at in [0, 2, 3] {
            assert!(is_blocked(&world, at), "node {at}, {heard_first}");
            world.nodes[at].restart();
            assert!(is_blocked(&world, at), "node {at} after a restart, {heard_first}");
        }
        // Whose own word it is may still lift it.
        let lift = edge::Command::Lift { target: TARGET, operator: CLERK };
        assert_eq!(world.nodes[2].edge(lift), edge::Reply::Lifted { lifted: 1, left: 0 });
        settle(&mut world);
        for at in [0, 2, 3] {
            assert!(!is_blocked(&world, at), "node {at}, {heard_first}");
        }
    }
}

#[test]
fn what_a_box_lifted_before_its_fence_stays_lifted() {
    let mut world = World::new();
    world.nodes[2].edge(edge::Command::Block(lost()));
    world.heal();
    world.nodes[1].edge(edge::Command::Lift { target: TARGET, operator: CLERK });
    world.heal();
    fence(&mut world, 1);
    settle(&mut world);
    for at in [0, 2, 3] {
        world.nodes[at].restart();
        assert!(!is_blocked(&world, at), "node {at}");
    }
}

/// Headquarters is put back from last night, in its new life; the boxes know its key.
fn restore(world: &mut World, night: yika_crdt::store::MemoryStore) {
    world.nodes[0].store = night;
    world.nodes[0].restart();
    assert_eq!(world.hub().hub(Command::Restored), Reply::Done);
    let me = world.nodes[0].mesh().me;
    let key = key_of(NodeId::HUB).verifying_key().to_bytes();
    let record = NodeRecord { writer: me, campus: None, key, name: "hub".into(), address: None };
    for at in [2, 3] {
        world.nodes[at].edge(edge::Command::TrustHub(record.clone()));
    }
}

/// The living boxes have told all they held.
fn report(world: &mut World) {
    settle(world);
    for at in [2, 3] {
        let from = world.nodes[at].mesh().me;
        assert_eq!(world.hub().hub(Command::Greeted { from, have: Vec::new() }), Reply::Done);
    }
    assert!(is_recovered(world));
    settle(world);
}

fn is_recovered(world: &World) -> bool {
    let Machine::Hub(hub) = &world.nodes[0].machine else { panic!("not the hub") };
    hub.recovery().is_none()
}

/// By day headquarters had edited a document and fenced a box, which it has forgotten; it fences the box before anybody
/// has told it.
#[test]
fn documents_are_alike_after_a_fence_by_a_hub_that_recovers() {
    for by_day in [true, false] {
        let mut world = World::new();
        world.hub().hub(people(vec![add(1, 1), add(2, 1)]));
        world.heal();
        let night = world.nodes[0].store.clone();
        world.hub().hub(people(vec![change(1, 1, PersonAct::SetName("白天".into()))]));
        world.heal();
        if by_day {
            fence(&mut world, 1);
        }
        settle(&mut world);
        restore(&mut world, night);
        fence(&mut world, 1);
        world.hub().restart();
        report(&mut world);
        let edit = people(vec![change(2, 1, PersonAct::SetName("恢复后".into()))]);
        assert_eq!(world.hub().hub(edit), Reply::Done);
        settle(&mut world);
        let epochs = |at: usize| {
            let tx = Tx::new(&world.nodes[at].store);
            [1, 2].map(|person| yika_crdt::documents::current_epoch(&tx, &shard(person)).unwrap())
        };
        for at in [0, 2, 3] {
            let node = &world.nodes[at];
            let names = [1, 2].map(|person| node.person(PersonId(person)).unwrap().name);
            assert_eq!(names, ["白天", "恢复后"], "node {at}, {by_day}");
            assert_eq!(epochs(at), epochs(0), "node {at}, {by_day}");
            assert_eq!(node.rows(yika_crdt::keys::FENCES), world.nodes[0].rows(yika_crdt::keys::FENCES), "node {at}");
            assert_eq!(node.mesh().quarantined, 0, "{:?}", node.alarms());
        }
    }
}

#[test]
fn a_loss_report_of_a_dead_box_comes_back_to_a_hub_that_fenced_it_while_it_recovers() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1), add(2, 1)]));
    world.heal();
    let night = world.nodes[0].store.clone();
    world.nodes[1].edge(edge::Command::Block(lost()));
    world.heal();
    restore(&mut world, night);
    assert!(!is_blocked(&world, 0));
    fence(&mut world, 1);
    assert!(world.nodes[0].mesh().is_fenced(writer(1)), "at once");
    report(&mut world);
    for at in [0, 2, 3] {
        assert!(is_blocked(&world, at), "node {at}");
    }
    assert_eq!(world.hub().hub(Command::Lift { target: TARGET, operator: CLERK }), Reply::Lifted(1));
    settle(&mut world);
    for at in [0, 2, 3] {
        assert!(!is_blocked(&world, at), "node {at}");
    }
    // What it writes from here on is nobody's.
    let target = BlockTarget::Card(CardNumber(800_002));
    world.nodes[1].edge(edge::Command::Block(BlockRecord { target, ..lost() }));
    (0..3).for_each(|_| [0, 2].into_iter().for_each(|to| world.sync(1, to)));
    for at in [0, 2] {
        assert!(!world.nodes[at].mesh().people.read().is_blocked(target), "node {at}");
    }
}

/// A sibling had heard a block more than headquarters when that fenced the box. Headquarters is put back to before the fence,
/// and hears of the block first.
#[test]
fn a_restored_hub_that_hears_more_of_a_life_than_its_fence_says_fences_it_again() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1)]));
    world.heal();
    let night = world.nodes[0].store.clone();
    world.nodes[1].edge(edge::Command::Block(lost()));
    world.sync(1, 2);
    fence(&mut world, 1);
    world.sync(0, 3);
    restore(&mut world, night);
    world.sync(2, 0);
    assert!(is_blocked(&world, 0) && !world.nodes[0].mesh().is_fenced(writer(1)));
    world.sync(3, 0);
    assert!(world.nodes[0].mesh().is_fenced(writer(1)));
    report(&mut world);
    for at in [0, 2, 3] {
        world.nodes[at].restart();
        assert!(is_blocked(&world, at), "node {at}");
    }
}

/// Who stole the box frees a lost card, and reaches the restored headquarters before the word of its fence does.
#[test]
fn what_a_fenced_box_lifted_at_a_restored_hub_stays_blocked() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1)]));
    world.nodes[2].edge(edge::Command::Block(lost()));
    world.heal();
    let night = world.nodes[0].store.clone();
    fence(&mut world, 1);
    world.sync(0, 3);
    restore(&mut world, night);
    world.nodes[1].edge(edge::Command::Lift { target: TARGET, operator: CLERK });
    world.sync(1, 0);
    assert!(!is_blocked(&world, 0));
    world.sync(3, 0);
    report(&mut world);
    for at in [0, 2, 3] {
        world.nodes[at].restart();
        assert!(is_blocked(&world, at), "node {at}");
    }
}

fn visit(visitor: u64, from_ms: i64) -> edge::Command {
    let visitor = Visitor {
        visitor: PersonId(visitor),
        name: "访客".into(),
        host: Some(PersonId(1)),
        card: CardNumber(700_000 + visitor),
        uid: None,
        from_ms,
        until_ms: from_ms + 3_600_000,
        groups: Default::default(),
        ended: false,
    };
    edge::Command::Visitor { operator: CLERK, visitor: visitor.visitor, act: VisitorAct::Add(visitor) }
}

/// The entries of a feed that headquarters does not hold, one by one, as a sibling may pass them on.
fn pieces(world: &World, from: usize, feed: FeedId) -> Vec<Run> {
    let held = world.nodes[0].store.feed(&feed).unwrap().end;
    let entries = world.nodes[from].store.entries(&feed, held.seq.next(), usize::MAX).unwrap();
    let key = key_of(feed.writer.node);
    let piece = |end: &mut End, entry: Vec<u8>| {
        let from = end.seq.next();
        *end = link(&feed, *end, &entry);
        Some(Run { from, head: SignedHead::sign(feed, *end, &key), entries: vec![entry] })
    };
    entries.into_iter().scan(held, piece).collect()
}

/// The documents that the entries of runs change.
fn changed(runs: &[Run]) -> BTreeSet<DocKind> {
    let bodies = runs.iter().flat_map(|run| &run.entries).map(|bytes| Entry::decode(bytes).unwrap().body);
    let kind = |body| match body {
        Body::Change(change) => Some(change.doc.kind),
        _ => None,
    };
    bodies.filter_map(kind).collect()
}

/// A turn of headquarters that is rolled back: nothing is restarted, and nobody told again.
fn lose_a_turn(world: &mut World) {
    let hub = &mut world.nodes[0];
    let Machine::Hub(core) = &mut hub.machine else { panic!("not the hub") };
    let mut tx = Tx::new(&hub.store);
    let tick = Command::Tick { connected: Vec::new() };
    core.handle(&mut tx, tick, stamp(), &mut Vec::new(), &mut Vec::new()).unwrap();
    drop(tx);
    core.reload(&hub.store).unwrap();
}

fn assert_epochs(world: &World, kinds: &BTreeSet<DocKind>, epoch: u32) {
    let tx = Tx::new(&world.nodes[0].store);
    for kind in kinds {
        assert_eq!(yika_crdt::documents::current_epoch(&tx, kind), Ok(epoch), "{kind:?}");
    }
}

fn assert_visits(world: &World, visits: usize) {
    for at in [0, 2, 3] {
        let known = if at == 3 { 0 } else { visits };
        assert_eq!(world.nodes[at].rows(yika_crdt::keys::VISITORS).len(), known, "node {at}");
    }
}

/// Box 1 wrote visits at three months, of which its sibling alone has heard; then it was fenced.
fn with_unheard_visits() -> (World, Vec<Run>) {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1)]));
    world.heal();
    for month in 0..3 {
        let visit = visit(500 + month as u64, NOON_MS + month * 31 * 24 * 3_600_000);
        assert_eq!(world.nodes[1].edge(visit), edge::Reply::Done);
    }
    world.sync(1, 2);
    assert_eq!(world.nodes[2].rows(yika_crdt::keys::VISITORS).len(), 3);
    fence(&mut world, 1);
    let feed = FeedId { writer: writer(1), channel: Channel::Campus(CampusId(1)) };
    let pieces = pieces(&world, 2, feed);
    assert_eq!(changed(&pieces).len(), 3);
    (world, pieces)
}

/// Headquarters hears of them piece after piece, the last ones first.
#[test]
fn visits_of_a_fenced_box_are_nobodys_whichever_pieces_headquarters_hears() {
    for last_first in [false, true] {
        let (mut world, mut pieces) = with_unheard_visits();
        let kinds = changed(&pieces);
        if last_first {
            pieces.reverse();
        }
        for piece in pieces {
            assert!(!world.nodes[0].ingest(piece, false), "nothing of it is stored");
        }
        (0..8).for_each(|_| world.hub().tick());
        assert_epochs(&world, &kinds, 2);
        settle(&mut world);
        assert_visits(&world, 0);
        world.nodes[2].edge(visit(500, NOON_MS));
        settle(&mut world);
        assert_visits(&world, 1);
    }
}

/// Headquarters is put back to after the fence, hears of them while it recovers, and loses the turn that would order more.
#[test]
fn visits_of_a_fenced_box_heard_in_a_recovery_are_nobodys_after_it() {
    let (mut world, pieces) = with_unheard_visits();
    let night = world.nodes[0].store.clone();
    restore(&mut world, night);
    let kinds = changed(&pieces);
    for piece in pieces {
        assert!(!world.nodes[0].ingest(piece, false), "nothing of it is stored");
    }
    (0..8).for_each(|_| world.hub().tick());
    assert_epochs(&world, &kinds, 1);
    // All have told that they hold nothing more of it: nobody passes the pieces on again.
    for at in [2, 3] {
        world.hub().hub(Command::Greeted { from: writer(at), have: Vec::new() });
    }
    assert!(is_recovered(&world));
    lose_a_turn(&mut world);
    (0..8).for_each(|_| world.hub().tick());
    assert_epochs(&world, &kinds, 2);
    settle(&mut world);
    assert_visits(&world, 0);
}

/// A month that an epoch left empty is in no row of documents: the next fenced box may have written in it alone, too.
#[test]
fn a_fence_re_bases_a_month_that_the_last_one_left_empty() {
    let (mut world, pieces) = with_unheard_visits();
    let kinds = changed(&pieces);
    settle(&mut world);
    assert_visits(&world, 0);
    assert_epochs(&world, &kinds, 2);
    fence(&mut world, 2);
    (0..8).for_each(|_| world.hub().tick());
    assert_epochs(&world, &kinds, 3);
}

/// Who makes up entries under a head that the fenced box did not sign brings nothing about.
#[test]
fn a_head_that_the_fenced_box_did_not_sign_orders_nothing() {
    let mut world = World::new();
    world.heal();
    fence(&mut world, 1);
    world.nodes[2].edge(visit(500, NOON_MS));
    let feed = FeedId { writer: writer(1), channel: Channel::Campus(CampusId(1)) };
    let own = FeedId { writer: writer(2), ..feed };
    let entries = world.nodes[2].store.entries(&own, Seq(1), usize::MAX).unwrap();
    let end = entries.iter().fold(End::default(), |end, entry| link(&feed, end, entry));
    let ordered = |world: &World| world.nodes[0].rows(b"").into_iter().filter(|(key, _)| key[0] != b'!').count();
    let before = ordered(&world);
    for (key, is_heard) in [(key_of(NodeId(2)), false), (key_of(NodeId(1)), true)] {
        let run = Run { from: Seq(1), entries: entries.clone(), head: SignedHead::sign(feed, end, &key) };
        assert!(!world.nodes[0].ingest(run, false));
        assert_eq!(ordered(&world) > before, is_heard);
    }
}

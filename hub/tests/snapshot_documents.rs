//! Snapshots taken in where documents are not as they should be: emptied, or damaged on the box' own disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod common;

use common::*;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::docs::*;
use yika_crdt::edge;
use yika_crdt::ids::*;
use yika_crdt::snapshot::*;
use yika_crdt::store::{Store, Tx};
use yika_hub::core::{Command, Reply};

fn shard(person: u64) -> DocKind {
    DocKind::People { campus: CampusId(1), shard: shard_of(PersonId(person), 4) }
}

/// Others whose document is that of person 1.
fn neighbours() -> impl Iterator<Item = u64> {
    (2..).filter(|number| shard(*number) == shard(1))
}

/// A snapshot for everyone, taken in at a box.
fn take_in(world: &mut World, at: usize) {
    let key = key_of(NodeId::HUB);
    let (by, audience) = (world.nodes[0].mesh().me, Audience::Everyone);
    let cutter = Cutter { by, key: &key, audience, cut_ms: NOON_MS, drop: Vec::new() };
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    let mut sink = |chunk: &[u8]| {
        chunks.push(chunk.to_vec());
        Ok(())
    };
    let signed = cut(&world.nodes[0].store, cutter, &mut sink).unwrap();
    let mesh = world.nodes[at].mesh();
    let judge = Judge::new(mesh.place, mesh.nodes.values().map(|node| &node.record));
    let mut check = Check::new(signed, judge).unwrap();
    chunks.iter().for_each(|chunk| check.chunk(chunk).unwrap());
    let mut steps = check.finish().unwrap();
    let mut all: Vec<Step> = chunks.iter().flat_map(|chunk| steps.chunk(chunk).unwrap()).collect();
    all.push(steps.closing().unwrap());
    for step in all {
        assert_eq!(world.nodes[at].edge(edge::Command::Restore(Box::new(step))), edge::Reply::Done);
    }
}

/// The only person of a document moves away while a box is off; it takes a snapshot, and the document goes on.
#[test]
fn a_document_that_was_emptied_keeps_its_history_through_a_snapshot() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1)]));
    world.heal();
    let away = Command::move_person(CLERK, PersonId(1), CampusId(2));
    assert_eq!(world.hub().hub(away), Reply::Done);
    take_in(&mut world, 1);
    world.nodes[1].restart();
    let [by_hub, by_box, later] = neighbours().take(3).collect::<Vec<_>>()[..] else { panic!("three of them") };
    world.hub().hub(people(vec![add(by_hub, 1)]));
    world.heal();
    world.nodes[1].edge(edge_people(vec![add(by_box, 1)]));
    world.heal();
    assert_eq!(world.hub().hub(Command::Rebase(shard(1))), Reply::Done);
    world.heal();
    world.hub().hub(people(vec![add(later, 1)]));
    world.heal();
    for at in 0..4 {
        let node = &world.nodes[at];
        for number in [by_hub, by_box, later] {
            assert_eq!(node.person(PersonId(number)), Some(person(number, 1)), "node {at}");
        }
        assert_eq!(yika_crdt::documents::current_epoch(&Tx::new(&node.store), &shard(1)).unwrap(), 2, "node {at}");
        assert_eq!((node.mesh().quarantined, node.alarms()), (0, Vec::new()), "node {at}");
    }
    world.assert_converged();
}

#[test]
fn a_snapshot_mends_a_document_that_is_damaged_at_a_box() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1)]));
    world.hub().hub(Command::Rebase(shard(1)));
    world.heal();
    let node = &mut world.nodes[1];
    let store = node.store.clone();
    let mut tx = Tx::new(&store);
    let rows = node.rows(b"db");
    assert!(!rows.is_empty());
    rows.into_keys().for_each(|key| tx.put(key, &vec![1u8; 50]));
    node.store.commit(&tx.into_batch()).unwrap();
    node.restart();
    world.hub().hub(people(vec![change(1, 1, PersonAct::SetName("新".into()))]));
    take_in(&mut world, 1);
    assert_eq!(world.nodes[1].person(PersonId(1)).unwrap().name, "新");
    world.nodes[1].restart();
    world.nodes[1].edge(edge_people(vec![change(1, 1, PersonAct::SetCategory(CategoryId(4)))]));
    world.heal();
    for node in &world.nodes {
        assert_eq!(node.person(PersonId(1)).unwrap().category, CategoryId(4));
    }
}

/// What is written in a later epoch comes before the registry that begins it, and the snapshot adds nothing to it.
#[test]
fn what_came_before_its_epoch_shows_once_a_snapshot_begins_it() {
    let mut world = World::new();
    world.heal();
    for _ in 0..2 {
        assert_eq!(world.hub().hub(Command::Rebase(shard(1))), Reply::Done);
    }
    world.hub().hub(people(vec![add(1, 1)]));
    let feed = FeedId { writer: world.nodes[0].mesh().me, channel: Channel::People(CampusId(1)) };
    assert!(world.send(0, 1, feed, 0, false));
    assert_eq!(world.nodes[1].person(PersonId(1)), None);
    take_in(&mut world, 1);
    assert_eq!(world.nodes[1].person(PersonId(1)), Some(person(1, 1)));
    world.nodes[1].restart();
    assert_eq!(world.nodes[1].person(PersonId(1)), Some(person(1, 1)));
    world.heal();
    world.assert_converged();
}

/// A new box hears in one run what was written in many epochs, before the registry that orders them: those of headquarters are
/// no strange ones.
#[test]
fn what_was_written_in_many_epochs_is_taken_from_its_entries() {
    let mut world = World::new();
    world.heal();
    let numbers: Vec<u64> = std::iter::once(1).chain(neighbours()).take(12).collect();
    for number in &numbers {
        world.hub().hub(people(vec![add(*number, 1)]));
        assert_eq!(world.hub().hub(Command::Rebase(shard(1))), Reply::Done);
    }
    let me = world.nodes[0].mesh().me;
    for channel in [Channel::People(CampusId(1)), Channel::Registry] {
        assert!(world.send(0, 1, FeedId { writer: me, channel }, 0, false));
    }
    world.heal();
    world.assert_converged();
    for number in numbers {
        assert_eq!(world.nodes[1].person(PersonId(number)), Some(person(number, 1)));
    }
}

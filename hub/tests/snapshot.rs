//! A snapshot cut by the pure hub and taken in by pure edges: new ones, ones that were long away, ones with changes of
//! their own; and everything that is wrong with one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod harness;

use harness::*;
use yika_crdt::access::GroupId;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::docs::{PersonAct, PolicyAct};
use yika_crdt::documents::PersonChange;
use yika_crdt::edge::{self, Reply};
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::person::{Card, CardState, Person};
use yika_crdt::sale::PurchaseRequest;
use yika_crdt::snapshot::*;
use yika_crdt::store::Read;
use yika_hub::core;

const CAMPUS: CampusId = CampusId(1);

struct Cut {
    signed: SignedManifest,
    chunks: Vec<Vec<u8>>,
}

fn cut(world: &World, audience: Audience) -> Cut {
    cut_with(world, audience, Vec::new())
}

fn cut_with(world: &World, audience: Audience, drop: Vec<(FeedId, Seq)>) -> Cut {
    let mut chunks = Vec::new();
    let key = key_of(NodeId::HUB);
    let cutter = Cutter { by: world.hub.hub.mesh.me, key: &key, audience, cut_ms: world.now_ms, drop };
    let mut sink = |chunk: &[u8]| {
        chunks.push(chunk.to_vec());
        Ok(())
    };
    let signed = yika_crdt::snapshot::cut(&world.hub.store, cutter, &mut sink).unwrap();
    Cut { signed, chunks }
}

fn judge(world: &World, n: usize) -> Judge {
    let edge = &world.edges[n];
    Judge::new(edge.place, edge.edge.mesh.nodes.values().map(|node| &node.record))
}

fn check(cut: &Cut, judge: Judge) -> Result<Steps, SnapshotRefused> {
    let mut check = Check::new(cut.signed.clone(), judge)?;
    cut.chunks.iter().try_for_each(|chunk| check.chunk(chunk))?;
    check.finish()
}

fn steps(cut: &Cut, judge: Judge) -> Result<Vec<Step>, SnapshotRefused> {
    let mut steps = check(cut, judge)?;
    let mut all = Vec::new();
    for chunk in &cut.chunks {
        all.extend(steps.chunk(chunk)?);
    }
    all.push(steps.closing()?);
    Ok(all)
}

fn take_in(world: &mut World, n: usize, cut: &Cut) -> Result<(), SnapshotRefused> {
    for step in steps(cut, judge(world, n))? {
        assert_eq!(world.tell(n, edge::Command::Restore(Box::new(step))), Reply::Done);
    }
    Ok(())
}

fn holder(number: u64) -> Person {
    let card =
        Card { number: CardNumber(50_000 + number), uid: Some(number), state: CardState::Active, valid_until: None };
    Person { person: PersonId(1_000 + number), cards: vec![card], staff_number: format!("s{number}"), ..a_person(1) }
}

fn import(world: &mut World, numbers: std::ops::Range<u64>) {
    let acts = numbers.map(|n| PersonChange::add(holder(n))).collect();
    let reply = world.order(core::Command::People { operator: OperatorId(1), acts });
    assert_eq!(reply, core::Reply::Done);
}

fn policy(world: &mut World, act: PolicyAct) {
    let command = core::Command::Policy { campus: CAMPUS, operator: OperatorId(1), act: Box::new(act) };
    assert_eq!(world.order(command), core::Reply::Done);
}

/// A box that has been told who headquarters is, and is not connected to anybody.
fn new_box(world: &mut World, node: u32) -> usize {
    let me = Writer { node: NodeId(node), incarnation: LIFE };
    for other in std::iter::once(NodeId::HUB).chain(world.edges.iter().map(|e| e.me.node).collect::<Vec<_>>()) {
        world.set_cut(other, me.node, true);
    }
    let key = key_of(me.node).verifying_key().to_bytes();
    let record = NodeRecord { writer: me, campus: Some(CAMPUS), key, name: me.to_string(), address: None };
    world.order(core::Command::Registry(Box::new(Body::Node(record))));
    world.edges.push(EdgeBox::new(me, CAMPUS.0));
    let n = world.edges.len() - 1;
    let hub = world.hub.hub.own_record("总部");
    world.tell(n, edge::Command::TrustHub(hub));
    n
}

/// What a node knows of people, blocks and policy, and how far it holds the feeds that snapshots cover.
fn known(store: &impl Read, ends: bool) -> Vec<String> {
    let mut all = Vec::new();
    for prefix in [b"p", b"b", b"l", b"a", b"v", b"C", b"N", b"F", b"T", b"t", b"e"] {
        for (key, value) in store.scan(prefix, None, usize::MAX).unwrap() {
            all.push(format!("{key:?} {value:?}"));
        }
    }
    for (feed, held) in store.feeds().unwrap() {
        if ends && Audience::of(feed.channel).is_some_and(|a| a == Audience::Everyone || a == Audience::Campus(CAMPUS))
        {
            all.push(format!("{feed} {:?}", held.end));
        }
    }
    all
}

fn furnished() -> World {
    let mut world = World::new(&[1]);
    import(&mut world, 0..300);
    for group in 0..3 {
        policy(&mut world, PolicyAct::SetGroupName(GroupId(group), format!("组{group}")));
    }
    let block = |n: u64| {
        core::Command::Block(BlockRecord {
            target: BlockTarget::Card(CardNumber(50_000 + n)),
            reason: BlockReason::Lost,
            operator: OperatorId(1),
        })
    };
    (0..4).for_each(|n| _ = world.order(block(n)));
    let lift = core::Command::Lift { target: BlockTarget::Card(CardNumber(50_001)), operator: OperatorId(1) };
    world.order(lift);
    let act = PersonChange { person: PersonId(1_005), home: CAMPUS, act: PersonAct::SetName("改名".into()) };
    world.tell(0, edge::Command::People { operator: OperatorId(2), acts: vec![act] });
    world.run_ms(2 * SECOND_MS);
    world
}

#[test]
fn a_new_box_starts_from_a_snapshot_and_sells() {
    let mut world = furnished();
    let n = new_box(&mut world, 9);
    for audience in [Audience::Everyone, Audience::Campus(CAMPUS)] {
        let cut = cut(&world, audience);
        take_in(&mut world, n, &cut).unwrap();
    }
    assert_eq!(known(&world.edges[n].store, true), known(&world.hub.store, true));
    let people = world.edges[n].edge.mesh.people.read();
    assert_eq!(people.usable(CardNumber(50_000), Day(20_000)).err(), Some(yika_crdt::reason::Reason::Blocked));
    assert!(people.usable(CardNumber(50_001), Day(20_000)).is_ok());
    drop(people);
    // Nothing but what came after the snapshot travels, and it follows the base.
    let people = FeedId { writer: HUB, channel: Channel::People(CAMPUS) };
    let base = world.edges[n].store.feed(&people).unwrap();
    assert_eq!(base.pruned, base.end.seq);
    for other in [NodeId::HUB, world.edges[0].me.node] {
        world.set_cut(other, NodeId(9), false);
    }
    import(&mut world, 300..310);
    world.top_up(1_305, 5_000);
    world.run_ms(5 * SECOND_MS);
    assert_eq!(world.edges[n].store.feed(&people).unwrap().pruned, base.pruned);
    assert_eq!(known(&world.edges[n].store, true), known(&world.hub.store, true));
    let sold = world.purchase(n, PurchaseRequest { card: CardNumber(50_305), ..request(TerminalId(10), 1, 1, 900) });
    assert_eq!(paid(&sold), 900, "{sold:?}");
    // After a restart the same is known.
    world.restart(n);
    assert!(world.edges[n].edge.mesh.people.read().usable(CardNumber(50_300), Day(20_000)).is_ok());
}

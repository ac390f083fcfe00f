//! A snapshot cut by the pure hub and taken in by pure edges: new ones, ones that were long away, ones with changes of
//! their own; and everything that is wrong with one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod harness;

use harness::snapshots::*;
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

fn holder(number: u64) -> Person {
    let card =
        Card { number: CardNumber(50_000 + number), uid: Some(number), state: CardState::Active, valid_until: None };
    Person { person: PersonId(1_000 + number), cards: vec![card], staff_number: format!("s{number}"), ..a_person(1) }
}

fn import(world: &mut World, numbers: std::ops::Range<u64>) {
    let acts = numbers.map(|n| PersonChange::add(holder(n))).collect();
    let reply = world.order(core::Command::People { operator: OperatorId(1), moves: Default::default(), acts });
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
    for prefix in [b"p", b"b", b"l", b"L", b"a", b"v", b"C", b"N", b"F", b"T", b"t", b"e"] {
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
        let cut = world.cut_snapshot(audience, Vec::new());
        world.take_in(n, &cut).unwrap();
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

#[test]
fn what_was_lifted_of_a_fenced_box_as_a_whole_is_lifted_in_a_snapshot() {
    let mut world = World::new(&[1, 1]);
    let target = |n: usize| BlockTarget::Card(CardNumber(60_000 + n as u64));
    for n in 0..2 {
        let block = BlockRecord { target: target(n), reason: BlockReason::Lost, operator: OperatorId(1) };
        assert_eq!(world.tell(n, edge::Command::Block(block)), Reply::Done);
    }
    world.run_ms(2 * SECOND_MS);
    let writer = world.edges[1].me;
    world.order(core::Command::Fence { writer, reason: "test".into() });
    let lift = core::Command::LiftWritten { node: writer.node, operator: OperatorId(1) };
    assert_eq!(world.order(lift), core::Reply::Lifted(1));
    let n = new_box(&mut world, 9);
    take_both(&mut world, n);
    let ranges = |store: &dyn Read| store.scan(yika_crdt::keys::LIFT_RANGES, None, 9).unwrap();
    assert_eq!((ranges(&world.edges[n].store), ranges(&world.hub.store).len()), (ranges(&world.hub.store), 1));
    for _ in 0..2 {
        let blocked = |of| world.edges[n].edge.mesh.people.read().is_blocked(target(of));
        assert_eq!((blocked(0), blocked(1)), (true, false));
        world.restart(n);
    }
}

/// Everything of a box that a refused snapshot could have changed.
fn all_of(world: &World, n: usize) -> String {
    format!("{:?} {:?}", world.edges[n].store.scan(b"", None, usize::MAX), world.edges[n].store.feeds())
}

fn take_both(world: &mut World, n: usize) {
    for audience in [Audience::Everyone, Audience::Campus(CAMPUS)] {
        let cut = world.cut_snapshot(audience, Vec::new());
        world.take_in(n, &cut).unwrap();
    }
}

fn rename(world: &mut World, n: usize, person: u64, name: &str) {
    let act = PersonAct::SetName(name.into());
    let acts = vec![PersonChange { person: PersonId(person), home: CAMPUS, act }];
    assert_eq!(world.tell(n, edge::Command::People { operator: OperatorId(2), acts }), Reply::Done);
}

fn name(store: &impl Read, person: u64) -> String {
    let key = yika_crdt::keys::person(PersonId(person));
    let row: Person = yika_crdt::store::decode_row(&key, &store.get(&key).unwrap().unwrap()).unwrap();
    row.name
}

#[test]
fn a_box_that_was_away_keeps_what_it_wrote_itself() {
    let mut world = furnished();
    world.cut_wan(0, true);
    rename(&mut world, 0, 1_010, "本校区改名");
    let act = PolicyAct::SetGroupName(GroupId(9), "本校区的组".into());
    world.tell(0, edge::Command::Policy { operator: OperatorId(2), act: Box::new(act) });
    import(&mut world, 300..400);
    let gone = PersonChange { person: PersonId(1_020), home: CAMPUS, act: PersonAct::Remove };
    world.order(core::Command::People { operator: OperatorId(1), moves: Default::default(), acts: vec![gone] });
    take_both(&mut world, 0);
    assert_eq!(name(&world.edges[0].store, 1_010), "本校区改名");
    let people = world.edges[0].edge.mesh.people.read().clone();
    assert!(people.usable(CardNumber(50_399), Day(20_000)).is_ok());
    assert!(people.holder(PersonId(1_020)).is_none(), "who was removed at headquarters is gone here");
    world.cut_wan(0, false);
    world.run_ms(5 * SECOND_MS);
    assert_eq!(name(&world.hub.store, 1_010), "本校区改名");
    assert_eq!(known(&world.edges[0].store, true), known(&world.hub.store, true));
    let before = all_of(&world, 0);
    // Taken in a second time it changes nothing but the clock.
    let again = world.cut_snapshot(Audience::Everyone, Vec::new());
    for step in steps(&again, world.judge(0)).unwrap() {
        let EdgeBox { store, edge, .. } = &mut world.edges[0];
        let mut tx = yika_crdt::store::Tx::new(&*store);
        let ticks = yika_crdt::clock::Ticks { boot: 1, mono_ms: 1, wall_ms: world.now_ms };
        let command = edge::Command::Restore(Box::new(step));
        edge.handle(&mut tx, command, ticks, &mut Vec::new()).unwrap();
        let batch = tx.into_batch();
        assert!(batch.bases.is_empty() && batch.appended.is_empty(), "{batch:?}");
    }
    assert_eq!(all_of(&world, 0), before);
}

#[test]
fn acts_that_a_new_epoch_lacks_are_said_again() {
    let mut world = furnished();
    world.cut_wan(0, true);
    rename(&mut world, 0, 1_010, "断网时改名");
    for shard in 0..4 {
        world.order(core::Command::Rebase(yika_crdt::docs::DocKind::People { campus: CAMPUS, shard }));
    }
    world.run_ms(5 * SECOND_MS);
    import(&mut world, 300..310);
    take_both(&mut world, 0);
    assert_eq!(name(&world.edges[0].store, 1_010), "断网时改名");
    world.cut_wan(0, false);
    world.run_ms(5 * SECOND_MS);
    assert_eq!(name(&world.hub.store, 1_010), "断网时改名");
    assert_eq!(known(&world.edges[0].store, true), known(&world.hub.store, true));
}

#[test]
fn a_box_that_stopped_between_two_steps_is_sound_and_goes_on_either_way() {
    let mut world = furnished();
    import(&mut world, 300..1_500);
    let whole = world.cut_snapshot(Audience::Everyone, Vec::new());
    let count = {
        let n = new_box(&mut world, 90);
        steps(&whole, world.judge(n)).unwrap().len()
    };
    assert!(count > 3, "{count}");
    for stop_after in 1..count {
        let n = new_box(&mut world, 100 + stop_after as u32);
        let whole = world.cut_snapshot(Audience::Everyone, Vec::new());
        for step in steps(&whole, world.judge(n)).unwrap().into_iter().take(stop_after) {
            world.tell(n, edge::Command::Restore(Box::new(step)));
        }
        let feeds = world.edges[n].store.feeds().unwrap();
        let moved = feeds.iter().filter(|(f, s)| Audience::of(f.channel).is_some() && s.end.seq > Seq::ZERO).count();
        assert_eq!(moved, 0, "no cursor moves before the last step");
        world.restart(n);
        if stop_after % 2 == 0 {
            take_both(&mut world, n);
        } else {
            // Entries from the first on say the same once more.
            world.cut_wan(n, false);
            world.run_ms(5 * SECOND_MS);
        }
        assert_eq!(known(&world.edges[n].store, false), known(&world.hub.store, false), "stopped after {stop_after}");
        world.cut_wan(n, true);
        world.switch_off(n);
    }
}

#[test]
fn an_older_snapshot_takes_nothing_back() {
    let mut world = furnished();
    let old = world.cut_snapshot(Audience::Everyone, Vec::new());
    let mut campus = world.hub.hub.mesh.campuses[&CAMPUS].clone();
    campus.name = "新名字".into();
    world.order(core::Command::Registry(Box::new(Body::Campus(campus))));
    rename(&mut world, 0, 1_030, "新名字");
    world.run_ms(2 * SECOND_MS);
    world.take_in(0, &old).unwrap();
    assert_eq!(world.edges[0].edge.mesh.campuses[&CAMPUS].name, "新名字");
    assert_eq!(name(&world.edges[0].store, 1_030), "新名字");
    assert_eq!(known(&world.edges[0].store, true), known(&world.hub.store, true));
}

#[test]
fn entries_that_went_are_made_up_for_by_a_snapshot() {
    let mut world = furnished();
    world.cut_wan(0, true);
    import(&mut world, 300..340);
    let ends: Vec<_> = world.hub.store.feeds().unwrap().into_iter().map(|(feed, held)| (feed, held.end.seq)).collect();
    let snapshot = world.cut_snapshot(Audience::Everyone, ends);
    assert!(snapshot.signed.manifest.drop.len() > 2);
    let drop: std::sync::Arc<[(FeedId, Seq)]> = snapshot.signed.manifest.drop.clone().into();
    while world.order(core::Command::Drop(drop.clone())) == core::Reply::More {}
    let people = FeedId { writer: HUB, channel: Channel::People(CAMPUS) };
    let held = world.hub.store.feed(&people).unwrap();
    assert_eq!(held.pruned, held.end.seq);
    // Nothing but a snapshot can bring it up; the hub offers one on its own.
    world.cut_wan(0, false);
    world.run_ms(5 * SECOND_MS);
    import(&mut world, 340..350);
    world.run_ms(5 * SECOND_MS);
    assert_eq!(known(&world.edges[0].store, true), known(&world.hub.store, true));
    assert_eq!(world.edges[0].store.feed(&people).unwrap().pruned, held.end.seq);
    world.restart(0);
    world.restart_hub();
    world.run_ms(5 * SECOND_MS);
    assert_eq!(known(&world.edges[0].store, true), known(&world.hub.store, true));
}

#[test]
fn whatever_is_wrong_with_a_snapshot_is_refused_whole() {
    let mut world = furnished();
    let n = new_box(&mut world, 9);
    let good = world.cut_snapshot(Audience::Everyone, Vec::new());
    let before = all_of(&world, n);
    let judge = world.judge(n);
    let refused = |cut: &Cut| check(cut, judge.clone()).err().expect("refused");
    let resigned = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = good.signed.manifest.clone();
        change(&mut manifest);
        Cut { signed: manifest.sign(&key_of(NodeId::HUB)), chunks: good.chunks.clone() }
    };
    // Altered, or signed by another key.
    let mut altered = Cut { signed: good.signed.clone(), chunks: good.chunks.clone() };
    altered.signed.manifest.cut_ms += 1;
    assert_eq!(refused(&altered), SnapshotRefused::Foreign);
    altered.signed = good.signed.manifest.clone().sign(&key_of(NodeId(9)));
    assert_eq!(refused(&altered), SnapshotRefused::Foreign);
    // For others, of another form, too large.
    let other = world.cut_snapshot(Audience::Campus(CampusId(2)), Vec::new());
    assert_eq!(refused(&other), SnapshotRefused::OtherAudience(Audience::Campus(CampusId(2))));
    assert_eq!(refused(&resigned(&|m| m.version += 1)), SnapshotRefused::Version(SNAPSHOT_VERSION + 1));
    let huge = refused(&resigned(&|m| m.bytes = SNAPSHOT_BYTES_MAX + 1));
    assert!(matches!(huge, SnapshotRefused::TooLarge { .. }), "{huge}");
    let crowd = refused(&resigned(&|m| m.feeds = vec![m.feeds[0]; SNAPSHOT_FEEDS_MAX + 1]));
    assert!(matches!(crowd, SnapshotRefused::TooLarge { .. }), "{crowd}");
    // What the manifest promises and the chunks do not hold, even when headquarters' key says so.
    for change in [
        (&|m: &mut Manifest| m.items += 1) as &dyn Fn(&mut Manifest),
        &|m| m.bytes -= 1,
        &|m| m.chunks.push(m.chunks[0]),
        &|m| m.feeds[0].1.seq = Seq(m.feeds[0].1.seq.0 + 1),
        &|m| m.feeds.truncate(1),
        &|m| m.feeds.reverse(),
        &|m| m.audience = Audience::Campus(CAMPUS),
        &|m| m.drop = vec![(m.feeds[0].0, Seq(u64::MAX))],
    ] {
        let words = refused(&resigned(change)).to_string();
        assert!(words.contains("damaged"), "{words}");
    }
    // A chunk cut short, longer, flipped, missing, twice, of another snapshot.
    import(&mut world, 300..301);
    let newer = world.cut_snapshot(Audience::Everyone, Vec::new());
    let with = |chunks: Vec<Vec<u8>>| Cut { signed: good.signed.clone(), chunks };
    let mut short = good.chunks.clone();
    short[0].pop();
    let mut long = good.chunks.clone();
    long[0].push(0);
    let twice = vec![good.chunks[0].clone(), good.chunks[0].clone()];
    for chunks in [short, long, Vec::new(), twice, newer.chunks] {
        assert!(refused(&with(chunks)).to_string().contains("damaged"));
    }
    for bit in (0..good.chunks[0].len() * 8).step_by(9_973) {
        let mut chunks = good.chunks.clone();
        chunks[0][bit / 8] ^= 1 << (bit % 8);
        assert!(refused(&with(chunks)).to_string().contains("damaged"), "bit {bit}");
    }
    assert_eq!(all_of(&world, n), before, "nothing of any of them was taken");
}

/// Bytes that headquarters never cut but has signed: whatever they are, the box refuses or takes them, and lives.
#[test]
fn garbage_under_a_good_signature_never_brings_a_box_down() {
    let mut world = furnished();
    let n = new_box(&mut world, 9);
    let good = world.cut_snapshot(Audience::Everyone, Vec::new());
    let before = all_of(&world, n);
    let mut random = Random::new(7);
    let mut refused = 0;
    for _ in 0..400 {
        let mut bytes = good.chunks.concat();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(3) {
                0 => bytes[at] = random.below(256) as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let chunks: Vec<Vec<u8>> = bytes.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect();
        let mut manifest = good.signed.manifest.clone();
        manifest.bytes = bytes.len() as u64;
        manifest.chunks = chunks.iter().map(|chunk| chunk_hash(chunk)).collect();
        let forged = Cut { signed: manifest.sign(&key_of(NodeId::HUB)), chunks };
        refused += usize::from(steps(&forged, world.judge(n)).is_err());
    }
    // Some changes hit text, which nothing vouches for but the signature.
    assert!(refused > 300, "{refused}");
    assert_eq!(all_of(&world, n), before);
}

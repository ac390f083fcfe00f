//! Documents over a hub and three edges: people, policy and visitors reach every node that decides by them, whatever
//! the order, the crashes and the hostility on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod common;

use common::*;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::access::{Door, GroupId, Holder, Interval, Schedule, ScheduleId, decide};
use yika_crdt::channel::Channel;
use yika_crdt::civil::{Civil, civil};
use yika_crdt::docs::*;
use yika_crdt::documents::PersonChange;
use yika_crdt::edge;
use yika_crdt::entry::{BlockReason, BlockRecord, BlockTarget, Body, ChangeRecord};
use yika_crdt::ids::*;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_crdt::reason::Reason;
use yika_crdt::store::{Read, Tx};
use yika_hub::core::{Command, Reply};
use yika_hub::refusal::Refusal;

const HOUR_MS: i64 = 3_600_000;
const DOOR: DoorId = DoorId(1);
const STAFF: GroupId = GroupId(1);
const GUESTS: GroupId = GroupId(2);
const CAMPUS: CampusId = CampusId(1);

fn name(text: &str) -> PersonAct {
    PersonAct::SetName(text.into())
}

fn shard(person: u64, home: u16) -> DocKind {
    DocKind::People { campus: CampusId(home), shard: shard_of(PersonId(person), 4) }
}

/// Whether a card opens the door at a node at a moment.
fn opens(node: &Node, card: u64, at_ms: i64) -> Result<(), Reason> {
    let at: Civil = civil(at_ms, 480);
    let people = node.mesh().people.read();
    let (person, holder) = people.usable_at(CardNumber(card), at.day, at_ms)?;
    let holder = Holder { person, status: holder.status, valid: holder.valid };
    decide(&node.mesh().access.read().index, DOOR, &holder, at).map(drop)
}

/// A door that both groups open by day.
fn policy(world: &mut World) {
    let day = vec![Interval { from_minute: 8 * 60, until_minute: 20 * 60 }];
    let schedule =
        Schedule { name: "白天".into(), week: std::array::from_fn(|_| day.clone()), ..Schedule::default() };
    let areas = ("外".into(), "内".into());
    let door = Door { name: "东门".into(), areas, pulse_ms: 3000, held_open_ms: 9000, device: "modbus:a/1".into() };
    let acts = [
        PolicyAct::SetDoor(DOOR, door),
        PolicyAct::SetSchedule(ScheduleId(1), schedule),
        PolicyAct::SetGroupName(STAFF, "员工".into()),
        PolicyAct::AddGroupDoors(STAFF, vec![(DOOR, ScheduleId(1))]),
        PolicyAct::AddGroupDoors(GUESTS, vec![(DOOR, ScheduleId(1))]),
    ];
    for act in acts {
        let command = Command::Policy { campus: CAMPUS, operator: CLERK, act: act.into() };
        assert_eq!(world.hub().hub(command), Reply::Done);
    }
}

fn edge_policy(act: PolicyAct) -> edge::Command {
    edge::Command::Policy { operator: CLERK, act: act.into() }
}

fn visit(visitor: u64, card: u64) -> Visitor {
    Visitor {
        visitor: PersonId(visitor),
        name: "访客".into(),
        host: Some(PersonId(1)),
        card: CardNumber(card),
        uid: Some(77),
        from_ms: NOON_MS,
        until_ms: NOON_MS + 2 * HOUR_MS,
        groups: [GUESTS].into(),
        ended: false,
    }
}

fn edge_visitor(visitor: u64, act: VisitorAct) -> edge::Command {
    edge::Command::Visitor { operator: CLERK, visitor: PersonId(visitor), act }
}

#[test]
fn people_of_the_hub_reach_the_index_of_every_edge() {
    let mut world = World::new();
    assert_eq!(world.hub().hub(people((1..=40).map(|n| add(n, 1 + (n % 2) as u16)).collect())), Reply::Done);
    world.heal();
    for at in 0..4 {
        let people = world.nodes[at].mesh().people.read();
        assert_eq!(people.counts(), (40, 40), "node {at}");
        let (person, holder) = people.usable(CardNumber(800_007), TODAY).unwrap();
        assert_eq!((person, holder.home), (PersonId(7), CampusId(2)));
        assert_eq!(people.card_of_uid(1_800_007), Some(CardNumber(800_007)));
        assert_eq!(people.usable(CardNumber(9), TODAY).err(), Some(Reason::UnknownCard));
    }
    world.assert_converged();
}

#[test]
fn a_campus_edits_its_people_while_cut_and_both_sides_hold() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1), add(2, 1)]));
    world.heal();
    // Cut: the hub, and each box of the campus, change the same person.
    world.hub().hub(people(vec![change(1, 1, PersonAct::SetCategory(CategoryId(5)))]));
    let lost = PersonAct::SetCardState(CardNumber(800_001), CardState::Cancelled);
    assert_eq!(world.nodes[1].edge(edge_people(vec![change(1, 1, lost)])), edge::Reply::Done);
    let new_card = PersonAct::AddCard(card(900_001));
    assert_eq!(world.nodes[2].edge(edge_people(vec![change(1, 1, new_card), add(3, 1)])), edge::Reply::Done);
    world.nodes[2].edge(edge_people(vec![change(2, 1, PersonAct::Remove)]));
    world.heal();
    for at in 0..4 {
        let people = world.nodes[at].mesh().people.read();
        assert_eq!(people.usable(CardNumber(800_001), TODAY).err(), Some(Reason::NotActive), "node {at}");
        assert_eq!(people.usable(CardNumber(900_001), TODAY).unwrap().1.category, CategoryId(5));
        assert_eq!(people.holder(PersonId(2)), None);
        assert_eq!(people.person_of(CardNumber(800_003)), Some(PersonId(3)));
    }
    world.assert_converged();
}

#[test]
fn acts_that_make_no_sense_are_denied_in_words_and_nothing_is_written() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1), add(2, 2)]));
    world.heal();
    let long = "长".repeat(100);
    let twice = PersonAct::AddCard(card(800_001));
    let refused = [
        (vec![add(5, 1), change(9, 1, name("谁"))], "p9 is not a person of c1"),
        (vec![add(5, 9)], "c9 is not a campus; known are c1, c2"),
        (vec![add(5, 1), change(2, 1, name("李"))], "p2 is of c2, not c1; move the person first"),
        (vec![add(5, 1), change(2, 2, twice)], "card 800001 for p2: p1 has it; take it back first"),
        (vec![add(5, 1), change(1, 1, name(&long))], "name is longer than 128 bytes"),
    ];
    let before = world.nodes[0].store.clone();
    for (acts, words) in refused {
        match world.hub().hub(people(acts)) {
            Reply::Denied(denial) => {
                let said = Refusal::from(denial);
                assert!(said.to_string().contains(words), "{said}");
            }
            other => panic!("{words}: {other:?}"),
        }
        assert_eq!(format!("{:?}", world.nodes[0].store), format!("{before:?}"), "{words}");
    }
    match world.nodes[3].edge(edge_people(vec![change(1, 1, name("王"))])) {
        edge::Reply::Denied(words) => assert!(words.contains("of c1 are changed there or at headquarters"), "{words}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.nodes[1].mesh().people.read().holder(PersonId(5)), None);
}

/// An import's row sets everything again, also where nothing of it is new.
#[test]
fn what_the_documents_say_already_is_done_and_writes_nothing() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1), add(2, 1)]));
    let ends = |world: &World| world.nodes[0].store.feeds().unwrap();
    let before = ends(&world);
    assert_eq!(world.hub().hub(people(vec![add(1, 1)])), Reply::Done);
    assert_eq!(ends(&world), before);
}

#[test]
fn a_move_and_the_changes_after_it_are_written_together_or_not_at_all() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 2), add(2, 1)]));
    world.heal();
    let before = format!("{:?}", world.nodes[0].store);
    let moving = |acts| {
        let moves = BTreeMap::from([(PersonId(1), CampusId(1))]);
        Command::People { operator: CLERK, moves, acts }
    };
    let long = change(1, 1, name(&"长".repeat(100)));
    let refused = [vec![add(1, 1), long], vec![add(1, 2)], vec![add(1, 1), change(2, 2, name("乙"))]];
    for acts in refused {
        assert!(matches!(world.hub().hub(moving(acts)), Reply::Denied(_)));
        assert_eq!(format!("{:?}", world.nodes[0].store), before);
    }
    let nowhere = BTreeMap::from([(PersonId(1), CampusId(9))]);
    let nowhere = Command::People { operator: CLERK, moves: nowhere, acts: Vec::new() };
    assert!(matches!(world.hub().hub(nowhere), Reply::Denied(_)));
    // Ten cards: more than come with a person at once.
    let cards = (0..9).map(|n| change(1, 2, PersonAct::AddCard(card(810_000 + n)))).collect();
    assert_eq!(world.hub().hub(people(cards)), Reply::Done);
    let renamed = change(1, 1, name("新名"));
    assert_eq!(world.hub().hub(moving(vec![add(1, 1), renamed])), Reply::Done);
    world.heal();
    for at in 0..4 {
        let person = world.nodes[at].person(PersonId(1)).unwrap();
        assert_eq!((person.home, person.name.as_str(), person.cards.len()), (CampusId(1), "新名", 10), "node {at}");
    }
    world.assert_converged();
}

#[test]
fn a_person_moves_to_another_campus_whatever_arrives_first() {
    for first in [Channel::People(CampusId(1)), Channel::People(CampusId(2))] {
        let mut world = World::new();
        world.hub().hub(people(vec![add(1, 1)]));
        world.heal();
        let command = Command::move_person(CLERK, PersonId(1), CampusId(2));
        assert_eq!(world.hub().hub(command), Reply::Done);
        for to in 1..4 {
            let feed = world.behind(0, to).into_iter().find(|f| f.channel == first).unwrap();
            world.send(0, to, feed, 0, false);
        }
        // The old campus edits the person before it hears of the move.
        if first == Channel::People(CampusId(2)) {
            world.nodes[1].edge(edge_people(vec![change(1, 2, name("迟到"))]));
        }
        world.heal();
        for at in 0..4 {
            let person = world.nodes[at].person(PersonId(1)).unwrap();
            assert_eq!(person, common::person(1, 2), "node {at}, first {first}");
        }
        world.assert_converged();
    }
}

/// Rows ACS-1, ACS-7.
#[test]
fn policy_decides_a_door_at_every_box_of_its_campus_and_nowhere_else() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1), add(2, 1), add(3, 2)]));
    policy(&mut world);
    world.heal();
    world.nodes[1].edge(edge_policy(PolicyAct::AddMembers(STAFF, vec![PersonId(1), PersonId(3)])));
    world.nodes[2].edge(edge_policy(PolicyAct::SetHoliday(Day(TODAY.0 + 1), Some(1))));
    world.heal();
    for at in [1, 2] {
        let node = &world.nodes[at];
        assert_eq!(opens(node, 800_001, NOON_MS), Ok(()), "node {at}");
        assert_eq!(opens(node, 800_003, NOON_MS), Ok(()), "a guest of another campus at node {at}");
        assert_eq!(opens(node, 800_002, NOON_MS), Err(Reason::NoDoorRight));
        assert_eq!(opens(node, 800_001, NOON_MS + 12 * HOUR_MS), Err(Reason::OutsideDoorTime));
        assert_eq!(opens(node, 800_001, NOON_MS + 24 * HOUR_MS), Err(Reason::OutsideDoorTime), "a holiday");
        assert_eq!(node.mesh().access.read().doors[&DOOR].pulse_ms, 3000);
    }
    assert_eq!(opens(&world.nodes[3], 800_001, NOON_MS), Err(Reason::NoDoorRight));
    assert!(world.nodes[3].rows(yika_crdt::keys::POLICIES).is_empty());
    world.nodes[2].edge(edge_policy(PolicyAct::RemoveMembers(STAFF, vec![PersonId(1)])));
    world.heal();
    assert_eq!(opens(&world.nodes[1], 800_001, NOON_MS), Err(Reason::NoDoorRight));
    world.assert_converged();
}

#[test]
fn a_visitor_passes_during_the_visit_and_a_persons_card_wins_over_a_temporary_one() {
    let mut world = World::new();
    policy(&mut world);
    world.heal();
    assert_eq!(world.nodes[1].edge(edge_visitor(500, VisitorAct::Add(visit(500, 700_001)))), edge::Reply::Done);
    world.heal();
    for at in [1, 2] {
        let node = &world.nodes[at];
        assert_eq!(opens(node, 700_001, NOON_MS), Ok(()), "node {at}");
        assert_eq!(opens(node, 700_001, NOON_MS - 1), Err(Reason::NotActive));
        assert_eq!(opens(node, 700_001, NOON_MS + 2 * HOUR_MS), Err(Reason::NotActive));
        assert_eq!(node.mesh().people.read().card_of_uid(77), Some(CardNumber(700_001)));
    }
    assert_eq!(opens(&world.nodes[3], 700_001, NOON_MS), Err(Reason::UnknownCard));
    // The card goes to the next visitor when the first has left.
    world.nodes[2].edge(edge_visitor(500, VisitorAct::End));
    let next = Visitor { groups: [STAFF].into(), ..visit(501, 700_001) };
    world.nodes[2].edge(edge_visitor(501, VisitorAct::Add(next)));
    world.heal();
    let passes = |node: &Node| node.mesh().people.read().usable_at(CardNumber(700_001), TODAY, NOON_MS).map(|(p, _)| p);
    assert_eq!(passes(&world.nodes[1]), Ok(PersonId(501)));
    world.assert_converged();
    // Headquarters registers the same number, while the campus is cut.
    let acts = vec![add(1, 1), change(1, 1, PersonAct::AddCard(card(700_001)))];
    world.hub().hub(people(acts));
    world.heal();
    for at in [1, 2] {
        assert_eq!(passes(&world.nodes[at]), Ok(PersonId(1)), "node {at}");
        let alarms = world.nodes[at].alarms();
        assert!(alarms.iter().any(|a| a.starts_with("card_twice: card 700001")), "{alarms:?}");
    }
    match world.nodes[1].edge(edge_visitor(502, VisitorAct::Add(visit(502, 700_001)))) {
        edge::Reply::Denied(words) => assert!(words.contains("is the card of p1"), "{words}"),
        other => panic!("{other:?}"),
    }
    world.nodes[1].edge(edge_visitor(501, VisitorAct::Remove));
    world.heal();
    world.assert_converged();
}

/// A hostile box of campus 1 tries four things; each is set aside with an alarm, and everything else goes on.
#[test]
fn a_bad_change_is_refused_and_alarmed_and_stops_nothing_else() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1), add(2, 2)]));
    world.heal();
    let doc = |kind| DocId { kind, epoch: 1 };
    let act = |id: u64, act| Act { id: ActId(id), operator: CLERK, body: ActBody::People(vec![(PersonId(id), act)]) };
    let change = |doc, change| Body::Change(ChangeRecord { doc, change });
    let ours = Channel::People(CAMPUS);
    // Another campus' document; a document that cannot be; garbage; a chunk beyond every bound.
    let foreign = forge(doc(shard(2, 2)), writer(1), &act(2, name("假")));
    world.inject(1, ours, change(doc(shard(2, 2)), foreign));
    let nowhere = DocKind::People { campus: CAMPUS, shard: 4 };
    let lost = forge(doc(nowhere), writer(1), &act(1, name("假")));
    world.inject(1, ours, change(doc(nowhere), lost));
    let other = DocKind::People { campus: CAMPUS, shard: (shard_of(PersonId(1), 4) + 1) % 4 };
    world.inject(1, ours, change(doc(other), vec![0x85; 40]));
    world.inject(1, ours, change(doc(shard(1, 1)), vec![0; CHANGE_BYTES_MAX + 1]));
    // Behind them a change that would be in order, but for the document it comes after a refused one.
    let late = Body::Change(ChangeRecord { doc: doc(shard(1, 1)), change: vec![1] });
    world.inject(1, ours, late);
    world.heal();
    for at in [0, 2, 3] {
        assert_eq!(world.nodes[at].mesh().quarantined, 4, "node {at}: {:?}", world.nodes[at].alarms());
        assert_eq!(world.nodes[at].person(PersonId(1)), Some(common::person(1, 1)));
        assert_eq!(world.nodes[at].person(PersonId(2)), Some(common::person(2, 2)));
    }
    let alarms = world.nodes[2].alarms();
    assert!(alarms.iter().any(|a| a.starts_with("quarantine: ") && a.contains("may not write")), "{alarms:?}");
    // The hub and the sibling go on, in the same document too.
    world.hub().hub(people(vec![common::change(1, 1, name("总部"))]));
    world.nodes[2].edge(edge_people(vec![common::change(1, 1, PersonAct::SetCategory(CategoryId(3)))]));
    world.heal();
    for at in [0, 2, 3] {
        let person = world.nodes[at].person(PersonId(1)).unwrap();
        assert_eq!((person.name.as_str(), person.category), ("总部", CategoryId(3)), "node {at}");
    }
    // After the re-base the box is heard again.
    assert_eq!(world.hub().hub(Command::Rebase(shard(1, 1))), Reply::Done);
    world.heal();
    assert_eq!(world.nodes[1].edge(edge_people(vec![common::change(1, 1, name("改好"))])), edge::Reply::Done);
    world.heal();
    for at in 0..4 {
        assert_eq!(world.nodes[at].person(PersonId(1)).unwrap().name, "改好", "node {at}");
    }
}

#[test]
fn a_re_base_keeps_what_it_covers_and_each_writer_says_the_rest_again() {
    let mut world = World::new();
    policy(&mut world);
    world.hub().hub(people(vec![add(1, 1)]));
    world.heal();
    // Box 1 is cut and edits; headquarters re-bases without it; box 2 has heard neither.
    world.nodes[1].edge(edge_people(vec![change(1, 1, name("断网时"))]));
    world.nodes[1].edge(edge_policy(PolicyAct::AddMembers(STAFF, vec![PersonId(1)])));
    assert_eq!(world.hub().hub(Command::Rebase(shard(1, 1))), Reply::Done);
    assert_eq!(world.hub().hub(Command::Rebase(DocKind::Policy(CAMPUS))), Reply::Done);
    world.hub().tick();
    world.hub().hub(people(vec![change(1, 1, PersonAct::SetCategory(CategoryId(4)))]));
    world.sync(1, 2);
    assert_eq!(world.nodes[2].person(PersonId(1)).unwrap().name, "断网时");
    world.sync(0, 2);
    world.nodes[2].restart();
    world.heal();
    for at in 0..4 {
        let person = world.nodes[at].person(PersonId(1)).unwrap();
        assert_eq!((person.name.as_str(), person.category), ("断网时", CategoryId(4)), "node {at}");
    }
    assert_eq!(opens(&world.nodes[2], 800_001, NOON_MS), Ok(()));
    world.assert_converged();
    // A second re-base, with everything covered.
    assert_eq!(world.hub().hub(Command::Rebase(shard(1, 1))), Reply::Done);
    world.heal();
    world.assert_converged();
    assert_eq!(world.nodes[3].person(PersonId(1)).unwrap().name, "断网时");
}

#[test]
fn a_fence_re_bases_the_campus_and_headquarters_speaks_for_the_box() {
    let mut world = World::new();
    policy(&mut world);
    world.hub().hub(people(vec![add(1, 1), add(2, 1)]));
    world.heal();
    // Said by box 1 in an epoch that a re-base ends without it; heard at headquarters only afterwards.
    world.nodes[1].edge(edge_people(vec![change(1, 1, name("还没听到"))]));
    assert_eq!(world.hub().hub(Command::Rebase(shard(1, 1))), Reply::Done);
    world.hub().tick();
    world.sync(1, 0);
    assert_eq!(world.nodes[0].person(PersonId(1)).unwrap().name, common::person(1, 1).name);
    // Box 2 hears more of box 1 than headquarters ever will.
    world.sync(1, 2);
    world.nodes[1].edge(edge_people(vec![change(2, 1, name("不算数"))]));
    world.sync(1, 2);
    assert_eq!(world.nodes[2].person(PersonId(2)).unwrap().name, "不算数");
    let fence = Command::Fence { writer: writer(1), reason: "着火".into() };
    assert_eq!(world.hub().hub(fence), Reply::Done);
    // The burnt box says nothing more.
    for _ in 0..4 {
        for (from, to) in [(0, 2), (2, 0), (0, 3), (3, 0), (2, 3)] {
            world.sync(from, to);
        }
        world.nodes.iter_mut().for_each(Node::tick);
    }
    for at in [0, 2, 3] {
        assert_eq!(world.nodes[at].person(PersonId(1)).unwrap().name, "还没听到", "node {at}");
        assert_eq!(world.nodes[at].person(PersonId(2)), Some(common::person(2, 1)), "node {at}");
    }
    assert_eq!(world.nodes[2].edge(edge_people(vec![change(2, 1, name("继续"))])), edge::Reply::Done);
    world.sync(2, 0);
    assert_eq!(world.nodes[0].person(PersonId(2)).unwrap().name, "继续");
    assert!(world.nodes[2].mesh().people.read().holder(PersonId(1)).is_some());
}

/// A turn lost between handling and commit, at both ends, again and again.
#[test]
fn a_crash_in_the_middle_loses_nothing() {
    let mut world = World::new();
    for n in 1..=30 {
        let command = people(vec![add(n, 1)]);
        world.hub().hub_or_crash(command.clone(), true);
        assert_eq!(world.nodes[0].mesh().people.read().holder(PersonId(n)), None);
        assert_eq!(world.hub().hub(command), Reply::Done);
    }
    while let Some(feed) = world.behind(0, 1).first().copied() {
        world.send(0, 1, feed, 0, true);
        assert!(world.send(0, 1, feed, 2, false));
    }
    let edit = edge_people(vec![change(3, 1, name("改名"))]);
    world.nodes[1].edge_or_crash(edit.clone(), true);
    assert_eq!(world.nodes[1].edge(edit), edge::Reply::Done);
    world.heal();
    assert_eq!(world.nodes[3].person(PersonId(3)).unwrap().name, "改名");
    assert_eq!(world.nodes[3].mesh().people.read().counts(), (30, 30));
    world.assert_converged();
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A person of ten: 1..=5 are of campus 1, 6..=10 of campus 2.
fn some_act(dice: &mut Dice, home: u16) -> yika_crdt::documents::PersonChange {
    let id = 1 + dice.below(5) + 5 * u64::from(home - 1);
    let number = 700_000 + dice.below(8);
    let act = match dice.below(8) {
        0 | 1 => return add(id, home),
        2 => name(["甲", "乙", "丙"][dice.below(3) as usize]),
        3 => PersonAct::SetCategory(CategoryId(dice.below(4) as u16)),
        4 => PersonAct::AddCard(card(number)),
        5 => PersonAct::SetCardState(CardNumber(800_000 + id), CardState::Cancelled),
        6 => PersonAct::SetStatus([PersonStatus::Active, PersonStatus::Suspended][dice.below(2) as usize]),
        _ => PersonAct::Remove,
    };
    change(id, home, act)
}

fn do_something(world: &mut World, dice: &mut Dice) {
    let at = dice.below(4) as usize;
    let home = if at == 0 { 1 + dice.below(2) as u16 } else { CAMPUSES[at - 1] };
    let crash = dice.below(10) == 0;
    let member = PersonId(1 + dice.below(10));
    let group = [STAFF, GUESTS][dice.below(2) as usize];
    let policy = match dice.below(3) {
        0 => PolicyAct::AddMembers(group, vec![member]),
        1 => PolicyAct::RemoveMembers(group, vec![member]),
        _ => PolicyAct::AddGroupDoors(group, vec![(DOOR, ScheduleId(dice.below(3) as u16))]),
    };
    let visitor = 500 + dice.below(3);
    let visit = match dice.below(3) {
        0 => VisitorAct::End,
        1 => VisitorAct::SetUntil(NOON_MS + HOUR_MS),
        _ => VisitorAct::Add(Visitor { groups: [group].into(), ..visit(visitor, 600_000 + dice.below(2)) }),
    };
    let (campus, operator) = (CampusId(home), CLERK);
    match (dice.below(6), at) {
        (0, 0) => _ = world.hub().hub_or_crash(Command::Policy { campus, operator, act: policy.into() }, crash),
        (0, _) => _ = world.nodes[at].edge_or_crash(edge_policy(policy), crash),
        (1, 0) => {
            let command = Command::Visitor { campus, operator, visitor: PersonId(visitor), act: visit };
            world.hub().hub_or_crash(command, crash);
        }
        (1, _) => _ = world.nodes[at].edge_or_crash(edge_visitor(visitor, visit), crash),
        (2, 0) if dice.below(4) == 0 => {
            let to = CampusId(1 + dice.below(2) as u16);
            world.hub().hub_or_crash(Command::move_person(operator, member, to), crash);
        }
        (3, 0) if dice.below(3) == 0 => _ = world.hub().hub_or_crash(Command::Rebase(shard(member.0, home)), crash),
        (_, 0) => _ = world.hub().hub_or_crash(people(vec![some_act(dice, home)]), crash),
        (_, _) => _ = world.nodes[at].edge_or_crash(edge_people(vec![some_act(dice, home)]), crash),
    }
}

/// Whatever is edited where, sent in whatever order, repeated and lost: in the end all rows are the same.
#[test]
fn concurrent_edits_converge_in_any_order() {
    for seed in 1..=10u64 {
        let mut world = World::new();
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        policy(&mut world);
        world.hub().hub(people((1..=10).map(|n| add(n, if n <= 5 { 1 } else { 2 })).collect()));
        world.heal();
        for _ in 0..120 {
            do_something(&mut world, &mut dice);
            for _ in 0..dice.below(3) {
                let (from, to) = (dice.below(4) as usize, dice.below(4) as usize);
                let behind = world.behind(from, to);
                if !behind.is_empty() {
                    let feed = behind[dice.below(behind.len() as u64) as usize];
                    let (back, crash) = (dice.below(4), dice.below(6) == 0);
                    world.send(from, to, feed, back, crash);
                }
            }
            if dice.below(20) == 0 {
                let at = dice.below(4) as usize;
                world.nodes[at].restart();
            }
        }
        world.heal();
        world.assert_converged();
        for node in &world.nodes {
            assert_eq!(node.mesh().quarantined, 0, "seed {seed}: {:?}", node.alarms());
        }
    }
}

const DAY_MS: i64 = 24 * HOUR_MS;

fn months(world: &World, at: usize) -> BTreeSet<u16> {
    DocSet::visitor_months(&Tx::new(&world.nodes[at].store), CampusId(1)).unwrap()
}

fn epochs(world: &World, at: usize, campus: u16) -> Vec<Option<u32>> {
    let campus = CampusId(campus);
    let kinds = (0..4).map(|shard| DocKind::People { campus, shard }).chain([DocKind::Policy(campus)]);
    kinds.map(|kind| Tx::new(&world.nodes[at].store).get(&yika_crdt::keys::epoch(&kind)).unwrap()).collect()
}

#[test]
fn visits_that_are_long_over_are_erased_everywhere_and_their_documents_go() {
    let mut world = World::new();
    assert_eq!(world.nodes[1].edge(edge_visitor(500, VisitorAct::Add(visit(500, 700_001)))), edge::Reply::Done);
    assert_eq!(world.nodes[2].edge(edge_visitor(501, VisitorAct::Add(visit(501, 700_002)))), edge::Reply::Done);
    world.heal();
    let long = VisitorAct::SetUntil(NOON_MS + 80 * DAY_MS);
    let longer = Command::Visitor { campus: CAMPUS, operator: CLERK, visitor: PersonId(501), act: long };
    assert_eq!(world.hub().hub(longer), Reply::Done);
    for days in [1, 60, 110] {
        world.hub().later_ms = days * DAY_MS;
        world.heal();
        assert_eq!(world.nodes[2].rows(yika_crdt::keys::VISITORS).len(), 2, "one of them is kept on day {days}");
        assert_eq!(months(&world, 1).len(), 1);
    }
    world.hub().later_ms = 120 * DAY_MS;
    world.heal();
    for at in 0..3 {
        assert_eq!(world.nodes[at].rows(yika_crdt::keys::VISITORS).len(), 0, "node {at}");
        assert_eq!(months(&world, at), BTreeSet::new(), "node {at}");
    }
    world.assert_converged();
    let before = world.nodes[0].rows(b"");
    world.hub().later_ms = 121 * DAY_MS;
    world.heal();
    let after = world.nodes[0].rows(b"");
    let changed = after.iter().filter(|(key, value)| before.get(*key) != Some(value)).count();
    assert!(changed <= 2, "nothing is done again: {changed}");
    // The number is free for another guest.
    assert_eq!(world.nodes[1].edge(edge_visitor(502, VisitorAct::Add(visit(502, 700_002)))), edge::Reply::Done);
    world.heal();
    world.assert_converged();
    assert!(world.nodes.iter().all(|node| node.alarms().is_empty()));
}

#[test]
fn every_document_gets_a_new_epoch_once_a_year_and_loses_nothing() {
    let mut world = World::new();
    world.hub().hub(people((1..=8).map(|n| add(n, 1)).collect()));
    world.heal();
    world.hub().later_ms = 364 * DAY_MS;
    world.heal();
    assert_eq!(epochs(&world, 0, 1), vec![None; 5]);
    // A box that was cut off all the time has something to say.
    world.nodes[1].edge(edge_people(vec![change(3, 1, name("迟到"))]));
    world.hub().later_ms = 366 * DAY_MS;
    (0..30).for_each(|_| world.nodes[0].tick());
    assert_eq!(epochs(&world, 0, 1), vec![Some(2); 5]);
    assert_eq!(epochs(&world, 0, 2), vec![Some(2); 5]);
    world.heal();
    assert_eq!(epochs(&world, 1, 1), vec![Some(2); 5]);
    world.assert_converged();
    assert_eq!(world.nodes[2].person(PersonId(3)).unwrap().name, "迟到");
    assert_eq!((1..=8).filter(|n| world.nodes[3].person(PersonId(*n)).is_some()).count(), 8);
    world.hub().later_ms = 500 * DAY_MS;
    world.heal();
    assert_eq!(epochs(&world, 0, 1), vec![Some(2); 5], "once");
}

fn fake(number: u64, cards: Vec<Card>) -> Act {
    let person = Person { name: "冒名".into(), cards, ..common::person(number, 1) };
    let PersonChange { person: id, act, .. } = PersonChange::add(person);
    Act { id: ActId(99), operator: CLERK, body: ActBody::People(vec![(id, act)]) }
}

/// A box writes a person of another campus down, with a card of its own and the right number on another chip: nobody
/// spends by these, headquarters is told, and a move ends it.
#[test]
fn a_box_takes_no_person_of_another_campus() {
    // Whether the liar's campus has the higher number or the lower.
    for (person, home, liar) in [(1, 1, 3), (2, 2, 1)] {
        let mut world = World::new();
        world.hub().hub(people(vec![add(1, 1), add(2, 2)]));
        world.heal();
        let at = 3 - home;
        let doc = DocId { kind: shard(person, at), epoch: 1 };
        let number = 800_000 + person;
        let change = forge(doc, writer(liar), &fake(person, vec![card(666), Card { uid: Some(5), ..card(number) }]));
        let body = Body::Change(ChangeRecord { doc, change });
        world.inject(liar as usize, Channel::People(CampusId(at)), body);
        world.heal();
        let others = [0, 1, 2, 3].into_iter().filter(|at| *at != liar as usize);
        for at in others.clone() {
            let people = world.nodes[at].mesh().people.read();
            assert_eq!(people.usable(CardNumber(666), TODAY).err(), Some(Reason::UnknownCard), "node {at}");
            assert_eq!(people.card_of_uid(5), None, "node {at}");
        }
        let alarms = world.nodes[0].alarms();
        let told = alarms.iter().filter(|a| a.starts_with(&format!("person_twice: p{person} stands"))).count();
        assert_eq!(told, 1, "{alarms:?}");
        let rows = |n: usize| (world.nodes[n].rows(b"p"), world.nodes[n].rows(b"P"));
        others.clone().for_each(|at| assert_eq!(rows(at), rows(0), "node {at}"));
        let restarted = world.nodes[0].mesh().people.read().clone();
        world.nodes[0].restart();
        assert_eq!(*world.nodes[0].mesh().people.read(), restarted);
        let home_again = Command::move_person(CLERK, PersonId(person), CampusId(home));
        assert_eq!(world.hub().hub(home_again), Reply::Done);
        world.heal();
        for at in others {
            assert_eq!(world.nodes[at].person(PersonId(person)), Some(common::person(person, home)), "node {at}");
            assert!(world.nodes[at].rows(yika_crdt::keys::PERSON_CLAIMS).is_empty());
        }
        assert_eq!(world.hub().hub(people(vec![common::change(person, home, name("改名"))])), Reply::Done);
    }
}

/// A move tells nobody that somebody stands twice, whichever way it goes.
#[test]
fn a_move_to_and_fro_alarms_nobody() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1)]));
    for to in [2, 1, 2] {
        let command = Command::move_person(CLERK, PersonId(1), CampusId(to));
        assert_eq!(world.hub().hub(command), Reply::Done);
        world.heal();
        assert_eq!(world.nodes[1].person(PersonId(1)), Some(common::person(1, to)));
    }
    world.assert_converged();
    for node in &world.nodes {
        assert_eq!(node.alarms(), Vec::<String>::new());
    }
}

#[test]
fn who_stands_in_a_document_of_another_number_is_nobody_there() {
    let mut world = World::new();
    world.hub().hub(people(vec![add(1, 1)]));
    world.heal();
    let kind = DocKind::People { campus: CAMPUS, shard: (shard_of(PersonId(1), 4) + 1) % 4 };
    let doc = DocId { kind, epoch: 1 };
    let change = forge(doc, writer(1), &fake(1, vec![card(666)]));
    world.inject(1, Channel::People(CAMPUS), Body::Change(ChangeRecord { doc, change }));
    // One node hears the false word first, another the true one.
    world.sync(1, 3);
    world.hub().hub(people(vec![common::change(1, 1, name("真"))]));
    world.sync(0, 3);
    world.heal();
    for at in [0, 2, 3] {
        let person = world.nodes[at].person(PersonId(1)).unwrap();
        assert_eq!((person.name.as_str(), person.cards), ("真", vec![card(800_001)]), "node {at}");
    }
    let alarms = world.nodes[0].alarms();
    assert!(alarms.iter().any(|a| a.starts_with("document: p1 stands in people document")), "{alarms:?}");
}

#[test]
fn a_visit_under_the_number_of_a_person_spends_nothing_of_his() {
    for visit_first in [false, true] {
        let mut world = World::new();
        world.hub().hub(people(vec![add(1, 1)]));
        let person = people(vec![add(2, 2)]);
        if !visit_first {
            world.hub().hub(person.clone());
        }
        world.heal();
        assert_eq!(world.nodes[1].edge(edge_visitor(2, VisitorAct::Add(visit(2, 700_001)))), edge::Reply::Done);
        world.heal();
        if visit_first {
            world.hub().hub(person);
            world.heal();
        }
        for at in 0..3 {
            let people = world.nodes[at].mesh().people.read();
            let used = people.usable_at(CardNumber(700_001), TODAY, NOON_MS).map(|(person, _)| person);
            assert_eq!(used, Err(Reason::UnknownCard), "node {at}");
            assert_eq!(people.person_of(CardNumber(700_001)), None);
            assert_eq!(people.usable(CardNumber(800_002), TODAY).map(|(person, _)| person), Ok(PersonId(2)));
        }
        let alarms = world.nodes[1].alarms();
        assert!(alarms.iter().any(|a| a.starts_with("person_twice: ")), "{visit_first}: {alarms:?}");
        world.assert_converged();
    }
}

/// A lost card's chip under another number, lower or higher, is refused; whoever has it is told to headquarters.
#[test]
fn a_blocked_chip_passes_under_no_other_number() {
    for number in [700_000, 900_000] {
        let mut world = World::new();
        world.hub().hub(people(vec![add(1, 1)]));
        let target = BlockTarget::Card(CardNumber(800_001));
        world.hub().hub(Command::Block(BlockRecord { target, reason: BlockReason::Lost, operator: CLERK }));
        let other = Person { cards: vec![Card { uid: Some(1_800_001), ..card(number) }], ..common::person(5, 1) };
        assert_eq!(world.hub().hub(people(vec![PersonChange::add(other)])), Reply::Done);
        world.heal();
        let tapped = |world: &World, at: usize| {
            let people = world.nodes[at].mesh().people.read();
            let card = people.card_of_uid(1_800_001).unwrap();
            assert_eq!(people.chips_after(Some(1_800_000), 1), [(1_800_001, card)], "and so for terminals");
            assert_eq!(people.cards_of_uid_bits(1_800_001, u32::MAX).collect::<BTreeSet<_>>(), [card].into());
            people.usable(card, TODAY).map(|(person, _)| person)
        };
        for at in 0..3 {
            assert_eq!(tapped(&world, at), Err(Reason::Blocked), "{number} at node {at}");
        }
        for at in [0, 1] {
            let alarms = world.nodes[at].alarms();
            assert!(alarms.iter().any(|a| a.starts_with(&format!("chip_twice: the chip of card {number} of p5"))));
        }
        // Lifted, it is the lower number's again.
        assert_eq!(world.hub().hub(Command::Lift { target, operator: CLERK }), Reply::Lifted(1));
        world.heal();
        assert_eq!(tapped(&world, 1), Ok(PersonId(if number < 800_001 { 5 } else { 1 })));
    }
}

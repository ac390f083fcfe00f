//! Documents among several writers, in cases told one by one: merging, waiting, refusing, re-basing, storing.

// tests may panic
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::chunk::tests::run_length_bomb;
use super::*;
use crate::access::{Door, GroupId, Interval, Policy, Schedule, ScheduleId};
use crate::ids::*;
use crate::person::{Card, CardState, Person, PersonStatus};
use crate::store::{MemoryStore, Store, Tx};
use std::collections::BTreeMap;

const CAMPUS: CampusId = CampusId(1);
pub(super) const SHARD: DocId = DocId { kind: DocKind::People { campus: CAMPUS, shard: 0 }, epoch: 1 };
const POLICY: DocId = DocId { kind: DocKind::Policy(CAMPUS), epoch: 1 };

pub(super) fn writer(node: u32) -> Writer {
    Writer { node: NodeId(node), incarnation: Incarnation { generation: 1, counter: 1 } }
}

pub(super) fn place(node: u32) -> Place {
    Place { node: NodeId(node), campus: (node != 0).then_some(CAMPUS) }
}

pub(super) fn act(id: u64, person: u64, act: PersonAct) -> Act {
    Act { id: ActId(id), operator: OperatorId(1), body: ActBody::People(vec![(PersonId(person), act)]) }
}

fn policy_act(id: u64, act: PolicyAct) -> Act {
    Act { id: ActId(id), operator: OperatorId(1), body: ActBody::Policy(Box::new(act)) }
}

pub(super) fn add(person: u64, name: &str) -> Act {
    let card = Card {
        number: CardNumber(person + 100),
        uid: Some(u64::MAX),
        state: CardState::Active,
        valid_until: Some(Day(30_000)),
    };
    act(
        person,
        person,
        PersonAct::Add {
            name: name.to_owned(),
            staff_number: format!("S{person}"),
            category: CategoryId(2),
            status: PersonStatus::Active,
            valid: (Some(Day(-5)), None),
            id_hash: [3; 16],
            cards: vec![card],
        },
    )
}

pub(super) fn say(doc: &mut Document, node: u32, act: &Act) -> Vec<u8> {
    doc.author(writer(node), act, 1_800_000_000).unwrap().unwrap().0
}

pub(super) fn hear(doc: &mut Document, node: u32, bytes: &[u8]) -> Result<Applied, ChangeRefused> {
    doc.take(writer(node), place(node), bytes).unwrap()
}

pub(super) fn persons(doc: &Document) -> Vec<Person> {
    match doc.project_all() {
        Patch::People(patch) => patch.upserted,
        _ => panic!("not people"),
    }
}

fn policy(doc: &Document) -> Policy {
    let mut policy = Policy::default();
    match doc.project_all() {
        Patch::Policy(patch) => patch.apply_to(&mut policy),
        _ => panic!("not a policy"),
    }
    policy
}

#[test]
fn different_fields_both_hold_and_one_field_has_one_winner_everywhere() {
    let (mut hub, mut edge) = (Document::new(SHARD), Document::new(SHARD));
    let first = say(&mut hub, 0, &add(7, "Li"));
    assert!(matches!(hear(&mut edge, 0, &first), Ok(Applied::Projected { .. })));
    // Cut.
    let h1 = say(&mut hub, 0, &act(2, 7, PersonAct::SetCategory(CategoryId(9))));
    let h2 = say(&mut hub, 0, &act(3, 7, PersonAct::SetName("Li Hub".into())));
    let e1 = say(&mut edge, 1, &act(4, 7, PersonAct::SetName("Li Edge".into())));
    let e2 = say(&mut edge, 1, &act(5, 7, PersonAct::SetCardState(CardNumber(107), CardState::Cancelled)));
    // Healed.
    for bytes in [&e1, &e2] {
        hear(&mut hub, 1, bytes).unwrap();
    }
    for bytes in [&h1, &h2] {
        hear(&mut edge, 0, bytes).unwrap();
    }
    assert_eq!(persons(&hub), persons(&edge));
    let li = persons(&hub).remove(0);
    assert_eq!(li.category, CategoryId(9));
    assert_eq!(li.cards[0].state, CardState::Cancelled);
    assert_eq!(li.cards[0].uid, Some(u64::MAX));
    assert_eq!(li.valid, (Some(Day(-5)), None));
    assert!(li.name == "Li Hub" || li.name == "Li Edge");
    // The conflict ends when somebody writes the name again, even with the winning value.
    let settled = say(&mut hub, 0, &act(6, 7, PersonAct::SetName(li.name.clone())));
    hear(&mut edge, 0, &settled).unwrap();
    assert_eq!(hub.author(writer(0), &act(7, 7, PersonAct::SetName(li.name.clone())), 0), Ok(None));
    assert_eq!(Document::open(SHARD, &edge.save(), DocState::default()).map(|d| persons(&d)).unwrap(), persons(&hub));
}

#[test]
fn a_change_before_its_dependencies_waits_and_brings_its_followers() {
    let (mut hub, mut edge, mut late) = (Document::new(SHARD), Document::new(SHARD), Document::new(SHARD));
    let first = say(&mut hub, 0, &add(7, "Li"));
    hear(&mut edge, 0, &first).unwrap();
    let e1 = say(&mut edge, 1, &act(2, 7, PersonAct::SetName("A".into())));
    let e2 = say(&mut edge, 1, &act(3, 7, PersonAct::SetName("B".into())));
    assert_eq!(hear(&mut late, 1, &e1), Ok(Applied::Waiting));
    assert_eq!(hear(&mut late, 1, &e2), Ok(Applied::Waiting));
    assert_eq!(hear(&mut late, 1, &e2), Ok(Applied::Known));
    assert!(persons(&late).is_empty());
    match hear(&mut late, 0, &first).unwrap() {
        Applied::Projected { entered, patch, refused } => {
            let Patch::People(patch) = *patch else { panic!("not people") };
            assert_eq!(entered, vec![first.clone(), e1, e2]);
            assert_eq!(patch.upserted[0].name, "B");
            assert!(refused.is_empty());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(hear(&mut late, 0, &first), Ok(Applied::Known));
    assert_eq!(persons(&late), persons(&edge));
}

#[test]
fn foreign_actors_other_campuses_and_other_acts_are_refused() {
    let mut edge = Document::new(SHARD);
    let bytes = say(&mut edge, 1, &add(7, "Li"));
    assert_eq!(admit(&SHARD, writer(2), place(2), &bytes).map(|_| ()), Err(ChangeRefused::ForeignActor));
    let elsewhere = Place { node: NodeId(1), campus: Some(CampusId(2)) };
    assert_eq!(admit(&SHARD, writer(1), elsewhere, &bytes).map(|_| ()), Err(ChangeRefused::MayNotWrite));
    let not_its_kind = admit(&POLICY, writer(1), place(1), &bytes).map(|_| ());
    assert!(matches!(not_its_kind, Err(ChangeRefused::BadAct(_))));
    let (mut flat, _) = chunk::read(&bytes).unwrap();
    flat.ops[0].put = Some(Value::Text("x".repeat(9000)));
    let lying = flat.encode().unwrap().raw_bytes().to_vec();
    let refused = admit(&SHARD, writer(1), place(1), &lying).map(|_| ());
    assert!(matches!(refused, Err(ChangeRefused::NotTheAct(_))));
    let bomb = run_length_bomb(actor_of(writer(1)).0);
    assert_eq!(admit(&SHARD, writer(1), place(1), &bomb).map(|_| ()), Err(ChangeRefused::TooManyOps));
}

#[test]
fn after_a_refusal_the_writer_is_ignored_until_the_re_base() {
    let (mut edge, mut peer) = (Document::new(SHARD), Document::new(SHARD));
    let good = say(&mut edge, 1, &add(7, "Li"));
    let next = say(&mut edge, 1, &act(2, 7, PersonAct::SetName("Wang".into())));
    hear(&mut peer, 1, &good).unwrap();
    let before = peer.save();
    let fork = {
        let mut other = Document::new(SHARD);
        say(&mut other, 1, &add(8, "Fork"))
    };
    assert_eq!(hear(&mut peer, 1, &fork), Err(ChangeRefused::SequenceReused(1)));
    assert_eq!(peer.save(), before);
    assert_eq!(hear(&mut peer, 1, &next), Ok(Applied::Ignored));
    // The state outlives the process, the re-base ends it.
    let mut again = Document::open(SHARD, &peer.save(), peer.state().clone()).unwrap();
    assert_eq!(hear(&mut again, 1, &next), Ok(Applied::Ignored));
    let new = rebase(&again, &again.covered()).unwrap().unwrap();
    assert!(new.state().refused.is_empty());
    assert_eq!(persons(&new), persons(&peer));
}

#[test]
fn changes_that_do_not_continue_their_ancestors_are_refused_untouched() {
    let mut edge = Document::new(SHARD);
    let one = say(&mut edge, 1, &add(7, "Li"));
    let two = say(&mut edge, 1, &act(2, 7, PersonAct::SetName("B".into())));
    let (flat, _) = chunk::read(&two).unwrap();
    let mut cases = Vec::new();
    let mut start = flat.clone();
    start.start_op += 1;
    cases.push(start);
    let mut alone = flat.clone();
    alone.deps.clear();
    cases.push(alone);
    let mut preds = flat.clone();
    preds.ops[0].preds.clear();
    cases.push(preds);
    let mut invented = flat.clone();
    invented.ops[0].preds[0].counter += 1;
    cases.push(invented);
    let mut gap = flat.clone();
    gap.seq = 3;
    cases.push(gap);
    for case in cases {
        let mut peer = Document::new(SHARD);
        hear(&mut peer, 1, &one).unwrap();
        let before = peer.save();
        let bytes = case.encode().unwrap().raw_bytes().to_vec();
        assert!(hear(&mut peer, 1, &bytes).is_err(), "{case:?}");
        assert_eq!(peer.save(), before);
    }
}

#[test]
fn a_change_beside_its_writers_own_past_is_refused() {
    let (mut hub, mut edge) = (Document::new(SHARD), Document::new(SHARD));
    let h = say(&mut hub, 0, &add(7, "Li"));
    let e = say(&mut edge, 1, &add(8, "Wu"));
    let e2 = say(&mut edge, 1, &act(2, 8, PersonAct::SetName("X".into())));
    let (mut flat, _) = chunk::read(&e2).unwrap();
    // As long as its own first change, but somebody else's; nothing to replace there.
    flat.deps = vec![chunk::read(&h).unwrap().1.hash().0];
    flat.ops[0].preds.clear();
    let beside = flat.encode().unwrap().raw_bytes().to_vec();
    hear(&mut hub, 1, &e).unwrap();
    assert_eq!(hear(&mut hub, 1, &beside), Err(ChangeRefused::NotAfterItself));
}

#[test]
fn a_waiting_change_that_turns_out_bad_is_refused_with_its_followers() {
    let (mut hub, mut edge, mut late) = (Document::new(SHARD), Document::new(SHARD), Document::new(SHARD));
    let first = say(&mut hub, 0, &add(7, "Li"));
    hear(&mut edge, 0, &first).unwrap();
    let (mut flat, _) = chunk::read(&say(&mut edge, 1, &act(2, 7, PersonAct::SetName("B".into())))).unwrap();
    flat.start_op += 5;
    let bad = flat.encode().unwrap().raw_bytes().to_vec();
    assert_eq!(hear(&mut late, 1, &bad), Ok(Applied::Waiting));
    match hear(&mut late, 0, &first).unwrap() {
        Applied::Projected { refused, entered, .. } => {
            assert_eq!(entered, vec![first]);
            assert!(matches!(refused[..], [(actor, ChangeRefused::WrongStart { .. })] if actor == actor_of(writer(1))));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(persons(&late)[0].name, "Li");
    assert!(late.state().refused.contains_key(&actor_of(writer(1))));
}

#[test]
fn many_acts_at_once_are_the_same_as_one_by_one() {
    let mut acts: Vec<Act> = (1..=20).map(|i| add(i, "P")).collect();
    acts.push(act(1, 3, PersonAct::SetName("x".repeat(200))));
    acts.push(act(1, 3, PersonAct::SetName("Q".into())));
    acts.push(act(1, 3, PersonAct::SetName("Q".into())));
    acts.push(act(1, 4, PersonAct::Remove));
    let (mut at_once, mut one_by_one) = (Document::new(SHARD), Document::new(SHARD));
    let (each, _) = at_once.author_all(writer(0), &acts, 5).unwrap();
    for (act, authored) in acts.iter().zip(each) {
        let alone = one_by_one.author(writer(0), act, 5);
        assert_eq!(authored, alone.map(|said| said.map(|(bytes, _)| bytes)));
    }
    assert_eq!(at_once.save(), one_by_one.save());
    assert_eq!(persons(&at_once).len(), 19);
}

#[test]
fn waiting_is_bounded() {
    let (mut hub, mut edge, mut late) = (Document::new(SHARD), Document::new(SHARD), Document::new(SHARD));
    let first = say(&mut hub, 0, &add(7, "Li"));
    hear(&mut edge, 0, &first).unwrap();
    let mut last = Ok(Applied::Known);
    for i in 0..=WAITING_CHANGES_MAX as u64 {
        let bytes = say(&mut edge, 1, &act(i, 7, PersonAct::SetCategory(CategoryId(i as u16))));
        last = hear(&mut late, 1, &bytes);
        assert!(i == WAITING_CHANGES_MAX as u64 || last == Ok(Applied::Waiting));
    }
    assert_eq!(last, Err(ChangeRefused::TooManyWaiting));
    // What waited before the refusal still counts.
    hear(&mut late, 0, &first).unwrap();
    assert_eq!(persons(&late)[0].category, CategoryId(WAITING_CHANGES_MAX as u16 - 1));
}

#[test]
fn membership_merges_and_removed_things_go() {
    let (mut hub, mut edge) = (Document::new(POLICY), Document::new(POLICY));
    let schedule = Schedule {
        name: "day".into(),
        week: std::array::from_fn(|_| vec![Interval { from_minute: 480, until_minute: 1080 }]),
        ..Schedule::default()
    };
    let door = Door {
        name: "Gate".into(),
        areas: ("out".into(), "in".into()),
        pulse_ms: 3000,
        held_open_ms: 20_000,
        device: "modbus:b/1".into(),
    };
    let group = GroupId(4);
    let acts = [
        PolicyAct::SetDoor(DoorId(1), door.clone()),
        PolicyAct::SetSchedule(ScheduleId(2), schedule.clone()),
        PolicyAct::SetGroupName(group, "staff".into()),
        PolicyAct::AddGroupDoors(group, vec![(DoorId(1), ScheduleId(2))]),
        PolicyAct::AddMembers(group, vec![PersonId(10), PersonId(11)]),
        PolicyAct::SetHoliday(Day(-3), Some(2)),
    ];
    for (i, act) in acts.into_iter().enumerate() {
        let bytes = say(&mut hub, 0, &policy_act(i as u64, act));
        hear(&mut edge, 0, &bytes).unwrap();
    }
    let h = say(&mut hub, 0, &policy_act(10, PolicyAct::RemoveMembers(group, vec![PersonId(10)])));
    let e = say(&mut edge, 1, &policy_act(11, PolicyAct::AddMembers(group, vec![PersonId(12)])));
    hear(&mut hub, 1, &e).unwrap();
    hear(&mut edge, 0, &h).unwrap();
    let merged = policy(&hub);
    assert_eq!(merged, policy(&edge));
    let staff = &merged.groups[&group];
    assert_eq!(staff.members.iter().map(|p| p.0).collect::<Vec<_>>(), vec![11, 12]);
    assert_eq!(staff.doors[&DoorId(1)], ScheduleId(2));
    assert_eq!(merged.schedules[&ScheduleId(2)], schedule);
    assert_eq!(merged.doors[&DoorId(1)], door);
    assert_eq!(merged.holidays[&Day(-3)], 2);
    // Patches one by one lead where the whole projection leads.
    let gone = hub.author(writer(0), &policy_act(12, PolicyAct::RemoveGroup(group)), 0).unwrap().unwrap();
    let mut patched = merged;
    match gone.1 {
        Patch::Policy(patch) => patch.apply_to(&mut patched),
        _ => panic!("not a policy"),
    }
    assert!(patched.groups.is_empty());
    assert_eq!(patched, policy(&hub));
}

#[test]
fn visitors_are_added_and_ended() {
    let id = DocId { kind: DocKind::Visitors { campus: CAMPUS, month: 682 }, epoch: 1 };
    let visitor = Visitor {
        visitor: PersonId(5),
        name: "Guest".into(),
        host: Some(PersonId(7)),
        card: CardNumber(900),
        uid: None,
        from_ms: 1,
        until_ms: 2,
        groups: [GroupId(4)].into(),
        ended: false,
    };
    let said = |act| Act { id: ActId(1), operator: OperatorId(1), body: ActBody::Visitors(vec![(PersonId(5), act)]) };
    let (mut hub, mut edge) = (Document::new(id), Document::new(id));
    for act in [VisitorAct::Add(visitor.clone()), VisitorAct::End] {
        let bytes = say(&mut hub, 0, &said(act));
        hear(&mut edge, 0, &bytes).unwrap();
    }
    let all = Patch::Visitors(VisitorsPatch { upserted: vec![Visitor { ended: true, ..visitor }], removed: vec![] });
    assert_eq!(edge.project_all(), all);
}

#[test]
fn a_re_base_gives_the_same_bytes_everywhere_and_uncovered_acts_are_said_again() {
    let (mut hub, mut edge) = (Document::new(SHARD), Document::new(SHARD));
    for i in 1..=60 {
        let bytes = say(&mut hub, 0, &add(i, &format!("P{i}")));
        hear(&mut edge, 0, &bytes).unwrap();
    }
    let remove = say(&mut hub, 0, &act(99, 3, PersonAct::Remove));
    hear(&mut edge, 0, &remove).unwrap();
    let covered = hub.covered();
    let plain = persons(&hub);
    let late = act(100, 7, PersonAct::SetName("Late".into()));
    say(&mut edge, 1, &late);
    let at_hub = rebase(&hub, &covered).unwrap().unwrap();
    let mut at_edge = rebase(&edge, &covered).unwrap().unwrap();
    assert_eq!(at_hub.id().epoch, 2);
    assert_eq!(persons(&at_hub), plain);
    assert_eq!(at_hub.save(), at_edge.save());
    let again = uncovered_acts(&edge, writer(1), &covered);
    assert_eq!(again, vec![late]);
    let mut at_hub = at_hub;
    let bytes = say(&mut at_edge, 1, &again[0]);
    hear(&mut at_hub, 1, &bytes).unwrap();
    assert_eq!(persons(&at_hub), persons(&at_edge));
    assert!(persons(&at_hub).iter().any(|p| p.name == "Late"));
    // A node that lacks covered changes cannot build it yet.
    assert!(rebase(&Document::new(SHARD), &covered).unwrap().is_none());
}

#[test]
fn a_set_saves_reopens_compacts_and_forgets_what_was_not_committed() {
    let mut store = MemoryStore::default();
    let mut set = DocSet::new(2);
    let mut feed = Vec::new();
    for i in 1..=200 {
        let mut tx = Tx::new(&store);
        let (bytes, _) = set.author(&mut tx, SHARD, writer(0), &add(i, "P"), 0).unwrap().unwrap();
        feed.push(bytes);
        store.commit(&tx.into_batch()).unwrap();
        set.committed();
    }
    let mut tx = Tx::new(&store);
    set.author(&mut tx, SHARD, writer(0), &add(999, "dropped"), 0).unwrap();
    set.rolled_back();
    let mut fresh = DocSet::new(2);
    let tx = Tx::new(&store);
    assert_eq!(persons(fresh.get(&tx, SHARD).unwrap()), persons(set.get(&tx, SHARD).unwrap()));
    assert_eq!(fresh.get(&tx, SHARD).unwrap().changes(), 200);
    assert!(tx.scan(b"dl", None, 999).unwrap().len() <= set::LOG_CHANGES_MAX as usize);
    for shard in 1..9 {
        let id = DocId { kind: DocKind::People { campus: CAMPUS, shard }, epoch: 1 };
        fresh.get(&tx, id).unwrap();
        assert!(fresh.open_count() <= 2);
    }
    // A peer that takes the feed in one batch after the last entry waited in vain, over a restart.
    let mut peer_store = MemoryStore::default();
    let all: Vec<_> = feed.iter().map(|b| (writer(0), place(0), &b[..])).collect();
    let mut tx = Tx::new(&peer_store);
    let outcome = DocSet::new(2).take(&mut tx, SHARD, &all).unwrap();
    assert!(outcome.each.iter().all(|r| *r == Ok(Taken::Entered)));
    peer_store.commit(&tx.into_batch()).unwrap();
    let tx = Tx::new(&peer_store);
    assert_eq!(persons(DocSet::new(2).get(&tx, SHARD).unwrap()), persons(set.get(&Tx::new(&store), SHARD).unwrap()));
}

#[test]
fn waiting_changes_and_refusals_survive_a_restart() {
    let (mut hub, mut edge) = (Document::new(SHARD), Document::new(SHARD));
    let first = say(&mut hub, 0, &add(7, "Li"));
    hear(&mut edge, 0, &first).unwrap();
    let waits = say(&mut edge, 1, &act(2, 7, PersonAct::SetName("B".into())));
    let mut store = MemoryStore::default();
    for (node, bytes) in [(1, &waits), (2, &waits), (0, &first)] {
        // Opened afresh each time, as after a restart.
        let mut tx = Tx::new(&store);
        DocSet::new(1).take(&mut tx, SHARD, &[(writer(node), place(node), bytes)]).unwrap();
        store.commit(&tx.into_batch()).unwrap();
    }
    let tx = Tx::new(&store);
    let mut set = DocSet::new(1);
    let doc = set.get(&tx, SHARD).unwrap();
    assert_eq!(persons(doc)[0].name, "B");
    assert!(doc.state().refused.contains_key(&actor_of(writer(2))));
    assert_eq!(doc.waiting().count(), 0);
    assert!(tx.scan(b"dw", None, 9).unwrap().is_empty());
}

/// A later change has come, and waits for one that a snapshot brings: rows get what both say.
#[test]
fn what_waited_for_a_snapshot_shows_with_it() {
    let (mut hub, mut edge) = (Document::new(SHARD), Document::new(SHARD));
    let first = say(&mut hub, 0, &add(7, "Li"));
    hear(&mut edge, 0, &first).unwrap();
    let waits = say(&mut edge, 1, &add(8, "Wang"));
    let [there, here] = [(0, &first), (1, &waits)].map(|(node, bytes)| {
        let mut store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        DocSet::new(1).take(&mut tx, SHARD, &[(writer(node), place(node), bytes)]).unwrap();
        store.commit(&tx.into_batch()).unwrap();
        store
    });
    for (from, mut to, missing) in [(&there, here.clone(), 7), (&here, there.clone(), 8)] {
        let saved = DocSet::saved(&Tx::new(from), SHARD, SHARD.epoch).unwrap();
        let mut tx = Tx::new(&to);
        let restored = DocSet::new(1).restore(&mut tx, &saved, None).unwrap();
        let Restored::Merged(outcome) = restored else { panic!("{restored:?}") };
        let Patch::People(patch) = outcome.patch else { panic!("not people") };
        let told: Vec<u64> = patch.upserted.iter().map(|person| person.person.0).collect();
        assert_eq!(told, [7, 8], "{missing} was missing");
        to.commit(&tx.into_batch()).unwrap();
    }
}

/// A snapshot leaps over epochs of which something has come early: nothing of them stays on the disk.
#[test]
fn nothing_stays_of_epochs_that_a_snapshot_leaps_over() {
    let mut store = MemoryStore::default();
    let mut hub = Document::new(SHARD);
    let mut tx = Tx::new(&store);
    let mut set = DocSet::new(4);
    for person in 7..10 {
        let early = say(&mut hub, 0, &add(person, "Li"));
        set.take(&mut tx, hub.id(), &[(writer(0), place(0), &early)]).unwrap();
        hub = rebase(&hub, &hub.covered()).unwrap().unwrap();
    }
    store.commit(&tx.into_batch()).unwrap();
    let saved = Some(hub.save());
    let (id, state) = (hub.id(), DocState::default());
    let saved = crate::snapshot::SavedDocument { id, epoch: id.epoch, saved, state, log: vec![], waiting: vec![] };
    let mut tx = Tx::new(&store);
    DocSet::new(4).restore(&mut tx, &saved, Some(SHARD)).unwrap();
    store.commit(&tx.into_batch()).unwrap();
    assert_eq!(DocSet::stored(&Tx::new(&store)).unwrap().into_iter().collect::<Vec<_>>(), [id]);
}

#[test]
fn a_set_re_bases_twice_and_keeps_what_came_early() {
    let mut store = MemoryStore::default();
    let mut set = DocSet::new(4);
    let (mut hub, mut edge) = (Document::new(SHARD), Document::new(SHARD));
    let first = say(&mut hub, 0, &add(7, "Li"));
    hear(&mut edge, 0, &first).unwrap();
    let lost = say(&mut edge, 1, &act(2, 7, PersonAct::SetName("Uncovered".into())));
    let covered = hub.covered();
    let mut hub = rebase(&hub, &covered).unwrap().unwrap();
    let early = say(&mut hub, 0, &act(3, 7, PersonAct::SetCategory(CategoryId(5))));
    let second = hub.id();

    let mut tx = Tx::new(&store);
    set.take(&mut tx, SHARD, &[(writer(0), place(0), &first), (writer(1), place(1), &lost)]).unwrap();
    let outcome = set.take(&mut tx, second, &[(writer(0), place(0), &early)]).unwrap();
    assert_eq!(outcome.each, vec![Ok(Taken::Waiting)]);
    store.commit(&tx.into_batch()).unwrap();
    set.committed();

    let mut tx = Tx::new(&store);
    let outcome = set.rebase(&mut tx, SHARD, &covered).unwrap().unwrap();
    let Patch::People(patch) = outcome.patch else { panic!("not people") };
    assert_eq!((patch.upserted[0].name.as_str(), patch.upserted[0].category), ("Li", CategoryId(5)));
    store.commit(&tx.into_batch()).unwrap();
    set.committed();
    // A third epoch keeps the foundation of the second, also where no feed change of it is covered.
    let mut tx = Tx::new(&store);
    set.rebase(&mut tx, second, &BTreeMap::new()).unwrap().unwrap();
    store.commit(&tx.into_batch()).unwrap();
    let tx = Tx::new(&store);
    let third = DocId { epoch: 3, ..SHARD };
    let mut fresh = DocSet::new(4);
    let doc = fresh.get(&tx, third).unwrap();
    assert_eq!((persons(doc)[0].name.as_str(), persons(doc)[0].category), ("Li", CategoryId(2)));
    assert!(tx.scan(b"dl", None, 9).unwrap().is_empty());
    assert_eq!(tx.scan(b"db", None, 9).unwrap().len(), 1);
}

#[test]
fn damaged_saved_bytes_are_found() {
    let mut doc = Document::new(SHARD);
    say(&mut doc, 0, &add(7, "Li"));
    let mut saved = doc.save();
    assert!(Document::open(POLICY, &saved, DocState::default()).is_err());
    let middle = saved.len() / 2;
    saved[middle] ^= 1;
    let opened = Document::open(SHARD, &saved, DocState::default());
    assert!(matches!(opened, Err(DocError::Damaged { .. })));
}

/// A counter that several may raise, and a number that is not whole, are no values of a document (invariant 6).
#[test]
fn invariant_6_no_document_takes_a_counter_or_a_floating_point_number() {
    use automerge::transaction::Transactable;
    use automerge::{ActorId, AutoCommit, ROOT, ScalarValue};
    let change_with = |value: ScalarValue| {
        let mut doc = AutoCommit::new().with_actor(ActorId::from([7; 16]));
        doc.put(ROOT, "k", value).unwrap();
        doc.get_last_local_change().unwrap().raw_bytes().to_vec()
    };
    assert!(chunk::read(&change_with(ScalarValue::Int(5))).is_ok(), "the same change with a whole number is read");
    for value in [ScalarValue::counter(5), ScalarValue::F64(5.0), ScalarValue::F64(0.1), ScalarValue::Timestamp(5)] {
        let refused = chunk::read(&change_with(value.clone()));
        assert!(matches!(refused, Err(ChangeRefused::Malformed("a value type no document has"))), "{value:?}");
    }
    let mut raised = AutoCommit::new().with_actor(ActorId::from([7; 16]));
    raised.put(ROOT, "k", ScalarValue::counter(5)).unwrap();
    raised.commit();
    raised.increment(ROOT, "k", 3).unwrap();
    assert!(chunk::read(raised.get_last_local_change().unwrap().raw_bytes()).is_err(), "an increment");
}

//! Doors: a box decides who passes by the policy that it holds, while clerks change that policy at boxes and at
//! headquarters.
//!
//! The reference reads the rows of the box's disk, group by group. What one writer said second is nowhere without what it
//! said first, and every event at a door is told once. Leaves to others: hardware, the rules of time (`yika_crdt::access`).

use crate::folk::card_of;
use crate::more::Work;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::access::*;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::civil::{self, Civil};
use yika_crdt::docs::PolicyAct;
use yika_crdt::edge;
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::reason::Reason;
use yika_crdt::store::{Read, decode_row};
use yika_hub_core as core;

const CLERK: OperatorId = OperatorId(9);
/// Doors, groups and schedules of each campus.
const DOORS: u32 = 2;
const GROUPS: u16 = 3;
const SCHEDULES: u16 = 3;

/// What was told of doors.
#[derive(Default)]
pub struct Doors {
    /// Events that a box has taken, and those of which nobody knows whether it has.
    told: BTreeMap<usize, (u64, u64)>,
    /// How often each node has said something in two steps.
    steps: BTreeMap<NodeId, u64>,
}

fn door(campus: CampusId, number: u32) -> DoorId {
    DoorId(u32::from(campus.0) * 10 + number)
}

/// A schedule: always, by day, never; on holidays of the first kind only the first one opens.
fn schedule(number: u16) -> Schedule {
    let interval = |from_minute, until_minute| vec![Interval { from_minute, until_minute }];
    let (week, holiday) = match number {
        1 => (interval(0, 1_440), interval(0, 1_440)),
        2 => (interval(480, 1_200), Vec::new()),
        _ => (Vec::new(), Vec::new()),
    };
    let week = std::array::from_fn(|_| week.clone());
    Schedule { name: format!("时段{number}"), week, holidays: [holiday, Vec::new(), Vec::new()] }
}

/// A policy as its rows have it.
#[derive(Default)]
struct ByRows {
    doors: BTreeSet<DoorId>,
    schedules: BTreeMap<ScheduleId, Schedule>,
    group_doors: BTreeMap<(GroupId, DoorId), ScheduleId>,
    members: BTreeSet<(GroupId, PersonId)>,
    holidays: BTreeMap<Day, u8>,
    parameters: BTreeMap<(TerminalId, String), String>,
}

impl ByRows {
    fn read<R: Read>(disk: &R, campus: CampusId) -> ByRows {
        let mut policy = ByRows::default();
        for (key, row) in disk.scan(&keys::policy(campus), None, usize::MAX).unwrap_or_default() {
            match decode_row::<PolicyItem>(&key, &row) {
                Ok(PolicyItem::Door(door, Some(_))) => _ = policy.doors.insert(door),
                Ok(PolicyItem::Schedule(id, Some(schedule))) => _ = policy.schedules.insert(id, schedule),
                Ok(PolicyItem::GroupDoor(group, door, Some(id))) => _ = policy.group_doors.insert((group, door), id),
                Ok(PolicyItem::Member(group, person, true)) => _ = policy.members.insert((group, person)),
                Ok(PolicyItem::Holiday(day, Some(kind))) => _ = policy.holidays.insert(day, kind),
                Ok(PolicyItem::Parameter(t, name, Some(value))) => _ = policy.parameters.insert((t, name), value),
                _ => {}
            }
        }
        policy
    }

    /// The reference: no interval here crosses midnight.
    fn decide(&self, person: PersonId, door: DoorId, at: Civil) -> Result<(), Reason> {
        if !self.doors.contains(&door) {
            return Err(Reason::NoDoorRight);
        }
        let groups = self.members.iter().filter(|(_, member)| *member == person).map(|(group, _)| *group);
        let mut refusal = Reason::NoDoorRight;
        for schedule in groups.filter_map(|group| self.group_doors.get(&(group, door))) {
            let day = self.schedules.get(schedule).map(|schedule| match self.holidays.get(&at.day) {
                Some(kind) => &schedule.holidays[usize::from(*kind) - 1],
                None => &schedule.week[usize::from(at.weekday)],
            });
            let holds = |interval: &Interval| (interval.from_minute..interval.until_minute).contains(&at.minute);
            if day.is_some_and(|day| day.iter().any(holds)) {
                return Ok(());
            }
            refusal = Reason::OutsideDoorTime;
        }
        Err(refusal)
    }
}

impl World {
    /// Headquarters makes doors, schedules and groups.
    pub fn set_up_doors(&mut self) {
        let campuses: BTreeSet<CampusId> = self.boxes.iter().filter_map(|node| node.place.campus).collect();
        for campus in campuses {
            let mut acts: Vec<PolicyAct> =
                (1..=SCHEDULES).map(|id| PolicyAct::SetSchedule(ScheduleId(id), schedule(id))).collect();
            for number in 1..=DOORS {
                let id = door(campus, number);
                let areas = ("外".into(), "内".into());
                let (name, device) = (format!("门{number}"), format!("modbus:board{number}/1"));
                acts.push(PolicyAct::SetDoor(id, Door { name, areas, pulse_ms: 500, held_open_ms: 9_000, device }));
            }
            for group in 1..=GROUPS {
                let doors =
                    (1..=DOORS).map(|number| (door(campus, number), ScheduleId(group.min(SCHEDULES)))).collect();
                acts.push(PolicyAct::AddGroupDoors(GroupId(group), doors));
                acts.push(PolicyAct::AddMembers(GroupId(group), vec![PersonId(u64::from(group))]));
            }
            for act in acts {
                _ = self.order(core::Command::Policy { campus, operator: CLERK, act: Box::new(act) });
            }
        }
    }

    fn draw_policy_act(&mut self, campus: CampusId) -> PolicyAct {
        let group = GroupId(1 + self.more.chance.below(u64::from(GROUPS)) as u16);
        let id = ScheduleId(1 + self.more.chance.below(u64::from(SCHEDULES)) as u16);
        let number = 1 + self.more.chance.below(u64::from(DOORS)) as u32;
        let person = PersonId(1 + self.more.chance.below(self.plan.people));
        let today = civil::civil(self.now_ms, 480).day;
        match self.more.chance.below(10) {
            0..=2 => PolicyAct::AddMembers(group, vec![person]),
            3..=5 => PolicyAct::RemoveMembers(group, vec![person]),
            6 => PolicyAct::AddGroupDoors(group, vec![(door(campus, number), id)]),
            7 => PolicyAct::RemoveGroupDoors(group, vec![door(campus, number)]),
            8 => PolicyAct::SetSchedule(id, schedule(1 + self.more.chance.below(u64::from(SCHEDULES)) as u16)),
            _ => PolicyAct::SetHoliday(today, self.more.chance.one_in(2).then_some(1)),
        }
    }

    /// Somebody changes who may pass where, at a box or at headquarters.
    pub fn change_policy(&mut self) {
        if !self.is_busy() {
            return;
        }
        self.soon(300, 4_000, Work::Policy);
        let n = self.more.chance.below(self.boxes.len() as u64) as usize;
        let Some(campus) = self.boxes[n].place.campus else { return };
        let at = self.more.chance.one_in(2).then_some(n);
        if !self.more.chance.one_in(3) {
            let act = self.draw_policy_act(campus);
            self.say_policy(at, campus, act);
            return;
        }
        // First and second, always in this order: nobody sees the second without the first.
        let node = at.map_or(NodeId::HUB, |n| self.boxes[n].me.node);
        let step = self.more.doors.steps.entry(node).or_default();
        *step += 1;
        let value = Some(format!("{step:08}"));
        let said = |name: &str| PolicyAct::SetParameter(TerminalId(node.0), name.into(), value.clone());
        if self.say_policy(at, campus, said("first")) == Some(true) {
            self.say_policy(at, campus, said("second"));
        }
    }

    fn say_policy(&mut self, at: Option<usize>, campus: CampusId, act: PolicyAct) -> Option<bool> {
        let act = Box::new(act);
        let done = match at {
            Some(n) => {
                let said = self.tell(n, edge::Command::Policy { operator: CLERK, act });
                said.map(|reply| reply == edge::Reply::Done)
            }
            None => {
                let said = self.order(core::Command::Policy { campus, operator: CLERK, act });
                said.map(|reply| reply == core::Reply::Done)
            }
        };
        if done == Ok(true) {
            self.done("policy changes");
        }
        done.ok()
    }

    /// Somebody holds a card to a reader.
    pub fn go_through_a_door(&mut self) {
        if !self.is_busy() {
            return;
        }
        self.soon(100, 1_500, Work::Door);
        let n = self.more.chance.below(self.boxes.len() as u64) as usize;
        let Some(campus) = self.boxes[n].place.campus else { return };
        let person = 1 + self.more.chance.below(self.plan.people);
        let card = card_of(person, self.more.chance.below(4) / 3);
        let id = door(campus, 1 + self.more.chance.below(u64::from(DOORS)) as u32);
        let node = &self.boxes[n];
        if self.is_still(n) {
            return;
        }
        let Some(edge) = &node.core else { return };
        let ticks = node.ticks(self.now_ms);
        let (at_ms, time_trusted) = (edge.clock().now_ms(ticks), edge.clock().is_trusted(ticks));
        let at = civil::civil(at_ms, 480);
        // As `edge/src/doors/decision.rs`: from memory only.
        let decided = {
            let people = edge.mesh.people.read();
            people.usable_at(card, at.day, at_ms).and_then(|(person, holder)| {
                let holder = Holder { person, status: holder.status, valid: holder.valid };
                decide(&edge.mesh.access.read().index, id, &holder, at).map(|_| person)
            })
        };
        self.check_door(n, (card, id, at), decided);
        let event = match decided {
            Ok(_) => DoorEvent::Granted,
            Err(reason) => DoorEvent::Denied(reason),
        };
        self.done(if decided.is_ok() { "passed" } else { "not passed" });
        let (terminal, person) = (None, decided.ok());
        let record = DoorRecord { at_ms, time_trusted, door: id, terminal, card: Some(card), person, event };
        let told = self.tell(n, edge::Command::Door(record));
        let counts = self.more.doors.told.entry(n).or_default();
        match told {
            Ok(_) => counts.0 += 1,
            Err(_) => counts.1 += 1,
        }
        self.check_steps(n);
    }

    fn check_door(&mut self, n: usize, (card, id, at): (CardNumber, DoorId, Civil), decided: Result<PersonId, Reason>) {
        let Some(campus) = self.boxes[n].place.campus else { return };
        let is_blocked = self.is_blocked(n, card);
        let by_rows = match (is_blocked, self.usable_by_rows(n, card)) {
            (Some(true), _) => Err(Reason::Blocked),
            // A box between two steps of a snapshot may know of blocks and lifts beyond its cursors.
            (None, _) if decided == Err(Reason::Blocked) => return,
            (_, Err(reason)) => Err(reason),
            (_, Ok(())) => {
                let policy = ByRows::read(&self.boxes[n].disk, campus);
                policy.decide(crate::crowd::person_of(card), id, at)
            }
        };
        let by_box = decided.map(|_| ());
        if by_rows != by_box {
            let me = self.boxes[n].me;
            self.fail(format!("{me} answers card {card} at {id} with {by_box:?}, and its rows say {by_rows:?}"));
        }
    }

    /// Of what a node said in two steps, no box has the second without the first.
    fn check_steps(&mut self, n: usize) {
        let Some(campus) = self.boxes[n].place.campus else { return };
        let parameters = ByRows::read(&self.boxes[n].disk, campus).parameters;
        let of = |terminal: TerminalId, name: &str| parameters.get(&(terminal, name.to_owned()));
        let terminals: BTreeSet<TerminalId> = parameters.keys().map(|(terminal, _)| *terminal).collect();
        let wrong = terminals.into_iter().find(|terminal| of(*terminal, "second") > of(*terminal, "first"));
        if let Some(terminal) = wrong {
            let (me, second, first) = (self.boxes[n].me, of(terminal, "second"), of(terminal, "first"));
            self.fail(format!("{me} knows {second:?} of node {} and before it only {first:?}", terminal.0));
        }
    }

    /// Every event at a door stands once in the journal that headquarters holds.
    pub fn compare_doors(&mut self) {
        for (n, (told, unsure)) in self.more.doors.told.clone() {
            let me = self.boxes[n].me;
            if self.was_put_back(n) || self.fenced.contains(&me) || self.boxes[n].shut().is_some() {
                continue;
            }
            let journal = FeedId { writer: me, channel: Channel::Journal };
            let entries = self.hub.disk.entries(&journal, Seq(1), usize::MAX).unwrap_or_default();
            let is_door = |bytes: &&Vec<u8>| matches!(Entry::decode(bytes), Ok(Entry { body: Body::Door(_), .. }));
            let held = entries.iter().filter(is_door).count() as u64;
            if !(told..=told + unsure).contains(&held) {
                self.fail(format!("{me} took {told} events at doors ({unsure} perhaps), headquarters holds {held}"));
            }
        }
    }
}

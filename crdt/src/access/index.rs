//! Door decisions from a compact index in memory, kept in step with the policy by small updates.
//!
//! Rules of time: an interval that crosses midnight belongs to the day it starts. On a holiday only holiday patterns
//! count: the tail of a weekday's interval that began the day before is cut at midnight, the tail of a holiday's
//! interval goes on, also into a working day. Several groups add up. Dangling ids never open.
//! Leaves to others: blocks and the card's own state (`edge`), relays (drivers).

use super::{Group, GroupId, Interval, Policy, Schedule, ScheduleId};
use crate::civil::{Civil, DAY_MINUTES, weekday_of};
use crate::fixed_hash::FixedHashMap;
use crate::ids::{Day, DoorId, PersonId};
use crate::person::{Person, PersonStatus};
use crate::reason::Reason;
use std::collections::{BTreeMap, BTreeSet};

/// What a door decision needs to know of a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Who.
    pub person: PersonId,
    /// Whether the person takes part.
    pub status: PersonStatus,
    /// First and last day of validity, where set.
    pub valid: (Option<Day>, Option<Day>),
}

impl From<&Person> for Holder {
    fn from(person: &Person) -> Holder {
        Holder { person: person.person, status: person.status, valid: person.valid }
    }
}

/// The door opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    /// By the right of this group: the lowest-numbered that opens.
    pub group: GroupId,
}

/// Why one of the holder's groups opens a door or does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It opens.
    Opens(ScheduleId),
    /// The door is not in the group.
    DoorNotInGroup,
    /// The group names a schedule that does not exist.
    NoSuchSchedule(ScheduleId),
    /// The schedule does not hold at this time.
    OutsideTime(ScheduleId),
    /// The weekday pattern would open; the holiday of this kind replaces it.
    Holiday(ScheduleId, u8),
}

/// The answer to "why was X refused?".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The decision itself.
    pub decision: Result<Granted, Reason>,
    /// Whether the door is known at all.
    pub door_known: bool,
    /// Kind of the holiday of that day, if it is one.
    pub holiday: Option<u8>,
    /// Every group of the holder.
    pub groups: Vec<(GroupId, Why)>,
}

/// Groups of a person, sorted; a handful without memory of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Groups {
    Few { len: u8, ids: [GroupId; FEW] },
    Many(Box<[GroupId]>),
}

const FEW: usize = 10;

impl Groups {
    fn from_sorted(sorted: &[GroupId]) -> Groups {
        if sorted.len() > FEW {
            return Groups::Many(sorted.into());
        }
        let mut ids = [GroupId(0); FEW];
        for (slot, id) in ids.iter_mut().zip(sorted) {
            *slot = *id;
        }
        Groups::Few { len: sorted.len() as u8, ids }
    }

    fn as_slice(&self) -> &[GroupId] {
        match self {
            Groups::Few { len, ids } => ids.get(..usize::from(*len)).unwrap_or(ids),
            Groups::Many(ids) => ids,
        }
    }
}

/// One day's pattern: what opens on the day itself, and until when it reaches into the day after.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Pattern {
    own: Vec<(u16, u16)>,
    tail_until: u16,
}

impl Pattern {
    fn compile(intervals: &[Interval]) -> Pattern {
        let mut pattern = Pattern::default();
        for interval in intervals {
            let (from, until) = (interval.from_minute, interval.until_minute);
            if from >= DAY_MINUTES || from == until {
                continue;
            }
            if from < until {
                pattern.own.push((from, until.min(DAY_MINUTES)));
            } else {
                pattern.own.push((from, DAY_MINUTES));
                pattern.tail_until = pattern.tail_until.max(until);
            }
        }
        pattern
    }

    fn holds(&self, minute: u16) -> bool {
        self.own.iter().any(|(from, until)| (*from..*until).contains(&minute))
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Compiled {
    week: [Pattern; 7],
    holidays: [Pattern; 3],
}

/// A day as schedules see it; an unknown holiday kind has no pattern and opens nothing.
#[derive(Clone, Copy)]
struct DayKind {
    weekday: u8,
    holiday: Option<u8>,
}

impl Compiled {
    fn pattern(&self, day: DayKind) -> Option<&Pattern> {
        match day.holiday {
            Some(kind) => self.holidays.get(usize::from(kind).checked_sub(1)?),
            None => self.week.get(usize::from(day.weekday)),
        }
    }

    fn holds(&self, before: DayKind, day: DayKind, minute: u16) -> bool {
        let tail_counts = day.holiday.is_none() || before.holiday.is_some();
        self.pattern(day).is_some_and(|p| p.holds(minute))
            || tail_counts && self.pattern(before).is_some_and(|p| minute < p.tail_until)
    }
}

/// A policy made ready for decisions; equal policies give equal indexes, whatever the way of updates.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PolicyIndex {
    doors: BTreeSet<DoorId>,
    schedules: BTreeMap<ScheduleId, Compiled>,
    group_doors: BTreeMap<(GroupId, DoorId), ScheduleId>,
    persons: FixedHashMap<PersonId, Groups>,
    holidays: BTreeMap<Day, u8>,
}

impl PolicyIndex {
    /// The index of a whole policy.
    pub fn build(policy: &Policy) -> PolicyIndex {
        let mut groups: BTreeMap<PersonId, Vec<GroupId>> = BTreeMap::new();
        let mut index = PolicyIndex {
            doors: policy.doors.keys().copied().collect(),
            holidays: policy.holidays.clone(),
            ..PolicyIndex::default()
        };
        for (id, schedule) in &policy.schedules {
            index.set_schedule(*id, Some(schedule));
        }
        for (id, group) in &policy.groups {
            for (door, schedule) in &group.doors {
                index.set_group_door(*id, *door, Some(*schedule));
            }
            for person in &group.members {
                groups.entry(*person).or_default().push(*id);
            }
        }
        index.persons = groups.into_iter().map(|(person, ids)| (person, Groups::from_sorted(&ids))).collect();
        index
    }

    /// Adds or removes a door.
    pub fn set_door(&mut self, door: DoorId, exists: bool) {
        if exists {
            self.doors.insert(door);
        } else {
            self.doors.remove(&door);
        }
    }

    /// Sets or removes a schedule.
    pub fn set_schedule(&mut self, id: ScheduleId, schedule: Option<&Schedule>) {
        match schedule {
            Some(schedule) => {
                let compiled = Compiled {
                    week: schedule.week.each_ref().map(|day| Pattern::compile(day)),
                    holidays: schedule.holidays.each_ref().map(|day| Pattern::compile(day)),
                };
                self.schedules.insert(id, compiled);
            }
            None => {
                self.schedules.remove(&id);
            }
        }
    }

    /// Sets or removes a door of a group.
    pub fn set_group_door(&mut self, group: GroupId, door: DoorId, schedule: Option<ScheduleId>) {
        match schedule {
            Some(schedule) => self.group_doors.insert((group, door), schedule),
            None => self.group_doors.remove(&(group, door)),
        };
    }

    /// Puts a person into a group or takes them out.
    pub fn set_member(&mut self, group: GroupId, person: PersonId, member: bool) {
        let mut ids = self.groups_of(person).to_vec();
        match (ids.binary_search(&group), member) {
            (Err(at), true) => ids.insert(at, group),
            (Ok(at), false) => {
                ids.remove(at);
            }
            _ => return,
        }
        if ids.is_empty() {
            self.persons.remove(&person);
        } else {
            self.persons.insert(person, Groups::from_sorted(&ids));
        }
    }

    /// Replaces or removes a whole group; takes time in proportion to all persons.
    pub fn set_group(&mut self, id: GroupId, group: Option<&Group>) {
        self.group_doors.retain(|(g, _), _| *g != id);
        let members: Vec<PersonId> = self
            .persons
            .iter()
            .filter(|(_, groups)| groups.as_slice().contains(&id))
            .map(|(person, _)| *person)
            .collect();
        for person in members {
            self.set_member(id, person, false);
        }
        let Some(group) = group else {
            return;
        };
        for (door, schedule) in &group.doors {
            self.set_group_door(id, *door, Some(*schedule));
        }
        for person in &group.members {
            self.set_member(id, *person, true);
        }
    }

    /// Makes a day a holiday of a kind (1..=3), or an ordinary day.
    pub fn set_holiday(&mut self, day: Day, kind: Option<u8>) {
        match kind {
            Some(kind) => self.holidays.insert(day, kind),
            None => self.holidays.remove(&day),
        };
    }

    /// The groups of a person, sorted.
    pub fn groups_of(&self, person: PersonId) -> &[GroupId] {
        self.persons.get(&person).map_or(&[], Groups::as_slice)
    }

    fn day_kind(&self, day: Day) -> DayKind {
        DayKind { weekday: weekday_of(day), holiday: self.holidays.get(&day).copied() }
    }

    fn why(&self, group: GroupId, door: DoorId, at: Civil) -> Why {
        let Some(id) = self.group_doors.get(&(group, door)).copied() else {
            return Why::DoorNotInGroup;
        };
        let Some(schedule) = self.schedules.get(&id) else {
            return Why::NoSuchSchedule(id);
        };
        let day = self.day_kind(at.day);
        let before = self.day_kind(Day(at.day.0.saturating_sub(1)));
        if schedule.holds(before, day, at.minute) {
            return Why::Opens(id);
        }
        let ordinary = DayKind { holiday: None, ..day };
        match day.holiday {
            Some(kind) if schedule.holds(before, ordinary, at.minute) => Why::Holiday(id, kind),
            _ => Why::OutsideTime(id),
        }
    }
}

/// Whether a door opens for a holder; the weekday follows from `at.day`.
///
/// Errors: `NotActive` (status or validity), `NoDoorRight` (unknown door, or in no group of the holder),
/// `OutsideDoorTime` (in a group, but no schedule holds).
pub fn decide(policy: &PolicyIndex, door: DoorId, holder: &Holder, at: Civil) -> Result<Granted, Reason> {
    let (first, last) = holder.valid;
    let in_days = first.is_none_or(|f| f <= at.day) && last.is_none_or(|l| at.day <= l);
    if holder.status != PersonStatus::Active || !in_days {
        return Err(Reason::NotActive);
    }
    if !policy.doors.contains(&door) {
        return Err(Reason::NoDoorRight);
    }
    let mut refusal = Reason::NoDoorRight;
    for group in policy.groups_of(holder.person).iter().copied() {
        match policy.why(group, door, at) {
            Why::Opens(_) => return Ok(Granted { group }),
            Why::DoorNotInGroup => {}
            _ => refusal = Reason::OutsideDoorTime,
        }
    }
    Err(refusal)
}

/// The decision with what every group of the holder says to it.
pub fn explain(policy: &PolicyIndex, door: DoorId, holder: &Holder, at: Civil) -> Explanation {
    Explanation {
        decision: decide(policy, door, holder, at),
        door_known: policy.doors.contains(&door),
        holiday: policy.holidays.get(&at.day).copied(),
        groups: policy.groups_of(holder.person).iter().map(|group| (*group, policy.why(*group, door, at))).collect(),
    }
}

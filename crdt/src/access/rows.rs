//! A campus' policy as rows, a row per value, and the same values brought into the index that doors decide from.
//!
//! Leaves to others: the documents the values come from (`docs`), when rows are written (`mesh`).

use super::{Access, Door, GroupId, Policy, Schedule, ScheduleId};
use crate::docs::PolicyPatch;
use crate::ids::{CampusId, Day, DoorId, PersonId, TerminalId};
use crate::keys;
use serde::{Deserialize, Serialize};

/// One value of a policy; what is not there any more says so and has no row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PolicyItem {
    /// A door.
    Door(DoorId, Option<Door>),
    /// A schedule.
    Schedule(ScheduleId, Option<Schedule>),
    /// The name of a group.
    GroupName(GroupId, Option<String>),
    /// A door of a group, with the schedule that holds.
    GroupDoor(GroupId, DoorId, Option<ScheduleId>),
    /// Whether a person is in a group.
    Member(GroupId, PersonId, bool),
    /// The kind of a holiday.
    Holiday(Day, Option<u8>),
    /// The desired value of a terminal's parameter.
    Parameter(TerminalId, String, Option<String>),
}

impl PolicyItem {
    /// The key of its row.
    pub fn key(&self, campus: CampusId) -> Vec<u8> {
        let mut key = keys::policy(campus);
        match self {
            PolicyItem::Door(door, _) => extend(&mut key, b'd', &[&door.0.to_be_bytes()]),
            PolicyItem::Schedule(id, _) => extend(&mut key, b's', &[&id.0.to_be_bytes()]),
            PolicyItem::GroupName(id, _) => extend(&mut key, b'n', &[&id.0.to_be_bytes()]),
            PolicyItem::GroupDoor(id, door, _) => {
                extend(&mut key, b'g', &[&id.0.to_be_bytes(), &door.0.to_be_bytes()]);
            }
            PolicyItem::Member(id, person, _) => {
                extend(&mut key, b'm', &[&id.0.to_be_bytes(), &person.0.to_be_bytes()]);
            }
            PolicyItem::Holiday(day, _) => extend(&mut key, b'h', &[&day.0.to_be_bytes()]),
            PolicyItem::Parameter(terminal, name, _) => {
                extend(&mut key, b't', &[&terminal.0.to_be_bytes(), name.as_bytes()]);
            }
        }
        key
    }

    /// Whether it says that the value is not there any more.
    pub fn is_gone(&self) -> bool {
        match self {
            PolicyItem::Door(_, value) => value.is_none(),
            PolicyItem::Schedule(_, value) => value.is_none(),
            PolicyItem::GroupName(_, value) => value.is_none(),
            PolicyItem::GroupDoor(_, _, value) => value.is_none(),
            PolicyItem::Member(_, _, member) => !member,
            PolicyItem::Holiday(_, value) => value.is_none(),
            PolicyItem::Parameter(_, _, value) => value.is_none(),
        }
    }

    /// Brings it into a whole policy, for pages; terminal parameters are not part of one.
    pub fn apply_to(&self, policy: &mut Policy) {
        let mut patch = PolicyPatch::default();
        match self.clone() {
            PolicyItem::Door(id, value) => drop(patch.doors.insert(id, value)),
            PolicyItem::Schedule(id, value) => drop(patch.schedules.insert(id, value)),
            PolicyItem::GroupName(id, value) => drop(patch.group_names.insert(id, value)),
            PolicyItem::GroupDoor(id, door, value) => drop(patch.group_doors.insert((id, door), value)),
            PolicyItem::Member(id, person, member) => drop(patch.members.insert((id, person), member)),
            PolicyItem::Holiday(day, value) => drop(patch.holidays.insert(day, value)),
            PolicyItem::Parameter(..) => {}
        }
        patch.apply_to(policy);
    }
}

fn extend(key: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    key.push(tag);
    for part in parts {
        key.extend_from_slice(part);
    }
}

impl PolicyPatch {
    /// Its values one by one.
    pub fn into_items(self) -> impl Iterator<Item = PolicyItem> {
        let doors = self.doors.into_iter().map(|(id, door)| PolicyItem::Door(id, door));
        let schedules = self.schedules.into_iter().map(|(id, schedule)| PolicyItem::Schedule(id, schedule));
        let names = self.group_names.into_iter().map(|(id, name)| PolicyItem::GroupName(id, name));
        let group_doors = self.group_doors.into_iter().map(|((id, door), s)| PolicyItem::GroupDoor(id, door, s));
        let members = self.members.into_iter().map(|((id, person), m)| PolicyItem::Member(id, person, m));
        let holidays = self.holidays.into_iter().map(|(day, kind)| PolicyItem::Holiday(day, kind));
        let parameters = self.parameters.into_iter().map(|((t, name), v)| PolicyItem::Parameter(t, name, v));
        doors.chain(schedules).chain(names).chain(group_doors).chain(members).chain(holidays).chain(parameters)
    }
}

impl Access {
    /// Brings one value up to date.
    pub fn apply(&mut self, item: PolicyItem) {
        let index = &mut self.index;
        match item {
            PolicyItem::Door(id, door) => {
                index.set_door(id, door.is_some());
                match door {
                    Some(door) => self.doors.insert(id, door),
                    None => self.doors.remove(&id),
                };
            }
            PolicyItem::Schedule(id, schedule) => index.set_schedule(id, schedule.as_ref()),
            PolicyItem::GroupDoor(id, door, schedule) => index.set_group_door(id, door, schedule),
            PolicyItem::Member(id, person, member) => index.set_member(id, person, member),
            PolicyItem::Holiday(day, kind) => index.set_holiday(day, kind),
            PolicyItem::GroupName(..) | PolicyItem::Parameter(..) => {}
        }
    }
}

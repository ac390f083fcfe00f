//! Access policy of a campus as plain values: doors, schedules, groups and who is in them.
//!
//! Leaves to others: how the values are edited and merged (`docs`), relays and contacts (drivers).

pub mod check;
pub mod index;
pub mod rows;
pub mod shared;

pub use check::PolicyError;
pub use index::{Explanation, Granted, Holder, PolicyIndex, Why, decide, explain};
pub use rows::PolicyItem;
pub use shared::{Access, SharedAccess};

use crate::ids::{CampusId, Day, DoorId, PersonId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most intervals in one day of a schedule.
pub const INTERVALS_MAX: usize = 3;

/// A stretch of a day in minutes, `from <= minute < until`; may cross midnight (`until < from`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// First minute.
    pub from_minute: u16,
    /// First minute after.
    pub until_minute: u16,
}

/// Number of a schedule within a campus.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScheduleId(pub u16);

/// Number of an access group within a campus.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u16);

/// When something is allowed: a weekly pattern, and patterns of up to three holiday kinds that replace it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Schedule {
    /// Name as shown.
    pub name: String,
    /// Monday … Sunday.
    pub week: [Vec<Interval>; 7],
    /// Holiday kinds 1..=3.
    pub holidays: [Vec<Interval>; 3],
}

/// How a door is driven and timed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Door {
    /// Name as shown.
    pub name: String,
    /// Areas it joins: outside, inside.
    pub areas: (String, String),
    /// Lock pulse in milliseconds.
    pub pulse_ms: u32,
    /// Held-open alarm after so many milliseconds; longer than the pulse.
    pub held_open_ms: u32,
    /// Driver and place, as the edge's configuration names them: `modbus:board1/1`.
    pub device: String,
}

/// Which doors a group opens, and when.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Group {
    /// Name as shown.
    pub name: String,
    /// Doors with the schedule that holds for the group.
    pub doors: BTreeMap<DoorId, ScheduleId>,
    /// Members by person.
    pub members: BTreeSet<PersonId>,
}

/// All of a campus' access policy.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Policy {
    /// The campus.
    pub campus: Option<CampusId>,
    /// Doors.
    pub doors: BTreeMap<DoorId, Door>,
    /// Schedules.
    pub schedules: BTreeMap<ScheduleId, Schedule>,
    /// Groups; several groups add up.
    pub groups: BTreeMap<GroupId, Group>,
    /// Days that replace the weekday pattern, with their holiday kind 1..=3.
    pub holidays: BTreeMap<Day, u8>,
}

#[cfg(test)]
mod tests;

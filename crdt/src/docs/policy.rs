//! Policy documents: doors, schedules, groups, members, holidays, terminal parameters; a key each, merged on its own.
//!
//! A member is a key whose presence is the membership, so that concurrent additions and removals of different people
//! all hold. Leaves to others: deciding by the policy (`access` users), driving doors.

use super::act::{ActError, NAME_BYTES_MAX, Write, check_day, check_text};
use super::chunk::Value;
use super::people::{text, uint};
use super::view::Fields;
use crate::access::{Door, Group, GroupId, INTERVALS_MAX, Interval, Policy, Schedule, ScheduleId};
use crate::civil::DAY_MINUTES;
use crate::ids::{Day, DoorId, PersonId, TerminalId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most members or doors that one act adds to a group.
pub const GROUP_ITEMS_MAX: usize = 64;
/// Longest lock pulse and held-open time.
pub const DOOR_MS_MAX: u32 = 3_600_000;

/// What happens to a campus' policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PolicyAct {
    /// A door is there, so.
    SetDoor(DoorId, Door),
    /// A door is gone.
    RemoveDoor(DoorId),
    /// A schedule reads so.
    SetSchedule(ScheduleId, Schedule),
    /// A schedule is gone: it opens nothing.
    RemoveSchedule(ScheduleId),
    /// A group is called so.
    SetGroupName(GroupId, String),
    /// A group opens these doors by these schedules; other doors stay.
    AddGroupDoors(GroupId, Vec<(DoorId, ScheduleId)>),
    /// A group does not open these doors.
    RemoveGroupDoors(GroupId, Vec<DoorId>),
    /// These persons are in the group.
    AddMembers(GroupId, Vec<PersonId>),
    /// These persons are not in the group.
    RemoveMembers(GroupId, Vec<PersonId>),
    /// The group is gone, with its doors and members; of more than about 400 members remove most before, in steps.
    RemoveGroup(GroupId),
    /// A day is a holiday of kind 1..=3, or an ordinary day.
    SetHoliday(Day, Option<u8>),
    /// The desired value of a terminal's parameter.
    SetParameter(TerminalId, String, Option<String>),
}

/// What changed, as plain values; `None` means gone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PolicyPatch {
    /// Doors touched.
    pub doors: BTreeMap<DoorId, Option<Door>>,
    /// Schedules touched.
    pub schedules: BTreeMap<ScheduleId, Option<Schedule>>,
    /// Names of groups touched.
    pub group_names: BTreeMap<GroupId, Option<String>>,
    /// Doors of groups touched.
    pub group_doors: BTreeMap<(GroupId, DoorId), Option<ScheduleId>>,
    /// Members touched: in or out.
    pub members: BTreeMap<(GroupId, PersonId), bool>,
    /// Holidays touched.
    pub holidays: BTreeMap<Day, Option<u8>>,
    /// Desired terminal parameters touched.
    pub parameters: BTreeMap<(TerminalId, String), Option<String>>,
}

impl PolicyPatch {
    /// How many values it is.
    pub fn len(&self) -> usize {
        let groups = self.group_names.len() + self.group_doors.len() + self.members.len();
        self.doors.len() + self.schedules.len() + groups + self.holidays.len() + self.parameters.len()
    }

    /// Whether it touches nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Brings a policy up to date. Terminal parameters are not part of it.
    pub fn apply_to(&self, policy: &mut Policy) {
        set_all(&mut policy.doors, &self.doors);
        set_all(&mut policy.schedules, &self.schedules);
        set_all(&mut policy.holidays, &self.holidays);
        let mut groups = BTreeSet::new();
        let mut group = |id: GroupId| -> GroupId {
            groups.insert(id);
            id
        };
        for (id, name) in &self.group_names {
            policy.groups.entry(group(*id)).or_default().name = name.clone().unwrap_or_default();
        }
        for ((id, door), schedule) in &self.group_doors {
            let doors = &mut policy.groups.entry(group(*id)).or_default().doors;
            match schedule {
                Some(schedule) => doors.insert(*door, *schedule),
                None => doors.remove(door),
            };
        }
        for ((id, person), member) in &self.members {
            let members = &mut policy.groups.entry(group(*id)).or_default().members;
            match member {
                true => members.insert(*person),
                false => members.remove(person),
            };
        }
        for id in groups {
            if policy.groups.get(&id) == Some(&Group::default()) {
                policy.groups.remove(&id);
            }
        }
    }
}

fn set_all<K: Ord + Copy, V: Clone>(into: &mut BTreeMap<K, V>, from: &BTreeMap<K, Option<V>>) {
    for (key, value) in from {
        match value {
            Some(value) => into.insert(*key, value.clone()),
            None => into.remove(key),
        };
    }
}

pub(super) fn writes(act: &PolicyAct, out: &mut Vec<Write>) -> Result<(), ActError> {
    match act {
        PolicyAct::SetDoor(id, door) => door_writes(*id, door, out)?,
        PolicyAct::RemoveDoor(id) => out.push(Write::DeleteUnder(format!("d/{}/", id.0))),
        PolicyAct::SetSchedule(id, schedule) => schedule_writes(*id, schedule, out)?,
        PolicyAct::RemoveSchedule(id) => out.push(Write::DeleteUnder(format!("s/{}/", id.0))),
        PolicyAct::SetGroupName(id, name) => {
            check_text("group name", name)?;
            out.push(Write::Put(format!("g/{}/n", id.0), Value::Text(name.clone())));
        }
        PolicyAct::AddGroupDoors(id, doors) => {
            items(doors.len())?;
            let put =
                |(d, s): &(DoorId, ScheduleId)| Write::Put(format!("g/{}/d/{}", id.0, d.0), Value::Uint(s.0.into()));
            out.extend(doors.iter().map(put));
        }
        PolicyAct::RemoveGroupDoors(id, doors) => {
            items(doors.len())?;
            out.extend(doors.iter().map(|d| Write::Delete(format!("g/{}/d/{}", id.0, d.0))));
        }
        PolicyAct::AddMembers(id, persons) => {
            items(persons.len())?;
            out.extend(persons.iter().map(|p| Write::Put(member_key(*id, *p), Value::True)));
        }
        PolicyAct::RemoveMembers(id, persons) => {
            items(persons.len())?;
            out.extend(persons.iter().map(|p| Write::Delete(member_key(*id, *p))));
        }
        PolicyAct::RemoveGroup(id) => out.push(Write::DeleteUnder(format!("g/{}/", id.0))),
        PolicyAct::SetHoliday(day, kind) => {
            check_day("holiday", day.0)?;
            let key = format!("h/{}", day.0);
            out.push(match kind {
                Some(kind @ 1..=3) => Write::Put(key, Value::Uint((*kind).into())),
                Some(_) => return Err(ActError::Range("holiday kind")),
                None => Write::Delete(key),
            });
        }
        PolicyAct::SetParameter(terminal, name, value) => {
            let word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !word {
                return Err(ActError::Text("parameter name"));
            }
            check_text("parameter", value.as_deref().unwrap_or_default())?;
            let key = format!("t/{}/{name}", terminal.0);
            super::act::put_or_delete(out, key, value.clone().map(Value::Text));
        }
    }
    Ok(())
}

fn items(count: usize) -> Result<(), ActError> {
    match (1..=GROUP_ITEMS_MAX).contains(&count) {
        true => Ok(()),
        false => Err(ActError::Range("number of doors or members (1 to 64 at once)")),
    }
}

fn member_key(group: GroupId, person: PersonId) -> String {
    format!("g/{}/m/{:x}", group.0, person.0)
}

fn door_writes(id: DoorId, door: &Door, out: &mut Vec<Write>) -> Result<(), ActError> {
    let put = |field: &str, value| Write::Put(format!("d/{}/{field}", id.0), value);
    for (what, field, value) in [
        ("door name", "n", &door.name),
        ("area", "o", &door.areas.0),
        ("area", "i", &door.areas.1),
        ("device", "v", &door.device),
    ] {
        check_text(what, value)?;
        out.push(put(field, Value::Text(value.clone())));
    }
    if door.pulse_ms > DOOR_MS_MAX || door.held_open_ms > DOOR_MS_MAX {
        return Err(ActError::Range("door time"));
    }
    out.push(put("p", Value::Uint(door.pulse_ms.into())));
    out.push(put("h", Value::Uint(door.held_open_ms.into())));
    Ok(())
}

fn schedule_writes(id: ScheduleId, schedule: &Schedule, out: &mut Vec<Write>) -> Result<(), ActError> {
    check_text("schedule name", &schedule.name)?;
    let put = |field: String, value| Write::Put(format!("s/{}/{field}", id.0), value);
    out.push(put("n".to_owned(), Value::Text(schedule.name.clone())));
    for (i, day) in schedule.week.iter().chain(&schedule.holidays).enumerate() {
        let bad = |i: &Interval| i.from_minute > DAY_MINUTES || i.until_minute > DAY_MINUTES;
        if day.len() > INTERVALS_MAX || day.iter().any(bad) {
            return Err(ActError::Range("interval"));
        }
        let bytes = day.iter().flat_map(|i| [i.from_minute.to_be_bytes(), i.until_minute.to_be_bytes()]);
        out.push(put(i.to_string(), Value::Bytes(bytes.flatten().collect())));
    }
    Ok(())
}

/// Projects the parts that the keys are about.
pub(super) fn project<F: Fields>(doc: &F, keys: &BTreeSet<String>) -> PolicyPatch {
    let mut patch = PolicyPatch::default();
    for key in keys {
        project_key(doc, key, &mut patch);
    }
    patch
}

fn project_key<F: Fields>(doc: &F, key: &str, patch: &mut PolicyPatch) -> Option<()> {
    let mut parts = key.splitn(4, '/');
    let (kind, id) = (parts.next()?, parts.next()?);
    match (kind, parts.next(), parts.next()) {
        ("d", Some(_), None) => {
            let id = DoorId(id.parse().ok()?);
            let door = || door_in(&fields(doc, &format!("d/{}/", id.0)));
            patch.doors.entry(id).or_insert_with(door);
        }
        ("s", Some(_), None) => {
            let id = ScheduleId(id.parse().ok()?);
            let schedule = || schedule_in(&fields(doc, &format!("s/{}/", id.0)));
            patch.schedules.entry(id).or_insert_with(schedule);
        }
        ("g", Some("n"), None) => {
            let name = match doc.field(key) {
                Some(Value::Text(name)) => Some(name),
                _ => None,
            };
            patch.group_names.insert(GroupId(id.parse().ok()?), name);
        }
        ("g", Some("d"), Some(door)) => {
            let schedule = match doc.field(key) {
                Some(Value::Uint(n)) => u16::try_from(n).ok().map(ScheduleId),
                _ => None,
            };
            let at = (GroupId(id.parse().ok()?), DoorId(door.parse().ok()?));
            patch.group_doors.insert(at, schedule);
        }
        ("g", Some("m"), Some(person)) => {
            let person = PersonId(u64::from_str_radix(person, 16).ok()?);
            let member = doc.field(key) == Some(Value::True);
            patch.members.insert((GroupId(id.parse().ok()?), person), member);
        }
        ("h", None, None) => {
            let kind = match doc.field(key) {
                Some(Value::Uint(kind @ 1..=3)) => Some(kind as u8),
                _ => None,
            };
            patch.holidays.insert(Day(id.parse().ok()?), kind);
        }
        ("t", Some(name), None) => {
            let value = match doc.field(key) {
                Some(Value::Text(value)) => Some(value),
                _ => None,
            };
            patch.parameters.insert((TerminalId(id.parse().ok()?), name.to_owned()), value);
        }
        _ => {}
    }
    Some(())
}

fn fields<F: Fields>(doc: &F, prefix: &str) -> BTreeMap<String, Value> {
    let rest = |(key, value): (String, Value)| Some((key.strip_prefix(prefix)?.to_owned(), value));
    doc.under(prefix).into_iter().filter_map(rest).collect()
}

fn door_in(fields: &BTreeMap<String, Value>) -> Option<Door> {
    let ms = |field| uint(fields, field).map(|n| n.min(DOOR_MS_MAX.into()) as u32);
    Some(Door {
        name: text(fields, "n")?,
        areas: (text(fields, "o")?, text(fields, "i")?),
        pulse_ms: ms("p")?,
        held_open_ms: ms("h")?,
        device: text(fields, "v")?,
    })
}

fn schedule_in(fields: &BTreeMap<String, Value>) -> Option<Schedule> {
    let mut schedule = Schedule { name: text(fields, "n")?, ..Schedule::default() };
    for (i, day) in schedule.week.iter_mut().chain(&mut schedule.holidays).enumerate() {
        if let Some(Value::Bytes(bytes)) = fields.get(&i.to_string()) {
            *day = bytes.chunks_exact(4).take(INTERVALS_MAX).map(interval).collect();
        }
    }
    Some(schedule)
}

fn interval(bytes: &[u8]) -> Interval {
    let minute = |at: usize| {
        let pair = bytes.get(at..at + 2).and_then(|b| b.try_into().ok());
        u16::from_be_bytes(pair.unwrap_or_default()).min(DAY_MINUTES)
    };
    Interval { from_minute: minute(0), until_minute: minute(2) }
}

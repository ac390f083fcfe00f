//! A campus' access policy (门禁) as a file that people write: doors, schedules, groups with their members, holidays.
//!
//! What a file names is set, what it does not name stays, what stands under `[remove]` goes; the doors of a group that it
//! names are the group's doors. Only the differences to the
//! policy in force become acts, so the same file twice changes nothing. `yika-hub access show` writes the same form. Pure;
//! leaves to others: who the staff numbers are (`desk`), storing and merging (`crdt::docs`).

mod rules;

pub use rules::{Rule, Rules, category_word, follow};

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use yika_crdt::access::{Door, GroupId, Interval, Policy, PolicyError, Schedule, ScheduleId};
use yika_crdt::civil::{self, DAY_MINUTES};
use yika_crdt::docs::PolicyAct;
use yika_crdt::docs::policy::GROUP_ITEMS_MAX;
use yika_crdt::ids::*;

/// Most rows of one table of a file.
pub const ROWS_MAX: usize = 10_000;
/// Most members that one file names.
pub const MEMBERS_MAX: usize = 100_000;
/// Staff numbers shown of those that nobody has.
const UNKNOWN_SHOWN_MAX: usize = 10;

/// What a file says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessSheet {
    /// What goes.
    #[serde(skip_serializing_if = "Removed::is_empty")]
    pub remove: Removed,
    /// When something is allowed.
    pub schedules: Vec<ScheduleRow>,
    /// Doors.
    pub doors: Vec<DoorRow>,
    /// Who may pass where, and when.
    pub groups: Vec<GroupRow>,
    /// Days that replace the weekday.
    pub holidays: Vec<HolidayRow>,
}

/// What goes, by number.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Removed {
    /// Doors.
    pub doors: Vec<u32>,
    /// Schedules.
    pub schedules: Vec<u16>,
    /// Groups with their members.
    pub groups: Vec<u16>,
    /// Days as `2027-01-01` that are ordinary days again.
    pub holidays: Vec<Date>,
}

impl Removed {
    fn is_empty(&self) -> bool {
        *self == Removed::default()
    }
}

/// A schedule: stretches of each day.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRow {
    /// Its number.
    pub id: u16,
    /// Its name as shown.
    pub name: String,
    /// Monday to Sunday, unless a day of its own says otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub every_day: Vec<Span>,
    /// Days of their own: an empty list is closed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub days: BTreeMap<DayName, Vec<Span>>,
}

/// A weekday, or a kind of holiday.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // Their names say it.
pub enum DayName {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
    /// Holiday of kind 1.
    Holiday1,
    /// Holiday of kind 2.
    Holiday2,
    /// Holiday of kind 3.
    Holiday3,
}

const DAY_NAMES: [DayName; 10] = {
    use DayName::*;
    [Mon, Tue, Wed, Thu, Fri, Sat, Sun, Holiday1, Holiday2, Holiday3]
};

/// A door.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorRow {
    /// Its number.
    pub id: u32,
    /// Its name as shown.
    pub name: String,
    /// The area one comes from.
    pub outside: String,
    /// The area one enters.
    pub inside: String,
    /// Driver and place as the box's settings name them: `modbus:board1/1`.
    pub device: String,
    /// How long the lock is released.
    #[serde(default = "pulse_ms")]
    pub pulse_ms: u32,
    /// Alarm when it stands open so long.
    #[serde(default = "held_open_ms")]
    pub held_open_ms: u32,
}

fn pulse_ms() -> u32 {
    500
}

fn held_open_ms() -> u32 {
    15_000
}

/// Who may pass where, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRow {
    /// Its number.
    pub id: u16,
    /// Its name as shown.
    pub name: String,
    /// All doors of the group, each with the number of the schedule that holds; they stay as they are when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doors: Option<Vec<GroupDoor>>,
    /// Staff numbers that join; `c2/0012` for a person of another campus.
    #[serde(default)]
    pub members: Vec<String>,
    /// Everybody of these categories on this campus is a member as long as he is of them; the categories of the group
    /// stay as they are when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_categories: Option<Vec<String>>,
    /// Staff numbers that leave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_members: Vec<String>,
}

/// A door of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupDoor {
    /// The door.
    pub door: u32,
    /// When.
    pub schedule: u16,
}

/// A day that replaces the weekday.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HolidayRow {
    /// The day.
    pub date: Date,
    /// Its kind, 1 to 3.
    pub kind: u8,
}

/// A stretch of a day, written `07:00-22:30`; `22:00-06:00` crosses midnight, `00:00-24:00` is the whole day.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Interval);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let minute = |clock: &str| -> Option<u16> {
            let (hour, minute) = clock.trim().split_once(':')?;
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            let at = hour.checked_mul(60)?.checked_add(minute)?;
            (minute < 60 && at <= DAY_MINUTES).then_some(at)
        };
        let ends = text.split_once('-').and_then(|(from, until)| Some((minute(from)?, minute(until)?)));
        match ends {
            Some((from_minute, until_minute)) if from_minute < DAY_MINUTES && from_minute != until_minute => {
                Ok(Span(Interval { from_minute, until_minute }))
            }
            _ => Err(format!("{text:?} is no stretch of a day; write it as in \"07:00-22:30\"")),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Span, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(Span(Interval { from_minute: f, until_minute: u }): Span) -> String {
        format!("{:02}:{:02}-{:02}:{:02}", f / 60, f % 60, u / 60, u % 60)
    }
}

/// A day, written `2027-01-01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Date(pub Day);

impl TryFrom<String> for Date {
    type Error = String;

    fn try_from(text: String) -> Result<Date, String> {
        let format = time::macros::format_description!("[year]-[month]-[day]");
        let date = time::Date::parse(&text, format).ok().map(|date| Date(civil::day_of(date)));
        // A year with a sign may not be written as it is read.
        date.filter(|date| String::from(*date) == text)
            .ok_or_else(|| format!("{text:?} is no day; write it as in \"2027-01-01\""))
    }
}

impl From<Date> for String {
    fn from(date: Date) -> String {
        date.0.to_string()
    }
}

/// What is wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccessProblem {
    /// What the policy would be is not sound.
    Policy(PolicyError),
    /// A number stands twice in a table.
    Twice {
        /// The table.
        table: &'static str,
        /// The number.
        id: u32,
    },
    /// Nobody has these staff numbers.
    UnknownStaff {
        /// The group.
        group: u16,
        /// How many.
        count: usize,
        /// The first of them.
        numbers: String,
    },
    /// No such category of people.
    UnknownCategory {
        /// The group.
        group: u16,
        /// The word.
        category: String,
    },
    /// Something to be removed is not there.
    NotThere {
        /// The table.
        table: &'static str,
        /// The number.
        id: u32,
    },
    /// Something is set and removed at once.
    SetAndRemoved {
        /// The table.
        table: &'static str,
        /// The number.
        id: u32,
    },
    /// More rows or members than one file may have.
    TooMany {
        /// The table.
        table: &'static str,
        /// How many are allowed.
        most: usize,
    },
}

/// Who is meant by what a file says of people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    /// By staff number as written.
    pub staff: BTreeMap<String, PersonId>,
    /// By the word of their category.
    pub categories: BTreeMap<String, Vec<PersonId>>,
}

/// What a file changes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Changes {
    /// Doors set or gone.
    pub doors: usize,
    /// Schedules set or gone.
    pub schedules: usize,
    /// Groups whose name or doors change, or gone.
    pub groups: usize,
    /// Members that join.
    pub members_in: usize,
    /// Members that leave.
    pub members_out: usize,
    /// Holidays set or gone.
    pub holidays: usize,
}

impl AccessSheet {
    /// Every staff number that the file names.
    pub fn staff(&self) -> BTreeSet<&str> {
        self.groups.iter().flat_map(|g| g.members.iter().chain(&g.remove_members)).map(String::as_str).collect()
    }

    /// Every category that the file names.
    pub fn categories(&self) -> BTreeSet<&str> {
        self.groups.iter().flat_map(|g| g.member_categories.iter().flatten()).map(String::as_str).collect()
    }

    /// The acts that bring `now` to what the file says, with what they change and the rules from there on.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn plan(&self, now: &Policy, rules: &Rules, who: &Members) -> Result<Plan, Vec<AccessProblem>> {
        let mut problems = self.shape_problems(now);
        problems.extend(self.people_problems(who));
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut plan = Plan { policy: now.clone(), rules: rules.clone(), ..Plan::default() };
        self.schedules.iter().for_each(|row| plan.schedule(row));
        self.doors.iter().for_each(|row| plan.door(row));
        self.groups.iter().for_each(|row| plan.group(row, who));
        self.holidays.iter().for_each(|row| plan.holiday(row.date.0, Some(row.kind)));
        plan.remove(&self.remove);
        match plan.policy.validate() {
            Ok(()) => Ok(plan),
            Err(errors) => Err(errors.into_iter().map(AccessProblem::Policy).collect()),
        }
    }

    fn shape_problems(&self, now: &Policy) -> Vec<AccessProblem> {
        let mut problems = Vec::new();
        let doors: Vec<u32> = self.doors.iter().map(|row| row.id).collect();
        let schedules: Vec<u32> = self.schedules.iter().map(|row| row.id.into()).collect();
        let groups: Vec<u32> = self.groups.iter().map(|row| row.id.into()).collect();
        let of = |ids: &[u16]| ids.iter().map(|id| u32::from(*id)).collect::<Vec<u32>>();
        let gone = &self.remove;
        let removed = [gone.doors.clone(), of(&gone.schedules), of(&gone.groups)];
        let tables = [("doors", doors), ("schedules", schedules), ("groups", groups)];
        for ((table, ids), removed) in tables.into_iter().zip(removed) {
            let both = ids.iter().filter(|id| removed.contains(id));
            problems.extend(both.map(|id| AccessProblem::SetAndRemoved { table, id: *id }));
            let mut seen = BTreeSet::new();
            problems
                .extend(ids.iter().filter(|id| !seen.insert(**id)).map(|id| AccessProblem::Twice { table, id: *id }));
            if ids.len() > ROWS_MAX {
                problems.push(AccessProblem::TooMany { table, most: ROWS_MAX });
            }
        }
        let members = self.groups.iter().map(|g| g.members.len().saturating_add(g.remove_members.len()));
        if members.sum::<usize>() > MEMBERS_MAX {
            problems.push(AccessProblem::TooMany { table: "members", most: MEMBERS_MAX });
        }
        let not_there = |table, id| AccessProblem::NotThere { table, id };
        let missing = gone.doors.iter().filter(|id| !now.doors.contains_key(&DoorId(**id)));
        problems.extend(missing.map(|id| not_there("doors", *id)));
        let missing = gone.schedules.iter().filter(|id| !now.schedules.contains_key(&ScheduleId(**id)));
        problems.extend(missing.map(|id| not_there("schedules", u32::from(*id))));
        let missing = gone.groups.iter().filter(|id| !now.groups.contains_key(&GroupId(**id)));
        problems.extend(missing.map(|id| not_there("groups", u32::from(*id))));
        problems
    }

    fn people_problems(&self, who: &Members) -> Vec<AccessProblem> {
        let mut problems = Vec::new();
        for row in &self.groups {
            let named = row.members.iter().chain(&row.remove_members);
            let unknown: Vec<&str> = named.map(String::as_str).filter(|n| !who.staff.contains_key(*n)).collect();
            if !unknown.is_empty() {
                let numbers = unknown.iter().take(UNKNOWN_SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
                problems.push(AccessProblem::UnknownStaff { group: row.id, count: unknown.len(), numbers });
            }
            let categories = row.member_categories.iter().flatten();
            for category in categories.filter(|written| category_word(written).is_none()) {
                problems.push(AccessProblem::UnknownCategory { group: row.id, category: category.clone() });
            }
        }
        problems
    }

    /// A policy in force, as a file: groups that were filled by categories by these categories.
    pub fn of(policy: &Policy, rules: &Rules, who: &Members, staff_number: impl Fn(PersonId) -> String) -> AccessSheet {
        let schedule = |(id, schedule): (&ScheduleId, &Schedule)| ScheduleRow {
            id: id.0,
            name: schedule.name.clone(),
            every_day: Vec::new(),
            days: DAY_NAMES.into_iter().zip(days_of(schedule)).filter(|(_, day)| !day.is_empty()).collect(),
        };
        let door = |(id, door): (&DoorId, &Door)| DoorRow {
            id: id.0,
            name: door.name.clone(),
            outside: door.areas.0.clone(),
            inside: door.areas.1.clone(),
            device: door.device.clone(),
            pulse_ms: door.pulse_ms,
            held_open_ms: door.held_open_ms,
        };
        let numbers = |persons: &BTreeSet<PersonId>| persons.iter().map(|person| staff_number(*person)).collect();
        let group = |(id, group): (&GroupId, &yika_crdt::access::Group)| {
            let rule = rules.get(id);
            let by_rule = rule.map(|rule| &rule.of_categories(&who.categories) - &rule.named).unwrap_or_default();
            GroupRow {
                id: id.0,
                name: group.name.clone(),
                doors: Some(group.doors.iter().map(|(door, s)| GroupDoor { door: door.0, schedule: s.0 }).collect()),
                members: numbers(&(&group.members - &by_rule)),
                member_categories: rule.map(|rule| rule.categories.iter().cloned().collect()),
                remove_members: rule.map(|rule| numbers(&rule.out)).unwrap_or_default(),
            }
        };
        AccessSheet {
            remove: Removed::default(),
            schedules: policy.schedules.iter().map(schedule).collect(),
            doors: policy.doors.iter().map(door).collect(),
            groups: policy.groups.iter().map(group).collect(),
            holidays: policy.holidays.iter().map(|(day, kind)| HolidayRow { date: Date(*day), kind: *kind }).collect(),
        }
    }
}

fn days_of(schedule: &Schedule) -> impl Iterator<Item = Vec<Span>> {
    schedule.week.iter().chain(&schedule.holidays).map(|day| day.iter().copied().map(Span).collect())
}

impl ScheduleRow {
    fn schedule(&self) -> Schedule {
        let mut schedule = Schedule { name: self.name.clone(), ..Schedule::default() };
        let days =
            schedule.week.iter_mut().map(|day| (day, true)).chain(schedule.holidays.iter_mut().map(|day| (day, false)));
        for (name, (day, is_weekday)) in DAY_NAMES.into_iter().zip(days) {
            let spans = self.days.get(&name).or(is_weekday.then_some(&self.every_day));
            *day = spans.into_iter().flatten().map(|span| span.0).collect();
        }
        schedule
    }
}

impl Changes {
    /// Its numbers by name, for whoever words them.
    pub fn facts(&self) -> [(&'static str, usize); 6] {
        let Changes { doors, schedules, groups, members_in, members_out, holidays } = *self;
        [
            ("doors", doors),
            ("schedules", schedules),
            ("groups", groups),
            ("holidays", holidays),
            ("joined", members_in),
            ("left", members_out),
        ]
    }
}

/// The acts so far, and what they lead to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// The acts.
    pub acts: Vec<PolicyAct>,
    /// What they change.
    pub changes: Changes,
    /// The groups' categories from there on.
    pub rules: Rules,
    policy: Policy,
}

impl Plan {
    fn schedule(&mut self, row: &ScheduleRow) {
        let (id, schedule) = (ScheduleId(row.id), row.schedule());
        if self.policy.schedules.get(&id) != Some(&schedule) {
            self.policy.schedules.insert(id, schedule.clone());
            self.acts.push(PolicyAct::SetSchedule(id, schedule));
            self.changes.schedules += 1;
        }
    }

    fn door(&mut self, row: &DoorRow) {
        let door = Door {
            name: row.name.clone(),
            areas: (row.outside.clone(), row.inside.clone()),
            pulse_ms: row.pulse_ms,
            held_open_ms: row.held_open_ms,
            device: row.device.clone(),
        };
        let id = DoorId(row.id);
        if self.policy.doors.get(&id) != Some(&door) {
            self.policy.doors.insert(id, door.clone());
            self.acts.push(PolicyAct::SetDoor(id, door));
            self.changes.doors += 1;
        }
    }

    fn group(&mut self, row: &GroupRow, who: &Members) {
        let id = GroupId(row.id);
        let group = self.policy.groups.entry(id).or_default();
        let mut acts = Vec::new();
        if group.name != row.name {
            group.name = row.name.clone();
            acts.push(PolicyAct::SetGroupName(id, row.name.clone()));
        }
        let doors = row.doors.as_ref().map(|doors| doors.iter().map(|at| (DoorId(at.door), ScheduleId(at.schedule))));
        let wanted: BTreeMap<_, _> = doors.map_or_else(|| group.doors.clone(), Iterator::collect);
        let gone: Vec<DoorId> = group.doors.keys().filter(|door| !wanted.contains_key(door)).copied().collect();
        acts.extend(gone.chunks(GROUP_ITEMS_MAX).map(|some| PolicyAct::RemoveGroupDoors(id, some.to_vec())));
        let is_new = |(door, schedule): &(&DoorId, &ScheduleId)| group.doors.get(door) != Some(schedule);
        let new: Vec<_> = wanted.iter().filter(is_new).map(|(door, schedule)| (*door, *schedule)).collect();
        group.doors = wanted;
        acts.extend(new.chunks(GROUP_ITEMS_MAX).map(|some| PolicyAct::AddGroupDoors(id, some.to_vec())));
        self.changes.groups += usize::from(!acts.is_empty());

        self.acts.extend(acts);
        self.members(row, who);
    }

    fn members(&mut self, row: &GroupRow, who: &Members) {
        let id = GroupId(row.id);
        let persons = |numbers: &[String]| -> BTreeSet<PersonId> {
            numbers.iter().filter_map(|number| who.staff.get(number)).copied().collect()
        };
        let (named, leaving) = (persons(&row.members), persons(&row.remove_members));
        let written = row.member_categories.as_ref().map(|written| written.iter().filter_map(|w| category_word(w)));
        let written = written.map(|words| words.map(str::to_owned).collect::<BTreeSet<String>>());
        let group = self.policy.groups.entry(id).or_default();
        let rule = match (self.rules.remove(&id), written) {
            (Some(rule), None) => Some(rule),
            (Some(rule), Some(categories)) => Some(Rule { categories, ..rule }),
            (None, Some(categories)) if !categories.is_empty() => Some(Rule::of(group, categories, &who.categories)),
            (None, _) => None,
        };
        let wanted = match rule {
            Some(mut rule) => {
                rule.change(&named, &leaving, &who.categories);
                let wanted = rule.members(&who.categories);
                if !rule.categories.is_empty() {
                    self.rules.insert(id, rule);
                }
                wanted
            }
            None => &(&group.members | &named) - &leaving,
        };
        self.changes.members_in += wanted.difference(&group.members).count();
        self.changes.members_out += group.members.difference(&wanted).count();
        self.acts.extend(rules::member_acts(id, &group.members, &wanted));
        group.members = wanted;
    }

    fn holiday(&mut self, day: Day, kind: Option<u8>) {
        if self.policy.holidays.get(&day).copied() != kind {
            match kind {
                Some(kind) => drop(self.policy.holidays.insert(day, kind)),
                None => drop(self.policy.holidays.remove(&day)),
            }
            self.acts.push(PolicyAct::SetHoliday(day, kind));
            self.changes.holidays += 1;
        }
    }

    /// Groups first: what nobody uses any more may go.
    fn remove(&mut self, gone: &Removed) {
        for id in gone.groups.iter().map(|id| GroupId(*id)) {
            let Some(group) = self.policy.groups.remove(&id) else { continue };
            self.rules.remove(&id);
            // One act may not touch a great group whole.
            let members: Vec<PersonId> = group.members.into_iter().collect();
            self.acts.extend(members.chunks(GROUP_ITEMS_MAX).map(|some| PolicyAct::RemoveMembers(id, some.to_vec())));
            self.acts.push(PolicyAct::RemoveGroup(id));
            self.changes.groups += 1;
        }
        for id in gone.doors.iter().map(|id| DoorId(*id)) {
            self.policy.doors.remove(&id);
            for (group, row) in self.policy.groups.iter_mut().filter(|(_, row)| row.doors.contains_key(&id)) {
                row.doors.remove(&id);
                self.acts.push(PolicyAct::RemoveGroupDoors(*group, vec![id]));
            }
            self.acts.push(PolicyAct::RemoveDoor(id));
            self.changes.doors += 1;
        }
        for id in gone.schedules.iter().map(|id| ScheduleId(*id)) {
            self.policy.schedules.remove(&id);
            self.acts.push(PolicyAct::RemoveSchedule(id));
            self.changes.schedules += 1;
        }
        gone.holidays.iter().for_each(|date| self.holiday(date.0, None));
    }
}

#[cfg(test)]
mod tests;

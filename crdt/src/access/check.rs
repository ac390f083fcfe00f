//! Whether a policy is sound: every id refers to something, every bound holds.
//!
//! Leaves to others: whether members exist and devices answer (`edge`, hub).

use super::{GroupId, INTERVALS_MAX, Interval, Policy, ScheduleId};
use crate::civil::DAY_MINUTES;
use crate::ids::{Day, DoorId};

/// Longest name of a door, area, schedule or group, in characters.
pub const NAME_CHARS_MAX: usize = 40;
/// Longest lock pulse: ten minutes.
pub const PULSE_MS_MAX: u32 = 600_000;
/// Most errors reported of one policy; further ones show after these are mended.
pub const POLICY_ERRORS_MAX: usize = 100;

/// What is wrong with a policy, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A name that cannot be shown.
    #[error("{what} {id}: the name must have 1 to {NAME_CHARS_MAX} characters and no control characters")]
    Name {
        /// Kind of thing.
        what: &'static str,
        /// Its number.
        id: u32,
    },
    /// The pulse is zero, too long, or not shorter than the held-open delay.
    #[error(
        "door {door}: pulse {pulse_ms} ms, held-open alarm {held_open_ms} ms; the pulse must be 1 to {PULSE_MS_MAX} ms, the alarm later"
    )]
    Timing {
        /// The door.
        door: DoorId,
        /// Its pulse.
        pulse_ms: u32,
        /// Its held-open delay.
        held_open_ms: u32,
    },
    /// A day with too many intervals.
    #[error("schedule {}, {day}: {intervals} intervals, at most {INTERVALS_MAX} a day; join or remove some", schedule.0)]
    Intervals {
        /// The schedule.
        schedule: ScheduleId,
        /// Which pattern: `day 1` is Monday.
        day: String,
        /// How many.
        intervals: usize,
    },
    /// An interval that is empty or out of the day.
    #[error("schedule {}, {day}: from {} until {} is no stretch of a day; begin at 0 to 1439, end at 1 to 1440 minutes after midnight", schedule.0, interval.from_minute, interval.until_minute)]
    Minutes {
        /// The schedule.
        schedule: ScheduleId,
        /// Which pattern.
        day: String,
        /// The interval.
        interval: Interval,
    },
    /// A group names a door that does not exist.
    #[error("group {}: there is no door {door}; add the door or take it out of the group", group.0)]
    NoDoor {
        /// The group.
        group: GroupId,
        /// The door.
        door: DoorId,
    },
    /// A group names a schedule that does not exist.
    #[error("group {}, door {door}: there is no schedule {}; add it or choose another", group.0, schedule.0)]
    NoSchedule {
        /// The group.
        group: GroupId,
        /// The door.
        door: DoorId,
        /// The schedule.
        schedule: ScheduleId,
    },
    /// A holiday of a kind that schedules do not have.
    #[error("holiday {day}: kind {kind}; choose 1, 2 or 3")]
    HolidayKind {
        /// The day.
        day: Day,
        /// The kind.
        kind: u8,
    },
}

impl Policy {
    /// Checks every bound and reference. Errors: everything found, at most [`POLICY_ERRORS_MAX`].
    pub fn validate(&self) -> Result<(), Vec<PolicyError>> {
        let mut errors = Vec::new();
        self.check_doors(&mut errors);
        self.check_schedules(&mut errors);
        self.check_groups(&mut errors);
        for (day, kind) in &self.holidays {
            if !(1..=3).contains(kind) {
                errors.push(PolicyError::HolidayKind { day: *day, kind: *kind });
            }
        }
        errors.truncate(POLICY_ERRORS_MAX);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn check_doors(&self, errors: &mut Vec<PolicyError>) {
        for (door, row) in &self.doors {
            name(errors, "door", door.0, &row.name);
            name(errors, "area outside door", door.0, &row.areas.0);
            name(errors, "area inside door", door.0, &row.areas.1);
            let (pulse_ms, held_open_ms) = (row.pulse_ms, row.held_open_ms);
            if pulse_ms == 0 || pulse_ms > PULSE_MS_MAX || held_open_ms <= pulse_ms {
                errors.push(PolicyError::Timing { door: *door, pulse_ms, held_open_ms });
            }
        }
    }

    fn check_schedules(&self, errors: &mut Vec<PolicyError>) {
        for (schedule, row) in &self.schedules {
            let schedule = *schedule;
            name(errors, "schedule", u32::from(schedule.0), &row.name);
            let week = (1..).map(|n: u8| format!("day {n}")).zip(&row.week);
            let holidays = (1..).map(|n: u8| format!("holiday kind {n}")).zip(&row.holidays);
            for (day, pattern) in week.chain(holidays) {
                if pattern.len() > INTERVALS_MAX {
                    errors.push(PolicyError::Intervals { schedule, day, intervals: pattern.len() });
                    continue;
                }
                for interval in pattern.iter().copied().filter(|i| !i.is_sound()) {
                    errors.push(PolicyError::Minutes { schedule, day: day.clone(), interval });
                }
            }
        }
    }

    fn check_groups(&self, errors: &mut Vec<PolicyError>) {
        for (id, row) in &self.groups {
            let group = *id;
            name(errors, "group", u32::from(group.0), &row.name);
            for (door, schedule) in row.doors.iter().map(|(d, s)| (*d, *s)) {
                if !self.doors.contains_key(&door) {
                    errors.push(PolicyError::NoDoor { group, door });
                }
                if !self.schedules.contains_key(&schedule) {
                    errors.push(PolicyError::NoSchedule { group, door, schedule });
                }
            }
        }
    }
}

impl Interval {
    fn is_sound(self) -> bool {
        let in_day = self.from_minute < DAY_MINUTES && self.until_minute <= DAY_MINUTES;
        in_day && self.until_minute != 0 && self.from_minute != self.until_minute
    }
}

fn name(errors: &mut Vec<PolicyError>, what: &'static str, id: u32, name: &str) {
    let too_long = name.chars().count() > NAME_CHARS_MAX;
    if name.trim().is_empty() || too_long || name.chars().any(char::is_control) {
        errors.push(PolicyError::Name { what, id });
    }
}

//! The index against a minute-by-minute model of the rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use super::*;
use crate::civil::{Civil, weekday_of};
use crate::person::PersonStatus;
use crate::reason::Reason;
use proptest::prelude::*;

const DOOR: DoorId = DoorId(1);

fn at(day: i32, minute: u16) -> Civil {
    let day = Day(day);
    Civil { day, minute, weekday: weekday_of(day) }
}

fn holder(person: u64) -> Holder {
    Holder { person: PersonId(person), status: PersonStatus::Active, valid: (None, None) }
}

/// Paints every minute from the start of each interval, then asks for one.
fn model(policy: &Policy, door: DoorId, person: PersonId, at: Civil) -> bool {
    policy.groups.values().any(|group| {
        let schedule = group.doors.get(&door).and_then(|s| policy.schedules.get(s));
        let (Some(s), true) = (schedule, group.members.contains(&person)) else {
            return false;
        };
        let today_is_holiday = policy.holidays.contains_key(&at.day);
        let mut open = [false; 2880];
        for (day, base) in [(Day(at.day.0 - 1), 0usize), (at.day, 1440)] {
            let kind = policy.holidays.get(&day);
            let pattern = match kind {
                Some(k) => &s.holidays[usize::from(*k) - 1],
                None => &s.week[usize::from(weekday_of(day))],
            };
            for i in pattern {
                let mut minute = usize::from(i.from_minute);
                while minute % 1440 != usize::from(i.until_minute) % 1440 {
                    let on_the_day_after = base == 0 && minute >= 1440;
                    if base + minute < 2880 && !(on_the_day_after && kind.is_none() && today_is_holiday) {
                        open[base + minute] = true;
                    }
                    minute += 1;
                }
            }
        }
        policy.doors.contains_key(&door) && open[1440 + usize::from(at.minute)]
    })
}

fn intervals() -> impl Strategy<Value = Vec<Interval>> {
    let sound = (0u16..1440, 1u16..1440).prop_filter("not empty", |(f, u)| f != u);
    prop::collection::vec(sound.prop_map(|(from_minute, until_minute)| Interval { from_minute, until_minute }), 0..=3)
}

fn schedules() -> impl Strategy<Value = Schedule> {
    (prop::collection::vec(intervals(), 7), prop::collection::vec(intervals(), 3)).prop_map(|(week, holidays)| {
        Schedule { name: "s".into(), week: week.try_into().unwrap(), holidays: holidays.try_into().unwrap() }
    })
}

prop_compose! {
    fn policies()(
        schedules in prop::collection::btree_map((0u16..3).prop_map(ScheduleId), schedules(), 0..3),
        groups in prop::collection::btree_map(
            (0u16..14).prop_map(GroupId),
            (
                prop::collection::btree_map((1u32..3).prop_map(DoorId), (0u16..3).prop_map(ScheduleId), 0..3),
                prop::collection::btree_set((0u64..3).prop_map(PersonId), 0..3),
            ).prop_map(|(doors, members)| Group { name: "g".into(), doors, members }),
            0..14,
        ),
        holidays in prop::collection::btree_map((0i32..10).prop_map(Day), 1u8..=3, 0..6),
        door_known in prop::bool::weighted(0.9),
    ) -> Policy {
        let door = Door { name: "d".into(), areas: ("a".into(), "b".into()), pulse_ms: 5_000, held_open_ms: 15_000, device: "x".into() };
        let doors = if door_known { BTreeMap::from([(DOOR, door)]) } else { BTreeMap::new() };
        Policy { campus: None, doors, schedules, groups, holidays }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Rows ACS-4, ACS-6.
    #[test]
    fn decisions_agree_with_the_minute_model(policy in policies(), day in 1i32..9, minute in 0u16..1440, person in 0u64..3) {
        let index = PolicyIndex::build(&policy);
        let at = at(day, minute);
        let decision = decide(&index, DOOR, &holder(person), at);
        prop_assert_eq!(decision.is_ok(), model(&policy, DOOR, PersonId(person), at));
        let explained = explain(&index, DOOR, &holder(person), at);
        prop_assert_eq!(explained.decision, decision);
        let opener = explained.groups.iter().find(|(_, why)| matches!(why, Why::Opens(_)));
        if explained.door_known {
            prop_assert_eq!(decision.ok().map(|g| g.group), opener.map(|(g, _)| *g));
        }
    }

    #[test]
    fn updates_lead_to_the_index_of_the_result(from in policies(), to in policies()) {
        let mut index = PolicyIndex::build(&from);
        for id in (0..14).map(GroupId) {
            index.set_group(id, to.groups.get(&id));
        }
        for id in (0..3).map(ScheduleId) {
            index.set_schedule(id, to.schedules.get(&id));
        }
        for day in (0..10).map(Day) {
            index.set_holiday(day, to.holidays.get(&day).copied());
        }
        index.set_door(DOOR, to.doors.contains_key(&DOOR));
        prop_assert_eq!(index, PolicyIndex::build(&to));
    }
}

#[test]
fn a_holiday_cuts_the_tail_of_the_evening_before() {
    let night = Interval { from_minute: 1320, until_minute: 360 };
    let mut policy = Policy::default();
    let door =
        Door { name: "d".into(), areas: ("a".into(), "b".into()), pulse_ms: 5, held_open_ms: 9, device: String::new() };
    policy.doors.insert(DOOR, door);
    let schedule = Schedule { name: "night".into(), week: std::array::from_fn(|_| vec![night]), ..Schedule::default() };
    policy.schedules.insert(ScheduleId(1), schedule);
    let group = Group { name: "g".into(), doors: [(DOOR, ScheduleId(1))].into(), members: [PersonId(7)].into() };
    policy.groups.insert(GroupId(1), group);
    let mut index = PolicyIndex::build(&policy);
    assert!(policy.validate().is_ok());
    assert!(decide(&index, DOOR, &holder(7), at(5, 60)).is_ok());
    index.set_holiday(Day(5), Some(2));
    assert_eq!(decide(&index, DOOR, &holder(7), at(5, 60)), Err(Reason::OutsideDoorTime));
    assert_eq!(explain(&index, DOOR, &holder(7), at(5, 60)).groups, [(GroupId(1), Why::Holiday(ScheduleId(1), 2))]);
    let gone = Holder { status: PersonStatus::Left, ..holder(7) };
    assert_eq!(decide(&index, DOOR, &gone, at(9, 60)), Err(Reason::NotActive));
    assert_eq!(decide(&index, DOOR, &holder(8), at(9, 60)), Err(Reason::NoDoorRight));
    policy.groups.get_mut(&GroupId(1)).unwrap().doors.insert(DoorId(9), ScheduleId(9));
    policy.doors.get_mut(&DOOR).unwrap().held_open_ms = 5;
    policy.holidays.insert(Day(1), 4);
    assert_eq!(policy.validate().unwrap_err().len(), 4);
}

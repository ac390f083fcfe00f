#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
use super::*;

const SAMPLE: &str = include_str!("../../../deploy/samples/access.toml");

fn sheet(text: &str) -> AccessSheet {
    toml::from_str(text).unwrap()
}

fn who() -> Members {
    let staff = [("0007".to_owned(), PersonId(7)), ("c2/0009".to_owned(), PersonId(9))].into();
    let of = |word: &str, ids: std::ops::Range<u64>| (word.to_owned(), ids.map(PersonId).collect());
    let categories = [of("employee", 1..151), of("contractor", 200..203), of("boarder", 300..300)].into();
    Members { staff, categories }
}

/// What acts make of a policy, as documents do it.
fn after(now: &Policy, acts: &[PolicyAct]) -> Policy {
    let mut policy = now.clone();
    for act in acts {
        match act.clone() {
            PolicyAct::SetDoor(id, door) => drop(policy.doors.insert(id, door)),
            PolicyAct::RemoveDoor(id) => drop(policy.doors.remove(&id)),
            PolicyAct::SetSchedule(id, schedule) => drop(policy.schedules.insert(id, schedule)),
            PolicyAct::RemoveSchedule(id) => drop(policy.schedules.remove(&id)),
            PolicyAct::SetGroupName(id, name) => policy.groups.entry(id).or_default().name = name,
            PolicyAct::AddGroupDoors(id, doors) => policy.groups.entry(id).or_default().doors.extend(doors),
            PolicyAct::RemoveGroupDoors(id, doors) => {
                policy.groups.entry(id).or_default().doors.retain(|door, _| !doors.contains(door));
            }
            PolicyAct::AddMembers(id, persons) => policy.groups.entry(id).or_default().members.extend(persons),
            PolicyAct::RemoveMembers(id, persons) => {
                policy.groups.entry(id).or_default().members.retain(|person| !persons.contains(person));
            }
            PolicyAct::RemoveGroup(id) => drop(policy.groups.remove(&id)),
            PolicyAct::SetHoliday(day, Some(kind)) => drop(policy.holidays.insert(day, kind)),
            PolicyAct::SetHoliday(day, None) => drop(policy.holidays.remove(&day)),
            PolicyAct::SetParameter(..) => panic!("a file sets no parameters"),
        }
    }
    policy
}

/// Rows ACS-1, ACS-2, ACS-3.
#[test]
fn the_sample_is_put_in_force_and_the_same_file_twice_changes_nothing() {
    let (acts, changes) = sheet(SAMPLE).acts(&Policy::default(), &who()).unwrap();
    assert_eq!((changes.doors, changes.schedules, changes.groups, changes.holidays), (1, 2, 2, 1));
    assert_eq!((changes.members_in, changes.members_out), (153, 0));
    let policy = after(&Policy::default(), &acts);
    assert_eq!(policy.groups[&GroupId(1)].members.len(), 150);
    let working = &policy.schedules[&ScheduleId(2)];
    assert_eq!(working.week[0], [Interval { from_minute: 390, until_minute: 1350 }]);
    assert!(working.week[6].is_empty() && working.holidays.iter().all(Vec::is_empty));
    let (again, none) = sheet(SAMPLE).acts(&policy, &who()).unwrap();
    assert_eq!((again, none), (Vec::new(), Changes::default()));
}

#[test]
fn what_is_in_force_is_written_as_a_file_that_changes_nothing() {
    let (acts, _) = sheet(SAMPLE).acts(&Policy::default(), &who()).unwrap();
    let policy = after(&Policy::default(), &acts);
    let written = toml::to_string(&AccessSheet::of(&policy, |person| person.to_string())).unwrap();
    let staff = policy.groups.values().flat_map(|g| &g.members).map(|p| (p.to_string(), *p)).collect();
    let all = Members { staff, categories: BTreeMap::new() };
    assert_eq!(sheet(&written).acts(&policy, &all).unwrap().0, Vec::new(), "{written}");
    let fresh = sheet(&written).acts(&Policy::default(), &all).unwrap().0;
    assert_eq!(after(&Policy::default(), &fresh), policy);
}

#[test]
fn what_is_removed_goes_and_what_is_not_named_stays() {
    let (acts, _) = sheet(SAMPLE).acts(&Policy::default(), &who()).unwrap();
    let policy = after(&Policy::default(), &acts);
    let text = "remove = { doors = [1], groups = [1], holidays = [\"2027-01-01\"] }\n[[groups]]\nid = 2\nname = \"外包\"\n\
                members = [\"0007\"]\nremove_members = [\"c2/0009\"]";
    let (acts, changes) = sheet(text).acts(&policy, &who()).unwrap();
    let then = after(&policy, &acts);
    assert!(then.doors.is_empty() && then.holidays.is_empty() && !then.groups.contains_key(&GroupId(1)));
    assert_eq!(then.schedules, policy.schedules);
    let left = &then.groups[&GroupId(2)];
    assert!(left.doors.is_empty() && left.members.contains(&PersonId(7)) && left.name == "外包");
    assert_eq!((changes.members_in, changes.members_out), (1, 0), "c2/0009 was no member");
    assert!(acts.iter().all(|act| !matches!(act, PolicyAct::RemoveMembers(_, some) if some.len() > GROUP_ITEMS_MAX)));
}

#[test]
fn a_door_that_a_group_no_longer_names_is_taken_from_it() {
    let (acts, _) = sheet(SAMPLE).acts(&Policy::default(), &who()).unwrap();
    let policy = after(&Policy::default(), &acts);
    let silent = sheet("[[groups]]\nid = 1\nname = \"教职工\"");
    assert_eq!(silent.acts(&policy, &who()).unwrap().0, Vec::new(), "no word of doors leaves them");
    let none = sheet("[[groups]]\nid = 1\nname = \"教职工\"\ndoors = []");
    let (acts, changes) = none.acts(&policy, &who()).unwrap();
    assert_eq!(acts, [PolicyAct::RemoveGroupDoors(GroupId(1), vec![DoorId(1)])]);
    assert_eq!(changes.groups, 1);
    let both = sheet("remove = { groups = [1] }\n[[groups]]\nid = 1\nname = \"教职工\"");
    assert_eq!(both.acts(&policy, &who()), Err(vec![AccessProblem::SetAndRemoved { table: "groups", id: 1 }]));
}

#[test]
fn everything_that_is_wrong_is_told_and_nothing_is_done() {
    let text = r#"
        remove = { schedules = [9] }
        [[doors]]
        id = 1
        name = "门"
        outside = "外"
        inside = "内"
        device = "modbus:board1/1"
        [[doors]]
        id = 1
        name = "门"
        outside = "外"
        inside = "内"
        device = "modbus:board1/2"
        [[groups]]
        id = 1
        name = "组"
        members = ["0007", "8", "9"]
        member_categories = ["teachers"]
    "#;
    let problems = sheet(text).acts(&Policy::default(), &who()).unwrap_err();
    assert_eq!(
        problems,
        vec![
            AccessProblem::Twice { table: "doors", id: 1 },
            AccessProblem::NotThere { table: "schedules", id: 9 },
            AccessProblem::UnknownStaff { group: 1, count: 2, numbers: "8, 9".into() },
            AccessProblem::UnknownCategory { group: 1, category: "teachers".into() },
        ]
    );
    let unsound = "[[groups]]\nid = 1\nname = \"组\"\ndoors = [{ door = 4, schedule = 2 }]";
    let problems = sheet(unsound).acts(&Policy::default(), &who()).unwrap_err();
    assert!(matches!(
        problems[..],
        [AccessProblem::Policy(PolicyError::NoDoor { .. }), AccessProblem::Policy(PolicyError::NoSchedule { .. })]
    ));
}

#[test]
fn a_misspelt_word_or_time_is_told_with_its_line() {
    for (right, wrong, wanted) in [
        ("every_day = [\"06:30-22:30\"]", "every_day = [\"6.30-22.30\"]", "is no stretch of a day"),
        ("every_day = [\"06:30-22:30\"]", "every_day = [\"06:30-25:30\"]", "is no stretch of a day"),
        ("holiday1 = [] }", "holyday = [] }", "unknown variant"),
        ("held_open_ms", "held_opne_ms", "unknown field"),
        ("2027-01-01", "2027-02-30", "is no day"),
    ] {
        let error = toml::from_str::<AccessSheet>(&SAMPLE.replace(right, wrong)).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("line"), "{wrong}: {error}");
    }
}

#[test]
fn stretches_read_as_they_are_written() {
    for text in ["07:00-22:30", "22:00-06:00", "00:00-24:00"] {
        assert_eq!(String::from(text.parse::<Span>().unwrap()), text);
    }
    for text in ["", "07:00", "24:00-07:00", "07:00-07:00", "7:60-8:00", "07:00-24:01", "-1:00-08:00", "07:00–08:00"]
    {
        assert!(text.parse::<Span>().is_err(), "{text}");
    }
}

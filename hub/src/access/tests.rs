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

/// Acts and changes of a file where no group has categories yet.
fn planned(sheet: &AccessSheet, now: &Policy) -> Result<(Vec<PolicyAct>, Changes), Vec<AccessProblem>> {
    sheet.plan(now, &Rules::new(), &who()).map(|plan| (plan.acts, plan.changes))
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
    let (acts, changes) = planned(&sheet(SAMPLE), &Policy::default()).unwrap();
    assert_eq!((changes.doors, changes.schedules, changes.groups, changes.holidays), (1, 2, 2, 1));
    assert_eq!((changes.members_in, changes.members_out), (153, 0));
    let policy = after(&Policy::default(), &acts);
    assert_eq!(policy.groups[&GroupId(1)].members.len(), 150);
    let working = &policy.schedules[&ScheduleId(2)];
    assert_eq!(working.week[0], [Interval { from_minute: 390, until_minute: 1350 }]);
    assert!(working.week[6].is_empty() && working.holidays.iter().all(Vec::is_empty));
    let (again, none) = planned(&sheet(SAMPLE), &policy).unwrap();
    assert_eq!((again, none), (Vec::new(), Changes::default()));
}

#[test]
fn what_is_in_force_is_written_as_it_was_said_and_changes_nothing() {
    let named = SAMPLE.replace("members = []", "members = [\"c2/0009\"]");
    let plan = sheet(&named).plan(&Policy::default(), &Rules::new(), &who()).unwrap();
    let policy = after(&Policy::default(), &plan.acts);
    let number = |person: PersonId| if person == PersonId(9) { "c2/0009".into() } else { person.to_string() };
    let shown = AccessSheet::of(&policy, &plan.rules, &who(), number);
    assert_eq!(shown.groups[0].member_categories, Some(vec!["employee".into()]), "a rule stays a rule");
    assert_eq!(shown.groups[0].members, ["c2/0009"]);
    let written = toml::to_string(&shown).unwrap();
    let again = sheet(&written).plan(&policy, &plan.rules, &who()).unwrap();
    assert_eq!((again.acts, &again.rules), (Vec::new(), &plan.rules), "{written}");
    let fresh = sheet(&written).plan(&Policy::default(), &Rules::new(), &who()).unwrap();
    assert_eq!((after(&Policy::default(), &fresh.acts), fresh.rules), (policy, plan.rules));
}

#[test]
fn who_joins_or_leaves_a_category_joins_or_leaves_its_groups() {
    let text = SAMPLE.replace("members = []", "members = [\"c2/0009\"]\nremove_members = [\"0007\"]");
    let plan = sheet(&text).plan(&Policy::default(), &Rules::new(), &who()).unwrap();
    let policy = after(&Policy::default(), &plan.acts);
    assert!(!policy.groups[&GroupId(1)].members.contains(&PersonId(7)), "taken out singly");
    assert_eq!(follow(&policy, &plan.rules, &who()), Vec::new());
    let mut then = who();
    then.categories.insert("employee".into(), (2..151).chain([500]).map(PersonId).collect());
    then.categories.insert("contractor".into(), [1, 200, 201].map(PersonId).to_vec());
    let moved = after(&policy, &follow(&policy, &plan.rules, &then));
    let (staff, outside) = (&moved.groups[&GroupId(1)].members, &moved.groups[&GroupId(2)].members);
    assert!(staff.contains(&PersonId(500)) && !staff.contains(&PersonId(1)) && !staff.contains(&PersonId(7)));
    assert!(staff.contains(&PersonId(9)), "who was named stays");
    assert_eq!(outside.iter().map(|p| p.0).collect::<Vec<_>>(), [1, 200, 201]);
    // Without its categories the group keeps who was named.
    let none = sheet("[[groups]]\nid = 1\nname = \"教职工\"\nmember_categories = []");
    let ended = none.plan(&moved, &plan.rules, &then).unwrap();
    assert!(!ended.rules.contains_key(&GroupId(1)) && ended.rules.contains_key(&GroupId(2)));
    assert_eq!(after(&moved, &ended.acts).groups[&GroupId(1)].members, [PersonId(9)].into());
}

#[test]
fn what_is_removed_goes_and_what_is_not_named_stays() {
    let (acts, _) = planned(&sheet(SAMPLE), &Policy::default()).unwrap();
    let policy = after(&Policy::default(), &acts);
    let text = "remove = { doors = [1], groups = [1], holidays = [\"2027-01-01\"] }\n[[groups]]\nid = 2\nname = \"外包\"\n\
                members = [\"0007\"]\nremove_members = [\"c2/0009\"]";
    let (acts, changes) = planned(&sheet(text), &policy).unwrap();
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
    let (acts, _) = planned(&sheet(SAMPLE), &Policy::default()).unwrap();
    let policy = after(&Policy::default(), &acts);
    let silent = sheet("[[groups]]\nid = 1\nname = \"教职工\"");
    assert_eq!(planned(&silent, &policy).unwrap().0, Vec::new(), "no word of doors leaves them");
    let none = sheet("[[groups]]\nid = 1\nname = \"教职工\"\ndoors = []");
    let (acts, changes) = planned(&none, &policy).unwrap();
    assert_eq!(acts, [PolicyAct::RemoveGroupDoors(GroupId(1), vec![DoorId(1)])]);
    assert_eq!(changes.groups, 1);
    let both = sheet("remove = { groups = [1] }\n[[groups]]\nid = 1\nname = \"教职工\"");
    assert_eq!(planned(&both, &policy), Err(vec![AccessProblem::SetAndRemoved { table: "groups", id: 1 }]));
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
    let problems = planned(&sheet(text), &Policy::default()).unwrap_err();
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
    let problems = planned(&sheet(unsound), &Policy::default()).unwrap_err();
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

/// What is shown is read again: a day is written in one way only.
#[test]
fn a_day_is_read_in_the_one_way_in_which_it_is_written() {
    let day = |text: &str| Date::try_from(text.to_owned()).map(String::from);
    for text in ["2027-01-01", "1970-12-31", "0001-01-01"] {
        assert_eq!(day(text), Ok(text.to_owned()));
    }
    for text in ["-0001-01-01", "+2027-01-01", "2027-1-1", "2027-02-30", " 2027-01-01"] {
        assert!(day(text).is_err(), "{text}");
    }
}

//! Measures a million door decisions over 100,000 persons and prints p50 and p99 in nanoseconds.
//!
//! Run with `cargo run --release -p yika-crdt --example door_decide`. Each sample includes one reading of the clock.
#![allow(clippy::print_stdout)] // printing is its purpose

use std::time::Instant;
use yika_crdt::access::*;
use yika_crdt::civil::{Civil, weekday_of};
use yika_crdt::ids::{Day, DoorId, PersonId};
use yika_crdt::person::PersonStatus;

const PERSONS: u64 = 100_000;
const GROUPS: u16 = 200;
const DOORS: u32 = 500;
const DECISIONS: usize = 1_000_000;

fn main() {
    let index = PolicyIndex::build(&policy());
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut took_ns = Vec::with_capacity(DECISIONS);
    let mut opened = 0usize;
    for _ in 0..DECISIONS {
        let day = Day(draw(365) as i32);
        let at = Civil { day, minute: draw(1440) as u16, weekday: weekday_of(day) };
        let holder = Holder { person: PersonId(draw(PERSONS)), status: PersonStatus::Active, valid: (None, None) };
        // Half of the taps are at a door of one of the holder's groups.
        let door = match index.groups_of(holder.person).first() {
            Some(group) if draw(2) == 0 => DoorId(u32::from(group.0) * 7 % DOORS),
            _ => DoorId(draw(u64::from(DOORS)) as u32),
        };
        let start = Instant::now();
        let decision = std::hint::black_box(decide(&index, door, &holder, at));
        took_ns.push(start.elapsed().as_nanos() as u64);
        opened += usize::from(decision.is_ok());
    }
    took_ns.sort_unstable();
    let at = |per_mille: usize| took_ns.get(DECISIONS * per_mille / 1000).copied();
    println!(
        "decisions {DECISIONS}, opened {opened}, p50 {:?} ns, p99 {:?} ns",
        at(500).unwrap_or(0),
        at(990).unwrap_or(0)
    );
}

fn policy() -> Policy {
    let mut policy = Policy::default();
    let stretch = |from_minute, until_minute| Interval { from_minute, until_minute };
    for n in 0..50u16 {
        let day = vec![stretch(360 + n, 720), stretch(780, 1080 + n), stretch(1320, 60 + n)];
        let schedule = Schedule {
            name: format!("schedule {n}"),
            week: std::array::from_fn(|_| day.clone()),
            holidays: std::array::from_fn(|_| vec![stretch(600, 700)]),
        };
        policy.schedules.insert(ScheduleId(n), schedule);
    }
    for n in 0..DOORS {
        let door = Door {
            name: format!("door {n}"),
            areas: ("outside".into(), "inside".into()),
            pulse_ms: 5_000,
            held_open_ms: 15_000,
            device: format!("modbus:board{n}/1"),
        };
        policy.doors.insert(DoorId(n), door);
    }
    for n in 0..GROUPS {
        let doors = (0..20)
            .map(|k| DoorId((u32::from(n) * 7 + k * 11) % DOORS))
            .map(|door| (door, ScheduleId((door.0 % 50) as u16)))
            .collect();
        // Two groups a person on average, spread by two multipliers.
        let members = (0..PERSONS)
            .filter(|p| p % u64::from(GROUPS) == u64::from(n) || p * 31 / 7 % u64::from(GROUPS) == u64::from(n))
            .map(PersonId)
            .collect();
        let group = Group { name: format!("group {n}"), doors, members };
        policy.groups.insert(GroupId(n), group);
    }
    policy.holidays.extend((0..30).map(|n| (Day(n * 12), (n % 3 + 1) as u8)));
    policy
}

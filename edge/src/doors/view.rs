//! Doors as pages show them: what was reported and how old that is, never what was hoped for.
//!
//! Leaves to others: words for states that pages translate themselves (`console`).

use super::decision::Words;
use super::hardware::{DriverState, Place};
use super::passing::Passing;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use yika_crdt::access::Door;
use yika_crdt::entry::DoorEvent;
use yika_crdt::ids::DoorId;
use yika_drivers::door::{ContactState, DoorState, PULSE_MS_MAX, PULSE_MS_MIN, RelayState};

/// A report older than this counts as none: the state is unknown. Longer than the slowest poll of a healthy board.
pub const REPORT_AGE_MS_MAX: u64 = 5_000;

/// A door as pages show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DoorView {
    /// Its number.
    pub door: DoorId,
    /// Its name.
    pub name: String,
    /// Its hardware as the policy names it.
    pub device: String,
    /// Whether the hardware is heard.
    pub line: LineState,
    /// The leaf, as last reported; unknown without contact, report, or line.
    pub contact: ContactState,
    /// The lock, as last reported.
    pub lock: RelayState,
    /// Freed by fire.
    pub freed_by_fire: bool,
    /// Age of the report.
    pub age_ms: Option<u64>,
    /// The last event since this box started.
    pub last_event: Option<LastEvent>,
    /// What is wrong with it, in words.
    pub problems: Vec<Words>,
}

/// The last event at a door.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastEvent {
    /// What.
    pub event: DoorEvent,
    /// When, hub time.
    pub at_ms: i64,
}

/// Whether a door's hardware is heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineState {
    /// The policy names hardware that this box does not have.
    NoHardware,
    /// Its driver does not run at present.
    DriverDown,
    /// Not heard, or not for a while.
    Lost,
    /// Heard.
    Up,
}

/// Every door of the policy.
pub(super) fn list(passing: &Passing) -> Vec<DoorView> {
    let access = passing.node.access.read();
    let shared = |device: &str, id: DoorId| access.doors.iter().find(|(i, d)| **i < id && d.device == device);
    access.doors.iter().map(|(id, door)| view(passing, *id, door, shared(&door.device, *id).map(|(i, _)| *i))).collect()
}

fn view(passing: &Passing, id: DoorId, door: &Door, shared_with: Option<DoorId>) -> DoorView {
    let place = passing.hardware.places.get(&door.device).copied();
    let state = place.and_then(|place| passing.hardware.reported(place));
    let age = state.and_then(|s| s.observed_at).map(|at| at.elapsed());
    let fresh = state.filter(|_| age.is_some_and(|age| age <= Duration::from_millis(REPORT_AGE_MS_MAX)));
    let line = line_state(passing, place, fresh);
    let mut problems: Vec<Words> = line_problem(line, &door.device).into_iter().collect();
    if let Some(other) = shared_with {
        problems.push((
            format!("与门 {other} 使用同一硬件,自动上报的事件记在 {other} 名下"),
            format!("shares its hardware with door {other}, where its own events are journaled"),
        ));
    }
    if !(PULSE_MS_MIN..=PULSE_MS_MAX).contains(&door.pulse_ms) {
        let used = door.pulse_ms.clamp(PULSE_MS_MIN, PULSE_MS_MAX);
        problems.push((
            format!("开锁时长 {} 毫秒超出硬件范围,按 {used} 毫秒执行", door.pulse_ms),
            format!("the pulse of {} ms is beyond the hardware; {used} ms is used", door.pulse_ms),
        ));
    }
    DoorView {
        door: id,
        name: door.name.clone(),
        device: door.device.clone(),
        line,
        contact: fresh.map(|s| s.contact).unwrap_or_default(),
        lock: fresh.map(|s| s.relay).unwrap_or_default(),
        freed_by_fire: fresh.is_some_and(|s| s.freed_by_fire),
        age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        last_event: passing.last_event(id),
        problems,
    }
}

fn line_state(passing: &Passing, place: Option<Place>, fresh: Option<DoorState>) -> LineState {
    let Some(line) = place.and_then(|place| passing.hardware.lines.get(place.line)) else {
        return LineState::NoHardware;
    };
    match (line.driver(), fresh) {
        (DriverState::Running, Some(state)) if state.line_up => LineState::Up,
        (DriverState::Running, _) => LineState::Lost,
        (DriverState::Restarting { .. } | DriverState::Stopped, _) => LineState::DriverDown,
    }
}

fn line_problem(line: LineState, device: &str) -> Option<Words> {
    let (zh, en) = match line {
        LineState::Up => return None,
        LineState::NoHardware if device.is_empty() => ("未设定硬件".to_owned(), "no hardware is set".to_owned()),
        LineState::NoHardware => {
            (format!("未接硬件:本节点配置中没有 {device}"), format!("no hardware: this box has no {device}"))
        }
        LineState::DriverDown => {
            ("驱动未运行,正在重启".to_owned(), "the driver does not run; it is started again".to_owned())
        }
        LineState::Lost => (
            "控制板无应答,请检查电源、网线和地址".to_owned(),
            "the board does not answer; check power, cable, address".to_owned(),
        ),
    };
    Some((zh, en))
}

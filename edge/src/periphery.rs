//! What hangs on this box, terminals and doors, as `status`, `doctor` and the pages tell it: what each reported, how old
//! that is, and what to do where it is not well.
//!
//! Leaves to others: hearing terminals (`terminals::board`), driving doors (`doors`), colours of pages (`console`).

use crate::doors::{DoorView, Doors, DriverState, JournalState, LineState};
use crate::node::EdgeNode;
use crate::status::AgeWords;
use crate::terminals::{Board, Presence};
use serde::{Deserialize, Serialize};
use yika_crdt::entry::{TerminalKind, TerminalRecord, TerminalState};
use yika_crdt::ids::{DoorId, TerminalId};
use yika_drivers::door::{ContactState, RelayState};
use yika_drivers::terminal::message::Heartbeat;
use yika_ui::Lang;

/// A record store filled so far deserves hands, in percent (TRM-9).
pub const STORAGE_PERCENT_MAX: u8 = 80;
/// A battery below this deserves a word, in percent.
pub const BATTERY_PERCENT_MIN: u8 = 15;
/// A terminal's clock that is further off deserves a word, in milliseconds.
pub const CLOCK_OFF_MS_MAX: i64 = 60_000;
/// Doors are not judged before their drivers had so long to speak, in milliseconds.
pub const DOORS_QUIET_MS: u64 = 15_000;

/// Something about a terminal or a door that is not well.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// Needs hands; else only worth knowing.
    pub wrong: bool,
    /// What was seen, Chinese and English.
    pub seen: [String; 2],
    /// What to do.
    pub mend: [String; 2],
}

/// A terminal of this campus.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TerminalView {
    /// Its number.
    pub terminal: TerminalId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: TerminalKind,
    /// As headquarters says.
    pub state: TerminalState,
    /// By the age of its last request; `None` if it was not heard since the start of this box.
    pub presence: Option<Presence>,
    /// That age.
    pub heard_age_ms: Option<u64>,
    /// Maker, model and software, as told at sign-in.
    pub model: Option<String>,
    /// Records that it has not uploaded, as it last said.
    pub backlog: Option<u32>,
    /// What is not well.
    pub problems: Vec<Problem>,
}

/// A door of this campus.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DoorGlance {
    /// As it reported.
    #[serde(flatten)]
    pub view: DoorView,
    /// What is not well.
    pub judged: Vec<Problem>,
}

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Periphery {
    /// Terminals registered on this campus.
    pub terminals: Vec<TerminalView>,
    /// Doors of the campus' policy.
    pub doors: Vec<DoorGlance>,
    /// Lines of this box that the hardware of doors hangs on, with their drivers.
    pub lines: Vec<(String, DriverState)>,
    /// Whether door events reach the journal.
    pub door_journal: Vec<Problem>,
}

/// How many terminals stand how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Heard within three heartbeats.
    pub online: usize,
    /// Not heard for a moment.
    pub late: usize,
    /// Not heard for longer.
    pub lost: usize,
    /// Never heard since the start.
    pub unheard: usize,
    /// Suspended or scrapped.
    pub out_of_use: usize,
}

impl Periphery {
    /// Reads what hangs on a running box.
    pub fn of(node: &EdgeNode, board: &Board, doors: &Doors, uptime_ms: u64) -> Periphery {
        let registry = node.registry();
        let campus = node.place().campus;
        let parameters = registry.tariff.as_ref().map_or(0, |sheet| sheet.version.0);
        let ours = registry.terminals.values().filter(|t| Some(t.campus) == campus);
        let known = doors.list();
        let doorless = |t: &TerminalRecord| t.door.filter(|door| known.iter().all(|view| view.door != *door));
        let look = |record: &TerminalRecord| {
            let mut view = terminal(record, board, parameters);
            if record.state == TerminalState::Deployed {
                view.problems.extend(doorless(record).map(|door| no_door(&view.label(), door)));
            }
            view
        };
        Periphery {
            terminals: ours.map(look).collect(),
            doors: known.iter().cloned().map(|view| door(view, uptime_ms)).collect(),
            lines: doors.lines(),
            door_journal: door_journal(&doors.journal()).into_iter().collect(),
        }
    }

    /// How many terminals stand how; each is counted once.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for terminal in &self.terminals {
            match terminal.presence {
                _ if terminal.state != TerminalState::Deployed => counts.out_of_use += 1,
                Some(Presence::Online) => counts.online += 1,
                Some(Presence::Late) => counts.late += 1,
                Some(Presence::Lost) => counts.lost += 1,
                None => counts.unheard += 1,
            }
        }
        counts
    }

    /// Doors of the policy that hang on no hardware of this box.
    pub fn bare_doors(&self) -> usize {
        self.doors.iter().filter(|door| door.view.line == LineState::NoHardware).count()
    }

    /// Terminals by how they stand, those that are not on line by name, and each door.
    pub fn in_words(&self, lang: Lang) -> Vec<String> {
        let zh = lang == Lang::Zh;
        let counts = self.counts();
        let Counts { online, late, lost, unheard, out_of_use } = counts;
        let all = self.terminals.len();
        let mut lines = vec![match zh {
            true => format!(
                "终端: 登记 {all}, 在线 {online}, 迟滞 {late}, 失联 {lost}, 启动以来没有消息 {unheard}, 停用 {out_of_use}"
            ),
            false => format!(
                "terminals: {all} registered, {online} on line, {late} late, {lost} lost, {unheard} never heard, \
                 {out_of_use} out of use"
            ),
        }];
        let silent = |t: &&TerminalView| matches!(t.presence, Some(Presence::Late | Presence::Lost));
        for terminal in self.terminals.iter().filter(silent) {
            let age = lang.age(terminal.heard_age_ms.unwrap_or(0));
            let backlog = terminal.backlog.unwrap_or(0);
            lines.push(match zh {
                true => format!("  {}: {age}前, 未上传 {backlog}", terminal.label()),
                false => format!("  {}: {age} ago, {backlog} not uploaded", terminal.label()),
            });
        }
        for (name, driver) in self.lines.iter().filter(|(_, driver)| *driver != DriverState::Running) {
            lines.push(match zh {
                true => format!("门禁线路 {name}: 驱动未运行"),
                false => format!("door line {name}: its driver does not run ({driver:?})"),
            });
        }
        for door in &self.doors {
            lines.push(door_words(&door.view, lang));
        }
        lines
    }

    /// Whatever is not well, with the short word of a check.
    pub fn problems(&self) -> impl Iterator<Item = (&'static str, &Problem)> {
        let terminals = self.terminals.iter().flat_map(|t| &t.problems).map(|p| ("terminal", p));
        let doors = self.doors.iter().flat_map(|d| &d.judged).map(|p| ("door", p));
        terminals.chain(doors).chain(self.door_journal.iter().map(|p| ("door-events", p)))
    }
}

impl TerminalView {
    /// Number and name.
    pub fn label(&self) -> String {
        format!("{} {}", self.terminal, self.name)
    }
}

fn problem(wrong: bool, seen: [String; 2], mend: [&str; 2]) -> Problem {
    Problem { wrong, seen, mend: mend.map(str::to_owned) }
}

fn terminal(record: &TerminalRecord, board: &Board, parameters: u32) -> TerminalView {
    let told = board.status(record.terminal);
    let heard_age_ms = told.as_ref().map(|t| u64::try_from(t.age.as_millis()).unwrap_or(u64::MAX));
    let beat = told.as_ref().and_then(|t| t.heartbeat.as_ref());
    let mut view = TerminalView {
        terminal: record.terminal,
        name: record.name.clone(),
        kind: record.kind,
        state: record.state,
        presence: told.as_ref().map(|t| t.presence),
        heard_age_ms,
        model: told.as_ref().and_then(|t| t.model.as_ref()).map(|(model, firmware)| format!("{model} {firmware}")),
        backlog: beat.map(|b| b.backlog),
        problems: Vec::new(),
    };
    if record.state != TerminalState::Deployed {
        return view;
    }
    let label = view.label();
    view.problems.extend(silence(&label, view.presence, view.backlog.unwrap_or(0)));
    if let Some(beat) = beat {
        view.problems.extend(condition(&label, beat, parameters));
    }
    let off_ms = told.map_or(0, |t| t.clock_ahead_ms);
    if off_ms.abs() > CLOCK_OFF_MS_MAX {
        let seconds = off_ms / 1000;
        view.problems.push(problem(
            false,
            [format!("{label}: 时钟相差 {seconds} 秒"), format!("{label}: its clock is {seconds} s ahead")],
            [
                "让终端重新登录即可对时; 反复出现时更换终端电池",
                "signing in again sets it; if it comes back, change its battery",
            ],
        ));
    }
    view
}

/// A reader of a door that the policy does not know, or not yet.
fn no_door(label: &str, door: DoorId) -> Problem {
    problem(
        false,
        [
            format!("{label}: 门禁策略里没有门 {door}, 刷卡都会被拒绝"),
            format!("{label}: the access policy has no door {door}, every swipe is refused"),
        ],
        [
            "在总部用 yika-hub access apply 加上这扇门, 或把读卡器登记到别的门",
            "add the door at headquarters (yika-hub access apply), or register the reader for another one",
        ],
    )
}

/// A terminal that is not heard any more. Never heard is no problem: a web till speaks with its page alone.
fn silence(label: &str, presence: Option<Presence>, backlog: u32) -> Option<Problem> {
    match (presence, backlog) {
        (Some(Presence::Lost), 0) => Some(problem(
            false,
            [format!("{label}: 没有消息, 没有未上传的记录"), format!("{label}: silent, with nothing left to upload")],
            [
                "收餐后关机属正常; 否则检查电源、网线和交换机",
                "switched off after the meal is normal; else check power, cable and switch",
            ],
        )),
        (Some(Presence::Lost), n) => Some(problem(
            true,
            [
                format!("{label}: 没有消息, 还有 {n} 条记录未上传"),
                format!("{label}: silent, with {n} records not uploaded"),
            ],
            [
                "恢复它的电源和网络, 记录会自动补传; 不要清空或更换终端",
                "give it power and network back, its records come by themselves; do not clear or swap it",
            ],
        )),
        _ => None,
    }
}

/// What the terminal says of itself.
fn condition(label: &str, beat: &Heartbeat, parameters: u32) -> Vec<Problem> {
    let mut problems = Vec::new();
    if beat.storage_percent >= STORAGE_PERCENT_MAX {
        let used = beat.storage_percent;
        problems.push(problem(
            true,
            [format!("{label}: 记录存储已用 {used}%"), format!("{label}: its record store is {used} % full")],
            [
                "保持联网让它上传; 存满后终端会停止消费",
                "keep it connected so that it uploads; it stops selling when full",
            ],
        ));
    }
    if beat.printer_ready == Some(false) {
        problems.push(problem(
            false,
            [format!("{label}: 打印机缺纸或故障"), format!("{label}: its printer has no paper or is broken")],
            ["换纸, 合上纸仓盖", "put paper in and close the lid"],
        ));
    }
    if let Some(left) = beat.battery_percent.filter(|left| *left < BATTERY_PERCENT_MIN) {
        problems.push(problem(
            false,
            [format!("{label}: 电量 {left}%"), format!("{label}: battery at {left} %")],
            ["充电", "charge it"],
        ));
    }
    if beat.held.parameters < parameters {
        let held = beat.held.parameters;
        problems.push(problem(
            false,
            [
                format!("{label}: 价目版本 {held}, 应为 {parameters}"),
                format!("{label}: holds tariff {held} instead of {parameters}"),
            ],
            ["在收餐间隙自动更新; 一直不更新时重启终端", "it fetches it between meals; restart it if it does not"],
        ));
    }
    problems
}

fn door(view: DoorView, uptime_ms: u64) -> DoorGlance {
    let label = format!("{} {}", view.door, view.name);
    let named = |(zh, en): &(String, String)| [format!("{label}: {zh}"), format!("{label}: {en}")];
    let (wrong, mend) = match view.line {
        LineState::Lost => (
            uptime_ms > DOORS_QUIET_MS,
            [
                "检查控制板电源、网线和地址 (配置 doors.bus); 门仍按断线前的状态, 钥匙可开",
                "check the board's power, cable and address (setting doors.bus); the door stays as it was, the key opens it",
            ],
        ),
        LineState::DriverDown => (
            uptime_ms > DOORS_QUIET_MS,
            [
                "驱动会自动重启; 反复失败时查看 journalctl -u yika-edge 并核对配置 doors.bus",
                "the driver is started again; if it keeps failing see journalctl -u yika-edge and the setting doors.bus",
            ],
        ),
        LineState::NoHardware => (
            false,
            [
                "这扇门接在同园区另一个节点上时属正常; 否则谁也打不开它: 请在配置 doors.bus 中添加控制板, 或在总部改正门的设备",
                "normal where the door hangs on another box of the campus; else nobody can open it: add its board to doors.bus, or set its device right at headquarters",
            ],
        ),
        LineState::Up => {
            (false, ["在总部的门禁策略中改正这扇门", "set this door right in the access policy at headquarters"])
        }
    };
    let judged = view.problems.iter().enumerate().map(|(at, words)| problem(wrong && at == 0, named(words), mend));
    DoorGlance { judged: judged.collect(), view }
}

fn door_words(door: &DoorView, lang: Lang) -> String {
    let pick = |zh: &'static str, en: &'static str| if lang == Lang::Zh { zh } else { en };
    let line = match door.line {
        LineState::Up => pick("线路正常", "line up"),
        LineState::Lost => pick("没有应答", "no answer"),
        LineState::DriverDown => pick("驱动未运行", "driver down"),
        LineState::NoHardware => pick("本节点没有硬件", "no hardware here"),
    };
    let leaf = match door.contact {
        ContactState::Open => pick("门开着", "open"),
        ContactState::Closed => pick("门关着", "closed"),
        ContactState::Unknown if door.line == LineState::Up => pick("无门磁", "no door contact"),
        ContactState::Unknown => pick("门状态未知", "leaf unknown"),
    };
    let lock = match door.lock {
        _ if door.freed_by_fire => pick("火警释放", "freed by fire"),
        RelayState::Unlocked => pick("已开锁", "unlocked"),
        RelayState::Locked => pick("已上锁", "locked"),
        RelayState::Unknown => pick("锁状态未知", "lock unknown"),
    };
    let age = door.age_ms.map_or_else(|| pick("没有报告", "no report").to_owned(), |age| lang.age(age));
    format!("{} {} {}: {line}, {leaf}, {lock} ({age})", pick("门", "door"), door.door, door.name)
}

fn door_journal(state: &JournalState) -> Option<Problem> {
    let (waiting, lost) = (state.waiting, state.lost);
    state.failing.as_ref()?;
    Some(problem(
        true,
        [
            format!("门禁记录不能写入: {waiting} 条等待, {lost} 条丢失"),
            format!("door events cannot be written: {waiting} wait, {lost} are lost"),
        ],
        ["门照常开; 按数据库或磁盘的问题处理", "doors go on; mend the database or the disk as told above"],
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use yika_drivers::terminal::message::HeldVersions;

    fn beat() -> Heartbeat {
        let held = HeldVersions { parameters: 4, ..HeldVersions::default() };
        Heartbeat { backlog: 0, storage_percent: 10, battery_percent: Some(90), printer_ready: Some(true), held }
    }

    #[test]
    fn terminals_by_how_they_stand_add_up_to_all_of_them() {
        let view = |state, presence| TerminalView {
            terminal: TerminalId(1),
            name: String::new(),
            kind: TerminalKind::Till,
            state,
            presence,
            heard_age_ms: None,
            model: None,
            backlog: None,
            problems: Vec::new(),
        };
        let used = [Some(Presence::Online), Some(Presence::Late), Some(Presence::Lost), None];
        let mut terminals: Vec<_> = used.map(|presence| view(TerminalState::Deployed, presence)).into();
        terminals.push(view(TerminalState::Suspended, Some(Presence::Online)));
        terminals.push(view(TerminalState::Scrapped, None));
        let periphery = Periphery { terminals, ..Periphery::default() };
        let counts = periphery.counts();
        assert_eq!(counts, Counts { online: 1, late: 1, lost: 1, unheard: 1, out_of_use: 2 });
        assert!(
            periphery.in_words(Lang::Zh)[0].contains("登记 6") && periphery.in_words(Lang::Zh)[0].contains("停用 2")
        );
    }

    #[test]
    fn silence_is_wrong_only_where_records_are_left() {
        assert_eq!(silence("t1", None, 0), None, "a web till is never heard");
        assert_eq!(silence("t1", Some(Presence::Late), 9), None);
        assert!(!silence("t1", Some(Presence::Lost), 0).unwrap().wrong);
        let left = silence("t1", Some(Presence::Lost), 5).unwrap();
        assert!(left.wrong && left.seen[0].contains("5 条") && left.mend[1].contains("do not clear"));
    }

    #[test]
    fn a_terminal_that_is_well_has_no_problem_and_others_have_theirs() {
        assert!(condition("t1", &beat(), 4).is_empty());
        let bad = Heartbeat {
            storage_percent: STORAGE_PERCENT_MAX,
            battery_percent: Some(BATTERY_PERCENT_MIN - 1),
            printer_ready: Some(false),
            ..beat()
        };
        let found = condition("t1", &bad, 5);
        assert_eq!(found.iter().map(|p| p.wrong).collect::<Vec<_>>(), [true, false, false, false]);
        assert!(found[3].seen[1].contains("tariff 4 instead of 5"));
        assert!(found.iter().all(|p| p.mend.iter().all(|m| !m.is_empty())));
    }
}

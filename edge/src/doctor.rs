//! `yika-edge doctor`: what is wrong with this box, in words, and how to mend it.
//!
//! One check per thing that has gone wrong on real boxes; each says what it saw and, if it is not well, what to do.
//! Works with less while the box is down. Leaves to others: the state at a glance (`status`).

use crate::at_rest::{self, AtRest};
use crate::config::Config;
use crate::disk;
use crate::doors::{Doors, LineState};
use crate::ended;
use crate::identity::{Identity, not_joined};
use crate::mirror;
use crate::node::EdgeNode;
use crate::periphery::{Counts, Periphery};
use crate::processes;
use crate::status::{self, AgeWords, Status};
use crate::terminals::Board;
use crate::voice;
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::gate::Shut;
use yika_crdt::ids::{CampusId, Seq};
use yika_crdt::store::Read;
use yika_link::CloseCode;
use yika_store::{Options, SqliteReader};
use yika_ui::Lang;
use yika_ui::terminal::columns;

/// How long a name may take to be looked up.
const LOOK_UP: Duration = Duration::from_secs(5);
/// The wall clock may be this far from headquarters' time before somebody should look; milliseconds.
const CLOCK_OFFSET_MS_MAX: u64 = yika_crdt::clock::DRIFT_MS_MAX as u64;
/// Lists older than this deserve a word; milliseconds.
const LISTS_AGE_MS_MAX: u64 = 72 * 3_600_000;

/// Columns for the name of a check.
const NAME_COLUMNS: usize = 12;

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Well.
    Well,
    /// Not wrong yet, or not to be mended here.
    Note,
    /// Wrong.
    Wrong,
    /// Cannot be looked at now.
    Unknown,
}

/// One check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Check {
    /// A short stable word.
    pub code: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen, in Chinese.
    pub zh: String,
    /// What was seen, in English.
    pub en: String,
    /// What to do, in Chinese; empty when nothing.
    pub mend_zh: String,
    /// What to do, in English.
    pub mend_en: String,
}

/// All checks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// In the order of looking.
    pub checks: Vec<Check>,
    /// The process runs.
    pub running: bool,
}

impl Report {
    /// Nothing is wrong.
    pub fn is_healthy(&self) -> bool {
        self.checks.iter().all(|check| check.verdict != Verdict::Wrong)
    }

    /// For the terminal.
    pub fn in_words(&self, lang: Lang) -> String {
        let zh = lang == Lang::Zh;
        let mut text = String::new();
        for check in &self.checks {
            let mark = match check.verdict {
                Verdict::Well if zh => "正常",
                Verdict::Note if zh => "提示",
                Verdict::Wrong if zh => "故障",
                Verdict::Unknown if zh => "不明",
                Verdict::Well => " ok ",
                Verdict::Note => "note",
                Verdict::Wrong => "FAIL",
                Verdict::Unknown => " ?? ",
            };
            let (seen, mend) = if zh { (&check.zh, &check.mend_zh) } else { (&check.en, &check.mend_en) };
            let name = voice::check(lang, &check.code);
            let gap = " ".repeat(NAME_COLUMNS.saturating_sub(columns(&name)));
            text.push_str(&format!("[{mark}] {name}{gap} {seen}\n"));
            if !mend.is_empty() && check.verdict != Verdict::Well {
                text.push_str(&format!("       {:NAME_COLUMNS$} → {mend}\n", ""));
            }
        }
        let of = |verdict| self.checks.iter().filter(|check| check.verdict == verdict).count();
        let (wrong, notes) = (of(Verdict::Wrong), of(Verdict::Note));
        text.push_str(&match (zh, wrong) {
            (true, 0) if notes > 0 => format!("没有发现故障, 有 {notes} 条提示\n"),
            (false, 0) if notes > 0 => format!("nothing is wrong, {notes} to note\n"),
            (true, 0) => "没有发现问题\n".to_owned(),
            (true, n) => format!("发现 {n} 个问题\n"),
            (false, 0) => "nothing is wrong\n".to_owned(),
            (false, n) => format!("{n} found wrong\n"),
        });
        text
    }

    fn add(&mut self, code: &str, verdict: Verdict, seen: [String; 2], mend: [&str; 2]) {
        let ([zh, en], [mend_zh, mend_en]) = (seen, mend.map(str::to_owned));
        self.checks.push(Check { code: code.to_owned(), verdict, zh, en, mend_zh, mend_en });
    }
}

fn same(text: impl Into<String>) -> [String; 2] {
    let text = text.into();
    [text.clone(), text]
}

fn wrong_if(wrong: bool) -> Verdict {
    if wrong { Verdict::Wrong } else { Verdict::Well }
}

fn both(zh: impl Into<String>, en: impl Into<String>) -> [String; 2] {
    [zh.into(), en.into()]
}

fn ends_at(seq: u64) -> [String; 2] {
    both(format!("到第 {seq} 条"), format!("ends at {seq}"))
}

pub(crate) fn shut_words(shut: Shut, held: Seq) -> [String; 2] {
    let zh = match shut {
        Shut::Asking => "正在向总部和同园区节点核对本节点流水".to_owned(),
        Shut::Opening => "正在写入启动以来等待的流水".to_owned(),
        Shut::Unsure => "密钥旁的流水终点丢失, 等待总部确认本节点数据".to_owned(),
        Shut::Behind(kept) => format!(
            "数据库是旧副本 (现有 {held} 条, 已写出 {} 条): 在总部或同园区节点归还缺少的记录之前不消费, 门照常",
            kept.journal.seq
        ),
        Shut::Forked => "另有一台节点在使用本节点密钥: 不再消费, 在总部用 --replaces 重新登记本节点".to_owned(),
        Shut::Fenced => "总部已封禁本节点, 不再与它来往: 须在总部用 --replaces 重新登记本节点".to_owned(),
    };
    both(zh, shut.words(held))
}

/// Examines the running box.
pub async fn examine(node: &EdgeNode, doors: &Doors, board: &Board) -> Report {
    let status = tokio::task::block_in_place(|| status::gather(node, doors, board));
    let mut report = Report { running: true, ..Report::default() };
    report.add(
        "process",
        Verdict::Well,
        both(format!("正在运行, {}", status.software), format!("running, {}", status.software)),
        ["", ""],
    );
    let dir = node.vitals().dir().to_owned();
    tokio::task::block_in_place(|| {
        files(&mut report, &dir, status.disk);
        database(&mut report, &dir);
    });
    writer(&mut report, &status);
    match node.shut() {
        None => report.add("journal", Verdict::Well, ends_at(status.journal), ["", ""]),
        Some(shut) if shut.is_for_ever() => over(&mut report, shut, Seq(status.journal), node.place()),
        Some(shut) => report.add(
            "journal",
            Verdict::Wrong,
            shut_words(shut, Seq(status.journal)),
            [
                "接通总部或同园区的另一个节点; 若仍不恢复, 在总部用 --replaces 重新登记本节点",
                "connect headquarters or a sibling; if it does not recover, enrol this box again with --replaces",
            ],
        ),
    }
    clock(&mut report, &status);
    certificate(&mut report, &status);
    path_to_hub(&mut report, &status).await;
    lists(&mut report, &status);
    periphery(&mut report, &status.periphery);
    report
}

/// The journal of a life that is over: what becomes of it, and the way back.
fn over(report: &mut Report, shut: Shut, held: Seq, place: Place) {
    let [mut zh, mut en] = shut_words(shut, held);
    let [of_entries_zh, of_entries_en] = ended::unconfirmed(place.node);
    zh.push_str(&format!(". 未确认的记录: {of_entries_zh}"));
    en.push_str(&format!(". Entries not confirmed: {of_entries_en}"));
    let [mend_zh, mend_en] = ended::way_back(place.node, place.campus.unwrap_or(CampusId(0)));
    report.add("journal", Verdict::Wrong, [zh, en], [&mend_zh, &mend_en]);
}

/// Terminals and doors: each problem by itself, so that none hides behind another.
fn periphery(report: &mut Report, periphery: &Periphery) {
    let counts = periphery.counts();
    let Counts { online, late, lost, unheard, out_of_use } = counts;
    report.add(
        "terminals",
        Verdict::Well,
        both(
            format!("在线 {online}, 迟滞 {late}, 失联 {lost}, 启动以来没有消息 {unheard}, 停用 {out_of_use}"),
            format!("{online} on line, {late} late, {lost} lost, {unheard} never heard, {out_of_use} out of use"),
        ),
        ["", ""],
    );
    let up = periphery.doors.iter().filter(|d| d.view.line == LineState::Up).count();
    let all = periphery.doors.len();
    report.add(
        "doors",
        if up == all { Verdict::Well } else { Verdict::Note },
        both(format!("{up} / {all} 扇有应答"), format!("{up} of {all} answer")),
        ["没有应答的门逐扇列在下面", "those that do not are listed below"],
    );
    for (code, problem) in periphery.problems() {
        let verdict = if problem.wrong { Verdict::Wrong } else { Verdict::Note };
        let [zh, en] = problem.mend.each_ref().map(String::as_str);
        report.add(code, verdict, problem.seen.clone(), [zh, en]);
    }
}

/// Examines what is there while the box is down, in the order in which it is to be mended.
pub fn when_down(config: &Config) -> Report {
    let mut report = Report::default();
    let dir = &config.data;
    let joined = match Identity::load(dir) {
        Ok(None) => {
            never_joined(&mut report, config);
            return report;
        }
        Ok(Some(identity)) => Some(identity),
        Err(error) => {
            let mend = ["重新登记本节点", "enrol this box again"];
            report.add("membership", Verdict::Wrong, same(format!("{error:#}")), mend);
            None
        }
    };
    let serving = processes::serving(dir);
    let status = joined.as_ref().and_then(|_| status::when_down(config).ok());
    process_unasked(&mut report, serving, status.as_ref().is_some_and(|status| status.fenced));
    files(&mut report, dir, disk::space(dir).ok());
    if let Some(identity) = joined {
        database(&mut report, dir);
        match &status {
            Some(status) if status.fenced => {
                over(&mut report, Shut::Fenced, Seq(status.journal), identity.place());
            }
            _ => journal_when_down(&mut report, dir, &identity),
        }
        if let Some(status) = &status {
            certificate(&mut report, status);
        }
        look_up(&mut report, &identity.hub_addr);
    }
    if serving.is_none() {
        ports(&mut report, config);
    }
    report
}

/// The process of a member, where nothing answers in its folder.
fn process_unasked(report: &mut Report, serving: Option<u32>, is_fenced: bool) {
    let Some(number) = serving else {
        if is_fenced {
            let seen = both("没有运行, 重新登记之后再启动", "not started; it comes after the new membership");
            return report.add("process", Verdict::Unknown, seen, ["", ""]);
        }
        return report.add(
            "process",
            Verdict::Wrong,
            both("程序没有运行", "the program does not run"),
            [
                "systemctl start yika-edge; 日志: journalctl -u yika-edge",
                "systemctl start yika-edge; log: journalctl -u yika-edge",
            ],
        );
    };
    report.add(
        "process",
        Verdict::Wrong,
        both(
            format!("正在运行 (进程 {number}), 但在数据目录里问不到它: 启动之后目录被移动或重新挂载过"),
            format!(
                "runs (process {number}) but cannot be asked: its folder was moved or mounted again since it started"
            ),
        ),
        ["systemctl restart yika-edge", "systemctl restart yika-edge"],
    );
}

/// A machine that is no box yet: joining comes first, and makes the data folder.
fn never_joined(report: &mut Report, config: &Config) {
    let dir = &config.data;
    let [zh, en] = [Lang::Zh, Lang::En].map(|lang| not_joined(dir, lang));
    let seen = both(format!("{}: 没有登记", dir.display()), format!("{}: none", dir.display()));
    report.add("membership", Verdict::Wrong, seen, [&zh, &en]);
    let serving = processes::serving(dir);
    match serving {
        None => {
            let seen = both("还没有启动, 登记之后再启动", "not started; it comes after the membership");
            report.add("process", Verdict::Unknown, seen, ["", ""]);
        }
        Some(number) => report.add(
            "process",
            Verdict::Wrong,
            both(
                format!("正在运行 (进程 {number}): 它启动时这里有登记, 数据盘或目录是后来不见的"),
                format!(
                    "runs (process {number}): there was a membership when it started; the disk or folder went away"
                ),
            ),
            [
                "不要重新登记; 重新挂载数据盘 (findmnt, lsblk), 再 systemctl restart yika-edge",
                "do not enrol again; mount the disk (findmnt, lsblk), then systemctl restart yika-edge",
            ],
        ),
    }
    if dir.exists() {
        files(report, dir, disk::space(dir).ok());
    }
    if serving.is_none() {
        ports(report, config);
    }
}

/// Keys that others can read, room, inodes.
fn files(report: &mut Report, dir: &Path, space: Option<disk::Space>) {
    let open: Vec<String> = ["node.key", "endpoint.key", mirror::FILE, crate::control::SOCKET]
        .into_iter()
        .filter(|name| {
            let mode = std::fs::metadata(dir.join(name)).map(|m| m.permissions().mode());
            mode.is_ok_and(|mode| mode & 0o077 != 0)
        })
        .map(str::to_owned)
        .collect();
    let seen = match open.is_empty() {
        true => ["只有本程序可读".into(), "private files are private".into()],
        false => both(
            format!("{} 下的 {} 可被他人读取", dir.display(), open.join(", ")),
            format!("{}: readable by others in {}", open.join(", "), dir.display()),
        ),
    };
    let mend = ["chmod 600 这些文件", "chmod 600 these files"];
    report.add("permissions", wrong_if(!open.is_empty()), seen, mend);
    encryption(report, dir);
    let Some(space) = space else {
        let mend = ["检查 data 设置和磁盘", "check the setting `data` and the disk"];
        return report.add(
            "disk",
            Verdict::Wrong,
            both(format!("无法查看 {}", dir.display()), format!("cannot look at {}", dir.display())),
            mend,
        );
    };
    let inodes = space.free_inodes.map_or("-".to_owned(), |n| n.to_string());
    let scarce = space.free_bytes < status::DISK_FREE_BYTES_MIN
        || space.free_inodes.is_some_and(|free| free < status::INODES_FREE_MIN);
    report.add(
        "disk",
        wrong_if(scarce),
        both(
            format!("可用 {} MiB, inode {inodes}", space.free_bytes >> 20),
            format!("{} MiB free, {inodes} inodes free", space.free_bytes >> 20),
        ),
        ["清理磁盘; 空间恢复后自动继续写入", "free space; writing resumes by itself"],
    );
}

/// Who carries the box away must not be able to read it.
fn encryption(report: &mut Report, dir: &Path) {
    let (verdict, seen) = match at_rest::of(dir) {
        AtRest::Encrypted => (Verdict::Well, both("数据盘已加密", "the disk under the data folder is encrypted")),
        AtRest::Plain => (
            Verdict::Note,
            both(
                "数据盘没有加密: 拿走这台机器的人可以读出姓名、卡号和密钥",
                "the disk under the data folder is not encrypted: who takes this box can read names, cards and keys",
            ),
        ),
        AtRest::Unknown => {
            (Verdict::Unknown, both("看不出数据盘是否加密", "the system does not tell whether the disk is encrypted"))
        }
    };
    let mend = [
        "把数据目录放到 LUKS 加密盘上, 钥匙放 TPM: 见 deploy/README.md",
        "put the data folder on a LUKS volume whose key is in the TPM: see deploy/README.md",
    ];
    report.add("encryption", verdict, seen, mend);
}

fn database(report: &mut Report, dir: &Path) {
    let path = status::database(dir);
    if !path.exists() {
        return report.add("database", Verdict::Note, both("还没有", "none yet"), ["", ""]);
    }
    let checked = SqliteReader::open(&path, &Options::default()).and_then(|reader| reader.quick_check());
    let mend = [
        "停止服务, 保留 data 目录, 在总部用 --replaces 重新登记; 流水在总部和同园区节点上有副本",
        "stop the service, keep the data folder, enrol again with --replaces; headquarters and siblings hold the journal",
    ];
    match checked {
        Ok(()) => {
            let mib = (disk::bytes(&path) + disk::bytes(&path.with_extension("db-wal"))) >> 20;
            report.add(
                "database",
                Verdict::Well,
                both(format!("完好, {mib} MiB"), format!("sound, {mib} MiB")),
                ["", ""],
            );
        }
        Err(error) => report.add("database", Verdict::Wrong, same(error.to_string()), mend),
    }
}

fn writer(report: &mut Report, status: &Status) {
    let mend = ["按原因处理 (磁盘满则清理空间)", "mend the cause (free space if the disk is full)"];
    match &status.refusing {
        None => report.add(
            "writer",
            Verdict::Well,
            both(format!("排队 {}", status.writer_waiting), format!("{} waiting", status.writer_waiting)),
            ["", ""],
        ),
        Some(cause) => report.add("writer", Verdict::Wrong, same(cause.clone()), mend),
    }
}

fn journal_when_down(report: &mut Report, dir: &Path, identity: &Identity) {
    let feed = FeedId { writer: identity.me, channel: Channel::Journal };
    let path = status::database(dir);
    if !path.exists() {
        return;
    }
    let judged = mirror::read(dir).map_err(anyhow::Error::from).and_then(|said| {
        let reader = SqliteReader::open(&path, &Options::default())?;
        Ok((mirror::judge(said, identity.me, &reader)?, reader.feed(&feed)?.end.seq))
    });
    let Ok((shut, seq)) = judged else {
        return report.add("journal", Verdict::Unknown, both("无法读取", "cannot be read"), ["", ""]);
    };
    let mend = ["启动并接通总部, 缺少的记录会取回", "start and connect headquarters: what is missing is taken back"];
    match shut {
        None => report.add("journal", Verdict::Well, ends_at(seq.0), ["", ""]),
        Some(shut) => report.add("journal", Verdict::Wrong, shut_words(shut, seq), mend),
    }
}

fn clock(report: &mut Report, status: &Status) {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let wall_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    let offset_ms = wall_ms.saturating_sub(status.hub_time_ms);
    let mend = ["接通总部, 或在本节点页面确认时间", "connect headquarters, or confirm the time on this box's page"];
    if !status.clock_trusted {
        let seen = ["启动后还没有可信时间".into(), "no trusted time since the start".into()];
        return report.add("clock", Verdict::Wrong, seen, mend);
    }
    let far = offset_ms.unsigned_abs() > CLOCK_OFFSET_MS_MAX;
    report.add(
        "clock",
        if far { Verdict::Note } else { Verdict::Well },
        both(
            format!("可信; 系统时钟相差 {offset_ms} 毫秒"),
            format!("trusted; the system clock differs by {offset_ms} ms"),
        ),
        ["系统时钟不影响营业, 建议启用 NTP", "the system clock does not matter for sales; set up NTP"],
    );
}

/// An expired certificate alarms and renews; it never stops a canteen.
fn certificate(report: &mut Report, status: &Status) {
    let mend = ["接通总部后自动续期", "renews by itself when headquarters is reached"];
    match status.certificate_days {
        Some(days) => {
            let low = days < status::CERTIFICATE_DAYS_MIN;
            report.add(
                "certificate",
                wrong_if(low),
                both(format!("剩余 {days} 天"), format!("{days} days left")),
                mend,
            );
        }
        None => report.add(
            "certificate",
            Verdict::Wrong,
            both("无法读取", "cannot be read"),
            ["重新登记本节点", "enrol this box again"],
        ),
    }
}

async fn path_to_hub(report: &mut Report, status: &Status) {
    let looked = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host(status.hub_addr.clone())).await;
    name_check(report, &status.hub_addr, looked.ok().and_then(Result::ok).map(Iterator::collect));
    let heard = [
        status.hub_heard_age_ms.map_or("启动以来没有".to_owned(), |age| Lang::Zh.age(age) + "前"),
        status.hub_heard_age_ms.map_or("never since the start".to_owned(), |age| Lang::En.age(age) + " ago"),
    ];
    match status.hub_connected {
        true => report.add(
            "headquarters",
            Verdict::Well,
            both(format!("已连接, 最近消息 {}", heard[0]), format!("connected, last word {}", heard[1])),
            ["", ""],
        ),
        false => report.add(
            "headquarters",
            Verdict::Wrong,
            both(
                format!("未连接, 最近消息 {}; {}", heard[0], status.hub_words),
                format!("not connected, last word {}; {}", heard[1], status.hub_words),
            ),
            mend_of_the_line(&status.hub_words),
        ),
    }
}

/// A line that headquarters has closed for a while needs no hands here.
fn mend_of_the_line(words: &str) -> [&'static str; 2] {
    if words.contains(&CloseCode::FENCED.to_string()) {
        return [
            "线路正常, 总部已封禁本节点; 见上面的流水一项",
            "the line is well; headquarters has fenced this box: see the journal above",
        ];
    }
    match words.contains(&CloseCode::UNAVAILABLE.to_string()) {
        true => [
            "线路正常, 一端暂时无法接收, 恢复后自动继续; 原因见上和总部的 yika-hub status; 本地营业不受影响",
            "the line is well; one end cannot take anything for now and goes on by itself; the cause is above and in \
             `yika-hub status` at headquarters; sales here go on",
        ],
        false => [
            "检查外网线路和防火墙 (UDP 出站到总部端口); 本地营业不受影响",
            "check the uplink and the firewall (UDP out to headquarters' port); sales here go on",
        ],
    }
}

fn look_up(report: &mut Report, addr: &str) {
    use std::net::ToSocketAddrs;
    name_check(report, addr, addr.to_socket_addrs().ok().map(Iterator::collect));
}

fn name_check(report: &mut Report, addr: &str, found: Option<Vec<SocketAddr>>) {
    match found.filter(|found| !found.is_empty()) {
        Some(found) => report.add(
            "name",
            Verdict::Well,
            both(format!("{addr} 是 {}", found[0].ip()), format!("{addr} is {}", found[0].ip())),
            ["", ""],
        ),
        None => report.add(
            "name",
            Verdict::Wrong,
            both(format!("找不到 {addr}"), format!("{addr} is not found")),
            ["检查 DNS 设置 (/etc/resolv.conf)", "check the name server (/etc/resolv.conf)"],
        ),
    }
}

/// How old what headquarters publishes may be here.
fn lists(report: &mut Report, status: &Status) {
    let age = status.lists_age_ms;
    let old = age.is_none_or(|age| age > LISTS_AGE_MS_MAX);
    let seen = match age {
        None => both("还没有收到", "nothing has come yet"),
        Some(age) => both(
            format!("总部最新数据 {}前", Lang::Zh.age(age)),
            format!("newest from headquarters {} ago", Lang::En.age(age)),
        ),
    };
    report.add(
        "lists",
        if old { Verdict::Note } else { Verdict::Well },
        seen,
        ["接通总部后更新名单和价格", "lists and prices come with the connection to headquarters"],
    );
}

/// While the box is down its ports must be free.
fn ports(report: &mut Report, config: &Config) {
    let udp = UdpSocket::bind(config.link.bind).err().map(|e| format!("UDP {}: {e}", config.link.bind));
    let tcp = TcpListener::bind(config.http.bind).err().map(|e| format!("TCP {}: {e}", config.http.bind));
    let taken: Vec<String> = udp.into_iter().chain(tcp).collect();
    report.add(
        "ports",
        wrong_if(!taken.is_empty()),
        if taken.is_empty() { both("空闲", "free") } else { same(taken.join("; ")) },
        [
            "结束占用端口的程序 (ss -lntup), 或改 link.bind / http.bind",
            "end what holds the port (ss -lntup), or change link.bind / http.bind",
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use yika_link::CloseReason;

    #[test]
    fn a_line_closed_for_a_while_is_no_matter_for_the_firewall() {
        let words = |code| CloseReason::ByPeer { code, words: "the disk is full".into() }.to_string();
        assert!(mend_of_the_line(&words(CloseCode::UNAVAILABLE))[1].contains("goes on by itself"));
        assert!(mend_of_the_line("no answer within 2500 ms")[1].contains("firewall"));
    }
}

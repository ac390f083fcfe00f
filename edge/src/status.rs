//! The state of this box at a glance: for `yika-edge status`, the status page and `/readyz`.
//!
//! Never judged by an open socket alone: by the age of the newest word from headquarters and by what it has not yet
//! confirmed. Leaves to others: looking for causes (`doctor`), pages (`console`).

use crate::config::Config;
use crate::disk::{self, Space};
use crate::doctor;
use crate::doors::Doors;
use crate::ended;
use crate::identity::Identity;
use crate::node::{EdgeNode, SOFTWARE};
use crate::periphery::Periphery;
use crate::terminals::Board;
use crate::vitals::Contact;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::entry::{Entry, LeaseRecord, ReceiptRecord};
use yika_crdt::gate::Shut;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::store::Read;
use yika_link::describe_certificate;
use yika_store::{Health, Options, SqliteReader};
use yika_ui::Lang;

/// An entry that headquarters has not confirmed for this long means that the box works alone.
pub const UNSENT_AGE_MS_MAX: u64 = 60_000;
/// Less of the lease than this is worth a word.
pub const LEASE_LEFT_MS_MIN: i64 = 12 * 3_600_000;
/// Less free space than this needs hands.
pub const DISK_FREE_BYTES_MIN: u64 = 200 << 20;
/// Fewer free inodes than this need hands.
pub const INODES_FREE_MIN: u64 = 1_000;
/// Fewer days of the certificate than this need hands: renewal should have come long before.
pub const CERTIFICATE_DAYS_MIN: i64 = 7;

/// The one word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Connected to headquarters, nothing waits.
    Normal,
    /// Works alone: sells and opens doors without headquarters.
    Offline,
    /// Somebody must look.
    Attention,
    /// The process does not run.
    Down,
}

/// Something that needs hands, in both languages.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Remark {
    /// A short stable word.
    pub code: String,
    /// Chinese.
    pub zh: String,
    /// English.
    pub en: String,
}

/// Another box of the campus.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sibling {
    /// Its number.
    pub node: u32,
    /// Its name.
    pub name: String,
    /// A connection is open.
    pub connected: bool,
    /// When it last said something.
    pub heard_age_ms: Option<u64>,
}

/// Everything at a glance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The one word.
    pub state: State,
    /// What needs hands.
    pub remarks: Vec<Remark>,
    /// Node and life, as text.
    pub node: String,
    /// Campus number.
    pub campus: u16,
    /// Name of the campus, if the registry has come.
    pub campus_name: Option<String>,
    /// Program and version.
    pub software: String,
    /// How long the process runs.
    pub uptime_ms: u64,
    /// Name of headquarters.
    pub hub_name: String,
    /// Its address.
    pub hub_addr: String,
    /// Something is connected there; never enough to be called normal.
    pub hub_connected: bool,
    /// Why it is not, in its own words.
    pub hub_words: String,
    /// Age of the newest word from headquarters.
    pub hub_heard_age_ms: Option<u64>,
    /// Age of the newest thing that headquarters published and this box holds.
    pub lists_age_ms: Option<u64>,
    /// Journal entries that headquarters has not confirmed.
    pub unsent: u64,
    /// Age of the oldest of them.
    pub unsent_age_ms: Option<u64>,
    /// Last journal position.
    pub journal: u64,
    /// What is left of the permission to spend.
    pub lease_left_ms: Option<i64>,
    /// Other boxes of the campus.
    pub siblings: Vec<Sibling>,
    /// Terminals and doors, as they reported.
    pub periphery: Periphery,
    /// Hub time, and whether it may be trusted.
    pub hub_time_ms: i64,
    /// Whether it may be trusted.
    pub clock_trusted: bool,
    /// Entries that could not be used.
    pub quarantined: u64,
    /// Free space of the data folder.
    pub disk: Option<Space>,
    /// Days until the certificate ends.
    pub certificate_days: Option<i64>,
    /// Bytes of the database and its log.
    pub database_bytes: u64,
    /// Bytes of the write-ahead log.
    pub wal_bytes: u64,
    /// Commands that wait for the writer.
    pub writer_waiting: usize,
    /// Why the box does not write, if so.
    pub refusing: Option<String>,
    /// Why nothing may be appended to its own feeds, if so.
    pub shut: Option<String>,
    /// The same in Chinese.
    pub shut_zh: Option<String>,
    /// This life is over, by headquarters' word or because two boxes wrote it: only a new enrolment helps.
    #[serde(default)]
    pub fenced: bool,
}

/// Reads everything; blocks for a moment.
pub fn gather(node: &EdgeNode, doors: &Doors, board: &Board) -> Status {
    let mono_ms = node.ticks().mono_ms;
    let vitals = node.vitals();
    let (hub_time_ms, clock_trusted) = node.time();
    let contacts = vitals.contacts();
    let hub = contacts.get(&NodeId::HUB).cloned().unwrap_or_default();
    let registry = node.registry();
    let campus = node.place().campus.unwrap_or(CampusId(0));
    let mut status = Status {
        state: State::Normal,
        remarks: Vec::new(),
        node: node.writer().to_string(),
        campus: campus.0,
        campus_name: registry.campuses.get(&campus).map(|c| c.name.clone()),
        software: SOFTWARE.to_owned(),
        uptime_ms: mono_ms.saturating_sub(vitals.started_mono_ms()),
        hub_name: node.hub_name.clone(),
        hub_addr: vitals.hub_addr().to_owned(),
        hub_connected: hub.connected,
        hub_words: hub.words.clone(),
        hub_heard_age_ms: age(&hub, mono_ms),
        lists_age_ms: None,
        unsent: 0,
        unsent_age_ms: None,
        journal: 0,
        lease_left_ms: None,
        siblings: siblings(node, &contacts, mono_ms),
        periphery: Periphery::of(node, board, doors, mono_ms.saturating_sub(vitals.started_mono_ms())),
        hub_time_ms,
        clock_trusted,
        quarantined: 0,
        disk: disk::space(vitals.dir()).ok(),
        certificate_days: certificate_days(&vitals.certificate_der(), hub_time_ms),
        database_bytes: disk::bytes(&database(vitals.dir())),
        wal_bytes: disk::bytes(&vitals.dir().join("edge.db-wal")),
        writer_waiting: node.writer_waiting(),
        refusing: match node.health() {
            Health::Serving => None,
            Health::Refusing(error) => Some(error.to_string()),
            Health::Damaged(error) => Some(format!("{error}; yika-edge doctor says how to mend it")),
            Health::Stopped => Some("the writer has stopped".to_owned()),
        },
        shut: None,
        shut_zh: None,
        fenced: false,
    };
    let read = node.look(|store| read_rows(&mut status, store, node.writer(), vitals.hub_stored()));
    if let Err(error) = read {
        status.refusing.get_or_insert(error.to_string());
    }
    status.fenced = node.shut().is_some_and(|shut| shut.is_for_ever());
    let shut = node.shut().map(|shut| doctor::shut_words(shut, Seq(status.journal)));
    (status.shut_zh, status.shut) = shut.map(|[zh, en]| (zh, en)).unzip();
    judge(&mut status, node.place());
    status
}

/// What can be said while the box is down: files only.
///
/// # Errors
/// When the box never joined, or its files cannot be read.
pub fn when_down(config: &Config) -> Result<Status> {
    let dir = &config.data;
    let identity = Identity::of_member(dir)?;
    let wall_ms = wall_ms();
    let mut status = Status {
        state: State::Down,
        remarks: Vec::new(),
        node: identity.me.to_string(),
        campus: identity.campus.0,
        campus_name: None,
        software: SOFTWARE.to_owned(),
        uptime_ms: 0,
        hub_name: identity.hub_name.clone(),
        hub_addr: identity.hub_addr.clone(),
        hub_connected: false,
        hub_words: String::new(),
        hub_heard_age_ms: None,
        lists_age_ms: None,
        unsent: 0,
        unsent_age_ms: None,
        journal: 0,
        lease_left_ms: None,
        siblings: Vec::new(),
        periphery: Periphery::default(),
        hub_time_ms: wall_ms,
        clock_trusted: false,
        quarantined: 0,
        disk: disk::space(dir).ok(),
        certificate_days: certificate_days(&identity.certificate_der, wall_ms),
        database_bytes: disk::bytes(&database(dir)),
        wal_bytes: disk::bytes(&dir.join("edge.db-wal")),
        writer_waiting: 0,
        refusing: None,
        shut: None,
        shut_zh: None,
        fenced: false,
    };
    let path = database(dir);
    if path.exists() {
        let read = SqliteReader::open(&path, &Options::default())
            .and_then(|reader| read_rows(&mut status, &reader, identity.me, Seq::ZERO));
        status.refusing = read.err().map(|e| e.to_string());
    }
    match status.fenced {
        true => {
            let words = doctor::shut_words(Shut::Fenced, Seq(status.journal));
            remark_over(&mut status, words, identity.place());
        }
        false => remark(
            &mut status,
            "down",
            "程序没有运行: systemctl start yika-edge",
            "the program does not run: systemctl start yika-edge",
        ),
    }
    common_remarks(&mut status);
    Ok(status)
}

fn read_rows(
    status: &mut Status,
    store: &dyn Read,
    me: Writer,
    hub_stored: Seq,
) -> Result<(), yika_crdt::store::StoreError> {
    let feed = FeedId { writer: me, channel: Channel::Journal };
    let end = store.feed(&feed)?.end.seq;
    let receipt: Option<ReceiptRecord> = row(store, &keys::receipt(me.incarnation))?;
    let held = receipt.map_or(Seq::ZERO, |r| r.held).max(hub_stored).min(end);
    status.journal = end.0;
    status.unsent = end.0 - held.0;
    if status.unsent > 0 {
        let oldest = store.entries(&feed, held.next(), 1)?.into_iter().next();
        let stamp = oldest.and_then(|bytes| Entry::decode(&bytes).ok()).map(|e| e.stamp.hub_time_ms);
        status.unsent_age_ms = stamp.map(|at| u64::try_from(status.hub_time_ms.saturating_sub(at)).unwrap_or(0));
    }
    status.lists_age_ms =
        newest_of_hub(store)?.map(|at| u64::try_from(status.hub_time_ms.saturating_sub(at)).unwrap_or(0));
    let lease: Option<LeaseRecord> = row(store, keys::LEASE)?;
    let lease = lease.filter(|l| l.incarnation == me.incarnation);
    status.lease_left_ms = lease.map(|l| l.until_ms.saturating_sub(status.hub_time_ms));
    status.fenced = store.get(keys::FENCED)?.is_some();
    status.quarantined = store.scan(keys::QUARANTINE, None, QUARANTINED_COUNTED_MAX)?.len() as u64;
    Ok(())
}

/// When headquarters wrote the newest entry that is held here.
fn newest_of_hub(store: &dyn Read) -> Result<Option<i64>, yika_crdt::store::StoreError> {
    let mut newest = None;
    for (feed, held) in store.feeds()?.into_iter().filter(|(feed, _)| feed.writer.node.is_hub()) {
        let last = store.entries(&feed, held.end.seq, 1)?.into_iter().next();
        let stamp = last.and_then(|bytes| Entry::decode(&bytes).ok()).map(|entry| entry.stamp.hub_time_ms);
        newest = newest.max(stamp);
    }
    Ok(newest)
}

/// Journal entries that headquarters has not confirmed, while the box is down, and whether it has fenced the box, so that
/// it never will.
///
/// # Errors
/// When the database cannot be read.
pub fn unsent_when_down(dir: &Path, identity: &Identity) -> Result<(u64, bool)> {
    let path = database(dir);
    if !path.exists() {
        return Ok((0, false));
    }
    let reader = SqliteReader::open(&path, &Options::default())?;
    let feed = FeedId { writer: identity.me, channel: Channel::Journal };
    let receipt: Option<ReceiptRecord> = row(&reader, &keys::receipt(identity.me.incarnation))?;
    let held = receipt.map_or(Seq::ZERO, |r| r.held);
    let is_fenced = reader.get(keys::FENCED)?.is_some();
    Ok((reader.feed(&feed)?.end.seq.0.saturating_sub(held.0), is_fenced))
}

/// Counting stops here: more than this is not worth knowing exactly.
const QUARANTINED_COUNTED_MAX: usize = 10_000;

fn row<T: serde::de::DeserializeOwned>(
    store: &dyn Read,
    key: &[u8],
) -> Result<Option<T>, yika_crdt::store::StoreError> {
    store.get(key)?.map(|bytes| yika_crdt::store::decode_row(key, &bytes)).transpose()
}

fn siblings(node: &EdgeNode, contacts: &std::collections::BTreeMap<NodeId, Contact>, mono_ms: u64) -> Vec<Sibling> {
    let registry = node.registry();
    let mut newest = std::collections::BTreeMap::new();
    for (writer, record) in &registry.nodes {
        let sibling = record.campus == node.place().campus && writer.node != node.writer().node;
        if sibling && !registry.fences.contains_key(writer) {
            newest.insert(writer.node, record.name.clone());
        }
    }
    let view = |(id, name): (NodeId, String)| {
        let contact = contacts.get(&id).cloned().unwrap_or_default();
        Sibling { node: id.0, name, connected: contact.connected, heard_age_ms: age(&contact, mono_ms) }
    };
    newest.into_iter().map(view).collect()
}

fn age(contact: &Contact, mono_ms: u64) -> Option<u64> {
    contact.heard_mono_ms.map(|at| mono_ms.saturating_sub(at))
}

fn certificate_days(der: &[u8], now_ms: i64) -> Option<i64> {
    let (_, validity) = describe_certificate(der).ok()?;
    Some((validity.not_after_s.saturating_sub(now_ms / 1000)).div_euclid(86_400))
}

fn wall_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

fn remark(status: &mut Status, code: &str, zh: impl Into<String>, en: impl Into<String>) {
    status.remarks.push(Remark { code: code.to_owned(), zh: zh.into(), en: en.into() });
}

/// What is said of a life that is over, and the way back, so that nobody has to ask step by step.
fn remark_over(status: &mut Status, [zh, en]: [String; 2], place: Place) {
    remark(status, "journal", format!("暂停消费 (门照常): {zh}"), format!("nothing is sold (doors go on): {en}"));
    let [zh, en] = ended::way_back(place.node, place.campus.unwrap_or(CampusId(status.campus)));
    remark(status, "way_back", zh, en);
}

/// Finds the one word.
fn judge(status: &mut Status, place: Place) {
    common_remarks(status);
    match (status.shut_zh.clone(), status.shut.clone()) {
        (Some(zh), Some(en)) if status.fenced => remark_over(status, [zh, en], place),
        (Some(zh), Some(en)) => {
            remark(
                status,
                "journal",
                format!("暂停消费 (门照常): {zh}"),
                format!("nothing is sold (doors go on): {en}"),
            );
        }
        _ => {}
    }
    if !status.clock_trusted {
        remark(
            status,
            "clock",
            "启动后还没有可信时间: 只按散客限额消费; 等待总部或在本节点页面确认时间",
            "no trusted time since the start: only guest purchases; wait for headquarters or confirm the time on this box's page",
        );
    }
    match status.lease_left_ms {
        Some(left) if left <= 0 => remark(
            status,
            "lease",
            "消费许可已过期: 接通总部后恢复",
            "the permission to spend is over: it returns with headquarters",
        ),
        Some(left) if left < LEASE_LEFT_MS_MIN => remark(
            status,
            "lease",
            format!("消费许可只剩 {}", Lang::Zh.age(left.unsigned_abs())),
            format!("the permission to spend ends in {}", Lang::En.age(left.unsigned_abs())),
        ),
        Some(_) => {}
        None => remark(
            status,
            "lease",
            "还没有消费许可: 等待总部第一次连接",
            "no permission to spend yet: waits for the first contact with headquarters",
        ),
    }
    if status.quarantined > 0 {
        let n = status.quarantined;
        remark(
            status,
            "quarantine",
            format!("{n} 条记录无法使用, 已隔离"),
            format!("{n} entries could not be used and are in quarantine"),
        );
    }
    let broken: Vec<_> =
        status.periphery.problems().filter(|(_, p)| p.wrong).map(|(c, p)| (c, p.seen.clone())).collect();
    for (code, [zh, en]) in broken {
        remark(status, code, zh, en);
    }
    let alone = !status.hub_connected || status.unsent_age_ms.is_some_and(|age| age > UNSENT_AGE_MS_MAX);
    status.state = match () {
        () if !status.remarks.is_empty() => State::Attention,
        () if alone => State::Offline,
        () => State::Normal,
    };
}

/// Remarks that need no running process.
fn common_remarks(status: &mut Status) {
    if let Some(cause) = status.refusing.clone() {
        remark(
            status,
            "store",
            format!("数据库不能写入: {cause}"),
            format!("the database does not take writes: {cause}"),
        );
    }
    if let Some(disk) = status.disk {
        if disk.free_bytes < DISK_FREE_BYTES_MIN {
            let free = disk.free_bytes >> 20;
            remark(status, "disk", format!("磁盘只剩 {free} MiB"), format!("only {free} MiB of disk are free"));
        }
        if disk.free_inodes.is_some_and(|free| free < INODES_FREE_MIN) {
            remark(status, "inodes", "磁盘 inode 将用尽", "the disk is running out of inodes");
        }
    }
    if let Some(days) = status.certificate_days.filter(|d| *d < CERTIFICATE_DAYS_MIN) {
        remark(
            status,
            "certificate",
            format!("证书剩余 {days} 天, 接通总部后自动续期 (不影响营业)"),
            format!(
                "the certificate has {days} days left; it renews when headquarters is reached (nothing stops meanwhile)"
            ),
        );
    }
}

impl Status {
    /// Whether somebody must look.
    pub fn needs_hands(&self) -> bool {
        matches!(self.state, State::Attention | State::Down)
    }

    /// The number of the node.
    pub fn number(&self) -> NodeId {
        self.node.split('@').next().and_then(|node| node.parse().ok()).unwrap_or(NodeId(0))
    }

    /// For the terminal.
    pub fn in_words(&self, lang: Lang) -> String {
        let mut lines = Lines { lang, lines: vec![lang.pick(self.state.words()).to_owned()] };
        for remark in &self.remarks {
            lines.lines.push(format!("  ! {}", lang.pick([&remark.zh, &remark.en])));
        }
        let campus_name = self.campus_name.as_deref().unwrap_or("");
        let where_ = format!("{} {} {campus_name}", lang.pick(["园区", "campus"]), CampusId(self.campus));
        lines.add("本节点", "this box", format!("{} · {} · {}", self.node, where_.trim(), self.software));
        self.tell_hub(&mut lines);
        for sibling in &self.siblings {
            let line = if sibling.connected { ["已连接", "connected"] } else { ["未连接", "not connected"] };
            let (connected, heard) = (lang.pick(line), lang.ago(sibling.heard_age_ms));
            lines.add("同园区节点", "sibling", format!("n{} {} · {connected} · {heard}", sibling.node, sibling.name));
        }
        lines.add("时钟可信", "clock trusted", lang.yes(self.clock_trusted).to_owned());
        if let Some(disk) = self.disk {
            let free = format!("{} MiB / {} MiB", disk.free_bytes >> 20, disk.total_bytes >> 20);
            lines.add("磁盘可用", "disk free", free);
        }
        if let Some(days) = self.certificate_days {
            lines.add("证书剩余天数", "certificate days left", days.to_string());
        }
        lines.lines.extend(self.periphery.in_words(lang));
        lines.lines.join("\n") + "\n"
    }

    /// What headquarters has said and confirmed, and what it allows.
    fn tell_hub(&self, lines: &mut Lines) {
        let lang = lines.lang;
        lines.add("总部", "headquarters", format!("{} ({})", self.hub_name, self.hub_addr));
        lines.add("最近一次收到总部消息", "last word from headquarters", lang.ago(self.hub_heard_age_ms));
        if !self.hub_connected && !self.hub_words.is_empty() {
            lines.add("连接", "connection", self.hub_words.clone());
        }
        let oldest = |age| format!(" ({} {})", lang.pick(["最早", "oldest"]), lang.ago(Some(age)));
        let unsent = format!("{}{}", self.unsent, self.unsent_age_ms.map(oldest).unwrap_or_default());
        lines.add("总部未确认的记录", "entries not confirmed by headquarters", unsent);
        if self.fenced && self.unsent > 0 {
            let [zh, en] = ended::unconfirmed(self.number());
            lines.lines.push(format!("  ! {}", lang.pick([&zh, &en])));
        }
        let lease = match self.lease_left_ms {
            Some(left) if left > 0 => lang.age(left.unsigned_abs()),
            Some(_) => lang.pick(["已过期", "over"]).to_owned(),
            None => lang.pick(["没有", "none"]).to_owned(),
        };
        lines.add("消费许可剩余", "permission to spend left", lease);
    }
}

impl State {
    fn words(self) -> [&'static str; 2] {
        match self {
            State::Normal => ["正常", "NORMAL"],
            State::Offline => ["脱机营业", "WORKING OFFLINE: tills and doors go on"],
            State::Attention => ["需处理", "NEEDS ATTENTION"],
            State::Down => ["未运行", "DOWN"],
        }
    }
}

/// Lines for the terminal, in one language.
struct Lines {
    lang: Lang,
    lines: Vec<String>,
}

impl Lines {
    fn add(&mut self, zh_key: &str, en_key: &str, value: String) {
        let key = self.lang.pick([zh_key, en_key]);
        self.lines.push(format!("{key}: {value}"));
    }
}

/// Durations for people, coarse: seconds, minutes, hours, days.
pub trait AgeWords {
    /// In words.
    fn age(self, ms: u64) -> String;
    /// How long ago something was, if ever.
    fn ago(self, age_ms: Option<u64>) -> String;
    /// Chinese or English.
    fn pick(self, words: [&str; 2]) -> &str;
    /// Yes or no.
    fn yes(self, yes: bool) -> &'static str;
}

impl AgeWords for Lang {
    fn age(self, ms: u64) -> String {
        let seconds = ms / 1000;
        let (count, zh, en) = match seconds {
            0..120 => (seconds, "秒", "s"),
            120..7_200 => (seconds / 60, "分钟", "min"),
            7_200..172_800 => (seconds / 3_600, "小时", "h"),
            _ => (seconds / 86_400, "天", "d"),
        };
        format!("{count} {}", self.pick([zh, en]))
    }

    fn ago(self, age_ms: Option<u64>) -> String {
        match age_ms.map(|age| self.age(age)) {
            Some(age) if self == Lang::Zh => format!("{age}前"),
            Some(age) => format!("{age} ago"),
            None => self.pick(["启动以来没有", "not since the start"]).to_owned(),
        }
    }

    fn pick(self, [zh, en]: [&str; 2]) -> &str {
        if self == Lang::Zh { zh } else { en }
    }

    fn yes(self, yes: bool) -> &'static str {
        self.pick(if yes { ["是", "yes"] } else { ["否", "no"] })
    }
}

/// Where the data folder's database is.
pub fn database(dir: &Path) -> std::path::PathBuf {
    dir.join("edge.db")
}

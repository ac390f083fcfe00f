//! A whole world of real processes: headquarters, two campuses with three boxes, tariff, people, money, terminals, a door.
//!
//! The demo and the end-to-end tests play in it. Leaves to others: how a program is started (`site`), what is sold.

use crate::books::{Books, Comparison, Journal, compare};
use crate::process::{Launch, Port, Process};
use crate::site::{BoxProgram, HubProgram, Reach, until};
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;
use yika_crdt::channel::FeedId;
use yika_crdt::ids::{CampusId, PersonId};
use yika_crdt::keys;
use yika_crdt::store::{FeedState, Read};
use yika_drivers::terminal::simulator::{Plan, TerminalPlan};
use yika_hub::control::{PersonLine, TopUpWish, ToppedUp};
use yika_hub::desk::{ImportReport, TerminalMade};
use yika_store::{Options as StoreOptions, SqliteReader};

/// Seed of the invented people.
const PEOPLE_SEED: u64 = 20_261_124;
/// What everybody is given, in fen.
pub const TOP_UP_FEN: i64 = 15_000;
/// Rows asked for at once.
const PAGE_ROWS: u32 = 500;
const CAMPUSES: [(&str, &str); 2] = [("c1", "东校区"), ("c2", "西校区")];
/// How long people and money may take to every box.
const SPREAD: Duration = Duration::from_secs(60);

/// Prices, and nothing but money limits what one person buys.
const WITHOUT_LIMITS: &str = "version = 0
barred = []
repeat_tap_seconds = 0
periods = []
adjustments = []
limits = []
[[fixed]]
price = 900
[guest]
per_purchase = 2000
per_card_day = 4000
";

/// Everything that runs.
pub struct World {
    /// Databases, plans and logs.
    pub dir: PathBuf,
    /// Headquarters.
    pub hub: HubProgram,
    /// East 1, east 2, west 1.
    pub boxes: Vec<BoxProgram>,
    /// Everybody.
    pub people: Vec<PersonLine>,
    /// Tills by campus.
    pub tills: [Vec<TerminalPlan>; 2],
    /// The door reader of the east campus.
    pub reader: TerminalPlan,
    /// A campus operator who may sign in at the boxes of each campus.
    pub operators: [Operator; 2],
    board: Process,
}

/// A campus operator.
pub struct Operator {
    /// Sign-in name.
    pub login: String,
    /// Password, drawn for this world.
    pub password: String,
}

impl World {
    /// Builds it in `dir` with so many invented people on each campus, each with [`TOP_UP_FEN`]; `say` hears what happens.
    ///
    /// # Errors
    /// What could not be started or did not come, with the last words of the program concerned.
    pub async fn build(dir: &Path, people_per_campus: usize, say: &dyn Fn(&str)) -> Result<World> {
        say("starting headquarters · 启动总部");
        let hub = HubProgram::start(dir, "演示总部").await?;
        for (campus, name) in CAMPUSES {
            hub.command(&["campus", "put", campus, name, "--people", "2000"]).await?;
        }
        let tariff = dir.join("tariff.toml");
        std::fs::write(&tariff, include_str!("../../deploy/samples/tariff.toml"))?;
        hub.command(&["tariff", "set", &tariff.to_string_lossy()]).await?;
        let (board, line) = start_board(dir).await?;
        say("enrolling three boxes with one-time tokens · 用一次性令牌登记三台节点");
        // The west first: of a pair the box with the larger number dials, and only the west is behind a relay.
        let west = BoxProgram::join(&hub, "c2", "west-1", Reach::Relayed, "").await?;
        let east_1 = BoxProgram::join(&hub, "c1", "east-1", Reach::Direct, &line).await?;
        let east_2 = BoxProgram::join(&hub, "c1", "east-2", Reach::Direct, "").await?;
        let boxes = vec![east_1, east_2, west];
        let tills = register_tills(&hub, &boxes).await?;
        let operators = [operator(&hub, "dong", "c1").await?, operator(&hub, "xi", "c2").await?];
        let people = import_people(&hub, dir, people_per_campus, say).await?;
        open_the_door(&hub, dir, &people).await?;
        let reader = register_reader(&hub, &boxes).await?;
        top_up(&hub, &people, say).await?;
        let world = World { dir: dir.to_owned(), hub, boxes, people, tills, reader, operators, board };
        let took = until("people, rights and keys at every box", SPREAD, async || world.is_spread()).await?;
        say(&format!(
            "{} people with rights at {} boxes after {} ms · 人员与额度已到达各节点",
            world.people.len(),
            world.boxes.len(),
            took.as_millis()
        ));
        Ok(world)
    }

    /// Whether every box holds as much of each of the hub's feeds as the hub, and knows everybody.
    ///
    /// # Errors
    /// A database cannot be read.
    pub fn is_spread(&self) -> Result<bool> {
        let hub = feeds(&self.hub.database())?;
        for edge in &self.boxes {
            let held = feeds(&edge.database())?;
            let node = edge.node()?;
            let ours = |feed: &FeedId| match feed.channel {
                yika_crdt::channel::Channel::Rights(to) => to.node.0 == node,
                yika_crdt::channel::Channel::Receipts(to) => to.0 == node,
                yika_crdt::channel::Channel::Campus(campus) => edge.campus == campus.to_string(),
                _ => true,
            };
            let mut wanted = hub.iter().filter(|(feed, _)| feed.writer.node.is_hub() && ours(feed));
            if wanted.any(|(feed, state)| !held.iter().any(|(f, s)| f == feed && s.end == state.end)) {
                return Ok(false);
            }
            let reader = SqliteReader::open(edge.database(), &StoreOptions::default())?;
            if reader.scan(keys::PERSONS, None, self.people.len() + 1)?.len() < self.people.len() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts a tariff in force in which only money limits what one person buys.
    ///
    /// # Errors
    /// Headquarters does not take it, or it does not come to every box.
    pub async fn lift_limits(&self) -> Result<()> {
        let file = self.dir.join("without-limits.toml");
        std::fs::write(&file, WITHOUT_LIMITS)?;
        self.hub.command(&["tariff", "set", &file.to_string_lossy()]).await?;
        until("the tariff at every box", SPREAD, async || self.is_spread()).await?;
        Ok(())
    }

    /// A crowd of a campus at its tills (and its gate, in the east) for so many seconds.
    #[must_use]
    pub fn plan(&self, campus: u16, seconds: u64, seed: u64) -> Plan {
        let readers = if campus == 1 { vec![self.reader.clone()] } else { Vec::new() };
        Plan {
            tills: self.tills[usize::from(campus == 2)].clone(),
            swipes_per_second: if readers.is_empty() { 0 } else { 3 },
            readers,
            cards: self.cards_of(campus).iter().map(u64::to_string).collect(),
            seed,
            per_second: 25,
            seconds: Some(seconds),
            ..Plan::default()
        }
    }

    /// What the boxes have journaled.
    ///
    /// # Errors
    /// A database cannot be read.
    pub fn journals(&self) -> Result<Vec<Journal>> {
        self.boxes.iter().map(|edge| Journal::read(&edge.database(), edge.node()?)).collect()
    }

    /// Waits until headquarters holds everything the boxes wrote, and compares entry by entry.
    ///
    /// # Errors
    /// It does not come within `bound`, or a database cannot be read.
    pub async fn settle(&self, bound: Duration) -> Result<Comparison> {
        until("headquarters holds everything the boxes wrote", bound, async || {
            Ok(Books::read(&self.hub.database())?.holds(&self.journals()?))
        })
        .await?;
        Ok(compare(&self.journals()?, &Books::read(&self.hub.database())?))
    }

    /// Cards of a campus' people.
    #[must_use]
    pub fn cards_of(&self, campus: u16) -> Vec<u64> {
        let there = self.people.iter().filter(|p| p.campus == CampusId(campus));
        there.filter_map(|p| p.card).collect()
    }

    /// The cards of a campus, and those of so many visitors from the other one.
    pub fn cards_at(&self, campus: u16, visitors: usize) -> Vec<u64> {
        let mut cards = self.cards_of(campus);
        cards.extend(self.cards_of(3 - campus).into_iter().take(visitors));
        cards
    }

    /// Pages to open.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let mut urls = vec![format!("{}/", self.hub.url())];
        for edge in &self.boxes {
            urls.push(format!("{}/", edge.url()));
            urls.push(format!("{}/till", edge.url()));
            urls.push(format!("{}/terminal/v1/", edge.url()));
        }
        urls
    }

    /// Says which pages to open.
    pub fn tell_pages(&self, say: &dyn Fn(&str)) {
        say(&format!("headquarters · 总部控制台: {}  (admin / {})", self.hub.url(), self.hub.admin_password));
        for edge in &self.boxes {
            let operator = &self.operators[usize::from(edge.campus == "c2")];
            say(&format!(
                "{} of {}: {}  till · 收银 {}/till  ({} / {})",
                edge.name,
                edge.campus,
                edge.url(),
                edge.url(),
                operator.login,
                operator.password
            ));
        }
        say(&format!("databases and logs · 数据与日志: {}", self.dir.display()));
    }

    /// Ends everything in order.
    ///
    /// # Errors
    /// A program does not end.
    pub async fn stop(&mut self) -> Result<()> {
        let bound = Duration::from_secs(15);
        for edge in &mut self.boxes {
            edge.process.terminate(bound).await?;
        }
        self.hub.process.terminate(bound).await?;
        self.board.terminate(bound).await?;
        Ok(())
    }
}

fn feeds(database: &Path) -> Result<Vec<(FeedId, FeedState)>> {
    Ok(SqliteReader::open(database, &StoreOptions::default())?.feeds()?)
}

/// A simulated relay board, and the configuration of the box it hangs on.
async fn start_board(dir: &Path) -> Result<(Process, String)> {
    let port = Port::reserve()?;
    let address = port.address().to_string();
    let board = Launch::binary("yika-modbus-sim")?.dir(dir).args(&["--listen", &address]).start().await?;
    let config = format!(
        r#"
[[doors.bus]]
name = "gate"
transport = {{ kind = "tcp", address = "{address}" }}

[[doors.bus.boards]]
name = "board1"
pulse = {{ method = "flash_coil" }}

[[doors.bus.boards.doors]]
door = 1
relay = 1
"#
    );
    Ok((board, config))
}

async fn register_tills(hub: &HubProgram, boxes: &[BoxProgram]) -> Result<[Vec<TerminalPlan>; 2]> {
    let [east_1, east_2, west] = boxes else { anyhow::bail!("three boxes were expected") };
    let mut tills = [Vec::new(), Vec::new()];
    for (window, edges) in [[east_1, east_2], [east_2, east_1]].iter().cycle().take(4).enumerate() {
        let name = format!("东{}号窗口", window + 1);
        let urls = edges.iter().map(|e| e.url()).collect();
        tills[0]
            .push(register(hub, &["--campus", "c1", "--kind", "till", "--name", &name, "--outlet", "1"], urls).await?);
    }
    for window in 1..=2 {
        let name = format!("西{window}号窗口");
        let words = ["--campus", "c2", "--kind", "till", "--name", &name, "--outlet", "3"];
        tills[1].push(register(hub, &words, vec![west.url()]).await?);
    }
    Ok(tills)
}

async fn register_reader(hub: &HubProgram, boxes: &[BoxProgram]) -> Result<TerminalPlan> {
    let [east_1, ..] = boxes else { anyhow::bail!("a box was expected") };
    let words = ["--campus", "c1", "--kind", "door", "--name", "东门读卡器", "--door", "d1"];
    register(hub, &words, vec![east_1.url()]).await
}

async fn operator(hub: &HubProgram, login: &str, campus: &str) -> Result<Operator> {
    let mut secret = [0u8; 9];
    getrandom::fill(&mut secret).map_err(|e| anyhow::anyhow!("no randomness from the system: {e}"))?;
    let password = format!("yk-{}", hex::encode(secret));
    let words = ["user", "add", login, "--name", login, "--role", "admin", "--campus", campus, "--keep-password"];
    hub.command_with(&words, &format!("{password}\n")).await?;
    Ok(Operator { login: login.to_owned(), password })
}

async fn register(hub: &HubProgram, words: &[&str], edges: Vec<String>) -> Result<TerminalPlan> {
    let mut line = vec!["terminal", "add"];
    line.extend(words);
    if words.contains(&"till") {
        line.extend(["--merchant", "1"]);
    }
    let made: TerminalMade = json(&hub.command(&line).await?)?;
    Ok(TerminalPlan { terminal: made.terminal.0, key: made.key, key_version: made.version, edges })
}

async fn import_people(
    hub: &HubProgram,
    dir: &Path,
    people_per_campus: usize,
    say: &dyn Fn(&str),
) -> Result<Vec<PersonLine>> {
    let file = dir.join("people.xlsx");
    let names: Vec<&str> = CAMPUSES.iter().map(|(_, name)| *name).collect();
    std::fs::write(&file, yika_hub::import::demo_people(PEOPLE_SEED, &names, people_per_campus)?)?;
    let report: ImportReport = json(&hub.command(&["import", "people", &file.to_string_lossy()]).await?)?;
    say(&format!("imported {} people from {} · 已从表格导入人员", report.new, file.display()));
    let mut people: Vec<PersonLine> = Vec::new();
    loop {
        let path = format!("/v1/people?limit={PAGE_ROWS}&offset={}", people.len());
        let page: Vec<PersonLine> = hub.ask("GET", &path, Vec::new()).await?;
        if page.is_empty() {
            return Ok(people);
        }
        people.extend(page);
    }
}

/// Everybody of the east but the last ten may pass its gate at any time.
async fn open_the_door(hub: &HubProgram, dir: &Path, people: &[PersonLine]) -> Result<()> {
    let east: Vec<&str> = people.iter().filter(|p| p.campus == CampusId(1)).map(|p| p.staff_number.as_str()).collect();
    let members = east.get(..east.len().saturating_sub(10)).unwrap_or_default();
    let policy = format!(
        r#"
[[schedules]]
id = 1
name = "全天"
every_day = ["00:00-24:00"]

[[doors]]
id = 1
name = "东门"
outside = "校外"
inside = "东校区"
device = "modbus:board1/1"
held_open_ms = 10000

[[groups]]
id = 1
name = "东校区人员"
doors = [{{ door = 1, schedule = 1 }}]
members = {members:?}
"#
    );
    let file = dir.join("access.toml");
    std::fs::write(&file, policy)?;
    hub.command(&["access", "apply", "--campus", "c1", &file.to_string_lossy()]).await?;
    Ok(())
}

async fn top_up(hub: &HubProgram, people: &[PersonLine], say: &dyn Fn(&str)) -> Result<()> {
    for line in people {
        let request = format!("demo-{}", line.person.0);
        let wish = TopUpWish { person: PersonId(line.person.0), fen: TOP_UP_FEN, request };
        let _: ToppedUp = hub.ask("POST", "/v1/top-up", serde_json::to_vec(&wish)?).await?;
    }
    say(&format!("topped {} accounts up · 已充值", people.len()));
    Ok(())
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).with_context(|| format!("not as expected: {text}"))
}

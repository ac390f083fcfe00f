//! A hundred thousand people: their import from a spreadsheet, how soon a box can use them, and what the programs need.
//!
//! Headquarters and boxes are the programs as installed, asked from outside; memory is what the system says of them.

use crate::campus::sheet;
use crate::size::Size;
use crate::table::{Row, memory_kib};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::{Duration, Instant};
use yika_crdt::channel::Channel;
use yika_crdt::docs::shard_count_for;
use yika_crdt::entry::CampusRecord;
use yika_crdt::ids::*;
use yika_crdt::store::Read;
use yika_crdt::tariff::sheet::TariffSheet;
use yika_drivers::terminal::client::{Client, Identity};
use yika_drivers::terminal::message::*;
use yika_hub::control::PersonLine;
use yika_hub::desk::{ImportReport, NewTerminal, TariffSet, TerminalMade};
use yika_store::{Options, SqliteReader};
use yika_tests::site::{BoxProgram, HubProgram, Reach, until};

const PEOPLE: Size<usize> = Size(100_000, 500);
const CAMPUS: CampusId = CampusId(1);
const BOUND: Duration = Duration::from_secs(180);
/// A box rests this long before its memory counts as steady.
const REST: Size<Duration> = Size(Duration::from_secs(5), Duration::from_secs(1));
const FIRST_DECISION: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(2);
const STARTS: u32 = 3;

pub async fn rows() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let hub = HubProgram::start(dir.path(), "总部").await?;
    let till = furnish(&hub).await?;
    let early = BoxProgram::join(&hub, "c1", "early", Reach::Direct, "").await?;
    let mut rows = import(&hub, &early).await?;
    let late = fill_late(&hub, &mut rows).await?;
    rows.extend(start(&hub, late, &till).await?);
    Ok(rows)
}

async fn furnish(hub: &HubProgram) -> Result<TerminalMade> {
    let record = CampusRecord {
        campus: CAMPUS,
        name: "东校区".into(),
        utc_offset_minutes: 480,
        cut_minute: 180,
        people_shards: shard_count_for(PEOPLE.get() as u32),
    };
    hub.ask::<()>("POST", "/v1/campus", serde_json::to_vec(&record)?).await?;
    let sheet = TariffSheet { barred: Vec::new(), ..sheet() };
    let _: TariffSet = hub.ask("POST", "/v1/tariff", serde_json::to_vec(&sheet)?).await?;
    let new = NewTerminal {
        campus: CAMPUS,
        kind: "till".into(),
        name: "1 号窗口".into(),
        outlet: OutletId(1),
        merchant: MerchantId(1),
        door: None,
    };
    hub.ask("POST", "/v1/terminal", serde_json::to_vec(&new)?).await
}

/// The import, and a connected box that takes it in meanwhile.
async fn import(hub: &HubProgram, early: &BoxProgram) -> Result<Vec<Row>> {
    let bytes = tokio::task::spawn_blocking(|| yika_hub::import::demo_people(1, &["东校区"], PEOPLE.get())).await??;
    let started = Instant::now();
    let path = "/v1/import?name=people.xlsx&dry_run=false&zh=false";
    let report: ImportReport = hub.ask("POST", path, bytes).await?;
    let took = started.elapsed().as_secs_f64();
    anyhow::ensure!(report.new == PEOPLE.get() && report.refused == 0, "{report:?}");
    let imported = Instant::now();
    until("everybody at the box", BOUND, async || holds_everybody(hub, early)).await?;
    let later = imported.elapsed().as_secs_f64();
    let progress = hub.process.stderr()?.matches("importing people").count();
    let peak = memory_kib(hub.process.id().context("headquarters has ended")?, "VmHWM")? as f64 / 1024.0;
    let row = Row::new("import of 100,000 people from .xlsx at the hub").value(took, "s").most("≤ 30 s", took, 30.0);
    let usable = Row::new("then usable at a connected edge after").value(later, "s").most("≤ 5 s", later, 5.0);
    let filled = peak_row("edge, resident at first fill, during the import", early)?;
    Ok(vec![row.note(format!("told its progress {progress} times; peak of the hub {peak:.0} MiB")), usable, filled])
}

fn peak_row(name: &str, edge: &BoxProgram) -> Result<Row> {
    let peak = memory_kib(edge.process.id().context("the box has ended")?, "VmHWM")? as f64 / 1024.0;
    Ok(Row::new(name).value(peak, "MiB").most("≤ 160 MiB", peak, 160.0))
}

/// Whether a box has projected everything that headquarters says of people.
fn holds_everybody(hub: &HubProgram, edge: &BoxProgram) -> Result<bool> {
    let end = |database: &Path| -> Result<Seq> {
        let feeds = SqliteReader::open(database, &Options::default())?.feeds()?;
        let mut people = feeds.iter().filter(|(f, _)| f.writer.node.is_hub() && f.channel == Channel::People(CAMPUS));
        Ok(people.next().map(|(_, state)| state.end.seq).unwrap_or_default())
    };
    Ok(end(&edge.database())? == end(&hub.database())?)
}

/// A box that joins when everybody is there.
async fn fill_late(hub: &HubProgram, rows: &mut Vec<Row>) -> Result<BoxProgram> {
    let joined = Instant::now();
    let late = BoxProgram::join(hub, "c1", "late", Reach::Direct, "").await?;
    until("everybody at the box", BOUND, async || holds_everybody(hub, &late)).await?;
    let took = joined.elapsed().as_secs_f64();
    let row = Row::new("a new edge with 100,000 people: join → usable").value(took, "s");
    rows.push(row.note("from the token's making on: init, start, feeds"));
    rows.push(peak_row("edge, resident at first fill, joining later", &late)?);
    Ok(late)
}

/// From nothing to the first decision, and what a box needs that rests and that sells.
async fn start(hub: &HubProgram, mut edge: BoxProgram, till: &TerminalMade) -> Result<Vec<Row>> {
    let people: Vec<PersonLine> = hub.ask("GET", "/v1/people?limit=100&offset=0", Vec::new()).await?;
    let card = people.iter().find_map(|person| person.card).context("nobody has a card")?;
    let mut slowest = 0f64;
    for boot in 1..=STARTS {
        edge.process.terminate(BOUND).await?;
        let url = edge.url();
        let started = Instant::now();
        let (restarted, decided) = tokio::join!(edge.process.restart(), first_decision(url, till, boot, card));
        restarted?;
        decided?;
        slowest = slowest.max(started.elapsed().as_secs_f64());
    }
    tokio::time::sleep(REST.get()).await;
    let pid = edge.process.id().context("the box has ended")?;
    let steady = memory_kib(pid, "VmRSS")? as f64 / 1024.0;
    let first = Row::new("edge, start → first decision").value(slowest * 1e3, "ms").most("≤ 1 s", slowest, 1.0);
    let resident = Row::new("edge, resident steady").value(steady, "MiB").most("≤ 96 MiB", steady, 96.0);
    Ok(vec![first.note(format!("the slowest of {STARTS}: process start to a purchase's signed answer")), resident])
}

async fn first_decision(url: String, till: &TerminalMade, boot: u32, card: u64) -> Result<()> {
    let key: [u8; 32] =
        hex::decode(&till.key)?.try_into().map_err(|_| anyhow::anyhow!("the key is not of 32 bytes"))?;
    let edge = url.trim_start_matches("http://").to_owned();
    let (terminal, key_version) = (till.terminal.0, till.version);
    let client = Client::new(Identity { edge, terminal, boot, key_version, key: zeroize::Zeroizing::new(key) });
    let id = SaleId { terminal, boot, seq: 1 };
    let (card, mode) = (PresentedCard::Number { number: card }, SaleMode::Amount { fen: 100 });
    let purchase = Purchase { id, card, mode, time_ms: client.now_ms(), tariff: None };
    let until = Instant::now() + FIRST_DECISION;
    loop {
        match client.purchase(&purchase).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > until => return Err(error).context("no decision"),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

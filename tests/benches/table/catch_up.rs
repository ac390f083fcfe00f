//! A purchase from durable at the box to durable in the ledger of headquarters, and catching up after an outage: two
//! real processes on loopback.
//!
//! Marks are taken where commits are announced (`host`): at the box before the look, at headquarters after it, so that
//! the figure is an upper bound. The ledger's rows are of the transaction that stores the entry.

use crate::campus::sheet;
use crate::doors;
use crate::host::{Child, HubAt, Order, Seen};
use crate::size::Size;
use crate::table::{Row, Times, in_words};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::docs::shard_count_for;
use yika_crdt::entry::CampusRecord;
use yika_crdt::ids::*;
use yika_crdt::tariff::sheet::TariffSheet;
use yika_hub::control::{ImportWish, PersonLine, TopUpWish, ToppedUp};
use yika_hub::desk::{ImportReport, NewTerminal, TariffSet, TerminalMade};

const PEOPLE: Size<usize> = Size(20_000, 300);
pub const TILLS: u32 = 128;
/// So much that nobody runs short in all of the part.
const TOP_UP_FEN: i64 = 50_000;
const TOP_UPS_AT_ONCE: usize = 64;
const PAGE_ROWS: usize = 500;
pub const CAMPUS: CampusId = CampusId(1);
const RATE: Size<u32> = Size(1_000, 200);
const STEADY_SECONDS: Size<u32> = Size(20, 1);
const OUTAGE: Size<u32> = Size(200_000, 1_000);
/// Swipes that outlast the catch-up.
const SWIPES: Size<usize> = Size(300, 30);
const SPREAD: Duration = Duration::from_secs(120);

pub async fn rows() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let at = HubAt::new(&dir.path().join("hub"))?;
    let mut hub = at.start().await?;
    furnish(&at, TILLS).await?;
    let mut edge = at.join(CAMPUS, &dir.path().join("box")).await?;
    let cards = enrich(&at, &mut hub, &mut edge, dir.path()).await?;
    let mut rows = steady(&mut hub, &mut edge, &cards).await?;
    rows.extend(outage(&at, hub, &mut edge, &cards).await?);
    Ok(rows)
}

/// A campus with a tariff and tills.
pub async fn furnish(at: &HubAt, tills: u32) -> Result<Vec<TerminalMade>> {
    let record = CampusRecord {
        campus: CAMPUS,
        name: "东校区".into(),
        utc_offset_minutes: 480,
        cut_minute: 180,
        people_shards: shard_count_for(100_000),
    };
    at.ask::<()>("/v1/campus", &record).await?;
    let _: TariffSet = at.ask("/v1/tariff", &TariffSheet { barred: Vec::new(), ..sheet() }).await?;
    let mut made = Vec::new();
    for n in 0..tills {
        let new = NewTerminal {
            campus: CAMPUS,
            kind: "till".into(),
            name: format!("{n} 号窗口"),
            outlet: OutletId(1),
            merchant: MerchantId(1),
            door: None,
        };
        made.push(at.ask("/v1/terminal", &new).await?);
    }
    Ok(made)
}

/// People with money, and their rights at the box; the file with their cards.
pub async fn enrich(at: &HubAt, hub: &mut Child, edge: &mut Child, dir: &Path) -> Result<PathBuf> {
    let people = import(at, PEOPLE.get()).await?;
    let mut paying = tokio::task::JoinSet::new();
    let socket = yika_hub::config::Config::socket(&at.dir);
    for person in &people {
        let wish = TopUpWish { person: person.person, fen: TOP_UP_FEN, request: format!("bench-{}", person.person) };
        let (socket, body) = (socket.clone(), serde_json::to_vec(&wish)?);
        while paying.len() >= TOP_UPS_AT_ONCE {
            paid(paying.join_next().await)?;
        }
        paying.spawn(async move { yika_hub::control::ask::<ToppedUp>(&socket, "POST", "/v1/top-up", body).await });
    }
    while let Some(done) = paying.join_next().await {
        paid(Some(done))?;
    }
    let file = dir.join("cards.json");
    std::fs::write(&file, serde_json::to_vec(&people.iter().filter_map(|p| p.card).collect::<Vec<_>>())?)?;
    settle(hub, edge).await?;
    Ok(file)
}

type Paid = Result<Result<ToppedUp>, tokio::task::JoinError>;

fn paid(done: Option<Paid>) -> Result<()> {
    done.context("a top-up was under way")???;
    Ok(())
}

/// Invented people by a spreadsheet, as they are listed afterwards.
pub async fn import(at: &HubAt, people: usize) -> Result<Vec<PersonLine>> {
    let bytes = yika_hub::import::demo_people(1, &["东校区"], people)?;
    let wish = ImportWish { name: "people.xlsx".into(), dry_run: false, zh: false };
    let path = format!("/v1/import?name={}&dry_run={}&zh={}", wish.name, wish.dry_run, wish.zh);
    let socket = yika_hub::config::Config::socket(&at.dir);
    let report: ImportReport = yika_hub::control::ask(&socket, "POST", &path, bytes).await?;
    anyhow::ensure!(report.new == people && report.refused == 0, "{report:?}");
    let mut listed: Vec<PersonLine> = Vec::new();
    while listed.len() < people {
        let page = at.get::<Vec<PersonLine>>(&format!("/v1/people?limit={PAGE_ROWS}&offset={}", listed.len())).await?;
        anyhow::ensure!(!page.is_empty(), "{} of {people} people are listed", listed.len());
        listed.extend(page);
    }
    Ok(listed)
}

/// Waits until the box holds what headquarters has written for it by now.
pub async fn settle(hub: &mut Child, edge: &mut Child) -> Result<()> {
    let mut ends = std::collections::BTreeMap::new();
    let (there, here) = (Place { node: NodeId::HUB, campus: None }, edge.place()?);
    for (feed, seq, ..) in hub.report().await?.marks.into_iter().filter(|(feed, ..)| feed.writer.node.is_hub()) {
        if feed.may_hold(there, here) {
            ends.insert(feed, seq);
        }
    }
    for (feed, seq) in ends {
        let awaited = edge.order(Order::Await(feed, seq));
        tokio::time::timeout(SPREAD, awaited).await.with_context(|| format!("{feed} does not come"))??;
    }
    Ok(())
}

pub fn journal_of(seen: &Seen) -> Result<FeedId> {
    let own = |feed: &FeedId| !feed.writer.node.is_hub() && feed.channel == Channel::Journal;
    seen.marks.iter().map(|(feed, ..)| *feed).find(own).context("the box has sold nothing")
}

async fn steady(hub: &mut Child, edge: &mut Child, cards: &Path) -> Result<Vec<Row>> {
    let sell = |seconds| Order::Sell {
        cards: cards.to_owned(),
        count: RATE.get() * seconds,
        per_second: RATE.get(),
        in_flight: 0,
    };
    edge.order(sell(2)).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, _) = (hub.report().await?, edge.report().await?);
    edge.order(sell(STEADY_SECONDS.get())).await?;
    let here = edge.report().await?;
    let feed = journal_of(&here)?;
    let last = here.held_from(feed).last().context("nothing was sold")?.0;
    hub.order(Order::Await(feed, last)).await?;
    let there = hub.report().await?;
    let times = delays(&here, &there, feed)?;
    let received = |seen: &Seen| seen.wire.iter().map(|(_, received, _)| *received).sum::<u64>();
    let each = (received(&there) - received(&before)) as f64 / times.len() as f64;
    let row = Row::new("purchase: durable at the edge → in the hub's ledger, 1,000/s")
        .times(&times)
        .value(each, "bytes each")
        .most("p50 ≤ 1 ms", times.p50(), 1e3)
        .most("p99 ≤ 8 ms", times.p99(), 8e3);
    Ok(vec![row.note(format!("longest {}; {} entries; bytes sent one by one", in_words(times.max()), times.len()))])
}

/// For each entry, from the box's commit to headquarters' commit.
fn delays(here: &Seen, there: &Seen, feed: FeedId) -> Result<Times> {
    let (here, there) = (here.held_from(feed), there.held_from(feed));
    let (mut held, mut times) = (there.iter().peekable(), Vec::new());
    let mut from = here.first().context("nothing was sold")?.0;
    for (seq, before, _) in here.iter().skip(1) {
        while from < *seq {
            from = from.next();
            while held.peek().is_some_and(|(at, ..)| *at < from) {
                held.next();
            }
            let (_, _, after) = held.peek().with_context(|| format!("headquarters does not hold {from}"))?;
            times.push(after.saturating_sub(*before));
        }
    }
    Ok(Times::new(times))
}

async fn outage(at: &HubAt, mut hub: Child, edge: &mut Child, cards: &Path) -> Result<Vec<Row>> {
    hub.process.kill().await?;
    edge.report().await?;
    let order = Order::Sell { cards: cards.to_owned(), count: OUTAGE.get(), per_second: 0, in_flight: TILLS };
    edge.order(order).await?;
    let sold = edge.report().await?;
    let feed = journal_of(&sold)?;
    let held = sold.held_from(feed);
    let (first, last) = (held.first().context("nothing")?.0, held.last().context("nothing")?.0);
    let swiping = edge.begin(Order::Swipe { cards: cards.to_owned(), count: SWIPES.get() }).await?;
    // The doors are being swiped when the line comes back.
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let mut hub = at.start().await?;
    hub.order(Order::Await(feed, last)).await?;
    let there = hub.report().await?;
    edge.done(swiping).await?;
    let doors_then = edge.report().await?.swiped;
    let connected = there.connected.first().context("the box did not come back")?.1;
    let until = there.held_from(feed).iter().find(|(seq, ..)| *seq >= last).context("the watch missed the end")?.2;
    let took_us = until.saturating_sub(connected) as f64 / 1e3;
    let entries = f64::from(last.0 as u32 - first.0 as u32);
    let bytes = there.wire.iter().map(|(_, received, _)| *received).sum::<u64>() as f64 / entries;
    let row = Row::new("catch-up after an outage of 200,000 purchases")
        .value(took_us / 1e6, "s")
        .most("≤ 4 s", took_us / 1e6, 4.0)
        .note(format!("{:.0} a second from the connection on; corrosion: 20 s", entries / took_us * 1e6));
    let wire = Row::new("bytes of each on the wire, in bulk").value(bytes, "bytes").most("≤ 130 bytes", bytes, 130.0);
    let mut rows = vec![row, wire.note("all UDP payload from the box, handshake and doors included")];
    rows.extend(doors::swipe_rows("while the edge sends its backlog", doors_then, ""));
    Ok(rows)
}

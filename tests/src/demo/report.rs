//! The table at the end: what was sold and refused, and whether the books of all boxes are those of headquarters.

use super::rush::Times;
use super::{Options, Progress};
use crate::books::{Books, Comparison, compare, inject_fault};
use crate::columns::{self, yuan};
use crate::site::until;
use crate::world::World;
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// How long headquarters may take to hold everything.
const CATCH_UP: Duration = Duration::from_secs(60);

/// The table; its JSON form is the interface of scripts.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub sold_online: u64,
    pub sold_during_cut: u64,
    pub refused: BTreeMap<String, u64>,
    pub doors_opened: u64,
    pub doors_refused: u64,
    pub edges_sum_fen: i64,
    pub hub_sum_fen: i64,
    pub differences: u64,
    /// The first of them in words: which entry, what the box says, what headquarters says.
    pub found: Vec<String>,
    pub duplicates: u64,
    /// Ids that a terminal was answered in two ways.
    pub contradictions: u64,
    pub catch_up_ms: u64,
    pub urls: Vec<String>,
}

/// Waits until headquarters holds everything, and adds up.
pub(crate) async fn add_up(world: &World, times: &Times, options: &Options, progress: &Progress) -> Result<Report> {
    let catch_up_ms = catch_up(world, times).await?;
    if options.inject_fault {
        progress.say("altering one booked sale on disk · 篡改一条账目");
        inject_fault(&world.hub.database())?;
    }
    progress.say("adding the books up again from the databases · 重新核对各数据库");
    let journals = world.journals()?;
    let books = Books::read(&world.hub.database())?;
    let Comparison { edges_sum_fen, hub_sum_fen, differences, found, duplicates } = compare(&journals, &books);
    let in_cut = |at_ms: i64| (times.cut_ms..times.healed_ms).contains(&at_ms);
    let sales: Vec<_> = journals.iter().flat_map(|j| j.sales.values()).collect();
    let sold_during_cut = sales.iter().filter(|s| in_cut(s.at_ms)).count() as u64;
    let mut refused = BTreeMap::new();
    for (reason, count) in journals.iter().flat_map(|j| &j.refused) {
        *refused.entry(reason.clone()).or_default() += count;
    }
    Ok(Report {
        sold_online: sales.len() as u64 - sold_during_cut,
        sold_during_cut,
        refused,
        doors_opened: journals.iter().map(|j| j.doors_opened).sum(),
        doors_refused: journals.iter().map(|j| j.doors_refused).sum(),
        edges_sum_fen,
        hub_sum_fen,
        differences,
        found,
        duplicates,
        contradictions: times.contradictions,
        catch_up_ms,
        urls: world.urls(),
    })
}

/// From the moment the line was back until headquarters held what had been journaled by then.
async fn catch_up(world: &World, times: &Times) -> Result<u64> {
    // The rush went on after the line was back, so the last entries count, measured from now if they took longer.
    let start = super::rush::now_ms();
    until("headquarters holds everything the boxes wrote", CATCH_UP, async || {
        Ok(Books::read(&world.hub.database())?.holds(&world.journals()?))
    })
    .await?;
    let waited = super::rush::now_ms().saturating_sub(start).unsigned_abs();
    let received = newest_received_of_cut(world, times)?;
    Ok(received.map_or(waited, |ms| ms.saturating_sub(times.healed_ms).max(0).unsigned_abs()))
}

/// When headquarters stored the last sale that was made while the line was cut.
fn newest_received_of_cut(world: &World, times: &Times) -> Result<Option<i64>> {
    let conn = rusqlite::Connection::open_with_flags(world.hub.database(), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sql = "SELECT max(received_ms) FROM sales WHERE at_ms >= ?1 AND at_ms < ?2";
    conn.query_row(sql, [times.cut_ms, times.healed_ms], |row| row.get(0)).context("reading when sales were received")
}

impl Report {
    /// Nothing is missing, twice, or booked otherwise.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.edges_sum_fen == self.hub_sum_fen
            && self.differences == 0
            && self.duplicates == 0
            && self.contradictions == 0
            && self.sold_online > 0
            && self.sold_during_cut > 0
    }

    /// Prints the table, or the JSON object, on standard output.
    ///
    /// # Errors
    /// Standard output is gone.
    pub fn print(&self, json: bool) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            serde_json::to_writer(&mut out, self)?;
            writeln!(out)?;
            return Ok(());
        }
        let mut rows = vec![
            ("sold online · 联机成交".to_owned(), self.sold_online.to_string()),
            ("sold during the cut · 断网成交".to_owned(), self.sold_during_cut.to_string()),
        ];
        rows.extend(self.refused.iter().map(|(why, n)| (format!("refused: {why} · 拒绝"), n.to_string())));
        rows.extend([
            ("doors opened · 开门".to_owned(), self.doors_opened.to_string()),
            ("doors refused · 拒绝开门".to_owned(), self.doors_refused.to_string()),
            ("sum of all journals · 各节点流水合计".to_owned(), yuan(self.edges_sum_fen)),
            ("sum at headquarters · 总部账簿合计".to_owned(), yuan(self.hub_sum_fen)),
            ("differences · 差异".to_owned(), self.differences.to_string()),
            ("duplicates · 重复".to_owned(), self.duplicates.to_string()),
            ("answered in two ways · 应答矛盾".to_owned(), self.contradictions.to_string()),
            ("time to catch up · 追平用时".to_owned(), format!("{} ms", self.catch_up_ms)),
        ]);
        writeln!(out)?;
        columns::write(&mut out, &rows)?;
        if !self.found.is_empty() {
            writeln!(out, "\n  what differs · 差异明细")?;
        }
        for difference in &self.found {
            writeln!(out, "    {difference}")?;
        }
        let verdict = match self.agrees() {
            true => "the books agree · 账目一致",
            false => "THE BOOKS DO NOT AGREE · 账目不一致",
        };
        writeln!(out, "\n  {verdict}\n")?;
        Ok(())
    }
}

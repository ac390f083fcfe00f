//! The table at the end: what was sold and what was done to the world, and whether every book says the same of it.

use super::desk::Did;
use super::load::Sold;
use super::strike::Struck;
use super::{MEND, Options, witness};
use crate::books::{Books, Comparison, Journal, inject_fault};
use crate::columns::{self, yuan};
use crate::world::{TOP_UP_FEN, World};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use yika_crdt::ids::{PurchaseId, TerminalId};
use yika_drivers::terminal::message::{BatchAnswer, Decision, RecordState, SaleAnswer, SaleId};

/// Missing answers told in words.
const TOLD_MAX: usize = 20;

/// What was seen by the end.
pub(super) struct Seen {
    pub(super) at_start: BTreeMap<&'static str, u64>,
    pub(super) struck: Struck,
    pub(super) sold: Sold,
    pub(super) desk: Did,
}

/// The table; its JSON form is the interface of scripts.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub seed: u64,
    pub seconds: u64,
    pub sold: u64,
    /// Of them decided by terminals alone.
    pub sold_offline: u64,
    pub refused: BTreeMap<String, u64>,
    pub doors_opened: u64,
    pub top_ups: u64,
    pub withdrawals: u64,
    pub losses_reported: u64,
    pub kills: u64,
    pub kills_of_tills: u64,
    pub stops: u64,
    pub holds: u64,
    pub cuts: u64,
    pub bad_lines: u64,
    pub full_disks: u64,
    pub put_back: u64,
    pub memory_start_kib: BTreeMap<&'static str, u64>,
    pub memory_end_kib: BTreeMap<&'static str, u64>,
    pub edges_sum_fen: i64,
    pub hub_sum_fen: i64,
    pub differences: u64,
    pub duplicates: u64,
    /// Ids that a terminal was answered in two ways.
    pub contradictions: u64,
    /// Sales decided twice because the box that served a till could not be asked, which headquarters has reversed.
    pub reversed: u64,
    /// Sales that a terminal was told of and no journal holds.
    pub lost: u64,
    /// What is wrong beyond that, in words.
    pub found: Vec<String>,
}

/// Waits until headquarters holds everything, and adds up.
pub(super) async fn add_up(world: &World, options: &Options, seen: Seen) -> Result<Report> {
    let Seen { at_start, struck, sold, desk } = seen;
    let compared = world.settle(MEND).await?;
    let mut found = struck.found;
    found.extend(witness::panics(world)?);
    found.extend(wrong_terminals(&sold));
    found.extend(wrong_money(world, &desk).await?);
    if options.inject_fault {
        inject_fault(&world.hub.database())?;
    }
    let Comparison { edges_sum_fen, hub_sum_fen, differences, found: differing, duplicates } =
        match options.inject_fault {
            true => world.settle(MEND).await?,
            false => compared,
        };
    found.extend(differing);
    let journals = world.journals()?;
    let lost = lost_sales(&journals, &sold.logs)?;
    found.extend(lost.iter().take(TOLD_MAX).map(|id| format!("{id:?} was answered as sold and is in no journal")));
    let mut refused = BTreeMap::new();
    for (reason, count) in journals.iter().flat_map(|j| &j.refused) {
        *refused.entry(reason.clone()).or_default() += count;
    }
    let sales = || journals.iter().flat_map(|j| j.sales.values());
    Ok(Report {
        seed: options.seed,
        seconds: options.length().as_secs(),
        sold: sales().count() as u64,
        sold_offline: sales().filter(|sale| sale.offline).count() as u64,
        refused,
        doors_opened: journals.iter().map(|j| j.doors_opened).sum(),
        top_ups: desk.top_ups,
        withdrawals: desk.withdrawals,
        losses_reported: desk.losses,
        kills: struck.kills,
        kills_of_tills: sold.kills,
        stops: struck.stops,
        holds: struck.holds,
        cuts: struck.cuts,
        bad_lines: struck.bad_lines,
        full_disks: struck.full_disks,
        put_back: struck.put_back,
        memory_start_kib: at_start,
        memory_end_kib: witness::memory(world),
        edges_sum_fen,
        hub_sum_fen,
        differences,
        duplicates,
        contradictions: sold.contradictions,
        reversed: Books::read(&world.hub.database())?.reversed_by_hub.len() as u64,
        lost: lost.len() as u64,
        found,
    })
}

/// Requests that were refused as wrong: the simulator makes none.
fn wrong_terminals(sold: &Sold) -> Option<String> {
    (!sold.problems.is_empty()).then(|| format!("terminals' requests were refused as wrong: {:?}", sold.problems))
}

/// What the desk was told against what is booked, and what must hold of every account.
async fn wrong_money(world: &World, desk: &Did) -> Result<Vec<String>> {
    let database = world.hub.database();
    let conn = rusqlite::Connection::open_with_flags(&database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).context("adding transfers up");
    let moved = |kind: &str| number(&format!("SELECT coalesce(sum(amount), 0) FROM transfers WHERE kind = '{kind}'"));
    let paid_in = TOP_UP_FEN * i64::try_from(world.people.len())? + desk.top_up_fen;
    let below =
        "SELECT count(*) FROM accounts WHERE credits < debits AND (account LIKE 'right/%' OR account LIKE 'holder/%')";
    let mut wrong = Vec::new();
    for (what, told, booked) in [
        ("paid in", paid_in, moved("top_up")?),
        ("paid out", desk.withdrawn_fen, moved("withdrawal")?),
        ("accounts of holders below zero", 0, number(below)?),
        ("requests of the desk without an answer", 0, i64::try_from(desk.open)?),
        (
            "numbers taken for another movement",
            0,
            i64::try_from(desk.refused.get("number_used").copied().unwrap_or(0))?,
        ),
    ] {
        if told != booked {
            wrong.push(format!("{what}: {told} expected, {booked} there"));
        }
    }
    if let Err(error) = world.hub.command(&["ledger", "verify"]).await {
        wrong.push(format!("the ledger does not verify: {error:#}"));
    }
    Ok(wrong)
}

/// A line of a terminal's log, as far as it is looked at.
#[derive(Deserialize)]
struct Line {
    kind: String,
    answer: Option<serde_json::Value>,
}

/// Sales that terminals were told of, and that no journal holds.
fn lost_sales(journals: &[Journal], logs: &[impl AsRef<Path>]) -> Result<BTreeSet<PurchaseId>> {
    let held: BTreeSet<PurchaseId> = journals.iter().flat_map(|j| j.sales.values()).map(|sale| sale.id).collect();
    let mut told = BTreeSet::new();
    for log in logs {
        let Ok(file) = std::fs::File::open(log) else { continue };
        for line in BufReader::new(file).lines() {
            // The last line of a killed crowd may be torn.
            let Ok(line) = serde_json::from_str::<Line>(&line?) else { continue };
            let Some(answer) = line.answer else { continue };
            match line.kind.as_str() {
                "purchase" => {
                    let answer: SaleAnswer = serde_json::from_value(answer)?;
                    told.extend((answer.decision == Decision::Approved).then(|| id_of(answer.id)));
                }
                "batch" => {
                    let answer: BatchAnswer = serde_json::from_value(answer)?;
                    let new = answer.records.iter().filter(|record| record.state == RecordState::New);
                    told.extend(new.map(|record| id_of(record.id)));
                }
                _ => {}
            }
        }
    }
    Ok(told.difference(&held).copied().collect())
}

fn id_of(SaleId { terminal, boot, seq }: SaleId) -> PurchaseId {
    PurchaseId { terminal: TerminalId(terminal), boot, seq }
}

impl Report {
    /// Nothing is missing, twice, booked otherwise or ended by itself.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.edges_sum_fen == self.hub_sum_fen
            && self.differences == 0
            && self.duplicates == 0
            // A till hears two answers only of what two boxes decided, because the first could not be asked.
            && self.contradictions <= self.reversed
            && self.lost == 0
            && self.sold > 0
            && self.found.is_empty()
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
        writeln!(out)?;
        columns::write(&mut out, &self.rows())?;
        if !self.found.is_empty() {
            writeln!(out, "\n  found · 发现的问题")?;
        }
        for found in &self.found {
            writeln!(out, "    {found}")?;
        }
        let verdict = match self.agrees() {
            true => "the books agree · 账目一致",
            false => "THE BOOKS DO NOT AGREE, or something was found · 账目不一致或有异常",
        };
        writeln!(out, "\n  {verdict} (seed {})\n", self.seed)?;
        Ok(())
    }

    fn rows(&self) -> Vec<(String, String)> {
        let mut rows = vec![
            ("seconds of faults · 故障时长（秒）".to_owned(), self.seconds.to_string()),
            ("sold · 成交".to_owned(), self.sold.to_string()),
            ("of them by terminals alone · 其中终端脱机".to_owned(), self.sold_offline.to_string()),
        ];
        rows.extend(self.refused.iter().map(|(why, n)| (format!("refused: {why} · 拒绝"), n.to_string())));
        let counts = [
            ("doors opened · 开门", self.doors_opened),
            ("paid in at the desk · 充值", self.top_ups),
            ("paid out at the desk · 提现", self.withdrawals),
            ("cards reported lost · 挂失", self.losses_reported),
            ("kill -9 · 强杀", self.kills),
            ("kill -9 of tills · 强杀收银端", self.kills_of_tills),
            ("stops and starts · 停止与启动", self.stops),
            ("held still · 挂起", self.holds),
            ("cuts of a line · 断线", self.cuts),
            ("bad lines · 劣质线路", self.bad_lines),
            ("full disks · 磁盘写满", self.full_disks),
            ("boxes put back from a copy · 节点数据库还原", self.put_back),
        ];
        rows.extend(counts.map(|(what, n)| (what.to_owned(), n.to_string())));
        for (name, start) in &self.memory_start_kib {
            let end = self.memory_end_kib.get(name).copied().unwrap_or(0);
            rows.push((
                format!("memory of {name}, start → end · 内存"),
                format!("{} → {} MiB", start >> 10, end >> 10),
            ));
        }
        rows.extend([
            ("sum of all journals · 各节点流水合计".to_owned(), yuan(self.edges_sum_fen)),
            ("sum at headquarters · 总部账簿合计".to_owned(), yuan(self.hub_sum_fen)),
            ("differences · 差异".to_owned(), self.differences.to_string()),
            ("duplicates · 重复".to_owned(), self.duplicates.to_string()),
            ("decided twice and reversed · 重复后已冲正".to_owned(), self.reversed.to_string()),
            ("answered in two ways · 应答矛盾".to_owned(), self.contradictions.to_string()),
            ("told and lost · 已应答而丢失".to_owned(), self.lost.to_string()),
        ]);
        rows
    }
}

//! A reader of databases that shares nothing with the programs that wrote them but the entries' form: it adds up again
//! what edges journaled and what the hub booked, and compares entry by entry. For the demo and for end-to-end tests.

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::{Body, DoorEvent, Entry};
use yika_crdt::ids::{PurchaseId, Seq, Writer};
use yika_crdt::store::Read;
use yika_crdt::{feed, wire};
use yika_store::{Options, SqliteReader};

/// Bytes of entries read at once.
const PAGE_BYTES: usize = 1 << 20;

/// A sale as journaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sale {
    pub id: PurchaseId,
    pub total_fen: i64,
    pub at_ms: i64,
    pub offline: bool,
}

/// One box's journals, all its lives that the database holds as its own.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// By writer and position.
    pub sales: BTreeMap<(Writer, Seq), Sale>,
    /// Given back: id of the sale and amount, by writer and position.
    pub refunds: BTreeMap<(Writer, Seq), (PurchaseId, i64)>,
    /// Refusals by reason.
    pub refused: BTreeMap<String, u64>,
    pub doors_opened: u64,
    pub doors_refused: u64,
    /// Last position by writer.
    pub ends: BTreeMap<Writer, Seq>,
}

impl Journal {
    /// Reads every journal in a database whose writer is a given node.
    ///
    /// # Errors
    /// The database cannot be read, or an entry is not one.
    pub fn read(database: &Path, node: u32) -> Result<Journal> {
        let reader = SqliteReader::open(database, &Options::default())
            .with_context(|| format!("cannot read {}", database.display()))?;
        let mut journal = Journal::default();
        reader.snapshot(|reader| {
            for (feed, state) in reader.feeds()? {
                if feed.channel != Channel::Journal || feed.writer.node.0 != node {
                    continue;
                }
                journal.ends.insert(feed.writer, state.end.seq);
                let mut at = state.pruned.next();
                while at <= state.end.seq {
                    let page = reader.entries(&feed, at, PAGE_BYTES)?;
                    if page.is_empty() {
                        break;
                    }
                    for bytes in page {
                        journal.take(feed.writer, at, &bytes);
                        at = at.next();
                    }
                }
            }
            Ok(())
        })?;
        Ok(journal)
    }

    fn take(&mut self, writer: Writer, seq: Seq, bytes: &[u8]) {
        let Ok(Entry { stamp, body }) = Entry::decode(bytes) else { return };
        match body {
            Body::Purchase(sale) => {
                let total_fen = sale.paid.iter().map(|(_, part)| part.0).sum();
                let sale = Sale { id: sale.id, total_fen, at_ms: stamp.hub_time_ms, offline: sale.offline };
                self.sales.insert((writer, seq), sale);
            }
            Body::Refund(refund) => {
                let total = refund.back.iter().map(|(_, part)| part.0).sum();
                self.refunds.insert((writer, seq), (refund.of, total));
            }
            Body::NotRefunded(refused) => *self.refused.entry(refused.reason.code().to_owned()).or_default() += 1,
            Body::Refused(refused) => *self.refused.entry(refused.reason.code().to_owned()).or_default() += 1,
            Body::Door(door) => match door.event {
                DoorEvent::Granted | DoorEvent::Remote(_) => self.doors_opened += 1,
                DoorEvent::Denied(_) => self.doors_refused += 1,
                _ => {}
            },
            _ => {}
        }
    }

    /// Sold less given back.
    #[must_use]
    pub fn sum_fen(&self) -> i64 {
        let sold: i64 = self.sales.values().map(|s| s.total_fen).sum();
        sold - self.refunds.values().map(|(_, amount)| amount).sum::<i64>()
    }
}

/// What the hub has booked.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Sales by box, life and position: total as paid.
    pub sales: BTreeMap<(Writer, Seq), i64>,
    /// Given back, by box, life and position; the hub's own reversals apart.
    pub refunds: BTreeMap<(Writer, Seq), i64>,
    /// Ids that the hub reversed because they were sold twice.
    pub reversed_by_hub: Vec<(PurchaseId, i64)>,
    /// What merchants got by each entry, by the source that its transfers name.
    pub by_source: BTreeMap<Vec<u8>, i64>,
    /// Credits less debits of all merchants, added up from transfers.
    pub merchants_fen: i64,
    /// Sum over all transfers' two sides; zero by construction unless rows were altered.
    pub accounts_fen: i64,
    /// Accounts whose kept sums differ from their transfers: name, kept, transferred.
    pub accounts_differing: Vec<(String, i64, i64)>,
    /// Journals held: last position by writer.
    pub ends: BTreeMap<Writer, Seq>,
}

impl Books {
    /// Reads the hub's database.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn read(database: &Path) -> Result<Books> {
        let mut books = Books::default();
        let conn = open(database)?;
        let mut sales = conn.prepare("SELECT node, generation, counter, seq, paid FROM sales")?;
        let mut rows = sales.query([])?;
        while let Some(row) = rows.next()? {
            let paid: String = row.get(4)?;
            let parts = paid.split_whitespace().filter_map(|part| part.rsplit_once(':'));
            let total = parts.map(|(_, fen)| fen.parse::<i64>().unwrap_or(0)).sum();
            books.sales.insert((writer(row)?, Seq(row.get::<_, i64>(3)?.unsigned_abs())), total);
        }
        let mut refunds =
            conn.prepare("SELECT node, generation, counter, seq, total, of_terminal, of_boot, of_serial FROM refunds")?;
        let mut rows = refunds.query([])?;
        while let Some(row) = rows.next()? {
            let (who, seq, total) = (writer(row)?, Seq(row.get::<_, i64>(3)?.unsigned_abs()), row.get(4)?);
            if who.node.is_hub() {
                let terminal = yika_crdt::ids::TerminalId(row.get(5)?);
                books.reversed_by_hub.push((PurchaseId { terminal, boot: row.get(6)?, seq: row.get(7)? }, total));
            } else {
                books.refunds.insert((who, seq), total);
            }
        }
        let one = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
        books.merchants_fen = one("SELECT coalesce(sum(CASE WHEN credit LIKE 'merchant/%' THEN amount ELSE 0 END), 0)
                  - coalesce(sum(CASE WHEN debit LIKE 'merchant/%' THEN amount ELSE 0 END), 0) FROM transfers")?;
        books.accounts_fen = one("SELECT coalesce(sum(credits - debits), 0) FROM accounts")?;
        books.read_sums(&conn)?;
        let reader = SqliteReader::open(database, &Options::default())?;
        for (feed, state) in reader.feeds()? {
            if feed.channel == Channel::Journal {
                books.ends.insert(feed.writer, state.end.seq);
            }
        }
        Ok(books)
    }

    /// What the transfers come to, by source and by account.
    fn read_sums(&mut self, conn: &Connection) -> Result<()> {
        let mut sums = conn.prepare(
            "SELECT source, sum(CASE WHEN credit LIKE 'merchant/%' THEN amount ELSE 0 END)
                  - sum(CASE WHEN debit LIKE 'merchant/%' THEN amount ELSE 0 END) FROM transfers GROUP BY source",
        )?;
        let rows = sums.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.by_source = rows.collect::<rusqlite::Result<_>>()?;
        let mut accounts = conn.prepare(
            "SELECT account, credits - debits AS kept,
                    coalesce((SELECT sum(amount) FROM transfers WHERE credit = a.account), 0)
                  - coalesce((SELECT sum(amount) FROM transfers WHERE debit = a.account), 0) AS moved
             FROM accounts a WHERE kept <> moved ORDER BY account",
        )?;
        let rows = accounts.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        self.accounts_differing = rows.collect::<rusqlite::Result<_>>()?;
        Ok(())
    }

    /// Sold less given back, by rows.
    #[must_use]
    pub fn sum_fen(&self) -> i64 {
        let reversed: i64 = self.reversed_by_hub.iter().map(|(_, fen)| fen).sum();
        self.sales.values().sum::<i64>() - self.refunds.values().sum::<i64>() - reversed
    }

    /// Whether the hub holds everything the boxes have written.
    #[must_use]
    pub fn holds(&self, journals: &[Journal]) -> bool {
        let mut ends = journals.iter().flat_map(|j| &j.ends);
        ends.all(|(writer, seq)| self.ends.get(writer) == Some(seq))
    }
}

/// The comparison that anyone can check.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Comparison {
    pub edges_sum_fen: i64,
    pub hub_sum_fen: i64,
    /// Entries that stand on one side only, or with another amount; sums of the ledger that do not fit.
    pub differences: u64,
    /// The first of them in words.
    pub found: Vec<String>,
    /// Sale ids sold more than once and not reversed.
    pub duplicates: u64,
}

/// Differences told in words.
const TOLD_MAX: usize = 20;

/// Compares entry by entry.
#[must_use]
pub fn compare(journals: &[Journal], books: &Books) -> Comparison {
    let sales: BTreeMap<_, _> = journals.iter().flat_map(|j| &j.sales).map(|(k, s)| (*k, s.total_fen)).collect();
    let refunds: BTreeMap<_, _> = journals.iter().flat_map(|j| &j.refunds).map(|(k, r)| (*k, r.1)).collect();
    let mut found = differing("sale", &sales, &books.sales);
    found.extend(differing("refund", &refunds, &books.refunds));
    let booked = |place: &(Writer, Seq)| books.by_source.get(&source(place)).copied();
    let booked = sales.keys().filter_map(|place| Some((*place, booked(place)?))).collect();
    // A sale of nothing, a meal that is only counted, moves no money.
    let moving = sales.iter().filter(|(_, fen)| **fen != 0).map(|(place, fen)| (*place, *fen)).collect();
    found.extend(differing("transfers of sale", &moving, &booked));
    let account = |(name, kept, moved): &(String, i64, i64)| {
        format!("account {name}: keeps {} fen, its transfers come to {} fen", kept, moved)
    };
    found.extend(books.accounts_differing.iter().map(account));
    if books.accounts_fen != 0 {
        found.push(format!("all accounts together come to {} fen, not 0", books.accounts_fen));
    }
    // What merchants are owed by the ledger's transfers; the rows of sales and refunds must say the same.
    let hub_sum_fen = books.merchants_fen;
    if books.sum_fen() != hub_sum_fen {
        found.push(format!("merchants got {hub_sum_fen} fen, sales less refunds are {} fen", books.sum_fen()));
    }
    let reversed_by_hub: i64 = books.reversed_by_hub.iter().map(|(_, fen)| fen).sum();
    let edges_sum_fen = journals.iter().map(Journal::sum_fen).sum::<i64>() - reversed_by_hub;
    let mut seen = BTreeSet::new();
    let mut twice = 0u64;
    for sale in journals.iter().flat_map(|j| j.sales.values()) {
        twice += u64::from(!seen.insert(sale.id));
    }
    let duplicates = twice.saturating_sub(books.reversed_by_hub.len() as u64);
    let differences = found.len() as u64;
    found.truncate(TOLD_MAX);
    Comparison { edges_sum_fen, hub_sum_fen, differences, found, duplicates }
}

/// The name that transfers of a journal's entry bear.
fn source((writer, seq): &(Writer, Seq)) -> Vec<u8> {
    let feed = FeedId { writer: *writer, channel: Channel::Journal };
    feed::digest("yika journal 1", &wire::encode(&(feed, *seq))).0.to_vec()
}

/// What stands on one side only, or with another amount.
fn differing(what: &str, one: &BTreeMap<(Writer, Seq), i64>, other: &BTreeMap<(Writer, Seq), i64>) -> Vec<String> {
    let fen = |sums: &BTreeMap<_, i64>, place| match sums.get(place) {
        Some(fen) => format!("{fen} fen"),
        None => "nothing".to_owned(),
    };
    let places: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differ = places.into_iter().filter(|place| one.get(place) != other.get(place));
    differ
        .map(|place| {
            let (writer, seq) = place;
            format!("{what} {writer} {seq}: {} at the box, {} at headquarters", fen(one, place), fen(other, place))
        })
        .collect()
}

/// Alters one booked sale on disk by one fen, as a failing disk or a meddling hand would.
///
/// # Errors
/// The database cannot be written, or holds no sale.
pub fn inject_fault(database: &Path) -> Result<()> {
    let conn = Connection::open(database)?;
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    let sql = "UPDATE transfers SET amount = amount + 1 WHERE rowid =
                   (SELECT rowid FROM transfers WHERE kind = 'purchase' LIMIT 1)";
    let changed = conn.execute(sql, [])?;
    anyhow::ensure!(changed == 1, "there is no sale to alter");
    Ok(())
}

fn writer(row: &rusqlite::Row<'_>) -> rusqlite::Result<Writer> {
    let incarnation = yika_crdt::ids::Incarnation { generation: row.get(1)?, counter: row.get(2)? };
    Ok(Writer { node: yika_crdt::ids::NodeId(row.get(0)?), incarnation })
}

fn open(database: &Path) -> Result<Connection> {
    Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("cannot read {}", database.display()))
}

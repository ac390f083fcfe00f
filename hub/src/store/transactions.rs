//! Sales, refunds and refusals as one list: filtered, newest first, a page at a time; and each of them in full.
//!
//! Every list is read along one index (time, person, or card of refusals), so that a page costs the same in a table of
//! ten million rows. Leaves to others: who may see which campus (pages), words for kinds and reasons (pages).

use serde::Serialize;
use yika_crdt::ids::*;
use yika_crdt::store::StoreError;
use yika_store::failed;
use yika_store::rusqlite::types::Value;
use yika_store::rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

type Sql<T> = yika_store::rusqlite::Result<T>;

/// Rows that a total adds up; beyond, it says "more than".
pub const TOTAL_ROWS_MAX: u32 = 500_000;

/// A line of the list: a sale, a refund or a refusal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TransactionRow {
    /// `sale`, `reversal`, `correction`, `refund` or `refusal`.
    pub kind: String,
    /// Where its entry stands.
    pub place: Place,
    /// Business day.
    pub day: i32,
    /// Terminal of its id.
    pub terminal: u32,
    /// Boot of its id.
    pub boot: u32,
    /// Sequence of its id.
    pub serial: u32,
    /// Card, where there is one.
    pub card: Option<u64>,
    /// Holder; 0 when nobody known.
    pub person: u64,
    /// For whom was sold; 0 on a refusal.
    pub merchant: u32,
    /// Charged, or given back below zero, in fen.
    pub total: i64,
    /// Mode of a sale, reason of a refusal.
    pub detail: String,
    /// The sum that was refused, in fen, where one was keyed.
    pub asked: Option<i64>,
    /// How the refused sale was keyed, where that is known.
    pub asked_mode: Option<String>,
    /// The terminal had decided alone.
    pub offline: bool,
    /// Headquarters comes to another price, or cannot tell.
    pub doubtful: bool,
    /// The holder's name, if headquarters has a profile.
    pub name: Option<String>,
    /// His staff number.
    pub staff_number: Option<String>,
    /// Its row: two branches of a box stand at one place, and a refund by headquarters where its sale does.
    mark: Mark,
}

impl TransactionRow {
    /// Where the list goes on after this row.
    pub fn cursor(&self) -> Cursor {
        Cursor { place: self.place, mark: self.mark }
    }
}

/// A row of the list and no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Cursor {
    /// Where its entry stands.
    pub place: Place,
    /// Which of those that stand there.
    pub mark: Mark,
}

/// Tells rows at one place apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Mark {
    /// Its table: 0 sales, 1 refunds, 2 refusals.
    pub arm: u8,
    /// Its number there.
    pub row: i64,
}

/// Where an entry stands, in the order of the list: time first, then box, life and position.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize)]
pub struct Place {
    /// When it was written, by the box's clock.
    pub at_ms: i64,
    /// Box.
    pub node: u32,
    /// Life of the box.
    pub generation: u32,
    /// Life of the box.
    pub counter: u32,
    /// Position in its journal.
    pub seq: u64,
}

impl Place {
    /// Which life of which box wrote it.
    pub fn writer(self) -> Writer {
        let incarnation = Incarnation { generation: self.generation, counter: self.counter };
        Writer { node: NodeId(self.node), incarnation }
    }
}

/// What a list shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TransactionQuery {
    /// Not before.
    pub from_ms: Option<i64>,
    /// Before.
    pub until_ms: Option<i64>,
    /// Holder.
    pub person: Option<u64>,
    /// The holder's cards: whose refusals are shown.
    pub cards: Vec<u64>,
    /// Only with this card.
    pub card: Option<u64>,
    /// Terminal.
    pub terminal: Option<u32>,
    /// One of the kinds; all when empty.
    pub kind: String,
    /// Only of these boxes; all when absent.
    pub nodes: Option<Vec<u32>>,
    /// Only what follows this: the last row of the page before.
    pub before: Option<Cursor>,
    /// Most rows.
    pub limit: u32,
}

/// What a filter adds up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Rows.
    pub rows: u64,
    /// Of them sales.
    pub sales: u64,
    /// Of them refusals.
    pub refusals: u64,
    /// Sold, in fen.
    pub sold_fen: i64,
    /// Given back, in fen, above zero.
    pub back_fen: i64,
    /// There are more rows than were added up.
    pub more: bool,
}

/// A condition list under construction: only texts of this module become SQL, values are bound.
#[derive(Default)]
struct Where {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Where {
    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    fn text(&mut self) -> String {
        let text = self.conditions.join(" AND ");
        self.conditions.clear();
        if text.is_empty() { "1".into() } else { text }
    }
}

/// Conditions that all three tables share; `arm` is the table's number.
fn common(q: &TransactionQuery, arm: u8, w: &mut Where) {
    if let Some(ms) = q.from_ms {
        let place = w.bind(ms);
        w.conditions.push(format!("at_ms >= {place}"));
    }
    if let Some(ms) = q.until_ms {
        let place = w.bind(ms);
        w.conditions.push(format!("at_ms < {place}"));
    }
    if let Some(terminal) = q.terminal {
        let place = w.bind(terminal);
        w.conditions.push(format!("terminal = {place}"));
    }
    if let Some(nodes) = &q.nodes {
        let list: Vec<String> = nodes.iter().map(|n| w.bind(*n)).collect();
        w.conditions.push(format!("node IN ({})", list.join(", ")));
    }
    if let Some(Cursor { place: b, mark }) = q.before {
        let at = w.bind(b.at_ms);
        let place = [w.bind(b.node), w.bind(b.generation), w.bind(b.counter), w.bind(b.seq as i64)].join(", ");
        let mark = [w.bind(mark.arm), w.bind(mark.row)].join(", ");
        w.conditions.push(format!(
            "at_ms <= {at} AND (at_ms, node, generation, counter, seq, {arm}, rowid) < ({at}, {place}, {mark})"
        ));
    }
}

fn sales_arm(q: &TransactionQuery, w: &mut Where) -> String {
    common(q, 0, w);
    let mut index = "sales_by_time";
    if let Some(person) = q.person {
        index = "sales_by_person";
        let place = w.bind(person as i64);
        w.conditions.push(format!("person = {place}"));
    }
    if let Some(card) = q.card {
        let place = w.bind(card as i64);
        w.conditions.push(format!("card = {place}"));
    }
    format!(
        "SELECT 'sale' AS kind, at_ms, node, generation, counter, seq, day, terminal, boot, serial, card, person, merchant,
             total, mode AS detail, offline, doubt IS NOT NULL AS doubtful, NULL AS asked, NULL AS asked_mode,
             0 AS arm, rowid AS mark FROM sales INDEXED BY {index} WHERE {}",
        w.text()
    )
}

fn refunds_arm(q: &TransactionQuery, w: &mut Where) -> String {
    common(q, 1, w);
    let mut index = "refunds_by_time";
    if let Some(person) = q.person {
        index = "refunds_by_person";
        let place = w.bind(person as i64);
        w.conditions.push(format!("person = {place}"));
    }
    if let Some(card) = q.card {
        let place = w.bind(card as i64);
        w.conditions.push(format!(
            "EXISTS (SELECT 1 FROM sales s WHERE s.terminal = of_terminal AND s.boot = of_boot AND s.serial = of_serial
                 AND s.card = {place})"
        ));
    }
    if !q.kind.is_empty() {
        let place = w.bind(q.kind.clone());
        w.conditions.push(format!("kind = {place}"));
    }
    format!(
        "SELECT kind, at_ms, node, generation, counter, seq, day, terminal, boot, serial,
             (SELECT s.card FROM sales s WHERE s.terminal = of_terminal AND s.boot = of_boot AND s.serial = of_serial
                 LIMIT 1) AS card, person, merchant, -total AS total, '' AS detail, 0 AS offline, 0 AS doubtful, NULL AS asked, NULL AS asked_mode,
             1 AS arm, rowid AS mark FROM refunds INDEXED BY {index} WHERE {}",
        w.text()
    )
}

fn refusals_arm(q: &TransactionQuery, w: &mut Where) -> String {
    common(q, 2, w);
    let mut index = "refusals_by_time";
    let cards = match q.card {
        Some(card) => vec![card],
        None => q.cards.clone(),
    };
    if q.card.is_some() || q.person.is_some() {
        index = "refusals_by_card";
        let list: Vec<String> = cards.iter().map(|c| w.bind(*c as i64)).collect();
        w.conditions.push(format!("card IN ({})", list.join(", ")));
    }
    format!(
        "SELECT 'refusal' AS kind, at_ms, node, generation, counter, seq, day, terminal, boot, serial, card,
             coalesce((SELECT person FROM profiles WHERE profiles.card = refusals.card), 0) AS person,
             0 AS merchant, 0 AS total, reason AS detail, 0 AS offline, 0 AS doubtful, asked, mode AS asked_mode,
             2 AS arm, rowid AS mark FROM refusals INDEXED BY {index} WHERE {}",
        w.text()
    )
}

fn arms(q: &TransactionQuery, w: &mut Where) -> String {
    let mut arms = Vec::new();
    if matches!(q.kind.as_str(), "" | "sale") {
        arms.push(sales_arm(q, w));
    }
    if matches!(q.kind.as_str(), "" | "reversal" | "correction" | "refund") {
        arms.push(refunds_arm(q, w));
    }
    if matches!(q.kind.as_str(), "" | "refusal") {
        arms.push(refusals_arm(q, w));
    }
    arms.join(" UNION ALL ")
}

const NEWEST_FIRST: &str = "at_ms DESC, node DESC, generation DESC, counter DESC, seq DESC, arm DESC, mark DESC";

/// Newest first. The order stands directly behind the arms, so that each is read in it and the three are merged; around
/// them it would sort everything.
///
/// # Errors
/// Of the database.
pub fn transactions(conn: &Connection, q: &TransactionQuery) -> Result<Vec<TransactionRow>, StoreError> {
    let doing = "listing transactions";
    let mut w = Where::default();
    let arms = arms(q, &mut w);
    if arms.is_empty() {
        return Ok(Vec::new());
    }
    let limit = w.bind(q.limit);
    let sql = format!(
        "SELECT t.*, p.name, p.staff_number
         FROM ({arms} ORDER BY {NEWEST_FIRST} LIMIT {limit}) t
         LEFT JOIN profiles p ON p.person = t.person ORDER BY {NEWEST_FIRST}"
    );
    let mut statement = conn.prepare_cached(&sql).map_err(failed(doing))?;
    statement.query_map(params_from_iter(w.values), transaction).and_then(Iterator::collect).map_err(failed(doing))
}

/// What the filter adds up to, over at most [`TOTAL_ROWS_MAX`] rows.
///
/// # Errors
/// Of the database.
pub fn totals(conn: &Connection, q: &TransactionQuery) -> Result<Totals, StoreError> {
    let doing = "adding transactions up";
    let mut w = Where::default();
    let arms = arms(&TransactionQuery { before: None, ..q.clone() }, &mut w);
    if arms.is_empty() {
        return Ok(Totals::default());
    }
    let limit = w.bind(TOTAL_ROWS_MAX + 1);
    let sql = format!(
        "SELECT count(*), coalesce(sum(kind = 'sale'), 0), coalesce(sum(kind = 'refusal'), 0),
             coalesce(sum(iif(total > 0, total, 0)), 0), coalesce(sum(iif(total < 0, -total, 0)), 0)
         FROM ({arms} LIMIT {limit})"
    );
    conn.prepare_cached(&sql)
        .and_then(|mut s| {
            s.query_row(params_from_iter(w.values), |row| {
                let rows = row.get::<_, i64>(0)? as u64;
                Ok(Totals {
                    rows,
                    sales: row.get::<_, i64>(1)? as u64,
                    refusals: row.get::<_, i64>(2)? as u64,
                    sold_fen: row.get(3)?,
                    back_fen: row.get(4)?,
                    more: rows > u64::from(TOTAL_ROWS_MAX),
                })
            })
        })
        .map_err(failed(doing))
}

fn transaction(row: &Row<'_>) -> Sql<TransactionRow> {
    Ok(TransactionRow {
        kind: row.get(0)?,
        place: Place {
            at_ms: row.get(1)?,
            node: row.get(2)?,
            generation: row.get(3)?,
            counter: row.get(4)?,
            seq: row.get::<_, i64>(5)? as u64,
        },
        day: row.get(6)?,
        terminal: row.get(7)?,
        boot: row.get(8)?,
        serial: row.get(9)?,
        card: row.get::<_, Option<i64>>(10)?.map(|c| c as u64),
        person: row.get::<_, i64>(11)? as u64,
        merchant: row.get(12)?,
        total: row.get(13)?,
        detail: row.get(14)?,
        offline: row.get(15)?,
        doubtful: row.get(16)?,
        asked: row.get(17)?,
        asked_mode: row.get(18)?,
        mark: Mark { arm: row.get(19)?, row: row.get(20)? },
        name: row.get(21)?,
        staff_number: row.get(22)?,
    })
}

/// A sale in full.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SaleRow {
    /// Where its entry stands.
    pub place: Place,
    /// When headquarters stored it.
    pub received_ms: i64,
    /// Business day.
    pub day: i32,
    /// Its id.
    pub id: PurchaseId,
    /// Card.
    pub card: u64,
    /// Holder.
    pub person: u64,
    /// Price class of the holder when it was sold.
    pub category: u16,
    /// Outlet.
    pub outlet: u32,
    /// Merchant.
    pub merchant: u32,
    /// Mode.
    pub mode: String,
    /// Meal period.
    pub period: Option<u8>,
    /// Before surcharge or discount, in fen.
    pub price: i64,
    /// Surcharge or discount.
    pub adjustment: i64,
    /// Charged.
    pub total: i64,
    /// Right left at the box afterwards.
    pub balance: i64,
    /// The terminal had decided alone.
    pub offline: bool,
    /// Sources, as `wallet:fen` separated by spaces.
    pub paid: String,
    /// Why the price is in doubt, as its alarm is called.
    pub doubt: Option<String>,
    /// What it would cost, in fen, where that can be told.
    pub due: Option<i64>,
}

impl SaleRow {
    /// A counted meal, which is no money: a box that charges for one has sold something.
    pub fn is_counted(&self) -> bool {
        self.mode == "count" && self.total == 0
    }
}

const SALE: &str = "SELECT at_ms, node, generation, counter, seq, received_ms, day, terminal, boot, serial, card, person, \
     outlet, merchant, mode, period, price, adjustment, total, balance, offline, paid, doubt, due, category FROM sales";

fn sale(row: &Row<'_>) -> Sql<SaleRow> {
    Ok(SaleRow {
        place: Place {
            at_ms: row.get(0)?,
            node: row.get(1)?,
            generation: row.get(2)?,
            counter: row.get(3)?,
            seq: row.get::<_, i64>(4)? as u64,
        },
        received_ms: row.get(5)?,
        day: row.get(6)?,
        id: PurchaseId { terminal: TerminalId(row.get(7)?), boot: row.get(8)?, seq: row.get(9)? },
        card: row.get::<_, i64>(10)? as u64,
        person: row.get::<_, i64>(11)? as u64,
        outlet: row.get(12)?,
        merchant: row.get(13)?,
        mode: row.get(14)?,
        period: row.get(15)?,
        price: row.get(16)?,
        adjustment: row.get(17)?,
        total: row.get(18)?,
        balance: row.get(19)?,
        offline: row.get(20)?,
        paid: row.get(21)?,
        doubt: row.get(22)?,
        due: row.get(23)?,
        category: row.get(24)?,
    })
}

/// The sale at a place of a journal.
///
/// # Errors
/// Of the database.
pub fn sale_at(conn: &Connection, writer: Writer, seq: u64) -> Result<Option<SaleRow>, StoreError> {
    let doing = "finding a sale";
    let sql = format!("{SALE} WHERE node = ?1 AND generation = ?2 AND counter = ?3 AND seq = ?4");
    let life = writer.incarnation;
    conn.prepare_cached(&sql)
        .and_then(|mut s| {
            s.query_row(params![writer.node.0, life.generation, life.counter, seq as i64], sale).optional()
        })
        .map_err(failed(doing))
}

/// The sales under an id: one, or two when the same id was sold at two boxes.
///
/// # Errors
/// Of the database.
pub fn sales_of(conn: &Connection, id: PurchaseId) -> Result<Vec<SaleRow>, StoreError> {
    let doing = "finding a sale";
    let sql = format!("{SALE} WHERE terminal = ?1 AND boot = ?2 AND serial = ?3 LIMIT 8");
    let mut statement = conn.prepare_cached(&sql).map_err(failed(doing))?;
    statement
        .query_map(params![id.terminal.0, id.boot, id.seq], sale)
        .and_then(Iterator::collect)
        .map_err(failed(doing))
}

/// Money given back for a sale.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefundRow {
    /// Where its entry stands.
    pub place: Place,
    /// `reversal`, `correction` or `refund`.
    pub kind: String,
    /// Its own id.
    pub id: PurchaseId,
    /// Given back, in fen.
    pub total: i64,
    /// Who did it; 0 for a terminal or headquarters on its own.
    pub operator: u32,
}

/// Everything given back for a sale, oldest first.
///
/// # Errors
/// Of the database.
pub fn refunds_of(conn: &Connection, of: PurchaseId) -> Result<Vec<RefundRow>, StoreError> {
    let doing = "finding refunds";
    let sql = "SELECT at_ms, node, generation, counter, seq, kind, terminal, boot, serial, total, operator FROM refunds
               WHERE of_terminal = ?1 AND of_boot = ?2 AND of_serial = ?3 ORDER BY at_ms LIMIT 50";
    let mut statement = conn.prepare_cached(sql).map_err(failed(doing))?;
    let row = |row: &Row<'_>| {
        Ok(RefundRow {
            place: Place {
                at_ms: row.get(0)?,
                node: row.get(1)?,
                generation: row.get(2)?,
                counter: row.get(3)?,
                seq: row.get::<_, i64>(4)? as u64,
            },
            kind: row.get(5)?,
            id: PurchaseId { terminal: TerminalId(row.get(6)?), boot: row.get(7)?, seq: row.get(8)? },
            total: row.get(9)?,
            operator: row.get(10)?,
        })
    };
    statement.query_map(params![of.terminal.0, of.boot, of.seq], row).and_then(Iterator::collect).map_err(failed(doing))
}

/// Enough of a refund or refusal to lead somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// When.
    pub at_ms: i64,
    /// The sale of a refund.
    pub of: Option<PurchaseId>,
    /// The card of a refusal.
    pub card: Option<u64>,
}

/// What a refund or refusal at a place is about.
///
/// # Errors
/// Of the database.
pub fn moment_of(conn: &Connection, writer: Writer, seq: u64) -> Result<Option<Moment>, StoreError> {
    let doing = "finding a transaction";
    let sql = "SELECT at_ms, of_terminal, of_boot, of_serial, NULL FROM refunds
               WHERE node = ?1 AND generation = ?2 AND counter = ?3 AND seq = ?4
               UNION ALL SELECT at_ms, NULL, NULL, NULL, card FROM refusals
               WHERE node = ?1 AND generation = ?2 AND counter = ?3 AND seq = ?4 LIMIT 1";
    let life = writer.incarnation;
    let moment = |row: &Row<'_>| {
        let of = match row.get::<_, Option<u32>>(1)? {
            Some(terminal) => Some(PurchaseId { terminal: TerminalId(terminal), boot: row.get(2)?, seq: row.get(3)? }),
            None => None,
        };
        Ok(Moment { at_ms: row.get(0)?, of, card: row.get::<_, Option<i64>>(4)?.map(|c| c as u64) })
    };
    conn.prepare_cached(sql)
        .and_then(|mut s| {
            s.query_row(params![writer.node.0, life.generation, life.counter, seq as i64], moment).optional()
        })
        .map_err(failed(doing))
}

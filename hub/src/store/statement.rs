//! A person's account as movements with the balance after each, and single movements for slips.
//!
//! The balance is everything the person can spend, less what is owed: the same as on the person's page, so what a fenced
//! box holds is not in it. Movements between the person's own accounts (grants to boxes, returns, cheques) do not change
//! it and are left out unless asked for; what left or came from what a fenced box holds is shown though it does not
//! change it either.

use serde::Serialize;
use yika_crdt::feed::Hash;
use yika_crdt::ids::{OperatorId, PersonId};
use yika_crdt::store::StoreError;
use yika_store::failed;
use yika_store::rusqlite::{Connection, OptionalExtension, Row, params};

/// A movement on a person's accounts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Movement {
    /// Order of posting; also the voucher number.
    pub number: i64,
    /// Why: `top_up`, `purchase`, `refund` …
    pub kind: String,
    /// Account it left.
    pub debit: String,
    /// Account it arrived at.
    pub credit: String,
    /// How much moved, in fen.
    pub amount: i64,
    /// What that did to the balance.
    pub change: i64,
    /// The balance after it.
    pub balance: i64,
    /// Day of origin.
    pub day: i32,
    /// When it was posted.
    pub posted_ms: i64,
    /// What an operator asked for, if this follows from that.
    pub voucher: Option<Voucher>,
}

/// What an operator asked for at headquarters.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Voucher {
    /// `top_up`, `withdrawal`, `undo` or `refund`.
    pub kind: String,
    /// Number made by the asker.
    pub request: String,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
    /// Sign-in name, or `console`.
    pub who: String,
    /// Who took or paid the money.
    pub operator: OperatorId,
    /// In which shift.
    pub shift: u64,
    /// When, hub time.
    pub at_ms: i64,
    /// It was undone since.
    pub undone: bool,
}

/// Vouchers of one person or sale that are looked at.
const VOUCHERS_MAX: u32 = 200;

/// Accounts of the holder that make up what can be spent begin so.
const OWN: &str = "(substr({}, 1, 7) = 'holder/' OR substr({}, 1, 6) = 'right/' OR substr({}, 1, 11) = 'receivable/')";
/// The holder's money at fenced boxes.
const SUSPENSE: &str = "(substr({}, 1, 9) = 'suspense/')";

fn with_balance() -> String {
    let own = |side: &str| OWN.replace("{}", side);
    let all = |side: &str| format!("({} + {})", own(side), SUSPENSE.replace("{}", side));
    format!(
        "SELECT rowid AS number, kind, debit, credit, amount, day, posted_ms, source,
             amount * ({} - {}) AS change,
             sum(amount * ({} - {})) OVER (ORDER BY rowid) AS balance,
             {} <> {} AS outer
         FROM transfers INDEXED BY transfers_by_person WHERE person = ?1",
        own("credit"),
        own("debit"),
        own("credit"),
        own("debit"),
        all("credit"),
        all("debit")
    )
}

fn movement(row: &Row<'_>) -> yika_store::rusqlite::Result<Movement> {
    Ok(Movement {
        number: row.get(0)?,
        kind: row.get(1)?,
        debit: row.get(2)?,
        credit: row.get(3)?,
        amount: row.get(4)?,
        day: row.get(5)?,
        posted_ms: row.get(6)?,
        change: row.get(8)?,
        balance: row.get(9)?,
        voucher: voucher(row, 11)?,
    })
}

const VOUCHER: &str = "v.kind, v.request, v.reason, v.who, v.operator, v.shift, v.at_ms, \
     EXISTS (SELECT 1 FROM vouchers u WHERE u.of = v.source)";

/// The voucher in the columns from `at` on; none where the join found none.
fn voucher(row: &Row<'_>, at: usize) -> yika_store::rusqlite::Result<Option<Voucher>> {
    let Some(kind) = row.get(at)? else { return Ok(None) };
    Ok(Some(Voucher {
        kind,
        request: row.get(at + 1)?,
        reason: row.get(at + 2)?,
        who: row.get(at + 3)?,
        operator: OperatorId(row.get(at + 4)?),
        shift: row.get::<_, i64>(at + 5)? as u64,
        at_ms: row.get(at + 6)?,
        undone: row.get(at + 7)?,
    }))
}

/// What operators asked for about a person or sale, oldest first.
///
/// # Errors
/// Of the database.
pub fn vouchers_of(conn: &Connection, object: &str) -> Result<Vec<Voucher>, StoreError> {
    let doing = "listing vouchers";
    let sql = format!("SELECT {VOUCHER} FROM vouchers v WHERE v.object = ?1 ORDER BY v.at_ms LIMIT {VOUCHERS_MAX}");
    let mut statement = conn.prepare_cached(&sql).map_err(failed(doing))?;
    let rows = statement.query_map([object], |row| voucher(row, 0)).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    Ok(rows.map_err(failed(doing))?.into_iter().flatten().collect())
}

/// Movements of a person, newest first, older than `before`; with `inner` also those between his own accounts.
///
/// # Errors
/// Of the database.
pub fn statement(
    conn: &Connection,
    person: u64,
    before: Option<i64>,
    inner: bool,
    limit: u32,
) -> Result<Vec<Movement>, StoreError> {
    let doing = "listing movements";
    let sql = format!(
        "SELECT m.*, {VOUCHER} FROM ({}) m LEFT JOIN vouchers v ON v.source = m.source
         WHERE m.number < ?2 AND (?3 OR m.change <> 0 OR m.outer) ORDER BY m.number DESC LIMIT ?4",
        with_balance()
    );
    let mut statement = conn.prepare_cached(&sql).map_err(failed(doing))?;
    statement
        .query_map(params![person as i64, before.unwrap_or(i64::MAX), inner, limit], movement)
        .and_then(Iterator::collect)
        .map_err(failed(doing))
}

/// One movement of a person by number.
///
/// # Errors
/// Of the database.
pub fn movement_of(conn: &Connection, person: u64, number: i64) -> Result<Option<Movement>, StoreError> {
    let doing = "finding a movement";
    let sql = format!(
        "SELECT m.*, {VOUCHER} FROM ({}) m LEFT JOIN vouchers v ON v.source = m.source WHERE m.number = ?2",
        with_balance()
    );
    conn.prepare_cached(&sql)
        .and_then(|mut s| s.query_row(params![person as i64, number], movement).optional())
        .map_err(failed(doing))
}

/// The person for whom a source posted something.
///
/// # Errors
/// Of the database.
pub fn person_of(conn: &Connection, source: &Hash) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT object FROM vouchers WHERE source = ?1";
    let object: Option<String> = conn
        .prepare_cached(sql)
        .and_then(|mut s| s.query_row([source.0], |row| row.get(0)).optional())
        .map_err(failed("finding a voucher"))?;
    Ok(object.and_then(|text| text.parse::<PersonId>().ok()).map(|person| person.0))
}

/// Number of the movement that a source posted for a person.
///
/// # Errors
/// Of the database.
pub fn number_of(conn: &Connection, person: u64, source: &Hash) -> Result<Option<i64>, StoreError> {
    let doing = "finding a voucher";
    let sql =
        "SELECT rowid FROM transfers INDEXED BY transfers_by_person WHERE person = ?1 AND source = ?2 AND part = 0
               ORDER BY rowid DESC LIMIT 1";
    conn.prepare_cached(sql)
        .and_then(|mut s| s.query_row(params![person as i64, source.0], |row| row.get(0)).optional())
        .map_err(failed(doing))
}

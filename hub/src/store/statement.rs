//! A person's account as movements with the balance after each, and single movements for slips.
//!
//! The balance is everything the person can spend, less what is owed. Movements between the person's own accounts (grants
//! to boxes, returns, cheques) do not change it and are left out unless asked for.

use serde::Serialize;
use yika_crdt::feed::Hash;
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
}

/// Accounts of the holder begin so.
const OWN: &str = "(substr({}, 1, 7) = 'holder/' OR substr({}, 1, 6) = 'right/' OR substr({}, 1, 9) = 'suspense/' \
     OR substr({}, 1, 11) = 'receivable/')";

fn with_balance() -> String {
    let own = |side: &str| OWN.replace("{}", side);
    format!(
        "SELECT rowid AS number, kind, debit, credit, amount, day, posted_ms,
             amount * ({} - {}) AS change,
             sum(amount * ({} - {})) OVER (ORDER BY rowid) AS balance
         FROM transfers INDEXED BY transfers_by_person WHERE person = ?1",
        own("credit"),
        own("debit"),
        own("credit"),
        own("debit")
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
        change: row.get(7)?,
        balance: row.get(8)?,
    })
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
        "SELECT * FROM ({}) WHERE number < ?2 AND (?3 OR change <> 0) ORDER BY number DESC LIMIT ?4",
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
    let sql = format!("SELECT * FROM ({}) WHERE number = ?2", with_balance());
    conn.prepare_cached(&sql)
        .and_then(|mut s| s.query_row(params![person as i64, number], movement).optional())
        .map_err(failed(doing))
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

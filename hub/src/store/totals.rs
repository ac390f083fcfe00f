//! Sums for the overview and for monitoring: what was sold in a stretch of time, what went wrong, how large things are.

use serde::Serialize;
use yika_crdt::store::StoreError;
use yika_store::failed;
use yika_store::rusqlite::types::Value;
use yika_store::rusqlite::{Connection, Row, params, params_from_iter};

const HOUR_MS: i64 = 3_600_000;

/// What was sold in a stretch of time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sold {
    /// Number of sales.
    pub sales: u64,
    /// Their sum, in fen.
    pub fen: i64,
    /// By hour since the beginning and meal period: hour, period, number, sum.
    pub parts: Vec<(i64, Option<u8>, u64, i64)>,
}

fn of_nodes(nodes: Option<&[u32]>) -> String {
    match nodes {
        None => String::new(),
        // Numbers only: nothing of a request becomes SQL here.
        Some(nodes) => format!(" AND node IN ({})", nodes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// Adds up the sales of some boxes (all when absent) from `from_ms` until before `until_ms`.
///
/// # Errors
/// Of the database.
pub fn sold(conn: &Connection, from_ms: i64, until_ms: i64, nodes: Option<&[u32]>) -> Result<Sold, StoreError> {
    let doing = "adding sales up";
    let sql = format!(
        "SELECT (at_ms - ?1) / {HOUR_MS} AS hour, period, count(*), sum(total) FROM sales INDEXED BY sales_by_time
         WHERE at_ms >= ?1 AND at_ms < ?2{} GROUP BY 1, 2 ORDER BY 1, 2",
        of_nodes(nodes)
    );
    let mut statement = conn.prepare_cached(&sql).map_err(failed(doing))?;
    let part = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)? as u64, row.get(3)?));
    let parts: Vec<(i64, Option<u8>, u64, i64)> =
        statement.query_map(params![from_ms, until_ms], part).and_then(Iterator::collect).map_err(failed(doing))?;
    let sales = parts.iter().map(|p| p.2).sum();
    let fen = parts.iter().fold(0i64, |sum, p| sum.saturating_add(p.3));
    Ok(Sold { sales, fen, parts })
}

/// Given back since, in fen.
///
/// # Errors
/// Of the database.
pub fn given_back(conn: &Connection, from_ms: i64, nodes: Option<&[u32]>) -> Result<i64, StoreError> {
    let sql = format!(
        "SELECT coalesce(sum(total), 0) FROM refunds INDEXED BY refunds_by_time WHERE at_ms >= ?1{}",
        of_nodes(nodes)
    );
    conn.prepare_cached(&sql)
        .and_then(|mut s| s.query_row([from_ms], |row| row.get(0)))
        .map_err(failed("adding refunds up"))
}

/// Refusals since, by reason, most first.
///
/// # Errors
/// Of the database.
pub fn refused(conn: &Connection, from_ms: i64, nodes: Option<&[u32]>) -> Result<Vec<(String, u64)>, StoreError> {
    let doing = "counting refusals";
    let sql = format!(
        "SELECT reason, count(*) FROM refusals INDEXED BY refusals_by_time WHERE at_ms >= ?1{} GROUP BY reason
         ORDER BY 2 DESC, 1",
        of_nodes(nodes)
    );
    let mut statement = conn.prepare_cached(&sql).map_err(failed(doing))?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64));
    statement.query_map([from_ms], row).and_then(Iterator::collect).map_err(failed(doing))
}

/// An act or alarm of a box.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NoteRow {
    /// Box.
    pub node: u32,
    /// When, by the box's clock.
    pub at_ms: i64,
    /// Its short word.
    pub word: String,
    /// In words.
    pub detail: String,
}

/// Alarms since, newest first, and how many there are.
///
/// # Errors
/// Of the database.
pub fn alarms(
    conn: &Connection,
    from_ms: i64,
    nodes: Option<&[u32]>,
    limit: u32,
) -> Result<(Vec<NoteRow>, u64), StoreError> {
    let doing = "listing alarms";
    let wanted = format!("FROM notes INDEXED BY notes_by_time WHERE at_ms >= ? AND kind = 'alarm'{}", of_nodes(nodes));
    let count: i64 = conn
        .prepare_cached(&format!("SELECT count(*) {wanted}"))
        .and_then(|mut s| s.query_row([from_ms], |row| row.get(0)))
        .map_err(failed(doing))?;
    let sql = format!("SELECT node, at_ms, word, detail {wanted} ORDER BY at_ms DESC LIMIT ?");
    let mut statement = conn.prepare_cached(&sql).map_err(failed(doing))?;
    let row =
        |row: &Row<'_>| Ok(NoteRow { node: row.get(0)?, at_ms: row.get(1)?, word: row.get(2)?, detail: row.get(3)? });
    let rows = statement
        .query_map(params_from_iter([Value::from(from_ms), Value::from(limit)]), row)
        .and_then(Iterator::collect)
        .map_err(failed(doing))?;
    Ok((rows, count as u64))
}

/// Sum of all accounts; anything but zero is an imbalance of the books.
///
/// # Errors
/// Of the database.
pub fn imbalance(conn: &Connection) -> Result<i64, StoreError> {
    conn.query_row("SELECT coalesce(sum(credits - debits), 0) FROM accounts", [], |row| row.get(0))
        .map_err(failed("adding the accounts up"))
}

/// A kind of account in the books.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountClass {
    /// `cash`, `holder`, `right`, `merchant` …
    pub class: String,
    /// How many there are.
    pub accounts: u64,
    /// Arrived, in fen.
    pub credits: i64,
    /// Left, in fen.
    pub debits: i64,
}

/// The books by kind of account.
///
/// # Errors
/// Of the database.
pub fn classes(conn: &Connection) -> Result<Vec<AccountClass>, StoreError> {
    let doing = "adding the accounts up";
    // What guests and terminals may spend is nobody's: it is not mixed with what holders have.
    let sql = "SELECT CASE WHEN account GLOB '[hr]*/*/guest*' OR account GLOB '[hr]*/*/float-*' THEN 'reserve'
                           ELSE substr(account, 1, instr(account || '/', '/') - 1) END,
                      count(*), sum(credits), sum(debits)
               FROM accounts GROUP BY 1 ORDER BY 1";
    let mut statement = conn.prepare_cached(sql).map_err(failed(doing))?;
    let row = |row: &Row<'_>| {
        Ok(AccountClass {
            class: row.get(0)?,
            accounts: row.get::<_, i64>(1)? as u64,
            credits: row.get(2)?,
            debits: row.get(3)?,
        })
    };
    statement.query_map([], row).and_then(Iterator::collect).map_err(failed(doing))
}

/// Accounts of merchants with what each is owed, in fen.
///
/// # Errors
/// Of the database.
pub fn merchants(conn: &Connection) -> Result<Vec<(String, i64)>, StoreError> {
    let doing = "listing merchants";
    let sql = "SELECT substr(account, 10), credits - debits FROM accounts
               WHERE account >= 'merchant/' AND account < 'merchant0' ORDER BY account LIMIT 500";
    let mut statement = conn.prepare_cached(sql).map_err(failed(doing))?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).and_then(Iterator::collect).map_err(failed(doing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_owns_is_a_class_of_its_own_and_suspense_stays_one() {
        let conn = Connection::open_in_memory().expect("a database");
        conn.execute_batch(include_str!("sql/0001_books.sql")).expect("the books");
        let accounts = [
            ("cash", "cash", -900),
            ("pool", "pool", -700),
            ("holder/7/main", "holder", 400),
            ("right/7/subsidy-2/n1@1.1", "right", 500),
            ("holder/0/guest", "reserve", 100),
            ("right/0/guest/n1@1.1", "reserve", 200),
            ("right/0/float-10/n1@1.1", "reserve", 300),
            ("suspense/0/guest/n2@1.1", "suspense", 100),
        ];
        for (account, _, fen) in accounts {
            conn.execute("INSERT INTO accounts VALUES (?1, ?2, 0, NULL)", (account, fen)).expect("an account");
        }
        for class in classes(&conn).expect("classes") {
            let own = accounts.iter().filter(|(_, of, _)| *of == class.class);
            assert_eq!(class.credits, own.map(|(_, _, fen)| fen).sum::<i64>(), "{}", class.class);
        }
    }
}

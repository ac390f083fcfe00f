//! Reading the hub's tables for pages and commands: one function a question, bounded answers.

use super::rows::{AuditRow, BackupRow, OperatorRow, TerminalKeyRow};
use serde::{Deserialize, Serialize};
use yika_crdt::ids::*;
use yika_crdt::store::StoreError;
use yika_store::failed;
use yika_store::rusqlite::{Connection, OptionalExtension, Row, params};

type Sql<T> = yika_store::rusqlite::Result<T>;

/// What the books say when they are added up again from every transfer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TrialBalance {
    /// Sum of all accounts; zero in sound books.
    pub sum_fen: i64,
    /// Accounts whose kept sum differs from their transfers.
    pub accounts_differing: u64,
    /// Number of accounts.
    pub accounts: u64,
    /// Number of transfers.
    pub transfers: u64,
    /// Sold, less given back, in fen, by the rows of sales and refunds.
    pub sold_fen: i64,
}

/// Adds the books up again.
///
/// # Errors
/// Of the database.
pub fn trial_balance(conn: &Connection) -> Result<TrialBalance, StoreError> {
    let doing = "adding the books up";
    let one =
        |sql: &str| -> Result<i64, StoreError> { conn.query_row(sql, [], |row| row.get(0)).map_err(failed(doing)) };
    let differing = one("SELECT count(*) FROM accounts a LEFT JOIN (
             SELECT account, sum(credits) AS credits, sum(debits) AS debits FROM (
                 SELECT credit AS account, amount AS credits, 0 AS debits FROM transfers
                 UNION ALL SELECT debit, 0, amount FROM transfers) GROUP BY account) t ON t.account = a.account
         WHERE t.credits IS NOT a.credits OR t.debits IS NOT a.debits")?;
    Ok(TrialBalance {
        sum_fen: one("SELECT coalesce(sum(credits - debits), 0) FROM accounts")?,
        accounts_differing: differing as u64,
        accounts: one("SELECT count(*) FROM accounts")? as u64,
        transfers: one("SELECT count(*) FROM transfers")? as u64,
        sold_fen: one(
            "SELECT (SELECT coalesce(sum(total), 0) FROM sales) - (SELECT coalesce(sum(total), 0) FROM refunds)",
        )?,
    })
}

fn operator(row: &Row<'_>) -> Sql<OperatorRow> {
    Ok(OperatorRow {
        operator: OperatorId(row.get(0)?),
        login: row.get(1)?,
        name: row.get(2)?,
        role: row.get(3)?,
        campus: row.get::<_, Option<u16>>(4)?.map(CampusId),
        verifier: row.get(5)?,
        must_change: row.get(6)?,
        active: row.get(7)?,
        credential_epoch: row.get::<_, i64>(8)? as u64,
    })
}

const OPERATOR: &str =
    "SELECT operator, login, name, role, campus, verifier, must_change, active, credential_epoch FROM operators";

/// All operators by number.
///
/// # Errors
/// Of the database.
pub fn operators(conn: &Connection) -> Result<Vec<OperatorRow>, StoreError> {
    let doing = "listing operators";
    let mut statement = conn.prepare_cached(&format!("{OPERATOR} ORDER BY operator")).map_err(failed(doing))?;
    statement.query_map([], operator).and_then(Iterator::collect).map_err(failed(doing))
}

/// An operator by sign-in name.
///
/// # Errors
/// Of the database.
pub fn operator_by_login(conn: &Connection, login: &str) -> Result<Option<OperatorRow>, StoreError> {
    let doing = "finding an operator";
    let mut statement = conn.prepare_cached(&format!("{OPERATOR} WHERE login = ?1")).map_err(failed(doing))?;
    statement.query_row([login], operator).optional().map_err(failed(doing))
}

/// An operator by number.
///
/// # Errors
/// Of the database.
pub fn operator_by_id(conn: &Connection, id: OperatorId) -> Result<Option<OperatorRow>, StoreError> {
    let doing = "finding an operator";
    let mut statement = conn.prepare_cached(&format!("{OPERATOR} WHERE operator = ?1")).map_err(failed(doing))?;
    statement.query_row([id.0], operator).optional().map_err(failed(doing))
}

/// All terminals' sealed keys.
///
/// # Errors
/// Of the database.
pub fn terminal_keys(conn: &Connection) -> Result<Vec<TerminalKeyRow>, StoreError> {
    let doing = "listing terminal keys";
    let sql = "SELECT terminal, version, sealed FROM terminal_keys ORDER BY terminal";
    let mut statement = conn.prepare_cached(sql).map_err(failed(doing))?;
    let row = |row: &Row<'_>| {
        Ok(TerminalKeyRow { terminal: TerminalId(row.get(0)?), version: row.get(1)?, sealed: row.get(2)? })
    };
    statement.query_map([], row).and_then(Iterator::collect).map_err(failed(doing))
}

/// The newest backup that was made and proved.
///
/// # Errors
/// Of the database.
pub fn last_backup(conn: &Connection) -> Result<Option<BackupRow>, StoreError> {
    Ok(backups(conn, 1)?.into_iter().next())
}

fn backup(row: &Row<'_>) -> Sql<BackupRow> {
    Ok(BackupRow {
        at_ms: row.get(0)?,
        file: row.get(1)?,
        bytes: row.get::<_, i64>(2)? as u64,
        took_ms: row.get(3)?,
        entries: row.get::<_, i64>(4)? as u64,
        turn: row.get::<_, Option<i64>>(5)?.map(|turn| turn as u64),
    })
}

/// Backups that were made and proved, newest first.
///
/// # Errors
/// Of the database.
pub fn backups(conn: &Connection, limit: u32) -> Result<Vec<BackupRow>, StoreError> {
    let doing = "listing backups";
    let sql = "SELECT at_ms, file, bytes, took_ms, entries, turn FROM backups ORDER BY number DESC LIMIT ?1";
    let mut statement = conn.prepare_cached(sql).map_err(failed(doing))?;
    statement.query_map([limit], backup).and_then(Iterator::collect).map_err(failed(doing))
}

/// A line of the audit with its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditLine {
    /// Counted from 1 without gaps.
    pub number: i64,
    /// The line.
    pub row: AuditRow,
}

/// What a list of the audit shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditQuery {
    /// Of this operator; all when empty.
    pub who: String,
    /// Acts that begin so; all when empty.
    pub act: String,
    /// On exactly this object; all when empty.
    pub object: String,
    /// With a detail that begins so; any when empty.
    pub detail: String,
    /// Only older than this number: the last line of the page before.
    pub before: Option<i64>,
    /// Most lines.
    pub limit: u32,
}

/// Lines of the audit, newest first.
///
/// # Errors
/// Of the database.
pub fn audit(conn: &Connection, q: &AuditQuery) -> Result<Vec<AuditLine>, StoreError> {
    let doing = "listing the audit";
    let index = if q.object.is_empty() { "NOT INDEXED" } else { "INDEXED BY audit_by_object" };
    let object = if q.object.is_empty() { "?5 = ''" } else { "object = ?5" };
    let sql = format!(
        "SELECT number, at_ms, who, act, object, detail, origin FROM audit {index}
         WHERE number < ?1 AND (?2 = '' OR who = ?2) AND (?3 = '' OR substr(act, 1, length(?3)) = ?3) AND {object}
           AND (?6 = '' OR substr(detail, 1, length(?6)) = ?6)
         ORDER BY number DESC LIMIT ?4"
    );
    let mut statement = conn.prepare_cached(&sql).map_err(failed(doing))?;
    let row = |row: &Row<'_>| {
        Ok(AuditLine {
            number: row.get(0)?,
            row: AuditRow {
                at_ms: row.get(1)?,
                who: row.get(2)?,
                act: row.get(3)?,
                object: row.get(4)?,
                detail: row.get(5)?,
                origin: row.get(6)?,
            },
        })
    };
    statement
        .query_map(params![q.before.unwrap_or(i64::MAX), q.who, q.act, q.limit, q.object, q.detail], row)
        .and_then(Iterator::collect)
        .map_err(failed(doing))
}

/// Newest entry of each box's life that the hub holds, by the box's clock: how old its news are.
///
/// # Errors
/// Of the database.
pub fn newest_event_ms(conn: &Connection, writer: Writer) -> Result<Option<i64>, StoreError> {
    let doing = "finding the newest event of a box";
    let newest = |table: &str| -> Result<Option<i64>, StoreError> {
        let sql = format!(
            "SELECT at_ms FROM {table} WHERE node = ?1 AND generation = ?2 AND counter = ?3 ORDER BY seq DESC LIMIT 1"
        );
        let mut statement = conn.prepare_cached(&sql).map_err(failed(doing))?;
        let life = writer.incarnation;
        statement
            .query_row(params![writer.node.0, life.generation, life.counter], |row| row.get(0))
            .optional()
            .map_err(failed(doing))
    };
    let mut found = None;
    for table in ["sales", "refunds", "refusals", "door_events", "notes"] {
        found = found.max(newest(table)?);
    }
    Ok(found)
}

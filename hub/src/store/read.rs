//! Reading the hub's tables for pages and commands: one function a question, bounded answers.

use super::rows::{AuditRow, OperatorRow, TerminalKeyRow};
use serde::Serialize;
use yika_crdt::ids::*;
use yika_crdt::store::StoreError;
use yika_store::failed;
use yika_store::rusqlite::{Connection, OptionalExtension, Row, params};

type Sql<T> = yika_store::rusqlite::Result<T>;

/// A line of the list of transactions: a sale, a refund or a refusal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TransactionRow {
    /// `sale`, `reversal`, `correction`, `refund` or `refusal`.
    pub kind: String,
    /// Box, life and position of the entry.
    pub node: u32,
    /// Life of the box.
    pub generation: u32,
    /// Life of the box.
    pub counter: u32,
    /// Position in its journal.
    pub seq: u64,
    /// When it was written there.
    pub at_ms: i64,
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
    /// The terminal had decided alone.
    pub offline: bool,
}

/// What a list of transactions shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TransactionQuery {
    /// Not before.
    pub from_ms: Option<i64>,
    /// Before.
    pub until_ms: Option<i64>,
    /// Holder.
    pub person: Option<u64>,
    /// Card.
    pub card: Option<u64>,
    /// Terminal.
    pub terminal: Option<u32>,
    /// One of the kinds; all when empty.
    pub kind: String,
    /// Only older than this (time, node, position): the last row of the page before.
    pub before: Option<(i64, u32, u64)>,
    /// Most rows.
    pub limit: u32,
}

/// Newest first.
///
/// # Errors
/// Of the database.
pub fn transactions(conn: &Connection, q: &TransactionQuery) -> Result<Vec<TransactionRow>, StoreError> {
    let doing = "listing transactions";
    let sql = "
        SELECT * FROM (
            SELECT 'sale' AS kind, node, generation, counter, seq, at_ms, day, terminal, boot, serial, card, person, merchant,
                   total, mode AS detail, offline
            FROM sales WHERE (?1 IS NULL OR at_ms >= ?1) AND (?2 IS NULL OR at_ms < ?2)
            UNION ALL
            SELECT kind, node, generation, counter, seq, at_ms, day, terminal, boot, serial, NULL, person, merchant,
                   -total, '', 0
            FROM refunds WHERE (?1 IS NULL OR at_ms >= ?1) AND (?2 IS NULL OR at_ms < ?2)
            UNION ALL
            SELECT 'refusal', node, generation, counter, seq, at_ms, day, terminal, boot, serial, card, 0, 0, 0, reason, 0
            FROM refusals WHERE (?1 IS NULL OR at_ms >= ?1) AND (?2 IS NULL OR at_ms < ?2)
        )
        WHERE (?3 IS NULL OR person = ?3) AND (?4 IS NULL OR card = ?4) AND (?5 IS NULL OR terminal = ?5)
          AND (?6 = '' OR kind = ?6)
          AND (?7 IS NULL OR (at_ms, node, seq) < (?7, ?8, ?9))
        ORDER BY at_ms DESC, node DESC, seq DESC LIMIT ?10";
    let (before_ms, before_node, before_seq) = match q.before {
        Some((ms, node, seq)) => (Some(ms), Some(node), Some(seq as i64)),
        None => (None, None, None),
    };
    let mut statement = conn.prepare_cached(sql).map_err(failed(doing))?;
    statement
        .query_map(
            params![
                q.from_ms,
                q.until_ms,
                q.person.map(|p| p as i64),
                q.card.map(|c| c as i64),
                q.terminal,
                q.kind,
                before_ms,
                before_node,
                before_seq,
                q.limit,
            ],
            transaction,
        )
        .and_then(Iterator::collect)
        .map_err(failed(doing))
}

fn transaction(row: &Row<'_>) -> Sql<TransactionRow> {
    Ok(TransactionRow {
        kind: row.get(0)?,
        node: row.get(1)?,
        generation: row.get(2)?,
        counter: row.get(3)?,
        seq: row.get::<_, i64>(4)? as u64,
        at_ms: row.get(5)?,
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
    })
}

/// A movement on a holder's accounts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TransferRow {
    /// Order of posting.
    pub number: i64,
    /// Why.
    pub kind: String,
    /// Account it left.
    pub debit: String,
    /// Account it arrived at.
    pub credit: String,
    /// In fen.
    pub amount: i64,
    /// Day of origin.
    pub day: i32,
    /// When it was posted.
    pub posted_ms: i64,
}

/// Movements of a person, newest first.
///
/// # Errors
/// Of the database.
pub fn transfers_of(conn: &Connection, person: u64, limit: u32) -> Result<Vec<TransferRow>, StoreError> {
    let doing = "listing transfers";
    let sql = "SELECT rowid, kind, debit, credit, amount, day, posted_ms FROM transfers WHERE person = ?1
               ORDER BY rowid DESC LIMIT ?2";
    let mut statement = conn.prepare_cached(sql).map_err(failed(doing))?;
    let row = |row: &Row<'_>| {
        Ok(TransferRow {
            number: row.get(0)?,
            kind: row.get(1)?,
            debit: row.get(2)?,
            credit: row.get(3)?,
            amount: row.get(4)?,
            day: row.get(5)?,
            posted_ms: row.get(6)?,
        })
    };
    statement.query_map(params![person as i64, limit], row).and_then(Iterator::collect).map_err(failed(doing))
}

/// What the books say when they are added up again from every transfer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
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

/// Newest lines of the audit.
///
/// # Errors
/// Of the database.
pub fn audit(conn: &Connection, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
    let doing = "listing the audit";
    let sql = "SELECT at_ms, who, act, object, detail, origin FROM audit ORDER BY number DESC LIMIT ?1";
    let mut statement = conn.prepare_cached(sql).map_err(failed(doing))?;
    let row = |row: &Row<'_>| {
        Ok(AuditRow {
            at_ms: row.get(0)?,
            who: row.get(1)?,
            act: row.get(2)?,
            object: row.get(3)?,
            detail: row.get(4)?,
            origin: row.get(5)?,
        })
    };
    statement.query_map([limit], row).and_then(Iterator::collect).map_err(failed(doing))
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

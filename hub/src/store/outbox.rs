//! The outbox of the log: what every turn wrote stands here, durable with the turn, until it lies in the log's folder.
//!
//! Leaves to others: what a record holds (`backup::log::record`), the folder (`backup::log::ship`).

use serde::{Deserialize, Serialize};
use yika_crdt::feed::{self, Hash};
use yika_crdt::store::StoreError;
use yika_store::failed;
use yika_store::rusqlite::{Connection, Row, params};

/// Most bytes that wait for the folder. Beyond them everything that waits is dropped: the log has a gap then, and goes
/// on from the next backup.
pub const OUTBOX_BYTES_MAX: u64 = 128 << 20;

/// How far the folder is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Archived {
    /// Nothing up to this turn is waited for any more.
    pub turn: u64,
    /// The folder holds every turn from here to there.
    pub whole_from: u64,
    /// Its newest file, or empty.
    pub segment: String,
    /// Files of this life, ever.
    pub number: u32,
}

/// Where the log is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// The last turn.
    pub turn: u64,
    /// Hash of its record.
    pub hash: Hash,
    /// Bytes in the outbox.
    pub waiting_bytes: u64,
    /// How far the folder is known to be; it may be further.
    pub archived: Archived,
}

/// A record that waits.
pub struct Waiting {
    /// Its turn.
    pub turn: u64,
    /// Hash of the record before it.
    pub previous: Hash,
    /// The record.
    pub record: Vec<u8>,
}

/// The hash that the next record of the log must name.
pub fn record_hash(record: &[u8]) -> Hash {
    feed::digest("yika log 1", record)
}

/// Where the log is.
///
/// # Errors
/// Of the database.
pub fn position(conn: &Connection) -> Result<Position, StoreError> {
    let sql = "SELECT turn, hash, waiting_bytes, archived, whole_from, segment, number FROM log_position";
    let row = |row: &Row<'_>| {
        Ok(Position {
            turn: row.get::<_, i64>(0)? as u64,
            hash: Hash(row.get(1)?),
            waiting_bytes: row.get::<_, i64>(2)? as u64,
            archived: Archived {
                turn: row.get::<_, i64>(3)? as u64,
                whole_from: row.get::<_, i64>(4)? as u64,
                segment: row.get(5)?,
                number: row.get(6)?,
            },
        })
    };
    let doing = "finding the log's position";
    let mut statement = conn.prepare_cached(sql).map_err(failed(doing))?;
    statement.query_row([], row).map_err(failed(doing))
}

/// Adds the record of a turn, and lets go what lies in the folder. `record` is given its turn and the hash before it.
///
/// # Errors
/// Of the database.
pub fn append(
    tx: &Connection,
    archived: &Archived,
    record: impl FnOnce(u64, Hash) -> Vec<u8>,
) -> Result<(), StoreError> {
    let before = position(tx)?;
    let mut waiting_bytes = before.waiting_bytes;
    let archived = if archived.turn > before.archived.turn { archived } else { &before.archived };
    if archived.turn > before.archived.turn {
        waiting_bytes = waiting_bytes.saturating_sub(forget(tx, archived.turn)?);
    }
    let turn = before.turn + 1;
    let record = record(turn, before.hash);
    waiting_bytes += record.len() as u64;
    if waiting_bytes > OUTBOX_BYTES_MAX {
        tx.execute("DELETE FROM log_outbox", []).map_err(failed("emptying the log's outbox"))?;
        waiting_bytes = record.len() as u64;
    }
    let doing = "adding to the log's outbox";
    tx.prepare_cached("INSERT INTO log_outbox (turn, previous, record) VALUES (?1, ?2, ?3)")
        .and_then(|mut s| s.execute(params![turn as i64, before.hash.0, record]))
        .map_err(failed(doing))?;
    let (hash, a) = (record_hash(&record), archived);
    tx.prepare_cached(
        "UPDATE log_position SET turn = ?1, hash = ?2, waiting_bytes = ?3, archived = ?4, whole_from = ?5,
                                 segment = ?6, number = ?7",
    )
    .and_then(|mut s| {
        let numbers = (a.turn as i64, a.whole_from as i64);
        s.execute(params![turn as i64, hash.0, waiting_bytes as i64, numbers.0, numbers.1, a.segment, a.number])
    })
    .map_err(failed(doing))?;
    Ok(())
}

/// Lets go what lies in the folder; gives how many bytes that were.
fn forget(tx: &Connection, upto: u64) -> Result<u64, StoreError> {
    let doing = "letting go of the log's outbox";
    let sql = "SELECT coalesce(sum(length(record)), 0) FROM log_outbox WHERE turn <= ?1";
    let bytes: i64 =
        tx.prepare_cached(sql).and_then(|mut s| s.query_row([upto as i64], |row| row.get(0))).map_err(failed(doing))?;
    tx.prepare_cached("DELETE FROM log_outbox WHERE turn <= ?1")
        .and_then(|mut s| s.execute([upto as i64]))
        .map_err(failed(doing))?;
    Ok(bytes as u64)
}

/// Records after a turn, the first whatever its length, the others as long as they have `bytes_max` together.
///
/// # Errors
/// Of the database.
pub fn waiting(conn: &Connection, after: u64, bytes_max: usize) -> Result<Vec<Waiting>, StoreError> {
    let doing = "reading the log's outbox";
    let sql = "SELECT turn, previous, record FROM log_outbox WHERE turn > ?1 ORDER BY turn";
    let mut statement = conn.prepare_cached(sql).map_err(failed(doing))?;
    let mut rows = statement.query([after as i64]).map_err(failed(doing))?;
    let (mut waiting, mut bytes) = (Vec::new(), 0usize);
    while let Some(row) = rows.next().map_err(failed(doing))? {
        let one = one(row).map_err(failed(doing))?;
        bytes += one.record.len();
        if !waiting.is_empty() && bytes > bytes_max {
            break;
        }
        waiting.push(one);
    }
    Ok(waiting)
}

fn one(row: &Row<'_>) -> yika_store::rusqlite::Result<Waiting> {
    Ok(Waiting { turn: row.get::<_, i64>(0)? as u64, previous: Hash(row.get(1)?), record: row.get(2)? })
}

/// A replayed database stands where its log ended, and no folder holds what it will write.
///
/// # Errors
/// Of the database.
pub fn replayed(tx: &Connection, turn: u64, hash: Hash) -> Result<(), StoreError> {
    let doing = "setting the log's position";
    tx.execute("DELETE FROM log_outbox", []).map_err(failed(doing))?;
    let sql = "UPDATE log_position SET turn = ?1, hash = ?2, waiting_bytes = 0, archived = ?1, whole_from = ?1 + 1,
                                       segment = '', number = 0";
    tx.execute(sql, params![turn as i64, hash.0]).map(|_| ()).map_err(failed(doing))
}

/// The last turn that each of the newest `keep` backups of a folder holds, and of the newest of all: the log is kept
/// from the oldest of them on. `None` without a backup that knows its turn.
///
/// # Errors
/// Of the database.
pub fn oldest_kept(conn: &Connection, folder: &str, keep: usize) -> Result<Option<u64>, StoreError> {
    let doing = "finding the backups that the log belongs to";
    let sql = "SELECT min(turn) FROM (
                   SELECT turn FROM (SELECT turn FROM backups WHERE turn IS NOT NULL
                                     AND substr(file, 1, length(?1)) = ?1 ORDER BY number DESC LIMIT ?2)
                   UNION ALL
                   SELECT turn FROM (SELECT turn FROM backups WHERE turn IS NOT NULL ORDER BY number DESC LIMIT 1))";
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    let turn: Option<i64> = conn
        .prepare_cached(sql)
        .and_then(|mut s| s.query_row(params![folder, keep], |row| row.get(0)))
        .map_err(failed(doing))?;
    Ok(turn.map(|turn| turn as u64))
}

/// The last turn in the newest backup that knows it.
///
/// # Errors
/// Of the database.
pub fn newest_base(conn: &Connection) -> Result<Option<u64>, StoreError> {
    oldest_kept(conn, "", 1)
}

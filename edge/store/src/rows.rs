//! Reading rows: the SQL of the reading half, shared by the writing store and the reader pool.
//!
//! Every row is checked against what it must be; a row that is not so is [`StoreError::Corrupt`] with its place.

use crate::error::{corrupt, failed};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use yika_crdt::channel::FeedId;
use yika_crdt::feed::{self, End, Hash, SignedHead};
use yika_crdt::ids::Seq;
use yika_crdt::store::{FeedState, KeyValue, StoreError};
use yika_crdt::wire;

/// Bits of an entry's key that hold its position; the rest is the feed's row id.
const SEQ_BITS: u32 = 40;
/// Last position a feed can have: a purchase every millisecond for 34 years.
pub const SEQ_MAX: u64 = (1 << SEQ_BITS) - 1;
/// Last row id of a feed that fits above the position.
const FEED_ROW_MAX: i64 = (1 << (63 - SEQ_BITS)) - 1;
/// Longest stored name of a feed.
const FEED_ID_BYTES_MAX: usize = 256;
/// Longest stored head.
const HEAD_BYTES_MAX: usize = 1024;

/// What the store knows of a feed beside its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FeedRow {
    pub(crate) id: i64,
    pub(crate) held: FeedState,
    /// Chain hash at `held.pruned`; `None` for a feed taken over from the middle.
    pub(crate) pruned_hash: Option<Hash>,
}

/// Key of a position in `entries` and `heads`.
pub(crate) fn at(feed: i64, seq: Seq) -> Result<i64, StoreError> {
    if seq.0 > SEQ_MAX || !(0..=FEED_ROW_MAX).contains(&feed) {
        return Err(corrupt(format!("feed row {feed}{seq}"), "position or row beyond what the file can hold"));
    }
    // Both parts were checked to fit.
    Ok(feed << SEQ_BITS | seq.0 as i64)
}

fn seq_of(at: i64) -> Seq {
    Seq(at as u64 & SEQ_MAX)
}

pub(crate) fn prepare<'c>(conn: &'c Connection, sql: &str) -> Result<CachedStatement<'c>, StoreError> {
    conn.prepare_cached(sql).map_err(failed("preparing a statement"))
}

/// Checksum of a state row.
pub(crate) fn row_sum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

pub(crate) fn state_place(key: &[u8]) -> String {
    let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
    format!("state row {hex}")
}

fn checked(key: &[u8], value: Vec<u8>, sum: i64) -> Result<Vec<u8>, StoreError> {
    if i64::from(row_sum(key, &value)) == sum {
        return Ok(value);
    }
    Err(corrupt(state_place(key), "its checksum does not match"))
}

pub(crate) fn get(conn: &Connection, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let row: Option<(Vec<u8>, i64)> = prepare(conn, "SELECT value, sum FROM state WHERE key = ?1")?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(failed("reading a state row"))?;
    row.map(|(value, sum)| checked(key, value, sum)).transpose()
}

pub(crate) fn scan(
    conn: &Connection,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<KeyValue>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let after = after.filter(|after| *after >= prefix);
    let end = prefix_end(prefix);
    let sql = match (after.is_some(), end.is_some()) {
        (false, true) => "SELECT key, value, sum FROM state WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3",
        (true, true) => "SELECT key, value, sum FROM state WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3",
        (false, false) => "SELECT key, value, sum FROM state WHERE key >= ?1 AND ?2 IS NULL ORDER BY key LIMIT ?3",
        (true, false) => "SELECT key, value, sum FROM state WHERE key > ?1 AND ?2 IS NULL ORDER BY key LIMIT ?3",
    };
    let mut statement = prepare(conn, sql)?;
    let mut rows =
        statement.query(params![after.unwrap_or(prefix), end, limit]).map_err(failed("scanning state rows"))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed("scanning state rows"))? {
        let (key, value, sum) = state_row(row).map_err(failed("scanning state rows"))?;
        let value = checked(&key, value, sum)?;
        found.push((key, value));
    }
    Ok(found)
}

fn state_row(row: &Row<'_>) -> rusqlite::Result<(Vec<u8>, Vec<u8>, i64)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

/// The first key after all keys with this prefix; `None` when there is none.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// All feeds, checked row by row.
pub(crate) fn feeds(conn: &Connection) -> Result<Vec<(FeedId, FeedRow)>, StoreError> {
    let mut statement = prepare(conn, "SELECT id, seq, hash, pruned, pruned_hash, feed FROM feeds")?;
    let mut rows = statement.query([]).map_err(failed("reading the feeds"))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed("reading the feeds"))? {
        let held = feed_row(row)?;
        let name: Vec<u8> = row.get(5).map_err(failed("reading the feeds"))?;
        let feed = wire::decode::<FeedId>(&name, FEED_ID_BYTES_MAX)
            .map_err(|e| corrupt(format!("feed row {}", held.id), e.to_string()))?;
        found.push((feed, held));
    }
    found.sort_unstable_by_key(|(feed, _)| *feed);
    Ok(found)
}

pub(crate) fn feed(conn: &Connection, feed: &FeedId) -> Result<Option<FeedRow>, StoreError> {
    let mut statement = prepare(conn, "SELECT id, seq, hash, pruned, pruned_hash FROM feeds WHERE feed = ?1")?;
    let mut rows = statement.query([wire::encode(feed)]).map_err(failed("reading a feed"))?;
    match rows.next().map_err(failed("reading a feed"))? {
        Some(row) => feed_row(row).map(Some),
        None => Ok(None),
    }
}

fn feed_row(row: &Row<'_>) -> Result<FeedRow, StoreError> {
    let read = failed("reading a feed");
    let id: i64 = row.get(0).map_err(&read)?;
    let seq: i64 = row.get(1).map_err(&read)?;
    let hash: Vec<u8> = row.get(2).map_err(&read)?;
    let pruned: i64 = row.get(3).map_err(&read)?;
    let pruned_hash: Option<Vec<u8>> = row.get(4).map_err(&read)?;
    let place = || format!("feed row {id}");
    let hash32 = |bytes: Vec<u8>| {
        <[u8; 32]>::try_from(bytes).map(Hash).map_err(|b| corrupt(place(), format!("a hash of {} bytes", b.len())))
    };
    let position = |n: i64| {
        u64::try_from(n)
            .ok()
            .filter(|n| *n <= SEQ_MAX)
            .map(Seq)
            .ok_or_else(|| corrupt(place(), format!("position {n}")))
    };
    let held = FeedState { end: End { seq: position(seq)?, hash: hash32(hash)? }, pruned: position(pruned)? };
    if held.pruned > held.end.seq {
        return Err(corrupt(place(), "pruned beyond its end"));
    }
    Ok(FeedRow { id, held, pruned_hash: pruned_hash.map(hash32).transpose()? })
}

/// Consecutive entries of a feed; a hole between what is held is damage.
pub(crate) fn entries(
    conn: &Connection,
    feed: &FeedId,
    row: &FeedRow,
    from: Seq,
    bytes_max: usize,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut next = from.max(row.held.pruned.next());
    if next > row.held.end.seq {
        return Ok(Vec::new());
    }
    let mut statement = prepare(conn, "SELECT at, body FROM entries WHERE at BETWEEN ?1 AND ?2 ORDER BY at")?;
    let mut rows =
        statement.query([at(row.id, next)?, at(row.id, row.held.end.seq)?]).map_err(failed("reading entries"))?;
    let mut run = Vec::new();
    let mut bytes = 0usize;
    while next <= row.held.end.seq {
        let row = rows.next().map_err(failed("reading entries"))?;
        let found: Option<i64> = row.map(|row| row.get(0)).transpose().map_err(failed("reading entries"))?;
        let (Some(row), true) = (row, found.map(seq_of) == Some(next)) else {
            return Err(corrupt(format!("{feed}{next}"), "the entry is missing"));
        };
        let body = row.get_ref(1).and_then(|v| Ok(v.as_blob()?)).map_err(failed("reading entries"))?;
        bytes = bytes.saturating_add(body.len());
        if !run.is_empty() && bytes > bytes_max {
            break;
        }
        run.push(body.to_vec());
        next = next.next();
    }
    Ok(run)
}

/// Bytes of entries read at once while a chain is recomputed.
const CHAIN_STEP_BYTES: usize = 1 << 20;

/// The chain hash at `upto`, recomputed from the hash at the pruned position.
pub(crate) fn chain(
    conn: &Connection,
    feed: &FeedId,
    row: &FeedRow,
    pruned_hash: Hash,
    upto: Seq,
) -> Result<Hash, StoreError> {
    let mut end = End { seq: row.held.pruned, hash: pruned_hash };
    while end.seq < upto {
        for entry in entries(conn, feed, row, end.seq.next(), CHAIN_STEP_BYTES)? {
            end = feed::link(feed, end, &entry);
            if end.seq == upto {
                return Ok(end.hash);
            }
        }
    }
    Ok(end.hash)
}

pub(crate) fn head_from(conn: &Connection, feed: &FeedId, id: i64, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
    if seq.0 > SEQ_MAX {
        return Ok(None);
    }
    let sql = "SELECT at, head FROM heads WHERE at BETWEEN ?1 AND ?2 ORDER BY at LIMIT 1";
    head(conn, feed, sql, [at(id, seq)?, at(id, Seq(SEQ_MAX))?])
}

pub(crate) fn head_upto(conn: &Connection, feed: &FeedId, id: i64, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
    let sql = "SELECT at, head FROM heads WHERE at BETWEEN ?1 AND ?2 ORDER BY at DESC LIMIT 1";
    head(conn, feed, sql, [at(id, Seq::ZERO)?, at(id, seq.min(Seq(SEQ_MAX)))?])
}

fn head(conn: &Connection, feed: &FeedId, sql: &str, within: [i64; 2]) -> Result<Option<SignedHead>, StoreError> {
    let found: Option<(i64, Vec<u8>)> = prepare(conn, sql)?
        .query_row(within, |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(failed("reading a head"))?;
    found.map(|(at, bytes)| decode_head(feed, seq_of(at), &bytes)).transpose()
}

fn decode_head(feed: &FeedId, seq: Seq, bytes: &[u8]) -> Result<SignedHead, StoreError> {
    let place = || format!("head of {feed}{seq}");
    let head =
        wire::decode_lenient::<SignedHead>(bytes, HEAD_BYTES_MAX).map_err(|e| corrupt(place(), e.to_string()))?;
    if head.feed != *feed || head.end.seq != seq {
        return Err(corrupt(place(), "it names another feed or position"));
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_lacks_it() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(&[1, 255]), Some(vec![2]));
        assert_eq!(prefix_end(&[255, 255]), None);
        assert_eq!(prefix_end(b""), None);
    }

    #[test]
    fn a_key_never_runs_into_the_next_feed() {
        assert!(at(1, Seq(SEQ_MAX)).ok() < at(2, Seq::ZERO).ok());
        assert!(at(1, Seq(SEQ_MAX + 1)).is_err());
        assert!(at(FEED_ROW_MAX, Seq(SEQ_MAX)).is_ok_and(|at| at == i64::MAX));
        assert!(at(FEED_ROW_MAX + 1, Seq(1)).is_err());
    }
}

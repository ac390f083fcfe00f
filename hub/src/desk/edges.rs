//! The fleet of boxes as headquarters sees it: by the age of their newest event, never by an open socket.

use super::{Desk, DeskError};
use crate::clock::wall_ms;
use crate::store::read;
use serde::Serialize;
use std::collections::BTreeMap;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::Entry;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::store::{Read, StoreError, decode_row};

/// A box whose newest event is older than this is late, in milliseconds.
pub const LATE_AFTER_MS: i64 = 60_000;
/// A box whose newest event is older than this counts as off line, in milliseconds.
pub const OFFLINE_AFTER_MS: i64 = 15 * 60_000;
/// Most entries of a journal's end that are shown.
pub const JOURNAL_TAIL_MAX: u64 = 60;
/// Bytes of a journal read for that.
const JOURNAL_TAIL_BYTES_MAX: usize = 1 << 20;
/// Most entries in quarantine that are counted.
const QUARANTINE_ROWS_MAX: usize = 10_000;

/// A box at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct EdgeView {
    /// Its number.
    pub node: NodeId,
    /// Its life.
    pub writer: String,
    /// Its campus.
    pub campus: Option<CampusId>,
    /// Its name as shown.
    pub name: String,
    /// Where other boxes dial it.
    pub address: Option<String>,
    /// A connection is open now; says nothing about how new its news are.
    pub connected: bool,
    /// Ended by headquarters, with the reason.
    pub fenced: Option<String>,
    /// Journal entries held.
    pub held: u64,
    /// When its newest event that headquarters holds was written, by the box's clock.
    pub newest_event_ms: Option<i64>,
    /// Age of that, in milliseconds.
    pub newest_event_age_ms: Option<i64>,
    /// Entries of it in quarantine.
    pub quarantined: u64,
}

/// An entry that could not be used.
#[derive(Clone, Debug, Serialize)]
pub struct Quarantined {
    /// Its feed.
    pub feed: FeedId,
    /// Its position.
    pub seq: u64,
    /// Why.
    pub cause: String,
}

/// An entry at the end of a journal.
#[derive(Clone, Debug)]
pub struct JournalLine {
    /// Its position.
    pub seq: u64,
    /// What it says; `None` when this program cannot read it.
    pub entry: Option<Entry>,
}

impl Desk {
    /// All boxes in their newest lives.
    ///
    /// # Errors
    /// When the hub cannot read.
    pub async fn edges(&self) -> Result<Vec<EdgeView>, DeskError> {
        let registry = self.node.registry();
        let connected = self.node.peers();
        let mut quarantined: BTreeMap<Writer, u64> = BTreeMap::new();
        for row in self.quarantine().await? {
            *quarantined.entry(row.feed.writer).or_default() += 1;
        }
        let writers: Vec<Writer> = registry.boxes().iter().map(|record| record.writer).collect();
        let wanted = writers.clone();
        let newest: Vec<Option<i64>> = self
            .node
            .query(move |conn| wanted.iter().map(|writer| read::newest_event_ms(conn, *writer)).collect())
            .await?;
        let held: Vec<u64> = self
            .node
            .look_off_thread(move |store| {
                writers.iter().map(|writer| Ok(store.feed(&journal(*writer))?.end.seq.0)).collect()
            })
            .await?;
        let boxes = registry.boxes().into_iter().zip(newest).zip(held);
        Ok(boxes
            .map(|((record, newest), held)| EdgeView {
                node: record.writer.node,
                writer: record.writer.to_string(),
                campus: record.campus,
                name: record.name.clone(),
                address: record.address.clone(),
                connected: connected.contains(&record.writer),
                fenced: registry.fences.get(&record.writer).map(|f| f.reason.clone()),
                held,
                newest_event_ms: newest,
                newest_event_age_ms: newest.map(|ms| wall_ms().saturating_sub(ms)),
                quarantined: quarantined.get(&record.writer).copied().unwrap_or(0),
            })
            .collect())
    }

    /// Entries that could not be used, of all feeds.
    ///
    /// # Errors
    /// When the hub cannot read.
    pub async fn quarantine(&self) -> Result<Vec<Quarantined>, DeskError> {
        Ok(self.node.look_off_thread(|store| quarantined(store)).await?)
    }

    /// The end of a box's journal, newest first.
    ///
    /// # Errors
    /// When the hub cannot read.
    pub async fn journal_tail(&self, writer: Writer) -> Result<Vec<JournalLine>, DeskError> {
        let read = self.node.look_off_thread(move |store| {
            let feed = journal(writer);
            let end = store.feed(&feed)?.end.seq.0;
            let from = end.saturating_sub(JOURNAL_TAIL_MAX - 1).max(1);
            let entries = store.entries(&feed, Seq(from), JOURNAL_TAIL_BYTES_MAX)?;
            let lines = entries.iter().enumerate();
            Ok(lines
                .map(|(at, bytes)| JournalLine { seq: from + at as u64, entry: Entry::decode(bytes).ok() })
                .rev()
                .collect())
        });
        Ok(read.await?)
    }
}

fn journal(writer: Writer) -> FeedId {
    FeedId { writer, channel: Channel::Journal }
}

fn quarantined(store: &dyn Read) -> Result<Vec<Quarantined>, StoreError> {
    let rows = store.scan(keys::QUARANTINE, None, QUARANTINE_ROWS_MAX)?;
    let mut found = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        let damaged = || StoreError::Corrupt { place: "the quarantine".into(), cause: "a key cannot be read".into() };
        let (feed, seq) = postcard::take_from_bytes::<FeedId>(&key[keys::QUARANTINE.len()..]).map_err(|_| damaged())?;
        let seq = u64::from_be_bytes(seq.try_into().map_err(|_| damaged())?);
        found.push(Quarantined { feed, seq, cause: decode_row(&key, &value)? });
    }
    Ok(found)
}

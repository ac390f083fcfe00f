//! The fleet of boxes as headquarters sees it: by when each was last heard and by what it has not handed over yet. A box
//! that sells nothing is as well as any; one that is heard and keeps its news back is not.

use super::{Desk, DeskError};
use crate::clock::wall_ms;
use crate::store::read;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::Entry;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::store::{Read, StoreError, decode_row};

/// A box that was not heard for longer is late, one whose news have been missing for longer is behind; in milliseconds.
pub const LATE_AFTER_MS: i64 = 60_000;
/// A box that was not heard for longer counts as off line, in milliseconds.
pub const OFFLINE_AFTER_MS: i64 = 15 * 60_000;
/// Most entries of a journal's end that are shown.
pub const JOURNAL_TAIL_MAX: u64 = 60;
/// Bytes of a journal read for that.
const JOURNAL_TAIL_BYTES_MAX: usize = 1 << 20;
/// Most entries in quarantine that are counted.
const QUARANTINE_ROWS_MAX: usize = 10_000;

/// A box at a glance.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Journal entries that it has told of and that are not held yet.
    pub behind: u64,
    /// Since when, as far as it has told, it holds more than headquarters; nothing while it does not.
    pub behind_since_ms: Option<i64>,
    /// Age of that, in milliseconds.
    pub behind_age_ms: Option<i64>,
    /// When it was last heard, by headquarters' clock; a box says at short intervals how long its journal is.
    pub heard_ms: Option<i64>,
    /// Age of that, in milliseconds.
    pub heard_age_ms: Option<i64>,
    /// When its newest event that headquarters holds was written, by the box's clock.
    pub newest_event_ms: Option<i64>,
    /// Age of that, in milliseconds.
    pub newest_event_age_ms: Option<i64>,
    /// Entries of it in quarantine.
    pub quarantined: u64,
}

/// How a box stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Ended by headquarters.
    Fenced,
    /// Enrolled, and never heard since.
    New,
    /// Heard lately, with nothing old kept back.
    Normal,
    /// Heard lately, and what it said it holds has been missing for a while.
    Behind,
    /// Not heard for a while.
    Late,
    /// Not heard for long.
    Offline,
}

impl EdgeView {
    /// How it stands, by what was heard of it; an open connection alone says nothing.
    pub fn standing(&self) -> Standing {
        match self.heard_age_ms {
            _ if self.fenced.is_some() => Standing::Fenced,
            None => Standing::New,
            Some(age) if age > OFFLINE_AFTER_MS => Standing::Offline,
            Some(age) if age > LATE_AFTER_MS => Standing::Late,
            Some(_) if self.behind_age_ms.is_some_and(|age| age > LATE_AFTER_MS) => Standing::Behind,
            Some(_) => Standing::Normal,
        }
    }
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
        let now_ms = wall_ms();
        let boxes = registry.boxes().into_iter().zip(newest).zip(held);
        Ok(boxes
            .map(|((record, newest), held)| {
                let connected = connected.contains(&record.writer);
                let heard = self.node.heard(record.writer);
                let heard_ms = heard.at_ms.max(newest);
                let behind = heard.journal_end.0.saturating_sub(held);
                let behind_since_ms = heard.behind_since_ms.filter(|_| behind > 0);
                EdgeView {
                    node: record.writer.node,
                    writer: record.writer.to_string(),
                    campus: record.campus,
                    name: record.name.clone(),
                    address: record.address.clone(),
                    connected,
                    fenced: registry.fences.get(&record.writer).map(|f| f.reason.clone()),
                    held,
                    behind,
                    behind_since_ms,
                    behind_age_ms: behind_since_ms.map(|ms| now_ms.saturating_sub(ms)),
                    heard_ms,
                    heard_age_ms: heard_ms.map(|ms| now_ms.saturating_sub(ms)),
                    newest_event_ms: newest,
                    newest_event_age_ms: newest.map(|ms| now_ms.saturating_sub(ms)),
                    quarantined: quarantined.get(&record.writer).copied().unwrap_or(0),
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(heard_age_ms: Option<i64>, behind_age_ms: Option<i64>) -> Standing {
        let view = EdgeView {
            node: NodeId(1),
            writer: String::new(),
            campus: None,
            name: String::new(),
            address: None,
            connected: true,
            fenced: None,
            held: 0,
            behind: u64::from(behind_age_ms.is_some()),
            behind_since_ms: behind_age_ms.map(|age| -age),
            behind_age_ms,
            heard_ms: heard_age_ms.map(|age| -age),
            heard_age_ms,
            newest_event_ms: None,
            newest_event_age_ms: None,
            quarantined: 0,
        };
        assert_eq!(EdgeView { fenced: Some("lost".into()), ..view.clone() }.standing(), Standing::Fenced);
        view.standing()
    }

    #[test]
    fn a_box_is_judged_by_when_it_was_heard_and_not_by_an_open_socket() {
        assert_eq!(seen(Some(LATE_AFTER_MS), None), Standing::Normal);
        assert_eq!(seen(Some(LATE_AFTER_MS + 1), None), Standing::Late, "connected and silent");
        assert_eq!(seen(Some(OFFLINE_AFTER_MS + 1), None), Standing::Offline);
        assert_eq!(seen(None, None), Standing::New);
    }

    #[test]
    fn a_box_that_is_heard_is_behind_while_what_it_holds_does_not_come() {
        assert_eq!(seen(Some(0), Some(LATE_AFTER_MS)), Standing::Normal, "on its way");
        assert_eq!(seen(Some(0), Some(LATE_AFTER_MS + 1)), Standing::Behind);
        assert_eq!(seen(Some(OFFLINE_AFTER_MS + 1), Some(OFFLINE_AFTER_MS)), Standing::Offline);
    }
}

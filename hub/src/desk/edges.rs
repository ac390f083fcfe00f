//! The fleet of boxes as headquarters sees it: by the age of their newest event, never by an open socket.

use super::{Desk, DeskError};
use crate::clock::wall_ms;
use crate::store::read;
use serde::Serialize;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::ids::*;

/// A box whose newest event is older than this is late, in milliseconds.
pub const LATE_AFTER_MS: i64 = 60_000;

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

impl Desk {
    /// All boxes in their newest lives.
    ///
    /// # Errors
    /// When the hub cannot read.
    pub async fn edges(&self) -> Result<Vec<EdgeView>, DeskError> {
        let registry = self.node.registry();
        let connected = self.node.peers();
        let mut views = Vec::new();
        for record in registry.boxes() {
            let writer = record.writer;
            let newest = self.node.query(move |conn| read::newest_event_ms(conn, writer)).await?;
            let journal = FeedId { writer, channel: Channel::Journal };
            let held = tokio::task::block_in_place(|| self.node.look(|store| store.feed(&journal)))?;
            views.push(EdgeView {
                node: writer.node,
                writer: writer.to_string(),
                campus: record.campus,
                name: record.name.clone(),
                address: record.address.clone(),
                connected: connected.contains(&writer),
                fenced: registry.fences.get(&writer).map(|f| f.reason.clone()),
                held: held.end.seq.0,
                newest_event_ms: newest,
                newest_event_age_ms: newest.map(|ms| wall_ms().saturating_sub(ms)),
                quarantined: 0,
            });
        }
        Ok(views)
    }
}

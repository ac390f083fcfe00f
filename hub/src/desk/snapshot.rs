//! Snapshots by the desk: what a new box can start from, written into a file for a stick.

use super::{Actor, Desk, DeskError, refused};
use crate::core::Command;
use crate::refusal::{Cause, Refusal};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use yika_crdt::ids::CampusId;

/// A part of an exported file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExportedPart {
    /// Whom it is for.
    pub audience: String,
    /// When it was cut, hub time.
    pub cut_ms: i64,
    /// Bytes of its chunks.
    pub bytes: u64,
    /// Feeds that go on from it.
    pub feeds: usize,
}

impl Desk {
    /// Writes a snapshot for a campus' boxes into a file.
    ///
    /// # Errors
    /// In words: not of headquarters, no such campus, nothing can be written there.
    pub async fn export_snapshot(
        &self,
        actor: &Actor,
        campus: CampusId,
        file: PathBuf,
    ) -> Result<Vec<ExportedPart>, DeskError> {
        if actor.campus.is_some() {
            return refused(Refusal::SnapshotsOfHeadquarters {});
        }
        let (node, path) = (Arc::clone(&self.node), file.clone());
        let written = tokio::task::spawn_blocking(move || node.export_snapshot(campus, &path)).await;
        let written = written.map_err(|ended| DeskError::Busy(ended.to_string()))?;
        let signed = written.map_err(|error| Refusal::SnapshotFailed { cause: Cause(format!("{error:#}")) })?;
        let detail = campus.to_string();
        self.act(actor, "snapshot.export", file.display().to_string(), detail, Command::Nothing, Vec::new()).await?;
        let part = |signed: &yika_crdt::snapshot::SignedManifest| ExportedPart {
            audience: signed.manifest.audience.to_string(),
            cut_ms: signed.manifest.cut_ms,
            bytes: signed.manifest.bytes,
            feeds: signed.manifest.feeds.len(),
        };
        Ok(signed.iter().map(part).collect())
    }
}

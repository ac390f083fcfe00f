//! `yika-hub snapshot …`: asks the running hub, or works on the folder of one that does not run.

use super::Line;
use anyhow::Result;
use clap::Subcommand;
use std::path::PathBuf;
use yika_crdt::ids::CampusId;
use yika_hub::config::Config;
use yika_hub::control::{self, SnapshotWish};
use yika_hub::desk::ExportedPart;

#[derive(Subcommand)]
pub(super) enum Snapshot {
    /// Write registry, people, blocks, policy and visitors for the boxes of a campus into one file, to be carried there:
    /// `yika-edge snapshot import FILE`. It holds names and card numbers.
    Export {
        /// Number of the campus.
        #[arg(long)]
        campus: CampusId,
        /// The file.
        file: PathBuf,
    },
}

pub(super) async fn run(config: &Config, hub: &Line, command: Snapshot) -> Result<()> {
    let Snapshot::Export { campus, file } = command;
    // The running hub works in another folder than this command.
    let file = std::path::absolute(file)?;
    let parts: Vec<ExportedPart> = match control::is_running(&hub.socket).await {
        true => hub.post("/v1/snapshot", &SnapshotWish { campus, file: file.clone() }).await?,
        false => yika_hub::app::export_at_rest(config, campus, file.clone()).await?,
    };
    let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
    let answer = serde_json::json!({ "file": file, "parts": parts });
    hub.voice.give(&answer, "snapshot.written", &[("file", &file.display()), ("bytes", &bytes)])
}

//! Backups by the desk: made and proved, remembered, and told to the core so that boxes may prune. And how the hub is.

use super::{Actor, Desk, DeskError, refused};
use crate::backup::log::LogState;
use crate::backup::{self, Backups, Proved, Source};
use crate::core::Command;
use crate::machine::Recovering;
use crate::store::{BackupRow, TableRow, read};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How headquarters is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HubStatus {
    /// Its name.
    pub name: String,
    /// The life it is in.
    pub life: String,
    /// It was restored and is not whole yet.
    pub recovering: Option<Recovering>,
    /// Boxes with an open connection.
    pub connected: u64,
    /// The newest proved backup.
    pub last_backup: Option<BackupRow>,
    /// How the log between two backups is; none where none is written.
    pub log: Option<LogState>,
}

impl HubStatus {
    /// In words, one line each.
    pub fn words(&self, now_ms: i64) -> Vec<String> {
        let mut words = vec![format!("{} · life {} · {} boxes connected", self.name, self.life, self.connected)];
        if let Some(recovering) = &self.recovering {
            let nodes: Vec<String> = recovering.waiting_for.iter().map(ToString::to_string).collect();
            words.push(format!("recovering: waiting for {} · 恢复中，等待节点上报", nodes.join(", ")));
            words.push(
                "until then nothing is granted, paid out or newly registered; canteens and doors go on; fence a box \
                 that will not come back: yika-hub edge fence"
                    .to_owned(),
            );
        }
        words.push(match &self.last_backup {
            None => "no backup yet: yika-hub backup create · 尚无备份".to_owned(),
            Some(row) => {
                let hours = now_ms.saturating_sub(row.at_ms).max(0) / 3_600_000;
                format!("last backup {hours} h ago: {} ({} bytes) · 最近备份", row.file, row.bytes)
            }
        });
        words.extend(self.log.as_ref().map(|log| log.words(now_ms)));
        words
    }
}

impl Desk {
    /// How headquarters is.
    ///
    /// # Errors
    /// When the hub cannot read.
    pub async fn status(&self) -> Result<HubStatus, DeskError> {
        let recovering = self.node.ears().recovery.borrow().clone();
        Ok(HubStatus {
            name: self.node.name.clone(),
            life: self.node.writer().to_string(),
            recovering,
            connected: self.node.peers().len() as u64,
            last_backup: self.last_backup().await?,
            log: self.node.ears().log.borrow().clone(),
        })
    }

    /// The newest proved backup.
    ///
    /// # Errors
    /// When the hub cannot read.
    pub async fn last_backup(&self) -> Result<Option<BackupRow>, DeskError> {
        Ok(self.node.query(read::last_backup).await?)
    }

    /// Backups that failed since the start.
    pub fn failed_backups(&self) -> u64 {
        self.backups.as_ref().map_or(0, |backups| backups.failed.load(Ordering::Relaxed))
    }

    /// Makes a backup and proves it. Boxes hear that what it holds is archived. The oldest ones beyond the configured
    /// number go.
    ///
    /// # Errors
    /// In words: no space, a failing device, one under way; then nothing of it is left and nothing counts as archived.
    pub async fn create_backup(&self, actor: &Actor, dir: Option<PathBuf>) -> Result<BackupRow, DeskError> {
        let backups = self.of_headquarters(actor)?;
        let Some(_one) = backups.under_way.begin() else {
            return refused("a backup is under way; wait until it has ended");
        };
        let dir = dir.unwrap_or_else(|| backups.dir.clone());
        let node = &self.node;
        let source = Source { vault: Arc::clone(&node.vault), name: node.name.clone(), life: node.writer() };
        let (plan, to) = (Arc::clone(&backups), dir.clone());
        let made = off_thread(move || backup::make(&plan, &source, &to)).await;
        let made = made.inspect_err(|_| _ = backups.failed.fetch_add(1, Ordering::Relaxed))?;
        let detail = format!("{} bytes, {} entries", made.row.bytes, made.row.entries);
        let (object, command) = (made.row.file.clone(), Command::Archived(made.marks));
        let rows = vec![TableRow::Backup(made.row.clone())];
        self.act(actor, "backup.create", object, detail, command, rows).await?;
        let (keep, name) = (backups.keep, node.name.clone());
        if let Err(error) = off_thread(move || backup::forget_old(&dir, &name, keep)).await {
            // The new one is there all the same.
            tracing::warn!(%error, "old backups could not be removed");
        }
        Ok(made.row)
    }

    /// Checks a backup by putting it back into a scratch folder.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn verify_backup(&self, actor: &Actor, file: PathBuf) -> Result<Proved, DeskError> {
        let backups = self.of_headquarters(actor)?;
        let Some(_one) = backups.under_way.begin() else {
            return refused("a backup is under way; wait until it has ended");
        };
        let vault = Arc::clone(&self.node.vault);
        let plan = Arc::clone(&backups);
        Ok(off_thread(move || backup::prove(&file, &vault, &plan.data)).await?.0)
    }

    fn of_headquarters(&self, actor: &Actor) -> Result<Arc<Backups>, DeskError> {
        match &self.backups {
            _ if actor.campus.is_some() => refused("backups are for operators of headquarters"),
            Some(backups) => Ok(Arc::clone(backups)),
            None => refused("this hub was started without a place for backups"),
        }
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, DeskError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| DeskError::Refused(format!("{error:#}"))),
        Err(ended) => Err(DeskError::Busy(ended.to_string())),
    }
}

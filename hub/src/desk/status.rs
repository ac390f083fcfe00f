//! How headquarters is: everything is looked at in turn, and what cannot be read is a finding like any other.
//!
//! Leaves to others: judging and words (`findings`).

use super::{Desk, DeskError};
use crate::backup::Backups;
use crate::backup::log::LogState;
use crate::clock::wall_ms;
use crate::findings::{self, Finding, Verdict, said};
use crate::machine::Recovering;
use crate::store::{BackupRow, totals};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use yika_crdt::Fen;
use yika_ui::Lang;

/// Class of the accounts that hold rights of fenced boxes.
const SUSPENSE: &str = "suspense";

/// How headquarters is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HubStatus {
    /// Its name.
    pub name: String,
    /// The life it is in.
    pub life: String,
    /// Why nothing can be written, if so.
    #[serde(default)]
    pub refusing: Option<String>,
    /// It was restored and is not whole yet.
    pub recovering: Option<Recovering>,
    /// Boxes with an open connection.
    pub connected: u64,
    /// The newest proved backup.
    pub last_backup: Option<BackupRow>,
    /// How the log between two backups is; none where none is written.
    pub log: Option<LogState>,
    /// What was looked at, in the order of looking.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

impl HubStatus {
    /// How much was found wrong.
    pub fn wrong(&self) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == Verdict::Wrong).count()
    }

    /// In words, one line or two for each finding.
    pub fn words(&self, lang: Lang) -> Vec<String> {
        let head =
            said(lang, "status.head", &[("name", &self.name), ("life", &self.life), ("connected", &self.connected)]);
        let end = match self.wrong() {
            0 => said(lang, "status.well", &[]),
            count => said(lang, "status.wrong", &[("count", &count)]),
        };
        let each = self.findings.iter().map(|finding| finding.lines(lang));
        std::iter::once(head).chain(each).chain([end]).collect()
    }
}

impl Desk {
    /// How headquarters is.
    ///
    /// # Errors
    /// When the system gives no thread to look at disks.
    pub async fn status(&self) -> Result<HubStatus, DeskError> {
        let (node, now_ms) = (&self.node, wall_ms());
        let recovering = node.ears().recovery.borrow().clone();
        let log = node.ears().log.borrow().clone();
        let last = self.last_backup().await;
        let mut found = vec![findings::writer(&node.health())];
        found.extend(findings::recovery(recovering.as_ref()));
        if let Some(backups) = &self.backups {
            let (backups, log) = (backups.clone(), log.clone());
            found.extend(super::backup::off_thread(move || on_disk(&backups, log.as_ref(), now_ms)).await?);
        }
        found.push(match &last {
            Ok(last) => {
                let last = last.as_ref().map(|row| (row.at_ms, row.file.as_str()));
                findings::backup(
                    last,
                    self.backups.as_ref().map_or(0, |b| b.every_hours),
                    self.failed_backups(),
                    now_ms,
                )
            }
            Err(error) => findings::unread(error),
        });
        found.push(findings::certificate(node.certificate_days()));
        found.push(findings::clock(*node.ears().stamped_ms.borrow(), now_ms));
        found.extend(self.edges().await.map_or_else(|error| vec![findings::unread(&error)], |e| findings::boxes(&e)));
        found.push(
            self.quarantine().await.map_or_else(|e| findings::unread(&e), |rows| findings::quarantine(rows.len())),
        );
        found.extend(self.books_found().await.unwrap_or_else(|error| vec![findings::unread(&error)]));
        Ok(HubStatus {
            name: node.name.clone(),
            life: node.writer().to_string(),
            refusing: node.refusing().map(|why| why.sentence(Lang::En)),
            recovering,
            connected: node.peers().len() as u64,
            last_backup: last.unwrap_or_default(),
            log,
            findings: found,
        })
    }

    async fn books_found(&self) -> Result<Vec<Finding>, DeskError> {
        let classes = self.node.query(totals::classes).await?;
        let of = |class: &totals::AccountClass| class.credits.saturating_sub(class.debits);
        let sum = classes.iter().map(of).fold(0, i64::saturating_add);
        let suspense = classes.iter().filter(|class| class.class == SUSPENSE).map(of).fold(0, i64::saturating_add);
        Ok(findings::books(Fen(sum), Fen(suspense)))
    }
}

/// Disks, and the log that lies on one of them.
fn on_disk(backups: &Backups, log: Option<&LogState>, now_ms: i64) -> Vec<Finding> {
    let device = |folder: &Path| std::fs::metadata(folder).map(|metadata| metadata.dev());
    let own = device(&backups.data).ok();
    let elsewhere = |folder: &Path| device(folder).is_ok_and(|device| Some(device) != own);
    let mut found = vec![room(&backups.data)];
    if elsewhere(&backups.dir) {
        found.push(room(&backups.dir));
    }
    if let Some(log) = log {
        let same = device(&log.dir).is_ok_and(|device| Some(device) == own);
        found.extend(findings::log(log, same, now_ms));
    }
    found
}

fn room(folder: &Path) -> Finding {
    match rustix::fs::statvfs(folder) {
        Ok(disk) => {
            let of = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            findings::room(folder, of(disk.f_bavail), of(disk.f_blocks))
        }
        Err(error) => findings::unread(&format!("{}: {error}", folder.display())),
    }
}

//! Backups by the desk: made and proved, remembered, and told to the core so that boxes may prune.

use super::{Actor, Desk, DeskError, facts, refused};
use crate::backup::fault::Faulty;
use crate::backup::{self, Backups, Listed, NoRoom, Phase, Proved, Source};
use crate::core::Command;
use crate::refusal::{Cause, Refusal, Unsound};
use crate::store::{BackupRow, TableRow, read};
use crate::vault::Vault;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Backups that are looked up.
const BACKUPS_SHOWN_MAX: u32 = 200;

impl Desk {
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
        let Some(_one) = backups.under_way.begin() else { return refused(Refusal::BackupUnderWay {}) };
        let dir = dir.unwrap_or_else(|| backups.dir.clone());
        let node = &self.node;
        let source = Source { vault: Arc::clone(&node.vault), name: node.name.clone(), life: node.writer() };
        let (plan, to) = (Arc::clone(&backups), dir.clone());
        let made = off_thread(move || backup::make(&plan, &source, &to)).await?;
        backups.enter(None);
        let made = made.map_err(|error| {
            tracing::error!(error = format!("{error:#}"), "no backup was made");
            backups.failed.fetch_add(1, Ordering::Relaxed);
            not_made(&error)
        })?;
        let (bytes, entries) = (made.row.bytes.to_string(), made.row.entries.to_string());
        let detail = facts(&[("bytes", &bytes), ("entries", &entries)]);
        let (object, command) = (made.row.file.clone(), Command::Archived(made.marks));
        let rows = vec![TableRow::Backup(made.row.clone())];
        self.act(actor, "backup.create", object, detail, command, rows).await?;
        let (keep, name) = (backups.keep, node.name.clone());
        if let Err(error) = off_thread(move || backup::forget_old(&dir, &name, keep)).await? {
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
        let Some(_one) = backups.under_way.begin() else { return refused(Refusal::BackupUnderWay {}) };
        let vault = Arc::clone(&self.node.vault);
        let (plan, object) = (Arc::clone(&backups), file.display().to_string());
        let proved = off_thread(move || prove_backup(&file, &vault, &plan.data)).await?;
        let outcome = match &proved {
            Ok(_) => "sound",
            Err(Refusal::BackupUnsound { .. }) => "unsound",
            // Nothing was checked.
            Err(refusal) => return refused(refusal.clone()),
        };
        self.note(actor, "backup.verify", object, facts(&[("outcome", outcome)])).await?;
        Ok(proved?)
    }

    /// The backups that this hub knows of or that lie in its folder, newest first.
    ///
    /// # Errors
    /// The folder or the hub cannot be read.
    pub async fn backups(&self, actor: &Actor) -> Result<BackupsView, DeskError> {
        let plan = self.of_headquarters(actor)?;
        let remembered = self.node.query(|conn| read::backups(conn, BACKUPS_SHOWN_MAX)).await?;
        let dir = plan.dir.clone();
        let listed = off_thread(move || backup::list(&dir)).await?.map_err(|e| DeskError::Busy(format!("{e:#}")))?;
        Ok(BackupsView {
            dir: plan.dir.display().to_string(),
            keep: plan.keep,
            every_hours: plan.every_hours,
            failed: plan.failed.load(Ordering::Relaxed),
            phase: plan.phase(),
            files: join(remembered, listed, &self.node.name),
        })
    }

    /// A backup of the folder by its file name.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn backup_named(&self, actor: &Actor, name: &str) -> Result<PathBuf, DeskError> {
        let view = self.backups(actor).await?;
        let found = view.files.into_iter().find(|f| f.name() == name);
        found.map(|f| PathBuf::from(f.file)).ok_or_else(|| Refusal::UnknownBackup { file: name.to_owned() }.into())
    }

    fn of_headquarters(&self, actor: &Actor) -> Result<Arc<Backups>, DeskError> {
        match &self.backups {
            _ if actor.campus.is_some() => refused(Refusal::BackupsOfHeadquarters {}),
            Some(backups) => Ok(Arc::clone(backups)),
            None => refused(Refusal::NoBackupPlace {}),
        }
    }
}

/// Whether a file is there to be read as a backup.
///
/// # Errors
/// [`Refusal::BackupUnreadable`].
pub fn is_readable(file: &Path) -> Result<(), Refusal> {
    let metadata = std::fs::File::open(file).and_then(|file| file.metadata());
    let why = match metadata {
        Ok(metadata) if metadata.is_file() => return Ok(()),
        Ok(_) => Unsound::NoFile,
        Err(error) if error.kind() == ErrorKind::NotFound => Unsound::Missing,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Unsound::Forbidden,
        Err(error) => Unsound::Other(error.to_string()),
    };
    Err(Refusal::BackupUnreadable { file: file.display().to_string(), why })
}

/// Checks a backup by putting it back into a scratch folder under `data`.
///
/// # Errors
/// It is not there, there is no room to check it, or it is not sound.
pub fn prove_backup(file: &Path, vault: &Arc<Vault>, data: &Path) -> Result<Proved, Refusal> {
    is_readable(file)?;
    backup::prove(file, vault, data).map(|(proved, _)| proved).map_err(|error| {
        tracing::error!(file = %file.display(), error = format!("{error:#}"), "a backup does not pass its check");
        let unsound = || Refusal::BackupUnsound { file: file.display().to_string(), why: unsound(&error) };
        no_room(&error).unwrap_or_else(unsound)
    })
}

/// Backups and how they are made.
#[derive(Clone, Debug)]
pub struct BackupsView {
    /// Where they go.
    pub dir: String,
    /// How many stay there.
    pub keep: usize,
    /// How often one is made by itself, in hours; never when 0.
    pub every_hours: u32,
    /// How many have failed since the start.
    pub failed: u64,
    /// What is being done to the one that is being made.
    pub phase: Option<Phase>,
    /// Each of them.
    pub files: Vec<BackupFile>,
}

/// A backup as pages show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackupFile {
    /// Where it lies.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// When it was made; `None` when its head cannot be read.
    pub at_ms: Option<i64>,
    /// Made and proved by this hub: how long that took, and how many entries are in it.
    pub proved: Option<(i64, u64)>,
    /// It is of this hub.
    pub ours: bool,
}

impl BackupFile {
    /// Its name without the folder.
    pub fn name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or(&self.file)
    }
}

/// What is remembered and what lies in the folder, by file.
fn join(remembered: Vec<BackupRow>, listed: Vec<Listed>, hub: &str) -> Vec<BackupFile> {
    let mut files: Vec<BackupFile> = Vec::with_capacity(listed.len());
    for found in listed {
        let file = found.file.display().to_string();
        let row = remembered.iter().find(|row| row.file == file);
        files.push(BackupFile {
            at_ms: found.about.as_ref().ok().map(|about| about.2),
            ours: found.about.as_ref().is_ok_and(|about| about.0 == hub),
            proved: row.filter(|row| row.bytes == found.bytes).map(|row| (row.took_ms, row.entries)),
            bytes: found.bytes,
            file,
        });
    }
    // Those put elsewhere, as long as they are there; old ones of the folder went as configured.
    for row in remembered.into_iter().filter(|row| std::path::Path::new(&row.file).exists()) {
        if files.iter().all(|known| known.file != row.file) {
            let proved = Some((row.took_ms, row.entries));
            let (at_ms, ours) = (Some(row.at_ms), true);
            files.push(BackupFile { file: row.file, bytes: row.bytes, at_ms, proved, ours });
        }
    }
    files.sort_by_key(|file| std::cmp::Reverse(file.at_ms));
    files
}

fn unsound(error: &anyhow::Error) -> Unsound {
    let faulty = error.downcast_ref::<Faulty>().map(|faulty| Unsound::Faulty(faulty.fault.clone()));
    faulty.unwrap_or_else(|| Unsound::Other(format!("{error:#}")))
}

fn cause(error: &anyhow::Error) -> Cause {
    Cause(format!("{error:#}"))
}

fn no_room(error: &anyhow::Error) -> Option<Refusal> {
    let NoRoom { folder, free_bytes, wanted_bytes } = error.downcast_ref()?;
    Some(Refusal::NoRoom { folder: folder.clone(), free_bytes: *free_bytes, wanted_bytes: *wanted_bytes })
}

fn not_made(error: &anyhow::Error) -> Refusal {
    no_room(error).unwrap_or_else(|| Refusal::BackupFailed { cause: cause(error) })
}

pub(super) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DeskError> {
    tokio::task::spawn_blocking(work).await.map_err(|ended| DeskError::Busy(ended.to_string()))
}

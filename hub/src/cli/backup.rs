//! `yika-hub backup …`: asks the running hub, or works on the folder of one that does not run.

use super::words::{Facts, Voice, table};
use super::{Line, Usage};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use yika_hub::app;
use yika_hub::backup::{self, Listed, LogFrom, Proved, Restored};
use yika_hub::config::Config;
use yika_hub::control;
use yika_hub::desk::{self, DeskError};
use yika_hub::store::BackupRow;
use yika_hub::vault::{self, Vault};

#[derive(Subcommand)]
pub(super) enum Backup {
    /// Make one and prove it by putting it back into a scratch folder. The master key is never inside: keep it elsewhere.
    Create {
        /// Folder; the configured one when absent.
        #[arg(long)]
        to: Option<PathBuf>,
    },
    /// Check one: restored into a scratch folder, database and books added up again.
    Verify {
        /// The file.
        file: PathBuf,
    },
    /// Put a hub back into a new data folder (--data) with the log that followed, marked as restored. Needs its master key.
    Restore(Restore),
    /// Those of a folder, newest first.
    List {
        /// Folder; the configured one when absent.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(super) struct Restore {
    /// The file.
    file: PathBuf,
    /// The master key, when it does not lie in the new folder as master.key or come as a credential.
    #[arg(long)]
    master_key: Option<PathBuf>,
    /// Also when a newer backup lies in the same folder.
    #[arg(long)]
    older: bool,
    /// Folder of the log; the backup's own, or the configured one, when absent.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Where the log is damaged, go on without what follows: what was done since is lost.
    #[arg(long)]
    accept_loss: bool,
}

pub(super) async fn run(config: &Config, files: &[PathBuf], hub: &Line, command: Backup) -> Result<ExitCode> {
    match command {
        Backup::Create { to } => create(config, hub, to).await?,
        Backup::Verify { file } => verify(config, hub, file).await?,
        Backup::Restore(wish) => restore(config, files, hub.voice, wish)?,
        Backup::List { dir } => list(hub.voice, &dir.unwrap_or_else(|| config.backup_dir()))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(config: &Config, hub: &Line, to: Option<PathBuf>) -> Result<()> {
    // The running hub works in another folder than this command.
    let to = to.map(std::path::absolute).transpose()?;
    let made: BackupRow = match control::is_running(&hub.socket).await {
        true => hub.post("/v1/backup", &to).await?,
        false => app::back_up_at_rest(config, to).await?,
    };
    let facts: Facts<'_> = &[("file", &made.file), ("bytes", &made.bytes), ("entries", &made.entries)];
    hub.voice.give(&made, "backup.made", facts)
}

async fn verify(config: &Config, hub: &Line, file: PathBuf) -> Result<()> {
    let file = std::path::absolute(file)?;
    let proved: Proved = match control::is_running(&hub.socket).await {
        true => hub.post("/v1/backup/verify", &file).await?,
        false => {
            let vault = Arc::new(Vault::open(&config.data)?);
            let proved = tokio::task::block_in_place(|| desk::prove_backup(&file, &vault, &config.data));
            proved.map_err(DeskError::from)?
        }
    };
    let facts: Facts<'_> = &[("file", &file.display()), ("entries", &proved.entries)];
    hub.voice.give(&proved, "backup.sound", facts)
}

fn list(voice: Voice, dir: &Path) -> Result<()> {
    let listed = backup::list(dir)?;
    let rows = listed.iter().map(|Listed { file, bytes, about }| match about {
        Ok((hub, life, created_ms)) => {
            json!({ "file": file, "bytes": bytes, "hub": hub, "life": life, "created_ms": created_ms })
        }
        Err(problem) => json!({ "file": file, "bytes": bytes, "problem": problem }),
    });
    if voice.json {
        return voice.answer(&json!({ "backups": rows.collect::<Vec<_>>() }));
    }
    if listed.is_empty() {
        return voice.tell("backups.none", &[("dir", &dir.display())]);
    }
    let word = |key: &str| voice.words(key, &[]);
    let mut lines = vec![["backups.made", "backups.hub", "backups.bytes", "backups.file"].map(word).to_vec()];
    for Listed { file, bytes, about } in &listed {
        let (made, hub) = match about {
            Ok((hub, _, created_ms)) => (backup::words_of(*created_ms)?, hub.clone()),
            Err(_) => ("–".to_owned(), word("backups.unreadable")),
        };
        lines.push(vec![made, hub, bytes.to_string(), file.display().to_string()]);
    }
    super::words::say(&table(&lines))
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where a log lies, if one does: beside the backup, or where the configuration says.
fn log_folder(config: &Config, file: &Path) -> Option<PathBuf> {
    [folder_of(file).to_owned(), config.log_dir()].into_iter().find(|dir| backup::log::replay::holds_a_log(dir))
}

fn restore(config: &Config, files: &[PathBuf], voice: Voice, wish: Restore) -> Result<()> {
    let Restore { file, master_key, older, log, accept_loss } = wish;
    let log = log.or_else(|| log_folder(config, &file)).map(|dir| LogFrom { dir, accept_loss });
    let data = &config.data;
    desk::is_readable(&file).map_err(DeskError::from)?;
    let head = backup::file::head(&file)?;
    let newer = backup::list(folder_of(&file))?.into_iter().find(|listed| {
        listed.about.as_ref().is_ok_and(|(name, _, created_ms)| *name == head.name && *created_ms > head.created_ms)
    });
    if let Some(newer) = newer.filter(|_| !older) {
        return Err(Usage(voice.words("restore.newer", &[("file", &newer.file.display())])).into());
    }
    std::fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
    let _lock = yika_hub::lock::lock(data)?;
    let is_placed = master_key.map_or(Ok(false), |key| backup::place_master_key(&key, data))?;
    let restored = put_together(&file, data, log.as_ref()).inspect_err(|_| {
        // The wrong key must not stand in the way of the right one.
        if is_placed {
            let _ = std::fs::remove_file(data.join(vault::MASTER));
        }
    })?;
    let program = program(files, data);
    if voice.json {
        return voice.answer(&json!({
            "name": head.name, "data": data, "life": restored.life.to_string(), "created_ms": head.created_ms,
            "log": log.map(|log| log.dir), "replayed": restored.replayed, "next": format!("{program} serve"),
        }));
    }
    tell_restored(voice, config, &restored, (&head.name, &backup::words_of(head.created_ms)?))?;
    match &log {
        Some(log) => tell_replayed(voice, &log.dir, &restored)?,
        None => voice.tell("restore.no_log", &[("folder", &folder_of(&file).display())])?,
    }
    voice.tell("restore.boxes", &[])?;
    voice.tell("restore.configuration", &[("file", &data.join(backup::CONFIGURATION).display())])?;
    voice.tell("restore.next", &[("program", &program)])
}

fn put_together(file: &Path, data: &Path, log: Option<&LogFrom>) -> Result<Restored> {
    let needed = "restoring needs the master key, which is in no backup: name the copy that you keep with --master-key";
    let vault = Arc::new(Vault::open(data).context(needed)?);
    tokio::task::block_in_place(|| backup::restore(file, data, &vault, log))
}

/// This program as it must be called for the restored hub.
fn program(files: &[PathBuf], data: &Path) -> String {
    let mut program = "yika-hub".to_owned();
    for file in files {
        program = format!("{program} --config {}", desk::quoted(&file.display().to_string()));
    }
    format!("{program} --data {}", desk::quoted(&data.display().to_string()))
}

fn tell_restored(voice: Voice, config: &Config, restored: &Restored, (name, made): (&str, &str)) -> Result<()> {
    let folder = config.data.display();
    voice.tell("restore.done", &[("name", &name), ("folder", &folder), ("life", &restored.life), ("made", &made)])
}

fn tell_replayed(voice: Voice, dir: &Path, restored: &Restored) -> Result<()> {
    let replayed = &restored.replayed;
    match replayed.upto_ms {
        Some(upto_ms) => {
            let upto = backup::words_of(upto_ms)?;
            let facts: Facts<'_> = &[("turns", &replayed.turns), ("upto", &upto), ("tally", &replayed.tally)];
            voice.tell("restore.replayed", facts)?;
        }
        None => voice.tell("restore.log_empty", &[("folder", &dir.display())])?,
    }
    if replayed.torn_bytes > 0 {
        voice.tell("restore.torn", &[("bytes", &replayed.torn_bytes)])?;
    }
    if let Some(why) = &replayed.stopped {
        voice.tell("restore.stopped", &[("why", why)])?;
    }
    Ok(())
}

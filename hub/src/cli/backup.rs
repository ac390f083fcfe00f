//! `yika-hub backup …`: asks the running hub, or works on the folder of one that does not run.

use super::Line;
use super::words::{Facts, say};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use yika_hub::app;
use yika_hub::backup::log::replay::Replayed;
use yika_hub::backup::{self, LogFrom, Proved};
use yika_hub::config::Config;
use yika_hub::control;
use yika_hub::store::BackupRow;
use yika_hub::vault::Vault;

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
    Restore {
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
    },
    /// Those of a folder, newest first.
    List {
        /// Folder; the configured one when absent.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

pub(super) async fn run(config: &Config, hub: &Line, command: Backup) -> Result<ExitCode> {
    let socket = &hub.socket;
    match command {
        Backup::Create { to } => {
            // The running hub works in another folder than this command.
            let to = to.map(std::path::absolute).transpose()?;
            let made: BackupRow = match control::is_running(socket).await {
                true => control::ask(socket, "POST", "/v1/backup", serde_json::to_vec(&to)?).await?,
                false => app::back_up_at_rest(config, to).await?,
            };
            let facts: Facts<'_> = &[("file", &made.file), ("bytes", &made.bytes), ("entries", &made.entries)];
            hub.voice.give(&made, "backup.made", facts)?;
        }
        Backup::Verify { file } => {
            let file = std::path::absolute(file)?;
            let proved: Proved = match control::is_running(socket).await {
                true => control::ask(socket, "POST", "/v1/backup/verify", serde_json::to_vec(&file)?).await?,
                false => {
                    let vault = Arc::new(Vault::open(&config.data)?);
                    tokio::task::block_in_place(|| backup::prove(&file, &vault, &config.data))?.0
                }
            };
            let facts: Facts<'_> = &[("file", &file.display()), ("entries", &proved.entries)];
            hub.voice.give(&proved, "backup.sound", facts)?;
        }
        Backup::Restore { file, master_key, older, log, accept_loss } => {
            let log = log.or_else(|| log_folder(config, &file));
            let log = log.map(|dir| LogFrom { dir, accept_loss });
            restore(config, &file, master_key.as_deref(), older, log.as_ref())?;
        }
        Backup::List { dir } => {
            for listed in backup::list(&dir.unwrap_or_else(|| config.backup_dir()))? {
                say(&serde_json::to_string(&listed)?)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where a log lies, if one does: beside the backup, or where the configuration says.
fn log_folder(config: &Config, file: &Path) -> Option<PathBuf> {
    [folder_of(file).to_owned(), config.log_dir()].into_iter().find(|dir| backup::log::replay::holds_a_log(dir))
}

fn restore(config: &Config, file: &Path, master_key: Option<&Path>, older: bool, log: Option<&LogFrom>) -> Result<()> {
    let data = &config.data;
    let head = backup::file::head(file)?;
    let newer = backup::list(folder_of(file))?.into_iter().find(|listed| {
        listed.about.as_ref().is_ok_and(|(name, _, created_ms)| *name == head.name && *created_ms > head.created_ms)
    });
    if let Some(newer) = newer.filter(|_| !older) {
        bail!(
            "{} is newer; boxes may have forgotten what only that one holds. Restore that one, or say --older",
            newer.file.display()
        );
    }
    std::fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
    let _lock = yika_hub::lock::lock(data)?;
    if let Some(key) = master_key {
        backup::place_master_key(key, data)?;
    }
    let vault = Arc::new(Vault::open(data).context("restoring needs the master key, which is in no backup")?);
    let restored = tokio::task::block_in_place(|| backup::restore(file, data, &vault, log))?;
    say(&format!("restored {:?} into {} as life {}", head.name, data.display(), restored.life))?;
    let made = backup::words_of(head.created_ms)?;
    match log {
        Some(log) => tell_replayed(&made, &log.dir, &restored.replayed)?,
        None => tell_no_log(&made, folder_of(file))?,
    }
    say("sales, grants, blocks and fences of the last moment come back from the boxes")?;
    say(&format!("the configuration of that time: {}", data.join(backup::CONFIGURATION).display()))?;
    say("start it with yika-hub serve and watch yika-hub status: it grants and pays out when every box has reported")
}

fn tell_replayed(made: &str, dir: &Path, replayed: &Replayed) -> Result<()> {
    let turns = replayed.turns;
    match replayed.upto_ms {
        Some(upto_ms) => {
            let upto = backup::words_of(upto_ms)?;
            say(&format!("backup of {made}; replayed {turns} turns of the log up to {upto} (日志重放至此)"))?;
            say(&format!("in them: {}", replayed.tally))?;
        }
        None => say(&format!("backup of {made}; the log in {} has nothing after it", dir.display()))?,
    }
    if replayed.torn_bytes > 0 {
        say(&format!("the log ends with {} bytes of a record that was being written", replayed.torn_bytes))?;
    }
    if let Some(why) = &replayed.stopped {
        say(&format!("the log was not read further, as accepted: {why}"))?;
        say("what was paid in, paid out, given back or entered after that is lost: enter it again from its vouchers")?;
    }
    Ok(())
}

fn tell_no_log(made: &str, folder: &Path) -> Result<()> {
    say(&format!(
        "no log lies in {}: top-ups, withdrawals, refunds by headquarters, imports, operators and settings made since \
         {made} are not in it (备份之后的充值、提现未恢复)",
        folder.display()
    ))?;
    say("if the log lies elsewhere, restore again with --log; else enter them again after the recovery")
}

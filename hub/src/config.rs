//! The hub's configuration: built-in values, files, the environment, in that order; unknown keys are errors.
//!
//! Leaves to others: command-line flags (`main`).

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Environment variables `YIKA__SECTION__KEY` set one value each.
const ENVIRONMENT: &str = "YIKA__";

/// Most backups kept in a folder.
pub const BACKUPS_KEPT_MAX: usize = 1_000;
/// Longest time between two.
pub const BACKUP_HOURS_MAX: u32 = 7 * 24;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Data folder.
    pub data: PathBuf,
    /// Towards edge boxes.
    pub link: LinkSection,
    /// Console and API.
    pub http: HttpSection,
    /// Backups.
    pub backup: BackupSection,
    /// Logging.
    pub log: LogSection,
    /// For one start, said on the command line: the machine's clock is right, however long headquarters was off.
    #[serde(skip)]
    pub clock_is_right: bool,
}

/// Backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupSection {
    /// Where they go; `backups` in the data folder when empty.
    pub dir: PathBuf,
    /// Where the log between two backups goes; with the backups when empty.
    pub log_dir: PathBuf,
    /// Hours between two backups; 0 makes none by itself.
    pub every_hours: u32,
    /// How many stay in the folder.
    pub keep: usize,
}

/// Towards edge boxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkSection {
    /// UDP address to listen on.
    pub bind: SocketAddr,
    /// `host:port` that boxes are told to dial; the bind address when empty.
    pub advertised: String,
}

/// Console and API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSection {
    /// TCP address to listen on; TLS ends in front of it.
    pub bind: SocketAddr,
    /// Browsers reach it by `https`: cookies carry `Secure`.
    pub tls: bool,
    /// TCP address of `/metrics`; none when absent.
    pub metrics: Option<SocketAddr>,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    /// Filter, as in `info,yika_hub=debug`.
    pub filter: String,
    /// One JSON object a line, for the journal.
    pub json: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data: PathBuf::from("/var/lib/yika-hub"),
            link: LinkSection::default(),
            http: HttpSection::default(),
            backup: BackupSection::default(),
            log: LogSection::default(),
            clock_is_right: false,
        }
    }
}

impl Default for BackupSection {
    fn default() -> Self {
        BackupSection { dir: PathBuf::new(), log_dir: PathBuf::new(), every_hours: 24, keep: 14 }
    }
}

impl Default for LinkSection {
    fn default() -> Self {
        LinkSection { bind: SocketAddr::from(([0, 0, 0, 0], 7443)), advertised: String::new() }
    }
}

impl Default for HttpSection {
    fn default() -> Self {
        HttpSection { bind: SocketAddr::from(([127, 0, 0, 1], 8080)), tls: false, metrics: None }
    }
}

impl Default for LogSection {
    fn default() -> Self {
        LogSection { filter: "info".into(), json: false }
    }
}

impl Config {
    /// Reads the files in order (each named one must exist), then the environment.
    ///
    /// # Errors
    /// Which file or variable is wrong, and how.
    pub fn load(files: &[PathBuf], environment: impl Iterator<Item = (String, String)>) -> Result<Config> {
        let mut table = toml::Table::new();
        for file in files {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the configuration {}", file.display()))?;
            let more: toml::Table = toml::from_str(&text).with_context(|| format!("{} is not TOML", file.display()))?;
            // Each file by itself, so that a wrong key is reported with its file.
            Config::deserialize(more.clone()).with_context(|| format!("in {}", file.display()))?;
            merge(&mut table, more);
        }
        for (name, value) in environment {
            if let Some(path) = name.strip_prefix(ENVIRONMENT) {
                set(&mut table, &path.to_lowercase(), &value).with_context(|| format!("in the variable {name}"))?;
            }
        }
        let config = Config::deserialize(table).context("in the environment (YIKA__SECTION__KEY)")?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<()> {
        if self.data.as_os_str().is_empty() {
            bail!("data: the data folder must be named");
        }
        if self.http.metrics == Some(self.http.bind) {
            bail!("http.metrics: choose another port than http.bind");
        }
        if !(1..=BACKUPS_KEPT_MAX).contains(&self.backup.keep) {
            bail!("backup.keep: 1 to {BACKUPS_KEPT_MAX}; edge boxes forget what only a backup still holds");
        }
        if self.backup.every_hours > BACKUP_HOURS_MAX {
            bail!("backup.every_hours: at most {BACKUP_HOURS_MAX} (a week), or 0 for none");
        }
        Ok(())
    }

    /// Where backups go.
    pub fn backup_dir(&self) -> PathBuf {
        match self.backup.dir.as_os_str().is_empty() {
            true => self.data.join("backups"),
            false => self.backup.dir.clone(),
        }
    }

    /// Where the log between two backups goes.
    pub fn log_dir(&self) -> PathBuf {
        match self.backup.log_dir.as_os_str().is_empty() {
            true => self.backup_dir(),
            false => self.backup.log_dir.clone(),
        }
    }

    /// What boxes are told to dial, given the port that was bound.
    pub fn advertised(&self, bound: SocketAddr) -> String {
        match self.link.advertised.is_empty() {
            true => bound.to_string(),
            false => self.link.advertised.clone(),
        }
    }

    /// The control socket.
    pub fn socket(data: &Path) -> PathBuf {
        data.join("control.sock")
    }
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => _ = into.insert(key, value),
        }
    }
}

/// Sets `section__key`; the value is TOML if it reads as such, else text.
fn set(table: &mut toml::Table, path: &str, value: &str) -> Result<()> {
    let Some((section, rest)) = path.split_once("__") else {
        let read = toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
        table.insert(path.to_owned(), read.unwrap_or_else(|| toml::Value::String(value.to_owned())));
        return Ok(());
    };
    let entry = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    match entry {
        toml::Value::Table(inner) => set(inner, rest, value),
        _ => bail!("{section} is not a section"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hub.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(&[file], environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn files_give_way_to_the_environment_and_unknown_keys_are_errors() {
        let config = load("data = \"/tmp/x\"\n[http]\nbind = \"127.0.0.1:1\"", &[("YIKA__HTTP__BIND", "127.0.0.1:2")]);
        assert_eq!(config.unwrap().http.bind.port(), 2);
        let wrong = load("[http]\nbnd = 1", &[]).unwrap_err();
        assert!(format!("{wrong:#}").contains("hub.toml") && format!("{wrong:#}").contains("bnd"), "{wrong:#}");
        assert!(load("", &[("YIKA__HTTP__BND", "1")]).is_err());
        assert!(load("[http]\nbind = 7", &[]).is_err());
        assert!(Config::load(&["/nonexistent/hub.toml".into()], std::iter::empty()).is_err());
    }
}

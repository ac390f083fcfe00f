//! The edge's configuration: built-in values, TOML files, the environment, flags; the later wins.
//!
//! Every layer is checked by itself, so that an error names the file or variable it stands in; where each value came
//! from is kept for `config show --origin`. Leaves to others: what doors' settings mean (`doors`).

use crate::console::ConsoleConfig;
use crate::doors::DoorsConfig;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Read when no `--config` is given and it exists; beside it, the files of `edge.d`.
pub const FILE: &str = "/etc/yika/edge.toml";
/// What variables of the environment begin with: `YIKA__LINK__BIND` is `link.bind`.
pub const ENV_PREFIX: &str = "YIKA__";
/// Longest configuration file; a longer one is not ours.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most files beside the main one.
pub const FILES_MAX: usize = 64;

/// Everything that can be set.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Data folder: key, certificate and database.
    pub data: PathBuf,
    /// The mesh port.
    pub link: LinkSection,
    /// Terminals, pages, metrics.
    pub http: Http,
    /// How siblings and terminals find this box.
    pub discovery: Discovery,
    /// The program's log.
    pub log: Log,
    /// Door hardware.
    pub doors: DoorsConfig,
    /// The box's own pages, and the readers at its web tills.
    pub console: ConsoleConfig,
}

/// `[link]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkSection {
    /// UDP address of the mesh; port 0 for any.
    pub bind: SocketAddr,
    /// `host:port` where other boxes reach that port; when empty, the address this box
    /// has towards headquarters.
    pub advertised: String,
}

/// `[http]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// TCP address of terminals and pages.
    pub bind: SocketAddr,
    /// TCP address of `/metrics`, not for the public; none when absent.
    pub metrics: Option<SocketAddr>,
}

/// `[discovery]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Discovery {
    /// Publish and browse by mDNS.
    pub mdns: bool,
    /// On these interfaces only; all when empty. Loopback must be named.
    pub interfaces: Vec<String>,
}

/// `[log]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,yika_link=debug`.
    pub filter: String,
    /// One JSON object a line; when absent, so it is under systemd.
    pub json: Option<bool>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data: PathBuf::from("/var/lib/yika-edge"),
            link: LinkSection::default(),
            http: Http::default(),
            discovery: Discovery::default(),
            log: Log::default(),
            doors: DoorsConfig::default(),
            console: ConsoleConfig::default(),
        }
    }
}

impl Default for LinkSection {
    fn default() -> Self {
        LinkSection { bind: SocketAddr::from(([0, 0, 0, 0], 7443)), advertised: String::new() }
    }
}

impl Default for Http {
    fn default() -> Self {
        Http { bind: SocketAddr::from(([0, 0, 0, 0], 8080)), metrics: None }
    }
}

impl Default for Discovery {
    fn default() -> Self {
        Discovery { mdns: true, interfaces: Vec::new() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { filter: "info".into(), json: None }
    }
}

/// Where layers come from: the command line and the environment, given by the caller.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`, in order; a file that is not there is an error.
    pub files: Vec<PathBuf>,
    /// The environment.
    pub env: Vec<(OsString, OsString)>,
    /// Settings by flags: dotted key and value.
    pub flags: Vec<(&'static str, Value)>,
}

/// A configuration with the origin of each value.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    origins: BTreeMap<String, String>,
    values: BTreeMap<String, Value>,
}

impl Loaded {
    /// One line per value, `key = value`, with where it came from if asked.
    pub fn show(&self, origin: bool) -> String {
        let mut lines = String::new();
        for (key, value) in &self.values {
            let from = self.origins.get(key).map_or("built-in", String::as_str);
            let note = if origin { format!("  # {from}") } else { String::new() };
            lines.push_str(&format!("{key} = {value}{note}\n"));
        }
        lines
    }
}

/// Reads all layers and checks them.
///
/// # Errors
/// In words that name the file, variable or flag, and the key.
pub fn load(sources: &Sources) -> Result<Loaded> {
    let mut merged = Table::try_from(Config::default()).context("built-in configuration")?;
    let mut origins = BTreeMap::new();
    for (layer, origin) in layers(sources)? {
        check(&layer, &origin)?;
        note(&layer, "", &origin, &mut origins);
        merge(&mut merged, layer);
    }
    let mut values = BTreeMap::new();
    leaves(&merged, "", &mut |key, value| _ = values.insert(key, value.clone()));
    let config: Config = merged.try_into().context("the layers do not fit together")?;
    validate(&config)?;
    Ok(Loaded { config, origins, values })
}

/// What types cannot say.
fn validate(config: &Config) -> Result<()> {
    if config.data.as_os_str().is_empty() {
        bail!("data is empty: name the folder that the box keeps its data in");
    }
    let advertised = &config.link.advertised;
    if !advertised.is_empty() && !is_host_port(advertised) {
        bail!("link.advertised = {advertised:?}: expected host:port, such as 10.3.0.11:7443");
    }
    if config.http.metrics.is_some_and(|metrics| metrics.port() != 0 && metrics == config.http.bind) {
        bail!("http.metrics is http.bind: metrics need a port of their own");
    }
    config.doors.validate()?;
    if let Err(error) = config.log.filter.parse::<tracing_subscriber::EnvFilter>() {
        bail!("log.filter = {:?}: {error}; use error, warn, info, debug or trace", config.log.filter);
    }
    config.doors.validate()?;
    config.console.validate()
}

fn is_host_port(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    let good = parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0));
    good && text.len() <= ADVERTISED_BYTES_MAX && !text.contains(char::is_whitespace)
}

/// Longest `link.advertised`.
pub const ADVERTISED_BYTES_MAX: usize = yika_crdt::sync::ADDRESS_BYTES_MAX;

/// Every layer above the built-in one, weakest first.
fn layers(sources: &Sources) -> Result<Vec<(Table, String)>> {
    let mut layers = Vec::new();
    let mains = match sources.files.as_slice() {
        [] if Path::new(FILE).exists() => vec![PathBuf::from(FILE)],
        files => files.to_vec(),
    };
    for main in &mains {
        layers.push((file(main)?, main.display().to_string()));
        for beside in beside(main)? {
            layers.push((file(&beside)?, beside.display().to_string()));
        }
    }
    for (name, value) in &sources.env {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
        if let Some(key) = name.strip_prefix(ENV_PREFIX) {
            let path: Vec<String> = key.split("__").map(str::to_lowercase).collect();
            layers.push((nested(&path, literal(value)), format!("environment {name}")));
        }
    }
    for (key, value) in &sources.flags {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        layers.push((nested(&path, value.clone()), format!("flag for {key}")));
    }
    Ok(layers)
}

fn file(path: &Path) -> Result<Table> {
    let meta = std::fs::metadata(path).with_context(|| format!("cannot read configuration {}", path.display()))?;
    if meta.len() > FILE_BYTES_MAX {
        bail!("{} has {} bytes; a configuration has at most {FILE_BYTES_MAX}", path.display(), meta.len());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("{} is not TOML", path.display()))
}

/// `edge.d/*.toml` beside `edge.toml`, in the order of their names.
fn beside(main: &Path) -> Result<Vec<PathBuf>> {
    let folder = main.with_extension("d");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", folder.display())),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
    }
    if files.len() > FILES_MAX {
        bail!("{} holds {} files; at most {FILES_MAX} are read", folder.display(), files.len());
    }
    files.sort();
    Ok(files)
}

/// A layer by itself must be a part of a configuration.
fn check(layer: &Table, origin: &str) -> Result<()> {
    layer
        .clone()
        .try_into::<Config>()
        .map(|_| ())
        .with_context(|| format!("in {origin} (`yika-edge config show` lists all keys)"))
}

/// A value as TOML reads it, else a text: `true`, `3`, `["a"]`, and `0.0.0.0:80` alike.
fn literal(text: &str) -> Value {
    let parsed = format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    match parsed {
        // A time or date is nowhere asked for; `host:port` forms must stay texts.
        Some(value) if !value.is_datetime() => value,
        _ => Value::String(text.to_owned()),
    }
}

fn nested(path: &[String], value: Value) -> Table {
    let mut table = Table::new();
    match path {
        [] => {}
        [last] => _ = table.insert(last.clone(), value),
        [first, rest @ ..] => _ = table.insert(first.clone(), Value::Table(nested(rest, value))),
    }
    table
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => _ = into.insert(key, value),
        }
    }
}

fn note(layer: &Table, prefix: &str, origin: &str, origins: &mut BTreeMap<String, String>) {
    leaves(layer, prefix, &mut |key, _| _ = origins.insert(key, origin.to_owned()));
}

fn leaves(table: &Table, prefix: &str, take: &mut impl FnMut(String, &Value)) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) if !inner.is_empty() => leaves(inner, &path, take),
            value => take(path, value),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;

    fn with_file(text: &str) -> (tempfile::TempDir, Sources) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.toml");
        std::fs::write(&path, text).unwrap();
        (dir, Sources { files: vec![path], ..Sources::default() })
    }

    fn env(name: &str, value: &str) -> (OsString, OsString) {
        (name.into(), value.into())
    }

    #[test]
    fn later_layers_win_and_their_origin_is_told() {
        let (dir, mut sources) = with_file("[http]\nbind = \"127.0.0.1:81\"\n[log]\nfilter = \"warn\"\n");
        std::fs::create_dir(dir.path().join("edge.d")).unwrap();
        std::fs::write(dir.path().join("edge.d/10-site.toml"), "[log]\nfilter = \"debug\"\n").unwrap();
        std::fs::write(dir.path().join("edge.d/ignored.bak"), "nonsense").unwrap();
        sources.env = vec![env("YIKA__HTTP__BIND", "127.0.0.1:82"), env("YIKA__DISCOVERY__MDNS", "false")];
        sources.flags = vec![("http.bind", Value::String("127.0.0.1:83".into()))];
        let loaded = load(&sources).unwrap();
        assert_eq!(loaded.config.http.bind.port(), 83);
        assert_eq!(loaded.config.log.filter, "debug");
        assert!(!loaded.config.discovery.mdns);
        let shown = loaded.show(true);
        assert!(shown.contains("http.bind = \"127.0.0.1:83\"  # flag for http.bind"), "{shown}");
        assert!(shown.contains("10-site.toml") && shown.contains("# environment YIKA__DISCOVERY__MDNS"), "{shown}");
        assert!(shown.contains("link.bind = \"0.0.0.0:7443\"  # built-in"), "{shown}");
    }

    #[test]
    fn what_is_unknown_is_refused_with_its_place() {
        let (_dir, sources) = with_file("[http]\nbnd = \"127.0.0.1:81\"\n");
        let error = format!("{:#}", load(&sources).unwrap_err());
        assert!(error.contains("edge.toml") && error.contains("bnd"), "{error}");
        let sources = Sources { env: vec![env("YIKA__HTP__BIND", "1")], ..Sources::default() };
        let error = format!("{:#}", load(&sources).unwrap_err());
        assert!(error.contains("YIKA__HTP__BIND") && error.contains("htp"), "{error}");
        let sources = Sources { files: vec!["/nonexistent/edge.toml".into()], ..Sources::default() };
        assert!(format!("{:#}", load(&sources).unwrap_err()).contains("/nonexistent/edge.toml"));
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        for text in [
            "data = \"\"",
            "[link]\nadvertised = \"box\"",
            "[link]\nadvertised = \":7\"",
            "[http]\nbind = \"127.0.0.1:94\"\nmetrics = \"127.0.0.1:94\"",
            "[log]\nfilter = \"yika=loud\"",
            "[http]\nbind = \"localhost\"",
            "not toml",
        ] {
            let (_dir, sources) = with_file(text);
            assert!(load(&sources).is_err(), "{text}");
        }
    }
}

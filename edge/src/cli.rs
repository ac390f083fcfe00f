//! The command line: what can be asked of the program, and what each command does.
//!
//! Leaves to others: the running box (`app`), what is wrong with it (`doctor`), its state in words (`status`).

mod failure;

pub use failure::parsed;

use crate::config::{self, Loaded, Sources};
use crate::exit::{Ends, Exit};
use crate::identity::{self, Identity, not_joined};
use crate::node::SOFTWARE;
use crate::{app, control, doctor, logging, snapshot, status, voice};
use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::Value;
use yika_link::{JOIN_PREFIX, JoinString, NAME_CHARS_MAX, is_name};
use yika_ui::Lang;
use yika_ui::terminal::{self, tongue};

/// Worker threads of the runtime: connections block for a moment while they read, so a few more than cores.
const WORKERS: usize = 4;

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 a check found problems, 4 refused for safety.
First steps: `yika-hub edge token create --campus …` at headquarters prints a line;
             `yika-edge init --join 'LINE'` here; `systemctl enable --now yika-edge`; `yika-edge status`.";

/// The edge box of a Yika campus: tills, doors and pages that go on while the line to headquarters is cut.
#[derive(Parser, Debug)]
#[command(name = "yika-edge", version, after_help = AFTER_HELP, propagate_version = true)]
pub struct Arguments {
    /// Configuration file instead of /etc/yika/edge.toml; may be given again.
    #[arg(long, global = true, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Data folder instead of the configured one.
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// zh or en; as LC_ALL, LC_MESSAGES or LANG say when absent (语言).
    #[arg(long, global = true, value_parser = terminal::lang)]
    lang: Option<Lang>,
    /// Answers with one JSON object, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Enrol this box with the line that headquarters printed.
    Init(Init),
    /// Run the box until SIGTERM or Ctrl-C.
    Serve(Serve),
    /// How the box is: in words, also when it is down.
    Status,
    /// What is wrong with the box and how to mend it; ends with 3 if something is.
    Doctor,
    /// The configuration in force.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Name and version.
    Version,
    /// Take in what headquarters has put on a stick (快照).
    Snapshot {
        #[command(subcommand)]
        what: SnapshotCommand,
    },
    /// Give up the membership: the key is destroyed, the data set aside.
    Leave(Leave),
}

#[derive(Args, Debug)]
struct Init {
    /// The whole line, `yika-join:…`; `-` reads it from standard input, where it stays out of the shell's history.
    #[arg(long, value_name = "LINE")]
    join: String,
    /// Name of the box as shown at headquarters; that of the line if absent, or the host's.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args, Debug)]
struct Serve {
    /// Check configuration and identity, then end.
    #[arg(long)]
    check_config: bool,
    /// UDP address of the mesh (link.bind).
    #[arg(long, value_name = "ADDR")]
    link: Option<SocketAddr>,
    /// Where other boxes reach it, host:port (link.advertised).
    #[arg(long = "advertise", value_name = "HOST:PORT")]
    advertised: Option<String>,
    /// TCP address of terminals and pages (http.bind).
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// TCP address of metrics (http.metrics).
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Neither publish nor browse by mDNS (discovery.mdns).
    #[arg(long)]
    no_mdns: bool,
    /// Also write the line that says "ready" into this file, when it is so.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Every key with its value.
    Show {
        /// And where it came from.
        #[arg(long)]
        origin: bool,
    },
}

#[derive(Subcommand, Debug)]
enum SnapshotCommand {
    /// Take in a file that `yika-hub snapshot export` wrote, while the box runs or is stopped.
    Import {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Args, Debug)]
struct Leave {
    /// Really.
    #[arg(long)]
    yes: bool,
    /// Even if headquarters has not confirmed everything this box wrote.
    #[arg(long)]
    force: bool,
}

/// Does what was asked; errors go to standard error.
pub fn run(arguments: Arguments) -> Exit {
    let json = arguments.json;
    terminal::speak(arguments.lang.unwrap_or_else(tongue));
    obey(arguments).unwrap_or_else(|error| failure::fail(json, &error))
}

fn obey(arguments: Arguments) -> Result<Exit> {
    let loaded = match config::load(&sources(&arguments, std::env::vars_os().collect())) {
        Ok(loaded) => loaded,
        Err(error) => return Err(Ends::usage(format!("{error:#}"))),
    };
    let dir = loaded.config.data.clone();
    let json = arguments.json;
    match arguments.command {
        Command::Init(init) => join(&dir, &init, json),
        Command::Serve(serve) if serve.check_config => check(&loaded, json),
        Command::Serve(serve) => {
            logging::start(&loaded.config.log)?;
            runtime()?.block_on(app::run(&loaded.config, serve.ready_file.as_deref()))?;
            Ok(Exit::Done)
        }
        Command::Status => {
            let status = ask(&dir, control::Question::Status, || status::when_down(&loaded.config))?;
            say(&if json { line_of(&status)? } else { status.in_words(tongue()) })?;
            Ok(if status.needs_hands() { Exit::Problems } else { Exit::Done })
        }
        Command::Doctor => {
            let report = ask(&dir, control::Question::Doctor, || Ok(doctor::when_down(&loaded.config)))?;
            say(&if json { line_of(&report)? } else { report.in_words(tongue()) })?;
            Ok(if report.is_healthy() { Exit::Done } else { Exit::Problems })
        }
        Command::Config { what: ConfigCommand::Show { origin } } => {
            say(&if json { line_of(&loaded.config)? } else { loaded.show(origin) })?;
            Ok(Exit::Done)
        }
        Command::Version => version(json),
        Command::Snapshot { what: SnapshotCommand::Import { file } } => import(&loaded.config, &file),
        Command::Leave(leave) => {
            let left = identity::leave(&dir, leave.yes, leave.force)?;
            let facts: voice::Facts<'_> = &[("node", &left.me.node), ("campus", &left.campus)];
            give(json, &serde_json::json!({ "left": left.me.to_string() }), "leave.done", facts)
        }
    }
}

/// Gives an answer: in words, or as the one object that a program reads.
fn give(json: bool, answer: &serde_json::Value, key: &str, facts: voice::Facts<'_>) -> Result<Exit> {
    say(&if json { line_of(answer)? } else { voice::words(key, facts) + "\n" })?;
    Ok(Exit::Done)
}

/// The data folder of a box that was started with this command line and environment; `None` where that serves nothing.
pub(crate) fn folder_served(words: &[OsString], env: Vec<(OsString, OsString)>) -> Option<PathBuf> {
    let arguments = Arguments::try_parse_from(words).ok()?;
    let serves = matches!(&arguments.command, Command::Serve(serve) if !serve.check_config);
    let loaded = config::load(&sources(&arguments, env)).ok()?;
    serves.then_some(loaded.config.data)
}

fn sources(arguments: &Arguments, env: Vec<(OsString, OsString)>) -> Sources {
    let mut flags: Vec<(&'static str, Value)> = Vec::new();
    let mut set = |key, value: Option<String>| flags.extend(value.map(|v| (key, Value::String(v))));
    set("data", arguments.data.as_ref().map(|d| d.display().to_string()));
    if let Command::Serve(serve) = &arguments.command {
        set("link.bind", serve.link.map(|a| a.to_string()));
        set("link.advertised", serve.advertised.clone());
        set("http.bind", serve.http.map(|a| a.to_string()));
        set("http.metrics", serve.metrics.map(|a| a.to_string()));
        if serve.no_mdns {
            flags.push(("discovery.mdns", Value::Boolean(false)));
        }
    }
    Sources { files: arguments.config.clone(), env, flags }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(WORKERS, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(WORKERS))
        .enable_all()
        .build()
        .with_context(|| voice::words("threads", &[]))
}

fn join(dir: &Path, init: &Init, json: bool) -> Result<Exit> {
    let text = match init.join.as_str() {
        "-" => std::io::read_to_string(std::io::stdin()).with_context(|| voice::words("init.stdin", &[]))?,
        line => line.to_owned(),
    };
    let line: JoinString = pasted(&text).parse().map_err(|error| voice::ticket(&error))?;
    let name = init.name.clone().or_else(|| line.name.clone()).or_else(host_name).unwrap_or_else(|| "edge".into());
    if !is_name(&name) {
        return Err(Ends::usage(voice::words("init.name", &[("most", &NAME_CHARS_MAX)])));
    }
    let identity = runtime()?.block_on(Identity::join(dir, &line, &name, SOFTWARE))?;
    let Identity { me, campus, hub_name, hub_addr, .. } = &identity;
    let made = serde_json::json!({
        "node": me.to_string(), "name": name, "campus": campus.0, "hub_name": hub_name, "hub_addr": hub_addr,
        "data": dir,
    });
    let facts: voice::Facts<'_> =
        &[("node", &me.node), ("name", &name), ("campus", campus), ("hub", hub_name), ("address", hub_addr)];
    give(json, &made, "init.done", facts)
}

/// The line out of what was pasted: headquarters prints it within a whole command.
fn pasted(text: &str) -> &str {
    let text = text.trim();
    match text.find(JOIN_PREFIX) {
        None | Some(0) => text,
        Some(at) => text[at..].split(|c: char| c.is_whitespace() || c == '\'' || c == '"').next().unwrap_or(text),
    }
}

/// The host's name, as far as it fits.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().chars().take(NAME_CHARS_MAX).collect()).filter(|name: &String| is_name(name))
}

fn check(loaded: &Loaded, json: bool) -> Result<Exit> {
    let dir = &loaded.config.data;
    let identity = Identity::load(dir)?;
    if json {
        let node = identity.map(|identity| identity.me.to_string());
        say(&line_of(&serde_json::json!({ "good": true, "node": node }))?)?;
        return Ok(Exit::Done);
    }
    let whose = match &identity {
        Some(identity) => voice::words("config.node", &[("node", &identity.me.node), ("hub", &identity.hub_name)]),
        None => not_joined(dir, tongue()),
    };
    say(&(voice::words("config.good", &[("whose", &whose)]) + "\n"))?;
    Ok(Exit::Done)
}

/// The running box's answer, or what can be said without it.
fn ask<T: serde::de::DeserializeOwned>(
    dir: &Path,
    question: control::Question,
    when_down: impl FnOnce() -> Result<T>,
) -> Result<T> {
    match control::ask(dir, question)? {
        Some(answer) => Ok(answer),
        None => when_down(),
    }
}

/// Takes a file in, by the running box or instead of it.
fn import(config: &config::Config, file: &Path) -> Result<Exit> {
    // The running box works in another folder than this command.
    let file = std::path::absolute(file)?;
    let asked = control::ask(&config.data, control::Question::Import(file.clone()))?;
    let taken: Result<Vec<snapshot::Taken>, String> = match asked {
        Some(answer) => answer,
        None => runtime()?.block_on(app::import_at_rest(config, &file)).map_err(|error| format!("{error:#}")),
    };
    let taken = taken.map_err(|words| anyhow::anyhow!(words))?;
    say(&line_of(&taken)?)?;
    Ok(Exit::Done)
}

fn version(json: bool) -> Result<Exit> {
    let version = serde_json::json!({
        "name": "yika-edge",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": yika_link::PROTOCOL_MAX,
        "entry_kind_newest": yika_crdt::entry::KIND_NEWEST,
    });
    say(&if json { line_of(&version)? } else { format!("{SOFTWARE}\n") })?;
    Ok(Exit::Done)
}

fn line_of(value: &impl serde::Serialize) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string(value)?))
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_printed_command_can_be_pasted_for_the_line_in_it() {
        let line = "yika-join:hub:7443/a/b/c";
        for text in [
            line.to_owned(),
            format!(" {line}\n"),
            format!("yika-edge init --join {line} --name 'x'"),
            format!("在节点上运行：yika-edge init --join '{line}'"),
        ] {
            assert_eq!(pasted(&text), line);
        }
        // A line that a chat program broke in two stays broken, and is told so.
        assert_eq!(pasted("yika-join:hub:7443/a /b"), "yika-join:hub:7443/a /b");
        assert_eq!(pasted("nothing of the kind"), "nothing of the kind");
    }
}

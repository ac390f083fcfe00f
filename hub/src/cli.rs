//! The command line of headquarters: `serve` runs it, everything else asks the running one.

mod backup;
mod failure;
mod lists;
mod money;
mod people;
mod sites;
mod snapshot;
mod words;

pub(crate) use failure::{fail, parsed};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use failure::{PROBLEMS, Usage};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use words::{Voice, say};
use yika_hub::app::{Ended, Ready};
use yika_hub::config::Config;
use yika_hub::control;
use yika_hub::desk::{HubStatus, dialable, only_here};
use yika_hub::identity::HubIdentity;
use yika_ui::{Lang, terminal};

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed or refused, 2 wrong usage or configuration, 3 a check found problems.
退出码：0 完成，1 失败或被拒绝，2 用法或配置有误，3 检查发现问题。";

/// Headquarters of a campus one-card system (园区一卡通总部).
#[derive(Parser)]
#[command(name = "yika-hub", version, about, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Configuration file; may be given several times, later ones win.
    #[arg(long, global = true)]
    config: Vec<PathBuf>,
    /// Data folder.
    #[arg(long, global = true)]
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

impl Arguments {
    /// How the command line is to speak.
    pub(crate) fn voice(&self) -> Voice {
        Voice { lang: self.lang.unwrap_or_else(terminal::tongue), json: self.json }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Make a hub in an empty data folder, with its first administrator.
    Init(Init),
    /// Run headquarters.
    Serve(Serve),
    /// Campuses (园区).
    #[command(subcommand)]
    Campus(sites::Campus),
    /// Edge boxes (园区节点).
    #[command(subcommand)]
    Edge(sites::Edge),
    /// Terminals (终端).
    #[command(subcommand)]
    Terminal(sites::Terminal),
    /// Tariffs (价目).
    #[command(subcommand)]
    Tariff(sites::Tariff),
    /// Read a people-and-cards file (人员导入).
    #[command(subcommand)]
    Import(people::Import),
    /// Access policy of a campus (门禁).
    #[command(subcommand)]
    Access(people::Access),
    /// Pay money in for a person (充值), or undo that.
    TopUp(money::TopUp),
    /// Pay money out to a person (提现).
    Withdraw(money::Movement),
    /// Give a sale back that its box no longer may (总部退款).
    Refund(money::Refund),
    /// How much credit every box gets for guests and for terminals that decide alone (备用额度).
    #[command(subcommand)]
    Pools(money::Pools),
    /// Backups (备份).
    #[command(subcommand)]
    Backup(backup::Backup),
    /// What a box starts from when the line is too thin or cut (快照).
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    /// How headquarters is, what is wrong and how to mend it (状态与处理办法).
    Status,
    /// What there is, with the numbers that other commands ask for (清单).
    #[command(subcommand)]
    List(lists::List),
    /// Cards (卡片).
    #[command(subcommand)]
    Card(people::Card),
    /// People (人员).
    #[command(subcommand)]
    Person(people::Person),
    /// Operators (操作员).
    #[command(subcommand)]
    User(people::User),
    /// The books (账簿).
    #[command(subcommand)]
    Ledger(money::Ledger),
    /// Version of this program.
    Version,
}

#[derive(Args)]
struct Init {
    /// Name of headquarters as shown.
    #[arg(long, default_value = "总部")]
    name: String,
    /// Sign-in name of the first administrator.
    #[arg(long, default_value = "admin")]
    admin: String,
}

#[derive(Args)]
struct Serve {
    /// Only check the configuration.
    #[arg(long)]
    check_config: bool,
    /// UDP address for edge boxes.
    #[arg(long)]
    link: Option<std::net::SocketAddr>,
    /// `host:port` that boxes are told to dial.
    #[arg(long)]
    advertised: Option<String>,
    /// TCP address of the console.
    #[arg(long)]
    http: Option<std::net::SocketAddr>,
    /// Start although headquarters seems to have been off for more than 30 days: this machine's clock is right.
    #[arg(long)]
    clock_is_right: bool,
}

/// The way into the running hub.
struct Line {
    socket: PathBuf,
    voice: Voice,
}

impl Line {
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        control::ask(&self.socket, "GET", path, Vec::new()).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, wish: &impl Serialize) -> Result<T> {
        self.send(path, serde_json::to_vec(wish)?).await
    }

    async fn send<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<T> {
        control::ask(&self.socket, "POST", path, body).await
    }
}

/// Does what the arguments say.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let voice = arguments.voice();
    terminal::speak(voice.lang);
    let mut config = Config::load(&arguments.config, std::env::vars()).map_err(|error| Usage(format!("{error:#}")))?;
    if let Some(data) = arguments.data {
        config.data = data;
    }
    let hub = Line { socket: Config::socket(&config.data), voice };
    match arguments.command {
        Command::Init(init) => initialise(&config, &init, voice)?,
        Command::Serve(serve) => serve_hub(config, serve, voice).await?,
        Command::Version => version(voice)?,
        Command::Campus(command) => sites::campus(&hub, command).await?,
        Command::Edge(command) => sites::edge(&hub, command).await?,
        Command::Terminal(command) => sites::terminal(&hub, command).await?,
        Command::Tariff(command) => sites::tariff(&hub, command).await?,
        Command::List(command) => lists::list(&hub, command).await?,
        Command::Import(command) => return people::import(&hub, command).await,
        Command::Access(command) => people::access(&hub, command).await?,
        Command::Card(command) => people::card(&hub, command).await?,
        Command::Person(command) => people::person(&hub, command).await?,
        Command::User(command) => people::user(&hub, command).await?,
        Command::TopUp(command) => money::top_up(&hub, command).await?,
        Command::Withdraw(movement) => money::withdraw(&hub, movement).await?,
        Command::Refund(refund) => money::refund(&hub, refund).await?,
        Command::Pools(command) => money::pools(&hub, command).await?,
        Command::Ledger(command) => return money::ledger(&hub, command).await,
        Command::Backup(command) => return backup::run(&config, &arguments.config, &hub, command).await,
        Command::Snapshot(command) => snapshot::run(&config, &hub, command).await?,
        Command::Status => return status(&hub).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(hub: &Line) -> Result<ExitCode> {
    let status: HubStatus = hub.get("/v1/status").await?;
    match hub.voice.json {
        true => hub.voice.answer(&status)?,
        false => say(&status.words(hub.voice.lang).join("\n"))?,
    }
    Ok(if status.wrong() == 0 { ExitCode::SUCCESS } else { ExitCode::from(PROBLEMS) })
}

fn initialise(config: &Config, init: &Init, voice: Voice) -> Result<()> {
    HubIdentity::init(&config.data, &init.name)?;
    let first = yika_hub::app::first_administrator(&config.data, &init.admin)?;
    let folder = config.data.display();
    voice.tell("init.made", &[("folder", &folder)])?;
    voice.tell("init.admin", &[("login", &init.admin), ("password", &*first)])?;
    let made = serde_json::json!({ "data": config.data, "login": init.admin, "password": *first });
    voice.give(&made, "init.next", &[("folder", &folder)])
}

async fn serve_hub(mut config: Config, serve: Serve, voice: Voice) -> Result<()> {
    config.link.bind = serve.link.unwrap_or(config.link.bind);
    config.http.bind = serve.http.unwrap_or(config.http.bind);
    config.link.advertised = serve.advertised.unwrap_or(config.link.advertised);
    config.clock_is_right = serve.clock_is_right;
    if !config.link.advertised.is_empty() {
        dialable(&config.link.advertised).map_err(|refusal| Usage(refusal.words(voice.lang)))?;
    }
    if serve.check_config {
        if voice.json {
            return voice.answer(&config);
        }
        say(toml::to_string(&config)?.trim_end())?;
        return voice.hint("config.good", &[]);
    }
    log(&config)?;
    match yika_hub::app::run(&config, |ready| announce(ready, voice)).await? {
        Ended::Asked => Ok(()),
        Ended::ForANewLife => Err(start_again()),
    }
}

/// The same program with the same words in this process, from the beginning; gives why that cannot be.
fn start_again() -> anyhow::Error {
    tracing::warn!("headquarters starts again, to go on in its new life");
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| "yika-hub".into());
    let error = std::process::Command::new("/proc/self/exe").arg0(name).args(words).exec();
    anyhow::Error::from(error)
        .context("the hub must be started again: it goes on in a new life, and cannot do so by itself")
}

/// One line for programs, and where to go for whoever started it by hand.
fn announce(ready: &Ready, voice: Voice) -> Result<()> {
    say(&serde_json::to_string(ready)?)?;
    if std::io::stderr().is_terminal() {
        voice.hint("serve.console", &[("address", &ready.http)])?;
        match &ready.dialled {
            Ok(address) => {
                voice.hint("serve.link", &[("address", address)])?;
                if only_here(address) {
                    voice.hint("address.only_here", &[("address", address)])?;
                }
            }
            Err(refusal) => voice.hint("serve.not_dialled", &[("refusal", &refusal.words(voice.lang))])?,
        }
    }
    Ok(())
}

fn version(voice: Voice) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    match voice.json {
        true => voice.answer(&serde_json::json!({ "program": "yika-hub", "version": version })),
        false => say(&format!("yika-hub {version}")),
    }
}

fn log(config: &Config) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.filter)
        .with_context(|| format!("log.filter {:?} is not a filter, as in info,yika_hub=debug", config.log.filter))?;
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    let done = if config.log.json { builder.json().try_init() } else { builder.try_init() };
    done.map_err(|e| anyhow::anyhow!("logging: {e}"))
}

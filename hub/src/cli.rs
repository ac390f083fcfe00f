//! The command line of headquarters: `serve` runs it, everything else asks the running one.

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use yika_crdt::Fen;
use yika_crdt::docs::shard_count_for;
use yika_crdt::entry::{BlockTarget, CampusRecord, TerminalState};
use yika_crdt::ids::*;
use yika_hub::app;
use yika_hub::backup::{self, Proved};
use yika_hub::clock::wall_ms;
use yika_hub::config::Config;
use yika_hub::control::{self, ImportWish, PaidOut, SnapshotWish, TokenWish, TopUpWish, ToppedUp};
use yika_hub::core::PoolSizes;
use yika_hub::desk::{
    ExportedPart, GivenBack, HubStatus, ImportReport, NewOperator, NewTerminal, RefundWish, TerminalMade,
};
use yika_hub::identity::HubIdentity;
use yika_hub::store::BackupRow;
use yika_hub::vault::Vault;

/// Exit code: failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code: a check found problems.
const PROBLEMS: u8 = 3;

/// Headquarters of a campus one-card system (园区一卡通总部).
#[derive(Parser)]
#[command(name = "yika-hub", version, about)]
pub(crate) struct Arguments {
    /// Configuration file; may be given several times, later ones win.
    #[arg(long, global = true)]
    config: Vec<PathBuf>,
    /// Data folder.
    #[arg(long, global = true)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a hub in an empty data folder, with its first administrator.
    Init(Init),
    /// Run headquarters.
    Serve(Serve),
    /// Campuses (园区).
    #[command(subcommand)]
    Campus(Campus),
    /// Edge boxes (园区节点).
    #[command(subcommand)]
    Edge(Edge),
    /// Terminals (终端).
    #[command(subcommand)]
    Terminal(Terminal),
    /// Tariffs (价目).
    #[command(subcommand)]
    Tariff(Tariff),
    /// Read a people-and-cards file (人员导入).
    #[command(subcommand)]
    Import(Import),
    /// Access policy of a campus (门禁).
    #[command(subcommand)]
    Access(Access),
    /// Pay money in for a person (充值), or undo that.
    TopUp(TopUp),
    /// Pay money out to a person (提现).
    Withdraw(Movement),
    /// Give a sale back that its box no longer may (总部退款).
    Refund(Refund),
    /// How much credit every box gets for guests and for terminals that decide alone (备用额度).
    #[command(subcommand)]
    Pools(Pools),
    /// Backups (备份).
    #[command(subcommand)]
    Backup(Backup),
    /// What a box starts from when the line is too thin or cut (快照).
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// How headquarters is, in words (状态).
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Cards (卡片).
    #[command(subcommand)]
    Card(Card),
    /// Operators (操作员).
    #[command(subcommand)]
    User(User),
    /// The books (账簿).
    #[command(subcommand)]
    Ledger(Ledger),
    /// Version of this program.
    Version {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
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
}

#[derive(Subcommand)]
enum Campus {
    /// Add a campus, or change its name and calendar.
    Put {
        /// Its number, as in c1.
        campus: CampusId,
        /// Its name as shown.
        name: String,
        /// Minutes east of UTC.
        #[arg(long, default_value_t = 480, allow_hyphen_values = true)]
        utc_offset_minutes: i16,
        /// When the business day is cut, minutes after midnight.
        #[arg(long, default_value_t = 180)]
        cut_minute: u16,
        /// How many people it is made for; settled when the campus is made.
        #[arg(long, default_value_t = 100_000)]
        people: u32,
    },
}

#[derive(Subcommand)]
enum Edge {
    /// One-time tokens.
    #[command(subcommand)]
    Token(Token),
    /// All boxes, by the age of their newest event.
    List,
    /// End the life of a dead or stolen box.
    Fence {
        /// The box, as in n3.
        node: NodeId,
        /// What happened to it.
        #[arg(long)]
        reason: String,
    },
    /// Give holders back what a fenced box had of their money before its lease is over; what it may have sold meanwhile
    /// is the organisation's loss.
    ReleaseSuspense {
        /// The box, as in n3.
        node: NodeId,
        /// The worst case is understood.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
enum Token {
    /// Print one line to paste on the box.
    Create {
        /// Campus of the box, as in c1.
        #[arg(long)]
        campus: CampusId,
        /// How long it lives: 30m, 2h, 45s.
        #[arg(long, default_value = "30m")]
        ttl: String,
        /// The box it replaces, as in n3.
        #[arg(long)]
        replaces: Option<NodeId>,
    },
}

#[derive(Subcommand)]
enum Terminal {
    /// Register a terminal; its key is shown this once.
    Add {
        /// Campus, as in c1.
        #[arg(long)]
        campus: CampusId,
        /// till, door or attendance.
        #[arg(long)]
        kind: String,
        /// Its name as shown.
        #[arg(long)]
        name: String,
        /// Where it sells, as in u1.
        #[arg(long, default_value = "0")]
        outlet: OutletId,
        /// For whom it sells, as in m1.
        #[arg(long, default_value = "0")]
        merchant: MerchantId,
        /// The door it reads for, as in d1.
        #[arg(long)]
        door: Option<DoorId>,
    },
    /// Suspend a terminal.
    Suspend {
        /// The terminal, as in t1.
        terminal: TerminalId,
    },
    /// Let a suspended terminal work again.
    Deploy {
        /// The terminal, as in t1.
        terminal: TerminalId,
    },
}

#[derive(Subcommand)]
enum Tariff {
    /// Put a tariff in force, from a TOML file.
    Set {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum Import {
    /// People and cards from .xlsx, .xls or .csv.
    People {
        /// The file.
        file: PathBuf,
        /// Only say what would happen.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Subcommand)]
enum Access {
    /// Change doors, schedules and groups: a JSON list of acts, as in deploy/samples/access.json.
    Apply {
        /// Campus, as in c1.
        #[arg(long)]
        campus: CampusId,
        /// The file.
        file: PathBuf,
    },
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct TopUp {
    #[command(subcommand)]
    undo: Option<TopUpUndo>,
    #[command(flatten)]
    pay_in: Option<Movement>,
}

#[derive(Subcommand)]
enum TopUpUndo {
    /// Undo a top-up whole: by who took it, on the same day.
    Undo {
        /// Number of its voucher.
        #[arg(long)]
        request: String,
    },
}

#[derive(Args)]
struct Movement {
    /// The person, as in p17.
    person: PersonId,
    /// How much, in fen.
    #[arg(long)]
    fen: i64,
    /// Number of the voucher: the same is posted once.
    #[arg(long)]
    request: String,
}

#[derive(Args)]
struct Refund {
    /// The sale: terminal, boot, number, as in t5-1-204.
    #[arg(value_parser = sale)]
    sale: PurchaseId,
    /// How much, in fen; everything that is left when absent.
    #[arg(long)]
    fen: Option<i64>,
    /// A keyed sum was wrong; else the goods came back.
    #[arg(long)]
    correction: bool,
    /// Number of the voucher: the same is posted once.
    #[arg(long)]
    request: String,
}

#[derive(Subcommand)]
enum Pools {
    /// What is set.
    Show,
    /// Set both sizes.
    Set {
        /// For guests, per box, in fen.
        #[arg(long)]
        guest_fen: i64,
        /// For a terminal that decides alone, per terminal and box, in fen.
        #[arg(long)]
        float_fen: i64,
    },
}

#[derive(Subcommand)]
enum Snapshot {
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

#[derive(Subcommand)]
enum Backup {
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
    /// Put a hub back into a new data folder (--data), marked as restored. Needs its master key.
    Restore {
        /// The file.
        file: PathBuf,
        /// The master key, when it does not lie in the new folder as master.key or come as a credential.
        #[arg(long)]
        master_key: Option<PathBuf>,
        /// Also when a newer backup lies in the same folder: what boxes have pruned since this one is lost.
        #[arg(long)]
        older: bool,
    },
    /// Those of a folder, newest first.
    List {
        /// Folder; the configured one when absent.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum Card {
    /// Report a card lost (挂失).
    Block {
        /// Printed number.
        card: CardNumber,
    },
    /// Withdraw loss reports (解挂).
    Lift {
        /// Printed number.
        card: CardNumber,
    },
}

#[derive(Subcommand)]
enum User {
    /// Make an operator; the first password is read from standard input.
    Add {
        /// Sign-in name.
        login: String,
        /// Name as shown.
        #[arg(long)]
        name: String,
        /// admin, clerk, cashier or auditor.
        #[arg(long)]
        role: String,
        /// Campus; headquarters when absent.
        #[arg(long)]
        campus: Option<CampusId>,
        /// The password was chosen by the operator and stays.
        #[arg(long)]
        keep_password: bool,
    },
    /// Give an administrator a new first password, read from standard input.
    ResetAdmin {
        /// Sign-in name.
        login: String,
    },
}

#[derive(Subcommand)]
enum Ledger {
    /// Add the books up again from every transfer.
    Verify,
}

/// Does what the arguments say.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut config = Config::load(&arguments.config, std::env::vars())?;
    if let Some(data) = arguments.data {
        config.data = data;
    }
    let socket = Config::socket(&config.data);
    let ask = |path: &'static str, body: Vec<u8>| {
        let socket = socket.clone();
        async move { control::ask::<serde_json::Value>(&socket, "POST", path, body).await }
    };
    match arguments.command {
        Command::Init(init) => return initialise(&config, &init),
        Command::Serve(serve) => return serve_hub(config, serve).await,
        Command::Version { json } => version(json)?,
        Command::Campus(Campus::Put { campus, name, utc_offset_minutes, cut_minute, people }) => {
            let people_shards = shard_count_for(people);
            let record = CampusRecord { campus, name, utc_offset_minutes, cut_minute, people_shards };
            ask("/v1/campus", serde_json::to_vec(&record)?).await?;
        }
        Command::Edge(Edge::Token(Token::Create { campus, ttl, replaces })) => {
            let wish = TokenWish { campus, ttl_s: seconds(&ttl)?, replaces };
            let line = ask("/v1/token", serde_json::to_vec(&wish)?).await?;
            say(line.as_str().unwrap_or_default())?;
        }
        Command::Edge(Edge::List) => {
            let edges: serde_json::Value = control::ask(&socket, "GET", "/v1/edges", Vec::new()).await?;
            say(&serde_json::to_string_pretty(&edges)?)?;
        }
        Command::Edge(Edge::Fence { node, reason }) => {
            let writer = ask("/v1/fence", serde_json::to_vec(&(node, reason))?).await?;
            say(&format!("fenced {}", writer.as_str().unwrap_or_default()))?;
        }
        Command::Terminal(Terminal::Add { campus, kind, name, outlet, merchant, door }) => {
            let new = NewTerminal { campus, kind, name, outlet, merchant, door };
            let body = serde_json::to_vec(&new)?;
            let made: TerminalMade = control::ask(&socket, "POST", "/v1/terminal", body).await?;
            say(&serde_json::to_string(&made)?)?;
        }
        Command::Terminal(Terminal::Suspend { terminal }) => {
            ask("/v1/terminal/state", serde_json::to_vec(&(terminal, TerminalState::Suspended))?).await?;
        }
        Command::Terminal(Terminal::Deploy { terminal }) => {
            ask("/v1/terminal/state", serde_json::to_vec(&(terminal, TerminalState::Deployed))?).await?;
        }
        Command::Tariff(Tariff::Set { file }) => {
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let sheet: yika_crdt::tariff::sheet::TariffSheet =
                toml::from_str(&text).with_context(|| format!("{} is not a tariff", file.display()))?;
            let version = ask("/v1/tariff", serde_json::to_vec(&sheet)?).await?;
            say(&format!("tariff v{version}"))?;
        }
        Command::Import(Import::People { file, dry_run }) => return import_people(&socket, &file, dry_run).await,
        Command::Access(Access::Apply { campus, file }) => {
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let acts: Vec<yika_crdt::docs::PolicyAct> =
                serde_json::from_str(&text).with_context(|| format!("{} is not a list of acts", file.display()))?;
            ask("/v1/policy", serde_json::to_vec(&(campus, acts))?).await?;
        }
        Command::Edge(Edge::ReleaseSuspense { node, yes }) => {
            if !yes {
                bail!(
                    "what {node} may have sold since it was last heard would be the organisation's loss; say --yes to \
                     do it, or wait until its lease is over"
                );
            }
            let writer = ask("/v1/release-suspense", serde_json::to_vec(&node)?).await?;
            say(&format!("released {}", writer.as_str().unwrap_or_default()))?;
        }
        Command::TopUp(TopUp { undo: Some(TopUpUndo::Undo { request }), .. }) => {
            let done: PaidOut = control::ask(&socket, "POST", "/v1/top-up/undo", serde_json::to_vec(&request)?).await?;
            say(&serde_json::to_string(&done)?)?;
        }
        Command::TopUp(TopUp { pay_in: None, .. }) => {
            bail!("whom, how much, which voucher: see yika-hub top-up --help")
        }
        Command::Withdraw(Movement { person, fen, request }) => {
            let body = serde_json::to_vec(&TopUpWish { person, fen, request })?;
            let done: PaidOut = control::ask(&socket, "POST", "/v1/withdraw", body).await?;
            say(&serde_json::to_string(&done)?)?;
        }
        Command::Refund(Refund { sale, fen, correction, request }) => {
            let body = serde_json::to_vec(&RefundWish { sale, fen, correction, request })?;
            let done: GivenBack = control::ask(&socket, "POST", "/v1/refund", body).await?;
            say(&serde_json::to_string(&done)?)?;
        }
        Command::Pools(Pools::Show) => {
            let sizes: PoolSizes = control::ask(&socket, "GET", "/v1/pools", Vec::new()).await?;
            say(&serde_json::json!({ "guest_fen": sizes.guest.0, "float_fen": sizes.float.0 }).to_string())?;
        }
        Command::Pools(Pools::Set { guest_fen, float_fen }) => {
            let sizes = PoolSizes { guest: Fen(guest_fen), float: Fen(float_fen) };
            ask("/v1/pools", serde_json::to_vec(&sizes)?).await?;
        }
        Command::Backup(backup) => return backups(&config, &socket, backup).await,
        Command::Snapshot(Snapshot::Export { campus, file }) => {
            // The running hub works in another folder than this command.
            let file = std::path::absolute(file)?;
            let parts: Vec<ExportedPart> = match control::is_running(&socket).await {
                true => {
                    let wish = serde_json::to_vec(&SnapshotWish { campus, file })?;
                    control::ask(&socket, "POST", "/v1/snapshot", wish).await?
                }
                false => app::export_at_rest(&config, campus, file).await?,
            };
            say(&serde_json::to_string(&parts)?)?;
        }
        Command::Status { json } => {
            let status: HubStatus = control::ask(&socket, "GET", "/v1/status", Vec::new()).await?;
            match json {
                true => say(&serde_json::to_string(&status)?)?,
                false => say(&status.words(wall_ms()).join("\n"))?,
            }
            if status.recovering.is_some() {
                return Ok(ExitCode::from(PROBLEMS));
            }
        }
        Command::TopUp(TopUp { pay_in: Some(Movement { person, fen, request }), .. }) => {
            let body = serde_json::to_vec(&TopUpWish { person, fen, request })?;
            let done: ToppedUp = control::ask(&socket, "POST", "/v1/top-up", body).await?;
            say(&serde_json::to_string(&done)?)?;
        }
        Command::Card(Card::Block { card }) => {
            ask("/v1/block", serde_json::to_vec(&BlockTarget::Card(card))?).await?;
        }
        Command::Card(Card::Lift { card }) => {
            let count = ask("/v1/lift", serde_json::to_vec(&BlockTarget::Card(card))?).await?;
            say(&format!("lifted {count}"))?;
        }
        Command::User(User::Add { login, name, role, campus, keep_password }) => {
            let new = NewOperator { login, name, role, campus, password: password()?, keep_password };
            ask("/v1/operator", serde_json::to_vec(&new)?).await?;
        }
        Command::User(User::ResetAdmin { login }) => {
            ask("/v1/operator/password", serde_json::to_vec(&(login, password()?))?).await?;
        }
        Command::Ledger(Ledger::Verify) => {
            let sums: serde_json::Value = control::ask(&socket, "GET", "/v1/ledger", Vec::new()).await?;
            say(&serde_json::to_string(&sums)?)?;
            if sums["sum_fen"] != 0 || sums["accounts_differing"] != 0 {
                return Ok(ExitCode::from(PROBLEMS));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn backups(config: &Config, socket: &Path, backup: Backup) -> Result<ExitCode> {
    match backup {
        Backup::Create { to } => {
            // The running hub works in another folder than this command.
            let to = to.map(std::path::absolute).transpose()?;
            let made: BackupRow = match control::is_running(socket).await {
                true => control::ask(socket, "POST", "/v1/backup", serde_json::to_vec(&to)?).await?,
                false => app::back_up_at_rest(config, to).await?,
            };
            say(&serde_json::to_string(&made)?)?;
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
            say(&serde_json::to_string(&proved)?)?;
        }
        Backup::Restore { file, master_key, older } => {
            restore(config, &file, master_key.as_deref(), older)?;
        }
        Backup::List { dir } => {
            for listed in backup::list(&dir.unwrap_or_else(|| config.backup_dir()))? {
                say(&serde_json::to_string(&listed)?)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn restore(config: &Config, file: &Path, master_key: Option<&Path>, older: bool) -> Result<()> {
    let data = &config.data;
    let head = backup::file::head(file)?;
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let newer = backup::list(folder)?.into_iter().find(|listed| {
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
    let life = tokio::task::block_in_place(|| backup::restore(file, data, &vault))?;
    say(&format!("restored {:?} into {} as life {life}", head.name, data.display()))?;
    say(
        "top-ups, withdrawals, refunds by headquarters, imports, operators and settings made since the backup are not in",
    )?;
    say("it: enter them again after the recovery. Sales, grants, blocks and fences come back from the boxes.")?;
    say(&format!("the configuration of that time: {}", data.join(backup::CONFIGURATION).display()))?;
    say("start it with yika-hub serve and watch yika-hub status: it grants and pays out when every box has reported")
}

/// A sale's id as printed: t5-1-204.
fn sale(text: &str) -> Result<PurchaseId, String> {
    let parts: Vec<&str> = text.split('-').collect();
    let [terminal, boot, seq] = parts[..] else { return Err("a sale is terminal-boot-number, as in t5-1-204".into()) };
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is not a number"));
    let terminal = terminal.parse::<TerminalId>().map_err(|e| e.to_string())?;
    Ok(PurchaseId { terminal, boot: number(boot)?, seq: number(seq)? })
}

fn initialise(config: &Config, init: &Init) -> Result<ExitCode> {
    HubIdentity::init(&config.data, &init.name)?;
    let first = yika_hub::app::first_administrator(&config.data, &init.admin)?;
    say(&format!("made a hub in {}", config.data.display()))?;
    say(&format!(
        "first administrator: {} / {}  (to be changed at the first sign-in; shown this once)",
        init.admin, *first
    ))?;
    say("start it with: yika-hub serve --data …; keep master.key apart from backups of this folder")?;
    Ok(ExitCode::SUCCESS)
}

async fn serve_hub(mut config: Config, serve: Serve) -> Result<ExitCode> {
    config.link.bind = serve.link.unwrap_or(config.link.bind);
    config.http.bind = serve.http.unwrap_or(config.http.bind);
    config.link.advertised = serve.advertised.unwrap_or(config.link.advertised);
    if serve.check_config {
        say(&toml::to_string(&config)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    log(&config)?;
    yika_hub::app::run(&config).await?;
    Ok(ExitCode::SUCCESS)
}

async fn import_people(socket: &Path, file: &Path, dry_run: bool) -> Result<ExitCode> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or("people").to_owned();
    let zh = std::env::var("LANG").is_ok_and(|lang| lang.starts_with("zh"));
    let wish = ImportWish { name, dry_run, zh };
    let path = format!("/v1/import?{}", serde_urlencoded::to_string(&wish)?);
    let report: ImportReport = control::ask(socket, "POST", &path, bytes).await?;
    say(&serde_json::to_string_pretty(&report)?)?;
    Ok(if report.refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(PROBLEMS) })
}

fn version(json: bool) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    match json {
        true => say(&serde_json::json!({ "program": "yika-hub", "version": version }).to_string()),
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

/// A duration as 45s, 30m, 2h.
fn seconds(text: &str) -> Result<i64> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => bail!("{text:?} is not a time: write 45s, 30m or 2h"),
    };
    let number: i64 = number.parse().with_context(|| format!("{text:?} is not a time: write 45s, 30m or 2h"))?;
    number.checked_mul(factor).with_context(|| format!("{text:?} is too long"))
}

/// The first line of standard input.
fn password() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("cannot read the password from standard input")?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => bail!("no password came by standard input: echo it into this command"),
        password => Ok(password.to_owned()),
    }
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}

//! `yika-hub campus|edge|terminal|tariff …`: what stands where.

use super::{Line, say};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use std::path::PathBuf;
use yika_crdt::docs::shard_count_for;
use yika_crdt::entry::{CampusRecord, TerminalState};
use yika_crdt::ids::*;
use yika_hub::control::TokenWish;
use yika_hub::desk::{NewTerminal, TerminalMade};

#[derive(Subcommand)]
pub(super) enum Campus {
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
pub(super) enum Edge {
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
    /// Lift every block that a fenced box wrote, also what of it is found later.
    LiftBlocks {
        /// The box, as in n3.
        node: NodeId,
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
pub(super) enum Token {
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
pub(super) enum Terminal {
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
pub(super) enum Tariff {
    /// Put a tariff in force, from a TOML file.
    Set {
        /// The file.
        file: PathBuf,
    },
}

pub(super) async fn campus(hub: &Line, command: Campus) -> Result<()> {
    let Campus::Put { campus, name, utc_offset_minutes, cut_minute, people } = command;
    let people_shards = shard_count_for(people);
    let record = CampusRecord { campus, name, utc_offset_minutes, cut_minute, people_shards };
    hub.post("/v1/campus", &record).await
}

pub(super) async fn edge(hub: &Line, command: Edge) -> Result<()> {
    match command {
        Edge::Token(Token::Create { campus, ttl, replaces }) => {
            let wish = TokenWish { campus, ttl_s: seconds(&ttl)?, replaces };
            let line: String = hub.post("/v1/token", &wish).await?;
            say(&line)
        }
        Edge::List => {
            let edges: serde_json::Value = hub.get("/v1/edges").await?;
            say(&serde_json::to_string_pretty(&edges)?)
        }
        Edge::Fence { node, reason } => {
            let writer: String = hub.post("/v1/fence", &(node, reason)).await?;
            say(&format!("fenced {writer}"))
        }
        Edge::LiftBlocks { node } => {
            let lifted: usize = hub.post("/v1/lift-written", &node).await?;
            say(&format!("lifted {lifted}"))
        }
        Edge::ReleaseSuspense { node, yes } => {
            if !yes {
                bail!(
                    "what {node} may have sold since it was last heard would be the organisation's loss; say --yes to \
                     do it, or wait until its lease is over"
                );
            }
            let writer: String = hub.post("/v1/release-suspense", &node).await?;
            say(&format!("released {writer}"))
        }
    }
}

pub(super) async fn terminal(hub: &Line, command: Terminal) -> Result<()> {
    match command {
        Terminal::Add { campus, kind, name, outlet, merchant, door } => {
            let new = NewTerminal { campus, kind, name, outlet, merchant, door };
            let made: TerminalMade = hub.post("/v1/terminal", &new).await?;
            say(&serde_json::to_string(&made)?)
        }
        Terminal::Suspend { terminal } => hub.post("/v1/terminal/state", &(terminal, TerminalState::Suspended)).await,
        Terminal::Deploy { terminal } => hub.post("/v1/terminal/state", &(terminal, TerminalState::Deployed)).await,
    }
}

pub(super) async fn tariff(hub: &Line, command: Tariff) -> Result<()> {
    let Tariff::Set { file } = command;
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let sheet: yika_crdt::tariff::sheet::TariffSheet =
        toml::from_str(&text).with_context(|| format!("{} is not a tariff", file.display()))?;
    let version: TariffVersion = hub.post("/v1/tariff", &sheet).await?;
    say(&format!("tariff v{version}"))
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

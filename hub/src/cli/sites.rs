//! `yika-hub campus|edge|terminal|tariff …`: what stands where.

use super::failure::named_toml;
use super::words::{Facts, Voice, say, table};
use super::{Line, Usage};
use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;
use yika_crdt::docs::shard_count_for;
use yika_crdt::entry::{CampusRecord, TerminalState};
use yika_crdt::ids::*;
use yika_hub::clock::in_largest_unit;
use yika_hub::desk::{EdgeView, NewTerminal, NewToken, Standing, TariffSet, TerminalMade, TokenMade};

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
    /// All boxes, by the age of what was last heard of them.
    List,
    /// Give a box another name.
    Rename {
        /// The box, as in n3.
        node: NodeId,
        /// Its name as shown.
        name: String,
    },
    /// End the life of a dead or stolen box.
    Fence {
        /// The box, as in n3.
        node: NodeId,
        /// What happened to it.
        #[arg(long)]
        reason: String,
    },
    /// Lift every block that a fenced box wrote in any of its fenced lives, also what of it is found later.
    LiftBlocks {
        /// The box, as in n3.
        node: NodeId,
        /// Honest loss reports among them are lifted, too, and that is understood.
        #[arg(long)]
        yes: bool,
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
    /// Print the line that joins a box; the whole command to paste there goes to standard error.
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
        /// The name that the box is to take; its host's name when absent.
        #[arg(long)]
        name: Option<String>,
        /// Where this box is to dial headquarters; as configured (link.advertised) when absent.
        #[arg(long, value_name = "HOST:PORT")]
        advertised: Option<String>,
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
        /// Where it sells, as in u1; a till needs it.
        #[arg(long)]
        outlet: Option<OutletId>,
        /// For whom it sells, as in m1; a till needs it.
        #[arg(long)]
        merchant: Option<MerchantId>,
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
    let record = CampusRecord { campus, name: name.clone(), utc_offset_minutes, cut_minute, people_shards };
    let () = hub.post("/v1/campus", &record).await?;
    hub.voice.give(&record, "campus.put", &[("campus", &campus), ("name", &name)])
}

pub(super) async fn edge(hub: &Line, command: Edge) -> Result<()> {
    let voice = hub.voice;
    match command {
        Edge::Token(Token::Create { campus, ttl, replaces, name, advertised }) => {
            let new = NewToken { campus, ttl_s: seconds(voice, &ttl)?, replaces, name, advertised };
            let made: TokenMade = hub.post("/v1/token", &new).await?;
            if voice.json {
                return voice.answer(&made);
            }
            say(&made.line)?;
            voice.hint("token.paste", &[("command", &made.command)])?;
            match made.only_here {
                true => voice.hint("address.only_here", &[("address", &made.address)]),
                false => Ok(()),
            }
        }
        Edge::List => {
            let edges: Vec<EdgeView> = hub.get("/v1/edges").await?;
            if voice.json {
                let standing = edges.iter().map(|view| Judged { view, standing: view.standing() });
                return voice.answer(&json!({ "edges": standing.collect::<Vec<_>>() }));
            }
            say(&fleet(voice, &edges))
        }
        Edge::Rename { node, name } => {
            let () = hub.post("/v1/edge/name", &(node, &name)).await?;
            voice.give(&json!({ "node": node, "name": name }), "edge.renamed", &[("node", &node), ("name", &name)])
        }
        Edge::Fence { node, reason } => {
            let writer: String = hub.post("/v1/fence", &(node, reason)).await?;
            voice.give(&json!({ "writer": writer }), "edge.fenced", &[("writer", &writer)])
        }
        Edge::LiftBlocks { node, yes } => {
            if !yes {
                return Err(Usage(voice.words("edge.lift_yes", &[("node", &node)])).into());
            }
            let lifted: usize = hub.post("/v1/lift-written", &node).await?;
            let answer = json!({ "node": node, "lifted": lifted });
            voice.give(&answer, "edge.lifted", &[("count", &lifted), ("node", &node)])
        }
        Edge::ReleaseSuspense { node, yes } => {
            if !yes {
                return Err(Usage(voice.words("edge.say_yes", &[("node", &node)])).into());
            }
            let writer: String = hub.post("/v1/release-suspense", &node).await?;
            voice.give(&json!({ "writer": writer }), "edge.released", &[("writer", &writer)])
        }
    }
}

/// A box with how it stands.
#[derive(Serialize)]
struct Judged<'a> {
    #[serde(flatten)]
    view: &'a EdgeView,
    standing: Standing,
}

/// The boxes as a table in words.
fn fleet(voice: Voice, edges: &[EdgeView]) -> String {
    let word = |key: &str| voice.words(key, &[]);
    if edges.is_empty() {
        return word("fleet.none");
    }
    let heads =
        ["fleet.node", "fleet.campus", "fleet.name", "fleet.state", "fleet.heard", "fleet.held", "fleet.behind"];
    let mut rows = vec![heads.map(word).to_vec()];
    rows.extend(edges.iter().map(|edge| {
        vec![
            edge.node.to_string(),
            edge.campus.map_or_else(|| "–".to_owned(), |campus| campus.to_string()),
            edge.name.clone(),
            word(standing(edge.standing())),
            edge.heard_age_ms.map_or_else(|| word("fleet.never"), |ms| age(voice, ms)),
            edge.held.to_string(),
            edge.behind.to_string(),
        ]
    }));
    table(&rows)
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Fenced => "fleet.fenced",
        Standing::New => "fleet.new",
        Standing::Normal => "fleet.normal",
        Standing::Behind => "fleet.is_behind",
        Standing::Late => "fleet.late",
        Standing::Offline => "fleet.offline",
    }
}

/// A length of time in its largest unit.
fn age(voice: Voice, ms: i64) -> String {
    let (key, number) = in_largest_unit(ms, ["age.seconds", "age.minutes", "age.hours", "age.days"]);
    voice.words(key, &[("n", &number)])
}

pub(super) async fn terminal(hub: &Line, command: Terminal) -> Result<()> {
    let (terminal, state, name) = match command {
        Terminal::Add { campus, kind, name, outlet, merchant, door } => {
            let (outlet, merchant) = (outlet.unwrap_or(OutletId(0)), merchant.unwrap_or(MerchantId(0)));
            let new = NewTerminal { campus, kind, name, outlet, merchant, door };
            let made: TerminalMade = hub.post("/v1/terminal", &new).await?;
            let (terminal, version, key) = (made.terminal, made.version, made.key.clone());
            let facts: Facts<'_> = &[("terminal", &terminal), ("version", &version), ("key", &key)];
            return hub.voice.give(&made, "terminal.made", facts);
        }
        Terminal::Suspend { terminal } => (terminal, TerminalState::Suspended, "suspended"),
        Terminal::Deploy { terminal } => (terminal, TerminalState::Deployed, "deployed"),
    };
    let () = hub.post("/v1/terminal/state", &(terminal, state)).await?;
    let answer = json!({ "terminal": terminal, "state": name });
    hub.voice.give(&answer, "terminal.state", &[("terminal", &terminal)])
}

pub(super) async fn tariff(hub: &Line, command: Tariff) -> Result<()> {
    let Tariff::Set { file } = command;
    let sheet: yika_crdt::tariff::sheet::TariffSheet = named_toml(hub.voice, &file)?;
    let set: TariffSet = hub.post("/v1/tariff", &sheet).await?;
    let key = if set.changed { "tariff.set" } else { "tariff.same" };
    hub.voice.give(&set, key, &[("version", &set.version)])
}

/// A duration as 45s, 30m, 2h.
fn seconds(voice: Voice, text: &str) -> Result<i64> {
    let split = text.char_indices().next_back().map(|(at, _)| text.split_at(at));
    let factor = split.and_then(|(number, unit)| {
        let factor = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        number.parse::<i64>().ok()?.checked_mul(factor)
    });
    factor.ok_or_else(|| Usage(voice.words("time.wrong", &[("text", &text)])).into())
}

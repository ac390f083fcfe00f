//! `yika-hub list …`: what there is, with the numbers that other commands ask for.

use super::words::{Voice, say, table};
use super::{Line, sites};
use anyhow::Result;
use clap::Subcommand;
use serde_json::json;
use yika_crdt::entry::{CampusRecord, TerminalKind, TerminalRecord, TerminalState};
use yika_crdt::tariff::sheet::TariffSheet;
use yika_hub::control::{OperatorLine, PeopleWish, PersonLine};

/// People listed at once.
const PEOPLE_MAX: u32 = 500;

#[derive(Subcommand)]
pub(super) enum List {
    /// Campuses.
    Campuses,
    /// Boxes, as `edge list` tells them.
    Edges,
    /// Terminals; their keys are shown only when they are made.
    Terminals,
    /// Operators.
    Users,
    /// People: all, or those whose name, pinyin, staff or card number begins so.
    People {
        /// What is looked for.
        #[arg(default_value = "")]
        text: String,
        /// How many to skip.
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// How many to show.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(PEOPLE_MAX)))]
        limit: u32,
    },
    /// The tariff in force, as the file that sets it.
    Tariff,
}

pub(super) async fn list(hub: &Line, command: List) -> Result<()> {
    let voice = hub.voice;
    match command {
        List::Campuses => {
            let campuses: Vec<CampusRecord> = hub.get("/v1/campuses").await?;
            let row = |c: &CampusRecord| {
                let cut = format!("{:02}:{:02}", c.cut_minute / 60, c.cut_minute % 60);
                vec![c.campus.to_string(), c.name.clone(), cut]
            };
            show(voice, "campuses", &campuses, ["list.campus", "list.name", "list.cut"], row)
        }
        List::Terminals => {
            let terminals: Vec<TerminalRecord> = hub.get("/v1/terminals").await?;
            let heads = [
                "list.terminal",
                "list.campus",
                "list.name",
                "list.kind",
                "list.outlet",
                "list.merchant",
                "list.door",
                "list.state",
            ];
            show(voice, "terminals", &terminals, heads, |terminal| terminal_row(voice, terminal))
        }
        List::Users => {
            let users: Vec<OperatorLine> = hub.get("/v1/operators").await?;
            let row = |user: &OperatorLine| {
                let campus = user.campus.map_or_else(|| voice.words("list.headquarters", &[]), |c| c.to_string());
                let state = voice.words(if user.active { "list.active" } else { "list.stopped" }, &[]);
                vec![user.login.clone(), user.name.clone(), user.role.clone(), campus, state]
            };
            show(voice, "users", &users, ["list.login", "list.holder", "list.role", "list.campus", "list.state"], row)
        }
        List::Edges => sites::edge(hub, sites::Edge::List).await,
        List::People { text, offset, limit } => {
            let wish = PeopleWish { text, offset, limit };
            let people: Vec<PersonLine> =
                hub.get(&format!("/v1/people?{}", serde_urlencoded::to_string(&wish)?)).await?;
            let row = |p: &PersonLine| {
                let card = p.card.map_or_else(|| "–".to_owned(), |card| card.to_string());
                vec![p.person.to_string(), p.name.clone(), p.staff_number.clone(), card, p.campus.to_string()]
            };
            let heads = ["list.person", "list.holder", "list.staff", "list.card", "list.campus"];
            show(voice, "people", &people, heads, row)
        }
        List::Tariff => {
            let sheet: Option<TariffSheet> = hub.get("/v1/tariff").await?;
            match (voice.json, &sheet) {
                (true, sheet) => voice.answer(&json!({ "tariff": sheet })),
                (false, Some(sheet)) => say(toml::to_string(sheet)?.trim_end()),
                (false, None) => voice.tell("list.none", &[]),
            }
        }
    }
}

fn terminal_row(voice: Voice, t: &TerminalRecord) -> Vec<String> {
    let kind = match t.kind {
        TerminalKind::Till => "till",
        TerminalKind::Door => "door",
        TerminalKind::Attendance => "attendance",
    };
    let state = voice.words(
        match t.state {
            TerminalState::Deployed => "list.active",
            TerminalState::Suspended => "list.stopped",
            TerminalState::Scrapped => "list.scrapped",
        },
        &[],
    );
    let (outlet, merchant) = if t.kind == TerminalKind::Till {
        (t.outlet.to_string(), t.merchant.to_string())
    } else {
        ("–".to_owned(), "–".to_owned())
    };
    let door = t.door.map_or_else(|| "–".to_owned(), |door| door.to_string());
    vec![t.terminal.to_string(), t.campus.to_string(), t.name.clone(), kind.to_owned(), outlet, merchant, door, state]
}

/// A table in words, or one JSON object with the rows under their name.
fn show<T: serde::Serialize, const N: usize>(
    voice: Voice,
    name: &str,
    rows: &[T],
    heads: [&str; N],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<()> {
    if voice.json {
        return voice.answer(&json!({ name: rows }));
    }
    if rows.is_empty() {
        return voice.tell("list.none", &[]);
    }
    let mut lines = vec![heads.map(|head| voice.words(head, &[])).to_vec()];
    lines.extend(rows.iter().map(row));
    say(&table(&lines))
}

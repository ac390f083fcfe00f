//! `yika-hub import|access|card|person|user …`: people, their cards, doors and operators.

use super::failure::{named_file, named_toml};
use super::words::{Facts, Voice, say};
use super::{Line, PROBLEMS, Usage};
use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::json;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use yika_crdt::entry::BlockTarget;
use yika_crdt::ids::*;
use yika_hub::access::{AccessSheet, Changes};
use yika_hub::control::{AccessWish, ImportWish, MoveWish};
use yika_hub::desk::{ImportReport, NewOperator};
use yika_ui::Lang;

#[derive(Subcommand)]
pub(super) enum Import {
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
pub(super) enum Access {
    /// Put doors, schedules, groups and holidays in force from a TOML file, as in deploy/samples/access.toml.
    Apply {
        /// Campus, as in c1.
        #[arg(long)]
        campus: CampusId,
        /// Only say what would change.
        #[arg(long)]
        dry_run: bool,
        /// The file.
        file: PathBuf,
    },
    /// Write what is in force as such a file.
    Show {
        /// Campus, as in c1.
        #[arg(long)]
        campus: CampusId,
    },
}

#[derive(Subcommand)]
pub(super) enum Card {
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
pub(super) enum Person {
    /// Make another campus a person's home (转园区).
    Move {
        /// Number of the person, as in p8; `yika-hub list people` names it.
        person: PersonId,
        /// The new home, as in c1.
        #[arg(long)]
        campus: CampusId,
    },
}

#[derive(Subcommand)]
pub(super) enum User {
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

pub(super) async fn import(hub: &Line, command: Import) -> Result<ExitCode> {
    let Import::People { file, dry_run } = command;
    import_people(hub, &file, dry_run).await
}

async fn import_people(hub: &Line, file: &Path, dry_run: bool) -> Result<ExitCode> {
    let bytes = named_file(hub.voice, file)?;
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or("people").to_owned();
    let zh = hub.voice.lang == Lang::Zh;
    let wish = ImportWish { name, dry_run, zh };
    let path = format!("/v1/import?{}", serde_urlencoded::to_string(&wish)?);
    let report: ImportReport = hub.send(&path, bytes).await?;
    match hub.voice.json {
        true => hub.voice.answer(&report)?,
        false => tell_report(hub.voice, &report)?,
    }
    Ok(if report.refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(PROBLEMS) })
}

fn tell_report(voice: Voice, report: &ImportReport) -> Result<()> {
    for warning in &report.warnings {
        voice.tell("import.warning", &[("warning", warning)])?;
    }
    for row in &report.rows {
        voice.tell("import.row", &[("line", &row.line), ("errors", &row.errors.join("; "))])?;
    }
    for one in &report.moves {
        let facts: Facts<'_> = &[("line", &one.line), ("person", &one.person), ("from", &one.from), ("to", &one.to)];
        voice.tell(if report.dry_run { "import.move" } else { "import.moved" }, facts)?;
    }
    let hidden = report.refused.saturating_sub(report.rows.len());
    if hidden > 0 {
        voice.tell("import.more", &[("n", &hidden)])?;
    }
    let facts: Facts<'_> = &[
        ("new", &report.new),
        ("moved", &report.moved),
        ("changed", &report.changed),
        ("same", &report.same),
        ("refused", &report.refused),
    ];
    voice.tell(if report.dry_run { "import.dry" } else { "import.done" }, facts)
}

pub(super) async fn access(hub: &Line, command: Access) -> Result<()> {
    match command {
        Access::Apply { campus, dry_run, file } => {
            let sheet: AccessSheet = named_toml(hub.voice, &file)?;
            let changes: Changes = hub.post("/v1/access", &AccessWish { campus, dry_run, sheet }).await?;
            let key = match (changes == Changes::default(), dry_run) {
                (true, _) => "access.same",
                (false, true) => "access.dry",
                (false, false) => "access.done",
            };
            let counts = changes.facts();
            let facts = counts.each_ref().map(|(name, count)| (*name, count as &dyn Display));
            hub.voice.give(&changes, key, &facts)
        }
        Access::Show { campus } => {
            let sheet: AccessSheet = hub.get(&format!("/v1/access?campus={}", campus.0)).await?;
            if hub.voice.json { hub.voice.answer(&sheet) } else { say(toml::to_string(&sheet)?.trim_end()) }
        }
    }
}

pub(super) async fn card(hub: &Line, command: Card) -> Result<()> {
    match command {
        Card::Block { card } => {
            let () = hub.post("/v1/block", &BlockTarget::Card(card)).await?;
            hub.voice.give(&json!({ "card": card }), "card.blocked", &[("card", &card)])
        }
        Card::Lift { card } => {
            let count: usize = hub.post("/v1/lift", &BlockTarget::Card(card)).await?;
            let answer = json!({ "card": card, "lifted": count });
            hub.voice.give(&answer, "card.lifted", &[("card", &card), ("count", &count)])
        }
    }
}

pub(super) async fn person(hub: &Line, command: Person) -> Result<()> {
    let Person::Move { person, campus } = command;
    let from: CampusId = hub.post("/v1/person/campus", &MoveWish { person, campus }).await?;
    let answer = json!({ "person": person, "from": from, "to": campus });
    hub.voice.give(&answer, "person.moved", &[("person", &person), ("from", &from), ("to", &campus)])
}

pub(super) async fn user(hub: &Line, command: User) -> Result<()> {
    match command {
        User::Add { login, name, role, campus, keep_password } => {
            let password = password(hub.voice)?;
            let new = NewOperator { login: login.clone(), name, role, campus, password, keep_password };
            let operator: OperatorId = hub.post("/v1/operator", &new).await?;
            let answer = json!({ "login": login, "operator": operator });
            hub.voice.give(&answer, "user.added", &[("login", &login), ("operator", &operator)])
        }
        User::ResetAdmin { login } => {
            let () = hub.post("/v1/operator/password", &(&login, password(hub.voice)?)).await?;
            hub.voice.give(&json!({ "login": login }), "user.reset", &[("login", &login)])
        }
    }
}

/// The first line of standard input.
fn password(voice: Voice) -> Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("cannot read the password from standard input")?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err(Usage(voice.words("user.no_password", &[])).into()),
        password => Ok(password.to_owned()),
    }
}

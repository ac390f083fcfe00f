//! Backups 备份: how old the newest proved one is, those that are there, one made or checked now while its steps are shown.
//!
//! Leaves to others: making and proving (`crate::backup`), restoring (the command line: the hub must not run).

use super::shared::*;
use crate::backup::log::LogState;
use crate::backup::{Phase, Proved};
use crate::desk::{BackupFile, BackupsView, DeskError};
use crate::refusal::Refusal;
use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use yika_ui::{Page, Step, Ui, UiError, View};

const HOUR_MS: i64 = 3_600_000;
/// Without automatic ones, a backup older than this deserves a word, in hours.
const OLD_HOURS: u32 = 48;
/// Rows shown.
const ROWS: usize = 50;

/// What this process was last asked to do.
#[derive(Default)]
pub(super) struct BackupJobs(Mutex<Option<Job>>);

#[derive(Clone)]
struct Job {
    began: Instant,
    stage: Stage,
}

#[derive(Clone)]
enum Stage {
    Making,
    Checking(String),
    Made(String),
    Sound(String, Box<Proved>),
    Failed(Refusal),
    /// The words are in the log.
    Broken,
}

impl BackupJobs {
    fn get(&self) -> Option<Job> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, stage: Stage) {
        let mut job = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let began = job.as_ref().filter(|_| !stage.is_working()).map_or_else(Instant::now, |job| job.began);
        *job = Some(Job { began, stage });
    }

    /// Begins, unless something is under way.
    fn begin(&self, stage: Stage) -> bool {
        if self.get().is_some_and(|job| job.stage.is_working()) {
            return false;
        }
        self.set(stage);
        true
    }
}

impl Stage {
    fn is_working(&self) -> bool {
        matches!(self, Stage::Making | Stage::Checking(_))
    }

    fn of_failure(error: DeskError) -> Stage {
        match error {
            DeskError::Refused(refusal) => Stage::Failed(refusal),
            DeskError::Busy(detail) => {
                tracing::error!(detail, "a backup was neither made nor checked");
                Stage::Broken
            }
        }
    }
}

#[derive(Template)]
#[template(path = "backups.html")]
pub(super) struct BackupsPage {
    page: Page,
    v: Shown,
}

#[derive(Template)]
#[template(path = "backups_part.html")]
pub(super) struct BackupsPart {
    page: Page,
    v: Shown,
}

/// What both templates show.
struct Shown {
    dir: String,
    tone: &'static str,
    newest: String,
    newest_note: String,
    every: String,
    keep: String,
    failed: u64,
    log: Option<LogTile>,
    lacking: Option<(&'static str, &'static str)>,
    working: Option<Working>,
    steps: Vec<Step>,
    outcome: Option<Outcome>,
    rows: Vec<Row>,
}

/// How the log between two backups stands: it bounds what a restore forgets.
struct LogTile {
    tone: &'static str,
    lag: String,
    note: &'static str,
}

struct Working {
    title: String,
    seconds: u64,
}

struct Outcome {
    tone: &'static str,
    icon: &'static str,
    title: String,
    text: String,
}

struct Row {
    name: String,
    file: String,
    time: String,
    age: String,
    size: String,
    entries: String,
    took: String,
    tone: &'static str,
    state: &'static str,
}

#[derive(Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    file: String,
}

/// The page, or its part when it refreshes itself.
pub(super) async fn page(State(site): State<Arc<Site>>, ui: Ui, me: Me) -> Result<Response, UiError> {
    let view = site.desk.backups(&me.actor).await.map_err(unread)?;
    let (page, v) = (site.page(&ui, "backups.title", "/backups"), shown(&site, &ui, view));
    Ok(match ui.htmx {
        true => View::new(BackupsPart { page, v }).into_response(),
        false => View::new(BackupsPage { page, v }).into_response(),
    })
}

/// Makes one now.
pub(super) async fn make(State(site): State<Arc<Site>>, ui: Ui, me: Me) -> Result<Response, UiError> {
    if site.backups.begin(Stage::Making) {
        let (site, actor) = (Arc::clone(&site), me.actor.clone());
        tokio::spawn(async move {
            let stage = match site.desk.create_backup(&actor, None).await {
                Ok(made) => Stage::Made(made.file),
                Err(error) => Stage::of_failure(error),
            };
            site.backups.set(stage);
        });
    }
    page(State(site), ui, me).await
}

/// Checks one that is there.
pub(super) async fn verify(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Form(which): Form<Which>,
) -> Result<Response, UiError> {
    let file = site.desk.backup_named(&me.actor, &which.file).await.map_err(failed)?;
    if site.backups.begin(Stage::Checking(which.file.clone())) {
        let (site, actor) = (Arc::clone(&site), me.actor.clone());
        tokio::spawn(async move {
            let stage = match site.desk.verify_backup(&actor, file).await {
                Ok(proved) => Stage::Sound(which.file, Box::new(proved)),
                Err(error) => Stage::of_failure(error),
            };
            site.backups.set(stage);
        });
    }
    page(State(site), ui, me).await
}

fn shown(site: &Site, ui: &Ui, view: BackupsView) -> Shown {
    let job = site.backups.get();
    let newest = view.files.iter().filter(|f| f.proved.is_some() && f.ours).find_map(|f| f.at_ms);
    let age_ms = newest.map(|at_ms| ui.now_ms.saturating_sub(at_ms));
    let hours = if view.every_hours == 0 { OLD_HOURS } else { view.every_hours.saturating_mul(2) };
    let (tone, lacking) = match age_ms {
        None => ("bad", Some(("backups.lacking", "backups.lacking.text"))),
        Some(age) if age > i64::from(hours) * HOUR_MS => ("warn", Some(("backups.old", "backups.old.text"))),
        Some(_) => ("ok", None),
    };
    Shown {
        tone,
        newest: age_ms.map_or_else(|| ui.t("backups.none").to_owned(), |age_ms| age(ui, age_ms)),
        newest_note: newest.map_or_else(String::new, |at_ms| ui.time_text(at_ms)),
        every: match view.every_hours {
            0 => ui.t("backups.by_hand").to_owned(),
            hours => ui.t_args("age.hours", &[("n", &hours.to_string())]),
        },
        keep: view.keep.to_string(),
        failed: view.failed,
        log: site.desk.node.ears().log.borrow().as_ref().map(|log| log_tile(ui, log)),
        lacking,
        working: working(ui, job.as_ref(), view.phase),
        steps: steps(ui, job.as_ref(), view.phase),
        outcome: job.and_then(|job| outcome(ui, job.stage)),
        rows: view.files.iter().take(ROWS).map(|file| row(ui, file)).collect(),
        dir: view.dir,
    }
}

fn log_tile(ui: &Ui, log: &LogState) -> LogTile {
    let (tone, note) = match (log.is_sound(ui.now_ms), &log.trouble) {
        (true, _) => ("ok", "backups.log.sound"),
        (false, Some(_)) => ("bad", "backups.log.trouble"),
        (false, None) if !log.based => ("warn", "backups.log.unbased"),
        (false, None) => ("warn", "backups.log.late"),
    };
    LogTile { tone, lag: age(ui, log.lag_ms(ui.now_ms)), note }
}

/// What is under way: by this page, or by the clock.
fn working(ui: &Ui, job: Option<&Job>, phase: Option<Phase>) -> Option<Working> {
    let job = job.filter(|job| job.stage.is_working());
    let seconds = job.map_or(0, |job| job.began.elapsed().as_secs());
    if let Some(Stage::Checking(file)) = job.map(|job| &job.stage) {
        let title = ui.t_args("backups.checking", &[("file", file)]);
        return Some(Working { title, seconds });
    }
    (job.is_some() || phase.is_some()).then(|| Working { title: ui.t("backups.making").to_owned(), seconds })
}

/// The steps of a backup that is being made.
fn steps(ui: &Ui, job: Option<&Job>, phase: Option<Phase>) -> Vec<Step> {
    let making = job.is_some_and(|job| matches!(job.stage, Stage::Making)) || phase.is_some();
    if !making {
        return Vec::new();
    }
    let current = match phase {
        None | Some(Phase::Copying) => 0,
        Some(Phase::Sealing) => 1,
        Some(Phase::Proving) => 2,
    };
    let names = ["copying", "sealing", "proving"];
    let texts = names.map(|name| {
        let note = format!("backups.step.{name}.note");
        (ui.t(&format!("backups.step.{name}")).to_owned(), ui.t(&note).to_owned())
    });
    Step::list(texts, current)
}

fn outcome(ui: &Ui, stage: Stage) -> Option<Outcome> {
    let said =
        |tone, icon, title: &str, text: String| Some(Outcome { tone, icon, title: ui.t(title).to_owned(), text });
    match stage {
        Stage::Making | Stage::Checking(_) => None,
        Stage::Made(file) => said("ok", "circle-check", "backups.made", file),
        Stage::Sound(file, proved) => {
            let (entries, transfers) = (count(proved.entries), count(proved.books.transfers));
            let facts = [("file", file.as_str()), ("entries", &entries), ("transfers", &transfers)];
            said("ok", "shield-check", "backups.sound", ui.t_args("backups.sound.text", &facts))
        }
        Stage::Failed(refusal) => said("bad", "circle-x", "backups.failed", refusal.words(ui.lang)),
        Stage::Broken => said("bad", "circle-x", "backups.failed", ui.t("error.unavailable.hint").to_owned()),
    }
}

fn row(ui: &Ui, file: &BackupFile) -> Row {
    let (tone, state) = match (file.at_ms, file.ours, file.proved) {
        (None, _, _) => ("bad", "backups.state.damaged"),
        (Some(_), false, _) => ("plain", "backups.state.foreign"),
        (Some(_), true, None) => ("warn", "backups.state.unproved"),
        (Some(_), true, Some(_)) => ("ok", "backups.state.proved"),
    };
    let dash = || "–".to_owned();
    Row {
        name: file.name().to_owned(),
        file: file.file.clone(),
        time: file.at_ms.map_or_else(dash, |at_ms| ui.time_text(at_ms)),
        age: file.at_ms.map_or_else(dash, |at_ms| age(ui, ui.now_ms.saturating_sub(at_ms))),
        size: size(file.bytes),
        entries: file.proved.map_or_else(dash, |(_, entries)| count(entries)),
        took: file.proved.map_or_else(dash, |(took_ms, _)| {
            ui.t_args("backups.took", &[("s", &format!("{}.{}", took_ms / 1000, took_ms % 1000 / 100))])
        }),
        tone,
        state,
    }
}

/// A length as people read it: `48.2 MiB`.
fn size(bytes: u64) -> String {
    let (unit, shift) = match bytes {
        0..1_048_576 => ("KiB", 10),
        1_048_576..1_073_741_824 => ("MiB", 20),
        _ => ("GiB", 30),
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn lengths_are_read_at_a_glance() {
        assert_eq!(size(51_200), "50.0 KiB");
        assert_eq!(size(50_541_364), "48.2 MiB");
        assert_eq!((size(0), size(5 << 30)), ("0.0 KiB".into(), "5.0 GiB".into()));
    }
}

//! Import 导入: template, upload, dry run, error workbook, apply with progress. A reload or another tab loses nothing.
//!
//! Files stay in memory, a few at a time: they hold identity numbers. Leaves to others: reading and entering (`desk`).

use super::export::attachment;
use super::shared::*;
use crate::desk::{Actor, DeskError, ImportReport, ImportRow, ROWS_SHOWN_MAX};
use crate::import;
use askama::Template;
use axum::body::Body;
use axum::extract::{Multipart, Path, State};
use axum::response::{IntoResponse, Response};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use yika_crdt::ids::*;
use yika_crdt::registry::RegistryView;
use yika_ui::{Page, Step, Ui, UiError, View};

/// Largest file.
pub const UPLOAD_BYTES_MAX: usize = 50 * 1024 * 1024;
/// Uploads kept; the oldest that is not at work gives way.
const JOBS_KEPT_MAX: usize = 4;
/// Longest file name shown, in characters.
const NAME_CHARS_MAX: usize = 80;
const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

/// Uploads of this process.
#[derive(Default)]
pub(super) struct Imports {
    jobs: Mutex<VecDeque<Arc<Job>>>,
    /// One file at a time is entered.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// One uploaded file on its way.
struct Job {
    id: String,
    owner: OperatorId,
    who: String,
    name: String,
    bytes: Arc<Vec<u8>>,
    at_ms: i64,
    stage: Mutex<Stage>,
    done: AtomicUsize,
    all: AtomicUsize,
}

#[derive(Clone)]
enum Stage {
    Checking(Instant),
    Checked(ImportReport),
    Applying(Instant, ImportReport),
    Applied(ImportReport),
    /// The words, and whether part of the file may have been entered.
    Failed(String, bool),
}

impl Job {
    fn stage(&self) -> Stage {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    fn is_working(&self) -> bool {
        matches!(self.stage(), Stage::Checking(_) | Stage::Applying(..))
    }
}

impl Imports {
    /// Keeps a job; `None` when all kept ones are at work.
    fn keep(&self, job: Arc<Job>) -> Option<()> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= JOBS_KEPT_MAX {
            let idle = jobs.iter().position(|job| !job.is_working())?;
            jobs.remove(idle);
        }
        jobs.push_back(job);
        Some(())
    }

    /// A job of this operator: files of others are nobody's business.
    fn find(&self, id: &str, owner: OperatorId) -> Option<Arc<Job>> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.iter().find(|job| job.id == id && job.owner == owner).cloned()
    }

    fn of(&self, owner: OperatorId) -> Vec<Arc<Job>> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.iter().rev().filter(|job| job.owner == owner).cloned().collect()
    }
}

#[derive(Template)]
#[template(path = "import.html")]
pub(super) struct ImportPage {
    page: Page,
    steps: Vec<Step>,
    jobs: Vec<JobLine>,
    campuses: bool,
}

struct JobLine {
    id: String,
    name: String,
    time: String,
    tone: &'static str,
    state: &'static str,
}

#[derive(Template)]
#[template(path = "import_problem.html")]
pub(super) struct UploadProblem {
    page: Page,
    problem: String,
}

#[derive(Template)]
#[template(path = "import_job.html")]
pub(super) struct JobPage {
    page: Page,
    v: Shown,
}

#[derive(Template)]
#[template(path = "import_state.html")]
pub(super) struct JobState {
    page: Page,
    v: Shown,
}

/// What both templates of a job show.
struct Shown {
    id: String,
    name: String,
    steps: Vec<Step>,
    working: bool,
    applying: bool,
    applied: bool,
    failed: Option<String>,
    partly: bool,
    seconds: u64,
    done: usize,
    all: usize,
    report: Option<ReportShown>,
}

struct ReportShown {
    new: String,
    moved: String,
    changed: String,
    same: String,
    refused: String,
    refused_any: bool,
    moves: Vec<MoveShown>,
    moves_hidden: usize,
    to_enter: usize,
    rows: Vec<ImportRow>,
    rows_hidden: usize,
    warnings: Vec<String>,
}

/// A row by which somebody comes to another campus.
struct MoveShown {
    line: u32,
    person: PersonId,
    name: String,
    from: String,
    to: String,
}

fn steps(ui: &Ui, current: usize) -> Vec<Step> {
    let names = ["choose", "check", "apply", "done"];
    let texts = names.map(|name| {
        let note = format!("import.step.{name}.note");
        (ui.t(&format!("import.step.{name}")).to_owned(), ui.t(&note).to_owned())
    });
    Step::list(texts, current)
}

pub(super) async fn page(State(site): State<Arc<Site>>, ui: Ui, me: Me) -> View<ImportPage> {
    let line = |job: Arc<Job>| {
        let (tone, state) = match job.stage() {
            Stage::Checking(_) => ("info", "import.state.checking"),
            Stage::Checked(_) => ("warn", "import.state.checked"),
            Stage::Applying(..) => ("info", "import.state.applying"),
            Stage::Applied(_) => ("ok", "import.state.applied"),
            Stage::Failed(..) => ("bad", "import.state.failed"),
        };
        JobLine { id: job.id.clone(), name: job.name.clone(), time: ui.time_text(job.at_ms), tone, state }
    };
    View::new(ImportPage {
        page: site.page(&ui, "import.title", "/import"),
        steps: steps(&ui, 0),
        jobs: site.imports.of(me.actor.operator).into_iter().map(line).collect(),
        campuses: !site.desk.node.registry().campuses.is_empty(),
    })
}

pub(super) async fn template(State(site): State<Arc<Site>>, ui: Ui, me: Me) -> Result<Response, UiError> {
    let book = site.desk.import_template(&me.actor, file_lang(&ui)).map_err(unread)?;
    Ok(attachment(XLSX, "yika-people-template.xlsx", Body::from(book)))
}

pub(super) async fn upload(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Result<Response, UiError> {
    let refuse = |key: &str| {
        let page = site.page(&ui, "import.title", "/import");
        View::invalid(UploadProblem { page, problem: ui.t(key).to_owned() }).into_response()
    };
    let Ok(mut form) = form else { return Ok(refuse("import.no_file")) };
    let (name, bytes) = match read_file(&mut form).await {
        Ok(file) => file,
        Err(key) => return Ok(refuse(key)),
    };
    let job = Arc::new(Job {
        id: draw()?,
        owner: me.actor.operator,
        who: me.actor.who.clone(),
        name,
        bytes: Arc::new(bytes),
        at_ms: ui.now_ms,
        stage: Mutex::new(Stage::Checking(Instant::now())),
        done: AtomicUsize::new(0),
        all: AtomicUsize::new(0),
    });
    if site.imports.keep(Arc::clone(&job)).is_none() {
        return Ok(refuse("import.busy"));
    }
    tracing::info!(who = job.who, bytes = job.bytes.len(), "a people file was sent");
    let target = format!("/import/{}", job.id);
    tokio::spawn(check(Arc::clone(&site), job, me.actor, file_lang(&ui)));
    Ok(([("hx-redirect", target)], "").into_response())
}

/// The first file of a form; else the key of what is wrong.
async fn read_file(form: &mut Multipart) -> Result<(String, Vec<u8>), &'static str> {
    loop {
        let Ok(field) = form.next_field().await else { return Err("import.broken_upload") };
        let Some(field) = field else { return Err("import.no_file") };
        let Some(name) = field.file_name().map(|name| name.chars().take(NAME_CHARS_MAX).collect::<String>()) else {
            continue;
        };
        let bytes = match field.bytes().await {
            Ok(bytes) => bytes,
            Err(error) if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE => {
                return Err("import.too_large");
            }
            Err(_) => return Err("import.broken_upload"),
        };
        return match bytes.len() {
            // A browser sends a part without a name when no file was chosen.
            0 if name.is_empty() => Err("import.no_file"),
            0 => Err("import.empty_file"),
            length if length > UPLOAD_BYTES_MAX => Err("import.too_large"),
            _ => Ok((name, bytes.to_vec())),
        };
    }
}

async fn check(site: Arc<Site>, job: Arc<Job>, actor: Actor, lang: import::Lang) {
    let nothing = Arc::new(|_, _| {});
    let bytes = Arc::clone(&job.bytes);
    let stage = match site.desk.import_people(&actor, &job.name, bytes, true, lang, nothing).await {
        Ok(report) => Stage::Checked(report),
        Err(error) => Stage::Failed(failure(&error, lang), false),
    };
    job.set(stage);
}

/// Why a file was not entered, in the language in which it was sent.
fn failure(error: &DeskError, lang: import::Lang) -> String {
    match error {
        DeskError::Refused(refusal) => refusal.words(lang.of_pages()),
        DeskError::Busy(detail) => {
            tracing::error!(detail, "a people file was not entered");
            lang.pick("总部暂时不能写入，请稍后再试", "headquarters cannot write at present; try again soon").to_owned()
        }
    }
}

async fn enter(site: Arc<Site>, job: Arc<Job>, actor: Actor, lang: import::Lang) {
    let turn = Arc::clone(&site.imports.turn);
    let _turn = turn.lock().await;
    let seen = Arc::clone(&job);
    let progress = Arc::new(move |done, all| {
        seen.done.store(done, Ordering::Relaxed);
        seen.all.store(all, Ordering::Relaxed);
    });
    let bytes = Arc::clone(&job.bytes);
    let stage = match site.desk.import_people(&actor, &job.name, bytes, false, lang, progress).await {
        Ok(report) => Stage::Applied(report),
        Err(error) => Stage::Failed(failure(&error, lang), job.done.load(Ordering::Relaxed) > 0),
    };
    job.set(stage);
}

fn shown(registry: &RegistryView, ui: &Ui, job: &Job) -> Shown {
    let stage = job.stage();
    let report = match &stage {
        Stage::Checked(report) | Stage::Applying(_, report) | Stage::Applied(report) => {
            Some(report_shown(registry, report))
        }
        Stage::Checking(_) | Stage::Failed(..) => None,
    };
    let (since, current) = match &stage {
        Stage::Checking(since) => (Some(*since), 1),
        Stage::Checked(_) | Stage::Failed(_, false) => (None, 1),
        Stage::Applying(since, _) => (Some(*since), 2),
        Stage::Failed(_, true) => (None, 2),
        Stage::Applied(_) => (None, 3),
    };
    Shown {
        id: job.id.clone(),
        name: job.name.clone(),
        steps: steps(ui, current),
        working: since.is_some(),
        applying: matches!(stage, Stage::Applying(..)),
        applied: matches!(stage, Stage::Applied(_)),
        failed: if let Stage::Failed(words, _) = &stage { Some(words.clone()) } else { None },
        partly: matches!(stage, Stage::Failed(_, true)),
        seconds: since.map_or(0, |since| since.elapsed().as_secs()),
        done: job.done.load(Ordering::Relaxed),
        all: job.all.load(Ordering::Relaxed).max(1),
        report,
    }
}

fn report_shown(registry: &RegistryView, report: &ImportReport) -> ReportShown {
    let name = |campus| campus_name(registry, Some(campus));
    let moves = report.moves.iter().map(|one| MoveShown {
        line: one.line,
        person: one.person,
        name: one.name.clone(),
        from: name(one.from),
        to: name(one.to),
    });
    ReportShown {
        moved: count(report.moved as u64),
        moves: moves.collect(),
        moves_hidden: report.moved.saturating_sub(report.moves.len()),
        new: count(report.new as u64),
        changed: count(report.changed as u64),
        same: count(report.same as u64),
        refused: count(report.refused as u64),
        refused_any: report.refused > 0,
        to_enter: report.new + report.moved + report.changed,
        rows: report.rows.clone(),
        rows_hidden: report.refused.saturating_sub(ROWS_SHOWN_MAX.min(report.rows.len())),
        warnings: report.warnings.iter().take(20).cloned().collect(),
    }
}

fn found(site: &Site, me: &Me, id: &str) -> Result<Arc<Job>, UiError> {
    site.imports.find(id, me.actor.operator).ok_or(UiError::NotFound)
}

pub(super) async fn job(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(id): Path<String>,
) -> Result<View<JobPage>, UiError> {
    let job = found(&site, &me, &id)?;
    let page = site.page(&ui, "import.title", "/import").crumb(job.name.clone());
    Ok(View::new(JobPage { page, v: shown(&site.desk.node.registry(), &ui, &job) }))
}

pub(super) async fn state(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(id): Path<String>,
) -> Result<View<JobState>, UiError> {
    let job = found(&site, &me, &id)?;
    Ok(View::new(JobState {
        page: site.page(&ui, "import.title", "/import"),
        v: shown(&site.desk.node.registry(), &ui, &job),
    }))
}

pub(super) async fn apply(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(id): Path<String>,
) -> Result<View<JobState>, UiError> {
    let job = found(&site, &me, &id)?;
    let begun = {
        let mut stage = job.stage.lock().unwrap_or_else(PoisonError::into_inner);
        // A second click finds it under way.
        match stage.clone() {
            Stage::Checked(report) => {
                *stage = Stage::Applying(Instant::now(), report);
                true
            }
            _ => false,
        }
    };
    if begun {
        tokio::spawn(enter(Arc::clone(&site), Arc::clone(&job), me.actor.clone(), file_lang(&ui)));
    }
    Ok(View::new(JobState {
        page: site.page(&ui, "import.title", "/import"),
        v: shown(&site.desk.node.registry(), &ui, &job),
    }))
}

pub(super) async fn errors(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(id): Path<String>,
) -> Result<Response, UiError> {
    let job = found(&site, &me, &id)?;
    let bytes = Arc::clone(&job.bytes);
    let book = site.desk.import_errors(&me.actor, &job.name, bytes, file_lang(&ui)).await.map_err(unread)?;
    Ok(attachment(XLSX, "yika-people-errors.xlsx", Body::from(book)))
}

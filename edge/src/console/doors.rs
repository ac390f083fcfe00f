//! Doors of this campus as they report themselves, opened from here with a reason (screen E8).
//!
//! What is shown after an order is the device's report, never a hope. Leaves to others: deciding and actuating
//! (`crate::doors`).

use super::{App, RUN, operator_id, show};
use crate::doors::{CommandFailure, Confirmation, DoorView, LineState, OpenRefused};
use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use yika_crdt::ids::DoorId;
use yika_drivers::door::{ContactState, RelayState};
use yika_ui::{CurrentOperator, Lang, Page, Tone, Ui, UiError, View};

#[derive(Template)]
#[template(path = "doors/page.html")]
pub(super) struct DoorsPage {
    page: Page,
    rows: Vec<DoorRow>,
    may_open: bool,
}

#[derive(Template)]
#[template(path = "doors/part.html")]
pub(super) struct DoorsPart {
    page: Page,
    rows: Vec<DoorRow>,
    may_open: bool,
}

#[derive(Template)]
#[template(path = "doors/ask.html")]
pub(super) struct AskPage {
    page: Page,
    id: u32,
    name: String,
    reason: String,
    problem: String,
}

struct DoorRow {
    id: u32,
    number: String,
    name: String,
    device: String,
    leaf_tone: &'static str,
    leaf: &'static str,
    lock_tone: &'static str,
    lock: &'static str,
    line_tone: &'static str,
    line: &'static str,
    age: String,
    last: String,
    last_time: String,
    problems: Vec<String>,
    reachable: bool,
}

#[derive(Deserialize)]
pub(super) struct OpenForm {
    #[serde(default)]
    reason: String,
}

/// The list.
pub(super) async fn page(ui: Ui, me: CurrentOperator, State(app): State<App>) -> Result<View<DoorsPage>, UiError> {
    let (rows, may_open) = (rows(&app, &ui), RUN.contains(&me.role));
    Ok(View::new(DoorsPage { page: app.page(&ui, "doors.title", "/doors"), rows, may_open }))
}

/// The part that refreshes itself.
pub(super) async fn part(ui: Ui, me: CurrentOperator, State(app): State<App>) -> Result<View<DoorsPart>, UiError> {
    let (rows, may_open) = (rows(&app, &ui), RUN.contains(&me.role));
    Ok(View::new(DoorsPart { page: app.page(&ui, "doors.title", "/doors"), rows, may_open }))
}

/// The question before opening.
pub(super) async fn ask(ui: Ui, State(app): State<App>, Path(door): Path<u32>) -> Result<View<AskPage>, UiError> {
    Ok(View::new(question(&app, &ui, door, String::new(), String::new())?))
}

/// Opens, and answers with what the device reported.
pub(super) async fn open(
    ui: Ui,
    me: CurrentOperator,
    State(app): State<App>,
    Path(door): Path<u32>,
    Form(form): Form<OpenForm>,
) -> Result<Response, UiError> {
    let said = app.0.doors.open(DoorId(door), operator_id(&me)?, &form.reason).await;
    let word = match said {
        Ok(Confirmation::ReadBack) => "open.read_back",
        Ok(Confirmation::Echo) => "open.echo",
        Ok(Confirmation::AlreadyUnlocked) => "open.already",
        Err(refused) => {
            let problem = refusal(&ui, &refused);
            return Ok(View::invalid(question(&app, &ui, door, form.reason, problem)?).into_response());
        }
    };
    let (rows, may_open) = (rows(&app, &ui), RUN.contains(&me.role));
    let part = DoorsPart { page: app.page(&ui, "doors.title", "/doors"), rows, may_open };
    let text = ui.t_args(word, &[("name", &app.door_name(DoorId(door)))]);
    let mut response = View::new(part).toast(Tone::Ok, text).into_response();
    // The dialog asked; the answer goes into the list behind it.
    for (name, value) in [("hx-retarget", "#doors"), ("hx-reswap", "outerMorph")] {
        response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
    }
    Ok(response)
}

fn question(app: &App, ui: &Ui, door: u32, reason: String, problem: String) -> Result<AskPage, UiError> {
    let known = app.node().access.read().doors.contains_key(&DoorId(door));
    if !known {
        return Err(UiError::NotFound);
    }
    Ok(AskPage { page: ui.page("open.title", "/doors"), id: door, name: app.door_name(DoorId(door)), reason, problem })
}

fn refusal(ui: &Ui, refused: &OpenRefused) -> String {
    match refused {
        OpenRefused::UnknownDoor(_) => ui.t("open.unknown").to_owned(),
        OpenRefused::ReasonMissing => ui.t("open.no_reason").to_owned(),
        OpenRefused::NoHardware { device } => ui.t_args("open.no_hardware", &[("device", device)]),
        OpenRefused::NoWordYet => ui.t("open.no_word").to_owned(),
        OpenRefused::Failed(CommandFailure::Stopped) => ui.t("open.stopping").to_owned(),
        OpenRefused::Failed(failure) => ui.t_args("open.failed", &[("why", &failure_words(ui, failure))]),
    }
}

/// Why the hardware did not open; in English with what the line said.
fn failure_words(ui: &Ui, failure: &CommandFailure) -> String {
    if ui.lang == Lang::En {
        return failure.to_string();
    }
    let code;
    let key = match failure {
        CommandFailure::UnknownDoor { .. } => "open.failure.unknown_door",
        CommandFailure::BadDuration { .. } => "open.failure.duration",
        CommandFailure::QueueFull => "open.failure.queue",
        CommandFailure::Stopped => "open.stopping",
        CommandFailure::LineDown { .. } => "open.failure.line",
        CommandFailure::Expired => "open.failure.expired",
        CommandFailure::Unconfirmed { .. } => "open.failure.unconfirmed",
        CommandFailure::Refused { code: given, .. } => {
            code = given.to_string();
            return ui.t_args("open.failure.refused", &[("code", &code)]);
        }
        CommandFailure::NotActuated => "open.failure.relay",
        CommandFailure::HeldClosed => "open.failure.held",
        CommandFailure::FireActive => "open.failure.fire",
    };
    ui.t(key).to_owned()
}

fn rows(app: &App, ui: &Ui) -> Vec<DoorRow> {
    app.0.doors.list().iter().map(|door| row(app, ui, door)).collect()
}

fn row(app: &App, ui: &Ui, door: &DoorView) -> DoorRow {
    let (leaf_tone, leaf) = leaf_words(door);
    let (lock_tone, lock) = lock_words(door);
    let (line_tone, line) = line_words(door);
    let last = door.last_event.map(|last| (app.door_word(ui, &last.event).1, ui.clock_text(last.at_ms)));
    let (last, last_time) = last.unwrap_or_default();
    DoorRow {
        id: door.door.0,
        number: door.door.to_string(),
        name: door.name.clone(),
        device: door.device.clone(),
        leaf_tone,
        leaf,
        lock_tone,
        lock,
        line_tone,
        line,
        age: door.age_ms.map_or_else(|| ui.t("show.never").to_owned(), |age_ms| show::age(ui, age_ms)),
        last,
        last_time,
        problems: door.problems.iter().map(|p| if ui.lang == Lang::Zh { p.0.clone() } else { p.1.clone() }).collect(),
        reachable: matches!(door.line, LineState::Up | LineState::Lost),
    }
}

/// The leaf as reported: colour and word.
pub(super) fn leaf_words(door: &DoorView) -> (&'static str, &'static str) {
    match door.contact {
        // A board that is heard reports every contact it has.
        ContactState::Unknown if door.line == LineState::Up => ("plain", "door.leaf.no_contact"),
        ContactState::Unknown => ("plain", "door.state.unknown"),
        ContactState::Open => ("warn", "door.state.open"),
        ContactState::Closed => ("ok", "door.state.closed"),
    }
}

/// The lock as reported.
pub(super) fn lock_words(door: &DoorView) -> (&'static str, &'static str) {
    match door.lock {
        _ if door.freed_by_fire => ("bad", "door.lock.fire"),
        RelayState::Unknown => ("plain", "door.state.unknown"),
        RelayState::Unlocked => ("warn", "door.lock.unlocked"),
        RelayState::Locked => ("ok", "door.lock.locked"),
    }
}

/// Whether the hardware is heard.
pub(super) fn line_words(door: &DoorView) -> (&'static str, &'static str) {
    match door.line {
        LineState::NoHardware => ("warn", "door.line.none"),
        LineState::DriverDown => ("bad", "door.line.down"),
        LineState::Lost => ("warn", "door.line.lost"),
        LineState::Up => ("ok", "door.line.up"),
    }
}

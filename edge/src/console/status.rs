//! Status of the box (screen E2): one word, the numbers behind it, what to do, what goes on working.
//!
//! Leaves to others: reading and judging the numbers (`crate::status`).

use super::doors::{leaf_words, line_words, lock_words};
use super::{App, INSPECT, RUN, operator_id, show};
use crate::periphery::{DoorGlance, Periphery, Problem, TerminalView};
use crate::status::{self, State};
use crate::terminals::Presence;
use askama::Template;
use axum::Form;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use time::format_description::well_known::Iso8601;
use time::{PrimitiveDateTime, UtcOffset};
use yika_crdt::edge::Command;
use yika_ui::{CurrentOperator, Lang, Page, Saved, Ui, UiError, View};

/// An hour typed by an operator may not be further from the wall clock than this.
const TYPED_TIME_OFF_MS_MAX: i64 = 7 * 86_400_000;

#[derive(Template)]
#[template(path = "status/page.html")]
pub(super) struct StatusPage {
    page: Page,
    glance: Glance,
}

#[derive(Template)]
#[template(path = "status/part.html")]
pub(super) struct StatusPart {
    page: Page,
    glance: Glance,
}

/// The status in words.
struct Glance {
    tone: &'static str,
    icon: &'static str,
    word: &'static str,
    lead: String,
    remarks: Vec<String>,
    tiles: Vec<Tile>,
    cut_off: bool,
    /// What goes on working, and what does not.
    works: Vec<(bool, &'static str)>,
    siblings: Vec<SiblingRow>,
    counts: Counts,
    terminals: Vec<TerminalRow>,
    doors: Vec<DoorRow>,
    inspects: bool,
    facts: Vec<(&'static str, String)>,
    confirms_time: bool,
    time_typed: String,
}

struct Tile {
    tone: &'static str,
    icon: &'static str,
    label: &'static str,
    value: String,
    note: String,
}

struct SiblingRow {
    name: String,
    node: String,
    tone: &'static str,
    word: &'static str,
    heard: String,
}

/// How many terminals stand how, as the head of their card says.
struct Counts {
    words: String,
    registered: bool,
}

/// A terminal that needs a look.
struct TerminalRow {
    name: String,
    number: String,
    tone: &'static str,
    word: &'static str,
    heard: String,
    problems: Vec<(&'static str, String)>,
}

struct DoorRow {
    name: String,
    number: String,
    line: (&'static str, &'static str),
    leaf: (&'static str, &'static str),
    lock: (&'static str, &'static str),
    age: String,
    problems: Vec<(&'static str, String)>,
}

/// The whole page.
pub(super) async fn page(ui: Ui, Shared(app): Shared<App>) -> Result<View<StatusPage>, UiError> {
    let glance = glance(&app, &ui)?;
    Ok(View::new(StatusPage { page: app.page(&ui, "status.title", "/status"), glance }))
}

/// The part that refreshes itself.
pub(super) async fn part(ui: Ui, Shared(app): Shared<App>) -> Result<View<StatusPart>, UiError> {
    let glance = glance(&app, &ui)?;
    Ok(View::new(StatusPart { page: app.page(&ui, "status.title", "/status"), glance }))
}

#[derive(Deserialize)]
pub(super) struct TimeForm {
    #[serde(default)]
    time: String,
}

/// An operator confirms the time while no hub is there: it can only move forward.
pub(super) async fn confirm_time(
    ui: Ui,
    me: CurrentOperator,
    Shared(app): Shared<App>,
    Form(form): Form<TimeForm>,
) -> Result<Response, UiError> {
    let typed = parse_time(&ui, &form.time).ok_or_else(|| UiError::Invalid(ui.t("clock.bad").to_owned()))?;
    let (now_ms, trusted) = app.node().time();
    if trusted {
        return Err(UiError::Conflict(ui.t("clock.trusted").to_owned()));
    }
    if (typed - ui.now_ms).abs() > TYPED_TIME_OFF_MS_MAX || typed < now_ms - 60_000 {
        let seen = ui.t_args("clock.far", &[("wall", &ui.time_text(ui.now_ms)), ("mark", &ui.time_text(now_ms))]);
        return Err(UiError::Invalid(seen));
    }
    let confirm = Command::ConfirmTime { hub_time_ms: typed, operator: operator_id(&me)? };
    app.node().call(confirm).await.map_err(|e| UiError::unavailable(e, Saved::Unknown))?;
    Ok(Redirect::to("/status").into_response())
}

/// `2026-11-24T12:31` in the campus' civil time.
fn parse_time(ui: &Ui, text: &str) -> Option<i64> {
    let text = if text.len() == 16 { format!("{text}:00") } else { text.to_owned() };
    let offset = UtcOffset::from_whole_seconds(i32::from(ui.kit.utc_offset_minutes) * 60).ok()?;
    let at = PrimitiveDateTime::parse(&text, &Iso8601::DEFAULT).ok()?.assume_offset(offset);
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

fn glance(app: &App, ui: &Ui) -> Result<Glance, UiError> {
    let status = app.status();
    let bare_doors = status.periphery.bare_doors();
    let (tone, icon, word, lead) = match status.state {
        State::Normal if bare_doors > 0 => ("warn", "triangle-alert", "state.notice", "state.notice.lead"),
        State::Normal => ("ok", "circle-check", "state.normal", "state.normal.lead"),
        State::Offline => ("warn", "wifi-off", "state.cut_off", "state.cut_off.lead"),
        State::Attention | State::Down => ("bad", "triangle-alert", "state.attention", "state.attention.lead"),
    };
    let counts = app.node().people.read().counts();
    let stand = status.periphery.counts();
    let runs = ui.operator.as_ref().is_some_and(|o| RUN.contains(&o.role));
    let remark = |remark: &status::Remark| if ui.lang == Lang::Zh { remark.zh.clone() } else { remark.en.clone() };
    Ok(Glance {
        tone,
        icon,
        word,
        lead: ui.t_args(lead, &[("n", &bare_doors.to_string())]),
        remarks: status.remarks.iter().map(remark).collect(),
        tiles: tiles(ui, &status),
        cut_off: !status.hub_connected,
        works: works(status.shut.is_some()),
        siblings: siblings(ui, &status),
        counts: Counts {
            words: ui.t_args(
                "status.terminals",
                &[
                    ("all", &show::count(status.periphery.terminals.len() as u64)),
                    ("online", &show::count(stand.online as u64)),
                    ("late", &show::count(stand.late as u64)),
                    ("lost", &show::count(stand.lost as u64)),
                    ("unheard", &show::count(stand.unheard as u64)),
                    ("off", &show::count(stand.out_of_use as u64)),
                ],
            ),
            registered: !status.periphery.terminals.is_empty(),
        },
        terminals: terminals(ui, &status.periphery),
        doors: status.periphery.doors.iter().map(|door| door_row(ui, door)).collect(),
        inspects: ui.operator.as_ref().is_some_and(|o| INSPECT.contains(&o.role)),
        facts: vec![
            ("status.people", show::count(counts.0 as u64)),
            ("status.cards", show::count(counts.1 as u64)),
            ("status.hub_name", format!("{} {}", status.hub_name, status.hub_addr)),
            ("status.software", status.software.clone()),
            ("status.certificate", status.certificate_days.map_or_else(|| "—".to_owned(), |d| days(ui, d))),
            ("status.uptime", show::span(ui, status.uptime_ms)),
        ],
        confirms_time: runs && !status.clock_trusted && !status.hub_connected,
        time_typed: ui.time_text(ui.now_ms.max(status.hub_time_ms)).replace(' ', "T"),
    })
}

/// What works without headquarters: while nothing may be appended to the journal, neither sales nor what follows them.
fn works(is_shut: bool) -> Vec<(bool, &'static str)> {
    let (sell, refund, block) = match is_shut {
        true => ("works.not_sell", "works.not_refund", "works.not_block"),
        false => ("works.sell", "works.refund", "works.block"),
    };
    let own = [(true, "works.doors"), (!is_shut, sell), (!is_shut, refund), (!is_shut, block), (true, "works.login")];
    let mut works = [&own[..], &[(false, "works.not_topup"), (false, "works.not_people")]].concat();
    // What works first, in the order of its weight for a canteen.
    works.sort_by_key(|(works, word)| (!works, *word != sell));
    works
}

fn tiles(ui: &Ui, status: &status::Status) -> Vec<Tile> {
    let tile = |tone, icon, label, value, note| Tile { tone, icon, label, value, note };
    let heard = status.hub_heard_age_ms.or(status.lists_age_ms);
    let lease_tone = match status.lease_left_ms {
        Some(left) if left >= status::LEASE_LEFT_MS_MIN => "ok",
        Some(left) if left > 0 => "warn",
        _ => "bad",
    };
    let lease = match status.lease_left_ms {
        Some(left) if left > 0 => show::span(ui, left.unsigned_abs()),
        Some(_) => ui.t("status.lease.over").to_owned(),
        None => ui.t("status.lease.none").to_owned(),
    };
    let oldest = match status.unsent_age_ms {
        Some(age_ms) => ui.t_args("status.oldest", &[("t", &show::age(ui, age_ms))]),
        None => ui.t("status.all_sent").to_owned(),
    };
    // Nothing is confirmed to a fenced box; that says nothing of what headquarters has.
    let oldest = if status.fenced && status.unsent > 0 { ui.t("status.unsent.fenced").to_owned() } else { oldest };
    let clock = if status.clock_trusted { ("ok", "status.clock.trusted") } else { ("bad", "status.clock.untrusted") };
    let hub = if status.hub_connected { ("ok", "status.hub.linked") } else { ("warn", "status.hub.cut") };
    let unsent = if status.unsent == 0 { "ok" } else { "info" };
    let mut tiles = vec![
        tile(unsent, "upload", "status.unsent", show::count(status.unsent), oldest),
        tile(
            hub.0,
            "building-2",
            "status.hub",
            heard.map_or_else(|| ui.t("show.never").to_owned(), |age_ms| show::age(ui, age_ms)),
            ui.t(hub.1).to_owned(),
        ),
        tile(lease_tone, "shield-check", "status.lease", lease, ui.t("status.lease.note").to_owned()),
        tile(clock.0, "clock", "status.clock", ui.clock_text(status.hub_time_ms), ui.t(clock.1).to_owned()),
    ];
    if let Some(disk) = &status.disk {
        let tone = if disk.free_bytes < status::DISK_FREE_BYTES_MIN { "bad" } else { "ok" };
        let note = ui.t_args("status.disk.note", &[("size", &show::bytes(status.database_bytes))]);
        tiles.push(tile(tone, "hard-drive", "status.disk", show::bytes(disk.free_bytes), note));
    }
    tiles
}

fn days(ui: &Ui, days: i64) -> String {
    ui.t_args("show.days", &[("n", &days.to_string())])
}

fn siblings(ui: &Ui, status: &status::Status) -> Vec<SiblingRow> {
    let row = |sibling: &status::Sibling| SiblingRow {
        name: sibling.name.clone(),
        node: format!("n{}", sibling.node),
        tone: if sibling.connected { "ok" } else { "warn" },
        word: if sibling.connected { "status.sibling.linked" } else { "status.sibling.cut" },
        heard: sibling.heard_age_ms.map_or_else(|| ui.t("show.never").to_owned(), |age_ms| show::age(ui, age_ms)),
    };
    status.siblings.iter().map(row).collect()
}

/// Terminals that are not as they should be, worst first.
fn terminals(ui: &Ui, periphery: &Periphery) -> Vec<TerminalRow> {
    let mut looked: Vec<&TerminalView> = periphery.terminals.iter().filter(|t| !t.problems.is_empty()).collect();
    let late = |t: &&TerminalView| t.presence == Some(Presence::Late) && t.problems.is_empty();
    looked.extend(periphery.terminals.iter().filter(late));
    looked.sort_by_key(|t| !t.problems.iter().any(|p| p.wrong));
    let row = |t: &&TerminalView| {
        let (tone, word) = presence_words(t.presence);
        TerminalRow {
            name: t.name.clone(),
            number: t.terminal.to_string(),
            tone,
            word,
            heard: t.heard_age_ms.map_or_else(|| ui.t("show.never").to_owned(), |age_ms| show::age(ui, age_ms)),
            problems: said(ui, &t.problems, &t.label(), false),
        }
    };
    looked.iter().map(row).collect()
}

/// How a terminal stands: colour and word.
pub(super) fn presence_words(presence: Option<Presence>) -> (&'static str, &'static str) {
    match presence {
        Some(Presence::Online) => ("ok", "presence.online"),
        Some(Presence::Late) => ("warn", "presence.late"),
        Some(Presence::Lost) => ("bad", "presence.lost"),
        None => ("plain", "presence.unheard"),
    }
}

fn door_row(ui: &Ui, door: &DoorGlance) -> DoorRow {
    let view = &door.view;
    DoorRow {
        name: view.name.clone(),
        number: view.door.to_string(),
        line: line_words(view),
        leaf: leaf_words(view),
        lock: lock_words(view),
        age: view.age_ms.map_or_else(|| ui.t("show.never").to_owned(), |age_ms| show::age(ui, age_ms)),
        problems: said(ui, &door.judged, &format!("{} {}", view.door, view.name), true),
    }
}

/// What was seen, and what to do where it needs hands or `always`, without the name that stands beside it; with its class.
fn said(ui: &Ui, problems: &[Problem], label: &str, always: bool) -> Vec<(&'static str, String)> {
    let at = usize::from(ui.lang != Lang::Zh);
    let words = |p: &Problem| {
        let seen = p.seen[at].strip_prefix(label).map_or(p.seen[at].as_str(), |rest| rest.trim_start_matches(": "));
        match p.wrong {
            true => ("is-problem", format!("{seen} → {}", p.mend[at])),
            false if always => ("is-remark", format!("{seen} → {}", p.mend[at])),
            false => ("is-remark", seen.to_owned()),
        }
    };
    problems.iter().map(words).collect()
}

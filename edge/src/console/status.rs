//! Status of the box (screen E2): one word, the numbers behind it, what to do, what goes on working.
//!
//! Leaves to others: reading the numbers (`facts`).

use super::facts::{Facts, State, Trouble};
use super::{App, operator_id, show};
use askama::Template;
use axum::Form;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use time::format_description::well_known::Iso8601;
use time::{PrimitiveDateTime, UtcOffset};
use yika_crdt::edge::Command;
use yika_ui::{CurrentOperator, Page, Role, Saved, Ui, UiError, View};

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

/// The facts in words.
struct Glance {
    tone: &'static str,
    icon: &'static str,
    word: &'static str,
    lead: &'static str,
    cut_off: bool,
    unsent: String,
    oldest: String,
    unsent_tone: &'static str,
    hub_name: String,
    hub_age: String,
    hub_tone: &'static str,
    hub_note: &'static str,
    lease: String,
    lease_tone: &'static str,
    clock: String,
    clock_tone: &'static str,
    clock_note: &'static str,
    people: String,
    cards: String,
    siblings: Vec<SiblingRow>,
    troubles: Vec<TroubleRow>,
    confirms_time: bool,
    time_typed: String,
}

struct SiblingRow {
    name: String,
    node: String,
    tone: &'static str,
    word: &'static str,
    heard: String,
}

struct TroubleRow {
    tone: &'static str,
    icon: &'static str,
    title: &'static str,
    hint: &'static str,
}

/// The whole page.
pub(super) async fn page(ui: Ui, Shared(app): Shared<App>) -> Result<View<StatusPage>, UiError> {
    let glance = glance(&app, &ui)?;
    Ok(View::new(StatusPage { page: app.page(&ui, "status.title", "/status")?, glance }))
}

/// The part that refreshes itself.
pub(super) async fn part(ui: Ui, Shared(app): Shared<App>) -> Result<View<StatusPart>, UiError> {
    let glance = glance(&app, &ui)?;
    Ok(View::new(StatusPart { page: app.page(&ui, "status.title", "/status")?, glance }))
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
    let (now_ms, trusted) = app.now()?;
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
    let read = tokio::task::block_in_place(|| Facts::read(app.node()));
    let facts = read.map_err(|e| UiError::unavailable(e, Saved::Nothing))?;
    let (tone, icon, word, lead) = match facts.state() {
        State::Normal => ("ok", "circle-check", "state.normal", "state.normal.lead"),
        State::CutOff => ("warn", "wifi-off", "state.cut_off", "state.cut_off.lead"),
        State::Attention => ("bad", "triangle-alert", "state.attention", "state.attention.lead"),
    };
    let has = |trouble| facts.troubles.contains(&trouble);
    let never = || ui.t("show.never").to_owned();
    let admin = ui.operator.as_ref().is_some_and(|o| o.role == Role::Admin);
    Ok(Glance {
        tone,
        icon,
        word,
        lead,
        cut_off: !facts.hub_linked,
        unsent: show::count(facts.unsent()),
        oldest: match facts.oldest_age_ms {
            Some(age_ms) => ui.t_args("status.oldest", &[("t", &show::age(ui, age_ms))]),
            None => ui.t("status.all_sent").to_owned(),
        },
        unsent_tone: if facts.unsent() == 0 { "ok" } else { "info" },
        hub_name: app.node().hub_name.clone(),
        hub_age: facts.hub_age_ms.map_or_else(never, |age_ms| show::age(ui, age_ms)),
        hub_tone: if facts.hub_linked { "ok" } else { "warn" },
        hub_note: if facts.hub_linked { "status.hub.linked" } else { "status.hub.cut" },
        lease: match facts.lease_left_ms {
            Some(left) if left >= 0 => show::span(ui, left),
            Some(_) => ui.t("status.lease.over").to_owned(),
            None => ui.t("status.lease.none").to_owned(),
        },
        lease_tone: match () {
            () if has(Trouble::NoLease) => "bad",
            () if has(Trouble::LeaseShort) => "warn",
            () => "ok",
        },
        clock: ui.clock_text(facts.now_ms),
        clock_tone: if facts.trusted { "ok" } else { "bad" },
        clock_note: if facts.trusted { "status.clock.trusted" } else { "status.clock.untrusted" },
        people: show::count(facts.known.0 as u64),
        cards: show::count(facts.known.1 as u64),
        siblings: siblings(ui, &facts),
        troubles: facts.troubles.iter().map(|trouble| words_of(*trouble)).collect(),
        confirms_time: admin && !facts.trusted && !facts.hub_linked,
        time_typed: ui.time_text(ui.now_ms.max(facts.now_ms)).replace(' ', "T"),
    })
}

fn siblings(ui: &Ui, facts: &Facts) -> Vec<SiblingRow> {
    let row = |sibling: &super::facts::Sibling| SiblingRow {
        name: sibling.name.clone(),
        node: sibling.node.to_string(),
        tone: if sibling.linked { "ok" } else { "warn" },
        word: if sibling.linked { "status.sibling.linked" } else { "status.sibling.cut" },
        heard: sibling.heard_age_ms.map_or_else(|| ui.t("show.never").to_owned(), |age_ms| show::age(ui, age_ms)),
    };
    facts.siblings.iter().map(row).collect()
}

fn words_of(trouble: Trouble) -> TroubleRow {
    let row = |tone, icon, title, hint| TroubleRow { tone, icon, title, hint };
    match trouble {
        Trouble::Fenced => row("bad", "ban", "trouble.fenced", "trouble.fenced.hint"),
        Trouble::Clock => row("bad", "clock", "trouble.clock", "trouble.clock.hint"),
        Trouble::NoLease => row("bad", "lock", "trouble.no_lease", "trouble.no_lease.hint"),
        Trouble::LeaseShort => row("warn", "clock", "trouble.lease_short", "trouble.lease_short.hint"),
        Trouble::NoTariff => row("bad", "receipt", "trouble.no_tariff", "trouble.no_tariff.hint"),
        Trouble::Quarantine => row("bad", "inbox", "trouble.quarantine", "trouble.quarantine.hint"),
        Trouble::Fork => row("bad", "copy", "trouble.fork", "trouble.fork.hint"),
    }
}

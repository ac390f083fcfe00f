//! Terminals 终端 and campuses 园区: what the registry lists, registered and changed here.

use super::shared::*;
use crate::desk::{DeskError, NewTerminal};
use askama::Template;
use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use yika_crdt::entry::{CampusRecord, TerminalKind, TerminalRecord, TerminalState};
use yika_crdt::ids::*;
use yika_ui::{Choice, Page, Role, Ui, UiError, View};

#[derive(Template)]
#[template(path = "terminals.html")]
pub(super) struct Terminals {
    page: Page,
    rows: Vec<TerminalLine>,
    admin: bool,
    campuses: bool,
}

struct TerminalLine {
    id: TerminalId,
    name: String,
    kind: &'static str,
    campus: String,
    place: Named,
    tone: &'static str,
    state: &'static str,
    deployed: bool,
    scrapped: bool,
}

pub(super) async fn terminals(State(site): State<Arc<Site>>, ui: Ui, me: Me) -> View<Terminals> {
    let registry = site.desk.node.registry();
    let scope = site.scope(&ui).campus;
    let shown = registry.terminals.values().filter(|t| scope.is_none_or(|campus| t.campus == campus));
    let rows = shown.map(|t| {
        let (tone, state) = match t.state {
            TerminalState::Deployed => ("ok", "terminal.state.deployed"),
            TerminalState::Suspended => ("warn", "terminal.state.suspended"),
            TerminalState::Scrapped => ("plain", "terminal.state.scrapped"),
        };
        let (kind, place) = match t.kind {
            TerminalKind::Till => ("terminal.kind.till", till_place(&ui, t)),
            TerminalKind::Door => (
                "terminal.kind.door",
                Named { name: t.door.map(|d| d.to_string()).unwrap_or_default(), ..Named::default() },
            ),
            TerminalKind::Attendance => ("terminal.kind.attendance", Named { name: "–".into(), ..Named::default() }),
        };
        TerminalLine {
            id: t.terminal,
            name: t.name.clone(),
            kind,
            campus: campus_name(&registry, Some(t.campus)),
            place,
            tone,
            state,
            deployed: t.state == TerminalState::Deployed,
            scrapped: t.state == TerminalState::Scrapped,
        }
    });
    View::new(Terminals {
        rows: rows.collect(),
        admin: me.operator.role == Role::Admin,
        campuses: !registry.campuses.is_empty(),
        page: site.page(&ui, "terminals.title", "/terminals"),
    })
}

/// Where a till sells and for whom, in words and by number.
fn till_place(ui: &Ui, till: &TerminalRecord) -> Named {
    let (outlet, merchant) = (outlet_words(ui, till.outlet), merchant_words(ui, till.merchant));
    Named {
        name: format!("{} · {}", outlet.name, merchant.name), code: format!("{} · {}", outlet.code, merchant.code)
    }
}

#[derive(Template)]
#[template(path = "terminal_new.html")]
pub(super) struct TerminalForm {
    page: Page,
    campuses: Vec<Choice>,
    kinds: Vec<Choice>,
    wish: TerminalWish,
    problem: String,
}

#[derive(Template)]
#[template(path = "terminal_made.html")]
pub(super) struct TerminalDone {
    page: Page,
    id: TerminalId,
    name: String,
    version: u16,
    key: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TerminalWish {
    campus: String,
    kind: String,
    name: String,
    outlet: String,
    merchant: String,
    door: String,
}

fn terminal_form(site: &Site, ui: &Ui, me: &Me, wish: TerminalWish, problem: String) -> TerminalForm {
    let mut campuses = campus_choices(&site.desk.node.registry());
    campuses.retain(|c| me.actor.campus.is_none_or(|own| own.to_string() == c.value));
    TerminalForm {
        page: site.page(ui, "terminal.new", "/terminals"),
        campuses,
        kinds: choices(ui, "terminal.kind", &["till", "door", "attendance"]),
        wish,
        problem,
    }
}

pub(super) async fn new_terminal(State(site): State<Arc<Site>>, ui: Ui, me: Me) -> View<TerminalForm> {
    let campus = site.scope(&ui).campus.map(|c| c.to_string()).unwrap_or_default();
    let wish = TerminalWish { campus, kind: "till".into(), ..TerminalWish::default() };
    View::new(terminal_form(&site, &ui, &me, wish, String::new()))
}

pub(super) async fn register_terminal(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Form(wish): Form<TerminalWish>,
) -> Result<Response, UiError> {
    let new = match terminal_of(&ui, &wish) {
        Ok(new) => new,
        Err(problem) => {
            return Ok(View::invalid(terminal_form(&site, &ui, &me, wish, problem)).into_response());
        }
    };
    let name = new.name.clone();
    match site.desk.register_terminal(&me.actor, new).await {
        Ok(made) => Ok(View::new(TerminalDone {
            page: site.page(&ui, "terminal.new", "/terminals"),
            id: made.terminal,
            name,
            version: made.version,
            key: made.key,
        })
        .into_response()),
        Err(DeskError::Refused(refusal)) => {
            let words = refusal.words(ui.lang);
            Ok(View::invalid(terminal_form(&site, &ui, &me, wish, words)).into_response())
        }
        Err(other) => Err(failed(other)),
    }
}

/// What the form asks for; else what is wrong with it.
fn terminal_of(ui: &Ui, wish: &TerminalWish) -> Result<NewTerminal, String> {
    let number = |text: &str, key: &str| match text.trim() {
        "" => Ok(0),
        text => text.trim_start_matches(char::is_alphabetic).parse::<u32>().map_err(|_| ui.t(key).to_owned()),
    };
    let campus = wish.campus.parse::<CampusId>().map_err(|_| ui.t("edge.token.no_campus").to_owned())?;
    let (outlet, merchant) =
        (number(&wish.outlet, "terminal.bad_number")?, number(&wish.merchant, "terminal.bad_number")?);
    let door = number(&wish.door, "terminal.bad_number")?;
    let till = wish.kind == "till";
    if wish.kind == "door" && door == 0 {
        return Err(ui.t("terminal.door_needs").to_owned());
    }
    let name = wish.name.trim().to_owned();
    if name.is_empty() || name.chars().count() > crate::desk::NAME_CHARS_MAX {
        return Err(ui.t_args("word.bad_name", &[("n", &crate::desk::NAME_CHARS_MAX.to_string())]));
    }
    Ok(NewTerminal {
        campus,
        kind: wish.kind.clone(),
        name,
        outlet: OutletId(if till { outlet } else { 0 }),
        merchant: MerchantId(if till { merchant } else { 0 }),
        door: (wish.kind == "door").then_some(DoorId(door)),
    })
}

#[derive(Deserialize)]
pub(super) struct StateWish {
    #[serde(default)]
    state: String,
}

pub(super) async fn set_terminal_state(
    State(site): State<Arc<Site>>,
    me: Me,
    Path(terminal): Path<String>,
    Form(wish): Form<StateWish>,
) -> Result<Response, UiError> {
    let terminal: TerminalId = id(&terminal)?;
    let registry = site.desk.node.registry();
    let record = registry.terminals.get(&terminal).ok_or(UiError::NotFound)?;
    me.may_see(Some(record.campus))?;
    let state = match wish.state.as_str() {
        "deployed" => TerminalState::Deployed,
        "suspended" => TerminalState::Suspended,
        _ => return Err(UiError::NotFound),
    };
    site.desk.set_terminal_state(&me.actor, terminal, state).await.map_err(failed)?;
    Ok(([("hx-redirect", "/terminals")], "").into_response())
}

#[derive(Template)]
#[template(path = "campuses.html")]
pub(super) struct Campuses {
    page: Page,
    rows: Vec<CampusLine>,
    admin: bool,
    /// May add one: that is for headquarters.
    chief: bool,
}

struct CampusLine {
    id: CampusId,
    name: String,
    offset: String,
    cut: String,
    edges: usize,
    terminals: usize,
}

pub(super) async fn campuses(State(site): State<Arc<Site>>, ui: Ui, me: Me) -> View<Campuses> {
    let registry = site.desk.node.registry();
    let boxes = registry.boxes();
    let mine = |c: &&CampusRecord| me.actor.campus.is_none_or(|own| own == c.campus);
    let rows = registry.campuses.values().filter(mine).map(|c| CampusLine {
        id: c.campus,
        name: c.name.clone(),
        offset: format!("UTC{:+03}:{:02}", c.utc_offset_minutes / 60, (c.utc_offset_minutes % 60).abs()),
        cut: clock_text(c.cut_minute),
        edges: boxes.iter().filter(|b| b.campus == Some(c.campus)).count(),
        terminals: registry.terminals.values().filter(|t| t.campus == c.campus).count(),
    });
    View::new(Campuses {
        rows: rows.collect(),
        admin: me.operator.role == Role::Admin,
        chief: me.is_chief(),
        page: site.page(&ui, "campuses.title", "/campuses"),
    })
}

/// Minutes after midnight as `03:00`.
pub(super) fn clock_text(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

#[derive(Template)]
#[template(path = "campus_edit.html")]
pub(super) struct CampusForm {
    page: Page,
    wish: CampusWish,
    known: bool,
    problem: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CampusWish {
    campus: String,
    name: String,
    offset: String,
    cut: String,
}

#[derive(Deserialize)]
pub(super) struct WhichCampus {
    #[serde(default)]
    campus: String,
}

pub(super) async fn edit_campus(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Query(which): Query<WhichCampus>,
) -> Result<View<CampusForm>, UiError> {
    let registry = site.desk.node.registry();
    let known = which.campus.parse::<CampusId>().ok().and_then(|c| registry.campuses.get(&c));
    let wish = match known {
        Some(record) => {
            me.may_see(Some(record.campus))?;
            CampusWish {
                campus: record.campus.0.to_string(),
                name: record.name.clone(),
                offset: record.utc_offset_minutes.to_string(),
                cut: clock_text(record.cut_minute),
            }
        }
        None => {
            me.of_headquarters()?;
            let next = registry.campuses.keys().next_back().map_or(1, |c| c.0.saturating_add(1));
            CampusWish { campus: next.to_string(), name: String::new(), offset: "480".into(), cut: "03:00".into() }
        }
    };
    let page = site.page(&ui, "campus.edit", "/campuses");
    Ok(View::new(CampusForm { page, wish, known: known.is_some(), problem: String::new() }))
}

pub(super) async fn put_campus(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Form(wish): Form<CampusWish>,
) -> Result<Response, UiError> {
    let invalid = |problem: String| {
        let known = wish.campus.parse().is_ok_and(|c| site.desk.node.registry().campuses.contains_key(&CampusId(c)));
        let page = site.page(&ui, "campus.edit", "/campuses");
        View::invalid(CampusForm { page, wish: wish.clone(), known, problem }).into_response()
    };
    let minute = wish.cut.split_once(':').and_then(|(hour, minute)| {
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    });
    let (Ok(campus), Ok(utc_offset_minutes), Some(cut_minute)) =
        (wish.campus.trim().parse::<CampusId>(), wish.offset.trim().parse::<i16>(), minute)
    else {
        return Ok(invalid(ui.t("campus.bad").to_owned()));
    };
    me.may_see(Some(campus))?;
    let name = wish.name.trim().to_owned();
    if name.is_empty() || name.chars().count() > crate::desk::NAME_CHARS_MAX {
        let most = crate::desk::NAME_CHARS_MAX.to_string();
        return Ok(invalid(ui.t_args("word.bad_name", &[("n", &most)])));
    }
    let people_shards = yika_crdt::docs::PEOPLE_SHARDS_DEFAULT;
    let record = CampusRecord { campus, name, utc_offset_minutes, cut_minute, people_shards };
    match site.desk.put_campus(&me.actor, record).await {
        Ok(()) => Ok(([("hx-redirect", "/campuses")], "").into_response()),
        Err(DeskError::Refused(refusal)) => Ok(invalid(refusal.words(ui.lang))),
        Err(other) => Err(failed(other)),
    }
}

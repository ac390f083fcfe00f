//! Operators 操作员 and the audit 审计.

use super::shared::*;
use crate::desk::{DeskError, NewOperator};
use crate::store::OperatorRow;
use crate::store::people;
use crate::store::read::{self, AuditLine, AuditQuery};
use askama::Template;
use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use yika_crdt::ids::*;
use yika_ui::auth::{check_password, normal_login};
use yika_ui::{Choice, Page, Role, Ui, UiError, View};

/// Lines on a page of the audit.
const AUDIT_ROWS: u32 = 50;

#[derive(Template)]
#[template(path = "operators.html")]
pub(super) struct Operators {
    page: Page,
    rows: Vec<OperatorLine>,
}

struct OperatorLine {
    id: OperatorId,
    login: String,
    name: String,
    role: &'static str,
    campus: String,
    tone: &'static str,
    state: &'static str,
    active: bool,
    own: bool,
}

pub(super) async fn list(State(site): State<Arc<Site>>, ui: Ui, me: Me) -> Result<View<Operators>, UiError> {
    let registry = site.desk.node.registry();
    let all = site.desk.node.query(read::operators).await.map_err(busy)?;
    let mine = |row: &OperatorRow| me.actor.campus.is_none() || row.campus == me.actor.campus;
    let line = |row: OperatorRow| {
        let (tone, state) = match (row.active, row.must_change) {
            (false, _) => ("plain", "operator.state.off"),
            (true, true) => ("warn", "operator.state.fresh"),
            (true, false) => ("ok", "operator.state.active"),
        };
        OperatorLine {
            id: row.operator,
            own: row.operator == me.actor.operator,
            role: Role::from_code(&row.role).map_or("word.unknown", Role::label),
            campus: row
                .campus
                .map_or_else(|| ui.t("word.headquarters").to_owned(), |c| campus_name(&registry, Some(c))),
            tone,
            state,
            active: row.active,
            login: row.login,
            name: row.name,
        }
    };
    Ok(View::new(Operators {
        rows: all.into_iter().filter(mine).map(line).collect(),
        page: site.page(&ui, "operators.title", "/operators"),
    }))
}

#[derive(Template)]
#[template(path = "operator_new.html")]
pub(super) struct OperatorForm {
    page: Page,
    campuses: Vec<Choice>,
    roles: Vec<Choice>,
    wish: OperatorWish,
    problem: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct OperatorWish {
    login: String,
    name: String,
    role: String,
    campus: String,
    password: String,
}

fn operator_form(site: &Site, ui: &Ui, me: &Me, wish: OperatorWish, problem: String) -> OperatorForm {
    let registry = site.desk.node.registry();
    let mut campuses = campus_choices(&registry);
    campuses.retain(|c| me.actor.campus.is_none_or(|own| own.to_string() == c.value));
    if me.actor.campus.is_none() {
        campuses.insert(0, Choice { value: String::new(), text: ui.t("word.headquarters").to_owned() });
    }
    let role = |role: Role| Choice { value: role.code().to_owned(), text: ui.t(role.label()).to_owned() };
    OperatorForm {
        page: site.page(ui, "operator.new", "/operators"),
        campuses,
        roles: [Role::Clerk, Role::Cashier, Role::Auditor, Role::Admin].map(role).into(),
        wish,
        problem,
    }
}

pub(super) async fn new(State(site): State<Arc<Site>>, ui: Ui, me: Me) -> View<OperatorForm> {
    View::new(operator_form(&site, &ui, &me, OperatorWish::default(), String::new()))
}

pub(super) async fn add(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Form(wish): Form<OperatorWish>,
) -> Result<Response, UiError> {
    let campus = match wish.campus.as_str() {
        "" => None,
        text => Some(id::<CampusId>(text)?),
    };
    let login = normal_login(&wish.login);
    let problem = match check_password(&wish.password, &[&login, &wish.name]) {
        _ if login.is_empty() || wish.name.trim().is_empty() => Some("operator.needs_names"),
        Err(key) => Some(key),
        Ok(()) => None,
    };
    if let Some(key) = problem {
        let problem = ui.t(key).to_owned();
        return Ok(View::invalid(operator_form(&site, &ui, &me, wish, problem)).into_response());
    }
    let new = NewOperator {
        login,
        name: wish.name.trim().to_owned(),
        role: wish.role.clone(),
        campus,
        password: wish.password.clone(),
        keep_password: false,
    };
    match site.desk.add_operator(&me.actor, new).await {
        Ok(_) => Ok(([("hx-redirect", "/operators")], "").into_response()),
        Err(DeskError::Refused(refusal)) => {
            let words = refusal.words(ui.lang);
            Ok(View::invalid(operator_form(&site, &ui, &me, wish, words)).into_response())
        }
        Err(other) => Err(failed(other)),
    }
}

#[derive(Deserialize)]
pub(super) struct ActiveWish {
    #[serde(default)]
    active: String,
}

pub(super) async fn set_active(
    State(site): State<Arc<Site>>,
    me: Me,
    Path(operator): Path<String>,
    Form(wish): Form<ActiveWish>,
) -> Result<Response, UiError> {
    let active = match wish.active.as_str() {
        "1" => true,
        "0" => false,
        _ => return Err(UiError::NotFound),
    };
    site.desk.set_operator_active(&me.actor, id(&operator)?, active).await.map_err(failed)?;
    Ok(([("hx-redirect", "/operators")], "").into_response())
}

#[derive(Template)]
#[template(path = "operator_password.html")]
pub(super) struct PasswordForm {
    page: Page,
    id: OperatorId,
    name: String,
    login: String,
    problem: String,
}

#[derive(Deserialize)]
pub(super) struct PasswordWish {
    #[serde(default)]
    password: String,
}

async fn operator_row(site: &Site, me: &Me, text: &str) -> Result<OperatorRow, UiError> {
    let number: OperatorId = id(text)?;
    let found = site.desk.node.query(move |conn| read::operator_by_id(conn, number)).await.map_err(busy)?;
    let row = found.ok_or(UiError::NotFound)?;
    me.may_see(row.campus)?;
    Ok(row)
}

pub(super) async fn ask_password(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(operator): Path<String>,
) -> Result<View<PasswordForm>, UiError> {
    let row = operator_row(&site, &me, &operator).await?;
    let page = site.page(&ui, "operator.password", "/operators");
    Ok(View::new(PasswordForm { page, id: row.operator, name: row.name, login: row.login, problem: String::new() }))
}

pub(super) async fn reset(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(operator): Path<String>,
    Form(wish): Form<PasswordWish>,
) -> Result<Response, UiError> {
    let row = operator_row(&site, &me, &operator).await?;
    if let Err(key) = check_password(&wish.password, &[&row.login, &row.name]) {
        let page = site.page(&ui, "operator.password", "/operators");
        let problem = ui.t(key).to_owned();
        let form = PasswordForm { page, id: row.operator, name: row.name, login: row.login, problem };
        return Ok(View::invalid(form).into_response());
    }
    site.desk.reset_password(&me.actor, &row.login, wish.password).await.map_err(failed)?;
    Ok(([("hx-redirect", "/operators")], "").into_response())
}

#[derive(Template)]
#[template(path = "audit.html")]
pub(super) struct AuditPage {
    page: Page,
    rows: Vec<AuditShown>,
    who: String,
    act: String,
    object: String,
    acts: Vec<Choice>,
    older: Option<String>,
    newest: String,
    first: bool,
}

struct AuditShown {
    number: i64,
    time: String,
    who: String,
    act: String,
    object: Named,
    detail: String,
    origin: String,
}

/// Groups of acts in the filter.
const ACT_GROUPS: [&str; 13] = [
    "",
    "sign_in",
    "person",
    "people",
    "card",
    "account",
    "sale",
    "till",
    "door",
    "edge",
    "operator",
    "backup",
    "transactions",
];

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuditFilter {
    who: String,
    act: String,
    object: String,
    before: Option<i64>,
}

pub(super) async fn audit(
    State(site): State<Arc<Site>>,
    ui: Ui,
    Query(filter): Query<AuditFilter>,
) -> Result<View<AuditPage>, UiError> {
    let query = AuditQuery {
        who: shortened(&filter.who).to_lowercase(),
        act: shortened(&filter.act),
        object: shortened(&filter.object),
        before: filter.before,
        limit: AUDIT_ROWS + 1,
        ..AuditQuery::default()
    };
    let (who, act, object) = (query.who.clone(), query.act.clone(), query.object.clone());
    let read = site.desk.node.query(move |conn| {
        let rows = read::audit(conn, &query)?;
        let persons = rows.iter().filter_map(|line| line.row.object.strip_prefix('p')?.parse().ok()).collect();
        Ok((rows, people::names(conn, &persons)?))
    });
    let (mut rows, names) = read.await.map_err(busy)?;
    let more = rows.len() > AUDIT_ROWS as usize;
    rows.truncate(AUDIT_ROWS as usize);
    let fields = [("who", who.as_str()), ("act", &act), ("object", &object)];
    let newest = format!("/audit?{}", serde_urlencoded::to_string(fields).unwrap_or_default());
    let older = rows.last().filter(|_| more).map(|last| format!("{newest}&before={}", last.number));
    let registry = site.desk.node.registry();
    let shown = |line: AuditLine| AuditShown {
        number: line.number,
        time: ui.time_text(line.row.at_ms),
        who: who_words(&ui, &line.row.who),
        act: act_words(&ui, &line.row.act),
        object: match line.row.object.strip_prefix('p').and_then(|number| names.get(&number.parse().ok()?)) {
            Some(name) => Named { name: name.clone(), code: line.row.object.clone() },
            None => object_words(&ui, &registry, &line.row.object),
        },
        detail: detail_words(&ui, &line.row.detail),
        origin: origin_words(&ui, &registry, &line.row.origin),
    };
    Ok(View::new(AuditPage {
        page: site.page(&ui, "audit.title", "/audit"),
        rows: rows.into_iter().map(shown).collect(),
        acts: choices(&ui, "audit.group", &ACT_GROUPS),
        who,
        act,
        object,
        older,
        newest,
        first: filter.before.is_none(),
    }))
}

//! Edge boxes 园区节点: when they were last heard, adding one with a token, ending one, the end of its journal.

use super::shared::*;
use crate::clock::wall_ms;
use crate::desk::{DeskError, EdgeView, JournalLine, NewToken, Standing};
use crate::store::read;
use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use yika_crdt::entry::{Body, DoorEvent, NodeRecord};
use yika_crdt::ids::*;
use yika_crdt::registry::RegistryView;
use yika_ui::{Choice, Page, Ui, UiError, View};

/// Longest reason of a fence, in characters.
const REASON_CHARS_MAX: usize = 200;
/// Lives that a token may be given, in seconds.
const TTLS_S: [(&str, i64); 4] = [("30m", 1_800), ("2h", 7_200), ("24h", 86_400), ("7d", 604_800)];

/// A box as a line of a list.
pub(super) struct EdgeLine {
    pub(super) node: NodeId,
    pub(super) writer: String,
    pub(super) name: String,
    pub(super) campus: String,
    pub(super) tone: &'static str,
    pub(super) state: &'static str,
    pub(super) age: String,
    pub(super) newest: String,
    pub(super) held: String,
    pub(super) behind: u64,
    /// Since when that has been missing.
    pub(super) behind_since: String,
    pub(super) heard: String,
    pub(super) connected: bool,
    pub(super) address: String,
    pub(super) quarantined: u64,
    pub(super) fenced: Option<String>,
}

/// How a box stands: colour and word.
pub(super) fn standing(edge: &EdgeView) -> (&'static str, &'static str) {
    match edge.standing() {
        Standing::Fenced => ("plain", "edge.state.fenced"),
        Standing::New => ("plain", "edge.state.new"),
        Standing::Normal => ("ok", "edge.state.normal"),
        Standing::Behind => ("warn", "edge.state.behind"),
        Standing::Late => ("warn", "edge.state.late"),
        Standing::Offline => ("bad", "edge.state.offline"),
    }
}

/// The boxes of a campus (all when absent) as lines, those that need a look first.
pub(super) async fn edge_lines(site: &Site, ui: &Ui, campus: Option<CampusId>) -> Result<Vec<EdgeLine>, UiError> {
    let registry = site.desk.node.registry();
    let mut edges = site.desk.edges().await.map_err(unread)?;
    edges.retain(|edge| campus.is_none() || edge.campus == campus);
    let worst_first = |edge: &EdgeView| match standing(edge).0 {
        "bad" => 0,
        "warn" => 1,
        "ok" => 2,
        _ => 3,
    };
    edges.sort_by_key(|edge| (worst_first(edge), edge.campus, edge.node));
    Ok(edges.into_iter().map(|edge| line(ui, &registry, edge)).collect())
}

fn line(ui: &Ui, registry: &RegistryView, edge: EdgeView) -> EdgeLine {
    let (tone, state) = standing(&edge);
    EdgeLine {
        node: edge.node,
        campus: campus_name(registry, edge.campus),
        tone,
        state,
        age: edge.newest_event_age_ms.map_or_else(|| "–".into(), |ms| age(ui, ms)),
        newest: edge.newest_event_ms.map_or_else(|| "–".into(), |ms| ui.time_text(ms)),
        held: count(edge.held),
        behind: edge.behind,
        behind_since: edge.behind_since_ms.map_or_else(|| "–".into(), |ms| ui.time_text(ms)),
        heard: edge.heard_age_ms.map_or_else(|| "–".into(), |ms| age(ui, ms)),
        connected: edge.connected,
        address: edge.address.unwrap_or_else(|| "–".into()),
        quarantined: edge.quarantined,
        fenced: edge.fenced,
        writer: edge.writer,
        name: edge.name,
    }
}

#[derive(Template)]
#[template(path = "edges.html")]
pub(super) struct List {
    page: Page,
    edges: Vec<EdgeLine>,
    campuses: bool,
    admin: bool,
}

#[derive(Template)]
#[template(path = "edges_table.html")]
pub(super) struct Table {
    page: Page,
    edges: Vec<EdgeLine>,
}

pub(super) async fn list(State(site): State<Arc<Site>>, ui: Ui, me: Me) -> Result<Response, UiError> {
    let edges = edge_lines(&site, &ui, site.scope(&ui).campus).await?;
    let page = site.page(&ui, "edges.title", "/edges");
    if ui.htmx {
        return Ok(View::new(Table { page, edges }).into_response());
    }
    let campuses = !site.desk.node.registry().campuses.is_empty();
    let admin = me.operator.role == yika_ui::Role::Admin;
    Ok(View::new(List { page, edges, campuses, admin }).into_response())
}

#[derive(Template)]
#[template(path = "edge.html")]
pub(super) struct Detail {
    page: Page,
    edge: EdgeLine,
    lives: Vec<(String, &'static str)>,
    tail: Vec<TailLine>,
    /// Place, cause in words, and as the core wrote it.
    quarantine: Vec<(String, String, String)>,
    admin: bool,
    /// A life of it is fenced: what that one blocked can be lifted as a whole.
    may_lift: bool,
}

struct TailLine {
    seq: u64,
    time: String,
    kind: &'static str,
    words: String,
    money: String,
    href: String,
}

pub(super) async fn detail(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(node): Path<String>,
) -> Result<View<Detail>, UiError> {
    let node: NodeId = id(&node)?;
    let registry = site.desk.node.registry();
    let edges = site.desk.edges().await.map_err(unread)?;
    let edge = edges.into_iter().find(|edge| edge.node == node).ok_or(UiError::NotFound)?;
    me.may_see(edge.campus)?;
    let writer = registry.current(node).ok_or(UiError::NotFound)?;
    let tail = site.desk.journal_tail(writer).await.map_err(unread)?;
    let quarantine = site.desk.quarantine().await.map_err(unread)?;
    let quarantine = quarantine.into_iter().filter(|row| row.feed.writer.node == node);
    let lives = registry.nodes.keys().filter(|w| w.node == node);
    let operators = site.desk.node.query(read::operators).await.map_err(busy)?;
    let operators: BTreeMap<OperatorId, String> = operators.into_iter().map(|row| (row.operator, row.name)).collect();
    let page = site.page(&ui, "edges.title", "/edges").titled(edge.name.clone()).crumb(edge.name.clone());
    Ok(View::new(Detail {
        lives: lives.map(|w| (w.to_string(), life(&registry, *w))).collect(),
        tail: tail.iter().map(|line| tail_line(&ui, &registry, &operators, writer, line)).collect(),
        quarantine: quarantine
            .map(|row| (format!("{} #{}", row.feed, row.seq), ui.alarm_detail("quarantine", &row.cause), row.cause))
            .collect(),
        edge: line(&ui, &registry, edge),
        may_lift: is_fenced(&registry, node),
        admin: me.operator.role == yika_ui::Role::Admin,
        page,
    }))
}

/// Whether a life of this box, not always the present one, is fenced.
fn is_fenced(registry: &RegistryView, node: NodeId) -> bool {
    registry.fences.keys().any(|writer| writer.node == node)
}

fn life(registry: &RegistryView, writer: Writer) -> &'static str {
    use yika_crdt::registry::Standing;
    match registry.standing(writer) {
        Standing::Current => "life.current",
        Standing::Fenced => "life.fenced",
        Standing::OldLife | Standing::Unknown => "life.old",
    }
}

fn tail_line(
    ui: &Ui,
    registry: &RegistryView,
    operators: &BTreeMap<OperatorId, String>,
    writer: Writer,
    line: &JournalLine,
) -> TailLine {
    let Some(entry) = &line.entry else {
        let words = ui.t("journal.unreadable").to_owned();
        return TailLine {
            seq: line.seq,
            time: "–".into(),
            kind: "journal.unknown",
            words,
            money: String::new(),
            href: String::new(),
        };
    };
    let (kind, words, money) = told(ui, registry, operators, &entry.body);
    let href = match kind.starts_with("kind.") {
        true => format!("/transactions/{writer}/{}", line.seq),
        false => String::new(),
    };
    TailLine { seq: line.seq, time: ui.time_text(entry.stamp.hub_time_ms), kind, words, money, href }
}

/// What an entry is, what it says, and which sum it moves.
fn told(
    ui: &Ui,
    registry: &RegistryView,
    operators: &BTreeMap<OperatorId, String>,
    body: &Body,
) -> (&'static str, String, String) {
    let terminal = |terminal: TerminalId| terminal_name(registry, terminal);
    match body {
        Body::Purchase(sale) => {
            let total = sale.price.0.saturating_add(sale.adjustment.0);
            ("kind.sale", format!("{} · {}", terminal(sale.id.terminal), sale.card), yuan(total))
        }
        Body::Refused(refused) => {
            let why = reason_words(ui, refused.reason.code());
            ("kind.refusal", format!("{} · {} · {why}", terminal(refused.id.terminal), refused.card), String::new())
        }
        Body::NotRefunded(refused) => {
            let why = reason_words(ui, refused.reason.code());
            ("kind.refusal", format!("{} · {why}", refused.of), String::new())
        }
        Body::Refund(refund) => {
            let back = refund.back.iter().fold(0i64, |sum, (_, part)| sum.saturating_add(part.0));
            let kind = match refund.kind {
                yika_crdt::entry::RefundKind::Reversal => "kind.reversal",
                yika_crdt::entry::RefundKind::Correction => "kind.correction",
                yika_crdt::entry::RefundKind::Refund => "kind.refund",
            };
            (kind, refund.of.to_string(), yuan(-back))
        }
        Body::Void(id) => ("journal.void", id.to_string(), String::new()),
        Body::Taken(taken) => {
            ("journal.taken", format!("{} {}", taken.row.person, taken.feed.writer), yuan(taken.total.0))
        }
        Body::Door(door) => ("journal.door", format!("{} · {}", door.door, door_words(ui, &door.event)), String::new()),
        Body::Act(act) => {
            let who = operators.get(&act.operator).cloned().unwrap_or_else(|| act.operator.to_string());
            (
                "journal.act",
                format!("{who} · {} · {}", act_words(ui, &act.act), ui.act_detail(&act.detail)),
                String::new(),
            )
        }
        Body::Cut(day) => ("journal.cut", day.to_string(), String::new()),
        Body::Alarm(alarm) => (
            "journal.alarm",
            format!("{} · {}", ui.alarm(&alarm.kind), ui.alarm_detail(&alarm.kind, &alarm.detail)),
            String::new(),
        ),
        _ => ("journal.unknown", String::new(), String::new()),
    }
}

fn door_words(ui: &Ui, event: &DoorEvent) -> String {
    match event {
        DoorEvent::Denied(reason) => format!("{} · {}", ui.t("door.denied"), reason_words(ui, reason.code())),
        DoorEvent::Granted => ui.t("door.granted").to_owned(),
        DoorEvent::Button => ui.t("door.button").to_owned(),
        DoorEvent::Opened(_) => ui.t("door.opened").to_owned(),
        DoorEvent::Closed => ui.t("door.closed").to_owned(),
        DoorEvent::Forced => ui.t("door.forced").to_owned(),
        DoorEvent::HeldOpen => ui.t("door.held_open").to_owned(),
        DoorEvent::Remote(_) => ui.t("door.remote").to_owned(),
        DoorEvent::LineLost => ui.t("door.line_lost").to_owned(),
        DoorEvent::LineBack => ui.t("door.line_back").to_owned(),
        DoorEvent::Fire => ui.t("door.fire").to_owned(),
        DoorEvent::Unconfirmed => ui.t("door.unconfirmed").to_owned(),
    }
}

#[derive(Template)]
#[template(path = "edge_token.html")]
pub(super) struct TokenForm {
    page: Page,
    campuses: Vec<Choice>,
    ttls: Vec<Choice>,
    replaces: Vec<Choice>,
    wish: TokenWish,
    problem: String,
}

#[derive(Template)]
#[template(path = "edge_token_made.html")]
pub(super) struct TokenMade {
    page: Page,
    command: String,
    campus: String,
    until: String,
    seconds: i64,
    /// An address that only this machine reaches, if it is one.
    only_here: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenWish {
    campus: String,
    ttl: String,
    replaces: String,
    name: String,
    advertised: String,
}

fn token_form(site: &Site, ui: &Ui, me: &Me, mut wish: TokenWish, problem: String) -> TokenForm {
    let registry = site.desk.node.registry();
    let mine = |campus: &Option<CampusId>| me.actor.campus.is_none() || me.actor.campus == *campus;
    let mut campuses = campus_choices(&registry);
    campuses.retain(|choice| mine(&choice.value.parse().ok()));
    let mut replaces = vec![Choice { value: String::new(), text: ui.t("edge.token.new_box").to_owned() }];
    replaces.extend(registry.boxes().into_iter().filter(|b| mine(&b.campus)).map(|b| Choice {
        value: b.writer.node.to_string(),
        text: format!("{} {} · {}", b.writer.node, b.name, campus_name(&registry, b.campus)),
    }));
    let ttls = TTLS_S
        .iter()
        .map(|(code, _)| Choice { value: (*code).to_owned(), text: ui.t(&format!("ttl.{code}")).to_owned() });
    if wish.ttl.is_empty() {
        wish.ttl = TTLS_S[0].0.to_owned();
    }
    TokenForm {
        page: site.page(ui, "edge.token.title", "/edges"),
        campuses,
        ttls: ttls.collect(),
        replaces,
        wish,
        problem,
    }
}

pub(super) async fn ask_token(State(site): State<Arc<Site>>, ui: Ui, me: Me) -> View<TokenForm> {
    let campus = site.scope(&ui).campus.map(|c| c.to_string()).unwrap_or_default();
    let wish = TokenWish { campus, ..TokenWish::default() };
    // Said before anything is filled in: without an address no line works on another machine.
    let problem = site.desk.dialled().err().map(|refusal| refusal.words(ui.lang)).unwrap_or_default();
    View::new(token_form(&site, &ui, &me, wish, problem))
}

pub(super) async fn make_token(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Form(wish): Form<TokenWish>,
) -> Result<Response, UiError> {
    let invalid =
        |problem: &str| View::invalid(token_form(&site, &ui, &me, wish.clone(), problem.to_owned())).into_response();
    let Ok(campus) = wish.campus.parse::<CampusId>() else { return Ok(invalid(ui.t("edge.token.no_campus"))) };
    let Some((_, ttl_s)) = TTLS_S.iter().find(|(code, _)| *code == wish.ttl) else {
        return Ok(invalid(ui.t("edge.token.no_ttl")));
    };
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let new = NewToken {
        campus,
        ttl_s: *ttl_s,
        replaces: given(&wish.replaces).map(|text| id(&text)).transpose()?,
        name: given(&wish.name),
        advertised: given(&wish.advertised),
    };
    match site.desk.create_token(&me.actor, new).await {
        Ok(made) => {
            let until_ms = wall_ms().saturating_add(ttl_s.saturating_mul(1000));
            Ok(View::new(TokenMade {
                page: site.page(&ui, "edge.token.title", "/edges"),
                command: made.command,
                campus: campus_name(&site.desk.node.registry(), Some(campus)),
                until: ui.time_text(until_ms),
                seconds: *ttl_s,
                only_here: made.only_here.then_some(made.address),
            })
            .into_response())
        }
        Err(DeskError::Refused(refusal)) => Ok(invalid(&refusal.words(ui.lang))),
        Err(other) => Err(failed(other)),
    }
}

#[derive(Template)]
#[template(path = "edge_name.html")]
pub(super) struct NameForm {
    page: Page,
    node: NodeId,
    called: String,
    problem: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct NameWish {
    name: String,
}

pub(super) async fn ask_name(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(node): Path<String>,
) -> Result<View<NameForm>, UiError> {
    let node: NodeId = id(&node)?;
    let registry = site.desk.node.registry();
    let record = living(&registry, &me, node)?;
    let page = site.page(&ui, "edge.name.title", "/edges");
    Ok(View::new(NameForm { page, node, called: record.name.clone(), problem: String::new() }))
}

pub(super) async fn rename(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(node): Path<String>,
    Form(wish): Form<NameWish>,
) -> Result<Response, UiError> {
    let node: NodeId = id(&node)?;
    living(&site.desk.node.registry(), &me, node)?;
    match site.desk.rename_box(&me.actor, node, wish.name.trim()).await {
        Ok(()) => Ok(([("hx-redirect", format!("/edges/{node}"))], "").into_response()),
        Err(DeskError::Refused(refusal)) => {
            let page = site.page(&ui, "edge.name.title", "/edges");
            let problem = refusal.words(ui.lang);
            Ok(View::invalid(NameForm { page, node, called: wish.name, problem }).into_response())
        }
        Err(other) => Err(failed(other)),
    }
}

/// The record of a box in its newest life, if this operator may see it.
fn living<'a>(registry: &'a RegistryView, me: &Me, node: NodeId) -> Result<&'a NodeRecord, UiError> {
    let writer = registry.current(node).filter(|w| !w.node.is_hub());
    let record = writer.and_then(|writer| registry.nodes.get(&writer)).ok_or(UiError::NotFound)?;
    me.may_see(record.campus)?;
    Ok(record)
}

#[derive(Template)]
#[template(path = "edge_fence.html")]
pub(super) struct FenceForm {
    page: Page,
    node: NodeId,
    name: String,
    campus: String,
    reason: String,
    problem: String,
}

#[derive(Deserialize)]
pub(super) struct FenceWish {
    #[serde(default)]
    reason: String,
}

fn fence_form(site: &Site, ui: &Ui, me: &Me, node: NodeId, reason: &str, problem: &str) -> Result<FenceForm, UiError> {
    let registry = site.desk.node.registry();
    let record = living(&registry, me, node)?;
    Ok(FenceForm {
        page: site.page(ui, "edge.fence.title", "/edges"),
        node,
        name: record.name.clone(),
        campus: campus_name(&registry, record.campus),
        reason: reason.to_owned(),
        problem: problem.to_owned(),
    })
}

pub(super) async fn ask_fence(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(node): Path<String>,
) -> Result<View<FenceForm>, UiError> {
    Ok(View::new(fence_form(&site, &ui, &me, id(&node)?, "", "")?))
}

pub(super) async fn fence(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(node): Path<String>,
    Form(wish): Form<FenceWish>,
) -> Result<Response, UiError> {
    let node: NodeId = id(&node)?;
    let reason = wish.reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX {
        let form = fence_form(&site, &ui, &me, node, reason, ui.t("edge.fence.no_reason"))?;
        return Ok(View::invalid(form).into_response());
    }
    fence_form(&site, &ui, &me, node, reason, "")?;
    site.desk.fence(&me.actor, node, reason).await.map_err(failed)?;
    Ok(([("hx-redirect", format!("/edges/{node}"))], "").into_response())
}

#[derive(Template)]
#[template(path = "edge_lift.html")]
pub(super) struct LiftForm {
    page: Page,
    node: NodeId,
    name: String,
}

fn lift_form(site: &Site, ui: &Ui, me: &Me, node: NodeId) -> Result<LiftForm, UiError> {
    let registry = site.desk.node.registry();
    let record = registry.current(node).and_then(|writer| registry.nodes.get(&writer)).ok_or(UiError::NotFound)?;
    me.may_see(record.campus)?;
    Ok(LiftForm { page: site.page(ui, "edge.lift", "/edges"), node, name: record.name.clone() })
}

pub(super) async fn ask_lift(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(node): Path<String>,
) -> Result<View<LiftForm>, UiError> {
    Ok(View::new(lift_form(&site, &ui, &me, id(&node)?)?))
}

pub(super) async fn lift(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(node): Path<String>,
) -> Result<Response, UiError> {
    let node: NodeId = id(&node)?;
    lift_form(&site, &ui, &me, node)?;
    site.desk.lift_written(&me.actor, node).await.map_err(failed)?;
    Ok(([("hx-redirect", format!("/edges/{node}"))], "").into_response())
}

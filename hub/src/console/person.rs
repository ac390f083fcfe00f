//! One person: masked private part, cards and blocks, wallets, movements; reporting lost and lifting, with the truth about
//! where it holds already.

use super::people::{category_words, standing};
use super::shared::*;
use super::transactions::{Line, lines};
use super::undo::may_undo;
use super::{COUNTERS, TILL};
use crate::desk::{DeskError, Holding};
use crate::import::IdType;
use crate::store::read::{self, AuditQuery};
use crate::store::statement::{self, Movement};
use crate::store::transactions::{TransactionQuery, transactions};
use crate::store::{AuditRow, ProfileRow};
use askama::Template;
use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use yika_crdt::entry::{BlockReason, BlockTarget};
use yika_crdt::ids::*;
use yika_crdt::person::{CardState, Person};
use yika_ui::{Choice, Page, Role, Ui, UiError, View};

/// Movements and transactions shown on the page.
const RECENT_ROWS: u32 = 8;
/// Acts shown.
const ACTS_ROWS: u32 = 10;

#[derive(Template)]
#[template(path = "person.html")]
pub(super) struct PersonPage {
    page: Page,
    id: PersonId,
    facts: Facts,
    cards: Vec<CardLine>,
    blocked: bool,
    acts: Vec<ActLine>,
    balance: BalanceLine,
    wallets: Vec<WalletLine>,
    movements: Vec<MovementLine>,
    transactions: Vec<Line>,
    counter: bool,
    till: bool,
    movable: bool,
}

/// The profile as shown.
struct Facts {
    name: String,
    initial: String,
    pinyin: String,
    staff_number: String,
    department: String,
    category: String,
    campus: String,
    sex: String,
    id_type: String,
    id_number: String,
    contact: String,
    valid_until: String,
    tone: &'static str,
    state: &'static str,
}

struct CardLine {
    number: CardNumber,
    uid: String,
    tone: &'static str,
    state: &'static str,
    blocked: bool,
}

struct ActLine {
    time: String,
    tone: &'static str,
    word: String,
    who: String,
    detail: String,
}

struct WalletLine {
    name: String,
    available: String,
    spent: String,
    boxes: Vec<(String, String, bool)>,
}

/// What a person has, and of what it is made.
pub(super) struct BalanceLine {
    /// Everything that can be spent somewhere.
    pub(super) total: String,
    /// Of it at headquarters.
    pub(super) here: String,
    /// Of it at boxes.
    pub(super) boxes: String,
    /// Owed, and what is left of the whole after it; none where nothing is.
    pub(super) owed: Option<(String, String)>,
}

impl BalanceLine {
    pub(super) fn of(holding: &Holding) -> BalanceLine {
        let here = holding.wallets.iter().fold(0i64, |sum, w| sum.saturating_add(w.available_fen));
        let (total, owed) = (holding.total_fen, holding.receivable_fen);
        BalanceLine {
            total: yuan(total),
            here: yuan(here),
            boxes: yuan(total.saturating_sub(here)),
            owed: (owed > 0).then(|| (yuan(owed), yuan(total.saturating_sub(owed)))),
        }
    }
}

/// A movement as a line.
pub(super) struct MovementLine {
    pub(super) number: i64,
    pub(super) time: String,
    pub(super) kind: String,
    pub(super) day: String,
    pub(super) change: String,
    pub(super) incoming: bool,
    pub(super) balance: String,
    /// It has a slip to print, by this operator.
    pub(super) slip: bool,
    /// This operator may still undo it.
    pub(super) undo: bool,
    /// It was undone since.
    pub(super) undone: bool,
    /// Why, in the operator's words.
    pub(super) reason: String,
    pub(super) accounts: String,
}

pub(super) fn movement_line(ui: &Ui, me: &Me, m: &Movement) -> MovementLine {
    let inner = m.change == 0;
    let voucher = m.voucher.as_ref();
    let undoing = voucher.is_some_and(|v| v.kind == "undo");
    MovementLine {
        number: m.number,
        time: ui.time_text(m.posted_ms),
        kind: ui.t(&format!("movement.{}", if undoing { "undo" } else { &m.kind })).to_owned(),
        day: Day(m.day).to_string(),
        change: if inner { format!("({})", yuan(m.amount)) } else { signed_yuan(m.change) },
        incoming: m.change > 0,
        balance: yuan(m.balance),
        slip: voucher.is_some_and(|v| v.kind != "refund") && TILL.roles.contains(&me.operator.role),
        undo: voucher.is_some_and(|v| may_undo(&me.actor, v)),
        undone: voucher.is_some_and(|v| v.undone),
        reason: voucher.map_or_else(String::new, |v| v.reason.clone()),
        accounts: format!("{} → {}", m.debit, m.credit),
    }
}

/// The profile of a person this operator may see.
pub(super) async fn seen(site: &Site, me: &Me, person: &str) -> Result<(PersonId, ProfileRow), UiError> {
    let person: PersonId = id(person)?;
    match site.desk.profile(&me.actor, person).await {
        Ok(Some(profile)) => Ok((person, profile)),
        Ok(None) => Err(UiError::NotFound),
        Err(DeskError::Refused(_)) => Err(UiError::OtherCampus),
        Err(other) => Err(unread(other)),
    }
}

pub(super) async fn page(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
) -> Result<View<PersonPage>, UiError> {
    let (id, profile) = seen(&site, &me, &person).await?;
    let known = site.desk.person(id).map_err(unread)?;
    let holding = site.desk.holding(id).map_err(unread)?;
    let cards: Vec<CardNumber> = known.iter().flat_map(|p| &p.cards).map(|c| c.number).collect();
    let acts = acts(&site, &ui, id, &cards).await?;
    let query = TransactionQuery {
        person: Some(id.0),
        cards: cards.iter().map(|c| c.0).collect(),
        limit: RECENT_ROWS,
        ..TransactionQuery::default()
    };
    let read = site.desk.node.query(move |conn| {
        Ok((statement::statement(conn, id.0, None, false, RECENT_ROWS)?, transactions(conn, &query)?))
    });
    let (movements, rows) = read.await.map_err(busy)?;
    let registry = site.desk.node.registry();
    let role = me.operator.role;
    let page = site.page(&ui, "people.title", "/people").titled(profile.name.clone()).crumb(profile.name.clone());
    Ok(View::new(PersonPage {
        id,
        facts: facts(&site, &ui, id, &profile)?,
        cards: card_lines(&site, known.as_ref()),
        blocked: site.desk.node.people.read().is_blocked(BlockTarget::Person(id)),
        acts,
        balance: BalanceLine::of(&holding),
        wallets: wallet_lines(&site, &ui, &holding),
        movements: movements.iter().map(|m| movement_line(&ui, &me, m)).collect(),
        transactions: lines(&ui, &registry, &rows),
        counter: matches!(role, Role::Admin | Role::Clerk),
        till: role != Role::Auditor,
        movable: COUNTERS.roles.contains(&role) && me.of_headquarters().is_ok() && registry.campuses.len() > 1,
        page,
    }))
}

fn facts(site: &Site, ui: &Ui, id: PersonId, profile: &ProfileRow) -> Result<Facts, UiError> {
    let masked = site.desk.masked(profile).map_err(unread)?;
    let (tone, state) = standing(site, id, profile.card);
    let lang = file_lang(ui);
    let or_dash = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
    Ok(Facts {
        name: profile.name.clone(),
        initial: profile.name.chars().next().unwrap_or('?').to_string(),
        pinyin: profile.pinyin.clone(),
        staff_number: or_dash(&profile.staff_number),
        department: or_dash(&profile.department),
        category: category_words(ui, &profile.category),
        campus: campus_name(&site.desk.node.registry(), Some(CampusId(profile.campus))),
        sex: crate::import::Sex::parse(&profile.sex).map_or_else(|| "–".into(), |s| s.word(lang).to_owned()),
        id_type: id_type_words(ui, &profile.id_type),
        id_number: or_dash(&masked.id_number),
        contact: or_dash(&masked.contact),
        valid_until: match profile.id_valid_until.as_str() {
            "long-term" => ui.t("word.long_term").to_owned(),
            other => or_dash(other),
        },
        tone,
        state,
    })
}

/// A kind of identity document in words of the page; files have words of their own.
fn id_type_words(ui: &Ui, stored: &str) -> String {
    let kind = IdType::parse(stored).map(|kind| format!("id_type.{}", kind.word(crate::import::Lang::En)));
    kind.map_or_else(|| stored.to_owned(), |key| ui.t(&key).to_owned())
}

fn card_lines(site: &Site, person: Option<&Person>) -> Vec<CardLine> {
    let people = site.desk.node.people.read();
    let line = |card: &yika_crdt::person::Card| {
        let blocked = people.is_blocked(BlockTarget::Card(card.number));
        let (tone, state) = match (blocked, card.state) {
            (_, CardState::Cancelled) => ("plain", "card.cancelled"),
            (true, _) => ("bad", "card.blocked"),
            (false, CardState::Issued) => ("info", "card.issued"),
            (false, CardState::Active) => ("ok", "card.active"),
        };
        let uid = card.uid.map_or_else(|| "–".into(), |uid| format!("{uid:08X}"));
        CardLine { number: card.number, uid, tone, state, blocked }
    };
    person.iter().flat_map(|p| &p.cards).map(line).collect()
}

fn wallet_lines(site: &Site, ui: &Ui, holding: &Holding) -> Vec<WalletLine> {
    let registry = site.desk.node.registry();
    let line = |wallet: &crate::desk::WalletView| {
        let at_boxes = wallet.at_boxes.iter().filter(|(_, right, _)| *right != 0);
        WalletLine {
            name: wallet_words(ui, &wallet.wallet),
            available: yuan(wallet.available_fen),
            spent: yuan(wallet.spent_fen),
            boxes: at_boxes
                .map(|(writer, right, fenced)| (node_name(ui, &registry, writer.node), yuan(*right), *fenced))
                .collect(),
        }
    };
    holding.wallets.iter().map(line).collect()
}

/// What was done with the person's cards and blocks, newest first.
async fn acts(site: &Site, ui: &Ui, person: PersonId, cards: &[CardNumber]) -> Result<Vec<ActLine>, UiError> {
    let mut objects = vec![person.to_string()];
    objects.extend(cards.iter().map(|c| format!("card {c}")));
    let read = site.desk.node.query(move |conn| {
        let mut found = Vec::new();
        for object in objects {
            let query = AuditQuery { object, limit: ACTS_ROWS, ..AuditQuery::default() };
            found.extend(read::audit(conn, &query)?);
        }
        Ok(found)
    });
    let mut found = read.await.map_err(busy)?;
    found.sort_by_key(|line| std::cmp::Reverse(line.number));
    found.truncate(ACTS_ROWS as usize);
    let registry = site.desk.node.registry();
    let line = |row: AuditRow| ActLine {
        time: ui.time_text(row.at_ms),
        tone: match row.act.as_str() {
            "card.block" => "bad",
            "card.lift" | "account.top_up" => "ok",
            _ => "plain",
        },
        word: act_words(ui, &row.act),
        who: who_words(ui, &row.who),
        detail: {
            let what = match row.act.as_str() {
                "card.block" | "card.lift" => object_words(ui, &registry, &row.object).name,
                _ => detail_words(ui, &row.detail),
            };
            match at_box(&registry, &row.origin) {
                Some(node) => format!("{what} · {}", node_name(ui, &registry, node)),
                None => what,
            }
        },
    };
    Ok(found.into_iter().map(|l| line(l.row)).collect())
}

#[derive(Template)]
#[template(path = "person_private.html")]
pub(super) struct PrivatePart {
    page: Page,
    id_number: String,
    contact: String,
}

pub(super) async fn reveal(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
) -> Result<View<PrivatePart>, UiError> {
    let (id, _) = seen(&site, &me, &person).await?;
    let private = site.desk.reveal(&me.actor, id).await.map_err(failed)?;
    let page = site.page(&ui, "people.title", "/people");
    let (id_number, contact) = (private.id_number.to_string(), private.contact.to_string());
    Ok(View::new(PrivatePart { page, id_number, contact }))
}

#[derive(Template)]
#[template(path = "person_block.html")]
pub(super) struct BlockForm {
    page: Page,
    id: PersonId,
    name: String,
    lifting: bool,
    /// What the act is called, for a card or for the person.
    title: String,
    object: String,
    target: String,
    reasons: Vec<Choice>,
    chosen: &'static str,
    heard: Vec<BoxHears>,
    unheard: usize,
    exposure: String,
}

#[derive(Template)]
#[template(path = "person_blocked.html")]
pub(super) struct BlockDone {
    page: Page,
    id: PersonId,
    name: String,
    lifting: bool,
    object: String,
    heard: Vec<BoxHears>,
    unheard: usize,
    exposure: String,
}

/// Whether a box hears of a block at once, and for how long nothing was heard of it.
struct BoxHears {
    name: String,
    campus: String,
    connected: bool,
    age: String,
}

#[derive(Deserialize)]
pub(super) struct BlockWish {
    /// A card number, or `person`.
    #[serde(default)]
    target: String,
    #[serde(default)]
    reason: String,
}

/// What is blocked: a card of this person, or the person. Anything else is not found.
fn target(site: &Site, person: PersonId, text: &str) -> Result<BlockTarget, UiError> {
    if text == "person" {
        return Ok(BlockTarget::Person(person));
    }
    let card: CardNumber = id(text)?;
    let holder = site.desk.node.people.read().person_of(card);
    if holder == Some(person) { Ok(BlockTarget::Card(card)) } else { Err(UiError::NotFound) }
}

fn object(ui: &Ui, target: BlockTarget, name: &str) -> String {
    match target {
        BlockTarget::Card(card) => ui.t_args("block.card", &[("card", &card.to_string())]),
        BlockTarget::Person(_) => ui.t_args("block.person", &[("name", name)]),
    }
}

fn title_of(target: BlockTarget, lifting: bool) -> &'static str {
    match (target, lifting) {
        (BlockTarget::Card(_), false) => "block.lost",
        (BlockTarget::Card(_), true) => "block.lift",
        (BlockTarget::Person(_), false) => "block.freeze",
        (BlockTarget::Person(_), true) => "block.lift.person",
    }
}

/// Who hears at once and who does not, and what the person could still spend where it is not heard.
async fn hearing(site: &Site, ui: &Ui, person: PersonId) -> Result<(Vec<BoxHears>, usize, i64), UiError> {
    let registry = site.desk.node.registry();
    let edges = site.desk.edges().await.map_err(unread)?;
    let holding = site.desk.holding(person).map_err(unread)?;
    let alive = edges.iter().filter(|e| e.fenced.is_none());
    let deaf: Vec<NodeId> = alive.clone().filter(|e| !e.connected).map(|e| e.node).collect();
    let rights = holding.wallets.iter().flat_map(|w| &w.at_boxes);
    let exposed = rights.filter(|(writer, right, _)| *right > 0 && deaf.contains(&writer.node));
    let exposure = exposed.fold(0i64, |sum, (_, right, _)| sum.saturating_add(*right));
    let heard = alive.map(|e| BoxHears {
        name: e.name.clone(),
        campus: campus_name(&registry, e.campus),
        connected: e.connected,
        age: e.heard_age_ms.map_or_else(|| ui.t("edge.state.new").to_owned(), |ms| age(ui, ms)),
    });
    Ok((heard.collect(), deaf.len(), exposure))
}

async fn block_form(
    site: &Site,
    ui: &Ui,
    me: &Me,
    person: &str,
    wish: &BlockWish,
    lifting: bool,
) -> Result<BlockForm, UiError> {
    let (id, profile) = seen(site, me, person).await?;
    let target = target(site, id, &wish.target)?;
    let (heard, unheard, exposure) = hearing(site, ui, id).await?;
    Ok(BlockForm {
        page: site.page(ui, "people.title", "/people"),
        id,
        lifting,
        title: ui.t(title_of(target, lifting)).to_owned(),
        object: object(ui, target, &profile.name),
        name: profile.name,
        target: wish.target.clone(),
        reasons: choices(ui, "block.reason", &["lost", "frozen"]),
        chosen: if wish.reason == "frozen" { "frozen" } else { "lost" },
        heard,
        unheard,
        exposure: yuan(exposure),
    })
}

pub(super) async fn ask_lost(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
    Query(wish): Query<BlockWish>,
) -> Result<View<BlockForm>, UiError> {
    Ok(View::new(block_form(&site, &ui, &me, &person, &wish, false).await?))
}

pub(super) async fn ask_lift(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
    Query(wish): Query<BlockWish>,
) -> Result<View<BlockForm>, UiError> {
    Ok(View::new(block_form(&site, &ui, &me, &person, &wish, true).await?))
}

pub(super) async fn report_lost(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
    Form(wish): Form<BlockWish>,
) -> Result<Response, UiError> {
    let (id, profile) = seen(&site, &me, &person).await?;
    let target = target(&site, id, &wish.target)?;
    let reason = match wish.reason.as_str() {
        "lost" => BlockReason::Lost,
        "frozen" => BlockReason::Frozen,
        _ => return Err(UiError::Invalid(ui.t("block.no_reason").to_owned())),
    };
    // Twice the same is one block: the second click changes nothing.
    if !site.desk.node.people.read().is_blocked(target) {
        site.desk.block(&me.actor, target, reason).await.map_err(failed)?;
    }
    done(&site, &ui, id, profile, target, false).await
}

pub(super) async fn lift(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
    Form(wish): Form<BlockWish>,
) -> Result<Response, UiError> {
    let (id, profile) = seen(&site, &me, &person).await?;
    let target = target(&site, id, &wish.target)?;
    site.desk.lift(&me.actor, target).await.map_err(failed)?;
    done(&site, &ui, id, profile, target, true).await
}

async fn done(
    site: &Site,
    ui: &Ui,
    id: PersonId,
    profile: ProfileRow,
    target: BlockTarget,
    lifting: bool,
) -> Result<Response, UiError> {
    let (heard, unheard, exposure) = hearing(site, ui, id).await?;
    Ok(View::new(BlockDone {
        page: site.page(ui, "people.title", "/people"),
        id,
        lifting,
        object: object(ui, target, &profile.name),
        name: profile.name,
        heard,
        unheard,
        exposure: yuan(exposure),
    })
    .into_response())
}

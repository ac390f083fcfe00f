//! Cards and people (CRD-6, CRD-8): look up, report lost, lift what this campus reported.
//!
//! A confirmation names the object and says where it holds already. Leaves to others: searching (`find`), what a block
//! stops (`yika_crdt::people`).

use super::find::{FOUND_MAX, Found};
use super::sales::SaleRow;
use super::{App, SERVE, operator_id, show};
use askama::Template;
use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use yika_crdt::Fen;
use yika_crdt::channel::BlockScope;
use yika_crdt::edge::{Command, Reply};
use yika_crdt::entry::{ActRecord, BlockReason, BlockRecord, BlockTarget, WalletKey};
use yika_crdt::ids::{CardNumber, Day, PersonId};
use yika_crdt::keys;
use yika_crdt::mesh::BlockRow;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_crdt::rights::PersonRights;
use yika_crdt::store::decode_row;
use yika_ui::{CurrentOperator, Page, Saved, Toast, Tone, Ui, UiError, View};

#[derive(Template)]
#[template(path = "cards/search.html")]
pub(super) struct SearchPage {
    page: Page,
    query: String,
    rows: Vec<FoundRow>,
    more: String,
    stray: String,
}

struct FoundRow {
    href: String,
    name: String,
    staff_number: String,
    category: String,
    campus: String,
    cards: String,
    tone: &'static str,
    state: &'static str,
}

#[derive(Template)]
#[template(path = "cards/person.html")]
pub(super) struct PersonPage {
    page: Page,
    name: String,
    staff_number: String,
    facts: Vec<(&'static str, String)>,
    cards: Vec<CardRow>,
    blocks: Vec<BlockLine>,
    wallets: Vec<WalletRow>,
    balance: String,
    sales: Vec<SaleRow>,
    /// There may be more of today than is shown.
    older: bool,
    target: String,
    blocked: bool,
    may_serve: bool,
}

struct CardRow {
    number: String,
    target: String,
    tone: &'static str,
    state: &'static str,
    until: String,
    blocked: bool,
}

struct BlockLine {
    on: String,
    target: String,
    why: &'static str,
    who: String,
    when: String,
    ours: bool,
    by: String,
}

struct WalletRow {
    name: String,
    amount: String,
    until: String,
}

#[derive(Template)]
#[template(path = "cards/ask.html")]
pub(super) struct AskPage {
    page: Page,
    lifting: bool,
    object: String,
    target: String,
    problem: String,
    places: Vec<PlaceRow>,
    ours: bool,
}

/// Where an act holds, or will.
struct PlaceRow {
    tone: &'static str,
    name: String,
    word: String,
}

#[derive(Deserialize)]
pub(super) struct SearchQuery {
    #[serde(default)]
    q: String,
}

#[derive(Deserialize)]
pub(super) struct Done {
    #[serde(default)]
    done: String,
}

#[derive(Deserialize)]
pub(super) struct TargetQuery {
    #[serde(default)]
    on: String,
}

#[derive(Deserialize)]
pub(super) struct BlockForm {
    #[serde(default)]
    on: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
pub(super) struct LiftForm {
    #[serde(default)]
    on: String,
    #[serde(default)]
    card: String,
    #[serde(default)]
    id_checked: String,
}

/// People and cards by what was typed; a single exact hit opens at once.
pub(super) async fn search(
    ui: Ui,
    State(app): State<App>,
    Query(query): Query<SearchQuery>,
) -> Result<Response, UiError> {
    let found: Found = app.find(&query.q)?;
    if let ([only], false) = (found.people.as_slice(), found.more) {
        return Ok(Redirect::to(&format!("/cards/people/{}", only.person.0)).into_response());
    }
    let rows = found.people.iter().map(|person| found_row(&app, &ui, person)).collect();
    let page = SearchPage {
        page: app.page(&ui, "cards.title", "/cards"),
        query: query.q.trim().to_owned(),
        rows,
        more: if found.more { ui.t_args("cards.more", &[("n", &FOUND_MAX.to_string())]) } else { String::new() },
        stray: found.stray.map_or_else(String::new, |card| card.to_string()),
    };
    Ok(View::new(page).into_response())
}

/// One person with cards, blocks and rights.
pub(super) async fn person(
    ui: Ui,
    me: CurrentOperator,
    State(app): State<App>,
    Path(person): Path<u64>,
    Query(done): Query<Done>,
) -> Result<View<PersonPage>, UiError> {
    let person = app.person(PersonId(person))?.ok_or(UiError::NotFound)?;
    let target = BlockTarget::Person(person.person);
    let mut blocks = block_lines(&app, &ui, target)?;
    for card in &person.cards {
        blocks.extend(block_lines(&app, &ui, BlockTarget::Card(card.number))?);
    }
    let rights = rights(&app, person.person)?;
    let (sales, older) = app.sales_of(&ui, person.person, SERVE.contains(&me.role))?;
    let page = app.page(&ui, "cards.person", "/cards").crumb(person.name.clone()).titled(person.name.clone());
    Ok(View::new(PersonPage {
        page: with_toast(page, &ui, &done.done),
        facts: person_facts(&app, &ui, &person),
        cards: person.cards.iter().map(|card| card_row(&app, card)).collect(),
        blocked: app.node().people.read().is_blocked(target),
        blocks,
        wallets: wallet_rows(&ui, &rights)?,
        balance: balance(&app, &rights)?,
        sales,
        older,
        target: text_of(target),
        may_serve: SERVE.contains(&me.role),
        name: person.name,
        staff_number: person.staff_number,
    }))
}

/// A card number that belongs to nobody known here: it can be blocked all the same.
pub(super) async fn number(
    ui: Ui,
    me: CurrentOperator,
    State(app): State<App>,
    Path(number): Path<u64>,
    Query(done): Query<Done>,
) -> Result<Response, UiError> {
    let card = CardNumber(number);
    let holder = app.node().people.read().person_of(card);
    if let Some(person) = holder {
        return Ok(Redirect::to(&format!("/cards/people/{}", person.0)).into_response());
    }
    let target = BlockTarget::Card(card);
    let blocked = app.node().people.read().is_blocked(target);
    let row = CardRow {
        number: card.to_string(),
        target: text_of(target),
        tone: if blocked { "bad" } else { "plain" },
        state: if blocked { "card.blocked" } else { "card.stray" },
        until: String::new(),
        blocked,
    };
    let page = app.page(&ui, "cards.stray", "/cards").crumb(card.to_string());
    let view = PersonPage {
        page: with_toast(page, &ui, &done.done),
        name: card.to_string(),
        staff_number: String::new(),
        facts: Vec::new(),
        cards: vec![row],
        blocks: block_lines(&app, &ui, target)?,
        wallets: Vec::new(),
        balance: String::new(),
        sales: Vec::new(),
        older: false,
        target: String::new(),
        blocked: false,
        may_serve: SERVE.contains(&me.role),
    };
    Ok(View::new(view).into_response())
}

/// The question before a block.
pub(super) async fn ask_block(
    ui: Ui,
    State(app): State<App>,
    Query(query): Query<TargetQuery>,
) -> Result<View<AskPage>, UiError> {
    let target = target_of(&query.on).ok_or(UiError::NotFound)?;
    Ok(View::new(ask(&app, &ui, target, false, String::new())?))
}

/// The question before a lift.
pub(super) async fn ask_lift(
    ui: Ui,
    State(app): State<App>,
    Query(query): Query<TargetQuery>,
) -> Result<View<AskPage>, UiError> {
    let target = target_of(&query.on).ok_or(UiError::NotFound)?;
    Ok(View::new(ask(&app, &ui, target, true, String::new())?))
}

/// Blocks a card or a person. Answered when this box has stored it.
pub(super) async fn block(
    ui: Ui,
    me: CurrentOperator,
    State(app): State<App>,
    Form(form): Form<BlockForm>,
) -> Result<Response, UiError> {
    let target = target_of(&form.on).ok_or(UiError::NotFound)?;
    let reason = match form.reason.as_str() {
        "lost" | "" => BlockReason::Lost,
        "frozen" => BlockReason::Frozen,
        _ => return Err(UiError::Invalid(ui.t("block.bad_reason").to_owned())),
    };
    let operator = operator_id(&me)?;
    let blocked = app.node().call(Command::Block(BlockRecord { target, reason, operator })).await;
    blocked.map_err(|e| UiError::unavailable(e, Saved::Nothing))?;
    let detail = format!("{} as {reason:?}", text_of(target));
    note_act(&app, ActRecord { operator, act: "block".into(), detail }).await;
    go_back(&ui, &app, target, "block")
}

/// Lifts what this campus reported; the card must have been read and the holder's document seen.
pub(super) async fn lift(
    ui: Ui,
    me: CurrentOperator,
    State(app): State<App>,
    Form(form): Form<LiftForm>,
) -> Result<Response, UiError> {
    let target = target_of(&form.on).ok_or(UiError::NotFound)?;
    if form.id_checked != "yes" {
        return refused_lift(&app, &ui, target, "lift.id_missing");
    }
    let read = app.reader_default().card(&app.node().people.read(), &form.card);
    if !read.is_ok_and(|card| is_of(&app, target, card)) {
        return refused_lift(&app, &ui, target, "lift.other_card");
    }
    let operator = operator_id(&me)?;
    let reply = app.node().call(Command::Lift { target, operator }).await;
    let Reply::Lifted { lifted, left } = reply.map_err(|e| UiError::unavailable(e, Saved::Nothing))? else {
        return Err(UiError::internal("the core answered a lift with another reply", Saved::Unknown));
    };
    if lifted == 0 {
        return refused_lift(&app, &ui, target, "lift.not_ours");
    }
    let detail = format!("{}: {lifted} lifted, {left} left, card read, document seen", text_of(target));
    note_act(&app, ActRecord { operator, act: "lift".into(), detail }).await;
    go_back(&ui, &app, target, if left > 0 { "lift_part" } else { "lift" })
}

fn refused_lift(app: &App, ui: &Ui, target: BlockTarget, word: &str) -> Result<Response, UiError> {
    Ok(View::invalid(ask(app, ui, target, true, ui.t(word).to_owned())?).into_response())
}

/// The audit line of an act that is stored already; it must not turn the act's success into a failure.
async fn note_act(app: &App, act: ActRecord) {
    if let Err(error) = app.node().call(Command::Act(act)).await {
        tracing::error!(%error, "the audit line of an act was not stored");
    }
}

/// Whether a card is the target or belongs to it.
fn is_of(app: &App, target: BlockTarget, card: CardNumber) -> bool {
    match target {
        BlockTarget::Card(number) => number == card,
        BlockTarget::Person(person) => app.node().people.read().person_of(card) == Some(person),
    }
}

fn go_back(ui: &Ui, app: &App, target: BlockTarget, done: &str) -> Result<Response, UiError> {
    let holder = match target {
        BlockTarget::Person(person) => Some(person),
        BlockTarget::Card(card) => app.node().people.read().person_of(card),
    };
    let page = match (holder, target) {
        (Some(person), _) => format!("/cards/people/{}?done={done}", person.0),
        (None, BlockTarget::Card(card)) => format!("/cards/numbers/{card}?done={done}"),
        (None, BlockTarget::Person(_)) => "/cards".to_owned(),
    };
    if ui.htmx {
        return Ok([("hx-redirect", page)].into_response());
    }
    Ok(Redirect::to(&page).into_response())
}

fn with_toast(mut page: Page, ui: &Ui, done: &str) -> Page {
    let (tone, word) = match done {
        "block" => (Tone::Ok, "block.done"),
        "lift" => (Tone::Ok, "lift.done"),
        "lift_part" => (Tone::Warn, "lift.done_part"),
        "refund" => (Tone::Ok, "refund.done"),
        _ => return page,
    };
    page.toast = Some(Toast { tone, text: ui.t(word).to_owned() });
    page
}

fn ask(app: &App, ui: &Ui, target: BlockTarget, lifting: bool, problem: String) -> Result<AskPage, UiError> {
    let campus = app.node().place().campus;
    let open = app.node().people.read().open_blocks(target);
    Ok(AskPage {
        page: ui.page(if lifting { "lift.title" } else { "block.title" }, "/cards"),
        lifting,
        object: object(app, ui, target)?,
        target: text_of(target),
        problem,
        places: places(app, ui),
        ours: open.iter().any(|(_, scope)| campus.map(BlockScope::Campus) == Some(*scope)),
    })
}

/// The name of what is blocked: a card with its holder, or a person.
fn object(app: &App, ui: &Ui, target: BlockTarget) -> Result<String, UiError> {
    let holder = match target {
        BlockTarget::Person(person) => Some(person),
        BlockTarget::Card(card) => app.node().people.read().person_of(card),
    };
    let name = match holder {
        Some(person) => {
            app.person(person)?.map_or_else(|| person.to_string(), |p| format!("{} {}", p.name, p.staff_number))
        }
        None => ui.t("card.nobody").to_owned(),
    };
    Ok(match target {
        BlockTarget::Card(card) => format!("{card} · {name}"),
        BlockTarget::Person(_) => ui.t_args("block.whole_person", &[("name", &name)]),
    })
}

/// Where a block or lift holds at once, and how fresh the line to the others is.
fn places(app: &App, ui: &Ui) -> Vec<PlaceRow> {
    let status = app.status();
    let here = PlaceRow { tone: "ok", name: ui.kit.node_name.clone(), word: ui.t("place.here").to_owned() };
    let far = |linked: bool, age_ms: Option<u64>| match (linked, age_ms) {
        (true, _) => ("ok", ui.t("place.linked").to_owned()),
        (false, Some(age_ms)) => ("warn", ui.t_args("place.cut", &[("t", &show::age(ui, age_ms))])),
        (false, None) => ("warn", ui.t("place.never").to_owned()),
    };
    let (tone, word) = far(status.hub_connected, status.hub_heard_age_ms.or(status.lists_age_ms));
    let hub = PlaceRow { tone, name: status.hub_name, word };
    let siblings = status.siblings.into_iter().map(|sibling| {
        let (tone, word) = far(sibling.connected, sibling.heard_age_ms);
        PlaceRow { tone, name: sibling.name, word }
    });
    let mut places: Vec<PlaceRow> = std::iter::once(here).chain(siblings).collect();
    let registry = app.node().registry();
    let others = registry.campuses.keys().any(|campus| Some(*campus) != app.node().place().campus);
    // What another campus has stored only headquarters or its boxes know; it gets it from whichever reaches it first.
    let word = if status.hub_connected { "place.others.linked" } else { "place.others.cut" };
    let far = PlaceRow { tone, name: ui.t("place.others").to_owned(), word: ui.t(word).to_owned() };
    places.push(hub);
    places.extend(others.then_some(far));
    places
}

fn found_row(app: &App, ui: &Ui, person: &Person) -> FoundRow {
    let (tone, state) = person_state(app, person);
    let cards: Vec<String> = person.cards.iter().map(|card| card.number.to_string()).collect();
    FoundRow {
        href: format!("/cards/people/{}", person.person.0),
        name: person.name.clone(),
        staff_number: person.staff_number.clone(),
        category: show::category(ui, person.category),
        campus: campus_name(app, person),
        cards: cards.join(" "),
        tone,
        state,
    }
}

fn campus_name(app: &App, person: &Person) -> String {
    let registry = app.node().registry();
    registry.campuses.get(&person.home).map_or_else(|| person.home.to_string(), |c| c.name.clone())
}

fn person_state(app: &App, person: &Person) -> (&'static str, &'static str) {
    let people = app.node().people.read();
    let any_card = person.cards.iter().any(|card| people.is_blocked(BlockTarget::Card(card.number)));
    match person.status {
        _ if people.is_blocked(BlockTarget::Person(person.person)) => ("bad", "person.blocked"),
        PersonStatus::Left => ("plain", "person.left"),
        PersonStatus::Suspended => ("warn", "person.suspended"),
        PersonStatus::Active if any_card => ("bad", "person.card_blocked"),
        PersonStatus::Active => ("ok", "person.active"),
    }
}

fn person_facts(app: &App, ui: &Ui, person: &Person) -> Vec<(&'static str, String)> {
    let (_, state) = person_state(app, person);
    let day = |day: Option<Day>| day.map_or_else(|| ui.t("show.open").to_owned(), |d| d.to_string());
    vec![
        ("person.staff_number", person.staff_number.clone()),
        ("person.category", show::category(ui, person.category)),
        ("person.home", campus_name(app, person)),
        ("person.state", ui.t(state).to_owned()),
        ("person.valid", format!("{} – {}", day(person.valid.0), day(person.valid.1))),
    ]
}

fn card_row(app: &App, card: &Card) -> CardRow {
    let target = BlockTarget::Card(card.number);
    let blocked = app.node().people.read().is_blocked(target);
    let (tone, state) = match card.state {
        _ if blocked => ("bad", "card.blocked"),
        CardState::Active => ("ok", "card.active"),
        CardState::Issued => ("info", "card.issued"),
        CardState::Cancelled => ("plain", "card.cancelled"),
    };
    let until = card.valid_until.map_or_else(String::new, |day| day.to_string());
    CardRow { number: card.number.to_string(), target: text_of(target), tone, state, until, blocked }
}

fn block_lines(app: &App, ui: &Ui, target: BlockTarget) -> Result<Vec<BlockLine>, UiError> {
    let open = app.node().people.read().open_blocks(target);
    let campus = app.node().place().campus;
    let registry = app.node().registry();
    let mut lines = Vec::new();
    for (hash, scope) in open {
        let key = keys::block(&hash);
        let row: Option<BlockRow> = app.look(|s| s.get(&key)?.map(|bytes| decode_row(&key, &bytes)).transpose())?;
        let by = match scope {
            BlockScope::Hub => ui.t("block.by_hub").to_owned(),
            BlockScope::Campus(c) => registry.campuses.get(&c).map_or_else(|| c.to_string(), |c| c.name.clone()),
        };
        lines.push(BlockLine {
            on: match target {
                BlockTarget::Card(card) => card.to_string(),
                BlockTarget::Person(_) => ui.t("block.all_cards").to_owned(),
            },
            target: text_of(target),
            why: row.map_or("block.unknown", |row| show::block_reason(row.reason)),
            who: row.map_or_else(String::new, |row| app.operator_name(ui, row.operator)),
            when: row.map_or_else(String::new, |row| ui.time_text(row.hub_time_ms)),
            ours: campus.map(BlockScope::Campus) == Some(scope),
            by,
        });
    }
    Ok(lines)
}

fn rights(app: &App, person: PersonId) -> Result<PersonRights, UiError> {
    let rights = app.node().row::<PersonRights>(&keys::rights(person));
    Ok(rights.map_err(|e| UiError::unavailable(e, Saved::Nothing))?.unwrap_or_default())
}

fn wallet_rows(ui: &Ui, rights: &PersonRights) -> Result<Vec<WalletRow>, UiError> {
    let wallets = rights.wallets().map_err(|e| UiError::unavailable(e, Saved::Nothing))?;
    let row = |(wallet, right, until): (WalletKey, Fen, Option<Day>)| WalletRow {
        name: wallet_name(ui, wallet),
        amount: show::money(right),
        until: until.map_or_else(|| ui.t("show.open").to_owned(), |day| day.to_string()),
    };
    Ok(wallets.into_iter().map(row).collect())
}

/// A wallet as holders call it.
pub(super) fn wallet_name(ui: &Ui, wallet: WalletKey) -> String {
    match wallet {
        WalletKey::Main => ui.t("wallet.main").to_owned(),
        WalletKey::Subsidy(batch) => ui.t_args("wallet.subsidy", &[("n", &batch.to_string())]),
        _ => ui.t("wallet.other").to_owned(),
    }
}

fn balance(app: &App, rights: &PersonRights) -> Result<String, UiError> {
    let open_day = app.node().row(keys::OPEN_DAY).map_err(|e| UiError::unavailable(e, Saved::Nothing))?;
    let balance = rights.balance(open_day.unwrap_or_default());
    Ok(show::money(balance.map_err(|e| UiError::unavailable(e, Saved::Nothing))?))
}

/// `card:62004881` or `person:17`, as forms carry it.
fn text_of(target: BlockTarget) -> String {
    match target {
        BlockTarget::Card(card) => format!("card:{card}"),
        BlockTarget::Person(person) => format!("person:{}", person.0),
    }
}

fn target_of(text: &str) -> Option<BlockTarget> {
    match text.split_once(':')? {
        ("card", number) => number.parse().ok().map(|n| BlockTarget::Card(CardNumber(n))),
        ("person", number) => number.parse().ok().map(|n| BlockTarget::Person(PersonId(n))),
        _ => None,
    }
}

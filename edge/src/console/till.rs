//! The web till (screen E5): a tablet with a keyboard reader sells with the uplink pulled (POS-1, 6–8, 11, 20, 24, 25, 28).
//!
//! The page draws the id of every sale under the boot of its shift and sends the same id until it is answered, so that
//! a lost answer or a double submit gets the first answer. Leaves to others: prices and money (`yika_crdt::sale`), keys,
//! reader and sound (`assets/till.js`).

mod reader;
pub(in crate::console) mod receipt;
mod tally;
mod view;

pub(in crate::console) use tally::Tills;

use super::{App, operator_id, show};
use crate::node::Busy;
use crate::terminals::Presence;
use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Form, Json};
use reader::Unread;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use view::{Left, Panel};
use yika_crdt::edge::{Command, Reply};
use yika_crdt::entry::{
    ActRecord, Body, Mode, PurchaseRecord, RefundKind, TerminalKind, TerminalRecord, TerminalState,
};
use yika_crdt::gate::Shut;
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;
use yika_crdt::sale::{Answer, PurchaseRequest, RefundRequest};
use yika_crdt::shift::{Shift, SignOn};
use yika_crdt::sold::{card_of, entry_of, is_known, last_seq};
use yika_crdt::store::{Read, StoreError, decode_row};
use yika_crdt::tariff::sheet::{PeriodId, TariffSheet};
use yika_crdt::tariff::{self, PORTIONS_MAX};
use yika_crdt::{Fen, civil, keys};
use yika_ui::{CurrentOperator, Page, Role, Saved, Ui, UiError, View};

#[derive(Template)]
#[template(path = "till/page.html")]
struct TillPage {
    page: Page,
    terminal: TerminalRecord,
    shift: Shift,
    attached: String,
    cashier: String,
    header: Header,
    left: Left,
}

/// Where no till will sell any more.
#[derive(Template)]
#[template(path = "till/ended.html")]
struct EndedPage {
    page: Page,
    word: &'static str,
    note: &'static str,
    /// The slip of the shift that cannot be closed here any more.
    slip: Option<String>,
}

#[derive(Template)]
#[template(path = "till/choose.html")]
struct ChoosePage {
    page: Page,
    tills: Vec<TillRow>,
    /// Key of the words that say what a reader sends.
    reader: &'static str,
}

struct TillRow {
    id: u32,
    name: String,
    outlet: String,
    tone: &'static str,
    state: String,
    free: bool,
    may_end: bool,
}

#[derive(Template)]
#[template(path = "till/slip.html")]
pub(super) struct SlipPage {
    page: Page,
    till: String,
    terminal: String,
    shift: String,
    cashier: String,
    from: String,
    until: String,
    rows: Vec<(&'static str, String)>,
    takings: String,
    unsent: String,
}

/// What the top of the till shows and asks for again while it is open.
#[derive(Serialize)]
pub(super) struct Header {
    offline: bool,
    link: String,
    period: String,
    price: String,
    clock: String,
}

#[derive(Deserialize)]
pub(super) struct TillForm {
    terminal: u32,
}

/// What the page sends with every request of a shift.
#[derive(Deserialize)]
pub(super) struct SaleForm {
    boot: u32,
    seq: u32,
    attached: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    fen: i64,
    #[serde(default)]
    portions: u8,
    #[serde(default)]
    card: String,
    #[serde(default)]
    typed: u8,
    #[serde(default)]
    at_ms: i64,
}

#[derive(Deserialize)]
pub(super) struct BackForm {
    boot: u32,
    seq: u32,
    of: u32,
    attached: String,
    /// How much is given back; all of it when absent.
    #[serde(default)]
    fen: Option<i64>,
}

/// The till of the cashier's open shift, or the choice of one.
pub(super) async fn page(ui: Ui, me: CurrentOperator, State(app): State<App>) -> Result<Response, UiError> {
    let operator = operator_id(&me)?;
    let shifts = app.shifts()?;
    let registry = app.node().registry();
    let mine = shifts.iter().find(|s| s.is_open() && s.operator == operator);
    if let Some((word, note)) = app.over() {
        let slip = mine.map(|shift| slip_of(shift.terminal, shift.boot));
        return Ok(View::new(EndedPage { page: app.page(&ui, word, "/till"), word, note, slip }).into_response());
    }
    let Some((shift, terminal)) = mine.and_then(|s| Some((*s, registry.terminals.get(&s.terminal)?))) else {
        return choose(&ui, &me, &app, &shifts);
    };
    let view = TillPage {
        page: app.page(&ui, "till.title", "/till"),
        attached: app.attach(shift.terminal)?,
        cashier: me.name.clone(),
        header: header(&app, &ui, terminal)?,
        left: app.left(&ui, &shift, Panel::ready(&ui))?,
        terminal: terminal.clone(),
        shift,
    };
    Ok(View::new(view).into_response())
}

fn choose(ui: &Ui, me: &CurrentOperator, app: &App, shifts: &[Shift]) -> Result<Response, UiError> {
    let registry = app.node().registry();
    let campus = app.node().place().campus;
    let tills = registry.terminals.values().filter(|t| Some(t.campus) == campus && t.kind == TerminalKind::Till);
    let row = |till: &TerminalRecord| {
        let open = shifts.iter().find(|s| s.terminal == till.terminal && s.is_open());
        // A machine that speaks for itself sells under its own numbers.
        let machine = app.0.board.status(till.terminal).is_some_and(|s| s.presence != Presence::Lost);
        let (tone, state) = match (open, till.state) {
            (_, TerminalState::Suspended | TerminalState::Scrapped) => ("plain", ui.t("till.suspended").to_owned()),
            (Some(shift), _) => {
                let (who, since) = (app.operator_name(ui, shift.operator), ui.clock_text(shift.from_ms));
                ("warn", ui.t_args("till.taken", &[("who", &who), ("since", &since)]))
            }
            (None, TerminalState::Deployed) if machine => ("info", ui.t("till.machine").to_owned()),
            (None, TerminalState::Deployed) => ("ok", ui.t("till.free").to_owned()),
        };
        TillRow {
            id: till.terminal.0,
            name: till.name.clone(),
            outlet: format!("{} · {}", till.terminal, till.outlet),
            tone,
            state,
            free: open.is_none() && !machine && till.state == TerminalState::Deployed,
            may_end: open.is_some() && me.role == Role::Admin,
        }
    };
    let tills = tills.map(row).collect();
    let reader = app.reader_default().help();
    Ok(View::new(ChoosePage { page: app.page(ui, "till.choose", "/till"), tills, reader }).into_response())
}

/// Signs the cashier on. Repeated, it leads to the shift that is open already.
pub(super) async fn sign_on(
    ui: Ui,
    me: CurrentOperator,
    State(app): State<App>,
    Form(form): Form<TillForm>,
) -> Result<Response, UiError> {
    let operator = operator_id(&me)?;
    if app.over().is_some() || app.shifts()?.iter().any(|s| s.is_open() && s.operator == operator) {
        return Ok(Redirect::to("/till").into_response());
    }
    let command = Command::SignOn { terminal: TerminalId(form.terminal), operator };
    match app.node().call(command).await.map_err(|e| UiError::unavailable(e, Saved::Nothing))? {
        Reply::SignOn(SignOn::Open(_)) => Ok(Redirect::to("/till").into_response()),
        Reply::SignOn(SignOn::Taken(shift)) => {
            let who = app.operator_name(&ui, shift.operator);
            Err(UiError::Conflict(ui.t_args("till.taken_by", &[("who", &who)])))
        }
        Reply::SignOn(SignOn::Refused(reason)) => Err(UiError::Invalid(show::reason(&ui, reason).to_owned())),
        other => Err(UiError::internal(format!("the core answered a sign-on with {other:?}"), Saved::Unknown)),
    }
}

/// Ends a shift: one's own, or for an administrator anybody's. Leads to its slip.
pub(super) async fn sign_off(
    me: CurrentOperator,
    State(app): State<App>,
    Form(form): Form<TillForm>,
) -> Result<Response, UiError> {
    let operator = operator_id(&me)?;
    let terminal = TerminalId(form.terminal);
    let open = app.shifts()?.into_iter().find(|s| s.terminal == terminal && s.is_open());
    let Some(open) = open else { return Ok(Redirect::to("/till").into_response()) };
    if open.operator != operator {
        me.require(super::RUN)?;
    }
    // Nothing is journaled of a life that is over; the cashier gets his slip all the same.
    if app.over().is_none() {
        let reply = app.node().call(Command::SignOff { terminal, operator }).await;
        reply.map_err(|e| UiError::unavailable(e, Saved::Nothing))?;
    }
    Ok(Redirect::to(&slip_of(terminal, open.boot)).into_response())
}

fn slip_of(terminal: TerminalId, boot: u32) -> String {
    format!("/till/shifts/{}/{boot}", terminal.0)
}

/// Line, meal and clock, asked for by the page now and then.
pub(super) async fn state(ui: Ui, me: CurrentOperator, State(app): State<App>) -> Result<Json<Header>, UiError> {
    let operator = operator_id(&me)?;
    let shift = app.shifts()?.into_iter().find(|s| s.is_open() && s.operator == operator).ok_or(UiError::NotFound)?;
    let registry = app.node().registry();
    let terminal = registry.terminals.get(&shift.terminal).ok_or(UiError::NotFound)?;
    Ok(Json(header(&app, &ui, terminal)?))
}

/// Sells under the id that the page drew.
pub(super) async fn sale(
    ui: Ui,
    me: CurrentOperator,
    State(app): State<App>,
    Form(form): Form<SaleForm>,
) -> Result<Response, UiError> {
    let (shift, id) = match app.admit(&ui, &me, form.boot, form.seq, &form.attached)? {
        Ok(admitted) => admitted,
        Err(response) => return Ok(response),
    };
    let refuse = |panel| app.left_response(&ui, Some(&shift), StatusCode::UNPROCESSABLE_ENTITY, panel);
    let not_charged = || refuse(Panel::refused(&ui, "till.not_charged", "till.not_charged.note"));
    let Some(mode) = mode_of(&form) else {
        return refuse(Panel::refused(&ui, "till.bad_request", "till.bad_request.note"));
    };
    let typed = form.typed == 1;
    let card = match typed {
        true => reader::printed_number(&form.card).ok_or(Unread::Form),
        false => app.0.config.reader_at(shift.terminal).card(&app.node().people.read(), &form.card),
    };
    let again = app.look(|store| is_known(store, id))?;
    // Another page of this till may have asked under the number while this question waited: its answer is none to this card.
    let asked_ms = if again { app.look(|store| asked_ms(store, id))? } else { None };
    if asked_ms.is_some_and(|asked_ms| asked_ms != form.at_ms) {
        return not_charged();
    }
    // Cards and readers may have changed since the first answer: the sale is asked for again with the card it was sold to.
    let first = if again && !typed { app.look(|store| card_of(store, id))? } else { None };
    let card = match first.map_or(card, Ok) {
        Ok(card) => card,
        Err(unread) => {
            let (word, note) = unread.words();
            return refuse(Panel::refused(&ui, word, note));
        }
    };
    if form.boot != shift.boot && !again {
        return refuse(Panel::refused(&ui, "till.old_shift", "till.old_shift.note"));
    }
    if typed && !again {
        let detail = format!("{id} card {}", show::masked_card(card));
        let act = ActRecord { operator: shift.operator, act: "till.typed_card".into(), detail };
        app.node().call(Command::Act(act)).await.map_err(|e| UiError::unavailable(e, Saved::Nothing))?;
    }
    let request = PurchaseRequest { id, card, mode, terminal_time_ms: form.at_ms, offline: false, tariff: None };
    match app.node().purchase(request).await {
        Ok(Answer::Refused(Reason::IdReused)) => not_charged(),
        Ok(answer) => {
            let panel = app.panel_of(&ui, &answer, card, again)?;
            app.left_response(&ui, Some(&shift), StatusCode::OK, panel)
        }
        Err(busy) => {
            let ended = if again { "till.fenced.again" } else { "till.fenced.nothing" };
            app.wait(&ui, &shift, &busy, ended)
        }
    }
}

/// Takes the last sale of the shift back, or reduces it: a linked negative (POS-20).
pub(super) async fn correct(
    ui: Ui,
    me: CurrentOperator,
    State(app): State<App>,
    Form(form): Form<BackForm>,
) -> Result<Response, UiError> {
    let (shift, id) = match app.admit(&ui, &me, form.boot, form.seq, &form.attached)? {
        Ok(admitted) => admitted,
        Err(response) => return Ok(response),
    };
    let of = PurchaseId { seq: form.of, ..id };
    let again = app.look(|store| is_known(store, id))?;
    let amount = form.fen.map(Fen);
    if !again {
        let last = app.tally(&shift)?.correctable.filter(|sale| sale.id == of);
        let refused = match (&last, amount) {
            (None, _) => Some(("till.not_last", "till.not_last.note")),
            (Some(sale), Some(back)) if !reduces(sale, back) => Some(("till.bad_reduction", "till.bad_reduction.note")),
            (Some(_), _) => None,
        };
        if let Some((word, note)) = refused {
            let panel = Panel::refused(&ui, word, note);
            return app.left_response(&ui, Some(&shift), StatusCode::UNPROCESSABLE_ENTITY, panel);
        }
    }
    let operator = shift.operator;
    let request = RefundRequest { id, of, kind: RefundKind::Correction, amount, operator };
    app.give_back(&ui, &shift, request, again).await
}

/// Cancels a sale whose answer never came: reverses it if it was made, else makes sure it never will be (POS-21).
pub(super) async fn cancel(
    ui: Ui,
    me: CurrentOperator,
    State(app): State<App>,
    Form(form): Form<BackForm>,
) -> Result<Response, UiError> {
    let (shift, id) = match app.admit(&ui, &me, form.boot, form.seq, &form.attached)? {
        Ok(admitted) => admitted,
        Err(response) => return Ok(response),
    };
    let of = PurchaseId { seq: form.of, ..id };
    let again = app.look(|store| is_known(store, id))?;
    if !again && let Some((word, note)) = app.not_open(&shift, id, of)? {
        let panel = Panel::refused(&ui, word, note);
        return app.left_response(&ui, Some(&shift), StatusCode::UNPROCESSABLE_ENTITY, panel);
    }
    let request = RefundRequest { id, of, kind: RefundKind::Reversal, amount: None, operator: shift.operator };
    app.give_back(&ui, &shift, request, again).await
}

/// The sums of a shift on paper.
pub(super) async fn slip(
    ui: Ui,
    me: CurrentOperator,
    State(app): State<App>,
    Path((terminal, boot)): Path<(u32, u32)>,
) -> Result<View<SlipPage>, UiError> {
    let terminal = TerminalId(terminal);
    let shift =
        app.shifts()?.into_iter().find(|s| s.terminal == terminal && s.boot == boot).ok_or(UiError::NotFound)?;
    if shift.operator != operator_id(&me)? {
        me.require(super::RUN)?;
    }
    let tally = app.tally(&shift)?;
    let unsent = app.status().unsent;
    let mut rows: Vec<(&'static str, String)> = Vec::new();
    for (mode, (count, sum)) in tally.by_mode.iter().filter(|(mode, _)| **mode != "mode.count") {
        rows.push((mode, format!("{} · {}", show::count(*count), show::money(*sum))));
    }
    rows.extend([
        ("slip.sold", format!("{} · {}", show::count(tally.sold.0), show::money(tally.sold.1))),
        ("slip.back", format!("{} · {}", show::count(tally.back.0), show::back(tally.back.1))),
        ("slip.meals", show::count(tally.meals)),
        ("slip.meals_back", show::count(tally.meals_back)),
        ("slip.refused", show::count(tally.refused)),
    ]);
    let open = || ui.t("slip.open").to_owned();
    Ok(View::new(SlipPage {
        page: app.page(&ui, "slip.title", "/till"),
        till: app.terminal_name(terminal),
        terminal: terminal.to_string(),
        shift: boot.to_string(),
        cashier: app.operator_name(&ui, shift.operator),
        from: ui.time_text(shift.from_ms),
        until: shift.until_ms.map_or_else(open, |until_ms| ui.time_text(until_ms)),
        rows,
        takings: show::money(tally.takings()),
        unsent: if unsent == 0 { String::new() } else { ui.t_args("slip.unsent", &[("n", &show::count(unsent))]) },
    }))
}

/// When the page drew the question that was sold under an id, by its own clock.
fn asked_ms(store: &dyn Read, id: PurchaseId) -> Result<Option<i64>, StoreError> {
    Ok(entry_of(store, id)?.and_then(|entry| match entry.body {
        Body::Purchase(sale) => Some(sale.terminal_time_ms),
        _ => None,
    }))
}

impl App {
    /// The last shift of every till of this box.
    pub(super) fn shifts(&self) -> Result<Vec<Shift>, UiError> {
        self.look(|store| {
            let rows = store.scan(keys::SHIFTS, None, usize::MAX)?;
            rows.iter().map(|(key, bytes)| decode_row(key, bytes)).collect()
        })
    }

    /// The cashier's shift and the id, or the answer that this page cannot act.
    fn admit(
        &self,
        ui: &Ui,
        me: &CurrentOperator,
        boot: u32,
        seq: u32,
        attached: &str,
    ) -> Result<Result<(Shift, PurchaseId), Response>, UiError> {
        let operator = operator_id(me)?;
        let mine = self.shifts()?.into_iter().find(|s| s.is_open() && s.operator == operator);
        let Some(shift) = mine else {
            let panel = Panel::locked(ui, "till.no_shift", "till.no_shift.note");
            return Ok(Err(self.left_response(ui, None, StatusCode::CONFLICT, panel)?));
        };
        if !self.is_attached(shift.terminal, attached) {
            let panel = Panel::locked(ui, "till.other_page", "till.other_page.note");
            return Ok(Err(self.left_response(ui, Some(&shift), StatusCode::CONFLICT, panel)?));
        }
        if seq == 0 || boot == 0 {
            let panel = Panel::refused(ui, "till.bad_request", "till.bad_request.note");
            return Ok(Err(self.left_response(ui, Some(&shift), StatusCode::UNPROCESSABLE_ENTITY, panel)?));
        }
        Ok(Ok((shift, PurchaseId { terminal: shift.terminal, boot, seq })))
    }

    /// Why an id is no question of this shift that waits for its answer: only the one after all that are known is, and it
    /// is cancelled under the next number.
    fn not_open(
        &self,
        shift: &Shift,
        id: PurchaseId,
        of: PurchaseId,
    ) -> Result<Option<(&'static str, &'static str)>, UiError> {
        if id.boot != shift.boot {
            return Ok(Some(("till.old_shift", "till.old_shift.cancel")));
        }
        let last = self.look(|store| last_seq(store, id.terminal, id.boot))?;
        let is_open = of.seq.checked_add(1) == Some(id.seq) && last <= of.seq;
        Ok((!is_open).then_some(("till.not_last", "till.not_last.note")))
    }

    /// Why no till of this box will ever sell again before it is enrolled anew: the word and what to do.
    fn over(&self) -> Option<(&'static str, &'static str)> {
        match self.node().shut()? {
            Shut::Fenced => Some(("till.fenced", "till.fenced.note")),
            Shut::Forked => Some(("till.forked", "till.fenced.note")),
            Shut::Asking | Shut::Opening | Shut::Unsure | Shut::Behind(_) => None,
        }
    }

    /// The box cannot write at present: the page keeps the question and asks again under the same number. One whose life
    /// is over says so, and with `ended` what became of the question.
    fn wait(&self, ui: &Ui, shift: &Shift, busy: &Busy, ended: &str) -> Result<Response, UiError> {
        tracing::warn!(%busy, terminal = %shift.terminal, "a till waits");
        if let Some((word, note)) = self.over() {
            let notes = vec![ui.t(ended).to_owned(), ui.t(note).to_owned()];
            let panel =
                Panel { locked: true, reopens: false, ..Panel::plain("refused", "circle-x", ui.t(word), notes) };
            return self.left_response(ui, Some(shift), StatusCode::CONFLICT, panel);
        }
        let panel =
            Panel::plain("waiting", "clock", ui.t("till.box_busy"), vec![ui.t("till.box_busy.note").to_owned()]);
        self.left_response(ui, Some(shift), StatusCode::SERVICE_UNAVAILABLE, panel)
    }

    async fn give_back(
        &self,
        ui: &Ui,
        shift: &Shift,
        request: RefundRequest,
        again: bool,
    ) -> Result<Response, UiError> {
        let answer = match self.node().refund(request).await {
            Ok(answer) => answer,
            Err(busy) => return self.wait(ui, shift, &busy, "till.fenced.back"),
        };
        let panel = match answer {
            Answer::Refused(Reason::DayCut) => Panel::refused(ui, "till.day_cut", "till.day_cut.note"),
            answer => self.panel_of(ui, &answer, CardNumber(0), again)?,
        };
        self.left_response(ui, Some(shift), StatusCode::OK, panel)
    }
}

/// Whether so much given back leaves something of a sale: else it is taken back whole.
fn reduces(sale: &PurchaseRecord, back: Fen) -> bool {
    let total = tally::total_of(sale).unwrap_or(Fen::ZERO);
    sale.mode != Mode::Count && back.is_positive() && back < total
}

/// What the cashier keyed; `None` if the page sent what it cannot have keyed. Sums are judged by the core.
fn mode_of(form: &SaleForm) -> Option<Mode> {
    Some(match form.mode.as_str() {
        "amount" => Mode::Amount(Fen(form.fen)),
        "fixed" => Mode::Fixed,
        "count" => Mode::Count,
        "portions" if (1..=PORTIONS_MAX).contains(&form.portions) => {
            Mode::Portions { unit: Fen(form.fen), portions: form.portions }
        }
        _ => return None,
    })
}

fn header(app: &App, ui: &Ui, terminal: &TerminalRecord) -> Result<Header, UiError> {
    let (now_ms, _) = app.node().time();
    let registry = app.node().registry();
    let over = app.over();
    let offline = over.is_some() || !app.node().hears_hub();
    let link = over.map_or(if offline { "till.link.cut" } else { "till.link.ok" }, |(word, _)| word);
    let minute = civil::civil(now_ms, ui.kit.utc_offset_minutes).minute;
    let sheet = registry.tariff.as_deref();
    let period = sheet.and_then(|sheet| tariff::period_at(sheet, minute));
    let named = sheet.and_then(|sheet| sheet.periods.iter().find(|p| Some(p.id) == period));
    Ok(Header {
        offline,
        link: ui.t(link).to_owned(),
        period: named.map_or_else(|| ui.t("till.no_period").to_owned(), |p| p.name.clone()),
        price: sheet.map_or_else(String::new, |sheet| fixed_prices(sheet, terminal.outlet, period)),
        clock: ui.clock_text(now_ms).get(..5).unwrap_or_default().to_owned(),
    })
}

/// The fixed prices of the meal at this outlet, over all categories that have one of their own.
fn fixed_prices(sheet: &TariffSheet, outlet: OutletId, period: Option<PeriodId>) -> String {
    let own = sheet.fixed.iter().filter_map(|row| row.category).chain(sheet.adjustments.iter().map(|row| row.category));
    let categories: BTreeSet<CategoryId> = own.chain([CategoryId(u16::MAX)]).collect();
    let price = |category: &CategoryId| tariff::price(sheet, *category, outlet, period, Mode::Fixed).ok();
    let prices: BTreeSet<Fen> = categories.iter().filter_map(price).map(|quote| quote.total).collect();
    match (prices.first(), prices.last()) {
        (Some(least), Some(most)) if least == most => show::money(*least),
        (Some(least), Some(most)) => format!("{}–{}", show::money(*least), show::money(*most)),
        _ => "—".to_owned(),
    }
}

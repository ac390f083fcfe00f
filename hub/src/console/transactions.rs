//! Transactions 交易: any sale, refund or refusal by time, person, card, terminal and kind; one of them in full.

use super::COUNTER;
use super::overview::period_name;
use super::shared::*;
use crate::store::ProfileRow;
use crate::store::acts::{CounterRefund, counter_refunds};
use crate::store::people::{self, PeopleQuery};
use crate::store::statement::{Voucher, vouchers_of};
use crate::store::transactions::{
    self as store, Cursor, Mark, Place, RefundRow, SaleRow, TOTAL_ROWS_MAX, Totals, TransactionQuery, TransactionRow,
};
use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use yika_crdt::civil::{self, DAY_MS};
use yika_crdt::ids::*;
use yika_crdt::registry::RegistryView;
use yika_ui::{Choice, Page, Ui, UiError, View};

/// Rows on a page.
const ROWS: u32 = 50;
/// Neighbours of a transaction: the same holder within this time before and after.
const NEIGHBOURS_WITHIN_MS: i64 = 10 * 60_000;
/// Kinds in the order of the filter.
const KINDS: [&str; 6] = ["", "sale", "refusal", "reversal", "correction", "refund"];

/// The filter as it stands in the address.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Filter {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) who: String,
    pub(super) terminal: String,
    pub(super) kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) before: String,
}

/// A transaction as a line.
pub(super) struct Line {
    pub(super) href: String,
    pub(super) id: String,
    pub(super) time: String,
    pub(super) name: String,
    pub(super) person: Option<PersonId>,
    pub(super) number: String,
    pub(super) terminal: String,
    pub(super) node: String,
    pub(super) kind: String,
    pub(super) tone: &'static str,
    pub(super) detail: String,
    pub(super) amount: String,
    /// The amount was asked for and not charged.
    pub(super) asked: bool,
    pub(super) incoming: bool,
    pub(super) offline: bool,
    pub(super) doubtful: bool,
}

pub(super) fn lines(ui: &Ui, registry: &RegistryView, rows: &[TransactionRow]) -> Vec<Line> {
    rows.iter().map(|row| line(ui, registry, row)).collect()
}

fn line(ui: &Ui, registry: &RegistryView, row: &TransactionRow) -> Line {
    let id = PurchaseId { terminal: TerminalId(row.terminal), boot: row.boot, seq: row.serial };
    Line {
        // A refund by headquarters stands at no journal's place: its sale shows it.
        href: if row.place.node == 0 { format!("/search?q={id}") } else { href(row.place) },
        id: id.to_string(),
        time: ui.time_text(row.place.at_ms),
        name: row.name.clone().unwrap_or_else(|| ui.t("word.unknown_holder").to_owned()),
        person: row.name.is_some().then_some(PersonId(row.person)),
        number: match (&row.staff_number, row.card) {
            (_, Some(card)) => card.to_string(),
            (Some(number), None) => number.clone(),
            (None, None) => "–".into(),
        },
        terminal: match id.terminal {
            TerminalId(0) => ui.t("word.counter").to_owned(),
            terminal => terminal_name(registry, terminal),
        },
        node: node_name(ui, registry, NodeId(row.place.node)),
        kind: ui.t(&format!("kind.{}", row.kind)).to_owned(),
        tone: tone(&row.kind),
        detail: match row.kind.as_str() {
            "refusal" => reason_words(ui, &row.detail),
            "sale" => ui.t(&format!("mode.{}", row.detail)).to_owned(),
            _ => String::new(),
        },
        amount: match row.kind.as_str() {
            "refusal" => asked_words(ui, row),
            _ => yuan(row.total),
        },
        asked: row.kind == "refusal",
        incoming: row.total < 0,
        offline: row.offline,
        doubtful: row.doubtful,
    }
}

/// What a refused tap had been for: the keyed sum, else how it was keyed.
fn asked_words(ui: &Ui, row: &TransactionRow) -> String {
    match (row.asked, &row.asked_mode) {
        (Some(sum), _) => yuan(sum),
        (None, Some(mode)) if mode != "amount" => ui.t(&format!("mode.{mode}")).to_owned(),
        (None, _) => "–".into(),
    }
}

fn tone(kind: &str) -> &'static str {
    match kind {
        "sale" => "ok",
        "refusal" => "bad",
        _ => "info",
    }
}

pub(super) fn href(place: Place) -> String {
    format!("/transactions/{}/{}", place.writer(), place.seq)
}

/// What the filter asks of the store, and what about it cannot be met.
pub(super) struct Wanted {
    pub(super) query: TransactionQuery,
    pub(super) problem: String,
    from: Day,
    to: Day,
}

/// Reads the filter; days that are not given are today.
pub(super) async fn wanted(site: &Site, ui: &Ui, filter: &Filter) -> Result<Wanted, UiError> {
    let today = civil::civil(ui.now_ms, ui.kit.utc_offset_minutes).day;
    let mut problem = String::new();
    let mut day = |text: &str, other: Day| match text.trim() {
        "" => other,
        text => parse_day(text).unwrap_or_else(|| {
            problem = ui.t("tx.bad_day").to_owned();
            other
        }),
    };
    let to = day(&filter.to, today);
    let from = day(&filter.from, to.min(today));
    let mut query = TransactionQuery {
        from_ms: Some(day_begins_ms(ui, from)),
        until_ms: Some(day_begins_ms(ui, to).saturating_add(DAY_MS)),
        nodes: site.scope(ui).nodes,
        limit: ROWS,
        ..TransactionQuery::default()
    };
    if from > to {
        problem = ui.t("tx.days_swapped").to_owned();
    }
    match KINDS.contains(&filter.kind.as_str()) {
        true => query.kind.clone_from(&filter.kind),
        false => problem = ui.t("tx.bad_kind").to_owned(),
    }
    if !filter.terminal.trim().is_empty() {
        match filter.terminal.trim().parse::<TerminalId>() {
            Ok(terminal) => query.terminal = Some(terminal.0),
            Err(_) => problem = ui.t("tx.bad_terminal").to_owned(),
        }
    }
    if !filter.who.trim().is_empty()
        && let Err(words) = narrow_to_holder(site, ui, &shortened(&filter.who), &mut query).await?
    {
        problem = words;
    }
    query.before = read_cursor(&filter.before);
    Ok(Wanted { query, problem, from, to })
}

/// Narrows to one holder or card; the inner error says why that cannot be done.
async fn narrow_to_holder(
    site: &Site,
    ui: &Ui,
    text: &str,
    query: &mut TransactionQuery,
) -> Result<Result<(), String>, UiError> {
    let person = match text.strip_prefix('p').and_then(|_| text.parse::<PersonId>().ok()) {
        Some(person) => Some(person),
        None => {
            let wish = PeopleQuery { text: text.to_owned(), campus: None, offset: 0, limit: 2 };
            let (found, _) = site.desk.node.query(move |conn| people::find(conn, &wish)).await.map_err(busy)?;
            let exact = found.iter().find(|p| p.staff_number == text || p.name == text);
            let card = text.parse::<u64>().ok();
            if let Some(card) = card.filter(|card| found.iter().all(|p| p.staff_number != text) && *card > 0) {
                // A card: also one that nobody holds.
                query.card = Some(card);
            }
            match (found.as_slice(), exact) {
                ([], _) if query.card.is_some() => Some(PersonId(0)),
                ([], _) => return Ok(Err(ui.t("tx.nobody").to_owned())),
                ([only], _) => Some(PersonId(only.person)),
                (_, Some(_)) if found.iter().filter(|p| p.name == text).count() > 1 => {
                    return Ok(Err(ui.t("tx.several").to_owned()));
                }
                (_, Some(exact)) => Some(PersonId(exact.person)),
                (_, None) => return Ok(Err(ui.t("tx.several").to_owned())),
            }
        }
    };
    query.person = person.map(|p| p.0);
    if let Some(person) = person {
        let people = site.desk.node.people.read();
        query.cards = people.holder(person).iter().flat_map(|h| h.cards.iter()).map(|(card, _, _)| card.0).collect();
    }
    Ok(Ok(()))
}

#[derive(Template)]
#[template(path = "transactions.html")]
pub(super) struct List {
    page: Page,
    filter: Filter,
    from: String,
    to: String,
    kinds: Vec<Choice>,
    rows: Vec<Line>,
    problem: String,
    query: String,
    older: Option<String>,
    newest: String,
    first: bool,
}

#[derive(Template)]
#[template(path = "transactions_totals.html")]
pub(super) struct TotalsPart {
    page: Page,
    totals: Summary,
}

struct Summary {
    rows: String,
    sales: String,
    refunds: String,
    refusals: String,
    sold: String,
    back: String,
    net: String,
    more: Option<String>,
}

fn summary(totals: &Totals) -> Summary {
    Summary {
        rows: count(totals.rows.min(u64::from(TOTAL_ROWS_MAX))),
        sales: count(totals.sales),
        refunds: count(totals.rows.saturating_sub(totals.sales).saturating_sub(totals.refusals)),
        refusals: count(totals.refusals),
        sold: yuan(totals.sold_fen),
        back: yuan(totals.back_fen),
        net: yuan(totals.sold_fen.saturating_sub(totals.back_fen)),
        more: totals.more.then(|| count(u64::from(TOTAL_ROWS_MAX))),
    }
}

pub(super) async fn list(
    State(site): State<Arc<Site>>,
    ui: Ui,
    Query(filter): Query<Filter>,
) -> Result<View<List>, UiError> {
    let wanted = wanted(&site, &ui, &filter).await?;
    let mut rows = match wanted.problem.is_empty() {
        true => {
            let query = TransactionQuery { limit: ROWS + 1, ..wanted.query.clone() };
            site.desk.node.query(move |conn| store::transactions(conn, &query)).await.map_err(busy)?
        }
        false => Vec::new(),
    };
    let more = rows.len() > ROWS as usize;
    rows.truncate(ROWS as usize);
    let filter = Filter { from: wanted.from.to_string(), to: wanted.to.to_string(), ..filter };
    let address = |before: String| {
        let text = serde_urlencoded::to_string(Filter { before, ..filter.clone() });
        format!("/transactions?{}", text.unwrap_or_default())
    };
    let older = rows.last().filter(|_| more).map(|last| address(write_cursor(last.cursor())));
    let query = serde_urlencoded::to_string(Filter { before: String::new(), ..filter.clone() }).unwrap_or_default();
    let registry = site.desk.node.registry();
    Ok(View::new(List {
        page: site.page(&ui, "tx.title", "/transactions"),
        kinds: choices(&ui, "kind", &KINDS),
        rows: lines(&ui, &registry, &rows),
        problem: wanted.problem,
        older,
        newest: format!("/transactions?{query}"),
        query,
        first: filter.before.is_empty(),
        from: filter.from.clone(),
        to: filter.to.clone(),
        filter,
    }))
}

/// What the filter adds up to: asked for by the page itself, because it may take seconds where the list takes none.
pub(super) async fn totals(
    State(site): State<Arc<Site>>,
    ui: Ui,
    Query(filter): Query<Filter>,
) -> Result<View<TotalsPart>, UiError> {
    let wanted = wanted(&site, &ui, &filter).await?;
    if !wanted.problem.is_empty() {
        return Err(UiError::Invalid(wanted.problem));
    }
    let query = wanted.query;
    let totals = site.desk.node.query(move |conn| store::totals(conn, &query)).await.map_err(busy)?;
    Ok(View::new(TotalsPart { page: site.page(&ui, "tx.title", "/transactions"), totals: summary(&totals) }))
}

/// A cursor in an address: time, box, life, position, table, row.
fn write_cursor(Cursor { place: p, mark }: Cursor) -> String {
    format!("{}.{}.{}.{}.{}.{}.{}", p.at_ms, p.node, p.generation, p.counter, p.seq, mark.arm, mark.row)
}

fn read_cursor(text: &str) -> Option<Cursor> {
    let mut parts = text.split('.');
    let place = Place {
        at_ms: parts.next()?.parse().ok()?,
        node: parts.next()?.parse().ok()?,
        generation: parts.next()?.parse().ok()?,
        counter: parts.next()?.parse().ok()?,
        seq: parts.next()?.parse().ok()?,
    };
    let mark = Mark { arm: parts.next()?.parse().ok()?, row: parts.next()?.parse().ok()? };
    parts.next().is_none().then_some(Cursor { place, mark })
}

#[derive(Template)]
#[template(path = "transaction.html")]
pub(super) struct Detail {
    page: Page,
    id: String,
    sale: Facts,
    paid: Vec<(String, String)>,
    steps: Vec<StepLine>,
    others: Vec<Line>,
    href: String,
    refundable: bool,
}

struct Facts {
    name: String,
    person: Option<PersonId>,
    card: String,
    category: String,
    category_number: u16,
    terminal: String,
    node: String,
    place: String,
    day: String,
    period: String,
    mode: String,
    price: String,
    adjustment: String,
    total: String,
    /// A counted meal: the page speaks of no money.
    counted: bool,
    balance: String,
    outlet: Named,
    merchant: Named,
    tone: &'static str,
    state: String,
}

/// A point on the time line of a transaction.
struct StepLine {
    tone: &'static str,
    time: String,
    words: String,
}

pub(super) async fn detail(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path((writer, seq)): Path<(String, u64)>,
) -> Result<Response, UiError> {
    let writer = read_writer(&writer).ok_or(UiError::NotFound)?;
    let registry = site.desk.node.registry();
    me.may_see(registry.nodes.get(&writer).and_then(|record| record.campus))?;
    let read = site.desk.node.query(move |conn| {
        let sale = store::sale_at(conn, writer, seq)?;
        let Some(sale) = sale else { return Ok(None) };
        let refunds = store::refunds_of(conn, sale.id)?;
        let told = ToldBy {
            vouchers: vouchers_of(conn, &sale.id.to_string())?,
            counters: counter_refunds(conn, sale.id, PersonId(sale.person))?,
        };
        Ok(Some((sale, refunds, told)))
    });
    let Some((sale, refunds, told)) = read.await.map_err(busy)? else {
        return not_a_sale(&site, &ui, writer, seq).await;
    };
    let known = site.desk.node.people.read().holder(PersonId(sale.person)).is_some();
    let person = known.then_some(PersonId(sale.person));
    let profile = match person {
        Some(person) => site.desk.node.query(move |conn| people::by_person(conn, person.0)).await.map_err(busy)?,
        None => None,
    };
    let others = neighbours(&site, &sale).await?;
    let others: Vec<TransactionRow> = others.into_iter().filter(|row| row.place != sale.place).collect();
    Ok(View::new(Detail {
        page: site.page(&ui, "tx.detail", "/transactions").crumb(sale.id.to_string()),
        id: sale.id.to_string(),
        sale: facts(&ui, &registry, &sale, profile.as_ref(), &refunds),
        paid: wallet_parts(&ui, &sale.paid),
        steps: steps(&ui, &registry, &sale, &refunds, &told),
        others: lines(&ui, &registry, &others),
        href: href(sale.place),
        refundable: COUNTER.roles.contains(&me.operator.role) && is_left(sale.total, &refunds),
    })
    .into_response())
}

/// Whether something of a sale can still be given back; a counted meal of nothing can, once.
pub(super) fn is_left(total: i64, refunds: &[RefundRow]) -> bool {
    refunds.is_empty() || refunds.iter().fold(0i64, |sum, refund| sum.saturating_add(refund.total)) < total
}

/// What a sale was, and what is left of it.
fn facts(
    ui: &Ui,
    registry: &RegistryView,
    sale: &SaleRow,
    profile: Option<&ProfileRow>,
    refunds: &[RefundRow],
) -> Facts {
    let (tone, state) = match is_left(sale.total, refunds) {
        true if refunds.is_empty() => ("ok", "tx.state.sold"),
        true => ("warn", "tx.state.part_back"),
        false => ("plain", "tx.state.back"),
    };
    Facts {
        name: profile.map_or_else(|| ui.t("word.unknown_holder").to_owned(), |p| p.name.clone()),
        person: profile.map(|p| PersonId(p.person)),
        card: sale.card.to_string(),
        category: ui.category(sale.category),
        category_number: sale.category,
        terminal: terminal_name(registry, sale.id.terminal),
        node: node_name(ui, registry, NodeId(sale.place.node)),
        place: format!("{} #{}", sale.place.writer(), sale.place.seq),
        day: Day(sale.day).to_string(),
        period: period_name(ui, registry, sale.period),
        mode: ui.t(&format!("mode.{}", sale.mode)).to_owned(),
        price: yuan(sale.price),
        adjustment: signed_yuan(sale.adjustment),
        total: yuan(sale.total),
        counted: sale.is_counted(),
        balance: yuan(sale.balance),
        outlet: outlet_words(ui, OutletId(sale.outlet)),
        merchant: merchant_words(ui, MerchantId(sale.merchant)),
        tone,
        state: ui.t(state).to_owned(),
    }
}

/// The time line of a sale: tapped, kept, posted, doubted, given back.
fn steps(ui: &Ui, registry: &RegistryView, sale: &SaleRow, refunds: &[RefundRow], told: &ToldBy) -> Vec<StepLine> {
    let step = |tone, ms, words| StepLine { tone, time: ui.time_text(ms), words };
    let node = node_name(ui, registry, NodeId(sale.place.node));
    let mut steps = Vec::new();
    if sale.offline {
        steps.push(StepLine { tone: "warn", time: "–".into(), words: ui.t("tx.step.offline").to_owned() });
    }
    steps.push(step("ok", sale.place.at_ms, ui.t_args("tx.step.kept", &[("node", &node)])));
    steps.push(step("ok", sale.received_ms, ui.t("tx.step.posted").to_owned()));
    steps.extend(doubt_words(ui, sale).map(|words| step("bad", sale.received_ms, words)));
    steps.extend(refunds.iter().map(|refund| refund_step(ui, registry, refund, told)));
    steps
}

/// Who gave back and why: at headquarters, and at the counters of boxes.
struct ToldBy {
    vouchers: Vec<Voucher>,
    counters: Vec<CounterRefund>,
}

impl ToldBy {
    /// Who and why, if it is known.
    fn of(&self, refund: &RefundRow) -> Option<(&str, &str)> {
        let at_ms = refund.place.at_ms;
        if refund.operator == 0 {
            return None;
        }
        if refund.place.node == 0 {
            let given = self.vouchers.iter().filter(|v| v.kind == "refund");
            let voucher = given.min_by_key(|v| (v.at_ms - at_ms).abs())?;
            return Some((&voucher.who, &voucher.reason));
        }
        // A counter tells its reason right before it gives back.
        let counter = self.counters.iter().filter(|c| c.at_ms <= at_ms).max_by_key(|c| c.at_ms)?;
        Some((&counter.who, &counter.reason))
    }
}

/// A refund on the time line, with who did it and why.
fn refund_step(ui: &Ui, registry: &RegistryView, refund: &RefundRow, told: &ToldBy) -> StepLine {
    let kind = ui.t(&format!("kind.{}", refund.kind)).to_owned();
    // A counted meal is no money.
    let sum = if refund.total == 0 { ui.t("refund.one_meal").to_owned() } else { yuan(-refund.total) };
    let words = match told.of(refund) {
        Some((who, reason)) => {
            let place = match refund.place.node {
                0 => ui.t("tx.step.at_hub").to_owned(),
                node => node_name(ui, registry, NodeId(node)),
            };
            let facts = [("kind", kind.as_str()), ("sum", &sum), ("place", &place), ("who", &who_words(ui, who))];
            let words = ui.t_args("tx.step.by", &facts);
            if reason.is_empty() { words } else { format!("{words} · {reason}") }
        }
        None => format!("{kind} {sum} · {}", refund.id),
    };
    StepLine { tone: "warn", time: ui.time_text(refund.place.at_ms), words }
}

/// Why headquarters doubts the price; the sale stands as it was charged.
fn doubt_words(ui: &Ui, sale: &SaleRow) -> Option<String> {
    Some(match (sale.doubt.as_deref()?, sale.due) {
        ("tariff_unknown", _) => ui.t("tx.step.tariff_unknown").to_owned(),
        (_, Some(0)) if sale.is_counted() => ui.t("tx.step.due_counted").to_owned(),
        (_, Some(due)) => ui.t_args("tx.step.due", &[("sum", &yuan(due))]),
        (_, None) => ui.t("tx.step.not_for_sale").to_owned(),
    })
}

/// A refund leads to its sale; a refusal to the list at its moment.
async fn not_a_sale(site: &Site, ui: &Ui, writer: Writer, seq: u64) -> Result<Response, UiError> {
    let read = site.desk.node.query(move |conn| store::moment_of(conn, writer, seq));
    let Some(moment) = read.await.map_err(busy)? else { return Err(UiError::NotFound) };
    if let Some(of) = moment.of {
        let sales = site.desk.node.query(move |conn| store::sales_of(conn, of)).await.map_err(busy)?;
        if let Some(sale) = sales.first() {
            return Ok(Redirect::to(&href(sale.place)).into_response());
        }
    }
    let day = civil::civil(moment.at_ms, ui.kit.utc_offset_minutes).day.to_string();
    let who = moment.card.map(|c| c.to_string()).unwrap_or_default();
    let filter = Filter { from: day.clone(), to: day, who, ..Filter::default() };
    Ok(Redirect::to(&format!("/transactions?{}", serde_urlencoded::to_string(filter).unwrap_or_default()))
        .into_response())
}

/// What else the same holder did at about the same time: exposes double taps.
async fn neighbours(site: &Site, sale: &SaleRow) -> Result<Vec<TransactionRow>, UiError> {
    let query = TransactionQuery {
        from_ms: Some(sale.place.at_ms.saturating_sub(NEIGHBOURS_WITHIN_MS)),
        until_ms: Some(sale.place.at_ms.saturating_add(NEIGHBOURS_WITHIN_MS)),
        person: Some(sale.person),
        cards: vec![sale.card],
        limit: 20,
        ..TransactionQuery::default()
    };
    site.desk.node.query(move |conn| store::transactions(conn, &query)).await.map_err(busy)
}

/// What a sale was paid from: wallets in words, with their amounts.
pub(super) fn wallet_parts(ui: &Ui, text: &str) -> Vec<(String, String)> {
    let part = |part: &str| {
        let (wallet, fen) = part.rsplit_once(':')?;
        Some((wallet_words(ui, wallet), yuan(fen.parse().ok()?)))
    };
    text.split(' ').filter_map(part).collect()
}

/// `n3@1.2`.
pub(super) fn read_writer(text: &str) -> Option<Writer> {
    let (node, life) = text.split_once('@')?;
    let (generation, counter) = life.split_once('.')?;
    let incarnation = Incarnation { generation: generation.parse().ok()?, counter: counter.parse().ok()? };
    Some(Writer { node: node.parse().ok()?, incarnation })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;

    #[test]
    fn cursors_and_writers_read_back() {
        let place = Place { at_ms: 1_795_494_600_000, node: 3, generation: 1, counter: 2, seq: 77 };
        let cursor = Cursor { place, mark: Mark { arm: 2, row: 9 } };
        assert_eq!(read_cursor(&write_cursor(cursor)), Some(cursor));
        assert_eq!(read_writer(&place.writer().to_string()), Some(place.writer()));
        for bad in ["", "1.2.3.4.5", "1.2.3.4.5.6.7.8", "x.1.1.1.1.0.1", "n3", "n3@1", "@."] {
            assert_eq!((read_cursor(bad), read_writer(bad)), (None, None), "{bad:?}");
        }
    }
}

//! A sale given back by headquarters 总部退款: when its box no longer may; a linked negative, the sale stays as it is.

use super::shared::*;
use super::transactions::{href, is_left, read_writer, wallet_parts};
use crate::core;
use crate::desk::{DeskError, REASON_CHARS_MAX, RefundWish};
use crate::refusal::Refusal;
use crate::store::people;
use crate::store::transactions::{self as store, SaleRow};
use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use yika_crdt::Fen;
use yika_crdt::ids::*;
use yika_ui::{Page, Ui, UiError, View};

/// A sale and what of it is left.
struct Sold {
    href: String,
    id: String,
    name: String,
    terminal: String,
    time: String,
    total: String,
    back: String,
    left: Fen,
    /// A counted meal: pages speak of no money.
    counted: bool,
    /// It cost nothing, counted or made free: it can be taken back once, whole.
    whole_only: bool,
    is_left: bool,
    paid: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "refund.html")]
pub(super) struct RefundForm {
    page: Page,
    sold: Sold,
    /// Why headquarters does not give back now.
    barred: Option<String>,
    wish: Wish,
    problem: String,
}

#[derive(Template)]
#[template(path = "refund_confirm.html")]
pub(super) struct Confirm {
    page: Page,
    sold: Sold,
    wish: Wish,
    amount: String,
    rest: String,
    problem: String,
}

#[derive(Template)]
#[template(path = "refund_done.html")]
pub(super) struct Done {
    page: Page,
    sold: Sold,
    amount: String,
    repeated: bool,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wish {
    /// `all` or `part`.
    scope: String,
    amount: String,
    /// `correction` or `refund`.
    kind: String,
    reason: String,
    request: String,
}

/// The sale at a place and what is left of it, if this operator may see it.
async fn sold(site: &Site, ui: &Ui, me: &Me, writer: &str, seq: u64) -> Result<(SaleRow, Sold), UiError> {
    let writer = read_writer(writer).ok_or(UiError::NotFound)?;
    let registry = site.desk.node.registry();
    me.may_see(registry.nodes.get(&writer).and_then(|record| record.campus))?;
    let read = site.desk.node.query(move |conn| {
        let Some(sale) = store::sale_at(conn, writer, seq)? else { return Ok(None) };
        let (refunds, holder) = (store::refunds_of(conn, sale.id)?, people::by_person(conn, sale.person)?);
        Ok(Some((sale, refunds, holder)))
    });
    let (sale, refunds, holder) = read.await.map_err(busy)?.ok_or(UiError::NotFound)?;
    let back = refunds.iter().fold(0i64, |sum, refund| sum.saturating_add(refund.total));
    let sold = Sold {
        href: href(sale.place),
        id: sale.id.to_string(),
        name: holder.map_or_else(|| ui.t("word.unknown_holder").to_owned(), |h| h.name),
        terminal: terminal_name(&registry, sale.id.terminal),
        time: ui.time_text(sale.place.at_ms),
        total: yuan(sale.total),
        back: yuan(back),
        left: Fen(sale.total.saturating_sub(back).max(0)),
        counted: sale.is_counted(),
        whole_only: sale.total == 0,
        is_left: is_left(sale.total, &refunds),
        paid: wallet_parts(ui, &sale.paid),
    };
    Ok((sale, sold))
}

/// Why headquarters does not give this sale back, as far as can be seen beforehand.
async fn barred(site: &Site, ui: &Ui, sale: &SaleRow, sold: &Sold) -> Result<Option<String>, UiError> {
    let (writer, day) = (sale.place.writer(), Day(sale.day));
    if !sold.is_left {
        return Ok(Some(Refusal::NotSoMuchLeft { sale: sale.id }.words(ui.lang)));
    }
    let fenced = site.desk.node.registry().fences.contains_key(&writer);
    let cut = site.desk.node.look_off_thread(move |store| core::is_cut(store, writer, day)).await.map_err(busy)?;
    let node = node_name(ui, &site.desk.node.registry(), writer.node);
    Ok((!fenced && !cut).then(|| ui.t_args("refund.barred.box", &[("node", &node), ("day", &day.to_string())])))
}

pub(super) async fn form(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path((writer, seq)): Path<(String, u64)>,
) -> Result<View<RefundForm>, UiError> {
    let (sale, sold) = sold(&site, &ui, &me, &writer, seq).await?;
    let barred = barred(&site, &ui, &sale, &sold).await?;
    let wish = Wish { scope: "all".into(), kind: "refund".into(), request: draw()?, ..Wish::default() };
    let page = site.page(&ui, "refund.title", "/transactions");
    Ok(View::new(RefundForm { page, sold, barred, wish, problem: String::new() }))
}

/// How much is given back; else what is wrong with the form.
fn amount_of(ui: &Ui, wish: &Wish, sold: &Sold) -> Result<Fen, String> {
    let reason = wish.reason.trim().chars().count();
    if reason == 0 || reason > REASON_CHARS_MAX {
        return Err(ui.t_args("word.bad_reason", &[("n", &REASON_CHARS_MAX.to_string())]));
    }
    if wish.scope == "all" || sold.whole_only {
        return Ok(sold.left);
    }
    let amount = keyed_amount(ui, &wish.amount)?;
    match amount.is_positive() && amount <= sold.left {
        true => Ok(amount),
        false => Err(ui.t_args("refund.out_of_range", &[("left", &yuan(sold.left.0))])),
    }
}

pub(super) async fn check(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path((writer, seq)): Path<(String, u64)>,
    Form(wish): Form<Wish>,
) -> Result<Response, UiError> {
    let (sale, sold) = sold(&site, &ui, &me, &writer, seq).await?;
    let barred = barred(&site, &ui, &sale, &sold).await?;
    let page = site.page(&ui, "refund.title", "/transactions");
    match amount_of(&ui, &wish, &sold) {
        Ok(amount) if barred.is_none() => Ok(View::new(Confirm {
            page,
            amount: yuan(amount.0),
            rest: yuan(sold.left.0.saturating_sub(amount.0)),
            sold,
            wish,
            problem: String::new(),
        })
        .into_response()),
        judged => {
            let problem = judged.err().unwrap_or_default();
            Ok(View::invalid(RefundForm { page, sold, barred, wish, problem }).into_response())
        }
    }
}

pub(super) async fn confirm(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path((writer, seq)): Path<(String, u64)>,
    Form(wish): Form<Wish>,
) -> Result<Response, UiError> {
    let (sale, before) = sold(&site, &ui, &me, &writer, seq).await?;
    let part = (wish.scope != "all" && !before.whole_only).then(|| keyed_amount(&ui, &wish.amount));
    let part = part.transpose().map_err(UiError::Invalid)?;
    let asked = RefundWish {
        sale: sale.id,
        fen: part.map(|fen| fen.0),
        correction: wish.kind == "correction",
        request: wish.request.clone(),
        reason: wish.reason.clone(),
    };
    let page = site.page(&ui, "refund.title", "/transactions");
    match site.desk.refund(&me.actor, &asked).await {
        Ok(given) => {
            let (_, sold) = sold(&site, &ui, &me, &writer, seq).await?;
            Ok(View::new(Done { page, sold, amount: yuan(given.fen), repeated: given.repeated }).into_response())
        }
        Err(DeskError::Refused(refusal)) => {
            let amount = part.unwrap_or(before.left);
            let rest = yuan(before.left.0.saturating_sub(amount.0));
            let problem = refusal.words(ui.lang);
            let confirm = Confirm { page, sold: before, wish, amount: yuan(amount.0), rest, problem };
            Ok(View::invalid(confirm).into_response())
        }
        Err(other) => Err(failed(other)),
    }
}

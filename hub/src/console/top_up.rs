//! Top-up 充值: an amount, one confirmation that shows before and after, a voucher to print.
//!
//! The form carries a number drawn when it was rendered: sent twice, it posts once.

use super::person::seen;
use super::shared::*;
use crate::desk::{DeskError, TOP_UP_FEN_MAX};
use crate::store::statement;
use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use yika_crdt::Fen;
use yika_crdt::ids::*;
use yika_ui::{Page, Ui, UiError, View};

/// Amounts at one click, in yuan.
const PRESETS_YUAN: [u32; 6] = [20, 50, 100, 200, 300, 500];

#[derive(Template)]
#[template(path = "top_up.html")]
pub(super) struct TopUpForm {
    page: Page,
    id: PersonId,
    name: String,
    staff_number: String,
    balance: String,
    request: String,
    amount: String,
    presets: [u32; 6],
    problem: String,
    most: String,
}

#[derive(Template)]
#[template(path = "top_up_confirm.html")]
pub(super) struct Confirm {
    page: Page,
    id: PersonId,
    name: String,
    staff_number: String,
    request: String,
    amount: Fen,
    shown: String,
    before: String,
    after: String,
}

#[derive(Template)]
#[template(path = "top_up_done.html")]
pub(super) struct Done {
    page: Page,
    id: PersonId,
    name: String,
    amount: String,
    before: String,
    after: String,
    voucher: Option<i64>,
    repeated: bool,
}

#[derive(Deserialize)]
pub(super) struct Wish {
    #[serde(default)]
    amount: String,
    #[serde(default)]
    request: String,
}

async fn form_of(site: &Site, ui: &Ui, me: &Me, person: &str, wish: Wish, problem: &str) -> Result<TopUpForm, UiError> {
    let (id, profile) = seen(site, me, person).await?;
    Ok(TopUpForm {
        page: site.page(ui, "top_up.title", "/people"),
        id,
        name: profile.name,
        staff_number: profile.staff_number,
        balance: yuan(balance(site, id)?),
        request: if wish.request.is_empty() { draw()? } else { wish.request },
        amount: wish.amount,
        presets: PRESETS_YUAN,
        problem: problem.to_owned(),
        most: yuan(TOP_UP_FEN_MAX),
    })
}

fn balance(site: &Site, person: PersonId) -> Result<i64, UiError> {
    let holding = site.desk.holding(person).map_err(unread)?;
    Ok(holding.total_fen.saturating_sub(holding.receivable_fen))
}

pub(super) async fn form(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
) -> Result<View<TopUpForm>, UiError> {
    let wish = Wish { amount: String::new(), request: String::new() };
    Ok(View::new(form_of(&site, &ui, &me, &person, wish, "").await?))
}

/// The amount, if it is one that may be paid in.
fn amount_of(ui: &Ui, text: &str) -> Result<Fen, String> {
    let amount = keyed_amount(ui, text)?;
    match amount.is_positive() && amount.0 <= TOP_UP_FEN_MAX {
        true => Ok(amount),
        false => Err(ui.t_args("top_up.out_of_range", &[("most", &yuan(TOP_UP_FEN_MAX))])),
    }
}

pub(super) async fn check(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
    Form(wish): Form<Wish>,
) -> Result<Response, UiError> {
    let amount = match amount_of(&ui, &wish.amount) {
        Ok(amount) => amount,
        Err(problem) => {
            return Ok(View::invalid(form_of(&site, &ui, &me, &person, wish, &problem).await?).into_response());
        }
    };
    let (id, profile) = seen(&site, &me, &person).await?;
    let before = balance(&site, id)?;
    Ok(View::new(Confirm {
        page: site.page(&ui, "top_up.title", "/people"),
        id,
        name: profile.name,
        staff_number: profile.staff_number,
        request: wish.request,
        amount,
        shown: yuan(amount.0),
        before: yuan(before),
        after: yuan(before.saturating_add(amount.0)),
    })
    .into_response())
}

pub(super) async fn confirm(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
    Form(wish): Form<Wish>,
) -> Result<Response, UiError> {
    let (id, profile) = seen(&site, &me, &person).await?;
    let amount = amount_of(&ui, &wish.amount).map_err(UiError::Invalid)?;
    let repeated = match site.desk.top_up(&me.actor, id, amount, &wish.request).await {
        Ok((_, repeated)) => repeated,
        Err(DeskError::Refused(refusal)) => return Err(UiError::Conflict(refusal.words(ui.lang))),
        Err(other) => return Err(failed(other)),
    };
    let voucher = site.desk.voucher(id, "top_up", &wish.request).await.map_err(unread)?;
    let posted = match voucher {
        Some(number) => {
            site.desk.node.query(move |conn| statement::movement_of(conn, id.0, number)).await.map_err(busy)?
        }
        None => None,
    };
    let after = posted.map_or_else(|| balance(&site, id), |m| Ok(m.balance))?;
    Ok(View::new(Done {
        page: site.page(&ui, "top_up.title", "/people"),
        id,
        name: profile.name,
        amount: yuan(amount.0),
        before: yuan(after.saturating_sub(amount.0)),
        after: yuan(after),
        voucher,
        repeated,
    })
    .into_response())
}

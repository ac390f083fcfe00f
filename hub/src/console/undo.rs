//! A top-up undone 撤销充值: by who took it, in his shift, with a reason; a movement of its own, linked to the first.

use super::person::seen;
use super::shared::*;
use crate::desk::{Actor, DeskError, teller};
use crate::store::statement::{self, Movement, Voucher};
use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use yika_crdt::ids::*;
use yika_ui::{Page, Ui, UiError, View};

#[derive(Template)]
#[template(path = "undo.html")]
pub(super) struct UndoForm {
    page: Page,
    id: PersonId,
    name: String,
    number: i64,
    time: String,
    who: String,
    amount: String,
    before: String,
    after: String,
    reason: String,
    problem: String,
}

#[derive(Template)]
#[template(path = "undo_done.html")]
pub(super) struct UndoDone {
    page: Page,
    id: PersonId,
    name: String,
    amount: String,
    left: String,
    /// It was undone before: no cash goes back a second time.
    repeated: bool,
    voucher: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct UndoWish {
    reason: String,
}

/// Whether this operator undoes this movement now.
pub(super) fn may_undo(actor: &Actor, voucher: &Voucher) -> bool {
    let now = teller(actor);
    voucher.kind == "top_up" && !voucher.undone && (voucher.operator, voucher.shift) == (now.operator, now.shift)
}

/// The top-up under a number, with what was asked for.
async fn top_up(site: &Site, person: PersonId, number: i64) -> Result<(Movement, Voucher), UiError> {
    let read = site.desk.node.query(move |conn| statement::movement_of(conn, person.0, number));
    let movement = read.await.map_err(busy)?.ok_or(UiError::NotFound)?;
    let voucher = movement.voucher.clone().filter(|v| v.kind == "top_up").ok_or(UiError::NotFound)?;
    Ok((movement, voucher))
}

async fn form_of(
    site: &Site,
    ui: &Ui,
    me: &Me,
    (person, number): (&str, i64),
    reason: &str,
    problem: String,
) -> Result<UndoForm, UiError> {
    let (id, profile) = seen(site, me, person).await?;
    let (movement, voucher) = top_up(site, id, number).await?;
    let holding = site.desk.holding(id).map_err(unread)?;
    let before = holding.total_fen.saturating_sub(holding.receivable_fen);
    Ok(UndoForm {
        page: site.page(ui, "undo.title", "/people"),
        id,
        name: profile.name,
        number,
        time: ui.time_text(movement.posted_ms),
        who: who_words(ui, &voucher.who),
        amount: yuan(movement.amount),
        before: yuan(before),
        after: yuan(before.saturating_sub(movement.amount)),
        reason: reason.to_owned(),
        problem,
    })
}

pub(super) async fn form(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path((person, number)): Path<(String, i64)>,
) -> Result<View<UndoForm>, UiError> {
    Ok(View::new(form_of(&site, &ui, &me, (&person, number), "", String::new()).await?))
}

pub(super) async fn undo(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path((person, number)): Path<(String, i64)>,
    Form(wish): Form<UndoWish>,
) -> Result<Response, UiError> {
    let (id, profile) = seen(&site, &me, &person).await?;
    let (movement, voucher) = top_up(&site, id, number).await?;
    match site.desk.undo_top_up(&me.actor, &voucher.request, &wish.reason).await {
        Ok(paid) => Ok(View::new(UndoDone {
            page: site.page(&ui, "undo.title", "/people"),
            id,
            name: profile.name,
            amount: yuan(movement.amount),
            left: yuan(paid.left_fen),
            repeated: paid.repeated,
            voucher: site.desk.voucher(id, "undo", &voucher.request).await.map_err(unread)?,
        })
        .into_response()),
        Err(DeskError::Refused(refusal)) => {
            let problem = refusal.words(ui.lang);
            let form = form_of(&site, &ui, &me, (&person, number), &wish.reason, problem).await?;
            Ok(View::invalid(form).into_response())
        }
        Err(other) => Err(failed(other)),
    }
}

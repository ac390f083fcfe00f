//! Slips 凭条 of movements at the counter: what was paid in, out or undone, by whom and why, to print and sign.

use super::person::seen;
use super::shared::*;
use crate::store::statement;
use askama::Template;
use axum::extract::{Path, State};
use std::sync::Arc;
use yika_crdt::ids::*;
use yika_ui::{Page, Ui, UiError, View};

#[derive(Template)]
#[template(path = "slip.html")]
pub(super) struct Slip {
    page: Page,
    id: PersonId,
    title: &'static str,
    what: &'static str,
    number: String,
    time: String,
    name: String,
    staff_number: String,
    card: String,
    amount: String,
    before: String,
    after: String,
    who: String,
    reason: String,
    /// Money went out: its receiver signs.
    signed: bool,
}

pub(super) async fn page(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path((person, number)): Path<(String, i64)>,
) -> Result<View<Slip>, UiError> {
    let (id, profile) = seen(&site, &me, &person).await?;
    let read = site.desk.node.query(move |conn| statement::movement_of(conn, id.0, number));
    let movement = read.await.map_err(busy)?.ok_or(UiError::NotFound)?;
    let voucher = movement.voucher.ok_or(UiError::NotFound)?;
    let (title, what) = match voucher.kind.as_str() {
        "top_up" => ("slip.title", "movement.top_up"),
        "withdrawal" => ("slip.withdrawal", "movement.withdrawal"),
        "undo" => ("slip.undo", "movement.undo"),
        _ => return Err(UiError::NotFound),
    };
    Ok(View::new(Slip {
        page: site.page(&ui, title, "/people"),
        id,
        title,
        what,
        number: format!("H-{:08}", movement.number),
        time: ui.time_text(movement.posted_ms),
        name: profile.name,
        staff_number: profile.staff_number,
        card: profile.card.map_or_else(|| "–".into(), masked_card),
        amount: signed_yuan(movement.change),
        before: yuan(movement.balance.saturating_sub(movement.change)),
        after: yuan(movement.balance),
        who: who_words(&ui, &voucher.who),
        reason: voucher.reason,
        signed: movement.change < 0,
    }))
}

/// First and last two digits: `10••01`.
fn masked_card(card: u64) -> String {
    let text = card.to_string();
    match text.len() {
        0..5 => text,
        length => format!("{}••{}", &text[..2], &text[length - 2..]),
    }
}

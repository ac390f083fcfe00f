//! Withdrawal 提现: an amount, one confirmation that says where the money lies, a voucher to sign.
//!
//! The form carries a number drawn when it was rendered: sent twice, or again after boxes did not answer, it pays once.

use super::person::seen;
use super::shared::*;
use crate::desk::{DeskError, REASON_CHARS_MAX};
use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use yika_crdt::Fen;
use yika_crdt::ids::*;
use yika_ui::{Page, Ui, UiError, View};

/// Name of the wallet that is paid out; subsidies and meals are not.
const MAIN: &str = "main";

#[derive(Template)]
#[template(path = "withdraw.html")]
pub(super) struct WithdrawForm {
    page: Page,
    who: Who,
    purse: Purse,
    request: String,
    amount: String,
    reason: String,
    problem: String,
}

#[derive(Template)]
#[template(path = "withdraw_confirm.html")]
pub(super) struct Confirm {
    page: Page,
    who: Who,
    purse: Purse,
    request: String,
    amount: Fen,
    shown: String,
    after: String,
    /// To be called back from boxes first.
    missing: Option<String>,
    reason: String,
    problem: String,
}

#[derive(Template)]
#[template(path = "withdraw_done.html")]
pub(super) struct Done {
    page: Page,
    who: Who,
    amount: String,
    left: String,
    voucher: Option<i64>,
}

struct Who {
    id: PersonId,
    name: String,
    staff_number: String,
}

/// What can be paid out, and where it lies.
struct Purse {
    balance: String,
    here: String,
    boxes: Vec<(String, String, bool)>,
    all: Fen,
    here_fen: i64,
    owed: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Wish {
    amount: String,
    request: String,
    reason: String,
}

fn purse(site: &Site, ui: &Ui, person: PersonId) -> Result<Purse, UiError> {
    let holding = site.desk.holding(person).map_err(unread)?;
    let registry = site.desk.node.registry();
    let peers = site.desk.node.peers();
    let main = holding.wallets.iter().find(|w| w.wallet == MAIN);
    let here_fen = main.map_or(0, |w| w.available_fen);
    let lying = main.iter().flat_map(|w| &w.at_boxes).filter(|(_, right, fenced)| *right > 0 && !fenced);
    let boxes: Vec<_> = lying.collect();
    let all = boxes.iter().fold(here_fen, |sum, (_, right, _)| sum.saturating_add(*right));
    Ok(Purse {
        balance: yuan(all),
        here: yuan(here_fen),
        boxes: boxes
            .iter()
            .map(|(writer, right, _)| (node_name(ui, &registry, writer.node), yuan(*right), peers.contains(writer)))
            .collect(),
        all: Fen(all.saturating_sub(holding.receivable_fen).max(0)),
        here_fen,
        owed: (holding.receivable_fen > 0).then(|| yuan(holding.receivable_fen)),
    })
}

async fn who(site: &Site, me: &Me, person: &str) -> Result<Who, UiError> {
    let (id, profile) = seen(site, me, person).await?;
    Ok(Who { id, name: profile.name, staff_number: profile.staff_number })
}

pub(super) async fn form(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
) -> Result<View<WithdrawForm>, UiError> {
    Ok(View::new(form_of(&site, &ui, &me, &person, Wish::default(), String::new()).await?))
}

async fn form_of(
    site: &Site,
    ui: &Ui,
    me: &Me,
    person: &str,
    wish: Wish,
    problem: String,
) -> Result<WithdrawForm, UiError> {
    let who = who(site, me, person).await?;
    Ok(WithdrawForm {
        page: site.page(ui, "withdraw.title", "/people"),
        purse: purse(site, ui, who.id)?,
        who,
        request: if wish.request.is_empty() { draw()? } else { wish.request },
        amount: wish.amount,
        reason: wish.reason,
        problem,
    })
}

/// The amount and the reason, if they are such that may be asked for.
fn amount_of(ui: &Ui, wish: &Wish, purse: &Purse) -> Result<Fen, String> {
    let amount = keyed_amount(ui, &wish.amount)?;
    if wish.reason.trim().chars().count() > REASON_CHARS_MAX {
        return Err(ui.t_args("word.long_reason", &[("n", &REASON_CHARS_MAX.to_string())]));
    }
    match amount.is_positive() && amount <= purse.all {
        true => Ok(amount),
        false => Err(ui.t_args("withdraw.out_of_range", &[("most", &yuan(purse.all.0))])),
    }
}

fn confirm_of(site: &Site, ui: &Ui, who: Who, purse: Purse, amount: Fen, wish: Wish, problem: String) -> Confirm {
    let missing = amount.0.saturating_sub(purse.here_fen.max(0));
    Confirm {
        page: site.page(ui, "withdraw.title", "/people"),
        request: wish.request,
        amount,
        shown: yuan(amount.0),
        after: yuan(purse.all.0.saturating_sub(amount.0)),
        missing: (missing > 0).then(|| yuan(missing)),
        reason: wish.reason.trim().to_owned(),
        who,
        purse,
        problem,
    }
}

pub(super) async fn check(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
    Form(wish): Form<Wish>,
) -> Result<Response, UiError> {
    let who = who(&site, &me, &person).await?;
    let purse = purse(&site, &ui, who.id)?;
    match amount_of(&ui, &wish, &purse) {
        Ok(amount) => Ok(View::new(confirm_of(&site, &ui, who, purse, amount, wish, String::new())).into_response()),
        Err(problem) => Ok(View::invalid(form_of(&site, &ui, &me, &person, wish, problem).await?).into_response()),
    }
}

pub(super) async fn confirm(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
    Form(wish): Form<Wish>,
) -> Result<Response, UiError> {
    let who = who(&site, &me, &person).await?;
    let amount = keyed_amount(&ui, &wish.amount).map_err(UiError::Invalid)?;
    match site.desk.withdraw(&me.actor, who.id, amount, &wish.request, &wish.reason).await {
        Ok(paid) => {
            let voucher = site.desk.voucher(who.id, "withdrawal", &wish.request).await.map_err(unread)?;
            let page = site.page(&ui, "withdraw.title", "/people");
            Ok(View::new(Done { page, who, amount: yuan(amount.0), left: yuan(paid.left_fen), voucher })
                .into_response())
        }
        // The same number again: what boxes give back meanwhile is paid then, and nothing twice.
        Err(DeskError::Refused(refusal)) => {
            let purse = purse(&site, &ui, who.id)?;
            let problem = refusal.words(ui.lang);
            Ok(View::invalid(confirm_of(&site, &ui, who, purse, amount, wish, problem)).into_response())
        }
        Err(other) => Err(failed(other)),
    }
}

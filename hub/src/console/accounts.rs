//! Accounts 账户: the statement of a person, and the books by kind of account with their trial balance.

use super::person::{BalanceLine, MovementLine, movement_line, seen};
use super::shared::*;
use crate::store::statement;
use crate::store::{read, totals};
use askama::Template;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use std::sync::Arc;
use yika_crdt::ids::*;
use yika_ui::{Page, Ui, UiError, View};

/// Movements on a page of a statement.
const STATEMENT_ROWS: u32 = 50;

#[derive(Template)]
#[template(path = "statement.html")]
pub(super) struct Statement {
    page: Page,
    id: PersonId,
    name: String,
    staff_number: String,
    balance: BalanceLine,
    rows: Vec<MovementLine>,
    inner: bool,
    older: Option<String>,
    first: bool,
    newest: String,
}

#[derive(Deserialize)]
pub(super) struct StatementFilter {
    before: Option<i64>,
    #[serde(default)]
    inner: u8,
}

pub(super) async fn statement(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
    Query(filter): Query<StatementFilter>,
) -> Result<View<Statement>, UiError> {
    let (id, profile) = seen(&site, &me, &person).await?;
    let (before, inner) = (filter.before, filter.inner == 1);
    let read = site.desk.node.query(move |conn| statement::statement(conn, id.0, before, inner, STATEMENT_ROWS + 1));
    let mut rows = read.await.map_err(busy)?;
    let more = rows.len() > STATEMENT_ROWS as usize;
    rows.truncate(STATEMENT_ROWS as usize);
    let older = rows
        .last()
        .filter(|_| more)
        .map(|last| format!("/people/{id}/statement?inner={}&before={}", u8::from(inner), last.number));
    let holding = site.desk.holding(id).map_err(unread)?;
    let page = site.page(&ui, "statement.title", "/people").crumb(profile.name.clone());
    Ok(View::new(Statement {
        id,
        name: profile.name,
        staff_number: profile.staff_number,
        balance: BalanceLine::of(&holding),
        rows: rows.iter().map(|m| movement_line(&ui, &me, m)).collect(),
        inner,
        older,
        first: before.is_none(),
        newest: format!("/people/{id}/statement?inner={}", u8::from(inner)),
        page,
    }))
}

#[derive(Template)]
#[template(path = "books.html")]
pub(super) struct Books {
    page: Page,
    sound: bool,
    sum: String,
    differing: u64,
    accounts: String,
    transfers: String,
    sold: String,
    classes: Vec<ClassLine>,
    merchants: Vec<(Named, String)>,
}

struct ClassLine {
    name: String,
    accounts: String,
    credits: String,
    debits: String,
    balance: String,
}

pub(super) async fn books(State(site): State<Arc<Site>>, ui: Ui) -> Result<View<Books>, UiError> {
    let read =
        site.desk.node.query(|conn| Ok((read::trial_balance(conn)?, totals::classes(conn)?, totals::merchants(conn)?)));
    let (balance, classes, merchants) = read.await.map_err(busy)?;
    let class = |c: &totals::AccountClass| ClassLine {
        name: ui.t(&format!("class.{}", c.class)).to_owned(),
        accounts: count(c.accounts),
        credits: yuan(c.credits),
        debits: yuan(c.debits),
        balance: yuan(c.credits.saturating_sub(c.debits)),
    };
    Ok(View::new(Books {
        page: site.page(&ui, "books.title", "/accounts"),
        sound: balance.sum_fen == 0 && balance.accounts_differing == 0,
        sum: yuan(balance.sum_fen),
        differing: balance.accounts_differing,
        accounts: count(balance.accounts),
        transfers: count(balance.transfers),
        sold: yuan(balance.sold_fen),
        classes: classes.iter().map(class).collect(),
        merchants: merchants.iter().map(|(merchant, fen)| (merchant_named(&ui, merchant), yuan(*fen))).collect(),
    }))
}

/// A merchant of the books by its number there.
fn merchant_named(ui: &Ui, text: &str) -> Named {
    match text.parse() {
        Ok(merchant) => merchant_words(ui, merchant),
        Err(_) => Named { name: text.to_owned(), ..Named::default() },
    }
}

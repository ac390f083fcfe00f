//! People 人员: found by name, pinyin, staff number or card, a page at a time; and the search box of every page.

use super::shared::*;
use crate::store::ProfileRow;
use crate::store::people::{self, PeopleQuery};
use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;
use yika_crdt::entry::BlockTarget;
use yika_crdt::ids::*;
use yika_crdt::person::PersonStatus;
use yika_ui::{Page, Pager, Role, Ui, UiError, View};

/// Furthest row that a page number reaches; who looks for one person in so many searches.
const OFFSET_MAX: u64 = 1_000_000;

#[derive(Template)]
#[template(path = "people.html")]
pub(super) struct People {
    page: Page,
    text: String,
    rows: Vec<PersonLine>,
    pager: Pager,
    counter: bool,
    till: bool,
    nobody: bool,
}

/// A person as a line of a list.
pub(super) struct PersonLine {
    id: PersonId,
    name: String,
    pinyin: String,
    staff_number: String,
    department: String,
    category: String,
    campus: String,
    card: String,
    balance: String,
    tone: &'static str,
    state: &'static str,
}

#[derive(Deserialize)]
pub(super) struct PeopleFilter {
    #[serde(default)]
    q: String,
    #[serde(default)]
    page: u64,
}

pub(super) async fn list(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Query(filter): Query<PeopleFilter>,
) -> Result<View<People>, UiError> {
    let text = shortened(&filter.q);
    let rows_per_page = u64::from(PAGE_ROWS);
    let page_number = filter.page.clamp(1, OFFSET_MAX / rows_per_page);
    let query = PeopleQuery {
        text: text.clone(),
        campus: site.scope(&ui).campus.map(|c| c.0),
        offset: (page_number - 1) * rows_per_page,
        limit: PAGE_ROWS,
    };
    let (found, total) = find_page(&site, query).await?;
    let persons = found.iter().map(|row| PersonId(row.person)).collect();
    let balances = site.desk.balances(persons).await.map_err(unread)?;
    let registry = site.desk.node.registry();
    let line = |row: ProfileRow| {
        let person = PersonId(row.person);
        let (tone, state) = standing(&site, person, row.card);
        PersonLine {
            id: person,
            pinyin: row.pinyin,
            staff_number: row.staff_number,
            department: row.department,
            category: category_words(&ui, &row.category),
            campus: campus_name(&registry, Some(CampusId(row.campus))),
            card: row.card.map_or_else(|| "–".into(), |c| c.to_string()),
            balance: yuan(balances.get(&person).map_or(0, |b| b.0)),
            tone,
            state,
            name: row.name,
        }
    };
    let base = format!("/people?{}&", serde_urlencoded::to_string([("q", &text)]).unwrap_or_default());
    let role = me.operator.role;
    Ok(View::new(People {
        page: site.page(&ui, "people.title", "/people"),
        rows: found.into_iter().map(line).collect(),
        pager: Pager::new(page_number, rows_per_page, total, base),
        counter: matches!(role, Role::Admin | Role::Clerk),
        till: role != Role::Auditor,
        nobody: site.desk.node.people.read().counts().0 == 0,
        text,
    }))
}

/// The page asked for, or the last one when it lies behind the end.
async fn find_page(site: &Site, query: PeopleQuery) -> Result<(Vec<ProfileRow>, u64), UiError> {
    let asked = query.clone();
    let (found, total) = site.desk.node.query(move |conn| people::find(conn, &asked)).await.map_err(busy)?;
    if !found.is_empty() || total == 0 {
        return Ok((found, total));
    }
    let offset = (total - 1) / u64::from(PAGE_ROWS) * u64::from(PAGE_ROWS);
    let last = PeopleQuery { offset, ..query };
    site.desk.node.query(move |conn| people::find(conn, &last)).await.map_err(busy)
}

/// How a person stands: colour and word.
pub(super) fn standing(site: &Site, person: PersonId, card: Option<u64>) -> (&'static str, &'static str) {
    let people = site.desk.node.people.read();
    if people.is_blocked(BlockTarget::Person(person)) {
        return ("bad", "person.state.blocked");
    }
    if card.is_some_and(|card| people.is_blocked(BlockTarget::Card(CardNumber(card)))) {
        return ("bad", "person.state.card_blocked");
    }
    match people.holder(person).map(|h| h.status) {
        None => ("warn", "person.state.unknown"),
        Some(PersonStatus::Suspended) => ("warn", "person.state.suspended"),
        Some(PersonStatus::Left) => ("plain", "person.state.left"),
        Some(PersonStatus::Active) if card.is_none() => ("plain", "person.state.no_card"),
        Some(PersonStatus::Active) => ("ok", "person.state.active"),
    }
}

/// A category's word in the page's language.
pub(super) fn category_words(ui: &Ui, word: &str) -> String {
    let category = crate::import::Category::parse(word);
    category.map_or_else(|| word.to_owned(), |category| ui.category(category.id().0))
}

#[derive(Deserialize)]
pub(super) struct SearchWish {
    #[serde(default)]
    q: String,
}

/// The search box: a transaction by its id, a person where only one matches, else the list.
pub(super) async fn search(
    State(site): State<Arc<Site>>,
    ui: Ui,
    Query(wish): Query<SearchWish>,
) -> Result<Response, UiError> {
    let text = shortened(&wish.q);
    if let Ok(id) = text.parse::<PurchaseId>() {
        let sales =
            site.desk.node.query(move |conn| crate::store::transactions::sales_of(conn, id)).await.map_err(busy)?;
        if let Some(sale) = sales.first() {
            let href = format!("/transactions/{}/{}", sale.place.writer(), sale.place.seq);
            return Ok(Redirect::to(&href).into_response());
        }
    }
    let campus = site.scope(&ui).campus.map(|c| c.0);
    let query = PeopleQuery { text: text.clone(), campus, offset: 0, limit: 2 };
    let (found, _) = site.desk.node.query(move |conn| people::find(conn, &query)).await.map_err(busy)?;
    let href = match found.as_slice() {
        [only] if !text.is_empty() => format!("/people/{}", PersonId(only.person)),
        _ => format!("/people?{}", serde_urlencoded::to_string([("q", &text)]).unwrap_or_default()),
    };
    Ok(Redirect::to(&href).into_response())
}

//! Another campus as a person's home 转园区: asked for and done in a dialog of the person's page.
//!
//! Leaves to others: who may, and what it does (`desk`).

use super::person::seen;
use super::shared::*;
use crate::desk::DeskError;
use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use yika_crdt::ids::*;
use yika_ui::{Choice, Page, Ui, UiError, View};

#[derive(Template)]
#[template(path = "person_campus.html")]
pub(super) struct MoveForm {
    page: Page,
    id: PersonId,
    name: String,
    campuses: Vec<Choice>,
    chosen: String,
    problem: String,
}

#[derive(Default, Deserialize)]
pub(super) struct Wish {
    #[serde(default)]
    campus: String,
}

async fn form_of(
    site: &Site,
    ui: &Ui,
    me: &Me,
    person: &str,
    wish: Wish,
    problem: String,
) -> Result<MoveForm, UiError> {
    let (id, profile) = seen(site, me, person).await?;
    let home = site.desk.node.people.read().holder(id).map(|h| h.home.to_string());
    let mut campuses = campus_choices(&site.desk.node.registry());
    campuses.retain(|campus| Some(&campus.value) != home.as_ref());
    let page = site.page(ui, "person.move", "/people");
    Ok(MoveForm { page, id, name: profile.name, campuses, chosen: wish.campus, problem })
}

pub(super) async fn form(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
) -> Result<View<MoveForm>, UiError> {
    Ok(View::new(form_of(&site, &ui, &me, &person, Wish::default(), String::new()).await?))
}

pub(super) async fn set(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(person): Path<String>,
    Form(wish): Form<Wish>,
) -> Result<Response, UiError> {
    let (id, _) = seen(&site, &me, &person).await?;
    let done = match wish.campus.parse::<CampusId>() {
        Ok(to) => site.desk.move_person(&me.actor, id, to).await,
        Err(_) => {
            let problem = ui.t("person.move.choose").to_owned();
            return Ok(View::invalid(form_of(&site, &ui, &me, &person, wish, problem).await?).into_response());
        }
    };
    match done {
        Ok(_) => Ok(([("hx-redirect", format!("/people/{id}"))], "").into_response()),
        Err(DeskError::Refused(refusal)) => {
            let problem = refusal.words(ui.lang);
            Ok(View::invalid(form_of(&site, &ui, &me, &person, wish, problem).await?).into_response())
        }
        Err(other) => Err(failed(other)),
    }
}

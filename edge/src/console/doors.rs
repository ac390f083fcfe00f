//! Doors of this campus as they report themselves (screen E8).
//!
//! Leaves to others: deciding and actuating (`crate::doors`).

use super::App;
use crate::doors::DoorView;
use askama::Template;
use axum::extract::State;
use yika_ui::{Page, Ui, UiError, View};

#[derive(Template)]
#[template(path = "box/doors.html")]
pub(super) struct DoorsPage {
    page: Page,
    doors: Vec<DoorView>,
}

/// The list.
pub(super) async fn page(ui: Ui, State(app): State<App>) -> Result<View<DoorsPage>, UiError> {
    Ok(View::new(DoorsPage { page: app.page(&ui, "doors.title", "/doors")?, doors: app.0.doors.list() }))
}

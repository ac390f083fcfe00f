//! Recovery 恢复: what a hub restored from a backup still waits for, box by box, and what it keeps back meanwhile.
//!
//! The same state stands at the top of every page as long as it lasts. Leaves to others: how it ends (`core::recover`).

use super::edges::{EdgeLine, edge_lines};
use super::shared::*;
use crate::desk::Desk;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use yika_ui::{Lang, Notice, NoticeSource, Page, Role, Tone, Ui, UiError, View};

/// Names of boxes in the notice; the page lists all of them.
const NAMED_MAX: usize = 5;

#[derive(Template)]
#[template(path = "recovery.html")]
pub(super) struct RecoveryPage {
    page: Page,
    v: Shown,
}

#[derive(Template)]
#[template(path = "recovery_part.html")]
pub(super) struct RecoveryPart {
    page: Page,
    v: Shown,
}

/// What both templates show.
struct Shown {
    since: Option<String>,
    life: String,
    boxes: Vec<BoxLine>,
    waiting: usize,
    admin: bool,
    chief: bool,
}

struct BoxLine {
    edge: EdgeLine,
    tone: &'static str,
    word: &'static str,
    waits: bool,
    hint: &'static str,
}

/// What every page says while this hub recovers.
pub(super) fn notice(desk: &Desk) -> NoticeSource {
    let node = Arc::clone(&desk.node);
    NoticeSource::new(move |ui| {
        let recovering = node.ears().recovery.borrow().clone()?;
        let registry = node.registry();
        let names: Vec<String> =
            recovering.waiting_for.iter().take(NAMED_MAX).map(|n| node_name(ui, &registry, *n)).collect();
        let mut names = names.join(if ui.lang == Lang::Zh { "、" } else { ", " });
        if recovering.waiting_for.len() > NAMED_MAX {
            names.push_str(" …");
        }
        let count = recovering.waiting_for.len().to_string();
        let title = match recovering.waiting_for.len() {
            0 => ui.t("recovery.notice.last").to_owned(),
            _ => ui.t_args("recovery.notice", &[("n", &count), ("names", &names)]),
        };
        Some(Notice {
            tone: Tone::Warn,
            title,
            text: ui.t("recovery.notice.text").to_owned(),
            href: "/recovery",
            link: ui.t("recovery.notice.link").to_owned(),
        })
    })
}

pub(super) async fn page(State(site): State<Arc<Site>>, ui: Ui, me: Me) -> Result<Response, UiError> {
    let recovering = site.desk.node.ears().recovery.borrow().clone();
    let waiting_for = recovering.as_ref().map(|r| r.waiting_for.clone()).unwrap_or_default();
    let lines = edge_lines(&site, &ui, site.scope(&ui).campus).await?;
    let mut boxes: Vec<BoxLine> = lines
        .into_iter()
        .map(|edge| {
            let waits = waiting_for.contains(&edge.node);
            let (tone, word, hint) = match (edge.fenced.is_some(), waits, edge.connected) {
                (true, _, _) => ("plain", "edge.state.fenced", "recovery.box.fenced"),
                (false, true, true) => ("info", "recovery.sending", "recovery.box.sending"),
                (false, true, false) => ("warn", "recovery.awaited", "recovery.box.awaited"),
                (false, false, _) => ("ok", "recovery.reported", "recovery.box.reported"),
            };
            BoxLine { edge, tone, word, waits, hint }
        })
        .collect();
    boxes.sort_by_key(|line| !line.waits);
    let v = Shown {
        since: recovering.map(|r| ui.time_text(r.since_ms)),
        life: site.desk.node.writer().to_string(),
        waiting: waiting_for.len(),
        boxes,
        admin: me.operator.role == Role::Admin,
        chief: me.is_chief(),
    };
    let page = site.page(&ui, "recovery.title", "/recovery");
    Ok(match ui.htmx {
        true => View::new(RecoveryPart { page, v }).into_response(),
        false => View::new(RecoveryPage { page, v }).into_response(),
    })
}

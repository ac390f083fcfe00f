//! Terminals of this campus (screen E3, list): what the registry says, what they told, who sells at the web tills.
//!
//! Leaves to others: the interface they speak (`crate::terminals`).

use super::status::presence_words;
use super::{App, show};
use crate::terminals::Status;
use askama::Template;
use axum::extract::State;
use yika_crdt::entry::{TerminalKind, TerminalState};
use yika_ui::{Page, Ui, UiError, View};

#[derive(Template)]
#[template(path = "box/terminals.html")]
pub(super) struct TerminalsPage {
    page: Page,
    rows: Vec<TerminalRow>,
}

struct TerminalRow {
    id: String,
    name: String,
    kind: &'static str,
    place: String,
    tone: &'static str,
    state: &'static str,
    shift: String,
    heard_tone: &'static str,
    heard: String,
    told: String,
}

/// The list.
pub(super) async fn page(ui: Ui, State(app): State<App>) -> Result<View<TerminalsPage>, UiError> {
    let shifts = app.shifts()?;
    let registry = app.node().registry();
    let campus = app.node().place().campus;
    let ours = registry.terminals.values().filter(|t| Some(t.campus) == campus);
    let rows = ours.map(|terminal| {
        let open = shifts.iter().find(|s| s.terminal == terminal.terminal && s.is_open());
        let (tone, state) = match terminal.state {
            TerminalState::Deployed => ("ok", "terminal.deployed"),
            TerminalState::Suspended => ("warn", "terminal.suspended"),
            TerminalState::Scrapped => ("plain", "terminal.scrapped"),
        };
        let status = app.0.board.status(terminal.terminal);
        let (heard_tone, heard) = heard(&ui, status.as_ref());
        TerminalRow {
            heard_tone,
            heard,
            told: told(&ui, status.as_ref()),
            id: terminal.terminal.to_string(),
            name: terminal.name.clone(),
            kind: match terminal.kind {
                TerminalKind::Till => "terminal.till",
                TerminalKind::Door => "terminal.door",
                TerminalKind::Attendance => "terminal.attendance",
            },
            place: terminal.door.map_or_else(|| terminal.outlet.to_string(), |door| door.to_string()),
            tone,
            state,
            shift: open.map_or_else(String::new, |shift| {
                let (who, since) = (app.operator_name(&ui, shift.operator), ui.clock_text(shift.from_ms));
                ui.t_args("till.taken", &[("who", &who), ("since", &since)])
            }),
        }
    });
    let rows = rows.collect();
    Ok(View::new(TerminalsPage { page: app.page(&ui, "terminals.title", "/terminals"), rows }))
}

/// How the terminal stands and how fresh its last word is; machines only, a web till speaks with its page.
fn heard(ui: &Ui, status: Option<&Status>) -> (&'static str, String) {
    let (tone, word) = presence_words(status.map(|s| s.presence));
    match status {
        Some(status) => {
            let age = show::age(ui, u64::try_from(status.age.as_millis()).unwrap_or(u64::MAX));
            (tone, format!("{} · {age}", ui.t(word)))
        }
        None => (tone, ui.t(word).to_owned()),
    }
}

/// Maker, software, backlog.
fn told(ui: &Ui, status: Option<&Status>) -> String {
    let Some(status) = status else { return String::new() };
    let model = status.model.iter().map(|(model, firmware)| format!("{model} {firmware}"));
    let backlog = status.heartbeat.iter().filter(|beat| beat.backlog > 0);
    let backlog = backlog.map(|beat| ui.t_args("terminal.backlog", &[("n", &beat.backlog.to_string())]));
    model.chain(backlog).collect::<Vec<_>>().join(" · ")
}

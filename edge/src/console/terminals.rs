//! Terminals of this campus (screen E3, list): what the registry says, and who sells at the web tills.
//!
//! Leaves to others: heartbeats and the interface (`crate::terminals`).

use super::App;
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
        TerminalRow {
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
    Ok(View::new(TerminalsPage { page: app.page(&ui, "terminals.title", "/terminals")?, rows }))
}

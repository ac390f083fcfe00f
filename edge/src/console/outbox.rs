//! What headquarters does not hold yet (screen E7): the queue, its marks, and what is in quarantine.
//!
//! Leaves to others: sending (`link`), pruning (core).

use super::events::EventLine;
use super::{App, show};
use crate::ended;
use askama::Template;
use axum::extract::State;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::ReceiptRecord;
use yika_crdt::ids::Seq;
use yika_crdt::keys;
use yika_crdt::store::decode_row;
use yika_link::sync::Node;
use yika_ui::{Lang, Page, Saved, Ui, UiError, View};

/// Waiting entries shown; the count above is of all.
const WAITING_SHOWN_MAX: usize = 50;
/// Bytes of waiting entries read for it.
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// Entries in quarantine shown.
const QUARANTINE_SHOWN_MAX: usize = 50;

#[derive(Template)]
#[template(path = "box/outbox.html")]
pub(super) struct OutboxPage {
    page: Page,
    unsent: String,
    oldest: String,
    written: String,
    held: String,
    archived: String,
    waiting: Vec<EventLine>,
    quarantine: Vec<String>,
    /// What a fenced box says of entries that nobody will confirm to it.
    unconfirmed: Option<String>,
}

/// The queue.
pub(super) async fn page(ui: Ui, State(app): State<App>) -> Result<View<OutboxPage>, UiError> {
    let status = app.status();
    let me = app.node().me();
    let receipt = app.node().row::<ReceiptRecord>(&keys::receipt(me.incarnation));
    let receipt = receipt.map_err(|e| UiError::unavailable(e, Saved::Nothing))?;
    let journal = FeedId { writer: me, channel: Channel::Journal };
    let held = Seq(status.journal.saturating_sub(status.unsent));
    let from = held.next();
    let entries = match status.unsent {
        0 => Vec::new(),
        _ => app.look(|store| store.entries(&journal, from, WAITING_BYTES_MAX))?,
    };
    let numbered = (from.0..).map(Seq).zip(entries.iter().take(WAITING_SHOWN_MAX));
    let waiting = numbered.map(|(seq, bytes)| app.event_line(&ui, journal, seq, bytes)).collect::<Result<_, _>>()?;
    let quarantine: Vec<String> = app.look(|store| {
        let rows = store.scan(keys::QUARANTINE, None, QUARANTINE_SHOWN_MAX)?;
        rows.iter().map(|(key, bytes)| decode_row::<String>(key, bytes)).collect()
    })?;
    let [zh, en] = ended::unconfirmed(me.node);
    let unconfirmed = if ui.lang == Lang::Zh { zh } else { en };
    Ok(View::new(OutboxPage {
        unconfirmed: (status.fenced && status.unsent > 0).then_some(unconfirmed),
        page: app.page(&ui, "outbox.title", "/outbox"),
        unsent: show::count(status.unsent),
        oldest: status.unsent_age_ms.map_or_else(|| "—".to_owned(), |age_ms| show::age(&ui, age_ms)),
        written: Seq(status.journal).to_string(),
        held: held.to_string(),
        archived: receipt.map_or(Seq::ZERO, |r| r.archived).min(held).to_string(),
        waiting,
        quarantine: quarantine.iter().map(|cause| ui.alarm_detail("quarantine", cause)).collect(),
    }))
}

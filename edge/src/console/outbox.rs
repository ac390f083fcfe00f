//! What headquarters does not hold yet (screen E7): the queue, its marks, and what is in quarantine.
//!
//! Leaves to others: sending (`link`), pruning (core).

use super::events::EventLine;
use super::facts::Facts;
use super::{App, show};
use askama::Template;
use axum::extract::State;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::ids::Seq;
use yika_crdt::keys;
use yika_crdt::store::decode_row;
use yika_link::sync::Node;
use yika_ui::{Page, Saved, Ui, UiError, View};

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
}

/// The queue.
pub(super) async fn page(ui: Ui, State(app): State<App>) -> Result<View<OutboxPage>, UiError> {
    let facts = tokio::task::block_in_place(|| Facts::read(app.node()));
    let facts = facts.map_err(|e| UiError::unavailable(e, Saved::Nothing))?;
    let journal = FeedId { writer: app.node().me(), channel: Channel::Journal };
    let from = facts.held.next();
    let entries = match facts.unsent() {
        0 => Vec::new(),
        _ => app.look(|store| store.entries(&journal, from, WAITING_BYTES_MAX))?,
    };
    let numbered = (from.0..).map(Seq).zip(entries.iter().take(WAITING_SHOWN_MAX));
    let waiting = numbered.map(|(seq, bytes)| app.event_line(&ui, journal, seq, bytes)).collect::<Result<_, _>>()?;
    let quarantine = app.look(|store| {
        let rows = store.scan(keys::QUARANTINE, None, QUARANTINE_SHOWN_MAX)?;
        rows.iter().map(|(key, bytes)| decode_row::<String>(key, bytes)).collect()
    })?;
    Ok(View::new(OutboxPage {
        page: app.page(&ui, "outbox.title", "/outbox")?,
        unsent: show::count(facts.unsent()),
        oldest: facts.oldest_age_ms.map_or_else(|| "—".to_owned(), |age_ms| show::age(&ui, age_ms)),
        written: facts.written.to_string(),
        held: facts.held.to_string(),
        archived: facts.archived.to_string(),
        waiting,
        quarantine,
    }))
}

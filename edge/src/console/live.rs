//! What happens at tills and doors of this campus, as it happens (screen E4).
//!
//! A stream of rows from the journals of this box and its siblings; every row names the positions after it, so that a
//! page that lost the line goes on from there. Leaves to others: words (`events`).

use super::App;
use super::events::{About, EventLine};
use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::Instant;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::Entry;
use yika_crdt::ids::*;
use yika_ui::serve::Stopping;
use yika_ui::{Page, Saved, Ui, UiError, View};

/// Rows shown and kept on the page; a page further behind begins with the newest.
pub(super) const ROWS_MAX: u64 = 100;
/// Pages that listen at once.
const LISTENERS_MAX: usize = 16;
/// Silence after which a heartbeat is sent; the page tells a lost line by its absence.
const HEARTBEAT_S: u64 = 10;
/// A stream ends after so long, so that the page comes back and its session is checked again.
const STREAM_S_MAX: u64 = 300;
/// Rows of one burst are gathered for so long.
const GATHER_MS: u64 = 150;
/// Journals that a position may name.
const JOURNALS_MAX: usize = 64;

/// Seats of the pages that listen.
pub(super) struct Listeners(Arc<Semaphore>);

impl Default for Listeners {
    fn default() -> Self {
        Listeners(Arc::new(Semaphore::new(LISTENERS_MAX)))
    }
}

/// How far each journal was read.
type Positions = BTreeMap<FeedId, Seq>;

#[derive(Template)]
#[template(path = "live/page.html")]
pub(super) struct LivePage {
    page: Page,
    show: Show,
    lines: Vec<EventLine>,
    stream: String,
    rows_max: u64,
    last: String,
}

#[derive(Template)]
#[template(path = "live/rows.html")]
struct RowsPart {
    page: Page,
    lines: Vec<EventLine>,
}

/// What the page is filtered by.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Show {
    #[default]
    All,
    Till,
    Door,
}

impl Show {
    fn code(self) -> &'static str {
        match self {
            Show::All => "all",
            Show::Till => "till",
            Show::Door => "door",
        }
    }

    fn admits(self, line: &EventLine) -> bool {
        match self {
            Show::All => true,
            Show::Till => line.about == About::Till,
            Show::Door => line.about == About::Door,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct LiveQuery {
    #[serde(default)]
    show: Show,
    #[serde(default)]
    after: String,
}

/// The newest rows, and the stream that goes on from them.
pub(super) async fn page(
    ui: Ui,
    State(app): State<App>,
    Query(query): Query<LiveQuery>,
) -> Result<View<LivePage>, UiError> {
    let ends = app.journal_ends()?;
    let begin = ends.iter().map(|(feed, end)| (*feed, Seq(end.0.saturating_sub(ROWS_MAX)))).collect();
    let (lines, reached) = app.lines_after(&ui, begin, query.show)?;
    let last = lines.first().map_or_else(String::new, |line| line.time.clone());
    Ok(View::new(LivePage {
        page: app.page(&ui, "live.title", "/live"),
        show: query.show,
        lines,
        stream: format!("/live/stream?show={}&after={}", query.show.code(), text_of(&reached)),
        rows_max: ROWS_MAX,
        last,
    }))
}

/// Rows as they are written.
pub(super) async fn stream(
    ui: Ui,
    State(app): State<App>,
    Query(query): Query<LiveQuery>,
    headers: HeaderMap,
    stopping: Option<Extension<Stopping>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, UiError> {
    let seat = Arc::clone(&app.0.live.0).try_acquire_owned();
    let seat = seat.map_err(|_| UiError::unavailable("too many live pages are open", Saved::Nothing))?;
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    let after = positions_of(resumed.unwrap_or(&query.after));
    let listener = Listener {
        grown: app.node().ears().grown.subscribe(),
        until: Instant::now() + Duration::from_secs(STREAM_S_MAX),
        app,
        ui,
        show: query.show,
        after,
        look_first: true,
        _seat: seat,
    };
    let rows = futures::stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok(event), listener))
    });
    // A page that listens would hold up the stop of the box.
    let stopped = async move {
        match stopping {
            Some(Extension(stopping)) => stopping.told().await,
            None => std::future::pending().await,
        }
    };
    let rows = rows.take_until(Box::pin(stopped));
    Ok(Sse::new(rows).keep_alive(KeepAlive::new().interval(Duration::from_secs(HEARTBEAT_S)).event(beat())))
}

fn beat() -> Event {
    Event::default().event("beat").data("")
}

struct Listener {
    app: App,
    ui: Ui,
    grown: broadcast::Receiver<FeedId>,
    until: Instant,
    show: Show,
    after: Positions,
    look_first: bool,
    _seat: OwnedSemaphorePermit,
}

impl Listener {
    /// The next rows, or the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if !std::mem::take(&mut self.look_first) && !self.wait().await {
                return None;
            }
            let (lines, reached) = match self.app.lines_after(&self.ui, self.after.clone(), self.show) {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!(?error, "a live page cannot be served");
                    return None;
                }
            };
            self.after = reached;
            if lines.is_empty() {
                continue;
            }
            let rows = RowsPart { page: self.ui.page("live.title", "/live"), lines }.render();
            // An event's lines may not contain line breaks.
            let rows = rows.unwrap_or_default().replace(['\n', '\r'], "");
            return Some(Event::default().id(text_of(&self.after)).data(rows));
        }
    }

    /// Waits until a journal has grown; false when the stream has lasted long enough.
    async fn wait(&mut self) -> bool {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.until) => return false,
                grown = self.grown.recv() => match grown {
                    Ok(feed) if feed.channel != Channel::Journal => continue,
                    Err(broadcast::error::RecvError::Closed) => return false,
                    _ => break,
                },
            }
        }
        tokio::time::sleep(Duration::from_millis(GATHER_MS)).await;
        while !matches!(
            self.grown.try_recv(),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed)
        ) {}
        true
    }
}

impl App {
    /// Ends of the journals of this campus.
    fn journal_ends(&self) -> Result<Positions, UiError> {
        let feeds = self.look(|store| store.feeds())?;
        let journals = feeds.into_iter().filter(|(feed, _)| feed.channel == Channel::Journal);
        Ok(journals.map(|(feed, held)| (feed, held.end.seq)).take(JOURNALS_MAX).collect())
    }

    /// The newest lines after the positions, newest first, and the positions reached.
    fn lines_after(&self, ui: &Ui, after: Positions, show: Show) -> Result<(Vec<EventLine>, Positions), UiError> {
        let ends = self.journal_ends()?;
        let mut read = Vec::new();
        for (feed, end) in &ends {
            let least = end.0.saturating_sub(ROWS_MAX);
            let from = Seq(after.get(feed).map_or(least, |seq| seq.0.max(least))).next();
            if from > *end {
                continue;
            }
            let mut seq = from;
            while seq <= *end {
                let entries = self.look(|store| store.entries(feed, seq, usize::MAX / 2))?;
                if entries.is_empty() {
                    break;
                }
                for bytes in entries.into_iter().take((end.0 - seq.0 + 1) as usize) {
                    let at_ms = Entry::decode(&bytes).map_or(0, |e| e.stamp.hub_time_ms);
                    read.push((at_ms, *feed, seq, bytes));
                    seq = seq.next();
                }
            }
        }
        read.sort_by_key(|(at_ms, feed, seq, _)| std::cmp::Reverse((*at_ms, *feed, *seq)));
        let mut lines = Vec::new();
        for (_, feed, seq, bytes) in read {
            let line = self.event_line(ui, feed, seq, &bytes)?;
            if show.admits(&line) && (lines.len() as u64) < ROWS_MAX {
                lines.push(line);
            }
        }
        Ok((lines, ends))
    }
}

/// `1.1.2.345,2.1.1.78`: node, generation, counter, position of each journal.
fn text_of(positions: &Positions) -> String {
    let one = |(feed, seq): (&FeedId, &Seq)| {
        let Incarnation { generation, counter } = feed.writer.incarnation;
        format!("{}.{generation}.{counter}.{}", feed.writer.node.0, seq.0)
    };
    positions.iter().map(one).collect::<Vec<_>>().join(",")
}

/// The positions in a text; what does not read is left out, so that the page begins with the newest there.
fn positions_of(text: &str) -> Positions {
    let one = |part: &str| {
        let mut numbers = part.split('.').map(|n| n.parse::<u64>().ok());
        let mut small = || numbers.next().flatten().and_then(|n| u32::try_from(n).ok());
        let (node, generation, counter) = (small()?, small()?, small()?);
        let seq = numbers.next().flatten()?;
        let writer = Writer { node: NodeId(node), incarnation: Incarnation { generation, counter } };
        Some((FeedId { writer, channel: Channel::Journal }, Seq(seq)))
    };
    text.split(',').take(JOURNALS_MAX).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_the_way_through_the_page() {
        let text = "1.1.2.345,2.1.1.78";
        assert_eq!(text_of(&positions_of(text)), text);
        assert!(positions_of("1.1.x.3,,9").is_empty());
    }
}

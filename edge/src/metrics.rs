//! Figures for monitoring, in the Prometheus text form, on a listener of their own.
//!
//! Leaves to others: what the figures are (`status`).

use crate::doors::{Doors, LineState};
use crate::node::EdgeNode;
use crate::status::{self, State, Status};
use crate::terminals::Board;
use axum::Router;
use axum::extract::State as From;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;

/// What the listener serves.
pub fn router(node: Arc<EdgeNode>, doors: Doors, board: Arc<Board>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state((node, doors, board))
}

async fn metrics(From((node, doors, board)): From<(Arc<EdgeNode>, Doors, Arc<Board>)>) -> impl IntoResponse {
    let status = tokio::task::block_in_place(|| status::gather(&node, &doors, &board));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], in_text(&status))
}

fn in_text(status: &Status) -> String {
    let seconds = |ms: Option<u64>| ms.map(|ms| ms as f64 / 1000.0);
    let siblings = status.siblings.iter().filter(|s| s.connected).count();
    let needs_hands = matches!(status.state, State::Attention | State::Down);
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            text.push_str(&format!(
                "# HELP yika_edge_{name} {help}\n# TYPE yika_edge_{name} gauge\nyika_edge_{name} {value}\n"
            ));
        }
    };
    let count = |n: u64| Some(n as f64);
    gauge("attention", "1 when somebody must look", count(needs_hands.into()));
    gauge("outbox_entries", "Journal entries that headquarters has not confirmed", count(status.unsent));
    gauge("outbox_oldest_age_seconds", "Age of the oldest of them", Some(seconds(status.unsent_age_ms).unwrap_or(0.0)));
    gauge("journal_entries", "Last journal position", count(status.journal));
    gauge("hub_heard_age_seconds", "Age of the newest word from headquarters", seconds(status.hub_heard_age_ms));
    gauge("lists_age_seconds", "Age of what headquarters published", seconds(status.lists_age_ms));
    gauge("lease_left_seconds", "Permission to spend left", status.lease_left_ms.map(|ms| ms as f64 / 1000.0));
    gauge("hub_connected", "1 while a connection to headquarters is open", count(status.hub_connected.into()));
    gauge("siblings_connected", "Boxes of this campus connected", count(siblings as u64));
    let terminals = status.periphery.counts();
    let silent =
        status.periphery.doors.iter().filter(|d| matches!(d.view.line, LineState::Lost | LineState::DriverDown));
    gauge("terminals_online", "Terminals in use heard within three heartbeats", count(terminals.online as u64));
    gauge(
        "terminals_lost",
        "Terminals in use heard before and silent for more than a minute",
        count(terminals.lost as u64),
    );
    gauge("doors_silent", "Doors of this box whose hardware does not answer", count(silent.count() as u64));
    gauge("quarantined_entries", "Entries that could not be used", count(status.quarantined));
    gauge("writer_waiting", "Commands that wait for the writer", count(status.writer_waiting as u64));
    gauge("writer_serving", "1 while the database takes writes", count(status.refusing.is_none().into()));
    gauge("may_append", "0 while the database is behind what was written before", count(status.shut.is_none().into()));
    gauge("clock_trusted", "1 when the clock may judge leases and days", count(status.clock_trusted.into()));
    gauge("database_bytes", "Size of the database", count(status.database_bytes));
    gauge("wal_bytes", "Size of the write-ahead log", count(status.wal_bytes));
    gauge("disk_free_bytes", "Free space of the data folder", status.disk.map(|d| d.free_bytes as f64));
    gauge("certificate_days", "Days until the certificate ends", status.certificate_days.map(|d| d as f64));
    gauge("uptime_seconds", "How long the process runs", seconds(Some(status.uptime_ms)));
    text
}

//! `/metrics` on a listener of its own: what monitoring must know of headquarters, as Prometheus text.
//!
//! Leaves to others: pages for people (`console`), `/healthz` and `/readyz` (`app`).

use crate::clock::wall_ms;
use crate::console::SignIns;
use crate::desk::{Desk, DeskError};
use crate::store::totals;
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use yika_store::writer::Health;
use yika_ui::serve::{Bounds, serve as serve_bounded};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where the figures come from.
pub struct Metrics {
    desk: Desk,
    dir: PathBuf,
    sign_ins: SignIns,
}

impl Metrics {
    /// Figures of a running hub whose database lies in `dir`.
    pub fn new(desk: Desk, dir: PathBuf, sign_ins: SignIns) -> Metrics {
        Metrics { desk, dir, sign_ins }
    }

    /// All figures at this moment.
    ///
    /// # Errors
    /// When the hub cannot read.
    pub async fn text(&self) -> Result<String, DeskError> {
        let mut out = Page::default();
        let node = &self.desk.node;
        out.gauge("yika_hub_serving", "1 while the writer serves", i64::from(node.health() == Health::Serving));
        let imbalance = node.query(totals::imbalance).await?;
        out.gauge("yika_hub_books_imbalance_fen", "Sum of all accounts; anything but 0 is an error", imbalance);
        let (people, cards) = node.people.read().counts();
        out.gauge("yika_hub_people", "People in the registry", people as i64);
        out.gauge("yika_hub_cards", "Cards in the registry", cards as i64);
        out.gauge("yika_hub_writer_waiting", "Commands that wait for the writer", node.waiting() as i64);
        out.gauge("yika_hub_connected_boxes", "Boxes with an open connection", node.peers().len() as i64);
        out.gauge(
            "yika_hub_quarantined_entries",
            "Entries that could not be used",
            self.desk.quarantine().await?.len() as i64,
        );
        let doubts = node.look_off_thread(|store| crate::core::price_doubts(store)).await?;
        out.head("yika_hub_price_doubts_total", "Sales whose price headquarters could not confirm, ever", "counter");
        out.line("yika_hub_price_doubts_total", "", doubts as i64);
        self.files(&mut out);
        self.safety(&mut out).await?;
        self.boxes(&mut out).await?;
        let (accepted, refused, locked) = self.sign_ins.counts();
        out.head("yika_hub_sign_ins_total", "Sign-ins at the console since the start", "counter");
        for (outcome, count) in [("accepted", accepted), ("refused", refused), ("locked", locked)] {
            out.line("yika_hub_sign_ins_total", &format!("outcome=\"{outcome}\""), count as i64);
        }
        Ok(out.0)
    }

    fn files(&self, out: &mut Page) {
        let bytes = |name: &str| std::fs::metadata(self.dir.join(name)).map_or(0, |file| file.len() as i64);
        out.gauge("yika_hub_database_bytes", "Size of the database", bytes("hub.db"));
        out.gauge("yika_hub_wal_bytes", "Size of the write-ahead log", bytes("hub.db-wal"));
    }

    async fn safety(&self, out: &mut Page) -> Result<(), DeskError> {
        if let Some(last) = self.desk.last_backup().await? {
            let age_s = wall_ms().saturating_sub(last.at_ms).max(0) / 1000;
            out.gauge("yika_hub_backup_age_seconds", "Age of the newest proved backup", age_s);
            out.gauge("yika_hub_backup_bytes", "Size of the newest proved backup", last.bytes as i64);
        }
        if let Some(log) = self.desk.node.ears().log.borrow().as_ref() {
            let now_ms = wall_ms();
            out.gauge("yika_hub_log_sound", "1 while the log is whole and up to date", i64::from(log.is_sound(now_ms)));
            let help = "How long the oldest turn has been waiting for the log's folder";
            out.gauge("yika_hub_log_lag_milliseconds", help, log.lag_ms(now_ms));
        }
        let failed = self.desk.failed_backups() as i64;
        out.head("yika_hub_backups_failed_total", "Backups that failed since the start", "counter");
        out.line("yika_hub_backups_failed_total", "", failed);
        let awaited = self.desk.node.ears().recovery.borrow().as_ref().map_or(0, |r| r.waiting_for.len() as i64);
        out.gauge("yika_hub_recovery_awaited_boxes", "Boxes that a restored hub still waits for", awaited);
        Ok(())
    }

    async fn boxes(&self, out: &mut Page) -> Result<(), DeskError> {
        let edges = self.desk.edges().await?;
        let label = |edge: &crate::desk::EdgeView| {
            let campus = edge.campus.map(|c| c.to_string()).unwrap_or_default();
            format!("box=\"{}\",campus=\"{campus}\",name=\"{}\"", edge.node, escaped(&edge.name))
        };
        out.head("yika_hub_box_held_entries", "Journal entries held of a box", "gauge");
        for edge in &edges {
            out.line("yika_hub_box_held_entries", &label(edge), edge.held as i64);
        }
        out.head("yika_hub_box_newest_event_age_seconds", "Age of the newest event held of a box", "gauge");
        for edge in edges.iter().filter(|edge| edge.fenced.is_none()) {
            if let Some(age_ms) = edge.newest_event_age_ms {
                out.line("yika_hub_box_newest_event_age_seconds", &label(edge), age_ms.max(0) / 1000);
            }
        }
        out.head("yika_hub_box_heard_age_seconds", "How long ago a box was last heard", "gauge");
        for edge in edges.iter().filter(|edge| edge.fenced.is_none()) {
            if let Some(age_ms) = edge.heard_age_ms {
                out.line("yika_hub_box_heard_age_seconds", &label(edge), age_ms.max(0) / 1000);
            }
        }
        Ok(())
    }
}

/// Serves `/metrics` until the hub stops; where it listens.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(metrics: Metrics, address: SocketAddr, mut stopping: watch::Receiver<bool>) -> Result<SocketAddr> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("http.metrics: cannot listen on {address}; is another program there?"))?;
    let bound = listener.local_addr()?;
    let app = Router::new().route("/metrics", get(answer)).with_state(Arc::new(metrics));
    let until = async move { _ = stopping.wait_for(|stop| *stop).await };
    tokio::spawn(serve_bounded(listener, app, Bounds::default(), until));
    Ok(bound)
}

async fn answer(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.text().await {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// The text under construction.
#[derive(Default)]
struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: i64) {
        self.head(name, help, "gauge");
        self.line(name, "", value);
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: i64) {
        let _ = match labels.is_empty() {
            true => writeln!(self.0, "{name} {value}"),
            false => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }
}

/// A label's value as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

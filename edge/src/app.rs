//! Puts the running edge together: node, link, doors, terminals, console, in that order, and takes it down again.

use crate::config::Config;
use crate::discovery::Discovery;
use crate::doors::Doors;
use crate::exit::Ends;
use crate::identity::Identity;
use crate::link::Links;
use crate::machine::EdgeMachine;
use crate::node::EdgeNode;
use crate::terminals::Terminals;
use crate::{asking, certificate, console, control, link, metrics, snapshot, voice};
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use sd_notify::NotifyState;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use yika_crdt::edge::Command;
use yika_crdt::store::StoreError;
use yika_link::LinkError;
use yika_store::{Health, WriterThread};
use yika_ui::serve::{Bounds, serve};

/// How often the core is told that time passes: days are cut this much late at most.
pub const TICK_MS: u64 = 10_000;
/// Sessions of operators, in the data folder.
pub(crate) const SESSIONS_FILE: &str = "sessions";
/// How long requests under way may take at a stop; then they are cut off.
pub const STOP_MS_MAX: u64 = 5_000;

/// The line that says "ready".
#[derive(Serialize)]
struct Ready {
    ready: bool,
    node: String,
    campus: u16,
    link: SocketAddr,
    http: SocketAddr,
    metrics: Option<SocketAddr>,
    data: String,
    pid: u32,
}

/// Runs until SIGTERM or Ctrl-C.
///
/// # Errors
/// When the box cannot start; the message says what and how to mend it.
pub async fn run(config: &Config, ready_file: Option<&Path>) -> Result<()> {
    let dir = &config.data;
    // Before anything else, so that a signal during the start is a stop and not a kill.
    let mut signals = Signals::listen()?;
    // A box that never joined may have no folder to lock.
    Identity::of_member(dir)?;
    let _lock = lock(dir)?;
    let identity = Identity::of_member(dir)?;
    let (node, writer) = start(&identity, dir)?;
    let links = link::run(Arc::clone(&node), &identity, &config.link).await.map_err(unlinked)?;
    let doors = Doors::start(Arc::clone(&node), &config.doors).context("doors")?;
    let (stop, stopped) = watch::channel(false);
    let mut serving = JoinSet::new();
    let terminals = Terminals::start(Arc::clone(&node), doors.clone());
    let board = Arc::clone(terminals.board());
    let pages = pages(&node, &doors, &terminals, config)?;
    let http = listen(&mut serving, config.http.bind, pages, &stopped).await.context("http.bind")?;
    let figures = metrics::router(Arc::clone(&node), doors.clone(), Arc::clone(&board));
    let metrics = match config.http.metrics {
        Some(bind) => Some(listen(&mut serving, bind, figures, &stopped).await.context("http.metrics")?),
        None => None,
    };
    let mut background = JoinSet::new();
    background.spawn(control::serve(control::listen(dir)?, Arc::clone(&node), doors.clone(), board));
    background.spawn(asking::ask_and_open(Arc::clone(&node)));
    background.spawn(certificate::keep_fresh(Arc::clone(&node), identity.clone(), links.clone()));
    background.spawn(tick(Arc::clone(&node)));
    if let Some(words) = node.snapshot_words() {
        background.spawn(snapshot::run(Arc::clone(&node), dir.clone(), words));
    }
    let discovery = Discovery::start(&config.discovery, &identity, links.clone(), http);

    let ready = Ready {
        ready: true,
        node: identity.me.to_string(),
        campus: identity.campus.0,
        link: links.local_addr()?,
        http,
        metrics,
        data: dir.display().to_string(),
        pid: std::process::id(),
    };
    announce(&ready, ready_file)?;
    background.spawn(watchdog(Arc::clone(&node)));

    let why = signals.wait().await;
    tracing::info!(why, "stopping");
    notify(NotifyState::Stopping);
    drop(discovery);
    take_down(node, links, doors, stop, serving, background).await;
    let joined = tokio::task::spawn_blocking(move || writer.join()).await;
    if !matches!(joined, Ok(Some(_))) {
        anyhow::bail!("the writer thread ended badly; everything answered is in the database");
    }
    tracing::info!("stopped");
    Ok(())
}

/// A port that is taken, with the setting that names it.
fn unlinked(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(LinkError::Bind { addr, error }) => {
            anyhow::anyhow!(voice::words("serve.link_taken", &[("address", addr), ("cause", error)]))
        }
        _ => error,
    }
}

/// The node over its database.
fn start(identity: &Identity, dir: &Path) -> Result<(Arc<EdgeNode>, WriterThread<EdgeMachine>)> {
    EdgeNode::start(identity, dir).map_err(|error| match error.downcast_ref() {
        Some(StoreError::Corrupt { .. }) => {
            error.context(voice::words("folder.damaged", &[("folder", &dir.display())]))
        }
        _ => error,
    })
}

/// Takes a snapshot in from a file while the box does not run.
///
/// # Errors
/// It runs, or the file is not taken; in words.
pub async fn import_at_rest(config: &Config, file: &Path) -> Result<Vec<snapshot::Taken>> {
    let dir = &config.data;
    Identity::of_member(dir)?;
    let _lock = lock(dir)?;
    let identity = Identity::of_member(dir)?;
    let (node, writer) = start(&identity, dir)?;
    let taken = snapshot::import(&node, file).await;
    node.stop();
    drop(node);
    let joined = tokio::task::spawn_blocking(move || writer.join()).await;
    if !matches!(joined, Ok(Some(_))) {
        anyhow::bail!("the writer thread ended badly; everything taken in is in the database");
    }
    taken
}

/// Takes no new requests, finishes those under way, tells peers, lets the writer finish and fold its log.
async fn take_down(
    node: Arc<EdgeNode>,
    links: Links,
    doors: Doors,
    stop: watch::Sender<bool>,
    mut serving: JoinSet<()>,
    mut background: JoinSet<()>,
) {
    stop.send_replace(true);
    let finish = async { while serving.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), finish).await.is_err() {
        tracing::warn!("requests under way were cut off; their senders ask again");
        serving.shutdown().await;
    }
    doors.stop().await;
    background.shutdown().await;
    links.shutdown("this box is stopping").await;
    node.stop();
}

/// Terminals, pages, and the two questions of a supervisor.
fn pages(node: &Arc<EdgeNode>, doors: &Doors, terminals: &Arc<Terminals>, config: &Config) -> Result<Router> {
    let health = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(Arc::clone(node));
    let board = Arc::clone(terminals.board());
    let sessions = Some(config.data.join(SESSIONS_FILE));
    let console = console::router_with(Arc::clone(node), doors.clone(), board, config.console.clone(), sessions);
    Ok(health.merge(terminals.router()).merge(console.context("the pages")?))
}

/// Ready whether or not headquarters is reached; not ready while nothing can be written.
async fn readyz(State(node): State<Arc<EdgeNode>>) -> (StatusCode, String) {
    let unready = |words: String| (StatusCode::SERVICE_UNAVAILABLE, words + "\n");
    match (node.health(), node.shut()) {
        (Health::Refusing(error) | Health::Damaged(error), _) => unready(error.to_string()),
        (Health::Stopped, _) => unready("the box is stopping".to_owned()),
        (Health::Serving, Some(shut)) => unready(shut.words(node.journal_end())),
        (Health::Serving, None) => (StatusCode::OK, "ready\n".to_owned()),
    }
}

async fn listen(
    serving: &mut JoinSet<()>,
    bind: SocketAddr,
    router: Router,
    stopped: &watch::Receiver<bool>,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind(bind).await.with_context(|| voice::words("serve.taken", &[("address", &bind)]))?;
    let bound = listener.local_addr()?;
    let mut stopped = stopped.clone();
    serving.spawn(serve(listener, router, Bounds::default(), async move {
        _ = stopped.wait_for(|stopped| *stopped).await;
    }));
    Ok(bound)
}

/// One process per data folder: two would write the same feeds.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.with_context(|| voice::words("folder.unusable", &[("folder", &dir.display())]))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(Ends::unsafe_to(voice::words("folder.in_use", &[("folder", &dir.display())]))),
    }
}

fn announce(ready: &Ready, ready_file: Option<&Path>) -> Result<()> {
    let line = serde_json::to_string(ready)? + "\n";
    if let Some(path) = ready_file {
        yika_store::files::write_durably(path, line.as_bytes(), 0o644)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut out = std::io::stdout();
    // Nobody may be listening; the box serves all the same.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    tracing::info!(node = ready.node, link = %ready.link, http = %ready.http, "ready");
    if std::io::stderr().is_terminal() {
        let words = voice::words("serve.open", &[("address", &reachable(ready.http))]);
        // Nobody may be reading this one, either.
        let _ = writeln!(std::io::stderr(), "{words}");
    }
    notify(NotifyState::Ready);
    Ok(())
}

/// An address that a browser on this machine can open.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let loopback = if bound.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(if bound.ip().is_unspecified() { loopback } else { bound.ip() }, bound.port())
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

async fn tick(node: Arc<EdgeNode>) {
    let mut every = tokio::time::interval(Duration::from_millis(TICK_MS));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if let Err(error) = node.call(Command::Tick).await {
            tracing::debug!(%error, "no tick");
        }
    }
}

/// Tells the service manager that the box lives, as long as the writer answers: with words also, when it refuses.
async fn watchdog(node: Arc<EdgeNode>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    loop {
        tokio::time::sleep(limit / 3).await;
        let answered = tokio::time::timeout(limit / 3, node.call(Command::Tick)).await;
        if answered.is_ok() && node.health() != Health::Stopped {
            notify(NotifyState::Watchdog);
        }
    }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Signals> {
        let on = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

//! Puts the running hub together: node, link, control socket, HTTP, in that order, and takes it down again.

use crate::backup::log::ship::Shipping;
use crate::backup::{Backups, put_back};
use crate::clock::{HubClock, wall_ms};
use crate::config::Config;
use crate::console::{self, SignIns};
use crate::control;
use crate::core::Command;
use crate::desk::{Actor, Desk, DeskError, ExportedPart};
use crate::findings::said;
use crate::identity::HubIdentity;
use crate::link;
use crate::lock::lock;
use crate::machine::{HubMachine, Order};
use crate::metrics::{self, Metrics};
use crate::node::HubNode;
use crate::refusal::Refusal;
use crate::snapshot;
use crate::store::{BackupRow, OperatorRow, TableRow};
use crate::vault::random;
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use yika_crdt::civil::{DAY_MS, civil};
use yika_crdt::ids::{CampusId, OperatorId};
use yika_crdt::store::StoreError;
use yika_store::{SqliteStore, WriterThread};
use yika_ui::auth::{AuthPolicy, hash_password, normal_login};
use yika_ui::serve::{Bounds, serve};
use yika_ui::{Lang, Role};
use zeroize::Zeroizing;

/// Leases and receipts are looked at so often.
const TICK_MS: u64 = 2_000;
/// A failed backup is tried again after so long; one for a log without a base, too.
const BACKUP_RETRY_MS: i64 = 15 * 60_000;
/// The clock is looked at so often: it may have been set.
const BACKUP_LOOK_MS: i64 = 60_000;
/// When boxes were last heard is written down so often, and at the end: each time is a turn in the log between backups,
/// and what a crash forgets of it is told again by the boxes that live.
const KEEP_HEARD_MS: u64 = 10 * 60_000;
/// Sessions of operators, in the data folder.
const SESSIONS_FILE: &str = "sessions";
/// How long the end waits for peers.
const STOP_MS_MAX: u64 = 3_000;

/// Where the hub listens, as told when it is ready.
#[derive(Debug, Serialize)]
pub struct Ready {
    ready: bool,
    link: String,
    /// The console's address.
    pub http: String,
    metrics: Option<String>,
    /// Where boxes are told to dial it, or why they cannot be told.
    #[serde(skip)]
    pub dialled: Result<String, Refusal>,
}

/// Runs until a signal ends it; `told` hears when it is ready.
///
/// # Errors
/// When it cannot start; the message says what and how to mend it.
pub async fn run(config: &Config, told: impl FnOnce(&Ready) -> Result<()>) -> Result<Ended> {
    let dir = config.data.clone();
    let identity = HubIdentity::load(&dir)?;
    let _lock = lock(&dir)?;
    let (identity, node, thread) = tokio::task::block_in_place(|| start(identity, config))?;
    node.hear_boxes_first();
    let link = link::run(&node, &identity, config.link.bind).context("link.bind")?;
    let bound = link.local_addr()?;
    let desk = Desk::new(Arc::clone(&node), config.advertised(bound), identity.authority.pin());
    let backups = Arc::new(backups(config)?);
    let desk = desk.with_backups(Arc::clone(&backups));
    let shipping = Shipping::start(Arc::clone(&node), backups, config.log_dir())?;
    let socket = Config::socket(&dir);
    control::serve(desk.clone(), &socket)?;
    let pages = Pages::open(config, &desk).await?;
    let tasks = [
        tokio::spawn(tick(Arc::clone(&node))),
        tokio::spawn(keep_heard(Arc::clone(&node))),
        tokio::spawn(snapshot::keep_fresh(Arc::clone(&node))),
        tokio::spawn(back_up(desk.clone(), config.backup.every_hours)),
        tokio::spawn(follow_categories(desk.clone())),
    ];
    told(&Ready {
        ready: true,
        link: bound.to_string(),
        http: pages.http.to_string(),
        metrics: pages.metrics.map(|m| m.to_string()),
        dialled: desk.dialled().map(str::to_owned),
    })?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let restored = wait_for_the_end(&node).await?;
    tracing::info!(restored, "stopping");
    if !restored {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    }
    pages.close().await;
    let closing = link.shutdown("headquarters is stopping");
    let _ = tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), closing).await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    if let Err(error) = node.keep_heard().await {
        tracing::warn!(%error, "when boxes were last heard is not written down");
    }
    shipping.stop(Duration::from_millis(STOP_MS_MAX)).await;
    let _ = std::fs::remove_file(&socket);
    // The process ends here; what waited in the writer is answered or will be asked again.
    drop((desk, node, thread));
    Ok(if restored { Ended::ForANewLife } else { Ended::Asked })
}

/// Why the hub has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By a signal.
    Asked,
    /// It found that its database had been put back: started again, it goes on in its new life.
    ForANewLife,
}

/// The node in the life that its database is in.
fn start(identity: HubIdentity, config: &Config) -> Result<(HubIdentity, Arc<HubNode>, WriterThread<HubMachine>)> {
    let dir = &config.data;
    let started = || {
        if let Some(found) = put_back::mend(dir, &config.log_dir(), &identity)? {
            tracing::error!(?found, "the database was put back without a restore; headquarters goes on in a new life");
        }
        if !config.clock_is_right {
            refuse_a_far_clock(dir)?;
        }
        let life = HubNode::life(&identity, dir)?;
        let identity = identity.in_life(life)?;
        let (node, thread) = HubNode::start(&identity, dir)?;
        Ok((identity, node, thread))
    };
    started().map_err(|error: anyhow::Error| match error.downcast_ref() {
        Some(StoreError::Corrupt { .. }) => {
            error.context(said(yika_ui::terminal::tongue(), "status.damaged", &[("folder", &dir.display())]))
        }
        _ => error,
    })
}

/// What is stamped with next year's date, and told to boxes, stands for a year.
fn refuse_a_far_clock(dir: &Path) -> Result<()> {
    let store = SqliteStore::open(dir.join("hub.db"), &crate::store::options())?;
    let (clock, now_ms) = (HubClock::resumed(&store)?, wall_ms());
    match clock.too_far_ahead_ms(now_ms) {
        None => Ok(()),
        Some(ahead_ms) => Err(DeskError::from(Refusal::ClockAhead {
            shows: civil(now_ms, 0).day,
            last: civil(clock.newest_ms(), 0).day,
            days: ahead_ms.unsigned_abs() / DAY_MS.unsigned_abs(),
        })
        .into()),
    }
}

/// Console, API and metrics as they are served.
struct Pages {
    http: SocketAddr,
    metrics: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Pages {
    async fn open(config: &Config, desk: &Desk) -> Result<Pages> {
        let listener = TcpListener::bind(config.http.bind)
            .await
            .with_context(|| format!("cannot listen on {}; is another program there?", config.http.bind))?;
        let http = listener.local_addr()?;
        let sign_ins = SignIns::default();
        let auth = AuthPolicy { sessions_file: Some(config.data.join(SESSIONS_FILE)), ..AuthPolicy::default() };
        let options = console::Options { tls: config.http.tls, auth };
        let app = console::router(desk.clone(), options, sign_ins.clone())?;
        let app = app.merge(machine_routes(Arc::clone(&desk.node)));
        let (stop, stopping) = watch::channel(false);
        let mut until = stopping.clone();
        let until = async move { _ = until.wait_for(|stop| *stop).await };
        let serving = tokio::spawn(serve(listener, app, Bounds::default(), until));
        let metrics = match config.http.metrics {
            None => None,
            Some(address) => {
                let metrics = Metrics::new(desk.clone(), config.data.clone(), sign_ins);
                Some(metrics::serve(metrics, address, stopping).await?)
            }
        };
        Ok(Pages { http, metrics, stop, serving })
    }

    async fn close(self) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), self.serving).await;
    }
}

/// Waits for a signal, or until this hub was restored under its feet.
async fn wait_for_the_end(node: &HubNode) -> Result<bool> {
    let mut new_life = node.ears().new_life.subscribe();
    Ok(tokio::select! {
        signal = wait_for_signal() => {
            signal?;
            false
        }
        _ = new_life.wait_for(Option::is_some) => true,
    })
}

/// Writes the first administrator of a new hub, with a random password that he must change.
///
/// # Errors
/// When the database cannot be made or the system gives no randomness.
pub fn first_administrator(dir: &Path, login: &str) -> Result<Zeroizing<String>> {
    let identity = HubIdentity::load(dir)?;
    let mut bytes = Zeroizing::new([0u8; 9]);
    random(bytes.as_mut())?;
    let password = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()));
    let row = OperatorRow {
        operator: OperatorId(1),
        login: normal_login(login),
        name: login.to_owned(),
        role: Role::Admin.code().to_owned(),
        campus: None,
        verifier: hash_password(&password, Default::default())?,
        must_change: true,
        active: true,
        credential_epoch: 1,
    };
    tokio::task::block_in_place(|| -> Result<()> {
        let (node, thread) = HubNode::start(&identity, dir)?;
        node.call_blocking(Order { command: Command::Nothing, rows: vec![TableRow::Operator(row)] })?;
        drop(node);
        drop(thread.join());
        Ok(())
    })?;
    Ok(password)
}

/// A snapshot of a hub that does not run, into a file.
///
/// # Errors
/// It runs, or nothing can be written; in words.
pub async fn export_at_rest(config: &Config, campus: CampusId, file: PathBuf) -> Result<Vec<ExportedPart>> {
    at_rest(config, async |desk| Ok(desk.export_snapshot(&Actor::console(), campus, file).await?)).await
}

/// A backup of a hub that does not run.
///
/// # Errors
/// It runs, or the backup fails; in words.
pub async fn back_up_at_rest(config: &Config, to: Option<PathBuf>) -> Result<BackupRow> {
    let backups = Arc::new(backups(config)?);
    at_rest(config, async |desk| Ok(desk.with_backups(backups).create_backup(&Actor::console(), to).await?)).await
}

/// Lets an operator act at a hub whose program does not run.
async fn at_rest<T>(config: &Config, act: impl AsyncFnOnce(Desk) -> Result<T>) -> Result<T> {
    let dir = &config.data;
    let identity = HubIdentity::load(dir)?;
    let _lock = lock(dir)?;
    let (identity, node, thread) = tokio::task::block_in_place(|| start(identity, config))?;
    let done = act(Desk::new(node, String::new(), identity.authority.pin())).await;
    tokio::task::block_in_place(|| drop(thread.join()));
    done
}

fn backups(config: &Config) -> Result<Backups> {
    let configuration = toml::to_string(config).context("the configuration cannot be written down")?;
    let mut backups = Backups::new(config.data.clone(), config.backup_dir(), config.backup.keep, configuration);
    backups.every_hours = config.backup.every_hours;
    Ok(backups)
}

/// Groups that categories fill are brought to who is of them: the last run may have ended between people and doors.
async fn follow_categories(desk: Desk) {
    if let Err(error) = desk.follow_categories(&Actor::console()).await {
        tracing::warn!(?error, "groups of doors could not be brought to the categories; the next import does it");
    }
}

/// Makes backups at the configured distance; one that fails is tried again after a while.
async fn back_up(desk: Desk, every_hours: u32) {
    if every_hours == 0 {
        return;
    }
    let every_ms = i64::from(every_hours) * 3_600_000;
    let mut due_ms = match desk.last_backup().await {
        // One that was made while the clock was ahead is as old as this start.
        Ok(Some(last)) => last.at_ms.min(wall_ms()).saturating_add(every_ms),
        _ => wall_ms().saturating_add(every_ms),
    };
    let mut log = desk.node.ears().log.subscribe();
    let mut next_try_ms = i64::MIN;
    loop {
        let wait_ms = due_ms.saturating_sub(wall_ms()).clamp(0, BACKUP_LOOK_MS);
        let pause = tokio::time::sleep(Duration::from_millis(wait_ms.unsigned_abs()));
        // A log without a backup that it continues forgets as much as none.
        let baseless = log.wait_for(|log| log.as_ref().is_some_and(|log| !log.based) && wall_ms() >= next_try_ms);
        let now = tokio::select! {
            () = pause => false,
            baseless = baseless => baseless.is_ok(),
        };
        if wall_ms() < due_ms && !now {
            continue;
        }
        next_try_ms = wall_ms().saturating_add(BACKUP_RETRY_MS);
        due_ms = match desk.create_backup(&Actor::console(), None).await {
            Ok(row) => {
                tracing::info!(
                    file = row.file,
                    bytes = row.bytes,
                    took_ms = row.took_ms,
                    "a backup was made and proved"
                );
                row.at_ms.saturating_add(every_ms)
            }
            Err(error) => {
                tracing::error!(%error, "no backup was made");
                wall_ms().saturating_add(BACKUP_RETRY_MS)
            }
        };
    }
}

/// What machines ask: is it alive, does it serve.
fn machine_routes(node: Arc<HubNode>) -> Router {
    Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(readyz)).with_state(node)
}

async fn readyz(State(node): State<Arc<HubNode>>) -> (StatusCode, String) {
    match node.refusing() {
        None => (StatusCode::OK, "ok\n".into()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", why.sentence(Lang::En))),
    }
}

async fn tick(node: Arc<HubNode>) {
    let mut every = tokio::time::interval(Duration::from_millis(TICK_MS));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if let Err(error) = node.call(Command::Tick { connected: node.peers() }).await {
            tracing::warn!(%error, "no tick");
        }
        // A hub whose writer has ended serves nobody: the service manager must start it again.
        if node.health() != yika_store::writer::Health::Stopped {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

/// Writes down when boxes were last heard.
async fn keep_heard(node: Arc<HubNode>) {
    let mut every = tokio::time::interval(Duration::from_millis(KEEP_HEARD_MS));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if let Err(error) = node.keep_heard().await {
            tracing::warn!(%error, "when boxes were last heard is not written down");
        }
    }
}

async fn wait_for_signal() -> Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

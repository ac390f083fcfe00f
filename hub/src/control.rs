//! The command line's way into the running hub: JSON over a Unix socket that only the owner of the data folder opens.
//!
//! Whoever can open the socket could read the database, too: it grants nothing new. Leaves to others: the acts (`desk`).

use crate::access::{AccessSheet, Changes};
use crate::backup::Proved;
use crate::core::PoolSizes;
use crate::desk::{
    Actor, Desk, DeskError, ExportedPart, GivenBack, HubStatus, NewOperator, NewTerminal, NewToken, PaidOut,
    RefundWish, TariffSet, TokenMade,
};
use crate::import;
use crate::refusal::Refusal as NotPossible;
use crate::store::people::{self, PeopleQuery};
use crate::store::read;
use crate::store::{BackupRow, OperatorRow};
use anyhow::{Context, Result, bail};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use yika_crdt::Fen;
use yika_crdt::entry::{BlockReason, BlockTarget, CampusRecord, TerminalRecord, TerminalState};
use yika_crdt::ids::*;
use yika_crdt::tariff::sheet::TariffSheet;
use yika_ui::Lang;
use yika_ui::terminal::tongue;

/// Largest request: a file to import.
const BODY_BYTES_MAX: usize = crate::import::FILE_BYTES_MAX + 4096;

/// How long the hub may take to say how it is.
pub const STATUS_WAIT: Duration = Duration::from_secs(10);
/// The same for an act or a list.
const WAIT: Duration = Duration::from_secs(60);
/// The same for what reads or writes whole files.
const LONG_WAIT: Duration = Duration::from_secs(3_600);

/// Serves the socket until the process ends.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve(desk: Desk, socket: &Path) -> Result<()> {
    let _ = std::fs::remove_file(socket);
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot make the control socket {}", socket.display()))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    let app = Router::new()
        .route("/v1/edges", get(edges))
        .route("/v1/campuses", get(campuses))
        .route("/v1/terminals", get(terminals))
        .route("/v1/operators", get(operators))
        .route("/v1/campus", post(campus))
        .route("/v1/token", post(token))
        .route("/v1/edge/name", post(rename_box))
        .route("/v1/terminal", post(terminal))
        .route("/v1/terminal/state", post(terminal_state))
        .route("/v1/tariff", get(show_tariff).post(tariff))
        .route("/v1/import", post(import))
        .route("/v1/people", get(find_people))
        .route("/v1/person/campus", post(move_person))
        .route("/v1/top-up", post(top_up))
        .route("/v1/access", get(show_access).post(apply_access))
        .route("/v1/block", post(block))
        .route("/v1/lift", post(lift))
        .route("/v1/fence", post(fence))
        .route("/v1/operator", post(operator))
        .route("/v1/operator/password", post(password))
        .route("/v1/ledger", get(ledger))
        .route("/v1/status", get(status))
        .route("/v1/backup", post(create_backup))
        .route("/v1/backup/verify", post(verify_backup))
        .route("/v1/snapshot", post(export_snapshot))
        .route("/v1/withdraw", post(withdraw))
        .route("/v1/top-up/undo", post(undo_top_up))
        .route("/v1/refund", post(refund))
        .route("/v1/lift-written", post(lift_written))
        .route("/v1/release-suspense", post(release_suspense))
        .route("/v1/pools", get(pools).post(set_pools))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(desk);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the control socket has ended");
        }
    });
    Ok(())
}

/// A refusal as the socket says it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// A short stable word; empty for a failure.
    #[serde(default)]
    pub code: String,
    /// In English.
    pub error: String,
    /// In Chinese.
    #[serde(default)]
    pub zh: String,
}

impl IntoResponse for DeskError {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            DeskError::Refused(refusal) => (StatusCode::UNPROCESSABLE_ENTITY, refusal.code()),
            DeskError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, ""),
        };
        let (error, zh) = (self.words(Lang::En), self.words(Lang::Zh));
        (status, Json(Refusal { code: code.to_owned(), error, zh })).into_response()
    }
}

type Answer<T> = Result<Json<T>, DeskError>;

async fn edges(State(desk): State<Desk>) -> Response {
    desk.edges().await.map(Json).into_response()
}

async fn campus(State(desk): State<Desk>, Json(record): Json<CampusRecord>) -> Answer<()> {
    desk.put_campus(&Actor::console(), record).await.map(Json)
}

async fn token(State(desk): State<Desk>, Json(new): Json<NewToken>) -> Answer<TokenMade> {
    desk.create_token(&Actor::console(), new).await.map(Json)
}

async fn rename_box(State(desk): State<Desk>, Json((node, name)): Json<(NodeId, String)>) -> Answer<()> {
    desk.rename_box(&Actor::console(), node, &name).await.map(Json)
}

async fn terminal(State(desk): State<Desk>, Json(new): Json<NewTerminal>) -> Response {
    desk.register_terminal(&Actor::console(), new).await.map(Json).into_response()
}

async fn terminal_state(
    State(desk): State<Desk>,
    Json((terminal, state)): Json<(TerminalId, TerminalState)>,
) -> Answer<()> {
    desk.set_terminal_state(&Actor::console(), terminal, state).await.map(Json)
}

async fn campuses(State(desk): State<Desk>) -> Json<Vec<CampusRecord>> {
    Json(desk.node.registry().campuses.values().cloned().collect())
}

async fn terminals(State(desk): State<Desk>) -> Json<Vec<TerminalRecord>> {
    Json(desk.node.registry().terminals.values().cloned().collect())
}

async fn show_tariff(State(desk): State<Desk>) -> Json<Option<TariffSheet>> {
    Json(desk.node.registry().tariff.as_deref().cloned())
}

/// An operator of a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct OperatorLine {
    /// Number.
    pub operator: OperatorId,
    /// Sign-in name.
    pub login: String,
    /// Name as shown.
    pub name: String,
    /// Role code.
    pub role: String,
    /// Of which campus; headquarters when absent.
    pub campus: Option<CampusId>,
    /// He may sign in.
    pub active: bool,
}

async fn operators(State(desk): State<Desk>) -> Answer<Vec<OperatorLine>> {
    let rows = desk.node.query(read::operators).await?;
    let line = |row: OperatorRow| OperatorLine {
        operator: row.operator,
        login: row.login,
        name: row.name,
        role: row.role,
        campus: row.campus,
        active: row.active,
    };
    Ok(Json(rows.into_iter().map(line).collect()))
}

async fn tariff(State(desk): State<Desk>, Json(sheet): Json<TariffSheet>) -> Answer<TariffSet> {
    desk.set_tariff(&Actor::console(), sheet).await.map(Json)
}

/// What to do with a file.
#[derive(Debug, Serialize, Deserialize)]
pub struct ImportWish {
    /// Its name.
    pub name: String,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Chinese words.
    pub zh: bool,
}

async fn import(State(desk): State<Desk>, Query(wish): Query<ImportWish>, bytes: Bytes) -> Response {
    let lang = if wish.zh { import::Lang::Zh } else { import::Lang::En };
    let progress = Arc::new(|done, all| tracing::info!(done, all, "importing people"));
    let report = desk.import_people(&Actor::console(), &wish.name, bytes.to_vec(), wish.dry_run, lang, progress).await;
    report.map(Json).into_response()
}

/// A person of a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct PersonLine {
    /// Who.
    pub person: PersonId,
    /// Name.
    pub name: String,
    /// Staff number.
    pub staff_number: String,
    /// Home campus.
    pub campus: CampusId,
    /// Card.
    pub card: Option<u64>,
    /// Category word.
    pub category: String,
}

/// A search among people.
#[derive(Debug, Serialize, Deserialize)]
pub struct PeopleWish {
    /// Text looked for; everybody when empty.
    #[serde(default)]
    pub text: String,
    /// Rows to skip.
    #[serde(default)]
    pub offset: u64,
    /// Most rows.
    pub limit: u32,
}

async fn find_people(State(desk): State<Desk>, Query(wish): Query<PeopleWish>) -> Answer<Vec<PersonLine>> {
    let query = PeopleQuery { text: wish.text, campus: None, offset: wish.offset, limit: wish.limit };
    let (rows, _) = desk.node.query(move |conn| people::find(conn, &query)).await?;
    let line = |row: crate::store::ProfileRow| PersonLine {
        person: PersonId(row.person),
        name: row.name,
        staff_number: row.staff_number,
        campus: CampusId(row.campus),
        card: row.card,
        category: row.category,
    };
    Ok(Json(rows.into_iter().map(line).collect()))
}

/// Another campus is to be a person's home.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveWish {
    /// Who.
    pub person: PersonId,
    /// The new home.
    pub campus: CampusId,
}

async fn move_person(State(desk): State<Desk>, Json(wish): Json<MoveWish>) -> Answer<CampusId> {
    desk.move_person(&Actor::console(), wish.person, wish.campus).await.map(Json)
}

/// Money to be paid in.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopUpWish {
    /// For whom.
    pub person: PersonId,
    /// How much, in fen.
    pub fen: i64,
    /// Number made by the asker: the same is posted once.
    pub request: String,
}

/// What a top-up came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToppedUp {
    /// Everything the person can spend now, in fen.
    pub total_fen: i64,
    /// It had been posted before.
    pub repeated: bool,
}

async fn top_up(State(desk): State<Desk>, Json(wish): Json<TopUpWish>) -> Answer<ToppedUp> {
    let (total, repeated) = desk.top_up(&Actor::console(), wish.person, Fen(wish.fen), &wish.request).await?;
    Ok(Json(ToppedUp { total_fen: total.0, repeated }))
}

/// An access policy to be put in force.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessWish {
    /// Whose.
    pub campus: CampusId,
    /// Only say what would change.
    pub dry_run: bool,
    /// What it says.
    pub sheet: AccessSheet,
}

async fn apply_access(State(desk): State<Desk>, Json(wish): Json<AccessWish>) -> Answer<Changes> {
    desk.apply_access(&Actor::console(), wish.campus, wish.sheet, wish.dry_run).await.map(Json)
}

/// Whose access policy is wanted.
#[derive(Debug, Deserialize)]
struct WhichCampus {
    campus: u16,
}

async fn show_access(State(desk): State<Desk>, Query(which): Query<WhichCampus>) -> Answer<AccessSheet> {
    desk.access(&Actor::console(), CampusId(which.campus)).await.map(Json)
}

async fn block(State(desk): State<Desk>, Json(target): Json<BlockTarget>) -> Answer<()> {
    desk.block(&Actor::console(), target, BlockReason::Lost).await.map(Json)
}

async fn lift(State(desk): State<Desk>, Json(target): Json<BlockTarget>) -> Answer<usize> {
    desk.lift(&Actor::console(), target).await.map(Json)
}

async fn fence(State(desk): State<Desk>, Json((node, reason)): Json<(NodeId, String)>) -> Answer<String> {
    desk.fence(&Actor::console(), node, &reason).await.map(|writer| Json(writer.to_string()))
}

async fn lift_written(State(desk): State<Desk>, Json(node): Json<NodeId>) -> Answer<usize> {
    desk.lift_written(&Actor::console(), node).await.map(Json)
}

async fn operator(State(desk): State<Desk>, Json(new): Json<NewOperator>) -> Answer<OperatorId> {
    desk.add_operator(&Actor::console(), new).await.map(Json)
}

async fn password(State(desk): State<Desk>, Json((login, password)): Json<(String, String)>) -> Answer<()> {
    desk.reset_password(&Actor::console(), &login, password).await.map(Json)
}

async fn ledger(State(desk): State<Desk>) -> Response {
    desk.node.query(read::trial_balance).await.map_err(DeskError::from).map(Json).into_response()
}

async fn status(State(desk): State<Desk>) -> Answer<HubStatus> {
    desk.status().await.map(Json)
}

async fn create_backup(State(desk): State<Desk>, Json(dir): Json<Option<PathBuf>>) -> Answer<BackupRow> {
    desk.create_backup(&Actor::console(), dir).await.map(Json)
}

/// A snapshot wished into a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotWish {
    /// Whose boxes start from it.
    pub campus: CampusId,
    /// Where it goes.
    pub file: PathBuf,
}

async fn export_snapshot(State(desk): State<Desk>, Json(wish): Json<SnapshotWish>) -> Answer<Vec<ExportedPart>> {
    desk.export_snapshot(&Actor::console(), wish.campus, wish.file).await.map(Json)
}

async fn verify_backup(State(desk): State<Desk>, Json(file): Json<PathBuf>) -> Answer<Proved> {
    desk.verify_backup(&Actor::console(), file).await.map(Json)
}

async fn withdraw(State(desk): State<Desk>, Json(wish): Json<TopUpWish>) -> Answer<PaidOut> {
    desk.withdraw(&Actor::console(), wish.person, Fen(wish.fen), &wish.request, "").await.map(Json)
}

async fn undo_top_up(State(desk): State<Desk>, Json((request, reason)): Json<(String, String)>) -> Answer<PaidOut> {
    desk.undo_top_up(&Actor::console(), &request, &reason).await.map(Json)
}

async fn refund(State(desk): State<Desk>, Json(wish): Json<RefundWish>) -> Answer<GivenBack> {
    desk.refund(&Actor::console(), &wish).await.map(Json)
}

async fn release_suspense(State(desk): State<Desk>, Json(node): Json<NodeId>) -> Answer<String> {
    desk.release_suspense(&Actor::console(), node).await.map(|writer| Json(writer.to_string()))
}

async fn pools(State(desk): State<Desk>) -> Answer<PoolSizes> {
    desk.pools().await.map(Json)
}

async fn set_pools(State(desk): State<Desk>, Json(sizes): Json<PoolSizes>) -> Answer<()> {
    desk.set_pools(&Actor::console(), sizes).await.map(Json)
}

/// Whether a hub answers there.
pub async fn is_running(socket: &Path) -> bool {
    UnixStream::connect(socket).await.is_ok()
}

/// The running hub does not do it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{words}")]
pub struct NotDone {
    /// Code of the refusal; empty for a failure.
    pub code: String,
    /// The hub's words, in the language of whoever asked.
    pub words: String,
}

/// How long the hub may take for an answer: reading and checking whole files takes its time, the state does not.
fn wait(path: &str) -> Duration {
    let long = ["/v1/backup", "/v1/snapshot", "/v1/import", "/v1/access", "/v1/ledger"];
    match path {
        "/v1/status" => STATUS_WAIT,
        path if long.iter().any(|head| path.starts_with(head)) => LONG_WAIT,
        _ => WAIT,
    }
}

/// Asks the running hub.
///
/// # Errors
/// When it does not run or does not answer in time, or [`NotDone`].
pub async fn ask<T: DeserializeOwned>(socket: &Path, method: &str, path: &str, body: Vec<u8>) -> Result<T> {
    let wait = wait(path);
    match tokio::time::timeout(wait, ask_untimed(socket, method, path, body)).await {
        Ok(answer) => answer,
        Err(_) => bail!(DeskError::from(NotPossible::NoAnswer { seconds: wait.as_secs() })),
    }
}

async fn ask_untimed<T: DeserializeOwned>(socket: &Path, method: &str, path: &str, body: Vec<u8>) -> Result<T> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            let folder = socket.parent().unwrap_or(socket).display().to_string();
            bail!(DeskError::from(NotPossible::NotRunning { folder }))
        }
        Err(error) => return Err(error).with_context(|| socket.display().to_string()),
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "hub")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    if status.is_success() {
        return serde_json::from_slice(&bytes).context("the hub's answer is not what this program expects");
    }
    match serde_json::from_slice::<Refusal>(&bytes) {
        Ok(Refusal { code, zh: words, .. }) if tongue() == Lang::Zh && !words.is_empty() => {
            bail!(NotDone { code, words })
        }
        Ok(Refusal { code, error: words, .. }) => bail!(NotDone { code, words }),
        Err(_) => bail!("{status}: {}", String::from_utf8_lossy(&bytes)),
    }
}

//! From HTTP to a call and back: bounded body, admission, a place, the answer and its signature.
//!
//! Leaves to others: who may ask (`gate`), what is answered (`sell`, `tell`, `totals`, `lists`).

use super::gate::{Arrived, Caller};
use super::refusal::{Code, Refusal, too_large};
use super::route::Route;
use super::{Terminals, document, page};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get, on};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use yika_drivers::terminal::message::PREFIX;
use yika_drivers::terminal::sign::{ANSWER_SIGNATURE, sign_answer};

/// How long a body may take to arrive, in milliseconds.
pub const BODY_WAIT_MS_MAX: u64 = 5_000;
/// After how many seconds a terminal asks a box again that could not serve.
const RETRY_AFTER_S: &str = "1";

pub(super) fn router(terminals: Arc<Terminals>) -> Router {
    let mut router = Router::new()
        .route(PREFIX, get(|| async { Redirect::permanent(&format!("{PREFIX}/")) }))
        .route(&format!("{PREFIX}/"), get(page::show))
        .route(&format!("{PREFIX}/openapi.json"), get(document::show));
    for route in Route::ALL {
        let (serving, refusing) = (Arc::clone(&terminals), Arc::clone(&terminals));
        let serve = move |request: Request| async move { serving.serve(route, request).await };
        let refuse = move || async move { refusing.refuse(&Code::BadMethod.into(), None) };
        router = router.route(&format!("{PREFIX}{}", route.path()), on(route.filter(), serve).fallback(refuse));
    }
    let missing = move || async move { terminals.refuse(&Code::NotFound.into(), None) };
    router.route(&format!("{PREFIX}/{{*unknown}}"), any(missing))
}

impl Terminals {
    async fn serve(self: Arc<Self>, route: Route, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let body = match read_body(body, route.body_len_bytes_max()).await {
            Ok(body) => body,
            Err(refusal) => return self.refuse(&refusal, None),
        };
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        let arrived = Arrived { route, method: head.method.as_str(), path, headers: &head.headers, body: &body };
        let caller = match self.gate.admit(&self.node, &arrived) {
            Ok(caller) => caller,
            Err(denied) => return self.refuse(&denied.refusal, denied.caller.as_deref()),
        };
        self.board.heard(caller.record.terminal, caller.signed.boot, caller.ahead_ms);
        match self.obey_in_turn(route, &caller, head.uri.query(), &body).await {
            Ok(answer) => signed(&caller, StatusCode::OK, answer),
            Err(refusal) => self.refuse(&refusal, Some(&caller)),
        }
    }

    /// Waits for a place; the wait costs the terminal's connection and nothing else.
    async fn obey_in_turn(
        self: &Arc<Self>,
        route: Route,
        caller: &Caller,
        query: Option<&str>,
        body: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let places = if route.is_heavy() { &self.heavy_places } else { &self.places };
        // Never closed; without a place the box could not say so either.
        let _place = places.acquire().await.map_err(Refusal::not_ready)?;
        match route {
            Route::SignIn => json(&self.sign_in(caller, read(body)?)?),
            Route::Time => json(&self.tell_time(caller)),
            Route::Heartbeat => json(&self.heartbeat(caller, read(body)?)?),
            Route::Parameters => json(&self.parameters(caller, number(query, "have")?.unwrap_or(0))?),
            Route::Blocks => {
                let have = number(query, "have")?.unwrap_or(0);
                tokio::task::block_in_place(|| json(&self.lists.blocks(have)))
            }
            Route::Cards => {
                let have = number(query, "have")?.unwrap_or(0);
                tokio::task::block_in_place(|| json(&self.lists.cards(have)))
            }
            Route::Purchase => json(&self.purchase(caller, read(body)?).await?),
            Route::Reversal => json(&self.reversal(caller, read(body)?).await?),
            Route::Refund => json(&self.refund(caller, read(body)?).await?),
            Route::Batch => json(&self.batch(caller, read(body)?).await?),
            Route::Totals => {
                let boot = number(query, "boot")?
                    .ok_or_else(|| Refusal::because(Code::BadQuery, "缺少 boot", "boot is missing"))?;
                json(&self.totals(caller, boot, number(query, "from")?)?)
            }
            Route::Swipe => json(&self.swipe(caller, read(body)?).await?),
        }
    }

    /// A refusal; signed where the request was.
    fn refuse(&self, refusal: &Refusal, caller: Option<&Caller>) -> Response {
        let now_ms = caller.map_or_else(|| self.node.time().0, |caller| caller.now_ms);
        let status = refusal.code.status();
        tracing::debug!(
            code = refusal.code.word(),
            terminal = caller.map(|c| c.record.terminal.0),
            detail = refusal.detail.as_ref().map(|words| words.en.as_str()),
            "a terminal's request is refused"
        );
        let body = json(&refusal.problem(now_ms)).unwrap_or_default();
        let mut response = match caller {
            Some(caller) => signed(caller, status, body),
            None => plain(status, body),
        };
        if refusal.code == Code::BoxNotReady {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        response
    }
}

async fn read_body(body: Body, len_bytes_max: usize) -> Result<Bytes, Refusal> {
    let wait = Duration::from_millis(BODY_WAIT_MS_MAX);
    let reading = axum::body::to_bytes(body, len_bytes_max);
    match tokio::time::timeout(wait, reading).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_too_long(&error) => Err(too_large(len_bytes_max)),
        Ok(Err(error)) => Err(Refusal::because(Code::SlowBody, "", error.to_string())),
        Err(_) => Err(Code::SlowBody.into()),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>())
}

fn plain(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn signed(caller: &Caller, status: StatusCode, body: Vec<u8>) -> Response {
    let signature = sign_answer(&caller.key, &caller.signed.signature, status.as_u16(), &body);
    let mut response = plain(status, body);
    if let Ok(value) = HeaderValue::from_str(&hex::encode(signature)) {
        response.headers_mut().insert(ANSWER_SIGNATURE, value);
    }
    response
}

fn json(answer: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(answer).map_err(Refusal::not_ready)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(Refusal::from)
}

/// A decimal query parameter, given at most once.
fn number<T: std::str::FromStr>(query: Option<&str>, name: &str) -> Result<Option<T>, Refusal> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
    let bad = || {
        Refusal::because(
            Code::BadQuery,
            format!("{name} 不是范围内的一个十进制数"),
            format!("{name} is not one decimal number in its range"),
        )
    };
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if value.bytes().all(|b| b.is_ascii_digit()) => value.parse().map(Some).map_err(|_| bad()),
        _ => Err(bad()),
    }
}

//! The frame around every request: who asks, in which language, is the form ours; errors dressed as pages;
//! security headers.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{self, HeaderName, HeaderValue, SET_COOKIE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tower_http::compression::CompressionLayer;

use crate::assets;
use crate::auth::http::{SESSION_COOKIE, local_path, require_sign_in, set_cookie};
use crate::auth::{Auth, CurrentOperator, DirectoryError, OperatorDirectory, Role, Session};
use crate::error::{self, Saved, UiError};
use crate::lang::Lang;
use crate::page::{Kit, Theme, Ui};

/// Largest urlencoded form whose `_csrf` field is looked for, bytes. Larger bodies send the header.
pub const FORM_BYTES_MAX: usize = 256 * 1024;

/// Header in which htmx sends the token.
pub const CSRF_HEADER: &str = "x-csrf-token";

/// Header of requests that a page makes by itself; they do not keep a session alive.
pub const BACKGROUND_HEADER: &str = "x-yika-background";

/// Cookie that stands for the session before there is one.
const PRE_COOKIE: &str = "yika_pre";

/// Preferences last a year, seconds.
const PREFERENCE_COOKIE: &str = "HttpOnly; Max-Age=31536000";

const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// A product's console: its settings and its login logic.
pub struct Console<D> {
    /// Settings, as of the last page.
    kit: RwLock<Arc<Kit>>,
    /// Login logic.
    pub auth: Auth<D>,
}

impl<D: OperatorDirectory> Console<D> {
    /// A console.
    pub fn new(kit: Kit, auth: Auth<D>) -> Arc<Console<D>> {
        Arc::new(Console { kit: RwLock::new(Arc::new(kit)), auth })
    }
}

impl<D> Console<D> {
    /// Settings as of this moment.
    fn kit(&self) -> Arc<Kit> {
        let kit = Arc::clone(&self.kit.read().unwrap_or_else(PoisonError::into_inner));
        let Some(moved) = kit.moved() else { return kit };
        let moved = Arc::new(moved);
        *self.kit.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&moved);
        moved
    }
}

/// The whole console: `pages` (sign-in required for each of them) and `open` (without), the kit's own login
/// pages, preferences and files, error pages, headers.
///
/// Machine interfaces (`/healthz`, terminal API) are merged to the result, so that they pass none of this.
pub fn mount<D: OperatorDirectory>(pages: Router, open: Router, console: Arc<Console<D>>) -> Router {
    Router::new()
        .merge(pages.layer(from_fn(require_sign_in)))
        .merge(open)
        .merge(crate::auth::http::router(console.clone()))
        .route("/ui/lang/{code}", get(set_lang))
        .route("/ui/theme/{code}", get(set_theme))
        .route("/ui/campus", get(set_campus))
        .fallback(|| async { UiError::NotFound })
        .method_not_allowed_fallback(|| async { UiError::NotFound })
        .layer(from_fn_with_state(console, frame::<D>))
        .merge(assets::router().layer(from_fn(headers_only)))
        .layer(CompressionLayer::new())
}

/// A product's embedded files below `prefix`, compressed and with the headers of every answer; merged to the result of
/// [`mount`].
pub fn files<E: rust_embed::RustEmbed + 'static>(prefix: &str) -> Router {
    assets::router_of::<E, ()>(prefix).layer(from_fn(headers_only)).layer(CompressionLayer::new())
}

/// Lets only operators with one of the roles reach the routes; others see who can grant it.
pub fn require_roles<S: Clone + Send + Sync + 'static>(pages: Router<S>, roles: &'static [Role]) -> Router<S> {
    pages.layer(from_fn(move |request: Request, next: Next| async move {
        let operator = request.extensions().get::<Ui>();
        match operator.and_then(|ui| ui.operator.as_ref()) {
            None => UiError::SignInFirst.into_response(),
            Some(operator) if !roles.contains(&operator.role) => UiError::refused(roles).into_response(),
            Some(_) => next.run(request).await,
        }
    }))
}

async fn frame<D: OperatorDirectory>(State(console): State<Arc<Console<D>>>, request: Request, next: Next) -> Response {
    let kit = console.kit();
    let token = cookie(request.headers(), &cookie_name(kit.tls, port_of(&request), SESSION_COOKIE));
    let resumed = match &token {
        Some(token) => {
            let background = request.headers().contains_key(BACKGROUND_HEADER);
            console.auth.resume(token, background).await
        }
        None => Ok(None),
    };
    let (ui, new_pre) = match prepare(kit, &request, &resumed) {
        Ok(prepared) => prepared,
        Err(detail) => {
            tracing::error!(%detail, "request could not be prepared");
            return harden(StatusCode::INTERNAL_SERVER_ERROR.into_response());
        }
    };
    let response = match &resumed {
        Err(error) => UiError::unavailable(error, Saved::Nothing).into_response(),
        Ok(resumed) => {
            let session = resumed.as_ref().map(|(session, _)| session);
            admit(&ui, session, token.is_some(), request, next).await
        }
    };
    let mut response = match response.extensions().get::<UiError>() {
        Some(error) => keep_headers(&response, error::render(error, &ui)),
        None if is_bare_refusal(&response) => {
            let mut dressed = error::render(&UiError::Invalid(String::new()), &ui);
            *dressed.status_mut() = response.status();
            dressed
        }
        None => response,
    };
    if let Some(pre) = new_pre {
        let value = set_cookie(&ui, PRE_COOKIE, &pre, "HttpOnly");
        append(&mut response, SET_COOKIE, &value);
    }
    append(&mut response, header::VARY, "Cookie, HX-Request, HX-Request-Type");
    append(&mut response, header::VARY, "Accept-Language");
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    harden(response)
}

/// Checks the token of a changing request and the duty to set a password, then runs the handler.
async fn admit(ui: &Ui, session: Option<&Session>, had_cookie: bool, request: Request, next: Next) -> Response {
    let mut request = request;
    if !ui.reads {
        let expected = match session {
            Some(session) => Some(session.csrf.to_vec()),
            None => cookie(request.headers(), &ui.cookie_name(PRE_COOKIE)).map(|pre| pre.into_bytes()),
        };
        request = match check_token(request, expected).await {
            Ok(request) => request,
            Err(UiError::Forged) if session.is_none() => return error::to_login(ui, "ended"),
            Err(error) => return error.into_response(),
        };
    }
    let path = request.uri().path();
    let must_change = ui.operator.as_ref().is_some_and(|o| o.must_change);
    let allowed = ["/password", "/logout"].contains(&path) || path.starts_with("/ui/");
    if must_change && !allowed {
        if ui.htmx {
            return ([("hx-redirect", "/password")], StatusCode::OK).into_response();
        }
        return Redirect::to("/password").into_response();
    }
    request.extensions_mut().insert(ui.clone());
    let response = next.run(request).await;
    let sent_away = matches!(response.extensions().get::<UiError>(), Some(UiError::SignInFirst));
    if sent_away && had_cookie {
        return error::to_login(ui, "ended");
    }
    response
}

type Resumed = Result<Option<(Session, crate::auth::Operator)>, DirectoryError>;

/// Reads cookies and session into the request context. The second value is a fresh pre-session secret
/// that the answer must set.
fn prepare(kit: Arc<Kit>, request: &Request, resumed: &Resumed) -> Result<(Ui, Option<String>), String> {
    let headers = request.headers();
    let port = port_of(request);
    let held = |name: &str| cookie(headers, &cookie_name(kit.tls, port, name));
    let random = || crate::auth::random_32().map_err(|error| error.to_string());
    let session = resumed.as_ref().ok().and_then(Option::as_ref);
    let mut new_pre = None;
    let secret = match session {
        Some((session, _)) => session.csrf.to_vec(),
        None => {
            let pre = match held(PRE_COOKIE).filter(|pre| pre.len() == 64) {
                Some(pre) => pre,
                None => new_pre.insert(hex::encode(random()?)).clone(),
            };
            pre.into_bytes()
        }
    };
    let trace = random()?;
    let wished = || headers.get(header::ACCEPT_LANGUAGE).and_then(|value| Lang::wished(value.to_str().ok()?));
    let ui = Ui {
        port,
        lang: held("lang").and_then(|code| Lang::from_code(&code)).or_else(wished).unwrap_or_default(),
        theme: held("theme").and_then(|code| Theme::from_code(&code)).unwrap_or_default(),
        campus: held("campus").filter(|campus| !campus.is_empty()),
        menu_folded: cookie(headers, "menu").is_some_and(|menu| menu == "folded"),
        operator: session.map(|(_, operator)| CurrentOperator::from(operator)),
        csrf: mask(&secret, &random()?),
        path: request.uri().path_and_query().map_or("/".to_owned(), |path| path.to_string()),
        reads: matches!(*request.method(), Method::GET | Method::HEAD),
        // A request for the whole body (boosted links, history) wants a page.
        htmx: headers.contains_key("hx-request") && headers.get("hx-request-type").is_none_or(|kind| kind != "full"),
        now_ms: wall_ms(),
        trace_id: hex::encode(&trace[..6]),
        kit,
    };
    Ok((ui, new_pre))
}

/// Whether a changing request carries the token, in its header or in its urlencoded form. Gives the
/// request back with its body.
async fn check_token(request: Request, expected: Option<Vec<u8>>) -> Result<Request, UiError> {
    let expected = expected.ok_or(UiError::Forged)?;
    let cross_site =
        request.headers().get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    if cross_site {
        return Err(UiError::Forged);
    }
    if let Some(sent) = request.headers().get(CSRF_HEADER) {
        return match unmask_equals(sent.as_bytes(), &expected) {
            true => Ok(request),
            false => Err(UiError::Forged),
        };
    }
    let urlencoded = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    if !urlencoded {
        return Err(UiError::Forged);
    }
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, FORM_BYTES_MAX).await.map_err(|_| UiError::Forged)?;
    // The token is hexadecimal, so that its field needs no percent-decoding.
    let sent = body.split(|byte| *byte == b'&').find_map(|field| field.strip_prefix(b"_csrf="));
    match sent.is_some_and(|sent| unmask_equals(sent, &expected)) {
        true => Ok(Request::from_parts(parts, Body::from(body))),
        false => Err(UiError::Forged),
    }
}

/// Hides a secret under a fresh mask, so that compressed pages do not leak it by their length.
fn mask(secret: &[u8], mask: &[u8; 32]) -> String {
    let hidden: Vec<u8> = secret.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    format!("{}{}", hex::encode(mask), hex::encode(hidden))
}

fn unmask_equals(sent: &[u8], expected: &[u8]) -> bool {
    let Ok(bytes) = hex::decode(sent) else {
        return false;
    };
    let Some((mask, hidden)) = bytes.split_at_checked(32) else {
        return false;
    };
    let clear: Vec<u8> = hidden.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    bool::from(clear.ct_eq(expected))
}

#[derive(Deserialize)]
struct Back {
    #[serde(default)]
    back: String,
    #[serde(default)]
    id: String,
}

async fn set_lang(ui: Ui, Path(code): Path<String>, Query(back): Query<Back>) -> Response {
    let known = Lang::from_code(&code).map(Lang::code);
    preference(&ui, "lang", known, &back.back)
}

async fn set_theme(ui: Ui, Path(code): Path<String>, Query(back): Query<Back>) -> Response {
    let known = Theme::from_code(&code).map(Theme::code);
    preference(&ui, "theme", known, &back.back)
}

async fn set_campus(ui: Ui, Query(back): Query<Back>) -> Response {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let known = (back.id.len() <= 64 && back.id.bytes().all(plain)).then_some(back.id.as_str());
    preference(&ui, "campus", known, &back.back)
}

fn preference(ui: &Ui, name: &str, value: Option<&str>, back: &str) -> Response {
    match value {
        None => UiError::NotFound.into_response(),
        Some(value) => {
            let cookie = set_cookie(ui, name, value, PREFERENCE_COOKIE);
            ([(SET_COOKIE, cookie)], Redirect::to(local_path(back))).into_response()
        }
    }
}

/// The port that the browser asked, where it names one.
fn port_of(request: &Request) -> Option<u16> {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = named.and_then(|host| host.parse::<Authority>().ok());
    authority.as_ref().or(request.uri().authority()).and_then(Authority::port_u16)
}

/// Name of a cookie at this address. Cookies know no ports: two consoles of one host must not take each other's. Under
/// TLS a browser takes the secret ones only as this host itself set them.
pub(crate) fn cookie_name(tls: bool, port: Option<u16>, name: &str) -> String {
    let prefix = if tls && [SESSION_COOKIE, PRE_COOKIE].contains(&name) { "__Host-" } else { "" };
    match port {
        Some(port) => format!("{prefix}{name}_{port}"),
        None => format!("{prefix}{name}"),
    }
}

/// Value of a request cookie.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

async fn headers_only(request: Request, next: Next) -> Response {
    harden(next.run(request).await)
}

fn harden(mut response: Response) -> Response {
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether an extractor refused the request (a query that does not parse, a form that is too large): those
/// answer plain text in English.
fn is_bare_refusal(response: &Response) -> bool {
    let plain =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    plain && response.status().is_client_error()
}

/// The dressed error with the cookies that the bare one carried.
fn keep_headers(bare: &Response, mut dressed: Response) -> Response {
    for value in bare.headers().get_all(SET_COOKIE) {
        dressed.headers_mut().append(SET_COOKIE, value.clone());
    }
    dressed
}

fn append(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().append(name, value);
    }
}

fn wall_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_token_is_recognised_and_each_page_shows_another() {
        let secret = [7; 32];
        let (one, two) = (mask(&secret, &[1; 32]), mask(&secret, &[2; 32]));
        assert_ne!(one, two);
        assert!(unmask_equals(one.as_bytes(), &secret));
        assert!(unmask_equals(two.as_bytes(), &secret));
        for bad in ["", "00", "zz", &one[..64], &one[1..]] {
            assert!(!unmask_equals(bad.as_bytes(), &secret), "{bad:?}");
        }
    }

    #[test]
    fn cookies_are_named_by_the_port_that_was_asked() {
        let ask = |host: &str| {
            let request = axum::http::Request::get("/").header("host", host).body(Body::empty()).unwrap_or_default();
            cookie_name(false, port_of(&request), "lang")
        };
        assert_eq!([ask("hub:8080"), ask("hub:8081")], ["lang_8080", "lang_8081"]);
        assert_eq!([ask("[2001:db8::1]:9"), ask("hub"), ask("no host")], ["lang_9", "lang", "lang"]);
        assert_eq!(cookie_name(true, None, SESSION_COOKIE), "__Host-yika_session");
        assert_eq!(cookie_name(true, Some(8443), PRE_COOKIE), "__Host-yika_pre_8443");
        assert_eq!(cookie_name(true, None, "lang"), "lang");
    }

    #[test]
    fn cookies_are_found_by_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("xlang=zh; lang=en"));
        headers.append(header::COOKIE, HeaderValue::from_static("theme=dark"));
        assert_eq!(cookie(&headers, "lang").as_deref(), Some("en"));
        assert_eq!(cookie(&headers, "theme").as_deref(), Some("dark"));
        assert_eq!(cookie(&headers, "ang"), None);
    }
}

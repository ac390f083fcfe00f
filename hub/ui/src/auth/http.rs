//! Pages of the sign-in: login, new password, sign-out. Mounted by [`crate::mount`].

use std::net::SocketAddr;
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Form, Query, Request, State};
use axum::http::header::SET_COOKIE;
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Deserialize;

use super::{Auth, CurrentOperator, OperatorDirectory, SessionToken, SignIn};
use crate::console::{Console, cookie};
use crate::error::UiError;
use crate::page::{Page, Ui};
use crate::view::View;

/// Cookie of the session.
pub(crate) const SESSION_COOKIE: &str = "yika_session";

/// Largest body of a sign-in form, bytes.
const FORM_BYTES_MAX: usize = 4 * 1024;

#[derive(Template)]
#[template(path = "kit/login.html")]
struct LoginPage {
    page: Page,
    login: String,
    back: String,
    problem: String,
    notice: &'static str,
}

#[derive(Template)]
#[template(path = "kit/password.html")]
struct PasswordPage {
    page: Page,
    first: bool,
    problem: &'static str,
    mismatch: bool,
    elsewhere: Option<&'static str>,
}

#[derive(Deserialize)]
struct LoginQuery {
    #[serde(default)]
    back: String,
    #[serde(default)]
    why: String,
}

#[derive(Deserialize)]
struct LoginForm {
    #[serde(default)]
    login: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    back: String,
}

#[derive(Deserialize)]
struct PasswordForm {
    #[serde(default)]
    current: String,
    #[serde(default)]
    new: String,
    #[serde(default)]
    again: String,
}

/// `/login`, `/password`, `/logout`.
pub(crate) fn router<D: OperatorDirectory>(console: Arc<Console<D>>) -> Router {
    Router::new()
        .route("/login", get(login_page).post(login::<D>))
        .route("/password", get(password_page).post(password::<D>))
        .route("/logout", get(|| async { Redirect::to("/") }).post(logout::<D>))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(console)
}

async fn login_page(ui: Ui, Query(query): Query<LoginQuery>) -> Response {
    if ui.operator.is_some() {
        return Redirect::to(local_path(&query.back)).into_response();
    }
    let notice = match query.why.as_str() {
        "ended" => "auth.ended",
        "out" => "auth.signed_out",
        _ => "",
    };
    login_view(&ui, String::new(), &query.back, String::new(), notice)
}

async fn login<D: OperatorDirectory>(
    State(console): State<Arc<Console<D>>>,
    ui: Ui,
    headers: HeaderMap,
    extensions: Extensions,
    Form(form): Form<LoginForm>,
) -> Response {
    let auth = &console.auth;
    let answer = auth.sign_in(&form.login, &form.password, peer(&extensions)).await;
    let problem = match answer {
        SignIn::Welcome(token, operator) => {
            if let Some(old) = cookie(&headers, &ui.cookie_name(SESSION_COOKIE)) {
                auth.sessions.end(&old);
            }
            let target = if operator.must_change { "/password" } else { local_path(&form.back) };
            return with_session(&ui, &token, Redirect::to(target));
        }
        SignIn::Refused => {
            let stop = if ui.lang == crate::Lang::Zh { "。" } else { ". " };
            let hint = ui.kit.sign_in_hint.map(|key| format!("{stop}{}", ui.t(key))).unwrap_or_default();
            (StatusCode::UNPROCESSABLE_ENTITY, format!("{}{hint}", ui.t("auth.refused")))
        }
        SignIn::Inactive(word) => (StatusCode::FORBIDDEN, ui.t(word).to_owned()),
        SignIn::Locked { minutes } => {
            (StatusCode::TOO_MANY_REQUESTS, ui.t_args("auth.locked", &[("n", &minutes.to_string())]))
        }
        SignIn::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, ui.t("auth.unavailable").to_owned()),
    };
    let (status, problem) = problem;
    let mut response = login_view(&ui, form.login, &form.back, problem, "");
    *response.status_mut() = status;
    response
}

async fn password_page(ui: Ui, operator: CurrentOperator) -> Response {
    password_view(&ui, &operator, "", false)
}

async fn password<D: OperatorDirectory>(
    State(console): State<Arc<Console<D>>>,
    ui: Ui,
    operator: CurrentOperator,
    extensions: Extensions,
    Form(form): Form<PasswordForm>,
) -> Response {
    if let Some(word) = ui.kit.passwords_elsewhere {
        return UiError::Invalid(ui.t(word).to_owned()).into_response();
    }
    if form.new != form.again {
        return password_view(&ui, &operator, "password.mismatch", true);
    }
    let current = (!operator.must_change).then_some(form.current.as_str());
    let changed = console.auth.change_password(&operator, current, &form.new, peer(&extensions)).await;
    match changed {
        Ok(token) => with_session(&ui, &token, Redirect::to("/")),
        Err(problem) => password_view(&ui, &operator, problem, true),
    }
}

async fn logout<D: OperatorDirectory>(
    State(console): State<Arc<Console<D>>>,
    ui: Ui,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    let token = cookie(&headers, &ui.cookie_name(SESSION_COOKIE));
    if let (Some(token), Some(operator)) = (token, &ui.operator) {
        let auth: &Auth<D> = &console.auth;
        auth.sign_out(&token, operator, peer(&extensions)).await;
    }
    let gone = set_cookie(&ui, SESSION_COOKIE, "", "HttpOnly; Max-Age=0");
    ([(SET_COOKIE, gone)], Redirect::to("/login?why=out")).into_response()
}

fn login_view(ui: &Ui, login: String, back: &str, problem: String, notice: &'static str) -> Response {
    View::new(LoginPage { page: ui.page("auth.title", ""), login, back: local_path(back).to_owned(), problem, notice })
        .into_response()
}

fn password_view(ui: &Ui, operator: &CurrentOperator, problem: &'static str, bad: bool) -> Response {
    let template = PasswordPage {
        page: ui.page("password.title", ""),
        first: operator.must_change,
        problem,
        mismatch: problem == "password.mismatch",
        elsewhere: ui.kit.passwords_elsewhere,
    };
    if bad { View::invalid(template).into_response() } else { View::new(template).into_response() }
}

fn with_session(ui: &Ui, token: &SessionToken, then: Redirect) -> Response {
    let value = set_cookie(ui, SESSION_COOKIE, token.as_str(), "HttpOnly");
    ([(SET_COOKIE, value)], then).into_response()
}

/// `Set-Cookie` of the kit: strict, whole site, `Secure` under TLS.
pub(crate) fn set_cookie(ui: &Ui, name: &str, value: &str, more: &str) -> String {
    let (name, secure) = (ui.cookie_name(name), if ui.kit.tls { "; Secure" } else { "" });
    format!("{name}={value}; Path=/; SameSite=Strict; {more}{secure}")
}

/// A path of this site to go to, or `/`: no host, no scheme, nothing a browser reads as one.
pub(crate) fn local_path(path: &str) -> &str {
    let bytes = path.as_bytes();
    let local = bytes.first() == Some(&b'/')
        && !matches!(bytes.get(1), Some(b'/' | b'\\'))
        && bytes.iter().all(|b| b.is_ascii_graphic() && *b != b'\\');
    if local { path } else { "/" }
}

fn peer(extensions: &Extensions) -> Option<String> {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map(|ConnectInfo(address)| address.ip().to_string())
}

/// Lets only signed-in operators through.
pub(crate) async fn require_sign_in(request: Request, next: axum::middleware::Next) -> Response {
    match request.extensions().get::<Ui>() {
        Some(ui) if ui.operator.is_some() => next.run(request).await,
        _ => UiError::SignInFirst.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::local_path;

    #[test]
    fn only_paths_of_this_site_are_followed() {
        assert_eq!(local_path("/people?page=2"), "/people?page=2");
        let foreign = ["", "people", "//evil", "/\\evil", "https://evil", "/a\r\nx: y", "/\t/evil", "/张"];
        for bad in foreign {
            assert_eq!(local_path(bad), "/", "{bad:?}");
        }
    }
}

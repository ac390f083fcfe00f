//! Errors as the operator sees them: what failed, whether anything was saved, an id to quote, what to do.
//!
//! A handler returns [`UiError`]; [`crate::mount`] renders it as a page or, for htmx, as a fragment, in the
//! operator's language.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};

use crate::auth::Role;
use crate::lang::Lang;
use crate::page::{Page, Ui, encode};

/// Whether the request changed anything before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// Nothing was changed.
    Nothing,
    /// The change is stored; only the answer failed.
    Everything,
    /// It is not known; the operator must look before he repeats.
    Unknown,
}

impl Saved {
    fn key(self) -> &'static str {
        match self {
            Saved::Nothing => "saved.nothing",
            Saved::Everything => "saved.everything",
            Saved::Unknown => "saved.unknown",
        }
    }
}

/// Why a request was not answered with its page.
#[derive(Debug, Clone)]
pub enum UiError {
    /// 422: the input is wrong. The text is already in the operator's language. (Forms better render
    /// themselves again with [`crate::View::invalid`].)
    Invalid(String),
    /// 404: there is no such thing.
    NotFound,
    /// 403: the operator's role does not allow it.
    Refused {
        /// Roles that may.
        roles: &'static [Role],
    },
    /// 403: the thing belongs to a campus that is not the operator's.
    OtherCampus,
    /// 403: the form did not carry the token of this session.
    Forged,
    /// 303 to the login page.
    SignInFirst,
    /// 409: the thing changed meanwhile. The text is already in the operator's language.
    Conflict(String),
    /// 422: what was asked is not done, for a reason that the product words in each language.
    Declined {
        /// Chinese.
        zh: String,
        /// English.
        en: String,
    },
    /// 503: a part that is needed does not answer.
    Unavailable {
        /// Detail for the log.
        detail: String,
        /// Whether anything was changed.
        saved: Saved,
    },
    /// 500: our own mistake.
    Internal {
        /// Detail for the log.
        detail: String,
        /// Whether anything was changed.
        saved: Saved,
    },
}

impl UiError {
    /// 403 naming the roles that may.
    pub fn refused(roles: &'static [Role]) -> UiError {
        UiError::Refused { roles }
    }

    /// 503 from an error whose text goes to the log only.
    pub fn unavailable(detail: impl std::fmt::Display, saved: Saved) -> UiError {
        UiError::Unavailable { detail: detail.to_string(), saved }
    }

    /// 500 from an error whose text goes to the log only.
    pub fn internal(detail: impl std::fmt::Display, saved: Saved) -> UiError {
        UiError::Internal { detail: detail.to_string(), saved }
    }

    /// Status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            UiError::Invalid(_) | UiError::Declined { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            UiError::NotFound => StatusCode::NOT_FOUND,
            UiError::Refused { .. } | UiError::OtherCampus | UiError::Forged => StatusCode::FORBIDDEN,
            UiError::SignInFirst => StatusCode::SEE_OTHER,
            UiError::Conflict(_) => StatusCode::CONFLICT,
            UiError::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            UiError::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn key(&self) -> &'static str {
        match self {
            UiError::Invalid(_) => "error.invalid",
            UiError::NotFound => "error.not_found",
            UiError::Refused { .. } => "error.refused",
            UiError::OtherCampus => "error.other_campus",
            UiError::Forged => "error.forged",
            UiError::SignInFirst => "auth.title",
            UiError::Conflict(_) => "error.conflict",
            UiError::Declined { .. } => "error.declined",
            UiError::Unavailable { .. } => "error.unavailable",
            UiError::Internal { .. } => "error.internal",
        }
    }

    fn icon(&self) -> &'static str {
        match self {
            UiError::NotFound => "inbox",
            UiError::Refused { .. } | UiError::OtherCampus | UiError::Forged => "lock",
            UiError::Unavailable { .. } => "cloud-off",
            UiError::Invalid(_) | UiError::Conflict(_) | UiError::Declined { .. } => "triangle-alert",
            UiError::SignInFirst | UiError::Internal { .. } => "circle-x",
        }
    }
}

impl IntoResponse for UiError {
    /// A bare answer that carries the error; the console's middleware dresses it.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Template)]
#[template(path = "kit/error_page.html")]
struct ErrorPage {
    page: Page,
    shown: Shown,
}

#[derive(Template)]
#[template(path = "kit/error_bare.html")]
struct ErrorBare {
    page: Page,
    shown: Shown,
}

#[derive(Template)]
#[template(path = "kit/error_box.html")]
struct ErrorFragment {
    page: Page,
    shown: Shown,
}

/// What the error box shows.
struct Shown {
    code: u16,
    icon: &'static str,
    title: String,
    hint: String,
    detail: String,
    saved: &'static str,
    grantors: String,
    trace: bool,
    /// The same may go well if it is tried again.
    again: bool,
}

/// Renders an error for this request.
pub(crate) fn render(error: &UiError, ui: &Ui) -> Response {
    let status = error.status();
    if let UiError::SignInFirst = error {
        return to_login(ui, "");
    }
    if let UiError::Unavailable { detail, .. } | UiError::Internal { detail, .. } = error {
        tracing::error!(trace_id = %ui.trace_id, path = %ui.path, %detail, "request failed");
    }
    let page = ui.page(error.key(), "");
    let shown = shown(error, ui, status);
    let rendered = if ui.htmx {
        ErrorFragment { page, shown }.render()
    } else if ui.operator.is_some() {
        ErrorPage { page, shown }.render()
    } else {
        ErrorBare { page, shown }.render()
    };
    match rendered {
        Ok(body) => (status, Html(body)).into_response(),
        Err(error) => {
            tracing::error!(%error, "the error page itself failed");
            status.into_response()
        }
    }
}

/// Sends the browser to the login page and back afterwards.
pub(crate) fn to_login(ui: &Ui, why: &str) -> Response {
    let back = if ui.htmx || !ui.reads { "/" } else { ui.path.as_str() };
    let mut target = format!("/login?back={}", encode(back));
    if !why.is_empty() {
        target = format!("{target}&why={why}");
    }
    if ui.htmx {
        return ([("hx-redirect", target)], StatusCode::OK).into_response();
    }
    Redirect::to(&target).into_response()
}

fn shown(error: &UiError, ui: &Ui, status: StatusCode) -> Shown {
    let hint_key = format!("{}.hint", error.key());
    let detail = match error {
        UiError::Invalid(text) | UiError::Conflict(text) => text.clone(),
        UiError::Declined { zh, en } => (if ui.lang == Lang::Zh { zh } else { en }).clone(),
        _ => String::new(),
    };
    let saved = match error {
        UiError::Unavailable { saved, .. } | UiError::Internal { saved, .. } => *saved,
        _ => Saved::Nothing,
    };
    let grantors = match error {
        UiError::Refused { roles } => {
            let names: Vec<&str> = roles.iter().map(|role| ui.t(role.label())).collect();
            ui.t_args(
                "error.refused.grant",
                &[("roles", &names.join(ui.t("list.or"))), ("admin", ui.t(Role::Admin.label()))],
            )
        }
        _ => String::new(),
    };
    Shown {
        code: status.as_u16(),
        icon: error.icon(),
        title: ui.t(error.key()).to_owned(),
        hint: ui.t(&hint_key).to_owned(),
        detail,
        saved: saved.key(),
        grantors,
        trace: status.is_server_error(),
        again: ui.reads && (status.is_server_error() || matches!(error, UiError::Conflict(_))),
    }
}

//! The readable page: routes, signing rules with a worked example, refusal codes, in Chinese and English.
//!
//! No script, nothing from elsewhere; readable without its style sheet.

use super::document::HEADERS;
use super::gate::{CLOCK_AHEAD_MS_MAX, CLOCK_BEHIND_MS_MAX};
use super::refusal::Code;
use super::route::Route;
use askama::Template;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use yika_crdt::reason::Reason;
use yika_drivers::card_format::Form;
use yika_drivers::terminal::message::{BATCH_RECORDS_MAX, PREFIX};
use yika_drivers::terminal::vectors::{Vectors, vectors};
use yika_ui::Lang;

/// What a page may load: its own style sheets.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'";

#[derive(Template)]
#[template(path = "terminals/page.html")]
struct Page {
    /// Chinese; else English.
    zh: bool,
    prefix: &'static str,
    routes: [Route; Route::ALL.len()],
    codes: [Code; Code::ALL.len()],
    reasons: [Reason; Reason::ALL.len()],
    examples: Vectors,
    behind_s: i64,
    ahead_s: i64,
    batch_records: usize,
    styles: [String; 2],
    headers: [(&'static str, &'static str, &'static str); HEADERS.len()],
    forms: Vec<(String, &'static str, &'static str)>,
}

impl Page {
    /// The half of a pair that is shown.
    fn of<'p>(&self, pair: (&'p str, &'p str)) -> &'p str {
        if self.zh { pair.0 } else { pair.1 }
    }

    fn say<'p>(&self, zh: &'p str, en: &'p str) -> &'p str {
        if self.zh { zh } else { en }
    }
}

pub(super) async fn show(RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let examples = match vectors() {
        Ok(examples) => examples,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    };
    let page = Page {
        zh: is_chinese(query.as_deref(), &headers),
        prefix: PREFIX,
        routes: Route::ALL,
        codes: Code::ALL,
        reasons: Reason::ALL,
        examples,
        behind_s: CLOCK_BEHIND_MS_MAX / 1000,
        ahead_s: CLOCK_AHEAD_MS_MAX / 1000,
        batch_records: BATCH_RECORDS_MAX,
        styles: [yika_ui::assets::url("app.css"), crate::console::file("edge.css")],
        headers: HEADERS,
        forms: Form::ALL.iter().filter_map(|form| written(*form)).collect(),
    };
    match page.render() {
        Ok(html) => ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(html)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// How a form is named in a message, and what it is.
fn written(form: Form) -> Option<(String, &'static str, &'static str)> {
    let (zh, en) = match form {
        Form::Dec10 => ("整个号码,10 位十进制", "the whole number, 10 decimal digits"),
        Form::Dec8 => ("低三字节,8 位十进制", "the low three bytes, 8 decimal digits"),
        Form::HighDec8 => ("前三字节,8 位十进制", "the first three bytes, 8 decimal digits"),
        Form::Comma35 => ("第三字节,逗号,低两字节", "the third byte, a comma, the low two bytes"),
        Form::Joined35 => ("同上,没有逗号", "the same without the comma"),
        Form::HighJoined35 => ("第一字节和其后两字节,没有逗号", "the first byte and the next two, without a comma"),
        Form::Hex8 => ("整个号码,8 位十六进制", "the whole number, 8 hexadecimal digits"),
    };
    let name = serde_json::to_value(form).ok()?.as_str()?.to_owned();
    Some((name, zh, en))
}

/// `?lang=` first, then the browser's wish; Chinese where neither says English.
fn is_chinese(query: Option<&str>, headers: &HeaderMap) -> bool {
    match query {
        Some("lang=en") => false,
        Some("lang=zh") => true,
        _ => {
            let wish = headers.get(header::ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
            Lang::wished(wish).unwrap_or_default() == Lang::Zh
        }
    }
}

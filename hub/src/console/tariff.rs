//! Tariff 价目: the sheet in force as tables, taken away and brought back as TOML.

use super::export::attachment;
use super::registry::clock_text;
use super::shared::*;
use crate::desk::DeskError;
use askama::Template;
use axum::Form;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use yika_crdt::Fen;
use yika_crdt::ids::*;
use yika_crdt::tariff::sheet::{LimitScope, PeriodId, TariffSheet};
use yika_ui::{Lang, Page, Saved, Ui, UiError, View};

/// Longest sheet as TOML, in bytes.
const TOML_BYTES_MAX: usize = 200 * 1024;

#[derive(Template)]
#[template(path = "tariff.html")]
pub(super) struct TariffPage {
    page: Page,
    sheet: Option<Sheet>,
    admin: bool,
}

/// The sheet as shown.
struct Sheet {
    version: String,
    periods: Vec<(String, String, String)>,
    fixed: Vec<(String, String, String, String)>,
    adjustments: Vec<(String, String, String, String)>,
    limits: Vec<LimitLine>,
    barred: Vec<(String, String)>,
    repeat: u8,
    guest: Option<(String, String)>,
}

struct LimitLine {
    category: String,
    purchase: String,
    meal: String,
    day: String,
    times_meal: String,
    times_day: String,
    strict: bool,
}

pub(super) async fn page(State(site): State<Arc<Site>>, ui: Ui, me: Me) -> View<TariffPage> {
    let registry = site.desk.node.registry();
    View::new(TariffPage {
        sheet: registry.tariff.as_deref().map(|sheet| shown(&ui, sheet)),
        admin: me.is_chief(),
        page: site.page(&ui, "tariff.title", "/tariff"),
    })
}

fn shown(ui: &Ui, sheet: &TariffSheet) -> Sheet {
    let any = || ui.t("word.any").to_owned();
    let period = |wanted: Option<PeriodId>| match wanted {
        None => any(),
        Some(id) => sheet.periods.iter().find(|p| p.id == id).map_or_else(|| id.0.to_string(), |p| p.name.clone()),
    };
    let category = |wanted: Option<CategoryId>| wanted.map_or_else(any, |id| ui.category(id.0));
    let outlet = |wanted: Option<OutletId>| wanted.map_or_else(any, |id| outlet_words(ui, id).name);
    let cap = |cap: Option<Fen>| cap.map_or_else(|| "–".to_owned(), |fen| yuan(fen.0));
    let times = |times: u8| if times == 0 { "–".to_owned() } else { times.to_string() };
    Sheet {
        version: sheet.version.to_string(),
        periods: sheet
            .periods
            .iter()
            .map(|p| (p.name.clone(), clock_text(p.from_minute), clock_text(p.until_minute)))
            .collect(),
        fixed: sheet
            .fixed
            .iter()
            .map(|f| (period(f.period), category(f.category), outlet(f.outlet), yuan(f.price.0)))
            .collect(),
        adjustments: sheet
            .adjustments
            .iter()
            .map(|a| {
                let sign = if a.basis_points < 0 { "-" } else { "+" };
                let points = a.basis_points.unsigned_abs();
                let percent = format!("{sign}{}.{:02}%", points / 100, points % 100);
                (ui.category(a.category.0), outlet(a.outlet), percent, signed_yuan(a.flat.0))
            })
            .collect(),
        limits: sheet
            .limits
            .iter()
            .map(|l| LimitLine {
                category: category(l.category),
                purchase: cap(l.per_purchase),
                meal: cap(l.per_meal),
                day: cap(l.per_day),
                times_meal: times(l.times_per_meal),
                times_day: times(l.times_per_day),
                strict: l.scope == LimitScope::Strict,
            })
            .collect(),
        barred: sheet.barred.iter().map(|(c, o)| (ui.category(c.0), outlet_words(ui, *o).name)).collect(),
        repeat: sheet.repeat_tap_seconds,
        guest: sheet
            .guest
            .per_purchase
            .is_positive()
            .then(|| (yuan(sheet.guest.per_purchase.0), yuan(sheet.guest.per_card_day.0))),
    }
}

/// Why a text is not a sheet: the line, and what about it, in the page's language.
fn unread_words(ui: &Ui, text: &str, error: &toml::de::Error) -> String {
    let head = ui.t("tariff.not_toml");
    let named = |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let (message, comma) = (error.message(), if ui.lang == Lang::Zh { "、" } else { ", " });
    let what = match (message.split_once(", expected"), named(message).first()) {
        (Some((_, expected)), Some(name)) if message.starts_with("unknown field") => {
            ui.t_args("tariff.no_field", &[("name", name), ("known", &named(expected).join(comma))])
        }
        (Some((_, expected)), Some(name)) if message.starts_with("unknown variant") => {
            ui.t_args("tariff.no_variant", &[("name", name), ("known", &named(expected).join(comma))])
        }
        (_, Some(name)) if message.starts_with("missing field") => ui.t_args("tariff.missing", &[("name", name)]),
        _ if message.starts_with("invalid type") || message.starts_with("invalid value") => {
            ui.t("tariff.wrong_value").to_owned()
        }
        _ => ui.t("tariff.syntax").to_owned(),
    };
    let at = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count());
    let line = at.and_then(|at| text.lines().nth(at)).filter(|line| !line.trim().is_empty());
    match (at, line) {
        (Some(at), Some(line)) => {
            let place = ui.t_args("tariff.line", &[("n", &(at + 1).to_string())]);
            format!("{head}\n{place}{what}\n{line}")
        }
        _ => format!("{head}\n{what}"),
    }
}

pub(super) async fn download(State(site): State<Arc<Site>>) -> Result<Response, UiError> {
    let registry = site.desk.node.registry();
    let sheet = registry.tariff.as_deref().ok_or(UiError::NotFound)?;
    let text = toml::to_string_pretty(sheet).map_err(|e| UiError::internal(e, Saved::Nothing))?;
    Ok(attachment("application/toml", "tariff.toml", Body::from(text)))
}

#[derive(Template)]
#[template(path = "tariff_form.html")]
pub(super) struct TariffForm {
    page: Page,
    text: String,
    problem: String,
}

#[derive(Deserialize)]
pub(super) struct Upload {
    #[serde(default)]
    text: String,
}

pub(super) async fn upload(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Form(upload): Form<Upload>,
) -> Result<Response, UiError> {
    let invalid = |problem: String| {
        let page = site.page(&ui, "tariff.title", "/tariff");
        View::invalid(TariffForm { page, text: upload.text.clone(), problem }).into_response()
    };
    if upload.text.trim().is_empty() {
        return Ok(invalid(ui.t("tariff.no_text").to_owned()));
    }
    if upload.text.len() > TOML_BYTES_MAX {
        return Ok(invalid(ui.t("tariff.too_long").to_owned()));
    }
    let sheet: TariffSheet = match toml::from_str(&upload.text) {
        Ok(sheet) => sheet,
        Err(error) => return Ok(invalid(unread_words(&ui, &upload.text, &error))),
    };
    match site.desk.set_tariff(&me.actor, sheet).await {
        Ok(set) if !set.changed => Ok(invalid(ui.t("tariff.same").to_owned())),
        Ok(_) => Ok(([("hx-redirect", "/tariff")], "").into_response()),
        Err(DeskError::Refused(refusal)) => Ok(invalid(refusal.words(ui.lang))),
        Err(other) => Err(failed(other)),
    }
}

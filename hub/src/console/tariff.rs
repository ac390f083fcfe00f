//! Tariff 价目: the sheet in force as tables, taken away and brought back as TOML.

use super::export::attachment;
use super::registry::clock_text;
use super::shared::*;
use crate::desk::DeskError;
use crate::import::Category;
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
use yika_ui::{Page, Role, Saved, Ui, UiError, View};

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
        admin: me.operator.role == Role::Admin && me.actor.campus.is_none(),
        page: site.page(&ui, "tariff.title", "/tariff"),
    })
}

fn shown(ui: &Ui, sheet: &TariffSheet) -> Sheet {
    let any = || ui.t("word.any").to_owned();
    let period = |wanted: Option<PeriodId>| match wanted {
        None => any(),
        Some(id) => sheet.periods.iter().find(|p| p.id == id).map_or_else(|| id.0.to_string(), |p| p.name.clone()),
    };
    let category = |wanted: Option<CategoryId>| wanted.map_or_else(any, |id| category_name(ui, id));
    let outlet = |wanted: Option<OutletId>| wanted.map_or_else(any, |id| id.to_string());
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
                (category_name(ui, a.category), outlet(a.outlet), percent, signed_yuan(a.flat.0))
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
        barred: sheet.barred.iter().map(|(c, o)| (category_name(ui, *c), o.to_string())).collect(),
        repeat: sheet.repeat_tap_seconds,
        guest: sheet
            .guest
            .per_purchase
            .is_positive()
            .then(|| (yuan(sheet.guest.per_purchase.0), yuan(sheet.guest.per_card_day.0))),
    }
}

/// The customary categories have names; others their number.
fn category_name(ui: &Ui, id: CategoryId) -> String {
    let place = usize::from(id.0).checked_sub(1);
    let known = place.and_then(|place| Category::ALL.get(place));
    known.map_or_else(|| id.to_string(), |category| category.word(file_lang(ui)).to_owned())
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
    me.of_headquarters()?;
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
        Err(error) => return Ok(invalid(format!("{}\n{error}", ui.t("tariff.not_toml")))),
    };
    match site.desk.set_tariff(&me.actor, sheet).await {
        Ok(_) => Ok(([("hx-redirect", "/tariff")], "").into_response()),
        Err(DeskError::Refused(refusal)) => Ok(invalid(refusal.words(ui.lang))),
        Err(other) => Err(failed(other)),
    }
}

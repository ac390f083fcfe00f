//! The overview 总览: is everything normal? Boxes by the age of their news, today's takings, refusals, alarms; on a new
//! site a list of first steps.

use super::edges::{EdgeLine, edge_lines};
use super::shared::*;
use crate::clock::wall_ms;
use crate::node::Busy;
use crate::store::read;
use crate::store::totals::{self, NoteRow, Sold};
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use yika_crdt::civil::DAY_MS;
use yika_crdt::ids::*;
use yika_crdt::registry::RegistryView;
use yika_crdt::store::StoreError;
use yika_ui::{Page, Role, Ui, UiError, View};

/// Sums are added up at most once in this time.
const SUMS_LIVE_MS: u64 = 5_000;
/// Sums kept: one for all campuses and one for each.
const SUMS_KEPT_MAX: usize = 256;
/// Alarms shown.
const ALARMS_SHOWN_MAX: u32 = 8;
/// Alarms of this time are counted.
const ALARMS_WITHIN_MS: i64 = DAY_MS;
/// The bell is brought up to date so often.
const BELL_EVERY_MS: u64 = 15_000;
/// A newest backup older than this is shown as a worry.
const BACKUP_HOURS_OLD: i64 = 48;
/// Height of the chart's columns.
const CHART_HEIGHT: i64 = 120;

/// Sums of the day by what they are about.
#[derive(Default)]
pub(super) struct Today(Mutex<Kept>);

/// By campus: when they were added up, and what came of it.
type Kept = BTreeMap<Option<CampusId>, (Instant, Arc<Sums>)>;

/// What happened since midnight.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    at_ms: i64,
    sold: Sold,
    last_week_fen: i64,
    back_fen: i64,
    refused: Vec<(String, u64)>,
    alarms: Vec<NoteRow>,
    alarms_all: u64,
}

impl Today {
    async fn sums(&self, site: &Site, scope: Scope, midnight_ms: i64) -> Result<Arc<Sums>, Busy> {
        let fresh = |(at, sums): &(Instant, Arc<Sums>)| {
            (at.elapsed() < Duration::from_millis(SUMS_LIVE_MS)).then(|| Arc::clone(sums))
        };
        let kept = self.lock().get(&scope.campus).and_then(fresh);
        if let Some(sums) = kept {
            return Ok(sums);
        }
        let campus = scope.campus;
        let sums = site.desk.node.query(move |conn| {
            let nodes = scope.nodes.as_deref();
            let at_ms = wall_ms();
            let week = 7 * DAY_MS;
            let (alarms, alarms_all) = totals::alarms(conn, at_ms - ALARMS_WITHIN_MS, nodes, ALARMS_SHOWN_MAX)?;
            Ok::<_, StoreError>(Sums {
                at_ms,
                // What a box with a fast clock wrote belongs to today, too.
                sold: totals::sold(conn, midnight_ms, midnight_ms + DAY_MS, nodes)?,
                last_week_fen: totals::sold(conn, midnight_ms - week, at_ms - week, nodes)?.fen,
                back_fen: totals::given_back(conn, midnight_ms, nodes)?,
                refused: totals::refused(conn, midnight_ms, nodes)?,
                alarms,
                alarms_all,
            })
        });
        let sums = Arc::new(sums.await?);
        let mut kept = self.lock();
        if kept.len() >= SUMS_KEPT_MAX {
            kept.clear();
        }
        kept.insert(campus, (Instant::now(), Arc::clone(&sums)));
        Ok(sums)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the number at the bell up to date as long as the site is served.
pub(super) async fn ring(site: std::sync::Weak<Site>) {
    let mut every = tokio::time::interval(Duration::from_millis(BELL_EVERY_MS));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let Some(site) = site.upgrade() else { return };
        let since = wall_ms() - ALARMS_WITHIN_MS;
        match site.desk.node.query(move |conn| totals::alarms(conn, since, None, 0)).await {
            Ok((_, count)) => site.set_alarms(count),
            Err(error) => tracing::warn!(%error, "alarms cannot be counted"),
        }
    }
}

#[derive(Template)]
#[template(path = "overview.html")]
pub(super) struct Overview {
    page: Page,
    v: Shown,
}

#[derive(Template)]
#[template(path = "overview_body.html")]
pub(super) struct Body {
    page: Page,
    v: Shown,
}

/// What both templates show.
struct Shown {
    edges: Vec<EdgeLine>,
    edges_ok: usize,
    takings: String,
    sold: String,
    back: String,
    delta: Option<(bool, String)>,
    sales: String,
    refused: String,
    reasons: Vec<(String, String)>,
    alarms: Vec<AlarmLine>,
    alarms_all: u64,
    bars: Vec<Bar>,
    meals: Vec<MealLine>,
    steps: Vec<FirstStep>,
    steps_left: usize,
    empty: bool,
    /// Database, backup and log of headquarters: tone and words each.
    safety: Vec<(&'static str, String)>,
}

struct AlarmLine {
    time: String,
    node: String,
    word: String,
    detail: String,
}

struct MealLine {
    name: String,
    sales: String,
    sum: String,
    /// Part of the largest, in hundredths.
    part: i64,
}

/// A column of the chart by hours.
pub(super) struct Bar {
    pub(super) x: i64,
    pub(super) y: i64,
    pub(super) height: i64,
    pub(super) hour: i64,
    pub(super) words: String,
    pub(super) strong: bool,
}

/// A thing to do before the first meal.
struct FirstStep {
    key: &'static str,
    href: &'static str,
    done: bool,
    admin: bool,
}

pub(super) async fn page(State(site): State<Arc<Site>>, ui: Ui) -> Result<Response, UiError> {
    let scope = site.scope(&ui);
    let registry = site.desk.node.registry();
    let edges = edge_lines(&site, &ui, scope.campus).await?;
    let unscoped = scope.campus.is_none();
    let sums = site.today.sums(&site, scope, midnight_ms(&ui, ui.now_ms)).await.map_err(busy)?;
    if unscoped {
        site.set_alarms(sums.alarms_all);
    }
    let steps = first_steps(&site, &registry).await?;
    let safety = if unscoped { safety(&site, &ui).await? } else { Vec::new() };
    let mut page = site.page(&ui, "overview.title", "/");
    page.as_of = Some(yika_ui::AsOf { text: ui.clock_text(sums.at_ms), stale: false });
    let v = Shown {
        steps_left: steps.iter().filter(|s| !s.done).count(),
        steps,
        safety,
        ..shown(&ui, &registry, edges, &sums)
    };
    Ok(match ui.htmx {
        true => View::new(Body { page, v }).into_response(),
        false => View::new(Overview { page, v }).into_response(),
    })
}

fn shown(ui: &Ui, registry: &RegistryView, edges: Vec<EdgeLine>, sums: &Sums) -> Shown {
    let alarm = |row: &NoteRow| AlarmLine {
        time: ui.time_text(row.at_ms),
        node: node_name(ui, registry, NodeId(row.node)),
        word: ui.alarm(&row.word),
        detail: ui.alarm_detail(&row.word, &row.detail),
    };
    let refused: u64 = sums.refused.iter().map(|(_, n)| n).sum();
    Shown {
        edges_ok: edges.iter().filter(|e| e.tone == "ok").count(),
        takings: yuan(sums.sold.fen.saturating_sub(sums.back_fen)),
        sold: yuan(sums.sold.fen),
        back: yuan(sums.back_fen),
        delta: delta(sums),
        sales: count(sums.sold.sales),
        refused: count(refused),
        reasons: sums.refused.iter().take(6).map(|(code, n)| (reason_words(ui, code), count(*n))).collect(),
        alarms: sums.alarms.iter().map(alarm).collect(),
        alarms_all: sums.alarms_all,
        bars: bars(&sums.sold),
        meals: meals(ui, registry, &sums.sold),
        steps: Vec::new(),
        steps_left: 0,
        safety: Vec::new(),
        empty: sums.sold.sales == 0,
        edges,
    }
}

/// What would be there if this machine burned.
async fn safety(site: &Site, ui: &Ui) -> Result<Vec<(&'static str, String)>, UiError> {
    let now_ms = wall_ms();
    let refusing = site.desk.node.refusing().map(|why| ("bad", why.sentence(ui.lang)));
    let backup = match site.desk.last_backup().await.map_err(unread)? {
        None => ("warn", ui.t("overview.no_backup").to_owned()),
        Some(last) => {
            let hours = now_ms.saturating_sub(last.at_ms).max(0) / 3_600_000;
            let tone = if hours > BACKUP_HOURS_OLD { "warn" } else { "ok" };
            (tone, ui.kit.words.t_args(ui.lang, "overview.backup", &[("hours", &hours.to_string())]))
        }
    };
    let log = site.desk.node.ears().log.borrow().clone();
    let log = log.map(|log| match &log.trouble {
        _ if log.is_sound(now_ms) => ("ok", ui.t("overview.log").to_owned()),
        None if !log.based => ("warn", ui.t("overview.log.baseless").to_owned()),
        trouble => {
            let seconds = log.lag_ms(now_ms) / 1_000;
            let words = ui.kit.words.t_args(ui.lang, "overview.log.late", &[("seconds", &seconds.to_string())]);
            ("bad", format!("{words} {}", trouble.as_deref().unwrap_or_default()))
        }
    });
    Ok(refusing.into_iter().chain([backup]).chain(log).collect())
}

/// Change against the same weekday a week ago, up to the same time.
fn delta(sums: &Sums) -> Option<(bool, String)> {
    let (now, then) = (sums.sold.fen, sums.last_week_fen);
    // Tenths of a percent, in whole numbers.
    let tenths = (then > 0).then(|| now.saturating_sub(then).saturating_mul(1000) / then)?;
    Some((tenths >= 0, format!("{}.{}%", tenths.abs() / 10, tenths.abs() % 10)))
}

fn bars(sold: &Sold) -> Vec<Bar> {
    let mut hours = [(0u64, 0i64); 24];
    for (hour, _, sales, fen) in &sold.parts {
        if let Some(slot) = usize::try_from(*hour).ok().and_then(|h| hours.get_mut(h)) {
            *slot = (slot.0 + sales, slot.1.saturating_add(*fen));
        }
    }
    let top = hours.iter().map(|(sales, _)| *sales).max().unwrap_or(0).max(1);
    let bar = |(hour, (sales, fen)): (i64, &(u64, i64))| {
        let height = (*sales as i64 * CHART_HEIGHT / top as i64).max(1);
        Bar {
            x: 6 + hour * 20,
            y: 20 + CHART_HEIGHT - height,
            height,
            hour,
            words: format!("{hour}:00 · {sales} · ¥{}", yuan(*fen)),
            strong: *sales * 2 > top,
        }
    };
    (0..24).zip(&hours).map(bar).collect()
}

fn meals(ui: &Ui, registry: &RegistryView, sold: &Sold) -> Vec<MealLine> {
    let mut sums: BTreeMap<Option<u8>, (u64, i64)> = BTreeMap::new();
    for (_, period, sales, fen) in &sold.parts {
        let slot = sums.entry(*period).or_default();
        *slot = (slot.0 + sales, slot.1.saturating_add(*fen));
    }
    let top = sums.values().map(|(_, fen)| *fen).max().unwrap_or(0).max(1);
    let line = |(period, (sales, fen)): (&Option<u8>, &(u64, i64))| MealLine {
        name: period_name(ui, registry, *period),
        sales: count(*sales),
        sum: yuan(*fen),
        part: (*fen).saturating_mul(100) / top,
    };
    sums.iter().map(line).collect()
}

/// Name of a meal period in the tariff in force.
pub(super) fn period_name(ui: &Ui, registry: &RegistryView, period: Option<u8>) -> String {
    let Some(number) = period else { return ui.t("word.no_period").to_owned() };
    let periods = registry.tariff.as_ref().map(|t| t.periods.as_slice()).unwrap_or_default();
    periods.iter().find(|p| p.id.0 == number).map_or_else(|| number.to_string(), |p| p.name.clone())
}

async fn first_steps(site: &Site, registry: &RegistryView) -> Result<Vec<FirstStep>, UiError> {
    let operators = site.desk.node.query(read::operators).await.map_err(busy)?;
    let (people, _) = site.desk.node.people.read().counts();
    let step = |key, href, done, admin| FirstStep { key, href, done, admin };
    Ok(vec![
        step("first.campus", "/campuses", !registry.campuses.is_empty(), true),
        step("first.operators", "/operators", operators.iter().filter(|o| o.active).count() > 1, true),
        step("first.people", "/import", people > 0, false),
        step("first.tariff", "/tariff", registry.tariff.is_some(), true),
        step("first.terminals", "/terminals", !registry.terminals.is_empty(), true),
        step("first.edges", "/edges", !registry.boxes().is_empty(), true),
    ])
}

impl Shown {
    /// Whether this operator may take the step himself.
    fn may(&self, page: &Page, step: &FirstStep) -> bool {
        let role = page.ui.operator.as_ref().map(|o| o.role);
        role == Some(Role::Admin) || (!step.admin && role == Some(Role::Clerk))
    }
}

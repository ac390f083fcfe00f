//! Every component of the kit with sample data, for eyes and for tests. All names and numbers are made up.
//!
//! Mount it among the open pages of an example or behind sign-in in a product; it reads and writes nothing.

use askama::Template;
use axum::Router;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use crate::auth::Role;
use crate::error::{Saved, UiError};
use crate::lang::{Words, WordsError};
use crate::page::{Choice, Kit, MenuGroup, MenuItem, Page, Tone, Ui};
use crate::view::{Pager, Sort, Step, View};

/// Words of the gallery, Chinese and English; add them to a kit that mounts it.
pub const WORDS: [&str; 2] = [include_str!("../words/gallery.zh.words"), include_str!("../words/gallery.en.words")];

/// Addresses of the gallery's pages.
pub const PAGES: [&str; 4] = ["/gallery", "/gallery/list", "/gallery/till", "/gallery/slip"];

/// Pages below `/gallery`.
pub fn router() -> Router {
    Router::new()
        .route("/gallery", get(overview))
        .route("/gallery/list", get(list))
        .route("/gallery/drawer", get(drawer))
        .route("/gallery/till", get(till))
        .route("/gallery/slip", get(slip))
        .route("/gallery/save", post(save))
        .route("/gallery/error/{kind}", get(error))
}

/// A kit with a menu like the hub's, for the example and the tests.
///
/// # Errors
/// When the word files are broken.
pub fn sample_kit() -> Result<Kit, WordsError> {
    let item = |href, label| MenuItem { href, label, roles: &[] };
    let group = |label, icon, items| MenuGroup { label, icon, items };
    let menu = vec![
        group("g.menu.overview", "layout-dashboard", vec![item("/gallery", "g.menu.gallery")]),
        group(
            "g.menu.people",
            "users",
            vec![item("/gallery/list", "g.menu.list"), item("/gallery/people", "g.menu.people_all")],
        ),
        group("g.menu.money", "wallet", vec![item("/gallery/accounts", "g.menu.accounts")]),
        group("g.menu.sites", "building-2", vec![item("/gallery/till", "g.menu.till")]),
        group("g.menu.access", "door-closed", vec![item("/gallery/doors", "g.menu.doors")]),
        group(
            "g.menu.system",
            "settings",
            vec![
                item("/gallery/slip", "g.menu.slip"),
                MenuItem { href: "/gallery/operators", label: "g.menu.operators", roles: &[Role::Admin] },
            ],
        ),
    ];
    let words = Words::kit()?.with(WORDS[0], WORDS[1])?;
    let mut kit = Kit::new("g.product", menu, words);
    kit.node_name = "总部 hub-1".into();
    kit.search_action = Some("/gallery/list");
    Ok(kit)
}

#[derive(Template)]
#[template(path = "kit/gallery/overview.html")]
struct Overview {
    page: Page,
    bars: Vec<Bar>,
    steps: Vec<Step>,
    categories: Vec<Choice>,
}

#[derive(Template)]
#[template(path = "kit/gallery/list.html")]
struct List {
    page: Page,
    rows: Vec<Row>,
    pager: Pager,
    sort: Sort,
    categories: Vec<Choice>,
}

#[derive(Template)]
#[template(path = "kit/gallery/drawer.html")]
struct Drawer {
    page: Page,
}

#[derive(Template)]
#[template(path = "kit/gallery/till.html")]
struct Till {
    page: Page,
    state: &'static str,
    word: &'static str,
    icon: &'static str,
    keys: [&'static str; 9],
}

#[derive(Template)]
#[template(path = "kit/gallery/slip.html")]
struct Slip {
    page: Page,
}

#[derive(Template)]
#[template(path = "kit/gallery/form.html")]
struct Form {
    page: Page,
    amount: String,
    error: String,
}

/// A column of the 24-hour bar chart, drawn as SVG by the server.
struct Bar {
    x: u32,
    y: u32,
    height: u32,
    hour: u32,
    count: u32,
    labelled: bool,
}

struct Row {
    time: &'static str,
    serial: &'static str,
    name: &'static str,
    number: &'static str,
    outlet: &'static str,
    kind: &'static str,
    tone: &'static str,
    state: &'static str,
    amount: &'static str,
    incoming: bool,
    balance: &'static str,
}

fn campuses(ui: &Ui) -> Vec<Choice> {
    ["east", "west", "river"]
        .iter()
        .map(|code| Choice { value: (*code).to_owned(), text: ui.t(&format!("g.campus.{code}")).to_owned() })
        .collect()
}

fn categories(ui: &Ui) -> Vec<Choice> {
    ["all", "staff", "worker", "visitor"]
        .iter()
        .map(|code| Choice { value: (*code).to_owned(), text: ui.t(&format!("g.category.{code}")).to_owned() })
        .collect()
}

async fn overview(ui: Ui) -> View<Overview> {
    const MEALS_BY_HOUR: [u32; 24] =
        [3, 1, 0, 0, 2, 38, 214, 402, 167, 22, 31, 688, 912, 240, 46, 28, 40, 377, 540, 188, 52, 33, 24, 9];
    let bars = (0..24)
        .zip(MEALS_BY_HOUR)
        .map(|(hour, count)| {
            let height = (count * 120 / 912).max(1);
            Bar { x: 6 + hour * 20, y: 140 - height, height, hour, count, labelled: hour % 3 == 0 }
        })
        .collect();
    let codes = ["choose", "check", "apply", "done"];
    let steps = codes.iter().map(|code| {
        let note = format!("g.step.{code}.note");
        let text = format!("g.step.{code}");
        (ui.t(&text).to_owned(), ui.t(&note).to_owned())
    });
    let steps = Step::list(steps, 1);
    let mut page = ui.page("g.title", "/gallery");
    page.campuses = campuses(&ui);
    View::new(Overview { categories: categories(&ui), page, bars, steps })
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    page: u64,
}

async fn list(ui: Ui, Query(query): Query<ListQuery>) -> View<List> {
    let mut page = ui.page("g.list.title", "/gallery/list");
    page.campuses = campuses(&ui);
    View::new(List {
        categories: categories(&ui),
        page,
        rows: sample_rows(),
        pager: Pager::new(query.page.max(1), 10, 12_846, "/gallery/list?"),
        sort: Sort { column: "time".into(), descending: true, base: "/gallery/list?".into() },
    })
}

fn sample_rows() -> Vec<Row> {
    let row = |time, serial, name, number, outlet| Row {
        time,
        serial,
        name,
        number,
        outlet,
        kind: "g.kind.meal",
        tone: "ok",
        state: "g.state.posted",
        amount: "-12.50",
        incoming: false,
        balance: "186.20",
    };
    let base = [
        row("12:31:05.214", "A1-0007-104482", "张伟", "62••81", "一食堂 3 号窗"),
        row("12:30:58.871", "A1-0007-104481", "欧阳明月", "62••17", "一食堂 3 号窗"),
        row("12:30:51.030", "A2-0003-020918", "李𠮷", "62••44", "二食堂 面点"),
        row("12:30:40.555", "A1-0007-104480", "Alexandra Konstantinopoulou-Schmidt", "62••93", "咖啡吧"),
        row("12:29:57.102", "H-0001-000377", "王芳", "62••02", "总部柜台"),
        row("12:29:12.640", "B1-0012-077310", "陈建国", "62••58", "西区食堂 1 号窗"),
        row("12:28:44.009", "B1-0012-077309", "赵敏", "62••29", "西区食堂 1 号窗"),
        row("12:28:31.777", "A1-0004-055120", "刘洋", "62••66", "超市"),
        row("12:27:59.318", "A1-0007-104479", "黄丽", "62••70", "一食堂 3 号窗"),
        row("12:27:40.004", "A2-0003-020917", "孙磊", "62••35", "二食堂 面点"),
    ];
    let mut rows: Vec<Row> = base.into_iter().collect();
    let changes = [
        (1, "g.kind.meal", "warn", "g.state.waiting", "-9.00", false, "77.35"),
        (4, "g.kind.topup", "ok", "g.state.posted", "+200.00", true, "231.80"),
        (5, "g.kind.meal", "bad", "g.state.refused", "0.00", false, "3.10"),
        (7, "g.kind.shop", "plain", "g.state.reversed", "-36.90", false, "1,204.55"),
        (8, "g.kind.meal", "info", "g.state.late", "-15.00", false, "42.00"),
    ];
    for (at, kind, tone, state, amount, incoming, balance) in changes {
        if let Some(row) = rows.get_mut(at) {
            (row.kind, row.tone, row.state) = (kind, tone, state);
            (row.amount, row.incoming, row.balance) = (amount, incoming, balance);
        }
    }
    rows
}

async fn drawer(ui: Ui) -> View<Drawer> {
    View::new(Drawer { page: ui.page("g.drawer.title", "/gallery/list") })
}

#[derive(Deserialize)]
struct TillQuery {
    #[serde(default)]
    state: String,
}

async fn till(ui: Ui, Query(query): Query<TillQuery>) -> View<Till> {
    let (state, word, icon) = match query.state.as_str() {
        "refused" => ("refused", "g.till.refused", "circle-x"),
        "asking" => ("asking", "g.till.asking", "refresh-cw"),
        "ready" => ("ready", "g.till.ready", "nfc"),
        _ => ("approved", "g.till.approved", "circle-check"),
    };
    View::new(Till {
        page: ui.page("g.menu.till", "/gallery/till"),
        state,
        word,
        icon,
        keys: ["7", "8", "9", "4", "5", "6", "1", "2", "3"],
    })
}

async fn slip(ui: Ui) -> View<Slip> {
    View::new(Slip { page: ui.page("g.menu.slip", "/gallery/slip") })
}

#[derive(Deserialize)]
struct SaveForm {
    #[serde(default)]
    amount: String,
}

async fn save(ui: Ui, axum::Form(form): axum::Form<SaveForm>) -> Response {
    let whole = form.amount.parse::<u32>().is_ok_and(|yuan| yuan <= 500);
    let error = if whole { "" } else { "g.form.amount.error" };
    let template = Form {
        page: ui.page("g.title", "/gallery"),
        amount: form.amount,
        error: if error.is_empty() { String::new() } else { ui.t(error).to_owned() },
    };
    if whole {
        let text = ui.t("g.form.saved").to_owned();
        View::new(template).toast(Tone::Ok, text).into_response()
    } else {
        View::invalid(template).into_response()
    }
}

async fn error(axum::extract::Path(kind): axum::extract::Path<String>) -> UiError {
    match kind.as_str() {
        "refused" => UiError::refused(&[Role::Admin, Role::Clerk]),
        "unavailable" => UiError::unavailable("sample", Saved::Nothing),
        "internal" => UiError::internal("sample", Saved::Unknown),
        "conflict" => UiError::Conflict("62••81".into()),
        _ => UiError::NotFound,
    }
}

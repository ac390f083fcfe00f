//! Headquarters' pages: server-rendered on the console kit, Chinese first with English.
//!
//! This file mounts them: which page exists, which roles reach it, what every page shares. Every act goes through the
//! desk, which audits it. Leaves to others: what an act does (`desk`), SQL (`store`), sign-in and layout (`yika_ui`).

mod accounts;
mod backups;
mod directory;
mod edges;
mod export;
mod import;
mod moving;
mod operators;
mod overview;
mod people;
mod person;
mod recovery;
mod refund;
mod registry;
mod shared;
mod slip;
mod tariff;
mod top_up;
mod transactions;
mod undo;
mod withdraw;

pub use directory::SignIns;
pub use import::UPLOAD_BYTES_MAX;
pub use shared::Me;

use crate::desk::Desk;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use directory::Operators;
use shared::Site;
use std::collections::BTreeMap;
use std::sync::Arc;
use yika_ui::auth::{Auth, AuthPolicy};
use yika_ui::{Console, Kit, MenuGroup, MenuItem, Role, Words, mount, require_roles};

/// Who reaches a page: these roles (everybody when empty), of headquarters alone or of every campus.
#[derive(Clone, Copy)]
struct Gate {
    roles: &'static [Role],
    headquarters: bool,
}

const ALL: Gate = Gate { roles: &[], headquarters: false };
/// May change the registry and operators.
const ADMIN: Gate = Gate { roles: &[Role::Admin], headquarters: false };
/// May change what holds on every campus.
const CHIEF: Gate = Gate { headquarters: true, ..ADMIN };
/// Card service.
const COUNTER: Gate = Gate { roles: &[Role::Admin, Role::Clerk], headquarters: false };
/// Card service of all campuses.
const COUNTERS: Gate = Gate { headquarters: true, ..COUNTER };
/// Takes money in.
const TILL: Gate = Gate { roles: &[Role::Admin, Role::Clerk, Role::Cashier], headquarters: false };
/// Checks what was done.
const AUDIT: Gate = Gate { roles: &[Role::Admin, Role::Auditor], headquarters: true };

/// A page with who reaches it.
type Row = (&'static str, Gate, MethodRouter<Arc<Site>>);

/// How the pages are served.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Browsers come by `https`: cookies carry `Secure`.
    pub tls: bool,
    /// Login policy.
    pub auth: AuthPolicy,
}

/// All words of the console in both languages.
///
/// # Errors
/// When a word file is broken.
pub fn words() -> Result<Words, yika_ui::lang::WordsError> {
    Words::kit()?
        .with(include_str!("../words/zh.words"), include_str!("../words/en.words"))?
        .with(include_str!("../words/audit.zh.words"), include_str!("../words/audit.en.words"))
}

/// The console over a desk; `sign_ins` counts what happens at the login page.
///
/// # Errors
/// When a word file is broken or the system gives no randomness.
pub fn router(desk: Desk, options: Options, sign_ins: SignIns) -> anyhow::Result<Router> {
    let mut kit = Kit::new("app.name", menu(), words()?);
    kit.free_only = table().into_iter().filter(|(_, gate, _)| gate.headquarters).map(|(path, ..)| path).collect();
    kit.node_name = desk.node.name.clone();
    kit.search_action = Some("/search");
    kit.tls = options.tls;
    kit.notice = recovery::notice(&desk);
    let auth = Auth::new(Operators::new(desk.clone(), sign_ins), options.auth)?;
    let console = Console::new(kit, auth);
    let site = Arc::new(Site::new(desk));
    tokio::spawn(overview::ring(Arc::downgrade(&site)));
    Ok(mount(pages().with_state(site), Router::new(), console))
}

/// Every page with who reaches it: what decides on requests, and what the menu shows.
fn table() -> Vec<Row> {
    [readers(), counter(), till(), admin(), chief()].into_iter().flatten().collect()
}

fn pages() -> Router<Arc<Site>> {
    table().into_iter().fold(Router::new(), |pages, (path, gate, methods)| {
        let mut page = Router::new().route(path, methods);
        if gate.headquarters {
            page = page.layer(from_fn(headquarters_only));
        }
        pages.merge(if gate.roles.is_empty() { page } else { require_roles(page, gate.roles) })
    })
}

async fn headquarters_only(me: Me, request: Request, next: Next) -> Response {
    match me.of_headquarters() {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

fn readers() -> Vec<Row> {
    vec![
        ("/", ALL, get(overview::page)),
        ("/search", ALL, get(people::search)),
        ("/edges", ALL, get(edges::list)),
        ("/edges/{node}", ALL, get(edges::detail)),
        ("/people", ALL, get(people::list)),
        ("/people/{person}", ALL, get(person::page)),
        ("/people/{person}/statement", ALL, get(accounts::statement)),
        ("/transactions", ALL, get(transactions::list)),
        ("/transactions/totals", ALL, get(transactions::totals)),
        ("/transactions/export/{form}", ALL, get(export::download)),
        ("/transactions/{writer}/{seq}", ALL, get(transactions::detail)),
        ("/terminals", ALL, get(registry::terminals)),
        ("/campuses", ALL, get(registry::campuses)),
        ("/tariff", ALL, get(tariff::page)),
        ("/tariff/current.toml", ALL, get(tariff::download)),
        ("/recovery", ALL, get(recovery::page)),
        ("/accounts", AUDIT, get(accounts::books)),
        ("/audit", AUDIT, get(operators::audit)),
    ]
}

fn counter() -> Vec<Row> {
    let upload = get(import::page).post(import::upload).layer(DefaultBodyLimit::max(UPLOAD_BYTES_MAX + 64 * 1024));
    let refund = "/transactions/{writer}/{seq}/refund";
    vec![
        ("/people/{person}/reveal", COUNTER, post(person::reveal)),
        ("/people/{person}/lost", COUNTER, get(person::ask_lost).post(person::report_lost)),
        ("/people/{person}/lift", COUNTER, get(person::ask_lift).post(person::lift)),
        ("/people/{person}/campus", COUNTERS, get(moving::form).post(moving::set)),
        ("/people/{person}/withdraw", COUNTER, get(withdraw::form).post(withdraw::check)),
        ("/people/{person}/withdraw/confirm", COUNTER, post(withdraw::confirm)),
        (refund, COUNTER, get(refund::form).post(refund::check)),
        ("/transactions/{writer}/{seq}/refund/confirm", COUNTER, post(refund::confirm)),
        ("/import", COUNTER, upload),
        ("/import/template.xlsx", COUNTER, get(import::template)),
        ("/import/{job}", COUNTER, get(import::job)),
        ("/import/{job}/state", COUNTER, get(import::state)),
        ("/import/{job}/apply", COUNTER, post(import::apply)),
        ("/import/{job}/errors.xlsx", COUNTER, get(import::errors)),
    ]
}

fn till() -> Vec<Row> {
    vec![
        ("/people/{person}/top-up", TILL, get(top_up::form).post(top_up::check)),
        ("/people/{person}/top-up/confirm", TILL, post(top_up::confirm)),
        ("/people/{person}/undo/{number}", TILL, get(undo::form).post(undo::undo)),
        ("/people/{person}/slip/{number}", TILL, get(slip::page)),
    ]
}

fn admin() -> Vec<Row> {
    let operator = "/operators/{operator}/password";
    vec![
        ("/edges/new", ADMIN, get(edges::ask_token).post(edges::make_token)),
        ("/edges/{node}/name", ADMIN, get(edges::ask_name).post(edges::rename)),
        ("/edges/{node}/fence", ADMIN, get(edges::ask_fence).post(edges::fence)),
        ("/edges/{node}/lift", ADMIN, get(edges::ask_lift).post(edges::lift)),
        ("/terminals/new", ADMIN, get(registry::new_terminal).post(registry::register_terminal)),
        ("/terminals/{terminal}/state", ADMIN, post(registry::set_terminal_state)),
        ("/campuses/edit", ADMIN, get(registry::edit_campus).post(registry::put_campus)),
        ("/operators", ADMIN, get(operators::list)),
        ("/operators/new", ADMIN, get(operators::new).post(operators::add)),
        ("/operators/{operator}/active", ADMIN, post(operators::set_active)),
        (operator, ADMIN, get(operators::ask_password).post(operators::reset)),
    ]
}

fn chief() -> Vec<Row> {
    vec![
        ("/tariff/upload", CHIEF, post(tariff::upload)),
        ("/backups", CHIEF, get(backups::page).post(backups::make)),
        ("/backups/verify", CHIEF, post(backups::verify)),
    ]
}

fn menu() -> Vec<MenuGroup> {
    let gates: BTreeMap<&str, Gate> = table().into_iter().map(|(path, gate, _)| (path, gate)).collect();
    let item = |href, label| MenuItem { href, label, roles: gates.get(href).map_or(&[], |gate| gate.roles) };
    let group = |label, icon, items| MenuGroup { label, icon, items };
    vec![
        group("menu.overview", "layout-dashboard", vec![item("/", "menu.today")]),
        group("menu.people", "users", vec![item("/people", "menu.people_all"), item("/import", "menu.import")]),
        group(
            "menu.money",
            "wallet",
            vec![
                item("/transactions", "menu.transactions"),
                item("/accounts", "menu.accounts"),
                item("/tariff", "menu.tariff"),
            ],
        ),
        group(
            "menu.sites",
            "network",
            vec![
                item("/edges", "menu.edges"),
                item("/terminals", "menu.terminals"),
                item("/campuses", "menu.campuses"),
            ],
        ),
        group(
            "menu.system",
            "settings",
            vec![
                item("/operators", "menu.operators"),
                item("/audit", "menu.audit"),
                item("/backups", "menu.backups"),
                item("/recovery", "menu.recovery"),
            ],
        ),
    ]
}

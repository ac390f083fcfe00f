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
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use directory::Operators;
use shared::Site;
use std::sync::Arc;
use yika_ui::auth::{Auth, AuthPolicy};
use yika_ui::{Console, Kit, MenuGroup, MenuItem, Role, Words, mount, require_roles};

/// May change the registry, operators and prices.
const ADMIN: &[Role] = &[Role::Admin];
/// Card service.
const COUNTER: &[Role] = &[Role::Admin, Role::Clerk];
/// Takes money in.
const TILL: &[Role] = &[Role::Admin, Role::Clerk, Role::Cashier];
/// Checks what was done.
const AUDIT: &[Role] = &[Role::Admin, Role::Auditor];

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

fn pages() -> Router<Arc<Site>> {
    Router::new()
        .route("/", get(overview::page))
        .route("/search", get(people::search))
        .route("/edges", get(edges::list))
        .route("/edges/{node}", get(edges::detail))
        .route("/people", get(people::list))
        .route("/people/{person}", get(person::page))
        .route("/people/{person}/statement", get(accounts::statement))
        .route("/transactions", get(transactions::list))
        .route("/transactions/totals", get(transactions::totals))
        .route("/transactions/export/{form}", get(export::download))
        .route("/transactions/{writer}/{seq}", get(transactions::detail))
        .route("/terminals", get(registry::terminals))
        .route("/campuses", get(registry::campuses))
        .route("/tariff", get(tariff::page))
        .route("/recovery", get(recovery::page))
        .route("/tariff/current.toml", get(tariff::download))
        .merge(require_roles(counter(), COUNTER))
        .merge(require_roles(till(), TILL))
        .merge(require_roles(audit(), AUDIT))
        .merge(require_roles(admin(), ADMIN))
}

fn counter() -> Router<Arc<Site>> {
    let uploads = Router::new()
        .route("/import", get(import::page).post(import::upload))
        .layer(DefaultBodyLimit::max(UPLOAD_BYTES_MAX + 64 * 1024));
    Router::new()
        .route("/people/{person}/reveal", post(person::reveal))
        .route("/people/{person}/lost", get(person::ask_lost).post(person::report_lost))
        .route("/people/{person}/lift", get(person::ask_lift).post(person::lift))
        .route("/people/{person}/withdraw", get(withdraw::form).post(withdraw::check))
        .route("/people/{person}/withdraw/confirm", post(withdraw::confirm))
        .route("/transactions/{writer}/{seq}/refund", get(refund::form).post(refund::check))
        .route("/transactions/{writer}/{seq}/refund/confirm", post(refund::confirm))
        .route("/import/template.xlsx", get(import::template))
        .route("/import/{job}", get(import::job))
        .route("/import/{job}/state", get(import::state))
        .route("/import/{job}/apply", post(import::apply))
        .route("/import/{job}/errors.xlsx", get(import::errors))
        .merge(uploads)
}

fn till() -> Router<Arc<Site>> {
    Router::new()
        .route("/people/{person}/top-up", get(top_up::form).post(top_up::check))
        .route("/people/{person}/top-up/confirm", post(top_up::confirm))
        .route("/people/{person}/undo/{number}", get(undo::form).post(undo::undo))
        .route("/people/{person}/slip/{number}", get(slip::page))
}

fn audit() -> Router<Arc<Site>> {
    Router::new().route("/accounts", get(accounts::books)).route("/audit", get(operators::audit))
}

fn admin() -> Router<Arc<Site>> {
    Router::new()
        .route("/edges/new", get(edges::ask_token).post(edges::make_token))
        .route("/edges/{node}/name", get(edges::ask_name).post(edges::rename))
        .route("/edges/{node}/fence", get(edges::ask_fence).post(edges::fence))
        .route("/edges/{node}/lift", get(edges::ask_lift).post(edges::lift))
        .route("/terminals/new", get(registry::new_terminal).post(registry::register_terminal))
        .route("/terminals/{terminal}/state", post(registry::set_terminal_state))
        .route("/campuses/edit", get(registry::edit_campus).post(registry::put_campus))
        .route("/tariff/upload", post(tariff::upload))
        .route("/operators", get(operators::list))
        .route("/backups", get(backups::page).post(backups::make))
        .route("/backups/verify", post(backups::verify))
        .route("/operators/new", get(operators::new).post(operators::add))
        .route("/operators/{operator}/active", post(operators::set_active))
        .route("/operators/{operator}/password", get(operators::ask_password).post(operators::reset))
}

fn menu() -> Vec<MenuGroup> {
    let item = |href, label, roles| MenuItem { href, label, roles };
    let group = |label, icon, items| MenuGroup { label, icon, items };
    vec![
        group("menu.overview", "layout-dashboard", vec![item("/", "menu.today", &[])]),
        group(
            "menu.people",
            "users",
            vec![item("/people", "menu.people_all", &[]), item("/import", "menu.import", COUNTER)],
        ),
        group(
            "menu.money",
            "wallet",
            vec![
                item("/transactions", "menu.transactions", &[]),
                item("/accounts", "menu.accounts", AUDIT),
                item("/tariff", "menu.tariff", &[]),
            ],
        ),
        group(
            "menu.sites",
            "network",
            vec![
                item("/edges", "menu.edges", &[]),
                item("/terminals", "menu.terminals", &[]),
                item("/campuses", "menu.campuses", &[]),
            ],
        ),
        group(
            "menu.system",
            "settings",
            vec![
                item("/operators", "menu.operators", ADMIN),
                item("/audit", "menu.audit", AUDIT),
                item("/backups", "menu.backups", ADMIN),
                item("/recovery", "menu.recovery", &[]),
            ],
        ),
    ]
}

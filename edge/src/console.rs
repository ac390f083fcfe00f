//! The edge's own pages: they work with the uplink cut.
//!
//! Server-rendered on the console kit (`yika-ui`); one module per screen. Leaves to others: what is decided
//! (`yika_crdt`), the listener and its TLS (`app`), the terminal interface (`terminals`).

mod cards;
mod config;
mod doors;
mod events;
mod find;
mod live;
mod operators;
mod outbox;
mod sales;
mod show;
mod status;
mod terminals;
mod till;

pub use config::{ConsoleConfig, Delivers, TillReader, WedgeReader};

use crate::doors::Doors;
use crate::node::EdgeNode;
use crate::status::Status;
use crate::terminals::Board;
use axum::Router;
use axum::response::Redirect;
use axum::routing::{get, post};
use operators::Operators;
use rust_embed::RustEmbed;
use std::path::PathBuf;
use std::sync::Arc;
use yika_crdt::ids::OperatorId;
use yika_crdt::store::{Read, StoreError};
use yika_ui::auth::{Auth, AuthPolicy};
use yika_ui::lang::WordsError;
use yika_ui::{
    AsOf, Console, CurrentOperator, Kit, MenuGroup, MenuItem, Page, Place, PlaceSource, Role, Saved, Ui, UiError,
    Words, assets, mount, require_roles,
};

/// Who sells.
const SELL: &[Role] = &[Role::Admin, Role::Cashier];
/// Who sees people, cards, and what goes on.
const SEE: &[Role] = &[Role::Admin, Role::Clerk, Role::Auditor];
/// Who blocks and lifts.
const SERVE: &[Role] = &[Role::Admin, Role::Clerk];
/// Who sees how the box runs.
const INSPECT: &[Role] = &[Role::Admin, Role::Auditor];
/// Who changes how the box runs.
const RUN: &[Role] = &[Role::Admin];

/// Civil time of a box that does not know its campus yet, minutes east of UTC.
const CHINA_OFFSET_MINUTES: i16 = 480;

/// Where the pages' own files are served.
const FILES_PREFIX: &str = "/assets/edge";

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Files;

/// What every screen works with.
#[derive(Clone)]
struct App(Arc<Shared>);

struct Shared {
    node: Arc<EdgeNode>,
    doors: Doors,
    board: Arc<Board>,
    config: ConsoleConfig,
    tills: till::Tills,
    live: live::Listeners,
}

impl App {
    fn node(&self) -> &EdgeNode {
        &self.0.node
    }

    /// Reads committed state off the runtime's own work.
    fn look<T>(&self, read: impl FnOnce(&dyn Read) -> Result<T, StoreError>) -> Result<T, UiError> {
        self.node().look(read).map_err(|e| UiError::unavailable(e, Saved::Nothing))
    }

    /// The box at a glance.
    fn status(&self) -> Status {
        tokio::task::block_in_place(|| crate::status::gather(self.node(), &self.0.doors, &self.0.board))
    }

    /// A page whose data are as of hub time, not of the wall clock.
    fn page(&self, ui: &Ui, title: &str, active: &str) -> Page {
        let (now_ms, trusted) = self.node().time();
        let mut page = ui.page(title, active);
        page.as_of = Some(AsOf { text: ui.clock_text(now_ms), stale: !trusted });
        page
    }
}

/// The console, sign-in included.
///
/// # Errors
/// When words are missing or the system gives no randomness.
pub fn router(node: Arc<EdgeNode>, doors: Doors) -> anyhow::Result<Router> {
    router_with(node, doors, Arc::default(), ConsoleConfig::default(), None)
}

/// The console with the terminals' states, its part of the configuration, and the file in which sessions outlive a restart.
///
/// # Errors
/// As [`router`], and when the configuration contradicts itself.
pub fn router_with(
    node: Arc<EdgeNode>,
    doors: Doors,
    board: Arc<Board>,
    config: ConsoleConfig,
    sessions_file: Option<PathBuf>,
) -> anyhow::Result<Router> {
    config.validate()?;
    let kit = kit(&node, &config)?;
    let policy = AuthPolicy { sessions_file, ..AuthPolicy::default() };
    let auth = Auth::new(Operators::new(Arc::clone(&node)), policy)?;
    let shared = Shared { node, doors, board, config, tills: till::Tills::default(), live: live::Listeners::default() };
    let app = App(Arc::new(shared));
    let mounted = mount(pages(app), Router::new(), Console::new(kit, auth));
    Ok(mounted.merge(yika_ui::files::<Files>(FILES_PREFIX)))
}

fn pages(app: App) -> Router {
    let home = Router::new().route("/", get(home));
    let see = Router::new()
        .route("/status", get(status::page))
        .route("/status/part", get(status::part))
        .route("/cards", get(cards::search))
        .route("/cards/people/{person}", get(cards::person))
        .route("/cards/numbers/{number}", get(cards::number))
        .route("/live", get(live::page))
        .route("/live/stream", get(live::stream));
    let serve = Router::new()
        .route("/cards/block", get(cards::ask_block).post(cards::block))
        .route("/cards/lift", get(cards::ask_lift).post(cards::lift))
        .route("/cards/refund/{terminal}/{boot}/{seq}", get(sales::ask).post(sales::give_back));
    let inspect = Router::new()
        .route("/doors", get(doors::page))
        .route("/doors/part", get(doors::part))
        .route("/terminals", get(terminals::page))
        .route("/outbox", get(outbox::page));
    let run = Router::new()
        .route("/status/clock", post(status::confirm_time))
        .route("/doors/{door}/open", get(doors::ask).post(doors::open));
    let sell = Router::new()
        .route("/till", get(till::page))
        .route("/till/on", post(till::sign_on))
        .route("/till/off", post(till::sign_off))
        .route("/till/state", get(till::state))
        .route("/till/sale", post(till::sale))
        .route("/till/correct", post(till::correct))
        .route("/till/cancel", post(till::cancel))
        .route("/till/receipt/{terminal}/{boot}/{seq}", get(till::receipt::page))
        .route("/till/shifts/{terminal}/{boot}", get(till::slip));
    let of = |routes: Router<App>, roles| require_roles(routes.with_state(app.clone()), roles);
    home.merge(of(see, SEE))
        .merge(of(serve, SERVE))
        .merge(of(inspect, INSPECT))
        .merge(of(run, RUN))
        .merge(of(sell, SELL))
}

/// Cashiers have one page; everybody else begins with the state of the box.
async fn home(me: CurrentOperator) -> Redirect {
    Redirect::to(if me.role == Role::Cashier { "/till" } else { "/status" })
}

fn kit(node: &Arc<EdgeNode>, config: &ConsoleConfig) -> anyhow::Result<Kit> {
    let mut kit = Kit::new("edge.name", menu(), words()?);
    let node = Arc::clone(node);
    kit.place = PlaceSource::new(move || place(&node));
    kit.tls = config.tls;
    kit.search_action = Some("/cards");
    kit.search_hint = "cards.search";
    kit.search_roles = SEE;
    kit.styles = vec![file("edge.css")];
    kit.passwords_elsewhere = Some("edge.passwords");
    kit.sign_in_hint = Some("edge.sign_in_hint");
    Ok(kit)
}

/// How the registry calls this box and its campus, and the campus's civil time: a fresh box learns them while it runs.
fn place(node: &EdgeNode) -> Place {
    let registry = node.registry();
    let known =
        registry.nodes.iter().filter(|(w, _)| w.node == node.place().node).map(|(_, record)| &record.name).last();
    let name = known.cloned().unwrap_or_else(|| node.place().node.to_string());
    match node.place().campus.and_then(|campus| registry.campuses.get(&campus)) {
        Some(campus) => {
            Place { node_name: format!("{} · {name}", campus.name), utc_offset_minutes: campus.utc_offset_minutes }
        }
        None => Place { node_name: name, utc_offset_minutes: CHINA_OFFSET_MINUTES },
    }
}

/// Words of the kit and of these pages.
///
/// # Errors
/// When a file is broken.
pub fn words() -> Result<Words, WordsError> {
    Words::kit()?.with(include_str!("../words/zh.words"), include_str!("../words/en.words"))
}

fn menu() -> Vec<MenuGroup> {
    let group = |label, icon, items| MenuGroup { label, icon, items };
    let item = |href, label, roles| MenuItem { href, label, roles };
    vec![
        group(
            "menu.overview",
            "layout-dashboard",
            vec![item("/status", "status.title", SEE), item("/live", "live.title", SEE)],
        ),
        group("menu.cards", "credit-card", vec![item("/cards", "cards.title", SEE)]),
        group("menu.canteen", "utensils", vec![item("/till", "till.title", SELL)]),
        group("menu.doors", "door-closed", vec![item("/doors", "doors.title", INSPECT)]),
        group(
            "menu.box",
            "server",
            vec![item("/terminals", "terminals.title", INSPECT), item("/outbox", "outbox.title", INSPECT)],
        ),
    ]
}

/// URL of a file of these pages.
pub(crate) fn file(path: &str) -> String {
    assets::url_of::<Files>(FILES_PREFIX, path)
}

/// The operator's number, as journals name it.
fn operator_id(me: &CurrentOperator) -> Result<OperatorId, UiError> {
    me.id.parse().map_err(|e| UiError::internal(e, Saved::Nothing))
}

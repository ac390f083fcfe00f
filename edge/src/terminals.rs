//! The published terminal interface: HTTP/JSON, signed by request and answer (design section 8).
//!
//! A request is admitted by [`gate`] (key, signature, standing, clock, replay), waits for one of
//! [`REQUESTS_AT_ONCE_MAX`] places, is obeyed, and its answer is signed with the terminal's key. Messages and signatures
//! are those of `yika_drivers::terminal`. Leaves to others: decisions (`node`), doors (`doors`), the listening socket.

mod board;
mod document;
mod gate;
mod http;
mod lists;
mod names;
mod nonces;
mod page;
mod refusal;
mod route;
mod sell;
mod tell;
mod totals;

pub use board::{Board, HEARTBEAT_EVERY_S, LATE_S_MAX, ONLINE_S_MAX, Presence, Status};
pub use document::openapi;
pub use gate::{CLOCK_AHEAD_MS_MAX, CLOCK_BEHIND_MS_MAX};
pub use http::BODY_WAIT_MS_MAX;
pub use nonces::NONCES_PER_TERMINAL_MAX;
pub use refusal::{Code, Refusal};
pub use route::{Route, SMALL_BODY_LEN_BYTES_MAX};

use crate::doors::Doors;
use crate::node::EdgeNode;
use axum::Router;
use gate::Gate;
use lists::Lists;
use names::Names;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Admitted requests that are served at once; further ones wait on their connections, nothing is dropped.
pub const REQUESTS_AT_ONCE_MAX: usize = 256;
/// Of those, batches, lists and totals: so that an upload does not hold up a queue of people.
pub const HEAVY_AT_ONCE_MAX: usize = 4;

/// The running interface.
pub struct Terminals {
    node: Arc<EdgeNode>,
    doors: Doors,
    gate: Gate,
    lists: Lists,
    names: Names,
    board: Arc<Board>,
    places: Semaphore,
    heavy_places: Semaphore,
}

impl Terminals {
    /// Starts it inside a tokio runtime; lists and keys are kept up to date as long as it lives.
    pub fn start(node: Arc<EdgeNode>, doors: Doors) -> Arc<Terminals> {
        let now_ms = node.time().0;
        let terminals = Arc::new(Terminals {
            gate: Gate::new(now_ms),
            lists: Lists::new(now_ms),
            names: Names::default(),
            node,
            doors,
            board: Arc::default(),
            places: Semaphore::new(REQUESTS_AT_ONCE_MAX),
            heavy_places: Semaphore::new(HEAVY_AT_ONCE_MAX),
        });
        gate::watch_keys(&terminals);
        lists::watch_people(&terminals);
        terminals
    }

    /// The routes under `/terminal/v1`, and the page and document that describe them.
    pub fn router(self: &Arc<Self>) -> Router {
        http::router(Arc::clone(self))
    }

    /// How each terminal stands.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }
}

/// The routes under `/terminal/v1`, for whom the board is of no interest.
pub fn router(node: Arc<EdgeNode>, doors: Doors) -> Router {
    Terminals::start(node, doors).router()
}

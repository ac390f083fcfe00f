//! The edge's own pages: they work with the uplink cut.

use crate::doors::Doors;
use crate::node::EdgeNode;
use axum::Router;
use std::sync::Arc;

/// The console, sign-in included.
///
/// # Errors
/// When words are missing or the system gives no randomness.
pub fn router(_node: Arc<EdgeNode>, _doors: Doors) -> anyhow::Result<Router> {
    Ok(Router::new())
}

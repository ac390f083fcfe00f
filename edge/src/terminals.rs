//! The published terminal interface: HTTP/JSON, signed by request and answer (design section 8).

use crate::doors::Doors;
use crate::node::EdgeNode;
use axum::Router;
use std::sync::Arc;

/// The routes under `/terminal/v1`, and the page that describes them.
pub fn router(_node: Arc<EdgeNode>, _doors: Doors) -> Router {
    Router::new()
}

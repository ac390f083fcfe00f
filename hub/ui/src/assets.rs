//! Static files of the kit, embedded in the binary and served under URLs that carry their content hash.
//!
//! Products embed their own files with the same functions ([`router_of`], [`url_of`]).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::RustEmbed;

/// How long a browser may keep a file whose URL names its content.
const CACHE_IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Number of hexadecimal digits of the SHA-256 that stand in a URL.
const HASH_DIGITS: usize = 12;

/// Path below which the kit's own files are served.
pub const KIT_PREFIX: &str = "/assets/kit";

/// The kit's files.
#[derive(RustEmbed)]
#[folder = "assets/"]
pub struct KitAssets;

/// Serves the kit's files below [`KIT_PREFIX`].
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    router_of::<KitAssets, S>(KIT_PREFIX)
}

/// URL of a kit file, for example `url("app.css")`.
pub fn url(path: &str) -> String {
    static URLS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
        KitAssets::iter().map(|path| (path.to_string(), url_of::<KitAssets>(KIT_PREFIX, &path))).collect()
    });
    if cfg!(debug_assertions) {
        // Debug builds read from disk, so that a change of style shows after a reload.
        return url_of::<KitAssets>(KIT_PREFIX, path);
    }
    URLS.get(path).cloned().unwrap_or_else(|| format!("{KIT_PREFIX}/missing/{path}"))
}

/// Serves a product's embedded files below `prefix` (no trailing slash).
pub fn router_of<E: RustEmbed + 'static, S: Clone + Send + Sync + 'static>(prefix: &str) -> Router<S> {
    Router::new().route(&format!("{prefix}/{{hash}}/{{*path}}"), get(serve::<E>))
}

/// URL of a product's embedded file. A file that does not exist gives a URL that answers 404.
pub fn url_of<E: RustEmbed>(prefix: &str, path: &str) -> String {
    match E::get(path) {
        Some(file) => format!("{prefix}/{}/{path}", digest(&file)),
        None => format!("{prefix}/missing/{path}"),
    }
}

async fn serve<E: RustEmbed>(Path((hash, path)): Path<(String, String)>) -> Response {
    let Some(file) = E::get(&path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // An old URL must not be answered with new content that a cache then keeps for a year.
    if digest(&file) != hash {
        return StatusCode::NOT_FOUND.into_response();
    }
    ([(header::CONTENT_TYPE, content_type(&path)), (header::CACHE_CONTROL, CACHE_IMMUTABLE)], file.data.into_owned())
        .into_response()
}

fn digest(file: &rust_embed::EmbeddedFile) -> String {
    hex::encode(file.metadata.sha256_hash())[..HASH_DIGITS].to_owned()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("wav") => "audio/wav",
        Some("txt") => "text/plain; charset=utf-8",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

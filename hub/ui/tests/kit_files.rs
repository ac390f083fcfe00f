//! The kit's files: vendored ones are what the manifest says, sizes keep the budget, templates use only
//! words and classes that exist.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use sha2::{Digest, Sha256};
use tower::ServiceExt;
use tower_http::compression::CompressionLayer;
use yika_ui::{Words, assets, gallery};

const CSS_GZIP_BYTES_MAX: usize = 20 * 1024;
const JS_GZIP_BYTES_MAX: usize = 25 * 1024;

fn kit(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files_below(&path));
        } else {
            out.push(path);
        }
    }
    out.sort();
    out
}

/// Entries of the manifest as key → value; the file uses only `[[file]]` and quoted strings.
fn manifest() -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(kit("assets/VENDORED.toml")).unwrap();
    let mut entries: Vec<BTreeMap<String, String>> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line == "[[file]]" {
            entries.push(BTreeMap::new());
        } else if let Some((key, value)) = line.split_once(" = ") {
            let value = value.trim_matches('"').to_owned();
            entries.last_mut().unwrap().insert(key.to_owned(), value);
        }
    }
    entries
}

#[test]
fn vendored_files_are_what_the_manifest_says() {
    let entries = manifest();
    assert!(entries.len() >= 4);
    for entry in &entries {
        for key in ["path", "name", "version", "licence", "source", "sha256"] {
            assert!(entry.contains_key(key), "{entry:?} lacks {key}");
        }
        let bytes = fs::read(kit("assets").join(&entry["path"])).unwrap();
        let digest = hex::encode(Sha256::digest(&bytes));
        assert_eq!(digest, entry["sha256"], "{}", entry["path"]);
    }
    let listed: BTreeSet<PathBuf> = entries.iter().map(|e| kit("assets").join(&e["path"])).collect();
    for file in files_below(&kit("assets/vendor")) {
        assert!(listed.contains(&file), "{} is not in VENDORED.toml", file.display());
    }
}

async fn gzip_bytes(path: &str) -> usize {
    let app: Router = assets::router().layer(CompressionLayer::new());
    let request = Request::get(assets::url(path)).header("accept-encoding", "gzip");
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip", "{path}");
    axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().len()
}

#[tokio::test]
async fn transferred_sizes_keep_the_budget() {
    let css = gzip_bytes("app.css").await;
    assert!(css <= CSS_GZIP_BYTES_MAX, "CSS is {css} bytes");
    let js = gzip_bytes("app.js").await + gzip_bytes("vendor/htmx-4.0.1.min.js").await;
    assert!(js <= JS_GZIP_BYTES_MAX, "JS is {js} bytes");
}

#[test]
fn words_used_in_templates_and_code_exist_and_are_complete() {
    let words = Words::kit().unwrap().with(gallery::WORDS[0], gallery::WORDS[1]).unwrap();
    assert_eq!(words.gaps(), Vec::<String>::new());
    let mut used = 0;
    for file in files_below(&kit("templates")) {
        let text = fs::read_to_string(&file).unwrap();
        for call in ["page.t(\"", "page.t1(\"", "page.t_args(\""] {
            for part in text.split(call).skip(1) {
                let key = part.split('"').next().unwrap();
                assert!(words.has(key), "{} uses the missing key {key}", file.display());
                used += 1;
            }
        }
    }
    assert!(used > 100, "the search found only {used} keys");
    let prefixes = ["\"auth.", "\"password.", "\"error.", "\"saved.", "\"role.", "\"g."];
    for file in files_below(&kit("src")) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for prefix in prefixes {
            for part in text.split(prefix).skip(1) {
                let key = format!("{}{}", &prefix[1..], part.split('"').next().unwrap());
                assert!(key.contains('{') || words.has(&key), "{} uses the missing key {key}", file.display());
            }
        }
    }
}

#[test]
fn classes_used_in_templates_are_styled() {
    let css = fs::read_to_string(kit("assets/app.css")).unwrap();
    // Hooks and neutral states without a rule of their own.
    let plain = ["frame", "is-plain", "is-info", "long"];
    let mut checked = 0;
    for file in files_below(&kit("templates")) {
        let text = without_tags(&fs::read_to_string(&file).unwrap());
        for part in text.split("class=\"").skip(1) {
            let value = part.split('"').next().unwrap();
            for class in value.split_whitespace() {
                if plain.contains(&class) || class.ends_with('-') {
                    continue;
                }
                checked += 1;
                let rule = format!(".{class}");
                assert!(css.contains(&rule), "{}: {rule} has no style", file.display());
            }
        }
    }
    assert!(checked > 300, "the search found only {checked} classes");
}

#[test]
fn the_two_dark_themes_are_the_same() {
    let css = fs::read_to_string(kit("assets/app.css")).unwrap();
    let block = |selector: &str| {
        let (_, rest) = css.split_once(selector).unwrap();
        rest.split_once('}').unwrap().0.to_owned()
    };
    let dark = block(":root[data-theme=\"dark\"] {");
    assert!(dark.contains("color-scheme: dark"));
    assert_eq!(dark, block(":root[data-theme=\"auto\"] {"));
}

/// A template with a space for each `{% … %}` and a hyphen for each `{{ … }}`.
fn without_tags(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(open) = rest.find("{%").into_iter().chain(rest.find("{{")).min() {
        let is_block = rest[open..].starts_with("{%");
        let close = if is_block { "%}" } else { "}}" };
        out.push_str(&rest[..open]);
        out.push(if is_block { ' ' } else { '-' });
        let Some(end) = rest[open..].find(close) else {
            return out;
        };
        rest = &rest[open + end + 2..];
    }
    out + rest
}

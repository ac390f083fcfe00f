//! Invariants 1 and 2 and the licences, read off the dependency graph: what may stand where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Licences that an Apache-2.0 product may ship; a crate offers one of them.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "MIT-0",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "MPL-2.0",
];

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let output = Command::new(cargo).args(["metadata", "--format-version", "1", "--locked"]).current_dir(root).output();
    let output = output.expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Names of all crates that a crate of ours is built with, tests of its own left out.
fn tree_of(metadata: &Value, root: &str) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeMap<&str, &str> =
        packages.iter().map(|p| (p["id"].as_str().unwrap(), p["name"].as_str().unwrap())).collect();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let edges: BTreeMap<&str, &Value> = nodes.iter().map(|n| (n["id"].as_str().unwrap(), n)).collect();
    let start = *names.iter().find(|(_, name)| **name == root).expect("the crate is in the workspace").0;
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![start]);
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dep in edges[id]["deps"].as_array().unwrap() {
            let kinds = dep["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|k| k["kind"].is_null()) {
                waiting.push(dep["pkg"].as_str().unwrap());
            }
        }
    }
    seen.into_iter().map(|id| names[id].to_owned()).collect()
}

#[test]
fn invariant_1_the_core_names_no_runtime_socket_database_or_x509() {
    let tree = tree_of(&metadata(), "yika-crdt");
    for banned in ["tokio", "quinn", "rusqlite", "libsqlite3-sys", "rustls", "rcgen", "x509-parser", "axum", "hyper"] {
        assert!(!tree.contains(banned), "yika-crdt is built with {banned}");
    }
    assert!(tree.contains("automerge"), "the tree was not read: automerge is part of the core");
}

#[test]
fn invariant_2_only_the_link_names_quinn_and_only_the_store_names_sqlite() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap().iter().filter(|p| p["source"].is_null()) {
        let name = package["name"].as_str().unwrap();
        let direct = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
        let direct: BTreeSet<_> = direct.filter_map(|d| d["name"].as_str()).collect();
        let test_crate = name == "yika-tests" || name == "yika-powercut";
        assert!(!direct.contains("quinn") || name == "yika-link" || test_crate, "{name} names quinn");
        let may_sql = name == "yika-store" || name == "yika-hub" || test_crate;
        assert!(!direct.contains("rusqlite") || may_sql, "{name} names rusqlite");
    }
}

#[test]
fn every_dependency_has_a_licence_we_may_ship() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let text = package["license"].as_str().unwrap_or_else(|| panic!("{name} names no licence"));
        let offered = text.replace(['(', ')'], " ").replace('/', " OR ").replace(" AND ", " OR ");
        let offers = offered.split(" OR ").map(|l| l.trim().split(" WITH ").next().unwrap_or_default().to_owned());
        let offers: Vec<String> = offers.collect();
        assert!(offers.iter().any(|l| LICENCES.contains(&l.as_str())), "{name}: {text}");
    }
}

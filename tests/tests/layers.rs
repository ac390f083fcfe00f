//! Invariants 1 and 2 and the licences, read off the dependency graph and the sources: what may stand where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
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

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Folders of the product's sources, and in them those that may speak SQL.
const PRODUCT: &[&str] = &[
    "crdt/src",
    "drivers/src",
    "edge/src",
    "edge/link/src",
    "edge/store/src",
    "hub/src",
    "hub/core/src",
    "hub/ui/src",
];
const STORES: &[&str] = &["edge/store/src", "hub/src/store"];

/// Sources outside a store that name the type of an open database: they hand the writer's or a reader's connection, or the
/// one of a database being restored, to a function of the store, and speak no SQL themselves.
const HAND_ON: &[&str] =
    &["hub/src/backup/log/replay.rs", "hub/src/backup/mod.rs", "hub/src/machine.rs", "hub/src/node.rs"];

/// What SQL looks like in our sources, and calls that run it: a connection needs no name where it is an argument.
const SQL: &[&str] = &[
    "SELECT ",
    "INSERT INTO",
    "INSERT OR",
    "DELETE FROM",
    "CREATE TABLE",
    "PRAGMA ",
    "VACUUM",
    ".prepare(",
    ".prepare_cached(",
    ".execute_batch(",
    ".query_row(",
    ".query_map(",
    ".pragma_",
];

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo).args(["metadata", "--format-version", "1", "--locked"]).current_dir(ROOT).output();
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

/// What the sources of a crate of ours may name, tests of its own left out.
fn direct_of<'m>(metadata: &'m Value, name: &str) -> BTreeSet<&'m str> {
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|p| p["name"] == name).expect("the crate is in the workspace");
    let direct = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
    direct.filter_map(|d| d["name"].as_str()).collect()
}

#[test]
fn invariant_1_the_core_names_no_runtime_socket_database_or_x509() {
    let metadata = metadata();
    for core in ["yika-crdt", "yika-hub-core"] {
        let tree = tree_of(&metadata, core);
        for banned in
            ["tokio", "quinn", "rusqlite", "libsqlite3-sys", "rustls", "rcgen", "x509-parser", "axum", "hyper"]
        {
            assert!(!tree.contains(banned), "{core} is built with {banned}");
        }
        assert!(tree.contains("automerge"), "the tree was not read: automerge is part of the core");
    }
    // Its own sources reach only for these: what automerge is built with has clocks and randomness.
    let pure = ["automerge", "ed25519-dalek", "foldhash", "hashbrown", "postcard", "rust_decimal", "serde", "sha2"];
    let pure = BTreeSet::from_iter(pure.into_iter().chain(["thiserror", "time", "yika-crdt"]));
    for core in ["yika-crdt", "yika-hub-core"] {
        let direct = direct_of(&metadata, core);
        assert!(direct.contains("serde") && direct.is_subset(&pure), "{core} reaches for {direct:?}");
    }
}

#[test]
fn invariant_2_only_the_link_names_quinn_and_only_the_store_names_sqlite() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap().iter().filter(|p| p["source"].is_null()) {
        let name = package["name"].as_str().unwrap();
        let direct = direct_of(&metadata, name);
        let test_crate = name == "yika-tests" || name == "yika-powercut";
        assert!(!direct.contains("quinn") || name == "yika-link" || test_crate, "{name} names quinn");
        let may_sql = name == "yika-store" || name == "yika-hub" || test_crate;
        assert!(!direct.contains("rusqlite") || may_sql, "{name} names rusqlite");
    }
}

/// Every Rust source below a folder, by its path from the root.
fn sources(folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let path = entry.strip_prefix(ROOT).unwrap().to_string_lossy().into_owned();
            found.insert(path, std::fs::read_to_string(&entry).unwrap());
        }
    }
}

/// The graph does not show it: the store hands its database library on to who stands on it.
#[test]
fn invariant_2_only_the_store_speaks_sql() {
    let mut found = BTreeMap::new();
    PRODUCT.iter().for_each(|folder| sources(&PathBuf::from(ROOT).join(folder), &mut found));
    let (stores, others): (Vec<_>, Vec<_>) =
        found.iter().partition(|(path, _)| STORES.iter().any(|store| path.starts_with(&format!("{store}/"))));
    let code = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
    };
    for store in STORES {
        let speaks = |(path, text): &&(&String, &String)| path.starts_with(store) && text.contains("rusqlite");
        assert!(stores.iter().any(|source| speaks(&source)), "{store} was not read");
    }
    let mut naming = BTreeSet::new();
    for (path, text) in others {
        for line in code(text) {
            assert!(!SQL.iter().any(|word| line.contains(word)), "{path} speaks SQL: {line}");
            if line.contains("rusqlite") {
                naming.insert(path.as_str());
            }
        }
    }
    assert_eq!(naming, HAND_ON.iter().copied().collect(), "who names the database library");
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

//! The product's rows: what the README says works is named by at least one test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const SOURCES: [&str; 5] = ["crdt", "drivers", "edge", "hub", "tests"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// `ORG-3, 4, POS-5` with the letters carried on; an en dash joins a range.
fn ids(text: &str) -> BTreeSet<String> {
    let (mut found, mut letters) = (BTreeSet::new(), String::new());
    for word in text.split([',', '、', ' ', '.']).filter(|word| !word.is_empty()) {
        let numbers = match word.split_once('-') {
            Some((head, rest)) if head.len() == 3 && head.chars().all(|c| c.is_ascii_uppercase()) => {
                letters = head.to_owned();
                rest
            }
            _ => word,
        };
        let (first, last) = numbers.split_once('–').unwrap_or((numbers, numbers));
        if let (Ok(first), Ok(last), false) = (first.parse::<u32>(), last.parse::<u32>(), letters.is_empty()) {
            found.extend((first..=last).map(|n| format!("{letters}-{n}")));
        }
    }
    found
}

/// Rows in the second column of the status table.
fn promised(readme: &str) -> BTreeSet<String> {
    let lines = readme.lines().filter(|line| line.starts_with('|'));
    lines.filter_map(|line| line.split('|').nth(2)).flat_map(ids).collect()
}

/// Rows named above tests: a line `/// Rows …` with a test's attribute below it.
fn named(source: &str) -> BTreeSet<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let rows = |at: usize| lines[at].strip_prefix("/// Rows ").filter(|_| is_above_a_test(&lines[at + 1..]));
    (0..lines.len()).filter_map(rows).flat_map(ids).collect()
}

fn is_above_a_test(below: &[&str]) -> bool {
    let mut head = below.iter().take_while(|line| line.starts_with("///") || line.starts_with("#["));
    head.any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_row_of_the_readme_is_named_by_a_test() {
    let mut files = Vec::new();
    SOURCES.iter().for_each(|folder| sources(&root().join(folder), &mut files));
    let tested: BTreeSet<String> =
        files.iter().flat_map(|file| named(&std::fs::read_to_string(file).unwrap())).collect();
    for readme in ["README.md", "README.en.md"] {
        let promised = promised(&std::fs::read_to_string(root().join(readme)).unwrap());
        assert!(promised.len() > 40, "{readme}: the table was not found: {promised:?}");
        let missing: Vec<_> = promised.difference(&tested).collect();
        assert!(missing.is_empty(), "{readme} names rows that no test names: {missing:?}");
    }
}

#[test]
fn rows_are_read_as_people_write_them() {
    let read = |text: &str| ids(text).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(read("ORG-3, 4, POS-13–15"), "ORG-3 ORG-4 POS-13 POS-14 POS-15");
    assert_eq!(read("TRM-1、3"), "TRM-1 TRM-3");
    assert_eq!(read(" – "), "");
    assert_eq!(named("/// Rows ACS-1.\n#[test]\nfn a() {}\n/// Rows ACS-2.\nfn no_test() {}\n").len(), 1);
}

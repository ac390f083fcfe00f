//! How long the server takes for a page with many people and sales:
//! `cargo run --release -p yika-hub --example console_bench -- [PEOPLE] [SALES]` prints a table, with `--json` one object.
//!
//! A site filled in the ordinary way, then profiles and sales of a year as rows: measured is reading and rendering.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // an example may panic and print

#[path = "../tests/site/browser.rs"]
mod browser;
#[path = "../tests/site/mod.rs"]
mod site;

use browser::Browser;
use std::path::Path;
use std::time::Instant;
use yika_hub::clock::wall_ms;

const ROUNDS: usize = 30;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|a| a == "--json");
    let mut numbers = arguments.iter().filter_map(|a| a.parse::<u64>().ok());
    let (people, sales) = (numbers.next().unwrap_or(100_000), numbers.next().unwrap_or(1_000_000));
    let dir = tempfile::tempdir().unwrap();
    let mut site = site::filled(dir.path(), 150).await;
    enter(dir.path(), people);
    sell(dir.path(), sales);
    site.load_holders().await;
    let holder = site.holders[7].clone();
    let mut browser = Browser::signed_in(&browser::app(&site.desk), "chief").await;
    let year = "from=2020-01-01&to=2099-12-31";
    let paths = [
        ("overview", "/".to_owned()),
        ("edges", "/edges".into()),
        ("people, first page", "/people".into()),
        ("people, page 2,500", "/people?page=2500".into()),
        ("people, by name", "/people?q=%E7%8E%8B".into()),
        ("people, by pinyin", "/people?q=ouyang".into()),
        ("people, part of a name", "/people?q=%E8%8A%B3%E9%9D%99".into()),
        ("person", format!("/people/{}", holder.person)),
        ("statement", format!("/people/{}/statement", holder.person)),
        ("transactions, today", "/transactions".into()),
        ("transactions, all time", format!("/transactions?{year}")),
        ("transactions, one card", format!("/transactions?{year}&who={}", holder.card)),
        ("transactions, refusals", format!("/transactions?{year}&kind=refusal")),
        ("books", "/accounts".into()),
    ];
    let mut table = Vec::new();
    for (name, path) in paths {
        let mut times_us: Vec<u128> = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let answer = browser.get(&path).await;
            times_us.push(begun.elapsed().as_micros());
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        }
        times_us.sort_unstable();
        let at = |part: usize| times_us[(ROUNDS - 1) * part / 100] as f64 / 1000.0;
        eprintln!("{name}: {:.1}", at(50));
        table.push((name, at(50), at(95), at(100)));
    }
    if json {
        let rows: serde_json::Map<String, serde_json::Value> = table
            .iter()
            .map(|(name, p50, p95, most)| {
                ((*name).to_owned(), serde_json::json!({ "p50_ms": p50, "p95_ms": p95, "most_ms": most }))
            })
            .collect();
        println!("{}", serde_json::Value::Object(rows));
        return;
    }
    println!(
        "{people} people, {sales} sales; milliseconds a page\n{:<26}{:>9}{:>9}{:>9}",
        "page", "p50", "p95", "most"
    );
    for (name, p50, p95, most) in table {
        println!("{name:<26}{p50:>9.1}{p95:>9.1}{most:>9.1}");
    }
}

/// Profiles of more people under other numbers, names as invented: their lists and searches are measured, not their
/// import.
fn enter(dir: &Path, people: u64) {
    let records = yika_hub::import::demo_records(11, &["1", "2"], people as usize / 2);
    let mut conn = rusqlite::Connection::open(dir.join("hub.db")).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let tx = conn.transaction().unwrap();
    let sql = "INSERT INTO profiles SELECT ?1, ?2, id_type, id_sealed, contact_sealed, ?3, ?4, sex, '', '', department,
         department_code, ?5, category, ?6, ?7, '', '', 0 FROM profiles WHERE person = (SELECT min(person) FROM profiles)";
    for (at, record) in records.iter().enumerate() {
        let (number, campus) = (1_000_000 + at as i64, record.campus.parse::<u16>().unwrap());
        let hash = format!("{number:016}").into_bytes();
        let card = 50_000_000 + at as i64;
        let values = rusqlite::params![number, hash, record.name, record.pinyin, record.staff_number, campus, card];
        tx.prepare_cached(sql).unwrap().execute(values).unwrap();
        word(&tx, 0, &record.name, number);
        word(&tx, 0, &record.pinyin.replace(' ', ""), number);
        word(&tx, 0, &record.staff_number, number);
        record.name.char_indices().skip(1).for_each(|(at, _)| word(&tx, 1, &record.name[at..], number));
    }
    tx.commit().unwrap();
}

/// What somebody is found by.
fn word(tx: &rusqlite::Transaction<'_>, inner: u8, word: &str, person: i64) {
    let sql = "INSERT OR IGNORE INTO people_words SELECT ?1, ?2, person, campus, staff_number FROM profiles WHERE person = ?3";
    tx.prepare_cached(sql).unwrap().execute(rusqlite::params![inner, word, person]).unwrap();
}

/// Sales spread over a year, one person after the other.
fn sell(dir: &Path, sales: u64) {
    let conn = rusqlite::Connection::open(dir.join("hub.db")).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let year_ms = 365i64 * 86_400_000;
    let step = year_ms / sales.max(1) as i64;
    let begun = Instant::now();
    conn.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1),
              p AS MATERIALIZED (SELECT row_number() OVER () - 1 AS at, person, card FROM profiles)
         INSERT INTO sales SELECT 1, 1, 1, 1000000 + i, ?2 - (?1 - i) * ?3, ?2 - (?1 - i) * ?3 + 5, 20000, 1 + i % 2, 9, i,
             p.card, p.person, 1, 1, 1, 'fixed', 1 + i % 3, 1000, 0, 1000, 4000, 0, 'main:1000', NULL, NULL
         FROM n JOIN p ON p.at = n.i % (SELECT count(*) FROM profiles)",
        rusqlite::params![sales as i64, wall_ms() - 1_000, step],
    )
    .unwrap();
    eprintln!("{sales} sales written in {:.1} s", begun.elapsed().as_secs_f64());
}

//! Pages of headquarters' console with 100,000 people and the sales of a year: what the server takes to read and render.
//!
//! A site filled in the ordinary way, then profiles and sales as rows: their lists are measured, not their making.

use crate::browser::{self, Browser};
use crate::site;
use crate::size::Size;
use crate::table::{Row, Times, nanos};
use anyhow::Result;
use std::path::Path;
use std::time::{Duration, Instant};
use yika_hub::clock::wall_ms;

const PEOPLE: Size<usize> = Size(100_000, 1_000);
const SALES: Size<i64> = Size(1_000_000, 2_000);
const ROUNDS: Size<usize> = Size(30, 2);
const BUSY: Duration = Duration::from_secs(10);
const YEAR_MS: i64 = 365 * 86_400_000;
const YEAR: &str = "from=2020-01-01&to=2099-12-31";

pub async fn rows() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let mut site = site::filled(dir.path(), 150).await;
    enter(dir.path())?;
    sell(dir.path())?;
    site.load_holders().await;
    let holder = site.holders[7].clone();
    let mut browser = Browser::signed_in(&browser::app(&site.desk), "chief").await;
    let pages = [
        ("overview", "/".to_owned()),
        ("edges", "/edges".to_owned()),
        ("people, first page", "/people".to_owned()),
        ("people, page 2,500", "/people?page=2500".to_owned()),
        ("people, by name", "/people?q=%E7%8E%8B".to_owned()),
        ("people, by pinyin", "/people?q=ouyang".to_owned()),
        ("people, part of a name", "/people?q=%E8%8A%B3%E9%9D%99".to_owned()),
        ("person", format!("/people/{}", holder.person)),
        ("statement", format!("/people/{}/statement", holder.person)),
        ("transactions, today", "/transactions".to_owned()),
        ("transactions, all time", format!("/transactions?{YEAR}")),
        ("transactions, one card", format!("/transactions?{YEAR}&who={}", holder.card)),
        ("transactions, refusals", format!("/transactions?{YEAR}&kind=refusal")),
        ("books", "/accounts".to_owned()),
    ];
    let mut rows = Vec::new();
    for (name, path) in pages {
        let mut times = Vec::with_capacity(ROUNDS.get());
        for _ in 0..ROUNDS.get() {
            let started = Instant::now();
            let answer = browser.get(&path).await;
            times.push(nanos(started));
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        }
        rows.push(Row::new(format!("page of headquarters: {name}")).times(&Times::new(times)));
    }
    Ok(rows)
}

/// What somebody is found by.
const WORD: &str =
    "INSERT OR IGNORE INTO people_words SELECT ?1, ?2, person, campus, staff_number FROM profiles WHERE person = ?3";

/// Profiles of more people under other numbers, names as invented.
fn enter(dir: &Path) -> Result<()> {
    let records = yika_hub::import::demo_records(11, &["1", "2"], PEOPLE.get() / 2);
    let mut conn = rusqlite::Connection::open(dir.join("hub.db"))?;
    conn.busy_timeout(BUSY)?;
    let tx = conn.transaction()?;
    let sql = "INSERT INTO profiles SELECT ?1, ?2, id_type, id_sealed, contact_sealed, ?3, ?4, sex, '', '', department,
         department_code, ?5, category, ?6, ?7, '', '', 0 FROM profiles WHERE person = (SELECT min(person) FROM profiles)";
    for (number, record) in (1_000_000i64..).zip(&records) {
        let hash = format!("{number:016}").into_bytes();
        let (campus, card) = (record.campus.parse::<u16>()?, 49_000_000 + number);
        let values = rusqlite::params![number, hash, record.name, record.pinyin, record.staff_number, campus, card];
        tx.prepare_cached(sql)?.execute(values)?;
        let pinyin = record.pinyin.replace(' ', "");
        let whole = [record.name.as_str(), &pinyin, &record.staff_number].map(|word| (0, word));
        let parts = record.name.char_indices().skip(1).map(|(at, _)| (1, &record.name[at..]));
        for (inner, word) in whole.into_iter().chain(parts) {
            tx.prepare_cached(WORD)?.execute(rusqlite::params![inner, word, number])?;
        }
    }
    tx.commit()?;
    Ok(())
}

/// Sales spread over a year, one person after the other.
fn sell(dir: &Path) -> Result<()> {
    let conn = rusqlite::Connection::open(dir.join("hub.db"))?;
    conn.busy_timeout(BUSY)?;
    conn.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1),
              p AS MATERIALIZED (SELECT row_number() OVER () - 1 AS at, person, card FROM profiles)
         INSERT INTO sales SELECT 1, 1, 1, 1000000 + i, ?2 - (?1 - i) * ?3, ?2 - (?1 - i) * ?3 + 5, 20000, 1 + i % 2, 9, i,
             p.card, p.person, 1, 1, 1, 'fixed', 1 + i % 3, 1000, 0, 1000, 4000, 0, 'main:1000', NULL, NULL
         FROM n JOIN p ON p.at = n.i % (SELECT count(*) FROM profiles)",
        rusqlite::params![SALES.get(), wall_ms() - 1_000, YEAR_MS / SALES.get()],
    )?;
    Ok(())
}

//! Invariant 6: money is a whole number of fen wherever it is kept, added up, told or shown. Sums are chosen that no
//! floating-point number holds: 2^53 + 1 fen comes out as it went in, or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

#[path = "site/browser.rs"]
mod browser;
mod site;

use browser::{Browser, app};
use site::Site;
use yika_crdt::Fen;
use yika_crdt::feed::Hash;
use yika_crdt::ids::OperatorId;
use yika_hub::control::ToppedUp;
use yika_hub::core::{Command, Reply, Teller};
use yika_hub::store::read;
use yika_store::rusqlite::Connection;

/// One fen more than the last whole number up to which `f64` has all of them.
const ODD: Fen = Fen((1 << 53) + 1);
const ODD_YUAN: &str = "90071992547409.93";

#[test]
fn the_sum_is_one_that_floating_point_loses() {
    assert_ne!((ODD.0 as f64) as i64, ODD.0);
    assert_eq!(ODD.to_string(), ODD_YUAN);
    assert_eq!(ODD_YUAN.parse(), Ok(ODD));
}

fn number(conn: &Connection, sql: &str) -> i64 {
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Values of every table and column that are stored as floating point.
fn real_values(conn: &Connection) -> Vec<String> {
    let names = |sql: &str| -> Vec<String> {
        let mut statement = conn.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let mut found = Vec::new();
    let mut columns = 0;
    for table in names("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'") {
        for column in names(&format!("SELECT name FROM pragma_table_info('{table}')")) {
            columns += 1;
            let sql = format!("SELECT count(*) FROM \"{table}\" WHERE typeof(\"{column}\") = 'real'");
            if number(conn, &sql) > 0 {
                found.push(format!("{table}.{column}"));
            }
        }
    }
    assert!(columns > 80, "only {columns} columns were looked at");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_money_is_whole_fen_wherever_it_is_kept_added_up_told_or_shown() {
    let dir = tempfile::tempdir().unwrap();
    let site: Site = site::filled(dir.path(), 6).await;
    let (desk, person) = (&site.desk, site.holders[1].person);
    let sql = format!("SELECT coalesce(sum(credits - debits), 0) FROM accounts WHERE person = {}", person.0);
    let conn = Connection::open(dir.path().join("hub.db")).unwrap();
    let before = number(&conn, &sql);
    // No counter takes so much at once; the core has no such bound.
    let pay = async |n: u8, amount: Fen| {
        let by = Teller { operator: OperatorId(1), shift: 1 };
        let command = Command::TopUp { id: Hash([n; 32]), person, amount, by };
        match desk.node.call(command).await.unwrap() {
            Reply::ToppedUp { total, repeated } => ToppedUp { total_fen: total.0, repeated },
            other => panic!("{other:?}"),
        }
    };
    pay(1, ODD).await;
    assert_eq!(number(&conn, &sql), before + ODD.0);
    assert_eq!(number(&conn, "SELECT max(amount) FROM transfers"), ODD.0);
    let told = serde_json::to_string(&pay(1, ODD).await).unwrap();
    let heard: ToppedUp = serde_json::from_str(&told).unwrap();
    assert_eq!((heard.total_fen, heard.repeated), (before + ODD.0, true), "{told}");
    pay(2, Fen(1)).await;
    assert_eq!(number(&conn, &sql), before + ODD.0 + 1, "one fen beside a great sum is not lost");
    let books = desk.node.query(read::trial_balance).await.unwrap();
    assert_eq!((books.sum_fen, books.accounts_differing), (0, 0));

    let app = app(&site.desk);
    let mut chief = Browser::signed_in(&app, "chief").await;
    let statement = chief.get(&format!("/people/{}/statement", person.0)).await;
    let shown = statement.text.replace(',', "");
    assert!(shown.contains(ODD_YUAN), "{}", statement.text);
    let page = chief.get(&format!("/people/{}", person.0)).await;
    let total = Fen(before + ODD.0 + 1).to_string();
    assert!(page.text.replace(',', "").contains(&total), "{total}: {}", page.text);

    assert_eq!(real_values(&conn), Vec::<String>::new());
}

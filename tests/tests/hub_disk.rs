//! Headquarters whose disk fills up or rots: it refuses with the reason, keeps nothing half done, boxes go on selling, and
//! it goes on by itself when there is room again.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;
use yika_hub::control::{TopUpWish, ToppedUp};
use yika_tests::crowd::Crowd;
use yika_tests::http::Client;
use yika_tests::process::{Finished, Launch};
use yika_tests::site::{HubProgram, until};
use yika_tests::small_disk::{SmallDisk, spoil_pages};
use yika_tests::world::World;

const BOUND: Duration = Duration::from_secs(60);
/// Enough for a small world, its log and its index.
const DISK_KIB: u32 = 32 << 10;
const PAID_FEN: i64 = 100;

/// A top-up under a number of its own; what was answered, in words.
async fn pay(hub: &HubProgram, person: u64, request: &str) -> Result<ToppedUp, String> {
    let wish = TopUpWish { person: yika_crdt::ids::PersonId(person), fen: PAID_FEN, request: request.to_owned() };
    let body = serde_json::to_vec(&wish).unwrap();
    hub.ask("POST", "/v1/top-up", body).await.map_err(|error| format!("{error:#}"))
}

async fn ready(hub: &HubProgram) -> (u16, String) {
    let answer = Client::new(hub.url()).get("/readyz").await.unwrap();
    (answer.status.as_u16(), answer.text())
}

async fn asked(hub: &HubProgram, words: &[&str]) -> Finished {
    let launch = Launch::binary("yika-hub").unwrap().env("LC_ALL", "C").arg("--data").arg(&hub.dir);
    launch.args(words).finish(BOUND).await.unwrap()
}

/// An administrator at the console.
async fn chief(hub: &HubProgram) -> Client {
    let words = ["user", "add", "chief", "--name", "chief", "--role", "admin", "--keep-password"];
    hub.command_with(&words, "a-long-password-7\n").await.unwrap();
    let client = Client::new(hub.url());
    let fields = [("login", "chief"), ("password", "a-long-password-7")];
    client.submit("/login", "/login", &fields).await.unwrap().expect_status(303).unwrap();
    client
}

fn count(database: &Path, sql: &str) -> i64 {
    Connection::open(database).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

fn paid_in(database: &Path) -> i64 {
    let sql = format!("SELECT count(*) FROM transfers WHERE kind = 'top_up' AND amount = {PAID_FEN}");
    count(database, &sql)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_at_headquarters_refuses_in_words_and_everything_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("hub"), DISK_KIB).unwrap() else { return };
    let mut world = World::build(dir.path(), 8, &|_| {}).await.unwrap();
    let console = chief(&world.hub).await;
    let person = world.people[0].person.0;
    let filler = disk.fill().unwrap();
    let (mut told, mut refused) = (0, None);
    for n in 0..2_000 {
        let request = format!("full-{n}");
        match pay(&world.hub, person, &request).await {
            Ok(_) => told += 1,
            Err(words) => {
                refused = Some((request, words));
                break;
            }
        }
    }
    let (request, words) = refused.expect("the disk did not become full");
    assert!(words.contains("full"), "{words}");
    let (code, words) = ready(&world.hub).await;
    assert!(code == 503 && words.contains("full") && words.contains("tried again"), "{code} {words}");
    let status = asked(&world.hub, &["status"]).await;
    assert_eq!(status.status.code(), Some(3), "{status:?}");
    assert!(status.stdout.contains("NOTHING IS WRITTEN") && status.stdout.contains("full"), "{status:?}");
    let page = console.get("/").await.unwrap().ok().unwrap().text();
    assert!(page.contains("总部数据库不能写入") && page.contains("full"), "{page}");
    // Nobody at the tills notices.
    let crowd = Crowd::start(&world.dir, "rush", &world.plan(1, 3, 5)).await.unwrap();
    let summary = crowd.finish().await.unwrap();
    assert!(summary.approved > 0 && summary.contradictions == 0 && summary.problems.is_empty(), "{summary:?}");
    assert!(world.hub.process.is_running().unwrap());
    assert!(world.hub.process.tail().contains("full"), "the log says why");

    std::fs::remove_file(&filler).unwrap();
    until("writing again", BOUND, async || Ok(ready(&world.hub).await.0 == 200)).await.unwrap();
    assert_eq!(paid_in(&world.hub.database()), told, "what was refused is half done, or what was told is gone");
    let again = pay(&world.hub, person, &request).await.unwrap();
    assert!(!again.repeated, "{again:?}");
    assert_eq!(paid_in(&world.hub.database()), told + 1);
    let compared = world.settle(BOUND).await.unwrap();
    assert!(compared.edges_sum_fen > 0 && compared.edges_sum_fen == compared.hub_sum_fen, "{compared:?}");
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    let books = world.hub.command(&["ledger", "verify"]).await.unwrap();
    assert!(books.contains("\"sum_fen\":0") && books.contains("\"accounts_differing\":0"), "{books}");
    let status = asked(&world.hub, &["status"]).await;
    assert!(status.status.success(), "{status:?}");
    world.stop().await.unwrap();
}

/// The damage is met by a turn of the running program.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_at_headquarters_stops_every_turn_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 8, &|_| {}).await.unwrap();
    let console = chief(&world.hub).await;
    let person = world.people[0].person.0;
    pay(&world.hub, person, "before").await.unwrap();
    assert!(world.hub.process.terminate(BOUND).await.unwrap().success());
    let database = world.hub.database();
    let root = count(&database, "SELECT rootpage FROM sqlite_schema WHERE name = 'accounts'") as u64;
    assert_eq!(spoil_pages(&database, root - 1..root).unwrap(), 1);
    // Whichever turn is the first to post something meets the damage after it has written its transfer.
    let before = count(&database, "SELECT count(*) FROM transfers");
    world.hub.restart().await.unwrap();
    let words = pay(&world.hub, person, "into the damage").await.unwrap_err();
    assert!(words.contains("malformed") || words.contains("damaged"), "{words}");
    let (code, words) = ready(&world.hub).await;
    assert!(code == 503 && words.contains("damaged") && words.contains("restore the last good backup"), "{words}");
    // Damage is not tried away: nothing is written after it, not even what would not touch it.
    assert!(world.hub.command(&["campus", "put", "c3", "北校区"]).await.is_err());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ready(&world.hub).await.0, 503);
    assert_eq!(count(&database, "SELECT count(*) FROM transfers"), before, "the turn is half done");
    let status = asked(&world.hub, &["status"]).await;
    assert!(status.status.code() == Some(3) && status.stdout.contains("damaged"), "{status:?}");
    let page = console.get("/").await.unwrap().ok().unwrap().text();
    assert!(page.contains("总部数据库不能写入") && page.contains("damaged"), "{page}");
    let books = asked(&world.hub, &["ledger", "verify"]).await;
    assert!(!books.status.success() && books.stderr.contains("malformed"), "{books:?}");
    assert!(world.hub.process.is_running().unwrap() && world.hub.process.tail().contains("malformed"));
    let crowd = Crowd::start(&world.dir, "rush", &world.plan(1, 2, 5)).await.unwrap();
    assert!(crowd.finish().await.unwrap().approved > 0, "boxes go on");
    world.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_headquarters_whose_database_is_damaged_does_not_start_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut hub = HubProgram::start(dir.path(), "总部").await.unwrap();
    hub.command(&["campus", "put", "c1", "东校区"]).await.unwrap();
    assert!(hub.process.terminate(BOUND).await.unwrap().success());
    assert!(spoil_pages(&hub.database(), 1..).unwrap() > 10);
    let ended = asked(&hub, &["serve", "--link", "127.0.0.1:0", "--http", "127.0.0.1:0"]).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("damaged") || ended.stderr.contains("malformed"), "{ended:?}");
    assert!(ended.stderr.contains("backup restore FILE --master-key KEY"), "how to mend it: {ended:?}");
    assert!(!ended.stdout.contains("ready"), "{ended:?}");
}

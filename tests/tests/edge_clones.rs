//! A box whose disk was put back, and a box that exists twice: real programs, a real copy of a real database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use yika_drivers::terminal::simulator::Plan;
use yika_tests::books::Journal;
use yika_tests::crowd::{Crowd, Summary};
use yika_tests::http::Client;
use yika_tests::process::{Finished, Launch, Port};
use yika_tests::site::{BoxProgram, until};
use yika_tests::world::World;

const BOUND: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);

async fn world(dir: &Path) -> World {
    World::build(dir, 10, &|_| {}).await.unwrap()
}

async fn status_of(data: &Path) -> (i32, Value) {
    let launch = Launch::binary("yika-edge").unwrap().env("LANG", "C").arg("--data").arg(data);
    let finished = launch.args(&["status", "--json"]).finish(BOUND).await.unwrap();
    let said = serde_json::from_str(&finished.stdout).unwrap_or_else(|e| panic!("{e}: {finished:?}"));
    (finished.status.code().unwrap(), said)
}

async fn doctor(data: &Path) -> Finished {
    let launch = Launch::binary("yika-edge").unwrap().env("LANG", "C").arg("--data").arg(data);
    launch.arg("doctor").finish(BOUND).await.unwrap()
}

fn data(edge: &BoxProgram) -> std::path::PathBuf {
    edge.dir.join("data")
}

async fn is_ready(edge: &BoxProgram) -> bool {
    Client::new(edge.url()).get("/readyz").await.is_ok_and(|answer| answer.status == 200)
}

/// The first east till sells at these boxes only.
async fn sell(world: &World, name: &str, at: Vec<String>, give_up_ms: u64, seed: u64) -> Summary {
    let mut plan = Plan { give_up_ms, per_second: 10, ..world.plan(1, 2, seed) };
    plan.tills.truncate(1);
    plan.tills[0].edges = at;
    plan.readers.clear();
    plan.swipes_per_second = 0;
    Crowd::start(&world.dir, name, &plan).await.unwrap().finish().await.unwrap()
}

/// The database only, as from a backup: what lies beside it stays.
fn copy_database(from: &Path, to: &Path) {
    for name in ["edge.db", "edge.db-wal", "edge.db-shm"] {
        let _ = std::fs::remove_file(to.join(name));
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_put_back_spends_nothing_until_peers_have_given_back_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path()).await;
    let urls = vec![world.boxes[1].url()];
    assert!(sell(&world, "before", urls.clone(), 5_000, 1).await.approved > 0);
    world.boxes[1].process.terminate(STOP).await.unwrap();
    let backup = tempfile::tempdir().unwrap();
    copy_database(&data(&world.boxes[1]), backup.path());
    world.boxes[1].restart().await.unwrap();
    assert!(sell(&world, "after", urls.clone(), 5_000, 2).await.approved > 0);
    until("headquarters holds it all", BOUND, async || {
        let (_, seen) = status_of(&data(&world.boxes[1])).await;
        Ok(seen["unsent"] == 0)
    })
    .await
    .unwrap();

    world.boxes[1].process.terminate(STOP).await.unwrap();
    copy_database(backup.path(), &data(&world.boxes[1]));
    world.boxes.iter().for_each(|edge| edge.cut_wan());
    // Boxes of a campus reach each other directly, so the sibling is stopped too.
    world.boxes[0].process.terminate(STOP).await.unwrap();
    let down = doctor(&data(&world.boxes[1])).await;
    assert!(down.stdout.contains("put back from a copy"), "{down:?}");
    world.boxes[1].restart().await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!is_ready(&world.boxes[1]).await, "behind what it wrote, and nobody to ask");
    let (code, seen) = status_of(&data(&world.boxes[1])).await;
    assert!(code == 3 && seen["shut"].as_str().unwrap().contains("older than what this box wrote"), "{seen}");
    let up = doctor(&data(&world.boxes[1])).await;
    assert!(up.status.code() == Some(3) && up.stdout.contains("[FAIL] journal"), "{up:?}");
    let refused = sell(&world, "behind", urls.clone(), 500, 3).await;
    assert_eq!(refused.approved, 0, "{refused:?}");

    world.boxes.iter().for_each(|edge| edge.heal_wan());
    until("what was lost is taken back", BOUND, async || Ok(is_ready(&world.boxes[1]).await)).await.unwrap();
    assert!(sell(&world, "healed", urls, 5_000, 4).await.approved > 0);
    world.boxes[0].restart().await.unwrap();
    let compared = world.settle(BOUND).await.unwrap();
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    assert_eq!(compared.edges_sum_fen, compared.hub_sum_fen, "{compared:?}");
    world.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloned_box_is_found_out_and_spends_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path()).await;
    let urls = vec![world.boxes[1].url()];
    assert!(sell(&world, "before", urls.clone(), 5_000, 1).await.approved > 0);
    world.boxes[1].process.terminate(STOP).await.unwrap();
    let clone = dir.path().join("clone");
    std::fs::create_dir(&clone).unwrap();
    for entry in std::fs::read_dir(data(&world.boxes[1])).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), clone.join(entry.file_name())).unwrap();
        }
    }
    // The thief's copy runs first, out of reach of everybody.
    world.boxes.iter().for_each(|edge| edge.cut_wan());
    world.boxes[0].process.terminate(STOP).await.unwrap();
    let http = Port::reserve().unwrap();
    let launch = Launch::binary("yika-edge").unwrap().name("clone").arg("--data").arg(&clone);
    let serve = ["serve", "--no-mdns", "--link", "127.0.0.1:0", "--http", &http.address().to_string()];
    let mut thief = launch.args(&serve).start().await.unwrap();
    thief.wait_for_http(http.number(), "/readyz", BOUND).await.unwrap();
    let at_thief = vec![format!("http://{}", http.address())];
    let stolen = sell(&world, "stolen", at_thief.clone(), 5_000, 2).await;
    assert!(stolen.approved > 0, "within its rights, as the table of bounds says: {stolen:?}");

    // The honest one sells and reaches headquarters first.
    thief.signal("STOP").await.unwrap();
    world.boxes[1].restart().await.unwrap();
    world.boxes.iter().for_each(|edge| edge.heal_wan());
    until("the honest box sells", BOUND, async || Ok(is_ready(&world.boxes[1]).await)).await.unwrap();
    assert!(sell(&world, "honest", urls.clone(), 5_000, 3).await.approved > 0);
    until("headquarters holds it all", BOUND, async || Ok(status_of(&data(&world.boxes[1])).await.1["unsent"] == 0))
        .await
        .unwrap();

    // The honest box rests while the copy comes back on the same line.
    world.boxes[1].process.terminate(STOP).await.unwrap();
    thief.signal("CONT").await.unwrap();
    until("the copy is told that its key is used twice", BOUND, async || {
        let (_, seen) = status_of(&clone).await;
        Ok(seen["shut"].as_str().is_some_and(|words| words.contains("another box writes with this box's key")))
    })
    .await
    .unwrap();
    assert_eq!(sell(&world, "no-more", at_thief, 500, 4).await.approved, 0);
    let proofs = async || {
        let reader = yika_store::SqliteReader::open(world.hub.database(), &yika_store::Options::default())?;
        let rows = yika_crdt::store::Read::scan(&reader, yika_crdt::keys::FORKS, None, 10)?;
        Ok(!rows.is_empty())
    };
    until("headquarters keeps the proof", BOUND, proofs).await.unwrap();
    // Both branches are in the books: what the copy sold is fetched from it, though it may sell no more.
    let node = world.boxes[1].node().unwrap();
    let sales = |database: &Path| Journal::read(database, node).unwrap().sales;
    let (honest, copy) = (sales(&world.boxes[1].database()), sales(&clone.join("edge.db")));
    let of_one_only = copy.iter().filter(|(place, sale)| honest.get(place) != Some(sale)).count();
    assert!(of_one_only >= usize::try_from(stolen.approved).unwrap());
    let both = async || {
        let conn = rusqlite::Connection::open(world.hub.database())?;
        let sql = "SELECT count(*) FROM sales WHERE node = ?1";
        let booked: i64 = conn.query_row(sql, [node], |row| row.get(0))?;
        Ok(usize::try_from(booked)? == honest.len() + of_one_only)
    };
    until("headquarters has fetched the other branch", BOUND, both).await.unwrap();
    thief.kill().await.unwrap();
    world.boxes[1].restart().await.unwrap();
    until("the honest box goes on", BOUND, async || Ok(is_ready(&world.boxes[1]).await)).await.unwrap();
    assert!(sell(&world, "goes-on", urls, 5_000, 5).await.approved > 0);
}

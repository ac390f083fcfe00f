//! A box is stolen: its disk runs elsewhere, with its key, after headquarters has fenced it. Whoever hears of the fence speaks
//! with it no more, it learns of nothing, it cannot pass its money on, and what it sells within its rights before it hears
//! of the fence is in no book as a debt of the people.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::path::{Path, PathBuf};
use std::time::Duration;
use yika_crdt::store::Read;
use yika_crdt::{channel::Channel, keys};
use yika_drivers::terminal::message::Decision;
use yika_store::{Options, SqliteReader};
use yika_tests::process::{Launch, Port, Process};
use yika_tests::site::until;
use yika_tests::till::Till;
use yika_tests::world::{TOP_UP_FEN, World};

const BOUND: Duration = Duration::from_secs(60);
const STOLEN: usize = 1;
/// Longer than an entry takes from box to box.
const A_WHILE: Duration = Duration::from_secs(3);
/// More than the guest rule gives.
const MEAL_FEN: i64 = 2_500;

/// Where the thief has set the disk up.
struct Thief {
    data: PathBuf,
    http: Port,
    process: Process,
}

impl Thief {
    async fn starts(data: PathBuf) -> Thief {
        let http = Port::reserve().unwrap();
        let launch = Launch::binary("yika-edge").unwrap().name("thief").arg("--data").arg(&data);
        let serve = ["serve", "--no-mdns", "--link", "127.0.0.1:0", "--http", &http.address().to_string()];
        let mut process = launch.args(&serve).start().await.unwrap();
        process.wait_for_output("\"ready\":true", BOUND).await.unwrap();
        Thief { data, http, process }
    }

    fn url(&self) -> String {
        format!("http://{}", self.http.address())
    }

    async fn says(&self) -> String {
        let asked = Launch::binary("yika-edge").unwrap().name("asked").env("LANG", "C").arg("--data").arg(&self.data);
        asked.arg("status").finish(BOUND).await.unwrap().stdout
    }

    fn registry(&self) -> u64 {
        ends(&self.data.join("edge.db"), |channel| channel == Channel::Registry)
    }
}

/// How many entries of some channels a database holds.
fn ends(database: &Path, of: impl Fn(Channel) -> bool) -> u64 {
    let feeds = SqliteReader::open(database, &Options::default()).unwrap().feeds().unwrap();
    feeds.into_iter().filter(|(feed, _)| of(feed.channel)).map(|(_, held)| held.end.seq.0).sum()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn number(world: &World, sql: &str) -> i64 {
    rusqlite::Connection::open(world.hub.database()).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Rows ORG-1, NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_boxs_disk_runs_elsewhere_after_the_fence_and_is_worth_its_rights_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 6, &|_| {}).await.unwrap();
    world.lift_limits().await.unwrap();
    let cards = world.cards_of(1);
    let node = world.boxes[STOLEN].node().unwrap();
    world.settle(BOUND).await.unwrap();
    // It is carried out of the house: the disk is copied, and the place where it stood is empty.
    world.boxes[STOLEN].process.terminate(BOUND).await.unwrap();
    let stolen = dir.path().join("thief");
    copy(&world.boxes[STOLEN].dir.join("data"), &stolen);
    world.hub.command(&["edge", "fence", &format!("n{node}"), "--reason", "stolen"]).await.unwrap();
    // A sibling that had not heard of it would take the thief's journal and hand it on: that is evidence, and posted.
    let registry = |database: &Path| ends(database, |channel| channel == Channel::Registry);
    let sibling = world.boxes[0].database();
    until("its sibling hears of the fence", BOUND, async || Ok(registry(&sibling) == registry(&world.hub.database())))
        .await
        .unwrap();

    // Out of everybody's reach it sells what it was granted, a person at most what this box held of him.
    world.boxes.iter().for_each(|edge| edge.cut_wan());
    world.boxes[0].process.terminate(BOUND).await.unwrap();
    let thief = Thief::starts(stolen.clone()).await;
    let till = Till::at(&world.tills[0][1], &thief.url()).unwrap();
    let mut sold = 0;
    for card in &cards {
        while let Ok(answer) = till.buy(*card, MEAL_FEN).await
            && answer.decision == Decision::Approved
        {
            sold += answer.fen;
        }
    }
    assert!(sold > 0 && sold < TOP_UP_FEN * cards.len() as i64, "{sold} fen sold by the thief");

    // The boxes of the campus go on, and the thief finds his way to them and to headquarters.
    world.boxes[0].restart().await.unwrap();
    world.boxes.iter().for_each(|edge| edge.heal_wan());
    until("it hears of the fence", BOUND, async || Ok(thief.says().await.contains("fenced"))).await.unwrap();
    let (before, knows) = (ends(&world.hub.database(), |_| true), thief.registry());
    assert!(till.buy(cards[0], 100).await.is_err(), "a fenced box sells nothing, not to guests either");
    world.hub.command(&["campus", "put", "c3", "北校区"]).await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(thief.registry(), knows, "told to a box that is fenced");
    assert!(ends(&world.hub.database(), |_| true) > before, "headquarters goes on");

    // Nothing that it sold is in the books, and everybody still has what no other box has sold.
    let booked = format!("SELECT count(*) FROM sales WHERE node = {node}");
    assert_eq!(number(&world, &booked), 0, "sales of after the fence were posted");
    let honest = Till::of(&world, 0, 0).unwrap();
    for card in &cards {
        let answer = honest.buy(*card, MEAL_FEN).await.unwrap();
        assert_eq!(answer.decision, Decision::Approved, "{answer:?}");
    }
    assert_eq!(number(&world, "SELECT count(*) FROM accounts WHERE person > 0 AND credits < debits"), 0);
    // It remembers after a restart without a line, too.
    drop(thief);
    world.boxes.iter().for_each(|edge| edge.cut_wan());
    let thief = Thief::starts(stolen).await;
    let till = Till::at(&world.tills[0][1], &thief.url()).unwrap();
    assert!(till.buy(cards[0], 100).await.is_err());
    let fenced = SqliteReader::open(thief.data.join("edge.db"), &Options::default()).unwrap();
    assert!(fenced.get(keys::FENCED).unwrap().is_some());
    assert!(thief.process.id().is_some());
    world.boxes.iter().for_each(|edge| edge.heal_wan());
    let books = world.hub.command(&["ledger", "verify"]).await.unwrap();
    assert!(books.contains("\"sum_fen\":0") && books.contains("\"accounts_differing\":0"), "{books}");
}

//! Backups put back, boxes stolen, dead or rolled back, with real programs and real databases: nothing is paid or
//! granted twice, canteens go on, and the books agree afterwards entry by entry.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use yika_crdt::Fen;
use yika_crdt::entry::WalletKey;
use yika_crdt::ids::{Incarnation, NodeId, PersonId, Seq, Writer};
use yika_crdt::keys;
use yika_crdt::rights::PersonRights;
use yika_crdt::store::{Read, decode_row};
use yika_drivers::terminal::simulator::Plan;
use yika_store::{Options, SqliteReader};
use yika_tests::books::{Books, Journal};
use yika_tests::crowd::{Crowd, Summary};
use yika_tests::http::Client;
use yika_tests::later::hub_days_later;
use yika_tests::process::{Launch, Port};
use yika_tests::site::{BoxProgram, HubProgram, Reach, until};
use yika_tests::world::{TOP_UP_FEN, World};

const BOUND: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);
/// Longer than a box keeps its journal, shorter than anything else lasts.
const LATER_DAYS: i64 = 40;

struct Scene {
    world: World,
    dir: tempfile::TempDir,
}

async fn scene(people: usize) -> Scene {
    let keep = std::env::var_os("YIKA_TEST_KEEP").is_some();
    let dir = tempfile::Builder::new().prefix("yika-restore-").disable_cleanup(keep).tempdir().unwrap();
    let world = World::build(dir.path(), people, &|_| {}).await.unwrap();
    Scene { world, dir }
}

/// Tills of a campus sell for two seconds.
async fn sell(world: &World, name: &str, campus: u16, seed: u64) -> Summary {
    let plan = Plan { readers: Vec::new(), swipes_per_second: 0, ..world.plan(campus, 2, seed) };
    Crowd::start(&world.dir, name, &plan).await.unwrap().finish().await.unwrap()
}

/// The first east till sells at these boxes only.
async fn sell_at(world: &World, name: &str, at: Vec<String>, give_up_ms: u64, seed: u64) -> Summary {
    let mut plan = Plan { give_up_ms, per_second: 10, readers: Vec::new(), ..world.plan(1, 2, seed) };
    plan.swipes_per_second = 0;
    plan.tills.truncate(1);
    plan.tills[0].edges = at;
    Crowd::start(&world.dir, name, &plan).await.unwrap().finish().await.unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

async fn refusal(hub: &HubProgram, words: &[&str]) -> String {
    hub.command(words).await.unwrap_err().to_string()
}

/// What `yika-hub status` says, however it ends.
async fn hub_status(hub: &HubProgram) -> (Value, String) {
    let status = |json: bool| {
        let launch = Launch::binary("yika-hub").unwrap().name("status").arg("--data").arg(&hub.dir).arg("status");
        if json { launch.arg("--json") } else { launch }
    };
    let value = status(true).finish(BOUND).await.unwrap();
    (json(&value.stdout), status(false).finish(BOUND).await.unwrap().stdout)
}

async fn box_status(data: &Path) -> Value {
    let launch = Launch::binary("yika-edge").unwrap().env("LANG", "C").arg("--data").arg(data);
    json(&launch.args(&["status", "--json"]).finish(BOUND).await.unwrap().stdout)
}

async fn is_ready(url: &str) -> bool {
    Client::new(url.to_owned()).get("/readyz").await.is_ok_and(|answer| answer.status == 200)
}

fn data(edge: &BoxProgram) -> PathBuf {
    edge.dir.join("data")
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn journal(edge: &BoxProgram) -> Journal {
    Journal::read(&edge.database(), edge.node().unwrap()).unwrap()
}

async fn assert_holds_everything(world: &World, boxes: &[&BoxProgram]) {
    let done = async || {
        let journals: Vec<Journal> = boxes.iter().map(|edge| journal(edge)).collect();
        Ok(Books::read(&world.hub.database())?.holds(&journals))
    };
    until("headquarters holds everything the boxes wrote", BOUND, done).await.unwrap();
}

/// Journals and books agree, nothing twice, and the books add up again.
async fn assert_books_agree(world: &World) {
    let compared = world.settle(BOUND).await.unwrap();
    assert_eq!(compared.edges_sum_fen, compared.hub_sum_fen, "{compared:?}");
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    world.hub.command(&["ledger", "verify"]).await.unwrap();
}

/// What people have in the books beyond what they were paid in and did not eat: zero, or something was paid twice.
fn too_much(hub: &HubProgram, paid_in: impl Fn(PersonId) -> i64) -> BTreeMap<PersonId, i64> {
    let conn = rusqlite::Connection::open(hub.database()).unwrap();
    let by_person = |sql: &str| -> BTreeMap<i64, i64> {
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let left = by_person("SELECT person, sum(credits - debits) FROM accounts WHERE person > 0 GROUP BY person");
    let eaten = by_person(
        "SELECT person, sum(total) FROM (SELECT person, total FROM sales UNION ALL SELECT person, -total FROM refunds)
         WHERE person > 0 GROUP BY person",
    );
    assert!(!left.is_empty());
    let beyond = left.into_iter().map(|(person, left)| {
        let eaten = eaten.get(&person).copied().unwrap_or(0);
        let person = PersonId(person.unsigned_abs());
        (person, left - (paid_in(person) - eaten))
    });
    beyond.filter(|(_, fen)| *fen != 0).collect()
}

fn assert_everybody_has_what_he_should(hub: &HubProgram, paid_in: impl Fn(PersonId) -> i64) {
    assert_eq!(too_much(hub, paid_in), BTreeMap::new());
}

/// Each living box may spend exactly what headquarters' books say that it holds: nothing was granted twice.
async fn assert_rights_agree(world: &World, boxes: &[&BoxProgram]) {
    let agree = async || {
        for edge in boxes {
            let writer = writer_of(edge);
            for person in &world.people {
                if at_box(edge, person.person) != booked(&world.hub, person.person, writer) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    };
    until("boxes hold what the books say", BOUND, agree).await.unwrap();
}

/// The box's present life, as its data folder says.
fn writer_of(edge: &BoxProgram) -> Writer {
    let identity = yika_edge::identity::Identity::load(&data(edge)).unwrap();
    identity.unwrap().me
}

fn at_box(edge: &BoxProgram, person: PersonId) -> i64 {
    let reader = SqliteReader::open(edge.database(), &Options::default()).unwrap();
    let key = keys::rights(person);
    let rights = reader.get(&key).unwrap().map(|bytes| decode_row::<PersonRights>(&key, &bytes).unwrap());
    rights.and_then(|mut rights| rights.row(WalletKey::Main).unwrap().right().ok()).map_or(0, |fen| fen.0)
}

fn booked(hub: &HubProgram, person: PersonId, writer: Writer) -> i64 {
    account(hub, &format!("right/{person}/main/{writer}"))
}

fn account(hub: &HubProgram, name: &str) -> i64 {
    let conn = rusqlite::Connection::open(hub.database()).unwrap();
    let sql = "SELECT coalesce(sum(credits - debits), 0) FROM accounts WHERE account LIKE ?1";
    conn.query_row(sql, [name], |row| row.get(0)).unwrap()
}

fn notes(hub: &HubProgram, word: &str) -> i64 {
    let conn = rusqlite::Connection::open(hub.database()).unwrap();
    conn.query_row("SELECT count(*) FROM notes WHERE word = ?1", [word], |row| row.get(0)).unwrap()
}

fn pruned(edge: &BoxProgram) -> Seq {
    let reader = SqliteReader::open(edge.database(), &Options::default()).unwrap();
    let node = NodeId(edge.node().unwrap());
    let feeds = reader.feeds().unwrap();
    let own = |feed: &yika_crdt::channel::FeedId| {
        feed.writer.node == node && feed.channel == yika_crdt::channel::Channel::Journal
    };
    feeds.iter().find(|(feed, _)| own(feed)).unwrap().1.pruned
}

#[tokio::test(flavor = "multi_thread")]
async fn headquarters_reinstalled_from_last_nights_backup_neither_pays_twice_nor_forgets() {
    let Scene { mut world, dir } = scene(30).await;
    let backups = dir.path().join("backups");
    for (name, campus) in [("first-east", 1), ("first-west", 2)] {
        assert!(sell(&world, name, campus, 1).await.approved > 0);
    }
    assert_books_agree(&world).await;
    let made = json(&world.hub.command(&["backup", "create", "--to", &backups.to_string_lossy()]).await.unwrap());
    let backup = PathBuf::from(made["file"].as_str().unwrap());

    // What the backup does not know: a new box, forty days in which boxes prune, sales, a loss, a top-up, a dead box.
    let new = BoxProgram::join(&world.hub, "c1", "east-3", Reach::Direct, "").await.unwrap();
    world.hub.process.terminate(STOP).await.unwrap();
    tokio::task::block_in_place(|| hub_days_later(&world.hub.dir, LATER_DAYS)).unwrap();
    world.hub.restart().await.unwrap();
    until("boxes prune what is in the backup", BOUND, async || Ok(world.boxes.iter().all(|e| pruned(e) > Seq::ZERO)))
        .await
        .unwrap();
    for (name, campus) in [("second-east", 1), ("second-west", 2)] {
        assert!(sell(&world, name, campus, 2).await.approved > 0);
    }
    let at_new = sell_at(&world, "second-new", vec![new.url()], 5_000, 3).await;
    assert!(at_new.approved > 0, "{at_new:?}");
    let card = world.cards_of(1)[0];
    world.hub.command(&["card", "block", &card.to_string()]).await.unwrap();
    let rich = world.people[2].person;
    let top_up = ["top-up", &rich.to_string(), "--fen", "7000", "--request", "since"];
    world.hub.command(&top_up).await.unwrap();
    assert_holds_everything(&world, &[&world.boxes[0], &world.boxes[1], &world.boxes[2], &new]).await;
    let dead = world.boxes[1].node().unwrap();
    world.boxes[1].process.kill().await.unwrap();
    world.hub.command(&["edge", "fence", &format!("n{dead}"), "--reason", "water"]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;

    // The machine burns. The one box of the west is out of reach while the backup is put back.
    world.hub.process.kill().await.unwrap();
    let old = Books::read(&world.hub.database()).unwrap();
    world.boxes[2].cut_wan();
    let data = dir.path().join("hub-2");
    let said = world.hub.restore(&backup, &data).await.unwrap();
    assert!(said.contains("restored"), "{said}");
    tokio::task::block_in_place(|| hub_days_later(&data, LATER_DAYS)).unwrap();
    world.hub.start_in(&data).await.unwrap();
    let west = world.boxes[2].node().unwrap();
    until("only the west is waited for", BOUND, async || {
        Ok(hub_status(&world.hub).await.0["recovering"]["waiting_for"] == serde_json::json!([west]))
    })
    .await
    .unwrap();
    let words = hub_status(&world.hub).await.1;
    assert!(words.contains(&format!("recovering: waiting for n{west}")), "{words}");
    let not_now = ["withdraw", &rich.to_string(), "--fen", "1", "--request", "w1"];
    let refused = refusal(&world.hub, &not_now).await;
    assert!(refused.contains("recovering") && refused.contains(&format!("n{west}")), "{refused}");
    let refused = refusal(&world.hub, &["edge", "token", "create", "--campus", "c1"]).await;
    assert!(refused.contains("no box is enrolled"), "{refused}");
    let edges = world.hub.command(&["edge", "list"]).await.unwrap();
    assert!(edges.contains("water"), "the fence is back: {edges}");
    assert!(edges.contains("east-3"), "the new box, too: {edges}");

    // Canteens go on meanwhile, on both sides; the lost card is lost.
    let during = sell_at(&world, "third-east", vec![world.boxes[0].url(), new.url()], 5_000, 4).await;
    assert!(during.approved > 0, "{during:?}");
    assert!(sell(&world, "third-west", 2, 5).await.approved > 0);
    let mut lost = Plan { cards: vec![card.to_string()], ..world.plan(1, 2, 6) };
    lost.tills.iter_mut().for_each(|till| till.edges = vec![world.boxes[0].url()]);
    let lost = Crowd::start(&world.dir, "lost", &lost).await.unwrap().finish().await.unwrap();
    assert!(lost.approved == 0 && lost.refused.contains_key("blocked"), "{lost:?}");

    world.boxes[2].heal_wan();
    until("the recovery ends", BOUND, async || Ok(hub_status(&world.hub).await.0["recovering"].is_null()))
        .await
        .unwrap();
    let living = [&world.boxes[0], &world.boxes[2], &new];
    assert_holds_everything(&world, &living).await;
    let books = Books::read(&world.hub.database()).unwrap();
    let (mut sales, mut refunds) = (old.sales.clone(), old.refunds.clone());
    for journal in living.iter().map(|edge| journal(edge)) {
        sales.extend(journal.sales.iter().map(|(at, sale)| (*at, sale.total_fen)));
        refunds.extend(journal.refunds.iter().map(|(at, refund)| (*at, refund.1)));
    }
    assert!(sales.len() > old.sales.len());
    assert_eq!(books.sales, sales, "every sale once, those of the dead box too");
    assert_eq!(books.refunds, refunds);
    assert_eq!(books.merchants_fen, books.sum_fen());
    world.hub.command(&["ledger", "verify"]).await.unwrap();
    // The top-up is what the backup had not got; it is entered again from its voucher.
    world.hub.command(&top_up).await.unwrap();
    assert_rights_agree(&world, &living).await;
    // What the dead box gave back since the backup, only its disk knows. It stands in `loss` against that box's
    // suspense, which is not released by itself; nobody can spend it, and nobody else has a fen too much.
    let beyond = too_much(&world.hub, |p| TOP_UP_FEN + if p == rich { 7_000 } else { 0 });
    assert_eq!(beyond.values().sum::<i64>(), -account(&world.hub, "loss"), "{beyond:?}");
    for (person, fen) in beyond {
        let waits = account(&world.hub, &format!("suspense/{person}/main/n{dead}%"));
        assert!((0..=waits).contains(&fen), "{person} has {fen} too much, {waits} wait");
    }

    // Headquarters serves again as before.
    world.hub.command(&["withdraw", &rich.to_string(), "--fen", "100", "--request", "w1"]).await.unwrap();
    let after = sell(&world, "fourth-west", 2, 7).await;
    assert!(after.approved > 0, "{after:?}");
    let again = refusal(&world.hub, &["backup", "verify", "/nonexistent.backup"]).await;
    assert!(again.contains("/nonexistent.backup"), "{again}");
    world.hub.command(&["backup", "create", "--to", &backups.to_string_lossy()]).await.unwrap();
    let listed = world.hub.command(&["backup", "list", "--dir", &backups.to_string_lossy()]).await.unwrap();
    assert_eq!(json(&listed)["backups"].as_array().unwrap().len(), 2, "{listed}");
    let third = dir.path().join("hub-3");
    let older = world.hub.restore(&backup, &third).await.unwrap_err().to_string();
    assert!(older.contains("is newer") && !third.join("hub.db").exists(), "{older}");
}

/// The newest backup in a folder.
fn newest_backup(dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?.map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|ending| ending == "backup")).max()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_paid_in_and_out_between_two_backups_is_there_after_the_disk_of_headquarters_is_lost() {
    let Scene { mut world, dir } = scene(10).await;
    // The first backup of a new hub is made at once: the log needs it.
    let backups = world.hub.dir.join("backups");
    until("the log is sound", BOUND, async || {
        let log = &hub_status(&world.hub).await.0["log"];
        Ok(log["based"] == true && log["trouble"].is_null() && log["waiting_since_ms"].is_null())
    })
    .await
    .unwrap();
    let backup = newest_backup(&backups).unwrap();
    assert!(sell(&world, "east", 1, 1).await.approved > 0);
    assert_books_agree(&world).await;
    let (rich, poor) = (world.people[2].person, world.people[3].person);
    let paid_in = ["top-up", &rich.to_string(), "--fen", "7000", "--request", "in-1"];
    world.hub.command(&paid_in).await.unwrap();
    let paid_out = ["withdraw", &poor.to_string(), "--fen", "900", "--request", "out-1"];
    let said = json(&world.hub.command(&paid_out).await.unwrap());
    world
        .hub
        .command_with(&["user", "add", "late", "--name", "late", "--role", "clerk"], "lantern-42-x")
        .await
        .unwrap();
    // No box has heard of this: it is in no feed of any of them.
    world.boxes.iter().for_each(|edge| edge.cut_wan());
    let last = ["top-up", &poor.to_string(), "--fen", "50", "--request", "in-2"];
    world.hub.command(&last).await.unwrap();
    // More than the log ever lags.
    tokio::time::sleep(Duration::from_secs(3)).await;

    // The disk is lost; what was on another one is not.
    world.hub.process.kill().await.unwrap();
    let safe = dir.path().join("safe");
    copy_files(&backups, &safe);
    std::fs::remove_dir_all(&backups).unwrap();
    let data = dir.path().join("hub-2");
    let words = world.hub.restore(&safe.join(backup.file_name().unwrap()), &data).await.unwrap();
    assert!(words.contains("replayed") && words.contains("top-ups") && words.contains("withdrawals"), "{words}");
    world.hub.start_in(&data).await.unwrap();
    world.boxes.iter().for_each(|edge| edge.heal_wan());
    until("the recovery ends", BOUND, async || Ok(hub_status(&world.hub).await.0["recovering"].is_null()))
        .await
        .unwrap();

    // The same vouchers get their first answers; another amount under them is refused.
    for voucher in [&paid_in, &last] {
        assert_eq!(json(&world.hub.command(voucher).await.unwrap())["repeated"], true);
    }
    assert_eq!(json(&world.hub.command(&paid_out).await.unwrap())["left_fen"].as_i64().unwrap() - 50, said["left_fen"]);
    let more = ["withdraw", &poor.to_string(), "--fen", "901", "--request", "out-1"];
    assert!(refusal(&world.hub, &more).await.contains("another movement"));
    let twice =
        world.hub.command_with(&["user", "add", "late", "--name", "x", "--role", "clerk"], "lantern-43-x").await;
    assert!(twice.unwrap_err().to_string().contains("late"));
    assert_books_agree(&world).await;
    let boxes: Vec<_> = world.boxes.iter().collect();
    assert_holds_everything(&world, &boxes).await;
    assert_rights_agree(&world, &boxes).await;
    let extra = |p: PersonId| {
        if p == rich {
            7_000
        } else if p == poor {
            50 - 900
        } else {
            0
        }
    };
    assert_everybody_has_what_he_should(&world.hub, |p| TOP_UP_FEN + extra(p));
    assert_eq!(account(&world.hub, "loss"), 0);
    assert!(sell(&world, "after", 1, 2).await.approved > 0);
    assert_books_agree(&world).await;
    world.stop().await.ok();
}

async fn snapshot_of_the_machine(world: &mut World, to: &Path) -> PathBuf {
    world.hub.process.terminate(STOP).await.unwrap();
    copy_files(&world.hub.dir, to);
    copy_files(&world.hub.dir.join("backups"), &to.join("backups"));
    world.hub.restart().await.unwrap();
    to.to_owned()
}

async fn put_back(hub: &mut HubProgram, snapshot: &Path) {
    hub.process.kill().await.unwrap();
    std::fs::remove_dir_all(&hub.dir).unwrap();
    copy_files(snapshot, &hub.dir);
    copy_files(&snapshot.join("backups"), &hub.dir.join("backups"));
    hub.restart().await.unwrap();
}

/// The generation that the hub's database is in.
fn life(hub: &HubProgram) -> u32 {
    let store = SqliteReader::open(hub.database(), &Options::default()).unwrap();
    let first = Writer { node: NodeId::HUB, incarnation: Incarnation { generation: 1, counter: 1 } };
    yika_hub::core::present_life(&store, first).unwrap().0.incarnation.generation
}

/// The program goes on in its second life by itself, and waits for nobody any more.
async fn new_life_and_recovered(hub: &HubProgram) {
    until("the recovery ends", BOUND, async || {
        Ok(life(hub) == 2 && is_ready(&hub.url()).await && hub_status(hub).await.0["recovering"].is_null())
    })
    .await
    .unwrap();
}

/// The same where no box is in reach but one that the database does not know yet: its certificate tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_headquarters_enrolled_and_does_not_know_shows_that_it_was_rolled_back() {
    let Scene { mut world, dir } = scene(4).await;
    let snapshot = snapshot_of_the_machine(&mut world, &dir.path().join("snapshot")).await;
    let new = BoxProgram::join(&world.hub, "c1", "east-3", Reach::Direct, "").await.unwrap();
    world.boxes.iter().for_each(|edge| edge.cut_wan());
    put_back(&mut world.hub, &snapshot).await;
    until("a new life", BOUND, async || Ok(life(&world.hub) == 2)).await.unwrap();
    until("nobody gets a number again that is given out", BOUND, async || {
        // The program may be on its way into the new life.
        let refused = refusal(&world.hub, &["edge", "token", "create", "--campus", "c1"]).await;
        Ok(refused.contains("no box is enrolled"))
    })
    .await
    .unwrap();
    world.boxes.iter().for_each(|edge| edge.heal_wan());
    new_life_and_recovered(&world.hub).await;
    until("the others have told of the new box", BOUND, async || {
        Ok(world.hub.command(&["edge", "list"]).await?.contains("east-3"))
    })
    .await
    .unwrap();
    assert!(sell_at(&world, "new", vec![new.url()], 5_000, 3).await.approved > 0);
    assert_holds_everything(&world, &[&world.boxes[0], &world.boxes[1], &world.boxes[2], &new]).await;
    world.hub.command(&["ledger", "verify"]).await.unwrap();
}

/// A database alone is put back, and the program sees by its log that it is an older one.
#[tokio::test(flavor = "multi_thread")]
async fn headquarters_whose_database_alone_was_put_back_takes_back_its_log() {
    let Scene { mut world, dir } = scene(4).await;
    let snapshot = snapshot_of_the_machine(&mut world, &dir.path().join("snapshot")).await;
    let rich = world.people[2].person;
    let top_up = ["top-up", &rich.to_string(), "--fen", "7000", "--request", "since"];
    world.hub.command(&top_up).await.unwrap();
    // More than the log ever lags.
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.hub.process.kill().await.unwrap();
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(world.hub.dir.join(format!("hub.db{ending}")));
    }
    copy_files(&snapshot, &world.hub.dir);
    world.hub.restart().await.unwrap();
    until("the recovery ends", BOUND, async || Ok(hub_status(&world.hub).await.0["recovering"].is_null()))
        .await
        .unwrap();
    assert_eq!(json(&world.hub.command(&top_up).await.unwrap())["repeated"], true, "it is in the log");
    assert_eq!(notes(&world.hub, "put_back"), 1);
    assert_everybody_has_what_he_should(&world.hub, |p| TOP_UP_FEN + if p == rich { 7_000 } else { 0 });
    assert_books_agree(&world).await;
}

/// A snapshot of the whole machine is put back, its log with it: nothing there can tell, only the boxes.
#[tokio::test(flavor = "multi_thread")]
async fn headquarters_rolled_back_with_its_log_hears_its_boxes_before_it_writes() {
    let Scene { mut world, dir } = scene(10).await;
    assert!(sell(&world, "before", 1, 1).await.approved > 0);
    assert_books_agree(&world).await;
    let snapshot = snapshot_of_the_machine(&mut world, &dir.path().join("snapshot")).await;
    for (name, campus) in [("after-east", 1), ("after-west", 2)] {
        assert!(sell(&world, name, campus, 2).await.approved > 0);
    }
    let rich = world.people[2].person;
    let top_up = ["top-up", &rich.to_string(), "--fen", "7000", "--request", "since"];
    world.hub.command(&top_up).await.unwrap();
    assert_holds_everything(&world, &world.boxes.iter().collect::<Vec<_>>()).await;

    put_back(&mut world.hub, &snapshot).await;
    // The first thing that anybody does is to pay in: it would be granted at once, under numbers that boxes know.
    let at_once = ["top-up", &rich.to_string(), "--fen", "100", "--request", "at-once"];
    let _ = world.hub.command(&at_once).await;
    new_life_and_recovered(&world.hub).await;
    assert_eq!(notes(&world.hub, "put_back"), 1, "somebody must enter the vouchers of that time again");

    // What the snapshot had not got are the vouchers of its day; both are entered again, and count once.
    world.hub.command(&top_up).await.unwrap();
    world.hub.command(&at_once).await.unwrap();
    assert_books_agree(&world).await;
    let boxes: Vec<_> = world.boxes.iter().collect();
    assert_holds_everything(&world, &boxes).await;
    assert_rights_agree(&world, &boxes).await;
    assert_everybody_has_what_he_should(&world.hub, |p| TOP_UP_FEN + if p == rich { 7_100 } else { 0 });
    assert_eq!((account(&world.hub, "loss"), notes(&world.hub, "fork")), (0, 0));
    assert!(sell(&world, "goes-on", 2, 3).await.approved > 0);
    assert_books_agree(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_put_back_from_yesterday_takes_back_what_it_lost_and_goes_on() {
    let Scene { mut world, dir } = scene(10).await;
    let urls = vec![world.boxes[1].url()];
    assert!(sell_at(&world, "yesterday", urls.clone(), 5_000, 1).await.approved > 0);
    world.boxes[1].process.terminate(STOP).await.unwrap();
    let yesterday = dir.path().join("yesterday");
    copy_files(&data(&world.boxes[1]), &yesterday);
    world.boxes[1].restart().await.unwrap();
    assert!(sell_at(&world, "today", urls.clone(), 5_000, 2).await.approved > 0);
    assert_books_agree(&world).await;
    let before = journal(&world.boxes[1]);

    // The whole folder, with the mirror beside the key: the box cannot know by itself, and asks before it writes.
    world.boxes[1].process.terminate(STOP).await.unwrap();
    copy_files(&yesterday, &data(&world.boxes[1]));
    world.boxes[1].restart().await.unwrap();
    until("what was lost is taken back", BOUND, async || Ok(is_ready(&world.boxes[1].url()).await)).await.unwrap();
    let after = journal(&world.boxes[1]);
    assert!(before.sales.iter().all(|sale| after.sales.get(sale.0) == Some(sale.1)), "every sale of today is back");
    let status = box_status(&data(&world.boxes[1])).await;
    assert!(status["shut"].is_null(), "{status}");
    assert!(sell_at(&world, "goes-on", urls, 5_000, 3).await.approved > 0);
    assert_books_agree(&world).await;
    assert_everybody_has_what_he_should(&world.hub, |_| TOP_UP_FEN);
    assert_rights_agree(&world, &[&world.boxes[0], &world.boxes[1], &world.boxes[2]]).await;
    assert_eq!(notes(&world.hub, "fork"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloned_box_is_proved_fenced_and_replaced_and_its_thief_gets_no_more_than_its_rights() {
    let Scene { mut world, dir } = scene(10).await;
    let urls = vec![world.boxes[1].url()];
    assert!(sell_at(&world, "before", urls.clone(), 5_000, 1).await.approved > 0);
    assert_books_agree(&world).await;
    world.boxes[1].process.terminate(STOP).await.unwrap();
    let node = world.boxes[1].node().unwrap();
    let held: i64 = world.people.iter().map(|p| at_box(&world.boxes[1], p.person)).sum();
    let clone = dir.path().join("clone");
    copy_files(&data(&world.boxes[1]), &clone);

    // The copy runs beside the original; who of them reaches headquarters second is the fork.
    world.boxes[1].restart().await.unwrap();
    until("the original sells", BOUND, async || Ok(is_ready(&world.boxes[1].url()).await)).await.unwrap();
    assert!(sell_at(&world, "original", urls, 5_000, 2).await.approved > 0);
    assert_books_agree(&world).await;
    world.boxes[1].process.signal("STOP").await.unwrap();
    world.boxes.iter().for_each(|edge| edge.cut_wan());
    world.boxes[0].process.terminate(STOP).await.unwrap();
    let http = Port::reserve().unwrap();
    let launch = Launch::binary("yika-edge").unwrap().name("clone").arg("--data").arg(&clone);
    let serve = ["serve", "--no-mdns", "--link", "127.0.0.1:0", "--http", &http.address().to_string()];
    let mut thief = launch.args(&serve).start().await.unwrap();
    thief.wait_for_http(http.number(), "/readyz", BOUND).await.unwrap();
    let at_thief = vec![format!("http://{}", http.address())];
    let stolen = sell_at(&world, "stolen", at_thief.clone(), 5_000, 3).await;
    assert!(stolen.approved > 0 && stolen.approved_fen <= held, "within the rights of the box, {held} fen: {stolen:?}");

    world.boxes.iter().for_each(|edge| edge.heal_wan());
    world.boxes[0].restart().await.unwrap();
    until("the copy stops", BOUND, async || {
        let status = box_status(&clone).await;
        Ok(status["shut"].as_str().is_some_and(|words| words.contains("another box writes with this box's key")))
    })
    .await
    .unwrap();
    until("headquarters is alarmed", BOUND, async || Ok(notes(&world.hub, "fork") > 0)).await.unwrap();
    assert_eq!(sell_at(&world, "no-more", at_thief.clone(), 500, 4).await.approved, 0);

    // An operator ends both; a fresh box takes their place.
    let fence = ["edge", "fence", &format!("n{node}"), "--reason", "stolen and copied"];
    world.hub.command(&fence).await.unwrap();
    world.boxes[1].process.signal("CONT").await.unwrap();
    until("the original is told that it is fenced", BOUND, async || {
        let status = box_status(&data(&world.boxes[1])).await;
        Ok(status.to_string().contains("fenced"))
    })
    .await
    .unwrap();
    thief.kill().await.unwrap();
    world.boxes[1].process.terminate(STOP).await.unwrap();
    let fresh = BoxProgram::join_in_place_of(Some(node), &world.hub, "c1", "east-2b", Reach::Direct, "").await.unwrap();
    assert_eq!(fresh.node().unwrap(), node, "the same number in a new life");
    let first = world.people.iter().find(|p| p.campus.0 == 1).unwrap().person;
    world.hub.command(&["top-up", &first.to_string(), "--fen", "9000", "--request", "r"]).await.unwrap();
    until("the new box has rights", BOUND, async || Ok(at_box(&fresh, first) > 0)).await.unwrap();
    let sold = sell_at(&world, "fresh", vec![fresh.url()], 8_000, 5).await;
    assert!(sold.approved > 0, "{sold:?}");
    assert_holds_everything(&world, &[&world.boxes[0], &fresh, &world.boxes[2]]).await;
    world.hub.command(&["ledger", "verify"]).await.unwrap();
    assert_everybody_has_what_he_should(&world.hub, |p| TOP_UP_FEN + if p == first { 9_000 } else { 0 });
    assert_rights_agree(&world, &[&world.boxes[0], &fresh, &world.boxes[2]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_of_a_box_that_died_for_good_comes_back_when_an_operator_says_so() {
    let Scene { mut world, dir: _dir } = scene(10).await;
    let urls = vec![world.boxes[1].url()];
    assert!(sell_at(&world, "before", urls, 5_000, 1).await.approved > 0);
    assert_books_agree(&world).await;
    let node = world.boxes[1].node().unwrap();
    let last = journal(&world.boxes[1]);
    let (at, sale) = last.sales.iter().next_back().unwrap();
    let refund = ["refund", &sale.id.to_string(), "--request", "back-1", "--reason", "fire"];
    let refused = refusal(&world.hub, &refund).await;
    assert!(refused.contains("only that box gives back"), "{refused}");
    world.boxes[1].process.kill().await.unwrap();
    std::fs::remove_dir_all(data(&world.boxes[1])).unwrap();

    let name = format!("n{node}");
    let release = ["edge", "release-suspense", &name, "--yes"];
    assert!(refusal(&world.hub, &release).await.contains("not fenced"));
    let fresh = BoxProgram::join_in_place_of(Some(node), &world.hub, "c1", "east-2b", Reach::Direct, "").await.unwrap();
    // A pool is nobody's to wait for.
    let of_dead = |who: &str| account(&world.hub, &format!("suspense/{who}/%/{}", at.0));
    let waiting = of_dead("%") - of_dead("p0");
    assert!(waiting > 0);
    let asked = refusal(&world.hub, &["edge", "release-suspense", &name]).await;
    assert!(asked.contains("--yes"), "{asked}");
    world.hub.command(&release).await.unwrap();
    assert_eq!(account(&world.hub, "loss"), -waiting, "the worst case is booked at once");
    let first = world.people.iter().find(|p| p.campus.0 == 1).unwrap().person;
    until("the new box has rights", BOUND, async || Ok(at_box(&fresh, first) > 0)).await.unwrap();
    let sold = sell_at(&world, "fresh", vec![fresh.url()], 8_000, 2).await;
    assert!(sold.approved > 0, "{sold:?}");

    // What the dead box sold is given back by headquarters alone, and once.
    let back = json(&world.hub.command(&refund).await.unwrap());
    assert_eq!((back["fen"].as_i64(), back["repeated"].as_bool()), (Some(sale.total_fen), Some(false)));
    assert_eq!(json(&world.hub.command(&refund).await.unwrap())["repeated"], true);

    // Money at boxes comes back for who wants it in his hand; the same voucher is paid once.
    let wish = ["withdraw", &first.to_string(), "--fen", "1000", "--request", "cash-1"];
    let paid = json(&world.hub.command(&wish).await.unwrap());
    let again = json(&world.hub.command(&wish).await.unwrap());
    assert_eq!((&again["left_fen"], &again["repeated"]), (&paid["left_fen"], &Value::Bool(true)));
    assert_eq!(paid["repeated"], false);
    let denied = refusal(&world.hub, &["withdraw", &first.to_string(), "--fen", "99999999", "--request", "x"]).await;
    assert!(denied.contains("balance_too_small"), "no box is blamed for what nobody has: {denied}");
    let left = Fen(paid["left_fen"].as_i64().unwrap());
    assert!(denied.contains(&format!("the balance is only {left} yuan")), "the advance counts once: {denied}");
    world.hub.command(&["top-up", &first.to_string(), "--fen", "300", "--request", "oops"]).await.unwrap();
    assert_eq!(
        json(&world.hub.command(&["top-up", "undo", "--request", "oops", "--reason", "keyed twice"]).await.unwrap()),
        paid
    );
    let pools = ["pools", "set", "--guest-fen", "600000", "--float-fen", "120000"];
    world.hub.command(&pools).await.unwrap();
    assert_eq!(json(&world.hub.command(&["pools", "show"]).await.unwrap())["guest_fen"], 600_000);
    assert!(
        refusal(&world.hub, &["pools", "set", "--guest-fen=-1", "--float-fen", "0"]).await.contains("zero or more")
    );
    assert_holds_everything(&world, &[&world.boxes[0], &fresh, &world.boxes[2]]).await;
    world.hub.command(&["ledger", "verify"]).await.unwrap();
    // What was advanced out of `loss` stands in their books beside what still waits in suspense.
    let beyond = too_much(&world.hub, |p| TOP_UP_FEN - if p == first { 1_000 } else { 0 });
    assert_eq!(beyond.values().sum::<i64>(), waiting, "{beyond:?}");
    world.stop().await.ok();
}

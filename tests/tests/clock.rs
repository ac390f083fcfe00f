//! A box whose clock shows 1970, as after a dead battery: installed with it, started with it, cut off with it, and set right
//! while it runs; and a headquarters with such a clock. What is stamped is the time of headquarters, and never goes back.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use yika_drivers::terminal::message::Decision;
use yika_hub::clock::HubClock;
use yika_store::{Options, SqliteReader};
use yika_tests::process::Launch;
use yika_tests::site::{BoxProgram, until};
use yika_tests::till::{Till, journal};
use yika_tests::world::World;

const BOUND: Duration = Duration::from_secs(60);
const WEST: usize = 2;
/// Longer than an entry takes, so that times can be told apart.
const APART: Duration = Duration::from_secs(3);
/// More than a guest may have.
const DEAR_FEN: i64 = 2_500;

/// A wall clock that only one program sees, and that can be set while it runs (`fixtures/clock.c`).
struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    async fn new(dir: &Path) -> Clock {
        let (library, file) = (dir.join("clock.so"), dir.join("clock"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/clock.c");
        let compile = Launch::program("cc").unwrap().args(&["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
        compile.arg(&library).arg(source).run(BOUND).await.unwrap();
        let clock = Clock { library, file };
        clock.set(0);
        clock
    }

    /// So many seconds ahead of the machine's; in place, since programs have it open.
    fn set(&self, ahead_s: i64) {
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&self.file).unwrap();
        file.write_all_at(&ahead_s.to_ne_bytes(), 0).unwrap();
    }

    /// The beginning of 1970.
    fn set_to_1970(&self) {
        self.set(-now_ms() / 1_000);
    }

    fn set_right(&self) {
        self.set(0);
    }

    fn shown_to(&self, launch: Launch) -> Launch {
        launch.env("LD_PRELOAD", &self.library).env("OTHER_CLOCK", &self.file)
    }

    async fn asked(&self, edge: &BoxProgram, words: &[&str]) -> String {
        let launch = Launch::binary("yika-edge").unwrap().name("asked").env("LANG", "C");
        let launch = self.shown_to(launch).arg("--data").arg(edge.dir.join("data"));
        let finished = launch.args(words).finish(BOUND).await.unwrap();
        finished.stdout + &finished.stderr
    }

    async fn start(&self, edge: &mut BoxProgram) {
        edge.process.restart_as(|launch| self.shown_to(launch)).await.unwrap();
        edge.process.wait_for_output("\"ready\":true", BOUND).await.unwrap();
    }
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The machine was switched off: its next start is another boot.
fn switched_off(edge: &BoxProgram) {
    let file = edge.dir.join("data").join("boot");
    let kept = std::fs::read_to_string(&file).unwrap();
    let (count, _) = kept.split_once(' ').unwrap();
    std::fs::write(&file, format!("{count} of-another-boot\n")).unwrap();
}

async fn sells(till: &Till, card: u64, fen: i64) -> bool {
    till.buy(card, fen).await.is_ok_and(|answer| answer.decision == Decision::Approved)
}

/// Every entry is stamped within the test, and none before the one it follows.
fn assert_stamped_since(edge: &BoxProgram, since_ms: i64) {
    let stamps: Vec<i64> = journal(edge).unwrap().into_iter().map(|entry| entry.stamp.hub_time_ms).collect();
    assert!(stamps.is_sorted(), "time went back: {stamps:?}");
    let is_now = |stamp: &i64| (since_ms..=now_ms() + 1_000).contains(stamp);
    assert!(stamps.iter().all(is_now), "the test began at {since_ms}: {stamps:?}");
}

/// Rows NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn a_box_whose_clock_is_set_to_1970_sells_by_headquarters_time_and_is_set_right_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::new(dir.path()).await;
    clock.set_to_1970();
    let since_ms = now_ms();
    let mut world = World::build(dir.path(), 8, &|_| {}).await.unwrap();
    world.lift_limits().await.unwrap();
    let cards = world.cards_of(2);
    installed_with_it(&world, &clock, dir.path()).await;

    // Started with it, headquarters in reach: the box is told the time.
    clock.start(&mut world.boxes[WEST]).await;
    let till = Till::of(&world, 0, WEST).unwrap();
    until("a sale on the holder's own money", BOUND, async || Ok(sells(&till, cards[0], DEAR_FEN).await))
        .await
        .unwrap();
    let doctor = clock.asked(&world.boxes[WEST], &["doctor"]).await;
    assert!(
        doctor.contains("[note] clock        trusted; the system clock differs by -1"),
        "the program does not see 1970: {doctor}"
    );
    assert_stamped_since(&world.boxes[WEST], since_ms);

    // Switched off and on, cut off from everybody: time runs on from the last mark, and only guests are served.
    world.boxes[WEST].process.kill().await.unwrap();
    switched_off(&world.boxes[WEST]);
    world.boxes.iter().for_each(|edge| edge.cut_wan());
    clock.start(&mut world.boxes[WEST]).await;
    assert!(sells(&till, cards[1], 500).await, "a guest's meal");
    let refused = till.buy(cards[1], DEAR_FEN).await.unwrap();
    assert_eq!(refused.reason.as_deref(), Some("no_lease"), "{refused:?}");
    let status = clock.asked(&world.boxes[WEST], &["status"]).await;
    assert!(status.contains("no trusted time since the start"), "{status}");
    // Set right by hand: the wall clock is no authority, and nothing jumps.
    clock.set_right();
    assert!(sells(&till, cards[2], 500).await);
    assert_eq!(till.buy(cards[2], DEAR_FEN).await.unwrap().decision, Decision::Refused);
    assert_stamped_since(&world.boxes[WEST], since_ms);

    world.boxes.iter().for_each(|edge| edge.heal_wan());
    until("a sale on the holder's own money", BOUND, async || Ok(sells(&till, cards[3], DEAR_FEN).await))
        .await
        .unwrap();
    // And once more wrong while it runs.
    clock.set_to_1970();
    assert!(sells(&till, cards[4], DEAR_FEN).await);
    assert_stamped_since(&world.boxes[WEST], since_ms);
    let compared = world.settle(BOUND).await.unwrap();
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    assert_eq!(compared.edges_sum_fen, compared.hub_sum_fen, "{compared:?}");
    world.stop().await.unwrap();
}

/// Dates of certificates are not looked at: a box joins whatever its clock shows, and becomes as well as any.
async fn installed_with_it(world: &World, clock: &Clock, dir: &Path) {
    let data = dir.join("fresh").join("data");
    let line = world.hub.token("c1", &[]).await.unwrap();
    let program = |name: &str| clock.shown_to(Launch::binary("yika-edge").unwrap().name(name)).arg("--data").arg(&data);
    program("init").args(&["init", "--join", &line, "--name", "east-3"]).run(BOUND).await.unwrap();
    let serve = ["serve", "--no-mdns", "--link", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let mut fresh = program("fresh").args(&serve).start().await.unwrap();
    fresh.wait_for_output("\"ready\":true", BOUND).await.unwrap();
    until("the new box is as well as any", BOUND, async || {
        let status = program("asked").args(&["status", "--json"]).finish(BOUND).await?;
        let status: serde_json::Value = serde_json::from_str(&status.stdout)?;
        Ok(status["clock_trusted"] == true && status["lease_left_ms"].as_i64().is_some_and(|left| left > 0))
    })
    .await
    .unwrap();
    assert!(fresh.terminate(BOUND).await.unwrap().success());
    // It was only here to be installed: headquarters waits for it no more.
    let listed: serde_json::Value = serde_json::from_str(&world.hub.command(&["edge", "list"]).await.unwrap()).unwrap();
    let node = listed["edges"].as_array().unwrap().iter().filter_map(|edge| edge["node"].as_u64()).max().unwrap();
    let node = format!("n{node}");
    world.hub.command(&["edge", "fence", &node, "--reason", "installed for a test"]).await.unwrap();
}

/// Headquarters tells no box a time before what it has told it: a lease that was given until then would never be over.
///
/// Rows NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn headquarters_whose_clock_is_set_to_1970_turns_no_box_back() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::new(dir.path()).await;
    clock.set_to_1970();
    let since_ms = now_ms();
    let mut world = World::build(dir.path(), 8, &|_| {}).await.unwrap();
    world.lift_limits().await.unwrap();
    let (till, cards) = (Till::of(&world, 0, WEST).unwrap(), world.cards_of(2));
    // Long after anything was said to everybody: only this box is told something.
    tokio::time::sleep(APART).await;
    world.boxes[WEST].restart().await.unwrap();
    assert!(sells(&till, cards[0], DEAR_FEN).await);
    world.settle(BOUND).await.unwrap();

    world.hub.process.kill().await.unwrap();
    let store = SqliteReader::open(world.hub.database(), &Options::default()).unwrap();
    let told_ms = HubClock::resumed(&store).unwrap().newest_ms();
    assert!(told_ms >= since_ms + i64::try_from(APART.as_millis()).unwrap());
    world.hub.process.restart_as(|launch| clock.shown_to(launch)).await.unwrap();
    world.hub.process.wait_for_output("\"ready\":true", BOUND).await.unwrap();
    let before = journal(&world.boxes[WEST]).unwrap().len();
    until("a sale on the holder's own money, told to headquarters", BOUND, async || {
        let sold = sells(&till, cards[1], DEAR_FEN).await;
        Ok(sold && journal(&world.boxes[WEST])?.len() > before)
    })
    .await
    .unwrap();
    let paid =
        world.hub.command(&["top-up", &world.people[0].person.to_string(), "--fen", "100", "--request", "x"]).await;
    assert!(paid.unwrap().contains("15100"));
    clock.set_right();
    assert!(sells(&till, cards[2], DEAR_FEN).await);
    for entry in &journal(&world.boxes[WEST]).unwrap()[before..] {
        let stamp = entry.stamp.hub_time_ms;
        assert!((told_ms..=now_ms() + 1_000).contains(&stamp), "{stamp}, the box had been told {told_ms}");
    }
    let compared = world.settle(BOUND).await.unwrap();
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    assert_eq!(compared.edges_sum_fen, compared.hub_sum_fen, "{compared:?}");
    world.stop().await.unwrap();
}

/// A date of another year, once told to boxes, would stand until that year: it is not followed by headquarters at work, and
/// headquarters does not start with it unless an operator says that it is right.
///
/// Rows NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn headquarters_whose_clock_shows_another_year_tells_it_to_no_box() {
    const TEN_YEARS_S: i64 = 10 * 365 * 86_400;
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::new(dir.path()).await;
    let since_ms = now_ms();
    let mut world = World::build(dir.path(), 8, &|_| {}).await.unwrap();
    world.lift_limits().await.unwrap();
    let (till, cards) = (Till::of(&world, 0, WEST).unwrap(), world.cards_of(2));
    let start = async |world: &mut World| {
        world.hub.process.restart_as(|launch| clock.shown_to(launch)).await.unwrap();
        world.hub.process.wait_for_output("\"ready\":true", BOUND).await
    };
    world.hub.process.terminate(BOUND).await.unwrap();
    start(&mut world).await.unwrap();

    clock.set(TEN_YEARS_S);
    until("a sale on the holder's own money", BOUND, async || Ok(sells(&till, cards[0], DEAR_FEN).await))
        .await
        .unwrap();
    world.settle(BOUND).await.unwrap();
    let launch = Launch::binary("yika-hub").unwrap().name("asked").env("LANG", "C");
    let status = launch.arg("--data").arg(&world.hub.dir).arg("status").finish(BOUND).await.unwrap();
    assert!(status.stdout.contains("clock leapt ahead"), "{}{}", status.stdout, status.stderr);
    assert_stamped_since(&world.boxes[WEST], since_ms);

    world.hub.process.terminate(BOUND).await.unwrap();
    assert!(start(&mut world).await.is_err(), "it starts with the date of another year");
    let said = world.hub.process.stderr().unwrap();
    assert!(said.contains("days after headquarters was last at work") && said.contains("--clock-is-right"), "{said}");
    assert!(sells(&till, cards[1], DEAR_FEN).await, "the canteen goes on");

    clock.set_right();
    start(&mut world).await.unwrap();
    world.settle(BOUND).await.unwrap();
    assert!(sells(&till, cards[2], DEAR_FEN).await);
    assert_stamped_since(&world.boxes[WEST], since_ms);
    world.stop().await.unwrap();
}

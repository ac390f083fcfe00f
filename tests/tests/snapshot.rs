//! Boxes that start from a snapshot, with real programs: over a thin line that breaks, killed while they fetch, and from
//! a stick with the line cut; and sticks that are of no use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::path::{Path, PathBuf};
use std::time::Duration;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::ids::{CampusId, Seq};
use yika_crdt::keys;
use yika_crdt::store::{FeedState, Read};
use yika_hub::desk::ImportReport;
use yika_store::{Options, SqliteReader};
use yika_tests::process::Launch;
use yika_tests::relay::{Direction, Faults};
use yika_tests::site::{BoxProgram, HubProgram, Reach, until};

const BOUND: Duration = Duration::from_secs(180);
/// Enough that a box is offered a snapshot, in a few chunks.
const PEOPLE: usize = 10_000;
const LATER_PEOPLE: usize = 10;
const CAMPUS: CampusId = CampusId(1);
const THIN_BYTES_PER_S: u64 = 100_000;

async fn headquarters(dir: &Path) -> HubProgram {
    let hub = HubProgram::start(dir, "总部").await.unwrap();
    for (campus, name) in [("c1", "东校区"), ("c2", "西校区")] {
        hub.command(&["campus", "put", campus, name, "--people", "10000"]).await.unwrap();
    }
    hub
}

/// Imports a file with so many people, of whom so many are new.
async fn import(hub: &HubProgram, people: usize, new: usize) {
    let bytes = yika_hub::import::demo_people(1, &["东校区"], people).unwrap();
    let path = "/v1/import?name=people.xlsx&dry_run=false&zh=false";
    let report: ImportReport = hub.ask("POST", path, bytes).await.unwrap();
    assert_eq!((report.new, report.refused), (new, 0), "{report:?}");
}

/// What a database holds of headquarters' people feed.
fn people_feed(database: &Path) -> FeedState {
    let feeds = SqliteReader::open(database, &Options::default()).unwrap().feeds().unwrap();
    let ours = |feed: &FeedId| feed.writer.node.is_hub() && feed.channel == Channel::People(CAMPUS);
    feeds.into_iter().find(|(feed, _)| ours(feed)).map(|(_, held)| held).unwrap_or_default()
}

fn persons(database: &Path) -> usize {
    SqliteReader::open(database, &Options::default()).unwrap().scan(keys::PERSONS, None, usize::MAX).unwrap().len()
}

async fn has_everybody(hub: &HubProgram, edge: &BoxProgram) {
    let whole = || Ok(people_feed(&edge.database()).end == people_feed(&hub.database()).end);
    until("everybody at the box", BOUND, async || whole()).await.unwrap();
    assert_eq!(persons(&edge.database()), persons(&hub.database()));
}

fn half_fetched(edge: &BoxProgram) -> PathBuf {
    edge.dir.join("data").join("snapshot.part")
}

async fn refusal(edge: &BoxProgram, file: &Path) -> String {
    edge.command(&["snapshot", "import", &file.to_string_lossy()]).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_fetches_over_a_line_that_breaks_and_goes_on_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let hub = headquarters(dir.path()).await;
    let mut edge = BoxProgram::join(&hub, "c1", "east-1", Reach::Direct, "").await.unwrap();
    edge.process.terminate(BOUND).await.unwrap();
    import(&hub, PEOPLE, PEOPLE).await;
    let thin = Direction { rate_bytes_per_s: THIN_BYTES_PER_S, queue_bytes: 64 << 10, ..Direction::default() };
    edge.uplink.set(Faults { down: thin, ..Faults::default() });
    edge.restart().await.unwrap();
    let grown = |than: u64| half_fetched(&edge).metadata().is_ok_and(|file| file.len() > than);
    until("the first chunk", BOUND, async || Ok(grown(128 << 10))).await.unwrap();
    assert_eq!(persons(&edge.database()), 0, "nothing of it is taken in before the whole is here");
    edge.process.kill().await.unwrap();
    edge.restart().await.unwrap();
    let begun = half_fetched(&edge).metadata().unwrap().len();
    let grown = |than: u64| half_fetched(&edge).metadata().is_ok_and(|file| file.len() > than);
    until("a further chunk", BOUND, async || Ok(grown(begun) || persons(&edge.database()) > 0)).await.unwrap();
    assert!(edge.process.stderr().unwrap().contains("going on with a half fetched snapshot"));
    edge.cut_wan();
    edge.heal_wan();
    has_everybody(&hub, &edge).await;
    // It started from the base: not one of the entries before it has come.
    let held = people_feed(&edge.database());
    assert_eq!(held.pruned, held.end.seq);
    import(&hub, PEOPLE + LATER_PEOPLE, LATER_PEOPLE).await;
    has_everybody(&hub, &edge).await;
    let now = people_feed(&edge.database());
    assert!(now.pruned == held.pruned && now.end.seq > held.end.seq, "{held:?} {now:?}");
    assert!(!half_fetched(&edge).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stick_brings_people_to_a_campus_without_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let hub = headquarters(dir.path()).await;
    let running = BoxProgram::join(&hub, "c1", "east-1", Reach::Direct, "").await.unwrap();
    let mut stopped = BoxProgram::join(&hub, "c1", "east-2", Reach::Direct, "").await.unwrap();
    let west = BoxProgram::join(&hub, "c2", "west-1", Reach::Direct, "").await.unwrap();
    // The boxes of the east may hear each other, and have nothing to tell.
    [&running, &stopped, &west].into_iter().for_each(BoxProgram::cut_wan);
    stopped.process.terminate(BOUND).await.unwrap();
    import(&hub, PEOPLE, PEOPLE).await;
    let file = dir.path().join("east.snapshot");
    let words = ["snapshot", "export", "--campus", "c1", &file.to_string_lossy()];
    let exported = hub.command(&words).await.unwrap();
    assert!(exported.contains("everyone") && exported.contains("c1"), "{exported}");

    // Of no use: damaged, cut short, of another campus, no snapshot at all. Nothing of any is taken.
    let bytes = std::fs::read(&file).unwrap();
    let bad = dir.path().join("bad.snapshot");
    for at in [0, 30, 200, bytes.len() / 2, bytes.len() - 1] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        std::fs::write(&bad, &flipped).unwrap();
        let said = refusal(&running, &bad).await;
        assert!(said.contains("snapshot"), "byte {at}: {said}");
    }
    std::fs::write(&bad, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refusal(&running, &bad).await.contains("ends too early"));
    std::fs::write(&bad, b"not a snapshot").unwrap();
    assert!(refusal(&running, &bad).await.contains("not a snapshot file"));
    assert!(refusal(&running, &dir.path().join("absent")).await.contains("No such file"));
    let said = refusal(&west, &file).await;
    assert!(said.contains("for c1"), "{said}");
    assert_eq!((persons(&running.database()), persons(&west.database())), (0, 0));

    // Into a running box, then into a stopped one, in whose import the power fails first.
    running.command(&["snapshot", "import", &file.to_string_lossy()]).await.unwrap();
    assert_eq!(persons(&running.database()), PEOPLE);
    let launch = Launch::binary("yika-edge").unwrap().name("import").arg("--data").arg(stopped.dir.join("data"));
    let mut import_by_hand = launch.args(&["snapshot", "import"]).arg(&file).start().await.unwrap();
    let some = || Ok(stopped.database().exists() && persons(&stopped.database()) > 0);
    until("some people", BOUND, async || some()).await.unwrap();
    import_by_hand.kill().await.unwrap();
    if persons(&stopped.database()) < PEOPLE {
        assert_eq!(people_feed(&stopped.database()).end.seq, Seq::ZERO, "no cursor moves before everything is here");
    }
    // The killed one may have come to its end; then the file tells nothing new.
    let again = stopped.command(&["snapshot", "import", &file.to_string_lossy()]).await;
    assert!(again.is_ok() || again.unwrap_err().to_string().contains("older than what this box has"));
    assert_eq!(persons(&stopped.database()), PEOPLE);
    stopped.restart().await.unwrap();
    assert!(refusal(&running, &file).await.contains("older than what this box has"));

    // The line is back: everything goes on from there.
    [&running, &stopped, &west].into_iter().for_each(BoxProgram::heal_wan);
    import(&hub, PEOPLE + LATER_PEOPLE, LATER_PEOPLE).await;
    for edge in [&running, &stopped, &west] {
        has_everybody(&hub, edge).await;
    }
    assert!(people_feed(&running.database()).pruned > Seq::ZERO);
}

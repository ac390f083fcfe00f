//! What boxes of one campus do for each other while headquarters is away: they level what a sale has left low, and one that
//! starts from a snapshot tells the other what is coming, so that it is not sent twice, or that it does not come after all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::path::{Path, PathBuf};
use std::time::Duration;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::Body;
use yika_crdt::ids::{CampusId, Seq};
use yika_crdt::keys;
use yika_crdt::store::{FeedState, Read};
use yika_drivers::terminal::message::Decision;
use yika_hub::desk::ImportReport;
use yika_store::{Options, SqliteReader};
use yika_tests::relay::{Direction, Faults};
use yika_tests::site::{BoxProgram, HubProgram, Reach, until};
use yika_tests::till::{Till, journal};
use yika_tests::world::World;

const BOUND: Duration = Duration::from_secs(120);
/// Enough that a box is offered a snapshot, in several chunks.
const PEOPLE: usize = 10_000;
const CAMPUS: CampusId = CampusId(1);
const THIN_BYTES_PER_S: u64 = 100_000;
const CHUNK_BYTES: u64 = 128 << 10;
/// What each of two boxes holds of everybody at first.
const SHARE_FEN: i64 = 5_000;
/// Less than a third of it.
const LEFT_FEN: i64 = 1_000;

fn cheques_taken(edge: &BoxProgram) -> usize {
    journal(edge).unwrap().into_iter().filter(|entry| matches!(entry.body, Body::Taken(_))).count()
}

/// Rows POS-3.
#[tokio::test(flavor = "multi_thread")]
async fn siblings_level_what_a_sale_left_low_while_headquarters_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 4, &|_| {}).await.unwrap();
    world.lift_limits().await.unwrap();
    let (till, cards) = (Till::of(&world, 0, 0).unwrap(), world.cards_of(1));
    world.hub.process.kill().await.unwrap();
    world.boxes.iter().for_each(BoxProgram::cut_wan);
    until("the box sees that headquarters is away", BOUND, async || {
        Ok(world.boxes[0].command(&["status", "--json"]).await?.contains("\"hub_connected\":false"))
    })
    .await
    .unwrap();
    // What is sold is there; what it leaves is low, and the sibling gives half of the difference.
    for card in &cards {
        let answer = till.buy(*card, SHARE_FEN - LEFT_FEN).await.unwrap();
        assert_eq!(answer.decision, Decision::Approved, "{answer:?}");
    }
    until("a cheque for everybody, asked for by no purchase", BOUND, async || {
        Ok(cheques_taken(&world.boxes[0]) == cards.len())
    })
    .await
    .unwrap();
    // It is this box's own: it pays with the sibling dead.
    world.boxes[1].process.kill().await.unwrap();
    for card in &cards {
        let answer = till.buy(*card, LEFT_FEN + (SHARE_FEN - LEFT_FEN) / 2).await.unwrap();
        assert_eq!(answer.decision, Decision::Approved, "{answer:?}");
    }
    world.boxes[1].restart().await.unwrap();
    world.boxes.iter().for_each(BoxProgram::heal_wan);
    world.hub.restart().await.unwrap();
    let compared = world.settle(BOUND).await.unwrap();
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    assert_eq!(compared.edges_sum_fen, compared.hub_sum_fen, "{compared:?}");
    world.stop().await.unwrap();
}

/// Two boxes of a campus; the first has everybody, the second has met nobody yet and has a thin line to headquarters.
struct Late {
    hub: HubProgram,
    first: BoxProgram,
    late: BoxProgram,
}

impl Late {
    async fn begins(dir: &Path) -> Late {
        let hub = HubProgram::start(dir, "总部").await.unwrap();
        hub.command(&["campus", "put", "c1", "东校区", "--people", "10000"]).await.unwrap();
        let mut first = BoxProgram::join(&hub, "c1", "east-1", Reach::Direct, "").await.unwrap();
        let mut late = BoxProgram::join(&hub, "c1", "east-2", Reach::Direct, "").await.unwrap();
        late.process.terminate(BOUND).await.unwrap();
        import(&hub).await;
        until("everybody at the first box", BOUND, async || {
            Ok(people_feed(&first.database()).end == people_feed(&hub.database()).end)
        })
        .await
        .unwrap();
        first.process.terminate(BOUND).await.unwrap();
        let thin = Direction { rate_bytes_per_s: THIN_BYTES_PER_S, queue_bytes: 64 << 10, ..Direction::default() };
        late.uplink.set(Faults { down: thin, ..Faults::default() });
        late.restart().await.unwrap();
        let begun = || half_fetched(&late).metadata().is_ok_and(|file| file.len() > CHUNK_BYTES);
        until("the first chunk", BOUND, async || Ok(begun())).await.unwrap();
        // The sibling comes when the late box knows what is on its way, and is told before it can send.
        first.restart().await.unwrap();
        until("the boxes meet", BOUND, async || {
            let [node, log] = [format!("peer=n{}@", late.node()?), first.process.stderr()?];
            Ok(log.lines().any(|line| line.contains(" connected") && line.contains(&node)))
        })
        .await
        .unwrap();
        Late { hub, first, late }
    }

    fn is_whole(&self) -> bool {
        people_feed(&self.late.database()).end == people_feed(&self.first.database()).end
    }
}

/// Imports everybody.
async fn import(hub: &HubProgram) {
    let bytes = yika_hub::import::demo_people(1, &["东校区"], PEOPLE).unwrap();
    let path = "/v1/import?name=people.xlsx&dry_run=false&zh=false";
    let report: ImportReport = hub.ask("POST", path, bytes).await.unwrap();
    assert_eq!((report.new, report.refused), (PEOPLE, 0), "{report:?}");
}

fn people_feed(database: &Path) -> FeedState {
    let feeds = SqliteReader::open(database, &Options::default()).unwrap().feeds().unwrap();
    let ours = |feed: &FeedId| feed.writer.node.is_hub() && feed.channel == Channel::People(CAMPUS);
    feeds.into_iter().find(|(feed, _)| ours(feed)).map(|(_, held)| held).unwrap_or_default()
}

fn persons(edge: &BoxProgram) -> usize {
    let reader = SqliteReader::open(edge.database(), &Options::default()).unwrap();
    reader.scan(keys::PERSONS, None, usize::MAX).unwrap().len()
}

fn half_fetched(edge: &BoxProgram) -> PathBuf {
    edge.dir.join("data").join("snapshot.part")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sibling_does_not_send_what_a_snapshot_brings() {
    let dir = tempfile::tempdir().unwrap();
    let site = Late::begins(dir.path()).await;
    // It takes the thin line many seconds; the sibling beside it would have sent everything by then.
    let grown = half_fetched(&site.late).metadata().map_or(0, |file| file.len());
    until("further chunks", BOUND, async || {
        let length = half_fetched(&site.late).metadata().map_or(0, |file| file.len());
        Ok(length > grown + 2 * CHUNK_BYTES || site.is_whole())
    })
    .await
    .unwrap();
    // What it had begun to say when it was told is all of it.
    let (of_it, all) = (people_feed(&site.late.database()).end.seq.0, people_feed(&site.first.database()).end.seq.0);
    assert!(site.is_whole() || of_it < all / 3, "the sibling sent {of_it} of {all} entries");
    until("everybody", BOUND, async || Ok(site.is_whole())).await.unwrap();
    let held = people_feed(&site.late.database());
    assert_eq!(held.pruned, held.end.seq, "not one of the entries before the snapshot has come");
    assert_eq!(persons(&site.late), PEOPLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sibling_sends_everything_once_headquarters_is_gone_in_the_middle_of_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = Late::begins(dir.path()).await;
    site.hub.process.kill().await.unwrap();
    until("everybody, from the sibling", BOUND, async || Ok(site.is_whole())).await.unwrap();
    assert_eq!(persons(&site.late), PEOPLE);
    assert_eq!(people_feed(&site.late.database()).pruned, Seq::ZERO, "by entries, not by the snapshot");
}

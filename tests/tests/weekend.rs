//! On Friday evening the disks of headquarters and of a campus' only box are full, and nobody comes before Monday: the
//! other campus sells through two cuts of the business day, the full box refuses in words and keeps what it has answered,
//! and when there is room again everything is booked on its day.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::time::Duration;
use yika_crdt::entry::Body;
use yika_crdt::ids::Day;
use yika_drivers::terminal::message::{Decision, SaleAnswer};
use yika_hub::control::{TopUpWish, ToppedUp};
use yika_tests::later::hub_at;
use yika_tests::site::{BoxProgram, until};
use yika_tests::small_disk::SmallDisk;
use yika_tests::till::{Till, journal};
use yika_tests::world::World;

const BOUND: Duration = Duration::from_secs(90);
const DISK_KIB: u32 = 64 << 10;
const EAST: usize = 0;
const WEST: usize = 2;
const DAY_MS: i64 = 24 * 3_600_000;
/// Campuses of the demo cut at 3 in the morning, eight hours east of Greenwich.
const CUT_MS: i64 = 19 * 3_600_000;
/// Time enough for boxes to hear of the evening before it is over.
const EVENING_MS: i64 = 12_000;
/// More than a guest may have.
const MEAL_FEN: i64 = 2_100;

/// The moment before the cut of a day that is so many days ahead.
fn evening(days: i64) -> i64 {
    let now_ms = yika_hub::clock::wall_ms();
    let first = now_ms - (now_ms - CUT_MS).rem_euclid(DAY_MS);
    first + (1 + days) * DAY_MS - EVENING_MS
}

/// Headquarters, stopped and started again when it is that late there.
async fn evening_comes(world: &mut World, days: i64) {
    assert!(world.hub.process.terminate(BOUND).await.unwrap().success(), "{}", world.hub.process.tail());
    tokio::task::block_in_place(|| hub_at(&world.hub.dir, evening(days))).unwrap();
    world.hub.restart().await.unwrap();
}

async fn sell(till: &Till, card: u64) -> SaleAnswer {
    let answer = till.buy(card, MEAL_FEN).await.unwrap();
    assert_eq!(answer.decision, Decision::Approved, "{answer:?}");
    answer
}

fn cuts(edge: &BoxProgram) -> Vec<Day> {
    let entries = journal(edge).unwrap();
    entries.into_iter().filter_map(|entry| if let Body::Cut(day) = entry.body { Some(day) } else { None }).collect()
}

/// The cut is made with the first thing that is written on the new day.
async fn day_is_cut(till: &Till, edge: &BoxProgram, card: u64, before: usize) {
    until("the day is cut", BOUND, async || {
        // Refused, and journaled all the same.
        let answer = till.buy(card, 600_000).await?;
        assert_eq!(answer.decision, Decision::Refused, "{answer:?}");
        Ok(cuts(edge).len() > before)
    })
    .await
    .unwrap();
}

async fn pay(world: &World, request: &str) -> anyhow::Result<ToppedUp> {
    let wish = TopUpWish { person: world.people[0].person, fen: 100, request: request.to_owned() };
    world.hub.ask("POST", "/v1/top-up", serde_json::to_vec(&wish)?).await
}

/// Whatever little room is left is used up.
async fn headquarters_is_full(world: &World, disk: &SmallDisk, day: &str) {
    disk.squeeze(0).unwrap();
    for n in 0..2_000 {
        if let Err(words) = pay(world, &format!("{day}-{n}")).await {
            assert!(format!("{words:#}").contains("full"), "{words:#}");
            return;
        }
    }
    panic!("the disk of headquarters did not become full");
}

/// Rows POS-1, NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn the_disks_are_full_on_friday_and_the_campus_sells_over_the_weekend() {
    let dir = tempfile::tempdir().unwrap();
    let Some(hub_disk) = SmallDisk::mount(&dir.path().join("hub"), DISK_KIB).unwrap() else { return };
    let west_disk = SmallDisk::mount(&dir.path().join("west-1").join("data"), DISK_KIB).unwrap().unwrap();
    let mut world = World::build(dir.path(), 8, &|_| {}).await.unwrap();
    world.lift_limits().await.unwrap();
    let (east, west) = (world.cards_of(1), world.cards_of(2));
    let [east_till, west_till] = [EAST, WEST].map(|edge| Till::of(&world, 0, edge).unwrap());

    // Friday evening: sales everywhere, then both disks are full.
    evening_comes(&mut world, 1).await;
    until("the boxes hear of the evening", BOUND, async || {
        let heard = |edge: &BoxProgram| -> anyhow::Result<bool> {
            Ok(journal(edge)?.last().is_some_and(|entry| entry.stamp.hub_time_ms >= evening(1)))
        };
        east_till.buy(east[0], 100).await?;
        west_till.buy(west[0], 100).await?;
        Ok(heard(&world.boxes[EAST])? && heard(&world.boxes[WEST])?)
    })
    .await
    .unwrap();
    let friday = sell(&west_till, west[1]).await;
    sell(&east_till, east[1]).await;
    headquarters_is_full(&world, &hub_disk, "friday").await;
    west_disk.squeeze(0).unwrap();
    until("the western box refuses", BOUND, async || Ok(west_till.buy(west[2], 100).await.is_err())).await.unwrap();
    let status = world.boxes[WEST].command(&["status"]).await.unwrap_err().to_string();
    assert!(status.contains("full"), "{status}");

    // Saturday: the day is cut in the east, which sells on.
    let on_friday = cuts(&world.boxes[EAST]).len();
    day_is_cut(&east_till, &world.boxes[EAST], east[0], on_friday).await;
    let saturday = sell(&east_till, east[2]).await;
    // Somebody finds a little room at headquarters and starts it again; it is Sunday before long, and full once more.
    hub_disk.relax().unwrap();
    evening_comes(&mut world, 2).await;
    until("the box of the east hears of Sunday", BOUND, async || {
        east_till.buy(east[0], 100).await?;
        Ok(journal(&world.boxes[EAST])?.last().is_some_and(|entry| entry.stamp.hub_time_ms >= evening(2)))
    })
    .await
    .unwrap();
    headquarters_is_full(&world, &hub_disk, "sunday").await;
    let on_saturday = cuts(&world.boxes[EAST]).len();
    day_is_cut(&east_till, &world.boxes[EAST], east[0], on_saturday).await;
    let sunday = sell(&east_till, east[3]).await;
    assert!(saturday.day < sunday.day && friday.day < saturday.day, "{friday:?} {saturday:?} {sunday:?}");
    assert!(west_till.buy(west[3], 100).await.is_err(), "the western disk is still full");

    // Monday: room everywhere.
    hub_disk.relax().unwrap();
    west_disk.relax().unwrap();
    until("the western box sells again", BOUND, async || {
        Ok(west_till.buy(west[4], MEAL_FEN).await.is_ok_and(|answer| answer.decision == Decision::Approved))
    })
    .await
    .unwrap();
    // It tries by itself whether the device takes writes again.
    until("headquarters takes money again", BOUND, async || Ok(pay(&world, "monday").await.is_ok())).await.unwrap();
    let compared = world.settle(BOUND).await.unwrap();
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    assert_eq!(compared.edges_sum_fen, compared.hub_sum_fen, "{compared:?}");
    let books = world.hub.command(&["ledger", "verify"]).await.unwrap();
    assert!(books.contains("\"sum_fen\":0") && books.contains("\"accounts_differing\":0"), "{books}");
    assert!(cuts(&world.boxes[EAST]).is_sorted() && cuts(&world.boxes[WEST]).is_sorted());
    world.stop().await.unwrap();
}

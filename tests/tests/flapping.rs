//! The uplink flaps: it goes away and comes back every few seconds while people eat. Selling never stops, the books meet,
//! nobody dials in a storm, and no program grows; and a box whose connection only it has lost takes its own place.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use yika_drivers::terminal::simulator::{Mix, Plan};
use yika_tests::crowd::Crowd;
use yika_tests::process::Process;
use yika_tests::site::{BoxProgram, until};
use yika_tests::till::Till;
use yika_tests::world::World;

const SETTLE: Duration = Duration::from_secs(60);
const FLAPS: usize = 5;
const FLAP: Duration = Duration::from_secs(3);
/// What a program may take more after all flaps than after the first: it holds what was not yet sent, and no more.
const GROWTH_KIB_MAX: u64 = 48 << 10;

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn resident_kib(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn memory(world: &World) -> Vec<u64> {
    let boxes = world.boxes.iter().map(|edge| &edge.process);
    boxes.chain([&world.hub.process]).map(resident_kib).collect()
}

/// How often a box has dialled headquarters in vain.
fn dialled_in_vain(edge: &BoxProgram) -> usize {
    let addr = edge.uplink.address().to_string();
    let log = edge.process.stderr().unwrap();
    log.lines().filter(|line| line.contains("not connected") && line.contains(&addr)).count()
}

/// Rows POS-1, NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn the_uplink_flaps_every_three_seconds_and_sales_never_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 60, &|_| {}).await.unwrap();
    world.lift_limits().await.unwrap();
    let seconds = (2 * FLAPS as u64 + 1) * FLAP.as_secs();
    let mix = Mix { amount_fen: (100, 400), correction: 4, reversal: 2, resend: 6, offline: 2, ..Mix::default() };
    let mut crowds = Vec::new();
    for campus in [1u16, 2] {
        let plan = Plan { mix: mix.clone(), resend_all: true, per_second: 12, ..world.plan(campus, seconds, 81) };
        crowds.push(Crowd::start(&world.dir, &format!("rush-{campus}"), &plan).await.unwrap());
    }
    let (mut phases, mut at_first) = (Vec::new(), Vec::new());
    for flap in 0..FLAPS {
        for is_cut in [true, false] {
            let since = now_ms();
            world.boxes.iter().for_each(|edge| if is_cut { edge.cut_wan() } else { edge.heal_wan() });
            tokio::time::sleep(FLAP).await;
            phases.push((since, now_ms()));
        }
        if flap == 0 {
            at_first = memory(&world);
        }
    }
    for crowd in crowds {
        let summary = crowd.finish().await.unwrap();
        assert!(summary.contradictions == 0 && summary.problems.is_empty(), "{summary:?}");
        assert_eq!((summary.unanswered, summary.left_open), (0, 0), "{summary:?}");
    }
    let compared = world.settle(SETTLE).await.unwrap();
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    assert_eq!(compared.edges_sum_fen, compared.hub_sum_fen, "{compared:?}");
    let journals = world.journals().unwrap();
    for (since, till) in phases {
        for (journals, campus) in [(&journals[..2], "east"), (&journals[2..], "west")] {
            let sold = journals.iter().flat_map(|j| j.sales.values()).filter(|s| (since..till).contains(&s.at_ms));
            assert!(sold.count() > 0, "{campus} sold nothing from {since} to {till}");
        }
    }
    for edge in &world.boxes {
        // An attempt takes seconds, and the next one waits longer: a handful for each time the line was away.
        let in_vain = dialled_in_vain(edge);
        assert!(in_vain <= 4 * FLAPS, "{}: {in_vain} attempts{}", edge.name, edge.process.tail());
    }
    for (first, last) in at_first.into_iter().zip(memory(&world)) {
        assert!(last < first + GROWTH_KIB_MAX, "{first} KiB after the first flap, {last} KiB after the last");
    }
    world.stop().await.unwrap();
}

/// Only what headquarters says is lost on the way: the box gives its connection up and dials again, while headquarters still
/// takes the old one for alive. The newer one replaces it, and nothing that was said on either is lost.
///
/// Rows NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_of_a_box_replaces_the_first_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 8, &|_| {}).await.unwrap();
    let (west, till) = (&world.boxes[2], Till::of(&world, 0, 2).unwrap());
    let cards = world.cards_of(2);
    let gives_up = |log: &str| log.lines().filter(|l| l.contains("not connected") && l.contains("idle time")).count();
    let replaced = || {
        let log = world.hub.process.stderr().unwrap();
        log.lines().filter(|line| line.contains("this box has connected again")).count()
    };
    // Which side notices first is up to the moment of the last packet: a few tries find both.
    let mut tries = 0;
    while replaced() == 0 {
        tries += 1;
        assert!(tries <= 8, "never replaced{}", world.hub.process.tail());
        let before = gives_up(&west.process.stderr().unwrap());
        west.uplink.cut_ways(false, true);
        for card in &cards {
            till.buy(*card, 100).await.unwrap();
        }
        until("the box gives the connection up", SETTLE, async || Ok(gives_up(&west.process.stderr()?) > before))
            .await
            .unwrap();
        west.uplink.heal();
        for card in &cards {
            till.buy(*card, 100).await.unwrap();
        }
        world.settle(SETTLE).await.unwrap();
    }
    // The one that is left is the one that both use: news from both sides come over it.
    let card = cards[0];
    world.hub.command(&["card", "block", &card.to_string()]).await.unwrap();
    until("the loss at the box", SETTLE, async || Ok(till.buy(card, 100).await?.reason.as_deref() == Some("blocked")))
        .await
        .unwrap();
    let compared = world.settle(SETTLE).await.unwrap();
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    assert_eq!(compared.edges_sum_fen, compared.hub_sum_fen, "{compared:?}");
    world.stop().await.unwrap();
}

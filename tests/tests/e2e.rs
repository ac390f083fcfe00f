//! The mesh as operators meet it: real programs, real QUIC, real SQLite, lines cut and programs killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::time::Duration;
use yika_drivers::terminal::simulator::{Mix, Plan};
use yika_tests::books::{Books, Journal};
use yika_tests::crowd::{Crowd, Summary};
use yika_tests::http::Client;
use yika_tests::relay::{Direction, Faults};
use yika_tests::world::{TOP_UP_FEN, World};

const SETTLE: Duration = Duration::from_secs(60);

struct Scene {
    world: World,
    _dir: tempfile::TempDir,
}

async fn scene() -> Scene {
    let dir = tempfile::Builder::new().prefix("yika-e2e-").tempdir().unwrap();
    let world = World::build(dir.path(), 40, &|_| {}).await.unwrap();
    Scene { world, _dir: dir }
}

fn busy(plan: Plan) -> Plan {
    let mix = Mix {
        fixed: 40,
        portions: 10,
        count: 5,
        amount_fen: (100, 900),
        double_tap: 4,
        correction: 4,
        reversal: 2,
        resend: 6,
        offline: 2,
    };
    Plan { mix, resend_all: true, ..plan }
}

async fn crowd(world: &World, name: &str, plan: &Plan) -> Crowd {
    Crowd::start(&world.dir, name, plan).await.unwrap()
}

/// Nobody was answered in two ways, and no terminal spoke wrongly.
fn assert_sane(summary: &Summary) {
    assert_eq!(summary.contradictions, 0, "{summary:?}");
    assert!(summary.problems.is_empty(), "{summary:?}");
    assert!(summary.approved > 0, "{summary:?}");
}

/// Journals and books agree, nothing twice.
async fn assert_books_agree(world: &World) {
    let compared = world.settle(SETTLE).await.unwrap();
    assert_eq!(compared.edges_sum_fen, compared.hub_sum_fen, "{compared:?}");
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    let books = world.hub.command(&["ledger", "verify"]).await.unwrap();
    assert!(books.contains("\"sum_fen\":0") && books.contains("\"accounts_differing\":0"), "{books}");
}

/// Rows NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn a_box_killed_in_the_rush_answers_every_id_as_before() {
    let mut scene = scene().await;
    let plan = Plan { seconds: Some(8), give_up_ms: 20_000, ..busy(scene.world.plan(1, 8, 11)) };
    let running = crowd(&scene.world, "rush", &plan).await;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        scene.world.boxes[0].process.kill().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        scene.world.boxes[0].restart().await.unwrap();
    }
    let summary = running.finish().await.unwrap();
    assert_sane(&summary);
    assert!(summary.resent > 0 && summary.retries > 0, "{summary:?}");
    assert_books_agree(&scene.world).await;
    scene.world.stop().await.unwrap();
}

/// Rows POS-1, POS-3, NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn wan_out_during_lunch_nobody_overdraws_and_the_books_meet() {
    let mut scene = scene().await;
    let world = &scene.world;
    // The same people eat on both campuses while the line is cut.
    let everybody: Vec<String> = world.people.iter().filter_map(|p| p.card).map(|c| c.to_string()).collect();
    let plan = |campus, seed| Plan { cards: everybody.clone(), ..busy(world.plan(campus, 6, seed)) };
    let dear = |plan: Plan| Plan { mix: Mix { amount_fen: (2_000, 4_000), fixed: 0, ..plan.mix.clone() }, ..plan };
    let before = [crowd(world, "east-1", &plan(1, 1)).await, crowd(world, "west-1", &plan(2, 2)).await];
    for crowd in before {
        assert_sane(&crowd.finish().await.unwrap());
    }
    world.boxes.iter().for_each(|edge| edge.cut_wan());
    let during = [crowd(world, "east-2", &dear(plan(1, 3))).await, crowd(world, "west-2", &dear(plan(2, 4))).await];
    for crowd in during {
        assert_sane(&crowd.finish().await.unwrap());
    }
    world.boxes.iter().for_each(|edge| edge.heal_wan());
    assert_books_agree(world).await;
    assert_nobody_overdraws(world);
    scene.world.stop().await.unwrap();
}

/// What rights paid for never exceeds what was paid in, person by person (facts beyond right are owed, not overdrawn).
fn assert_nobody_overdraws(world: &World) {
    let conn = rusqlite::Connection::open(world.hub.database()).unwrap();
    let sql = "SELECT coalesce(max(spent), 0) FROM (
                   SELECT person, sum(CASE WHEN debit LIKE 'right/%' AND kind = 'purchase' THEN amount
                                           WHEN credit LIKE 'right/%' AND kind = 'refund' THEN -amount ELSE 0 END) AS spent
                   FROM transfers WHERE person IS NOT NULL AND person <> 0 GROUP BY person)";
    let most: i64 = conn.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(most > 0 && most <= TOP_UP_FEN, "somebody spent {most} fen of {TOP_UP_FEN}");
    let negative: i64 = conn
        .query_row(
            "SELECT count(*) FROM accounts WHERE credits < debits AND (account LIKE 'right/%' OR account LIKE 'holder/%')",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(negative, 0, "accounts of holders below zero");
}

/// Rows POS-3, POS-5.
#[tokio::test(flavor = "multi_thread")]
async fn hub_down_for_the_whole_rush_and_killed_while_it_catches_up() {
    let mut scene = scene().await;
    scene.world.hub.process.kill().await.unwrap();
    let plans = [busy(scene.world.plan(1, 5, 21)), busy(scene.world.plan(2, 5, 22))];
    let crowds = [crowd(&scene.world, "east", &plans[0]).await, crowd(&scene.world, "west", &plans[1]).await];
    for crowd in crowds {
        assert_sane(&crowd.finish().await.unwrap());
    }
    scene.world.hub.restart().await.unwrap();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        scene.world.hub.process.kill().await.unwrap();
        scene.world.hub.restart().await.unwrap();
    }
    assert_books_agree(&scene.world).await;
    scene.world.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_loses_delays_repeats_and_reorders_and_nothing_is_lost() {
    let mut scene = scene().await;
    let bad = Direction {
        loss_ppm: 50_000,
        duplicate_ppm: 50_000,
        reorder_ppm: 100_000,
        reorder_ms: 40,
        delay_ms: 15,
        jitter_ms: 20,
        ..Direction::default()
    };
    for edge in &scene.world.boxes {
        edge.uplink.set(Faults::both(bad));
    }
    let plans = [busy(scene.world.plan(1, 6, 31)), busy(scene.world.plan(2, 6, 32))];
    let crowds = [crowd(&scene.world, "east", &plans[0]).await, crowd(&scene.world, "west", &plans[1]).await];
    for crowd in crowds {
        assert_sane(&crowd.finish().await.unwrap());
    }
    assert_books_agree(&scene.world).await;
    let dropped: u64 = scene.world.boxes.iter().map(|edge| edge.uplink.counters().dropped).sum();
    assert!(dropped > 0, "the line was not bad");
    scene.world.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tills_turn_to_the_sibling_when_their_box_dies() {
    let mut scene = scene().await;
    let plan = Plan { give_up_ms: 20_000, answer_wait_ms: 1_000, ..busy(scene.world.plan(1, 8, 41)) };
    let running = crowd(&scene.world, "rush", &plan).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.world.boxes[1].process.kill().await.unwrap();
    let summary = running.finish().await.unwrap();
    assert_sane(&summary);
    assert!(summary.fail_overs > 0, "{summary:?}");
    scene.world.boxes[1].restart().await.unwrap();
    assert_books_agree(&scene.world).await;
    scene.world.stop().await.unwrap();
}

/// Rows CRD-6, CRD-8.
#[tokio::test(flavor = "multi_thread")]
async fn a_card_reported_lost_at_headquarters_is_refused_everywhere_and_lifted_again() {
    let mut scene = scene().await;
    let world = &scene.world;
    let card = world.cards_of(1)[0];
    let one = |campus, seed| {
        let mix = Mix { amount_fen: (100, 200), ..Mix::default() };
        Plan {
            cards: vec![card.to_string()],
            per_second: 2,
            count: Some(4),
            seconds: Some(20),
            mix,
            ..world.plan(campus, 20, seed)
        }
    };
    world.hub.command(&["card", "block", &card.to_string()]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    for campus in [1, 2] {
        let summary = crowd(world, &format!("lost-{campus}"), &one(campus, 51)).await.finish().await.unwrap();
        assert_eq!(summary.approved, 0, "{summary:?}");
        assert!(summary.refused.get("blocked").is_some_and(|n| *n > 0), "{summary:?}");
    }
    world.hub.command(&["card", "lift", &card.to_string()]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let summary = crowd(world, "lifted", &one(1, 52)).await.finish().await.unwrap();
    assert!(summary.approved > 0, "{summary:?}");
    assert_books_agree(world).await;
    scene.world.stop().await.unwrap();
}

/// Rows CRD-6.
#[tokio::test(flavor = "multi_thread")]
async fn a_clerk_on_a_cut_campus_reports_a_card_lost_and_it_holds_everywhere() {
    let mut scene = scene().await;
    let world = &scene.world;
    let card = world.cards_of(1)[3];
    let tries = |campus: u16, box_: usize, seed| {
        let mix = Mix { amount_fen: (100, 200), ..Mix::default() };
        let mut plan = world.plan(campus, 20, seed);
        plan.tills.iter_mut().for_each(|till| till.edges = vec![world.boxes[box_].url()]);
        Plan { cards: vec![card.to_string()], readers: Vec::new(), per_second: 4, count: Some(2), mix, ..plan }
    };
    world.boxes.iter().for_each(|edge| edge.cut_wan());
    // Headquarters changes the same card meanwhile: it lifts whatever it knows of, which is its own report.
    for change in ["block", "lift"] {
        world.hub.command(&["card", change, &card.to_string()]).await.unwrap();
    }
    let clerk = Client::new(world.boxes[0].url());
    let login = [("login", world.operators[0].login.as_str()), ("password", world.operators[0].password.as_str())];
    let signed_in = clerk.submit("/login", "/login", &login).await.unwrap();
    assert!(clerk.follow(signed_in).await.unwrap().status.is_success());
    let on = format!("card:{card}");
    let blocked = clerk.submit("/cards", "/cards/block", &[("on", &on), ("reason", "lost")]).await.unwrap();
    assert!(blocked.status.as_u16() < 400, "{}", blocked.text());
    let here = crowd(world, "lost-here", &tries(1, 0, 71)).await.finish().await.unwrap();
    assert_eq!((here.approved, here.refused.get("blocked")), (0, Some(&2)), "{here:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sibling = crowd(world, "lost-sibling", &tries(1, 1, 72)).await.finish().await.unwrap();
    assert_eq!((sibling.approved, sibling.refused.get("blocked")), (0, Some(&2)), "{sibling:?}");
    world.boxes.iter().for_each(|edge| edge.heal_wan());
    yika_tests::site::until("the loss reaches the other campus", SETTLE, async || {
        let west = crowd(world, "lost-west", &tries(2, 2, 73)).await.finish().await?;
        Ok(west.approved == 0 && west.refused.contains_key("blocked"))
    })
    .await
    .unwrap();
    assert_books_agree(world).await;
    let told = rusqlite::Connection::open(world.hub.database()).unwrap().query_row(
        "SELECT who, object FROM audit WHERE act = 'card.block' AND origin = ?1",
        [format!("n{}", world.boxes[0].node().unwrap())],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
    );
    assert_eq!(told, Ok((world.operators[0].login.clone(), format!("card {card}"))), "in the audit of headquarters");
    scene.world.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_altered_record_shows_in_the_sums() {
    let mut scene = scene().await;
    let plan = busy(scene.world.plan(2, 2, 61));
    assert_sane(&crowd(&scene.world, "west", &plan).await.finish().await.unwrap());
    assert_books_agree(&scene.world).await;
    yika_tests::books::inject_fault(&scene.world.hub.database()).unwrap();
    let compared = scene.world.settle(SETTLE).await.unwrap();
    assert!(compared.differences > 0 && compared.edges_sum_fen != compared.hub_sum_fen, "{compared:?}");
    let sale = format!("transfers of sale n{}@1.1 #", scene.world.boxes[2].node().unwrap());
    assert!(compared.found.iter().any(|told| told.starts_with(&sale)), "{compared:?}");
    let refused = scene.world.hub.command(&["ledger", "verify"]).await.unwrap_err().to_string();
    assert!(refused.contains("accounts_differing"), "{refused}");
    let books = Books::read(&scene.world.hub.database()).unwrap();
    let journal = Journal::read(&scene.world.boxes[2].database(), scene.world.boxes[2].node().unwrap()).unwrap();
    assert_eq!(journal.sales.len(), books.sales.len());
    scene.world.stop().await.unwrap();
}

//! An upgrade takes days, and one side is always first: a headquarters or a box that speaks later protocols, played over real
//! QUIC with real keys, and real programs at the other end. Who must be upgraded is said on both sides, selling goes on, and an
//! entry of a kind that nobody here knows stops nothing that comes after it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::sync::Arc;
use std::time::Duration;
use yika_crdt::channel::{Channel, Class, FeedId};
use yika_crdt::entry::{AlarmRecord, Body, Entry, KIND_NEWEST, Stamp};
use yika_crdt::feed::{self, Run, SignedHead};
use yika_crdt::ids::NodeId;
use yika_crdt::store::Read;
use yika_crdt::sync::Message;
use yika_crdt::wire;
use yika_drivers::terminal::message::Decision;
use yika_edge::identity::Identity;
use yika_hub::identity::HubIdentity;
use yika_link::{Admission, Expected, Link, LinkConfig, Protocols};
use yika_store::{Options, SqliteReader};
use yika_tests::process::Launch;
use yika_tests::site::{BoxProgram, until};
use yika_tests::till::Till;
use yika_tests::world::World;

const BOUND: Duration = Duration::from_secs(90);
const WEST: usize = 2;
/// A version that still speaks with this one.
const NEXT: Protocols = Protocols { min: 1, max: 2 };
/// One that does not any more.
const AFTER_NEXT: Protocols = Protocols { min: 2, max: 3 };
/// A kind of entry that this build does not know.
const KIND_OF_TOMORROW: u32 = 200;
/// While one side refuses the other, nobody dials more often than this in the time the test looks on.
const LOOKED_ON: Duration = Duration::from_secs(8);
const DIALS_MAX: usize = 12;

/// The address is free a moment after who had it has ended.
async fn plays_hub(world: &World, protocols: Protocols) -> Link {
    let identity = HubIdentity::load(&world.hub.dir).unwrap();
    let mut bound = None;
    until("the address of headquarters", BOUND, async || {
        bound = Link::bind_speaking(config_of_hub(world, &identity), protocols).ok();
        Ok(bound.is_some())
    })
    .await
    .unwrap();
    bound.unwrap()
}

fn config_of_hub(world: &World, identity: &HubIdentity) -> LinkConfig {
    LinkConfig {
        bind: world.hub.link_address(),
        key: identity.key.clone(),
        certificate_der: identity.certificate_der.clone(),
        ca_der: identity.authority.certificate_der().to_vec(),
        keys: identity.endpoint_keys.clone(),
        software: "yika-hub of tomorrow".into(),
        admission: Arc::new(|_| Admission::Admit),
        join: None,
        clock_s: None,
    }
}

fn plays_box(identity: &Identity, protocols: Protocols) -> Link {
    let config = LinkConfig {
        bind: "127.0.0.1:0".parse().unwrap(),
        key: identity.key.clone(),
        certificate_der: identity.certificate_der.clone(),
        ca_der: identity.ca_der.clone(),
        keys: identity.endpoint_keys.clone(),
        software: "yika-edge of tomorrow".into(),
        admission: Arc::new(|_| Admission::Admit),
        join: None,
        clock_s: None,
    };
    Link::bind_speaking(config, protocols).unwrap()
}

async fn status(edge: &BoxProgram) -> String {
    let launch = Launch::binary("yika-edge").unwrap().name("asked").env("LANG", "C");
    launch.arg("--data").arg(edge.dir.join("data")).arg("status").finish(BOUND).await.unwrap().stdout
}

async fn assert_sells(till: &Till, card: u64) {
    let answer = till.buy(card, 100).await.unwrap();
    assert_eq!(answer.decision, Decision::Approved, "{answer:?}");
}

fn refusals(edge: &BoxProgram) -> usize {
    edge.process.stderr().unwrap().lines().filter(|line| line.contains("upgrade the edge box first")).count()
}

async fn assert_books_agree(world: &World) {
    let compared = world.settle(BOUND).await.unwrap();
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    assert_eq!(compared.edges_sum_fen, compared.hub_sum_fen, "{compared:?}");
}

/// Rows NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn upgrade_headquarters_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 8, &|_| {}).await.unwrap();
    world.lift_limits().await.unwrap();
    let (till, cards) = (Till::of(&world, 0, WEST).unwrap(), world.cards_of(2));
    world.hub.process.terminate(BOUND).await.unwrap();
    {
        let hub = plays_hub(&world, AFTER_NEXT).await;
        let west = &world.boxes[WEST];
        until("the box says who is to be upgraded", BOUND, async || {
            Ok(status(west).await.contains("upgrade the edge box first"))
        })
        .await
        .unwrap();
        let before = refusals(west);
        tokio::time::sleep(LOOKED_ON).await;
        assert!(refusals(west) - before <= DIALS_MAX, "a storm: {}", west.process.tail());
        assert_sells(&till, cards[0]).await;
        hub.shutdown("the next version comes").await;
    }
    // A version later that still speaks with today's boxes: they agree on what both speak.
    let hub = plays_hub(&world, NEXT).await;
    let peer = tokio::time::timeout(BOUND, hub.accept()).await.unwrap().unwrap();
    assert_eq!(peer.protocol(), Protocols::SPOKEN.max);
    assert_sells(&till, cards[1]).await;
    hub.shutdown("back to the version of today").await;
    drop((peer, hub));
    world.hub.restart().await.unwrap();
    assert_books_agree(&world).await;
    world.stop().await.unwrap();
}

/// A run of two entries on a box's journal: of a kind that is not known here, and an alarm after it.
fn of_tomorrow(edge: &BoxProgram, identity: &Identity) -> Run {
    let feed = FeedId { writer: identity.me, channel: Channel::Journal };
    let held = SqliteReader::open(edge.database(), &Options::default()).unwrap().feed(&feed).unwrap().end;
    let mut unknown = wire::encode(&Stamp::default());
    unknown.extend(wire::encode(&KIND_OF_TOMORROW));
    unknown.extend(b"what it says");
    assert!(Entry::decode(&unknown).is_err());
    let alarm = Body::Alarm(AlarmRecord { kind: "after_it".into(), detail: "comes after it".into() });
    let known = Entry { stamp: Stamp::default(), body: alarm }.encode();
    let end = feed::link(&feed, feed::link(&feed, held, &unknown), &known);
    Run { from: held.seq.next(), entries: vec![unknown, known], head: SignedHead::sign(feed, end, &identity.key) }
}

async fn hub_says(world: &World) -> String {
    let launch = Launch::binary("yika-hub").unwrap().name("asked").env("LC_ALL", "C");
    launch.arg("--data").arg(&world.hub.dir).arg("status").finish(BOUND).await.unwrap().stdout
}

fn notes(world: &World, word: &str) -> i64 {
    let conn = rusqlite::Connection::open(world.hub.database()).unwrap();
    conn.query_row("SELECT count(*) FROM notes WHERE word = ?1", [word], |row| row.get(0)).unwrap()
}

/// Rows NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn upgrade_edge_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 8, &|_| {}).await.unwrap();
    world.lift_limits().await.unwrap();
    let (till, cards) = (Till::of(&world, 0, WEST).unwrap(), world.cards_of(2));
    assert_sells(&till, cards[0]).await;
    world.settle(BOUND).await.unwrap();
    world.boxes[WEST].process.terminate(BOUND).await.unwrap();
    let identity = Identity::load(&world.boxes[WEST].dir.join("data")).unwrap().unwrap();
    {
        let ahead = plays_box(&identity, AFTER_NEXT);
        let refused = ahead.dial(world.hub.link_address(), Expected::Hub).await.err().unwrap();
        assert!(refused.needs_operator() && refused.to_string().contains("upgrade the hub first"), "{refused}");
        let east = &world.boxes[0];
        let refused =
            ahead.dial(east.link_address(), Expected::Node(NodeId(east.node().unwrap()))).await.err().unwrap();
        assert!(refused.to_string().contains("upgrade the edge box that was dialled first"), "{refused}");
        until("headquarters' log says so, too", BOUND, async || {
            Ok(world.hub.process.stderr()?.contains("upgrade the hub first"))
        })
        .await
        .unwrap();
    }
    let next = plays_box(&identity, NEXT);
    let peer = next.dial(world.hub.link_address(), Expected::Hub).await.unwrap();
    assert_eq!(peer.protocol(), Protocols::SPOKEN.max);
    let hello = Message::Hello {
        writer: identity.me,
        kind_newest: KIND_NEWEST + 1,
        software: "yika-edge of tomorrow".into(),
        have: Vec::new(),
        more: false,
    };
    peer.send(Class::Control, hello.encode()).await.unwrap();
    let run = of_tomorrow(&world.boxes[WEST], &identity);
    peer.send(Class::Journal, Message::Entries(Box::new(run)).encode()).await.unwrap();
    until("what came after the unknown entry", BOUND, async || Ok(notes(&world, "after_it") == 1)).await.unwrap();
    let said = hub_says(&world).await;
    assert!(said.contains("[FAIL] 1 entry could not be used and is set aside"), "{said}");
    drop((peer, next));

    // The box is put back to today's version: it takes back what it wrote meanwhile, also what it cannot read, and sells on.
    world.boxes[WEST].restart().await.unwrap();
    until("the box sells again", BOUND, async || {
        Ok(till.buy(cards[1], 100).await.is_ok_and(|answer| answer.decision == Decision::Approved))
    })
    .await
    .unwrap();
    assert_books_agree(&world).await;
    world.stop().await.unwrap();
}

//! A box that has gone bad, as its sibling and as a box of the other campus meet it: its own keys and certificate over real
//! QUIC, and whatever it likes on the line. What is no offence is an alarm, what is one ends the connection, and nothing
//! of it moves money or stops anybody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::sync::Arc;
use std::time::Duration;
use yika_crdt::Fen;
use yika_crdt::channel::{BlockScope, Channel, Class, FeedId};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, Run, SignatureBytes, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::store::Read;
use yika_crdt::sync::{FEEDS_PER_MESSAGE_MAX, Message};
use yika_crdt::wire::FRAME_BYTES_MAX;
use yika_edge::identity::Identity;
use yika_link::{Admission, CloseCode, CloseReason, Expected, Link, LinkConfig, Peer};
use yika_store::{Options, SqliteReader};
use yika_tests::crowd::Crowd;
use yika_tests::http::Client;
use yika_tests::site::{BoxProgram, until};
use yika_tests::world::World;

const BOUND: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(60);

/// The box whose program was stopped, played by the test.
struct Bad {
    identity: Identity,
    link: Link,
}

impl Bad {
    fn takes_over(edge: &BoxProgram) -> Bad {
        let identity = Identity::load(&edge.dir.join("data")).unwrap().unwrap();
        let link = Link::bind(LinkConfig {
            bind: "127.0.0.1:0".parse().unwrap(),
            key: identity.key.clone(),
            certificate_der: identity.certificate_der.clone(),
            ca_der: identity.ca_der.clone(),
            keys: identity.endpoint_keys.clone(),
            software: "bad".into(),
            admission: Arc::new(|_| Admission::Admit),
            join: None,
            clock_s: None,
        });
        Bad { identity, link: link.unwrap() }
    }

    /// A connection that has greeted.
    async fn meets(&self, victim: &BoxProgram) -> Peer {
        let node = NodeId(victim.node().unwrap());
        let peer = self.link.dial(victim.link_address(), Expected::Node(node)).await.unwrap();
        let (writer, software) = (self.identity.me, "bad".to_owned());
        let hello = Message::Hello { writer, kind_newest: KIND_NEWEST, software, have: Vec::new(), more: false };
        peer.send(Class::Control, hello.encode()).await.unwrap();
        peer
    }

    /// Says one thing; how the victim ends the connection, if it does.
    async fn says(&self, victim: &BoxProgram, class: Class, bytes: Vec<u8>) -> Option<CloseReason> {
        let peer = self.meets(victim).await;
        peer.send(class, bytes).await.unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(3), async {
            while peer.recv().await.is_some() {}
            peer.closed().await
        });
        closed.await.ok()
    }

    async fn gives(&self, victim: &BoxProgram, run: Run) -> Option<CloseReason> {
        self.says(victim, run.head.feed.channel.class(), Message::Entries(Box::new(run)).encode()).await
    }

    fn feed(&self, channel: Channel) -> FeedId {
        FeedId { writer: self.identity.me, channel }
    }

    /// The next entry of a feed as the box left it, signed by its key.
    fn next(&self, edge: &BoxProgram, feed: FeedId, body: Body) -> Run {
        let held = SqliteReader::open(edge.database(), &Options::default()).unwrap().feed(&feed).unwrap().end;
        self.after(held, feed, body)
    }

    fn after(&self, held: End, feed: FeedId, body: Body) -> Run {
        let entry = Entry { stamp: Stamp::default(), body }.encode();
        let end = feed::link(&feed, held, &entry);
        Run { from: held.seq.next(), entries: vec![entry], head: SignedHead::sign(feed, end, &self.identity.key) }
    }
}

fn end_at(edge: &BoxProgram, feed: FeedId) -> End {
    SqliteReader::open(edge.database(), &Options::default()).unwrap().feed(&feed).unwrap().end
}

fn alarms(edge: &BoxProgram) -> Vec<AlarmRecord> {
    let reader = SqliteReader::open(edge.database(), &Options::default()).unwrap();
    let node = edge.node().unwrap();
    let feeds = reader.feeds().unwrap().into_iter().map(|(feed, _)| feed);
    let own = feeds.filter(|feed| feed.writer.node.0 == node && feed.channel == Channel::Journal);
    let entries = own.flat_map(|feed| reader.entries(&feed, Seq(1), usize::MAX).unwrap());
    let alarm = |entry: Vec<u8>| match Entry::decode(&entry).unwrap().body {
        Body::Alarm(alarm) => Some(alarm),
        _ => None,
    };
    entries.filter_map(alarm).collect()
}

fn is_offence(closed: &Option<CloseReason>) -> bool {
    is_closed_with(closed, CloseCode::PROTOCOL)
}

fn is_closed_with(closed: &Option<CloseReason>, expected: CloseCode) -> bool {
    matches!(closed, Some(CloseReason::ByPeer { code, .. }) if *code == expected)
}

fn block(card: u64) -> Body {
    let target = BlockTarget::Card(CardNumber(card));
    Body::Block(BlockRecord { target, reason: BlockReason::Lost, operator: OperatorId(1) })
}

fn grant(person: u64, basis: Option<Box<Statement>>) -> Body {
    let row = Row { person: PersonId(person), wallet: WalletKey::Main };
    Body::Grant(GrantRecord { row, total: Fen(1_000_000), last_day: None, basis, lease: None })
}

/// Frames that are none, and frames with more in them than a frame may have.
async fn malformed_frames_end_the_connection(bad: &Bad, victim: &BoxProgram) {
    let me = bad.identity.me;
    let marks = (0..FEEDS_PER_MESSAGE_MAX as u32 + 1).map(|n| {
        let writer = Writer { node: NodeId(n), ..me };
        (FeedId { writer, channel: Channel::Journal }, Seq(1))
    });
    let mut cut = Message::Entries(Box::new(bad.after(End::default(), bad.feed(Channel::Journal), block(1)))).encode();
    cut.truncate(cut.len() / 2);
    let far_too_many = Message::Stored(marks.collect()).encode();
    for (what, bytes) in [("noise", vec![0xA5; 4_096]), ("half a run", cut), ("too many marks", far_too_many)] {
        let closed = bad.says(victim, Class::Control, bytes).await;
        assert!(is_offence(&closed), "{what}: {closed:?}");
    }
    // More than a frame may hold does not even leave honest code; raw bytes are for the tests of the link.
    let feed = bad.feed(Channel::Blocks(BlockScope::Campus(bad.identity.campus)));
    let one = Entry { stamp: Stamp::default(), body: block(1) }.encode();
    let entries = vec![one; 200_000];
    let end = entries.iter().fold(End::default(), |end, entry| feed::link(&feed, end, entry));
    let run = Run { from: Seq(1), entries, head: SignedHead::sign(feed, end, &bad.identity.key) };
    let bytes = Message::Entries(Box::new(run)).encode();
    let peer = bad.meets(victim).await;
    assert!(bytes.len() > FRAME_BYTES_MAX && peer.send(Class::Blocks, bytes).await.is_err());
}

/// What others wrote, or would have had to write.
async fn forged_feeds_are_refused(bad: &Bad, victim: &BoxProgram, other_campus: CampusId) {
    let hub = Writer { node: NodeId::HUB, incarnation: Incarnation { generation: 1, counter: 1 } };
    let registry = FeedId { writer: hub, channel: Channel::Registry };
    let held = end_at(victim, registry);
    assert!(held.seq > Seq::ZERO);
    let fence = Body::Campus(CampusRecord {
        campus: CampusId(99),
        name: "nowhere".into(),
        utc_offset_minutes: 480,
        cut_minute: 180,
        people_shards: 4,
    });
    let receiver = victim_life(victim);
    let own_blocks = bad.feed(Channel::Blocks(BlockScope::Campus(bad.identity.campus)));
    let their_blocks = bad.feed(Channel::Blocks(BlockScope::Campus(other_campus)));
    let from_hub = FeedId { writer: hub, channel: Channel::Rights(receiver) };
    let unknown = FeedId { writer: Writer { node: NodeId(77), ..bad.identity.me }, channel: Channel::Journal };
    for (what, feed, body, code) in [
        ("not signed", own_blocks, block(1), CloseCode::PROTOCOL),
        ("the registry", registry, fence, CloseCode::PROTOCOL),
        ("headquarters' rights", from_hub, grant(1, None), CloseCode::PROTOCOL),
        ("another campus' blocks", their_blocks, block(2), CloseCode::PROTOCOL),
        // A box that has just been enrolled looks the same until the registry has come.
        ("nobody's journal", unknown, Body::Cut(Day(1)), CloseCode::UNAVAILABLE),
    ] {
        // Headquarters goes on writing: where it was quicker, the forged run stands before what is held, and is none.
        for attempt in 1.. {
            let before = end_at(victim, feed);
            let mut run = bad.after(before, feed, body.clone());
            if what == "not signed" {
                run.head.signature = SignatureBytes([0; 64]);
            }
            let forged = run.head.end;
            let closed = bad.gives(victim, run).await;
            let after = end_at(victim, feed);
            assert_ne!(after, forged, "{what} was stored");
            if after == before {
                assert!(is_closed_with(&closed, code), "{what}: {closed:?}");
                break;
            }
            assert!(feed.writer.node.is_hub() && attempt < 5, "{what}: {closed:?}, {before:?} became {after:?}");
        }
    }
}

fn victim_life(victim: &BoxProgram) -> Writer {
    Identity::load(&victim.dir.join("data")).unwrap().unwrap().me
}

/// A cheque that nobody at headquarters vouches for: taken in as what it is, worth nothing.
async fn a_forged_cheque_is_worth_nothing(bad: &Bad, edge: &BoxProgram, victim: &BoxProgram) {
    let receiver = victim_life(victim);
    let feed = bad.feed(Channel::Rights(receiver));
    let row = Row { person: PersonId(1), wallet: WalletKey::Main };
    let words = (bad.identity.me, row, Fen(1_000_000), Fen::ZERO, 1_i64);
    let signature = feed::sign("statement", &words, &bad.identity.key);
    let statement = Statement {
        replica: bad.identity.me,
        row,
        remaining: Fen(1_000_000),
        taken_in: Fen::ZERO,
        hub_time_ms: 1,
        signature,
    };
    let right = |edge: &BoxProgram| {
        let reader = SqliteReader::open(edge.database(), &Options::default()).unwrap();
        let rights = yika_crdt::sale::rights_of(&yika_crdt::store::Tx::new(&reader), row).unwrap();
        rights.rows.get(&row.wallet).map(|row| row.right().unwrap())
    };
    let before = right(victim);
    let run = bad.next(edge, feed, grant(1, Some(Box::new(statement))));
    let end = run.head.end;
    let _ = bad.gives(victim, run.clone()).await;
    until("the cheque is stored", BOUND, async || Ok(end_at(victim, feed) == end)).await.unwrap();
    assert_eq!(right(victim), before, "money came from nowhere");
    // And the other branch of the same feed: two signed heads prove the fork.
    let other = bad.next(edge, feed, grant(2, None));
    assert_eq!(other.head.end.seq, end.seq);
    let _ = bad.gives(victim, other).await;
    until("the fork is told", BOUND, async || Ok(alarms(victim).iter().any(|alarm| alarm.kind.contains("fork"))))
        .await
        .unwrap();
    assert_eq!(end_at(victim, feed), end, "what was stored first stays");
    let run = bad.after(end, feed, grant(1, None));
    let _ = bad.gives(victim, run).await;
    assert_eq!(right(victim), before, "a writer that has forked gives nothing any more");
}

async fn goes_on_selling(world: &World, at: usize, campus: u16, name: &str) {
    let mut plan = world.plan(campus, 2, 3);
    plan.tills.iter_mut().for_each(|till| till.edges = vec![world.boxes[at].url()]);
    plan.readers.clear();
    plan.swipes_per_second = 0;
    let summary = Crowd::start(&world.dir, name, &plan).await.unwrap().finish().await.unwrap();
    assert!(summary.approved > 0 && summary.problems.is_empty() && summary.contradictions == 0, "{summary:?}");
    let ready = Client::new(world.boxes[at].url()).get("/readyz").await.unwrap();
    assert_eq!(ready.status.as_u16(), 200, "{}", ready.text());
}

/// `bad` is stopped and plays against `victim`; then it is itself again, and the books agree.
async fn play(bad: usize, victim: usize, campus_of_victim: u16) {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::build(dir.path(), 8, &|_| {}).await.unwrap();
    assert!(world.boxes[bad].process.terminate(BOUND).await.unwrap().success());
    let (impostor, other) = (Bad::takes_over(&world.boxes[bad]), CampusId(if bad == 2 { 1 } else { 2 }));
    malformed_frames_end_the_connection(&impostor, &world.boxes[victim]).await;
    forged_feeds_are_refused(&impostor, &world.boxes[victim], other).await;
    goes_on_selling(&world, victim, campus_of_victim, "insulted").await;
    // Nothing of that is held against the box once it behaves.
    drop(impostor);
    world.boxes[bad].restart().await.unwrap();
    let connected = format!("peer={}", victim_life(&world.boxes[bad]));
    until("they meet again", SETTLE, async || {
        let log = world.boxes[victim].process.stderr()?;
        let last = log.lines().rfind(|line| line.contains(&connected) && line.contains("connected"));
        Ok(last.is_some_and(|line| !line.contains("disconnected")))
    })
    .await
    .unwrap();
    let compared = world.settle(SETTLE).await.unwrap();
    assert_eq!((compared.differences, compared.duplicates), (0, 0), "{compared:?}");
    assert_eq!(compared.edges_sum_fen, compared.hub_sum_fen, "{compared:?}");
    // Last, what cannot be undone.
    assert!(world.boxes[bad].process.terminate(BOUND).await.unwrap().success());
    let impostor = Bad::takes_over(&world.boxes[bad]);
    a_forged_cheque_is_worth_nothing(&impostor, &world.boxes[bad], &world.boxes[victim]).await;
    goes_on_selling(&world, victim, campus_of_victim, "cheated").await;
    let books = world.hub.command(&["ledger", "verify"]).await.unwrap();
    assert!(books.contains("\"sum_fen\":0") && books.contains("\"accounts_differing\":0"), "{books}");
    drop(impostor);
    world.boxes[victim].process.terminate(BOUND).await.unwrap();
    world.hub.process.terminate(BOUND).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_sibling_is_refused_and_nobody_stops() {
    play(1, 0, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_box_of_another_campus_is_refused_and_nobody_stops() {
    play(0, 2, 2).await;
}

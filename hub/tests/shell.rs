//! What the running hub does around its core: greetings reach it, what it learns reaches boxes, and its view of the registry
//! follows. Faults here are not seen by harness and simulator, which have shells of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod site;

use ed25519_dalek::SigningKey;
use site::Site;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::sync::Claim;
use yika_hub::core::Command;
use yika_hub::link::follow_registry;
use yika_hub::node::HubNode;
use yika_hub::provision::{self, OFFLINE_SIGN_IN_RENEW_MS, Pace};
use yika_link::sync::{Greeting, Node};
use yika_link::{PeerIdentity, Role};

const EAST: CampusId = CampusId(1);
const BOUND: Duration = Duration::from_secs(20);

async fn a_site(dir: &std::path::Path) -> Site {
    let mut site = site::empty(dir);
    site.campuses().await;
    site.operator("east", "clerk", Some(EAST)).await;
    site.join(EAST, "east-1").await;
    site.join(EAST, "east-2").await;
    site
}

fn peer(site: &Site, at: usize) -> PeerIdentity {
    let this = &site.boxes[at];
    PeerIdentity {
        node: this.writer.node,
        incarnation: this.writer.incarnation,
        campus: Some(this.campus),
        role: Role::Edge,
        key: SigningKey::from_bytes(&[at as u8 + 50; 32]).verifying_key().to_bytes(),
        not_after_s: i64::MAX,
        expired: false,
    }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is() {
        assert!(begun.elapsed() < BOUND, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A claim of headquarters' registry beyond what it holds, signed by headquarters: a later moment of this very life.
fn of_a_later_moment(node: &HubNode) -> Claim {
    let feed = FeedId { writer: node.me(), channel: Channel::Registry };
    let seq = Seq(node.look(|store| store.feed(&feed)).unwrap().end.seq.0 + 5);
    let end = End { seq, hash: feed::digest("test", b"later") };
    Claim { feed, end, signature: Some(SignedHead::sign(feed, end, node.key()).signature) }
}

/// Rows NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_box_holds_when_it_greets_reaches_the_core_before_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let site = a_site(dir.path()).await;
    let node = &site.desk.node;
    node.hear_boxes_first();
    let order = tokio::spawn({
        let node = Arc::clone(node);
        async move { node.call(Command::Nothing).await }
    });
    assert!(node.ears().new_life.borrow().is_none());
    let greeting = Greeting { software: "test".into(), have: vec![of_a_later_moment(node)] };
    HubNode::on_greeted(node, &peer(&site, 0), greeting).await.unwrap();
    assert!(node.ears().new_life.borrow().is_some(), "it was rolled back, and knows it");
    order.await.unwrap().unwrap();
    let (feed, before) =
        (FeedId { writer: node.me(), channel: Channel::Registry }, node.ears().new_life.borrow().unwrap());
    assert!(
        before > node.me()
            && node.look(|store| store.feed(&FeedId { writer: before, ..feed })).unwrap().end.seq > Seq::ZERO
    );
}

/// A line may stay up for longer than an operator's date at the box: it is renewed all the same.
///
/// Rows ACC-13.
#[tokio::test(flavor = "multi_thread")]
async fn operators_dates_are_renewed_on_a_line_that_stays_up() {
    let dir = tempfile::tempdir().unwrap();
    let site = a_site(dir.path()).await;
    let node = &site.desk.node;
    let receipts = FeedId { writer: node.me(), channel: Channel::Receipts(site.boxes[0].writer.node) };
    let operators = || {
        let entries = node.look(|store| store.entries(&receipts, Seq(1), usize::MAX)).unwrap();
        let bodies = entries.iter().map(|bytes| Entry::decode(bytes).unwrap().body);
        bodies.filter(|body| matches!(body, Body::Operator(_))).count()
    };
    let now_ms = Arc::new(AtomicI64::new(1_800_000_000_000));
    let clock = Arc::clone(&now_ms);
    let pace = Pace { look: Duration::from_millis(5), retry: Duration::from_millis(5) };
    let keeping = provision::keep_up(Arc::clone(node), peer(&site, 0), pace, move || clock.load(Ordering::Relaxed));
    let keeping = tokio::spawn(keeping);
    until("the operator is told", || operators() == 1).await;
    now_ms.fetch_add(OFFLINE_SIGN_IN_RENEW_MS + 1, Ordering::Relaxed);
    until("his date is renewed", || operators() == 2).await;
    keeping.abort();
}

/// What changed before the view is first read, and who is admitted no more.
#[tokio::test(flavor = "multi_thread")]
async fn the_view_of_the_registry_misses_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let site = a_site(dir.path()).await;
    let node = &site.desk.node;
    let directory = node.ears().directory.subscribe();
    let fence = Command::Fence { writer: site.boxes[1].writer, reason: "lost".into() };
    node.call(fence).await.unwrap();
    let seen = || node.registry().fences.keys().copied().collect::<BTreeSet<_>>();
    assert!(seen().is_empty(), "nobody has read it yet");
    let following = tokio::spawn(follow_registry(Arc::clone(node), directory));
    until("the fence is seen", || seen().contains(&site.boxes[1].writer)).await;
    following.abort();
}

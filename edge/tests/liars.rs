//! A running box and what its siblings say: claims about its own journal, branches of theirs, questions about purchases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod terminals_hub;

use terminals_hub::*;
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::sale::{Answer, PurchaseRequest};
use yika_crdt::sync::{Claim, Message};
use yika_edge::node::EdgeNode;
use yika_link::sync::{Greeting, Node};
use yika_link::{PeerIdentity, Role};

const JOURNAL: FeedId = FeedId { writer: EDGE, channel: Channel::Journal };
const SIBLING: Writer = Writer { node: NodeId(2), incarnation: LIFE };

fn peer(writer: Writer, campus: CampusId) -> PeerIdentity {
    PeerIdentity {
        node: writer.node,
        incarnation: writer.incarnation,
        campus: Some(campus),
        role: Role::Edge,
        key: key_of(writer.node).verifying_key().to_bytes(),
        not_after_s: i64::MAX,
        expired: false,
    }
}

/// A box with a sibling that the registry lists.
async fn campus(dir: &std::path::Path) -> Campus {
    let mut campus = Campus::new(dir, 2, 5_000, 1).await;
    let key = key_of(SIBLING.node).verifying_key().to_bytes();
    let record = NodeRecord { writer: SIBLING, campus: Some(CAMPUS), key, name: "2".into(), address: None };
    campus.register(Body::Node(record)).await;
    campus
}

fn request(seq: u32) -> PurchaseRequest {
    let id = PurchaseId { terminal: TerminalId(TILL), boot: 1, seq };
    let mode = Mode::Amount(Fen(100));
    PurchaseRequest { id, card: CardNumber(FIRST_CARD + 1), mode, terminal_time_ms: 0, offline: false, tariff: None }
}

fn alarms(campus: &Campus, kind: &str) -> usize {
    let entries = campus.node.look(|store| store.entries(&JOURNAL, Seq(1), usize::MAX)).unwrap();
    let bodies = entries.iter().map(|bytes| Entry::decode(bytes).unwrap().body);
    bodies.filter(|body| matches!(body, Body::Alarm(alarm) if alarm.kind == kind)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sibling_that_claims_more_of_this_boxs_journal_does_not_stop_it() {
    let dir = tempfile::tempdir().unwrap();
    let campus = campus(dir.path()).await;
    let node = &campus.node;
    let end = End { seq: Seq(9_000), hash: feed::digest("test", b"rubbish") };
    let claim = |by: Option<NodeId>| {
        let signature = by.map(|node| SignedHead::sign(JOURNAL, end, &key_of(node)).signature);
        Claim { feed: JOURNAL, end, signature }
    };
    let sibling = peer(SIBLING, CAMPUS);
    let greeting = |claim: Claim| Greeting { software: String::new(), have: vec![claim] };
    for made_up in [claim(None), claim(Some(SIBLING.node))] {
        EdgeNode::on_greeted(node, &sibling, greeting(made_up)).await.unwrap();
        assert!(!node.takes_back(), "nothing is waited for on its word alone");
    }
    assert_eq!(alarms(&campus, "false_claim"), 1);
    EdgeNode::on_greeted(node, &sibling, greeting(claim(Some(EDGE.node)))).await.unwrap();
    assert!(node.takes_back(), "a head that this box has signed is proof");
}

fn journal_of_sibling(detail: &str) -> Run {
    let feed = FeedId { writer: SIBLING, channel: Channel::Journal };
    let body = Body::Alarm(AlarmRecord { kind: "test".into(), detail: detail.into() });
    let entry = Entry { stamp: Stamp::default(), body }.encode();
    let end = feed::link(&feed, End::default(), &entry);
    Run { from: Seq(1), entries: vec![entry], head: SignedHead::sign(feed, end, &key_of(SIBLING.node)) }
}

/// Continues one branch of the sibling's journal.
fn longer(run: &Run) -> Run {
    let feed = run.head.feed;
    let entry = Entry { stamp: Stamp::default(), body: Body::Cut(Day(1)) }.encode();
    let end = feed::link(&feed, run.head.end, &entry);
    Run {
        from: run.head.end.seq.next(),
        entries: vec![entry],
        head: SignedHead::sign(feed, end, &key_of(SIBLING.node)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_passes_a_branch_on_in_good_faith_is_not_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let campus = campus(dir.path()).await;
    let carrier = Writer { node: NodeId::HUB, incarnation: LIFE };
    let (one, other) = (journal_of_sibling("one"), journal_of_sibling("other"));
    assert!(campus.node.ingest(carrier, Box::new(one)).await.is_ok());
    let branch = longer(&other);
    assert!(campus.node.ingest(carrier, Box::new(branch.clone())).await.is_ok(), "an error ends the connection");
    let mut altered = branch;
    altered.head.signature = feed::SignatureBytes([7; 64]);
    assert!(
        campus.node.ingest(carrier, Box::new(altered)).await.is_err(),
        "what its writer has not signed is an offence"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sibling_asks_whether_a_purchase_is_answered_here() {
    let dir = tempfile::tempdir().unwrap();
    let campus = campus(dir.path()).await;
    let node = &campus.node;
    assert!(matches!(node.purchase(request(1)).await.unwrap(), Answer::Approved(_)));
    let ask = async |from: Writer, campus: CampusId, seq: u32| {
        node.on_message(&peer(from, campus), Message::Answered(request(seq).id)).await
    };
    let told = Some(Message::Deciding(request(1).id));
    assert_eq!(ask(SIBLING, CAMPUS, 1).await, told, "answered: the journal tells how, and is waited for");
    assert_eq!(ask(SIBLING, CAMPUS, 2).await, Some(Message::Unknown(request(2).id)));
    let stranger = Writer { node: NodeId(9), incarnation: LIFE };
    assert_eq!(ask(stranger, CampusId(2), 3).await, None, "only boxes of this campus are told");
    // Left to the sibling, which is not there: decided all the same.
    assert!(matches!(node.purchase(request(2)).await.unwrap(), Answer::Approved(_)));
}

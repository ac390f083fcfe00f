//! A purchase short of rights while everybody who could help is connected and says nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod terminals_hub;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use terminals_hub::*;
use yika_crdt::Fen;
use yika_crdt::channel::Channel;
use yika_crdt::entry::Mode;
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;
use yika_crdt::sale::{Answer, PurchaseRequest};
use yika_crdt::sync::Message;
use yika_edge::node::{ASK_MS_MAX, PURCHASE_WAIT_MS_MAX};
use yika_link::{Admission, Authority, EndpointKeys, Expected, Link, LinkConfig, NodeIdentity, Peer, Validity};

/// So many boxes of other campuses that asking each in turn takes twice the bound.
const SILENT: u32 = 6;
/// What a busy machine and its disk may add.
const SLACK_MS: u64 = 1_500;

fn link(authority: &Authority, identity: NodeIdentity) -> Link {
    let key = key_of(identity.node);
    let valid = Validity::days(system_ms() / 1_000, 30);
    let config = LinkConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        certificate_der: authority.issue_own(&key, identity, valid).unwrap(),
        key,
        ca_der: authority.certificate_der().to_vec(),
        keys: EndpointKeys::generate().unwrap(),
        software: "silent".into(),
        admission: Arc::new(|_| Admission::Admit),
        join: None,
        clock_s: None,
    };
    Link::bind(config).unwrap()
}

/// Live connections of this box to others that take what is said to them and never answer.
async fn silent_peers() -> (Vec<Link>, Vec<Peer>) {
    let pems = Authority::create("test", &[1; 32], 1_700_000_000).unwrap();
    let authority = Authority::load(&pems.key_pem, &pems.certificate_pem).unwrap();
    let ours = link(&authority, NodeIdentity::edge(EDGE.node, LIFE, CAMPUS));
    let (mut links, mut peers) = (Vec::new(), Vec::new());
    for node in (2..).map(NodeId).take(SILENT as usize) {
        let theirs = link(&authority, NodeIdentity::edge(node, LIFE, CampusId(2)));
        let address = theirs.local_addr().unwrap();
        let (dialled, accepted) = tokio::join!(ours.dial(address, Expected::Node(node)), theirs.accept());
        peers.extend([dialled.unwrap(), accepted.unwrap()]);
        links.push(theirs);
    }
    links.push(ours);
    (links, peers)
}

/// The first person's.
fn request(seq: u32, fen: i64) -> PurchaseRequest {
    PurchaseRequest {
        id: PurchaseId { terminal: TerminalId(TILL), boot: 1, seq },
        card: CardNumber(FIRST_CARD + 1),
        mode: Mode::Amount(Fen(fen)),
        terminal_time_ms: 0,
        offline: false,
        tariff: None,
    }
}

/// Two tills sell to one holder at once, and each asks headquarters for its own: what it grants goes to one of them, and
/// the other asks again instead of refusing.
///
/// Rows POS-3.
#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_whose_grant_went_to_another_asks_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut campus = Campus::new(dir.path(), 2, 100, 1).await;
    let pems = Authority::create("test", &[1; 32], 1_700_000_000).unwrap();
    let authority = Authority::load(&pems.key_pem, &pems.certificate_pem).unwrap();
    let ours = link(&authority, NodeIdentity::edge(EDGE.node, LIFE, CAMPUS));
    let theirs = link(&authority, NodeIdentity::hub(LIFE));
    let address = theirs.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(ours.dial(address, Expected::Node(NodeId::HUB)), theirs.accept());
    let (hub, _accepted) = (dialled.unwrap(), accepted.unwrap());
    let mut words = campus.node.connected(&hub);
    let sell = |seq, fen| {
        let node = Arc::clone(&campus.node);
        tokio::spawn(async move { node.purchase(request(seq, fen)).await.unwrap() })
    };
    let sales = [sell(1, 1_000), sell(2, 800)];
    let mut granted = 100;
    let mut asks = Vec::new();
    while asks.len() < 3 {
        let Some(Message::Ask { row, total }) = words.recv().await else { continue };
        asks.push(total.0);
        // Both have asked before either is granted; the greater total is enough for one of them only.
        if asks.len() >= 2 && total.0.max(asks[0]) > granted {
            granted = asks.iter().copied().max().unwrap();
            let body = campus.hub.grant(row.person, granted);
            let run = campus.hub.say(Channel::Rights(EDGE), vec![body]);
            campus.ingest(run).await;
        }
    }
    for sale in sales {
        let answer = sale.await.unwrap();
        assert!(matches!(answer, Answer::Approved(_)), "{answer:?}, asked {asks:?}");
    }
    assert_eq!(granted, 1_800);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_short_of_rights_is_answered_within_one_bound_however_many_are_silent() {
    assert!(u64::from(SILENT) * ASK_MS_MAX > PURCHASE_WAIT_MS_MAX + SLACK_MS);
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), 2, 5_000, 1).await;
    let (_links, peers) = silent_peers().await;
    let _words: Vec<_> = peers.iter().map(|peer| campus.node.connected(peer)).collect();
    let asked_at = Instant::now();
    let answer = campus.node.purchase(request(1, 5_001)).await.unwrap();
    let took = asked_at.elapsed();
    assert_eq!(answer, Answer::Refused(Reason::NotEnough));
    assert!(took >= Duration::from_millis(ASK_MS_MAX), "somebody was asked: {took:?}");
    assert!(took < Duration::from_millis(PURCHASE_WAIT_MS_MAX + SLACK_MS), "{took:?}");
}

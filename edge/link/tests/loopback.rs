//! Two and more real endpoints on loopback: identity, refusals, frames, priorities, restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod common;

use common::{LIFE, authority, config, edge, edge_id, hub, key_of, now_s};
use std::sync::Arc;
use std::time::{Duration, Instant};
use yika_crdt::channel::Class;
use yika_crdt::ids::{CampusId, Incarnation, NodeId};
use yika_crdt::wire::FRAME_BYTES_MAX;
use yika_link::{
    Admission, CloseCode, CloseReason, DialState, Dialer, EndpointKeys, Expected, Link, LinkError, NodeIdentity, Peer,
    Role, SendError, Target, Validity,
};
use zeroize::Zeroizing;

async fn pair(hub: &Link, edge: &Link) -> (Peer, Peer) {
    let addr = hub.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(edge.dial(addr, Expected::Hub), hub.accept());
    (dialled.unwrap(), accepted.unwrap())
}

fn words_of(error: &LinkError) -> (Option<CloseCode>, String) {
    match error {
        LinkError::Refused { reason, .. } => (reason.code(), reason.to_string()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn both_sides_know_whom_they_talk_to_and_exchange_frames() {
    let ca = authority(1);
    let (hub, edge) = (hub(&ca), edge(&ca, 7));
    let (at_edge, at_hub) = pair(&hub, &edge).await;
    assert_eq!(at_edge.identity().role, Role::Hub);
    assert_eq!(at_hub.identity().identity(), edge_id(7));
    assert_eq!(&at_hub.identity().key, key_of(7).verifying_key().as_bytes());
    assert!(!at_hub.identity().expired);
    assert_eq!(at_hub.software(), "yika test");
    for class in Class::ALL {
        at_edge.send(class, vec![7; 100]).await.unwrap();
        assert_eq!(at_hub.recv().await, Some((class, vec![7; 100])));
        at_hub.send(class, Vec::new()).await.unwrap();
        assert_eq!(at_edge.recv().await, Some((class, Vec::new())));
    }
    at_edge.send(Class::Snapshot, vec![1; FRAME_BYTES_MAX]).await.unwrap();
    assert_eq!(at_hub.recv().await.unwrap().1.len(), FRAME_BYTES_MAX);
    let counters = at_hub.counters();
    assert_eq!(counters.frames_received, 7);
    assert_eq!(counters.frames_received_bytes, (6 * 105 + FRAME_BYTES_MAX + 5) as u64);
    assert!(counters.wire_received_bytes > counters.frames_received_bytes);
    let too_long = at_edge.send(Class::Control, vec![0; FRAME_BYTES_MAX + 1]).await;
    assert!(matches!(too_long, Err(SendError::Frame(_))));
    at_hub.close(CloseCode(1_234), "到此为止");
    let by_peer = CloseReason::ByPeer { code: CloseCode(1_234), words: "到此为止".to_owned() };
    assert_eq!(at_edge.closed().await, by_peer);
    assert_eq!(at_edge.recv().await, None);
    assert!(matches!(at_hub.closed().await, CloseReason::ByUs { code: CloseCode(1_234), .. }));
    assert!(matches!(at_edge.send(Class::Control, vec![1]).await, Err(SendError::Closed(_))));
}

#[tokio::test]
async fn siblings_meet_and_a_stranger_in_their_place_is_refused() {
    let ca = authority(1);
    let (one, two) = (edge(&ca, 1), edge(&ca, 2));
    let addr = two.local_addr().unwrap();
    let (dialled, accepted) = tokio::join!(one.dial(addr, Expected::Node(NodeId(2))), two.accept());
    assert_eq!(dialled.unwrap().identity().node, NodeId(2));
    assert_eq!(accepted.unwrap().identity().node, NodeId(1));
    for expected in [Expected::Hub, Expected::Node(NodeId(3))] {
        let error = one.dial(addr, expected).await.unwrap_err();
        assert!(words_of(&error).1.contains("answered at this address"), "{error}");
        assert!(error.needs_operator());
    }
}

#[tokio::test]
async fn another_authority_is_refused_by_either_side() {
    let (ours, foreign) = (authority(1), authority(2));
    let hub = hub(&ours);
    let stranger = edge(&foreign, 7);
    let addr = hub.local_addr().unwrap();
    assert!(stranger.dial(addr, Expected::Hub).await.is_err());
    // A stranger that trusts our authority but holds a certificate of another one.
    let tls = client_tls(&ours, Some(&foreign), Arc::new(rustls::client::ClientSessionMemoryCache::new(8)));
    let refused = raw_dial(addr, tls).await;
    assert!(matches!(refused, Err(quinn::ConnectionError::ConnectionClosed(_))), "{refused:?}");
    let waited = tokio::time::timeout(Duration::from_millis(200), hub.accept()).await;
    assert!(waited.is_err(), "a stranger was accepted");
}

#[tokio::test]
async fn refusals_of_the_registry_reach_the_peer_in_words() {
    let ca = authority(1);
    let mut at_hub = config(&ca, NodeIdentity::hub(LIFE));
    at_hub.admission = Arc::new(|peer| match peer.node {
        NodeId(7) => Admission::fenced("box n7 was fenced on 2026-11-01: ask headquarters"),
        NodeId(8) => Admission::unknown("box n8 is not in the registry"),
        _ if peer.incarnation.counter < 2 => Admission::old_incarnation("enrol again"),
        _ => Admission::Admit,
    });
    let hub = Link::bind(at_hub).unwrap();
    let addr = hub.local_addr().unwrap();
    for (node, code, words) in [
        (7, CloseCode::FENCED, "fenced on 2026-11-01"),
        (8, CloseCode::UNKNOWN, "not in the registry"),
        (9, CloseCode::OLD_INCARNATION, "enrol again"),
    ] {
        let error = edge(&ca, node).dial(addr, Expected::Hub).await.unwrap_err();
        assert_eq!(words_of(&error).0, Some(code), "{error}");
        assert!(words_of(&error).1.contains(words), "{error}");
        assert!(error.needs_operator());
    }
    let newer = Incarnation { generation: 1, counter: 2 };
    let identity = NodeIdentity::edge(NodeId(9), newer, CampusId(1));
    let admitted = Link::bind(config(&ca, identity)).unwrap();
    pair(&hub, &admitted).await;
}

#[tokio::test]
async fn an_expired_certificate_is_served_and_reported_and_can_be_replaced() {
    let ca = authority(1);
    let hub = hub(&ca);
    let mut old = config(&ca, edge_id(7));
    let past = Validity { not_before_s: 1_600_000_000, not_after_s: 1_600_000_100 };
    old.certificate_der = ca.issue_own(&old.key, edge_id(7), past).unwrap();
    let edge = Link::bind(old).unwrap();
    let (at_edge, at_hub) = pair(&hub, &edge).await;
    assert!(at_hub.identity().expired);
    assert!(!at_edge.identity().expired);
    assert_eq!(at_hub.identity().not_after_s, 1_600_000_100);
    let request = yika_link::csr(&key_of(7), "box 7").unwrap();
    let valid = Validity::days(now_s(), 30);
    let key = at_hub.identity().key;
    let renewed = ca.renew(edge_id(7), &key, &request, valid).unwrap();
    edge.set_certificate(&key_of(7), &renewed, ca.certificate_der()).unwrap();
    assert!(!pair(&hub, &edge).await.1.identity().expired);
    let foreign = yika_link::csr(&key_of(8), "box 8").unwrap();
    assert!(ca.renew(edge_id(7), &key, &foreign, valid).is_err());
    // Not yet valid (this box's clock runs ahead of the hub's) is served too.
    let mut early = config(&ca, edge_id(9));
    let future = Validity { not_before_s: 4_000_000_000, not_after_s: 4_100_000_000 };
    early.certificate_der = ca.issue_own(&early.key, edge_id(9), future).unwrap();
    pair(&hub, &Link::bind(early).unwrap()).await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_with_words() {
    let ca = authority(1);
    let hub = hub(&ca);
    let tls = client_tls(&ca, None, Arc::new(rustls::client::ClientSessionMemoryCache::new(8)));
    let closed = raw_dial(hub.local_addr().unwrap(), tls).await.unwrap_err();
    let reason = format!("{closed}");
    assert!(reason.contains("enrolled first"), "{reason}");
}

#[tokio::test]
async fn garbage_and_oversize_frames_close_the_connection_with_a_code() {
    let ca = authority(1);
    let far = NodeIdentity::edge(NodeId(9), LIFE, CampusId(2));
    // A box to headquarters, to its sibling, to a box of another campus.
    for at in [hub(&ca), edge(&ca, 8), Link::bind(config(&ca, far)).unwrap()] {
        garbage_closes_the_connection(&ca, &at).await;
    }
    let hub = hub(&ca);
    let addr = hub.local_addr().unwrap();
    // A newer protocol is told who is behind.
    let newer = yika_link::Greeting { protocol_min: 9, protocol_max: 9, software: String::new() };
    let frame = yika_link::encode_frame(&newer.encode()).unwrap();
    let tls = client_tls(&ca, Some(&ca), Arc::new(rustls::client::ClientSessionMemoryCache::new(8)));
    let closed = raw_dial_with(addr, tls, &frame).await.unwrap_err();
    assert!(closed.to_string().contains("upgrade the hub first"), "{closed}");
    // The process lives on.
    pair(&hub, &edge(&ca, 7)).await;
}

async fn garbage_closes_the_connection(ca: &yika_link::Authority, at: &Link) {
    let addr = at.local_addr().unwrap();
    let long = {
        let mut bytes = u32::MAX.to_be_bytes().to_vec();
        bytes.push(1);
        bytes
    };
    for (junk, code) in [(long, CloseCode::FRAME_TOO_LONG), (vec![0, 0, 0, 1, 77, 0], CloseCode::MALFORMED)] {
        let (connection, mut control) = raw_sync(ca, addr).await;
        let accepted = at.accept().await.unwrap();
        control.0.write_all(&junk).await.unwrap();
        assert_eq!(accepted.closed().await.code(), Some(code));
        assert_eq!(accepted.recv().await, None);
        assert!(matches!(connection.closed().await, quinn::ConnectionError::ApplicationClosed(_)));
    }
    for tag in [0u8, 6, 255] {
        let (connection, _control) = raw_sync(ca, addr).await;
        let accepted = at.accept().await.unwrap();
        connection.open_uni().await.unwrap().write_all(&[tag]).await.unwrap();
        assert_eq!(accepted.closed().await.code(), Some(CloseCode::MALFORMED));
    }
    // A greeting that is none.
    let tls = client_tls(ca, Some(ca), Arc::new(rustls::client::ClientSessionMemoryCache::new(8)));
    let closed = raw_dial_with(addr, tls, &[0, 0, 0, 3, 1, 255, 255, 255]).await.unwrap_err();
    assert!(closed.to_string().contains("malformed greeting"), "{closed}");
}

#[tokio::test]
async fn random_datagrams_do_not_disturb_the_endpoint() {
    let ca = authority(1);
    let hub = hub(&ca);
    let addr = hub.local_addr().unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..2_000usize {
        let junk: Vec<u8> = (0..round % 1_300)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        socket.send_to(&junk, addr).unwrap();
    }
    pair(&hub, &edge(&ca, 7)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_overtakes_a_saturated_snapshot_stream_and_nothing_is_dropped() {
    let ca = authority(1);
    let (hub, edge) = (hub(&ca), edge(&ca, 7));
    let (at_edge, at_hub) = pair(&hub, &edge).await;
    const SNAPSHOTS: usize = 40;
    let bulk = at_edge.clone();
    let sender = tokio::spawn(async move {
        for _ in 0..SNAPSHOTS {
            bulk.send(Class::Snapshot, vec![5; FRAME_BYTES_MAX]).await.unwrap();
        }
    });
    // Nobody takes: every queue on the way fills, and the sender waits.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!sender.is_finished(), "the sender was not held back");
    let before = at_edge.counters().frames_sent;
    assert!(before < 10, "{before} MiB were buffered");
    at_edge.send(Class::Control, b"urgent".to_vec()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(at_hub.recv().await, Some((Class::Control, b"urgent".to_vec())));
    let mut snapshots = 0;
    while snapshots < SNAPSHOTS {
        let (class, payload) = at_hub.recv().await.unwrap();
        assert_eq!((class, payload.len()), (Class::Snapshot, FRAME_BYTES_MAX));
        snapshots += 1;
    }
    sender.await.unwrap();
}

#[tokio::test]
async fn a_full_connection_that_is_dropped_leaves_no_task_behind() {
    let ca = authority(1);
    let (hub, edge) = (hub(&ca), edge(&ca, 7));
    drop(pair(&hub, &edge).await);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let settled = || async {
        for _ in 0..100 {
            if edge.open_connections() + hub.open_connections() == 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                return tasks();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the connections did not end")
    };
    let before = settled().await;
    let (at_edge, at_hub) = pair(&hub, &edge).await;
    let full = async {
        loop {
            at_edge.send(Class::Snapshot, vec![0; FRAME_BYTES_MAX]).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(500), full).await.is_err());
    drop((at_edge, at_hub));
    assert_eq!(settled().await, before);
}

#[tokio::test]
async fn nothing_is_offered_to_resume() {
    let ca = authority(1);
    let hub = hub(&ca);
    let addr = hub.local_addr().unwrap();
    let store = Arc::new(Tickets::default());
    for _ in 0..2 {
        let tls = client_tls(&ca, Some(&ca), store.clone());
        let (connection, control) = raw_greeted(addr, tls).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop((control, connection));
    }
    assert_eq!(store.0.load(std::sync::atomic::Ordering::SeqCst), 0, "a ticket was issued");
}

/// Rows NFR-3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_connections_at_once() {
    let ca = Arc::new(authority(1));
    let hub = hub(&ca);
    let addr = hub.local_addr().unwrap();
    let started = Instant::now();
    let dials: Vec<_> = (1..=200u32)
        .map(|node| {
            let ca = ca.clone();
            tokio::spawn(async move {
                let edge = edge(&ca, node);
                let peer = edge.dial(addr, Expected::Hub).await.unwrap();
                peer.send(Class::Control, node.to_be_bytes().to_vec()).await.unwrap();
                assert_eq!(peer.recv().await.unwrap().1, b"ok");
                (edge, peer)
            })
        })
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    let mut peers = Vec::new();
    while seen.len() < 200 {
        let peer = hub.accept().await.unwrap();
        let node = peer.recv().await.unwrap().1;
        assert_eq!(node, peer.identity().node.0.to_be_bytes());
        peer.send(Class::Control, b"ok".to_vec()).await.unwrap();
        assert!(seen.insert(node));
        peers.push(peer);
    }
    let mut kept = Vec::new();
    for dial in dials {
        kept.push(dial.await.unwrap());
    }
    assert_eq!(hub.open_connections(), 200);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dialler_comes_back_after_shutdown_and_says_what_it_does() {
    let ca = authority(1);
    let edge = edge(&ca, 7);
    let mut at_hub = config(&ca, NodeIdentity::hub(LIFE));
    let first = Link::bind(at_hub).unwrap();
    let addr = first.local_addr().unwrap();
    let (sender, mut peers) = tokio::sync::mpsc::channel(1);
    let target = Target { addr: addr.to_string(), expected: Expected::Hub };
    let dialer = Dialer::spawn(edge, target, sender);
    let peer = peers.recv().await.unwrap();
    assert_eq!(dialer.state(), DialState::Connected);
    first.shutdown("maintenance").await;
    assert!(matches!(peer.closed().await, CloseReason::ByPeer { code: CloseCode::SHUTDOWN, .. }));
    drop(first);
    tokio::time::sleep(Duration::from_millis(300)).await;
    at_hub = config(&ca, NodeIdentity::hub(LIFE));
    at_hub.bind = addr;
    let _second = rebind(at_hub).await;
    let again = tokio::time::timeout(Duration::from_secs(8), peers.recv()).await.unwrap().unwrap();
    assert_eq!(again.identity().role, Role::Hub);
}

/// The other half of the next test: a hub in a process of its own, until it is killed.
#[tokio::test]
async fn hub_process() {
    let Ok(bind) = std::env::var("YIKA_LINK_TEST_HUB") else {
        return;
    };
    let mut at_hub = config(&authority(1), NodeIdentity::hub(LIFE));
    at_hub.bind = bind.parse().unwrap();
    at_hub.keys = EndpointKeys { reset_key: Zeroizing::new([5; 32]), connection_id_key: 99 };
    let hub = rebind(at_hub).await;
    let mut peers = Vec::new();
    while let Some(peer) = hub.accept().await {
        peers.push(peer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_and_restarted_hub_is_noticed_at_once() {
    let ca = authority(1);
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let start = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hub_process", "--nocapture"])
            .env("YIKA_LINK_TEST_HUB", free.to_string())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut hub = start();
    let edge = edge(&ca, 7);
    let peer = loop {
        if let Ok(peer) = edge.dial(free, Expected::Hub).await {
            break peer;
        }
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    hub.kill().unwrap();
    hub.wait().unwrap();
    let killed = Instant::now();
    let mut hub = start();
    let reason = peer.closed().await;
    let noticed = killed.elapsed();
    hub.kill().unwrap();
    hub.wait().unwrap();
    assert_eq!(reason, CloseReason::Reset);
    assert!(noticed < Duration::from_secs(4), "noticed after {noticed:?}");
}

/// Binds, waiting for the former owner of the port to be gone.
async fn rebind(mut at_hub: yika_link::LinkConfig) -> Link {
    for _ in 0..50 {
        let again = yika_link::LinkConfig {
            bind: at_hub.bind,
            key: at_hub.key.clone(),
            certificate_der: at_hub.certificate_der.clone(),
            ca_der: at_hub.ca_der.clone(),
            keys: at_hub.keys.clone(),
            software: at_hub.software.clone(),
            admission: at_hub.admission.clone(),
            join: at_hub.join.take(),
            clock_s: None,
        };
        if let Ok(link) = Link::bind(again) {
            return link;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the port stays taken")
}

// ---- a hand-made client, to do what ours never does ----

#[derive(Debug, Default)]
struct Tickets(std::sync::atomic::AtomicU32);

impl rustls::client::ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: rustls::pki_types::ServerName<'static>, _: rustls::NamedGroup) {}
    fn kx_hint(&self, _: &rustls::pki_types::ServerName<'_>) -> Option<rustls::NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: rustls::pki_types::ServerName<'static>, _: rustls::client::Tls12ClientSessionValue) {
    }
    fn tls12_session(&self, _: &rustls::pki_types::ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &rustls::pki_types::ServerName<'static>) {}
    fn insert_tls13_ticket(
        &self,
        _: rustls::pki_types::ServerName<'static>,
        _: rustls::client::Tls13ClientSessionValue,
    ) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
    fn take_tls13_ticket(
        &self,
        _: &rustls::pki_types::ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        None
    }
}

/// Trusts anybody: these tests look at what the hub does.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ED25519]
    }
}

fn client_tls(
    _trusted: &yika_link::Authority,
    shown: Option<&yika_link::Authority>,
    store: Arc<dyn rustls::client::ClientSessionStore>,
) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut tls = match shown {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let certificate = config(ca, edge_id(7)).certificate_der;
            let mut key = hex::decode("302e020100300506032b657004220420").unwrap();
            key.extend_from_slice(&key_of(7).to_bytes());
            let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key);
            builder.with_client_auth_cert(vec![certificate.into()], key.into()).unwrap()
        }
    };
    tls.resumption = rustls::client::Resumption::store(store);
    tls.alpn_protocols = vec![b"yika-sync/1".to_vec()];
    tls
}

async fn raw_connect(
    addr: std::net::SocketAddr,
    tls: rustls::ClientConfig,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    endpoint.connect_with(config, addr, "yika.invalid").unwrap().await
}

/// Dials, sends a first frame of the test's choice, and returns how the hub ended it.
async fn raw_dial_with(
    addr: std::net::SocketAddr,
    tls: rustls::ClientConfig,
    first: &[u8],
) -> Result<(), quinn::ConnectionError> {
    let connection = raw_connect(addr, tls).await?;
    let mut control = connection.open_bi().await?;
    let _ = control.0.write_all(first).await;
    Err(connection.closed().await)
}

async fn raw_dial(addr: std::net::SocketAddr, tls: rustls::ClientConfig) -> Result<(), quinn::ConnectionError> {
    let greeting = yika_link::encode_frame(&yika_link::Greeting::ours("raw").encode()).unwrap();
    raw_dial_with(addr, tls, &greeting).await
}

type Control = (quinn::SendStream, quinn::RecvStream);

async fn raw_greeted(addr: std::net::SocketAddr, tls: rustls::ClientConfig) -> (quinn::Connection, Control) {
    let connection = raw_connect(addr, tls).await.unwrap();
    let mut control = connection.open_bi().await.unwrap();
    let greeting = yika_link::encode_frame(&yika_link::Greeting::ours("raw").encode()).unwrap();
    control.0.write_all(&greeting).await.unwrap();
    let mut header = [0; 5];
    control.1.read_exact(&mut header).await.unwrap();
    (connection, control)
}

async fn raw_sync(ca: &yika_link::Authority, addr: std::net::SocketAddr) -> (quinn::Connection, Control) {
    let tls = client_tls(ca, Some(ca), Arc::new(rustls::client::ClientSessionMemoryCache::new(8)));
    raw_greeted(addr, tls).await
}

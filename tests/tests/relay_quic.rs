//! QUIC, as hub and edges speak it, through a relay that loses, doubles, delays and reorders, and through a cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Connection, Endpoint, ServerConfig};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::time::timeout;
use yika_tests::relay::{Direction, Faults, Relay};

const BOUND: Duration = Duration::from_secs(30);
const MESSAGE_BYTES: usize = 20_000;

/// A server that sends every stream back, and a client that trusts it.
fn endpoints() -> (SocketAddr, Endpoint, Endpoint) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert);
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::with_single_cert(vec![certificate.clone()], key.into()).unwrap();
    let server = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                while let Ok((mut answer, mut question)) = connection.accept_bi().await {
                    tokio::spawn(async move {
                        let bytes = question.read_to_end(MESSAGE_BYTES).await.unwrap();
                        answer.write_all(&bytes).await.unwrap();
                        answer.finish().unwrap();
                    });
                }
            });
        }
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    client.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots)).unwrap());
    (server.local_addr().unwrap(), server, client)
}

async fn echo(connection: &Connection, n: u32) -> bool {
    let sent: Vec<u8> = (0..MESSAGE_BYTES as u32).map(|i| (i.wrapping_mul(n + 7) >> 3) as u8).collect();
    let (mut question, mut answer) = connection.open_bi().await.unwrap();
    question.write_all(&sent).await.unwrap();
    question.finish().unwrap();
    answer.read_to_end(MESSAGE_BYTES).await.unwrap() == sent
}

#[tokio::test]
async fn quic_comes_through_loss_doubling_and_disorder() {
    let (address, _server, client) = endpoints();
    let relay = Relay::start(0, address, 11).await.unwrap();
    relay.set(Faults::both(Direction {
        loss_ppm: 50_000,
        duplicate_ppm: 50_000,
        reorder_ppm: 100_000,
        reorder_ms: 15,
        delay_ms: 2,
        jitter_ms: 3,
        ..Direction::default()
    }));
    let all = async {
        let connection = client.connect(relay.address(), "localhost").unwrap().await.unwrap();
        for n in 0..10 {
            assert!(echo(&connection, n).await, "message {n} came back changed");
        }
        connection
    };
    let connection = timeout(BOUND, all).await.unwrap();
    let counters = relay.counters();
    assert!(counters.dropped > 5 && counters.duplicated > 5 && counters.reordered > 10, "{counters:?}");
    assert!(counters.bytes > 20 * MESSAGE_BYTES as u64, "{counters:?}");
    assert!(connection.stats().path.lost_packets > 0);
}

#[tokio::test]
async fn a_cut_stops_quic_until_it_is_healed() {
    let (address, _server, client) = endpoints();
    let relay = Relay::start(0, address, 12).await.unwrap();
    let connection = timeout(BOUND, client.connect(relay.address(), "localhost").unwrap()).await.unwrap().unwrap();
    assert!(timeout(BOUND, echo(&connection, 1)).await.unwrap());
    relay.cut();
    let before = relay.counters();
    let mut waiting = std::pin::pin!(echo(&connection, 2));
    assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err());
    let during = relay.counters();
    assert!(during.forwarded == before.forwarded && during.dropped > before.dropped, "{before:?} {during:?}");
    // Nor can another connect.
    let other = client.connect(relay.address(), "localhost").unwrap();
    assert!(timeout(Duration::from_millis(500), other).await.is_err());
    relay.heal();
    // The question asked during the cut is answered, on the same connection.
    assert!(timeout(BOUND, waiting).await.unwrap());
    assert!(timeout(BOUND, echo(&connection, 3)).await.unwrap());
}

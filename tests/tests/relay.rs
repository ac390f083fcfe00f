//! The relay shows each of its faults on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;
use yika_tests::relay::{Direction, Faults, Relay};

const PACKETS: u32 = 400;

/// Sends numbered packets one way and returns the numbers that arrived, in order.
async fn run(seed: u64, direction: Direction) -> (Vec<u32>, Relay) {
    let sink = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let relay = Relay::start(0, sink.local_addr().unwrap(), seed).await.unwrap();
    relay.set(Faults { up: direction, down: Direction::default() });
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = relay.address();
    // Sent in small bursts while the sink is read, so that no kernel buffer overflows.
    let sender = tokio::spawn(async move {
        for n in 0..PACKETS {
            client.send_to(&n.to_le_bytes(), address).await.unwrap();
            if n % 16 == 15 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    let mut got = Vec::new();
    let mut buffer = [0; 4];
    while timeout(Duration::from_millis(300), sink.recv(&mut buffer)).await.is_ok_and(|r| r.is_ok()) {
        got.push(u32::from_le_bytes(buffer));
    }
    sender.await.unwrap();
    (got, relay)
}

#[tokio::test]
async fn a_perfect_link_keeps_everything_in_order() {
    let (got, relay) = run(1, Direction { delay_ms: 5, jitter_ms: 5, ..Direction::default() }).await;
    assert_eq!(got, (0..PACKETS).collect::<Vec<_>>());
    assert_eq!(relay.counters().bytes, u64::from(PACKETS) * 4);
}

#[tokio::test]
async fn the_seed_decides_what_is_lost_and_doubled() {
    let faults = Direction { loss_ppm: 200_000, duplicate_ppm: 100_000, ..Direction::default() };
    let (first, relay) = run(7, faults).await;
    let (again, _) = run(7, faults).await;
    let (other, _) = run(8, faults).await;
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert!(relay.counters().dropped > 40 && relay.counters().duplicated > 15, "{:?}", relay.counters());
}

#[tokio::test]
async fn reordering_and_the_rate_limit_show() {
    let (got, relay) = run(3, Direction { reorder_ppm: 100_000, reorder_ms: 20, ..Direction::default() }).await;
    assert_eq!(got.len(), PACKETS as usize);
    assert!(!got.is_sorted() && relay.counters().reordered > 0);
    let (got, relay) = run(3, Direction { rate_bytes_per_s: 4_000, queue_bytes: 400, ..Direction::default() }).await;
    assert!(got.len() >= 100 && relay.counters().dropped > 0, "{:?}", relay.counters());
}

#[tokio::test]
async fn a_cut_stops_answers_and_healing_brings_them_back() {
    let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let relay = Relay::start(0, echo.local_addr().unwrap(), 1).await.unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(relay.address()).await.unwrap();
    let mut buffer = [0; 8];
    relay.cut();
    client.send(b"lost").await.unwrap();
    assert!(timeout(Duration::from_millis(200), echo.recv_from(&mut buffer)).await.is_err());
    relay.heal();
    client.send(b"kept").await.unwrap();
    let (n, from) = timeout(Duration::from_secs(2), echo.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..n], b"kept");
    relay.cut_ways(false, true);
    echo.send_to(b"no", from).await.unwrap();
    assert!(timeout(Duration::from_millis(200), client.recv(&mut buffer)).await.is_err());
    relay.heal();
    echo.send_to(b"yes", from).await.unwrap();
    let n = timeout(Duration::from_secs(2), client.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..n], b"yes");
}

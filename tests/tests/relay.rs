//! The relay shows each of its faults on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;
use yika_tests::process::Launch;
use yika_tests::relay::{Counters, Direction, Faults, HELD_PACKETS, Limits, Relay};

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

/// Waits until the relay has met `packets`, so that no kernel buffer overflows unseen.
async fn received(relay: &Relay, packets: u64) -> Counters {
    let wait = async {
        while relay.counters().received < packets {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(5), wait).await.unwrap();
    relay.counters()
}

#[tokio::test]
async fn held_packets_have_a_limit_and_their_room_comes_back() {
    let sink = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let limits = Limits { held_packets: 50, ..Limits::default() };
    let relay = Relay::start_within(0, sink.local_addr().unwrap(), 1, limits).await.unwrap();
    relay.set(Faults::both(Direction { delay_ms: 700, ..Direction::default() }));
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for round in 1..=2_u64 {
        for n in 0..80_u8 {
            client.send_to(&[n], relay.address()).await.unwrap();
        }
        let counters = received(&relay, round * 80).await;
        assert_eq!((counters.dropped, counters.forwarded), (round * 30, (round - 1) * 50));
        for n in 0..50 {
            let mut buffer = [0];
            timeout(Duration::from_secs(5), sink.recv(&mut buffer)).await.unwrap().unwrap();
            assert_eq!(buffer[0], n, "the first that came are those held");
        }
        // The count follows the sending.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(relay.counters().forwarded, round * 50);
    }
}

#[tokio::test]
async fn more_packets_pass_than_may_be_held() {
    let sink = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let relay = Relay::start(0, sink.local_addr().unwrap(), 1).await.unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let all = HELD_PACKETS as u64 + 64;
    for n in 1..=all {
        client.send_to(b"x", relay.address()).await.unwrap();
        if n % 64 == 0 {
            received(&relay, n).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let counters = relay.counters();
    assert_eq!((counters.forwarded, counters.dropped), (all, 0));
}

#[tokio::test]
async fn clients_have_a_limit_and_the_first_are_served() {
    let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let limits = Limits { clients: 5, ..Limits::default() };
    let relay = Relay::start_within(0, echo.local_addr().unwrap(), 1, limits).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 8];
        while let Ok((n, from)) = echo.recv_from(&mut buffer).await {
            echo.send_to(&buffer[..n], from).await.unwrap();
        }
    });
    let mut clients = Vec::new();
    for _ in 0..8 {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(relay.address()).await.unwrap();
        clients.push(client);
    }
    for round in 0..2 {
        for (n, client) in clients.iter().enumerate() {
            client.send(&[u8::try_from(n).unwrap()]).await.unwrap();
            let mut buffer = [0; 8];
            let answer = timeout(Duration::from_millis(300), client.recv(&mut buffer)).await;
            assert_eq!(answer.is_ok(), n < 5, "client {n} in round {round}");
            assert!(n >= 5 || usize::from(buffer[0]) == n, "an answer of another client");
        }
    }
    assert_eq!(relay.counters().dropped, 6);
}

#[tokio::test]
async fn the_program_obeys_lines_and_prints_its_counters() {
    const BOUND: Duration = Duration::from_secs(10);
    let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let launch = Launch::program(env!("CARGO_BIN_EXE_yika-relay")).unwrap().talk();
    let target = echo.local_addr().unwrap().to_string();
    let mut program = launch.args(&["--target", &target, "--order", "cut up"]).start().await.unwrap();
    let line = program.wait_for_output("listening", BOUND).await.unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(line["listening"].as_str().unwrap()).await.unwrap();
    let mut buffer = [0; 8];
    client.send(b"lost").await.unwrap();
    assert!(timeout(Duration::from_millis(200), echo.recv(&mut buffer)).await.is_err());
    program.say("nonsense").await.unwrap();
    program.wait_for_output("no such order", BOUND).await.unwrap();
    program.say("heal").await.unwrap();
    program.say("counters").await.unwrap();
    program.wait_for_output("\"dropped\":1", BOUND).await.unwrap();
    client.send(b"kept").await.unwrap();
    timeout(BOUND, echo.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..4], b"kept");
    program.hang_up();
    assert!(program.terminate(BOUND).await.unwrap().success());
    let said = program.stdout().unwrap();
    let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(
        last,
        serde_json::json!({"received": 2, "forwarded": 1, "dropped": 1, "duplicated": 0, "reordered": 0, "bytes": 4})
    );
    let wrong = Launch::program(env!("CARGO_BIN_EXE_yika-relay")).unwrap();
    let error = wrong.args(&["--target", &target, "--order", "loss 200%"]).run(BOUND).await.unwrap_err().to_string();
    assert!(error.contains("at most"), "{error}");
}

//! Network namespaces with real sockets and programs: what flows, what a pulled cable stops, what stays apart.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use yika_tests::http::Client;
use yika_tests::netns::{Namespace, Namespaces};
use yika_tests::process::Launch;

const PORT: u16 = 9_000;
const BOUND: Duration = Duration::from_secs(10);

fn socket(host: &Namespace, port: u16) -> UdpSocket {
    let socket = host.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// Sends back whatever comes, until the socket fails for another reason than silence.
fn echo(host: &Namespace) {
    let socket = socket(host, PORT);
    socket.set_read_timeout(Some(BOUND)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            // Nobody to answer while the cable is out.
            let _ = socket.send_to(&buffer[..n], from);
        }
    });
}

fn asks(client: &UdpSocket, server: &Namespace, word: &[u8]) -> bool {
    let _ = client.send_to(word, (server.address(), PORT));
    let mut buffer = [0; 64];
    // Answers to earlier words may come late.
    while let Ok((n, _)) = client.recv_from(&mut buffer) {
        if &buffer[..n] == word {
            return true;
        }
    }
    false
}

#[test]
fn a_pulled_cable_stops_the_echo_until_it_is_back() {
    if !Namespaces::available() {
        return;
    }
    let mut town = Namespaces::new().unwrap();
    town.switch("lan").unwrap();
    let server = town.host("server", "lan").unwrap();
    let client = town.host("client", "lan").unwrap();
    echo(&server);
    let ask = socket(&client, 0);
    assert!(asks(&ask, &server, b"one"));
    for link in [server.link(), client.link()] {
        link.down().unwrap();
        assert!(!asks(&ask, &server, b"two"));
        link.up().unwrap();
        assert!((0..10).any(|n| asks(&ask, &server, &[b'3', n])));
    }
    assert!(town.host("client", "lan").is_err() && town.host("x", "nowhere").is_err());
}

#[test]
fn a_cut_uplink_leaves_the_campus_whole() {
    if !Namespaces::available() {
        return;
    }
    let mut town = Namespaces::new().unwrap();
    town.switch("wan").unwrap();
    town.switch("campus").unwrap();
    let uplink = town.trunk("campus", "wan").unwrap();
    let hub = town.host("hub", "wan").unwrap();
    let edge = town.host("edge", "campus").unwrap();
    let sibling = town.host("sibling", "campus").unwrap();
    echo(&hub);
    echo(&sibling);
    let ask = socket(&edge, 0);
    assert!(asks(&ask, &hub, b"hub") && asks(&ask, &sibling, b"sibling"));
    uplink.down().unwrap();
    assert!(!asks(&ask, &hub, b"cut") && asks(&ask, &sibling, b"still"));
    uplink.up().unwrap();
    assert!((0..10).any(|n| asks(&ask, &hub, &[b'h', n])));
}

#[test]
fn towns_are_apart_and_vanish() {
    if !Namespaces::available() {
        return;
    }
    let mut one = Namespaces::new().unwrap();
    let mut two = Namespaces::new().unwrap();
    one.switch("lan").unwrap();
    two.switch("lan").unwrap();
    let server = one.host("server", "lan").unwrap();
    let near = one.host("near", "lan").unwrap();
    let far = two.host("far", "lan").unwrap();
    echo(&server);
    assert!(asks(&socket(&near, 0), &server, b"near") && !asks(&socket(&far, 0), &server, b"far"));
    assert!(UdpSocket::bind((server.address(), 0)).is_err(), "the address must exist inside only");
    let path = Path::new("/run/netns").join(server.name());
    assert!(path.exists());
    drop(one);
    assert!(!path.exists());
    assert!(server.within(|| Ok(())).is_err());
}

#[tokio::test]
async fn programs_run_inside_and_their_pages_are_reached() {
    if !Namespaces::available() {
        return;
    }
    let mut town = Namespaces::new().unwrap();
    town.switch("lan").unwrap();
    let host = town.host("host", "lan").unwrap();
    let addresses = Launch::program("ip").unwrap().prefix(&host.exec()).args(&["-4", "-o", "addr"]);
    let addresses = addresses.run(BOUND).await.unwrap();
    assert!(addresses.contains(&format!("{}/24", host.address())) && addresses.lines().count() == 2, "{addresses}");
    // A page served on the loopback of the namespace, by a program there.
    let python = ["-u", "-m", "http.server", "--bind", "127.0.0.1", "8099"];
    let server = Launch::program("python3").unwrap().prefix(&host.exec()).args(&python);
    std::fs::write(server.path().join("page"), "inside").unwrap();
    let mut server = server.start().await.unwrap();
    let door = host.expose(8099).await.unwrap();
    let answer = server.wait_for_http(door.port(), "/page", BOUND).await.unwrap();
    assert_eq!(answer.text(), "inside");
    server.kill().await.unwrap();
    let client = Client::new(format!("http://127.0.0.1:{}", door.port()));
    assert!(client.get("/page").await.is_err());
}

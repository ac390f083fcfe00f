//! The listener as its peers meet it: full, slow, silent, and stopping.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures::StreamExt;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use yika_ui::serve::{Bounds, Stopping, serve};

/// Far more than a busy machine needs.
const SOON: Duration = Duration::from_secs(30);

/// Far more than both systems keep for a connection that is not read.
const LARGE_BYTES: usize = 64 << 20;

struct Served {
    at: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn served(bounds: Bounds) -> Served {
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "slow"
    };
    let app = Router::new()
        .route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
        .route("/slow", get(slow))
        .route("/endless", get(endless))
        .route("/large", get(|| async { vec![b'x'; LARGE_BYTES] }))
        .route("/read", post(|body: String| async move { body }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve(listener, app, bounds, async { _ = stopped.await }));
    Served { at, stop, task }
}

/// Says one thing, and ends when the listener stops.
async fn endless(Extension(stopping): Extension<Stopping>) -> Body {
    let begun = futures::stream::iter([Ok::<_, std::io::Error>("begun")]);
    Body::from_stream(begun.chain(futures::stream::pending()).take_until(Box::pin(stopping.told())))
}

async fn ask(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let n = tokio::time::timeout(SOON, stream.read(&mut answer)).await.expect("answered").unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

/// Reads to the end: the other side has closed.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await.expect("closed");
    answer
}

#[tokio::test]
async fn a_request_knows_its_peer() {
    let served = served(Bounds::default()).await;
    let mut stream = TcpStream::connect(served.at).await.unwrap();
    let answer = ask(&mut stream, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.ends_with(&stream.local_addr().unwrap().to_string()), "{answer}");
}

#[tokio::test]
async fn a_full_listener_serves_the_next_one_as_soon_as_a_silent_one_is_closed() {
    let bounds = Bounds { connections: 2, head: Duration::from_millis(300), ..Bounds::default() };
    let served = served(bounds).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(served.at).await.unwrap());
    }
    let mut third = TcpStream::connect(served.at).await.unwrap();
    let answer = ask(&mut third, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for stream in &mut silent {
        rest(stream).await;
    }
}

#[tokio::test]
async fn a_head_that_comes_in_drops_and_a_body_that_stands_still_are_given_up() {
    let quick = Duration::from_millis(300);
    let served = served(Bounds { head: quick, body_still: quick, ..Bounds::default() }).await;
    let mut head = TcpStream::connect(served.at).await.unwrap();
    head.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    assert!(!rest(&mut head).await.contains("200 OK"));
    let mut body = TcpStream::connect(served.at).await.unwrap();
    let answer = ask(&mut body, "POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc").await;
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up_and_one_that_is_read_comes_whole() {
    let bounds = Bounds { connections: 1, answer_still: Duration::from_millis(300), ..Bounds::default() };
    let served = served(bounds).await;
    let large = b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut deaf = TcpStream::connect(served.at).await.unwrap();
    deaf.write_all(large).await.unwrap();
    let mut next = TcpStream::connect(served.at).await.unwrap();
    next.write_all(large).await.unwrap();
    let mut whole = Vec::new();
    tokio::time::timeout(SOON, next.read_to_end(&mut whole)).await.expect("the place is free again").unwrap();
    assert!(whole.len() > LARGE_BYTES);
    let mut rest = Vec::new();
    _ = tokio::time::timeout(SOON, deaf.read_to_end(&mut rest)).await.expect("closed");
    assert!(rest.len() < LARGE_BYTES, "{} bytes", rest.len());
}

#[tokio::test]
async fn an_answer_without_an_end_ends_at_the_stop() {
    let served = served(Bounds::default()).await;
    let mut open = TcpStream::connect(served.at).await.unwrap();
    let mut said = ask(&mut open, "GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    while !said.contains("begun") {
        said += &ask(&mut open, "").await;
    }
    let begun = std::time::Instant::now();
    served.stop.send(()).unwrap();
    assert!(rest(&mut open).await.ends_with("0\r\n\r\n"), "ended and not cut off");
    tokio::time::timeout(SOON, served.task).await.expect("it returns").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_end_and_closes_idle_connections() {
    let served = served(Bounds::default()).await;
    let mut idle = TcpStream::connect(served.at).await.unwrap();
    assert!(ask(&mut idle, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.contains("200 OK"));
    let mut busy = TcpStream::connect(served.at).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.send(()).unwrap();
    assert!(rest(&mut busy).await.ends_with("slow"));
    rest(&mut idle).await;
    tokio::time::timeout(SOON, served.task).await.expect("it returns").unwrap();
    assert!(TcpStream::connect(served.at).await.is_err(), "nobody listens");
}

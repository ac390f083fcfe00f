//! The bounded HTTP listener of both programs: how many connections, how long a silent one may stay, how it ends.
//!
//! A terminal that hangs, a browser that sleeps and a stranger who opens sockets must not keep a till out. Leaves
//! to others: what is served, and TLS (a proxy in front).

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Sleep;
use tower_http::timeout::RequestBodyTimeoutLayer;

/// Connections at once; the next one waits in the system's queue until one of them ends.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Connections at once from one address other than this machine's own (a proxy); the next one is closed.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 128;
/// So many times as many from one IPv6 network of 64 bits: a campus of tills may be one, and so may be one machine.
const NETWORK_TIMES: usize = 4;
/// How long the head of a request may take, and how long a connection may stay open without one, in milliseconds.
pub const HEAD_MS_MAX: u64 = 60_000;
/// How long the body of a request may stand still, in milliseconds.
pub const BODY_STILL_MS_MAX: u64 = 30_000;
/// How long an answer may stand still because nobody reads it, in milliseconds.
pub const ANSWER_STILL_MS_MAX: u64 = 30_000;
/// Bytes of a request's head, and of what is read ahead.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Pause after the system refused to accept (no file handles left), in milliseconds.
const ACCEPT_RETRY_MS: u64 = 200;

/// Carried by every request that [`serve`] takes: whether the listener stops. An answer without an end ends then, or it
/// would be cut off after a wait.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Returns when the listener stops.
    pub async fn told(mut self) {
        told(&mut self.0).await;
    }
}

/// The bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one foreign address.
    pub per_address: usize,
    /// How long a head may take, or a connection be idle.
    pub head: Duration,
    /// How long a body may stand still.
    pub body_still: Duration,
    /// How long an answer may stand still.
    pub answer_still: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            connections: CONNECTIONS_MAX,
            per_address: CONNECTIONS_PER_ADDRESS_MAX,
            head: Duration::from_millis(HEAD_MS_MAX),
            body_still: Duration::from_millis(BODY_STILL_MS_MAX),
            answer_still: Duration::from_millis(ANSWER_STILL_MS_MAX),
        }
    }
}

/// Serves HTTP/1.1 until `stop`, then takes no more connections and returns when the requests under way have ended.
/// Every request carries [`ConnectInfo`] of the peer's [`SocketAddr`], and [`Stopping`].
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds, stop: impl Future<Output = ()>) {
    let app = router.layer(RequestBodyTimeoutLayer::new(bounds.body_still));
    let room = Arc::new(Semaphore::new(bounds.connections));
    let peers = Arc::new(Peers { most: bounds.per_address, open: Mutex::default() });
    let (stopping, stopped) = watch::channel(false);
    let accept = async {
        loop {
            // The semaphore is never closed.
            let Ok(seat) = Arc::clone(&room).acquire_owned().await else { return };
            let (stream, address) = accept(&listener).await;
            match peers.enter(address.ip()) {
                Some(place) => {
                    _ = tokio::spawn(connection(stream, address, app.clone(), bounds, stopped.clone(), (seat, place)))
                }
                None => tracing::warn!(%address, most = peers.most, "too many connections from one address: closed"),
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = stop => {}
    }
    drop(listener);
    stopping.send_replace(true);
    drop(stopped);
    stopping.closed().await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
            }
        }
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// One connection to its end; what it holds is given back then.
async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    app: Router,
    bounds: Bounds,
    mut stopped: watch::Receiver<bool>,
    held: (OwnedSemaphorePermit, Place),
) {
    // An answer is one small write: it must not wait for the acknowledgement of the last one.
    let _ = stream.set_nodelay(true);
    let stopping = Stopping(stopped.clone());
    let service = tower::service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        request.extensions_mut().insert(stopping.clone());
        tower::Service::call(&mut app.clone(), request.map(Body::new))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(HEAD_BYTES_MAX);
    let stream = TokioIo::new(Patient { stream, still: bounds.answer_still, until: None });
    let serving = http.serve_connection(stream, TowerToHyperService::new(service)).with_upgrades();
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = told(&mut stopped) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "a connection ended badly");
    }
    drop(held);
}

/// Returns when the listener stops.
async fn told(stopped: &mut watch::Receiver<bool>) {
    _ = stopped.wait_for(|stop| *stop).await;
}

/// A stream whose writes fail when the other side has not read for so long.
struct Patient {
    stream: TcpStream,
    still: Duration,
    /// Runs while a write waits.
    until: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.until = None;
            return written;
        }
        let still = self.still;
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(still)));
        ready!(until.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the answer is not read")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What a connection is counted for: its address (IPv4 also where it comes mapped), and of IPv6 its network of 64 bits, all
/// of which one machine may use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Counted {
    Address(IpAddr),
    Network(Ipv6Addr),
}

fn counted(address: IpAddr) -> (Counted, Option<Counted>) {
    let address = address.to_canonical();
    let network = match address {
        IpAddr::V6(address) => Some(Counted::Network(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64))),
        IpAddr::V4(_) => None,
    };
    (Counted::Address(address), network)
}

/// How many connections each foreign address holds.
struct Peers {
    most: usize,
    open: Mutex<HashMap<Counted, usize>>,
}

/// A connection counted for its address, until dropped.
struct Place {
    peers: Arc<Peers>,
    counted: Vec<Counted>,
}

impl Peers {
    /// A place for one more connection of the address, if it may have one.
    fn enter(self: &Arc<Peers>, address: IpAddr) -> Option<Place> {
        if address.to_canonical().is_loopback() {
            return Some(Place { peers: Arc::clone(self), counted: Vec::new() });
        }
        let (address, network) = counted(address);
        let limits = [(Some(address), self.most), (network, self.most.saturating_mul(NETWORK_TIMES))];
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |(key, most): &(Option<Counted>, usize)| key.is_some_and(|key| open.get(&key) >= Some(most));
        if limits.iter().any(is_full) {
            return None;
        }
        let counted: Vec<Counted> = limits.into_iter().filter_map(|(key, _)| key).collect();
        counted.iter().for_each(|key| *open.entry(*key).or_insert(0) += 1);
        Some(Place { peers: Arc::clone(self), counted })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.peers.open.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.counted {
            if let Entry::Occupied(mut count) = open.entry(*key) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_network_of_tills_has_room_and_a_machine_with_many_addresses_has_an_end() {
        let peers = Arc::new(Peers { most: 2, open: Mutex::default() });
        let enter = |text: &str| peers.enter(text.parse().unwrap());
        let mut held: Vec<Place> = (1..=8).map(|n| enter(&format!("2001:db8:1:2::{n}")).unwrap()).collect();
        assert!(enter("2001:db8:1:2::9").is_none(), "four times as many as one address");
        held.extend(enter("2001:db8:1:3::1"));
        assert_eq!(held.len(), 9, "another network is not touched");
        held.truncate(7);
        held.extend(enter("2001:db8:1:2::1"));
        assert!(enter("2001:db8:1:2::1").is_none(), "nor may one address have them all");
        let mapped = [enter("::ffff:10.0.0.1"), enter("10.0.0.1"), enter("::ffff:10.0.0.1")];
        assert_eq!(mapped.map(|place| place.is_some()), [true, true, false], "mapped, as a listener on both hears it");
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let peers = Arc::new(Peers { most: 2, open: Mutex::default() });
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = peers.enter(one).unwrap();
        let _second = peers.enter(one).unwrap();
        assert!(peers.enter(one).is_none());
        assert!(peers.enter(other).is_some(), "others are not touched");
        drop(first);
        assert!(peers.enter(one).is_some());
        assert_eq!(peers.open.lock().unwrap().len(), 1, "who holds nothing is forgotten");
        for _ in 0..10 {
            std::mem::forget(peers.enter(Ipv4Addr::LOCALHOST.into()).expect("a proxy here speaks for many"));
        }
    }
}

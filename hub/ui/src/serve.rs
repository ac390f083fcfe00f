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
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower_http::timeout::RequestBodyTimeoutLayer;

/// Connections at once; the next one waits in the system's queue until one of them ends.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Connections at once from one address other than this machine's own (a proxy); the next one is closed.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 128;
/// How long the head of a request may take, and how long a connection may stay open without one, in milliseconds.
pub const HEAD_MS_MAX: u64 = 60_000;
/// How long the body of a request may stand still, in milliseconds.
pub const BODY_STILL_MS_MAX: u64 = 30_000;
/// Bytes of a request's head, and of what is read ahead.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Pause after the system refused to accept (no file handles left), in milliseconds.
const ACCEPT_RETRY_MS: u64 = 200;

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
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            connections: CONNECTIONS_MAX,
            per_address: CONNECTIONS_PER_ADDRESS_MAX,
            head: Duration::from_millis(HEAD_MS_MAX),
            body_still: Duration::from_millis(BODY_STILL_MS_MAX),
        }
    }
}

/// Serves HTTP/1.1 until `stop`, then takes no more connections and returns when the requests under way have ended.
/// Every request carries [`ConnectInfo`] of the peer's [`SocketAddr`].
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
    let service = tower::service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        tower::Service::call(&mut app.clone(), request.map(Body::new))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(HEAD_BYTES_MAX);
    let serving = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).with_upgrades();
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

/// How many connections each foreign address holds.
struct Peers {
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection counted for its address, until dropped.
struct Place {
    peers: Arc<Peers>,
    address: Option<IpAddr>,
}

impl Peers {
    /// A place for one more connection of the address, if it may have one.
    fn enter(self: &Arc<Peers>, address: IpAddr) -> Option<Place> {
        if address.to_canonical().is_loopback() {
            return Some(Place { peers: Arc::clone(self), address: None });
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_insert(0);
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { peers: Arc::clone(self), address: Some(address) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut open = self.peers.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = open.entry(address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
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

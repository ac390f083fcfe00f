//! Whom this box is connected to: the hub it dials, siblings and other campuses, and those who dial it.
//!
//! The only module of the edge that names the link. Leaves to others: what is said over a connection
//! (`yika_link::sync`), discovery (`discovery`).

use crate::identity::Identity;
use crate::node::{EdgeNode, SOFTWARE};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;
use yika_crdt::edge::Command;
use yika_crdt::entry::NodeRecord;
use yika_crdt::ids::*;
use yika_link::sync::{Node, serve};
use yika_link::{Admission, Dialer, Expected, Link, LinkConfig, Peer, PeerIdentity, Role, Target};

/// New connections that wait to be served.
const PEERS_WAITING_MAX: usize = 64;
/// Most other boxes this one dials by itself.
pub const DIALLED_MAX: usize = 64;

/// Binds the port, dials, accepts, until the process ends.
///
/// # Errors
/// When the port cannot be bound or the certificate is not usable.
pub async fn run(node: Arc<EdgeNode>, identity: &Identity, bind: SocketAddr) -> anyhow::Result<Link> {
    let judge = Arc::clone(&node);
    let link = Link::bind(LinkConfig {
        bind,
        key: identity.key.clone(),
        certificate_der: identity.certificate_der.clone(),
        ca_der: identity.ca_der.clone(),
        keys: identity.endpoint_keys.clone(),
        software: SOFTWARE.to_owned(),
        admission: Arc::new(move |peer| admit(&judge, peer)),
        join: None,
        clock_s: None,
    })?;
    let (peers, mut arrived) = mpsc::channel::<Peer>(PEERS_WAITING_MAX);
    let hub =
        Dialer::spawn(link.clone(), Target { addr: identity.hub_addr.clone(), expected: Expected::Hub }, peers.clone());
    let accepting = link.clone();
    let accepted = peers.clone();
    tokio::spawn(async move {
        while let Some(peer) = accepting.accept().await {
            if accepted.send(peer).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(level_when_low(Arc::clone(&node)));
    tokio::spawn(dial_boxes(Arc::clone(&node), link.clone(), peers));
    tokio::spawn(async move {
        // Dropped with this task, which lives as long as the process.
        let _hub = hub;
        while let Some(peer) = arrived.recv().await {
            tokio::spawn(serve_peer(Arc::clone(&node), peer));
        }
    });
    Ok(link)
}

async fn serve_peer(node: Arc<EdgeNode>, peer: Peer) {
    let identity = peer.identity().clone();
    if identity.role == Role::Hub {
        // The handshake proved the key; the registry, which lists it, may not have arrived yet.
        let record = NodeRecord {
            writer: identity.writer(),
            campus: None,
            key: identity.key,
            name: node.hub_name.clone(),
            address: None,
        };
        if let Err(error) = node.call(Command::TrustHub(record)).await {
            tracing::error!(%error, "the hub cannot be served");
            return;
        }
    }
    let words = node.connected(&peer);
    let reason = serve(Arc::clone(&node), peer.clone(), words).await;
    node.disconnected(&peer);
    tracing::info!(peer = %identity.writer(), %reason, "disconnected");
}

/// The registry's word on a peer; the hub is known by its certificate alone.
fn admit(node: &EdgeNode, peer: &PeerIdentity) -> Admission {
    if peer.role == Role::Hub {
        return Admission::Admit;
    }
    let registry = node.registry();
    if registry.fences.contains_key(&peer.writer()) {
        return Admission::fenced("this box was fenced by headquarters; enrol it again");
    }
    let newest = registry.nodes.range(first_life(peer.node)..).take_while(|(w, _)| w.node == peer.node).last();
    match newest {
        Some((writer, _)) if *writer == peer.writer() => Admission::Admit,
        Some(_) => Admission::old_incarnation("a newer life of this box is registered"),
        None => Admission::unknown("the registry here does not list this box yet"),
    }
}

/// Asks a sibling to level what a sale has left low.
async fn level_when_low(node: Arc<EdgeNode>) {
    let mut low = node.ears().low.subscribe();
    loop {
        match low.recv().await {
            Ok((row, right)) => node.level(row, right),
            // Too many at once: those rows will be low again.
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn first_life(node: NodeId) -> Writer {
    Writer { node, incarnation: Incarnation { generation: 0, counter: 0 } }
}

/// Dials every other box whose address the registry knows; of a pair the one with the larger number dials.
async fn dial_boxes(node: Arc<EdgeNode>, link: Link, peers: mpsc::Sender<Peer>) {
    let mut dialled: BTreeMap<Writer, Dialer> = BTreeMap::new();
    let mut directory = node.ears().directory.subscribe();
    loop {
        if let Err(error) = tokio::task::block_in_place(|| node.refresh_registry()) {
            tracing::error!(%error, "the registry cannot be read");
        }
        let registry = node.registry();
        dialled.retain(|writer, _| registry.nodes.contains_key(writer) && !registry.fences.contains_key(writer));
        for (writer, record) in &registry.nodes {
            let ours = writer.node == node.me().node || writer.node.is_hub() || writer.node > node.me().node;
            let fenced = registry.fences.contains_key(writer);
            let Some(addr) = record.address.clone().filter(|_| !ours && !fenced) else { continue };
            if dialled.len() < DIALLED_MAX && !dialled.contains_key(writer) {
                let target = Target { addr, expected: Expected::Node(writer.node) };
                dialled.insert(*writer, Dialer::spawn(link.clone(), target, peers.clone()));
            }
        }
        if directory.changed().await.is_err() {
            return;
        }
    }
}

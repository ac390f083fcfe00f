//! Whom this box is connected to: the hub it dials, siblings and other campuses, and those who dial it.
//!
//! The only module of the edge that names the link. Leaves to others: what is said over a connection
//! (`yika_link::sync`), finding siblings (`discovery`), certificates (`certificate`).

use crate::config::LinkSection;
use crate::identity::Identity;
use crate::node::{EdgeNode, RegistryView, SOFTWARE};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use yika_crdt::edge::Command;
use yika_crdt::entry::NodeRecord;
use yika_crdt::ids::*;
use yika_crdt::registry::Standing;
use yika_crdt::sync::Message;
use yika_link::sync::{Node, serve};
use yika_link::{
    Admission, CloseCode, DialState, Dialer, Expected, Link, LinkConfig, LinkError, Peer, PeerIdentity, Role, Target,
};

/// New connections that wait to be served.
const PEERS_WAITING_MAX: usize = 64;
/// Most other boxes this one dials by itself.
pub const DIALLED_MAX: usize = 64;
/// A hint that leads to nobody for so long is let go.
const HINT_TRIED: Duration = Duration::from_secs(30);
/// Hints that wait to be looked at; further ones are dropped, discovery repeats them.
const HINTS_WAITING_MAX: usize = 64;
/// How exactly pages know when a peer was last heard.
const HEAR_EVERY: Duration = Duration::from_secs(1);

/// A box may be found there; whether it is that box, its certificate decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hint {
    /// Which box.
    pub node: NodeId,
    /// Where.
    pub addr: SocketAddr,
}

/// The running links; cheap to clone.
#[derive(Clone)]
pub struct Links {
    link: Link,
    hints: mpsc::Sender<Hint>,
}

impl Links {
    /// The bound UDP address.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> Result<SocketAddr, LinkError> {
        self.link.local_addr()
    }

    /// Tries an address at the next opportunity.
    pub fn hint(&self, hint: Hint) {
        if self.hints.try_send(hint).is_err() {
            tracing::debug!(node = %hint.node, "a hint was dropped");
        }
    }

    /// Takes a renewed certificate into use; live connections stay.
    ///
    /// # Errors
    /// When it is not of this key or authority.
    pub fn use_certificate(&self, identity: &Identity, certificate_der: &[u8]) -> Result<(), LinkError> {
        self.link.set_certificate(&identity.key, certificate_der, &identity.ca_der)
    }

    /// Closes every connection with words.
    pub async fn shutdown(&self, words: &str) {
        self.link.shutdown(words).await;
    }
}

/// Binds the port, dials, accepts, until the process ends.
///
/// # Errors
/// When the port cannot be bound or the certificate is not usable.
pub async fn run(node: Arc<EdgeNode>, identity: &Identity, config: &LinkSection) -> anyhow::Result<Links> {
    let admitting = Arc::clone(&node);
    let link = Link::bind(LinkConfig {
        bind: config.bind,
        key: identity.key.clone(),
        certificate_der: identity.certificate_der.clone(),
        ca_der: identity.ca_der.clone(),
        keys: identity.endpoint_keys.clone(),
        software: SOFTWARE.to_owned(),
        admission: Arc::new(move |peer| judge(&admitting.registry(), peer)),
        join: None,
        clock_s: None,
    })?;
    let (peers, arrived) = mpsc::channel::<Peer>(PEERS_WAITING_MAX);
    let hub = Target { addr: identity.hub_addr.clone(), expected: Expected::Hub };
    let hub = Dialer::spawn(link.clone(), hub, peers.clone());
    let (hints, hinted) = mpsc::channel(HINTS_WAITING_MAX);
    let boxes = Boxes { node: Arc::clone(&node), link: link.clone(), peers: peers.clone(), dialled: BTreeMap::new() };
    tokio::spawn(accept(link.clone(), peers));
    tokio::spawn(level_when_low(Arc::clone(&node)));
    tokio::spawn(boxes.dial(hinted));
    tokio::spawn(report(Arc::clone(&node), NodeId::HUB, hub.watch()));
    tokio::spawn(serve_all(node, hub, arrived, link.clone(), config.clone()));
    Ok(Links { link, hints })
}

async fn accept(link: Link, peers: mpsc::Sender<Peer>) {
    while let Some(peer) = link.accept().await {
        if peers.send(peer).await.is_err() {
            return;
        }
    }
}

/// Holds the hub's dialler for as long as connections are served.
async fn serve_all(
    node: Arc<EdgeNode>,
    _hub: Dialer,
    mut arrived: mpsc::Receiver<Peer>,
    link: Link,
    config: LinkSection,
) {
    while let Some(peer) = arrived.recv().await {
        let address = match peer.identity().role {
            Role::Hub => address_for(&config, &link, &peer),
            Role::Edge => None,
        };
        tokio::spawn(serve_peer(Arc::clone(&node), peer, address));
    }
}

async fn serve_peer(node: Arc<EdgeNode>, peer: Peer, address: Option<String>) {
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
    if let Some(address) = address {
        node.say(identity.writer(), Message::Reachable(address));
    }
    let watching = tokio::spawn(close_once_refused(Arc::clone(&node), peer.clone()));
    let listening = tokio::spawn(hear(Arc::clone(&node), peer.clone()));
    let reason = serve(Arc::clone(&node), peer.clone(), words).await;
    watching.abort();
    listening.abort();
    node.disconnected(&peer, &reason.to_string());
    tracing::info!(peer = %identity.writer(), %reason, "disconnected");
}

/// Where other boxes reach this one: as configured, else the address this box has towards the hub.
fn address_for(config: &LinkSection, link: &Link, hub: &Peer) -> Option<String> {
    if !config.advertised.is_empty() {
        return Some(config.advertised.clone());
    }
    let bound = link.local_addr().ok()?;
    if !bound.ip().is_unspecified() {
        return Some(bound.to_string());
    }
    let any: IpAddr = match hub.remote_addr() {
        SocketAddr::V4(_) => IpAddr::from([0, 0, 0, 0]),
        SocketAddr::V6(_) => IpAddr::from([0u16; 8]),
    };
    // Connecting a UDP socket sends nothing; it only chooses the route.
    let probe = UdpSocket::bind((any, 0)).ok()?;
    probe.connect(hub.remote_addr()).ok()?;
    Some(SocketAddr::new(probe.local_addr().ok()?.ip(), bound.port()).to_string())
}

/// A quiet line is alive as long as packets come on it; pages show when the last one did.
async fn hear(node: Arc<EdgeNode>, peer: Peer) {
    let mut before = 0;
    loop {
        let received = peer.counters().wire_received_bytes;
        if received != before {
            node.vitals().heard(peer.identity().node, node.ticks().mono_ms);
            before = received;
        }
        tokio::time::sleep(HEAR_EVERY).await;
    }
}

/// Headquarters ends the life at the other end while it is connected: nothing more is said to it.
///
/// Each connection watches for itself, so that an older one of the same life ends too.
async fn close_once_refused(node: Arc<EdgeNode>, peer: Peer) {
    let mut registry = node.watch_registry();
    loop {
        let admission = judge(&registry.borrow_and_update(), peer.identity());
        if let Admission::Refuse { code, words } = admission {
            return peer.close(code, &words);
        }
        if registry.changed().await.is_err() {
            return;
        }
    }
}

/// The registry's word on a peer; the hub is known by its certificate alone.
fn judge(registry: &RegistryView, peer: &PeerIdentity) -> Admission {
    if peer.role == Role::Hub {
        return Admission::Admit;
    }
    match registry.standing(peer.writer()) {
        Standing::Current => Admission::Admit,
        Standing::Fenced => Admission::fenced("this box was fenced by headquarters; enrol it again"),
        Standing::OldLife => Admission::old_incarnation("a newer life of this box is registered"),
        Standing::Unknown => Admission::unknown("the registry here does not list this box yet"),
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

/// Keeps what a dialler does on the status page.
async fn report(node: Arc<EdgeNode>, whom: NodeId, mut state: watch::Receiver<DialState>) {
    loop {
        let now = state.borrow_and_update().clone();
        if let DialState::Waiting { words, code, .. } = &now {
            node.vitals().lost(whom, words);
            // Only headquarters ends a life; what a sibling says of it counts for nothing.
            if whom.is_hub()
                && *code == Some(CloseCode::FENCED)
                && let Err(error) = node.call(Command::Fenced).await
            {
                tracing::error!(%error, "the fence could not be kept");
            }
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// A box that is dialled, and where.
struct Dialled {
    dialer: Dialer,
    addr: String,
}

/// Other boxes: those whose address the registry knows, or that discovery hints at; of a pair the one with the larger
/// number dials.
struct Boxes {
    node: Arc<EdgeNode>,
    link: Link,
    peers: mpsc::Sender<Peer>,
    dialled: BTreeMap<NodeId, Dialled>,
}

impl Boxes {
    async fn dial(mut self, mut hinted: mpsc::Receiver<Hint>) {
        let mut directory = self.node.ears().directory.subscribe();
        let mut hints: BTreeMap<NodeId, String> = BTreeMap::new();
        loop {
            if let Err(error) = tokio::task::block_in_place(|| self.node.refresh_registry()) {
                tracing::error!(%error, "the registry cannot be read");
            }
            self.look(&hints);
            tokio::select! {
                changed = directory.changed() => if changed.is_err() { return },
                hint = hinted.recv() => match hint {
                    Some(hint) => self.take_hint(&mut hints, &hint),
                    None => return,
                },
                // An address that nobody answers at gives way to the registry's; discovery tells it again if it is so.
                () = tokio::time::sleep(HINT_TRIED) => hints.retain(|node, addr| !self.is_in_vain(*node, addr)),
            }
        }
    }

    /// Hints of boxes that nobody has heard of make room for others.
    fn take_hint(&self, hints: &mut BTreeMap<NodeId, String>, hint: &Hint) {
        if hints.len() >= DIALLED_MAX {
            let registry = self.node.registry();
            hints.retain(|node, _| registry.current(*node).is_some());
        }
        if hints.len() < DIALLED_MAX || hints.contains_key(&hint.node) {
            hints.insert(hint.node, hint.addr.to_string());
        }
    }

    fn is_in_vain(&self, node: NodeId, addr: &str) -> bool {
        let dialled = self.dialled.get(&node).filter(|dialled| dialled.addr == addr);
        dialled.is_some_and(|dialled| matches!(dialled.dialer.state(), DialState::Waiting { .. }))
    }

    /// A hint on the local network goes before the registry's address, unless that one works.
    fn look(&mut self, hints: &BTreeMap<NodeId, String>) {
        let registry = self.node.registry();
        let mut wanted = BTreeMap::new();
        for record in registry.boxes() {
            let ours = record.writer.node >= self.node.me().node;
            let known = hints.get(&record.writer.node).cloned().or_else(|| record.address.clone());
            if let Some(addr) = known.filter(|_| !ours && registry.standing(record.writer) == Standing::Current) {
                wanted.insert(record.writer.node, addr);
            }
        }
        self.dialled.retain(|node, _| wanted.contains_key(node));
        for (node, addr) in wanted {
            let keep =
                self.dialled.get(&node).is_some_and(|d| d.addr == addr || d.dialer.state() == DialState::Connected);
            if keep || (self.dialled.len() >= DIALLED_MAX && !self.dialled.contains_key(&node)) {
                continue;
            }
            let target = Target { addr: addr.clone(), expected: Expected::Node(node) };
            let dialer = Dialer::spawn(self.link.clone(), target, self.peers.clone());
            tokio::spawn(report(Arc::clone(&self.node), node, dialer.watch()));
            self.dialled.insert(node, Dialled { dialer, addr });
        }
    }
}

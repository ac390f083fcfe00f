//! The hub's end of the mesh: boxes dial in, are admitted by the registry, enrolled with tokens, and served.
//!
//! The only module of the hub that names the link. Leaves to others: what is said over a connection (`yika_link::sync`).

use crate::clock::wall_ms;
use crate::core::enrol::{CERTIFICATE_DAYS, TokenRefused};
use crate::core::{Command, Reply};
use crate::identity::HubIdentity;
use crate::machine::Order;
use crate::node::{HubNode, SOFTWARE};
use crate::provision;
use crate::refusal::Refusal;
use crate::store::TableRow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use yika_crdt::ids::Writer;
use yika_crdt::keys;
use yika_crdt::mesh::Directory;
use yika_crdt::registry::Standing;
use yika_link::sync::serve;
use yika_link::{
    Admission, CloseCode, Enroller, Granted, JoinRefusal, JoinServer, Link, LinkConfig, NodeIdentity, Peer,
    PeerIdentity, RefusalCode, Validity,
};

/// A registry that could not be read is read again after so long.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Binds the port and serves whoever is admitted, until the process ends.
///
/// # Errors
/// When the port cannot be bound or the certificate is not usable.
pub fn run(node: &Arc<HubNode>, identity: &HubIdentity, bind: SocketAddr) -> anyhow::Result<Link> {
    // Before anybody can be judged by it: what changes from here on is seen.
    tokio::spawn(follow_registry(Arc::clone(node), node.ears().directory.subscribe()));
    let (judge, is_found) = (Arc::clone(node), Arc::new(AtomicBool::new(false)));
    let link = Link::bind(LinkConfig {
        bind,
        key: identity.key.clone(),
        certificate_der: identity.certificate_der.clone(),
        ca_der: identity.authority.certificate_der().to_vec(),
        keys: identity.endpoint_keys.clone(),
        software: SOFTWARE.to_owned(),
        admission: Arc::new(move |peer| {
            let admission = admit(&judge, peer);
            if matches!(judge.registry().standing(peer.writer()), Standing::Unknown) {
                tokio::spawn(look_for_a_roll_back(Arc::clone(&judge), peer.clone(), Arc::clone(&is_found)));
            }
            admission
        }),
        join: Some(JoinServer {
            authority: Arc::clone(&identity.authority),
            enroller: Arc::new(Tokens(Arc::clone(node))),
        }),
        clock_s: None,
    })?;
    let accepting = link.clone();
    let host = Arc::clone(node);
    tokio::spawn(async move {
        while let Some(peer) = accepting.accept().await {
            tokio::spawn(serve_peer(Arc::clone(&host), peer));
        }
    });
    tokio::spawn(close_fenced(Arc::clone(node)));
    tokio::spawn(say_to_boxes(Arc::clone(node)));
    Ok(link)
}

async fn serve_peer(node: Arc<HubNode>, peer: Peer) {
    let writer = peer.identity().writer();
    let words = node.connected(&peer);
    // Fenced since the handshake was judged: nobody closes it later.
    if let Admission::Refuse { code, words } = admit(&node, peer.identity()) {
        peer.close(code, &words);
    }
    let pace = provision::Pace::default();
    let provisioning = provision::keep_up(Arc::clone(&node), peer.identity().clone(), pace, wall_ms);
    let provisioning = tokio::spawn(provisioning);
    let reason = serve(Arc::clone(&node), peer.clone(), words).await;
    provisioning.abort();
    node.disconnected(&peer);
    tracing::info!(peer = %writer, %reason, "disconnected");
}

/// Keeps the view of the registry up to date, and closes connections of whom it admits no more. What cannot be read is
/// tried again: a fence or a new box must not wait for the next change.
pub async fn follow_registry(node: Arc<HubNode>, mut directory: watch::Receiver<Arc<Directory>>) {
    loop {
        directory.borrow_and_update();
        if let Err(error) = tokio::task::block_in_place(|| node.refresh_registry()) {
            tracing::error!(%error, "the registry cannot be read");
            tokio::time::sleep(READ_AGAIN_AFTER).await;
            continue;
        }
        for peer in node.peers().into_iter().filter_map(|writer| node.peer(writer)) {
            if let Admission::Refuse { code, words } = admit(&node, peer.identity()) {
                peer.close(code, &words);
            }
        }
        if directory.changed().await.is_err() {
            return;
        }
    }
}

async fn close_fenced(node: Arc<HubNode>) {
    use tokio::sync::broadcast::error::RecvError;
    let mut fenced = node.ears().fenced.subscribe();
    loop {
        let ended = match fenced.recv().await {
            Ok(writer) => vec![writer],
            // Too many at once: whoever the registry calls fenced.
            Err(RecvError::Lagged(_)) => {
                let registry = node.registry();
                node.peers().into_iter().filter(|w| registry.fences.contains_key(w)).collect()
            }
            Err(RecvError::Closed) => return,
        };
        for peer in ended.into_iter().filter_map(|writer| node.peer(writer)) {
            peer.close(CloseCode::FENCED, "this box was fenced by headquarters; enrol it again");
        }
    }
}

/// Passes on what the core says to single boxes; who is not connected is told again when it matters.
async fn say_to_boxes(node: Arc<HubNode>) {
    let mut said = node.ears().said.subscribe();
    loop {
        match said.recv().await {
            Ok((to, message)) => _ = node.say(to, message),
            Err(tokio::sync::broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "too much to say at once; boxes are told again when it matters");
            }
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// The registry's word on a peer.
fn admit(node: &HubNode, peer: &PeerIdentity) -> Admission {
    match node.registry().standing(peer.writer()) {
        Standing::Current => Admission::Admit,
        Standing::Fenced => Admission::fenced("this box was fenced by headquarters; enrol it again"),
        Standing::OldLife => Admission::old_incarnation("a newer life of this box is registered"),
        Standing::Unknown => Admission::unknown("headquarters does not list this box; enrol it"),
    }
}

/// A box with a certificate of this very life of headquarters, whom the database does not list: it was listed before the
/// certificate was given out, so the database is an older one that was put back. Nothing more is written in that life.
async fn look_for_a_roll_back(node: Arc<HubNode>, peer: PeerIdentity, is_found: Arc<AtomicBool>) {
    let writer = peer.writer();
    let is_of_this_life = writer.incarnation.generation == node.writer().incarnation.generation;
    let row = node.row::<yika_crdt::entry::NodeRecord>(&keys::node(writer));
    if is_of_this_life && row.is_ok_and(|row| row.is_none()) && !is_found.swap(true, Ordering::AcqRel) {
        tracing::error!(peer = %writer, "a box that headquarters enrolled is not in its database: it was put back");
        let order = Order { command: Command::Restored, rows: vec![put_back(node.writer(), writer)] };
        if let Err(error) = node.call(order).await {
            tracing::error!(%error, "no new life could be begun");
            is_found.store(false, Ordering::Release);
        }
    }
}

/// What a person at headquarters is told of it.
fn put_back(life: Writer, shown_by: Writer) -> TableRow {
    let detail = format!(
        "{shown_by} was enrolled here and is not in the database: it was put back without a restore. Top-ups and payments of \
         the time that it lacks are to be entered again from their vouchers"
    );
    TableRow::alarm(life, "put_back", detail)
}

/// Why a token is not redeemed, and how the next one is made.
fn token_refused(refused: TokenRefused) -> JoinRefusal {
    let (code, what, campus) = match refused {
        TokenRefused::Unknown => (RefusalCode::UnknownToken, "this token is not known here", None),
        TokenRefused::Expired(campus) => (RefusalCode::ExpiredToken, "the token's time is over", Some(campus)),
        TokenRefused::Used(campus) => (RefusalCode::UsedToken, "the token was used by another box", Some(campus)),
    };
    let which = campus.map_or_else(|| "CAMPUS".to_owned(), |campus| campus.to_string());
    let words = format!("{what}; make a new one with `yika-hub edge token create --campus {which}`");
    JoinRefusal { code, words, campus }
}

/// Redeems tokens through the core.
struct Tokens(Arc<HubNode>);

impl Enroller for Tokens {
    fn redeem(&self, token_hash: [u8; 32], public_key: [u8; 32], name: &str) -> Result<Granted, JoinRefusal> {
        let refuse = |code, words: &str| JoinRefusal { code, words: words.to_owned(), campus: None };
        let command = Command::Redeem { hash: token_hash, key: public_key, name: name.to_owned() };
        match self.0.call_blocking(command) {
            Ok(Reply::Redeemed(Ok((used, campus)))) => {
                let writer = used.writer;
                // The box dials right after this answer: it must be listed by then.
                if let Err(error) = self.0.refresh_registry() {
                    tracing::error!(%error, "the registry cannot be read");
                }
                Ok(Granted {
                    identity: NodeIdentity::edge(writer.node, writer.incarnation, campus),
                    valid: Validity::days(used.at_s, CERTIFICATE_DAYS),
                    hub_name: self.0.name.clone(),
                })
            }
            Ok(Reply::Redeemed(Err(refused))) => Err(token_refused(refused)),
            Ok(Reply::Denied(denial)) => Err(refuse(RefusalCode::Unavailable, &Refusal::from(denial).to_string())),
            Ok(other) => Err(refuse(RefusalCode::Unavailable, &format!("headquarters answered {other:?}"))),
            Err(busy) => Err(refuse(RefusalCode::Unavailable, &busy.to_string())),
        }
    }
}

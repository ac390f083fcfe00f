//! Enrolment on `yika-join/1`: a box without a certificate gets one for a one-time token.
//!
//! The box checks the authority's pin in the handshake, before it sends the token.
//! Leaves to others: the text forms (`ticket`), which tokens are valid and whom they make (the [`Enroller`]).

use crate::ca::{Authority, CSR_BYTES_MAX, Validity, csr, csr_public_key};
use crate::close::{CloseCode, clip};
use crate::endpoint::{self, LinkError, refuse};
use crate::frames::{StreamError, read_frame, write_frame};
use crate::identity::{CERTIFICATE_BYTES_MAX, Facts, NodeIdentity, Pin, Role};
use crate::ticket::Token;
use crate::tls::{Chain, join_client};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use yika_crdt::ids::{CampusId, Incarnation, NodeId};
use yika_crdt::wire;
use zeroize::Zeroizing;

/// Attempts to enrol that one source address may make within a second.
pub const JOIN_ATTEMPTS_PER_ADDRESS_PER_S_MAX: u32 = 5;
/// Attempts to enrol from all addresses within a second.
pub const JOIN_ATTEMPTS_PER_S_MAX: u32 = 50;
/// Source addresses remembered; within a second more are refused.
pub const JOIN_ADDRESSES_MAX: usize = 1_024;
/// Longest name of a box, as it is shown.
pub const NAME_CHARS_MAX: usize = 40;
/// Longest name of a hub and of a program.
pub const NAME_BYTES_MAX: usize = 128;
/// A join must be done within this.
pub const JOIN_TIMEOUT_MS: u64 = 10_000;
const REQUEST_BYTES_MAX: usize = CSR_BYTES_MAX + 1024;
const REPLY_BYTES_MAX: usize = 2 * CERTIFICATE_BYTES_MAX + 2048;
/// How long the hub waits for the box to take its answer and close.
const LINGER_MS: u64 = 2_000;

/// Whether a text can be the name of a box: what people read must be there, in one line.
pub fn is_name(text: &str) -> bool {
    let chars = text.chars().count();
    (1..=NAME_CHARS_MAX).contains(&chars) && text.trim() == text && !text.chars().any(char::is_control)
}

/// Why an enrolment was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum RefusalCode {
    /// No such token.
    UnknownToken,
    /// The token's time is over.
    ExpiredToken,
    /// The token was used by another key.
    UsedToken,
    /// The request is malformed, or does not prove its key.
    BadRequest,
    /// The hub cannot enrol at the moment (recovery, disk).
    Unavailable,
}

/// A refusal: a code for programs, words for the person at the box.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{words}")]
pub struct JoinRefusal {
    /// Why.
    pub code: RefusalCode,
    /// Why, and how to mend it.
    pub words: String,
    /// The campus that the token is for, if it is known.
    pub campus: Option<CampusId>,
}

/// What a token gives. The same values give the same certificate, byte for byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// Whom the certificate names.
    pub identity: NodeIdentity,
    /// Its dates; stored with the token, so that a repeated request gets its first certificate.
    pub valid: Validity,
    /// The hub's name, for the box's pages.
    pub hub_name: String,
}

/// The hub's policy: one-time tokens and whom they make. Called on a blocking thread; may use the store.
pub trait Enroller: Send + Sync {
    /// Redeems a token for a proved public key. The same token and key again give the same [`Granted`] until the
    /// token's time ends; another key is refused with [`RefusalCode::UsedToken`].
    fn redeem(&self, token_hash: [u8; 32], public_key: [u8; 32], name: &str) -> Result<Granted, JoinRefusal>;
}

/// What a hub's link needs to enrol.
#[derive(Clone)]
pub struct JoinServer {
    /// Signs the certificates.
    pub authority: Arc<Authority>,
    /// Decides.
    pub enroller: Arc<dyn Enroller>,
}

/// What a box has after enrolment; the caller stores it beside its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The box's certificate, DER.
    pub certificate_der: Vec<u8>,
    /// The authority's certificate, DER; its pin was checked.
    pub ca_der: Vec<u8>,
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its campus.
    pub campus: Option<CampusId>,
    /// The hub's name.
    pub hub_name: String,
    /// The hub's key, as its certificate proved it during the join.
    pub hub_key: [u8; 32],
}

/// Why enrolment failed, for the person at the box.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinError {
    /// The hub refused.
    #[error("the hub refused: {0}")]
    Refused(JoinRefusal),
    /// No connection, a wrong pin, or the connection ended.
    #[error("no enrolment: {0}")]
    Link(LinkError),
    /// The box's own key or name.
    #[error("the request cannot be made: {0}")]
    Request(String),
    /// The hub's answer is not one.
    #[error("the hub's answer is unusable: {0}")]
    Answer(String),
}

// Not as sources: the words have them already, and whoever prints the chain would say them twice.
impl From<JoinRefusal> for JoinError {
    fn from(refusal: JoinRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LinkError> for JoinError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

#[derive(Serialize, Deserialize)]
enum JoinRequest {
    V1 { secret: Zeroizing32, csr: Vec<u8>, name: String, software: String },
}

/// The secret on its way; wiped when dropped.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Zeroizing32([u8; 32]);

impl Drop for Zeroizing32 {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

#[derive(Serialize, Deserialize)]
enum JoinReply {
    Granted { certificate_der: Vec<u8>, ca_der: Vec<u8>, hub_name: String },
    Refused { code: RefusalCode, words: String, campus: Option<CampusId> },
}

/// Enrols this box: checks the pin, then sends token and request, checks the answer.
///
/// May be repeated with the same key: the same certificate comes back.
pub async fn join(
    hub_addr: SocketAddr,
    ca_pin: Pin,
    token: &Token,
    name: &str,
    software: &str,
    key: &SigningKey,
) -> Result<Joined, JoinError> {
    let ms = JOIN_TIMEOUT_MS;
    let work = join_untimed(hub_addr, ca_pin, token, name, software, key);
    tokio::time::timeout(Duration::from_millis(ms), work)
        .await
        .unwrap_or(Err(JoinError::Link(LinkError::Timeout { addr: hub_addr, ms })))
}

async fn join_untimed(
    hub_addr: SocketAddr,
    ca_pin: Pin,
    token: &Token,
    name: &str,
    software: &str,
    key: &SigningKey,
) -> Result<Joined, JoinError> {
    if !is_name(name) || software.len() > NAME_BYTES_MAX {
        return Err(JoinError::Request(format!("a name has 1 to {NAME_CHARS_MAX} characters, no space at its ends")));
    }
    let request = Zeroizing::new(wire::encode(&JoinRequest::V1 {
        secret: Zeroizing32(*token.secret()),
        csr: csr(key, name).map_err(|e| JoinError::Request(e.to_string()))?,
        name: name.to_owned(),
        software: software.to_owned(),
    }));
    let any: SocketAddr = if hub_addr.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let endpoint = quinn::Endpoint::client(any).map_err(|e| LinkError::Bind { addr: any, error: e.to_string() })?;
    let tls = join_client(ca_pin).map_err(|e| JoinError::Request(e.to_string()))?;
    let config = endpoint::client_config(tls, Arc::new(endpoint::transport(Role::Edge)?))?;
    let connection = endpoint::connect(&endpoint, hub_addr, config).await?;
    let reply = ask(&connection, &request).await;
    let joined = match reply {
        Ok(bytes) => read_reply(&bytes, &endpoint::certificate_of(&connection), ca_pin, key),
        Err(_) => {
            let reason = match endpoint::ended_soon(&connection).await {
                Some(reason) => reason,
                None => endpoint::end_of(&connection),
            };
            Err(LinkError::Refused { addr: hub_addr, reason }.into())
        }
    };
    connection.close(CloseCode::NORMAL.0.into(), b"done");
    endpoint.wait_idle().await;
    joined
}

async fn ask(connection: &quinn::Connection, request: &[u8]) -> Result<Vec<u8>, StreamError> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(|_| StreamError::Ended)?;
    write_frame(&mut send, request).await?;
    read_frame(&mut receive, REPLY_BYTES_MAX).await
}

fn read_reply(bytes: &[u8], hub_der: &[u8], ca_pin: Pin, key: &SigningKey) -> Result<Joined, JoinError> {
    let unusable = |words: String| JoinError::Answer(words);
    let reply = wire::decode_lenient::<JoinReply>(bytes, REPLY_BYTES_MAX).map_err(|e| unusable(e.to_string()))?;
    let (certificate_der, ca_der, hub_name) = match reply {
        JoinReply::Granted { certificate_der, ca_der, hub_name } => (certificate_der, ca_der, hub_name),
        JoinReply::Refused { code, words, campus } => {
            let words = clip(&words).to_owned();
            return Err(JoinRefusal { code, words, campus }.into());
        }
    };
    if Pin::of(&ca_der) != ca_pin {
        return Err(unusable("its authority is not the pinned one".to_owned()));
    }
    let chain = Chain::new(&ca_der).map_err(|e| unusable(e.to_string()))?;
    let facts: Facts = chain.check(&certificate_der.as_slice().into()).map_err(|e| unusable(e.to_string()))?;
    let hub = chain.check(&hub_der.into()).map_err(|e| unusable(e.to_string()))?;
    if !hub.identity.node.is_hub() {
        return Err(unusable("it is not headquarters".to_owned()));
    }
    if &facts.key != key.verifying_key().as_bytes() {
        return Err(unusable("its certificate is of another key".to_owned()));
    }
    if hub_name.len() > NAME_BYTES_MAX {
        return Err(unusable("its name is too long".to_owned()));
    }
    Ok(Joined {
        certificate_der,
        ca_der,
        node: facts.identity.node,
        incarnation: facts.identity.incarnation,
        campus: facts.identity.campus,
        hub_name,
        hub_key: hub.key,
    })
}

/// The hub's side of one endpoint: the policy and the limit on attempts.
pub(crate) struct JoinGate {
    server: JoinServer,
    limiter: Mutex<Limiter>,
    started: Instant,
}

impl JoinGate {
    pub(crate) fn new(server: JoinServer) -> Self {
        Self { server, limiter: Mutex::new(Limiter::default()), started: Instant::now() }
    }

    /// Serves one join connection to its end.
    pub(crate) async fn serve(&self, connection: quinn::Connection) {
        let remote = connection.remote_address();
        let second = self.started.elapsed().as_secs();
        let allowed = {
            let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
            limiter.allow(remote.ip(), second)
        };
        if !allowed {
            tracing::warn!(%remote, "too many attempts to enrol");
            refuse(
                &connection,
                CloseCode::TOO_MANY_ATTEMPTS,
                "too many attempts to enrol: wait a second and try again",
            );
            return;
        }
        let Ok((mut send, mut receive)) = connection.accept_bi().await else {
            return;
        };
        let reply = match read_frame(&mut receive, REQUEST_BYTES_MAX).await {
            Ok(bytes) => self.answer(Zeroizing::new(bytes), remote).await,
            Err(StreamError::Frame(error)) => {
                refuse(&connection, CloseCode::MALFORMED, &error.to_string());
                return;
            }
            Err(StreamError::Ended) => return,
        };
        if write_frame(&mut send, &wire::encode(&reply)).await.is_ok() && send.finish().is_ok() {
            let linger = Duration::from_millis(LINGER_MS);
            let _ = tokio::time::timeout(linger, connection.closed()).await;
        }
    }

    async fn answer(&self, bytes: Zeroizing<Vec<u8>>, remote: SocketAddr) -> JoinReply {
        let server = self.server.clone();
        let decided = tokio::task::spawn_blocking(move || server.decide(&bytes)).await;
        match decided {
            Ok(Ok((name, identity, reply))) => {
                tracing::info!(%remote, name, %identity, "enrolled");
                reply
            }
            Ok(Err(refusal)) => {
                tracing::warn!(%remote, code = ?refusal.code, words = refusal.words, "enrolment refused");
                refusal.into()
            }
            Err(_) => JoinReply::Refused {
                code: RefusalCode::Unavailable,
                words: "the hub failed while it enrolled; see its log and try again".to_owned(),
                campus: None,
            },
        }
    }
}

impl From<JoinRefusal> for JoinReply {
    fn from(JoinRefusal { code, words, campus }: JoinRefusal) -> Self {
        JoinReply::Refused { code, words: clip(&words).to_owned(), campus }
    }
}

impl JoinServer {
    /// Answers one request, both as the bytes of a frame's payload.
    pub fn answer(&self, request: &[u8]) -> Vec<u8> {
        let reply = self.decide(request).map_or_else(JoinReply::from, |(_, _, reply)| reply);
        wire::encode(&reply)
    }

    fn decide(&self, bytes: &[u8]) -> Result<(String, NodeIdentity, JoinReply), JoinRefusal> {
        let bad = |words: String| JoinRefusal { code: RefusalCode::BadRequest, words, campus: None };
        let JoinRequest::V1 { secret, csr, name, software } =
            wire::decode_lenient::<JoinRequest>(bytes, REQUEST_BYTES_MAX).map_err(|e| bad(e.to_string()))?;
        if !is_name(&name) || software.len() > NAME_BYTES_MAX {
            return Err(bad(format!("the name of a box has 1 to {NAME_CHARS_MAX} characters, no space at its ends")));
        }
        let public_key = csr_public_key(&csr).map_err(|e| bad(e.to_string()))?;
        let granted = self.enroller.redeem(Token::new(secret.0).hash(), public_key, &name)?;
        let certificate_der = self
            .authority
            .issue_from_csr(&csr, &public_key, granted.identity, granted.valid)
            .map_err(|e| JoinRefusal { code: RefusalCode::Unavailable, words: e.to_string(), campus: None })?;
        let reply = JoinReply::Granted {
            certificate_der,
            ca_der: self.authority.certificate_der().to_vec(),
            hub_name: granted.hub_name,
        };
        Ok((name, granted.identity, reply))
    }
}

/// Attempts within the running second, per address and in all.
#[derive(Debug, Default)]
struct Limiter {
    second: u64,
    total: u32,
    addresses: BTreeMap<IpAddr, u32>,
}

impl Limiter {
    fn allow(&mut self, address: IpAddr, second: u64) -> bool {
        if second != self.second {
            *self = Self { second, ..Self::default() };
        }
        let full = self.addresses.len() >= JOIN_ADDRESSES_MAX && !self.addresses.contains_key(&address);
        if full || self.total >= JOIN_ATTEMPTS_PER_S_MAX {
            return false;
        }
        let count = self.addresses.entry(address).or_default();
        if *count >= JOIN_ATTEMPTS_PER_ADDRESS_PER_S_MAX {
            return false;
        }
        *count += 1;
        self.total += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attempts_are_limited_per_address_and_second() {
        let mut limiter = Limiter::default();
        let [one, two]: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        for _ in 0..JOIN_ATTEMPTS_PER_ADDRESS_PER_S_MAX {
            assert!(limiter.allow(one, 1));
        }
        assert!(!limiter.allow(one, 1));
        assert!(limiter.allow(two, 1));
        assert!(limiter.allow(one, 2));
        let all = (0..=255u8).filter(|last| limiter.allow([10, 0, 0, *last].into(), 3)).count();
        assert_eq!(all, JOIN_ATTEMPTS_PER_S_MAX as usize);
    }

    proptest! {
        #[test]
        fn arbitrary_requests_and_replies_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = wire::decode_lenient::<JoinRequest>(&bytes, REQUEST_BYTES_MAX);
            let key = SigningKey::from_bytes(&[3; 32]);
            prop_assert!(read_reply(&bytes, &bytes, Pin([0; 32]), &key).is_err());
            prop_assert!(csr_public_key(&bytes).is_err());
        }
    }
}

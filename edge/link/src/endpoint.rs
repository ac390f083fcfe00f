//! The QUIC endpoint: one UDP port that dials and accepts, with every limit named.
//!
//! Leaves to others: what happens on a connection (`peer`), enrolment (`join`), dialling again (`dialer`).

use crate::close::{CloseCode, CloseReason, clip};
use crate::frames::{GREETING_BYTES_MAX, Greeting, Protocols, StreamError, read_frame, write_frame};
use crate::identity::{Facts, PeerIdentity, Role};
use crate::join::{JoinGate, JoinServer};
use crate::peer::Peer;
use crate::tls::{ALPN_JOIN, ALPN_SYNC, Admission, Credentials, Expected, SERVER_NAME};
use ed25519_dalek::SigningKey;
use hmac::{Hmac, KeyInit, Mac};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use sha2::Sha256;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, mpsc};
use zeroize::Zeroizing;

/// The limits of the transport, unit last.
pub(crate) mod limits {
    /// A silent connection is kept alive this often; this is also how soon a restarted peer is noticed.
    pub const KEEP_ALIVE_MS: u64 = 2_000;
    /// A connection is given up after this silence. A cut line backs the retransmissions off: a new connection is back sooner
    /// after the line than an old one that was cut for longer than this.
    pub const IDLE_MS: u32 = 4_000;
    /// Round trip that is assumed before one was measured: what is lost of a first packet, to a peer that just starts, is
    /// sent again after three of it. A longer line costs a packet twice.
    pub const FIRST_RTT_MS: u64 = 100;
    /// Handshake and greeting must be done within this.
    pub const GREETING_TIMEOUT_MS: u64 = 5_000;
    /// Handshakes under way at once; further ones wait in the transport.
    pub const HANDSHAKES_PENDING_MAX: usize = 256;
    /// From so many handshakes under way, a stranger must first prove its address.
    pub const HANDSHAKES_BEFORE_RETRY: usize = 64;
    /// First packets that wait for a handshake slot; further ones are refused.
    pub const INCOMING_MAX: usize = 2_048;
    /// Bytes kept per waiting first packet's connection.
    pub const INCOMING_BYTES_MAX: u64 = 16 << 10;
    /// Bytes kept for all waiting first packets.
    pub const INCOMING_TOTAL_BYTES_MAX: u64 = 16 << 20;
    /// Peers that wait for `accept`; further handshakes wait.
    pub const ACCEPTED_WAITING_MAX: usize = 64;
    /// Flow-control window of one stream.
    pub const STREAM_WINDOW_BYTES: u32 = 512 << 10;
    /// Window of a connection, each way: more than all its streams, so that a full snapshot stream leaves room for control.
    pub const CONNECTION_WINDOW_BYTES: u32 = 8 * STREAM_WINDOW_BYTES;
    /// Streams of one direction a peer may open: one per class but control.
    pub const UNI_STREAMS_MAX: u32 = 5;
    /// Two-way streams a dialler may open: control.
    pub const BIDI_STREAMS_MAX: u32 = 1;
    /// Socket buffer asked of the system, each way; it may grant less.
    pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;
}

/// Secrets of the endpoint that must survive a restart, so that peers notice the restart at once.
#[derive(Clone)]
pub struct EndpointKeys {
    /// Signs stateless resets.
    pub reset_key: Zeroizing<[u8; 32]>,
    /// Marks connection ids as this endpoint's.
    pub connection_id_key: u64,
}

impl EndpointKeys {
    /// New random keys; the caller stores them.
    pub fn generate() -> Result<Self, LinkError> {
        let mut reset_key = Zeroizing::new([0; 32]);
        let mut id_key = [0; 8];
        getrandom::fill(reset_key.as_mut()).map_err(|e| LinkError::Config(e.to_string()))?;
        getrandom::fill(&mut id_key).map_err(|e| LinkError::Config(e.to_string()))?;
        Ok(Self { reset_key, connection_id_key: u64::from_be_bytes(id_key) })
    }
}

/// What a [`Link`] is made of.
pub struct LinkConfig {
    /// UDP address to bind; port 0 for any.
    pub bind: SocketAddr,
    /// The node's key.
    pub key: SigningKey,
    /// The node's certificate, DER.
    pub certificate_der: Vec<u8>,
    /// The authority's certificate, DER.
    pub ca_der: Vec<u8>,
    /// Persisted endpoint secrets.
    pub keys: EndpointKeys,
    /// Program and version, told to peers.
    pub software: String,
    /// Asked after every handshake, in both directions; must not block.
    pub admission: Arc<dyn Fn(&PeerIdentity) -> Admission + Send + Sync>,
    /// Enrolment, at the hub only.
    pub join: Option<JoinServer>,
    /// Unix seconds, to report expired certificates; `None` for the system clock.
    pub clock_s: Option<Arc<dyn Fn() -> i64 + Send + Sync>>,
}

/// What the link could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Key, certificate and authority do not fit, or a setting is impossible.
    #[error("link configuration: {0}")]
    Config(String),
    /// The UDP socket.
    #[error("cannot bind {addr}: {error}; is another instance running, or the address not on this machine?")]
    Bind {
        /// Address asked for.
        addr: SocketAddr,
        /// What the system said.
        error: String,
    },
    /// The address cannot be dialled.
    #[error("cannot dial {addr}: {error}")]
    Dial {
        /// Address or name.
        addr: String,
        /// Why.
        error: String,
    },
    /// The connection ended before the first control reply.
    #[error("{addr}: {reason}")]
    Refused {
        /// Address dialled.
        addr: SocketAddr,
        /// How it ended, with the other side's words.
        reason: CloseReason,
    },
    /// No first control reply in time.
    #[error("{addr}: no answer within {ms} ms")]
    Timeout {
        /// Address dialled.
        addr: SocketAddr,
        /// Time waited.
        ms: u64,
    },
}

impl LinkError {
    /// The code that the other side closed with, if it did.
    pub fn by_peer(&self) -> Option<CloseCode> {
        match self {
            Self::Refused { reason, .. } => reason.by_peer(),
            _ => None,
        }
    }

    /// True where an operator must act before another attempt can succeed.
    pub fn needs_operator(&self) -> bool {
        match self {
            Self::Refused { reason, .. } => match reason {
                CloseReason::Handshake { .. } => true,
                other => other.code().is_some_and(CloseCode::needs_operator),
            },
            Self::Config(_) => true,
            _ => false,
        }
    }
}

/// One UDP port of the mesh. Clones share it; it stops accepting when the last clone is dropped or at `shutdown`.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) endpoint: quinn::Endpoint,
    shared: Arc<Shared>,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Peer>>,
    accepting: tokio::task::AbortHandle,
}

struct Shared {
    credentials: Mutex<Credentials>,
    role: Role,
    software: String,
    protocols: Protocols,
    admission: Arc<dyn Fn(&PeerIdentity) -> Admission + Send + Sync>,
    clock_s: Arc<dyn Fn() -> i64 + Send + Sync>,
    join: Option<JoinGate>,
    transport: Arc<quinn::TransportConfig>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.accepting.abort();
        self.endpoint.close(CloseCode::SHUTDOWN.0.into(), b"the process stops");
    }
}

impl Link {
    /// Binds the socket and starts accepting. Must be called inside a tokio runtime.
    pub fn bind(config: LinkConfig) -> Result<Self, LinkError> {
        Self::bind_speaking(config, Protocols::SPOKEN)
    }

    /// The same for a program of another version, as tests of upgrades play it.
    pub fn bind_speaking(config: LinkConfig, protocols: Protocols) -> Result<Self, LinkError> {
        let credentials =
            Credentials::new(&config.key, &config.certificate_der, &config.ca_der).map_err(LinkError::Config)?;
        let own = Facts::read(&config.certificate_der).map_err(|e| LinkError::Config(e.to_string()))?;
        let shared = Arc::new(Shared {
            role: own.identity.role,
            software: config.software,
            protocols,
            admission: config.admission,
            clock_s: config.clock_s.unwrap_or_else(|| Arc::new(system_clock_s)),
            join: config.join.map(JoinGate::new),
            transport: Arc::new(transport(own.identity.role)?),
            credentials: Mutex::new(credentials),
        });
        let server = shared.server_config()?;
        let socket =
            socket(config.bind).map_err(|error| LinkError::Bind { addr: config.bind, error: error.to_string() })?;
        let endpoint =
            quinn::Endpoint::new(endpoint_config(&config.keys), Some(server), socket, Arc::new(quinn::TokioRuntime))
                .map_err(|error| LinkError::Bind { addr: config.bind, error: error.to_string() })?;
        let (sender, accepted) = mpsc::channel(limits::ACCEPTED_WAITING_MAX);
        let accepting = tokio::spawn(accept_all(endpoint.clone(), shared.clone(), sender));
        Ok(Self(Arc::new(Inner {
            endpoint,
            shared,
            accepted: tokio::sync::Mutex::new(accepted),
            accepting: accepting.abort_handle(),
        })))
    }

    /// The bound address.
    pub fn local_addr(&self) -> Result<SocketAddr, LinkError> {
        self.0.endpoint.local_addr().map_err(|e| LinkError::Config(e.to_string()))
    }

    /// Connects, proves both identities, exchanges greetings. Cancel safe.
    ///
    /// Fails within `limits::GREETING_TIMEOUT_MS`; a refusal carries the other side's words.
    pub async fn dial(&self, addr: SocketAddr, expected: Expected) -> Result<Peer, LinkError> {
        self.dial_within(addr, expected, limits::GREETING_TIMEOUT_MS).await
    }

    /// [`Link::dial`] with a bound of its own, in milliseconds.
    pub(crate) async fn dial_within(&self, addr: SocketAddr, expected: Expected, ms: u64) -> Result<Peer, LinkError> {
        tokio::time::timeout(Duration::from_millis(ms), self.dial_untimed(addr, expected))
            .await
            .unwrap_or(Err(LinkError::Timeout { addr, ms }))
    }

    async fn dial_untimed(&self, addr: SocketAddr, expected: Expected) -> Result<Peer, LinkError> {
        let shared = &self.0.shared;
        let connection = connect(&self.0.endpoint, addr, shared.client_config(expected)?).await?;
        let refused = |reason| LinkError::Refused { addr, reason };
        let ended = |connection: &quinn::Connection| refused(end_of(connection));
        let identity = shared.identity_of(&connection).map_err(refused)?;
        if let Admission::Refuse { code, words } = (shared.admission)(&identity) {
            return Err(refused(refuse(&connection, code, &words)));
        }
        let mut control = connection.open_bi().await.map_err(|e| refused(CloseReason::from_quinn(e)))?;
        let ours = Greeting::of(shared.protocols, &shared.software).encode();
        if write_frame(&mut control.0, &ours).await.is_err() {
            return Err(ended_soon(&connection).await.map_or_else(|| ended(&connection), refused));
        }
        let greeting = match read_frame(&mut control.1, GREETING_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(StreamError::Ended) => {
                return Err(ended_soon(&connection).await.map_or_else(|| ended(&connection), refused));
            }
            Err(StreamError::Frame(error)) => {
                return Err(refused(refuse(&connection, CloseCode::MALFORMED, &error.to_string())));
            }
        };
        let (protocol, software) = shared.agree(&connection, &identity, &greeting).map_err(refused)?;
        Ok(Peer::start(connection, identity, protocol, software, control))
    }

    /// The next peer that dialled, proved itself, was admitted and greeted; `None` after `shutdown`.
    pub async fn accept(&self) -> Option<Peer> {
        self.0.accepted.lock().await.recv().await
    }

    /// Takes a renewed certificate into use for handshakes from here on; live connections stay.
    pub fn set_certificate(&self, key: &SigningKey, certificate_der: &[u8], ca_der: &[u8]) -> Result<(), LinkError> {
        let credentials = Credentials::new(key, certificate_der, ca_der).map_err(LinkError::Config)?;
        *self.0.shared.credentials.lock().unwrap_or_else(PoisonError::into_inner) = credentials;
        self.0.endpoint.set_server_config(Some(self.0.shared.server_config()?));
        Ok(())
    }

    /// Connections open, handshakes under way included.
    pub fn open_connections(&self) -> usize {
        self.0.endpoint.open_connections()
    }

    /// Closes every connection with words and waits until the other sides were told.
    pub async fn shutdown(&self, words: &str) {
        self.0.accepting.abort();
        self.0.endpoint.close(CloseCode::SHUTDOWN.0.into(), clip(words).as_bytes());
        self.0.endpoint.wait_idle().await;
    }
}

impl Shared {
    fn credentials(&self) -> Credentials {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn server_config(&self) -> Result<quinn::ServerConfig, LinkError> {
        let tls = self.credentials().server(self.join.is_some()).map_err(|e| LinkError::Config(e.to_string()))?;
        let crypto = QuicServerConfig::try_from(tls).map_err(|e| LinkError::Config(e.to_string()))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(self.transport.clone())
            .max_incoming(limits::INCOMING_MAX)
            .incoming_buffer_size(limits::INCOMING_BYTES_MAX)
            .incoming_buffer_size_total(limits::INCOMING_TOTAL_BYTES_MAX);
        Ok(server)
    }

    fn client_config(&self, expected: Expected) -> Result<quinn::ClientConfig, LinkError> {
        let tls = self.credentials().client(expected).map_err(|e| LinkError::Config(e.to_string()))?;
        client_config(tls, self.transport.clone())
    }

    /// Who the certificate of a finished handshake names; closes with words when there is none.
    fn identity_of(&self, connection: &quinn::Connection) -> Result<PeerIdentity, CloseReason> {
        let certificates = connection
            .peer_identity()
            .and_then(|any| any.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().ok());
        let first = certificates.as_deref().and_then(|chain| chain.first());
        let Some(certificate) = first else {
            let words = "no certificate was shown: this box must be enrolled first (yika-edge init --join ...)";
            return Err(refuse(connection, CloseCode::NO_CERTIFICATE, words));
        };
        match Facts::read(certificate) {
            Ok(facts) => Ok(facts.peer((self.clock_s)())),
            Err(error) => Err(refuse(connection, CloseCode::NO_CERTIFICATE, &error.to_string())),
        }
    }

    fn agree(
        &self,
        connection: &quinn::Connection,
        them: &PeerIdentity,
        bytes: &[u8],
    ) -> Result<(u16, String), CloseReason> {
        let greeting = Greeting::decode(bytes).map_err(|e| refuse(connection, CloseCode::MALFORMED, &e.to_string()))?;
        let name = |role| match role {
            Role::Hub => "the hub",
            Role::Edge => "the edge box",
        };
        let (us, them) = match (self.role, them.role) {
            (Role::Edge, Role::Edge) => ("the edge box that was dialled", "the edge box that dials"),
            (us, them) => (name(us), name(them)),
        };
        let agreed = greeting.agree(self.protocols, us, them);
        let protocol = agreed.map_err(|e| refuse(connection, CloseCode::PROTOCOL, &e.to_string()))?;
        Ok((protocol, greeting.software))
    }
}

/// Takes handshakes while slots are free; each runs in its own task with a deadline.
async fn accept_all(endpoint: quinn::Endpoint, shared: Arc<Shared>, accepted: mpsc::Sender<Peer>) {
    let slots = Arc::new(Semaphore::new(limits::HANDSHAKES_PENDING_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let Some(incoming) = endpoint.accept().await else {
            return;
        };
        let under_way = limits::HANDSHAKES_PENDING_MAX - slots.available_permits();
        if under_way > limits::HANDSHAKES_BEFORE_RETRY && !incoming.remote_address_validated() && incoming.may_retry() {
            if incoming.retry().is_err() {
                tracing::debug!("a retry could not be sent");
            }
            continue;
        }
        let (shared, accepted) = (shared.clone(), accepted.clone());
        tokio::spawn(async move {
            let limit = Duration::from_millis(limits::GREETING_TIMEOUT_MS);
            let remote = incoming.remote_address();
            match tokio::time::timeout(limit, accept_one(incoming, &shared)).await {
                Ok(Ok(Some(peer))) => drop(accepted.send(peer).await),
                Ok(Ok(None)) => {}
                Ok(Err(reason)) => tracing::info!(%remote, %reason, "connection refused"),
                Err(_) => tracing::debug!(%remote, "handshake or greeting not finished in time"),
            }
            drop(slot);
        });
    }
}

/// One handshake to its end: a peer, a finished enrolment (`None`), or the reason it failed.
async fn accept_one(incoming: quinn::Incoming, shared: &Shared) -> Result<Option<Peer>, CloseReason> {
    let connection = incoming.accept().map_err(CloseReason::from_quinn)?.await.map_err(CloseReason::from_quinn)?;
    let protocol =
        connection.handshake_data().and_then(|any| any.downcast::<HandshakeData>().ok()).and_then(|data| data.protocol);
    match (protocol.as_deref(), &shared.join) {
        (Some(alpn), _) if alpn == ALPN_SYNC => accept_sync(connection, shared).await.map(Some),
        (Some(alpn), Some(gate)) if alpn == ALPN_JOIN => {
            gate.serve(connection).await;
            Ok(None)
        }
        _ => Err(refuse(&connection, CloseCode::NO_ENROLMENT, "this protocol is not served here")),
    }
}

async fn accept_sync(connection: quinn::Connection, shared: &Shared) -> Result<Peer, CloseReason> {
    let identity = shared.identity_of(&connection)?;
    if let Admission::Refuse { code, words } = (shared.admission)(&identity) {
        return Err(refuse(&connection, code, &words));
    }
    if identity.expired {
        tracing::warn!(peer = %identity, "certificate expired; it is served and must be renewed");
    }
    let mut control = connection.accept_bi().await.map_err(CloseReason::from_quinn)?;
    let greeting = match read_frame(&mut control.1, GREETING_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(StreamError::Ended) => return Err(end_of(&connection)),
        Err(StreamError::Frame(error)) => {
            return Err(refuse(&connection, CloseCode::MALFORMED, &error.to_string()));
        }
    };
    let (protocol, software) = shared.agree(&connection, &identity, &greeting)?;
    let ours = Greeting::of(shared.protocols, &shared.software).encode();
    write_frame(&mut control.0, &ours).await.map_err(|_| end_of(&connection))?;
    Ok(Peer::start(connection, identity, protocol, software, control))
}

pub(crate) fn client_config(
    tls: rustls::ClientConfig,
    transport: Arc<quinn::TransportConfig>,
) -> Result<quinn::ClientConfig, LinkError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|e| LinkError::Config(e.to_string()))?;
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    client.transport_config(transport);
    Ok(client)
}

pub(crate) async fn connect(
    endpoint: &quinn::Endpoint,
    addr: SocketAddr,
    config: quinn::ClientConfig,
) -> Result<quinn::Connection, LinkError> {
    let connecting = endpoint
        .connect_with(config, addr, SERVER_NAME)
        .map_err(|e| LinkError::Dial { addr: addr.to_string(), error: e.to_string() })?;
    connecting.await.map_err(|e| LinkError::Refused { addr, reason: CloseReason::from_quinn(e) })
}

/// Closes with code and words, and says so.
pub(crate) fn refuse(connection: &quinn::Connection, code: CloseCode, words: &str) -> CloseReason {
    connection.close(code.0.into(), clip(words).as_bytes());
    CloseReason::ByUs { code, words: clip(words).to_owned() }
}

/// The reason of a connection whose stream just failed; the stream may fail a moment before the reason is known.
pub(crate) async fn ended_soon(connection: &quinn::Connection) -> Option<CloseReason> {
    tokio::time::timeout(Duration::from_millis(500), connection.closed()).await.ok().map(CloseReason::from_quinn)
}

pub(crate) fn end_of(connection: &quinn::Connection) -> CloseReason {
    match connection.close_reason() {
        Some(error) => CloseReason::from_quinn(error),
        None => refuse(connection, CloseCode::MALFORMED, "the control stream ended"),
    }
}

/// The certificate that the other side has shown; empty when it has shown none.
pub(crate) fn certificate_of(connection: &quinn::Connection) -> Vec<u8> {
    let shown = connection.peer_identity();
    let chain = shown.and_then(|any| any.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().ok());
    chain.and_then(|chain| chain.first().map(|der| der.to_vec())).unwrap_or_default()
}

/// Headquarters talks with many, a word to each: a buffer for one packet each is enough there, and a burst in one system
/// call is for boxes that send their backlog.
pub(crate) fn transport(role: Role) -> Result<quinn::TransportConfig, LinkError> {
    let mut transport = quinn::TransportConfig::default();
    transport
        .keep_alive_interval(Some(Duration::from_millis(limits::KEEP_ALIVE_MS)))
        .max_idle_timeout(Some(quinn::VarInt::from_u32(limits::IDLE_MS).into()))
        .stream_receive_window(limits::STREAM_WINDOW_BYTES.into())
        .receive_window(limits::CONNECTION_WINDOW_BYTES.into())
        .send_window(limits::CONNECTION_WINDOW_BYTES.into())
        .max_concurrent_uni_streams(limits::UNI_STREAMS_MAX.into())
        .max_concurrent_bidi_streams(limits::BIDI_STREAMS_MAX.into())
        .initial_rtt(Duration::from_millis(limits::FIRST_RTT_MS))
        .enable_segmentation_offload(role == Role::Edge)
        .datagram_receive_buffer_size(None);
    Ok(transport)
}

fn endpoint_config(keys: &EndpointKeys) -> quinn::EndpointConfig {
    let id_key = keys.connection_id_key;
    let mut config = quinn::EndpointConfig::new(Arc::new(ResetKey(keys.reset_key.clone())));
    config
        .cid_generator(move || Box::new(quinn_ids(id_key)))
        // Packets are read many at once, with one time for all: any distance would answer one of each batch, while a thousand
        // boxes ask after a restart. A reset is shorter than what it answers, and only ids of this endpoint's key get one.
        .min_reset_interval(Duration::ZERO);
    config
}

fn quinn_ids(key: u64) -> impl quinn::ConnectionIdGenerator {
    quinn_proto::HashedConnectionIdGenerator::from_key(key)
}

/// Signs stateless resets with HMAC-SHA-256.
struct ResetKey(Zeroizing<[u8; 32]>);

impl ResetKey {
    fn mac(&self, data: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).ok()?;
        mac.update(data);
        Some(mac)
    }
}

impl quinn::crypto::HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        if let Some(mac) = self.mac(data) {
            let bytes = mac.finalize().into_bytes();
            for (out, byte) in signature_out.iter_mut().zip(bytes) {
                *out = byte;
            }
        }
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), quinn::crypto::CryptoError> {
        self.mac(data).and_then(|mac| mac.verify_slice(signature).ok()).ok_or(quinn::crypto::CryptoError)
    }
}

pub(crate) fn socket(bind: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(bind), Type::DGRAM, Some(Protocol::UDP))?;
    if bind.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // The system may grant less; that costs speed under load, never correctness.
    let _ = socket.set_recv_buffer_size(limits::SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(limits::SOCKET_BUFFER_BYTES);
    socket.bind(&bind.into())?;
    Ok(socket.into())
}

fn system_clock_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

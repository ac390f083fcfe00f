//! TLS of the mesh: chain, identity and expected peer are checked; dates are not; nothing is resumed.
//!
//! Leaves to others: admission by the registry (asked after the handshake, in `endpoint`).

use crate::ca::pkcs8;
use crate::close::CloseCode;
use crate::identity::{Facts, NodeIdentity, Pin, Role};
use ed25519_dalek::SigningKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    ServerConfig, SignatureScheme,
};
use std::sync::Arc;
use std::time::Duration;
use yika_crdt::ids::NodeId;
use zeroize::Zeroizing;

/// Protocol name of the sync connection.
pub(crate) const ALPN_SYNC: &[u8] = b"yika-sync/1";
/// Protocol name of enrolment.
pub(crate) const ALPN_JOIN: &[u8] = b"yika-join/1";
/// The name sent in the handshake; identities are checked by certificate, never by name.
pub(crate) const SERVER_NAME: &str = "yika.invalid";
/// Longest chain that is looked at: the node's certificate and the root.
const CHAIN_CERTIFICATES_MAX: usize = 3;

/// What the caller's registry says of a peer after its handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Known, current, not fenced.
    Admit,
    /// Not to be talked to; code and words reach the peer.
    Refuse {
        /// Why, as a number.
        code: CloseCode,
        /// Why, in words for the peer's operator.
        words: String,
    },
}

impl Admission {
    /// Refusal of a fenced node.
    pub fn fenced(words: impl Into<String>) -> Self {
        Self::Refuse { code: CloseCode::FENCED, words: words.into() }
    }

    /// Refusal of a node that the registry does not know.
    pub fn unknown(words: impl Into<String>) -> Self {
        Self::Refuse { code: CloseCode::UNKNOWN, words: words.into() }
    }

    /// Refusal of an earlier life of a node.
    pub fn old_incarnation(words: impl Into<String>) -> Self {
        Self::Refuse { code: CloseCode::OLD_INCARNATION, words: words.into() }
    }
}

/// Whom a dialler insists on meeting.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Expected {
    /// The hub, in whatever life.
    Hub,
    /// That very node, in whatever life.
    Node(NodeId),
}

impl Expected {
    pub(crate) fn accepts(self, identity: &NodeIdentity) -> bool {
        match self {
            Expected::Hub => identity.role == Role::Hub,
            Expected::Node(node) => identity.node == node,
        }
    }
}

/// What a node shows and trusts: its key and chain, the root.
#[derive(Clone)]
pub(crate) struct Credentials {
    seed: Zeroizing<[u8; 32]>,
    chain: Vec<CertificateDer<'static>>,
    roots: Chain,
}

impl Credentials {
    /// Checks that certificate, key and root belong together, so that a mix-up is told at the start.
    pub(crate) fn new(key: &SigningKey, certificate_der: &[u8], ca_der: &[u8]) -> Result<Self, String> {
        let facts = Facts::read(certificate_der).map_err(|e| e.to_string())?;
        if &facts.key != key.verifying_key().as_bytes() {
            return Err("the certificate is of another key than this node's".to_owned());
        }
        let roots = Chain::new(ca_der).map_err(|e| e.to_string())?;
        let certificate = CertificateDer::from(certificate_der.to_vec());
        roots.check(&certificate).map_err(|e| format!("the node's certificate is not from this authority: {e}"))?;
        Ok(Self {
            seed: Zeroizing::new(key.to_bytes()),
            chain: vec![certificate, CertificateDer::from(ca_der.to_vec())],
            roots,
        })
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8(&self.seed).to_vec()))
    }

    /// Server side of both protocols: certificates are asked for and checked; whether one is required depends
    /// on the protocol, which is known only after the handshake, where `endpoint` refuses with words.
    pub(crate) fn server(&self, joins: bool) -> Result<ServerConfig, Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(OurClients(self.roots.clone())))
            .with_single_cert(self.chain.clone(), self.key_der())?;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = vec![ALPN_SYNC.to_vec()];
        if joins {
            config.alpn_protocols.push(ALPN_JOIN.to_vec());
        }
        Ok(config)
    }

    /// Client side of the sync protocol.
    pub(crate) fn client(&self, expected: Expected) -> Result<ClientConfig, Error> {
        let mut config = client_builder(Arc::new(OurServer { roots: self.roots.clone(), expected }))?
            .with_client_auth_cert(self.chain.clone(), self.key_der())?;
        harden_client(&mut config, ALPN_SYNC);
        Ok(config)
    }
}

/// Client side of enrolment: knows the root only by its pin and shows no certificate.
pub(crate) fn join_client(pin: Pin) -> Result<ClientConfig, Error> {
    let mut config = client_builder(Arc::new(PinnedHub(pin)))?.with_no_client_auth();
    harden_client(&mut config, ALPN_JOIN);
    Ok(config)
}

fn client_builder(
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, Error> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

fn harden_client(config: &mut ClientConfig, alpn: &[u8]) {
    // A resumed session would skip the check of the other side's certificate.
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = vec![alpn.to_vec()];
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The chain check, with the dates taken out.
#[derive(Clone, Debug)]
pub(crate) struct Chain(Arc<dyn ClientCertVerifier>);

impl Chain {
    pub(crate) fn new(ca_der: &[u8]) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(ca_der.to_vec()))?;
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map(Self)
            .map_err(|e| Error::General(e.to_string()))
    }

    /// Signature of the root, usage and form; judged at a moment inside the certificate's own dates, because
    /// neither a wrong clock nor expiry may stop a canteen.
    pub(crate) fn check(&self, certificate: &CertificateDer<'_>) -> Result<Facts, Error> {
        let facts = Facts::read(certificate).map_err(other)?;
        let inside_s = u64::try_from(facts.not_before_s).unwrap_or(0);
        let moment = UnixTime::since_unix_epoch(Duration::from_secs(inside_s));
        self.0.verify_client_cert(certificate, &[], moment)?;
        Ok(facts)
    }
}

fn other(error: impl std::error::Error) -> Error {
    words(error.to_string())
}

fn words(text: impl Into<String>) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refusal(text.into())))))
}

#[derive(thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// What stands around the words of a [`Refusal`] where TLS shows it by `Debug`, as it does at the end of a connection.
const REFUSED: [&str; 2] = ["refused «", "»"];

impl std::fmt::Debug for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [begin, end] = REFUSED;
        write!(f, "{begin}{}{end}", self.0)
    }
}

/// Our own words of a refusal out of the text that TLS made of it; other texts as they are.
pub(crate) fn plain(text: &str) -> &str {
    let [begin, end] = REFUSED;
    let words = text.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
    words.map_or(text, |(words, _)| words)
}

macro_rules! tls13_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(words("only TLS 1.3 is spoken here"))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }
    };
}

#[derive(Debug)]
struct OurClients(Chain);

impl ClientCertVerifier for OurClients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if intermediates.len() >= CHAIN_CERTIFICATES_MAX {
            return Err(words("the chain is longer than ours can be"));
        }
        self.0.check(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    tls13_signatures!();
}

#[derive(Debug)]
struct OurServer {
    roots: Chain,
    expected: Expected,
}

impl ServerCertVerifier for OurServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if intermediates.len() >= CHAIN_CERTIFICATES_MAX {
            return Err(words("the chain is longer than ours can be"));
        }
        let facts = self.roots.check(end_entity)?;
        if !self.expected.accepts(&facts.identity) {
            return Err(words(format!(
                "expected {:?}, but {} answered at this address",
                self.expected, facts.identity
            )));
        }
        Ok(ServerCertVerified::assertion())
    }

    tls13_signatures!();
}

#[derive(Debug)]
struct PinnedHub(Pin);

impl ServerCertVerifier for PinnedHub {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = intermediates
            .iter()
            .take(CHAIN_CERTIFICATES_MAX)
            .find(|certificate| Pin::of(certificate) == self.0)
            .ok_or_else(|| {
                words(format!(
                    "the hub at this address does not show the authority {}; nothing secret was sent",
                    self.0
                ))
            })?;
        let facts = Chain::new(root)?.check(end_entity)?;
        if facts.identity.role != Role::Hub {
            return Err(words(format!("{} is not the hub", facts.identity)));
        }
        Ok(ServerCertVerified::assertion())
    }

    tls13_signatures!();
}

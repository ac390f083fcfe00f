//! Who a certificate speaks of: the URI in its subject alternative name, its key, its dates.
//!
//! Leaves to others: whether the chain is good (`tls`) and whether the node is still admitted (the registry).

use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use yika_crdt::channel::Place;
use yika_crdt::ids::{CampusId, Incarnation, NodeId, Writer};

/// Longest identity URI; a longer one is refused before it is parsed.
pub const IDENTITY_URI_BYTES_MAX: usize = 96;
/// Longest certificate that is looked at.
pub const CERTIFICATE_BYTES_MAX: usize = 4 << 10;

const ED25519_OID: &[u8] = &[0x2b, 0x65, 0x70];

/// What a node is allowed to be in the mesh.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub enum Role {
    /// The headquarters node: node 0, no campus.
    Hub,
    /// An edge box: any other node, with its campus.
    Edge,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Hub => "hub",
            Role::Edge => "edge",
        })
    }
}

/// The part of an identity that the authority certifies.
///
/// As text `yika:node/7/incarnation/1.1/campus/3/role/edge`, or
/// `yika:node/0/incarnation/1.1/campus/-/role/hub` for the hub.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct NodeIdentity {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// The campus of an edge; `None` for the hub.
    pub campus: Option<CampusId>,
    /// Hub or edge.
    pub role: Role,
}

/// Why a certificate or an identity text is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The text does not follow the form.
    #[error(
        "{0:?} is not an identity: expected yika:node/7/incarnation/1.1/campus/3/role/edge (campus/- and role/hub for node 0)"
    )]
    Uri(String),
    /// A hub with a campus, an edge without one, node 0 as an edge.
    #[error("{0:?} contradicts itself: the hub is node 0 without a campus, an edge is any other node with one")]
    Contradiction(String),
    /// The bytes are not a certificate of the expected form.
    #[error("certificate refused: {0}")]
    Certificate(&'static str),
}

impl NodeIdentity {
    /// The hub in one of its lives.
    pub fn hub(incarnation: Incarnation) -> Self {
        Self { node: NodeId::HUB, incarnation, campus: None, role: Role::Hub }
    }

    /// An edge of a campus in one of its lives.
    pub fn edge(node: NodeId, incarnation: Incarnation, campus: CampusId) -> Self {
        Self { node, incarnation, campus: Some(campus), role: Role::Edge }
    }

    /// The replica and feed writer this identity is.
    pub fn writer(&self) -> Writer {
        Writer { node: self.node, incarnation: self.incarnation }
    }

    /// The place that audiences are judged by.
    pub fn place(&self) -> Place {
        Place { node: self.node, campus: self.campus }
    }

    /// Hub ⇔ node 0 ⇔ no campus.
    pub fn is_consistent(&self) -> bool {
        match self.role {
            Role::Hub => self.node.is_hub() && self.campus.is_none(),
            Role::Edge => !self.node.is_hub() && self.campus.is_some(),
        }
    }
}

impl fmt::Display for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "yika:node/{}/incarnation/{}/campus/", self.node.0, self.incarnation)?;
        match self.campus {
            Some(campus) => write!(f, "{}", campus.0)?,
            None => write!(f, "-")?,
        }
        write!(f, "/role/{}", self.role)
    }
}

impl FromStr for NodeIdentity {
    type Err = IdentityError;

    /// Strict: exactly the form that `Display` writes (no leading zeros, signs, spaces or other order).
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let refuse = || IdentityError::Uri(text.chars().take(IDENTITY_URI_BYTES_MAX).collect());
        if text.len() > IDENTITY_URI_BYTES_MAX {
            return Err(refuse());
        }
        let identity = parse_uri(text).ok_or_else(refuse)?;
        if identity.to_string() != text {
            return Err(refuse());
        }
        if !identity.is_consistent() {
            return Err(IdentityError::Contradiction(text.to_owned()));
        }
        Ok(identity)
    }
}

fn parse_uri(text: &str) -> Option<NodeIdentity> {
    let mut parts = text.strip_prefix("yika:")?.split('/');
    let mut field = |name: &str| (parts.next()? == name).then(|| parts.next()).flatten();
    let node = field("node")?.parse().ok()?;
    let (generation, counter) = field("incarnation")?.split_once('.')?;
    let campus = match field("campus")? {
        "-" => None,
        digits => Some(CampusId(digits.parse().ok()?)),
    };
    let role = match field("role")? {
        "hub" => Role::Hub,
        "edge" => Role::Edge,
        _ => return None,
    };
    Some(NodeIdentity {
        node: NodeId(node),
        incarnation: Incarnation { generation: generation.parse().ok()?, counter: counter.parse().ok()? },
        campus,
        role,
    })
}

/// Who is at the other end, as its certificate proved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// The campus of an edge; `None` for the hub.
    pub campus: Option<CampusId>,
    /// Hub or edge.
    pub role: Role,
    /// Its Ed25519 public key.
    pub key: [u8; 32],
    /// The certificate's last second, Unix time.
    pub not_after_s: i64,
    /// The certificate was past its last second at the handshake. Reported, never refused for it.
    pub expired: bool,
}

impl PeerIdentity {
    /// The certified part.
    pub fn identity(&self) -> NodeIdentity {
        NodeIdentity { node: self.node, incarnation: self.incarnation, campus: self.campus, role: self.role }
    }

    /// The place that audiences are judged by.
    pub fn place(&self) -> Place {
        self.identity().place()
    }

    /// The replica and feed writer this peer is.
    pub fn writer(&self) -> Writer {
        self.identity().writer()
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.writer())?;
        if let Some(campus) = self.campus {
            write!(f, " of {campus}")?;
        }
        if self.expired {
            write!(f, " (certificate expired)")?;
        }
        Ok(())
    }
}

/// What a node certificate says, dates included; the chain is not looked at here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    pub(crate) identity: NodeIdentity,
    pub(crate) key: [u8; 32],
    pub(crate) not_before_s: i64,
    pub(crate) not_after_s: i64,
}

impl Facts {
    /// Reads a DER certificate; one URI name of our form, an Ed25519 key, nothing after the end.
    pub(crate) fn read(der: &[u8]) -> Result<Self, IdentityError> {
        let refuse = IdentityError::Certificate;
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err(refuse("longer than a node certificate can be"));
        }
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| refuse("not a certificate"))?;
        if !rest.is_empty() {
            return Err(refuse("bytes follow the certificate"));
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| refuse("the alternative name is malformed"))?
            .ok_or(refuse("no alternative name"))?;
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
            return Err(refuse("expected exactly one alternative name, a URI"));
        };
        let key = &certificate.public_key();
        if key.algorithm.algorithm.as_bytes() != ED25519_OID {
            return Err(refuse("the key is not Ed25519"));
        }
        let key = <[u8; 32]>::try_from(key.subject_public_key.data.as_ref())
            .map_err(|_| refuse("the key is not 32 bytes"))?;
        Ok(Self {
            identity: uri.parse()?,
            key,
            not_before_s: certificate.validity().not_before.timestamp(),
            not_after_s: certificate.validity().not_after.timestamp(),
        })
    }

    /// The peer these facts describe, judged at `now_s` (Unix seconds).
    pub(crate) fn peer(&self, now_s: i64) -> PeerIdentity {
        PeerIdentity {
            node: self.identity.node,
            incarnation: self.identity.incarnation,
            campus: self.identity.campus,
            role: self.identity.role,
            key: self.key,
            not_after_s: self.not_after_s,
            expired: now_s > self.not_after_s,
        }
    }
}

/// SHA-256 of the authority's certificate (DER), by which a box recognises its hub before it sends its secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

impl Pin {
    /// The pin of a certificate in DER.
    pub fn of(certificate_der: &[u8]) -> Self {
        Self(Sha256::digest(certificate_der).into())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pin {
    type Err = IdentityError;

    /// Accepts exactly `sha256:` and 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let refuse = IdentityError::Certificate("a pin is sha256: and 64 hexadecimal digits");
        let digits = text.strip_prefix("sha256:").ok_or(refuse.clone())?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| refuse)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use proptest::prelude::*;

    fn life(generation: u32, counter: u32) -> Incarnation {
        Incarnation { generation, counter }
    }

    #[test]
    fn texts_of_both_roles() {
        let edge = NodeIdentity::edge(NodeId(7), life(1, 1), CampusId(3));
        assert_eq!(edge.to_string(), "yika:node/7/incarnation/1.1/campus/3/role/edge");
        let hub = NodeIdentity::hub(life(2, 5));
        assert_eq!(hub.to_string(), "yika:node/0/incarnation/2.5/campus/-/role/hub");
        assert_eq!(edge.to_string().parse(), Ok(edge));
        assert_eq!(hub.to_string().parse(), Ok(hub));
    }

    #[test]
    fn other_spellings_and_contradictions_are_refused() {
        for text in [
            "",
            "yika:node/07/incarnation/1.1/campus/3/role/edge",
            "yika:node/+7/incarnation/1.1/campus/3/role/edge",
            "yika:node/7/incarnation/1.1/campus/3/role/edge/",
            "yika:node/7/incarnation/1.1/campus/3/role/edge/more",
            "yika:node/7/incarnation/1/campus/3/role/edge",
            "yika:node/7/campus/3/incarnation/1.1/role/edge",
            "yika:node/4294967296/incarnation/1.1/campus/3/role/edge",
            "YIKA:node/7/incarnation/1.1/campus/3/role/edge",
            "yika:node/7/incarnation/1.1/campus/3/role/admin",
        ] {
            assert!(matches!(text.parse::<NodeIdentity>(), Err(IdentityError::Uri(_))), "{text}");
        }
        for text in [
            "yika:node/0/incarnation/1.1/campus/3/role/edge",
            "yika:node/7/incarnation/1.1/campus/-/role/edge",
            "yika:node/7/incarnation/1.1/campus/-/role/hub",
            "yika:node/0/incarnation/1.1/campus/3/role/hub",
        ] {
            assert!(matches!(text.parse::<NodeIdentity>(), Err(IdentityError::Contradiction(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_round_trips(text in "\\PC{0,120}") {
            if let Ok(identity) = text.parse::<NodeIdentity>() {
                prop_assert_eq!(identity.to_string(), text);
            }
        }

        #[test]
        fn near_texts_are_refused_or_round_trip(
            text in "yika:node/[0-9+]{0,11}/incarnation/[0-9.]{0,12}/campus/[-0-9]{0,6}/role/(hub|edge|x)"
        ) {
            if let Ok(identity) = text.parse::<NodeIdentity>() {
                prop_assert_eq!(identity.to_string(), text);
            }
        }

        #[test]
        fn every_edge_round_trips(node in 1u32.., generation: u32, counter: u32, campus: u16) {
            let edge = NodeIdentity::edge(NodeId(node), life(generation, counter), CampusId(campus));
            prop_assert_eq!(edge.to_string().parse(), Ok(edge));
        }

        #[test]
        fn arbitrary_bytes_are_no_certificate(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Facts::read(&bytes).is_err());
        }

        #[test]
        fn pins_round_trip(bytes: [u8; 32]) {
            prop_assert_eq!(Pin(bytes).to_string().parse(), Ok(Pin(bytes)));
        }
    }
}

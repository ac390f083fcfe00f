//! A small mesh on loopback for the tests of the link.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)] // tests may panic

use ed25519_dalek::SigningKey;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use yika_crdt::ids::{CampusId, Incarnation, NodeId};
use yika_link::{Admission, Authority, EndpointKeys, JoinServer, Link, LinkConfig, NodeIdentity, Validity};

pub(crate) const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };

pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

pub(crate) fn authority(seed: u8) -> Authority {
    let pems = Authority::create("test", &[seed; 32], 1_700_000_000).unwrap();
    Authority::load(&pems.key_pem, &pems.certificate_pem).unwrap()
}

pub(crate) fn edge_id(node: u32) -> NodeIdentity {
    NodeIdentity::edge(NodeId(node), LIFE, CampusId(1))
}

pub(crate) fn key_of(node: u32) -> SigningKey {
    let mut seed = [1; 32];
    seed[..4].copy_from_slice(&node.to_be_bytes());
    SigningKey::from_bytes(&seed)
}

/// What a node of the mesh is configured with; bound to any port of 127.0.0.1.
pub(crate) fn config(ca: &Authority, identity: NodeIdentity) -> LinkConfig {
    let key = key_of(identity.node.0);
    let valid = Validity::days(now_s(), 30);
    LinkConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        certificate_der: ca.issue_own(&key, identity, valid).unwrap(),
        key,
        ca_der: ca.certificate_der().to_vec(),
        keys: EndpointKeys::generate().unwrap(),
        software: "yika test".to_owned(),
        admission: Arc::new(|_| Admission::Admit),
        join: None::<JoinServer>,
        clock_s: None,
    }
}

pub(crate) fn hub(ca: &Authority) -> Link {
    Link::bind(config(ca, NodeIdentity::hub(LIFE))).unwrap()
}

pub(crate) fn edge(ca: &Authority, node: u32) -> Link {
    Link::bind(config(ca, edge_id(node))).unwrap()
}

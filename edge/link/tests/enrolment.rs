//! Enrolment over real sockets: a token for a certificate, and every refusal on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod common;

use common::{LIFE, authority, config, edge_id, key_of};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use yika_link::{
    Enroller, Expected, Granted, JoinError, JoinRefusal, JoinServer, JoinString, Link, NodeIdentity, Pin, RefusalCode,
    Token, Validity, join, limits,
};

/// One token, bound to the first key that brings it.
#[derive(Default)]
struct OneToken {
    hash: [u8; 32],
    key: Mutex<BTreeMap<[u8; 32], [u8; 32]>>,
    asked: AtomicU32,
}

impl Enroller for OneToken {
    fn redeem(&self, hash: [u8; 32], key: [u8; 32], name: &str) -> Result<Granted, JoinRefusal> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let refuse = |code, words: &str| Err(JoinRefusal { code, words: words.to_owned(), campus: None });
        if hash != self.hash {
            return refuse(RefusalCode::UnknownToken, "no such token: make a new one at the hub");
        }
        if *self.key.lock().unwrap().entry(hash).or_insert(key) != key {
            return refuse(RefusalCode::UsedToken, "the token was used by another box");
        }
        assert_eq!(name, "canteen box");
        Ok(Granted {
            identity: edge_id(7),
            valid: Validity { not_before_s: 1_700_000_000, not_after_s: 1_900_000_000 },
            hub_name: "总部".to_owned(),
        })
    }
}

fn hub_with(token: &Token, seed: u8) -> (Link, Arc<OneToken>, Pin) {
    let ca = Arc::new(authority(seed));
    let enroller = Arc::new(OneToken { hash: token.hash(), ..OneToken::default() });
    let mut at_hub = config(&ca, NodeIdentity::hub(LIFE));
    at_hub.join = Some(JoinServer { authority: ca.clone(), enroller: enroller.clone() });
    (Link::bind(at_hub).unwrap(), enroller, ca.pin())
}

async fn try_join(addr: SocketAddr, pin: Pin, token: &Token, node: u32) -> Result<yika_link::Joined, JoinError> {
    join(addr, pin, token, "canteen box", "yika test", &key_of(node)).await
}

#[tokio::test]
async fn a_token_makes_a_node_that_the_hub_then_accepts() {
    let token = Token::generate().unwrap();
    let (hub, enroller, pin) = hub_with(&token, 1);
    let line = JoinString::new(&hub.local_addr().unwrap().to_string(), pin, token).unwrap().to_text();
    let pasted: JoinString = line.parse().unwrap();
    let addr = pasted.hub_addr.parse().unwrap();
    let joined = try_join(addr, pasted.pin, &pasted.token, 7).await.unwrap();
    assert_eq!((joined.node, joined.incarnation, joined.campus), (edge_id(7).node, LIFE, edge_id(7).campus));
    assert_eq!(joined.hub_name, "总部");
    assert_eq!(Pin::of(&joined.ca_der), pin);
    let again = try_join(addr, pasted.pin, &pasted.token, 7).await.unwrap();
    assert_eq!(again, joined, "the same token and key give the same certificate");
    let other = try_join(addr, pasted.pin, &pasted.token, 8).await.unwrap_err();
    assert!(matches!(other, JoinError::Refused(JoinRefusal { code: RefusalCode::UsedToken, .. })), "{other}");
    let wrong = try_join(addr, pasted.pin, &Token::new([0; 32]), 9).await.unwrap_err();
    assert!(wrong.to_string().contains("make a new one at the hub"), "{wrong}");
    assert_eq!(enroller.asked.load(Ordering::SeqCst), 4);

    let mut boxed = config(&authority(1), edge_id(7));
    boxed.certificate_der = joined.certificate_der;
    boxed.ca_der = joined.ca_der;
    let edge = Link::bind(boxed).unwrap();
    let (dialled, accepted) = tokio::join!(edge.dial(addr, Expected::Hub), hub.accept());
    dialled.unwrap();
    assert_eq!(accepted.unwrap().identity().identity(), edge_id(7));
}

#[tokio::test]
async fn with_a_wrong_pin_the_secret_never_leaves_the_box() {
    let token = Token::generate().unwrap();
    let (hub, enroller, _) = hub_with(&token, 1);
    let foreign = authority(2).pin();
    let error = try_join(hub.local_addr().unwrap(), foreign, &token, 7).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("nothing secret was sent"), "{said}");
    assert!(!said.contains("Error(") && !said.contains("Refusal") && !said.contains('«'), "{said}");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(enroller.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_edge_posing_as_the_hub_is_refused_although_its_authority_fits() {
    let ca = Arc::new(authority(1));
    let token = Token::generate().unwrap();
    let enroller = Arc::new(OneToken { hash: token.hash(), ..OneToken::default() });
    let mut thief = config(&ca, edge_id(66));
    thief.join = Some(JoinServer { authority: ca.clone(), enroller: enroller.clone() });
    let thief = Link::bind(thief).unwrap();
    let error = try_join(thief.local_addr().unwrap(), ca.pin(), &token, 7).await.unwrap_err();
    assert!(error.to_string().contains("is not the hub"), "{error}");
    assert_eq!(enroller.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_endpoint_that_does_not_enrol_says_so_and_attempts_are_limited() {
    let ca = authority(1);
    let plain = common::hub(&ca);
    let token = Token::generate().unwrap();
    assert!(try_join(plain.local_addr().unwrap(), ca.pin(), &token, 7).await.is_err());

    let (hub, _, pin) = hub_with(&token, 1);
    let addr = hub.local_addr().unwrap();
    let wrong = Arc::new(Token::new([0; 32]));
    let tries: Vec<_> = (0..4 * limits::JOIN_ATTEMPTS_PER_ADDRESS_PER_S_MAX)
        .map(|node| {
            let wrong = wrong.clone();
            tokio::spawn(async move { try_join(addr, pin, &wrong, node + 1).await.unwrap_err().to_string() })
        })
        .collect();
    let mut limited = 0;
    for attempt in tries {
        limited += u32::from(attempt.await.unwrap().contains("too many attempts"));
    }
    assert!(limited > 0, "no attempt was limited");
}

//! Signatures against vectors, parsers against noise, lists against a model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use super::list::*;
use super::message::*;
use super::sign::*;
use super::vectors;
use proptest::prelude::*;
use std::collections::BTreeMap;

const KEY: [u8; 32] = [7; 32];

fn unsigned() -> Signed {
    Signed { terminal: 10, key_version: 2, boot: 3, time_ms: 1_795_494_600_000, nonce: 0xabc, signature: [0; 32] }
}

#[test]
fn a_changed_byte_anywhere_breaks_the_signature() {
    let good = unsigned().sign(&KEY, "POST", "/terminal/v1/purchase", b"{}").unwrap();
    assert_eq!(good.verify(&KEY, "POST", "/terminal/v1/purchase", b"{}"), Ok(()));
    let others = [
        Signed { terminal: 11, ..good },
        Signed { boot: 4, ..good },
        Signed { time_ms: good.time_ms + 1, ..good },
        Signed { nonce: good.nonce + 1, ..good },
    ];
    for other in others {
        assert_eq!(other.verify(&KEY, "POST", "/terminal/v1/purchase", b"{}"), Err(SignatureError::Wrong));
    }
    assert_eq!(good.verify(&KEY, "GET", "/terminal/v1/purchase", b"{}"), Err(SignatureError::Wrong));
    assert_eq!(good.verify(&KEY, "POST", "/terminal/v1/refund", b"{}"), Err(SignatureError::Wrong));
    assert_eq!(good.verify(&KEY, "POST", "/terminal/v1/purchase", b"{} "), Err(SignatureError::Wrong));
    assert_eq!(good.verify(&[8; 32], "POST", "/terminal/v1/purchase", b"{}"), Err(SignatureError::Wrong));
}

proptest! {
    #[test]
    fn headers_round_trip(terminal: u32, key_version: u16, boot: u32, time_ms: i64, nonce: u128, signature: [u8; 32]) {
        let signed = Signed { terminal, key_version, boot, time_ms, nonce, signature };
        let headers: BTreeMap<_, _> = signed.headers().into_iter().collect();
        prop_assert_eq!(Signed::parse(|name| headers.get(name).map(String::as_str)), Ok(signed));
    }

    #[test]
    fn noise_in_headers_is_an_error_or_reads_as_itself(noise in prop::collection::vec("[-+0-9a-fA-F ]{0,70}", 6)) {
        let names = [TERMINAL, KEY_VERSION, BOOT, TIME, NONCE, SIGNATURE];
        let headers: BTreeMap<_, _> = names.into_iter().zip(noise).collect();
        if let Ok(read) = Signed::parse(|name| headers.get(name).map(String::as_str)) {
            prop_assert_eq!(read.headers().into_iter().collect::<BTreeMap<_, _>>(), headers);
        }
    }

    #[test]
    fn noise_in_bodies_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = serde_json::from_slice::<Purchase>(&bytes);
        let _ = serde_json::from_slice::<Batch>(&bytes);
        let _ = serde_json::from_slice::<Refund>(&bytes);
    }

    #[test]
    fn a_presented_card_never_panics(text in ".{0,80}", form in 0usize..7, reversed: bool) {
        use crate::card_format::{ByteOrder, Form};
        let byte_order = if reversed { ByteOrder::Reversed } else { ByteOrder::Canonical };
        let _ = PresentedCard::Reader { text: text.clone(), form: Form::ALL[form], byte_order }.chip();
        let _ = PresentedCard::Uid { uid: text }.chip();
    }

    /// Whatever versions a terminal missed, what it gets makes its list equal to the edge's.
    #[test]
    fn lists_converge(steps in prop::collection::vec((prop::collection::btree_set(0u64..30, 0..20), any::<bool>()), 1..20)) {
        let mut edge = VersionedList::new(1_000);
        let mut held = HeldList::default();
        for (cards, asks) in steps {
            edge.replace(cards.iter().map(|card| BlockLine { card: *card }));
            if asks {
                let delta = edge.delta(held.version());
                prop_assert_eq!(held.apply(delta), Ok(()));
                prop_assert_eq!(held.version(), edge.version());
                prop_assert!(cards.iter().all(|card| held.get(*card).is_some()));
                prop_assert_eq!(held.len(), cards.len());
            }
        }
    }
}

#[test]
fn a_difference_that_does_not_fit_changes_nothing() {
    let mut edge = VersionedList::new(5);
    edge.replace([BlockLine { card: 1 }]);
    let mut held = HeldList::default();
    held.apply(edge.delta(0)).unwrap();
    let before = held.clone();
    edge.replace([BlockLine { card: 2 }]);
    let delta = edge.delta(held.version());
    assert_eq!((delta.from, delta.put.len(), delta.remove.clone()), (6, 1, vec![1]));
    let wrong = ListDelta { hash: "0".repeat(64), ..delta.clone() };
    assert_eq!(held.apply(wrong), Err(ListError::OtherHash));
    let elsewhere = ListDelta { from: 3, ..delta };
    assert_eq!(held.apply(elsewhere), Err(ListError::OtherVersion { from: 3, held: 6 }));
    assert_eq!(held, before);
    assert_eq!(edge.delta(99).from, 0, "a version from elsewhere gets the whole list");
}

#[test]
fn a_long_history_is_forgotten_and_old_holders_get_the_whole_list() {
    let mut edge = VersionedList::new(1);
    let first = edge.replace([BlockLine { card: 1 }]);
    for round in 0..3u64 {
        edge.replace((0..HISTORY_LINES_MAX as u64 / 2).map(|n| BlockLine { card: round * 1_000_000 + n }));
    }
    assert_eq!(edge.delta(first).from, 0);
    assert_eq!(edge.delta(edge.version()).put.len(), 0);
}

#[test]
fn what_is_not_in_the_form_is_refused() {
    let wrong = [
        r#"{"id":{"terminal":1,"boot":1,"seq":1},"card":{"kind":"number","number":1},"mode":{"kind":"amount","fen":1.5},"time_ms":0}"#,
        r#"{"id":{"terminal":1,"boot":1,"seq":1},"card":{"kind":"number","number":1},"mode":{"kind":"amount","fen":9223372036854775808},"time_ms":0}"#,
        r#"{"id":{"terminal":1,"boot":1,"seq":1},"card":{"kind":"number","number":1},"mode":{"kind":"fixed","fen":1},"time_ms":0}"#,
        r#"{"id":{"terminal":1,"boot":1,"seq":1},"card":{"kind":"number","number":1},"mode":{"kind":"count"},"time_ms":0,"pin":1}"#,
        r#"{"id":{"terminal":1,"boot":1,"seq":-1},"card":{"kind":"number","number":1},"mode":{"kind":"count"},"time_ms":0}"#,
        r#"{"id":{"terminal":1,"boot":1,"seq":1},"card":{"kind":"uid","uid":"0123456789abcdef"},"mode":{"kind":"count"},"time_ms":0}"#,
    ];
    for text in wrong {
        assert!(serde_json::from_str::<Purchase>(text).is_err(), "{text}");
    }
    let right = wrong[5].replace("0123456789abcdef", "0b3e3636");
    let read: Purchase = serde_json::from_str(&right).unwrap();
    assert_eq!(read.card.chip(), Some(0x0B3E_3636));
}

#[test]
fn our_signatures_are_those_of_another_implementation() {
    let published = vectors::vectors().unwrap();
    let mut key = [0; 32];
    hex::decode_to_slice(&published.key, &mut key).unwrap();
    assert!(!published.vectors.is_empty());
    for v in published.vectors {
        let unsigned = Signed {
            terminal: v.terminal,
            key_version: v.key_version,
            boot: v.boot,
            time_ms: v.time_ms,
            nonce: u128::from_str_radix(&v.nonce, 16).unwrap(),
            signature: [0; 32],
        };
        assert_eq!(unsigned.text(&v.method, &v.path, v.body.as_bytes()).unwrap(), v.signed_text, "{}", v.name);
        let signed = unsigned.sign(&key, &v.method, &v.path, v.body.as_bytes()).unwrap();
        assert_eq!(hex::encode(signed.signature), v.signature, "{}", v.name);
        let answer = sign_answer(&key, &signed.signature, v.answer_status, v.answer_body.as_bytes());
        assert_eq!(hex::encode(answer), v.answer_signature, "{}", v.name);
    }
}

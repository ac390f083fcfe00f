//! Whatever can be said or kept is read as it was written: every kind of entry, message and item, whatever is in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use yika_crdt::docs::{Act, ActBody, DocState, PolicyAct};
use yika_crdt::entry::{Body, Entry, Statement};
use yika_crdt::feed::{Run, SignedHead};
use yika_crdt::person::Person;
use yika_crdt::snapshot::{Item, SignedManifest};
use yika_crdt::store::Batch;
use yika_crdt::sync::{Claim, Message, SnapshotWord};
use yika_crdt::wire;
use yika_fuzz::dice::Dice;
use yika_fuzz::draw::{draw, draw_variant};
use yika_hub::store::TableRow;

/// Kinds of an enumeration, by drawing each until there is none.
fn kinds<T: DeserializeOwned>() -> u32 {
    let mut dice = Dice::new(1);
    (0..).take_while(|kind| draw_variant::<T>(&mut dice, *kind).is_some()).count() as u32
}

fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let bytes = wire::encode(value);
    assert!(!bytes.is_empty(), "{value:?}");
    assert_eq!(wire::decode::<T>(&bytes, usize::MAX).as_ref(), Ok(value));
    // Nothing shorter is the same, and nothing may follow.
    assert!(wire::decode::<T>(&bytes[..bytes.len() - 1], usize::MAX).as_ref() != Ok(value));
    assert!(wire::decode::<T>(&[&bytes[..], &[0]].concat(), usize::MAX).is_err());
}

/// Every kind of an enumeration, with something else in it for every seed.
fn each_kind<T: Serialize + DeserializeOwned + PartialEq + Debug>(seed: u64) {
    let mut dice = Dice::new(seed);
    for kind in 0..kinds::<T>() {
        same(&draw_variant::<T>(&mut dice, kind).unwrap());
    }
}

fn some<T: Serialize + DeserializeOwned + PartialEq + Debug>(seed: u64) {
    same(&draw::<T>(&mut Dice::new(seed)).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Entries are hashed, so that a second spelling of one would be a second entry.
    #[test]
    fn every_kind_of_entry_is_read_as_it_was_written(seed: u64) {
        each_kind::<Body>(seed);
        some::<Entry>(seed);
        let entry: Entry = draw(&mut Dice::new(seed)).unwrap();
        prop_assert_eq!(Entry::decode(&entry.encode()), Ok(entry.clone()));
        // Whatever is in it, whether it can be used is answered.
        let _ = (entry.body.fault(), entry.body.answers());
    }

    #[test]
    fn every_message_is_read_as_it_was_said(seed: u64) {
        each_kind::<Message>(seed);
        each_kind::<SnapshotWord>(seed);
        some::<Run>(seed);
        some::<Claim>(seed);
        some::<SignedHead>(seed);
    }

    #[test]
    fn what_snapshots_and_documents_hold_is_read_as_it_was_written(seed: u64) {
        each_kind::<Item>(seed);
        each_kind::<ActBody>(seed);
        each_kind::<PolicyAct>(seed);
        some::<Act>(seed);
        some::<SignedManifest>(seed);
        some::<DocState>(seed);
    }

    #[test]
    fn what_a_turn_writes_is_read_as_it_was_written(seed: u64) {
        some::<Batch>(seed);
        some::<Person>(seed);
        some::<Statement>(seed);
        each_kind::<TableRow>(seed);
        each_kind::<yika_hub::core::TableRow>(seed);
    }
}

/// The drawing reaches all of it: a kind that is added is drawn without a line here.
#[test]
fn every_kind_is_drawn() {
    assert!(kinds::<Body>() >= 28, "{}", kinds::<Body>());
    assert!(kinds::<Message>() >= 17, "{}", kinds::<Message>());
    assert!(kinds::<SnapshotWord>() >= 8 && kinds::<Item>() >= 9);
}

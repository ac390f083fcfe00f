//! Decoders of what comes from outside: whatever the bytes, an answer and no panic; what was written is read again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use super::*;
use crate::channel::BlockScope;
use crate::ids::{Incarnation, NodeId};
use proptest::prelude::*;

fn manifest(bytes: u64) -> SignedManifest {
    let key = SigningKey::from_bytes(&[7; 32]);
    let by = Writer { node: NodeId::HUB, incarnation: Incarnation { generation: 1, counter: 1 } };
    let feed = FeedId { writer: by, channel: Channel::Registry };
    let chunks = vec![Hash([1; 32]); bytes.div_ceil(CHUNK_BYTES as u64) as usize];
    let feeds = vec![(feed, End { seq: Seq(9), hash: Hash([2; 32]) })];
    let (audience, version) = (Audience::Everyone, SNAPSHOT_VERSION);
    Manifest { version, by, audience, cut_ms: 1, feeds, drop: vec![(feed, Seq(4))], items: 1, bytes, chunks }.sign(&key)
}

#[test]
fn a_manifest_is_read_as_it_was_written_and_no_other_way() {
    let signed = manifest(3 * CHUNK_BYTES as u64 - 1);
    let bytes = signed.encode();
    assert_eq!(SignedManifest::decode(&bytes), Ok(signed.clone()));
    assert_eq!(signed.manifest.chunk_bytes(1), CHUNK_BYTES);
    assert_eq!(signed.manifest.chunk_bytes(2), CHUNK_BYTES - 1);
    assert_eq!(signed.manifest.chunk_bytes(3), 0);
    for end in 0..bytes.len() {
        assert!(SignedManifest::decode(&bytes[..end]).is_err(), "{end}");
    }
    assert!(SignedManifest::decode(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn a_fetch_keeps_a_prefix_and_goes_on_where_it_ended() {
    let chunks = [vec![1; CHUNK_BYTES], vec![2; CHUNK_BYTES], vec![3; 7]];
    let mut signed = manifest(2 * CHUNK_BYTES as u64 + 7);
    signed.manifest.chunks = chunks.iter().map(|chunk| chunk_hash(chunk)).collect();
    let mut fetch = Fetch::new(signed.clone(), 0);
    assert_eq!((fetch.ask(), fetch.ask(), fetch.ask(), fetch.ask()), (Some(0), Some(1), Some(2), None));
    assert_eq!(fetch.judge(1, &chunks[1]), Placed::Ignore, "only the next one is kept");
    assert_eq!(fetch.judge(0, &chunks[1]), Placed::Wrong);
    assert_eq!(fetch.judge(0, &chunks[0]), Placed::Keep);
    fetch.keep();
    assert_eq!(fetch.judge(0, &chunks[0]), Placed::Ignore);
    // The connection is lost; another one goes on.
    let mut fetch = Fetch::new(signed, fetch.kept());
    assert_eq!(fetch.judge(1, &chunks[1]), Placed::Ignore, "nobody has asked for it yet");
    for chunk in [1, 2] {
        assert_eq!(fetch.ask(), Some(chunk));
        assert_eq!(fetch.judge(chunk, &chunks[chunk as usize]), Placed::Keep);
        fetch.keep();
    }
    assert!(fetch.is_whole());
    assert_eq!(fetch.ask(), None);
}

proptest! {
    #[test]
    fn any_bytes_are_a_manifest_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = SignedManifest::decode(&bytes);
    }

    #[test]
    fn a_changed_manifest_is_foreign_or_no_manifest(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
        let mut bytes = manifest(100).encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let taken = SignedManifest::decode(&bytes).and_then(|signed| signed.verify([&key]));
        prop_assert!(taken.is_err());
    }

    #[test]
    fn items_come_out_as_they_went_in_however_they_are_cut(
        hashes in prop::collection::vec(any::<[u8; 32]>(), 0..20),
        cuts in prop::collection::vec(1usize..50, 1..40),
    ) {
        let items: Vec<Item> = hashes.into_iter().map(|hash| Item::Lift(Hash(hash), BlockScope::Hub)).collect();
        let mut bytes: Vec<u8> = items.iter().flat_map(|item| item.frame().unwrap()).collect();
        let mut reader = ItemReader::default();
        let mut came = Vec::new();
        let mut sizes = cuts.into_iter().cycle();
        while !bytes.is_empty() {
            let rest = bytes.split_off(sizes.next().unwrap().min(bytes.len()));
            reader.push(&std::mem::replace(&mut bytes, rest));
            while let Some(item) = reader.take().unwrap() {
                came.push(item);
            }
        }
        prop_assert!(reader.is_empty());
        prop_assert_eq!(came, items);
    }

    #[test]
    fn any_bytes_are_items_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut reader = ItemReader::default();
        reader.push(&bytes);
        while let Ok(Some(_)) = reader.take() {}
    }
}

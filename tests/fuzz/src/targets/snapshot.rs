//! Snapshots: the manifest, and a stream of items that headquarters has signed, be it wrong.

use super::nodes::{key, writer};
use crate::dice::Dice;
use crate::draw::draw_variant;
use crate::target::{Seen, Target, refused, taken};
use std::collections::BTreeMap;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::docs::{DocId, DocKind, DocState, Document};
use yika_crdt::entry::{Body, NodeRecord};
use yika_crdt::feed::{self, End, SignedHead};
use yika_crdt::ids::{CampusId, NodeId};
use yika_crdt::snapshot::{
    Audience, CHUNK_BYTES, Check, Item, ItemReader, Judge, Manifest, SNAPSHOT_VERSION, SavedDocument, SignedManifest,
    SnapshotRefused, chunk_hash,
};
use yika_crdt::wire;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "manifest",
        about: "the manifest of a snapshot",
        input_bytes_max: 64 << 10,
        memory_bytes_max: super::MEMORY_BYTES_MAX,
        run: manifest,
        seeds: || vec![signed(&stream(&items())).encode(), signed(&[0; 3 * CHUNK_BYTES / 2]).encode()],
    },
    Target {
        name: "snapshot",
        about: "the items of a snapshot, signed by headquarters as they are",
        input_bytes_max: 3 * CHUNK_BYTES,
        memory_bytes_max: 24 << 20,
        run: snapshot,
        seeds,
    },
];

fn manifest(bytes: &[u8]) -> Seen {
    match SignedManifest::decode(bytes) {
        Err(error) => refused(&error),
        Ok(signed) => {
            assert_eq!(signed.encode(), bytes, "other bytes are the same manifest");
            let known = signed.manifest.feeds.iter().all(|(feed, end)| signed.manifest.base(feed) == Some(*end));
            assert!(known, "a feed whose base is not found");
            let chunks = signed.manifest.chunks.len() as u32;
            let sum: u64 = (0..chunks).map(|chunk| signed.manifest.chunk_bytes(chunk) as u64).sum();
            assert_eq!(sum, signed.manifest.bytes, "the chunks are not its bytes");
            taken(&(&signed, signed.verify([&key().verifying_key()]).is_ok()))
        }
    }
}

/// A manifest that says of a stream what is in it.
fn signed(stream: &[u8]) -> SignedManifest {
    let (mut items, mut feeds) = (0, BTreeMap::new());
    let mut reader = ItemReader::default();
    reader.push(stream);
    while let Ok(Some(item)) = reader.take() {
        items += 1;
        if let Item::Head(head) = item {
            feeds.insert(head.feed, head.end);
        }
    }
    let manifest = Manifest {
        version: SNAPSHOT_VERSION,
        by: writer(0),
        audience: Audience::Everyone,
        cut_ms: 1_800_000_000_000,
        feeds: feeds.into_iter().collect(),
        drop: Vec::new(),
        items,
        bytes: stream.len() as u64,
        chunks: stream.chunks(CHUNK_BYTES).map(chunk_hash).collect(),
    };
    manifest.sign(&key())
}

fn snapshot(stream: &[u8]) -> Seen {
    match taken_in(stream) {
        Ok(values) => taken(&values),
        Err(error) => refused(&error),
    }
}

fn taken_in(stream: &[u8]) -> Result<Vec<&'static str>, SnapshotRefused> {
    let place = Place { node: NodeId(1), campus: Some(CampusId(1)) };
    let judge = Judge::new(place, &[]).trusting(key().verifying_key());
    let mut check = Check::new(signed(stream), judge)?;
    for chunk in stream.chunks(CHUNK_BYTES) {
        check.chunk(chunk)?;
    }
    let mut steps = check.finish()?;
    let mut kinds = Vec::new();
    for chunk in stream.chunks(CHUNK_BYTES) {
        // What was checked is taken: nothing is refused the second time.
        match steps.chunk(chunk) {
            Ok(steps) => kinds.extend(steps.iter().map(|step| if step.values() > 1 { "many" } else { "one" })),
            Err(error) => panic!("checked and then refused: {error}"),
        }
    }
    match steps.closing() {
        Ok(step) => assert!(step.closing.is_some()),
        Err(error) => panic!("whole and then refused: {error}"),
    }
    Ok(kinds)
}

fn stream(items: &[Item]) -> Vec<u8> {
    let framed = |item: &Item| {
        let body = wire::encode(item);
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    };
    items.iter().flat_map(framed).collect()
}

/// Items as headquarters cuts them.
fn items() -> Vec<Item> {
    let id = DocId { kind: DocKind::People { campus: CampusId(1), shard: 0 }, epoch: 1 };
    let saved = Some(Document::new(id).save());
    let document =
        SavedDocument { id, epoch: 1, saved, state: DocState::default(), log: Vec::new(), waiting: Vec::new() };
    let record = NodeRecord {
        writer: writer(2),
        campus: Some(CampusId(1)),
        key: key().verifying_key().to_bytes(),
        name: "东校区 2".to_owned(),
        address: None,
    };
    let feed = FeedId { writer: writer(2), channel: Channel::People(CampusId(1)) };
    let end = feed::link(&feed, End::default(), b"an entry");
    vec![
        Item::Document(Box::new(document)),
        Item::Registry(Box::new(Body::Node(record))),
        Item::Head(SignedHead::sign(feed, end, &key())),
    ]
}

fn seeds() -> Vec<Vec<u8>> {
    let mut dice = Dice::new(4);
    let mut each = Vec::new();
    for variant in 0.. {
        let Some(item) = draw_variant::<Item>(&mut dice, variant) else { break };
        each.push(stream(&[item]));
    }
    each.push(stream(&items()));
    each
}

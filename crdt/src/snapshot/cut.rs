//! Cutting: what a store says of an audience's feeds at one moment, written as items, hashed chunk by chunk.
//!
//! The store must answer from one moment throughout (a read transaction, or the writer's turn): entries and what they
//! came to are stored together, so whatever is seen of a feed is applied. Leaves to others: when to cut, where bytes go.

use super::{Audience, CHUNK_BYTES, Item, Manifest, SNAPSHOT_BYTES_MAX, SNAPSHOT_FEEDS_MAX, SNAPSHOT_VERSION};
use super::{SavedDocument, SignedManifest, chunk_hash};
use crate::channel::{BlockScope, FeedId};
use crate::docs::{DocId, DocSet};
use crate::entry::{Body, RebaseRecord};
use crate::feed::{End, Hash, SignedHead};
use crate::ids::{Seq, Writer};
use crate::keys;
use crate::people::BlockPlace;
use crate::proof;
use crate::store::{Read, StoreError, Tx, decode_row};
use crate::wire;
use ed25519_dalek::SigningKey;
use serde::de::DeserializeOwned;

/// Rows read at once.
const ROWS: usize = 1_024;

/// Why nothing was cut.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// Storage of the node.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The place where the bytes go.
    #[error("the snapshot cannot be written: {0}")]
    Sink(std::io::Error),
    /// More than any box takes.
    #[error("the snapshot would have {what} {count}, at most {limit} are taken")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        count: u64,
        /// How much is taken.
        limit: u64,
    },
}

/// Who cuts, for whom, when.
pub struct Cutter<'k> {
    /// The hub's life.
    pub by: Writer,
    /// Its key.
    pub key: &'k SigningKey,
    /// For whom.
    pub audience: Audience,
    /// Hub time.
    pub cut_ms: i64,
    /// Entries that may leave every node; what this snapshot does not cover is left out.
    pub drop: Vec<(FeedId, Seq)>,
}

/// Cuts a snapshot; its chunks go to `sink` in order.
///
/// # Errors
/// Of the store and the sink, or beyond a bound; what the sink got is worth nothing.
pub fn cut<R: Read + ?Sized>(
    store: &R,
    cutter: Cutter<'_>,
    sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<SignedManifest, CutError> {
    let Cutter { by, key, audience, cut_ms, drop } = cutter;
    let heads = heads(store, by, key, audience)?;
    let mut pack = Packer { sink, waiting: Vec::new(), chunks: Vec::new(), items: 0, bytes: 0 };
    if audience == Audience::Everyone {
        rows(store, keys::LIFTS, |(hash, scope): (Hash, BlockScope)| pack.say(&Item::Lift(hash, scope)))?;
        if !proof::sown("snapshot_without_lifts_of_boxes") {
            rows(store, keys::BOX_LIFTS, |(hash, place): (Hash, BlockPlace)| {
                pack.say(&Item::Lift(hash, place.scope()))
            })?;
        }
        rows(store, keys::LIFT_RANGES, |range| pack.say(&Item::LiftRange(range)))?;
        rows(store, keys::BLOCKS, |row| pack.say(&Item::Block(row)))?;
        rows(store, keys::REBASES, |record: RebaseRecord| pack.say(&Item::Rebase(record.into())))?;
    }
    let tx = Tx::new(store);
    let mut ids = DocSet::stored(&tx)?;
    // Of a document in which nothing is left its epoch is.
    each(store, keys::EPOCHS, |key, epoch| {
        let epoch = decode_row(key, epoch)?;
        ids.extend(keys::epoch_kind(key).map(|kind| DocId { kind, epoch }));
        Ok(())
    })?;
    for id in ids.into_iter().filter(|id| audience.covers(id.channel())) {
        let epoch = crate::documents::current_epoch(&tx, &id.kind)?;
        let document: SavedDocument = DocSet::saved(&tx, id, epoch)?;
        pack.say(&Item::Document(document.into()))?;
    }
    if audience == Audience::Everyone {
        let mut say = |body| pack.say(&Item::Registry(Box::new(body)));
        rows(store, keys::CAMPUSES, |r| say(Body::Campus(r)))?;
        rows(store, keys::NODES, |r| say(Body::Node(r)))?;
        rows(store, keys::FENCES, |r| say(Body::Fence(r)))?;
        rows(store, keys::TARIFFS, |r| say(Body::Tariff(r)))?;
        rows(store, keys::TERMINALS, |r| say(Body::Terminal(r)))?;
    }
    quarantined(store, audience, &mut pack)?;
    if audience == Audience::Everyone {
        rows(store, keys::FORKS, |proof| pack.say(&Item::Fork(proof)))?;
    }
    for head in &heads {
        pack.say(&Item::Head(head.clone()))?;
    }
    pack.flush()?;
    let feeds: Vec<(FeedId, End)> = heads.iter().map(|head| (head.feed, head.end)).collect();
    let Packer { chunks, items, bytes, .. } = pack;
    let mut manifest =
        Manifest { version: SNAPSHOT_VERSION, by, audience, cut_ms, feeds, drop: Vec::new(), items, bytes, chunks };
    manifest.drop = drop;
    manifest.drop.sort_unstable();
    let covered = |(feed, seq): &(FeedId, Seq)| manifest.base(feed).is_some_and(|base| *seq <= base.seq);
    let kept: Vec<_> = manifest.drop.iter().copied().filter(covered).collect();
    manifest.drop = kept;
    Ok(manifest.sign(key))
}

/// The writers' words on where their feeds end here; this hub's own are signed now.
fn heads<R: Read + ?Sized>(
    store: &R,
    by: Writer,
    key: &SigningKey,
    audience: Audience,
) -> Result<Vec<SignedHead>, CutError> {
    let mut heads = Vec::new();
    for (feed, held) in store.feeds()? {
        if !audience.covers(feed.channel) || held.end.seq == Seq::ZERO {
            continue;
        }
        let signed = match feed.writer == by {
            true => None,
            false => store.head_from(&feed, held.end.seq)?.filter(|head| head.end == held.end),
        };
        match signed {
            Some(head) => heads.push(head),
            // A former life of this hub had the same key.
            None if feed.writer.node.is_hub() => heads.push(SignedHead::sign(feed, held.end, key)),
            // Its entries are in the documents all the same; boxes get them a second time, which changes nothing.
            None => {}
        }
    }
    heads.sort_unstable_by_key(|head| head.feed);
    within("feeds", heads.len() as u64, SNAPSHOT_FEEDS_MAX as u64)?;
    Ok(heads)
}

fn quarantined<R: Read + ?Sized>(store: &R, audience: Audience, pack: &mut Packer<'_>) -> Result<(), CutError> {
    each(store, keys::QUARANTINE, |key, value| {
        let Some((feed, seq)) = keys::quarantined(key).filter(|(feed, _)| audience.covers(feed.channel)) else {
            return Ok(());
        };
        pack.say(&Item::Quarantined { feed, seq, cause: decode_row(key, value)? })
    })
}

fn rows<R: Read + ?Sized, T: DeserializeOwned>(
    store: &R,
    prefix: &[u8],
    mut take: impl FnMut(T) -> Result<(), CutError>,
) -> Result<(), CutError> {
    each(store, prefix, |key, value| take(decode_row(key, value)?))
}

fn each<R: Read + ?Sized>(
    store: &R,
    prefix: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), CutError>,
) -> Result<(), CutError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.scan(prefix, after.as_deref(), ROWS)?;
        for (key, value) in &page {
            take(key, value)?;
        }
        match page.into_iter().next_back() {
            Some((key, _)) => after = Some(key),
            None => return Ok(()),
        }
    }
}

/// Frames items and lets full chunks go.
struct Packer<'s> {
    sink: &'s mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    waiting: Vec<u8>,
    chunks: Vec<Hash>,
    items: u64,
    bytes: u64,
}

impl Packer<'_> {
    fn say(&mut self, item: &Item) -> Result<(), CutError> {
        let too_large = || {
            let count = wire::encode(item).len() as u64;
            CutError::TooLarge { what: "an item of bytes", count, limit: super::ITEM_BYTES_MAX as u64 }
        };
        self.waiting.extend(item.frame().ok_or_else(too_large)?);
        self.items += 1;
        while self.waiting.len() >= CHUNK_BYTES {
            let rest = self.waiting.split_off(CHUNK_BYTES);
            let full = std::mem::replace(&mut self.waiting, rest);
            self.put(&full)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CutError> {
        let last = std::mem::take(&mut self.waiting);
        if last.is_empty() { Ok(()) } else { self.put(&last) }
    }

    fn put(&mut self, chunk: &[u8]) -> Result<(), CutError> {
        self.bytes += chunk.len() as u64;
        within("bytes", self.bytes, SNAPSHOT_BYTES_MAX)?;
        self.chunks.push(chunk_hash(chunk));
        (self.sink)(chunk).map_err(CutError::Sink)
    }
}

fn within(what: &'static str, count: u64, limit: u64) -> Result<(), CutError> {
    if count > limit { Err(CutError::TooLarge { what, count, limit }) } else { Ok(()) }
}

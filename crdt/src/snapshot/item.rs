//! What a snapshot says, item by item, as length-prefixed canonical bytes in one stream that is cut into chunks.
//!
//! Items come in a fixed order, so that what cursors rest on stands last. Leaves to others: taking them in (`restore`).

use super::{Audience, ITEM_BYTES_MAX, SnapshotRefused};
use crate::channel::{BlockScope, Channel, FeedId};
use crate::docs::{DocId, DocState, WAITING_CHANGES_MAX};
use crate::entry::{Body, RebaseRecord};
use crate::feed::{Hash, SignedHead};
use crate::ids::Seq;
use crate::mesh::{BlockRow, LiftRange};
use crate::wire;
use serde::{Deserialize, Serialize};

/// Bytes of the length before each item.
const LENGTH_BYTES: usize = 4;

/// A document as a store keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SavedDocument {
    /// Which.
    pub id: DocId,
    /// The present epoch of its kind where it was saved; `id` is of this epoch, or of a later one that has begun to come.
    pub epoch: u32,
    /// The document saved whole, with its checksum.
    pub saved: Option<Vec<u8>>,
    /// Which writers are ignored in it.
    pub state: DocState,
    /// Changes since it was saved whole.
    pub log: Vec<Vec<u8>>,
    /// Changes that wait for others.
    pub waiting: Vec<Vec<u8>>,
}

/// One thing that a snapshot says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Item {
    /// A block is withdrawn, on an authority.
    Lift(Hash, BlockScope),
    /// All blocks in a range of a feed are withdrawn by the hub.
    LiftRange(LiftRange),
    /// A card or person is refused.
    Block(BlockRow),
    /// A document's epoch has ended, or is about to.
    Rebase(Box<RebaseRecord>),
    /// A document.
    Document(Box<SavedDocument>),
    /// The newest word of the registry on one thing.
    Registry(Box<Body>),
    /// An entry that could not be used.
    Quarantined {
        /// Its feed.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// Why.
        cause: String,
    },
    /// A writer wrote a feed twice.
    Fork(Box<(SignedHead, SignedHead)>),
    /// The writer's word on the base of its feed.
    Head(SignedHead),
}

impl Item {
    /// Its place in the stream.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Item::Lift(..) | Item::LiftRange(_) => 0,
            Item::Block(_) => 1,
            Item::Rebase(_) => 2,
            Item::Document(_) => 3,
            Item::Registry(_) => 4,
            Item::Quarantined { .. } => 5,
            Item::Fork(_) => 6,
            Item::Head(_) => 7,
        }
    }

    /// Whether cursors rest on it: such items are taken in together with them, at the end.
    pub(super) fn is_closing(&self) -> bool {
        self.rank() > 3 || matches!(self, Item::Rebase(_))
    }

    /// Whether such an item may be in a snapshot of this audience.
    pub(super) fn belongs(&self, audience: Audience) -> bool {
        match self {
            Item::Lift(..) | Item::LiftRange(_) | Item::Block(_) | Item::Rebase(_) | Item::Fork(_) => {
                audience == Audience::Everyone
            }
            Item::Document(document) => audience.covers(document.id.channel()),
            Item::Registry(body) => {
                let is_rebase = matches!(**body, Body::Rebase(_));
                audience == Audience::Everyone && body.belongs(Channel::Registry) && !is_rebase
            }
            Item::Quarantined { feed, .. } => audience.covers(feed.channel),
            Item::Head(head) => audience.covers(head.feed.channel),
        }
    }

    /// Canonical bytes behind their length; `None` when they are more than any box takes.
    pub(super) fn frame(&self) -> Option<Vec<u8>> {
        let body = wire::encode(self);
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= ITEM_BYTES_MAX)?;
        Some([&length.to_be_bytes()[..], &body].concat())
    }
}

impl SavedDocument {
    /// Bounds that decoding does not give; what is inside is checked when the document is opened.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let changes = self.log.len().max(self.waiting.len());
        let early = self.id.epoch < self.epoch;
        let many = changes > WAITING_CHANGES_MAX * super::SNAPSHOT_FEEDS_MAX;
        match (early, many) {
            (true, _) => Some("a document of a past epoch"),
            (_, true) => Some("a document with too many changes"),
            _ => None,
        }
    }
}

/// Takes the bytes of chunks as they come and gives whole items back; holds at most one item and one chunk.
#[derive(Default)]
pub struct ItemReader {
    waiting: Vec<u8>,
    at: usize,
}

impl ItemReader {
    /// More bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.drain(..self.at);
        self.at = 0;
        self.waiting.extend_from_slice(bytes);
    }

    /// The next item; `None` when more bytes are needed.
    ///
    /// # Errors
    /// Not an item of ours; the stream has no meaning from here on.
    pub fn take(&mut self) -> Result<Option<Item>, SnapshotRefused> {
        let rest = self.waiting.get(self.at..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > ITEM_BYTES_MAX {
            let (count, limit) = (length as u64, ITEM_BYTES_MAX as u64);
            return Err(SnapshotRefused::TooLarge { what: "an item of bytes", count, limit });
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let item = wire::decode(body, ITEM_BYTES_MAX).map_err(SnapshotRefused::damaged)?;
        self.at += LENGTH_BYTES + length;
        Ok(Some(item))
    }

    /// Whether everything that came was given back.
    pub fn is_empty(&self) -> bool {
        self.at == self.waiting.len()
    }
}

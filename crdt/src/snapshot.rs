//! Snapshots: what registry, blocks and documents come to at one moment, in place of the entries that made it.
//!
//! Headquarters cuts one per [`Audience`], over applied entries only, and signs its [`Manifest`]. A box that takes one in
//! starts every feed it names from a *base* (position and chain hash); later runs must chain onto it. Never in a
//! snapshot: journals, rights, receipts. Leaves to others: files and sticks (shells), connections (`sync`, `yika_link`).

mod cut;
mod fetch;
mod item;
mod restore;
#[cfg(test)]
mod tests;

pub use cut::{CutError, Cutter, cut};
pub use fetch::{Fetch, Placed};
pub use item::{Item, ItemReader, SavedDocument};
pub use restore::{Check, Judge, Piece, Step, Steps};

use crate::channel::{Channel, FeedId, Place};
use crate::feed::{self, End, Hash, SignatureBytes};
use crate::ids::{CampusId, Seq, Writer};
use crate::sync::SNAPSHOT_WORD_BYTES_MAX;
use crate::wire;
use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The form of manifests and items; a box takes no other.
pub const SNAPSHOT_VERSION: u16 = 1;
/// Bytes of every chunk but the last.
pub const CHUNK_BYTES: usize = 128 << 10;
/// Largest snapshot: of many millions of people.
pub const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;
/// Largest single item: a document.
pub const ITEM_BYTES_MAX: usize = 16 << 20;
/// Most feeds that one snapshot replaces.
pub const SNAPSHOT_FEEDS_MAX: usize = 12_288;
/// Largest signed manifest; with a word around it, it fits one frame.
pub const MANIFEST_BYTES_MAX: usize = SNAPSHOT_WORD_BYTES_MAX - 1_024;

/// Entries that a peer must lack before a snapshot is worth it.
pub const LACKS_ENTRIES_MIN: u64 = 512;
/// Entries of which no part needs to be looked at: a snapshot is worth it.
pub const LACKS_ENTRIES_MUCH: u64 = 8_192;

/// Whether a snapshot brings a peer on faster than the entries it lacks, out of `all` that were ever written.
pub fn is_worth_it(lacking: u64, all: u64) -> bool {
    lacking >= LACKS_ENTRIES_MUCH || lacking >= LACKS_ENTRIES_MIN && lacking >= all / 4
}

/// Whom a snapshot is for; what it covers follows from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Audience {
    /// Every node: registry, blocks, people of all campuses.
    Everyone,
    /// The boxes of one campus: its policy and visitors.
    Campus(CampusId),
}

impl Audience {
    /// Whether feeds of this channel are replaced by such a snapshot.
    pub fn covers(self, channel: Channel) -> bool {
        match (self, channel) {
            (Audience::Everyone, Channel::Registry | Channel::People(_) | Channel::Blocks(_)) => true,
            (Audience::Campus(ours), Channel::Campus(campus)) => ours == campus,
            _ => false,
        }
    }

    /// The audience whose snapshot covers a channel; `None` for what is never in one.
    pub fn of(channel: Channel) -> Option<Audience> {
        match channel {
            Channel::Registry | Channel::People(_) | Channel::Blocks(_) => Some(Audience::Everyone),
            Channel::Campus(campus) => Some(Audience::Campus(campus)),
            Channel::Rights(_) | Channel::Journal | Channel::Receipts(_) => None,
        }
    }

    /// Whether a node at `place` may hold it.
    pub fn includes(self, place: Place) -> bool {
        match self {
            Audience::Everyone => true,
            Audience::Campus(campus) => place.node.is_hub() || place.campus == Some(campus),
        }
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Audience::Everyone => write!(f, "everyone"),
            Audience::Campus(campus) => write!(f, "{campus}"),
        }
    }
}

/// What a snapshot is, of what, and the hashes of its chunks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SNAPSHOT_VERSION`].
    pub version: u16,
    /// The life of the hub that cut it.
    pub by: Writer,
    /// Whom it is for.
    pub audience: Audience,
    /// When, hub time.
    pub cut_ms: i64,
    /// Where each feed goes on: every entry up to there is applied in it. Sorted by feed.
    pub feeds: Vec<(FeedId, End)>,
    /// Entries up to there may leave every node: this snapshot and an older one hold them, and so does a verified
    /// backup of headquarters. Sorted by feed.
    pub drop: Vec<(FeedId, Seq)>,
    /// How many items its chunks hold.
    pub items: u64,
    /// Bytes of all chunks together.
    pub bytes: u64,
    /// Hash of each chunk, in order.
    pub chunks: Vec<Hash>,
}

/// A manifest that headquarters vouches for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedManifest {
    /// What is signed.
    pub manifest: Manifest,
    /// Ed25519 of the hub (purpose `snapshot`).
    pub signature: SignatureBytes,
}

/// Why a snapshot, or a part of it, is not taken. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotRefused {
    /// Bytes that are no manifest or item of ours.
    #[error("damaged snapshot: {0}; copy or fetch it again")]
    Damaged(String),
    /// Signed by another, or altered.
    #[error(
        "the snapshot is not signed by this mesh's headquarters; take one made there by `yika-hub snapshot export`"
    )]
    Foreign,
    /// A form that this program does not know.
    #[error(
        "the snapshot is of form {0}, this program reads form {SNAPSHOT_VERSION}; install the same version as headquarters"
    )]
    Version(u16),
    /// Another campus' own documents.
    #[error("the snapshot is for {0}; take one made with this box's campus: `yika-hub snapshot export --campus …`")]
    OtherAudience(Audience),
    /// It tells nothing new.
    #[error("the snapshot is older than what this box has (cut at {cut_ms} ms, every feed held at least as far)")]
    Older {
        /// When it was cut.
        cut_ms: i64,
    },
    /// Beyond a bound.
    #[error("the snapshot has {what} {count}, at most {limit} are taken")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        count: u64,
        /// How much is taken.
        limit: u64,
    },
}

impl SnapshotRefused {
    pub(crate) fn damaged(cause: impl ToString) -> SnapshotRefused {
        SnapshotRefused::Damaged(cause.to_string())
    }
}

/// Hash of a chunk's bytes.
pub fn chunk_hash(bytes: &[u8]) -> Hash {
    feed::digest("yika snapshot chunk 1", bytes)
}

impl Manifest {
    /// Its name: what it says, hashed.
    pub fn id(&self) -> Hash {
        feed::digest("yika snapshot 1", &wire::encode(self))
    }

    /// Signs it with the hub's key.
    pub fn sign(self, key: &SigningKey) -> SignedManifest {
        let signature = feed::sign("snapshot", &self, key);
        SignedManifest { manifest: self, signature }
    }

    /// Where a feed goes on, if this snapshot covers it.
    pub fn base(&self, feed: &FeedId) -> Option<End> {
        let at = self.feeds.binary_search_by_key(feed, |(feed, _)| *feed).ok()?;
        self.feeds.get(at).map(|(_, end)| *end)
    }

    /// Bytes of one chunk; 0 beyond the last.
    pub fn chunk_bytes(&self, chunk: u32) -> usize {
        let from = u64::from(chunk).saturating_mul(CHUNK_BYTES as u64);
        usize::try_from(self.bytes.saturating_sub(from)).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES))
    }

    /// Every bound and order that the type does not give.
    fn check(&self) -> Result<(), SnapshotRefused> {
        if self.version != SNAPSHOT_VERSION {
            return Err(SnapshotRefused::Version(self.version));
        }
        let within = |what, count: u64, limit: u64| match count > limit {
            true => Err(SnapshotRefused::TooLarge { what, count, limit }),
            false => Ok(()),
        };
        within("bytes", self.bytes, SNAPSHOT_BYTES_MAX)?;
        within("feeds", self.feeds.len().max(self.drop.len()) as u64, SNAPSHOT_FEEDS_MAX as u64)?;
        if self.chunks.len() as u64 != self.bytes.div_ceil(CHUNK_BYTES as u64) {
            return Err(SnapshotRefused::damaged("its chunks are not its bytes"));
        }
        let sorted = self.feeds.is_sorted_by(|a, b| a.0 < b.0) && self.drop.is_sorted_by(|a, b| a.0 < b.0);
        let covered = self.feeds.iter().all(|(feed, _)| self.audience.covers(feed.channel));
        let dropped = self.drop.iter().all(|(feed, seq)| self.base(feed).is_some_and(|base| *seq <= base.seq));
        match sorted && covered && dropped && self.by.node.is_hub() {
            true => Ok(()),
            false => Err(SnapshotRefused::damaged("its feeds are not those of its audience")),
        }
    }
}

impl SignedManifest {
    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Reads bytes of outside; nothing is believed before [`SignedManifest::verify`].
    ///
    /// # Errors
    /// Not a manifest, or beyond a bound.
    pub fn decode(bytes: &[u8]) -> Result<SignedManifest, SnapshotRefused> {
        let signed: SignedManifest = wire::decode(bytes, MANIFEST_BYTES_MAX).map_err(SnapshotRefused::damaged)?;
        signed.manifest.check()?;
        Ok(signed)
    }

    /// Whether one of the hub's keys signed it, and it is within every bound.
    ///
    /// # Errors
    /// Foreign, of another form, or beyond a bound.
    pub fn verify<'k>(&self, hub_keys: impl IntoIterator<Item = &'k VerifyingKey>) -> Result<(), SnapshotRefused> {
        self.manifest.check()?;
        let signed = |key: &VerifyingKey| feed::verify("snapshot", &self.manifest, &self.signature, key).is_ok();
        match hub_keys.into_iter().any(signed) {
            true => Ok(()),
            false => Err(SnapshotRefused::Foreign),
        }
    }
}

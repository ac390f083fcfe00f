//! Fetching a snapshot from a peer: which chunk is asked for next, and what of an answer may be kept.
//!
//! Chunks are asked for a few ahead and kept in order, so what is kept is a prefix, and a fetch goes on where it ended
//! after a lost connection or a restart. Leaves to others: the file, the peer, trust in the manifest (`restore::Judge`).

use super::{SignedManifest, chunk_hash};
use crate::feed::Hash;

/// Chunks asked for and not yet come.
const AHEAD_MAX: u32 = 4;

/// A snapshot that is being fetched.
pub struct Fetch {
    signed: SignedManifest,
    id: Hash,
    kept: u32,
    asked: u32,
}

/// What is to be done with a chunk that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placed {
    /// It is the next one: append it to what is kept.
    Keep,
    /// It was not asked for, or was kept before.
    Ignore,
    /// It is not what the manifest says: whoever sent it cannot be fetched from.
    Wrong,
}

impl Fetch {
    /// Goes on after `kept` chunks.
    pub fn new(signed: SignedManifest, kept: u32) -> Fetch {
        let id = signed.manifest.id();
        let kept = kept.min(signed.manifest.chunks.len() as u32);
        Fetch { signed, id, kept, asked: kept }
    }

    /// What is fetched.
    pub fn signed(&self) -> &SignedManifest {
        &self.signed
    }

    /// Its name.
    pub fn id(&self) -> Hash {
        self.id
    }

    /// How many chunks are kept.
    pub fn kept(&self) -> u32 {
        self.kept
    }

    /// Whether all chunks are kept.
    pub fn is_whole(&self) -> bool {
        self.kept as usize == self.signed.manifest.chunks.len()
    }

    /// The connection is another one: what was asked for on the old one will not come.
    pub fn begin_again(&mut self) {
        self.asked = self.kept;
    }

    /// The next chunk to ask for, if one may be.
    pub fn ask(&mut self) -> Option<u32> {
        let next = self.asked;
        let may = next < self.signed.manifest.chunks.len() as u32 && next - self.kept < AHEAD_MAX;
        may.then(|| {
            self.asked += 1;
            next
        })
    }

    /// Judges a chunk that came.
    pub fn judge(&self, chunk: u32, bytes: &[u8]) -> Placed {
        if chunk != self.kept || chunk >= self.asked {
            return Placed::Ignore;
        }
        let expected = self.signed.manifest.chunks.get(chunk as usize);
        let whole = bytes.len() == self.signed.manifest.chunk_bytes(chunk);
        match whole && expected == Some(&chunk_hash(bytes)) {
            true => Placed::Keep,
            false => Placed::Wrong,
        }
    }

    /// The chunk that was judged [`Placed::Keep`] is kept.
    pub fn keep(&mut self) {
        self.kept += 1;
        self.asked = self.asked.max(self.kept);
    }
}

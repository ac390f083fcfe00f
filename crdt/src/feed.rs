//! Feeds: append-only logs with one writer each, chained by SHA-256 and covered by signed heads.
//!
//! A chain is checked by recomputing it: neither sequence numbers nor hashes travel with entries.
//! Leaves to others: storage (`store`), the entries' meaning (`entry`), who may hold a feed (`channel`).

use crate::channel::FeedId;
use crate::ids::Seq;
use crate::proof;
use crate::wire;
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256 value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(pub [u8; 32]);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in &self.0[..6] {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "…")
    }
}

/// Where a feed ends: the last position and the hash of the chain up to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct End {
    /// Last position, 0 for an empty feed.
    pub seq: Seq,
    /// Chain hash at that position; all zero for an empty feed.
    pub hash: Hash,
}

/// A writer's signed word that its feed reads so up to `end`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedHead {
    /// The feed.
    pub feed: FeedId,
    /// Its end when it was signed.
    pub end: End,
    /// Ed25519 over the domain-separated canonical bytes of the two above.
    pub signature: SignatureBytes,
}

/// 64 bytes of an Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignatureBytes(pub [u8; 64]);

impl Serialize for SignatureBytes {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        // Two halves, because serde knows arrays up to 32 elements.
        let (a, b) = self.0.split_at(32);
        (<[u8; 32]>::try_from(a).unwrap_or_default(), <[u8; 32]>::try_from(b).unwrap_or_default()).serialize(s)
    }
}

impl<'de> Deserialize<'de> for SignatureBytes {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let (a, b) = <([u8; 32], [u8; 32])>::deserialize(d)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&a);
        bytes[32..].copy_from_slice(&b);
        Ok(SignatureBytes(bytes))
    }
}

/// Why entries of a feed are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The batch does not start right after what is held; ask again from `expected`.
    #[error("{feed}: batch starts at {got}, expected {expected}")]
    Gap {
        /// The feed.
        feed: FeedId,
        /// Position wanted next.
        expected: Seq,
        /// Position offered.
        got: Seq,
    },
    /// The recomputed chain does not end as the head says, which the writer has signed: altered on the way, or the other
    /// branch of a fork.
    #[error("{0}: entries do not lead to the signed head")]
    NotTheSignedChain(FeedId),
    /// The head is not signed by the writer's registered key.
    #[error("{0}: signature of the head is not the writer's")]
    BadSignature(FeedId),
    /// A run is over the limit.
    #[error("{feed}: a run of {entries} entries exceeds the limit of {RUN_ENTRIES_MAX}")]
    TooManyEntries {
        /// The feed.
        feed: FeedId,
        /// How many.
        entries: usize,
    },
    /// An entry is over the limit.
    #[error("{feed}: an entry of {bytes} bytes exceeds the limit of {limit}")]
    EntryTooLong {
        /// The feed.
        feed: FeedId,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// Chain hash after one more entry. `entry` are its canonical bytes.
pub fn link(feed: &FeedId, end: End, entry: &[u8]) -> End {
    let mut hasher = Sha256::new();
    if end.seq == Seq::ZERO {
        hasher.update(b"yika feed 1");
        hasher.update(wire::encode(feed));
    }
    hasher.update(end.hash.0);
    hasher.update((entry.len() as u64).to_be_bytes());
    hasher.update(entry);
    End { seq: end.seq.next(), hash: Hash(hasher.finalize().into()) }
}

/// SHA-256 of some bytes under a domain name.
pub fn digest(domain: &str, bytes: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update((domain.len() as u64).to_be_bytes());
    hasher.update(domain.as_bytes());
    hasher.update(bytes);
    Hash(hasher.finalize().into())
}

/// Identity of one entry wherever it is named: by a lift, a receipt, the ledger's idempotency.
pub fn entry_hash(feed: &FeedId, seq: Seq, entry: &[u8]) -> Hash {
    let mut bytes = wire::encode(&(feed, seq));
    bytes.extend_from_slice(entry);
    digest("yika entry 1", &bytes)
}

impl SignedHead {
    /// Signs the end of one's own feed.
    pub fn sign(feed: FeedId, end: End, key: &SigningKey) -> SignedHead {
        let signature = SignatureBytes(key.sign(&signed_bytes("head", &(feed, end))).to_bytes());
        SignedHead { feed, end, signature }
    }

    /// Checks the signature against the writer's registered key.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), FeedError> {
        verify("head", &(self.feed, self.end), &self.signature, key).map_err(|_| FeedError::BadSignature(self.feed))
    }
}

/// Bytes that a signature of ours covers: purpose, then canonical value.
pub fn signed_bytes<T: Serialize>(purpose: &str, value: &T) -> Vec<u8> {
    let mut bytes = format!("yika {purpose} 1\0").into_bytes();
    bytes.extend(wire::encode(value));
    bytes
}

/// Signs a value for a purpose.
pub fn sign<T: Serialize>(purpose: &str, value: &T, key: &SigningKey) -> SignatureBytes {
    SignatureBytes(key.sign(&signed_bytes(purpose, value)).to_bytes())
}

/// A signature that is not the key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not of the expected key")]
pub struct NotSigned;

/// Checks a signature made by [`sign`] for the same purpose.
pub fn verify<T: Serialize>(
    purpose: &str,
    value: &T,
    signature: &SignatureBytes,
    key: &VerifyingKey,
) -> Result<(), NotSigned> {
    key.verify(&signed_bytes(purpose, value), &Signature::from_bytes(&signature.0)).map_err(|_| NotSigned)
}

/// Most entries of one run: what is taken in at once is bounded by its work too, not by its bytes alone.
pub const RUN_ENTRIES_MAX: usize = 4_096;

/// A run of consecutive entries with a head that covers its last one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Position of the first entry.
    pub from: Seq,
    /// Canonical bytes of each entry.
    pub entries: Vec<Vec<u8>>,
    /// Covers the last entry.
    pub head: SignedHead,
}

impl Run {
    /// Takes on the run that came next, so that both are stored at once: the later head vouches for all of it.
    ///
    /// # Errors
    /// The other run, where it does not continue this one from where this one's head says that it ends, or where both
    /// have more than [`RUN_ENTRIES_MAX`] entries or `bytes_max` bytes together.
    pub fn join(&mut self, mut next: Box<Run>, bytes_max: usize) -> Result<(), Box<Run>> {
        let feed = self.head.feed;
        let is_next = next.head.feed == feed && next.from == self.head.end.seq.next();
        let entries = self.entries.len() + next.entries.len();
        let bytes: usize = self.entries.iter().chain(&next.entries).map(Vec::len).sum();
        if !is_next || entries > RUN_ENTRIES_MAX || bytes > bytes_max {
            return Err(next);
        }
        if next.entries.iter().fold(self.head.end, |end, entry| link(&feed, end, entry)) != next.head.end {
            return Err(next);
        }
        self.entries.append(&mut next.entries);
        self.head = next.head;
        Ok(())
    }
}

/// Checks that `run` continues a feed held up to `held`, and returns the new end.
///
/// Entries already held at the start of the run are recomputed only from `held` on: callers cut them off first.
pub fn check_run(held: End, run: &Run, key: &VerifyingKey) -> Result<End, FeedError> {
    let feed = run.head.feed;
    let is_sown = proof::sown("chain_with_a_hole_accepted") && run.from > held.seq.next();
    if run.from != held.seq.next() && !is_sown {
        return Err(FeedError::Gap { feed, expected: held.seq.next(), got: run.from });
    }
    if run.entries.len() > RUN_ENTRIES_MAX {
        return Err(FeedError::TooManyEntries { feed, entries: run.entries.len() });
    }
    let mut end = held;
    for entry in &run.entries {
        if entry.len() > wire::ENTRY_BYTES_MAX {
            return Err(FeedError::EntryTooLong { feed, bytes: entry.len(), limit: wire::ENTRY_BYTES_MAX });
        }
        end = link(&feed, end, entry);
    }
    if !proof::sown("signature_not_checked") {
        run.head.verify(key)?;
    }
    if end != run.head.end && !is_sown {
        return Err(FeedError::NotTheSignedChain(feed));
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Channel;
    use crate::ids::{Incarnation, NodeId, Writer};
    use proptest::prelude::*;

    fn feed() -> FeedId {
        let incarnation = Incarnation { generation: 1, counter: 1 };
        FeedId { writer: Writer { node: NodeId(1), incarnation }, channel: Channel::Journal }
    }

    fn run_of(entries: Vec<Vec<u8>>, key: &SigningKey) -> Run {
        let end = entries.iter().fold(End::default(), |end, e| link(&feed(), end, e));
        Run { from: Seq(1), entries, head: SignedHead::sign(feed(), end, key) }
    }

    #[test]
    fn a_run_is_taken_whole_or_not_at_all() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let run = run_of(vec![b"a".to_vec(), b"b".to_vec()], &key);
        assert_eq!(check_run(End::default(), &run, &key.verifying_key()), Ok(run.head.end));

        let mut altered = run.clone();
        altered.entries[0] = b"x".to_vec();
        let refused = check_run(End::default(), &altered, &key.verifying_key());
        assert_eq!(refused, Err(FeedError::NotTheSignedChain(feed())));

        let stranger = SigningKey::from_bytes(&[8; 32]).verifying_key();
        assert_eq!(check_run(End::default(), &run, &stranger), Err(FeedError::BadSignature(feed())));
    }

    /// What comes after `held`, as it would be sent by itself.
    fn run_after(held: End, entries: Vec<Vec<u8>>, key: &SigningKey) -> Box<Run> {
        let end = entries.iter().fold(held, |end, e| link(&feed(), end, e));
        Box::new(Run { from: held.seq.next(), entries, head: SignedHead::sign(feed(), end, key) })
    }

    #[test]
    fn a_run_takes_on_only_what_follows_it() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let first = run_of(vec![b"a".to_vec()], &key);
        let second = run_after(first.head.end, vec![b"b".to_vec()], &key);
        let third = run_after(second.head.end, vec![b"c".to_vec()], &key);
        let mut forked = second.clone();
        forked.entries[0] = b"x".to_vec();
        let mut foreign = second.clone();
        foreign.head.feed.channel = Channel::Registry;

        let mut run = first.clone();
        for other in [third, forked, foreign] {
            assert_eq!(run.join(other.clone(), 100), Err(other));
        }
        assert_eq!(run.join(second.clone(), 1), Err(second), "both are longer than one byte");
        assert_eq!(run, first, "what is not taken on leaves no trace");
    }

    proptest! {
        #[test]
        fn runs_that_follow_each_other_are_one_run(
            runs in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..5), 1..6),
        ) {
            let key = SigningKey::from_bytes(&[7; 32]);
            let mut joined: Option<Box<Run>> = None;
            for entries in runs.clone() {
                let held = joined.as_ref().map_or(End::default(), |run| run.head.end);
                let next = run_after(held, entries, &key);
                match &mut joined {
                    Some(run) => prop_assert_eq!(run.join(next, usize::MAX), Ok(())),
                    None => joined = Some(next),
                }
            }
            let whole = run_of(runs.concat(), &key);
            prop_assert_eq!(joined.as_deref(), Some(&whole));
            prop_assert!(check_run(End::default(), &whole, &key.verifying_key()).is_ok());
        }

        #[test]
        fn any_changed_byte_breaks_the_chain(
            entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..8),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let key = SigningKey::from_bytes(&[7; 32]);
            let run = run_of(entries, &key);
            let mut altered = run.clone();
            let entry = at.index(altered.entries.len());
            altered.entries[entry][0] ^= 1 << bit;
            prop_assert!(check_run(End::default(), &altered, &key.verifying_key()).is_err());
            prop_assert!(check_run(End::default(), &run, &key.verifying_key()).is_ok());
        }
    }
}

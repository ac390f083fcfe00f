//! Sealing a secret to one node: only the holder of its Ed25519 key opens it.
//!
//! X25519 with an ephemeral key (both in their Ed25519 form), SHA-256 over secret and both keys, ChaCha20-Poly1305.
//! Leaves to others: which secrets are sealed to whom, and where they are kept.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Why a sealed secret does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system gave no randomness.
    #[error("no randomness from the system: {0}")]
    Random(String),
    /// Not sealed to this key, for another purpose, or altered.
    #[error("sealed data does not open: it is for another node or purpose, or was altered")]
    DoesNotOpen,
}

/// Seals `secret` to the holder of `to`; `purpose` must be the same when it is opened.
pub fn seal(to: &VerifyingKey, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    getrandom::fill(seed.as_mut()).map_err(|e| SealError::Random(e.to_string()))?;
    let ephemeral = SigningKey::from_bytes(&seed);
    let public = ephemeral.verifying_key().to_bytes();
    let shared = Zeroizing::new((to.to_montgomery() * ephemeral.to_scalar()).to_bytes());
    let key = derive(&shared, &public, &to.to_bytes());
    let payload = Payload { msg: secret, aad: purpose.as_bytes() };
    // Each key seals one message, so the nonce may be constant.
    let sealed = cipher(&key).encrypt(&Nonce::default(), payload).map_err(|_| SealError::DoesNotOpen)?;
    Ok([public.as_slice(), &sealed].concat())
}

/// Opens what was sealed to `key` for `purpose`.
pub fn open(key: &SigningKey, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (public, sealed) = sealed.split_first_chunk::<32>().ok_or(SealError::DoesNotOpen)?;
    let ephemeral = VerifyingKey::from_bytes(public).map_err(|_| SealError::DoesNotOpen)?;
    let shared = Zeroizing::new((ephemeral.to_montgomery() * key.to_scalar()).to_bytes());
    let derived = derive(&shared, public, &key.verifying_key().to_bytes());
    let payload = Payload { msg: sealed, aad: purpose.as_bytes() };
    let plain = cipher(&derived).decrypt(&Nonce::default(), payload).map_err(|_| SealError::DoesNotOpen)?;
    Ok(Zeroizing::new(plain))
}

fn cipher(key: &[u8; 32]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(key.into())
}

fn derive(shared: &[u8; 32], ephemeral: &[u8; 32], to: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut hasher = Sha256::new();
    for part in [b"yika seal 1".as_slice(), shared, ephemeral, to] {
        hasher.update(part);
    }
    Zeroizing::new(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_right_node_and_purpose_open_it() {
        let (key, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let sealed = seal(&key.verifying_key(), "terminal", b"secret").unwrap();
        assert_eq!(open(&key, "terminal", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(open(&other, "terminal", &sealed), Err(SealError::DoesNotOpen));
        assert_eq!(open(&key, "operator", &sealed), Err(SealError::DoesNotOpen));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_open_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            prop_assert!(open(&SigningKey::from_bytes(&[1; 32]), "terminal", &bytes).is_err());
        }
    }
}

//! Secrets at rest: everything secret is sealed under one master key, which lies outside the database.
//!
//! The software form of the security module (invariant 10): only this module holds the master key. systemd hands it over
//! as a credential; without one it is a file of the data folder that only the owner reads. Leaves to others: what is sealed.

use anyhow::{Context, Result, bail};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::path::Path;
use zeroize::Zeroizing;

/// Name of the credential and of the file.
pub const MASTER: &str = "master.key";
const NONCE_BYTES: usize = 24;

/// Seals and opens.
pub struct Vault {
    master: Zeroizing<[u8; 32]>,
}

impl Vault {
    /// Makes a master key in a new data folder, unless the service manager gives one.
    ///
    /// # Errors
    /// When the folder cannot be written or the system gives no randomness.
    pub fn create(dir: &Path) -> Result<Vault> {
        if credential()?.is_none() {
            let mut key = Zeroizing::new([0u8; 32]);
            random(key.as_mut())?;
            yika_store::files::write_durably(&dir.join(MASTER), key.as_ref(), 0o600)
                .with_context(|| format!("cannot write {}", dir.join(MASTER).display()))?;
        }
        Vault::open(dir)
    }

    /// Reads the master key.
    ///
    /// # Errors
    /// When it is not there or not 32 bytes: nothing sealed can be used then.
    pub fn open(dir: &Path) -> Result<Vault> {
        let path = dir.join(MASTER);
        let bytes = match credential()? {
            Some(bytes) => bytes,
            None => Zeroizing::new(std::fs::read(&path).with_context(|| {
                format!("cannot read the master key {}; put it back from where it is kept", path.display())
            })?),
        };
        match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(master) => Ok(Vault { master: Zeroizing::new(master) }),
            Err(_) => bail!("the master key is not of 32 bytes; put it back from where it is kept"),
        }
    }

    /// Seals a secret for a purpose.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0u8; NONCE_BYTES];
        random(&mut nonce)?;
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: secret, aad: purpose.as_bytes() })
            .map_err(|_| anyhow::anyhow!("sealing failed"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what was sealed for the same purpose.
    ///
    /// # Errors
    /// When it was sealed under another key or purpose, or was altered.
    pub fn open_sealed(&self, purpose: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let Some((nonce, body)) = sealed.split_first_chunk::<NONCE_BYTES>() else {
            bail!("the sealed {purpose} is too short");
        };
        self.cipher()
            .decrypt(&XNonce::from(*nonce), Payload { msg: body, aad: purpose.as_bytes() })
            .map(Zeroizing::new)
            .map_err(|_| anyhow::anyhow!("the sealed {purpose} does not open: another master key, or it was altered"))
    }

    /// Keyed hash that finds equal values without showing them; 16 bytes of HMAC-SHA-256.
    pub fn keyed_hash(&self, purpose: &str, value: &[u8]) -> [u8; 16] {
        let mut out = [0u8; 16];
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.master.as_ref()) {
            mac.update(b"yika keyed hash 1\0");
            mac.update(purpose.as_bytes());
            mac.update(&[0]);
            mac.update(value);
            out.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        }
        out
    }

    /// A key for one stream, of which only this salt's holder and the master key know.
    ///
    /// # Errors
    /// Never in practice: the hash takes keys of any length.
    pub fn stream_key(&self, purpose: &str, salt: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.master.as_ref())
            .map_err(|_| anyhow::anyhow!("no key can be derived for the {purpose}"))?;
        mac.update(b"yika stream key 1\0");
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(salt);
        Ok(Zeroizing::new(mac.finalize().into_bytes().into()))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*self.master).into())
    }
}

/// The key as systemd hands it over (`LoadCredential=master.key:…`).
fn credential() -> Result<Option<Zeroizing<Vec<u8>>>> {
    let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return Ok(None) };
    let path = Path::new(&dir).join(MASTER);
    Ok(yika_store::files::read_if_there(&path)?.map(Zeroizing::new))
}

/// Fills with randomness of the system.
///
/// # Errors
/// When there is none.
pub fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|e| anyhow::anyhow!("no randomness from the system: {e}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_under_its_key_and_purpose() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let vault = Vault::create(one.path()).unwrap();
        let sealed = vault.seal("a", b"secret").unwrap();
        assert_eq!(vault.open_sealed("a", &sealed).unwrap().as_slice(), b"secret");
        assert!(vault.open_sealed("b", &sealed).is_err());
        assert!(Vault::create(two.path()).unwrap().open_sealed("a", &sealed).is_err());
        let mut altered = sealed.clone();
        altered[30] ^= 1;
        assert!(vault.open_sealed("a", &altered).is_err() && vault.open_sealed("a", &sealed[..5]).is_err());
        let again = Vault::open(one.path()).unwrap();
        assert_eq!(again.keyed_hash("id", b"1"), vault.keyed_hash("id", b"1"));
        assert_ne!(vault.keyed_hash("id", b"1"), vault.keyed_hash("id", b"2"));
    }
}

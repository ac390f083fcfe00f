//! Who this hub is: its key, its authority and its certificate, as small files in the data folder.
//!
//! `init` makes them once; `serve` reads them. Secret ones are sealed (`vault`). Leaves to others: the database.

use crate::clock::wall_ms;
use crate::desk::DeskError;
use crate::refusal::Refusal;
use crate::vault::{Vault, random};
use anyhow::{Context, Result, bail};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use yika_crdt::ids::*;
use yika_link::{Authority, EndpointKeys, NodeIdentity, Validity};
use yika_store::files::write_durably;
use zeroize::Zeroizing;

/// The hub certifies itself for so long; it renews at every start.
const OWN_CERTIFICATE_DAYS: u32 = 825;

/// Everything the hub knows of itself.
pub struct HubIdentity {
    /// Node 0 in its present life.
    pub me: Writer,
    /// Signs feeds and handshakes.
    pub key: SigningKey,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    /// Its own certificate, DER.
    pub certificate_der: Vec<u8>,
    /// Endpoint secrets.
    pub endpoint_keys: EndpointKeys,
    /// Its name as shown.
    pub name: String,
    /// Opens what is sealed.
    pub vault: Arc<Vault>,
}

/// The open part, as kept in `hub.id.toml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Card {
    name: String,
    generation: u32,
    counter: u32,
}

const CARD: &str = "hub.id.toml";

/// The files that are an identity, beside the master key; the card, which makes a folder a hub's, is the last.
pub const FILES: [&str; 5] = ["hub.key.sealed", "ca.key.sealed", "ca.crt", "endpoint.key.sealed", CARD];

impl HubIdentity {
    /// Whether `init` has been here.
    pub fn exists(dir: &Path) -> bool {
        dir.join(CARD).exists()
    }

    /// Makes a hub in an empty data folder.
    ///
    /// # Errors
    /// When there is one already, or the folder cannot be written.
    pub fn init(dir: &Path, name: &str) -> Result<()> {
        if HubIdentity::exists(dir) {
            bail!(DeskError::from(Refusal::HubAlready { folder: dir.display().to_string() }));
        }
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        // The database says who everybody is: nobody else on this machine reads it, also when `init` was run by hand.
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot keep {} to this user", dir.display()))?;
        let vault = Vault::create(dir)?;
        let mut seed = Zeroizing::new([0u8; 32]);
        random(seed.as_mut())?;
        seal_file(&vault, dir, "hub.key", seed.as_ref())?;
        random(seed.as_mut())?;
        let pems = Authority::create(name, &seed, wall_ms().div_euclid(1000))?;
        seal_file(&vault, dir, "ca.key", pems.key_pem.as_bytes())?;
        write_durably(&dir.join("ca.crt"), pems.certificate_pem.as_bytes(), 0o644)?;
        let keys = EndpointKeys::generate()?;
        let mut bytes = Zeroizing::new(keys.reset_key.to_vec());
        bytes.extend_from_slice(&keys.connection_id_key.to_be_bytes());
        seal_file(&vault, dir, "endpoint.key", &bytes)?;
        // Last, so that a half-made hub does not count as one.
        let card = Card { name: name.to_owned(), generation: 1, counter: 1 };
        write_durably(&dir.join(CARD), toml::to_string(&card)?.as_bytes(), 0o644)?;
        Ok(())
    }

    /// Reads it.
    ///
    /// # Errors
    /// Which file cannot be used, and what to do.
    pub fn load(dir: &Path) -> Result<HubIdentity> {
        if !HubIdentity::exists(dir) {
            bail!(DeskError::from(Refusal::NoHub { folder: dir.display().to_string() }));
        }
        HubIdentity::load_with(dir, Arc::new(Vault::open(dir)?))
    }

    /// Reads it with a master key from elsewhere.
    ///
    /// # Errors
    /// As [`HubIdentity::load`].
    pub fn load_with(dir: &Path, vault: Arc<Vault>) -> Result<HubIdentity> {
        let text = std::fs::read_to_string(dir.join(CARD))
            .with_context(|| format!("cannot read {}", dir.join(CARD).display()))?;
        let card: Card =
            toml::from_str(&text).with_context(|| format!("{CARD} is damaged; restore the data folder"))?;
        let seed = open_file(&vault, dir, "hub.key")?;
        let seed = <[u8; 32]>::try_from(seed.as_slice()).map_err(|_| anyhow::anyhow!("hub.key is not of 32 bytes"))?;
        let key = SigningKey::from_bytes(&seed);
        let ca_key = open_file(&vault, dir, "ca.key")?;
        let ca_crt = std::fs::read_to_string(dir.join("ca.crt")).context("cannot read ca.crt")?;
        let authority = Authority::load(std::str::from_utf8(&ca_key)?, &ca_crt)?;
        let me = Writer {
            node: NodeId::HUB,
            incarnation: Incarnation { generation: card.generation, counter: card.counter },
        };
        let valid = Validity::days(wall_ms().div_euclid(1000), OWN_CERTIFICATE_DAYS);
        let certificate_der = authority.issue_own(&key, NodeIdentity::hub(me.incarnation), valid)?;
        Ok(HubIdentity {
            me,
            key,
            certificate_der,
            authority: Arc::new(authority),
            endpoint_keys: endpoint_keys(&open_file(&vault, dir, "endpoint.key")?)?,
            name: card.name,
            vault,
        })
    }
}

impl HubIdentity {
    /// The same hub in a later life: after a restore it goes on under a new incarnation and certificate.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn in_life(self, me: Writer) -> Result<HubIdentity> {
        if me == self.me {
            return Ok(self);
        }
        let valid = Validity::days(wall_ms().div_euclid(1000), OWN_CERTIFICATE_DAYS);
        let certificate_der = self.authority.issue_own(&self.key, NodeIdentity::hub(me.incarnation), valid)?;
        Ok(HubIdentity { me, certificate_der, ..self })
    }
}

fn endpoint_keys(bytes: &[u8]) -> Result<EndpointKeys> {
    match bytes.split_first_chunk::<32>() {
        Some((reset, id)) if id.len() == 8 => {
            let id = id.iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
            Ok(EndpointKeys { reset_key: Zeroizing::new(*reset), connection_id_key: id })
        }
        _ => bail!("endpoint.key is damaged; restore the data folder"),
    }
}

fn seal_file(vault: &Vault, dir: &Path, name: &str, secret: &[u8]) -> Result<()> {
    let path = dir.join(format!("{name}.sealed"));
    write_durably(&path, &vault.seal(name, secret)?, 0o600).with_context(|| format!("cannot write {}", path.display()))
}

fn open_file(vault: &Vault, dir: &Path, name: &str) -> Result<Zeroizing<Vec<u8>>> {
    let path = dir.join(format!("{name}.sealed"));
    let sealed = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    vault.open_sealed(name, &sealed)
}

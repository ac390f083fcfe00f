//! Who this box is: its key, certificate and the hub's address, as small files in the data folder.
//!
//! `init --join` makes them; `serve` reads them. The key never leaves the box. Leaves to others: the enrolment
//! conversation (`yika-link`).

use crate::ended;
use crate::exit::Ends;
use crate::voice;
use anyhow::{Context, Result, bail};
use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use yika_crdt::channel::Place;
use yika_crdt::ids::*;
use yika_link::{EndpointKeys, JoinString, Joined};
use yika_store::files;
use yika_ui::Lang;
use yika_ui::terminal::tongue;
use zeroize::Zeroizing;

/// Everything a joined box knows of itself.
#[derive(Clone)]
pub struct Identity {
    /// Node and life.
    pub me: Writer,
    /// Its campus.
    pub campus: CampusId,
    /// Signs feeds and handshakes.
    pub key: SigningKey,
    /// Its certificate, DER.
    pub certificate_der: Vec<u8>,
    /// The authority's certificate, DER.
    pub ca_der: Vec<u8>,
    /// Endpoint secrets.
    pub endpoint_keys: EndpointKeys,
    /// `host:port` of the hub.
    pub hub_addr: String,
    /// The hub's name as shown.
    pub hub_name: String,
    /// The hub's key, as proved when the box joined.
    pub hub_key: Option<VerifyingKey>,
}

/// The open part, as kept in `node.toml`.
#[derive(Serialize, Deserialize)]
struct Card {
    node: u32,
    generation: u32,
    counter: u32,
    campus: u16,
    hub_addr: String,
    hub_name: String,
    hub_key: Option<String>,
}

impl Identity {
    /// Where the box stands.
    pub fn place(&self) -> Place {
        Place { node: self.me.node, campus: Some(self.campus) }
    }

    /// Reads it; `None` before the box has joined.
    ///
    /// # Errors
    /// When files are there but cannot be used: the message says which and what to do.
    pub fn load(dir: &Path) -> Result<Option<Identity>> {
        let Some(card) = files::read_if_there(&dir.join("node.toml"))? else { return Ok(None) };
        let text = String::from_utf8(card).context("node.toml is not text; join the box again")?;
        let card: Card = toml::from_str(&text).context("node.toml is damaged; join the box again")?;
        let need = |name: &str| -> Result<Vec<u8>> {
            let path = dir.join(name);
            std::fs::read(&path).with_context(|| format!("cannot read {}; join the box again", path.display()))
        };
        Ok(Some(Identity {
            me: Writer {
                node: NodeId(card.node),
                incarnation: Incarnation { generation: card.generation, counter: card.counter },
            },
            campus: CampusId(card.campus),
            key: signing_key(dir)?,
            certificate_der: need("node.crt")?,
            ca_der: need("ca.crt")?,
            endpoint_keys: endpoint_keys(dir)?,
            hub_addr: card.hub_addr,
            hub_name: card.hub_name,
            hub_key: card.hub_key.as_deref().map(hub_key).transpose()?,
        }))
    }

    /// The membership of a box that must have one.
    ///
    /// # Errors
    /// When it never joined, in the language of the terminal with what to do; or as [`Identity::load`].
    pub fn of_member(dir: &Path) -> Result<Identity> {
        Identity::load(dir)?.with_context(|| not_joined(dir, tongue()))
    }

    /// Enrols this box with the line the hub printed. May be repeated until it succeeds: the key stays the same.
    ///
    /// # Errors
    /// In words for the person at the box.
    pub async fn join(dir: &Path, line: &JoinString, name: &str, software: &str) -> Result<Identity> {
        if dir.join("node.toml").exists() {
            let facts: voice::Facts<'_> = &[("folder", &dir.display()), ("leave", &leave_command(dir))];
            return Err(Ends::unsafe_to(voice::words("init.already", facts)));
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| voice::words("init.folder", &[("folder", &dir.display())]))?;
        let key = make_key(dir)?;
        let addr =
            tokio::net::lookup_host(&line.hub_addr).await.ok().and_then(|mut found| found.next()).ok_or_else(|| {
                Ends::refused("no_connection", voice::words("join.name", &[("address", &line.hub_addr)]))
            })?;
        let joined = yika_link::join(addr, line.pin, &line.token, name, software, &key).await;
        let joined = joined.map_err(|error| voice::join(&error))?;
        keep(dir, &joined, &line.hub_addr)?;
        Identity::load(dir)?.context("the files just written are gone")
    }
}

fn hub_key(digits: &str) -> Result<VerifyingKey> {
    let damaged = "node.toml is damaged (hub_key); join the box again";
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits, &mut bytes).context(damaged)?;
    VerifyingKey::from_bytes(&bytes).context(damaged)
}

/// Writes what the hub gave; `node.toml` last, so that a half-written identity does not count as one.
fn keep(dir: &Path, joined: &Joined, hub_addr: &str) -> Result<()> {
    let campus = joined.campus.with_context(|| voice::words("join.no_campus", &[]))?;
    files::write_durably(&dir.join("node.crt"), &joined.certificate_der, 0o644)?;
    files::write_durably(&dir.join("ca.crt"), &joined.ca_der, 0o644)?;
    endpoint_keys(dir)?;
    let card = Card {
        node: joined.node.0,
        generation: joined.incarnation.generation,
        counter: joined.incarnation.counter,
        campus: campus.0,
        hub_addr: hub_addr.to_owned(),
        hub_name: joined.hub_name.clone(),
        hub_key: Some(hex::encode(joined.hub_key)),
    };
    files::write_durably(&dir.join("node.toml"), toml::to_string(&card)?.as_bytes(), 0o644)?;
    Ok(())
}

/// Keeps a renewed certificate.
///
/// # Errors
/// The system's; then the old one stays.
pub fn keep_certificate(dir: &Path, certificate_der: &[u8]) -> std::io::Result<()> {
    files::write_durably(&dir.join("node.crt"), certificate_der, 0o644)
}

/// Gives the membership up: the key is destroyed, everything else is set aside in a folder named after the life, because
/// headquarters may want the journal as evidence.
///
/// # Errors
/// Refused while the box runs, without `yes`, or, without `force`, while headquarters lacks a part of the journal; each
/// time with the command that is not refused.
pub fn leave(dir: &Path, yes: bool, force: bool) -> Result<Identity> {
    let identity = Identity::of_member(dir)?;
    if crate::control::ask::<serde_json::Value>(dir, crate::control::Question::Status)?.is_some() {
        return Err(Ends::unsafe_to(voice::words("leave.runs", &[("leave", &leave_command(dir))])));
    }
    may_leave(dir, &identity, yes, force)?;
    let life = identity.me.incarnation;
    let aside = dir.join(format!("left-n{}-{}-{}", identity.me.node.0, life.generation, life.counter));
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&aside)
        .with_context(|| format!("cannot make {}", aside.display()))?;
    // The card first: without it the rest does not count as a membership, wherever this stops.
    for name in ["node.toml", "node.crt", "ca.crt", "edge.db-wal", "edge.db", "edge.db-shm", "journal.end", "boot"] {
        match std::fs::rename(dir.join(name), aside.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot set {name} aside"));
            }
            _ => {}
        }
    }
    // Sessions go with the operators of this membership.
    for name in [crate::app::SESSIONS_FILE, "node.key", "endpoint.key"] {
        match std::fs::remove_file(dir.join(name)) {
            // The service manager keeps the key; destroying it there is the operator's.
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot destroy {name}"));
            }
            _ => {}
        }
    }
    Ok(identity)
}

/// Whether a box that is stopped may be given up.
fn may_leave(dir: &Path, identity: &Identity, yes: bool, force: bool) -> Result<()> {
    let (unsent, is_fenced) = crate::status::unsent_when_down(dir, identity)?;
    let is_safe = unsent == 0 || force;
    if yes && is_safe {
        return Ok(());
    }
    let node = identity.me.node;
    let why = match (is_safe, is_fenced) {
        (true, _) => "leave.say_yes",
        (false, true) => "leave.fenced",
        (false, false) => "leave.unsent",
    };
    let leave = if force { ended::LEAVE_ALL } else { ended::LEAVE };
    let [zh, en] = ended::unconfirmed(node);
    let unconfirmed = if tongue() == Lang::Zh { zh } else { en };
    let facts: voice::Facts<'_> = &[
        ("node", &node),
        ("count", &unsent),
        ("leave", &leave),
        ("leave_all", &ended::LEAVE_ALL),
        ("unconfirmed", &unconfirmed),
    ];
    Err(Ends::unsafe_to(voice::words(why, facts)))
}

/// The command that gives this membership up: of a fenced box headquarters confirms nothing more, so that leaving it needs
/// `--force` for certain.
fn leave_command(dir: &Path) -> &'static str {
    let asked = Identity::load(dir).ok().flatten().map(|identity| crate::status::unsent_when_down(dir, &identity));
    if let Some(Ok((1.., true))) = asked { ended::LEAVE_ALL } else { ended::LEAVE }
}

/// The key of an earlier attempt, or a new one.
fn make_key(dir: &Path) -> Result<SigningKey> {
    if dir.join("node.key").exists() {
        return signing_key(dir);
    }
    let mut seed = Zeroizing::new([0u8; 32]);
    getrandom::fill(seed.as_mut()).map_err(|e| anyhow::anyhow!("no randomness from the system: {e}"))?;
    files::write_durably(&dir.join("node.key"), seed.as_ref(), 0o600)?;
    Ok(SigningKey::from_bytes(&seed))
}

/// The key as the service manager hands it over, else from the data folder.
fn signing_key(dir: &Path) -> Result<SigningKey> {
    let handed = std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join("node.key"));
    let path = handed.filter(|path| path.exists()).unwrap_or_else(|| dir.join("node.key"));
    let seed = Zeroizing::new(std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    match <[u8; 32]>::try_from(seed.as_slice()) {
        Ok(seed) => Ok(SigningKey::from_bytes(&seed)),
        Err(_) => bail!("{} is not a key of 32 bytes; join the box again", path.display()),
    }
}

/// Endpoint secrets, made at first use.
fn endpoint_keys(dir: &Path) -> Result<EndpointKeys> {
    let path: PathBuf = dir.join("endpoint.key");
    if let Some(bytes) = files::read_if_there(&path)?
        && let Some((reset, id)) = bytes.split_first_chunk::<32>()
        && let Ok(id) = <[u8; 8]>::try_from(id)
    {
        return Ok(EndpointKeys { reset_key: Zeroizing::new(*reset), connection_id_key: u64::from_be_bytes(id) });
    }
    let keys = EndpointKeys::generate()?;
    let mut bytes = Zeroizing::new(keys.reset_key.to_vec());
    bytes.extend_from_slice(&keys.connection_id_key.to_be_bytes());
    files::write_durably(&path, &bytes, 0o600)?;
    Ok(keys)
}

/// What to do with a box that is of no campus yet.
pub(crate) fn not_joined(dir: &Path, lang: Lang) -> String {
    voice::words_in(lang, "not_joined", &[("folder", &dir.display())])
}

//! What only the running process knows of itself and its peers: whom it heard when, what the hub has acknowledged.
//!
//! Written by connections, read by status pages. Leaves to others: what is durable (rows), the words (`status`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use yika_crdt::ids::*;

/// What was seen of one peer since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Contact {
    /// A connection is open and greeted.
    pub connected: bool,
    /// When it last said something that this box took: milliseconds since boot.
    pub heard_mono_ms: Option<u64>,
    /// Why the last attempt or connection ended, while there is none.
    pub words: String,
    /// What it calls itself.
    pub software: String,
}

/// The process' own knowledge.
pub struct Vitals {
    dir: PathBuf,
    hub_addr: String,
    started_mono_ms: u64,
    contacts: Mutex<BTreeMap<NodeId, Contact>>,
    hub_stored: AtomicU64,
    certificate_der: RwLock<Vec<u8>>,
}

impl Vitals {
    /// At the start of the process.
    pub fn new(dir: &Path, hub_addr: &str, certificate_der: &[u8], mono_ms: u64) -> Vitals {
        Vitals {
            dir: dir.to_owned(),
            hub_addr: hub_addr.to_owned(),
            started_mono_ms: mono_ms,
            contacts: Mutex::default(),
            hub_stored: AtomicU64::new(0),
            certificate_der: RwLock::new(certificate_der.to_vec()),
        }
    }

    /// The data folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `host:port` of the hub.
    pub fn hub_addr(&self) -> &str {
        &self.hub_addr
    }

    /// When the process started, milliseconds since boot.
    pub fn started_mono_ms(&self) -> u64 {
        self.started_mono_ms
    }

    /// A peer has greeted.
    pub fn met(&self, node: NodeId, software: &str, mono_ms: u64) {
        let mut contacts = self.lock();
        let contact = contacts.entry(node).or_default();
        contact.connected = true;
        contact.heard_mono_ms = Some(mono_ms);
        contact.software = software.to_owned();
        contact.words.clear();
    }

    /// A peer said something that was taken.
    pub fn heard(&self, node: NodeId, mono_ms: u64) {
        self.lock().entry(node).or_default().heard_mono_ms = Some(mono_ms);
    }

    /// There is no connection to a peer, and why.
    pub fn lost(&self, node: NodeId, words: &str) {
        let mut contacts = self.lock();
        let contact = contacts.entry(node).or_default();
        contact.connected = false;
        contact.words = words.to_owned();
    }

    /// Everybody seen or dialled since the start.
    pub fn contacts(&self) -> BTreeMap<NodeId, Contact> {
        self.lock().clone()
    }

    /// The hub has stored this box's journal up to here.
    pub fn hub_has(&self, seq: Seq) {
        self.hub_stored.fetch_max(seq.0, Ordering::Relaxed);
    }

    /// How far the hub has said that it stored this box's journal since the start.
    pub fn hub_stored(&self) -> Seq {
        Seq(self.hub_stored.load(Ordering::Relaxed))
    }

    /// The certificate in use.
    pub fn certificate_der(&self) -> Vec<u8> {
        self.certificate_der.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A renewed certificate is in use.
    pub fn set_certificate(&self, der: &[u8]) {
        *self.certificate_der.write().unwrap_or_else(PoisonError::into_inner) = der.to_vec();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Contact>> {
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

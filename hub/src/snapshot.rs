//! Snapshots at headquarters: when one is cut, the last two of each audience kept as files, chunks for whoever fetches,
//! and when entries may go.
//!
//! One is cut when a peer lacks much that the newest does not hold, and now and then when feeds have grown, so that
//! entries do not pile up for ever. Leaves to others: what is in it (`yika_crdt::snapshot`), its file
//! (`yika_store::parts`), the connection (`yika_link::sync`).

use crate::clock::wall_ms;
use crate::core::{self, Command, Reply};
use crate::node::HubNode;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use yika_crdt::channel::FeedId;
use yika_crdt::feed::Hash;
use yika_crdt::ids::{CampusId, Seq, Writer};
use yika_crdt::snapshot::{Audience, Cutter, SignedManifest, cut};
use yika_crdt::store::{Read, StoreError};
use yika_crdt::sync::{Message, SnapshotWord};
use yika_link::PeerIdentity;
use yika_link::sync::Node;
use yika_store::parts::{self, Part};

/// Folder of the files in the data folder.
const FOLDER: &str = "snapshots";
/// Snapshots of one audience that are kept: who fetches the older one can finish.
const KEPT: usize = 2;
/// A snapshot younger than this is not cut again, whoever asks.
const CUT_AGAIN_MS_MIN: i64 = 60_000;
/// Without anybody asking, one is cut at most so often.
const CUT_UNASKED_MS_MIN: i64 = 3_600_000;
/// Without anybody asking, one is cut only when so many entries have come since.
const GROWN_ENTRIES_MIN: u64 = 2_048;
/// How often that is looked at.
const LOOK_MS: u64 = 60_000;
/// Entries at the end of each feed that stay, whatever snapshots hold: a box that was away for days needs no snapshot.
pub const KEEP_ENTRIES: u64 = 16_384;
/// Boxes are told of so many more entries that may go, not of fewer: the word is as long as a manifest.
const TELL_DROP_ENTRIES_MIN: u64 = 4_096;
/// How often an offer is tried again while the peer's words are full.
const SAY_TRIES_MAX: u32 = 50;
/// Pause between two tries.
const SAY_AGAIN_MS: u64 = 100;

/// The kept snapshots, newest last.
pub struct Snapshots {
    dir: PathBuf,
    kept: Mutex<BTreeMap<Audience, Vec<Arc<Part>>>>,
    /// One is cut at a time.
    cutting: Mutex<()>,
}

impl Snapshots {
    /// Finds what was kept; files that are not sound, or of a life before a restore, are removed.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(data: &Path, me: Writer) -> Result<Snapshots> {
        let dir = data.join(FOLDER);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut kept: BTreeMap<Audience, Vec<Arc<Part>>> = BTreeMap::new();
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let path = entry?.path();
            match Part::open_all(&path).map(|mut parts| (parts.pop(), parts.is_empty())) {
                Ok((Some(part), true)) if part.signed().manifest.by == me => {
                    kept.entry(part.signed().manifest.audience).or_default().push(Arc::new(part))
                }
                Ok(_) => remove(&path),
                Err(error) => {
                    tracing::warn!(%error, "a kept snapshot is of no use");
                    remove(&path);
                }
            }
        }
        kept.values_mut().for_each(|parts| parts.sort_by_key(|part| part.signed().manifest.cut_ms));
        Ok(Snapshots { dir, kept: Mutex::new(kept), cutting: Mutex::new(()) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Audience, Vec<Arc<Part>>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest(&self, audience: Audience) -> Option<Arc<Part>> {
        self.lock().get(&audience).and_then(|parts| parts.last().cloned())
    }

    /// A kept snapshot by its name.
    pub fn part(&self, id: &Hash) -> Option<Arc<Part>> {
        self.lock().values().flatten().find(|part| part.signed().manifest.id() == *id).cloned()
    }

    fn keep(&self, part: Part) {
        let mut kept = self.lock();
        let parts = kept.entry(part.signed().manifest.audience).or_default();
        parts.push(Arc::new(part));
        while parts.len() > KEPT {
            // Who reads it now still has it open.
            remove(parts.remove(0).path());
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove");
    }
}

/// Entries of an audience's feeds beyond a snapshot.
fn grown(store: &dyn Read, audience: Audience, since: Option<&SignedManifest>) -> Result<u64, StoreError> {
    let feeds = store.feeds()?;
    let covered = feeds.iter().filter(|(feed, _)| audience.covers(feed.channel));
    let beyond = |feed: &FeedId, end: Seq| {
        let base = since.and_then(|signed| signed.manifest.base(feed)).map_or(0, |base| base.seq.0);
        end.0.saturating_sub(base)
    };
    Ok(covered.map(|(feed, held)| beyond(feed, held.end.seq)).sum())
}

/// Entries that may leave every node: what has left this one, and what the newest snapshot so far holds (and so the one
/// to be cut), a verified backup too, and that is not among the last ones.
fn droppable(
    store: &dyn Read,
    audience: Audience,
    older: Option<&SignedManifest>,
) -> Result<Vec<(FeedId, Seq)>, StoreError> {
    let mut drop = Vec::new();
    for (feed, held) in store.feeds()?.into_iter().filter(|(feed, _)| audience.covers(feed.channel)) {
        let base = older.and_then(|signed| signed.manifest.base(&feed)).map_or(Seq::ZERO, |base| base.seq);
        let keep_from = Seq(held.end.seq.0.saturating_sub(KEEP_ENTRIES));
        let upto = base.min(keep_from).min(core::archived(store, &feed)?).max(held.pruned);
        if upto > Seq::ZERO {
            drop.push((feed, upto));
        }
    }
    Ok(drop)
}

impl HubNode {
    /// The newest snapshot of an audience, cut anew when much has come since. Blocks for as long as that takes.
    ///
    /// # Errors
    /// In words: nothing can be written, or the hub is recovering.
    pub fn fresh_snapshot(&self, audience: Audience, age_ms_min: i64) -> Result<Arc<Part>> {
        let snapshots = self.snapshots();
        let _one = snapshots.cutting.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = snapshots.newest(audience);
        if let Some(part) = &newest {
            let age_ms = wall_ms().saturating_sub(part.signed().manifest.cut_ms);
            let more = self.look(|store| grown(store, audience, Some(part.signed())))?;
            if more == 0 || (0..age_ms_min).contains(&age_ms) {
                return Ok(Arc::clone(part));
            }
        }
        if self.ears().recovery.borrow().is_some() {
            bail!("headquarters was restored and is recovering; snapshots are cut again when every box has reported");
        }
        let part = self.cut_snapshot(audience, newest.as_deref().map(Part::signed))?;
        let path = part.path().to_path_buf();
        snapshots.keep(part);
        Ok(Arc::new(Part::open_at(&path, 0)?))
    }

    fn cut_snapshot(&self, audience: Audience, older: Option<&SignedManifest>) -> Result<Part> {
        let dir = &self.snapshots().dir;
        let begun = std::time::Instant::now();
        let cut_ms = wall_ms().max(older.map_or(0, |signed| signed.manifest.cut_ms + 1));
        let name = match audience {
            Audience::Everyone => format!("everyone-{cut_ms}.snapshot"),
            Audience::Campus(campus) => format!("campus-{}-{cut_ms}.snapshot", campus.0),
        };
        let (path, scratch) = (dir.join(name), dir.join("cut.part"));
        let mut options = OpenOptions::new();
        let data = options.write(true).create(true).truncate(true).mode(0o600).open(&scratch);
        let mut data = data.with_context(|| format!("cannot write {}", scratch.display()))?;
        let cut = self.look(|store| {
            let drop = droppable(store, audience, older)?;
            let cutter = Cutter { by: self.writer(), key: self.key(), audience, cut_ms, drop };
            Ok(cut(store, cutter, &mut |chunk: &[u8]| data.write_all(chunk)))
        });
        let written = cut.map_err(anyhow::Error::from).and_then(|cut| {
            let signed = cut?;
            parts::write(&path, vec![(signed, Box::new(File::open(&scratch)?))])?;
            Ok(Part::open_at(&path, 0)?)
        });
        remove(&scratch);
        let part = written.context("no snapshot was cut")?;
        let manifest = &part.signed().manifest;
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(%audience, bytes = manifest.bytes, items = manifest.items, took_ms, "a snapshot was cut");
        Ok(part)
    }

    /// Writes what a box of a campus can start from into one file.
    ///
    /// # Errors
    /// In words: the campus is not there, nothing can be written, the hub is recovering.
    pub fn export_snapshot(&self, campus: CampusId, path: &Path) -> Result<Vec<SignedManifest>> {
        if !self.registry().campuses.contains_key(&campus) {
            bail!("{campus} is not a campus of this registry");
        }
        let mut found = Vec::new();
        for audience in [Audience::Everyone, Audience::Campus(campus)] {
            found.push(self.fresh_snapshot(audience, 0)?);
        }
        let mut written = Vec::new();
        for part in &found {
            written.push((part.signed().clone(), parts::data(part)? as Box<dyn std::io::Read>));
        }
        parts::write(path, written)?;
        Ok(found.iter().map(|part| part.signed().clone()).collect())
    }

    /// Says a word of snapshots to a box; it waits while the box takes no more words.
    async fn say_of_snapshots(&self, to: Writer, word: SnapshotWord) {
        for _ in 0..SAY_TRIES_MAX {
            if self.say(to, Message::Snapshot(Box::new(word.clone()))) || self.peer(to).is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(SAY_AGAIN_MS)).await;
        }
        if let Some(peer) = self.peer(to) {
            peer.close(yika_link::CloseCode::UNAVAILABLE, "this box does not listen");
        }
    }
}

/// Offers a box what it lacks, one audience after the other.
pub fn offer(node: &Arc<HubNode>, to: &PeerIdentity, audiences: BTreeSet<Audience>) {
    let (node, to) = (Arc::clone(node), to.writer());
    tokio::spawn(async move {
        for audience in audiences {
            let at = Arc::clone(&node);
            let part = tokio::task::spawn_blocking(move || at.fresh_snapshot(audience, CUT_AGAIN_MS_MIN)).await;
            let word = match part {
                Ok(Ok(part)) => SnapshotWord::Offer(Box::new(part.signed().clone())),
                Ok(Err(error)) => {
                    tracing::warn!(error = format!("{error:#}"), %audience, "no snapshot for a box; it gets entries");
                    SnapshotWord::Nothing(audience)
                }
                Err(_) => SnapshotWord::Nothing(audience),
            };
            node.say_of_snapshots(to, word).await;
        }
    });
}

/// Cuts now and then, lets entries go here, and tells boxes that they may let them go.
pub async fn keep_fresh(node: Arc<HubNode>) {
    let mut every = tokio::time::interval(Duration::from_millis(LOOK_MS));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told: BTreeMap<Audience, u64> = BTreeMap::new();
    loop {
        every.tick().await;
        let at = Arc::clone(&node);
        let cut = tokio::task::spawn_blocking(move || cut_due(&at)).await.unwrap_or_default();
        for part in cut {
            let drop: Arc<[(FeedId, Seq)]> = part.signed().manifest.drop.as_slice().into();
            let entries = drop.iter().map(|(_, upto)| upto.0).sum::<u64>();
            let told = told.entry(part.signed().manifest.audience).or_default();
            if entries.saturating_sub(*told) < TELL_DROP_ENTRIES_MIN {
                continue;
            }
            *told = entries;
            for peer in node.peers() {
                node.say_of_snapshots(peer, SnapshotWord::Offer(Box::new(part.signed().clone()))).await;
            }
            while let Ok(Reply::More) = node.call(Command::Drop(Arc::clone(&drop))).await {}
        }
    }
}

/// Cuts the snapshots whose feeds have grown enough since the last.
fn cut_due(node: &HubNode) -> Vec<Arc<Part>> {
    let campuses: Vec<Audience> = node.registry().campuses.keys().map(|campus| Audience::Campus(*campus)).collect();
    let mut cut = Vec::new();
    for audience in std::iter::once(Audience::Everyone).chain(campuses) {
        let newest = node.snapshots().newest(audience);
        let age_ms = newest.as_ref().map(|part| wall_ms().saturating_sub(part.signed().manifest.cut_ms));
        let more = node.look(|store| grown(store, audience, newest.as_deref().map(Part::signed))).unwrap_or_default();
        let due = more >= GROWN_ENTRIES_MIN && age_ms.is_none_or(|age_ms| age_ms >= CUT_UNASKED_MS_MIN);
        if !due || node.ears().recovery.borrow().is_some() {
            continue;
        }
        match node.fresh_snapshot(audience, CUT_UNASKED_MS_MIN) {
            Ok(part) => cut.push(part),
            Err(error) => tracing::warn!(error = format!("{error:#}"), %audience, "no snapshot"),
        }
    }
    cut
}

//! A database that was put back without a restore, as a snapshot of a machine or an old copy of the folder does: its log,
//! on another disk, goes further. What the log holds is written again, and the hub goes on in a new life.
//!
//! Looked at before anything is served: in its former life such a hub would sign other entries under numbers that it has
//! given out. Where the log was put back with it, boxes show it when they greet. Leaves to others: the replay (`log`),
//! what a restored hub waits for (`core::recover`).

use super::log::replay::{self, Replayed};
use super::log::segment::{Next, SegmentReader};
use super::{DATABASE, begin_new_life, sound_books};
use crate::identity::HubIdentity;
use crate::node::HubNode;
use crate::store::{self, TableRow, outbox};
use crate::vault::Vault;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use yika_crdt::ids::Writer;
use yika_store::SqliteStore;
use yika_store::files::write_durably;

/// Says that what was begun here is not done: a stop in between is no way around the new life.
const MARK: &str = "put-back";
/// A start waits so long for the log's folder.
const LOOK_MAX: Duration = Duration::from_secs(20);

/// What was found and done.
#[derive(Debug)]
pub struct PutBack {
    /// The last turn of the database as it was found.
    pub turn: u64,
    /// What the log gave back.
    pub replayed: Replayed,
    /// The life that the hub goes on in.
    pub life: Writer,
}

/// Looks whether the database in `data` is older than the log in `dir`; if so, takes back what the log holds and begins
/// a new life. `None` where there is nothing to mend.
///
/// # Errors
/// The database cannot be read or written, or the books that come of it do not add up.
pub fn mend(data: &Path, dir: &Path, identity: &HubIdentity) -> Result<Option<PutBack>> {
    let mark = data.join(MARK);
    let life = HubNode::life(identity, data)?;
    let mut store = SqliteStore::open(data.join(DATABASE), &store::options())?;
    let turn = outbox::position(store.connection())?.turn;
    if !mark.exists() && !look(dir, &identity.vault, life, turn) {
        return Ok(None);
    }
    if turn == 0 {
        bail!(
            "{} holds nothing, and the log in {} does: restore the newest backup with that log into an empty folder \
             (yika-hub backup restore)",
            data.join(DATABASE).display(),
            dir.display()
        );
    }
    write_durably(&mark, b"", 0o600).with_context(|| format!("cannot write {}", mark.display()))?;
    // Whatever cannot be taken back: boxes and people wait for a hub that signs nothing twice.
    let replayed = replay::replay(&mut store, dir, &identity.vault, true)?;
    sound_books(store.connection())?;
    drop(store);
    let life = begin_new_life(data, &identity.vault, |life| alarm(life, turn, &replayed))?;
    std::fs::remove_file(&mark).with_context(|| format!("cannot remove {}", mark.display()))?;
    Ok(Some(PutBack { turn, replayed, life }))
}

fn alarm(life: Writer, turn: u64, replayed: &Replayed) -> TableRow {
    let back = match &replayed.stopped {
        None => format!("{} turns were taken back from the log", replayed.turns),
        Some(why) => format!("{} turns could be taken back from the log: {why}", replayed.turns),
    };
    let detail =
        format!("the database ended with turn {turn}, before its log: it was put back without a restore; {back}");
    TableRow::alarm(life, "put_back", detail)
}

/// As [`is_ahead`], for as long as a start can wait: a folder that cannot be looked at holds no hub up.
fn look(dir: &Path, vault: &Arc<Vault>, life: Writer, turn: u64) -> bool {
    let (tell, told) = mpsc::channel();
    let (dir, vault) = (dir.to_owned(), Arc::clone(vault));
    let folder = dir.display().to_string();
    let looking = move || _ = tell.send(is_ahead(&dir, &vault, life, turn));
    let found = std::thread::Builder::new().name("yika-log-look".to_owned()).spawn(looking);
    let found = found.map_err(anyhow::Error::from).and_then(|_| Ok(told.recv_timeout(LOOK_MAX)?)).flatten();
    found.unwrap_or_else(|error| {
        tracing::error!(folder, %error, "whether the database is older than its log cannot be seen");
        false
    })
}

/// Whether the folder holds turns of this life, or of a later one, that the database does not know.
fn is_ahead(dir: &Path, vault: &Arc<Vault>, life: Writer, turn: u64) -> Result<bool> {
    let ours = replay::files(dir, vault)?.ours;
    // The newest file may have been begun and no more.
    for (path, head) in ours.iter().rev().filter(|(_, head)| head.life >= life).take(2) {
        if head.life > life || last_turn(path, vault)? > turn {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The last whole turn in a file, up to where it can be read.
fn last_turn(path: &Path, vault: &Vault) -> Result<u64> {
    let (head, mut reader) = SegmentReader::open(path, vault)?;
    let mut last = head.first.saturating_sub(1);
    while let Ok(Next::Record(_)) = reader.read() {
        last += 1;
    }
    Ok(last)
}

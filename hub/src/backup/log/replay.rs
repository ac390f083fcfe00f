//! Replaying a log on a database that was put back from a backup: the very writes of the turns that followed, in their
//! order, so that feeds, state and books are those of the last turn that was archived.
//!
//! Pure redo: no turn runs through the core again, so nothing is signed, numbered or decided a second time. Leaves to
//! others: the new life that begins after it (`core::recover`).

use super::record::{Record, Tally};
use super::segment::{self, Head, Next, SegmentReader};
use crate::store::outbox::{self, record_hash};
use crate::store::{TableRow, write};
use crate::vault::Vault;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use yika_crdt::feed::Hash;
use yika_crdt::store::Batch;
use yika_crdt::wire;
use yika_store::SqliteStore;

/// Bytes of records that share one transaction.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// The files of a folder.
#[derive(Debug, Default)]
pub struct Files {
    /// Those of this hub, in the order they were begun.
    pub ours: Vec<(PathBuf, Head)>,
    /// What is wrong with others.
    pub unreadable: Vec<String>,
}

/// The log's files of a folder that this master key opens.
///
/// # Errors
/// The folder cannot be read.
pub fn files(dir: &Path, vault: &Vault) -> Result<Files> {
    let mut files = Files::default();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", dir.display())),
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != segment::ENDING) {
            continue;
        }
        match segment::head(&path) {
            Ok(head) if segment::is_of(&head, vault) => files.ours.push((path, head)),
            Ok(_) => {}
            Err(error) => files.unreadable.push(format!("{error:#}")),
        }
    }
    files.ours.sort_by_key(|(_, head)| (head.life, head.number, head.created_ms));
    Ok(files)
}

/// Whether any file of a log lies in a folder.
pub fn holds_a_log(dir: &Path) -> bool {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().extension().is_some_and(|ending| ending == segment::ENDING))
}

/// What a replay did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Replayed {
    /// Turns.
    pub turns: u64,
    /// When the last of them was written, hub time.
    pub upto_ms: Option<i64>,
    /// What was in them.
    pub tally: Tally,
    /// Bytes of a last record that was being written when the hub was lost.
    pub torn_bytes: u64,
    /// Why it stopped early, where that was accepted.
    pub stopped: Option<String>,
}

/// Replays what the folder holds on top of the database. Damage before the end of the log is refused; with
/// `accept_loss` the replay stops there instead.
///
/// # Errors
/// What is wrong, in words; the database is the caller's to throw away then.
pub fn replay(store: &mut SqliteStore, dir: &Path, vault: &Vault, accept_loss: bool) -> Result<Replayed> {
    let position = outbox::position(store.connection())?;
    let mut redo = Redo {
        store,
        turn: position.turn,
        hash: position.hash,
        group: Group::default(),
        replayed: Replayed::default(),
    };
    let outcome = redo.files(dir, vault);
    redo.flush()?;
    if let Err(error) = outcome {
        if !accept_loss {
            let upto = redo.replayed.turns;
            return Err(error.context(format!(
                "the log cannot be replayed to its end; {upto} turns could be. Fetch the damaged file again, or say \
                 --accept-loss to go on without what follows"
            )));
        }
        redo.replayed.stopped = Some(format!("{error:#}"));
    }
    let (turn, hash) = (redo.turn, redo.hash);
    redo.store.commit_with(&Batch::default(), |tx| outbox::replayed(tx, turn, hash))?;
    Ok(redo.replayed)
}

/// Turns that are written together.
#[derive(Default)]
struct Group {
    batch: Batch,
    rows: Vec<(i64, Vec<TableRow>)>,
    bytes: usize,
}

struct Redo<'s> {
    store: &'s mut SqliteStore,
    /// The last turn that was taken, and the hash of its record.
    turn: u64,
    hash: Hash,
    group: Group,
    replayed: Replayed,
}

impl Redo<'_> {
    fn files(&mut self, dir: &Path, vault: &Vault) -> Result<()> {
        let Files { ours, unreadable } = files(dir, vault)?;
        if let Some(words) = unreadable.into_iter().next() {
            bail!("{words}");
        }
        for (path, head, upto) in plan(ours, self.turn)? {
            if head.first > self.turn + 1 {
                bail!("turns {} to {} are missing before {}", self.turn + 1, head.first - 1, path.display());
            }
            self.file(&path, vault, upto)?;
        }
        Ok(())
    }

    /// Takes the records of one file up to a turn; what comes before the present one is only checked.
    fn file(&mut self, path: &Path, vault: &Vault, upto: u64) -> Result<()> {
        let (head, mut reader) = SegmentReader::open(path, vault)?;
        let (mut turn, mut hash) = (head.first - 1, head.previous);
        loop {
            if turn == self.turn && hash != self.hash {
                bail!("{} does not continue this backup: it is of another copy of this hub", path.display());
            }
            if turn >= upto {
                return Ok(());
            }
            let bytes = match reader.read()? {
                Next::Record(bytes) => bytes,
                Next::End => return Ok(()),
                Next::Torn(bytes) => {
                    self.replayed.torn_bytes = bytes;
                    return Ok(());
                }
            };
            let record: Record = wire::decode_lenient(&bytes, usize::MAX)
                .with_context(|| format!("{} has a record that this program cannot read", path.display()))?;
            if (record.turn, record.previous) != (turn + 1, hash) {
                bail!("{}: turn {} does not follow turn {turn}", path.display(), record.turn);
            }
            turn = record.turn;
            hash = record_hash(&bytes);
            if turn == self.turn + 1 {
                (self.turn, self.hash) = (turn, hash);
                self.take(record, bytes.len())?;
            }
        }
    }

    fn take(&mut self, record: Record, bytes: usize) -> Result<()> {
        self.replayed.turns += 1;
        self.replayed.upto_ms = Some(record.at_ms);
        self.replayed.torn_bytes = 0;
        self.replayed.tally.add(&record);
        if !self.group.batch.takes(&record.batch) || self.group.bytes >= GROUP_BYTES_MAX {
            self.flush()?;
        }
        self.group.batch.add(record.batch);
        self.group.rows.push((record.at_ms, record.rows));
        self.group.bytes += bytes;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let Group { batch, rows, .. } = std::mem::take(&mut self.group);
        if rows.is_empty() {
            return Ok(());
        }
        let write = |tx: &yika_store::rusqlite::Connection| {
            rows.iter().try_for_each(|(at_ms, rows)| write::rows(tx, rows, *at_ms))
        };
        Ok(self.store.commit_with(&batch, write)?)
    }
}

/// Which files are read, and each up to which turn: a later file that begins with an earlier turn than the one before
/// it ends takes its place from there on, as after a restore or a start.
fn plan(ours: Vec<(PathBuf, Head)>, base: u64) -> Result<Vec<(PathBuf, Head, u64)>> {
    let mut plan: Vec<(PathBuf, Head, u64)> = Vec::new();
    let mut upto = u64::MAX;
    for (path, head) in ours.into_iter().rev() {
        if head.first == 0 {
            bail!("{} says that it begins with turn 0", path.display());
        }
        if head.first <= upto {
            upto = head.first - 1;
            let reads_to = plan.last().map_or(u64::MAX, |(_, later, _)| later.first - 1);
            let begins_before = head.first <= base + 1;
            plan.push((path, head, reads_to));
            if begins_before {
                break;
            }
        }
    }
    plan.reverse();
    Ok(plan)
}

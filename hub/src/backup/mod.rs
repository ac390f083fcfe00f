//! Backups of headquarters: made while it runs, proved by putting them back into a scratch folder, and restored from.
//!
//! A backup holds the database as of one moment, the identity's sealed files and the configuration. It never holds the
//! master key: without it a backup cannot be read, and with it alone nothing can be restored. Leaves to others: who asks
//! and what follows from a proved one (`desk`), what a restored hub does (`core::recover`).

pub mod fault;
pub mod file;
mod head;
pub mod log;
pub mod put_back;
pub mod stream;

use crate::clock::wall_ms;
use crate::core::Command;
use crate::identity::{self, HubIdentity};
use crate::machine::Order;
use crate::node::HubNode;
use crate::store::read::{self, TrialBalance};
use crate::store::{self, BackupRow, TableRow, outbox};
use crate::vault::Vault;
use anyhow::{Context, Result, bail};
use file::{Head, Part};
use log::replay::Replayed;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use yika_crdt::channel::FeedId;
use yika_crdt::ids::{Seq, Writer};
use yika_crdt::store::{Batch, Read};
use yika_store::files::write_durably;
use yika_store::{SqliteReader, SqliteStore};

const DATABASE: &str = "hub.db";
/// The configuration as it was in force; not read by anything, for whoever restores.
pub const CONFIGURATION: &str = "hub.toml";
const ENDING: &str = ".backup";
/// A file that is being written and proved.
const UNFINISHED: &str = ".part";
/// Where copies lie for a moment, in the data folder.
const SCRATCH: &str = "backup.scratch";
/// Where a hub is put together, in its new data folder.
const STAGE: &str = "restoring";
/// Kept free on a device beyond what a backup takes.
const SPARE_BYTES: u64 = 16 << 20;

/// Where a running hub puts its backups.
pub struct Backups {
    /// The hub's data folder.
    pub data: PathBuf,
    /// Where they go unless somebody says otherwise.
    pub dir: PathBuf,
    /// How many stay in a folder.
    pub keep: usize,
    /// The configuration in force, TOML.
    pub configuration: String,
    /// One at a time.
    pub under_way: UnderWay,
    /// How many have failed since the start.
    pub failed: AtomicU64,
    /// How often one is made by itself, in hours; never when 0.
    pub every_hours: u32,
    /// What is being done to the one that is being made.
    phase: Mutex<Option<Phase>>,
}

/// A part of the making of a backup, in the order of doing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// The database as of one moment is put aside.
    Copying,
    /// It is sealed into one file.
    Sealing,
    /// The file is put back into a scratch folder and checked.
    Proving,
}

/// A device has no room for a backup.
#[derive(Debug, thiserror::Error)]
#[error("{folder} has {free_bytes} bytes free, a backup needs {wanted_bytes} there: make room or name another folder")]
pub struct NoRoom {
    /// Where.
    pub folder: String,
    /// What is there.
    pub free_bytes: u64,
    /// What it takes.
    pub wanted_bytes: u64,
}

impl Backups {
    /// Backups of the hub in `data`.
    pub fn new(data: PathBuf, dir: PathBuf, keep: usize, configuration: String) -> Backups {
        let (under_way, failed, phase) = (UnderWay::default(), AtomicU64::new(0), Mutex::new(None));
        Backups { data, dir, keep, configuration, under_way, failed, every_hours: 0, phase }
    }

    /// What is being done to the one that is being made.
    pub fn phase(&self) -> Option<Phase> {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, phase: Option<Phase>) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// The hub's database.
    pub fn database(&self) -> PathBuf {
        self.data.join(DATABASE)
    }
}

/// Whether a backup is being made or checked.
#[derive(Default)]
pub struct UnderWay(AtomicBool);

/// It is, as long as this lives.
pub struct Busy<'b>(&'b UnderWay);

impl UnderWay {
    /// Begins, unless one is under way.
    pub fn begin(&self) -> Option<Busy<'_>> {
        (!self.0.swap(true, Ordering::AcqRel)).then_some(Busy(self))
    }

    /// Whether one is.
    pub fn is(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// Of whom a backup is made.
pub struct Source {
    /// Opens what is sealed.
    pub vault: Arc<Vault>,
    /// The hub's name.
    pub name: String,
    /// The life it is in.
    pub life: Writer,
}

/// What a proved backup was found to hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Proved {
    /// The hub's name.
    pub name: String,
    /// The life it was in.
    pub life: String,
    /// When it was made, Unix milliseconds.
    pub created_ms: i64,
    /// The file's length.
    pub bytes: u64,
    /// The books, added up again.
    pub books: TrialBalance,
    /// Feeds in it.
    pub feeds: u64,
    /// Entries of all feeds, pruned ones included.
    pub entries: u64,
}

/// A backup that was made and proved, and how far it holds each feed.
pub struct Made {
    /// To be remembered.
    pub row: BackupRow,
    /// How far it holds each feed.
    pub marks: Vec<(FeedId, Seq)>,
}

/// A file of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// Where it lies.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Name of its hub, life and when it was made, or what is wrong with the file.
    pub about: Result<(String, String, i64), String>,
}

/// Makes a backup in `dir` and proves it by putting it back; only a proved one gets its name.
///
/// # Errors
/// No space, a failing device, or a copy that is not sound; then nothing of it is left.
pub fn make(backups: &Backups, source: &Source, dir: &Path) -> Result<Made> {
    let begun = std::time::Instant::now();
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let scratch = Folder::fresh(backups.data.join(SCRATCH))?;
    let at_ms = wall_ms();
    let path = dir.join(format!("yika-hub-{}-g{}{ENDING}", stamp(at_ms)?, source.life.incarnation.generation));
    let unfinished = Unfinished(path.with_extension("backup.part"));
    let copy = scratch.path.join(DATABASE);
    backups.enter(Some(Phase::Copying));
    let turn = copy_database(backups, dir, &copy)?;
    backups.enter(Some(Phase::Sealing));
    file::write(&unfinished.0, &source.vault, &source.name, source.life, at_ms, parts(backups, &copy)?)?;
    drop(scratch);
    backups.enter(Some(Phase::Proving));
    let (proved, marks) = prove(&unfinished.0, &source.vault, &backups.data)
        .context("the backup was written, but does not pass its check, and was removed")?;
    std::fs::rename(&unfinished.0, &path).with_context(|| format!("cannot name {}", path.display()))?;
    File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("cannot write {}", dir.display()))?;
    let took_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    let file = path.display().to_string();
    let (bytes, entries, turn) = (proved.bytes, proved.entries, Some(turn));
    Ok(Made { row: BackupRow { at_ms, file, bytes, took_ms, entries, turn }, marks })
}

/// The database as of one moment, if there is room for it here and for the backup there; gives its last turn.
fn copy_database(backups: &Backups, dir: &Path, copy: &Path) -> Result<u64> {
    let reader = SqliteReader::open(backups.database(), &store::options())?;
    let bytes = reader.bytes()?;
    has_room(&backups.data, bytes)?;
    has_room(dir, file::size_of(&[(DATABASE, bytes)]))?;
    reader.copy_to(copy)?;
    let copied = SqliteReader::open(copy, &store::options())?;
    Ok(outbox::position(copied.connection())?.turn)
}

fn has_room(dir: &Path, bytes: u64) -> Result<()> {
    let device = rustix::fs::statvfs(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    let free = device.f_bavail.saturating_mul(device.f_frsize);
    let wanted = bytes.saturating_add(SPARE_BYTES);
    if free < wanted {
        bail!(NoRoom { folder: dir.display().to_string(), free_bytes: free, wanted_bytes: wanted });
    }
    Ok(())
}

fn parts<'p>(backups: &'p Backups, copy: &Path) -> Result<Vec<Part<'p>>> {
    let mut parts = Vec::new();
    for (name, path) in std::iter::once((DATABASE, copy.to_owned()))
        .chain(identity::FILES.iter().map(|name| (*name, backups.data.join(name))))
    {
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        parts.push(Part { name, bytes: file.metadata()?.len(), content: Box::new(file) });
    }
    let text = backups.configuration.as_bytes();
    parts.push(Part { name: CONFIGURATION, bytes: text.len() as u64, content: Box::new(text) });
    Ok(parts)
}

/// The files that a backup of a hub holds.
pub fn parts_of_a_hub() -> Vec<&'static str> {
    identity::FILES.iter().copied().chain([DATABASE, CONFIGURATION]).collect()
}

fn sound_books(conn: &yika_store::rusqlite::Connection) -> Result<TrialBalance> {
    let books = read::trial_balance(conn)?;
    if books.sum_fen != 0 || books.accounts_differing != 0 {
        bail!(
            "the books in it do not balance: sum {} fen, {} accounts differ from their transfers",
            books.sum_fen,
            books.accounts_differing
        );
    }
    Ok(books)
}

/// Puts a backup into a scratch folder under `data` and checks everything in it; the folder goes again.
///
/// # Errors
/// What is wrong with it.
pub fn prove(path: &Path, vault: &Arc<Vault>, data: &Path) -> Result<(Proved, Vec<(FeedId, Seq)>)> {
    let scratch = Folder::fresh(data.join(SCRATCH))?;
    has_room(data, path.metadata().with_context(|| format!("cannot open {}", path.display()))?.len())?;
    let head = file::unpack(path, vault, &parts_of_a_hub(), &scratch.path)?;
    let (books, marks) = check(&scratch.path, vault, &head)?;
    let proved = Proved {
        name: head.name,
        life: head.life.to_string(),
        created_ms: head.created_ms,
        bytes: path.metadata()?.len(),
        books,
        feeds: marks.len() as u64,
        entries: marks.iter().map(|(_, seq)| seq.0).sum(),
    };
    Ok((proved, marks))
}

/// Whether what lies in `dir` is a whole and sound hub.
fn check(dir: &Path, vault: &Arc<Vault>, head: &Head) -> Result<(TrialBalance, Vec<(FeedId, Seq)>)> {
    let identity = HubIdentity::load_with(dir, Arc::clone(vault))?;
    let reader = SqliteReader::open(dir.join(DATABASE), &store::options())?;
    reader.integrity_check()?;
    let books = sound_books(reader.connection())?;
    let life = crate::core::present_life(&reader, identity.me)?.0;
    if life != head.life {
        bail!("it says that it is of {}, but its database is of {life}", head.life);
    }
    let feeds = reader.feeds()?;
    Ok((books, feeds.into_iter().map(|(feed, held)| (feed, held.end.seq)).collect()))
}

/// The log that a restore replays on top of the backup.
#[derive(Clone, Debug)]
pub struct LogFrom {
    /// Its folder.
    pub dir: PathBuf,
    /// Where the log is damaged the restore stops reading it, and what follows is lost.
    pub accept_loss: bool,
}

/// What a restore came to.
#[derive(Debug)]
pub struct Restored {
    /// The life that the hub goes on in.
    pub life: Writer,
    /// What was replayed on top of the backup.
    pub replayed: Replayed,
}

/// Puts a hub back into the empty folder `data`, replays the log, and marks it as restored: when it is started it goes
/// on in a new life and grants and pays nothing before every living box has reported.
///
/// # Errors
/// The folder holds a hub, or backup or log are not sound; then no hub is left there.
pub fn restore(path: &Path, data: &Path, vault: &Arc<Vault>, log: Option<&LogFrom>) -> Result<Restored> {
    if HubIdentity::exists(data) {
        bail!("{} holds a hub already; restore into an empty folder", data.display());
    }
    let stage = Folder::fresh(data.join(STAGE))?;
    has_room(data, path.metadata().with_context(|| format!("cannot open {}", path.display()))?.len())?;
    let head = file::unpack(path, vault, &parts_of_a_hub(), &stage.path)?;
    check(&stage.path, vault, &head)?;
    let replayed = replay(&stage.path, vault, log)?;
    let upto = words_of(replayed.upto_ms.unwrap_or(head.created_ms).max(head.created_ms))?;
    let life = begin_new_life(&stage.path, vault, |life| alarm(life, &upto, log.is_some()))?;
    fold_back(&stage.path)?;
    let put = |name: &str| -> Result<()> {
        let to = data.join(name);
        std::fs::rename(stage.path.join(name), &to).with_context(|| format!("cannot write {}", to.display()))
    };
    set_aside_logs(data)?;
    put(DATABASE)?;
    put(CONFIGURATION)?;
    // The card is the last of them: without it there is no hub, and the restore can be begun again.
    for name in identity::FILES {
        put(name)?;
    }
    File::open(data).and_then(|dir| dir.sync_all()).with_context(|| format!("cannot write {}", data.display()))?;
    Ok(Restored { life, replayed })
}

/// A write-ahead log names no database: SQLite would take one that was left here for the restored database's, and with
/// it the old life. It may hold the last turns of what was lost, so it is kept under another name.
fn set_aside_logs(data: &Path) -> Result<()> {
    for ending in ["-wal", "-shm", "-journal"] {
        let from = data.join(format!("{DATABASE}{ending}"));
        let to = data.join(format!("{DATABASE}{ending}.before-restore"));
        match std::fs::rename(&from, &to) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            moved => moved.with_context(|| format!("cannot move {} aside", from.display()))?,
        }
    }
    Ok(())
}

/// Replays the log on the database in `dir`, and adds its books up again. Without a log it stands where the backup ends.
fn replay(dir: &Path, vault: &Arc<Vault>, log: Option<&LogFrom>) -> Result<Replayed> {
    let mut store = SqliteStore::open(dir.join(DATABASE), &store::options())?;
    let replayed = match log {
        Some(log) => log::replay::replay(&mut store, &log.dir, vault, log.accept_loss)?,
        None => {
            let position = outbox::position(store.connection())?;
            let at = |tx: &yika_store::rusqlite::Connection| outbox::replayed(tx, position.turn, position.hash);
            store.commit_with(&Batch::default(), at)?;
            Replayed::default()
        }
    };
    sound_books(store.connection())?;
    Ok(replayed)
}

/// What stays to be read after the recovery: up to when everything is there, and what is to be entered again.
fn alarm(life: Writer, upto: &str, with_log: bool) -> TableRow {
    let by = if with_log { "a backup and the log after it" } else { "a backup without its log" };
    let detail = format!(
        "restored from {by}, complete up to {upto}: later top-ups and payments are to be entered again from their vouchers"
    );
    TableRow::alarm(life, "restored", detail)
}

/// The database says that it was restored before anybody can start a hub on it, and what a person is `told` of it.
fn begin_new_life(dir: &Path, vault: &Arc<Vault>, told: impl FnOnce(Writer) -> TableRow) -> Result<Writer> {
    let identity = HubIdentity::load_with(dir, Arc::clone(vault))?;
    let life = HubNode::life(&identity, dir)?;
    let identity = identity.in_life(life)?;
    let (node, thread) = HubNode::start(&identity, dir)?;
    node.call_blocking(Order { command: Command::Restored, rows: vec![told(life)] })?;
    let life = node.ears().new_life.borrow().context("the restored hub did not begin a new life")?;
    drop(node);
    thread.join().context("the writer thread ended badly")?;
    Ok(life)
}

/// Everything into the one file that is put in place.
fn fold_back(dir: &Path) -> Result<()> {
    drop(SqliteStore::open(dir.join(DATABASE), &store::options())?);
    let log = dir.join(format!("{DATABASE}-wal"));
    if log.metadata().is_ok_and(|log| log.len() > 0) {
        bail!("{} could not be folded back", log.display());
    }
    Ok(())
}

/// Puts the master key from where it is kept into a new data folder; false where it lies there already.
///
/// # Errors
/// It is not a key, or another one lies there.
pub fn place_master_key(from: &Path, data: &Path) -> Result<bool> {
    let key = std::fs::read(from).with_context(|| format!("cannot read the master key {}", from.display()))?;
    let to = data.join(crate::vault::MASTER);
    match yika_store::files::read_if_there(&to)? {
        Some(there) if there == key => Ok(false),
        Some(_) => bail!("{} is there and is another key: is this the folder of another hub?", to.display()),
        None => {
            write_durably(&to, &key, 0o600).map(|()| true).with_context(|| format!("cannot write {}", to.display()))
        }
    }
}

/// The backups of a folder, newest first.
///
/// # Errors
/// The folder cannot be read.
pub fn list(dir: &Path) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", dir.display())),
    };
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_some_and(|ending| ending == "backup") {
            let about = file::head(&file).map(|head| (head.name, head.life.to_string(), head.created_ms));
            let bytes = file.metadata().map_or(0, |m| m.len());
            found.push(Listed { file, bytes, about: about.map_err(|e| format!("{e:#}")) });
        }
    }
    found.sort_by_key(|listed| std::cmp::Reverse(listed.about.as_ref().map_or(0, |about| about.2)));
    Ok(found)
}

/// Removes the oldest backups of this hub beyond `keep`, and what earlier ones left unfinished. Files of other hubs and
/// damaged ones stay.
///
/// # Errors
/// The folder cannot be read, or a file not removed.
pub fn forget_old(dir: &Path, name: &str, keep: usize) -> Result<()> {
    let ours = list(dir)?.into_iter().filter(|listed| listed.about.as_ref().is_ok_and(|about| about.0 == name));
    let unfinished = std::fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path()));
    let unfinished = unfinished.filter(|path| path.to_string_lossy().ends_with(&format!("{ENDING}{UNFINISHED}")));
    for path in ours.skip(keep.max(1)).map(|listed| listed.file).chain(unfinished) {
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// A moment as it stands in names of files.
fn stamp(at_ms: i64) -> Result<String> {
    let form = time::macros::format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:3]Z");
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)?;
    Ok(at.format(form)?)
}

/// A moment in words, UTC.
///
/// # Errors
/// It is no moment of any calendar.
pub fn words_of(at_ms: i64) -> Result<String> {
    let form = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)?;
    Ok(at.format(form)?)
}

/// A folder that lives as long as this value.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn fresh(path: PathBuf) -> Result<Folder> {
        use std::os::unix::fs::DirBuilderExt;
        // What a killed program left.
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Folder { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a scratch folder could not be removed");
        }
    }
}

/// A file that goes unless it was renamed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

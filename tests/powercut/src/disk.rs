//! The model of a disk with a volatile write cache: per file the synced bytes and the operations since.
//! It knows nothing of SQLite; `vfs` calls it before each real operation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The unit a disk writes whole; a torn write keeps some sectors and loses others.
const SECTOR_BYTES: usize = 512;

enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { size: usize },
}

#[derive(Default)]
struct File {
    synced: Vec<u8>,
    /// Whether the directory entry is on the disk: true once synced or when found at open.
    entry_synced: bool,
    pending: Vec<Pending>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, File>,
    /// Files unlinked without a sync of the directory: they may come back.
    ghosts: BTreeMap<PathBuf, Vec<u8>>,
    operations: u64,
    armed: Option<(u64, u64)>,
    image: Option<BTreeMap<PathBuf, Vec<u8>>>,
}

/// The power is off; the operation did not happen.
pub(crate) struct PowerOff;

#[derive(Default)]
pub(crate) struct Disk(Mutex<State>);

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file was opened; `found` is what the real file holds if the disk has not met it yet.
    pub(crate) fn open(&self, path: &Path, found: impl FnOnce() -> Option<Vec<u8>>) {
        self.state().files.entry(path.to_owned()).or_insert_with(|| match found() {
            Some(synced) if !synced.is_empty() => File { synced, entry_synced: true, pending: Vec::new() },
            _ => File::default(),
        });
    }

    /// Runs `real` on the live file and records it, as one step that a cut cannot split.
    pub(crate) fn write(
        &self,
        path: &Path,
        offset: usize,
        bytes: &[u8],
        real: impl FnOnce() -> i32,
    ) -> Result<i32, PowerOff> {
        self.record(path, real, || Pending::Write { offset, bytes: bytes.to_vec() })
    }

    pub(crate) fn truncate(&self, path: &Path, size: usize, real: impl FnOnce() -> i32) -> Result<i32, PowerOff> {
        self.record(path, real, || Pending::Truncate { size })
    }

    fn record(&self, path: &Path, real: impl FnOnce() -> i32, op: impl FnOnce() -> Pending) -> Result<i32, PowerOff> {
        let mut state = self.state();
        state.step()?;
        let rc = real();
        if rc == 0
            && let Some(file) = state.files.get_mut(path)
        {
            file.pending.push(op());
        }
        Ok(rc)
    }

    /// Everything written to this file so far is on the disk, with its directory entry. With
    /// `new_journal`, the first sync also syncs the directory, as SQLite does on unix for journals and
    /// WAL files: every entry of that folder, and every unlink in it, is then on the disk.
    pub(crate) fn sync(&self, path: &Path, new_journal: bool) -> Result<(), PowerOff> {
        let mut state = self.state();
        state.step()?;
        let Some(file) = state.files.get_mut(path) else {
            return Ok(());
        };
        for op in std::mem::take(&mut file.pending) {
            op.apply(&mut file.synced, |_| true);
        }
        let first = !std::mem::replace(&mut file.entry_synced, true);
        if first && new_journal {
            state.sync_directory(path.parent());
        }
        state.ghosts.remove(path);
        Ok(())
    }

    pub(crate) fn delete(
        &self,
        path: &Path,
        directory_synced: bool,
        real: impl FnOnce() -> i32,
    ) -> Result<i32, PowerOff> {
        let mut state = self.state();
        state.step()?;
        let rc = real();
        if rc == 0 {
            if let Some(file) = state.files.remove(path)
                && file.entry_synced
            {
                state.ghosts.insert(path.to_owned(), file.synced);
            }
            if directory_synced {
                state.sync_directory(path.parent());
            }
        }
        Ok(rc)
    }

    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(crate) fn arm(&self, operation: u64, seed: u64) {
        self.state().armed = Some((operation, seed));
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.state().image.is_some()
    }

    pub(crate) fn cut(&self, seed: u64) {
        self.state().cut(seed);
    }

    pub(crate) fn image(&self) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
        self.state().image.clone()
    }

    pub(crate) fn reset(&self) {
        *self.state() = State::default();
    }
}

impl State {
    fn step(&mut self) -> Result<(), PowerOff> {
        if self.image.is_some() {
            return Err(PowerOff);
        }
        if let Some((operation, seed)) = self.armed
            && self.operations >= operation
        {
            self.cut(seed);
            return Err(PowerOff);
        }
        self.operations += 1;
        Ok(())
    }

    fn sync_directory(&mut self, folder: Option<&Path>) {
        self.ghosts.retain(|path, _| path.parent() != folder);
        for (path, file) in &mut self.files {
            file.entry_synced |= path.parent() == folder;
        }
    }

    fn cut(&mut self, seed: u64) {
        if self.image.is_some() {
            return;
        }
        let mut draw = Draw(seed);
        let mut image = BTreeMap::new();
        for (path, bytes) in &self.ghosts {
            if draw.coin() {
                image.insert(path.clone(), bytes.clone());
            }
        }
        for (path, file) in &self.files {
            if !file.entry_synced && draw.coin() {
                continue;
            }
            let mut bytes = file.synced.clone();
            for op in &file.pending {
                match draw.next() % 3 {
                    0 => {}
                    1 => op.apply(&mut bytes, |_| true),
                    _ => op.apply(&mut bytes, |_| draw.coin()),
                }
            }
            image.insert(path.clone(), bytes);
        }
        self.image = Some(image);
    }
}

impl Pending {
    /// Applies the operation, keeping of a write only the sectors that `keep` chooses.
    fn apply(&self, file: &mut Vec<u8>, mut keep: impl FnMut(usize) -> bool) {
        match self {
            Self::Truncate { size } => {
                if keep(0) {
                    file.resize(*size, 0);
                }
            }
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                let mut from = *offset;
                while from < end {
                    let to = end.min((from / SECTOR_BYTES + 1) * SECTOR_BYTES);
                    if keep(from / SECTOR_BYTES) {
                        if file.len() < to {
                            file.resize(to, 0);
                        }
                        file[from..to].copy_from_slice(&bytes[from - offset..to - offset]);
                    }
                    from = to;
                }
            }
        }
    }
}

/// splitmix64: the same seed draws the same cut on every machine.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

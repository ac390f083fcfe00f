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
    broken: Option<Broken>,
    image: Option<BTreeMap<PathBuf, Vec<u8>>>,
}

/// A device that fails from an operation on, until it is mended.
struct Broken {
    operation: u64,
    reads: bool,
}

/// The power is off or the device broken; the operation did not happen.
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

    pub(crate) fn break_at(&self, operation: u64, reads: bool) {
        self.state().broken = Some(Broken { operation, reads });
    }

    pub(crate) fn mend(&self) {
        self.state().broken = None;
    }

    pub(crate) fn read(&self) -> Result<(), PowerOff> {
        let state = self.state();
        match state.is_broken(|broken| broken.reads) {
            true => Err(PowerOff),
            false => Ok(()),
        }
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
        if self.image.is_some() || self.is_broken(|_| true) {
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

    fn is_broken(&self, fails: impl FnOnce(&Broken) -> bool) -> bool {
        self.broken.as_ref().is_some_and(|broken| self.operations >= broken.operation && fails(broken))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

    use super::*;
    use std::collections::BTreeSet;

    const SEEDS: u64 = 64;

    fn path(name: &str) -> PathBuf {
        Path::new("/folder").join(name)
    }

    fn write(disk: &Disk, name: &str, offset: usize, bytes: &[u8]) -> bool {
        disk.write(&path(name), offset, bytes, || 0).is_ok()
    }

    /// What `build` left of `name` after a cut, for many seeds.
    fn outcomes(name: &str, build: impl Fn(&Disk)) -> BTreeSet<Option<Vec<u8>>> {
        let cut = |seed| {
            let disk = Disk::default();
            build(&disk);
            disk.cut(seed);
            disk.image().unwrap().remove(&path(name))
        };
        (0..SEEDS).map(cut).collect()
    }

    #[test]
    fn synced_bytes_stay_and_unsynced_ones_are_lost_kept_or_torn() {
        let old = vec![1; 2 * SECTOR_BYTES];
        let new = vec![2; 2 * SECTOR_BYTES];
        let build = |disk: &Disk| {
            disk.open(&path("a"), || None);
            assert!(write(disk, "a", 0, &old));
            assert!(disk.sync(&path("a"), false).is_ok());
            assert!(write(disk, "a", 0, &new));
        };
        let torn = |first: u8, second: u8| Some([vec![first; SECTOR_BYTES], vec![second; SECTOR_BYTES]].concat());
        let all = BTreeSet::from([torn(1, 1), torn(2, 2), torn(1, 2), torn(2, 1)]);
        assert_eq!(outcomes("a", build), all);
        let synced = |disk: &Disk| {
            build(disk);
            assert!(disk.sync(&path("a"), false).is_ok());
        };
        assert_eq!(outcomes("a", synced), BTreeSet::from([Some(new.clone())]));
    }

    #[test]
    fn a_tear_follows_sectors_of_the_disk_not_of_the_write() {
        let build = |disk: &Disk| {
            disk.open(&path("a"), || Some(vec![1; 2 * SECTOR_BYTES]));
            assert!(write(disk, "a", SECTOR_BYTES - 1, &[2, 2]));
        };
        let pairs: BTreeSet<_> = outcomes("a", build)
            .into_iter()
            .map(|bytes| bytes.map(|b| (b.len(), b[SECTOR_BYTES - 2], b[SECTOR_BYTES - 1], b[SECTOR_BYTES])))
            .collect();
        let two = 2 * SECTOR_BYTES;
        assert_eq!(pairs, BTreeSet::from([(two, 1, 1, 1), (two, 1, 2, 1), (two, 1, 1, 2), (two, 1, 2, 2)].map(Some)));
    }

    #[test]
    fn a_new_file_may_vanish_until_its_entry_is_synced() {
        let build = |disk: &Disk| {
            disk.open(&path("a"), || None);
            disk.open(&path("wal"), || None);
            assert!(write(disk, "a", 0, b"x"));
        };
        assert_eq!(outcomes("a", build), BTreeSet::from([None, Some(vec![]), Some(b"x".to_vec())]));
        let own = |disk: &Disk| {
            build(disk);
            assert!(disk.sync(&path("a"), false).is_ok());
        };
        assert_eq!(outcomes("a", own), BTreeSet::from([Some(b"x".to_vec())]));
        // The first sync of a journal syncs the folder: names are safe, the other file's bytes are not.
        let folder = |disk: &Disk| {
            build(disk);
            assert!(disk.sync(&path("wal"), true).is_ok());
        };
        assert_eq!(outcomes("a", folder), BTreeSet::from([Some(vec![]), Some(b"x".to_vec())]));
    }

    #[test]
    fn a_deleted_file_may_come_back_as_it_was_synced_until_the_folder_is() {
        let build = |disk: &Disk, folder: bool| {
            disk.open(&path("a"), || Some(b"old".to_vec()));
            assert!(write(disk, "a", 0, b"new"));
            assert!(disk.delete(&path("a"), folder, || 0).is_ok());
        };
        assert_eq!(outcomes("a", |d| build(d, false)), BTreeSet::from([None, Some(b"old".to_vec())]));
        assert_eq!(outcomes("a", |d| build(d, true)), BTreeSet::from([None]));
    }

    #[test]
    fn a_truncation_may_be_lost_and_a_failed_call_leaves_no_trace() {
        let build = |disk: &Disk| {
            disk.open(&path("a"), || Some(b"long".to_vec()));
            assert!(disk.truncate(&path("a"), 1, || 0).is_ok());
        };
        assert_eq!(outcomes("a", build), BTreeSet::from([Some(b"long".to_vec()), Some(b"l".to_vec())]));
        let failed = |disk: &Disk| {
            disk.open(&path("a"), || Some(b"long".to_vec()));
            assert!(matches!(disk.truncate(&path("a"), 1, || 10), Ok(10)));
            assert!(matches!(disk.write(&path("a"), 0, b"x", || 10), Ok(10)));
            assert!(matches!(disk.delete(&path("a"), true, || 10), Ok(10)));
        };
        assert_eq!(outcomes("a", failed), BTreeSet::from([Some(b"long".to_vec())]));
    }

    #[test]
    fn a_broken_device_fails_and_loses_nothing_until_it_is_mended() {
        let disk = Disk::default();
        disk.open(&path("a"), || None);
        disk.break_at(1, false);
        assert!(write(&disk, "a", 0, b"1"));
        assert!(!write(&disk, "a", 0, b"2"));
        assert!(disk.sync(&path("a"), false).is_err() && disk.read().is_ok());
        disk.break_at(0, true);
        assert!(disk.read().is_err());
        disk.mend();
        assert!(disk.read().is_ok() && disk.sync(&path("a"), false).is_ok());
        disk.cut(1);
        assert_eq!(disk.image().unwrap()[&path("a")], b"1");
    }

    #[test]
    fn an_armed_cut_comes_before_its_operation_and_nothing_happens_after() {
        let disk = Disk::default();
        disk.open(&path("a"), || None);
        disk.arm(2, 9);
        assert!(write(&disk, "a", 0, b"1"));
        assert!(disk.sync(&path("a"), false).is_ok());
        assert!(!disk.is_cut());
        let real = || panic!("the operation must not reach the file");
        assert!(disk.write(&path("a"), 0, b"2", real).is_err());
        assert!(disk.is_cut());
        assert!(disk.truncate(&path("a"), 0, real).is_err());
        assert!(disk.delete(&path("a"), true, real).is_err());
        assert!(disk.sync(&path("a"), false).is_err());
        // A second cut does not draw again.
        disk.cut(1);
        assert_eq!(disk.image().unwrap()[&path("a")], b"1");
        assert_eq!(disk.operations(), 2);
        disk.reset();
        assert!(!disk.is_cut());
        assert_eq!(disk.operations(), 0);
    }

    /// Whole sectors with the number of their write, so that each tells when it was written.
    fn rush(disk: &Disk, seed: u64) -> BTreeMap<PathBuf, Vec<BTreeSet<u8>>> {
        const SECTORS: usize = 6;
        let mut draw = Draw(seed);
        let mut possible = BTreeMap::new();
        for name in ["a", "b"] {
            disk.open(&path(name), || Some(vec![0; SECTORS * SECTOR_BYTES]));
            possible.insert(path(name), vec![BTreeSet::from([0]); SECTORS]);
        }
        for n in 1..=60_u8 {
            let name = if draw.coin() { "a" } else { "b" };
            let sectors = possible.get_mut(&path(name)).unwrap();
            if draw.next().is_multiple_of(8) {
                assert!(disk.sync(&path(name), false).is_ok());
                for values in sectors {
                    *values = values.last().copied().into_iter().collect();
                }
                continue;
            }
            let from = draw.next() as usize % SECTORS;
            let to = from + 1 + draw.next() as usize % (SECTORS - from);
            assert!(write(disk, name, from * SECTOR_BYTES, &vec![n; (to - from) * SECTOR_BYTES]));
            for values in &mut sectors[from..to] {
                values.insert(n);
            }
        }
        possible
    }

    #[test]
    fn every_sector_is_one_that_was_written_since_its_last_sync() {
        let mut stale = 0;
        for seed in 0..400 {
            let disk = Disk::default();
            let possible = rush(&disk, seed);
            disk.cut(seed);
            let image = disk.image().unwrap();
            for (path, sectors) in &possible {
                let bytes = &image[path];
                assert_eq!(bytes.len(), sectors.len() * SECTOR_BYTES);
                for (sector, values) in bytes.chunks(SECTOR_BYTES).zip(sectors) {
                    assert!(sector.iter().all(|b| *b == sector[0]), "seed {seed}: a sector is torn");
                    assert!(values.contains(&sector[0]), "seed {seed}: {} is not of {values:?}", sector[0]);
                    stale += u32::from(Some(&sector[0]) != values.last());
                }
            }
        }
        assert!(stale > 100, "cuts lost next to nothing: {stale} sectors");
    }

    #[test]
    fn the_same_seed_draws_the_same_image() {
        let image = |work, seed| {
            let disk = Disk::default();
            rush(&disk, work);
            disk.cut(seed);
            disk.image()
        };
        let mut different = BTreeSet::new();
        for (work, seed) in (0..10).flat_map(|work| (0..20).map(move |seed| (work, seed))) {
            let first = image(work, seed);
            assert_eq!(first, image(work, seed), "work {work}, seed {seed}");
            different.insert((work, first));
        }
        assert!(different.len() > 100, "only {} images of 200 cuts", different.len());
    }
}

//! A disk that is soon full: a file system of its own in memory.

use crate::skip::skipped;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is written between looking and making smaller stands in the way of the latter.
const SQUEEZE_TRIES_MAX: usize = 5;

/// The file system; gone when dropped.
pub struct SmallDisk {
    /// Where it is mounted.
    pub at: PathBuf,
    kib: u32,
}

impl SmallDisk {
    /// Mounts one of so many KiB; `None` where that is not allowed, see [`skipped`].
    ///
    /// # Errors
    /// The folder cannot be made, or there is no `mount`.
    pub fn mount(at: &Path, kib: u32) -> std::io::Result<Option<SmallDisk>> {
        std::fs::create_dir_all(at)?;
        let size = format!("size={kib}k,mode=700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output()?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            skipped(&format!("no tmpfs can be mounted ({}); run as root", said.trim()), true);
            return Ok(None);
        }
        Ok(Some(SmallDisk { at: at.to_owned(), kib }))
    }

    /// Takes all room but so many KiB away, without writing anything; [`SmallDisk::relax`] gives it back.
    ///
    /// # Errors
    /// The file system grows faster than it is made smaller, or cannot be asked.
    pub fn squeeze(&self, left_kib: u64) -> std::io::Result<()> {
        let mut failed = Ok(());
        for _ in 0..SQUEEZE_TRIES_MAX {
            let seen = rustix::fs::statvfs(&self.at)?;
            let used_kib = (seen.f_blocks - seen.f_bfree) * seen.f_frsize / 1_024;
            failed = self.resize(used_kib + left_kib);
            if failed.is_ok() {
                break;
            }
        }
        failed
    }

    /// Gives it its whole room back.
    ///
    /// # Errors
    /// As `mount`.
    pub fn relax(&self) -> std::io::Result<()> {
        self.resize(u64::from(self.kib))
    }

    fn resize(&self, kib: u64) -> std::io::Result<()> {
        let size = format!("remount,size={kib}k");
        let done = Command::new("mount").args(["-o", &size]).arg(&self.at).output()?;
        let said = || std::io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned());
        done.status.success().then_some(()).ok_or_else(said)
    }

    /// Writes until nothing fits any more, and gives the file that is to be removed to make room again.
    ///
    /// # Errors
    /// Not even the file can be made.
    pub fn fill(&self) -> std::io::Result<PathBuf> {
        let filler = self.at.join("filler");
        let mut file = std::fs::File::create(&filler)?;
        for size in [1 << 16, 1 << 12] {
            let block = vec![7; size];
            while file.write_all(&block).is_ok() {}
        }
        Ok(filler)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

/// Writes over the beginning of these pages of an SQLite file, counted from 0; returns how many.
///
/// # Errors
/// The file cannot be written, or is none.
pub fn spoil_pages(database: &Path, pages: impl std::ops::RangeBounds<u64>) -> std::io::Result<u64> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(database)?;
    // Its page size stands at offset 16 of an SQLite file.
    let mut size = [0; 2];
    file.read_exact_at(&mut size, 16)?;
    let page_bytes = u64::from(u16::from_be_bytes(size));
    if page_bytes < 512 {
        return Err(std::io::Error::other(format!("{} has pages of {page_bytes} bytes", database.display())));
    }
    let mut spoiled = 0;
    for page in (0..file.metadata()?.len() / page_bytes).filter(|page| pages.contains(page)) {
        file.write_all_at(&[0x5a; 64], page * page_bytes)?;
        spoiled += 1;
    }
    Ok(spoiled)
}

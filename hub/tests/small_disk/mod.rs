//! A disk that is soon full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own in memory; gone when dropped.
pub(crate) struct Tmpfs(PathBuf);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Mounts one; `None` where that is not allowed, which is said.
pub(crate) fn small_disk(at: &Path, kib: u32) -> Option<Tmpfs> {
    std::fs::create_dir_all(at).unwrap();
    let done = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]).arg(at).output();
    let mounted = done.is_ok_and(|done| done.status.success());
    if !mounted {
        eprintln!("SKIPPED: no tmpfs can be mounted; run as root");
    }
    mounted.then(|| Tmpfs(at.to_owned()))
}

//! A disk that is soon full.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
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
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
        let must_run = is_root && std::env::var_os("YIKA_TEST_PEERS").is_some_and(|value| value == "1");
        assert!(!must_run, "YIKA_TEST_PEERS=1, and yet no tmpfs can be mounted");
        // `eprintln!` would be hidden by the test harness, which shows only the output of failed tests.
        let mut console = std::io::stderr();
        writeln!(console, "SKIPPED: no tmpfs can be mounted; run as root").unwrap();
    }
    mounted.then(|| Tmpfs(at.to_owned()))
}

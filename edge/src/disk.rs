//! Room on the file system under the data folder.

use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What is free for this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Space {
    /// Bytes free.
    pub free_bytes: u64,
    /// Bytes of the file system.
    pub total_bytes: u64,
    /// Inodes free; absent where the file system does not count them.
    pub free_inodes: Option<u64>,
}

/// Asks the file system that holds `path`.
///
/// # Errors
/// The system's.
pub fn space(path: &Path) -> std::io::Result<Space> {
    let found = statvfs(path)?;
    Ok(Space {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        free_inodes: (found.f_files > 0).then_some(found.f_favail),
    })
}

/// Length of a file; 0 if it is not there.
pub fn bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

//! One process per data folder: two hubs would write the same feeds.

use crate::desk::DeskError;
use crate::refusal::Refusal;
use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions};
use std::path::Path;

/// Holds the folder until the value is dropped.
///
/// # Errors
/// Another process holds it, or the folder cannot be used.
pub fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("cannot use the data folder: {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => bail!(DeskError::from(Refusal::FolderInUse { folder: dir.display().to_string() })),
    }
}

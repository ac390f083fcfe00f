//! The corpus: a folder a target, in it real values and everything that ever found something.
//!
//! Leaves to others: what the inputs do.

use crate::target::Target;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Most bytes of all inputs together: the corpus is in the repository.
pub const CORPUS_BYTES_MAX: u64 = 1_000_000;

/// Where the corpus of this checkout is.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// An input with its file's name.
pub struct Input {
    /// Of the file.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The inputs of a target, by name.
///
/// # Errors
/// The folder's or a file's.
pub fn of(target: &Target) -> Result<Vec<Input>> {
    let dir = folder().join(target.name);
    let mut inputs = Vec::new();
    let Ok(files) = std::fs::read_dir(&dir) else { return Ok(inputs) };
    for file in files {
        let path = file?.path();
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        inputs.push(Input { name, bytes });
    }
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(inputs)
}

/// Keeps an input under a word and a hash of its bytes; gives its path.
///
/// # Errors
/// The device's.
pub fn keep(target: &str, word: &str, bytes: &[u8]) -> Result<PathBuf> {
    let dir = folder().join(target);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join(format!("{word}-{}", hex::encode(&Sha256::digest(bytes)[..6])));
    std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

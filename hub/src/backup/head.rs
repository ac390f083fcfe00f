//! How files of a hub's safety begin: eight bytes that say what they are and in which version, then an open head.
//!
//! Leaves to others: what a head says (`file`, `log::segment`).

use super::fault::Fault;
use anyhow::{Context, Result, bail};
use std::io::Read;
use std::path::Path;

/// Longest head.
pub(super) const HEAD_BYTES_MAX: usize = 4_096;

/// The first bytes of a file.
///
/// # Errors
/// The head is too long.
pub(super) fn bytes(magic: &[u8; 8], body: &[u8]) -> Result<Vec<u8>> {
    let len = u16::try_from(body.len()).ok().filter(|len| usize::from(*len) <= HEAD_BYTES_MAX);
    let len = len.with_context(|| format!("the name of this hub is too long for a backup: {} bytes", body.len()))?;
    Ok([&magic[..], &len.to_be_bytes(), body].concat())
}

/// Reads the head, and all bytes up to its end.
///
/// # Errors
/// The file is not `what`, was cut off, or is of a newer program.
pub(super) fn read(
    file: &mut impl Read,
    magic: &[u8; 8],
    path: &Path,
    what: &'static str,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let not_one = || Fault::Foreign { what }.of(path);
    let mut start = [0u8; 10];
    file.read_exact(&mut start).with_context(not_one)?;
    let (found, len) = start.split_at(magic.len());
    if found[..magic.len() - 1] != magic[..magic.len() - 1] {
        bail!(not_one());
    }
    if found != magic {
        bail!(Fault::Newer.of(path));
    }
    let len = usize::from(len[0]) << 8 | usize::from(len[1]);
    if len > HEAD_BYTES_MAX {
        bail!(not_one());
    }
    let mut body = vec![0; len];
    file.read_exact(&mut body).with_context(not_one)?;
    let all = [&start[..], &body].concat();
    Ok((body, all))
}

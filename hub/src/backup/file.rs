//! A backup file: an open head that says of which hub and when, then the sealed parts one after the other.
//!
//! The master key is never inside; the key of the file is derived from it, so that restoring needs it. Leaves to others:
//! sealing (`stream`), which parts there are (`backup`).

use super::fault::Fault;
use super::head;
use super::stream::{Opener, Sealer, sealed_bytes};
use crate::vault::{Vault, random};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use yika_crdt::ids::Writer;
use yika_crdt::wire;

/// First bytes of every backup; the last of them is the version.
const MAGIC: &[u8; 8] = b"YIKABAK\x01";
/// Longest name of a part.
const NAME_BYTES_MAX: usize = 64;
/// What such a file is, for whoever took another one.
const WHAT: &str = "a backup of yika-hub";
const PURPOSE: &str = "backup";
const CHECK_PURPOSE: &str = "backup key";

/// What anybody may read of a backup, without its key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The hub's name.
    pub name: String,
    /// The life it was in.
    pub life: Writer,
    /// When, hub time.
    pub created_ms: i64,
    /// Bytes inside, with the parts' names and lengths.
    plain_bytes: u64,
    salt: [u8; 32],
    /// Tells a wrong key from a damaged file.
    key_check: [u8; 16],
}

/// One part, on its way in.
pub struct Part<'p> {
    /// Its name, of a closed list.
    pub name: &'static str,
    /// Its length.
    pub bytes: u64,
    /// Its content.
    pub content: Box<dyn Read + 'p>,
}

/// Writes a backup; `path` must not exist. What was begun is the caller's to remove when this fails.
///
/// # Errors
/// What the device said, or a part that is shorter than announced.
pub fn write(path: &Path, vault: &Vault, name: &str, life: Writer, at_ms: i64, parts: Vec<Part<'_>>) -> Result<()> {
    let mut salt = [0u8; 32];
    random(&mut salt)?;
    let plain_bytes = parts.iter().map(|p| part_head(p.name, p.bytes).len() as u64 + p.bytes).sum();
    let key_check = vault.keyed_hash(CHECK_PURPOSE, &salt);
    let head = Head { name: name.to_owned(), life, created_ms: at_ms, plain_bytes, salt, key_check };
    let head = head::bytes(MAGIC, &wire::encode(&head))?;
    let key = vault.stream_key(PURPOSE, &salt)?;
    let file = File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut out = BufWriter::new(file);
    let doing = || format!("cannot write {}", path.display());
    out.write_all(&head).with_context(doing)?;
    let mut sealer = Sealer::new(out, &key, &head);
    for mut part in parts {
        sealer.write_all(&part_head(part.name, part.bytes)).with_context(doing)?;
        let copied = io::copy(&mut part.content.by_ref().take(part.bytes), &mut sealer).with_context(doing)?;
        if copied != part.bytes {
            bail!("{} is {copied} bytes long and not {}", part.name, part.bytes);
        }
    }
    let file = sealer.finish().and_then(|out| out.into_inner().map_err(io::IntoInnerError::into_error));
    file.and_then(|file| file.sync_all()).with_context(doing)
}

/// Bytes that a backup with these parts takes.
pub fn size_of(parts: &[(&str, u64)]) -> u64 {
    let plain = parts.iter().map(|(name, bytes)| part_head(name, *bytes).len() as u64 + bytes).sum();
    sealed_bytes(plain) + head::HEAD_BYTES_MAX as u64
}

/// Reads the head of a backup.
///
/// # Errors
/// The file cannot be read, is no backup, or is shorter or longer than its head says.
pub fn head(path: &Path) -> Result<Head> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    read_head(&mut file, path).map(|(head, _)| head)
}

fn read_head(file: &mut File, path: &Path) -> Result<(Head, Vec<u8>)> {
    let (body, all) = head::read(file, MAGIC, path, WHAT)?;
    let not_one = || Fault::Foreign { what: WHAT }.of(path);
    let head: Head = wire::decode(&body, head::HEAD_BYTES_MAX).with_context(not_one)?;
    let wanted = (all.len() as u64).saturating_add(sealed_bytes(head.plain_bytes));
    let found = file.metadata().with_context(not_one)?.len();
    if found != wanted {
        bail!(Fault::Length { found, wanted }.of(path));
    }
    Ok((head, all))
}

fn part_head(name: &str, bytes: u64) -> Vec<u8> {
    let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [&[len], &name.as_bytes()[..usize::from(len)], &bytes.to_be_bytes()].concat()
}

/// Opens a backup and writes its parts as files of `dir`; only names of `allowed` are taken.
///
/// # Errors
/// Wrong key, damaged or cut-off file, no space: what and how to mend it. What was begun is the caller's to remove.
pub fn unpack(path: &Path, vault: &Vault, allowed: &[&str], dir: &Path) -> Result<Head> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let (head, about) = read_head(&mut file, path)?;
    if vault.keyed_hash(CHECK_PURPOSE, &head.salt) != head.key_check {
        bail!(Fault::OtherKey { hub: head.name }.of(path));
    }
    let key = vault.stream_key(PURPOSE, &head.salt)?;
    let mut opener = Opener::new(BufReader::new(file), &key, &about);
    let mut left = head.plain_bytes;
    while left > 0 {
        let read = unpack_one(&mut opener, allowed, dir).map_err(|error| in_file(error, path))?;
        left = left.checked_sub(read).with_context(|| format!("{} contradicts its head", path.display()))?;
    }
    opener.finish().map_err(|error| in_file(error, path))?;
    Ok(head)
}

/// An error in the middle of a file: what does not open is not what was written; the rest is the device's.
fn in_file(error: anyhow::Error, path: &Path) -> anyhow::Error {
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::InvalidData) => error.context(Fault::Altered.of(path)),
        _ => error.context(path.display().to_string()),
    }
}

/// One part; gives how many bytes of the stream it took.
fn unpack_one(opener: &mut impl Read, allowed: &[&str], dir: &Path) -> Result<u64> {
    let mut len = [0u8; 1];
    opener.read_exact(&mut len)?;
    let len = usize::from(len[0]);
    if len > NAME_BYTES_MAX {
        bail!("a part's name is too long");
    }
    let mut name = vec![0u8; len];
    opener.read_exact(&mut name)?;
    let name = String::from_utf8(name).context("a part's name is not text")?;
    let mut bytes = [0u8; 8];
    opener.read_exact(&mut bytes)?;
    let bytes = u64::from_be_bytes(bytes);
    if !allowed.contains(&name.as_str()) {
        bail!("this program does not know the part {name:?}; restore with the program that wrote it");
    }
    let path = dir.join(&name);
    let doing = || format!("cannot write {}", path.display());
    let file = private_file(&path).with_context(doing)?;
    let mut out = BufWriter::new(file);
    let copied = io::copy(&mut opener.by_ref().take(bytes), &mut out).with_context(doing)?;
    if copied != bytes {
        bail!("the part {name} was cut off");
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error).with_context(doing)?;
    file.sync_all().with_context(doing)?;
    Ok(part_head(&name, 0).len() as u64 + bytes)
}

fn private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use yika_crdt::ids::{Incarnation, NodeId};

    const LIFE: Writer = Writer { node: NodeId(0), incarnation: Incarnation { generation: 1, counter: 1 } };

    fn vault() -> Vault {
        Vault::create(tempfile::tempdir().unwrap().path()).unwrap()
    }

    fn backup(dir: &Path, vault: &Vault) -> std::path::PathBuf {
        let path = dir.join("x.backup");
        let big = vec![5u8; 700_000];
        let parts = vec![
            Part { name: "one", bytes: 3, content: Box::new(&b"abc"[..]) },
            Part { name: "two", bytes: big.len() as u64, content: Box::new(&big[..]) },
        ];
        write(&path, vault, "总部", LIFE, 42, parts).unwrap();
        path
    }

    #[test]
    fn parts_come_back_and_each_way_of_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault();
        let path = backup(dir.path(), &vault);
        assert_eq!(head(&path).unwrap().created_ms, 42);
        let into = |name: &str| {
            let to = dir.path().join(name);
            std::fs::create_dir(&to).unwrap();
            to
        };
        let to = into("good");
        assert_eq!(unpack(&path, &vault, &["one", "two"], &to).unwrap().life, LIFE);
        assert_eq!(std::fs::read(to.join("one")).unwrap(), b"abc");
        assert_eq!(std::fs::read(to.join("two")).unwrap().len(), 700_000);
        let words = |path: &Path, vault: &Vault, name: &str| {
            format!("{:#}", unpack(path, vault, &["one", "two"], &into(name)).unwrap_err())
        };
        assert!(words(&path, &self::vault(), "key").contains("master key"));
        assert!(format!("{:#}", unpack(&path, &vault, &["one"], &into("names")).unwrap_err()).contains("two"));
        let whole = std::fs::read(&path).unwrap();
        let other = dir.path().join("y.backup");
        std::fs::write(&other, &whole[..whole.len() - 7]).unwrap();
        assert!(words(&other, &vault, "short").contains("cut off"));
        let mut altered = whole.clone();
        altered[400_000] ^= 1;
        std::fs::write(&other, &altered).unwrap();
        assert!(words(&other, &vault, "altered").contains("altered"));
        std::fs::write(&other, b"something else entirely").unwrap();
        assert!(words(&other, &vault, "other").contains("not a backup"));
        let mut newer = whole.clone();
        newer[7] = 9;
        std::fs::write(&other, &newer).unwrap();
        assert!(words(&other, &vault, "newer").contains("newer program"));
    }

    #[test]
    fn no_bytes_whatever_make_the_reader_panic() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault();
        let path = backup(dir.path(), &vault);
        let whole = std::fs::read(&path).unwrap();
        let other = dir.path().join("z.backup");
        for cut in (0..200).chain([whole.len() - 1]) {
            std::fs::write(&other, &whole[..cut]).unwrap();
            assert!(unpack(&other, &vault, &["one", "two"], dir.path()).is_err(), "{cut}");
        }
    }
}

//! A file of the log: an open head that says of which hub and from which turn on, then sealed records, one after the
//! other, appended and synced.
//!
//! A record's length is sealed by itself, so that an end that was torn off while it was being written can be told from
//! damage. Leaves to others: which records (`ship`), what they must follow on (`replay`).

use crate::backup::head;
use crate::backup::log::record::RECORD_BYTES_MAX;
use crate::vault::{Vault, random};
use anyhow::{Context, Result, bail};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use yika_crdt::feed::Hash;
use yika_crdt::ids::Writer;
use yika_crdt::wire;

/// First bytes of every file; the last of them is the version of the records.
const MAGIC: &[u8; 8] = b"YIKALOG\x01";
const PURPOSE: &str = "log";
const CHECK_PURPOSE: &str = "log key";
/// How the files end.
pub const ENDING: &str = "log";
const TAG_BYTES: usize = 16;
const LENGTH_BYTES: usize = 4 + TAG_BYTES;
const NONCE_BYTES: usize = 24;

/// What anybody may read of a file, without its key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The hub's name.
    pub name: String,
    /// The life it was in.
    pub life: Writer,
    /// Which file of this life.
    pub number: u32,
    /// Its first turn.
    pub first: u64,
    /// Hash of the record before that.
    pub previous: Hash,
    /// When it was begun, Unix milliseconds.
    pub created_ms: i64,
    salt: [u8; 32],
    /// Tells a wrong key from a damaged file.
    key_check: [u8; 16],
}

/// What a file begins with, as far as its writer decides.
pub struct Begun<'b> {
    /// The hub's name.
    pub name: &'b str,
    /// The life it is in.
    pub life: Writer,
    /// Which file of this life.
    pub number: u32,
    /// Its first turn.
    pub first: u64,
    /// Hash of the record before that.
    pub previous: Hash,
    /// When, Unix milliseconds.
    pub created_ms: i64,
}

/// Seals and opens the parts of one file.
struct Seal {
    cipher: XChaCha20Poly1305,
    about: Vec<u8>,
    number: u64,
}

impl Seal {
    fn new(vault: &Vault, salt: &[u8; 32], about: Vec<u8>) -> Result<Seal> {
        let key = vault.stream_key(PURPOSE, salt)?;
        Ok(Seal { cipher: XChaCha20Poly1305::new(&(*key).into()), about, number: 0 })
    }

    /// Each part has a number, and each number is used once: the key is of this file alone.
    fn nonce(&mut self) -> XNonce {
        let mut nonce = [0u8; NONCE_BYTES];
        nonce[..8].copy_from_slice(&self.number.to_be_bytes());
        self.number += 1;
        XNonce::from(nonce)
    }

    fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>> {
        let nonce = self.nonce();
        let payload = Payload { msg: plain, aad: &self.about };
        self.cipher.encrypt(&nonce, payload).map_err(|_| anyhow::anyhow!("a record cannot be sealed"))
    }

    fn open(&mut self, sealed: &[u8]) -> Option<Vec<u8>> {
        let nonce = self.nonce();
        self.cipher.decrypt(&nonce, Payload { msg: sealed, aad: &self.about }).ok()
    }
}

/// A file that is being written.
pub struct SegmentWriter {
    file: File,
    path: PathBuf,
    seal: Seal,
}

impl SegmentWriter {
    /// Begins a file; it is there, durably, when this returns.
    ///
    /// # Errors
    /// What the device said; then no file is left.
    pub fn create(path: PathBuf, vault: &Vault, begun: &Begun<'_>) -> Result<SegmentWriter> {
        let mut salt = [0u8; 32];
        random(&mut salt)?;
        let head = Head {
            name: begun.name.to_owned(),
            life: begun.life,
            number: begun.number,
            first: begun.first,
            previous: begun.previous,
            created_ms: begun.created_ms,
            salt,
            key_check: vault.keyed_hash(CHECK_PURPOSE, &salt),
        };
        let about = head::bytes(MAGIC, &wire::encode(&head))?;
        let seal = Seal::new(vault, &salt, about.clone())?;
        let doing = || format!("cannot make {}", path.display());
        let mut file = File::create_new(&path).with_context(doing)?;
        let written = file.write_all(&about).and_then(|()| file.sync_all());
        let folder = path.parent().unwrap_or(Path::new("."));
        if let Err(error) = written.and_then(|()| File::open(folder)?.sync_all()) {
            let _ = std::fs::remove_file(&path);
            return Err(error).with_context(doing);
        }
        Ok(SegmentWriter { file, path, seal })
    }

    /// Adds records, durably. After an error the file is not to be written to any more.
    ///
    /// # Errors
    /// What the device said.
    pub fn append<'r>(&mut self, records: impl Iterator<Item = &'r [u8]>) -> Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            let len = u32::try_from(record.len()).ok().filter(|_| record.len() <= RECORD_BYTES_MAX);
            let len = len.with_context(|| format!("a turn's record has {} bytes", record.len()))?;
            bytes.extend(self.seal.seal(&len.to_be_bytes())?);
            bytes.extend(self.seal.seal(record)?);
        }
        let doing = || format!("cannot write {}", self.path.display());
        self.file.write_all(&bytes).and_then(|()| self.file.sync_data()).with_context(doing)
    }

    /// Whether the file still stands under its name: a folder may have been unmounted or emptied.
    pub fn is_there(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let here = self.file.metadata().map(|m| (m.dev(), m.ino())).ok();
        here.is_some() && here == std::fs::metadata(&self.path).map(|m| (m.dev(), m.ino())).ok()
    }
}

/// What comes next in a file.
#[derive(Debug)]
pub enum Next {
    /// A record.
    Record(Vec<u8>),
    /// Nothing: the file ends here.
    End,
    /// Nothing whole: so many bytes of a record that was being written when the machine stopped.
    Torn(u64),
}

/// A file that is read from its beginning.
pub struct SegmentReader {
    from: BufReader<File>,
    path: PathBuf,
    seal: Seal,
    left: u64,
}

impl SegmentReader {
    /// Opens a file with the key it was written under.
    ///
    /// # Errors
    /// It cannot be read, is no file of a log, or is of another key; in words.
    pub fn open(path: &Path, vault: &Vault) -> Result<(Head, SegmentReader)> {
        let (head, about, file) = read_head(path)?;
        if !is_of(&head, vault) {
            bail!("{} does not open with this master key", path.display());
        }
        let left = file.metadata()?.len().saturating_sub(about.len() as u64);
        let seal = Seal::new(vault, &head.salt, about)?;
        Ok((head, SegmentReader { from: BufReader::new(file), path: path.to_owned(), seal, left }))
    }

    /// The next record.
    ///
    /// # Errors
    /// The file is damaged here and goes on after it.
    pub fn read(&mut self) -> Result<Next> {
        if self.left == 0 {
            return Ok(Next::End);
        }
        if self.left < LENGTH_BYTES as u64 {
            return Ok(Next::Torn(self.left));
        }
        let at = self.at()?;
        let sealed = self.take(LENGTH_BYTES)?;
        let Some(len) = self.seal.open(&sealed).and_then(|len| <[u8; 4]>::try_from(len).ok()) else {
            let left = self.left + LENGTH_BYTES as u64;
            return if self.rest_is_zero()? { Ok(Next::Torn(left)) } else { self.damaged(at, left) };
        };
        let len = u32::from_be_bytes(len) as usize;
        let wanted = (len + TAG_BYTES) as u64;
        if self.left < wanted || len > RECORD_BYTES_MAX {
            return Ok(Next::Torn(self.left + LENGTH_BYTES as u64));
        }
        let sealed = self.take(len + TAG_BYTES)?;
        match self.seal.open(&sealed) {
            Some(record) => Ok(Next::Record(record)),
            None if self.left == 0 || self.rest_is_zero()? => Ok(Next::Torn(wanted + LENGTH_BYTES as u64)),
            None => self.damaged(at, self.left),
        }
    }

    fn at(&self) -> Result<u64> {
        Ok(self.from.get_ref().metadata()?.len().saturating_sub(self.left))
    }

    fn damaged<T>(&self, at: u64, left: u64) -> Result<T> {
        bail!("{} is damaged at byte {at}; {left} bytes follow", self.path.display())
    }

    fn take(&mut self, bytes: usize) -> Result<Vec<u8>> {
        let mut taken = vec![0; bytes];
        let doing = || format!("cannot read {}", self.path.display());
        self.from.read_exact(&mut taken).with_context(doing)?;
        self.left = self.left.saturating_sub(bytes as u64);
        Ok(taken)
    }

    /// A file system may have lengthened the file before it wrote what belongs there.
    fn rest_is_zero(&mut self) -> Result<bool> {
        let mut rest = Vec::new();
        self.from.read_to_end(&mut rest).with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(rest.iter().all(|byte| *byte == 0))
    }
}

/// Reads the open part of a file.
///
/// # Errors
/// It cannot be read or is no file of a log.
pub fn head(path: &Path) -> Result<Head> {
    read_head(path).map(|(head, ..)| head)
}

/// Whether a file was written by a hub with this master key.
pub fn is_of(head: &Head, vault: &Vault) -> bool {
    vault.keyed_hash(CHECK_PURPOSE, &head.salt) == head.key_check
}

fn read_head(path: &Path) -> Result<(Head, Vec<u8>, File)> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let (body, about) = head::read(&mut file, MAGIC, path, "a log of yika-hub")?;
    let head = wire::decode(&body, head::HEAD_BYTES_MAX);
    let head = head.with_context(|| format!("{} is not a log of yika-hub", path.display()))?;
    Ok((head, about, file))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use yika_crdt::ids::{Incarnation, NodeId};

    const LIFE: Writer = Writer { node: NodeId(0), incarnation: Incarnation { generation: 1, counter: 1 } };

    fn written(dir: &Path, vault: &Vault, records: &[&[u8]]) -> PathBuf {
        let path = dir.join("x.log");
        let _ = std::fs::remove_file(&path);
        let begun = Begun { name: "总部", life: LIFE, number: 1, first: 7, previous: Hash([3; 32]), created_ms: 42 };
        let mut writer = SegmentWriter::create(path.clone(), vault, &begun).unwrap();
        for record in records {
            writer.append(std::iter::once(*record)).unwrap();
        }
        assert!(writer.is_there());
        path
    }

    /// All records, and how the file ends.
    fn read(path: &Path, vault: &Vault) -> Result<(Vec<Vec<u8>>, u64)> {
        let (head, mut reader) = SegmentReader::open(path, vault)?;
        assert_eq!((head.first, head.name.as_str()), (7, "总部"));
        let mut records = Vec::new();
        loop {
            match reader.read()? {
                Next::Record(record) => records.push(record),
                Next::End => return Ok((records, 0)),
                Next::Torn(bytes) => return Ok((records, bytes)),
            }
        }
    }

    #[test]
    fn wherever_the_last_record_was_torn_off_all_before_it_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::create(dir.path()).unwrap();
        let (one, two) = (vec![1u8; 100], vec![2u8; 50_000]);
        let path = written(dir.path(), &vault, &[&one, &two]);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(read(&path, &vault).unwrap(), (vec![one.clone(), two.clone()], 0));
        let first_ends = whole.len() - two.len() - LENGTH_BYTES - TAG_BYTES;
        for cut in (first_ends..first_ends + 40).chain([whole.len() - 1]) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let torn = (cut - first_ends) as u64;
            assert_eq!(read(&path, &vault).unwrap(), (vec![one.clone()], torn), "{cut}");
            // The same with the file already as long as it was going to be.
            let mut lengthened = whole[..cut].to_vec();
            lengthened.resize(whole.len() + 100, 0);
            std::fs::write(&path, &lengthened).unwrap();
            let (records, torn) = read(&path, &vault).unwrap();
            assert!(records == [one.clone()] && torn > 0, "{cut}");
        }
    }

    #[test]
    fn damage_before_the_end_is_refused_and_so_is_another_key() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::create(dir.path()).unwrap();
        let path = written(dir.path(), &vault, &[&[1u8; 100], &[2u8; 100], &[3u8; 100]]);
        let whole = std::fs::read(&path).unwrap();
        let records = whole.len() - 3 * (100 + LENGTH_BYTES + TAG_BYTES);
        for at in [records, records + 5, records + LENGTH_BYTES, records + 200] {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            std::fs::write(&path, &altered).unwrap();
            let words = read(&path, &vault).unwrap_err().to_string();
            assert!(words.contains("damaged at byte"), "{at}: {words}");
        }
        std::fs::write(&path, &whole).unwrap();
        let other = tempfile::tempdir().unwrap();
        let other = Vault::create(other.path()).unwrap();
        assert!(read(&path, &other).unwrap_err().to_string().contains("master key"));
        for cut in 0..records {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(read(&path, &vault).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_folder_that_went_away_under_the_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::create(dir.path()).unwrap();
        let path = written(dir.path(), &vault, &[]);
        let begun = Begun { name: "x", life: LIFE, number: 2, first: 1, previous: Hash::default(), created_ms: 1 };
        assert!(SegmentWriter::create(path.clone(), &vault, &begun).is_err(), "a file is never written over");
        let writer = SegmentWriter::create(dir.path().join("y.log"), &vault, &begun).unwrap();
        std::fs::remove_file(dir.path().join("y.log")).unwrap();
        assert!(!writer.is_there());
    }
}

//! Snapshots as files: at headquarters, half fetched at a box, and several in one file on a stick.
//!
//! A part is `mark | manifest length u32 BE | signed manifest | chunks`; a file is one or more parts. Bounds are checked
//! before anything is read into memory. Leaves to others: whether a manifest is to be believed (`yika_crdt::snapshot`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use yika_crdt::snapshot::{CHUNK_BYTES, MANIFEST_BYTES_MAX, SignedManifest, SnapshotRefused, chunk_hash};

/// What every part begins with.
const MARK: &[u8; 16] = b"yika snapshot 1\n";
/// Most parts in one file: everyone's, and one campus'.
pub const PARTS_MAX: usize = 2;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// The device.
    #[error("{path}: {error}")]
    Device {
        /// Which file.
        path: String,
        /// Its words.
        error: io::Error,
    },
    /// What is in it.
    #[error("{path}: {refused}")]
    Refused {
        /// Which file.
        path: String,
        /// Why.
        refused: SnapshotRefused,
    },
}

/// One part of a file.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    file: File,
    data_at: u64,
    signed: SignedManifest,
}

fn device(path: &Path) -> impl Fn(io::Error) -> PartsError + '_ {
    move |error| PartsError::Device { path: path.display().to_string(), error }
}

fn refused(path: &Path) -> impl Fn(SnapshotRefused) -> PartsError + '_ {
    move |refused| PartsError::Refused { path: path.display().to_string(), refused }
}

impl Part {
    /// Opens every part of a file; their chunks are not looked at.
    ///
    /// # Errors
    /// It cannot be read, or is no such file.
    pub fn open_all(path: &Path) -> Result<Vec<Part>, PartsError> {
        let length = path.metadata().map_err(device(path))?.len();
        let mut parts: Vec<Part> = Vec::new();
        let mut at = 0;
        while at < length {
            if parts.len() == PARTS_MAX {
                return Err(refused(path)(SnapshotRefused::Damaged("more follows its parts".into())));
            }
            let part = Part::open_at(path, at)?;
            at = part.data_at + part.signed.manifest.bytes;
            if at > length {
                return Err(refused(path)(SnapshotRefused::Damaged("the file ends too early".into())));
            }
            parts.push(part);
        }
        match parts.is_empty() {
            true => Err(refused(path)(SnapshotRefused::Damaged("the file is empty".into()))),
            false => Ok(parts),
        }
    }

    /// Opens the part that begins at an offset; it may lack chunks.
    ///
    /// # Errors
    /// It cannot be read, or there is none.
    pub fn open_at(path: &Path, at: u64) -> Result<Part, PartsError> {
        let mut file = File::open(path).map_err(device(path))?;
        file.seek(SeekFrom::Start(at)).map_err(device(path))?;
        let no_part = || refused(path)(SnapshotRefused::Damaged("this is not a snapshot file".into()));
        let mut head = [0; MARK.len() + 4];
        file.read_exact(&mut head).map_err(|_| no_part())?;
        let (mark, length) = head.split_at(MARK.len());
        let length = <[u8; 4]>::try_from(length).map(u32::from_be_bytes).map_err(|_| no_part())? as usize;
        if mark != MARK || length > MANIFEST_BYTES_MAX {
            return Err(no_part());
        }
        let mut bytes = Vec::new();
        Read::take(&mut file, length as u64).read_to_end(&mut bytes).map_err(device(path))?;
        let signed = SignedManifest::decode(&bytes).map_err(refused(path))?;
        let data_at = at + (MARK.len() + 4 + length) as u64;
        Ok(Part { path: path.to_path_buf(), file, data_at, signed })
    }

    /// Writes the beginning of a part, chunks to follow, as a new file.
    ///
    /// # Errors
    /// The device's.
    pub fn begin(path: &Path, signed: SignedManifest) -> Result<Part, PartsError> {
        let mut file = create(path)?;
        let head = head(&signed);
        file.write_all(&head).map_err(device(path))?;
        Ok(Part { path: path.to_path_buf(), file, data_at: head.len() as u64, signed })
    }

    /// What it is, as its manifest says.
    pub fn signed(&self) -> &SignedManifest {
        &self.signed
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A chunk as the file has it.
    ///
    /// # Errors
    /// The device's; a chunk that is not there.
    pub fn chunk(&self, chunk: u32) -> Result<Vec<u8>, PartsError> {
        let mut bytes = vec![0; self.signed.manifest.chunk_bytes(chunk)];
        self.file.read_exact_at(&mut bytes, self.offset(chunk)).map_err(device(&self.path))?;
        Ok(bytes)
    }

    /// Each chunk in order.
    pub fn chunks(&self) -> impl Iterator<Item = Result<Vec<u8>, PartsError>> + '_ {
        (0..self.signed.manifest.chunks.len() as u32).map(|chunk| self.chunk(chunk))
    }

    /// Keeps a chunk that was fetched.
    ///
    /// # Errors
    /// The device's.
    pub fn keep(&self, chunk: u32, bytes: &[u8]) -> Result<(), PartsError> {
        self.file.write_all_at(bytes, self.offset(chunk)).map_err(device(&self.path))
    }

    /// How many chunks from the first on are kept and sound.
    pub fn kept(&self) -> u32 {
        let sound = |(chunk, expected)| self.chunk(chunk).is_ok_and(|bytes| chunk_hash(&bytes) == expected);
        (0u32..).zip(self.signed.manifest.chunks.iter().copied()).take_while(|pair| sound(*pair)).count() as u32
    }

    /// Opens a half fetched part to go on with it.
    ///
    /// # Errors
    /// As [`Part::open_at`].
    pub fn resume(path: &Path) -> Result<Part, PartsError> {
        let part = Part::open_at(path, 0)?;
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(device(path))?;
        Ok(Part { file, ..part })
    }

    /// What was written survives a power cut.
    ///
    /// # Errors
    /// The device's.
    pub fn sync(&self) -> Result<(), PartsError> {
        self.file.sync_all().map_err(device(&self.path))
    }

    fn offset(&self, chunk: u32) -> u64 {
        self.data_at + u64::from(chunk) * CHUNK_BYTES as u64
    }
}

fn create(path: &Path) -> Result<File, PartsError> {
    let mut options = OpenOptions::new();
    // Names and card numbers are in it.
    options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path).map_err(device(path))
}

fn head(signed: &SignedManifest) -> Vec<u8> {
    let manifest = signed.encode();
    [&MARK[..], &(manifest.len() as u32).to_be_bytes(), &manifest].concat()
}

/// Writes parts whose chunks `data` gives, one after the other, into a file that has its name only when it is whole.
///
/// # Errors
/// The device's; then there is no such file, or the one that was there before.
pub fn write(path: &Path, parts: Vec<(SignedManifest, Box<dyn Read + '_>)>) -> Result<(), PartsError> {
    let beside = path.with_extension("part");
    let written = write_beside(&beside, parts).and_then(|()| std::fs::rename(&beside, path).map_err(device(path)));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
        return written;
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(device(dir))
}

fn write_beside(path: &Path, parts: Vec<(SignedManifest, Box<dyn Read + '_>)>) -> Result<(), PartsError> {
    let mut file = create(path)?;
    for (signed, mut data) in parts {
        file.write_all(&head(&signed)).map_err(device(path))?;
        let copied = io::copy(&mut data, &mut file).map_err(device(path))?;
        if copied != signed.manifest.bytes {
            return Err(refused(path)(SnapshotRefused::Damaged("the chunks are not its bytes".into())));
        }
    }
    file.sync_all().map_err(device(path))
}

/// The chunks of a part as one stream, for [`write()`].
///
/// # Errors
/// The device's.
pub fn data(part: &Part) -> Result<Box<dyn Read>, PartsError> {
    let mut file = File::open(&part.path).map_err(device(&part.path))?;
    file.seek(SeekFrom::Start(part.data_at)).map_err(device(&part.path))?;
    Ok(Box::new(file.take(part.signed.manifest.bytes)))
}

//! The journal's end, kept beside the key and outside the database, so that a database put back from a copy is noticed.
//!
//! One file with two places, written in turn and in place: a torn write spoils one of them, the other still speaks. It
//! is written after each commit and before its answers leave, and synced at a start only: a process that dies loses nothing
//! of it, and a power cut leaves it behind the database by what the system had not yet written (about half a minute),
//! which only makes it more lenient. It can never be ahead of an honest database. Leaves to others: what follows from a
//! database behind it (`yika_crdt::gate`).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::feed::End;
use yika_crdt::gate::{self, OwnEnds, Shut};
use yika_crdt::ids::Writer;
use yika_crdt::store::{Read, StoreError};
use yika_crdt::wire;

/// Name of the file in the data folder.
pub const FILE: &str = "journal.end";
/// Distance of the two places: a disk block each.
const PLACE_BYTES: u64 = 4_096;
/// Longest record.
const RECORD_BYTES_MAX: usize = 256;
/// Digest in front of a record.
const DIGEST_BYTES: usize = 8;

/// What one place holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Whose feeds.
    pub writer: Writer,
    /// Where they end.
    pub ends: OwnEnds,
}

/// What the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// There is no file.
    Nothing,
    /// There is one that cannot be read.
    Damaged,
    /// The last end written.
    Kept(Kept),
}

/// Reads the file.
///
/// # Errors
/// The system's, but absence.
pub fn read(dir: &Path) -> io::Result<Said> {
    let Some(bytes) = yika_store::files::read_if_there(&dir.join(FILE))? else { return Ok(Said::Nothing) };
    let places = [0, PLACE_BYTES as usize].map(|at| bytes.get(at..).and_then(parse));
    let newest = places.into_iter().flatten().max_by_key(|kept| (kept.writer.incarnation, kept.ends.entries));
    Ok(newest.map_or(Said::Damaged, Said::Kept))
}

fn parse(place: &[u8]) -> Option<Kept> {
    let (digest, rest) = place.split_at_checked(DIGEST_BYTES)?;
    let (len, rest) = rest.split_first()?;
    let record = rest.get(..usize::from(*len))?;
    (digest_of(record) == digest).then(|| wire::decode(record, RECORD_BYTES_MAX).ok()).flatten()
}

fn digest_of(record: &[u8]) -> [u8; DIGEST_BYTES] {
    let hash = Sha256::digest(record);
    std::array::from_fn(|i| hash[i])
}

/// Where this node's own feeds end in a store.
///
/// # Errors
/// Of storage.
pub fn ends_of<R: Read + ?Sized>(store: &R, me: Writer) -> Result<OwnEnds, StoreError> {
    let own = store.feeds()?.into_iter().filter(|(feed, _)| feed.writer == me);
    Ok(OwnEnds::of(own.map(|(feed, state)| (feed.channel, state.end))))
}

/// Compares the file with the store at a start: why the box must not write yet, if so.
///
/// # Errors
/// Of storage.
pub fn judge<R: Read + ?Sized>(said: Said, me: Writer, store: &R) -> Result<Option<Shut>, StoreError> {
    let (held, is_new) = (ends_of(store, me)?, gate::is_new(store, me)?);
    Ok(compare(said, me, &held, is_new))
}

fn compare(said: Said, me: Writer, held: &OwnEnds, is_new: bool) -> Option<Shut> {
    match said {
        // A new life begins with empty feeds; what the file says of an older one is history.
        Said::Kept(kept) if kept.writer == me => held.is_behind(&kept.ends).then_some(Shut::Behind(kept.ends)),
        _ if is_new => None,
        Said::Kept(_) | Said::Nothing | Said::Damaged => Some(Shut::Unsure),
    }
}

/// The file, open for writing.
pub struct Mirror {
    path: PathBuf,
    file: File,
    writer: Writer,
    ends: BTreeMap<Channel, End>,
    second: bool,
    failing: bool,
}

impl Mirror {
    /// Opens it; what it said before must have been judged.
    ///
    /// # Errors
    /// The system's.
    pub fn open<R: Read + ?Sized>(dir: &Path, me: Writer, store: &R) -> anyhow::Result<Mirror> {
        let path = dir.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        // Room is taken at once, so that a full disk does not stop it later.
        let room = vec![0u8; RECORD_BYTES_MAX];
        for place in [0, PLACE_BYTES] {
            if file.metadata()?.len() < place + RECORD_BYTES_MAX as u64 {
                file.write_all_at(&room, place)?;
            }
        }
        let own = store.feeds()?.into_iter().filter(|(feed, _)| feed.writer == me);
        let ends = own.map(|(feed, state)| (feed.channel, state.end)).collect();
        Ok(Mirror { path, file, writer: me, ends, second: false, failing: false })
    }

    /// Writes where own feeds end at the start of a life that may append, and syncs it once: from here on a file that says
    /// nothing is one that was lost.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(&mut self) -> io::Result<()> {
        self.write();
        self.file.sync_data()
    }

    /// An own feed ends there; told for every feed of a turn before [`Mirror::write`].
    pub fn grown(&mut self, feed: FeedId, end: End) {
        if feed.writer == self.writer {
            self.ends.insert(feed.channel, end);
        }
    }

    /// Writes both places' next one. A file that does not take it is told once; the journal itself is safe.
    pub fn write(&mut self) {
        let ends = OwnEnds::of(self.ends.iter().map(|(channel, end)| (*channel, *end)));
        let record = wire::encode(&Kept { writer: self.writer, ends });
        let mut bytes = digest_of(&record).to_vec();
        bytes.push(u8::try_from(record.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(&record);
        let place = if self.second { PLACE_BYTES } else { 0 };
        self.second = !self.second;
        match self.file.write_all_at(&bytes, place) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(%error, path = %self.path.display(), "the journal's end cannot be mirrored");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use yika_crdt::feed::Hash;
    use yika_crdt::ids::{Incarnation, NodeId, Seq};
    use yika_crdt::store::{MemoryStore, Store, Tx};

    fn me() -> Writer {
        Writer { node: NodeId(7), incarnation: Incarnation { generation: 1, counter: 1 } }
    }

    fn end(seq: u64) -> End {
        End { seq: Seq(seq), hash: Hash([u8::try_from(seq).unwrap(); 32]) }
    }

    fn journal() -> FeedId {
        FeedId { writer: me(), channel: Channel::Journal }
    }

    fn mirror_at(dir: &Path, seqs: &[u64]) {
        let mut mirror = Mirror::open(dir, me(), &MemoryStore::default()).unwrap();
        for seq in seqs {
            mirror.grown(journal(), end(*seq));
            mirror.write();
        }
    }

    #[test]
    fn the_newest_end_is_read_back_also_when_one_place_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), Said::Nothing);
        mirror_at(dir.path(), &[1, 2, 3]);
        let Said::Kept(kept) = read(dir.path()).unwrap() else { panic!("nothing kept") };
        assert_eq!(kept.ends.journal, end(3));
        // The third write went to the first place.
        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let Said::Kept(kept) = read(dir.path()).unwrap() else { panic!("nothing kept") };
        assert_eq!(kept.ends.journal, end(2));
        std::fs::write(&path, [7; 9000]).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Said::Damaged);
    }

    /// A new box is granted money, and ends before it has written anything: it begins again, also without headquarters.
    #[test]
    fn a_box_that_has_begun_is_known_by_its_file_before_it_writes_anything() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = MemoryStore::default();
        assert_eq!(judge(read(dir.path()).unwrap(), me(), &store), Ok(None));
        Mirror::open(dir.path(), me(), &store).unwrap().begin().unwrap();
        let rights = FeedId { writer: Writer { node: NodeId::HUB, ..me() }, channel: Channel::Rights(me()) };
        let mut tx = Tx::new(&store);
        tx.append(rights, vec![1]).unwrap();
        store.commit(&tx.into_batch()).unwrap();
        assert_eq!(judge(read(dir.path()).unwrap(), me(), &store), Ok(None));
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        assert_eq!(judge(read(dir.path()).unwrap(), me(), &store), Ok(Some(Shut::Unsure)), "it may have sold of it");
    }

    #[test]
    fn a_database_behind_the_file_or_of_another_branch_is_noticed() {
        let kept = |seq| Said::Kept(Kept { writer: me(), ends: OwnEnds::of([(Channel::Journal, end(seq))]) });
        let held = |seq| OwnEnds::of([(Channel::Journal, end(seq))]);
        assert_eq!(compare(kept(5), me(), &held(5), false), None);
        assert_eq!(compare(kept(5), me(), &held(6), false), None);
        assert!(matches!(compare(kept(5), me(), &held(4), false), Some(Shut::Behind(_))));
        let other = End { seq: Seq(5), hash: Hash([9; 32]) };
        assert!(matches!(
            compare(kept(5), me(), &OwnEnds::of([(Channel::Journal, other)]), false),
            Some(Shut::Behind(_))
        ));
        assert_eq!(compare(Said::Nothing, me(), &OwnEnds::default(), true), None);
        // Nothing of its own, and money that headquarters granted it: it may have sold of it.
        assert_eq!(compare(Said::Nothing, me(), &OwnEnds::default(), false), Some(Shut::Unsure));
        assert_eq!(compare(Said::Nothing, me(), &held(1), false), Some(Shut::Unsure));
        assert_eq!(compare(Said::Damaged, me(), &held(1), false), Some(Shut::Unsure));
    }
}

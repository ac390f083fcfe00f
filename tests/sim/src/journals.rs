//! What headquarters holds of all journals, read once for the verdict, the other branches of forked ones, too.
//!
//! Leaves to others: what must follow from it (`verdict`).

use crate::disk::Disk;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::Entry;
use yika_crdt::feed::Hash;
use yika_crdt::ids::Seq;
use yika_crdt::store::Read;
use yika_crdt::wire;

/// Where headquarters keeps entries of other branches, and beside them where each branch ends.
const BRANCHES: &[u8] = b"!branch";
const BRANCH_TIPS: &[u8] = b"!branch tips";

/// An entry of a journal.
pub struct Told {
    /// The journal.
    pub feed: FeedId,
    /// It stands on another branch than the one that headquarters holds.
    pub is_branch: bool,
    /// What it says.
    pub entry: Entry,
}

/// All entries of journals.
pub fn read(disk: &Disk) -> Vec<Told> {
    let mut told = Vec::new();
    for (feed, _) in disk.feeds().unwrap_or_default() {
        if feed.channel == Channel::Journal {
            let entries = disk.entries(&feed, Seq(1), usize::MAX).unwrap_or_default();
            let entries = entries.iter().filter_map(|bytes| Entry::decode(bytes).ok());
            told.extend(entries.map(|entry| Told { feed, is_branch: false, entry }));
        }
    }
    let rows = disk.scan(BRANCHES, None, usize::MAX).unwrap_or_default();
    for (key, bytes) in rows.into_iter().filter(|(key, _)| !key.starts_with(BRANCH_TIPS)) {
        let place = &key[BRANCHES.len()..];
        let place: Option<(FeedId, Seq, Option<Hash>)> = wire::decode_lenient(place, place.len()).ok();
        if let (Some((feed, ..)), Ok(entry)) = (place, Entry::decode(&bytes)) {
            told.push(Told { feed, is_branch: true, entry });
        }
    }
    told
}

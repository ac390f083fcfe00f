//! Feeds whose entries wait because a snapshot brings the peer further, and chunks of it that the peer has asked for.
//!
//! Leaves to others: cutting and keeping snapshots (the hub), taking them in (boxes), sending (`sync`).

use super::{Cursor, FEEDS_MAX, PeerSync, SnapshotWord};
use crate::channel::{Class, FeedId};
use crate::feed::{End, Hash};
use crate::mesh::Directory;
use crate::snapshot::{Audience, SignedManifest, is_worth_it};
use crate::store::FeedState;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Chunks that a peer has asked for and not got; one that asks for more at once does not fetch.
pub const WANTED_MAX: usize = 8;
/// Snapshots offered on one connection whose taking is not yet heard.
const OFFERS_MAX: usize = 8;

/// What a feed waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    /// That a snapshot is offered.
    ForOffer,
    /// That this one is taken.
    For(Hash),
    /// That the peer has taken one that another node sends it.
    Elsewhere,
}

/// What waits for snapshots at one peer.
#[derive(Default)]
pub(super) struct Held {
    feeds: BTreeMap<FeedId, Waits>,
    offers: BTreeMap<Hash, Vec<(FeedId, End)>>,
    wanted: VecDeque<(Hash, u32)>,
}

/// What a peer lacks of one audience's feeds.
#[derive(Default)]
struct Lacks {
    entries: u64,
    all: u64,
    /// Some of it is not kept as entries any more.
    is_cut_off: bool,
    feeds: Vec<FeedId>,
}

impl Held {
    pub(super) fn holds(&self, feed: &FeedId) -> bool {
        self.feeds.contains_key(feed)
    }
}

impl PeerSync {
    /// After the greeting, at a hub: holds back entries of audiences of which the peer lacks much, or lacks what is not
    /// kept any more. Each audience must then be offered a snapshot, or told that there is none.
    pub fn hold_for_snapshots(&mut self, directory: &Directory, feeds: &[(FeedId, FeedState)]) -> BTreeSet<Audience> {
        let mut lacks: BTreeMap<Audience, Lacks> = BTreeMap::new();
        for (feed, state) in feeds {
            let Some(audience) = Audience::of(feed.channel).filter(|_| directory.may_hold(feed, self.peer)) else {
                continue;
            };
            let sent = self.cursors.get(feed).map(|cursor| cursor.sent.seq).unwrap_or_default();
            let lacks = lacks.entry(audience).or_default();
            let is_cut_off = state.pruned > sent;
            lacks.is_cut_off |= is_cut_off;
            lacks.entries += state.end.seq.0.saturating_sub(sent.0);
            lacks.all += state.end.seq.0;
            // Blocks and the registry come as entries at once, as long as they are kept.
            if state.end.seq > sent && (is_cut_off || feed.channel.class() == Class::Documents) {
                lacks.feeds.push(*feed);
            }
        }
        lacks.retain(|_, lacks| (lacks.is_cut_off || is_worth_it(lacks.entries, lacks.all)) && !lacks.feeds.is_empty());
        for feed in lacks.values().flat_map(|lacks| &lacks.feeds).take(FEEDS_MAX) {
            self.held.feeds.insert(*feed, Waits::ForOffer);
        }
        lacks.into_keys().collect()
    }

    /// A word of this side about snapshots is on its way.
    pub(super) fn on_said(&mut self, word: &SnapshotWord) {
        match word {
            SnapshotWord::Offer(signed) => self.on_offered(signed),
            SnapshotWord::Nothing(audience) => {
                self.release(|feed, _| Audience::of(feed.channel) == Some(*audience));
            }
            _ => {}
        }
    }

    /// A snapshot is offered, or the peer goes on with one that was offered on an earlier connection.
    pub fn on_offered(&mut self, signed: &SignedManifest) {
        let (manifest, id) = (&signed.manifest, signed.manifest.id());
        for (feed, waits) in self.held.feeds.iter_mut().filter(|(feed, _)| manifest.audience.covers(feed.channel)) {
            let sent = self.cursors.get(feed).map(|cursor| cursor.sent.seq).unwrap_or_default();
            *waits = manifest.base(feed).filter(|base| base.seq > sent).map_or(Waits::Elsewhere, |_| Waits::For(id));
        }
        // An offer that nothing waits for only tells which entries may go.
        if self.held.feeds.values().any(|waits| *waits == Waits::For(id)) {
            while self.held.offers.len() >= OFFERS_MAX {
                self.held.offers.pop_first();
            }
            self.held.offers.insert(id, manifest.feeds.clone());
        }
        // What the snapshot does not bring further comes as entries.
        self.release(|feed, waits| manifest.audience.covers(feed.channel) && waits == Waits::Elsewhere);
    }

    /// A word of the peer about snapshots. False when it asks for more than anybody who fetches.
    pub fn on_snapshot_word(&mut self, word: &SnapshotWord) -> bool {
        match word {
            SnapshotWord::Taken { id } => {
                for (feed, base) in self.held.offers.remove(id).unwrap_or_default() {
                    let cursor = self.cursors.entry(feed).or_insert(Cursor::NOTHING);
                    if base.seq > cursor.sent.seq {
                        *cursor = Cursor::at(base, true);
                    }
                }
                self.release(|_, waits| waits == Waits::Elsewhere || waits == Waits::For(*id));
            }
            SnapshotWord::Declined { id } => {
                self.held.offers.remove(id);
                self.release(|_, waits| waits == Waits::Elsewhere || waits == Waits::For(*id));
            }
            SnapshotWord::Coming(feeds) => {
                for (feed, seq) in feeds {
                    let sent = self.cursors.get(feed).map(|cursor| cursor.sent.seq).unwrap_or_default();
                    if *seq > sent && self.held.feeds.len() < FEEDS_MAX && Audience::of(feed.channel).is_some() {
                        self.held.feeds.insert(*feed, Waits::Elsewhere);
                    }
                }
            }
            SnapshotWord::Want { id, chunk } => {
                if !self.held.wanted.contains(&(*id, *chunk)) {
                    self.held.wanted.push_back((*id, *chunk));
                }
                return self.held.wanted.len() <= WANTED_MAX;
            }
            _ => {}
        }
        true
    }

    /// The next chunk to send: asked for when nothing more urgent is to be said.
    pub fn wanted(&mut self) -> Option<(Hash, u32)> {
        self.held.wanted.pop_front()
    }

    /// Whether a chunk was asked for.
    pub fn is_wanted(&self) -> bool {
        !self.held.wanted.is_empty()
    }

    /// Whether a snapshot was offered on this connection.
    pub fn has_offered(&self, id: &Hash) -> bool {
        self.held.offers.contains_key(id)
    }

    fn release(&mut self, which: impl Fn(&FeedId, Waits) -> bool) {
        let released: Vec<FeedId> =
            self.held.feeds.iter().filter(|(feed, waits)| which(feed, **waits)).map(|(feed, _)| *feed).collect();
        for feed in &released {
            self.held.feeds.remove(feed);
        }
        self.on_grown(&released);
    }
}

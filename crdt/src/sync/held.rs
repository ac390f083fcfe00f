//! Feeds whose entries wait because a snapshot brings the peer further, and chunks of it that the peer has asked for.
//!
//! Leaves to others: cutting and keeping snapshots (the hub), taking them in (boxes), sending (`sync`).

use super::{Cursor, FEEDS_MAX, PeerSync, SnapshotWord};
use crate::channel::{Channel, Class, FeedId};
use crate::feed::{End, Hash};
use crate::ids::{Seq, Writer};
use crate::mesh::Directory;
use crate::proof;
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
    /// That the peer has taken this one, which another node sends it.
    Elsewhere {
        /// Its name.
        id: Hash,
        /// Where the peer's feed goes on then; its word, to be proved for an own feed.
        base: End,
    },
}

impl Waits {
    fn is_for(self, snapshot: Hash) -> bool {
        match self {
            Waits::ForOffer => false,
            Waits::For(id) | Waits::Elsewhere { id, .. } => id == snapshot,
        }
    }
}

/// A feed that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    waits: Waits,
    /// How far the peer has said meanwhile that it has stored it.
    stored: Seq,
}

impl From<Waits> for Waiting {
    fn from(waits: Waits) -> Self {
        Waiting { waits, stored: Seq::ZERO }
    }
}

/// What waits for snapshots at one peer.
#[derive(Default)]
pub(super) struct Held {
    feeds: BTreeMap<FeedId, Waiting>,
    offers: BTreeMap<Hash, Vec<(FeedId, End)>>,
    wanted: VecDeque<(Hash, u32)>,
    /// Feeds that wait for the registry, and with it for a snapshot.
    behind: BTreeSet<FeedId>,
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
        // Another node's snapshot may take hours: only what it is quicker for waits for it. Of the rest the base counts.
        self.feeds.get(feed).is_some_and(|waiting| match waiting.waits {
            Waits::ForOffer | Waits::For(_) => true,
            Waits::Elsewhere { .. } => feed.channel.class() == Class::Documents,
        })
    }

    /// Whether a feed has to wait for one that is held: nothing of a box, nor what is for another life than the peer's own,
    /// can be taken before the registry that lists it, and documents are read by it. It is looked at again when the registry
    /// is released.
    pub(super) fn puts_off(&mut self, feed: &FeedId, peer: Writer) -> bool {
        // Days and hours of a campus' documents follow from the calendar that the registry gives it.
        let is_for_another = matches!(feed.channel, Channel::Rights(receiver) if receiver != peer);
        let needs_it = !feed.writer.node.is_hub()
            || feed.channel.class() == Class::Documents
            || is_for_another && !proof::sown("rights_of_a_former_life_sent_first");
        let waits = needs_it && self.holds_registry() && !proof::sown("sent_before_its_registry");
        if waits && self.behind.len() < FEEDS_MAX {
            proof::hit("put_off_for_the_registry");
            self.behind.insert(*feed);
        }
        waits
    }

    fn holds_registry(&self) -> bool {
        self.feeds.keys().any(|feed| feed.channel == Channel::Registry && self.holds(feed))
    }

    /// Keeps what the peer says it has stored of a held feed: while a snapshot is on its way, entries come to the peer by
    /// other ways, and the base, whose chain is known, goes before them. False when the feed is not held.
    pub(super) fn keep_mark(&mut self, feed: &FeedId, seq: Seq) -> bool {
        let held = self.holds(feed);
        if let Some(waiting) = self.feeds.get_mut(feed).filter(|_| held) {
            waiting.stored = waiting.stored.max(seq);
        }
        held
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
            self.held.feeds.insert(*feed, Waits::ForOffer.into());
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
        let mut as_entries = BTreeSet::new();
        for (feed, waiting) in self.held.feeds.iter_mut().filter(|(feed, _)| manifest.audience.covers(feed.channel)) {
            let sent = self.cursors.get(feed).map(|cursor| cursor.sent.seq).unwrap_or_default();
            match manifest.base(feed).is_some_and(|base| base.seq > sent) {
                true => waiting.waits = Waits::For(id),
                false => _ = as_entries.insert(*feed),
            }
        }
        // An offer that nothing waits for only tells which entries may go.
        if self.held.feeds.values().any(|waiting| waiting.waits == Waits::For(id)) {
            while self.held.offers.len() >= OFFERS_MAX {
                self.held.offers.pop_first();
            }
            self.held.offers.insert(id, manifest.feeds.clone());
        }
        // What the snapshot does not bring further comes as entries.
        self.release(|feed, _| as_entries.contains(feed));
    }

    /// A word of the peer about snapshots. False when it asks for more than anybody who fetches.
    pub fn on_snapshot_word(&mut self, word: &SnapshotWord) -> bool {
        match word {
            SnapshotWord::Taken { id } if proof::sown("snapshot_taken_not_heard") => {
                self.release(|_, waits| waits.is_for(*id));
            }
            SnapshotWord::Taken { id } => {
                proof::hit("snapshot_taken");
                self.on_taken(*id);
            }
            SnapshotWord::Declined { id } => {
                self.held.offers.remove(id);
                self.release(|_, waits| waits.is_for(*id));
            }
            SnapshotWord::Coming { id, feeds } => self.on_coming(*id, feeds),
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

    /// The peer has taken a snapshot: its feeds go on from the bases, or from where it was by then.
    fn on_taken(&mut self, id: Hash) {
        let offered = self.held.offers.remove(&id).unwrap_or_default();
        for (feed, base) in &offered {
            self.go_on_from(*feed, Cursor::at(*base, true));
        }
        // Also what does not wait any more, because a newer one was offered meanwhile and declined.
        self.on_grown(offered.iter().map(|(feed, _)| feed));
        let elsewhere = |(feed, waiting): (&FeedId, &Waiting)| match waiting.waits {
            Waits::Elsewhere { id: taken, base } if taken == id => Some((*feed, base)),
            _ => None,
        };
        let bases: Vec<(FeedId, End)> = self.held.feeds.iter().filter_map(elsewhere).collect();
        for (feed, base) in bases {
            self.go_on_from(feed, Cursor::at(base, false));
        }
        self.release(|_, waits| waits.is_for(id));
    }

    fn go_on_from(&mut self, feed: FeedId, base: Cursor) {
        let cursor = self.cursors.entry(feed).or_insert(Cursor::NOTHING);
        if base.sent.seq > cursor.sent.seq {
            *cursor = base;
        }
    }

    /// Another node sends the peer a snapshot with these bases.
    fn on_coming(&mut self, id: Hash, feeds: &[(FeedId, End)]) {
        for (feed, base) in feeds {
            let sent = self.cursors.get(feed).map(|cursor| cursor.sent.seq).unwrap_or_default();
            let has_room = self.held.feeds.len() < FEEDS_MAX || self.held.feeds.contains_key(feed);
            if base.seq > sent && has_room && Audience::of(feed.channel).is_some() {
                let waiting = self.held.feeds.entry(*feed).or_insert(Waits::ForOffer.into());
                waiting.waits = Waits::Elsewhere { id, base: *base };
            }
        }
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
        let is_released = |(feed, waiting): &(&FeedId, &Waiting)| which(feed, waiting.waits);
        let released: Vec<(FeedId, Seq)> =
            self.held.feeds.iter().filter(is_released).map(|(feed, waiting)| (*feed, waiting.stored)).collect();
        for (feed, stored) in &released {
            self.held.feeds.remove(feed);
            self.mark_stored(*feed, *stored);
        }
        self.on_grown(released.iter().map(|(feed, _)| feed));
        if !self.held.holds_registry() {
            let behind = std::mem::take(&mut self.held.behind);
            self.on_grown(&behind);
        }
    }
}

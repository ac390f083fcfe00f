//! Sync of feeds between two nodes: have/want on sequence numbers, bounded runs, acknowledged after commit.
//!
//! One [`PeerSync`] per connection, pure: what arrives is handed in, what to send is polled out, storage is read through
//! the trait. Leaves to others: sockets and frames (`link`), taking runs in (`mesh`), what entries mean.

mod branch;
mod greeting;
mod held;
mod known;
#[cfg(test)]
mod tests;

pub use branch::{before, further, run_from};
pub use greeting::{Claim, FEEDS_MAX, FEEDS_PER_MESSAGE_MAX, SOFTWARE_BYTES_MAX};
pub use held::WANTED_MAX;
pub use known::Known;

use self::held::Held;
use crate::channel::{Class, FeedId, Place};
use crate::entry::Row;
use crate::feed::{self, End, Hash, Run, SignedHead};
use crate::fen::Fen;
use crate::ids::{PurchaseId, Seq, Writer};
use crate::mesh::Directory;
use crate::snapshot::{Audience, CHUNK_BYTES, SignedManifest};
use crate::store::{Read, StoreError};
use crate::wire::{self, WireError};
use ed25519_dalek::SigningKey;
use greeting::Greeted;
use known::Next;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Entries of one message, together; a frame holds them with its head.
pub const RUN_BYTES_MAX: usize = 64 << 10;
/// Unacknowledged bytes per peer; at the bound sending waits for acknowledgements.
pub const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;
/// Answers that wait for a peer to listen; at the bound nothing more is taken from it.
pub const TO_SAY_MAX: usize = 1_024;
/// Bytes of branches among these answers, but for the last one: a question for a branch is short, its answer long.
pub const BRANCH_BYTES_TO_SAY_MAX: usize = wire::FRAME_BYTES_MAX;
/// Feeds whose marks one message says.
const MARKS_PER_MESSAGE_MAX: usize = 256;

/// Largest word about a snapshot: it fits one frame.
pub const SNAPSHOT_WORD_BYTES_MAX: usize = wire::FRAME_BYTES_MAX - 1_024;

/// Longest `host:port`.
pub const ADDRESS_BYTES_MAX: usize = 262;

/// What two nodes say to each other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// First word of each side: who I am, what I can read, what I hold of what you may hold.
    Hello {
        /// The life that speaks; the link has checked that the certificate says the same.
        writer: Writer,
        /// Newest entry kind it reads: for who writes the first entry of a newer one; nothing is withheld by it.
        kind_newest: u16,
        /// Name and version, for people.
        software: String,
        /// Ends of feeds that both sides may hold.
        have: Vec<Claim>,
        /// [`Message::Have`] goes on with it.
        more: bool,
    },
    /// Stored durably up to here.
    Stored(Vec<(FeedId, Seq)>),
    /// A run of a feed.
    Entries(Box<Run>),
    /// Ours ends otherwise at your position: proof or question of a fork.
    Diverged(Box<SignedHead>),
    /// To the hub or another box: raise my total in this row to at least this. Idempotent.
    Ask {
        /// The row.
        row: Row,
        /// Cumulative total wanted from the one asked.
        total: Fen,
    },
    /// The answer to an `Ask` that will not be met, and to a `Recall` of which nothing comes.
    Denied {
        /// The row.
        row: Row,
        /// The total that was asked, or what might have stayed.
        total: Fen,
    },
    /// From the hub: give back what you hold of this row beyond `keep`.
    Recall {
        /// The row.
        row: Row,
        /// What may stay.
        keep: Fen,
    },
    /// To a sibling: was this id answered at your box? Answered by its journal, or by `Unknown`; in
    /// the meantime perhaps by `Deciding`.
    Answered(PurchaseId),
    /// No, nothing under this id, and it is left to you.
    Unknown(PurchaseId),
    /// To the hub: other nodes may dial this one there (`host:port`).
    Reachable(String),
    /// To the hub: a question for a certificate with later dates; the bytes are the link's.
    Renew(Vec<u8>),
    /// The answer to it; the bytes are the link's.
    Renewed(Vec<u8>),
    /// To a sibling while the hub is away: I hold no more than this in the row; level with me.
    Level {
        /// The row.
        row: Row,
        /// What I hold.
        right: Fen,
    },
    /// Goes on with a greeting that one message does not hold.
    Have {
        /// Ends of further feeds.
        have: Vec<Claim>,
        /// Another part follows.
        more: bool,
    },
    /// From the hub or the feed's writer: show what you hold of it from there on, though it is not what I hold.
    Branch {
        /// The feed.
        feed: FeedId,
        /// First position wanted.
        from: Seq,
    },
    /// The answer to it: a run of the other branch of a fork.
    Other(Box<Run>),
    /// About snapshots.
    Snapshot(Box<SnapshotWord>),
    /// To a sibling that asks about this id: it is decided here, just now or before. Its journal will tell; of one that was
    /// not decided in the end `Unknown` does.
    Deciding(PurchaseId),
}

/// What is said of snapshots. A box asks for chunks; whoever offers one never sends a chunk unasked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SnapshotWord {
    /// From the hub: you lack much that this holds. Entries of its feeds wait until it is taken or declined.
    Offer(Box<SignedManifest>),
    /// From the hub: no snapshot of this audience; entries follow.
    Nothing(Audience),
    /// Send me this chunk of the snapshot of this name.
    Want {
        /// Its name.
        id: Hash,
        /// Which chunk, from 0.
        chunk: u32,
    },
    /// A chunk.
    Chunk {
        /// Of the snapshot of this name.
        id: Hash,
        /// Which.
        chunk: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The snapshot is not kept any more.
    Gone {
        /// Its name.
        id: Hash,
    },
    /// It is taken in: the feeds go on from its bases.
    Taken {
        /// Its name.
        id: Hash,
    },
    /// It is of no use here; entries, please.
    Declined {
        /// Its name.
        id: Hash,
    },
    /// To other boxes: these come to me by a snapshot, up to there. `Taken` or `Declined` follows.
    Coming {
        /// Its name.
        id: Hash,
        /// Its bases, or a part of them.
        feeds: Vec<(FeedId, End)>,
    },
}

impl SnapshotWord {
    /// A chunk goes behind everything else; words about them do not wait.
    fn class(&self) -> Class {
        match self {
            SnapshotWord::Chunk { .. } => Class::Snapshot,
            _ => Class::Control,
        }
    }
}

impl Message {
    /// Bytes for one frame.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Length of the branch that it shows; 0 for everything else.
    fn branch_bytes(&self) -> usize {
        match self {
            Message::Other(run) => run.entries.iter().map(Vec::len).sum(),
            _ => 0,
        }
    }

    /// Reads a frame; checks every bound that the type does not.
    pub fn decode(bytes: &[u8]) -> Result<Message, WireError> {
        let message: Message = wire::decode_lenient(bytes, wire::FRAME_BYTES_MAX)?;
        let (len, limit) = match &message {
            Message::Hello { software, .. } if software.len() > SOFTWARE_BYTES_MAX => {
                (software.len(), SOFTWARE_BYTES_MAX)
            }
            Message::Hello { have, .. } | Message::Have { have, .. } => (have.len(), FEEDS_PER_MESSAGE_MAX),
            Message::Stored(marks) => (marks.len(), FEEDS_PER_MESSAGE_MAX),
            Message::Reachable(address) => (address.len(), ADDRESS_BYTES_MAX),
            Message::Snapshot(word) => match &**word {
                SnapshotWord::Coming { feeds, .. } => (feeds.len(), FEEDS_PER_MESSAGE_MAX),
                SnapshotWord::Chunk { bytes, .. } => (bytes.len(), CHUNK_BYTES),
                _ => (0, 0),
            },
            _ => (0, 0),
        };
        if len > limit {
            return Err(WireError::TooLong { bytes: len, limit });
        }
        let amount = match &message {
            Message::Ask { total, .. } | Message::Denied { total, .. } => *total,
            Message::Recall { keep, .. } => *keep,
            Message::Level { right, .. } => *right,
            _ => Fen::ZERO,
        };
        if !crate::entry::is_total(amount) {
            return Err(WireError::OutOfRange);
        }
        Ok(message)
    }

    /// The service class it travels in.
    pub fn class(&self) -> Class {
        match self {
            Message::Entries(run) | Message::Other(run) => run.head.feed.channel.class(),
            Message::Snapshot(word) => word.class(),
            _ => Class::Control,
        }
    }
}

/// What is sent of a feed: the end the peer will hold once it has stored it all.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    /// Stored by the peer.
    stored: Seq,
    /// Sent to the peer; its hash is ours, proved on the way.
    sent: End,
    /// `sent.hash` is the peer's word until it was linked to an end of ours.
    proved: bool,
    /// The last `sent` of which the hash was said, too: marks say positions only.
    sure: End,
}

impl Cursor {
    const NOTHING: Cursor = Cursor::at(End { seq: Seq::ZERO, hash: Hash([0; 32]) }, true);

    const fn at(end: End, proved: bool) -> Cursor {
        Cursor { stored: end.seq, sent: end, proved, sure: end }
    }

    /// The peer says that it has stored so much, which may be more than was sent.
    fn mark(&mut self, seq: Seq) {
        if seq > self.sent.seq {
            // Its chain there is looked up when more of an own feed is sent.
            (self.sent, self.proved) = (End { seq, hash: Hash::default() }, false);
        }
        self.stored = self.stored.max(seq);
    }
}

/// The state of one connection.
pub struct PeerSync {
    me: Writer,
    peer: Place,
    peer_writer: Writer,
    greeted: Greeted,
    cursors: BTreeMap<FeedId, Cursor>,
    /// Feeds that may have something the peer lacks.
    ready: BTreeSet<(Class, FeedId)>,
    in_flight: BTreeMap<(FeedId, Seq), usize>,
    in_flight_bytes: usize,
    to_say: VecDeque<Message>,
    /// Of the branches in `to_say`.
    branch_bytes_to_say: usize,
    marks_to_say: BTreeMap<FeedId, Seq>,
    /// Feeds about which this side has shown its head.
    disputed: BTreeSet<FeedId>,
    /// What waits for a snapshot.
    held: Held,
}

/// A message that breaks the protocol: the connection is closed with these words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncRefused {
    /// Said twice, or something else was said first.
    #[error("the first message must be one greeting")]
    Greeting,
    /// The greeting does not end within the bound.
    #[error("a greeting of {listed} feeds and more; {FEEDS_MAX} is the limit, and each part lists some")]
    TooManyFeeds {
        /// Listed so far.
        listed: usize,
    },
    /// The greeting names another node or life than the certificate.
    #[error("greeting of {said} on the connection of {certified}")]
    NotThisPeer {
        /// In the greeting.
        said: Writer,
        /// In the certificate.
        certified: Writer,
    },
}

impl PeerSync {
    /// A fresh connection to a peer whose identity the link has checked.
    pub fn new(me: Writer, peer: Place, peer_writer: Writer) -> Self {
        PeerSync {
            me,
            peer,
            peer_writer,
            greeted: Greeted::No,
            cursors: BTreeMap::new(),
            ready: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            in_flight_bytes: 0,
            to_say: VecDeque::new(),
            branch_bytes_to_say: 0,
            marks_to_say: BTreeMap::new(),
            disputed: BTreeSet::new(),
            held: Held::default(),
        }
    }

    /// The life at the other end.
    pub fn peer(&self) -> Writer {
        self.peer_writer
    }

    /// Takes what the peer has stored: of our sending, or by another way (another box, a stick). Idempotent; older
    /// marks change nothing.
    pub fn on_stored(&mut self, marks: &[(FeedId, Seq)]) {
        for (feed, seq) in marks {
            // Runs of a feed that waits for a snapshot were sent before, and fill the window of all feeds.
            self.free_window(*feed, *seq);
            if !self.held.keep_mark(feed, *seq) {
                self.mark_stored(*feed, *seq);
            }
        }
    }

    fn free_window(&mut self, feed: FeedId, seq: Seq) {
        while let Some((sent, bytes)) =
            self.in_flight.range((feed, Seq::ZERO)..=(feed, seq)).next().map(|(k, b)| (*k, *b))
        {
            self.in_flight.remove(&sent);
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        }
    }

    fn mark_stored(&mut self, feed: FeedId, seq: Seq) {
        if self.cursors.len() >= FEEDS_MAX && !self.cursors.contains_key(&feed) {
            // No mesh has so many feeds between two nodes: what is said of more of them is not remembered.
            return;
        }
        self.cursors.entry(feed).or_insert(Cursor::NOTHING).mark(seq);
    }

    /// What the peer sends it holds: never sent back to it.
    pub fn on_entries(&mut self, run: &Run) {
        if self.cursors.len() >= FEEDS_MAX && !self.cursors.contains_key(&run.head.feed) {
            return;
        }
        let cursor = self.cursors.entry(run.head.feed).or_insert(Cursor::NOTHING);
        if run.head.end.seq > cursor.sent.seq {
            *cursor = Cursor::at(run.head.end, false);
        }
    }

    /// These feeds have grown. Tell only what [`PeerSync::concerns`] the peer, so that the others look at nothing.
    pub fn on_grown<'f>(&mut self, feeds: impl IntoIterator<Item = &'f FeedId>) {
        self.ready.extend(feeds.into_iter().map(|feed| (feed.channel.class(), *feed)));
    }

    /// Says something of its own accord (an ask, a recall, an acknowledgement). Marks of one feed are said as one.
    pub fn say(&mut self, message: Message) {
        if let Message::Snapshot(word) = &message {
            self.on_said(word);
        }
        match message {
            Message::Stored(marks) => {
                for (feed, seq) in marks {
                    let said = self.marks_to_say.entry(feed).or_default();
                    *said = seq.max(*said);
                }
            }
            other => {
                self.branch_bytes_to_say += other.branch_bytes();
                self.to_say.push_back(other);
            }
        }
    }

    /// Whether more may be taken in: a peer that only asks and does not listen has to wait.
    pub fn has_room(&self) -> bool {
        self.to_say.len() < TO_SAY_MAX && self.branch_bytes_to_say < BRANCH_BYTES_TO_SAY_MAX
    }

    /// Heads of feeds that end where the peer's do, but otherwise: proofs of forks for the peer to compare.
    pub fn contradictions<R: Read + ?Sized>(&self, store: &R, key: &SigningKey) -> Result<Vec<Message>, StoreError> {
        let mut found = Vec::new();
        for (feed, cursor) in &self.cursors {
            let held = store.feed(feed)?.end;
            if held.seq == cursor.sent.seq && held.hash != cursor.sent.hash && held.seq != Seq::ZERO {
                let head = match feed.writer == self.me {
                    true => Some(SignedHead::sign(*feed, held, key)),
                    false => store.head_from(feed, held.seq)?,
                };
                found.extend(head.filter(|h| h.end == held).map(|head| Message::Diverged(Box::new(head))));
            }
        }
        Ok(found)
    }

    /// A feed ends otherwise at the peer: true the first time, when this side's head is to be shown.
    pub fn dispute(&mut self, feed: FeedId) -> bool {
        self.disputed.len() < FEEDS_MAX && self.disputed.insert(feed)
    }

    /// Whether a feed may be held by the peer at all.
    pub fn concerns(&self, directory: &Directory, feed: &FeedId) -> bool {
        directory.may_hold(feed, self.peer)
    }

    /// How far the peer has stored a feed.
    pub fn stored(&self, feed: &FeedId) -> Seq {
        self.cursors.get(feed).map(|c| c.stored).unwrap_or_default()
    }

    /// Whether [`PeerSync::poll`] may find something to send; reads nothing that is stored.
    pub fn may_speak(&self) -> bool {
        !self.to_say.is_empty() || !self.marks_to_say.is_empty() || self.may_send() && !self.ready.is_empty()
    }

    /// Whether entries may go out: the peer has greeted, and the window is open.
    fn may_send(&self) -> bool {
        self.is_greeted() && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
    }

    /// What is to be said next that is no entry.
    fn next_word(&mut self) -> Option<Message> {
        if let Some(message) = self.to_say.pop_front() {
            self.branch_bytes_to_say -= message.branch_bytes();
            return Some(message);
        }
        if self.marks_to_say.is_empty() {
            return None;
        }
        let rest = self.marks_to_say.keys().nth(MARKS_PER_MESSAGE_MAX).copied();
        let rest = rest.map(|feed| self.marks_to_say.split_off(&feed)).unwrap_or_default();
        let marks = std::mem::replace(&mut self.marks_to_say, rest);
        Some(Message::Stored(marks.into_iter().collect()))
    }

    /// As [`PeerSync::poll`] as far as it can be told without a look at what is stored; `None` says nothing about the rest.
    pub fn poll_known(&mut self, directory: &Directory, known: &Known) -> Option<Message> {
        if let Some(message) = self.next_word() {
            return Some(message);
        }
        while self.may_send()
            && let Some((class, feed)) = self.ready.first().copied()
        {
            let cursor = self.cursors.get(&feed).copied().unwrap_or(Cursor::NOTHING);
            if feed.writer != self.me
                || !cursor.proved
                || self.held.holds(&feed)
                || !directory.may_hold(&feed, self.peer)
                || self.held.puts_off(&feed, self.peer_writer)
            {
                return None;
            }
            match known.next(&feed, cursor.sent.seq) {
                Next::Nothing => _ = self.ready.remove(&(class, feed)),
                Next::Run(run) => return Some(self.entries(cursor, run)),
                Next::Unknown => return None,
            }
        }
        None
    }

    /// Sends a run that goes on where the cursor is.
    fn entries(&mut self, cursor: Cursor, run: Box<Run>) -> Message {
        let (feed, end) = (run.head.feed, run.head.end);
        let bytes = run.entries.iter().map(Vec::len).sum::<usize>().max(1);
        self.cursors.insert(feed, Cursor { sent: end, sure: end, ..cursor });
        self.in_flight.insert((feed, end.seq), bytes);
        self.in_flight_bytes += bytes;
        Message::Entries(run)
    }

    /// The next message to send, most urgent class first; `None` when there is nothing, or the window is full.
    pub fn poll<R: Read + ?Sized>(
        &mut self,
        directory: &Directory,
        store: &R,
        key: &SigningKey,
    ) -> Result<Option<Message>, StoreError> {
        if let Some(message) = self.next_word() {
            return Ok(Some(message));
        }
        if !self.may_send() {
            return Ok(None);
        }
        while let Some((class, feed)) = self.ready.first().copied() {
            let held = store.feed(&feed)?.end.seq;
            let sent = self.cursors.get(&feed).map(|c| c.sent.seq).unwrap_or_default();
            if held > sent
                && !self.held.holds(&feed)
                && directory.may_hold(&feed, self.peer)
                && !self.held.puts_off(&feed, self.peer_writer)
                && let Some(message) = self.next_run(store, feed, key)?
            {
                return Ok(Some(message));
            }
            self.ready.remove(&(class, feed));
        }
        Ok(None)
    }

    fn next_run<R: Read + ?Sized>(
        &mut self,
        store: &R,
        feed: FeedId,
        key: &SigningKey,
    ) -> Result<Option<Message>, StoreError> {
        let mut cursor = self.cursors.get(&feed).copied().unwrap_or(Cursor::NOTHING);
        let own = feed.writer == self.me;
        let pruned = store.feed(&feed)?.pruned;
        if pruned > cursor.sent.seq {
            // Older than the oldest entry: a snapshot brings the peer up, not this feed.
            return Ok(None);
        }
        // What we sign must be our own chain, so the peer's end is proved to lie on it first.
        if own && !cursor.proved && cursor.sent.hash == Hash::default() && cursor.sent.seq > Seq::ZERO {
            match crate::store::end_at(store, &feed, cursor.sent.seq)? {
                Some(end) => (cursor.sent, cursor.proved) = (end, true),
                // The chain before it is pruned: some entries are sent twice rather than none ever again.
                None if cursor.sure.seq >= pruned => cursor.sent = cursor.sure,
                None => return Ok(None),
            }
        }
        if own && !cursor.proved {
            if !self.prove(store, &feed, cursor.sent)? {
                return self.diverged(store, feed, cursor, key);
            }
            cursor.proved = true;
        }
        let head = if own { None } else { store.head_from(&feed, cursor.sent.seq.next())? };
        if !own && head.is_none() {
            return Ok(None);
        }
        let mut entries = store.entries(&feed, cursor.sent.seq.next(), RUN_BYTES_MAX)?;
        if own {
            entries.truncate(feed::RUN_ENTRIES_MAX);
        }
        if let Some(head) = &head {
            // Somebody else's feed is passed on in the runs it was signed in.
            let wanted = (head.end.seq.0 - cursor.sent.seq.0) as usize;
            if entries.len() < wanted {
                entries = store.entries(&feed, cursor.sent.seq.next(), wire::FRAME_BYTES_MAX)?;
            }
            entries.truncate(wanted);
        }
        let from = cursor.sent.seq.next();
        let end = entries.iter().fold(cursor.sent, |end, entry| feed::link(&feed, end, entry));
        let head = head.unwrap_or_else(|| SignedHead::sign(feed, end, key));
        Ok(Some(self.entries(cursor, Box::new(Run { from, entries, head }))))
    }

    /// Whether the peer's end lies on our chain: linked on from it, ours must come out.
    fn prove<R: Read + ?Sized>(&self, store: &R, feed: &FeedId, theirs: End) -> Result<bool, StoreError> {
        let held = store.feed(feed)?.end;
        let known = match store.head_from(feed, theirs.seq)? {
            Some(head) if head.end.seq < held.seq => head.end,
            _ => held,
        };
        let mut end = theirs;
        while end.seq < known.seq {
            let entries = store.entries(feed, end.seq.next(), RUN_BYTES_MAX)?;
            if entries.is_empty() {
                return Ok(false);
            }
            for entry in entries.iter().take((known.seq.0 - end.seq.0) as usize) {
                end = feed::link(feed, end, entry);
            }
        }
        Ok(end == known)
    }

    fn diverged<R: Read + ?Sized>(
        &mut self,
        store: &R,
        feed: FeedId,
        mut cursor: Cursor,
        key: &SigningKey,
    ) -> Result<Option<Message>, StoreError> {
        let held = store.feed(&feed)?.end;
        // Shown where the peer's ends, so that the two heads are a proof.
        let shown = crate::store::end_at(store, &feed, cursor.sent.seq)?.unwrap_or(held);
        // Nothing more of this feed goes to this peer on this connection.
        cursor.sent = held;
        cursor.proved = true;
        self.cursors.insert(feed, cursor);
        Ok(Some(Message::Diverged(Box::new(SignedHead::sign(feed, shown, key)))))
    }
}

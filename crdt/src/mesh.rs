//! What a node knows of the mesh: campuses, nodes and their keys, fences, terminals, tariffs, people, blocks.
//!
//! Rows are written in the turn that stores the entry, the in-memory index beside them; after a failed commit the index
//! is loaded again. Leaves to others: rights and sales (`sale`), documents' content (`docs`), the wire (`sync`).

mod projected;
mod snapshot;

use crate::access::SharedAccess;
use crate::answered::Answered;
use crate::channel::{BlockScope, Channel, FeedId, Place};
use crate::entry::*;
use crate::feed::{self, End, FeedError, Hash, Run, SignedHead};
use crate::ids::*;
use crate::keys;
use crate::people::{BlockPlace, People, SharedPeople};
use crate::person::Person;
use crate::proof;
use crate::store::{IngestError, Read, StoreError, Tx, decode_row};
use crate::tariff::sheet::TariffSheet;
use ed25519_dalek::VerifyingKey;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use projected::{VisitRow, stands_twice};

/// Rows read at once while loading.
const LOAD_ROWS: usize = 4_096;
/// Tariff versions kept in memory; older ones are read from their row.
const TARIFFS_IN_MEMORY: usize = 4;

/// Feeds of one life of a box that a node holds: one of each kind, and rights to that many lives of other boxes.
pub const EDGE_FEEDS_MAX: usize = 4_096;

/// A block as kept beside the feeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct BlockRow {
    /// Hash of its entry.
    pub hash: Hash,
    /// Where it stands.
    pub place: BlockPlace,
    /// Whom it stops.
    pub target: BlockTarget,
    /// Why.
    pub reason: BlockReason,
    /// Who said so.
    pub operator: OperatorId,
    /// When, by the writer's hub time.
    pub hub_time_ms: i64,
}

/// A range of a feed in which the hub has lifted every block: first and last position.
pub type LiftRange = (FeedId, Seq, Seq);

/// A node as the registry lists it.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its record.
    pub record: NodeRecord,
    /// Its key, ready to verify.
    pub key: VerifyingKey,
}

/// Why a run of entries is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunRefused {
    /// Chain, signature or our storage.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The registry does not know the writer.
    #[error("{0}: the registry does not list this writer; wait for the registry or enrol the box")]
    UnknownWriter(FeedId),
    /// The writer may not write such a channel.
    #[error("{0}: this writer may not write this channel")]
    NotItsChannel(FeedId),
    /// This node is not of the feed's audience.
    #[error("{0}: this feed is not for this node")]
    NotForUs(FeedId),
    /// The registry does not know whom the channel names: such feeds are without number.
    #[error("{0}: the registry does not list whom this feed is for; wait for the registry")]
    UnknownReceiver(FeedId),
    /// The writer has more feeds than a box can need.
    #[error("{0}: this writer has {EDGE_FEEDS_MAX} feeds here already")]
    TooManyFeeds(FeedId),
    /// The writer was fenced before the end of the run.
    #[error("{feed}: the writer is fenced after {last}")]
    Fenced {
        /// The feed.
        feed: FeedId,
        /// Last accepted position.
        last: Seq,
    },
}

impl RunRefused {
    /// Whether the writer has signed another chain than is held: no offence of who passes it on in good faith.
    pub fn is_fork(&self) -> bool {
        matches!(self, RunRefused::Ingest(IngestError::Feed(FeedError::NotTheSignedChain(_))))
    }

    /// Whether the same run may be taken later: this node's storage is in trouble, or its registry is on its way.
    pub fn may_pass(&self) -> bool {
        let lacks_registry = matches!(self, RunRefused::UnknownWriter(_) | RunRefused::UnknownReceiver(_));
        lacks_registry || matches!(self, RunRefused::Ingest(IngestError::Store(_)))
    }
}

/// Something a caller may want to act on after the turn is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A node, fence or campus changed: check connections.
    Registry,
    /// A block or lift arrived or was made.
    Blocks(BlockTarget),
    /// Rights of a person may have grown.
    Rights(PersonId),
    /// A grant or return, on whatever rights feed this node holds.
    Granted {
        /// Giver's feed.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// What it says.
        grant: GrantRecord,
    },
    /// A cheque from another box waits to be taken.
    Cheque {
        /// Giver's feed.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// What it says.
        grant: GrantRecord,
    },
    /// The hub's receipt moved.
    Receipt {
        /// In which life.
        by: Writer,
        /// What it says.
        receipt: ReceiptRecord,
    },
    /// The hub told the time.
    Time {
        /// In which life, at which position of what it says to this node alone.
        said: (Writer, Seq),
        /// The time.
        hub_time_ms: i64,
    },
    /// A person or card changed.
    Person(PersonId),
    /// An entry could not be used.
    Quarantined {
        /// Its feed.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// Why.
        cause: String,
    },
    /// A journal entry was stored.
    Journal {
        /// Its feed.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// What it says.
        entry: Box<Entry>,
    },
    /// Two signed branches of a feed were shown.
    Forked(FeedId),
    /// A document change to take in.
    Change {
        /// Its feed.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// What it says.
        record: ChangeRecord,
    },
    /// A document starts a new epoch.
    Rebase {
        /// Its feed.
        feed: FeedId,
        /// Its position.
        seq: Seq,
        /// Which.
        record: RebaseRecord,
    },
    /// A person stands in documents of several campuses, which is told unless one turn clears it.
    Twice {
        /// Who.
        person: PersonId,
        /// Where.
        homes: Vec<CampusId>,
    },
    /// What documents say contradicts itself: somebody must look.
    Contradiction(AlarmRecord),
}

/// Where every known writer stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Directory(BTreeMap<Writer, Place>);

impl Directory {
    /// Whether a node may hold a feed; a feed of an unknown writer is nobody's.
    pub fn may_hold(&self, feed: &FeedId, asker: Place) -> bool {
        self.0.get(&feed.writer).is_some_and(|writer| feed.may_hold(*writer, asker))
    }
}

/// The index over everything replicated.
#[derive(Clone)]
pub struct Mesh {
    /// This node.
    pub me: Writer,
    /// Where it stands.
    pub place: Place,
    /// All lives of all nodes.
    pub nodes: BTreeMap<Writer, Node>,
    /// Ended lives.
    pub fences: BTreeMap<Writer, FenceRecord>,
    /// Campuses.
    pub campuses: BTreeMap<CampusId, CampusRecord>,
    /// Terminals.
    pub terminals: BTreeMap<TerminalId, TerminalRecord>,
    /// Newest tariff versions.
    tariffs: BTreeMap<TariffVersion, Arc<TariffSheet>>,
    /// Cards, holders and blocks, shared with doors.
    pub people: SharedPeople,
    /// This campus' access policy, shared with doors.
    pub access: SharedAccess,
    /// This life's lease.
    pub lease: Option<LeaseRecord>,
    /// Writers proved to have forked a feed: their cheques are not taken.
    pub forked: BTreeSet<Writer>,
    /// Entries in quarantine.
    pub quarantined: u64,
    /// Fenced lives of which a restored hub takes back what it held before: it fenced them without knowing all of it.
    pub heard_on: BTreeSet<Writer>,
    /// Persons that stand in documents of several campuses.
    twice: BTreeSet<PersonId>,
    /// Feeds of which a run of another branch was refused since the start: what is passed on after it leaves a gap.
    disputed: BTreeSet<FeedId>,
}

impl Mesh {
    /// Reads the index from the store.
    pub fn load<R: Read + ?Sized>(store: &R, me: Writer, place: Place) -> Result<Mesh, StoreError> {
        let mut mesh = Mesh {
            me,
            place,
            nodes: BTreeMap::new(),
            fences: BTreeMap::new(),
            campuses: BTreeMap::new(),
            terminals: BTreeMap::new(),
            tariffs: BTreeMap::new(),
            people: SharedPeople::default(),
            access: SharedAccess::default(),
            lease: None,
            forked: BTreeSet::new(),
            quarantined: 0,
            heard_on: BTreeSet::new(),
            twice: BTreeSet::new(),
            disputed: BTreeSet::new(),
        };
        each(store, keys::CAMPUSES, |r: CampusRecord| mesh.index_campus(r))?;
        each(store, keys::NODES, |r: NodeRecord| mesh.index_node(r))?;
        each(store, keys::FENCES, |r: FenceRecord| _ = mesh.fences.insert(r.writer, r))?;
        each(store, keys::TERMINALS, |r: TerminalRecord| _ = mesh.terminals.insert(r.terminal, r))?;
        each(store, keys::TARIFFS, |r: TariffSheet| mesh.index_tariff(r))?;
        let mut people = People::default();
        each(store, keys::PERSONS, |r: Person| people.put(&r, None))?;
        each(store, keys::PERSON_CLAIMS, |r: Person| _ = mesh.twice.insert(r.person))?;
        each(store, keys::LIFTS, |r: (Hash, BlockScope)| people.lift(r.0, r.1))?;
        each(store, keys::BOX_LIFTS, |r: (Hash, BlockPlace)| people.lift_at(r.0, r.1))?;
        mesh.fences.values().for_each(|r| _ = people.end(r.writer, last_lift(r)));
        each(store, keys::LIFT_RANGES, |r: LiftRange| people.lift_range(r.0, r.1, r.2))?;
        each(store, keys::BLOCKS, |r: BlockRow| people.block(r.target, r.hash, r.place))?;
        mesh.people.replace(people);
        mesh.load_projected(store)?;
        each(store, keys::FORKS, |r: (SignedHead, SignedHead)| _ = mesh.forked.insert(r.0.feed.writer))?;
        each(store, keys::QUARANTINE, |_: String| mesh.quarantined += 1)?;
        let lease = store.get(keys::LEASE)?.map(|b| decode_row::<LeaseRecord>(keys::LEASE, &b)).transpose()?;
        mesh.lease = lease.filter(|l| l.incarnation == me.incarnation);
        Ok(mesh)
    }

    /// Takes over a freshly loaded index; who shares the people index keeps sharing it.
    pub fn replace(&mut self, fresh: Mesh) {
        let shared = self.people.clone();
        shared.replace(fresh.people.take());
        let access = self.access.clone();
        access.replace(fresh.access.take());
        *self = Mesh { people: shared, access, ..fresh };
    }

    /// Where a writer stands, if the registry lists it.
    pub fn place_of(&self, writer: Writer) -> Option<Place> {
        self.nodes.get(&writer).map(|n| Place { node: writer.node, campus: n.record.campus })
    }

    /// Where all writers stand, for those who only judge audiences.
    pub fn directory(&self) -> Directory {
        let place = |w: &Writer, n: &Node| Place { node: w.node, campus: n.record.campus };
        Directory(self.nodes.iter().map(|(w, n)| (*w, place(w, n))).collect())
    }

    /// The newest life of a node that the registry lists.
    pub fn current(&self, node: NodeId) -> Option<Writer> {
        let lives = self.nodes.range(first_life(node)..).take_while(|(w, _)| w.node == node);
        lives.last().map(|(w, _)| *w)
    }

    /// Whether this life has been ended by the hub.
    pub fn is_fenced(&self, writer: Writer) -> bool {
        self.fences.contains_key(&writer)
    }

    /// The newest tariff.
    pub fn tariff(&self) -> Option<Arc<TariffSheet>> {
        self.tariffs.values().next_back().cloned()
    }

    /// A tariff by version.
    pub fn tariff_of<R: Read + ?Sized>(
        &self,
        tx: &Tx<'_, R>,
        version: TariffVersion,
    ) -> Result<Option<Arc<TariffSheet>>, StoreError> {
        match self.tariffs.get(&version) {
            Some(sheet) => Ok(Some(Arc::clone(sheet))),
            None => Ok(tx.get::<TariffSheet>(&keys::tariff(version))?.map(Arc::new)),
        }
    }

    /// Checks a run from outside against registry, audience, fence, chain and signature; nothing is written.
    pub fn check_run<R: Read + ?Sized>(&self, tx: &Tx<'_, R>, run: &Run) -> Result<End, RunRefused> {
        let feed = run.head.feed;
        let node = self.nodes.get(&feed.writer).ok_or(RunRefused::UnknownWriter(feed))?;
        let writer = Place { node: feed.writer.node, campus: node.record.campus };
        if !feed.channel.may_write(writer) && !proof::sown("channel_not_checked") {
            return Err(RunRefused::NotItsChannel(feed));
        }
        if !feed.may_hold(writer, self.place) {
            return Err(RunRefused::NotForUs(feed));
        }
        if let Channel::Rights(receiver) = feed.channel
            && receiver != self.me
            && !self.nodes.contains_key(&receiver)
        {
            return Err(RunRefused::UnknownReceiver(feed));
        }
        // The hub posts what a fenced box sold and passed on before it stopped, whenever it is found.
        let posted = match feed.channel {
            Channel::Journal => true,
            Channel::Rights(receiver) => !receiver.node.is_hub(),
            _ => false,
        };
        let evidence = self.me.node.is_hub() && (posted || self.heard_on.contains(&feed.writer));
        if let Some(last) = self.fenced_after(&feed)
            && run.head.end.seq > last
            && !evidence
        {
            return Err(RunRefused::Fenced { feed, last });
        }
        let held = tx.feed(&feed).map_err(IngestError::from)?.end;
        if held.seq == Seq::ZERO && !self.has_room_for(tx, &feed)? {
            return Err(RunRefused::TooManyFeeds(feed));
        }
        feed::check_run(held, run, &node.key).map_err(|e| IngestError::from(e).into())
    }

    /// Whether another feed of its writer may be begun. The hub's own number is bounded by its registry.
    fn has_room_for<R: Read + ?Sized>(&self, tx: &Tx<'_, R>, feed: &FeedId) -> Result<bool, StoreError> {
        let of_writer = |other: &FeedId| other.writer == feed.writer;
        let stored = tx.feeds()?.iter().filter(|(other, _)| of_writer(other)).count();
        let begun = tx.batch().appended.keys().filter(|other| of_writer(other)).count();
        Ok(feed.writer.node.is_hub() || stored + begun < EDGE_FEEDS_MAX)
    }

    /// The last accepted position of a fenced writer's feed; `None` while the writer is not fenced.
    pub fn fenced_after(&self, feed: &FeedId) -> Option<Seq> {
        let fence = self.fences.get(&feed.writer)?;
        let last = fence.last.iter().find(|(channel, _)| *channel == feed.channel);
        Some(last.map_or(Seq::ZERO, |(_, end)| end.seq))
    }

    /// Stores a run and applies its entries. The run may begin with entries already held.
    pub fn ingest<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        mut run: Run,
        events: &mut Vec<Event>,
    ) -> Result<End, RunRefused> {
        let feed = run.head.feed;
        let held = tx.feed(&feed).map_err(IngestError::from)?.end;
        cut_known(&mut run, held.seq);
        if run.entries.is_empty() && run.head.end.seq <= held.seq {
            return Ok(held);
        }
        let end = self.check_run(tx, &run).map_err(|refused| self.disputes(feed, refused))?;
        tx.take_run(&run).map_err(IngestError::from)?;
        for (seq, bytes) in (run.from.0..).map(Seq).zip(&run.entries) {
            self.apply(tx, feed, seq, bytes, events).map_err(IngestError::from)?;
        }
        Ok(end)
    }

    /// Whoever passes on another branch than is held does so run by run: those after the first are of that branch, too, and
    /// no gap that somebody is to blame for.
    fn disputes(&mut self, feed: FeedId, refused: RunRefused) -> RunRefused {
        match &refused {
            RunRefused::Ingest(IngestError::Feed(FeedError::NotTheSignedChain(_))) => self.dispute(feed),
            RunRefused::Ingest(IngestError::Feed(FeedError::Gap { .. })) if self.disputed.contains(&feed) => {
                return FeedError::NotTheSignedChain(feed).into();
            }
            _ => {}
        }
        refused
    }

    /// Another branch of a feed of somebody else was shown.
    pub(crate) fn dispute(&mut self, feed: FeedId) {
        if feed.writer != self.me {
            self.disputed.insert(feed);
        }
    }

    /// Appends an entry to a feed of this node and applies it.
    pub fn append<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        channel: Channel,
        entry: &Entry,
        events: &mut Vec<Event>,
    ) -> Result<Seq, StoreError> {
        let feed = FeedId { writer: self.me, channel };
        let bytes = entry.encode();
        let end = tx.append(feed, bytes.clone())?;
        self.apply(tx, feed, end.seq, &bytes, events)?;
        Ok(end.seq)
    }

    /// Applies one stored entry. What cannot be used goes to quarantine and never stops the feed.
    pub fn apply<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        feed: FeedId,
        seq: Seq,
        bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        let entry = match Entry::decode(bytes) {
            Ok(entry) => entry,
            Err(e) => return self.quarantine(tx, feed, seq, e.to_string(), events),
        };
        if !entry.body.belongs(feed.channel) {
            return self.quarantine(tx, feed, seq, "the entry does not belong on this channel".into(), events);
        }
        if let Some(fault) = entry.body.fault() {
            return self.quarantine(tx, feed, seq, fault.into(), events);
        }
        match entry.body {
            body @ (Body::Campus(_) | Body::Node(_) | Body::Fence(_) | Body::Tariff(_) | Body::Terminal(_)) => {
                self.apply_registry(tx, body, events)?;
            }
            Body::Block(BlockRecord { target, reason, operator }) => {
                let hash = feed::entry_hash(&feed, seq, bytes);
                let (place, hub_time_ms) = (BlockPlace { feed, seq }, entry.stamp.hub_time_ms);
                self.put_block(tx, &BlockRow { hash, place, target, reason, operator, hub_time_ms }, events);
            }
            Body::Lift(lift) => self.apply_lift(tx, feed, seq, lift, events)?,
            Body::Grant(grant) => {
                let to_us = feed.channel == Channel::Rights(self.me);
                events.push(match to_us && !feed.writer.node.is_hub() && !self.me.node.is_hub() {
                    true => Event::Cheque { feed, seq, grant },
                    false => Event::Granted { feed, seq, grant },
                });
            }
            Body::Time(hub_time_ms) => events.push(Event::Time { said: (feed.writer, seq), hub_time_ms }),
            body @ (Body::Lease(_)
            | Body::Receipt(_)
            | Body::TerminalKey(_)
            | Body::Operator(_)
            | Body::Settled(_)
            | Body::Answered(_)
            | Body::Tally(_)) => self.apply_receipts(tx, feed.writer, body, events)?,
            Body::Change(record) => events.push(Event::Change { feed, seq, record }),
            Body::Rebase(record) => events.push(Event::Rebase { feed, seq, record }),
            Body::Purchase(_)
            | Body::Refused(_)
            | Body::Refund(_)
            | Body::NotRefunded(_)
            | Body::Void(_)
            | Body::Taken(_)
            | Body::Door(_)
            | Body::Act(_)
            | Body::Cut(_)
            | Body::Alarm(_) => events.push(Event::Journal { feed, seq, entry: Box::new(entry) }),
        }
        Ok(())
    }

    /// What the hub says to one box.
    fn apply_receipts<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        by: Writer,
        body: Body,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        match body {
            Body::Lease(lease) => {
                let longer = self.lease.is_none_or(|held| held.until_ms < lease.until_ms);
                if lease.incarnation == self.me.incarnation && longer {
                    tx.put(keys::LEASE.to_vec(), &lease);
                    self.lease = Some(lease);
                }
            }
            Body::Receipt(receipt) => {
                tx.put(keys::receipt(receipt.incarnation), &receipt);
                events.push(Event::Receipt { by, receipt });
            }
            Body::TerminalKey(key) => tx.put(keys::terminal_key(key.terminal), &key),
            Body::Operator(operator) => tx.put(keys::operator(operator.operator), &operator),
            Body::Answered(record) => {
                let key = keys::terminal_mark(record.terminal, record.boot);
                let mut known: Answered = tx.get(&key)?.unwrap_or_default();
                known.merge(&record.numbers);
                tx.put(key, &known);
            }
            Body::Tally(record) => tx.put(keys::tally(record.incarnation, record.day), &record.tally),
            _ => {}
        }
        Ok(())
    }

    /// Makes the hub's own key known before its registry has arrived; the key was proved by the TLS handshake.
    pub fn trust_hub<R: Read + ?Sized>(&mut self, tx: &mut Tx<'_, R>, record: NodeRecord) {
        if record.writer.node.is_hub() && !self.nodes.contains_key(&record.writer) {
            tx.put(keys::node(record.writer), &record);
            self.index_node(record);
        }
    }

    /// A feed of a life of the hub that is not known here, signed with its key, is the hub's own: it was restored more than
    /// once, and this node met no one of that life. True when the life is new.
    pub fn know_hub_life<R: Read + ?Sized>(&mut self, tx: &mut Tx<'_, R>, head: &SignedHead) -> bool {
        let writer = head.feed.writer;
        if !writer.node.is_hub() || self.nodes.contains_key(&writer) {
            return false;
        }
        let mut lives = self.nodes.values().filter(|node| node.record.writer.node.is_hub());
        let Some(known) = lives.find(|node| head.verify(&node.key).is_ok()) else { return false };
        let record = NodeRecord { writer, ..known.record.clone() };
        self.trust_hub(tx, record);
        true
    }

    /// Two signed heads of one feed whose chains differ at the position of `other`: kept as proof. `one` covers that
    /// position, and the caller has compared the chains there. True if they prove a fork.
    pub fn prove_fork<R: Read + ?Sized>(&mut self, tx: &mut Tx<'_, R>, one: &SignedHead, other: &SignedHead) -> bool {
        let Some(node) = self.nodes.get(&one.feed.writer) else {
            return false;
        };
        let signed = one.verify(&node.key).is_ok() && other.verify(&node.key).is_ok();
        let apart = one.feed == other.feed && one.end != other.end && one.end.seq >= other.end.seq;
        if !signed || !apart {
            return false;
        }
        tx.put(keys::fork(&one.feed), &(one, other));
        self.forked.insert(one.feed.writer);
        true
    }

    /// Keeps aside an entry that cannot be used; it gates the day. A position counts once: branches of a fork share it.
    pub fn quarantine<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        feed: FeedId,
        seq: Seq,
        cause: String,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        let key = keys::quarantine(&feed, seq);
        self.quarantined += u64::from(tx.get_bytes(&key)?.is_none());
        tx.put(key, &cause);
        events.push(Event::Quarantined { feed, seq, cause });
        Ok(())
    }

    fn apply_registry<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        body: Body,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        match body {
            Body::Campus(record) => self.put_campus(tx, record)?,
            Body::Node(record) => {
                tx.put(keys::node(record.writer), &record);
                self.index_node(record);
            }
            Body::Fence(record) => {
                // Two lives of the hub may have fenced it, and are heard in any order.
                let record = match self.fences.get(&record.writer) {
                    Some(known) => known.merge(&record),
                    None => record,
                };
                tx.put(keys::fence(record.writer), &record);
                let touched = self.people.write().end(record.writer, last_lift(&record));
                events.extend(touched.into_iter().map(Event::Blocks));
                self.fences.insert(record.writer, record);
            }
            Body::Tariff(sheet) => {
                tx.put(keys::tariff(sheet.version), &sheet);
                self.index_tariff(*sheet);
            }
            Body::Terminal(record) => {
                tx.put(keys::terminal(record.terminal), &record);
                self.terminals.insert(record.terminal, record);
            }
            _ => {}
        }
        events.push(Event::Registry);
        Ok(())
    }

    /// An edge lifts only what edges of its own campus wrote; the hub lifts any, also a range.
    fn apply_lift<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        feed: FeedId,
        seq: Seq,
        lift: LiftRecord,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        let Channel::Blocks(scope) = feed.channel else {
            return Ok(());
        };
        match lift {
            LiftRecord::One { block, .. } if scope == BlockScope::Hub => self.lift_one(tx, block, scope, events),
            LiftRecord::One { block, .. } => {
                let place = BlockPlace { feed, seq };
                tx.put(keys::box_lift(&block, &place), &(block, place));
                self.people.write().lift_at(block, place);
                self.tell_lifted(tx, &block, events)
            }
            LiftRecord::Range { feed: of, from, to, .. } if scope == BlockScope::Hub => {
                self.lift_range(tx, &(of, from, to), events);
                Ok(())
            }
            LiftRecord::Range { .. } => self.quarantine(tx, feed, seq, "only the hub lifts a range".into(), events),
        }
    }

    /// Kept as one row: blocks of the range that come later are lifted too.
    fn lift_range<R: Read + ?Sized>(&mut self, tx: &mut Tx<'_, R>, range: &LiftRange, events: &mut Vec<Event>) {
        tx.put(keys::lift_range(range), range);
        let (feed, from, to) = *range;
        let mut people = self.people.write();
        events.extend(people.open_in_range(&feed, from, to).into_iter().map(Event::Blocks));
        people.lift_range(feed, from, to);
    }

    fn put_block<R: Read + ?Sized>(&mut self, tx: &mut Tx<'_, R>, row: &BlockRow, events: &mut Vec<Event>) {
        tx.put(keys::block(&row.hash), row);
        let is_known = |target| match target {
            BlockTarget::Card(card) => self.people.read().registered(card).is_some(),
            BlockTarget::Person(person) => self.people.read().holder(person).is_some(),
        };
        let waits = proof::sown("block_waits_for_its_person") && !is_known(row.target);
        if !proof::sown("block_not_indexed") && !waits {
            self.people.write().block(row.target, row.hash, row.place);
        }
        events.push(Event::Blocks(row.target));
    }

    fn lift_one<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        block: Hash,
        scope: BlockScope,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        tx.put(keys::lift(&block, scope), &(block, scope));
        self.people.write().lift(block, scope);
        if proof::sown("last_writer_of_a_block_wins") {
            self.lift_all(tx, &block)?;
        }
        self.tell_lifted(tx, &block, events)
    }

    /// A sown fault: a lift ends every block of its card.
    fn lift_all<R: Read + ?Sized>(&self, tx: &Tx<'_, R>, block: &Hash) -> Result<(), StoreError> {
        if let Some(row) = tx.get::<BlockRow>(&keys::block(block))? {
            let open = self.people.read().open_blocks(row.target);
            open.into_iter().for_each(|(other, _)| self.people.write().lift(other, BlockScope::Hub));
        }
        Ok(())
    }

    fn tell_lifted<R: Read + ?Sized>(
        &self,
        tx: &Tx<'_, R>,
        block: &Hash,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        if let Some(row) = tx.get::<BlockRow>(&keys::block(block))? {
            events.push(Event::Blocks(row.target));
        }
        Ok(())
    }

    fn index_campus(&mut self, record: CampusRecord) {
        self.campuses.insert(record.campus, record);
    }

    fn index_node(&mut self, record: NodeRecord) {
        if let Ok(key) = VerifyingKey::from_bytes(&record.key) {
            self.nodes.insert(record.writer, Node { record, key });
        }
    }

    fn index_tariff(&mut self, sheet: TariffSheet) {
        self.tariffs.insert(sheet.version, Arc::new(sheet));
        while self.tariffs.len() > TARIFFS_IN_MEMORY {
            self.tariffs.pop_first();
        }
    }
}

/// Where a fenced life ended on the feed of its blocks and lifts.
fn last_lift(fence: &FenceRecord) -> Seq {
    let of_blocks = |channel: &Channel| matches!(channel, Channel::Blocks(_));
    fence.last.iter().find(|(channel, _)| of_blocks(channel)).map_or(Seq::ZERO, |(_, end)| end.seq)
}

/// Cuts off what is held already.
fn cut_known(run: &mut Run, held: Seq) {
    if run.from > held {
        return;
    }
    let known = (held.0 - run.from.0 + 1).min(run.entries.len() as u64);
    run.entries.drain(..known as usize);
    run.from = Seq(run.from.0 + known);
}

fn first_life(node: NodeId) -> Writer {
    Writer { node, incarnation: Incarnation { generation: 0, counter: 0 } }
}

fn each<R: Read + ?Sized, T: DeserializeOwned>(
    store: &R,
    prefix: &[u8],
    mut take: impl FnMut(T),
) -> Result<(), StoreError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let rows = store.scan(prefix, after.as_deref(), LOAD_ROWS)?;
        for (key, value) in &rows {
            take(decode_row(key, value)?);
        }
        match rows.into_iter().next_back() {
            Some((key, _)) => after = Some(key),
            None => return Ok(()),
        }
    }
}

/// Reads every row under a prefix.
pub fn for_each_row<R: Read + ?Sized, T: DeserializeOwned>(
    store: &R,
    prefix: &[u8],
    take: impl FnMut(T),
) -> Result<(), StoreError> {
    each(store, prefix, take)
}

impl From<FeedError> for RunRefused {
    fn from(error: FeedError) -> Self {
        RunRefused::Ingest(error.into())
    }
}

impl From<StoreError> for RunRefused {
    fn from(error: StoreError) -> Self {
        RunRefused::Ingest(error.into())
    }
}

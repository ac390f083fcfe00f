//! A box and headquarters as the simulator holds them: the pure core, its disk, its clock, and what only memory knows.
//!
//! Leaves to others: turns (`turn`), what is said between them (`talk`).

use crate::books::Books;
use crate::disk::Disk;
use crate::selling::Pending;
use ed25519_dalek::SigningKey;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::channel::{FeedId, Place};
use yika_crdt::clock::Ticks;
use yika_crdt::edge::Edge;
use yika_crdt::entry::{NodeRecord, Row, WalletKey};
use yika_crdt::gate::{self, OwnEnds, Shut};
use yika_crdt::ids::*;
use yika_crdt::resend::Resends;
use yika_crdt::rights::PersonRights;
use yika_crdt::store::{Read, StoreError, decode_row};
use yika_crdt::sync::{Known, Message};
use yika_crdt::{Fen, keys};
use yika_hub_core::{Command, Effect, Hub, Identity};

/// First life of every node.
pub const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };
/// Numbers of boots of a copy are so far from those of the box that was copied.
const BOOTS_APART: u32 = 1_000;
/// Headquarters' first life.
pub const HUB: Writer = Writer { node: NodeId::HUB, incarnation: LIFE };

/// Each node's key.
pub fn key_of(node: NodeId) -> SigningKey {
    SigningKey::from_bytes(&[node.0 as u8 + 1; 32])
}

/// What the registry says of a node.
pub fn record_of(writer: Writer, campus: Option<CampusId>) -> NodeRecord {
    let key = key_of(writer.node).verifying_key().to_bytes();
    NodeRecord { writer, campus, key, name: writer.to_string(), address: None }
}

/// A box.
pub struct BoxNode {
    /// This life.
    pub me: Writer,
    /// Where others reach it: the number of its node, or one of its own for a copy, or a box in its place.
    pub address: NodeId,
    /// Signs its feeds.
    pub key: SigningKey,
    /// Where it stands.
    pub place: Place,
    /// What a power cut leaves.
    pub disk: Disk,
    /// The process; `None` while it is down.
    pub core: Option<Edge>,
    /// Where its own feeds end, kept outside the database.
    pub mirror: Option<OwnEnds>,
    /// Start of the operating system: its number, and true time.
    pub boot: (u32, i64),
    /// Wall clock ahead of true time.
    pub skew_ms: i64,
    /// How much faster its monotonic clock runs, in millionths.
    pub drift_ppm: i64,
    /// Until when peers are asked before the gate opens.
    pub asking_until_ms: i64,
    /// Number of its start, so that what was meant for an earlier one is not done.
    pub start: u64,
    /// Terminals that may be served by siblings.
    pub resends: Resends,
    /// Purchases under way.
    pub pending: BTreeMap<PurchaseId, Pending>,
    /// Own feeds that peers have shown to hold further, as each greeted last.
    pub lost: BTreeMap<NodeId, BTreeMap<FeedId, Seq>>,
    /// Peers that did not answer in time, until they are heard again.
    pub silent: BTreeSet<NodeId>,
    /// Ends of feeds in memory.
    pub known: Known,
    /// An older copy of its disk, as somebody may put it back.
    pub copy: Option<Disk>,
    /// Off for good.
    pub gone: bool,
    /// Headquarters has told it that it is fenced.
    pub told_fenced: bool,
    /// It stands still: nothing of it happens.
    pub is_still: bool,
}

impl BoxNode {
    /// A new box, switched off.
    pub fn new(me: Writer, campus: u16) -> BoxNode {
        BoxNode {
            me,
            address: me.node,
            key: key_of(me.node),
            place: Place { node: me.node, campus: Some(CampusId(campus)) },
            disk: Disk::default(),
            core: None,
            mirror: None,
            boot: (0, 0),
            skew_ms: 0,
            drift_ppm: 0,
            asking_until_ms: 0,
            start: 0,
            resends: Resends::new(me.node),
            pending: BTreeMap::new(),
            lost: BTreeMap::new(),
            silent: BTreeSet::new(),
            known: Known::default(),
            copy: None,
            gone: false,
            told_fenced: false,
            is_still: false,
        }
    }

    /// A second one with its key, its disk and the end kept beside them, switched off.
    pub fn copied_to(&self, address: NodeId) -> BoxNode {
        let campus = self.place.campus.map_or(0, |campus| campus.0);
        let (disk, key) = (self.disk.copy(), self.key.clone());
        // Another machine: none of its boots is one of the first.
        let (boot, mirror, told_fenced) = ((self.boot.0 + BOOTS_APART, 0), self.mirror, self.told_fenced);
        BoxNode { address, key, disk, mirror, boot, told_fenced, ..BoxNode::new(self.me, campus) }
    }

    /// Starts the process; `after_boot` when the operating system was started, too.
    ///
    /// # Errors
    /// Of the disk.
    pub fn start(&mut self, now_ms: i64, after_boot: bool, asking_ms: i64) -> Result<(), StoreError> {
        if after_boot {
            self.boot = (self.boot.0 + 1, now_ms);
        }
        self.disk.reopen()?;
        let held = ends_of(&self.disk, self.me)?;
        let found = match self.mirror {
            Some(kept) => held.is_behind(&kept).then_some(Shut::Behind(kept)),
            None => (!gate::is_new(&self.disk, self.me)?).then_some(Shut::Unsure),
        };
        if found.is_none() {
            self.mirror = Some(held);
        }
        self.core = Some(Edge::load(&self.disk, self.me, self.place)?.started(found));
        self.asking_until_ms = now_ms + asking_ms;
        self.start += 1;
        self.resends = Resends::new(self.me.node);
        self.pending.clear();
        self.lost.clear();
        self.silent.clear();
        self.known = Known::default();
        Ok(())
    }

    /// What its operating system says at a moment of true time.
    pub fn ticks(&self, now_ms: i64) -> Ticks {
        let since_ms = (now_ms - self.boot.1).max(0);
        let mono_ms = since_ms + since_ms * self.drift_ppm / 1_000_000;
        Ticks { boot: self.boot.0, mono_ms: mono_ms.unsigned_abs(), wall_ms: now_ms + self.skew_ms }
    }

    /// Its monotonic clock runs faster or slower from here on; it does not jump.
    pub fn set_drift(&mut self, ppm: i64, now_ms: i64) {
        let mono_ms = i64::try_from(self.ticks(now_ms).mono_ms).unwrap_or_default();
        self.drift_ppm = ppm;
        self.boot.1 = now_ms - mono_ms * 1_000_000 / (1_000_000 + ppm);
    }

    /// Whether a peer holds more of this box's own feeds.
    pub fn takes_back(&self) -> bool {
        let behind = |feed: &FeedId, seq: &Seq| self.disk.feed(feed).is_ok_and(|held| held.end.seq < *seq);
        self.shut() != Some(Shut::Forked) && self.lost.values().flatten().any(|(feed, seq)| behind(feed, seq))
    }

    /// Why it may not append, if so.
    pub fn shut(&self) -> Option<Shut> {
        self.core.as_ref().and_then(Edge::shut)
    }

    /// A box may append only where it knows as much as the end kept outside its database.
    pub fn opened_behind(&self) -> Option<String> {
        let kept = self.mirror.filter(|_| self.shut().is_none())?;
        let ends = ends_of(&self.disk, self.me).ok().filter(|ends| ends.is_behind(&kept))?;
        Some(format!("{} appends at {ends:?}, behind {kept:?}", self.me))
    }

    /// Keeps the ends of its own feeds outside the database.
    pub fn keep_ends(&mut self) {
        if matches!(self.shut(), None | Some(Shut::Opening))
            && let Ok(ends) = ends_of(&self.disk, self.me)
        {
            self.mirror = Some(ends);
        }
    }

    /// Rights of a person at this box.
    pub fn rights(&self, person: PersonId) -> PersonRights {
        let row = self.disk.get(&keys::rights(person)).ok().flatten();
        row.and_then(|bytes| decode_row(b"r", &bytes).ok()).unwrap_or_default()
    }

    /// Its guest pool.
    pub fn pool(&self) -> PersonRights {
        let row = self.disk.get(&keys::pool(WalletKey::Guest)).ok().flatten();
        row.and_then(|bytes| decode_row(b"p", &bytes).ok()).unwrap_or_default()
    }

    /// What another node has granted it in a row.
    pub fn granted_by(&self, giver: Writer, row: Row) -> Fen {
        let rights = self.rights(row.person);
        rights.rows.get(&row.wallet).and_then(|r| r.granted_in.get(&giver).copied()).unwrap_or_default()
    }

    /// What it may still spend of a person's own money.
    pub fn right(&self, person: PersonId) -> Option<Fen> {
        self.rights(person).rows.get(&WalletKey::Main).map_or(Some(Fen::ZERO), |row| row.right().ok())
    }
}

/// Where a node's own feeds end.
pub fn ends_of(disk: &Disk, me: Writer) -> Result<OwnEnds, StoreError> {
    let own = disk.feeds()?.into_iter().filter(|(feed, _)| feed.writer == me);
    Ok(OwnEnds::of(own.map(|(feed, state)| (feed.channel, state.end))))
}

/// Headquarters.
pub struct HubNode {
    /// Signs its feeds.
    pub key: SigningKey,
    /// What a power cut leaves.
    pub disk: Disk,
    /// The process; `None` while it is down.
    pub core: Option<Hub>,
    /// What it has booked.
    pub books: Books,
    /// The time that was stamped last.
    pub newest_ms: i64,
    /// Wall clock ahead of true time.
    pub skew_ms: i64,
    /// Number of its start.
    pub start: u64,
    /// Ends of feeds in memory.
    pub known: Known,
    /// It was restored from a backup, and has not begun its new life.
    pub is_restored: bool,
    /// Until then it hears its boxes and takes no orders, as the program does after each start.
    pub hears_until_ms: i64,
    /// Its disk was put back without a word, and no box has shown it so yet.
    pub is_unaware: bool,
    /// Lives that it knows to have forked a feed.
    pub forked: BTreeSet<Writer>,
    /// Who is connected, as its program was told last.
    pub reached: BTreeSet<Writer>,
    /// An older backup, with what was booked then.
    pub backup: Option<(Disk, Books, i64)>,
}

impl HubNode {
    /// A new headquarters on an empty disk, started.
    ///
    /// # Errors
    /// Of the disk.
    pub fn new(disk: Disk) -> Result<HubNode, StoreError> {
        let mut hub = HubNode {
            key: key_of(NodeId::HUB),
            disk,
            core: None,
            books: Books::default(),
            newest_ms: 0,
            skew_ms: 0,
            start: 0,
            known: Known::default(),
            is_restored: false,
            hears_until_ms: 0,
            is_unaware: false,
            forked: BTreeSet::new(),
            reached: BTreeSet::new(),
            backup: None,
        };
        hub.start()?;
        Ok(hub)
    }

    /// Starts the process.
    ///
    /// # Errors
    /// Of the disk.
    pub fn start(&mut self) -> Result<(), StoreError> {
        self.disk.reopen()?;
        let core = Hub::load(&self.disk, Identity { me: HUB, key: self.key.clone() })?;
        // Far apart from start to start, as chance is: neighbours would be taken back by a clock that is a second behind.
        self.core = Some(core.with_luck((self.start as u32).wrapping_mul(0x9E37_79B1) >> 16));
        self.start += 1;
        self.known = Known::default();
        self.reached.clear();
        Ok(())
    }

    /// Whether a command says who is connected, or waits for one who should be.
    pub fn is_of_lines(command: &Command) -> bool {
        matches!(command, Command::Connected(_) | Command::Tick { .. } | Command::Ask { .. })
    }

    /// Whom a purchase waits for though headquarters was told that he is not connected.
    pub fn waits_in_vain(&mut self, command: &Command, effects: &[Effect]) -> Option<Writer> {
        match command {
            Command::Connected(writer) => _ = self.reached.insert(*writer),
            Command::Tick { connected } => self.reached = connected.iter().copied().collect(),
            Command::Ask { .. } => {
                return effects.iter().find_map(|effect| match effect {
                    Effect::Say(of, Message::Recall { .. }) if !self.reached.contains(of) => Some(*of),
                    _ => None,
                });
            }
            _ => {}
        }
        None
    }
}

//! What a glance at the box should show, read from its own rows: never from an open socket alone.
//!
//! Leaves to others: words and colours (`status`).

use crate::node::EdgeNode;
use std::collections::BTreeMap;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::{Entry, LeaseRecord, ReceiptRecord};
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::store::{Read, StoreError, decode_row};
use yika_link::sync::Node;

/// An entry that waits longer than this for the hub's receipt means that the box works cut off.
const UNSENT_MS_MAX: i64 = 60_000;
/// A lease that ends sooner than this is worth a call.
const LEASE_LEFT_MS_MIN: i64 = 12 * 3_600_000;
/// Rows of quarantine and forks that are counted; more are shown as this many.
const COUNTED_MAX: usize = 1_000;

/// The state in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Everything works and headquarters has it all.
    Normal,
    /// Sells and opens; headquarters is behind.
    CutOff,
    /// Somebody must act.
    Attention,
}

/// Something that somebody must act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// The hub ended this life of the box.
    Fenced,
    /// The clock is not confirmed since the start.
    Clock,
    /// No lease, or it is over: only guests are sold to.
    NoLease,
    /// The lease ends soon.
    LeaseShort,
    /// No tariff yet: nothing can be priced.
    NoTariff,
    /// Entries that could not be used.
    Quarantine,
    /// A writer was caught with two histories.
    Fork,
}

/// Another box of the campus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sibling {
    /// Its name.
    pub(super) name: String,
    /// Its number.
    pub(super) node: NodeId,
    /// Age of its newest entry here.
    pub(super) heard_age_ms: Option<i64>,
    /// A connection is up.
    pub(super) linked: bool,
}

/// The box at a glance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    /// Hub time of the reading.
    pub(super) now_ms: i64,
    /// Whether it can be trusted.
    pub(super) trusted: bool,
    /// Entries of the journal.
    pub(super) written: Seq,
    /// Of them held by the hub.
    pub(super) held: Seq,
    /// Of them in a verified archive or backup.
    pub(super) archived: Seq,
    /// Age of the oldest entry that the hub does not hold.
    pub(super) oldest_age_ms: Option<i64>,
    /// Age of the newest entry of the hub.
    pub(super) hub_age_ms: Option<i64>,
    /// A connection to the hub is up.
    pub(super) hub_linked: bool,
    /// What is left of the lease; negative when it is over.
    pub(super) lease_left_ms: Option<i64>,
    /// Other boxes of the campus.
    pub(super) siblings: Vec<Sibling>,
    /// People and cards known.
    pub(super) known: (usize, usize),
    /// Entries in quarantine.
    pub(super) quarantined: usize,
    /// What somebody must act on, the worst first.
    pub(super) troubles: Vec<Trouble>,
}

impl Facts {
    /// Reads them.
    pub(super) fn read(node: &EdgeNode) -> Result<Facts, StoreError> {
        let (now_ms, trusted) = node.now()?;
        let registry = node.registry();
        let known = node.people.read().counts();
        let linked = node.peers();
        let me = node.me();
        let mut facts = node.look(|store| {
            let mut facts = Facts {
                now_ms,
                trusted,
                written: Seq::ZERO,
                held: Seq::ZERO,
                archived: Seq::ZERO,
                oldest_age_ms: None,
                hub_age_ms: None,
                hub_linked: linked.iter().any(|w| w.node.is_hub()),
                lease_left_ms: None,
                siblings: Vec::new(),
                known,
                quarantined: store.scan(keys::QUARANTINE, None, COUNTED_MAX)?.len(),
                troubles: Vec::new(),
            };
            facts.read_outbox(store, me)?;
            let heard = newest_by_node(store)?;
            let age = |node: NodeId| heard.get(&node).map(|at_ms| now_ms.saturating_sub(*at_ms).max(0));
            facts.hub_age_ms = age(NodeId::HUB);
            let lease: Option<LeaseRecord> = row(store, keys::LEASE)?;
            let lease = lease.filter(|l| l.incarnation == me.incarnation);
            facts.lease_left_ms = lease.map(|l| l.until_ms.saturating_sub(now_ms));
            let here = |w: &Writer, campus: Option<CampusId>| w.node != me.node && campus == node.place().campus;
            let mut siblings: BTreeMap<NodeId, Sibling> = BTreeMap::new();
            for (writer, record) in registry.nodes.iter().filter(|(w, r)| here(w, r.campus) && !w.node.is_hub()) {
                let linked = linked.contains(writer);
                let (name, heard_age_ms) = (record.name.clone(), age(writer.node));
                siblings.insert(writer.node, Sibling { name, node: writer.node, heard_age_ms, linked });
            }
            facts.siblings = siblings.into_values().collect();
            if !store.scan(keys::FORKS, None, 1)?.is_empty() {
                facts.troubles.push(Trouble::Fork);
            }
            Ok(facts)
        })?;
        facts.judge(registry.fences.contains_key(&me), registry.tariff.is_some());
        Ok(facts)
    }

    /// Entries that the hub does not hold yet.
    pub(super) fn unsent(&self) -> u64 {
        self.written.0.saturating_sub(self.held.0)
    }

    /// The state in one word.
    pub(super) fn state(&self) -> State {
        let waiting = self.oldest_age_ms.is_some_and(|age| age > UNSENT_MS_MAX);
        match () {
            () if self.troubles.iter().any(|t| *t != Trouble::LeaseShort) => State::Attention,
            () if waiting || !self.hub_linked => State::CutOff,
            () => State::Normal,
        }
    }

    fn read_outbox(&mut self, store: &dyn Read, me: Writer) -> Result<(), StoreError> {
        let journal = FeedId { writer: me, channel: Channel::Journal };
        self.written = store.feed(&journal)?.end.seq;
        if let Some(receipt) = row::<ReceiptRecord>(store, &keys::receipt(me.incarnation))? {
            self.held = receipt.held.min(self.written);
            self.archived = receipt.archived.min(self.written);
        }
        if self.held < self.written {
            let oldest = store.entries(&journal, self.held.next(), 1)?.into_iter().next();
            let stamped = oldest.and_then(|bytes| Entry::decode(&bytes).ok()).map(|e| e.stamp.hub_time_ms);
            self.oldest_age_ms = stamped.map(|at_ms| self.now_ms.saturating_sub(at_ms).max(0));
        }
        Ok(())
    }

    fn judge(&mut self, fenced: bool, has_tariff: bool) {
        let left = self.lease_left_ms.unwrap_or(-1);
        let found = [
            (fenced, Trouble::Fenced),
            (!self.trusted, Trouble::Clock),
            (left < 0, Trouble::NoLease),
            ((0..LEASE_LEFT_MS_MIN).contains(&left), Trouble::LeaseShort),
            (!has_tariff, Trouble::NoTariff),
            (self.quarantined > 0, Trouble::Quarantine),
        ];
        let forks = std::mem::take(&mut self.troubles);
        self.troubles.extend(found.into_iter().filter(|(holds, _)| *holds).map(|(_, trouble)| trouble));
        self.troubles.extend(forks);
    }
}

/// Hub time of the newest entry of each node, over all of its feeds that are held.
fn newest_by_node(store: &dyn Read) -> Result<BTreeMap<NodeId, i64>, StoreError> {
    let mut newest: BTreeMap<NodeId, i64> = BTreeMap::new();
    for (feed, held) in store.feeds()? {
        let last = store.entries(&feed, held.end.seq, 1)?.into_iter().next();
        if let Some(entry) = last.and_then(|bytes| Entry::decode(&bytes).ok()) {
            let at_ms = newest.entry(feed.writer.node).or_insert(i64::MIN);
            *at_ms = entry.stamp.hub_time_ms.max(*at_ms);
        }
    }
    Ok(newest)
}

fn row<T: serde::de::DeserializeOwned>(store: &dyn Read, key: &[u8]) -> Result<Option<T>, StoreError> {
    store.get(key)?.map(|bytes| decode_row(key, &bytes)).transpose()
}

//! The hub and an edge as the harness holds them: core, store, and what a test wants to know of them.

use super::{HUB, World, key_of};
use ed25519_dalek::SigningKey;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::edge::Edge;
use yika_crdt::entry::*;
use yika_crdt::feed::{Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::mesh::Directory;
use yika_crdt::rights::PersonRights;
use yika_crdt::store::{MemoryStore, Read, Tx};
use yika_crdt::sync::{Known, Message, PeerSync};
use yika_hub::core::{self, Hub, TableRow};
use yika_hub::ledger::{Account, Transfer};
use yika_hub::rights::PersonWallets;

pub struct HubBox {
    pub store: MemoryStore,
    pub hub: Hub,
    /// Of its last start.
    pub luck: u32,
    pub transfers: Vec<Transfer>,
    pub(super) sums: BTreeMap<Account, i64>,
    pub(super) sources: BTreeSet<(yika_crdt::feed::Hash, u32)>,
    pub rows: Vec<TableRow>,
    pub alarms: Vec<String>,
}

pub struct EdgeBox {
    pub me: Writer,
    pub place: Place,
    pub store: MemoryStore,
    pub edge: Edge,
    pub boot: u32,
    /// Not served: switched off.
    pub down: bool,
    /// Ahead of true time.
    pub skew_ms: i64,
}

/// What a node says next, by the same two looks as the link takes.
pub(super) fn poll(
    sync: &mut PeerSync,
    directory: &Directory,
    store: &MemoryStore,
    key: &SigningKey,
    known: &mut Known,
) -> Option<Message> {
    for (feed, state) in store.feeds().unwrap() {
        known.grown(feed, state.end.seq);
    }
    if let Some(message) = sync.poll_known(directory, known) {
        return Some(message);
    }
    let message = sync.poll(directory, store, key).unwrap();
    if let Some(Message::Entries(run)) = &message
        && key.verifying_key() == key_of(run.head.feed.writer.node).verifying_key()
    {
        known.said(run);
    }
    message
}

impl HubBox {
    pub(super) fn new() -> HubBox {
        let store = MemoryStore::default();
        let hub = Hub::load(&store, core::Identity { me: HUB, key: key_of(NodeId::HUB) }).unwrap();
        let (sums, sources) = Default::default();
        HubBox { store, hub, luck: 0, transfers: Vec::new(), sums, sources, rows: Vec::new(), alarms: Vec::new() }
    }

    /// The sum of all transfers by account.
    pub fn books(&self) -> BTreeMap<Account, i64> {
        self.sums.clone()
    }

    pub(super) fn book(&mut self, t: Transfer) {
        assert!(self.sources.insert((t.source, t.part)), "a transfer was posted twice: {t:?}");
        *self.sums.entry(t.debit).or_insert(0) -= t.amount.0;
        *self.sums.entry(t.credit).or_insert(0) += t.amount.0;
        self.transfers.push(t);
    }

    /// Puts a backup back.
    pub fn restore(&mut self, store: MemoryStore, transfers: Vec<Transfer>) {
        self.store = store;
        self.transfers.clear();
        self.sums.clear();
        self.sources.clear();
        transfers.into_iter().for_each(|t| self.book(t));
    }

    pub fn wallets(&self, person: PersonId) -> PersonWallets {
        core::wallets_of(&Tx::new(&self.store), person).unwrap()
    }

    /// Invariant 8 over wallets and books, and no account below its bound.
    pub fn check(&self) {
        let mut books = self.books();
        assert_eq!(books.values().sum::<i64>(), 0, "the books do not sum to zero");
        for (account, sum) in &books {
            assert!(!account.is_bounded() || *sum >= 0, "{account} is {sum}");
        }
        for (account, balance) in core::balances(&self.store).unwrap() {
            let booked = books.remove(&account).unwrap_or(0);
            assert_eq!(booked, balance.0, "{account}: booked {booked}, wallets say {balance}");
        }
        for (account, sum) in books {
            let of_wallets = account.person().is_some() || account == Account::PoolSource;
            assert!(!of_wallets || sum == 0, "{account} has {sum} that no wallet knows");
        }
    }
}

impl EdgeBox {
    pub fn new(me: Writer, campus: u16) -> EdgeBox {
        let store = MemoryStore::default();
        let place = Place { node: me.node, campus: Some(CampusId(campus)) };
        let edge = Edge::load(&store, me, place).unwrap();
        EdgeBox { me, place, store, edge, boot: 1, down: false, skew_ms: 0 }
    }

    pub fn till(&self) -> TerminalId {
        TerminalId(u32::from(self.place.campus.unwrap().0) * 10)
    }

    pub fn rights(&self, person: PersonId) -> PersonRights {
        let bytes = self.store.get(&yika_crdt::keys::rights(person)).unwrap();
        bytes.map(|b| yika_crdt::store::decode_row(b"r", &b).unwrap()).unwrap_or_default()
    }

    pub fn right(&self, person: PersonId, wallet: WalletKey) -> i64 {
        self.rights(person).rows.get(&wallet).map_or(0, |row| row.right().unwrap().0)
    }

    pub fn pool(&self, wallet: WalletKey) -> i64 {
        let bytes = self.store.get(&yika_crdt::keys::pool(wallet)).unwrap();
        let rights: PersonRights = bytes.map(|b| yika_crdt::store::decode_row(b"r", &b).unwrap()).unwrap_or_default();
        rights.rows.get(&wallet).map_or(0, |row| row.right().unwrap().0)
    }

    pub fn journal(&self) -> Vec<Entry> {
        let feed = FeedId { writer: self.me, channel: Channel::Journal };
        let from = self.store.feed(&feed).unwrap().pruned.next();
        let entries = self.store.entries(&feed, from, usize::MAX).unwrap();
        entries.iter().map(|e| Entry::decode(e).unwrap()).collect()
    }

    /// What is sold by this box as its journal says, refunds taken off.
    pub fn sold(&self) -> i64 {
        self.journal().iter().fold(0, |sum, entry| match &entry.body {
            Body::Purchase(sale) => sum + sale.paid.iter().map(|p| p.1.0).sum::<i64>(),
            Body::Refund(refund) => sum - refund.back.iter().map(|p| p.1.0).sum::<i64>(),
            _ => sum,
        })
    }

    pub fn alarms(&self) -> Vec<String> {
        let alarm = |entry: Entry| match entry.body {
            Body::Alarm(alarm) => Some(format!("{}: {}", alarm.kind, alarm.detail)),
            _ => None,
        };
        self.journal().into_iter().filter_map(alarm).collect()
    }

    /// A feed of this box as one run from a position.
    pub fn run(&self, channel: Channel, from: Seq) -> Run {
        let feed = FeedId { writer: self.me, channel };
        let entries = self.store.entries(&feed, from, usize::MAX).unwrap();
        Run { from, entries, head: SignedHead::sign(feed, self.store.feed(&feed).unwrap().end, &key_of(self.me.node)) }
    }
}

impl World {
    /// A box asks headquarters for so much in all, and goes on.
    pub fn ask(&mut self, n: usize, row: Row, total: Fen) {
        let line = (self.edges[n].me.node, NodeId::HUB);
        self.ends.get_mut(&line).unwrap().sync.say(Message::Ask { row, total });
    }

    pub fn restart(&mut self, n: usize) {
        let edge = &mut self.edges[n];
        edge.edge = Edge::load(&edge.store, edge.me, edge.place).unwrap();
        let me = edge.me.node;
        self.disconnect_all(me);
    }

    pub fn restart_hub(&mut self) {
        let me = self.hub.hub.mesh.me;
        let hub = Hub::load(&self.hub.store, core::Identity { me, key: key_of(NodeId::HUB) }).unwrap();
        self.hub.luck += 1;
        self.hub.hub = hub.with_luck(self.hub.luck);
        self.disconnect_all(NodeId::HUB);
    }
}

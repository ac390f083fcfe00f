//! What the hub tells each box about itself: leases, the time, and how far its journal is held and archived.
//!
//! Leaves to others: making archives (the shell), pruning (`yika_crdt::sale::prune`).

use super::{CoreError, Hub, Reply, Turn, named};
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, SignatureBytes};
use yika_crdt::ids::*;
use yika_crdt::proof;
use yika_crdt::store::{Read, StoreError, Tx};

/// How long a lease lasts from its signing.
pub const LEASE_MS: i64 = 72 * 3_600_000;
/// Least time between two receipts that tell only of what is held: acknowledgements of the sync say it at once.
const RECEIPT_MS_MIN: i64 = 10_000;
/// A lease is renewed when less than this is left of it.
pub const LEASE_RENEW_BELOW_MS: i64 = LEASE_MS - 3_600_000;

impl Hub {
    /// A lease entry is durable here before it can be sent; renewed when an hour of it has passed. True when it was.
    pub(super) fn lease<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        to: Writer,
    ) -> Result<bool, StoreError> {
        if !self.is_alive(to) || self.mesh.forked.contains(&to) {
            return Ok(false);
        }
        let renewed_ms: i64 = turn.tx.get(&renewed_key(to))?.unwrap_or_default();
        let now_ms = turn.stamp.hub_time_ms;
        let is_due = renewed_ms.saturating_sub(now_ms) < LEASE_RENEW_BELOW_MS;
        if is_due {
            let until_ms = now_ms.saturating_add(LEASE_MS);
            if !self.was_served(turn, to)? {
                self.begin_shares(turn)?;
            }
            turn.tx.put(renewed_key(to), &until_ms);
            self.assume_lease(turn, to, until_ms)?;
            let mut lease = LeaseRecord { incarnation: to.incarnation, until_ms, signature: SignatureBytes([0; 64]) };
            lease.signature = feed::sign("lease", &lease.signed(to.node), &self.key);
            self.tell(turn, to.node, Body::Lease(lease))?;
        }
        Ok(is_due)
    }

    /// The box may hold a lease until then: signed here, or before a restore.
    pub(super) fn assume_lease<R: Read + ?Sized>(
        &self,
        turn: &mut Turn<'_, '_, R>,
        of: Writer,
        until_ms: i64,
    ) -> Result<(), StoreError> {
        let longest = self.lease_end_ms(turn, of)?.max(until_ms);
        turn.tx.put(leased_key(of), &longest);
        Ok(())
    }

    /// The end of the longest lease that a life may hold.
    pub(super) fn lease_end_ms<R: Read + ?Sized>(&self, turn: &Turn<'_, '_, R>, of: Writer) -> Result<i64, StoreError> {
        Ok(turn.tx.get(&leased_key(of))?.unwrap_or_default())
    }

    /// Tells an edge what of its journal is held and archived, if that has moved.
    pub(super) fn receipt<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        of: Writer,
    ) -> Result<(), StoreError> {
        let receipt = receipt_of(turn, of)?;
        let key = told_key(self.mesh.me, of);
        let told = turn.tx.get::<(ReceiptRecord, i64)>(&key)?;
        let now_ms = turn.stamp.hub_time_ms;
        let due = told.is_none_or(|(told, at_ms)| {
            told.archived != receipt.archived || told != receipt && now_ms.saturating_sub(at_ms) >= RECEIPT_MS_MIN
        });
        if due {
            turn.tx.put(key, &(receipt, now_ms));
            self.tell(turn, of.node, Body::Receipt(receipt))?;
        }
        Ok(())
    }

    /// Tells a box the time, and before it what of its journal is held: how old that word is at most follows from the
    /// newest entry that came here before it.
    pub(super) fn tell_time<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        to: Writer,
    ) -> Result<(), StoreError> {
        if !self.is_alive(to) || proof::sown("time_told_once_a_connection") {
            return Ok(());
        }
        let (receipt, now_ms) = (receipt_of(turn, to)?, turn.stamp.hub_time_ms);
        turn.tx.put(told_key(self.mesh.me, to), &(receipt, now_ms));
        self.tell(turn, to.node, Body::Receipt(receipt))?;
        self.tell(turn, to.node, Body::Time(now_ms))?;
        Ok(())
    }

    /// Feeds are in a verified backup up to these positions.
    pub(super) fn all_archived<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        marks: Vec<(FeedId, Seq)>,
    ) -> Result<Reply, CoreError> {
        for (feed, seq) in marks {
            self.archived(turn, feed, seq)?;
        }
        Ok(Reply::Done)
    }

    /// A feed is in a verified backup up to a position: never beyond what is held, never back.
    fn archived<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        feed: FeedId,
        seq: Seq,
    ) -> Result<(), StoreError> {
        let held = turn.tx.feed(&feed)?.end.seq;
        let before: Seq = turn.tx.get(&archived_key(&feed))?.unwrap_or_default();
        turn.tx.put(archived_key(&feed), &seq.min(held).max(before));
        if feed.channel == Channel::Journal && self.is_alive(feed.writer) {
            self.receipt(turn, feed.writer)?;
        }
        Ok(())
    }
}

/// How far the journal of a life is held and archived.
fn receipt_of<R: Read + ?Sized>(turn: &Turn<'_, '_, R>, of: Writer) -> Result<ReceiptRecord, StoreError> {
    let feed = FeedId { writer: of, channel: Channel::Journal };
    let archived = turn.tx.get(&archived_key(&feed))?.unwrap_or_default();
    Ok(ReceiptRecord { incarnation: of.incarnation, held: turn.tx.feed(&feed)?.end.seq, archived })
}

/// How far a feed is in a verified backup.
///
/// # Errors
/// Storage.
pub fn archived<R: Read + ?Sized>(store: &R, feed: &FeedId) -> Result<Seq, StoreError> {
    Ok(Tx::new(store).get(&archived_key(feed))?.unwrap_or_default())
}

fn leased_key(of: Writer) -> Vec<u8> {
    named(b"!leased", &of)
}

fn renewed_key(of: Writer) -> Vec<u8> {
    named(b"!renewed", &of)
}

/// Told by this life of the hub; a later life tells again.
fn told_key(by: Writer, of: Writer) -> Vec<u8> {
    named(b"!told", &(by, of))
}

fn archived_key(feed: &FeedId) -> Vec<u8> {
    named(b"!archived", feed)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use crate::{Command, Identity};
    use ed25519_dalek::SigningKey;
    use yika_crdt::store::{MemoryStore, Store};

    const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };
    const NOON_MS: i64 = 1_795_494_600_000;

    /// One turn of headquarters.
    pub(crate) fn order(hub: &mut Hub, store: &mut MemoryStore, command: Command, hub_time_ms: i64) {
        let stamp = Stamp { hub_time_ms, boot: 0, mono_ms: 0 };
        let mut tx = Tx::new(&*store);
        hub.handle(&mut tx, command, stamp, &mut Vec::new(), &mut Vec::new()).unwrap();
        let batch = tx.into_batch();
        store.commit(&batch).unwrap();
        hub.committed();
    }

    fn life_of(node: u32) -> Writer {
        Writer { node: NodeId(node), incarnation: LIFE }
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[1; 32])
    }

    /// A hub that knows itself and one box.
    fn with_a_box() -> (Hub, MemoryStore) {
        let mut store = MemoryStore::default();
        let mut hub = Hub::load(&store, Identity { me: life_of(0), key: key() }).unwrap();
        for (writer, campus) in [(life_of(0), None), (life_of(1), Some(CampusId(1)))] {
            let public = key().verifying_key().to_bytes();
            let record = NodeRecord { writer, campus, key: public, name: writer.to_string(), address: None };
            order(&mut hub, &mut store, Command::Registry(Box::new(Body::Node(record))), NOON_MS);
        }
        (hub, store)
    }

    /// A box's monotonic clock drifts, and its line may hold for months: it is told the time whenever its lease is renewed.
    #[test]
    fn a_box_whose_line_holds_is_told_the_time_with_each_lease() {
        let (mut hub, mut store) = with_a_box();
        let (me, to) = (life_of(0), life_of(1));
        order(&mut hub, &mut store, Command::Connected(to), NOON_MS);
        let receipts = FeedId { writer: me, channel: Channel::Receipts(to.node) };
        let told = |store: &MemoryStore| {
            let entries = store.entries(&receipts, Seq(1), usize::MAX).unwrap();
            let is_time = |bytes: &&Vec<u8>| matches!(Entry::decode(bytes), Ok(Entry { body: Body::Time(_), .. }));
            entries.iter().filter(is_time).count()
        };
        for hours in 0..4 {
            let now_ms = NOON_MS + hours as i64 * 3_601_000;
            order(&mut hub, &mut store, Command::Tick { connected: vec![to] }, now_ms);
            assert_eq!(told(&store), 1 + hours, "when it connected, and with each lease");
        }
    }

    /// And when its day is cut, right after what is held of its journal: of that word the box knows how old it is.
    #[test]
    fn a_box_is_told_the_time_when_its_day_is_cut() {
        let (mut hub, mut store) = with_a_box();
        let (me, of) = (life_of(0), life_of(1));
        let journal = FeedId { writer: of, channel: Channel::Journal };
        let cut = Entry { stamp: Stamp { hub_time_ms: NOON_MS, boot: 1, mono_ms: 7 }, body: Body::Cut(Day(20_000)) };
        let cut = cut.encode();
        let head = feed::SignedHead::sign(journal, feed::link(&journal, feed::End::default(), &cut), &key());
        let run = feed::Run { from: Seq(1), entries: vec![cut], head };
        order(&mut hub, &mut store, Command::Ingest(Box::new(run)), NOON_MS + 5);
        let receipts = FeedId { writer: me, channel: Channel::Receipts(of.node) };
        let told = store.entries(&receipts, Seq(1), usize::MAX).unwrap();
        let told: Vec<Body> = told.iter().map(|bytes| Entry::decode(bytes).unwrap().body).collect();
        let held = ReceiptRecord { incarnation: LIFE, held: Seq(1), archived: Seq::ZERO };
        assert_eq!(told[told.len() - 2..], [Body::Receipt(held), Body::Time(NOON_MS + 5)]);
    }
}

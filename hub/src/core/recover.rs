//! A hub restored from a backup must neither pay twice nor forget (design section 6, last paragraph).
//!
//! It goes on in a new life, takes its former life's feeds and the journals back from the edges, posts the grants it
//! had forgotten from those signed entries, and grants and pays nothing before every living box has reported or is
//! fenced. Leaves to others: the certificate of the new life (the shell), the sync itself (`yika_crdt::sync`).

use super::books::Owner;
use super::receipts::LEASE_MS;
use super::{Command, CoreError, Effect, Hub, Reply, Turn};
use crate::ledger::Kind;
use crate::refusal::{Kept, Refusal};
use crate::rights::is_money;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::entry::*;
use yika_crdt::feed::{End, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::store::{Read, StoreError, decode_row};

/// Where the hub's present life is kept.
const LIFE: &[u8] = b"!hub life";

/// What a restored hub still waits for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Recovery {
    /// Since when.
    pub since_ms: i64,
    /// Feeds that a box holds further than this hub did when it greeted.
    wants: BTreeMap<Writer, Vec<(FeedId, Seq)>>,
}

/// The life this hub is in and its recovery: of the store if that is newer than the identity.
///
/// # Errors
/// Of storage.
pub fn present_life<R: Read + ?Sized>(store: &R, identity: Writer) -> Result<(Writer, Option<Recovery>), StoreError> {
    let stored: Option<(Writer, Option<Recovery>)> =
        store.get(LIFE)?.map(|bytes| decode_row(LIFE, &bytes)).transpose()?;
    Ok(stored.filter(|(life, _)| *life >= identity).unwrap_or((identity, None)))
}

impl Hub {
    /// An operator says that this hub was restored.
    pub(super) fn restored<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<Reply, CoreError> {
        self.recover(turn)?;
        Ok(Reply::Done)
    }

    /// A box told what it holds. More of this life's feeds than this hub wrote means: this hub was restored.
    pub(super) fn greeted<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        from: Writer,
        have: Vec<(FeedId, End)>,
    ) -> Result<Reply, CoreError> {
        let mut ahead = Vec::new();
        for (feed, end) in have {
            let ours = feed.writer.node.is_hub() || feed.channel == Channel::Journal || feed.writer == from;
            if ours && turn.tx.feed(&feed)?.end.seq < end.seq {
                ahead.push((feed, end.seq));
            }
        }
        // More of this life, or of a later one: a copy of this hub has lived on after the moment this one was copied.
        if ahead.iter().any(|(feed, _)| feed.writer.node.is_hub() && feed.writer >= self.mesh.me) {
            self.recover(turn)?;
        }
        if let Some(recovery) = &mut self.recovery {
            recovery.wants.insert(from, ahead);
            self.keep_recovery(turn);
        }
        Ok(Reply::Done)
    }

    /// Begins a new life. Everything that the former one may have signed is assumed to be out.
    fn recover<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        let former = self.mesh.me;
        let name = self.mesh.nodes.get(&former).map_or_else(|| "hub".to_owned(), |n| n.record.name.clone());
        let generation = former.incarnation.generation.saturating_add(1);
        let former_record = self.own_record(&name);
        self.mesh.trust_hub(turn.tx, former_record);
        // Two hubs put back from the same backup are two lives: the later restore has the larger counter.
        let counter = u32::try_from(turn.stamp.hub_time_ms.div_euclid(1000)).unwrap_or(u32::MAX).max(1);
        self.mesh.me = Writer { node: NodeId::HUB, incarnation: Incarnation { generation, counter } };
        let since_ms = turn.stamp.hub_time_ms;
        self.recovery = Some(Recovery { since_ms, wants: BTreeMap::new() });
        self.waiting.clear();
        self.keep_recovery(turn);
        self.append(turn, Channel::Registry, Body::Node(self.own_record(&name)))?;
        self.assume_leases(turn)?;
        turn.effects.push(Effect::Recovering(self.mesh.me));
        Ok(())
    }

    fn keep_recovery<R: Read + ?Sized>(&self, turn: &mut Turn<'_, '_, R>) {
        turn.tx.put(LIFE.to_vec(), &(self.mesh.me, &self.recovery));
    }

    /// The former life may have renewed any lease up to the moment it ended.
    fn assume_leases<R: Read + ?Sized>(&self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        let until_ms = turn.stamp.hub_time_ms.saturating_add(LEASE_MS);
        let edges: Vec<_> = self.mesh.nodes.keys().filter(|w| !w.node.is_hub()).copied().collect();
        for writer in edges {
            self.assume_lease(turn, writer, until_ms)?;
        }
        Ok(())
    }

    /// A grant that a former life of this hub signed: out, whether or not this one remembers it.
    pub(super) fn grant_of_former_life<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        feed: FeedId,
        receiver: Writer,
        grant: &GrantRecord,
    ) -> Result<(), CoreError> {
        let (person, key) = (grant.row.person, grant.row.wallet);
        let owner = if person == PersonId(0) { Owner::Pool(receiver) } else { Owner::Person(person) };
        let wallet = self.open(turn, owner)?.wallet(key);
        wallet.last_day = wallet.last_day.max(grant.last_day);
        let replica = wallet.replica(receiver);
        let more = replica.merge_granted(feed.writer.incarnation, grant.total)?;
        let right = super::books::right_account(owner, key, receiver, replica);
        if more.is_positive() && is_money(key) {
            let mut posting = self.posting(turn, "regrant")?;
            posting.transfer(Kind::Grant, owner.holder(key), right, more);
            turn.post(posting)?;
        }
        Ok(())
    }

    /// The recovery ends when every living box has greeted and all it held more of has arrived.
    pub(super) fn look_for_reports<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        if self.recovery.is_none() || !self.awaited_in(turn)?.is_empty() {
            return Ok(());
        }
        self.recovery = None;
        self.keep_recovery(turn);
        turn.effects.push(Effect::Recovered);
        Ok(())
    }

    fn awaited_in<R: Read + ?Sized>(&self, turn: &Turn<'_, '_, R>) -> Result<Vec<Writer>, StoreError> {
        self.awaited(|feed| Ok(turn.tx.feed(feed)?.end.seq))
    }

    /// The living boxes for which a restored hub waits: who has not greeted it, and whose news have not arrived whole.
    ///
    /// # Errors
    /// Those of `held`, which tells how far a feed is held.
    pub fn awaited(&self, held: impl Fn(&FeedId) -> Result<Seq, StoreError>) -> Result<Vec<Writer>, StoreError> {
        let Some(recovery) = &self.recovery else { return Ok(Vec::new()) };
        let mut awaited = Vec::new();
        for writer in self.mesh.nodes.keys().copied().filter(|w| self.is_alive(*w)) {
            let Some(wants) = recovery.wants.get(&writer) else {
                awaited.push(writer);
                continue;
            };
            for (feed, seq) in wants {
                if self.is_wanted(feed) && held(feed)? < *seq {
                    awaited.push(writer);
                    break;
                }
            }
        }
        Ok(awaited)
    }

    /// What a fenced box wrote after its fence is not wanted; its journal is, as evidence.
    fn is_wanted(&self, feed: &FeedId) -> bool {
        let known = self.mesh.nodes.get(&feed.writer).map(|n| n.record.campus);
        let fenced = self.mesh.is_fenced(feed.writer) && feed.channel != Channel::Journal;
        let place = known.map(|campus| Place { node: feed.writer.node, campus });
        place.is_none_or(|place| feed.may_hold(place, self.mesh.place)) && !fenced
    }

    /// The refusal of an act that must wait until a restored hub knows again what it had said; `None` otherwise.
    pub(super) fn recovering<R: Read + ?Sized>(
        &self,
        turn: &Turn<'_, '_, R>,
        kept: Kept,
    ) -> Result<Option<Reply>, StoreError> {
        if self.recovery.is_none() {
            return Ok(None);
        }
        let waiting_for = self.awaited_in(turn)?.iter().map(|w| w.node).collect();
        Ok(Some(Reply::Denied(Refusal::Recovering { kept, waiting_for })))
    }

    /// Acts that give out numbers, versions or lives are not done while those given out since the backup are not known.
    pub(super) fn must_wait<R: Read + ?Sized>(
        &self,
        turn: &Turn<'_, '_, R>,
        command: &Command,
    ) -> Result<Option<Reply>, StoreError> {
        match command {
            Command::Registry(body) if !matches!(**body, Body::Node(_)) => self.recovering(turn, Kept::Registry),
            Command::CreateToken { .. } | Command::Redeem { .. } => self.recovering(turn, Kept::Enrolment),
            Command::PersonIds(_) => self.recovering(turn, Kept::NewPeople),
            _ => Ok(None),
        }
    }

    /// A feed of a life of this hub that the backup does not know, signed with this hub's key, is its own.
    pub(super) fn know_former_life<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>, head: &SignedHead) {
        let writer = head.feed.writer;
        if writer.node.is_hub()
            && !self.mesh.nodes.contains_key(&writer)
            && head.verify(&self.key.verifying_key()).is_ok()
        {
            let name = self.mesh.nodes.get(&self.mesh.me).map(|n| n.record.name.clone()).unwrap_or_default();
            let record = NodeRecord { writer, ..self.own_record(&name) };
            self.mesh.trust_hub(turn.tx, record);
        }
    }
}

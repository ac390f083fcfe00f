//! A hub restored from a backup must neither pay twice nor forget (design section 6, last paragraph).
//!
//! It goes on in a new life, takes its former life's feeds and the journals back from the edges, posts the grants it
//! had forgotten from those signed entries, and grants and pays nothing before every living box has reported or is
//! fenced. Leaves to others: the certificate of the new life (the shell), the sync itself (`yika_crdt::sync`).

use super::books::Owner;
use super::receipts::LEASE_MS;
use super::{Command, CoreError, Effect, HUB_UTC_OFFSET_MINUTES, Hub, Reply, Turn, named};
use crate::denial::{Denial, Kept};
use crate::ledger::Kind;
use crate::rights::is_money;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::civil;
use yika_crdt::entry::*;
use yika_crdt::feed::SignedHead;
use yika_crdt::ids::*;
use yika_crdt::proof;
use yika_crdt::store::{Read, StoreError, decode_row};
use yika_crdt::sync::Claim;

/// Where the hub's present life is kept.
const LIFE: &[u8] = b"!hub life";

/// A box whose claims are not proved is told of again after this.
const FALSE_CLAIM_MS: i64 = 24 * 3_600_000;

/// What a restored hub still waits for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Recovery {
    /// Since when.
    pub since_ms: i64,
    /// Feeds that a box holds further than this hub did when it greeted.
    wants: BTreeMap<Writer, Vec<Want>>,
}

/// A feed that a box says it holds further.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Want {
    claim: Claim,
    /// Shown by its writer's signature, or its own. Otherwise the writer is not known yet: only the registry, which
    /// must come before, can tell.
    proved: bool,
}

/// A moment in headquarters' civil time.
fn moment(hub_time_ms: i64) -> String {
    let at = civil::civil(hub_time_ms, HUB_UTC_OFFSET_MINUTES);
    format!("{} {:02}:{:02}", at.day, at.minute / 60, at.minute % 60)
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
        self.recover(turn, self.mesh.me.incarnation.generation)?;
        Ok(Reply::Done)
    }

    /// A box told what it holds. More of this life's feeds than this hub wrote means: this hub was restored. What a box
    /// says and cannot show is an alarm about that box, and nothing else.
    pub(super) fn greeted<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        from: Writer,
        have: Vec<Claim>,
    ) -> Result<Reply, CoreError> {
        let (mut ahead, mut false_claim) = (Vec::new(), None);
        let have = if proof::sown("greeting_not_heard") { Vec::new() } else { have };
        for claim in have {
            let feed = claim.feed;
            let ours = feed.writer.node.is_hub() || feed.channel == Channel::Journal || feed.writer == from;
            // Of who has said one thing that is not so, nothing more is looked into: signatures cost time.
            let doubted = false_claim.is_some() && feed.writer != from;
            if !ours || doubted || turn.tx.feed(&feed)?.end.seq >= claim.end.seq {
                continue;
            }
            match self.is_proved(from, &claim) {
                Some(false) => false_claim = Some(claim),
                proved => ahead.push(Want { claim, proved: proved.is_some() }),
            }
        }
        if let Some(claim) = false_claim {
            Hub::tell_false_claim(turn, from, &claim)?;
        }
        // More of this life, or of another that is not a former one: a copy of this hub has lived on after the moment this one
        // was copied. Numbers and names are a generation's, so it goes on in one that nobody else has had.
        let me = self.mesh.me;
        let lives = ahead.iter().map(|w| w.claim.feed.writer).filter(|life| life.node.is_hub());
        let lives: Vec<Writer> =
            lives.filter(|life| life.incarnation.generation >= me.incarnation.generation).collect();
        if let Some(newest) = lives.iter().map(|life| life.incarnation.generation).max() {
            proof::hit("put_back_shown_by_a_box");
            // Of who is restored and has heard of it, another restore of the same backup is no news.
            if self.recovery.is_none() || lives.contains(&me) {
                self.tell_put_back(turn, from)?;
            }
            self.recover(turn, newest)?;
        }
        if let Some(recovery) = &mut self.recovery {
            recovery.wants.insert(from, ahead);
            self.keep_recovery(turn);
        }
        Ok(Reply::Done)
    }

    /// Nobody restored this hub, and a box knows more of it: what operators did since its database ends is in no feed.
    fn tell_put_back<R: Read + ?Sized>(&self, turn: &mut Turn<'_, '_, R>, shown_by: Writer) -> Result<(), CoreError> {
        let mut ended_ms = 0;
        for (feed, held) in turn.tx.feeds()?.into_iter().filter(|(feed, _)| feed.writer == self.mesh.me) {
            let last = turn.tx.entry(&feed, held.end.seq)?.and_then(|bytes| Entry::decode(&bytes).ok());
            ended_ms = last.map_or(ended_ms, |last| last.stamp.hub_time_ms.max(ended_ms));
        }
        let feed = FeedId { writer: self.mesh.me, channel: Channel::Registry };
        let place = super::journal::Place { feed, seq: Seq::ZERO, branch: None };
        let detail = format!(
            "{shown_by} holds more of what headquarters wrote than its database, which ends at {}: it was put back without a \
             restore. Boxes give back what they hold; top-ups and payments from then to {} are to be entered again from \
             their vouchers",
            moment(ended_ms),
            moment(turn.stamp.hub_time_ms)
        );
        Hub::alarm(turn, place, "put_back", detail);
        Ok(())
    }

    /// Whether the writer of a feed has written as far as a box says; `None` while the writer is not known. A box's word
    /// on its own feeds is its own to keep.
    fn is_proved(&self, from: Writer, claim: &Claim) -> Option<bool> {
        let writer = claim.feed.writer;
        if writer.node.is_hub() {
            return Some(claim.is_signed_by(&self.key.verifying_key()) || proof::sown("claim_believed"));
        }
        let node = self.mesh.nodes.get(&writer)?;
        Some(writer == from || claim.is_signed_by(&node.key))
    }

    fn tell_false_claim<R: Read + ?Sized>(
        turn: &mut Turn<'_, '_, R>,
        from: Writer,
        claim: &Claim,
    ) -> Result<(), CoreError> {
        let key = named(b"!false claim", &from);
        let told_ms: Option<i64> = turn.tx.get(&key)?;
        let now_ms = turn.stamp.hub_time_ms;
        if told_ms.is_none_or(|told_ms| now_ms.saturating_sub(told_ms) >= FALSE_CLAIM_MS) {
            turn.tx.put(key, &now_ms);
            let place = super::journal::Place {
                feed: FeedId { writer: from, channel: Channel::Journal },
                seq: Seq::ZERO,
                branch: None,
            };
            let detail = format!(
                "{from} says that it holds {} up to {} and shows no head that its writer signed: look at that box",
                claim.feed, claim.end.seq
            );
            Hub::alarm(turn, place, "false_claim", detail);
        }
        Ok(())
    }

    /// The registry has grown: what boxes said of writers that were unknown can be judged.
    pub(super) fn judge_again<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        let Some(mut recovery) = self.recovery.take() else { return Ok(()) };
        let mut false_claims = Vec::new();
        for (from, wants) in &mut recovery.wants {
            wants.retain_mut(|want| match want.proved {
                true => true,
                false => match self.is_proved(*from, &want.claim) {
                    Some(false) => {
                        false_claims.push((*from, want.claim.clone()));
                        false
                    }
                    proved => {
                        want.proved = proved.is_some();
                        true
                    }
                },
            });
        }
        self.recovery = Some(recovery);
        self.keep_recovery(turn);
        false_claims.iter().try_for_each(|(from, claim)| Hub::tell_false_claim(turn, *from, claim))
    }

    /// Begins a new life, beyond that generation and every one that is known. Everything that the former one may have signed is
    /// assumed to be out.
    fn recover<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>, beyond: u32) -> Result<(), CoreError> {
        let former = self.mesh.me;
        let name = self.mesh.nodes.get(&former).map_or_else(|| "hub".to_owned(), |n| n.record.name.clone());
        let known = self.mesh.nodes.keys().filter(|life| life.node.is_hub()).map(|life| life.incarnation.generation);
        let generation = known.max().map_or(beyond, |known| known.max(beyond)).saturating_add(1);
        let former_record = self.own_record(&name);
        self.mesh.trust_hub(turn.tx, former_record);
        // Two hubs put back from the same backup are two lives: the later restore has the larger counter.
        let second = u32::try_from(turn.stamp.hub_time_ms.div_euclid(1000)).unwrap_or(u32::MAX);
        let counter = second.saturating_add(self.luck).max(1);
        if !proof::sown("restored_in_the_old_life") {
            self.mesh.me = Writer { node: NodeId::HUB, incarnation: Incarnation { generation, counter } };
        }
        let since_ms = turn.stamp.hub_time_ms;
        self.recovery = Some(Recovery { since_ms, wants: BTreeMap::new() });
        self.waiting.clear();
        self.keep_recovery(turn);
        self.append(turn, Channel::Registry, Body::Node(self.own_record(&name)))?;
        if !proof::sown("former_life_unsigned") {
            self.sign_former_lives(turn)?;
        }
        self.assume_leases(turn)?;
        turn.effects.push(Effect::Recovering(self.mesh.me));
        Ok(())
    }

    /// What a former life had written and not yet signed when it was copied: nobody else signs it now, and unsigned it
    /// would reach no box, though the books say that it was granted or blocked. It is where that life's chain went on.
    fn sign_former_lives<R: Read + ?Sized>(&self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        let former = |feed: &FeedId| feed.writer.node.is_hub() && feed.writer != self.mesh.me;
        for (feed, held) in turn.tx.feeds()?.into_iter().filter(|(feed, _)| former(feed)) {
            turn.tx.keep_head(SignedHead::sign(feed, held.end, &self.key));
        }
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
        if proof::sown("grants_of_former_life_forgotten") {
            return Ok(());
        }
        let (person, key) = (grant.row.person, grant.row.wallet);
        let owner = if person == PersonId(0) { Owner::Pool(receiver) } else { Owner::Person(person) };
        let wallet = self.open(turn, owner)?.wallet(key);
        wallet.last_day = wallet.last_day.max(grant.last_day);
        let replica = self.replica_of(wallet, receiver);
        let more = replica.merge_granted(feed.writer.incarnation, grant.total)?;
        let right = super::books::right_account(owner, key, receiver, replica);
        if more.is_positive() && is_money(key) {
            proof::hit("grant_of_a_former_life");
            let mut posting = self.posting(turn, "regrant")?;
            posting.transfer(Kind::Grant, owner.holder(key), right, more);
            turn.post(posting)?;
        }
        Ok(())
    }

    /// The recovery ends when every living box has greeted and all it held more of has arrived.
    pub(super) fn look_for_reports<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        if self.recovery.is_none() || !self.awaited_in(turn)?.is_empty() && !proof::sown("recovered_at_once") {
            return Ok(());
        }
        proof::hit("recovered");
        self.recovery = None;
        self.keep_recovery(turn);
        self.tell_unknown_grants(turn)?;
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
            let mut missing = Vec::new();
            for want in wants.iter().filter(|want| self.is_wanted(&want.claim.feed)) {
                if held(&want.claim.feed)? < want.claim.end.seq {
                    missing.push(want);
                }
            }
            // Once all that this hub signed is here, a writer that no registry lists is nobody's.
            let registry_is_here = missing.iter().all(|want| !want.claim.feed.writer.node.is_hub());
            if missing.iter().any(|want| want.proved || !registry_is_here) {
                awaited.push(writer);
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
        Ok(Some(Reply::Denied(Denial::Recovering { kept, waiting_for })))
    }

    /// Acts that give out numbers, versions or lives are not done while those given out since the backup are not known.
    pub(super) fn must_wait<R: Read + ?Sized>(
        &self,
        turn: &Turn<'_, '_, R>,
        command: &Command,
    ) -> Result<Option<Reply>, StoreError> {
        match command {
            Command::Registry(body) if !matches!(**body, Body::Node(_)) => self.recovering(turn, Kept::Registry),
            // A former life may have ordered another one for the same document.
            Command::Rebase(_) => self.recovering(turn, Kept::Registry),
            Command::CreateToken { .. } | Command::Redeem { .. } => self.recovering(turn, Kept::Enrolment),
            Command::PersonIds(_) => self.recovering(turn, Kept::NewPeople),
            _ => Ok(None),
        }
    }
}

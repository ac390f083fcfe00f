//! The end of a box's life: its rights go to suspense, and come back when nobody can spend them any more.
//!
//! People are swept in bounded portions, turn by turn; who is touched before is moved at once (`books`). Leaves to
//! others: closing the connection (the shell), late journals (`journal`).

use super::books::Owner;
use super::journal::heard_key;
use super::{CoreError, Effect, Hub, Reply, Turn, named};
use crate::denial::{Denial, Kept};
use crate::ledger::{Account, Kind};
use crate::rights::is_money;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use yika_crdt::Fen;
use yika_crdt::channel::{BlockScope, Channel, FeedId};
use yika_crdt::entry::*;
use yika_crdt::feed::End;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::proof;
use yika_crdt::store::{Read, StoreError, decode_row};

/// People looked at in one turn of a sweep.
pub const SWEEP_PERSONS_MAX: usize = 500;
/// Clocks of boxes may differ so much.
pub const SKEW_MS: i64 = 10 * 60_000;
/// Beyond lease and skew, before rights are released.
pub const GRACE_MS: i64 = 3_600_000;

/// How far a feed was taken beyond a fence; of blocks up to the first lift.
fn taken_after<R: Read + ?Sized>(turn: &Turn<'_, '_, R>, feed: &FeedId, fence: Seq) -> Result<End, StoreError> {
    let end = turn.tx.feed(feed)?.end;
    if !matches!(feed.channel, Channel::Blocks(_)) {
        return Ok(end);
    }
    let mut upto = fence;
    while upto < end.seq {
        let bytes = turn.tx.entry(feed, upto.next())?;
        let is_lift = |entry: Entry| matches!(entry.body, Body::Lift(_));
        if bytes.is_none_or(|bytes| Entry::decode(&bytes).is_ok_and(is_lift)) {
            break;
        }
        upto = upto.next();
    }
    Ok(turn.tx.end_at(feed, upto)?.unwrap_or_default())
}

/// The lives of [`Hub::fence_again`].
const HEARD_ON: &[u8] = b"!heard on";

/// How far a fenced life is wound up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Winding {
    writer: Writer,
    /// What is being done, in order.
    steps: Vec<Step>,
    /// The last person looked at in the first step.
    after: Option<Vec<u8>>,
    /// An operator has advanced its suspense.
    advanced: bool,
    /// Its suspense is released.
    released: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Step {
    /// Rights go to suspense.
    Suspend,
    /// Holders get it out of `loss`.
    Advance,
    /// What is left goes to the holders, or back to `loss` where it was advanced.
    Release,
}

impl Hub {
    pub(super) fn fence<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        writer: Writer,
        reason: String,
    ) -> Result<Reply, CoreError> {
        if writer.node.is_hub() || !self.mesh.nodes.contains_key(&writer) {
            return Ok(Reply::Denied(Denial::UnknownBox { node: writer.node }));
        }
        if self.mesh.is_fenced(writer) {
            return Ok(Reply::Done);
        }
        self.say_fence(turn, writer, reason)?;
        match self.recovery.is_some() {
            // What this hub knows of the box is last night's, of what it ordered itself too.
            true => {
                self.mesh.heard_on.insert(writer);
                turn.tx.put(HEARD_ON.to_vec(), &self.mesh.heard_on);
            }
            false => self.fence_documents(turn, writer)?,
        }
        Ok(Reply::Done)
    }

    fn say_fence<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        writer: Writer,
        reason: String,
    ) -> Result<(), CoreError> {
        let feeds = turn.tx.feeds()?;
        let last = feeds.iter().filter(|(feed, _)| feed.writer == writer);
        let last = last.map(|(feed, held)| (feed.channel, held.end)).collect();
        let granted = feeds.iter().filter(|(feed, _)| grants_to(feed, writer));
        let granted = granted.map(|(feed, held)| (feed.writer.incarnation, held.end.seq)).collect();
        self.append(turn, Channel::Registry, Body::Fence(FenceRecord { writer, last, granted, reason }))?;
        Ok(())
    }

    /// A box that was fenced after the backup, and before the restore, keeps what it was granted in between to itself: who
    /// restored without the log is told that those holders may spend it twice.
    pub(super) fn tell_unknown_grants<R: Read + ?Sized>(&self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        for (writer, fence) in &self.mesh.fences {
            for (life, seq) in &fence.granted {
                let channel = Channel::Rights(*writer);
                let feed = FeedId { writer: Writer { node: NodeId::HUB, incarnation: *life }, channel };
                let held = turn.tx.feed(&feed)?.end.seq;
                if held < *seq {
                    proof::hit("grants_of_a_fenced_box_unknown");
                    let place = super::journal::Place { feed, seq: held, branch: None };
                    let detail = format!(
                        "{writer} was granted rights up to #{seq} before it was fenced, headquarters knows them up to \
                         #{held}: it may have sold for them and cannot be asked; \
                         restore with the log of the same hub if there is one"
                    );
                    Hub::alarm(turn, place, "grants_unknown", detail);
                }
            }
        }
        Ok(())
    }

    /// Lives fenced while this hub took back what it had held: with that the fences are said again, as far as they reach
    /// by it, and the documents of their campuses go on without whatever else they wrote.
    pub(super) fn fence_again<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        if self.recovery.is_some() || self.mesh.heard_on.is_empty() {
            return Ok(());
        }
        for writer in std::mem::take(&mut self.mesh.heard_on) {
            let reason = self.mesh.fences.get(&writer).map(|fence| fence.reason.clone()).unwrap_or_default();
            self.say_fence(turn, writer, reason)?;
            self.fence_documents(turn, writer)?;
        }
        turn.tx.delete(HEARD_ON.to_vec());
        Ok(())
    }

    /// Lifts every open block on a card or person; there must be one.
    pub(super) fn lift<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        target: BlockTarget,
        operator: OperatorId,
    ) -> Result<Reply, CoreError> {
        let open = self.mesh.people.read().open_blocks(target);
        if open.is_empty() {
            return Ok(Reply::Denied(Denial::NothingToLift { target }));
        }
        for (block, _) in &open {
            let lift = Body::Lift(LiftRecord::One { block: *block, operator });
            self.append(turn, Channel::Blocks(BlockScope::Hub), lift)?;
        }
        Ok(Reply::Lifted(open.len()))
    }

    /// Lifts all that the fenced lives of a box blocked, without an end: what of it is found later is lifted too.
    pub(super) fn lift_written<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        node: NodeId,
        operator: OperatorId,
    ) -> Result<Reply, CoreError> {
        let fenced: Vec<_> = self.mesh.fences.keys().filter(|writer| writer.node == node).copied().collect();
        if fenced.is_empty() {
            return Ok(Reply::Denied(Denial::NotFenced { node }));
        }
        let mut lifted = 0;
        for writer in fenced {
            let Some(campus) = self.mesh.place_of(writer).and_then(|place| place.campus) else { continue };
            let feed = FeedId { writer, channel: Channel::Blocks(BlockScope::Campus(campus)) };
            let (from, to) = (Seq(1), Seq(u64::MAX));
            if turn.tx.get_bytes(&keys::lift_range(&(feed, from, to)))?.is_none() {
                lifted += self.mesh.people.read().open_in_range(&feed, from, to).len();
                let lift = LiftRecord::Range { feed, from, to, operator };
                self.append(turn, Channel::Blocks(BlockScope::Hub), Body::Lift(lift))?;
            }
        }
        Ok(Reply::Lifted(lifted))
    }

    /// Every fenced life is wound up; also one that a former life of this hub had fenced.
    pub(super) fn note_fences<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        let fenced: Vec<_> = self.mesh.fences.keys().copied().collect();
        for writer in fenced {
            if turn.tx.get_bytes(&winding_key(writer))?.is_none() {
                let steps = vec![Step::Suspend];
                let winding = Winding { writer, steps, after: None, advanced: false, released: false };
                turn.tx.put(winding_key(writer), &winding);
                self.wind_up(turn, winding)?;
                turn.effects.push(Effect::Fenced(writer));
                self.fence_what_was_taken(turn, writer)?;
            }
        }
        Ok(())
    }

    /// A hub restored from before a fence took from boxes what they had of that life, before it heard of the fence again:
    /// nobody else takes what lies beyond it, so blocks would hold here alone, and an epoch that covers it would be waited for.
    /// The fence is said again as far as it was taken, up to the first lift: who stole the box frees no card by it.
    fn fence_what_was_taken<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        writer: Writer,
    ) -> Result<(), CoreError> {
        let Some(fence) = self.mesh.fences.get(&writer).cloned() else { return Ok(()) };
        let shared =
            |feed: &FeedId| matches!(feed.channel, Channel::Blocks(_) | Channel::People(_) | Channel::Campus(_));
        let mut last = fence.last.clone();
        for (feed, _) in turn.tx.feeds()?.into_iter().filter(|(feed, _)| feed.writer == writer && shared(feed)) {
            let known = self.mesh.fenced_after(&feed).unwrap_or_default();
            let taken = taken_after(turn, &feed, known)?;
            if taken.seq > known {
                last.retain(|(channel, _)| *channel != feed.channel);
                last.push((feed.channel, taken));
            }
        }
        if last != fence.last {
            proof::hit("held_beyond_a_fence_heard_of_later");
            self.append(turn, Channel::Registry, Body::Fence(FenceRecord { last, ..fence }))?;
        }
        Ok(())
    }

    /// An operator gives holders their rights back before it is safe: the worst case is booked to `loss` at once.
    pub(super) fn advance<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        writer: Writer,
        operator: OperatorId,
    ) -> Result<Reply, CoreError> {
        let Some(mut winding) = turn.tx.get::<Winding>(&winding_key(writer))? else {
            return Ok(Reply::Denied(Denial::NotFenced { node: writer.node }));
        };
        if let Some(denied) = self.recovering(turn, Kept::Release)? {
            return Ok(denied);
        }
        if !winding.advanced && !winding.released {
            winding.advanced = true;
            winding.steps.push(Step::Advance);
            turn.tx.put(winding_key(writer), &winding);
            let place = super::journal::Place {
                feed: FeedId { writer, channel: Channel::Journal },
                seq: Seq::ZERO,
                branch: None,
            };
            Hub::alarm(turn, place, "released_early", format!("{operator} released the suspense of {writer}"));
            self.wind_up(turn, winding)?;
        }
        Ok(Reply::Done)
    }

    /// Goes on with every life that is not wound up, and releases what can no longer be spent.
    pub(super) fn sweep<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        let fenced: Vec<_> = self.mesh.fences.keys().copied().collect();
        for writer in fenced {
            let Some(mut winding) = turn.tx.get::<Winding>(&winding_key(writer))? else { continue };
            if winding.steps.is_empty() && !winding.released && self.is_safe(turn, writer)? {
                winding.released = true;
                winding.steps.push(Step::Release);
            }
            if !winding.steps.is_empty() {
                self.wind_up(turn, winding)?;
            }
        }
        Ok(())
    }

    /// What turns up in rights of a life after they were released (its journal was found and gives something back) is
    /// its holder's at once: nobody else will look there again.
    pub(super) fn release_late<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>) -> Result<(), CoreError> {
        for (owner, writer) in turn.books.suspended()? {
            let winding = turn.tx.get::<Winding>(&winding_key(writer))?;
            if winding.is_some_and(|winding| winding.released) {
                self.wind_up_one(turn, owner, writer, Step::Release)?;
            }
        }
        Ok(())
    }

    /// Nobody can spend rights of this life any more: its lease is over for every clock, and every box that could have
    /// taken a cheque of it has told what it did up to then, or is fenced; what they have told is posted, too.
    fn is_safe<R: Read + ?Sized>(&self, turn: &Turn<'_, '_, R>, writer: Writer) -> Result<bool, CoreError> {
        let end_ms = self.lease_end_ms(turn, writer)?.saturating_add(SKEW_MS).saturating_add(GRACE_MS);
        if proof::sown("suspense_released_at_once") {
            return Ok(true);
        }
        if self.recovery.is_some() || turn.stamp.hub_time_ms <= end_ms || !self.holds_what_it_fenced(turn, writer)? {
            return Ok(false);
        }
        for other in self.mesh.nodes.keys().filter(|w| !w.node.is_hub() && **w != writer) {
            let heard: i64 = turn.tx.get(&heard_key(*other))?.unwrap_or(i64::MIN);
            if !self.mesh.is_fenced(*other) && heard <= end_ms && !proof::sown("suspense_released_by_time_only") {
                return Ok(false);
            }
        }
        Ok(!self.awaits_cheque_of(turn, writer)?)
    }

    /// A hub restored from a backup may have held more of a life when it fenced it than it holds: what that life had
    /// given back or spent by then is not to be released, unless an operator takes it upon himself or its disk is found.
    fn holds_what_it_fenced<R: Read + ?Sized>(
        &self,
        turn: &Turn<'_, '_, R>,
        writer: Writer,
    ) -> Result<bool, CoreError> {
        let Some(fence) = self.mesh.fences.get(&writer) else { return Ok(true) };
        for (channel, end) in &fence.last {
            let moves_money = matches!(channel, Channel::Journal | Channel::Rights(_));
            if moves_money && turn.tx.feed(&FeedId { writer, channel: *channel })?.end.seq < end.seq {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One portion of the step that a life is at.
    fn wind_up<R: Read + ?Sized>(&mut self, turn: &mut Turn<'_, '_, R>, mut winding: Winding) -> Result<(), CoreError> {
        let Some(step) = winding.steps.first().copied() else { return Ok(()) };
        let rows = turn.tx.scan(keys::RIGHTS, winding.after.as_deref(), SWEEP_PERSONS_MAX)?;
        let done = rows.len() < SWEEP_PERSONS_MAX;
        for (key, _) in &rows {
            let Some(person) = keys::person_of_rights(key) else { continue };
            self.wind_up_one(turn, Owner::Person(person), winding.writer, step)?;
        }
        winding.after = rows.into_iter().next_back().map(|(key, _)| key);
        if done {
            self.wind_up_one(turn, Owner::Pool(winding.writer), winding.writer, step)?;
            winding.after = None;
            winding.steps.remove(0);
        }
        turn.tx.put(winding_key(winding.writer), &winding);
        Ok(())
    }

    fn wind_up_one<R: Read + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, '_, R>,
        owner: Owner,
        writer: Writer,
        step: Step,
    ) -> Result<(), CoreError> {
        // Opening moves the rights to suspense.
        let wallets = self.open(turn, owner)?;
        let mut moves = Vec::new();
        for (key, wallet) in &mut wallets.wallets {
            let Some(replica) = wallet.replicas.get_mut(&writer) else { continue };
            let left = replica.right()?;
            if step == Step::Suspend || !left.is_positive() {
                continue;
            }
            if step == Step::Advance {
                // A pool's rights are nobody's to wait for.
                if matches!(owner, Owner::Person(_)) {
                    replica.advanced = replica.advanced.add(left)?;
                    moves.push((*key, Fen::ZERO, left));
                }
                continue;
            }
            let repaid = replica.repaid();
            replica.released = replica.released.add(left)?;
            moves.push((*key, left, replica.repaid().sub(repaid)?));
        }
        if moves.is_empty() {
            return Ok(());
        }
        let mut posting = self.posting(turn, "release")?;
        for (key, left, of_loss) in moves.into_iter().filter(|(key, ..)| is_money(*key)) {
            let person = if let Owner::Person(person) = owner { person } else { PersonId(0) };
            let suspense = Account::Suspense(person, key, writer);
            if step == Step::Advance {
                posting.transfer(Kind::Loss, Account::Loss, owner.holder(key), of_loss);
            } else {
                posting.transfer(Kind::Loss, suspense, Account::Loss, of_loss);
                posting.transfer(Kind::Fence, suspense, owner.holder(key), left.sub(of_loss)?);
            }
        }
        turn.post(posting)?;
        if let Owner::Person(person) = owner {
            self.share_out(turn, person)?;
        }
        Ok(())
    }
}

/// Whether a feed holds what a life of headquarters granted to a box.
fn grants_to(feed: &FeedId, writer: Writer) -> bool {
    feed.writer.node.is_hub() && feed.channel == Channel::Rights(writer)
}

/// Lives fenced while this hub recovers.
///
/// # Errors
/// Of storage.
pub(super) fn heard_on<R: Read + ?Sized>(store: &R) -> Result<BTreeSet<Writer>, StoreError> {
    let row = store.get(HEARD_ON)?.map(|bytes| decode_row(HEARD_ON, &bytes)).transpose()?;
    Ok(row.unwrap_or_default())
}

fn winding_key(writer: Writer) -> Vec<u8> {
    named(b"!winding", &writer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use crate::receipts::tests::order;
    use crate::{Command, Identity, LEASE_MS, Teller, balances};
    use ed25519_dalek::SigningKey;
    use std::collections::BTreeMap;
    use yika_crdt::documents::PersonChange;
    use yika_crdt::feed::{self, Hash, Run, SignedHead};
    use yika_crdt::person::{Person, PersonStatus};
    use yika_crdt::store::MemoryStore;

    const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };
    const NOON_MS: i64 = 1_795_494_600_000;
    const PERSON: PersonId = PersonId(1);
    const PAID_IN: Fen = Fen(6_000);

    fn life_of(node: u32) -> Writer {
        Writer { node: NodeId(node), incarnation: LIFE }
    }

    fn key_of(node: NodeId) -> SigningKey {
        SigningKey::from_bytes(&[node.0 as u8 + 1; 32])
    }

    /// A feed of a box, from its beginning.
    fn said(node: u32, channel: Channel, bodies: Vec<Body>, hub_time_ms: i64) -> Command {
        let feed = FeedId { writer: life_of(node), channel };
        let stamp = Stamp { hub_time_ms, boot: 1, mono_ms: 0 };
        let entries: Vec<Vec<u8>> = bodies.into_iter().map(|body| Entry { stamp, body }.encode()).collect();
        let end = entries.iter().fold(End::default(), |end, entry| feed::link(&feed, end, entry));
        let head = SignedHead::sign(feed, end, &key_of(NodeId(node)));
        Command::Ingest(Box::new(Run { from: Seq(1), entries, head }))
    }

    /// Headquarters, two boxes of one campus, each with half of what a person has.
    fn with_two_boxes() -> (Hub, MemoryStore) {
        let mut store = MemoryStore::default();
        let mut hub = Hub::load(&store, Identity { me: life_of(0), key: key_of(NodeId::HUB) }).unwrap();
        let campus = CampusId(1);
        let record = |node| NodeRecord {
            writer: life_of(node),
            campus: (node > 0).then_some(campus),
            key: key_of(NodeId(node)).verifying_key().to_bytes(),
            name: node.to_string(),
            address: None,
        };
        let name = "校区".to_owned();
        let of_campus = CampusRecord { campus, name, utc_offset_minutes: 480, cut_minute: 180, people_shards: 1 };
        let bodies = [Body::Node(record(0)), Body::Campus(of_campus), Body::Node(record(1)), Body::Node(record(2))];
        for body in bodies {
            order(&mut hub, &mut store, Command::Registry(Box::new(body)), NOON_MS);
        }
        let person = Person {
            person: PERSON,
            home: campus,
            name: "测试员".into(),
            staff_number: "0001".into(),
            category: CategoryId(1),
            status: PersonStatus::Active,
            valid: (None, None),
            cards: Vec::new(),
            id_hash: [0; 16],
        };
        let (operator, acts) = (OperatorId(1), vec![PersonChange::add(person)]);
        order(&mut hub, &mut store, Command::People { operator, moves: BTreeMap::new(), acts }, NOON_MS);
        for node in [1, 2] {
            order(&mut hub, &mut store, Command::Connected(life_of(node)), NOON_MS);
        }
        let by = Teller { operator, shift: 1 };
        let top_up = Command::TopUp { id: Hash([1; 32]), person: PERSON, amount: PAID_IN, by };
        order(&mut hub, &mut store, top_up, NOON_MS);
        order(&mut hub, &mut store, Command::Tick { connected: vec![life_of(1), life_of(2)] }, NOON_MS + 1_000);
        (hub, store)
    }

    fn in_suspense(store: &MemoryStore) -> Fen {
        let account = Account::Suspense(PERSON, WalletKey::Main, life_of(1));
        balances(store).unwrap().get(&account).copied().unwrap_or_default()
    }

    /// A sibling has told long since that it took a cheque of the fenced box, and the cheque itself comes only later: it may
    /// be spent, and is not released to the holder before.
    #[test]
    fn what_a_sibling_took_by_cheque_is_not_released_before_the_cheque_is_here() {
        let (mut hub, mut store) = with_two_boxes();
        let half = Fen(PAID_IN.0 / 2);
        order(&mut hub, &mut store, Command::Fence { writer: life_of(1), reason: "burnt".into() }, NOON_MS + 2_000);
        assert_eq!(in_suspense(&store), half);
        let (row, to_sibling) = (Row { person: PERSON, wallet: WalletKey::Main }, Channel::Rights(life_of(2)));
        let cheque = FeedId { writer: life_of(1), channel: to_sibling };
        let taken = Body::Taken(TakenRecord { feed: cheque, seq: Seq(1), row, total: half });
        let over_ms = NOON_MS + LEASE_MS + SKEW_MS + GRACE_MS + 60_000;
        let bodies = vec![taken, Body::Cut(Day(20_784))];
        order(&mut hub, &mut store, said(2, Channel::Journal, bodies, over_ms), over_ms);
        order(&mut hub, &mut store, Command::Tick { connected: vec![life_of(2)] }, over_ms + 1_000);
        assert_eq!(in_suspense(&store), half, "released though the sibling may spend it");
        let given = Body::Grant(GrantRecord { row, total: half, last_day: None, basis: None, lease: None });
        order(&mut hub, &mut store, said(1, to_sibling, vec![given], NOON_MS), over_ms + 2_000);
        order(&mut hub, &mut store, Command::Tick { connected: vec![life_of(2)] }, over_ms + 3_000);
        assert_eq!(in_suspense(&store), Fen::ZERO);
        let right = Account::Right(PERSON, WalletKey::Main, life_of(2));
        assert_eq!(balances(&store).unwrap()[&right], PAID_IN, "the sibling has it, and the holder not again");
    }
}

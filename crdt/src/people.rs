//! The in-memory index that tills and doors decide from: who holds which card, and who is blocked.
//!
//! Shared between the writer thread, which changes it entry by entry, and doors, which only read it; nobody holds the
//! lock across a write to disk. Leaves to others: rows on disk (`mesh`), door policy (`access`).

mod claims;

use crate::access::GroupId;
use crate::channel::{BlockScope, Channel, FeedId};
use crate::docs::Visitor;
use crate::entry::BlockTarget;
use crate::feed::Hash;
use crate::fixed_hash::FixedHashMap;
use crate::ids::*;
use crate::person::{CardState, Person, PersonStatus};
use crate::proof;
use crate::reason::Reason;
use claims::Claims;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The category of visitors: tariffs price it, or visitors buy as guests only.
pub const VISITOR_CATEGORY: CategoryId = CategoryId(0);

/// A person as decisions need it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Home campus.
    pub home: CampusId,
    /// Price and limit class.
    pub category: CategoryId,
    /// Takes part?
    pub status: PersonStatus,
    /// First and last day.
    pub valid: (Option<Day>, Option<Day>),
    /// Cards with their state and last day.
    pub cards: Box<[(CardNumber, CardState, Option<Day>)]>,
}

/// A visitor with a temporary card.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Visit {
    holder: Holder,
    card: CardNumber,
    uid: Option<u64>,
    from_ms: i64,
    until_ms: i64,
    groups: Box<[GroupId]>,
}

/// Cards, holders and blocks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct People {
    holders: FixedHashMap<PersonId, Holder>,
    /// Of two persons with one card number the one whose card is active wins, then the lower id.
    cards: Claims<CardNumber, (u8, PersonId)>,
    uids: Claims<u64, (CardNumber, PersonId)>,
    visits: BTreeMap<PersonId, Visit>,
    /// Asked only where the registry knows no such card.
    visit_cards: Claims<CardNumber, PersonId>,
    visit_uids: Claims<u64, (CardNumber, PersonId)>,
    blocks: BTreeMap<BlockTarget, BTreeMap<Hash, BlockPlace>>,
    /// Which blocks are lifted, and on whose authority: a lift counts if it is the hub's or of the block's own campus.
    lifted: BTreeSet<(Hash, BlockScope)>,
    /// Lifts by boxes and where they stand: beyond the end of a fenced life they do not count.
    lifts: BTreeMap<(Hash, BlockScope), BTreeSet<BlockPlace>>,
    /// The last position of fenced lives on the feed of their blocks and lifts.
    ends: BTreeMap<Writer, Seq>,
    /// Whole ranges of a feed, lifted by the hub: what stands in them is lifted whenever it comes.
    ranges: BTreeMap<FeedId, BTreeSet<(Seq, Seq)>>,
}

/// Where a block stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct BlockPlace {
    /// The feed.
    pub feed: FeedId,
    /// Its position.
    pub seq: Seq,
}

impl BlockPlace {
    /// On whose authority.
    pub fn scope(self) -> BlockScope {
        match self.feed.channel {
            Channel::Blocks(scope) => scope,
            _ => BlockScope::Hub,
        }
    }
}

impl People {
    /// The holder of a usable card on `day`, or why it is refused. A block wins over everything.
    ///
    /// A visitor's card is usable from the first to the last day of the visit; [`People::usable_at`] knows the minute.
    pub fn usable(&self, card: CardNumber, day: Day) -> Result<(PersonId, &Holder), Reason> {
        self.judge(card, day, None)
    }

    /// As [`People::usable`] at a moment of hub time: a visitor's card also keeps to the hours of the visit.
    pub fn usable_at(&self, card: CardNumber, day: Day, hub_time_ms: i64) -> Result<(PersonId, &Holder), Reason> {
        self.judge(card, day, Some(hub_time_ms))
    }

    fn judge(&self, card: CardNumber, day: Day, at_ms: Option<i64>) -> Result<(PersonId, &Holder), Reason> {
        if self.is_blocked(BlockTarget::Card(card)) {
            return Err(Reason::Blocked);
        }
        let Some((_, person)) = self.cards.winner(card) else {
            return self.judge_visit(card, day, at_ms);
        };
        if self.is_blocked(BlockTarget::Person(person)) {
            return Err(Reason::Blocked);
        }
        let holder = self.holders.get(&person).ok_or(Reason::UnknownCard)?;
        let (_, state, until) = holder.cards.iter().find(|(n, _, _)| *n == card).ok_or(Reason::UnknownCard)?;
        if *state != CardState::Active || !holder.takes_part(day) || until.is_some_and(|u| day > u) {
            return Err(Reason::NotActive);
        }
        Ok((person, holder))
    }

    /// A temporary card goes from hand to hand: the visit that holds at the moment counts. Nobody of the registry is a
    /// visitor: a temporary card would spend that person's money.
    fn judge_visit(&self, card: CardNumber, day: Day, at_ms: Option<i64>) -> Result<(PersonId, &Holder), Reason> {
        let mut refusal = Reason::UnknownCard;
        for visitor in self.visit_cards.all(card).filter(|visitor| !self.is_person(*visitor)) {
            let Some(visit) = self.visits.get(&visitor) else { continue };
            let in_hours = at_ms.is_none_or(|ms| (visit.from_ms..visit.until_ms).contains(&ms));
            if !visit.holder.takes_part(day) || !in_hours {
                refusal = Reason::NotActive;
            } else if self.is_blocked(BlockTarget::Person(visitor)) {
                return Err(Reason::Blocked);
            } else {
                return Ok((visitor, &visit.holder));
            }
        }
        Err(refusal)
    }

    /// Whether any block on the target is not lifted.
    pub fn is_blocked(&self, target: BlockTarget) -> bool {
        self.blocks.get(&target).is_some_and(|b| b.iter().any(|block| !self.is_lifted(block)))
    }

    /// The blocks on a target that are not lifted.
    pub fn open_blocks(&self, target: BlockTarget) -> Vec<(Hash, BlockScope)> {
        let blocks = self.blocks.get(&target).into_iter().flatten();
        blocks.filter(|block| !self.is_lifted(*block)).map(|(hash, place)| (*hash, place.scope())).collect()
    }

    /// Whom the un-lifted blocks in a range of a feed stop; once for each block.
    pub fn open_in_range(&self, feed: &FeedId, from: Seq, to: Seq) -> Vec<BlockTarget> {
        let stands = |place: &BlockPlace| place.feed == *feed && (from..=to).contains(&place.seq);
        let blocks = self.blocks.iter().flat_map(|(target, blocks)| blocks.iter().map(move |block| (*target, block)));
        blocks.filter(|(_, block)| stands(block.1) && !self.is_lifted(*block)).map(|(target, _)| target).collect()
    }

    /// A person or visitor as decisions need it.
    pub fn holder(&self, person: PersonId) -> Option<&Holder> {
        self.holders.get(&person).or_else(|| self.visits.get(&person).map(|v| &v.holder))
    }

    /// Whose card it is, usable or not.
    pub fn person_of(&self, card: CardNumber) -> Option<PersonId> {
        self.registered(card).or_else(|| self.visit_cards.all(card).find(|visitor| !self.is_person(*visitor)))
    }

    /// Whether the registry has the person, whatever visits there are under the number.
    pub fn is_person(&self, person: PersonId) -> bool {
        self.holders.contains_key(&person)
    }

    /// Whether there is a visit under the number, on this node's campus.
    pub fn is_visitor(&self, person: PersonId) -> bool {
        self.visits.contains_key(&person)
    }

    /// Whose card it is, with what decisions need of the holder, usable or not.
    pub fn known(&self, card: CardNumber) -> Option<(PersonId, &Holder)> {
        let person = self.person_of(card)?;
        self.holder(person).map(|holder| (person, holder))
    }

    /// The person of the registry whose card it is.
    pub fn registered(&self, card: CardNumber) -> Option<PersonId> {
        self.cards.winner(card).map(|(_, person)| person)
    }

    /// Whether the card number stands with several persons, or with a person and a visitor.
    pub fn is_contested(&self, card: CardNumber) -> bool {
        let persons = self.cards.all(card).count();
        persons > 1 || persons == 1 && self.visit_cards.winner(card).is_some()
    }

    /// The card a reader's chip number belongs to. Of several it is one that is blocked, if any is: a chip that was
    /// reported lost passes under no other number.
    pub fn card_of_uid(&self, uid: u64) -> Option<CardNumber> {
        let claims = || self.uids.all(uid).chain(self.visit_uids.all(uid));
        let is_blocked = |(card, person): &(CardNumber, PersonId)| {
            self.is_blocked(BlockTarget::Card(*card)) || self.is_blocked(BlockTarget::Person(*person))
        };
        claims().find(is_blocked).or_else(|| claims().next()).map(|(card, _)| card)
    }

    /// Another card of the registry with the chip number.
    pub fn other_of_uid(&self, uid: u64, card: CardNumber) -> Option<CardNumber> {
        self.uids.all(uid).map(|(other, _)| other).find(|other| *other != card)
    }

    /// A temporary card with the chip number, on this node's campus.
    pub fn visit_of_uid(&self, uid: u64) -> Option<CardNumber> {
        self.visit_uids.winner(uid).map(|(card, _)| card)
    }

    /// The cards whose 32-bit chip number has these bits: some readers deliver a part of it.
    pub fn cards_of_uid_bits(&self, bits: u32, mask: u32) -> impl Iterator<Item = CardNumber> + '_ {
        let fits = move |uid: &u64| u32::try_from(*uid).is_ok_and(|uid| uid & mask == bits);
        let known = self.uids.after(None).chain(self.visit_uids.after(None));
        known.filter(move |(uid, _)| fits(uid)).filter_map(|(uid, _)| self.card_of_uid(uid))
    }

    /// Up to `limit` card numbers above one, ascending: whole lists are built in steps that hold the lock shortly.
    pub fn cards_after(&self, after: Option<CardNumber>, limit: usize) -> Vec<CardNumber> {
        let persons = self.cards.after(after).map(|(card, _)| card).take(limit);
        let visitors = self.visit_cards.after(after).map(|(card, _)| card).take(limit);
        let cards: BTreeSet<CardNumber> = persons.chain(visitors).collect();
        cards.into_iter().take(limit).collect()
    }

    /// Up to `limit` chip numbers above one with their cards, ascending.
    pub fn chips_after(&self, after: Option<u64>, limit: usize) -> Vec<(u64, CardNumber)> {
        let visitors = self.visit_uids.after(after).take(limit);
        let persons = self.uids.after(after).take(limit);
        let chips: BTreeSet<u64> = visitors.chain(persons).map(|(uid, _)| uid).collect();
        chips.into_iter().take(limit).filter_map(|uid| Some((uid, self.card_of_uid(uid)?))).collect()
    }

    /// Every card that an open block stops, known or not.
    pub fn blocked_cards(&self) -> BTreeSet<CardNumber> {
        let open = self.blocks.keys().copied().filter(|target| self.is_blocked(*target));
        let mut cards = BTreeSet::new();
        for target in open {
            match target {
                BlockTarget::Card(card) => _ = cards.insert(card),
                BlockTarget::Person(person) => {
                    let held = self.holders.get(&person).into_iter().flat_map(|h| h.cards.iter());
                    cards.extend(held.map(|(card, _, _)| *card));
                    cards.extend(self.visits.get(&person).map(|visit| visit.card));
                }
            }
        }
        cards
    }

    /// How many people and cards are indexed, visitors not counted.
    pub fn counts(&self) -> (usize, usize) {
        (self.holders.len(), self.cards.len())
    }

    /// Indexes a person in place of what was known of it.
    pub fn put(&mut self, person: &Person, old: Option<&Person>) {
        if let Some(old) = old {
            self.unclaim(old);
        }
        for card in &person.cards {
            self.cards.add(card.number, (card.state.rank(), person.person));
            if let Some(uid) = card.uid {
                self.uids.add(uid, (card.number, person.person));
            }
        }
        let cards = person.cards.iter().map(|c| (c.number, c.state, c.valid_until)).collect();
        let holder =
            Holder { home: person.home, category: person.category, status: person.status, valid: person.valid, cards };
        self.holders.insert(person.person, holder);
    }

    /// Forgets a person, given as it was indexed.
    pub fn remove(&mut self, old: &Person) {
        self.unclaim(old);
        self.holders.remove(&old.person);
    }

    fn unclaim(&mut self, old: &Person) {
        for card in &old.cards {
            self.cards.remove(card.number, (card.state.rank(), old.person));
            if let Some(uid) = card.uid {
                self.uids.remove(uid, (card.number, old.person));
            }
        }
    }

    /// Indexes a visitor of a campus whose validity covers these days, in place of what was known.
    pub fn put_visitor(&mut self, visitor: &Visitor, home: CampusId, days: (Day, Day)) {
        self.remove_visitor(visitor.visitor);
        let status = if visitor.ended { PersonStatus::Left } else { PersonStatus::Active };
        let valid = (Some(days.0), Some(days.1));
        let holder = Holder { home, category: VISITOR_CATEGORY, status, valid, cards: Box::default() };
        self.visit_cards.add(visitor.card, visitor.visitor);
        if let Some(uid) = visitor.uid {
            self.visit_uids.add(uid, (visitor.card, visitor.visitor));
        }
        let groups = visitor.groups.iter().copied().collect();
        let (card, uid, from_ms, until_ms) = (visitor.card, visitor.uid, visitor.from_ms, visitor.until_ms);
        self.visits.insert(visitor.visitor, Visit { holder, card, uid, from_ms, until_ms, groups });
    }

    /// Forgets a visitor.
    pub fn remove_visitor(&mut self, visitor: PersonId) {
        let Some(visit) = self.visits.remove(&visitor) else { return };
        self.visit_cards.remove(visit.card, visitor);
        if let Some(uid) = visit.uid {
            self.visit_uids.remove(uid, (visit.card, visitor));
        }
    }

    /// Access groups of a visit.
    pub fn visit_groups(&self, visitor: PersonId) -> &[GroupId] {
        self.visits.get(&visitor).map_or(&[], |v| &v.groups)
    }

    /// Indexes a block.
    pub fn block(&mut self, target: BlockTarget, hash: Hash, place: BlockPlace) {
        self.blocks.entry(target).or_default().insert(hash, place);
    }

    /// Indexes a lift, which may come before its block.
    pub fn lift(&mut self, block: Hash, scope: BlockScope) {
        self.lifted.insert((block, scope));
    }

    /// Indexes a lift by a box.
    pub fn lift_at(&mut self, block: Hash, place: BlockPlace) {
        self.lifts.entry((block, place.scope())).or_default().insert(place);
    }

    /// A life is fenced after a position of its blocks and lifts. Whose lifts by it count otherwise than before.
    pub fn end(&mut self, writer: Writer, last: Seq) -> BTreeSet<BlockTarget> {
        let from = self.ends.insert(writer, last).map_or(last, |before| before.min(last));
        let beyond = |place: &BlockPlace| place.feed.writer == writer && place.seq > from;
        let of = self.lifts.iter().filter(|(_, places)| places.iter().any(beyond)).map(|((block, _), _)| *block);
        let blocks: BTreeSet<Hash> = of.collect();
        let stopped = self.blocks.iter().filter(|(_, held)| held.keys().any(|block| blocks.contains(block)));
        stopped.map(|(target, _)| *target).collect()
    }

    /// Indexes a lift by the hub of all that stands in a range of a feed, now or later.
    pub fn lift_range(&mut self, feed: FeedId, from: Seq, to: Seq) {
        self.ranges.entry(feed).or_default().insert((from, to));
    }

    fn is_lifted(&self, (hash, place): (&Hash, &BlockPlace)) -> bool {
        let counts = |at: &BlockPlace| self.ends.get(&at.feed.writer).is_none_or(|last| at.seq <= *last);
        let by = |scope| {
            let key = (*hash, scope);
            self.lifted.contains(&key) || self.lifts.get(&key).is_some_and(|places| places.iter().any(counts))
        };
        let in_range = |ranges: &BTreeSet<_>| ranges.iter().any(|(from, to)| (*from..=*to).contains(&place.seq));
        if proof::sown("lift_of_another_campus_counts") && self.lifts.keys().any(|(block, _)| block == hash) {
            return true;
        }
        by(BlockScope::Hub) || by(place.scope()) || self.ranges.get(&place.feed).is_some_and(in_range)
    }
}

impl Holder {
    fn takes_part(&self, day: Day) -> bool {
        let (first, last) = self.valid;
        self.status == PersonStatus::Active && first.is_none_or(|f| f <= day) && last.is_none_or(|l| day <= l)
    }
}

/// The index as shared between threads.
#[derive(Clone, Debug, Default)]
pub struct SharedPeople(Arc<RwLock<People>>);

impl SharedPeople {
    /// To decide from. Held for one decision.
    pub fn read(&self) -> RwLockReadGuard<'_, People> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To change. Held for one entry.
    pub fn write(&self) -> RwLockWriteGuard<'_, People> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a freshly loaded index in the place of this one, for all who share it.
    pub fn replace(&self, people: People) {
        *self.write() = people;
    }

    /// Takes the index out, leaving an empty one.
    pub fn take(&self) -> People {
        std::mem::take(&mut *self.write())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use crate::person::Card;
    use proptest::prelude::*;

    const CAMPUS: BlockScope = BlockScope::Campus(CampusId(1));
    const CARD: CardNumber = CardNumber(10);

    fn person() -> Person {
        let card = Card { number: CARD, uid: Some(77), state: CardState::Active, valid_until: None };
        Person {
            person: PersonId(1),
            home: CampusId(1),
            name: "测试".into(),
            staff_number: "001".into(),
            category: CategoryId(1),
            status: PersonStatus::Active,
            valid: (None, Some(Day(100))),
            cards: vec![card],
            id_hash: [0; 16],
        }
    }

    fn at(scope: BlockScope, seq: u64) -> BlockPlace {
        let incarnation = Incarnation { generation: 1, counter: 1 };
        let feed = FeedId { writer: Writer { node: NodeId(1), incarnation }, channel: Channel::Blocks(scope) };
        BlockPlace { feed, seq: Seq(seq) }
    }

    fn people() -> People {
        let mut people = People::default();
        people.put(&person(), None);
        people
    }

    #[test]
    fn a_lift_counts_only_on_the_blocks_own_authority() {
        let mut people = people();
        let (ours, hubs) = (Hash([1; 32]), Hash([2; 32]));
        people.block(BlockTarget::Card(CARD), ours, at(CAMPUS, 1));
        people.block(BlockTarget::Card(CARD), hubs, at(BlockScope::Hub, 1));
        people.lift(ours, BlockScope::Campus(CampusId(2)));
        assert_eq!(people.open_blocks(BlockTarget::Card(CARD)).len(), 2);
        people.lift(hubs, CAMPUS);
        assert_eq!(people.open_blocks(BlockTarget::Card(CARD)).len(), 2);
        people.lift(ours, BlockScope::Hub);
        people.lift(hubs, BlockScope::Hub);
        assert!(people.usable(CARD, Day(1)).is_ok());
    }

    #[test]
    fn a_part_of_a_chip_number_finds_every_card_that_has_it() {
        let mut people = people();
        let found = |people: &People, bits, mask| people.cards_of_uid_bits(bits, mask).collect::<Vec<_>>();
        assert_eq!(found(&people, 77, 0xFF), [CARD]);
        assert!(found(&people, 78, 0xFF).is_empty());
        let mut other = Person { person: PersonId(2), ..person() };
        other.cards = vec![Card { number: CardNumber(11), uid: Some(0x0100_0000 | 77), ..other.cards[0].clone() }];
        people.put(&other, None);
        assert_eq!(found(&people, 77, 0xFF), [CARD, CardNumber(11)]);
        assert_eq!(found(&people, 77, u32::MAX), [CARD]);
    }

    #[test]
    fn validity_ends_with_its_day() {
        assert!(people().usable(CARD, Day(100)).is_ok());
        assert_eq!(people().usable(CARD, Day(101)).err(), Some(Reason::NotActive));
        assert_eq!(people().usable(CardNumber(11), Day(1)).err(), Some(Reason::UnknownCard));
    }

    /// Rows ORG-7, CRD-22.
    #[test]
    fn a_card_of_two_persons_has_one_holder_whatever_the_order() {
        let with = |number: u64, state| {
            let card = Card { number: CARD, uid: Some(77), state, valid_until: None };
            Person { person: PersonId(number), cards: vec![card], valid: (None, None), ..person() }
        };
        let all = [with(1, CardState::Cancelled), with(3, CardState::Active), with(2, CardState::Active)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut people = People::default();
            for at in order {
                people.put(&all[at], None);
            }
            assert_eq!(people.usable(CARD, Day(1)).unwrap().0, PersonId(2), "{order:?}");
            people.remove(&all[2]);
            assert_eq!(people.registered(CARD), Some(PersonId(3)));
            people.remove(&all[1]);
            assert_eq!(people.usable(CARD, Day(1)).err(), Some(Reason::NotActive));
            people.remove(&all[0]);
            assert_eq!(people, People::default());
        }
    }

    proptest! {
        /// Blocks, lifts and lifts of ranges commute, and one un-lifted block is enough to refuse (invariant 9).
        #[test]
        fn block_wins_in_any_order(acts in prop::collection::vec((0u8..3, 0u8..4), 0..12), swap in any::<u64>()) {
            let apply = |acts: &[(u8, u8)]| {
                let mut people = people();
                for (act, n) in acts {
                    match act {
                        0 => people.block(BlockTarget::Card(CARD), Hash([*n; 32]), at(CAMPUS, u64::from(*n))),
                        1 => people.lift(Hash([*n; 32]), CAMPUS),
                        _ => people.lift_range(at(CAMPUS, 0).feed, Seq(u64::from(*n)), Seq(u64::from(*n) + 1)),
                    }
                }
                people.is_blocked(BlockTarget::Card(CARD))
            };
            let mut other = acts.clone();
            other.sort_by_key(|(act, n)| (u64::from(*n) * 3 + u64::from(*act)).wrapping_mul(swap | 1));
            let is_lifted = |n: u8| {
                acts.contains(&(1, n)) || acts.contains(&(2, n)) || n > 0 && acts.contains(&(2, n - 1))
            };
            let expected = acts.iter().any(|(act, n)| *act == 0 && !is_lifted(*n));
            prop_assert_eq!(apply(&acts), expected);
            prop_assert_eq!(apply(&other), expected);
        }
    }
}

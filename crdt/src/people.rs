//! The in-memory index that tills and doors decide from: who holds which card, and who is blocked.
//!
//! Shared between the writer thread, which changes it entry by entry, and doors, which only read it; nobody holds the
//! lock across a write to disk. Leaves to others: rows on disk (`mesh`), door policy (`access`).

use crate::channel::BlockScope;
use crate::entry::BlockTarget;
use crate::feed::Hash;
use crate::ids::*;
use crate::person::{CardState, Person, PersonStatus};
use crate::reason::Reason;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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

/// Cards, holders and blocks.
#[derive(Clone, Debug, Default)]
pub struct People {
    holders: BTreeMap<PersonId, Holder>,
    cards: BTreeMap<CardNumber, PersonId>,
    uids: BTreeMap<u64, CardNumber>,
    blocks: BTreeMap<BlockTarget, BTreeMap<Hash, BlockScope>>,
    /// Which blocks are lifted, and on whose authority: a lift counts if it is the hub's or of the block's own campus.
    lifted: BTreeSet<(Hash, BlockScope)>,
}

impl People {
    /// The holder of a usable card on `day`, or why it is refused. A block wins over everything.
    pub fn usable(&self, card: CardNumber, day: Day) -> Result<(PersonId, &Holder), Reason> {
        if self.is_blocked(BlockTarget::Card(card)) {
            return Err(Reason::Blocked);
        }
        let person = *self.cards.get(&card).ok_or(Reason::UnknownCard)?;
        if self.is_blocked(BlockTarget::Person(person)) {
            return Err(Reason::Blocked);
        }
        let holder = self.holders.get(&person).ok_or(Reason::UnknownCard)?;
        let (_, state, until) = holder.cards.iter().find(|(n, _, _)| *n == card).ok_or(Reason::UnknownCard)?;
        let in_time = until.is_none_or(|u| day <= u)
            && holder.valid.0.is_none_or(|f| day >= f)
            && holder.valid.1.is_none_or(|u| day <= u);
        if *state != CardState::Active || holder.status != PersonStatus::Active || !in_time {
            return Err(Reason::NotActive);
        }
        Ok((person, holder))
    }

    /// Whether any block on the target is not lifted.
    pub fn is_blocked(&self, target: BlockTarget) -> bool {
        self.blocks.get(&target).is_some_and(|b| b.iter().any(|block| !self.is_lifted(block)))
    }

    /// The blocks on a target that are not lifted.
    pub fn open_blocks(&self, target: BlockTarget) -> Vec<(Hash, BlockScope)> {
        let blocks = self.blocks.get(&target).into_iter().flatten();
        blocks.filter(|block| !self.is_lifted(*block)).map(|(h, s)| (*h, *s)).collect()
    }

    /// A person as decisions need it.
    pub fn holder(&self, person: PersonId) -> Option<&Holder> {
        self.holders.get(&person)
    }

    /// Whose card it is, usable or not.
    pub fn person_of(&self, card: CardNumber) -> Option<PersonId> {
        self.cards.get(&card).copied()
    }

    /// The card a reader's chip number belongs to.
    pub fn card_of_uid(&self, uid: u64) -> Option<CardNumber> {
        self.uids.get(&uid).copied()
    }

    /// The only card whose 32-bit chip number has these bits: some readers deliver a part of it. `None` if several have.
    pub fn card_of_uid_bits(&self, bits: u32, mask: u32) -> Option<CardNumber> {
        let fits = |uid: &u64| u32::try_from(*uid).is_ok_and(|uid| uid & mask == bits);
        let mut cards = self.uids.iter().filter(|(uid, _)| fits(uid)).map(|(_, card)| *card);
        let first = cards.next();
        first.filter(|_| cards.next().is_none())
    }

    /// Up to `limit` card numbers above one, ascending: whole lists are built in steps that hold the lock shortly.
    pub fn cards_after(&self, after: Option<CardNumber>, limit: usize) -> Vec<CardNumber> {
        self.cards.range(above(after)).take(limit).map(|(card, _)| *card).collect()
    }

    /// Up to `limit` chip numbers above one with their cards, ascending.
    pub fn chips_after(&self, after: Option<u64>, limit: usize) -> Vec<(u64, CardNumber)> {
        self.uids.range(above(after)).take(limit).map(|(uid, card)| (*uid, *card)).collect()
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
                }
            }
        }
        cards
    }

    /// How many people and cards are indexed.
    pub fn counts(&self) -> (usize, usize) {
        (self.holders.len(), self.cards.len())
    }

    /// Indexes a person in place of what was known of it.
    pub fn put(&mut self, person: &Person, old: Option<&Person>) {
        for card in old.into_iter().flat_map(|p| &p.cards) {
            if self.cards.get(&card.number) == Some(&person.person) {
                self.cards.remove(&card.number);
            }
            if let Some(uid) = card.uid {
                self.uids.remove(&uid);
            }
        }
        for card in &person.cards {
            self.cards.insert(card.number, person.person);
            if let Some(uid) = card.uid {
                self.uids.insert(uid, card.number);
            }
        }
        let cards = person.cards.iter().map(|c| (c.number, c.state, c.valid_until)).collect();
        let holder =
            Holder { home: person.home, category: person.category, status: person.status, valid: person.valid, cards };
        self.holders.insert(person.person, holder);
    }

    /// Indexes a block.
    pub fn block(&mut self, target: BlockTarget, hash: Hash, scope: BlockScope) {
        self.blocks.entry(target).or_default().insert(hash, scope);
    }

    /// Indexes a lift, which may come before its block.
    pub fn lift(&mut self, block: Hash, scope: BlockScope) {
        self.lifted.insert((block, scope));
    }

    fn is_lifted(&self, (hash, scope): (&Hash, &BlockScope)) -> bool {
        self.lifted.contains(&(*hash, BlockScope::Hub)) || self.lifted.contains(&(*hash, *scope))
    }
}

fn above<K>(after: Option<K>) -> (Bound<K>, Bound<K>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
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

    fn people() -> People {
        let mut people = People::default();
        people.put(&person(), None);
        people
    }

    #[test]
    fn a_lift_counts_only_on_the_blocks_own_authority() {
        let mut people = people();
        let (ours, hubs) = (Hash([1; 32]), Hash([2; 32]));
        people.block(BlockTarget::Card(CARD), ours, CAMPUS);
        people.block(BlockTarget::Card(CARD), hubs, BlockScope::Hub);
        people.lift(ours, BlockScope::Campus(CampusId(2)));
        assert_eq!(people.open_blocks(BlockTarget::Card(CARD)).len(), 2);
        people.lift(hubs, CAMPUS);
        assert_eq!(people.open_blocks(BlockTarget::Card(CARD)).len(), 2);
        people.lift(ours, BlockScope::Hub);
        people.lift(hubs, BlockScope::Hub);
        assert!(people.usable(CARD, Day(1)).is_ok());
    }

    #[test]
    fn a_part_of_a_chip_number_finds_a_card_only_if_no_other_has_it() {
        let mut people = people();
        assert_eq!(people.card_of_uid_bits(77, 0xFF), Some(CARD));
        assert_eq!(people.card_of_uid_bits(78, 0xFF), None);
        let mut other = Person { person: PersonId(2), ..person() };
        other.cards = vec![Card { number: CardNumber(11), uid: Some(0x0100_0000 | 77), ..other.cards[0].clone() }];
        people.put(&other, None);
        assert_eq!(people.card_of_uid_bits(77, 0xFF), None);
        assert_eq!(people.card_of_uid_bits(77, u32::MAX), Some(CARD));
    }

    #[test]
    fn validity_ends_with_its_day() {
        assert!(people().usable(CARD, Day(100)).is_ok());
        assert_eq!(people().usable(CARD, Day(101)).err(), Some(Reason::NotActive));
        assert_eq!(people().usable(CardNumber(11), Day(1)).err(), Some(Reason::UnknownCard));
    }

    proptest! {
        /// Blocks and lifts commute, and one un-lifted block is enough to refuse (invariant 9).
        #[test]
        fn block_wins_in_any_order(acts in prop::collection::vec((any::<bool>(), 0u8..4), 0..12), swap in any::<u64>()) {
            let apply = |acts: &[(bool, u8)]| {
                let mut people = people();
                for (is_block, n) in acts {
                    match is_block {
                        true => people.block(BlockTarget::Card(CARD), Hash([*n; 32]), CAMPUS),
                        false => people.lift(Hash([*n; 32]), CAMPUS),
                    }
                }
                people.is_blocked(BlockTarget::Card(CARD))
            };
            let mut other = acts.clone();
            other.sort_by_key(|(b, n)| (u64::from(*n) * 2 + u64::from(*b)).wrapping_mul(swap | 1));
            let expected = acts.iter().any(|(b, n)| *b && !acts.contains(&(false, *n)));
            prop_assert_eq!(apply(&acts), expected);
            prop_assert_eq!(apply(&other), expected);
        }
    }
}

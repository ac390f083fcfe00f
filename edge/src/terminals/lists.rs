//! Block and card lists by version, rebuilt from the index in memory when people, cards or blocks change (TRM-5, 6).
//!
//! A connected terminal is decided for by the edge, so a list may lag by [`REBUILD_EVERY_MS`]. Leaves to others:
//! versions and differences (`yika_drivers::terminal::list`), how many may ask at once (`http`).

use super::Terminals;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use yika_crdt::civil;
use yika_crdt::ids::{CardNumber, CategoryId, Day};
use yika_crdt::people::SharedPeople;
use yika_drivers::terminal::list::{BlockLine, CardLine, LIST_LINES_MAX, ListDelta, VersionedList};

/// Lists are rebuilt at most this often, in milliseconds. Not below a second: versions start at the box's time in
/// seconds, so that those of an earlier run are always smaller.
pub(super) const REBUILD_EVERY_MS: u64 = 1_000;
/// Lists are rebuilt at least this often, in milliseconds: a card's validity ends without an event.
const REBUILD_AT_LEAST_EVERY_MS: u64 = 600_000;
/// Cards looked at under one hold of the index, which doors and the writer also need.
const STEP_CARDS: usize = 512;

/// Both lists.
pub(super) struct Lists {
    blocks: RwLock<VersionedList<BlockLine>>,
    cards: RwLock<VersionedList<CardLine>>,
}

impl Lists {
    pub(super) fn new(now_ms: i64) -> Lists {
        let first = u64::try_from(now_ms / 1000).unwrap_or(1);
        Lists { blocks: RwLock::new(VersionedList::new(first)), cards: RwLock::new(VersionedList::new(first)) }
    }

    pub(super) fn versions(&self) -> (u64, u64) {
        let (blocks, cards) = (self.blocks.read(), self.cards.read());
        let blocks = blocks.unwrap_or_else(PoisonError::into_inner).version();
        (blocks, cards.unwrap_or_else(PoisonError::into_inner).version())
    }

    pub(super) fn blocks(&self, have: u64) -> ListDelta<BlockLine> {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner).delta(have)
    }

    pub(super) fn cards(&self, have: u64) -> ListDelta<CardLine> {
        self.cards.read().unwrap_or_else(PoisonError::into_inner).delta(have)
    }

    /// Takes the index in as it is. Slow for many cards: not on a runtime's thread.
    fn rebuild(&self, people: &SharedPeople, today: Day) {
        let blocked = people.read().blocked_cards().into_iter().map(|card| BlockLine { card: card.0 });
        self.blocks.write().unwrap_or_else(PoisonError::into_inner).replace(blocked);
        let cards = usable_cards(people, today);
        self.cards.write().unwrap_or_else(PoisonError::into_inner).replace(cards);
    }
}

/// Rebuilds the lists as long as the interface lives.
pub(super) fn watch_people(terminals: &Arc<Terminals>) {
    let mut changed = terminals.node.ears().changed.subscribe();
    changed.mark_changed();
    let terminals: Weak<Terminals> = Arc::downgrade(terminals);
    tokio::spawn(async move {
        let mut pause = tokio::time::interval(Duration::from_millis(REBUILD_EVERY_MS));
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pause.tick().await;
            let at_least = Duration::from_millis(REBUILD_AT_LEAST_EVERY_MS);
            if let Ok(Err(_)) = tokio::time::timeout(at_least, changed.changed()).await {
                return;
            }
            let Some(terminals) = terminals.upgrade() else { return };
            terminals.names.forget();
            let rebuilding = tokio::task::spawn_blocking(move || {
                let today = terminals.today();
                terminals.lists.rebuild(&terminals.node.people, today);
            });
            if let Err(error) = rebuilding.await {
                tracing::error!(%error, "the terminals' lists cannot be rebuilt");
            }
        }
    });
}

impl Terminals {
    /// The business day that the clock says.
    pub(super) fn today(&self) -> Day {
        let registry = self.node.registry();
        let campus = self.node.place().campus.and_then(|campus| registry.campuses.get(&campus));
        let (offset, cut) = campus.map_or((480, 180), |c| (c.utc_offset_minutes, c.cut_minute));
        civil::business_day(self.node.time().0, offset, cut)
    }
}

/// Cards that may be served today, in steps. A change between two steps brings another rebuild.
fn usable_cards(people: &SharedPeople, today: Day) -> Vec<CardLine> {
    let chips = chips_by_card(people);
    let mut lines = Vec::new();
    let mut after = None;
    while lines.len() < LIST_LINES_MAX {
        let (next, usable) = usable_step(people, after, today);
        lines.extend(usable.into_iter().map(|(card, category)| CardLine {
            card: card.0,
            chip: chips.get(&card).copied(),
            category: category.0,
        }));
        match next {
            Some(_) => after = next,
            None => break,
        }
    }
    lines
}

fn usable_step(
    people: &SharedPeople,
    after: Option<CardNumber>,
    today: Day,
) -> (Option<CardNumber>, Vec<(CardNumber, CategoryId)>) {
    let people = people.read();
    let cards = people.cards_after(after, STEP_CARDS);
    let usable = cards.iter().filter_map(|card| Some((*card, people.usable(*card, today).ok()?.1.category)));
    (cards.last().copied(), usable.collect())
}

fn chips_by_card(people: &SharedPeople) -> BTreeMap<CardNumber, u64> {
    let mut chips = BTreeMap::new();
    let mut after = None;
    loop {
        let step = people.read().chips_after(after, STEP_CARDS);
        let Some((last, _)) = step.last().copied() else { return chips };
        chips.extend(step.into_iter().map(|(chip, card)| (card, chip)));
        after = Some(last);
    }
}

//! Purchases that may have been answered at another box of the campus: when siblings are asked before one is decided,
//! and what a sibling that asks is told (design section 5).
//!
//! In memory only: what is forgotten at a restart is asked once more. Pure; leaves to others: saying it, waiting within a
//! bound, and looking whether an id is answered (the shell); two sales all the same (the hub pairs them).

use crate::ids::{NodeId, PurchaseId, TerminalId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Ids remembered as left to a sibling, and as abandoned; beyond that the oldest are forgotten.
pub const IDS_MAX: usize = 4_096;

/// What this box has to do with ids of terminals that may also be served by its siblings.
#[derive(Debug)]
pub struct Resends {
    me: NodeId,
    /// Boot and number of the last id that this box took for a terminal: the next one is nobody else's.
    last: BTreeMap<TerminalId, (u32, u32)>,
    deciding: BTreeMap<PurchaseId, Deciding>,
    /// A sibling was told that they are unknown here: it decides.
    left: Remembered,
    /// Whoever asked for them is gone; whether they were decided will show.
    abandoned: Remembered,
}

/// An id that is being decided.
#[derive(Debug, Default)]
struct Deciding {
    /// How many requests for it are under way.
    requests: usize,
    /// Siblings were asked.
    asks: bool,
    /// Who has said that it is unknown there: it is left to this box.
    left_by: BTreeSet<NodeId>,
    /// Who asks about it, and is told when it is not answered here.
    askers: BTreeSet<NodeId>,
}

/// What to do about a sibling's question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// Say that it is unknown here.
    Unknown,
    /// Say so, unless it is answered: then say that it is decided here, until the journal is there.
    Look,
    /// Say that it is being decided here: the journal will tell, or [`Resends::end`].
    Deciding,
    /// Say nothing: the journal will tell, or nobody can.
    Wait,
}

impl Resends {
    /// Nothing is known yet.
    pub fn new(me: NodeId) -> Resends {
        let (left, abandoned) = (Remembered::default(), Remembered::default());
        Resends { me, last: BTreeMap::new(), deciding: BTreeMap::new(), left, abandoned }
    }

    /// A request begins; true if siblings are to be asked first, unless the id is answered here.
    pub fn begin(&mut self, id: PurchaseId) -> bool {
        if let Some(deciding) = self.deciding.get_mut(&id) {
            deciding.requests += 1;
            return deciding.asks;
        }
        let follows = self
            .last
            .get(&id.terminal)
            .is_some_and(|(boot, seq)| *boot == id.boot && seq.checked_add(1) == Some(id.seq));
        let asks = !follows || self.left.contains(id);
        if !asks {
            self.last.insert(id.terminal, (id.boot, id.seq));
        }
        self.deciding.insert(id, Deciding { requests: 1, asks, ..Deciding::default() });
        asks
    }

    /// A sibling asks whether this box has answered an id.
    pub fn question(&mut self, from: NodeId, id: PurchaseId) -> Question {
        match self.deciding.get_mut(&id) {
            // Both ask each other: the smaller number decides, unless it has left the id to this box.
            Some(deciding) if deciding.asks && from < self.me && !deciding.left_by.contains(&from) => Question::Unknown,
            Some(deciding) => {
                deciding.askers.insert(from);
                Question::Deciding
            }
            None if self.abandoned.contains(id) => Question::Wait,
            None => {
                self.left.insert(id);
                Question::Look
            }
        }
    }

    /// A sibling has said that an id is unknown there, and is left to this box.
    pub fn unknown(&mut self, from: NodeId, id: PurchaseId) {
        if let Some(deciding) = self.deciding.get_mut(&id) {
            deciding.left_by.insert(from);
        }
    }

    /// A request is over: answered in somebody's journal, or not. Gives the siblings to be told that the id is unknown
    /// here.
    pub fn end(&mut self, id: PurchaseId, answered_by: Option<NodeId>) -> BTreeSet<NodeId> {
        if answered_by == Some(self.me) {
            let last = self.last.entry(id.terminal).or_insert((id.boot, id.seq));
            *last = (id.boot, id.seq).max(*last);
        }
        let Some(deciding) = self.deciding.get_mut(&id) else { return BTreeSet::new() };
        deciding.requests -= 1;
        if deciding.requests > 0 {
            return BTreeSet::new();
        }
        let askers = self.deciding.remove(&id).map(|deciding| deciding.askers).unwrap_or_default();
        if answered_by.is_some() {
            return BTreeSet::new();
        }
        if !askers.is_empty() {
            self.left.insert(id);
        }
        askers
    }

    /// Whoever made a request is gone, and nobody here knows whether it was decided.
    pub fn abandon(&mut self, id: PurchaseId) {
        self.abandoned.insert(id);
        if let Some(deciding) = self.deciding.get_mut(&id) {
            deciding.requests -= 1;
            if deciding.requests == 0 {
                self.deciding.remove(&id);
            }
        }
    }
}

/// The newest [`IDS_MAX`] of some ids.
#[derive(Debug, Default)]
struct Remembered {
    ids: BTreeSet<PurchaseId>,
    order: VecDeque<PurchaseId>,
}

impl Remembered {
    fn contains(&self, id: PurchaseId) -> bool {
        self.ids.contains(&id)
    }

    fn insert(&mut self, id: PurchaseId) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn id(seq: u32) -> PurchaseId {
        PurchaseId { terminal: TerminalId(10), boot: 1, seq }
    }

    #[test]
    fn a_terminal_that_stays_is_asked_about_once() {
        let mut here = Resends::new(ONE);
        assert!(here.begin(id(5)), "who served it before is not known");
        assert!(here.end(id(5), Some(ONE)).is_empty());
        for seq in 6..10 {
            assert!(!here.begin(id(seq)));
            here.end(id(seq), Some(ONE));
        }
        assert!(here.begin(id(9)), "sent again");
        assert!(here.begin(id(12)), "two were perhaps sold elsewhere");
        assert!(here.begin(PurchaseId { boot: 2, ..id(10) }), "another boot");
    }

    #[test]
    fn many_of_one_terminal_at_once_are_asked_about_once() {
        let mut here = Resends::new(ONE);
        here.begin(id(1));
        here.end(id(1), Some(ONE));
        assert!((2..50).all(|seq| !here.begin(id(seq))));
    }

    #[test]
    fn what_was_left_to_a_sibling_is_not_decided_unasked() {
        let mut here = Resends::new(ONE);
        here.begin(id(1));
        here.end(id(1), Some(ONE));
        assert_eq!(here.question(TWO, id(2)), Question::Look);
        assert!(here.begin(id(2)));
    }

    #[test]
    fn who_asks_while_it_is_decided_hears_only_if_it_was_not_answered() {
        let mut here = Resends::new(TWO);
        here.begin(id(1));
        here.end(id(1), Some(TWO));
        here.begin(id(2));
        assert_eq!(
            here.question(ONE, id(2)),
            Question::Deciding,
            "decided without asking, whoever has the smaller number"
        );
        assert!(here.end(id(2), Some(TWO)).is_empty(), "the journal tells");
        here.begin(id(3));
        assert_eq!(here.question(ONE, id(3)), Question::Deciding);
        assert_eq!(here.end(id(3), None), BTreeSet::from([ONE]));
        assert!(here.begin(id(3)), "left to the sibling");
    }

    #[test]
    fn two_that_ask_each_other_do_not_both_decide() {
        let (mut one, mut two) = (Resends::new(ONE), Resends::new(TWO));
        assert!(one.begin(id(1)) && two.begin(id(1)));
        assert_eq!(two.question(ONE, id(1)), Question::Unknown);
        assert_eq!(one.question(TWO, id(1)), Question::Deciding);
    }

    #[test]
    fn what_was_left_to_a_box_it_decides_whatever_its_number() {
        let (mut one, mut two) = (Resends::new(ONE), Resends::new(TWO));
        one.begin(id(1));
        one.end(id(1), Some(ONE));
        assert!(two.begin(id(2)));
        assert_eq!(one.question(TWO, id(2)), Question::Look);
        two.unknown(ONE, id(2));
        assert!(one.begin(id(2)), "though it follows what this box has served");
        assert_eq!(two.question(ONE, id(2)), Question::Deciding);
    }

    #[test]
    fn a_terminal_is_its_siblings_while_that_answers() {
        let mut two = Resends::new(TWO);
        assert!(two.begin(id(1)));
        two.end(id(1), Some(ONE));
        assert!(two.begin(id(2)));
    }

    #[test]
    fn two_requests_for_one_id_are_over_when_both_are() {
        let mut here = Resends::new(ONE);
        here.begin(id(1));
        here.begin(id(1));
        assert_eq!(here.question(TWO, id(1)), Question::Deciding);
        assert!(here.end(id(1), None).is_empty());
        assert_eq!(here.end(id(1), None), BTreeSet::from([TWO]));
    }

    #[test]
    fn of_an_abandoned_request_nothing_is_said() {
        let mut here = Resends::new(ONE);
        here.begin(id(1));
        here.abandon(id(1));
        assert_eq!(here.question(TWO, id(1)), Question::Wait);
        assert!(here.deciding.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut here = Resends::new(ONE);
        for seq in 0..2 * IDS_MAX as u32 {
            here.question(TWO, id(seq));
        }
        assert_eq!((here.left.ids.len(), here.left.order.len()), (IDS_MAX, IDS_MAX));
        assert!(here.left.contains(id(2 * IDS_MAX as u32 - 1)) && !here.left.contains(id(0)));
    }
}

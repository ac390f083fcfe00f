//! Clerks who do at once what contradicts: a card is blocked here and there and found again, lost as soon as it is handed
//! out, a person is renamed at a box and at headquarters, somebody gets his money back at both.
//!
//! Leaves to others: clerks in quieter times (`office`), what must hold of blocks (`crowd`).

use crate::crowd::{FIRST_CARD, Terminal};
use crate::office;
use crate::plan::Class;
use crate::world::World;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::docs::PersonAct;
use yika_crdt::documents::PersonChange;
use yika_crdt::edge;
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::store::Read;
use yika_hub_core as core;

const CLERK: OperatorId = OperatorId(8);
/// New people of a history.
const NEWCOMERS_MAX: u64 = 6;
/// A box does not hear of its fence for so long.
const UNHEARD_MS: i64 = 8_000;

impl World {
    /// Several clerks at once.
    pub fn clerks(&mut self) {
        self.struck(Class::Clerks);
        let person = 1 + self.chance.below(self.plan.people);
        match self.chance.below(5) {
            0 | 1 => self.block_here_and_there(person),
            2 if self.crowd.newcomers < NEWCOMERS_MAX => self.lose_at_once(),
            3 => self.give_back_at_both(),
            _ => self.rename(person),
        }
    }

    /// One clerk blocks a card and hears that it was found, while another blocks it at a box.
    fn block_here_and_there(&mut self, person: u64) {
        let target = BlockTarget::Card(CardNumber(FIRST_CARD + person));
        let block = BlockRecord { target, reason: BlockReason::Lost, operator: CLERK };
        let n = self.chance.below(self.boxes.len() as u64) as usize;
        let orders = [core::Command::Block(block.clone()), core::Command::Lift { target, operator: CLERK }];
        _ = self.order(orders[0].clone());
        self.tally.blocks += u64::from(self.tell(n, edge::Command::Block(block.clone())).is_ok());
        _ = self.order(orders[1].clone());
        // The same two ways round: the box lifts its own, and blocks again.
        if self.chance.one_in(2) {
            _ = self.tell(n, edge::Command::Lift { target, operator: CLERK });
            _ = self.tell(n, edge::Command::Block(block));
        }
    }

    /// Somebody new gets a card, pays in, and loses the card.
    fn lose_at_once(&mut self) {
        let person = self.plan.people + self.crowd.newcomers + 1;
        let acts = vec![PersonChange::add(office::person(person))];
        if self.order(core::Command::People { operator: CLERK, moves: Default::default(), acts }).is_err() {
            return;
        }
        self.crowd.newcomers += 1;
        let target = BlockTarget::Card(CardNumber(FIRST_CARD + person));
        let block = BlockRecord { target, reason: BlockReason::Lost, operator: CLERK };
        self.tally.blocks += u64::from(self.order(core::Command::Block(block)).is_ok());
        self.top_up(person, 9_000);
    }

    /// A person is renamed at a box of his campus and at headquarters.
    fn rename(&mut self, person: u64) {
        let n = self.chance.below(self.boxes.len() as u64) as usize;
        let home = CampusId(1);
        self.name_is_unsure(PersonId(person));
        let act = |name: String| vec![PersonChange { person: PersonId(person), home, act: PersonAct::SetName(name) }];
        let number = self.chance.below(1_000);
        if self.boxes[n].place.campus == Some(home) {
            let acts = act(format!("甲{number}"));
            _ = self.tell(n, edge::Command::People { operator: CLERK, acts });
        }
        if self.chance.one_in(2) {
            let acts = act(format!("乙{number}"));
            _ = self.order(core::Command::People { operator: CLERK, moves: Default::default(), acts });
        }
    }

    /// A box is fenced and does not hear of it: it gives a sale back, and so does headquarters, as the box no longer may.
    fn give_back_at_both(&mut self) {
        let n = self.chance.below(self.boxes.len() as u64) as usize;
        let (life, at) = (self.boxes[n].me, self.boxes[n].address);
        let is_sound = !self.losses.doubtful.contains(&life) && !self.was_put_back(n) && !self.fenced.contains(&life);
        let Some((t, of)) = self.sold_and_heard(n).filter(|_| is_sound) else { return };
        self.others(at).into_iter().for_each(|other| self.cut_for(at, other, UNHEARD_MS));
        self.fence(n);
        if self.fenced.contains(&life) {
            self.note(|| format!("{of} is given back at {life} and at headquarters"));
            self.give_back_at(t, of, None);
            self.refund_by_headquarters(of);
        }
    }

    /// A sale of a box that headquarters has heard of, with its terminal.
    fn sold_and_heard(&self, n: usize) -> Option<(usize, PurchaseId)> {
        let node = &self.boxes[n];
        let journal = FeedId { writer: node.me, channel: Channel::Journal };
        let entries = self.hub.disk.entries(&journal, Seq(1), usize::MAX).unwrap_or_default();
        let sales = entries.iter().rev().filter_map(|bytes| match Entry::decode(bytes).ok()?.body {
            Body::Purchase(sale) => Some(sale.id),
            _ => None,
        });
        let is_free = |of: PurchaseId| {
            let asks =
                |terminal: &Terminal| terminal.id == of.terminal && terminal.at == n && terminal.waiting.is_none();
            self.crowd.answers.get(&of).and(self.crowd.terminals.iter().position(asks))
        };
        sales.filter_map(|of| Some((is_free(of)?, of))).next()
    }
}

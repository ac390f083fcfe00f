//! What clerks do, at headquarters and at boxes: money in and out, cards lost and found, refunds after the day.
//!
//! Leaves to others: what follows (`turn`).

use crate::crowd::FIRST_CARD;
use crate::plan::Class;
use crate::world::{Event, World};
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::edge;
use yika_crdt::entry::*;
use yika_crdt::feed::digest;
use yika_crdt::ids::*;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_crdt::sale::Answer;
use yika_crdt::store::Read;
use yika_hub_core::{self as core, Teller};

const TELLER: Teller = Teller { operator: OperatorId(1), shift: 1 };
const CLERK: OperatorId = OperatorId(7);
/// Whose people eat.
pub const HOME: CampusId = CampusId(1);

/// A person with one card.
pub fn person(number: u64) -> Person {
    let card = Card { number: CardNumber(FIRST_CARD + number), uid: None, state: CardState::Active, valid_until: None };
    Person {
        person: PersonId(number),
        home: HOME,
        name: format!("测试员{number}"),
        staff_number: format!("{number:04}"),
        category: CategoryId(1),
        status: PersonStatus::Active,
        valid: (None, None),
        cards: vec![card],
        id_hash: [0; 16],
    }
}

impl World {
    /// A clerk does something.
    pub fn office(&mut self) {
        if !self.is_busy() {
            return;
        }
        let after_ms = self.chance.between(300, 4_000);
        self.later(after_ms, Event::Office);
        let person = 1 + self.chance.below(self.plan.people);
        match self.chance.below(12) {
            0..=3 => {
                let fen = self.chance.between(500, 12_000);
                self.top_up(person, fen);
            }
            4 if !self.plan.has(Class::HubRestore) => self.withdraw(person),
            5 => self.order_block(person),
            6 | 7 => self.order_lift(person),
            8 => self.block_at_box(person),
            9 => self.lift_at_box(person),
            10 => self.refund_at_headquarters(),
            _ => {}
        }
    }

    fn request(&mut self) -> yika_crdt::feed::Hash {
        self.requests += 1;
        digest("sim request", &self.requests.to_be_bytes())
    }

    /// Pays in; asked again until it is answered, as a clerk does.
    pub fn top_up(&mut self, person: u64, fen: i64) {
        let id = self.request();
        let command = core::Command::TopUp { id, person: PersonId(person), amount: Fen(fen), by: TELLER };
        self.came_in(PersonId(person));
        // It may be booked though nobody heard of it.
        *self.crowd.paid_in.entry(PersonId(person)).or_default() += fen;
        // Some click twice.
        let again = self.requests.is_multiple_of(5).then(|| command.clone());
        match self.order(command.clone()) {
            Ok(core::Reply::ToppedUp { .. }) => *self.crowd.booked_in.entry(PersonId(person)).or_default() += fen,
            Ok(_) => {}
            Err(_) => self.later(9_000, Event::Orders(Box::new(command))),
        }
        if let Some(again) = again {
            _ = self.order(again);
        }
    }

    fn withdraw(&mut self, person: u64) {
        let id = self.request();
        let amount = Fen(self.chance.between(1, 3_000));
        let command = core::Command::Withdraw { id, person: PersonId(person), amount, by: TELLER };
        let reply = self.order(command);
        // What was called back for it comes though it was not paid.
        if matches!(reply, Ok(core::Reply::Paid { .. } | core::Reply::Short { .. }) | Err(_)) {
            self.went_out(PersonId(person));
        }
        if matches!(reply, Ok(core::Reply::Paid { .. })) {
            self.tally.withdrawals += 1;
            *self.crowd.paid_out.entry(PersonId(person)).or_default() += amount.0;
        }
    }

    fn order_block(&mut self, person: u64) {
        let target = BlockTarget::Card(CardNumber(FIRST_CARD + person));
        let block = BlockRecord { target, reason: BlockReason::Lost, operator: CLERK };
        self.tally.blocks += u64::from(self.order(core::Command::Block(block)).is_ok());
    }

    fn order_lift(&mut self, person: u64) {
        let target = BlockTarget::Card(CardNumber(FIRST_CARD + person));
        _ = self.order(core::Command::Lift { target, operator: CLERK });
    }

    fn block_at_box(&mut self, person: u64) {
        let n = self.chance.below(self.boxes.len() as u64) as usize;
        let target = BlockTarget::Card(CardNumber(FIRST_CARD + person));
        let block = BlockRecord { target, reason: BlockReason::Lost, operator: CLERK };
        self.tally.blocks += u64::from(self.tell(n, edge::Command::Block(block)).is_ok());
    }

    fn lift_at_box(&mut self, person: u64) {
        let n = self.chance.below(self.boxes.len() as u64) as usize;
        let target = BlockTarget::Card(CardNumber(FIRST_CARD + person));
        _ = self.tell(n, edge::Command::Lift { target, operator: CLERK });
    }

    /// Headquarters gives back only what the box that sold no longer may: its day is cut, or it is fenced.
    fn check_turn_of_headquarters(&mut self, of: PurchaseId) {
        let (_, answer, by) = &self.crowd.answers[&of];
        let Answer::Approved(sale) = answer else { return };
        let (day, by) = (sale.day, *by);
        let Some(at) = self.boxes.iter().find(|node| node.address == by) else { return };
        let journal = FeedId { writer: at.me, channel: Channel::Journal };
        let entries = self.hub.disk.entries(&journal, Seq(1), usize::MAX).unwrap_or_default();
        let mut cuts = entries.iter().filter_map(|bytes| Entry::decode(bytes).ok());
        let is_cut = cuts.any(|entry| matches!(entry.body, Body::Cut(cut) if cut >= day));
        if !is_cut && !self.fenced.contains(&at.me) && self.tally.unasked == 0 {
            self.fail(format!("headquarters gives {of} back, and {by} still may"));
        }
    }

    /// Of any sale, as if its day were cut: refused while its box still may.
    fn refund_at_headquarters(&mut self) {
        let approved = self.crowd.answers.iter().filter(|(_, (_, answer, _))| matches!(answer, Answer::Approved(_)));
        let sales: Vec<PurchaseId> = approved.map(|(id, _)| *id).collect();
        if let Some(of) = self.chance.pick(&sales).copied() {
            self.refund_by_headquarters(of);
        }
    }

    /// Headquarters is asked to give a sale back.
    pub fn refund_by_headquarters(&mut self, of: PurchaseId) {
        let id = self.request();
        let command = core::Command::Refund { id, of, kind: RefundKind::Refund, amount: None, operator: CLERK };
        self.came_in(crate::crowd::person_of(self.crowd.answers[&of].0.card));
        let reply = self.order(command);
        self.trace(|| format!("headquarters is asked to give back {of}: {reply:?}"));
        match &reply {
            Ok(core::Reply::Refunded { back, .. }) => {
                let back: i64 = back.iter().map(|(_, part)| part.0).sum();
                *self.crowd.given_by_hub.entry(of).or_default() += back;
                self.check_turn_of_headquarters(of);
            }
            Ok(_) => {}
            Err(_) => _ = self.crowd.unsure.insert(crate::crowd::person_of(self.crowd.answers[&of].0.card)),
        }
        if !matches!(reply, Ok(core::Reply::Denied(_))) {
            let (_, answer, _) = &self.crowd.answers[&of];
            if let Answer::Approved(sale) = answer {
                let (person, paid) = (sale.person, sale.paid.iter().map(|(_, part)| part.0).sum::<i64>());
                self.crowd.uncount(of, person, paid);
            }
        }
    }
}

//! A box with a sound key and an unsound program: it signs what it may not, and its honest part spreads it.
//!
//! Leaves to others: what it can cost (`losses`), who fences it (`clone`), what must hold all the same (`crowd`, `verdict`).

use crate::crowd::{FIRST_CARD, own, person_of};
use crate::plan::Class;
use crate::then::Then;
use crate::world::World;
use yika_crdt::Fen;
use yika_crdt::channel::{BlockScope, Channel, FeedId};
use yika_crdt::civil;
use yika_crdt::entry::*;
use yika_crdt::feed::{self, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::sale::Answer;
use yika_crdt::store::{Read, Store, Tx};
use yika_crdt::sync::{Claim, Message};
use yika_hub_core as core;

/// Boots of terminals that a liar makes up begin here.
const MADE_UP_BOOT: u32 = 90_000;
/// More than any holder has.
const MUCH: Fen = Fen(5_000_000);
/// Operators act on the first alarms after this, at most.
const NOTICED_MS: i64 = 40_000;

impl World {
    /// A box is taken over.
    pub fn begin_to_lie(&mut self, n: usize) {
        let life = self.boxes[n].me;
        let is_in_doubt = self.losses.doubtful.contains(&life) || self.was_put_back(n) || self.fenced.contains(&life);
        if is_in_doubt || self.boxes[n].gone || self.boxes[n].core.is_none() {
            return;
        }
        self.struck(Class::Liar);
        self.note(|| format!("{life} is taken over"));
        self.losses.doubtful.insert(life);
        self.losses.liars.insert(n);
        self.then_after(100, Then::Lie(n));
        let noticed_ms = self.chance.between(8_000, NOTICED_MS);
        self.then_after(noticed_ms, Then::Fence(life));
    }

    /// It lies, and goes on as long as it has not been fenced.
    pub fn lie(&mut self, n: usize) {
        let life = self.boxes[n].me;
        if !self.is_busy() || self.boxes[n].gone {
            return;
        }
        let again_ms = self.chance.between(500, 4_000);
        self.then_after(again_ms, Then::Lie(n));
        if self.boxes[n].core.is_none() {
            return;
        }
        let which = self.chance.below(11);
        self.note(|| format!("{life} lies ({which})"));
        self.steal(n);
        match which {
            0 | 1 => self.make_up_sales(n),
            2 | 3 => self.pass_on_what_it_keeps(n),
            4 => self.pass_on_without_a_word(n),
            5 => self.lift_of_others(n),
            6 => self.void_of_others(n),
            7 => self.write_for_headquarters(n),
            8 => self.sign_for_others(n),
            9 => self.leave_a_hole(n),
            _ => self.claim_more(n),
        }
    }

    /// Appends what it likes to a feed of its own, and lets it spread.
    pub fn append_at_will(&mut self, n: usize, channel: Channel, bodies: Vec<Body>) {
        let stamp = Stamp { hub_time_ms: self.now_ms, boot: 0, mono_ms: self.now_ms.unsigned_abs() };
        let node = &mut self.boxes[n];
        let feed = FeedId { writer: node.me, channel };
        let mut tx = Tx::new(&node.disk);
        for body in bodies {
            _ = tx.append(feed, Entry { stamp, body }.encode());
        }
        let batch = tx.into_batch();
        let Some(end) = batch.appended.get(&feed).map(|appended| appended.end.seq) else { return };
        if node.disk.commit(&batch).is_ok() {
            node.keep_ends();
            node.known.grown(feed, end);
            let at = node.address;
            self.grown(at, feed);
        }
    }

    fn a_holder(&mut self) -> PersonId {
        PersonId(1 + self.chance.below(self.plan.people))
    }

    /// Sales that nobody made, as if its terminals had made them alone.
    fn make_up_sales(&mut self, n: usize) {
        let campus = self.boxes[n].place.campus.map_or(0, |campus| campus.0);
        let mut bodies = Vec::new();
        for _ in 0..1 + self.chance.below(4) {
            let person = self.a_holder();
            let fen = Fen(self.chance.between(100, 6_000));
            self.requests += 1;
            let terminal = TerminalId(u32::from(campus) * 10);
            let id = PurchaseId { terminal, boot: MADE_UP_BOOT + n as u32, seq: self.requests as u32 };
            let source = match self.chance.below(4) {
                0 => Source::Receivable,
                1 => Source::Guest,
                _ => Source::Wallet(WalletKey::Main),
            };
            bodies.push(self.made_up_sale(n, (id, person), (source, fen)));
        }
        self.append_at_will(n, Channel::Journal, bodies);
    }

    /// A sale that a terminal seems to have made alone, paid in one way.
    pub fn made_up_sale(&self, n: usize, (id, person): (PurchaseId, PersonId), paid: (Source, Fen)) -> Body {
        Body::Purchase(PurchaseRecord {
            id,
            card: CardNumber(FIRST_CARD + person.0),
            person,
            category: CategoryId(1),
            outlet: OutletId(1),
            merchant: MerchantId(self.boxes[n].place.campus.map_or(0, |campus| u32::from(campus.0))),
            mode: Mode::Amount(paid.1),
            tariff: TariffVersion(1),
            period: None,
            price: paid.1,
            adjustment: Fen::ZERO,
            paid: vec![paid],
            balance: Fen::ZERO,
            offline: true,
            terminal_time_ms: self.now_ms,
            day: civil::business_day(self.now_ms, 480, 180),
        })
    }

    /// Other boxes, of which it may write cheques to.
    fn receivers(&self, n: usize) -> Vec<Writer> {
        let others = self.boxes.iter().filter(|node| node.me.node != self.boxes[n].me.node && !node.gone);
        let mut others: Vec<Writer> = others.map(|node| node.me).collect();
        others.sort();
        others.dedup();
        others
    }

    /// One word of headquarters, shown to every other box, twice, and all of it kept.
    fn pass_on_what_it_keeps(&mut self, n: usize) {
        let (person, me) = (self.a_holder(), self.boxes[n].me);
        let row = Row { person, wallet: WalletKey::Main };
        let state = self.boxes[n].rights(person).rows.remove(&WalletKey::Main).unwrap_or_default();
        let lease = self.boxes[n].core.as_ref().and_then(|core| core.mesh.lease);
        let Some(word) = state.statement else { return };
        for to in self.receivers(n) {
            let told = (word.hub_time_ms, word.remaining.0);
            self.losses.passed_on(me, to, person, told);
            let grant = GrantRecord { row, total: MUCH, last_day: None, basis: Some(word.clone()), lease };
            self.append_at_will(n, Channel::Rights(to), vec![Body::Grant(grant.clone()), Body::Grant(grant)]);
        }
    }

    /// A cheque on a word that headquarters has not given.
    fn pass_on_without_a_word(&mut self, n: usize) {
        let (person, me) = (self.a_holder(), self.boxes[n].me);
        let row = Row { person, wallet: WalletKey::Main };
        let lease = self.boxes[n].core.as_ref().and_then(|core| core.mesh.lease);
        let (hub_time_ms, key) = (self.now_ms + 1, self.boxes[n].key.clone());
        let signature = feed::sign("statement", &(me, row, MUCH, Fen::ZERO, hub_time_ms), &key);
        let word = Statement { replica: me, row, remaining: MUCH, taken_in: Fen::ZERO, hub_time_ms, signature };
        let basis = Some(Box::new(word));
        for to in self.receivers(n) {
            let grant = GrantRecord { row, total: MUCH, last_day: None, basis: basis.clone(), lease };
            self.append_at_will(n, Channel::Rights(to), vec![Body::Grant(grant)]);
        }
    }

    /// Blocks of headquarters and of other campuses are not its to lift.
    fn lift_of_others(&mut self, n: usize) {
        let Some(campus) = self.boxes[n].place.campus else { return };
        let Some(core) = self.boxes[n].core.as_ref() else { return };
        let cards = (1..=self.people()).map(|person| BlockTarget::Card(CardNumber(FIRST_CARD + person)));
        let open: Vec<_> = cards.flat_map(|card| core.mesh.people.read().open_blocks(card)).collect();
        let scope = BlockScope::Campus(campus);
        let others = open.into_iter().filter(|(_, of)| *of != scope);
        let lifts = others.map(|(block, _)| Body::Lift(LiftRecord::One { block, operator: OperatorId(9) }));
        let mut bodies: Vec<Body> = lifts.collect();
        if bodies.is_empty() {
            let target = BlockTarget::Card(CardNumber(FIRST_CARD + self.a_holder().0));
            bodies.push(Body::Block(BlockRecord { target, reason: BlockReason::Lost, operator: OperatorId(9) }));
        }
        self.append_at_will(n, Channel::Blocks(scope), bodies);
    }

    /// Voids what other boxes sold, on its campus and elsewhere, and gives back what it has not sold. Of its own campus that
    /// is a reversal, of others it is nothing.
    fn void_of_others(&mut self, n: usize) {
        let (at, campus) = (self.boxes[n].address, self.boxes[n].place.campus);
        let sold = self.crowd.answers.iter().filter_map(|(id, (request, answer, by))| match answer {
            Answer::Approved(sale) if *by != at => Some((*id, person_of(request.card), sale.clone())),
            _ => None,
        });
        let sold: Vec<_> = sold.collect();
        let Some((id, person, sale)) = self.chance.pick(&sold).cloned() else { return };
        let is_here = self.crowd.terminals.iter().any(|t| t.id == id.terminal && Some(t.campus) == campus);
        if is_here && self.crowd.undone_by_liars.insert(id) {
            self.losses.may_be_spent_again([(person, own(&sale.paid))].into());
        }
        let refund = RefundRecord {
            id: PurchaseId { boot: MADE_UP_BOOT, ..id },
            of: id,
            person,
            merchant: sale.merchant,
            kind: RefundKind::Refund,
            back: sale.paid.clone(),
            operator: OperatorId(9),
            day: sale.day,
        };
        let bodies = if self.chance.one_in(3) { vec![Body::Refund(refund)] } else { vec![Body::Void(id)] };
        self.append_at_will(n, Channel::Journal, bodies);
    }

    /// Writes to feeds that only headquarters, or another campus, writes.
    fn write_for_headquarters(&mut self, n: usize) {
        let target = BlockTarget::Card(CardNumber(FIRST_CARD + self.a_holder().0));
        let block = Body::Block(BlockRecord { target, reason: BlockReason::Lost, operator: OperatorId(9) });
        let elsewhere = CampusId(self.boxes[n].place.campus.map_or(1, |campus| campus.0) % 2 + 1);
        let other = self.receivers(n).first().copied();
        let fence = |writer| Body::Fence(FenceRecord { writer, last: vec![], granted: vec![], reason: "".into() });
        match (self.chance.below(3), other) {
            (0, Some(other)) => self.append_at_will(n, Channel::Registry, vec![fence(other)]),
            (1, _) => self.append_at_will(n, Channel::Blocks(BlockScope::Hub), vec![block]),
            _ => self.append_at_will(n, Channel::Blocks(BlockScope::Campus(elsewhere)), vec![block]),
        }
    }

    /// Whom it is connected to.
    fn listeners(&self, n: usize) -> Vec<NodeId> {
        self.connected(self.boxes[n].address).into_iter().map(|(at, _)| at).collect()
    }

    /// A continuation of a sibling's journal, or of headquarters' blocks, signed with its own key.
    fn sign_for_others(&mut self, n: usize) {
        let of = match self.chance.one_in(2) {
            true => FeedId { writer: crate::nodes::HUB, channel: Channel::Blocks(BlockScope::Hub) },
            false => match self.receivers(n).first() {
                Some(other) => FeedId { writer: *other, channel: Channel::Journal },
                None => return,
            },
        };
        let target = BlockTarget::Card(CardNumber(FIRST_CARD + self.a_holder().0));
        let body = match of.channel {
            Channel::Journal => Body::Cut(Day(1)),
            _ => Body::Block(BlockRecord { target, reason: BlockReason::Lost, operator: OperatorId(9) }),
        };
        let stamp = Stamp { hub_time_ms: self.now_ms, boot: 0, mono_ms: 0 };
        let entry = Entry { stamp, body }.encode();
        let (from, key) = (self.boxes[n].address, self.boxes[n].key.clone());
        for to in self.listeners(n) {
            let disk = self.index(to).map_or(&self.hub.disk, |m| &self.boxes[m].disk);
            let Ok(held) = disk.feed(&of) else { continue };
            let end = feed::link(&of, held.end, &entry);
            let (head, entries) = (SignedHead::sign(of, end, &key), vec![entry.clone()]);
            self.say(from, to, Message::Entries(Box::new(Run { from: end.seq, entries, head })));
        }
    }

    /// A run of its own journal that leaves an entry out.
    fn leave_a_hole(&mut self, n: usize) {
        let of = FeedId { writer: self.boxes[n].me, channel: Channel::Journal };
        let stamp = Stamp { hub_time_ms: self.now_ms, boot: 0, mono_ms: 0 };
        let entry = Entry { stamp, body: Body::Cut(Day(1)) }.encode();
        let (from, key) = (self.boxes[n].address, self.boxes[n].key.clone());
        let Ok(held) = self.boxes[n].disk.feed(&of) else { return };
        let end = feed::link(&of, feed::link(&of, held.end, b"left out"), &entry);
        let run = Run { from: end.seq, entries: vec![entry], head: SignedHead::sign(of, end, &key) };
        for to in self.listeners(n) {
            self.say(from, to, Message::Entries(Box::new(run.clone())));
        }
    }

    /// Says to headquarters that it holds more of what headquarters wrote, which it cannot show.
    fn claim_more(&mut self, n: usize) {
        let me = self.boxes[n].me;
        let of = self.hub.core.as_ref().map_or(crate::nodes::HUB, |hub| hub.mesh.me);
        let of = FeedId { writer: of, channel: Channel::Registry };
        let Ok(held) = self.hub.disk.feed(&of) else { return };
        let end = feed::link(&of, feed::link(&of, held.end, b"made"), b"up");
        let signature = self.chance.one_in(2).then(|| SignedHead::sign(of, end, &self.boxes[n].key).signature);
        let is_recovering = |world: &World| world.hub.core.as_ref().is_some_and(|hub| hub.recovery().is_some());
        let before = is_recovering(self);
        let have = vec![Claim { feed: of, end, signature }];
        if self.is_connected(NodeId::HUB, self.boxes[n].address) && !before {
            _ = self.order(core::Command::Greeted { from: me, have });
            if is_recovering(self) {
                self.fail(format!("headquarters recovers on the word of {me}"));
            }
        }
    }
}

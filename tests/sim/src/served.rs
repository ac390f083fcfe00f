//! Whoever has the money is served: a refusal for money is right only where the money is not to be had.
//!
//! Judged only in a calm moment, when nothing has failed lately and nobody else spends of the same person. Leaves to
//! others: what may never be sold (`crowd`).

use crate::crowd::person_of;
use crate::plan::Class;
use crate::world::World;
use yika_crdt::Fen;
use yika_crdt::entry::{Mode, WalletKey};
use yika_crdt::ids::*;
use yika_crdt::sale::PurchaseRequest;
use yika_crdt::store::Tx;

/// After so long without a fault, a connection that came or went, a gate that opened, or another sale of the person, what was
/// under way has arrived.
const CALM_MS: i64 = 3_000;
/// A refusal may have left headquarters so long before it arrives.
const FLIGHT_MS: i64 = 100;

impl World {
    /// A box has refused a purchase for money.
    pub fn judge_refusal_for_money(&mut self, n: usize, request: &PurchaseRequest) {
        let (person, Mode::Amount(price)) = (person_of(request.card), request.mode) else { return };
        if request.offline || !self.is_calm(n) || !self.is_alone(person, request.id) {
            return;
        }
        self.tally.refusals_judged += 1;
        let there = self.to_be_had(n, person);
        if there >= price {
            self.tell_wallets(person);
            let me = self.boxes[n].me;
            self.fail(format!("{me} refuses {} for {price}, and {there} could be had", request.id));
        }
    }

    /// A purchase is asked for, or answered.
    pub fn touch(&mut self, request: &PurchaseRequest) {
        let now_ms = self.now_ms;
        self.crowd.touched.entry(person_of(request.card)).or_default().insert(request.id, now_ms);
    }

    /// Money of a person comes in at headquarters: who waits for it is served, but for whom a refusal is under way to.
    pub fn came_in(&mut self, person: PersonId) {
        self.may_refuse_until(person, self.now_ms + FLIGHT_MS);
    }

    /// Money of a person is paid out, or called back to be.
    pub fn went_out(&mut self, person: PersonId) {
        self.may_refuse_until(person, self.now_ms + CALM_MS);
    }

    fn may_refuse_until(&mut self, person: PersonId, ms: i64) {
        let until_ms = self.crowd.moved_until_ms.entry(person).or_default();
        *until_ms = ms.max(*until_ms);
    }

    /// Nobody else has spent of a person lately, or tries to; and none of his money is under way at headquarters.
    fn is_alone(&self, person: PersonId, id: PurchaseId) -> bool {
        let since_ms = self.now_ms - CALM_MS;
        let mut others = self.crowd.touched.get(&person).into_iter().flatten().filter(|(of, _)| **of != id);
        others.all(|(_, at_ms)| *at_ms < since_ms)
            && self.crowd.moved_until_ms.get(&person).is_none_or(|until_ms| *until_ms < self.now_ms)
    }

    /// Nothing stands in the way of an ask from this box.
    fn is_calm(&self, n: usize) -> bool {
        let hub = self.hub.core.as_ref().is_some_and(|hub| hub.recovery().is_none());
        hub && !self.hub.disk.full
            && !self.hub_is_opening()
            && self.is_on_line(n)
            && !self.is_cut_unnoticed()
            && self.unsettled_ms < self.now_ms - CALM_MS
            && !self.plan.has(Class::Delay)
            && self.losses.doubtful.is_empty()
    }

    /// Whether somebody still waits for an answer over a line that is cut, that the other side has lost, or of a box that
    /// stands still.
    fn is_cut_unnoticed(&self) -> bool {
        let unheard = |n: usize| {
            let address = self.boxes[n].address;
            let hears = !self.is_still(n) && self.is_connected(address, NodeId::HUB);
            self.is_connected(NodeId::HUB, address) && !hears
        };
        self.net.cut.iter().any(|(a, b)| self.is_connected(*a, *b) || self.is_connected(*b, *a))
            || (0..self.boxes.len()).any(unheard)
    }

    /// A box that hears headquarters at once, and does what it is asked.
    fn is_on_line(&self, n: usize) -> bool {
        let (node, hub) = (&self.boxes[n], NodeId::HUB);
        let me = node.address;
        let is_cut = self.net.cut.contains(&(me, hub)) || self.net.cut.contains(&(hub, me));
        !node.gone
            && node.core.is_some()
            && !node.is_still
            && node.shut().is_none()
            && !node.disk.full
            && !is_cut
            && self.is_connected(hub, me)
            && self.is_connected(me, hub)
            && !self.fenced.contains(&node.me)
    }

    /// What a person has at a box, and what headquarters could grant it with what other boxes would give back: what he owes
    /// is taken from that first.
    fn to_be_had(&self, n: usize, person: PersonId) -> Fen {
        let wallets = yika_hub_core::wallets_of(&Tx::new(&self.hub.disk), person).unwrap_or_default();
        let wallet = wallets.wallets.get(&WalletKey::Main);
        let short = wallet.and_then(|wallet| wallet.short_of(Fen::ZERO).ok()).unwrap_or_default();
        let right = |at: usize| self.boxes[at].right(person).map_or(0, |right| right.0.max(0));
        let elsewhere = (0..self.boxes.len()).filter(|at| *at != n && self.is_on_line(*at)).map(right).sum::<i64>();
        Fen(right(n) + (elsewhere - short.0).max(0))
    }
}

//! What must hold in the end: everything is healed, nobody works any more, and within a stated time all agree.
//!
//! Leaves to others: what must hold at every step (`turn`, `crowd`, `books`).

use crate::nodes::{BoxNode, ends_of};
use crate::world::World;
use std::collections::BTreeMap;
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::*;
use yika_crdt::gate::Shut;
use yika_crdt::ids::*;
use yika_crdt::store::Read;

impl World {
    /// Whether nodes are honest: nothing that one writes may be refused by another.
    pub fn honest(&self) -> bool {
        self.put_back.is_empty() && !self.was_restored && self.fenced.is_empty()
    }

    /// Whether a box's disk was put back: what it answered since the copy may be lost.
    pub fn was_put_back(&self, n: usize) -> bool {
        self.put_back.contains(&n)
    }

    /// After every turn of a box: no right is below zero.
    pub fn check_box(&mut self, n: usize) {
        for person in (1..=self.plan.people).map(PersonId) {
            match self.boxes[n].right(person) {
                Some(right) if !right.is_negative() => {}
                Some(_) if !self.honest() => {}
                right => return self.fail(format!("{}: the right of {person} is {right:?}", self.boxes[n].me)),
            }
        }
        let pool = self.boxes[n].rights(PersonId(0)).rows.remove(&WalletKey::Guest).map(|row| row.right());
        if let Some(right) = pool.filter(|right| !right.as_ref().is_ok_and(|right| !right.is_negative()))
            && self.honest()
        {
            self.fail(format!("{}: its guest pool is {right:?}", self.boxes[n].me));
        }
    }

    /// The verdict over a history that has come to rest.
    pub fn conclude(&mut self) {
        if let Err(words) = self.hub.books.check(&self.hub.disk) {
            self.fail(format!("in the end: {words}"));
        }
        if self.hub_forked {
            // Two lives of headquarters wrote under the same numbers: the gap that the README's table states.
            return;
        }
        if let Some(n) = self.still_asked() {
            self.fail(format!("in the end a terminal still waits for the answer of {}", self.boxes[n].me));
        }
        let living: Vec<usize> = (0..self.boxes.len()).filter(|n| self.is_living(*n)).collect();
        for n in living {
            self.compare_feeds(n);
            self.compare_rights(n);
        }
        self.compare_sums();
        self.compare_answers();
        self.compare_holders();
    }

    /// A box that goes on: not fenced, and its gate is open.
    fn is_living(&self, n: usize) -> bool {
        let node = &self.boxes[n];
        !node.gone && !self.fenced.contains(&node.me)
    }

    /// Headquarters and a box hold the same of every feed that both hold.
    fn compare_feeds(&mut self, n: usize) {
        let node = &self.boxes[n];
        let Some(hub) = &self.hub.core else { return self.fail("headquarters is down in the end".into()) };
        if let Some(shut) = node.shut() {
            // What only this box held is gone for good: it waits for an operator, as it must.
            let is_lost = match shut {
                Shut::Behind(kept) => ends_of(&self.hub.disk, node.me).is_ok_and(|ends| ends.is_behind(&kept)),
                Shut::Forked => self.was_put_back(n),
                _ => false,
            };
            if !is_lost {
                self.fail(format!("{} is shut in the end: {shut:?}", node.me));
            }
            return;
        }
        let directory = hub.mesh.directory();
        let feeds: Vec<FeedId> = self.hub.disk.feeds().unwrap_or_default().into_iter().map(|(feed, _)| feed).collect();
        let own = node.disk.feeds().unwrap_or_default().into_iter().map(|(feed, _)| feed);
        let all: std::collections::BTreeSet<FeedId> = feeds.into_iter().chain(own).collect();
        for feed in all {
            let place = node.place;
            if self.fenced.contains(&feed.writer) || !directory.may_hold(&feed, place) {
                continue;
            }
            let ends = [&self.hub.disk, &node.disk].map(|disk| disk.feed(&feed).map(|held| held.end));
            let at_hub = matches!(feed.channel, Channel::Rights(to) if !to.node.is_hub() && to.node != node.me.node);
            if ends[0] != ends[1] && !at_hub {
                return self.fail(format!("{feed}: headquarters holds {:?}, {} holds {:?}", ends[0], node.me, ends[1]));
            }
        }
    }

    /// What headquarters believes of a box's rights is not less than what the box has; a box that is shut for good has
    /// lost what it spent of them.
    fn compare_rights(&mut self, n: usize) {
        if self.boxes[n].shut().is_some() {
            return;
        }
        for person in (1..=self.plan.people).map(PersonId) {
            let node = &self.boxes[n];
            let tx = yika_crdt::store::Tx::new(&self.hub.disk);
            let wallets = yika_hub_core::wallets_of(&tx, person).unwrap_or_default();
            let replica = wallets.wallets.get(&WalletKey::Main).and_then(|wallet| wallet.replicas.get(&node.me));
            let believed = replica.and_then(|replica| replica.right().ok()).unwrap_or_default();
            let has = node.right(person).unwrap_or_default();
            if has > believed {
                let me = node.me;
                return self.fail(format!("{me} may spend {has} of {person}, headquarters believes {believed}"));
            }
        }
    }

    /// What the journals that headquarters holds say was sold is what its books say was sold.
    fn compare_sums(&mut self) {
        let mut sold: i64 = 0;
        let feeds = self.hub.disk.feeds().unwrap_or_default();
        for (feed, _) in feeds.into_iter().filter(|(feed, _)| feed.channel == Channel::Journal) {
            for bytes in self.hub.disk.entries(&feed, Seq(1), usize::MAX).unwrap_or_default() {
                if let Ok(Entry { body: Body::Purchase(sale), .. }) = Entry::decode(&bytes) {
                    sold += sale.paid.iter().map(|(_, part)| part.0).sum::<i64>();
                }
            }
        }
        let booked = self.hub.books.sold();
        // The other branch of a box that was put back and went on is posted, too.
        if booked < sold || booked > sold && self.put_back.is_empty() {
            self.fail(format!("journals say {} was sold, the books say {}", Fen(sold), Fen(booked)));
        }
    }

    /// What headquarters charges each holder is what the journals alone come to, and it holds no more than was paid in.
    ///
    /// The reference: of the sales under one id the oldest counts, less what its box and headquarters gave back.
    fn compare_holders(&mut self) {
        let charged = self.charged();
        for person in (1..=self.plan.people).map(PersonId) {
            let tx = yika_crdt::store::Tx::new(&self.hub.disk);
            let wallets = yika_hub_core::wallets_of(&tx, person).unwrap_or_default();
            let deposits = wallets.wallets.get(&WalletKey::Main).map_or(0, |wallet| wallet.deposits.0);
            let paid_in = self.crowd.paid_in.get(&person).copied().unwrap_or_default();
            if deposits > paid_in {
                return self.fail(format!("{person} has paid in {}, booked are {}", Fen(paid_in), Fen(deposits)));
            }
            let spent: i64 = wallets.wallets.values().map(|wallet| wallet.spent().map_or(i64::MIN, |fen| fen.0)).sum();
            let due = charged.get(&person).copied().unwrap_or_default();
            if spent != due && self.honest() && !self.crowd.unsure.contains(&person) {
                let (due, spent) = (Fen(due), Fen(spent));
                return self.fail(format!("{person} owes {due} by the journals, headquarters charged {spent}"));
            }
        }
    }

    /// What each person is to pay, by the journals that headquarters holds.
    fn charged(&self) -> BTreeMap<PersonId, i64> {
        let sum = |parts: &[(Source, Fen)]| parts.iter().map(|(_, part)| part.0).sum::<i64>();
        let mut sold: BTreeMap<PurchaseId, (i64, FeedId, PersonId, i64)> = BTreeMap::new();
        let mut back: BTreeMap<(PurchaseId, FeedId), i64> = BTreeMap::new();
        let feeds = self.hub.disk.feeds().unwrap_or_default();
        for (feed, _) in feeds.into_iter().filter(|(feed, _)| feed.channel == Channel::Journal) {
            for bytes in self.hub.disk.entries(&feed, Seq(1), usize::MAX).unwrap_or_default() {
                let Ok(entry) = Entry::decode(&bytes) else { continue };
                match entry.body {
                    Body::Purchase(sale) => {
                        let this = (entry.stamp.hub_time_ms, feed, sale.person, sum(&sale.paid));
                        let first = sold.entry(sale.id).or_insert(this);
                        *first = (*first).min(this);
                    }
                    Body::Refund(refund) => *back.entry((refund.of, feed)).or_default() += sum(&refund.back),
                    _ => {}
                }
            }
        }
        let mut charged = BTreeMap::new();
        for (id, (_, feed, person, paid)) in sold {
            let by_box = back.get(&(id, feed)).copied().unwrap_or_default();
            let by_hub = self.crowd.given_by_hub.get(&id).copied().unwrap_or_default();
            *charged.entry(person).or_default() += (paid - by_box - by_hub).max(0);
        }
        charged
    }

    /// Every purchase that was answered stands once in the journal of the box that answered it.
    fn compare_answers(&mut self) {
        let mut held: BTreeMap<PurchaseId, u64> = BTreeMap::new();
        for (feed, _) in self.hub.disk.feeds().unwrap_or_default() {
            if feed.channel != Channel::Journal {
                continue;
            }
            for bytes in self.hub.disk.entries(&feed, Seq(1), usize::MAX).unwrap_or_default() {
                if let Ok(Entry { body: Body::Purchase(sale), .. }) = Entry::decode(&bytes) {
                    *held.entry(sale.id).or_default() += 1;
                }
            }
        }
        let excused = |node: NodeId| {
            let of = |b: &&BoxNode| b.me.node == node;
            let at = self.boxes.iter().position(|b| of(&b));
            at.is_none_or(|n| self.was_put_back(n) || self.fenced.contains(&self.boxes[n].me))
        };
        let sold = self.crowd.answers.iter().filter(|(_, (_, a, _))| matches!(a, yika_crdt::sale::Answer::Approved(_)));
        let wrong = sold.map(|(id, (_, _, by))| (*id, held.get(id).copied().unwrap_or_default(), *by));
        // Two boxes may have sold one id while they could not ask each other; headquarters reverses one of them.
        let wrong =
            wrong.filter(|(_, times, by)| !excused(*by) && (*times == 0 || *times > 1 && self.tally.unasked == 0));
        let wrong: Vec<_> = wrong.collect();
        if let Some((id, times, by)) = wrong.first() {
            self.fail(format!("{id} was sold by {by} and stands {times} times in the journals"));
        }
    }
}

//! What must hold in the end: everything is healed, nobody works any more, and within a stated time all agree.
//!
//! Leaves to others: what must hold at every step (`turn`, `crowd`, `books`).

use crate::disk::Disk;
use crate::journals::{self, Told};
use crate::nodes::{BoxNode, ends_of};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End};
use yika_crdt::gate::Shut;
use yika_crdt::ids::*;
use yika_crdt::store::Read;

/// A journal, or the other branch of it.
type Branch = (FeedId, bool);
/// A sale: when, where, of whom and by whom, and for how much.
type Sold = (i64, Branch, (PersonId, MerchantId), i64);

fn sum(parts: &[(Source, Fen)]) -> i64 {
    parts.iter().map(|(_, part)| part.0).sum()
}

impl World {
    /// Whether nodes are honest: nothing that one writes may be refused by another.
    pub fn honest(&self) -> bool {
        self.put_back.is_empty() && !self.was_restored && self.fenced.is_empty() && self.losses.doubtful.is_empty()
    }

    /// Whether a box's disk was put back: what it answered since the copy may be lost.
    pub fn was_put_back(&self, n: usize) -> bool {
        self.put_back.contains(&n)
    }

    /// After every turn of a box: no right is below zero. One that was put back takes back what it had spent.
    pub fn check_box(&mut self, n: usize) {
        for person in (1..=self.people()).map(PersonId) {
            match self.boxes[n].right(person) {
                Some(right) if !right.is_negative() => {}
                Some(_) if self.was_put_back(n) || self.losses.is_copied(n) => {}
                right => return self.fail(format!("{}: the right of {person} is {right:?}", self.boxes[n].me)),
            }
        }
        let pool = self.boxes[n].pool().rows.remove(&WalletKey::Guest).map(|row| row.right());
        if let Some(right) = pool.filter(|right| !right.as_ref().is_ok_and(|right| !right.is_negative()))
            && !self.was_put_back(n)
            && !self.losses.is_copied(n)
        {
            self.fail(format!("{}: its guest pool is {right:?}", self.boxes[n].me));
        }
        if !self.was_put_back(n) && !self.losses.is_copied(n) && !self.losses.liars.contains(&n) {
            self.check_taken_of_liars(n);
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
        for n in living.iter().copied() {
            self.compare_feeds(n);
            self.compare_rights(n);
        }
        self.conclude_more(&living);
        let told = journals::read(&self.hub.disk);
        self.compare_sums(&told);
        self.compare_answers(&told);
        self.compare_holders(&told);
        self.look_at_fenced();
        self.look_at_feeds();
    }

    /// A fenced box that is up and reached by headquarters knows it. A headquarters that was restored to before the fence has
    /// forgotten it, where no honest box was left to tell.
    fn look_at_fenced(&mut self) {
        let up = self.boxes.iter().filter(|node| !node.gone && node.core.is_some());
        let mut fenced = up.filter(|node| self.fenced.contains(&node.me) && !self.is_fence_forgotten(node.me));
        let open = fenced.find(|node| node.shut().is_none());
        if let Some(me) = open.map(|node| node.me) {
            self.fail(format!("{me} is fenced, and open in the end"));
        }
    }

    fn is_fence_forgotten(&self, fenced: Writer) -> bool {
        let mut honest = (0..self.boxes.len()).filter(|n| !self.boxes[*n].gone && !self.losses.liars.contains(n));
        let is_lost = self.losses.fences.contains(&fenced);
        is_lost && !self.hub.disk.knows_fence(fenced) && !honest.any(|n| self.boxes[n].disk.knows_fence(fenced))
    }

    /// Every feed is written by who may write it, and its entries lead to the heads that its writer has signed.
    fn look_at_feeds(&mut self) {
        if self.losses.liars.is_empty() {
            return;
        }
        let honest = (0..self.boxes.len()).filter(|n| !self.losses.liars.contains(n)).map(|n| &self.boxes[n].disk);
        let found = std::iter::once(&self.hub.disk).chain(honest).find_map(|disk| self.unsound_feed(disk));
        if let Some(words) = found {
            self.fail(words);
        }
    }

    fn unsound_feed(&self, disk: &Disk) -> Option<String> {
        for (feed, held) in disk.feeds().unwrap_or_default() {
            let writer = Place { node: feed.writer.node, campus: self.campus_of(feed.writer.node) };
            if !feed.channel.may_write(writer) {
                return Some(format!("{feed} is held, which its writer may not write"));
            }
            let head = disk.head_upto(&feed, Seq(u64::MAX)).ok().flatten();
            let Some(head) = head.filter(|_| held.pruned == Seq::ZERO) else { continue };
            let entries = disk.entries(&feed, Seq(1), usize::MAX).unwrap_or_default();
            let upto = entries.iter().take(usize::try_from(head.end.seq.0).unwrap_or(usize::MAX));
            if upto.fold(End::default(), |end, entry| feed::link(&feed, end, entry)) != head.end {
                return Some(format!("{feed}: what is held does not lead to the head at {}", head.end.seq));
            }
        }
        None
    }

    /// A box that goes on: not fenced, and its gate is open.
    fn is_living(&self, n: usize) -> bool {
        let node = &self.boxes[n];
        !node.gone && !self.fenced.contains(&node.me) && self.is_listed(n)
    }

    /// Whether headquarters knows of the enrolment of a box. One that was restored to before it, and of which no other box
    /// could tell it, asks for another.
    fn is_listed(&self, n: usize) -> bool {
        let lists = |hub: &yika_hub_core::Hub| hub.mesh.nodes.contains_key(&self.boxes[n].me);
        !self.was_restored || self.hub.core.as_ref().is_none_or(lists)
    }

    /// Headquarters and a box hold the same of every feed that both hold.
    fn compare_feeds(&mut self, n: usize) {
        let node = &self.boxes[n];
        let Some(hub) = &self.hub.core else { return self.fail("headquarters is down in the end".into()) };
        if let Some(shut) = node.shut() {
            // What only this box held is gone for good: it waits for an operator, as it must.
            let is_lost = match shut {
                Shut::Behind(kept) => {
                    let is_behind = ends_of(&self.hub.disk, node.me).is_ok_and(|ends| ends.is_behind(&kept));
                    is_behind || self.own_words_are_gone(n)
                }
                Shut::Unsure => self.own_words_are_gone(n),
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
        for person in (1..=self.people()).map(PersonId) {
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
    fn compare_sums(&mut self, told: &[Told]) {
        let sales = told.iter().filter_map(|told| match &told.entry.body {
            Body::Purchase(sale) if !told.is_branch => Some(sum(&sale.paid)),
            _ => None,
        });
        let (sold, booked): (i64, i64) = (sales.sum(), self.hub.books.sold());
        // The other branch of a box that was put back and went on is posted, too.
        let is_forked = !self.put_back.is_empty() || !self.losses.doubtful.is_empty();
        if booked < sold || booked > sold && !is_forked {
            self.fail(format!("journals say {} was sold, the books say {}", Fen(sold), Fen(booked)));
        }
    }

    /// What headquarters charges each holder is what the journals alone come to, and it holds no more than was paid in.
    ///
    /// The reference: of the sales under one id the oldest counts, less what its box and headquarters gave back; none does
    /// that a box of its campus has voided.
    fn compare_holders(&mut self, told: &[Told]) {
        let charged = self.charged(told);
        for person in (1..=self.people()).map(PersonId) {
            let tx = yika_crdt::store::Tx::new(&self.hub.disk);
            let wallets = yika_hub_core::wallets_of(&tx, person).unwrap_or_default();
            let main = wallets.wallets.get(&WalletKey::Main);
            let (deposits, withdrawals) = main.map_or((0, 0), |main| (main.deposits.0, main.withdrawals.0));
            let of = |sums: &BTreeMap<PersonId, i64>| sums.get(&person).copied().unwrap_or_default();
            let (paid_in, booked_in, paid_out) =
                (of(&self.crowd.paid_in), of(&self.crowd.booked_in), of(&self.crowd.paid_out));
            if deposits > paid_in {
                return self.fail(format!("{person} has paid in {}, booked are {}", Fen(paid_in), Fen(deposits)));
            }
            // What was ordered since the backup is gone with a headquarters that has lost its log.
            if !self.was_restored && (deposits < booked_in || withdrawals < paid_out) {
                let (deposits, withdrawals) = (Fen(deposits), Fen(withdrawals));
                let was_told = format!("{} in and {} out", Fen(booked_in), Fen(paid_out));
                return self.fail(format!("{person} was told {was_told}, booked are {deposits} and {withdrawals}"));
            }
            let money = wallets.wallets.iter().filter(|(key, _)| yika_hub_core::rights::is_money(**key));
            let spent: i64 =
                money.map(|(_, wallet)| wallet).map(|wallet| wallet.spent().map_or(i64::MIN, |fen| fen.0)).sum();
            let due = charged.get(&person).copied().unwrap_or_default();
            let is_sure = self.put_back.is_empty() && !self.was_restored && !self.crowd.unsure.contains(&person);
            if spent != due && is_sure {
                let (due, spent) = (Fen(due), Fen(spent));
                return self.fail(format!("{person} owes {due} by the journals, headquarters charged {spent}"));
            }
        }
    }

    /// What each person is to pay, by the journals that headquarters holds.
    fn charged(&self, told: &[Told]) -> BTreeMap<PersonId, i64> {
        let mut sold: BTreeMap<PurchaseId, Vec<Sold>> = BTreeMap::new();
        let mut back: BTreeMap<(PurchaseId, Branch, PersonId, MerchantId), i64> = BTreeMap::new();
        let mut voided: BTreeSet<PurchaseId> = BTreeSet::new();
        for Told { feed, is_branch, entry } in told {
            let at = (*feed, *is_branch);
            match &entry.body {
                Body::Purchase(sale) => {
                    let this = (entry.stamp.hub_time_ms, at, (sale.person, sale.merchant), sum(&sale.paid));
                    sold.entry(sale.id).or_default().push(this);
                }
                Body::Refund(refund) => {
                    // Of a sale of its own journal, to whom and by whom it was made.
                    let of = (refund.of, at, refund.person, refund.merchant);
                    *back.entry(of).or_default() += sum(&refund.back);
                }
                Body::Void(id) if self.is_of_campus(*id, feed.writer) => _ = voided.insert(*id),
                _ => {}
            }
        }
        let mut charged = BTreeMap::new();
        for (id, mut sales) in sold {
            sales.sort();
            // Who sells for a terminal of another campus is charged, and undoes nothing there.
            let (here, elsewhere): (Vec<Sold>, Vec<Sold>) =
                sales.into_iter().partition(|(_, (feed, _), ..)| self.is_of_campus(id, feed.writer));
            let first = here.first().filter(|_| !voided.contains(&id));
            // Headquarters gives back what stands of the terminal's own campus.
            let by_hub = self.crowd.given_by_hub.get(&id).copied().unwrap_or_default();
            let first = first.map(|sale| (sale, by_hub));
            for ((_, at, (person, merchant), paid), by_hub) in
                first.into_iter().chain(elsewhere.iter().map(|sale| (sale, 0)))
            {
                let by_box = back.get(&(id, *at, *person, *merchant)).copied().unwrap_or_default();
                *charged.entry(*person).or_default() += (paid - by_box - by_hub).max(0);
            }
        }
        charged
    }

    /// Whether an id is of a terminal of a box's own campus.
    fn is_of_campus(&self, id: PurchaseId, writer: Writer) -> bool {
        let terminal = self.crowd.terminals.iter().find(|terminal| terminal.id == id.terminal);
        terminal.is_some_and(|terminal| Some(terminal.campus) == self.campus_of(writer.node))
    }

    /// Every purchase that was answered stands once in the journal of the box that answered it.
    fn compare_answers(&mut self, told: &[Told]) {
        // Anywhere, and at lives that are not fenced: the last sales of a fenced one are found with its disk, and who asked
        // for them may have turned to the box in its place.
        let mut held: BTreeMap<PurchaseId, (u64, u64)> = BTreeMap::new();
        for told in told.iter().filter(|told| !told.is_branch) {
            if let Body::Purchase(sale) = &told.entry.body {
                let (times, unfenced) = held.entry(sale.id).or_default();
                *times += 1;
                *unfenced += u64::from(!self.fenced.contains(&told.feed.writer));
            }
        }
        let excused = |node: NodeId| {
            let of = |b: &&BoxNode| b.address == node;
            let at = self.boxes.iter().position(|b| of(&b));
            at.is_none_or(|n| self.was_put_back(n) || self.fenced.contains(&self.boxes[n].me) || !self.is_listed(n))
        };
        let sold = self.crowd.answers.iter().filter(|(_, (_, a, _))| matches!(a, yika_crdt::sale::Answer::Approved(_)));
        let wrong = sold.map(|(id, (_, _, by))| (*id, held.get(id).copied().unwrap_or_default(), *by));
        // Two boxes may have sold one id while they could not ask each other; headquarters reverses one of them.
        let wrong = wrong.filter(|(id, (times, unfenced), by)| {
            !excused(*by) && (*times == 0 || *unfenced > 1 && !self.taken_alone.contains(id))
        });
        let wrong: Vec<_> = wrong.collect();
        if let Some((id, (times, _), by)) = wrong.first() {
            self.fail(format!("{id} was sold by {by} and stands {times} times in the journals"));
        }
    }
}

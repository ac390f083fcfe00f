//! Faults strike here, as the plan allows, and what they broke is mended after a while.
//!
//! Leaves to others: deaths within a turn (`turn`), what terminals suffer (`crowd`), delays (`talk`).

use crate::chance::Chance;
use crate::disk::Disk;
use crate::plan::Class;
use crate::talk::IDLE_MS;
use crate::theme::Theme;
use crate::then::Then;
use crate::world::{Event, World};
use std::collections::BTreeMap;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::{Body, Entry, WalletKey};
use yika_crdt::ids::*;
use yika_crdt::store::Read;
use yika_hub_core as core;

/// Keeps it apart from all else whether another box takes a fenced one's place.
const REPLACED_APART: u64 = 0x4E97_ACED;

/// What ends a fault.
#[derive(Clone)]
pub enum Mend {
    /// A line carries again.
    Line(NodeId, NodeId),
    /// A box's disk has room.
    BoxDisk(usize),
    /// Headquarters' disk has room.
    HubDisk,
}

impl World {
    /// One of the plan's faults strikes.
    pub fn strike(&mut self) {
        if !self.is_busy() {
            return;
        }
        let after_ms = self.chance.between(500, 9_000);
        self.later(after_ms, Event::Strike);
        let Some(class) = self.chance.pick(&self.plan.faults.clone()).copied() else { return };
        let n = self.chance.below(self.boxes.len() as u64) as usize;
        match class {
            Class::Cut => self.cut_some(n, true),
            Class::OneWay => self.cut_some(n, false),
            Class::BoxCrash if self.boxes[n].core.is_some() => self.kill_suddenly(n),
            Class::HubCrash if self.hub.core.is_some() => self.kill_hub("suddenly"),
            Class::BoxDiskFull => {
                self.struck(class);
                self.boxes[n].disk.full = true;
                self.mend_later(Mend::BoxDisk(n));
            }
            Class::HubDiskFull => {
                self.struck(class);
                self.hub.disk.full = true;
                self.mend_later(Mend::HubDisk);
            }
            Class::BoxPutBack => self.put_back(n),
            Class::HubRestore => self.restore(),
            Class::Clock => self.set_clocks(n),
            Class::Fence => self.fence(n),
            Class::Clone => self.copy_or_carry(n),
            Class::Liar => self.begin_to_lie(n),
            Class::Outage => self.outage(),
            Class::Clerks => self.clerks(),
            Class::Sleep => self.go_to_sleep(),
            _ => {}
        }
    }

    fn mend_later(&mut self, mend: Mend) {
        let after_ms = self.chance.between(300, 20_000);
        self.later(after_ms, Event::Mend(mend));
    }

    fn cut_some(&mut self, n: usize, both_ways: bool) {
        let me = self.boxes[n].address;
        let others = self.others(me);
        let Some(other) = self.chance.pick(&others).copied() else { return };
        self.struck(if both_ways { Class::Cut } else { Class::OneWay });
        let (from, to) = if self.chance.one_in(2) { (me, other) } else { (other, me) };
        self.cut_line(from, to, both_ways);
    }

    /// Addresses of all other nodes.
    pub fn others(&self, node: NodeId) -> Vec<NodeId> {
        let boxes = self.boxes.iter().map(|b| b.address).filter(|other| *other != node);
        std::iter::once(NodeId::HUB).chain(boxes).collect()
    }

    /// Cuts a line for a while, in one direction or both.
    pub fn cut_line(&mut self, from: NodeId, to: NodeId, both_ways: bool) {
        self.note(|| format!("the line {from} → {to} is cut{}", if both_ways { " both ways" } else { "" }));
        self.net.cut.insert((from, to));
        if both_ways {
            self.net.cut.insert((to, from));
        }
        // Both sides notice after the idle time.
        self.later(IDLE_MS, Event::Silent(from, to));
        self.mend_later(Mend::Line(from, to));
    }

    /// What ends a fault has come.
    pub fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Line(a, b) => {
                self.net.cut.remove(&(a, b));
                self.net.cut.remove(&(b, a));
            }
            Mend::BoxDisk(n) => self.boxes[n].disk.full = false,
            Mend::HubDisk => self.hub.disk.full = false,
        }
    }

    /// A line that is still cut after the idle time has lost its connection.
    pub fn silent(&mut self, a: NodeId, b: NodeId) {
        if self.net.cut.contains(&(a, b)) || self.net.cut.contains(&(b, a)) {
            self.disconnect(a, b);
        }
    }

    /// Somebody copies a box's disk, or puts the copy back.
    fn put_back(&mut self, n: usize) {
        if self.losses.doubtful.contains(&self.boxes[n].me) {
            return;
        }
        match self.boxes[n].copy.take() {
            None => self.boxes[n].copy = Some(self.boxes[n].disk.copy()),
            Some(copy) if !self.boxes[n].gone => {
                self.struck(Class::BoxPutBack);
                let me = self.boxes[n].me;
                self.note(|| format!("the disk of {me} is put back"));
                self.disconnect_all(self.boxes[n].address);
                self.boxes[n].core = None;
                let mirror_is_lost = self.chance.one_in(3);
                self.go_back_to(n, copy, mirror_is_lost);
                self.later(500, Event::StartBox { n, after_boot: true });
            }
            Some(_) => {}
        }
    }

    /// A box whose process is down finds an older disk; what it forgets with that may be spent again.
    pub fn go_back_to(&mut self, n: usize, older: Disk, mirror_is_lost: bool) {
        self.note(|| format!("its end outside the database is {}", if mirror_is_lost { "lost" } else { "kept" }));
        let lost = self.boxes[n].spent_since(&older);
        let unknown = self.granted_unknown(n, &older);
        let at = &mut self.boxes[n];
        at.disk = older;
        if mirror_is_lost {
            at.mirror = None;
        }
        let at_most = |(person, sum): (PersonId, i64)| {
            let unknown = unknown.get(&person).copied().unwrap_or_default();
            (person, if mirror_is_lost { sum } else { sum.min(unknown) })
        };
        self.losses.may_be_spent_again(lost.into_iter().map(at_most).collect());
        self.put_back.insert(n);
    }

    /// What a restored headquarters has not heard yet that it granted to a box, and the box forgets with its disk: nobody
    /// knows that this money has gone.
    fn granted_unknown(&self, n: usize, copy: &Disk) -> BTreeMap<PersonId, i64> {
        let node = &self.boxes[n];
        let mut unknown: BTreeMap<PersonId, i64> = BTreeMap::new();
        let of_rights = |feed: &FeedId| feed.writer.node.is_hub() && feed.channel == Channel::Rights(node.me);
        for (feed, held) in node.disk.feeds().unwrap_or_default().into_iter().filter(|(feed, _)| of_rights(feed)) {
            let end = |disk: &Disk| disk.feed(&feed).unwrap_or_default().end.seq;
            let (first, known) = (held.pruned.next(), end(&self.hub.disk).max(end(copy)));
            let entries = node.disk.entries(&feed, first, usize::MAX).unwrap_or_default();
            let mut totals: BTreeMap<PersonId, i64> = BTreeMap::new();
            for (seq, bytes) in (first.0..).zip(&entries) {
                let Ok(Entry { body: Body::Grant(grant), .. }) = Entry::decode(bytes) else { continue };
                if grant.row.wallet != WalletKey::Main {
                    continue;
                }
                let before = totals.insert(grant.row.person, grant.total.0).unwrap_or_default();
                if Seq(seq) > known {
                    *unknown.entry(grant.row.person).or_default() += grant.total.0 - before;
                }
            }
        }
        unknown
    }

    /// Headquarters is backed up, or restored from the backup.
    fn restore(&mut self) {
        match self.hub.backup.take() {
            // It is backed up in time.
            None if self.plan.is(Theme::Pruning) || self.plan.is(Theme::Days) => {}
            None => {
                self.hub.backup = Some((self.hub.disk.copy(), self.hub.books.clone(), self.hub.newest_ms));
            }
            Some((disk, books, newest_ms)) => {
                self.struck(Class::HubRestore);
                // Drawn apart, so that other histories stay as they were.
                let is_told = !Chance::new(self.plan.seed ^ self.now_ms.unsigned_abs()).one_in(3);
                self.note(|| match is_told {
                    true => "headquarters is restored from its backup".into(),
                    false => "headquarters' disk is put back without a word".into(),
                });
                self.disconnect_all(NodeId::HUB);
                self.hub.core = None;
                let fenced = self.fenced.iter().copied();
                let lost = fenced.filter(|life| self.hub.disk.knows_fence(*life) && !disk.knows_fence(*life));
                self.losses.fences.extend(lost);
                (self.hub.disk, self.hub.books, self.hub.newest_ms) = (disk, books, newest_ms);
                if self.plan.is(Theme::Pruning) || self.plan.is(Theme::Days) {
                    // Nodes have let go what it holds: it is kept until there is a newer one.
                    self.hub.backup = Some((self.hub.disk.copy(), self.hub.books.clone(), newest_ms));
                }
                self.was_restored = true;
                self.hub.forked.clear();
                (self.hub.is_restored, self.hub.is_unaware) = (is_told, !is_told);
                self.later(2_000, Event::StartHub);
            }
        }
    }

    fn set_clocks(&mut self, n: usize) {
        self.struck(Class::Clock);
        match self.chance.below(3) {
            0 => self.boxes[n].skew_ms = self.chance.between(-86_400_000, 86_400_000),
            1 => {
                let ppm = self.chance.between(-200, 200);
                self.boxes[n].set_drift(ppm, self.now_ms);
            }
            // Headquarters' clock never goes back; it is set by seconds, as a time service does.
            _ => self.hub.skew_ms = self.chance.between(-30_000, 5_000),
        }
    }

    /// An operator fences a box that lives on; one box of a campus stays.
    pub fn fence(&mut self, n: usize) {
        let campus = self.boxes[n].place.campus;
        let living = self.boxes.iter().filter(|node| node.place.campus == campus && !self.fenced.contains(&node.me));
        let writer = self.boxes[n].me;
        if living.count() < 2 || self.fenced.contains(&writer) {
            return;
        }
        // The program may have died of it after it was written; one restored to before the enrolment does not know the box.
        _ = self.order(core::Command::Fence { writer, reason: "lost".into() });
        if self.hub.disk.knows_fence(writer) {
            self.struck(Class::Fence);
            self.note(|| format!("{writer} is fenced"));
            self.fenced.insert(writer);
            // Drawn apart, so that other histories stay as they were: another box takes its place.
            let mut apart = Chance::new(self.plan.seed ^ REPLACED_APART);
            if apart.one_in(2) {
                let after_ms = apart.between(1_000, 15_000);
                self.then_after(after_ms, Then::Replace(writer));
            }
            // One that is fenced has often been away for a while, and does not hear of it.
            if self.chance.one_in(2) {
                let at = self.boxes[n].address;
                self.others(at).into_iter().for_each(|other| self.cut_line(at, other, true));
            }
        }
    }
}

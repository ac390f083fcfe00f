//! A box whose disk and key are copied, so that two of them run; and what operators do about a life in doubt: they fence
//! it, enrol another box in its place, and hand in its disk when it is found.
//!
//! Leaves to others: what the pair can cost (`losses`), liars (`liar`).

use crate::nodes::BoxNode;
use crate::plan::Class;
use crate::then::Then;
use crate::world::{Event, World};
use ed25519_dalek::SigningKey;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::feed::{SignedHead, digest};
use yika_crdt::ids::*;
use yika_crdt::store::Read;
use yika_crdt::sync::run_from;
use yika_hub_core as core;
use yika_hub_core::enrol::TokenRow;

/// An operator tries again after this.
const AGAIN_MS: i64 = 1_000;
/// Parts in which a found journal is handed in, at most.
const PARTS_MAX: usize = 200;

impl World {
    /// A box is copied, or carried away if it is fenced.
    pub fn copy_or_carry(&mut self, n: usize) {
        let life = self.boxes[n].me;
        if self.boxes[n].gone || self.boxes[n].core.is_none() {
            return;
        }
        if self.fenced.contains(&life) {
            return self.carry(n);
        }
        if !self.losses.doubtful.contains(&life) && !self.was_put_back(n) {
            self.copy(n);
        }
    }

    /// Somebody copies a box's disk and key, and starts the copy beside it. Some terminals find the one, some the other.
    fn copy(&mut self, n: usize) {
        self.struck(Class::Clone);
        let (life, m) = (self.boxes[n].me, self.boxes.len());
        let address = self.free_address(life.node);
        self.note(|| format!("{life} is copied: box {m} at {address} has its disk and key"));
        let mut copy = self.boxes[n].copied_to(address);
        copy.skew_ms = self.chance.between(-3_000, 3_000);
        self.losses.copied(n, m, &copy);
        self.losses.doubtful.insert(life);
        self.boxes.push(copy);
        let after_ms = self.chance.between(200, 5_000);
        self.later(after_ms, Event::StartBox { n: m, after_boot: true });
        for t in 0..self.crowd.terminals.len() {
            if self.crowd.terminals[t].at == n && self.chance.one_in(2) {
                self.crowd.terminals[t].at = m;
            }
        }
        let noticed_ms = self.chance.between(6_000, 45_000);
        self.then_after(noticed_ms, Then::Fence(life));
    }

    /// In the end operators look at every life in doubt.
    pub fn end_doubtful_lives(&mut self) {
        let doubtful: Vec<Writer> = self.losses.doubtful.iter().copied().collect();
        doubtful.into_iter().for_each(|life| self.then_after(0, Then::Fence(life)));
    }

    /// An operator fences a life in doubt. Where headquarters cannot reach it just then, only others can tell it.
    pub fn end_life(&mut self, life: Writer) {
        if self.fenced.contains(&life) {
            // A headquarters put back to before it is told again: nobody else may have heard of the fence.
            if !self.hub.disk.knows_fence(life) {
                _ = self.order(core::Command::Fence { writer: life, reason: "in doubt".into() });
            }
            return;
        }
        if self.is_busy() && self.chance.one_in(2) {
            let of_life = self.boxes.iter().filter(|node| node.me == life).map(|node| node.address);
            let addresses: Vec<NodeId> = of_life.collect();
            addresses.into_iter().for_each(|at| self.cut_line(NodeId::HUB, at, true));
        }
        let reply = self.order(core::Command::Fence { writer: life, reason: "in doubt".into() });
        if !self.hub.disk.knows_fence(life) {
            // A headquarters that was restored to before it enrolled the box does not know it.
            if !matches!(reply, Ok(core::Reply::Denied(_))) || self.is_busy() {
                self.then_after(AGAIN_MS, Then::Fence(life));
            }
            return;
        }
        self.note(|| format!("{life} is fenced, as it is in doubt"));
        self.fenced.insert(life);
        for n in 0..self.boxes.len() {
            if self.boxes[n].me == life && self.chance.one_in(3) {
                let after_ms = self.chance.between(500, 4_000);
                self.then_after(after_ms, Then::Carry(n));
            }
        }
        let node = life.node;
        _ = self.order(core::Command::LiftWritten { node, operator: OperatorId(7) });
        let after_ms = self.chance.between(1_000, 15_000);
        self.then_after(after_ms, Then::Replace(life));
    }

    /// A fenced box is switched off and on again where no cable reaches it.
    pub fn carry(&mut self, n: usize) {
        let (me, at) = (self.boxes[n].me, self.boxes[n].address);
        if self.boxes[n].gone || self.boxes[n].core.is_none() || !self.is_busy() {
            return;
        }
        self.struck(Class::Clone);
        self.note(|| format!("{me} at {at} is carried away"));
        self.others(at).into_iter().for_each(|other| self.cut_line(at, other, true));
        self.boxes[n].core = None;
        self.disconnect_all(at);
        self.later(1_000, Event::StartBox { n, after_boot: true });
    }

    /// A box is enrolled in the place of a fenced one: a key and a life of its own, and no rights.
    pub fn enrol_in_place(&mut self, life: Writer) {
        if self.losses.replaced.contains(&life) || self.hub_forked {
            return;
        }
        let hash = digest("sim token", format!("{life}").as_bytes()).0;
        let key = SigningKey::from_bytes(&digest("sim key", format!("{life}").as_bytes()).0);
        let public = key.verifying_key().to_bytes();
        let redeem = core::Command::Redeem { hash, key: public, name: format!("in place of {life}") };
        let mut reply = self.order(redeem.clone());
        if let Ok(core::Reply::Redeemed(Err(_))) = reply
            && let Some(campus) = self.campus_of(life.node)
        {
            let row = TokenRow { campus, expires_ms: i64::MAX, replaces: Some(life.node), used: None };
            _ = self.order(core::Command::CreateToken { hash, row });
            reply = self.order(redeem);
        }
        match reply {
            Ok(core::Reply::Redeemed(Ok((used, campus)))) => self.install(life, (used.writer, key), campus),
            _ => self.then_after(AGAIN_MS, Then::Replace(life)),
        }
    }

    fn install(&mut self, old: Writer, (life, key): (Writer, SigningKey), campus: CampusId) {
        self.note(|| format!("{life} is enrolled in the place of {old}"));
        if self.boxes.iter().any(|node| node.me == life) {
            self.fail(format!("{life} is enrolled in the place of {old}, and that life has been lived"));
        }
        self.losses.replaced.insert(old);
        let n = self.boxes.len();
        let address = self.free_address(life.node);
        self.boxes.push(BoxNode { address, key, ..BoxNode::new(life, campus.0) });
        self.later(300, Event::StartBox { n, after_boot: true });
        let of_old: Vec<usize> = (0..n).filter(|m| self.boxes[*m].me == old).collect();
        for terminal in self.crowd.terminals.iter_mut().filter(|terminal| of_old.contains(&terminal.at)) {
            terminal.at = n;
        }
        for m in of_old {
            if self.chance.one_in(2) {
                self.boxes[m].gone = true;
                self.boxes[m].core = None;
                self.disconnect_all(self.boxes[m].address);
            }
        }
    }

    /// Disks of fenced boxes are found: what they sold and passed on is posted, as evidence.
    pub fn hand_in_disks(&mut self) {
        let found = |n: &usize| self.fenced.contains(&self.boxes[*n].me) && !self.losses.burnt.contains(n);
        let fenced: Vec<usize> = (0..self.boxes.len()).filter(found).collect();
        for n in fenced {
            let me = self.boxes[n].me;
            let own = self.boxes[n].disk.feeds().unwrap_or_default().into_iter().map(|(feed, _)| feed);
            let is_evidence = |feed: &FeedId| match feed.channel {
                Channel::Rights(to) => !to.node.is_hub(),
                channel => channel == Channel::Journal,
            };
            let own: Vec<FeedId> = own.filter(|feed| feed.writer == me && is_evidence(feed)).collect();
            self.note(|| format!("the disk of {me} is found"));
            own.into_iter().for_each(|feed| self.hand_in(n, feed));
        }
    }

    /// Hands in one feed, and its other branch where headquarters asks for it.
    fn hand_in(&mut self, n: usize, feed: FeedId) {
        let mut next = Some((false, self.hub.disk.feed(&feed).map_or(Seq(1), |held| held.end.seq.next())));
        if self.boxes[n].disk.feed(&feed).is_ok_and(|held| next.is_some_and(|(_, from)| held.end.seq < from)) {
            next = self.show_end(n, feed);
        }
        for _ in 0..PARTS_MAX {
            let Some((apart, from)) = next.take() else { return };
            let node = &self.boxes[n];
            let Ok(Some(run)) = run_from(&node.disk, feed, from, node.me, &node.key) else { return };
            let (end, run) = (run.head.end.seq, Box::new(run));
            next = match self.order(if apart { core::Command::Branch(run) } else { core::Command::Ingest(run) }) {
                Ok(core::Reply::Branch { from, .. }) => Some((true, from)),
                Ok(core::Reply::Stored(..)) => Some((false, end.next())),
                _ => None,
            };
        }
    }

    /// A journal that is no longer than what headquarters holds may be another branch.
    fn show_end(&mut self, n: usize, feed: FeedId) -> Option<(bool, Seq)> {
        let node = &self.boxes[n];
        let head = SignedHead::sign(feed, node.disk.feed(&feed).ok()?.end, &node.key);
        match self.order(core::Command::Diverged(head)) {
            Ok(core::Reply::Branch { from, .. }) => Some((true, from)),
            _ => None,
        }
    }
}

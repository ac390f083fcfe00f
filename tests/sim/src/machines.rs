//! Machines that fail in smaller ways: a box stands still for a while, its monotonic clock jumps or stood still with it, a
//! connection is lost in the middle of a message so that one side does not know, a disk takes some more commits and not
//! the next.
//!
//! Leaves to others: deaths (`turn`), lines and whole disks (`strike`).

use crate::more::Work;
use crate::talk::IDLE_MS;
use crate::theme::Theme;
use crate::world::{Event, World};
use std::collections::BTreeMap;
use yika_crdt::ids::NodeId;

/// One message in so many is torn.
const TORN_ONE_IN: u64 = 700;

/// What waits for boxes that stand still, and since when they do.
#[derive(Default)]
pub struct Machines {
    waiting: BTreeMap<usize, (i64, Vec<Event>)>,
}

impl Machines {
    /// Whether messages wait for a box that stands still.
    pub fn keep_messages(&self) -> bool {
        self.waiting.values().flat_map(|(_, events)| events).any(|event| matches!(event, Event::Arrives(_)))
    }
}

impl World {
    /// Whether a box stands still.
    pub fn is_still(&self, n: usize) -> bool {
        self.boxes[n].is_still
    }

    /// A machine fails as the themes allow.
    pub fn machine_trouble(&mut self) {
        if !self.is_busy() {
            return;
        }
        self.soon(1_000, 10_000, Work::Trouble);
        let n = self.more.chance.below(self.boxes.len() as u64) as usize;
        let (suspend, disk) = (self.plan.is(Theme::Suspend), self.plan.is(Theme::DiskAt));
        match (suspend, disk && (!suspend || self.more.chance.one_in(2))) {
            (_, true) => {
                let commits = 1 + self.more.chance.below(30) as u32;
                let at_hub = self.more.chance.one_in(3);
                let disk = if at_hub { &mut self.hub.disk } else { &mut self.boxes[n].disk };
                disk.fail_after(commits);
                self.struck_by("disk_at");
            }
            (true, false) if self.more.chance.one_in(4) => self.jump_clock(n),
            (true, false) => self.stand_still(n),
            (false, false) => {}
        }
    }

    fn jump_clock(&mut self, n: usize) {
        let by_ms = self.more.chance.between(1_000, 120_000);
        self.boxes[n].boot.1 -= by_ms;
        self.more.days.off_ms += by_ms;
        self.struck_by("clock_jump");
        let me = self.boxes[n].me;
        self.note(|| format!("the monotonic clock of {me} jumps by {by_ms} ms"));
    }

    fn stand_still(&mut self, n: usize) {
        if self.boxes[n].is_still || self.boxes[n].core.is_none() {
            return;
        }
        let (me, at) = (self.boxes[n].me, self.boxes[n].address);
        self.boxes[n].is_still = true;
        self.struck_by("suspend");
        self.note(|| format!("{me} stands still"));
        let since_ms = self.now_ms - self.more.days.leapt_ms;
        self.more.machines.waiting.insert(n, (since_ms, Vec::new()));
        self.soon(300, 15_000, Work::Wake(n));
        for peer in self.peers(at) {
            self.later(IDLE_MS, Event::More(Work::Noticed(at, peer.node)));
        }
    }

    /// A box goes on: everything that has come meanwhile comes to it at once.
    pub fn wake(&mut self, n: usize) {
        if !self.boxes[n].is_still {
            return;
        }
        let me = self.boxes[n].me;
        self.note(|| format!("{me} goes on"));
        self.boxes[n].is_still = false;
        self.unsettled_ms = self.now_ms;
        let Some((since_ms, events)) = self.more.machines.waiting.remove(&n) else { return };
        // What a paused virtual machine calls monotonic time has not gone on.
        if self.more.chance.one_in(2) {
            let stood_ms = self.now_ms - self.more.days.leapt_ms - since_ms;
            self.boxes[n].boot.1 += stood_ms;
            self.more.days.off_ms += stood_ms;
        }
        events.into_iter().for_each(|event| self.later(0, event));
    }

    /// An event that may happen now: what is for a box that stands still waits until it goes on.
    pub fn unless_still(&mut self, event: Event) -> Option<Event> {
        let n = match &event {
            Event::Arrives(flight) => self.index(flight.to()),
            Event::Gate { n, .. } | Event::Asked { n, .. } | Event::Bound { n, .. } => Some(*n),
            Event::More(Work::Step { n, .. }) => Some(*n),
            _ => None,
        };
        match n.and_then(|n| self.more.machines.waiting.get_mut(&n)) {
            Some((_, waiting)) => {
                waiting.push(event);
                None
            }
            None => Some(event),
        }
    }

    /// Whether a message breaks off in the middle: who should read it loses the connection, who sent it does not know.
    pub fn is_torn(&mut self, from: NodeId, to: NodeId) -> bool {
        let is_torn = self.plan.is(Theme::Torn) && self.is_busy() && self.more.chance.one_in(TORN_ONE_IN);
        if is_torn {
            self.note(|| format!("a message {from} → {to} breaks off"));
            self.struck_by("torn");
            self.lose_one_side(to, from);
            self.later(IDLE_MS, Event::More(Work::Noticed(from, to)));
        }
        is_torn
    }

    /// A side that has heard nothing for the idle time gives the connection up.
    pub fn notice(&mut self, a: NodeId, b: NodeId) {
        let is_still = [a, b].iter().any(|node| self.index(*node).is_some_and(|n| self.is_still(n)));
        if is_still || self.is_connected(a, b) != self.is_connected(b, a) {
            self.disconnect(a, b);
        }
    }
}

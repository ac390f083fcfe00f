//! Three days without anybody: leases end, the suspense of a lost box may be released, the business day is cut.
//!
//! Leaves to others: who may spend then (`crowd` judges it), lines (`talk`).

use crate::plan::Class;
use crate::then::Then;
use crate::world::World;
use yika_crdt::ids::NodeId;
use yika_hub_core as core;

/// Longer than a lease, the skew of clocks, and the grace after both.
const SLEEP_HOURS: (i64, i64) = (74, 79);
const HOUR_MS: i64 = 3_600_000;
/// Whether messages are still under way is looked at again after this.
const SLEEP_AGAIN_MS: i64 = 7;

impl World {
    /// Some lines are cut, and then nothing happens for three days. Where a campus has two boxes they may be left to each
    /// other, and one of them is lost before.
    pub fn go_to_sleep(&mut self) {
        let living = |n: &usize| {
            let node = &self.boxes[*n];
            !node.gone && !self.fenced.contains(&node.me) && !self.losses.doubtful.contains(&node.me)
        };
        let living: Vec<usize> = (0..self.boxes.len()).filter(living).collect();
        let first = self.boxes.first().and_then(|node| node.place.campus);
        let pair: Vec<usize> = living.iter().copied().filter(|n| self.boxes[*n].place.campus == first).collect();
        self.struck(Class::Sleep);
        let last_ms = self.chance.between(18_000, 30_000);
        if let ([lost, kept], true) = (pair.as_slice(), self.chance.one_in(2)) {
            let (lost, kept) = (*lost, *kept);
            self.note(|| format!("boxes {lost} and {kept} are left to each other"));
            self.cut_for(NodeId::HUB, self.boxes[lost].address, last_ms);
            self.cut_for(NodeId::HUB, self.boxes[kept].address, last_ms);
            // One of them sells, and gets from the other what it is short of.
            for terminal in self.crowd.terminals.iter_mut().filter(|terminal| terminal.at == lost) {
                terminal.at = kept;
            }
            let after_ms = self.chance.between(5_000, 9_000);
            return self.then_after(after_ms, Then::Lost(lost));
        }
        for n in living {
            if self.chance.one_in(2) {
                self.cut_for(NodeId::HUB, self.boxes[n].address, last_ms);
            }
        }
        self.then_after(2_000, Then::Sleep);
    }

    /// A box burns with everything on it; headquarters fences it, and three days pass.
    pub fn lose(&mut self, n: usize) {
        if !self.is_busy() || self.boxes[n].gone {
            return;
        }
        let life = self.boxes[n].me;
        _ = self.order(core::Command::Fence { writer: life, reason: "burnt".into() });
        if self.hub.disk.knows_fence(life) {
            self.note(|| format!("{life} burns, and is fenced"));
            self.fenced.insert(life);
            self.losses.burnt.insert(n);
            self.boxes[n].gone = true;
            self.boxes[n].core = None;
            self.disconnect_all(self.boxes[n].address);
        }
        self.then_after(1_000, Then::Sleep);
    }

    /// Three days pass.
    pub fn sleep(&mut self) {
        if !self.is_busy() {
            return;
        }
        if self.is_under_way() {
            return self.then_after(SLEEP_AGAIN_MS, Then::Sleep);
        }
        let hours = self.chance.between(SLEEP_HOURS.0, SLEEP_HOURS.1);
        self.note(|| format!("{hours} hours pass"));
        self.let_pass(hours * HOUR_MS);
        self.unsettled_ms = self.now_ms;
    }
}

//! What histories have beside money: the themes' own state, chance and agenda, in one place.
//!
//! Whatever a theme draws is drawn here, so that histories without it stay as they were. Leaves to others: what each does.

use crate::chance::Chance;
use crate::days::Days;
use crate::doors::Doors;
use crate::folk::Folk;
use crate::limits::Limits;
use crate::machines::Machines;
use crate::plan::Plan;
use crate::rot::Rot;
use crate::snapshots::Snapshots;
use crate::theme::Theme;
use crate::world::{Event, World};
use std::collections::VecDeque;
use yika_crdt::ids::NodeId;
use yika_crdt::snapshot::Audience;

/// What themes know.
pub struct More {
    /// Draws everything of theirs.
    pub chance: Chance,
    /// Snapshots and pruning.
    pub snapshots: Snapshots,
    /// People in documents.
    pub folk: Folk,
    /// Long histories.
    pub days: Days,
    /// What the tariff allows.
    pub limits: Limits,
    /// Doors and who may pass them.
    pub doors: Doors,
    /// Boxes that stand still.
    pub machines: Machines,
    /// Torn commits and rotten pages.
    pub rot: Rot,
}

/// What a theme has on the agenda.
pub enum Work {
    /// Headquarters makes a backup and proves it.
    BackUp,
    /// Headquarters looks whether a snapshot is due.
    Cut,
    /// Headquarters offers a box snapshots of audiences, or says that there is none.
    Offer(NodeId, VecDeque<Audience>),
    /// A box takes the next step of a snapshot in.
    Step {
        /// Which box.
        n: usize,
        /// In which start.
        start: u64,
    },
    /// Somebody carries a snapshot to a box.
    Stick,
    /// A clerk changes documents.
    Clerk,
    /// Hours pass.
    Leap,
    /// The tariff changes.
    Tariff,
    /// Somebody comes to a door.
    Door,
    /// Somebody changes who may pass where.
    Policy,
    /// A machine fails.
    Trouble,
    /// A page rots.
    Rot,
    /// A box goes on.
    Wake(usize),
    /// One side of a connection notices that the other has lost it.
    Noticed(NodeId, NodeId),
}

impl More {
    /// Nothing has happened.
    pub fn new(plan: &Plan) -> More {
        let mut chance = Chance::new(plan.seed ^ 0x0E0E_5EED);
        More {
            snapshots: Snapshots::new(plan, &mut chance),
            folk: Folk::default(),
            days: Days::new(plan, &mut chance),
            limits: Limits::new(plan, &mut chance),
            doors: Doors::default(),
            machines: Machines::default(),
            rot: Rot::new(plan.seed),
            chance,
        }
    }
}

impl World {
    /// Something of a theme, at a moment drawn between two.
    pub fn soon(&mut self, least_ms: i64, most_ms: i64, work: Work) {
        let after_ms = self.more.chance.between(least_ms, most_ms);
        self.later(after_ms, Event::More(work));
    }

    /// A fault of a theme has struck.
    pub fn struck_by(&mut self, what: &'static str) {
        self.unsettled_ms = self.now_ms;
        *self.tally.faults.entry(what).or_default() += 1;
    }

    /// Something of a theme was done.
    pub fn done(&mut self, what: &'static str) {
        *self.tally.done.entry(what).or_default() += 1;
    }

    /// Before anything fails.
    pub fn set_up_more(&mut self) {
        if self.plan.is(Theme::Doors) {
            self.set_up_doors();
        }
        if self.plan.is(Theme::Days) {
            self.set_up_clocks();
        }
    }

    /// The busy time begins.
    pub fn begin_more(&mut self) {
        let works = [
            (Theme::Pruning, Work::Cut),
            (Theme::Pruning, Work::Stick),
            (Theme::Documents, Work::Clerk),
            (Theme::Days, Work::Leap),
            (Theme::Limits, Work::Tariff),
            (Theme::Doors, Work::Door),
            (Theme::Doors, Work::Policy),
            (Theme::Suspend, Work::Trouble),
            (Theme::Rot, Work::Rot),
        ];
        for (theme, work) in works {
            if self.plan.is(theme) {
                self.soon(500, 3_000, work);
            }
        }
        if self.plan.is(Theme::DiskAt) && !self.plan.is(Theme::Suspend) {
            self.soon(500, 3_000, Work::Trouble);
        }
        if self.plan.is(Theme::Pruning) || self.plan.is(Theme::Days) {
            self.soon(500, 3_000, Work::BackUp);
        }
        if let Some(n) = self.more.snapshots.late {
            let after_ms = self.more.chance.between(1_000, self.plan.busy_ms);
            self.later(after_ms, Event::StartBox { n, after_boot: true });
        }
    }

    /// Something of a theme happens.
    pub fn works(&mut self, work: Work) {
        match work {
            Work::BackUp => self.back_up(),
            Work::Cut => self.cut_if_grown(),
            Work::Offer(to, audiences) => self.offer(to, audiences),
            Work::Step { n, start } if self.boxes[n].start == start => self.take_step(n),
            Work::Step { .. } => {}
            Work::Stick => self.carry_stick(),
            Work::Clerk => self.clerk(),
            Work::Leap => self.leap(),
            Work::Tariff => self.change_tariff(),
            Work::Door => self.go_through_a_door(),
            Work::Policy => self.change_policy(),
            Work::Trouble => self.machine_trouble(),
            Work::Rot => self.rot_trouble(),
            Work::Wake(n) => self.wake(n),
            Work::Noticed(a, b) => self.notice(a, b),
        }
    }

    /// A second has passed.
    pub fn tick_more(&mut self) {
        if self.plan.is(Theme::Pruning) {
            (0..self.boxes.len()).for_each(|n| self.look_at_fetch(n));
        }
    }

    /// All is healed.
    pub fn heal_more(&mut self) {
        (0..self.boxes.len()).for_each(|n| self.wake(n));
    }

    /// The verdict of the themes over a history that has come to rest.
    pub fn conclude_more(&mut self, living: &[usize]) {
        for n in living.iter().copied().filter(|n| self.boxes[*n].shut().is_none()).collect::<Vec<_>>() {
            self.compare_known(n);
            self.compare_index(n);
            self.compare_pruned(n);
            self.compare_lease(n);
            self.compare_clock(n);
        }
        self.compare_folk();
        self.compare_doors();
    }
}

//! One turn of a node: a command, its transaction, the commit, and only then what follows from it.
//!
//! Here processes die: before the commit, when nothing has happened, or after it, when nobody hears of it. Leaves to
//! others: what effects lead to (`talk`, `selling`).

use crate::nodes::HubNode;
use crate::plan::Class;
use crate::world::{Event, World};
use yika_crdt::edge;
use yika_crdt::entry::{Body, Entry, Stamp};
use yika_crdt::ids::*;
use yika_crdt::proof;
use yika_crdt::sale::SaleError;
use yika_crdt::store::{Store, StoreError, Tx};
use yika_hub_core::{self as core, CoreError, TableRow};

/// One turn in so many kills the process, where that may happen.
const CRASH_ONE_IN: u64 = 400;

/// Why a command was not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotDone {
    /// The process is down, or died of it.
    Down,
    /// The disk refused; nothing was done.
    Disk,
}

/// When the process of a turn dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Death {
    Before,
    After,
}

impl World {
    fn death(&mut self, class: Class) -> Option<Death> {
        let dies = self.plan.has(class) && self.is_busy() && self.chance.one_in(CRASH_ONE_IN);
        dies.then(|| if self.chance.one_in(2) { Death::Before } else { Death::After })
    }

    /// One turn of a box.
    ///
    /// # Errors
    /// When it is down or its disk refuses.
    pub fn tell(&mut self, n: usize, command: edge::Command) -> Result<edge::Reply, NotDone> {
        if self.is_still(n) {
            return Err(NotDone::Down);
        }
        let death = self.death(Class::BoxCrash);
        let now_ms = self.now_ms;
        let node = &mut self.boxes[n];
        let ticks = node.ticks(now_ms);
        let Some(machine) = node.core.as_mut() else { return Err(NotDone::Down) };
        let mut effects = Vec::new();
        let mut tx = Tx::new(&node.disk);
        let reply = machine.handle(&mut tx, command, ticks, &mut effects);
        let batch = tx.into_batch();
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                let device = matches!(error, SaleError::Store(StoreError::Device { .. }));
                if !device {
                    self.fail(format!("{}: a turn failed: {error}", self.boxes[n].me));
                }
                return self.undo(n);
            }
        };
        if death == Some(Death::Before) {
            self.tear_commit(Some(n), &batch);
            self.kill_box(n, "before a commit");
            return if proof::sown("answered_before_it_is_durable") { Ok(reply) } else { Err(NotDone::Down) };
        }
        let node = &mut self.boxes[n];
        if !batch.is_empty() && node.disk.commit(&batch).is_err() {
            return self.undo(n);
        }
        if let Some(machine) = node.core.as_mut() {
            machine.committed();
        }
        if let Some(words) = node.opened_behind() {
            self.fail(words);
        }
        let node = &mut self.boxes[n];
        node.keep_ends();
        if death == Some(Death::After) {
            self.kill_box(n, "after a commit");
            return Err(NotDone::Down);
        }
        self.check_box(n);
        if !self.plan.themes.is_empty() {
            self.check_clock(n);
        }
        self.follow_box(n, effects);
        Ok(reply)
    }

    /// A turn of a box is rolled back.
    fn undo(&mut self, n: usize) -> Result<edge::Reply, NotDone> {
        self.unsettled_ms = self.now_ms;
        let node = &mut self.boxes[n];
        if let Some(machine) = node.core.as_mut()
            && let Err(error) = machine.reload(&node.disk)
        {
            self.fail(format!("{}: cannot be read again: {error}", self.boxes[n].me));
        }
        Err(NotDone::Disk)
    }

    /// One turn of headquarters.
    ///
    /// # Errors
    /// When it is down or its disk refuses.
    pub fn order(&mut self, command: core::Command) -> Result<core::Reply, NotDone> {
        let is_greeting = matches!(command, core::Command::Greeted { .. } | core::Command::Restored);
        if !is_greeting && self.hub_is_opening() {
            return Err(NotDone::Down);
        }
        if !is_greeting && self.hub.is_unaware && self.hub.core.is_some() && !matches!(command, core::Command::Nothing)
        {
            self.note(|| "headquarters writes in a life that is over".into());
            let is_known = !proof::sown("written_before_boxes_are_heard");
            (self.hub_forked, self.hub.is_unaware) = (is_known, false);
        }
        let death = self.death(Class::HubCrash);
        let hub = &mut self.hub;
        hub.newest_ms = hub.newest_ms.max(self.now_ms + hub.skew_ms);
        let stamp = Stamp { hub_time_ms: hub.newest_ms, boot: 0, mono_ms: self.now_ms.unsigned_abs() };
        let Some(machine) = hub.core.as_mut() else { return Err(NotDone::Down) };
        let (mut rows, mut effects) = (Vec::new(), Vec::new());
        let mut tx = Tx::new(&hub.disk);
        let of_lines = HubNode::is_of_lines(&command).then(|| command.clone());
        let reply = machine.handle(&mut tx, command, stamp, &mut rows, &mut effects);
        let batch = tx.into_batch();
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                if !matches!(error, CoreError::Store(StoreError::Device { .. })) {
                    self.fail(format!("headquarters: a turn failed: {error}"));
                }
                return self.undo_hub();
            }
        };
        if let Some(of) = of_lines.and_then(|command| self.hub.waits_in_vain(&command, &effects)) {
            self.fail(format!("a purchase waits for {of} to give back, which headquarters does not hear"));
        }
        if death == Some(Death::Before) {
            self.tear_commit(None, &batch);
            self.kill_hub("before a commit");
            return if proof::sown("told_before_it_is_booked") { Ok(reply) } else { Err(NotDone::Down) };
        }
        let hub = &mut self.hub;
        if !batch.is_empty() && hub.disk.commit(&batch).is_err() {
            return self.undo_hub();
        }
        if let Some(machine) = hub.core.as_mut() {
            machine.committed();
        }
        self.book(&rows);
        if death == Some(Death::After) {
            self.kill_hub("after a commit");
            return Err(NotDone::Down);
        }
        self.follow_hub(effects);
        Ok(reply)
    }

    /// Whether headquarters still hears its boxes, after a start.
    pub fn hub_is_opening(&self) -> bool {
        self.hub.core.is_some() && self.now_ms < self.hub.hears_until_ms
    }

    fn undo_hub(&mut self) -> Result<core::Reply, NotDone> {
        self.unsettled_ms = self.now_ms;
        if let Some(machine) = self.hub.core.as_mut()
            && let Err(error) = machine.reload(&self.hub.disk)
        {
            self.fail(format!("headquarters: cannot be read again: {error}"));
        }
        Err(NotDone::Disk)
    }

    fn book(&mut self, rows: &[TableRow]) {
        let mut moved = false;
        for row in rows {
            match row {
                TableRow::Transfer(transfer) => {
                    moved = true;
                    if let Err(words) = self.hub.books.book(transfer) {
                        self.fail(words);
                    }
                }
                TableRow::Alarm { word, detail, .. } => {
                    self.note(|| format!("headquarters alarms {word}: {detail}"));
                    *self.tally.alarms.entry(word.clone()).or_default() += 1;
                }
                _ => {}
            }
        }
        if moved && let Err(words) = self.hub.books.check(&self.hub.disk) {
            self.fail(format!("headquarters' books: {words}"));
        }
        self.look_at_released(rows);
    }

    /// A box's process dies; it is started again after a while.
    pub fn kill_box(&mut self, n: usize, when: &str) {
        let me = self.boxes[n].me;
        self.note(|| format!("{me} dies {when}"));
        self.struck(Class::BoxCrash);
        self.boxes[n].core = None;
        self.disconnect_all(self.boxes[n].address);
        let after_boot = self.chance.one_in(3);
        let after_ms = self.chance.between(100, 8_000);
        self.later(after_ms, Event::StartBox { n, after_boot });
    }

    /// Headquarters' process dies; it is started again after a while.
    pub fn kill_hub(&mut self, when: &str) {
        self.note(|| format!("headquarters dies {when}"));
        self.struck(Class::HubCrash);
        self.hub.core = None;
        self.disconnect_all(NodeId::HUB);
        let after_ms = self.chance.between(100, 8_000);
        self.later(after_ms, Event::StartHub);
    }

    /// What a feed's entry says.
    pub fn entry<R: yika_crdt::store::Read>(store: &R, feed: &yika_crdt::channel::FeedId, seq: Seq) -> Option<Body> {
        let bytes = store.entries(feed, seq, 1).ok()?.into_iter().next()?;
        Entry::decode(&bytes).ok().map(|entry| entry.body)
    }
}

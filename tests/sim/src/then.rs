//! Faults that take their time: what follows on what.
//!
//! Leaves to others: each step (`clone`, `liar`, `outage`, `sleep`).

use crate::world::{Event, World};
use yika_crdt::ids::*;

/// A step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// An operator fences a life that is in doubt.
    Fence(Writer),
    /// A box is enrolled in the place of a fenced life.
    Replace(Writer),
    /// A fenced box is switched off, its cables pulled, and switched on elsewhere.
    Carry(usize),
    /// A node notices late whom it admits no more.
    CloseRefused(NodeId),
    /// A liar lies.
    Lie(usize),
    /// Of two boxes of a campus that headquarters does not hear, one is lost for good.
    Lost(usize),
    /// Three days pass.
    Sleep,
}

impl World {
    /// The next step.
    pub fn then(&mut self, then: Then) {
        match then {
            Then::Fence(life) => self.end_life(life),
            Then::Replace(life) => self.enrol_in_place(life),
            Then::Carry(n) => self.carry(n),
            Then::CloseRefused(node) => self.close_refused(node),
            Then::Lie(n) => self.lie(n),
            Then::Lost(n) => self.lose(n),
            Then::Sleep => self.sleep(),
        }
    }

    /// A step follows after a while.
    pub fn then_after(&mut self, after_ms: i64, then: Then) {
        self.later(after_ms, Event::Then(then));
    }
}

//! Yika's simulator: the real cores of headquarters and boxes in one thread, under a seed that decides everything.
//!
//! `World::run` plays one history; [`run`] plays one seed and says what became of it. See `tests/sim/README.md`.

#![allow(clippy::print_stdout)] // a traced history is told as it happens

pub mod books;
pub mod chance;
pub mod clerks;
pub mod clone;
pub mod crowd;
pub mod days;
pub mod disk;
pub mod doors;
pub mod folk;
pub mod journals;
pub mod known;
pub mod liar;
pub mod limits;
pub mod losses;
pub mod machines;
pub mod more;
#[cfg(feature = "proof")]
pub mod mutants;
pub mod nodes;
pub mod office;
pub mod outage;
pub mod plan;
pub mod released;
pub mod rot;
pub mod selling;
pub mod served;
pub mod sleep;
pub mod snapshots;
pub mod strike;
pub mod talk;
pub mod theme;
pub mod then;
pub mod thief;
pub mod turn;
pub mod verdict;
pub mod wal;
pub mod world;

use plan::Plan;
use serde::Serialize;
use std::panic::AssertUnwindSafe;
use world::{Tally, World};

/// What became of a history.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What was drawn.
    pub plan: Plan,
    /// Virtual time, in milliseconds.
    pub virtual_ms: i64,
    /// Events.
    pub events: u64,
    /// Folded over everything that happened.
    pub hash: String,
    /// What was done.
    pub tally: Tally,
    /// What is wrong, if anything.
    pub failure: Option<String>,
}

/// Plays a plan. A panic of a core is a failure like others.
pub fn run(plan: Plan, is_traced: bool) -> Outcome {
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(plan.clone(), is_traced);
        world.run();
        #[cfg(feature = "proof")]
        {
            world.tally.marks = yika_crdt::proof::take_hits();
        }
        let (hash, events) = world.digest();
        Outcome {
            plan: world.plan,
            virtual_ms: world.now_ms - world.began_ms,
            events,
            hash: format!("{hash:016x}"),
            tally: world.tally,
            failure: world.failure,
        }
    }));
    played.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        let failure = Some(format!("panic: {}", words.unwrap_or_default()));
        let tally = Tally::default();
        Outcome { plan, virtual_ms: 0, events: 0, hash: String::new(), tally, failure }
    })
}

/// The smallest plan found that still fails, and how.
pub fn shrink(plan: Plan) -> Outcome {
    let mut smallest = run(plan, false);
    'again: loop {
        for smaller in smallest.plan.smaller() {
            let outcome = run(smaller, false);
            if outcome.failure.is_some() {
                smallest = outcome;
                continue 'again;
            }
        }
        return smallest;
    }
}

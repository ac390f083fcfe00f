//! The proof of the proof: every fault that is sown in the cores must make some history fail.
//!
//! Leaves to others: where the faults stand (`proof::sown` in the sources, listed by `build.rs`).

use crate::plan::Plan;
use crate::run;
use crate::theme::Theme;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use yika_crdt::proof;

include!(concat!(env!("OUT_DIR"), "/proof.rs"));

/// What became of one fault.
#[derive(Clone, Debug, Serialize)]
pub struct Mutant {
    /// Its name.
    pub fault: &'static str,
    /// The seed that found it.
    pub found_by: Option<u64>,
    /// With these themes, if not those that the seed draws.
    pub about: &'static [Theme],
    /// How it was found.
    pub words: String,
}

/// Played about these where seeds as they are drawn find nothing: few of them draw both.
const ABOUT: &[Theme] = &[Theme::Pruning, Theme::Documents];

/// Sows each fault in turn, or those named, and plays seeds until one fails, `most` at most; tells each as it is done.
pub fn hunt(only: &[String], (from, most): (u64, u64), jobs: usize, told: &(dyn Fn(&Mutant) + Sync)) -> Vec<Mutant> {
    let wanted = |fault: &&&str| only.is_empty() || only.iter().any(|name| name == **fault);
    let faults: Vec<&'static str> = FAULTS.iter().filter(wanted).copied().collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mutant = hunt_one(fault, from, most);
                    if let Ok(mut done) = done.lock() {
                        told(&mutant);
                        done.insert(*fault, mutant);
                    }
                }
            });
        }
    });
    done.into_inner().unwrap_or_default().into_values().collect()
}

fn hunt_one(fault: &'static str, from: u64, most: u64) -> Mutant {
    proof::sow(Some(fault));
    let failed = |plan: Plan| run(plan, false).failure;
    let seeds = || from..from + most;
    let drawn = seeds().find_map(|seed| Some((seed, &[][..], failed(Plan::of(seed))?)));
    let about = || seeds().find_map(|seed| Some((seed, ABOUT, failed(Plan::of(seed).about(ABOUT.to_vec()))?)));
    let found = drawn.or_else(about);
    proof::sow(None);
    match found {
        Some((seed, about, words)) => Mutant { fault, found_by: Some(seed), about, words },
        None => Mutant { fault, found_by: None, about: &[], words: String::new() },
    }
}

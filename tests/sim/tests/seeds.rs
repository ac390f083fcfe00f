//! A few seeds in every test run: they pass, do something, and are the same twice. `deploy/test` plays more of them, faster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use yika_sim::plan::{Class, Plan, kept};
use yika_sim::run;
use yika_sim::theme::Theme;

/// These draw every class of faults and every theme.
const TWICE: [u64; 6] = [1, 3, 5, 14, 16, 32];

/// Rows NFR-1, POS-4.
#[test]
fn histories_pass_and_are_the_same_twice() {
    let plans = TWICE.map(Plan::of);
    assert!(Class::ALL.into_iter().all(|class| plans.iter().any(|plan| plan.has(class))), "a class is missing");
    assert!(Theme::ALL.into_iter().all(|theme| plans.iter().any(|plan| plan.is(theme))), "a theme is missing");
    let (mut sold, mut refused, mut struck) = (0, 0, 0);
    for seed in TWICE {
        let one = run(Plan::of(seed), false);
        assert_eq!(one.failure, None, "seed {seed}");
        let again = run(Plan::of(seed), false);
        assert_eq!((one.hash, one.events), (again.hash, again.events), "seed {seed} twice");
        sold += one.tally.approved;
        refused += one.tally.refused.values().sum::<u64>();
        struck += one.tally.faults.values().sum::<u64>();
    }
    assert!(sold > 100 && refused > 50 && struck > 20, "{sold} sold, {refused} refused, {struck} faults");
}

/// Seeds that found something, with what they found; they are played first.
#[test]
fn what_failed_once_passes() {
    for plan in kept().expect("each line names a history") {
        let seed = plan.seed;
        assert_eq!(run(plan, false).failure, None, "seed {seed}");
    }
}

/// What some seeds draw apart from the rest strikes, alone, and its histories pass.
///
/// Rows NFR-1, POS-4, POS-5.
#[test]
fn copies_liars_outages_clerks_at_once_and_long_nights_pass() {
    for class in [Class::Clone, Class::Liar, Class::Outage, Class::Clerks, Class::Sleep] {
        let drawn = (1..).map(Plan::of).filter(|plan| plan.faults.contains(&class)).take(2);
        let struck = drawn.map(|plan| {
            let seed = plan.seed;
            let outcome = run(Plan { faults: vec![class], ..plan }, false);
            assert_eq!(outcome.failure, None, "seed {seed}, only {}", class.name());
            outcome.tally.faults.values().sum::<u64>()
        });
        assert!(struck.sum::<u64>() > 0, "{}", class.name());
    }
}

/// Every class of faults is drawn by some of the first seeds, and some have none.
#[test]
fn plans_of_all_classes_are_drawn() {
    let drawn = (1..200).flat_map(|seed| Plan::of(seed).faults).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(drawn.len(), Class::ALL.len());
    assert!((1..200).any(|seed| Plan::of(seed).faults.is_empty()), "and none at all");
    let drawn = (1..200).flat_map(|seed| Plan::of(seed).themes).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(drawn.len(), Theme::ALL.len());
}

/// The same history over the memory store and over the real one, in files, where a commit that a process dies before may
/// be torn.
#[test]
fn the_real_store_tells_the_same_history() {
    let mut torn = 0;
    for seed in [7, 8, 12] {
        let themes = vec![Theme::Pruning, Theme::Documents, Theme::Days, Theme::DiskAt];
        let memory = run(Plan { themes: themes.clone(), ..Plan::of(seed) }, false);
        let files = run(Plan { themes: [themes, vec![Theme::Sqlite]].concat(), ..Plan::of(seed) }, false);
        assert_eq!((memory.failure, files.failure), (None, None), "seed {seed}");
        assert_eq!((memory.hash, memory.events), (files.hash, files.events), "seed {seed}");
        torn += files.tally.faults.get("torn_write").copied().unwrap_or_default();
    }
    assert!(torn > 0, "no commit was torn");
}

/// A box whose last page is rotten does without it, and costs no more than one that was put back.
///
/// Rows NFR-1, POS-5.
#[test]
fn boxes_whose_last_page_is_rotten_go_on() {
    let rotten = [3, 16].map(|seed| {
        let outcome = run(Plan::of(seed).about(vec![Theme::Rot]), false);
        assert_eq!(outcome.failure, None, "seed {seed}");
        outcome.tally.faults.get("rot").copied().unwrap_or_default()
    });
    assert!(rotten.iter().sum::<u64>() > 1, "{rotten:?}");
}

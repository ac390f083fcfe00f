//! `yika-sim`: plays seeds, tells what became of each, and exits with 1 when one fails.
#![allow(clippy::print_stdout)] // a report is what it is for

use clap::{Parser, Subcommand};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use yika_sim::plan::{Class, Plan, kept};
use yika_sim::theme::Theme;
use yika_sim::{Outcome, run, shrink};

/// Fresh seeds begin below this: short enough to be typed.
const FRESH_SEEDS: u64 = 1_000_000_000;

/// Plays histories of campuses whose lines, disks and clocks fail as a seed says.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    doing: Option<Doing>,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many.
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// Before them what has failed once.
    #[arg(long)]
    kept: bool,
    /// After them so many others, from a first seed that is drawn anew and told.
    #[arg(long, default_value_t = 0)]
    fresh: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// This one only.
    #[arg(long)]
    seed: Option<u64>,
    /// Tells everything that happens in it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// With only these classes of faults.
    #[arg(long, value_delimiter = ',')]
    only: Option<Vec<String>>,
    /// With these themes, and no others; `none` for none.
    #[arg(long)]
    themes: Option<String>,
    /// Looks for the smallest history that fails in the same way.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// One JSON object a line.
    #[arg(long, global = true)]
    json: bool,
    /// Fails when a mark of a rare branch was hit by no seed.
    #[arg(long)]
    all_marks: bool,
    /// With this fault sown.
    #[arg(long)]
    sow: Option<String>,
}

#[derive(Subcommand)]
enum Doing {
    /// Sows each fault in turn and looks how many seeds find it; fails when one is not found.
    Mutants {
        /// Seeds that a fault may take.
        #[arg(long, default_value_t = 400)]
        most: u64,
        /// Only these faults.
        #[arg(long, value_delimiter = ',')]
        faults: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A panic of a core is told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(Doing::Mutants { most, faults }) = &cli.doing {
        return mutants(&cli, *most, faults);
    }
    if !sow(&cli) {
        return ExitCode::from(2);
    }
    if let Some(seed) = cli.seed {
        let plan = planned(&cli, seed);
        let outcome = if cli.shrink { shrink(plan) } else { run(plan, cli.trace) };
        tell(&outcome, cli.json);
        return ExitCode::from(u8::from(outcome.failure.is_some()));
    }
    let Some(plans) = kept() else {
        eprintln!("a line of kept.txt names no history");
        return ExitCode::from(2);
    };
    let kept = if cli.kept { play(&cli, "kept histories", &plans) } else { Played::default() };
    let fixed = play_seeds(&cli, cli.from, cli.count);
    let is_whole = tell_marks(&kept.and(&fixed).marks) || !cli.all_marks;
    let first = RandomState::new().hash_one(()) % FRESH_SEEDS;
    let fresh = if cli.fresh > 0 { play_seeds(&cli, first, cli.fresh) } else { Played::default() };
    let failed = kept.failed + fixed.failed + fresh.failed;
    ExitCode::from(u8::from(failed > 0 || !is_whole))
}

/// What became of many histories.
#[derive(Default)]
struct Played {
    failed: usize,
    marks: BTreeMap<&'static str, u64>,
}

impl Played {
    fn and(&self, other: &Played) -> Played {
        let mut marks = self.marks.clone();
        other.marks.iter().for_each(|(mark, hits)| *marks.entry(mark).or_default() += hits);
        Played { failed: self.failed + other.failed, marks }
    }
}

/// What a seed draws, as far as it was not asked for otherwise.
fn planned(cli: &Cli, seed: u64) -> Plan {
    let mut plan = Plan::of(seed);
    if let Some(only) = &cli.only {
        plan.faults = Class::ALL.into_iter().filter(|class| only.iter().any(|name| name == class.name())).collect();
    }
    match &cli.themes {
        Some(themes) => plan.about(Theme::named(themes)),
        None => plan,
    }
}

fn play_seeds(cli: &Cli, from: u64, count: u64) -> Played {
    let plans: Vec<Plan> = (from..from + count).map(|seed| planned(cli, seed)).collect();
    play(cli, &format!("seeds from {from}"), &plans)
}

fn play(cli: &Cli, what: &str, plans: &[Plan]) -> Played {
    let (next, played, began) = (AtomicUsize::new(0), Mutex::new(Played::default()), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..cli.jobs {
            scope.spawn(|| {
                sow(cli);
                while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run(plan.clone(), false);
                    let is_failed = outcome.failure.is_some();
                    if is_failed || cli.json {
                        tell(&outcome, cli.json);
                    }
                    if let Ok(mut played) = played.lock() {
                        *played = played.and(&Played { failed: is_failed.into(), marks: outcome.tally.marks });
                    }
                }
            });
        }
    });
    let (played, count) = (played.into_inner().unwrap_or_default(), plans.len());
    let a_minute = count as u128 * 60_000 / began.elapsed().as_millis().max(1);
    eprintln!("{count} {what}, {} failed, {a_minute} a minute", played.failed);
    played
}

/// Sows the fault that was asked for in this thread; false when it is not known.
#[cfg(feature = "proof")]
fn sow(cli: &Cli) -> bool {
    use yika_sim::mutants::FAULTS;
    let Some(wanted) = &cli.sow else { return true };
    let fault = FAULTS.iter().find(|fault| *fault == wanted);
    yika_crdt::proof::sow(fault.copied());
    if fault.is_none() {
        eprintln!("{wanted} is no fault; there are {}", FAULTS.join(", "));
    }
    fault.is_some()
}

#[cfg(not(feature = "proof"))]
fn sow(cli: &Cli) -> bool {
    if cli.sow.is_some() {
        eprintln!("faults are sown by a program that is built with --features proof");
    }
    cli.sow.is_none()
}

/// Says which marks were hit; true when all were.
#[cfg(feature = "proof")]
fn tell_marks(hit: &BTreeMap<&str, u64>) -> bool {
    let all = yika_sim::mutants::MARKS;
    let missed: Vec<&str> = all.iter().copied().filter(|mark| !hit.contains_key(mark)).collect();
    eprintln!("{} of {} marks hit; missed: {missed:?}", all.len() - missed.len(), all.len());
    missed.is_empty()
}

#[cfg(not(feature = "proof"))]
fn tell_marks(_: &BTreeMap<&str, u64>) -> bool {
    false
}

#[cfg(feature = "proof")]
fn mutants(cli: &Cli, most: u64, faults: &[String]) -> ExitCode {
    let told = |mutant: &yika_sim::mutants::Mutant| match serde_json::to_string(mutant) {
        Ok(line) if cli.json => println!("{line}"),
        _ => {
            let themes: Vec<&str> = mutant.about.iter().map(|theme| theme.name()).collect();
            let themes = if themes.is_empty() { String::new() } else { format!(":{}", themes.join("+")) };
            let seed = mutant.found_by.map_or_else(|| "-".to_owned(), |seed| format!("{seed}{themes}"));
            println!("{:<44} {seed:>5}  {}", mutant.fault, mutant.words);
        }
    };
    let found = yika_sim::mutants::hunt(faults, (cli.from, most), cli.jobs, &told);
    let killed = found.iter().filter(|mutant| mutant.found_by.is_some()).count();
    eprintln!("{killed} of {} faults found", found.len());
    ExitCode::from(u8::from(killed < found.len()))
}

#[cfg(not(feature = "proof"))]
fn mutants(_: &Cli, _: u64, _: &[String]) -> ExitCode {
    eprintln!("faults are sown by a program that is built with --features proof");
    ExitCode::from(2)
}

fn tell(outcome: &Outcome, json: bool) {
    if json {
        if let Ok(line) = serde_json::to_string(outcome) {
            println!("{line}");
        }
        return;
    }
    let (plan, tally) = (&outcome.plan, &outcome.tally);
    let said = outcome.failure.as_deref().unwrap_or("passed");
    println!(
        "seed {} ({} boxes, {} people, {} s; {:?} {:?}): {} asked, sold {:?}, refused {:?}, {} given back, {} connections, {} \
         messages, done {:?}, faults {:?}, {} marks: {said}",
        plan.seed,
        plan.boxes.len(),
        plan.people,
        outcome.virtual_ms / 1_000,
        plan.faults,
        plan.themes,
        tally.purchases,
        tally.approved_by,
        tally.refused,
        tally.refunds,
        tally.connections,
        tally.messages,
        tally.done,
        tally.faults,
        tally.marks.len(),
    );
}

//! `yika-sim`: plays seeds, tells what became of each, and exits with 1 when one fails.
#![allow(clippy::print_stdout)] // a report is what it is for

use clap::Parser;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use yika_sim::plan::{Class, Plan};
use yika_sim::{Outcome, run, shrink};

/// Plays histories of campuses whose lines, disks and clocks fail as a seed says.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// First seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many.
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// This one only.
    #[arg(long)]
    seed: Option<u64>,
    /// Tells everything that happens in it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// With only these classes of faults.
    #[arg(long, value_delimiter = ',')]
    only: Option<Vec<String>>,
    /// Looks for the smallest history that fails in the same way.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let plan = |seed| {
        let mut plan = Plan::of(seed);
        if let Some(only) = &cli.only {
            plan.faults = Class::ALL.into_iter().filter(|class| only.iter().any(|name| name == class.name())).collect();
        }
        plan
    };
    if let Some(seed) = cli.seed {
        let outcome = if cli.shrink { shrink(plan(seed)) } else { run(plan(seed), cli.trace) };
        tell(&outcome, cli.json);
        return ExitCode::from(u8::from(outcome.failure.is_some()));
    }
    let (next, failed, began) = (AtomicU64::new(cli.from), Mutex::new(Vec::new()), Instant::now());
    // A panic of a core is told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..cli.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= cli.from + cli.count {
                        return;
                    }
                    let outcome = run(plan(seed), false);
                    if outcome.failure.is_some() || cli.json {
                        tell(&outcome, cli.json);
                    }
                    if outcome.failure.is_some()
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    let took = began.elapsed();
    let a_minute = cli.count as u128 * 60_000 / took.as_millis().max(1);
    eprintln!("{} seeds from {}, {} failed, {a_minute} a minute", cli.count, cli.from, failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
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
        "seed {} ({} boxes, {} people, {} s; {:?}): {} sold, {:?} refused, {} given back, faults {:?}: {said}",
        plan.seed,
        plan.boxes.len(),
        plan.people,
        outcome.virtual_ms / 1_000,
        plan.faults,
        tally.approved,
        tally.refused,
        tally.refunds,
        tally.faults,
    );
}

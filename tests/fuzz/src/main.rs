//! `yika-fuzz`: looks for inputs that a decoder cannot bear, and keeps them in the corpus.
#![allow(clippy::print_stdout)] // a report is what it is for

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use yika_fuzz::hunt::Ended;
use yika_fuzz::target::{Target, check, keep_panics_quiet};
use yika_fuzz::{corpus, hunt, targets};

/// Alters inputs of the corpus at random and looks what every decoder makes of them; what fails joins the corpus.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// These targets only; all when absent.
    #[arg(long, value_delimiter = ',')]
    target: Vec<String>,
    /// For so long each.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The same seed alters in the same way.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Names the targets.
    #[arg(long)]
    list: bool,
    /// Runs the corpus once and alters nothing.
    #[arg(long)]
    replay: bool,
    /// Writes real values of every target into the corpus.
    #[arg(long)]
    sow: bool,
    /// Runs this file once; needs one target.
    #[arg(long)]
    one: Option<PathBuf>,
    /// Where a worker writes the input that it runs.
    #[arg(long, hide = true)]
    worker: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let chosen = chosen(&cli.target)?;
    if cli.list {
        chosen.iter().for_each(|target| println!("{:<18} {}", target.name, target.about));
        return Ok(ExitCode::SUCCESS);
    }
    if cli.sow {
        return sow(&chosen);
    }
    if let (Some(file), [target]) = (&cli.one, chosen.as_slice()) {
        return one(target, file);
    }
    if cli.replay {
        return replay(&chosen);
    }
    if let (Some(scratch), [target]) = (&cli.worker, chosen.as_slice()) {
        return work(target, &cli, scratch);
    }
    search(&chosen, &cli)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Target>> {
    if names.is_empty() {
        return Ok(targets::all().collect());
    }
    let known = || targets::all().map(|target| target.name).collect::<Vec<_>>().join(", ");
    let named = |name: &String| targets::all().find(|target| target.name == name);
    names
        .iter()
        .map(|name| named(name).with_context(|| format!("{name} is no target; there are {}", known())))
        .collect()
}

fn sow(chosen: &[&Target]) -> Result<ExitCode> {
    for target in chosen {
        for bytes in (target.seeds)() {
            corpus::keep(target.name, "real", &bytes)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn one(target: &Target, file: &Path) -> Result<ExitCode> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let began = Instant::now();
    let outcome = check(target, &bytes);
    println!("{} ms: {outcome:?}", began.elapsed().as_millis());
    Ok(ExitCode::from(u8::from(outcome.is_err())))
}

fn replay(chosen: &[&Target]) -> Result<ExitCode> {
    keep_panics_quiet();
    let (mut played, mut failed) = (0, 0);
    for target in chosen {
        for input in corpus::of(target)? {
            played += 1;
            if let Err(failure) = check(target, &input.bytes) {
                failed += 1;
                println!("{}/{}: {failure}", target.name, input.name);
            }
        }
    }
    println!("{played} inputs of {} targets, {failed} failed", chosen.len());
    Ok(ExitCode::from(u8::from(failed > 0)))
}

fn work(target: &Target, cli: &Cli, scratch: &Path) -> Result<ExitCode> {
    let report = hunt::work(target, cli.seed, Duration::from_secs(cli.seconds), scratch)?;
    let (runs, outcomes) = (report.runs, report.outcomes);
    println!("{:<18} {runs} inputs, {outcomes} outcomes, {} found", target.name, report.found.len());
    report.found.iter().for_each(|found| println!("  {found}"));
    Ok(ExitCode::from(u8::from(!report.found.is_empty())))
}

fn search(chosen: &[&Target], cli: &Cli) -> Result<ExitCode> {
    let scratch = tempfile::tempdir().context("cannot make a folder for inputs")?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut found = false;
    for target in chosen {
        let (began, mut seed) = (Instant::now(), cli.seed);
        let file = scratch.path().join(target.name);
        // A worker that was lost is followed by another for the rest of the time.
        while let Some(left) = cli.seconds.checked_sub(began.elapsed().as_secs()).filter(|left| *left > 0) {
            let mut worker = Command::new(&program);
            worker.args(["--target", target.name, "--seed", &seed.to_string(), "--seconds", &left.to_string()]);
            worker.arg("--worker").arg(&file);
            match hunt::watch(worker, target, &file)? {
                Ended::InTime(has_found) => {
                    found |= has_found;
                    break;
                }
                Ended::Lost(words) => {
                    found = true;
                    println!("{words}");
                }
            }
            seed = seed.wrapping_add(1_000_003);
        }
    }
    if found {
        bail!("something was found; the inputs are in {}", corpus::folder().display());
    }
    Ok(ExitCode::SUCCESS)
}

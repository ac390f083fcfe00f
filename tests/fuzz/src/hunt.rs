//! The search: a worker process alters inputs until its time is up, its parent keeps what killed or stopped it.
//!
//! An allocation that the system refuses ends a process, and so does a stack that overflows; a decoder that never returns
//! cannot be ended from inside. So the worker writes every input to a file before it runs it, and its parent watches the
//! file. Leaves to others: the search's seed and duration (`main`).

use crate::corpus;
use crate::dice::Dice;
use crate::mutate::mutate;
use crate::shrink::shrink;
use crate::target::{Failure, Target, check, keep_panics_quiet};
use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// Inputs kept in memory to alter further.
const POOL_MAX: usize = 4_000;
/// An input that takes longer is kept as slow.
const SLOW: Duration = Duration::from_millis(2_000);
/// An input that takes longer is kept, and the worker ended.
const STUCK: Duration = Duration::from_secs(30);
/// Address space of a worker: beyond it an allocation fails and the worker dies, and not the machine.
const WORKER_BYTES_MAX: u64 = 6 << 30;
/// Tries of shrinking what takes long or much memory.
const COSTLY_TRIES_MAX: usize = 60;

/// What a search did.
#[derive(Default, Debug)]
pub struct Report {
    /// Inputs run.
    pub runs: u64,
    /// Different outcomes.
    pub outcomes: usize,
    /// What was found, in words, with the path of the kept input.
    pub found: Vec<String>,
}

/// Alters inputs of a target for so long. `scratch` holds the input that is being run.
///
/// # Errors
/// The device's.
pub fn work(target: &Target, seed: u64, time: Duration, scratch: &Path) -> Result<Report> {
    keep_panics_quiet();
    setrlimit(Resource::As, Rlimit { current: Some(WORKER_BYTES_MAX), maximum: Some(WORKER_BYTES_MAX) })
        .context("cannot bound the worker's memory")?;
    let file = File::create(scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let mut search = Search { target, file, pool: Vec::new(), seen: BTreeSet::new(), told: BTreeSet::new() };
    let (mut report, began, mut dice) = (Report::default(), Instant::now(), Dice::new(seed));
    let seeds = corpus::of(target)?.into_iter().map(|input| input.bytes).chain((target.seeds)());
    for input in seeds.collect::<Vec<_>>() {
        search.run(input, &mut report)?;
    }
    if search.pool.is_empty() {
        search.pool.push(Vec::new());
    }
    while began.elapsed() < time {
        let parent = dice.pick(&search.pool).clone();
        let input = mutate(&mut dice, &parent, &search.pool, target.input_bytes_max);
        search.run(input, &mut report)?;
    }
    report.outcomes = search.seen.len();
    Ok(report)
}

struct Search<'t> {
    target: &'t Target,
    file: File,
    pool: Vec<Vec<u8>>,
    seen: BTreeSet<String>,
    told: BTreeSet<String>,
}

impl Search<'_> {
    fn run(&mut self, input: Vec<u8>, report: &mut Report) -> Result<()> {
        self.file.set_len(input.len() as u64).and_then(|()| self.file.write_all_at(&input, 0))?;
        report.runs += 1;
        let began = Instant::now();
        let outcome = check(self.target, &input);
        let took = began.elapsed();
        match outcome {
            Err(failure) if self.told.insert(failure.signature()) => self.keep(&input, &failure, report)?,
            Err(_) => {}
            Ok(_) if took > SLOW => {
                if self.told.insert("slow".to_owned()) {
                    let path = corpus::keep(self.target.name, "slow", &input)?;
                    report.found.push(format!("took {} ms: {}", took.as_millis(), path.display()));
                }
            }
            Ok(seen) => {
                if self.pool.len() < POOL_MAX && self.seen.insert(seen) {
                    self.pool.push(input);
                }
            }
        }
        Ok(())
    }

    fn keep(&self, input: &[u8], failure: &Failure, report: &mut Report) -> Result<()> {
        let tries = if matches!(failure, Failure::Memory { .. }) { COSTLY_TRIES_MAX } else { usize::MAX };
        let same = |bytes: &[u8]| check(self.target, bytes).is_err_and(|f| f.signature() == failure.signature());
        let smallest = shrink(input, tries, same);
        let path = corpus::keep(self.target.name, "found", &smallest)?;
        report.found.push(format!("{failure}: {}", path.display()));
        Ok(())
    }
}

/// How a worker ended.
pub enum Ended {
    /// Its time was up; whether it has found something, and told it.
    InTime(bool),
    /// It died or stood still on an input that is kept; in words.
    Lost(String),
}

/// Watches a worker; one that dies or stands still leaves its input in the corpus.
///
/// # Errors
/// The worker cannot be started, or the device's.
pub fn watch(mut worker: Command, target: &Target, scratch: &Path) -> Result<Ended> {
    let mut child = worker.spawn().context("cannot start a worker")?;
    loop {
        if let Some(status) = child.try_wait()? {
            return ended(status, target, scratch);
        }
        let changed = scratch.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
        if changed.is_some_and(|ago| ago > STUCK) {
            child.kill()?;
            child.wait()?;
            let path = corpus::keep(target.name, "stuck", &std::fs::read(scratch)?)?;
            return Ok(Ended::Lost(format!("{}: does not return: {}", target.name, path.display())));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn ended(status: ExitStatus, target: &Target, scratch: &Path) -> Result<Ended> {
    if status.code().is_some() {
        return Ok(Ended::InTime(!status.success()));
    }
    let path = corpus::keep(target.name, "killed", &std::fs::read(scratch)?)?;
    Ok(Ended::Lost(format!("{}: {status}: {}", target.name, path.display())))
}

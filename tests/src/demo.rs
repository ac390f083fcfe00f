//! The demonstration: one headquarters, two campuses (one with two boxes), people from a spreadsheet, a lunch rush at
//! tills and doors with the line to headquarters cut in the middle, and at the end a table that anyone can check.
//!
//! Everything runs as real processes on loopback (`site`); the sums are added up by a reader of its own (`books`).

mod place;
mod report;
mod rush;

use crate::world::World;
use anyhow::{Context, Result};
use clap::Parser;
use place::Place;
use std::path::PathBuf;
use std::time::Instant;

pub use report::Report;

/// The whole demonstration in one command.
#[derive(Debug, Clone, Parser)]
#[command(name = "deploy/demo", version)]
pub struct Options {
    /// End when the table is printed, instead of staying up until Ctrl-C.
    #[arg(long)]
    pub exit: bool,
    /// Print the table as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Alter one booked sale on disk before adding up: the sums must then differ.
    #[arg(long)]
    pub inject_fault: bool,
    /// Seconds of each of the three parts of the rush: before, during and after the cut.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// People on each campus.
    #[arg(long, default_value_t = 150)]
    pub people: usize,
    /// Sales in a second on each campus.
    #[arg(long, default_value_t = 25)]
    pub rate: u32,
    /// Folder for databases and logs; a temporary one that is removed at the end when absent.
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// Runs it; whether the books agree.
///
/// # Errors
/// What could not be started or did not come, with the last words of the program concerned.
pub async fn run(options: &Options) -> Result<bool> {
    let temporary = tempfile::Builder::new().prefix("yika-demo-").tempdir().context("no temporary folder")?;
    let place = Place::take(options.dir.as_deref().unwrap_or(temporary.path()))?;
    let progress = Progress::begin();
    let built = World::build(place.dir(), options.people, &|words| progress.say(words)).await;
    let mut world = match built {
        Ok(world) => world,
        Err(error) => return Err(place.give_back(error).await),
    };
    let times = rush::rush(&world, options, &progress).await?;
    let report = report::add_up(&world, &times, options, &progress).await?;
    report.print(options.json)?;
    if !options.exit {
        world.tell_pages(&|words| progress.say(words));
        progress.say("everything stays up; Ctrl-C ends it · 一切保持运行，按 Ctrl-C 结束");
        tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
    }
    progress.say("stopping · 正在停止");
    world.stop().await?;
    Ok(report.agrees())
}

/// Says what happens, on standard error.
pub(crate) struct Progress {
    start: Instant,
}

impl Progress {
    pub(crate) fn begin() -> Progress {
        Progress { start: Instant::now() }
    }

    pub(crate) fn say(&self, words: &str) {
        crate::process::complain(&format!("[{:>5.1} s] {words}", self.start.elapsed().as_secs_f32()));
    }
}

//! The soak: a whole world of real processes under load, while by a seed everything fails that can fail: processes are
//! killed, stopped and held still, lines cut and made bad, disks filled, boxes put back from a copy. Then all is mended, and
//! the books are compared entry by entry, as in the demo (`books`).
//!
//! A seed draws the same faults at the same moments; what they meet is up to the machine. Leaves to others: what is drawn
//! (`plan`), how it is done (`strike`), tills and doors (`load`), the desk at headquarters (`desk`), the table (`report`).

mod copy;
mod desk;
mod load;
mod plan;
mod report;
mod strike;
mod witness;

use crate::demo::Progress;
use crate::site::until;
use crate::small_disk::SmallDisk;
use crate::world::World;
use anyhow::{Context, Result};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

pub use report::Report;

/// What the databases of one program may take: a box of an hour needs a fraction of it.
const DISK_KIB: u32 = 512 << 10;
/// How long everything may take to be as it was before, once all is mended.
const MEND: Duration = Duration::from_secs(120);
/// What the programs need at the start is not what they need under load.
const WARM_UP: Duration = Duration::from_secs(5);
/// A world under load and faults, for so long.
#[derive(Debug, Clone, Parser)]
#[command(name = "yika-soak", version)]
pub struct Options {
    /// Minutes of faults.
    #[arg(long, default_value_t = 3)]
    pub minutes: u64,
    /// Seconds of faults in place of minutes.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Draws the faults.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print the table as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Alter one booked sale on disk before adding up: the sums must then differ.
    #[arg(long)]
    pub inject_fault: bool,
    /// People on each campus.
    #[arg(long, default_value_t = 40)]
    pub people: usize,
    /// Sales in a second on each campus.
    #[arg(long, default_value_t = 12)]
    pub rate: u32,
    /// Folder for databases and logs, which stay; a temporary one that is removed at the end when absent.
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

impl Options {
    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(self.minutes.saturating_mul(60)))
    }
}

/// Runs it; whether the books agree and nothing ended that should not.
///
/// # Errors
/// What could not be started or did not come, with the last words of the program concerned.
pub async fn run(options: &Options) -> Result<bool> {
    let temporary = tempfile::Builder::new().prefix("yika-soak-").tempdir().context("no temporary folder")?;
    let dir = options.dir.as_deref().unwrap_or(temporary.path());
    let dir = std::path::absolute(dir).with_context(|| format!("cannot use {}", dir.display()))?;
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let progress = Progress::begin();
    let disks = Disks::mount(&dir)?;
    let mut world = World::build(&dir, options.people, &|words| progress.say(words)).await?;
    world.lift_limits().await?;
    let report = soak(&mut world, disks.as_ref(), options, &progress).await?;
    report.print(options.json)?;
    progress.say("stopping · 正在停止");
    world.stop().await?;
    Ok(report.agrees())
}

async fn soak(world: &mut World, disks: Option<&Disks>, options: &Options, progress: &Progress) -> Result<Report> {
    let (stop, stopped) = watch::channel(false);
    let load = load::start(world, options, &stopped);
    let desk = tokio::spawn(desk::work(desk::Desk::of(world, options.seed), stopped.clone()));
    tokio::time::sleep(WARM_UP).await;
    let at_start = witness::memory(world);
    let told = format!("{} s of faults by seed {} · 开始注入故障", options.length().as_secs(), options.seed);
    progress.say(&told);
    let mut strikes = strike::Strikes::new(world, disks, options.seed, progress);
    strikes.run(options.length()).await?;
    strikes.mend().await?;
    let struck = strikes.done();
    progress.say("all is mended; the tills end their shifts · 故障已全部恢复，收银收尾");
    stop.send_replace(true);
    let sold = load.finish().await?;
    let desk = desk.await.context("the desk ended badly")?;
    progress.say("waiting until headquarters and boxes are one again · 等待各节点追平");
    until("every box is ready and holds what headquarters says", MEND, async || {
        Ok(witness::all_ready(world).await && world.is_spread()?)
    })
    .await?;
    report::add_up(world, options, report::Seen { at_start, struck, sold, desk }).await
}

/// A small disk for every program, which can be filled; none where that is not allowed.
pub(crate) struct Disks {
    of: Vec<SmallDisk>,
}

/// The hub comes after the boxes.
pub(crate) const PROGRAMS: [&str; 4] = ["east-1", "east-2", "west-1", "hub"];
/// Its place among [`PROGRAMS`].
pub(crate) const HUB: usize = 3;

impl Disks {
    fn mount(dir: &Path) -> Result<Option<Disks>> {
        let mut of = Vec::new();
        for (at, name) in PROGRAMS.into_iter().enumerate() {
            let place = if at == HUB { dir.join(name) } else { dir.join(name).join("data") };
            let Some(disk) = SmallDisk::mount(&place, DISK_KIB)? else { return Ok(None) };
            of.push(disk);
        }
        Ok(Some(Disks { of }))
    }
}

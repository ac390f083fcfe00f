//! Does to the running world what was drawn, and mends it again. What ends, fails or refuses without cause is found.

use super::plan::{self, Deed};
use super::{Disks, HUB, PROGRAMS, copy};
use crate::demo::Progress;
use crate::process::Process;
use crate::relay::Faults;
use crate::world::World;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use yika_drivers::terminal::simulator::Dice;

/// How long a program may take to be ready, and with a full disk, where it need not.
const READY: Duration = Duration::from_secs(30);
const READY_ON_FULL_DISK: Duration = Duration::from_secs(3);
const STOP: Duration = Duration::from_secs(20);
/// What could not be done is tried again after this.
const AGAIN: Duration = Duration::from_millis(700);
/// What a full disk has left.
const LEFT_KIB: u64 = 16;
/// How often the state is said.
const SAY_EVERY: Duration = Duration::from_secs(30);
/// Things found that are told.
const FOUND_MAX: usize = 20;

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Struck {
    pub(super) kills: u64,
    pub(super) stops: u64,
    pub(super) holds: u64,
    pub(super) cuts: u64,
    pub(super) bad_lines: u64,
    pub(super) full_disks: u64,
    pub(super) put_back: u64,
    /// Programs that ended by themselves, did not start or did not stop, in words.
    pub(super) found: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Up,
    Down,
    Held,
}

/// The world and what is wrong with it.
pub(super) struct Strikes<'w> {
    world: &'w mut World,
    disks: Option<&'w Disks>,
    progress: &'w Progress,
    dice: Dice,
    /// What is to be done when; the number keeps the order of what is due at one moment.
    due: BTreeMap<(Instant, u64), Deed>,
    drawn: u64,
    standing: [Standing; PROGRAMS.len()],
    full: [bool; PROGRAMS.len()],
    /// How many faults keep a line cut.
    cut: [u32; HUB],
    done: Struck,
}

impl<'w> Strikes<'w> {
    pub(super) fn new(world: &'w mut World, disks: Option<&'w Disks>, seed: u64, progress: &'w Progress) -> Self {
        Strikes {
            world,
            disks,
            progress,
            dice: Dice::new(seed, 0),
            due: BTreeMap::new(),
            drawn: 0,
            standing: [Standing::Up; PROGRAMS.len()],
            full: [false; PROGRAMS.len()],
            cut: [0; HUB],
            done: Struck::default(),
        }
    }

    /// What was done, and found.
    pub(super) fn done(self) -> Struck {
        self.done
    }

    /// Faults for so long.
    pub(super) async fn run(&mut self, length: Duration) -> Result<()> {
        let ends = Instant::now() + length;
        let (mut next, mut said) = (Instant::now(), Instant::now());
        while Instant::now() < ends {
            let due = self.due.first_key_value().map(|((at, _), _)| *at);
            sleep_until(due.map_or(next, |due| due.min(next)).min(ends)).await;
            if due.is_some_and(|due| due <= Instant::now()) {
                if let Some((_, deed)) = self.due.pop_first() {
                    self.perform(deed).await?;
                }
            } else if next <= Instant::now() {
                let (pause_ms, deeds) = plan::draw(&mut self.dice);
                deeds.into_iter().for_each(|(after_ms, deed)| self.later(Duration::from_millis(after_ms), deed));
                next = Instant::now() + Duration::from_millis(pause_ms);
            }
            self.look_who_ended()?;
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                self.progress.say(&format!("  {:?}", self.done));
            }
        }
        Ok(())
    }

    /// Mends everything at once.
    pub(super) async fn mend(&mut self) -> Result<()> {
        self.due.clear();
        for at in 0..PROGRAMS.len() {
            self.perform(Deed::Empty(at)).await?;
            self.perform(Deed::Wake(at)).await?;
        }
        for edge in 0..HUB {
            self.cut[edge] = self.cut[edge].min(1);
            self.perform(Deed::Heal(edge)).await?;
            self.perform(Deed::Clear(edge)).await?;
        }
        for at in 0..PROGRAMS.len() {
            self.perform(Deed::Start(at)).await?;
        }
        self.look_who_ended()?;
        while let Some((_, deed)) = self.due.pop_first() {
            self.perform(deed).await?;
        }
        Ok(())
    }

    fn later(&mut self, after: Duration, deed: Deed) {
        self.drawn += 1;
        self.due.insert((Instant::now() + after, self.drawn), deed);
    }

    fn found(&mut self, words: String) {
        self.progress.say(&format!("  FOUND {words}"));
        if self.done.found.len() < FOUND_MAX {
            self.done.found.push(words);
        }
    }

    fn process(&mut self, at: usize) -> &mut Process {
        match at {
            HUB => &mut self.world.hub.process,
            edge => &mut self.world.boxes[edge].process,
        }
    }

    async fn perform(&mut self, deed: Deed) -> Result<()> {
        match deed {
            Deed::Kill(at) if self.standing[at] != Standing::Down => {
                self.process(at).kill().await?;
                self.standing[at] = Standing::Down;
                self.done.kills += 1;
            }
            Deed::Stop(at) if self.standing[at] == Standing::Up => {
                self.stop(at).await;
                self.done.stops += 1;
                if at != HUB {
                    copy::take(&self.world.boxes[at], &self.copy_of(at))?;
                }
            }
            Deed::Start(at) if self.standing[at] == Standing::Down => self.start(at).await,
            Deed::Hold(at) if self.standing[at] == Standing::Up => {
                self.process(at).signal("STOP").await?;
                self.standing[at] = Standing::Held;
                self.done.holds += 1;
            }
            Deed::Wake(at) if self.standing[at] == Standing::Held => {
                self.process(at).signal("CONT").await?;
                self.standing[at] = Standing::Up;
            }
            Deed::PutBack(edge) if self.may_be_put_back(edge) => self.put_back(edge).await?,
            Deed::Fill(at) | Deed::Empty(at) => self.resize(at, matches!(deed, Deed::Fill(_)))?,
            other => self.change_line(other),
        }
        Ok(())
    }

    fn change_line(&mut self, deed: Deed) {
        match deed {
            Deed::Cut(edge) => {
                self.cut[edge] += 1;
                self.world.boxes[edge].cut_wan();
                self.done.cuts += 1;
            }
            Deed::Heal(edge) if self.cut[edge] > 0 => {
                self.cut[edge] -= 1;
                if self.cut[edge] == 0 {
                    self.world.boxes[edge].heal_wan();
                }
            }
            Deed::Spoil(edge, line) => {
                self.set_line(edge, Faults::both(line));
                self.done.bad_lines += 1;
            }
            Deed::Clear(edge) => self.set_line(edge, Faults::default()),
            _ => {}
        }
    }

    /// A cut line stays cut, whatever else is wrong with it.
    fn set_line(&mut self, edge: usize, mut faults: Faults) {
        let is_cut = self.cut[edge] > 0;
        (faults.up.cut, faults.down.cut) = (is_cut, is_cut);
        self.world.boxes[edge].uplink.set(faults);
    }

    fn resize(&mut self, at: usize, is_to_be_full: bool) -> Result<()> {
        let Some(disk) = self.disks.map(|disks| &disks.of[at]) else { return Ok(()) };
        match (is_to_be_full, self.full[at]) {
            // A program that writes faster than the disk shrinks goes on with room this time.
            (true, false) => self.full[at] = disk.squeeze(LEFT_KIB).is_ok(),
            (false, true) => {
                disk.relax()?;
                self.full[at] = false;
            }
            _ => return Ok(()),
        }
        self.done.full_disks += u64::from(self.full[at]);
        Ok(())
    }

    async fn start(&mut self, at: usize) {
        let bound = if self.full[at] { READY_ON_FULL_DISK } else { READY };
        let process = self.process(at);
        let started = match process.restart().await {
            Ok(()) => process.wait_for_output("\"ready\":true", bound).await.map(|_| ()),
            Err(error) => Err(error),
        };
        match started {
            Ok(()) => self.standing[at] = Standing::Up,
            Err(error) => {
                if !self.full[at] {
                    self.found(format!("{} does not start: {error:#}", PROGRAMS[at]));
                }
                self.later(AGAIN, Deed::Start(at));
            }
        }
    }

    async fn stop(&mut self, at: usize) {
        self.standing[at] = Standing::Down;
        let ended = self.process(at).terminate(STOP).await;
        let wrong = match ended {
            Ok(status) if status.success() => return,
            Ok(status) => format!("{status}{}", self.process(at).tail()),
            Err(error) => format!("{error:#}"),
        };
        if !self.full[at] {
            self.found(format!("{} does not stop as it should: {wrong}", PROGRAMS[at]));
        }
    }

    fn copy_of(&self, edge: usize) -> PathBuf {
        self.world.dir.join("copies").join(PROGRAMS[edge])
    }

    fn may_be_put_back(&self, edge: usize) -> bool {
        self.standing[edge] == Standing::Up && !self.full[edge]
    }

    /// Only what headquarters holds comes back: a box that has told it everything is put back, another only stopped.
    async fn put_back(&mut self, edge: usize) -> Result<()> {
        self.stop(edge).await;
        let (put_back, from) = (&self.world.boxes[edge], self.copy_of(edge));
        if from.exists() && copy::is_held(put_back, &self.world.hub.database())? {
            self.done.put_back += 1;
            return copy::put_back(put_back, &from);
        }
        self.done.stops += 1;
        copy::take(put_back, &from)
    }

    /// Programs end only when they are told to.
    fn look_who_ended(&mut self) -> Result<()> {
        for (at, name) in PROGRAMS.into_iter().enumerate() {
            if self.standing[at] == Standing::Up && !self.process(at).is_running()? {
                self.standing[at] = Standing::Down;
                let tail = self.process(at).tail();
                self.found(format!("{name} ended by itself{tail}"));
                self.later(AGAIN, Deed::Start(at));
            }
        }
        Ok(())
    }
}

//! Disks that hold less than was written to them: a process dies in the middle of a commit, and the last page that a box
//! wrote is rotten when it starts again.
//!
//! Both draw apart: over files a history is to be what it is in memory. Leaves to others: files and their bytes (`disk`,
//! `wal`), what a box forgets with its disk and may cost (`strike`, `losses`).

use crate::chance::Chance;
use crate::more::Work;
use crate::theme::Theme;
use crate::world::World;
use yika_crdt::store::Batch;

/// Of so many deaths before a commit one comes in the middle of it.
const TORN_ONE_IN: u64 = 2;
/// Of so many boxes that die suddenly one finds its last page rotten.
const ROTTEN_ONE_IN: u64 = 2;
/// Of so many boxes with a rotten page one has lost the end kept outside its database, too.
const MIRROR_LOST_ONE_IN: u64 = 3;
/// Keeps these draws apart from all others.
const APART: u64 = 0xB17_0000_0000_0207;

/// What is drawn of it.
pub struct Rot {
    chance: Chance,
}

impl Rot {
    /// Nothing is rotten.
    pub fn new(seed: u64) -> Rot {
        Rot { chance: Chance::new(seed ^ APART) }
    }
}

impl World {
    /// A process dies before a commit, of a box or of headquarters: where there are files it may have begun it. What is read
    /// afterwards is what was there before.
    pub fn tear_commit(&mut self, at: Option<usize>, batch: &Batch) {
        let chance = &mut self.more.rot.chance;
        if batch.is_empty() || !chance.one_in(TORN_ONE_IN) {
            return;
        }
        let disk = at.map_or(&mut self.hub.disk, |n| &mut self.boxes[n].disk);
        match disk.commit_torn(batch, chance) {
            Ok(false) => {}
            Ok(true) => {
                self.struck_by("torn_write");
                self.aside(|| "the commit is torn".into());
            }
            Err(words) => self.fail(format!("a torn commit: {words}")),
        }
    }

    /// A box dies suddenly, because pages rot.
    pub fn rot_trouble(&mut self) {
        if !self.is_busy() {
            return;
        }
        self.soon(5_000, 40_000, Work::Rot);
        let n = self.more.chance.below(self.boxes.len() as u64) as usize;
        if self.boxes[n].core.is_some() {
            self.kill_suddenly(n);
        }
    }

    /// A box's process dies between two turns.
    pub fn kill_suddenly(&mut self, n: usize) {
        self.kill_box(n, "suddenly");
        let is_in_doubt = self.losses.doubtful.contains(&self.boxes[n].me);
        if self.plan.is(Theme::Rot) && !is_in_doubt && self.more.rot.chance.one_in(ROTTEN_ONE_IN) {
            self.rot(n);
        }
    }

    /// The last transaction of a box is gone, as with a copy that is put back and hardly older than the disk.
    fn rot(&mut self, n: usize) {
        let (me, chance) = (self.boxes[n].me, &mut self.more.rot.chance);
        let whole = match self.boxes[n].disk.rot(chance) {
            Ok(None) => return,
            Ok(Some(whole)) => whole,
            // SQLite tells a frame of its log that is not as written from one that is: no page of it is taken for sound.
            Err(words) => return self.fail(format!("{me}: a rotten page: {words}")),
        };
        let mirror_is_lost = chance.one_in(MIRROR_LOST_ONE_IN);
        self.struck_by("rot");
        self.note(|| format!("the last page that {me} wrote is rotten"));
        let older = std::mem::replace(&mut self.boxes[n].disk, whole);
        self.go_back_to(n, older, mirror_is_lost);
    }
}

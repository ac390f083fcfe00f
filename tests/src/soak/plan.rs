//! What is drawn: which fault comes next, whom it meets and when it is mended. Pure: a seed gives the same faults.

use super::{HUB, PROGRAMS};
use crate::relay::Direction;
use yika_drivers::terminal::simulator::Dice;

/// The first three programs are boxes.
const BOXES: u64 = HUB as u64;
/// How often a line that flaps goes away, and for how long, as it comes back for.
const FLAPS: u64 = 4;
const FLAP_MS: u64 = 3_000;

/// What is done to a program, by its place among [`PROGRAMS`], or to the line of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// `kill -9`.
    Kill(usize),
    /// SIGTERM, and a copy of a box's database once it has ended.
    Stop(usize),
    /// Starts what was killed or stopped.
    Start(usize),
    /// SIGSTOP: it does nothing and its connections stay open.
    Hold(usize),
    /// SIGCONT.
    Wake(usize),
    /// The line of a box to everything outside its campus goes away.
    Cut(usize),
    /// It is back.
    Heal(usize),
    /// It loses, repeats, reorders and delays.
    Spoil(usize, Direction),
    /// It is good again.
    Clear(usize),
    /// The disk is full.
    Fill(usize),
    /// There is room again.
    Empty(usize),
    /// A box is stopped and its database put back from the copy that was made when it was last stopped.
    PutBack(usize),
}

/// A fault: its deeds, each so many milliseconds from now, and the pause before the next fault is drawn.
pub(super) fn draw(dice: &mut Dice) -> (u64, Vec<(u64, Deed)>) {
    let program = dice.below(PROGRAMS.len() as u64) as usize;
    let edge = dice.below(BOXES) as usize;
    let deeds = match dice.below(100) {
        0..22 => for_a_while(dice, (100, 4_000), Deed::Kill(program), Deed::Start(program)),
        22..32 => for_a_while(dice, (100, 3_000), Deed::Stop(program), Deed::Start(program)),
        32..42 => for_a_while(dice, (300, 7_000), Deed::Hold(program), Deed::Wake(program)),
        42..56 => for_a_while(dice, (500, 12_000), Deed::Cut(edge), Deed::Heal(edge)),
        56..64 => {
            let back = between(dice, 500, 15_000);
            (0..HUB).flat_map(|edge| [(0, Deed::Cut(edge)), (back, Deed::Heal(edge))]).collect()
        }
        64..70 => (0..FLAPS).flat_map(|n| flap(edge, n)).collect(),
        70..82 => {
            let line = bad_line(dice);
            for_a_while(dice, (3_000, 15_000), Deed::Spoil(edge, line), Deed::Clear(edge))
        }
        82..91 => for_a_while(dice, (2_000, 10_000), Deed::Fill(program), Deed::Empty(program)),
        _ => for_a_while(dice, (100, 1_000), Deed::PutBack(edge), Deed::Start(edge)),
    };
    (between(dice, 500, 3_000), deeds)
}

fn for_a_while(dice: &mut Dice, (least, most): (u64, u64), fault: Deed, mended: Deed) -> Vec<(u64, Deed)> {
    vec![(0, fault), (between(dice, least, most), mended)]
}

fn flap(edge: usize, n: u64) -> [(u64, Deed); 2] {
    let gone = 2 * n * FLAP_MS;
    [(gone, Deed::Cut(edge)), (gone + FLAP_MS, Deed::Heal(edge))]
}

fn bad_line(dice: &mut Dice) -> Direction {
    let mut ppm = |most| between(dice, 0, most) as u32;
    Direction {
        loss_ppm: ppm(150_000),
        duplicate_ppm: ppm(100_000),
        reorder_ppm: ppm(150_000),
        reorder_ms: 1 + ppm(80),
        delay_ms: ppm(120),
        jitter_ms: ppm(60),
        ..Direction::default()
    }
}

fn between(dice: &mut Dice, least: u64, most: u64) -> u64 {
    least + dice.below(most - least + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use std::collections::BTreeSet;

    fn drawn(seed: u64) -> Vec<(u64, Vec<(u64, Deed)>)> {
        let mut dice = Dice::new(seed, 0);
        (0..400).map(|_| draw(&mut dice)).collect()
    }

    /// A failure is played again by its seed; and no kind of fault is left out.
    #[test]
    fn a_seed_draws_the_same_faults_and_every_kind_comes() {
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let kinds: BTreeSet<String> = drawn(7)
            .iter()
            .flat_map(|(_, deeds)| deeds)
            .map(|(_, deed)| format!("{deed:?}").split('(').next().unwrap().to_owned())
            .collect();
        assert_eq!(kinds.len(), 12, "{kinds:?}");
    }
}

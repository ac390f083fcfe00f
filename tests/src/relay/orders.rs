//! The orders that the binary `yika-relay` takes, a line each: `WORD [VALUES] [up|down]`. Without a way an
//! order is for both. Carrying them out is left to the caller.

use std::str::FromStr;

use anyhow::{Context, Result, bail};

use super::{Direction, Faults};

/// Shown by the program's help.
pub const ORDERS: &str = "\
Orders on standard input, a line each; `up` (client to target) or `down` at the end restricts one to that way:
  cut                      nothing passes, packets under way are lost
  heal                     joins again; other faults stay
  clear                    a perfect link
  loss CHANCE              CHANCE is in parts per million, or whole percent as in 5%
  duplicate CHANCE
  reorder CHANCE MS        such packets are held back by MS milliseconds
  delay MS [JITTER_MS]
  rate BYTES_PER_S QUEUE_BYTES   zero is unlimited
  counters                 prints the counters
  quit";

/// One line, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Fault(Fault, Ways),
    Counters,
    Quit,
}

/// A change of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Cut,
    Heal,
    Clear,
    Loss { ppm: u32 },
    Duplicate { ppm: u32 },
    Reorder { ppm: u32, ms: u32 },
    Delay { ms: u32, jitter_ms: u32 },
    Rate { bytes_per_s: u64, queue_bytes: u64 },
}

/// Which directions an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    Both,
    Up,
    Down,
}

impl Fault {
    /// Makes this change to the chosen directions.
    pub fn apply(self, ways: Ways, faults: &mut Faults) {
        if ways != Ways::Down {
            self.change(&mut faults.up);
        }
        if ways != Ways::Up {
            self.change(&mut faults.down);
        }
    }

    fn change(self, way: &mut Direction) {
        match self {
            Self::Cut => way.cut = true,
            Self::Heal => way.cut = false,
            Self::Clear => *way = Direction::default(),
            Self::Loss { ppm } => way.loss_ppm = ppm,
            Self::Duplicate { ppm } => way.duplicate_ppm = ppm,
            Self::Reorder { ppm, ms } => (way.reorder_ppm, way.reorder_ms) = (ppm, ms),
            Self::Delay { ms, jitter_ms } => (way.delay_ms, way.jitter_ms) = (ms, jitter_ms),
            Self::Rate { bytes_per_s, queue_bytes } => {
                (way.rate_bytes_per_s, way.queue_bytes) = (bytes_per_s, queue_bytes);
            }
        }
    }
}

impl FromStr for Order {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let ways = match words.last() {
            Some(&"up") => Ways::Up,
            Some(&"down") => Ways::Down,
            _ => Ways::Both,
        };
        if ways != Ways::Both {
            words.pop();
        }
        let fault = match *words.as_slice() {
            ["counters"] if ways == Ways::Both => return Ok(Self::Counters),
            ["quit"] if ways == Ways::Both => return Ok(Self::Quit),
            ["cut"] => Fault::Cut,
            ["heal"] => Fault::Heal,
            ["clear"] => Fault::Clear,
            ["loss", chance] => Fault::Loss { ppm: ppm(chance)? },
            ["duplicate", chance] => Fault::Duplicate { ppm: ppm(chance)? },
            ["reorder", chance, ms] => Fault::Reorder { ppm: ppm(chance)?, ms: number(ms)? },
            ["delay", ms] => Fault::Delay { ms: number(ms)?, jitter_ms: 0 },
            ["delay", ms, jitter] => Fault::Delay { ms: number(ms)?, jitter_ms: number(jitter)? },
            ["rate", rate, queue] => Fault::Rate { bytes_per_s: number(rate)?, queue_bytes: number(queue)? },
            _ => bail!("no such order: {line:?}\n{ORDERS}"),
        };
        Ok(Self::Fault(fault, ways))
    }
}

fn ppm(text: &str) -> Result<u32> {
    let chance = match text.strip_suffix('%') {
        Some(percent) => number::<u32>(percent)?.saturating_mul(10_000),
        None => number(text)?,
    };
    if chance > 1_000_000 {
        bail!("a chance is at most 1000000 parts per million, or 100%: {text}");
    }
    Ok(chance)
}

fn number<T: FromStr<Err = std::num::ParseIntError>>(text: &str) -> Result<T> {
    text.parse().with_context(|| format!("not a whole number in range: {text}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

    use super::*;
    use proptest::prelude::*;

    fn after(lines: &[&str]) -> Faults {
        let mut faults = Faults::default();
        for line in lines {
            match line.parse().unwrap() {
                Order::Fault(fault, ways) => fault.apply(ways, &mut faults),
                other => panic!("{other:?}"),
            }
        }
        faults
    }

    #[test]
    fn orders_change_what_they_name_and_leave_the_rest() {
        let faults =
            after(&["loss 5% up", "delay 20 3", "reorder 1000 7 down", "duplicate 12", "cut down", "rate 9 8"]);
        let both = Direction {
            delay_ms: 20,
            jitter_ms: 3,
            duplicate_ppm: 12,
            rate_bytes_per_s: 9,
            queue_bytes: 8,
            ..Direction::default()
        };
        assert_eq!(faults.up, Direction { loss_ppm: 50_000, ..both });
        assert_eq!(faults.down, Direction { cut: true, reorder_ppm: 1_000, reorder_ms: 7, ..both });
        assert!(!after(&["cut", "heal"]).up.cut);
        assert_eq!(after(&["cut", "delay 4", "clear"]), Faults::default());
        assert_eq!(" quit ".parse::<Order>().unwrap(), Order::Quit);
    }

    #[test]
    fn wrong_lines_are_told() {
        for line in ["", "cut sideways", "loss", "loss 101%", "loss -1", "delay 4294967296", "delay 1 2 3", "quit up"] {
            assert!(line.parse::<Order>().is_err(), "{line}");
        }
        assert!("loss 1000001".parse::<Order>().unwrap_err().to_string().contains("at most"));
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "(cut|loss|delay|rate|reorder|up|[0-9]{0,12}|%| |\\PC){0,8}") {
            let _ = line.parse::<Order>();
        }
    }
}

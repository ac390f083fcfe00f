//! Chance from a seed: the same seed, the same inputs. Leaves to others: what is drawn.

/// A generator (SplitMix64) that a test can repeat.
pub struct Dice(u64);

/// Numbers at which decoders go wrong.
const EDGES: [u64; 22] = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    31,
    32,
    63,
    64,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

impl Dice {
    /// Dice of a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below a bound; 0 of none.
    pub fn below(&mut self, bound: usize) -> usize {
        // The bias of the remainder is of no matter here.
        (self.any() % (bound.max(1) as u64)) as usize
    }

    /// Once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A number at or next to an edge of some width, or any.
    pub fn edge(&mut self) -> u64 {
        let edge = EDGES[self.below(EDGES.len())];
        match self.below(4) {
            0 => edge.wrapping_add(1),
            1 => edge.wrapping_sub(1),
            2 => self.any() >> self.below(64),
            _ => edge,
        }
    }

    /// One of some; the first of none is the caller's mistake.
    pub fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }

    /// A stretch inside `length`, short ones more often.
    pub fn span(&mut self, length: usize) -> std::ops::Range<usize> {
        let from = self.below(length + 1);
        let longest = (length - from).min(1 << self.below(12));
        from..from + self.below(longest + 1)
    }
}

//! Chance from a seed: the same seed gives the same choices. Not for secrets.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice of a seed; different `lane`s are independent.
    pub fn new(seed: u64, lane: u64) -> Dice {
        let mut dice = Dice(seed ^ lane.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        dice.bits();
        dice
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 up to `sides`, exclusive; 0 for no sides.
    pub fn below(&mut self, sides: u64) -> u64 {
        if sides == 0 { 0 } else { self.bits() % sides }
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }
}

//! The smallest input that still fails, as far as cutting and flattening finds it. Leaves to others: what fails.

/// Tries of one input; each runs the decoder once.
const TRIES_MAX: usize = 3_000;

/// Cuts spans out of an input, then makes its bytes plain, as long as it fails.
pub fn shrink(input: &[u8], tries_max: usize, mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut left = tries_max.min(TRIES_MAX);
    let mut piece = best.len().div_ceil(2);
    while piece > 0 && left > 0 {
        let mut at = 0;
        while at < best.len() && left > 0 {
            let end = (at + piece).min(best.len());
            let shorter = [&best[..at], &best[end..]].concat();
            left -= 1;
            match fails(&shorter) {
                true => best = shorter,
                false => at = end,
            }
        }
        piece /= 2;
    }
    for at in 0..best.len() {
        let old = best[at];
        if left == 0 || matches!(old, 0 | b'0') {
            continue;
        }
        left -= 1;
        best[at] = if old.is_ascii() { b'0' } else { 0 };
        if !fails(&best) {
            best[at] = old;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left is what it takes, and nothing else.
    #[test]
    fn what_does_not_matter_goes() {
        let noise: Vec<u8> = (0..400u32).map(|n| (n % 251) as u8).chain(*b"xA..B").collect();
        let fails = |bytes: &[u8]| bytes.windows(4).any(|w| w[0] == b'A' && w[3] == b'B');
        assert_eq!(shrink(&noise, 3_000, fails), b"A00B");
    }
}

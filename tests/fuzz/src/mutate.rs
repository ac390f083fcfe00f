//! Inputs made out of inputs: bits flipped, spans copied, cut and repeated, lengths and numbers altered, halves of two
//! inputs put together. Leaves to others: which inputs are worth it (`hunt`).

use crate::dice::Dice;

/// Most alterations of one input at once.
const STEPS_MAX: usize = 6;
/// Most bytes that one repetition adds.
const REPEATED_BYTES_MAX: usize = 4 << 10;

/// An altered copy of an input, of at most `bytes_max` bytes. `others` lend spans.
pub fn mutate(dice: &mut Dice, input: &[u8], others: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let steps = 1 + dice.below(STEPS_MAX);
    for _ in 0..steps {
        step(dice, &mut bytes, others);
        bytes.truncate(bytes_max);
    }
    bytes
}

fn step(dice: &mut Dice, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    match dice.below(14) {
        0 | 1 => flip(dice, bytes),
        2 => set_byte(dice, bytes),
        3 | 4 => set_number(dice, bytes),
        5 => add_a_little(dice, bytes),
        6 => set_digits(dice, bytes),
        7 => drop(bytes.drain(dice.span(bytes.len()))),
        8 => bytes.truncate(dice.below(bytes.len() + 1)),
        9 => copy_within(dice, bytes),
        10 => repeat(dice, bytes),
        11 => insert_noise(dice, bytes),
        _ => borrow(dice, bytes, others),
    }
}

fn flip(dice: &mut Dice, bytes: &mut [u8]) {
    let at = dice.below(bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << dice.below(8);
    }
}

fn set_byte(dice: &mut Dice, bytes: &mut [u8]) {
    let (at, value) = (dice.below(bytes.len()), dice.edge());
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value as u8;
    }
}

/// A number of 2, 4 or 8 bytes in either order, or one of seven bits a byte, in place of what stands there.
fn set_number(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let (at, value) = (dice.below(bytes.len() + 1), dice.edge());
    if dice.once_in(2) {
        let old = bytes[at..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
        let end = (at + old).min(bytes.len());
        bytes.splice(at..end, seven_bits(value));
        return;
    }
    let width = *dice.pick(&[1, 2, 4, 8]);
    let little = value.to_le_bytes();
    let mut number = little[..width].to_vec();
    if dice.once_in(2) {
        number.reverse();
    }
    for (byte, new) in bytes[at..].iter_mut().zip(number) {
        *byte = new;
    }
}

fn seven_bits(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn add_a_little(dice: &mut Dice, bytes: &mut [u8]) {
    let (at, by) = (dice.below(bytes.len()), dice.below(33) as u8);
    if let Some(byte) = bytes.get_mut(at) {
        *byte = byte.wrapping_add(by).wrapping_sub(16);
    }
}

/// Another number in place of decimal digits.
fn set_digits(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let start = dice.below(bytes.len() + 1);
    let Some(first) = bytes[start..].iter().position(u8::is_ascii_digit).map(|at| start + at) else { return };
    let count = bytes[first..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let sign = if dice.once_in(8) { "-" } else { "" };
    let number = format!("{sign}{}", dice.edge());
    bytes.splice(first..first + count, number.into_bytes());
}

fn copy_within(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let span = bytes[dice.span(bytes.len())].to_vec();
    put(dice, bytes, &span);
}

fn repeat(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let span = dice.span(bytes.len());
    let piece = bytes[span.clone()].to_vec();
    if piece.is_empty() {
        return;
    }
    let times = 1 + dice.below(REPEATED_BYTES_MAX / piece.len() + 1).min(1 << dice.below(10));
    bytes.splice(span.end..span.end, piece.repeat(times));
}

fn insert_noise(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let noise: Vec<u8> = (0..1 + dice.below(16)).map(|_| dice.any() as u8).collect();
    put(dice, bytes, &noise);
}

/// A span of another input, or its end in place of one's own.
fn borrow(dice: &mut Dice, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    if others.is_empty() {
        return;
    }
    let other = dice.pick(others).as_slice();
    if dice.once_in(3) {
        bytes.truncate(dice.below(bytes.len() + 1));
        bytes.extend_from_slice(&other[dice.below(other.len() + 1)..]);
        return;
    }
    let span = other[dice.span(other.len())].to_vec();
    put(dice, bytes, &span);
}

/// Puts a span somewhere: between what is there, or over it.
fn put(dice: &mut Dice, bytes: &mut Vec<u8>, span: &[u8]) {
    let at = dice.below(bytes.len() + 1);
    let end = if dice.once_in(2) { at } else { (at + span.len()).min(bytes.len()) };
    bytes.splice(at..end, span.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed is a whole hunt: what was found once is found again.
    #[test]
    fn the_same_seed_makes_the_same_inputs_and_another_seed_others() {
        let made = |seed| {
            let mut dice = Dice::new(seed);
            (0..200).map(|_| mutate(&mut dice, b"price = 1250\n", &[b"other".to_vec()], 64)).collect::<Vec<_>>()
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        assert!(made(3).iter().all(|input| input.len() <= 64));
        assert!(made(4).iter().any(|input| input.len() > 13) && made(4).iter().any(|input| input.len() < 13));
    }
}

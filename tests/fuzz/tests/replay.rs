//! The corpus, every time the same way: nothing here is left to chance.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use yika_fuzz::dice::Dice;
use yika_fuzz::mutate::mutate;
use yika_fuzz::target::{check, keep_panics_quiet};
use yika_fuzz::{corpus, targets};

/// Alterations of each input.
const ALTERED: usize = 12;

/// Shows invariant 5 and that no bytes whatever end a program: every input that ever found something, real values of every
/// decoder, and some alterations of each by fixed dice.
#[test]
fn no_input_of_the_corpus_is_too_much_for_its_decoder() {
    keep_panics_quiet();
    let (mut failed, mut bytes) = (Vec::new(), 0);
    for target in targets::all() {
        let inputs = corpus::of(target).unwrap();
        let mut taken = 0;
        let pool: Vec<Vec<u8>> = inputs.iter().map(|input| input.bytes.clone()).collect();
        for (number, input) in inputs.iter().enumerate() {
            bytes += input.bytes.len() as u64;
            match check(target, &input.bytes) {
                Ok(seen) => taken += usize::from(!seen.starts_with("refused")),
                Err(failure) => failed.push(format!("{}/{}: {failure}", target.name, input.name)),
            }
            let mut dice = Dice::new(number as u64);
            for time in 0..ALTERED {
                let altered = mutate(&mut dice, &input.bytes, &pool, target.input_bytes_max);
                if let Err(failure) = check(target, &altered) {
                    failed.push(format!("{}/{}, alteration {time}: {failure}", target.name, input.name));
                }
            }
        }
        assert!(taken > 0, "{}: no input of the corpus is taken; sow it again", target.name);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(bytes <= corpus::CORPUS_BYTES_MAX, "the corpus has grown to {bytes} bytes");
}

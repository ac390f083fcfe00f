//! What a target is, and one run of it: watched for a panic and for memory.
//!
//! Leaves to others: the targets themselves (`targets`), inputs (`mutate`, `corpus`), time (`hunt`).

use peak_alloc::PeakAlloc;
use std::cell::RefCell;
use std::fmt::{self, Debug, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Counts what is in use, so that an input which promises memory is found.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What a decoder came to, without numbers and names: an input that comes to something new is worth altering further.
pub type Seen = String;

/// Longest description of an outcome.
const SEEN_CHARS_MAX: usize = 240;

/// A decoder, with what must hold of it whatever the bytes are.
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// What it reads.
    pub about: &'static str,
    /// Longest input tried.
    pub input_bytes_max: usize,
    /// Most memory that one input may take.
    pub memory_bytes_max: usize,
    /// Decodes, and asserts what must hold.
    pub run: fn(&[u8]) -> Seen,
    /// Real values as a program of ours writes them.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// What an input did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// A panic: of the decoder, or of an assertion in the target.
    Panic(String),
    /// More memory than the target may take.
    Memory {
        /// Taken.
        bytes: usize,
        /// Allowed.
        most: usize,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Panic(words) => write!(f, "panicked: {words}"),
            Failure::Memory { bytes, most } => write!(f, "took {bytes} bytes of memory, at most {most} are allowed"),
        }
    }
}

impl Failure {
    /// The same for every input that fails for the same reason.
    pub fn signature(&self) -> String {
        match self {
            // Where it panicked: the words may hold what the input held.
            Failure::Panic(words) => words.split(": ").next().unwrap_or_default().to_owned(),
            Failure::Memory { .. } => "memory".to_owned(),
        }
    }
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From here on a panic prints nothing and is told by [`check`].
pub fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|panic| {
        let words = panic.payload_as_str().unwrap_or("no words");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        LAST_PANIC.with(|last| *last.borrow_mut() = format!("{place}: {words}"));
    }));
}

/// Runs a target on one input.
///
/// # Errors
/// What must not have happened.
pub fn check(target: &Target, input: &[u8]) -> Result<Seen, Failure> {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let bytes = MEMORY.peak_usage().saturating_sub(before);
    match result {
        Err(_) => Err(Failure::Panic(LAST_PANIC.with(|last| last.borrow().clone()))),
        Ok(_) if bytes > target.memory_bytes_max => Err(Failure::Memory { bytes, most: target.memory_bytes_max }),
        Ok(seen) => Ok(seen),
    }
}

/// An accepted value.
pub fn taken(value: &impl Debug) -> Seen {
    format!("taken {}", shape(value))
}

/// A refusal.
pub fn refused(error: &impl fmt::Display) -> Seen {
    format!("refused {}", shape(&Plain(error)))
}

struct Plain<'t, T: fmt::Display + ?Sized>(&'t T);

impl<T: fmt::Display + ?Sized> Debug for Plain<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)
    }
}

/// A value's description without its numbers and quoted texts, as far as it is short.
fn shape(value: &impl Debug) -> String {
    let mut shape = Shape::default();
    let _ = write!(shape, "{value:?}");
    shape.text
}

#[derive(Default)]
struct Shape {
    text: String,
    quoted: bool,
}

impl Write for Shape {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        for c in piece.chars() {
            if c == '"' {
                self.quoted = !self.quoted;
            }
            if !self.quoted && !c.is_ascii_digit() && !matches!(c, '-' | ' ' | ',') {
                self.text.push(c);
            }
            if self.text.len() > SEEN_CHARS_MAX {
                return Err(fmt::Error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(run: fn(&[u8]) -> Seen) -> Target {
        Target { name: "t", about: "", input_bytes_max: 9, memory_bytes_max: 1 << 20, run, seeds: Vec::new }
    }

    /// What a target is watched for is noticed.
    #[test]
    fn a_panic_and_a_promise_of_memory_are_found() {
        let panics = target(|bytes| {
            assert!(bytes.is_empty(), "not empty");
            "fine".to_owned()
        });
        assert_eq!(check(&panics, b""), Ok("fine".to_owned()));
        assert!(matches!(check(&panics, b"x"), Err(Failure::Panic(_))));
        let greedy = target(|bytes| format!("{}", Vec::<u8>::with_capacity(bytes.len() << 24).len()));
        assert!(check(&greedy, b"").is_ok());
        assert!(matches!(check(&greedy, b"x"), Err(Failure::Memory { .. })));
    }

    #[test]
    fn outcomes_are_told_apart_by_their_kind_and_not_by_their_numbers() {
        assert_eq!(taken(&(Some(12), "a")), taken(&(Some(7), "b")));
        assert_ne!(taken(&Some(1)), taken(&None::<i32>));
    }
}

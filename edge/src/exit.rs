//! How the program ends: documented codes, and errors that carry one.

use std::fmt;

/// Exit codes; scripts rely on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed; the message says why.
    Failed,
    /// The command line or configuration is wrong.
    Usage,
    /// A check found something to mend.
    Problems,
    /// Refused because going on could lose something.
    Unsafe,
}

impl Exit {
    /// The number the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Problems => 3,
            Exit::Unsafe => 4,
        }
    }

    /// The code an error asks for.
    pub fn of(error: &anyhow::Error) -> Exit {
        error.downcast_ref::<Ends>().map_or(Exit::Failed, |ends| ends.exit)
    }
}

/// An error whose exit code is not the common one.
#[derive(Debug)]
pub struct Ends {
    exit: Exit,
    code: &'static str,
    words: String,
}

impl Ends {
    /// Refused for safety.
    pub fn unsafe_to(words: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Ends { exit: Exit::Unsafe, code: "unsafe", words: words.into() })
    }

    /// Wrong command line or configuration.
    pub fn usage(words: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Ends { exit: Exit::Usage, code: "usage", words: words.into() })
    }

    /// Not done, for a reason that programs tell apart.
    pub fn refused(code: &'static str, words: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Ends { exit: Exit::Failed, code, words: words.into() })
    }

    /// The short word of an error.
    pub fn code_of(error: &anyhow::Error) -> &'static str {
        error.downcast_ref::<Ends>().map_or("failed", |ends| ends.code)
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Ends {}

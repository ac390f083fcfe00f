//! What is wrong with a backup file, in facts: an operator is told it at once and in his language.
//!
//! Leaves to others: finding it (`file`, `head`, `stream`), its words (`refusal`).

use std::fmt;
use std::path::{Path, PathBuf};

/// What is wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is shorter or longer than its head says.
    Length {
        /// Bytes that it has.
        found: u64,
        /// Bytes that it should have.
        wanted: u64,
    },
    /// It is something else, or was cut off in its head.
    Foreign {
        /// What it should be.
        what: &'static str,
    },
    /// A newer program wrote it.
    Newer,
    /// It is sealed under another master key.
    OtherKey {
        /// The hub whose key it is.
        hub: String,
    },
    /// Something in it is not what was written.
    Altered,
}

/// A fault with the file that has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Faulty {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

impl Fault {
    /// The fault of this file.
    pub(super) fn of(self, path: &Path) -> Faulty {
        Faulty { path: path.to_owned(), fault: self }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.fault {
            Fault::Length { found, wanted } => {
                let what = if found < wanted { "was cut off" } else { "is too long" };
                write!(f, "{path} {what}: it has {found} bytes and should have {wanted}; fetch it again")
            }
            Fault::Foreign { what } => write!(f, "{path} is not {what}, or it was cut off in its head"),
            Fault::Newer => write!(f, "{path} was written by a newer program; install that one to read it"),
            Fault::OtherKey { hub } => {
                write!(f, "{path} does not open with this master key: put the master key of {hub:?} in its place")
            }
            Fault::Altered => write!(f, "{path} was altered or damaged; fetch it again"),
        }
    }
}

impl std::error::Error for Faulty {}

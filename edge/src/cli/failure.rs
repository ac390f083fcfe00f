//! How the command line says that something was not done: words on standard error or, for programs, one JSON object
//! there; and the exit code.

use super::Arguments;
use crate::exit::{Ends, Exit};
use clap::Parser;
use clap::error::ErrorKind;
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write;
use yika_ui::terminal;

/// Why a command is not done, as programs read it.
#[derive(Serialize)]
struct Failure<'a> {
    /// A short stable word; `failed` where there is no better one.
    code: &'a str,
    /// In words.
    error: String,
    /// The exit code.
    exit: u8,
}

/// Says why something was not done; the exit code for it.
pub(super) fn fail(json: bool, error: &anyhow::Error) -> Exit {
    let exit = Exit::of(error);
    let failure = Failure { code: Ends::code_of(error), error: format!("{error:#}"), exit: exit.code() };
    // Strings and a number can always be written; nothing is left to do if standard error is gone.
    let _ = match json {
        true => writeln!(std::io::stderr(), "{}", serde_json::to_string(&failure).unwrap_or_default()),
        false => writeln!(std::io::stderr(), "yika-edge: {}", failure.error),
    };
    exit
}

/// The arguments; else help or what is wrong with them was said, and this is how to end.
///
/// # Errors
/// How to end.
pub fn parsed() -> Result<Arguments, Exit> {
    let words: Vec<OsString> = std::env::args_os().collect();
    Arguments::try_parse_from(&words).map_err(|error| {
        let (lang, json) = terminal::wishes(&words);
        let helps = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !json;
        if helps || !error.use_stderr() {
            let _ = error.print();
            return if helps { Exit::Usage } else { Exit::Done };
        }
        let lang = lang.unwrap_or_else(terminal::tongue);
        fail(json, &Ends::usage(terminal::mistake(lang, "yika-edge", &error, |_| None)))
    })
}

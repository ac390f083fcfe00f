//! How the command line says that something was not done: words on standard error or, for programs, one JSON object
//! there; and the exit code.
//!
//! Leaves to others: the words of refusals (`refusal`), what is said when something is done (`words`).

use super::Arguments;
use super::words::Voice;
use clap::Parser;
use clap::error::ErrorKind;
use serde::Serialize;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use yika_crdt::ids::IdError;
use yika_hub::control::NotDone;
use yika_hub::desk::DeskError;
use yika_ui::{Lang, terminal};

/// Exit code: failed, or refused by headquarters.
const FAILED: u8 = 1;
/// Exit code: wrong usage or configuration.
const USAGE: u8 = 2;
/// Exit code: a check found problems.
pub(super) const PROBLEMS: u8 = 3;

/// Wrong usage or configuration, in words; told apart by its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// A value is not in its form: the key of the words that say which.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Form(pub(super) &'static str);

/// Why a command is not done, as programs read it.
#[derive(Serialize)]
struct Failure {
    /// Code of the refusal, or `usage`, or `failed`.
    code: String,
    /// In words.
    error: String,
    /// The exit code.
    exit: u8,
}

impl Failure {
    fn of(error: &anyhow::Error, lang: Lang) -> Failure {
        if let Some(Usage(words)) = error.downcast_ref() {
            return Failure { code: "usage".into(), error: words.clone(), exit: USAGE };
        }
        if let Some(NotDone { code, words }) = error.downcast_ref() {
            return Failure::refused(code, words.clone());
        }
        match error.downcast_ref() {
            Some(DeskError::Refused(refusal)) => Failure::refused(refusal.code(), refusal.words(lang)),
            _ => Failure::refused("", format!("{error:#}")),
        }
    }

    fn refused(code: &str, error: String) -> Failure {
        let exit = match code {
            "backup_unsound" => PROBLEMS,
            "backup_unreadable" => USAGE,
            _ => FAILED,
        };
        let code = if code.is_empty() { "failed" } else { code };
        Failure { code: code.to_owned(), error, exit }
    }
}

/// Says why something was not done; the exit code for it.
pub(crate) fn fail(voice: Voice, error: &anyhow::Error) -> ExitCode {
    let failure = Failure::of(error, voice.lang);
    match voice.json {
        // Strings and a number can always be written.
        true => eprintln!("{}", serde_json::to_string(&failure).unwrap_or_default()),
        false => eprintln!("yika-hub: {}", failure.error),
    }
    ExitCode::from(failure.exit)
}

/// The arguments; else help or what is wrong with them was said, and this is the exit code.
pub(crate) fn parsed() -> Result<Arguments, ExitCode> {
    let words: Vec<OsString> = std::env::args_os().collect();
    Arguments::try_parse_from(&words).map_err(|error| {
        let voice = voice_of(&words);
        let helps = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !voice.json;
        if helps || !error.use_stderr() {
            let _ = error.print();
            return if helps { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
        fail(voice, &Usage(mistake(voice, &error)).into())
    })
}

/// How arguments that could not be read wish to be answered.
fn voice_of(words: &[OsString]) -> Voice {
    let (lang, json) = terminal::wishes(words);
    Voice { lang: lang.unwrap_or_else(terminal::tongue), json }
}

/// What is wrong with the arguments, in words; numbers of campuses, boxes and the like are types of our own.
fn mistake(voice: Voice, error: &clap::Error) -> String {
    terminal::mistake(voice.lang, "yika-hub", error, |cause| match cause.downcast_ref() {
        Some(Form(key)) => Some(voice.words(key, &[])),
        None => {
            let id: &IdError = cause.downcast_ref()?;
            Some(voice.words("form.id", &[("example", &id.example())]))
        }
    })
}

/// What stands in a file that was named in the arguments.
pub(super) fn named_file(voice: Voice, file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).map_err(|cause| {
        let facts: &[(&str, &dyn std::fmt::Display)] = &[("file", &file.display()), ("cause", &cause)];
        Usage(voice.words("file.unreadable", facts)).into()
    })
}

/// A file in TOML that was named in the arguments.
pub(super) fn named_toml<T: serde::de::DeserializeOwned>(voice: Voice, file: &Path) -> anyhow::Result<T> {
    let unfit = |cause: &dyn std::fmt::Display| {
        anyhow::Error::from(Usage(voice.words("file.unfit", &[("file", &file.display()), ("cause", cause)])))
    };
    let text = String::from_utf8(named_file(voice, file)?).map_err(|cause| unfit(&cause))?;
    toml::from_str(&text).map_err(|cause| unfit(&cause))
}

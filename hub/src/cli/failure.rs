//! How the command line says that something was not done: words on standard error or, for programs, one JSON object
//! there; and the exit code.
//!
//! Leaves to others: the words of refusals (`refusal`), what is said when something is done (`words`).

use super::Arguments;
use super::words::Voice;
use clap::Parser;
use clap::error::{ContextKind, ErrorKind};
use serde::Serialize;
use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use yika_hub::control::{self, NotDone};
use yika_hub::desk::DeskError;
use yika_ui::Lang;

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
    let texts = words.iter().skip(1).filter_map(|word| word.to_str());
    let texts: Vec<&str> = texts.take_while(|word| *word != "--").collect();
    let apart = texts.windows(2).find(|pair| pair[0] == "--lang").map(|pair| pair[1]);
    let named = apart.or_else(|| texts.iter().find_map(|word| word.strip_prefix("--lang=")));
    let lang = named.and_then(Lang::from_code).unwrap_or_else(control::tongue);
    Voice { lang, json: texts.contains(&"--json") }
}

/// What is wrong with the arguments, in words, with the form that they should have.
fn mistake(voice: Voice, error: &clap::Error) -> String {
    let told = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let (argument, value) = (told(ContextKind::InvalidArg), told(ContextKind::InvalidValue));
    let mut words = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            voice.words("usage.no_command", &[("command", &told(ContextKind::InvalidSubcommand))])
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            voice.words("usage.incomplete", &[])
        }
        ErrorKind::UnknownArgument => voice.words("usage.no_argument", &[("argument", &argument)]),
        ErrorKind::MissingRequiredArgument => voice.words("usage.missing", &[("arguments", &argument)]),
        ErrorKind::ArgumentConflict => {
            let other = told(ContextKind::PriorArg);
            voice.words("usage.conflict", &[("argument", &argument), ("other", &other)])
        }
        ErrorKind::InvalidValue if value.is_empty() => voice.words("usage.no_value", &[("argument", &argument)]),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let cause = error.source().map_or_else(|| told(ContextKind::ValidValue), ToString::to_string);
            voice.words("usage.value", &[("argument", &argument), ("value", &value), ("cause", &cause)])
        }
        _ => error.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    let suggested = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    if let Some(near) = suggested.into_iter().map(told).find(|near| !near.is_empty()) {
        words = format!("{words}\n{}", voice.words("usage.near", &[("near", &near)]));
    }
    let form = told(ContextKind::Usage);
    if let Some(form) = form.trim().strip_prefix("Usage: ") {
        words = format!("{words}\n{}", voice.words("usage.form", &[("form", &form)]));
    }
    format!("{words}\n{}", voice.words("usage.help", &[]))
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

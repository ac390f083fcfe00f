//! What both programs say at a terminal alike: in which language, and what is wrong with the arguments.
//!
//! Leaves to others: the commands, what they answer, and how a program ends (`hub`, `edge`).

use crate::lang::{Lang, Words};
use clap::error::{ContextKind, ErrorKind};
use std::error::Error;
use std::ffi::OsString;
use std::net::AddrParseError;
use std::num::{IntErrorKind, ParseIntError};
use std::sync::{LazyLock, OnceLock};

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let (zh, en) = (include_str!("../words/usage.zh.words"), include_str!("../words/usage.en.words"));
    // The files are a part of the program; the test below reads them, too.
    Words::default().with(zh, en).unwrap_or_default()
});

/// What the process was told to speak.
static SPOKEN: OnceLock<Lang> = OnceLock::new();

/// From here on the process speaks this language; the first choice stands.
pub fn speak(lang: Lang) {
    SPOKEN.get_or_init(|| lang);
}

/// The language of the person at the terminal: as told by [`speak`], else as the system's variables say.
pub fn tongue() -> Lang {
    if let Some(lang) = SPOKEN.get() {
        return *lang;
    }
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_MESSAGES")).or_else(|| set("LANG")).unwrap_or_default();
    if locale.starts_with("zh") { Lang::Zh } else { Lang::En }
}

/// Reads the value of `--lang`.
///
/// # Errors
/// What can be there.
pub fn lang(code: &str) -> Result<Lang, String> {
    Lang::from_code(code).ok_or_else(|| "zh / en".to_owned())
}

/// How arguments that could not be read wish to be answered: `--lang`, and whether `--json` is there.
pub fn wishes(words: &[OsString]) -> (Option<Lang>, bool) {
    let texts = words.iter().skip(1).filter_map(|word| word.to_str());
    let texts: Vec<&str> = texts.take_while(|word| *word != "--").collect();
    let apart = texts.windows(2).find(|pair| pair[0] == "--lang").map(|pair| pair[1]);
    let named = apart.or_else(|| texts.iter().find_map(|word| word.strip_prefix("--lang=")));
    (named.and_then(Lang::from_code), texts.contains(&"--json"))
}

/// Columns that a text takes on a terminal: Chinese characters are two wide.
pub fn columns(text: &str) -> usize {
    text.chars().map(|letter| if letter > '\u{2e7f}' { 2 } else { 1 }).sum()
}

/// What is wrong with a program's arguments, in words, with the form that they should have. `worded` knows the causes of
/// the program's own types.
pub fn mistake(
    lang: Lang,
    program: &str,
    error: &clap::Error,
    worded: impl Fn(&(dyn Error + 'static)) -> Option<String>,
) -> String {
    let told = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let say = |key: &str, facts: &[(&str, &str)]| WORDS.t_args(lang, key, facts);
    let (argument, value) = (told(ContextKind::InvalidArg), told(ContextKind::InvalidValue));
    let mut words = match error.kind() {
        ErrorKind::InvalidSubcommand => say("usage.no_command", &[("command", &told(ContextKind::InvalidSubcommand))]),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            say("usage.incomplete", &[])
        }
        ErrorKind::UnknownArgument => say("usage.no_argument", &[("argument", &argument)]),
        ErrorKind::MissingRequiredArgument => say("usage.missing", &[("arguments", &argument)]),
        ErrorKind::ArgumentConflict => {
            say("usage.conflict", &[("argument", &argument), ("other", &told(ContextKind::PriorArg))])
        }
        ErrorKind::InvalidValue if value.is_empty() => say("usage.no_value", &[("argument", &argument)]),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let known = |source: &(dyn Error + 'static)| worded(source).or_else(|| cause(lang, &argument, source));
            let cause = match error.source() {
                Some(source) => known(source).unwrap_or_else(|| source.to_string()),
                None => told(ContextKind::ValidValue),
            };
            say("usage.value", &[("argument", &argument), ("value", &value), ("cause", &cause)])
        }
        _ => error.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    let suggested = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    if let Some(near) = suggested.into_iter().map(told).find(|near| !near.is_empty()) {
        words = format!("{words}\n{}", say("usage.near", &[("near", &near)]));
    }
    let form = told(ContextKind::Usage);
    if let Some(form) = form.trim().strip_prefix("Usage: ") {
        words = format!("{words}\n{}", say("usage.form", &[("form", form)]));
    }
    format!("{words}\n{}", say("usage.help", &[("program", program)]))
}

/// Why a value of one of the language's own types cannot be.
fn cause(lang: Lang, argument: &str, source: &(dyn Error + 'static)) -> Option<String> {
    // What clap says of a number in the wrong range, in a type of its own.
    if let Some((_, range)) = source.to_string().split_once(" is not in ") {
        return Some(WORDS.t_args(lang, "usage.range", &[("range", range)]));
    }
    let key = match source.downcast_ref::<ParseIntError>().map(ParseIntError::kind) {
        Some(IntErrorKind::PosOverflow | IntErrorKind::NegOverflow) => "usage.out_of_range",
        Some(_) if argument.contains("fen") => "usage.whole_fen",
        Some(_) => "usage.whole",
        None if source.is::<AddrParseError>() => "usage.address",
        None => return None,
    };
    Some(WORDS.t(lang, key).to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use clap::{Arg, Command, value_parser};
    use std::net::SocketAddr;

    fn said(lang: Lang, words: &[&str]) -> String {
        let pay = Command::new("pay")
            .arg(Arg::new("fen").long("fen").allow_negative_numbers(true).value_parser(value_parser!(i64)))
            .arg(Arg::new("row").long("row").value_parser(value_parser!(u8)))
            .arg(Arg::new("at").long("at").value_parser(value_parser!(SocketAddr)));
        let error = Command::new("yika-x").subcommand(pay).try_get_matches_from(words).unwrap_err();
        mistake(lang, "yika-x", &error, |_| None)
    }

    #[test]
    fn a_value_that_cannot_be_is_told_in_the_language_of_the_reader() {
        assert_eq!(WORDS.gaps(), Vec::<String>::new());
        for (words, zh, en) in [
            (["yika-x", "pay", "--fen", "12.5"], "以分为单位", "in fen"),
            (["yika-x", "pay", "--row", "x"], "须为整数", "whole number"),
            (["yika-x", "pay", "--row", "300"], "范围 0..=255", "in 0..=255"),
            (["yika-x", "pay", "--at", "here"], "地址:端口", "address:port"),
            (["yika-x", "sell", "--row", "1"], "没有命令 sell", "no command sell"),
        ] {
            let (chinese, english) = (said(Lang::Zh, &words), said(Lang::En, &words));
            assert!(chinese.contains(zh) && chinese.contains("yika-x --help"), "{chinese}");
            assert!(english.contains(en) && english.contains("yika-x --help"), "{english}");
            assert!(!chinese.contains("invalid"), "{chinese}");
        }
    }

    #[test]
    fn wishes_are_read_from_arguments_that_nobody_understands() {
        let read = |words: &[&str]| wishes(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(read(&["x", "sell", "--lang", "en", "--json"]), (Some(Lang::En), true));
        assert_eq!(read(&["x", "--lang=zh", "--", "--json"]), (Some(Lang::Zh), false));
        assert_eq!(read(&["x", "--lang"]), (None, false));
    }
}

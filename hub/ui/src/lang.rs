//! Words of the user interface: one `key = text` file per language, embedded at build time.
//!
//! The format is the flat subset of Fluent that a translator needs: comments with `#`, one message a line,
//! places for values written `{name}`, and words that follow a number written `{name?one|other}`. Which words exist is
//! the products' business; [`Words::gaps`] lets
//! their tests prove that both languages are complete.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

/// A language of the user interface. Chinese is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Lang {
    /// Simplified Chinese.
    #[default]
    Zh,
    /// English.
    En,
}

impl Lang {
    /// Every language, in menu order.
    pub const ALL: [Lang; 2] = [Lang::Zh, Lang::En];

    /// Reads the short code of the cookie (`zh`, `en`); anything else is `None`.
    pub fn from_code(code: &str) -> Option<Lang> {
        match code {
            "zh" => Some(Lang::Zh),
            "en" => Some(Lang::En),
            _ => None,
        }
    }

    /// The language that an `Accept-Language` wishes for most among those there are; `None` where it names neither.
    pub fn wished(accept: &str) -> Option<Lang> {
        let mut wishes: Vec<(u16, Lang)> = Vec::new();
        for wish in accept.split(',').take(WISHES_MAX) {
            let mut parts = wish.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let primary = tag.split('-').next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1_000), thousandths);
            if let (Some(lang), Some(weight @ 1..)) = (Lang::from_code(&primary), weight) {
                wishes.push((weight, lang));
            }
        }
        // Of equal ones the first.
        wishes.iter().rev().max_by_key(|(weight, _)| *weight).map(|(_, lang)| *lang)
    }

    /// Short code, used in the cookie and in URLs.
    pub fn code(self) -> &'static str {
        match self {
            Lang::Zh => "zh",
            Lang::En => "en",
        }
    }

    /// BCP 47 tag for the `lang` attribute of a document.
    pub fn tag(self) -> &'static str {
        match self {
            Lang::Zh => "zh-CN",
            Lang::En => "en",
        }
    }

    /// Name of the language in itself.
    pub fn native_name(self) -> &'static str {
        match self {
            Lang::Zh => "中文",
            Lang::En => "English",
        }
    }

    /// The other language, for the switch in the header.
    pub fn other(self) -> Lang {
        match self {
            Lang::Zh => Lang::En,
            Lang::En => Lang::Zh,
        }
    }
}

/// Wishes of a header that are looked at.
const WISHES_MAX: usize = 16;

/// A weight like `0.8` or `1` in thousandths.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{rest:0<3}");
    let good = whole.len() == 1 && rest.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit());
    if good { digits.parse().ok().filter(|weight| *weight <= 1_000) } else { None }
}

/// Why a word file was not accepted.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WordsError {
    /// A line is neither a comment nor `key = text`.
    #[error("line {line} of the {lang:?} words is not `key = text`: {text}")]
    Syntax {
        /// Language of the file.
        lang: Lang,
        /// Line number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// A key appears twice, in one file or in two files of the same language.
    #[error("key `{key}` appears twice in the {lang:?} words (line {line})")]
    Duplicate {
        /// Language of the file.
        lang: Lang,
        /// Line number, from 1.
        line: usize,
        /// The key.
        key: String,
    },
}

/// All words of a console in both languages: those of the kit and those a product added.
#[derive(Debug, Clone, Default)]
pub struct Words {
    zh: BTreeMap<String, String>,
    en: BTreeMap<String, String>,
}

impl Words {
    /// The kit's own words.
    pub fn kit() -> Result<Words, WordsError> {
        Words::default().with(include_str!("../words/zh.words"), include_str!("../words/en.words"))
    }

    /// Adds a product's files, Chinese first. Refuses bad lines and keys that exist already.
    pub fn with(mut self, zh: &str, en: &str) -> Result<Words, WordsError> {
        parse_into(Lang::Zh, zh, &mut self.zh)?;
        parse_into(Lang::En, en, &mut self.en)?;
        Ok(self)
    }

    /// The text of a key; a key that is missing in this language shows itself.
    pub fn t<'a>(&'a self, lang: Lang, key: &'a str) -> &'a str {
        self.table(lang).get(key).map_or(key, String::as_str)
    }

    /// The text of a key with its `{name}` places filled. Places without a value stay visible. `{name?one|other}` is
    /// the first word where the value is `1`, else the second.
    pub fn t_args(&self, lang: Lang, key: &str, args: &[(&str, &str)]) -> String {
        let mut out = String::new();
        let mut rest = self.t(lang, key);
        while let Some(open) = rest.find('{') {
            let (before, tail) = rest.split_at(open);
            out.push_str(before);
            let Some(close) = tail.find('}') else {
                out.push_str(tail);
                return out;
            };
            let (name, forms) = place(&tail[1..close]);
            match (args.iter().find(|(key, _)| *key == name), forms) {
                (Some((_, value)), None) => out.push_str(value),
                (Some((_, value)), Some((one, other))) => out.push_str(if *value == "1" { one } else { other }),
                (None, _) => out.push_str(&tail[..=close]),
            }
            rest = &tail[close + 1..];
        }
        out.push_str(rest);
        out
    }

    /// Whether a key exists in both languages.
    pub fn has(&self, key: &str) -> bool {
        self.zh.contains_key(key) && self.en.contains_key(key)
    }

    /// What is wrong between the two languages: keys in only one, and messages whose `{name}` places
    /// differ. Empty when complete; every product asserts that in a test.
    pub fn gaps(&self) -> Vec<String> {
        let keys: BTreeSet<&String> = self.zh.keys().chain(self.en.keys()).collect();
        let mut gaps = Vec::new();
        for key in keys {
            match (self.zh.get(key), self.en.get(key)) {
                (Some(zh), Some(en)) if places(zh) == places(en) => {}
                (Some(_), Some(_)) => gaps.push(format!("{key}: places differ")),
                (Some(_), None) => gaps.push(format!("{key}: missing in English")),
                _ => gaps.push(format!("{key}: missing in Chinese")),
            }
        }
        gaps
    }

    fn table(&self, lang: Lang) -> &BTreeMap<String, String> {
        match lang {
            Lang::Zh => &self.zh,
            Lang::En => &self.en,
        }
    }
}

fn parse_into(lang: Lang, text: &str, table: &mut BTreeMap<String, String>) -> Result<(), WordsError> {
    for (index, raw) in text.lines().enumerate() {
        let line = raw.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let syntax = || WordsError::Syntax { lang, line: index + 1, text: line.to_owned() };
        let (key, value) = line.split_once('=').ok_or_else(syntax)?;
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || value.is_empty() || key.contains(char::is_whitespace) {
            return Err(syntax());
        }
        if table.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(WordsError::Duplicate { lang, line: index + 1, key: key.to_owned() });
        }
    }
    Ok(())
}

fn places(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|part| part.split_once('}').map(|(inner, _)| place(inner).0)).collect()
}

/// The name of a place, and its two forms where it stands for a word that follows the number.
fn place(inner: &str) -> (&str, Option<(&str, &str)>) {
    match inner.split_once('?') {
        Some((name, forms)) => (name, forms.split_once('|')),
        None => (inner, None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // tests may panic
    use super::*;

    #[test]
    fn kit_words_are_complete_in_both_languages() {
        assert_eq!(Words::kit().unwrap().gaps(), Vec::<String>::new());
    }

    #[test]
    fn gaps_names_a_key_missing_on_either_side_and_differing_places() {
        let words = Words::default().with("a = 甲\nb = 乙 {n}", "b = B {m}\nc = C").unwrap();
        assert_eq!(words.gaps(), ["a: missing in English", "b: places differ", "c: missing in Chinese"]);
    }

    #[test]
    fn places_are_filled_and_unknown_ones_stay_visible() {
        let words = Words::default().with("a = 共 {n} 条 {x}", "a = {n}").unwrap();
        assert_eq!(words.t_args(Lang::Zh, "a", &[("n", "3")]), "共 3 条 {x}");
        assert_eq!(words.t(Lang::En, "nowhere"), "nowhere");
    }

    #[test]
    fn a_word_follows_its_number() {
        let words = Words::default().with("a = 共 {n} 行", "a = {n} {n?row is|rows are} there").unwrap();
        assert_eq!(words.gaps(), Vec::<String>::new());
        let said = |n| words.t_args(Lang::En, "a", &[("n", n)]);
        assert_eq!(["0", "1", "12"].map(said), ["0 rows are there", "1 row is there", "12 rows are there"]);
        assert_eq!(words.t_args(Lang::En, "a", &[]), "{n} {n?row is|rows are} there");
    }

    #[test]
    fn the_language_wished_for_most_is_taken() {
        for (accept, wanted) in [
            ("en", Some(Lang::En)),
            ("en-US,en;q=0.9,zh-CN;q=0.8", Some(Lang::En)),
            ("zh-CN,zh;q=0.9,en;q=0.8", Some(Lang::Zh)),
            ("fr, de;q=0.9, en;q=0.3, zh;q=0.2", Some(Lang::En)),
            ("en;q=0.5, ZH-hans", Some(Lang::Zh)),
            ("en;q=0, zh;q=0.1", Some(Lang::Zh)),
            ("en;q=high", None),
            ("fr", None),
            ("", None),
        ] {
            assert_eq!(Lang::wished(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn a_value_is_never_read_as_a_place() {
        let words = Words::default().with("a = {n}{m}", "a = {n}{m}").unwrap();
        let filled = words.t_args(Lang::Zh, "a", &[("n", "{m}"), ("m", "x")]);
        assert_eq!(filled, "{m}x");
    }

    #[test]
    fn bad_lines_and_repeated_keys_are_refused() {
        assert!(matches!(Words::default().with("no equals sign", ""), Err(WordsError::Syntax { line: 1, .. })));
        assert!(matches!(Words::default().with("a = 1\na = 2", ""), Err(WordsError::Duplicate { line: 2, .. })));
    }
}

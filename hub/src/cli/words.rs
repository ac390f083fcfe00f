//! What the command line says when something is done: in words of the terminal's language, or as JSON for programs.
//!
//! Leaves to others: refusals, which the running hub words (`control`), and what `--help` says.

use anyhow::{Context, Result};
use serde::Serialize;
use std::fmt::Display;
use std::io::Write;
use std::sync::LazyLock;
use yika_ui::terminal::columns;
use yika_ui::{Lang, Words};

/// The words of the command line.
static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let (zh, en) = (include_str!("../../words/cli.zh.words"), include_str!("../../words/cli.en.words"));
    // The files are a part of the program; the test below reads them, too.
    Words::default().with(zh, en).unwrap_or_default()
});

/// Facts of a message by name.
pub(super) type Facts<'a> = &'a [(&'a str, &'a dyn Display)];

/// How the command line speaks.
#[derive(Clone, Copy)]
pub(crate) struct Voice {
    /// Its language.
    pub(super) lang: Lang,
    /// To a program.
    pub(super) json: bool,
}

impl Voice {
    /// A message in words.
    pub(super) fn words(self, key: &str, facts: Facts<'_>) -> String {
        let texts: Vec<(&str, String)> = facts.iter().map(|(name, fact)| (*name, fact.to_string())).collect();
        let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
        WORDS.t_args(self.lang, key, &texts)
    }

    /// Gives an answer: in words, or as the one object that a program reads.
    pub(super) fn give(self, answer: &impl Serialize, key: &str, facts: Facts<'_>) -> Result<()> {
        if self.json { self.answer(answer) } else { say(&self.words(key, facts)) }
    }

    /// A line of an answer that has several; a program reads it in the object.
    pub(super) fn tell(self, key: &str, facts: Facts<'_>) -> Result<()> {
        if self.json { Ok(()) } else { say(&self.words(key, facts)) }
    }

    /// The object that a program reads.
    pub(super) fn answer(self, answer: &impl Serialize) -> Result<()> {
        say(&serde_json::to_string(answer)?)
    }

    /// Says something beside the answer, which may be piped into another program; one that reads JSON is told in it.
    pub(super) fn hint(self, key: &str, facts: Facts<'_>) -> Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(std::io::stderr(), "{}", self.words(key, facts)).context("cannot write to standard error")
    }
}

/// Columns of text, aligned as a terminal shows them: Chinese characters are two wide.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let most = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| columns(cell)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..most).map(wide).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, wide)| format!("{cell}{}", " ".repeat(wide - columns(cell))));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A line of standard output.
pub(super) fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use std::collections::BTreeSet;

    const SOURCES: [&str; 9] = [
        include_str!("../cli.rs"),
        include_str!("backup.rs"),
        include_str!("failure.rs"),
        include_str!("lists.rs"),
        include_str!("money.rs"),
        include_str!("people.rs"),
        include_str!("sites.rs"),
        include_str!("snapshot.rs"),
        include_str!("words.rs"),
    ];

    #[test]
    fn every_message_is_worded_in_both_languages_and_every_word_is_said() {
        assert_eq!(WORDS.gaps(), Vec::<String>::new());
        let keys: BTreeSet<&str> = include_str!("../../words/cli.en.words")
            .lines()
            .filter_map(|line| line.split_once(" = ").map(|(key, _)| key))
            .collect();
        let quoted: BTreeSet<&str> = SOURCES.iter().flat_map(|source| source.split('"')).collect();
        let unsaid: Vec<&&str> = keys.difference(&quoted).collect();
        assert!(unsaid.is_empty(), "nobody says {unsaid:?}");
        let heads: BTreeSet<&str> = keys.iter().filter_map(|key| key.split('.').next()).collect();
        let is_key = |text: &&&str| {
            let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.');
            plain
                && text
                    .split_once('.')
                    .is_some_and(|(head, rest)| heads.contains(head) && !rest.is_empty() && rest != "rs")
        };
        let wordless: Vec<&&str> = quoted.iter().filter(is_key).filter(|key| !keys.contains(**key)).collect();
        assert!(wordless.is_empty(), "{wordless:?} have no words");
    }

    #[test]
    fn columns_are_aligned_under_chinese_heads_too() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["节点", "name", ""]), row(["n1", "一食堂", "x"]), row(["n12", "B", ""])];
        assert_eq!(table(&rows), "节点  name\nn1    一食堂  x\nn12   B");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn the_language_chooses_the_words() {
        let say = |lang| Voice { lang, json: false }.words("campus.put", &[("campus", &"c1"), ("name", &"东校区")]);
        assert_eq!(say(Lang::Zh), "园区 c1 东校区已登记");
        assert_eq!(say(Lang::En), "campus c1 东校区 is registered");
    }
}

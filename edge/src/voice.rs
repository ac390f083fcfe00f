//! What the program says at a terminal, in words of its reader's language (`words/cli.{zh,en}.words`).
//!
//! Leaves to others: pages (`console`), what is seen of the box's state (`status`, `doctor`, `periphery`).

use crate::exit::Ends;
use std::fmt::Display;
use std::sync::LazyLock;
use yika_link::{CloseReason, JoinError, LinkError, RefusalCode, TicketError};
use yika_ui::terminal::tongue;
use yika_ui::{Lang, Words};

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let (zh, en) = (include_str!("../words/cli.zh.words"), include_str!("../words/cli.en.words"));
    // The files are a part of the program; the test below reads them, too.
    Words::default().with(zh, en).unwrap_or_default()
});

/// Facts of a message by name.
pub type Facts<'a> = &'a [(&'a str, &'a dyn Display)];

/// A message in the language of the terminal.
pub fn words(key: &str, facts: Facts<'_>) -> String {
    words_in(tongue(), key, facts)
}

/// A message.
pub fn words_in(lang: Lang, key: &str, facts: Facts<'_>) -> String {
    let texts: Vec<(&str, String)> = facts.iter().map(|(name, fact)| (*name, fact.to_string())).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    WORDS.t_args(lang, key, &texts)
}

/// The name of a check of the doctor.
pub fn check(lang: Lang, code: &str) -> String {
    let key = format!("check.{code}");
    if WORDS.has(&key) { WORDS.t(lang, &key).to_owned() } else { code.to_owned() }
}

/// Why a text is no line to join with.
pub fn ticket(error: &TicketError) -> anyhow::Error {
    let words = match error {
        TicketError::Empty => words("line.empty", &[]),
        TicketError::Prefix => words("line.prefix", &[]),
        TicketError::Space => words("line.space", &[]),
        TicketError::TooLong => words("line.too_long", &[]),
        TicketError::Incomplete => words("line.incomplete", &[]),
        TicketError::Check | TicketError::Pin | TicketError::Token => words("line.check", &[]),
        TicketError::Address(address) => words("line.address", &[("address", address)]),
    };
    Ends::usage(words)
}

/// Why a box was not enrolled.
pub fn join(error: &JoinError) -> anyhow::Error {
    let refused = |code, words| Ends::refused(code, words);
    match error {
        JoinError::Refused(refusal) => {
            let (code, key) = match refusal.code {
                RefusalCode::UnknownToken => ("unknown_token", "join.unknown_token"),
                RefusalCode::ExpiredToken => ("expired_token", "join.expired_token"),
                RefusalCode::UsedToken => ("used_token", "join.used_token"),
                RefusalCode::BadRequest => ("bad_request", "join.bad_request"),
                RefusalCode::Unavailable => ("unavailable", "join.unavailable"),
            };
            let campus = refusal.campus.map_or_else(|| words("join.campus", &[]), |campus| campus.to_string());
            refused(code, words(key, &[("campus", &campus), ("cause", &refusal.words)]))
        }
        JoinError::Link(link) => refused("no_connection", no_connection(link)),
        JoinError::Request(cause) => refused("failed", words("join.request", &[("cause", cause)])),
        JoinError::Answer(cause) => refused("failed", words("join.answer", &[("cause", cause)])),
    }
}

fn no_connection(error: &LinkError) -> String {
    match error {
        LinkError::Timeout { addr, ms } => words("join.timeout", &[("address", addr), ("seconds", &(ms / 1000))]),
        LinkError::Refused { addr, reason: CloseReason::TimedOut } => words("join.silent", &[("address", addr)]),
        LinkError::Refused { addr, reason: CloseReason::Handshake { words: cause } } => {
            words("join.handshake", &[("address", addr), ("cause", cause)])
        }
        LinkError::Refused { addr, reason } => words("join.ended", &[("address", addr), ("cause", reason)]),
        other => words("join.link", &[("cause", other)]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use std::collections::BTreeSet;
    use yika_crdt::ids::CampusId;
    use yika_link::JoinRefusal;

    const SOURCES: [&str; 8] = [
        include_str!("voice.rs"),
        include_str!("cli.rs"),
        include_str!("cli/failure.rs"),
        include_str!("identity.rs"),
        include_str!("app.rs"),
        include_str!("doctor.rs"),
        include_str!("ended.rs"),
        include_str!("periphery.rs"),
    ];

    #[test]
    fn every_message_is_worded_in_both_languages_and_every_word_is_said() {
        assert_eq!(WORDS.gaps(), Vec::<String>::new());
        let keys: BTreeSet<&str> = include_str!("../words/cli.en.words")
            .lines()
            .filter_map(|line| line.split_once(" = ").map(|(key, _)| key))
            .collect();
        let quoted: BTreeSet<&str> = SOURCES.iter().flat_map(|source| source.split('"')).collect();
        let said = |key: &str| quoted.contains(key) || key.strip_prefix("check.").is_some_and(|k| quoted.contains(k));
        let unsaid: Vec<&&str> = keys.iter().filter(|key| !said(key)).collect();
        assert!(unsaid.is_empty(), "nobody says {unsaid:?}");
        let heads: BTreeSet<&str> = keys.iter().filter_map(|key| key.split('.').next()).collect();
        let is_key = |text: &&&str| {
            let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.');
            let parts = text.split_once('.');
            plain && parts.is_some_and(|(head, rest)| heads.contains(head) && !rest.is_empty() && rest != "rs")
        };
        let wordless: Vec<&&str> = quoted.iter().filter(is_key).filter(|key| !keys.contains(**key)).collect();
        assert!(wordless.is_empty(), "{wordless:?} have no words");
    }

    #[test]
    fn a_refused_join_says_once_what_is_wrong_and_where_the_next_token_is_made() {
        let refusal = JoinRefusal {
            code: RefusalCode::UsedToken,
            words: "the token was used by another box".into(),
            campus: Some(CampusId(2)),
        };
        let said = format!("{:#}", join(&refusal.into()));
        assert_eq!(said.matches("used by another box").count(), 1, "{said}");
        assert!(said.contains("headquarters") && said.contains("--campus c2"), "{said}");
    }
}

//! How headquarters is: what was looked at, how it came out, and how to mend it, as codes with facts. The words stand in
//! `words/status.{zh,en}.words` and are made where they are read.
//!
//! Leaves to others: looking (`desk/status`).

use crate::backup::log::LogState;
use crate::clock::LEAP_MS_MAX;
use crate::desk::{EdgeView, Standing};
use crate::machine::Recovering;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::LazyLock;
use yika_crdt::Fen;
use yika_crdt::civil::DAY_MS;
use yika_store::writer::Health;
use yika_ui::{Lang, Words};

const HOUR_MS: i64 = DAY_MS / 24;
/// A disk with less free than this part of it is full soon.
const FREE_PART_MIN: u64 = 20;
/// More than this is room enough on any disk.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// Fewer days of the certificate need hands.
const CERTIFICATE_DAYS_MIN: i64 = 30;
/// A backup is old after so long, or after twice the distance at which they are made.
const BACKUP_AGE_MS_MAX: i64 = 48 * HOUR_MS;
/// The log tries its folder again by itself; after so long somebody must look.
const LOG_WAITS_MS_MAX: i64 = 60_000;
/// A wall clock so far behind what was stamped was set back.
const CLOCK_BEHIND_MS_MAX: i64 = 60_000;
/// A box that was not heard for so long does not come back by itself; its lease ends soon after.
const SILENT_MS_MAX: i64 = DAY_MS;
/// Boxes named in one finding.
const BOXES_NAMED_MAX: usize = 8;

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let (zh, en) = (include_str!("../words/status.zh.words"), include_str!("../words/status.en.words"));
    // The files are a part of the program; the test below reads them, too.
    Words::default().with(zh, en).unwrap_or_default()
});

/// Something about headquarters' state in words.
pub(crate) fn said(lang: Lang, key: &str, facts: &[(&str, &dyn Display)]) -> String {
    let texts: Vec<(&str, String)> = facts.iter().map(|(name, fact)| (*name, fact.to_string())).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    WORDS.t_args(lang, key, &texts)
}

/// How something came out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Well.
    Well,
    /// Worth a word; nobody has to come.
    Note,
    /// Somebody must do something.
    Wrong,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// A short stable word for what was seen.
    pub code: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What the words name.
    pub facts: BTreeMap<String, String>,
}

impl Finding {
    fn new(verdict: Verdict, code: &str, facts: &[(&str, &dyn Display)]) -> Finding {
        let facts = facts.iter().map(|(name, fact)| ((*name).to_owned(), fact.to_string())).collect();
        Finding { code: code.to_owned(), verdict, facts }
    }

    /// What was seen.
    pub fn words(&self, lang: Lang) -> String {
        self.filled(lang, &self.code)
    }

    /// What to do, if anything.
    pub fn mend(&self, lang: Lang) -> Option<String> {
        (self.verdict != Verdict::Well).then(|| self.filled(lang, &format!("{}.mend", self.code)))
    }

    /// Both in one line.
    pub fn sentence(&self, lang: Lang) -> String {
        let stop = if lang == Lang::Zh { "；" } else { "; " };
        [Some(self.words(lang)), self.mend(lang)].into_iter().flatten().collect::<Vec<_>>().join(stop)
    }

    /// For a terminal.
    pub fn lines(&self, lang: Lang) -> String {
        let mark = match self.verdict {
            Verdict::Well => " ok ",
            Verdict::Note => "note",
            Verdict::Wrong => "FAIL",
        };
        let mend = self.mend(lang).map(|mend| format!("\n       → {mend}"));
        format!("[{mark}] {}{}", self.words(lang), mend.unwrap_or_default())
    }

    fn filled(&self, lang: Lang, key: &str) -> String {
        let facts: Vec<(&str, &str)> = self.facts.iter().map(|(name, fact)| (name.as_str(), fact.as_str())).collect();
        WORDS.t_args(lang, key, &facts)
    }
}

/// Whether anything can be written.
pub fn writer(health: &Health) -> Finding {
    match health {
        Health::Serving => Finding::new(Verdict::Well, "writer.serving", &[]),
        Health::Refusing(cause) => Finding::new(Verdict::Wrong, "writer.refused", &[("cause", cause)]),
        Health::Damaged(cause) => Finding::new(Verdict::Wrong, "writer.damaged", &[("cause", cause)]),
        Health::Stopped => Finding::new(Verdict::Wrong, "writer.stopped", &[]),
    }
}

/// Something could not be looked at.
pub fn unread(cause: &dyn Display) -> Finding {
    Finding::new(Verdict::Wrong, "unread", &[("cause", cause)])
}

/// A restored hub that is not whole yet.
pub fn recovery(recovering: Option<&Recovering>) -> Option<Finding> {
    let boxes = recovering?.waiting_for.iter().map(ToString::to_string).collect();
    Some(Finding::new(Verdict::Wrong, "recovering", &[("boxes", &named(boxes))]))
}

/// Room on the disk under a folder.
pub fn room(folder: &Path, free_bytes: u64, total_bytes: u64) -> Finding {
    let scarce = free_bytes < (total_bytes / FREE_PART_MIN).min(FREE_BYTES_MIN);
    let (verdict, code) = if scarce { (Verdict::Wrong, "room.scarce") } else { (Verdict::Well, "room") };
    Finding::new(verdict, code, &[("folder", &folder.display()), ("mib", &(free_bytes >> 20))])
}

/// How long headquarters' own certificate lasts.
pub fn certificate(days: i64) -> Finding {
    let (verdict, code) = match days {
        ..CERTIFICATE_DAYS_MIN => (Verdict::Wrong, "certificate.ends"),
        _ => (Verdict::Well, "certificate"),
    };
    Finding::new(verdict, code, &[("days", &days)])
}

/// The newest proved backup, where they are made every so many hours, and how many have failed since the start.
pub fn backup(last: Option<(i64, &str)>, every_hours: u32, failed: u64, now_ms: i64) -> Finding {
    let Some((at_ms, file)) = last else {
        return match failed {
            0 => Finding::new(Verdict::Note, "backup.none", &[]),
            _ => Finding::new(Verdict::Wrong, "backup.failed", &[("count", &failed)]),
        };
    };
    let age_ms = now_ms.saturating_sub(at_ms);
    if age_ms < -CLOCK_BEHIND_MS_MAX {
        return Finding::new(Verdict::Note, "backup.ahead", &[("file", &file)]);
    }
    let age_ms = age_ms.max(0);
    let old = age_ms > BACKUP_AGE_MS_MAX.max(2 * i64::from(every_hours) * HOUR_MS);
    let (verdict, code) = if old { (Verdict::Wrong, "backup.old") } else { (Verdict::Well, "backup") };
    Finding::new(verdict, code, &[("hours", &(age_ms / HOUR_MS)), ("file", &file)])
}

/// The log between two backups, and whether it would be lost with the disk of the database.
pub fn log(state: &LogState, on_same_disk: bool, now_ms: i64) -> Vec<Finding> {
    let (folder, seconds) = (state.dir.display(), state.lag_ms(now_ms) / 1_000);
    let verdict = if state.lag_ms(now_ms) > LOG_WAITS_MS_MAX { Verdict::Wrong } else { Verdict::Note };
    let found = match &state.trouble {
        Some(trouble) => {
            let facts: &[(&str, &dyn Display)] = &[("seconds", &seconds), ("cause", trouble), ("folder", &folder)];
            Finding::new(verdict, "log.waits", facts)
        }
        None if !state.based => Finding::new(Verdict::Note, "log.baseless", &[("folder", &folder)]),
        None if state.is_sound(now_ms) => Finding::new(Verdict::Well, "log", &[("folder", &folder)]),
        None => Finding::new(verdict, "log.late", &[("seconds", &seconds), ("folder", &folder)]),
    };
    let beside = on_same_disk.then(|| Finding::new(Verdict::Note, "log.same_disk", &[("folder", &folder)]));
    [Some(found), beside].into_iter().flatten().collect()
}

/// This machine's clock, given what headquarters has stamped last.
pub fn clock(stamped_ms: i64, now_ms: i64) -> Finding {
    let behind_ms = stamped_ms.saturating_sub(now_ms);
    let ahead_ms = now_ms.saturating_sub(stamped_ms);
    // What it follows is stamped within seconds.
    if ahead_ms > LEAP_MS_MAX / 2 {
        return Finding::new(Verdict::Wrong, "clock.ahead", &[("hours", &(ahead_ms / HOUR_MS))]);
    }
    if behind_ms <= CLOCK_BEHIND_MS_MAX {
        return Finding::new(Verdict::Well, "clock", &[]);
    }
    Finding::new(Verdict::Wrong, "clock.behind", &[("minutes", &(behind_ms / 60_000))])
}

/// Boxes by when they were heard.
pub fn boxes(edges: &[EdgeView]) -> Vec<Finding> {
    let silent = |edge: &EdgeView| edge.heard_age_ms.is_some_and(|age| age > SILENT_MS_MAX);
    let of = |verdict, code: &str, is: &dyn Fn(&EdgeView) -> bool| {
        let names: Vec<String> =
            edges.iter().filter(|edge| is(edge)).map(|edge| format!("{} ({})", edge.name, edge.node)).collect();
        (!names.is_empty()).then(|| Finding::new(verdict, code, &[("boxes", &named(names))]))
    };
    let stands = |edge: &EdgeView, standing| edge.standing() == standing;
    let heard = edges.iter().filter(|edge| matches!(edge.standing(), Standing::Normal | Standing::Late)).count();
    [
        Some(Finding::new(Verdict::Well, "boxes.heard", &[("count", &heard)])),
        of(Verdict::Wrong, "boxes.silent", &|edge| stands(edge, Standing::Offline) && silent(edge)),
        of(Verdict::Note, "boxes.offline", &|edge| stands(edge, Standing::Offline) && !silent(edge)),
        of(Verdict::Note, "boxes.behind", &|edge| stands(edge, Standing::Behind)),
        of(Verdict::Note, "boxes.new", &|edge| stands(edge, Standing::New)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Entries that could not be used.
pub fn quarantine(count: usize) -> Finding {
    let (verdict, code) = if count > 0 { (Verdict::Wrong, "quarantine") } else { (Verdict::Well, "quarantine.empty") };
    Finding::new(verdict, code, &[("count", &count)])
}

/// The sum of all accounts, and what lies in suspense.
pub fn books(sum: Fen, suspense: Fen) -> Vec<Finding> {
    let (verdict, code) = if sum == Fen::ZERO { (Verdict::Well, "books") } else { (Verdict::Wrong, "books.differ") };
    let suspended = (suspense != Fen::ZERO).then(|| Finding::new(Verdict::Note, "suspense", &[("sum", &suspense)]));
    [Some(Finding::new(verdict, code, &[("sum", &sum)])), suspended].into_iter().flatten().collect()
}

/// The first few, and that there are more.
fn named(mut names: Vec<String>) -> String {
    if names.len() > BOXES_NAMED_MAX {
        names.truncate(BOXES_NAMED_MAX);
        names.push("…".to_owned());
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use std::collections::BTreeSet;
    use std::path::PathBuf;
    use yika_crdt::ids::NodeId;
    use yika_crdt::store::StoreError;

    const NOW_MS: i64 = 1_795_494_600_000;

    fn edge(node: u32, heard_age_ms: Option<i64>, behind_age_ms: Option<i64>) -> EdgeView {
        EdgeView {
            node: NodeId(node),
            writer: String::new(),
            campus: None,
            name: format!("east-{node}"),
            address: None,
            connected: true,
            fenced: None,
            held: 0,
            behind: 0,
            behind_since_ms: None,
            behind_age_ms,
            heard_ms: None,
            heard_age_ms,
            newest_event_ms: None,
            newest_event_age_ms: None,
            quarantined: 0,
        }
    }

    fn log_state(based: bool, since_ms: Option<i64>, trouble: Option<&str>) -> LogState {
        let dir = PathBuf::from("/backups");
        LogState { dir, based, waiting_since_ms: since_ms, trouble: trouble.map(str::to_owned) }
    }

    /// Every finding that there is.
    fn all() -> Vec<Finding> {
        let damaged = StoreError::Corrupt { place: "a page".into(), cause: "bits".into() };
        let healths = [Health::Serving, Health::Refusing(damaged.clone()), Health::Damaged(damaged), Health::Stopped];
        let waiting_for = (1..20).map(NodeId).collect();
        let logs = [
            log_state(true, None, None),
            log_state(false, None, None),
            log_state(true, Some(NOW_MS - 9_000), None),
            log_state(true, Some(NOW_MS - 9_000), Some("no such folder")),
        ];
        let fleet = [
            edge(1, Some(0), None),
            edge(2, Some(25 * HOUR_MS), None),
            edge(3, Some(HOUR_MS), None),
            edge(4, Some(0), Some(HOUR_MS)),
            edge(5, None, None),
        ];
        let mut found: Vec<Finding> = healths.iter().map(writer).collect();
        found.push(unread(&"no such row"));
        found.extend(recovery(Some(&Recovering { since_ms: 0, waiting_for })));
        found.extend([room(Path::new("/data"), 1 << 30, 1 << 40), room(Path::new("/data"), 1 << 20, 1 << 30)]);
        found.extend([certificate(CERTIFICATE_DAYS_MIN), certificate(-1)]);
        found.extend([backup(Some((NOW_MS + HOUR_MS, "a.yika")), 24, 0, NOW_MS)]);
        found.extend([backup(None, 24, 0, NOW_MS), backup(None, 24, 2, NOW_MS)]);
        found.extend([24, 49].map(|hours| backup(Some((NOW_MS - hours * HOUR_MS, "a.yika")), 24, 0, NOW_MS)));
        found.extend(logs.iter().flat_map(|state| log(state, true, NOW_MS)));
        found.extend([clock(NOW_MS, NOW_MS), clock(NOW_MS + HOUR_MS, NOW_MS), clock(NOW_MS - LEAP_MS_MAX, NOW_MS)]);
        found.extend(boxes(&fleet));
        found.extend([quarantine(0), quarantine(3)]);
        found.extend(books(Fen::ZERO, Fen(1_250)).into_iter().chain(books(Fen(1), Fen::ZERO)));
        found
    }

    #[test]
    fn every_finding_says_what_was_seen_and_how_to_mend_it_in_one_language() {
        assert_eq!(WORDS.gaps(), Vec::<String>::new());
        for finding in all() {
            for lang in [Lang::Zh, Lang::En] {
                let text = finding.sentence(lang);
                assert!(!text.contains('{') && !text.contains(".mend"), "{text}");
                let chinese = text.chars().any(|letter| letter > '\u{2e7f}');
                assert_eq!(chinese, lang == Lang::Zh, "{text}");
            }
        }
    }

    #[test]
    fn no_words_stand_for_a_finding_that_there_is_not() {
        let codes: BTreeSet<String> = all().into_iter().map(|finding| finding.code).collect();
        for line in include_str!("../words/status.en.words").lines().filter(|line| !line.starts_with('#')) {
            let key = line.split_once(" = ").unwrap().0;
            let code = key.strip_suffix(".mend").unwrap_or(key);
            assert!(codes.contains(code) || key.starts_with("status."), "{key}");
        }
    }

    #[test]
    fn somebody_is_called_for_what_does_not_mend_itself() {
        let called = |found: &[Finding]| {
            let wrong = found.iter().filter(|finding| finding.verdict == Verdict::Wrong);
            wrong.map(|finding| finding.code.clone()).collect::<Vec<_>>()
        };
        let day_ms = 24 * HOUR_MS;
        assert_eq!(called(&boxes(&[edge(1, Some(day_ms), None), edge(2, None, None)])), Vec::<String>::new());
        assert_eq!(called(&boxes(&[edge(1, Some(day_ms + 1), None)])), ["boxes.silent"]);
        let fenced = EdgeView { fenced: Some("lost".into()), ..edge(1, Some(9 * day_ms), None) };
        assert_eq!(called(&boxes(&[fenced])), Vec::<String>::new());
        let aged = |hours, every| backup(Some((NOW_MS - hours * HOUR_MS, "a")), every, 0, NOW_MS).verdict;
        assert_eq!((aged(48, 24), aged(49, 24), aged(49, 168)), (Verdict::Well, Verdict::Wrong, Verdict::Well));
        let free = |mib: u64, of: u64| room(Path::new("/"), mib << 20, of << 20).verdict;
        assert_eq!((free(49, 1_000), free(50, 1_000)), (Verdict::Wrong, Verdict::Well));
        assert_eq!(free(2_000, 1_000_000), Verdict::Well, "two gigabytes are room on a large disk, too");
        assert_eq!(called(&log(&log_state(false, None, None), true, NOW_MS)), Vec::<String>::new());
        let waits = |seconds: i64| log(&log_state(true, Some(NOW_MS - seconds * 1_000), Some("full")), false, NOW_MS);
        assert_eq!((called(&waits(60)).len(), called(&waits(61))), (0, vec!["log.waits".to_owned()]));
        assert_eq!(called(&books(Fen(-1), Fen(5))), ["books.differ"]);
    }
}

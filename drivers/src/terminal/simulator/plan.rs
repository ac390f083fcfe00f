//! What a run does: terminals, cards, mix and pace, from a file or flags.

use crate::terminal::client::{Client, Identity, Patience};
use crate::terminal::message::PresentedCard;
use crate::terminal::sign::KEY_LEN_BYTES;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Most terminals of a run.
pub(super) const TERMINALS_MAX: usize = 2_000;
/// Most cards of a run.
pub(super) const CARDS_MAX: usize = 200_000;

/// A run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// Edges by `host:port` or `http://host:port`, in order of preference, for terminals without their own.
    pub edges: Vec<String>,
    /// Tills.
    pub tills: Vec<TerminalPlan>,
    /// Door readers.
    pub readers: Vec<TerminalPlan>,
    /// Card numbers, single or as `first-last`, and chips as `uid:0b3e3636`.
    pub cards: Vec<String>,
    /// Of all choices.
    pub seed: u64,
    /// Sales in a second, all tills together; 0 = each as soon as its last one is answered.
    pub per_second: u32,
    /// Swipes in a second, all readers together.
    pub swipes_per_second: u32,
    /// The run ends after so many seconds.
    pub seconds: Option<u64>,
    /// The run ends after so many sales; without tills, after so many swipes.
    pub count: Option<u64>,
    /// Boot number of the tills; the present second when absent, so that ids of two runs never meet.
    pub boot: Option<u32>,
    /// What tills do.
    pub mix: Mix,
    /// A request without answer is sent again for so long, then undone, in milliseconds.
    pub give_up_ms: u64,
    /// Pause between tries, in milliseconds.
    pub retry_ms: u64,
    /// How long one try waits, in milliseconds.
    pub answer_wait_ms: u64,
    /// At the end every id is sent once more, and its answer compared with the first.
    pub resend_all: bool,
}

/// One terminal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalPlan {
    /// Its number.
    pub terminal: u32,
    /// Its key, 64 hexadecimal digits.
    pub key: String,
    /// The key's version.
    #[serde(default = "first_version")]
    pub key_version: u16,
    /// Its edges, where they are not those of the plan.
    #[serde(default)]
    pub edges: Vec<String>,
}

/// Shares in percent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Sales at the fixed price.
    pub fixed: u8,
    /// Sales by portions.
    pub portions: u8,
    /// Meals counted. What is left of a hundred is keyed in.
    pub count: u8,
    /// Keyed amounts: least and greatest, in fen.
    pub amount_fen: (i64, i64),
    /// Cards presented a second time at once, under a new id.
    pub double_tap: u8,
    /// Approved sales corrected by a part.
    pub correction: u8,
    /// Approved sales reversed, as after a torn card.
    pub reversal: u8,
    /// Answered ids sent again at once.
    pub resend: u8,
    /// Sales after which the till works alone for a while and uploads later.
    pub offline: u8,
}

impl Default for Mix {
    fn default() -> Self {
        Mix {
            fixed: 0,
            portions: 0,
            count: 0,
            amount_fen: (100, 2_000),
            double_tap: 0,
            correction: 0,
            reversal: 0,
            resend: 0,
            offline: 0,
        }
    }
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            edges: Vec::new(),
            tills: Vec::new(),
            readers: Vec::new(),
            cards: Vec::new(),
            seed: 1,
            per_second: 10,
            swipes_per_second: 2,
            seconds: None,
            count: None,
            boot: None,
            mix: Mix::default(),
            give_up_ms: 30_000,
            retry_ms: 200,
            answer_wait_ms: 3_000,
            resend_all: false,
        }
    }
}

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the plan cannot be run: {0}")]
pub struct PlanError(pub String);

impl Plan {
    /// Reads a `.toml` or `.json` file.
    ///
    /// # Errors
    /// When it cannot be read or is not a plan.
    pub fn read(path: &Path) -> Result<Plan, PlanError> {
        let wrong = |error: String| PlanError(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        match path.extension().and_then(|e| e.to_str()) {
            Some("json") => serde_json::from_str(&text).map_err(|e| wrong(e.to_string())),
            _ => toml::from_str(&text).map_err(|e| wrong(e.to_string())),
        }
    }

    /// The plan, if it can be run.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn checked(self) -> Result<Plan, PlanError> {
        let refuse = |cause: String| Err(PlanError(cause));
        let Mix { fixed, portions, count, amount_fen: (least, greatest), .. } = self.mix;
        let terminals = self.tills.len() + self.readers.len();
        if terminals == 0 || terminals > TERMINALS_MAX {
            return refuse(format!("{terminals} terminals, 1 to {TERMINALS_MAX} can be"));
        }
        if u16::from(fixed) + u16::from(portions) + u16::from(count) > 100 {
            return refuse("fixed, portions and count are more than 100 percent".into());
        }
        if least < 1 || greatest < least {
            return refuse(format!("amounts of {least} to {greatest} fen"));
        }
        if self.seconds.is_none() && self.count.is_none() {
            return refuse("neither seconds nor count: it would never end".into());
        }
        if self.presented_cards()?.is_empty() {
            return refuse("no cards".into());
        }
        for terminal in self.tills.iter().chain(&self.readers) {
            terminal.key()?;
            if terminal.edges.is_empty() && self.edges.is_empty() {
                return refuse(format!("terminal {} has no edge", terminal.terminal));
            }
        }
        Ok(self)
    }

    /// All cards as they are presented.
    ///
    /// # Errors
    /// When one is neither number nor chip, or the list is too long.
    pub fn presented_cards(&self) -> Result<Vec<PresentedCard>, PlanError> {
        let mut cards = Vec::new();
        for text in &self.cards {
            if let Some(uid) = text.strip_prefix("uid:") {
                let card = PresentedCard::Uid { uid: uid.to_ascii_lowercase() };
                card.chip().ok_or_else(|| PlanError(format!("{text:?} is not a chip: 8 or 14 hexadecimal digits")))?;
                if cards.len() >= CARDS_MAX {
                    return Err(PlanError(format!("more than {CARDS_MAX} cards")));
                }
                cards.push(card);
                continue;
            }
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let number = |t: &str| t.trim().parse::<u64>().map_err(|_| PlanError(format!("{text:?} is not a card")));
            let (first, last) = (number(first)?, number(last)?);
            let many = last.checked_sub(first).and_then(|n| usize::try_from(n).ok()).map(|n| n.saturating_add(1));
            match many {
                Some(many) if cards.len().saturating_add(many) <= CARDS_MAX => {
                    cards.extend((first..=last).map(|number| PresentedCard::Number { number }));
                }
                _ => return Err(PlanError(format!("{text:?} runs backwards or is too long"))),
            }
        }
        Ok(cards)
    }

    /// The clients of a terminal, one for each edge.
    pub(super) fn clients(&self, terminal: &TerminalPlan, boot: u32) -> Result<Vec<Client>, PlanError> {
        let edges = if terminal.edges.is_empty() { &self.edges } else { &terminal.edges };
        let patience = Patience { tries_max: 1, answer_wait_ms: self.answer_wait_ms };
        edges.iter().map(|edge| Ok(Client::new(terminal.identity(edge, boot)?).patient(patience))).collect()
    }

    /// How long a request is sent again.
    pub(super) fn give_up(&self) -> Duration {
        Duration::from_millis(self.give_up_ms)
    }

    /// The boot number of this run.
    pub(super) fn boot(&self) -> u32 {
        self.boot.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u32::try_from(since.as_secs()).unwrap_or(1)
        })
    }
}

impl TerminalPlan {
    /// Who it is at an edge.
    ///
    /// # Errors
    /// When its key is not one.
    pub fn identity(&self, edge: &str, boot: u32) -> Result<Identity, PlanError> {
        let edge = edge.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Ok(Identity { edge, terminal: self.terminal, boot, key_version: self.key_version, key: self.key()? })
    }

    fn key(&self) -> Result<Zeroizing<[u8; KEY_LEN_BYTES]>, PlanError> {
        let mut key = Zeroizing::new([0; KEY_LEN_BYTES]);
        match hex::decode_to_slice(self.key.trim(), key.as_mut()) {
            Ok(()) => Ok(key),
            Err(_) => Err(PlanError(format!("the key of terminal {} is not 64 hexadecimal digits", self.terminal))),
        }
    }
}

fn first_version() -> u16 {
    1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;

    #[test]
    fn a_plan_is_read_from_toml_and_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.toml");
        let key = "07".repeat(32);
        let text = format!(
            "edges = [\"http://127.0.0.1:1\"]\ncards = [\"5-7\", \"9\"]\ncount = 3\n[[tills]]\nterminal = 10\nkey = \"{key}\"\n"
        );
        std::fs::write(&path, text).unwrap();
        let plan = Plan::read(&path).unwrap().checked().unwrap();
        let numbers = [5, 6, 7, 9].map(|number| PresentedCard::Number { number });
        assert_eq!(plan.presented_cards(), Ok(numbers.to_vec()));
        let chip = Plan { cards: vec!["uid:0B3E3636".into()], ..plan.clone() };
        assert_eq!(chip.presented_cards(), Ok(vec![PresentedCard::Uid { uid: "0b3e3636".into() }]));
        assert!(Plan { cards: vec!["uid:0B3E".into()], ..plan.clone() }.checked().unwrap_err().0.contains("8 or 14"));
        assert!(Plan { count: None, ..plan.clone() }.checked().unwrap_err().0.contains("never end"));
        assert!(Plan { cards: vec!["7-5".into()], ..plan.clone() }.checked().is_err());
        let short = TerminalPlan { key: "07".into(), ..plan.tills[0].clone() };
        assert!(Plan { tills: vec![short], ..plan }.checked().unwrap_err().0.contains("64 hexadecimal"));
    }
}

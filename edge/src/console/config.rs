//! The console's part of the box's configuration: how browsers reach it, and what the readers at web tills deliver.
//!
//! Leaves to others: reading the file (`config`), the forms of card numbers (`yika_drivers::card_format`).

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use yika_crdt::ids::TerminalId;
use yika_drivers::card_format::ReaderProfile;

/// Settings of the pages.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleConfig {
    /// Browsers reach the pages by TLS, so that cookies carry `Secure`.
    pub tls: bool,
    /// The keyboard reader at a web till.
    pub reader: WedgeReader,
    /// Tills whose reader is another one.
    pub readers: Vec<TillReader>,
}

/// What the text of a reader stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivers {
    /// A whole number, printed or of the chip, in any form: what fits the cards of two holders is refused.
    #[default]
    Any,
    /// The card number as printed, in decimal digits.
    Number,
    /// The number of the chip, in the form that `profile` tells.
    Chip,
}

/// A reader that types what it reads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WedgeReader {
    /// What its text stands for. Best told: a chip number may be somebody else's card number.
    pub delivers: Delivers,
    /// The form of the chip number, where it delivers chips.
    pub profile: ReaderProfile,
    /// What it types before the number.
    pub prefix: String,
    /// What it types after the number, before Enter or Tab.
    pub suffix: String,
}

/// The reader of one till.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TillReader {
    /// The till.
    pub terminal: TerminalId,
    /// Its reader.
    pub reader: WedgeReader,
}

impl Default for WedgeReader {
    fn default() -> Self {
        let (prefix, suffix) = (String::new(), String::new());
        WedgeReader { delivers: Delivers::Any, profile: ReaderProfile::DEC10, prefix, suffix }
    }
}

impl ConsoleConfig {
    /// Refuses settings that contradict each other.
    ///
    /// # Errors
    /// Naming the reader and what is wrong with it.
    pub fn validate(&self) -> Result<()> {
        self.reader.profile.validate().context("console.reader")?;
        let mut seen = BTreeSet::new();
        for till in &self.readers {
            let terminal = till.terminal;
            till.reader.profile.validate().with_context(|| format!("console.readers, terminal {terminal}"))?;
            ensure!(seen.insert(terminal), "console.readers names terminal {terminal} twice; remove one of the two");
        }
        Ok(())
    }

    /// The reader at a till.
    pub fn reader_at(&self, terminal: TerminalId) -> &WedgeReader {
        self.readers.iter().find(|t| t.terminal == terminal).map_or(&self.reader, |t| &t.reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_told_per_till() -> Result<()> {
        let text = r#"
            tls = true
            [reader]
            delivers = "chip"
            profile = { bits = 34, byte_order = "reversed" }
            [[readers]]
            terminal = 12
            reader = { delivers = "number" }
        "#;
        let config: ConsoleConfig = toml::from_str(text)?;
        config.validate()?;
        assert_eq!(config.reader_at(TerminalId(12)).delivers, Delivers::Number);
        assert_eq!(config.reader_at(TerminalId(3)).delivers, Delivers::Chip);
        Ok(())
    }

    #[test]
    fn contradictions_are_named() -> Result<()> {
        let bad: ConsoleConfig = toml::from_str("reader = { delivers = 'chip', profile = { bits = 26 } }")?;
        let said = format!("{:#}", bad.validate().err().context("accepted")?);
        assert!(said.starts_with("console.reader: ") && said.contains("set field to"), "{said}");
        assert!(toml::from_str::<ConsoleConfig>("reeder = 1").is_err());
        Ok(())
    }
}

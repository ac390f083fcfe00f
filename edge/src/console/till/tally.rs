//! What a shift has sold: folded from the first answers of its ids, each read once.
//!
//! One truth: the journal. Leaves to others: which shift (`yika_crdt::shift`), how it looks (`view`).

use super::super::App;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use yika_crdt::Fen;
use yika_crdt::entry::{Body, Mode, PurchaseRecord};
use yika_crdt::fen::FenError;
use yika_crdt::ids::{CardNumber, PurchaseId, TerminalId};
use yika_crdt::sale::{Answer, answer_of};
use yika_crdt::shift::Shift;
use yika_crdt::sold::known_after;
use yika_ui::{Saved, UiError};

/// Answers kept for the list beside the keypad.
pub(super) const RECENT_MAX: usize = 5;
/// Answers read at once.
const ANSWERS_AT_ONCE: usize = 500;
/// Tills whose tally is kept; with more, all are folded again when asked for.
const TILLS_MAX: usize = 256;

/// An id with the first answer that it got.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) id: PurchaseId,
    pub(super) hub_time_ms: i64,
    pub(super) answer: Answer,
    /// The card that was refused.
    pub(super) refused: Option<CardNumber>,
}

/// Sums of a shift.
#[derive(Clone, Debug)]
pub(in crate::console) struct Tally {
    last: PurchaseId,
    /// Number of the next id.
    pub(super) next: u32,
    /// Sales and their sum.
    pub(super) sold: (u64, Fen),
    /// The same by mode, counted meals included.
    pub(super) by_mode: BTreeMap<&'static str, (u64, Fen)>,
    /// Counted meals.
    pub(super) meals: u64,
    /// Corrections, reversals, refunds and their sum.
    pub(super) back: (u64, Fen),
    /// Counted meals taken back.
    pub(super) meals_back: u64,
    /// Refusals.
    pub(super) refused: u64,
    /// The newest answers first.
    pub(super) recent: VecDeque<Answered>,
    /// The last sale, until it was given back.
    pub(super) correctable: Option<Box<PurchaseRecord>>,
}

/// Tallies and pages of the tills in use.
#[derive(Default)]
pub(in crate::console) struct Tills {
    tallies: Mutex<BTreeMap<TerminalId, Tally>>,
    attached: Mutex<BTreeMap<TerminalId, String>>,
}

impl Tally {
    fn begin(shift: &Shift) -> Tally {
        Tally {
            last: PurchaseId { terminal: shift.terminal, boot: shift.boot, seq: 0 },
            next: 1,
            sold: (0, Fen::ZERO),
            by_mode: BTreeMap::new(),
            meals: 0,
            meals_back: 0,
            back: (0, Fen::ZERO),
            refused: 0,
            recent: VecDeque::new(),
            correctable: None,
        }
    }

    /// Sold less given back.
    pub(super) fn takings(&self) -> Fen {
        self.sold.1.sub(self.back.1).unwrap_or(self.sold.1)
    }

    fn take(&mut self, answered: Answered) -> Result<(), FenError> {
        match &answered.answer {
            Answer::Approved(sale) => {
                let total = if sale.mode == Mode::Count { Fen::ZERO } else { total_of(sale)? };
                match sale.mode {
                    Mode::Count => self.meals += 1,
                    _ => self.sold = (self.sold.0 + 1, self.sold.1.add(total)?),
                }
                let part = self.by_mode.entry(mode_code(&sale.mode)).or_default();
                *part = (part.0 + 1, part.1.add(total)?);
                self.correctable = Some(sale.clone());
            }
            Answer::Refunded(refund) => {
                let back = Fen::sum(refund.back.iter().map(|(_, part)| *part))?;
                match refund.back.is_empty() {
                    true => self.meals_back += 1,
                    false => self.back = (self.back.0 + 1, self.back.1.add(back)?),
                }
                self.correctable = self.correctable.take().filter(|sale| sale.id != refund.of);
            }
            Answer::Refused(_) => self.refused += 1,
            Answer::Voided => {}
        }
        self.recent.push_front(answered);
        self.recent.truncate(RECENT_MAX);
        Ok(())
    }
}

/// Key of a mode's words.
pub(super) fn mode_code(mode: &Mode) -> &'static str {
    match mode {
        Mode::Amount(_) => "mode.amount",
        Mode::Fixed => "mode.fixed",
        Mode::Portions { .. } => "mode.portions",
        Mode::Count => "mode.count",
    }
}

/// What a sale cost the holder.
pub(super) fn total_of(sale: &PurchaseRecord) -> Result<Fen, FenError> {
    sale.price.add(sale.adjustment)
}

impl App {
    /// The sums of a shift up to this moment.
    pub(in crate::console) fn tally(&self, shift: &Shift) -> Result<Tally, UiError> {
        let mut tallies = self.0.tills.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = tallies.get(&shift.terminal).filter(|t| t.last.boot == shift.boot).cloned();
        let mut tally = kept.unwrap_or_else(|| Tally::begin(shift));
        loop {
            let known = self.look(|store| known_after(store, tally.last, ANSWERS_AT_ONCE))?;
            let end = known.len() < ANSWERS_AT_ONCE;
            for known in known {
                tally.last = known.id;
                tally.next = known.id.seq.saturating_add(1);
                let Some(entry) = known.entry else { continue };
                let Some(answer) = answer_of(&entry.body) else { continue };
                let refused = if let Body::Refused(record) = &entry.body { Some(record.card) } else { None };
                let answered = Answered { id: known.id, hub_time_ms: entry.stamp.hub_time_ms, answer, refused };
                tally.take(answered).map_err(|e| UiError::internal(e, Saved::Nothing))?;
            }
            if end {
                break;
            }
        }
        if tallies.len() >= TILLS_MAX {
            tallies.clear();
        }
        tallies.insert(shift.terminal, tally.clone());
        Ok(tally)
    }

    /// Gives the till to one page: the one opened last. Its word must come with every sale, so that two pages of one
    /// shift never number sales alike.
    pub(in crate::console) fn attach(&self, terminal: TerminalId) -> Result<String, UiError> {
        let mut bytes = [0u8; 12];
        getrandom::fill(&mut bytes).map_err(|e| UiError::internal(e, Saved::Nothing))?;
        let word = hex::encode(bytes);
        let mut attached = self.0.tills.attached.lock().unwrap_or_else(PoisonError::into_inner);
        attached.insert(terminal, word.clone());
        Ok(word)
    }

    /// Whether the till is with this page. After a restart of the box the first page that speaks has it.
    pub(in crate::console) fn is_attached(&self, terminal: TerminalId, word: &str) -> bool {
        let mut attached = self.0.tills.attached.lock().unwrap_or_else(PoisonError::into_inner);
        attached.entry(terminal).or_insert_with(|| word.to_owned()) == word
    }
}

//! The left half of the till: the big result, and the last five with the sums of the shift.
//!
//! Leaves to others: deciding (`till`), reacting to keys and cards (the page's script).

use super::super::{App, cards, show};
use super::tally::{Answered, Tally, total_of};
use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use yika_crdt::entry::{Mode, PurchaseRecord, RefundRecord, Source};
use yika_crdt::ids::{CardNumber, PersonId, PurchaseId};
use yika_crdt::reason::Reason;
use yika_crdt::sale::Answer;
use yika_crdt::shift::Shift;
use yika_crdt::sold::credit_of;
use yika_crdt::{Fen, fen::FenError};
use yika_ui::{Page, Saved, Ui, UiError, View};

/// The big coloured result.
pub(super) struct Panel {
    pub(super) state: &'static str,
    pub(super) icon: &'static str,
    pub(super) word: String,
    pub(super) money: String,
    pub(super) notes: Vec<String>,
    /// The page must be opened again before it can go on.
    pub(super) locked: bool,
    /// Opening it again here is of use.
    pub(super) reopens: bool,
}

/// One of the last five.
pub(super) struct RecentRow {
    pub(super) time: String,
    pub(super) name: String,
    pub(super) money: String,
    pub(super) tone: &'static str,
    pub(super) word: String,
    /// Its receipt.
    pub(super) receipt: Option<String>,
}

/// A sale that the cashier may take back or reduce.
pub(super) struct Correctable {
    pub(super) seq: u32,
    pub(super) text: String,
    /// What it cost; nothing for a counted meal, which is only taken back whole.
    pub(super) total: Fen,
}

/// A line of the sums of the shift.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) count: String,
    pub(super) sum: String,
}

/// All of the left half.
pub(super) struct Left {
    pub(super) panel: Panel,
    pub(super) recent: Vec<RecentRow>,
    pub(super) next: u32,
    pub(super) correctable: Option<Correctable>,
    pub(super) sums: String,
    pub(super) parts: Vec<Part>,
}

#[derive(Template)]
#[template(path = "till/left.html")]
struct LeftPart {
    page: Page,
    left: Left,
}

impl Panel {
    /// Waiting for the next holder.
    pub(super) fn ready(ui: &Ui) -> Panel {
        Panel::plain("ready", "nfc", ui.t("till.ready"), Vec::new())
    }

    /// A word without an amount.
    pub(super) fn plain(state: &'static str, icon: &'static str, word: &str, notes: Vec<String>) -> Panel {
        Panel { state, icon, word: word.to_owned(), money: String::new(), notes, locked: false, reopens: true }
    }

    /// A refusal by this page, before anything was recorded.
    pub(super) fn refused(ui: &Ui, word: &str, note: &str) -> Panel {
        Panel::plain("refused", "circle-x", ui.t(word), vec![ui.t(note).to_owned()])
    }

    /// As [`Panel::refused`], and the page must be opened again.
    pub(super) fn locked(ui: &Ui, word: &str, note: &str) -> Panel {
        Panel { locked: true, ..Panel::refused(ui, word, note) }
    }
}

impl App {
    /// The answer of a till request: the left half with a status.
    pub(super) fn left_response(
        &self,
        ui: &Ui,
        shift: Option<&Shift>,
        status: StatusCode,
        panel: Panel,
    ) -> Result<Response, UiError> {
        let left = match shift {
            Some(shift) => self.left(ui, shift, panel)?,
            None => {
                Left { panel, recent: Vec::new(), next: 0, correctable: None, sums: String::new(), parts: Vec::new() }
            }
        };
        let page = ui.page("till.title", "/till");
        Ok((status, View::new(LeftPart { page, left }).into_response()).into_response())
    }

    /// The left half with this panel.
    pub(super) fn left(&self, ui: &Ui, shift: &Shift, panel: Panel) -> Result<Left, UiError> {
        let tally = self.tally(shift)?;
        let recent = tally.recent.iter().map(|answered| self.recent_row(ui, answered)).collect::<Result<_, _>>()?;
        let correctable = tally.correctable.as_ref().map(|sale| -> Result<_, UiError> {
            let total = total_of(sale).map_err(|e| UiError::internal(e, Saved::Nothing))?;
            let what = charged(ui, sale).map_err(|e| UiError::internal(e, Saved::Nothing))?;
            let text = format!("{} · {what}", self.holder_name(sale.person, sale.card)?);
            let total = if sale.mode == Mode::Count { Fen::ZERO } else { total };
            Ok(Correctable { seq: sale.id.seq, text, total })
        });
        Ok(Left {
            panel,
            recent,
            next: tally.next,
            correctable: correctable.transpose()?,
            sums: sums(ui, &tally),
            parts: parts(ui, &tally),
        })
    }

    /// What a purchase was answered.
    pub(super) fn panel_of(&self, ui: &Ui, answer: &Answer, card: CardNumber, again: bool) -> Result<Panel, UiError> {
        let mut panel = match answer {
            Answer::Approved(sale) => self.approved(ui, sale)?,
            Answer::Refunded(refund) => self.refunded(ui, refund)?,
            Answer::Refused(reason) => self.refusal(ui, *reason, card)?,
            Answer::Voided => {
                Panel::plain("undone", "undo-2", ui.t("till.voided"), vec![ui.t("till.voided.note").to_owned()])
            }
        };
        if again {
            panel.notes.push(ui.t("till.again").to_owned());
        }
        Ok(panel)
    }

    fn approved(&self, ui: &Ui, sale: &PurchaseRecord) -> Result<Panel, UiError> {
        let total = total_of(sale).map_err(|e| UiError::internal(e, Saved::Nothing))?;
        let who = format!("{} · {}", self.holder_name(sale.person, sale.card)?, show::category(ui, sale.category));
        let credit = credit_of(sale);
        let (key, sum) = if credit.is_positive() { ("till.credit", credit) } else { ("till.balance", sale.balance) };
        let mut notes = vec![who, ui.t_args(key, &[("sum", &show::money(sum))])];
        if let Mode::Portions { .. } = sale.mode {
            notes.push(show::mode(ui, &sale.mode));
        }
        if sale.adjustment != Fen::ZERO && sale.mode != Mode::Count {
            let key = if sale.adjustment.is_negative() { "till.discount" } else { "till.surcharge" };
            let args = [("price", show::money(sale.price)), ("change", show::money(sale.adjustment))];
            notes.push(ui.t_args(key, &args.each_ref().map(|(name, value)| (*name, value.as_str()))));
        }
        if sale.paid.len() > 1 {
            notes.push(paid_by(ui, &sale.paid));
        }
        let counted = sale.mode == Mode::Count;
        let word = match counted {
            true => "till.counted",
            false if credit.is_positive() => "till.approved_credit",
            false => "till.approved",
        };
        Ok(Panel {
            state: "approved",
            icon: "circle-check",
            word: ui.t(word).to_owned(),
            money: if counted { String::new() } else { show::money(total) },
            notes,
            locked: false,
            reopens: true,
        })
    }

    fn refunded(&self, ui: &Ui, refund: &RefundRecord) -> Result<Panel, UiError> {
        let person = self.person(refund.person)?;
        let name = person.map_or_else(|| "—".to_owned(), |p| show::masked_name(&p.name));
        let note = if refund.back.is_empty() { "till.undone.meal" } else { "till.undone.note" };
        Ok(Panel {
            money: given_back(ui, refund).map_err(|e| UiError::internal(e, Saved::Nothing))?,
            ..Panel::plain("undone", "undo-2", ui.t("till.undone"), vec![name, ui.t(note).to_owned()])
        })
    }

    fn refusal(&self, ui: &Ui, reason: Reason, card: CardNumber) -> Result<Panel, UiError> {
        let mut notes = Vec::new();
        if card != CardNumber(0) {
            notes.push(self.card_name(card)?);
        }
        if reason == Reason::UnknownCard {
            notes.push(ui.t("till.unknown.note").to_owned());
        }
        if matches!(reason, Reason::NotEnough | Reason::NoLease)
            && let Some(here) = self.node().spendable(card).map_err(|e| UiError::unavailable(e, Saved::Nothing))?
        {
            notes.push(ui.t_args("till.balance", &[("sum", &show::money(here))]));
            if !self.node().hears_hub() {
                notes.push(ui.t("till.share").to_owned());
            }
        }
        Ok(Panel::plain("refused", "circle-x", show::reason(ui, reason), notes))
    }

    fn recent_row(&self, ui: &Ui, answered: &Answered) -> Result<RecentRow, UiError> {
        let fail = |e| UiError::internal(e, Saved::Nothing);
        let time = ui.clock_text(answered.hub_time_ms);
        let receipt_of = |id: PurchaseId| format!("/till/receipt/{}/{}/{}", id.terminal.0, id.boot, id.seq);
        let receipt = match &answered.answer {
            Answer::Approved(_) => Some(receipt_of(answered.id)),
            Answer::Refunded(refund) => Some(receipt_of(refund.of)),
            Answer::Refused(_) | Answer::Voided => None,
        };
        Ok(match &answered.answer {
            Answer::Approved(sale) => {
                let (tone, word) =
                    if credit_of(sale).is_positive() { ("warn", "till.on_credit") } else { ("ok", "till.approved") };
                RecentRow {
                    time,
                    name: self.holder_name(sale.person, sale.card)?,
                    money: charged(ui, sale).map_err(fail)?,
                    tone,
                    word: ui.t(word).to_owned(),
                    receipt,
                }
            }
            Answer::Refunded(refund) => RecentRow {
                time,
                name: self.holder_name(refund.person, CardNumber(0))?,
                money: given_back(ui, refund).map_err(fail)?,
                tone: "plain",
                word: ui.t("till.undone").to_owned(),
                receipt,
            },
            Answer::Refused(reason) => {
                let word = show::reason(ui, *reason).to_owned();
                let name = answered.refused.filter(|card| *card != CardNumber(0)).map(|card| self.card_name(card));
                let name = name.transpose()?.unwrap_or_else(|| "—".to_owned());
                RecentRow { time, name, money: "—".to_owned(), tone: "bad", word, receipt }
            }
            Answer::Voided => {
                let word = ui.t("till.voided").to_owned();
                RecentRow { time, name: "—".to_owned(), money: "—".to_owned(), tone: "plain", word, receipt }
            }
        })
    }

    /// The masked name of whoever holds a card, or the masked card.
    fn card_name(&self, card: CardNumber) -> Result<String, UiError> {
        let holder = self.node().people.read().person_of(card);
        holder.map_or_else(|| Ok(show::masked_card(card)), |person| self.holder_name(person, card))
    }

    /// The masked name of a holder, or the masked card of a stranger.
    pub(in crate::console) fn holder_name(&self, person: PersonId, card: CardNumber) -> Result<String, UiError> {
        Ok(match self.person(person)? {
            Some(person) => show::masked_name(&person.name),
            None if card == CardNumber(0) => "—".to_owned(),
            None => show::masked_card(card),
        })
    }
}

/// What a sale took: a sum, or a meal that was only counted.
fn charged(ui: &Ui, sale: &PurchaseRecord) -> Result<String, FenError> {
    match sale.mode {
        Mode::Count => Ok(ui.t("till.one_meal").to_owned()),
        _ => total_of(sale).map(show::money),
    }
}

/// What goes back: a sum, or the meal that was only counted.
fn given_back(ui: &Ui, refund: &RefundRecord) -> Result<String, FenError> {
    if refund.back.is_empty() {
        return Ok(ui.t("till.one_meal").to_owned());
    }
    Fen::sum(refund.back.iter().map(|(_, part)| *part)).map(show::back)
}

pub(super) fn paid_by(ui: &Ui, paid: &[(Source, Fen)]) -> String {
    let name = |source: &Source| match source {
        Source::Wallet(wallet) => cards::wallet_name(ui, *wallet),
        Source::Guest => ui.t("wallet.guest").to_owned(),
        Source::Float | Source::Receivable => ui.t("wallet.other").to_owned(),
    };
    let parts: Vec<String> =
        paid.iter().map(|(source, part)| format!("{} {}", name(source), show::money(*part))).collect();
    parts.join(" + ")
}

/// `132 · ¥1,650.00`, with counted meals when there are any.
fn sums(ui: &Ui, tally: &Tally) -> String {
    let mut sums = format!("{} · {}", show::count(tally.sold.0), show::money(tally.takings()));
    let meals = tally.meals.saturating_sub(tally.meals_back);
    if meals > 0 {
        sums.push_str(&ui.t_args("till.meals", &[("n", &show::count(meals))]));
    }
    sums
}

/// The sums of the shift by mode, and what was given back and refused.
fn parts(ui: &Ui, tally: &Tally) -> Vec<Part> {
    let part =
        |name: &str, count: u64, sum: String| Part { name: ui.t(name).to_owned(), count: show::count(count), sum };
    let modes = ["mode.amount", "mode.fixed", "mode.portions", "mode.count"];
    let sold = modes.iter().filter_map(|mode| Some((*mode, tally.by_mode.get(mode)?)));
    let mut parts: Vec<Part> = sold
        .map(|(mode, (count, sum))| {
            part(mode, *count, if mode == "mode.count" { String::new() } else { show::money(*sum) })
        })
        .collect();
    if tally.back.0 > 0 {
        parts.push(part("slip.back", tally.back.0, show::back(tally.back.1)));
    }
    if tally.meals_back > 0 {
        parts.push(part("slip.meals_back", tally.meals_back, String::new()));
    }
    if tally.refused > 0 {
        parts.push(part("slip.refused", tally.refused, String::new()));
    }
    parts
}

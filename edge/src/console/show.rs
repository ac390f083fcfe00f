//! How pages say things: ages, amounts, masked names and numbers, reasons in the operator's language.

use super::App;
use yika_crdt::Fen;
use yika_crdt::entry::{BlockReason, Mode, OperatorRecord};
use yika_crdt::ids::{CardNumber, CategoryId, OperatorId, TerminalId};
use yika_crdt::keys;
use yika_crdt::person;
use yika_crdt::reason::Reason;
use yika_ui::{Lang, Ui};

/// `12 s ago`, in whole units.
pub(super) fn age(ui: &Ui, age_ms: u64) -> String {
    ui.t_args("show.ago", &[("t", &span(ui, age_ms))])
}

/// A length of time in its largest unit.
pub(super) fn span(ui: &Ui, span_ms: u64) -> String {
    let seconds = span_ms / 1000;
    let (key, n) = match seconds {
        0..120 => ("show.seconds", seconds),
        120..7_200 => ("show.minutes", seconds / 60),
        7_200..345_600 => ("show.hours", seconds / 3_600),
        _ => ("show.days", seconds / 86_400),
    };
    ui.t_args(key, &[("n", &n.to_string())])
}

/// `¥1,250.00`.
pub(super) fn money(amount: Fen) -> String {
    let plain = amount.to_string();
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain.as_str()), |rest| ("-", rest));
    let (yuan, cents) = digits.split_once('.').unwrap_or((digits, "00"));
    format!("{sign}¥{}.{cents}", grouped(yuan))
}

/// What was given back: `-¥7.00`; `¥0.00` of a counted meal.
pub(super) fn back(amount: Fen) -> String {
    if amount == Fen::ZERO { money(amount) } else { format!("-{}", money(amount)) }
}

/// `12.4 GB`, `830 MB`.
pub(super) fn bytes(bytes: u64) -> String {
    const MB: u64 = 1_000_000;
    match bytes / MB {
        0..1_000 => format!("{}.{} MB", bytes / MB, bytes % MB / (MB / 10)),
        _ => format!("{}.{} GB", bytes / (1_000 * MB), bytes % (1_000 * MB) / (100 * MB)),
    }
}

/// `12,846`.
pub(super) fn count(n: u64) -> String {
    grouped(&n.to_string())
}

fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A holder's name as a till shows it.
pub(super) fn masked_name(name: &str) -> String {
    match person::masked_name(name) {
        empty if empty.is_empty() => "—".to_owned(),
        name => name,
    }
}

/// The ends of a card number: `62••81`.
pub(super) fn masked_card(card: CardNumber) -> String {
    let digits = card.to_string();
    match (digits.get(..2), digits.len().checked_sub(2).and_then(|at| digits.get(at..))) {
        (Some(head), Some(tail)) if digits.len() > 4 => format!("{head}••{tail}"),
        _ => digits,
    }
}

/// Why a card was refused, for the holder.
pub(super) fn reason(ui: &Ui, reason: Reason) -> &'static str {
    let (zh, en) = reason.words();
    if ui.lang == Lang::Zh { zh } else { en }
}

/// Key of the words of a block's reason.
pub(super) fn block_reason(reason: BlockReason) -> &'static str {
    match reason {
        BlockReason::Lost => "block.lost",
        BlockReason::Frozen => "block.frozen",
        BlockReason::Cancelled => "block.cancelled",
        BlockReason::Left => "block.left",
    }
}

/// How the sum of a sale was found.
pub(super) fn mode(ui: &Ui, mode: &Mode) -> String {
    match mode {
        Mode::Amount(_) => ui.t("mode.amount").to_owned(),
        Mode::Fixed => ui.t("mode.fixed").to_owned(),
        Mode::Count => ui.t("mode.count").to_owned(),
        Mode::Portions { unit, portions } => {
            ui.t_args("mode.portions_of", &[("unit", &unit.to_string()), ("n", &portions.to_string())])
        }
    }
}

/// A price class by its name.
pub(super) fn category(ui: &Ui, category: CategoryId) -> String {
    ui.category(category.0)
}

impl App {
    /// An operator's name, or the number of one that this box does not know.
    pub(super) fn operator_name(&self, ui: &Ui, operator: OperatorId) -> String {
        let known = self.node().row::<OperatorRecord>(&keys::operator(operator));
        match known {
            Ok(Some(record)) => record.name,
            _ => ui.t_args("show.operator", &[("id", &operator.to_string())]),
        }
    }

    /// A terminal's name, or its number.
    pub(super) fn terminal_name(&self, terminal: TerminalId) -> String {
        let registry = self.node().registry();
        registry.terminals.get(&terminal).map_or_else(|| terminal.to_string(), |t| t.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_masked() {
        assert_eq!(masked_name("欧阳明月"), "欧**月");
        assert_eq!(masked_name("李"), "李*");
        assert_eq!(masked_name(" "), "—");
        assert_eq!(masked_card(CardNumber(62_004_881)), "62••81");
        assert_eq!(masked_card(CardNumber(7)), "7");
    }

    #[test]
    fn amounts_are_grouped() {
        assert_eq!(money(Fen(123_456_789)), "¥1,234,567.89");
        assert_eq!(money(Fen(-50)), "-¥0.50");
        assert_eq!(count(12_846), "12,846");
        assert_eq!(count(100), "100");
    }
}

//! What the box holds of one terminal's boot: for the day, for a shift, and number by number (POS-28).

use super::Terminals;
use super::gate::Caller;
use super::refusal::Refusal;
use yika_crdt::entry::Body;
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;
use yika_crdt::sold::{self, Known};
use yika_crdt::store::{Read, StoreError, decode_row};
use yika_crdt::{Fen, keys};
use yika_drivers::terminal::message::{Decision, KindTotal, TOTAL_LINES_MAX, TotalLine, Totals};

/// Most sequence numbers looked at for one answer; a till makes at most about 2,000 in a day.
const TOTAL_SCAN_MAX: u32 = 20_000;

impl Terminals {
    /// Totals from a sequence number on (a shift), or of the open business day.
    pub(super) fn totals(&self, caller: &Caller, boot: u32, from: Option<u32>) -> Result<Totals, Refusal> {
        let terminal = caller.record.terminal;
        let today = self.today();
        let read = |store: &dyn Read| collect(store, terminal, boot, from, today);
        Ok(self.node.look(read)?)
    }
}

fn collect(
    store: &dyn Read,
    terminal: TerminalId,
    boot: u32,
    from: Option<u32>,
    today: Day,
) -> Result<Totals, StoreError> {
    let open_day = store.get(keys::OPEN_DAY)?.map(|bytes| decode_row(keys::OPEN_DAY, &bytes)).transpose()?;
    let day = open_day.unwrap_or(today);
    let last_seq = sold::last_seq(store, terminal, boot)?;
    let from_seq = from.unwrap_or(1).max(1).max(last_seq.saturating_sub(TOTAL_SCAN_MAX - 1));
    let after = PurchaseId { terminal, boot, seq: from_seq - 1 };
    let known = sold::known_after(store, after, TOTAL_SCAN_MAX as usize)?;
    let mut totals = Totals { boot, last_seq, from_seq, ..Totals::default() };
    for known in known {
        if let Some((line, day_of)) = line_of(&known)
            && (from.is_some() || day_of.is_none_or(|of| of == day))
        {
            add(&mut totals, &known, &line);
            totals.lines.push(line);
        }
    }
    let surplus = totals.lines.len().saturating_sub(TOTAL_LINES_MAX);
    totals.lines.drain(..surplus);
    Ok(totals)
}

/// The line of an id and its business day; nothing for one whose entry is pruned away.
fn line_of(known: &Known) -> Option<(TotalLine, Option<Day>)> {
    let body = &known.entry.as_ref()?.body;
    let (decision, day) = match body {
        Body::Purchase(record) => (Decision::Approved, Some(record.day)),
        Body::Refused(record) => (Decision::Refused, Some(record.day)),
        Body::NotRefunded(record) if record.reason == Reason::Voided => (Decision::Voided, Some(record.day)),
        Body::NotRefunded(record) => (Decision::Refused, Some(record.day)),
        Body::Refund(record) => (Decision::Refunded, Some(record.day)),
        _ => (Decision::Voided, None),
    };
    let Fen(fen) = sold::amount_of(body);
    Some((TotalLine { seq: known.id.seq, decision, fen }, day))
}

fn add(totals: &mut Totals, known: &Known, line: &TotalLine) {
    let offline = matches!(known.entry.as_ref().map(|e| &e.body), Some(Body::Purchase(sale)) if sale.offline);
    let kind: &mut KindTotal = match line.decision {
        Decision::Approved if offline => &mut totals.offline,
        Decision::Approved => &mut totals.online,
        Decision::Refunded => &mut totals.refunds,
        Decision::Refused => {
            totals.refused = totals.refused.saturating_add(1);
            return;
        }
        Decision::Voided => return,
    };
    kind.count = kind.count.saturating_add(1);
    kind.fen = kind.fen.saturating_add(line.fen);
}

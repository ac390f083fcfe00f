//! The receipt of one sale of a shift, for a 58 mm printer by the browser's print: to hand out, or to print again.
//!
//! Read from the journal each time, with what was given back since. Leaves to others: the sums of a shift (`till::slip`).

use super::super::{App, RUN, operator_id, show};
use super::tally::total_of;
use super::view::paid_by;
use askama::Template;
use axum::extract::{Path, State};
use yika_crdt::entry::{Mode, PurchaseRecord};
use yika_crdt::ids::{PurchaseId, TerminalId};
use yika_crdt::sale::{Answer, answer_of};
use yika_crdt::sold::{entry_of, known_after};
use yika_crdt::store::{Read, StoreError};
use yika_crdt::{Fen, fen::FenError};
use yika_ui::{CurrentOperator, Page, Saved, Ui, UiError, View};

/// Answers looked through for what was given back, at once.
const ANSWERS_AT_ONCE: usize = 500;

#[derive(Template)]
#[template(path = "till/receipt.html")]
pub(in crate::console) struct Receipt {
    page: Page,
    id: String,
    till: String,
    cashier: String,
    time: String,
    holder: String,
    card: String,
    mode: String,
    price: String,
    adjustment: Option<String>,
    paid: String,
    total: String,
    /// Given back since: when and how much.
    back: Vec<(String, String)>,
    kept: Option<String>,
    balance: String,
    printed: String,
}

/// The receipt; for the cashier of the shift, and for administrators.
pub(in crate::console) async fn page(
    ui: Ui,
    me: CurrentOperator,
    State(app): State<App>,
    Path((terminal, boot, seq)): Path<(u32, u32, u32)>,
) -> Result<View<Receipt>, UiError> {
    let id = PurchaseId { terminal: TerminalId(terminal), boot, seq };
    let shift = app.shifts()?.into_iter().find(|s| s.terminal == id.terminal && s.boot == boot);
    let shift = shift.ok_or(UiError::NotFound)?;
    if shift.operator != operator_id(&me)? {
        me.require(RUN)?;
    }
    let found = app.look(|store| sale_and_back(store, id))?;
    let (at_ms, sale, back) = found.ok_or(UiError::NotFound)?;
    let fail = |e: FenError| UiError::internal(e, Saved::Nothing);
    let total = total_of(&sale).map_err(fail)?;
    let given = Fen::sum(back.iter().map(|(_, fen)| *fen)).map_err(fail)?;
    let counted = sale.mode == Mode::Count;
    let meal = || ui.t("till.one_meal").to_owned();
    let (now_ms, _) = app.node().time();
    Ok(View::new(Receipt {
        page: app.page(&ui, "receipt.title", "/till"),
        id: id.to_string(),
        till: app.terminal_name(id.terminal),
        cashier: app.operator_name(&ui, shift.operator),
        time: ui.time_text(at_ms),
        holder: app.holder_name(sale.person, sale.card)?,
        card: show::masked_card(sale.card),
        mode: show::mode(&ui, &sale.mode),
        price: if counted { meal() } else { show::money(sale.price) },
        adjustment: (sale.adjustment != Fen::ZERO && !counted).then(|| show::money(sale.adjustment)),
        paid: paid_by(&ui, &sale.paid),
        total: if counted { meal() } else { show::money(total) },
        back: back
            .iter()
            .map(|(at_ms, fen)| (ui.clock_text(*at_ms), if counted { meal() } else { show::back(*fen) }))
            .collect(),
        kept: (!back.is_empty() && !counted).then(|| total.sub(given).map(show::money)).transpose().map_err(fail)?,
        balance: show::money(sale.balance),
        printed: ui.time_text(now_ms),
    }))
}

/// A sale with its time, and what was given back for it since: when, how much.
type Sold = (i64, Box<PurchaseRecord>, Vec<(i64, Fen)>);

/// A sale of this shift, and what later ids of the shift gave back of it.
fn sale_and_back(store: &dyn Read, id: PurchaseId) -> Result<Option<Sold>, StoreError> {
    let Some(entry) = entry_of(store, id)? else { return Ok(None) };
    let Some(Answer::Approved(sale)) = answer_of(&entry.body) else { return Ok(None) };
    let mut back = Vec::new();
    let mut last = id;
    loop {
        let known = known_after(store, last, ANSWERS_AT_ONCE)?;
        let end = known.len() < ANSWERS_AT_ONCE;
        for known in known {
            last = known.id;
            let Some(entry) = known.entry else { continue };
            if let Some(Answer::Refunded(refund)) = answer_of(&entry.body)
                && refund.of == id
            {
                let sum = Fen::sum(refund.back.iter().map(|(_, part)| *part)).unwrap_or(Fen::ZERO);
                back.push((entry.stamp.hub_time_ms, sum));
            }
        }
        if end {
            return Ok(Some((entry.stamp.hub_time_ms, sale, back)));
        }
    }
}

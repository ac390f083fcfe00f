//! The purchase decision: who, what it costs, which limits hold, and who pays (design sections 4 and 5).
//!
//! Reads rows, writes nothing. Leaves to others: sales that a terminal decided alone (`fact`), journaling and answers
//! (`sale`), rows (`rows`), prices (`tariff`).

use super::rows::{Counters, counters_of, rights_of};
use super::{Now, PurchaseRequest, SaleError, calendar};
use crate::civil;
use crate::entry::*;
use crate::fen::Fen;
use crate::ids::*;
use crate::mesh::Mesh;
use crate::proof;
use crate::reason::Reason;
use crate::rights::RowState;
use crate::store::{Read, Tx};
use crate::tariff::sheet::{PeriodId, TariffSheet};
use crate::tariff::{self, Quote, Spent, Tap};
use std::sync::Arc;

/// What a request comes to.
pub(super) enum Decided {
    Sell(Box<PurchaseRecord>),
    Refuse(Reason),
    Short { row: Row, missing: Fen },
}

impl From<Reason> for Decided {
    fn from(reason: Reason) -> Self {
        Decided::Refuse(reason)
    }
}

/// Decides a request on line that has no answer yet.
pub(super) fn decide<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &Tx<'_, R>,
    request: &PurchaseRequest,
    now: &Now,
    day: Day,
) -> Result<Decided, SaleError> {
    let Some(terminal) = mesh.terminals.get(&request.id.terminal).filter(|t| may_sell(mesh, t)) else {
        return Ok(Reason::TerminalNotAllowed.into());
    };
    let Some(sheet) = mesh.tariff() else {
        return Ok(Reason::NoPrice.into());
    };
    let people = mesh.people.read();
    let (person, holder) = match people.usable_at(request.card, day, now.stamp.hub_time_ms) {
        Ok(known) => known,
        Err(reason) => return Ok(reason.into()),
    };
    let category = holder.category;
    let (offset, _) = calendar(mesh);
    let period = tariff::period_at(&sheet, civil::civil(now.stamp.hub_time_ms, offset).minute);
    let quote = match tariff::price(&sheet, category, terminal.outlet, period, request.mode) {
        Ok(quote) => quote,
        Err(reason) => return Ok(reason.into()),
    };
    let counters = counters_of(mesh, tx, person, day)?;
    let sale = Pricing { terminal, sheet: &sheet, person, category, period, quote, day };
    if let Err(reason) = within_limits(&sale, request.card, &counters, now) {
        return Ok(reason.into());
    }
    if has_lease(mesh, now)
        && let Some(decided) = over_strict_limit(tx, &sale, now)?
    {
        return Ok(decided);
    }
    pay(mesh, tx, request, now, &sale, &counters)
}

/// Everything known of a sale before the money.
pub(super) struct Pricing<'a> {
    pub(super) terminal: &'a TerminalRecord,
    pub(super) sheet: &'a Arc<TariffSheet>,
    pub(super) person: PersonId,
    pub(super) category: CategoryId,
    pub(super) period: Option<PeriodId>,
    pub(super) quote: Quote,
    pub(super) day: Day,
}

fn within_limits(sale: &Pricing<'_>, card: CardNumber, counters: &Counters, now: &Now) -> Result<(), Reason> {
    let (terminal, total) = (sale.terminal.terminal, sale.quote.total);
    tariff::repeat_tap(
        sale.sheet,
        counters.last.as_ref(),
        &Tap { card, terminal, total, at_ms: now.stamp.hub_time_ms },
    )?;
    let (meal_sum, meal_times) = sale.period.and_then(|p| counters.meals.get(&p).copied()).unwrap_or_default();
    let spent = Spent { meal_sum, day_sum: counters.day_sum, meal_times, day_times: counters.day_times };
    tariff::check_limits(sale.sheet, sale.category, &spent, total)
}

/// A strict limit is spent from a granted counter, wherever the holder eats.
fn over_strict_limit<R: Read + ?Sized>(
    tx: &Tx<'_, R>,
    sale: &Pricing<'_>,
    now: &Now,
) -> Result<Option<Decided>, SaleError> {
    let counter = tariff::strict_counter(sale.sheet, sale.category, sale.day);
    let Some((wallet, _)) = counter.filter(|_| !proof::sown("strict_counter_not_looked_at")) else {
        return Ok(None);
    };
    let row = Row { person: sale.person, wallet };
    let right = right_in(tx, row)?;
    let missing = sale.quote.total.sub(right)?;
    Ok(match missing.is_positive() {
        true if now.may_ask => Some(Decided::Short { row, missing }),
        true => Some(Reason::OverDayLimit.into()),
        false => None,
    })
}

/// What this box may spend in a row, never below zero.
pub(super) fn right_in<R: Read + ?Sized>(tx: &Tx<'_, R>, row: Row) -> Result<Fen, SaleError> {
    let rights = rights_of(tx, row)?;
    let right = rights.rows.get(&row.wallet).map_or(Ok(Fen::ZERO), RowState::right)?;
    Ok(right.max(Fen::ZERO))
}

fn pay<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &Tx<'_, R>,
    request: &PurchaseRequest,
    now: &Now,
    sale: &Pricing<'_>,
    counters: &Counters,
) -> Result<Decided, SaleError> {
    let main = Row { person: sale.person, wallet: WalletKey::Main };
    let rights = rights_of(tx, main)?;
    let total = if request.mode == Mode::Count { Fen::ZERO } else { sale.quote.total };
    let balance = rights.balance(sale.day)?;
    let leased = has_lease(mesh, now);
    let mut wallets = rights.wallets()?;
    if proof::sown("right_not_looked_at") {
        wallets = vec![(WalletKey::Main, total, None)];
    }
    if leased || total == Fen::ZERO {
        match tariff::split(&wallets, total, sale.day) {
            Ok(parts) => {
                let paid = parts.into_iter().map(|(wallet, part)| (Source::Wallet(wallet), part)).collect();
                return Ok(sold(request, sale, paid, balance.sub(total)?));
            }
            Err(short) if now.may_ask => {
                return Ok(Decided::Short { row: main, missing: short.missing });
            }
            Err(_) => {}
        }
    }
    if guest_pays(tx, sale, counters, total)? {
        proof::hit("guest_pool_paid");
        return Ok(sold(request, sale, vec![(Source::Guest, total)], balance));
    }
    Ok(if leased { Reason::NotEnough } else { Reason::NoLease }.into())
}

fn guest_pays<R: Read + ?Sized>(
    tx: &Tx<'_, R>,
    sale: &Pricing<'_>,
    counters: &Counters,
    total: Fen,
) -> Result<bool, SaleError> {
    let rule = &sale.sheet.guest;
    let pool = right_in(tx, Row { person: PersonId(0), wallet: WalletKey::Guest })?;
    let is_there = total <= pool || proof::sown("guest_pool_without_end");
    Ok(total <= rule.per_purchase && counters.guest_sum.add(total)? <= rule.per_card_day && is_there)
}

pub(super) fn sold(request: &PurchaseRequest, sale: &Pricing<'_>, paid: Vec<(Source, Fen)>, balance: Fen) -> Decided {
    let paid = paid.into_iter().filter(|(_, part)| part.is_positive()).collect();
    Decided::Sell(Box::new(PurchaseRecord {
        id: request.id,
        card: request.card,
        person: sale.person,
        category: sale.category,
        outlet: sale.terminal.outlet,
        merchant: sale.terminal.merchant,
        mode: request.mode,
        tariff: sale.sheet.version,
        period: sale.period,
        price: sale.quote.price,
        adjustment: sale.quote.adjustment,
        paid,
        balance,
        offline: request.offline,
        terminal_time_ms: request.terminal_time_ms,
        day: sale.day,
    }))
}

/// Whether a terminal sells at this box.
pub fn may_sell(mesh: &Mesh, terminal: &TerminalRecord) -> bool {
    terminal.state == TerminalState::Deployed && is_till_here(mesh, terminal)
}

/// Whether a terminal is a till of this campus, in use or not.
pub(super) fn is_till_here(mesh: &Mesh, terminal: &TerminalRecord) -> bool {
    terminal.kind == TerminalKind::Till && mesh.place.campus == Some(terminal.campus)
}

/// Whether this life may spend: it holds a lease that is not over, judged by a clock that can be trusted.
pub fn has_lease(mesh: &Mesh, now: &Now) -> bool {
    let is_over =
        |lease: &LeaseRecord| now.stamp.hub_time_ms > lease.until_ms && !proof::sown("spent_after_the_lease_has_ended");
    !mesh.is_fenced(mesh.me) && mesh.lease.is_some_and(|lease| now.trusted && !is_over(&lease))
}

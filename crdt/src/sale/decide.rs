//! The purchase decision: who, what it costs, which limits hold, and who pays (design sections 4 and 5).
//!
//! Reads rows, writes nothing. Leaves to others: journaling and answers (`sale`), rows (`rows`), prices (`tariff`).

use super::rows::{Counters, counters_of, rights_of};
use super::{Now, PurchaseRequest, SaleError, calendar};
use crate::civil;
use crate::entry::*;
use crate::fen::Fen;
use crate::ids::*;
use crate::mesh::Mesh;
use crate::people::Holder;
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

/// Decides a request that has no answer yet.
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
        Err(reason) if request.offline => {
            return fact_of_stranger(terminal, &sheet, request, day, reason);
        }
        Err(reason) => return Ok(reason.into()),
    };
    let (offset, _) = calendar(mesh);
    let period = tariff::period_at(&sheet, civil::civil(now.stamp.hub_time_ms, offset).minute);
    let quote = match tariff::price(&sheet, holder.category, terminal.outlet, period, request.mode) {
        Ok(quote) => quote,
        Err(reason) => return Ok(reason.into()),
    };
    let counters = counters_of(tx, person, day)?;
    let sale = Pricing { terminal, sheet: &sheet, person, holder, period, quote, day };
    if !request.offline
        && let Err(reason) = within_limits(&sale, request.card, &counters, now)
    {
        return Ok(reason.into());
    }
    if !request.offline
        && has_lease(mesh, now)
        && let Some(decided) = over_strict_limit(tx, &sale, now)?
    {
        return Ok(decided);
    }
    pay(mesh, tx, request, now, &sale, &counters)
}

/// Everything known of a sale before the money.
struct Pricing<'a> {
    terminal: &'a TerminalRecord,
    sheet: &'a Arc<TariffSheet>,
    person: PersonId,
    holder: &'a Holder,
    period: Option<PeriodId>,
    quote: Quote,
    day: Day,
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
    tariff::check_limits(sale.sheet, sale.holder.category, &spent, total)
}

/// A strict limit is spent from a granted counter, wherever the holder eats.
fn over_strict_limit<R: Read + ?Sized>(
    tx: &Tx<'_, R>,
    sale: &Pricing<'_>,
    now: &Now,
) -> Result<Option<Decided>, SaleError> {
    let Some((wallet, _)) = tariff::strict_counter(sale.sheet, sale.holder.category, sale.day) else {
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
fn right_in<R: Read + ?Sized>(tx: &Tx<'_, R>, row: Row) -> Result<Fen, SaleError> {
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
    let wallets = rights.wallets()?;
    if leased || total == Fen::ZERO {
        match tariff::split(&wallets, total, sale.day) {
            Ok(parts) => {
                let paid = parts.into_iter().map(|(wallet, part)| (Source::Wallet(wallet), part)).collect();
                return Ok(sold(request, sale, paid, balance.sub(total)?));
            }
            Err(short) if now.may_ask && !request.offline => {
                return Ok(Decided::Short { row: main, missing: short.missing });
            }
            Err(_) => {}
        }
    }
    if request.offline {
        let wallets: &[_] = if leased { &wallets } else { &[] };
        return fact(tx, request, sale, wallets, total, balance);
    }
    if guest_pays(tx, sale, counters, total)? {
        return Ok(sold(request, sale, vec![(Source::Guest, total)], balance));
    }
    Ok(if leased { Reason::NotEnough } else { Reason::NoLease }.into())
}

/// A record that is a fact: charged to rights, then the terminal's float, then what the holder owes.
fn fact<R: Read + ?Sized>(
    tx: &Tx<'_, R>,
    request: &PurchaseRequest,
    sale: &Pricing<'_>,
    wallets: &[(WalletKey, Fen, Option<Day>)],
    total: Fen,
    balance: Fen,
) -> Result<Decided, SaleError> {
    let have = Fen::sum(wallets.iter().filter(|w| w.2.is_none_or(|l| l >= sale.day)).map(|w| w.1.max(Fen::ZERO)))?;
    let from_rights = have.min(total);
    let parts = tariff::split(wallets, from_rights, sale.day).unwrap_or_default();
    let mut paid: Vec<_> = parts.into_iter().map(|(wallet, part)| (Source::Wallet(wallet), part)).collect();
    let mut rest = total.sub(from_rights)?;
    let float = Row { person: PersonId(0), wallet: WalletKey::Float(request.id.terminal) };
    let from_float = right_in(tx, float)?.min(rest);
    if from_float.is_positive() {
        paid.push((Source::Float, from_float));
        rest = rest.sub(from_float)?;
    }
    if rest.is_positive() {
        paid.push((Source::Receivable, rest));
    }
    Ok(sold(request, sale, paid, balance.sub(from_rights)?))
}

/// A fact about a card this box cannot use: the meal was eaten, so it is recorded and owed.
fn fact_of_stranger(
    terminal: &TerminalRecord,
    sheet: &TariffSheet,
    request: &PurchaseRequest,
    day: Day,
    reason: Reason,
) -> Result<Decided, SaleError> {
    let (Mode::Amount(total), true) = (request.mode, reason != Reason::TerminalNotAllowed) else {
        return Ok(reason.into());
    };
    if !total.is_positive() || total > Fen(tariff::PURCHASE_FEN_MAX) {
        return Ok(Reason::BadAmount.into());
    }
    Ok(Decided::Sell(Box::new(PurchaseRecord {
        id: request.id,
        card: request.card,
        person: PersonId(0),
        category: CategoryId(0),
        outlet: terminal.outlet,
        merchant: terminal.merchant,
        mode: request.mode,
        tariff: sheet.version,
        period: None,
        price: total,
        adjustment: Fen::ZERO,
        paid: vec![(Source::Receivable, total)],
        balance: Fen::ZERO,
        offline: true,
        terminal_time_ms: request.terminal_time_ms,
        day,
    })))
}

fn guest_pays<R: Read + ?Sized>(
    tx: &Tx<'_, R>,
    sale: &Pricing<'_>,
    counters: &Counters,
    total: Fen,
) -> Result<bool, SaleError> {
    let rule = &sale.sheet.guest;
    let pool = right_in(tx, Row { person: PersonId(0), wallet: WalletKey::Guest })?;
    Ok(total <= rule.per_purchase && counters.guest_sum.add(total)? <= rule.per_card_day && total <= pool)
}

fn sold(request: &PurchaseRequest, sale: &Pricing<'_>, paid: Vec<(Source, Fen)>, balance: Fen) -> Decided {
    let paid = paid.into_iter().filter(|(_, part)| part.is_positive()).collect();
    Decided::Sell(Box::new(PurchaseRecord {
        id: request.id,
        card: request.card,
        person: sale.person,
        category: sale.holder.category,
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
    terminal.kind == TerminalKind::Till
        && terminal.state == TerminalState::Deployed
        && mesh.place.campus == Some(terminal.campus)
}

/// Whether this life may spend: it holds a lease that is not over, judged by a clock that can be trusted.
pub fn has_lease(mesh: &Mesh, now: &Now) -> bool {
    !mesh.is_fenced(mesh.me) && mesh.lease.is_some_and(|lease| now.trusted && now.stamp.hub_time_ms <= lease.until_ms)
}

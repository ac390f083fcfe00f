//! Sales that a terminal decided alone and tells afterwards: the meal is eaten, so they are facts (design section 4).
//!
//! Priced by the tariff that the terminal showed and the moment at which they happened, charged to rights, then the
//! terminal's float, then what the holder owes; refused only where no sum follows at all. What is odd about one is alarmed,
//! so that a person looks. Leaves to others: prices (`tariff`), journaling (`sale`).

use super::decide::{Decided, Pricing, has_lease, is_till_here, may_sell, right_in, sold};
use super::rows::rights_of;
use super::{Now, PurchaseRequest, SaleError, calendar};
use crate::channel::Channel;
use crate::civil;
use crate::entry::*;
use crate::fen::Fen;
use crate::ids::*;
use crate::keys;
use crate::mesh::{Event, Mesh};
use crate::people::{Holder, People};
use crate::reason::Reason;
use crate::store::{Read, Tx};
use crate::tariff::{self, Quote};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Oldest time of a terminal that is believed: as long as a journal is kept. A clock that was never set is older.
pub const FACT_AGE_MS_MAX: i64 = super::prune::KEEP_DAYS as i64 * civil::DAY_MS;

/// What is odd about such a sale.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) enum Remark {
    /// No sum follows from it: nothing was charged.
    Refused(Reason),
    /// The card is known and cannot be used.
    Unusable(Reason),
    /// The terminal is not in use.
    NotInUse,
    /// The holder may not eat there.
    Barred,
    /// No meal with a price was open.
    OtherMeal,
    /// The tariff has no price for it.
    Unpriced,
    /// The tariff that its terminal showed is not held here.
    UnknownTariff,
}

impl Remark {
    fn words(self) -> String {
        match self {
            Remark::Refused(reason) => format!("it is refused ({}) and nothing is charged", reason.words().1),
            Remark::Unusable(reason) => format!("its card cannot be used ({}); its holder pays", reason.words().1),
            Remark::NotInUse => "the terminal is not in use".into(),
            Remark::Barred => "its holder may not buy there".into(),
            Remark::OtherMeal => "no meal with a price was open; it is of the one before".into(),
            Remark::UnknownTariff => {
                "the tariff that its terminal showed is not known here; the newest is taken".into()
            }
            Remark::Unpriced => "the tariff has no price for it; it is charged as keyed, a meal is only counted".into(),
        }
    }
}

/// When a sale happened: what its terminal says where that can be believed, else when it was told.
pub(super) fn happened_ms(terminal_time_ms: i64, told_ms: i64) -> i64 {
    match told_ms.checked_sub(terminal_time_ms) {
        Some(age_ms) if (0..=FACT_AGE_MS_MAX).contains(&age_ms) => terminal_time_ms,
        _ => told_ms,
    }
}

/// Decides such a sale, and gives what is odd about it.
pub(super) fn decide<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &Tx<'_, R>,
    request: &PurchaseRequest,
    now: &Now,
    day: Day,
) -> Result<(Decided, Vec<Remark>), SaleError> {
    let refuse = |reason| Ok((Decided::Refuse(reason), vec![Remark::Refused(reason)]));
    let Some(terminal) = mesh.terminals.get(&request.id.terminal).filter(|till| is_till_here(mesh, till)) else {
        return refuse(Reason::TerminalNotAllowed);
    };
    let Some(newest) = mesh.tariff() else {
        return refuse(Reason::NoPrice);
    };
    let shown = request.tariff.map(|version| mesh.tariff_of(tx, version)).transpose()?.flatten();
    let is_unknown = request.tariff.is_some() && shown.is_none();
    let sheet = shown.unwrap_or(newest);
    let (offset, cut) = calendar(mesh);
    let at_ms = happened_ms(request.terminal_time_ms, now.stamp.hub_time_ms);
    let people = mesh.people.read();
    let (known, unusable) = who(&people, request.card, civil::business_day(at_ms, offset, cut), at_ms);
    let category = known.map(|(_, holder)| holder.category);
    let (outlet, mode, minute) = (terminal.outlet, request.mode, civil::civil(at_ms, offset).minute);
    let period = tariff::period_of_fact(&sheet, category, outlet, minute, mode);
    let quote = match tariff::price_of_fact(&sheet, category, outlet, period, mode) {
        Ok(quote) => quote,
        Err(reason) => return refuse(reason),
    };
    let mut remarks: Vec<_> = unusable.filter(|_| known.is_some()).map(Remark::Unusable).into_iter().collect();
    remarks.extend((!may_sell(mesh, terminal)).then_some(Remark::NotInUse));
    remarks.extend(is_unknown.then_some(Remark::UnknownTariff));
    remarks.extend((period != tariff::period_at(&sheet, minute)).then_some(Remark::OtherMeal));
    let by_rule = category.map_or(Ok(quote), |category| tariff::price(&sheet, category, outlet, period, mode));
    remarks.extend(match by_rule {
        Ok(_) => None,
        Err(Reason::NotHere) => Some(Remark::Barred),
        Err(_) => Some(Remark::Unpriced),
    });
    let person = known.map_or(PersonId(0), |(person, _)| person);
    let category = category.unwrap_or(CategoryId(0));
    let sale = Pricing { terminal, sheet: &sheet, person, category, period, quote, day };
    Ok((charge(mesh, tx, request, now, &sale)?, remarks))
}

/// Whose card it is, usable or not, and why it is not.
fn who(people: &People, card: CardNumber, day: Day, at_ms: i64) -> (Option<(PersonId, &Holder)>, Option<Reason>) {
    match people.usable_at(card, day, at_ms) {
        Ok(known) => (Some(known), None),
        Err(reason) => (people.known(card), Some(reason)),
    }
}

/// Charges it to rights, then the terminal's float, then what the holder owes; a stranger's is owed by nobody known.
fn charge<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &Tx<'_, R>,
    request: &PurchaseRequest,
    now: &Now,
    sale: &Pricing<'_>,
) -> Result<Decided, SaleError> {
    let Quote { total, .. } = sale.quote;
    if sale.person == PersonId(0) {
        return Ok(sold(request, sale, vec![(Source::Receivable, total)], Fen::ZERO));
    }
    let rights = rights_of(tx, Row { person: sale.person, wallet: WalletKey::Main })?;
    let wallets = if has_lease(mesh, now) { rights.wallets()? } else { Vec::new() };
    let have = Fen::sum(wallets.iter().filter(|w| w.2.is_none_or(|l| l >= sale.day)).map(|w| w.1.max(Fen::ZERO)))?;
    let from_rights = have.min(total);
    let parts = tariff::split(&wallets, from_rights, sale.day).unwrap_or_default();
    let mut paid: Vec<_> = parts.into_iter().map(|(wallet, part)| (Source::Wallet(wallet), part)).collect();
    let rest = total.sub(from_rights)?;
    let float = Row { person: PersonId(0), wallet: WalletKey::Float(request.id.terminal) };
    let from_float = right_in(tx, float)?.min(rest);
    paid.push((Source::Float, from_float));
    paid.push((Source::Receivable, rest.sub(from_float)?));
    Ok(sold(request, sale, paid, rights.balance(sale.day)?.sub(from_rights)?))
}

/// Alarms what is odd about a sale: the first of a kind of a terminal and day, because a batch has many alike.
pub(super) fn tell<R: Read + ?Sized>(
    mesh: &mut Mesh,
    tx: &mut Tx<'_, R>,
    (id, day): (PurchaseId, Day),
    remarks: Vec<Remark>,
    now: &Now,
    events: &mut Vec<Event>,
) -> Result<(), SaleError> {
    let key = keys::facts_told(id.terminal);
    let told = tx.get::<(Day, BTreeSet<Remark>)>(&key)?.filter(|told| told.0 == day);
    let (_, mut told) = told.unwrap_or((day, BTreeSet::new()));
    let fresh: Vec<String> = remarks.into_iter().filter(|remark| told.insert(*remark)).map(Remark::words).collect();
    if fresh.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "{id} was decided by its terminal alone: {}; others of this terminal and day are in the list of transactions",
        fresh.join("; ")
    );
    let alarm = Body::Alarm(AlarmRecord { kind: "fact".into(), detail });
    mesh.append(tx, Channel::Journal, &Entry { stamp: now.stamp, body: alarm }, events)?;
    tx.put(key, &(day, told));
    Ok(())
}

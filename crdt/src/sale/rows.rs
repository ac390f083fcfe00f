//! The rows a sale moves at this box: rights, pools, strict counters, and what a person bought on the open day.
//!
//! Leaves to others: whether the sale may be made (`decide`), the arithmetic (`rights`).

use super::fact::happened_ms;
use super::{SaleError, calendar, recount};
use crate::civil;
use crate::entry::*;
use crate::fen::{Fen, FenError};
use crate::ids::*;
use crate::keys;
use crate::mesh::Mesh;
use crate::rights::{PersonRights, RightsError, RowState};
use crate::store::{Read, StoreError, Tx};
use crate::tariff::sheet::PeriodId;
use crate::tariff::{self, Tap};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Days that counters of strict limits are kept after their day.
pub(super) const COUNTER_DAYS: i32 = 7;

/// What a person has bought on one business day, as far as this box knows.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    pub(super) day: Day,
    pub(super) day_sum: Fen,
    pub(super) day_times: u32,
    pub(super) meals: BTreeMap<PeriodId, (Fen, u32)>,
    pub(super) guest_sum: Fen,
    pub(super) last: Option<Tap>,
}

/// Where a row is kept: a person's rows together, each pool of the box by itself.
fn key_of(row: Row) -> Vec<u8> {
    if row.person == PersonId(0) { keys::pool(row.wallet) } else { keys::rights(row.person) }
}

/// The rights kept together with a row at this box: all of a person's, or one pool.
pub fn rights_of<R: Read + ?Sized>(tx: &Tx<'_, R>, row: Row) -> Result<PersonRights, StoreError> {
    Ok(tx.get(&key_of(row))?.unwrap_or_default())
}

/// Writes them back.
pub fn put_rights<R: Read + ?Sized>(tx: &mut Tx<'_, R>, row: Row, rights: &PersonRights) {
    tx.put(key_of(row), rights);
}

/// Merges what the hub granted this box, or a cheque that the journal has taken.
pub fn take_grant<R: Read + ?Sized>(
    tx: &mut Tx<'_, R>,
    giver: Writer,
    grant: &GrantRecord,
    today: Day,
) -> Result<(), SaleError> {
    let mut rights = rights_of(tx, grant.row)?;
    rights.forget_before(Day(today.0.saturating_sub(COUNTER_DAYS)));
    let row = rights.row(grant.row.wallet)?;
    row.merge_granted_in(giver, grant.total)?;
    row.last_day = row.last_day.max(grant.last_day);
    if giver.node.is_hub()
        && let Some(statement) = &grant.basis
    {
        row.hear(statement);
    }
    put_rights(tx, grant.row, &rights);
    Ok(())
}

/// The row that a source of a sale is charged to; `None` for what the holder owes.
pub(crate) fn row_of(person: PersonId, terminal: TerminalId, source: Source) -> Option<Row> {
    let pool = |wallet| Row { person: PersonId(0), wallet };
    match source {
        Source::Wallet(wallet) => Some(Row { person, wallet }),
        Source::Guest => Some(pool(WalletKey::Guest)),
        Source::Float => Some(pool(WalletKey::Float(terminal))),
        Source::Receivable => None,
    }
}

/// Charges this box's rights with a sale of its own.
pub(super) fn charge<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    sale: &PurchaseRecord,
) -> Result<(), SaleError> {
    // Decided against the rights, or taken back from a peer: counted whether or not the grant is here again.
    each_row(tx, sale.person, sale.id.terminal, &sale.paid, RowState::count)?;
    let total = Fen::sum(sale.paid.iter().map(|(_, part)| *part))?;
    count_strictly(mesh, tx, sale, |row| row.count(total))
}

/// Puts a sale's money back into the rows it came from.
pub(super) fn give_back<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    refund: &RefundRecord,
    sale: &PurchaseRecord,
) -> Result<(), SaleError> {
    each_row(tx, refund.person, refund.of.terminal, &refund.back, RowState::give_back)?;
    let total = Fen::sum(refund.back.iter().map(|(_, part)| *part))?;
    count_strictly(mesh, tx, sale, |row| row.give_back(total))
}

fn each_row<R: Read + ?Sized>(
    tx: &mut Tx<'_, R>,
    person: PersonId,
    terminal: TerminalId,
    parts: &[(Source, Fen)],
    act: impl Fn(&mut RowState, Fen) -> Result<(), RightsError>,
) -> Result<(), SaleError> {
    for (source, part) in parts {
        let Some(at) = row_of(person, terminal, *source) else { continue };
        let mut rights = rights_of(tx, at)?;
        act(rights.row(at.wallet)?, *part)?;
        put_rights(tx, at, &rights);
    }
    Ok(())
}

/// A strict limit is a granted counter beside the money: the sale moves it too.
fn count_strictly<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    sale: &PurchaseRecord,
    act: impl Fn(&mut RowState) -> Result<(), RightsError>,
) -> Result<(), SaleError> {
    let Some(sheet) = mesh.tariff_of(tx, sale.tariff)? else { return Ok(()) };
    let counter = tariff::strict_counter(&sheet, sale.category, sale.day);
    let Some((wallet, _)) = counter.filter(|_| sale.person != PersonId(0)) else { return Ok(()) };
    let at = Row { person: sale.person, wallet };
    let mut rights = rights_of(tx, at)?;
    rights.forget_before(Day(sale.day.0.saturating_sub(COUNTER_DAYS)));
    let row = match rights.row(wallet) {
        Err(RightsError::TooMany(_)) => return Ok(()), // a fact is never refused: the hub counts it
        row => row?,
    };
    act(row)?;
    put_rights(tx, at, &rights);
    Ok(())
}

/// What a person bought on a day. While no day is open, because nobody has confirmed the clock, the journals say it.
pub(super) fn counters_of<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &Tx<'_, R>,
    person: PersonId,
    day: Day,
) -> Result<Counters, StoreError> {
    if tx.get::<Day>(keys::OPEN_DAY)?.is_none() {
        return recount::read(mesh, tx, person, day);
    }
    let days = tx.get::<Vec<Counters>>(&keys::counters(person))?.unwrap_or_default();
    let counters = days.into_iter().find(|counters| counters.day == day);
    Ok(counters.unwrap_or(Counters { day, ..Counters::default() }))
}

impl Counters {
    /// Adds a sale.
    pub(super) fn add(&mut self, sale: &PurchaseRecord, at_ms: i64) -> Result<(), FenError> {
        let total = sale.price.add(sale.adjustment)?;
        self.day_sum = self.day_sum.add(total)?;
        self.day_times = self.day_times.saturating_add(1);
        if let Some(period) = sale.period {
            let (sum, times) = self.meals.entry(period).or_default();
            *sum = sum.add(total)?;
            *times = times.saturating_add(1);
        }
        let guest = sale.paid.iter().filter(|(source, _)| *source == Source::Guest).map(|(_, part)| *part);
        self.guest_sum = self.guest_sum.add(Fen::sum(guest)?)?;
        let tap = Tap { card: sale.card, terminal: sale.id.terminal, total, at_ms: eaten_ms(sale, at_ms) };
        // A late fact is not the last tap; a clock that was set back makes an earlier one the last.
        if !sale.offline || self.last.is_none_or(|last| last.at_ms <= tap.at_ms) {
            self.last = Some(tap);
        }
        Ok(())
    }

    /// A refund frees the sums again, and the number of purchases when nothing of the sale is left.
    pub(super) fn take_off(
        &mut self,
        sale: &PurchaseRecord,
        back: &[(Source, Fen)],
        is_whole: bool,
    ) -> Result<(), FenError> {
        let back_sum = Fen::sum(back.iter().map(|(_, part)| *part))?;
        let less = |sum: Fen| sum.sub(back_sum).map(|sum| sum.max(Fen::ZERO));
        let fewer = |times: u32| times.saturating_sub(u32::from(is_whole));
        self.day_sum = less(self.day_sum)?;
        self.day_times = fewer(self.day_times);
        if let Some((sum, times)) = sale.period.and_then(|period| self.meals.get_mut(&period)) {
            *sum = less(*sum)?;
            *times = fewer(*times);
        }
        let guest = back.iter().filter(|(source, _)| *source == Source::Guest).map(|(_, part)| *part);
        self.guest_sum = self.guest_sum.sub(Fen::sum(guest)?)?.max(Fen::ZERO);
        self.last = None;
        Ok(())
    }
}

/// A sale as it stands in a journal.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) sale: &'a PurchaseRecord,
    pub(super) at_ms: i64,
    pub(super) ours: bool,
}

impl Written<'_> {
    /// A fact of a day before the one that it is booked on.
    pub(super) fn is_late(&self, mesh: &Mesh) -> bool {
        let (offset, cut) = calendar(mesh);
        let eaten_ms = eaten_ms(self.sale, self.at_ms);
        self.sale.offline && civil::business_day(eaten_ms, offset, cut) < self.sale.day
    }
}

/// Counts a sale on the day on which it was eaten.
pub(super) fn count<R: Read + ?Sized>(mesh: &Mesh, tx: &mut Tx<'_, R>, written: Written<'_>) -> Result<(), SaleError> {
    change(mesh, tx, written, |counters| counters.add(written.sale, written.at_ms))
}

/// Counts a refund off again.
pub(super) fn uncount<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    written: Written<'_>,
    back: &[(Source, Fen)],
    is_whole: bool,
) -> Result<(), SaleError> {
    change(mesh, tx, written, |counters| counters.take_off(written.sale, back, is_whole))
}

/// Changes the counters of a sale's day. Kept are the open day of this box and the one after it, which a sibling may have
/// opened already; what a sibling says of any other day counts for nothing, and displaces nothing. While no day is open
/// nothing is kept.
fn change<R: Read + ?Sized>(
    mesh: &Mesh,
    tx: &mut Tx<'_, R>,
    written: Written<'_>,
    act: impl FnOnce(&mut Counters) -> Result<(), FenError>,
) -> Result<(), SaleError> {
    let Written { sale, ours, .. } = written;
    let Some(open) = tx.get::<Day>(keys::OPEN_DAY)? else { return Ok(()) };
    let first = if ours { open.max(sale.day) } else { open };
    let counted = first..=Day(first.0.saturating_add(1));
    if written.is_late(mesh) || !counted.contains(&sale.day) {
        return Ok(());
    }
    let key = keys::counters(sale.person);
    let mut days = tx.get::<Vec<Counters>>(&key)?.unwrap_or_default();
    days.retain(|counters| counted.contains(&counters.day));
    let mut counters = match days.iter().position(|counters| counters.day == sale.day) {
        Some(at) => days.swap_remove(at),
        None => Counters { day: sale.day, ..Counters::default() },
    };
    act(&mut counters)?;
    days.push(counters);
    tx.put(key, &days);
    Ok(())
}

/// When a sale was eaten.
fn eaten_ms(sale: &PurchaseRecord, at_ms: i64) -> i64 {
    if sale.offline { happened_ms(sale.terminal_time_ms, at_ms) } else { at_ms }
}

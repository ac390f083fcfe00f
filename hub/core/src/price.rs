//! Computing the price of every sale again, from the tariff that its record names (design section 5).
//!
//! What was charged stays charged: the holder has eaten, and only an operator decides what follows. Leaves to others:
//! prices (`yika_crdt::tariff`), pages.

use super::journal::Place;
use super::{CoreError, Hub, Turn, named};
use serde::{Deserialize, Serialize};
use yika_crdt::Fen;
use yika_crdt::entry::PurchaseRecord;
use yika_crdt::fen::FenError;
use yika_crdt::ids::*;
use yika_crdt::store::{Read, StoreError, decode_row};
use yika_crdt::tariff;
use yika_crdt::tariff::sheet::TariffSheet;

/// Sales whose price is in doubt, ever.
const DOUBTS: &[u8] = b"!price doubts";

/// Why a sale's price is in doubt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum PriceDoubt {
    /// Headquarters has no tariff of the version that it names.
    UnknownTariff,
    /// By that tariff it could not be sold.
    NotForSale,
    /// By that tariff it costs so much, or comes to it otherwise.
    Due(Fen),
}

impl PriceDoubt {
    /// Name in storage and of its alarm.
    pub fn name(self) -> &'static str {
        match self {
            PriceDoubt::UnknownTariff => "tariff_unknown",
            PriceDoubt::NotForSale | PriceDoubt::Due(_) => "price",
        }
    }
}

/// What is doubtful about a sale, given the tariff that it names.
fn doubt(sheet: Option<&TariffSheet>, sale: &PurchaseRecord) -> Result<Option<PriceDoubt>, FenError> {
    let Some(sheet) = sheet else { return Ok(Some(PriceDoubt::UnknownTariff)) };
    let charged = Fen::sum(sale.paid.iter().map(|(_, part)| *part))?;
    // What a terminal decided alone is priced by the rule for facts; so is a card that nobody knows, which has no category.
    let category = Some(sale.category).filter(|_| sale.person != PersonId(0));
    let due = match category.filter(|_| !sale.offline) {
        Some(category) => tariff::price(sheet, category, sale.outlet, sale.period, sale.mode),
        None => tariff::price_of_fact(sheet, category, sale.outlet, sale.period, sale.mode),
    };
    let due = due.map(|quote| (quote.price, quote.adjustment, quote.total));
    Ok(match due {
        Err(_) => Some(PriceDoubt::NotForSale),
        Ok(due) if due == (sale.price, sale.adjustment, charged) => None,
        Ok((_, _, total)) => Some(PriceDoubt::Due(total)),
    })
}

impl Hub {
    /// Checks the price of a sale; the first doubt of a kind about a box and day is alarmed, each is counted and marked.
    pub(super) fn doubt_price<R: Read + ?Sized>(
        &self,
        turn: &mut Turn<'_, '_, R>,
        place: Place,
        sale: &PurchaseRecord,
    ) -> Result<Option<PriceDoubt>, CoreError> {
        let sheet = self.mesh.tariff_of(turn.tx, sale.tariff)?;
        let Some(doubt) = doubt(sheet.as_deref(), sale)? else { return Ok(None) };
        let count: u64 = turn.tx.get(DOUBTS)?.unwrap_or_default();
        turn.tx.put(DOUBTS.to_vec(), &count.saturating_add(1));
        let charged = Fen::sum(sale.paid.iter().map(|(_, part)| *part))?;
        let by = format!("{} of {}: {charged} yuan charged; by tariff {}", sale.id, sale.day, sale.tariff);
        let detail = match doubt {
            PriceDoubt::UnknownTariff => format!("{by}, which headquarters does not have"),
            PriceDoubt::NotForSale => format!("{by} it is not sold"),
            PriceDoubt::Due(total) => format!("{by} it is {total}"),
        };
        let more = "it is posted as charged; others of this box and day are marked in the list of transactions";
        self.alarm_once(turn, place, sale.day, doubt.name(), format!("{detail}; {more}"))?;
        Ok(Some(doubt))
    }

    /// Alarms the first of a kind about a box and day.
    pub(super) fn alarm_once<R: Read + ?Sized>(
        &self,
        turn: &mut Turn<'_, '_, R>,
        place: Place,
        day: Day,
        word: &str,
        detail: String,
    ) -> Result<(), StoreError> {
        let key = named(b"!told", &(place.feed.writer, word));
        if turn.tx.get::<Day>(&key)? != Some(day) {
            turn.tx.put(key, &day);
            Hub::alarm(turn, place, word, detail);
        }
        Ok(())
    }
}

/// Sales whose price was in doubt, ever.
///
/// # Errors
/// Of storage.
pub fn price_doubts<R: Read + ?Sized>(store: &R) -> Result<u64, StoreError> {
    Ok(store.get(DOUBTS)?.map(|bytes| decode_row(DOUBTS, &bytes)).transpose()?.unwrap_or_default())
}

//! What a box knows of the ids that a terminal made: for its sign-in, its totals, and questions about one sale.
//!
//! Reads only. Leaves to others: decisions and what they write (`sale`).

use crate::answered::Answered;
use crate::entry::{Body, Entry, PurchaseRecord, Source};
use crate::ids::*;
use crate::keys;
use crate::sale::{Mark, prune};
use crate::store::{Read, StoreError, Tx, decode_row};

/// What became of one id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// The id.
    pub id: PurchaseId,
    /// Its journal entry; `None` once that is pruned away.
    pub entry: Option<Entry>,
}

/// The journal entry that answers an id; `None` when the id is unknown or its entry is pruned.
pub fn entry_of<R: Read + ?Sized>(store: &R, id: PurchaseId) -> Result<Option<Entry>, StoreError> {
    let key = keys::mark(id);
    match store.get(&key)? {
        Some(mark) => entry_at(store, decode_row(&key, &mark)?),
        None => Ok(None),
    }
}

/// The card that an id was answered for, sold or refused; `None` as in [`entry_of`].
pub fn card_of<R: Read + ?Sized>(store: &R, id: PurchaseId) -> Result<Option<CardNumber>, StoreError> {
    Ok(entry_of(store, id)?.and_then(|entry| match entry.body {
        Body::Purchase(sale) => Some(sale.card),
        Body::Refused(refused) => Some(refused.card),
        _ => None,
    }))
}

/// Whether an id was answered before, here or at a sibling whose journal is held.
pub fn is_known<R: Read + ?Sized>(store: &R, id: PurchaseId) -> Result<bool, StoreError> {
    Ok(store.get(&keys::mark(id))?.is_some())
}

/// Whether an id is so old that its answer may have been let go here, or was answered by a box that is no more.
pub fn is_too_old<R: Read + ?Sized>(store: &R, id: PurchaseId) -> Result<bool, StoreError> {
    prune::is_too_old(&Tx::new(store), id)
}

/// Whose journal answers an id, if one that is held does.
pub fn answered_by<R: Read + ?Sized>(store: &R, id: PurchaseId) -> Result<Option<Writer>, StoreError> {
    let key = keys::mark(id);
    let mark = store.get(&key)?.map(|bytes| decode_row::<Mark>(&key, &bytes)).transpose()?;
    Ok(mark.map(|mark| mark.feed.writer))
}

/// The highest sequence number known of a terminal's boot; 0 for none.
pub fn last_seq<R: Read + ?Sized>(store: &R, terminal: TerminalId, boot: u32) -> Result<u32, StoreError> {
    let above = |seq| next_known(store, PurchaseId { terminal, boot, seq });
    let Some(mut low) = above(0)? else { return Ok(0) };
    let mut high = u32::MAX;
    // Something is known at `low`, nothing above `high`.
    while low < high {
        let middle = low + (high - low) / 2;
        match above(middle)? {
            Some(seq) => low = seq,
            None => high = middle,
        }
    }
    Ok(low)
}

/// The number after every one that a box knows of a terminal's boot, also of those whose answers are pruned away.
pub fn next_seq<R: Read + ?Sized>(store: &R, terminal: TerminalId, boot: u32) -> Result<u32, StoreError> {
    let key = keys::terminal_mark(terminal, boot);
    let pruned = store.get(&key)?.map(|bytes| decode_row::<Answered>(&key, &bytes)).transpose()?;
    let greatest = pruned.and_then(|answered| answered.greatest()).unwrap_or(0);
    Ok(last_seq(store, terminal, boot)?.max(greatest).saturating_add(1))
}

/// Up to `limit` ids of a terminal's boot above a sequence number, ascending.
pub fn known_after<R: Read + ?Sized>(store: &R, after: PurchaseId, limit: usize) -> Result<Vec<Known>, StoreError> {
    let prefix = boot_prefix(after);
    let rows = store.scan(&prefix, Some(&keys::mark(after)), limit)?;
    let known = rows.into_iter().map(|(key, mark)| {
        let seq = seq_of(&key)?;
        Ok(Known { id: PurchaseId { seq, ..after }, entry: entry_at(store, decode_row(&key, &mark)?)? })
    });
    known.collect()
}

/// The amount that an entry of an id moved: charged or given back; zero for anything else.
pub fn amount_of(body: &Body) -> crate::Fen {
    let parts = match body {
        Body::Purchase(record) => &record.paid,
        Body::Refund(record) => &record.back,
        _ => return crate::Fen::ZERO,
    };
    // Entries are checked before they are written; a sum that does not fit cannot stand in one.
    crate::Fen::sum(parts.iter().map(|(_, part)| *part)).unwrap_or_default()
}

/// What of a sale was paid with the organisation's money, because the box had too little of the holder's: owed until it is
/// settled.
pub fn credit_of(sale: &PurchaseRecord) -> crate::Fen {
    let parts = sale.paid.iter().filter(|(source, _)| !matches!(source, Source::Wallet(_)));
    crate::Fen::sum(parts.map(|(_, part)| *part)).unwrap_or_default()
}

fn entry_at<R: Read + ?Sized>(store: &R, mark: Mark) -> Result<Option<Entry>, StoreError> {
    if store.feed(&mark.feed)?.pruned >= mark.seq {
        return Ok(None);
    }
    let first = store.entries(&mark.feed, mark.seq, 1)?.into_iter().next();
    Ok(first.and_then(|bytes| Entry::decode(&bytes).ok()))
}

fn next_known<R: Read + ?Sized>(store: &R, after: PurchaseId) -> Result<Option<u32>, StoreError> {
    let rows = store.scan(&boot_prefix(after), Some(&keys::mark(after)), 1)?;
    rows.first().map(|(key, _)| seq_of(key)).transpose()
}

/// The key of a mark without its sequence number.
fn boot_prefix(id: PurchaseId) -> Vec<u8> {
    let mut key = keys::mark(id);
    key.truncate(key.len() - size_of::<u32>());
    key
}

fn seq_of(key: &[u8]) -> Result<u32, StoreError> {
    let seq = key.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    seq.ok_or_else(|| StoreError::Corrupt { place: "marks".into(), cause: "a key is too short".into() })
}

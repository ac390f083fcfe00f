//! Rows that headquarters keeps for itself: when boxes were last heard, and how groups of the access policy are filled.

use super::{Reply, named};
use crate::filling::Rules;
use yika_crdt::ids::{CampusId, Writer};
use yika_crdt::store::{Read, StoreError, Tx, decode_row};

/// One row for all boxes, so that a restarted hub does not take quiet boxes for lost ones.
const HEARD: &[u8] = b"!heard";

pub(super) fn keep_heard<R: Read + ?Sized>(tx: &mut Tx<'_, R>, moments: &Vec<(Writer, i64)>) -> Reply {
    tx.put(HEARD.to_vec(), moments);
    Reply::Done
}

pub(super) fn keep_rules<R: Read + ?Sized>(tx: &mut Tx<'_, R>, campus: CampusId, rules: &Rules) -> Reply {
    tx.put(rules_key(campus), rules);
    Reply::Done
}

/// When each life was last heard, as it was last written down.
///
/// # Errors
/// Of storage.
pub fn heard<R: Read + ?Sized>(store: &R) -> Result<Vec<(Writer, i64)>, StoreError> {
    row(store, HEARD)
}

/// The categories that fill groups of a campus.
///
/// # Errors
/// Of storage.
pub fn access_rules<R: Read + ?Sized>(store: &R, campus: CampusId) -> Result<Rules, StoreError> {
    row(store, &rules_key(campus))
}

fn rules_key(campus: CampusId) -> Vec<u8> {
    named(b"!access", &campus)
}

fn row<R: Read + ?Sized, T: serde::de::DeserializeOwned + Default>(store: &R, key: &[u8]) -> Result<T, StoreError> {
    let row = store.get(key)?.map(|bytes| decode_row(key, &bytes)).transpose()?;
    Ok(row.unwrap_or_default())
}

//! Rows of a file against each other: values that stand twice, staff numbers whose neighbours are padded with zeros.
//!
//! Leaves to others: rows by themselves (`validate`) and the registry (`plan`).

use super::columns::{Column, Header, column_letters};
use super::record::{Lang, mask_id};
use super::validate::{CellError, DuplicateOf, Keys, Problem, Row, shorten};
use std::collections::HashMap;
use std::hash::Hash;

/// Refuses every row of a set that shares a key; each names another line of the set. Linear in the rows.
pub(crate) fn refuse_duplicates(rows: &mut [Row], header: &Header) {
    let mut found: Vec<(usize, Column, Problem)> = Vec::new();
    let keys: Vec<(u32, Keys)> = rows.iter().map(|row| (row.line, row.keys())).collect();
    collect(&keys, &mut found, Column::IdNumber, DuplicateOf::Identity, |k| k.identity.as_ref());
    collect(&keys, &mut found, Column::StaffNumber, DuplicateOf::StaffNumber, |k| {
        (!k.campus.is_empty() && !k.staff_number.is_empty()).then_some((&k.campus, &k.staff_number))
    });
    collect(&keys, &mut found, Column::CardNumber, DuplicateOf::CardNumber, |k| k.card_number);
    collect(&keys, &mut found, Column::CardUid, DuplicateOf::CardUid, |k| {
        (!k.card_uid.is_empty()).then_some(&k.card_uid)
    });
    zeros_lost(&keys, &mut found);
    for (index, column, problem) in found {
        let Some(row) = rows.get_mut(index) else {
            continue;
        };
        if let Ok(record) = &row.record {
            (row.cells, row.sound) = (super::write::record_cells(record, Lang::Zh), Keys::of(record));
            row.record = Err(Vec::new());
        }
        let shown = row.cells.get(column as usize).cloned().unwrap_or_default();
        let value = if column == Column::IdNumber { mask_id(&shown) } else { shorten(&shown) };
        let letters = header.place(column).map(column_letters).unwrap_or_default();
        if let Err(errors) = &mut row.record {
            let title = header.title(column).to_owned();
            errors.push(CellError { line: row.line, letters, title, column, value, problem });
        }
    }
}

fn collect<'k, K: Hash + Eq>(
    rows: &'k [(u32, Keys)],
    found: &mut Vec<(usize, Column, Problem)>,
    column: Column,
    of: DuplicateOf,
    key: impl Fn(&'k Keys) -> Option<K>,
) {
    let mut first: HashMap<K, (usize, bool)> = HashMap::with_capacity(rows.len());
    let line_of = |index: usize| rows.get(index).map_or(0, |(line, _)| *line);
    for (index, (_, keys)) in rows.iter().enumerate() {
        let Some(key) = key(keys) else {
            continue;
        };
        match first.get_mut(&key) {
            None => {
                first.insert(key, (index, false));
            }
            Some((earlier, told)) => {
                if !*told {
                    found.push((*earlier, column, Problem::Duplicate { of, other_line: line_of(index) }));
                    *told = true;
                }
                found.push((index, column, Problem::Duplicate { of, other_line: line_of(*earlier) }));
            }
        }
    }
}

/// Where a campus pads its staff numbers with zeros to one width, a shorter one has lost them.
fn zeros_lost(rows: &[(u32, Keys)], found: &mut Vec<(usize, Column, Problem)>) {
    let digits = |keys: &Keys| !keys.staff_number.is_empty() && keys.staff_number.bytes().all(|b| b.is_ascii_digit());
    let mut widths: HashMap<&str, Option<usize>> = HashMap::new();
    let numbered = || rows.iter().enumerate().filter(|(_, (_, keys))| digits(keys));
    for (_, (_, keys)) in numbered().filter(|(_, (_, keys))| keys.staff_number.starts_with('0')) {
        let width = keys.staff_number.len();
        let seen = widths.entry(&keys.campus).or_insert(Some(width));
        *seen = seen.filter(|seen| *seen == width);
    }
    for (index, (_, keys)) in numbered() {
        if let Some(Some(width)) = widths.get(keys.campus.as_str())
            && keys.staff_number.len() < *width
        {
            found.push((index, Column::StaffNumber, Problem::ZerosLost { digits: *width }));
        }
    }
}

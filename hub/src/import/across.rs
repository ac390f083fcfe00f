//! Rows of a file against each other: values that stand twice, staff numbers whose neighbours are padded with zeros.
//!
//! Leaves to others: rows by themselves (`validate`) and the registry (`plan`).

use super::columns::{Column, Header, column_letters};
use super::record::{Lang, PersonRecord, mask_id};
use super::validate::{CellError, DuplicateOf, Problem, Row, shorten};
use std::collections::HashMap;
use std::hash::Hash;

/// Refuses every row of a set that shares a key; each names another line of the set. Linear in the rows.
pub(crate) fn refuse_duplicates(rows: &mut [Row], header: &Header) {
    let mut found: Vec<(usize, Column, Problem)> = Vec::new();
    collect(rows, &mut found, Column::IdNumber, DuplicateOf::Identity, |r| Some(r.natural_key()));
    collect(rows, &mut found, Column::StaffNumber, DuplicateOf::StaffNumber, |r| {
        Some((r.campus.clone(), r.staff_number.clone()))
    });
    collect(rows, &mut found, Column::CardNumber, DuplicateOf::CardNumber, |r| r.card_number);
    collect(rows, &mut found, Column::CardUid, DuplicateOf::CardUid, |r| {
        (!r.card_uid.is_empty()).then(|| r.card_uid.clone())
    });
    zeros_lost(rows, &mut found);
    for (index, column, problem) in found {
        let Some(row) = rows.get_mut(index) else {
            continue;
        };
        if let Ok(record) = &row.record {
            row.cells = super::write::record_cells(record, Lang::Zh);
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

fn collect<K: Hash + Eq>(
    rows: &[Row],
    found: &mut Vec<(usize, Column, Problem)>,
    column: Column,
    of: DuplicateOf,
    key: impl Fn(&PersonRecord) -> Option<K>,
) {
    let mut first: HashMap<K, (usize, bool)> = HashMap::with_capacity(rows.len());
    let line_of = |index: usize| rows.get(index).map_or(0, |row| row.line);
    for (index, row) in rows.iter().enumerate() {
        let Some(key) = row.record.as_ref().ok().and_then(&key) else {
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
fn zeros_lost(rows: &[Row], found: &mut Vec<(usize, Column, Problem)>) {
    let digits = |record: &PersonRecord| record.staff_number.bytes().all(|b| b.is_ascii_digit());
    let mut widths: HashMap<&str, Option<usize>> = HashMap::new();
    let good = || rows.iter().enumerate().filter_map(|(i, row)| Some((i, row.record.as_ref().ok()?)));
    for (_, record) in good().filter(|(_, r)| digits(r) && r.staff_number.starts_with('0')) {
        let width = record.staff_number.len();
        let seen = widths.entry(&record.campus).or_insert(Some(width));
        *seen = seen.filter(|seen| *seen == width);
    }
    for (index, record) in good().filter(|(_, r)| digits(r)) {
        if let Some(Some(width)) = widths.get(record.campus.as_str())
            && record.staff_number.len() < *width
        {
            found.push((index, Column::StaffNumber, Problem::ZerosLost { digits: *width }));
        }
    }
}

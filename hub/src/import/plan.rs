//! What an import would change: new, changed, same, refused. Repeating an import changes nothing.
//!
//! Leaves to others: looking people up, applying the plan, undoing it.

use super::Column;
use super::record::{NaturalKey, PersonRecord};
use super::validate::{CellError, Keys, Row};

/// The person the registry already knows under a key, as a record of the same form.
pub type Existing = PersonRecord;

/// A person to be entered.
#[derive(Clone, PartialEq, Debug)]
pub struct Planned {
    /// Line in the file.
    pub line: u32,
    /// The person.
    pub record: PersonRecord,
}

/// A person of whom something changes.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// Line in the file.
    pub line: u32,
    /// What the registry knows.
    pub before: PersonRecord,
    /// What it would know. A cell left empty in the file keeps what is known.
    pub after: PersonRecord,
    /// Columns that differ; never empty.
    pub columns: Vec<Column>,
}

/// A refused row.
#[derive(Clone, PartialEq, Debug)]
pub struct RowErrors {
    /// Line in the file.
    pub line: u32,
    /// What is wrong.
    pub errors: Vec<CellError>,
    /// What of it can be compared all the same.
    pub sound: Keys,
}

/// Dry run of an import: the counts of page H6 are the lengths of its lists.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// People the registry does not know.
    pub new: Vec<Planned>,
    /// People of whom something changes.
    pub changed: Vec<Change>,
    /// Lines of people who are known exactly so.
    pub same: Vec<u32>,
    /// Refused rows.
    pub errors: Vec<RowErrors>,
}

/// Compares rows with the registry by natural key.
pub fn plan(existing: impl Fn(&NaturalKey) -> Option<Existing>, rows: &[Row]) -> Plan {
    let mut plan = Plan::default();
    for row in rows {
        let line = row.line;
        let record = match &row.record {
            Ok(record) => record,
            Err(errors) => {
                plan.errors.push(RowErrors { line, errors: errors.clone(), sound: row.sound.clone() });
                continue;
            }
        };
        let Some(before) = existing(&record.natural_key()) else {
            plan.new.push(Planned { line, record: record.clone() });
            continue;
        };
        let after = merge(&before, record);
        let columns = differing(&before, &after);
        if columns.is_empty() {
            plan.same.push(line);
        } else {
            plan.changed.push(Change { line, before, after, columns });
        }
    }
    plan
}

/// The given record, with what the registry knows where the file says nothing.
fn merge(before: &PersonRecord, given: &PersonRecord) -> PersonRecord {
    let text = |given: &String, before: &String| {
        if given.is_empty() { before.clone() } else { given.clone() }
    };
    PersonRecord {
        name: text(&given.name, &before.name),
        pinyin: text(&given.pinyin, &before.pinyin),
        sex: given.sex.or(before.sex),
        id_type: given.id_type,
        id_number: given.id_number.clone(),
        contact: text(&given.contact, &before.contact),
        id_valid_from: given.id_valid_from.or(before.id_valid_from),
        id_valid_until: given.id_valid_until.or(before.id_valid_until),
        department: text(&given.department, &before.department),
        department_code: text(&given.department_code, &before.department_code),
        staff_number: text(&given.staff_number, &before.staff_number),
        category: given.category,
        campus: text(&given.campus, &before.campus),
        card_number: given.card_number.or(before.card_number),
        card_uid: text(&given.card_uid, &before.card_uid),
        photo: text(&given.photo, &before.photo),
    }
}

fn differing(before: &PersonRecord, after: &PersonRecord) -> Vec<Column> {
    if before == after {
        return Vec::new();
    }
    let (before, after) = (cells(before), cells(after));
    let pairs = before.iter().zip(&after);
    Column::ALL.into_iter().zip(pairs).filter(|(_, (a, b))| a != b).map(|(column, _)| column).collect()
}

fn cells(record: &PersonRecord) -> Vec<String> {
    super::write::record_cells(record, super::Lang::En)
}

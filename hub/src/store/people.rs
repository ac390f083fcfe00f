//! Profiles: the private part of people, written with imports and edits, found again by document, card, name or number.

use super::rows::ProfileRow;
use super::words::{self, Found};
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::store::StoreError;
use yika_store::failed;
use yika_store::rusqlite::{Connection, OptionalExtension, Row, params};

const COLUMNS: &str = "person, id_hash, id_type, id_sealed, contact_sealed, name, pinyin, sex, id_valid_from, \
     id_valid_until, department, department_code, staff_number, category, campus, card, card_uid, photo";

/// Writes a profile in place of what was known of the person.
pub(super) fn write_profile(tx: &Connection, r: &ProfileRow, now_ms: i64) -> Result<(), StoreError> {
    let before = by_person(tx, r.person)?;
    let sql = format!(
        "INSERT INTO profiles ({COLUMNS}, changed_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)
         ON CONFLICT (person) DO UPDATE SET id_hash = excluded.id_hash, id_type = excluded.id_type,
             id_sealed = excluded.id_sealed, contact_sealed = excluded.contact_sealed, name = excluded.name,
             pinyin = excluded.pinyin, sex = excluded.sex, id_valid_from = excluded.id_valid_from,
             id_valid_until = excluded.id_valid_until, department = excluded.department,
             department_code = excluded.department_code, staff_number = excluded.staff_number,
             category = excluded.category, campus = excluded.campus, card = excluded.card,
             card_uid = excluded.card_uid, photo = excluded.photo, changed_ms = excluded.changed_ms"
    );
    tx.prepare_cached(&sql)
        .and_then(|mut s| {
            s.execute(params![
                r.person as i64,
                r.id_hash,
                r.id_type,
                r.id_sealed,
                r.contact_sealed,
                r.name,
                r.pinyin,
                r.sex,
                r.id_valid_from,
                r.id_valid_until,
                r.department,
                r.department_code,
                r.staff_number,
                r.category,
                r.campus,
                r.card.map(|c| c as i64),
                r.card_uid,
                r.photo,
                now_ms,
            ])
        })
        .map_err(failed("writing a profile"))?;
    words::follow(tx, before.as_ref(), r)
}

fn profile(row: &Row<'_>) -> yika_store::rusqlite::Result<ProfileRow> {
    Ok(ProfileRow {
        person: row.get::<_, i64>(0)? as u64,
        id_hash: row.get(1)?,
        id_type: row.get(2)?,
        id_sealed: row.get(3)?,
        contact_sealed: row.get(4)?,
        name: row.get(5)?,
        pinyin: row.get(6)?,
        sex: row.get(7)?,
        id_valid_from: row.get(8)?,
        id_valid_until: row.get(9)?,
        department: row.get(10)?,
        department_code: row.get(11)?,
        staff_number: row.get(12)?,
        category: row.get(13)?,
        campus: row.get(14)?,
        card: row.get::<_, Option<i64>>(15)?.map(|c| c as u64),
        card_uid: row.get(16)?,
        photo: row.get(17)?,
    })
}

/// The profile under a keyed hash of type and number.
///
/// # Errors
/// Of the database.
pub fn by_id_hash(conn: &Connection, hash: &[u8; 16]) -> Result<Option<ProfileRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM profiles WHERE id_hash = ?1");
    let mut statement = conn.prepare_cached(&sql).map_err(failed("finding a profile"))?;
    statement.query_row([hash], profile).optional().map_err(failed("finding a profile"))
}

/// The profile of a person.
///
/// # Errors
/// Of the database.
pub fn by_person(conn: &Connection, person: u64) -> Result<Option<ProfileRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM profiles WHERE person = ?1");
    let mut statement = conn.prepare_cached(&sql).map_err(failed("finding a profile"))?;
    statement.query_row([person as i64], profile).optional().map_err(failed("finding a profile"))
}

/// Names of persons, of those that have a profile.
///
/// # Errors
/// Of the database.
pub fn names(conn: &Connection, persons: &BTreeSet<u64>) -> Result<BTreeMap<u64, String>, StoreError> {
    let mut names = BTreeMap::new();
    for person in persons {
        if let Some(profile) = by_person(conn, *person)? {
            names.insert(*person, profile.name);
        }
    }
    Ok(names)
}

/// What a list of people shows: all that match, a page at a time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeopleQuery {
    /// Beginning of a name, pinyin or staff number, or a whole card number; part of a name where nothing begins so;
    /// everybody when empty.
    pub text: String,
    /// Home campus.
    pub campus: Option<u16>,
    /// Rows to skip.
    pub offset: u64,
    /// Most rows.
    pub limit: u32,
}

/// People that match, and how many there are in all.
///
/// # Errors
/// Of the database.
pub fn find(conn: &Connection, query: &PeopleQuery) -> Result<(Vec<ProfileRow>, u64), StoreError> {
    let text = words::plain(&query.text);
    if text.is_empty() {
        return everybody(conn, query);
    }
    let mut found = words::beginning_with(conn, &text, false)?;
    if let Ok(card) = text.parse::<i64>() {
        found.extend(holder_of(conn, card)?);
    }
    // Inside of names only when nothing begins with the text.
    if found.is_empty() && text.chars().count() >= PART_CHARS_MIN {
        found = words::beginning_with(conn, &text, true)?;
    }
    let found: BTreeSet<_> =
        found.into_iter().filter(|f| query.campus.is_none_or(|campus| f.campus == campus)).collect();
    let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
    let shown = found.iter().skip(offset).take(query.limit as usize);
    let rows = shown.map(|found| by_person(conn, found.person));
    // Words and profiles are of one moment, and of the same people.
    Ok((rows.filter_map(Result::transpose).collect::<Result<_, _>>()?, found.len() as u64))
}

/// Shortest text that is looked for inside of names.
const PART_CHARS_MIN: usize = 2;

fn holder_of(conn: &Connection, card: i64) -> Result<Option<Found>, StoreError> {
    let doing = "finding a card";
    let sql = "SELECT campus, staff_number, person FROM profiles WHERE card = ?1";
    let mut statement = conn.prepare_cached(sql).map_err(failed(doing))?;
    statement.query_row([card], words::found).optional().map_err(failed(doing))
}

/// Who has a staff number on a campus.
///
/// # Errors
/// Of the database.
pub fn by_staff_number(conn: &Connection, campus: u16, number: &str) -> Result<Vec<u64>, StoreError> {
    let sql = "SELECT person FROM profiles WHERE campus = ?1 AND staff_number = ?2 AND ?2 <> '' ORDER BY person";
    persons(conn, "finding a staff number", sql, (campus, number))
}

/// Everybody of a category on a campus.
///
/// # Errors
/// Of the database.
pub fn of_category(conn: &Connection, campus: u16, category: &str) -> Result<Vec<u64>, StoreError> {
    let sql = "SELECT person FROM profiles WHERE campus = ?1 AND category = ?2 ORDER BY person";
    persons(conn, "listing a category", sql, (campus, category))
}

fn persons(conn: &Connection, doing: &'static str, sql: &str, of: (u16, &str)) -> Result<Vec<u64>, StoreError> {
    let mut statement = conn.prepare_cached(sql).map_err(failed(doing))?;
    let rows = statement.query_map(params![of.0, of.1], |row| row.get::<_, i64>(0)).map_err(failed(doing))?;
    let persons: Result<Vec<i64>, _> = rows.collect();
    Ok(persons.map_err(failed(doing))?.into_iter().map(|person| person as u64).collect())
}

/// A page of all people, along the index of the list's order.
fn everybody(conn: &Connection, query: &PeopleQuery) -> Result<(Vec<ProfileRow>, u64), StoreError> {
    let doing = "listing people";
    // A campus is the first column of that index: written only where it is asked for.
    let campus = if query.campus.is_some() { "campus = ?1" } else { "?1 IS NULL" };
    let total: i64 = conn
        .prepare_cached(&format!("SELECT count(*) FROM profiles WHERE {campus}"))
        .and_then(|mut s| s.query_row([query.campus], |row| row.get(0)))
        .map_err(failed(doing))?;
    let order = "ORDER BY campus, staff_number, person";
    // Only keys are skipped over and sorted: rows are wide.
    let sql = format!(
        "SELECT {COLUMNS} FROM profiles WHERE person IN (
             SELECT person FROM profiles WHERE {campus} {order} LIMIT ?2 OFFSET ?3) {order}"
    );
    let mut statement = conn.prepare_cached(&sql).map_err(failed(doing))?;
    let rows = statement
        .query_map(params![query.campus, query.limit, query.offset as i64], profile)
        .and_then(Iterator::collect)
        .map_err(failed(doing))?;
    Ok((rows, total as u64))
}

//! Profiles: the private part of people, written with imports and edits, found again by document, card, name or number.

use super::rows::ProfileRow;
use yika_crdt::store::StoreError;
use yika_store::failed;
use yika_store::rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

const COLUMNS: &str = "person, id_hash, id_type, id_sealed, contact_sealed, name, pinyin, sex, id_valid_from, \
     id_valid_until, department, department_code, staff_number, category, campus, card, card_uid, photo";

/// Writes a profile in place of what was known of the person.
pub(super) fn write_profile(tx: &Transaction<'_>, r: &ProfileRow, now_ms: i64) -> Result<(), StoreError> {
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
    Ok(())
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

/// What a list of people shows: all that match, a page at a time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeopleQuery {
    /// Beginning of a name, pinyin or staff number, or a whole card number; everybody when empty.
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
    let text = query.text.trim();
    if text.is_empty() {
        return page(conn, query, EVERYBODY, ("", ""));
    }
    let plain = text.to_lowercase().replace(' ', "");
    let found = page(conn, query, BEGINS_WITH, (text, &plain))?;
    // A part of a name costs a look at every name: only when nothing begins with the text.
    match found.1 == 0 && text.chars().count() >= PART_CHARS_MIN {
        true => page(conn, query, HAS_PART, (text, &plain)),
        false => Ok(found),
    }
}

/// Shortest text that is looked for inside of names.
const PART_CHARS_MIN: usize = 2;

/// Each arm is a range of one index.
const BEGINS_WITH: &str = "SELECT person FROM profiles WHERE name >= ?1 AND name < ?1 || char(1114111)
    UNION SELECT person FROM profiles
        WHERE replace(lower(pinyin), ' ', '') >= ?2 AND replace(lower(pinyin), ' ', '') < ?2 || char(1114111)
    UNION SELECT person FROM profiles WHERE staff_number >= ?1 AND staff_number < ?1 || char(1114111)
    UNION SELECT person FROM profiles WHERE card = CAST(?1 AS INTEGER) AND ?1 NOT GLOB '*[^0-9]*'";
const HAS_PART: &str = "SELECT person FROM profiles WHERE instr(name, ?1) > 0 AND ?2 = ?2";
const EVERYBODY: &str = "SELECT person FROM profiles WHERE ?1 = '' AND ?2 = ''";

/// A page of the people that `who` finds. Only their keys are sorted: rows are wide.
fn page(
    conn: &Connection,
    query: &PeopleQuery,
    who: &str,
    (text, plain): (&str, &str),
) -> Result<(Vec<ProfileRow>, u64), StoreError> {
    let doing = "listing people";
    let all = who == EVERYBODY;
    let people = if all { "profiles".into() } else { format!("profiles WHERE person IN ({who})") };
    let and = if all { "WHERE ?1 = '' AND ?2 = '' AND" } else { "AND" };
    // A campus is the first column of the list's index: written only where it is asked for.
    let campus = if query.campus.is_some() { "campus = ?3" } else { "?3 IS NULL" };
    let count = match query.campus {
        None if !all => format!("SELECT count(*) FROM ({who}) WHERE ?3 IS NULL"),
        _ => format!("SELECT count(*) FROM {people} {and} {campus}"),
    };
    let total: i64 = conn
        .prepare_cached(&count)
        .and_then(|mut s| s.query_row(params![text, plain, query.campus], |row| row.get(0)))
        .map_err(failed(doing))?;
    let order = "ORDER BY campus, staff_number, person";
    let sql = format!(
        "SELECT {COLUMNS} FROM profiles WHERE person IN (
             SELECT person FROM {people} {and} {campus} {order} LIMIT ?4 OFFSET ?5) {order}"
    );
    let mut statement = conn.prepare_cached(&sql).map_err(failed(doing))?;
    let rows = statement
        .query_map(params![text, plain, query.campus, query.limit, query.offset as i64], profile)
        .and_then(Iterator::collect)
        .map_err(failed(doing))?;
    Ok((rows, total as u64))
}

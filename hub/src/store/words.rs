//! What people are found by: words of each, kept beside the columns that lists are sorted by.
//!
//! A beginning of a name, pinyin or staff number, or of what follows any character of a name: each is a range of one
//! narrow index, whatever is asked for. Leaves to others: profiles themselves (`people`).

use super::rows::ProfileRow;
use std::collections::BTreeSet;
use yika_crdt::store::StoreError;
use yika_store::failed;
use yika_store::rusqlite::{Connection, Row, params};

/// Characters of a name after which the rest is kept as a word; longer names are found by their beginning.
const INNER_CHARS_MAX: usize = 24;

/// Somebody found, by what lists are sorted by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Found {
    pub(super) campus: u16,
    pub(super) staff_number: String,
    pub(super) person: u64,
}

/// A row of `campus, staff_number, person`.
pub(super) fn found(row: &Row<'_>) -> yika_store::rusqlite::Result<Found> {
    Ok(Found { campus: row.get(0)?, staff_number: row.get(1)?, person: row.get::<_, i64>(2)? as u64 })
}

/// Who has a word that begins with a plain text; the same person may come twice.
pub(super) fn beginning_with(conn: &Connection, text: &str, inner: bool) -> Result<Vec<Found>, StoreError> {
    let doing = "finding people";
    let sql = "SELECT campus, staff_number, person FROM people_words
               WHERE inner = ?1 AND word >= ?2 AND word < ?2 || char(1114111)";
    let mut statement = conn.prepare_cached(sql).map_err(failed(doing))?;
    statement.query_map(params![inner, text], found).and_then(Iterator::collect).map_err(failed(doing))
}

/// A text as words are kept: small letters without blanks.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect()
}

/// The words of a person: whether it is the inner part of a name, and the word.
fn words(r: &ProfileRow) -> BTreeSet<(bool, String)> {
    let name = plain(&r.name);
    let inner = name.char_indices().skip(1).take(INNER_CHARS_MAX).map(|(at, _)| (true, name[at..].to_owned()));
    let mut words: BTreeSet<_> = inner.collect();
    words.extend([&r.name, &r.pinyin, &r.staff_number].map(|text| (false, plain(text))));
    words.retain(|(_, word)| !word.is_empty());
    words
}

/// Keeps the words of a profile in step with it.
pub(super) fn follow(tx: &Connection, old: Option<&ProfileRow>, new: &ProfileRow) -> Result<(), StoreError> {
    let doing = "keeping the words that people are found by";
    let before = old.map(words).unwrap_or_default();
    let after = words(new);
    let same_place = old.is_some_and(|old| (old.campus, &old.staff_number) == (new.campus, &new.staff_number));
    let mut delete = tx
        .prepare_cached("DELETE FROM people_words WHERE inner = ?1 AND word = ?2 AND person = ?3")
        .map_err(failed(doing))?;
    for (inner, word) in before.iter().filter(|word| !after.contains(*word)) {
        delete.execute(params![inner, word, new.person as i64]).map_err(failed(doing))?;
    }
    let mut insert =
        tx.prepare_cached("INSERT OR REPLACE INTO people_words VALUES (?1, ?2, ?3, ?4, ?5)").map_err(failed(doing))?;
    for (inner, word) in after.iter().filter(|word| !same_place || !before.contains(*word)) {
        let values = params![inner, word, new.person as i64, new.campus, new.staff_number];
        insert.execute(values).map_err(failed(doing))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::super::people::{self, PeopleQuery};
    use super::super::{TableRow, options, write};
    use super::*;
    use yika_store::SqliteStore;

    fn person(number: u64, name: &str, pinyin: &str, staff_number: &str, campus: u16) -> ProfileRow {
        let id_hash = [number as u8; 16];
        let (name, pinyin, staff_number) = (name.to_owned(), pinyin.to_owned(), staff_number.to_owned());
        ProfileRow { person: number, id_hash, name, pinyin, staff_number, campus, ..ProfileRow::default() }
    }

    fn put(store: &mut SqliteStore, rows: Vec<ProfileRow>) {
        let rows: Vec<_> = rows.into_iter().map(|row| TableRow::Profile(Box::new(row))).collect();
        store.commit_with(&Default::default(), |tx| write::rows(tx, &rows, 1)).unwrap();
    }

    fn find(store: &SqliteStore, text: &str) -> Vec<u64> {
        let query = PeopleQuery { text: text.to_owned(), limit: 10, ..PeopleQuery::default() };
        let (rows, total) = people::find(store.connection(), &query).unwrap();
        assert_eq!(rows.len() as u64, total);
        rows.iter().map(|row| row.person).collect()
    }

    #[test]
    fn people_are_found_by_beginnings_and_by_parts_of_names_and_never_by_what_they_were_called_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(dir.path().join("hub.db"), &options()).unwrap();
        let mut wang = person(1, "王芳静", "Wang Fangjing", "0002", 1);
        wang.card = Some(70_001);
        let smith = person(2, "Anna Smith", "", "0001", 1);
        put(&mut store, vec![wang.clone(), smith.clone(), person(3, "静静", "Jing Jing", "A7", 2)]);
        for (text, wanted) in [
            ("王", vec![1]),
            ("芳静", vec![1]),
            ("静", vec![3]),
            ("静静", vec![3]),
            ("wang f", vec![1]),
            ("JINGJ", vec![3]),
            ("000", vec![2, 1]),
            ("a", vec![2, 3]),
            ("Na Smi", vec![2]),
            ("mit", vec![2]),
            ("70001", vec![1]),
            ("7000", vec![]),
            ("%", vec![]),
            ("　王 ", vec![1]),
        ] {
            assert_eq!(find(&store, text), wanted, "{text}");
        }
        let of_second = PeopleQuery { text: "a".into(), campus: Some(2), limit: 1, ..PeopleQuery::default() };
        assert_eq!(people::find(store.connection(), &of_second).unwrap().1, 1);
        let (rows, total) =
            people::find(store.connection(), &PeopleQuery { text: "a".into(), offset: 1, limit: 1, campus: None })
                .unwrap();
        assert_eq!((rows[0].person, total), (3, 2));

        // Married, moved, another number.
        put(&mut store, vec![ProfileRow { name: "Anna Miller".into(), staff_number: "B9".into(), campus: 2, ..smith }]);
        assert_eq!(find(&store, "smith"), Vec::<u64>::new());
        assert_eq!((find(&store, "mille"), find(&store, "0001"), find(&store, "b9")), (vec![2], vec![], vec![2]));
        assert_eq!(find(&store, "a"), vec![3, 2], "in the order of the list");
        let words: i64 =
            store.connection().query_row("SELECT count(*) FROM people_words", [], |row| row.get(0)).unwrap();
        put(&mut store, vec![wang]);
        let again = store.connection().query_row("SELECT count(*) FROM people_words", [], |row| row.get(0));
        assert_eq!(again, Ok(words), "nothing is kept twice");
    }
}

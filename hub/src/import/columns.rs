//! The columns of the collection file: names in Chinese and English, which are required, matching a header row.
//!
//! Leaves to others: reading the cells (`grid`) and judging them (`validate`).

use super::record::Lang;
use super::{FileError, Warning};

/// A header row is looked for among this many rows that are not empty: title lines may stand above it.
pub const HEADER_SEARCH_ROWS_MAX: usize = 10;
/// A row is a header when at least this many cells name a column.
const HEADER_MATCHES_MIN: usize = 3;

/// A column of the collection file, in the order of the template.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[allow(missing_docs)] // The names are the fields of `PersonRecord`.
pub enum Column {
    Name,
    Pinyin,
    Sex,
    IdType,
    IdNumber,
    Contact,
    IdValidFrom,
    IdValidUntil,
    Department,
    DepartmentCode,
    StaffNumber,
    Category,
    Campus,
    CardNumber,
    CardUid,
    Photo,
}

/// Number of columns of the template.
pub const COLUMN_COUNT: usize = Column::ALL.len();

impl Column {
    /// Every column, in the order of the template.
    pub const ALL: [Column; 16] = [
        Column::Name,
        Column::Pinyin,
        Column::Sex,
        Column::IdType,
        Column::IdNumber,
        Column::Contact,
        Column::IdValidFrom,
        Column::IdValidUntil,
        Column::Department,
        Column::DepartmentCode,
        Column::StaffNumber,
        Column::Category,
        Column::Campus,
        Column::CardNumber,
        Column::CardUid,
        Column::Photo,
    ];

    /// Title in the template of this language.
    pub fn title(self, lang: Lang) -> &'static str {
        let (zh, en) = self.titles();
        lang.pick(zh, en)
    }

    fn titles(self) -> (&'static str, &'static str) {
        match self {
            Column::Name => ("姓名", "name"),
            Column::Pinyin => ("拼音", "pinyin"),
            Column::Sex => ("性别", "sex"),
            Column::IdType => ("证件类型", "id_type"),
            Column::IdNumber => ("证件号码", "id_number"),
            Column::Contact => ("联系方式", "contact"),
            Column::IdValidFrom => ("证件有效期起", "id_valid_from"),
            Column::IdValidUntil => ("证件有效期止", "id_valid_until"),
            Column::Department => ("部门名称", "department"),
            Column::DepartmentCode => ("部门编号", "department_code"),
            Column::StaffNumber => ("工号", "staff_number"),
            Column::Category => ("身份类别", "category"),
            Column::Campus => ("园区", "campus"),
            Column::CardNumber => ("卡号", "card_number"),
            Column::CardUid => ("物理卡号", "card_uid"),
            Column::Photo => ("照片", "photo"),
        }
    }

    /// Whether a file without this column, or a row without this cell, is refused.
    pub fn required(self) -> bool {
        matches!(
            self,
            Column::Name | Column::IdType | Column::IdNumber | Column::StaffNumber | Column::Category | Column::Campus
        )
    }

    /// Longest text of a cell, in characters.
    pub fn chars_max(self) -> usize {
        match self {
            Column::Name | Column::Contact | Column::Campus => 64,
            Column::Pinyin | Column::Department | Column::Photo => 128,
            Column::IdNumber | Column::IdType | Column::Category => 32,
            Column::DepartmentCode | Column::StaffNumber => 32,
            Column::Sex | Column::CardUid | Column::CardNumber => 24,
            Column::IdValidFrom | Column::IdValidUntil => 32,
        }
    }

    /// The column that a header cell names, in either language. Blanks, case, hyphens, stars and brackets do not matter.
    pub fn parse(header: &str) -> Option<Column> {
        let key = header_key(header);
        Column::ALL.into_iter().find(|column| {
            let (zh, en) = column.titles();
            header_key(zh) == key || header_key(en) == key
        })
    }
}

/// Titles that files written by us carry beside the columns; they are skipped without a warning.
pub(crate) const REASON_TITLES: [&str; 2] = ["错误原因", "error_reason"];

fn header_key(text: &str) -> String {
    text.split(['(', '（'])
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '_' | '-' | '*' | '＊' | '\u{feff}' | '\u{200b}'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Letters by which a spreadsheet names a column counted from zero: 0 is A, 26 is AA.
pub fn column_letters(index: usize) -> String {
    let mut rest = index;
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'A' + (rest % 26) as u8));
        if rest < 26 {
            break;
        }
        rest = rest / 26 - 1;
    }
    letters.iter().rev().collect()
}

/// Where each column stands in a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Line of the header row, counted from 1.
    pub line: u32,
    /// For each column of [`Column::ALL`], its place in the file counted from zero.
    pub places: [Option<usize>; COLUMN_COUNT],
    /// Its title as it stands there, shortened; empty where the file lacks it.
    titles: [String; COLUMN_COUNT],
}

impl Header {
    /// Place of a column in the file, counted from zero.
    pub fn place(&self, column: Column) -> Option<usize> {
        self.places.get(column as usize).copied().flatten()
    }

    /// What the file calls a column; empty where it lacks it.
    pub fn title(&self, column: Column) -> &str {
        self.titles.get(column as usize).map_or("", String::as_str)
    }

    /// Column as shown to a person, for instance `E 证件号码`: as the file calls it, else as the template does.
    pub fn name(&self, column: Column, lang: Lang) -> String {
        let letters = self.place(column).map(column_letters).unwrap_or_default();
        let title = if self.title(column).is_empty() { column.title(lang) } else { self.title(column) };
        format!("{letters} {title}").trim().to_owned()
    }

    /// Whether a row looks like the header.
    pub(crate) fn matches(cells: &[String]) -> bool {
        cells.iter().filter(|cell| Column::parse(cell).is_some()).count() >= HEADER_MATCHES_MIN
    }

    /// Reads a header row; unknown columns come back as warnings.
    pub(crate) fn read(line: u32, cells: &[String]) -> Result<(Header, Vec<Warning>), FileError> {
        let mut header = Header { line, ..Header::default() };
        let mut warnings = Vec::new();
        for (place, cell) in cells.iter().enumerate() {
            let title = cell.trim();
            if title.is_empty() {
                continue;
            }
            let Some(column) = Column::parse(title) else {
                if !REASON_TITLES.contains(&title) {
                    warnings.push(Warning::UnknownColumn { letters: column_letters(place), title: shown(title) });
                }
                continue;
            };
            let Some(slot) = header.places.get_mut(column as usize) else {
                continue;
            };
            if let Some(first) = *slot {
                return Err(FileError::DuplicateColumn {
                    column,
                    first: column_letters(first),
                    second: column_letters(place),
                });
            }
            *slot = Some(place);
            if let Some(slot) = header.titles.get_mut(column as usize) {
                *slot = shown(title);
            }
        }
        let missing: Vec<Column> =
            Column::ALL.into_iter().filter(|column| column.required() && header.place(*column).is_none()).collect();
        if !missing.is_empty() {
            let found = cells.iter().map(|c| c.trim()).filter(|c| !c.is_empty()).map(shown).collect();
            return Err(FileError::MissingColumns { missing, found, line });
        }
        Ok((header, warnings))
    }
}

fn shown(text: &str) -> String {
    super::validate::shorten(text)
}

#[cfg(test)]
mod tests {
    // tests may panic
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn letters_follow_the_spreadsheet() {
        let all: Vec<String> = [0, 25, 26, 51, 52, 701, 702].into_iter().map(column_letters).collect();
        assert_eq!(all, ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
    }

    #[test]
    fn headers_match_in_both_languages_and_any_order() {
        for text in ["证件号码", " 证件 号码* ", "ID_Number", "id number", "id-number（文本）"] {
            assert_eq!(Column::parse(text), Some(Column::IdNumber), "{text}");
        }
        assert_eq!(Column::parse("备注"), None);
        let cells: Vec<String> =
            ["campus", "工号", "备注", "name", "证件类型", "id_number", "身份类别"].map(String::from).into();
        let (header, warnings) = Header::read(1, &cells).unwrap();
        assert_eq!(header.place(Column::Name), Some(3));
        assert_eq!(warnings.len(), 1);
    }
}

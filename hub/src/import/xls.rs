//! What of an Excel 97 workbook the spreadsheet reader gets to see: the cells of its first sheet, in a file that is made here.
//!
//! The reader follows positions, lengths and references wherever they lead, reserves what a sheet says of itself, and copies a
//! shared text for every cell that names it; a few kilobytes could take all memory there is. So records are walked and
//! counted here first, and only those that cells are made of are handed on. Leaves to others: the container (`compound`),
//! reading the cells (`grid`).

use super::FileError;
use super::compound::{self, Compound, u16_at, u32_at};

/// Most cells of a sheet, counted as rows × columns, because the reader holds them as a rectangle.
const CELLS_MAX: u64 = 4_194_304;
/// Most characters of all cells that name a shared text, because the reader copies it for each.
const SHARED_CHARS_MAX: u64 = 64 * 1024 * 1024;
/// Of a formula, what stands before its tokens: place, format, value.
const FORMULA_BYTES: usize = 20;

/// Kinds of records (MS-XLS 2.3).
mod kind {
    pub(super) const FORMULA: u16 = 0x0006;
    pub(super) const EOF: u16 = 0x000a;
    pub(super) const DATE_MODE: u16 = 0x0022;
    pub(super) const FILE_PASS: u16 = 0x002f;
    pub(super) const CONTINUE: u16 = 0x003c;
    pub(super) const CODE_PAGE: u16 = 0x0042;
    pub(super) const BOUND_SHEET: u16 = 0x0085;
    pub(super) const MUL_RK: u16 = 0x00bd;
    pub(super) const RICH_LABEL: u16 = 0x00d6;
    pub(super) const XF: u16 = 0x00e0;
    pub(super) const SHARED_TEXTS: u16 = 0x00fc;
    pub(super) const SHARED_LABEL: u16 = 0x00fd;
    pub(super) const NUMBER: u16 = 0x0203;
    pub(super) const LABEL: u16 = 0x0204;
    pub(super) const BOOL_OR_ERROR: u16 = 0x0205;
    pub(super) const FORMULA_TEXT: u16 = 0x0207;
    pub(super) const RK: u16 = 0x027e;
    pub(super) const FORMAT: u16 = 0x041e;
    pub(super) const BOF: u16 = 0x0809;
}

/// A workbook with the cells of the first sheet and nothing else.
///
/// # Errors
/// Encrypted, damaged, or beyond a bound.
pub(crate) fn plain_copy(bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    let file = Compound::open(bytes).ok_or_else(|| damaged("compound file header"))?;
    let Some(stream) = file.stream("Workbook").or_else(|| file.stream("Book")) else {
        return Err(if file.holds("EncryptedPackage") { FileError::Encrypted } else { damaged("no workbook inside") });
    };
    let mut copy = Copy::default();
    let (sheet, patch) = copy.globals(&stream)?;
    let at = copy.out.len() as u32;
    copy.out.get_mut(patch..patch + 4).ok_or_else(|| damaged("no sheet inside"))?.copy_from_slice(&at.to_le_bytes());
    copy.sheet(stream.get(sheet..).unwrap_or_default())?;
    Ok(compound::around("Workbook", &copy.out))
}

fn damaged(what: impl Into<String>) -> FileError {
    FileError::Damaged { what: what.into() }
}

/// A record of a stream.
struct Record<'s> {
    kind: u16,
    body: &'s [u8],
}

/// The records of a stream, up to the first that is not whole.
struct Records<'s>(&'s [u8]);

impl<'s> Iterator for Records<'s> {
    type Item = Record<'s>;

    fn next(&mut self) -> Option<Record<'s>> {
        let (kind, length) = (u16_at(self.0, 0)?, usize::from(u16_at(self.0, 2)?));
        let body = self.0.get(4..4 + length)?;
        self.0 = self.0.get(4 + length..).unwrap_or_default();
        Some(Record { kind, body })
    }
}

impl<'s> Records<'s> {
    /// The bodies of the records that go on with the one before.
    fn continued(&mut self) -> Vec<&'s [u8]> {
        let mut bodies = Vec::new();
        while u16_at(self.0, 0) == Some(kind::CONTINUE)
            && let Some(record) = self.next()
        {
            bodies.push(record.body);
        }
        bodies
    }
}

/// What is handed on.
#[derive(Default)]
struct Copy {
    out: Vec<u8>,
    /// Characters of each shared text.
    shared: Vec<u16>,
}

impl Copy {
    fn put(&mut self, kind: u16, body: &[u8]) {
        self.out.extend(kind.to_le_bytes());
        self.out.extend((body.len() as u16).to_le_bytes());
        self.out.extend_from_slice(body);
    }

    /// What belongs to the whole workbook. Gives where its first sheet begins, and where in the copy that is to be said.
    fn globals(&mut self, stream: &[u8]) -> Result<(usize, usize), FileError> {
        let mut sheet = None;
        let mut records = Records(stream);
        while let Some(Record { kind, body }) = records.next() {
            match kind {
                kind::FILE_PASS => return Err(FileError::Encrypted),
                kind::EOF => break,
                kind::SHARED_TEXTS => {
                    let further = records.continued();
                    self.shared_texts(body, &further)?;
                }
                kind::BOUND_SHEET if sheet.is_none() => {
                    let begins = u32_at(body, 0).ok_or_else(|| damaged("a sheet without a place"))?;
                    sheet = Some((begins as usize, self.out.len() + 4));
                    self.put(kind, body);
                }
                kind::BOF | kind::CODE_PAGE | kind::DATE_MODE | kind::FORMAT | kind::XF => self.put(kind, body),
                _ => {}
            }
        }
        self.put(kind::EOF, &[]);
        sheet.ok_or_else(|| damaged("no sheet inside"))
    }

    fn shared_texts(&mut self, first: &[u8], further: &[&[u8]]) -> Result<(), FileError> {
        // Two counts come first; what there is tells how many there are.
        let texts = first.get(8..).ok_or_else(|| damaged("shared texts without their count"))?;
        let lengths = Texts { piece: texts, further: further.iter() }.lengths();
        self.shared = lengths.ok_or_else(|| damaged("shared texts that are cut off"))?;
        self.put(kind::SHARED_TEXTS, first);
        further.iter().for_each(|body| self.put(kind::CONTINUE, body));
        Ok(())
    }

    /// The cells of a sheet; a chart that lies in it is skipped.
    fn sheet(&mut self, stream: &[u8]) -> Result<(), FileError> {
        let mut bounds = Bounds::default();
        let (mut begun, mut depth) = (false, 0_usize);
        for Record { kind, body } in Records(stream) {
            match kind {
                kind::BOF if begun => depth += 1,
                kind::BOF => {
                    begun = true;
                    self.put(kind, body);
                }
                kind::EOF if depth == 0 => break,
                kind::EOF => depth -= 1,
                _ if depth > 0 => {}
                kind::NUMBER | kind::LABEL | kind::RICH_LABEL | kind::BOOL_OR_ERROR | kind::RK | kind::MUL_RK => {
                    bounds.cell(kind, body)?;
                    self.put(kind, body);
                }
                kind::SHARED_LABEL => {
                    bounds.cell(kind, body)?;
                    let text = u32_at(body, 6).and_then(|number| self.shared.get(number as usize));
                    bounds.shared(u64::from(text.copied().unwrap_or(0)))?;
                    self.put(kind, body);
                }
                kind::FORMULA => {
                    bounds.cell(kind, body)?;
                    let value = body.get(..FORMULA_BYTES).ok_or_else(|| damaged("a formula without a value"))?;
                    // How it was computed is nobody's business here: no tokens.
                    self.put(kind, &[value, &[0, 0]].concat());
                }
                kind::FORMULA_TEXT => self.put(kind, body),
                _ => {}
            }
        }
        self.put(kind::EOF, &[]);
        Ok(())
    }
}

/// How large a sheet is by what its cells say.
#[derive(Default)]
struct Bounds {
    rows: u64,
    columns: u64,
    shared_chars: u64,
}

impl Bounds {
    fn cell(&mut self, kind: u16, body: &[u8]) -> Result<(), FileError> {
        let (Some(row), Some(column)) = (u16_at(body, 0), u16_at(body, 2)) else {
            return Err(damaged("a cell without a place"));
        };
        // A record of many cells says its first column, and has six bytes for each of them behind it.
        let cells = if kind == kind::MUL_RK { (body.len() as u64).saturating_sub(6) / 6 } else { 1 };
        self.rows = self.rows.max(u64::from(row) + 1);
        self.columns = self.columns.max(u64::from(column) + cells.max(1));
        if self.rows * self.columns > CELLS_MAX {
            let (rows, columns) = (self.rows, self.columns);
            return Err(damaged(format!(
                "a sheet spans {rows} rows × {columns} columns; the limit is {CELLS_MAX} cells"
            )));
        }
        Ok(())
    }

    fn shared(&mut self, chars: u64) -> Result<(), FileError> {
        self.shared_chars += chars;
        match self.shared_chars > SHARED_CHARS_MAX {
            true => Err(damaged(format!("the texts of a sheet have more than {SHARED_CHARS_MAX} characters"))),
            false => Ok(()),
        }
    }
}

/// Texts that run over the ends of records.
struct Texts<'s, 'p> {
    /// The rest of the record that is being read.
    piece: &'s [u8],
    /// Those after it.
    further: std::slice::Iter<'p, &'s [u8]>,
}

impl<'s> Texts<'s, '_> {
    /// Characters of each text; `None` when one is cut off.
    fn lengths(mut self) -> Option<Vec<u16>> {
        let mut lengths = Vec::new();
        while self.is_more() {
            lengths.push(self.text()?);
        }
        Some(lengths)
    }

    fn is_more(&mut self) -> bool {
        while self.piece.is_empty() {
            match self.further.next() {
                Some(next) => self.piece = next,
                None => return false,
            }
        }
        true
    }

    fn text(&mut self) -> Option<u16> {
        let chars = u16_at(self.take(2)?, 0)?;
        let flags = *self.take(1)?.first()?;
        let runs = if flags & 8 == 0 { 0 } else { 4 * usize::from(u16_at(self.take(2)?, 0)?) };
        let phonetics = if flags & 4 == 0 { 0 } else { u32_at(self.take(4)?, 0)? as usize };
        self.skip_chars(usize::from(chars), flags)?;
        self.skip(runs.checked_add(phonetics)?)?;
        Some(chars)
    }

    /// Bytes that stand together in one record.
    fn take(&mut self, bytes: usize) -> Option<&'s [u8]> {
        let (taken, rest) = self.piece.split_at_checked(bytes)?;
        self.piece = rest;
        Some(taken)
    }

    /// Characters; where they go on in the next record, its first byte says how wide they are there.
    fn skip_chars(&mut self, mut chars: usize, mut flags: u8) -> Option<()> {
        loop {
            let width = 1 + usize::from(flags & 1);
            let here = chars.min(self.piece.len() / width);
            self.take(here * width)?;
            chars -= here;
            if chars == 0 {
                return Some(());
            }
            (flags, self.piece) = self.further.next()?.split_first().map(|(flags, rest)| (*flags, rest))?;
        }
    }

    fn skip(&mut self, mut bytes: usize) -> Option<()> {
        while bytes > 0 {
            if self.piece.is_empty() {
                self.piece = self.further.next()?;
            }
            let here = bytes.min(self.piece.len());
            self.take(here)?;
            bytes -= here;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    // tests may panic
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::import::{Limits, read_people};

    fn record(kind: u16, body: &[u8]) -> Vec<u8> {
        [&kind.to_le_bytes()[..], &(body.len() as u16).to_le_bytes(), body].concat()
    }

    fn words(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    const BOF: [u16; 4] = [0x0600, 5, 0, 0];
    const TITLES: [&str; 6] = ["name", "id_type", "id_number", "staff_number", "category", "campus"];

    /// A shared text; of what is beyond the end of a record the rest stands in the next.
    fn shared(texts: &[&str]) -> Vec<u8> {
        let text = |text: &&str| [&words(&[text.len() as u16])[..], &[0], text.as_bytes()].concat();
        [&[0; 8][..], &texts.iter().flat_map(text).collect::<Vec<u8>>()].concat()
    }

    /// A workbook: shared texts (a record each piece), records of its sheet, and how often the sheet is named.
    fn workbook(texts: &[Vec<u8>], cells: &[Vec<u8>], sheets: usize) -> Vec<u8> {
        let mut globals = record(kind::BOF, &words(&BOF));
        let mut places = Vec::new();
        for n in 0..sheets {
            places.push(globals.len() + 4);
            let name = format!("s{n:04}");
            let body = [&[0, 0, 0, 0, 0, 0, 5, 0][..], name.as_bytes()].concat();
            globals.extend(record(kind::BOUND_SHEET, &body));
        }
        for (n, piece) in texts.iter().enumerate() {
            globals.extend(record(if n == 0 { kind::SHARED_TEXTS } else { kind::CONTINUE }, piece));
        }
        globals.extend(record(kind::EOF, &[]));
        let at = globals.len() as u32;
        places.iter().for_each(|place| globals[*place..*place + 4].copy_from_slice(&at.to_le_bytes()));
        let sheet = [record(kind::BOF, &words(&[0x0600, 0x10, 0, 0])), cells.concat(), record(kind::EOF, &[])];
        compound::around("Workbook", &[globals, sheet.concat()].concat())
    }

    fn cell(row: u16, column: u16, text: u16) -> Vec<u8> {
        record(kind::SHARED_LABEL, &words(&[row, column, 0, text, 0]))
    }

    fn titles() -> Vec<Vec<u8>> {
        (0..6).map(|n| cell(0, n, n)).collect()
    }

    fn person() -> Vec<Vec<u8>> {
        (0..6).map(|n| cell(1, n, 6 + n)).collect()
    }

    fn texts() -> Vec<u8> {
        shared(&[&TITLES[..], &["Ann", "passport", "E1", "0001", "employee", "East"]].concat())
    }

    fn read(file: &[u8]) -> Result<usize, FileError> {
        read_people("people.xls", file, &Limits::default()).map(|sheet| sheet.rows.len() - sheet.error_rows())
    }

    /// Rows ORG-3.
    #[test]
    fn the_first_sheet_is_read_and_nothing_else_of_the_file() {
        let cells = [titles(), person()].concat();
        assert_eq!(read(&workbook(&[texts()], &cells, 1)), Ok(1));
        // Texts in two records, cut inside one; a formula; a chart with cells of its own; many names of one sheet.
        let all = texts();
        let (first, second) = all.split_at(40);
        let pieces = [first.to_vec(), [&[0], second].concat()];
        let formula = record(kind::FORMULA, &[&words(&[2, 9, 0])[..], &[0; 14], &[0xff, 0xff, 9, 9]].concat());
        let chart = [record(kind::BOF, &words(&[0x0600, 0x20])), cell(9, 9, 0), record(kind::EOF, &[])].concat();
        let cells = [titles(), vec![formula, chart], person()].concat();
        assert_eq!(read(&workbook(&pieces, &cells, 250)), Ok(1));
        let cut = read(&workbook(&[first.to_vec()], &cells, 1));
        assert_eq!(cut, Err(damaged("shared texts that are cut off")));
    }

    /// Each of these kilobytes would take gigabytes, or for ever.
    #[test]
    fn what_would_take_all_memory_is_refused_or_left_out() {
        let cells = [titles(), person()].concat();
        // A sheet says of itself that it is immense: nobody asks it.
        let dimensions = record(0x0200, &[&[0; 4][..], &[0xff; 4], &[0, 0, 0xff, 0xff, 0, 0]].concat());
        assert_eq!(read(&workbook(&[texts()], &[vec![dimensions], cells.clone()].concat(), 1)), Ok(1));
        // Cells far apart.
        let far = read(&workbook(&[texts()], &[cells.clone(), vec![cell(65_535, 255, 0)]].concat(), 1));
        assert!(matches!(far, Err(FileError::Damaged { .. })), "{far:?}");
        let row_of_many = record(kind::MUL_RK, &[&words(&[60_000, 0])[..], &[0; 600], &words(&[99])].concat());
        let far = read(&workbook(&[texts()], &[cells.clone(), vec![row_of_many]].concat(), 1));
        assert!(matches!(far, Err(FileError::Damaged { .. })), "{far:?}");
        // One long text, and thousands of cells that name it.
        let long = "x".repeat(60_000);
        let further = [shared(&[]), shared(&[&long])[8..].to_vec()];
        let named: Vec<Vec<u8>> = (0..2_000).map(|row| cell(row, 0, 0)).collect();
        let copied = read(&workbook(&further, &named, 1));
        assert!(matches!(&copied, Err(FileError::Damaged { what }) if what.contains("characters")), "{copied:?}");
    }
}

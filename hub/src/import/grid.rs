//! From bytes to raw cells: `.xlsx` streamed cell by cell, `.xls`, and CSV in the encodings that offices send.
//!
//! Leaves to others: what the cells mean (`columns`, `validate`).

use super::{FileError, Format, Limits, guard, xls};
use calamine::{Data, DataRef, ExcelDateTime, Reader, Xls, Xlsx};
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use time::{Date, Month};

/// A cell as it stood in the file.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Raw {
    Empty,
    Text(String),
    Number(f64),
    Bool(bool),
    Day(Date),
    /// A formula that no program has computed yet.
    NoValue,
    /// A formula that failed, for instance `#REF!`.
    Fault(String),
    /// A text above the limit; its first characters.
    TooLong(String),
}

impl Raw {
    pub(crate) fn is_blank(&self) -> bool {
        match self {
            Raw::Empty => true,
            Raw::Text(text) => text.trim().is_empty(),
            _ => false,
        }
    }

    /// The cell as a person sees it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Raw::Empty => String::new(),
            Raw::Text(text) | Raw::Fault(text) | Raw::TooLong(text) => text.clone(),
            Raw::Number(number) if number.abs() >= 1e15 => format!("{number:E}"),
            Raw::Number(number) => number.to_string(),
            Raw::Bool(value) => if *value { "TRUE" } else { "FALSE" }.into(),
            Raw::Day(day) => day.to_string(),
            Raw::NoValue => "=…".into(),
        }
    }

    fn text(text: &str, chars_max: usize) -> Raw {
        match text.char_indices().nth(chars_max) {
            None => Raw::Text(text.to_owned()),
            Some((end, _)) => Raw::TooLong(text.get(..end).unwrap_or_default().to_owned()),
        }
    }

    fn day(value: &ExcelDateTime) -> Raw {
        let (year, month, day, ..) = value.to_ymd_hms_milli();
        let date = Month::try_from(month).ok().and_then(|m| Date::from_calendar_date(i32::from(year), m, day).ok());
        match date {
            Some(date) if value.is_datetime() => Raw::Day(date),
            _ => Raw::Number(value.as_f64()),
        }
    }

    fn from_ref(value: &DataRef<'_>, chars_max: usize) -> Raw {
        match value {
            DataRef::Empty => Raw::Empty,
            DataRef::Int(number) => Raw::Number(*number as f64),
            DataRef::Float(number) => Raw::Number(*number),
            DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
                Raw::text(text, chars_max)
            }
            DataRef::SharedString(text) => Raw::text(text, chars_max),
            DataRef::Bool(value) => Raw::Bool(*value),
            DataRef::DateTime(value) => Raw::day(value),
            DataRef::Error(fault) => Raw::Fault(fault.to_string()),
        }
    }

    fn from_data(value: &Data, chars_max: usize) -> Raw {
        match value {
            Data::Empty => Raw::Empty,
            Data::Int(number) => Raw::Number(*number as f64),
            Data::Float(number) => Raw::Number(*number),
            Data::String(text) | Data::DateTimeIso(text) | Data::DurationIso(text) => Raw::text(text, chars_max),
            Data::Bool(value) => Raw::Bool(*value),
            Data::DateTime(value) => Raw::day(value),
            Data::Error(fault) => Raw::Fault(fault.to_string()),
        }
    }
}

type OnRow<'a> = dyn FnMut(u32, &[Raw]) -> Result<(), FileError> + 'a;

/// Hands every row that has cells to `on_row`, with its line counted from 1.
pub(crate) fn each_row(name: &str, bytes: &[u8], limits: &Limits, on_row: &mut OnRow<'_>) -> Result<Format, FileError> {
    if bytes.len() > limits.file_bytes_max {
        return Err(FileError::TooLarge { bytes: bytes.len(), bytes_max: limits.file_bytes_max });
    }
    if bytes.is_empty() {
        return Err(FileError::Empty);
    }
    let name = name.to_lowercase();
    if bytes.starts_with(b"PK") {
        guard::check_archive(bytes, limits.inflated_bytes_max)?;
        contained(|| xlsx_rows(bytes, limits, on_row))?;
        return Ok(Format::Xlsx);
    }
    if bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
        let copy = xls::plain_copy(bytes)?;
        contained(|| xls_rows(&copy, limits, on_row))?;
        return Ok(Format::Xls);
    }
    if name.ends_with(".xlsx") || name.ends_with(".xls") {
        return Err(FileError::Damaged { what: "the first bytes are not those of a workbook".into() });
    }
    csv_rows(bytes, limits, on_row)
}

/// Runs the spreadsheet reader so that a fault of its own on a crafted file is a refusal, not the end of the process.
fn contained(read: impl FnOnce() -> Result<(), FileError>) -> Result<(), FileError> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(FileError::Damaged { what: "the reader could not make sense of it".into() }))
}

fn damaged(error: impl std::fmt::Display) -> FileError {
    FileError::Damaged { what: super::validate::shorten(&error.to_string()) }
}

fn xlsx_rows(bytes: &[u8], limits: &Limits, on_row: &mut OnRow<'_>) -> Result<(), FileError> {
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(damaged)?;
    let name = book.sheet_names().first().cloned().ok_or_else(|| damaged("no sheet inside"))?;
    let mut cells = book.worksheet_cells_reader(&name).map_err(damaged)?;
    let mut line = 0;
    let mut row: Vec<Raw> = Vec::new();
    while let Some(cell) = cells.next_cell_with_formula_metadata().map_err(damaged)? {
        let (cell_row, cell_column) = (cell.pos.0, cell.pos.1 as usize);
        let cell_line = cell_row.saturating_add(1);
        if cell_line < line {
            return Err(damaged("rows out of order"));
        }
        if cell_line > line {
            if line > 0 {
                on_row(line, &row)?;
            }
            row.clear();
            line = cell_line;
        }
        let mut raw = Raw::from_ref(&cell.value, limits.cell_chars_max);
        if cell.formula.is_some() && raw == Raw::Empty {
            raw = Raw::NoValue;
        }
        if raw == Raw::Empty {
            continue;
        }
        if cell_column >= limits.columns_max {
            return Err(FileError::TooManyColumns { line, columns_max: limits.columns_max });
        }
        if row.len() <= cell_column {
            row.resize(cell_column + 1, Raw::Empty);
        }
        if let Some(slot) = row.get_mut(cell_column) {
            *slot = raw;
        }
    }
    if line > 0 {
        on_row(line, &row)?;
    }
    Ok(())
}

fn xls_rows(bytes: &[u8], limits: &Limits, on_row: &mut OnRow<'_>) -> Result<(), FileError> {
    let mut book: Xls<_> = Xls::new(Cursor::new(bytes)).map_err(damaged)?;
    let name = book.sheet_names().first().cloned().ok_or_else(|| damaged("no sheet inside"))?;
    let range = book.worksheet_range(&name).map_err(damaged)?;
    let Some((first_row, first_column)) = range.start() else {
        return Ok(());
    };
    for (offset, data) in range.rows().enumerate() {
        let line = first_row.saturating_add(offset as u32).saturating_add(1);
        let mut row = vec![Raw::Empty; first_column as usize];
        row.extend(data.iter().map(|value| Raw::from_data(value, limits.cell_chars_max)));
        while row.last().is_some_and(Raw::is_blank) {
            row.pop();
        }
        if row.len() > limits.columns_max {
            return Err(FileError::TooManyColumns { line, columns_max: limits.columns_max });
        }
        on_row(line, &row)?;
    }
    Ok(())
}

fn csv_rows(bytes: &[u8], limits: &Limits, on_row: &mut OnRow<'_>) -> Result<Format, FileError> {
    let (text, encoding) = decode(bytes)?;
    let delimiter = delimiter_of(&text);
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    let mut lines = Lines { text: &text, at: 0, line: 1 };
    loop {
        let more = reader.read_record(&mut record).map_err(|e| FileError::Csv {
            line: e.position().map_or(0, |p| u64::from(lines.of(p.byte()))),
            what: super::validate::shorten(&e.to_string()),
        })?;
        if !more {
            break;
        }
        let line = record.position().map_or(0, |p| lines.of(p.byte()));
        let used = record
            .iter()
            .enumerate()
            .filter(|(_, cell)| !cell.trim().is_empty())
            .last()
            .map_or(0, |(last, _)| last + 1);
        if used > limits.columns_max {
            return Err(FileError::TooManyColumns { line, columns_max: limits.columns_max });
        }
        let row: Vec<Raw> = record.iter().take(used).map(|cell| Raw::text(cell, limits.cell_chars_max)).collect();
        on_row(line, &row)?;
    }
    Ok(Format::Csv { encoding, delimiter: char::from(delimiter) })
}

/// Lines of a text as an editor counts them, from 1. The reader's own count is of line feeds before it has eaten what
/// ends a record, and knows no lone carriage return.
struct Lines<'t> {
    text: &'t str,
    at: usize,
    line: u32,
}

impl Lines<'_> {
    /// The line on which a record begins; `byte` may lie before the ends of the lines in front of it, and never lies
    /// before the one asked for last.
    fn of(&mut self, byte: u64) -> u32 {
        let bytes = self.text.as_bytes();
        let mut to = usize::try_from(byte).unwrap_or(bytes.len()).min(bytes.len());
        while matches!(bytes.get(to), Some(b'\r' | b'\n')) {
            to += 1;
        }
        for (at, byte) in bytes.iter().enumerate().take(to).skip(self.at) {
            let ends = *byte == b'\n' || (*byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
            self.line = self.line.saturating_add(u32::from(ends));
        }
        self.at = self.at.max(to);
        self.line
    }
}

/// Text of a CSV file: by its mark if it has one, else UTF-8 if it is, else GB18030 if it is.
fn decode(bytes: &[u8]) -> Result<(std::borrow::Cow<'_, str>, &'static str), FileError> {
    use encoding_rs::{Encoding, GB18030, UTF_8};
    let (encoding, start) = match Encoding::for_bom(bytes) {
        Some((encoding, length)) => (encoding, length),
        None if std::str::from_utf8(bytes).is_ok() => (UTF_8, 0),
        None => (GB18030, 0),
    };
    let body = bytes.get(start..).unwrap_or_default();
    let text = encoding.decode_without_bom_handling_and_without_replacement(body).ok_or(FileError::Encoding)?;
    if text.contains('\0') {
        return Err(FileError::UnknownFormat);
    }
    if text.trim().is_empty() {
        return Err(FileError::Empty);
    }
    Ok((text, encoding.name()))
}

/// The separator seen most often in the first lines, outside quotation marks.
fn delimiter_of(text: &str) -> u8 {
    const LOOK_BYTES: usize = 4096;
    let mut counts = [(b',', 0_u32), (b';', 0), (b'\t', 0)];
    let mut quoted = false;
    for byte in text.bytes().take(LOOK_BYTES) {
        if byte == b'"' {
            quoted = !quoted;
        }
        for (delimiter, count) in &mut counts {
            *count += u32::from(!quoted && byte == *delimiter);
        }
    }
    // The comma wins a draw, so that one column of text is read as such.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(delimiter, _)| delimiter)
}

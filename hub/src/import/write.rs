//! Writing workbooks: template, error workbook, export. Every cell is text, so no zero is lost and nothing is computed.
//!
//! Leaves to others: who may download them.

use super::columns::{Column, REASON_TITLES};
use super::record::{Category, IdType, LONG_TERM, Lang, PersonRecord, Sex};
use super::validate::{CellError, Row};
use rust_xlsxwriter::{Color, Format, Workbook, Worksheet, XlsxError};
use time::{Date, Month};

/// A workbook that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the workbook cannot be written; fewer rows may help")]
pub struct WriteError(#[from] XlsxError);

/// Width of every column, in characters.
const COLUMN_WIDTH_CHARS: f64 = 20.0;
/// Rows of the template that are formatted as text ahead of their filling come from the column format.
const TEXT_FORMAT: &str = "@";

/// An empty file to fill in: header, one invented person of the first of the campuses (number and name), and a sheet of
/// notes.
///
/// # Errors
/// [`WriteError`] if the workbook cannot be assembled.
pub fn template_xlsx(lang: Lang, campuses: &[(String, String)]) -> Result<Vec<u8>, WriteError> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.set_name(lang.pick("人员", "people"))?;
    header(sheet, lang)?;
    for (place, text) in record_cells(&example(campuses), lang).iter().enumerate() {
        sheet.write_string(1, place as u16, text)?;
    }
    let notes = book.add_worksheet();
    notes.set_name(lang.pick("说明", "notes"))?;
    notes.set_column_width(0, 100)?;
    for (line, text) in notes_lines(lang, campuses).iter().enumerate() {
        notes.write_string(line as u32, 0, text)?;
    }
    Ok(book.save_to_buffer()?)
}

/// The refused rows in the form of the template, each with its reasons in a red last column.
///
/// # Errors
/// [`WriteError`] if the workbook cannot be assembled.
pub fn error_xlsx(rows: &[Row], lang: Lang) -> Result<Vec<u8>, WriteError> {
    let refused = rows.iter().filter_map(|row| Some((row.cells.clone(), reasons(row.record.as_ref().err()?, lang))));
    refused_xlsx(refused, lang)
}

/// What is wrong with a row, and how to mend it.
fn reasons(errors: &[CellError], lang: Lang) -> String {
    errors.iter().map(|e| reason(e, lang)).collect::<Vec<_>>().join("; ")
}

/// What is wrong with a cell, and how to mend it.
pub(crate) fn reason(error: &CellError, lang: Lang) -> String {
    format!("{}: {} → {}", error.column_name(lang), error.message(lang), error.mend(lang))
}

/// Rows in the form of the template, each with the words why it was refused in a red last column.
///
/// # Errors
/// [`WriteError`] if the workbook cannot be assembled.
pub(crate) fn refused_xlsx(
    rows: impl IntoIterator<Item = (Vec<String>, String)>,
    lang: Lang,
) -> Result<Vec<u8>, WriteError> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    header(sheet, lang)?;
    let red = Format::new().set_font_color(Color::Red).set_bold();
    let reason_place = Column::ALL.len() as u16;
    let [zh, en] = REASON_TITLES;
    sheet.set_column_width(reason_place, 80)?;
    sheet.write_string_with_format(0, reason_place, lang.pick(zh, en), &red)?;
    for (index, (cells, words)) in rows.into_iter().enumerate() {
        let line = index as u32 + 1;
        write_cells(sheet, line, &cells)?;
        sheet.write_string_with_format(line, reason_place, words, &red)?;
    }
    Ok(book.save_to_buffer()?)
}

/// People in the form of the template, so that the file can be read back.
///
/// # Errors
/// [`WriteError`] if the workbook cannot be assembled.
pub fn export_xlsx<'a>(rows: impl IntoIterator<Item = &'a PersonRecord>, lang: Lang) -> Result<Vec<u8>, WriteError> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    header(sheet, lang)?;
    for (index, record) in rows.into_iter().enumerate() {
        write_cells(sheet, index as u32 + 1, &record_cells(record, lang))?;
    }
    Ok(book.save_to_buffer()?)
}

/// Cells of a record as text, in the order of [`Column::ALL`].
pub(crate) fn record_cells(record: &PersonRecord, lang: Lang) -> Vec<String> {
    let day = |day: Option<Date>| match day {
        None => String::new(),
        Some(LONG_TERM) => "长期".into(),
        Some(day) => day.to_string(),
    };
    vec![
        record.name.clone(),
        record.pinyin.clone(),
        record.sex.map(|sex| sex.word(lang).to_owned()).unwrap_or_default(),
        record.id_type.word(lang).into(),
        record.id_number.clone(),
        record.contact.clone(),
        day(record.id_valid_from),
        day(record.id_valid_until),
        record.department.clone(),
        record.department_code.clone(),
        record.staff_number.clone(),
        record.category.word(lang).into(),
        record.campus.clone(),
        record.card_number.map(|number| number.to_string()).unwrap_or_default(),
        record.card_uid.clone(),
        record.photo.clone(),
    ]
}

fn header(sheet: &mut Worksheet, lang: Lang) -> Result<(), XlsxError> {
    let text = Format::new().set_num_format(TEXT_FORMAT);
    let bold = Format::new().set_bold().set_num_format(TEXT_FORMAT);
    for (place, column) in Column::ALL.into_iter().enumerate() {
        let place = place as u16;
        sheet.set_column_width(place, COLUMN_WIDTH_CHARS)?;
        sheet.set_column_format(place, &text)?;
        let star = if column.required() { "*" } else { "" };
        sheet.write_string_with_format(0, place, format!("{}{star}", column.title(lang)), &bold)?;
    }
    sheet.set_freeze_panes(1, 0)?;
    Ok(())
}

/// Writes cells as text. One that a program could take for a formula is marked yellow.
fn write_cells(sheet: &mut Worksheet, line: u32, cells: &[String]) -> Result<(), XlsxError> {
    let text = Format::new().set_num_format(TEXT_FORMAT);
    for (place, cell) in cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
        if cell.starts_with(['=', '+', '@']) {
            let marked = text.clone().set_background_color(Color::Yellow);
            sheet.write_string_with_format(line, place as u16, cell, &marked)?;
        } else {
            sheet.write_string_with_format(line, place as u16, cell, &text)?;
        }
    }
    Ok(())
}

/// The name of the template's example: who imports the template unchanged, or fills in below it, adds nobody by it.
pub(super) const EXAMPLE_NAME: &str = "张三（示例）";

/// An invented person; area code 999999 is never assigned.
fn example(campuses: &[(String, String)]) -> PersonRecord {
    PersonRecord {
        name: EXAMPLE_NAME.into(),
        pinyin: "zhang san".into(),
        sex: Some(Sex::Male),
        id_type: IdType::ResidentId,
        id_number: super::demo::resident_number("19900307", 1),
        contact: "13800000000".into(),
        id_valid_from: Date::from_calendar_date(2020, Month::January, 1).ok(),
        id_valid_until: Some(LONG_TERM),
        department: "后勤部".into(),
        department_code: "0101".into(),
        staff_number: "000123".into(),
        category: Category::Employee,
        campus: campuses.first().map_or_else(|| "c1".to_owned(), |(code, _)| code.clone()),
        card_number: Some(10_000_001),
        card_uid: "04A1B2C3".into(),
        photo: "000123.jpg".into(),
    }
}

fn notes_lines(lang: Lang, campuses: &[(String, String)]) -> Vec<String> {
    let named: Vec<String> = campuses.iter().map(|(code, name)| format!("{code} {name}")).collect();
    let campuses = match named.is_empty() {
        true => lang.pick("还没有园区，请先添加", "there is none yet, add one first").to_owned(),
        false => named.join(lang.pick("、", ", ")),
    };
    let words = |list: Vec<&str>| list.join(lang.pick("、", ", "));
    let required: Vec<&str> = Column::ALL.into_iter().filter(|c| c.required()).map(|c| c.title(lang)).collect();
    vec![
        lang.pick(
            "示例行“张三（示例）”导入时自动跳过，不会登记。",
            "The example row 张三（示例） is skipped by the import; nobody is registered by it.",
        )
        .into(),
        format!("{}{}", lang.pick("必填列（带 *）：", "Required (marked *): "), words(required)),
        format!("{}{}", lang.pick("证件类型：", "id_type: "), words(IdType::ALL.iter().map(|v| v.word(lang)).collect())),
        format!("{}{}", lang.pick("身份类别：", "category: "), words(Category::ALL.iter().map(|v| v.word(lang)).collect())),
        format!("{}{}", lang.pick("性别：", "sex: "), words(Sex::ALL.iter().map(|v| v.word(lang)).collect())),
        format!("{}{campuses}", lang.pick("园区（填编号或名称）：", "campus (its number or its name): ")),
        lang.pick(
            "证件号码、工号、卡号列必须是“文本”格式，否则前导零和 15 位以后的数字会丢失。",
            "ID, staff and card columns must be formatted as text, or leading zeros and digits after the 15th are lost.",
        )
        .into(),
        lang.pick("日期写成 2026-01-31；长期有效写“长期”。", "Dates: 2026-01-31; no end: 长期 or long-term.").into(),
        lang.pick("重复导入同一文件不会产生重复人员；空单元格保留原值。", "Importing a file twice makes no duplicates; empty cells keep what is known.").into(),
    ]
}

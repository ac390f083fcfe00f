//! Judging rows: normalising, checking every cell, saying how to mend.
//!
//! Leaves to others: reading files (`grid`), rows against each other (`across`), comparing with the registry (`plan`).

use super::columns::{Column, Header, column_letters};
use super::grid::Raw;
use super::record::{
    Category, IdType, LONG_TERM, Lang, NaturalKey, PersonRecord, ResidentIdFault, Sex, check_resident_id, mask_id,
};
use super::{WARNINGS_MAX, Warning};
use time::{Date, Duration, Month};
use yika_crdt::docs::act::NAME_BYTES_MAX;

/// Longest piece of a cell shown in a message, in characters.
const SHOWN_CHARS_MAX: usize = 24;
/// From this magnitude on a spreadsheet keeps 15 digits only and loses the rest.
const EXACT_NUMBER_MAX: f64 = 1e15;

/// One row of a file.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// Line in the file, counted from 1.
    pub line: u32,
    /// The person, or everything that is wrong with the row.
    pub record: Result<PersonRecord, Vec<CellError>>,
    /// Cells as they stood, in the order of [`Column::ALL`]; empty unless the row is refused. Not masked: for the
    /// error workbook of the person who sent the file only.
    pub cells: Vec<String>,
    /// Of a refused row, what of it can be compared all the same.
    pub sound: Keys,
}

impl Row {
    /// What the row is compared by with others and with the registry.
    pub fn keys(&self) -> Keys {
        self.record.as_ref().map_or_else(|_| self.sound.clone(), Keys::of)
    }
}

/// What a row is compared by with others and with the registry; empty where its cell is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keys {
    /// Kind and number of the identity document.
    pub identity: Option<NaturalKey>,
    /// Home campus, as written.
    pub campus: String,
    /// Staff number.
    pub staff_number: String,
    /// Card number.
    pub card_number: Option<u64>,
    /// Chip number.
    pub card_uid: String,
}

impl Keys {
    /// Those of a good row.
    pub fn of(record: &PersonRecord) -> Keys {
        Keys {
            identity: Some(record.natural_key()),
            campus: record.campus.clone(),
            staff_number: record.staff_number.clone(),
            card_number: record.card_number,
            card_uid: record.card_uid.clone(),
        }
    }
}

/// What is wrong with one cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CellError {
    /// Line in the file, counted from 1.
    pub line: u32,
    /// Letters of the column in the file; empty if the file lacks it.
    pub letters: String,
    /// Its title in the file; empty if the file lacks it.
    pub title: String,
    /// Column of the template.
    pub column: Column,
    /// The value, shortened, identity numbers masked.
    pub value: String,
    /// What is wrong.
    pub problem: Problem,
}

impl CellError {
    /// What is wrong, in words.
    pub fn message(&self, lang: Lang) -> String {
        self.problem.words(self.column, lang).0
    }

    /// How to mend it, in words.
    pub fn mend(&self, lang: Lang) -> String {
        self.problem.words(self.column, lang).1
    }

    /// Column as shown to a person, for instance `E 证件号码`: as the file calls it, else as the template does.
    pub fn column_name(&self, lang: Lang) -> String {
        let title = if self.title.is_empty() { self.column.title(lang) } else { &self.title };
        format!("{} {title}", self.letters).trim().to_owned()
    }
}

/// Which value stands twice in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DuplicateOf {
    /// Kind and number of the identity document.
    Identity,
    /// Staff number within one campus.
    StaffNumber,
    /// Card number.
    CardNumber,
    /// Chip number.
    CardUid,
}

/// Closed list of what can be wrong with a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // `words` says each in two languages.
pub enum Problem {
    Required,
    TooLong {
        chars_max: usize,
    },
    ControlCharacter,
    /// More digits than a spreadsheet number holds.
    DigitsLost,
    /// A number where leading zeros may have been lost.
    NumberNotText,
    /// A staff number shorter than its zero-padded neighbours.
    ZerosLost {
        digits: usize,
    },
    FormulaWithoutValue,
    FormulaFailed,
    NotInList,
    BadIdNumber,
    ResidentId(ResidentIdFault),
    BadDate,
    DatesReversed,
    BadCardNumber,
    BadCardUid,
    BadPhotoName,
    BadKind,
    Duplicate {
        of: DuplicateOf,
        other_line: u32,
    },
}

/// How to keep a number whole in a spreadsheet.
const AS_TEXT: (&str, &str) =
    ("请先把该列格式设为“文本”，再重新输入", "format the column as text, then enter the value again");

/// What is wrong and how to mend it, in Chinese and in English.
struct Texts {
    zh: (&'static str, &'static str),
    en: (&'static str, &'static str),
}

impl Problem {
    fn words(self, column: Column, lang: Lang) -> (String, String) {
        if let Some(Texts { zh, en }) = self.of_the_cell().or_else(|| self.of_the_value()) {
            return (lang.pick(zh.0, en.0).to_owned(), lang.pick(zh.1, en.1).to_owned());
        }
        match (self, lang) {
            (Problem::TooLong { chars_max }, Lang::Zh) => (format!("超过 {chars_max} 个字符"), "请缩短".into()),
            (Problem::TooLong { chars_max }, Lang::En) => {
                (format!("longer than {chars_max} characters"), "shorten it".into())
            }
            (Problem::ZerosLost { digits }, Lang::Zh) => {
                (format!("同园区工号为 {digits} 位，前导零可能已丢失"), AS_TEXT.0.into())
            }
            (Problem::ZerosLost { digits }, Lang::En) => {
                (format!("leading zeros seem lost: other staff numbers have {digits} digits"), AS_TEXT.1.into())
            }
            (Problem::Duplicate { of, other_line }, Lang::Zh) => {
                (format!("{}与第 {other_line} 行重复", of.name(lang)), "请只保留正确的一行".into())
            }
            (Problem::Duplicate { of, other_line }, Lang::En) => {
                (format!("same {} as line {other_line}", of.name(lang)), "keep only the right line".into())
            }
            // What is left is a value that its list does not have.
            (_, Lang::Zh) => ("不在可选值中".into(), format!("可填：{}", listed(column, lang).join("、"))),
            (_, Lang::En) => {
                ("not one of the known values".into(), format!("use one of: {}", listed(column, lang).join(", ")))
            }
        }
    }

    /// What is wrong with how the spreadsheet keeps it.
    fn of_the_cell(self) -> Option<Texts> {
        let (zh, en) = match self {
            Problem::Required => (("必填", "请填写"), ("required", "fill it in")),
            Problem::ControlCharacter => (
                ("含有不可见的控制字符", "请删除后重新输入"),
                ("holds an invisible control character", "type the cell again"),
            ),
            Problem::DigitsLost => {
                (("数字位数丢失（如 1.10101E+17）", AS_TEXT.0), ("digits were lost (like 1.10101E+17)", AS_TEXT.1))
            }
            Problem::NumberNotText => (
                ("单元格是数字，前导零可能已丢失", AS_TEXT.0),
                ("the cell is a number; leading zeros may be lost", AS_TEXT.1),
            ),
            Problem::FormulaWithoutValue => (
                ("公式没有计算结果", "请“选择性粘贴”为数值后保存"),
                ("a formula without a value", "paste the value in place of the formula"),
            ),
            Problem::FormulaFailed => {
                (("公式出错", "请填写实际的值"), ("a formula that failed", "enter the value itself"))
            }
            Problem::BadKind => (("单元格类型不对", AS_TEXT.0), ("the cell has the wrong type", AS_TEXT.1)),
            _ => return None,
        };
        Some(Texts { zh, en })
    }

    /// What is wrong with what it says.
    fn of_the_value(self) -> Option<Texts> {
        const CHECK: (&str, &str) = ("请核对证件", "check the document");
        const CHECK_AS_TEXT: (&str, &str) =
            ("请核对证件，并把该列格式设为“文本”", "check the document and format the column as text");
        let (zh, en) = match self {
            Problem::BadIdNumber => (
                ("证件号码只能含字母、数字、括号和连字符", CHECK.0),
                ("only letters, digits, brackets and hyphens may stand here", CHECK.1),
            ),
            Problem::ResidentId(ResidentIdFault::Shape) => {
                (("身份证号码应为 18 位", CHECK_AS_TEXT.0), ("a resident number has 18 characters", CHECK_AS_TEXT.1))
            }
            Problem::ResidentId(ResidentIdFault::BirthDate) => {
                (("身份证号码中的出生日期不存在", CHECK.0), ("the birth date in the number does not exist", CHECK.1))
            }
            Problem::ResidentId(ResidentIdFault::CheckDigit) => {
                (("身份证号码校验位不符", CHECK_AS_TEXT.0), ("the check digit does not fit", CHECK_AS_TEXT.1))
            }
            Problem::BadDate => (
                ("不是日期", "请写成 2026-01-31；长期有效写“长期”"),
                ("not a date", "write 2026-01-31, or 长期 for no end"),
            ),
            Problem::DatesReversed => (("有效期止早于有效期起", CHECK.0), ("ends before it begins", CHECK.1)),
            Problem::BadCardNumber => {
                (("卡号应为大于零的整数", "请核对卡面"), ("not a whole number above zero", "check the card"))
            }
            Problem::BadCardUid => (
                ("物理卡号应为 4、7、8 或 10 字节的十六进制", "请用读卡器重新读取"),
                ("not 4, 7, 8 or 10 bytes in hexadecimal", "read the card again"),
            ),
            Problem::BadPhotoName => (
                ("照片只填文件名（.jpg .jpeg .png），不含文件夹", "请只写文件名"),
                ("only a file name (.jpg .jpeg .png) without a folder", "write the file name only"),
            ),
            _ => return None,
        };
        Some(Texts { zh, en })
    }
}

impl DuplicateOf {
    fn name(self, lang: Lang) -> &'static str {
        match self {
            DuplicateOf::Identity => lang.pick("证件", "identity document"),
            DuplicateOf::StaffNumber => lang.pick("工号", "staff number within the campus"),
            DuplicateOf::CardNumber => lang.pick("卡号", "card number"),
            DuplicateOf::CardUid => lang.pick("物理卡号", "chip number"),
        }
    }
}

/// The values that a column takes.
fn listed(column: Column, lang: Lang) -> Vec<&'static str> {
    match column {
        Column::Sex => Sex::ALL.iter().map(|v| v.word(lang)).collect(),
        Column::IdType => IdType::ALL.iter().map(|v| v.word(lang)).collect(),
        _ => Category::ALL.iter().map(|v| v.word(lang)).collect(),
    }
}

/// First characters of a text, fit for a message.
pub(crate) fn shorten(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    match clean.char_indices().nth(SHOWN_CHARS_MAX) {
        None => clean,
        Some((end, _)) => format!("{}…", clean.get(..end).unwrap_or_default()),
    }
}

/// Judges one row; `None` if none of its known columns holds anything.
pub(crate) fn judge(line: u32, header: &Header, cells: &[Raw], warnings: &mut Vec<Warning>) -> Option<Row> {
    let mut judge = Judge { line, header, cells, errors: Vec::new(), sound: Keys::default(), warnings };
    if Column::ALL.into_iter().all(|column| judge.raw(column).is_blank()) {
        return None;
    }
    let record = judge.record();
    let (errors, sound) = (judge.errors, judge.sound);
    Some(match record {
        Some(record) if errors.is_empty() => {
            Row { line, record: Ok(record), cells: Vec::new(), sound: Keys::default() }
        }
        _ => {
            let cells = Column::ALL.into_iter().map(|c| cell_at(header, cells, c).shown()).collect();
            Row { line, record: Err(errors), cells, sound }
        }
    })
}

fn cell_at<'a>(header: &Header, cells: &'a [Raw], column: Column) -> &'a Raw {
    header.place(column).and_then(|place| cells.get(place)).unwrap_or(&Raw::Empty)
}

struct Judge<'a> {
    line: u32,
    header: &'a Header,
    cells: &'a [Raw],
    errors: Vec<CellError>,
    sound: Keys,
    warnings: &'a mut Vec<Warning>,
}

impl<'a> Judge<'a> {
    fn raw(&self, column: Column) -> &'a Raw {
        cell_at(self.header, self.cells, column)
    }

    fn record(&mut self) -> Option<PersonRecord> {
        let name = self.text(Column::Name);
        let pinyin = self.text(Column::Pinyin);
        let sex = self.listed(Column::Sex, Sex::parse);
        let id_type = self.listed(Column::IdType, IdType::parse);
        let id_number = self.id_number(id_type);
        let contact = self.code(Column::Contact);
        let id_valid_from = self.day(Column::IdValidFrom);
        let id_valid_until = self.day(Column::IdValidUntil);
        if let (Some(from), Some(until)) = (id_valid_from, id_valid_until)
            && from > until
        {
            self.refuse(Column::IdValidUntil, Problem::DatesReversed);
        }
        let department = self.text(Column::Department);
        let department_code = self.code(Column::DepartmentCode);
        let staff_number = self.code(Column::StaffNumber);
        let category = self.listed(Column::Category, Category::parse);
        let campus = self.code(Column::Campus);
        let card_number = self.card_number();
        let card_uid = self.card_uid();
        let photo = self.photo();
        self.sound = Keys {
            identity: id_type
                .filter(|_| self.is_sound(Column::IdNumber))
                .map(|id_type| NaturalKey { id_type, id_number: id_number.clone() }),
            campus: campus.clone(),
            staff_number: staff_number.clone(),
            card_number,
            card_uid: card_uid.clone(),
        };
        Some(PersonRecord {
            name,
            pinyin,
            sex,
            id_type: id_type?,
            id_number,
            contact,
            id_valid_from,
            id_valid_until,
            department,
            department_code,
            staff_number,
            category: category?,
            campus,
            card_number,
            card_uid,
            photo,
        })
    }

    fn is_sound(&self, column: Column) -> bool {
        self.errors.iter().all(|error| error.column != column)
    }

    fn refuse(&mut self, column: Column, problem: Problem) {
        let place = self.header.place(column);
        let shown = self.raw(column).shown();
        let value = if column == Column::IdNumber { mask_id(&shorten(shown.trim())) } else { shorten(shown.trim()) };
        let letters = place.map(column_letters).unwrap_or_default();
        let title = self.header.title(column).to_owned();
        self.errors.push(CellError { line: self.line, letters, title, column, value, problem });
    }

    /// Trimmed text of a cell, or an empty one after saying why not.
    fn text(&mut self, column: Column) -> String {
        match self.try_text(column) {
            Ok(text) => {
                if text.starts_with(['=', '+', '@']) && self.warnings.len() < WARNINGS_MAX {
                    self.warnings.push(Warning::FormulaLikeText { line: self.line, column });
                }
                text
            }
            Err(problem) => {
                self.refuse(column, problem);
                String::new()
            }
        }
    }

    fn try_text(&self, column: Column) -> Result<String, Problem> {
        let text = match self.raw(column) {
            Raw::Empty => "",
            Raw::Text(text) => trim(text),
            Raw::TooLong(_) => {
                return Err(Problem::TooLong { chars_max: column.chars_max() });
            }
            Raw::NoValue => return Err(Problem::FormulaWithoutValue),
            Raw::Fault(_) => return Err(Problem::FormulaFailed),
            Raw::Bool(_) | Raw::Day(_) => return Err(Problem::BadKind),
            Raw::Number(number) => return number_text(column, *number),
        };
        if text.is_empty() {
            return if column.required() { Err(Problem::Required) } else { Ok(String::new()) };
        }
        if text.chars().any(invisible) {
            return Err(Problem::ControlCharacter);
        }
        if text.chars().count() > column.chars_max() {
            return Err(Problem::TooLong { chars_max: column.chars_max() });
        }
        // What goes into documents is bounded in bytes, of which a character takes up to four.
        if column == Column::Name && text.len() > NAME_BYTES_MAX {
            let fits = text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= NAME_BYTES_MAX);
            return Err(Problem::TooLong { chars_max: fits.count() });
        }
        let number_like = matches!(
            column,
            Column::IdNumber
                | Column::StaffNumber
                | Column::CardNumber
                | Column::CardUid
                | Column::Contact
                | Column::DepartmentCode
        );
        if number_like && scientific(&half_width(text)) {
            return Err(Problem::DigitsLost);
        }
        Ok(text.to_owned())
    }

    /// Text in which full-width letters and digits become plain ones.
    fn code(&mut self, column: Column) -> String {
        half_width(&self.text(column))
    }

    fn listed<T>(&mut self, column: Column, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let before = self.errors.len();
        let text = self.code(column);
        if text.is_empty() || self.errors.len() > before {
            return None;
        }
        let value = parse(&text);
        if value.is_none() {
            self.refuse(column, Problem::NotInList);
        }
        value
    }

    fn id_number(&mut self, id_type: Option<IdType>) -> String {
        let number: String = self.code(Column::IdNumber).chars().filter(|c| !c.is_whitespace()).collect();
        let number = number.trim_start_matches('\'').to_ascii_uppercase();
        if number.is_empty() {
            return number;
        }
        if !number.chars().all(|c| c.is_alphanumeric() || matches!(c, '(' | ')' | '-' | '/')) {
            self.refuse(Column::IdNumber, Problem::BadIdNumber);
        } else if id_type == Some(IdType::ResidentId)
            && let Err(fault) = check_resident_id(&number)
        {
            // A spreadsheet keeps 15 digits and writes zeros for the rest.
            let rounded = fault == ResidentIdFault::CheckDigit && number.ends_with("000");
            self.refuse(Column::IdNumber, if rounded { Problem::DigitsLost } else { Problem::ResidentId(fault) });
        }
        number
    }

    fn day(&mut self, column: Column) -> Option<Date> {
        let day = match self.raw(column) {
            Raw::Day(day) => Some(*day),
            // Small numbers are day serials; eight digits are year, month, day.
            Raw::Number(number) if *number >= 1e7 => parse_day(&number.to_string()),
            Raw::Number(number) => serial_day(*number),
            _ => {
                let before = self.errors.len();
                let text = self.code(column);
                if text.is_empty() || self.errors.len() > before {
                    return None;
                }
                if column == Column::IdValidUntil
                    && matches!(text.as_str(), "长期" | "长期有效" | "long-term" | "permanent")
                {
                    return Some(LONG_TERM);
                }
                parse_day(&text)
            }
        };
        if day.is_none() {
            self.refuse(column, Problem::BadDate);
        }
        day
    }

    fn card_number(&mut self) -> Option<u64> {
        let before = self.errors.len();
        let text = self.code(Column::CardNumber);
        if text.is_empty() || self.errors.len() > before {
            return None;
        }
        let digits = text.trim_start_matches('\'');
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        let number = digits.parse().ok().filter(|number: &u64| plain && *number != 0);
        if number.is_none() {
            self.refuse(Column::CardNumber, Problem::BadCardNumber);
        }
        number
    }

    fn card_uid(&mut self) -> String {
        let text = self.code(Column::CardUid);
        let uid: String =
            text.chars().filter(|c| !matches!(c, ':' | '-' | ' ' | '\'')).collect::<String>().to_ascii_uppercase();
        let good = matches!(uid.len(), 8 | 14 | 16 | 20) && uid.bytes().all(|b| b.is_ascii_hexdigit());
        if !text.is_empty() && !good {
            self.refuse(Column::CardUid, Problem::BadCardUid);
            return String::new();
        }
        uid
    }

    fn photo(&mut self) -> String {
        let name = self.text(Column::Photo);
        let lower = name.to_lowercase();
        let picture = [".jpg", ".jpeg", ".png"].iter().any(|end| lower.ends_with(end));
        if !name.is_empty() && (!picture || name.contains(['/', '\\', ':']) || name.starts_with('.')) {
            self.refuse(Column::Photo, Problem::BadPhotoName);
        }
        name
    }
}

/// Numbers are plain where no zero can be lost, and refused where one may have been.
fn number_text(column: Column, number: f64) -> Result<String, Problem> {
    if number.abs() >= EXACT_NUMBER_MAX || !number.is_finite() {
        return Err(Problem::DigitsLost);
    }
    match column {
        Column::IdNumber | Column::StaffNumber | Column::CardNumber | Column::CardUid => Err(Problem::NumberNotText),
        _ if number.fract() == 0.0 && number >= 0.0 => Ok(format!("{number:.0}")),
        _ => Err(Problem::BadKind),
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}' | '\u{a0}'))
}

/// Characters that a person cannot see and that change what is read: controls, direction marks, zero width.
fn invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffd}')
}

fn half_width(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\u{3000}' => ' ',
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
            other => other,
        })
        .collect()
}

/// Whether a text is a number in powers of ten as spreadsheets print it, like `1.10101E+17`.
fn scientific(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once(['E', 'e']) else {
        return false;
    };
    let Some(exponent) = exponent.strip_prefix('+') else {
        return false;
    };
    !exponent.is_empty()
        && exponent.bytes().all(|b| b.is_ascii_digit())
        && mantissa.starts_with(|c: char| c.is_ascii_digit())
        && mantissa.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Day of a spreadsheet serial of the 1900 system; serials before March 1900 are ambiguous and refused.
fn serial_day(serial: f64) -> Option<Date> {
    const FIRST: f64 = 61.0;
    const LAST: f64 = 2_958_465.0;
    if !(FIRST..=LAST).contains(&serial) {
        return None;
    }
    let origin = Date::from_calendar_date(1899, Month::December, 30).ok()?;
    origin.checked_add(Duration::days(serial.floor() as i64))
}

/// A day written as year, month, day: `2026-01-31`, `2026/1/31`, `2026.1.31`, `2026年1月31日`, `20260131`.
fn parse_day(text: &str) -> Option<Date> {
    let text = text.split([' ', 'T']).next()?;
    let parts: Vec<&str> = if text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        vec![text.get(..4)?, text.get(4..6)?, text.get(6..)?]
    } else {
        text.trim_end_matches('日').split(['-', '/', '.', '年', '月']).collect()
    };
    let [year, month, day] = parts.as_slice() else {
        return None;
    };
    if year.len() != 4 {
        return None;
    }
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    (date.year() >= 1900).then_some(date)
}

/// Key of a record, for callers that already hold one.
impl From<&PersonRecord> for NaturalKey {
    fn from(record: &PersonRecord) -> NaturalKey {
        record.natural_key()
    }
}

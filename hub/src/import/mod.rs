//! Reading people-and-cards spreadsheets (features ORG-3, ORG-4, ORG-5, ORG-7; console page H6): bytes in, result out.
//!
//! A file is read once, every row is judged by itself and against the file, and a [`Plan`] says what an import would
//! change. Nothing in a file is ever executed. Leaves to others: storing people, uploads, pages, who may import.

mod across;
mod columns;
mod compound;
mod demo;
mod grid;
mod guard;
mod plan;
mod record;
mod validate;
mod write;
mod xls;

pub use columns::{COLUMN_COUNT, Column, HEADER_SEARCH_ROWS_MAX, Header, column_letters};
pub use demo::{demo_people, demo_records};
pub use plan::{Change, Existing, Plan, Planned, RowErrors, plan};
pub use record::{
    Category, IdType, LONG_TERM, Lang, NaturalKey, PersonRecord, ResidentIdFault, Sex, check_resident_id, mask_id,
    resident_check_digit,
};
pub use validate::{CellError, DuplicateOf, Keys, Problem, Row};
pub use write::{WriteError, error_xlsx, export_xlsx, template_xlsx};
pub(crate) use write::{reason, record_cells, refused_xlsx};

use grid::Raw;

/// Largest file accepted.
pub const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most people in one file.
pub const FILE_ROWS_MAX: usize = 200_000;
/// Most columns in one file.
pub const FILE_COLUMNS_MAX: usize = 64;
/// Longest text of one cell before it is looked at, in characters.
pub const CELL_CHARS_MAX: usize = 512;
/// Most bytes that an `.xlsx` may unfold to.
pub const INFLATED_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Most memory that what is kept of refused rows may take: their cells, and a word on each that is wrong.
pub const REFUSED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What a word on a cell takes, about.
const CELL_ERROR_BYTES: usize = 192;

/// Hard limits of a read. What lies above is refused before it costs memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Largest file, in bytes.
    pub file_bytes_max: usize,
    /// Most rows below the header.
    pub rows_max: usize,
    /// Most columns.
    pub columns_max: usize,
    /// Longest cell, in characters.
    pub cell_chars_max: usize,
    /// Most bytes an archive may unfold to.
    pub inflated_bytes_max: u64,
    /// Most memory for what is kept of refused rows.
    pub refused_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            file_bytes_max: FILE_BYTES_MAX,
            rows_max: FILE_ROWS_MAX,
            columns_max: FILE_COLUMNS_MAX,
            cell_chars_max: CELL_CHARS_MAX,
            inflated_bytes_max: INFLATED_BYTES_MAX,
            refused_bytes_max: REFUSED_BYTES_MAX,
        }
    }
}

/// What a file turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Office Open XML workbook.
    Xlsx,
    /// Excel 97–2003 workbook.
    Xls,
    /// Text with separators.
    Csv {
        /// Name of the encoding (`UTF-8`, `gb18030`, `UTF-16LE`, `UTF-16BE`).
        encoding: &'static str,
        /// Separator: comma, semicolon or tab.
        delimiter: char,
    },
}

/// A file that was read. Its rows may still be refused one by one.
#[derive(Clone, PartialEq, Debug)]
pub struct Sheet {
    /// What the file was.
    pub format: Format,
    /// Where each column stands.
    pub header: Header,
    /// Rows below the header that are not empty, in file order.
    pub rows: Vec<Row>,
    /// What a person should know though it does not stop the import.
    pub warnings: Vec<Warning>,
}

impl Sheet {
    /// Number of rows that were refused.
    pub fn error_rows(&self) -> usize {
        self.rows.iter().filter(|row| row.record.is_err()).count()
    }
}

/// Most warnings kept of one file.
pub const WARNINGS_MAX: usize = 1_000;

/// Something odd that does not stop an import.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Warning {
    /// A column that is not in the template; its cells are skipped.
    UnknownColumn {
        /// Letters of the column.
        letters: String,
        /// Its title, shortened.
        title: String,
    },
    /// The template's example; skipped.
    ExampleRow {
        /// Line of the row.
        line: u32,
    },
    /// A text that a spreadsheet program might run as a formula; kept as text, marked in what is written out.
    FormulaLikeText {
        /// Line of the cell.
        line: u32,
        /// Column of the cell.
        column: Column,
    },
}

impl Warning {
    /// The warning in words.
    pub fn message(&self, lang: Lang) -> String {
        match (self, lang) {
            (Warning::UnknownColumn { letters, title }, Lang::Zh) => {
                format!("{letters} 列“{title}”不在模板中，已忽略")
            }
            (Warning::UnknownColumn { letters, title }, Lang::En) => {
                format!("column {letters} \"{title}\" is not in the template and is skipped")
            }
            (Warning::ExampleRow { line }, Lang::Zh) => format!("第 {line} 行是模板的示例，已跳过"),
            (Warning::ExampleRow { line }, Lang::En) => format!("line {line} is the template's example and is skipped"),
            (Warning::FormulaLikeText { line, column }, Lang::Zh) => {
                format!("第 {line} 行“{}”以 = + @ 开头，按文本保存，不会计算", column.title(lang))
            }
            (Warning::FormulaLikeText { line, column }, Lang::En) => {
                format!("line {line}, {}: starts with = + or @; kept as text, never computed", column.title(lang))
            }
        }
    }
}

/// Why a whole file was refused. Nothing of it is used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)] // The message of each variant says what its fields are.
pub enum FileError {
    #[error("the file has {bytes} bytes, the limit is {bytes_max}; split it into smaller files")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("the file is empty; fill in the template and send it again")]
    Empty,
    #[error("the file is neither .xlsx, .xls nor .csv text; save it in one of these forms")]
    UnknownFormat,
    #[error("the workbook unfolds to more than {bytes_max} bytes; copy the rows into a fresh template")]
    Bomb { bytes_max: u64 },
    #[error("the workbook is damaged or not finished ({what}); open it, save it again and send it again")]
    Damaged { what: String },
    #[error("the workbook is protected by a password; save it without one")]
    Encrypted,
    #[error("the text is neither UTF-8 nor GB18030; save it as CSV UTF-8 or as .xlsx")]
    Encoding,
    #[error("line {line} of the CSV cannot be read ({what}); check its quotation marks")]
    Csv { line: u64, what: String },
    #[error("the file has more than {rows_max} rows; split it into smaller files")]
    TooManyRows { rows_max: usize },
    #[error("line {line} has more than {columns_max} columns; delete the columns that are not in the template")]
    TooManyColumns { line: u32, columns_max: usize },
    #[error("line {line} is the header and lacks {}; found: {}; use the template", titles(.missing), .found.join(", "))]
    MissingColumns { missing: Vec<Column>, found: Vec<String>, line: u32 },
    #[error("columns {first} and {second} are both {}; delete one", .column.title(Lang::En))]
    DuplicateColumn { column: Column, first: String, second: String },
    #[error("the file has a header but no rows; fill it in and send it again")]
    NoRows,
    #[error(
        "what is wrong with its rows takes more than {bytes_max} bytes to tell; split it, or mend what is wrong throughout"
    )]
    TooMuchRefused { bytes_max: usize },
    #[error("the file has no row but the template's example, which is nobody; fill it in and send it again")]
    OnlyExample,
}

impl FileError {
    /// The refusal in words of this language (English is what `Display` prints).
    pub fn message(&self, lang: Lang) -> String {
        if lang == Lang::En {
            return self.to_string();
        }
        match self {
            FileError::TooLarge { bytes, bytes_max } => {
                format!("文件有 {bytes} 字节，超过上限 {bytes_max}；请拆成几个文件")
            }
            FileError::Empty => "文件是空的；请填写模板后重新上传".into(),
            FileError::UnknownFormat => "文件不是 .xlsx、.xls 或 .csv；请另存为其中一种格式".into(),
            FileError::Bomb { bytes_max } => {
                format!("工作簿解压后超过 {bytes_max} 字节；请把数据复制到新的模板中")
            }
            FileError::Damaged { what } => {
                format!("工作簿已损坏或不完整（{what}）；请打开后重新保存再上传")
            }
            FileError::Encrypted => "工作簿有密码保护；请去掉密码后保存".into(),
            FileError::Encoding => "文本既不是 UTF-8 也不是 GB18030；请另存为 CSV UTF-8 或 .xlsx".into(),
            FileError::Csv { line, what } => {
                format!("CSV 第 {line} 行无法读取（{what}）；请检查引号")
            }
            FileError::TooManyRows { rows_max } => format!("超过 {rows_max} 行；请拆成几个文件"),
            FileError::TooManyColumns { line, columns_max } => {
                format!("第 {line} 行超过 {columns_max} 列；请删除模板以外的列")
            }
            FileError::MissingColumns { missing, found, line } => {
                let names: Vec<_> = missing.iter().map(|c| c.title(lang)).collect();
                format!("表头（第 {line} 行）缺少列：{}；找到的列：{}；请使用模板", names.join("、"), found.join("、"))
            }
            FileError::DuplicateColumn { column, first, second } => {
                format!("{first} 列和 {second} 列都是“{}”；请删除其中一列", column.title(lang))
            }
            FileError::NoRows => "只有表头，没有数据行；请填写后重新上传".into(),
            FileError::TooMuchRefused { bytes_max } => {
                format!("各行的错误信息超过 {bytes_max} 字节；请拆成几个文件，或先改正整列的错误")
            }
            FileError::OnlyExample => "只有模板的示例行，没有人员；请填写后重新上传".into(),
        }
    }
}

fn titles(columns: &[Column]) -> String {
    let titles: Vec<String> =
        columns.iter().map(|c| format!("{} ({})", c.title(Lang::Zh), c.title(Lang::En))).collect();
    titles.join(", ")
}

/// Reads a people-and-cards file. `name` only helps where the bytes do not tell; the content decides.
///
/// # Errors
/// A [`FileError`] when no row of the file can be trusted; errors of single rows are in [`Row::record`].
pub fn read_people(name: &str, bytes: &[u8], limits: &Limits) -> Result<Sheet, FileError> {
    let mut reading = Reading {
        limits,
        header: None,
        early: Vec::new(),
        rows: Vec::new(),
        warnings: Vec::new(),
        has_example: false,
        refused_bytes: 0,
    };
    let format = grid::each_row(name, bytes, limits, &mut |line, cells| reading.row(line, cells))?;
    reading.finish(format)
}

/// State while rows come in: the header is looked for first, then every row is judged.
struct Reading<'a> {
    limits: &'a Limits,
    header: Option<Header>,
    early: Vec<(u32, Vec<String>)>,
    rows: Vec<Row>,
    warnings: Vec<Warning>,
    /// The template's example was among the rows.
    has_example: bool,
    /// What is kept of refused rows, in bytes.
    refused_bytes: usize,
}

/// Whether a row is the one that the template brings along, whatever else became of it.
fn is_example(row: &Row) -> bool {
    let name = match &row.record {
        Ok(record) => Some(record.name.as_str()),
        Err(_) => row.cells.first().map(|name| name.trim()),
    };
    name == Some(write::EXAMPLE_NAME)
}

impl Reading<'_> {
    fn row(&mut self, line: u32, cells: &[Raw]) -> Result<(), FileError> {
        if cells.iter().all(Raw::is_blank) {
            return Ok(());
        }
        let Some(header) = &self.header else {
            return self.early_row(line, cells);
        };
        if self.rows.len() >= self.limits.rows_max {
            return Err(FileError::TooManyRows { rows_max: self.limits.rows_max });
        }
        match validate::judge(line, header, cells, &mut self.warnings) {
            Some(row) if is_example(&row) => {
                self.has_example = true;
                if self.warnings.len() < WARNINGS_MAX {
                    self.warnings.push(Warning::ExampleRow { line });
                }
            }
            Some(row) => self.keep(row)?,
            None => {}
        }
        Ok(())
    }

    /// A text that many cells share is kept for each of them where their rows are refused, so it is counted.
    fn keep(&mut self, row: Row) -> Result<(), FileError> {
        if let Err(errors) = &row.record {
            self.refused_bytes += row.cells.iter().map(String::len).sum::<usize>() + errors.len() * CELL_ERROR_BYTES;
        }
        if self.refused_bytes > self.limits.refused_bytes_max {
            return Err(FileError::TooMuchRefused { bytes_max: self.limits.refused_bytes_max });
        }
        self.rows.push(row);
        Ok(())
    }

    fn early_row(&mut self, line: u32, cells: &[Raw]) -> Result<(), FileError> {
        let texts: Vec<String> = cells.iter().map(Raw::shown).collect();
        if Header::matches(&texts) {
            let (header, warnings) = Header::read(line, &texts)?;
            self.header = Some(header);
            self.warnings = warnings;
            return Ok(());
        }
        self.early.push((line, texts));
        if self.early.len() >= HEADER_SEARCH_ROWS_MAX {
            return Err(self.no_header());
        }
        Ok(())
    }

    /// No row looked like a header: the first one is reported as if it were.
    fn no_header(&self) -> FileError {
        let Some((line, texts)) = self.early.first() else {
            return FileError::Empty;
        };
        Header::read(*line, texts).err().unwrap_or(FileError::Empty)
    }

    fn finish(mut self, format: Format) -> Result<Sheet, FileError> {
        let Some(header) = self.header.take() else {
            return Err(self.no_header());
        };
        if self.rows.is_empty() {
            return Err(if self.has_example { FileError::OnlyExample } else { FileError::NoRows });
        }
        across::refuse_duplicates(&mut self.rows, &header);
        Ok(Sheet { format, header, rows: self.rows, warnings: self.warnings })
    }
}

#[cfg(test)]
mod tests;

//! Export 导出 of exactly the filter: CSV streamed page by page, or a workbook of bounded size.
//!
//! Amounts are plain yuan, texts that a spreadsheet program could run are made harmless, and the audit says who took what.

use super::shared::*;
use super::transactions::{Filter, wanted};
use crate::desk::facts;
use crate::store::transactions::{TransactionQuery, TransactionRow, transactions};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use rust_xlsxwriter::{Format, Workbook, XlsxError};
use std::sync::Arc;
use yika_crdt::Fen;
use yika_crdt::ids::*;
use yika_ui::{Saved, Ui, UiError};

/// Rows read at once.
const CHUNK_ROWS: u32 = 2_000;
/// Rows of a CSV file.
const CSV_ROWS_MAX: u64 = 2_000_000;
/// Rows of a workbook, which is put together in memory.
const XLSX_ROWS_MAX: usize = 50_000;
/// Number of columns.
const COLUMN_COUNT: usize = 14;
/// Columns, as keys of their titles.
const COLUMNS: [&str; COLUMN_COUNT] = [
    "col.time",
    "col.day",
    "col.number",
    "col.kind",
    "col.name",
    "col.staff_number",
    "col.card",
    "col.terminal",
    "col.node",
    "col.merchant",
    "col.amount",
    "col.asked",
    "col.detail",
    "col.offline",
];
/// Places of sums: what was charged, and what was refused.
const SUMS: [usize; 2] = [10, 11];

pub(super) async fn download(
    State(site): State<Arc<Site>>,
    ui: Ui,
    me: Me,
    Path(form): Path<String>,
    Query(filter): Query<Filter>,
) -> Result<Response, UiError> {
    let wanted = wanted(&site, &ui, &filter).await?;
    if !wanted.problem.is_empty() {
        return Err(UiError::Invalid(wanted.problem));
    }
    let query = TransactionQuery { before: None, limit: CHUNK_ROWS, ..wanted.query };
    let chosen = [
        ("since", &filter.from),
        ("until", &filter.to),
        ("holder", &filter.who),
        ("terminal", &filter.terminal),
        ("kind", &filter.kind),
    ];
    let detail = facts(&chosen.map(|(name, value)| (name, value.as_str())));
    let note = |object: &str| site.desk.note(&me.actor, "transactions.export", object.to_owned(), detail.clone());
    match form.as_str() {
        "csv" => {
            note("csv").await.map_err(failed)?;
            Ok(csv(site.clone(), ui, query))
        }
        "xlsx" => {
            let book = xlsx(&site, &ui, query).await?;
            note("xlsx").await.map_err(failed)?;
            let kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
            Ok(attachment(kind, "transactions.xlsx", Body::from(book)))
        }
        _ => Err(UiError::NotFound),
    }
}

/// A file for the browser to save.
pub(super) fn attachment(kind: &str, name: &str, body: Body) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    ([(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, disposition)], body).into_response()
}

/// Where a stream of rows stands.
struct Reading {
    site: Arc<Site>,
    ui: Ui,
    query: TransactionQuery,
    rows: u64,
    over: bool,
    head: bool,
}

fn csv(site: Arc<Site>, ui: Ui, query: TransactionQuery) -> Response {
    let start = Reading { site, ui, query, rows: 0, over: false, head: true };
    let chunks = stream::try_unfold(start, |mut reading| async move {
        if reading.over {
            return Ok::<_, std::io::Error>(None);
        }
        let text = reading.chunk().await.map_err(std::io::Error::other)?;
        Ok(Some((text, reading)))
    });
    attachment("text/csv; charset=utf-8", "transactions.csv", Body::from_stream(chunks))
}

impl Reading {
    async fn chunk(&mut self) -> Result<Vec<u8>, String> {
        let query = self.query.clone();
        let rows =
            self.site.desk.node.query(move |conn| transactions(conn, &query)).await.map_err(|e| e.to_string())?;
        // The mark tells spreadsheet programs that the text is UTF-8.
        let mut out = if self.head { "\u{feff}".as_bytes().to_vec() } else { Vec::new() };
        let mut writer = csv::Writer::from_writer(&mut out);
        let failed = |e: csv::Error| e.to_string();
        if self.head {
            writer.write_record(titles(&self.ui)).map_err(failed)?;
            self.head = false;
        }
        for row in &rows {
            writer.write_record(cells(&self.site, &self.ui, row)).map_err(failed)?;
        }
        writer.flush().map_err(|e| e.to_string())?;
        drop(writer);
        self.rows += rows.len() as u64;
        self.query.before = rows.last().map(TransactionRow::cursor);
        self.over = rows.len() < CHUNK_ROWS as usize || self.rows >= CSV_ROWS_MAX;
        Ok(out)
    }
}

async fn xlsx(site: &Arc<Site>, ui: &Ui, mut query: TransactionQuery) -> Result<Vec<u8>, UiError> {
    let mut table: Vec<[String; COLUMN_COUNT]> = Vec::new();
    loop {
        let page = query.clone();
        let rows = site.desk.node.query(move |conn| transactions(conn, &page)).await.map_err(busy)?;
        table.extend(rows.iter().map(|row| cells(site, ui, row)));
        if table.len() > XLSX_ROWS_MAX {
            let most = count(XLSX_ROWS_MAX as u64);
            return Err(UiError::Invalid(ui.t_args("export.too_many", &[("n", &most)])));
        }
        match rows.last() {
            Some(last) if rows.len() == CHUNK_ROWS as usize => query.before = Some(last.cursor()),
            _ => break,
        }
    }
    let titles = titles(ui);
    let made = tokio::task::spawn_blocking(move || workbook(&titles, &table)).await;
    let made = made.map_err(|e| UiError::internal(e, Saved::Nothing))?;
    made.map_err(|e| UiError::internal(e, Saved::Nothing))
}

fn workbook(titles: &[String; COLUMN_COUNT], table: &[[String; COLUMN_COUNT]]) -> Result<Vec<u8>, XlsxError> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    let (bold, money) = (Format::new().set_bold(), Format::new().set_num_format("#,##0.00"));
    for (column, title) in titles.iter().enumerate() {
        sheet.write_string_with_format(0, column as u16, title, &bold)?;
        sheet.set_column_width(column as u16, 18)?;
    }
    sheet.set_freeze_panes(1, 0)?;
    for (row, cells) in table.iter().enumerate() {
        for (column, cell) in cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
            let (row, column) = (row as u32 + 1, column as u16);
            // A workbook knows only this kind of number; two decimals of a sale are exact in it.
            match cell.parse::<f64>() {
                Ok(yuan) if SUMS.contains(&usize::from(column)) => {
                    sheet.write_number_with_format(row, column, yuan, &money)?;
                }
                _ => _ = sheet.write_string(row, column, cell)?,
            }
        }
    }
    book.save_to_buffer()
}

fn titles(ui: &Ui) -> [String; COLUMN_COUNT] {
    COLUMNS.map(|key| ui.t(key).to_owned())
}

fn cells(site: &Site, ui: &Ui, row: &TransactionRow) -> [String; COLUMN_COUNT] {
    let registry = site.desk.node.registry();
    let id = PurchaseId { terminal: TerminalId(row.terminal), boot: row.boot, seq: row.serial };
    [
        ui.time_text(row.place.at_ms),
        Day(row.day).to_string(),
        id.to_string(),
        ui.t(&format!("kind.{}", row.kind)).to_owned(),
        harmless(row.name.clone().unwrap_or_default()),
        harmless(row.staff_number.clone().unwrap_or_default()),
        row.card.map(|c| c.to_string()).unwrap_or_default(),
        harmless(terminal_name(&registry, id.terminal)),
        harmless(node_name(ui, &registry, NodeId(row.place.node))),
        if row.merchant == 0 { String::new() } else { MerchantId(row.merchant).to_string() },
        if row.kind == "refusal" { String::new() } else { Fen(row.total).to_string() },
        row.asked.map(|sum| Fen(sum).to_string()).unwrap_or_default(),
        match row.kind.as_str() {
            "refusal" => reason_words(ui, &row.detail),
            "sale" => ui.t(&format!("mode.{}", row.detail)).to_owned(),
            _ => String::new(),
        },
        if row.offline { ui.t("word.yes").to_owned() } else { String::new() },
    ]
}

/// A text that a spreadsheet program could take for a formula begins with a quotation mark.
fn harmless(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

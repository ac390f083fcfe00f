//! Spreadsheets of the size that headquarters takes, 50 MB and more: an honest one is read, a bomb is refused, and neither
//! needs more memory than is stated here.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::fmt::Write as _;
use std::io::{Cursor, Write};
use yika_hub::import::{FileError, Limits, read_people};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

const MIB: u64 = 1 << 20;
/// What such a file has at least.
const FILE_BYTES: usize = 50_000_000;
const ROWS: u32 = 150_000;
/// What a table of shared text unfolds to.
const SHARED_BYTES: usize = 256 << 20;
/// What one sheet of a bomb unfolds to.
const SHEET_BYTES: usize = 32 << 20;
/// Most memory that reading an honest file takes beside the file itself: its rows, judged.
const HONEST_BYTES_MAX: u64 = 384 * MIB;
/// Most memory that refusing a bomb takes beside the file itself.
const BOMB_BYTES_MAX: u64 = 32 * MIB;

/// The most memory of this process since the last call of [`forget_peak`], in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn forget_peak() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak()
}

/// Text that does not fold, so that the file is as large as what is in it.
fn noise(seed: &mut u64, chars: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(chars);
    for _ in 0..chars {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        text.push(char::from(DIGITS[(*seed >> 32) as usize % DIGITS.len()]));
    }
    text
}

fn row(sheet: &mut String, line: u32, cells: &[&str]) {
    write!(sheet, "<row r=\"{line}\">").unwrap();
    for (column, cell) in ('A'..).zip(cells) {
        write!(sheet, "<c r=\"{column}{line}\" t=\"inlineStr\"><is><t>{cell}</t></is></c>").unwrap();
    }
    sheet.push_str("</row>");
}

fn fast() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).compression_level(Some(1))
}

/// A workbook of one sheet, whose rows are written by `rows`.
fn workbook(rows: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut out = ZipWriter::new(Cursor::new(Vec::new()));
    let mut part = |name: &str, text: &str| {
        out.start_file(name, fast()).unwrap();
        out.write_all(text.as_bytes()).unwrap();
    };
    part(
        "[Content_Types].xml",
        r#"<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>"#,
    );
    part(
        "_rels/.rels",
        r#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#,
    );
    part(
        "xl/workbook.xml",
        r#"<?xml version="1.0"?><workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="a" sheetId="1" r:id="rId1"/></sheets></workbook>"#,
    );
    part(
        "xl/_rels/workbook.xml.rels",
        r#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#,
    );
    rows(&mut out);
    out.finish().unwrap().into_inner()
}

/// Many people, each with a remark that nobody asked for.
fn honest() -> Vec<u8> {
    workbook(|out| {
        out.start_file("xl/worksheets/sheet1.xml", fast()).unwrap();
        let mut sheet = String::from(
            r#"<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>"#,
        );
        row(&mut sheet, 1, &["姓名", "证件类型", "证件号码", "工号", "身份类别", "园区", "备注"]);
        let mut seed = 0x9e37_79b9_7f4a_7c15;
        for line in 2..ROWS + 2 {
            let (id, staff) = (format!("E{line:07}"), format!("{line:06}"));
            let remark = noise(&mut seed, 300);
            row(&mut sheet, line, &["测试员", "护照", &id, &staff, "员工", "A", &remark]);
            if sheet.len() > 1 << 20 {
                out.write_all(sheet.as_bytes()).unwrap();
                sheet.clear();
            }
        }
        sheet.push_str("</sheetData></worksheet>");
        out.write_all(sheet.as_bytes()).unwrap();
    })
}

/// One sheet of nothing, many times over: 50 MB that unfold to 50 GB.
fn bomb() -> Vec<u8> {
    let one = {
        let mut out = ZipWriter::new(Cursor::new(Vec::new()));
        out.start_file("sheet", fast().compression_level(Some(6))).unwrap();
        let nothing = vec![b' '; 1 << 20];
        (0..SHEET_BYTES >> 20).for_each(|_| out.write_all(&nothing).unwrap());
        out.finish().unwrap().into_inner()
    };
    let mut one = ZipArchive::new(Cursor::new(one)).unwrap();
    let folded = one.by_index_raw(0).unwrap().compressed_size() as usize;
    workbook(|out| {
        for number in 1..=FILE_BYTES / folded + 1 {
            let sheet = one.by_index_raw(0).unwrap();
            out.raw_copy_file_rename(sheet, format!("xl/worksheets/sheet{number}.xml")).unwrap();
        }
    })
}

/// One table of shared text, which the spreadsheet reader would hold in memory whole, beside a picture.
fn wordy() -> Vec<u8> {
    workbook(|out| {
        out.start_file("xl/sharedStrings.xml", fast().compression_level(Some(6))).unwrap();
        out.write_all(br#"<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">"#).unwrap();
        let words = format!("<si><t>{}</t></si>", "x".repeat(400)).repeat(2_500);
        (0..SHARED_BYTES / words.len()).for_each(|_| out.write_all(words.as_bytes()).unwrap());
        out.write_all(b"</sst>").unwrap();
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        out.start_file("xl/media/image1.png", stored).unwrap();
        let picture = noise(&mut 7, 1 << 20);
        (0..FILE_BYTES / picture.len() + 1).for_each(|_| out.write_all(picture.as_bytes()).unwrap());
    })
}

/// The same bomb, and every sheet claims to be small.
fn lying(mut bomb: Vec<u8>) -> Vec<u8> {
    let claimed = (SHEET_BYTES as u32).to_le_bytes();
    let places: Vec<usize> = bomb.windows(4).enumerate().filter(|(_, at)| **at == claimed).map(|(at, _)| at).collect();
    assert!(places.len() > 100, "{}", places.len());
    places.into_iter().for_each(|at| bomb[at..at + 4].copy_from_slice(&10_u32.to_le_bytes()));
    bomb
}

#[test]
fn fifty_megabytes_are_read_or_refused_within_a_bound_of_memory() {
    let file = honest();
    let limits = Limits::default();
    assert!(file.len() > FILE_BYTES && file.len() < limits.file_bytes_max, "{} bytes", file.len());
    let before = forget_peak();
    let sheet = read_people("people.xlsx", &file, &limits).unwrap();
    let taken = peak() - before;
    assert_eq!((sheet.rows.len(), sheet.error_rows()), (ROWS as usize, 0));
    assert!(taken < HONEST_BYTES_MAX, "{} MiB for {} rows", taken / MIB, sheet.rows.len());
    drop((sheet, file));

    let honest_bomb = bomb();
    for file in [wordy(), lying(honest_bomb.clone()), honest_bomb] {
        assert!(file.len() >= FILE_BYTES && file.len() < limits.file_bytes_max, "{} bytes", file.len());
        let before = forget_peak();
        let refused = read_people("people.xlsx", &file, &limits).unwrap_err();
        let taken = peak() - before;
        assert!(matches!(refused, FileError::Bomb { .. } | FileError::Damaged { .. }), "{refused:?}");
        assert!(taken < BOMB_BYTES_MAX, "{} MiB to refuse a bomb", taken / MIB);
    }
}

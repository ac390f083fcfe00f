//! Spreadsheets of people: what offices send, and what nobody would.

use crate::target::{Seen, Target, refused, taken};
use std::io::{Cursor, Write};
use yika_hub::import::{
    FileError, Lang, Limits, PersonRecord, demo_records, error_xlsx, export_xlsx, plan, read_people, template_xlsx,
};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Rows, judged, of files of these lengths; headquarters states more for larger ones.
const MEMORY_BYTES_MAX: usize = 64 << 20;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "sheet-csv",
        about: "people as text with separators, in the encodings that offices use",
        input_bytes_max: 64 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: |bytes| people("people.csv", bytes),
        seeds: texts,
    },
    Target {
        name: "sheet-xls",
        about: "people as a workbook of Excel 97",
        input_bytes_max: 48 << 10,
        // Two cells far apart make a rectangle of as many cells as a sheet may span.
        memory_bytes_max: 256 << 20,
        run: |bytes| people("people.xls", bytes),
        seeds: Vec::new,
    },
    Target {
        name: "sheet-xlsx",
        about: "people as a workbook, its archive altered",
        input_bytes_max: 64 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: |bytes| people("people.xlsx", bytes),
        seeds: || vec![workbook(), template_xlsx(Lang::Zh, &[]).unwrap_or_default()],
    },
    Target {
        name: "sheet-parts",
        about: "people as a workbook, the texts of its parts altered",
        input_bytes_max: 64 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: |bytes| people("people.xlsx", &assembled(bytes)),
        seeds: || vec![taken_apart(&workbook()), taken_apart(&template_xlsx(Lang::En, &[]).unwrap_or_default())],
    },
];

/// Limits that are reached by inputs of this size.
fn limits() -> Limits {
    Limits { rows_max: 200, columns_max: 64, inflated_bytes_max: 4 << 20, ..Limits::default() }
}

fn people(name: &str, bytes: &[u8]) -> Seen {
    let sheet = match read_people(name, bytes, &limits()) {
        Err(error) => {
            let _ = (error.message(Lang::Zh), error.message(Lang::En));
            return refused(&error);
        }
        Ok(sheet) => sheet,
    };
    let (mut lines, mut good) = (0, Vec::new());
    for row in &sheet.rows {
        assert!(row.line > lines, "lines go up");
        lines = row.line;
        match &row.record {
            Ok(record) => good.push(record.clone()),
            Err(errors) => assert!(!errors.is_empty(), "a row is refused for nothing"),
        }
    }
    comes_back(&good);
    let first = plan(|_| None, &sheet.rows);
    assert_eq!(first.new.len(), good.len(), "a good row is nobody");
    let errors = match error_xlsx(&sheet.rows, Lang::Zh) {
        Err(error) => panic!("what is wrong is written down: {error:?}"),
        Ok(bytes) => read_people("errors.xlsx", &bytes, &Limits::default()),
    };
    let wrong = sheet.error_rows();
    match errors {
        Ok(again) => assert!(again.rows.len() <= wrong, "more rows come back than were refused"),
        Err(FileError::NoRows | FileError::OnlyExample) => {}
        Err(error) => panic!("the workbook of what is wrong is not read: {error}"),
    }
    for warning in &sheet.warnings {
        assert!(!warning.message(Lang::Zh).is_empty() && !warning.message(Lang::En).is_empty());
    }
    let wrong = sheet.rows.iter().filter_map(|row| row.record.as_ref().err());
    let kinds: Vec<_> = wrong.flatten().map(|error| error.problem).collect();
    taken(&(sheet.format, kinds, sheet.warnings.first()))
}

/// People who were read are written and read as the same.
fn comes_back(people: &[PersonRecord]) {
    if people.is_empty() {
        return;
    }
    let written = match export_xlsx(people, Lang::Zh) {
        Ok(written) => written,
        Err(error) => panic!("people who were read are written: {error:?}"),
    };
    match read_people("again.xlsx", &written, &Limits::default()) {
        Err(error) => panic!("what was written is read: {error}"),
        Ok(again) => {
            let again: Vec<_> = again.rows.into_iter().map(|row| row.record).collect();
            let same = again.iter().map(|record| record.as_ref().ok()).eq(people.iter().map(Some));
            assert!(same, "other people come back: {people:?} {again:?}");
        }
    }
}

fn workbook() -> Vec<u8> {
    export_xlsx(&demo_records(1, &["东校区", "西校区"], 3), Lang::Zh).unwrap_or_default()
}

fn texts() -> Vec<Vec<u8>> {
    let zh = "姓名,证件类型,证件号码,工号,身份类别,园区,卡号\r\n\
              张一,护照,E10000001,00001001,员工,东校区,20000001\r\n\
              \"王, 二\",护照,E10000002,1002,外包,东校区,\r\n\
              李三,身份证,999999196501010018,00001003,员工,西校区,20000003\r\n";
    let en = "name\tid_type\tid_number\tstaff_number\tcategory\tcampus\tcard_number\tcard_uid\tid_valid_until\n\
              Ann\tpassport\tE1\t0001\temployee\tEast\t20000001\t0b3e3636\t2030-01-31\n\
              =cmd\tpassport\tE2\t0002\temployee\tEast\t1E+07\t\t长期\n";
    // The same in the encoding of Chinese offices: "姓名,证件类型,证件号码,工号,身份类别,园区" and one person.
    let gb18030: &[u8] = b"\xd0\xd5\xc3\xfb,\xd6\xa4\xbc\xfe\xc0\xe0\xd0\xcd,\xd6\xa4\xbc\xfe\xba\xc5\xc2\xeb,\
        \xb9\xa4\xba\xc5,\xc9\xed\xb7\xdd\xc0\xe0\xb1\xf0,\xd4\xb0\xc7\xf8\r\n\
        \xd5\xc5\xd2\xbb,\xbb\xa4\xd5\xd5,E10000001,00001001,\xd4\xb1\xb9\xa4,\xb6\xab\xd0\xa3\xc7\xf8\r\n";
    let wide =
        |text: &str| [&[0xff, 0xfe][..], &text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()].concat();
    vec![
        zh.into(),
        en.into(),
        gb18030.to_vec(),
        wide(zh),
        [&[0xef, 0xbb, 0xbf], zh.replace(',', ";").as_bytes()].concat(),
    ]
}

/// Parts of an archive one after the other: name, a line end, length in decimal, a line end, text.
fn taken_apart(archive: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let Ok(mut archive) = ZipArchive::new(Cursor::new(archive)) else { return out };
    for index in 0..archive.len() {
        let Ok(mut part) = archive.by_index(index) else { continue };
        let name = part.name().map(|name| name.to_string()).unwrap_or_default();
        let mut text = Vec::new();
        if std::io::copy(&mut part, &mut text).is_ok() && (name.ends_with(".xml") || name.ends_with(".rels")) {
            out.extend(format!("{name}\n{}\n", text.len()).into_bytes());
            out.extend(text);
        }
    }
    out
}

fn assembled(bytes: &[u8]) -> Vec<u8> {
    let mut out = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut rest = bytes;
    while let Some((name, after)) = line(rest) {
        let Some((length, after)) = line(after) else { break };
        let length = length.parse().unwrap_or(usize::MAX).min(after.len());
        let (text, after) = after.split_at(length);
        rest = after;
        if out.start_file(name, stored).and_then(|()| Ok(out.write_all(text)?)).is_err() {
            break;
        }
    }
    out.finish().map(Cursor::into_inner).unwrap_or_default()
}

fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

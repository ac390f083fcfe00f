//! Tests of the reader as its callers see it.

// tests may panic
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

const HEAD: &str = "姓名,证件类型,证件号码,工号,身份类别,园区,卡号";

fn csv(lines: &[&str]) -> String {
    format!("{HEAD}\n{}\n", lines.join("\n"))
}

fn read(text: &str) -> Sheet {
    read_people("a.csv", text.as_bytes(), &Limits::default()).unwrap()
}

fn problems(text: &str) -> Vec<(u32, Column, Problem)> {
    let sheet = read(text);
    let errors = sheet.rows.into_iter().filter_map(|row| row.record.err()).flatten();
    errors.map(|e| (e.line, e.column, e.problem)).collect()
}

fn id(sequence: u64) -> String {
    demo::resident_number("19900307", sequence)
}

/// Rows ORG-4.
#[test]
fn demo_people_read_back_and_a_second_import_changes_nothing() {
    let bytes = demo_people(7, &["A", "B"], 300).unwrap();
    let sheet = read_people("demo.xlsx", &bytes, &Limits::default()).unwrap();
    assert_eq!(sheet.format, Format::Xlsx);
    assert_eq!(sheet.error_rows(), 0, "{:?}", sheet.rows.iter().find(|r| r.record.is_err()));
    let records: Vec<_> = sheet.rows.iter().map(|r| r.record.clone().unwrap()).collect();
    assert_eq!(records, demo_records(7, &["A", "B"], 300));
    let first = plan(|_| None, &sheet.rows);
    assert_eq!((first.new.len(), first.changed.len(), first.same.len()), (600, 0, 0));
    let mut known: HashMap<_, _> = first.new.into_iter().map(|p| (p.record.natural_key(), p.record)).collect();
    let second = plan(|key| known.get(key).cloned(), &sheet.rows);
    assert_eq!((second.new.len(), second.changed.len(), second.same.len()), (0, 0, 600));
    known.values_mut().next().unwrap().department = "旧部门".into();
    let third = plan(|key| known.get(key).cloned(), &sheet.rows);
    assert_eq!(third.changed.len(), 1);
    assert_eq!(third.changed[0].columns, [Column::Department]);
}

/// Rows ORG-3.
#[test]
fn an_unchanged_template_adds_nobody_in_both_languages() {
    for lang in [Lang::Zh, Lang::En] {
        let template = template_xlsx(lang, &[("c7".into(), "东校区".into())]).unwrap();
        let refused = read_people("t.xlsx", &template, &Limits::default()).unwrap_err();
        assert_eq!(refused, FileError::OnlyExample);
        assert!(refused.message(lang).contains(lang.pick("示例行", "example")), "{}", refused.message(lang));
    }
}

/// The usual way to fill in a template: below its example.
#[test]
fn the_example_above_real_people_is_skipped_with_a_word() {
    let text = csv(&[
        "张三（示例）,身份证,110105194912310029,001,员工,A,10000001",
        "李四,身份证,110101199003077758,002,员工,A,10000001",
    ]);
    let sheet = read(&text);
    let names: Vec<_> = sheet.rows.iter().map(|row| row.record.as_ref().unwrap().name.as_str()).collect();
    assert_eq!(names, ["李四"], "the example's card is nobody's: {:?}", sheet.rows);
    assert_eq!(sheet.warnings, [Warning::ExampleRow { line: 2 }]);
    assert_eq!(sheet.warnings[0].message(Lang::Zh), "第 2 行是模板的示例，已跳过");
}

#[test]
fn broken_cells_are_named_with_line_and_column() {
    let text = csv(&[
        "张三,身份证,1.10101E+17,001,员工,A,1",
        "李四,身份证,110105194912310021,002,员工,A,0",
        "王五,身份证,,003,领导,A,2",
    ]);
    assert_eq!(
        problems(&text),
        [
            (2, Column::IdNumber, Problem::DigitsLost),
            (3, Column::IdNumber, Problem::ResidentId(ResidentIdFault::CheckDigit)),
            (3, Column::CardNumber, Problem::BadCardNumber),
            (4, Column::IdNumber, Problem::Required),
            (4, Column::Category, Problem::NotInList),
        ]
    );
    let sheet = read(&text);
    let errors = sheet.rows[1].record.as_ref().unwrap_err();
    assert_eq!(errors[0].value, "110*************21");
    // As the file calls it, in whatever language its sender reads.
    assert_eq!([Lang::Zh, Lang::En].map(|lang| errors[0].column_name(lang)), ["C 证件号码", "C 证件号码"]);
    let book = error_xlsx(&sheet.rows, Lang::Zh).unwrap();
    let again = read_people("e.xlsx", &book, &Limits::default()).unwrap();
    assert_eq!((again.rows.len(), again.error_rows()), (3, 3));
    assert!(again.warnings.is_empty());
}

#[test]
fn duplicates_name_both_lines() {
    let text = csv(&[
        &format!("甲,身份证,{},001,员工,A,11", id(1)),
        &format!("乙,身份证,{},002,员工,A,12", id(1)),
        &format!("丙,身份证,{},002,员工,B,12", id(3)),
    ]);
    let dup = |of, other_line| Problem::Duplicate { of, other_line };
    assert_eq!(
        problems(&text),
        [
            (2, Column::IdNumber, dup(DuplicateOf::Identity, 3)),
            (3, Column::IdNumber, dup(DuplicateOf::Identity, 2)),
            (3, Column::CardNumber, dup(DuplicateOf::CardNumber, 4)),
            (4, Column::CardNumber, dup(DuplicateOf::CardNumber, 3)),
        ]
    );
}

#[test]
fn lost_zeros_are_seen_beside_padded_neighbours() {
    let text = csv(&[&format!("甲,身份证,{},000123,员工,A,", id(1)), &format!("乙,身份证,{},124,员工,A,", id(2))]);
    assert_eq!(problems(&text), [(3, Column::StaffNumber, Problem::ZerosLost { digits: 6 })]);
}

#[test]
fn gb18030_and_every_separator_are_read() {
    let text = csv(&[&format!("𬭚　,身份证,{},００１,员工,A,", id(1))]);
    let (bytes, ..) = encoding_rs::GB18030.encode(&text);
    let sheet = read_people("a.csv", &bytes, &Limits::default()).unwrap();
    assert_eq!(sheet.format, Format::Csv { encoding: "gb18030", delimiter: ',' });
    let record = sheet.rows[0].record.as_ref().unwrap();
    assert_eq!((record.name.as_str(), record.staff_number.as_str()), ("𬭚", "001"));
    for delimiter in [';', '\t'] {
        let text = format!("\u{feff}{}", text.replace(',', &delimiter.to_string()));
        let sheet = read(&text);
        assert_eq!(sheet.format, Format::Csv { encoding: "UTF-8", delimiter });
        assert_eq!(sheet.error_rows(), 0);
    }
}

#[test]
fn lines_are_counted_as_an_editor_does_whatever_ends_them() {
    let bad = "甲,护照,E1,1,员工,";
    let rows = format!("{HEAD}\n\n{}\n{bad}\n\"乙\n丙\",护照,E2,2,员工,A\n{bad}\n", "丁,护照,E3,3,员工,A");
    let at = |text: &str| problems(text).iter().map(|(line, ..)| *line).collect::<BTreeSet<u32>>();
    let wanted = BTreeSet::from([4, 5, 7]);
    assert_eq!(at(&rows), wanted);
    assert_eq!(at(&rows.replace('\n', "\r\n")), wanted);
    assert_eq!(at(&rows.replace('\n', "\r")), wanted);
    assert_eq!(at(&format!("\u{feff}{}", rows.replace('\n', "\r\n"))), wanted);
    let (bytes, ..) = encoding_rs::GB18030.encode(&rows);
    let sheet = read_people("a.csv", &bytes, &Limits::default()).unwrap();
    let wrong = sheet.rows.iter().filter(|row| row.record.is_err()).map(|row| row.line);
    assert_eq!(wrong.collect::<BTreeSet<_>>(), wanted);
}

/// As the template says of its columns for numbers.
#[test]
fn numbers_whose_zeros_may_be_lost_are_refused_whatever_they_number() {
    let mut book = rust_xlsxwriter::Workbook::new();
    let sheet = book.add_worksheet();
    for (at, title) in HEAD.split(',').chain(["物理卡号"]).enumerate() {
        sheet.write_string(0, at as u16, title).unwrap();
    }
    for (at, text) in ["甲", "护照", "", "", "员工", "A"].into_iter().enumerate() {
        sheet.write_string(1, at as u16, text).unwrap();
    }
    for (at, number) in [(2, 7.0), (3, 12.0), (6, 123.0), (7, 456.0)] {
        sheet.write_number(1, at, number).unwrap();
    }
    let sheet = read_people("a.xlsx", &book.save_to_buffer().unwrap(), &Limits::default()).unwrap();
    let errors = sheet.rows[0].record.as_ref().unwrap_err();
    let lost: BTreeSet<&str> =
        errors.iter().filter(|e| e.problem == Problem::NumberNotText).map(|e| e.letters.as_str()).collect();
    assert_eq!(lost, BTreeSet::from(["C", "D", "G", "H"]));
}

#[test]
fn a_name_is_as_long_as_documents_take() {
    let row = |name: &str| format!("{HEAD}\n{name},护照,E1,1,员工,A\n");
    assert_eq!(problems(&row(&"长".repeat(42))), []);
    let long = (2, Column::Name, Problem::TooLong { chars_max: 42 });
    assert_eq!(problems(&row(&"长".repeat(43))), [long]);
    let rare = (2, Column::Name, Problem::TooLong { chars_max: 32 });
    assert_eq!(problems(&row(&"𠮷".repeat(33))), [rare]);
}

#[test]
fn files_that_are_none_are_refused() {
    let limits = Limits::default();
    let refusal = |name: &str, bytes: &[u8]| read_people(name, bytes, &limits).unwrap_err();
    assert_eq!(refusal("a.csv", b""), FileError::Empty);
    let error = refusal("a.csv", "姓名,性别,工号\n甲,男,1\n".as_bytes());
    assert!(error.to_string().contains("证件号码") && error.to_string().contains("性别"), "{error}");
    assert!(matches!(refusal("a.csv", format!("{HEAD},name\n").as_bytes()), FileError::DuplicateColumn { .. }));
    assert_eq!(refusal("a.csv", &[0xff; 64]), FileError::Encoding);
    let book = demo_people(1, &["A"], 50).unwrap();
    for cut in [4, book.len() / 2, book.len() - 1] {
        assert!(matches!(refusal("a.xlsx", &book[..cut]), FileError::Damaged { .. }), "{cut}");
    }
    let junk: Vec<u8> = (0..50_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(matches!(refusal("a.xlsx", &junk), FileError::Damaged { .. }));
    refusal("a.csv", &junk);
    let tight = Limits { inflated_bytes_max: 1_000, ..limits };
    assert!(matches!(read_people("a.xlsx", &book, &tight), Err(FileError::Bomb { .. })));
    let few = Limits { rows_max: 49, ..limits };
    assert_eq!(read_people("a.xlsx", &book, &few), Err(FileError::TooManyRows { rows_max: 49 }));
    let small = Limits { file_bytes_max: 100, ..limits };
    assert!(matches!(read_people("a.xlsx", &book, &small), Err(FileError::TooLarge { .. })));
}

#[test]
fn an_archive_that_lies_about_its_sizes_is_refused() {
    use std::io::Write;
    const PART_BYTES: u32 = 40 * 1024 * 1024;
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    out.start_file("xl/styles.xml", zip::write::SimpleFileOptions::default()).unwrap();
    out.write_all(&vec![b' '; PART_BYTES as usize]).unwrap();
    let mut bytes = out.finish().unwrap().into_inner();
    assert!(bytes.len() < 100_000);
    let honest = read_people("a.xlsx", &bytes, &Limits::default());
    assert!(matches!(honest, Err(FileError::Bomb { .. })), "{honest:?}");
    let size = PART_BYTES.to_le_bytes();
    let places: Vec<usize> = (0..bytes.len() - 4).filter(|at| bytes[*at..at + 4] == size).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + 4].copy_from_slice(&10_u32.to_le_bytes());
    }
    let lying = read_people("a.xlsx", &bytes, &Limits::default());
    assert!(matches!(lying, Err(FileError::Bomb { .. } | FileError::Damaged { .. })), "{lying:?}");
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), magic in 0..3_usize) {
        let head: &[u8] = [&b""[..], b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"][magic];
        let _ = read_people("x", &[head, &bytes].concat(), &Limits::default());
    }

    #[test]
    fn any_cells_never_panic_and_good_ones_come_back(cells in prop::collection::vec(any::<String>(), 7)) {
        let mut out = csv::Writer::from_writer(Vec::new());
        out.write_record(HEAD.split(',')).unwrap();
        out.write_record(&cells).unwrap();
        let bytes = out.into_inner().unwrap();
        if let Ok(sheet) = read_people("x.csv", &bytes, &Limits::default()) {
            let good: Vec<_> = sheet.rows.iter().filter_map(|r| r.record.as_ref().ok()).collect();
            let back = export_xlsx(good.iter().copied(), Lang::Zh).unwrap();
            error_xlsx(&sheet.rows, Lang::En).unwrap();
            prop_assert!(good.is_empty() || read_people("x.xlsx", &back, &Limits::default()).unwrap().error_rows() == 0);
        }
    }
}

/// Rows ORG-3.
#[test]
fn a_wrong_row_is_told_everything_that_is_wrong_with_it() {
    let text = csv(&[
        &format!("甲,身份证,{},001,员工,A,11", id(1)),
        &format!("乙,身份证,{},001,领导,A,11", id(2)),
        &format!("丙,身份证,{},03,员工,A,0", id(1)),
    ]);
    let dup = |of, other_line| Problem::Duplicate { of, other_line };
    assert_eq!(
        problems(&text),
        [
            (2, Column::IdNumber, dup(DuplicateOf::Identity, 4)),
            (2, Column::StaffNumber, dup(DuplicateOf::StaffNumber, 3)),
            (2, Column::CardNumber, dup(DuplicateOf::CardNumber, 3)),
            (3, Column::Category, Problem::NotInList),
            (3, Column::StaffNumber, dup(DuplicateOf::StaffNumber, 2)),
            (3, Column::CardNumber, dup(DuplicateOf::CardNumber, 2)),
            (4, Column::CardNumber, Problem::BadCardNumber),
            (4, Column::IdNumber, dup(DuplicateOf::Identity, 2)),
        ]
    );
}

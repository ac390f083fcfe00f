//! The spreadsheet reader against files written by openpyxl, an independent writer.
//!
//! `YIKA_TEST_PYTHON` names a Python with openpyxl (default `python3`); with `YIKA_TEST_PEERS=1` its absence fails the
//! test, otherwise the test says loudly that it was skipped.

// tests may panic
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::io::Write;
use std::process::Command;
use yika_hub::import::{Column, FileError, Lang, Limits, Problem, Sheet, demo_records, export_xlsx, read_people};

fn python() -> Option<String> {
    let python = std::env::var("YIKA_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let found = Command::new(&python).args(["-c", "import openpyxl"]).output().is_ok_and(|out| out.status.success());
    if found {
        return Some(python);
    }
    assert_ne!(std::env::var("YIKA_TEST_PEERS").as_deref(), Ok("1"), "{python} has no openpyxl; pip install openpyxl");
    // `println!` would be hidden by the test harness, which shows only the output of failed tests.
    let how = "pip install openpyxl and set YIKA_TEST_PYTHON";
    let mut console = std::io::stderr();
    writeln!(console, "SKIPPED: {python} has no openpyxl; {how}").unwrap();
    None
}

/// Runs a script that fills the sheet `s` and returns the bytes of the saved workbook.
fn written(python: &str, body: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.xlsx");
    let script = format!(
        "import sys, datetime, openpyxl\nw = openpyxl.Workbook(); s = w.active\n\
         H = ['姓名','证件类型','证件号码','工号','身份类别','园区','证件有效期起','证件有效期止','联系方式']\n\
         {body}\nw.save(sys.argv[1])\n"
    );
    let out = Command::new(python).args(["-c", &script]).arg(&path).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    std::fs::read(&path).unwrap()
}

fn read(bytes: &[u8]) -> Sheet {
    read_people("people.xlsx", bytes, &Limits::default()).unwrap()
}

#[test]
fn good_rows_dates_and_rare_characters() {
    let Some(python) = python() else { return };
    let bytes = written(
        &python,
        "s.append(['人员信息采集表']); s.append(H)\n\
         s.append(['𬭚𠮷','身份证','11010519491231002X','000123','员工','A',datetime.date(2020,2,29),43890,13800000000])\n\
         s.append(['John','护照','E00123','０００124','contractor','A','2020年3月1日','长期','a@b.c'])",
    );
    let sheet = read(&bytes);
    assert_eq!((sheet.header.line, sheet.rows.len(), sheet.error_rows()), (2, 2, 0), "{:?}", sheet.rows);
    let first = sheet.rows[0].record.as_ref().unwrap();
    assert_eq!((first.name.as_str(), first.staff_number.as_str()), ("𬭚𠮷", "000123"));
    assert_eq!(first.contact, "13800000000");
    assert_eq!(first.id_valid_from.unwrap().to_string(), "2020-02-29");
    assert_eq!(first.id_valid_until.unwrap().to_string(), "2020-02-29");
    let second = sheet.rows[1].record.as_ref().unwrap();
    assert_eq!(second.id_valid_from.unwrap().to_string(), "2020-03-01");
    assert_eq!(second.staff_number, "000124");
}

#[test]
fn formulas_and_numeric_identities_are_refused_with_their_cell() {
    let Some(python) = python() else { return };
    let bytes = written(
        &python,
        "s.append(H)\n\
         s.append(['=A1','身份证','11010519491231002X','1','员工','A'])\n\
         s.append(['乙','身份证',110105194912310021,'2','员工','A'])\n\
         s.append(['丙','护照','E3',3,'员工','A'])\n\
         s.append(['丁','护照','#REF!','4','员工','A']); s['C5'].data_type = 'e'\n\
         s['J1'] = '卡号'; s.append(['戊','护照','E5','5','员工','A',None,None,None,123])",
    );
    let sheet = read(&bytes);
    let errors = sheet.rows.iter().filter_map(|row| row.record.as_ref().err()).flatten();
    let found: Vec<_> = errors.map(|e| (e.line, e.letters.as_str(), e.column, e.problem)).collect();
    assert_eq!(
        found,
        [
            (2, "A", Column::Name, Problem::FormulaWithoutValue),
            (3, "C", Column::IdNumber, Problem::DigitsLost),
            (4, "D", Column::StaffNumber, Problem::NumberNotText),
            (5, "C", Column::IdNumber, Problem::FormulaFailed),
            (6, "J", Column::CardNumber, Problem::NumberNotText),
        ]
    );
}

#[test]
fn a_computed_formula_gives_its_plain_value() {
    let Some(python) = python() else { return };
    let bytes = written(
        &python,
        "s.append(H); s.append(['=\"张\"&\"三\"','护照','E1','1','员工','A'])\n\
         import zipfile, io\nb = io.BytesIO(); w.save(b); out = zipfile.ZipFile(sys.argv[1], 'w')\n\
         for n in (z := zipfile.ZipFile(b)).namelist():\n\
         \x20   d = z.read(n)\n\
         \x20   if n == 'xl/worksheets/sheet1.xml':\n\
         \x20       e = d.replace(b'<c r=\"A2\"><f>', b'<c r=\"A2\" t=\"str\"><f>').replace(b'</f><v />', '</f><v>张三</v>'.encode()).replace(b'</f><v></v>', '</f><v>张三</v>'.encode())\n\
         \x20       assert e != d, d\n\
         \x20       d = e\n\
         \x20   out.writestr(n, d)\n\
         out.close(); sys.exit(0)",
    );
    let sheet = read(&bytes);
    assert_eq!(sheet.rows[0].record.as_ref().unwrap().name, "张三");
}

#[test]
fn wrong_columns_name_what_is_missing() {
    let Some(python) = python() else { return };
    let bytes = written(&python, "s.append(['姓名','性别','工号','园区']); s.append(['甲','男','1','A'])");
    let error = read_people("people.xlsx", &bytes, &Limits::default()).unwrap_err();
    let FileError::MissingColumns { missing, found, .. } = error else { panic!("{error}") };
    assert_eq!(missing, [Column::IdType, Column::IdNumber, Column::Category]);
    assert_eq!(found, ["姓名", "性别", "工号", "园区"]);
}

#[test]
fn openpyxl_reads_our_export_as_text() {
    let Some(python) = python() else { return };
    let mut people = demo_records(3, &["A"], 2);
    people[0].name = "=1+1".into();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.xlsx");
    std::fs::write(&path, export_xlsx(&people, Lang::Zh).unwrap()).unwrap();
    let script = "import sys, openpyxl\ns = openpyxl.load_workbook(sys.argv[1]).active\n\
                  print('|'.join(c.data_type + ':' + c.number_format for c in s[2] if c.value is not None))\nprint(s['K2'].value)";
    let out = Command::new(python).args(["-c", script]).arg(&path).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let (types, staff) = text.trim().split_once('\n').unwrap();
    assert!(types.split('|').all(|kind| kind == "s:@"), "{types}");
    assert_eq!(staff, "000001");
}

#[test]
fn old_workbooks_of_xlwt_are_read_and_wide_ones_refused() {
    let Some(python) = python() else { return };
    let found = Command::new(&python).args(["-c", "import xlwt"]).output().unwrap().status.success();
    if !found {
        assert_ne!(std::env::var("YIKA_TEST_PEERS").as_deref(), Ok("1"), "pip install xlwt");
        let mut console = std::io::stderr();
        writeln!(console, "SKIPPED: {python} has no xlwt; pip install xlwt").unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let save = |more: &str| {
        let path = folder.path().join("people.xls");
        let script = format!(
            "import sys, xlwt\nw = xlwt.Workbook(); s = w.add_sheet('a')\n\
             R = [['姓名','证件类型','证件号码','工号','身份类别','园区'],['张三','身份证','11010519491231002X','0007','员工','A'],\
             ['李四','护照','E1',8,'员工','A']]\n\
             [s.write(y, x, v) for y, r in enumerate(R) for x, v in enumerate(r)]\n{more}\nw.save(sys.argv[1])"
        );
        let out = Command::new(&python).args(["-c", &script]).arg(&path).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        std::fs::read(&path).unwrap()
    };
    let sheet = read_people("people.xls", &save(""), &Limits::default()).unwrap();
    assert_eq!(sheet.rows[0].record.as_ref().unwrap().staff_number, "0007");
    let errors = sheet.rows[1].record.as_ref().unwrap_err();
    assert_eq!((errors[0].line, errors[0].problem), (3, Problem::NumberNotText));
    let wide = read_people("people.xls", &save("s.write(65535, 255, 'x')"), &Limits::default());
    assert!(matches!(wide, Err(FileError::Damaged { .. })), "{wide:?}");
}

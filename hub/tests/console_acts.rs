//! What operators do at the console, to its end: money once, blocks with the truth, imports that refuse in words, exports
//! that are exactly the filter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

#[path = "site/browser.rs"]
mod browser;
mod site;

use axum::http::StatusCode;
use browser::{Answer, Browser, app};
use calamine::{Data, Reader, Xlsx};
use std::collections::BTreeSet;
use std::time::Duration;
use yika_crdt::Fen;
use yika_crdt::documents::PersonChange;
use yika_crdt::entry::{BlockTarget, Body, Mode, RefusedRecord, TerminalState};
use yika_crdt::ids::*;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_crdt::reason::Reason;
use yika_hub::clock::wall_ms;
use yika_hub::core::{Command, Reply};
use yika_hub::desk::{Actor, Desk, DeskError, NewToken};
use yika_hub::import::{Lang, demo_people};
use yika_hub::refusal::Refusal;
use yika_hub::store::read::{self, AuditQuery};
use yika_hub::store::transactions::{TransactionQuery, transactions};

async fn acts(desk: &Desk, act: &str) -> Vec<read::AuditLine> {
    let query = AuditQuery { act: act.into(), limit: 500, ..AuditQuery::default() };
    desk.node.query(move |conn| read::audit(conn, &query)).await.unwrap()
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
    rest.split('"').next().unwrap()
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from).unwrap().1.split(to).next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_top_up_is_confirmed_once_and_posted_once() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 3).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "cashier").await;
    let person = site.holders[0].person;
    let base = format!("/people/{person}/top-up");
    let before = site.desk.holding(person).unwrap().total_fen;
    let form = browser.get(&base).await;
    let request = field(&form.text, "request").to_owned();
    for bad in ["", "0", "-5", "1.234", "5000.01", "1e3", "五十", "99999999999999999999"] {
        let answer = browser.post(&base, &[("amount", bad), ("request", &request)]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad:?}");
        assert!(answer.text.contains("role=\"alert\""), "{bad:?} is not explained");
        let sent = browser.post(&format!("{base}/confirm"), &[("amount", bad), ("request", &request)]).await;
        assert_eq!(sent.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad:?}");
    }
    let check = browser.post(&base, &[("amount", "88.50"), ("request", &request)]).await;
    assert!(check.text.contains("确认收款 ¥88.50"), "{}", check.text);
    assert_eq!(site.desk.holding(person).unwrap().total_fen, before, "checking posts nothing");
    let fields = [("amount", "88.50"), ("request", request.as_str())];
    let done = browser.post(&format!("{base}/confirm"), &fields).await;
    assert!(done.text.contains("充值成功"), "{}", done.text);
    let again = browser.post(&format!("{base}/confirm"), &fields).await;
    assert!(again.text.contains("此前已入账"), "{}", again.text);
    assert_eq!(site.desk.holding(person).unwrap().total_fen, before + 8_850);
    let other = browser.post(&format!("{base}/confirm"), &[("amount", "10"), ("request", &request)]).await;
    assert_eq!(other.status, StatusCode::CONFLICT, "another amount under the same number");
    let slip_at = done.text.split("/slip/").nth(1).unwrap().split('"').next().unwrap();
    assert!(again.text.contains(&format!("/slip/{slip_at}\"")), "both answers lead to the same voucher");
    let slip = browser.get(&format!("/people/{person}/slip/{slip_at}")).await;
    assert!(slip.text.contains("+88.50") && slip.text.contains("cashier") && slip.text.contains("H-000"));
    let foreign = format!("/people/{}/slip/{slip_at}", site.holders[1].person);
    assert_eq!(browser.get(&foreign).await.status, StatusCode::NOT_FOUND, "another person's voucher");
    let statement = browser.get(&format!("/people/{person}/statement")).await.text;
    let holding = site.desk.holding(person).unwrap();
    let balance = yika_crdt::Fen(holding.total_fen - holding.receivable_fen).to_string();
    let newest = statement.split("变动后余额\">").nth(1).unwrap();
    assert!(newest.starts_with(&balance), "the newest balance is {balance}: {newest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_card_is_blocked_with_the_truth_and_lifted_again() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 3).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "clerk").await;
    let holder = site.holders[0].clone();
    let (card, path) = (holder.card.to_string(), format!("/people/{}", holder.person));
    let ask = browser.get(&format!("{path}/lost?target={card}")).await.text;
    assert!(ask.contains("有 3 个节点未连接") && ask.contains("东校区 A1") && ask.contains("最多可消费"), "{ask}");
    let target = BlockTarget::Card(holder.card);
    let blocked = || site.desk.node.people.read().is_blocked(target);
    assert!(!blocked(), "asking blocks nothing");
    let fields = [("target", card.as_str()), ("reason", "lost")];
    assert_eq!(browser.post(&format!("{path}/lost"), &[("target", &card), ("reason", "x")]).await.status, 422);
    for _ in 0..2 {
        let done = browser.post(&format!("{path}/lost"), &fields).await;
        assert!(done.text.contains("挂失已生效"), "{}", done.text);
    }
    assert!(blocked());
    assert_eq!(acts(&site.desk, "card.block").await.len(), 1, "a second click writes no second block");
    assert!(browser.get("/people").await.text.contains("卡已挂失"));
    assert!(browser.get(&path).await.text.contains(&format!("卡 {card}")));
    let other = site.holders[1].card.to_string();
    let foreign = browser.post(&format!("{path}/lost"), &[("target", &other), ("reason", "lost")]).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND, "another person's card");
    browser.post(&format!("{path}/lift"), &[("target", &card)]).await;
    assert!(!blocked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_data_are_masked_until_somebody_signs_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 2).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "clerk").await;
    let path = format!("/people/{}", site.holders[0].person);
    let masked = browser.get(&path).await.text;
    assert!(masked.contains("999*************"), "{masked}");
    assert!(acts(&site.desk, "person.reveal").await.is_empty());
    let open = browser.post(&format!("{path}/reveal"), &[]).await.text;
    let digits = open.split("<dd class=\"mono\">").nth(1).unwrap();
    assert!(digits.starts_with("999") && digits[..17].bytes().all(|b| b.is_ascii_digit()), "{digits}");
    let lines = acts(&site.desk, "person.reveal").await;
    assert_eq!((lines.len(), lines[0].row.who.as_str()), (1, "clerk"));
}

/// Polls a job as its page does.
async fn settled(browser: &mut Browser, job: &str) -> String {
    for _ in 0..200 {
        let state = browser.get(&format!("{job}/state")).await.text;
        if !state.contains("every 1s") {
            return state;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the job does not settle");
}

async fn uploaded(browser: &mut Browser, name: &str, bytes: &[u8]) -> (String, String) {
    browser.get("/import").await;
    let answer = browser.upload("/import", name, bytes).await;
    let job = answer.header("hx-redirect").to_owned();
    assert!(job.starts_with("/import/"), "{}: {}", answer.status, answer.text);
    let state = settled(browser, &job).await;
    (job, state)
}

/// Rows ORG-3, ORG-4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_are_checked_applied_and_repeated_and_broken_files_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::empty(dir.path());
    site.campuses().await;
    site.operator("clerk", "clerk", None).await;
    site.operator("second", "clerk", None).await;
    let app = app(&site.desk);
    let mut browser = Browser::signed_in(&app, "clerk").await;
    browser.get("/import").await;
    for (name, words) in [("", "请先选择一个文件"), ("x.csv", "文件是空的")] {
        let empty = browser.upload("/import", name, b"").await;
        assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(empty.text.contains(words), "{}", empty.text);
    }
    let workbook = demo_people(7, &["东校区", "西校区"], 30).unwrap();
    let broken: [(&str, &[u8], &str); 5] = [
        ("photo.xlsx", b"\x89PNG\r\n\x1a\n0000", "损坏"),
        ("half.xlsx", &workbook[..workbook.len() / 2], "损坏"),
        ("columns.csv", "甲,乙\n1,2\n".as_bytes(), "缺少列"),
        ("bytes.csv", &[0x81, 0x00, 0xff, 0xfe, 0x80], ""),
        ("zip.xlsx", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", ""),
    ];
    for (name, bytes, words) in broken {
        let (job, state) = uploaded(&mut browser, name, bytes).await;
        assert!(state.contains("文件不能使用") && state.contains(words), "{name}: {state}");
        assert!(state.contains("没有保存任何内容"), "{name}");
        browser.get("/import").await;
        let applied = browser.post(&format!("{job}/apply"), &[]).await.text;
        assert!(applied.contains("文件不能使用"), "{name} was applied");
    }
    assert_eq!(site.desk.node.people.read().counts(), (0, 0));

    let mut rows = site::records(7, 30);
    rows[3].campus = "北校区".into();
    let file = yika_hub::import::export_xlsx(&rows, yika_hub::import::Lang::Zh).unwrap();
    let (job, state) = uploaded(&mut browser, "people.xlsx", &file).await;
    assert!(state.contains("导入 59 人") && state.contains("没有这个园区"), "{state}");
    assert_eq!(site.desk.node.people.read().counts(), (0, 0), "a dry run enters nobody");
    let mut other = Browser::signed_in(&app, "second").await;
    assert_eq!(other.get(&job).await.status, StatusCode::NOT_FOUND, "a file is its sender's");
    browser.get("/import").await;
    browser.post(&format!("{job}/apply"), &[]).await;
    assert!(settled(&mut browser, &job).await.contains("导入完成"));
    assert_eq!(site.desk.node.people.read().counts(), (59, 59));
    let errors = browser.get(&format!("{job}/errors.xlsx")).await;
    let sheet = sheet_of(&errors);
    assert_eq!(sheet.len(), 2, "header and the refused row");
    assert!(sheet[1].iter().any(|c| c == &rows[3].name) && sheet[1].last().unwrap().contains("没有这个园区"));
    // As every other: which column, what is wrong, what to do.
    let told = sheet[1].last().unwrap();
    let (what, mend) = told.split_once(" → ").unwrap();
    assert!(what.starts_with(|c: char| c.is_ascii_uppercase()) && what.contains(" 园区"), "{told}");
    assert!(mend.starts_with("可填：c1 "), "{told}");
    let (_, again) = uploaded(&mut browser, "people.xlsx", &file).await;
    assert!(again.contains("没有需要导入的内容"), "{again}");
    let template = sheet_of(&browser.get("/import/template.xlsx").await);
    assert!(template[0].iter().any(|title| title.contains("姓名")));
}

const HEAD: &str = "姓名,证件类型,证件号码,工号,身份类别,园区,联系方式,卡号\n";

fn sheet(rows: &str) -> Vec<u8> {
    format!("{HEAD}{rows}").into_bytes()
}

/// Where the documents and the profile have a person's home.
async fn homes(desk: &Desk, person: PersonId) -> (CampusId, CampusId) {
    let home = desk.node.people.read().holder(person).unwrap().home;
    (home, CampusId(desk.profile(&Actor::console(), person).await.unwrap().unwrap().campus))
}

/// Rows ORG-3, ORG-7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_another_campus_moves_its_person_or_is_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::empty(dir.path());
    let nowhere = site.import_as("p.csv", sheet("甲,护照,E1,w1,员工,c1,,71\n")).await;
    assert!(nowhere.rows[0].errors[0].ends_with("→ 还没有园区，请先添加"), "{nowhere:?}");
    site.campuses().await;
    site.operator("clerk", "clerk", None).await;
    site.operator("east", "clerk", Some(CampusId(1))).await;
    let (here, west) = (PersonId(1), PersonId(2));
    site.import_as("p.csv", sheet("甲,护照,E1,w1,员工,c1,,71\n乙,护照,E2,w2,员工,c2,,72\n")).await;
    let (c1, c2) = (CampusId(1), CampusId(2));
    let pulled = sheet("乙,护照,E2,w2,员工,c1,,72\n丙,护照,E3,w3,员工,c1,,73\n");
    let app = app(&site.desk);

    let mut east = Browser::signed_in(&app, "east").await;
    let (job, state) = uploaded(&mut east, "pull.csv", &pulled).await;
    assert!(state.contains("p2 属于园区 c2") && state.contains("导入 1 人"), "{state}");
    east.get("/import").await;
    east.post(&format!("{job}/apply"), &[]).await;
    assert!(settled(&mut east, &job).await.contains("导入完成"));
    assert_eq!(homes(&site.desk, west).await, (c2, c2), "who is of another campus stays there");
    assert_eq!(homes(&site.desk, PersonId(3)).await, (c1, c1), "the other rows go in");

    let mut clerk = Browser::signed_in(&app, "clerk").await;
    let (job, state) = uploaded(&mut clerk, "pull.csv", &pulled).await;
    let told = between(&state, "原园区", "</tbody>");
    assert!(state.contains("转园区") && told.contains("p2") && told.contains("西校区"), "{state}");
    assert_eq!(homes(&site.desk, west).await, (c2, c2), "a dry run moves nobody");
    clerk.get("/import").await;
    clerk.post(&format!("{job}/apply"), &[]).await;
    assert!(settled(&mut clerk, &job).await.contains("导入完成"));
    assert_eq!(homes(&site.desk, west).await, (c1, c1));
    let lines = acts(&site.desk, "people.move").await;
    assert_eq!((lines.len(), lines[0].row.who.as_str()), (1, "clerk"));
    assert_eq!((lines[0].row.object.as_str(), lines[0].row.detail.as_str()), ("p2", "from=c2; to=c1"));

    // A change of what only the profile holds writes nothing into documents.
    let report = site.import_as("p.csv", sheet("甲,护照,E1,w1,员工,c1,13800000000,71\n")).await;
    assert_eq!((report.changed, report.moved, report.refused), (1, 0, 0), "{report:?}");
    // Documents that went on without the profile are what counts.
    let moved = Command::move_person(OperatorId(1), here, c2);
    site.desk.node.call(moved).await.unwrap();
    assert_eq!(homes(&site.desk, here).await, (c2, c1));
    let report = site.import_as("p.csv", sheet("甲,护照,E1,w1,员工,c1,13900000000,71\n")).await;
    assert_eq!((report.changed, report.moved, report.moves[0].from), (0, 1, c2), "{report:?}");
    assert_eq!(homes(&site.desk, here).await, (c1, c1));
}

/// Rows ORG-3, CRD-6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_with_the_chip_of_another_person_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::empty(dir.path());
    site.campuses().await;
    let head = "姓名,证件类型,证件号码,工号,身份类别,园区,联系方式,卡号,物理卡号\n";
    let row = |rest: &str| format!("{head}{rest},04A1B2C3\n").into_bytes();
    let first = row("甲,护照,E1,w1,员工,c1,,71");
    assert_eq!(site.import_as("p.csv", first.clone()).await.refused, 0);
    let taken = site.import_as("p.csv", row("乙,护照,E2,w2,员工,c1,,72")).await;
    assert_eq!(taken.refused, 1);
    assert!(taken.rows[0].errors[0].contains("此物理卡号在另一人的卡上"), "{taken:?}");
    assert_eq!(site.import_as("p.csv", first).await.refused, 0, "its own chip is no objection");
}

/// Rows ORG-3, ORG-7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_staff_number_is_one_persons_of_a_campus_also_over_files_and_moves() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::empty(dir.path());
    site.campuses().await;
    let (c1, c2) = (CampusId(1), CampusId(2));
    let first = sheet("甲,护照,E1,w1,员工,c1,,71\n丙,护照,E3,w1,员工,c2,,73\n");
    assert_eq!(site.import_as("p.csv", first.clone()).await.refused, 0, "each campus has its own numbers");
    let taken = site.import_as("p.csv", sheet("乙,护照,E2,w1,员工,c1,,72\n戊,护照,E5,w5,员工,c1,,75\n")).await;
    assert_eq!((taken.new, taken.refused), (1, 1), "{taken:?}");
    assert!(taken.rows[0].errors[0].contains("工号: 此工号属于本园区的另一人: w1 (p1)"), "{taken:?}");
    assert_eq!(site.import_as("p.csv", first).await.same, 2, "his own number is no objection");
    let moved = site.desk.move_person(&Actor::console(), PersonId(2), c1).await.unwrap_err();
    let holder = PersonId(1);
    assert_eq!(moved, DeskError::Refused(Refusal::StaffNumberTaken { number: "w1".into(), campus: c1, holder }));
    assert_eq!(homes(&site.desk, PersonId(2)).await, (c2, c2));
    assert!(moved.to_string().contains("p1"), "{moved}");
    assert_eq!(site.import_as("p.csv", sheet("丙,护照,E3,w3,员工,c1,,73\n")).await.moved, 1);
    // Two swap theirs; who takes what somebody gives up elsewhere in the file follows him.
    let swapped = site.import_as("p.csv", sheet("甲,护照,E1,w3,员工,c1,,71\n丙,护照,E3,w1,员工,c1,,73\n")).await;
    assert_eq!((swapped.changed, swapped.refused), (2, 0), "{swapped:?}");
    let chain = sheet("甲,护照,E1,w1,员工,c1,,71\n丙,护照,E3,w5,员工,c1,,73\n");
    let stopped = site.import_as("p.csv", chain).await;
    assert_eq!((stopped.changed, stopped.refused), (0, 2), "戊 keeps w5: {stopped:?}");
    let named = site.import_as("p.csv", sheet("己,护照,E6,w6,员工,c1,,76\n庚,护照,E7,w6,员工,东校区,,77\n")).await;
    assert_eq!((named.new, named.refused), (1, 1), "{named:?}");
    assert!(named.rows[0].errors[0].contains("工号与第 2 行重复"), "{named:?}");
}

/// Row ORG-7: two clerks, in the same second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_files_at_once_one_takes_a_staff_number() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::empty(dir.path());
    site.campuses().await;
    for round in 0..8 {
        let file = |who: u32| sheet(&format!("人{who},护照,E{round}{who},w{round},员工,c1,,{round}{who}\n"));
        let (a, b) = tokio::join!(site.import_as("a.csv", file(1)), site.import_as("b.csv", file(2)));
        assert_eq!((a.new + b.new, a.refused + b.refused), (1, 1), "{round}: {a:?} {b:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_moved_on_his_page_by_headquarters_alone() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 2).await;
    let (c1, c2) = (CampusId(1), CampusId(2));
    let person = site.holders.iter().find(|h| h.campus == c2).unwrap().person;
    let app = app(&site.desk);
    let at = format!("/people/{person}/campus");
    let mut clerk = Browser::signed_in(&app, "clerk").await;
    assert!(clerk.get(&format!("/people/{person}")).await.text.contains(&format!("hx-get=\"{at}\"")));
    let form = clerk.get(&at).await.text;
    assert!(form.contains("东校区") && !form.contains("西校区"), "{form}");
    for campus in ["", "c2", "c9"] {
        let refused = clerk.post(&at, &[("campus", campus)]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{campus}: {}", refused.text);
    }
    assert_eq!(homes(&site.desk, person).await, (c2, c2));
    let done = clerk.post(&at, &[("campus", "c1")]).await;
    assert_eq!(done.header("hx-redirect"), format!("/people/{person}"), "{}", done.text);
    assert_eq!(homes(&site.desk, person).await, (c1, c1));
    let page = clerk.get(&format!("/people/{person}")).await.text;
    assert!(page.contains("人员转园区") && page.contains("来自 c2 · 到 c1"), "{page}");
    let mut east = Browser::signed_in(&app, "east").await;
    let page = east.get(&format!("/people/{person}")).await;
    assert!(page.status == StatusCode::OK && !page.text.contains("/campus\""), "{}", page.text);
    assert_eq!(east.post(&at, &[("campus", "c2")]).await.status, StatusCode::FORBIDDEN);
    let actor = Actor { campus: Some(c1), ..Actor::console() };
    let refused = site.desk.move_person(&actor, person, c2).await.unwrap_err();
    assert_eq!(refused, DeskError::Refused(Refusal::PersonElsewhere { person, campus: c1 }));
}

/// Hands one card of the rows that are still to come to somebody else.
fn take_a_card(desk: &Desk, cards: &[u64]) {
    let free = |card: &&u64| desk.node.people.read().person_of(CardNumber(**card)).is_none();
    let Some(card) = cards.iter().find(free) else { return };
    let stranger = Person {
        person: PersonId(900_000),
        home: CampusId(1),
        name: "先到".into(),
        staff_number: "s1".into(),
        category: CategoryId(1),
        status: PersonStatus::Active,
        valid: (None, None),
        cards: vec![Card { number: CardNumber(*card), uid: None, state: CardState::Active, valid_until: None }],
        id_hash: [9; 16],
    };
    let acts = vec![PersonChange::add(stranger)];
    let command = Command::People { operator: OperatorId(1), moves: Default::default(), acts };
    let done = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(desk.node.call(command)));
    assert_eq!(done.unwrap(), Reply::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_stops_half_way_says_how_far_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::empty(dir.path());
    site.campuses().await;
    let rows = site::records(7, 515);
    let file = yika_hub::import::export_xlsx(&rows, Lang::Zh).unwrap();
    let cards: Vec<u64> = rows.iter().filter_map(|row| row.card_number).collect();
    let desk = site.desk.clone();
    let taken = std::sync::Arc::new(move |_, _| take_a_card(&desk, &cards));
    let stopped = site.desk.import_people(&Actor::console(), "p.xlsx", file.clone(), false, Lang::Zh, taken).await;
    let DeskError::Refused(Refusal::Stopped { done, all, refusal }) = stopped.unwrap_err() else { panic!() };
    assert_eq!((done, all), (1_024, 1_030));
    assert!(matches!(*refusal, Refusal::Document { .. }), "{refusal}");
    assert_eq!(site.desk.node.people.read().counts(), (1_025, 1_025));
    let again = site.import(file).await;
    assert_eq!((again.new, again.same, again.refused), (5, 1_024, 1), "{again:?}");
}

fn sheet_of(answer: &Answer) -> Vec<Vec<String>> {
    let mut book: Xlsx<_> = Xlsx::new(std::io::Cursor::new(answer.bytes.to_vec())).unwrap();
    let range = book.worksheet_range_at(0).unwrap().unwrap();
    range.rows().map(|row| row.iter().map(Data::to_string).collect()).collect()
}

/// Numbers of the transactions on a page of the list.
fn numbers(text: &str) -> Vec<String> {
    let cells = text.split("<span class=\"cell-2 mono\">").skip(1);
    cells.map(|cell| cell.split('<').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_exactly_the_filter_and_pages_show_each_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 60).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "auditor").await;
    let holder = site.holders[0].clone();
    let week = "from=2020-01-01&to=2099-12-31";
    let filters = [
        week.to_owned(),
        format!("{week}&kind=sale"),
        format!("{week}&kind=refusal"),
        format!("{week}&kind=correction"),
        format!("{week}&terminal=t2"),
        format!("{week}&who={}", holder.card),
        format!("{week}&who=p{}", holder.person.0),
        format!("{week}&who=99000001"),
    ];
    let mut sizes = Vec::new();
    for filter in &filters {
        let mut shown = Vec::new();
        let mut path = format!("/transactions?{filter}");
        loop {
            let page = browser.get(&path).await;
            assert_eq!(page.status, StatusCode::OK, "{path}");
            shown.extend(numbers(&page.text));
            let Some((before, _)) = page.text.split_once("\" rel=\"next\"") else { break };
            path = before.rsplit('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
        }
        let totals = browser.get(&format!("/transactions/totals?{filter}")).await.text;
        assert!(totals.contains(&format!("共 {} 条", shown.len())) || shown.len() > 999, "{filter}: {totals}");
        let csv = browser.get(&format!("/transactions/export/csv?{filter}")).await;
        assert!(csv.bytes.starts_with("\u{feff}".as_bytes()), "no mark for Excel");
        let body = csv.text.trim_start_matches('\u{feff}').to_owned();
        let mut reader = csv::Reader::from_reader(body.as_bytes());
        let taken: Vec<String> = reader.records().map(|r| r.unwrap()[2].to_owned()).collect();
        assert_eq!(taken, shown, "{filter}");
        let distinct: BTreeSet<&String> = shown.iter().collect();
        assert_eq!(distinct.len(), shown.len(), "{filter}: a row twice");
        let book = browser.get(&format!("/transactions/export/xlsx?{filter}")).await;
        assert_eq!(sheet_of(&book).len(), shown.len() + 1, "{filter}");
        sizes.push(shown.len());
    }
    assert!(sizes[0] > 300 && sizes.iter().all(|n| *n > 0 && *n <= sizes[0]), "{sizes:?}");
    assert_eq!(sizes[0], sizes[1] + sizes[2] + sizes[3], "kinds add up");
    assert_eq!(acts(&site.desk, "transactions.export").await.len(), filters.len() * 2, "who took what is written");
    let wrong = browser.get("/transactions/export/csv?from=yesterday").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(browser.get("/transactions/export/pdf").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrected_sale_shows_its_refund_and_its_refund_leads_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 3).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "auditor").await;
    let list = browser.get("/transactions?from=2020-01-01&to=2099-12-31&kind=correction").await.text;
    let href = list.split("class=\"btn is-link\" href=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let moved = browser.get(&href).await;
    assert_eq!(moved.status, StatusCode::SEE_OTHER, "{}", moved.text);
    let detail = browser.get(moved.header("location")).await.text;
    assert!(detail.contains("部分退回") && detail.contains("纠错 -3.00") && detail.contains("主钱包"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_at_one_place_are_all_read_however_the_pages_fall() {
    let dir = tempfile::tempdir().unwrap();
    let _site = site::filled(dir.path(), 4).await;
    let conn = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    // As where a box has written two branches in the same moment, and where a refund stands at the place of its sale.
    for table in ["sales", "refunds", "refusals"] {
        conn.execute(&format!("INSERT INTO {table} SELECT * FROM {table} WHERE rowid <= 3"), []).unwrap();
    }
    conn.execute(
        "UPDATE refunds SET (at_ms, node, generation, counter, seq) =
             (SELECT at_ms, node, generation, counter, seq FROM sales WHERE rowid = 2) WHERE rowid = 1",
        [],
    )
    .unwrap();
    let all = |limit| TransactionQuery { limit, ..TransactionQuery::default() };
    let whole = transactions(&conn, &all(100_000)).unwrap();
    for limit in [1, 2, 7] {
        let mut read = Vec::new();
        let mut query = all(limit);
        loop {
            let rows = transactions(&conn, &query).unwrap();
            let Some(last) = rows.last() else { break };
            query.before = Some(last.cursor());
            read.extend(rows);
        }
        assert!(read == whole, "{} rows by pages of {limit}, {} in all", read.len(), whole.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_shows_what_was_asked_and_charges_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = site::filled(dir.path(), 3).await;
    let (card, now_ms) = (site.holders[0].card, wall_ms());
    let Body::Refused(keyed) = site.refusal(0, card, Reason::NotEnough, now_ms) else { unreachable!() };
    let modes = [Mode::Amount(Fen(1_234)), Mode::Portions { unit: Fen(350), portions: 3 }, Mode::Fixed];
    let said = modes.map(|mode| (now_ms, Body::Refused(RefusedRecord { mode, ..keyed.clone() })));
    site.say(0, said.into()).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "auditor").await;
    let list = browser.get(&format!("/transactions?kind=refusal&who={card}")).await.text;
    let asked: Vec<&str> = list.split("<td class=\"money muted\"").skip(1).map(|c| between(c, ">", "<")).collect();
    assert!(["12.34", "10.50", "定额"].iter().all(|sum| asked.contains(sum)), "{asked:?}");
    assert_eq!(list.matches("<span class=\"cell-2\">未扣款</span>").count(), asked.len(), "{list}");
    let totals = browser.get(&format!("/transactions/totals?kind=refusal&who={card}")).await.text;
    assert!(totals.contains("消费 0.00"), "{totals}");
    let csv = browser.get(&format!("/transactions/export/csv?kind=refusal&who={card}")).await.text;
    let mut reader = csv::Reader::from_reader(csv.trim_start_matches('\u{feff}').as_bytes());
    let sums: Vec<(String, String)> =
        reader.records().map(Result::unwrap).map(|r| (r[10].into(), r[11].into())).collect();
    assert!(sums.contains(&(String::new(), "12.34".into())), "{sums:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_needs_an_address_that_other_machines_can_dial() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::empty(dir.path());
    site.campuses().await;
    site.operator("chief", "admin", None).await;
    let mut desk = site.desk.clone();
    let new = NewToken { campus: CampusId(1), ttl_s: 60, replaces: None, name: None, advertised: None };
    for everywhere in ["0.0.0.0:7443", "[::]:7443"] {
        desk.advertised = everywhere.into();
        let refused = desk.create_token(&Actor::console(), new.clone()).await.unwrap_err();
        assert_eq!(refused, DeskError::Refused(Refusal::NoAdvertisedAddress { listens: everywhere.into() }));
    }
    assert!(acts(&desk, "edge.token").await.is_empty(), "nothing was made");
    let given = NewToken { advertised: Some("10.0.0.7:7443".into()), ..new.clone() };
    let made = desk.create_token(&Actor::console(), given).await.unwrap();
    assert!(made.line.starts_with("yika-join:10.0.0.7:7443/"), "{}", made.line);

    let mut chief = Browser::signed_in(&app(&desk), "chief").await;
    let fields = [("campus", "c1"), ("ttl", "30m"), ("name", "一食堂"), ("advertised", "")];
    let form = chief.get("/edges/new").await;
    assert!(form.text.contains("link.advertised"), "said before anything is filled in: {}", form.text);
    let refused = chief.post("/edges/new", &fields).await;
    assert!(refused.status == 422 && refused.text.contains("[::]:7443") && refused.text.contains("一食堂"));
    let mut fields = fields;
    fields[3].1 = "hub.example.org:7443";
    let made = chief.post("/edges/new", &fields).await.text;
    assert!(
        made.contains("--join yika-join:hub.example.org:7443/") && made.contains("--name &#39;一食堂&#39;"),
        "{made}"
    );
    desk.advertised = "10.0.0.7:7443".into();
    let bad = NewToken { name: Some("二\n食堂".into()), ..new };
    let refused = desk.create_token(&Actor::console(), bad).await.unwrap_err();
    assert!(matches!(refused, DeskError::Refused(Refusal::BadName { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_is_renamed_on_its_page_and_the_audit_says_what_it_was_called() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 2).await;
    let app = app(&site.desk);
    let mut chief = Browser::signed_in(&app, "chief").await;
    assert!(chief.get("/edges/n1").await.text.contains("hx-get=\"/edges/n1/name\""));
    let form = chief.get("/edges/n1/name").await;
    assert_eq!(field(&form.text, "name"), "东校区 A1");
    let bare = chief.post("/edges/n1/name", &[("name", " ")]).await;
    assert!(bare.status == 422 && bare.text.contains("名称须为"), "{}", bare.text);
    // The box has told a new address, of which the desk has not heard: only the name changes.
    let (writer, address) = (site.boxes[0].writer, "10.0.0.9:7443".to_owned());
    site.desk.node.call(Command::Address { writer, address: address.clone() }).await.unwrap();
    let done = chief.post("/edges/n1/name", &[("name", "一食堂")]).await;
    assert_eq!(done.header("hx-redirect"), "/edges/n1");
    assert_eq!(site.desk.node.registry().nodes[&writer].address, Some(address));
    let list = chief.get("/edges").await.text;
    assert!(list.contains("一食堂") && !list.contains("东校区 A1</a>"), "{list}");
    let audit = chief.get("/audit").await.text;
    assert!(audit.contains("节点改名") && audit.contains("原名 东校区 A1 · 名称 一食堂"), "{audit}");
    assert_eq!(chief.post("/edges/n9/name", &[("name", "x")]).await.status, StatusCode::NOT_FOUND);
    let mut east = Browser::signed_in(&app, "eastadmin").await;
    east.get("/edges").await;
    assert_eq!(east.post("/edges/n3/name", &[("name", "x")]).await.status, StatusCode::FORBIDDEN);
}

/// Rows ACS-3, ORG-3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_follow_their_categories_and_a_row_is_told_all_that_is_wrong_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::empty(dir.path());
    site.campuses().await;
    let file = |rows: &str| format!("姓名,证件类型,证件号码,工号,身份类别,园区\n{rows}").into_bytes();
    site.import_as("people.csv", file("甲,护照,E1,w1,员工,c1\n乙,护照,E2,w2,外包,c1\n")).await;
    let console = Actor::console();
    let policy = "[[groups]]\nid = 1\nname = \"教职工\"\nmember_categories = [\"员工\"]";
    let sheet = || toml::from_str(policy).unwrap();
    let changes = site.desk.apply_access(&console, CampusId(1), sheet(), false).await.unwrap();
    assert_eq!((changes.groups, changes.members_in), (1, 1));
    let shown = async || site.desk.access(&console, CampusId(1)).await.unwrap().groups[0].clone();
    assert_eq!(
        (shown().await.member_categories.unwrap(), shown().await.members.len()),
        (vec!["employee".to_owned()], 0)
    );
    site.import_as("people.csv", file("甲,护照,E1,w1,外包,c1\n乙,护照,E2,w2,员工,c1\n丙,护照,E3,w3,员工,c1\n")).await;
    let follow = acts(&site.desk, "access.follow").await;
    assert_eq!((follow.len(), follow[0].row.detail.as_str()), (1, "joined=2; left=1"));
    let again = site.desk.apply_access(&console, CampusId(1), sheet(), false).await.unwrap();
    assert_eq!(again, yika_hub::access::Changes::default());
    assert_eq!(acts(&site.desk, "access.apply").await.len(), 1, "what changes nothing leaves no line");

    let wrong = site.import_as("people.csv", file("丁,护照,E4,w4,领导,Z\n戊,护照,E5,,员工,Z\n")).await;
    assert_eq!(wrong.rows.iter().map(|row| row.errors.len()).collect::<Vec<_>>(), [2, 2], "{wrong:?}");
    assert!(wrong.rows.iter().all(|row| row.errors[1].contains("没有这个园区")), "{wrong:?}");
}

/// Rows TRM-1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_is_kept_from_its_pages() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::empty(dir.path());
    site.operator("chief", "admin", None).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "chief").await;
    browser.get("/").await;
    let campus = |name| [("campus", "1"), ("name", name), ("offset", "480"), ("cut", "03:00")];
    for (name, value) in [("cut", "25:00"), ("offset", "x"), ("name", ""), ("campus", "0")] {
        let mut fields = campus("东校区").to_vec();
        fields.iter_mut().filter(|f| f.0 == name).for_each(|f| f.1 = value);
        assert_eq!(browser.post("/campuses/edit", &fields).await.status, 422, "{name}={value}");
    }
    assert_eq!(browser.post("/campuses/edit", &campus("东校区")).await.header("hx-redirect"), "/campuses");

    let till = |outlet| [("campus", "c1"), ("kind", "till"), ("name", "1 号窗"), ("outlet", outlet), ("merchant", "1")];
    let refused = browser.post("/terminals/new", &till("")).await;
    assert!(refused.status == 422 && refused.text.contains("收银终端须填写网点和商户"), "{}", refused.text);
    let made = browser.post("/terminals/new", &till("1")).await.text;
    let namesake = browser.post("/terminals/new", &till("1")).await;
    assert!(namesake.status == 422 && namesake.text.contains("终端 t1 已叫“1 号窗”"), "{}", namesake.text);
    let door = [("campus", "c1"), ("kind", "door"), ("name", "东门"), ("door", "9")];
    let nowhere = browser.post("/terminals/new", &door).await;
    assert!(nowhere.status == 422 && nowhere.text.contains("园区 c1 没有门 d9；已有：–"), "{}", nowhere.text);
    let key = made.split("data-copy=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(key.len(), 64);
    let refused = browser.post("/terminals/new", &till("")).await.text;
    assert!(refused.contains("此园区已有：u1 m1 (1 号窗)"), "{refused}");
    assert!(browser.get("/terminals").await.text.contains("1 号网点 · 1 号商户"));
    assert!(!browser.get("/terminals").await.text.contains(&key), "the key is shown once");
    browser.post("/terminals/t1/state", &[("state", "suspended")]).await;
    assert_eq!(site.desk.node.registry().terminals[&TerminalId(1)].state, TerminalState::Suspended);

    let token = browser.post("/edges/new", &[("campus", "c1"), ("ttl", "30m")]).await.text;
    assert!(token.contains("yika-edge init --join yika-join:") && token.contains("data-countdown=\"1800\""), "{token}");
    assert_eq!(browser.post("/edges/new", &[("campus", ""), ("ttl", "30m")]).await.status, 422);
    assert_eq!(browser.post("/edges/new", &[("campus", "c9"), ("ttl", "30m")]).await.status, 422);

    let wrong = browser.post("/tariff/upload", &[("text", "version = \"one\"")]).await;
    assert!(wrong.status == 422 && wrong.text.contains("不是有效的价目"), "{}", wrong.text);
    assert!(site.desk.node.registry().tariff.is_none());
    assert_eq!(browser.post("/tariff/upload", &[("text", site::TARIFF)]).await.header("hx-redirect"), "/tariff");
    let back = browser.get("/tariff/current.toml").await.text;
    let same = browser.post("/tariff/upload", &[("text", &back)]).await;
    assert!(same.status == 422 && same.text.contains("与现行价目完全相同，没有改动"), "{}", same.text);
    assert_eq!(site.desk.node.registry().tariff.as_ref().unwrap().version, TariffVersion(1));

    let operator =
        |password| [("login", "li"), ("name", "李"), ("role", "clerk"), ("campus", "c1"), ("password", password)];
    assert_eq!(browser.post("/operators/new", &operator("short")).await.status, 422);
    assert_eq!(browser.post("/operators/new", &operator(site::PASSWORD)).await.header("hx-redirect"), "/operators");
    let twice = browser.post("/operators/new", &operator(site::PASSWORD)).await;
    assert_eq!(twice.status, 422, "a name is taken once");
    assert_eq!(browser.post("/operators/o2/active", &[("active", "0")]).await.header("hx-redirect"), "/operators");
    let last = browser.post("/operators/o1/active", &[("active", "0")]).await;
    assert_eq!(last.status, 422, "the last administrator stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_needs_its_reason_and_shows_it() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 2).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "chief").await;
    browser.get("/edges").await;
    let bare = browser.post("/edges/n2/fence", &[("reason", "  ")]).await;
    assert!(bare.status == 422 && bare.text.contains("请写明原因"), "{}", bare.text);
    assert!(site.desk.node.registry().fences.is_empty());
    let done = browser.post("/edges/n2/fence", &[("reason", "主机被盗")]).await;
    assert_eq!(done.header("hx-redirect"), "/edges/n2");
    let page = browser.get("/edges/n2").await.text;
    assert!(page.contains("主机被盗") && page.contains("已封禁") && !page.contains("封禁此节点</button>"), "{page}");
    assert_eq!(acts(&site.desk, "edge.fence").await[0].row.detail, "reason=主机被盗");
    assert!(page.contains("解除此节点写的全部封锁</button>"), "{page}");
    assert!(!browser.get("/edges/n1").await.text.contains("解除此节点写的全部封锁"), "a living box keeps its word");
    let living = browser.post("/edges/n1/lift", &[]).await;
    assert!(living.status == 422 && living.text.contains("没有被封禁"), "{}", living.text);
    assert!(browser.get("/edges/n2/lift").await.text.contains("可以立即使用"));
    assert_eq!(browser.post("/edges/n2/lift", &[]).await.header("hx-redirect"), "/edges/n2");
    assert_eq!(acts(&site.desk, "edge.lift").await[0].row.object, "n2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_what_monitoring_must_know() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 5).await;
    let sign_ins = yika_hub::console::SignIns::default();
    let app =
        yika_hub::console::router(site.desk.clone(), yika_hub::console::Options::default(), sign_ins.clone()).unwrap();
    let mut browser = Browser::new(&app);
    browser.sign_in("chief", "wrong").await;
    let metrics = yika_hub::metrics::Metrics::new(site.desk.clone(), dir.path().to_owned(), sign_ins);
    let text = metrics.text().await.unwrap();
    for line in [
        "yika_hub_serving 1",
        "yika_hub_books_imbalance_fen 0",
        "yika_hub_people 10",
        "yika_hub_cards 10",
        "yika_hub_quarantined_entries 0",
        "yika_hub_sign_ins_total{outcome=\"refused\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "no line {line} in\n{text}");
    }
    for start in [
        "yika_hub_box_held_entries{box=\"n1\",campus=\"c1\",name=\"东校区 A1\"}",
        "yika_hub_box_newest_event_age_seconds{box=\"n3\"",
        "yika_hub_box_heard_age_seconds{box=\"n3\"",
        "yika_hub_writer_waiting ",
    ] {
        assert!(text.lines().any(|l| l.starts_with(start)), "nothing starts with {start} in\n{text}");
    }
    let bytes = |name: &str| -> i64 {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(bytes("yika_hub_database_bytes ") + bytes("yika_hub_wal_bytes ") > 100_000);
}

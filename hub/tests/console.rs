//! The console as browsers meet it: sign-in, every page in both languages full, empty and broken, roles and campuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

#[path = "site/browser.rs"]
mod browser;
mod site;

use axum::http::StatusCode;
use browser::{Browser, app};
use site::PASSWORD;
use std::collections::BTreeSet;
use yika_crdt::Fen;
use yika_crdt::entry::{ActRecord, Body, RefundKind, RefundRecord, Source, WalletKey};
use yika_crdt::ids::*;
use yika_hub::desk::{Actor, NewOperator};
use yika_hub::store::read::{self, AuditQuery};
use yika_hub::store::transactions::sales_of;

const PAGES: [&str; 14] = [
    "/",
    "/edges",
    "/people",
    "/import",
    "/transactions",
    "/accounts",
    "/tariff",
    "/terminals",
    "/campuses",
    "/operators",
    "/audit",
    "/backups",
    "/recovery",
    "/password",
];
const FORMS: [&str; 4] = ["/edges/new", "/terminals/new", "/campuses/edit", "/operators/new"];

/// A key of a word file that shows itself on a page because it has no words.
fn bare_key(text: &str) -> Option<String> {
    let words = yika_hub::console::words().unwrap();
    let files = [include_str!("../words/zh.words"), include_str!("../words/audit.zh.words")];
    let lines = files.into_iter().flat_map(str::lines);
    let prefixes: BTreeSet<&str> = lines.filter_map(|l| l.split_once(['.', ' '])).map(|(p, _)| p).collect();
    for piece in text.split(['>', '<', '"']) {
        let piece = piece.trim();
        let plain = !piece.is_empty() && piece.bytes().all(|b| b.is_ascii_lowercase() || b"._0123456789".contains(&b));
        let head = piece.split('.').next().unwrap();
        if plain && piece.contains('.') && prefixes.contains(head) && !words.has(piece) {
            return Some(piece.to_owned());
        }
    }
    None
}

/// Five plain English words in a row between the tags of a page.
fn english_sentence(text: &str) -> Option<String> {
    for piece in text.split('<').filter_map(|part| part.split_once('>').map(|(_, text)| text)) {
        let words: Vec<&str> = piece.split_whitespace().collect();
        let plain = |word: &&str| {
            let word = word.trim_matches([',', '.', ':', ';', '(', ')', '\'']);
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphabetic())
        };
        if words.windows(5).any(|run| run.iter().all(plain)) {
            return Some(piece.to_owned());
        }
    }
    None
}

fn is_sound(path: &str, lang: &str, text: &str) {
    assert_eq!(bare_key(text), None, "{path} in {lang} shows a key");
    if lang == "zh" {
        assert_eq!(english_sentence(text), None, "{path} speaks English");
    }
    assert!(!text.contains(" style="), "{path} carries a style that the policy drops");
    assert!(!text.contains("<script>"), "{path} carries a script that the policy drops");
    if text.starts_with("<!doctype") {
        let tag = if lang == "zh" { "zh-CN" } else { "en" };
        assert!(text.contains(&format!("<html lang=\"{tag}\"")), "{path} is not in {lang}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_shows_full_and_in_both_languages() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 40).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "chief").await;
    let holder = site.holders[0].clone();
    let person = holder.person;
    let statement = browser.get(&format!("/people/{person}/statement")).await.text;
    let slip = statement.split("/slip/").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let mut paths: Vec<String> = PAGES.iter().chain(&FORMS).map(|p| (*p).to_owned()).collect();
    paths.extend([
        format!("/people/{person}"),
        format!("/people/{person}/statement?inner=1"),
        format!("/people/{person}/lost?target={}", holder.card),
        format!("/people/{person}/lift?target=person"),
        format!("/people/{person}/top-up"),
        format!("/people/{person}/withdraw"),
        format!("/people/{person}/undo/{slip}"),
        "/people?q=wang".into(),
        "/people?q=%E6%9F%A5%E6%97%A0%E6%AD%A4%E4%BA%BA".into(),
        "/edges/n1".into(),
        "/edges/n1/fence".into(),
        "/edges/n1/lift".into(),
        "/transactions/n1@1.1/1".into(),
        "/transactions/n1@1.1/1/refund".into(),
        "/transactions?kind=refusal".into(),
        "/transactions?from=2026-02-30".into(),
        "/operators/o2/password".into(),
        "/campuses/edit?campus=c1".into(),
    ]);
    for lang in ["zh", "en"] {
        browser.lang(lang);
        for path in &paths {
            let answer = browser.get(path).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
            is_sound(path, lang, &answer.text);
        }
    }
    browser.lang("zh");
    let people = browser.get("/people?q=000001").await.text;
    assert!(people.contains(&holder.name) && people.contains("共 1 条"), "{people}");
    let detail = browser.get(&format!("/people/{person}")).await.text;
    assert!(detail.contains("999*************") && detail.contains("主钱包"), "masked number and wallet are shown");
    assert!(browser.get("/").await.text.contains("东校区 A1"));
    assert!(browser.get("/edges/n1").await.text.contains("时钟异常"));
    assert!(browser.get("/tariff").await.text.contains("午餐"));
    assert!(browser.get("/accounts").await.text.contains("试算平衡"));
    let found = browser.get(&format!("/search?q={}", holder.card)).await;
    assert_eq!((found.status, found.header("location")), (StatusCode::SEE_OTHER, format!("/people/{person}").as_str()));
    let sale = browser.get("/search?q=t2-1-1").await;
    assert!(sale.header("location").starts_with("/transactions/n1@1.1/"), "{:?}", sale.headers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_site_says_what_to_do_first() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::empty(dir.path());
    site.operator("chief", "admin", None).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "chief").await;
    for lang in ["zh", "en"] {
        browser.lang(lang);
        for path in PAGES.iter().chain(&FORMS) {
            let answer = browser.get(path).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
            is_sound(path, lang, &answer.text);
        }
    }
    browser.lang("zh");
    let overview = browser.get("/").await.text;
    assert!(overview.contains("添加第一个园区") && overview.contains("尚无备份"));
    for (path, words) in [
        ("/edges", "还没有园区节点"),
        ("/people", "还没有人员"),
        ("/transactions", "没有交易"),
        ("/tariff", "还没有价目"),
        ("/terminals", "还没有终端"),
        ("/campuses", "还没有园区"),
        ("/accounts", "还没有记账"),
    ] {
        assert!(browser.get(path).await.text.contains(words), "{path} does not say {words}");
    }
    for path in ["/people/p77", "/people/xx", "/edges/n9", "/transactions/n1@1.1/5", "/import/none", "/nowhere"] {
        assert_eq!(browser.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

/// What follows each place of a text up to the next quotation mark.
fn quoted_after<'a>(text: &'a str, place: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(place).skip(1).map(|rest| rest.split('"').next().unwrap())
}

#[test]
fn every_act_of_the_desk_and_of_boxes_is_worded() {
    let words = yika_hub::console::words().unwrap();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut acts = 0;
    for (folder, places) in [
        ("src/desk", ["self.act(actor, \"", "self.note(actor, \"", "self.pay_out(actor, \""]),
        ("src/console", ["(&me.actor, \"", "=> \"sign_in.", "\u{0}"]),
        ("../edge/src/console", ["act: \"", "\u{0}", "\u{0}"]),
        ("../edge/src/doors", ["act: \"", "\u{0}", "\u{0}"]),
        ("../crdt/src/edge", ["DocumentAct::People(_) => (\"", "one] => (\"", "_) => (\""]),
    ] {
        for file in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = file.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            for place in places {
                let prefix = place.strip_prefix("=> \"").unwrap_or_default();
                for act in quoted_after(&text, place) {
                    acts += 1;
                    let key = format!("act.{prefix}{act}");
                    assert!(words.has(&key), "{} does {key}, which has no words", path.display());
                }
            }
        }
    }
    assert!(acts > 30, "only {acts} acts were found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_stand_where_codes_would() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = site::filled(dir.path(), 4).await;
    let act = ActRecord { operator: OperatorId(3), act: "till.sign_on".into(), detail: "t1".into() };
    site.say(0, vec![(yika_hub::clock::wall_ms(), Body::Act(act))]).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "chief").await;
    let sale = browser.get("/transactions/n1@1.1/1").await.text;
    assert!(sale.contains("1 号网点") && sale.contains("1 号商户") && sale.contains(">u1</span>"), "{sale}");
    assert!(browser.get("/edges/n1").await.text.contains("操作员cashier · 开始收银 · t1"));
    assert!(browser.get("/accounts").await.text.contains("1 号商户"));
    let audit = browser.get("/audit?act=terminal").await.text;
    assert!(audit.contains("东校区 A1 1 号窗<span class=\"cell-2 mono\">t1</span>"), "{audit}");
    browser.lang("en");
    assert!(browser.get("/transactions/n1@1.1/1").await.text.contains("Outlet 1"));
}

/// Rows OPR-8, CRD-6, POS-22.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_do_at_a_box_stands_at_headquarters_with_who_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = site::filled(dir.path(), 4).await;
    let (holder, now_ms) = (site.holders[0].clone(), yika_hub::clock::wall_ms());
    let sale = site.sale(0, &holder, 1_230, now_ms);
    let refund = RefundRecord {
        id: PurchaseId { terminal: TerminalId(0), boot: 7, seq: 1 },
        of: sale.id,
        person: sale.person,
        merchant: sale.merchant,
        kind: RefundKind::Refund,
        back: vec![(Source::Wallet(WalletKey::Main), Fen(500))],
        operator: OperatorId(3),
        day: sale.day,
    };
    let act = |act: &str, operator, detail: String| {
        (now_ms, Body::Act(ActRecord { operator: OperatorId(operator), act: act.into(), detail }))
    };
    let said = vec![
        (now_ms, Body::Purchase(sale.clone())),
        act("login.refused", 0, "mallory 10.0.0.9".into()),
        act("block", 3, format!("card:{} as Lost", holder.card)),
        act("refund", 3, format!("{} 5.00: 饭菜有问题", sale.id)),
        (now_ms, Body::Refund(refund)),
    ];
    site.say(0, said).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "chief").await;
    let audit = browser.get("/audit?who=cashier").await.text;
    for told in ["节点柜台申请退款", "饭菜有问题", "挂失", &holder.card.to_string(), "东校区 A1"] {
        assert!(audit.contains(told), "{told} is not in the audit: {audit}");
    }
    assert!(browser.get("/audit?who=mallory").await.text.contains("来自 10.0.0.9"));
    let person = browser.get(&format!("/people/{}", holder.person)).await.text;
    assert!(person.contains("节点柜台申请退款") && person.contains("饭菜有问题"), "{person}");
    let id = sale.id;
    let sold = site.desk.node.query(move |conn| sales_of(conn, id)).await.unwrap();
    let page = browser.get(&format!("/transactions/{}/{}", sold[0].place.writer(), sold[0].place.seq)).await.text;
    assert!(page.contains("退款 -5.00 · 经办 cashier · 饭菜有问题"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn balances_and_takings_say_what_they_are_made_of() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 4).await;
    let person = site.holders[0].person;
    let mut browser = Browser::signed_in(&app(&site.desk), "chief").await;
    let holding = site.desk.holding(person).unwrap();
    let here: i64 = holding.wallets.iter().map(|wallet| wallet.available_fen).sum();
    let made_of = format!("在总部 ¥{} + 在节点 ¥{}", Fen(here), Fen(holding.total_fen - here));
    for path in [format!("/people/{person}"), format!("/people/{person}/statement")] {
        let page = browser.get(&path).await.text;
        assert!(page.contains("总余额") && page.contains(&made_of), "{path} does not say {made_of}: {page}");
    }
    let overview = browser.get("/").await.text;
    assert!(overview.contains("今日净额") && overview.contains("毛额 ¥") && overview.contains("冲正与退款 ¥"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_in_doubt_is_marked_in_the_list_on_its_page_and_among_the_alarms() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = site::filled(dir.path(), 6).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "chief").await;
    browser.lang("zh");
    assert!(!browser.get("/transactions").await.text.contains("价目不符"), "honest sales are not marked");
    let (holder, now_ms) = (site.holders[0].clone(), yika_hub::clock::wall_ms());
    let mut sale = site.sale(0, &holder, 1_230, now_ms);
    sale.adjustment = Fen(70);
    sale.paid = vec![(Source::Wallet(WalletKey::Main), Fen(1_300))];
    site.say(0, vec![(now_ms, Body::Purchase(sale))]).await;
    let list = browser.get("/transactions").await.text;
    assert_eq!(list.matches("价目不符").count(), 1);
    let (before, _) = list.split_once("价目不符").unwrap();
    let row = &list[before.rfind("<tr").unwrap()..];
    let href = row.split("href=\"/transactions/").nth(1).unwrap().split('"').next().unwrap();
    let page = browser.get(&format!("/transactions/{href}")).await.text;
    assert!(page.contains("总部按价目重算应为 ¥12.30"), "{page}");
    let overview = browser.get("/").await.text;
    assert!(overview.contains("价目不符") && overview.contains("13.00"), "{overview}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_store_is_said_and_signs_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::empty(dir.path());
    site.operator("chief", "admin", None).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "chief").await;
    let conn = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    conn.execute_batch(
        "DROP TABLE people_words; DROP TABLE profiles; DROP TABLE sales; DROP TABLE audit; DROP TABLE accounts;",
    )
    .unwrap();
    for lang in ["zh", "en"] {
        browser.lang(lang);
        for path in ["/", "/people?q=a", "/transactions", "/audit", "/accounts"] {
            let answer = browser.get(path).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
            let words = if lang == "zh" { "没有保存任何内容" } else { "othing was saved" };
            assert!(answer.text.contains(words), "{path}: {}", answer.text);
            assert!(!answer.text.contains("no such table"), "{path} shows what belongs to the log");
            is_sound(path, lang, &answer.text);
        }
    }
    assert_eq!(browser.get("/campuses").await.status, StatusCode::OK, "the rest goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_password_must_be_changed_and_sign_ins_are_audited() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::empty(dir.path());
    let new = NewOperator {
        login: "fresh".into(),
        name: "新人".into(),
        role: "clerk".into(),
        campus: None,
        password: PASSWORD.into(),
        keep_password: false,
    };
    site.desk.add_operator(&Actor::console(), new).await.unwrap();
    let app = app(&site.desk);
    let mut browser = Browser::new(&app);
    assert_eq!(browser.get("/people").await.header("location"), "/login?back=%2Fpeople");
    assert_eq!(browser.sign_in("fresh", "wrong").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(browser.sign_in("fresh", PASSWORD).await.header("location"), "/password");
    assert_eq!(browser.get("/people").await.header("location"), "/password");
    browser.get("/password").await;
    let short = browser.post("/password", &[("new", "short"), ("again", "short")]).await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    let same = browser.post("/password", &[("new", PASSWORD), ("again", PASSWORD)]).await;
    assert!(
        same.status == StatusCode::UNPROCESSABLE_ENTITY && same.text.contains("不能与当前密码相同"),
        "{}",
        same.text
    );
    let chosen = "青山-bridge-77";
    let done = browser.post("/password", &[("new", chosen), ("again", chosen)]).await;
    assert_eq!(done.header("location"), "/");
    assert_eq!(browser.get("/people").await.status, StatusCode::OK);
    let mut other = Browser::new(&app);
    assert_eq!(other.sign_in("fresh", PASSWORD).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    for _ in 0..4 {
        other.sign_in("fresh", "wrong").await;
    }
    assert_eq!(other.sign_in("fresh", chosen).await.status, StatusCode::TOO_MANY_REQUESTS);
    let query = AuditQuery { act: "sign_in".into(), limit: 50, ..AuditQuery::default() };
    let lines = site.desk.node.query(move |conn| read::audit(conn, &query)).await.unwrap();
    let acts: Vec<&str> = lines.iter().rev().map(|l| l.row.act.as_str()).collect();
    assert_eq!(acts[..2], ["sign_in.refused", "sign_in.accepted"]);
    let query = AuditQuery { act: "operator.password".into(), limit: 50, ..AuditQuery::default() };
    let changed = site.desk.node.query(move |conn| read::audit(conn, &query)).await.unwrap();
    let [first] = &changed[..] else { panic!("one line for one change: {changed:?}") };
    assert!(first.row.who == "fresh" && first.row.origin != "console", "{first:?}");
    assert!(acts.contains(&"sign_in.locked") && lines.iter().all(|l| l.row.who == "fresh"), "{acts:?}");
}

/// Who may: path, whether it is a form that is sent, then admin, clerk, cashier, auditor.
const MATRIX: [(&str, bool, [bool; 4]); 27] = [
    ("/", false, [true, true, true, true]),
    ("/people", false, [true, true, true, true]),
    ("/people/PERSON", false, [true, true, true, true]),
    ("/people/PERSON/statement", false, [true, true, true, true]),
    ("/people/PERSON/reveal", true, [true, true, false, false]),
    ("/people/PERSON/lost?target=person", false, [true, true, false, false]),
    ("/people/PERSON/lost", true, [true, true, false, false]),
    ("/people/PERSON/lift", true, [true, true, false, false]),
    ("/people/PERSON/top-up", false, [true, true, true, false]),
    ("/people/PERSON/top-up/confirm", true, [true, true, true, false]),
    ("/import", false, [true, true, false, false]),
    ("/import/x/apply", true, [true, true, false, false]),
    ("/transactions", false, [true, true, true, true]),
    ("/transactions/export/csv", false, [true, true, true, true]),
    ("/accounts", false, [true, false, false, true]),
    ("/audit", false, [true, false, false, true]),
    ("/edges", false, [true, true, true, true]),
    ("/edges/n1", false, [true, true, true, true]),
    ("/edges/new", true, [true, false, false, false]),
    ("/edges/n1/fence", true, [true, false, false, false]),
    ("/edges/n1/lift", true, [true, false, false, false]),
    ("/terminals/new", true, [true, false, false, false]),
    ("/terminals/t1/state", true, [true, false, false, false]),
    ("/campuses/edit", true, [true, false, false, false]),
    ("/tariff/upload", true, [true, false, false, false]),
    ("/operators", false, [true, false, false, false]),
    ("/operators/o99/active", true, [true, false, false, false]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_reaches_what_it_may_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 4).await;
    let app = app(&site.desk);
    let person = site.holders[0].person.to_string();
    for (at, login) in ["chief", "clerk", "cashier", "auditor"].into_iter().enumerate() {
        let mut browser = Browser::signed_in(&app, login).await;
        let home = browser.get("/").await.text;
        for (path, is_form, may) in MATRIX {
            let path = path.replace("PERSON", &person);
            // Empty forms: refused by role before anything is looked at, else as wrong input.
            let answer = if is_form { browser.post(&path, &[]).await } else { browser.get(&path).await };
            let refused = answer.status == StatusCode::FORBIDDEN;
            assert_eq!(refused, !may[at], "{login} {path}: {} {}", answer.status, answer.text);
            if refused {
                assert!(answer.text.contains("需要角色"), "{path} does not say who may");
            }
        }
        for (href, may) in [("/operators", at == 0), ("/audit", at == 0 || at == 3), ("/import", at < 2)] {
            assert_eq!(home.contains(&format!("href=\"{href}\"")), may, "menu of {login}: {href}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_without_their_token_do_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 2).await;
    let mut browser = Browser::signed_in(&app(&site.desk), "chief").await;
    let person = site.holders[0].person.to_string();
    for (path, is_form, _) in MATRIX.into_iter().filter(|(_, is_form, _)| *is_form) {
        assert!(is_form);
        let answer = browser.post_bare(&path.replace("PERSON", &person)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert!(answer.text.contains("请求未通过校验"), "{path}: {}", answer.text);
    }
}

/// Rows ORG-1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campus_operator_sees_only_his_campus() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 6).await;
    let app = app(&site.desk);
    let east = site.holders.iter().find(|h| h.campus == CampusId(1)).unwrap();
    let west = site.holders.iter().find(|h| h.campus == CampusId(2)).unwrap();
    let mut clerk = Browser::signed_in(&app, "east").await;
    let people = clerk.get("/people").await.text;
    assert!(people.contains(&east.card.to_string()) && !people.contains(&west.card.to_string()));
    // The cookie of the campus selector does not widen what he sees.
    clerk.campus("c2");
    assert!(!clerk.get("/people").await.text.contains(&west.card.to_string()));
    assert!(!clerk.get("/transactions").await.text.contains("西校区 B1"));
    assert!(!clerk.get("/edges").await.text.contains("西校区 B1"));
    let west_id = west.person;
    for path in [
        format!("/people/{west_id}"),
        format!("/people/{west_id}/statement"),
        format!("/people/{west_id}/top-up"),
        format!("/people/{west_id}/lost?target=person"),
        "/edges/n3".into(),
        "/transactions/n3@1.1/1".into(),
    ] {
        let answer = clerk.get(&path).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert!(answer.text.contains("不属于您的园区"), "{path}: {}", answer.text);
    }
    let posts: [(String, Vec<(&str, &str)>); 3] = [
        (format!("/people/{west_id}/lost"), vec![("target", "person"), ("reason", "lost")]),
        (format!("/people/{west_id}/reveal"), vec![]),
        (format!("/people/{west_id}/top-up/confirm"), vec![("amount", "5"), ("request", "r1")]),
    ];
    for (path, fields) in posts {
        assert_eq!(clerk.post(&path, &fields).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert!(!site.desk.node.people.read().is_blocked(yika_crdt::entry::BlockTarget::Person(west_id)));
    let mut admin = Browser::signed_in(&app, "eastadmin").await;
    for path in ["/accounts", "/audit", "/edges/n3/fence", "/campuses/edit?campus=c2", "/operators/o2/password"] {
        assert_eq!(admin.get(path).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    let operators = admin.get("/operators").await.text;
    assert!(operators.contains("操作员east") && !operators.contains("操作员chief"));
    assert_eq!(admin.post("/tariff/upload", &[("text", "x")]).await.status, StatusCode::FORBIDDEN);
    assert_ne!(admin.post("/operators/o1/active", &[("active", "0")]).await.header("hx-redirect"), "/operators");
}

/// Where a page leads: its links, and what it fetches when somebody clicks.
fn leads_to(text: &str) -> BTreeSet<String> {
    let ends = [" href=\"/", " hx-get=\"/"].into_iter().flat_map(|start| text.split(start).skip(1));
    let paths = ends.map(|rest| format!("/{}", rest.split('"').next().unwrap().replace("&#38;", "&")));
    paths.map(|path| path.split('#').next().unwrap().to_owned()).filter(|path| !path.starts_with("/ui/")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_shown_a_way_that_he_may_not_go() {
    const PAGES_MAX: usize = 150;
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 12).await;
    site.operator("eastcash", "cashier", Some(CampusId(1))).await;
    site.operator("eastaudit", "auditor", Some(CampusId(1))).await;
    let app = app(&site.desk);
    let logins = ["chief", "clerk", "cashier", "auditor", "east", "eastadmin", "eastcash", "eastaudit"];
    let mut menus = BTreeSet::new();
    for login in logins {
        let mut browser = Browser::signed_in(&app, login).await;
        let home = browser.get("/").await.text;
        let menu = home.split_once("<nav class=\"menu\"").unwrap().1.split_once("</nav>").unwrap().0;
        let menu = leads_to(menu);
        assert!(menu.len() >= 8, "{login}: {menu:?}");
        for path in &menu {
            assert_eq!(browser.get(path).await.status, StatusCode::OK, "{login}: {path}");
        }
        let (mut waiting, mut seen): (Vec<String>, BTreeSet<String>) = (menu.iter().cloned().collect(), menu.clone());
        while let Some(path) = waiting.pop().filter(|_| seen.len() < PAGES_MAX) {
            let page = browser.get(&path).await;
            assert_ne!(page.status, StatusCode::FORBIDDEN, "{login}: {path}");
            let fresh: Vec<String> = leads_to(&page.text).difference(&seen).cloned().collect();
            seen.extend(fresh.iter().cloned());
            waiting.extend(fresh);
        }
        menus.insert(menu);
    }
    assert!(menus.len() >= 5, "menus differ by role and campus: {menus:?}");
}

/// A template without its statements and values, so that what they decide stands beside each other.
fn without_tags(text: &str) -> String {
    let mut out = String::new();
    for piece in text.split('{') {
        let rest = ["%}", "}}"].iter().find_map(|end| piece.split_once(end).map(|(_, rest)| rest));
        out.push_str(rest.unwrap_or(piece));
        // What follows a condition is another class, what follows a value continues one.
        if !piece.contains("}}") {
            out.push(' ');
        }
    }
    out.replace("  ", " ")
}

#[test]
fn words_have_no_gaps_and_templates_use_only_words_and_classes_that_exist() {
    let words = yika_hub::console::words().unwrap();
    assert_eq!(words.gaps(), Vec::<String>::new());
    use yika_hub::ledger::Kind::*;
    for kind in [TopUp, Withdrawal, Grant, Return, Cheque, Purchase, Refund, Fence, Overdraft, Settle, Loss, Surplus] {
        assert!(words.has(&format!("movement.{}", kind.name())), "{kind:?} has no words");
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let css = std::fs::read_to_string(root.join("ui/assets/app.css")).unwrap();
    let (mut keys, mut classes) = (0, 0);
    for entry in std::fs::read_dir(root.join("templates")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for call in ["page.t(\"", "page.t1(\"", "page.t_args(\""] {
            for piece in text.split(call).skip(1) {
                let key = piece.split('"').next().unwrap();
                assert!(words.has(key), "{} uses {key}", path.display());
                keys += 1;
            }
        }
        for class in without_tags(&text).split("class=\"").skip(1).flat_map(|c| c.split('"').next().unwrap().split(' '))
        {
            // A class that ends with a dash is continued by a value.
            if !class.is_empty() && !class.ends_with('-') {
                assert!(css.contains(&format!(".{class}")), "{}: class {class} has no style", path.display());
                classes += 1;
            }
        }
    }
    assert!(keys > 300 && classes > 300, "{keys} keys, {classes} classes: the scan reads nothing");
}

/// Kinds of alarms that a source raises: the first word in quotation marks after the call.
fn alarms_in(source: &str) -> Vec<String> {
    let calls = source.split("alarm(").skip(1).chain(source.split("AlarmRecord { kind: ").skip(1));
    let kind = |call: &str| {
        let head: String = call.chars().take(100).collect();
        let word = head.split('"').nth(1)?.to_owned();
        (!word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).then_some(word)
    };
    calls.filter_map(kind).collect()
}

#[test]
fn every_alarm_that_is_raised_has_its_words() {
    let words = yika_hub::console::words().unwrap();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut folders: Vec<_> = ["crdt/src", "edge/src", "hub/src"].map(|folder| root.join(folder)).into();
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.extend(alarms_in(&std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() >= 20, "the search found only {found:?}");
    for kind in found {
        assert!(words.has(&format!("alarm.{kind}")), "the alarm {kind} has no words");
        assert!(words.has(&format!("alarm.{kind}.text")), "the alarm {kind} says nothing in Chinese");
    }
}

//! Every page × seed × role × language; sign-in; forms without token; cards; doors; live; words and files.

use crate::campus::{CAMPUS, Campus, NOON_MS, PASSWORD, Seed, card, operator};
use crate::client::Browser;
use axum::Router;
use axum::body::Body as HttpBody;
use axum::http::{Request, StatusCode};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tower::ServiceExt;
use yika_crdt::channel::Channel;
use yika_crdt::edge::Command;
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_edge::console::{self, ConsoleConfig};

/// Signed in as these; the third column of [`PAGES`] names who sees a page.
const LOGINS: [&str; 4] = ["lin", "he", "wu", "shen"];

/// Path and who may see it: administrator, clerk, cashier, auditor.
const PAGES: [(&str, [bool; 4]); 15] = [
    ("/status", [true, true, false, true]),
    ("/status/part", [true, true, false, true]),
    ("/cards", [true, true, false, true]),
    ("/cards?q=10020", [true, true, false, true]),
    ("/cards?q=nobody", [true, true, false, true]),
    ("/cards/numbers/4711", [true, true, false, true]),
    ("/cards/block?on=card:62004801", [true, true, false, false]),
    ("/cards/lift?on=card:62004801", [true, true, false, false]),
    ("/live", [true, true, false, true]),
    ("/live?show=door", [true, true, false, true]),
    ("/doors", [true, false, false, true]),
    ("/doors/part", [true, false, false, true]),
    ("/terminals", [true, false, false, true]),
    ("/outbox", [true, false, false, true]),
    ("/till", [true, false, true, false]),
];

const POSTS: [&str; 10] = [
    "/status/clock",
    "/cards/block",
    "/cards/lift",
    "/cards/refund/1/1/1",
    "/doors/1/open",
    "/till/on",
    "/till/off",
    "/till/sale",
    "/till/correct",
    "/till/cancel",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_page_for_every_role_in_both_languages_full_and_empty() {
    for seed in [Seed::Lunch, Seed::Bare] {
        let dir = tempfile::tempdir().unwrap();
        let campus = Campus::new(dir.path(), seed).await;
        let words = console::words().unwrap();
        for lang in ["zh", "en"] {
            for (role, login) in LOGINS.iter().enumerate() {
                let mut browser = Browser::signed_in_as(&campus.app, login, lang).await;
                for (path, seen_by) in PAGES {
                    let page = browser.get(path).await;
                    let expected = if seen_by[role] { StatusCode::OK } else { StatusCode::FORBIDDEN };
                    assert_eq!(page.status, expected, "{path} for {login}: {}", page.text);
                    assert_clean(path, &page.text);
                }
            }
        }
        assert_eq!(words.gaps(), Vec::<String>::new());
    }
}

/// Five plain English words in a row between the tags of a page.
fn english_sentence(html: &str) -> Option<&str> {
    let plain = |word: &&str| {
        let word = word.trim_matches([',', '.', ':', ';', '(', ')', '\'']);
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphabetic())
    };
    let mut pieces = html.split('<').filter_map(|part| part.split_once('>').map(|(_, text)| text));
    pieces.find(|piece| {
        let words: Vec<&str> = piece.split_whitespace().collect();
        words.windows(5).any(|run| run.iter().all(plain))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_shows_terminals_and_doors() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let page = Browser::signed_in(&campus.app, "lin").await.get("/status").await.text;
    let stand = "：在线 0，迟滞 0，失联 0，尚无消息";
    for words in ["没有需要处理的终端", stand, "东门大厅", "没有硬件", "谁也打不开它"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(page.contains("当日退款：在售出的节点办理"), "what works in a cut is what the box does: {page}");
    assert!(!page.contains("门禁正常"), "a door without hardware is not well: {page}");
    // What a clerk may not open is not linked for him.
    let clerk = Browser::signed_in(&campus.app, "he").await.get("/status").await.text;
    assert!(page.contains("href=\"/doors\">查看全部") && !clerk.contains("href=\"/doors\">查看全部"));
    // A reader of a door that the policy does not have lets nobody in.
    campus.node.access.write().doors.remove(&DoorId(1));
    let page = Browser::signed_in(&campus.app, "lin").await.get("/status").await.text;
    assert!(page.contains("门禁策略里没有门 d1"), "{page}");
}

/// Headquarters has ended this box: what stands still is not ticked, and nobody is sent to enter anything again.
#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_a_fenced_box_say_what_stands_still_and_the_way_back() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut browser = Browser::signed_in(&campus.app, "lin").await;
    let before = browser.get("/status").await.text;
    assert!(before.contains("收银：按本节点持有的额度") && !before.contains("已暂停"), "{before}");
    campus.tell(Command::Fenced).await;
    let page = browser.get("/status").await.text;
    assert!(page.contains("收银：已暂停") && !page.contains("收银：按本节点持有的额度"), "{page}");
    assert!(page.contains("yika-edge leave --yes --force") && page.contains("--campus c1 --replaces n1"), "{page}");
    assert!(page.contains("总部可能已由其他节点收到"), "{page}");
    let queue = browser.get("/outbox").await.text;
    assert!(queue.contains("请先到总部查"), "{queue}");
    for (path, _) in PAGES {
        assert_clean(path, &browser.get(path).await.text);
    }
}

/// No inline script or style, which the CSP forbids; no key in the place of its word.
fn assert_clean(path: &str, html: &str) {
    for bad in ["style=\"", "<script>", "onclick", "hx-on"] {
        assert!(!html.contains(bad), "{path} contains {bad}");
    }
    if html.contains("<html lang=\"zh-CN\"") {
        assert_eq!(english_sentence(html), None, "{path} speaks English");
    }
    let words = console::words().unwrap();
    for shown in html.split('>').skip(1).filter_map(|part| part.split('<').next()) {
        assert!(!words.has(shown.trim()), "{path} shows the key {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_call_the_box_by_its_name_from_the_moment_that_it_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let fresh = Campus::start(dir.path(), ConsoleConfig::default(), BTreeMap::new()).await;
    let page = Browser::new(&fresh.app, "zh").get("/login").await;
    assert!(page.text.contains("<small>n1</small>"), "{}", page.text);
    // The seed's registry comes while the pages are open already.
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Bare).await;
    let page = Browser::new(&campus.app, "zh").get("/login").await;
    assert!(page.text.contains("<small>东校区 · A1</small>"), "{}", page.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_found_by_card_number_staff_number_and_name() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut clerk = Browser::signed_in(&campus.app, "he").await;
    for query in ["62004802", "100202", "%E6%AC%A7%E9%98%B3", "188626434", "0B3E3602", "02363e0b"] {
        let found = clerk.get(&format!("/cards?q={query}")).await;
        assert_eq!(found.location(), "/cards/people/2", "{query}: {}", found.text);
    }
    let many = clerk.get("/cards?q=10020").await;
    assert!(many.text.contains("欧阳明月") && many.text.contains("陈建国"));
    let khan = clerk.get("/cards?q=khan").await;
    assert_eq!(khan.location(), "/cards/people/12");
    let none = clerk.get("/cards?q=99999").await;
    assert!(none.text.contains("/cards/numbers/99999"));
    let person = clerk.get("/cards/people/2").await;
    assert!(person.text.contains("本节点可用额度") && person.text.contains("¥82.74"), "{}", person.text);
    assert_eq!(clerk.get("/cards/people/4711").await.status, StatusCode::NOT_FOUND);
    assert_clean("/cards/people/2", &person.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_holds_at_once_and_is_lifted_only_by_card_document_and_its_own_campus() {
    let dir = tempfile::tempdir().unwrap();
    let mut campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut clerk = Browser::signed_in(&campus.app, "he").await;
    let ask = clerk.get("/cards/block?on=card:62004803").await;
    for word in ["62004803 · 陈建国 100203", "东校区 · A1", "立即", "A2", "总部 hub-1", "线路中断"] {
        assert!(
            ask.text.contains(word) || word == "线路中断" && ask.text.contains("还没有联系过"),
            "{word}: {}",
            ask.text
        );
    }
    let done = clerk.post("/cards/block", &[("on", "card:62004803"), ("reason", "lost")]).await;
    assert_eq!(done.location(), "/cards/people/3?done=block");
    assert!(campus.node.people.read().is_blocked(BlockTarget::Card(card(3))));
    let page = clerk.get("/cards/people/3?done=block").await;
    for word in ["挂失", "何卡务", "2026-11-24 12:3", "东校区"] {
        assert!(page.text.contains(word), "{word}: {}", page.text);
    }
    // Lifting wants the very card and the document.
    let lift = |card: &'static str, id| [("on", "card:62004803"), ("card", card), ("id_checked", id)];
    for (fields, word) in
        [(lift("62004803", ""), "证件"), (lift("62004801", "yes"), "不是这张卡"), (lift("", "yes"), "不是这张卡")]
    {
        let refused = clerk.post("/cards/lift", &fields).await;
        assert!(
            refused.status == StatusCode::UNPROCESSABLE_ENTITY && refused.text.contains(word),
            "{word}: {}",
            refused.text
        );
    }
    assert!(campus.node.people.read().is_blocked(BlockTarget::Card(card(3))));
    campus.block_by_hub(card(3)).await;
    let part = clerk.post("/cards/lift", &lift("62004803", "yes")).await;
    assert_eq!(part.location(), "/cards/people/3?done=lift_part");
    assert!(campus.node.people.read().is_blocked(BlockTarget::Card(card(3))), "headquarters' block stays");
    let ask = clerk.get("/cards/lift?on=card:62004803").await;
    assert!(ask.text.contains("不是本园区办理的") && !ask.text.contains("type=\"submit\""), "{}", ask.text);
    let refused = clerk.post("/cards/lift", &lift("62004803", "yes")).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    // A whole person, by any of the person's cards; and a card nobody here knows.
    clerk.post("/cards/block", &[("on", "person:1"), ("reason", "frozen")]).await;
    let lifted = clerk.post("/cards/lift", &[("on", "person:1"), ("card", "62004801"), ("id_checked", "yes")]).await;
    assert_eq!(lifted.location(), "/cards/people/1?done=lift");
    let stray = clerk.post("/cards/block", &[("on", "card:4711"), ("reason", "lost")]).await;
    assert_eq!(stray.location(), "/cards/numbers/4711?done=block");
    for bad in [("on", "card:x"), ("on", "door:1"), ("on", "")] {
        assert_eq!(clerk.post("/cards/block", &[bad]).await.status, StatusCode::NOT_FOUND);
    }
    let cancelled = clerk.post("/cards/block", &[("on", "card:62004801"), ("reason", "cancelled")]).await;
    assert_eq!(cancelled.status, StatusCode::UNPROCESSABLE_ENTITY);
    let acts: Vec<_> =
        campus.journal().into_iter().filter_map(|b| if let Body::Act(a) = b { Some(a.act) } else { None }).collect();
    assert_eq!(acts.iter().filter(|a| *a == "block").count(), 3, "{acts:?}");
    assert_eq!(acts.iter().filter(|a| *a == "lift").count(), 2, "{acts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_works_cut_off_until_the_operators_date_and_is_journaled() {
    let dir = tempfile::tempdir().unwrap();
    let mut campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut browser = Browser::new(&campus.app, "zh");
    let wrong = browser.sign_in("lin", "wrong-lantern-1").await;
    assert!(wrong.status == StatusCode::UNPROCESSABLE_ENTITY && wrong.text.contains("不正确"));
    // Nobody's name and a wrong password are told the same: what else it may be.
    let stranger = browser.sign_in("nobody", "wrong-lantern-1").await;
    for refused in [&wrong, &stranger] {
        assert!(refused.text.contains("不正确。首次密码须先在总部页面改过"), "{}", refused.text);
    }
    let expired = browser.sign_in("gone", PASSWORD).await;
    assert!(expired.status == StatusCode::FORBIDDEN && expired.text.contains("有效期已过"), "{}", expired.text);
    let guess = browser.sign_in("gone", "wrong-lantern-1").await;
    assert!(!guess.text.contains("有效期已过"), "without the password nothing is told");
    let mut admin = Browser::signed_in(&campus.app, " LIN ").await;
    assert_eq!(admin.get("/").await.location(), "/status");
    assert_eq!(Browser::signed_in(&campus.app, "wu").await.get("/").await.location(), "/till");
    // Passwords are changed elsewhere.
    let page = admin.get("/password").await;
    assert!(page.text.contains("只能在总部修改") && !page.text.contains("name=\"new\""));
    let fields = [("current", PASSWORD), ("new", "another-lantern-9"), ("again", "another-lantern-9")];
    assert_eq!(admin.post("/password", &fields).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!admin.get("/status").await.text.contains("href=\"/password\""));
    // A revocation, another password, another role hold from the next request on.
    let Body::Operator(record) = operator(1, "lin", "林晓", Role::Admin, 24) else { panic!() };
    let gone = Body::Operator(OperatorRecord { verifier: String::new(), ..record.clone() });
    let channel = Channel::Receipts(NodeId(1));
    campus.say(channel, vec![operator(2, "he", "何卡务", Role::Cashier, 24)]).await;
    let mut clerk = Browser::signed_in(&campus.app, "he").await;
    assert_eq!(clerk.get("/cards").await.status, StatusCode::FORBIDDEN);
    campus.say(channel, vec![gone]).await;
    assert!(admin.get("/status").await.location().starts_with("/login"));
    assert_eq!(browser.sign_in("lin", PASSWORD).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let acts: Vec<_> =
        campus.journal().into_iter().filter_map(|b| if let Body::Act(a) = b { Some(a.act) } else { None }).collect();
    for act in ["login", "login.refused"] {
        assert!(acts.iter().any(|a| a == act), "{act}: {acts:?}");
    }
    // A guesser cannot fill the disk.
    for n in 0..60 {
        browser.sign_in(&format!("nobody{}", n / 4), "wrong-lantern-1").await;
    }
    let refused =
        campus.journal().iter().filter(|b| matches!(b, Body::Act(a) if a.act.starts_with("login.re"))).count();
    assert!(refused <= 40, "{refused} refusals were journaled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_box_signs_nobody_out_and_nobody_in() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut stays = Browser::signed_in(&campus.app, "wu").await;
    let mut leaves = Browser::signed_in(&campus.app, "wu").await;
    let mut left = Browser::new(&campus.app, "zh");
    assert_eq!(stays.get("/till").await.status, StatusCode::OK);
    leaves.get("/till").await;
    assert_eq!(leaves.post("/logout", &[]).await.location(), "/login?why=out");
    // Nobody holds on to the program that ends.
    for browser in [&mut stays, &mut leaves, &mut left] {
        browser.turn_to(&Router::new());
    }
    let campus = campus.restart(dir.path(), console::ConsoleConfig::default()).await;
    for browser in [&mut stays, &mut leaves, &mut left] {
        browser.turn_to(&campus.app);
    }
    assert_eq!(stays.get("/till").await.status, StatusCode::OK, "signed in as before");
    assert_eq!(leaves.get("/till").await.status, StatusCode::SEE_OTHER, "signed out as before");
    assert_eq!(left.get("/till").await.status, StatusCode::SEE_OTHER);
    let kept = std::fs::read_to_string(dir.path().join("sessions")).unwrap();
    let cookies = stays.cookie_header();
    let token = cookies.split("yika_session=").nth(1).unwrap().split(';').next().unwrap();
    assert!(kept.lines().count() == 2 && !kept.contains(token), "the boot and one session: {kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_without_its_token_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut admin = Browser::signed_in(&campus.app, "lin").await;
    let before = campus.journal().len();
    let body =
        "on=card:62004801&terminal=11&boot=1&seq=1&attached=x&mode=amount&fen=100&card=62004801&of=1&reason=lost";
    for path in POSTS {
        for token in [None, Some("00"), Some("aa".repeat(64).as_str())] {
            let forged = admin.post_raw(path, body.to_owned(), token).await;
            assert_eq!(forged.status, StatusCode::FORBIDDEN, "{path}");
        }
        let mut stranger = Browser::new(&campus.app, "zh");
        let out = stranger.post_raw(path, body.to_owned(), None).await;
        assert!(out.location().starts_with("/login"), "{path}: {}", out.status);
    }
    assert_eq!(campus.journal().len(), before);
    assert!(!campus.node.people.read().is_blocked(BlockTarget::Card(card(1))));
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_may_not_act_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    for (login, paths) in [
        ("shen", &POSTS[..]),
        ("he", &["/status/clock", "/doors/1/open", "/till/on", "/till/sale"]),
        ("wu", &["/status/clock", "/cards/block", "/cards/lift", "/doors/1/open"]),
    ] {
        let mut browser = Browser::signed_in(&campus.app, login).await;
        browser.get("/nothing-here").await;
        for path in paths {
            let refused = browser.post(path, &[("on", "card:62004801"), ("terminal", "11")]).await;
            assert!(
                refused.status == StatusCode::FORBIDDEN && refused.text.contains("需要角色"),
                "{login} {path}: {}",
                refused.text
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_is_opened_only_with_a_reason_and_says_what_became_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut admin = Browser::signed_in(&campus.app, "lin").await;
    let list = admin.get("/doors").await;
    assert!(
        list.text.contains("东门大厅") && list.text.contains("没有硬件") && list.text.contains("未知"),
        "{}",
        list.text
    );
    let bare = admin.call("/doors/1/open", &[("reason", "  ")]).await;
    assert!(bare.status == StatusCode::UNPROCESSABLE_ENTITY && bare.text.contains("请写明原因"));
    let none = admin.call("/doors/1/open", &[("reason", "送货")]).await;
    assert!(none.text.contains("本节点没有接 modbus:board1/1"), "{}", none.text);
    assert_eq!(admin.call("/doors/77/open", &[("reason", "送货")]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_headquarters_an_administrator_confirms_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Bare).await;
    let mut admin = Browser::signed_in(&campus.app, "lin").await;
    let page = admin.get("/status").await;
    assert!(page.text.contains("需处理") && page.text.contains("action=\"/status/clock\""), "{}", page.text);
    for bad in ["", "yesterday", "1999-01-01T00:00"] {
        let refused = admin.post("/status/clock", &[("time", bad)]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        assert!(!campus.node.time().1);
    }
    admin.get("/status").await;
    let typed = page.attribute("value").map(str::to_owned);
    let typed = page
        .text
        .split("name=\"time\" value=\"")
        .nth(1)
        .and_then(|t| t.split('"').next())
        .or(typed.as_deref())
        .unwrap();
    let confirmed = admin.post("/status/clock", &[("time", typed)]).await;
    assert_eq!(confirmed.location(), "/status", "{typed}: {}", confirmed.text);
    assert!(campus.node.time().1);
    assert_eq!(admin.post("/status/clock", &[("time", typed)]).await.status, StatusCode::CONFLICT);
}

/// A box that stops does not wait for the pages that listen.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_page_ends_when_the_box_stops() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let cookie = Browser::signed_in(&campus.app, "lin").await.cookie_header();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async { _ = stopped.await };
    let serving = tokio::spawn(yika_ui::serve::serve(listener, campus.app.clone(), Default::default(), stopped));
    let mut page = tokio::net::TcpStream::connect(address).await.unwrap();
    let asked = format!("GET /live/stream HTTP/1.1\r\nhost: box\r\ncookie: {cookie}\r\n\r\n");
    page.write_all(asked.as_bytes()).await.unwrap();
    let mut head = [0; 4096];
    let read = page.read(&mut head).await.unwrap();
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    assert!(head.contains("200 OK") && head.contains("text/event-stream"), "{head}");
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(3), serving).await.expect("the page held up the stop").unwrap();
}

/// Reads a stream until a text has come, or the time is over.
async fn read_until(app: &Router, cookie: &str, path: &str, last: &str, wanted: &str) -> String {
    let request = Request::get(path).header("cookie", cookie).header("last-event-id", last);
    let response = app.clone().oneshot(request.body(HttpBody::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut text = String::new();
    let read = async {
        while !text.contains(wanted) {
            let Some(frame) =
                std::future::poll_fn(|cx| axum::body::HttpBody::poll_frame(std::pin::Pin::new(&mut body), cx)).await
            else {
                break;
            };
            if let Ok(data) = frame.unwrap().into_data() {
                text.push_str(&String::from_utf8_lossy(&data));
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(15), read).await;
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_shows_live_and_goes_on_where_the_line_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut browser = Browser::signed_in(&campus.app, "shen").await;
    let page = browser.get("/live").await;
    let stream = page.attribute("hx-sse:connect").unwrap().replace("&amp;", "&").replace("&#38;", "&");
    let cookie = browser.cookie_header();
    let alarm = |n: u32| Command::Alarm(AlarmRecord { kind: format!("test{n}"), detail: "probe".into() });
    let (app, path, jar) = (campus.app.clone(), stream.clone(), cookie.clone());
    let reading = tokio::spawn(async move { read_until(&app, &jar, &path, "", "test1<").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    campus.tell(alarm(1)).await;
    let text = reading.await.unwrap();
    assert!(text.contains("data:") && text.contains("test1"), "{text}");
    let id = text.lines().rev().find_map(|line| line.strip_prefix("id:")).unwrap().trim().to_owned();
    // While nobody listened, more happened; the page comes back with its last position.
    campus.tell(alarm(2)).await;
    campus.tell(alarm(3)).await;
    let text = read_until(&campus.app, &cookie, &stream, &id, "test3<").await;
    assert!(text.contains("test2") && text.contains("test3") && !text.contains("test1"), "{text}");
}

#[test]
fn words_in_use_exist_and_are_complete() {
    let words = console::words().unwrap();
    assert_eq!(words.gaps(), Vec::<String>::new());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut used = BTreeSet::new();
    for file in files_below(&root.join("templates")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for call in ["page.t(\"", "page.t1(\"", "page.t_args(\""] {
            used.extend(text.split(call).skip(1).map(|part| part.split('"').next().unwrap().to_owned()));
        }
    }
    let heads: BTreeSet<String> = include_str!("../../words/zh.words")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('.').next().unwrap().to_owned())
        .collect();
    for file in files_below(&root.join("src/console")).into_iter().chain([root.join("src/console.rs")]) {
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for quoted in text.split('"').skip(1).step_by(2) {
            let key = quoted.contains('.')
                && quoted.bytes().all(|b| b.is_ascii_lowercase() || b"._".contains(&b) || b.is_ascii_digit());
            let head = quoted.split('.').next().unwrap();
            let file_name = ["css", "js", "html"].iter().any(|end| quoted.ends_with(&format!(".{end}")));
            if key
                && heads.contains(head)
                && !file_name
                && !["till.sign_on", "till.sign_off", "till.typed_card", "refund.refused"].contains(&quoted)
            {
                used.insert(quoted.to_owned());
            }
        }
    }
    assert!(used.len() > 250, "the search found only {} keys", used.len());
    for key in &used {
        assert!(words.has(key), "missing word {key}");
    }
}

/// Sizes as sent, of what one page loads at most.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_page_keep_the_budget_of_the_kit() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut admin = Browser::signed_in(&campus.app, "lin").await;
    admin.get("/till").await;
    admin.post("/till/on", &[("terminal", "11")]).await;
    for path in ["/till", "/live", "/status"] {
        let page = admin.get(path).await.text;
        let (mut css, mut js) = (0, 0);
        for url in page.split(['"', '\'']).filter(|url| url.starts_with("/assets/")) {
            let bytes = gzip_bytes(&campus.app, url).await;
            match url {
                url if url.ends_with(".css") => css += bytes,
                url if url.ends_with(".js") => js += bytes,
                _ => {}
            }
        }
        assert!(css > 1_000 && css <= 20 * 1024, "{path}: CSS is {css} bytes");
        assert!(js > 1_000 && js <= 25 * 1024, "{path}: JavaScript is {js} bytes");
    }
}

async fn gzip_bytes(app: &Router, url: &str) -> usize {
    let request = Request::get(url).header("accept-encoding", "gzip").body(HttpBody::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{url}");
    axum::body::to_bytes(response.into_body(), 4 << 20).await.unwrap().len()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { out.extend(files_below(&path)) } else { out.push(path) }
    }
    out
}

#[test]
fn the_seed_is_at_lunch() {
    let at = yika_crdt::civil::civil(NOON_MS, 480);
    assert_eq!((at.minute, CAMPUS), (12 * 60 + 30, CampusId(1)));
}

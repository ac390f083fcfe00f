//! Money that goes out at headquarters, as its pages do it: paid out, undone, given back; refused in the operator's language;
//! kept back while headquarters recovers; and the backups that all of it stands on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

#[path = "site/browser.rs"]
mod browser;
mod site;

use axum::http::StatusCode;
use browser::{Answer, Browser, app};
use std::time::Duration;
use yika_crdt::Fen;
use yika_crdt::entry::{Body, Mode, PurchaseRecord, Row, Source, WalletKey};
use yika_crdt::ids::*;
use yika_crdt::tariff::sheet::PeriodId;
use yika_hub::clock::wall_ms;
use yika_hub::core::Command;
use yika_hub::desk::{Actor, Desk, NewToken};
use yika_hub::store::read::{self, AuditQuery};
use yika_hub::store::transactions;

async fn acts(desk: &Desk, act: &str) -> Vec<read::AuditLine> {
    let query = AuditQuery { act: act.into(), limit: 500, ..AuditQuery::default() };
    desk.node.query(move |conn| read::audit(conn, &query)).await.unwrap()
}

fn field(text: &str, name: &str) -> String {
    let (_, rest) = text.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// The number behind a link to a slip.
fn slip_of(answer: &Answer) -> String {
    answer.text.split("/slip/").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

async fn books_balance(desk: &Desk) {
    let books = desk.node.query(read::trial_balance).await.unwrap();
    assert_eq!((books.sum_fen, books.accounts_differing), (0, 0));
}

/// Rows ACC-2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_is_paid_out_once_and_what_lies_at_silent_boxes_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 3).await;
    let person = site.holders[0].person;
    let mut browser = Browser::signed_in(&app(&site.desk), "clerk").await;
    let base = format!("/people/{person}/withdraw");
    let form = browser.get(&base).await;
    assert!(form.text.contains("东校区 A1") && form.text.contains("未连接"), "{}", form.text);
    let request = field(&form.text, "request");
    let main = || site.desk.holding(person).unwrap().wallets.into_iter().find(|w| w.wallet == "main").unwrap();
    let here = main().available_fen;
    assert!(here > 2_000, "the test needs money at headquarters");
    for bad in ["", "0", "-5", "1.234", "99999", "五十"] {
        let answer = browser.post(&base, &[("amount", bad), ("request", &request)]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad:?}");
    }
    // More than lies here: the boxes that hold the rest are silent, so nothing is paid, in words that say where it is.
    let all = form.text.split("全部 ¥").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let check = browser.post(&base, &[("amount", &all), ("request", &request)]).await;
    assert!(check.text.contains("要先从节点收回"), "{}", check.text);
    let sent = [("amount", all.as_str()), ("request", request.as_str()), ("reason", "离职")];
    let short = browser.post(&format!("{base}/confirm"), &sent).await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(short.text.contains("没有付款，余额未动") && short.text.contains("再试一次"), "{}", short.text);
    let said = format!("总部现有 {} 元可付，其余在节点：", Fen(here));
    assert!(short.text.contains(&said) && short.text.contains("元（未连接，"), "{}", short.text);
    assert_eq!(field(&short.text, "request"), request, "the same number is asked again");
    assert_eq!(main().available_fen, here);
    browser.lang("en");
    let english = browser.post(&format!("{base}/confirm"), &sent).await;
    assert!(english.text.contains("Nothing was paid") && english.text.contains("try again when they are connected"));
    browser.lang("zh");

    let form = browser.get(&base).await;
    let request = field(&form.text, "request");
    let sent = [("amount", "20"), ("request", request.as_str()), ("reason", "离职")];
    let check = browser.post(&base, &sent).await;
    assert!(check.text.contains("提现 ¥20.00") && check.text.contains("离职"), "{}", check.text);
    assert_eq!(main().available_fen, here, "checking pays nothing");
    let done = browser.post(&format!("{base}/confirm"), &sent).await;
    assert!(done.text.contains("提现已入账"), "{}", done.text);
    let again = browser.post(&format!("{base}/confirm"), &sent).await;
    assert_eq!(slip_of(&again), slip_of(&done), "twice the same number is one payment");
    assert_eq!(main().available_fen, here - 2_000);
    let other = browser.post(&format!("{base}/confirm"), &[("amount", "30"), ("request", &request)]).await;
    assert!(other.status == 422 && other.text.contains("已用于另一笔"), "{}", other.text);
    let slip = browser.get(&format!("/people/{person}/slip/{}", slip_of(&done))).await.text;
    for words in ["提现凭条", "-20.00", "离职", "领款人签字", "clerk"] {
        assert!(slip.contains(words), "{words}: {slip}");
    }
    let statement = browser.get(&format!("/people/{person}/statement")).await.text;
    assert!(statement.contains(&format!("id=\"m{}\"", slip_of(&done))) && statement.contains("离职"), "{statement}");
    let lines = acts(&site.desk, "account.withdraw").await;
    assert_eq!(lines.len(), 1, "a repeat leaves no line");
    let line = &lines[0].row;
    assert!(line.detail.contains("reason=离职") && line.who == "clerk", "{line:?}");
    let mut chief = Browser::signed_in(&app(&site.desk), "chief").await;
    assert!(chief.get("/audit?act=account").await.text.contains("原因：离职"));
    books_balance(&site.desk).await;
}

/// Rows ACC-1, ACC-2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_of_a_top_up_shows_one_balance_also_with_money_at_a_fenced_box() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 3).await;
    let (person, from) = (site.holders[0].person, site.boxes[0].writer);
    let row = Row { person, wallet: WalletKey::Main };
    let right = |site: &site::Site| {
        let wallets = site.desk.holding(person).unwrap().wallets;
        wallets.iter().flat_map(|w| w.at_boxes.clone()).find(|(w, ..)| *w == from).map_or(0, |(_, right, _)| right)
    };
    let ask = Command::Ask { from, row, total: Fen(100_000_000) };
    // More than there is: the box is given nothing; then a part of what is there.
    site.desk.node.call(ask).await.unwrap();
    let total = Fen(site.desk.holding(person).unwrap().wallets[0].available_fen.min(5_000));
    site.desk.node.call(Command::Ask { from, row, total }).await.unwrap();
    let spendable = site.desk.holding(person).unwrap().total_fen;
    let held = right(&site);
    assert!(held > 0, "the test needs money at the box");
    site.desk.fence(&Actor::console(), from.node, "tested").await.unwrap();
    let rest = Fen(spendable - held);
    assert_eq!(site.desk.holding(person).unwrap().total_fen, rest.0);

    let mut browser = Browser::signed_in(&app(&site.desk), "clerk").await;
    let (before, after) = (format!("¥{rest}"), format!("¥{}", Fen(rest.0 + 1_234)));
    let base = format!("/people/{person}/top-up");
    let form = browser.get(&base).await.text;
    assert!(form.contains(&before), "{before}: {form}");
    let request = field(&form, "request");
    let sent = [("amount", "12.34"), ("request", request.as_str())];
    let check = browser.post(&base, &sent).await;
    assert!(check.text.contains(&before) && check.text.contains(&after), "{before} {after}: {}", check.text);
    let done = browser.post(&format!("{base}/confirm"), &sent).await;
    assert!(done.text.contains(&before) && done.text.contains(&after), "{before} {after}: {}", done.text);
    let slip = browser.get(&format!("/people/{person}/slip/{}", slip_of(&done))).await.text;
    assert!(slip.contains(&format!("<td>{rest}</td>")) && slip.contains(&after), "{before} {after}: {slip}");
    let page = browser.get(&format!("/people/{person}/statement")).await.text;
    assert!(page.contains("封禁挂账") && page.contains(&format!("-{}", Fen(held))), "{page}");
    books_balance(&site.desk).await;
}

/// Rows ACC-1, ACC-2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_teller_undoes_a_top_up_with_a_reason_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 3).await;
    let person = site.holders[1].person;
    let app = app(&site.desk);
    let mut cashier = Browser::signed_in(&app, "cashier").await;
    let base = format!("/people/{person}/top-up");
    let request = field(&cashier.get(&base).await.text, "request");
    let done = cashier.post(&format!("{base}/confirm"), &[("amount", "88"), ("request", &request)]).await;
    let number = slip_of(&done);
    let before = site.desk.holding(person).unwrap().total_fen;
    let undo = format!("/people/{person}/undo/{number}");
    let offered = |text: &str| text.contains(&format!("hx-get=\"{undo}\""));
    assert!(offered(&cashier.get(&format!("/people/{person}/statement")).await.text));
    let ask = cashier.get(&undo).await.text;
    assert!(ask.contains("撤销 ¥88.00") && ask.contains("cashier"), "{ask}");
    // Somebody else is not offered it, and refused in words when he tries all the same.
    let mut clerk = Browser::signed_in(&app, "clerk").await;
    assert!(!offered(&clerk.get(&format!("/people/{person}/statement")).await.text));
    let foreign = clerk.post(&undo, &[("reason", "录错了")]).await;
    assert!(foreign.status == 422 && foreign.text.contains("只有经办这笔充值的操作员"), "{}", foreign.text);
    for bad in ["", "   ", &"长".repeat(201)] {
        let bare = cashier.post(&undo, &[("reason", bad)]).await;
        assert!(bare.status == 422 && bare.text.contains("请写明原因"), "{}", bare.text);
    }
    assert_eq!(site.desk.holding(person).unwrap().total_fen, before);
    let undone = cashier.post(&undo, &[("reason", "录错了人")]).await;
    assert!(undone.text.contains("已撤销 ¥88.00"), "{}", undone.text);
    assert_eq!(site.desk.holding(person).unwrap().total_fen, before - 8_800);
    let again = cashier.post(&undo, &[("reason", "再点一次")]).await;
    assert!(again.status == 200 && slip_of(&again) == slip_of(&undone), "{}", again.text);
    assert_eq!(site.desk.holding(person).unwrap().total_fen, before - 8_800, "undone once");
    let statement = cashier.get(&format!("/people/{person}/statement")).await.text;
    assert!(statement.contains("已撤销") && statement.contains("录错了人") && !offered(&statement), "{statement}");
    let slip = cashier.get(&format!("/people/{person}/slip/{}", slip_of(&undone))).await.text;
    assert!(slip.contains("撤销充值凭条") && slip.contains("-88.00") && slip.contains("录错了人"), "{slip}");
    // A sale or a withdrawal is no top-up.
    assert_eq!(cashier.get(&format!("/people/{person}/undo/{}", slip_of(&undone))).await.status, StatusCode::NOT_FOUND);
    books_balance(&site.desk).await;
}

/// A sale of a box that stands whole, and where its page is.
async fn a_whole_sale(site: &site::Site, at: usize) -> (transactions::SaleRow, String) {
    let writer = site.boxes[at].writer;
    for seq in 1..200 {
        let found = site.desk.node.query(move |conn| transactions::sale_at(conn, writer, seq)).await.unwrap();
        if let Some(sale) = found.filter(|sale| sale.total >= 1_000) {
            return (sale, format!("/transactions/{writer}/{seq}"));
        }
    }
    panic!("no sale");
}

/// Rows POS-22.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headquarters_gives_a_sale_back_when_its_box_no_longer_may() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = site::filled(dir.path(), 20).await;
    let (sale, href) = a_whole_sale(&site, 0).await;
    let app = app(&site.desk);
    let mut clerk = Browser::signed_in(&app, "clerk").await;
    let refund = format!("{href}/refund");
    let barred = clerk.get(&refund).await.text;
    assert!(
        barred.contains("现在不能由总部退") && barred.contains("还没有完成") && !barred.contains("下一步"),
        "{barred}"
    );
    let forced = [("scope", "all"), ("kind", "refund"), ("reason", "坏了"), ("request", "forced")];
    let refused = clerk.post(&format!("{refund}/confirm"), &forced).await;
    assert!(refused.status == 422 && refused.text.contains("在此之前只能由该节点退回"), "{}", refused.text);

    site.say(0, vec![(wall_ms(), Body::Cut(Day(sale.day)))]).await;
    let form = clerk.get(&refund).await.text;
    assert!(form.contains(&format!("全部 ¥{}", Fen(sale.total))), "{form}");
    let request = field(&form, "request");
    let wish = |scope, amount, reason| {
        [("scope", scope), ("amount", amount), ("kind", "refund"), ("reason", reason), ("request", request.as_str())]
    };
    for (scope, amount, reason) in
        [("part", "", "坏了"), ("part", "-1", "坏了"), ("part", "9999", "坏了"), ("all", "", "")]
    {
        let bad = clerk.post(&refund, &wish(scope, amount, reason)).await;
        assert!(bad.status == 422 && bad.text.contains("role=\"alert\""), "{scope} {amount}: {}", bad.text);
    }
    let check = clerk.post(&refund, &wish("part", "3.50", "菜是坏的")).await;
    assert!(check.text.contains("退款 ¥3.50") && check.text.contains("商户应付减少 ¥3.50"), "{}", check.text);
    let holder = PersonId(sale.person);
    let before = site.desk.holding(holder).unwrap().total_fen;
    let done = clerk.post(&format!("{refund}/confirm"), &wish("part", "3.50", "菜是坏的")).await;
    assert!(done.text.contains("已退款 ¥3.50"), "{}", done.text);
    let again = clerk.post(&format!("{refund}/confirm"), &wish("part", "3.50", "菜是坏的")).await;
    assert!(again.text.contains("没有重复退款"), "{}", again.text);
    assert_eq!(site.desk.holding(holder).unwrap().total_fen, before + 350);
    let page = clerk.get(&href).await.text;
    assert!(page.contains("部分退回") && page.contains("菜是坏的") && page.contains("经办 clerk"), "{page}");
    let rest = field(&clerk.get(&refund).await.text, "request");
    let all = [("scope", "all"), ("kind", "correction"), ("reason", "输错"), ("request", rest.as_str())];
    let done = clerk.post(&format!("{refund}/confirm"), &all).await;
    assert!(done.text.contains(&format!("已退款 ¥{}", Fen(sale.total - 350))), "{}", done.text);
    let page = clerk.get(&href).await.text;
    assert!(page.contains("已全部退回") && !page.contains(&format!("hx-get=\"{refund}\"")), "{page}");
    assert!(clerk.get(&refund).await.text.contains("剩余可退的金额没有这么多"));
    // The refunds stand in the list, and lead to their sale.
    let day = "from=2020-01-01&to=2099-12-31";
    let list = clerk.get(&format!("/transactions?{day}&kind=refund")).await.text;
    assert!(list.contains("-3.50"), "{list}");
    let link = list.split("class=\"btn is-link\" href=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(clerk.get(&link).await.header("location"), href);
    assert_eq!(acts(&site.desk, "sale.refund").await.len(), 2, "a repeat is answered and leaves no line");
    // Others are not let in: a cashier by role, a clerk of another campus.
    let mut cashier = Browser::signed_in(&app, "cashier").await;
    assert_eq!(cashier.get(&refund).await.status, StatusCode::FORBIDDEN);
    let west = site.boxes[2].writer;
    let mut east = Browser::signed_in(&app, "east").await;
    assert_eq!(east.get(&format!("/transactions/{west}/1/refund")).await.status, StatusCode::FORBIDDEN);
    books_balance(&site.desk).await;
}

/// Rows ACC-2, POS-16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_guest_pool_lent_counts_as_spent() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = site::filled(dir.path(), 20).await;
    let holder = site.holders[0].clone();
    let spent = |site: &site::Site| -> i64 {
        site.desk.holding(holder.person).unwrap().wallets.iter().map(|wallet| wallet.spent_fen).sum()
    };
    let before = spent(&site);
    let sale = site.sale(0, &holder, 2_000, wall_ms());
    let lent = PurchaseRecord { paid: vec![(Source::Guest, Fen(2_000))], ..sale };
    site.say(0, vec![(wall_ms(), Body::Purchase(lent))]).await;
    assert_eq!(spent(&site), before + 2_000);
    books_balance(&site.desk).await;
}

/// Rows POS-11, POS-22.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headquarters_takes_a_counted_meal_back_without_speaking_of_money() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = site::filled(dir.path(), 20).await;
    let holder = site.holders[0].clone();
    let sale = site.sale(0, &holder, 1_200, wall_ms());
    // At another price than the tariff's: that is said, too, and without a sum.
    let (mode, adjustment, period) = (Mode::Count, Fen(-1_200), Some(PeriodId(3)));
    let meal = PurchaseRecord { mode, adjustment, period, paid: Vec::new(), offline: true, ..sale };
    let (id, day) = (meal.id, meal.day);
    site.say(0, vec![(wall_ms(), Body::Purchase(meal)), (wall_ms(), Body::Cut(day))]).await;
    let place = site.desk.node.query(move |conn| transactions::sales_of(conn, id)).await.unwrap()[0].place;
    let refund = format!("/transactions/{}/{}/refund", place.writer(), place.seq);
    let mut clerk = Browser::signed_in(&app(&site.desk), "clerk").await;
    let form = clerk.get(&refund).await.text;
    assert!(form.contains("计 1 餐") && form.contains("计餐有误") && !form.contains('¥'), "{form}");
    let request = field(&form, "request");
    let wish = [("scope", "all"), ("kind", "correction"), ("reason", "刷错了"), ("request", request.as_str())];
    let check = clerk.post(&refund, &wish).await.text;
    assert!(check.contains("退回这一餐") && !check.contains('¥'), "{check}");
    let before = site.desk.holding(holder.person).unwrap().total_fen;
    let done = clerk.post(&format!("{refund}/confirm"), &wish).await.text;
    assert!(done.contains("已退回这一餐") && done.contains("没有可退的") && !done.contains('¥'), "{done}");
    let record = clerk.get(&format!("/transactions/{}/{}", place.writer(), place.seq)).await.text;
    assert!(record.contains("计 1 餐") && record.contains("刷错了") && !record.contains('¥'), "{record}");
    assert!(record.contains("定价与记录不符"), "{record}");
    let again = clerk.post(&format!("{refund}/confirm"), &wish).await.text;
    assert!(again.contains("没有重复退款"), "{again}");
    assert_eq!(site.desk.holding(holder.person).unwrap().total_fen, before);
    books_balance(&site.desk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_that_a_discount_made_free_is_no_counted_meal() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = site::filled(dir.path(), 20).await;
    let holder = site.holders[0].clone();
    let sale = site.sale(0, &holder, 1_200, wall_ms());
    let free = PurchaseRecord { adjustment: Fen(-1_200), paid: Vec::new(), ..sale };
    let (id, day) = (free.id, free.day);
    site.say(0, vec![(wall_ms(), Body::Purchase(free)), (wall_ms(), Body::Cut(day))]).await;
    let place = site.desk.node.query(move |conn| transactions::sales_of(conn, id)).await.unwrap()[0].place;
    let refund = format!("/transactions/{}/{}/refund", place.writer(), place.seq);
    let mut clerk = Browser::signed_in(&app(&site.desk), "clerk").await;
    let form = clerk.get(&refund).await.text;
    assert!(form.contains("¥0.00") && !form.contains("计 1 餐") && !form.contains("部分"), "{form}");
    let request = field(&form, "request");
    let wish = [("scope", "all"), ("kind", "refund"), ("reason", "未用餐"), ("request", request.as_str())];
    let done = clerk.post(&format!("{refund}/confirm"), &wish).await.text;
    assert!(done.contains("已退款 ¥0.00"), "{done}");
    books_balance(&site.desk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_stands_on_every_page_and_keeps_money_back() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 3).await;
    let app = app(&site.desk);
    let mut chief = Browser::signed_in(&app, "chief").await;
    assert!(chief.get("/recovery").await.text.contains("没有进行中的恢复"));
    assert!(!chief.get("/").await.text.contains("总部正在恢复"));
    site.desk.node.call(Command::Restored).await.unwrap();
    let person = site.holders[0].person;
    for path in ["/", "/people", "/backups", "/tariff", "/nowhere", &format!("/people/{person}")] {
        let text = chief.get(path).await.text;
        assert!(text.contains("总部正在恢复，等待 3 个节点上报：东校区 A1、东校区 A2、西校区 B1"), "{path}: {text}");
    }
    assert!(!Browser::new(&app).get("/login").await.text.contains("总部正在恢复"), "strangers are told nothing");
    let page = chief.get("/recovery").await.text;
    for words in ["等待上报", "封禁此节点", "暂时停止", "照常进行", "请补录备份和日志之后在总部办理的业务"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
    let base = format!("/people/{person}/withdraw");
    let request = field(&chief.get(&base).await.text, "request");
    let refused = chief.post(&format!("{base}/confirm"), &[("amount", "1"), ("request", &request)]).await;
    assert!(refused.status == 422 && refused.text.contains("暂时不能付款"), "{}", refused.text);
    let campus = [("campus", "1"), ("name", "东区"), ("offset", "480"), ("cut", "03:00")];
    let refused = chief.post("/campuses/edit", &campus).await;
    assert!(refused.status == 422 && refused.text.contains("暂时不能修改园区、终端和价目"), "{}", refused.text);
    chief.lang("en");
    assert!(chief.get("/").await.text.contains("Headquarters is recovering and waits for 3 boxes"));
    chief.lang("zh");
    chief.post("/edges/n1/fence", &[("reason", "主机被盗")]).await;
    let fenced = chief.get("/recovery").await.text;
    assert!(fenced.contains("等待 2 个") && fenced.contains("不再等待"), "{fenced}");
    for node in ["n2", "n3"] {
        chief.post(&format!("/edges/{node}/fence"), &[("reason", "主机损坏")]).await;
    }
    site.desk.node.call(Command::Tick { connected: Vec::new() }).await.unwrap();
    assert!(chief.get("/recovery").await.text.contains("没有进行中的恢复"), "all are fenced: nothing is waited for");
}

/// Asks until nothing is under way.
async fn settled(browser: &mut Browser) -> String {
    for _ in 0..600 {
        let text = browser.get("/backups").await.text;
        if !text.contains("every 1s") {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the backup does not end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_made_shown_and_checked_on_its_page() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 3).await;
    let app = app(&site.desk);
    let mut chief = Browser::signed_in(&app, "chief").await;
    let empty = chief.get("/backups").await.text;
    assert!(empty.contains("还没有备份") && empty.contains("备份目录中没有文件"), "{empty}");
    let begun = chief.post("/backups", &[]).await.text;
    assert!(begun.contains("every 1s") || begun.contains("备份完成"), "{begun}");
    let made = settled(&mut chief).await;
    assert!(made.contains("备份完成，已通过校验") && made.contains("已校验") && !made.contains("还没有备份"), "{made}");
    assert_eq!(acts(&site.desk, "backup.create").await[0].row.who, "chief");
    let name = field(&made, "file");
    chief.post("/backups/verify", &[("file", &name)]).await;
    let checked = settled(&mut chief).await;
    assert!(checked.contains("校验通过") && checked.contains("账簿平衡"), "{checked}");
    // A file that is no backup any more: said in words, and the log has the rest.
    let path = dir.path().join("backups").join(&name);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&path, bytes).unwrap();
    chief.post("/backups/verify", &[("file", &name)]).await;
    let damaged = settled(&mut chief).await;
    assert!(damaged.contains("没有通过校验，不要依赖它"), "{damaged}");
    for path in ["../hub.db", "nothing.backup", "", "/etc/passwd"] {
        let unknown = chief.post("/backups/verify", &[("file", path)]).await;
        assert!(unknown.status == 422 && unknown.text.contains("备份目录中没有"), "{path}: {}", unknown.text);
    }
    for (login, status) in [("clerk", 403), ("auditor", 403), ("eastadmin", 403)] {
        let mut other = Browser::signed_in(&app, login).await;
        assert_eq!(other.get("/backups").await.status.as_u16(), status, "{login}");
        assert_eq!(other.post("/backups", &[]).await.status.as_u16(), status, "{login}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_desk_refuses_in_the_readers_language_and_the_audit_is_worded() {
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 2).await;
    let mut chief = Browser::signed_in(&app(&site.desk), "chief").await;
    chief.get("/tariff").await;
    let tariff = site::TARIFF.replace("until_minute = 570", "until_minute = 700");
    let zh = chief.post("/tariff/upload", &[("text", &tariff)]).await.text;
    assert!(zh.contains("餐次第 1 行与第 2 行在 10:30 重叠"), "{zh}");
    chief.lang("en");
    let en = chief.post("/tariff/upload", &[("text", &tariff)]).await.text;
    assert!(en.contains("periods, rows 1 and 2: both are open at 10:30"), "{en}");
    chief.lang("zh");
    let misspelt = chief.post("/tariff/upload", &[("text", &site::TARIFF.replace("barred", "bared"))]).await.text;
    assert!(misspelt.contains("没有名为 bared 的字段") && misspelt.contains("第 3 行"), "{misspelt}");
    let last = chief.post("/operators/o1/active", &[("active", "0")]).await;
    assert!(last.status == 422 && last.text.contains("总部最后一名管理员不能停用"), "{}", last.text);
    let replaces = Some(NodeId(1));
    let new = NewToken { campus: CampusId(1), ttl_s: 60, replaces, name: None, advertised: None };
    site.desk.create_token(&Actor::console(), new).await.unwrap();
    let audit = chief.get("/audit").await.text;
    for words in ["替换 n1", "角色 柜员 · 状态 启用", "¥300.00 · 编号 first-p1"] {
        assert!(audit.contains(words), "{words}: {audit}");
    }
}

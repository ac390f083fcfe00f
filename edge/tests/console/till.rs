//! The web till: ids drawn by the page, first answers, corrections, cancellations, shifts.

use crate::campus::{Campus, EDGE, FIRST_CHIP, Seed, app_of, card, grant_in, sheet};
use crate::client::{Answer, Browser};
use axum::http::StatusCode;
use std::sync::Arc;
use yika_crdt::Fen;
use yika_crdt::channel::Channel;
use yika_crdt::edge::Command;
use yika_crdt::entry::{Body, RefundKind, Row, WalletKey};
use yika_crdt::ids::*;
use yika_crdt::tariff::sheet::{GuestRule, TariffSheet};
use yika_drivers::card_format::ReaderProfile;
use yika_edge::console::{ConsoleConfig, Delivers, WedgeReader};

/// A cashier's page with its shift.
struct Till {
    browser: Browser,
    boot: String,
    attached: String,
    next: u32,
}

impl Till {
    async fn open(campus: &Campus, login: &str, terminal: &str) -> Till {
        let mut browser = Browser::signed_in(&campus.app, login).await;
        browser.get("/till").await;
        let on = browser.post("/till/on", &[("terminal", terminal)]).await;
        assert_eq!((on.status, on.location()), (StatusCode::SEE_OTHER, "/till"), "{}", on.text);
        Till::of(browser).await
    }

    async fn of(mut browser: Browser) -> Till {
        let page = browser.get("/till").await;
        let word = |name: &str| page.attribute(name).unwrap_or_else(|| panic!("no {name}: {}", page.text)).to_owned();
        let next = word("data-next").parse().unwrap();
        Till { boot: word("data-boot"), attached: word("data-attached"), next, browser }
    }

    async fn send(&mut self, path: &str, seq: u32, more: &[(&str, &str)]) -> Answer {
        let seq = seq.to_string();
        let own = [("boot", self.boot.as_str()), ("attached", self.attached.as_str()), ("seq", seq.as_str())];
        let fields: Vec<_> = own.into_iter().chain(more.iter().copied()).collect();
        let answer = self.browser.call(path, &fields).await;
        if let Some(next) = answer.attribute("data-next") {
            self.next = next.parse().unwrap();
        }
        answer
    }

    async fn sell(&mut self, fen: &str, card: &str) -> Answer {
        self.send("/till/sale", self.next, &[("mode", "amount"), ("fen", fen), ("card", card)]).await
    }
}

fn state(answer: &Answer) -> &str {
    answer.attribute("data-state").unwrap_or("none")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_asked_again_gets_the_first_answer_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut till = Till::open(&campus, "wu", "11").await;
    let number = card(1).to_string();
    let first = till.sell("1250", &number).await;
    assert_eq!((first.status, state(&first)), (StatusCode::OK, "approved"), "{}", first.text);
    assert!(first.text.contains("¥12.50") && first.text.contains("张*") && !first.text.contains("张伟"));
    assert_eq!(till.next, 2);
    let sale = [("mode", "amount"), ("fen", "1250"), ("card", number.as_str())];
    let again = till.send("/till/sale", 1, &sale).await;
    assert_eq!(state(&again), "approved");
    assert!(again.text.contains("没有重复扣款"));
    // The same number for another sale is refused, whatever the page thinks.
    let other = till.send("/till/sale", 1, &[("mode", "amount"), ("fen", "1300"), ("card", number.as_str())]).await;
    assert!(state(&other) == "refused" && other.text.contains("没有扣款"), "{}", other.text);
    // Another page sold under it meanwhile: its answer is none to the card that waited here.
    let card_here = card(2).to_string();
    let other = [("mode", "amount"), ("fen", "1250"), ("card", card_here.as_str()), ("at_ms", "1796098816000")];
    let other = till.send("/till/sale", 1, &other).await;
    assert!(state(&other) == "refused" && other.text.contains("刚才这张卡没有扣款"), "{}", other.text);
    assert!(other.attribute("data-locked").is_none(), "the page may go on: {}", other.text);
    assert_eq!(campus.sales().len(), 1);

    let (boot, next) = (till.boot.clone(), till.next);
    drop(till);
    let campus = campus.restart(dir.path(), ConsoleConfig::default()).await;
    let mut till = Till::of(Browser::signed_in(&campus.app, "wu").await).await;
    assert_eq!((till.boot.as_str(), till.next), (boot.as_str(), next), "the shift outlives the process");
    let again = till.send("/till/sale", 1, &sale).await;
    assert_eq!(state(&again), "approved");
    assert_eq!(campus.sales().len(), 1);
}

/// Rows POS-6, POS-7, POS-8, POS-11, POS-19, POS-25.
#[tokio::test(flavor = "multi_thread")]
async fn every_mode_sells_and_every_refusal_has_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let mut campus = Campus::new(dir.path(), Seed::Lunch).await;
    campus.block_by_hub(card(7)).await;
    let mut till = Till::open(&campus, "wu", "11").await;
    let discounted = card(2).to_string();
    let fixed = till.send("/till/sale", 1, &[("mode", "fixed"), ("card", discounted.as_str())]).await;
    assert!(
        state(&fixed) == "approved" && fixed.text.contains("¥9.00") && fixed.text.contains("优惠"),
        "{}",
        fixed.text
    );
    let portions = [("mode", "portions"), ("fen", "350"), ("portions", "2"), ("card", discounted.as_str())];
    let portions = till.send("/till/sale", till.next, &portions).await;
    assert!(state(&portions) == "approved" && portions.text.contains("3.50 × 2"), "{}", portions.text);
    let counted = till.send("/till/sale", till.next, &[("mode", "count"), ("card", discounted.as_str())]).await;
    assert!(state(&counted) == "approved" && counted.text.contains("计 1 餐"), "{}", counted.text);
    for (fen, number, word) in [
        ("900", card(7), "卡已挂失或冻结"),
        ("900", card(8), "卡未启用或已过期"),
        ("900", card(9), "本机不可用此卡"),
        ("900", card(99), "无此卡"),
        ("640000", card(1), "余额不足"),
        ("0", card(1), "金额无效"),
        ("-5", card(1), "金额无效"),
        ("9223372036854775807", card(1), "金额无效"),
    ] {
        let refused = till.sell(fen, &number.to_string()).await;
        assert_eq!((refused.status, state(&refused)), (StatusCode::OK, "refused"), "{word}");
        assert!(refused.text.contains(word), "{word}: {}", refused.text);
        // Whoever has too little is told how much, and that the line is cut.
        let told = refused.text.contains("还可扣 ¥") && refused.text.contains("断网期间");
        assert_eq!(told, word == "余额不足", "{word}: {}", refused.text);
    }
    // What is no card and no sale is refused before a number is used up.
    let before = till.next;
    for fields in [
        [("mode", "amount"), ("fen", "500"), ("card", "62-00?")],
        [("mode", "amount"), ("fen", "500"), ("card", "")],
        [("mode", "weight"), ("fen", "500"), ("card", "62004801")],
        [("mode", "portions"), ("fen", "500"), ("card", "62004801")],
    ] {
        let refused = till.send("/till/sale", before, &fields).await;
        assert_eq!((refused.status, state(&refused)), (StatusCode::UNPROCESSABLE_ENTITY, "refused"), "{fields:?}");
        assert_eq!(till.next, before);
    }
    for fields in [[("mode", "amount"), ("fen", "12.5")], [("mode", "amount"), ("fen", "99999999999999999999")]] {
        let refused = till.send("/till/sale", before, &fields).await;
        assert!(refused.status.is_client_error(), "{fields:?}");
    }
    let shift = till.browser.post("/till/off", &[("terminal", "11")]).await;
    let slip = till.browser.get(shift.location()).await;
    assert!(slip.text.contains("2 · ¥14.25") && slip.text.contains("吴收银"), "{}", slip.text);
}

/// Cut off, whoever has too little at this box may be sold to from the guest pool: the cashier is told that it is credit.
#[tokio::test(flavor = "multi_thread")]
async fn a_sale_from_the_guest_pool_says_that_it_is_credit() {
    let dir = tempfile::tempdir().unwrap();
    let mut campus = Campus::new(dir.path(), Seed::Lunch).await;
    let guest = GuestRule { per_purchase: Fen(20_000), per_card_day: Fen(20_000) };
    let tariff = TariffSheet { version: TariffVersion(2), guest, ..sheet() };
    campus.say(Channel::Registry, vec![Body::Tariff(Box::new(tariff))]).await;
    let pool = Row { person: PersonId(0), wallet: WalletKey::Guest };
    campus.say(Channel::Rights(EDGE), vec![grant_in(pool, 50_000)]).await;
    campus.node.refresh_registry().unwrap();
    let mut till = Till::open(&campus, "wu", "11").await;
    let own = till.sell("1250", &card(1).to_string()).await.text;
    assert!(own.contains("断网时本节点还可扣") && own.contains("（不是余额）") && !own.contains("赊账"), "{own}");
    let lent = till.sell("9000", &card(1).to_string()).await;
    assert_eq!(state(&lent), "approved", "{}", lent.text);
    assert!(lent.text.contains("成功（赊账）") && lent.text.contains("赊账 ¥90.00"), "{}", lent.text);
    assert!(!lent.text.contains("还可扣"), "the share is no matter here: {}", lent.text);
    let paper = till.browser.get(&format!("/till/receipt/11/{}/2", till.boot)).await.text;
    assert!(paper.contains("赊账，待结清"), "{paper}");
}

/// Headquarters has ended this box: the till says so and sends the cashier elsewhere, also in the middle of a shift.
#[tokio::test(flavor = "multi_thread")]
async fn the_till_of_a_fenced_box_says_where_to_sell() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut till = Till::open(&campus, "wu", "11").await;
    till.sell("500", &card(1).to_string()).await;
    campus.tell(Command::Fenced).await;
    let refused = till.sell("600", &card(1).to_string()).await;
    assert_eq!((refused.status, state(&refused)), (StatusCode::CONFLICT, "refused"), "{}", refused.text);
    for words in ["data-locked", "已被总部封禁", "没有扣款，以后也不会扣", "其他节点的收银机", "通知信息部门"]
    {
        assert!(refused.text.contains(words), "{words}: {}", refused.text);
    }
    assert!(!refused.text.contains("稍后") && !refused.text.contains("回到这里收银"), "{}", refused.text);
    let again = till.send("/till/sale", 1, &[("mode", "amount"), ("fen", "500"), ("card", &card(1).to_string())]).await;
    assert!(again.text.contains("不要重收") && !again.text.contains("没有扣款"), "{}", again.text);
    let back = till.send("/till/correct", 2, &[("of", "1")]).await;
    assert!(back.text.contains("没有退回") && !back.text.contains("没有扣款"), "{}", back.text);
    let header = till.browser.get("/till/state").await.text;
    assert!(header.contains("已被总部封禁") && header.contains("\"offline\":true"), "{header}");
    let page = till.browser.get("/till").await;
    assert!(page.status == StatusCode::OK && page.text.contains("其他节点的收银机"), "{}", page.text);
    assert_eq!(till.browser.post("/till/on", &[("terminal", "11")]).await.location(), "/till");
    let off = till.browser.post("/till/off", &[("terminal", "11")]).await;
    assert!(page.text.contains(off.location()) && off.location().starts_with("/till/shifts/11/"), "{}", off.text);
    assert!(till.browser.get(off.location()).await.text.contains("¥5.00"), "the cashier has his slip");
    assert_eq!(campus.sales().len(), 1);
}

/// Rows POS-20.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_sale_is_taken_back_once_by_a_linked_negative() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut till = Till::open(&campus, "wu", "11").await;
    till.sell("500", &card(1).to_string()).await;
    till.sell("700", &card(3).to_string()).await;
    let not_last = till.send("/till/correct", 3, &[("of", "1")]).await;
    assert_eq!(not_last.status, StatusCode::UNPROCESSABLE_ENTITY);
    let back = till.send("/till/correct", 3, &[("of", "2")]).await;
    assert!(state(&back) == "undone" && back.text.contains("-¥7.00"), "{}", back.text);
    let again = till.send("/till/correct", 3, &[("of", "2")]).await;
    assert_eq!(state(&again), "undone");
    let twice = till.send("/till/correct", 4, &[("of", "2")]).await;
    assert_eq!(twice.status, StatusCode::UNPROCESSABLE_ENTITY);
    let refunds: Vec<_> =
        campus.journal().into_iter().filter_map(|b| if let Body::Refund(r) = b { Some(r) } else { None }).collect();
    assert_eq!(refunds.len(), 1);
    assert_eq!((refunds[0].kind, refunds[0].of.seq, refunds[0].operator.0), (RefundKind::Correction, 2, 3));
    assert_eq!(Fen::sum(refunds[0].back.iter().map(|(_, part)| *part)).unwrap(), Fen(700));
    assert!(back.text.contains("2 · ¥5.00"), "the sums of the shift follow: {}", back.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_question_is_never_sold_and_a_sold_one_is_reversed() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut till = Till::open(&campus, "wu", "11").await;
    let number = card(1).to_string();
    let sale = [("mode", "amount"), ("fen", "500"), ("card", number.as_str())];
    // The sale never arrived: cancelled first, then its late copy comes.
    let cancelled = till.send("/till/cancel", 2, &[("of", "1")]).await;
    assert!(state(&cancelled) == "undone" && cancelled.text.contains("没有扣款"), "{}", cancelled.text);
    let late = till.send("/till/sale", 1, &sale).await;
    assert_eq!(state(&late), "refused");
    assert!(campus.sales().is_empty());
    // The sale arrived and only its answer was lost.
    let seq = till.next;
    till.send("/till/sale", seq, &sale).await;
    let cancelled = till.send("/till/cancel", seq + 1, &[("of", &seq.to_string())]).await;
    assert!(state(&cancelled) == "undone" && cancelled.text.contains("-¥5.00"), "{}", cancelled.text);
    let again = till.send("/till/cancel", seq + 1, &[("of", &seq.to_string())]).await;
    assert_eq!(state(&again), "undone");
    let reversals =
        campus.journal().iter().filter(|b| matches!(b, Body::Refund(r) if r.kind == RefundKind::Reversal)).count();
    assert_eq!((campus.sales().len(), reversals), (1, 1));
}

/// What the page asks to be cancelled is the one question that waits, never an older sale.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_question_that_waits_for_its_answer_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut till = Till::open(&campus, "wu", "11").await;
    for fen in ["500", "600"] {
        assert_eq!(state(&till.sell(fen, &card(1).to_string()).await), "approved");
    }
    for (seq, of) in [("3", "1"), ("2", "1"), ("4", "2"), ("9", "8"), ("3", "3"), ("3", "0"), ("1", "4294967295")] {
        let known = till.send("/till/cancel", seq.parse().unwrap(), &[("of", of)]).await;
        let open = seq == "9"; // nothing is known beyond it: nothing was sold under it, nor will be
        let is_refused = known.status == StatusCode::UNPROCESSABLE_ENTITY || state(&known) == "refused";
        assert!(if open { state(&known) == "undone" } else { is_refused }, "{seq} of {of}: {}", known.text);
    }
    let sold = till.send("/till/sale", 10, &[("mode", "amount"), ("fen", "700"), ("card", &card(1).to_string())]).await;
    assert_eq!(state(&sold), "approved");
    let own_boot = till.boot.clone();
    // The next cashier at this till: the shift before is closed to him.
    till.browser.post("/till/off", &[("terminal", "11")]).await;
    let mut next = Till::open(&campus, "lin", "11").await;
    next.boot = own_boot;
    let other = next.send("/till/cancel", 11, &[("of", "10")]).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", other.text);
    assert!(other.text.contains("上一班没有确认的那一笔不能在这里取消"), "{}", other.text);
    assert!(campus.journal().iter().all(|body| !matches!(body, Body::Refund(_))), "nothing was given back");
}

/// Rows POS-28.
#[tokio::test(flavor = "multi_thread")]
async fn one_page_and_one_cashier_have_a_till() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut till = Till::open(&campus, "wu", "11").await;
    // Somebody else cannot take it, nor a suspended one, nor a door reader.
    let mut admin = Browser::signed_in(&campus.app, "lin").await;
    let choice = admin.get("/till").await;
    assert!(choice.text.contains("吴收银 使用中") && choice.text.contains("已停用"), "{}", choice.text);
    for (terminal, status) in [("11", 409), ("13", 422), ("101", 422), ("999", 422)] {
        let refused = admin.post("/till/on", &[("terminal", terminal)]).await;
        assert_eq!(refused.status.as_u16(), status, "{terminal}");
    }
    // The same cashier in a second window: the first one stops.
    let second = Browser::signed_in(&campus.app, "wu").await;
    let mut second = Till::of(second).await;
    assert_eq!(second.boot, till.boot);
    let stopped = till.sell("500", &card(1).to_string()).await;
    assert_eq!((stopped.status, stopped.attribute("data-next")), (StatusCode::CONFLICT, Some("1")));
    assert!(stopped.text.contains("data-locked"));
    assert_eq!(state(&second.sell("500", &card(1).to_string()).await), "approved");
    // The administrator ends the shift: the page sells no more, the till is free.
    let ended = admin.post("/till/off", &[("terminal", "11")]).await;
    assert!(ended.location().starts_with("/till/shifts/11/"), "{}", ended.text);
    let over = second.sell("500", &card(1).to_string()).await;
    assert_eq!(over.status, StatusCode::CONFLICT);
    let taken = admin.post("/till/on", &[("terminal", "11")]).await;
    assert_eq!(taken.location(), "/till");
    let mut own = Till::of(admin).await;
    assert!(own.boot.parse::<u32>().unwrap() > second.boot.parse::<u32>().unwrap());
    // A question left over from the old shift is not sold now; one that was sold gets its answer.
    let (boot, number) = (second.boot.clone(), card(1).to_string());
    own.boot = boot;
    let sale = [("mode", "amount"), ("fen", "500"), ("card", number.as_str())];
    let sold_then = own.send("/till/sale", 1, &sale).await;
    assert_eq!(state(&sold_then), "approved");
    let left_over = own.send("/till/sale", 2, &sale).await;
    assert_eq!(left_over.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(campus.sales().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_deliver_chips_and_typed_cards_are_journaled() {
    let dir = tempfile::tempdir().unwrap();
    let mut campus = Campus::new(dir.path(), Seed::Lunch).await;
    let reader = WedgeReader { delivers: Delivers::Chip, profile: ReaderProfile::DEC10, ..WedgeReader::default() };
    let config = ConsoleConfig { reader, ..ConsoleConfig::default() };
    campus.app = app_of(&Arc::clone(&campus.node), &campus.doors, config, dir.path());
    let mut till = Till::open(&campus, "wu", "11").await;
    let chip = format!("{:010}", FIRST_CHIP + 3);
    let sold = till.sell("500", &chip).await;
    assert!(state(&sold) == "approved" && sold.text.contains("陈*国"), "{}", sold.text);
    // The printed number is no chip; typed by hand it is taken, and noted.
    let printed = card(3).to_string();
    assert_eq!(till.sell("600", &printed).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let typed = [("mode", "amount"), ("fen", "600"), ("card", printed.as_str()), ("typed", "1")];
    let seq = till.next;
    assert_eq!(state(&till.send("/till/sale", seq, &typed).await), "approved");
    assert_eq!(state(&till.send("/till/sale", seq, &typed).await), "approved");
    let noted = campus.journal().iter().filter(|b| matches!(b, Body::Act(a) if a.act == "till.typed_card")).count();
    assert_eq!(noted, 1);
}

/// Rows POS-24.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_nobody_set_up_sells_by_chip_and_by_printed_number() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut till = Till::open(&campus, "wu", "11").await;
    let chip = u32::try_from(FIRST_CHIP + 3).unwrap();
    let reversed = chip.swap_bytes();
    for (fen, text) in
        [("501", format!("{chip:08X}")), ("502", format!("{reversed:08x}")), ("503", format!("{chip:010}"))]
    {
        let sold = till.sell(fen, &text).await;
        assert!(state(&sold) == "approved" && sold.text.contains("陈*国"), "{text}: {}", sold.text);
    }
    let number = card(3).to_string();
    assert_eq!(state(&till.sell("504", &number).await), "approved");
    let before = till.next;
    for (text, word) in [("062,13878", "读卡器只送了一部分卡号"), ("FFFFFFF0", "没有哪张卡登记了这个物理卡号")]
    {
        let refused = till.sell("500", text).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{text}");
        assert!(refused.text.contains(word) && till.next == before, "{text}: {}", refused.text);
    }
    let unknown = till.sell("500", "62009999").await;
    assert!(unknown.text.contains("无此卡") && unknown.text.contains("核对读卡器的设置"), "{}", unknown.text);
    assert!(campus.sales().iter().all(|sale| sale.card == card(3)));
    // Asked again when the same reading has come to be another's card: the first answer, and nobody is charged twice.
    let sold = campus.sales().len();
    let other = card(4).to_string();
    let sale = [("mode", "amount"), ("fen", "501"), ("card", other.as_str())];
    assert_eq!(state(&till.send("/till/sale", 1, &sale).await), "approved");
    assert_eq!(campus.sales().len(), sold);
    // Asked again after the card has lost its chip: the first answer, not "nothing was charged".
    let chip = format!("{chip:08X}");
    campus.node.people.take();
    let sale = [("mode", "amount"), ("fen", "501"), ("card", chip.as_str())];
    assert_eq!(state(&till.send("/till/sale", 1, &sale).await), "approved");
    assert_eq!(till.sell("501", &chip).await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

/// Rows POS-20, POS-24, POS-28.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_sale_is_reduced_and_its_receipt_follows() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    let mut till = Till::open(&campus, "wu", "11").await;
    let sold = till.sell("1250", &card(1).to_string()).await;
    assert_eq!(sold.attribute("data-last-fen"), Some("1250"));
    let receipt = format!("/till/receipt/11/{}/1", till.boot);
    assert!(sold.text.contains(&receipt), "{}", sold.text);
    let paper = till.browser.get(&receipt).await.text;
    for words in ["消费凭条", "¥12.50", "张*", "62••01", "吴收银", "slip is-58"] {
        assert!(paper.contains(words), "{words}: {paper}");
    }
    assert!(!paper.contains("张伟") && !paper.contains("冲回"), "{paper}");
    // Nothing, all of it, more than it, less than nothing: no reduction; nothing is written.
    for back in ["0", "-1", "1250", "1251", "9223372036854775807"] {
        let refused = till.send("/till/correct", 2, &[("of", "1"), ("fen", back)]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{back}");
        assert!(refused.text.contains("改收金额须大于零"), "{back}: {}", refused.text);
        assert_eq!(till.next, 2, "{back} used up no number");
    }
    let reduced = till.send("/till/correct", 2, &[("of", "1"), ("fen", "350")]).await;
    assert!(state(&reduced) == "undone" && reduced.text.contains("-¥3.50"), "{}", reduced.text);
    assert_eq!(reduced.attribute("data-last"), None, "a sale is corrected once");
    let again = till.send("/till/correct", 2, &[("of", "1"), ("fen", "350")]).await;
    assert!(state(&again) == "undone" && again.text.contains("没有重复"), "{}", again.text);
    let other = till.send("/till/correct", 2, &[("of", "1"), ("fen", "300")]).await;
    assert_eq!(state(&other), "refused", "the same number for another amount: {}", other.text);
    let refunds: Vec<_> =
        campus.journal().into_iter().filter_map(|b| if let Body::Refund(r) = b { Some(r) } else { None }).collect();
    assert_eq!(refunds.len(), 1);
    assert_eq!(Fen::sum(refunds[0].back.iter().map(|(_, part)| *part)).unwrap(), Fen(350));
    let paper = till.browser.get(&receipt).await.text;
    assert!(paper.contains("-¥3.50") && paper.contains("冲回后实扣") && paper.contains("¥9.00"), "{paper}");
    // The sums of the shift: by mode, given back, and what is left.
    let fixed = card(2).to_string();
    let sums = till.send("/till/sale", 3, &[("mode", "fixed"), ("card", fixed.as_str())]).await.text;
    for words in [
        "<dt>自由金额</dt><dd class=\"num\"><b>1</b> ¥12.50",
        "<dt>定额</dt><dd class=\"num\"><b>1</b> ¥9.00",
        "<dt>冲回</dt><dd class=\"num\"><b>1</b> -¥3.50",
        "2 · ¥18.00",
    ] {
        assert!(sums.contains(words), "{words}: {sums}");
    }
    // A counted meal is only taken back whole.
    let counted = till.send("/till/sale", 4, &[("mode", "count"), ("card", fixed.as_str())]).await;
    assert_eq!(counted.attribute("data-last-fen"), Some("0"));
    let refused = till.send("/till/correct", 5, &[("of", "4"), ("fen", "100")]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let undone = till.send("/till/correct", 5, &[("of", "4")]).await;
    assert!(
        state(&undone) == "undone" && undone.text.contains("<div class=\"result-money num\">1 餐"),
        "{}",
        undone.text
    );
    assert_eq!(undone.attribute("data-last"), None, "once");
    // Receipts are the cashier's own, and an administrator's.
    let mut admin = Browser::signed_in(&campus.app, "lin").await;
    assert_eq!(admin.get(&receipt).await.status, StatusCode::OK);
    for nothing in
        [format!("/till/receipt/11/{}/2", till.boot), "/till/receipt/11/1/1".into(), "/till/receipt/99/1/1".into()]
    {
        assert_eq!(till.browser.get(&nothing).await.status, StatusCode::NOT_FOUND, "{nothing}");
    }
    let clerk = Browser::signed_in(&campus.app, "he").await.get(&receipt).await;
    assert_eq!(clerk.status, StatusCode::FORBIDDEN);
}

//! Giving a sale of today back at the counter: older than what its till may correct, once, never more than was paid.

use crate::campus::{Campus, EDGE, Seed, card};
use crate::client::Browser;
use axum::http::StatusCode;
use yika_crdt::Fen;
use yika_crdt::entry::{Body, Mode, RefundKind};
use yika_crdt::ids::*;
use yika_crdt::sale::{Answer, PurchaseRequest};

async fn sell(campus: &Campus, seq: u32, fen: i64) {
    sell_by(campus, seq, Mode::Amount(Fen(fen))).await;
}

async fn sell_by(campus: &Campus, seq: u32, mode: Mode) {
    let id = PurchaseId { terminal: TerminalId(11), boot: 1, seq };
    let request = PurchaseRequest { id, card: card(1), mode, terminal_time_ms: 0, offline: false, tariff: None };
    assert!(matches!(campus.node.purchase(request).await, Ok(Answer::Approved(_))));
}

fn refunds(campus: &Campus) -> Vec<(PurchaseId, i64, RefundKind)> {
    let refund = |body| match body {
        Body::Refund(refund) => Some((refund.of, refund.back.iter().map(|(_, part)| part.0).sum(), refund.kind)),
        _ => None,
    };
    campus.journal().into_iter().filter_map(refund).collect()
}

/// Rows POS-11, POS-22.
#[tokio::test(flavor = "multi_thread")]
async fn a_counted_meal_is_taken_back_at_the_counter_without_speaking_of_money() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    sell_by(&campus, 1, Mode::Count).await;
    let mut clerk = Browser::signed_in(&campus.app, "he").await;
    let path = "/cards/refund/11/1/1";
    let page = clerk.get(path).await.text;
    assert!(page.contains("· 1 餐") && page.contains("次数还回"), "{page}");
    assert!(!page.contains('¥') && !page.contains("name=\"sum\""), "{page}");
    let done = clerk.call(path, &[("seq", "1"), ("reason", "刷错了")]).await;
    assert!(done.status.is_success(), "{}", done.text);
    assert_eq!(refunds(&campus).len(), 1);
    let person = clerk.get("/cards/people/1").await.text;
    assert_eq!(person.matches(">1 餐<").count(), 2, "eaten, and taken back: {person}");
    assert!(!person.contains(path), "once: {person}");
}

/// Rows POS-22.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_sale_of_today_is_given_back_once_and_never_beyond_what_was_paid() {
    let dir = tempfile::tempdir().unwrap();
    let campus = Campus::new(dir.path(), Seed::Lunch).await;
    for (seq, fen) in [(1, 1_500), (2, 700), (3, 300)] {
        sell(&campus, seq, fen).await;
    }
    let mut clerk = Browser::signed_in(&campus.app, "he").await;
    let person = clerk.get("/cards/people/1").await;
    assert!(person.text.contains("今日消费") && person.text.contains("¥15.00"), "{}", person.text);
    assert!(person.text.contains("/cards/refund/11/1/1"), "an older sale has its button: {}", person.text);
    let page = clerk.get("/cards/refund/11/1/1").await;
    assert!(page.text.contains("最多 ¥15.00") && page.text.contains("name=\"seq\" value=\"1\""), "{}", page.text);

    let path = "/cards/refund/11/1/1";
    for (sum, reason, wanted) in
        [("5", " ", "请写明原因"), ("-5", "打错", "金额须大于零"), ("五元", "打错", "金额须大于零")]
    {
        let refused = clerk.call(path, &[("seq", "1"), ("sum", sum), ("reason", reason)]).await;
        assert!(
            refused.status == StatusCode::UNPROCESSABLE_ENTITY && refused.text.contains(wanted),
            "{}",
            refused.text
        );
    }
    assert_eq!(refunds(&campus), []);

    let form = [("seq", "1"), ("sum", "5.00"), ("reason", "多打一份")];
    for _ in 0..2 {
        let done = clerk.call(path, &form).await;
        assert_eq!(done.headers["hx-redirect"], "/cards/people/1?done=refund", "{}", done.text);
    }
    let of = |seq| PurchaseId { terminal: TerminalId(11), boot: 1, seq };
    assert_eq!(refunds(&campus), [(of(1), 500, RefundKind::Refund)], "the same form twice gives back once");
    let said = campus.journal().into_iter().filter(|b| matches!(b, Body::Act(a) if a.act == "refund")).count();
    assert_eq!(said, 1, "the reason stands once, before the money");

    // A form that was opened before: its number stands for the other refund.
    let stale = clerk.call("/cards/refund/11/1/2", &[("seq", "1"), ("reason", "退货")]).await;
    assert!(stale.text.contains("重新打开"), "{}", stale.text);
    let beyond = clerk.call(path, &[("seq", "2"), ("sum", "10.01"), ("reason", "退货")]).await;
    assert_eq!(beyond.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", beyond.text);
    assert!(beyond.text.contains("name=\"seq\" value=\"3\""), "the refusal has taken a number: {}", beyond.text);
    let refused =
        |b: &Body| matches!(b, Body::Act(a) if a.act == "refund.refused" && a.detail == "t11-1-1 10.01: 退货");
    assert_eq!(
        campus.journal().iter().filter(|body| refused(body)).count(),
        1,
        "who reads the asking reads the refusal"
    );
    let invented = clerk.call(path, &[("seq", "4294967295"), ("reason", "退货")]).await;
    assert!(invented.text.contains("重新打开"), "no number is taken that was not drawn: {}", invented.text);
    let rest = clerk.call(path, &[("seq", "3"), ("sum", ""), ("reason", "退货")]).await;
    assert_eq!(rest.headers["hx-redirect"], "/cards/people/1?done=refund", "{}", rest.text);
    assert_eq!(refunds(&campus).iter().map(|(_, fen, _)| fen).sum::<i64>(), 1_500);
    let person = clerk.get("/cards/people/1").await;
    assert!(person.text.contains("-¥15.00") && !person.text.contains("/cards/refund/11/1/1\""), "{}", person.text);
    assert_eq!(clerk.get("/cards/refund/11/1/99").await.status, StatusCode::NOT_FOUND);

    let mut auditor = Browser::signed_in(&campus.app, "shen").await;
    let seen = auditor.get("/cards/people/1").await;
    assert!(seen.text.contains("今日消费") && !seen.text.contains("/cards/refund/"), "{}", seen.text);
    assert_eq!(campus.node.writer(), EDGE);
}

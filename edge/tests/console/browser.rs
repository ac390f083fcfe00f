//! The till in a real browser: Chromium sells by a simulated reader, corrects, is refused, loses the box and gets it back.

use crate::campus::{Campus, FIRST_CHIP, PASSWORD, Seed, card};
use crate::chromium;
use std::net::SocketAddr;
use std::time::Duration;
use yika_crdt::Fen;
use yika_crdt::entry::{Body, RefundKind};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/console/till_browser.py");
const PATIENCE: Duration = Duration::from_secs(180);

/// Rows POS-24.
#[tokio::test(flavor = "multi_thread")]
async fn a_cashier_sells_corrects_and_survives_a_lost_answer() {
    if !chromium::is_here("a_cashier_sells_corrects_and_survives_a_lost_answer").await {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut campus = Campus::new(dir.path(), Seed::Lunch).await;
    campus.block_by_hub(card(7)).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = campus.app.clone().into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let mut script = chromium::python();
    script.args([SCRIPT, &format!("http://{address}"), PASSWORD, &FIRST_CHIP.to_string()]).kill_on_drop(true);
    let ran = tokio::time::timeout(PATIENCE, script.output()).await.expect("the browser took too long").unwrap();
    server.abort();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}");

    // What the box wrote is what the cashier saw: each tap once, whatever the line did.
    let sold: Vec<_> = campus.sales().iter().map(|s| (s.card, s.price.add(s.adjustment).unwrap())).collect();
    let of_third = [(3, 700), (3, 800), (3, 800), (3, 800)];
    // At the end a counted meal, and on each of three screens two portions with a discount, taken back.
    let of_screens = [(2, 0), (2, 225), (2, 225), (2, 225)];
    let own = [(1, 1_250), (6, 750), (6, 600), (2, 900)];
    let expected = [&own[..], &of_third, &[(4, 300), (5, 450)], &of_screens].concat();
    let expected: Vec<_> = expected.into_iter().map(|(n, fen)| (card(n), Fen(fen))).collect();
    assert_eq!(sold, expected, "{said}");
    let journal = campus.journal();
    let refused = journal.iter().filter(|b| matches!(b, Body::Refused(_))).count();
    let corrected = journal.iter().filter(|b| matches!(b, Body::Refund(r) if r.kind == RefundKind::Correction)).count();
    let voided = journal.iter().filter(|b| matches!(b, Body::Void(_))).count();
    assert_eq!((refused, corrected, voided), (4, 7, 1), "{said}");
}

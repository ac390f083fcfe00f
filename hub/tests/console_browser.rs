//! Money that goes out at headquarters in a real browser: dialogs, refusals in place, focus, paper, phones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

#[path = "site/browser.rs"]
mod browser;
#[path = "../../edge/tests/console/chromium.rs"]
mod chromium;
mod site;

use std::net::SocketAddr;
use std::time::Duration;
use yika_hub::store::read::{self, AuditQuery};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/site/console_browser.py");
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn a_clerk_pays_out_undoes_and_refunds_and_a_chief_backs_up() {
    if !chromium::is_here("a_clerk_pays_out_undoes_and_refunds_and_a_chief_backs_up").await {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let site = site::filled(dir.path(), 20).await;
    let person = site.holders[0].person;
    // Yesterday is cut at the third box, so what it sold a week ago only headquarters gives back.
    let sale = format!("/transactions/{}/3", site.boxes[2].writer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = browser::app(&site.desk).into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let mut script = chromium::python();
    let arguments = [&format!("http://{address}"), site::PASSWORD, &person.to_string(), &sale];
    script.arg(SCRIPT).args(arguments).kill_on_drop(true);
    let before = site.desk.holding(person).unwrap().total_fen;
    let ran = tokio::time::timeout(PATIENCE, script.output()).await.expect("the browser took too long").unwrap();
    server.abort();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}");

    // What was booked is what the operators saw, each of it once.
    assert_eq!(site.desk.holding(person).unwrap().total_fen, before - 2_000, "{said}");
    for (act, times) in [
        ("account.withdraw", 1),
        ("account.top_up", 1),
        ("account.undo_top_up", 1),
        ("sale.refund", 1),
        ("backup.create", 1),
    ] {
        let query = AuditQuery { act: act.into(), limit: 500, ..AuditQuery::default() };
        let lines = site.desk.node.query(move |conn| read::audit(conn, &query)).await.unwrap();
        let by_hand = lines.iter().filter(|line| line.row.who != "console").count();
        assert_eq!(by_hand, times, "{act}: {said}");
    }
    let books = site.desk.node.query(read::trial_balance).await.unwrap();
    assert_eq!((books.sum_fen, books.accounts_differing), (0, 0));
}

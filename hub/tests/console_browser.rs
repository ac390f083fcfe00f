//! Money that goes out at headquarters in a real browser: dialogs, refusals in place, focus, paper, phones.
//!
//! Driven by `playwright` for Python with Debian's Chromium, found by `YIKA_TEST_PYTHON` or `python3`. Without them the
//! test says SKIPPED on the standard error; with `YIKA_TEST_PEERS=1` it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

#[path = "site/browser.rs"]
mod browser;
mod site;

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use yika_hub::store::read::{self, AuditQuery};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/site/console_browser.py");
const HOW: &str = "apt-get install chromium fonts-noto-cjk; python3 -m venv DIR && DIR/bin/pip install \
                   playwright==1.65.2, then YIKA_TEST_PYTHON=DIR/bin/python";
const PATIENCE: Duration = Duration::from_secs(240);

fn python() -> String {
    std::env::var("YIKA_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

async fn works(mut probe: Command) -> bool {
    probe.stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().await.is_ok_and(|status| status.success())
}

async fn is_here() -> bool {
    let mut playwright = Command::new(python());
    playwright.args(["-c", "import playwright.sync_api"]);
    let mut chromium = Command::new("chromium");
    chromium.arg("--version");
    works(playwright).await && works(chromium).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clerk_pays_out_undoes_and_refunds_and_a_chief_backs_up() {
    if !is_here().await {
        assert!(std::env::var_os("YIKA_TEST_PEERS").is_none_or(|value| value != "1"), "no browser: {HOW}");
        // Past the test harness, which keeps what passing tests print.
        let text = format!("SKIPPED a_clerk_pays_out_undoes_and_refunds_and_a_chief_backs_up: {HOW}\n");
        std::io::stderr().write_all(text.as_bytes()).unwrap();
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
    let mut script = Command::new(python());
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

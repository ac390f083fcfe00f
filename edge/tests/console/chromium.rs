//! Whether a real browser is here: `playwright` for Python with Debian's Chromium, found by `YIKA_TEST_PYTHON` or `python3`.
//!
//! Without them a test says SKIPPED on the standard error; with `YIKA_TEST_PEERS=1` it fails.

use std::io::Write;
use std::process::Stdio;
use tokio::process::Command;

const HOW: &str = "apt-get install chromium fonts-noto-cjk; python3 -m venv DIR && DIR/bin/pip install \
                   playwright==1.65.2, then YIKA_TEST_PYTHON=DIR/bin/python";

/// The Python that drives it.
pub(crate) fn python() -> Command {
    Command::new(std::env::var("YIKA_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned()))
}

/// Whether `test` can run; says so if not.
pub(crate) async fn is_here(test: &str) -> bool {
    let mut playwright = python();
    playwright.args(["-c", "import playwright.sync_api"]);
    let mut chromium = Command::new("chromium");
    chromium.arg("--version");
    if works(playwright).await && works(chromium).await {
        return true;
    }
    assert!(std::env::var_os("YIKA_TEST_PEERS").is_none_or(|value| value != "1"), "no browser: {HOW}");
    // Past the test harness, which keeps what passing tests print.
    std::io::stderr().write_all(format!("SKIPPED {test}: {HOW}\n").as_bytes()).unwrap();
    false
}

async fn works(mut probe: Command) -> bool {
    probe.stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().await.is_ok_and(|status| status.success())
}

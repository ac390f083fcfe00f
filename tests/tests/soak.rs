//! The soak's own proof: a short one ends green, and red when a single booked sale was altered. The long one is the last step
//! of `deploy/test`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use serde_json::Value;
use std::time::Duration;
use yika_tests::process::Launch;

const BOUND: Duration = Duration::from_secs(300);

async fn soak(words: &[&str]) -> (i32, Value) {
    let launch = Launch::binary("yika-soak").unwrap().args(&["--seconds", "12", "--people", "12", "--json"]);
    let finished = launch.args(words).finish(BOUND).await.unwrap();
    let report = serde_json::from_str(&finished.stdout).unwrap_or_else(|e| panic!("{e}: {finished:?}"));
    (finished.status.code().unwrap(), report)
}

/// Rows NFR-1.
#[tokio::test(flavor = "multi_thread")]
async fn a_soak_ends_red_when_one_booked_sale_was_altered() {
    let (code, report) = soak(&["--seed", "3"]).await;
    assert_eq!(code, 0, "{report}");
    let (code, report) = soak(&["--seed", "3", "--inject-fault"]).await;
    assert_eq!(code, 3, "{report}");
    assert!(report["differences"].as_u64().unwrap() > 0, "{report}");
    assert_ne!(report["edges_sum_fen"], report["hub_sum_fen"], "{report}");
}

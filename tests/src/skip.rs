//! A test that cannot run here says so where nobody can miss it, and fails where it must run.

use crate::process::complain;
use std::os::unix::fs::MetadataExt;

/// Set to 1 by `deploy/test`, which has installed what tests need.
const PEERS: &str = "YIKA_TEST_PEERS";

/// Says on standard error, past the test runner, that a test did not run. With `YIKA_TEST_PEERS=1` it fails instead, but
/// where it `needs_root` only for root.
///
/// # Panics
/// See above.
#[track_caller]
pub fn skipped(why: &str, needs_root: bool) {
    let must_run = std::env::var_os(PEERS).is_some_and(|value| value == "1") && (!needs_root || is_root());
    assert!(!must_run, "{PEERS}=1, and yet this test cannot run: {why}");
    let place = std::panic::Location::caller();
    complain(&format!("SKIPPED (called at {place}): {why}"));
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

//! The process harness and the HTTP client on real programs and sockets: a shell, and a small server here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use yika_tests::process::{Launch, Port, Process, locate};

const BOUND: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Launch {
    Launch::program("sh").unwrap().args(&["-c", script])
}

/// A zombie, which only waits to be noticed by its parent, does not live.
fn lives(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn started(script: &str) -> Process {
    let mut process = shell(script).start().await.unwrap();
    process.wait_for_output("ready", BOUND).await.unwrap();
    process
}

#[tokio::test]
async fn output_is_waited_for_and_given_by_line() {
    let mut process = shell("echo noise; echo 'port=42 ready' >&2; sleep 60").start().await.unwrap();
    assert_eq!(process.wait_for_output("port=", BOUND).await.unwrap(), "port=42 ready");
    assert_eq!(process.stdout().unwrap(), "noise\n");
    let error = process.wait_for_output("never", Duration::from_millis(100)).await.unwrap_err().to_string();
    assert!(error.contains("after 100ms") && error.contains("port=42 ready"), "{error}");
}

#[tokio::test]
async fn an_early_end_is_told_at_once_with_the_last_lines() {
    let mut process = shell("seq 1 100; echo 'disk is full' >&2; exit 3").start().await.unwrap();
    let before = Instant::now();
    let error = process.wait_for_output("ready", BOUND).await.unwrap_err().to_string();
    assert!(before.elapsed() < BOUND / 2);
    assert!(error.contains("disk is full") && error.contains("\n71\n") && !error.contains("\n70\n"), "{error}");
    assert_eq!(process.wait(BOUND).await.unwrap().code(), Some(3));
    let refused = shell("echo what; echo why >&2; exit 2").finish(BOUND).await.unwrap();
    assert_eq!((refused.status.code(), &*refused.stdout, &*refused.stderr), (Some(2), "what\n", "why\n"));
    let error = shell("echo why; exit 4").run(BOUND).await.unwrap_err().to_string();
    assert!(error.contains("exit status: 4") && error.contains("why"), "{error}");
    assert_eq!(shell("cat; printf last").input("first ").run(BOUND).await.unwrap(), "first last");
}

#[tokio::test]
async fn restart_keeps_the_directory_and_kill_is_final() {
    let mut process = started("echo x >> runs; wc -l < runs; echo ready; sleep 60").await;
    let first = process.id().unwrap();
    process.kill().await.unwrap();
    assert!(!process.is_running().unwrap() && !lives(first));
    process.restart().await.unwrap();
    process.wait_for_output("ready", BOUND).await.unwrap();
    // The second run alone is seen, in the directory of the first.
    assert_eq!(process.stdout().unwrap().trim().lines().next().unwrap().trim(), "2");
    process.restart().await.unwrap();
    assert_ne!(process.id().unwrap(), first);
}

#[tokio::test]
async fn terminate_lets_a_program_clean_up_and_kills_one_that_does_not() {
    let mut process = started("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done").await;
    assert_eq!(process.terminate(BOUND).await.unwrap().code(), Some(7));
    assert!(process.stdout().unwrap().contains("bye"));
    assert!(process.terminate(BOUND).await.unwrap_err().to_string().contains("has ended"));
    let mut process = started("trap '' TERM; echo ready; while :; do sleep 0.05; done").await;
    let id = process.id().unwrap();
    let error = process.terminate(Duration::from_millis(200)).await.unwrap_err();
    assert!(error.to_string().contains("SIGTERM did not stop it"), "{error:#}");
    assert!(!lives(id));
}

#[tokio::test]
async fn nothing_outlives_its_owner_and_its_directory_goes() {
    let process = started("sleep 60 & echo $!; echo ready; wait").await;
    let (id, path) = (process.id().unwrap(), process.path().to_owned());
    let inner: u32 = process.stdout().unwrap().lines().next().unwrap().parse().unwrap();
    assert!(lives(id) && lives(inner) && path.exists());
    drop(process);
    assert!(!lives(id) && !path.exists());
    let end = Instant::now() + BOUND;
    while lives(inner) && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!lives(inner));
}

#[tokio::test]
async fn a_stopped_program_goes_on_and_lines_reach_its_input() {
    let launch = shell("echo ready; while read line; do echo \"got $line\"; done; echo end").talk();
    let mut process = launch.name("cat").start().await.unwrap();
    process.wait_for_output("ready", BOUND).await.unwrap();
    process.signal("STOP").await.unwrap();
    process.say("one").await.unwrap();
    assert!(process.wait_for_output("got one", Duration::from_millis(200)).await.is_err());
    process.signal("CONT").await.unwrap();
    process.wait_for_output("got one", BOUND).await.unwrap();
    process.hang_up();
    assert!(process.wait(BOUND).await.unwrap().success());
    assert!(process.stdout().unwrap().ends_with("end\n"));
}

/// This test program itself, running one of its ignored tests.
fn own(test: &str) -> Launch {
    Launch::program(std::env::current_exe().unwrap()).unwrap().args(&["--exact", test, "--ignored", "--nocapture"])
}

#[tokio::test]
async fn settings_of_the_caller_do_not_leak() {
    own("inner_settings").env("YIKA_OUTER", "1").run(BOUND).await.unwrap();
}

#[tokio::test]
#[ignore = "run by settings_of_the_caller_do_not_leak"]
async fn inner_settings() {
    assert_eq!(std::env::var("YIKA_OUTER").unwrap(), "1");
    let said = shell("env | grep '^YIKA_'").env("YIKA_GIVEN", "yes").run(BOUND).await.unwrap();
    assert_eq!(said, "YIKA_GIVEN=yes\n");
}

#[tokio::test]
async fn programs_die_with_an_owner_that_is_killed() {
    let owner = own("inner_owner");
    // What the owner cannot remove lies within what goes with this test.
    let place = owner.path().to_owned();
    let mut owner = owner.env("TMPDIR", place).start().await.unwrap();
    let line = owner.wait_for_output("owned ", BOUND).await.unwrap();
    let id: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(lives(id));
    owner.kill().await.unwrap();
    let end = Instant::now() + BOUND;
    while lives(id) && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!lives(id));
}

#[tokio::test]
#[ignore = "run by programs_die_with_an_owner_that_is_killed"]
async fn inner_owner() {
    let process = started("echo ready; exec sleep 60").await;
    eprintln!("owned {}", process.id().unwrap());
    std::future::pending::<()>().await;
}

#[test]
fn ports_are_given_once_and_are_free() {
    let ports: Vec<Port> = (0..50).map(|_| Port::reserve().unwrap()).collect();
    let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 50);
    for port in &ports {
        UdpSocket::bind(port.address()).unwrap();
        TcpListener::bind(port.address()).unwrap();
    }
}

#[tokio::test]
async fn a_missing_binary_names_the_command_that_builds_it() {
    let error = locate("yika-nothing").unwrap_err().to_string();
    assert!(error.contains("cargo build --bin yika-nothing"), "{error}");
    assert_eq!(locate("yika-relay").unwrap(), std::path::Path::new(env!("CARGO_BIN_EXE_yika-relay")));
    let error = Launch::program("/nonexistent/program").unwrap().start().await.unwrap_err().to_string();
    assert!(error.contains("no program /nonexistent/program"), "{error}");
}

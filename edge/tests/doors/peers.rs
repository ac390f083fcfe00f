//! Real peers: the simulator program as its own process, and a pymodbus server.
//!
//! `pymodbus` is found by `YIKA_TEST_PYTHON` or `python3`, the program beside this test's folder. Without them a test
//! says SKIPPED on the standard error; with `YIKA_TEST_PEERS=1` it fails.

use crate::rig::*;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use yika_crdt::entry::*;
use yika_crdt::reason::Reason;
use yika_drivers::door::{ContactState, RelayState};
use yika_edge::doors::LineState;

fn missing(test: &str, what: &str) {
    let text = format!("{test} needs {what}");
    assert!(std::env::var_os("YIKA_TEST_PEERS").is_none_or(|value| value != "1"), "{text}");
    // `eprintln!` would be hidden by the test harness, which shows only the output of failed tests.
    let mut console = std::io::stderr();
    writeln!(console, "SKIPPED: {text}").unwrap();
}

fn python() -> String {
    std::env::var("YIKA_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// `yika-modbus-sim` as a process.
struct Simulator {
    child: Child,
    control: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    address: std::net::SocketAddr,
}

impl Simulator {
    fn program() -> Option<PathBuf> {
        let test = std::env::current_exe().unwrap();
        let program = test.parent()?.parent()?.join("yika-modbus-sim");
        program.exists().then_some(program)
    }

    async fn start(program: PathBuf, listen: &str) -> Simulator {
        let mut command = Command::new(program);
        command.args(["--listen", listen, "--open-after-ms", "100", "--close-after-ms", "300"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (control, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut lines = BufReader::new(out).lines();
        let first = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let address = first.split(['"', ' ']).find_map(|word| word.parse().ok());
        Simulator { child, control, lines, address: address.unwrap_or_else(|| panic!("no address in {first}")) }
    }

    async fn say(&mut self, line: &str) {
        self.control.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn until(&mut self, wanted: &str) {
        loop {
            let line =
                timeout(PATIENCE, self.lines.next_line()).await.unwrap_or_else(|_| panic!("no line with {wanted}"));
            if line.unwrap().unwrap_or_else(|| panic!("ended before {wanted}")).contains(wanted) {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_day_at_the_simulator_program() {
    let Some(program) = Simulator::program() else {
        return missing("a_whole_day_at_the_simulator_program", "cargo build -p yika-drivers --bin yika-modbus-sim");
    };
    let mut sim = Simulator::start(program.clone(), "127.0.0.1:0").await;
    let rig = Rig::up(&config(tcp(sim.address), json!({}))).await;
    rig.until("closed", |view| view.contact == ContactState::Closed).await;
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Ok(holder(ALICE)));
    sim.until(r#""change":"relay","relay":1,"on":true"#).await;
    sim.until(r#""change":"relay","relay":1,"on":false"#).await;
    rig.door_event(DoorEvent::Opened(OpenedBy::Card)).await;
    rig.door_event(DoorEvent::Closed).await;
    assert_eq!(rig.doors.swipe(&reader(FRONT), BOB).await, Err(Reason::NoDoorRight));
    sim.say(r#"{"do":"input","input":4,"on":true}"#).await;
    let left = rig.door_event(DoorEvent::Button).await;
    assert_eq!(left.door, BACK);
    sim.until(r#""change":"relay","relay":2,"on":true"#).await;
    // The board's process dies and comes back with its last state.
    let listen = sim.address.to_string();
    sim.child.kill().await.unwrap();
    rig.door_event(DoorEvent::LineLost).await;
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Err(Reason::BoxNotReady));
    let _sim = Simulator::start(program, &listen).await;
    rig.until("back", |view| view.line == LineState::Up && view.contact == ContactState::Closed).await;
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Ok(holder(ALICE)));
    rig.down().await;
}

/// Rows ACS-2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_on_a_pymodbus_board() {
    let probe = Command::new(python()).args(["-c", "import pymodbus.simulator, serial"]).stderr(Stdio::null()).status();
    if !probe.await.is_ok_and(|status| status.success()) {
        let how = "pymodbus: python3 -m venv DIR && DIR/bin/pip install pymodbus==3.16.1 pyserial==3.5, then YIKA_TEST_PYTHON=DIR/bin/python";
        return missing("a_door_on_a_pymodbus_board", how);
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../drivers/tests/peers/relay_board.py");
    let serve = || Command::new(python()).args([script, "tcp", &port.to_string()]).kill_on_drop(true).spawn().unwrap();
    let mut server = serve();
    let rig = Rig::up(&config(tcp(([127, 0, 0, 1], port).into()), json!({"pulse": {"method": "edge_timed"}}))).await;
    // The board's inputs are fixed: the door is closed, the button is pressed and lets somebody out at once.
    rig.until("closed", |view| view.contact == ContactState::Closed).await;
    rig.door_event(DoorEvent::Button).await;
    rig.until("locked", |view| view.lock == RelayState::Locked).await;
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Ok(holder(ALICE)));
    rig.door_event(DoorEvent::Granted).await;
    assert_eq!(rig.view(FRONT).lock, RelayState::Unlocked);
    rig.until("locked", |view| view.lock == RelayState::Locked).await;
    server.kill().await.unwrap();
    rig.door_event(DoorEvent::LineLost).await;
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Err(Reason::BoxNotReady));
    let _server = serve();
    rig.until("back", |view| view.line == LineState::Up).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Ok(holder(ALICE)));
    // No contact of this board ever moves, so nothing was opened as far as anybody knows.
    assert!(!rig.events(FRONT).iter().any(|e| matches!(e, DoorEvent::Opened(_) | DoorEvent::Forced)));
    rig.down().await;
}

//! Our Modbus driver against a pymodbus server, and mbpoll against our simulator, over TCP and over a
//! pair of pseudo terminals.
//!
//! The peers are found on PATH (`socat`, `mbpoll`) and by `YIKA_TEST_PYTHON` or `python3` (`pymodbus`,
//! `pyserial`). Without them a test says SKIPPED on the standard error; with `YIKA_TEST_PEERS=1` it fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod common;

use common::*;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use yika_drivers::door::{
    CommandFailure, Confirmation, ContactState, DoorCommand, DoorEventKind, InputChange, RelayState, SignalState,
};
use yika_drivers::modbus::BusConfig;
use yika_drivers::modbus::frame::Framing;

const PATIENCE: Duration = Duration::from_secs(15);
const PULSE: DoorCommand = DoorCommand::Pulse { door: DOOR, duration_ms: 800 };

#[derive(Clone, Copy)]
enum Peer {
    Pymodbus,
    Socat,
    Mbpoll,
}

impl Peer {
    async fn is_here(self) -> bool {
        let mut probe = match self {
            Peer::Pymodbus => command(&python(), &["-c", "import pymodbus.simulator, serial"]),
            Peer::Socat => command("socat", &["-V"]),
            Peer::Mbpoll => command("mbpoll", &["-V"]),
        };
        probe.stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().await.is_ok_and(|status| status.success())
    }

    fn how_to_install(self) -> &'static str {
        match self {
            Peer::Pymodbus => {
                "pymodbus: python3 -m venv DIR && DIR/bin/pip install pymodbus==3.16.1 pyserial==3.5, then YIKA_TEST_PYTHON=DIR/bin/python"
            }
            Peer::Socat => "socat: apt-get install socat",
            Peer::Mbpoll => "mbpoll: apt-get install mbpoll",
        }
    }
}

/// Whether the test can run; otherwise says why not, or fails when the peers are demanded.
async fn have(test: &str, peers: &[Peer]) -> bool {
    let mut missing = Vec::new();
    for peer in peers {
        if !peer.is_here().await {
            missing.push(peer.how_to_install());
        }
    }
    if missing.is_empty() {
        return true;
    }
    let text = format!("{test} needs {}", missing.join("; "));
    assert!(std::env::var_os("YIKA_TEST_PEERS").is_none_or(|value| value != "1"), "{text}");
    // `eprintln!` would be hidden by the test harness, which shows only the output of failed tests.
    let mut console = std::io::stderr();
    writeln!(console, "SKIPPED: {text}").unwrap();
    false
}

fn python() -> String {
    std::env::var("YIKA_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn pymodbus(kind: &str, place: &str) -> Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/relay_board.py");
    command(&python(), &[script, kind, place]).spawn().unwrap()
}

async fn signal(child: &Child, name: &str) {
    let id = child.id().unwrap().to_string();
    assert!(command("kill", &[name, &id]).status().await.unwrap().success());
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Two ends of a serial line.
struct SerialPair {
    folder: TempDir,
    socat: Child,
}

impl SerialPair {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socat = Self::socat(folder.path());
        let pair = SerialPair { folder, socat };
        pair.wait().await;
        pair
    }

    fn socat(folder: &Path) -> Child {
        let end = |name: &str| format!("pty,raw,echo=0,link={}", folder.join(name).display());
        command("socat", &[&end("a"), &end("b")]).spawn().unwrap()
    }

    async fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !(self.a().exists() && self.b().exists()) {
            assert!(Instant::now() < deadline, "socat made no terminals");
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn unplug(&mut self) {
        self.socat.kill().await.unwrap();
    }

    async fn plug(&mut self) {
        self.socat = Self::socat(self.folder.path());
        self.wait().await;
    }

    fn a(&self) -> PathBuf {
        self.folder.path().join("a")
    }

    fn b(&self) -> PathBuf {
        self.folder.path().join("b")
    }
}

fn serial(path: &Path) -> serde_json::Value {
    json!({"kind": "rtu", "path": path, "baud": 9600})
}

/// What both carriers must show on the pymodbus board; returns with the board up and locked.
async fn drive_pymodbus(with: impl Fn(serde_json::Value) -> BusConfig) -> Rig {
    let mut rig = Rig::up(with(edge_timed())).await;
    rig.until_state("closed contact", |state| state.contact == ContactState::Closed).await;
    rig.until_state("pressed button", |state| state.exit_button == SignalState::Active).await;
    let other = rig.handle.snapshot()[&OTHER];
    assert_eq!((other.contact, other.exit_button), (ContactState::Open, SignalState::Inactive));
    let outcome = rig.handle.execute(PULSE).await;
    assert_eq!(outcome, Ok(Confirmation::ReadBack));
    assert_eq!(rig.handle.snapshot()[&DOOR].relay, RelayState::Unlocked);
    rig.until_state("locked relay", |state| state.relay == RelayState::Locked).await;
    rig.handle.execute(DoorCommand::HoldOpen { door: OTHER }).await.unwrap();
    rig.handle.execute(DoorCommand::Release { door: OTHER }).await.unwrap();
    assert!(!rig.seen.iter().any(opened), "no contact of this board ever moves: {:?}", rig.seen);
    rig.stop.stop().await;

    // It has no pulse timers: no coil at 0x0200, and registers that move nothing.
    let rig = Rig::up(with(flash())).await;
    let refused = rig.handle.execute(PULSE).await;
    assert!(matches!(refused, Err(CommandFailure::Refused { code: 2, .. })), "{refused:?}");
    rig.stop.stop().await;
    let rig = Rig::up(with(json!({"method": "registers", "mode": 4}))).await;
    assert_eq!(rig.handle.execute(PULSE).await, Err(CommandFailure::NotActuated));
    rig.stop.stop().await;
    Rig::up(with(edge_timed())).await
}

/// A stopped process holds its line open and says nothing; woken, it answers late.
async fn fall_silent_and_return(rig: &mut Rig, server: &Child) {
    rig.until_state("closed contact", |state| state.contact == ContactState::Closed).await;
    signal(server, "-STOP").await;
    let unknown = InputChange::Contact { door: DOOR, state: ContactState::Unknown };
    rig.expect("unknown", |event| *event == DoorEventKind::InputChanged(unknown.clone())).await;
    rig.expect("lost", |event| matches!(event, DoorEventKind::LineLost { .. })).await;
    let outcome = rig.handle.execute(PULSE).await;
    assert!(matches!(outcome, Err(CommandFailure::LineDown { .. })), "{outcome:?}");
    signal(server, "-CONT").await;
    rig.expect("back", |event| matches!(event, DoorEventKind::LineBack { .. })).await;
    rig.until_state("closed contact", |state| state.contact == ContactState::Closed).await;
    assert_eq!(rig.handle.execute(PULSE).await, Ok(Confirmation::ReadBack));
    assert!(!rig.seen.iter().any(opened), "{:?}", rig.seen);
}

#[tokio::test]
async fn our_driver_steers_a_pymodbus_board_over_tcp() {
    if !have("our_driver_steers_a_pymodbus_board_over_tcp", &[Peer::Pymodbus]).await {
        return;
    }
    let port = free_port();
    let mut server = pymodbus("tcp", &port.to_string());
    let address = ([127, 0, 0, 1], port).into();
    let mut rig = drive_pymodbus(|pulse| config(tcp(address), pulse, json!({}))).await;
    fall_silent_and_return(&mut rig, &server).await;
    server.kill().await.unwrap();
    rig.expect("lost", |event| matches!(event, DoorEventKind::LineLost { .. })).await;
    let _server = pymodbus("tcp", &port.to_string());
    rig.expect("back", |event| matches!(event, DoorEventKind::LineBack { .. })).await;
    assert_eq!(rig.handle.execute(PULSE).await, Ok(Confirmation::ReadBack));
}

#[tokio::test]
async fn our_driver_steers_a_pymodbus_board_over_a_serial_line() {
    let name = "our_driver_steers_a_pymodbus_board_over_a_serial_line";
    if !have(name, &[Peer::Pymodbus, Peer::Socat]).await {
        return;
    }
    let mut pair = SerialPair::start().await;
    let mut server = pymodbus("rtu", &pair.a().to_string_lossy());
    let port = pair.b();
    let mut rig = drive_pymodbus(|pulse| config(serial(&port), pulse, json!({}))).await;
    fall_silent_and_return(&mut rig, &server).await;
    // The converter is unplugged, and plugged in again.
    server.kill().await.unwrap();
    pair.unplug().await;
    let lost = rig.expect("lost", |event| matches!(event, DoorEventKind::LineLost { .. })).await;
    sleep(Duration::from_millis(300)).await;
    pair.plug().await;
    let _server = pymodbus("rtu", &pair.a().to_string_lossy());
    rig.expect("back", |event| matches!(event, DoorEventKind::LineBack { .. })).await;
    assert_eq!(rig.handle.execute(PULSE).await, Ok(Confirmation::ReadBack), "after {lost:?}");
}

#[tokio::test]
async fn mbpoll_reads_and_writes_our_simulator_over_tcp() {
    if !have("mbpoll_reads_and_writes_our_simulator_over_tcp", &[Peer::Mbpoll]).await {
        return;
    }
    let server = SimulatedServer::start(Framing::Tcp).await;
    server.board.set_input(3, true);
    let port = server.address.port().to_string();
    let base = ["-m", "tcp", "-p", &port, "-a", "1", "-0", "-1"];
    talk_with_mbpoll(&base, "127.0.0.1").await;
    assert!(server.board.relay(6) && !server.board.relay(1));
    // What the wire says of a wrong address, and of an absent unit.
    let wrong = mbpoll(&base, &["-t", "0", "-r", "200", "-c", "8", "127.0.0.1"]).await;
    assert!(wrong.contains("Illegal data address"), "{wrong}");
    let absent = ["-m", "tcp", "-p", &port, "-a", "9", "-0", "-1"];
    let silent = mbpoll(&absent, &["-t", "0", "-r", "0", "-c", "8", "127.0.0.1"]).await;
    assert!(silent.contains("timed out"), "{silent}");
}

#[tokio::test]
async fn mbpoll_reads_and_writes_our_simulator_program_over_a_serial_line() {
    let name = "mbpoll_reads_and_writes_our_simulator_program_over_a_serial_line";
    if !have(name, &[Peer::Mbpoll, Peer::Socat]).await {
        return;
    }
    let pair = SerialPair::start().await;
    let path = pair.a().to_string_lossy().into_owned();
    let mut simulator = Command::new(env!("CARGO_BIN_EXE_yika-modbus-sim"));
    simulator.args(["--serial", &path]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut simulator = simulator.spawn().unwrap();
    let mut lines = BufReader::new(simulator.stdout.take().unwrap()).lines();
    let mut control = simulator.stdin.take().unwrap();
    next_line(&mut lines, "serial").await;
    tokio::io::AsyncWriteExt::write_all(&mut control, b"{\"do\":\"input\",\"input\":3,\"on\":true}\n").await.unwrap();
    next_line(&mut lines, r#""change":"input","input":3,"on":true"#).await;
    let base = ["-m", "rtu", "-b", "9600", "-P", "none", "-a", "1", "-0", "-1"];
    talk_with_mbpoll(&base, &pair.b().to_string_lossy()).await;
    next_line(&mut lines, r#""change":"relay","relay":6,"on":true"#).await;
}

async fn next_line(lines: &mut tokio::io::Lines<BufReader<tokio::process::ChildStdout>>, wanted: &str) {
    loop {
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap_or_else(|_| panic!("no line with {wanted}"));
        let line = line.unwrap().unwrap_or_else(|| panic!("the simulator ended before {wanted}"));
        if line.contains(wanted) {
            return;
        }
    }
}

/// Reads, switches relay 6 on and relay 1 off, and reads again.
async fn talk_with_mbpoll(base: &[&str], place: &str) {
    let inputs = mbpoll(base, &["-t", "1", "-r", "0", "-c", "8", place]).await;
    assert_eq!(values(&inputs), [1, 1, 1, 0, 0, 0, 0, 0], "two doors closed and input 3: {inputs}");
    let coils = mbpoll(base, &["-t", "0", "-r", "0", "-c", "8", place]).await;
    assert_eq!(values(&coils), [0; 8], "{coils}");
    let one = mbpoll(base, &["-t", "0", "-r", "5", place, "1"]).await;
    assert!(one.contains("Written 1 references"), "{one}");
    // Two values at once: function 0F.
    let two = mbpoll(base, &["-t", "0", "-r", "6", place, "1", "1"]).await;
    assert!(two.contains("Written 2 references"), "{two}");
    let coils = mbpoll(base, &["-t", "0", "-r", "0", "-c", "8", place]).await;
    assert_eq!(values(&coils), [0, 0, 0, 0, 0, 1, 1, 1], "{coils}");
}

/// Both outputs of one run.
async fn mbpoll(base: &[&str], rest: &[&str]) -> String {
    let arguments: Vec<&str> = base.iter().chain(rest).copied().collect();
    let run = command("mbpoll", &arguments).output();
    let output = timeout(PATIENCE, run).await.expect("mbpoll ends").unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The numbers of lines that begin with a place in brackets and a colon.
fn values(output: &str) -> Vec<u8> {
    let lines = output.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]:"));
    lines.map(|(_, value)| value.trim().parse().unwrap()).collect()
}

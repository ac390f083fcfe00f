//! A driver on a simulated board, and waiting for events with a deadline.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
#![allow(dead_code)] // each test file uses its own part

use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use yika_drivers::door::{DoorEventKind, DoorEvents, DoorHandle, DoorRef, DriverStop};
use yika_drivers::modbus::frame::Framing;
use yika_drivers::modbus::simulator::{BoardSimulator, SimulatedBoard};
use yika_drivers::modbus::{self, BusConfig};

pub(crate) const DOOR: DoorRef = DoorRef(1);
pub(crate) const OTHER: DoorRef = DoorRef(2);
const PATIENCE: Duration = Duration::from_secs(8);

/// Two doors with contact, exit button and fire on one board; `extra` is merged into the board.
pub(crate) fn config(transport: serde_json::Value, pulse: serde_json::Value, extra: serde_json::Value) -> BusConfig {
    let mut board = serde_json::json!({
        "name": "test board", "pulse": pulse, "poll_ms": 50, "response_timeout_ms": 200,
        "fire": {"input": 8},
        "doors": [
            {"door": 1, "relay": 1, "contact": {"input": 1}, "exit_button": {"input": 3}, "escape": true},
            {"door": 2, "relay": 2, "contact": {"input": 2}, "exit_button": {"input": 4}},
        ],
    });
    for (key, value) in extra.as_object().unwrap() {
        board[key] = value.clone();
    }
    serde_json::from_value(serde_json::json!({"transport": transport, "boards": [board]})).unwrap()
}

pub(crate) fn tcp(address: SocketAddr) -> serde_json::Value {
    serde_json::json!({"kind": "tcp", "address": address.to_string()})
}

pub(crate) fn rtu_over_tcp(address: SocketAddr) -> serde_json::Value {
    serde_json::json!({"kind": "rtu_over_tcp", "address": address.to_string()})
}

pub(crate) fn flash() -> serde_json::Value {
    serde_json::json!({"method": "flash_coil"})
}

pub(crate) fn edge_timed() -> serde_json::Value {
    serde_json::json!({"method": "edge_timed"})
}

/// A simulated board on a port.
pub(crate) struct SimulatedServer {
    pub(crate) board: BoardSimulator,
    pub(crate) address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
}

impl SimulatedServer {
    pub(crate) async fn start(framing: Framing) -> Self {
        Self::start_with(framing, SimulatedBoard::default()).await
    }

    pub(crate) async fn start_with(framing: Framing, board: SimulatedBoard) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let board = BoardSimulator::new(board);
        let server = board.clone();
        let task = tokio::spawn(async move { server.serve_tcp(listener, framing).await });
        SimulatedServer { board, address, task }
    }
}

impl Drop for SimulatedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A running driver with everything it said.
pub(crate) struct Rig {
    pub(crate) handle: DoorHandle,
    pub(crate) stop: DriverStop,
    events: DoorEvents,
    pub(crate) seen: Vec<DoorEventKind>,
    /// Events before this place were already asked for.
    place: usize,
}

impl Rig {
    pub(crate) fn start(config: BusConfig) -> Self {
        let (handle, events, stop) = modbus::spawn(config).unwrap().split();
        Rig { handle, stop, events, seen: Vec::new(), place: 0 }
    }

    pub(crate) async fn up(config: BusConfig) -> Self {
        let mut rig = Rig::start(config);
        rig.expect("LineBack", |event| matches!(event, DoorEventKind::LineBack { .. })).await;
        rig
    }

    /// Waits for the next event that fits, past the one found before.
    pub(crate) async fn expect(&mut self, what: &str, fits: impl Fn(&DoorEventKind) -> bool) -> DoorEventKind {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(event) = self.seen.get(self.place) {
                self.place += 1;
                if fits(event) {
                    return event.clone();
                }
            }
            match timeout_at(deadline, self.events.next()).await {
                Ok(Some(event)) => self.seen.push(event.kind),
                Ok(None) => panic!("the driver ended while waiting for {what}; seen: {:#?}", self.seen),
                Err(_) => panic!("{what} did not come; seen: {:#?}", self.seen),
            }
        }
    }

    /// Everything seen within `time`, from here on.
    pub(crate) async fn listen(&mut self, time: Duration) -> Vec<DoorEventKind> {
        let deadline = Instant::now() + time;
        let from = self.place;
        while let Ok(Some(event)) = timeout_at(deadline, self.events.next()).await {
            self.seen.push(event.kind);
        }
        self.place = self.seen.len();
        self.seen[from..].to_vec()
    }

    pub(crate) async fn until_state(&mut self, what: &str, fits: impl Fn(&yika_drivers::door::DoorState) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !self.handle.snapshot().get(&DOOR).is_some_and(&fits) {
            assert!(Instant::now() < deadline, "{what} did not come; state {:#?}", self.handle.snapshot());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn opened(event: &DoorEventKind) -> bool {
    matches!(event, DoorEventKind::Opened { .. })
}

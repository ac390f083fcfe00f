//! Hardware protocols, one module per family: a pure codec, a thin loop, and a simulator beside it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`card_format`] | Wiegand bits and printed card numbers, pure |
//! | [`door`] | what an edge may ask of any door hardware and what it hears back |
//! | [`modbus`] | relay boards over Modbus TCP, RTU and RTU over TCP, with a simulated board |
//! | [`terminal`] | the published HTTP/JSON terminal interface: messages, signatures, a client |
//!
//! A driver is started from its configuration, and held by a handle and a stream of events:
//!
//! ```
//! use yika_drivers::door::{ContactState, DoorCommand, DoorEventKind, DoorRef};
//! use yika_drivers::modbus::{self, frame::Framing, simulator::{BoardSimulator, SimulatedBoard}};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! // A simulated board stands in for the real one.
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?;
//! let board = BoardSimulator::new(SimulatedBoard::default());
//! tokio::spawn(async move { board.serve_tcp(listener, Framing::Tcp).await });
//!
//! let config = serde_json::from_value(serde_json::json!({
//!     "transport": {"kind": "tcp", "address": address.to_string()},
//!     "boards": [{
//!         "name": "north gate",
//!         "pulse": {"method": "flash_coil"},
//!         "doors": [{"door": 5, "relay": 1, "contact": {"input": 1}, "exit_button": {"input": 3}}],
//!     }],
//! }))?;
//! let (doors, mut events, stop) = modbus::spawn(config)?.split();
//! // The first reading of a contact is a state; only a change from it is an opening.
//! while doors.snapshot().get(&DoorRef(5)).is_none_or(|door| door.contact != ContactState::Closed) {
//!     tokio::time::sleep(std::time::Duration::from_millis(10)).await;
//! }
//! doors.execute(DoorCommand::Pulse { door: DoorRef(5), duration_ms: 3_000 }).await?;
//! while let Some(event) = events.next().await {
//!     if matches!(event.kind, DoorEventKind::Opened { door: DoorRef(5), .. }) {
//!         break;
//!     }
//! }
//! stop.stop().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Leaves to others: whether a door may open (the core decides), what is journaled (the edge), and the
//! wall clock. A driver reports what the device said and when, and never guesses.

pub mod card_format;
pub mod door;
pub mod modbus;
pub mod terminal;

//! The pages of a campus at lunch, cut off from headquarters, on 127.0.0.1: to look at, and for the browser tests.
//!
//! `cargo run -p yika-edge --example console_demo -- 8098 [bare]`; sign in as `lin` (administrator), `he` (clerk),
//! `wu` (cashier) or `shen` (auditor). All names are made up; everything is gone when it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // not a part of the product

#[path = "../tests/console/campus.rs"]
mod campus;

use campus::{Campus, Seed, card};
use std::net::SocketAddr;
use yika_crdt::Fen;
use yika_crdt::edge::Command;
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::sale::PurchaseRequest;

#[tokio::main]
async fn main() {
    let mut words = std::env::args().skip(1);
    let port: u16 = words.next().map_or(8098, |port| port.parse().expect("a port number"));
    let seed = if words.next().as_deref() == Some("bare") { Seed::Bare } else { Seed::Lunch };
    let dir = tempfile::tempdir().unwrap();
    let mut campus = Campus::new(dir.path(), seed).await;
    if seed == Seed::Lunch {
        lunch(&mut campus).await;
    }
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
    println!("http://{} — password {}", listener.local_addr().unwrap(), campus::PASSWORD);
    let app = campus.app.clone().into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).await.unwrap();
}

/// A few sales, refusals, passages and blocks.
async fn lunch(campus: &mut Campus) {
    campus.block_by_hub(card(7)).await;
    let target = BlockTarget::Card(card(6));
    campus.tell(Command::Block(BlockRecord { target, reason: BlockReason::Lost, operator: OperatorId(2) })).await;
    for n in 1..=12u32 {
        let mode = if n % 3 == 0 { Mode::Fixed } else { Mode::Amount(Fen(600 + 50 * i64::from(n))) };
        let id = PurchaseId { terminal: TerminalId(12), boot: 1, seq: n };
        let card = card(u64::from(n));
        let request = PurchaseRequest { id, card, mode, terminal_time_ms: 0, offline: false, tariff: None };
        campus.node.purchase(request).await.unwrap();
    }
    let pass = |n: u64, event| DoorRecord {
        at_ms: campus::NOON_MS,
        time_trusted: true,
        door: DoorId(1),
        terminal: Some(TerminalId(101)),
        card: Some(card(n)),
        person: Some(PersonId(n)),
        event,
    };
    campus.tell(Command::Door(pass(1, DoorEvent::Granted))).await;
    campus.tell(Command::Door(pass(4, DoorEvent::Denied(yika_crdt::reason::Reason::OutsideDoorTime)))).await;
}

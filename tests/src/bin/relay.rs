//! `yika-relay`: the relay as a program of its own, ordered by lines on standard input. Prints where it
//! listens as one JSON line, and its counters as another when it ends.

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use yika_tests::relay::orders::{ORDERS, Order};
use yika_tests::relay::{CLIENTS, HELD_PACKETS, Limits, Relay};

/// A seeded UDP relay with faults. It ends by `quit`, SIGINT or SIGTERM; the end of its input is only the
/// end of orders.
#[derive(Parser)]
#[command(name = "yika-relay", version, after_help = ORDERS)]
struct Args {
    /// Port of 127.0.0.1 to listen on; 0 lets the system choose.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where packets of clients go, such as 127.0.0.1:7400.
    #[arg(long)]
    target: SocketAddr,
    /// Decides which packets the faults meet.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Orders carried out before the first packet; may be repeated.
    #[arg(long)]
    order: Vec<String>,
    /// Clients served; packets of further ones are dropped.
    #[arg(long, default_value_t = CLIENTS)]
    clients: usize,
    /// Packets held in one direction of one client; more are dropped.
    #[arg(long, default_value_t = HELD_PACKETS)]
    held_packets: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "yika-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let limits = Limits { clients: args.clients, held_packets: args.held_packets };
    let relay = Relay::start_within(args.port, args.target, args.seed, limits).await;
    let relay = relay.with_context(|| format!("cannot listen on 127.0.0.1:{}; choose another --port", args.port))?;
    for line in &args.order {
        obey(&relay, line.parse().with_context(|| format!("--order {line:?}"))?)?;
    }
    say(&json!({ "listening": relay.address() }))?;
    let mut lines = lines();
    loop {
        let line = tokio::select! {
            Some(line) = lines.recv() => line,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        match line.parse() {
            Ok(Order::Quit) => break,
            Ok(order) => obey(&relay, order)?,
            // A slip of the hand must not end a long run.
            Err(error) => writeln!(std::io::stderr(), "yika-relay: {error:#}")?,
        }
    }
    say(&serde_json::to_value(relay.counters())?)
}

fn obey(relay: &Relay, order: Order) -> Result<()> {
    match order {
        Order::Fault(fault, ways) => {
            let mut faults = relay.faults();
            fault.apply(ways, &mut faults);
            relay.set(faults);
            Ok(())
        }
        Order::Counters => say(&serde_json::to_value(relay.counters())?),
        Order::Quit => Ok(()),
    }
}

fn say(value: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush().context("standard output is closed")
}

/// Standard input by line, read in a thread that nothing waits for at the end.
fn lines() -> mpsc::Receiver<String> {
    let (lines, received) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    received
}

//! A simulated relay board on a TCP port or a serial line: one JSON line per state change on standard
//! output, control by JSON lines on standard input.
//!
//! Leaves to others: what the board does (`modbus::simulator`).

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_serial::SerialPortBuilderExt;
use yika_drivers::modbus::frame::Framing;
use yika_drivers::modbus::simulator::{BoardChange, BoardSimulator, Fault, SimulatedBoard, SimulatedDoor};

/// Longest control line; a longer one ends the program with a message.
const CONTROL_LINE_LEN_BYTES_MAX: usize = 4_096;
/// Control lines read ahead; further ones wait in the pipe.
const CONTROL_LINES_WAITING_MAX: usize = 16;

/// Simulated Modbus relay board.
///
/// Control lines: {"do":"input","input":3,"on":true}, {"do":"fault","misbehaviour":"silent"},
/// {"do":"fault","misbehaviour":{"slow":500},"on":"writes","times":1}, {"do":"heal"},
/// {"do":"power_cycle","relays_on":true}, {"do":"nobody_there","nobody":true}.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one, which the first line names.
    #[arg(long, default_value = "127.0.0.1:1502", conflicts_with = "serial")]
    listen: SocketAddr,
    /// Frames on the TCP port.
    #[arg(long, value_enum, default_value = "tcp")]
    framing: FramingArgument,
    /// Serve a serial line in place of a port (RTU, 8N1).
    #[arg(long)]
    serial: Option<PathBuf>,
    /// Bits per second of the serial line.
    #[arg(long, default_value_t = 9_600)]
    baud: u32,
    /// Unit address.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=247))]
    unit: u8,
    /// Number of relays and of inputs.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    channels: u16,
    /// Doors: door n hangs on relay n and has its contact on input n.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=64))]
    doors: u16,
    /// How long after unlocking somebody opens the door, in milliseconds.
    #[arg(long, default_value_t = 300)]
    open_after_ms: u32,
    /// How long the door then stays open, in milliseconds.
    #[arg(long, default_value_t = 1_500)]
    close_after_ms: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum FramingArgument {
    /// Modbus TCP.
    Tcp,
    /// RTU over TCP.
    Rtu,
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Control {
    Input {
        input: u16,
        on: bool,
    },
    Fault(Fault),
    Heal,
    PowerCycle {
        #[serde(default)]
        relays_on: bool,
    },
    NobodyThere {
        nobody: bool,
    },
}

#[derive(Serialize)]
struct ChangeLine {
    /// Since the start.
    at_ms: u128,
    #[serde(flatten)]
    change: BoardChange,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("yika-modbus-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let board = BoardSimulator::new(simulated_board(&arguments));
    let served = serve(&arguments, &board);
    tokio::select! {
        result = served => result,
        result = print_changes(&board) => Ok(result?),
        never = control(&board) => never,
        result = tokio::signal::ctrl_c() => Ok(result?),
    }
}

fn simulated_board(arguments: &Arguments) -> SimulatedBoard {
    let doors = (1..=arguments.doors.min(arguments.channels)).map(|number| SimulatedDoor {
        relay: number,
        contact: number,
        open_after_ms: arguments.open_after_ms,
        close_after_ms: arguments.close_after_ms,
    });
    SimulatedBoard {
        unit: arguments.unit,
        relays: arguments.channels,
        inputs: arguments.channels,
        doors: doors.collect(),
    }
}

async fn serve(arguments: &Arguments, board: &BoardSimulator) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(path) = &arguments.serial {
        let port = tokio_serial::new(path.to_string_lossy(), arguments.baud)
            .open_native_async()
            .map_err(|error| format!("{}: {error}", path.display()))?;
        say(&serde_json::json!({"serial": path}))?;
        return Ok(board.serve_stream(port, Framing::Rtu).await?);
    }
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", arguments.listen))?;
    say(&serde_json::json!({"listening": listener.local_addr()?}))?;
    let framing = match arguments.framing {
        FramingArgument::Tcp => Framing::Tcp,
        FramingArgument::Rtu => Framing::Rtu,
    };
    Ok(board.serve_tcp(listener, framing).await?)
}

async fn print_changes(board: &BoardSimulator) -> std::io::Result<()> {
    let started = Instant::now();
    let mut changes = board.subscribe();
    loop {
        match changes.recv().await {
            Ok(change) => say(&ChangeLine { at_ms: started.elapsed().as_millis(), change })?,
            Err(RecvError::Lagged(missed)) => say(&serde_json::json!({"missed": missed}))?,
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

/// Carries out control lines until one is too long. The end of the input leaves the board running.
async fn control(board: &BoardSimulator) -> Result<(), Box<dyn std::error::Error>> {
    let (lines, mut waiting) = mpsc::channel(CONTROL_LINES_WAITING_MAX);
    // A thread of its own: a read of the terminal cannot be cancelled, and must not delay the end.
    std::thread::spawn(move || read_control(&lines));
    while let Some(line) = waiting.recv().await {
        obey(board, &line?)?;
    }
    std::future::pending().await
}

fn read_control(lines: &mpsc::Sender<std::io::Result<Vec<u8>>>) {
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let limit = CONTROL_LINE_LEN_BYTES_MAX as u64;
        let result = match input.by_ref().take(limit).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(CONTROL_LINE_LEN_BYTES_MAX) => {
                let text = format!("a control line is longer than {CONTROL_LINE_LEN_BYTES_MAX} bytes");
                Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text))
            }
            Ok(_) => Ok(line),
            Err(error) => Err(error),
        };
        let last = result.is_err();
        if lines.blocking_send(result).is_err() || last {
            return;
        }
    }
}

fn obey(board: &BoardSimulator, line: &[u8]) -> std::io::Result<()> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    match serde_json::from_slice(line) {
        Ok(Control::Input { input, on }) => board.set_input(input, on),
        Ok(Control::Fault(fault)) => board.set_fault(fault),
        Ok(Control::Heal) => board.heal(),
        Ok(Control::PowerCycle { relays_on }) => board.power_cycle(relays_on),
        Ok(Control::NobodyThere { nobody }) => board.set_nobody_there(nobody),
        Err(error) => return say(&serde_json::json!({"refused": error.to_string()})),
    }
    Ok(())
}

fn say(line: &impl Serialize) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&text)?;
    out.flush()
}

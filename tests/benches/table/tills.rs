//! The same through the published terminal interface: HTTP, signed both ways, the load from a second process on the
//! same cores; and PostgreSQL doing its own small transaction on the same disk.
//!
//! The load generator is lean, as pgbench is: one kept connection per till, requests written whole, answers checked.

use crate::campus::{Campus, FIRST_CARD, TILL, terminal_key};
use crate::peers::{self, Pgbench};
use crate::size::Size;
use crate::table::{Row, Times, nanos};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use yika_drivers::terminal::message::*;
use yika_drivers::terminal::sign::{self, Signed};
use yika_tests::process::Launch;

const PATH: &str = "/terminal/v1/purchase";
const PEOPLE: Size<u64> = Size(20_000, 300);
const RIGHT_FEN: i64 = 100_000_000;
const TILLS: u32 = 64;
const SECONDS: Size<u64> = Size(12, 1);
const READY: Duration = Duration::from_secs(120);
/// More than any answer, so that one reading takes it whole.
const ANSWER_BYTES: usize = 8 << 10;

/// What the box tells when it serves.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Ready {
    address: SocketAddr,
    hub_time_ms: i64,
}

/// The box, as a process of its own; ends with its standard input.
pub async fn serve(dir: &Path) -> Result<()> {
    let campus = Campus::new(dir, PEOPLE.get(), RIGHT_FEN, TILLS).await;
    let ready = Ready { address: campus.address, hub_time_ms: campus.node.time().0 };
    println!("{}", serde_json::to_string(&ready)?);
    tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin())).await??;
    Ok(())
}

pub async fn rows() -> Result<Vec<Row>> {
    let (times, rate) = sell_at_all().await?;
    let peer = tokio::task::spawn_blocking(peers::pgbench).await??;
    let row = Row::new("purchase over HTTP with HMAC, 64 in flight").times(&times).value(rate, "/s");
    let Some(peers) = peer else {
        return Ok(vec![row.note("PostgreSQL is not installed: no peer")]);
    };
    let mut rows: Vec<_> = peers.iter().map(peer_row).collect();
    let most = peers.last().context("pgbench ran with no clients")?;
    let ratio = rate / most.tps;
    rows.push(row.ratio(ratio, "pgbench of 32 clients").least("≥ 2 × pgbench", ratio, 2.0));
    Ok(rows)
}

fn peer_row(peer: &Pgbench) -> Row {
    let row = Row::new(format!("peer: pgbench -N -M prepared -s 50 -c {} -j 2", peer.clients)).value(peer.tps, "/s");
    row.note(format!("mean latency {:.2} ms; synchronous_commit=on, settings as shipped", peer.latency_ms))
}

async fn sell_at_all() -> Result<(Times, f64)> {
    let dir = tempfile::tempdir()?;
    let launch = Launch::program(std::env::current_exe()?)?.name("tills").args(&["--part", "tills"]);
    let mut server = launch.arg(dir.path()).talk().start().await?;
    let ready: Ready = serde_json::from_str(&server.wait_for_output("hub_time_ms", READY).await?)?;
    let begun = Instant::now();
    let ends = begun + Duration::from_secs(SECONDS.get());
    let tills: Vec<_> = (TILL..TILL + TILLS).map(|till| tokio::spawn(sell(ready, till, begun, ends))).collect();
    let mut all = Vec::new();
    for till in tills {
        all.extend(till.await??);
    }
    let rate = all.len() as f64 / begun.elapsed().as_secs_f64();
    server.kill().await?;
    Ok((Times::new(all), rate))
}

/// One till on one kept connection, one request at a time.
async fn sell(ready: Ready, terminal: u32, begun: Instant, ends: Instant) -> Result<Vec<u64>> {
    let mut stream = TcpStream::connect(ready.address).await?;
    stream.set_nodelay(true)?;
    let key = terminal_key(terminal);
    let (mut times, mut answer) = (Vec::new(), Vec::with_capacity(ANSWER_BYTES));
    for seq in 1.. {
        let started = Instant::now();
        if started >= ends {
            break;
        }
        let time_ms = ready.hub_time_ms + i64::try_from(begun.elapsed().as_millis())?;
        let (request, signature) = request(terminal, seq, time_ms, &key)?;
        stream.write_all(&request).await?;
        let (status, said, body_from) = read_answer(&mut stream, &mut answer).await?;
        let body = &answer[body_from..];
        sign::verify_answer(&key, &signature, status, body, &said)?;
        let said: SaleAnswer = serde_json::from_slice(body)?;
        assert_eq!(said.decision, Decision::Approved, "{said:?}");
        times.push(nanos(started));
    }
    Ok(times)
}

fn request(terminal: u32, seq: u32, time_ms: i64, key: &[u8; 32]) -> Result<(Vec<u8>, [u8; 32])> {
    let id = SaleId { terminal, boot: 1, seq };
    let number = FIRST_CARD + 1 + (u64::from(terminal) * 7_919 + u64::from(seq)) % PEOPLE.get();
    let (card, mode) = (PresentedCard::Number { number }, SaleMode::Amount { fen: 100 + i64::from(seq % 900) });
    let body = serde_json::to_vec(&Purchase { id, card, mode, time_ms, tariff: None })?;
    let nonce = u128::from(terminal) << 64 | u128::from(seq);
    let unsigned = Signed { terminal, key_version: 1, boot: 1, time_ms, nonce, signature: [0; 32] };
    let signed = unsigned.sign(key, "POST", PATH, &body)?;
    let mut text = format!("POST {PATH} HTTP/1.1\r\nhost: edge\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in signed.headers() {
        text.extend([name, ": ", &value, "\r\n"]);
    }
    text.push_str("\r\n");
    let mut request = text.into_bytes();
    request.extend(body);
    Ok((request, signed.signature))
}

/// Status, signature, and where in `bytes` the body begins.
async fn read_answer(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(u16, String, usize)> {
    bytes.clear();
    let (head, length) = loop {
        anyhow::ensure!(stream.read_buf(bytes).await? > 0, "the box hung up");
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = std::str::from_utf8(&bytes[..end])?.to_owned();
            let length: usize = header(&head, "content-length")?.parse()?;
            break (head, end + 4 + length);
        }
    };
    while bytes.len() < length {
        anyhow::ensure!(stream.read_buf(bytes).await? > 0, "the box hung up");
    }
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let body_from = length - header(&head, "content-length")?.parse::<usize>()?;
    anyhow::ensure!(status == 200, "{head} {}", String::from_utf8_lossy(&bytes[body_from..]));
    Ok((status, header(&head, sign::ANSWER_SIGNATURE)?.to_owned(), body_from))
}

fn header<'h>(head: &'h str, name: &str) -> Result<&'h str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value).with_context(|| format!("no {name} in {head}"))
}

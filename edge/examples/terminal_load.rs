//! Load on the terminal interface over loopback HTTP: so many in flight, signed both ways, journal durable.
//!
//! Arguments: in flight (64), seconds (5), people (20,000). Prints rate and percentiles; the generator runs on the
//! same cores. The folder comes from `TMPDIR`: choose the disk that is to be measured.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // a measurement may panic

#[path = "../tests/terminals_hub/mod.rs"]
mod terminals_hub;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use terminals_hub::*;
use yika_drivers::terminal::message::*;
use yika_drivers::terminal::sign::{self, Signed};

const PATH: &str = "/terminal/v1/purchase";

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let in_flight = arguments.next().unwrap_or(64) as u32;
    let seconds = arguments.next().unwrap_or(5);
    let people = arguments.next().unwrap_or(20_000);
    let dir = tempfile::tempdir().unwrap();
    println!("fdatasync of 4 KiB: {:.0}/s", fdatasync_rate(dir.path()));
    let campus = Arc::new(Campus::new(dir.path(), people, 100_000_000, in_flight).await);
    let ends = Instant::now() + Duration::from_secs(seconds);
    let tills: Vec<_> =
        (0..in_flight).map(|n| tokio::spawn(sell(Arc::clone(&campus), TILL + n, people, ends))).collect();
    let mut latencies = Vec::new();
    for till in tills {
        latencies.extend(till.await.unwrap());
    }
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{in_flight} in flight, {people} people: {} purchases, {:.0}/s, p50 {} us, p99 {} us, max {} us",
        latencies.len(),
        latencies.len() as f64 / seconds as f64,
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// One till on one kept connection, one request at a time.
async fn sell(campus: Arc<Campus>, terminal: u32, people: u64, ends: Instant) -> Vec<u64> {
    let stream = tokio::net::TcpStream::connect(campus.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut connection, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(driver);
    let key = terminal_key(terminal);
    let mut latencies = Vec::new();
    for seq in 1.. {
        let begun = Instant::now();
        if begun >= ends {
            break;
        }
        let id = SaleId { terminal, boot: 1, seq };
        let number = FIRST_CARD + 1 + (u64::from(terminal) * 7_919 + u64::from(seq)) % people;
        let (card, mode) = (PresentedCard::Number { number }, SaleMode::Amount { fen: 100 + i64::from(seq % 900) });
        let time_ms = campus.node.time().0;
        let body = serde_json::to_vec(&Purchase { id, card, mode, time_ms, tariff: None }).unwrap();
        let nonce = u128::from(terminal) << 64 | u128::from(seq);
        let unsigned = Signed { terminal, key_version: 1, boot: 1, time_ms, nonce, signature: [0; 32] };
        let signed = unsigned.sign(&key, "POST", PATH, &body).unwrap();
        let mut request = hyper::Request::post(PATH).header("host", "edge");
        for (name, value) in signed.headers() {
            request = request.header(name, value);
        }
        let answer = connection.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let signature = answer.headers()[sign::ANSWER_SIGNATURE].to_str().unwrap().to_owned();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        sign::verify_answer(&key, &signed.signature, status, &body, &signature).unwrap();
        let said: SaleAnswer = serde_json::from_slice(&body).unwrap();
        assert_eq!(said.decision, Decision::Approved, "{said:?}");
        latencies.push(begun.elapsed().as_micros() as u64);
    }
    latencies
}

/// The disk's own limit, for comparison within one run.
fn fdatasync_rate(dir: &Path) -> f64 {
    let mut file = std::fs::File::create(dir.join("probe")).unwrap();
    file.write_all(&[0; 4096]).unwrap();
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&[1; 4096]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

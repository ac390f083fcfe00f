//! A purchase within the process: decision and durable journal, so many in flight.
//!
//! Leaves to others: the interface that terminals use (`tills`).

use crate::campus::{Campus, FIRST_CARD, TILL};
use crate::peers::Disk;
use crate::size::Size;
use crate::table::{Row, Times, nanos, written_bytes};
use anyhow::Result;
use std::sync::Arc;
use std::time::{Duration, Instant};
use yika_crdt::Fen;
use yika_crdt::entry::Mode;
use yika_crdt::ids::*;
use yika_crdt::sale::{Answer, PurchaseRequest};

const PEOPLE: Size<u64> = Size(20_000, 300);
const RIGHT_FEN: i64 = 100_000_000;
const SECONDS: Size<u64> = Size(8, 1);
const IN_FLIGHT: [u32; 3] = [1, 32, 128];

pub async fn rows() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let campus = Arc::new(Campus::new(dir.path(), PEOPLE.get(), RIGHT_FEN, IN_FLIGHT.iter().sum()).await);
    let mut rows = Vec::new();
    let mut first_till = TILL;
    for in_flight in IN_FLIGHT {
        // Right before, so that the ratio is one of the same minute.
        let disk = Disk::measure().await?;
        let written = written_bytes()?;
        let (times, rate) = sell(&campus, first_till, in_flight).await?;
        let each = (written_bytes()? - written) as f64 / times.len() as f64;
        first_till += in_flight;
        let row = Row::new(format!("purchase in process, {in_flight} in flight")).times(&times).value(rate, "/s");
        let row = row.note(format!(
            "fdatasync right before: {:.0} µs, {:.0}/s; {:.1} KiB sent to the disk for each, checkpoints included",
            disk.p50_us,
            disk.per_second,
            each / 1024.0
        ));
        let (p50, p99) = (times.p50() / disk.p50_us, times.p99());
        let times_rate = rate / disk.per_second;
        rows.push(match in_flight {
            1 => row.ratio(p50, "fdatasync p50").most("p50 ≤ 2.5 × fdatasync", p50, 2.5).most("p99 ≤ 1 ms", p99, 1e3),
            32 => {
                row.ratio(times_rate, "its rate").least("≥ 3 × its rate", times_rate, 3.0).most("p99 ≤ 3 ms", p99, 3e3)
            }
            _ => {
                row.ratio(times_rate, "its rate").least("≥ 4 × its rate", times_rate, 4.0).most("p99 ≤ 10 ms", p99, 1e4)
            }
        });
    }
    Ok(rows)
}

/// Each till sells one after the other, checkpoints included.
async fn sell(campus: &Arc<Campus>, first_till: u32, in_flight: u32) -> Result<(Times, f64)> {
    let begun = Instant::now();
    let ends = begun + Duration::from_secs(SECONDS.get());
    let tills = (first_till..first_till + in_flight).map(|till| tokio::spawn(sell_at(Arc::clone(campus), till, ends)));
    let mut all = Vec::new();
    for till in tills.collect::<Vec<_>>() {
        all.extend(till.await?);
    }
    let rate = all.len() as f64 / begun.elapsed().as_secs_f64();
    Ok((Times::new(all), rate))
}

async fn sell_at(campus: Arc<Campus>, till: u32, ends: Instant) -> Vec<u64> {
    let mut times = Vec::new();
    for seq in 1.. {
        let started = Instant::now();
        if started >= ends {
            break;
        }
        let request = PurchaseRequest {
            id: PurchaseId { terminal: TerminalId(till), boot: 1, seq },
            card: CardNumber(FIRST_CARD + 1 + (u64::from(till) * 7_919 + u64::from(seq)) % PEOPLE.get()),
            mode: Mode::Amount(Fen(100 + i64::from(seq % 900))),
            terminal_time_ms: campus.node.time().0,
            offline: false,
            tariff: None,
        };
        let answer = campus.node.purchase(request).await.unwrap();
        assert!(matches!(answer, Answer::Approved(_)), "{answer:?}");
        times.push(nanos(started));
    }
    times
}

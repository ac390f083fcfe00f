//! Figures, limits and verdicts, as a table for people or as JSON for programs.
//!
//! Leaves to others: what is measured.

use anyhow::{Context, Result};
use serde::Serialize;
use std::io::Write;
use std::time::Instant;

/// Durations in nanoseconds, sorted.
pub struct Times(Vec<u64>);

impl Times {
    pub fn new(mut nanos: Vec<u64>) -> Times {
        nanos.sort_unstable();
        Times(nanos)
    }

    /// Microseconds below which this part of all lies.
    pub fn at(&self, part: f64) -> f64 {
        match self.0.len() {
            0 => f64::NAN,
            n => self.0[((n - 1) as f64 * part) as usize] as f64 / 1_000.0,
        }
    }

    pub fn p50(&self) -> f64 {
        self.at(0.5)
    }

    pub fn p99(&self) -> f64 {
        self.at(0.99)
    }

    pub fn max(&self) -> f64 {
        self.at(1.0)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A promise, and what became of it.
#[derive(Serialize)]
struct Limit {
    text: String,
    measured: f64,
    bound: f64,
    met: bool,
}

/// One line.
#[derive(Serialize)]
pub struct Row {
    name: String,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    value: Option<f64>,
    unit: &'static str,
    ratio: Option<f64>,
    ratio_to: &'static str,
    limits: Vec<Limit>,
    /// Load average of one minute when the figure was there.
    load: f64,
    note: String,
}

impl Row {
    pub fn new(name: impl Into<String>) -> Row {
        Row {
            name: name.into(),
            p50_us: None,
            p99_us: None,
            value: None,
            unit: "",
            ratio: None,
            ratio_to: "",
            limits: Vec::new(),
            load: load(),
            note: String::new(),
        }
    }

    pub fn times(self, times: &Times) -> Row {
        self.us(times.p50(), times.p99())
    }

    pub fn us(mut self, p50_us: f64, p99_us: f64) -> Row {
        (self.p50_us, self.p99_us) = (Some(p50_us), Some(p99_us));
        self
    }

    pub fn value(mut self, value: f64, unit: &'static str) -> Row {
        (self.value, self.unit) = (Some(value), unit);
        self
    }

    pub fn ratio(mut self, ratio: f64, to: &'static str) -> Row {
        (self.ratio, self.ratio_to) = (Some(ratio), to);
        self
    }

    /// `measured` may be at most `bound`.
    pub fn most(mut self, text: &str, measured: f64, bound: f64) -> Row {
        self.limits.push(Limit { text: text.to_owned(), measured, bound, met: measured <= bound });
        self
    }

    /// `measured` must be at least `bound`.
    pub fn least(mut self, text: &str, measured: f64, bound: f64) -> Row {
        self.limits.push(Limit { text: text.to_owned(), measured, bound, met: measured >= bound });
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Row {
        self.note = note.into();
        self
    }

    fn verdict(&self) -> &'static str {
        match self.limits.as_slice() {
            [] => "-",
            limits if limits.iter().all(|limit| limit.met) => "met",
            _ => "MISSED",
        }
    }

    fn cells(&self) -> [String; 8] {
        let limits: Vec<_> = self.limits.iter().map(|l| l.text.clone() + if l.met { "" } else { " ✗" }).collect();
        let time = |us: Option<f64>| us.map_or("-".to_owned(), in_words);
        [
            self.name.clone(),
            time(self.p50_us),
            time(self.p99_us),
            self.value.map_or("-".to_owned(), |v| format!("{} {}", short(v), self.unit)),
            self.ratio.map_or("-".to_owned(), |r| format!("{r:.2} × {}", self.ratio_to)),
            limits.join(", "),
            self.verdict().to_owned(),
            format!("{:.1}", self.load),
        ]
    }
}

/// Everything that was measured, and where.
#[derive(Default)]
pub struct Table {
    pub rows: Vec<Row>,
    pub failed: Vec<String>,
}

impl Table {
    pub fn print(&self, json: bool) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            let verdicts: Vec<_> = self.rows.iter().map(|r| (&r.name, r.verdict())).collect();
            let table = serde_json::json!({
                "machine": machine(), "commit": commit(), "load": load(),
                "rows": self.rows, "verdicts": verdicts, "failed": self.failed,
            });
            writeln!(out, "{table}")?;
            return Ok(());
        }
        let head = ["", "p50", "p99", "rate or size", "ratio", "limit", "verdict", "load"].map(str::to_owned);
        let lines: Vec<_> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 8] = std::array::from_fn(width);
        writeln!(out, "{}; commit {}; load average {:.1} at the end", machine(), commit(), load())?;
        for (n, line) in lines.iter().enumerate() {
            let cells = line
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(cell.chars().count()))));
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
            if let Some(row) = n.checked_sub(1).and_then(|n| self.rows.get(n)).filter(|row| !row.note.is_empty()) {
                writeln!(out, "    {}", row.note)?;
            }
        }
        for failed in &self.failed {
            writeln!(out, "NOT MEASURED: {failed}")?;
        }
        Ok(())
    }
}

/// A duration with three digits.
pub fn in_words(us: f64) -> String {
    match us {
        us if us < 1.0 => format!("{us:.2} µs"),
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

fn short(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// Nanoseconds since `start`.
pub fn nanos(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The monotonic clock, which all processes of a machine share.
pub fn mono_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A line of `/proc/<pid>/status`, in KiB.
pub fn memory_kib(pid: u32, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next()?.parse().ok());
    kib.ok_or_else(|| anyhow::anyhow!("process {pid} tells no {field}"))
}

/// What this process has sent to the disk.
pub fn written_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.trim().parse().ok()).context("the system does not tell what was written")
}

fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}

fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    format!("{} × {}", cores, model.trim_start_matches([' ', '\t', ':']))
}

fn commit() -> String {
    let git = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    git.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

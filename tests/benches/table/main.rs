//! The bench table: every number that was promised, measured in one run, beside what the machine itself can do.
//!
//! `deploy/bench [--json] [--only purchase,doors]`. Databases lie in `TMPDIR`: choose the disk that is to be measured. Parts
//! that need memory or a clock of their own run as processes: the programs themselves where their outside is measured,
//! this one (`--part`) where commits are watched from inside. `cargo test` runs all parts with small sizes (`size`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // a bench may panic, and prints
#![allow(unreachable_pub)] // modules of one program

mod backup;
#[path = "../../../hub/tests/site/browser.rs"]
mod browser;
#[path = "../../../edge/tests/terminals_hub/mod.rs"]
mod campus;
mod catch_up;
mod doors;
mod growth;
mod host;
mod news;
mod pages;
mod peers;
mod people;
mod purchase;
#[allow(dead_code)] // a bench uses its own part of the rig
#[path = "../../../edge/tests/doors/rig.rs"]
mod rig;
#[path = "../../../hub/tests/site/mod.rs"]
mod site;
mod size;
mod table;
mod thousand;
mod tills;

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use table::{Row, Table};
use tokio::runtime::Handle;

/// What is measured within this process allocates as the programs do.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Parts of the table, in the order in which they are measured.
const PARTS: [&str; 11] =
    ["peers", "purchase", "tills", "doors", "people", "catch-up", "news", "thousand", "pages", "backup", "growth"];

/// Measures what was promised.
#[derive(Parser)]
struct Arguments {
    /// One JSON object.
    #[arg(long)]
    json: bool,
    /// Only these parts, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = PARTS)]
    only: Vec<String>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
    /// A process of one of the parts; the rest are its words.
    #[arg(long, hide = true)]
    part: Option<String>,
    #[arg(hide = true)]
    words: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    // Run by `cargo test`: whatever words it has are for test harnesses.
    let by_bench = std::env::args().any(|word| word == "--bench" || word == "--part");
    if !by_bench && !size::is_small() {
        return Err(size::be_small().into());
    }
    let arguments = Arguments::parse();
    if let Some(part) = &arguments.part {
        serve(part, &arguments.words).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if !size::is_small() {
        build_programs()?;
    }
    let mut table = Table::default();
    for part in PARTS {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|wanted| wanted == part) {
            continue;
        }
        eprintln!("measuring: {part}");
        // A thread of its own, so that a part that fails leaves the others standing.
        let measured = tokio::task::spawn_blocking(move || Handle::current().block_on(measure(part)));
        match measured.await.context("it panicked").and_then(|rows| rows) {
            Ok(rows) => table.rows.extend(rows),
            Err(error) => table.failed.push(format!("{part}: {error:#}")),
        }
    }
    if size::is_small() {
        // Its figures say nothing.
        table.rows.clear();
    }
    table.print(arguments.json)?;
    if size::is_small() {
        println!("{} passed, {} failed", PARTS.len() - table.failed.len(), table.failed.len());
    }
    Ok(if table.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(part: &'static str) -> Result<Vec<Row>> {
    match part {
        "peers" => peers::rows().await,
        "purchase" => purchase::rows().await,
        "tills" => tills::rows().await,
        "doors" => doors::rows().await,
        "people" => people::rows().await,
        "catch-up" => catch_up::rows().await,
        "news" => news::rows().await,
        "pages" => pages::rows().await,
        "backup" => backup::rows().await,
        "growth" => growth::rows().await,
        _ => thousand::rows().await,
    }
}

async fn serve(part: &str, words: &[String]) -> Result<()> {
    let dir = PathBuf::from(words.first().context("a part needs its folder")?);
    match part {
        "tills" => tills::serve(&dir).await,
        "hub" => host::hub(&dir, words[1].parse()?).await,
        "edge" => host::edge(&dir, words[1].parse()?, words.get(2).map(String::as_str)).await,
        "boxes" => thousand::serve(&dir).await,
        "growth-people" => growth::serve_people(&dir, words[1].parse()?).await,
        "growth-again" => growth::serve_again(&dir).await,
        "growth-boxes" => tokio::task::block_in_place(|| growth::serve_boxes(&dir, words[1].parse()?)),
        _ => bail!("there is no part {part:?}"),
    }
}

/// The programs that are measured must be those of these sources; `cargo bench` builds only what it links.
fn build_programs() -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = std::process::Command::new(cargo);
    command.args(["build", "--quiet", "--release", "--bins", "-p", "yika-hub", "-p", "yika-edge", "-p", "yika-tests"]);
    let status = command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).status().context("no cargo")?;
    if !status.success() {
        bail!("the programs could not be built: {status}");
    }
    Ok(())
}

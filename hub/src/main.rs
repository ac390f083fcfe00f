//! `yika-hub`: headquarters. Arguments, configuration, logging, then the work; no SQL, no protocol, no loop here.

mod cli;

use clap::Parser;
use std::process::ExitCode;

/// Many small rows are made and dropped in every turn: with this one a catch-up takes two thirds of the time it takes with
/// the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::anyhow!("the system gives no threads: {error}")),
    };
    match runtime.block_on(cli::run(arguments)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("yika-hub: {error:#}");
    cli::code_of(error)
}

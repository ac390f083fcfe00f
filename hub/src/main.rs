//! `yika-hub`: headquarters. Arguments, configuration, logging, then the work; no SQL, no protocol, no loop here.

mod cli;

use std::process::ExitCode;

/// Many small rows are made and dropped in every turn: the system's allocator took a sixth of the writer's time, and gave
/// pages back late. How it is set: `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments = match cli::parsed() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let voice = arguments.voice();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail(voice, &anyhow::anyhow!("the system gives no threads: {error}")),
    };
    runtime.block_on(cli::run(arguments)).unwrap_or_else(|error| cli::fail(voice, &error))
}

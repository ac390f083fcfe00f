//! The edge program: arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;
use yika_edge::cli;

/// Many small rows are made and dropped in every turn: the system's allocator took a sixth of the writer's time, and gave
/// pages back late. How it is set: `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let ends = cli::parsed().map_or_else(|exit| exit, cli::run);
    ExitCode::from(ends.code())
}

//! The edge program: arguments in, exit code out. Everything else is in the library.

use clap::Parser;
use std::process::ExitCode;
use yika_edge::cli::{self, Arguments};

/// As at headquarters: many small rows are made and dropped in every turn.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    ExitCode::from(cli::run(arguments).code())
}

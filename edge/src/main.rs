//! The edge program: arguments in, exit code out. Everything else is in the library.

use clap::Parser;
use std::process::ExitCode;
use yika_edge::cli::{self, Arguments};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    ExitCode::from(cli::run(arguments).code())
}

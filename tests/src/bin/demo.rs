//! `yika-demo`: a headquarters, two campuses, a lunch rush, a cut line, and books that agree. See `deploy/demo`.

use clap::Parser;
use std::process::ExitCode;
use yika_tests::demo::{self, Options};

#[tokio::main]
async fn main() -> ExitCode {
    match demo::run(&Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

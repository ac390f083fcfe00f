//! `yika-soak`: a whole world under load while everything fails by a seed, and books that agree. See `yika_tests::soak`.

use clap::Parser;
use std::process::ExitCode;
use yika_tests::soak::{self, Options};

#[tokio::main]
async fn main() -> ExitCode {
    match soak::run(&Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

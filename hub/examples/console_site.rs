//! Fills an empty data folder with invented people and a day of sales, to look at the console:
//! `cargo run -p yika-hub --example console_site -- FOLDER [PEOPLE_PER_CAMPUS]`, then `yika-hub serve --data FOLDER`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // an example may panic and print

#[path = "../tests/site/mod.rs"]
mod site;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder that is empty or absent");
    let per_campus = arguments.next().map_or(120, |n| n.parse().expect("a number of people"));
    let _site = site::filled(std::path::Path::new(&folder), per_campus).await;
    println!(
        "{} people; operators chief, clerk, cashier, auditor, east, eastadmin / {}",
        per_campus * 2,
        site::PASSWORD
    );
}

//! `yika-hub top-up|withdraw|refund|pools|ledger …`: money in, out and back, and the books.

use super::{Line, PROBLEMS, say};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use yika_crdt::Fen;
use yika_crdt::ids::*;
use yika_hub::control::{PaidOut, TopUpWish, ToppedUp};
use yika_hub::core::PoolSizes;
use yika_hub::desk::{GivenBack, RefundWish};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct TopUp {
    #[command(subcommand)]
    undo: Option<TopUpUndo>,
    #[command(flatten)]
    pay_in: Option<Movement>,
}

#[derive(Subcommand)]
pub(super) enum TopUpUndo {
    /// Undo a top-up whole: by who took it, on the same day.
    Undo {
        /// Number of its voucher.
        #[arg(long)]
        request: String,
    },
}

#[derive(Args)]
pub(super) struct Movement {
    /// The person, as in p17.
    person: PersonId,
    /// How much, in fen.
    #[arg(long)]
    fen: i64,
    /// Number of the voucher: the same is posted once.
    #[arg(long)]
    request: String,
}

#[derive(Args)]
pub(super) struct Refund {
    /// The sale: terminal, boot, number, as in t5-1-204.
    #[arg(value_parser = sale)]
    sale: PurchaseId,
    /// How much, in fen; everything that is left when absent.
    #[arg(long)]
    fen: Option<i64>,
    /// A keyed sum was wrong; else the goods came back.
    #[arg(long)]
    correction: bool,
    /// Number of the voucher: the same is posted once.
    #[arg(long)]
    request: String,
}

#[derive(Subcommand)]
pub(super) enum Pools {
    /// What is set.
    Show,
    /// Set both sizes.
    Set {
        /// For guests, per box, in fen.
        #[arg(long)]
        guest_fen: i64,
        /// For a terminal that decides alone, per terminal and box, in fen.
        #[arg(long)]
        float_fen: i64,
    },
}

#[derive(Subcommand)]
pub(super) enum Ledger {
    /// Add the books up again from every transfer.
    Verify,
}

pub(super) async fn top_up(hub: &Line, command: TopUp) -> Result<()> {
    match command {
        TopUp { undo: Some(TopUpUndo::Undo { request }), .. } => {
            let done: PaidOut = hub.post("/v1/top-up/undo", &request).await?;
            say(&serde_json::to_string(&done)?)
        }
        TopUp { pay_in: Some(Movement { person, fen, request }), .. } => {
            let done: ToppedUp = hub.post("/v1/top-up", &TopUpWish { person, fen, request }).await?;
            say(&serde_json::to_string(&done)?)
        }
        TopUp { pay_in: None, .. } => bail!("whom, how much, which voucher: see yika-hub top-up --help"),
    }
}

pub(super) async fn withdraw(hub: &Line, Movement { person, fen, request }: Movement) -> Result<()> {
    let done: PaidOut = hub.post("/v1/withdraw", &TopUpWish { person, fen, request }).await?;
    say(&serde_json::to_string(&done)?)
}

pub(super) async fn refund(hub: &Line, Refund { sale, fen, correction, request }: Refund) -> Result<()> {
    let done: GivenBack = hub.post("/v1/refund", &RefundWish { sale, fen, correction, request }).await?;
    say(&serde_json::to_string(&done)?)
}

pub(super) async fn pools(hub: &Line, command: Pools) -> Result<()> {
    match command {
        Pools::Show => {
            let sizes: PoolSizes = hub.get("/v1/pools").await?;
            say(&serde_json::json!({ "guest_fen": sizes.guest.0, "float_fen": sizes.float.0 }).to_string())
        }
        Pools::Set { guest_fen, float_fen } => {
            hub.post("/v1/pools", &PoolSizes { guest: Fen(guest_fen), float: Fen(float_fen) }).await
        }
    }
}

pub(super) async fn ledger(hub: &Line, command: Ledger) -> Result<ExitCode> {
    let Ledger::Verify = command;
    let sums: serde_json::Value = hub.get("/v1/ledger").await?;
    say(&serde_json::to_string(&sums)?)?;
    let sound = sums["sum_fen"] == 0 && sums["accounts_differing"] == 0;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(PROBLEMS) })
}

/// A sale's id as printed: t5-1-204.
fn sale(text: &str) -> Result<PurchaseId, String> {
    let parts: Vec<&str> = text.split('-').collect();
    let [terminal, boot, seq] = parts[..] else { return Err("a sale is terminal-boot-number, as in t5-1-204".into()) };
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is not a number"));
    let terminal = terminal.parse::<TerminalId>().map_err(|e| e.to_string())?;
    Ok(PurchaseId { terminal, boot: number(boot)?, seq: number(seq)? })
}

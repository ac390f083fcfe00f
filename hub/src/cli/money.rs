//! `yika-hub top-up|withdraw|refund|pools|ledger …`: money in, out and back, and the books.

use super::failure::Form;
use super::words::Facts;
use super::{Line, PROBLEMS, Usage};
use anyhow::Result;
use clap::{Args, Subcommand};
use std::process::ExitCode;
use yika_crdt::Fen;
use yika_crdt::ids::*;
use yika_hub::control::{TopUpWish, ToppedUp};
use yika_hub::core::PoolSizes;
use yika_hub::desk::{GivenBack, PaidOut, RefundWish};
use yika_hub::store::read::TrialBalance;

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
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Args)]
pub(super) struct Movement {
    /// The person, as in p17; never a staff number.
    #[arg(value_parser = person)]
    person: PersonId,
    /// How much, in fen.
    #[arg(long, allow_hyphen_values = true)]
    fen: i64,
    /// Number of the voucher: the same is posted once.
    #[arg(long)]
    request: String,
}

/// A bare number might be meant as a staff number, which is somebody else's.
fn person(text: &str) -> Result<PersonId, Form> {
    text.strip_prefix('p').and_then(|_| text.parse().ok()).ok_or(Form("form.person"))
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
    /// Why; it stands on the record of the sale.
    #[arg(long)]
    reason: String,
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
    let voice = hub.voice;
    match command {
        TopUp { undo: Some(TopUpUndo::Undo { request, reason }), .. } => {
            let done: PaidOut = hub.post("/v1/top-up/undo", &(request, reason)).await?;
            let key = if done.repeated { "top_up.undone_before" } else { "top_up.undone" };
            voice.give(&done, key, &[("left", &Fen(done.left_fen))])
        }
        TopUp { pay_in: Some(Movement { person, fen, request }), .. } => {
            let done: ToppedUp = hub.post("/v1/top-up", &TopUpWish { person, fen, request }).await?;
            let key = if done.repeated { "top_up.repeated" } else { "top_up.done" };
            voice.give(&done, key, &[("sum", &Fen(fen)), ("total", &Fen(done.total_fen))])
        }
        TopUp { pay_in: None, .. } => Err(Usage(voice.words("top_up.usage", &[])).into()),
    }
}

pub(super) async fn withdraw(hub: &Line, Movement { person, fen, request }: Movement) -> Result<()> {
    let done: PaidOut = hub.post("/v1/withdraw", &TopUpWish { person, fen, request }).await?;
    let key = if done.repeated { "withdraw.repeated" } else { "withdraw.done" };
    hub.voice.give(&done, key, &[("sum", &Fen(fen)), ("left", &Fen(done.left_fen))])
}

pub(super) async fn refund(hub: &Line, Refund { sale, fen, correction, request, reason }: Refund) -> Result<()> {
    let done: GivenBack = hub.post("/v1/refund", &RefundWish { sale, fen, correction, request, reason }).await?;
    let key = match (done.repeated, done.meal) {
        (true, true) => "refund.repeated.meal",
        (true, false) => "refund.repeated",
        (false, true) => "refund.done.meal",
        (false, false) => "refund.done",
    };
    hub.voice.give(&done, key, &[("sum", &Fen(done.fen))])
}

pub(super) async fn pools(hub: &Line, command: Pools) -> Result<()> {
    let (sizes, key) = match command {
        Pools::Show => (hub.get("/v1/pools").await?, "pools.show"),
        Pools::Set { guest_fen, float_fen } => {
            let sizes = PoolSizes { guest: Fen(guest_fen), float: Fen(float_fen) };
            let () = hub.post("/v1/pools", &sizes).await?;
            (sizes, "pools.set")
        }
    };
    let answer = serde_json::json!({ "guest_fen": sizes.guest.0, "float_fen": sizes.float.0 });
    hub.voice.give(&answer, key, &[("guest", &sizes.guest), ("float", &sizes.float)])
}

pub(super) async fn ledger(hub: &Line, command: Ledger) -> Result<ExitCode> {
    let Ledger::Verify = command;
    let sums: TrialBalance = hub.get("/v1/ledger").await?;
    let sound = sums.sum_fen == 0 && sums.accounts_differing == 0;
    let key = if sound { "ledger.sound" } else { "ledger.unsound" };
    let facts: Facts<'_> = &[
        ("accounts", &sums.accounts),
        ("transfers", &sums.transfers),
        ("sum", &Fen(sums.sum_fen)),
        ("differing", &sums.accounts_differing),
    ];
    hub.voice.give(&sums, key, facts)?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(PROBLEMS) })
}

/// A sale's id as printed: t5-1-204.
fn sale(text: &str) -> Result<PurchaseId, Form> {
    let wrong = Form("form.sale");
    let parts: Vec<&str> = text.split('-').collect();
    let [terminal, boot, seq] = parts[..] else { return Err(wrong) };
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong);
    let terminal = terminal.parse::<TerminalId>().map_err(|_| wrong)?;
    Ok(PurchaseId { terminal, boot: number(boot)?, seq: number(seq)? })
}

//! Simulated tills and door readers against real edges, and the certification list for other makers' terminals.
//!
//! Leaves to others: what a terminal does (`yika_drivers::terminal::simulator`).

use clap::{Args, Parser, Subcommand};
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::sync::watch;
use yika_drivers::terminal::client::{Client, Patience};
use yika_drivers::terminal::simulator::{self, Plan, TerminalPlan, certify};

/// Simulates terminals of the published interface.
#[derive(Parser)]
#[command(version, name = "yika-terminal-sim")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Work>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Work {
    /// Tries the certification list against an edge; exit code 1 if a rule does not hold.
    Certify {
        #[command(flatten)]
        terminal: One,
        /// A card to sell to; an unknown one is refused, which serves as well.
        #[arg(long, default_value_t = 1)]
        card: u64,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

/// One terminal by flags.
#[derive(Args, Clone)]
struct One {
    /// `http://host:port` of an edge; several in order of preference.
    #[arg(long)]
    edge: Vec<String>,
    /// Number of the terminal, as in 3 or t3.
    #[arg(long, requires = "key", value_parser = terminal_number)]
    terminal: Option<u32>,
    /// Its key, 64 hexadecimal digits.
    #[arg(long, env = "YIKA_TERMINAL_KEY", hide_env_values = true)]
    key: Option<String>,
    /// The key's version.
    #[arg(long, default_value_t = 1)]
    key_version: u16,
}

/// A run: a plan from a file, with flags over it. Prints the summary as JSON; Ctrl-C ends it early. Exit code 1: an id was
/// answered in two ways, or no request was taken at all; 2: the plan cannot be run.
#[derive(Args)]
struct Run {
    /// Plan, `.toml` or `.json`; the fields are those of `simulator::Plan`.
    #[arg(long)]
    plan: Option<PathBuf>,
    #[command(flatten)]
    terminal: One,
    /// The terminal is a door's card reader, not a till.
    #[arg(long, requires = "terminal")]
    reader: bool,
    /// Card number, `first-last`, or a chip as `uid:0b3e3636`; may be repeated.
    #[arg(long)]
    card: Vec<String>,
    /// Sales in a second, all tills together; 0 = as fast as they are answered.
    #[arg(long)]
    rate: Option<u32>,
    /// Seed of all choices.
    #[arg(long)]
    seed: Option<u64>,
    /// Ends after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Ends after so many sales; of swipes with a reader only.
    #[arg(long)]
    count: Option<u64>,
    /// Keyed amounts, in fen: `850`, or `500-1200` for any between.
    #[arg(long, value_parser = amounts)]
    fen: Option<(i64, i64)>,
    /// Writes every request and its first answer there, a line of JSON each.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Sends every id once more at the end and compares.
    #[arg(long)]
    resend_all: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(ansi).with_env_filter("warn").init();
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Some(Work::Certify { terminal, card, json }) => certify_edge(&terminal, card, json).await,
        None => run(arguments.run).await,
    };
    match done {
        Ok(good) => ExitCode::from(u8::from(!good)),
        // Whoever read has read enough, as `head` does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Whether something was answered, and no id in two ways.
async fn run(run: Run) -> std::io::Result<bool> {
    let plan = plan_of(&run)?;
    let log = match &run.log {
        Some(path) => Some(Box::new(std::fs::File::create(path)?) as Box<dyn Write + Send>),
        None => None,
    };
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.send_replace(true);
        }
        // Kept until the process ends: a closed channel is no stop.
        std::future::pending::<()>().await;
    });
    let summary = simulator::run(plan, log, stopped).await?;
    print_json(&summary)?;
    if summary.is_idle() {
        let problems: Vec<String> = summary.problems.iter().map(|(code, n)| format!("{code} ×{n}")).collect();
        match problems.is_empty() {
            true => tracing::error!("nobody answered: is the edge's address right, and does it run?"),
            false => tracing::error!("no request was taken: {}", problems.join(", ")),
        }
    }
    Ok(summary.contradictions == 0 && !summary.is_idle())
}

/// `3`, or `t3` as pages write it.
fn terminal_number(text: &str) -> Result<u32, String> {
    text.strip_prefix('t').unwrap_or(text).parse().map_err(|_| "a terminal is a number, as in 3 or t3".to_owned())
}

/// Least and greatest of `850` or `500-1200`.
fn amounts(text: &str) -> Result<(i64, i64), String> {
    let (least, greatest) = text.split_once('-').unwrap_or((text, text));
    let fen = |text: &str| text.parse().map_err(|_| "an amount is in fen, as in 850 or 500-1200".to_owned());
    Ok((fen(least)?, fen(greatest)?))
}

fn plan_of(run: &Run) -> std::io::Result<Plan> {
    let mut plan = match &run.plan {
        Some(path) => Plan::read(path).map_err(std::io::Error::other)?,
        None => Plan::default(),
    };
    if let (Some(terminal), Some(key)) = (run.terminal.terminal, run.terminal.key.clone()) {
        let one = TerminalPlan { terminal, key, key_version: run.terminal.key_version, edges: Vec::new() };
        if run.reader { plan.readers.push(one) } else { plan.tills.push(one) }
    }
    if !run.terminal.edge.is_empty() {
        plan.edges.clone_from(&run.terminal.edge);
    }
    if !run.card.is_empty() {
        plan.cards.clone_from(&run.card);
    }
    plan.per_second = run.rate.unwrap_or(plan.per_second);
    plan.seed = run.seed.unwrap_or(plan.seed);
    plan.seconds = run.seconds.or(plan.seconds);
    plan.count = run.count.or(plan.count);
    plan.mix.amount_fen = run.fen.unwrap_or(plan.mix.amount_fen);
    plan.resend_all |= run.resend_all;
    Ok(plan)
}

/// Whether every rule holds.
async fn certify_edge(one: &One, card: u64, json: bool) -> std::io::Result<bool> {
    let (Some(terminal), Some(key), Some(edge)) = (one.terminal, one.key.clone(), one.edge.first()) else {
        return Err(std::io::Error::other("certify needs --edge, --terminal and --key"));
    };
    let plan = TerminalPlan { terminal, key, key_version: one.key_version, edges: Vec::new() };
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // A boot of its own: ids of an earlier trial never come back.
    let boot = u32::try_from(since.as_secs()).unwrap_or(1);
    let identity = plan.identity(edge, boot).map_err(std::io::Error::other)?;
    // A second try, for a terminal's clock that the first answer sets.
    let client = Client::new(identity).patient(Patience { tries_max: 2, ..Patience::default() });
    let rules = certify::certify(&client, card).await;
    if json {
        print_json(&rules)?;
    } else {
        let mut out = std::io::stdout().lock();
        for rule in &rules {
            match &rule.failed {
                None => writeln!(out, "通过 pass  {} / {}", rule.rule.zh, rule.rule.en)?,
                Some(seen) => writeln!(out, "不符 FAIL  {} / {}: {seen}", rule.rule.zh, rule.rule.en)?,
            }
        }
    }
    Ok(rules.iter().all(|rule| rule.failed.is_none()))
}

fn print_json(value: &impl serde::Serialize) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    out.write_all(b"\n")
}

//! Tills and a door under load for the whole soak: crowds in rounds, some of them killed, and what every one of them was
//! answered. Leaves to others: what a till does (the simulator), whether it is in the journals (`report`).

use super::Options;
use crate::crowd::{Crowd, Summary};
use crate::world::World;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use yika_drivers::terminal::simulator::{Dice, Mix, Plan};

/// A round's length.
const ROUND_S: (u64, u64) = (6, 12);
/// So many rounds of a hundred end by `kill -9` of the tills.
const KILLED_PERCENT: u8 = 20;
/// Boots of tills are seconds: the next round begins in another one.
const PAUSE: Duration = Duration::from_millis(1_100);
/// People of the other campus who eat here.
const VISITORS: usize = 10;

/// What tills and doors were answered in all rounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Sold {
    pub(super) kills: u64,
    pub(super) contradictions: u64,
    pub(super) problems: BTreeMap<String, u64>,
    /// Where each round's answers are.
    pub(super) logs: Vec<PathBuf>,
}

/// Both campuses' crowds.
pub(super) struct Load {
    campuses: Vec<JoinHandle<Result<Sold>>>,
}

/// Opens the tills.
pub(super) fn start(world: &World, options: &Options, stopped: &watch::Receiver<bool>) -> Load {
    let campuses = [1, 2].map(|campus| {
        let plan = plan_of(world, options, campus);
        let dice = Dice::new(options.seed, 100 + u64::from(campus));
        tokio::spawn(rounds(world.dir.clone(), campus, plan, dice, stopped.clone()))
    });
    Load { campuses: campuses.into() }
}

impl Load {
    /// Waits until the last round is over.
    ///
    /// # Errors
    /// A crowd did not end, or said nothing.
    pub(super) async fn finish(self) -> Result<Sold> {
        let mut all = Sold::default();
        for campus in self.campuses {
            let sold = campus.await.context("a campus' tills ended badly")??;
            all.kills += sold.kills;
            all.contradictions += sold.contradictions;
            all.logs.extend(sold.logs);
            sold.problems.into_iter().for_each(|(code, n)| *all.problems.entry(code).or_default() += n);
        }
        Ok(all)
    }
}

async fn rounds(
    dir: PathBuf,
    campus: u16,
    plan: Plan,
    mut dice: Dice,
    mut stopped: watch::Receiver<bool>,
) -> Result<Sold> {
    let mut sold = Sold::default();
    for round in 1.. {
        if *stopped.borrow_and_update() {
            break;
        }
        let name = format!("tills-c{campus}-{round}");
        sold.logs.push(dir.join(format!("{name}.jsonl")));
        let seconds = ROUND_S.0 + dice.below(ROUND_S.1 - ROUND_S.0 + 1);
        let plan = Plan { seed: dice.bits(), seconds: Some(seconds), ..plan.clone() };
        one_round(&dir, &name, &plan, &mut dice, &mut sold).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(sold)
}

async fn one_round(dir: &Path, name: &str, plan: &Plan, dice: &mut Dice, sold: &mut Sold) -> Result<()> {
    let crowd = Crowd::start(dir, name, plan).await?;
    if dice.percent(KILLED_PERCENT) {
        let most_ms = plan.seconds.unwrap_or_default() * 1_000;
        tokio::time::sleep(Duration::from_millis(500 + dice.below(most_ms))).await;
        sold.kills += 1;
        return crowd.kill().await;
    }
    let Summary { contradictions, problems, .. } = crowd.finish().await?;
    sold.contradictions += contradictions;
    problems.into_iter().for_each(|(code, n)| *sold.problems.entry(code).or_default() += n);
    Ok(())
}

fn plan_of(world: &World, options: &Options, campus: u16) -> Plan {
    let cards = world.cards_at(campus, VISITORS);
    let mix = Mix {
        fixed: 30,
        portions: 10,
        count: 5,
        amount_fen: (100, 1_500),
        double_tap: 4,
        correction: 5,
        reversal: 3,
        resend: 6,
        offline: 3,
    };
    Plan {
        cards: cards.iter().map(u64::to_string).collect(),
        per_second: options.rate,
        mix,
        resend_all: true,
        ..world.plan(campus, 0, 0)
    }
}

//! The lunch rush in three parts: with the line, with the line cut, with the line back.

use super::{Options, Progress};
use crate::crowd::Crowd;
use crate::world::World;
use anyhow::{Result, bail};
use std::time::{SystemTime, UNIX_EPOCH};
use yika_drivers::terminal::simulator::{Mix, Plan};

/// People of the other campus who eat here.
const VISITORS: usize = 15;

/// When the line was away, hub time.
pub(crate) struct Times {
    pub(crate) cut_ms: i64,
    pub(crate) healed_ms: i64,
    /// Ids that were answered in two ways.
    pub(crate) contradictions: u64,
    /// Requests without an answer.
    pub(crate) unanswered: u64,
}

pub(crate) async fn rush(world: &World, options: &Options, progress: &Progress) -> Result<Times> {
    let mut times = Times { cut_ms: 0, healed_ms: 0, contradictions: 0, unanswered: 0 };
    progress.say("lunch rush, line up · 午餐高峰，线路正常");
    part(world, options, "1-online", &mut times, progress).await?;
    world.boxes.iter().for_each(|edge| edge.cut_wan());
    times.cut_ms = now_ms();
    progress.say("the line to headquarters is CUT; canteens and doors go on · 广域网已切断，继续营业");
    part(world, options, "2-cut", &mut times, progress).await?;
    world.boxes.iter().for_each(|edge| edge.heal_wan());
    times.healed_ms = now_ms();
    progress.say("the line is back · 线路恢复");
    part(world, options, "3-after", &mut times, progress).await?;
    Ok(times)
}

async fn part(world: &World, options: &Options, name: &str, times: &mut Times, progress: &Progress) -> Result<()> {
    let mut crowds = Vec::new();
    for campus in [1u16, 2] {
        let plan = plan_of(world, options, campus, name);
        crowds.push(Crowd::start(&world.dir, &format!("tills-c{campus}-{name}"), &plan).await?);
    }
    let (mut approved, mut opened) = (0, 0);
    for crowd in crowds {
        let summary = crowd.finish().await?;
        times.contradictions += summary.contradictions;
        times.unanswered += summary.unanswered + summary.left_open;
        approved += summary.approved;
        opened += summary.opened;
        if !summary.problems.is_empty() {
            bail!("the terminals' requests were refused as wrong: {:?}", summary.problems);
        }
    }
    progress.say(&format!("  {approved} sales, {opened} door openings · 成交 {approved} 笔，开门 {opened} 次"));
    Ok(())
}

fn plan_of(world: &World, options: &Options, campus: u16, name: &str) -> Plan {
    let cards = world.cards_at(campus, VISITORS);
    let mix = Mix {
        fixed: 45,
        portions: 10,
        count: 5,
        amount_fen: (100, 900),
        double_tap: 4,
        correction: 4,
        reversal: 1,
        resend: 5,
        offline: 0,
    };
    let (readers, swipes_per_second) = if campus == 1 { (vec![world.reader.clone()], 3) } else { (Vec::new(), 0) };
    Plan {
        tills: world.tills[usize::from(campus - 1)].clone(),
        readers,
        cards: cards.iter().map(u64::to_string).collect(),
        seed: u64::from(campus) * 1_000 + name.len() as u64 + now_ms().unsigned_abs() % 1_000,
        per_second: options.rate,
        swipes_per_second,
        seconds: Some(options.seconds),
        mix,
        ..Plan::default()
    }
}

pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(0)
}

//! News from headquarters: a loss reported there until every connected box refuses the card, and a change of the registry
//! until it is applied and stored at a box.
//!
//! Both are timed from before the operator's request to headquarters.

use crate::catch_up::{CAMPUS, furnish, import, settle};
use crate::host::{Child, HubAt, Order, Seen};
use crate::size::Size;
use crate::table::{Row, Times, mono_ns};
use anyhow::{Context, Result};
use std::time::Duration;
use yika_crdt::channel::{BlockScope, Channel, FeedId};
use yika_crdt::entry::{BlockTarget, TerminalState};
use yika_crdt::ids::*;

const BOXES: usize = 3;
const PEOPLE: Size<usize> = Size(1_000, 60);
const LOSSES: Size<usize> = Size(300, 10);
const CHANGES: Size<usize> = Size(200, 10);
const PACE: Duration = Duration::from_millis(25);

pub async fn rows() -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let at = HubAt::new(&dir.path().join("hub"))?;
    let mut hub = at.start().await?;
    let tills = furnish(&at, 1).await?;
    let cards: Vec<u64> = import(&at, PEOPLE.get()).await?.iter().filter_map(|person| person.card).collect();
    let mut boxes = Vec::new();
    for n in 0..BOXES {
        boxes.push(at.join(CAMPUS, &dir.path().join(format!("box{n}"))).await?);
    }
    let feeds = hub.report().await?.marks;
    let registry = feeds.iter().map(|(feed, ..)| *feed).find(|feed| feed.channel == Channel::Registry);
    let registry = registry.context("headquarters has said nothing")?;
    for edge in &mut boxes {
        settle(&mut hub, edge).await?;
    }
    for edge in &mut boxes {
        edge.order(Order::Await(registry, Seq(1))).await?;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let losses = losses(&at, &mut boxes, registry.writer, &cards).await?;
    let (changes, bytes) = changes(&at, &mut hub, &mut boxes, registry, tills[0].terminal).await?;
    let lost = Row::new("loss reported at the hub → refused at all boxes").times(&losses);
    let changed = Row::new("registry change at the hub → stored at a box").times(&changes).value(bytes, "bytes");
    Ok(vec![
        lost.most("p99 ≤ 50 ms", losses.p99(), 5e4)
            .note(format!("{BOXES} boxes as processes; the slowest of them counts")),
        changed
            .most("p50 ≤ 5 ms", changes.p50(), 5e3)
            .most("≤ 600 bytes", bytes, 600.0)
            .note("bytes of both directions at one box, acknowledgements and keep-alives included"),
    ])
}

async fn losses(at: &HubAt, boxes: &mut [Child], hub: Writer, cards: &[u64]) -> Result<Times> {
    for edge in boxes.iter_mut() {
        edge.report().await?;
    }
    let mut reported = Vec::new();
    for card in &cards[..LOSSES.get()] {
        reported.push(mono_ns());
        at.ask::<()>("/v1/block", &BlockTarget::Card(CardNumber(*card))).await?;
        tokio::time::sleep(PACE).await;
    }
    let feed = FeedId { writer: hub, channel: Channel::Blocks(BlockScope::Hub) };
    let mut slowest = vec![0; LOSSES.get()];
    for edge in boxes {
        let seen = edge.report().await?;
        for (n, slowest) in slowest.iter_mut().enumerate() {
            *slowest = (*slowest).max(stored_at(&seen, feed, Seq(n as u64 + 1))? - reported[n]);
        }
    }
    Ok(Times::new(slowest))
}

fn stored_at(seen: &Seen, feed: FeedId, seq: Seq) -> Result<u64> {
    let mut held = seen.marks.iter().filter(|(of, end, ..)| *of == feed && *end >= seq);
    held.next().map(|(_, _, _, after)| *after).with_context(|| format!("{feed} {seq} did not come"))
}

async fn changes(
    at: &HubAt,
    hub: &mut Child,
    boxes: &mut [Child],
    feed: FeedId,
    till: TerminalId,
) -> Result<(Times, f64)> {
    let before = hub.report().await?;
    boxes[0].report().await?;
    let first = before.marks.iter().filter(|(of, ..)| *of == feed).map(|(_, seq, ..)| *seq).max();
    let first = match first {
        Some(first) => first,
        None => held_now(at, feed).await?,
    };
    let mut asked = Vec::new();
    for n in 0..CHANGES.get() {
        let state = if n % 2 == 0 { TerminalState::Suspended } else { TerminalState::Deployed };
        asked.push(mono_ns());
        at.ask::<()>("/v1/terminal/state", &(till, state)).await?;
        tokio::time::sleep(PACE).await;
    }
    let (seen, after) = (boxes[0].report().await?, hub.report().await?);
    let mut times = Vec::new();
    for (n, asked) in asked.into_iter().enumerate() {
        times.push(stored_at(&seen, feed, Seq(first.0 + 1 + n as u64))? - asked);
    }
    let wire = |seen: &Seen| {
        let first = seen.wire.iter().min_by_key(|(node, ..)| *node);
        first.map_or(0, |(_, received, sent)| received + sent)
    };
    Ok((Times::new(times), (wire(&after) - wire(&before)) as f64 / CHANGES.get() as f64))
}

/// Where a feed of headquarters ends, read beside it.
async fn held_now(at: &HubAt, feed: FeedId) -> Result<Seq> {
    use yika_crdt::store::Read;
    let reader = yika_store::SqliteReader::open(at.dir.join("hub.db"), &yika_store::Options::default())?;
    Ok(reader.feed(&feed)?.end.seq)
}

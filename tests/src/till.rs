//! One till that a test operates itself, at one box at a time; and what journals hold.

use crate::site::BoxProgram;
use crate::world::World;
use anyhow::Result;
use std::sync::atomic::{AtomicU32, Ordering};
use yika_crdt::channel::Channel;
use yika_crdt::entry::{Body, Entry};
use yika_crdt::ids::Seq;
use yika_crdt::store::Read;
use yika_drivers::terminal::client::{Client, ClientError};
use yika_drivers::terminal::message::{PresentedCard, Purchase, SaleAnswer, SaleId, SaleMode};
use yika_drivers::terminal::simulator::TerminalPlan;
use yika_store::{Options, SqliteReader};

/// Boots of simulated tills are seconds; this one is before them all.
const BOOT: u32 = 7;

/// A till as one box sees it.
pub struct Till {
    client: Client,
    terminal: u32,
    sold: AtomicU32,
}

impl Till {
    /// One of a campus' tills, at any address.
    ///
    /// # Errors
    /// Its key is none.
    pub fn at(plan: &TerminalPlan, url: &str) -> Result<Till> {
        let client = Client::new(plan.identity(url, BOOT)?);
        Ok(Till { client, terminal: plan.terminal, sold: AtomicU32::new(0) })
    }

    /// A till of a box's campus, at that box.
    ///
    /// # Errors
    /// As [`Till::at`].
    pub fn of(world: &World, number: usize, edge: usize) -> Result<Till> {
        let edge = &world.boxes[edge];
        Till::at(&world.tills[usize::from(edge.campus == "c2")][number], &edge.url())
    }

    /// Sells for so much under a new id.
    ///
    /// # Errors
    /// Nobody answered, or the request was refused as wrong.
    pub async fn buy(&self, card: u64, fen: i64) -> Result<SaleAnswer, ClientError> {
        let seq = self.sold.fetch_add(1, Ordering::Relaxed) + 1;
        let purchase = Purchase {
            id: SaleId { terminal: self.terminal, boot: BOOT, seq },
            card: PresentedCard::Number { number: card },
            mode: SaleMode::Amount { fen },
            time_ms: self.client.now_ms(),
            tariff: None,
        };
        self.client.purchase(&purchase).await
    }
}

/// Everything that a box has journaled in all its lives.
///
/// # Errors
/// Its database cannot be read, or holds what is no entry.
pub fn journal(edge: &BoxProgram) -> Result<Vec<Entry>> {
    let reader = SqliteReader::open(edge.database(), &Options::default())?;
    let node = edge.node()?;
    let mut entries = Vec::new();
    for (feed, _) in reader.feeds()? {
        if feed.writer.node.0 == node && feed.channel == Channel::Journal {
            for bytes in reader.entries(&feed, Seq(1), usize::MAX)? {
                entries.push(Entry::decode(&bytes)?);
            }
        }
    }
    Ok(entries)
}

/// Words of the alarms of one kind that a box has journaled.
///
/// # Errors
/// As [`journal`].
pub fn alarms(edge: &BoxProgram, kind: &str) -> Result<Vec<String>> {
    let of_kind = journal(edge)?.into_iter().filter_map(|entry| match entry.body {
        Body::Alarm(alarm) if alarm.kind == kind => Some(alarm.detail),
        _ => None,
    });
    Ok(of_kind.collect())
}

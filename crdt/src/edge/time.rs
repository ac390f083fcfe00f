//! Headquarters' word on the time: how old it may be when it arrives, and what the clock makes of it.
//!
//! The word is an entry and travels like any other: what was said before the line broke arrives after it, days late perhaps,
//! and a line that loses packets delivers late, too. Each connection brings a word of its own, so that an older one may only
//! move a clock forward. A line may hold for months, in which a fast clock runs ahead by hours: what headquarters says after
//! a receipt is younger than the newest entry that the receipt names, which this box has written itself. Leaves to others:
//! the clock (`clock`), when headquarters says it (hub).

use super::Edge;
use crate::channel::{Channel, FeedId};
use crate::clock::Ticks;
use crate::entry::{Entry, ReceiptRecord};
use crate::ids::{Seq, Writer};
use crate::keys;
use crate::store::{Read, StoreError, Tx};

/// The connection to headquarters.
#[derive(Clone, Copy, Debug)]
pub(super) struct HubLine {
    /// The life at its other end, by its certificate.
    pub(super) life: Writer,
    /// Before headquarters said anything on it of what is still to come.
    since_mono_ms: u64,
    /// What it had said to this box before, as it greeted.
    said_before: Option<(Writer, Seq)>,
}

impl Edge {
    /// A connection to headquarters begins.
    pub(super) fn hub_connected(&mut self, life: Writer, ticks: Ticks) {
        self.hub_line = Some(HubLine { life, since_mono_ms: ticks.mono_ms, said_before: None });
    }

    /// Headquarters has greeted in that life, and had said so much to this box by then.
    pub(super) fn hub_said(&mut self, life: Writer, end: Seq) {
        if let Some(line) = &mut self.hub_line {
            line.said_before = Some((life, end));
        }
    }

    /// Headquarters says what it holds of this box's journal: what it says after that is younger than the newest of it.
    pub(super) fn hear_receipt<R: Read + ?Sized>(
        &mut self,
        tx: &Tx<'_, R>,
        by: Writer,
        receipt: &ReceiptRecord,
        ticks: Ticks,
    ) -> Result<(), StoreError> {
        let journal = FeedId { writer: self.mesh.me, channel: Channel::Journal };
        let line = self.hub_line.as_mut().filter(|line| line.said_before.is_some_and(|(life, _)| life == by));
        if let Some(line) = line
            && receipt.incarnation == self.mesh.me.incarnation
            && let Some(bytes) = tx.entry(&journal, receipt.held)?
            && let Ok(Entry { stamp, .. }) = Entry::decode(&bytes)
            && stamp.boot == ticks.boot
        {
            line.since_mono_ms = line.since_mono_ms.max(stamp.mono_ms);
        }
        Ok(())
    }

    /// Headquarters told the time in an entry to this box.
    pub(super) fn hear_time<R: Read + ?Sized>(
        &mut self,
        tx: &mut Tx<'_, R>,
        (life, seq): (Writer, Seq),
        hub_time_ms: i64,
        ticks: Ticks,
    ) {
        match self.hub_line {
            Some(HubLine { since_mono_ms, said_before: Some((now_in, end)), .. }) if life == now_in && seq > end => {
                self.clock.hear_hub(hub_time_ms, ticks.mono_ms.saturating_sub(since_mono_ms), ticks);
            }
            Some(HubLine { said_before: Some(_), .. }) => {
                if self.clock.is_trusted(ticks) {
                    self.clock.move_forward(hub_time_ms, ticks);
                }
            }
            // By another way than a line that has greeted: nothing is known of its age.
            _ => self.clock.set_by_hub(hub_time_ms, ticks),
        }
        tx.put(keys::CLOCK.to_vec(), &self.clock);
    }
}

//! A hub that starts hears its boxes before it writes: one whose disk was put back would otherwise sign other entries
//! under numbers that boxes hold already, and could grant twice what it gave out.
//!
//! Orders wait until every living box has greeted, a moment after the first has, or at a bound: a hub without boxes in
//! reach must serve, too. Leaves to others: what a greeting shows (`core::recover`).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use yika_crdt::ids::Writer;

/// How long boxes are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For the first.
    pub first: Duration,
    /// For the others after it.
    pub others: Duration,
}

impl Default for Bounds {
    /// Boxes dial again within seconds after their line was lost, all at about the same time.
    fn default() -> Bounds {
        Bounds { first: Duration::from_secs(5), others: Duration::from_secs(1) }
    }
}

/// A thread that may block looks so often.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether orders are taken.
#[derive(Debug)]
pub struct Opening {
    open: watch::Sender<bool>,
    first: watch::Sender<bool>,
    awaited: Mutex<BTreeSet<Writer>>,
}

impl Default for Opening {
    /// Open: nobody is waited for.
    fn default() -> Opening {
        Opening { open: watch::channel(true).0, first: watch::channel(false).0, awaited: Mutex::default() }
    }
}

impl Opening {
    /// Waits for these boxes, bounded; returns at once.
    pub fn hear(self: &Arc<Self>, boxes: BTreeSet<Writer>, bounds: Bounds) {
        if boxes.is_empty() {
            return;
        }
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner) = boxes;
        self.open.send_replace(false);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let mut first = this.first.subscribe();
            if tokio::time::timeout(bounds.first, first.wait_for(|first| *first)).await.is_ok() {
                tokio::time::sleep(bounds.others).await;
            }
            this.open.send_replace(true);
        });
    }

    /// A box has greeted, and what it showed is judged.
    pub fn heard(&self, from: Writer) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        self.first.send_replace(true);
        if awaited.remove(&from) && awaited.is_empty() {
            self.open.send_replace(true);
        }
    }

    /// Until orders are taken.
    pub async fn opened(&self) {
        if *self.open.borrow() {
            return;
        }
        // The sender is this value's own.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// The same on a thread that may block.
    pub fn opened_blocking(&self) {
        while !*self.open.borrow() {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use yika_crdt::ids::{Incarnation, NodeId};

    const NEVER: Duration = Duration::from_secs(24 * 3_600);
    const SOON: Duration = Duration::from_millis(5);

    fn a_box(node: u32) -> Writer {
        Writer { node: NodeId(node), incarnation: Incarnation { generation: 1, counter: 1 } }
    }

    /// Two boxes are waited for, and some have greeted.
    fn waiting(first: Duration, others: Duration, greeted: &[u32]) -> Arc<Opening> {
        let opening = Arc::new(Opening::default());
        opening.hear([1, 2].map(a_box).into(), Bounds { first, others });
        greeted.iter().for_each(|node| opening.heard(a_box(*node)));
        opening
    }

    #[tokio::test]
    async fn orders_wait_for_boxes_and_not_for_ever() {
        waiting(NEVER, NEVER, &[1, 2]).opened().await;
        waiting(NEVER, SOON, &[1]).opened().await;
        waiting(SOON, NEVER, &[]).opened().await;
        let closed = waiting(NEVER, NEVER, &[2, 7]);
        tokio::time::sleep(SOON).await;
        assert!(!*closed.open.borrow(), "one has not greeted");
        let nobody = Arc::new(Opening::default());
        nobody.hear(BTreeSet::new(), Bounds { first: NEVER, others: NEVER });
        nobody.opened().await;
        nobody.opened_blocking();
    }
}

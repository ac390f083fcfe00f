//! Histories that last for days: between what is told second by second, hours pass in which nobody does anything. Leases
//! end where a box is cut off, business days are cut, journals become old enough to be let go.
//!
//! The reference: own money is sold only under a lease, a trusted clock is near the true time, and what is archived and old
//! is gone in the end. Leaves to others: what is decided (`yika_crdt`), backups (`snapshots`).

use crate::chance::Chance;
use crate::more::Work;
use crate::plan::Plan;
use crate::theme::Theme;
use crate::world::{Event, World};
use std::collections::BTreeMap;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::civil;
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::sale::prune::KEEP_DAYS;
use yika_crdt::sale::{Answer, PurchaseRequest};
use yika_crdt::store::{Read, decode_row};
use yika_hub_core as core;

const HOUR_MS: i64 = 3_600_000;
/// Whether messages are still under way is looked at again after this.
const LEAP_AGAIN_MS: i64 = 7;
/// A connected box has a lease that lasts at least so much longer.
const LEASE_LEFT_MS_MIN: i64 = 60 * HOUR_MS;
/// How far clocks may be apart at any time: what headquarters' own clock is set by, and a delay.
const CLOCK_MS_MAX: i64 = 60_000;
/// Monotonic clocks drift at most one millisecond in so many.
const DRIFT_MS_IN: i64 = 2_500;
/// By how many millionths the monotonic clock of a box is fast or slow, whatever else happens to it.
const DRIFT_PPM_MAX: i64 = 200;
/// Keeps the draws of clocks apart from those of all else.
const CLOCKS_APART: u64 = 0xC10C;

/// What is known of long histories.
pub struct Days {
    /// Hours that have passed in leaps.
    pub leapt_ms: i64,
    /// Clocks may be so much further apart, because machines stood still or jumped.
    pub off_ms: i64,
    /// Weeks pass, and not only nights.
    is_long: bool,
    answered_ms: BTreeMap<PurchaseId, i64>,
}

impl Days {
    /// No time has passed.
    pub fn new(plan: &Plan, chance: &mut Chance) -> Days {
        let is_long = plan.is(Theme::Days) && chance.one_in(2);
        Days { leapt_ms: 0, off_ms: 0, is_long, answered_ms: BTreeMap::new() }
    }
}

impl World {
    /// No monotonic clock runs quite right: over days it shows.
    pub fn set_up_clocks(&mut self) {
        let mut chance = Chance::new(self.plan.seed ^ CLOCKS_APART);
        for node in &mut self.boxes {
            node.drift_ppm = chance.between(-DRIFT_PPM_MAX, DRIFT_PPM_MAX);
        }
    }

    /// Hours or days pass.
    pub fn leap(&mut self) {
        if !self.is_busy() {
            return;
        }
        if self.is_under_way() {
            return self.later(LEAP_AGAIN_MS, Event::More(Work::Leap));
        }
        self.soon(2_000, 8_000, Work::Leap);
        let most_hours = if self.more.days.is_long { 24 * 9 } else { 30 };
        let by_ms = self.more.chance.between(2 * HOUR_MS, most_hours * HOUR_MS);
        self.note(|| format!("{} hours pass", by_ms / HOUR_MS));
        self.let_pass(by_ms);
        self.done("leaps");
    }

    /// How far a clock that is trusted may be from the true time.
    fn clock_ms_max(&self) -> i64 {
        CLOCK_MS_MAX + self.more.days.leapt_ms / DRIFT_MS_IN + self.more.days.off_ms
    }

    /// A sale from own money is made under a lease; what is stamped with a trusted clock is stamped with about the true time.
    pub fn check_lease_and_clock(&mut self, n: usize, request: &PurchaseRequest, answer: &Answer) {
        let node = &self.boxes[n];
        let until_ms = node.disk.get(keys::LEASE).ok().flatten();
        let until_ms = until_ms.and_then(|row| decode_row::<LeaseRecord>(keys::LEASE, &row).ok());
        let until_ms = until_ms.map_or(0, |lease| lease.until_ms);
        let Answer::Approved(sale) = answer else { return };
        let own = sale.paid.iter().any(|(source, _)| matches!(source, Source::Wallet(_)));
        if own && self.now_ms > until_ms + self.clock_ms_max() {
            let (me, over_ms) = (node.me, self.now_ms - until_ms);
            self.fail(format!("{me} sells {} from own money {over_ms} ms after its lease", request.id));
        }
    }

    /// After a turn: a trusted clock is near the true time.
    pub fn check_clock(&mut self, n: usize) {
        let node = &self.boxes[n];
        let Some(edge) = &node.core else { return };
        let ticks = node.ticks(self.now_ms);
        let off_ms = edge.clock().now_ms(ticks) - self.now_ms;
        if edge.clock().is_trusted(ticks) && off_ms.abs() > self.clock_ms_max() {
            let me = node.me;
            self.fail(format!("the clock of {me} is {off_ms} ms off, and trusted"));
        }
    }

    /// An id gets its first answer for as long as journals are kept.
    pub fn may_be_forgotten(&mut self, id: PurchaseId) -> bool {
        let answered_ms = *self.more.days.answered_ms.entry(id).or_insert(self.now_ms);
        let is_old = self.now_ms - answered_ms >= i64::from(KEEP_DAYS - 1) * civil::DAY_MS;
        is_old || self.was_cut_long_ago(id)
    }

    /// Whether an id was answered before the cut of a day long ago: the clock of its box was not to be trusted, and ran on
    /// from where it had stopped.
    fn was_cut_long_ago(&self, id: PurchaseId) -> bool {
        let today = civil::business_day(self.now_ms, 480, 180);
        let feeds = self.hub.disk.feeds().unwrap_or_default().into_iter().map(|(feed, _)| feed);
        feeds.filter(|feed| feed.channel == Channel::Journal).any(|feed| {
            let entries = self.hub.disk.entries(&feed, Seq(1), usize::MAX).unwrap_or_default();
            let bodies = entries.iter().filter_map(|bytes| Entry::decode(bytes).ok()).map(|entry| entry.body);
            let mut since = bodies.skip_while(|body| body.answers() != Some(id));
            since.any(|body| matches!(body, Body::Cut(day) if day.0 <= today.0 - KEEP_DAYS + 1))
        })
    }

    /// In the end headquarters has told the time not long ago.
    pub fn compare_clock(&mut self, n: usize) {
        let node = &self.boxes[n];
        let Some(edge) = &node.core else { return };
        let off_ms = edge.clock().now_ms(node.ticks(self.now_ms)) - self.now_ms;
        if off_ms.abs() > CLOCK_MS_MAX + self.more.days.off_ms {
            self.fail(format!("the clock of {} is {off_ms} ms off in the end", self.boxes[n].me));
        }
    }

    /// When an id was answered first.
    pub fn note_answered(&mut self, id: PurchaseId) {
        let now_ms = self.now_ms;
        self.more.days.answered_ms.entry(id).or_insert(now_ms);
    }

    /// In the end a box that headquarters serves has a lease.
    pub fn compare_lease(&mut self, n: usize) {
        let node = &self.boxes[n];
        let (Some(edge), Some(hub)) = (&node.core, &self.hub.core) else { return };
        let left_ms = edge.mesh.lease.map_or(0, |lease| lease.until_ms - self.now_ms);
        if left_ms < LEASE_LEFT_MS_MIN && !hub.mesh.forked.contains(&node.me) {
            self.fail(format!("{} has a lease for {left_ms} ms more in the end", self.boxes[n].me));
        }
    }

    /// In the end what is old, archived and confirmed of a box's own journal is let go.
    pub fn compare_pruned(&mut self, n: usize) {
        let me = self.boxes[n].me;
        let journal = FeedId { writer: me, channel: Channel::Journal };
        let pruned = self.boxes[n].disk.feed(&journal).unwrap_or_default().pruned;
        if pruned > Seq::ZERO {
            self.done("journals pruned");
        }
        if !self.honest() || !self.plan.is(Theme::Days) {
            return;
        }
        if self.tally.alarms.contains_key("totals") {
            return self.fail(format!("the totals of {me} are not those of headquarters"));
        }
        let today = civil::business_day(self.now_ms, 480, 180);
        let entries = self.hub.disk.entries(&journal, Seq(1), usize::MAX).unwrap_or_default();
        let cuts = (1..).map(Seq).zip(&entries).filter_map(|(seq, bytes)| match Entry::decode(bytes).ok()?.body {
            Body::Cut(day) if day.0 < today.0 - KEEP_DAYS => Some(seq),
            _ => None,
        });
        let due = cuts.max().unwrap_or_default().min(core::archived(&self.hub.disk, &journal).unwrap_or_default());
        if pruned < due {
            self.fail(format!("{me} keeps its journal from {pruned}, and up to {due} it is old and archived"));
        }
    }

    /// What was decided anew is held against what the themes know.
    pub fn check_decided(&mut self, n: usize, request: &PurchaseRequest, answer: &Answer) {
        if self.plan.themes.is_empty() || request.offline {
            return;
        }
        self.check_lease_and_clock(n, request, answer);
        self.check_served(n, request, answer);
        if self.plan.is(Theme::Limits) {
            self.check_limits(n, request, answer);
        }
    }

    /// Whether an answer only says that the first one is no longer known.
    pub fn is_forgotten(&mut self, request: &PurchaseRequest, answer: &Answer) -> bool {
        use yika_crdt::reason::Reason;
        let says_so = *answer == Answer::Refused(Reason::TooOld);
        says_so && (self.may_be_forgotten(request.id) || !self.fenced.is_empty())
    }
}

//! The tariff limits what is bought: by purchase, meal and day, in sums and in times.
//!
//! The reference is counted from the journals that a box holds when it decides: what is sold is within the limits, and who is
//! refused for one is beyond it. A strict limit is never exceeded anywhere. Leaves to others: prices, rights.

use crate::chance::Chance;
use crate::crowd::person_of;
use crate::more::Work;
use crate::plan::Plan;
use crate::theme::Theme;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::civil;
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::reason::Reason;
use yika_crdt::sale::{self, Answer, FACT_AGE_MS_MAX, Now, PurchaseRequest};
use yika_crdt::sold;
use yika_crdt::store::{Read, decode_row};
use yika_crdt::tariff;
use yika_crdt::tariff::sheet::*;
use yika_hub_core as core;

/// Sums are multiples of this, so that the same sum is keyed twice now and then.
const STEP: i64 = 500;

/// A sale or refund in brief.
#[derive(Clone)]
enum Brief {
    Sale {
        id: PurchaseId,
        person: PersonId,
        day: Day,
        period: Option<PeriodId>,
        total: i64,
        guest: i64,
        tap: (CardNumber, i64),
    },
    Refund {
        of: PurchaseId,
        back: i64,
        guest: i64,
    },
    Other,
}

/// What a person bought, as a box knows it.
#[derive(Default, Debug)]
struct Bought {
    meal: (i64, u32),
    day: (i64, u32),
    guest: i64,
}

/// The limits of a history.
#[derive(Default)]
pub struct Limits {
    sheet: Option<TariffSheet>,
    briefs: BTreeMap<(usize, FeedId), Vec<Brief>>,
    /// The largest cap of a day that any version had.
    cap_max: i64,
    /// What the guest pool paid at a box with a lease: another looks at no granted counter.
    leased: BTreeSet<PurchaseId>,
}

impl Limits {
    /// Draws what is limited, if anything is.
    pub fn new(plan: &Plan, chance: &mut Chance) -> Limits {
        if !plan.is(Theme::Limits) {
            return Limits::default();
        }
        let period = |id: u8, from_minute, until_minute| MealPeriod {
            id: PeriodId(id),
            name: format!("第{id}餐"),
            from_minute,
            until_minute,
        };
        let scope = if chance.one_in(2) { LimitScope::Strict } else { LimitScope::Local };
        let sheet = TariffSheet {
            version: TariffVersion(1),
            periods: vec![period(1, 0, 600), period(2, 600, 900), period(3, 900, 1_440)],
            fixed: Vec::new(),
            adjustments: Vec::new(),
            limits: vec![draw_limit(scope, chance)],
            barred: Vec::new(),
            repeat_tap_seconds: if chance.one_in(2) { 5 } else { 0 },
            guest: GuestRule { per_purchase: Fen(2_000), per_card_day: Fen(3_000) },
        };
        let cap_max = cap_of(&sheet);
        Limits { sheet: Some(sheet), cap_max, ..Limits::default() }
    }

    /// The tariff of the history: `plain` where nothing is limited, with its prices in any case.
    pub fn sheet(&mut self, plain: TariffSheet) -> TariffSheet {
        let Some(sheet) = &mut self.sheet else { return plain };
        sheet.adjustments = plain.adjustments;
        sheet.clone()
    }

    /// A sum as it is keyed.
    pub fn keyed(&self, fen: i64) -> i64 {
        if self.sheet.is_some() { (fen / STEP).max(1) * STEP } else { fen }
    }
}

fn draw_limit(scope: LimitScope, chance: &mut Chance) -> Limit {
    let mut cap = |least: i64, most: i64| chance.one_in(2).then(|| Fen(chance.between(least, most) * STEP));
    let (per_purchase, per_meal, per_day) = (cap(4, 7), cap(6, 16), cap(8, 24));
    // A strict limit is one of a day.
    let per_day = if scope == LimitScope::Strict { per_day.or(Some(Fen(6_000))) } else { per_day };
    let mut times = |most: u64| if chance.one_in(2) { 1 + chance.below(most) as u8 } else { 0 };
    Limit { category: None, per_purchase, per_meal, per_day, times_per_meal: times(4), times_per_day: times(7), scope }
}

fn cap_of(sheet: &TariffSheet) -> i64 {
    let caps = sheet.limits.iter().filter(|limit| limit.scope == LimitScope::Strict);
    caps.filter_map(|limit| limit.per_day).map(|cap| cap.0).max().unwrap_or(0)
}

fn sum(parts: &[(Source, Fen)], of: impl Fn(&Source) -> bool) -> i64 {
    parts.iter().filter(|(source, _)| of(source)).map(|(_, part)| part.0).sum()
}

fn brief(bytes: &[u8]) -> Brief {
    let Ok(Entry { body, stamp }) = Entry::decode(bytes) else { return Brief::Other };
    match body {
        Body::Purchase(sale) => {
            let age_ms = stamp.hub_time_ms - sale.terminal_time_ms;
            let is_believed = sale.offline && (0..=FACT_AGE_MS_MAX).contains(&age_ms);
            let at_ms = if is_believed { sale.terminal_time_ms } else { stamp.hub_time_ms };
            // A late fact was eaten on a day that is over.
            if sale.offline && civil::business_day(at_ms, 480, 180) < sale.day {
                return Brief::Other;
            }
            let guest = sum(&sale.paid, |source| *source == Source::Guest);
            let total = sale.price.0 + sale.adjustment.0;
            let (id, person, day, period) = (sale.id, sale.person, sale.day, sale.period);
            Brief::Sale { id, person, day, period, total, guest, tap: (sale.card, at_ms) }
        }
        Body::Refund(refund) => {
            let guest = sum(&refund.back, |source| *source == Source::Guest);
            Brief::Refund { of: refund.of, back: sum(&refund.back, |_| true), guest }
        }
        _ => Brief::Other,
    }
}

impl World {
    /// Limits are changed, and with them the version of the tariff.
    pub fn change_tariff(&mut self) {
        if !self.is_busy() {
            return;
        }
        self.soon(10_000, 60_000, Work::Tariff);
        let Some(mut sheet) = self.more.limits.sheet.clone() else { return };
        let scope = sheet.limits.first().map_or(LimitScope::Local, |limit| limit.scope);
        sheet.version.0 += 1;
        sheet.limits = vec![draw_limit(scope, &mut self.more.chance)];
        // Whether or not it is heard of, it may be written.
        self.more.limits.cap_max = self.more.limits.cap_max.max(cap_of(&sheet));
        let body = Body::Tariff(Box::new(sheet.clone()));
        if self.order(core::Command::Registry(Box::new(body))) == Ok(core::Reply::Done) {
            self.done("tariffs");
        }
        self.more.limits.sheet = Some(sheet);
    }

    /// The journals that a box holds, in brief: only what has come since the last time is read.
    fn read_journals(&mut self, n: usize) -> Vec<FeedId> {
        let disk = &self.boxes[n].disk;
        let feeds = disk.feeds().unwrap_or_default();
        let journals: Vec<_> = feeds.into_iter().filter(|(feed, _)| feed.channel == Channel::Journal).collect();
        for (feed, held) in &journals {
            let known = self.more.limits.briefs.entry((n, *feed)).or_default();
            if known.len() as u64 > held.end.seq.0 {
                known.clear();
            }
            let next = Seq(known.len() as u64 + 1);
            if next <= held.pruned {
                known.resize(held.pruned.0 as usize, Brief::Other);
            }
            let next = Seq(known.len() as u64 + 1);
            known.extend(disk.entries(feed, next, usize::MAX).unwrap_or_default().iter().map(|bytes| brief(bytes)));
        }
        journals.into_iter().map(|(feed, _)| feed).collect()
    }

    /// What a person bought on a day before one id was decided, by the journals that a box holds.
    fn bought(
        &mut self,
        n: usize,
        but: PurchaseId,
        person: PersonId,
        (on, in_period): (Day, Option<PeriodId>),
    ) -> Bought {
        let mut bought = Bought::default();
        for feed in self.read_journals(n) {
            let briefs = &self.more.limits.briefs[&(n, feed)];
            let mut back: BTreeMap<PurchaseId, (i64, i64)> = BTreeMap::new();
            for refund in briefs {
                if let Brief::Refund { of, back: more, guest } = refund {
                    let back = back.entry(*of).or_default();
                    *back = (back.0 + more, back.1 + guest);
                }
            }
            for sale in briefs {
                let Brief::Sale { id, person: who, day, period, total, guest, .. } = sale else { continue };
                if *id == but || *who != person || *day != on {
                    continue;
                }
                let (less, less_guest) = back.get(id).copied().unwrap_or_default();
                let times = u32::from(less < *total);
                bought.day = (bought.day.0 + total - less, bought.day.1 + times);
                bought.guest += guest - less_guest;
                if period.is_some() && *period == in_period {
                    bought.meal = (bought.meal.0 + total - less, bought.meal.1 + times);
                }
            }
        }
        bought
    }

    /// What a box answers is what its journals say the limits allow.
    pub fn check_limits(&mut self, n: usize, request: &PurchaseRequest, answer: &Answer) {
        if self.was_put_back(n) || self.hub_forked {
            return;
        }
        let node = &self.boxes[n];
        let Ok(Some(entry)) = sold::entry_of(&node.disk, request.id) else { return };
        let (day, version) = match &entry.body {
            Body::Purchase(sale) => (sale.day, Some(sale.tariff)),
            Body::Refused(refused) => (refused.day, None),
            _ => return,
        };
        let newest = node.core.as_ref().and_then(|edge| edge.mesh.tariff());
        let sheet = match version {
            Some(version) => {
                let key = keys::tariff(version);
                let row = node.disk.get(&key).ok().flatten();
                row.and_then(|row| decode_row::<TariffSheet>(&key, &row).ok())
            }
            None => newest.map(|sheet| (*sheet).clone()),
        };
        let Some(sheet) = sheet else { return };
        let Some(limit) = sheet.limits.first() else { return };
        let person = person_of(request.card);
        let period = tariff::period_at(&sheet, civil::civil(entry.stamp.hub_time_ms, 480).minute);
        let bought = self.bought(n, request.id, person, (day, period));
        let Mode::Amount(keyed) = request.mode else { return };
        let total = keyed.0 - self.off(keyed);
        let over = |before: i64, cap: Option<Fen>| cap.is_some_and(|cap| before + total > cap.0);
        let full = |times: u32, cap: u8| cap != 0 && times >= u32::from(cap);
        let found = [
            (Reason::OverPurchaseLimit, over(0, limit.per_purchase)),
            (Reason::OverMealLimit, over(bought.meal.0, limit.per_meal)),
            (Reason::OverDayLimit, over(bought.day.0, limit.per_day)),
            (Reason::OverMealTimes, full(bought.meal.1, limit.times_per_meal)),
            (Reason::OverDayTimes, full(bought.day.1, limit.times_per_day)),
        ];
        let beyond = found.iter().find(|(_, is_over)| *is_over).map(|(reason, _)| *reason);
        let me = self.boxes[n].me;
        let words = format!("{total} for {person} on {day} in {period:?}, who bought {bought:?} under {limit:?}");
        match answer {
            Answer::Approved(sale) => {
                if let Some(reason) = beyond {
                    return self.fail(format!("{me} sells beyond a limit ({}): {words}", reason.code()));
                }
                let guest = sum(&sale.paid, |source| *source == Source::Guest);
                if guest > 0
                    && (bought.guest + guest > sheet.guest.per_card_day.0 || guest > sheet.guest.per_purchase.0)
                {
                    return self.fail(format!("{me} sells beyond the guest rule: {words}"));
                }
                if guest > 0 && self.has_lease(n, entry.stamp) {
                    self.more.limits.leased.insert(request.id);
                }
                self.check_strictly(person, day);
            }
            // The counter of a strict limit may lie elsewhere.
            Answer::Refused(Reason::OverDayLimit) if limit.scope == LimitScope::Strict => {}
            Answer::Refused(reason)
                if beyond != Some(*reason) && found.iter().any(|(of_limits, _)| of_limits == reason) =>
            {
                self.fail(format!("{me} refuses within the limits ({}, not {beyond:?}): {words}", reason.code()));
            }
            Answer::Refused(Reason::RepeatTap) => self.check_repeat(n, request, (&sheet, entry.stamp.hub_time_ms)),
            _ => {}
        }
    }

    /// Whoever is refused for a second tap has tapped before.
    fn check_repeat(&mut self, n: usize, request: &PurchaseRequest, (sheet, at_ms): (&TariffSheet, i64)) {
        let guard_ms = i64::from(sheet.repeat_tap_seconds) * 1_000;
        let Mode::Amount(keyed) = request.mode else { return };
        let price = keyed.0 - self.off(keyed);
        let feeds = self.read_journals(n);
        let briefs = feeds.iter().flat_map(|feed| &self.more.limits.briefs[&(n, *feed)]);
        let mut sales = briefs.filter_map(|brief| match brief {
            Brief::Sale { id, total, tap, .. } => Some((*id, *total, *tap)),
            _ => None,
        });
        let is_before = sales.any(|(id, total, (card, tapped_ms))| {
            let same = id.terminal == request.id.terminal && id != request.id && total == price && card == request.card;
            same && (0..guard_ms).contains(&(at_ms - tapped_ms))
        });
        if !is_before {
            let me = self.boxes[n].me;
            self.fail(format!("{me} refuses {} as a second tap, and nobody tapped before", request.id));
        }
    }

    /// Whether a box that decides something has a lease.
    fn has_lease(&self, n: usize, stamp: Stamp) -> bool {
        let Some(edge) = &self.boxes[n].core else { return false };
        let trusted = edge.clock().is_trusted(self.boxes[n].ticks(self.now_ms));
        sale::has_lease(&edge.mesh, &Now { stamp, trusted, may_ask: false })
    }

    /// Of a strict limit nobody has ever bought more in a day, wherever he ate; of the guest pool's sales only those count
    /// that are known to be of a box with a lease.
    fn check_strictly(&mut self, person: PersonId, day: Day) {
        let cap = self.more.limits.cap_max;
        if cap == 0 || !self.honest() {
            return;
        }
        let is_back = |id: &PurchaseId| self.crowd.undone.contains(id) || self.crowd.given_unheard.contains(id);
        let asked = self.crowd.answers.iter().filter(|(id, _)| !is_back(id));
        let sold = asked.filter_map(|(id, (_, answer, _))| match answer {
            Answer::Approved(sale)
                if (sale.person, sale.day, sale.offline) == (person, day, false)
                    && (sum(&sale.paid, |source| *source == Source::Guest) == 0
                        || self.more.limits.leased.contains(id)) =>
            {
                let paid = sale.price.0 + sale.adjustment.0;
                Some(paid - self.crowd.given.get(id).copied().unwrap_or_default())
            }
            _ => None,
        });
        let sold: i64 = sold.sum();
        if sold > cap {
            self.tell_wallets(person);
            self.fail(format!("{person} bought for {} on {day}, strictly limited to {}", Fen(sold), Fen(cap)));
        }
    }
}

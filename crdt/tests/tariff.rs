//! The whole decision on a sale's sum against a reference that was written from the product's rows alone: which price, which
//! surcharge, which caps, which guard.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use proptest::prelude::*;
use std::collections::BTreeSet;
use yika_crdt::Fen;
use yika_crdt::entry::Mode;
use yika_crdt::ids::*;
use yika_crdt::tariff::sheet::*;
use yika_crdt::tariff::{Spent, Tap, check_limits, period_at, price, repeat_tap};

/// What is asked at a till, and what was bought before.
#[derive(Clone, Copy, Debug)]
struct Asked {
    category: CategoryId,
    outlet: OutletId,
    minute: u16,
    mode: Mode,
    spent: Spent,
    /// Sum and age of the holder's last sale at this till.
    last: Option<(i64, i64)>,
}

/// What is charged, or nothing where the sale is refused.
fn reference(s: &TariffSheet, a: &Asked) -> Option<i64> {
    let open = |p: &&MealPeriod| (0..1440).cycle().skip(p.from_minute.into()).take(length(p)).any(|m| m == a.minute);
    let period = s.periods.iter().find(open).map(|p| p.id);
    let fits = |o: Option<OutletId>, c: Option<CategoryId>| {
        o.is_none_or(|o| o == a.outlet) && c.is_none_or(|c| c == a.category)
    };
    let fixed = s.fixed.iter().filter(|f| fits(f.outlet, f.category) && f.period.is_none_or(|p| Some(p) == period));
    // POS-14: outlet before category before period, as digits of a number.
    let best = fixed.max_by_key(|f| {
        4 * i32::from(f.outlet.is_some()) + 2 * i32::from(f.category.is_some()) + i32::from(f.period.is_some())
    });
    let meal = best.filter(|_| period.is_some() || s.periods.is_empty()).map(|f| f.price.0);
    let base = match a.mode {
        Mode::Amount(keyed) => Some(keyed.0).filter(|fen| *fen > 0), // POS-6
        Mode::Portions { unit, portions } => {
            (unit.0 > 0 && (1..=99).contains(&portions)).then(|| unit.0 * i64::from(portions))
        } // POS-8
        Mode::Fixed | Mode::Count => meal,                           // POS-7, POS-11
    };
    let base = base.filter(|fen| *fen <= 650_000)?;
    let rows = || s.adjustments.iter().filter(|r| fits(r.outlet, Some(r.category)));
    let row = rows().find(|r| r.outlet.is_some()).or(rows().next()); // POS-15
    let share = row
        .map_or(0, |r| (2 * base * i64::from(r.basis_points) + 10_000 * i64::from(r.basis_points).signum()) / 20_000);
    let charged = (base + share + row.map_or(0, |r| r.flat.0)).max(0);
    let total = if a.mode == Mode::Count { 0 } else { charged };
    let cap =
        s.limits.iter().find(|l| l.category == Some(a.category)).or(s.limits.iter().find(|l| l.category.is_none()));
    let over = |cap: Option<Fen>, before: Fen| cap.is_some_and(|cap| before.0 + total > cap.0);
    let full = |most: u8, before: u32| most > 0 && before >= u32::from(most);
    let capped = cap.is_some_and(|l| {
        over(l.per_purchase, Fen(0))
            || over(l.per_meal, a.spent.meal_sum)
            || over(l.per_day, a.spent.day_sum)
            || full(l.times_per_meal, a.spent.meal_times)
            || full(l.times_per_day, a.spent.day_times)
    }); // POS-16
    let again =
        a.last.is_some_and(|(fen, ago)| fen == total && (0..i64::from(s.repeat_tap_seconds) * 1_000).contains(&ago)); // POS-18
    let barred = s.barred.contains(&(a.category, a.outlet)); // POS-19
    (!capped && !again && !barred && total <= 650_000).then_some(total)
}

/// Minutes of a period; POS-13 allows one to cross midnight.
fn length(p: &MealPeriod) -> usize {
    usize::from((p.until_minute + 1_440 - p.from_minute) % 1_440)
}

/// The product's answer, put together as a box does it.
fn product(s: &TariffSheet, a: &Asked) -> Option<i64> {
    let quote = price(s, a.category, a.outlet, period_at(s, a.minute), a.mode).ok()?;
    assert_eq!(quote.price.add(quote.adjustment), Ok(quote.total));
    check_limits(s, a.category, &a.spent, quote.total).ok()?;
    let tap = |fen, at_ms| Tap { card: CardNumber(1), terminal: TerminalId(1), total: fen, at_ms };
    let last = a.last.map(|(fen, ago)| tap(Fen(fen), 1_000_000 - ago));
    repeat_tap(s, last.as_ref(), &tap(quote.total, 1_000_000)).ok()?;
    Some(quote.total.0)
}

fn fen() -> impl Strategy<Value = Fen> {
    prop_oneof![6 => 0i64..2_500, 1 => 640_000i64..660_000].prop_map(Fen)
}

fn outlet() -> impl Strategy<Value = Option<OutletId>> {
    prop::option::of((0u32..2).prop_map(OutletId))
}

fn category() -> impl Strategy<Value = Option<CategoryId>> {
    prop::option::of((0u16..2).prop_map(CategoryId))
}

prop_compose! {
    /// Two periods that leave the rest of the day closed, or none.
    fn periods()(from in 0u16..1_440, first in 1u16..600, gap in 0u16..200, second in 1u16..600, some in any::<bool>()) -> Vec<MealPeriod> {
        let period = |id, from: u16, minutes: u16| MealPeriod {
            id: PeriodId(id), name: "餐".into(), from_minute: from % 1_440, until_minute: (from + minutes) % 1_440,
        };
        if some { vec![period(1, from, first), period(2, from + first + gap, second)] } else { Vec::new() }
    }
}

/// Of two rows for the same case the first: with both, a sheet is refused before it is in force.
fn once<T, K: Ord>(rows: impl IntoIterator<Item = T>, case: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = BTreeSet::new();
    rows.into_iter().filter(|row| seen.insert(case(row))).collect()
}

prop_compose! {
    fn a_sheet()(
        periods in periods(),
        fixed in prop::collection::vec((outlet(), category(), prop::option::of(1u8..3), fen()), 0..8),
        adjustments in prop::collection::vec((0u16..2, outlet(), -10_000i32..=20_000, -900i64..900), 0..4),
        limits in prop::collection::vec((category(), prop::option::of(fen()), prop::option::of(fen()), prop::option::of(fen()), 0u8..4, 0u8..4), 0..3),
        barred in prop::collection::vec((0u16..2, 0u32..2), 0..2),
        repeat_tap_seconds in 0u8..6,
    ) -> TariffSheet {
        TariffSheet {
            version: TariffVersion(1),
            periods,
            fixed: once(fixed, |f| (f.0, f.1, f.2)).into_iter().map(|(outlet, category, period, price)| FixedPrice {
                outlet, category, period: period.map(PeriodId), price,
            }).collect(),
            adjustments: once(adjustments, |a| (a.0, a.1)).into_iter().map(|(category, outlet, basis_points, flat)| Adjustment {
                category: CategoryId(category), outlet, basis_points, flat: Fen(flat),
            }).collect(),
            limits: once(limits, |l| l.0).into_iter().map(|(category, per_purchase, per_meal, per_day, times_per_meal, times_per_day)| Limit {
                category, per_purchase, per_meal, per_day, times_per_meal, times_per_day, scope: LimitScope::Local,
            }).collect(),
            barred: barred.into_iter().map(|(c, o)| (CategoryId(c), OutletId(o))).collect(),
            repeat_tap_seconds,
            guest: GuestRule { per_purchase: Fen(0), per_card_day: Fen(0) },
        }
    }
}

prop_compose! {
    fn asked()(
        category in 0u16..3, outlet in 0u32..3, minute in 0u16..1_440,
        mode in prop_oneof![
            fen().prop_map(Mode::Amount), Just(Mode::Fixed), Just(Mode::Count),
            (fen(), any::<u8>()).prop_map(|(unit, portions)| Mode::Portions { unit, portions }),
            (1i64..900, 1u8..5).prop_map(|(unit, portions)| Mode::Portions { unit: Fen(unit), portions }),
        ],
        sums in (0i64..2_500, 0i64..2_500), times in (0u32..4, 0u32..4),
        last in prop::option::of((0i64..1_500, -2_000i64..8_000)),
    ) -> Asked {
        let spent = Spent { meal_sum: Fen(sums.0), day_sum: Fen(sums.1), meal_times: times.0, day_times: times.1 };
        Asked { category: CategoryId(category), outlet: OutletId(outlet), minute, mode, spent, last }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// Rows POS-6, POS-7, POS-8, POS-11, POS-13, POS-14, POS-15, POS-16, POS-18, POS-19.
    #[test]
    fn a_sale_comes_to_what_the_rows_say(sheet in a_sheet(), asked in asked()) {
        prop_assert_eq!(product(&sheet, &asked), reference(&sheet, &asked), "{:?}", asked);
        // The same again and again: a tap after the sale that it was.
        if let Some(total) = product(&sheet, &asked) {
            let again = Asked { last: Some((total, 0)), ..asked };
            prop_assert_eq!(product(&sheet, &again).is_some(), sheet.repeat_tap_seconds == 0);
        }
    }
}

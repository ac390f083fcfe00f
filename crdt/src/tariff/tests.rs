//! Prices, limits and splits against short reference models.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use super::sheet::*;
use super::*;
use crate::entry::{Mode, WalletKey};
use crate::fen::Fen;
use crate::ids::*;
use crate::reason::Reason;
use proptest::prelude::*;

fn fen() -> impl Strategy<Value = Fen> {
    prop_oneof![4 => (0i64..3_000).prop_map(Fen), 1 => any::<i64>().prop_map(Fen)]
}

prop_compose! {
    fn sheets()(
        periods in prop::collection::vec((0u8..3, 0u16..1441, 0u16..1441), 0..3),
        fixed in prop::collection::vec(
            (prop::option::of(0u32..2), prop::option::of(0u16..2), prop::option::of(0u8..3), fen()), 0..8),
        adjustments in prop::collection::vec((0u16..2, prop::option::of(0u32..2), -12_000i32..22_000, fen()), 0..4),
        limits in prop::collection::vec(
            (prop::option::of(0u16..2), prop::option::of(fen()), prop::option::of(fen()), prop::option::of(fen()), 0u8..4, 0u8..4), 0..3),
        barred in prop::collection::vec((0u16..4, 0u32..4), 0..2),
    ) -> TariffSheet {
        TariffSheet {
            version: TariffVersion(1),
            periods: periods.into_iter().map(|(id, from_minute, until_minute)| MealPeriod {
                id: PeriodId(id), name: "餐".into(), from_minute, until_minute,
            }).collect(),
            fixed: fixed.into_iter().map(|(o, c, p, price)| FixedPrice {
                outlet: o.map(OutletId), category: c.map(CategoryId), period: p.map(PeriodId), price,
            }).collect(),
            adjustments: adjustments.into_iter().map(|(c, o, basis_points, flat)| Adjustment {
                category: CategoryId(c), outlet: o.map(OutletId), basis_points, flat,
            }).collect(),
            limits: limits.into_iter().map(|(c, per_purchase, per_meal, per_day, times_per_meal, times_per_day)| Limit {
                category: c.map(CategoryId), per_purchase, per_meal, per_day, times_per_meal, times_per_day, scope: LimitScope::Local,
            }).collect(),
            barred: barred.into_iter().map(|(c, o)| (CategoryId(c), OutletId(o))).collect(),
            repeat_tap_seconds: 5,
            guest: GuestRule { per_purchase: Fen(0), per_card_day: Fen(0) },
        }
    }
}

/// The eight cases from most to least specific, each looked up by itself; the percentage in plain integers.
fn model(s: &TariffSheet, c: CategoryId, o: OutletId, p: Option<PeriodId>) -> Result<i64, Reason> {
    if s.barred.contains(&(c, o)) {
        return Err(Reason::NotHere);
    }
    match p {
        Some(p) if !s.periods.iter().any(|q| q.id == p) => return Err(Reason::OutsidePeriod),
        None if !s.periods.is_empty() => return Err(Reason::OutsidePeriod),
        _ => {}
    }
    let cases = (0..8).map(|n| ((n & 4 == 0).then_some(o), (n & 2 == 0).then_some(c), n & 1 == 0));
    let mut rows = cases.filter_map(|(o, c, named)| {
        s.fixed
            .iter()
            .find(|f| f.outlet == o && f.category == c && f.period.is_some() == named && (!named || f.period == p))
    });
    let price = i128::from(rows.next().ok_or(Reason::NoPrice)?.price.0);
    let row = s.adjustments.iter().filter(|a| a.category == c && a.outlet.is_none_or(|x| x == o));
    let row = row.clone().find(|a| a.outlet.is_some()).or_else(|| row.clone().next());
    let (points, flat) = row.map_or((0, 0), |a| (i128::from(a.basis_points), i128::from(a.flat.0)));
    let rounded = ((price * points).abs() + 5_000) / 10_000 * (price * points).signum();
    let total = (price + rounded + flat).max(0);
    let legal = 0..=i128::from(PURCHASE_FEN_MAX);
    if legal.contains(&price) && legal.contains(&total) && i64::try_from(rounded + flat).is_ok() {
        Ok(total as i64)
    } else {
        Err(Reason::BadAmount)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Rows ORG-5, POS-7, POS-14, POS-15.
    #[test]
    fn fixed_prices_agree_with_the_model(s in sheets(), c in 0u16..3, o in 0u32..3, p in prop::option::of(0u8..3)) {
        let (c, o, p) = (CategoryId(c), OutletId(o), p.map(PeriodId));
        let quote = price(&s, c, o, p, Mode::Fixed);
        prop_assert_eq!(quote.map(|q| q.total.0), model(&s, c, o, p));
        if let Ok(q) = quote {
            prop_assert_eq!(q.price.add(q.adjustment), Ok(q.total));
            let counted = price(&s, c, o, p, Mode::Count).unwrap();
            prop_assert_eq!((counted.price, counted.total), (q.price, Fen::ZERO));
        }
    }

    #[test]
    fn keyed_sums_never_panic_and_stay_in_bounds(s in sheets(), sum in fen(), unit in fen(), portions: u8) {
        for mode in [Mode::Amount(sum), Mode::Portions { unit, portions }] {
            if let Ok(q) = price(&s, CategoryId(0), OutletId(0), None, mode) {
                prop_assert!(q.price.is_positive() && (0..=PURCHASE_FEN_MAX).contains(&q.total.0));
            }
        }
    }

    /// Rows POS-13.
    #[test]
    fn sound_sheets_open_one_period_at_a_time(s in sheets(), minute in 0u16..1440) {
        if s.validate().is_ok() {
            prop_assert!(s.periods.iter().filter(|p| p.contains(minute)).count() <= 1);
        }
        prop_assert_eq!(period_at(&s, minute).is_some(), s.periods.iter().any(|p| p.contains(minute)));
    }

    /// Rows POS-16.
    #[test]
    fn limits_agree_with_the_model(s in sheets(), c in 0u16..3, sums in (0i64..4_000, 0i64..4_000, 0i64..4_000), times in (0u32..5, 0u32..5)) {
        let c = CategoryId(c);
        let spent = Spent { meal_sum: Fen(sums.0), day_sum: Fen(sums.1), meal_times: times.0, day_times: times.1 };
        let row = s.limits.iter().find(|l| l.category == Some(c)).or(s.limits.iter().find(|l| l.category.is_none()));
        let fits = row.is_none_or(|l| {
            l.per_purchase.is_none_or(|cap| sums.2 <= cap.0)
                && l.per_meal.is_none_or(|cap| sums.0 + sums.2 <= cap.0)
                && l.per_day.is_none_or(|cap| sums.1 + sums.2 <= cap.0)
                && (l.times_per_meal == 0 || times.0 < u32::from(l.times_per_meal))
                && (l.times_per_day == 0 || times.1 < u32::from(l.times_per_day))
        });
        prop_assert_eq!(check_limits(&s, c, &spent, Fen(sums.2)).is_ok(), fits);
    }

    /// Rows ACC-13.
    #[test]
    fn splits_pay_fen_by_fen(rights in prop::collection::vec((-5i64..30, prop::option::of(0i32..6)), 0..6), total in 1i64..60, day in 0i32..6) {
        let wallets: Vec<_> = rights.iter().enumerate().map(|(n, (right, last))| {
            let key = if n == 0 { WalletKey::Main } else { WalletKey::Subsidy(n as u32) };
            (key, Fen(*right), last.map(Day))
        }).collect();
        // The model takes one fen at a time from the wallet whose turn it is.
        let mut left: Vec<_> = wallets.iter().filter(|w| w.2.is_none_or(|l| l >= Day(day))).map(|w| (w.0, w.1.0, w.2)).collect();
        let mut paid = std::collections::BTreeMap::new();
        let mut missing = total;
        while missing > 0 {
            let next = left.iter_mut().filter(|w| w.1 > 0).min_by_key(|w| (w.0 == WalletKey::Main, w.2.map_or(i32::MAX, |d| d.0), w.0));
            let Some(w) = next else { break };
            w.1 -= 1;
            missing -= 1;
            *paid.entry(w.0).or_insert(0) += 1;
        }
        match split(&wallets, Fen(total), Day(day)) {
            Ok(parts) => {
                prop_assert_eq!(missing, 0);
                prop_assert_eq!(Fen::sum(parts.iter().map(|p| p.1)), Ok(Fen(total)));
                prop_assert_eq!(parts.into_iter().map(|p| (p.0, p.1.0)).collect::<std::collections::BTreeMap<_, _>>(), paid);
            }
            Err(short) => prop_assert_eq!(short.missing, Fen(missing)),
        }
    }
}

fn plain_sheet() -> TariffSheet {
    let period =
        |id, from_minute, until_minute| MealPeriod { id: PeriodId(id), name: "餐".into(), from_minute, until_minute };
    TariffSheet {
        version: TariffVersion(1),
        periods: vec![period(1, 660, 780), period(2, 1320, 120)],
        fixed: vec![],
        adjustments: vec![],
        limits: vec![],
        barred: vec![],
        repeat_tap_seconds: 5,
        guest: GuestRule { per_purchase: Fen(0), per_card_day: Fen(0) },
    }
}

#[test]
fn a_sheet_says_which_row_is_wrong() {
    let mut s = plain_sheet();
    assert_eq!(s.validate(), Ok(()));
    assert_eq!(period_at(&s, 119), Some(PeriodId(2)));
    assert_eq!(period_at(&s, 120), None);
    s.periods.push(MealPeriod { id: PeriodId(1), name: " ".into(), from_minute: 100, until_minute: 200 });
    let row = FixedPrice { outlet: None, category: None, period: Some(PeriodId(9)), price: Fen(-1) };
    s.fixed = vec![row.clone(), row];
    let said = s.validate().unwrap_err();
    assert!(said.contains(&SheetError::PeriodName { row: 3 }));
    assert!(said.contains(&SheetError::Twice { table: "periods", first: 1, row: 3 }));
    assert!(said.contains(&SheetError::PeriodsOverlap { first: 2, row: 3, minute: 100 }));
    assert!(said.contains(&SheetError::UnknownPeriod { row: 1, period: 9 }));
    assert!(said.contains(&SheetError::Twice { table: "fixed prices", first: 1, row: 2 }));
    assert_eq!(said.len(), 8);
}

/// Rows POS-18.
#[test]
fn the_same_tap_is_refused_for_five_seconds() {
    let s = plain_sheet();
    let tap = |total, at_ms| Tap { card: CardNumber(1), terminal: TerminalId(1), total: Fen(total), at_ms };
    let last = tap(500, 10_000);
    assert_eq!(repeat_tap(&s, Some(&last), &tap(500, 14_999)), Err(Reason::RepeatTap));
    assert_eq!(repeat_tap(&s, Some(&last), &tap(500, 15_000)), Ok(()));
    assert_eq!(repeat_tap(&s, Some(&last), &tap(501, 10_001)), Ok(()));
    assert_eq!(repeat_tap(&s, None, &tap(500, 10_001)), Ok(()));
    assert_eq!(repeat_tap(&s, Some(&last), &tap(500, 10_000)), Err(Reason::RepeatTap));
    assert_eq!(repeat_tap(&s, Some(&last), &tap(500, 9_999)), Ok(()), "the clock was set back");
}

/// Row POS-7.
#[test]
fn a_meal_eaten_after_hours_is_of_the_meal_that_ended_last() {
    let mut s = plain_sheet();
    let fixed = |period, price| FixedPrice { outlet: None, category: None, period, price: Fen(price) };
    s.fixed = vec![fixed(Some(PeriodId(1)), 1_200), fixed(Some(PeriodId(2)), 900)];
    let (who, here) = (Some(CategoryId(1)), OutletId(1));
    let period = |s: &TariffSheet, minute| period_of_fact(s, who, here, minute, Mode::Fixed);
    for (minute, id) in [(700, 1), (780, 1), (1_319, 1), (1_320, 2), (60, 2), (120, 2), (659, 2)] {
        assert_eq!(period(&s, minute), Some(PeriodId(id)), "{minute}");
    }
    assert_eq!(period_of_fact(&s, who, here, 1_000, Mode::Amount(Fen(1))), None, "a keyed sum needs no meal");
    s.fixed = vec![fixed(Some(PeriodId(2)), 900)];
    assert_eq!(period(&s, 700), Some(PeriodId(2)), "lunch has no price, the meal before it has");
    let price = |s: &TariffSheet, period, mode| price_of_fact(s, who, here, period, mode).map(|quote| quote.total);
    assert_eq!(price(&s, period(&s, 700), Mode::Fixed), Ok(Fen(900)));
    s.fixed = vec![];
    assert_eq!(price(&s, period(&s, 700), Mode::Fixed), Err(Reason::NoPrice));
    assert_eq!(price(&s, period(&s, 700), Mode::Count), Ok(Fen::ZERO), "a meal is counted without a price");
}

/// Rows POS-15, POS-19.
#[test]
fn a_fact_is_charged_as_keyed_where_the_tariff_gives_no_price() {
    let mut s = plain_sheet();
    let (who, here) = (Some(CategoryId(1)), OutletId(1));
    let discount = |basis_points| Adjustment { category: CategoryId(1), outlet: None, basis_points, flat: Fen::ZERO };
    s.adjustments = vec![discount(-1_000)];
    s.barred = vec![(CategoryId(1), here)];
    let price = |s: &TariffSheet, who, fen| price_of_fact(s, who, here, None, Mode::Amount(Fen(fen)));
    let total = |quote: Result<Quote, Reason>| quote.map(|quote| quote.total);
    assert_eq!(total(price(&s, who, 1_000)), Ok(Fen(900)), "barred, and yet his price");
    assert_eq!(total(price(&s, None, 1_000)), Ok(Fen(1_000)), "nobody's category adjusts a stranger's");
    s.adjustments = vec![discount(20_000)];
    assert_eq!(total(price(&s, who, PURCHASE_FEN_MAX)), Ok(Fen(PURCHASE_FEN_MAX)), "tripled it could not be charged");
    for fen in [0, -1, PURCHASE_FEN_MAX + 1] {
        assert_eq!(price(&s, who, fen), Err(Reason::BadAmount), "{fen} is no sum");
    }
}

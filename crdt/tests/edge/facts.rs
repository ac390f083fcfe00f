//! What a terminal sold by itself and tells afterwards: priced by when it was eaten, never refused for money.

use super::*;

const MAIN: Source = Source::Wallet(WalletKey::Main);
/// After lunch, before dinner, by the clock of [`canteen`].
const AFTERNOON_MS: i64 = NOON_MS + 5 * HOUR_MS / 2;

/// Lunch until 14:00 for 12 yuan, dinner from 17:00 for 9, and a holder with 100 yuan here; it is three in the afternoon.
fn canteen() -> (HubVoice, Box_) {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 10_000).into()));
    edge.price_by(&mut hub, |sheet| {
        sheet.periods.push(MealPeriod {
            id: PeriodId(3),
            name: "晚餐".into(),
            from_minute: 1_020,
            until_minute: 1_140,
        });
        sheet.fixed = [(2, 1_200), (3, 900)]
            .map(|(id, fen)| FixedPrice { outlet: None, category: None, period: Some(PeriodId(id)), price: Fen(fen) })
            .into();
    });
    edge.mono_ms += (AFTERNOON_MS - NOON_MS) as u64;
    (hub, edge)
}

fn fact(seq: u32, mode: Mode, at_ms: i64) -> PurchaseRequest {
    PurchaseRequest { mode, terminal_time_ms: at_ms, offline: true, ..request(TerminalId(10), seq, 1) }
}

fn told(edge: &mut Box_, fact: PurchaseRequest) -> PurchaseRecord {
    match edge.sell(fact.clone()) {
        Answer::Approved(record) => *record,
        other => panic!("{fact:?}: {other:?}"),
    }
}

fn portions(unit: i64, portions: u8) -> Mode {
    Mode::Portions { unit: Fen(unit), portions }
}

#[test]
fn a_meal_told_later_costs_what_it_cost_when_it_was_eaten() {
    let (_hub, mut edge) = canteen();
    let online = PurchaseRequest { offline: false, ..fact(1, Mode::Fixed, NOON_MS) };
    assert_eq!(edge.sell(online), Answer::Refused(Reason::OutsidePeriod), "lunch is over");
    let mut eaten = |seq, mode, at_ms| {
        let record = told(&mut edge, fact(seq, mode, at_ms));
        assert_eq!((record.day.to_string(), record.terminal_time_ms), ("2026-11-24".into(), at_ms));
        (record.period.map(|id| id.0), Fen::sum(record.paid.iter().map(|(_, part)| *part)).unwrap().0)
    };
    assert_eq!(eaten(2, Mode::Fixed, NOON_MS), (Some(2), 1_200));
    assert_eq!(eaten(3, portions(300, 2), NOON_MS - HOUR_MS), (Some(2), 600));
    assert_eq!(eaten(4, portions(300, 2), AFTERNOON_MS), (None, 600));
    assert_eq!(eaten(5, Mode::Amount(Fen(250)), NOON_MS), (Some(2), 250));
    assert_eq!(eaten(6, Mode::Count, NOON_MS), (Some(2), 0));
    edge.mono_ms += 3 * HOUR_MS as u64;
    let mut eaten = |seq, at_ms| told(&mut edge, fact(seq, Mode::Fixed, at_ms)).price.0;
    assert_eq!(eaten(7, NOON_MS), 1_200, "told at dinner, it is lunch all the same");
    assert_eq!(eaten(8, NOON_MS + 5 * HOUR_MS), 900);
    // Clocks that cannot be right: of a terminal that never had the time, and one that is ahead.
    assert_eq!((eaten(9, 0), eaten(10, NOON_MS + 24 * HOUR_MS)), (900, 900), "the meal at which it is told");
    assert_eq!(edge.alarms("fact"), Vec::<String>::new());
}

#[test]
fn a_fixed_meal_between_two_periods_is_of_the_one_before_and_alarmed_once() {
    let (_hub, mut edge) = canteen();
    let late = NOON_MS + 95 * 60_000;
    for seq in 1..4 {
        let record = told(&mut edge, fact(seq, Mode::Fixed, late));
        assert_eq!((record.period, record.paid), (Some(PeriodId(2)), vec![(MAIN, Fen(1_200))]));
    }
    let alarms = edge.alarms("fact");
    assert!(alarms.len() == 1 && alarms[0].contains("no meal with a price was open"), "{alarms:?}");
}

#[test]
fn a_card_reported_lost_after_the_meal_still_pays_for_it() {
    let (_hub, mut edge) = canteen();
    let block = BlockRecord { target: BlockTarget::Card(CARD), reason: BlockReason::Lost, operator: OperatorId(3) };
    edge.run(Command::Block(block));
    assert_eq!(edge.buy(1, 500), Answer::Refused(Reason::Blocked));
    for (seq, mode, total) in [(2, Mode::Amount(Fen(500)), 500), (3, portions(300, 2), 600), (4, Mode::Fixed, 1_200)] {
        let record = told(&mut edge, fact(seq, mode, NOON_MS));
        assert_eq!((record.person, record.category, record.paid), (PERSON, CategoryId(1), vec![(MAIN, Fen(total))]));
    }
    let alarms = edge.alarms("fact");
    assert!(alarms.len() == 1 && alarms[0].contains("Card is blocked"), "{alarms:?}");
    assert_eq!(told(&mut edge, fact(5, Mode::Amount(Fen(9_000)), NOON_MS)).paid[1], (Source::Receivable, Fen(1_300)));
}

/// Rows POS-19.
#[test]
fn whoever_ate_where_he_may_not_pays_and_somebody_is_told() {
    let (mut hub, mut edge) = canteen();
    let run = hub.say(Channel::Registry, vec![Body::Tariff(Box::new(barred_sheet()))]);
    edge.run(Command::Ingest(run.into()));
    assert_eq!(edge.buy(1, 500), Answer::Refused(Reason::NotHere));
    for (seq, mode, total) in [(2, Mode::Amount(Fen(500)), 500), (3, portions(300, 2), 600), (4, Mode::Fixed, 1_200)] {
        let record = told(&mut edge, fact(seq, mode, NOON_MS));
        assert_eq!((record.person, record.paid), (PERSON, vec![(MAIN, Fen(total))]));
    }
    assert_eq!(told(&mut edge, fact(5, Mode::Count, NOON_MS)).price, Fen(1_200));
    let alarms = edge.alarms("fact");
    assert!(alarms.len() == 1 && alarms[0].contains("may not buy there"), "{alarms:?}");
}

fn barred_sheet() -> TariffSheet {
    TariffSheet { version: TariffVersion(3), barred: vec![(CategoryId(1), OutletId(1))], ..sheet() }
}

#[test]
fn what_a_stranger_ate_is_owed_whatever_the_mode() {
    let (_hub, mut edge) = canteen();
    for (seq, mode, total) in [(1, Mode::Amount(Fen(500)), 500), (2, portions(300, 2), 600), (3, Mode::Fixed, 1_200)] {
        let record = told(&mut edge, PurchaseRequest { card: CardNumber(0), ..fact(seq, mode, NOON_MS) });
        assert_eq!((record.person, record.paid), (PersonId(0), vec![(Source::Receivable, Fen(total))]));
    }
    let counted = told(&mut edge, PurchaseRequest { card: CardNumber(0), ..fact(4, Mode::Count, NOON_MS) });
    assert_eq!((counted.price, counted.paid), (Fen(1_200), Vec::new()));
}

/// Nobody can say what it cost: a person must look.
#[test]
fn a_fixed_meal_that_no_period_prices_is_refused_and_told() {
    let (mut hub, mut edge) = canteen();
    let unpriced = TariffSheet { version: TariffVersion(3), fixed: Vec::new(), ..sheet() };
    let run = hub.say(Channel::Registry, vec![Body::Tariff(Box::new(unpriced))]);
    edge.run(Command::Ingest(run.into()));
    for seq in 1..3 {
        assert_eq!(edge.sell(fact(seq, Mode::Fixed, NOON_MS)), Answer::Refused(Reason::NoPrice));
    }
    assert_eq!(told(&mut edge, fact(3, Mode::Count, NOON_MS)).price, Fen::ZERO, "a meal is counted all the same");
    let alarms = edge.alarms("fact");
    assert!(alarms.len() == 2 && alarms[0].contains("No price set") && alarms[0].contains("t10-1-1"), "{alarms:?}");
    assert_eq!(edge.sell(fact(1, Mode::Fixed, NOON_MS)), Answer::Refused(Reason::NoPrice), "its answer stays");
}

#[test]
fn what_a_suspended_till_sold_before_is_charged_and_told() {
    let (mut hub, mut edge) = canteen();
    let mut till = edge.edge.mesh.terminals[&TerminalId(10)].clone();
    till.state = TerminalState::Suspended;
    edge.run(Command::Ingest(hub.say(Channel::Registry, vec![Body::Terminal(till)]).into()));
    assert_eq!(edge.buy(1, 500), Answer::Refused(Reason::TerminalNotAllowed));
    assert_eq!(told(&mut edge, fact(2, Mode::Amount(Fen(500)), NOON_MS)).paid, vec![(MAIN, Fen(500))]);
    assert!(edge.alarms("fact")[0].contains("not in use"));
    let elsewhere = PurchaseRequest {
        id: PurchaseId { terminal: TerminalId(20), boot: 1, seq: 1 },
        ..fact(3, Mode::Fixed, NOON_MS)
    };
    assert_eq!(edge.sell(elsewhere), Answer::Refused(Reason::TerminalNotAllowed), "of another campus");
}

/// Posted on the day on which it is told, because the day before is cut; counted on the day on which it was eaten.
#[test]
fn yesterdays_meal_takes_nothing_of_todays_limits() {
    let (mut hub, mut edge) = canteen();
    let once = Limit {
        category: None,
        per_purchase: None,
        per_meal: None,
        per_day: None,
        times_per_meal: 1,
        times_per_day: 2,
        scope: LimitScope::Local,
    };
    let limited = TariffSheet { version: TariffVersion(3), limits: vec![once], ..sheet() };
    edge.run(Command::Ingest(hub.say(Channel::Registry, vec![Body::Tariff(Box::new(limited))]).into()));
    edge.mono_ms += 22 * HOUR_MS as u64;
    let yesterday = told(&mut edge, fact(1, Mode::Fixed, NOON_MS));
    assert_eq!((yesterday.day.to_string(), yesterday.period), ("2026-11-25".into(), Some(PeriodId(2))));
    assert_eq!(approved(&edge.buy(2, 500)), Fen(500), "today's lunch");
    assert_eq!(edge.buy(3, 500), Answer::Refused(Reason::OverMealTimes));
    let breakfast = told(&mut edge, fact(4, Mode::Amount(Fen(100)), NOON_MS + 20 * HOUR_MS));
    assert_eq!(breakfast.period, None);
    edge.mono_ms += 6 * HOUR_MS as u64;
    assert_eq!(edge.buy(5, 500), Answer::Refused(Reason::OverDayTimes), "today's facts count today");
}

/// Rows POS-5, 11.
#[test]
fn a_fact_is_priced_by_the_tariff_that_its_terminal_showed() {
    let (mut hub, mut edge) = canteen();
    let shown = edge.edge.mesh.tariff().unwrap().version;
    let dearer = FixedPrice { outlet: None, category: None, period: Some(PeriodId(2)), price: Fen(1_800) };
    let sheet = (*edge.edge.mesh.tariff().unwrap()).clone();
    let sheet = TariffSheet { version: TariffVersion(shown.0 + 1), fixed: vec![dearer], ..sheet };
    edge.run(Command::Ingest(hub.say(Channel::Registry, vec![Body::Tariff(Box::new(sheet))]).into()));
    let eaten_before = PurchaseRequest { tariff: Some(shown), ..fact(1, Mode::Fixed, NOON_MS) };
    let record = told(&mut edge, eaten_before);
    assert_eq!((record.tariff, record.price), (shown, Fen(1_200)), "as it was shown when it was eaten");
    let unsaid = told(&mut edge, fact(2, Mode::Fixed, NOON_MS));
    assert_eq!((unsaid.tariff.0, unsaid.price), (shown.0 + 1, Fen(1_800)), "else by the newest");
    let unknown = PurchaseRequest { tariff: Some(TariffVersion(99)), ..fact(3, Mode::Fixed, NOON_MS) };
    assert_eq!(told(&mut edge, unknown).price, Fen(1_800));
    assert!(edge.alarms("fact").iter().any(|alarm| alarm.contains("showed is not known here")));
}

#[test]
fn a_refused_fact_gets_its_first_answer_at_a_sibling_too() {
    let mut hub = HubVoice::default();
    let mut one = Box_::ready(1, 1, &mut hub);
    let mut two = Box_::ready(2, 1, &mut hub);
    let nothing = || fact(1, Mode::Amount(Fen(0)), NOON_MS);
    let first = one.sell(nothing());
    assert_eq!(first, Answer::Refused(Reason::BadAmount));
    assert_eq!(one.sell(nothing()), first);
    one.feed_to(Channel::Journal, &mut two);
    assert_eq!(two.sell(nothing()), first);
    let online = PurchaseRequest { offline: false, ..nothing() };
    assert_eq!(two.sell(online), Answer::Refused(Reason::IdReused), "another question under the same id");
}

/// Rows POS-5, 20.
#[test]
fn a_guest_sale_taken_back_frees_the_guest_cap() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    let row = Row { person: PersonId(0), wallet: WalletKey::Guest };
    let grant = GrantRecord { row, total: Fen(100_000), last_day: None, basis: None, lease: None };
    edge.run(Command::Ingest(hub.say(Channel::Rights(edge_writer(1)), vec![Body::Grant(grant)]).into()));
    assert!(matches!(edge.buy(1, 2_000), Answer::Approved(_)));
    let back = edge.run(refund(2, 1, RefundKind::Correction, None));
    assert!(matches!(back, Reply::Answer(Answer::Refunded(_))), "{back:?}");
    assert!(matches!(edge.buy(3, 2_000), Answer::Approved(_)), "the cap of the day is free again");
}

/// A till finds a forgotten batch: what was never told is taken though later numbers have left the box, and what cannot be
/// told apart from what was is refused, with one alarm.
#[test]
fn a_forgotten_batch_is_taken_and_one_that_may_have_been_told_is_alarmed() {
    let (_hub, mut edge) = canteen();
    for seq in [1, 2, 5] {
        told(&mut edge, fact(seq, Mode::Amount(Fen(100)), NOON_MS));
    }
    prune_all(&mut edge);
    let late = NOON_MS + 26 * HOUR_MS;
    told(&mut edge, fact(4, Mode::Amount(Fen(100)), late));
    assert_eq!(edge.alarms("fact"), Vec::<String>::new());
    for seq in [1, 2, 5] {
        let again = fact(seq, Mode::Amount(Fen(100)), NOON_MS);
        assert_eq!(edge.sell(again), Answer::Refused(Reason::TooOld), "{seq}");
    }
    let alarms = edge.alarms("fact");
    assert!(alarms.len() == 1 && alarms[0].contains("Record too old"), "{alarms:?}");
}

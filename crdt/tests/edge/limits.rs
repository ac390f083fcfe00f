//! What counts against a holder's limits, and what does not any more.

use super::*;

const NONE: Limit = Limit {
    category: None,
    per_purchase: None,
    per_meal: None,
    per_day: None,
    times_per_meal: 0,
    times_per_day: 0,
    scope: LimitScope::Local,
};

/// Two boxes of a campus at lunch under one limit, with 200 yuan each.
fn pair(limit: Limit) -> (HubVoice, Box_, Box_) {
    let mut hub = HubVoice::default();
    let [first, second] = [1, 2].map(|node| {
        let mut edge = Box_::ready(node, 1, &mut hub);
        edge.run(Command::Ingest(hub.grant(edge_writer(node), 20_000).into()));
        edge.price_by(&mut hub, |sheet| sheet.limits = vec![limit.clone()]);
        edge
    });
    (hub, first, second)
}

fn correct(edge: &mut Box_, seq: u32, of: u32, amount: Option<i64>) {
    let reply = edge.run(refund(seq, of, RefundKind::Correction, amount));
    assert!(matches!(reply, Reply::Answer(Answer::Refunded(_))), "{reply:?}");
}

fn limits() -> [(Limit, Reason); 4] {
    [
        (Limit { per_meal: Some(Fen(5_000)), ..NONE }, Reason::OverMealLimit),
        (Limit { per_day: Some(Fen(5_000)), ..NONE }, Reason::OverDayLimit),
        (Limit { times_per_meal: 1, ..NONE }, Reason::OverMealTimes),
        (Limit { times_per_day: 1, ..NONE }, Reason::OverDayTimes),
    ]
}

/// Rows POS-16, POS-20. Keyed 50 yuan for 5, corrected, keyed again.
#[test]
fn a_sale_taken_back_whole_frees_its_meal_under_every_limit() {
    for (limit, reason) in limits() {
        let (_hub, mut edge, mut sibling) = pair(limit);
        assert_eq!(approved(&edge.buy(1, 5_000)), Fen(5_000));
        edge.feed_to(Channel::Journal, &mut sibling);
        assert_eq!(edge.buy(2, 500), Answer::Refused(reason));
        assert_eq!(sibling.buy(102, 500), Answer::Refused(reason), "a sibling counts it, too");
        correct(&mut edge, 3, 1, None);
        edge.feed_to(Channel::Journal, &mut sibling);
        assert_eq!(approved(&sibling.buy(103, 500)), Fen(500), "{reason:?} at the sibling");
        sibling.feed_to(Channel::Journal, &mut edge);
        let again = edge.buy(4, 4_501);
        assert_eq!(again, Answer::Refused(reason), "freed once, not for good");
        correct(&mut sibling, 104, 103, None);
        sibling.feed_to(Channel::Journal, &mut edge);
        assert_eq!(approved(&edge.buy(5, 500)), Fen(500), "{reason:?}");
    }
}

#[test]
fn a_sale_reduced_frees_its_sum_and_stays_one_purchase() {
    for (limit, reason) in limits() {
        let (_hub, mut edge, mut sibling) = pair(limit.clone());
        edge.buy(1, 5_000);
        correct(&mut edge, 2, 1, Some(4_500));
        edge.feed_to(Channel::Journal, &mut sibling);
        let frees = limit.per_meal.or(limit.per_day).is_some();
        for (edge, seq) in [(&mut edge, 3), (&mut sibling, 103)] {
            match edge.buy(seq, 4_500) {
                Answer::Approved(_) => assert!(frees, "{reason:?}"),
                refused => assert!(!frees && refused == Answer::Refused(reason), "{reason:?}: {refused:?}"),
            }
        }
        if frees {
            continue;
        }
        correct(&mut edge, 4, 1, None);
        edge.feed_to(Channel::Journal, &mut sibling);
        assert_eq!(approved(&edge.buy(5, 500)), Fen(500), "the rest was given back, too");
        assert_eq!(approved(&sibling.buy(105, 500)), Fen(500), "the rest was given back, too");
    }
}

/// Rows POS-11, POS-20. Nothing was paid, so there is nothing to give back; the meal is had again all the same.
#[test]
fn a_counted_meal_is_taken_back_whole_and_once() {
    let times = limits().into_iter().filter(|(limit, _)| limit.times_per_day + limit.times_per_meal > 0);
    for (limit, reason) in times {
        let (_hub, mut edge, mut sibling) = pair(limit);
        let counted = |edge: &Box_, seq| PurchaseRequest { mode: Mode::Count, ..request(edge.till(), seq, 0) };
        assert_eq!(approved(&edge.sell(counted(&edge, 1))), Fen::ZERO);
        let part = edge.run(refund(2, 1, RefundKind::Correction, Some(100)));
        assert_eq!(part, Reply::Answer(Answer::Refused(Reason::OverRefund)));
        edge.feed_to(Channel::Journal, &mut sibling);
        assert_eq!(sibling.buy(101, 500), Answer::Refused(reason), "a part takes nothing back");
        let Reply::Answer(Answer::Refunded(back)) = edge.run(refund(3, 1, RefundKind::Correction, None)) else {
            panic!("it is taken back")
        };
        assert_eq!(back.back, []);
        edge.restart();
        let again = [(RefundKind::Refund, Answer::Refused(Reason::OverRefund)), (RefundKind::Reversal, Answer::Voided)];
        for (seq, (kind, answer)) in (4..).zip(again) {
            assert_eq!(edge.run(refund(seq, 1, kind, None)), Reply::Answer(answer), "once");
        }
        edge.feed_to(Channel::Journal, &mut sibling);
        assert_eq!(approved(&sibling.buy(102, 500)), Fen(500), "{reason:?} at the sibling");
        assert_eq!(approved(&edge.sell(counted(&edge, 6))), Fen::ZERO, "{reason:?}");
        assert_eq!(edge.sell(counted(&edge, 7)), Answer::Refused(reason), "freed once");
        let reversed = edge.run(refund(8, 6, RefundKind::Reversal, None));
        assert!(matches!(reversed, Reply::Answer(Answer::Refunded(_))), "{reversed:?}");
        assert_eq!(approved(&edge.buy(9, 500)), Fen(500), "{reason:?} after a reversal");
    }
}

/// A sale of 5 yuan as the sibling writes it, true or not: so many days from today.
fn sibling_sells(edge: &mut Box_, sibling: &mut Box_, seq: u32, days: i32) {
    let Answer::Approved(mut sale) = sibling.buy(101, 500) else { panic!("the sibling sells") };
    (sale.id.seq, sale.day) = (seq, Day(sale.day.0 + days));
    let feed = FeedId { writer: edge_writer(2), channel: Channel::Journal };
    let stamp = Stamp { hub_time_ms: NOON_MS, boot: 1, mono_ms: 0 };
    let entry = Entry { stamp, body: Body::Purchase(*sale) }.encode();
    let held = edge.store.feed(&feed).unwrap().end;
    let end = feed::link(&feed, held, &entry);
    let run = Run { from: end.seq, entries: vec![entry], head: SignedHead::sign(feed, end, &key_of(NodeId(2))) };
    assert_eq!(edge.run(Command::Ingest(run.into())), Reply::Stored(feed, end.seq));
}

#[test]
fn a_siblings_record_of_a_far_day_changes_no_limit() {
    let (_hub, mut edge, mut sibling) = pair(Limit { times_per_day: 2, per_day: Some(Fen(1_500)), ..NONE });
    assert_eq!(approved(&edge.buy(1, 500)), Fen(500));
    for (seq, days) in [(101, 2), (102, 20_000), (103, -1), (104, i32::MAX - 30_000)] {
        sibling_sells(&mut edge, &mut sibling, seq, days);
    }
    assert_eq!(edge.buy(2, 1_001), Answer::Refused(Reason::OverDayLimit), "what was counted still counts");
    assert_eq!(approved(&edge.buy(3, 500)), Fen(500), "and nothing else");
    assert_eq!(edge.buy(4, 100), Answer::Refused(Reason::OverDayTimes), "the count goes on");
    sibling_sells(&mut edge, &mut sibling, 105, 0);
    edge.mono_ms += 24 * HOUR_MS as u64;
    assert_eq!(approved(&edge.buy(5, 500)), Fen(500), "the next day begins with nothing");
}

#[test]
fn a_far_day_of_a_sibling_lifts_no_guest_cap_and_no_repeat_guard() {
    let (mut hub, mut edge, mut sibling) = pair(NONE);
    let guarded = TariffSheet { version: TariffVersion(3), repeat_tap_seconds: 60, ..sheet() };
    edge.run(Command::Ingest(hub.say(Channel::Registry, vec![Body::Tariff(Box::new(guarded))]).into()));
    assert_eq!(approved(&edge.buy(1, 500)), Fen(500));
    sibling_sells(&mut edge, &mut sibling, 101, 900);
    assert_eq!(edge.buy(2, 500), Answer::Refused(Reason::RepeatTap));

    let row = Row { person: PersonId(0), wallet: WalletKey::Guest };
    let pool = Body::Grant(GrantRecord { row, total: Fen(10_000), last_day: None, basis: None, lease: None });
    edge.run(Command::Ingest(hub.say(Channel::Rights(edge_writer(1)), vec![pool]).into()));
    edge.mono_ms += 73 * HOUR_MS as u64;
    assert_eq!(approved(&edge.buy(3, 1_600)), Fen(1_600), "a guest");
    sibling_sells(&mut edge, &mut sibling, 102, 900);
    assert_eq!(edge.buy(4, 1_500), Answer::Refused(Reason::NoLease), "the cap of a card and day");
}

/// A sibling whose clock is a little ahead has cut the day already.
#[test]
fn a_sibling_that_cut_early_stops_no_counting_and_counts_tomorrow() {
    let (_hub, mut edge, mut sibling) = pair(Limit { times_per_day: 2, ..NONE });
    assert_eq!(approved(&edge.buy(1, 500)), Fen(500));
    sibling_sells(&mut edge, &mut sibling, 101, 1);
    assert_eq!(approved(&edge.buy(2, 500)), Fen(500));
    assert_eq!(edge.buy(3, 500), Answer::Refused(Reason::OverDayTimes), "its own sales of today count on");
    edge.mono_ms += 24 * HOUR_MS as u64;
    assert_eq!(approved(&edge.buy(4, 500)), Fen(500));
    assert_eq!(edge.buy(5, 500), Answer::Refused(Reason::OverDayTimes), "the sibling's was of this day");
}

/// Rows POS-18.
#[test]
fn a_clock_set_back_does_not_stop_a_card_until_it_has_caught_up() {
    let (mut hub, mut edge, _) = pair(NONE);
    let guarded = TariffSheet { version: TariffVersion(3), repeat_tap_seconds: 15, ..sheet() };
    edge.run(Command::Ingest(hub.say(Channel::Registry, vec![Body::Tariff(Box::new(guarded))]).into()));
    edge.mono_ms += HOUR_MS as u64;
    assert_eq!(approved(&edge.buy(1, 500)), Fen(500));
    assert_eq!(edge.buy(2, 500), Answer::Refused(Reason::RepeatTap), "ten seconds later");
    edge.run(Command::Ingest(hub.say(Channel::Receipts(NodeId(1)), vec![Body::Time(NOON_MS)]).into()));
    assert_eq!(approved(&edge.buy(3, 500)), Fen(500), "nothing is known of the hour before");
    assert_eq!(edge.buy(4, 500), Answer::Refused(Reason::RepeatTap), "and the guard goes on");
}

/// Rows POS-16. A box that was off over a night and a day, or is new, hears of what was sold today before it opens the day.
#[test]
fn what_siblings_sold_before_this_box_opened_the_day_counts() {
    for (limit, reason) in limits() {
        for is_given_back in [false, true] {
            let (_hub, mut edge, mut sibling) = pair(limit.clone());
            assert_eq!(approved(&edge.buy(1, 500)), Fen(500), "it opens its day");
            let later_ms = 49 * HOUR_MS as u64;
            edge.mono_ms += later_ms;
            sibling.mono_ms += later_ms;
            assert_eq!(approved(&sibling.buy(101, 5_000)), Fen(5_000));
            if is_given_back {
                correct(&mut sibling, 102, 101, None);
            }
            // Its program starts, and hears its sibling before it may write.
            edge.edge = Edge::load(&edge.store, edge.edge.mesh.me, edge.edge.mesh.place).unwrap().started(None);
            sibling.feed_to(Channel::Journal, &mut edge);
            assert_eq!(edge.run(Command::Asked { hub: false }), Reply::Done);
            match edge.buy(2, 500) {
                Answer::Refused(refused) => assert!(!is_given_back && refused == reason, "{refused:?}, not {reason:?}"),
                answer => assert!(is_given_back, "{answer:?} under {reason:?}"),
            }
        }
    }
}

/// A new box with a guest pool, to which nobody has told the time, and so many sales a day and person.
fn unconfirmed(hub: &mut HubVoice, sibling: &mut Box_, times_per_day: u8) -> Box_ {
    let mut edge = Box_::new(1, 1);
    edge.wall_ms = NOON_MS;
    edge.run(Command::TrustHub(node_record(HUB, None)));
    for run in hub.registry() {
        assert!(matches!(edge.run(Command::Ingest(run.into())), Reply::Stored(..)));
    }
    edge.put_person();
    let limits = vec![Limit { times_per_day, ..NONE }];
    let limited = TariffSheet { version: TariffVersion(3), limits, ..sheet() };
    let tariff = hub.say(Channel::Registry, vec![Body::Tariff(Box::new(limited))]);
    for which in [&mut edge, sibling] {
        assert!(matches!(which.run(Command::Ingest(tariff.clone().into())), Reply::Stored(..)));
    }
    let row = Row { person: PersonId(0), wallet: WalletKey::Guest };
    let pool = Body::Grant(GrantRecord { row, total: Fen(10_000), last_day: None, basis: None, lease: None });
    edge.run(Command::Ingest(hub.say(Channel::Rights(edge_writer(1)), vec![pool]).into()));
    edge
}

/// Rows POS-16. A new box lends from its pool while nobody has confirmed its clock; what its sibling sold counts, before the
/// first day is opened and after it.
#[test]
fn what_siblings_sold_counts_while_nobody_has_confirmed_the_clock() {
    let mut hub = HubVoice::default();
    let mut sibling = Box_::ready(2, 1, &mut hub);
    sibling.run(Command::Ingest(hub.grant(edge_writer(2), 20_000).into()));
    let mut edge = unconfirmed(&mut hub, &mut sibling, 3);
    assert_eq!(approved(&sibling.buy(101, 500)), Fen(500));
    assert_eq!(approved(&sibling.buy(102, 500)), Fen(500));
    sibling.feed_to(Channel::Journal, &mut edge);
    assert_eq!(approved(&edge.buy(1, 500)), Fen(500), "the third");
    assert_eq!(edge.buy(2, 500), Answer::Refused(Reason::OverDayTimes));
    correct(&mut sibling, 103, 102, None);
    sibling.feed_to(Channel::Journal, &mut edge);
    assert_eq!(approved(&edge.buy(3, 500)), Fen(500), "one was given back");
    edge.run(Command::Ingest(hub.say(Channel::Receipts(NodeId(1)), vec![Body::Time(NOON_MS)]).into()));
    assert_eq!(edge.buy(4, 500), Answer::Refused(Reason::OverDayTimes), "all of it counts on");
    correct(&mut sibling, 104, 101, None);
    sibling.feed_to(Channel::Journal, &mut edge);
    assert_eq!(approved(&edge.buy(5, 500)), Fen(500), "and once");
    assert_eq!(edge.buy(6, 500), Answer::Refused(Reason::OverDayTimes));
}

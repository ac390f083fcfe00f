//! What a box does where something has grown to its bound or comes to sums that cannot be: it goes on, and says so.

use super::*;
use yika_crdt::gate::{APPEND_HELD_MAX, HELD_ENTRIES_MAX, Shut};
use yika_crdt::rights::COUNTERPARTS_MAX;
use yika_crdt::sale::prune::{self, KEEP_DAYS};

fn journal_of(edge: &Box_) -> Vec<Body> {
    let journal = FeedId { writer: edge.edge.mesh.me, channel: Channel::Journal };
    let entries = edge.store.entries(&journal, Seq(1), usize::MAX).unwrap();
    entries.iter().map(|bytes| Entry::decode(bytes).unwrap().body).collect()
}

fn alarms_of(edge: &Box_, kind: &str) -> Vec<String> {
    let alarm = |body| match body {
        Body::Alarm(alarm) if alarm.kind == kind => Some(alarm.detail),
        _ => None,
    };
    journal_of(edge).into_iter().filter_map(alarm).collect()
}

#[test]
fn a_row_with_cheques_to_as_many_boxes_as_it_may_have_is_still_given_back() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 1_000).into()));
    let receivers = 100..=100 + COUNTERPARTS_MAX as u32;
    let boxes = receivers.clone().map(|n| Body::Node(node_record(edge_writer(n), Some(CampusId(2)))));
    edge.run(Command::Ingest(hub.say(Channel::Registry, boxes.collect()).into()));
    let row = Row { person: PERSON, wallet: WalletKey::Main };
    let given = receivers.map(|n| edge.run(Command::Ask { from: edge_writer(n), row, total: Fen(1) }));
    let given: Vec<_> = given.collect();
    assert_eq!(given[..COUNTERPARTS_MAX], vec![Reply::Granted(true); COUNTERPARTS_MAX]);
    assert_eq!(given[COUNTERPARTS_MAX..], [Reply::Granted(false)], "no further receiver");
    assert_eq!(edge.run(Command::Recall { row, keep: Fen(100) }), Reply::Granted(true));
    assert_eq!(approved(&edge.buy(1, 100)), Fen(100));
    assert_eq!(edge.buy(2, 1), Answer::Refused(Reason::NotEnough), "the rest went back");
}

/// Two sales of one run that come to more than there can be.
#[test]
fn entries_set_aside_for_impossible_sums_are_told_once_for_a_run() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    let mut sibling = Box_::ready(2, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 1_000).into()));
    for seq in [1, 2] {
        assert_eq!(approved(&edge.buy(seq, 400)), Fen(400));
    }
    let day = match &journal_of(&edge)[..] {
        [.., Body::Purchase(sale)] => sale.day,
        other => panic!("{other:?}"),
    };
    let meals = std::collections::BTreeMap::<u8, (Fen, u32)>::new();
    let last: Option<yika_crdt::tariff::Tap> = None;
    let counters = vec![(day, Fen(i64::MAX - 100), 0u32, meals, Fen::ZERO, last)];
    let mut tx = Tx::new(&sibling.store);
    tx.put(yika_crdt::keys::counters(PERSON), &counters);
    let batch = tx.into_batch();
    sibling.store.commit(&batch).unwrap();
    assert!(matches!(edge.feed_to(Channel::Journal, &mut sibling), Reply::Stored(..)));
    assert_eq!(sibling.edge.mesh.quarantined, 2);
    let told = alarms_of(&sibling, "quarantine");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("n1@1.1") && told[0].ends_with("(and 1 more)"), "{told:?}");
    sibling.run(Command::Tick);
    assert_eq!(alarms_of(&sibling, "quarantine").len(), 1, "not again and again");
}

#[test]
fn totals_that_differ_keep_the_own_journal_and_let_the_siblings_copy_go() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    let mut sibling = Box_::ready(2, 1, &mut hub);
    for which in [&mut edge, &mut sibling] {
        let grant = hub.grant(which.edge.mesh.me, 1_000);
        which.run(Command::Ingest(grant.into()));
        which.buy(1, 100);
        which.mono_ms += 24 * HOUR_MS as u64;
        which.run(Command::Tick);
    }
    let is_cut = |body: &Body| matches!(body, Body::Cut(_));
    assert!(journal_of(&edge).iter().any(is_cut) && journal_of(&sibling).iter().any(is_cut), "both cut");
    assert!(matches!(sibling.feed_to(Channel::Journal, &mut edge), Reply::Stored(..)));
    let me = edge.edge.mesh.me;
    let mut tx = Tx::new(&edge.store);
    let cuts = tx.scan(&yika_crdt::keys::cuts(me), None, 8).unwrap();
    let (key, bytes) = cuts.last().unwrap();
    let (day, _, _): (Day, Seq, Option<yika_crdt::tally::Tally>) = yika_crdt::store::decode_row(key, bytes).unwrap();
    let other = yika_crdt::tally::TotalsSum::default().at(Seq(9_999));
    tx.put(yika_crdt::keys::tally(me.incarnation, day), &other);
    let differing = prune::prune(&edge.edge.mesh, &mut tx, Day(day.0 + 1 + 2 * KEEP_DAYS)).unwrap();
    assert_eq!(differing, Some(day));
    let let_go: Vec<_> = tx.into_batch().prune.into_keys().collect();
    assert_eq!(let_go, [FeedId { writer: edge_writer(2), channel: Channel::Journal }]);
}

/// What is not kept must not be answered as kept: the journal of the doors counts it as lost.
#[test]
fn what_finds_no_room_at_the_gate_is_refused() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    let (me, place) = (edge.edge.mesh.me, edge.edge.mesh.place);
    edge.edge = Edge::load(&edge.store, me, place).unwrap().started(Some(Shut::Asking));
    let note = || Command::Alarm(AlarmRecord { kind: "test".into(), detail: String::new() });
    assert_eq!(edge.run(note()), Reply::Done);
    let (_, kept) = edge.store.scan(yika_crdt::keys::HELD, None, 1).unwrap().remove(0);
    let mut tx = Tx::new(&edge.store);
    (0..HELD_ENTRIES_MAX - 1).for_each(|number| tx.put_bytes(yika_crdt::keys::held(number), kept.clone()));
    let batch = tx.into_batch();
    edge.store.commit(&batch).unwrap();
    assert_eq!(edge.run(note()), Reply::Done, "the last that has room");
    assert_eq!(edge.run(note()), Reply::Shut(Shut::Asking));
    let held = edge.store.scan(yika_crdt::keys::HELD, None, usize::MAX).unwrap();
    assert_eq!(held.len() as u64, HELD_ENTRIES_MAX);
}

#[test]
fn what_waited_at_the_gate_is_appended_in_order_and_in_portions() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    let (me, place) = (edge.edge.mesh.me, edge.edge.mesh.place);
    edge.edge = Edge::load(&edge.store, me, place).unwrap().started(Some(Shut::Asking));
    let note = |number: usize| {
        let detail = number.to_string();
        Command::Alarm(AlarmRecord { kind: "test".into(), detail })
    };
    let waiting = 2 * APPEND_HELD_MAX + 10;
    (0..waiting).for_each(|number| _ = edge.run(note(number)));
    assert_eq!(alarms_of(&edge, "test").len(), 0);
    let purchase = || Command::Purchase { request: request(TerminalId(10), 1, 100), may_ask: false };
    for portion in 1..=2 {
        assert_eq!(edge.run(Command::Asked { hub: true }), Reply::More);
        assert_eq!(alarms_of(&edge, "test").len(), portion * APPEND_HELD_MAX, "no more than a portion in a turn");
        assert_eq!(edge.run(purchase()), Reply::Shut(Shut::Opening), "nothing comes between");
        edge.run(note(waiting + portion - 1));
    }
    // A power cut in the middle: asked again, the rest follows where it stopped.
    edge.edge = Edge::load(&edge.store, me, place).unwrap().started(Some(Shut::Asking));
    edge.run(note(waiting + 2));
    assert_eq!(edge.run(Command::Asked { hub: true }), Reply::Done);
    let expected: Vec<_> = (0..waiting + 3).map(|number| number.to_string()).collect();
    assert!(alarms_of(&edge, "test") == expected, "each once, in its order");
    assert!(matches!(edge.run(purchase()), Reply::Outcome(_)));
    assert_eq!(edge.store.scan(yika_crdt::keys::HELD, None, 1).unwrap(), []);
}

/// Headquarters was put back, and its clock with it, to before a life that this box has met: what it is asked for goes to
/// the life that asks, as nobody else knows of the other one.
#[test]
fn what_is_called_back_goes_to_the_life_of_headquarters_that_asks() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 1_000).into()));
    let life = |generation, counter| Writer { incarnation: Incarnation { generation, counter }, ..HUB };
    for met in [life(6, 200), life(6, 100)] {
        edge.run(Command::TrustHub(node_record(met, None)));
    }
    let row = Row { person: PERSON, wallet: WalletKey::Main };
    assert_eq!(edge.run(Command::Recall { row, keep: Fen(100) }), Reply::Granted(true));
    let to = |counter| FeedId { writer: edge_writer(1), channel: Channel::Rights(life(6, counter)) };
    let told = [100, 200].map(|counter| edge.store.feed(&to(counter)).unwrap().end.seq);
    assert_eq!(told, [Seq(1), Seq::ZERO]);
}

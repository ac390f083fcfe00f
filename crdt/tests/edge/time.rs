//! What a box makes of headquarters' word on the time.

use super::*;

fn shown(edge: &Box_) -> i64 {
    edge.edge.clock().now_ms(Ticks { boot: 1, mono_ms: edge.mono_ms, wall_ms: 0 })
}

/// What headquarters said of the time before the line broke comes after it, and what it says then is under way for a while:
/// neither turns a box back, and a box that is ahead is set right.
#[test]
fn a_late_word_on_the_time_turns_no_box_back() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    let receipts = Channel::Receipts(NodeId(1));
    let before = shown(&edge);
    // Said, and then the line breaks for an hour.
    let late = hub.say(receipts, vec![Body::Time(before + 1)]);
    edge.mono_ms += HOUR_MS as u64;
    edge.run(Command::TrustHub(node_record(HUB, None)));
    edge.run(Command::HubGreeted { life: HUB, said: late.head.end.seq });
    let hour_later = shown(&edge);
    edge.run(Command::Ingest(late.into()));
    assert!(shown(&edge) >= hour_later && hour_later >= before + HOUR_MS, "turned back by an hour");
    // Of this connection, and two seconds under way.
    let fresh = hub.say(receipts, vec![Body::Time(hour_later)]);
    edge.mono_ms += 2_000;
    let then = shown(&edge);
    edge.run(Command::Ingest(fresh.into()));
    assert!(shown(&edge) >= then, "turned back by what was under way");
    // Far ahead of headquarters: as an operator's wrong word leaves it.
    edge.run(Command::ConfirmTime { hub_time_ms: then + 50 * HOUR_MS, operator: OperatorId(1) });
    let right = hub.say(receipts, vec![Body::Time(then)]);
    edge.run(Command::Ingest(right.into()));
    assert!(shown(&edge) < then + HOUR_MS, "not set right");
}

/// A line that holds for months says nothing of how long a word was under way on it: the newest entry that headquarters held
/// before the word does, and the fast clock of the box is set right by all but that.
#[test]
fn a_fast_clock_is_set_right_on_a_line_that_holds() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    let receipts = Channel::Receipts(NodeId(1));
    edge.run(Command::TrustHub(node_record(HUB, None)));
    edge.run(Command::HubGreeted { life: HUB, said: hub.ends[&FeedId { writer: HUB, channel: receipts }].seq });
    let began = shown(&edge);
    let journal = FeedId { writer: edge_writer(1), channel: Channel::Journal };
    let held = |edge: &Box_| ReceiptRecord {
        incarnation: LIFE,
        held: edge.store.feed(&journal).unwrap().end.seq,
        archived: Seq::ZERO,
    };
    // Thirty days, of which its clock makes an hour more; then its day is cut, and headquarters hears of it at once.
    edge.mono_ms += 30 * 24 * HOUR_MS as u64 + HOUR_MS as u64;
    edge.run(Command::Act(ActRecord { operator: OperatorId(1), act: "look".into(), detail: String::new() }));
    let right_ms = began + 30 * 24 * HOUR_MS;
    let word = hub.say(receipts, vec![Body::Receipt(held(&edge)), Body::Time(right_ms)]);
    edge.run(Command::Ingest(word.into()));
    let off_ms = shown(&edge) - right_ms;
    assert!((0..=20_000).contains(&off_ms), "{off_ms} ms off");
    // What was long under way turns it back no more than before: nothing that headquarters holds is newer.
    let word = hub.say(receipts, vec![Body::Receipt(held(&edge)), Body::Time(right_ms + 1_000)]);
    edge.mono_ms += HOUR_MS as u64;
    let before = shown(&edge);
    edge.run(Command::Ingest(word.into()));
    assert!(shown(&edge) >= before, "turned back by an hour");
}

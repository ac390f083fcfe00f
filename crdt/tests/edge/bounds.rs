//! What a box does where something has grown to its bound or comes to sums that cannot be: it goes on, and says so.

use super::*;
use yika_crdt::rights::COUNTERPARTS_MAX;
use yika_crdt::sale::prune::{self, KEEP_DAYS};

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

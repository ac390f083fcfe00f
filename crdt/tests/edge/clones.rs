//! A database put back from a copy, a box whose key is used twice: nothing is spent from an older state.

use super::*;
use yika_crdt::gate::{OwnEnds, Shut};
use yika_crdt::store::Read;

const JOURNAL: FeedId = FeedId { writer: Writer { node: NodeId(1), incarnation: LIFE }, channel: Channel::Journal };

impl Box_ {
    /// The same box on a copy of its store, as a restore or a clone starts it.
    fn from_copy(of: &Box_, found: Option<Shut>) -> Box_ {
        let store = of.store.clone();
        let edge = Edge::load(&store, of.edge.mesh.me, of.edge.mesh.place).unwrap().started(found);
        let mut copy = Box_ { store, edge, mono_ms: of.mono_ms, wall_ms: of.wall_ms };
        copy.put_person();
        copy
    }

    fn ends(&self) -> OwnEnds {
        OwnEnds::of([(Channel::Journal, self.store.feed(&JOURNAL).unwrap().end)])
    }

    /// What this box holds of the journal of box 1, as it would be sent on.
    fn journal_from(&self, from: Seq) -> Run {
        let entries = self.store.entries(&JOURNAL, from, usize::MAX).unwrap();
        let end = self.store.feed(&JOURNAL).unwrap().end;
        Run { from, entries, head: SignedHead::sign(JOURNAL, end, &key_of(NodeId(1))) }
    }

    fn journal_bodies(&self) -> Vec<Body> {
        let entries = self.store.entries(&JOURNAL, Seq(1), usize::MAX).unwrap();
        entries.iter().map(|bytes| Entry::decode(bytes).unwrap().body).collect()
    }
}

fn purchase(seq: u32, fen: i64) -> Command {
    Command::Purchase { request: request(TerminalId(10), seq, fen), may_ask: false }
}

fn door_record() -> DoorRecord {
    let event = DoorEvent::Button;
    DoorRecord { door: DoorId(1), terminal: None, card: None, person: None, event, at_ms: NOON_MS, time_trusted: true }
}

/// A box with 1,000 fen of right that has sold one meal for 300, and its sibling.
fn sold_once() -> (HubVoice, Box_, Box_) {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    let mut sibling = Box_::ready(2, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 1000).into()));
    edge.buy(1, 300);
    edge.feed_to(Channel::Journal, &mut sibling);
    (hub, edge, sibling)
}

#[test]
fn a_database_put_back_spends_nothing_until_the_sibling_has_given_back_the_rest() {
    let (_hub, mut edge, mut sibling) = sold_once();
    let yesterday = Box_::from_copy(&edge, None);
    let second = edge.buy(2, 200);
    edge.run(refund(3, 1, RefundKind::Correction, Some(100)));
    edge.feed_to(Channel::Journal, &mut sibling);

    let mut back = Box_::from_copy(&yesterday, Some(Shut::Behind(edge.ends())));
    let behind = Reply::Shut(Shut::Behind(edge.ends()));
    assert_eq!(back.run(purchase(4, 1000)), behind);
    assert_eq!(back.run(Command::Asked { hub: true }), behind, "nobody has given back anything yet");
    let door = door_record();
    assert_eq!(back.run(Command::Door(door.clone())), Reply::Done, "doors go on");
    assert_eq!(back.ends(), yesterday.ends(), "and write nothing on top of the old end");

    let held = yesterday.ends().journal.seq;
    let run = sibling.journal_from(held.next());
    assert_eq!(back.run(Command::Ingest(run.into())), Reply::Stored(JOURNAL, edge.ends().journal.seq));
    let (reply, effects) = back.handle(Command::Asked { hub: false });
    assert_eq!(reply, Reply::Done);
    assert!(effects.contains(&Effect::Gate(None)));
    assert_eq!(back.journal_bodies().last(), Some(&Body::Door(door)), "what waited is journaled after it");
    assert_eq!(back.buy(2, 200), second, "the first answer again");
    let repeated = back.run(refund(3, 1, RefundKind::Correction, Some(100)));
    assert!(matches!(repeated, Reply::Answer(Answer::Refunded(_))), "{repeated:?}");
    assert_eq!(back.buy(5, 601), Answer::Refused(Reason::NotEnough), "1,000 less 300 less 200, 100 given back");
    assert_eq!(approved(&back.buy(6, 600)), Fen(600));
    let again = back.run(refund(7, 1, RefundKind::Correction, Some(201)));
    assert_eq!(again, Reply::Answer(Answer::Refused(Reason::OverRefund)), "what was given back is remembered");
}

#[test]
fn a_box_that_has_lost_the_file_beside_its_key_waits_for_the_hub() {
    let (_hub, edge, _) = sold_once();
    let mut back = Box_::from_copy(&edge, Some(Shut::Unsure));
    assert_eq!(back.run(Command::Asked { hub: false }), Reply::Shut(Shut::Unsure));
    assert_eq!(back.run(purchase(2, 100)), Reply::Shut(Shut::Unsure));
    assert_eq!(back.run(Command::Asked { hub: true }), Reply::Done);
    assert_eq!(approved(&back.buy(2, 100)), Fen(100));
}

/// Rows ORG-1, POS-4.
#[test]
fn a_box_that_hears_of_its_fence_sells_nothing_more() {
    let (mut hub, mut edge, _) = sold_once();
    assert_eq!(approved(&edge.buy(2, 100)), Fen(100));
    let mut by_the_registry = Box_::from_copy(&edge, None);
    assert_eq!(by_the_registry.run(Command::Asked { hub: true }), Reply::Done);
    assert_eq!(edge.run(Command::Fenced), Reply::Done, "said by headquarters on the line");
    assert_eq!(edge.run(purchase(3, 100)), Reply::Shut(Shut::Fenced));
    assert_eq!(edge.run(Command::Asked { hub: true }), Reply::Shut(Shut::Fenced), "for ever");
    edge.restart();
    assert_eq!(edge.run(purchase(3, 100)), Reply::Shut(Shut::Fenced), "also after a restart");

    let (last, granted) = (Vec::new(), Vec::new());
    let fence = FenceRecord { writer: edge_writer(1), reason: "lost".into(), last, granted };
    let run = hub.say(Channel::Registry, vec![Body::Fence(fence)]);
    by_the_registry.run(Command::Ingest(run.into()));
    assert_eq!(by_the_registry.run(purchase(3, 100)), Reply::Shut(Shut::Fenced));
}

#[test]
fn two_boxes_with_one_key_are_noticed_by_the_second_and_by_the_sibling() {
    let (_hub, mut edge, mut sibling) = sold_once();
    let mut clone = Box_::from_copy(&edge, None);
    assert_eq!(clone.run(Command::Asked { hub: false }), Reply::Done);
    edge.buy(2, 100);
    clone.buy(2, 700);
    edge.feed_to(Channel::Journal, &mut sibling);

    let theirs = sibling.journal_from(clone.ends().journal.seq);
    let refused = clone.run(Command::Ingest(theirs.into()));
    assert!(matches!(refused, Reply::Refused(_)), "{refused:?}");
    assert_eq!(clone.run(purchase(3, 100)), Reply::Shut(Shut::Forked));
    assert_eq!(clone.run(Command::Asked { hub: true }), Reply::Shut(Shut::Forked), "for ever");
    clone.restart();
    assert_eq!(clone.run(purchase(3, 100)), Reply::Shut(Shut::Forked), "also after a restart");

    let head = SignedHead::sign(JOURNAL, clone.ends().journal, &key_of(NodeId(1)));
    let (_, effects) = sibling.handle(Command::Diverged(head.clone()));
    assert!(effects.contains(&Effect::Forked(JOURNAL)), "{effects:?}");
    let (_, effects) = sibling.handle(Command::Diverged(head));
    assert!(!effects.contains(&Effect::Forked(JOURNAL)), "told once");
    assert_eq!(approved(&edge.buy(4, 100)), Fen(100), "the box whose branch the others hold goes on");
}

/// Whoever passes on another branch does so run by run: those after the first leave a gap, and are no offence either.
///
/// Rows NFR-1.
#[test]
fn every_run_of_another_branch_is_refused_as_one() {
    let (_hub, mut edge, mut sibling) = sold_once();
    let mut clone = Box_::from_copy(&edge, None);
    clone.run(Command::Asked { hub: false });
    edge.buy(2, 100);
    edge.feed_to(Channel::Journal, &mut sibling);
    clone.buy(2, 700);
    let next = clone.ends().journal.seq.next();
    clone.buy(3, 100);
    let first = clone.journal_from(next);
    let after = clone.ends().journal.seq.next();
    clone.buy(4, 100);
    for run in [first, clone.journal_from(after)] {
        let from = run.from;
        match sibling.run(Command::Ingest(run.into())) {
            Reply::Refused(refused) => assert!(refused.is_fork(), "{from}: {refused}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_longer_branch_proves_the_fork_as_well_and_an_honest_head_proves_nothing() {
    let (_hub, mut edge, mut sibling) = sold_once();
    let mut clone = Box_::from_copy(&edge, None);
    clone.run(Command::Asked { hub: false });
    clone.buy(2, 700);
    let shorter = SignedHead::sign(JOURNAL, clone.ends().journal, &key_of(NodeId(1)));
    for seq in 2..5 {
        edge.buy(seq, 100);
        edge.feed_to(Channel::Journal, &mut sibling);
    }
    let honest = SignedHead::sign(JOURNAL, edge.ends().journal, &key_of(NodeId(1)));
    assert!(!sibling.handle(Command::Diverged(honest.clone())).1.contains(&Effect::Forked(JOURNAL)));
    assert_eq!(edge.run(Command::Diverged(honest)), Reply::Done);
    assert!(sibling.handle(Command::Diverged(shorter.clone())).1.contains(&Effect::Forked(JOURNAL)));
    edge.run(Command::Diverged(SignedHead { signature: feed::SignatureBytes([7; 64]), ..shorter }));
    assert_eq!(approved(&edge.buy(9, 100)), Fen(100), "a head that this key has not signed stops nobody");
}

/// The newest head of this box's own says nothing of entries that are not its: what a lying peer shows stops nobody.
#[test]
fn a_head_of_its_own_over_rubbish_is_no_fork() {
    let (_hub, mut edge, _sibling) = sold_once();
    let yesterday = Box_::from_copy(&edge, None);
    let held = yesterday.ends().journal.seq;
    edge.buy(2, 100);
    edge.buy(3, 100);
    let whole = edge.journal_from(Seq(1));
    let mut back = Box_::from_copy(&yesterday, Some(Shut::Behind(edge.ends())));
    let rubbish = |from: Seq| {
        let mut entries = whole.entries[from.0 as usize - 1..].to_vec();
        *entries.last_mut().unwrap() = b"rubbish".to_vec();
        Command::Ingest(Run { from, entries, head: whole.head.clone() }.into())
    };
    assert_eq!(back.run(rubbish(held.next())), Reply::Branch { feed: JOURNAL, from: Seq(1) }, "more is wanted");
    assert!(matches!(back.run(rubbish(Seq(1))), Reply::Refused(_)), "and that was all");
    assert_ne!(back.edge.shut(), Some(Shut::Forked));
    let rest = edge.journal_from(held.next());
    assert_eq!(back.run(Command::Ingest(rest.into())), Reply::Stored(JOURNAL, edge.ends().journal.seq));
    back.run(Command::Asked { hub: false });
    assert_eq!(back.edge.shut(), None, "what it wrote itself is taken back");
}

#[test]
fn a_branch_that_began_before_what_is_shown_is_asked_for_and_proves_the_fork() {
    let (_hub, mut edge, _sibling) = sold_once();
    let mut clone = Box_::from_copy(&edge, None);
    clone.run(Command::Asked { hub: false });
    clone.buy(2, 700);
    edge.buy(2, 100);
    edge.buy(3, 100);
    let late = edge.journal_from(clone.ends().journal.seq.next());
    assert_eq!(clone.run(Command::Ingest(late.into())), Reply::Branch { feed: JOURNAL, from: Seq(1) });
    assert_eq!(clone.edge.shut(), None);
    let whole = edge.journal_from(Seq(1));
    assert!(matches!(clone.run(Command::Ingest(whole.into())), Reply::Refused(_)));
    assert_eq!(clone.run(purchase(3, 100)), Reply::Shut(Shut::Forked));
}

/// Peers hand back in the pieces in which they were told; a box that has pruned cannot judge every piece, and one head
/// alone, which this box signed itself, shows no other branch.
#[test]
fn pieces_of_its_own_past_are_no_fork_also_after_pruning() {
    use yika_crdt::store::{Store, Tx};
    for pruned in [false, true] {
        let (_hub, mut edge, _sibling) = sold_once();
        if pruned {
            let mut tx = Tx::new(&edge.store);
            tx.prune(JOURNAL, Seq(1));
            let batch = tx.into_batch();
            edge.store.commit(&batch).unwrap();
        }
        let yesterday = Box_::from_copy(&edge, None);
        let held = yesterday.ends().journal.seq;
        edge.buy(2, 100);
        let first = edge.journal_from(held.next());
        edge.buy(3, 100);
        let whole = edge.journal_from(held.next());
        let mut back = Box_::from_copy(&yesterday, Some(Shut::Behind(edge.ends())));
        let head_alone = Run { from: held.next(), entries: Vec::new(), head: whole.head.clone() };
        for run in [head_alone, whole, first] {
            back.run(Command::Ingest(run.into()));
            assert_ne!(back.edge.shut(), Some(Shut::Forked), "pruned: {pruned}");
        }
        back.run(Command::Asked { hub: true });
        assert_eq!(back.edge.shut(), None, "pruned: {pruned}");
    }
}

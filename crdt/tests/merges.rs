//! Laws of everything that is merged by itself: in any order, in any grouping, any number of times, the same comes out.
//! Where: rights rows `src/rights.rs`, blocks and lifts `src/people.rs`, documents `src/docs/tests_random.rs`, tallies
//! `src/tally.rs`; a whole box's rows under any order of its peers' feeds `edge/merges.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use proptest::prelude::*;
use yika_crdt::answered::Answered;
use yika_crdt::channel::{BlockScope, Channel, FeedId, Place};
use yika_crdt::entry::FenceRecord;
use yika_crdt::feed::{End, Hash};
use yika_crdt::ids::{CampusId, Incarnation, NodeId, Seq, Writer};
use yika_crdt::sync::{Claim, Message, PeerSync};

fn life(counter: u32) -> Incarnation {
    Incarnation { generation: 1, counter }
}

fn writer(node: u32) -> Writer {
    Writer { node: NodeId(node), incarnation: life(1) }
}

const CHANNELS: [Channel; 4] = [
    Channel::Journal,
    Channel::People(CampusId(1)),
    Channel::Campus(CampusId(1)),
    Channel::Blocks(BlockScope::Campus(CampusId(1))),
];

/// A fence as some life of headquarters would set it: each channel and each of its lives once.
fn a_fence() -> impl Strategy<Value = FenceRecord> {
    let ends = prop::collection::btree_map(0usize..4, (0u64..4, 0u8..3), 0..4);
    let granted = prop::collection::btree_map(1u32..4, 0u64..4, 0..3);
    (ends, granted, "[ab]{0,2}").prop_map(|(ends, granted, reason)| FenceRecord {
        writer: writer(1),
        last: ends
            .into_iter()
            .map(|(n, (seq, hash))| (CHANNELS[n], End { seq: Seq(seq), hash: Hash([hash; 32]) }))
            .collect(),
        granted: granted.into_iter().map(|(n, seq)| (life(n), Seq(seq))).collect(),
        reason,
    })
}

/// Ascending as the merge leaves them, whatever the order in which they were said.
fn in_order(fence: &FenceRecord) -> FenceRecord {
    fence.merge(fence)
}

fn answered(seqs: &[u32]) -> Answered {
    let mut answered = Answered::default();
    seqs.iter().for_each(|seq| answered.add(*seq));
    answered
}

fn together(one: &Answered, other: &Answered) -> Answered {
    let mut both = one.clone();
    both.merge(other);
    both
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Two lives of headquarters fence one box, and a third hears of it in any way.
    #[test]
    fn fences_of_one_life_merge(a in a_fence(), b in a_fence(), c in a_fence()) {
        prop_assert_eq!(a.merge(&b), b.merge(&a));
        prop_assert_eq!(a.merge(&b).merge(&c), a.merge(&b.merge(&c)));
        prop_assert_eq!(a.merge(&b).merge(&b), a.merge(&b));
        prop_assert_eq!(in_order(&a).merge(&in_order(&a)), in_order(&a));
    }

    /// As long as a terminal leaves fewer gaps than are kept.
    #[test]
    fn answered_numbers_merge(
        a in prop::collection::vec(0u32..60, 0..20),
        b in prop::collection::vec(0u32..60, 0..20),
        c in prop::collection::vec(0u32..60, 0..20),
    ) {
        let (a, b, c) = (answered(&a), answered(&b), answered(&c));
        prop_assert_eq!(together(&a, &b), together(&b, &a));
        prop_assert_eq!(together(&together(&a, &b), &c), together(&a, &together(&b, &c)));
        prop_assert_eq!(together(&together(&a, &b), &b), together(&a, &b));
    }

    /// With more gaps than are kept, nothing that was answered is forgotten, and it stays small.
    #[test]
    fn answered_numbers_are_never_forgotten(
        a in prop::collection::vec(0u32..2_000, 0..150),
        b in prop::collection::vec(0u32..2_000, 0..150),
        edge in prop::sample::select(vec![0, 1, u32::MAX - 1, u32::MAX]),
    ) {
        let mut both = together(&answered(&a), &answered(&b));
        both.add(edge);
        prop_assert!(both.is_well_formed());
        prop_assert!(a.iter().chain(&b).chain([&edge]).all(|seq| both.contains(*seq)));
    }

    /// What a peer says that it has stored: older words and repetitions change nothing.
    #[test]
    fn marks_of_a_peer_merge(
        marks in prop::collection::vec((0usize..4, 0u64..20), 0..30),
        greeted in 0u64..20,
        order in any::<u64>(),
    ) {
        let feed = |n: usize| FeedId { writer: writer(1), channel: CHANNELS[n] };
        let heard = |marks: &[(usize, u64)]| {
            let hub = Place { node: NodeId::HUB, campus: None };
            let mut peer = PeerSync::new(writer(1), hub, writer(0));
            let claim = Claim { feed: feed(0), end: End { seq: Seq(greeted), hash: Hash([1; 32]) }, signature: None };
            let software = String::new();
            let hello = Message::Hello { writer: writer(0), kind_newest: 2, software, have: vec![claim], more: false };
            peer.on_greeting(&hello).unwrap();
            marks.iter().for_each(|(n, seq)| peer.on_stored(&[(feed(*n), Seq(*seq))]));
            (0..4).map(|n| peer.stored(&feed(n))).collect::<Vec<_>>()
        };
        let mut other: Vec<(usize, u64)> = marks.iter().chain(&marks).copied().collect();
        other.sort_by_key(|(n, seq)| (*n as u64 * 31 + seq).wrapping_mul(order | 1));
        prop_assert_eq!(heard(&marks), heard(&other));
        let most = |n: usize| marks.iter().filter(|(of, _)| *of == n).map(|(_, seq)| *seq).max().unwrap_or(0);
        let model: Vec<Seq> = (0..4).map(|n| Seq(most(n).max(if n == 0 { greeted } else { 0 }))).collect();
        prop_assert_eq!(heard(&marks), model);
    }
}

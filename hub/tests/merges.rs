//! What boxes say to a restored headquarters of how far they hold its feeds and their own: as long as it waits, the newest word
//! of each box counts, whatever the order in which boxes come, and however often they come.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod harness;

use harness::*;
use proptest::prelude::*;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::feed::{self, End, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::store::Read;
use yika_crdt::sync::Claim;
use yika_hub::core;

/// A headquarters that was restored and has not heard any of its three boxes.
fn restored() -> World {
    let mut world = World::new(&[1, 1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(SECOND_MS);
    world.cut_all(true);
    assert_eq!(world.order(core::Command::Restored), core::Reply::Done);
    world
}

/// A claim of so many entries, signed by somebody.
fn claim(feed: FeedId, seq: u64, by: u32) -> Claim {
    let end = End { seq: Seq(seq), hash: feed::digest("test", &seq.to_be_bytes()) };
    Claim { feed, end, signature: Some(SignedHead::sign(feed, end, &key_of(NodeId(by))).signature) }
}

/// What a box says: some kind of claim.
fn greeting(node: u32, kind: u8) -> core::Command {
    let writer = |node| Writer { node: NodeId(node), incarnation: LIFE };
    let journal = |node| FeedId { writer: writer(node), channel: Channel::Journal };
    let sibling = 3 - node.min(2);
    let have = match kind {
        0 => Vec::new(),
        1 => vec![claim(journal(sibling), 10_000, sibling)],
        2 => vec![claim(journal(node), 9_000, node)],
        3 => vec![claim(journal(99), 8_000, 99)],
        4 => vec![claim(FeedId { writer: HUB, channel: Channel::Registry }, 7_000, 0)],
        _ => vec![claim(journal(sibling), 10_000, node)],
    };
    core::Command::Greeted { from: writer(node), have }
}

/// For whom it waits after these words.
fn awaited(words: &[(u32, u8)]) -> (Vec<Writer>, bool) {
    let mut world = restored();
    words.iter().for_each(|(node, kind)| assert_eq!(world.order(greeting(*node, *kind)), core::Reply::Done));
    let awaited = world.hub.hub.awaited(|feed| Ok(world.hub.store.feed(feed)?.end.seq)).unwrap();
    (awaited, world.hub.hub.recovery().is_some())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn the_newest_word_of_each_box_counts_in_any_order(
        // The third box is never heard, so that it goes on waiting.
        words in prop::collection::vec((1u32..3, 0u8..6), 0..8),
        order in Just(vec![1u32, 2]).prop_shuffle(),
    ) {
        let newest = |node: &u32| words.iter().rev().find(|(of, _)| of == node).copied();
        let once: Vec<(u32, u8)> = order.iter().filter_map(newest).collect();
        let twice: Vec<(u32, u8)> = once.iter().flat_map(|word| [*word, *word]).collect();
        let model = awaited(&words);
        prop_assert_eq!(awaited(&once), model.clone());
        prop_assert_eq!(awaited(&twice), model);
    }
}

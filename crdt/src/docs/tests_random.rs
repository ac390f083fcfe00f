//! Documents among several writers, at random: any order, any repetition, any alteration.

// tests may panic
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::chunk::tests::chunk;
use super::tests::{SHARD, act, add, hear, persons, place, say, writer};
use super::*;
use crate::ids::{CardNumber, CategoryId, Day};
use crate::person::{CardState, PersonStatus};
use proptest::prelude::*;

fn an_act() -> impl Strategy<Value = Act> {
    let name = || {
        prop_oneof![
            Just("A".to_owned()),
            Just("B".to_owned()),
            Just("C".to_owned())
        ]
    };
    let card = || (1..4u64).prop_map(CardNumber);
    let what = prop_oneof![
        name().prop_map(|n| match add(1, &n).body {
            ActBody::People(mut acts) => acts.remove(0).1,
            _ => PersonAct::Remove,
        }),
        name().prop_map(PersonAct::SetName),
        (0..3u16).prop_map(|k| PersonAct::SetCategory(CategoryId(k))),
        Just(PersonAct::SetStatus(PersonStatus::Left)),
        (card(), 0..3i32)
            .prop_map(|(c, d)| PersonAct::SetCardValidity(c, (d > 0).then_some(Day(d)))),
        card().prop_map(|c| PersonAct::SetCardState(c, CardState::Active)),
        card().prop_map(PersonAct::RemoveCard),
        Just(PersonAct::Remove),
    ];
    (1..4u64, what).prop_map(|(person, what)| act(1, person, what))
}

/// What happens at three nodes: a node acts, or hears the next entry of another's feed (perhaps again).
#[derive(Clone, Debug)]
enum Step {
    Say(u32, Act),
    Hear { at: u32, of: u32, again: bool },
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3u32, an_act()).prop_map(|(node, act)| Step::Say(node, act)),
        (0..3u32, 0..3u32, any::<bool>()).prop_map(|(at, of, again)| Step::Hear { at, of, again }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_feeds_and_any_repetition_gives_the_same_plain_values(
        steps in proptest::collection::vec(a_step(), 1..60),
        order in proptest::collection::vec((0..3usize, any::<bool>()), 0..300),
    ) {
        let mut docs: Vec<Document> = (0..3).map(|_| Document::new(SHARD)).collect();
        let mut feeds: Vec<Vec<Vec<u8>>> = vec![Vec::new(); 3];
        let mut heard = [[0usize; 3]; 3];
        for step in steps {
            match step {
                Step::Say(node, act) => {
                    // A node never waits for itself; with nothing to say nothing is said.
                    if let Some((bytes, _)) = docs[node as usize].author(writer(node), &act, 0).unwrap() {
                        feeds[node as usize].push(bytes);
                    }
                }
                Step::Hear { at, of, again } if at != of => {
                    let next = &mut heard[at as usize][of as usize];
                    *next -= usize::from(again && *next > 0);
                    if let Some(bytes) = feeds[of as usize].get(*next) {
                        prop_assert!(hear(&mut docs[at as usize], of, bytes).is_ok());
                        *next += 1;
                    }
                }
                Step::Hear { .. } => {}
            }
        }
        // A stranger hears the three feeds interleaved at will, entries repeated, then all of it.
        let mut late = Document::new(SHARD);
        let mut at = [0usize; 3];
        for (of, again) in order.into_iter().chain((0..3).flat_map(|of| (0..99).map(move |_| (of, false)))) {
            let next = at[of] - usize::from(again && at[of] > 0);
            if let Some(bytes) = feeds[of].get(next) {
                prop_assert!(hear(&mut late, of as u32, bytes).is_ok());
                at[of] = at[of].max(next + 1);
            }
        }
        for (node, doc) in docs.iter_mut().enumerate() {
            for (of, feed) in feeds.iter().enumerate() {
                let entries: Vec<_> = feed.iter().map(|b| (writer(of as u32), place(of as u32), &b[..])).collect();
                let results = doc.take_all(&entries).unwrap();
                prop_assert!(results.each.iter().all(Result::is_ok), "at {} of {}", node, of);
            }
            prop_assert_eq!(doc.waiting().count(), 0);
            prop_assert_eq!(persons(doc), persons(&late));
        }
        let reopened = Document::open(SHARD, &late.save(), DocState::default()).unwrap();
        prop_assert_eq!(persons(&reopened), persons(&late));
        prop_assert_eq!(reopened.covered(), late.covered());
    }

    #[test]
    fn altered_changes_never_panic_and_never_half_apply(
        at in any::<usize>(), bit in 0..8u8, cut in any::<usize>(), resealed in any::<bool>(),
    ) {
        let (mut edge, mut peer) = (Document::new(SHARD), Document::new(SHARD));
        let first = say(&mut edge, 1, &add(7, "Li"));
        hear(&mut peer, 1, &first).unwrap();
        let mut bytes = say(&mut edge, 1, &act(2, 7, PersonAct::SetName("B".into())));
        let good = bytes.clone();
        if resealed {
            let skip = 9 + if bytes.len() > 138 { 2 } else { 1 };
            let mut body = bytes.split_off(skip);
            let at = at % body.len();
            body[at] ^= 1 << bit;
            bytes = chunk(1, &body);
        } else if cut % 2 == 0 {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        } else {
            bytes.truncate(cut % bytes.len());
        }
        let before = peer.save();
        let outcome = hear(&mut peer, 1, &bytes);
        if !matches!(outcome, Ok(Applied::Projected { .. })) {
            prop_assert_eq!(peer.save(), before);
        }
        // Only the time is free to differ; nothing else that differs gets in.
        prop_assert!(bytes != good || outcome.is_ok());
        Document::open(SHARD, &peer.save(), DocState::default()).unwrap();
    }
}

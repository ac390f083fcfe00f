//! Words on snapshots that find no room at a peer: said in their order once it listens, or gone with its connection.
//!
//! A lost `Taken` or `Declined` would make the peer hold entries back for as long as the connection lives. Leaves to
//! others: what is said, and to whom (`snapshot`).

use std::collections::{BTreeMap, VecDeque};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use yika_crdt::ids::Writer;
use yika_crdt::sync::{Message, SnapshotWord};

/// Words that wait for one peer; beyond, it does not listen, and its connection has to begin anew.
pub(super) const UNSAID_MAX: usize = 64;
/// Pause between two tries.
pub(super) const SAY_AGAIN_MS: u64 = 100;

/// What waits, by peer.
#[derive(Default)]
pub(super) struct Unsaid(BTreeMap<Writer, Waiting>);

struct Waiting {
    line: Sender<Message>,
    words: VecDeque<Message>,
}

impl Waiting {
    /// Says what there is room for. True while something waits.
    fn say(&mut self) -> bool {
        while let Some(word) = self.words.pop_front() {
            match self.line.try_send(word) {
                Ok(()) => {}
                Err(TrySendError::Full(word)) => {
                    self.words.push_front(word);
                    return true;
                }
                Err(TrySendError::Closed(_)) => return false,
            }
        }
        false
    }
}

impl Unsaid {
    /// Says a word on a peer's line, after what waits there. False when too much does: then nothing waits any more.
    pub(super) fn say(&mut self, to: Writer, line: Sender<Message>, word: SnapshotWord) -> bool {
        // What was to be said on an older connection is gone with it.
        let old = self.0.remove(&to).filter(|waiting| waiting.line.same_channel(&line));
        let mut waiting = old.unwrap_or(Waiting { line, words: VecDeque::new() });
        waiting.words.push_back(Message::Snapshot(Box::new(word)));
        if waiting.say() {
            if waiting.words.len() > UNSAID_MAX {
                return false;
            }
            self.0.insert(to, waiting);
        }
        true
    }

    /// Tries again what waits.
    pub(super) fn say_again(&mut self) {
        self.0.retain(|_, waiting| waiting.say());
    }

    /// Whether there is something to try again.
    pub(super) fn is_waiting(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic
    use super::*;
    use tokio::sync::mpsc::{Receiver, channel};
    use yika_crdt::feed::Hash;
    use yika_crdt::ids::{Incarnation, NodeId};

    const PEER: Writer = Writer { node: NodeId(2), incarnation: Incarnation { generation: 1, counter: 1 } };

    fn taken(n: u8) -> SnapshotWord {
        SnapshotWord::Taken { id: Hash([n; 32]) }
    }

    fn heard(line: &mut Receiver<Message>) -> Vec<u8> {
        let word = |message| match message {
            Message::Snapshot(word) => match *word {
                SnapshotWord::Taken { id } => id.0[0],
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| line.try_recv().ok()).map(word).collect()
    }

    #[test]
    fn words_that_find_no_room_are_said_later_and_in_their_order() {
        let (line, mut peer) = channel(2);
        let mut unsaid = Unsaid::default();
        for n in 0..5 {
            assert!(unsaid.say(PEER, line.clone(), taken(n)));
        }
        assert_eq!(heard(&mut peer), [0, 1]);
        // There is room, but others wait for it.
        assert!(unsaid.say(PEER, line.clone(), taken(5)));
        assert_eq!(heard(&mut peer), [2, 3]);
        unsaid.say_again();
        assert_eq!((heard(&mut peer), unsaid.is_waiting()), (vec![4, 5], false));
    }

    #[test]
    fn words_for_a_connection_end_with_it() {
        let (line, peer) = channel(1);
        let mut unsaid = Unsaid::default();
        (0..3).for_each(|n| assert!(unsaid.say(PEER, line.clone(), taken(n))));
        let (newer, mut again) = channel(1);
        assert!(unsaid.say(PEER, newer, taken(3)));
        assert_eq!((heard(&mut again), unsaid.is_waiting()), (vec![3], false));
        (0..3).for_each(|n| assert!(unsaid.say(PEER, line.clone(), taken(n))));
        drop(peer);
        unsaid.say_again();
        assert!(!unsaid.is_waiting());
    }

    #[test]
    fn who_does_not_listen_is_given_up() {
        let (line, _peer) = channel(1);
        let mut unsaid = Unsaid::default();
        assert!((0..=UNSAID_MAX).all(|n| unsaid.say(PEER, line.clone(), taken(n as u8))));
        assert!(!unsaid.say(PEER, line, taken(0)));
        assert!(!unsaid.is_waiting());
    }
}

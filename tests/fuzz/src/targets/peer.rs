//! A connection's state under what its peer says, message after message.

use super::nodes::{key, writer};
use crate::dice::Dice;
use crate::draw::draw_variant;
use crate::target::{Seen, Target};
use std::sync::OnceLock;
use yika_crdt::channel::{Channel, FeedId, Place};
use yika_crdt::entry::NodeRecord;
use yika_crdt::feed::{self, End, Run, SignedHead};
use yika_crdt::ids::{CampusId, NodeId, Seq};
use yika_crdt::mesh::{Directory, Mesh};
use yika_crdt::store::{Appended, Batch, MemoryStore, Read, Store, Tx};
use yika_crdt::sync::{Claim, Message, PeerSync};

pub(super) const TARGETS: &[Target] = &[Target {
    name: "peer",
    about: "the state of a connection under a peer's messages, each behind its length",
    input_bytes_max: 16 << 10,
    memory_bytes_max: super::MEMORY_BYTES_MAX,
    run: peer,
    seeds: talks,
}];

/// Messages that one connection says at most for one that it hears.
const SAID_MAX: usize = 64;
const ENTRIES: u64 = 30;

/// A box's store: its own journal, and one of a sibling.
struct Here {
    store: MemoryStore,
    directory: Directory,
    feeds: Vec<FeedId>,
}

fn journal(node: u32) -> FeedId {
    FeedId { writer: writer(node), channel: Channel::Journal }
}

fn here() -> &'static Here {
    static HERE: OnceLock<Here> = OnceLock::new();
    HERE.get_or_init(|| {
        let mut store = MemoryStore::default();
        let mut tx = Tx::new(&store);
        let mut batch = Batch::default();
        for node in 0..3 {
            let campus = (node > 0).then_some(CampusId(1));
            let key = key().verifying_key().to_bytes();
            let record = NodeRecord { writer: writer(node), campus, key, name: String::new(), address: None };
            tx.put(yika_crdt::keys::node(writer(node)), &record);
        }
        for node in 1..3 {
            let feed = journal(node);
            let entries: Vec<Vec<u8>> = (0..ENTRIES).map(|n| vec![n as u8; 40]).collect();
            let end = entries.iter().fold(End::default(), |end, entry| feed::link(&feed, end, entry));
            let heads = vec![SignedHead::sign(feed, end, &key())];
            batch.appended.insert(feed, Appended { from: Seq(1), entries, end, heads });
        }
        batch.state = tx.into_batch().state;
        let stored = store.commit(&batch);
        assert!(stored.is_ok(), "{stored:?}");
        let place = Place { node: NodeId(1), campus: Some(CampusId(1)) };
        let directory = match Mesh::load(&store, writer(1), place) {
            Ok(mesh) => mesh.directory(),
            Err(error) => panic!("the mesh is loaded: {error}"),
        };
        Here { store, directory, feeds: vec![journal(1), journal(2)] }
    })
}

fn peer(bytes: &[u8]) -> Seen {
    let here = here();
    let hub = Place { node: NodeId::HUB, campus: None };
    let mut sync = PeerSync::new(writer(1), hub, writer(0));
    let mut seen = String::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (message, after) = after.split_at(length);
        rest = after;
        let Ok(message) = Message::decode(message) else {
            seen.push('-');
            continue;
        };
        if !hear(&mut sync, &message) {
            return seen + "closed";
        }
        seen.push_str(&say(&mut sync, here));
    }
    seen
}

/// False when the connection is closed for it.
fn hear(sync: &mut PeerSync, message: &Message) -> bool {
    match message {
        Message::Hello { .. } | Message::Have { .. } => return sync.on_greeting(message).is_ok(),
        _ if !sync.is_greeted() => return false,
        Message::Stored(marks) => sync.on_stored(marks),
        Message::Entries(run) | Message::Other(run) => sync.on_entries(run),
        Message::Snapshot(word) => return sync.on_snapshot_word(word),
        Message::Diverged(head) => _ = sync.dispute(head.feed),
        Message::Ask { row, total } => sync.say(Message::Denied { row: *row, total: *total }),
        _ => {}
    }
    true
}

fn say(sync: &mut PeerSync, here: &Here) -> String {
    sync.on_grown(&here.feeds);
    let mut seen = String::new();
    let proofs = sync.contradictions(&here.store, &key());
    assert!(proofs.is_ok(), "{proofs:?}");
    for _ in 0..SAID_MAX {
        match sync.poll(&here.directory, &here.store, &key()) {
            Err(error) => panic!("a message of the peer makes the store fail: {error}"),
            Ok(None) => return seen,
            Ok(Some(message)) => {
                if let Message::Entries(run) = &message {
                    is_ours(run, here);
                }
                assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message));
                seen.push_str(match message {
                    Message::Entries(_) => "E",
                    Message::Diverged(_) => "D",
                    _ => "w",
                });
            }
        }
    }
    panic!("it never stops talking: {seen}")
}

/// Whatever a peer says, what is sent and signed is what is stored.
fn is_ours(run: &Run, here: &Here) {
    let feed = run.head.feed;
    let stored = here.store.entries(&feed, run.from, usize::MAX).unwrap_or_default();
    assert!(stored.starts_with(&run.entries), "entries that are not those of the feed");
    let end = yika_crdt::store::end_at(&here.store, &feed, run.head.end.seq);
    assert_eq!(end.ok().flatten(), Some(run.head.end), "a head that is not of the feed");
}

fn talk(messages: &[Message]) -> Vec<u8> {
    let framed = |message: &Message| {
        let bytes = message.encode();
        [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
    };
    messages.iter().flat_map(framed).collect()
}

fn hello(have: Vec<Claim>) -> Message {
    Message::Hello { writer: writer(0), kind_newest: 2, software: "yika-hub 0.1.0".to_owned(), have, more: false }
}

fn talks() -> Vec<Vec<u8>> {
    let claim = |node, seq| {
        let end = yika_crdt::store::end_at(&here().store, &journal(node), Seq(seq)).ok().flatten().unwrap_or_default();
        Claim { feed: journal(node), end, signature: None }
    };
    let mut dice = Dice::new(5);
    let mut talks = vec![
        talk(&[hello(Vec::new())]),
        talk(&[hello(vec![claim(1, 7), claim(2, 30)]), Message::Stored(vec![(journal(1), Seq(30))])]),
        talk(&[hello(vec![claim(2, 30), claim(1, 30)]), Message::Stored(vec![(journal(1), Seq(20))])]),
        talk(&[hello(vec![Claim { end: End { seq: Seq(7), hash: feed::Hash([1; 32]) }, ..claim(1, 7) }])]),
    ];
    for variant in 1.. {
        let Some(message) = draw_variant::<Message>(&mut dice, variant) else { break };
        talks.push(talk(&[hello(vec![claim(1, 3)]), message]));
    }
    talks
}

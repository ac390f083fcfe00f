//! What nodes say to each other and keep: messages, entries, heads, runs.

use super::{MEMORY_BYTES_MAX, drawn};
use crate::dice::Dice;
use crate::draw::draw_variant;
use crate::target::{Seen, Target, refused, taken};
use ed25519_dalek::SigningKey;
use yika_crdt::channel::{BlockScope, Channel, FeedId};
use yika_crdt::entry::{Body, Entry, Stamp};
use yika_crdt::feed::{self, End, Run, SignedHead, check_run};
use yika_crdt::ids::{CampusId, Incarnation, NodeId, Seq, Writer};
use yika_crdt::sync::{Claim, Message, SnapshotWord};
use yika_crdt::wire::{self, WireError};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "message",
        about: "what nodes say to each other (sync)",
        input_bytes_max: 64 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: message,
        seeds: messages,
    },
    Target {
        name: "entry",
        about: "an entry of a feed",
        input_bytes_max: wire::ENTRY_BYTES_MAX + 64,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: entry,
        seeds: entries,
    },
    Target {
        name: "run",
        about: "a run of a feed under its signed head, checked against what is held",
        input_bytes_max: 64 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run,
        seeds: runs,
    },
    Target {
        name: "claim",
        about: "how far a node says that it holds a feed",
        input_bytes_max: 4 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: claim,
        seeds: || drawn::<Claim>(1, 8),
    },
];

/// The key of every writer here.
pub(super) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// A node in its first life.
pub(super) fn writer(node: u32) -> Writer {
    Writer { node: NodeId(node), incarnation: Incarnation { generation: 1, counter: 1 } }
}

fn message(bytes: &[u8]) -> Seen {
    match Message::decode(bytes) {
        Err(error) => refused(&error),
        Ok(message) => {
            let _ = message.class();
            assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message), "said again it is another");
            taken(&message)
        }
    }
}

/// Each kind of message and of words about snapshots.
fn messages() -> Vec<Vec<u8>> {
    let mut dice = Dice::new(2);
    let mut drawn: Vec<Message> = Vec::new();
    for variant in 0.. {
        let Some(message) = draw_variant::<Message>(&mut dice, variant) else { break };
        drawn.push(message);
    }
    for variant in 0.. {
        let Some(word) = draw_variant::<SnapshotWord>(&mut dice, variant) else { break };
        drawn.push(Message::Snapshot(Box::new(word)));
    }
    drawn.iter().map(Message::encode).collect()
}

fn entry(bytes: &[u8]) -> Seen {
    let entry = match Entry::decode(bytes) {
        Err(error) => return refused(&error),
        Ok(entry) => entry,
    };
    assert_eq!(entry.encode(), bytes, "other bytes are the same entry");
    let campus = CampusId(1);
    let channels = [
        Channel::Registry,
        Channel::People(campus),
        Channel::Campus(campus),
        Channel::Blocks(BlockScope::Hub),
        Channel::Rights(writer(1)),
        Channel::Journal,
        Channel::Receipts(NodeId(1)),
    ];
    let homes = channels.into_iter().filter(|channel| entry.body.belongs(*channel)).count();
    // Changes of documents of two kinds are carried by one.
    let wanted = if matches!(entry.body, Body::Change(_)) { 2 } else { 1 };
    assert_eq!(homes, wanted, "a body that belongs on {homes} channels");
    let answers = entry.body.answers().is_some();
    assert!(!answers || entry.body.belongs(Channel::Journal), "ids are answered in journals");
    taken(&(&entry.body, entry.body.fault()))
}

/// Each kind of entry.
fn entries() -> Vec<Vec<u8>> {
    let mut dice = Dice::new(3);
    let mut entries = Vec::new();
    for variant in 0.. {
        let Some(body) = draw_variant::<Body>(&mut dice, variant) else { break };
        entries.push(Entry { stamp: Stamp { hub_time_ms: 1_800_000_000_000, boot: 1, mono_ms: 5_000 }, body }.encode());
    }
    entries
}

fn journal() -> FeedId {
    FeedId { writer: writer(1), channel: Channel::Journal }
}

/// What is held before the runs that are checked here.
fn held() -> End {
    feed::link(&journal(), End::default(), b"the first entry")
}

fn run(bytes: &[u8]) -> Seen {
    let run = match wire::decode_lenient::<Run>(bytes, wire::FRAME_BYTES_MAX) {
        Err(error) => return refused(&error),
        Ok(run) => run,
    };
    let key = key().verifying_key();
    for held in [End::default(), held(), End { seq: Seq(u64::MAX), ..held() }] {
        if let Ok(end) = check_run(held, &run, &key) {
            assert_eq!(end, run.head.end, "taken to another end than was signed");
            let more = run.entries.len() as u64;
            assert_eq!(end.seq.0, held.seq.0 + more, "as many entries as positions");
            return taken(&run);
        }
    }
    check_run(held(), &run, &key).err().map_or_else(Seen::new, |error| refused(&error))
}

fn runs() -> Vec<Vec<u8>> {
    let key = key();
    let signed = |from: End, entries: Vec<Vec<u8>>| {
        let end = entries.iter().fold(from, |end, entry| feed::link(&journal(), end, entry));
        wire::encode(&Run { from: from.seq.next(), entries, head: SignedHead::sign(journal(), end, &key) })
    };
    vec![
        signed(End::default(), entries().into_iter().take(3).collect()),
        signed(held(), entries().into_iter().skip(12).take(4).collect()),
        signed(held(), Vec::new()),
    ]
}

fn claim(bytes: &[u8]) -> Seen {
    match wire::decode::<Claim>(bytes, wire::FRAME_BYTES_MAX) {
        Err(WireError::Malformed(_)) => "refused malformed".to_owned(),
        Err(error) => refused(&error),
        Ok(claim) => {
            assert_eq!(wire::encode(&claim), bytes);
            taken(&(&claim, claim.is_signed_by(&key().verifying_key())))
        }
    }
}

//! Changes of documents, as entries of a writer who may have lost his senses carry them.

use super::MEMORY_BYTES_MAX;
use super::nodes::writer;
use crate::target::{Seen, Target, refused, taken};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use yika_crdt::access::{Door, GroupId};
use yika_crdt::channel::Place;
use yika_crdt::docs::{
    Act, ActBody, ActId, Applied, ChangeRefused, DocId, DocKind, Document, PersonAct, PolicyAct, Visitor, VisitorAct,
    admit,
};
use yika_crdt::ids::{CampusId, CardNumber, CategoryId, Day, DoorId, OperatorId, PersonId};
use yika_crdt::person::{Card, CardState, PersonStatus};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "change",
        about: "a change of a document; the first byte says of which kind",
        input_bytes_max: 20 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: change,
        seeds: changes,
    },
    Target {
        name: "act",
        about: "the act in the message of a change",
        input_bytes_max: 8 << 10,
        memory_bytes_max: MEMORY_BYTES_MAX,
        run: act,
        seeds: || acts().iter().filter_map(|(_, act)| act.to_message().ok()).map(String::into_bytes).collect(),
    },
];

const CAMPUS: CampusId = CampusId(1);
const KINDS: [DocKind; 3] = [
    DocKind::People { campus: CAMPUS, shard: 0 },
    DocKind::Policy(CAMPUS),
    DocKind::Visitors { campus: CAMPUS, month: 680 },
];
const TIME_S: i64 = 1_800_000_000;

fn id(kind: u8) -> DocId {
    DocId { kind: KINDS[usize::from(kind) % KINDS.len()], epoch: 1 }
}

fn place(node: u32) -> Place {
    Place { node: writer(node).node, campus: Some(CAMPUS) }
}

/// The chunk with its checksum made right: a writer that lies makes it right, too.
fn with_checksum(chunk: &[u8]) -> Vec<u8> {
    const SUM: std::ops::Range<usize> = 4..8;
    let mut chunk = chunk.to_vec();
    if let Some(body) = chunk.get(SUM.end..) {
        let sum = Sha256::digest(body);
        chunk[SUM].copy_from_slice(&sum[..4]);
    }
    chunk
}

fn change(bytes: &[u8]) -> Seen {
    let Some((kind, chunk)) = bytes.split_first() else { return "empty".to_owned() };
    let (id, chunk) = (id(*kind), with_checksum(chunk));
    let mut document = before(*kind);
    let (saved, all) = (document.save(), document.project_all());
    let taken_in = match document.take(writer(1), place(1), &chunk) {
        Ok(taken_in) => taken_in,
        Err(error) => panic!("our own side failed: {error}"),
    };
    match &taken_in {
        Err(refusal) => {
            assert!(document.save() == saved, "a refused change has changed the document");
            if let Err(ChangeRefused::NotCanonical) = admit(&id, writer(1), place(1), &chunk) {
                return "refused not canonical".to_owned();
            }
            refused(refusal)
        }
        Ok(applied) => {
            assert!(matches!(admit(&id, writer(1), place(1), &chunk), Ok(parsed) if parsed.bytes() == chunk));
            if matches!(applied, Applied::Waiting | Applied::Known) {
                assert!(document.project_all() == all, "what waits shows nothing");
            }
            let opened = Document::open(id, &document.save(), document.state().clone());
            let same = opened.is_ok_and(|opened| opened.project_all() == document.project_all());
            assert!(same, "opened again it says something else");
            taken(applied)
        }
    }
}

/// A document in which the hub has written already.
fn before(kind: u8) -> Document {
    let mut document = Document::new(id(kind));
    for (_, act) in acts().iter().filter(|(of, _)| usize::from(*of) == usize::from(kind) % KINDS.len()).take(1) {
        let written = document.author(writer(0), act, TIME_S);
        assert!(matches!(written, Ok(Some(_))), "the first act is written");
    }
    document
}

fn changes() -> Vec<Vec<u8>> {
    let mut changes = Vec::new();
    for kind in 0..KINDS.len() as u8 {
        let mut document = before(kind);
        for (_, act) in acts().iter().filter(|(of, _)| *of == kind).skip(1) {
            if let Ok(Some((bytes, _))) = document.author(writer(1), act, TIME_S) {
                changes.push([&[kind][..], &bytes].concat());
            }
            document = before(kind);
        }
    }
    changes
}

fn card(number: u64) -> Card {
    Card {
        number: CardNumber(number),
        uid: Some(0x0b3e_3636),
        state: CardState::Active,
        valid_until: Some(Day(21_000)),
    }
}

fn person(name: &str) -> PersonAct {
    PersonAct::Add {
        name: name.to_owned(),
        staff_number: "00001001".to_owned(),
        category: CategoryId(1),
        status: PersonStatus::Active,
        valid: (Some(Day(20_000)), None),
        id_hash: [3; 16],
        cards: vec![card(20_000_001)],
    }
}

/// Acts by the number of their kind of document, the first of each as it is at the beginning.
fn acts() -> Vec<(u8, Act)> {
    let numbered = |n: usize, kind, body| (kind, Act { id: ActId(n as u64 + 1), operator: OperatorId(1), body });
    let people = |person, act| (0u8, ActBody::People(vec![(PersonId(person), act)]));
    let policy = |act| (1u8, ActBody::Policy(Box::new(act)));
    let visit = |act| (2u8, ActBody::Visitors(vec![(PersonId(900), act)]));
    let door = Door {
        name: "东门".to_owned(),
        areas: ("校外".to_owned(), "东校区".to_owned()),
        device: "modbus:board1/1".to_owned(),
        pulse_ms: 500,
        held_open_ms: 15_000,
    };
    let visitor = Visitor {
        visitor: PersonId(900),
        name: "客人".to_owned(),
        host: Some(PersonId(7)),
        card: CardNumber(90_000_001),
        uid: None,
        from_ms: 1_000,
        until_ms: 2_000,
        groups: BTreeSet::from([GroupId(1)]),
        ended: false,
    };
    let all = [
        people(7, person("张一")),
        people(8, person("王二")),
        people(7, PersonAct::SetName("张壹".to_owned())),
        people(7, PersonAct::AddCard(card(20_000_009))),
        people(7, PersonAct::SetCardState(CardNumber(20_000_001), CardState::Cancelled)),
        people(7, PersonAct::RemoveCard(CardNumber(20_000_001))),
        people(7, PersonAct::Remove),
        policy(PolicyAct::SetDoor(DoorId(1), door.clone())),
        policy(PolicyAct::SetDoor(DoorId(2), door)),
        policy(PolicyAct::AddMembers(GroupId(1), (1..40).map(PersonId).collect())),
        policy(PolicyAct::SetHoliday(Day(20_500), Some(1))),
        policy(PolicyAct::RemoveDoor(DoorId(1))),
        visit(VisitorAct::Add(visitor.clone())),
        visit(VisitorAct::SetUntil(5_000)),
        visit(VisitorAct::End),
        visit(VisitorAct::Remove),
    ];
    all.into_iter().enumerate().map(|(n, (kind, body))| numbered(n, kind, body)).collect()
}

fn act(bytes: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    match Act::from_message(text) {
        Err(error) => refused(&error),
        Ok(act) => {
            assert_eq!(act.to_message().as_deref(), Ok(text), "another spelling is the same act");
            let writes = KINDS.map(|kind| act.writes(&kind).map(|writes| writes.len()));
            assert!(writes.iter().filter(|writes| writes.is_ok()).count() <= 1, "an act of several kinds");
            taken(&(&act, writes))
        }
    }
}

//! A headquarters and a box over stores in memory: what they wrote is what the real machines are fed with, cut after cut.
#![allow(dead_code, unreachable_pub)] // each test uses its part

use ed25519_dalek::SigningKey;
use yika_crdt::Fen;
use yika_crdt::channel::{FeedId, Place};
use yika_crdt::clock::Ticks;
use yika_crdt::documents::PersonChange;
use yika_crdt::edge::{self, Edge};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, Hash, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_crdt::sale::PurchaseRequest;
use yika_crdt::store::{MemoryStore, Read, Store, Tx};
use yika_crdt::tariff::sheet::{GuestRule, TariffSheet};
use yika_hub::core::{self, Hub, Identity, Teller};

pub const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };
pub const HUB: Writer = Writer { node: NodeId::HUB, incarnation: LIFE };
pub const BOX: Writer = Writer { node: NodeId(1), incarnation: LIFE };
pub const PLACE: Place = Place { node: NodeId(1), campus: Some(CampusId(1)) };
pub const TILL: TerminalId = TerminalId(10);
pub const TELLER: Teller = Teller { operator: OperatorId(1), shift: 1 };
pub const PERSONS: u64 = 6;
/// What each person has at the box at least.
pub const RIGHT: Fen = Fen(5_000);

pub fn key_of(node: NodeId) -> SigningKey {
    SigningKey::from_bytes(&[node.0 as u8 + 1; 32])
}

fn node(writer: Writer, campus: Option<CampusId>) -> Body {
    let key = key_of(writer.node).verifying_key().to_bytes();
    Body::Node(NodeRecord { writer, campus, key, name: writer.to_string(), address: None })
}

fn person(number: u64) -> Person {
    let card = Card { number: CardNumber(800_000 + number), uid: None, state: CardState::Active, valid_until: None };
    Person {
        person: PersonId(number),
        home: CampusId(1),
        name: format!("测试员{number}"),
        staff_number: format!("{number:04}"),
        category: CategoryId(1),
        status: PersonStatus::Active,
        valid: (None, None),
        cards: vec![card],
        id_hash: [number as u8; 16],
    }
}

/// The same number always makes the same id.
pub fn id_of(number: u64) -> Hash {
    feed::digest("test", &number.to_be_bytes())
}

pub fn top_up(number: u64, person: u64, amount: Fen) -> core::Command {
    core::Command::TopUp { id: id_of(number), person: PersonId(person), amount, by: TELLER }
}

/// What makes a headquarters of an empty one: a campus with a box and a till, people with money, their rights at the box.
pub fn orders() -> Vec<core::Command> {
    let registry = |body| core::Command::Registry(Box::new(body));
    let name = "校区1".to_owned();
    let campus = CampusRecord { campus: CampusId(1), name, utc_offset_minutes: 480, cut_minute: 180, people_shards: 4 };
    let till = TerminalRecord {
        terminal: TILL,
        campus: CampusId(1),
        kind: TerminalKind::Till,
        outlet: OutletId(1),
        merchant: MerchantId(1),
        door: None,
        name: "一号窗口".into(),
        state: TerminalState::Deployed,
    };
    let tariff = TariffSheet {
        version: TariffVersion(1),
        periods: vec![],
        fixed: vec![],
        adjustments: vec![],
        limits: vec![],
        barred: vec![],
        repeat_tap_seconds: 0,
        guest: GuestRule { per_purchase: Fen::ZERO, per_card_day: Fen::ZERO },
    };
    let mut orders: Vec<_> = [
        node(HUB, None),
        Body::Campus(campus),
        Body::Terminal(till),
        Body::Tariff(Box::new(tariff)),
        node(BOX, PLACE.campus),
    ]
    .map(registry)
    .into();
    let acts = (1..=PERSONS).map(|n| PersonChange::add(person(n))).collect();
    orders.push(core::Command::People { operator: OperatorId(1), moves: Default::default(), acts });
    orders.extend((1..=PERSONS).map(|n| top_up(n, n, Fen(9_000))));
    orders.push(core::Command::Connected(BOX));
    for n in 1..=PERSONS {
        let row = Row { person: PersonId(n), wallet: WalletKey::Main };
        orders.push(core::Command::Ask { from: BOX, row, total: RIGHT });
    }
    orders
}

/// What headquarters has for the box, registry first; its own record comes with the handshake.
pub struct Words {
    pub hub: NodeRecord,
    pub runs: Vec<Run>,
}

/// A headquarters that has carried the orders out.
pub fn words_of_headquarters() -> Words {
    let mut store = MemoryStore::default();
    let mut hub = Hub::load(&store, Identity { me: HUB, key: key_of(NodeId::HUB) }).unwrap();
    let stamp = Stamp { hub_time_ms: yika_hub::clock::wall_ms(), boot: 0, mono_ms: 1 };
    for order in orders() {
        let mut tx = Tx::new(&store);
        let reply = hub.handle(&mut tx, order, stamp, &mut Vec::new(), &mut Vec::new()).unwrap();
        assert!(!matches!(reply, core::Reply::Denied(_) | core::Reply::Granted(false)), "{reply:?}");
        let batch = tx.into_batch();
        store.commit(&batch).unwrap();
        hub.committed();
    }
    let directory = hub.mesh.directory();
    let mut feeds: Vec<_> = store.feeds().unwrap().into_iter().map(|(feed, _)| feed).collect();
    feeds.retain(|feed| directory.may_hold(feed, PLACE));
    feeds.sort_by_key(|feed| (feed.channel.class(), *feed));
    let runs = feeds.into_iter().map(|feed| run(&store, feed, Seq(1), usize::MAX)).collect();
    Words { hub: hub.own_record("总部"), runs }
}

/// A piece of a feed as its writer signs it.
pub fn run<R: Read>(store: &R, feed: FeedId, from: Seq, entries_max: usize) -> Run {
    let all = store.entries(&feed, Seq(1), usize::MAX).unwrap();
    let upto = all.len().min((from.0 as usize - 1).saturating_add(entries_max));
    let end = all[..upto].iter().fold(End::default(), |end, entry| feed::link(&feed, end, entry));
    let entries = all[from.0 as usize - 1..upto].to_vec();
    Run { from, entries, head: SignedHead::sign(feed, end, &key_of(feed.writer.node)) }
}

/// The box as it starts, before any sale.
pub fn first_commands(words: &Words) -> Vec<edge::Command> {
    let mut commands = vec![edge::Command::TrustHub(words.hub.clone())];
    commands.extend(words.runs.iter().map(|run| edge::Command::Ingest(Box::new(run.clone()))));
    commands.push(edge::Command::Asked { hub: true });
    commands
}

pub fn sale(seq: u32) -> PurchaseRequest {
    let person = u64::from(seq) % PERSONS + 1;
    PurchaseRequest {
        id: PurchaseId { terminal: TILL, boot: 1, seq },
        card: CardNumber(800_000 + person),
        mode: Mode::Amount(Fen(700 + i64::from(seq * 7 % 500))),
        terminal_time_ms: 0,
        offline: false,
        tariff: None,
    }
}

/// The journal of a box that has sold so many times, in runs of a few entries.
pub fn journal(words: &Words, sales: u32, entries_max: usize) -> Vec<Run> {
    let mut store = MemoryStore::default();
    let mut edge = Edge::load(&store, BOX, PLACE).unwrap().started(None);
    let sell = |seq| edge::Command::Purchase { request: sale(seq), may_ask: false };
    for (turn, command) in first_commands(words).into_iter().chain((1..=sales).map(sell)).enumerate() {
        let ticks = Ticks { boot: 1, mono_ms: 1_000 + turn as u64, wall_ms: yika_hub::clock::wall_ms() };
        let mut tx = Tx::new(&store);
        edge.handle(&mut tx, command, ticks, &mut Vec::new()).unwrap();
        let batch = tx.into_batch();
        store.commit(&batch).unwrap();
        edge.committed();
    }
    let feed = FeedId { writer: BOX, channel: yika_crdt::channel::Channel::Journal };
    let held = store.feed(&feed).unwrap().end.seq.0;
    (1..=held).step_by(entries_max).map(|from| run(&store, feed, Seq(from), entries_max)).collect()
}

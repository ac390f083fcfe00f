//! A campus for tests of the terminal interface: a headquarters' voice, a running edge, its interface on loopback.
#![allow(dead_code, unreachable_pub)] // each test file uses a part

use ed25519_dalek::SigningKey;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use yika_crdt::Fen;
use yika_crdt::channel::{BlockScope, Channel, FeedId};
use yika_crdt::edge::{Command, Edge, Reply};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_crdt::store::{Store, Tx};
use yika_crdt::tariff::sheet::*;
use yika_drivers::terminal::client::{Client, Identity as ClientIdentity};
use yika_edge::doors::{Doors, DoorsConfig};
use yika_edge::identity::Identity;
use yika_edge::machine::EdgeMachine;
use yika_edge::node::EdgeNode;
use yika_edge::terminals::Terminals;
use yika_store::{Options, SqliteStore, WriterThread};

pub const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };
pub const HUB: Writer = Writer { node: NodeId::HUB, incarnation: LIFE };
pub const EDGE: Writer = Writer { node: NodeId(1), incarnation: LIFE };
pub const CAMPUS: CampusId = CampusId(1);
pub const NOON_MS: i64 = 1_795_494_600_000; // 2026-11-24 12:30 in Beijing
pub const HOUR_MS: i64 = 3_600_000;
/// The first card; person n has card FIRST_CARD + n.
pub const FIRST_CARD: u64 = 800_000;
/// Chip of the first person's card.
pub const CHIP: u64 = 0x0B3E_3636;
pub const TILL: u32 = 10;
pub const CASHIER: u32 = 3;
pub const READER: u32 = 10_020;
pub const FOREIGN: u32 = 10_030;
/// Written in one go.
const PEOPLE_AT_ONCE: usize = 10_000;

/// Headquarters: says signed things.
pub struct Hub {
    ends: BTreeMap<FeedId, End>,
    tills: u32,
}

pub fn key_of(node: NodeId) -> SigningKey {
    SigningKey::from_bytes(&[node.0 as u8 + 1; 32])
}

pub fn terminal_key(terminal: u32) -> [u8; 32] {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&terminal.to_be_bytes());
    key
}

impl Hub {
    pub fn new(tills: u32) -> Hub {
        Hub { ends: BTreeMap::new(), tills }
    }

    pub fn say(&mut self, channel: Channel, bodies: Vec<Body>) -> Run {
        let feed = FeedId { writer: HUB, channel };
        let held = self.ends.get(&feed).copied().unwrap_or_default();
        let stamp = Stamp { hub_time_ms: NOON_MS, boot: 1, mono_ms: 0 };
        let entries: Vec<_> = bodies.into_iter().map(|body| Entry { stamp, body }.encode()).collect();
        let end = entries.iter().fold(held, |end, e| feed::link(&feed, end, e));
        self.ends.insert(feed, end);
        Run { from: held.seq.next(), entries, head: SignedHead::sign(feed, end, &key_of(NodeId::HUB)) }
    }

    fn registry(&mut self) -> Run {
        let campus = |c: u16| {
            let name = format!("校区{c}");
            Body::Campus(CampusRecord {
                campus: CampusId(c),
                name,
                utc_offset_minutes: 480,
                cut_minute: 180,
                people_shards: 4,
            })
        };
        let mut bodies = vec![campus(1), campus(2), Body::Node(node_record(EDGE, Some(CAMPUS)))];
        bodies.extend((0..self.tills).map(|n| Body::Terminal(till(TILL + n, CAMPUS, TerminalState::Deployed))));
        bodies.push(Body::Terminal(TerminalRecord {
            kind: TerminalKind::Door,
            door: Some(DoorId(5)),
            ..till(READER, CAMPUS, TerminalState::Deployed)
        }));
        bodies.push(Body::Terminal(till(FOREIGN, CampusId(2), TerminalState::Deployed)));
        bodies.push(Body::Tariff(Box::new(sheet())));
        self.say(Channel::Registry, bodies)
    }

    fn receipts(&mut self) -> Run {
        let until_ms = NOON_MS + 72 * HOUR_MS;
        let signature = feed::sign("lease", &(EDGE, until_ms), &key_of(NodeId::HUB));
        let lease = LeaseRecord { incarnation: LIFE, until_ms, signature };
        let mut bodies = vec![Body::Time(NOON_MS), Body::Lease(lease), cashier("not checked here")];
        let terminals = (0..self.tills).map(|n| TILL + n).chain([READER, FOREIGN]);
        bodies.extend(terminals.map(|t| Body::TerminalKey(sealed_key(t, 1, &terminal_key(t)))));
        self.say(Channel::Receipts(EDGE.node), bodies)
    }

    pub fn grant(&mut self, person: PersonId, total: i64) -> Body {
        let row = Row { person, wallet: WalletKey::Main };
        let (remaining, taken_in) = (Fen(total), Fen::ZERO);
        let signature = feed::sign("statement", &(EDGE, row, remaining, taken_in, NOON_MS), &key_of(NodeId::HUB));
        let statement = Statement { replica: EDGE, row, remaining, taken_in, hub_time_ms: NOON_MS, signature };
        let basis = Some(Box::new(statement));
        Body::Grant(GrantRecord { row, total: Fen(total), last_day: None, basis, lease: None })
    }
}

/// The cashier of the tills; without a verifier he is removed.
pub fn cashier(verifier: &str) -> Body {
    Body::Operator(OperatorRecord {
        operator: OperatorId(CASHIER),
        login: "wu".into(),
        name: "吴收银".into(),
        role: Role::Cashier,
        verifier: verifier.into(),
        valid_until_ms: NOON_MS + 72 * HOUR_MS,
    })
}

pub fn sealed_key(terminal: u32, version: u16, key: &[u8]) -> SealedKeyRecord {
    let sealed = yika_link::seal::seal(&key_of(EDGE.node).verifying_key(), "terminal key", key).unwrap();
    SealedKeyRecord { terminal: TerminalId(terminal), version, sealed }
}

pub fn till(terminal: u32, campus: CampusId, state: TerminalState) -> TerminalRecord {
    TerminalRecord {
        terminal: TerminalId(terminal),
        campus,
        kind: TerminalKind::Till,
        outlet: OutletId(1),
        merchant: MerchantId(1),
        door: None,
        name: format!("{terminal} 号窗口"),
        state,
    }
}

fn node_record(writer: Writer, campus: Option<CampusId>) -> NodeRecord {
    let key = key_of(writer.node).verifying_key().to_bytes();
    NodeRecord { writer, campus, key, name: writer.to_string(), address: None }
}

pub fn sheet() -> TariffSheet {
    let lunch = MealPeriod { id: PeriodId(2), name: "午餐".into(), from_minute: 0, until_minute: 1440 };
    let fixed = |outlet: Option<OutletId>, fen| FixedPrice { outlet, category: None, period: None, price: Fen(fen) };
    TariffSheet {
        version: TariffVersion(1),
        periods: vec![lunch],
        fixed: vec![fixed(None, 1200), fixed(Some(OutletId(9)), 900)],
        adjustments: vec![],
        limits: vec![],
        barred: vec![(CategoryId(7), OutletId(1)), (CategoryId(8), OutletId(2))],
        repeat_tap_seconds: 0,
        guest: GuestRule { per_purchase: Fen(0), per_card_day: Fen(0) },
    }
}

/// A running edge with its interface.
pub struct Campus {
    pub hub: Hub,
    pub node: Arc<EdgeNode>,
    pub terminals: Arc<Terminals>,
    pub address: SocketAddr,
    pub doors: Doors,
    thread: WriterThread<EdgeMachine>,
    server: tokio::task::JoinHandle<()>,
}

impl Campus {
    /// A new box in a folder: `people` persons with `fen` each, and so many tills.
    pub async fn new(dir: &Path, people: u64, fen: i64, tills: u32) -> Campus {
        put_people(dir, people);
        let mut campus = Campus::start(dir, Hub::new(tills)).await;
        campus.tell(Command::TrustHub(node_record(HUB, None))).await;
        let registry = campus.hub.registry();
        campus.ingest(registry).await;
        let receipts = campus.hub.receipts();
        campus.ingest(receipts).await;
        let grants: Vec<_> = (1..=people).map(|n| campus.hub.grant(PersonId(n), fen)).collect();
        for grants in grants.chunks(500) {
            let run = campus.hub.say(Channel::Rights(EDGE), grants.to_vec());
            campus.ingest(run).await;
        }
        campus.node.refresh_registry().unwrap();
        // Headquarters has just set the clock back to noon: what was signed before is old, from here on nothing is.
        campus.client(TILL).time().await.unwrap();
        campus
    }

    /// The box of a folder, started.
    pub async fn start(dir: &Path, hub: Hub) -> Campus {
        let (node, thread) = EdgeNode::start(&identity(), dir).unwrap();
        // No peers here: nobody holds more of this box's feeds than the box.
        node.call(Command::Asked { hub: true }).await.unwrap();
        assert_eq!(node.shut(), None);
        let doors = Doors::start(Arc::clone(&node), &DoorsConfig::default()).unwrap();
        let terminals = Terminals::start(Arc::clone(&node), doors.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = terminals.router();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Campus { hub, node, terminals, address, doors, thread, server }
    }

    /// The same box started again: memory is gone, the folder stays.
    pub async fn restart(self, dir: &Path) -> Campus {
        let Campus { hub, node, terminals, doors, thread, server, .. } = self;
        doors.stop().await;
        server.abort();
        let _ = server.await;
        drop((node, terminals, doors));
        // Whoever still holds the node (a connection, a watcher) lets go of it soon.
        tokio::task::spawn_blocking(move || thread.join()).await.unwrap();
        Campus::start(dir, hub).await
    }

    pub async fn tell(&self, command: Command) -> Reply {
        self.node.call(command).await.unwrap()
    }

    pub async fn ingest(&self, run: Run) {
        let reply = self.tell(Command::Ingest(Box::new(run))).await;
        assert!(matches!(reply, Reply::Stored(..)), "{reply:?}");
    }

    /// Something new in the registry.
    pub async fn register(&mut self, body: Body) {
        let run = self.hub.say(Channel::Registry, vec![body]);
        self.ingest(run).await;
        self.node.refresh_registry().unwrap();
    }

    pub async fn block(&mut self, card: u64) {
        let target = BlockTarget::Card(CardNumber(card));
        let block = Body::Block(BlockRecord { target, reason: BlockReason::Lost, operator: OperatorId(1) });
        let run = self.hub.say(Channel::Blocks(BlockScope::Hub), vec![block]);
        self.ingest(run).await;
    }

    pub fn client(&self, terminal: u32) -> Client {
        self.client_with(terminal, 1, 1)
    }

    pub fn client_with(&self, terminal: u32, boot: u32, key_version: u16) -> Client {
        let edge = self.address.to_string();
        let key = zeroize::Zeroizing::new(terminal_key(terminal));
        let client = Client::new(ClientIdentity { edge, terminal, boot, key_version, key });
        client.set_clock_offset_ms(self.node.time().0 - system_ms());
        client
    }
}

pub fn system_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}

pub fn identity() -> Identity {
    Identity {
        me: EDGE,
        campus: CAMPUS,
        key: key_of(EDGE.node),
        certificate_der: Vec::new(),
        ca_der: Vec::new(),
        endpoint_keys: yika_link::EndpointKeys::generate().unwrap(),
        hub_addr: "127.0.0.1:1".into(),
        hub_name: "总部".into(),
        hub_key: None,
    }
}

/// Writes persons as if their documents had been projected.
fn put_people(dir: &Path, people: u64) {
    let mut store = SqliteStore::open(dir.join("edge.db"), &Options::default()).unwrap();
    let mut edge = Edge::load(&store, EDGE, identity().place()).unwrap();
    for from in (1..=people).step_by(PEOPLE_AT_ONCE) {
        let batch = {
            let mut tx = Tx::new(&store);
            for n in from..=people.min(from + PEOPLE_AT_ONCE as u64 - 1) {
                edge.mesh.put_person(&mut tx, &person(n), &mut Vec::new()).unwrap();
            }
            tx.into_batch()
        };
        store.commit(&batch).unwrap();
    }
}

fn person(n: u64) -> Person {
    let uid = (n == 1).then_some(CHIP);
    let card = Card { number: CardNumber(FIRST_CARD + n), uid, state: CardState::Active, valid_until: None };
    Person {
        person: PersonId(n),
        home: CAMPUS,
        name: format!("测试员{n}"),
        staff_number: format!("{n:06}"),
        category: CategoryId(1),
        status: PersonStatus::Active,
        valid: (None, None),
        cards: vec![card],
        id_hash: [0; 16],
    }
}

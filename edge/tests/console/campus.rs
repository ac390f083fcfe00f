//! A campus for the pages: headquarters' signed voice, a running box, its console. For tests and for eyes.
#![allow(dead_code, unreachable_pub)] // each user takes a part

use axum::Router;
use ed25519_dalek::SigningKey;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use yika_crdt::Fen;
use yika_crdt::access::Door;
use yika_crdt::channel::{BlockScope, Channel, FeedId};
use yika_crdt::edge::{Command, Edge, Reply};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_crdt::store::{Store, Tx};
use yika_crdt::tariff::sheet::*;
use yika_edge::console::{self, ConsoleConfig};
use yika_edge::doors::{Doors, DoorsConfig};
use yika_edge::identity::Identity;
use yika_edge::machine::EdgeMachine;
use yika_edge::node::EdgeNode;
use yika_store::{Options, SqliteStore, WriterThread};
use yika_ui::auth::{HashCost, hash_password};

pub const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };
pub const HUB: Writer = Writer { node: NodeId::HUB, incarnation: LIFE };
pub const EDGE: Writer = Writer { node: NodeId(1), incarnation: LIFE };
pub const SIBLING: Writer = Writer { node: NodeId(2), incarnation: LIFE };
pub const CAMPUS: CampusId = CampusId(1);
/// 2026-11-24 12:30 in Beijing: lunch.
pub const NOON_MS: i64 = 1_795_494_600_000;
pub const HOUR_MS: i64 = 3_600_000;
/// Person n has card `FIRST_CARD + n` and chip `FIRST_CHIP + n`.
pub const FIRST_CARD: u64 = 62_004_800;
pub const FIRST_CHIP: u64 = 0x0B3E_3600;
pub const PASSWORD: &str = "石桥-lantern-42";
/// Cheap: the pages are tested, not Argon2.
const CHEAP: HashCost = HashCost { memory_kib: 64, passes: 1, lanes: 1 };

/// Also by the wall clock of whoever runs this.
const DECADE_HOURS: i64 = 24 * 3_652;

const NAMES: [&str; 12] =
    ["张伟", "欧阳明月", "陈建国", "赵敏", "李思源", "王芳", "刘洋", "周杰", "吴桐", "郑爽朗", "孙悦", "Aisha Khan"];

/// How much there is to see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Seed {
    /// A campus at lunch.
    Lunch,
    /// A box that has just joined.
    Bare,
}

/// A running box with its console.
pub struct Campus {
    ends: BTreeMap<FeedId, End>,
    pub node: Arc<EdgeNode>,
    pub doors: Doors,
    pub app: Router,
    thread: WriterThread<EdgeMachine>,
}

impl Campus {
    /// A new box in a folder.
    pub async fn new(dir: &Path, seed: Seed) -> Campus {
        if seed == Seed::Lunch {
            put_people(dir);
        }
        let mut campus = Campus::start(dir, ConsoleConfig::default(), BTreeMap::new()).await;
        campus.tell(Command::TrustHub(node_record(HUB, None, "总部"))).await;
        campus.say(Channel::Registry, registry(seed)).await;
        campus.say(Channel::Receipts(EDGE.node), receipts(seed)).await;
        if seed == Seed::Lunch {
            let grants = (1..=NAMES.len() as u64).map(|n| grant(PersonId(n), 8_000 + 137 * n as i64)).collect();
            campus.say(Channel::Rights(EDGE), grants).await;
            campus.put_doors();
        }
        campus.node.refresh_registry().unwrap();
        campus
    }

    /// The box of a folder, started.
    pub async fn start(dir: &Path, config: ConsoleConfig, ends: BTreeMap<FeedId, End>) -> Campus {
        let (node, thread) = EdgeNode::start(&identity(), dir).unwrap();
        let doors = Doors::start(Arc::clone(&node), &DoorsConfig::default()).unwrap();
        let app = app_of(&node, &doors, config, dir);
        let campus = Campus { ends, node, doors, app, thread };
        // No peer to ask: the box opens by itself, as it does when it is alone.
        campus.tell(Command::Asked { hub: false }).await;
        campus
    }

    /// The same box started again: memory is gone, the folder stays.
    pub async fn restart(self, dir: &Path, config: ConsoleConfig) -> Campus {
        let Campus { ends, node, doors, app, thread } = self;
        doors.stop().await;
        drop((node, doors, app));
        tokio::task::spawn_blocking(move || thread.join()).await.unwrap();
        Campus::start(dir, config, ends).await
    }

    pub async fn tell(&self, command: Command) -> Reply {
        self.node.call(command).await.unwrap()
    }

    /// Headquarters says something, signed.
    pub async fn say(&mut self, channel: Channel, bodies: Vec<Body>) {
        let feed = FeedId { writer: HUB, channel };
        let held = self.ends.get(&feed).copied().unwrap_or_default();
        let stamp = Stamp { hub_time_ms: NOON_MS, boot: 1, mono_ms: 0 };
        let entries: Vec<_> = bodies.into_iter().map(|body| Entry { stamp, body }.encode()).collect();
        let end = entries.iter().fold(held, |end, e| feed::link(&feed, end, e));
        self.ends.insert(feed, end);
        let run = Run { from: held.seq.next(), entries, head: SignedHead::sign(feed, end, &key_of(NodeId::HUB)) };
        let reply = self.tell(Command::Ingest(Box::new(run))).await;
        assert!(matches!(reply, Reply::Stored(..)), "{reply:?}");
    }

    /// Headquarters blocks a card.
    pub async fn block_by_hub(&mut self, card: CardNumber) {
        let target = BlockTarget::Card(card);
        let block = Body::Block(BlockRecord { target, reason: BlockReason::Frozen, operator: OperatorId(77) });
        self.say(Channel::Blocks(BlockScope::Hub), vec![block]).await;
    }

    /// The journal of the box, decoded.
    pub fn journal(&self) -> Vec<Body> {
        let feed = FeedId { writer: EDGE, channel: Channel::Journal };
        let entries = self.node.look(|store| store.entries(&feed, Seq(1), usize::MAX / 2)).unwrap();
        entries.iter().map(|bytes| Entry::decode(bytes).unwrap().body).collect()
    }

    /// What a purchase id was answered with, over the whole journal.
    pub fn sales(&self) -> Vec<PurchaseRecord> {
        let sale = |body| if let Body::Purchase(record) = body { Some(record) } else { None };
        self.journal().into_iter().filter_map(sale).collect()
    }

    /// Doors as if the policy document had been projected.
    fn put_doors(&self) {
        let door = |name: &str, device: &str| Door {
            name: name.into(),
            areas: ("外".into(), "内".into()),
            pulse_ms: 3_000,
            held_open_ms: 20_000,
            device: device.into(),
        };
        let mut access = self.node.access.write();
        access.doors.insert(DoorId(1), door("东门大厅", "modbus:board1/1"));
        access.doors.insert(DoorId(2), door("机房", "modbus:board1/2"));
        for id in access.doors.keys().copied().collect::<Vec<_>>() {
            access.index.set_door(id, true);
        }
    }
}

pub fn card(n: u64) -> CardNumber {
    CardNumber(FIRST_CARD + n)
}

pub fn app_of(node: &Arc<EdgeNode>, doors: &Doors, config: ConsoleConfig, dir: &Path) -> Router {
    let sessions = Some(dir.join("sessions"));
    console::router_with(Arc::clone(node), doors.clone(), Arc::default(), config, sessions).unwrap()
}

pub fn key_of(node: NodeId) -> SigningKey {
    SigningKey::from_bytes(&[node.0 as u8 + 1; 32])
}

fn node_record(writer: Writer, campus: Option<CampusId>, name: &str) -> NodeRecord {
    let key = key_of(writer.node).verifying_key().to_bytes();
    NodeRecord { writer, campus, key, name: name.into(), address: None }
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
        hub_name: "总部 hub-1".into(),
        hub_key: None,
    }
}

fn registry(seed: Seed) -> Vec<Body> {
    let campus = |c: u16, name: &str| {
        let campus = CampusId(c);
        Body::Campus(CampusRecord {
            campus,
            name: name.into(),
            utc_offset_minutes: 480,
            cut_minute: 180,
            people_shards: 4,
        })
    };
    let mut bodies = vec![campus(1, "东校区"), campus(2, "西校区"), Body::Node(node_record(EDGE, Some(CAMPUS), "A1"))];
    if seed == Seed::Bare {
        return bodies;
    }
    bodies.push(Body::Node(node_record(SIBLING, Some(CAMPUS), "A2")));
    let till = |n: u32, name: &str, state| TerminalRecord {
        terminal: TerminalId(n),
        campus: CAMPUS,
        kind: TerminalKind::Till,
        outlet: OutletId(1),
        merchant: MerchantId(1),
        door: None,
        name: name.into(),
        state,
    };
    let tills = [
        till(11, "一食堂 1 号窗", TerminalState::Deployed),
        till(12, "一食堂 2 号窗", TerminalState::Deployed),
        till(13, "一食堂 3 号窗", TerminalState::Suspended),
        TerminalRecord {
            kind: TerminalKind::Door,
            door: Some(DoorId(1)),
            ..till(101, "东门读卡器", TerminalState::Deployed)
        },
    ];
    bodies.extend(tills.map(Body::Terminal));
    bodies.push(Body::Tariff(Box::new(sheet())));
    bodies
}

fn receipts(seed: Seed) -> Vec<Body> {
    let until_ms = NOON_MS + 72 * HOUR_MS;
    let signature = feed::sign("lease", &(EDGE, until_ms), &key_of(NodeId::HUB));
    let lease = LeaseRecord { incarnation: LIFE, until_ms, signature };
    // A box that has just joined has heard no time yet.
    let mut bodies = match seed {
        Seed::Lunch => vec![Body::Time(NOON_MS), Body::Lease(lease)],
        Seed::Bare => Vec::new(),
    };
    let operators = [
        (1, "lin", "林晓", Role::Admin, DECADE_HOURS),
        (2, "he", "何卡务", Role::Clerk, DECADE_HOURS),
        (3, "wu", "吴收银", Role::Cashier, DECADE_HOURS),
        (4, "shen", "沈审计", Role::Auditor, DECADE_HOURS),
        (5, "gone", "钱过期", Role::Admin, -1),
    ];
    bodies.extend(operators.map(|(id, login, name, role, hours)| operator(id, login, name, role, hours)));
    bodies
}

pub fn operator(id: u32, login: &str, name: &str, role: Role, valid_hours: i64) -> Body {
    Body::Operator(OperatorRecord {
        operator: OperatorId(id),
        login: login.into(),
        name: name.into(),
        role,
        verifier: hash_password(PASSWORD, CHEAP).unwrap(),
        valid_until_ms: NOON_MS + valid_hours * HOUR_MS,
    })
}

pub fn grant(person: PersonId, total: i64) -> Body {
    grant_in(Row { person, wallet: WalletKey::Main }, total)
}

pub fn grant_in(row: Row, total: i64) -> Body {
    let (remaining, taken_in) = (Fen(total), Fen::ZERO);
    let signature = feed::sign("statement", &(EDGE, row, remaining, taken_in, NOON_MS), &key_of(NodeId::HUB));
    let statement = Statement { replica: EDGE, row, remaining, taken_in, hub_time_ms: NOON_MS, signature };
    let basis = Some(Box::new(statement));
    Body::Grant(GrantRecord { row, total: Fen(total), last_day: None, basis, lease: None })
}

pub fn sheet() -> TariffSheet {
    let period = |id: u8, name: &str, from: u16, until: u16| MealPeriod {
        id: PeriodId(id),
        name: name.into(),
        from_minute: from * 60,
        until_minute: until * 60,
    };
    TariffSheet {
        version: TariffVersion(1),
        periods: vec![period(1, "早餐", 6, 10), period(2, "午餐", 10, 15), period(3, "晚餐", 16, 21)],
        fixed: vec![FixedPrice { outlet: None, category: None, period: None, price: Fen(1_200) }],
        adjustments: vec![Adjustment { category: CategoryId(2), outlet: None, basis_points: -2_500, flat: Fen(0) }],
        limits: vec![],
        barred: vec![(CategoryId(9), OutletId(1))],
        repeat_tap_seconds: 0,
        guest: GuestRule { per_purchase: Fen(0), per_card_day: Fen(0) },
    }
}

/// Writes persons as if their documents had been projected.
fn put_people(dir: &Path) {
    let mut store = SqliteStore::open(dir.join("edge.db"), &Options::default()).unwrap();
    let mut edge = Edge::load(&store, EDGE, identity().place()).unwrap();
    let mut tx = Tx::new(&store);
    for (n, name) in (1u64..).zip(NAMES) {
        let uid = Some(FIRST_CHIP + n);
        let person = Person {
            person: PersonId(n),
            home: CAMPUS,
            name: name.into(),
            staff_number: format!("{:06}", 100_200 + n),
            category: CategoryId(match n {
                2 => 2,
                9 => 9,
                _ => 1,
            }),
            status: if n == 8 { PersonStatus::Suspended } else { PersonStatus::Active },
            valid: (None, None),
            cards: vec![Card { number: card(n), uid, state: CardState::Active, valid_until: None }],
            id_hash: [0; 16],
        };
        edge.mesh.put_person(&mut tx, &person, &mut Vec::new()).unwrap();
    }
    let batch = tx.into_batch();
    store.commit(&batch).unwrap();
}

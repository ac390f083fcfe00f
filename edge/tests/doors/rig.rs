//! A real edge on a temporary folder, a headquarters' voice that signs what it is told, and a simulated board.

use ed25519_dalek::SigningKey;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use yika_crdt::access::{Access, Door, Group, GroupId, Interval, Policy, PolicyIndex, Schedule, ScheduleId};
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::edge::{Command, Reply};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_drivers::modbus::frame::Framing;
use yika_drivers::modbus::simulator::{BoardSimulator, SimulatedBoard};
use yika_edge::doors::{DoorView, Doors, DoorsConfig};
use yika_edge::identity::Identity;
use yika_edge::machine::EdgeMachine;
use yika_edge::node::EdgeNode;
use yika_link::EndpointKeys;
use yika_link::sync::Node;
use yika_store::WriterThread;

pub(crate) const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };
pub(crate) const HUB: Writer = Writer { node: NodeId::HUB, incarnation: LIFE };
pub(crate) const ME: Writer = Writer { node: NodeId(1), incarnation: LIFE };
pub(crate) const CAMPUS: CampusId = CampusId(1);
/// 2026-11-24 12:30 in Beijing, a Tuesday.
pub(crate) const NOON_MS: i64 = 1_795_494_600_000;
pub(crate) const FRONT: DoorId = DoorId(5);
pub(crate) const BACK: DoorId = DoorId(6);
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Opens both doors all day.
pub(crate) const ALICE: CardNumber = CardNumber(1_001);
/// In no group.
pub(crate) const BOB: CardNumber = CardNumber(1_002);
pub(crate) const OPERATOR: OperatorId = OperatorId(7);

/// What headquarters says, as runs signed by its key.
#[derive(Default)]
pub(crate) struct HubVoice(BTreeMap<FeedId, End>);

impl HubVoice {
    pub(crate) fn key() -> SigningKey {
        SigningKey::from_bytes(&[9; 32])
    }

    pub(crate) fn say(&mut self, channel: Channel, bodies: Vec<Body>) -> Command {
        let feed = FeedId { writer: HUB, channel };
        let held = self.0.get(&feed).copied().unwrap_or_default();
        let stamp = Stamp { hub_time_ms: NOON_MS, boot: 1, mono_ms: 0 };
        let entries: Vec<_> = bodies.into_iter().map(|body| Entry { stamp, body }.encode()).collect();
        let end = entries.iter().fold(held, |end, e| feed::link(&feed, end, e));
        self.0.insert(feed, end);
        let head = SignedHead::sign(feed, end, &Self::key());
        Command::Ingest(Box::new(Run { from: held.seq.next(), entries, head }))
    }
}

pub(crate) fn reader(door: DoorId) -> TerminalRecord {
    TerminalRecord {
        terminal: TerminalId(100 + door.0),
        campus: CAMPUS,
        kind: TerminalKind::Door,
        outlet: OutletId(0),
        merchant: MerchantId(0),
        door: Some(door),
        name: "读卡器".into(),
        state: TerminalState::Deployed,
    }
}

pub(crate) fn person(card: CardNumber) -> Person {
    Person {
        person: PersonId(card.0 + 1_000_000),
        home: CAMPUS,
        name: "测试员".into(),
        staff_number: format!("{:05}", card.0),
        category: CategoryId(1),
        status: PersonStatus::Active,
        valid: (None, None),
        cards: vec![Card { number: card, uid: None, state: CardState::Active, valid_until: None }],
        id_hash: [0; 16],
    }
}

pub(crate) fn holder(card: CardNumber) -> PersonId {
    person(card).person
}

pub(crate) fn all_day() -> Schedule {
    schedule(0, 1440)
}

pub(crate) fn schedule(from_minute: u16, until_minute: u16) -> Schedule {
    let day = vec![Interval { from_minute, until_minute }];
    Schedule { name: "时段".into(), week: std::array::from_fn(|_| day.clone()), holidays: Default::default() }
}

/// Both doors, one group with Alice, one schedule.
pub(crate) fn policy(schedule: Schedule) -> Policy {
    let door = |name: &str, device: &str| Door {
        name: name.into(),
        areas: ("外".into(), "内".into()),
        pulse_ms: 600,
        held_open_ms: 15_000,
        device: device.into(),
    };
    let members = [holder(ALICE)].into();
    let opens = [(FRONT, ScheduleId(1)), (BACK, ScheduleId(1))].into();
    Policy {
        campus: Some(CAMPUS),
        doors: [(FRONT, door("前门", "modbus:board1/1")), (BACK, door("后门", "modbus:board1/2"))].into(),
        schedules: [(ScheduleId(1), schedule)].into(),
        groups: [(GroupId(1), Group { name: "全体".into(), doors: opens, members })].into(),
        holidays: BTreeMap::new(),
    }
}

/// The configuration of one line with one board and two doors; `extra` is merged into the board.
pub(crate) fn config(transport: serde_json::Value, extra: serde_json::Value) -> DoorsConfig {
    let mut board = json!({
        "name": "board1", "pulse": {"method": "flash_coil"}, "poll_ms": 50, "response_timeout_ms": 200,
        "fire": {"input": 8},
        "doors": [
            {"door": 1, "relay": 1, "contact": {"input": 1}, "exit_button": {"input": 3}, "escape": true},
            {"door": 2, "relay": 2, "contact": {"input": 2}, "exit_button": {"input": 4}},
        ],
    });
    for (key, value) in extra.as_object().unwrap() {
        board[key] = value.clone();
    }
    serde_json::from_value(json!({"bus": [{"name": "line1", "transport": transport, "boards": [board]}]})).unwrap()
}

pub(crate) fn tcp(address: SocketAddr) -> serde_json::Value {
    json!({"kind": "tcp", "address": address.to_string()})
}

/// A simulated board on a port.
pub(crate) struct Board {
    pub(crate) sim: BoardSimulator,
    pub(crate) address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
}

impl Board {
    pub(crate) async fn start() -> Board {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sim = BoardSimulator::new(SimulatedBoard::default());
        let server = sim.clone();
        let task = tokio::spawn(async move { server.serve_tcp(listener, Framing::Tcp).await });
        Board { sim, address, task }
    }

    pub(crate) fn config(&self) -> DoorsConfig {
        config(tcp(self.address), json!({}))
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A running box.
pub(crate) struct Rig {
    pub(crate) node: Arc<EdgeNode>,
    pub(crate) doors: Doors,
    pub(crate) hub: HubVoice,
    thread: WriterThread<EdgeMachine>,
    dir: Option<TempDir>,
}

impl Rig {
    /// A box that knows its campus, the time, two people and the policy, with its front door heard.
    pub(crate) async fn up(config: &DoorsConfig) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::at(dir.path(), config, HubVoice::default(), true).await;
        let rig = Rig { dir: Some(dir), ..rig };
        rig.until("line up", |view| view.line == yika_edge::doors::LineState::Up).await;
        rig
    }

    pub(crate) async fn at(dir: &Path, config: &DoorsConfig, hub: HubVoice, with_time: bool) -> Rig {
        let identity = Identity {
            me: ME,
            campus: CAMPUS,
            key: SigningKey::from_bytes(&[1; 32]),
            certificate_der: Vec::new(),
            ca_der: Vec::new(),
            endpoint_keys: EndpointKeys::generate().unwrap(),
            hub_addr: "127.0.0.1:1".into(),
            hub_name: "总部".into(),
            hub_key: None,
        };
        let (node, thread) = EdgeNode::start(&identity, dir).unwrap();
        // Nobody is reachable who could hold more of this box's journal.
        assert_eq!(node.call(Command::Asked { hub: false }).await, Ok(Reply::Done));
        let mut hub = hub;
        if node.registry().campuses.is_empty() {
            introduce(&node, &mut hub, &identity).await;
        }
        if with_time {
            tell_time(&node, &mut hub, NOON_MS).await;
        }
        learn(&node);
        let doors = Doors::start(Arc::clone(&node), config).unwrap();
        Rig { node, doors, hub, thread, dir: None }
    }

    pub(crate) async fn tell_time(&mut self, hub_time_ms: i64) {
        tell_time(&self.node, &mut self.hub, hub_time_ms).await;
    }

    pub(crate) fn learn(&self) {
        learn(&self.node);
    }

    pub(crate) fn set_policy(&self, policy: Policy) {
        set_policy(&self.node, policy);
    }

    pub(crate) fn change_door(&self, door: DoorId, change: impl FnOnce(&mut Door)) {
        change(self.node.access.write().doors.get_mut(&door).unwrap());
    }

    pub(crate) fn view(&self, door: DoorId) -> DoorView {
        self.doors.list().into_iter().find(|view| view.door == door).unwrap()
    }

    /// Waits until the front door is seen as wanted.
    pub(crate) async fn until(&self, what: &str, fits: impl Fn(&DoorView) -> bool) -> DoorView {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let view = self.view(FRONT);
            if fits(&view) {
                return view;
            }
            assert!(Instant::now() < deadline, "{what} did not come: {view:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What is durable in this box's journal.
    pub(crate) fn journal(&self) -> Vec<Body> {
        let feed = FeedId { writer: self.node.me(), channel: Channel::Journal };
        let entries = self.node.look(|read| read.entries(&feed, Seq(1), usize::MAX)).unwrap();
        entries.iter().map(|bytes| Entry::decode(bytes).unwrap().body).collect()
    }

    pub(crate) fn records(&self) -> Vec<DoorRecord> {
        let doors = self.journal().into_iter();
        doors.filter_map(|body| if let Body::Door(record) = body { Some(record) } else { None }).collect()
    }

    pub(crate) fn events(&self, door: DoorId) -> Vec<DoorEvent> {
        self.records().into_iter().filter(|r| r.door == door).map(|r| r.event).collect()
    }

    pub(crate) fn alarms(&self, kind: &str) -> Vec<String> {
        let all = self.journal().into_iter();
        all.filter_map(|body| match body {
            Body::Alarm(alarm) if alarm.kind == kind => Some(alarm.detail),
            _ => None,
        })
        .collect()
    }

    /// Waits until the journal holds what fits.
    pub(crate) async fn journaled(&self, what: &str, fits: impl Fn(&Body) -> bool) -> Body {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let journal = self.journal();
            if let Some(found) = journal.iter().find(|body| fits(body)) {
                return found.clone();
            }
            assert!(Instant::now() < deadline, "{what} is not in the journal: {journal:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn door_event(&self, event: DoorEvent) -> DoorRecord {
        let fits = |body: &Body| matches!(body, Body::Door(record) if record.event == event);
        match self.journaled(&format!("{event:?}"), fits).await {
            Body::Door(record) => record,
            _ => unreachable!(),
        }
    }

    pub(crate) async fn alarm(&self, kind: &str) -> String {
        match self.journaled(kind, |body| matches!(body, Body::Alarm(alarm) if alarm.kind == kind)).await {
            Body::Alarm(alarm) => alarm.detail,
            _ => unreachable!(),
        }
    }

    /// Ends the box gracefully; what is left is its folder and what headquarters has said so far.
    pub(crate) async fn down(self) -> (Option<TempDir>, HubVoice) {
        self.doors.stop().await;
        let Rig { node, doors, hub, thread, dir } = self;
        drop(doors);
        drop(node);
        tokio::task::spawn_blocking(move || thread.join()).await.unwrap();
        (dir, hub)
    }
}

async fn introduce(node: &EdgeNode, hub: &mut HubVoice, identity: &Identity) {
    let record = |writer: Writer, campus, key: &SigningKey| NodeRecord {
        writer,
        campus,
        key: key.verifying_key().to_bytes(),
        name: writer.to_string(),
        address: None,
    };
    node.call(Command::TrustHub(record(HUB, None, &HubVoice::key()))).await.unwrap();
    let name = "一号校区".into();
    let campus = CampusRecord { campus: CAMPUS, name, utc_offset_minutes: 480, cut_minute: 180, people_shards: 4 };
    let bodies = vec![Body::Campus(campus), Body::Node(record(ME, Some(CAMPUS), &identity.key))];
    assert!(matches!(node.call(hub.say(Channel::Registry, bodies)).await, Ok(Reply::Stored(..))));
    node.refresh_registry().unwrap();
}

async fn tell_time(node: &EdgeNode, hub: &mut HubVoice, hub_time_ms: i64) {
    let run = hub.say(Channel::Receipts(ME.node), vec![Body::Time(hub_time_ms)]);
    assert!(matches!(node.call(run).await, Ok(Reply::Stored(..))));
}

/// Puts people and policy into the index, as the documents would.
fn learn(node: &EdgeNode) {
    set_policy(node, policy(all_day()));
    for card in [ALICE, BOB] {
        node.people.write().put(&person(card), None);
    }
}

fn set_policy(node: &EdgeNode, policy: Policy) {
    node.access.replace(Access { index: PolicyIndex::build(&policy), doors: policy.doors });
}

//! The edge machine over a store in memory: purchases, answers, refunds, cheques, blocks, days.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

#[path = "edge/bounds.rs"]
mod bounds;
#[path = "edge/clones.rs"]
mod clones;
#[path = "edge/facts.rs"]
mod facts;
#[path = "edge/limits.rs"]
mod limits;
#[path = "edge/merges.rs"]
mod merges;
#[path = "edge/time.rs"]
mod time;

use ed25519_dalek::SigningKey;
use yika_crdt::Fen;
use yika_crdt::channel::{BlockScope, Channel, FeedId, Place};
use yika_crdt::clock::Ticks;
use yika_crdt::edge::{Command, Edge, Effect, Reply};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::person::{Card, CardState, Person, PersonStatus};
use yika_crdt::reason::Reason;
use yika_crdt::sale::{Answer, Outcome, PurchaseRequest, RefundRequest};
use yika_crdt::store::{MemoryStore, Read, Store, Tx};
use yika_crdt::tariff::sheet::*;

const LIFE: Incarnation = Incarnation { generation: 1, counter: 1 };
const HUB: Writer = Writer { node: NodeId::HUB, incarnation: LIFE };
const NOON_MS: i64 = 1_795_494_600_000; // 2026-11-24 12:30 in Beijing
const CARD: CardNumber = CardNumber(800_001);
const PERSON: PersonId = PersonId(1);
const HOUR_MS: i64 = 3_600_000;

fn edge_writer(node: u32) -> Writer {
    Writer { node: NodeId(node), incarnation: LIFE }
}

fn key_of(node: NodeId) -> SigningKey {
    SigningKey::from_bytes(&[node.0 as u8 + 1; 32])
}

/// What the hub says, as runs signed by its key.
#[derive(Default)]
struct HubVoice {
    ends: std::collections::BTreeMap<FeedId, End>,
}

impl HubVoice {
    fn say(&mut self, channel: Channel, bodies: Vec<Body>) -> Run {
        let feed = FeedId { writer: HUB, channel };
        let held = self.ends.get(&feed).copied().unwrap_or_default();
        let stamp = Stamp { hub_time_ms: NOON_MS, boot: 1, mono_ms: 0 };
        let entries: Vec<_> = bodies.into_iter().map(|body| Entry { stamp, body }.encode()).collect();
        let end = entries.iter().fold(held, |end, e| feed::link(&feed, end, e));
        self.ends.insert(feed, end);
        Run { from: held.seq.next(), entries, head: SignedHead::sign(feed, end, &key_of(NodeId::HUB)) }
    }

    fn statement(replica: Writer, remaining: Fen) -> Box<Statement> {
        let row = Row { person: PERSON, wallet: WalletKey::Main };
        let signed = (replica, row, remaining, Fen::ZERO, NOON_MS);
        let signature = feed::sign("statement", &signed, &key_of(NodeId::HUB));
        Box::new(Statement { replica, row, remaining, taken_in: Fen::ZERO, hub_time_ms: NOON_MS, signature })
    }

    fn grant(&mut self, to: Writer, total: i64) -> Run {
        let row = Row { person: PERSON, wallet: WalletKey::Main };
        let basis = Some(HubVoice::statement(to, Fen(total)));
        self.say(
            Channel::Rights(to),
            vec![Body::Grant(GrantRecord { row, total: Fen(total), last_day: None, basis, lease: None })],
        )
    }
}

struct Box_ {
    store: MemoryStore,
    edge: Edge,
    mono_ms: u64,
    /// What the machine's own clock says.
    wall_ms: i64,
}

impl Box_ {
    fn new(node: u32, campus: u16) -> Box_ {
        let store = MemoryStore::default();
        let place = Place { node: NodeId(node), campus: Some(CampusId(campus)) };
        let edge = Edge::load(&store, edge_writer(node), place).unwrap();
        Box_ { store, edge, mono_ms: 1000, wall_ms: 0 }
    }

    /// Knows the hub, both boxes of campus 1 and one of campus 2, one person, one till per campus; has a lease.
    fn ready(node: u32, campus: u16, hub: &mut HubVoice) -> Box_ {
        let mut this = Box_::new(node, campus);
        this.run(Command::TrustHub(node_record(HUB, None)));
        for run in hub.registry() {
            assert!(matches!(this.run(Command::Ingest(run.into())), Reply::Stored(..)));
        }
        let lease = lease_of(edge_writer(node));
        let receipts = Channel::Receipts(NodeId(node));
        let run = hub.say(receipts, vec![Body::Time(NOON_MS), Body::Lease(lease)]);
        assert!(matches!(this.run(Command::Ingest(run.into())), Reply::Stored(..)));
        this.put_person();
        this
    }

    fn put_person(&mut self) {
        let mut tx = Tx::new(&self.store);
        let card = Card { number: CARD, uid: None, state: CardState::Active, valid_until: None };
        let person = Person {
            person: PERSON,
            home: CampusId(1),
            name: "测试员".into(),
            staff_number: "0001".into(),
            category: CategoryId(1),
            status: PersonStatus::Active,
            valid: (None, None),
            cards: vec![card],
            id_hash: [0; 16],
        };
        self.edge.mesh.put_person(&mut tx, &person, &mut Vec::new()).unwrap();
        let batch = tx.into_batch();
        self.store.commit(&batch).unwrap();
    }

    fn handle(&mut self, command: Command) -> (Reply, Vec<Effect>) {
        self.mono_ms += 10_000;
        let ticks = Ticks { boot: 1, mono_ms: self.mono_ms, wall_ms: self.wall_ms };
        let mut effects = Vec::new();
        let mut tx = Tx::new(&self.store);
        let reply = self.edge.handle(&mut tx, command, ticks, &mut effects).unwrap();
        let batch = tx.into_batch();
        self.store.commit(&batch).unwrap();
        (reply, effects)
    }

    fn run(&mut self, command: Command) -> Reply {
        self.handle(command).0
    }

    fn buy(&mut self, seq: u32, fen: i64) -> Answer {
        self.sell(request(self.till(), seq, fen))
    }

    fn sell(&mut self, request: PurchaseRequest) -> Answer {
        match self.run(Command::Purchase { request, may_ask: false }) {
            Reply::Outcome(Outcome::Answered(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// Headquarters changes the tariff.
    fn price_by(&mut self, hub: &mut HubVoice, change: impl FnOnce(&mut TariffSheet)) {
        let mut next = sheet();
        next.version = TariffVersion(2);
        change(&mut next);
        let run = hub.say(Channel::Registry, vec![Body::Tariff(Box::new(next))]);
        assert!(matches!(self.run(Command::Ingest(run.into())), Reply::Stored(..)));
    }

    fn alarms(&self, kind: &str) -> Vec<String> {
        let journal = FeedId { writer: self.edge.mesh.me, channel: Channel::Journal };
        let entries = self.store.entries(&journal, Seq(1), usize::MAX).unwrap();
        let alarm = |bytes: &Vec<u8>| match Entry::decode(bytes).unwrap().body {
            Body::Alarm(alarm) if alarm.kind == kind => Some(alarm.detail),
            _ => None,
        };
        entries.iter().filter_map(alarm).collect()
    }

    fn till(&self) -> TerminalId {
        TerminalId(u32::from(self.edge.mesh.place.campus.unwrap().0) * 10)
    }

    /// A power cut: memory is gone, the store stays.
    fn restart(&mut self) {
        let (me, place) = (self.edge.mesh.me, self.edge.mesh.place);
        self.edge = Edge::load(&self.store, me, place).unwrap();
    }

    /// The other's feed as it would be sent.
    fn feed_to(&self, channel: Channel, other: &mut Box_) -> Reply {
        use yika_crdt::store::Read;
        let feed = FeedId { writer: self.edge.mesh.me, channel };
        let from = other.store.feed(&feed).unwrap().end.seq.next();
        let entries = self.store.entries(&feed, from, usize::MAX).unwrap();
        let head = SignedHead::sign(feed, self.store.feed(&feed).unwrap().end, &key_of(feed.writer.node));
        other.run(Command::Ingest(Run { from, entries, head }.into()))
    }
}

impl HubVoice {
    fn registry(&mut self) -> Vec<Run> {
        let feed = FeedId { writer: HUB, channel: Channel::Registry };
        self.ends.remove(&feed);
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
        let till = |campus: u16| {
            Body::Terminal(TerminalRecord {
                terminal: TerminalId(u32::from(campus) * 10),
                campus: CampusId(campus),
                kind: TerminalKind::Till,
                outlet: OutletId(1),
                merchant: MerchantId(1),
                door: None,
                name: "一号窗口".into(),
                state: TerminalState::Deployed,
            })
        };
        let nodes = [(1, 1), (2, 1), (3, 2)];
        let mut bodies = vec![campus(1), campus(2), till(1), till(2), Body::Tariff(Box::new(sheet()))];
        bodies.extend(nodes.map(|(n, c)| Body::Node(node_record(edge_writer(n), Some(CampusId(c))))));
        vec![self.say(Channel::Registry, bodies)]
    }
}

fn lease_of(writer: Writer) -> LeaseRecord {
    let until_ms = NOON_MS + 72 * HOUR_MS;
    let signature = feed::sign("lease", &(writer, until_ms), &key_of(NodeId::HUB));
    LeaseRecord { incarnation: writer.incarnation, until_ms, signature }
}

fn node_record(writer: Writer, campus: Option<CampusId>) -> NodeRecord {
    let key = key_of(writer.node).verifying_key().to_bytes();
    NodeRecord { writer, campus, key, name: writer.to_string(), address: None }
}

fn sheet() -> TariffSheet {
    let lunch = MealPeriod { id: PeriodId(2), name: "午餐".into(), from_minute: 630, until_minute: 840 };
    let fixed = FixedPrice { outlet: None, category: None, period: None, price: Fen(1200) };
    TariffSheet {
        version: TariffVersion(1),
        periods: vec![lunch],
        fixed: vec![fixed],
        adjustments: vec![],
        limits: vec![],
        barred: vec![],
        repeat_tap_seconds: 0,
        guest: GuestRule { per_purchase: Fen(2000), per_card_day: Fen(3000) },
    }
}

fn request(terminal: TerminalId, seq: u32, fen: i64) -> PurchaseRequest {
    let id = PurchaseId { terminal, boot: 1, seq };
    PurchaseRequest { id, card: CARD, mode: Mode::Amount(Fen(fen)), terminal_time_ms: 0, offline: false, tariff: None }
}

fn refund(seq: u32, of: u32, kind: RefundKind, amount: Option<i64>) -> Command {
    let id = |seq| PurchaseId { terminal: TerminalId(10), boot: 1, seq };
    let amount = amount.map(Fen);
    Command::Refund(RefundRequest { id: id(seq), of: id(of), kind, amount, operator: OperatorId(1) })
}

fn approved(answer: &Answer) -> Fen {
    match answer {
        Answer::Approved(record) => Fen::sum(record.paid.iter().map(|(_, f)| *f)).unwrap(),
        other => panic!("not approved: {other:?}"),
    }
}

#[test]
fn a_purchase_spends_the_right_and_never_more() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 2000).into()));
    assert_eq!(approved(&edge.buy(1, 1500)), Fen(1500));
    assert_eq!(edge.buy(2, 600), Answer::Refused(Reason::NotEnough));
    assert_eq!(approved(&edge.buy(3, 500)), Fen(500));
    let negative = edge.buy(4, -5);
    assert_eq!(negative, Answer::Refused(Reason::BadAmount));
    assert_eq!(edge.buy(5, i64::MAX), Answer::Refused(Reason::BadAmount));
}

#[test]
fn the_same_id_gets_its_first_answer_again_after_a_restart() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 2000).into()));
    let first = edge.buy(1, 1500);
    let refusal = edge.buy(2, 1500);
    edge.restart();
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 9000).into()));
    assert_eq!(edge.buy(1, 1500), first);
    assert_eq!(edge.buy(2, 1500), refusal, "a refusal stays a refusal although there is money now");
    assert_eq!(edge.buy(1, 1400), Answer::Refused(Reason::IdReused));
}

#[test]
fn a_shortage_may_be_asked_for_and_writes_nothing() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    let asked = edge.run(Command::Purchase { request: request(TerminalId(10), 1, 700), may_ask: true });
    let row = Row { person: PERSON, wallet: WalletKey::Main };
    assert_eq!(asked, Reply::Outcome(Outcome::Short { row, missing: Fen(700) }));
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 700).into()));
    assert_eq!(approved(&edge.buy(1, 700)), Fen(700));
}

/// Rows POS-20, POS-22.
#[test]
fn corrections_are_linked_and_never_exceed_the_sale() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 1000).into()));
    edge.buy(1, 1000);
    assert!(matches!(edge.run(refund(2, 1, RefundKind::Correction, Some(400))), Reply::Answer(Answer::Refunded(_))));
    let over = edge.run(refund(3, 1, RefundKind::Refund, Some(601)));
    assert_eq!(over, Reply::Answer(Answer::Refused(Reason::OverRefund)));
    assert!(matches!(edge.run(refund(4, 1, RefundKind::Refund, None)), Reply::Answer(Answer::Refunded(_))));
    assert!(matches!(edge.run(refund(4, 1, RefundKind::Refund, None)), Reply::Answer(Answer::Refunded(_))));
    assert_eq!(approved(&edge.buy(5, 1000)), Fen(1000), "what was given back can be spent again, once");
    assert_eq!(edge.buy(6, 1), Answer::Refused(Reason::NotEnough));
}

#[test]
fn a_refused_refund_gets_its_first_answer_again_whatever_has_changed_since() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 1000).into()));
    let no_such_sale = Reply::Answer(Answer::Refused(Reason::NoSuchSale));
    assert_eq!(edge.run(refund(2, 1, RefundKind::Refund, None)), no_such_sale);
    assert_eq!(approved(&edge.buy(1, 300)), Fen(300), "the sale was on its way");
    assert_eq!(edge.run(refund(2, 1, RefundKind::Refund, None)), no_such_sale);
    edge.restart();
    assert_eq!(edge.run(refund(2, 1, RefundKind::Refund, None)), no_such_sale);
    let reused = Reply::Answer(Answer::Refused(Reason::IdReused));
    assert_eq!(edge.run(refund(2, 1, RefundKind::Refund, Some(1))), reused);
    assert_eq!(edge.buy(2, 5), Answer::Refused(Reason::IdReused), "nor is anything sold under it");
    let Reply::Answer(Answer::Refunded(back)) = edge.run(refund(3, 1, RefundKind::Refund, None)) else { panic!() };
    assert_eq!(back.back, vec![(Source::Wallet(WalletKey::Main), Fen(300))], "asked anew, it is given back");
    assert_eq!(edge.run(refund(4, 1, RefundKind::Refund, Some(1))), Reply::Answer(Answer::Refused(Reason::OverRefund)));
    let journal = FeedId { writer: edge_writer(1), channel: Channel::Journal };
    let written = edge.store.entries(&journal, Seq(1), usize::MAX).unwrap();
    let refused = written.iter().filter(|bytes| matches!(Entry::decode(bytes).unwrap().body, Body::NotRefunded(_)));
    assert_eq!(refused.count(), 2, "one entry for each id");

    // The sibling that takes over gives the same answers.
    let mut sibling = Box_::ready(2, 1, &mut hub);
    assert!(matches!(edge.feed_to(Channel::Journal, &mut sibling), Reply::Stored(..)));
    assert_eq!(sibling.run(refund(2, 1, RefundKind::Refund, None)), no_such_sale);
    assert_eq!(sibling.run(refund(2, 1, RefundKind::Refund, Some(1))), reused);
}

#[test]
fn a_reversal_that_comes_first_voids_the_purchase() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 1000).into()));
    assert_eq!(edge.run(refund(2, 1, RefundKind::Reversal, None)), Reply::Answer(Answer::Voided));
    assert_eq!(edge.buy(1, 500), Answer::Refused(Reason::Voided));
    assert_eq!(edge.run(refund(3, 9, RefundKind::Refund, None)), Reply::Answer(Answer::Refused(Reason::NoSuchSale)));
}

/// Every id that was asked under has its answer, also one that only acknowledged: at this box, after a restart, at a
/// sibling, and after its day has left the box.
#[test]
fn an_acknowledged_reversal_gets_its_first_answer_again() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 1000).into()));
    let voided = Reply::Answer(Answer::Voided);
    let reversal = |seq, of| refund(seq, of, RefundKind::Reversal, None);
    assert_eq!(edge.buy(1, 2000), Answer::Refused(Reason::NotEnough));
    assert_eq!(edge.run(reversal(2, 1)), voided, "of a refused sale");
    assert_eq!(edge.run(reversal(4, 3)), voided, "of a sale that has not come");
    assert_eq!(approved(&edge.buy(5, 500)), Fen(500));
    assert!(matches!(edge.run(reversal(6, 5)), Reply::Answer(Answer::Refunded(_))));
    assert_eq!(edge.run(reversal(7, 5)), voided, "of a reversed sale, under a new id");
    let mut sibling = Box_::ready(2, 1, &mut hub);
    sibling.run(Command::Ingest(hub.grant(edge_writer(2), 1000).into()));
    assert!(matches!(edge.feed_to(Channel::Journal, &mut sibling), Reply::Stored(..)));
    edge.restart();
    for (name, which) in [("the box", &mut edge), ("its sibling", &mut sibling)] {
        for (seq, of) in [(2, 1), (4, 3), (7, 5)] {
            assert_eq!(which.run(reversal(seq, of)), voided, "{name}, {seq}");
            let reused = which.run(refund(seq, of, RefundKind::Refund, Some(1)));
            assert_eq!(reused, Reply::Answer(Answer::Refused(Reason::IdReused)), "{name}, {seq}");
            assert_eq!(which.buy(seq, 100), Answer::Refused(Reason::IdReused), "{name}, {seq}");
        }
        assert_eq!(which.buy(3, 100), Answer::Refused(Reason::Voided), "{name}");
        assert!(matches!(which.run(reversal(6, 5)), Reply::Answer(Answer::Refunded(_))), "{name}");
        assert_eq!(which.buy(6, 100), Answer::Refused(Reason::IdReused), "{name}: a refund is no sale");
        for other in
            [refund(6, 5, RefundKind::Refund, None), reversal(6, 1), refund(6, 5, RefundKind::Reversal, Some(1))]
        {
            assert_eq!(which.run(other), Reply::Answer(Answer::Refused(Reason::IdReused)), "{name}");
        }
    }
    prune_all(&mut edge);
    for (seq, of) in [(2, 1), (4, 3), (7, 5)] {
        assert_eq!(edge.run(reversal(seq, of)), Reply::Answer(Answer::Refused(Reason::TooOld)), "pruned, {seq}");
        assert_eq!(edge.buy(seq, 100), Answer::Refused(Reason::TooOld), "pruned, {seq}");
    }
}

/// Lets the journal of a box go, as the hub's word on its totals would after its time.
fn prune_all(edge: &mut Box_) {
    edge.mono_ms += 24 * HOUR_MS as u64;
    edge.run(Command::Tick);
    let mut tx = Tx::new(&edge.store);
    let me = edge.edge.mesh.me;
    let cuts = tx.scan(&yika_crdt::keys::cuts(me), None, 8).unwrap();
    let (key, bytes) = cuts.last().unwrap();
    let (day, seq, tally): (Day, Seq, Option<yika_crdt::tally::Tally>) =
        yika_crdt::store::decode_row(key, bytes).unwrap();
    tx.put(yika_crdt::keys::tally(me.incarnation, day), &tally.unwrap());
    let receipt = ReceiptRecord { incarnation: me.incarnation, held: seq, archived: seq };
    tx.put(yika_crdt::keys::receipt(me.incarnation), &receipt);
    let today = Day(day.0 + 1 + yika_crdt::sale::prune::KEEP_DAYS);
    assert_eq!(yika_crdt::sale::prune::prune(&edge.edge.mesh, &mut tx, today).unwrap(), None);
    let batch = tx.into_batch();
    assert!(!batch.prune.is_empty());
    edge.store.commit(&batch).unwrap();
}

#[test]
fn a_sibling_whose_entry_comes_to_impossible_sums_stops_nothing() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    let mut sibling = Box_::ready(2, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 1000).into()));
    sibling.run(Command::Ingest(hub.grant(edge_writer(2), 1000).into()));
    let bought = |edge: &mut Box_, seq| match edge.buy(seq, 400) {
        Answer::Approved(sale) => sale,
        other => panic!("{other:?}"),
    };
    let day = bought(&mut edge, 1).day;
    // Of one day: day, sum, times, meals, guest sum, last: as a fault of ours might have left them.
    let meals = std::collections::BTreeMap::<u8, (Fen, u32)>::new();
    let last: Option<yika_crdt::tariff::Tap> = None;
    let counters = vec![(day, Fen(i64::MAX - 100), 0u32, meals, Fen::ZERO, last)];
    let mut tx = Tx::new(&sibling.store);
    tx.put(yika_crdt::keys::counters(PERSON), &counters);
    let batch = tx.into_batch();
    sibling.store.commit(&batch).unwrap();
    edge.run(refund(2, 9, RefundKind::Refund, None));
    let journal = FeedId { writer: edge_writer(1), channel: Channel::Journal };
    let from = sibling.store.feed(&journal).unwrap().end.seq.next();
    let entries = edge.store.entries(&journal, from, usize::MAX).unwrap();
    let end = edge.store.feed(&journal).unwrap().end;
    let run = Run { from, entries, head: SignedHead::sign(journal, end, &key_of(NodeId(1))) };
    let (reply, effects) = sibling.handle(Command::Ingest(run.into()));
    assert_eq!(reply, Reply::Stored(journal, end.seq));
    let aside: Vec<_> = effects.iter().filter(|e| matches!(e, Effect::Quarantined { .. })).collect();
    assert_eq!((aside.len(), sibling.edge.mesh.quarantined), (1, 1), "{effects:?}");
    let kept = sibling.store.get(&yika_crdt::keys::counters(PERSON)).unwrap().unwrap();
    assert_eq!(kept, yika_crdt::wire::encode(&counters), "what it did is taken back");
    let again = |which: &mut Box_, seq| which.buy(seq, 400);
    assert_eq!(again(&mut sibling, 1), again(&mut edge, 1), "its id is answered all the same");
    let no_such_sale = sibling.run(refund(2, 9, RefundKind::Refund, None));
    assert_eq!(no_such_sale, Reply::Answer(Answer::Refused(Reason::NoSuchSale)), "and the rest of the run goes on");
    sibling.restart();
    assert_eq!(sibling.edge.mesh.quarantined, 1);
}

#[test]
fn a_fact_is_charged_to_right_float_and_receivable() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 300).into()));
    let row = Row { person: PersonId(0), wallet: WalletKey::Float(TerminalId(10)) };
    let float = GrantRecord { row, total: Fen(200), last_day: None, basis: None, lease: None };
    edge.run(Command::Ingest(hub.say(Channel::Rights(edge_writer(1)), vec![Body::Grant(float)]).into()));
    let fact = PurchaseRequest { offline: true, ..request(TerminalId(10), 1, 900) };
    let Reply::Outcome(Outcome::Answered(Answer::Approved(record))) =
        edge.run(Command::Purchase { request: fact, may_ask: false })
    else {
        panic!("a fact is never refused for money")
    };
    let expected =
        vec![(Source::Wallet(WalletKey::Main), Fen(300)), (Source::Float, Fen(200)), (Source::Receivable, Fen(400))];
    assert_eq!(record.paid, expected);
}

#[test]
fn without_a_lease_only_guests_are_served() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    let row = Row { person: PersonId(0), wallet: WalletKey::Guest };
    let pool = Body::Grant(GrantRecord { row, total: Fen(10_000), last_day: None, basis: None, lease: None });
    edge.run(Command::Ingest(hub.say(Channel::Rights(edge_writer(1)), vec![pool]).into()));
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 5000).into()));
    edge.mono_ms += 73 * HOUR_MS as u64;
    let Answer::Approved(record) = edge.buy(1, 1500) else { panic!("the guest rule serves") };
    assert_eq!(record.paid, vec![(Source::Guest, Fen(1500))]);
    assert_eq!(edge.buy(2, 1600), Answer::Refused(Reason::NoLease), "the cap of a card and day");
}

#[test]
fn a_block_refuses_at_once_and_only_its_own_campus_lifts_it() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 1000).into()));
    let block = BlockRecord { target: BlockTarget::Card(CARD), reason: BlockReason::Lost, operator: OperatorId(3) };
    edge.run(Command::Block(block.clone()));
    edge.run(Command::Ingest(hub.say(Channel::Blocks(BlockScope::Hub), vec![Body::Block(block)]).into()));
    assert_eq!(edge.buy(1, 500), Answer::Refused(Reason::Blocked));
    let lift = Command::Lift { target: BlockTarget::Card(CARD), operator: OperatorId(3) };
    assert_eq!(edge.run(lift), Reply::Lifted { lifted: 1, left: 1 });
    edge.restart();
    assert_eq!(edge.buy(2, 500), Answer::Refused(Reason::Blocked), "the hub's block stands");
}

/// A range is judged by position: what of it comes later is lifted, what stands beyond it is not.
#[test]
fn a_lifted_range_holds_for_what_comes_later_and_only_headquarters_lifts_one() {
    let mut hub = HubVoice::default();
    let mut writer = Box_::ready(2, 1, &mut hub);
    let mut edge = Box_::ready(1, 1, &mut hub);
    let feed = FeedId { writer: edge_writer(2), channel: Channel::Blocks(BlockScope::Campus(CampusId(1))) };
    let target = |number| BlockTarget::Card(CardNumber(number));
    let block = |writer: &mut Box_, number| {
        let record = BlockRecord { target: target(number), reason: BlockReason::Lost, operator: OperatorId(3) };
        writer.run(Command::Block(record));
    };
    let blocked = |edge: &Box_| [1, 2, 3].map(|number| edge.edge.mesh.people.read().is_blocked(target(number)));
    let range = |to| Body::Lift(LiftRecord::Range { feed, from: Seq(1), to: Seq(to), operator: OperatorId(1) });
    block(&mut writer, 1);
    writer.feed_to(feed.channel, &mut edge);
    let lifted = hub.say(Channel::Blocks(BlockScope::Hub), vec![range(2)]);
    let (_, effects) = edge.handle(Command::Ingest(lifted.into()));
    assert!(effects.contains(&Effect::People), "terminals are told");
    block(&mut writer, 2);
    block(&mut writer, 3);
    writer.feed_to(feed.channel, &mut edge);
    assert_eq!(blocked(&edge), [false, false, true]);
    edge.restart();
    assert_eq!(blocked(&edge), [false, false, true]);
    let mut tx = Tx::new(&writer.store);
    let entry = Entry { stamp: Stamp::default(), body: range(3) };
    writer.edge.mesh.append(&mut tx, feed.channel, &entry, &mut Vec::new()).unwrap();
    assert_eq!((writer.edge.mesh.quarantined, blocked(&writer)), (1, [true, true, true]), "a box lifts no range");
}

#[test]
fn a_cheque_moves_right_with_the_hub_away_and_only_once() {
    let mut hub = HubVoice::default();
    let mut giver = Box_::ready(1, 1, &mut hub);
    let mut taker = Box_::ready(3, 2, &mut hub);
    giver.run(Command::Ingest(hub.grant(edge_writer(1), 1000).into()));
    let row = Row { person: PERSON, wallet: WalletKey::Main };
    let ask = |total| Command::Ask { from: edge_writer(3), row, total: Fen(total) };
    assert_eq!(giver.run(ask(600)), Reply::Granted(true));
    assert_eq!(giver.run(ask(600)), Reply::Granted(true), "asking again gives nothing more");
    assert!(matches!(giver.feed_to(Channel::Rights(edge_writer(3)), &mut taker), Reply::Stored(..)));
    assert_eq!(approved(&taker.buy(1, 600)), Fen(600));
    assert_eq!(taker.buy(2, 1), Answer::Refused(Reason::NotEnough));
    assert_eq!(approved(&giver.buy(1, 400)), Fen(400));
    assert_eq!(giver.buy(2, 1), Answer::Refused(Reason::NotEnough));
    assert_eq!(taker.run(Command::Ask { from: edge_writer(1), row, total: Fen(1) }), Reply::Granted(false));
}

#[test]
fn a_forged_cheque_is_worth_nothing() {
    let mut hub = HubVoice::default();
    let mut taker = Box_::ready(3, 2, &mut hub);
    let feed = FeedId { writer: edge_writer(1), channel: Channel::Rights(edge_writer(3)) };
    let row = Row { person: PERSON, wallet: WalletKey::Main };
    let mut basis = HubVoice::statement(edge_writer(1), Fen(100));
    basis.remaining = Fen(100_000);
    let stamp = Stamp { hub_time_ms: NOON_MS, boot: 1, mono_ms: 0 };
    let grant = GrantRecord { row, total: Fen(50_000), last_day: None, basis: Some(basis), lease: None };
    let entry = Entry { stamp, body: Body::Grant(grant) }.encode();
    let end = feed::link(&feed, End::default(), &entry);
    let head = SignedHead::sign(feed, end, &key_of(NodeId(1)));
    taker.run(Command::Ingest(Run { from: Seq(1), entries: vec![entry], head }.into()));
    assert_eq!(taker.buy(1, 100), Answer::Refused(Reason::NotEnough));
}

#[test]
fn a_sale_answered_by_the_sibling_is_answered_alike_here() {
    let mut hub = HubVoice::default();
    let mut first = Box_::ready(1, 1, &mut hub);
    let mut second = Box_::ready(2, 1, &mut hub);
    first.run(Command::Ingest(hub.grant(edge_writer(1), 1000).into()));
    let answer = first.buy(1, 400);
    assert!(matches!(first.feed_to(Channel::Journal, &mut second), Reply::Stored(..)));
    assert_eq!(second.buy(1, 400), answer);
    let back = second.run(refund(2, 1, RefundKind::Correction, None));
    assert_eq!(back, Reply::Answer(Answer::Refused(Reason::NoSuchSale)), "only the box that sold gives back");
}

#[test]
fn the_day_is_cut_when_the_clock_passes_it() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 1000).into()));
    edge.buy(1, 100);
    edge.mono_ms += 24 * HOUR_MS as u64;
    let cut = edge.run(refund(2, 1, RefundKind::Refund, None));
    assert_eq!(cut, Reply::Answer(Answer::Refused(Reason::DayCut)));
}

#[test]
fn a_run_from_where_it_may_not_come_is_refused_whole() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    let stranger = FeedId { writer: edge_writer(9), channel: Channel::Journal };
    let foreign = FeedId { writer: edge_writer(3), channel: Channel::Journal };
    let usurped = FeedId { writer: edge_writer(2), channel: Channel::Registry };
    for feed in [stranger, foreign, usurped] {
        let entry = Entry { stamp: Stamp::default(), body: Body::Cut(Day(1)) }.encode();
        let end = feed::link(&feed, End::default(), &entry);
        let head = SignedHead::sign(feed, end, &key_of(feed.writer.node));
        let reply = edge.run(Command::Ingest(Run { from: Seq(1), entries: vec![entry], head }.into()));
        assert!(matches!(reply, Reply::Refused(_)), "{feed}: {reply:?}");
    }
}

#[test]
fn an_unknown_entry_is_quarantined_and_the_feed_goes_on() {
    let mut hub = HubVoice::default();
    let mut edge = Box_::ready(1, 1, &mut hub);
    let feed = FeedId { writer: HUB, channel: Channel::Rights(edge_writer(1)) };
    let entry = vec![0, 0, 0, 200, 1];
    let end = feed::link(&feed, End::default(), &entry);
    hub.ends.insert(feed, end);
    let head = SignedHead::sign(feed, end, &key_of(NodeId::HUB));
    let (reply, effects) = edge.handle(Command::Ingest(Run { from: Seq(1), entries: vec![entry], head }.into()));
    assert_eq!(reply, Reply::Stored(feed, Seq(1)));
    assert!(effects.iter().any(|e| matches!(e, Effect::Quarantined { .. })));
    edge.run(Command::Ingest(hub.grant(edge_writer(1), 1000).into()));
    assert_eq!(approved(&edge.buy(1, 100)), Fen(100));
}

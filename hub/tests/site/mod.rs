//! A headquarters with invented people, boxes that sign their journals, and a day of sales: what the console's tests and
//! its example show. Everything goes in by the ways of production: the desk, tokens, signed runs.
#![allow(dead_code, unreachable_pub)] // each user takes what it needs

use ed25519_dalek::SigningKey;
use std::path::Path;
use std::sync::Arc;
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::civil::DAY_MS;
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;
use yika_crdt::tariff::sheet::{PeriodId, TariffSheet};
use yika_hub::backup::Backups;
use yika_hub::clock::wall_ms;
use yika_hub::core::{Command, Reply, enrol};
use yika_hub::desk::{Actor, Desk, ImportReport, NewOperator, NewTerminal};
use yika_hub::identity::HubIdentity;
use yika_hub::import::{Lang, demo_people};
use yika_hub::machine::HubMachine;
use yika_hub::node::HubNode;
use yika_hub::store::people::{self, PeopleQuery};
use yika_store::WriterThread;

/// Password of every invented operator.
pub const PASSWORD: &str = "石桥-lantern-42";

/// A tariff with three meals.
pub const TARIFF: &str = r#"
version = 0
barred = [[4, 2]]
repeat_tap_seconds = 5
[[periods]]
id = 1
name = "早餐"
from_minute = 360
until_minute = 570
[[periods]]
id = 2
name = "午餐"
from_minute = 630
until_minute = 840
[[periods]]
id = 3
name = "晚餐"
from_minute = 990
until_minute = 1200
[[fixed]]
period = 1
price = 500
[[fixed]]
period = 2
price = 1200
[[fixed]]
period = 2
category = 2
price = 1500
[[fixed]]
period = 3
price = 1000
[[adjustments]]
category = 3
basis_points = 1000
flat = 0
[[limits]]
per_purchase = 5000
per_meal = 8000
per_day = 20000
times_per_meal = 2
times_per_day = 0
scope = "Local"
[guest]
per_purchase = 2000
per_card_day = 4000
"#;

/// A box that signs what it says.
pub struct TestBox {
    pub writer: Writer,
    pub campus: CampusId,
    pub tills: Vec<TerminalId>,
    key: SigningKey,
    end: End,
    serial: u32,
}

/// A holder as sales need him.
#[derive(Clone, Debug)]
pub struct Holder {
    pub person: PersonId,
    pub card: CardNumber,
    pub name: String,
    pub staff_number: String,
    pub campus: CampusId,
}

pub struct Site {
    pub desk: Desk,
    pub boxes: Vec<TestBox>,
    pub holders: Vec<Holder>,
    _thread: WriterThread<HubMachine>,
}

/// A headquarters in an empty folder, with nothing in it but the hub itself.
pub fn empty(dir: &Path) -> Site {
    if !HubIdentity::exists(dir) {
        HubIdentity::init(dir, "示范集团总部").unwrap();
    }
    let identity = HubIdentity::load(dir).unwrap();
    let (node, thread) = tokio::task::block_in_place(|| HubNode::start(&identity, dir)).unwrap();
    let backups = Backups::new(dir.to_owned(), dir.join("backups"), 3, String::new());
    let desk = Desk::new(node, "hub.example.com:7443".into(), identity.authority.pin()).with_backups(Arc::new(backups));
    Site { desk, boxes: Vec::new(), holders: Vec::new(), _thread: thread }
}

impl Site {
    /// A headquarters that runs.
    pub fn of(desk: Desk, thread: WriterThread<HubMachine>) -> Site {
        Site { desk, boxes: Vec::new(), holders: Vec::new(), _thread: thread }
    }
}

/// Two campuses with three boxes, `per_campus` people each, money, and the sales of today and of this day a week ago.
pub async fn filled(dir: &Path, per_campus: usize) -> Site {
    let mut site = empty(dir);
    site.campuses().await;
    for (login, role, campus) in [
        ("chief", "admin", None),
        ("clerk", "clerk", None),
        ("cashier", "cashier", None),
        ("auditor", "auditor", None),
        ("east", "clerk", Some(CampusId(1))),
        ("eastadmin", "admin", Some(CampusId(1))),
    ] {
        site.operator(login, role, campus).await;
    }
    let sheet: TariffSheet = toml::from_str(TARIFF).unwrap();
    site.desk.set_tariff(&Actor::console(), sheet).await.unwrap();
    for (campus, name) in [(1, "东校区 A1"), (1, "东校区 A2"), (2, "西校区 B1")] {
        site.join(CampusId(campus), name).await;
    }
    let file = demo_people(7, &["东校区", "西校区"], per_campus).unwrap();
    site.import(file).await;
    site.load_holders().await;
    for holder in site.holders.clone().iter().take(300) {
        let request = format!("first-{}", holder.person);
        site.desk.top_up(&Actor::console(), holder.person, Fen(30_000), &request).await.unwrap();
    }
    site.sell().await;
    site
}

impl Site {
    pub async fn campuses(&self) {
        for (number, name) in [(1, "东校区"), (2, "西校区")] {
            let record = CampusRecord {
                campus: CampusId(number),
                name: name.into(),
                utc_offset_minutes: 480,
                cut_minute: 180,
                people_shards: 4,
            };
            self.desk.put_campus(&Actor::console(), record).await.unwrap();
        }
    }

    pub async fn operator(&self, login: &str, role: &str, campus: Option<CampusId>) -> OperatorId {
        let name = format!("操作员{login}");
        let new = NewOperator {
            login: login.into(),
            name,
            role: role.into(),
            campus,
            password: PASSWORD.into(),
            keep_password: true,
        };
        self.desk.add_operator(&Actor::console(), new).await.unwrap()
    }

    /// Enrols a box as the join conversation does, with two tills.
    pub async fn join(&mut self, campus: CampusId, name: &str) {
        let at = self.boxes.len() as u8;
        let key = SigningKey::from_bytes(&[at + 50; 32]);
        let hash = [at + 1; 32];
        let row = enrol::TokenRow { campus, expires_ms: wall_ms() + 60_000, replaces: None, used: None };
        let node = &self.desk.node;
        node.call(Command::CreateToken { hash, row }).await.unwrap();
        let redeem = Command::Redeem { hash, key: key.verifying_key().to_bytes(), name: name.into() };
        let Reply::Redeemed(Ok((used, _))) = node.call(redeem).await.unwrap() else { panic!("not redeemed") };
        node.refresh_registry().unwrap();
        // It is switched on: from here on it has a share.
        node.call(Command::Connected(used.writer)).await.unwrap();
        let mut tills = Vec::new();
        for window in 1..=2 {
            let new = NewTerminal {
                campus,
                kind: "till".into(),
                name: format!("{name} {window} 号窗"),
                outlet: OutletId(1),
                merchant: MerchantId(u32::from(campus.0)),
                door: None,
            };
            tills.push(self.desk.register_terminal(&Actor::console(), new).await.unwrap().terminal);
        }
        self.boxes.push(TestBox { writer: used.writer, campus, tills, key, end: End::default(), serial: 0 });
    }

    pub async fn import(&self, file: Vec<u8>) -> ImportReport {
        self.import_as("people.xlsx", file).await
    }

    pub async fn import_as(&self, name: &str, file: Vec<u8>) -> ImportReport {
        let quiet = Arc::new(|_, _| {});
        self.desk.import_people(&Actor::console(), name, file, false, Lang::Zh, quiet).await.unwrap()
    }

    pub async fn load_holders(&mut self) {
        let query = PeopleQuery { limit: 2_000, ..PeopleQuery::default() };
        let (rows, _) = self.desk.node.query(move |conn| people::find(conn, &query)).await.unwrap();
        let holder = |row: &yika_hub::store::ProfileRow| {
            Some(Holder {
                person: PersonId(row.person),
                card: CardNumber(row.card?),
                name: row.name.clone(),
                staff_number: row.staff_number.clone(),
                campus: CampusId(row.campus),
            })
        };
        self.holders = rows.iter().filter_map(holder).collect();
    }

    /// A run of a box's journal, signed and taken in.
    pub async fn say(&mut self, at: usize, bodies: Vec<(i64, Body)>) {
        let this = &mut self.boxes[at];
        let feed = FeedId { writer: this.writer, channel: Channel::Journal };
        for chunk in bodies.chunks(2_000) {
            let held = this.end;
            let entry = |(at_ms, body): &(i64, Body)| {
                let stamp = Stamp { hub_time_ms: *at_ms, boot: 1, mono_ms: 0 };
                Entry { stamp, body: body.clone() }.encode()
            };
            let entries: Vec<_> = chunk.iter().map(entry).collect();
            this.end = entries.iter().fold(held, |end, bytes| feed::link(&feed, end, bytes));
            let run = Run { from: held.seq.next(), entries, head: SignedHead::sign(feed, this.end, &this.key) };
            let reply = self.desk.node.call(Command::Ingest(Box::new(run))).await.unwrap();
            assert!(matches!(reply, Reply::Stored(..)), "{reply:?}");
        }
    }

    /// A sale at a box, paid from the holder's main wallet.
    pub fn sale(&mut self, at: usize, holder: &Holder, fen: i64, at_ms: i64) -> PurchaseRecord {
        let this = &mut self.boxes[at];
        this.serial += 1;
        let till = this.tills[(this.serial % 2) as usize];
        let minute = (at_ms + 8 * 3_600_000).rem_euclid(DAY_MS) / 60_000;
        let period = match minute {
            360..570 => Some(PeriodId(1)),
            630..840 => Some(PeriodId(2)),
            990..1200 => Some(PeriodId(3)),
            _ => None,
        };
        PurchaseRecord {
            id: PurchaseId { terminal: till, boot: 1, seq: this.serial },
            card: holder.card,
            person: holder.person,
            category: CategoryId(1),
            outlet: OutletId(1),
            merchant: MerchantId(u32::from(this.campus.0)),
            mode: if fen % 500 == 0 { Mode::Fixed } else { Mode::Amount(Fen(fen)) },
            tariff: TariffVersion(1),
            period,
            price: Fen(fen),
            adjustment: Fen(0),
            paid: vec![(Source::Wallet(WalletKey::Main), Fen(fen))],
            balance: Fen(5_000 - fen),
            offline: this.serial.is_multiple_of(17),
            terminal_time_ms: at_ms,
            day: Day(((at_ms + 5 * 3_600_000) / DAY_MS) as i32),
        }
    }

    pub fn refusal(&mut self, at: usize, card: CardNumber, reason: Reason, at_ms: i64) -> Body {
        let sale =
            Holder { person: PersonId(0), card, name: String::new(), staff_number: String::new(), campus: CampusId(1) };
        let sale = self.sale(at, &sale, 1_000, at_ms);
        Body::Refused(RefusedRecord { id: sale.id, card, mode: sale.mode, offline: false, reason, day: sale.day })
    }

    /// The sales of a day a week ago, of yesterday and of today until now, with a refund, refusals and alarms.
    pub async fn sell(&mut self) {
        let now_ms = wall_ms();
        let midnight_ms = (now_ms + 8 * 3_600_000).div_euclid(DAY_MS) * DAY_MS - 8 * 3_600_000;
        // Newest event of each box: normal, late, off line.
        let newest_ms = [now_ms - 4_000, now_ms - 260_000, now_ms - 3 * 3_600_000];
        let holders = self.holders.clone();
        for (at, newest_ms) in newest_ms.into_iter().enumerate() {
            let campus = self.boxes[at].campus;
            let own: Vec<Holder> = holders.iter().filter(|h| h.campus == campus).take(150).cloned().collect();
            let mut said: Vec<(i64, Body)> = Vec::new();
            for days in [7, 1, 0] {
                let begin_ms = midnight_ms - days * DAY_MS;
                let end_ms = newest_ms.min(begin_ms + DAY_MS);
                for (turn, holder) in own.iter().enumerate() {
                    for (hour, minutes, fen) in [(7, 95, 500), (11, 130, 1_200), (17, 110, 1_000)] {
                        let shift = (turn * 7 + at * 3 + hour) % minutes;
                        let at_ms = begin_ms + (hour as i64 * 60 + shift as i64) * 60_000 + (turn as i64 % 50) * 731;
                        let goes = (turn + hour + at) % 4 > 0;
                        if goes && at_ms < end_ms {
                            let sale = self.sale(at, holder, fen + (turn as i64 % 7) * 50, at_ms);
                            said.push((at_ms, Body::Purchase(sale)));
                        }
                    }
                }
            }
            let last = own.first().unwrap().clone();
            let sale = self.sale(at, &last, 880, newest_ms - 1_000);
            let refund = RefundRecord {
                id: PurchaseId { seq: sale.id.seq + 500_000, ..sale.id },
                of: sale.id,
                person: last.person,
                merchant: sale.merchant,
                kind: RefundKind::Correction,
                back: vec![(Source::Wallet(WalletKey::Main), Fen(300))],
                operator: OperatorId(3),
                day: sale.day,
            };
            said.push((newest_ms - 1_000, Body::Purchase(sale)));
            for (turn, reason) in
                [Reason::NotEnough, Reason::Blocked, Reason::NotEnough, Reason::RepeatTap, Reason::OutsidePeriod]
                    .into_iter()
                    .enumerate()
            {
                let card = if turn == 1 { CardNumber(99_000_001) } else { own[turn % own.len()].card };
                let at_ms = newest_ms - 900 + turn as i64;
                said.push((at_ms, self.refusal(at, card, reason, at_ms)));
            }
            said.push((newest_ms - 100, Body::Refund(refund)));
            if at != 1 {
                let detail = format!("终端 {} 的时钟慢了 4 分钟", self.boxes[at].tills[0]);
                let alarm = AlarmRecord { kind: "clock".into(), detail };
                said.push((newest_ms - 50, Body::Alarm(alarm)));
            }
            let door = DoorRecord {
                at_ms: newest_ms,
                time_trusted: true,
                door: DoorId(1),
                terminal: None,
                card: Some(last.card),
                person: Some(last.person),
                event: DoorEvent::Granted,
            };
            said.push((newest_ms, Body::Door(door)));
            if at == 2 {
                // Yesterday is cut here: what was sold until then only headquarters gives back.
                let yesterday = (midnight_ms - 12 * 3_600_000 + 5 * 3_600_000) / DAY_MS;
                said.push((newest_ms - 10, Body::Cut(Day(yesterday as i32))));
            }
            said.sort_by_key(|(at_ms, _)| *at_ms);
            self.say(at, said).await;
        }
    }
}

/// Invented people of both campuses, as a file would hold them.
pub fn records(seed: u64, per_campus: usize) -> Vec<yika_hub::import::PersonRecord> {
    yika_hub::import::demo_records(seed, &["东校区", "西校区"], per_campus)
}

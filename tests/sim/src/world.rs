//! A whole mesh in one thread: nodes, lines, people and clerks, and an agenda of what happens when.
//!
//! First the busy time, in which people eat and faults strike; then everything is healed, and it must come to rest and
//! agree. Leaves to others: every part (`turn`, `talk`, `selling`, `crowd`, `office`, `strike`), the judgement (`verdict`).

use crate::chance::Chance;
use crate::crowd::{Crowd, Terminal};
use crate::disk::{Disk, Folder};
use crate::losses::Losses;
use crate::more::{More, Work};
use crate::nodes::{BoxNode, HUB, HubNode, LIFE, record_of};
use crate::office;
use crate::plan::{Class, Plan};
use crate::strike::Mend;
use crate::talk::{DIAL_MS, Flight, Net};
use crate::then::Then;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use yika_crdt::Fen;
use yika_crdt::documents::PersonChange;
use yika_crdt::edge;
use yika_crdt::entry::*;
use yika_crdt::gate::Shut;
use yika_crdt::ids::*;
use yika_crdt::proof;
use yika_crdt::sale::PurchaseRequest;
use yika_crdt::sync::Message;
use yika_crdt::tariff::sheet::*;
use yika_hub_core as core;

/// 2026-11-24 12:30 in Beijing.
const NOON_MS: i64 = 1_795_494_600_000;
/// 2026-11-25 02:59 there: the business day is cut a minute later.
const NIGHT_MS: i64 = NOON_MS + 52_140_000;
/// Everything must agree so long after it was healed, in virtual time.
pub const REST_MS: i64 = 60_000;
/// So long nothing fails: everybody gets to know everything.
const QUIET_MS: i64 = 8_000;
const TICK_MS: i64 = 1_000;
/// Headquarters hears its boxes so long after a start before it takes orders.
const HEARING_MS: i64 = 5_000;
const GATE_LOOK_MS: i64 = 100;
const GATE_LOOK_BEHIND_MS: i64 = 1_000;
const ASKING_MS: i64 = 700;
const ASKING_AFTER_BOOT_MS: i64 = 5_000;

/// What happens at a moment.
pub enum Event {
    /// A message arrives.
    Arrives(Flight),
    /// A node says something of its own accord.
    Says {
        /// Who.
        from: NodeId,
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Nodes dial.
    Dial,
    /// A second has passed.
    Tick,
    /// A box looks whether its gate may open.
    Gate {
        /// Which box.
        n: usize,
        /// In which start.
        start: u64,
    },
    /// A box's process starts.
    StartBox {
        /// Which box.
        n: usize,
        /// The operating system, too.
        after_boot: bool,
    },
    /// Headquarters' process starts.
    StartHub,
    /// A customer comes to a terminal.
    Customer {
        /// Which.
        t: usize,
    },
    /// A terminal asks again, unless it was answered.
    Retry {
        /// Which.
        t: usize,
        /// What.
        id: PurchaseId,
    },
    /// A terminal's request arrives at a box.
    Asked {
        /// Which box.
        n: usize,
        /// In which start.
        start: u64,
        /// What.
        request: PurchaseRequest,
    },
    /// The bound of a wait within a purchase.
    Bound {
        /// Which box.
        n: usize,
        /// In which start.
        start: u64,
        /// Which purchase.
        id: PurchaseId,
        /// Which wait.
        number: u64,
    },
    /// A clerk does something.
    Office,
    /// A clerk asks headquarters again.
    Orders(Box<core::Command>),
    /// A fault strikes.
    Strike,
    /// A fault ends.
    Mend(Mend),
    /// The idle time of a line is over.
    Silent(NodeId, NodeId),
    /// A fault that takes its time goes on.
    Then(Then),
    /// Something of a theme.
    More(Work),
}

/// What a history did, so that a test cannot pass by doing nothing.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Tally {
    /// Requests of terminals.
    pub purchases: u64,
    /// Sold.
    pub approved: u64,
    /// Of these, by what paid most of it.
    pub approved_by: BTreeMap<&'static str, u64>,
    /// Refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Refusals for money that were judged, because nothing stood in the way.
    pub refusals_judged: u64,
    /// Given back at boxes.
    pub refunds: u64,
    /// Paid out at headquarters.
    pub withdrawals: u64,
    /// Cards blocked.
    pub blocks: u64,
    /// Requests repeated because no answer came.
    pub retries: u64,
    /// First answers given again.
    pub first_answers: u64,
    /// Decided by terminals alone.
    pub facts: u64,
    /// Questions for rights.
    pub asks: u64,
    /// Of these denied.
    pub denials: u64,
    /// Decided though a sibling could not be asked.
    pub unasked: u64,
    /// Connections made.
    pub connections: u64,
    /// Messages between nodes.
    pub messages: u64,
    /// Times headquarters went into recovery.
    pub recoveries: u64,
    /// Faults that struck, by class.
    pub faults: BTreeMap<&'static str, u64>,
    /// Alarms at headquarters, by word.
    pub alarms: BTreeMap<String, u64>,
    /// What themes did, by word.
    pub done: BTreeMap<&'static str, u64>,
    /// Marks of rare branches that were hit, where the cores count them.
    pub marks: BTreeMap<&'static str, u64>,
}

/// One history.
pub struct World {
    /// What was drawn for it.
    pub plan: Plan,
    /// When it began, true time.
    pub began_ms: i64,
    /// True time.
    pub now_ms: i64,
    /// Draws everything.
    pub chance: Chance,
    /// Headquarters.
    pub hub: HubNode,
    /// Boxes.
    pub boxes: Vec<BoxNode>,
    /// Lines.
    pub net: Net,
    /// Terminals and people.
    pub crowd: Crowd,
    /// What was done.
    pub tally: Tally,
    /// Boxes whose disk was put back.
    pub put_back: BTreeSet<usize>,
    /// What boxes that lost their end, copies and liars can cost at most.
    pub losses: Losses,
    /// Headquarters was put back without a word and heard of it from no box in time: it wrote in its old life.
    pub hub_forked: bool,
    /// Lives that were fenced.
    pub fenced: BTreeSet<Writer>,
    /// Ids that a box has taken while a box of its campus could not be asked about them.
    pub taken_alone: BTreeSet<PurchaseId>,
    /// Headquarters was restored from a backup.
    pub was_restored: bool,
    /// Purchases at boxes, counted.
    pub purchases: u64,
    /// Requests of clerks, counted.
    pub requests: u64,
    /// When a fault struck last, a connection came or went, a disk refused, or a gate opened or was shut.
    pub unsettled_ms: i64,
    /// What themes know.
    pub more: More,
    /// What is wrong, if anything.
    pub failure: Option<String>,
    agenda: BTreeMap<(i64, u64), Event>,
    events: u64,
    /// Folded over everything that happened: two runs of a seed are the same.
    hash: u64,
    is_traced: bool,
}

impl World {
    /// Everything connected, people and tariff known, nothing has failed yet.
    pub fn new(plan: Plan, is_traced: bool) -> World {
        let began_ms = if plan.at_night { NIGHT_MS } else { NOON_MS };
        let folder = plan.keeps_files().then(tempfile::tempdir).and_then(Result::ok).map(Arc::new);
        let hub = HubNode::new(disk_in(folder.as_ref()));
        let mut chance = Chance::new(plan.seed ^ 0x5EED);
        let failure = hub.as_ref().err().map(|error| format!("headquarters cannot start: {error}"));
        let mut world = World {
            began_ms,
            now_ms: began_ms,
            hub: hub.unwrap_or_else(|_| unreachable!("a new disk can be read")),
            boxes: Vec::new(),
            net: Net::default(),
            crowd: Crowd::default(),
            tally: Tally::default(),
            put_back: BTreeSet::new(),
            losses: Losses::default(),
            hub_forked: false,
            fenced: BTreeSet::new(),
            taken_alone: BTreeSet::new(),
            was_restored: false,
            purchases: 0,
            requests: 0,
            unsettled_ms: began_ms,
            more: More::new(&plan),
            failure,
            agenda: BTreeMap::new(),
            events: 0,
            hash: 0xCBF2_9CE4_8422_2325,
            is_traced,
            chance: chance.split(),
            plan,
        };
        world.set_up(folder.as_ref());
        world
    }

    fn set_up(&mut self, folder: Option<&Folder>) {
        let campuses: BTreeSet<u16> = self.plan.boxes.iter().copied().collect();
        let mut bodies = vec![Body::Node(record_of(HUB, None))];
        for campus in &campuses {
            bodies.push(Body::Campus(CampusRecord {
                campus: CampusId(*campus),
                name: format!("校区{campus}"),
                utc_offset_minutes: 480,
                cut_minute: 180,
                people_shards: 2,
            }));
            bodies.extend((0..2).map(|till| Body::Terminal(till_of(*campus, till))));
        }
        let sheet = sheet(self.plan.odd_prices);
        bodies.push(Body::Tariff(Box::new(self.more.limits.sheet(sheet))));
        for (n, campus) in self.plan.boxes.clone().into_iter().enumerate() {
            let me = Writer { node: NodeId(n as u32 + 1), incarnation: LIFE };
            bodies.push(Body::Node(record_of(me, Some(CampusId(campus)))));
            let mut node = BoxNode::new(me, campus);
            node.disk = disk_in(folder);
            self.boxes.push(node);
        }
        for body in bodies {
            _ = self.order(core::Command::Registry(Box::new(body)));
        }
        let guest = if self.plan.poor_pools { Fen(2_500) } else { Fen(20_000) };
        _ = self.order(core::Command::Pools(core::PoolSizes { guest, float: Fen(10_000) }));
        let acts = (1..=self.plan.people).map(|number| PersonChange::add(office::person(number))).collect();
        _ = self.order(core::Command::People { operator: OperatorId(0), moves: Default::default(), acts });
        for campus in campuses {
            let at = self.plan.boxes.iter().position(|c| *c == campus).unwrap_or_default();
            for till in 0..2 {
                self.crowd.terminals.push(Terminal::new(till_of(campus, till).terminal, CampusId(campus), at));
            }
        }
        self.set_up_more();
        for n in (0..self.boxes.len()).filter(|n| self.more.snapshots.late != Some(*n)).collect::<Vec<_>>() {
            self.start_box(n, true);
        }
        self.later(0, Event::Dial);
        self.later(TICK_MS, Event::Tick);
        for person in 1..=self.plan.people {
            let fen = self.chance.between(0, 30_000);
            if fen > 0 {
                self.top_up(person, fen);
            }
        }
    }

    /// Lets it happen, to the verdict.
    pub fn run(&mut self) {
        // Everything gets to know everything, before anything fails.
        self.run_until(QUIET_MS);
        for t in 0..self.crowd.terminals.len() {
            self.later(200 + 100 * t as i64, Event::Customer { t });
        }
        self.later(1_000, Event::Office);
        self.later(2_000, Event::Strike);
        self.begin_more();
        let busy_until = QUIET_MS + self.plan.busy_ms;
        self.run_until(busy_until);
        self.heal();
        self.run_until(busy_until + REST_MS / 2);
        self.tell_facts();
        self.hand_in_disks();
        self.run_until(busy_until + REST_MS);
        if self.failure.is_none() {
            self.conclude();
        }
    }

    fn busy_until(&self) -> i64 {
        self.began_ms + QUIET_MS + self.plan.busy_ms
    }

    /// How many people there are, those who came later counted.
    pub fn people(&self) -> u64 {
        self.plan.people + self.crowd.newcomers
    }

    /// Whether people eat and faults strike.
    pub fn is_busy(&self) -> bool {
        (self.began_ms + QUIET_MS..self.busy_until()).contains(&self.now_ms)
    }

    /// Everything that failed works again.
    fn heal(&mut self) {
        self.note(|| "all is healed".into());
        self.net.cut.clear();
        self.end_doubtful_lives();
        self.hub.disk.full = false;
        self.hub.skew_ms = self.hub.skew_ms.max(0);
        self.boxes.iter_mut().for_each(|node| node.disk.full = false);
        self.heal_more();
    }

    /// Until so long after the beginning; days in which nothing happens are not counted.
    fn run_until(&mut self, since_ms: i64) {
        while self.failure.is_none() {
            self.send();
            let Some(((at_ms, _), event)) = self.next_event(self.began_ms + since_ms) else { break };
            self.now_ms = at_ms;
            self.events += 1;
            self.happens(event);
        }
        self.now_ms = self.now_ms.max(self.began_ms + since_ms);
    }

    fn next_event(&mut self, until_ms: i64) -> Option<((i64, u64), Event)> {
        let first = self.agenda.first_key_value()?.0.0;
        (first <= until_ms).then(|| self.agenda.pop_first()).flatten()
    }

    fn happens(&mut self, event: Event) {
        let Some(event) = self.unless_still(event) else { return };
        match event {
            Event::Arrives(flight) => self.arrives(flight),
            Event::Says { from, to, message } => self.say(from, to, message),
            Event::Dial => {
                self.dial();
                self.later(DIAL_MS, Event::Dial);
            }
            Event::Tick => self.tick(),
            Event::Gate { n, start } if self.boxes[n].start == start => self.look_at_gate(n),
            Event::StartBox { n, after_boot } => self.start_box(n, after_boot),
            Event::StartHub => self.start_hub(),
            Event::Customer { t } => self.customer(t),
            Event::Retry { t, id } => self.retry(t, id),
            Event::Asked { n, start, request } if self.boxes[n].start == start => self.purchase(n, request),
            Event::Bound { n, start, id, number } if self.boxes[n].start == start => self.bound(n, id, number),
            Event::Office => self.office(),
            Event::Orders(command) => {
                if let core::Command::TopUp { person, .. } = &*command {
                    self.came_in(*person);
                }
                // Of a connection that has ended meanwhile headquarters is told nothing.
                let is_over =
                    matches!(&*command, core::Command::Connected(peer) if !self.peers(NodeId::HUB).contains(peer));
                if !is_over && self.order((*command).clone()).is_err() {
                    self.later(9_000, Event::Orders(command));
                }
            }
            Event::Strike => self.strike(),
            Event::Mend(mend) => self.mend(mend),
            Event::Silent(a, b) => self.silent(a, b),
            Event::Then(then) => self.then(then),
            Event::More(work) => self.works(work),
            // Meant for a process that has died since.
            Event::Gate { .. } | Event::Asked { .. } | Event::Bound { .. } => {}
        }
    }

    /// Time passes without anything that happens: what is on the agenda happens so much later.
    pub fn let_pass(&mut self, by_ms: i64) {
        self.now_ms += by_ms;
        self.began_ms += by_ms;
        self.unsettled_ms += by_ms;
        self.crowd.touched.values_mut().flat_map(BTreeMap::values_mut).for_each(|at_ms| *at_ms += by_ms);
        self.crowd.moved_until_ms.values_mut().for_each(|until_ms| *until_ms += by_ms);
        self.more.days.leapt_ms += by_ms;
        let agenda = std::mem::take(&mut self.agenda);
        self.agenda = agenda.into_iter().map(|((at_ms, number), event)| ((at_ms + by_ms, number), event)).collect();
    }

    /// Whether a message is under way: hours pass only when none is, as on a line that stands none is for so long.
    pub fn is_under_way(&self) -> bool {
        let is_flying = self.agenda.values().any(|event| matches!(event, Event::Arrives(_)));
        is_flying || self.more.machines.keep_messages()
    }

    fn tick(&mut self) {
        self.later(TICK_MS, Event::Tick);
        let mut connected = self.peers(NodeId::HUB);
        connected.sort();
        _ = self.order(core::Command::Tick { connected });
        for n in 0..self.boxes.len() {
            _ = self.tell(n, edge::Command::Tick);
        }
        self.tick_more();
    }

    fn start_hub(&mut self) {
        if self.hub.core.is_some() {
            return;
        }
        if let Err(error) = self.hub.start() {
            return self.fail(format!("headquarters cannot start: {error}"));
        }
        if !proof::sown("written_before_boxes_are_heard") {
            self.hub.hears_until_ms = self.now_ms + HEARING_MS;
        }
        // The restored database says so at its first start, before anything else is served.
        if self.hub.is_restored {
            self.hub.hears_until_ms = 0;
            match self.order(core::Command::Restored) {
                Ok(_) => self.hub.is_restored = false,
                Err(_) if self.hub.core.is_some() => self.kill_hub("as it cannot begin its new life"),
                Err(_) => {}
            }
        }
    }

    fn start_box(&mut self, n: usize, after_boot: bool) {
        let now_ms = self.now_ms;
        let node = &mut self.boxes[n];
        if node.gone || node.core.is_some() {
            return;
        }
        let asking_ms = if after_boot { ASKING_AFTER_BOOT_MS } else { ASKING_MS };
        if let Err(error) = node.start(now_ms, after_boot, asking_ms) {
            return self.fail(format!("{} cannot start: {error}", self.boxes[n].me));
        }
        let start = self.boxes[n].start;
        self.later(GATE_LOOK_MS, Event::Gate { n, start });
        self.go_on_fetching(n);
    }

    /// Opens the gate when peers were asked and nothing more is given back, and goes on asking while it may not.
    fn look_at_gate(&mut self, n: usize) {
        let node = &self.boxes[n];
        let me = node.address;
        let (start, is_asking) = (node.start, self.now_ms < node.asking_until_ms);
        let hub_asked = self.is_connected(me, NodeId::HUB);
        if !node.takes_back() && (!is_asking || hub_asked && self.now_ms + 400 > node.asking_until_ms) {
            while self.tell(n, edge::Command::Asked { hub: hub_asked }) == Ok(edge::Reply::More) {}
        }
        match self.boxes[n].shut() {
            None | Some(Shut::Forked) => {}
            Some(shut) => {
                let again_ms = if shut.is_short() { GATE_LOOK_MS } else { GATE_LOOK_BEHIND_MS };
                self.later(again_ms, Event::Gate { n, start });
            }
        }
    }

    /// Puts something on the agenda.
    pub fn later(&mut self, after_ms: i64, event: Event) {
        self.at(self.now_ms + after_ms, event);
    }

    /// Puts something on the agenda, at a moment.
    pub fn at(&mut self, at_ms: i64, event: Event) {
        self.events += 1;
        self.agenda.insert((at_ms.max(self.now_ms), self.events), event);
    }

    /// Something is wrong; the first finding stands.
    pub fn fail(&mut self, words: String) {
        self.note(|| format!("FAILED: {words}"));
        self.failure.get_or_insert(words);
    }

    /// A fault has struck.
    pub fn struck(&mut self, class: Class) {
        self.unsettled_ms = self.now_ms;
        *self.tally.faults.entry(class.name()).or_default() += 1;
    }

    /// Tells what happened, where a history is told; it is part of the hash all the same.
    pub fn note(&mut self, words: impl FnOnce() -> String)
    where
        Self: Sized,
    {
        let words = words();
        self.fold(&words);
        if self.is_traced {
            self.print(&words);
        }
    }

    /// Tells what happens over files only, where a history is told; it is no part of the hash.
    pub fn aside(&self, words: impl FnOnce() -> String) {
        if self.is_traced {
            self.print(&words());
        }
    }

    fn print(&self, words: &str) {
        let since_ms = self.now_ms - self.began_ms;
        println!("{:>7}.{:03} {words}", since_ms / 1_000, since_ms % 1_000);
    }

    /// As `note`, for what is told by the thousand.
    pub fn trace(&mut self, words: impl FnOnce() -> String) {
        if self.is_traced {
            self.note(words);
        } else {
            let at = self.now_ms.to_be_bytes();
            self.fold_bytes(&at);
        }
    }

    fn fold(&mut self, words: &str) {
        self.fold_bytes(words.as_bytes());
    }

    /// FNV-1a.
    fn fold_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        }
    }

    /// The hash over everything that happened, and how many events there were.
    pub fn digest(&self) -> (u64, u64) {
        (self.hash, self.events)
    }
}

/// An empty disk: in files where there is a folder for them.
fn disk_in(folder: Option<&Folder>) -> Disk {
    folder.and_then(|folder| Disk::in_files(folder).ok()).unwrap_or_default()
}

fn till_of(campus: u16, number: u32) -> TerminalRecord {
    TerminalRecord {
        terminal: TerminalId(u32::from(campus) * 10 + number),
        campus: CampusId(campus),
        kind: TerminalKind::Till,
        outlet: OutletId(1),
        merchant: MerchantId(u32::from(campus)),
        door: None,
        name: format!("{number} 号窗口"),
        state: TerminalState::Deployed,
    }
}

/// 3.75 % off, and never mind the rest of a fen.
const ODD_PRICES: Adjustment =
    Adjustment { category: CategoryId(1), outlet: None, basis_points: -375, flat: Fen::ZERO };

fn sheet(odd_prices: bool) -> TariffSheet {
    TariffSheet {
        version: TariffVersion(1),
        periods: Vec::new(),
        fixed: Vec::new(),
        adjustments: odd_prices.then_some(ODD_PRICES).into_iter().collect(),
        limits: Vec::new(),
        barred: Vec::new(),
        repeat_tap_seconds: 0,
        guest: GuestRule { per_purchase: Fen(2_000), per_card_day: Fen(3_000) },
    }
}

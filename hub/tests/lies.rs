//! What an enrolled box may write of money and ids that are not its own: nothing of it stops headquarters, mints money,
//! or undoes what another campus did.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod harness;

use harness::*;
use std::cell::Cell;
use yika_crdt::Fen;
use yika_crdt::answered::Answered;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End, RUN_ENTRIES_MAX, Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::sale::Answer;
use yika_crdt::store::{FeedState, KeyValue, MemoryStore, Read, Store, StoreError, Tx, decode_row};
use yika_crdt::{keys, tariff};
use yika_hub::core::{self, TableRow};
use yika_hub::ledger::Account;
use yika_hub::rights::{NAMED_WALLETS_MAX, PersonWallets};

const FAR_TERMINAL: u32 = 20;
const NEAR_TERMINAL: u32 = 10;
const P1: PersonId = PersonId(1);
const MERCHANT: MerchantId = MerchantId(1);

fn id(terminal: u32, seq: u32) -> PurchaseId {
    PurchaseId { terminal: TerminalId(terminal), boot: 1, seq }
}

fn sale(id: PurchaseId, source: Source, fen: i64) -> PurchaseRecord {
    PurchaseRecord {
        id,
        card: CardNumber(800_001),
        person: P1,
        category: CategoryId(1),
        outlet: OutletId(1),
        merchant: MERCHANT,
        mode: Mode::Amount(Fen(fen)),
        tariff: TariffVersion(1),
        period: None,
        price: Fen(fen),
        adjustment: Fen::ZERO,
        paid: vec![(source, Fen(fen))],
        balance: Fen::ZERO,
        offline: true,
        terminal_time_ms: 0,
        day: Day(20_000),
    }
}

fn journal(world: &World, edge: usize) -> FeedId {
    FeedId { writer: world.edges[edge].me, channel: Channel::Journal }
}

/// A run after `held`, signed as the box itself would.
fn run(feed: FeedId, held: End, at_ms: i64, bodies: Vec<Body>) -> Box<Run> {
    let stamp = Stamp { hub_time_ms: at_ms, boot: 1, mono_ms: 0 };
    let entries: Vec<_> = bodies.into_iter().map(|body| Entry { stamp, body }.encode()).collect();
    let end = entries.iter().fold(held, |end, entry| feed::link(&feed, end, entry));
    Box::new(Run { from: held.seq.next(), entries, head: SignedHead::sign(feed, end, &key_of(feed.writer.node)) })
}

/// What the second campus' box says in its journal, true or not.
fn lie(world: &mut World, at_ms: i64, bodies: Vec<Body>) {
    say(world, 1, at_ms, bodies);
}

fn say(world: &mut World, edge: usize, at_ms: i64, bodies: Vec<Body>) {
    let feed = journal(world, edge);
    let held = world.hub.store.feed(&feed).unwrap().end;
    let run = run(feed, held, at_ms, bodies);
    assert!(matches!(world.order(core::Command::Ingest(run)), core::Reply::Stored(..)));
}

fn two_campuses() -> World {
    let mut world = World::new(&[1, 2]);
    world.top_up(1, 10_000);
    world.run_ms(2 * SECOND_MS);
    world
}

fn told(world: &World, word: &str) -> usize {
    world.hub.alarms.iter().filter(|alarm| alarm.starts_with(word)).count()
}

fn turnover(world: &World) -> i64 {
    world.hub.books().get(&Account::Merchant(MERCHANT)).copied().unwrap_or_default()
}

#[test]
fn a_sale_paid_from_what_holds_no_money_is_set_aside() {
    for key in [WalletKey::MealCount(1), WalletKey::Limit(0, Day(20_000))] {
        let mut world = two_campuses();
        let now_ms = world.now_ms;
        lie(&mut world, now_ms, vec![Body::Purchase(sale(id(FAR_TERMINAL, 1), Source::Wallet(key), 1))]);
        assert_eq!(turnover(&world), 0);
        assert_eq!(paid(&world.buy(0, 1, 1, 1_000)), 1_000, "headquarters and canteens go on");
        world.run_ms(2 * SECOND_MS);
        assert_eq!(turnover(&world), 1_000);
    }
}

#[test]
fn a_refund_to_what_has_not_paid_makes_no_money() {
    let mut world = two_campuses();
    let of = id(FAR_TERMINAL, 5);
    let back = vec![(Source::Wallet(WalletKey::Subsidy(9)), Fen(650_000))];
    let refund = RefundRecord {
        id: id(FAR_TERMINAL, 6),
        of,
        person: P1,
        merchant: MERCHANT,
        kind: RefundKind::Refund,
        back,
        operator: OperatorId(1),
        day: Day(20_000),
    };
    let now_ms = world.now_ms;
    lie(&mut world, now_ms, vec![Body::Purchase(sale(of, Source::Receivable, 1)), Body::Refund(refund)]);
    assert_eq!(told(&world, "refund"), 1);
    let wallets = world.hub.wallets(P1);
    assert!(wallets.wallets.get(&WalletKey::Subsidy(9)).is_none_or(|wallet| wallet.available() == Ok(Fen::ZERO)));
}

#[test]
fn ids_of_another_campus_are_not_answered_nor_undone() {
    let mut world = two_campuses();
    lie(
        &mut world,
        0,
        vec![Body::Purchase(sale(id(NEAR_TERMINAL, 5), Source::Receivable, 1)), Body::Void(id(NEAR_TERMINAL, 6))],
    );
    assert_eq!(told(&world, "foreign_terminal"), 2);
    assert_eq!(paid(&world.buy(0, 5, 1, 2_500)), 2_500);
    assert_eq!(paid(&world.buy(0, 6, 1, 500)), 500);
    world.run_ms(3 * SECOND_MS);
    assert_eq!((turnover(&world), told(&world, "sold_twice"), told(&world, "voided")), (3_001, 0, 0));
}

#[test]
fn a_forked_journal_closes_no_terminal_of_another_campus() {
    let mut world = two_campuses();
    let feed = journal(&world, 1);
    let held = world.hub.store.feed(&feed).unwrap().end;
    let now_ms = world.now_ms;
    lie(&mut world, now_ms, vec![Body::Void(id(FAR_TERMINAL, 77))]);
    let voids = (0..140).map(|n| Body::Void(id(NEAR_TERMINAL, 1 + n * 1_000_000))).collect();
    world.order(core::Command::Branch(run(feed, held, now_ms, voids)));
    world.run_ms(3 * SECOND_MS);
    assert_eq!(paid(&world.buy(0, 12_345, 1, 500)), 500);
}

#[test]
fn a_refund_of_one_branch_is_not_taken_for_the_reversal_of_the_other() {
    for refund_first in [false, true] {
        let mut world = two_campuses();
        let feed = journal(&world, 0);
        let held = world.hub.store.feed(&feed).unwrap().end;
        let twin = sale(id(NEAR_TERMINAL, 5), Source::Wallet(WalletKey::Main), 2_500);
        let other = run(feed, held, world.now_ms + 5_000, vec![Body::Purchase(twin)]);
        let before = world.total(1);
        assert_eq!(paid(&world.buy(0, 5, 1, 2_500)), 2_500);
        world.run_ms(SECOND_MS);
        let give_back = |world: &mut World| {
            let answer = world.refund(0, 6, 5, RefundKind::Correction, None);
            assert!(matches!(answer, Answer::Refunded(_)), "{answer:?}");
            world.run_ms(2 * SECOND_MS);
        };
        if refund_first {
            give_back(&mut world);
        }
        world.order(core::Command::Branch(other));
        if !refund_first {
            give_back(&mut world);
        }
        assert_eq!((world.total(1), turnover(&world)), (before, 0), "refund first: {refund_first}");
    }
}

#[test]
fn an_id_repeated_without_end_does_not_slow_headquarters_down() {
    let mut world = two_campuses();
    let now_ms = world.now_ms;
    let again = || Body::Purchase(sale(id(FAR_TERMINAL, 5), Source::Receivable, 1));
    lie(&mut world, now_ms, (0..1_000).map(|_| again()).collect());
    let mark = world.hub.store.get(&yika_crdt::keys::mark(id(FAR_TERMINAL, 5))).unwrap().unwrap();
    assert!(mark.len() < 256, "one sale is remembered, not a thousand: {} bytes", mark.len());
}

#[test]
fn a_box_changes_its_address_a_few_times_an_hour_at_most() {
    let mut world = two_campuses();
    let registry = FeedId { writer: HUB, channel: Channel::Registry };
    let entries = |world: &World| world.hub.store.feed(&registry).unwrap().end.seq.0;
    let (before, writer) = (entries(&world), world.edges[1].me);
    for port in 1..1_000 {
        world.order(core::Command::Address { writer, address: format!("10.0.0.2:{port}") });
    }
    assert_eq!(entries(&world) - before, 12);
    world.run_hours(2);
    world.order(core::Command::Address { writer, address: "nonsense".into() });
    world.order(core::Command::Address { writer, address: "10.0.0.3:7443".into() });
    assert_eq!(world.hub.hub.mesh.nodes[&writer].record.address.as_deref(), Some("10.0.0.3:7443"));
}

/// A store that counts what is read of it.
struct Watched<'s> {
    store: &'s MemoryStore,
    reads: Cell<usize>,
}

impl Watched<'_> {
    fn count(&self) -> &MemoryStore {
        self.reads.set(self.reads.get() + 1);
        self.store
    }
}

impl Read for Watched<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.count().get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.count().scan(prefix, after, limit)
    }

    fn feed(&self, feed: &FeedId) -> Result<FeedState, StoreError> {
        self.count().feed(feed)
    }

    fn feeds(&self) -> Result<Vec<(FeedId, FeedState)>, StoreError> {
        self.count().feeds()
    }

    fn entries(&self, feed: &FeedId, from: Seq, bytes_max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        self.count().entries(feed, from, bytes_max)
    }

    fn head_from(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
        self.count().head_from(feed, seq)
    }

    fn head_upto(&self, feed: &FeedId, seq: Seq) -> Result<Option<SignedHead>, StoreError> {
        self.count().head_upto(feed, seq)
    }
}

/// However long a box writes before it cuts a day, the turn that takes the cut in stays short.
#[test]
fn a_cut_costs_headquarters_the_same_whatever_lies_before_it() {
    let reads = |sales: u32| {
        let mut world = two_campuses();
        let now_ms = world.now_ms;
        let of = |n: u32| {
            let sale = sale(id(FAR_TERMINAL, n), Source::Wallet(WalletKey::Main), 1);
            Body::Purchase(PurchaseRecord { person: PersonId(u64::from(1_000 + n)), ..sale })
        };
        lie(&mut world, now_ms, (1..=sales).map(of).collect());
        let feed = journal(&world, 1);
        let held = world.hub.store.feed(&feed).unwrap().end;
        let cut = core::Command::Ingest(run(feed, held, now_ms, vec![Body::Cut(Day(20_000))]));
        let watched = Watched { store: &world.hub.store, reads: Cell::new(0) };
        let mut tx = Tx::new(&watched);
        let stamp = Stamp { hub_time_ms: now_ms, boot: 1, mono_ms: 0 };
        world.hub.hub.handle(&mut tx, cut, stamp, &mut Vec::new(), &mut Vec::new()).unwrap();
        let receipts = FeedId { writer: HUB, channel: Channel::Receipts(feed.writer.node) };
        let told = &tx.batch().appended[&receipts].entries;
        let is_tally = |entry: &Vec<u8>| matches!(Entry::decode(entry).unwrap().body, Body::Tally(_));
        assert!(told.iter().any(is_tally));
        watched.reads.get()
    };
    assert_eq!(reads(300), reads(1));
}

/// What headquarters reads on the word of a peer that a journal ends otherwise.
fn reads_of(world: &mut World, head: SignedHead) -> usize {
    let watched = Watched { store: &world.hub.store, reads: Cell::new(0) };
    let mut tx = Tx::new(&watched);
    let stamp = Stamp { hub_time_ms: world.now_ms, boot: 1, mono_ms: 0 };
    world.hub.hub.handle(&mut tx, core::Command::Diverged(head), stamp, &mut Vec::new(), &mut Vec::new()).unwrap();
    watched.reads.get()
}

/// A word that a journal ends otherwise does not make headquarters read the journal from its beginning.
#[test]
fn a_contradiction_costs_headquarters_no_walk_through_the_journal() {
    let mut world = two_campuses();
    let (now_ms, feed) = (world.now_ms, journal(&world, 1));
    let sold = |n: u32| Body::Purchase(sale(id(FAR_TERMINAL, n), Source::Receivable, 1));
    for run in 0..50 {
        lie(&mut world, now_ms, (1..=20).map(|n| sold(run * 20 + n)).collect());
    }
    let end = world.hub.store.feed(&feed).unwrap().end;
    let hash = feed::digest("another branch", b"");
    let at = |seq: u64, key| SignedHead::sign(feed, End { seq: Seq(seq), hash }, &key_of(key));
    let quiet = reads_of(&mut world, at(end.seq.0 + 1, feed.writer.node));
    assert!(reads_of(&mut world, at(end.seq.0 - 1, NodeId(9))) <= quiet, "rubbish costs a look at its signature");
    // Signed by the box itself, between two heads that headquarters holds: the few entries between them are read.
    let signed = reads_of(&mut world, at(end.seq.0 - 1, feed.writer.node));
    assert!(signed <= quiet + 6, "{signed} reads, {quiet} where nothing is to be judged");
}

/// Rows of a person as only a fault of ours could have left them.
fn damage(world: &mut World, person: PersonId, change: impl FnOnce(&mut PersonWallets)) {
    let mut wallets = world.hub.wallets(person);
    change(&mut wallets);
    let mut tx = Tx::new(&world.hub.store);
    tx.put(keys::rights(person), &wallets);
    let batch = tx.into_batch();
    world.hub.store.commit(&batch).unwrap();
}

fn spent(world: &mut World, fen: i64) {
    damage(world, P1, |wallets| wallets.spent_days = vec![(Day(20_000), Fen(fen))]);
}

fn of_second(id: PurchaseId, fen: i64) -> Body {
    Body::Purchase(PurchaseRecord { person: PersonId(2), ..sale(id, Source::Receivable, fen) })
}

fn on_next_day(id: PurchaseId, fen: i64) -> Body {
    Body::Purchase(PurchaseRecord { day: Day(20_001), ..sale(id, Source::Receivable, fen) })
}

fn sales_listed(world: &World) -> usize {
    world.hub.rows.iter().filter(|row| matches!(row, TableRow::Sale { .. })).count()
}

#[test]
fn an_entry_that_comes_to_impossible_sums_is_set_aside_and_its_run_goes_on() {
    let mut world = two_campuses();
    spent(&mut world, i64::MAX);
    let now_ms = world.now_ms;
    let cannot_be = Body::Purchase(sale(id(FAR_TERMINAL, 2), Source::Receivable, 500));
    lie(
        &mut world,
        now_ms,
        vec![on_next_day(id(FAR_TERMINAL, 1), 200), cannot_be, of_second(id(FAR_TERMINAL, 3), 700)],
    );
    assert_eq!((turnover(&world), sales_listed(&world)), (900, 2), "{:?}", world.hub.alarms);
    assert_eq!((told(&world, "quarantine"), world.hub.hub.mesh.quarantined), (1, 1));
    let days = world.hub.wallets(P1).spent_days;
    assert_eq!(days, [(Day(20_000), Fen(i64::MAX)), (Day(20_001), Fen(200))], "what it did is taken back");
    let key = keys::terminal_mark(TerminalId(FAR_TERMINAL), 1);
    let answered: Answered = decode_row(&key, &world.hub.store.get(&key).unwrap().unwrap()).unwrap();
    assert!((1..=3).all(|seq| answered.contains(seq)), "the box has answered its id all the same");
    world.restart_hub();
    assert_eq!(world.hub.hub.mesh.quarantined, 1);
    world.run_ms(2 * SECOND_MS);
    assert_eq!(paid(&world.buy(0, 1, 1, 1_000)), 1_000, "headquarters and canteens go on");
}

#[test]
fn on_the_other_branch_of_a_journal_too() {
    let mut world = two_campuses();
    let feed = journal(&world, 1);
    let held = world.hub.store.feed(&feed).unwrap().end;
    let now_ms = world.now_ms;
    lie(&mut world, now_ms, vec![Body::Void(id(FAR_TERMINAL, 77))]);
    spent(&mut world, i64::MAX);
    let cannot_be = Body::Purchase(sale(id(FAR_TERMINAL, 2), Source::Receivable, 500));
    let other = run(feed, held, now_ms, vec![cannot_be, of_second(id(FAR_TERMINAL, 3), 700)]);
    assert!(matches!(world.order(core::Command::Branch(other)), core::Reply::Branch { .. }));
    assert_eq!((turnover(&world), told(&world, "quarantine"), told(&world, "fork")), (700, 1, 1));
}

/// The failure comes after its own transfers and the reversal of another box's sale were posted.
#[test]
fn what_an_entry_had_posted_before_it_failed_is_taken_back() {
    let mut world = World::new(&[1, 1]);
    let now_ms = world.now_ms;
    let twice = id(NEAR_TERMINAL, 1);
    say(&mut world, 0, now_ms + 1_000, vec![Body::Purchase(sale(twice, Source::Receivable, 700))]);
    spent(&mut world, i64::MIN + 100);
    let older = Body::Purchase(sale(twice, Source::Receivable, 500));
    let bodies = vec![on_next_day(id(NEAR_TERMINAL, 2), 200), older, of_second(id(NEAR_TERMINAL, 3), 300)];
    say(&mut world, 1, now_ms, bodies);
    assert_eq!((turnover(&world), sales_listed(&world)), (1_200, 3), "{:?}", world.hub.alarms);
    assert_eq!((told(&world, "quarantine"), told(&world, "sold_twice")), (1, 0));
    world.hub.check();
}

/// Each total fits, and what they come to together does not: levelling the holder's rights would fail.
#[test]
fn an_entry_after_which_wallets_cannot_be_added_up_is_set_aside() {
    let mut world = two_campuses();
    let (third, day, first_box) = (PersonId(3), Day(20_781), world.edges[0].me);
    let (counter, _) = tariff::strict_counter(&sheet(), CategoryId(3), day).unwrap();
    damage(&mut world, third, |wallets| wallets.wallet(counter).replica(first_box).used = Fen(i64::MAX - 1_000));
    let of_third =
        PurchaseRecord { person: third, category: CategoryId(3), day, ..sale(id(20, 1), Source::Receivable, 2_000) };
    let now_ms = world.now_ms;
    lie(&mut world, now_ms, vec![Body::Purchase(of_third), of_second(id(FAR_TERMINAL, 3), 700)]);
    assert_eq!((turnover(&world), told(&world, "quarantine")), (700, 1));
}

fn wallets_held(world: &World) -> usize {
    world.hub.wallets(P1).wallets.len()
}

/// Each entry on its own is small and sound; together they would be a row of wallets that every turn walks through.
#[test]
fn wallets_that_a_box_makes_up_are_bounded_and_what_names_more_is_set_aside() {
    let mut world = two_campuses();
    world.switch_off(1);
    let (now_ms, before) = (world.now_ms, wallets_held(&world));
    let feed = FeedId { writer: world.edges[1].me, channel: Channel::Rights(HUB) };
    let given_back = |world: &mut World, total: i64| {
        let held = world.hub.store.feed(&feed).unwrap().end;
        let row = |n| Row { person: P1, wallet: WalletKey::Subsidy(n) };
        let grant = |n| GrantRecord { row: row(n), total: Fen(total), last_day: None, basis: None, lease: None };
        let bodies = (0..500).map(|n| Body::Grant(grant(n))).collect();
        let reply = world.order(core::Command::Ingest(run(feed, held, now_ms, bodies)));
        assert!(matches!(reply, core::Reply::Stored(..)), "{reply:?}");
    };
    given_back(&mut world, 0);
    assert_eq!((wallets_held(&world), told(&world, "quarantine")), (before, 0), "nothing came back of nothing");
    given_back(&mut world, 1);
    assert_eq!(
        (wallets_held(&world) - before, told(&world, "quarantine")),
        (NAMED_WALLETS_MAX, 500 - NAMED_WALLETS_MAX)
    );
    let parts =
        |first: u32, fen| (first..first + 32).map(|n| (Source::Wallet(WalletKey::Subsidy(n)), Fen(fen))).collect();
    let paid_by = |n: u32, fen| PurchaseRecord {
        paid: parts(1_000 + 32 * n, fen),
        ..sale(id(FAR_TERMINAL, n), Source::Guest, 32 * fen)
    };
    lie(&mut world, now_ms, (1..=100).map(|n| Body::Purchase(paid_by(n, i64::from(n % 2)))).collect());
    let on_day = |n: i32| PurchaseRecord {
        person: PersonId(3),
        category: CategoryId(3),
        day: Day(30_000 + n),
        ..sale(id(FAR_TERMINAL, 1_000 + n as u32), Source::Receivable, 1)
    };
    lie(&mut world, now_ms, (0..100).map(|n| Body::Purchase(on_day(n))).collect());
    let from = world.edges[1].me;
    for n in 2_000..2_100 {
        let row = Row { person: P1, wallet: WalletKey::Subsidy(n) };
        let reply = world.order(core::Command::Ask { from, row, total: Fen(1) });
        assert_eq!(reply, core::Reply::Granted(false));
    }
    assert_eq!(wallets_held(&world) - before, NAMED_WALLETS_MAX);
    assert!(world.hub.wallets(PersonId(3)).wallets.len() <= NAMED_WALLETS_MAX + 8);
    assert_eq!(turnover(&world), 100, "a sale counts where only its counter has no room");
    world.run_ms(2 * SECOND_MS);
    assert_eq!(paid(&world.buy(0, 1, 1, 1_000)), 1_000, "headquarters and canteens go on");
    world.run_ms(2 * SECOND_MS);
    world.restart_hub();
    world.hub.check();
}

/// Tiny entries fit a frame by the ten thousand; each costs work.
#[test]
fn a_run_of_too_many_entries_is_refused_and_an_honest_box_sends_several() {
    let mut world = two_campuses();
    let (now_ms, count) = (world.now_ms, RUN_ENTRIES_MAX as u64 + 1);
    let tiny = || Body::Alarm(AlarmRecord { kind: "t".into(), detail: String::new() });
    let (feed, held) = (journal(&world, 1), world.hub.store.feed(&journal(&world, 1)).unwrap().end);
    let long = run(feed, held, now_ms, (0..count).map(|_| tiny()).collect());
    assert!(matches!(world.order(core::Command::Ingest(long)), core::Reply::Refused(_)));
    assert_eq!(world.hub.store.feed(&feed).unwrap().end, held);

    let mut tx = Tx::new(&world.edges[1].store);
    let stamp = Stamp { hub_time_ms: now_ms, boot: 1, mono_ms: 0 };
    let bodies = (0..count).map(|_| Entry { stamp, body: tiny() }.encode());
    bodies.for_each(|entry| _ = tx.append(feed, entry).unwrap());
    let batch = tx.into_batch();
    world.edges[1].store.commit(&batch).unwrap();
    world.disconnect(HUB.node, feed.writer.node);
    world.run_ms(2 * SECOND_MS);
    assert!(world.hub.store.feed(&feed).unwrap().end.seq.0 >= held.seq.0 + count);
}

/// A fenced box whose journal is found: it charged somebody of whom headquarters had granted it nothing.
///
/// Rows POS-4, 5.
#[test]
fn the_journal_of_a_fenced_box_is_posted_also_for_holders_it_had_no_rights_of() {
    let mut world = two_campuses();
    let now_ms = world.now_ms;
    let writer = world.edges[1].me;
    world.switch_off(1);
    world.order(core::Command::Fence { writer, reason: "lost".into() });
    let stranger = PersonId(2);
    let has =
        world.hub.wallets(stranger).wallets.get(&WalletKey::Main).is_some_and(|w| w.replicas.contains_key(&writer));
    assert!(!has, "nothing was granted");
    let sold = PurchaseRecord { person: stranger, ..sale(id(FAR_TERMINAL, 1), Source::Wallet(WalletKey::Main), 700) };
    lie(&mut world, now_ms, vec![Body::Purchase(sold)]);
    world.hub.check();
    assert_eq!(world.hub.wallets(stranger).owed().unwrap(), Fen(700));
}

/// What a lying box charges without any right is the holder's debt, and told at once, as is a place that is not its
/// terminal's; the first of a box and day speaks for the others.
///
/// Rows POS-5.
#[test]
fn made_up_facts_are_told_once_a_day() {
    let mut world = two_campuses();
    world.top_up(2, 600_000);
    world.run_ms(2 * SECOND_MS);
    let (before, now_ms) = (world.total(2), world.now_ms);
    let fact = |n| {
        let sold = sale(id(FAR_TERMINAL, n), Source::Receivable, 250_000);
        Body::Purchase(PurchaseRecord { person: PersonId(2), merchant: MerchantId(77), ..sold })
    };
    lie(&mut world, now_ms, vec![fact(1), fact(2)]);
    assert_eq!(world.total(2), before - 500_000, "posted as reported");
    for word in ["unbacked: ", "sold_elsewhere: "] {
        let told: Vec<_> = world.hub.alarms.iter().filter(|alarm| alarm.starts_with(word)).collect();
        assert_eq!(told.len(), 1, "{word}{told:?}");
    }
    assert!(world.hub.alarms.iter().any(|alarm| alarm.contains("2500.00 yuan were sold beyond the rights")));
}

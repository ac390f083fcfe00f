//! Random histories over the harness: cuts, delays, repeats, crashes. Each seed says everything; a failure prints it.
//!
//! First safety, at every step: books equal wallets, nothing below its bound. Then everything is healed and must agree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod harness;

use harness::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::edge;
use yika_crdt::entry::*;
use yika_crdt::feed::{Run, SignedHead};
use yika_crdt::ids::*;
use yika_crdt::sale::Answer;
use yika_crdt::store::{MemoryStore, Read, Tx};
use yika_hub::core::{self, Hub, TableRow};
use yika_hub::ledger::{Account, Kind};
use yika_hub::rights::PersonWallets;

/// Names the seed of a history that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

/// What terminals and counters remember of a history.
#[derive(Default)]
struct Memory {
    answers: BTreeMap<(usize, u32), (u64, i64, Answer)>,
    refunded: BTreeMap<(usize, u32), i64>,
    serial: u32,
    paid_in: BTreeMap<u64, i64>,
    paid_out: BTreeMap<u64, i64>,
}

fn step(world: &mut World, memory: &mut Memory, random: &mut Random) {
    let n = random.below(world.edges.len() as u64) as usize;
    let person = 1 + random.below(2);
    match random.below(20) {
        0..=7 => {
            memory.serial += 1;
            // Above what a guest may: only money of the holder is spent.
            let fen = 2_001 + random.below(4_000) as i64;
            let serial = memory.serial;
            if random.one_in(8) {
                let request = request(world.edges[n].till(), serial, person, fen);
                world.tell_lost(n, edge::Command::Purchase { request, may_ask: false });
            }
            let answer = world.buy(n, serial, person, fen);
            memory.answers.insert((n, serial), (person, fen, answer));
        }
        8 | 9 => {
            // A terminal asks again, perhaps after its box was restarted.
            let known: Vec<_> = memory.answers.iter().map(|(k, v)| (*k, v.clone())).collect();
            if let Some(((n, serial), (person, fen, answer))) = known.get(random.below(known.len() as u64) as usize) {
                if random.one_in(2) {
                    world.restart(*n);
                }
                assert_eq!(world.buy(*n, *serial, *person, *fen), *answer, "the first answer again");
            }
        }
        10 | 11 => {
            let sold: Vec<_> = memory.answers.iter().filter(|(_, a)| matches!(a.2, Answer::Approved(_))).collect();
            if let Some(((n, serial), _)) = sold.get(random.below(sold.len() as u64) as usize) {
                let (n, serial) = (*n, *serial);
                memory.serial += 1;
                let part = random.one_in(2).then(|| 1 + random.below(1_500) as i64);
                if let Answer::Refunded(refund) = world.refund(n, memory.serial, serial, RefundKind::Refund, part) {
                    let back: i64 = refund.back.iter().map(|b| b.1.0).sum();
                    *memory.refunded.entry((n, serial)).or_default() += back;
                }
            }
        }
        12 | 13 => {
            let amount = 1_000 + random.below(20_000) as i64;
            world.top_up(person, amount);
            *memory.paid_in.entry(person).or_default() += amount;
        }
        14 => {
            memory.serial += 1;
            let id = yika_crdt::feed::digest("withdraw", &memory.serial.to_be_bytes());
            let amount = Fen(1 + random.below(3_000) as i64);
            let command = core::Command::Withdraw { id, person: PersonId(person), amount, by: TELLER };
            let mut reply = world.order(command.clone());
            if matches!(reply, core::Reply::Short { .. }) {
                world.run_ms(600);
                reply = world.order(command);
            }
            if matches!(reply, core::Reply::Paid { .. }) {
                *memory.paid_out.entry(person).or_default() += amount.0;
            }
        }
        15 => {
            let cut = random.one_in(2);
            world.cut_wan(n, cut);
        }
        16 => {
            let other = world.edges[random.below(world.edges.len() as u64) as usize].me.node;
            let me = world.edges[n].me.node;
            if other != me {
                world.set_cut(me, other, random.one_in(2));
            }
        }
        17 => world.restart_hub(),
        _ => world.run_ms(random.below(3_000) as i64),
    }
}

/// Two campuses, three boxes, a bad network: nobody spends more than he has, nothing is lost, all agree in the end.
fn history(seed: u64, steps: usize) -> Probes {
    let _seed = Seed(seed);
    let mut random = Random::new(seed);
    let faults = Faults {
        delay_ms: 1 + random.below(150) as i64,
        jitter_ms: random.below(400),
        twice: [0, 3, 9][random.below(3) as usize],
    };
    let mut world = World::seeded(&[1, 1, 2], seed, faults);
    let mut memory = Memory::default();
    for _ in 0..steps {
        step(&mut world, &mut memory, &mut random);
    }
    world.cut_all(false);
    world.run_ms(20 * SECOND_MS);
    world.hub.check();

    let (edges, hub) = world.sold();
    assert_eq!(edges, hub, "what edges sold is what merchants have");
    for person in [1, 2] {
        let paid_in = memory.paid_in.get(&person).unwrap_or(&0) - memory.paid_out.get(&person).unwrap_or(&0);
        let spent: i64 = memory
            .answers
            .iter()
            .filter(|(_, a)| a.0 == person)
            .map(|(key, (_, _, answer))| match answer {
                Answer::Approved(_) => paid(answer) - memory.refunded.get(key).unwrap_or(&0),
                _ => 0,
            })
            .sum();
        assert!(spent <= paid_in, "person {person} spent {spent} of {paid_in}");
        assert_eq!(world.total(person), paid_in - spent, "person {person}");
        assert_eq!(world.hub.wallets(PersonId(person)).owed().unwrap(), Fen::ZERO);
        // What the hub believes of each box is what the box has, but for cheques that lapsed on the way.
        for edge in &world.edges {
            let wallets = world.hub.wallets(PersonId(person));
            let replica = wallets.wallets.get(&WalletKey::Main).and_then(|w| w.replicas.get(&edge.me));
            let believed = replica.map_or(0, |r| r.right().unwrap().0);
            assert!(edge.right(PersonId(person), WalletKey::Main) <= believed, "{} of person {person}", edge.me);
        }
    }
    let moved = |kind| world.hub.transfers.iter().filter(|t| t.kind == kind).count();
    let refused = memory.answers.values().filter(|a| matches!(a.2, Answer::Refused(_))).count();
    Probes {
        sold: moved(Kind::Purchase),
        refused,
        cheques: moved(Kind::Cheque),
        returns: moved(Kind::Return),
        refunds: moved(Kind::Refund),
        withdrawals: moved(Kind::Withdrawal),
    }
}

/// What a history reached, so that a test cannot pass by doing nothing.
#[derive(Default, Debug)]
struct Probes {
    sold: usize,
    refused: usize,
    cheques: usize,
    returns: usize,
    refunds: usize,
    withdrawals: usize,
}

#[test]
fn nobody_spends_more_than_he_has_whatever_the_network_does() {
    let mut all = Probes::default();
    for seed in 1..=16 {
        let one = history(seed, 100);
        all.sold += one.sold;
        all.refused += one.refused;
        all.cheques += one.cheques;
        all.returns += one.returns;
        all.refunds += one.refunds;
        all.withdrawals += one.withdrawals;
    }
    eprintln!("{all:?}");
    assert!(all.sold > 200 && all.refused > 50 && all.refunds > 20, "{all:?}");
    assert!(all.cheques > 10 && all.returns > 20 && all.withdrawals > 5, "{all:?}");
}

/// Everything that edges have written, one entry in each run, in feed order.
fn runs_of(world: &World) -> Vec<Vec<Run>> {
    let mut feeds = Vec::new();
    for edge in &world.edges {
        for (feed, held) in edge.store.feeds().unwrap().into_iter().filter(|(f, _)| f.writer == edge.me) {
            let entries = edge.store.entries(&feed, Seq(1), usize::MAX).unwrap();
            let mut end = yika_crdt::feed::End::default();
            let mut runs = Vec::new();
            for entry in entries {
                end = yika_crdt::feed::link(&feed, end, &entry);
                let head = SignedHead::sign(feed, end, &key_of(edge.me.node));
                runs.push(Run { from: end.seq, entries: vec![entry], head });
            }
            assert_eq!(end, held.end);
            feeds.push(runs);
        }
    }
    feeds
}

/// What a hub comes to know when the runs arrive in an order and multiplicity drawn from a seed.
fn arrive(store: &MemoryStore, now_ms: i64, feeds: &[Vec<Run>], random: &mut Random) -> (PersonWallets, i64, i64) {
    let mut hub = HubBoxOnly::new(store.clone(), now_ms);
    let mut next = vec![0; feeds.len()];
    while next.iter().zip(feeds).any(|(n, runs)| *n < runs.len()) {
        let one = random.below(feeds.len() as u64) as usize;
        if next[one] < feeds[one].len() {
            hub.ingest(&feeds[one][next[one]]);
            next[one] += 1;
            if random.one_in(3) {
                hub.ingest(&feeds[one][random.below(next[one] as u64) as usize]);
            }
        }
    }
    let wallets = core::wallets_of(&Tx::new(&hub.store), PersonId(1)).unwrap();
    let worth = wallets.total().unwrap().0 - wallets.owed().unwrap().0;
    (wallets, worth, hub.merchants)
}

struct HubBoxOnly {
    store: MemoryStore,
    hub: Hub,
    now_ms: i64,
    merchants: i64,
}

impl HubBoxOnly {
    fn new(store: MemoryStore, now_ms: i64) -> HubBoxOnly {
        let hub = Hub::load(&store, core::Identity { me: HUB, key: key_of(NodeId::HUB) }).unwrap();
        HubBoxOnly { store, hub, now_ms, merchants: 0 }
    }

    fn ingest(&mut self, run: &Run) {
        let stamp = Stamp { hub_time_ms: self.now_ms, boot: 1, mono_ms: 0 };
        let (mut rows, mut effects) = (Vec::new(), Vec::new());
        let mut tx = Tx::new(&self.store);
        let reply =
            self.hub.handle(&mut tx, core::Command::Ingest(Box::new(run.clone())), stamp, &mut rows, &mut effects);
        assert!(matches!(reply, Ok(core::Reply::Stored(..))), "{reply:?}");
        let batch = tx.into_batch();
        yika_crdt::store::Store::commit(&mut self.store, &batch).unwrap();
        for row in rows {
            if let TableRow::Transfer(t) = row {
                let sign = |account| if matches!(account, Account::Merchant(_)) { t.amount.0 } else { 0 };
                self.merchants += sign(t.credit) - sign(t.debit);
            }
        }
    }
}

/// Totals that boxes wrote; what the hub grants on the way follows the order of arrival and is left out.
fn written(wallets: &PersonWallets) -> Vec<String> {
    let rows = wallets.wallets.iter().flat_map(|(key, wallet)| {
        wallet.replicas.iter().map(move |(writer, r)| {
            format!("{key:?} {writer} {:?} {:?} {:?} {:?} {:?}", r.used, r.returned, r.taken_in, r.taken_out, r.back)
        })
    });
    rows.collect()
}

/// Rows ACC-1, POS-4.
#[test]
fn in_any_order_and_any_number_of_times_the_wallets_and_books_are_the_same() {
    for seed in 1..=8 {
        let _seed = Seed(seed);
        let mut random = Random::new(seed);
        let mut world = World::new(&[1, 1, 2]);
        world.top_up(1, 60_000);
        world.run_ms(SECOND_MS);
        world.buy(2, 1, 1, 3_000);
        world.run_ms(2 * SECOND_MS);
        let before = world.hub.store.clone();
        (0..3).for_each(|n| world.cut_wan(n, true));
        for serial in 2..30 {
            let n = random.below(3) as usize;
            world.buy(n, serial, 1, 100 + random.below(3_500) as i64);
            if random.one_in(4) {
                let of = 2 + random.below(u64::from(serial) - 1) as u32;
                world.refund(n, 100 + serial, of, RefundKind::Refund, None);
            }
            if random.one_in(6) {
                let row = Row { person: PersonId(1), wallet: WalletKey::Main };
                world.tell(n, edge::Command::Recall { row, keep: Fen(random.below(3_000) as i64) });
            }
            world.run_ms(50);
        }
        let feeds = runs_of(&world);
        let first = arrive(&before, world.now_ms, &feeds, &mut random);
        assert_eq!(first.2 + 3_000, world.edges.iter().map(EdgeBox::sold).sum::<i64>());
        for _ in 0..4 {
            let again = arrive(&before, world.now_ms, &feeds, &mut random);
            assert_eq!(written(&again.0), written(&first.0));
            assert_eq!((again.1, again.2), (first.1, first.2));
        }
    }
}

/// A box that is cloned or put back spends each right once more at most, and the books stay whole.
#[test]
fn a_copy_of_a_box_spends_no_more_than_the_box_held_when_it_was_copied() {
    for seed in 1..=12 {
        let _seed = Seed(seed);
        let mut random = Random::new(seed);
        let mut world = World::new(&[1, 1]);
        world.top_up(1, 20_000 + random.below(20_000) as i64);
        world.run_ms(SECOND_MS);
        let paid_in = world.total(1);
        world.buy(0, 1, 1, 2_500);
        world.run_ms(2 * SECOND_MS);
        let mut copy = EdgeBox::new(world.edges[0].me, 1);
        copy.store = world.edges[0].store.clone();
        copy.edge = edge::Edge::load(&copy.store, copy.me, copy.place).unwrap();
        let held = world.edges[0].right(PersonId(1), WalletKey::Main);
        world.cut_all(true);
        for serial in 2..20 {
            world.buy(0, serial, 1, 2_001 + random.below(2_000) as i64);
            std::mem::swap(&mut world.edges[0], &mut copy);
            world.buy(0, 100 + serial, 1, 2_001 + random.below(2_000) as i64);
            std::mem::swap(&mut world.edges[0], &mut copy);
        }
        world.cut_all(false);
        world.run_ms(2 * SECOND_MS);
        let run = copy.run(Channel::Journal, Seq(1));
        let posted = world.order(core::Command::Branch(Box::new(run)));
        assert!(matches!(posted, core::Reply::Branch { .. }), "{posted:?}");
        world.run_ms(SECOND_MS);
        let feed = FeedId { writer: copy.me, channel: Channel::Journal };
        assert!(world.hub.hub.mesh.forked.contains(&feed.writer));
        let sold = world.sold().1;
        assert!(sold <= paid_in + held, "sold {sold} of {paid_in}, copied {held}");
        assert_eq!(world.total(1), paid_in - sold);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_history_of_any_seed_is_safe_and_converges(seed in 1_000u64..1_000_000) {
        history(seed, 60);
    }
}

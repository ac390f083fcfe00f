//! The power is cut under the box as it runs: its core, its writer thread, its database. Whatever a till was answered is
//! answered again after the start, once, and rights and journal agree (invariant 3). With `synchronous=OFF` it goes red.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod site;

use site::*;
use std::collections::BTreeMap;
use std::path::Path;
use yika_crdt::Fen;
use yika_crdt::channel::{Channel, FeedId};
use yika_crdt::edge::{Command, Edge, Reply};
use yika_crdt::entry::*;
use yika_crdt::feed::{self, End};
use yika_crdt::ids::*;
use yika_crdt::sale::{Answer, Outcome, RefundRequest};
use yika_crdt::store::{Read, Tx};
use yika_edge::machine::{Ears, EdgeMachine};
use yika_edge::mirror::{self, Mirror};
use yika_edge::ticks::TickSource;
use yika_powercut::PowerCut;
use yika_store::{Options, SqliteStore, Synchronous, Writer};

const CUTS: u64 = 48;
const SALES: u32 = 96;
const CROWD: u32 = 6;
/// One sale in so many is given back by the till that made it.
const GIVEN_BACK_EVERY: u32 = 5;

type Answers = BTreeMap<PurchaseId, Answer>;

struct Outcome_ {
    answered: Answers,
    cut: bool,
    /// What is wrong after the start, in words.
    wrong: Result<(), String>,
}

fn open(dir: &Path, options: &Options) -> Option<(Writer<EdgeMachine>, yika_store::WriterThread<EdgeMachine>)> {
    let ticks = TickSource::open(&dir.join("boot")).unwrap();
    let store = SqliteStore::open(dir.join("edge.db"), options).ok()?;
    let edge = Edge::load(&store, BOX, PLACE).ok()?;
    let shut = mirror::judge(mirror::read(dir).unwrap(), BOX, &store).ok()?;
    let edge = edge.started(shut);
    let ears = Ears::new(edge.mesh.directory(), edge.clock());
    let mut mirror = Mirror::open(dir, BOX, &store).ok()?;
    if shut.is_none() {
        mirror.begin().unwrap();
    }
    Writer::spawn(EdgeMachine::new(edge, ticks, ears, mirror), store).ok()
}

fn run(power: &PowerCut, words: &Words, synchronous: Synchronous, operation: u64, seed: u64) -> Outcome_ {
    power.restore_power();
    let live = tempfile::tempdir().unwrap();
    power.arm(operation, seed);
    let options = Options {
        synchronous,
        vfs: Some(power.name().to_owned()),
        wal_bytes_soft_max: Some(256 << 10),
        ..Options::default()
    };
    let answered = open(live.path(), &options).map(|(writer, thread)| {
        let answered = lunch(&writer, words);
        drop(writer);
        drop(thread.join());
        answered
    });
    let answered = answered.unwrap_or_default();
    if !power.is_cut() {
        return Outcome_ { answered, cut: false, wrong: Ok(()) };
    }
    let image = power.take_image().unwrap();
    let wrong = look(image.dir(), live.path(), &answered);
    Outcome_ { answered, cut: true, wrong }
}

/// Headquarters' words are taken in and a crowd sells, until the power goes; what each id was answered.
fn lunch(writer: &Writer<EdgeMachine>, words: &Words) -> Answers {
    for command in first_commands(words) {
        match writer.call_blocking(command) {
            Ok(Reply::Stored(..) | Reply::Done) => {}
            Ok(other) => panic!("{other:?}"),
            Err(_) => return Answers::new(),
        }
    }
    let tills: Vec<_> = (0..CROWD)
        .map(|till| {
            let writer = writer.clone();
            std::thread::spawn(move || sell_on(&writer, till))
        })
        .collect();
    tills.into_iter().flat_map(|till| till.join().unwrap()).collect()
}

fn sell_on(writer: &Writer<EdgeMachine>, till: u32) -> Answers {
    let mut answers = Answers::new();
    for seq in (1..=SALES).filter(|seq| seq % CROWD == till) {
        let Some(answer) = ask(writer, sell(seq)) else { break };
        answers.insert(sale(seq).id, answer);
        if seq % GIVEN_BACK_EVERY == 0 {
            let Some(answer) = ask(writer, give_back(seq)) else { break };
            answers.insert(refund(seq).id, answer);
        }
    }
    answers
}

fn ask(writer: &Writer<EdgeMachine>, command: Command) -> Option<Answer> {
    writer.call_blocking(command).ok().map(answer)
}

fn answer(reply: Reply) -> Answer {
    match reply {
        Reply::Answer(answer) | Reply::Outcome(Outcome::Answered(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

fn sell(seq: u32) -> Command {
    Command::Purchase { request: sale(seq), may_ask: false }
}

fn refund(of: u32) -> RefundRequest {
    let id = PurchaseId { terminal: TILL, boot: 1, seq: 1_000 + of };
    RefundRequest { id, of: sale(of).id, kind: RefundKind::Correction, amount: None, operator: OperatorId(1) }
}

fn give_back(of: u32) -> Command {
    Command::Refund(refund(of))
}

/// Starts on what the cut left, beside the mirror as the living box wrote it.
fn look(image: &Path, live: &Path, answered: &Answers) -> Result<(), String> {
    let path = image.join("edge.db");
    if !path.exists() {
        return if answered.is_empty() { Ok(()) } else { Err("the database is gone".into()) };
    }
    let store = SqliteStore::open(&path, &Options::default()).map_err(|e| e.to_string())?;
    let shut = mirror::judge(mirror::read(live).unwrap(), BOX, &store).map_err(|e| e.to_string())?;
    if let Some(shut) = shut {
        return Err(format!("the database is behind what was answered: {shut:?}"));
    }
    journal_agrees(&store)?;
    let mut edge = Edge::load(&store, BOX, PLACE).map_err(|e| e.to_string())?.started(None);
    let ticks = TickSource::open(&live.join("boot")).unwrap();
    let mut tx = Tx::new(&store);
    edge.handle(&mut tx, Command::Asked { hub: true }, ticks.now(), &mut Vec::new()).map_err(|e| e.to_string())?;
    for (id, first) in answered {
        let command = if id.seq > 1_000 { give_back(id.seq - 1_000) } else { sell(id.seq) };
        let reply = edge.handle(&mut tx, command, ticks.now(), &mut Vec::new()).map_err(|e| e.to_string())?;
        let again = answer(reply);
        if again != *first {
            return Err(format!("{id:?} was answered {first:?}, and after the cut {again:?}"));
        }
    }
    Ok(())
}

/// The chain leads to its end, no id stands twice, and each row of rights says what the journal says.
fn journal_agrees(store: &SqliteStore) -> Result<(), String> {
    let feed = FeedId { writer: BOX, channel: Channel::Journal };
    let held = store.feed(&feed).map_err(|e| e.to_string())?.end;
    let entries = store.entries(&feed, Seq(1), usize::MAX).map_err(|e| e.to_string())?;
    if entries.iter().fold(End::default(), |end, entry| feed::link(&feed, end, entry)) != held {
        return Err("the journal's chain does not lead to its end".into());
    }
    let mut ids = std::collections::BTreeSet::new();
    let mut spent: BTreeMap<PersonId, (Fen, Fen)> = BTreeMap::new();
    for entry in &entries {
        let (id, person, used, returned) = match Entry::decode(entry).unwrap().body {
            Body::Purchase(sale) => (sale.id, sale.person, sum(&sale.paid), Fen::ZERO),
            Body::Refund(refund) => (refund.id, refund.person, Fen::ZERO, sum(&refund.back)),
            Body::Refused(refusal) => (refusal.id, PersonId(0), Fen::ZERO, Fen::ZERO),
            _ => continue,
        };
        if !ids.insert(id) {
            return Err(format!("{id:?} stands twice"));
        }
        let row = spent.entry(person).or_default();
        *row = (row.0.add(used).unwrap(), row.1.add(returned).unwrap());
    }
    let tx = Tx::new(store);
    for n in 1..=PERSONS {
        let row = Row { person: PersonId(n), wallet: WalletKey::Main };
        let rights = yika_crdt::sale::rights_of(&tx, row).map_err(|e| e.to_string())?;
        let Some(held) = rights.rows.get(&WalletKey::Main) else { continue };
        let journaled = spent.get(&PersonId(n)).copied().unwrap_or_default();
        if (held.used, held.returned) != journaled || held.right().unwrap().is_negative() {
            return Err(format!("person {n}: {held:?}, the journal says {journaled:?}"));
        }
    }
    Ok(())
}

fn sum(parts: &[(Source, Fen)]) -> Fen {
    Fen::sum(parts.iter().map(|part| part.1)).unwrap()
}

fn operations(power: &PowerCut, words: &Words, synchronous: Synchronous) -> u64 {
    let whole = run(power, words, synchronous, u64::MAX, 0);
    assert!(!whole.cut);
    let kinds = |is: fn(&Answer) -> bool| whole.answered.values().filter(|answer| is(answer)).count();
    let sold = kinds(|a| matches!(a, Answer::Approved(_)));
    let refused = kinds(|a| matches!(a, Answer::Refused(_)));
    let given_back = kinds(|a| matches!(a, Answer::Refunded(_)));
    let enough = sold > 40 && refused > 5 && given_back > 5;
    assert!(enough, "{sold} sold, {refused} refused, {given_back} given back");
    power.operations()
}

#[test]
fn invariant_3_what_a_till_was_answered_is_answered_again_after_every_power_cut() {
    let power = PowerCut::register("edge-full").unwrap();
    let words = words_of_headquarters();
    let total = operations(&power, &words, Synchronous::Full);
    let (mut happened, mut answered) = (0, 0);
    for n in 0..CUTS {
        let (operation, seed) = (n * total / CUTS, n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7);
        let outcome = run(&power, &words, Synchronous::Full, operation, seed);
        assert_eq!(outcome.wrong, Ok(()), "cut before operation {operation}, seed {seed}");
        happened += u64::from(outcome.cut);
        answered += outcome.answered.len();
    }
    assert!(happened > CUTS / 2 && answered > 500, "{happened} cuts, {answered} answers");
}

#[test]
fn without_synchronous_full_a_box_forgets_what_it_answered() {
    let power = PowerCut::register("edge-off").unwrap();
    let words = words_of_headquarters();
    let total = operations(&power, &words, Synchronous::OffForPowerCutTestOnly);
    let bad = (0..24).filter(|n| {
        let outcome = run(&power, &words, Synchronous::OffForPowerCutTestOnly, total * (12 + n) / 40, *n);
        outcome.cut && outcome.wrong.is_err()
    });
    assert!(bad.count() > 0, "synchronous=OFF lost nothing: the layer does not drop unsynced writes");
}

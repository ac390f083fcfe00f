//! The device breaks under the box as it runs, and comes back: at any operation, with and without reading, and where BEGIN,
//! COMMIT or ROLLBACK itself fails. A turn that failed has failed whole, in the database and in memory, and the box goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod site;

use site::*;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};
use yika_crdt::edge::{Command, Edge, Effect, Reply};
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::people::SharedPeople;
use yika_crdt::reason::Reason;
use yika_crdt::sale::{Answer, Outcome};
use yika_crdt::store::{Batch, Read, StoreError, Tx};
use yika_edge::machine::{Ears, EdgeMachine};
use yika_edge::mirror::Mirror;
use yika_edge::ticks::TickSource;
use yika_powercut::{PowerCut, deny};
use yika_store::rusqlite::{Connection, OpenFlags};
use yika_store::{CallError, Health, Machine, Options, Priority, SqliteReader, SqliteStore, Writer, WriterThread};

const BOUND: Duration = Duration::from_secs(20);
/// Who is blocked in the turns that fail.
const BLOCKED: u64 = 3;

/// What is made to fail on the writer thread.
struct Fault {
    /// Bits of `deny`.
    denied: AtomicU8,
    /// The next turn fails when its rows are written already.
    late: AtomicBool,
    /// The state cannot be read again after a rollback.
    blind: AtomicBool,
}

/// The box's own machine, which fails where it is told to.
struct Faulty {
    machine: EdgeMachine,
    fault: &'static Fault,
}

impl Machine for Faulty {
    type Command = Command;
    type Answer = Reply;
    type Effect = Effect;

    fn priority(command: &Command) -> Priority {
        EdgeMachine::priority(command)
    }

    fn handle(
        &mut self,
        tx: &mut Tx<'_, SqliteStore>,
        command: Command,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, StoreError> {
        self.machine.handle(tx, command, effects)
    }

    fn write_product(&mut self, conn: &Connection, _: &Batch) -> Result<(), StoreError> {
        deny::deny(conn, &self.fault.denied);
        match self.fault.late.swap(false, Ordering::SeqCst) {
            true => Err(StoreError::Device { doing: "writing a product's rows", cause: "told to fail".into() }),
            false => Ok(()),
        }
    }

    fn committed(&mut self, store: &SqliteStore, effects: Vec<Effect>) {
        self.machine.committed(store, effects);
    }

    fn rolled_back(&mut self, store: &SqliteStore, error: &StoreError) -> Result<(), StoreError> {
        match self.fault.blind.load(Ordering::SeqCst) {
            true => Err(StoreError::Device { doing: "reading the state again", cause: "told to fail".into() }),
            false => self.machine.rolled_back(store, error),
        }
    }
}

struct Living {
    dir: tempfile::TempDir,
    writer: Writer<Faulty>,
    thread: WriterThread<Faulty>,
    people: SharedPeople,
    fault: &'static Fault,
}

impl Living {
    fn start(power: &PowerCut, words: &Words) -> Living {
        power.restore_power();
        let dir = tempfile::tempdir().unwrap();
        let options = Options { vfs: Some(power.name().to_owned()), ..Options::default() };
        let store = SqliteStore::open(dir.path().join("edge.db"), &options).unwrap();
        let edge = Edge::load(&store, BOX, PLACE).unwrap().started(None);
        let people = edge.mesh.people.clone();
        let ears = Ears::new(edge.mesh.directory(), edge.clock());
        let mirror = Mirror::open(dir.path(), BOX, &store).unwrap();
        let machine = EdgeMachine::new(edge, TickSource::open(&dir.path().join("boot")).unwrap(), ears, mirror);
        let (late, blind) = (AtomicBool::new(false), AtomicBool::new(false));
        let fault: &'static Fault = Box::leak(Box::new(Fault { denied: AtomicU8::new(0), late, blind }));
        let (writer, thread) = Writer::spawn(Faulty { machine, fault }, store).unwrap();
        for command in first_commands(words) {
            writer.call_blocking(command).unwrap();
        }
        Living { dir, writer, thread, people, fault }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("edge.db")
    }

    fn buy(&self, seq: u32) -> Result<Answer, CallError> {
        match self.writer.call_blocking(Command::Purchase { request: sale(seq), may_ask: false })? {
            Reply::Outcome(Outcome::Answered(answer)) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }

    fn block(&self) -> Result<Reply, CallError> {
        let target = BlockTarget::Person(PersonId(BLOCKED));
        self.writer.call_blocking(Command::Block(BlockRecord {
            target,
            reason: BlockReason::Lost,
            operator: OperatorId(1),
        }))
    }

    /// A sale of the one who is to be blocked.
    fn buy_of_blocked(&self, turn: u32) -> Result<Answer, CallError> {
        self.buy(turn * PERSONS as u32 + BLOCKED as u32 - 1)
    }

    fn wait_until_serving(&self) {
        let begun = Instant::now();
        while *self.writer.health().borrow() != Health::Serving {
            assert!(begun.elapsed() < BOUND, "{:?}", *self.writer.health().borrow());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it knows is what a start would read.
    fn memory_is_the_database(&self, place: &str) {
        let reader = SqliteReader::open(self.path(), &Options::default()).unwrap();
        let fresh = Edge::load(&reader, BOX, PLACE).unwrap();
        assert_eq!(*self.people.read(), *fresh.mesh.people.read(), "{place}");
    }

    fn end(self) {
        drop(self.writer);
        drop(self.thread.join().unwrap());
    }
}

/// Every row of state and the end of every feed.
fn contents(path: &Path) -> (Vec<yika_crdt::store::KeyValue>, Vec<String>) {
    let reader = SqliteReader::open(path, &Options::default()).unwrap();
    let feeds = reader.feeds().unwrap().iter().map(|(feed, state)| format!("{feed} {state:?}")).collect();
    (reader.scan(b"", None, usize::MAX >> 1).unwrap(), feeds)
}

fn is_sold(answer: &Result<Answer, CallError>) -> bool {
    matches!(answer, Ok(Answer::Approved(_)))
}

/// One run: the device breaks before an operation, everything is tried, the device is mended, everything is tried again.
fn break_and_mend(power: &PowerCut, words: &Words, after: u64, reads: bool) -> usize {
    let living = Living::start(power, words);
    power.break_at(power.operations() + after, reads);
    let place = format!("broken after {after} operations, reads too: {reads}");
    let first: Vec<_> = (1..=4).map(|turn| living.buy_of_blocked(turn)).collect();
    let blocked = living.block();
    let failed = first.iter().filter(|answer| answer.is_err()).count();
    let answered: Vec<bool> = first.iter().map(|answer| answer.is_ok()).collect();
    assert!(answered.is_sorted_by(|a, b| a >= b), "{place}: served while broken: {answered:?}");
    power.mend();
    if blocked.is_err() {
        living.wait_until_serving();
    }
    living.memory_is_the_database(&place);
    // Whoever was told nothing asks again, with the same ids.
    if blocked.is_err() {
        for turn in 1..=4 {
            let again = living.buy_of_blocked(turn);
            assert!(is_sold(&again), "{place}: {again:?} for one whose block was not stored");
            assert!(first[turn as usize - 1].is_err() || again == first[turn as usize - 1], "{place}");
        }
        living.block().unwrap();
    }
    assert_eq!(living.buy_of_blocked(9), Ok(Answer::Refused(Reason::Blocked)), "{place}");
    living.memory_is_the_database(&place);
    living.end();
    failed
}

#[test]
fn a_device_that_breaks_at_any_moment_leaves_no_turn_half_done() {
    let power = PowerCut::register("failing").unwrap();
    let words = words_of_headquarters();
    let whole = break_and_mend(&power, &words, u64::MAX >> 1, false);
    assert_eq!(whole, 0);
    let mut failed = 0;
    for reads in [false, true] {
        for after in 0..14 {
            failed += break_and_mend(&power, &words, after, reads);
        }
    }
    assert!(failed > 28, "only {failed} sales failed");
}

#[test]
fn a_lock_that_is_not_given_fails_the_turn_and_is_waited_out() {
    let power = PowerCut::register("locked").unwrap();
    let living = Living::start(&power, &words_of_headquarters());
    let other = Connection::open_with_flags_and_vfs(living.path(), OpenFlags::default(), power.name()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let before = contents(&living.path());
    let refused = living.block();
    assert!(matches!(&refused, Err(CallError::Store(StoreError::Device { .. }))), "{refused:?}");
    assert!(matches!(*living.writer.health().borrow(), Health::Refusing(_)));
    assert!(living.buy_of_blocked(1).is_err());
    assert_eq!(contents(&living.path()), before);
    other.execute_batch("ROLLBACK").unwrap();
    living.wait_until_serving();
    assert!(is_sold(&living.buy_of_blocked(1)), "the block was not stored");
    living.end();
}

/// The statement fails in the turn of a block; later the device gives way.
fn refuse(power: &PowerCut, denied: u8, late: bool, blind: bool) {
    let living = Living::start(power, &words_of_headquarters());
    assert!(is_sold(&living.buy_of_blocked(1)));
    living.fault.denied.store(denied, Ordering::SeqCst);
    let before = contents(&living.path());
    living.fault.late.store(late, Ordering::SeqCst);
    living.fault.blind.store(blind, Ordering::SeqCst);
    let refused = living.block();
    assert!(matches!(&refused, Err(CallError::Store(StoreError::Device { .. }))), "{denied}: {refused:?}");
    let sale = living.buy_of_blocked(3);
    assert!(sale.is_err(), "{denied}: served while refusing: {sale:?}");
    assert_eq!(contents(&living.path()), before, "{denied}: something of the turn is stored");
    std::thread::sleep(Duration::from_millis(yika_store::writer::RETRY_EVERY_MS * 2));
    living.fault.denied.store(0, Ordering::SeqCst);
    living.fault.blind.store(false, Ordering::SeqCst);
    living.wait_until_serving();
    living.memory_is_the_database("after the refusal");
    let sale = loop {
        // A BEGIN that was refused again in between is tried again like any.
        match living.buy_of_blocked(3) {
            Err(_) if denied == deny::BEGIN => living.wait_until_serving(),
            other => break other,
        }
    };
    assert!(is_sold(&sale), "{denied}: {sale:?} for one whose block was not stored");
    living.block().unwrap();
    assert_eq!(living.buy_of_blocked(4), Ok(Answer::Refused(Reason::Blocked)));
    living.memory_is_the_database("at the end");
    living.end();
}

#[test]
fn a_begin_that_fails_fails_the_turn() {
    refuse(&PowerCut::register("begin").unwrap(), deny::BEGIN, false, false);
}

#[test]
fn a_commit_that_fails_fails_the_turn() {
    refuse(&PowerCut::register("commit").unwrap(), deny::COMMIT, false, false);
}

#[test]
fn a_rollback_that_fails_lets_nothing_of_the_turn_be_seen() {
    refuse(&PowerCut::register("rollback").unwrap(), deny::ROLLBACK, true, false);
}

#[test]
fn a_commit_and_its_rollback_that_fail_let_nothing_of_the_turn_be_seen() {
    refuse(&PowerCut::register("both").unwrap(), deny::COMMIT | deny::ROLLBACK, false, false);
}

#[test]
fn a_state_that_cannot_be_read_again_is_read_before_anything_is_served() {
    refuse(&PowerCut::register("blind").unwrap(), 0, true, true);
}

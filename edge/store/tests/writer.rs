//! The writer thread: everything answered, only what is durable, most urgent first, and errors for everybody.

// tests may panic
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use yika_crdt::store::{Read, StoreError, Tx};
use yika_store::{CallError, Health, Machine, Options, Priority, SqliteReader, SqliteStore, Writer, WriterThread};

enum Command {
    /// Writes a row of so many bytes under the key.
    Put(u32, usize),
    /// Fails as a damaged row does.
    Fail(StoreError),
    /// Holds the thread until the gate is free, so that a queue builds up.
    Gate(Arc<Mutex<()>>),
    Ranked(Priority, u32),
}

#[derive(Default)]
struct Counter {
    turns: Arc<AtomicUsize>,
    rollbacks: Arc<AtomicUsize>,
    order: Arc<Mutex<Vec<u32>>>,
    told: Arc<Mutex<Vec<u32>>>,
}

impl Machine for Counter {
    type Command = Command;
    type Answer = u32;
    type Effect = u32;

    fn priority(command: &Command) -> Priority {
        match command {
            Command::Ranked(priority, _) => *priority,
            Command::Gate(_) => Priority::Urgent,
            _ => Priority::Purchase,
        }
    }

    fn handle(
        &mut self,
        tx: &mut Tx<'_, SqliteStore>,
        command: Command,
        effects: &mut Vec<u32>,
    ) -> Result<u32, StoreError> {
        match command {
            Command::Put(n, bytes) => {
                tx.put(n.to_be_bytes().to_vec(), &vec![7u8; bytes]);
                effects.push(n);
                Ok(n)
            }
            Command::Fail(error) => Err(error),
            Command::Gate(gate) => {
                drop(gate.lock().unwrap());
                Ok(0)
            }
            Command::Ranked(_, n) => {
                self.order.lock().unwrap().push(n);
                Ok(n)
            }
        }
    }

    fn committed(&mut self, store: &SqliteStore, effects: Vec<u32>) {
        self.turns.fetch_add(1, Ordering::SeqCst);
        for n in &effects {
            assert!(store.get(&n.to_be_bytes()).unwrap().is_some());
        }
        self.told.lock().unwrap().extend(effects);
    }

    fn rolled_back(&mut self, _store: &SqliteStore, _error: &StoreError) -> Result<(), StoreError> {
        self.rollbacks.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn start(path: &Path, options: &Options) -> (Writer<Counter>, WriterThread<Counter>) {
    let store = SqliteStore::open(path, options).unwrap();
    Writer::spawn(Counter::default(), store).unwrap()
}

/// Whether there was room for a command; without, nothing was sent.
fn tell_at_once(writer: &Writer<Counter>, command: Command) -> bool {
    let telling = pin!(writer.tell(command));
    matches!(telling.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < limit, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_once_are_answered_when_another_reader_sees_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.db");
    let (writer, thread) = start(&path, &Options::default());
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    assert!(tell_at_once(&writer, Command::Gate(Arc::clone(&gate))));
    let tasks: Vec<_> = (1..=200u32)
        .map(|n| {
            let (writer, path) = (writer.clone(), path.clone());
            tokio::spawn(async move {
                assert_eq!(writer.call(Command::Put(n, 10)).await, Ok(n));
                let reader = SqliteReader::open(&path, &Options::default()).unwrap();
                assert!(reader.get(&n.to_be_bytes()).unwrap().is_some());
            })
        })
        .collect();
    wait_for("a full queue", || writer.waiting(Priority::Purchase) >= 200);
    drop(held);
    for task in tasks {
        task.await.unwrap();
    }
    drop(writer);
    let (machine, store) = thread.join().unwrap();
    assert_eq!(store.scan(b"", None, 1000).unwrap().len(), 200);
    assert_eq!(machine.told.lock().unwrap().len(), 200);
    // They waited together, so they shared a commit.
    assert!(machine.turns.load(Ordering::SeqCst) < 20);
}

#[test]
fn what_waits_is_served_most_urgent_first() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, thread) = start(&dir.path().join("node.db"), &Options::default());
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    assert!(tell_at_once(&writer, Command::Gate(Arc::clone(&gate))));
    wait_for("the gate", || writer.waiting(Priority::Urgent) == 0);
    for (n, priority) in (0..).zip(Priority::ALL.iter().rev()) {
        assert!(tell_at_once(&writer, Command::Ranked(*priority, n)));
    }
    drop(held);
    drop(writer);
    let (machine, _) = thread.join().unwrap();
    assert_eq!(*machine.order.lock().unwrap(), [3, 2, 1, 0]);
}

#[test]
fn a_full_queue_makes_the_sender_wait_and_drops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, thread) = start(&dir.path().join("node.db"), &Options::default());
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    assert!(tell_at_once(&writer, Command::Gate(Arc::clone(&gate))));
    wait_for("the gate", || writer.waiting(Priority::Urgent) == 0);
    let mut told = 0u32;
    while tell_at_once(&writer, Command::Put(told, 1)) {
        told += 1;
    }
    assert_eq!(told as usize, yika_store::writer::QUEUE_COMMANDS_MAX);
    let waiting = {
        let writer = writer.clone();
        std::thread::spawn(move || writer.call_blocking(Command::Put(9999, 1)))
    };
    drop(held);
    assert_eq!(waiting.join().unwrap(), Ok(9999));
    drop(writer);
    let (_, store) = thread.join().unwrap();
    assert_eq!(store.scan(b"", None, 9999).unwrap().len(), told as usize + 1);
}

#[test]
fn a_command_that_meets_damage_fails_its_whole_turn_and_the_node_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, thread) = start(&dir.path().join("node.db"), &Options::default());
    let damage =
        StoreError::Corrupt { place: "state row 01".to_owned(), cause: "its checksum does not match".to_owned() };
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    assert!(tell_at_once(&writer, Command::Gate(Arc::clone(&gate))));
    let callers: Vec<_> = (1..=9u32)
        .map(|n| {
            let (writer, damage) = (writer.clone(), damage.clone());
            std::thread::spawn(move || match n {
                5 => writer.call_blocking(Command::Fail(damage)),
                n => writer.call_blocking(Command::Put(n, 1)),
            })
        })
        .collect();
    wait_for("nine callers", || writer.waiting(Priority::Purchase) == 9);
    drop(held);
    for caller in callers {
        assert_eq!(caller.join().unwrap(), Err(CallError::Store(damage.clone())));
    }
    assert_eq!(*writer.health().borrow(), Health::Damaged(damage));
    drop(writer);
    let (machine, store) = thread.join().unwrap();
    assert_eq!(machine.rollbacks.load(Ordering::SeqCst), 1);
    assert_eq!(store.scan(b"", None, 9).unwrap(), []);
    assert!(machine.told.lock().unwrap().is_empty());
}

#[test]
fn a_full_disk_refuses_and_serves_again_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.db");
    let small = Options { pages_max: Some(100), ..Options::default() };
    let (writer, thread) = start(&path, &small);
    assert_eq!(writer.call_blocking(Command::Put(1, 40_000)), Ok(1));
    let refused = writer.call_blocking(Command::Put(2, 900_000));
    assert!(matches!(refused, Err(CallError::Store(StoreError::Device { .. }))));
    assert!(matches!(*writer.health().borrow(), Health::Refusing(_)));
    // The device has room for what the probe writes, so it serves again by itself.
    wait_for("serving", || *writer.health().borrow() == Health::Serving);
    assert_eq!(writer.call_blocking(Command::Put(3, 1_000)), Ok(3));
    drop(writer);
    let (machine, store) = thread.join().unwrap();
    assert_eq!(machine.rollbacks.load(Ordering::SeqCst), 1);
    assert_eq!(store.get(&2u32.to_be_bytes()).unwrap(), None);
    assert!(store.get(&3u32.to_be_bytes()).unwrap().is_some());
}

#[test]
fn the_log_stays_bounded_under_a_steady_stream() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.db");
    let options = Options { wal_bytes_soft_max: Some(2 << 20), ..Options::default() };
    let (writer, thread) = start(&path, &options);
    let mut largest = 0;
    for n in 0..400u32 {
        assert_eq!(writer.call_blocking(Command::Put(n % 7, 40_000)), Ok(n % 7));
        let log = std::fs::metadata(dir.path().join("node.db-wal")).unwrap();
        largest = largest.max(log.len());
    }
    assert!(largest < 3 << 20, "the log grew to {largest} bytes");
    drop(writer);
    thread.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_what_waits_and_ends_the_thread_although_handles_remain() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, thread) = start(&dir.path().join("node.db"), &Options::default());
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    assert!(tell_at_once(&writer, Command::Gate(Arc::clone(&gate))));
    let waiting = writer.clone();
    let answered = tokio::spawn(async move { waiting.call(Command::Put(1, 10)).await });
    wait_for("a waiting command", || writer.waiting(Priority::Purchase) == 1);
    writer.stop();
    drop(held);
    assert_eq!(answered.await.unwrap(), Ok(1));
    let (_, store) = tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap();
    assert!(store.get(&1u32.to_be_bytes()).unwrap().is_some());
    assert_eq!(writer.call(Command::Put(2, 10)).await, Err(CallError::Stopped));
    assert_eq!(*writer.health().borrow(), Health::Stopped);
}

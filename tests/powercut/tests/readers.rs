//! Several connections on one disk: a writer, a reader that holds snapshots, and a checkpointer. What was
//! answered, and what any reader has seen, survives every cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use rusqlite::{Connection, OpenFlags};
use yika_powercut::PowerCut;

const ROWS: i64 = 60;
/// Amounts sum to zero within each transaction, so that half of one shows.
const SUM: &str = "SELECT coalesce(sum(fen), 0), coalesce(max(id), 0), count(*) FROM entry";

fn open(power: &PowerCut, folder: &Path, synchronous: &str) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let db = Connection::open_with_flags_and_vfs(folder.join("m.db"), flags, power.name())?;
    db.execute_batch(&format!(
        "PRAGMA busy_timeout=5000; PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous};
         PRAGMA wal_autocheckpoint=0; CREATE TABLE IF NOT EXISTS entry(id INTEGER, fen INTEGER, note BLOB);"
    ))?;
    Ok(db)
}

fn sell(writer: &Connection, id: i64) -> rusqlite::Result<()> {
    writer.execute_batch(&format!(
        "BEGIN IMMEDIATE; INSERT INTO entry VALUES ({id}, {id}, zeroblob({}));
         INSERT INTO entry VALUES ({id}, -{id}, zeroblob(900)); COMMIT;",
        (id * 331) % 5_000
    ))
}

/// The newest id, after checking that the view is whole.
fn newest(reader: &Connection) -> rusqlite::Result<i64> {
    let (sum, newest, rows): (i64, i64, i64) = reader.query_row(SUM, [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
    assert_eq!((sum, rows), (0, newest * 2), "a reader saw half a transaction");
    Ok(newest)
}

/// One writer, one reader with snapshots over several commits, one checkpointer, in a fixed order.
/// Gives the newest id answered and the newest seen.
fn interleaved(power: &PowerCut, folder: &Path, synchronous: &str) -> (i64, i64) {
    let (mut answered, mut seen) = (0, 0);
    let mut work = || -> rusqlite::Result<()> {
        let writer = open(power, folder, synchronous)?;
        let reader = open(power, folder, synchronous)?;
        let checkpointer = open(power, folder, synchronous)?;
        let mut snapshot = None;
        for id in 1..=ROWS {
            sell(&writer, id)?;
            answered = id;
            match id % 10 {
                3 => {
                    reader.execute_batch("BEGIN")?;
                    seen = newest(&reader)?;
                    snapshot = Some(seen);
                }
                // The writer and the checkpointer have gone on; the snapshot has not.
                8 => {
                    assert_eq!(Some(newest(&reader)?), snapshot.take());
                    reader.execute_batch("COMMIT")?;
                    seen = newest(&reader)?;
                }
                5 => checkpoint(&checkpointer, "PASSIVE")?,
                9 => checkpoint(&checkpointer, "TRUNCATE")?,
                _ => {}
            }
        }
        Ok(())
    };
    let done = work();
    assert!(done.is_ok() || power.is_cut(), "without a cut nothing may fail: {done:?}");
    (answered, seen)
}

fn checkpoint(db: &Connection, mode: &str) -> rusqlite::Result<()> {
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
}

/// The newest id in the image, or nothing when it is unsound or has a gap.
fn survived(power: &PowerCut) -> Option<i64> {
    let image = power.take_image().unwrap();
    let look = || -> rusqlite::Result<Option<i64>> {
        let db = Connection::open(image.path("m.db"))?;
        let check: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0))?;
        let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
        if tables == 0 {
            return Ok(Some(0));
        }
        let (sum, newest, rows): (i64, i64, i64) = db.query_row(SUM, [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
        Ok((check == "ok" && sum == 0 && rows == newest * 2).then_some(newest))
    };
    look().unwrap_or(None)
}

#[test]
fn what_was_answered_or_seen_survives_every_cut() {
    let power = PowerCut::register("powercut-readers").unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(interleaved(&power, folder.path(), "FULL"), (ROWS, ROWS - 2));
    let total = power.operations();
    for n in 0..150 {
        power.restore_power();
        let folder = tempfile::tempdir().unwrap();
        let operation = n * total / 150;
        power.arm(operation, n);
        let (answered, seen) = interleaved(&power, folder.path(), "FULL");
        assert!(power.is_cut());
        let kept = survived(&power);
        let place = format!("cut before operation {operation}, seed {n}");
        assert!(kept >= Some(answered.max(seen)), "{place}: answered {answered}, seen {seen}, kept {kept:?}");
    }
}

#[test]
fn without_sync_even_what_was_seen_is_lost() {
    let power = PowerCut::register("powercut-readers-off").unwrap();
    let folder = tempfile::tempdir().unwrap();
    interleaved(&power, folder.path(), "OFF");
    let total = power.operations();
    let lost = (0..40).filter(|n| {
        power.restore_power();
        let folder = tempfile::tempdir().unwrap();
        power.arm(total / 2 + n, *n);
        let (_, seen) = interleaved(&power, folder.path(), "OFF");
        power.is_cut() && survived(&power) < Some(seen)
    });
    assert!(lost.count() > 0, "synchronous=OFF lost nothing that a reader saw");
}

/// The same with real threads: the order is the scheduler's, the promise is not.
#[test]
fn threads_lose_nothing_answered_or_seen() {
    let power = PowerCut::register("powercut-threads").unwrap();
    let (mut answered_in_all, mut seen_in_all) = (0, 0);
    for n in 0..40_u64 {
        power.restore_power();
        let folder = tempfile::tempdir().unwrap();
        let writer = open(&power, folder.path(), "FULL").unwrap();
        let readers = [(); 2].map(|()| open(&power, folder.path(), "FULL").unwrap());
        power.arm(power.operations() + 3 + n * 7, n);
        let seen = AtomicI64::new(0);
        let done = AtomicBool::new(false);
        let answered = std::thread::scope(|scope| {
            for (which, reader) in readers.into_iter().enumerate() {
                let (seen, done) = (&seen, &done);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        if let Ok(id) = newest(&reader) {
                            seen.fetch_max(id, Ordering::Relaxed);
                        }
                        if which == 1 {
                            let _ = checkpoint(&reader, "PASSIVE");
                        }
                    }
                });
            }
            let answered = (1..).take_while(|id| sell(&writer, *id).is_ok()).last().unwrap_or(0);
            done.store(true, Ordering::Relaxed);
            answered
        });
        assert!(power.is_cut(), "round {n}: a sale failed without a cut");
        let seen = seen.into_inner();
        let kept = survived(&power);
        assert!(kept >= Some(answered.max(seen)), "round {n}: answered {answered}, seen {seen}, kept {kept:?}");
        answered_in_all += answered;
        seen_in_all += seen;
    }
    let enough = answered_in_all > 100 && seen_in_all > 100;
    assert!(enough, "the cuts came too early to show anything: {answered_in_all} answered, {seen_in_all} seen");
}

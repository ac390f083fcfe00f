//! The layer proves itself: SQLite with `synchronous=FULL` loses no answered commit in any cut, and
//! with `synchronous=OFF` the same check goes red.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use rusqlite::{Connection, OpenFlags};
use yika_powercut::PowerCut;

const CUTS: u64 = 240;
const ROWS: i64 = 60;

/// What a cut left: rows answered, of those missing, and whether the file passed its check.
struct Outcome {
    answered: i64,
    missing: i64,
    sound: bool,
    cut: bool,
}

fn run(power: &PowerCut, synchronous: &str, operation: u64, seed: u64) -> Outcome {
    power.restore_power();
    let live = tempfile::tempdir().unwrap();
    power.arm(operation, seed);
    let mut answered = 0;
    {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let db = Connection::open_with_flags_and_vfs(live.path().join("t.db"), flags, power.name()).unwrap();
        let setup = format!(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA wal_autocheckpoint=7;
             CREATE TABLE sale(id INTEGER PRIMARY KEY, note BLOB NOT NULL);"
        );
        if db.execute_batch(&setup).is_ok() {
            for id in 1..=ROWS {
                let size = 40 + (id * 37) % 3000;
                match db.execute("INSERT INTO sale VALUES (?1, zeroblob(?2))", [id, size]) {
                    Ok(_) => answered = id,
                    Err(_) => break,
                }
            }
        }
        if !power.is_cut() {
            return Outcome { answered, missing: 0, sound: true, cut: false };
        }
    }
    let image = power.take_image().unwrap();
    let (missing, sound) = inspect(&image.path("t.db"), answered);
    Outcome { answered, missing, sound, cut: true }
}

fn inspect(path: &std::path::Path, answered: i64) -> (i64, bool) {
    let look = || -> rusqlite::Result<(i64, bool)> {
        let db = Connection::open(path)?;
        let check: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0))?;
        let table: i64 = db.query_row("SELECT count(*) FROM sqlite_schema WHERE name='sale'", [], |r| r.get(0))?;
        let found: i64 = match table {
            0 => 0,
            _ => db.query_row("SELECT count(*) FROM sale WHERE id <= ?1", [answered], |r| r.get(0))?,
        };
        Ok((answered - found, check == "ok"))
    };
    look().unwrap_or((answered, false))
}

/// Operations of a whole run without a cut, so that cuts are drawn over all of it.
fn operations(power: &PowerCut, synchronous: &str) -> u64 {
    let whole = run(power, synchronous, u64::MAX, 0);
    assert!(!whole.cut);
    assert_eq!(whole.answered, ROWS);
    power.operations()
}

#[test]
fn every_answered_commit_survives_every_cut() {
    let power = PowerCut::register("powercut-full").unwrap();
    let total = operations(&power, "FULL");
    let mut happened = 0;
    let mut answered = 0;
    for n in 0..CUTS {
        let seed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7;
        let operation = n * total / CUTS;
        let outcome = run(&power, "FULL", operation, seed);
        assert!(outcome.sound, "cut before operation {operation}, seed {seed}: integrity check failed");
        assert_eq!(outcome.missing, 0, "cut before operation {operation}, seed {seed}: answered commits lost");
        happened += u64::from(outcome.cut);
        answered += outcome.answered;
    }
    assert!(happened >= 200, "only {happened} cuts happened");
    assert!(answered > 0, "no cut came after an answered commit");
}

#[test]
fn without_sync_answered_commits_are_lost() {
    let power = PowerCut::register("powercut-off").unwrap();
    let total = operations(&power, "OFF");
    let bad = (0..40).filter(|n| {
        let outcome = run(&power, "OFF", total / 2 + n, *n);
        outcome.cut && outcome.missing > 0
    });
    assert!(bad.count() > 0, "synchronous=OFF lost nothing: the layer does not drop unsynced writes");
}

#[test]
fn normal_loses_answered_commits_and_stays_sound() {
    let power = PowerCut::register("powercut-normal").unwrap();
    let total = operations(&power, "NORMAL");
    let mut missing = 0;
    for n in 0..80 {
        let outcome = run(&power, "NORMAL", n * total / 80, n);
        assert!(outcome.sound, "cut before operation {}, seed {n}: integrity check failed", n * total / 80);
        missing += outcome.missing;
    }
    assert!(missing > 0, "synchronous=NORMAL does not sync each commit, yet nothing was lost");
}

#[test]
fn a_cut_at_once_stops_later_writes_and_keeps_what_was_answered() {
    let power = PowerCut::register("powercut-now").unwrap();
    let live = tempfile::tempdir().unwrap();
    let db = Connection::open_with_flags_and_vfs(live.path().join("n.db"), OpenFlags::default(), power.name()).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t(x); INSERT INTO t VALUES (1)")
        .unwrap();
    let first = power.cut(5).unwrap();
    assert!(db.execute("INSERT INTO t VALUES (2)", []).is_err());
    let kept = Connection::open(first.path("n.db")).unwrap();
    let rows: i64 = kept.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
    assert_eq!(rows, 1);
    assert!(PowerCut::register("powercut-now").is_err());
}

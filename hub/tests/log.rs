//! The log between two backups: replayed, it gives the very database that was lost; torn ends, damage, gaps, full and
//! absent disks are told apart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod site;
mod small_disk;

use site::Site;
use small_disk::small_disk;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use yika_crdt::Fen;
use yika_crdt::entry::BlockTarget;
use yika_hub::backup::log::replay::{Replayed, replay};
use yika_hub::backup::log::ship::Shipping;
use yika_hub::backup::log::{LogState, segment};
use yika_hub::backup::{self, Backups, LogFrom, put_back};
use yika_hub::desk::Actor;
use yika_hub::identity::HubIdentity;
use yika_hub::import::{IdType, Lang, export_xlsx};
use yika_hub::node::HubNode;
use yika_hub::store;
use yika_hub::vault::Vault;
use yika_store::SqliteStore;
use yika_store::rusqlite::Connection;
use yika_store::rusqlite::types::Value;

const BOUND: Duration = Duration::from_secs(60);

/// A hub with a backup folder, a log folder and the thread between.
struct Logged {
    site: Site,
    backups: Arc<Backups>,
    shipping: Shipping,
    data: PathBuf,
    log: PathBuf,
}

impl Logged {
    async fn start(dir: &Path, log: PathBuf) -> Logged {
        let data = dir.join("hub");
        let site = match HubIdentity::exists(&data) {
            true => site::empty(&data),
            false => site::filled(&data, 6).await,
        };
        Logged::with(site, data, dir.join("backups"), log)
    }

    fn with(mut site: Site, data: PathBuf, to: PathBuf, log: PathBuf) -> Logged {
        let backups = Arc::new(Backups::new(data.clone(), to, 2, String::new()));
        site.desk = site.desk.clone().with_backups(Arc::clone(&backups));
        let node = Arc::clone(&site.desk.node);
        let shipping = Shipping::start(node, Arc::clone(&backups), log.clone()).unwrap();
        Logged { site, backups, shipping, data, log }
    }

    async fn back_up(&self) -> PathBuf {
        PathBuf::from(self.site.desk.create_backup(&Actor::console(), None).await.unwrap().file)
    }

    fn state(&self) -> Option<LogState> {
        self.site.desk.node.ears().log.borrow().clone()
    }

    async fn until(&self, what: &str, is: impl Fn(&LogState) -> bool) {
        let begun = Instant::now();
        while !self.state().is_some_and(|state| is(&state)) {
            assert!(begun.elapsed() < BOUND, "{what}: {:?}", self.state());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The folder holds every turn up to the last.
    async fn until_archived(&self) {
        let begun = Instant::now();
        loop {
            let archived = self.site.desk.node.ears().archived.borrow().turn;
            let turn = turn_of(&self.data);
            if archived == turn {
                return;
            }
            assert!(begun.elapsed() < BOUND, "{archived} of {turn}: {:?}", self.state());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Everything an operator can do that no box could tell again.
    async fn act(&self, seed: u64) {
        let (desk, actor) = (&self.site.desk, Actor::console());
        let holder = &self.site.holders[0];
        desk.top_up(&actor, holder.person, Fen(7_000), &format!("in-{seed}")).await.unwrap();
        desk.withdraw(&actor, holder.person, Fen(300), &format!("out-{seed}"), "").await.unwrap();
        desk.block(&actor, BlockTarget::Card(self.site.holders[1].card), yika_crdt::entry::BlockReason::Lost)
            .await
            .unwrap();
        desk.lift(&actor, BlockTarget::Card(self.site.holders[1].card)).await.unwrap();
        self.site.operator(&format!("clerk-{seed}"), "clerk", None).await;
        let mut people = site::records(seed, 4);
        for (place, person) in people.iter_mut().enumerate() {
            person.staff_number = format!("{seed}-{place}");
            (person.card_number, person.card_uid) = (None, String::new());
            (person.id_type, person.id_number) = (IdType::Passport, format!("X{seed}A{place}"));
        }
        let file = export_xlsx(&people, Lang::Zh).unwrap();
        let report = self.site.import(file).await;
        assert!(report.refused == 0 && report.new > 0, "{report:?}");
    }

    async fn end(self) {
        self.shipping.stop(BOUND).await;
    }
}

fn turn_of(data: &Path) -> u64 {
    let conn = Connection::open(data.join("hub.db")).unwrap();
    store::outbox::position(&conn).unwrap().turn
}

/// Every row of every table, but for the log's own; entries and heads by the names of their feeds.
fn everything(database: &Path) -> BTreeMap<String, Vec<Vec<Value>>> {
    let conn = Connection::open(database).unwrap();
    let sql =
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'log_%'";
    let mut names = conn.prepare(sql).unwrap();
    let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let rows_of = |name: String| {
        let sql = match name.as_str() {
            "entries" => "SELECT * FROM entries_by_feed".to_owned(),
            "feeds" => "SELECT feed, seq, hash, pruned, pruned_hash FROM feeds".to_owned(),
            "heads" => {
                "SELECT feed, at & 0xFFFFFFFFFF, head FROM heads JOIN feeds ON feeds.id = heads.at >> 40".to_owned()
            }
            other => format!("SELECT * FROM {other}"),
        };
        let mut statement = conn.prepare(&sql).unwrap();
        let columns = statement.column_count();
        let row = |row: &yika_store::rusqlite::Row<'_>| (0..columns).map(|n| row.get(n)).collect();
        let mut rows: Vec<Vec<Value>> = statement.query_map([], row).unwrap().map(Result::unwrap).collect();
        rows.sort_by_key(|row| format!("{row:?}"));
        (name, rows)
    };
    names.into_iter().map(rows_of).collect()
}

/// The backup put back into a scratch folder and the log replayed on it.
fn replayed(file: &Path, log: &Path, data: &Path, accept_loss: bool) -> anyhow::Result<(Replayed, tempfile::TempDir)> {
    let scratch = tempfile::tempdir().unwrap();
    let vault = Vault::open(data).unwrap();
    backup::file::unpack(file, &vault, &backup::parts_of_a_hub(), scratch.path()).unwrap();
    let mut sqlite = SqliteStore::open(scratch.path().join("hub.db"), &store::options()).unwrap();
    let replayed = replay(&mut sqlite, log, &vault, accept_loss)?;
    Ok((replayed, scratch))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == segment::ENDING)).collect();
    files.sort();
    files
}

fn assert_the_same(data: &Path, scratch: &Path) {
    let (lost, found) = (everything(&data.join("hub.db")), everything(&scratch.join("hub.db")));
    for (table, rows) in &lost {
        assert_eq!(rows.len(), found[table].len(), "{table}");
        assert!(rows == &found[table], "{table} differs");
    }
    assert!(lost["profiles"].len() > 6 && lost["transfers"].len() > 6 && lost["audit"].len() > 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_followed_a_backup_comes_back_to_the_last_row_and_again_after_every_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut hub = Logged::start(dir.path(), dir.path().join("log")).await;
    hub.until("a log without a backup says so", |log| !log.based).await;
    assert!(files(dir.path()).is_empty() && !hub.log.exists(), "and writes nothing");
    let file = hub.back_up().await;
    hub.act(11).await;
    hub.site.sell().await;
    hub.until_archived().await;
    hub.until("it is sound", |log| log.is_sound(yika_hub::clock::wall_ms())).await;
    let (done, scratch) = replayed(&file, &hub.log, &hub.data, false).unwrap();
    assert!(done.turns > 10 && done.torn_bytes == 0 && done.stopped.is_none(), "{done:?}");
    let words = done.tally.to_string();
    for what in ["1 top-ups", "1 withdrawals", "people entered", "1 operators", "sales"] {
        assert!(words.contains(what), "{words}");
    }
    assert_the_same(&hub.data, scratch.path());

    // Killed with turns in the outbox; what is in the folder already may come twice.
    let (data, to, log) = (hub.data.clone(), hub.backups.dir.clone(), hub.log.clone());
    hub.site.desk.top_up(&Actor::console(), hub.site.holders[0].person, Fen(1), "last").await.unwrap();
    let holders = hub.site.holders.clone();
    hub.end().await;
    let mut site = site::empty(&data);
    site.holders = holders;
    let hub = Logged::with(site, data, to, log);
    hub.act(12).await;
    hub.until_archived().await;
    let (again, scratch) = replayed(&file, &hub.log, &hub.data, false).unwrap();
    assert!(again.turns > done.turns && files(&hub.log).len() >= 2);
    assert_the_same(&hub.data, scratch.path());
    let vault = Vault::open(&hub.data).unwrap();
    let mut sqlite = SqliteStore::open(scratch.path().join("hub.db"), &store::options()).unwrap();
    assert_eq!(replay(&mut sqlite, &hub.log, &vault, false).unwrap().turns, 0, "nothing is done twice");
    hub.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_log_go_with_the_backups_they_belong_to_and_never_before() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Logged::start(dir.path(), dir.path().join("log")).await;
    let mut made = Vec::new();
    for round in 0..4 {
        made.push(hub.back_up().await);
        hub.act(20 + round).await;
        hub.until_archived().await;
    }
    assert_eq!(made.iter().filter(|file| file.exists()).count(), 2, "as many backups as configured");
    assert!(files(&hub.log).len() <= 4, "{:?}", files(&hub.log));
    for file in &made[2..] {
        let (_, scratch) = replayed(file, &hub.log, &hub.data, false).unwrap();
        assert_the_same(&hub.data, scratch.path());
    }
    hub.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_is_an_end_and_damage_before_it_is_refused_unless_the_loss_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Logged::start(dir.path(), dir.path().join("log")).await;
    let file = hub.back_up().await;
    hub.act(31).await;
    hub.until_archived().await;
    let (data, log) = (hub.data.clone(), hub.log.clone());
    hub.end().await;
    let turns = replayed(&file, &log, &data, false).unwrap().0.turns;
    let path = files(&log).pop().unwrap();
    let whole = std::fs::read(&path).unwrap();

    std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let torn = replayed(&file, &log, &data, false).unwrap().0;
    assert!(torn.turns == turns - 1 && torn.torn_bytes > 0, "{torn:?}");
    // In the record before the last one.
    let last = whole.len() - 3 - torn.torn_bytes as usize;
    let mut altered = whole.clone();
    altered[last - 1] ^= 1;
    std::fs::write(&path, &altered).unwrap();
    let words = format!("{:#}", replayed(&file, &log, &data, false).unwrap_err());
    assert!(words.contains("damaged at byte") && words.contains("--accept-loss"), "{words}");
    let accepted = replayed(&file, &log, &data, true).unwrap().0;
    assert!(accepted.turns < turns && accepted.stopped.unwrap().contains("damaged"));
    std::fs::write(&path, &whole).unwrap();

    // Into an empty folder through the whole restore: nothing stays of a refused one.
    let fresh = dir.path().join("fresh");
    std::fs::create_dir(&fresh).unwrap();
    backup::place_master_key(&data.join("master.key"), &fresh).unwrap();
    let vault = Arc::new(Vault::open(&fresh).unwrap());
    let from = |accept_loss| LogFrom { dir: log.clone(), accept_loss };
    std::fs::write(&path, &altered).unwrap();
    let restore = |from: &LogFrom| tokio::task::block_in_place(|| backup::restore(&file, &fresh, &vault, Some(from)));
    assert!(restore(&from(false)).is_err());
    assert_eq!(std::fs::read_dir(&fresh).unwrap().count(), 1, "only the master key");
    std::fs::write(&path, &whole).unwrap();
    let restored = restore(&from(false)).unwrap();
    assert_eq!((restored.replayed.turns, restored.life.incarnation.generation), (turns, 2));

    goes_on(dir.path(), fresh, &log).await;

    // Once more from the same backup, and without the log: two lives begin in different seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let second = dir.path().join("second");
    std::fs::create_dir(&second).unwrap();
    backup::place_master_key(&data.join("master.key"), &second).unwrap();
    let without = tokio::task::block_in_place(|| backup::restore(&file, &second, &vault, None)).unwrap();
    assert!(without.replayed.turns == 0 && without.life > restored.life);
    goes_on(dir.path(), second, &log).await;
}

/// A restored hub writes its log into the folder that holds the one it came from: its own turns take the place of what
/// it had not got.
async fn goes_on(dir: &Path, data: PathBuf, log: &Path) {
    let identity = HubIdentity::load(&data).unwrap();
    let life = tokio::task::block_in_place(|| HubNode::life(&identity, &data)).unwrap();
    let identity = identity.in_life(life).unwrap();
    let (node, thread) = tokio::task::block_in_place(|| HubNode::start(&identity, &data)).unwrap();
    let desk = yika_hub::desk::Desk::new(node, String::new(), identity.authority.pin());
    let hub = Logged::with(Site::of(desk, thread), data, dir.join("backups"), log.to_owned());
    hub.until("its log begins with its first backup", |log| !log.based).await;
    let file = hub.back_up().await;
    hub.site.desk.note(&Actor::console(), "test", "in the new life".into(), String::new()).await.unwrap();
    hub.until_archived().await;
    let (done, scratch) = replayed(&file, &hub.log, &hub.data, false).unwrap();
    assert!(done.turns > 0);
    assert_the_same(&hub.data, scratch.path());
    hub.end().await;
}

/// A snapshot of the machine brings yesterday's database back, and nobody says so; the log lies on another disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_put_back_without_a_restore_takes_back_its_log_and_begins_a_new_life() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Logged::start(dir.path(), dir.path().join("log")).await;
    hub.back_up().await;
    hub.act(51).await;
    hub.until_archived().await;
    let (data, log) = (hub.data.clone(), hub.log.clone());
    let old = copy_of_database(&data);
    hub.act(52).await;
    hub.until_archived().await;
    let turn = turn_of(&data);
    hub.end().await;
    let whole = everything(&data.join("hub.db"));
    let mend = |data: &Path, log: &Path| {
        let identity = HubIdentity::load(data).unwrap();
        tokio::task::block_in_place(|| put_back::mend(data, log, &identity)).unwrap()
    };
    let put_back = |name: &str| a_hub_with(&dir.path().join(name), &data, &old);
    assert!(mend(&a_hub_with(&dir.path().join("same"), &data, &copy_of_database(&data)), &log).is_none());

    let first = put_back("first");
    let before = turn_of(&first);
    assert!(before < turn && mend(&first, &dir.path().join("absent")).is_none());
    let found = mend(&first, &log).unwrap();
    assert_eq!((found.turn, found.replayed.turns), (before, turn - before));
    assert_eq!((&found.replayed.stopped, found.life.incarnation.generation), (&None, 2));
    let now = everything(&first.join("hub.db"));
    assert_eq!(now["transfers"], whole["transfers"], "the books are those of the last turn in the log");
    assert!(format!("{:?}", now["notes"]).contains("put_back"));
    assert!(mend(&first, &log).is_none(), "once");

    // No database at all is no older one: nothing is made up in its place.
    let gone = put_back("gone");
    std::fs::remove_file(gone.join("hub.db")).unwrap();
    let identity = HubIdentity::load(&gone).unwrap();
    let refused = tokio::task::block_in_place(|| put_back::mend(&gone, &log, &identity)).unwrap_err().to_string();
    assert!(refused.contains("holds nothing") && refused.contains("backup restore"), "{refused}");

    // A stop between the replay and the new life.
    let stopped = put_back("stopped");
    std::fs::write(stopped.join("put-back"), b"").unwrap();
    tokio::task::block_in_place(|| {
        let mut store = SqliteStore::open(stopped.join("hub.db"), &store::options()).unwrap();
        replay(&mut store, &log, &Vault::open(&stopped).unwrap(), false).unwrap();
    });
    let again = mend(&stopped, &log).unwrap();
    assert_eq!((again.replayed.turns, again.life.incarnation.generation), (0, 2));

    // What does not continue the database is not taken, and the life is new all the same.
    let newest = files(&log).pop().unwrap();
    let mut damaged = std::fs::read(&newest).unwrap();
    // Within the record before the last one: each has its length and two seals around it.
    let last = records(&newest, &Vault::open(&data).unwrap()).pop().unwrap();
    let before_last = damaged.len() - (last + 4 + 16 + 16) - 1;
    damaged[before_last] ^= 1;
    std::fs::write(&newest, &damaged).unwrap();
    let found = mend(&put_back("damaged"), &log).unwrap();
    assert!(found.replayed.stopped.unwrap().contains("damaged") && found.life.incarnation.generation == 2);
}

/// How long the records of a file are.
fn records(path: &Path, vault: &Vault) -> Vec<usize> {
    let mut reader = segment::SegmentReader::open(path, vault).unwrap().1;
    let mut lengths = Vec::new();
    while let segment::Next::Record(record) = reader.read().unwrap() {
        lengths.push(record.len());
    }
    lengths
}

fn copy_of_database(data: &Path) -> Vec<u8> {
    let conn = Connection::open(data.join("hub.db")).unwrap();
    conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    std::fs::read(data.join("hub.db")).unwrap()
}

/// A folder with another database of the same hub.
fn a_hub_with(folder: &Path, of: &Path, database: &[u8]) -> PathBuf {
    std::fs::create_dir(folder).unwrap();
    for entry in std::fs::read_dir(of).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        if entry.file_type().unwrap().is_file() && !name.to_string_lossy().starts_with("hub.db") {
            std::fs::copy(entry.path(), folder.join(name)).unwrap();
        }
    }
    std::fs::write(folder.join("hub.db"), database).unwrap();
    folder.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_that_are_missing_before_a_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Logged::start(dir.path(), dir.path().join("log")).await;
    let first = hub.back_up().await;
    hub.act(41).await;
    hub.until_archived().await;
    let second = hub.back_up().await;
    hub.act(42).await;
    hub.until_archived().await;
    let (data, log) = (hub.data.clone(), hub.log.clone());
    hub.end().await;
    assert_eq!(files(&log).len(), 2);
    std::fs::remove_file(&files(&log)[0]).unwrap();
    let words = format!("{:#}", replayed(&first, &log, &data, false).unwrap_err());
    assert!(words.contains("are missing"), "{words}");
    assert_eq!(replayed(&first, &log, &data, true).unwrap().0.turns, 0);
    let (_, scratch) = replayed(&second, &log, &data, false).unwrap();
    assert_the_same(&data, scratch.path());
    std::fs::write(log.join("x.log"), b"not one").unwrap();
    let words = format!("{:#}", replayed(&second, &log, &data, false).unwrap_err());
    assert!(words.contains("is not a log"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_alarms_and_stops_nothing_and_the_log_is_whole_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let Some(_disk) = small_disk(&log, 1024) else { return };
    let hub = Logged::start(dir.path(), log).await;
    let file = hub.back_up().await;
    assert!(std::fs::write(hub.log.join("filler"), vec![1u8; 2 << 20]).is_err(), "full");
    hub.act(51).await;
    hub.until("the trouble is told", |log| log.trouble.as_ref().is_some_and(|t| t.contains("No space left"))).await;
    hub.act(52).await;
    let alarms = |conn: &Connection| {
        conn.query_row("SELECT count(*) FROM notes WHERE word = 'log'", [], |row| row.get::<_, i64>(0))
    };
    let conn = Connection::open(hub.data.join("hub.db")).unwrap();
    let begun = Instant::now();
    while alarms(&conn).unwrap() == 0 {
        assert!(begun.elapsed() < BOUND, "somebody is called");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!hub.state().unwrap().is_sound(yika_hub::clock::wall_ms()));
    std::fs::remove_file(hub.log.join("filler")).unwrap();
    hub.until("it goes on", |log| log.trouble.is_none() && log.waiting_since_ms.is_none()).await;
    hub.until_archived().await;
    let (_, scratch) = replayed(&file, &hub.log, &hub.data, false).unwrap();
    assert_the_same(&hub.data, scratch.path());
    hub.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_went_away_is_told_and_the_log_begins_again_with_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Logged::start(dir.path(), dir.path().join("log")).await;
    hub.back_up().await;
    hub.act(61).await;
    hub.until_archived().await;
    std::fs::remove_dir_all(&hub.log).unwrap();
    hub.act(62).await;
    hub.until("it is told", |log| !log.based).await;
    let file = hub.back_up().await;
    hub.act(63).await;
    hub.until("it goes on", |log| log.based && log.trouble.is_none()).await;
    hub.until_archived().await;
    let (_, scratch) = replayed(&file, &hub.log, &hub.data, false).unwrap();
    assert_the_same(&hub.data, scratch.path());
    hub.end().await;
}

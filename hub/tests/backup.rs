//! Backups of a hub: made while it writes, proved, refused when damaged, restored with the key and not without.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod small_disk;

use small_disk::small_disk;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use yika_crdt::entry::{Body, CampusRecord};
use yika_crdt::ids::{CampusId, OperatorId};
use yika_hub::backup::{self, Backups};
use yika_hub::core::Command;
use yika_hub::desk::{Actor, Desk};
use yika_hub::identity::HubIdentity;
use yika_hub::node::HubNode;
use yika_hub::vault::Vault;

fn campus(number: u16) -> Command {
    let name = format!("园区{number}");
    let record =
        CampusRecord { campus: CampusId(number), name, utc_offset_minutes: 480, cut_minute: 180, people_shards: 1 };
    Command::Registry(Box::new(Body::Campus(record)))
}

fn hub(data: &Path, dir: &Path) -> Desk {
    HubIdentity::init(data, "总部").unwrap();
    let identity = HubIdentity::load(data).unwrap();
    let (node, _thread) = HubNode::start(&identity, data).unwrap();
    let backups = Backups::new(data.to_owned(), dir.to_owned(), 2, "data = \"x\"\n".to_owned());
    Desk::new(node, String::new(), identity.authority.pin()).with_backups(Arc::new(backups))
}

fn entries_of(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_while_the_hub_writes_is_whole_and_only_the_newest_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (data, to) = (dir.path().join("hub"), dir.path().join("backups"));
    let desk = tokio::task::block_in_place(|| hub(&data, &to));
    let stop = Arc::new(AtomicBool::new(false));
    let (node, until) = (Arc::clone(&desk.node), Arc::clone(&stop));
    let writing = tokio::spawn(async move {
        let mut written = 0u32;
        while !until.load(Ordering::Relaxed) {
            node.call(campus((written % 50) as u16 + 1)).await.unwrap();
            written += 1;
        }
        written
    });
    let mut entries = 0;
    for _ in 0..3 {
        let row = desk.create_backup(&Actor::console(), None).await.unwrap();
        assert!(row.entries > entries, "the hub went on between two backups");
        entries = row.entries;
        assert_eq!(desk.last_backup().await.unwrap(), Some(row));
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writing.await.unwrap() > 0);
    assert_eq!(entries_of(&to).len(), 2, "as many as configured");
    let listed = backup::list(&to).unwrap();
    let about = listed.iter().map(|l| l.about.clone().unwrap()).collect::<Vec<_>>();
    assert!(about[0].2 > about[1].2 && about[0].0 == "总部");
    let proved = desk.verify_backup(&Actor::console(), listed[0].file.clone()).await.unwrap();
    assert_eq!((proved.entries, proved.books.sum_fen), (entries, 0));
    assert!(!data.join("backup.scratch").exists(), "no plain copy stays");
    let campus_clerk = Actor { campus: Some(CampusId(1)), operator: OperatorId(5), ..Actor::console() };
    assert!(desk.create_backup(&campus_clerk, None).await.is_err());
    // Neither the master key nor a name of the database can be read in it.
    let key = std::fs::read(data.join("master.key")).unwrap();
    let bytes = std::fs::read(&listed[0].file).unwrap();
    assert!(!bytes.windows(key.len()).any(|window| window == key));
    assert!(!bytes.windows(13).any(|window| window == b"SQLite format"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_restored_into_an_empty_folder_with_its_key_and_in_a_new_life() {
    let dir = tempfile::tempdir().unwrap();
    let (data, to) = (dir.path().join("hub"), dir.path().join("backups"));
    let desk = tokio::task::block_in_place(|| hub(&data, &to));
    desk.node.call(campus(7)).await.unwrap();
    let file = PathBuf::from(desk.create_backup(&Actor::console(), None).await.unwrap().file);
    let fresh = dir.path().join("fresh");
    std::fs::create_dir(&fresh).unwrap();
    assert!(Vault::open(&fresh).is_err(), "nothing opens without the master key");
    let other = Arc::new(Vault::create(&fresh).unwrap());
    let refuse = |vault: &Arc<Vault>, path: &Path, into: &Path| {
        let refused = tokio::task::block_in_place(|| backup::restore(path, into, vault, None));
        format!("{:#}", refused.unwrap_err())
    };
    assert!(refuse(&other, &file, &fresh).contains("master key"));
    assert!(backup::place_master_key(&data.join("master.key"), &fresh).is_err(), "another key lies there");
    std::fs::remove_file(fresh.join("master.key")).unwrap();
    backup::place_master_key(&data.join("master.key"), &fresh).unwrap();
    let vault = Arc::new(Vault::open(&fresh).unwrap());

    let whole = std::fs::read(&file).unwrap();
    let damaged = dir.path().join("damaged.backup");
    std::fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();
    assert!(refuse(&vault, &damaged, &fresh).contains("cut off"));
    let mut altered = whole.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    std::fs::write(&damaged, &altered).unwrap();
    assert!(refuse(&vault, &damaged, &fresh).contains("altered"));
    assert!(refuse(&vault, &file, &data).contains("holds a hub already"));
    assert_eq!(entries_of(&fresh), [fresh.join("master.key")], "nothing half-restored");

    // What a restore that was killed has left does not stop the next one.
    std::fs::create_dir(fresh.join("restoring")).unwrap();
    std::fs::write(fresh.join("hub.db"), b"half").unwrap();
    let life = tokio::task::block_in_place(|| backup::restore(&file, &fresh, &vault, None)).unwrap().life;
    assert_eq!(life.incarnation.generation, 2);
    let identity = HubIdentity::load(&fresh).unwrap();
    let node = tokio::task::block_in_place(|| {
        let now = HubNode::life(&identity, &fresh).unwrap();
        assert_eq!(now, life);
        HubNode::start(&identity.in_life(now).unwrap(), &fresh).unwrap().0
    });
    assert!(node.registry().campuses.contains_key(&CampusId(7)));
    assert_eq!(std::fs::read_to_string(fresh.join("hub.toml")).unwrap(), "data = \"x\"\n");
}

/// Of a hub that was killed its write-ahead log lies in the folder; the database was taken away by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_ahead_log_left_in_the_folder_does_not_bring_the_old_life_back() {
    let dir = tempfile::tempdir().unwrap();
    let (data, to) = (dir.path().join("hub"), dir.path().join("backups"));
    let desk = tokio::task::block_in_place(|| hub(&data, &to));
    desk.node.call(campus(7)).await.unwrap();
    let file = PathBuf::from(desk.create_backup(&Actor::console(), None).await.unwrap().file);
    for number in 8..20 {
        desk.node.call(campus(number)).await.unwrap();
    }
    let fresh = dir.path().join("fresh");
    std::fs::create_dir(&fresh).unwrap();
    backup::place_master_key(&data.join("master.key"), &fresh).unwrap();
    let log = std::fs::read(data.join("hub.db-wal")).unwrap();
    assert!(!log.is_empty());
    std::fs::write(fresh.join("hub.db-wal"), &log).unwrap();
    let vault = Arc::new(Vault::open(&fresh).unwrap());
    let life = tokio::task::block_in_place(|| backup::restore(&file, &fresh, &vault, None)).unwrap().life;
    assert_eq!(life.incarnation.generation, 2);
    let identity = HubIdentity::load(&fresh).unwrap();
    assert_eq!(tokio::task::block_in_place(|| HubNode::life(&identity, &fresh)).unwrap(), life);
    let node = tokio::task::block_in_place(|| HubNode::start(&identity.in_life(life).unwrap(), &fresh).unwrap().0);
    assert!(node.registry().campuses.keys().eq([&CampusId(7)]), "as of the backup");
    assert_eq!(std::fs::read(fresh.join("hub.db-wal.before-restore")).unwrap(), log, "it may be all that is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_no_backup_is_made_and_nothing_is_left_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (data, small) = (dir.path().join("hub"), dir.path().join("small"));
    let Some(_disk) = small_disk(&small, 512) else { return };
    let desk = tokio::task::block_in_place(|| hub(&data, &small));
    let refused = desk.create_backup(&Actor::console(), None).await.unwrap_err().to_string();
    assert!(refused.contains("make room") && refused.contains("small"), "{refused}");
    assert!(entries_of(&small).is_empty());
    assert_eq!((desk.last_backup().await.unwrap(), desk.failed_backups()), (None, 1));

    // The disk fills up while it is being written.
    let vault = Vault::open(&data).unwrap();
    let big = vec![1u8; 2 << 20];
    let part = backup::file::Part { name: "hub.db", bytes: big.len() as u64, content: Box::new(&big[..]) };
    let path = small.join("x.backup.part");
    let full = backup::file::write(&path, &vault, "总部", desk.node.writer(), 1, vec![part]).unwrap_err();
    assert!(format!("{full:#}").contains("No space left"), "{full:#}");
    assert!(backup::list(&small).unwrap().is_empty(), "what is not whole is no backup");
}

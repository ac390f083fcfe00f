//! The disk is full: doors go on for the people they know, events are written late, and that is told.

use crate::rig::*;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command as Program;
use std::time::Duration;
use tokio::time::Instant;
use yika_crdt::entry::*;
use yika_crdt::ids::DoorId;
use yika_crdt::reason::Reason;
use yika_edge::doors::LineState;

/// A file system of its own with little room; unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, said loudly, where mounting is not allowed.
    fn mount() -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Program::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(dir.path()).output();
        if mounted.is_ok_and(|done| done.status.success()) {
            return Some(SmallDisk(dir));
        }
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
        let must_run = is_root && std::env::var_os("YIKA_TEST_PEERS").is_some_and(|value| value == "1");
        assert!(!must_run, "YIKA_TEST_PEERS=1, and yet no tmpfs can be mounted");
        // `eprintln!` would be hidden by the test harness, which shows only the output of failed tests.
        let mut console = std::io::stderr();
        writeln!(console, "SKIPPED: the full-disk test needs the right to mount a tmpfs").unwrap();
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.path().join("ballast")).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Program::new("umount").arg("-l").arg(self.path()).output();
    }
}

/// Lets Alice in. A turn that is rolled back reads the index from its rows again, and this rig's people and policy have none: they
/// are put in before each try, as one more turn may have failed in between.
async fn swipe_known(rig: &Rig, door: DoorId) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        rig.learn();
        match rig.doors.swipe(&reader(door), ALICE).await {
            Ok(shown) => return assert_eq!(shown, holder(ALICE)),
            Err(reason) => assert!(Instant::now() < deadline, "she stays outside: {reason:?}"),
        }
    }
}

/// Rows ACS-11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doors_go_on_while_the_disk_is_full_and_tell_what_was_late() {
    let Some(disk) = SmallDisk::mount() else { return };
    let board = Board::start().await;
    let rig = Rig::at(disk.path(), &board.config(), HubVoice::default(), true).await;
    rig.until("line up", |view| view.line == LineState::Up).await;
    disk.fill();
    let deadline = Instant::now() + PATIENCE;
    let mut refused = 0;
    while rig.doors.journal().failing.is_none() {
        assert!(Instant::now() < deadline, "the disk takes everything");
        assert_eq!(rig.doors.swipe(&reader(FRONT), BOB).await, Err(Reason::NoDoorRight));
        refused += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    swipe_known(&rig, FRONT).await;
    swipe_known(&rig, BACK).await;
    assert_eq!(rig.doors.swipe(&reader(FRONT), BOB).await, Err(Reason::NoDoorRight));
    let state = rig.doors.journal();
    assert!(state.waiting >= 3 && state.failing.is_some_and(|cause| cause.contains("storage failed")));
    assert!(!rig.events(FRONT).contains(&DoorEvent::Granted), "nothing is durable yet");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    disk.free();
    let alarm = rig.alarm("door_journal").await;
    assert!(alarm.contains("0 lost"), "{alarm}");
    let records = rig.records();
    let passed = records.iter().filter(|r| r.card == Some(ALICE) && r.event == DoorEvent::Granted).count();
    let denied = records.iter().filter(|r| r.card == Some(BOB)).count();
    assert_eq!((passed, denied), (2, refused + 1), "each once: {records:#?}");
    let granted = rig.door_event(DoorEvent::Granted).await;
    let written = records.iter().position(|r| *r == granted).unwrap();
    assert!(written > 0 && granted.at_ms + 1_000 < rig.node.time().0, "with the time at which it happened");
    assert_eq!(rig.doors.journal(), Default::default());
    rig.down().await;
}

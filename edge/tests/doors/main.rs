//! Doors from swipe to journal on a real edge with a simulated board: rights, refusals, faults, restarts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod disk;
mod faults;
mod peers;
mod rig;

use rig::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use yika_crdt::channel::{BlockScope, Channel};
use yika_crdt::edge::{Command, Reply};
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::person::PersonStatus;
use yika_crdt::reason::Reason;
use yika_drivers::door::{ContactState, RelayState};
use yika_edge::doors::{Confirmation, LineState, OpenRefused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_swipe_pulses_the_relay_once_and_is_journaled_in_order() {
    let board = Board::start().await;
    let rig = Rig::up(&board.config()).await;
    rig.until("closed", |view| view.contact == ContactState::Closed).await;
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Ok(holder(ALICE)));
    assert!(board.sim.relay(1) && !board.sim.relay(2));
    // The reader reads the card again while it is still held before it.
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Ok(holder(ALICE)));
    rig.door_event(DoorEvent::Opened(OpenedBy::Card)).await;
    rig.door_event(DoorEvent::Closed).await;
    rig.until("locked", |view| view.lock == RelayState::Locked).await;
    assert_eq!((board.sim.times_switched_on(1), board.sim.times_pulsed(1)), (1, 1));
    let wanted = [DoorEvent::LineBack, DoorEvent::Granted, DoorEvent::Opened(OpenedBy::Card), DoorEvent::Closed];
    assert_eq!(rig.events(FRONT), wanted);
    for record in rig.records().iter().filter(|r| matches!(r.event, DoorEvent::Granted | DoorEvent::Opened(_))) {
        let who = (record.terminal, record.card, record.person);
        assert_eq!(who, (Some(reader(FRONT).terminal), Some(ALICE), Some(holder(ALICE))), "{record:?}");
        assert!(record.time_trusted && (NOON_MS..NOON_MS + 60_000).contains(&record.at_ms), "{record:?}");
    }
    assert_eq!(rig.view(FRONT).last_event.map(|last| last.event), Some(DoorEvent::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_has_its_reason_moves_nothing_and_is_journaled() {
    let board = Board::start().await;
    let rig = Rig::up(&board.config()).await;
    let (gone, late) = (CardNumber(2_001), CardNumber(2_002));
    let (mut left, mut expired) = (person(gone), person(late));
    left.status = PersonStatus::Left;
    expired.cards[0].valid_until = Some(Day(1));
    rig.node.people.write().put(&left, None);
    rig.node.people.write().put(&expired, None);
    rig.node.access.write().index.set_door(DoorId(9), true);
    let refused = [
        (CardNumber(9), FRONT, Reason::UnknownCard, None),
        (gone, FRONT, Reason::NotActive, Some(holder(gone))),
        (late, FRONT, Reason::NotActive, Some(holder(late))),
        (BOB, FRONT, Reason::NoDoorRight, Some(holder(BOB))),
        (ALICE, DoorId(8), Reason::NoDoorRight, Some(holder(ALICE))),
    ];
    for (card, door, reason, who) in refused {
        assert_eq!(rig.doors.swipe(&reader(door), card).await, Err(reason), "{card} {door}");
        let fits = |body: &Body| {
            matches!(body, Body::Door(r) if r.event == DoorEvent::Denied(reason) && r.card == Some(card)
                && r.door == door && r.person == who && r.terminal == Some(reader(door).terminal))
        };
        rig.journaled(&format!("{card} {reason:?}"), fits).await;
    }
    let suspended = TerminalRecord { state: TerminalState::Suspended, ..reader(FRONT) };
    let foreign = TerminalRecord { campus: CampusId(2), ..reader(FRONT) };
    let doorless = TerminalRecord { door: None, ..reader(FRONT) };
    for reader in [suspended, foreign, doorless] {
        assert_eq!(rig.doors.swipe(&reader, ALICE).await, Err(Reason::TerminalNotAllowed));
    }
    rig.change_door(FRONT, |door| door.device = "modbus:board9/1".into());
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Err(Reason::BoxNotReady));
    assert!(rig.alarm("door_hardware").await.contains("d5"));
    assert_eq!((board.sim.times_switched_on(1), board.sim.times_switched_on(2)), (0, 0));
}

/// Invariant 9: from the moment the block is stored, whatever else goes on.
/// Rows ACS-9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_card_is_refused_from_the_moment_the_block_is_stored() {
    let board = Board::start().await;
    let mut rig = Rig::up(&board.config()).await;
    // Phases in turn: 0 free, 1 being blocked, 2 block stored, 3 being lifted. In 1 and 3 either answer is right.
    let state = Arc::new(AtomicU64::new(0));
    let end = Arc::new(AtomicBool::new(false));
    let swipers: Vec<_> = (0..4)
        .map(|n| {
            let (doors, state, end) = (rig.doors.clone(), Arc::clone(&state), Arc::clone(&end));
            let reader = TerminalRecord { terminal: TerminalId(500 + n), ..reader(FRONT) };
            tokio::spawn(async move {
                let (mut let_in, mut refused) = (0u32, 0u32);
                while !end.load(Ordering::SeqCst) {
                    let before = state.load(Ordering::SeqCst);
                    let answer = doors.decide(&reader, ALICE);
                    let after = state.load(Ordering::SeqCst);
                    match (before % 4, before == after) {
                        (0, true) => assert_eq!(answer, Ok(holder(ALICE))),
                        (2, true) => assert_eq!(answer, Err(Reason::Blocked)),
                        _ => {}
                    }
                    let_in += u32::from(answer.is_ok());
                    refused += u32::from(answer.is_err());
                    tokio::task::yield_now().await;
                }
                (let_in, refused)
            })
        })
        .collect();
    let target = BlockTarget::Card(ALICE);
    let turn = || _ = state.fetch_add(1, Ordering::SeqCst);
    let rest = || tokio::time::sleep(Duration::from_millis(1));
    for _ in 0..100 {
        rest().await;
        turn();
        let block = BlockRecord { target, reason: BlockReason::Lost, operator: OPERATOR };
        rig.node.call(Command::Block(block)).await.unwrap();
        turn();
        assert_eq!(rig.doors.swipe(&reader(BACK), ALICE).await, Err(Reason::Blocked));
        rest().await;
        turn();
        let lifted = rig.node.call(Command::Lift { target, operator: OPERATOR }).await;
        assert_eq!(lifted, Ok(Reply::Lifted { lifted: 1, left: 0 }));
        turn();
        assert_eq!(rig.doors.decide(&reader(BACK), ALICE), Ok(holder(ALICE)));
    }
    end.store(true, Ordering::SeqCst);
    let (mut let_in, mut refused) = (0, 0);
    for swiper in swipers {
        let counts = swiper.await.unwrap();
        (let_in, refused) = (let_in + counts.0, refused + counts.1);
    }
    assert!(let_in > 100 && refused > 100, "both answers were seen: {let_in} {refused}");
    assert_eq!(board.sim.times_switched_on(2), 0);
    // Headquarters blocks the person: refused once the run is stored, and no local lift helps.
    let block =
        BlockRecord { target: BlockTarget::Person(holder(ALICE)), reason: BlockReason::Left, operator: OPERATOR };
    let run = rig.hub.say(Channel::Blocks(BlockScope::Hub), vec![Body::Block(block)]);
    assert!(matches!(rig.node.call(run).await, Ok(Reply::Stored(..))));
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Err(Reason::Blocked));
    let why = rig.doors.explain(FRONT, ALICE).unwrap();
    assert_eq!(why.refused, Some(Reason::Blocked));
    assert!(why.words.iter().any(|(zh, en)| zh.contains("全部卡已冻结") && en.contains("blocked")), "{why:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_holds_from_its_first_minute_to_before_its_last() {
    let board = Board::start().await;
    let mut rig = Rig::up(&board.config()).await;
    rig.set_policy(policy(schedule(12 * 60, 12 * 60 + 30)));
    let half_past = NOON_MS;
    for (at_ms, opens) in [
        (half_past - 1_800_000 - 5_000, false),
        (half_past - 1_800_000, true),
        (half_past - 5_000, true),
        (half_past, false),
    ] {
        rig.tell_time(at_ms).await;
        let wanted = if opens { Ok(holder(ALICE)) } else { Err(Reason::OutsideDoorTime) };
        assert_eq!(rig.doors.decide(&reader(FRONT), ALICE), wanted, "{at_ms}");
    }
    // The minute turns while the box runs, without any word from headquarters.
    rig.tell_time(half_past - 300).await;
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Ok(holder(ALICE)));
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Err(Reason::OutsideDoorTime));
    let why = rig.doors.explain(FRONT, ALICE).unwrap();
    assert_eq!(why.refused, Some(Reason::OutsideDoorTime));
    assert!(why.words.iter().any(|(zh, _)| zh.contains("不在时段 1 内")), "{why:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_nobody_confirmed_decides_by_the_best_time_and_says_so() {
    let board = Board::start().await;
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::at(dir.path(), &board.config(), HubVoice::default(), false).await;
    rig.until("line up", |view| view.line == LineState::Up).await;
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Ok(holder(ALICE)));
    let record = rig.door_event(DoorEvent::Granted).await;
    assert!(!record.time_trusted && record.at_ms > 0, "{record:?}");
    let why = rig.doors.explain(FRONT, ALICE).unwrap();
    assert!(why.words[0].1.contains("not confirmed"), "{why:?}");
}

/// Rows ACS-3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_button_to_leave_opens_and_the_opening_is_the_buttons() {
    let board = Board::start().await;
    let rig = Rig::up(&board.config()).await;
    rig.until("closed", |view| view.contact == ContactState::Closed).await;
    board.sim.set_input(3, true);
    rig.door_event(DoorEvent::Button).await;
    assert!(board.sim.relay(1));
    let opened = rig.door_event(DoorEvent::Opened(OpenedBy::Button)).await;
    assert_eq!((opened.door, opened.card, opened.person), (FRONT, None, None));
    // A lock that no door of the policy names still lets people out.
    rig.change_door(BACK, |door| door.device = String::new());
    board.sim.set_input(4, true);
    assert!(rig.alarm("door_unassigned").await.contains("modbus:board1/2"));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while board.sim.times_pulsed(2) == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nobody gets out");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_opens_with_a_reason_and_gets_the_devices_word() {
    let board = Board::start().await;
    let rig = Rig::up(&board.config()).await;
    rig.until("closed", |view| view.contact == ContactState::Closed).await;
    assert_eq!(rig.doors.open(FRONT, OPERATOR, " ").await, Err(OpenRefused::ReasonMissing));
    assert_eq!(rig.doors.open(FRONT, OPERATOR, &"因".repeat(201)).await, Err(OpenRefused::ReasonMissing));
    assert_eq!(rig.doors.open(DoorId(77), OPERATOR, "送货").await, Err(OpenRefused::UnknownDoor(DoorId(77))));
    assert_eq!(rig.doors.open(FRONT, OPERATOR, "送货").await, Ok(Confirmation::ReadBack));
    let opened = rig.door_event(DoorEvent::Opened(OpenedBy::Remote(OPERATOR))).await;
    assert_eq!((opened.door, opened.card), (FRONT, None));
    let remote = DoorEvent::Remote(OPERATOR);
    assert!(rig.events(FRONT).starts_with(&[DoorEvent::LineBack, remote]), "{:?}", rig.events(FRONT));
    let act = rig.journaled("act", |body| matches!(body, Body::Act(act) if act.act == "door.open")).await;
    let Body::Act(act) = act else { unreachable!() };
    assert!(act.operator == OPERATOR && act.detail.contains("送货") && act.detail.contains("unlocked"), "{act:?}");
    rig.change_door(FRONT, |door| door.device = "uhppote:1/1".into());
    let refused = rig.doors.open(FRONT, OPERATOR, "送货").await.unwrap_err();
    assert!(refused.to_string().contains("uhppote:1/1"), "{refused}");
}

/// Rows ACS-8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_takes_effect_without_a_restart() {
    let board = Board::start().await;
    let rig = Rig::up(&board.config()).await;
    rig.until("closed", |view| view.contact == ContactState::Closed).await;
    rig.change_door(FRONT, |door| {
        door.name = "东门".into();
        door.pulse_ms = 200;
        door.held_open_ms = 700;
    });
    assert_eq!(rig.view(FRONT).name, "东门");
    board.sim.set_nobody_there(true);
    let mut changes = board.sim.subscribe();
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Ok(holder(ALICE)));
    let on = tokio::time::Instant::now();
    while !matches!(
        changes.recv().await,
        Ok(yika_drivers::modbus::simulator::BoardChange::Relay { relay: 1, on: false })
    ) {}
    assert!(on.elapsed() < Duration::from_millis(500), "the pulse is the new one: {:?}", on.elapsed());
    // Longer than the driver takes to look at the policy.
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    board.sim.set_input(1, false);
    rig.door_event(DoorEvent::Forced).await;
    rig.door_event(DoorEvent::HeldOpen).await;
    assert!(rig.alarm("forced_open").await.contains("东门"));
    assert!(rig.alarm("held_open").await.contains("东门"));
    assert_eq!(rig.view(FRONT).contact, ContactState::Open);
    board.sim.set_input(1, true);
    rig.door_event(DoorEvent::Closed).await;
    // A new door on the same lock, and one without hardware.
    rig.change_door(BACK, |door| door.device = "modbus:board1/1".into());
    assert!(rig.view(BACK).problems.iter().any(|(_, en)| en.contains("shares its hardware with door d5")));
    rig.change_door(BACK, |door| door.device = "modbus:board7/1".into());
    let view = rig.view(BACK);
    assert_eq!(
        (view.line, view.contact, view.lock),
        (LineState::NoHardware, ContactState::Unknown, RelayState::Unknown)
    );
    assert!(view.problems[0].0.contains("modbus:board7/1"), "{view:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_reader_cannot_flood_the_journal_and_is_counted() {
    let board = Board::start().await;
    let rig = Rig::up(&board.config()).await;
    for _ in 0..1_000 {
        assert_eq!(rig.doors.swipe(&reader(FRONT), BOB).await, Err(Reason::NoDoorRight));
    }
    // Another reader is not silenced by it.
    assert_eq!(rig.doors.swipe(&reader(BACK), BOB).await, Err(Reason::NoDoorRight));
    let fits = |body: &Body| matches!(body, Body::Door(r) if r.door == BACK && r.card == Some(BOB));
    rig.journaled("the other reader's refusal", fits).await;
    rig.doors.stop().await;
    let refused = rig.events(FRONT).iter().filter(|e| matches!(e, DoorEvent::Denied(_))).count();
    let told = rig.alarms("door_kept_back");
    assert_eq!(told.len(), 1, "{told:?}");
    let kept_back: usize = told[0].split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!((60..=62).contains(&refused), "{refused}");
    assert_eq!(refused + kept_back, 1_000, "{told:?}");
    assert_eq!(rig.doors.swipe(&reader(FRONT), ALICE).await, Err(Reason::BoxNotReady), "stopped");
}

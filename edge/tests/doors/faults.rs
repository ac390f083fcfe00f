//! Boards that are silent, lie, lose power or report fire, and boxes that restart in the middle.

use crate::rig::*;
use serde_json::json;
use std::time::{Duration, Instant};
use yika_crdt::entry::*;
use yika_crdt::ids::*;
use yika_crdt::reason::Reason;
use yika_drivers::door::{CommandFailure, ContactState, RelayState};
use yika_drivers::modbus::simulator::{Fault, Misbehaviour, Requests};
use yika_edge::doors::{LineState, OpenRefused};
use yika_edge::periphery::{DOORS_QUIET_MS, Periphery};
use yika_edge::terminals::Board as Heard;
use yika_ui::Lang;

/// Longest answer of a swipe at a board with a time-out of 200 ms, whatever the board does.
const ANSWER_MS: u128 = 3_000;

/// Swipes and checks that the answer comes in time.
async fn swipe(rig: &Rig) -> Result<PersonId, Reason> {
    let asked = Instant::now();
    let answer = rig.doors.swipe(&reader(FRONT), ALICE).await;
    assert!(asked.elapsed().as_millis() <= ANSWER_MS, "answered after {:?}", asked.elapsed());
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_board_is_a_clear_refusal_an_alarm_and_unknown_state() {
    let board = Board::start().await;
    let rig = Rig::up(&board.config()).await;
    rig.until("closed", |view| view.contact == ContactState::Closed).await;
    // The line falls silent under the swipe itself.
    board.sim.set_fault(Fault::always(Misbehaviour::Silent));
    assert_eq!(swipe(&rig).await, Err(Reason::BoxNotReady));
    rig.door_event(DoorEvent::LineLost).await;
    assert!(rig.alarm("door_line").await.contains("d5 前门"));
    let view = rig.view(FRONT);
    assert_eq!((view.line, view.contact, view.lock), (LineState::Lost, ContactState::Unknown, RelayState::Unknown));
    assert!(view.problems[0].1.contains("does not answer"), "{view:?}");
    // The status needs hands and says how to mend it; while the box has hardly begun, it waits.
    let seen = |uptime_ms| Periphery::of(&rig.node, &Heard::default(), &rig.doors, uptime_ms);
    let silent = seen(DOORS_QUIET_MS + 1);
    let front = silent.doors.iter().find(|d| d.view.door == FRONT).unwrap();
    assert!(front.judged[0].wrong && front.judged[0].seen[0].contains("d5 前门"), "{front:?}");
    assert!(front.judged[0].mend[1].contains("power, cable and address"), "{front:?}");
    assert!(silent.problems().any(|(code, problem)| code == "door" && problem.wrong));
    assert!(silent.in_words(Lang::Zh).iter().any(|line| line.contains("d5 前门: 没有应答, 门状态未知, 锁状态未知")));
    assert!(!seen(0).doors.iter().any(|door| door.judged.iter().any(|problem| problem.wrong)));
    let again = Instant::now();
    assert_eq!(swipe(&rig).await, Err(Reason::BoxNotReady));
    assert!(again.elapsed() < Duration::from_millis(100), "a lost line is refused at once: {:?}", again.elapsed());
    let refused = rig.doors.open(FRONT, OPERATOR, "试开").await;
    assert!(matches!(refused, Err(OpenRefused::Failed(CommandFailure::LineDown { .. }))), "{refused:?}");
    let act = rig.journaled("act", |body| matches!(body, Body::Act(act) if act.act == "door.open")).await;
    assert!(matches!(&act, Body::Act(act) if act.detail.contains("does not answer")), "{act:?}");
    let swipes = |r: &&DoorRecord| r.card == Some(ALICE);
    let records = rig.records();
    // The first order was sent into silence, so it is uncertain or refused; none is told as a passage.
    for record in records.iter().filter(swipes) {
        let fits = [DoorEvent::Unconfirmed, DoorEvent::Denied(Reason::BoxNotReady)].contains(&record.event);
        assert!(fits, "{record:?}");
    }
    assert_eq!(records.iter().filter(swipes).count(), 2);
    board.sim.heal();
    rig.until("line up", |view| view.line == LineState::Up && view.contact == ContactState::Closed).await;
    rig.until("well", |_| {
        let seen = seen(DOORS_QUIET_MS + 1);
        let said = seen.in_words(Lang::En).iter().any(|line| line.contains("line up, closed, locked"));
        said && !seen.problems().any(|(_, problem)| problem.wrong)
    })
    .await;
    assert_eq!(swipe(&rig).await, Ok(holder(ALICE)));
    let back = || rig.events(FRONT).iter().filter(|e| **e == DoorEvent::LineBack).count();
    // The journal follows the line.
    rig.until("the line's return is told", |_| back() >= 2).await;
    assert_eq!(back(), 2, "at the start and after the silence");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lying_board_is_never_told_as_a_passage() {
    let lies = [
        (Misbehaviour::Deaf, DoorEvent::Denied(Reason::BoxNotReady)),
        (Misbehaviour::Exception(4), DoorEvent::Denied(Reason::BoxNotReady)),
        (Misbehaviour::OppositeEcho, DoorEvent::Unconfirmed),
        (Misbehaviour::Garbage, DoorEvent::Unconfirmed),
        (Misbehaviour::HalfAnswer, DoorEvent::Unconfirmed),
        (Misbehaviour::DisconnectAfterActing, DoorEvent::Unconfirmed),
        (Misbehaviour::Slow(1_000), DoorEvent::Unconfirmed),
    ];
    for (lie, told) in lies {
        let board = Board::start().await;
        let rig = Rig::up(&board.config()).await;
        board.sim.set_fault(Fault { on: Requests::Writes, ..Fault::always(lie) });
        assert_eq!(swipe(&rig).await, Err(Reason::BoxNotReady), "{lie:?}");
        let record = rig.door_event(told).await;
        assert_eq!((record.card, record.door), (Some(ALICE), FRONT), "{lie:?}");
        assert!(!rig.events(FRONT).contains(&DoorEvent::Granted), "{lie:?}: {:?}", rig.events(FRONT));
        assert!(rig.alarm("door_failed").await.contains("d5"), "{lie:?}");
        board.sim.heal();
        rig.until("line up", |view| view.line == LineState::Up && view.lock == RelayState::Locked).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(!board.sim.relay(1), "{lie:?}: nothing stays open");
        rig.down().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_that_loses_power_comes_back_locked_and_alarmed() {
    let board = Board::start().await;
    let rig = Rig::up(&board.config()).await;
    board.sim.set_nobody_there(true);
    board.sim.power_cycle(true);
    // One alarm for each door, told when its relay is set right.
    while rig.alarms("door_relay").len() < 2 {
        assert!(rig.alarm("door_relay").await.contains("set right"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!board.sim.relay(1) && !board.sim.relay(2));
    assert_eq!(swipe(&rig).await, Ok(holder(ALICE)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fire_frees_the_escape_door_and_is_journaled_and_ends() {
    let board = Board::start().await;
    let rig = Rig::up(&board.config()).await;
    rig.until("closed", |view| view.contact == ContactState::Closed).await;
    board.sim.set_input(8, true);
    rig.door_event(DoorEvent::Fire).await;
    assert!(rig.alarm("fire").await.contains("board1"));
    rig.until("freed", |view| view.freed_by_fire && view.lock == RelayState::Unlocked).await;
    assert!(board.sim.relay(1) && !board.sim.relay(2), "only the escape door");
    let opened = rig.door_event(DoorEvent::Opened(OpenedBy::Fire)).await;
    assert_eq!((opened.door, opened.card), (FRONT, None));
    board.sim.set_input(8, false);
    rig.alarm("fire_over").await;
    rig.until("locked", |view| !view.freed_by_fire && view.lock == RelayState::Locked).await;
    assert_eq!(rig.alarms("fire_over").len(), 1, "and not at the start");
    assert!(!rig.events(BACK).contains(&DoorEvent::Fire));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_nothing_open_and_goes_on_with_its_journal() {
    let board = Board::start().await;
    board.sim.set_nobody_there(true);
    // Timed by the box: the worst case, for the board would leave the lock open.
    let timed = config(tcp(board.address), json!({"pulse": {"method": "edge_timed"}}));
    let rig = Rig::up(&timed).await;
    rig.change_door(FRONT, |door| door.pulse_ms = 60_000);
    assert_eq!(swipe(&rig).await, Ok(holder(ALICE)));
    assert!(board.sim.relay(1));
    let (dir, hub) = rig.down().await;
    assert!(!board.sim.relay(1), "a graceful stop locks what only the box would lock");
    // A box that was killed could not: the relay is found on.
    board.sim.power_cycle(true);
    let dir = dir.unwrap();
    let rig = Rig::at(dir.path(), &timed, hub, true).await;
    rig.until("locked", |view| view.line == LineState::Up && view.lock == RelayState::Locked).await;
    assert!(!board.sim.relay(1) && !board.sim.relay(2));
    assert_eq!(swipe(&rig).await, Ok(holder(ALICE)));
    rig.journaled("both passages", |_| rig.events(FRONT).iter().filter(|e| **e == DoorEvent::Granted).count() == 2)
        .await;
    rig.alarm("door_relay").await;
    rig.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asked_may_be_gone_the_passage_is_journaled() {
    let board = Board::start().await;
    let rig = Rig::up(&board.config()).await;
    board.sim.set_fault(Fault { on: Requests::Writes, times: Some(1), ..Fault::always(Misbehaviour::Slow(100)) });
    let asked = tokio::time::timeout(Duration::from_millis(20), rig.doors.swipe(&reader(FRONT), ALICE)).await;
    assert!(asked.is_err(), "the terminal hung up before the board answered");
    // The stop waits for what is under way.
    rig.doors.stop().await;
    let events = rig.events(FRONT);
    assert!(events.contains(&DoorEvent::Granted) && board.sim.times_pulsed(1) == 1, "{events:?}");
    assert_eq!(rig.doors.journal(), Default::default());
}

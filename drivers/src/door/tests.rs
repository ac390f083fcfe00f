//! The handle and the queues, without any device.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

use super::*;

const DOOR: DoorRef = DoorRef(7);

#[tokio::test]
async fn commands_are_checked_before_they_are_queued() {
    let driver = RunningDriver::spawn([DOOR], |mut port| async move { port.stopped().await });
    let pulse = |door, duration_ms| driver.handle.submit(DoorCommand::Pulse { door, duration_ms });
    assert_eq!(pulse(DoorRef(8), 500), Err(CommandFailure::UnknownDoor { door: DoorRef(8) }));
    assert_eq!(pulse(DOOR, 99), Err(CommandFailure::BadDuration { duration_ms: 99 }));
    assert_eq!(pulse(DOOR, 120_001), Err(CommandFailure::BadDuration { duration_ms: 120_001 }));
    for _ in 0..COMMAND_QUEUE_LEN_MAX {
        pulse(DOOR, 100).unwrap();
    }
    assert_eq!(pulse(DOOR, 100), Err(CommandFailure::QueueFull));
    let handle = driver.handle.clone();
    driver.stop().await;
    assert_eq!(handle.execute(DoorCommand::Release { door: DOOR }).await, Err(CommandFailure::Stopped));
}

#[tokio::test]
async fn a_driver_that_dies_answers_its_askers() {
    let driver = RunningDriver::spawn([DOOR], |mut port| async move {
        drop(port.command().await);
    });
    let outcome = driver.handle.execute(DoorCommand::Release { door: DOOR }).await;
    assert_eq!(outcome, Err(CommandFailure::Stopped));
}

#[tokio::test]
async fn events_beyond_the_bound_are_counted_and_told() {
    let (queue, mut reader) = mpsc::channel(2);
    let mut sink = EventSink { queue, lost: 0 };
    for _ in 0..5 {
        sink.emit(DoorEventKind::Closed { door: DOOR });
    }
    for _ in 0..2 {
        assert_eq!(reader.recv().await.unwrap().kind, DoorEventKind::Closed { door: DOOR });
    }
    sink.emit(DoorEventKind::FreedByFire { door: DOOR });
    assert_eq!(reader.recv().await.unwrap().kind, DoorEventKind::EventsLost { count: 3 });
    assert_eq!(reader.recv().await.unwrap().kind, DoorEventKind::FreedByFire { door: DOOR });
}

#[tokio::test]
async fn the_driver_ends_when_nobody_holds_it() {
    let (ended, end) = oneshot::channel();
    let driver = RunningDriver::spawn([DOOR], |mut port| async move {
        while port.command().await.is_some() {}
        ended.send(()).unwrap();
    });
    drop(driver);
    end.await.unwrap();
}

#[test]
fn events_have_a_stable_written_form() {
    let written = |kind: DoorEventKind| serde_json::to_value(kind).unwrap();
    let contact = InputChange::Contact { door: DOOR, state: ContactState::Open };
    assert_eq!(
        written(DoorEventKind::InputChanged(contact)),
        serde_json::json!({"event": "input_changed", "input": "contact", "door": 7, "state": "open"})
    );
    let failure = CommandFailure::Unconfirmed { cause: "no answer within 300 ms".to_owned() };
    assert_eq!(
        written(DoorEventKind::CommandFailed { id: CommandId(3), door: DOOR, failure }),
        serde_json::json!({"event": "command_failed", "id": 3, "door": 7,
            "failure": {"reason": "unconfirmed", "cause": "no answer within 300 ms"}})
    );
}

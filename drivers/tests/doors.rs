//! The Modbus driver on the simulated board: the standard door, and every way a board can fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests may panic

mod common;

use common::*;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use yika_drivers::door::{
    COMMAND_QUEUE_LEN_MAX, CommandFailure, Confirmation, ContactState, DoorCommand, DoorEventKind, InputChange,
    OpenCause, RelayState, SignalState,
};
use yika_drivers::modbus::frame::Framing;
use yika_drivers::modbus::simulator::{BoardChange, Fault, Misbehaviour, Requests};

const PULSE: DoorCommand = DoorCommand::Pulse { door: DOOR, duration_ms: 500 };

async fn standard(framing: Framing) -> (SimulatedServer, Rig) {
    let server = SimulatedServer::start(framing).await;
    let transport = match framing {
        Framing::Tcp => tcp(server.address),
        Framing::Rtu => rtu_over_tcp(server.address),
    };
    let mut rig = Rig::up(config(transport, flash(), json!({}))).await;
    rig.until_state("closed contact", |state| state.contact == ContactState::Closed).await;
    (server, rig)
}

fn line_lost(event: &DoorEventKind) -> bool {
    matches!(event, DoorEventKind::LineLost { .. })
}

fn line_back(event: &DoorEventKind) -> bool {
    matches!(event, DoorEventKind::LineBack { .. })
}

#[tokio::test]
async fn a_tap_opens_and_the_door_locks_again_by_every_method_and_carrier() {
    for framing in [Framing::Tcp, Framing::Rtu] {
        for pulse in [flash(), json!({"method": "registers", "mode": 4}), edge_timed()] {
            let server = SimulatedServer::start(framing).await;
            let transport = if framing == Framing::Tcp { tcp(server.address) } else { rtu_over_tcp(server.address) };
            let mut rig = Rig::up(config(transport, pulse.clone(), json!({}))).await;
            rig.until_state("closed contact", |state| state.contact == ContactState::Closed).await;
            let outcome = rig.handle.execute(PULSE).await;
            assert_eq!(outcome, Ok(Confirmation::ReadBack), "{framing:?} {pulse}");
            assert!(server.board.relay(1) && !server.board.relay(2), "{framing:?} {pulse}");
            rig.expect("Opened", |event| *event == DoorEventKind::Opened { door: DOOR, cause: OpenCause::Pulse }).await;
            rig.expect("Closed", |event| *event == DoorEventKind::Closed { door: DOOR }).await;
            rig.until_state("locked relay", |state| state.relay == RelayState::Locked).await;
            assert!(!server.board.relay(1), "{framing:?} {pulse}");
            assert_eq!(server.board.times_switched_on(1), 1);
            let corrected = |event: &DoorEventKind| matches!(event, DoorEventKind::RelayCorrected { .. });
            assert!(!rig.seen.iter().any(corrected), "{framing:?} {pulse}: {:?}", rig.seen);
        }
    }
}

#[tokio::test]
async fn a_door_that_unlocks_by_switching_off_uses_the_other_pulse() {
    let server = SimulatedServer::start(Framing::Tcp).await;
    let doors = json!({"doors": [{"door": 1, "relay": 5, "unlock_level": "off"}]});
    let rig = Rig::up(config(tcp(server.address), flash(), doors)).await;
    assert!(server.board.relay(5), "locked means energised");
    assert_eq!(rig.handle.execute(PULSE).await, Ok(Confirmation::ReadBack));
    assert!(!server.board.relay(5));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(server.board.relay(5));
}

#[tokio::test]
async fn unlocked_is_not_opened_when_nobody_pulls() {
    let (server, mut rig) = standard(Framing::Tcp).await;
    server.board.set_nobody_there(true);
    assert_eq!(rig.handle.execute(PULSE).await, Ok(Confirmation::ReadBack));
    let events = rig.listen(Duration::from_millis(1_200)).await;
    assert!(events.iter().any(|event| matches!(event, DoorEventKind::CommandDone { .. })));
    assert!(!events.iter().any(opened), "{events:?}");
    assert_eq!(rig.handle.snapshot()[&DOOR].contact, ContactState::Closed);
}

#[tokio::test]
async fn a_door_opened_without_right_is_forced_and_then_too_long_open() {
    let server = SimulatedServer::start(Framing::Tcp).await;
    let doors = json!({"doors": [{"door": 1, "relay": 1, "contact": {"input": 7}, "held_open_ms": 1000}]});
    server.board.set_input(7, true);
    let mut rig = Rig::up(config(tcp(server.address), flash(), doors)).await;
    rig.until_state("closed contact", |state| state.contact == ContactState::Closed).await;
    server.board.set_input(7, false);
    let forced = DoorEventKind::Opened { door: DOOR, cause: OpenCause::Forced };
    rig.expect("forced", |event| *event == forced).await;
    rig.expect("too long", |event| *event == DoorEventKind::HeldOpenTooLong { door: DOOR }).await;
    server.board.set_input(7, true);
    rig.expect("closed", |event| *event == DoorEventKind::Closed { door: DOOR }).await;
}

#[tokio::test]
async fn the_exit_button_is_reported_and_a_bounce_is_not() {
    let (server, mut rig) = standard(Framing::Tcp).await;
    server.board.set_input(3, true);
    let pressed = InputChange::ExitButton { door: DOOR, state: SignalState::Active };
    rig.expect("pressed", |event| *event == DoorEventKind::InputChanged(pressed.clone())).await;
    assert_eq!(rig.handle.execute(PULSE).await, Ok(Confirmation::ReadBack));
    rig.expect("Opened", opened).await;
}

#[tokio::test]
async fn fire_frees_escape_doors_over_every_order_and_ends() {
    let (server, mut rig) = standard(Framing::Tcp).await;
    rig.handle.execute(DoorCommand::HoldClosed { door: DOOR }).await.unwrap();
    assert_eq!(rig.handle.execute(PULSE).await, Err(CommandFailure::HeldClosed));
    server.board.set_input(8, true);
    rig.expect("freed", |event| *event == DoorEventKind::FreedByFire { door: DOOR }).await;
    assert!(server.board.relay(1), "escape door is free");
    assert!(!server.board.relay(2), "the other is not");
    let held = rig.handle.execute(DoorCommand::HoldClosed { door: DOOR }).await;
    assert_eq!(held, Err(CommandFailure::FireActive));
    assert_eq!(rig.handle.execute(PULSE).await, Ok(Confirmation::AlreadyUnlocked));
    // The line breaks during the fire: the door stays free, and is free after the return.
    server.board.set_fault(Fault::always(Misbehaviour::Disconnect));
    rig.expect("lost", line_lost).await;
    assert!(rig.handle.snapshot()[&DOOR].freed_by_fire, "not heard is not over");
    server.board.power_cycle(false);
    let mut changes = server.board.subscribe();
    server.board.heal();
    rig.expect("back", line_back).await;
    rig.listen(Duration::from_millis(400)).await;
    while let Ok(change) = changes.try_recv() {
        assert_ne!(change, BoardChange::Relay { relay: 1, on: false }, "locked during the fire");
    }
    assert!(server.board.relay(1) && !server.board.relay(2));
    server.board.set_input(8, false);
    rig.until_state("locked", |state| state.relay == RelayState::Locked && !state.freed_by_fire).await;
    assert!(!server.board.relay(1));
}

#[tokio::test]
async fn held_open_outlives_a_lost_line_and_ends_with_release() {
    let (server, mut rig) = standard(Framing::Rtu).await;
    let held = rig.handle.execute(DoorCommand::HoldOpen { door: DOOR }).await;
    assert_eq!(held, Ok(Confirmation::ReadBack));
    assert_eq!(rig.handle.execute(PULSE).await, Ok(Confirmation::AlreadyUnlocked));
    assert_eq!(server.board.times_switched_on(1), 1);
    server.board.set_fault(Fault::always(Misbehaviour::Silent));
    rig.expect("lost", line_lost).await;
    server.board.power_cycle(false);
    server.board.heal();
    rig.expect("back", line_back).await;
    assert!(server.board.relay(1));
    rig.handle.execute(DoorCommand::Release { door: DOOR }).await.unwrap();
    assert!(!server.board.relay(1));
}

#[tokio::test]
async fn an_order_that_was_not_confirmed_does_not_stand() {
    let (server, mut rig) = standard(Framing::Tcp).await;
    server.board.set_fault(Fault { on: Requests::Writes, ..Fault::always(Misbehaviour::SilentAfterActing) });
    let held = rig.handle.execute(DoorCommand::HoldOpen { door: DOOR }).await;
    assert!(matches!(held, Err(CommandFailure::Unconfirmed { .. })), "{held:?}");
    server.board.heal();
    rig.until_state("locked", |state| state.line_up && state.relay == RelayState::Locked).await;
    rig.listen(Duration::from_millis(300)).await;
    assert!(!server.board.relay(1), "told as failed, so it must not stay open");
}

#[tokio::test]
async fn a_board_that_kept_its_last_state_is_locked_before_it_counts_as_up() {
    let server = SimulatedServer::start(Framing::Tcp).await;
    server.board.power_cycle(true);
    server.board.set_nobody_there(true);
    let rig = Rig::up(config(tcp(server.address), edge_timed(), json!({}))).await;
    assert!(!server.board.relay(1) && !server.board.relay(2));
    let corrected = DoorEventKind::RelayCorrected { door: DOOR, found: RelayState::Unlocked };
    let place = |wanted: &dyn Fn(&DoorEventKind) -> bool| rig.seen.iter().position(wanted).unwrap();
    assert!(place(&|event| *event == corrected) < place(&line_back), "{:?}", rig.seen);
}

#[tokio::test]
async fn a_power_blink_between_two_polls_is_found_and_corrected() {
    let (server, mut rig) = standard(Framing::Tcp).await;
    server.board.power_cycle(true);
    let corrected = DoorEventKind::RelayCorrected { door: OTHER, found: RelayState::Unlocked };
    rig.expect("corrected", |event| *event == corrected).await;
    assert!(!server.board.relay(1) && !server.board.relay(2));
}

#[tokio::test]
async fn a_board_silent_from_the_start_is_told_and_refuses_quickly() {
    let server = SimulatedServer::start(Framing::Rtu).await;
    server.board.set_fault(Fault::always(Misbehaviour::Silent));
    let mut rig = Rig::start(config(rtu_over_tcp(server.address), flash(), json!({})));
    let lost = rig.expect("lost", line_lost).await;
    let DoorEventKind::LineLost { doors, cause } = lost else { unreachable!() };
    assert_eq!(doors, [DOOR, OTHER]);
    assert!(cause.contains("no answer within 200 ms"), "{cause}");
    let asked = Instant::now();
    let outcome = rig.handle.execute(PULSE).await;
    assert!(matches!(outcome, Err(CommandFailure::LineDown { .. })), "{outcome:?}");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!(server.board.times_switched_on(1), 0);
    server.board.heal();
    rig.expect("back", line_back).await;
    assert_eq!(rig.handle.execute(PULSE).await, Ok(Confirmation::ReadBack));
}

#[tokio::test]
async fn nothing_listening_is_told_and_found_when_it_comes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut rig = Rig::start(config(tcp(address), flash(), json!({})));
    let lost = rig.expect("lost", line_lost).await;
    assert!(matches!(&lost, DoorEventKind::LineLost { cause, .. } if cause.contains("no connection")), "{lost:?}");
    let outcome = rig.handle.execute(PULSE).await;
    assert!(matches!(outcome, Err(CommandFailure::LineDown { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_board_that_falls_silent_makes_everything_unknown_and_nothing_opened() {
    for framing in [Framing::Tcp, Framing::Rtu] {
        let (server, mut rig) = standard(framing).await;
        server.board.set_fault(Fault::always(Misbehaviour::Silent));
        let unknown = InputChange::Contact { door: DOOR, state: ContactState::Unknown };
        rig.expect("unknown", |event| *event == DoorEventKind::InputChanged(unknown.clone())).await;
        rig.expect("lost", line_lost).await;
        let state = rig.handle.snapshot()[&DOOR];
        assert_eq!((state.contact, state.relay, state.line_up), (ContactState::Unknown, RelayState::Unknown, false));
        assert!(state.observed_at.is_some());
        server.board.heal();
        rig.expect("back", line_back).await;
        rig.until_state("closed contact", |state| state.contact == ContactState::Closed).await;
        assert!(!rig.seen.iter().any(opened), "{:?}", rig.seen);
    }
}

#[tokio::test]
async fn a_pulse_whose_answer_was_lost_is_read_back_and_not_repeated() {
    for framing in [Framing::Tcp, Framing::Rtu] {
        for fault in [Misbehaviour::SilentAfterActing, Misbehaviour::DisconnectAfterActing] {
            let (server, mut rig) = standard(framing).await;
            server.board.set_fault(Fault::writes(fault, 1));
            let pulse = DoorCommand::Pulse { door: DOOR, duration_ms: 1_500 };
            assert_eq!(rig.handle.execute(pulse).await, Ok(Confirmation::ReadBack), "{framing:?} {fault:?}");
            rig.expect("Opened", opened).await;
            rig.until_state("locked", |state| state.relay == RelayState::Locked).await;
            assert_eq!(server.board.times_pulsed(1), 1, "{framing:?} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_pulse_that_never_arrived_is_repeated_once_after_reading() {
    for fault in [Misbehaviour::Silent, Misbehaviour::Disconnect] {
        let (server, rig) = standard(Framing::Tcp).await;
        server.board.set_fault(Fault::writes(fault, 1));
        let pulse = DoorCommand::Pulse { door: DOOR, duration_ms: 1_500 };
        assert_eq!(rig.handle.execute(pulse).await, Ok(Confirmation::ReadBack), "{fault:?}");
        assert_eq!(server.board.times_pulsed(1), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_short_pulse_is_not_repeated_when_it_may_have_come_and_gone() {
    let (server, rig) = standard(Framing::Tcp).await;
    server.board.set_fault(Fault::writes(Misbehaviour::SilentAfterActing, 1));
    let pulse = DoorCommand::Pulse { door: DOOR, duration_ms: 100 };
    let outcome = rig.handle.execute(pulse).await;
    assert!(matches!(outcome, Err(CommandFailure::Unconfirmed { .. })), "{outcome:?}");
    assert_eq!(server.board.times_pulsed(1), 1);
}

#[tokio::test]
async fn one_lying_answer_is_settled_by_reading_back() {
    for framing in [Framing::Tcp, Framing::Rtu] {
        for lie in LIES {
            let (server, rig) = standard(framing).await;
            server.board.set_fault(Fault::writes(lie, 1));
            let pulse = DoorCommand::Pulse { door: DOOR, duration_ms: 1_500 };
            let outcome = timeout(Duration::from_secs(4), rig.handle.execute(pulse)).await.expect("no hang");
            assert_eq!(outcome, Ok(Confirmation::ReadBack), "{framing:?} {lie:?}");
            assert_eq!(server.board.times_pulsed(1), 1, "{framing:?} {lie:?}");
        }
    }
}

const LIES: [Misbehaviour; 6] = [
    Misbehaviour::WrongAddress,
    Misbehaviour::OppositeEcho,
    Misbehaviour::WrongUnit,
    Misbehaviour::WrongEnvelope,
    Misbehaviour::Garbage,
    Misbehaviour::HalfAnswer,
];

#[tokio::test]
async fn a_board_that_always_lies_is_lost_and_never_opened() {
    for framing in [Framing::Tcp, Framing::Rtu] {
        for lie in LIES {
            let (server, mut rig) = standard(framing).await;
            server.board.set_nobody_there(true);
            server.board.set_fault(Fault::always(lie));
            let outcome = timeout(Duration::from_secs(4), rig.handle.execute(PULSE)).await.expect("no hang");
            if lie != Misbehaviour::OppositeEcho && lie != Misbehaviour::WrongAddress {
                assert!(outcome.is_err(), "{framing:?} {lie:?}");
                rig.expect("lost", line_lost).await;
            }
            let seen = rig.listen(Duration::from_millis(200)).await;
            assert!(!seen.iter().chain(&rig.seen).any(opened), "{framing:?} {lie:?}: {:?}", rig.seen);
        }
    }
}

#[tokio::test]
async fn a_board_that_confirms_without_acting_fails_the_command() {
    let (server, mut rig) = standard(Framing::Tcp).await;
    server.board.set_fault(Fault { on: Requests::Writes, ..Fault::always(Misbehaviour::Deaf) });
    assert_eq!(rig.handle.execute(PULSE).await, Err(CommandFailure::NotActuated));
    let held = rig.handle.execute(DoorCommand::HoldOpen { door: OTHER }).await;
    assert_eq!(held, Err(CommandFailure::NotActuated));
    let events = rig.listen(Duration::from_millis(300)).await;
    assert!(!events.iter().any(opened), "{events:?}");
}

#[tokio::test]
async fn a_relay_that_never_follows_is_told_once() {
    let (server, mut rig) = standard(Framing::Tcp).await;
    server.board.set_nobody_there(true);
    server.board.set_fault(Fault { on: Requests::Writes, ..Fault::always(Misbehaviour::Deaf) });
    server.board.power_cycle(true);
    let events = rig.listen(Duration::from_millis(4_500)).await;
    let told = events.iter().filter(|event| matches!(event, DoorEventKind::RelayCorrected { door: DOOR, .. }));
    assert_eq!(told.count(), 1, "{events:?}");
}

#[tokio::test]
async fn noise_in_place_of_answers_is_survived() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let noise = tokio::spawn(async move {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0u8; 260];
            while matches!(stream.read(&mut request).await, Ok(got) if got > 0) {
                // xorshift: the same noise in every run.
                let mut bytes = [0u8; 24];
                for byte in &mut bytes {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    *byte = state.to_le_bytes()[0];
                }
                // Half of the time with an envelope that fits, to get past it.
                if state & 1 == 0 {
                    bytes[..7].copy_from_slice(&[request[0], request[1], 0, 0, 0, 18, request[6]]);
                    bytes[7] = request[7];
                }
                if stream.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        }
    });
    for transport in [tcp(address), rtu_over_tcp(address)] {
        let mut rig = Rig::start(config(transport, flash(), json!({})));
        rig.expect("lost", line_lost).await;
        let outcome = timeout(Duration::from_secs(4), rig.handle.execute(PULSE)).await.expect("no hang");
        assert!(matches!(outcome, Err(CommandFailure::LineDown { .. })), "{outcome:?}");
        let events = rig.listen(Duration::from_millis(1_500)).await;
        assert!(!events.iter().any(opened), "{events:?}");
        rig.stop.stop().await;
    }
    noise.abort();
}

#[tokio::test]
async fn an_exception_is_a_refusal_and_the_line_stays() {
    let (server, mut rig) = standard(Framing::Rtu).await;
    server.board.set_fault(Fault::writes(Misbehaviour::Exception(2), 1));
    let refused = CommandFailure::Refused { code: 2, meaning: "illegal address" };
    assert_eq!(rig.handle.execute(PULSE).await, Err(refused));
    assert_eq!(rig.handle.execute(PULSE).await, Ok(Confirmation::ReadBack));
    rig.listen(Duration::from_millis(100)).await;
    assert!(!rig.seen.iter().any(line_lost), "{:?}", rig.seen);
}

#[tokio::test]
async fn wrong_addresses_in_the_profile_are_named_in_the_event() {
    let server = SimulatedServer::start(Framing::Tcp).await;
    let mut rig = Rig::start(config(tcp(server.address), flash(), json!({"input_base": 100})));
    let lost = rig.expect("lost", line_lost).await;
    assert!(matches!(&lost, DoorEventKind::LineLost { cause, .. } if cause.contains("illegal address")), "{lost:?}");
}

#[tokio::test]
async fn late_answers_never_pass_for_the_next_ones() {
    for framing in [Framing::Tcp, Framing::Rtu] {
        let (server, mut rig) = standard(framing).await;
        // Later than the time-out of 200 ms: each answer arrives when another question is open.
        let late = Fault { times: Some(4), ..Fault::always(Misbehaviour::Slow(260)) };
        server.board.set_fault(late);
        rig.expect("unknown", |event| {
            matches!(event, DoorEventKind::InputChanged(InputChange::Contact { state: ContactState::Unknown, .. }))
        })
        .await;
        rig.until_state("closed contact", |state| state.line_up && state.contact == ContactState::Closed).await;
        assert_eq!(rig.handle.execute(PULSE).await, Ok(Confirmation::ReadBack), "{framing:?}");
        assert_eq!(server.board.times_pulsed(1), 1);
    }
}

#[tokio::test]
async fn a_dead_neighbour_on_the_same_line_does_not_stop_a_door() {
    let server = SimulatedServer::start(Framing::Rtu).await;
    let mut both = config(rtu_over_tcp(server.address), flash(), json!({}));
    let mut dead = both.boards[0].clone();
    dead.name = "dead".to_owned();
    dead.unit = 2;
    dead.doors.truncate(1);
    dead.doors[0].door = yika_drivers::door::DoorRef(9);
    both.boards.push(dead);
    let mut rig = Rig::up(both).await;
    rig.expect("lost", |event| matches!(event, DoorEventKind::LineLost { doors, .. } if doors[0].0 == 9)).await;
    for _ in 0..3 {
        assert_eq!(rig.handle.execute(PULSE).await, Ok(Confirmation::ReadBack));
        rig.expect("Opened", opened).await;
        rig.expect("Closed", |event| *event == DoorEventKind::Closed { door: DOOR }).await;
    }
    let of_door_1 =
        |event: &DoorEventKind| matches!(event, DoorEventKind::LineLost { doors, .. } if doors.contains(&DOOR));
    assert!(!rig.seen.iter().any(of_door_1), "{:?}", rig.seen);
}

#[tokio::test]
async fn stopping_in_the_middle_of_an_own_pulse_locks_the_door() {
    let server = SimulatedServer::start(Framing::Tcp).await;
    let rig = Rig::up(config(tcp(server.address), edge_timed(), json!({}))).await;
    let pulse = DoorCommand::Pulse { door: DOOR, duration_ms: 60_000 };
    rig.handle.execute(pulse).await.unwrap();
    assert!(server.board.relay(1));
    let handle = rig.handle.clone();
    rig.stop.stop().await;
    assert!(!server.board.relay(1));
    assert_eq!(handle.execute(PULSE).await, Err(CommandFailure::Stopped));
}

#[tokio::test]
async fn an_own_pulse_that_could_not_end_in_time_ends_first_when_the_line_is_back() {
    let server = SimulatedServer::start(Framing::Tcp).await;
    let mut rig = Rig::up(config(tcp(server.address), edge_timed(), json!({}))).await;
    rig.handle.execute(PULSE).await.unwrap();
    server.board.set_fault(Fault::always(Misbehaviour::Silent));
    rig.expect("lost", line_lost).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(server.board.relay(1), "nobody could lock it");
    server.board.heal();
    let corrected = DoorEventKind::RelayCorrected { door: DOOR, found: RelayState::Unlocked };
    rig.expect("corrected", |event| *event == corrected).await;
    rig.expect("back", line_back).await;
    assert!(!server.board.relay(1));
}

#[tokio::test]
async fn the_command_queue_is_bounded_and_refuses() {
    let (server, mut rig) = standard(Framing::Tcp).await;
    server.board.set_fault(Fault::always(Misbehaviour::Slow(150)));
    let results: Vec<_> = (0..COMMAND_QUEUE_LEN_MAX + 10).map(|_| rig.handle.submit(PULSE)).collect();
    let accepted = results.iter().filter(|result| result.is_ok()).count();
    assert!(accepted <= COMMAND_QUEUE_LEN_MAX + 1, "{accepted}");
    assert!(results.iter().flat_map(|result| result.as_ref().err()).all(|e| *e == CommandFailure::QueueFull));
    let mut expired = 0;
    for _ in 0..accepted {
        let done = rig.expect("outcome", |event| {
            matches!(event, DoorEventKind::CommandDone { .. } | DoorEventKind::CommandFailed { .. })
        });
        let is_expired = |event| matches!(event, DoorEventKind::CommandFailed { failure: CommandFailure::Expired, .. });
        expired += usize::from(is_expired(done.await));
    }
    assert!(expired > 0, "old commands must not open a door late");
}

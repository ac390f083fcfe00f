//! The loop of one line: polls, commands, pulses and their ends, loss and return of the line.
//!
//! One task owns the line and has at most one request in flight. Every failure but a proper exception
//! drops the connection; the board that failed is brought up again by reading its outputs and writing
//! each to the state it should have, before anything else is asked of it.
//!
//! Leaves to others: requests and answers (`line`), debouncing (`door::tracker`), a board's memory (`board`).

use super::line::{CallError, Line};
use super::profile::{BusConfig, ConfigError, Level, PulseMethod, Transport, pulse_ticks};
use crate::door::{
    COMMAND_AGE_MS_MAX, CommandFailure, Confirmation, DoorCommand, DoorEventKind, DoorMode, DriverPort, InputChange,
    QueuedCommand, RelayState, RunningDriver,
};
use board::Board;
use std::time::{Duration, Instant};

mod board;

/// First pause after a failure, in milliseconds; it doubles with every further one.
pub const RECONNECT_DELAY_MS_MIN: u64 = 50;
/// Longest pause between two attempts, in milliseconds: a repaired cable is noticed within it.
pub const RECONNECT_DELAY_MS_MAX: u64 = 5_000;
/// How often the outputs are read back and compared with what they should be, in milliseconds. Catches
/// a board that lost power for less than a poll.
pub const AUDIT_MS: u64 = 2_000;
/// How long after the end of a pulse a board may take to switch off by itself before it is corrected.
pub const PULSE_END_SLACK_MS: u64 = 300;
/// A pulse is sent at most this often, and again only after the relay was read and found at rest.
pub const PULSE_ATTEMPTS_MAX: u32 = 2;

/// Checks the configuration and starts the driver of one line. Must be called within a tokio runtime.
pub fn spawn(config: BusConfig) -> Result<RunningDriver, ConfigError> {
    config.validate()?;
    let doors: Vec<_> = config.doors().collect();
    Ok(RunningDriver::spawn(doors, move |port| Bus::new(config, port).run()))
}

struct Bus {
    transport: Transport,
    boards: Vec<Board>,
    port: DriverPort,
    line: Option<Line>,
    /// Whether any board's fire input is active; kept while the input is not heard.
    fire: bool,
}

/// A board and one of its doors, by index.
#[derive(Clone, Copy)]
struct Place {
    board: usize,
    door: usize,
}

/// What is due for a board.
enum Work {
    EndPulse(Place),
    BringUp(usize),
    Audit(usize),
    Poll(usize),
}

impl Bus {
    fn new(config: BusConfig, port: DriverPort) -> Self {
        let now = Instant::now();
        let boards = config.boards.into_iter().map(|profile| Board::new(profile, now)).collect();
        Bus { transport: config.transport, boards, port, line: None, fire: false }
    }

    async fn run(mut self) {
        while !self.port.is_stopping() {
            self.publish();
            self.follow_held_open();
            if let Some(queued) = self.port.try_command() {
                self.command(queued).await;
            }
            if let Some(work) = self.due(Instant::now()) {
                self.work(work).await;
                continue;
            }
            self.publish();
            let wake = tokio::time::sleep_until(self.next_wake().into());
            tokio::select! {
                biased;
                queued = self.port.command() => match queued {
                    Some(queued) => self.command(queued).await,
                    None => break,
                },
                () = wake => {}
            }
        }
        self.end_own_pulses().await;
        self.publish();
    }

    /// Takes over how long leaves may stand open; a door that is not named keeps what it had.
    fn follow_held_open(&mut self) {
        let Some(limits) = self.port.held_open_changed() else { return };
        for door in self.boards.iter_mut().flat_map(|board| &mut board.doors) {
            if let Some(limit_ms) = limits.get(&door.wiring.door) {
                door.tracker.set_held_open_limit(Duration::from_millis(u64::from(*limit_ms)));
            }
        }
    }

    fn publish(&self) {
        let states = self.boards.iter().flat_map(|board| board.states(self.fire)).collect();
        self.port.publish(states);
    }

    /// Ends of pulses first, then whatever has been due longest.
    fn due(&self, now: Instant) -> Option<Work> {
        let ended = self.places().find(|place| {
            let board = &self.boards[place.board];
            board.up && board.doors[place.door].check_at.is_some_and(|at| at <= now)
        });
        if let Some(place) = ended {
            return Some(Work::EndPulse(place));
        }
        let oldest = (0..self.boards.len()).min_by_key(|index| self.boards[*index].due_at())?;
        let board = &self.boards[oldest];
        if board.due_at() > now {
            return None;
        }
        Some(if !board.up {
            Work::BringUp(oldest)
        } else if board.audit_at <= now || board.profile.inputs == 0 {
            Work::Audit(oldest)
        } else {
            Work::Poll(oldest)
        })
    }

    fn next_wake(&self) -> Instant {
        let ends = self
            .places()
            .filter(|place| self.boards[place.board].up)
            .filter_map(|place| self.boards[place.board].doors[place.door].check_at);
        let boards = self.boards.iter().map(Board::due_at);
        ends.chain(boards).min().unwrap_or_else(|| Instant::now() + Duration::from_millis(AUDIT_MS))
    }

    async fn work(&mut self, work: Work) {
        match work {
            Work::EndPulse(place) => self.end_pulse(place).await,
            Work::BringUp(board) => {
                self.bring_up(board).await;
            }
            Work::Audit(board) => self.audit(board).await,
            Work::Poll(board) => self.poll(board).await,
        }
    }

    fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.boards
            .iter()
            .enumerate()
            .flat_map(|(board, it)| (0..it.doors.len()).map(move |door| Place { board, door }))
    }

    // ---- commands ----

    async fn command(&mut self, queued: QueuedCommand) {
        let outcome = self.carry_out(&queued).await;
        if let Err(failure) = &outcome {
            tracing::debug!(door = %queued.command.door(), %failure, "door command failed");
        }
        self.port.finish(queued, outcome);
    }

    async fn carry_out(&mut self, queued: &QueuedCommand) -> Result<Confirmation, CommandFailure> {
        let door = queued.command.door();
        let place = self
            .places()
            .find(|place| self.boards[place.board].doors[place.door].wiring.door == door)
            .ok_or(CommandFailure::UnknownDoor { door })?;
        let board = &self.boards[place.board];
        if !board.up && (board.lost || !self.bring_up(place.board).await) {
            let cause = self.boards[place.board].cause.clone();
            return Err(CommandFailure::LineDown { cause });
        }
        if expired(queued) {
            return Err(CommandFailure::Expired);
        }
        match queued.command {
            DoorCommand::Pulse { duration_ms, .. } => self.pulse(place, duration_ms, queued).await,
            DoorCommand::HoldOpen { .. } => self.set_mode(place, DoorMode::HeldOpen).await,
            DoorCommand::HoldClosed { .. } => self.set_mode(place, DoorMode::HeldClosed).await,
            DoorCommand::Release { .. } => self.set_mode(place, DoorMode::Normal).await,
        }
    }

    /// Sets a standing order. When it cannot be confirmed it does not stand: what the operator was told
    /// and what is written after the next connect stay the same.
    async fn set_mode(&mut self, place: Place, mode: DoorMode) -> Result<Confirmation, CommandFailure> {
        let fire = self.fire;
        let door = self.door(place);
        if mode == DoorMode::HeldClosed && fire && door.wiring.escape {
            return Err(CommandFailure::FireActive);
        }
        let before = std::mem::replace(&mut door.mode, mode);
        let ended = Instant::now();
        let error = match self.write_target(place).await {
            Ok(()) => None,
            Err(error) if !error.spoils_line() => Some(error),
            Err(error) => {
                self.failed(place.board, &error);
                self.door(place).pulse_until = self.door(place).pulse_until.map(|until| until.min(ended));
                // Bringing the board up writes the new target and so tells whether the order stands.
                let stands = !error.nothing_was_sent() && self.bring_up(place.board).await;
                (!stands).then_some(error)
            }
        };
        let door = self.door(place);
        if let Some(error) = error {
            door.mode = before;
            return Err(error.as_failure());
        }
        // The order ends a pulse that was running.
        door.pulse_until = door.pulse_until.map(|until| until.min(ended));
        let confirmed = self.confirm_target(place).await;
        if confirmed.is_err() {
            self.door(place).mode = before;
        }
        confirmed
    }

    /// The device echoed a standing order: look whether the relay followed.
    async fn confirm_target(&mut self, place: Place) -> Result<Confirmation, CommandFailure> {
        if !self.boards[place.board].profile.verify_relay {
            return Ok(Confirmation::Echo);
        }
        if let Err(error) = self.read_relays(place.board).await {
            self.failed(place.board, &error);
            return Ok(Confirmation::Echo);
        }
        let fire = self.fire;
        let door = self.door(place);
        if door.relay == door.target(fire) { Ok(Confirmation::ReadBack) } else { Err(CommandFailure::NotActuated) }
    }

    async fn pulse(
        &mut self,
        place: Place,
        duration_ms: u32,
        queued: &QueuedCommand,
    ) -> Result<Confirmation, CommandFailure> {
        let duration = Duration::from_millis(u64::from(pulse_ticks(duration_ms)) * 100);
        let mut attempt = 1;
        loop {
            let fire = self.fire;
            let door = self.door(place);
            if door.target_unlocked(fire) {
                return Ok(Confirmation::AlreadyUnlocked);
            }
            if door.mode == DoorMode::HeldClosed {
                return Err(CommandFailure::HeldClosed);
            }
            let sent_at = Instant::now();
            let error = match self.send_pulse(place, duration_ms).await {
                Ok(()) => return self.confirm_pulse(place, sent_at, duration).await,
                Err(error) if !error.spoils_line() => return Err(error.as_failure()),
                Err(error) if error.nothing_was_sent() => {
                    self.failed(place.board, &error);
                    return Err(error.as_failure());
                }
                Err(error) => error,
            };
            // The pulse may be running: until its latest possible end an unlocked relay is ours.
            self.note_pulse(place, Instant::now() + duration);
            self.failed(place.board, &error);
            if !self.bring_up(place.board).await {
                return Err(error.as_failure());
            }
            if self.door(place).relay == RelayState::Unlocked {
                return Ok(Confirmation::ReadBack);
            }
            // Read and found at rest while a pulse sent then would still run: it was not carried out.
            let would_still_run = Instant::now() < sent_at + duration;
            if attempt >= PULSE_ATTEMPTS_MAX || !would_still_run || expired(queued) {
                return Err(error.as_failure());
            }
            attempt += 1;
        }
    }

    async fn send_pulse(&mut self, place: Place, duration_ms: u32) -> Result<(), CallError> {
        let board = &self.boards[place.board];
        let (unit, limit, method) = (board.profile.unit, board.limit(), board.profile.pulse);
        let wiring = &board.doors[place.door].wiring;
        let (relay, level) = (wiring.relay - 1, wiring.unlock_level);
        let coil = board.profile.coil_base + relay;
        let ticks = pulse_ticks(duration_ms);
        let line = self.line().await?;
        match method {
            PulseMethod::FlashCoil { on_base, off_base } => {
                let base = if level == Level::On { on_base } else { off_base };
                line.write_coil_value(unit, base + relay, ticks, limit).await
            }
            PulseMethod::Registers { base, stride, mode } => {
                line.write_registers(unit, base + stride * relay, &[mode, ticks], limit).await
            }
            PulseMethod::EdgeTimed => line.write_coil(unit, coil, level.bit(), limit).await,
        }
    }

    /// The device echoed a pulse: note its end, then look whether the relay moved.
    async fn confirm_pulse(
        &mut self,
        place: Place,
        sent_at: Instant,
        duration: Duration,
    ) -> Result<Confirmation, CommandFailure> {
        self.note_pulse(place, Instant::now() + duration);
        self.door(place).relay = RelayState::Unlocked;
        if !self.boards[place.board].profile.verify_relay {
            return Ok(Confirmation::Echo);
        }
        match self.read_relays(place.board).await {
            Ok(()) if self.door(place).relay == RelayState::Unlocked => Ok(Confirmation::ReadBack),
            // Read too late to tell: the pulse may have ended by itself.
            Ok(()) if Instant::now() >= sent_at + duration => Ok(Confirmation::Echo),
            Ok(()) => Err(CommandFailure::NotActuated),
            Err(error) => {
                self.failed(place.board, &error);
                Ok(Confirmation::Echo)
            }
        }
    }

    fn note_pulse(&mut self, place: Place, until: Instant) {
        let own = self.boards[place.board].profile.pulse == PulseMethod::EdgeTimed;
        let slack = if own { 0 } else { PULSE_END_SLACK_MS };
        let door = self.door(place);
        let until = door.pulse_until.map_or(until, |running| running.max(until));
        door.pulse_until = Some(until);
        door.check_at = Some(until + Duration::from_millis(slack));
    }

    // ---- upkeep ----

    /// Opens the line if needed, reads the outputs, writes every door to the state it should have, reads
    /// the inputs. Only then is the board up. Returns whether it is.
    async fn bring_up(&mut self, index: usize) -> bool {
        if let Err(error) = self.try_bring_up(index).await {
            self.failed(index, &error);
            return false;
        }
        let board = &mut self.boards[index];
        let doors = board.door_refs();
        if board.came_up(Instant::now()) {
            tracing::info!(board = %board.profile.name, "door board is heard");
            self.port.events.emit(DoorEventKind::LineBack { doors });
        }
        self.fire_turned().await;
        self.boards[index].up
    }

    async fn try_bring_up(&mut self, index: usize) -> Result<(), CallError> {
        self.read_relays(index).await?;
        for door in 0..self.boards[index].doors.len() {
            let place = Place { board: index, door };
            let now = Instant::now();
            let fire = self.fire;
            let state = self.door(place);
            let running = state.pulse_until.is_some_and(|until| now < until);
            if running && state.relay == RelayState::Unlocked {
                continue;
            }
            state.check_at = None;
            let found = state.relay;
            let should = state.target(fire);
            self.write_target(place).await?;
            self.note_found(place, found, should);
        }
        self.read_inputs(index).await
    }

    async fn poll(&mut self, index: usize) {
        match self.read_inputs(index).await {
            Ok(()) => self.fire_turned().await,
            Err(error) => self.failed(index, &error),
        }
        self.boards[index].polled(Instant::now());
    }

    /// Reads the inputs once and tells what they mean.
    async fn read_inputs(&mut self, index: usize) -> Result<(), CallError> {
        let profile = &self.boards[index].profile;
        let (unit, base, count) = (profile.unit, profile.input_base, profile.inputs);
        let limit = self.boards[index].limit();
        if count == 0 {
            return Ok(());
        }
        let bits = self.line().await?.read_inputs(unit, base, count, limit).await?;
        let now = Instant::now();
        let fire = self.fire;
        let board = &mut self.boards[index];
        board.heard_at = Some(now);
        let fire_changed = board.take_fire(Some(&bits));
        let events = board.observe(Some(&bits), fire, now);
        self.report(index, fire_changed, events);
        Ok(())
    }

    /// Follows a change of the fire signal on every board that is up.
    async fn fire_turned(&mut self) {
        let fire = self.boards.iter().any(|board| board.fire_active);
        if fire == self.fire {
            return;
        }
        self.fire = fire;
        tracing::warn!(active = fire, "fire signal of a door line changed");
        let escape: Vec<Place> = self.places().filter(|place| self.escapes(*place)).collect();
        for place in escape {
            if let Err(error) = self.write_target(place).await {
                // The board is brought up again at once, which writes the new target.
                self.failed(place.board, &error);
            }
        }
    }

    fn escapes(&self, place: Place) -> bool {
        let board = &self.boards[place.board];
        board.up && board.doors[place.door].wiring.escape
    }

    async fn audit(&mut self, index: usize) {
        let now = Instant::now();
        self.boards[index].audit_at = now + Duration::from_millis(AUDIT_MS);
        if self.boards[index].profile.inputs == 0 {
            self.boards[index].polled(now);
        }
        if let Err(error) = self.try_audit(index).await {
            self.failed(index, &error);
        }
    }

    async fn try_audit(&mut self, index: usize) -> Result<(), CallError> {
        self.read_relays(index).await?;
        for door in 0..self.boards[index].doors.len() {
            let place = Place { board: index, door };
            let fire = self.fire;
            let state = self.door(place);
            let (found, should) = (state.relay, state.target(fire));
            if state.check_at.is_some() {
                continue;
            }
            if found != should {
                self.write_target(place).await?;
            }
            self.note_found(place, found, should);
        }
        Ok(())
    }

    /// The time of a pulse is over: switch off what we time, look after what the board times.
    async fn end_pulse(&mut self, place: Place) {
        let own = self.boards[place.board].profile.pulse == PulseMethod::EdgeTimed;
        let done = if own { self.write_target(place).await } else { Ok(()) };
        match done {
            Ok(()) => {
                self.door(place).check_at = None;
                if !own {
                    self.audit(place.board).await;
                }
            }
            Err(error) => self.failed(place.board, &error),
        }
    }

    /// Before the driver ends: no door may stay unlocked because nobody is left to lock it.
    async fn end_own_pulses(&mut self) {
        let running: Vec<Place> = self
            .places()
            .filter(|place| self.boards[place.board].profile.pulse == PulseMethod::EdgeTimed)
            .filter(|place| self.boards[place.board].doors[place.door].check_at.is_some())
            .collect();
        for place in running {
            if let Err(error) = self.write_target(place).await {
                let door = self.door(place).wiring.door;
                tracing::error!(%door, %error, "door could not be locked at the end; it is locked at the next start");
            }
        }
    }

    // ---- requests ----

    async fn read_relays(&mut self, index: usize) -> Result<(), CallError> {
        let profile = &self.boards[index].profile;
        let (unit, base, count) = (profile.unit, profile.coil_base, profile.relays);
        let limit = self.boards[index].limit();
        let bits = self.line().await?.read_coils(unit, base, count, limit).await?;
        let board = &mut self.boards[index];
        board.heard_at = Some(Instant::now());
        board.take_relays(&bits);
        Ok(())
    }

    /// Writes the output that the standing order and the fire signal ask for, and notes the echo.
    async fn write_target(&mut self, place: Place) -> Result<(), CallError> {
        let board = &self.boards[place.board];
        let (unit, limit) = (board.profile.unit, board.limit());
        let wiring = &board.doors[place.door].wiring;
        let coil = board.profile.coil_base + wiring.relay - 1;
        let target = board.doors[place.door].target(self.fire);
        let on = (target == RelayState::Unlocked) == wiring.unlock_level.bit();
        self.line().await?.write_coil(unit, coil, on, limit).await?;
        self.boards[place.board].heard_at = Some(Instant::now());
        let fire = self.fire;
        let door = self.door(place);
        door.relay = target;
        let freed = fire && door.wiring.escape;
        if freed && !std::mem::replace(&mut door.freed_reported, freed) {
            let door = door.wiring.door;
            self.port.events.emit(DoorEventKind::FreedByFire { door });
        } else {
            door.freed_reported = freed;
        }
        Ok(())
    }

    /// The line, opened if it is not. While it opens, commands for lost boards are refused at once.
    async fn line(&mut self) -> Result<&mut Line, CallError> {
        if self.line.is_none() {
            let opened = self.open_line().await?;
            self.line = Some(opened);
        }
        self.line.as_mut().ok_or_else(|| CallError::Connect("no line".to_owned()))
    }

    async fn open_line(&mut self) -> Result<Line, CallError> {
        let all_lost = self.boards.iter().all(|board| board.lost);
        let cause = self.boards.first().map(|board| board.cause.clone()).unwrap_or_default();
        let port = &mut self.port;
        let connect = Line::connect(&self.transport);
        tokio::pin!(connect);
        loop {
            tokio::select! {
                biased;
                result = &mut connect => return result,
                queued = port.command(), if all_lost => match queued {
                    Some(queued) => port.finish(queued, Err(CommandFailure::LineDown { cause: cause.clone() })),
                    None => return Err(CallError::Connect("the driver is stopping".to_owned())),
                },
            }
        }
    }

    // ---- failures and reports ----

    /// Notes a failure of a board: its state is unknown, and the connection is dropped unless the answer
    /// was a proper exception.
    fn failed(&mut self, index: usize, error: &CallError) {
        if error.spoils_line() {
            self.line = None;
        }
        let concerned = if error.concerns_whole_line() { 0..self.boards.len() } else { index..index + 1 };
        for index in concerned {
            let now = Instant::now();
            let fire = self.fire;
            let board = &mut self.boards[index];
            let newly_lost = board.went_down(error.to_string(), now);
            let fire_changed = board.take_fire(None);
            let events = board.observe(None, fire, now);
            self.report(index, fire_changed, events);
            if newly_lost {
                let board = &self.boards[index];
                tracing::warn!(board = %board.profile.name, %error, "door board is not heard");
                let (doors, cause) = (board.door_refs(), board.cause.clone());
                self.port.events.emit(DoorEventKind::LineLost { doors, cause });
            }
        }
    }

    fn report(&mut self, index: usize, fire_changed: bool, events: Vec<DoorEventKind>) {
        let board = &self.boards[index];
        if fire_changed {
            let (name, state) = (board.profile.name.clone(), board.fire_state());
            self.port.events.emit(DoorEventKind::InputChanged(InputChange::Fire { board: name, state }));
        }
        for event in events {
            self.port.events.emit(event);
        }
    }

    /// Reports an output that was not as it should be, once until it is.
    fn note_found(&mut self, place: Place, found: RelayState, should: RelayState) {
        let door = self.door(place);
        let news = found != should && !door.mismatch_reported;
        door.mismatch_reported = found != should;
        if news {
            let door = door.wiring.door;
            tracing::warn!(%door, ?found, "relay was not in the state it should have; written again");
            self.port.events.emit(DoorEventKind::RelayCorrected { door, found });
        }
    }

    fn door(&mut self, place: Place) -> &mut board::Door {
        &mut self.boards[place.board].doors[place.door]
    }
}

fn expired(queued: &QueuedCommand) -> bool {
    queued.submitted_at.elapsed() > Duration::from_millis(COMMAND_AGE_MS_MAX)
}

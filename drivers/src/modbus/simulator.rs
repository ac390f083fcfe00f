//! A relay board to test against: relays with pulse timers, inputs, doors that follow their locks, and
//! faults on demand.
//!
//! It speaks through our own codec and not through `tokio-modbus`, for two reasons: that server refuses
//! the boards' pulse request, and a client checked only against its own library proves little.
//!
//! Leaves to others: the quirks of one maker's firmware beyond the customary map.

use super::frame::{self, Adu, Direction, FRAME_LEN_BYTES_MAX, Framing};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast};

mod board;

pub use board::{BoardChange, SimulatedBoard, SimulatedDoor};

/// Connections served at once; further ones are closed at once.
pub const CONNECTIONS_MAX: usize = 16;
/// Changes kept for a slow subscriber; it is told how many it missed.
pub const CHANGE_QUEUE_LEN_MAX: usize = 1_024;
/// Step of the simulated timers, in milliseconds.
const TICK_MS: u64 = 5;
/// Silence after which an incomplete RTU request is thrown away, in milliseconds.
const RTU_DISCARD_MS: u64 = 50;

/// A way to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misbehaviour {
    /// Ignores the request.
    Silent,
    /// Carries the request out and does not answer.
    SilentAfterActing,
    /// Answers as if done, without doing it.
    Deaf,
    /// Echoes the next address.
    WrongAddress,
    /// Echoes the opposite value.
    OppositeEcho,
    /// Answers with another unit number.
    WrongUnit,
    /// Answers with another transaction number (TCP) or a broken checksum (RTU).
    WrongEnvelope,
    /// Answers with bytes that are no frame.
    Garbage,
    /// Sends half of the answer.
    HalfAnswer,
    /// Answers with this exception.
    Exception(u8),
    /// Answers this many milliseconds late.
    Slow(u32),
    /// Closes the connection.
    Disconnect,
    /// Carries the request out and closes the connection.
    DisconnectAfterActing,
}

/// Which requests are met with the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requests {
    /// All.
    #[default]
    All,
    /// Functions 01-04.
    Reads,
    /// The others.
    Writes,
}

/// A misbehaviour with its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What to do wrong.
    pub misbehaviour: Misbehaviour,
    /// On which requests.
    #[serde(default)]
    pub on: Requests,
    /// How many times; `None` = until healed.
    #[serde(default)]
    pub times: Option<u32>,
}

impl Fault {
    /// On every request until healed.
    pub fn always(misbehaviour: Misbehaviour) -> Self {
        Fault { misbehaviour, on: Requests::All, times: None }
    }

    /// On the next `times` writes.
    pub fn writes(misbehaviour: Misbehaviour, times: u32) -> Self {
        Fault { misbehaviour, on: Requests::Writes, times: Some(times) }
    }
}

/// The simulated board; clones are the same board.
#[derive(Debug, Clone)]
pub struct BoardSimulator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changes: broadcast::Sender<BoardChange>,
}

#[derive(Debug)]
struct State {
    board: board::Board,
    fault: Option<Fault>,
    requests: u64,
}

enum Answer {
    Bytes { bytes: Vec<u8>, after: Duration },
    Silence,
    Close,
}

impl BoardSimulator {
    /// A board at rest: relays off, doors closed, buttons released.
    pub fn new(board: SimulatedBoard) -> Self {
        let state = State { board: board::Board::new(board), fault: None, requests: 0 };
        let changes = broadcast::channel(CHANGE_QUEUE_LEN_MAX).0;
        BoardSimulator { shared: Arc::new(Shared { state: Mutex::new(state), changes }) }
    }

    /// Serves every connection of a listener, and runs the timers, until dropped.
    pub async fn serve_tcp(&self, listener: TcpListener, framing: Framing) -> io::Result<()> {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, peer) = tokio::select! {
                accepted = listener.accept() => accepted?,
                Some(_) = connections.join_next() => continue,
                () = self.run_timers() => continue,
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                tracing::warn!(%peer, "simulator: more than {CONNECTIONS_MAX} connections, this one is closed");
                continue;
            };
            stream.set_nodelay(true)?;
            let board = self.clone();
            connections.spawn(async move {
                if let Err(error) = board.serve_stream(stream, framing).await {
                    tracing::debug!(%peer, %error, "simulator: connection ended");
                }
                drop(place);
            });
        }
    }

    /// Serves one byte stream (serial line, socket, pipe) and runs the timers until it ends.
    pub async fn serve_stream<S>(&self, stream: S, framing: Framing) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        tokio::select! {
            result = self.converse(stream, framing) => result,
            () = self.run_timers() => Ok(()),
        }
    }

    /// Sets an input from outside; numbers start at 1. Inputs that are door contacts follow their door
    /// again at its next movement.
    pub fn set_input(&self, input: u16, on: bool) {
        self.change(|state, now| state.board.set_input(input, on, now));
    }

    /// Starts misbehaving.
    pub fn set_fault(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// Behaves again.
    pub fn heal(&self) {
        self.lock().fault = None;
    }

    /// Power off and on: relays come up as `relays_on` says, pulses are forgotten.
    pub fn power_cycle(&self, relays_on: bool) {
        self.change(|state, now| state.board.power_cycle(relays_on, now));
    }

    /// Whether nobody pulls the doors: locks open and the leaves stay closed.
    pub fn set_nobody_there(&self, nobody: bool) {
        self.change(|state, now| state.board.set_nobody_there(nobody, now));
    }

    /// Whether a relay is on; numbers start at 1.
    pub fn relay(&self, relay: u16) -> bool {
        self.change(|state, now| state.board.tick(now));
        self.lock().board.relay(relay)
    }

    /// How often a relay was switched from off to on, by whatever request.
    pub fn times_switched_on(&self, relay: u16) -> u32 {
        self.lock().board.times_switched_on(relay)
    }

    /// How often a relay's own pulse timer was started, also while it was running.
    pub fn times_pulsed(&self, relay: u16) -> u32 {
        self.lock().board.times_pulsed(relay)
    }

    /// Requests received, answered or not.
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// Every change from this moment on.
    pub fn subscribe(&self) -> broadcast::Receiver<BoardChange> {
        self.shared.changes.subscribe()
    }

    async fn run_timers(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        loop {
            tick.tick().await;
            self.change(|state, now| state.board.tick(now));
        }
    }

    fn change(&self, act: impl FnOnce(&mut State, Instant) -> Vec<BoardChange>) {
        let changes = act(&mut self.lock(), Instant::now());
        for change in changes {
            // Nobody may be listening.
            let _ = self.shared.changes.send(change);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn converse<S>(&self, mut stream: S, framing: Framing) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut bytes = Vec::with_capacity(FRAME_LEN_BYTES_MAX * 2);
        let mut chunk = [0u8; FRAME_LEN_BYTES_MAX];
        loop {
            match frame::decode(framing, Direction::Request, &bytes) {
                Ok(Some((adu, len))) => {
                    bytes.drain(..len);
                    match self.answer(framing, &adu) {
                        Answer::Close => return Ok(()),
                        Answer::Silence => {}
                        Answer::Bytes { bytes, after } => {
                            tokio::time::sleep(after).await;
                            stream.write_all(&bytes).await?;
                            stream.flush().await?;
                        }
                    }
                    continue;
                }
                // A slave on a wire waits for silence after a frame it cannot read.
                Err(_) if framing == Framing::Rtu => bytes.clear(),
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                Ok(None) => {}
            }
            let read = stream.read(&mut chunk);
            let got = if framing == Framing::Rtu && !bytes.is_empty() {
                match tokio::time::timeout(Duration::from_millis(RTU_DISCARD_MS), read).await {
                    Ok(got) => got?,
                    Err(_) => {
                        bytes.clear();
                        continue;
                    }
                }
            } else {
                read.await?
            };
            if got == 0 {
                return Ok(());
            }
            bytes.extend_from_slice(&chunk[..got]);
        }
    }

    /// The answer to one request, right or wrong as the fault in force says.
    fn answer(&self, framing: Framing, request: &Adu) -> Answer {
        let mut answer = Answer::Silence;
        self.change(|state, now| {
            state.requests += 1;
            if !state.board.is_addressed(request.unit) {
                return Vec::new();
            }
            let fault = state.take_fault(&request.pdu);
            let mut changes = state.board.tick(now);
            let acts = !matches!(
                fault,
                Some(Misbehaviour::Silent | Misbehaviour::Deaf | Misbehaviour::Disconnect | Misbehaviour::Exception(_))
            );
            let (reply, acted) = if acts {
                state.board.serve(&request.pdu, now)
            } else {
                (state.board.clone().serve(&request.pdu, now).0, Vec::new())
            };
            changes.extend(acted);
            // Unit 0 is a broadcast: carried out, never answered.
            if request.unit != 0 {
                answer = misbehave(framing, request, reply, fault);
            }
            changes
        });
        answer
    }
}

impl State {
    fn take_fault(&mut self, pdu: &[u8]) -> Option<Misbehaviour> {
        let fault = self.fault.as_mut()?;
        let reads = matches!(pdu.first(), Some(1..=4));
        let concerned = match fault.on {
            Requests::All => true,
            Requests::Reads => reads,
            Requests::Writes => !reads,
        };
        if !concerned {
            return None;
        }
        let misbehaviour = fault.misbehaviour;
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.fault = None;
            }
        }
        Some(misbehaviour)
    }
}

/// Turns the right reply PDU into what is sent.
fn misbehave(framing: Framing, request: &Adu, pdu: Vec<u8>, fault: Option<Misbehaviour>) -> Answer {
    let mut reply = Adu { transaction: request.transaction, unit: request.unit, pdu };
    let mut after = Duration::ZERO;
    let mut keep_half = false;
    let mut break_checksum = false;
    match fault {
        None | Some(Misbehaviour::Deaf) => {}
        Some(Misbehaviour::Silent | Misbehaviour::SilentAfterActing) => return Answer::Silence,
        Some(Misbehaviour::Disconnect | Misbehaviour::DisconnectAfterActing) => {
            return Answer::Close;
        }
        Some(Misbehaviour::WrongAddress) => flip(&mut reply.pdu, 2, 1),
        Some(Misbehaviour::OppositeEcho) => flip(&mut reply.pdu, 3, 0xFF),
        Some(Misbehaviour::WrongUnit) => reply.unit ^= 1,
        Some(Misbehaviour::WrongEnvelope) => {
            reply.transaction = reply.transaction.wrapping_add(1);
            break_checksum = framing == Framing::Rtu;
        }
        Some(Misbehaviour::Garbage) => {
            return Answer::Bytes { bytes: b"\xFFnot a frame\r\n".to_vec(), after };
        }
        Some(Misbehaviour::HalfAnswer) => keep_half = true,
        Some(Misbehaviour::Exception(code)) => {
            let function = request.pdu.first().copied().unwrap_or(0);
            reply.pdu = vec![function | 0x80, code];
        }
        Some(Misbehaviour::Slow(ms)) => after = Duration::from_millis(u64::from(ms)),
    }
    let mut bytes = frame::encode(framing, &reply);
    if keep_half {
        bytes.truncate(bytes.len() / 2);
    }
    if break_checksum && let Some(last) = bytes.last_mut() {
        *last ^= 0xFF;
    }
    Answer::Bytes { bytes, after }
}

fn flip(pdu: &mut [u8], at: usize, mask: u8) {
    if let Some(byte) = pdu.get_mut(at) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;

//! One connection: connect, one request at a time with a time-out, and a strict look at every answer.
//!
//! `tokio-modbus` builds and parses the frames, through `Client::call`, because its typed helpers assert
//! on echoes that differ instead of returning them. The boards' own pulse timer (function 05 with a
//! number instead of FF00) is an answer it refuses to parse, so that one PDU goes over the same stream
//! through our own codec.
//!
//! Leaves to others: what to do after a failure (`bus`). A [`Line`] that failed must be dropped: a late
//! answer would be taken for the next one's.

use super::exception_meaning;
use super::frame::{self, Adu, Direction, FRAME_LEN_BYTES_MAX, Framing};
use super::profile::{Parity, Transport};
use crate::door::CommandFailure;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_modbus::client::{Client, Context as ModbusContext, rtu, tcp};
use tokio_modbus::slave::SlaveContext;
use tokio_modbus::{Request, Response, Slave};
use tokio_serial::{DataBits, SerialPort, SerialPortBuilderExt, StopBits};

/// How long a TCP connection may take to come up.
pub(super) const CONNECT_TIMEOUT_MS: u64 = 2_000;
/// A fresh RTU line must be silent for this long before the first request: answers to requests of an
/// earlier connection may still be on their way, and RTU answers carry no number.
pub(super) const RTU_QUIET_MS: u64 = 20;
/// Longest wait for that silence; a line that chatters for longer is refused.
pub(super) const RTU_QUIET_MS_MAX: u64 = 500;

/// Why a request was not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    #[error("no connection: {0}")]
    Connect(String),
    #[error("no answer within {ms} ms")]
    Timeout { ms: u64 },
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("a wrong answer: {0}")]
    WrongAnswer(String),
    #[error("exception {0} ({meaning})", meaning = exception_meaning(*.0))]
    Exception(u8),
}

impl CallError {
    /// Whether the connection must be dropped. An exception is a proper answer.
    pub(super) fn spoils_line(&self) -> bool {
        !matches!(self, CallError::Exception(_))
    }

    /// Whether every board on the line is concerned, not only the one asked.
    pub(super) fn concerns_whole_line(&self) -> bool {
        matches!(self, CallError::Connect(_) | CallError::Broken(_))
    }

    /// Whether the request certainly never left.
    pub(super) fn nothing_was_sent(&self) -> bool {
        matches!(self, CallError::Connect(_))
    }

    /// As the outcome of a command.
    pub(super) fn as_failure(&self) -> CommandFailure {
        match self {
            CallError::Exception(code) => CommandFailure::Refused { code: *code, meaning: exception_meaning(*code) },
            CallError::Connect(_) => CommandFailure::LineDown { cause: self.to_string() },
            other => CommandFailure::Unconfirmed { cause: other.to_string() },
        }
    }
}

/// An open connection.
pub(super) struct Line {
    context: ModbusContext,
    stream: Shared,
    framing: Framing,
    gap: Duration,
    not_before: Instant,
    raw_transaction: u16,
}

impl Line {
    /// Opens the line; for RTU waits until it is silent.
    pub(super) async fn connect(transport: &Transport) -> Result<Line, CallError> {
        let opened = timeout(Duration::from_millis(CONNECT_TIMEOUT_MS), open(transport)).await;
        let stream = match opened {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(CallError::Connect(format!("{}: {error}", target(transport))));
            }
            Err(_) => {
                let target = target(transport);
                return Err(CallError::Connect(format!("{target}: not within {CONNECT_TIMEOUT_MS} ms")));
            }
        };
        Line::over(stream, transport.framing(), transport.frame_gap()).await
    }

    /// Takes a stream that is already open.
    pub(super) async fn over(
        stream: impl Stream + 'static,
        framing: Framing,
        gap: Duration,
    ) -> Result<Line, CallError> {
        let mut stream = Shared(Arc::new(Mutex::new(Box::new(stream))));
        let context = match framing {
            Framing::Tcp => tcp::attach_slave(stream.clone(), Slave(0)),
            Framing::Rtu => {
                wait_for_silence(&mut stream).await?;
                rtu::attach_slave(stream.clone(), Slave(0))
            }
        };
        Ok(Line { context, stream, framing, gap, not_before: Instant::now(), raw_transaction: 0x8000 })
    }

    /// Reads `count` coils.
    pub(super) async fn read_coils(
        &mut self,
        unit: u8,
        address: u16,
        count: u16,
        limit: Duration,
    ) -> Result<Vec<bool>, CallError> {
        match self.call(unit, Request::ReadCoils(address, count), limit).await? {
            Response::ReadCoils(bits) => exactly(bits, count),
            other => Err(CallError::WrongAnswer(format!("{other:?} to read coils"))),
        }
    }

    /// Reads `count` discrete inputs.
    pub(super) async fn read_inputs(
        &mut self,
        unit: u8,
        address: u16,
        count: u16,
        limit: Duration,
    ) -> Result<Vec<bool>, CallError> {
        match self.call(unit, Request::ReadDiscreteInputs(address, count), limit).await? {
            Response::ReadDiscreteInputs(bits) => exactly(bits, count),
            other => Err(CallError::WrongAnswer(format!("{other:?} to read inputs"))),
        }
    }

    /// Writes one coil and checks the echo.
    pub(super) async fn write_coil(
        &mut self,
        unit: u8,
        address: u16,
        on: bool,
        limit: Duration,
    ) -> Result<(), CallError> {
        match self.call(unit, Request::WriteSingleCoil(address, on), limit).await? {
            Response::WriteSingleCoil(echo_address, echo_on) if (echo_address, echo_on) == (address, on) => Ok(()),
            other => Err(CallError::WrongAnswer(format!("asked coil {address} := {on}, echo was {other:?}"))),
        }
    }

    /// Writes registers and checks the echo.
    pub(super) async fn write_registers(
        &mut self,
        unit: u8,
        address: u16,
        words: &[u16],
        limit: Duration,
    ) -> Result<(), CallError> {
        let request = Request::WriteMultipleRegisters(address, words.into());
        match self.call(unit, request, limit).await? {
            Response::WriteMultipleRegisters(echo_address, echo_count)
                if echo_address == address && usize::from(echo_count) == words.len() =>
            {
                Ok(())
            }
            other => Err(CallError::WrongAnswer(format!("asked registers at {address}, echo was {other:?}"))),
        }
    }

    /// Sends function 05 with any value and checks that the echo is the request.
    pub(super) async fn write_coil_value(
        &mut self,
        unit: u8,
        address: u16,
        value: u16,
        limit: Duration,
    ) -> Result<(), CallError> {
        let [a0, a1] = address.to_be_bytes();
        let [v0, v1] = value.to_be_bytes();
        self.raw_transaction = self.raw_transaction.wrapping_add(1) | 0x8000;
        let transaction = match self.framing {
            Framing::Tcp => self.raw_transaction,
            Framing::Rtu => 0,
        };
        let request = Adu { transaction, unit, pdu: vec![5, a0, a1, v0, v1] };
        silence_until(self.not_before).await;
        let exchange = raw_exchange(&mut self.stream, self.framing, &request);
        let result = timeout(limit, exchange).await;
        self.not_before = Instant::now() + self.gap;
        let reply = result.map_err(|_| timed_out(limit))??;
        match reply.pdu[..] {
            _ if (reply.transaction, reply.unit) != (request.transaction, request.unit) => {
                Err(CallError::WrongAnswer(format!("answer of unit {} to unit {unit}", reply.unit)))
            }
            [0x85, code] => Err(CallError::Exception(code)),
            _ if reply.pdu == request.pdu => Ok(()),
            _ => Err(CallError::WrongAnswer("the echo of the pulse differs from the request".to_owned())),
        }
    }

    async fn call(&mut self, unit: u8, request: Request<'_>, limit: Duration) -> Result<Response, CallError> {
        self.context.set_slave(Slave(unit));
        silence_until(self.not_before).await;
        let result = timeout(limit, self.context.call(request)).await;
        self.not_before = Instant::now() + self.gap;
        match result {
            Err(_) => Err(timed_out(limit)),
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(exception))) => Err(CallError::Exception(exception.into())),
            Ok(Err(tokio_modbus::Error::Protocol(error))) => Err(CallError::WrongAnswer(error.to_string())),
            Ok(Err(tokio_modbus::Error::Transport(error))) if error.kind() == io::ErrorKind::InvalidData => {
                Err(CallError::WrongAnswer(error.to_string()))
            }
            Ok(Err(tokio_modbus::Error::Transport(error))) => Err(CallError::Broken(error.to_string())),
        }
    }
}

/// Waits out the silence between two frames. A timer that is due already would still wait for its next tick.
async fn silence_until(end: Instant) {
    if Instant::now() < end {
        sleep_until(end).await;
    }
}

fn timed_out(limit: Duration) -> CallError {
    CallError::Timeout { ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) }
}

/// The bits asked for; whole bytes arrive, fewer or more of them is a wrong answer.
fn exactly(mut bits: Vec<bool>, count: u16) -> Result<Vec<bool>, CallError> {
    let (count, got) = (usize::from(count), bits.len());
    if got != count.next_multiple_of(8) {
        return Err(CallError::WrongAnswer(format!("{got} bits came, {count} were asked for")));
    }
    bits.truncate(count);
    Ok(bits)
}

fn target(transport: &Transport) -> &str {
    match transport {
        Transport::Tcp { address } | Transport::RtuOverTcp { address } => address,
        Transport::Rtu { path, .. } => path,
    }
}

async fn open(transport: &Transport) -> io::Result<Box<dyn Stream>> {
    match transport {
        Transport::Tcp { address } | Transport::RtuOverTcp { address } => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Transport::Rtu { path, baud, parity } => {
            let parity = match parity {
                Parity::None => tokio_serial::Parity::None,
                Parity::Even => tokio_serial::Parity::Even,
                Parity::Odd => tokio_serial::Parity::Odd,
            };
            let port = tokio_serial::new(path, *baud)
                .data_bits(DataBits::Eight)
                .stop_bits(StopBits::One)
                .parity(parity)
                .open_native_async()?;
            port.clear(tokio_serial::ClearBuffer::All)?;
            Ok(Box::new(port))
        }
    }
}

async fn wait_for_silence(stream: &mut Shared) -> Result<(), CallError> {
    let quiet = Duration::from_millis(RTU_QUIET_MS);
    let give_up = Instant::now() + Duration::from_millis(RTU_QUIET_MS_MAX);
    let mut dropped = [0u8; FRAME_LEN_BYTES_MAX];
    loop {
        match timeout(quiet, stream.read(&mut dropped)).await {
            Err(_) => return Ok(()),
            Ok(Ok(0)) => return Err(CallError::Broken("closed by the other side".to_owned())),
            Ok(Ok(_)) if Instant::now() < give_up => {}
            Ok(Ok(_)) => {
                let text = format!("the line is not silent for {RTU_QUIET_MS} ms: another master, or noise");
                return Err(CallError::WrongAnswer(text));
            }
            Ok(Err(error)) => return Err(CallError::Broken(error.to_string())),
        }
    }
}

async fn raw_exchange(stream: &mut Shared, framing: Framing, request: &Adu) -> Result<Adu, CallError> {
    let broken = |error: io::Error| CallError::Broken(error.to_string());
    stream.write_all(&frame::encode(framing, request)).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut bytes = Vec::with_capacity(FRAME_LEN_BYTES_MAX);
    let mut chunk = [0u8; FRAME_LEN_BYTES_MAX];
    loop {
        let got = stream.read(&mut chunk).await.map_err(broken)?;
        if got == 0 {
            return Err(CallError::Broken("closed by the other side".to_owned()));
        }
        bytes.extend_from_slice(&chunk[..got]);
        match frame::decode(framing, Direction::Reply, &bytes) {
            Ok(Some((adu, len))) if len == bytes.len() => return Ok(adu),
            Ok(Some(_)) => {
                return Err(CallError::WrongAnswer("bytes follow the answer".to_owned()));
            }
            Ok(None) if bytes.len() <= FRAME_LEN_BYTES_MAX => {}
            Ok(None) => return Err(CallError::WrongAnswer("the answer does not end".to_owned())),
            Err(error) => return Err(CallError::WrongAnswer(error.to_string())),
        }
    }
}

/// Any byte stream a line can run over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One stream held by `tokio-modbus` and by our own exchange. Only one request is in flight, so only one
/// of the two ever polls it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Box<dyn Stream>>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Box<dyn Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared(stream)")
    }
}

impl AsyncRead for Shared {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.lock()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self.lock()).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.lock()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;

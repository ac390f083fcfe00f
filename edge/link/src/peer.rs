//! One connection to one proved peer: a stream per class with priorities, bounded queues both ways.
//!
//! Leaves to others: making connections (`endpoint`), what the frames mean.

use crate::close::{CloseCode, CloseReason, clip};
use crate::frames::{self, FRAME_HEADER_BYTES, FrameError, StreamError, read_body, read_header};
use crate::identity::PeerIdentity;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use yika_crdt::channel::Class;
use yika_crdt::wire::FRAME_BYTES_MAX;

/// Bytes that wait to be sent, per class and connection; `send` waits when they are reached.
pub const SEND_QUEUE_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;
/// Bytes received and not yet taken, per class and connection; the other side waits when they are reached.
pub const RECEIVE_QUEUE_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;
/// What an empty frame counts in both queues, so that their number is bounded too.
pub const FRAME_COST_BYTES_MIN: usize = 64;

/// A frame and the class it came on.
pub type Received = (Class, Vec<u8>);

/// Why a frame was not taken for sending.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The frame is longer than `FRAME_BYTES_MAX`; nothing was sent and the connection lives.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The connection has ended.
    #[error("connection ended: {0}")]
    Closed(CloseReason),
}

/// What went over one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// UDP payload bytes sent, everything included.
    pub wire_sent_bytes: u64,
    /// UDP payload bytes received, everything included.
    pub wire_received_bytes: u64,
    /// Frame bytes handed to the transport, headers included.
    pub frames_sent_bytes: u64,
    /// Frame bytes received, headers included.
    pub frames_received_bytes: u64,
    /// Frames handed to the transport.
    pub frames_sent: u64,
    /// Frames received.
    pub frames_received: u64,
}

/// One live connection. Clones share it; it closes when `close` is called or the last clone is dropped.
#[derive(Clone)]
pub struct Peer(Arc<Shared>);

struct Shared {
    connection: quinn::Connection,
    identity: PeerIdentity,
    protocol: u16,
    software: String,
    closed_by_us: Arc<Mutex<Option<(CloseCode, String)>>>,
    outboxes: [Outbox; Class::ALL.len()],
    inbox: Arc<Inbox>,
    tally: Arc<Tally>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.connection.close(CloseCode::NORMAL.0.into(), b"no longer needed");
    }
}

#[derive(Default)]
struct Tally {
    sent_bytes: AtomicU64,
    sent: AtomicU64,
    received_bytes: AtomicU64,
    received: AtomicU64,
}

type Waiting = (Vec<u8>, OwnedSemaphorePermit);

struct Outbox {
    room: Arc<Semaphore>,
    writer: Mutex<Option<mpsc::UnboundedSender<Waiting>>>,
}

struct Inbox {
    queues: Mutex<[VecDeque<Waiting>; Class::ALL.len()]>,
    rooms: [Arc<Semaphore>; Class::ALL.len()],
    arrived: Notify,
}

impl Peer {
    pub(crate) fn start(
        connection: quinn::Connection,
        identity: PeerIdentity,
        protocol: u16,
        software: String,
        control: (quinn::SendStream, quinn::RecvStream),
    ) -> Self {
        let rooms = |bytes| std::array::from_fn(|_| Arc::new(Semaphore::new(bytes)));
        let inbox =
            Arc::new(Inbox { queues: Mutex::default(), rooms: rooms(RECEIVE_QUEUE_BYTES_MAX), arrived: Notify::new() });
        let tally = Arc::new(Tally::default());
        let closed_by_us = Arc::new(Mutex::new(None));
        let outboxes: [Outbox; Class::ALL.len()] = std::array::from_fn(|_| Outbox {
            room: Arc::new(Semaphore::new(SEND_QUEUE_BYTES_MAX)),
            writer: Mutex::new(None),
        });
        let (sender, queue) = mpsc::unbounded_channel();
        *lock(&outboxes[index(Class::Control)].writer) = Some(sender);
        let (send, receive) = control;
        tokio::spawn(write_class(Source::Open(send), Class::Control, queue, tally.clone()));
        let reader = Reader {
            connection: connection.clone(),
            inbox: inbox.clone(),
            tally: tally.clone(),
            closed_by_us: closed_by_us.clone(),
        };
        tokio::spawn(reader.clone().read_class(receive, Class::Control));
        tokio::spawn(reader.accept_streams());
        Self(Arc::new(Shared { connection, identity, protocol, software, closed_by_us, outboxes, inbox, tally }))
    }

    /// Who is at the other end, as its certificate proved at the handshake.
    pub fn identity(&self) -> &PeerIdentity {
        &self.0.identity
    }

    /// The sync protocol both sides agreed on.
    pub fn protocol(&self) -> u16 {
        self.0.protocol
    }

    /// What the other side calls itself (program and version); for status pages only.
    pub fn software(&self) -> &str {
        &self.0.software
    }

    /// Hands a frame to the class's queue; waits while the queue is full, never drops.
    ///
    /// Order is kept within a class. `Ok` means queued, not delivered: delivery is acknowledged by the sync above.
    /// Cancel safe: a dropped call has queued nothing.
    pub async fn send(&self, class: Class, payload: Vec<u8>) -> Result<(), SendError> {
        frames::header(payload.len())?;
        let outbox = &self.0.outboxes[index(class)];
        let room = tokio::select! {
            biased;
            reason = self.0.connection.closed() => return Err(SendError::Closed(self.explain(reason))),
            room = outbox.room.clone().acquire_many_owned(cost(payload.len())) => room,
        };
        let ended = || SendError::Closed(self.reason_or_local());
        let room = room.map_err(|_| ended())?;
        let sent = {
            let mut writer = lock(&outbox.writer);
            let sender = writer.get_or_insert_with(|| {
                let (sender, queue) = mpsc::unbounded_channel();
                let source = Source::Lazy(self.0.connection.clone());
                tokio::spawn(write_class(source, class, queue, self.0.tally.clone()));
                sender
            });
            sender.send((payload, room))
        };
        sent.map_err(|_| ended())
    }

    /// The next frame, the most urgent class first; `None` after the connection ended and all was taken.
    ///
    /// Cancel safe. One task should call it.
    pub async fn recv(&self) -> Option<Received> {
        self.recv_until(Class::Snapshot).await
    }

    /// The next frame of the classes down to `least`; what came on others stays where it is, and its sender waits.
    ///
    /// Streams overtake each other: what must be heard first is taken so. Cancel safe, as [`Peer::recv`].
    pub async fn recv_until(&self, least: Class) -> Option<Received> {
        loop {
            let arrived = self.0.inbox.arrived.notified();
            if let Some(received) = self.0.inbox.pop(least) {
                return Some(received);
            }
            tokio::select! {
                () = arrived => {}
                _ = self.0.connection.closed() => return self.0.inbox.pop(least),
            }
        }
    }

    /// Ends the connection at once; frames still queued are dropped, code and words reach the other side.
    pub fn close(&self, code: CloseCode, words: &str) {
        close(&self.0.connection, &self.0.closed_by_us, code, words);
    }

    /// Waits for the end and tells why.
    pub async fn closed(&self) -> CloseReason {
        let reason = self.0.connection.closed().await;
        self.explain(reason)
    }

    /// Waits for the end without keeping the connection open.
    pub(crate) fn watch_end(&self) -> impl Future<Output = CloseReason> + Send + use<> {
        let (connection, closed_by_us) = (self.0.connection.clone(), self.0.closed_by_us.clone());
        async move {
            let error = connection.closed().await;
            explain(error, &closed_by_us)
        }
    }

    /// Why it ended, if it did.
    pub fn close_reason(&self) -> Option<CloseReason> {
        Some(self.explain(self.0.connection.close_reason()?))
    }

    /// Where the other side is heard from; may change when it moves.
    pub fn remote_addr(&self) -> SocketAddr {
        self.0.connection.remote_address()
    }

    /// Smoothed round trip.
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// Bytes and frames so far.
    pub fn counters(&self) -> Counters {
        let stats = self.0.connection.stats();
        let tally = &self.0.tally;
        Counters {
            wire_sent_bytes: stats.udp_tx.bytes,
            wire_received_bytes: stats.udp_rx.bytes,
            frames_sent_bytes: tally.sent_bytes.load(Ordering::Relaxed),
            frames_received_bytes: tally.received_bytes.load(Ordering::Relaxed),
            frames_sent: tally.sent.load(Ordering::Relaxed),
            frames_received: tally.received.load(Ordering::Relaxed),
        }
    }

    fn explain(&self, error: quinn::ConnectionError) -> CloseReason {
        explain(error, &self.0.closed_by_us)
    }

    fn reason_or_local(&self) -> CloseReason {
        self.close_reason()
            .unwrap_or(CloseReason::Transport { words: "the stream of this class was stopped".to_owned() })
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({} at {})", self.0.identity, self.remote_addr())
    }
}

impl Inbox {
    fn pop(&self, least: Class) -> Option<Received> {
        let mut queues = lock(&self.queues);
        for (class, queue) in Class::ALL.into_iter().zip(queues.iter_mut()).take_while(|(class, _)| *class <= least) {
            if let Some((payload, _room)) = queue.pop_front() {
                return Some((class, payload));
            }
        }
        None
    }
}

fn explain(error: quinn::ConnectionError, closed_by_us: &Mutex<Option<(CloseCode, String)>>) -> CloseReason {
    match (&error, lock(closed_by_us).clone()) {
        (quinn::ConnectionError::LocallyClosed, Some((code, words))) => CloseReason::ByUs { code, words },
        _ => CloseReason::from_quinn(error),
    }
}

fn close(
    connection: &quinn::Connection,
    closed_by_us: &Mutex<Option<(CloseCode, String)>>,
    code: CloseCode,
    words: &str,
) {
    lock(closed_by_us).get_or_insert_with(|| (code, clip(words).to_owned()));
    connection.close(code.0.into(), clip(words).as_bytes());
}

enum Source {
    Open(quinn::SendStream),
    Lazy(quinn::Connection),
}

/// Writes one class's queue to its stream; ends with the connection.
async fn write_class(
    source: Source,
    class: Class,
    mut queue: mpsc::UnboundedReceiver<Waiting>,
    tally: Arc<Tally>,
) -> Option<()> {
    let mut stream = match source {
        Source::Open(stream) => stream,
        Source::Lazy(connection) => {
            let mut stream = connection.open_uni().await.ok()?;
            stream.set_priority(priority(class)).ok()?;
            stream.write_all(&[class_tag(class)]).await.ok()?;
            stream
        }
    };
    stream.set_priority(priority(class)).ok()?;
    while let Some((payload, room)) = queue.recv().await {
        stream.write_all(&frames::header(payload.len()).ok()?).await.ok()?;
        stream.write_all(&payload).await.ok()?;
        tally.sent.fetch_add(1, Ordering::Relaxed);
        tally.sent_bytes.fetch_add((payload.len() + FRAME_HEADER_BYTES) as u64, Ordering::Relaxed);
        drop(room);
    }
    Some(())
}

#[derive(Clone)]
struct Reader {
    connection: quinn::Connection,
    inbox: Arc<Inbox>,
    tally: Arc<Tally>,
    closed_by_us: Arc<Mutex<Option<(CloseCode, String)>>>,
}

impl Reader {
    /// Takes the other side's class streams, each class once.
    async fn accept_streams(self) {
        let mut taken = [false; Class::ALL.len()];
        taken[index(Class::Control)] = true;
        while let Ok(mut stream) = self.connection.accept_uni().await {
            let mut tag = [0];
            if stream.read_exact(&mut tag).await.is_err() {
                return self.refuse(CloseCode::MALFORMED, "a stream ended before it named its class");
            }
            let class = Class::ALL.into_iter().find(|class| class_tag(*class) == tag[0]);
            match class {
                Some(class) if !taken[index(class)] => {
                    taken[index(class)] = true;
                    tokio::spawn(self.clone().read_class(stream, class));
                }
                Some(_) => return self.refuse(CloseCode::MALFORMED, "two streams of one class"),
                None => return self.refuse(CloseCode::MALFORMED, "a stream of no known class"),
            }
        }
    }

    async fn read_class(self, mut stream: quinn::RecvStream, class: Class) {
        let room = &self.inbox.rooms[index(class)];
        loop {
            let bytes = match read_header(&mut stream, FRAME_BYTES_MAX).await {
                Ok(bytes) => bytes,
                Err(StreamError::Frame(error)) => return self.refuse_frame(&error),
                Err(StreamError::Ended) => {
                    return self.refuse(CloseCode::MALFORMED, "a class stream ended before its connection");
                }
            };
            // The room is given back by a holder that may be gone: without the second arm this task
            // would outlive its connection and keep the queue alive.
            let room = tokio::select! {
                room = room.clone().acquire_many_owned(cost(bytes)) => room,
                _ = self.connection.closed() => return,
            };
            let Ok(room) = room else { return };
            let Ok(payload) = read_body(&mut stream, bytes).await else {
                return self.refuse(CloseCode::MALFORMED, "a frame ended before its length");
            };
            self.tally.received.fetch_add(1, Ordering::Relaxed);
            self.tally.received_bytes.fetch_add((bytes + FRAME_HEADER_BYTES) as u64, Ordering::Relaxed);
            lock(&self.inbox.queues)[index(class)].push_back((payload, room));
            self.inbox.arrived.notify_one();
        }
    }

    fn refuse_frame(&self, error: &FrameError) {
        let code = match error {
            FrameError::TooLong { .. } => CloseCode::FRAME_TOO_LONG,
            FrameError::Version(_) => CloseCode::MALFORMED,
        };
        self.refuse(code, &error.to_string());
    }

    fn refuse(&self, code: CloseCode, words: &str) {
        if self.connection.close_reason().is_none() {
            tracing::warn!(remote = %self.connection.remote_address(), %code, words, "connection closed");
            close(&self.connection, &self.closed_by_us, code, words);
        }
    }
}

fn cost(payload_bytes: usize) -> u32 {
    u32::try_from(payload_bytes.max(FRAME_COST_BYTES_MIN)).unwrap_or(u32::MAX)
}

/// The byte that opens a class's stream; also its rank, 0 the most urgent.
fn class_tag(class: Class) -> u8 {
    match class {
        Class::Control => 0,
        Class::Blocks => 1,
        Class::Rights => 2,
        Class::Journal => 3,
        Class::Documents => 4,
        Class::Snapshot => 5,
    }
}

fn priority(class: Class) -> i32 {
    -i32::from(class_tag(class))
}

fn index(class: Class) -> usize {
    usize::from(class_tag(class))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

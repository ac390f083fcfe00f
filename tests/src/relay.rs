//! A seeded UDP relay between real processes: delay, loss, duplication, reordering, rate limit and cuts
//! per direction, adjustable while it runs. Decisions come from the seed and the order of arrival;
//! the moment of delivery comes from the real clock. The words of the binary `yika-relay` are in `orders`.

pub mod orders;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Largest UDP payload, so that nothing is truncated.
const DATAGRAM_BYTES: usize = 65_535;
/// Packets held for later delivery in one direction of one client; more are dropped.
pub const HELD_PACKETS: usize = 16_384;
/// Clients (addresses) served in the life of a relay, a socket each; packets of further ones are dropped.
pub const CLIENTS: usize = 1_024;
const PER_MILLION: u64 = 1_000_000;

/// Faults of one direction. The default is a perfect link. Chances are in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    pub cut: bool,
    pub loss_ppm: u32,
    pub duplicate_ppm: u32,
    /// Such a packet is held back by `reorder_ms`, so that later ones overtake it.
    pub reorder_ppm: u32,
    pub reorder_ms: u32,
    pub delay_ms: u32,
    /// Up to this much is added to the delay; on its own it does not reorder.
    pub jitter_ms: u32,
    /// Zero is unlimited.
    pub rate_bytes_per_s: u64,
    /// Bytes that may wait for the rate limit; beyond it the tail is dropped.
    pub queue_bytes: u64,
}

/// Faults of both directions; `up` is client to target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub up: Direction,
    pub down: Direction,
}

impl Faults {
    /// The same faults both ways.
    #[must_use]
    pub fn both(direction: Direction) -> Self {
        Self { up: direction, down: direction }
    }
}

/// What a relay holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub clients: usize,
    /// In one direction of one client.
    pub held_packets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { clients: CLIENTS, held_packets: HELD_PACKETS }
    }
}

/// What the relay did, both directions summed. Received and duplicated packets are those forwarded, dropped
/// and still held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub received: u64,
    pub forwarded: u64,
    pub dropped: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub bytes: u64,
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

struct Shared {
    limits: Limits,
    faults: Mutex<Faults>,
    counters: Mutex<Counters>,
    draw: Mutex<[SplitMix; 2]>,
}

/// A running relay; it stops when this value is dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Listens on `127.0.0.1:port` (0 lets the system choose) and forwards to `target`.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub async fn start(port: u16, target: SocketAddr, seed: u64) -> io::Result<Self> {
        Self::start_within(port, target, seed, Limits::default()).await
    }

    /// As [`Relay::start`], with limits of its own.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub async fn start_within(port: u16, target: SocketAddr, seed: u64, limits: Limits) -> io::Result<Self> {
        let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await?);
        let address = front.local_addr()?;
        let shared = Arc::new(Shared {
            limits,
            faults: Mutex::default(),
            counters: Mutex::default(),
            draw: Mutex::new([SplitMix(seed), SplitMix(!seed)]),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(front, target, Arc::clone(&shared)));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces all faults, cuts included; packets under way keep their delivery time.
    pub fn set(&self, faults: Faults) {
        *lock(&self.shared.faults) = faults;
    }

    #[must_use]
    pub fn faults(&self) -> Faults {
        *lock(&self.shared.faults)
    }

    /// Cuts both ways; packets under way are lost.
    pub fn cut(&self) {
        self.cut_ways(true, true);
    }

    /// Cuts the chosen ways and joins the others.
    pub fn cut_ways(&self, up: bool, down: bool) {
        let mut faults = lock(&self.shared.faults);
        faults.up.cut = up;
        faults.down.cut = down;
    }

    /// Joins both ways again and leaves the other faults as they are.
    pub fn heal(&self) {
        self.cut_ways(false, false);
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        *lock(&self.shared.counters)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn direction(&self, way: Way) -> Direction {
        let faults = lock(&self.faults);
        match way {
            Way::Up => faults.up,
            Way::Down => faults.down,
        }
    }

    fn draws(&self, way: Way) -> Draws {
        Draws::take(&mut lock(&self.draw)[way as usize])
    }

    fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut lock(&self.counters));
    }
}

async fn accept(front: Arc<UdpSocket>, target: SocketAddr, shared: Arc<Shared>) {
    let mut clients: BTreeMap<SocketAddr, Pipe> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        // An error here is an ICMP answer to an earlier send: UDP goes on.
        let Ok((n, client)) = front.recv_from(&mut buffer).await else {
            continue;
        };
        if !clients.contains_key(&client) {
            let room = clients.len() < shared.limits.clients;
            let back = if room { UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok() } else { None };
            let Some(back) = back else {
                shared.count(|c| (c.received, c.dropped) = (c.received + 1, c.dropped + 1));
                continue;
            };
            let back = Arc::new(back);
            let up = Pipe::start(&mut tasks, Arc::clone(&back), target, Way::Up, &shared);
            let down = Pipe::start(&mut tasks, Arc::clone(&front), client, Way::Down, &shared);
            tasks.spawn(answers(back, target, down));
            clients.insert(client, up);
        }
        if let Some(pipe) = clients.get_mut(&client) {
            pipe.push(&buffer[..n]);
        }
    }
}

async fn answers(back: Arc<UdpSocket>, target: SocketAddr, mut pipe: Pipe) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        if let Ok((n, from)) = back.recv_from(&mut buffer).await
            && from == target
        {
            pipe.push(&buffer[..n]);
        }
    }
}

type Held = Reverse<(Instant, u64, Vec<u8>)>;

/// One direction of one client: decides at arrival, delivers in a task of its own.
struct Pipe {
    way: Way,
    shared: Arc<Shared>,
    queue: mpsc::UnboundedSender<Held>,
    /// Packets in the queue and in the delivering task, which together have one limit.
    held: Arc<AtomicUsize>,
    order: u64,
    last_due: Instant,
    line_free: Instant,
}

impl Pipe {
    fn start(tasks: &mut JoinSet<()>, socket: Arc<UdpSocket>, to: SocketAddr, way: Way, shared: &Arc<Shared>) -> Self {
        let (queue, arrivals) = mpsc::unbounded_channel();
        let held = Arc::default();
        tasks.spawn(deliver(arrivals, Arc::clone(&held), socket, to, way, Arc::clone(shared)));
        let now = Instant::now();
        Self { way, shared: Arc::clone(shared), queue, held, order: 0, last_due: now, line_free: now }
    }

    fn push(&mut self, packet: &[u8]) {
        self.shared.count(|c| c.received += 1);
        let faults = self.shared.direction(self.way);
        let draws = self.shared.draws(self.way);
        let now = Instant::now();
        let Some(sent) = self.admit(&faults, &draws, packet.len(), now) else {
            self.shared.count(|c| c.dropped += 1);
            return;
        };
        let jitter_us = draws.jitter % (u64::from(faults.jitter_ms) * 1_000 + 1);
        let mut due = sent + Duration::from_millis(faults.delay_ms.into()) + Duration::from_micros(jitter_us);
        if draws.reorder < u64::from(faults.reorder_ppm) {
            due += Duration::from_millis(faults.reorder_ms.into());
            self.shared.count(|c| c.reordered += 1);
        } else {
            due = due.max(self.last_due);
            self.last_due = due;
        }
        self.hold(due, packet);
        if draws.duplicate < u64::from(faults.duplicate_ppm) {
            self.shared.count(|c| c.duplicated += 1);
            self.hold(due, packet);
        }
    }

    /// When the packet has left the rate limiter, or nothing when it is lost.
    fn admit(&mut self, faults: &Direction, draws: &Draws, bytes: usize, now: Instant) -> Option<Instant> {
        if faults.cut || draws.loss < u64::from(faults.loss_ppm) {
            return None;
        }
        if faults.rate_bytes_per_s == 0 {
            return Some(now);
        }
        let start = self.line_free.max(now);
        let waiting = (start - now).as_micros() * u128::from(faults.rate_bytes_per_s) / 1_000_000;
        if waiting + bytes as u128 > u128::from(faults.queue_bytes) {
            return None;
        }
        let micros = bytes as u64 * 1_000_000 / faults.rate_bytes_per_s;
        self.line_free = start + Duration::from_micros(micros);
        Some(self.line_free)
    }

    fn hold(&mut self, due: Instant, packet: &[u8]) {
        self.order += 1;
        if self.held.load(Ordering::Relaxed) < self.shared.limits.held_packets {
            self.held.fetch_add(1, Ordering::Relaxed);
            // The receiving task ends only together with the relay.
            let _ = self.queue.send(Reverse((due, self.order, packet.to_vec())));
        } else {
            self.shared.count(|c| c.dropped += 1);
        }
    }
}

async fn deliver(
    mut queue: mpsc::UnboundedReceiver<Held>,
    held: Arc<AtomicUsize>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    way: Way,
    shared: Arc<Shared>,
) {
    let mut heap: BinaryHeap<Held> = BinaryHeap::new();
    loop {
        let next = heap.peek().map(|Reverse((due, ..))| *due);
        tokio::select! {
            biased;
            arrived = queue.recv() => match arrived {
                Some(packet) => heap.push(packet),
                None => return,
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let Some(Reverse((_, _, packet))) = heap.pop() else { continue };
                held.fetch_sub(1, Ordering::Relaxed);
                let lost = shared.direction(way).cut || socket.send_to(&packet, to).await.is_err();
                shared.count(|c| if lost { c.dropped += 1 } else {
                    c.forwarded += 1;
                    c.bytes += packet.len() as u64;
                });
            }
        }
    }
}

/// All chances of one packet, always drawn together so that one fault does not shift the others.
struct Draws {
    loss: u64,
    duplicate: u64,
    reorder: u64,
    jitter: u64,
}

impl Draws {
    fn take(source: &mut SplitMix) -> Self {
        Self {
            loss: source.next() % PER_MILLION,
            duplicate: source.next() % PER_MILLION,
            reorder: source.next() % PER_MILLION,
            jitter: source.next(),
        }
    }
}

struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

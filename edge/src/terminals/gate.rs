//! Who may ask: key, signature, standing, clock and replay, in this order.
//!
//! Keys are opened once and kept in memory; the feed that brings a new one empties that memory. Leaves to others: what
//! is asked (`http`), sealing of keys (`node`).

use super::Terminals;
use super::nonces::{Nonces, Verdict};
use super::refusal::{Code, Refusal};
use super::route::Route;
use crate::node::{EdgeNode, TerminalKey};
use axum::http::HeaderMap;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use tokio::sync::broadcast::error::RecvError;
use yika_crdt::channel::Channel;
use yika_crdt::entry::{TerminalRecord, TerminalState};
use yika_crdt::ids::TerminalId;
use yika_drivers::terminal::sign::{KEY_LEN_BYTES, Signed};
use zeroize::Zeroizing;

/// A request may be stamped this much before the box's time: the terminal's clock is behind, or the way was slow.
pub const CLOCK_BEHIND_MS_MAX: i64 = 60_000;
/// A request may be stamped this much after the box's time. Small, because it bounds what a replay after a restart
/// can be; a terminal sets its clock by every answer.
pub const CLOCK_AHEAD_MS_MAX: i64 = 5_000;

/// An opened key and its version.
type Key = (u16, Arc<Zeroizing<[u8; KEY_LEN_BYTES]>>);

/// Who signed a request, and when.
pub(super) struct Caller {
    pub(super) record: TerminalRecord,
    pub(super) signed: Signed,
    pub(super) key: Arc<Zeroizing<[u8; KEY_LEN_BYTES]>>,
    /// The box's time at arrival.
    pub(super) now_ms: i64,
    /// How far the terminal's clock was ahead.
    pub(super) ahead_ms: i64,
}

/// Why nobody is let in; with the caller where the signature holds, so that the refusal can be signed.
pub(super) struct Denied {
    pub(super) refusal: Refusal,
    pub(super) caller: Option<Box<Caller>>,
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Denied { refusal, caller: None }
    }
}

/// A request as it arrived.
pub(super) struct Arrived<'a> {
    pub(super) route: Route,
    pub(super) method: &'a str,
    /// Path and query as in the request line.
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

/// Opened keys, as of the last word on any of them.
#[derive(Default)]
struct OpenedKeys {
    keys: BTreeMap<TerminalId, Key>,
    /// How often all were forgotten: a key that was read before that may be an old one.
    forgotten: u64,
}

impl OpenedKeys {
    /// Keeps a key that was read when they had been forgotten so often.
    fn keep(&mut self, terminal: TerminalId, key: Key, forgotten: u64) {
        if forgotten == self.forgotten {
            self.keys.insert(terminal, key);
        }
    }

    fn forget(&mut self) {
        self.keys.clear();
        self.forgotten += 1;
    }
}

/// Keys and nonces.
pub(super) struct Gate {
    keys: RwLock<OpenedKeys>,
    nonces: Mutex<Nonces>,
}

impl Gate {
    pub(super) fn new(now_ms: i64) -> Gate {
        Gate { keys: RwLock::default(), nonces: Mutex::new(Nonces::new(now_ms, CLOCK_BEHIND_MS_MAX)) }
    }

    pub(super) fn admit(&self, node: &EdgeNode, arrived: &Arrived<'_>) -> Result<Caller, Denied> {
        let caller = self.identify(node, arrived)?;
        let checked = check_standing(arrived.route, &caller).and_then(|()| self.check_time(arrived.route, &caller));
        match checked {
            Ok(()) => Ok(caller),
            Err(refusal) => Err(Denied { refusal, caller: Some(Box::new(caller)) }),
        }
    }

    /// Whose request it is, proved by its signature.
    fn identify(&self, node: &EdgeNode, arrived: &Arrived<'_>) -> Result<Caller, Refusal> {
        let signed = Signed::parse(|name| single(arrived.headers, name))?;
        let terminal = TerminalId(signed.terminal);
        let registry = node.registry();
        let record = registry.terminals.get(&terminal).ok_or(Code::UnknownTerminal)?;
        if Some(record.campus) != node.place().campus {
            return Err(Code::OtherCampus.into());
        }
        let (version, key) = self.key(node, terminal)?.ok_or(Code::UnknownTerminal)?;
        if version != signed.key_version {
            return Err(Code::WrongKeyVersion.into());
        }
        signed.verify(&key, arrived.method, arrived.path, arrived.body)?;
        let now_ms = node.time().0;
        let ahead_ms = signed.time_ms.saturating_sub(now_ms);
        Ok(Caller { record: record.clone(), signed, key, now_ms, ahead_ms })
    }

    fn key(&self, node: &EdgeNode, terminal: TerminalId) -> Result<Option<Key>, Refusal> {
        let forgotten = {
            let opened = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(kept) = opened.keys.get(&terminal) {
                return Ok(Some(kept.clone()));
            }
            opened.forgotten
        };
        let Some(opened) = node.terminal_key(terminal)? else { return Ok(None) };
        let Some(key) = fixed(&opened) else {
            tracing::warn!(%terminal, "the terminal's key is not {KEY_LEN_BYTES} bytes; register the terminal again");
            return Ok(None);
        };
        self.keys.write().unwrap_or_else(PoisonError::into_inner).keep(terminal, key.clone(), forgotten);
        Ok(Some(key))
    }

    fn forget_keys(&self) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).forget();
    }

    fn check_time(&self, route: Route, caller: &Caller) -> Result<(), Refusal> {
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        nonces.follow(caller.now_ms);
        let in_window = (-CLOCK_BEHIND_MS_MAX..=CLOCK_AHEAD_MS_MAX).contains(&caller.ahead_ms);
        if !in_window {
            let (far_ms, is_behind) = (caller.ahead_ms.unsigned_abs(), caller.ahead_ms < 0);
            let (zh, en) = if is_behind { ("慢", "behind") } else { ("快", "ahead") };
            let far = || {
                Refusal::because(Code::StaleClock, format!("终端时钟{zh} {far_ms} 毫秒"), format!("{far_ms} ms {en}"))
            };
            return if route.tolerates_drift() { Ok(()) } else { Err(far()) };
        }
        let Signed { time_ms, nonce, .. } = caller.signed;
        match nonces.take(caller.record.terminal, time_ms, nonce, caller.now_ms) {
            Verdict::Fresh => Ok(()),
            Verdict::TooOld if route.tolerates_drift() => Ok(()),
            Verdict::TooOld => {
                Err(Refusal::because(Code::StaleClock, "早于本节点还记得的时间", "older than what this box remembers"))
            }
            Verdict::Seen => Err(Code::Replayed.into()),
        }
    }
}

/// Empties the memory of keys whenever the feed that brings them has grown.
pub(super) fn watch_keys(terminals: &Arc<Terminals>) {
    let mut grown = terminals.node.ears().grown.subscribe();
    let ours = Channel::Receipts(terminals.node.place().node);
    let terminals: Weak<Terminals> = Arc::downgrade(terminals);
    tokio::spawn(async move {
        loop {
            match grown.recv().await {
                Ok(feed) if feed.channel != ours => {}
                Err(RecvError::Closed) => return,
                Ok(_) | Err(RecvError::Lagged(_)) => match terminals.upgrade() {
                    Some(terminals) => terminals.gate.forget_keys(),
                    None => return,
                },
            }
        }
    });
}

fn check_standing(route: Route, caller: &Caller) -> Result<(), Refusal> {
    let locked = match caller.record.state {
        TerminalState::Deployed => None,
        TerminalState::Suspended => Some(Code::Suspended),
        TerminalState::Scrapped => Some(Code::Scrapped),
    };
    match locked.filter(|_| !route.serves_locked()) {
        Some(code) => Err(code.into()),
        None if !route.serves(caller.record.kind) => Err(Code::WrongKind.into()),
        None => Ok(()),
    }
}

fn fixed((version, key): &TerminalKey) -> Option<Key> {
    let bytes = <[u8; KEY_LEN_BYTES]>::try_from(key.as_slice()).ok()?;
    Some((*version, Arc::new(Zeroizing::new(bytes))))
}

/// The one value of a header.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() {
        return None;
    }
    first.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_read_before_a_new_one_came_is_not_kept_after_it() {
        let terminal = TerminalId(1);
        let key = |version| -> Key { (version, Arc::new(Zeroizing::new([0; KEY_LEN_BYTES]))) };
        let mut opened = OpenedKeys::default();
        // A request has read the row of version 1; before it keeps it, version 2 is stored and all are forgotten.
        let read_at = opened.forgotten;
        opened.forget();
        opened.keep(terminal, key(1), read_at);
        assert!(opened.keys.is_empty());
        opened.keep(terminal, key(2), opened.forgotten);
        assert_eq!(opened.keys.get(&terminal).map(|kept| kept.0), Some(2));
    }
}

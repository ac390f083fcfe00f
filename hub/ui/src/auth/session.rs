//! Sessions: a random token in the browser, its SHA-256 here and, where they outlive a restart, in a file.
//!
//! A read of this memory or file gives nobody a usable cookie. The file is a convenience: what is lost of it makes somebody
//! sign in again, so a disk that refuses it stops nothing. Only who signs out waits for it, so that no crash brings back a
//! session that was said to be over. It counts within one boot of the machine only: a clock that stood still while the power
//! was off would lengthen every session. So it needs no sync: it has to outlive the process, not the power.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::password::PasswordError;

/// Sessions at the same time. At the bound the one longest idle ends.
pub const SESSIONS_MAX: usize = 2_000;

/// Use of a session is written down at most so often: that much of its idle time is given back by a restart.
const NOTED_EVERY_MS: u64 = 60_000;
/// A sign-out waits so long for a disk that hangs.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Differs at each boot of the machine.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";
/// A session that was used this far in the future was not: the clock was set back.
const AHEAD_MS_MAX: u64 = 60_000;

/// How long a session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionPolicy {
    /// Without a request.
    pub idle_ms: u64,
    /// In all.
    pub absolute_ms: u64,
}

impl Default for SessionPolicy {
    /// Half an hour idle, twelve hours in all.
    fn default() -> Self {
        SessionPolicy { idle_ms: 30 * 60_000, absolute_ms: 12 * 3_600_000 }
    }
}

/// The secret of a session, as it stands in the cookie: 64 hexadecimal digits. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken(String);

impl SessionToken {
    /// The cookie's value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionToken(…)")
    }
}

/// A session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Whose.
    pub operator_id: String,
    /// The operator's credential epoch when it began.
    pub credential_epoch: u64,
    /// Secret that every non-GET request must send: made of the token, so that nobody else keeps it.
    pub csrf: [u8; 32],
}

/// What is kept of a session under the hash of its token.
#[derive(Debug, Clone)]
struct Kept {
    operator_id: String,
    credential_epoch: u64,
    begun_ms: u64,
    seen_ms: u64,
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    policy: SessionPolicy,
    held: Arc<Mutex<Held>>,
    keeper: Option<Keeper>,
}

#[derive(Debug, Default)]
struct Held {
    by_hash: HashMap<[u8; 32], Kept>,
    noted_ms: u64,
    /// Sign-outs to be told when the file has followed.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Sessions {
    /// None yet; they end with the process.
    pub fn new(policy: SessionPolicy) -> Sessions {
        Sessions { policy, held: Arc::default(), keeper: None }
    }

    /// Those that a file remembers of this boot and that have not ended; the file follows from here on.
    pub fn kept_in(file: PathBuf, policy: SessionPolicy, now_ms: u64) -> Sessions {
        let boot = std::fs::read_to_string(BOOT_ID_FILE).unwrap_or_default();
        Sessions::kept_since(file, policy, now_ms, boot.trim())
    }

    fn kept_since(file: PathBuf, policy: SessionPolicy, now_ms: u64, boot: &str) -> Sessions {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "sessions cannot be read; operators sign in again");
                String::new()
            }
        };
        let mut sessions = Sessions::new(policy);
        let mut lines = text.lines();
        if !boot.is_empty() && lines.next() == Some(boot) {
            let read = lines.filter_map(parsed).take(SESSIONS_MAX);
            let alive =
                |kept: &Kept| kept.seen_ms <= now_ms.saturating_add(AHEAD_MS_MAX) && !sessions.ended(kept, now_ms);
            let by_hash = read.filter(|(_, kept)| alive(kept)).collect();
            sessions.lock().by_hash = by_hash;
        }
        sessions.keeper = Keeper::start(file, boot.to_owned(), Arc::clone(&sessions.held));
        sessions
    }

    /// Opens a session.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn open(&self, operator_id: &str, credential_epoch: u64, now_ms: u64) -> Result<SessionToken, PasswordError> {
        let token = SessionToken(hex::encode(random_32()?));
        let kept = Kept { operator_id: operator_id.to_owned(), credential_epoch, begun_ms: now_ms, seen_ms: now_ms };
        let mut held = self.lock();
        let sessions = &mut held.by_hash;
        if sessions.len() >= SESSIONS_MAX {
            sessions.retain(|_, kept| !self.ended(kept, now_ms));
        }
        if sessions.len() >= SESSIONS_MAX {
            let idle = sessions.iter().min_by_key(|(_, kept)| kept.seen_ms);
            if let Some(hash) = idle.map(|(hash, _)| *hash) {
                sessions.remove(&hash);
            }
        }
        sessions.insert(hash_of(token.as_str()), kept);
        self.note(&mut held, now_ms);
        Ok(token)
    }

    /// The session of a token, marked as used; `None` if unknown or ended.
    pub fn touch(&self, token: &str, now_ms: u64) -> Option<Session> {
        self.find(token, now_ms, true)
    }

    /// The same without marking it as used: a page that refreshes itself must not keep an operator who
    /// left his desk signed in.
    pub fn peek(&self, token: &str, now_ms: u64) -> Option<Session> {
        self.find(token, now_ms, false)
    }

    fn find(&self, token: &str, now_ms: u64, used: bool) -> Option<Session> {
        let hash = hash_of(token);
        let mut held = self.lock();
        let kept = held.by_hash.get_mut(&hash)?;
        if self.ended(kept, now_ms) {
            held.by_hash.remove(&hash);
            return None;
        }
        if used {
            kept.seen_ms = now_ms;
        }
        let kept = kept.clone();
        if used && now_ms >= held.noted_ms.saturating_add(NOTED_EVERY_MS) {
            self.note(&mut held, now_ms);
        }
        let (operator_id, credential_epoch) = (kept.operator_id, kept.credential_epoch);
        Some(Session { operator_id, credential_epoch, csrf: csrf_of(token) })
    }

    /// Ends one session.
    pub fn end(&self, token: &str) {
        let mut held = self.lock();
        held.by_hash.remove(&hash_of(token));
        let noted_ms = held.noted_ms;
        self.note(&mut held, noted_ms);
    }

    /// Ends one session; returns when no crash brings it back.
    pub async fn end_for_good(&self, token: &str) {
        if self.keeper.is_none() {
            return self.end(token);
        }
        let (written, heard) = oneshot::channel();
        self.lock().waiting.push(written);
        self.end(token);
        if !matches!(tokio::time::timeout(WRITE_WAIT_MAX, heard).await, Ok(Ok(()))) {
            tracing::warn!("the file of sessions does not follow; a crash may bring back one that was signed out");
        }
    }

    /// Ends all sessions of an operator.
    pub fn end_operator(&self, operator_id: &str) {
        let mut held = self.lock();
        held.by_hash.retain(|_, kept| kept.operator_id != operator_id);
        let noted_ms = held.noted_ms;
        self.note(&mut held, noted_ms);
    }

    /// Sessions held, ended ones that nobody asked for included.
    pub fn len(&self) -> usize {
        self.lock().by_hash.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn ended(&self, kept: &Kept, now_ms: u64) -> bool {
        now_ms >= kept.seen_ms.saturating_add(self.policy.idle_ms)
            || now_ms >= kept.begun_ms.saturating_add(self.policy.absolute_ms)
    }

    /// Has what is held written down, where it outlives the process.
    fn note(&self, held: &mut Held, now_ms: u64) {
        if let Some(keeper) = &self.keeper {
            held.noted_ms = now_ms;
            keeper.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that writes the file: requests only tell it that something has changed.
#[derive(Debug)]
struct Keeper {
    /// Room for one word: a second change before the first is written is written with it.
    changed: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    fn start(file: PathBuf, boot: String, held: Arc<Mutex<Held>>) -> Option<Keeper> {
        let (changed, changes) = sync_channel(1);
        let work = move || keep(&file, &boot, &held, &changes);
        match std::thread::Builder::new().name("sessions".into()).spawn(work) {
            Ok(thread) => Some(Keeper { changed: Some(changed), thread: Some(thread) }),
            Err(error) => {
                tracing::warn!(%error, "sessions cannot be kept; they end with the process");
                None
            }
        }
    }

    fn wake(&self) {
        // Full: what is there to be written includes this.
        let _ = self.changed.as_ref().map(|changed| changed.try_send(()));
    }
}

impl Drop for Keeper {
    /// The last change is written before the sessions are gone.
    fn drop(&mut self) {
        self.changed = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep(file: &Path, boot: &str, held: &Mutex<Held>, changes: &Receiver<()>) {
    while changes.recv().is_ok() {
        let (sessions, waiting) = {
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            (held.by_hash.clone(), std::mem::take(&mut held.waiting))
        };
        let written = write(file, boot, &sessions).or_else(|error| {
            tracing::warn!(file = %file.display(), %error, "sessions cannot be kept; they end with the process");
            // An older file would bring back who has signed out; a full disk still lets it go.
            remove(file)
        });
        match written {
            Ok(()) => waiting.into_iter().for_each(|waiting| _ = waiting.send(())),
            Err(error) => tracing::warn!(file = %file.display(), %error, "an old file of sessions cannot be removed"),
        }
    }
}

/// The boot, then a line a session: hash of its token, operator, credential epoch, begun, last used.
fn write(file: &Path, boot: &str, sessions: &HashMap<[u8; 32], Kept>) -> std::io::Result<()> {
    let mut text = format!("{boot}\n");
    for (hash, k) in sessions {
        // Writing into a text does not fail.
        let hash = hex::encode(hash);
        let _ = writeln!(text, "{hash}\t{}\t{}\t{}\t{}", k.operator_id, k.credential_epoch, k.begun_ms, k.seen_ms);
    }
    let part = file.with_extension("part");
    let mut out = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    out.write_all(text.as_bytes())?;
    std::fs::rename(&part, file)
}

fn remove(file: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn parsed(line: &str) -> Option<([u8; 32], Kept)> {
    let mut parts = line.split('\t');
    let hash = hex::decode(parts.next()?).ok()?.try_into().ok()?;
    let operator_id = parts.next()?.to_owned();
    let mut number = || parts.next()?.parse::<u64>().ok();
    let kept = Kept { operator_id, credential_epoch: number()?, begun_ms: number()?, seen_ms: number()? };
    Some((hash, kept))
}

/// 32 random bytes of the operating system.
pub(crate) fn random_32() -> Result<[u8; 32], PasswordError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| PasswordError::Random(error.to_string()))?;
    Ok(bytes)
}

fn hash_of(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The form secret of a token, which does not tell the token.
fn csrf_of(token: &str) -> [u8; 32] {
    Sha256::new().chain_update(b"yika form secret 1 ").chain_update(token.as_bytes()).finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // tests may panic
    use super::*;

    const MINUTE_MS: u64 = 60_000;

    #[test]
    fn idle_and_absolute_ends() {
        let sessions = Sessions::new(SessionPolicy::default());
        let token = sessions.open("o1", 0, 0).unwrap();
        let mut now = 0;
        while now + 29 * MINUTE_MS < 12 * 60 * MINUTE_MS {
            now += 29 * MINUTE_MS;
            assert!(sessions.touch(token.as_str(), now).is_some(), "at {now}");
        }
        assert!(sessions.touch(token.as_str(), 12 * 60 * MINUTE_MS).is_none());
        let token = sessions.open("o1", 0, 0).unwrap();
        assert!(sessions.touch(token.as_str(), 30 * MINUTE_MS).is_none());
        assert!(sessions.is_empty());
    }

    #[test]
    fn the_bound_ends_the_longest_idle() {
        let sessions = Sessions::new(SessionPolicy::default());
        let first = sessions.open("o1", 0, 0).unwrap();
        let second = sessions.open("o1", 0, 1).unwrap();
        for _ in 2..SESSIONS_MAX {
            sessions.open("o2", 0, 2).unwrap();
        }
        assert!(sessions.touch(first.as_str(), 3).is_some());
        sessions.open("o3", 0, 4).unwrap();
        assert_eq!(sessions.len(), SESSIONS_MAX);
        assert!(sessions.touch(second.as_str(), 5).is_none());
        assert!(sessions.touch(first.as_str(), 5).is_some());
    }

    #[test]
    fn the_token_is_not_kept_and_not_printed() {
        let sessions = Sessions::new(SessionPolicy::default());
        let token = sessions.open("o1", 0, 0).unwrap();
        assert_eq!(token.as_str().len(), 64);
        assert!(!format!("{sessions:?}{token:?}").contains(token.as_str()));
        sessions.end_operator("o1");
        assert!(sessions.touch(token.as_str(), 1).is_none());
    }

    /// The sessions are leaked, as a crash would leave them: nothing is written at an orderly end.
    #[tokio::test]
    async fn a_crash_after_a_sign_out_brings_no_session_back() {
        let dir = std::env::temp_dir().join(format!("yika-sign-out-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("sessions");
        let start = || Sessions::kept_in(file.clone(), SessionPolicy::default(), 0);
        let before: &Sessions = Box::leak(Box::new(start()));
        let others: Vec<_> = (0..200).map(|_| before.open("o1", 0, 0).unwrap()).collect();
        let stays = before.open("o2", 0, 0).unwrap();
        for token in others {
            before.end_for_good(token.as_str()).await;
            assert!(start().peek(token.as_str(), 0).is_none(), "signed out");
        }
        assert!(start().peek(stays.as_str(), 0).is_some());

        std::fs::create_dir(file.with_extension("part")).unwrap();
        before.end_for_good(stays.as_str()).await;
        assert!(start().is_empty(), "a file that cannot follow is gone");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_restart_ends_no_session_and_lengthens_none() {
        let dir = std::env::temp_dir().join(format!("yika-sessions-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("sessions");
        let start = |now| Sessions::kept_in(file.clone(), SessionPolicy::default(), now);
        let before = start(0);
        let token = before.open("o1", 7, 0).unwrap();
        let gone = before.open("o2", 1, 0).unwrap();
        before.touch(token.as_str(), 2 * MINUTE_MS).unwrap();
        before.end(gone.as_str());
        let csrf = before.peek(token.as_str(), 2 * MINUTE_MS).unwrap().csrf;
        drop(before);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(token.as_str()) && !text.contains(&hex::encode(csrf)), "{text}");

        let after = start(20 * MINUTE_MS);
        let session = after.peek(token.as_str(), 20 * MINUTE_MS).unwrap();
        assert_eq!((session.operator_id.as_str(), session.credential_epoch, session.csrf), ("o1", 7, csrf));
        assert!(after.peek(gone.as_str(), 20 * MINUTE_MS).is_none(), "signed out");
        assert!(after.touch(token.as_str(), 32 * MINUTE_MS).is_none(), "idle for half an hour");
        assert!(start(32 * MINUTE_MS).is_empty(), "not taken up again");

        let again = start(0);
        assert!(again.is_empty(), "used in the future: the clock was set back");
        drop(again);
        let rebooted = Sessions::kept_since(file.clone(), SessionPolicy::default(), 20 * MINUTE_MS, "another boot");
        assert!(rebooted.is_empty(), "the clock may have stood still");
        drop(rebooted);
        std::fs::write(&file, "no session\nff\tx\n\n").unwrap();
        assert!(start(0).is_empty(), "what cannot be read is passed over");
        std::fs::remove_dir_all(&dir).unwrap();
        let nowhere = start(0);
        let token = nowhere.open("o1", 0, 0).unwrap();
        assert!(nowhere.touch(token.as_str(), 1).is_some(), "a folder that is gone stops nobody");
    }
}

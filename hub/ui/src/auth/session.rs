//! Sessions of this process: a random token in the browser, its SHA-256 here.
//!
//! A read of this memory gives nobody a usable cookie. Sessions end with the process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::password::PasswordError;

/// Sessions at the same time. At the bound the one longest idle ends.
pub const SESSIONS_MAX: usize = 2_000;

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
    /// Secret that every non-GET request must send.
    pub csrf: [u8; 32],
    begun_ms: u64,
    seen_ms: u64,
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    policy: SessionPolicy,
    by_hash: Mutex<HashMap<[u8; 32], Session>>,
}

impl Sessions {
    /// None yet.
    pub fn new(policy: SessionPolicy) -> Sessions {
        Sessions { policy, by_hash: Mutex::default() }
    }

    /// Opens a session.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn open(&self, operator_id: &str, credential_epoch: u64, now_ms: u64) -> Result<SessionToken, PasswordError> {
        let token = SessionToken(hex::encode(random_32()?));
        let session = Session {
            operator_id: operator_id.to_owned(),
            credential_epoch,
            csrf: random_32()?,
            begun_ms: now_ms,
            seen_ms: now_ms,
        };
        let mut sessions = self.lock();
        if sessions.len() >= SESSIONS_MAX {
            sessions.retain(|_, session| !self.ended(session, now_ms));
        }
        if sessions.len() >= SESSIONS_MAX {
            let idle = sessions.iter().min_by_key(|(_, session)| session.seen_ms);
            if let Some(hash) = idle.map(|(hash, _)| *hash) {
                sessions.remove(&hash);
            }
        }
        sessions.insert(hash_of(token.as_str()), session);
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
        let mut sessions = self.lock();
        let session = sessions.get_mut(&hash)?;
        if self.ended(session, now_ms) {
            sessions.remove(&hash);
            return None;
        }
        if used {
            session.seen_ms = now_ms;
        }
        Some(session.clone())
    }

    /// Ends one session.
    pub fn end(&self, token: &str) {
        self.lock().remove(&hash_of(token));
    }

    /// Ends all sessions of an operator.
    pub fn end_operator(&self, operator_id: &str) {
        self.lock().retain(|_, session| session.operator_id != operator_id);
    }

    /// Sessions held, ended ones that nobody asked for included.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn ended(&self, session: &Session, now_ms: u64) -> bool {
        now_ms >= session.seen_ms.saturating_add(self.policy.idle_ms)
            || now_ms >= session.begun_ms.saturating_add(self.policy.absolute_ms)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.by_hash.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
}

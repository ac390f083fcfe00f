//! Signing in: passwords, lock-out, sessions and roles. It leaves storage to [`OperatorDirectory`] and
//! pages to [`http`].
//!
//! A wrong name and a wrong password take the same way: both cost one Argon2id verification, count
//! towards the lock of that name and get the same answer.

pub(crate) mod http;
mod lockout;
mod password;
mod session;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use thiserror::Error;
use tokio::sync::Semaphore;

pub use lockout::{LOGINS_TRACKED_MAX, Lockout, LockoutPolicy};
pub use password::{
    HashCost, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, PasswordError, check_password, hash_password, verify_password,
};
pub(crate) use session::random_32;
pub use session::{SESSIONS_MAX, Session, SessionPolicy, SessionToken, Sessions};

use crate::error::{Saved, UiError};
use crate::page::Ui;

/// Longest sign-in name accepted, in characters.
pub const LOGIN_CHARS_MAX: usize = 64;

/// Password computations at the same time; each takes [`HashCost::memory_kib`].
pub const HASHES_CONCURRENT_MAX: usize = 2;

/// How long a sign-in waits for its turn before it is told to try again.
pub const HASH_WAIT_MAX: Duration = Duration::from_secs(5);

/// What an operator may do. What each role opens is decided where routes are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, operators included.
    Admin,
    /// Card service: people, cards, losses.
    Clerk,
    /// Till and drawer.
    Cashier,
    /// Reads everything, changes nothing.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::Admin, Role::Clerk, Role::Cashier, Role::Auditor];

    /// Code as stored and configured.
    pub fn code(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Clerk => "clerk",
            Role::Cashier => "cashier",
            Role::Auditor => "auditor",
        }
    }

    /// Reads the code.
    pub fn from_code(code: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.code() == code)
    }

    /// Key of its name in the kit's words.
    pub fn label(self) -> &'static str {
        match self {
            Role::Admin => "role.admin",
            Role::Clerk => "role.clerk",
            Role::Cashier => "role.cashier",
            Role::Auditor => "role.auditor",
        }
    }
}

/// An operator as the directory stores him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Stable id, used in audits.
    pub id: String,
    /// Sign-in name, lower case.
    pub login: String,
    /// Name shown.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Campus whose data he may touch; `None` for all.
    pub campus: Option<String>,
    /// PHC string of [`hash_password`]; empty if none was set, which lets nobody in.
    pub verifier: String,
    /// Whether he must choose a password before anything else.
    pub must_change: bool,
    /// Whether he may sign in.
    pub active: bool,
    /// Raised by the directory with each change of password; sessions begun under another end.
    pub credential_epoch: u64,
}

/// Where operators live. Hub and edge implement it over their stores.
pub trait OperatorDirectory: Send + Sync + 'static {
    /// By sign-in name (trimmed and lower-cased by the caller).
    fn by_login(&self, login: &str) -> impl Future<Output = Result<Option<Operator>, DirectoryError>> + Send;

    /// By id. Asked on every request, so that a revocation holds from the next one on; answer it from
    /// memory or a read connection.
    fn by_id(&self, id: &str) -> impl Future<Output = Result<Option<Operator>, DirectoryError>> + Send;

    /// Key of the words that tell an operator whose password was right why he may not sign in all the same;
    /// `None` gives the answer of a wrong password.
    fn inactive_word(&self, _operator: &Operator) -> Option<&'static str> {
        None
    }

    /// Stores a new verifier, clears `must_change` and raises `credential_epoch`, and appends to the audit log from where
    /// it was done (peer address), durably and together.
    fn set_password(
        &self,
        id: &str,
        verifier: &str,
        from: Option<&str>,
    ) -> impl Future<Output = Result<(), DirectoryError>> + Send;

    /// Appends to the audit log (OPR-8). Called after the fact it tells.
    fn record(&self, event: AuthEvent) -> impl Future<Output = Result<(), DirectoryError>> + Send;
}

/// The directory could not answer. Shown as "unavailable", never as "wrong password".
#[derive(Debug, Error)]
#[error("operator directory: {0}")]
pub struct DirectoryError(pub String);

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthEvent {
    /// Operator's id if he exists, else the name that was typed.
    pub who: String,
    /// What happened.
    pub what: AuthAct,
    /// Peer address, if the listener told it.
    pub from: Option<String>,
}

/// What happened at the sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthAct {
    /// Signed in.
    SignedIn,
    /// Wrong name, wrong password or not active.
    Refused,
    /// Refused because the name is locked.
    Locked,
    /// Signed out.
    SignedOut,
}

/// Milliseconds that only grow, for time-outs. A trait so that tests own the time.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since some moment before the first call.
    fn now_ms(&self) -> u64;
}

/// The process's monotonic clock, begun at the wall clock's time: its steps neither end nor lengthen a session, and times
/// go on over a restart.
#[derive(Debug)]
pub struct MonotonicClock {
    begun_ms: u64,
    begun: Instant,
}

impl Default for MonotonicClock {
    fn default() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        MonotonicClock { begun_ms: u64::try_from(wall.as_millis()).unwrap_or(0), begun: Instant::now() }
    }
}

impl Clock for MonotonicClock {
    fn now_ms(&self) -> u64 {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.begun_ms.saturating_add(since)
    }
}

/// Settings of the login policy (OPR-6).
#[derive(Debug, Clone, Default)]
pub struct AuthPolicy {
    /// When a name locks.
    pub lockout: LockoutPolicy,
    /// How long a session lives.
    pub session: SessionPolicy,
    /// Cost of new verifiers, and of the dummy that unknown names are checked against.
    pub cost: HashCost,
    /// File in which sessions outlive a restart of the process; they end with it when absent.
    pub sessions_file: Option<PathBuf>,
}

/// Login logic over a directory.
pub struct Auth<D> {
    /// The product's operators.
    pub directory: D,
    /// Sessions of its operators.
    pub sessions: Sessions,
    lockout: Lockout,
    clock: Arc<dyn Clock>,
    cost: HashCost,
    dummy_verifier: String,
    hashing: Semaphore,
}

/// What became of a sign-in.
#[derive(Debug)]
pub enum SignIn {
    /// Here is the token for the cookie.
    Welcome(SessionToken, Box<Operator>),
    /// Wrong name or password, or not active.
    Refused,
    /// The password was right, but the operator may not sign in: key of the words that say why.
    Inactive(&'static str),
    /// Too many failures; minutes until the next try.
    Locked {
        /// Whole minutes, rounded up.
        minutes: u64,
    },
    /// Too many sign-ins at once, or the directory does not answer.
    Unavailable,
}

impl<D: OperatorDirectory> Auth<D> {
    /// Login logic with the process's clock.
    ///
    /// # Errors
    /// When the system gives no randomness or the cost is out of range.
    pub fn new(directory: D, policy: AuthPolicy) -> Result<Auth<D>, PasswordError> {
        Auth::with_clock(directory, policy, Arc::new(MonotonicClock::default()))
    }

    /// The same with a clock of the caller.
    ///
    /// # Errors
    /// As [`Auth::new`].
    pub fn with_clock(directory: D, policy: AuthPolicy, clock: Arc<dyn Clock>) -> Result<Auth<D>, PasswordError> {
        let sessions = match policy.sessions_file {
            Some(file) => Sessions::kept_in(file, policy.session, clock.now_ms()),
            None => Sessions::new(policy.session),
        };
        Ok(Auth {
            directory,
            sessions,
            lockout: Lockout::new(policy.lockout),
            clock,
            cost: policy.cost,
            dummy_verifier: hash_password("no operator has this password", policy.cost)?,
            hashing: Semaphore::new(HASHES_CONCURRENT_MAX),
        })
    }

    /// Milliseconds of this login logic's clock.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Tries a name and a password.
    pub async fn sign_in(&self, login: &str, password: &str, from: Option<String>) -> SignIn {
        let login = normal_login(login);
        if let Err(until_ms) = self.lockout.begin(&login, self.now_ms()) {
            self.audit(&login, AuthAct::Locked, from).await;
            let minutes = until_ms.saturating_sub(self.now_ms()).div_ceil(60_000);
            return SignIn::Locked { minutes };
        }
        let found = match self.directory.by_login(&login).await {
            Ok(found) => found,
            Err(error) => return self.cannot(&login, &error),
        };
        let verifier = found
            .as_ref()
            .map(|operator| operator.verifier.clone())
            .filter(|verifier| !verifier.is_empty())
            .unwrap_or_else(|| self.dummy_verifier.clone());
        let verified = match self.verify(verifier, password.to_owned()).await {
            Ok(verified) => verified,
            Err(error) => return self.cannot(&login, &error),
        };
        let who = found.as_ref().map_or(login.clone(), |o| o.id.clone());
        let known = found.filter(|o| verified && !o.verifier.is_empty());
        let word = known.as_ref().filter(|o| !o.active).and_then(|o| self.directory.inactive_word(o));
        let Some(operator) = known.filter(|o| o.active) else {
            self.audit(&who, AuthAct::Refused, from).await;
            return word.map_or(SignIn::Refused, SignIn::Inactive);
        };
        self.lockout.succeed(&login);
        let Ok(token) = self.open_session(&operator) else {
            return SignIn::Unavailable;
        };
        self.audit(&who, AuthAct::SignedIn, from).await;
        SignIn::Welcome(token, Box::new(operator))
    }

    /// The session behind a cookie and its operator as the directory knows him at this moment. `None` if the
    /// session ended, the operator was revoked or his password changed. A `background` request (a page refreshing itself) does not count as activity.
    ///
    /// # Errors
    /// When the directory does not answer: a storage error must not look like a sign-out.
    pub async fn resume(&self, token: &str, background: bool) -> Result<Option<(Session, Operator)>, DirectoryError> {
        let found = if background {
            self.sessions.peek(token, self.now_ms())
        } else {
            self.sessions.touch(token, self.now_ms())
        };
        let Some(session) = found else {
            return Ok(None);
        };
        let operator = self.directory.by_id(&session.operator_id).await?;
        let valid = operator.filter(|o| o.active && o.credential_epoch == session.credential_epoch);
        if valid.is_none() {
            self.sessions.end(token);
        }
        Ok(valid.map(|operator| (session, operator)))
    }

    /// Checks and stores a new password, ends all sessions of the operator and opens a new one.
    ///
    /// # Errors
    /// Key of the reason in the kit's words.
    pub async fn change_password(
        &self,
        operator: &CurrentOperator,
        current: Option<&str>,
        new: &str,
        from: Option<String>,
    ) -> Result<SessionToken, &'static str> {
        const UNAVAILABLE: &str = "auth.unavailable";
        if let Some(current) = current {
            // Guessing here counts towards the same lock as guessing at the login page.
            if self.lockout.begin(&operator.login, self.now_ms()).is_err() {
                return Err("password.locked");
            }
            let stored = self.directory.by_id(&operator.id).await;
            let stored = stored.ok().flatten().ok_or(UNAVAILABLE)?;
            let verified = self.verify(stored.verifier, current.to_owned()).await;
            if !verified.map_err(|_| UNAVAILABLE)? {
                return Err("password.current_wrong");
            }
            self.lockout.succeed(&operator.login);
            if current == new {
                return Err("password.same");
            }
        } else {
            // The one-time password is known to whoever printed it.
            let stored = self.directory.by_id(&operator.id).await;
            let stored = stored.ok().flatten().ok_or(UNAVAILABLE)?;
            if self.verify(stored.verifier, new.to_owned()).await.map_err(|_| UNAVAILABLE)? {
                return Err("password.same");
            }
        }
        check_password(new, &[&operator.login, &operator.name])?;
        let (password, cost) = (new.to_owned(), self.cost);
        let hashed =
            self.hash_job(move || hash_password(&password, cost).map_err(|e| DirectoryError(e.to_string()))).await;
        let verifier = hashed.map_err(|_| UNAVAILABLE)?;
        let stored = self.directory.set_password(&operator.id, &verifier, from.as_deref()).await;
        if let Err(error) = stored {
            tracing::error!(%error, "the new password was not stored");
            return Err(UNAVAILABLE);
        }
        self.sessions.end_operator(&operator.id);
        let renewed = self.directory.by_id(&operator.id).await.ok().flatten();
        let renewed = renewed.ok_or(UNAVAILABLE)?;
        self.open_session(&renewed).map_err(|_| UNAVAILABLE)
    }

    /// Ends the session behind a cookie, for good.
    pub async fn sign_out(&self, token: &str, operator: &CurrentOperator, from: Option<String>) {
        self.sessions.end_for_good(token).await;
        self.audit(&operator.id, AuthAct::SignedOut, from).await;
    }

    fn open_session(&self, operator: &Operator) -> Result<SessionToken, PasswordError> {
        self.sessions.open(&operator.id, operator.credential_epoch, self.now_ms())
    }

    async fn verify(&self, verifier: String, password: String) -> Result<bool, DirectoryError> {
        self.hash_job(move || Ok(verify_password(&password, &verifier))).await
    }

    /// Runs a password computation off the async threads, a bounded number at a time.
    async fn hash_job<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, DirectoryError> + Send + 'static,
    ) -> Result<T, DirectoryError> {
        let turn = tokio::time::timeout(HASH_WAIT_MAX, self.hashing.acquire()).await;
        let Ok(Ok(_permit)) = turn else {
            return Err(DirectoryError("too many sign-ins at once".into()));
        };
        match tokio::task::spawn_blocking(job).await {
            Ok(result) => result,
            Err(error) => Err(DirectoryError(error.to_string())),
        }
    }

    fn cannot(&self, login: &str, error: &DirectoryError) -> SignIn {
        self.lockout.forgive(login);
        tracing::error!(%error, "sign-in could not be decided");
        SignIn::Unavailable
    }

    async fn audit(&self, who: &str, what: AuthAct, from: Option<String>) {
        let event = AuthEvent { who: who.to_owned(), what, from };
        if let Err(error) = self.directory.record(event).await {
            tracing::error!(%error, ?what, "the audit line was not stored");
        }
    }
}

/// A sign-in name as it is looked up.
pub fn normal_login(login: &str) -> String {
    login.trim().to_lowercase().chars().take(LOGIN_CHARS_MAX).collect()
}

/// Who makes this request; the extractor of handlers that act in somebody's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentOperator {
    /// Stable id, for audits.
    pub id: String,
    /// Sign-in name.
    pub login: String,
    /// Name shown.
    pub name: String,
    /// Role at this moment.
    pub role: Role,
    /// Campus he is bound to; `None` for all.
    pub campus: Option<String>,
    /// Whether he must choose a password first.
    pub must_change: bool,
}

impl CurrentOperator {
    /// Refuses unless the operator has one of the roles; the error page says who can grant them.
    ///
    /// # Errors
    /// [`UiError::Refused`].
    pub fn require(&self, roles: &'static [Role]) -> Result<(), UiError> {
        if roles.contains(&self.role) { Ok(()) } else { Err(UiError::refused(roles)) }
    }
}

impl From<&Operator> for CurrentOperator {
    fn from(operator: &Operator) -> Self {
        CurrentOperator {
            id: operator.id.clone(),
            login: operator.login.clone(),
            name: operator.name.clone(),
            role: operator.role,
            campus: operator.campus.clone(),
            must_change: operator.must_change,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CurrentOperator {
    type Rejection = UiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<CurrentOperator, UiError> {
        match parts.extensions.get::<Ui>() {
            Some(ui) => ui.operator.clone().ok_or(UiError::SignInFirst),
            None => Err(UiError::internal("this page is served outside of yika_ui::mount", Saved::Nothing)),
        }
    }
}

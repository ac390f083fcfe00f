//! A terminal's HTTP side: signs, sends, checks the edge's signature, and says what an answer means.
//!
//! For simulators, tests and as the model for other makers' devices. Leaves to others: which key a sale gets and when
//! it must be undone (`till`).

use super::list::{BlockLine, CardLine, ListDelta};
use super::message::*;
use super::sign::{self, KEY_LEN_BYTES, Signed};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Largest answer that is read, in bytes: a whole list of cards.
pub const ANSWER_LEN_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long one try waits for its answer, in milliseconds.
pub const ANSWER_WAIT_MS: u64 = 5_000;
/// Most tries of one request.
pub const TRIES_MAX: u32 = 3;
/// Pause before the second try, doubled before each further one, in milliseconds.
pub const RETRY_PAUSE_MS: u64 = 200;

/// Who a terminal is and where its edge answers.
#[derive(Clone)]
pub struct Identity {
    /// `host:port` of the edge.
    pub edge: String,
    /// The terminal.
    pub terminal: u32,
    /// Its boot number.
    pub boot: u32,
    /// Version of its key.
    pub key_version: u16,
    /// Its key.
    pub key: Zeroizing<[u8; KEY_LEN_BYTES]>,
}

/// How long a client waits, and how often it asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// Most tries of one request.
    pub tries_max: u32,
    /// How long one try waits, in milliseconds.
    pub answer_wait_ms: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { tries_max: TRIES_MAX, answer_wait_ms: ANSWER_WAIT_MS }
    }
}

/// An answer as it came, its signature not checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawAnswer {
    /// HTTP status.
    pub status: u16,
    /// The edge's signature; empty when there is none.
    pub signature: String,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The edge says no, signed by its key: nothing was decided under the request's key.
    #[error("{status} {}: {} ({})", problem.code, problem.message.en, problem.mend.en)]
    Problem {
        /// HTTP status.
        status: u16,
        /// What it says.
        problem: Box<Problem>,
    },
    /// No answer that can be trusted: what became of the request is unknown.
    #[error("the outcome is unknown: {0}; send the same key again, or a reversal before the next sale")]
    Unknown(String),
    /// An answer that the edge did not sign, so that what became of the request is unknown, too.
    #[error("the outcome is unknown: answer {status} {} is not signed by the edge: {cause}", code_of(problem))]
    Unsigned {
        /// HTTP status.
        status: u16,
        /// What it says, if that is of the interface.
        problem: Option<Box<Problem>>,
        /// Why the signature does not hold.
        cause: String,
    },
    /// The request cannot be made.
    #[error("the request cannot be made: {0}")]
    Request(String),
}

impl ClientError {
    /// Whether the same request may succeed when sent again.
    pub fn may_retry(&self) -> bool {
        match self {
            ClientError::Unknown(_) | ClientError::Unsigned { .. } => true,
            ClientError::Problem { status, problem } => matches!(status, 429 | 503) || problem.code == "stale_clock",
            ClientError::Request(_) => false,
        }
    }

    /// Whether the edge may have decided although there is no answer.
    pub fn outcome_is_unknown(&self) -> bool {
        match self {
            ClientError::Unknown(_) | ClientError::Unsigned { .. } => true,
            ClientError::Problem { status, problem } => *status == 503 || problem.code == "id_reused",
            ClientError::Request(_) => false,
        }
    }

    /// Whether whoever answers does not let this terminal in (401, 403, 404): by itself that does not get better, unless
    /// the terminal's key is still on its way to the edge.
    pub fn is_barred(&self) -> bool {
        let (status, code) = match self {
            ClientError::Problem { status, problem } => (status, problem.code.as_str()),
            ClientError::Unsigned { status, .. } => (status, ""),
            ClientError::Unknown(_) | ClientError::Request(_) => return false,
        };
        matches!(status, 401 | 403 | 404) && code != "stale_clock"
    }

    /// What the answer calls itself, where it is of the interface.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            ClientError::Problem { problem, .. } => Some(problem),
            ClientError::Unsigned { problem, .. } => problem.as_deref(),
            ClientError::Unknown(_) | ClientError::Request(_) => None,
        }
    }
}

fn code_of(problem: &Option<Box<Problem>>) -> &str {
    problem.as_ref().map_or("", |problem| problem.code.as_str())
}

/// One terminal's connection.
pub struct Client {
    who: Identity,
    patience: Patience,
    http: HttpClient<HttpConnector, Full<Bytes>>,
    /// What to add to the operating system's clock to get the edge's, in milliseconds.
    clock_offset_ms: AtomicI64,
}

impl Client {
    /// A client; nothing is sent yet. Must be used inside a tokio runtime.
    pub fn new(who: Identity) -> Client {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = HttpClient::builder(TokioExecutor::new()).build(connector);
        Client { who, patience: Patience::default(), http, clock_offset_ms: AtomicI64::new(0) }
    }

    /// The same client with another patience.
    pub fn patient(self, patience: Patience) -> Client {
        Client { patience, ..self }
    }

    /// Who this is.
    pub fn identity(&self) -> &Identity {
        &self.who
    }

    /// The edge's time as the terminal reckons it, milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        system_ms().saturating_add(self.clock_offset_ms.load(Ordering::Relaxed))
    }

    /// Sets the terminal's clock wrong or right by hand, as a simulator does.
    pub fn set_clock_offset_ms(&self, offset_ms: i64) {
        self.clock_offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    /// Signs in and sets the clock.
    ///
    /// # Errors
    /// As [`ClientError`] says; so in every call below.
    pub async fn sign_in(&self, sign_in: &SignIn) -> Result<SignedIn, ClientError> {
        self.post("/sign-in", sign_in).await
    }

    /// Asks for the time and sets the clock.
    pub async fn time(&self) -> Result<TimeAnswer, ClientError> {
        self.get("/time").await
    }

    /// Asks for parameters unless this version is the present one.
    pub async fn parameters(&self, have: u32) -> Result<ParametersAnswer, ClientError> {
        self.get(&format!("/parameters?have={have}")).await
    }

    /// Asks for refused cards.
    pub async fn blocks(&self, have: u64) -> Result<ListDelta<BlockLine>, ClientError> {
        self.get(&format!("/lists/blocks?have={have}")).await
    }

    /// Asks for cards that may be served alone.
    pub async fn cards(&self, have: u64) -> Result<ListDelta<CardLine>, ClientError> {
        self.get(&format!("/lists/cards?have={have}")).await
    }

    /// Sells.
    pub async fn purchase(&self, purchase: &Purchase) -> Result<SaleAnswer, ClientError> {
        self.post("/purchase", purchase).await
    }

    /// Undoes a sale of unknown outcome.
    pub async fn reversal(&self, reversal: &Reversal) -> Result<SaleAnswer, ClientError> {
        self.post("/reversal", reversal).await
    }

    /// Gives back.
    pub async fn refund(&self, refund: &Refund) -> Result<SaleAnswer, ClientError> {
        self.post("/refund", refund).await
    }

    /// Uploads sales that the terminal decided alone.
    pub async fn batch(&self, batch: &Batch) -> Result<BatchAnswer, ClientError> {
        self.post("/batch", batch).await
    }

    /// Asks what the edge holds of a boot: on the open business day, or from a number on.
    pub async fn totals(&self, boot: u32, from: Option<u32>) -> Result<Totals, ClientError> {
        let from = from.map(|seq| format!("&from={seq}")).unwrap_or_default();
        self.get(&format!("/totals?boot={boot}{from}")).await
    }

    /// Tells the terminal's state.
    pub async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatAnswer, ClientError> {
        self.post("/heartbeat", heartbeat).await
    }

    /// Asks for a door.
    pub async fn swipe(&self, swipe: &Swipe) -> Result<SwipeAnswer, ClientError> {
        self.post("/swipe", swipe).await
    }

    async fn get<A: DeserializeOwned>(&self, route: &str) -> Result<A, ClientError> {
        self.call(Method::GET, route, Vec::new()).await
    }

    async fn post<B: Serialize, A: DeserializeOwned>(&self, route: &str, body: &B) -> Result<A, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Request(e.to_string()))?;
        self.call(Method::POST, route, body).await
    }

    /// Tries a few times with the same body; each try is signed afresh.
    async fn call<A: DeserializeOwned>(&self, method: Method, route: &str, body: Vec<u8>) -> Result<A, ClientError> {
        let body = Bytes::from(body);
        let mut pause_ms = RETRY_PAUSE_MS;
        let mut tries = 1;
        loop {
            match self.once(&method, route, body.clone()).await {
                Err(error) if error.may_retry() && tries < self.patience.tries_max => {
                    tracing::debug!(route, tries, %error, "asks again");
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    pause_ms *= 2;
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    async fn once<A: DeserializeOwned>(&self, method: &Method, route: &str, body: Bytes) -> Result<A, ClientError> {
        let signed = self.sign(method, route, &body)?;
        let RawAnswer { status, signature, body } = self.exchange(method, route, &signed, body).await?;
        let checked = sign::verify_answer(&self.who.key, &signed.signature, status, &body, &signature);
        if let Err(error) = checked {
            let problem = serde_json::from_slice(&body).ok().map(Box::new);
            return Err(ClientError::Unsigned { status, problem, cause: error.to_string() });
        }
        self.set_clock(&body);
        if status == StatusCode::OK.as_u16() {
            return serde_json::from_slice(&body).map_err(|e| ClientError::Unknown(e.to_string()));
        }
        let problem = serde_json::from_slice(&body).map_err(|e| ClientError::Unknown(format!("{status}: {e}")))?;
        Err(ClientError::Problem { status, problem: Box::new(problem) })
    }

    /// Sends a request as signed, right or wrong, once, and gives the answer as it came: for tests and certification.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn exchange(
        &self,
        method: &Method,
        route: &str,
        signed: &Signed,
        body: Bytes,
    ) -> Result<RawAnswer, ClientError> {
        let request = self.request(method, route, signed, body)?;
        let wait_ms = self.patience.answer_wait_ms;
        let answer = tokio::time::timeout(Duration::from_millis(wait_ms), self.send(request));
        answer.await.map_err(|_| ClientError::Unknown(format!("no answer within {wait_ms} ms")))?
    }

    /// Signs a request to a route below [`PREFIX`].
    ///
    /// # Errors
    /// When the path is too long or the machine has no randomness.
    pub fn sign(&self, method: &Method, route: &str, body: &[u8]) -> Result<Signed, ClientError> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|e| ClientError::Request(e.to_string()))?;
        let unsigned = Signed {
            terminal: self.who.terminal,
            key_version: self.who.key_version,
            boot: self.who.boot,
            time_ms: self.now_ms(),
            nonce: u128::from_be_bytes(nonce),
            signature: [0; 32],
        };
        let path = format!("{PREFIX}{route}");
        unsigned.sign(&self.who.key, method.as_str(), &path, body).map_err(|e| ClientError::Request(e.to_string()))
    }

    fn request(
        &self,
        method: &Method,
        route: &str,
        signed: &Signed,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let uri = format!("http://{}{PREFIX}{route}", self.who.edge);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in signed.headers() {
            request = request.header(name, value);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        request.body(Full::new(body)).map_err(|e| ClientError::Request(e.to_string()))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<RawAnswer, ClientError> {
        let answer = self.http.request(request).await.map_err(|e| ClientError::Unknown(causes(&e)))?;
        let status = answer.status().as_u16();
        let signature = answer.headers().get(sign::ANSWER_SIGNATURE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let signature = signature.to_owned();
        let body = Limited::new(answer.into_body(), ANSWER_LEN_BYTES_MAX).collect().await;
        let body = body.map_err(|e| ClientError::Unknown(e.to_string()))?.to_bytes();
        Ok(RawAnswer { status, signature, body })
    }

    /// Every answer carries the edge's time; only a signed one reaches here.
    fn set_clock(&self, body: &[u8]) {
        #[derive(serde::Deserialize)]
        struct Timed {
            server_time_ms: i64,
        }
        if let Ok(Timed { server_time_ms }) = serde_json::from_slice(body) {
            self.set_clock_offset_ms(server_time_ms.saturating_sub(system_ms()));
        }
    }
}

/// An error with its causes: the outermost alone says only "client error (Connect)".
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn system_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

//! Operators as headquarters sent them to this box: they sign in with the line cut, until the date they carry.
//!
//! Passwords are changed at headquarters only. Leaves to others: verifying, locking, sessions (`yika_ui::auth`).

use crate::node::EdgeNode;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use yika_crdt::edge::Command;
use yika_crdt::entry::{ActRecord, OperatorRecord, Role as Entitled};
use yika_crdt::ids::OperatorId;
use yika_crdt::keys;
use yika_crdt::mesh::for_each_row;
use yika_ui::auth::{AuthAct, AuthEvent, DirectoryError, Operator, normal_login};
use yika_ui::{OperatorDirectory, Role};

/// Refused sign-ins journaled in a minute; further ones are only logged, so that a guesser cannot fill the disk.
const REFUSALS_PER_MINUTE_MAX: u32 = 20;
/// Longest name of a stranger that is journaled, in characters.
const STRANGER_CHARS_MAX: usize = 64;

/// The directory of the sign-in.
pub(super) struct Operators {
    node: Arc<EdgeNode>,
    refusals: Mutex<(Option<Instant>, u32)>,
}

impl Operators {
    pub(super) fn new(node: Arc<EdgeNode>) -> Operators {
        Operators { node, refusals: Mutex::default() }
    }

    fn find(&self, wanted: impl Fn(&OperatorRecord) -> bool) -> Result<Option<Operator>, DirectoryError> {
        let mut found = None;
        let read = || {
            self.node.look(|store| {
                for_each_row(store, keys::OPERATORS, |record: OperatorRecord| {
                    if wanted(&record) {
                        found = Some(record);
                    }
                })
            })
        };
        tokio::task::block_in_place(read).map_err(|e| DirectoryError(e.to_string()))?;
        found.map(|record| self.known(&record)).transpose()
    }

    /// The record as the kit wants it. Time of an untrusted clock counts, too: it never runs behind what was known.
    fn known(&self, record: &OperatorRecord) -> Result<Operator, DirectoryError> {
        let (now_ms, _) = self.node.time();
        Ok(Operator {
            id: record.operator.to_string(),
            login: normal_login(&record.login),
            name: record.name.clone(),
            role: role_of(record.role),
            campus: self.node.place().campus.map(|campus| campus.to_string()),
            verifier: record.verifier.clone(),
            must_change: false,
            active: !record.verifier.is_empty() && now_ms <= record.valid_until_ms,
            credential_epoch: epoch_of(&record.verifier),
        })
    }

    /// Whether one more refusal is journaled.
    fn admits_refusal(&self) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if refusals.0.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(60)) {
            *refusals = (Some(now), 0);
        }
        refusals.1 += 1;
        refusals.1 <= REFUSALS_PER_MINUTE_MAX
    }
}

impl OperatorDirectory for Operators {
    async fn by_login(&self, login: &str) -> Result<Option<Operator>, DirectoryError> {
        self.find(|record| !record.verifier.is_empty() && normal_login(&record.login) == login)
    }

    async fn by_id(&self, id: &str) -> Result<Option<Operator>, DirectoryError> {
        let Ok(id) = id.parse::<OperatorId>() else { return Ok(None) };
        let record = self.node.row::<OperatorRecord>(&keys::operator(id));
        record.map_err(|e| DirectoryError(e.to_string()))?.map(|record| self.known(&record)).transpose()
    }

    fn inactive_word(&self, _operator: &Operator) -> Option<&'static str> {
        Some("edge.expired")
    }

    async fn set_password(&self, _id: &str, _verifier: &str, _from: Option<&str>) -> Result<(), DirectoryError> {
        Err(DirectoryError("passwords are changed at headquarters".into()))
    }

    async fn record(&self, event: AuthEvent) -> Result<(), DirectoryError> {
        let act = match event.what {
            AuthAct::SignedIn => "login",
            AuthAct::Refused => "login.refused",
            AuthAct::Locked => "login.locked",
            AuthAct::SignedOut => "logout",
        };
        let refusal = matches!(event.what, AuthAct::Refused | AuthAct::Locked);
        if refusal && !self.admits_refusal() {
            tracing::warn!(act, from = event.from, "too many refused sign-ins; this one is not journaled");
            return Ok(());
        }
        let operator = event.who.parse::<OperatorId>();
        let from = event.from.unwrap_or_default();
        let detail = match &operator {
            Ok(_) => from,
            Err(_) => format!("{} {from}", event.who.chars().take(STRANGER_CHARS_MAX).collect::<String>()),
        };
        let operator = operator.unwrap_or(OperatorId(0));
        let record = ActRecord { operator, act: act.to_owned(), detail };
        self.node.call(Command::Act(record)).await.map_err(|e| DirectoryError(e.to_string()))?;
        Ok(())
    }
}

/// Another password is another epoch, which ends the sessions of the old one.
fn epoch_of(verifier: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(verifier.as_bytes()).into();
    digest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn role_of(role: Entitled) -> Role {
    match role {
        Entitled::Admin => Role::Admin,
        Entitled::Clerk => Role::Clerk,
        Entitled::Cashier => Role::Cashier,
        Entitled::Auditor => Role::Auditor,
    }
}

//! Operators as the sign-in asks for them: read from the store at every request, changed and audited through the desk.

use crate::desk::{Actor, Desk, DeskError};
use crate::node::Busy;
use crate::store::{OperatorRow, read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use yika_crdt::ids::*;
use yika_ui::auth::{AuthAct, AuthEvent, DirectoryError, Operator};
use yika_ui::{OperatorDirectory, Role};

/// What happened at the login page since the start, for monitoring.
#[derive(Clone, Debug, Default)]
pub struct SignIns(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    locked: AtomicU64,
}

impl SignIns {
    /// Accepted, refused, refused because the name was locked.
    pub fn counts(&self) -> (u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.0.accepted), read(&self.0.refused), read(&self.0.locked))
    }

    fn count(&self, act: AuthAct) {
        let counter = match act {
            AuthAct::SignedIn => &self.0.accepted,
            AuthAct::Refused => &self.0.refused,
            AuthAct::Locked => &self.0.locked,
            AuthAct::SignedOut => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The operators of the hub.
pub(super) struct Operators {
    desk: Desk,
    sign_ins: SignIns,
}

impl Operators {
    pub(super) fn new(desk: Desk, sign_ins: SignIns) -> Operators {
        Operators { desk, sign_ins }
    }

    async fn row(&self, id: &str) -> Result<Option<OperatorRow>, DirectoryError> {
        let Ok(number) = id.parse::<OperatorId>() else { return Ok(None) };
        self.desk.node.query(move |conn| read::operator_by_id(conn, number)).await.map_err(down)
    }
}

fn down(error: Busy) -> DirectoryError {
    DirectoryError(error.to_string())
}

fn refused(error: DeskError) -> DirectoryError {
    DirectoryError(error.to_string())
}

/// An operator whose role is not of this version may not come in.
fn operator(row: OperatorRow) -> Option<Operator> {
    let role = Role::from_code(&row.role)?;
    Some(Operator {
        id: row.operator.0.to_string(),
        login: row.login,
        name: row.name,
        role,
        campus: row.campus.map(|c| c.to_string()),
        verifier: row.verifier,
        must_change: row.must_change,
        active: row.active,
        credential_epoch: row.credential_epoch,
    })
}

fn word(act: AuthAct) -> &'static str {
    match act {
        AuthAct::SignedIn => "sign_in.accepted",
        AuthAct::Refused => "sign_in.refused",
        AuthAct::Locked => "sign_in.locked",
        AuthAct::SignedOut => "sign_in.out",
    }
}

impl OperatorDirectory for Operators {
    async fn by_login(&self, login: &str) -> Result<Option<Operator>, DirectoryError> {
        let login = login.to_owned();
        let found = self.desk.node.query(move |conn| read::operator_by_login(conn, &login)).await.map_err(down)?;
        Ok(found.and_then(operator))
    }

    async fn by_id(&self, id: &str) -> Result<Option<Operator>, DirectoryError> {
        Ok(self.row(id).await?.and_then(operator))
    }

    async fn set_password(&self, id: &str, verifier: &str, from: Option<&str>) -> Result<(), DirectoryError> {
        let Some(row) = self.row(id).await? else {
            return Err(DirectoryError(format!("operator {id} is gone")));
        };
        let origin = from.unwrap_or("unknown").to_owned();
        let own = Actor { who: row.login, operator: row.operator, campus: row.campus, origin };
        let done = self.desk.set_verifier(&own, row.operator, verifier.to_owned(), false).await;
        done.map_err(refused)
    }

    async fn record(&self, event: AuthEvent) -> Result<(), DirectoryError> {
        self.sign_ins.count(event.what);
        let known = self.row(&event.who).await?;
        let who = known.as_ref().map_or_else(|| event.who.clone(), |row| row.login.clone());
        let operator = known.as_ref().map_or(OperatorId(0), |row| row.operator);
        let origin = event.from.unwrap_or_else(|| "unknown".into());
        let actor = Actor { who: who.clone(), operator, campus: None, origin };
        self.desk.note(&actor, word(event.what), who, String::new()).await.map_err(refused)
    }
}

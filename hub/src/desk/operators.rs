//! Operators of headquarters and of campuses (OPR-1, OPR-2, OPR-6): made here, replicated to their own campus.

use super::{Actor, Desk, DeskError, facts, refused};
use crate::core::Command;
use crate::refusal::{Refusal, Weakness};
use crate::store::{OperatorRow, TableRow, read};
use serde::{Deserialize, Serialize};
use yika_crdt::ids::*;
use yika_ui::Role;
use yika_ui::auth::{LOGIN_CHARS_MAX, check_password, hash_password, normal_login};

/// An operator to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOperator {
    /// Sign-in name.
    pub login: String,
    /// Name as shown.
    pub name: String,
    /// `admin`, `clerk`, `cashier` or `auditor`.
    pub role: String,
    /// Campus; absent for headquarters.
    #[serde(default)]
    pub campus: Option<CampusId>,
    /// First password, to be changed at the first sign-in.
    pub password: String,
    /// The password was chosen by the operator himself and stays.
    #[serde(default)]
    pub keep_password: bool,
}

impl Desk {
    /// Makes an operator.
    ///
    /// # Errors
    /// When the name is taken, the password weak or the role unknown, or the hub cannot serve.
    pub async fn add_operator(&self, actor: &Actor, new: NewOperator) -> Result<OperatorId, DeskError> {
        let login = normal_login(&new.login);
        if login.is_empty() || login.chars().count() > LOGIN_CHARS_MAX {
            return refused(Refusal::BadLogin { chars_max: LOGIN_CHARS_MAX });
        }
        let Some(role) = Role::from_code(&new.role) else {
            return refused(Refusal::UnknownRole { role: new.role });
        };
        if let Some(campus) = new.campus {
            actor.may_touch(campus)?;
            if !self.node.registry().campuses.contains_key(&campus) {
                let known = self.node.registry().campuses.keys().copied().collect();
                return refused(Refusal::UnknownCampus { campus, known });
            }
        } else if actor.campus.is_some() {
            return refused(Refusal::OperatorsOfHeadquarters {});
        }
        strong_enough(&new.password, &[&login, &new.name])?;
        let verifier = verifier_of(new.password).await?;
        let _drawing = self.drawing.lock().await;
        let known = self.node.query(read::operators).await?;
        if known.iter().any(|o| o.login == login) {
            return refused(Refusal::LoginTaken { login });
        }
        let operator = OperatorId(known.iter().map(|o| o.operator.0).max().unwrap_or(0).saturating_add(1));
        let row = OperatorRow {
            operator,
            login: login.clone(),
            name: new.name,
            role: role.code().to_owned(),
            campus: new.campus,
            verifier,
            must_change: !new.keep_password,
            active: true,
            credential_epoch: 1,
        };
        self.put_operator(actor, "operator.add", row).await?;
        Ok(operator)
    }

    /// Sets an operator's password: verifier in, so that the password itself goes no further than its page.
    ///
    /// # Errors
    /// When there is no such operator, or the hub cannot serve.
    pub async fn set_verifier(
        &self,
        actor: &Actor,
        operator: OperatorId,
        verifier: String,
        must_change: bool,
    ) -> Result<(), DeskError> {
        let _drawing = self.drawing.lock().await;
        let Some(row) = self.node.query(move |conn| read::operator_by_id(conn, operator)).await? else {
            return refused(Refusal::UnknownOperator { operator: operator.to_string() });
        };
        may_manage(actor, &row)?;
        let credential_epoch = row.credential_epoch.saturating_add(1);
        let row = OperatorRow { verifier, must_change, credential_epoch, ..row };
        self.put_operator(actor, "operator.password", row).await
    }

    /// Gives an operator a new first password.
    ///
    /// # Errors
    /// As [`Desk::set_verifier`], or the password is weak.
    pub async fn reset_password(&self, actor: &Actor, login: &str, password: String) -> Result<(), DeskError> {
        let login = normal_login(login);
        let wanted = login.clone();
        let Some(row) = self.node.query(move |conn| read::operator_by_login(conn, &wanted)).await? else {
            return refused(Refusal::UnknownOperator { operator: login });
        };
        strong_enough(&password, &[&login, &row.name])?;
        let verifier = verifier_of(password).await?;
        self.set_verifier(actor, row.operator, verifier, true).await
    }

    /// Lets an operator sign in no more, or again.
    ///
    /// # Errors
    /// When there is no such operator, he is the last administrator, or the hub cannot serve.
    pub async fn set_operator_active(
        &self,
        actor: &Actor,
        operator: OperatorId,
        active: bool,
    ) -> Result<(), DeskError> {
        let _drawing = self.drawing.lock().await;
        let all = self.node.query(read::operators).await?;
        let Some(row) = all.iter().find(|o| o.operator == operator).cloned() else {
            return refused(Refusal::UnknownOperator { operator: operator.to_string() });
        };
        may_manage(actor, &row)?;
        let is_admin = |o: &&OperatorRow| o.active && o.role == Role::Admin.code() && o.campus.is_none();
        if !active && all.iter().filter(is_admin).all(|o| o.operator == operator) {
            return refused(Refusal::LastAdministrator {});
        }
        let credential_epoch = row.credential_epoch.saturating_add(1);
        self.put_operator(actor, "operator.active", OperatorRow { active, credential_epoch, ..row }).await
    }

    async fn put_operator(&self, actor: &Actor, act: &str, row: OperatorRow) -> Result<(), DeskError> {
        let active = if row.active { "yes" } else { "no" };
        let (object, detail) = (row.login.clone(), facts(&[("role", &row.role), ("active", active)]));
        self.act(actor, act, object, detail, Command::Nothing, vec![TableRow::Operator(row)]).await?;
        self.node.ears().provision.send_modify(|n| *n += 1);
        Ok(())
    }
}

fn strong_enough(password: &str, names: &[&str]) -> Result<(), DeskError> {
    match check_password(password, names) {
        Ok(()) => Ok(()),
        Err(key) => refused(Refusal::WeakPassword { why: Weakness(key) }),
    }
}

/// An operator of a campus manages its operators only.
fn may_manage(actor: &Actor, row: &OperatorRow) -> Result<(), DeskError> {
    match (actor.campus, row.campus) {
        (Some(_), None) => refused(Refusal::OperatorsOfHeadquarters {}),
        (Some(_), Some(campus)) => actor.may_touch(campus),
        (None, _) => Ok(()),
    }
}

async fn verifier_of(password: String) -> Result<String, DeskError> {
    let password = zeroize::Zeroizing::new(password);
    let hashed = tokio::task::spawn_blocking(move || hash_password(&password, Default::default())).await;
    hashed.map_err(|e| DeskError::Busy(e.to_string()))?.map_err(|e| DeskError::Busy(e.to_string()))
}

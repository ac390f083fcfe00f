//! The private part of people at the desk: masked for everybody who may see the person, in full only with a line in the
//! audit.

use super::money::request_id;
use super::{Actor, Desk, DeskError, refused};
use crate::core::{top_up_source, undo_source, withdrawal_source};
use crate::import::mask_id;
use crate::refusal::Refusal;
use crate::rights::PersonWallets;
use crate::store::{ProfileRow, people, statement};
use std::collections::BTreeMap;
use yika_crdt::Fen;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::store::decode_row;
use zeroize::Zeroizing;

/// Number of the identity document, and contact.
pub struct Private {
    /// The document's number.
    pub id_number: Zeroizing<String>,
    /// Telephone or mail.
    pub contact: Zeroizing<String>,
}

impl Desk {
    /// The profile of a person the actor may see.
    ///
    /// # Errors
    /// When the person is of another campus, or the hub cannot read. `None` when nobody has this number.
    pub async fn profile(&self, actor: &Actor, person: PersonId) -> Result<Option<ProfileRow>, DeskError> {
        let found = self.node.query(move |conn| people::by_person(conn, person.0)).await?;
        if let Some(profile) = &found {
            actor.may_touch(CampusId(profile.campus))?;
        }
        Ok(found)
    }

    /// Number and contact with all but their ends hidden.
    ///
    /// # Errors
    /// When they do not open: another master key.
    pub fn masked(&self, profile: &ProfileRow) -> Result<Private, DeskError> {
        let open = self.open(profile)?;
        let hide = |text: &str| Zeroizing::new(mask_id(text));
        Ok(Private { id_number: hide(&open.id_number), contact: hide(&open.contact) })
    }

    /// Number and contact in full; the audit says who looked before they are shown.
    ///
    /// # Errors
    /// When there is no such person, it is of another campus, or the audit cannot be written.
    pub async fn reveal(&self, actor: &Actor, person: PersonId) -> Result<Private, DeskError> {
        let Some(profile) = self.profile(actor, person).await? else {
            return refused(Refusal::UnknownPerson { person });
        };
        let open = self.open(&profile)?;
        self.note(actor, "person.reveal", person.to_string(), String::new()).await?;
        Ok(open)
    }

    /// What each of some people can spend, less what they owe. People without wallets have nothing.
    ///
    /// # Errors
    /// When the hub cannot read.
    pub async fn balances(&self, persons: Vec<PersonId>) -> Result<BTreeMap<PersonId, Fen>, DeskError> {
        let read = self.node.look_off_thread(move |store| {
            let mut balances = BTreeMap::new();
            for person in persons {
                let key = keys::rights(person);
                let Some(bytes) = store.get(&key)? else { continue };
                let wallets: PersonWallets = decode_row(&key, &bytes)?;
                let balance =
                    wallets.total().ok().zip(wallets.owed().ok()).and_then(|(total, owed)| total.sub(owed).ok());
                balances.extend(balance.map(|b| (person, b)));
            }
            Ok(balances)
        });
        Ok(read.await?)
    }

    /// Number of the voucher that a request posted: `top_up`, `withdrawal`, or `undo` of the top-up with this request.
    ///
    /// # Errors
    /// When the hub cannot read.
    pub async fn voucher(&self, person: PersonId, kind: &str, request: &str) -> Result<Option<i64>, DeskError> {
        let source = match kind {
            "withdrawal" => withdrawal_source(&request_id("withdrawal", request)?),
            "undo" => undo_source(&request_id("top-up", request)?),
            _ => top_up_source(&request_id("top-up", request)?),
        };
        Ok(self.node.query(move |conn| statement::number_of(conn, person.0, &source)).await?)
    }

    fn open(&self, profile: &ProfileRow) -> Result<Private, DeskError> {
        let open = |purpose: &str, sealed: &[u8]| -> Result<Zeroizing<String>, DeskError> {
            let busy = |words: String| DeskError::Busy(words);
            let bytes = self.node.vault.open_sealed(purpose, sealed).map_err(|e| busy(e.to_string()))?;
            let text = String::from_utf8(bytes.to_vec()).map_err(|e| busy(e.to_string()))?;
            Ok(Zeroizing::new(text))
        };
        Ok(Private {
            id_number: open("id number", &profile.id_sealed)?,
            contact: open("contact", &profile.contact_sealed)?,
        })
    }
}

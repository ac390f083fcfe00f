//! A person's home becomes another campus (ORG-7): by an operator who works for both, in one transaction with the
//! profile, told to the audit. An import does the same for its rows (`import`).
//!
//! Leaves to others: moving the person between documents (`core`), what the boxes make of it.

use super::{Actor, Desk, DeskError, facts, refused};
use crate::core::Command;
use crate::refusal::{Cause, Refusal};
use crate::store::{TableRow, people};
use yika_crdt::ids::*;
use yika_crdt::mesh::stands_twice;

/// What the audit calls it.
pub(super) const MOVED: &str = "people.move";

/// The campuses of a move, for the audit.
pub(super) fn moved_facts(from: CampusId, to: CampusId) -> String {
    facts(&[("from", &from.to_string()), ("to", &to.to_string())])
}

impl Actor {
    /// Refuses to take a person from one campus to another to whom does not work for both.
    ///
    /// # Errors
    /// In words that name the person's campus.
    pub(super) fn may_move(&self, person: PersonId, from: CampusId, to: CampusId) -> Result<(), DeskError> {
        match self.may_touch(from).and(self.may_touch(to)) {
            Ok(()) => Ok(()),
            Err(_) => refused(Refusal::PersonElsewhere { person, campus: from }),
        }
    }
}

impl DeskError {
    /// The same where some of the people were done before; says so.
    pub(super) fn after(self, done: usize, all: usize) -> DeskError {
        match self {
            error if done == 0 => error,
            DeskError::Refused(refusal) => Refusal::Stopped { done, all, refusal: Box::new(refusal) }.into(),
            DeskError::Busy(detail) => Refusal::StoppedBusy { done, all, cause: Cause(detail) }.into(),
        }
    }
}

impl Desk {
    /// Makes another campus a person's home; which campus it was before.
    ///
    /// # Errors
    /// When the person or campus is not known, the operator does not work for both, or the hub cannot serve.
    pub async fn move_person(&self, actor: &Actor, person: PersonId, to: CampusId) -> Result<CampusId, DeskError> {
        let profiles = self.profiles.lock().await;
        let home = self.node.people.read().holder(person).map(|h| h.home);
        let Some(from) = home else { return refused(Refusal::UnknownPerson { person }) };
        actor.may_move(person, from, to)?;
        // At home there, and also claimed by another campus: the move ends the claim.
        if from == to && !self.node.look_off_thread(move |store| stands_twice(store, person)).await? {
            return refused(Refusal::AtHomeThere { person, campus: to });
        }
        self.move_with_profile(actor, person, (from, to)).await?;
        drop(profiles);
        self.follow_categories(actor).await.map_err(|error| error.after(1, 1))?;
        Ok(from)
    }

    async fn move_with_profile(
        &self,
        actor: &Actor,
        person: PersonId,
        (from, to): (CampusId, CampusId),
    ) -> Result<(), DeskError> {
        let read = self.node.query(move |conn| {
            let Some(profile) = people::by_person(conn, person.0)? else { return Ok(None) };
            let holders = people::by_staff_number(conn, to.0, &profile.staff_number)?;
            Ok(Some((profile, holders)))
        });
        let mut rows = Vec::new();
        if let Some((mut profile, holders)) = read.await? {
            // Who has it there keeps it, also where another has it, too.
            let holder = holders.first().filter(|_| !holders.contains(&person.0));
            if let Some(holder) = holder.copied().map(PersonId) {
                return refused(Refusal::StaffNumberTaken { number: profile.staff_number, campus: to, holder });
            }
            profile.campus = to.0;
            rows.push(TableRow::Profile(Box::new(profile)));
        }
        let command = Command::move_person(actor.operator, person, to);
        self.act(actor, MOVED, person.to_string(), moved_facts(from, to), command, rows).await?;
        Ok(())
    }
}

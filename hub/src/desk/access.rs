//! The access policy of a campus (门禁), as a file that people write and read (ACS-1 to ACS-4).

use super::{Actor, Desk, DeskError, facts, refused};
use crate::access::{self, AccessSheet, Changes, Members, Rules};
use crate::core::{self, Command, Reply};
use crate::refusal::Refusal;
use crate::store::people;
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::access::{Policy, PolicyItem};
use yika_crdt::docs::PolicyAct;
use yika_crdt::ids::*;
use yika_crdt::keys;
use yika_crdt::mesh::for_each_row;
use yika_crdt::person::Person;
use yika_crdt::store::decode_row;

/// Doors named to whoever asked for another one.
const DOORS_NAMED_MAX: usize = 20;

impl Desk {
    /// The policy in force on a campus, as it was said.
    ///
    /// # Errors
    /// When the campus is not the actor's or not known, or the hub cannot read.
    pub async fn access(&self, actor: &Actor, campus: CampusId) -> Result<AccessSheet, DeskError> {
        let (policy, rules) = self.policy(actor, campus).await?;
        let who = self.members(campus, &AccessSheet::default(), &rules).await?;
        let sheet = self.node.look_off_thread(move |store| {
            let mut numbers = BTreeMap::new();
            let out = rules.values().flat_map(|rule| &rule.out);
            for person in policy.groups.values().flat_map(|group| &group.members).chain(out) {
                let key = keys::person(*person);
                let Some(bytes) = store.get(&key)? else { continue };
                let row: Person = decode_row(&key, &bytes)?;
                let elsewhere = if row.home == campus { String::new() } else { format!("{}/", row.home) };
                numbers.insert(*person, format!("{elsewhere}{}", row.staff_number));
            }
            // A member whom the registry does not know any more stands by number, and is told when the file is applied.
            let number = |person: PersonId| numbers.get(&person).cloned().unwrap_or_else(|| person.to_string());
            Ok(AccessSheet::of(&policy, &rules, &who, number))
        });
        Ok(sheet.await?)
    }

    /// Brings the policy of a campus to what a file says, act by act; with `dry_run` only says what would change.
    ///
    /// # Errors
    /// Everything that is wrong with the file (nothing is done), or which act was refused (those before it hold).
    pub async fn apply_access(
        &self,
        actor: &Actor,
        campus: CampusId,
        sheet: AccessSheet,
        dry_run: bool,
    ) -> Result<Changes, DeskError> {
        let _drawing = self.drawing.lock().await;
        let (now, rules) = self.policy(actor, campus).await?;
        let who = self.members(campus, &sheet, &rules).await?;
        let plan = match sheet.plan(&now, &rules, &who) {
            Ok(plan) => plan,
            Err(problems) => return refused(Refusal::BadAccess { problems }),
        };
        if dry_run || plan.acts.is_empty() && plan.rules == rules {
            return Ok(plan.changes);
        }
        // The rules first: what is left undone of the acts, whatever stops it, is done when categories are next followed.
        let rules = Command::AccessRules { campus, rules: plan.rules };
        if let Reply::Denied(denial) = self.node.call(rules).await? {
            return refused(denial);
        }
        self.change_policy(actor, campus, "access.apply", plan.acts).await?;
        let counts = plan.changes.facts().map(|(name, count)| (name, count.to_string()));
        let detail = facts(&counts.each_ref().map(|(name, count)| (*name, count.as_str())));
        self.note(actor, "access.apply", campus.to_string(), detail).await?;
        Ok(plan.changes)
    }

    /// Refuses a door that the policy of its campus does not know.
    pub(super) async fn check_door(&self, actor: &Actor, campus: CampusId, door: DoorId) -> Result<(), DeskError> {
        let doors = self.policy(actor, campus).await?.0.doors;
        if doors.contains_key(&door) {
            return Ok(());
        }
        let named = doors.iter().take(DOORS_NAMED_MAX).map(|(id, known)| format!("{id} ({})", known.name));
        let known = if doors.is_empty() { vec!["–".to_owned()] } else { named.collect() };
        refused(Refusal::UnknownDoor { door, campus, known })
    }

    /// Brings groups that were filled by categories to who is of them, after people have changed.
    ///
    /// # Errors
    /// An act is refused, or the hub cannot serve.
    pub async fn follow_categories(&self, actor: &Actor) -> Result<(), DeskError> {
        let _drawing = self.drawing.lock().await;
        let campuses: Vec<CampusId> = self.node.registry().campuses.keys().copied().collect();
        for campus in campuses {
            let (now, rules) = self.policy(&Actor::console(), campus).await?;
            if rules.is_empty() {
                continue;
            }
            let who = self.members(campus, &AccessSheet::default(), &rules).await?;
            let acts = access::follow(&now, &rules, &who);
            if acts.is_empty() {
                continue;
            }
            let count = |wanted: fn(&PolicyAct) -> usize| acts.iter().map(wanted).sum::<usize>().to_string();
            let joined = count(|act| if let PolicyAct::AddMembers(_, some) = act { some.len() } else { 0 });
            let left = count(|act| if let PolicyAct::RemoveMembers(_, some) = act { some.len() } else { 0 });
            self.change_policy(actor, campus, "access.follow", acts).await?;
            let detail = facts(&[("joined", &joined), ("left", &left)]);
            self.note(actor, "access.follow", campus.to_string(), detail).await?;
        }
        Ok(())
    }

    /// Changes the access policy of a campus, act by act; stops at the first that is refused, with a line of the audit
    /// that says how far it came. Who calls it writes the line of success.
    async fn change_policy(
        &self,
        actor: &Actor,
        campus: CampusId,
        line: &str,
        acts: Vec<PolicyAct>,
    ) -> Result<(), DeskError> {
        let all = acts.len();
        for (done, act) in acts.into_iter().enumerate() {
            let command = Command::Policy { campus, operator: actor.operator, act: Box::new(act) };
            let stopped: DeskError = match self.node.call(command).await {
                Ok(Reply::Denied(denial)) => {
                    Refusal::OneOfSeveral { number: done + 1, refusal: Box::new(denial.into()) }.into()
                }
                Ok(_) => continue,
                Err(busy) => DeskError::from(busy),
            };
            if done > 0 {
                let detail = facts(&[("done", &done.to_string()), ("all", &all.to_string())]);
                self.note(actor, line, campus.to_string(), detail).await?;
            }
            return Err(stopped);
        }
        Ok(())
    }

    async fn policy(&self, actor: &Actor, campus: CampusId) -> Result<(Policy, Rules), DeskError> {
        actor.may_touch(campus)?;
        let registry = self.node.registry();
        if !registry.campuses.contains_key(&campus) {
            return refused(Refusal::UnknownCampus { campus, known: registry.campuses.keys().copied().collect() });
        }
        let policy = self.node.look_off_thread(move |store| {
            let mut policy = Policy { campus: Some(campus), ..Policy::default() };
            for_each_row(store, &keys::policy(campus), |item: PolicyItem| item.apply_to(&mut policy))?;
            Ok((policy, core::access_rules(store, campus)?))
        });
        Ok(policy.await?)
    }

    /// Who is meant by the staff numbers and categories of a file, and of the rules in force.
    async fn members(&self, campus: CampusId, sheet: &AccessSheet, rules: &Rules) -> Result<Members, DeskError> {
        let staff: Vec<String> = sheet.staff().into_iter().map(str::to_owned).collect();
        let written = sheet.categories().into_iter().filter_map(access::category_word).map(str::to_owned);
        let kept = rules.values().flat_map(|rule| &rule.categories).cloned();
        let categories: BTreeSet<String> = written.chain(kept).collect();
        let found = self.node.query(move |conn| {
            let mut members = Members::default();
            for written in staff {
                let (home, number) = at_campus(&written, campus);
                // Of one that two share it cannot be told whom it means.
                if let [person] = people::by_staff_number(conn, home.0, number)?[..] {
                    members.staff.insert(written, PersonId(person));
                }
            }
            for word in categories {
                let persons = people::of_category(conn, campus.0, &word)?;
                members.categories.insert(word, persons.into_iter().map(PersonId).collect());
            }
            Ok(members)
        });
        Ok(found.await?)
    }
}

/// `c2/0012` is number 0012 of campus c2; without a campus it is one of this campus.
fn at_campus(written: &str, here: CampusId) -> (CampusId, &str) {
    let elsewhere = written.split_once('/').and_then(|(campus, number)| Some((campus.parse().ok()?, number)));
    elsewhere.unwrap_or((here, written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staff_number_may_name_its_campus() {
        assert_eq!(at_campus("0012", CampusId(1)), (CampusId(1), "0012"));
        assert_eq!(at_campus("c2/0012", CampusId(1)), (CampusId(2), "0012"));
        assert_eq!(at_campus("A/7", CampusId(1)), (CampusId(1), "A/7"), "a slash may stand in a number");
    }
}

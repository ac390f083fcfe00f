//! Groups that a file fills by categories of people: the categories are kept beside the policy, and who joins or leaves
//! a category joins or leaves the group.
//!
//! Boxes know members only. Leaves to others: when a category has changed (`desk`).

use super::Members;
use crate::import::{Category, Lang};
use std::collections::BTreeSet;
use yika_crdt::access::{GroupId, Policy};
use yika_crdt::docs::PolicyAct;
use yika_crdt::docs::policy::GROUP_ITEMS_MAX;
use yika_crdt::ids::PersonId;
pub use yika_hub_core::filling::{Rule, Rules};

/// The one word of a category, however it is written.
pub fn category_word(written: &str) -> Option<&'static str> {
    Category::parse(written).map(|category| category.word(Lang::En))
}

/// The acts that bring every group with a rule to what its categories hold.
pub fn follow(policy: &Policy, rules: &Rules, who: &Members) -> Vec<PolicyAct> {
    let mut acts = Vec::new();
    for (id, rule) in rules {
        if let Some(group) = policy.groups.get(id) {
            acts.extend(member_acts(*id, &group.members, &rule.members(&who.categories)));
        }
    }
    acts
}

/// The acts that bring a group's members to those wanted: who joins first, then who leaves.
pub(super) fn member_acts(
    id: GroupId,
    members: &BTreeSet<PersonId>,
    wanted: &BTreeSet<PersonId>,
) -> impl Iterator<Item = PolicyAct> {
    let joining: Vec<PersonId> = wanted.difference(members).copied().collect();
    let leaving: Vec<PersonId> = members.difference(wanted).copied().collect();
    let some = |persons: &[PersonId]| persons.chunks(GROUP_ITEMS_MAX).map(<[PersonId]>::to_vec).collect::<Vec<_>>();
    let joins = some(&joining).into_iter().map(move |persons| PolicyAct::AddMembers(id, persons));
    joins.chain(some(&leaving).into_iter().map(move |persons| PolicyAct::RemoveMembers(id, persons)))
}

//! Groups that a file fills by categories of people: the categories are kept beside the policy, and who joins or leaves
//! a category joins or leaves the group.
//!
//! Boxes know members only. Leaves to others: when a category has changed (`desk`).

use super::Members;
use crate::import::{Category, Lang};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::access::{Group, GroupId, Policy};
use yika_crdt::docs::PolicyAct;
use yika_crdt::docs::policy::GROUP_ITEMS_MAX;
use yika_crdt::ids::PersonId;

/// The rules of a campus.
pub type Rules = BTreeMap<GroupId, Rule>;

/// Who is in a group: everybody of its categories but those taken out, and those named.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Rule {
    /// Categories, each by its one word.
    pub categories: BTreeSet<String>,
    /// Named one by one.
    pub named: BTreeSet<PersonId>,
    /// Taken out one by one, though they are of a category.
    pub out: BTreeSet<PersonId>,
}

impl Rule {
    /// The rule of a group that had none: who is in it already and of no category was named.
    pub(super) fn of(group: &Group, categories: BTreeSet<String>, who: &Members) -> Rule {
        let mut rule = Rule { categories, ..Rule::default() };
        rule.named = group.members.difference(&rule.of_categories(who)).copied().collect();
        rule
    }

    /// Everybody of the categories.
    pub(super) fn of_categories(&self, who: &Members) -> BTreeSet<PersonId> {
        self.categories.iter().filter_map(|word| who.categories.get(word)).flatten().copied().collect()
    }

    /// Who is in the group by this rule.
    pub(super) fn members(&self, who: &Members) -> BTreeSet<PersonId> {
        &(&self.of_categories(who) - &self.out) | &self.named
    }

    /// These are named, those taken out.
    pub(super) fn change(&mut self, named: &BTreeSet<PersonId>, leaving: &BTreeSet<PersonId>, who: &Members) {
        self.named = &(&self.named | named) - leaving;
        self.out = &(&self.out - named) | &(leaving & &self.of_categories(who));
    }
}

/// The one word of a category, however it is written.
pub fn category_word(written: &str) -> Option<&'static str> {
    Category::parse(written).map(|category| category.word(Lang::En))
}

/// The acts that bring every group with a rule to what its categories hold.
pub fn follow(policy: &Policy, rules: &Rules, who: &Members) -> Vec<PolicyAct> {
    let mut acts = Vec::new();
    for (id, rule) in rules {
        if let Some(group) = policy.groups.get(id) {
            acts.extend(member_acts(*id, &group.members, &rule.members(who)));
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

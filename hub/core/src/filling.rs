//! Groups of an access policy that categories of people fill: a rule a group, kept beside the policy.
//!
//! Leaves to others: what a category is and who is of it, and the acts that follow (`yika-hub`'s `access`).

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use yika_crdt::access::{Group, GroupId};
use yika_crdt::ids::PersonId;

/// Who is of each category, by its one word.
pub type Categories = BTreeMap<String, Vec<PersonId>>;

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
    pub fn of(group: &Group, categories: BTreeSet<String>, who: &Categories) -> Rule {
        let mut rule = Rule { categories, ..Rule::default() };
        rule.named = group.members.difference(&rule.of_categories(who)).copied().collect();
        rule
    }

    /// Everybody of the categories.
    pub fn of_categories(&self, who: &Categories) -> BTreeSet<PersonId> {
        self.categories.iter().filter_map(|word| who.get(word)).flatten().copied().collect()
    }

    /// Who is in the group by this rule.
    pub fn members(&self, who: &Categories) -> BTreeSet<PersonId> {
        &(&self.of_categories(who) - &self.out) | &self.named
    }

    /// These are named, those taken out.
    pub fn change(&mut self, named: &BTreeSet<PersonId>, leaving: &BTreeSet<PersonId>, who: &Categories) {
        self.named = &(&self.named | named) - leaving;
        self.out = &(&self.out - named) | &(leaving & &self.of_categories(who));
    }
}
